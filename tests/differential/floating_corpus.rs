//! Results of an x86 host's x87 and SSE units, stored, and replayed wherever the tests run: every state of the x87 unit with
//! the images that FNSTENV and FNSAVE store, and SSE and AVX under every MXCSR.
//!
//! A line is `unit, form, seed, bytes | outcome`, as in `corpus`: the state comes from the seed. The file is made again by
//! `cargo test -p tests --test differential -- --ignored write_floating_corpus` on an x86-64 Linux.

use std::collections::BTreeMap;

use iced_x86::Code;
use tests::harness::guest::{self, Bits};
use tests::harness::host;
use tests::harness::outcome::encode;
use tests::harness::random::Rng;
use tests::harness::state::{After, State, VISIBLE};
use tests::harness::undefined;

use super::{floating, x87};

const CORPUS: &str = include_str!("floating.txt");

/// Cases for each form.
const X87_CASES: u64 = 8;
const SSE_CASES: u64 = 4;

/// What a case needs to run and to be written down.
struct Stored {
    code: Vec<u8>,
    insn: iced_x86::Instruction,
    state: State,
    /// The status word in an image of the x87 unit's state.
    status: Option<usize>,
}

fn stored(unit: &str, code: Code, seed: u64) -> Option<Stored> {
    let rng = &mut Rng(seed);
    if unit == "x87" {
        let c = x87::case(rng, code, Bits::Long)?;
        // FXSAVE's pointers are each maker's own affair.
        let status = c.status()?;
        return Some(Stored { status, code: c.code, insn: c.insn, state: c.state });
    }
    let c = floating::case(rng, code)?;
    Some(Stored { code: c.code, insn: c.insn, state: c.state, status: None })
}

fn line(c: &Stored, after: &After) -> String {
    let sw = undefined::status(&[c.insn]);
    let mut after = after.clone();
    if let Some(at) = c.status
        && after.end.vector == 3
    {
        // Condition codes that are undefined, in memory too.
        let word = &mut after.state.data[at..at + 2];
        let v = u16::from_le_bytes([word[0], word[1]]) & sw;
        word.copy_from_slice(&v.to_le_bytes());
    }
    encode(&c.state, &after, VISIBLE & !undefined::flags(&c.insn, &c.state), sw)
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_floating_corpus_replays() {
    let codes: BTreeMap<String, Code> = Code::values().map(|c| (format!("{c:?}"), c)).collect();
    let (mut failures, mut n) = (Vec::new(), 0);
    for text in CORPUS.lines().filter(|l| !l.starts_with('#')) {
        n += 1;
        let (head, want) = text.split_once(" | ").expect("a line of the corpus");
        let words: Vec<_> = head.split(' ').collect();
        let [unit, code, seed, bytes] = words[..] else { panic!("{head}") };
        let seed = u64::from_str_radix(seed, 16).expect("a seed");
        let case = stored(unit, codes[code], seed).expect("the generator made it");
        assert_eq!(hex(&case.code), bytes, "the generator has changed: the corpus must be made again");
        for (tier, _) in guest::TIERS.iter().enumerate() {
            let got = line(&case, &guest::run(tier, Bits::Long, 3, &case.code, &case.state));
            if got != want {
                failures
                    .push(format!("{} ({head}), tier {tier}\n  stored: {want}\n  ours:   {got}", case.insn));
            }
        }
    }
    assert!(n > 1500, "{n} cases are not the whole corpus");
    assert!(
        failures.is_empty(),
        "{} of {n}\n{}",
        failures.len(),
        failures[..failures.len().min(30)].join("\n")
    );
}

/// Makes the corpus anew from this host's CPU.
#[test]
#[ignore = "writes a file of the repository"]
fn write_floating_corpus() {
    assert_eq!(host::absent(), None, "the corpus comes from an x86 host");
    let mut text = String::from(
        "# Made by write_floating_corpus in floating_corpus.rs from an x86 processor's own results.\n",
    );
    let units = [("x87", x87::codes(Bits::Long), X87_CASES), ("sse", floating::codes(), SSE_CASES)];
    for (unit, codes, cases) in units {
        for code in codes {
            for n in 0..cases {
                let seed = Rng((code as u64) << 32 | n << 8 | 0x87).draw();
                let Some(case) = stored(unit, code, seed) else { continue };
                if host::differs_between_makers(&case.insn) || x87::saves_extended(&case.insn) {
                    continue;
                }
                let Some(after) = host::run(Bits::Long, &case.code, &[case.insn], &case.state) else {
                    continue;
                };
                let mmx = (0..case.insn.op_count()).any(|n| case.insn.op_register(n).is_mm());
                if mmx && after.end.vector != 3 {
                    // Has it switched the x87 unit to MMX state? Some processors have.
                    continue;
                }
                text += &format!("{unit} {code:?} {seed:x} {} | {}\n", hex(&case.code), line(&case, &after));
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/differential/floating.txt");
    std::fs::write(path, text).expect("the file can be written");
}
