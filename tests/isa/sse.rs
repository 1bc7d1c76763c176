//! SSE to SSE4.2 and MMX, samples of each kind.

use super::*;

const INEXACT: i128 = 0x1fa0;

#[test]
fn arithmetic() {
    check(
        "addps xmm0, xmm1",
        regs! {xmm0: f32x4(1.0, 2.0, 3.0, 4.0), xmm1: f32x4(1.0, 1.0, 1.0, 1.0)},
        expect! {xmm0: f32x4(2.0, 3.0, 4.0, 5.0), mxcsr: 0x1f80},
    );
    check(
        "addsd xmm0, xmm1",
        regs! {xmm0: f64x2(7.0, 0.1), xmm1: f64x2(8.0, 0.2)},
        expect! {xmm0: f64x2(7.0, 0.1 + 0.2), mxcsr: INEXACT},
    );
    check(
        "subpd xmm0, [rsi]",
        regs! {xmm0: f64x2(3.0, 1.0), rsi: D, [DATA; 16]: f64x2(1.0, 1.0)},
        expect! {xmm0: f64x2(2.0, 0.0)},
    );
    check(
        "mulss xmm3, xmm4",
        regs! {xmm3: f32x4(9.0, 9.0, 9.0, 3.0), xmm4: f32x4(0.0, 0.0, 0.0, 0.5)},
        expect! {xmm3: f32x4(9.0, 9.0, 9.0, 1.5)},
    );
    check(
        "divsd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 1.0), xmm1: f64x2(0.0, 0.0)},
        expect! {xmm0: f64x2(0.0, f64::INFINITY), mxcsr: 0x1f84},
    );
    check(
        "divsd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 0.0), xmm1: f64x2(0.0, 0.0)},
        expect! {xmm0: v(0, 0xfff8 << 48), mxcsr: 0x1f81},
    );
    check(
        "divsd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 1.0), xmm1: f64x2(0.0, 0.0), mxcsr: 0x1d80},
        expect! {fault: XM, mxcsr: 0x1d84},
    );
    check(
        "sqrtpd xmm0, xmm1",
        regs! {xmm1: f64x2(4.0, 2.0)},
        expect! {xmm0: f64x2(2.0, std::f64::consts::SQRT_2), mxcsr: INEXACT},
    );
    check(
        "minps xmm0, xmm1",
        regs! {xmm0: f32x4(1.0, f32::NAN, -0.0, 4.0), xmm1: f32x4(2.0, 5.0, 0.0, 3.0)},
        expect! {xmm0: f32x4(1.0, 5.0, 0.0, 3.0), mxcsr: 0x1f81},
    );
    check(
        "maxsd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 1.0), xmm1: f64x2(9.0, 2.0)},
        expect! {xmm0: f64x2(0.0, 2.0)},
    );
    check(
        "haddps xmm0, xmm1",
        regs! {xmm0: f32x4(4.0, 3.0, 2.0, 1.0), xmm1: f32x4(8.0, 7.0, 6.0, 5.0)},
        expect! {xmm0: f32x4(15.0, 11.0, 7.0, 3.0)},
    );
    check(
        "addsubpd xmm0, xmm1",
        regs! {xmm0: f64x2(5.0, 5.0), xmm1: f64x2(1.0, 1.0)},
        expect! {xmm0: f64x2(6.0, 4.0)},
    );
    check(
        "dpps xmm0, xmm1, 0xf1",
        regs! {xmm0: f32x4(1.0, 2.0, 3.0, 4.0), xmm1: f32x4(1.0, 1.0, 1.0, 1.0)},
        expect! {xmm0: f32x4(0.0, 0.0, 0.0, 10.0)},
    );
    check(
        "roundsd xmm0, xmm1, 1",
        regs! {xmm0: f64x2(0.0, 0.0), xmm1: f64x2(0.0, -1.5)},
        expect! {xmm0: f64x2(0.0, -2.0), mxcsr: INEXACT},
    );
    // Rounding control, denormals are zeros, flush to zero.
    check(
        "addsd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 1.0), xmm1: v(0, 1), mxcsr: 0x5f80},
        expect! {xmm0: v(0, 0x3ff0_0000_0000_0001), mxcsr: 0x5fa2},
    );
    check(
        "addsd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 0.0), xmm1: v(0, 1), mxcsr: 0x1fc0},
        expect! {xmm0: v(0, 0), mxcsr: 0x1fc0},
    );
    check(
        "mulsd xmm0, xmm1",
        regs! {xmm0: v(0, 0x0010 << 48), xmm1: f64x2(0.0, 0.5), mxcsr: 0x9f80},
        expect! {xmm0: v(0, 0), mxcsr: 0x9fb0},
    );
}

