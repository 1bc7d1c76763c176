//! SSE and AVX floating point under every MXCSR: rounding, DAZ, FTZ, masks, flags that are set already.
//!
//! Operands are singles and doubles with a liking for edges. An unmasked exception must leave the destination alone and
//! set what the host sets; all tiers and the host's processor agree.

use std::collections::BTreeSet;

use iced_x86::Code;
use tests::harness::check::{against_host, between_tiers};
use tests::harness::generate::{self, AVX, Case, VECTOR};
use tests::harness::guest::{self, Bits};
use tests::harness::host;
use tests::harness::random::Rng;
use tests::harness::state::VISIBLE;
use tests::harness::undefined;

use super::setting;

/// The forms of instructions with floating-point operands.
pub fn codes() -> Vec<Code> {
    let mut codes = generate::codes(&[VECTOR, AVX], Bits::Long);
    codes.retain(|c| {
        let name = format!("{:?}", c.mnemonic()).to_lowercase();
        let kinds = ["ss", "sd", "ps", "pd"];
        let converts = name.contains("cvt");
        let moves =
            ["mov", "gather", "unpck", "shuf", "blend", "insert", "extract", "broadcast", "perm", "test"];
        let logic = ["andps", "andpd", "andnps", "andnpd", "orps", "orpd", "xorps", "xorpd"];
        let crypto = name.starts_with("aes") || name.starts_with("sha") || name.starts_with("vaes");
        (converts || kinds.iter().any(|k| name.ends_with(k)))
            && !moves.iter().any(|m| name.contains(m))
            && !logic.iter().any(|l| name.ends_with(l))
            && !crypto
            && !host::differs_between_makers(&of(*c))
    });
    codes
}

/// An instruction of this form, without operands.
fn of(code: Code) -> iced_x86::Instruction {
    let mut x = iced_x86::Instruction::new();
    x.set_code(code);
    x
}

/// A control and status word of any kind.
fn mxcsr(rng: &mut Rng) -> u32 {
    let masks = match rng.below(4) {
        0 => rng.draw() as u32 & 0x3f,
        1 => !(1 << rng.below(6)) & 0x3f,
        _ => 0x3f,
    };
    let daz = if rng.one_in(3) { 0x40 } else { 0 };
    let ftz = if rng.one_in(3) { 0x8000 } else { 0 };
    let sticky = if rng.one_in(2) { 0 } else { rng.draw() as u32 & 0x3f };
    masks << 7 | daz | ftz | sticky | (rng.below(4) as u32) << 13
}

/// An instruction of `code` among floating-point registers.
pub fn case(rng: &mut Rng, code: Code) -> Option<Case> {
    let mut case = generate::case(rng, code, Bits::Long)?;
    let s = &mut case.state;
    s.rflags &= !(1 << 18);
    s.mxcsr = mxcsr(rng);
    let single = rng.one_in(2);
    for x in s.xmm.iter_mut().chain(&mut s.high) {
        for k in 0..4 {
            let v = if single {
                rng.single().into()
            } else if k % 2 == 0 {
                u128::from(rng.double())
            } else {
                continue;
            };
            *x = if k == 0 { v } else { *x | v << (32 * k) };
        }
    }
    Some(case)
}

#[test]
fn every_mxcsr() {
    let base = setting("RETRO_SEED").unwrap_or(1);
    let cases = setting("RETRO_CASES").unwrap_or(super::cases(10));
    let only = std::env::var("RETRO_ONLY").unwrap_or_default();
    let (mut failures, mut ran, mut faults) = (Vec::new(), 0, 0);
    let mut words = BTreeSet::new();
    for code in codes() {
        if !format!("{code:?}").contains(&only) {
            continue;
        }
        for n in 0..cases {
            let seed = setting("RETRO_CASE").unwrap_or_else(|| Rng(base ^ (code as u64) << 40 ^ n).draw());
            let Some(case) = case(&mut Rng(seed), code) else { continue };
            ran += 1;
            words.insert(case.state.mxcsr & 0xffc0);
            let tiers = guest::run_all(Bits::Long, 3, &case.code, &case.state);
            let mut wrong = between_tiers(&tiers);
            faults += u64::from(tiers[0].end.vector == 19);
            let insns = [case.insn];
            let flags = VISIBLE & !undefined::flags(&case.insn, &case.state);
            if let Some(after) = host::run(Bits::Long, &case.code, &insns, &case.state) {
                let found =
                    against_host(&tiers[0], &after, &insns, &case.state, flags, undefined::status(&insns));
                wrong.extend(found.into_iter().map(|d| format!("tier 0 / host: {d}")));
            }
            if !wrong.is_empty() {
                failures.push(format!(
                    "{} ({code:?}) RETRO_CASE={seed:#x}, MXCSR {:#x}\n  {}",
                    case.insn,
                    case.state.mxcsr,
                    wrong.join("\n  ")
                ));
                break;
            }
        }
    }
    println!("{ran} cases, {faults} with #XM, {} control words of MXCSR", words.len());
    assert!(
        failures.is_empty(),
        "{} forms fail (RETRO_SEED={base})\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}
