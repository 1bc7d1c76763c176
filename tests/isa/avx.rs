//! VEX encodings: what differs from the legacy ones, what AVX, AVX2, FMA3 and F16C add, AES, SHA and carry-less products.

use tests::harness::items::Item;

use super::*;

/// VEX.vvvv is a source of its own; what is above the result is zero.
#[test]
fn three_operands_and_zeroed_upper_parts() {
    check("vpaddd xmm0, xmm1, xmm2", regs! {xmm1: v(1, 2), xmm2: v(3, 4)}, expect! {xmm0: v(4, 6), high0: 0});
    check(
        "vpaddd ymm0, ymm1, ymm2",
        regs! {xmm1: v(1, 2), xmm2: v(3, 4), high1: v(5, 6), high2: v(7, 8)},
        expect! {xmm0: v(4, 6), high0: v(12, 14)},
    );
    // Legacy encodings leave them alone.
    check("paddd xmm0, xmm1", regs! {xmm0: v(1, 2), xmm1: v(3, 4)}, expect! {xmm0: v(4, 6)});
    // Scalars: the rest of the low 128 bits comes from the first source.
    check(
        "vaddsd xmm0, xmm1, xmm2",
        regs! {xmm1: f64x2(7.0, 1.0), xmm2: f64x2(8.0, 2.0)},
        expect! {xmm0: f64x2(7.0, 3.0), high0: 0},
    );
    check(
        "vsqrtss xmm0, xmm1, xmm2",
        regs! {xmm1: v(1, 2), xmm2: f32x4(0.0, 0.0, 0.0, 9.0)},
        expect! {xmm0: v(1, 0x4040_0000), high0: 0},
    );
    check("vmovss xmm0, xmm1, xmm2", regs! {xmm1: v(1, 2), xmm2: v(3, 4)}, expect! {xmm0: v(1, 4), high0: 0});
    check("vmovsd xmm0, [rsi]", regs! {rsi: D, [DATA; 8]: 5}, expect! {xmm0: v(0, 5), high0: 0});
    check(
        "vmovhlps xmm0, xmm1, xmm2",
        regs! {xmm1: v(1, 2), xmm2: v(3, 4)},
        expect! {xmm0: v(1, 3), high0: 0},
    );
    check(
        "vcvtsi2sd xmm0, xmm1, rax",
        regs! {rax: 2, xmm1: v(1, 2)},
        expect! {xmm0: v(1, 2.0f64.to_bits()), high0: 0},
    );
    check("vmovq xmm0, xmm1", regs! {xmm1: v(1, 2)}, expect! {xmm0: v(0, 2), high0: 0});
    check(
        "vpinsrw xmm0, xmm1, eax, 9",
        regs! {rax: 5, xmm1: v(0, 0)},
        expect! {xmm0: v(0, 0x5_0000), high0: 0},
    );
    check("vpsrld xmm0, xmm1, 4", regs! {xmm1: v(0x100, 0x10)}, expect! {xmm0: v(0x10, 1), high0: 0});
    check("vpcmpistrm xmm1, xmm2, 0x40", regs! {xmm1: v(0, 0), xmm2: v(0, 0)}, expect! {xmm0: 0, high0: 0});
}

/// Only the moves that are named so want their operands aligned.
#[test]
fn alignment() {
    check(
        "vpaddd ymm0, ymm1, [rsi]",
        regs! {rsi: D + 1, xmm1: 0, high1: 0, [DATA + 1; 16]: v(1, 2), [DATA + 17; 16]: v(3, 4)},
        expect! {xmm0: v(1, 2), high0: v(3, 4)},
    );
    check("vmovdqa ymm0, [rsi]", regs! {rsi: D + 16}, expect! {fault: GP, code: 0});
    check("vmovdqa xmm0, [rsi]", regs! {rsi: D + 16, [DATA + 16; 16]: 7}, expect! {xmm0: 7, high0: 0});
    check("vmovntdq [rsi], ymm0", regs! {rsi: D + 16}, expect! {fault: GP, code: 0});
    check("vmovdqu ymm0, [rsi]", regs! {rsi: RO + 0xff0}, expect! {fault: PAGE, code: 4, cr2: RO + 0x1000});
    // Nothing of a store is done when its end faults.
    check("vmovdqu [rsi], ymm0", regs! {rsi: RO - 16}, expect! {fault: PAGE, code: 7, cr2: RO});
    check(
        "vmovups [rsi], ymm1",
        regs! {rsi: D + 0xff1, xmm1: v(1, 2), high1: v(3, 4)},
        expect! {[DATA + 0xff1; 16]: v(1, 2), [DATA + 0x1001; 16]: v(3, 4)},
    );
}

