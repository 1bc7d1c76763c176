//! Results that an x86 host's CPU agreed with (bit for bit, or within an error bound where its maker chose the bits),
//! stored, and replayed wherever the tests run.
//!
//! A line is `bits, form, seed, bytes | outcome`. The state before comes from the seed; the bytes tell when the generator
//! has changed, and the file must be made again: `cargo test -p tests --test differential -- --ignored write_corpus`
//! on an x86-64 Linux.

use std::collections::BTreeMap;

use iced_x86::{Code, CpuidFeature};
use tests::harness::check::against_host;
use tests::harness::generate::{self, AVX, Case, INTEGER, STATE, SYSTEM, VECTOR, X87};
use tests::harness::guest::{self, Bits};
use tests::harness::host;
use tests::harness::outcome::encode;
use tests::harness::random::Rng;
use tests::harness::state::{After, VISIBLE};
use tests::harness::undefined;

const CORPUS: &str = include_str!("corpus.txt");

const PARTS: [(&str, Bits, &[&[CpuidFeature]], u64); 7] = [
    ("64", Bits::Long, &[INTEGER], 3),
    ("64", Bits::Long, &[VECTOR], 3),
    ("64", Bits::Long, &[AVX], 2),
    ("64", Bits::Long, &[X87], 4),
    ("64", Bits::Long, &[STATE], 2),
    ("64", Bits::Long, &[SYSTEM], 1),
    ("32", Bits::Flat32, &[INTEGER], 1),
];

fn line(case: &Case, after: &After) -> String {
    let flags = VISIBLE & !undefined::flags(&case.insn, &case.state);
    encode(&case.state, after, flags, undefined::status(&[case.insn]))
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_corpus_replays() {
    let codes: BTreeMap<String, Code> = Code::values().map(|c| (format!("{c:?}"), c)).collect();
    let (mut failures, mut n) = (Vec::new(), 0);
    for text in CORPUS.lines().filter(|l| !l.starts_with('#')) {
        n += 1;
        let (head, want) = text.split_once(" | ").expect("a line of the corpus");
        let words: Vec<_> = head.split(' ').collect();
        let [bits, code, seed, bytes] = words[..] else { panic!("{head}") };
        let bits = if bits == "64" { Bits::Long } else { Bits::Flat32 };
        let seed = u64::from_str_radix(seed, 16).expect("a seed");
        let case = generate::case(&mut Rng(seed), codes[code], bits).expect("the generator made it");
        assert_eq!(
            hex(&case.code),
            bytes,
            "the generator has changed: the corpus must be made again (see the module)"
        );
        for (tier, _) in guest::TIERS.iter().enumerate() {
            let got = line(&case, &guest::run(tier, bits, 3, &case.code, &case.state));
            if got != want {
                failures
                    .push(format!("{} ({head}), tier {tier}\n  stored: {want}\n  ours:   {got}", case.insn));
            }
        }
    }
    assert!(n > 2000, "{n} cases are not the whole corpus");
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
fn write_corpus() {
    assert_eq!(host::absent(), None, "an x86 host must agree");
    let mut text =
        String::from("# Made by write_corpus in corpus.rs; an x86 processor agreed with each line.\n");
    for (name, bits, sets, cases) in PARTS {
        for code in generate::codes(sets, bits) {
            for n in 0..cases {
                let seed = Rng((code as u64) << 32 | n).draw();
                let Some(case) = generate::case(&mut Rng(seed), code, bits) else { continue };
                if undefined::result(&case.insn, &case.state) {
                    continue;
                }
                let insns = [case.insn];
                let Some(host) = host::run(bits, &case.code, &insns, &case.state) else { continue };
                let after = guest::run(0, bits, 3, &case.code, &case.state);
                let flags = VISIBLE & !undefined::flags(&case.insn, &case.state);
                let wrong =
                    against_host(&after, &host, &insns, &case.state, flags, undefined::status(&insns));
                if !wrong.is_empty() {
                    println!("left out: {} ({code:?}, {seed:x}): {wrong:?}", case.insn);
                    continue;
                }
                text += &format!("{name} {code:?} {seed:x} {} | {}\n", hex(&case.code), line(&case, &after));
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/differential/corpus.txt");
    std::fs::write(path, text).expect("the file can be written");
}
