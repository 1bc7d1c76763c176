//! Properties of arithmetic, against Rust's integers, in both tiers: for any operands.

use proptest::prelude::*;
use tests::harness::asm::assemble;
use tests::harness::guest::{self, Bits};
use tests::harness::layout::CODE;
use tests::harness::state::{After, State};

fn run(line: &str, rax: u64, rcx: u64, rdx: u64, flags: u64) -> [After; guest::TIERS.len()] {
    let code = assemble(line, 64, CODE);
    let mut s = State::default();
    (s.gpr[0], s.gpr[1], s.gpr[2]) = (rax, rcx, rdx);
    s.rflags = 0x202 | flags;
    guest::run_all(Bits::Long, 3, &code, &s)
}

fn flags(res: u64, bits: u32, carry: bool, overflow: bool, aux: bool) -> u64 {
    let res = if bits == 64 { res } else { res & ((1 << bits) - 1) };
    let parity = (res as u8).count_ones().is_multiple_of(2);
    u64::from(carry)
        | u64::from(parity) << 2
        | u64::from(aux) << 4
        | u64::from(res == 0) << 6
        | (res >> (bits - 1) & 1) << 7
        | u64::from(overflow) << 11
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::cases(200) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn adc_is_a_128_bit_sum(a: u64, b: u64, c in 0..=1u64) {
        let sum = u128::from(a) + u128::from(b) + u128::from(c);
        let signed = i128::from(a as i64) + i128::from(b as i64) + i128::from(c);
        let want = flags(sum as u64, 64, sum >> 64 != 0, signed != i128::from(sum as i64), (a ^ b ^ sum as u64) >> 4 & 1 != 0);
        for r in run("adc rax, rcx", a, b, 0, c) {
            prop_assert_eq!(r.state.gpr[0], sum as u64);
            prop_assert_eq!(r.state.rflags & 0x8d5, want);
        }
    }

    #[test]
    fn sbb_borrows(a: u32, b: u32, c in 0..=1u64) {
        let diff = i64::from(a) - i64::from(b) - c as i64;
        let signed = i64::from(a as i32) - i64::from(b as i32) - c as i64;
        let res = u64::from(diff as u32);
        let want = flags(res, 32, diff < 0, signed != i64::from(diff as i32), (u64::from(a ^ b) ^ res) >> 4 & 1 != 0);
        for r in run("sbb eax, ecx", a.into(), b.into(), 0, c) {
            prop_assert_eq!(r.state.gpr[0], res);
            prop_assert_eq!(r.state.rflags & 0x8d5, want);
        }
    }

    #[test]
    fn mul_then_div_is_the_identity(a: u64, b in 1..=u64::MAX) {
        for r in run("mul rcx; div rcx", a, b, 0, 0) {
            prop_assert_eq!((r.state.gpr[0], r.state.gpr[2], r.end.vector), (a, 0, 3));
        }
    }

    #[test]
    fn imul_then_idiv_is_the_identity(a: i64, b: i64) {
        prop_assume!(b != 0);
        let product = i128::from(a) * i128::from(b);
        for r in run("imul rcx", a as u64, b as u64, 0, 0) {
            prop_assert_eq!(r.state.gpr[2], (product >> 64) as u64);
            let fits = i64::try_from(product).is_ok();
            prop_assert_eq!(r.state.rflags & 0x801, if fits { 0 } else { 0x801 });
        }
        for r in run("imul rcx; idiv rcx", a as u64, b as u64, 0, 0) {
            prop_assert_eq!((r.state.gpr[0], r.state.gpr[2], r.end.vector), (a as u64, 0, 3));
        }
    }

    #[test]
    fn idiv_truncates_and_faults_on_overflow(a: i64, b: i32) {
        let quotient = a.checked_div(b.into()).filter(|q| i32::try_from(*q).is_ok());
        for r in run("idiv ecx", a as u32 as u64, b as u32 as u64, (a >> 32) as u32 as u64, 0) {
            match quotient {
                Some(q) => {
                    prop_assert_eq!(r.state.gpr[0], u64::from(q as u32));
                    prop_assert_eq!(r.state.gpr[2], u64::from((a % i64::from(b)) as u32));
                }
                None => prop_assert_eq!(r.end.vector, 0),
            }
        }
    }

    #[test]
    fn rcl_turns_33_bits(a: u32, n in 0..64u64, c in 0..=1u64) {
        let count = (n & 31) % 33;
        let wide = u64::from(a) | c << 32;
        let turned = if count == 0 { wide } else { (wide << count | wide >> (33 - count)) & 0x1_ffff_ffff };
        for r in run("rcl eax, cl", a.into(), n, 0, c) {
            prop_assert_eq!(r.state.gpr[0], turned & 0xffff_ffff);
            prop_assert_eq!(r.state.rflags & 1, turned >> 32);
        }
    }

    #[test]
    fn shld_takes_from_the_other(a: u64, b: u64, n in 1..64u32) {
        for r in run("shld rax, rdx, cl", a, n.into(), b, 0) {
            prop_assert_eq!(r.state.gpr[0], a << n | b >> (64 - n));
            prop_assert_eq!(r.state.rflags & 1, a >> (64 - n) & 1);
        }
    }

    #[test]
    fn bit_counts(a: u64) {
        for (line, want) in [
            ("popcnt rax, rcx", a.count_ones()),
            ("lzcnt rax, rcx", a.leading_zeros()),
            ("tzcnt rax, rcx", a.trailing_zeros()),
        ] {
            for r in run(line, 7, a, 0, 0) {
                prop_assert_eq!(r.state.gpr[0], u64::from(want), "{}", line);
            }
        }
    }

    #[test]
    fn pdep_undoes_pext(a: u64, mask: u64) {
        for r in run("pext rax, rdx, rcx; pdep rax, rax, rcx", 0, mask, a, 0) {
            prop_assert_eq!(r.state.gpr[0], a & mask);
        }
    }
}