#[test]
fn halves() {
    let both = || regs! {xmm1: v(1, 2), high1: v(3, 4), xmm2: v(5, 6), high2: v(7, 8)};
    check("vperm2f128 ymm0, ymm1, ymm2, 0x21", both(), expect! {xmm0: v(3, 4), high0: v(5, 6)});
    check("vperm2i128 ymm0, ymm1, ymm2, 0x83", both(), expect! {xmm0: v(7, 8), high0: 0});
    check("vinsertf128 ymm0, ymm1, xmm2, 1", both(), expect! {xmm0: v(1, 2), high0: v(5, 6)});
    check("vextracti128 xmm0, ymm1, 1", both(), expect! {xmm0: v(3, 4), high0: 0});
    let mut memory = both();
    memory.extend(regs! {rsi: D + 3});
    check("vextractf128 [rsi], ymm1, 1", memory, expect! {[DATA + 3; 16]: v(3, 4)});
    check("vpermq ymm0, ymm1, 0x1b", both(), expect! {xmm0: v(4, 3), high0: v(2, 1)});
    check(
        "vpermd ymm0, ymm2, ymm1",
        regs! {xmm1: v(0x3_0000_0002, 0x1_0000_0000), high1: v(0x7_0000_0006, 0x5_0000_0004), xmm2: v(0x0_0000_0001, 0x2_0000_0003), high2: v(0x4_0000_0005, 0x6_ffff_ffff)},
        expect! {xmm0: v(1, 0x2_0000_0003), high0: v(0x4_0000_0005, 0x6_0000_0007)},
    );
    // Shuffles stay within their half; VPSHUFD's selectors are shared, VPERMILPD's are not.
    check("vpshufd ymm0, ymm1, 0x4e", both(), expect! {xmm0: v(2, 1), high0: v(4, 3)});
    check("vpermilpd ymm0, ymm1, 0x1", both(), expect! {xmm0: v(2, 1), high0: v(4, 4)});
    check("vpalignr ymm0, ymm1, ymm2, 8", both(), expect! {xmm0: v(2, 5), high0: v(4, 7)});
    check("vpunpcklqdq ymm0, ymm1, ymm2", both(), expect! {xmm0: v(6, 2), high0: v(8, 4)});
    check("vblendpd ymm0, ymm1, ymm2, 0x6", both(), expect! {xmm0: v(5, 2), high0: v(3, 8)});
    check("vmovddup ymm0, ymm1", both(), expect! {xmm0: v(2, 2), high0: v(4, 4)});
    check(
        "vpmovzxdq ymm0, xmm1",
        regs! {xmm1: v(0x4_0000_0003, 0x2_0000_0001)},
        expect! {xmm0: v(2, 1), high0: v(4, 3)},
    );
    // The count of a shift has 128 bits in any case.
    check(
        "vpsllq ymm0, ymm1, xmm2",
        regs! {xmm1: v(1, 2), high1: v(3, 4), xmm2: v(!0, 1)},
        expect! {xmm0: v(2, 4), high0: v(6, 8)},
    );
    check("vbroadcastsd ymm0, [rsi]", regs! {rsi: D, [DATA; 8]: 9}, expect! {xmm0: v(9, 9), high0: v(9, 9)});
    check(
        "vpbroadcastb xmm0, xmm1",
        regs! {xmm1: v(0, 0x305)},
        expect! {xmm0: v(0x0505_0505_0505_0505, 0x0505_0505_0505_0505), high0: 0},
    );
    check(
        "vpmovmskb eax, ymm1",
        regs! {xmm1: v(0, 0x80), high1: v(1 << 63, 0)},
        expect! {rax: 0x8000_0001u32 as i128},
    );
    check("vptest ymm0, ymm1", regs! {xmm0: 0, high0: 1, xmm1: 0, high1: 3}, expect! {flags: NONE});
    check(
        "vtestps xmm0, xmm1",
        regs! {xmm0: v(0, 0x7fff_ffff), xmm1: v(0, 0x8000_0000)},
        expect! {flags: ZF},
    );
}

