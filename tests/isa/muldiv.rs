//! Multiplication and division, with the faults.

use super::*;

#[test]
fn multiply() {
    check("mul cl", regs! {rax: 0xff, rcx: 0xff}, expect! {rax: 0xfe01, flags: CF|OF});
    check("mul cl", regs! {rax: 0x1f, rcx: 8}, expect! {rax: 0xf8, flags: NONE});
    check("mul cx", regs! {rax: 0x8000, rcx: 2, rdx: 0}, expect! {rax: 0, rdx: 1, flags: CF|OF});
    check("mul ecx", regs! {rax: !0, rcx: !0}, expect! {rax: 1, rdx: 0xffff_fffe, flags: CF|OF});
    check("mul rcx", regs! {rax: !0, rcx: !0}, expect! {rax: 1, rdx: !1, flags: CF|OF});
    check("mul qword [rsi]", regs! {rax: 3, rsi: D, [DATA; 8]: 5}, expect! {rax: 15, rdx: 0, flags: NONE});
    check("imul cl", regs! {rax: 0xff, rcx: 0xff}, expect! {rax: 1, flags: NONE});
    check("imul cl", regs! {rax: 0x80, rcx: 0xff}, expect! {rax: 0x80, flags: CF|OF});
    check("imul ecx", regs! {rax: 1 << 31, rcx: 2}, expect! {rax: 0, rdx: 0xffff_ffff, flags: CF|OF});
    check("imul rcx", regs! {rax: -3, rcx: 5}, expect! {rax: -15, rdx: !0, flags: NONE});
    check("imul eax, ecx", regs! {rax: 0x10000, rcx: 0x10000}, expect! {rax: 0, flags: CF|OF});
    check("imul ax, cx", regs! {rax: 0xffff, rcx: 5}, expect! {rax: 0xfffb, flags: NONE});
    check("imul rax, rcx, 100", regs! {rcx: -3}, expect! {rax: -300, flags: NONE});
    check("imul eax, [rsi], -7", regs! {rsi: D, [DATA; 4]: 7}, expect! {rax: 0xffff_ffcf, flags: NONE});
    check("imul ax, cx, 0x4000", regs! {rax: 0, rcx: 4}, expect! {rax: 0, flags: CF|OF});
    check(
        "mulx eax, edx, ecx",
        regs! {edx: !0, ecx: !0, flags: CF|ZF},
        expect! {rax: 0xffff_fffe, rdx: 1, flags: CF|ZF},
    );
    check("mulx rax, rbx, rcx", regs! {rdx: 3, rcx: 5}, expect! {rax: 0, rbx: 15});
}

#[test]
fn divide() {
    check("div cl", regs! {rax: 0x0064, rcx: 7}, expect! {rax: 0x020e});
    check("div cx", regs! {rax: 1, rdx: 1, rcx: 2}, expect! {rax: 0x8000, rdx: 1});
    check("div ecx", regs! {rax: 100, rdx: 0, rcx: 7}, expect! {rax: 14, rdx: 2});
    check("div rcx", regs! {rax: 0, rdx: 1, rcx: 2}, expect! {rax: 1 << 63, rdx: 0});
    check("div dword [rsi]", regs! {rax: 100, rdx: 0, rsi: D, [DATA; 4]: 9}, expect! {rax: 11, rdx: 1});
    check("div ecx", regs! {ecx: 0}, expect! {fault: DE});
    check("div ecx", regs! {rax: 0, rdx: 7, rcx: 7}, expect! {fault: DE});
    check("div cl", regs! {rax: 0x700, rcx: 7}, expect! {fault: DE});
    check("div rcx", regs! {rax: !0, rdx: 1, rcx: 1}, expect! {fault: DE});
    check("div qword [rsi]", regs! {rsi: D, [DATA; 8]: 0}, expect! {fault: DE});
    check("div qword [rsi]", regs! {rsi: 0x1234}, expect! {fault: PAGE, cr2: 0x1234, code: 5});
    check("idiv cl", regs! {rax: 0xfff9, rcx: 2}, expect! {rax: 0xfffd});
    check(
        "idiv cx",
        regs! {rax: -100, rdx: -1, rcx: 7},
        expect! {rax: 0xfffffffffffffff2, rdx: 0xfffffffffffffffe},
    );
    check("idiv ecx", regs! {eax: -100, edx: -1, ecx: 7}, expect! {eax: -14, edx: -2});
    check("idiv rcx", regs! {rax: 100, rdx: 0, rcx: -7}, expect! {rax: -14, rdx: 2});
    check("idiv ecx", regs! {eax: 1 << 31, edx: !0, ecx: -1}, expect! {fault: DE});
    check("idiv rcx", regs! {rax: 1 << 63, rdx: -1, rcx: -1}, expect! {fault: DE});
    check("idiv rcx", regs! {rax: 1 << 63, rdx: -1, rcx: 1}, expect! {rdx: 0});
    check("idiv cl", regs! {rax: 0x80, rcx: 1}, expect! {fault: DE});
    check("idiv cl", regs! {rax: 0xff80, rcx: 1}, expect! {rax: 0x80});
    check("idiv ecx", regs! {ecx: 0}, expect! {fault: DE});
}

#[test]
fn widen() {
    check("cbw", regs! {rax: 0x1280}, expect! {rax: 0xff80});
    check("cwde", regs! {rax: 0x1_8000}, expect! {rax: 0xffff_8000});
    check("cdqe", regs! {rax: 0x8000_0000}, expect! {rax: -0x8000_0000});
    check("cwd", regs! {rax: 0x8000, rdx: 1 << 20}, expect! {rdx: (1 << 20) + 0xffff});
    check("cdq", regs! {rax: 0x8000_0000}, expect! {rdx: 0xffff_ffff});
    check("cqo", regs! {rax: 1}, expect! {rdx: 0});
}