#[test]
fn dead_results_keep_their_flags() {
    check("cvttsd2si eax, xmm0; mov eax, 1", regs! {xmm0: f64x2(0.0, 1.5)}, expect! {eax: 1, mxcsr: INEXACT});
    check(
        "addsd xmm0, xmm1; movaps xmm0, xmm2",
        regs! {xmm0: f64x2(0.0, 0.1), xmm1: f64x2(0.0, 0.2), xmm2: v(0, 0)},
        expect! {xmm0: v(0, 0), mxcsr: INEXACT},
    );
    check(
        "sqrtss xmm0, xmm1; xorps xmm0, xmm0",
        regs! {xmm0: v(0, 0), xmm1: f32x4(0.0, 0.0, 0.0, -1.0)},
        expect! {xmm0: v(0, 0), mxcsr: 0x1f81},
    );
    check(
        "cvtsd2ss xmm0, xmm1; movaps xmm0, xmm2",
        regs! {xmm1: f64x2(0.0, 1e300), xmm2: v(0, 0)},
        expect! {xmm0: v(0, 0), mxcsr: 0x1fa8},
    );
    check(
        "comiss xmm0, xmm1; xor eax, eax",
        regs! {eax: 1, xmm0: f32x4(0.0, 0.0, 0.0, f32::NAN), xmm1: v(0, 0)},
        expect! {eax: 0, mxcsr: 0x1f81, flags: ZF|PF},
    );
    check(
        "ucomisd xmm0, xmm1; xor eax, eax",
        regs! {eax: 1, xmm0: v(0, 1), xmm1: v(0, 0)},
        expect! {eax: 0, mxcsr: 0x1f82, flags: ZF|PF},
    );
}

/// Conditions right after a comparison of scalars, which compiled code takes from the numbers instead of the flags.
#[test]
fn conditions_of_comparisons() {
    let infinity = f64::INFINITY;
    let relations =
        [(1.0, 2.0), (2.0, 1.0), (-0.0, 0.0), (1.0, infinity), (infinity, infinity), (f64::NAN, 1.0)];
    for (a, b) in relations {
        let known = |holds: bool| i128::from(holds);
        let unordered = a.is_nan() || b.is_nan();
        let before = || regs! {xmm0: f64x2(0.0, a), xmm1: f64x2(0.0, b), rax: 0, rcx: 0, rdx: 0, rbx: 0};
        check(
            "ucomisd xmm0, xmm1; seta al; setae cl; setb dl; setbe bl; mov edi, 0",
            before(),
            expect! {rax: known(a > b), rcx: known(a >= b), rdx: known(a < b || unordered), rbx: known(a <= b || unordered), rdi: 0},
        );
        check(
            "comisd xmm0, xmm1; sete al; setne cl; setp dl; setnp bl; mov edi, 0",
            before(),
            expect! {rax: known(a == b || unordered), rcx: known(a != b && !unordered), rdx: known(unordered), rbx: known(!unordered), rdi: 0},
        );
        // Another comparison of integers comes between: its flags count.
        check("ucomisd xmm0, xmm1; cmp eax, ecx; sete al; setb cl", before(), expect! {rax: 1, rcx: 0});
    }
}

/// A lane that one block writes is part of what the next one reads as a whole.
#[test]
fn lanes_of_registers_from_another_block() {
    check(
        "addsd xmm0, xmm1; jmp 0x10000006; movapd xmm2, xmm0; pextrq rax, xmm2, 1",
        regs! {xmm0: f64x2(3.0, 1.0), xmm1: f64x2(7.0, 2.0), rax: 0},
        expect! {xmm0: f64x2(3.0, 3.0), xmm2: f64x2(3.0, 3.0), rax: 3.0f64.to_bits() as i128},
    );
}