#[test]
fn zeroing() {
    check("vzeroupper", vec![], (0..16).map(|n| Item::Named(HIGH[n], 0)).collect());
    // Outside 64-bit mode there are eight registers.
    check32(
        "vzeroall",
        vec![],
        (0..8).flat_map(|n| [(XMM[n], 0), (HIGH[n], 0)]).map(|(n, v)| Item::Named(n, v)).collect(),
    );
}

const HIGH: [&str; 16] = [
    "high0", "high1", "high2", "high3", "high4", "high5", "high6", "high7", "high8", "high9", "high10",
    "high11", "high12", "high13", "high14", "high15",
];
const XMM: [&str; 8] = ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7"];

/// What the mask leaves out is not accessed.
#[test]
fn masked_moves() {
    check(
        "vmaskmovps xmm0, xmm1, [rsi]",
        regs! {rsi: RO + 0xff8, xmm1: v(0, 0x8000_0000_7fff_ffff), [READ_ONLY + 0xffc; 4]: 5},
        expect! {xmm0: v(0, 5 << 32), high0: 0},
    );
    check(
        "vpmaskmovq ymm0, ymm1, [rsi]",
        regs! {rsi: D + 0x10, xmm1: v(!0, 0), high1: v(0, !0), [DATA + 0x18; 8]: 5, [DATA + 0x20; 8]: 6},
        expect! {xmm0: v(5, 0), high0: v(0, 6)},
    );
    check(
        "vmaskmovpd [rsi], xmm1, xmm2",
        regs! {rsi: RO - 8, xmm1: v(0, !0), xmm2: v(1, 2)},
        expect! {[READ_ONLY - 8; 8]: 2},
    );
    check(
        "vmaskmovpd [rsi], xmm1, xmm2",
        regs! {rsi: RO - 8, xmm1: v(!0, !0), xmm2: v(1, 2)},
        expect! {fault: PAGE, code: 7, cr2: RO},
    );
}

#[test]
fn gathers() {
    check(
        "vpgatherdd xmm0, [rsi+xmm1*4], xmm2",
        regs! {rsi: D + 0x40, xmm0: v(1, 2), xmm1: v(0x3_0000_0000, 0x2_ffff_ffff), xmm2: v(!0, 0x7fff_ffff_8000_0000), [DATA + 0x3c; 4]: 7, [DATA + 0x40; 4]: 8, [DATA + 0x4c; 4]: 9},
        expect! {xmm0: v(0x9_0000_0008, 0x7), xmm2: 0, high0: 0, high2: 0},
    );
    // The registers must be three.
    check("db 0xc4, 0xe2, 0x69, 0x90, 0x04, 0x86", regs! {rsi: D}, expect! {fault: UD});
    check("db 0xc4, 0xe2, 0xf5, 0x91, 0x04, 0xce", regs! {rsi: D}, expect! {fault: UD});
    // A fault leaves what is done: the element that came in, its mask cleared.
    check(
        "vpgatherqq xmm0, [rsi+xmm1*8], xmm2",
        regs! {rsi: D, xmm0: v(1, 2), xmm1: v(0x10_0000, 1), xmm2: v(!0, !0), [DATA + 8; 8]: 5},
        expect! {fault: PAGE, code: 4, cr2: D + 0x80_0000, xmm0: v(1, 5), xmm2: v(!0, 0)},
    );
    // Sums wrap at the address size.
    check(
        "vpgatherdd xmm0, [esi+xmm1], xmm2",
        regs! {rsi: D - 0x7fff_ffff, xmm0: 0, xmm1: v(0, 0x7fff_ffff), xmm2: v(0, 0x8000_0000), [DATA; 4]: 5},
        expect! {xmm0: 5, xmm2: 0, high0: 0, high2: 0},
    );
}

