//! Short programs, tier 0 against the compiled tiers: what flows from one instruction to the next, flags above all.

use tests::harness::check::between_tiers;
use tests::harness::generate::{self, AVX, INTEGER, VECTOR, X87};
use tests::harness::guest::{self, Bits};
use tests::harness::random::Rng;
use tests::harness::state::REPORT;

use super::setting;

fn campaign(sets: &[&[iced_x86::CpuidFeature]], bits: Bits, turns: u32, cases: u64) {
    programs(sets, bits, turns, cases, false);
}

/// `unmask`: every third program starts with x87 exceptions unmasked, which a later instruction reports.
fn programs(sets: &[&[iced_x86::CpuidFeature]], bits: Bits, turns: u32, cases: u64, unmask: bool) {
    let codes = generate::program_codes(&generate::codes(sets, bits));
    let base = setting("RETRO_SEED").unwrap_or(1);
    let mut whole = 0;
    let cases = setting("RETRO_CASES").unwrap_or(super::cases(cases));
    let mut failures = Vec::new();
    for n in 0..cases {
        let seed = setting("RETRO_CASE").unwrap_or_else(|| Rng(base ^ n << 32).draw());
        let mut p = generate::program(&mut Rng(seed), &codes, bits, turns);
        if unmask && seed.is_multiple_of(3) {
            p.state.fp.cw &= !0x3f | (seed >> 32) as u16;
        }
        let tiers = guest::run_all(bits, 3, &p.code, &p.state);
        let zero = &tiers[0];
        whole += u64::from(zero.end.vector == 3);
        let mut wrong = between_tiers(&tiers);
        if zero.end.vector == REPORT {
            wrong.push(format!("report: {:?}", zero.report));
        }
        if !wrong.is_empty() {
            failures.push(format!(
                "RETRO_CASE={seed:#x}, MXCSR {:#x}\n  {}\n  {}",
                p.state.mxcsr,
                p.text.join("\n  "),
                wrong.join("\n  ")
            ));
        }
    }
    println!("{whole} of {cases} programs came to their end");
    assert!(
        failures.is_empty(),
        "{} of {cases} fail ({bits:?})\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
    assert!(whole * 5 > cases, "too few programs come to their end");
}

#[test]
fn integer() {
    campaign(&[INTEGER], Bits::Long, 1, 2000);
}

#[test]
fn integer_in_32_bit_code() {
    campaign(&[INTEGER], Bits::Flat32, 1, 1000);
}

#[test]
fn vector() {
    campaign(&[VECTOR], Bits::Long, 1, 1000);
}

#[test]
fn avx() {
    campaign(&[AVX], Bits::Long, 1, 1000);
}

#[test]
fn avx_in_32_bit_code() {
    campaign(&[AVX, VECTOR], Bits::Flat32, 1, 300);
}

#[test]
fn all_kinds() {
    campaign(&[INTEGER, VECTOR, AVX, X87], Bits::Long, 1, 1000);
}

/// Unmasked exceptions among them: they are reported by a later instruction.
#[test]
fn x87() {
    programs(&[X87], Bits::Long, 1, 300, true);
}

#[test]
fn x87_loops_in_32_bit_code() {
    programs(&[X87, INTEGER], Bits::Flat32, 20, 150, true);
}

#[test]
fn loops() {
    campaign(&[INTEGER, VECTOR, AVX], Bits::Long, 40, 500);
}

#[test]
fn loops_in_32_bit_code() {
    campaign(&[INTEGER], Bits::Flat32, 40, 300);
}
