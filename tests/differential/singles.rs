//! One instruction at a time, in both tiers and on the host's CPU.

use iced_x86::Code;
use tests::harness::check::{against_host, between_tiers};
use tests::harness::generate::{self, AVX, Case, INTEGER, VECTOR, X87};
use tests::harness::guest::{self, Bits};
use tests::harness::host;
use tests::harness::random::Rng;
use tests::harness::state::{REPORT, VISIBLE};
use tests::harness::undefined;

use super::setting;

/// What is wrong in one case.
fn complaints(case: &Case, bits: Bits) -> Vec<String> {
    let tiers = guest::run_all(bits, 3, &case.code, &case.state);
    let mut out = between_tiers(&tiers);
    if tiers[0].end.vector == REPORT {
        out.push(format!("report: {:?}", tiers[0].report));
        return out;
    }
    let insns = [case.insn];
    let flags = VISIBLE & !undefined::flags(&case.insn, &case.state);
    if !undefined::result(&case.insn, &case.state)
        && let Some(after) = host::run(bits, &case.code, &insns, &case.state)
    {
        out.extend(
            against_host(&tiers[0], &after, &insns, &case.state, flags, undefined::status(&insns))
                .into_iter()
                .map(|d| format!("tier 0 / host: {d}")),
        );
    }
    out
}

fn campaign(sets: &[&[iced_x86::CpuidFeature]], bits: Bits, cases: u64) {
    let base = setting("RETRO_SEED").unwrap_or(1);
    let cases = setting("RETRO_CASES").unwrap_or(super::cases(cases));
    let only = std::env::var("RETRO_ONLY").unwrap_or_default();
    let (mut failures, mut ran, mut forms) = (Vec::new(), 0u64, 0);
    let mut never = Vec::new();
    for code in generate::codes(sets, bits) {
        if !format!("{code:?}").contains(&only) {
            continue;
        }
        let mut any = false;
        for n in 0..cases {
            let seed = setting("RETRO_CASE").unwrap_or_else(|| seed(base, code, n));
            let Some(case) = generate::case(&mut Rng(seed), code, bits) else { continue };
            any = true;
            ran += 1;
            let wrong = complaints(&case, bits);
            if !wrong.is_empty() {
                failures.push(describe(&case, seed, code, &wrong));
                break;
            }
        }
        forms += u64::from(any);
        if !any {
            never.push(format!("{code:?}"));
        }
    }
    let (asked, _) = host::tally();
    println!("never drawn: {}", never.join(" "));
    println!("{forms} forms, {ran} cases, {asked} of them on the host's CPU");
    assert!(forms > 0, "no form fits");
    assert!(
        failures.is_empty(),
        "{} forms fail (RETRO_SEED={base}, {bits:?})\n{}",
        failures.len(),
        failures[..failures.len().min(60)].join("\n")
    );
}

fn seed(base: u64, code: Code, n: u64) -> u64 {
    Rng(base.wrapping_mul(0x1_0000_0001) ^ (code as u64) << 40 ^ n).draw()
}

fn describe(case: &Case, seed: u64, code: Code, wrong: &[String]) -> String {
    let s = &case.state;
    let hex: Vec<_> = case.code.iter().map(|b| format!("{b:02x}")).collect();
    let mut used = String::new();
    for (n, g) in s.gpr.iter().enumerate() {
        used += &format!(" {n}:{g:x}");
    }
    format!(
        "{} ({code:?}, {}) RETRO_CASE={seed:#x}\n  before: flags {:x}, mxcsr {:x}, fcw {:x}, fsw {:x}, ftag {:x},{used}\n  {}",
        case.insn,
        hex.join(" "),
        s.rflags,
        s.mxcsr,
        s.fp.cw,
        s.fp.sw,
        s.fp.tag,
        wrong.join("\n  ")
    )
}

#[test]
fn integer() {
    campaign(&[INTEGER], Bits::Long, 16);
}

#[test]
fn integer_in_32_bit_code() {
    campaign(&[INTEGER], Bits::Flat32, 12);
}

#[test]
fn vector() {
    campaign(&[VECTOR], Bits::Long, 16);
}

#[test]
fn vector_in_32_bit_code() {
    campaign(&[VECTOR], Bits::Flat32, 4);
}

#[test]
fn avx() {
    campaign(&[AVX], Bits::Long, 16);
}

#[test]
fn avx_in_32_bit_code() {
    campaign(&[AVX], Bits::Flat32, 4);
}

#[test]
fn x87() {
    campaign(&[X87], Bits::Long, 24);
}

#[test]
fn x87_in_32_bit_code() {
    campaign(&[X87], Bits::Flat32, 8);
}