/// SDM VGATHERDPS: "does not perform AC checks"; VMASKMOV, "no AC# reported for any mask bit combinations".
#[test]
fn gathers_and_masked_moves_check_no_alignment() {
    check(
        "vpgatherdd xmm0, [rsi+xmm1*4], xmm2",
        regs! {flags: 1 << 18, rsi: D + 1, xmm0: v(1, 2), xmm1: 0, xmm2: v(0, 0x8000_0000), [DATA + 1; 4]: 7},
        expect! {xmm0: v(1, 7), xmm2: 0, high0: 0, high2: 0},
    );
    for line in ["vmaskmovps xmm0, xmm2, [rsi]", "vpmaskmovd xmm0, xmm2, [rsi]"] {
        Check::new(Bits::Long, line)
            .before(regs! {flags: 1 << 18, rsi: D + 3, xmm2: v(0, 0x8000_0000), [DATA + 3; 4]: 7})
            .expect(expect! {xmm0: 7, high0: 0})
            // AMD's processors do check it.
            .without_host()
            .run();
    }
    Check::new(Bits::Long, "vmaskmovps [rsi], xmm2, xmm0")
        .before(regs! {flags: 1 << 18, rsi: D + 3, xmm0: 7, xmm2: v(0, 0x8000_0000)})
        .expect(expect! {[DATA + 3; 4]: 7})
        .without_host()
        .run();
}

#[test]
fn fused_multiply_add() {
    // One rounding: 2^-60 survives beside 1.
    let tiny = 1.0 + f64::EPSILON;
    check(
        "vfmsub213sd xmm0, xmm1, xmm2",
        regs! {xmm0: f64x2(9.0, tiny), xmm1: f64x2(8.0, tiny), xmm2: f64x2(7.0, 1.0 + 2.0 * f64::EPSILON)},
        expect! {xmm0: f64x2(9.0, f64::EPSILON * f64::EPSILON), high0: 0, mxcsr: 0x1f80},
    );
    check(
        "vfmaddsub132pd xmm0, xmm1, xmm2",
        regs! {xmm0: f64x2(2.0, 2.0), xmm1: f64x2(1.0, 1.0), xmm2: f64x2(3.0, 3.0)},
        expect! {xmm0: f64x2(7.0, 5.0), high0: 0},
    );
    check(
        "vfnmadd231ps ymm0, ymm1, ymm2",
        regs! {xmm0: f32x4(1.0, 1.0, 1.0, 1.0), high0: 0, xmm1: f32x4(1.0, 2.0, 3.0, 4.0), high1: f32x4(1.0, 0.0, 0.0, 0.0), xmm2: f32x4(1.0, 1.0, 1.0, 1.0), high2: f32x4(5.0, 1.0, 1.0, 1.0)},
        expect! {xmm0: f32x4(0.0, -1.0, -2.0, -3.0), high0: f32x4(-5.0, 0.0, 0.0, 0.0)},
    );
    // Infinity times zero is invalid, unless the addend is a NaN.
    check(
        "vfmadd213sd xmm0, xmm1, xmm2",
        regs! {xmm0: f64x2(0.0, f64::INFINITY), xmm1: 0, xmm2: f64x2(0.0, 1.0)},
        expect! {xmm0: v(0, 0xfff8 << 48), high0: 0, mxcsr: 0x1f81},
    );
    check(
        "vfmadd213sd xmm0, xmm1, xmm2",
        regs! {xmm0: f64x2(0.0, f64::INFINITY), xmm1: 0, xmm2: v(0, 0x7ff8_0000_0000_0123), mxcsr: 0x1f00},
        expect! {xmm0: v(0, 0x7ff8_0000_0000_0123), high0: 0, mxcsr: 0x1f00},
    );
}

/// One element's unmasked exception decides what all of them report.
#[test]
fn exceptions_of_both_halves() {
    // Inexact in the low half, unmasked; invalid in the high one, unmasked: only the latter is seen.
    check(
        "vaddpd ymm0, ymm1, ymm2",
        regs! {xmm1: f64x2(0.1, 0.1), xmm2: f64x2(0.2, 0.2), high1: f64x2(f64::INFINITY, 0.0), high2: f64x2(f64::NEG_INFINITY, 0.0), mxcsr: 0x0f00},
        expect! {fault: XM, mxcsr: 0x0f01},
    );
    check(
        "vcmppd ymm0, ymm1, ymm2, 0x11",
        regs! {xmm1: f64x2(1.0, f64::NAN), xmm2: f64x2(2.0, 1.0), high1: f64x2(3.0, 3.0), high2: f64x2(3.0, 4.0)},
        expect! {xmm0: v(!0, 0), high0: v(0, !0), mxcsr: 0x1f80},
    );
}