#[test]
fn compare_and_convert() {
    check(
        "ucomisd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, 1.0), xmm1: f64x2(0.0, 2.0), flags: OF|SF|AF},
        expect! {flags: CF},
    );
    check(
        "comisd xmm0, xmm1",
        regs! {xmm0: f64x2(0.0, f64::NAN), xmm1: f64x2(0.0, 2.0)},
        expect! {flags: CF|PF|ZF, mxcsr: 0x1f81},
    );
    check(
        "ucomiss xmm0, xmm1",
        regs! {xmm0: v(0, 0x7fc0_0000), xmm1: v(0, 0)},
        expect! {flags: CF|PF|ZF, mxcsr: 0x1f80},
    );
    check(
        "cmppd xmm0, xmm1, 1",
        regs! {xmm0: f64x2(1.0, 3.0), xmm1: f64x2(2.0, 2.0)},
        expect! {xmm0: v(!0, 0)},
    );
    check(
        "cmpps xmm0, xmm1, 7",
        regs! {xmm0: f32x4(1.0, 2.0, f32::NAN, 0.0), xmm1: v(0, 0)},
        expect! {xmm0: v(!0, 0xffff_ffff)},
    );
    check("cvtsi2sd xmm0, rax", regs! {xmm0: v(5, 0), rax: -3}, expect! {xmm0: v(5, (-3.0f64).to_bits())});
    check(
        "cvtsi2ss xmm0, eax",
        regs! {xmm0: v(0, 0), rax: 0x0100_0001},
        expect! {xmm0: v(0, 0x4b80_0000), mxcsr: INEXACT},
    );
    check("cvttsd2si rax, xmm0", regs! {xmm0: f64x2(0.0, -1.9)}, expect! {rax: -1, mxcsr: INEXACT});
    check("cvtsd2si eax, xmm0", regs! {xmm0: f64x2(0.0, 2.5)}, expect! {rax: 2, mxcsr: INEXACT});
    check("cvttsd2si eax, xmm0", regs! {xmm0: f64x2(0.0, 1e10)}, expect! {rax: 0x8000_0000, mxcsr: 0x1f81});
    check(
        "cvtss2sd xmm0, xmm1",
        regs! {xmm0: v(5, 0), xmm1: f32x4(0.0, 0.0, 0.0, 1.5)},
        expect! {xmm0: v(5, 1.5f64.to_bits())},
    );
    check(
        "cvtsd2ss xmm0, xmm1",
        regs! {xmm0: v(5, 0), xmm1: f64x2(0.0, 0.1)},
        expect! {xmm0: v(5, 0x3dcc_cccd), mxcsr: INEXACT},
    );
    check("cvtdq2pd xmm0, xmm1", regs! {xmm1: v(0, 0x0000_0002_ffff_ffff)}, expect! {xmm0: f64x2(2.0, -1.0)});
    check(
        "cvttps2dq xmm0, xmm1",
        regs! {xmm1: f32x4(1.0, -2.5, 1e10, 0.0)},
        expect! {xmm0: v(0x0000_0001_ffff_fffe, 0x8000_0000_0000_0000), mxcsr: 0x1fa1},
    );
    check(
        "cvtpi2ps xmm0, [rsi]",
        regs! {xmm0: v(7, 0), rsi: D, [DATA; 8]: 0x2_0000_0001},
        expect! {xmm0: v(0x7, 0x400000003f800000)},
    );
}

