//! x87 samples.

use super::*;

#[test]
fn arithmetic() {
    check("fadd st0, st1", regs! {st0: f80(1.5), st1: f80(2.0)}, expect! {st0: f80(3.5)});
    check("fsub st1, st0", regs! {st0: f80(1.5), st1: f80(2.0)}, expect! {st1: f80(0.5)});
    check("fmul dword [rsi]", regs! {st0: f80(3.0), rsi: D, [DATA; 4]: 0x4000_0000}, expect! {st0: f80(6.0)});
    check(
        "fdiv qword [rsi]",
        regs! {st0: f80(3.0), rsi: D, [DATA; 8]: 2.0f64.to_bits() as i128},
        expect! {st0: f80(1.5)},
    );
    check("fiadd word [rsi]", regs! {st0: f80(3.0), rsi: D, [DATA; 2]: -2}, expect! {st0: f80(1.0)});
    check("fdivp st1, st0", regs! {st0: f80(4.0), st1: f80(1.0)}, expect! {st0: f80(0.25)});
    check("fsqrt", regs! {st0: f80(9.0)}, expect! {st0: f80(3.0)});
    check("fchs", regs! {st0: f80(9.0)}, expect! {st0: f80(-9.0)});
    check("fabs", regs! {st0: f80(-9.0)}, expect! {st0: f80(9.0)});
    check("frndint", regs! {st0: f80(2.5)}, expect! {st0: f80(2.0)});
    check("fscale", regs! {st0: f80(3.0), st1: f80(4.0)}, expect! {st0: f80(48.0)});
    check("fxtract", regs! {st0: f80(48.0)}, expect! {});
    check("fprem", regs! {st0: f80(10.0), st1: f80(3.0)}, expect! {st0: f80(1.0)});
    check("fdiv st0, st1", regs! {st0: f80(1.0), st1: f80(3.0)}, expect! {});
    check("fdiv st0, st1", regs! {st0: f80(1.0), st1: f80(0.0)}, expect! {st0: f80(f64::INFINITY)});
    // 53 bits of precision.
    check("fdiv st0, st1", regs! {fcw: 0x27f, st0: f80(1.0), st1: f80(3.0)}, expect! {st0: f80(1.0 / 3.0)});
}