#[test]
fn half_precision() {
    check(
        "vcvtph2ps xmm0, xmm1",
        regs! {xmm1: v(0, 0x7c00_3c00_c000_0001)},
        expect! {xmm0: v(0x7f80_0000_3f80_0000, 0xc000_0000_3380_0000), high0: 0, mxcsr: 0x1f80},
    );
    check(
        "vcvtps2ph xmm0, xmm1, 0",
        regs! {xmm1: f32x4(65520.0, 1.0, -2.0, 1e-8)},
        expect! {xmm0: v(0, 0x7c00_3c00_c000_0000), high0: 0, mxcsr: 0x1fb8},
    );
    // Rounding by the immediate.
    check(
        "vcvtps2ph xmm0, xmm1, 3",
        regs! {xmm1: f32x4(65520.0, 1.0, 1.0, 1.0)},
        expect! {xmm0: v(0, 0x7bff_3c00_3c00_3c00), high0: 0, mxcsr: INEXACT},
    );
}

const INEXACT: i128 = 0x1fa0;

#[test]
fn cryptography() {
    check(
        "aesenclast xmm0, xmm1",
        regs! {xmm0: 0, xmm1: 0},
        expect! {xmm0: v(0x6363_6363_6363_6363, 0x6363_6363_6363_6363)},
    );
    check("vaesimc xmm0, xmm1", regs! {xmm1: v(0, 1)}, expect! {xmm0: v(0, 0x0b0d_090e), high0: 0});
    check("pclmulqdq xmm0, xmm1, 0x10", regs! {xmm0: v(0, 3), xmm1: v(3, 0)}, expect! {xmm0: 5});
    check(
        "vpclmulqdq xmm0, xmm1, xmm2, 0x01",
        regs! {xmm1: v(1 << 63, 0), xmm2: v(0, 2)},
        expect! {xmm0: v(1, 0), high0: 0},
    );
    check(
        "sha1rnds4 xmm0, xmm1, 0",
        regs! {xmm0: 0, xmm1: 0},
        expect! {xmm0: v(0xf405_4bb3_b4b8_122e, 0x2ab4_6b31_56a0_9e66)},
    );
    check(
        "sha256rnds2 xmm1, xmm2",
        regs! {xmm0: v(0, 1), xmm1: 0, xmm2: 0},
        expect! {xmm1: v(0x4428_0480_0000_0001, 0x0420_0080_0000_0001)},
    );
}

/// VEX.L and VEX.vvvv where they must be zero, prefixes before VEX, real mode.
#[test]
fn encodings_that_are_none() {
    // vzeroupper; with a LOCK, 66, F3 and REX prefix.
    check("db 0xf0, 0xc5, 0xf8, 0x77", vec![], expect! {fault: UD});
    check("db 0x66, 0xc5, 0xf8, 0x77", vec![], expect! {fault: UD});
    check("db 0xf3, 0xc5, 0xf8, 0x77", vec![], expect! {fault: UD});
    check("db 0x48, 0xc5, 0xf8, 0x77", vec![], expect! {fault: UD});
    // vmovups xmm0, xmm1 with vvvv; vmovd xmm0, eax with L; vpsrldq likewise is fine with AVX2.
    check("db 0xc5, 0xf0, 0x10, 0xc1", vec![], expect! {fault: UD});
    check("db 0xc5, 0xfd, 0x6e, 0xc0", vec![], expect! {fault: UD});
    // vmovups xmm0, xmm1 in real mode, where no VEX exists.
    Check::new(Bits::Real, "db 0xc5, 0xf8, 0x10, 0xc1").expect(expect! {fault: UD}).run();
    Check::new(Bits::Protected16, "db 0xc5, 0xf8, 0x10, 0xc1")
        .before(regs! {xmm1: v(1, 2)})
        .expect(expect! {xmm0: v(1, 2), high0: 0})
        .run();
    // VEX.W is ignored by VMOVD and VPEXTRD outside 64-bit mode.
    check32("db 0xc4, 0xe1, 0xf9, 0x6e, 0xc0", regs! {eax: 7}, expect! {xmm0: 7, high0: 0});
    // EVEX and XOP: not reported, so undefined.
    Check::new(Bits::Long, "db 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1")
        .without_host()
        .expect(expect! {fault: UD})
        .run();
}