#[test]
fn moves() {
    check("movups xmm0, [rsi]", regs! {rsi: D + 1, [DATA + 1; 16]: v(1, 2)}, expect! {xmm0: v(1, 2)});
    check("movups [rsi], xmm0", regs! {xmm0: v(1, 2), rsi: D + 0xff9}, expect! {[DATA + 0xff9; 16]: v(1, 2)});
    check("movups [rsi], xmm0", regs! {rsi: RO - 8}, expect! {fault: PAGE, code: 7, cr2: RO});
    check("movsd xmm0, [rsi]", regs! {xmm0: v(9, 9), rsi: D, [DATA; 8]: 5}, expect! {xmm0: v(0, 5)});
    check("movsd xmm0, xmm1", regs! {xmm0: v(9, 9), xmm1: v(1, 2)}, expect! {xmm0: v(9, 2)});
    check(
        "movss xmm0, xmm1",
        regs! {xmm0: v(9, 0x5_0000_0009), xmm1: v(1, 2)},
        expect! {xmm0: v(9, 0x5_0000_0002)},
    );
    check("movq xmm0, rax", regs! {rax: 5}, expect! {xmm0: v(0, 5)});
    check("movd eax, xmm1", regs! {rax: !0, xmm1: v(1, 0x5_0000_0007)}, expect! {rax: 7});
    check("movhlps xmm0, xmm1", regs! {xmm0: v(1, 2), xmm1: v(3, 4)}, expect! {xmm0: v(1, 3)});
    check("movlps [rsi], xmm0", regs! {xmm0: v(1, 2), rsi: D}, expect! {[DATA; 8]: 2});
    check("movmskps eax, xmm0", regs! {xmm0: v(0x8000_0000_0000_0000, 0x8000_0000)}, expect! {rax: 9});
    check("pmovmskb eax, xmm0", regs! {xmm0: v(0x8000_0000_0000_0000, 0x80)}, expect! {rax: 0x8001});
    check(
        "shufps xmm0, xmm1, 0x1b",
        regs! {xmm0: f32x4(4.0, 3.0, 2.0, 1.0), xmm1: f32x4(8.0, 7.0, 6.0, 5.0)},
        expect! {xmm0: f32x4(5.0, 6.0, 3.0, 4.0)},
    );
    check("movddup xmm0, xmm1", regs! {xmm1: v(1, 2)}, expect! {xmm0: v(2, 2)});
    check("ldmxcsr [rsi]", regs! {rsi: D, [DATA; 4]: 0x1fbf}, expect! {mxcsr: 0x1fbf});
    check("ldmxcsr [rsi]", regs! {rsi: D, [DATA; 4]: 0x1_0000}, expect! {fault: GP, code: 0});
    check("stmxcsr [rsi]", regs! {rsi: D, mxcsr: 0x1fa0}, expect! {[DATA; 4]: 0x1fa0});
    check(
        "maskmovdqu xmm0, xmm1",
        regs! {rdi: D, xmm0: v(1, 0x1122_3344_5566_7788), xmm1: v(0, 0x8000_0000_0000_0080)},
        expect! {[DATA; 1]: 0x88, [DATA + 7; 1]: 0x11},
    );
}