#[test]
fn loads_and_stores() {
    check("fld1", regs! {}, expect! {st0: f80(1.0)});
    check("fldz; fldpi", regs! {}, expect! {});
    check("fld qword [rsi]", regs! {rsi: D, [DATA; 8]: 1.5f64.to_bits() as i128}, expect! {st0: f80(1.5)});
    check("fild word [rsi]", regs! {rsi: D, [DATA; 2]: -7}, expect! {st0: f80(-7.0)});
    check("fild qword [rsi]", regs! {rsi: D, [DATA; 8]: 1 << 40}, expect! {st0: f80((1u64 << 40) as f64)});
    check("fistp dword [rsi]", regs! {st0: f80(2.5), rsi: D}, expect! {[DATA; 4]: 2});
    check("fisttp dword [rsi]", regs! {st0: f80(-2.9), rsi: D}, expect! {[DATA; 4]: -2});
    check("fistp word [rsi]", regs! {st0: f80(1e6), rsi: D}, expect! {[DATA; 2]: 0x8000});
    check("fst dword [rsi]", regs! {st0: f80(0.1), rsi: D}, expect! {[DATA; 4]: 0x3dcc_cccd});
    check("fstp tword [rsi]", regs! {st0: f80(1.5), rsi: D + 3}, expect! {[DATA + 3; 10]: f80(1.5)});
    check("fstp qword [rsi]", regs! {st0: f80(1.5), rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
    check(
        "fbstp tword [rsi]",
        regs! {st0: f80(-1234.0), rsi: D},
        expect! {[DATA; 10]: (0x80 << 72) + 0x1234},
    );
    check("fbld tword [rsi]", regs! {rsi: D, [DATA; 10]: 0x99}, expect! {st0: f80(99.0)});
    check("fxch st0, st1", regs! {st0: f80(1.0), st1: f80(2.0)}, expect! {st0: f80(2.0), st1: f80(1.0)});
    check("fld st0", regs! {st0: f80(1.0)}, expect! {});
    // The stack overflows: the indefinite value, IE and SF, C1.
    check("fld1", regs! {ftag: 0xff}, expect! {});
    check("fstp qword [rsi]", regs! {rsi: D}, expect! {[DATA; 8]: 0xfff8 << 48});
}

/// The moves that compiled code does by itself, where it must not: what tier 0 does about the stack, and stores that fault half-way.
#[test]
fn moves_that_cannot_be_done() {
    // Overflow and underflow, masked: the indefinite value, IE and SF.
    check(
        "fld tword [rsi]; fnstsw ax",
        regs! {rax: 0, ftag: 0xff, rsi: D, [DATA; 10]: f80(1.5)},
        expect! {rax: 0x3a41},
    );
    check("fld st0; fnstsw ax", regs! {rax: 0, ftag: 0xff}, expect! {rax: 0x3a41});
    check("fld st3; fnstsw ax", regs! {rax: 0, st0: f80(1.5)}, expect! {rax: 0x3841});
    check("fxch st0, st1; fnstsw ax", regs! {rax: 0, st0: f80(1.5)}, expect! {rax: 0x41});
    check("fst st3; fnstsw ax", regs! {rax: 0}, expect! {rax: 0x41});
    check("fstp st3; fnstsw ax", regs! {rax: 0}, expect! {rax: 0x841});
    check("fchs; fnstsw ax", regs! {rax: 0}, expect! {rax: 0x41});
    check("fabs; fnstsw ax", regs! {rax: 0}, expect! {rax: 0x41});
    check("fstp tword [rsi]", regs! {rsi: D}, expect! {[DATA; 10]: 0xffff_c000_0000_0000_0000});
    // Unmasked: nothing moves.
    check(
        "fld tword [rsi]; fnstsw ax",
        regs! {rax: 0, fcw: 0x37e, ftag: 0xff, rsi: D},
        expect! {rax: 0x82c1},
    );
    check(
        "fstp tword [rsi]; fnstsw ax",
        regs! {rax: 0, fcw: 0x37e, rsi: D, [DATA; 10]: 0},
        expect! {rax: 0x80c1, [DATA; 10]: 0},
    );
    // A pending exception comes first.
    for line in [
        "fld tword [rsi]",
        "fstp tword [rsi]",
        "fld st0",
        "fst st2",
        "fstp st2",
        "fxch st0, st1",
        "fchs",
        "fabs",
    ] {
        let before = regs! {fcw: 0x37b, fsw: 0x8084, st0: f80(1.0), st1: f80(2.0), rsi: D};
        check(line, before, expect! {fault: MF});
    }
    // C1 of an earlier instruction is cleared.
    for (line, after) in [
        ("fld tword [rsi]", 0x7800),
        ("fstp tword [rsi]", 0x4800),
        ("fchs", 0x4000),
        ("fxch st0, st1", 0x4000),
    ] {
        let before = regs! {rax: 0, fsw: 0x4200, st0: f80(1.0), st1: f80(2.0), rsi: D, [DATA; 10]: f80(1.0)};
        check(&format!("{line}; fnstsw ax"), before, expect! {rax: after});
    }
    // The last two bytes lie in the page that must not be written.
    check(
        "fstp tword [rsi]",
        regs! {st0: f80(1.5), rsi: RO - 8, [READ_ONLY - 8; 8]: 0x1234},
        expect! {fault: PAGE, code: 7, cr2: RO, [READ_ONLY - 8; 8]: 0x1234},
    );
    check("fld tword [rsi]", regs! {rsi: RO - 5, [READ_ONLY - 5; 10]: f80(1.5)}, expect! {st0: f80(1.5)});
    check("fstp tword [rsi]", regs! {st0: f80(1.5), rsi: D + 0xffb}, expect! {[DATA + 0xffb; 10]: f80(1.5)});
}

#[test]
fn compare() {
    check("fcomi st0, st1", regs! {st0: f80(1.0), st1: f80(2.0), flags: OF|SF|AF}, expect! {});
    check("fucomip st0, st1", regs! {st0: f80(2.0), st1: f80(2.0)}, expect! {});
    check("fcom st0, st1; fnstsw ax", regs! {rax: 0, st0: f80(1.0), st1: f80(2.0)}, expect! {rax: 0x100});
    check("ftst; fnstsw ax", regs! {rax: 0, st0: f80(0.0)}, expect! {rax: 0x4000});
    check("fxam; fnstsw ax", regs! {rax: 0, st0: f80(-1.0)}, expect! {rax: 0x0600});
    check("fcmovb st0, st1", regs! {st0: f80(1.0), st1: f80(2.0), flags: CF}, expect! {st0: f80(2.0)});
}

#[test]
fn control() {
    check("fninit", regs! {fcw: 0x7f, fsw: 0x3800, ftag: 0xff}, expect! {fcw: 0x37f, fsw: 0, ftag: 0});
    check("fnstcw [rsi]", regs! {rsi: D, fcw: 0x27f}, expect! {[DATA; 2]: 0x27f});
    check("fldcw [rsi]", regs! {rsi: D, [DATA; 2]: 0xc7f}, expect! {fcw: 0xc7f});
    check("fnclex", regs! {fsw: 0x80ff, fcw: 0x340}, expect! {fsw: 0});
    check("ffree st0", regs! {st0: f80(1.0)}, expect! {ftag: 0});
    check("fdecstp; fincstp; fnop", regs! {}, expect! {fsw: 0});
    // An unmasked exception is reported by the next waiting instruction.
    check(
        "fdiv st0, st1; nop; fld1",
        regs! {fcw: 0x37b, st0: f80(1.0), st1: f80(0.0)},
        expect! {fault: MF, rip: CODE as i128 + 3},
    );
    check("fnstsw ax", regs! {rax: 0, fcw: 0x37b, fsw: 0x8084}, expect! {rax: 0x8084});
    check("wait", regs! {fcw: 0x37b, fsw: 0x8084}, expect! {fault: MF});
}

#[test]
fn transcendental() {
    check("fsin", regs! {st0: f80(0.0)}, expect! {st0: f80(0.0)});
    check("fcos", regs! {st0: f80(0.0)}, expect! {st0: f80(1.0)});
    check("f2xm1", regs! {st0: f80(1.0)}, expect! {st0: f80(1.0)});
    check("fyl2x", regs! {st0: f80(8.0), st1: f80(2.0)}, expect! {st0: f80(6.0)});
    check("fpatan", regs! {st0: f80(1.0), st1: f80(0.0)}, expect! {st0: f80(0.0)});
}

/// An unmasked underflow keeps FSTP from storing, but not from looking at the operand.
#[test]
fn suppressed_stores_check_alignment() {
    let before =
        |flags| regs! {flags: flags, rsi: i128::from(DATA) + 7, fcw: 0x36f, st0: 0x3001_8000_0000_0000_0001};
    check("fstp qword [rsi]", before(1 << 18), expect! {fault: AC, code: 0});
    check("fstp qword [rsi]", before(0), expect! {fsw: 0x8090});
}

/// CVTPI2PD from memory does not look at pending x87 exceptions; from an MMX register it does.
#[test]
fn conversions_and_pending_exceptions() {
    let before = || regs! {rsi: i128::from(DATA), fcw: 0x37e, fsw: 0x8081, [DATA; 8]: 0x2_0000_0001, xmm0: 0};
    check("cvtpi2pd xmm0, [rsi]", before(), expect! {xmm0: f64x2(2.0, 1.0)});
    check("cvtpi2pd xmm0, mm0", before(), expect! {fault: MF});
}
