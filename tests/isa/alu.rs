//! Addition, subtraction, logic.

use super::*;

#[test]
fn add_sets_all_flags() {
    check("add eax, ecx", regs! {eax: 1, ecx: !0}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check("add al, cl", regs! {rax: 0x7f, rcx: 1}, expect! {rax: 0x80, flags: SF|OF|AF});
    check(
        "add [rsi], rax",
        regs! {rax: 1, rsi: DATA as i128, [DATA; 8]: !0},
        expect! {[DATA; 8]: 0, flags: CF|ZF|PF|AF},
    );
    check(
        "add dword [rsi], 5",
        regs! {rsi: READ_ONLY as i128},
        expect! {fault: PAGE, code: 7, cr2: READ_ONLY as i128},
    );
    check("mov eax, [rsi]", regs! {rsi: 0x123456}, expect! {fault: PAGE, code: 4, cr2: 0x123456});
    check("mov eax, [rsi]", regs! {rsi: 1 << 50}, expect! {fault: GP, code: 0});
    check("div ecx", regs! {ecx: 0}, expect! {fault: DE});
    check(
        "addps xmm0, xmm1",
        regs! {xmm0: f32x4(1.0, 2.0, 3.0, 4.0), xmm1: f32x4(1.0, 1.0, 1.0, 1.0)},
        expect! {xmm0: f32x4(2.0, 3.0, 4.0, 5.0)},
    );
    check("addpd xmm0, xmm1", regs! {xmm0: f64x2(1.0, 2.0), xmm1: v(0, 0)}, expect! {xmm0: f64x2(1.0, 2.0)});
    check("fadd st0, st1", regs! {st0: f80(1.5), st1: f80(2.0)}, expect! {st0: f80(3.5)});
    check32("add eax, ecx", regs! {eax: 1, ecx: !0}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check32(
        "push eax",
        regs! {eax: 0x1234},
        expect! {esp: (STACK_TOP - 4) as i128, [STACK_TOP - 4; 4]: 0x1234},
    );
    check16("add ax, cx", regs! {ax: 1, cx: !0}, expect! {ax: 0, flags: CF|ZF|PF|AF});
    check16("add [si], cx", regs! {si: 16, cx: 1, [DATA + 16; 2]: 0xff}, expect! {[DATA + 16; 2]: 0x100});
    Check::new(Bits::Flat32, "cli").kernel().run();
}