#[test]
fn integers() {
    check("paddb xmm0, xmm1", regs! {xmm0: v(0, 0xff), xmm1: v(!0, 1)}, expect! {xmm0: v(!0, 0)});
    check("paddsw xmm0, xmm1", regs! {xmm0: v(0, 0x7fff), xmm1: v(0, 1)}, expect! {xmm0: v(0, 0x7fff)});
    check("psubusb xmm0, xmm1", regs! {xmm0: v(0, 5), xmm1: v(0, 6)}, expect! {xmm0: v(0, 0)});
    check(
        "pmullw xmm0, xmm1",
        regs! {xmm0: v(0, 0x0003_0002), xmm1: v(0, 0x0005_0004)},
        expect! {xmm0: v(0, 0x000f_0008)},
    );
    check(
        "pmuludq xmm0, xmm1",
        regs! {xmm0: v(0, 0xffff_ffff), xmm1: v(0, 0xffff_ffff)},
        expect! {xmm0: v(0, 0xffff_fffe_0000_0001)},
    );
    check(
        "pmaddwd xmm0, xmm1",
        regs! {xmm0: v(0, 0x0002_0003), xmm1: v(0, 0x0004_0005)},
        expect! {xmm0: v(0, 23)},
    );
    check("pcmpeqd xmm0, xmm0", regs! {}, expect! {xmm0: v(!0, !0)});
    check("pcmpgtb xmm0, xmm1", regs! {xmm0: v(0, 0x01ff), xmm1: v(0, 0)}, expect! {xmm0: v(0, 0xff00)});
    check("pshufd xmm0, xmm1, 0x4e", regs! {xmm1: v(1, 2)}, expect! {xmm0: v(2, 1)});
    check(
        "pshufb xmm0, xmm1",
        regs! {xmm0: v(0x0f0e_0d0c_0b0a_0908, 0x0706_0504_0302_0100), xmm1: v(0x80, 0x0f00)},
        expect! {xmm0: v(0, 0x0f00)},
    );
    check("psllq xmm0, 63", regs! {xmm0: v(3, 1)}, expect! {xmm0: v(1 << 63, 1 << 63)});
    check(
        "psrldq xmm0, 4",
        regs! {xmm0: v(0x1122_3344_5566_7788, 0)},
        expect! {xmm0: v(0x1122_3344, 0x5566_7788_0000_0000)},
    );
    check(
        "psrad xmm0, xmm1",
        regs! {xmm0: v(0, 0x8000_0000), xmm1: v(0, 100)},
        expect! {xmm0: v(0, 0xffff_ffff)},
    );
    check(
        "punpcklbw xmm0, xmm1",
        regs! {xmm0: v(0, 0x0403_0201), xmm1: v(0, 0x1413_1211)},
        expect! {xmm0: v(0, 0x1404_1303_1202_1101)},
    );
    check(
        "packsswb xmm0, xmm1",
        regs! {xmm0: v(0, 0x7fff), xmm1: v(0, 0x8000)},
        expect! {xmm0: v(0x80, 0x7f)},
    );
    check("palignr xmm0, xmm1, 8", regs! {xmm0: v(1, 2), xmm1: v(3, 4)}, expect! {xmm0: v(2, 3)});
    check("pinsrd xmm0, eax, 3", regs! {eax: 7, xmm0: v(0, 0)}, expect! {xmm0: v(7 << 32, 0)});
    check("pextrq rax, xmm0, 1", regs! {xmm0: v(7, 0)}, expect! {rax: 7});
    check(
        "pmovzxbw xmm0, xmm1",
        regs! {xmm1: v(0, 0x0807_0605_0403_02ff)},
        expect! {xmm0: v(0x0008_0007_0006_0005, 0x0004_0003_0002_00ff)},
    );
    check("ptest xmm0, xmm1", regs! {xmm0: v(1, 0), xmm1: v(0, 1)}, expect! {flags: ZF});
    check("ptest xmm0, xmm1", regs! {xmm0: v(!0, !0), xmm1: v(0, 1)}, expect! {flags: CF});
    check(
        "pblendvb xmm1, xmm2",
        regs! {xmm0: v(0, 0x80), xmm1: v(0, 0x11), xmm2: v(0, 0x22)},
        expect! {xmm1: v(0x0, 0x22)},
    );
    check(
        "pcmpistri xmm0, xmm1, 0",
        regs! {xmm0: v(0, 0x6261), xmm1: v(0, 0x6261_7978)},
        expect! {rcx: 0x2, flags: CF|ZF|SF},
    );
    check("mpsadbw xmm0, xmm1, 5", regs! {}, expect! {xmm0: v(0x460042003e003a, 0x360032002e002a)});
    check(
        "phminposuw xmm0, xmm1",
        regs! {xmm1: v(0x0005_0004_0003_0009, 0x0008_0007_0006_0005)},
        expect! {xmm0: v(0x0, 0x50003)},
    );
}

#[test]
fn mmx() {
    check(
        "movq mm0, rax; paddd mm0, mm0; movq rcx, mm0; emms",
        regs! {rax: 0x4_0000_0003},
        expect! {rcx: 0x800000006, fsw: 0x0, ftag: 0x0},
    );
    check(
        "movd mm1, eax; packsswb mm1, mm1; movd ecx, mm1; emms",
        regs! {rax: 0x7fff_0001},
        expect! {rcx: 0x7f01, fsw: 0x0, ftag: 0x0},
    );
    check("emms", regs! {fsw: 0x1000, ftag: 0x55}, expect! {});
}
