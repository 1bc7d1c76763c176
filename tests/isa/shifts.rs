//! Shifts and rotates: by 0, 1, CL, more than the operand has, through the carry.

use super::*;

#[test]
fn left() {
    check("shl eax, 1", regs! {eax: 0x4000_0001}, expect! {eax: 0x8000_0002, flags: OF|SF});
    check("shl eax, 4", regs! {eax: 0xf000_0001}, expect! {eax: 0x10, flags: CF});
    check("shl eax, cl", regs! {eax: 1, rcx: 31}, expect! {eax: 1 << 31, flags: SF|PF});
    check("shl rax, cl", regs! {rax: 1, rcx: 63}, expect! {rax: 1 << 63, flags: SF|PF});
    // The count is taken modulo 32 (64), and 0 leaves the flags alone.
    check(
        "shl eax, cl",
        regs! {rax: !0, rcx: 32, flags: CF|ZF|OF},
        expect! {rax: 0xffff_ffff, flags: CF|ZF|OF},
    );
    check("shl rax, cl", regs! {rax: 3, rcx: 64, flags: CF|ZF|OF}, expect! {flags: CF|ZF|OF});
    check("shl eax, 0", regs! {rax: !0, flags: SF}, expect! {rax: 0xffff_ffff, flags: SF});
    check("shl al, cl", regs! {rax: 0xff, rcx: 9}, expect! {rax: 0, flags: ZF|PF});
    check("shl ax, cl", regs! {rax: 0xffff, rcx: 17}, expect! {rax: 0, flags: ZF|PF});
    check("shl ax, cl", regs! {rax: 1, rcx: 15}, expect! {rax: 0x8000, flags: SF|PF});
    check("shl dword [rsi], 3", regs! {rsi: D, [DATA; 4]: 0x2000_0001}, expect! {[DATA; 4]: 8, flags: CF});
    check("shl byte [rsi], cl", regs! {rcx: 0, rsi: D, flags: CF}, expect! {flags: CF});
    check("shl byte [rsi], cl", regs! {rcx: 0, rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
    check("shlx eax, ecx, edx", regs! {ecx: 3, edx: 33, flags: CF|ZF}, expect! {rax: 6, flags: CF|ZF});
    check("shlx rax, [rsi], rdx", regs! {rdx: 65, rsi: D, [DATA; 8]: 3}, expect! {rax: 6});
}

#[test]
fn right() {
    check("shr eax, 1", regs! {eax: 0x8000_0001}, expect! {eax: 0x4000_0000, flags: CF|OF|PF});
    check("shr eax, cl", regs! {eax: 0x8000_0000, rcx: 31}, expect! {eax: 1, flags: NONE});
    check("shr rax, 63", regs! {rax: !0}, expect! {rax: 1, flags: CF});
    check("shr al, cl", regs! {rax: 0x1ff, rcx: 4}, expect! {rax: 0x10f, flags: CF|PF});
    check("shr ah, 1", regs! {rax: 0x8100}, expect! {rax: 0x4000, flags: CF|OF});
    check(
        "shr word [rsi], cl",
        regs! {rcx: 8, rsi: D, [DATA; 2]: 0x1280},
        expect! {[DATA; 2]: 0x12, flags: CF|PF},
    );
    check("sar eax, 1", regs! {eax: 0x8000_0001}, expect! {eax: 0xc000_0000, flags: CF|SF|PF});
    check("sar eax, cl", regs! {eax: 0x8000_0000, rcx: 31}, expect! {eax: !0, flags: SF|PF});
    check("sar al, cl", regs! {rax: 0x80, rcx: 31}, expect! {rax: 0xff, flags: CF|SF|PF});
    check("sar rax, cl", regs! {rax: -5, rcx: 1}, expect! {rax: -3, flags: CF|SF});
    check("sar word [rsi], 15", regs! {rsi: D, [DATA; 2]: 0x7fff}, expect! {[DATA; 2]: 0, flags: CF|ZF|PF});
    check("sarx rax, rcx, rdx", regs! {rcx: -8, rdx: 2}, expect! {rax: -2});
    check("shrx eax, ecx, edx", regs! {ecx: -8, edx: 28}, expect! {rax: 0xf});
}

#[test]
fn rotate() {
    check("rol eax, 1", regs! {eax: 0x8000_0000}, expect! {eax: 1, flags: CF|OF});
    check(
        "rol eax, cl",
        regs! {eax: 0x1234_5678, rcx: 8, flags: ZF|SF},
        expect! {eax: 0x3456_7812, flags: ZF|SF},
    );
    check("rol eax, cl", regs! {eax: 0x1234_5678, rcx: 32, flags: CF|OF}, expect! {flags: CF|OF});
    // A byte turns full circle: CF is set from it all the same.
    check("rol al, cl", regs! {rax: 0x81, rcx: 8}, expect! {flags: CF});
    check("rol al, 9", regs! {rax: 0x81}, expect! {rax: 3, flags: CF});
    check("rol rax, 4", regs! {rax: 0x1234_5678_9abc_def0}, expect! {rax: 0x2345_6789_abcd_ef01, flags: CF});
    check("ror eax, 1", regs! {eax: 1}, expect! {eax: 1 << 31, flags: CF|OF});
    check("ror ax, cl", regs! {rax: 0x1234, rcx: 4}, expect! {rax: 0x4123, flags: NONE});
    check("ror byte [rsi], cl", regs! {rcx: 16, rsi: D, [DATA; 1]: 0x80}, expect! {flags: CF});
    check("ror rax, cl", regs! {rax: 1, rcx: 1}, expect! {rax: 1 << 63, flags: CF|OF});
    check("rorx eax, ecx, 8", regs! {ecx: 0x12345678, flags: CF}, expect! {rax: 0x78123456, flags: CF});
}

#[test]
fn through_the_carry() {
    check("rcl eax, 1", regs! {eax: 0x8000_0000, flags: CF}, expect! {eax: 1, flags: CF|OF});
    check("rcl eax, 1", regs! {eax: 0x8000_0000}, expect! {eax: 0, flags: CF|OF});
    check("rcl al, cl", regs! {rax: 0x80, rcx: 9, flags: CF}, expect! {flags: CF});
    check("rcl al, cl", regs! {rax: 0x80, rcx: 10}, expect! {rax: 0, flags: CF});
    check("rcl ax, cl", regs! {rax: 1, rcx: 17}, expect! {flags: NONE});
    check("rcl ax, cl", regs! {rax: 1, rcx: 16}, expect! {rax: 0, flags: CF});
    check("rcl eax, cl", regs! {rax: 1, rcx: 31}, expect! {rax: 0x8000_0000});
    check("rcl rax, cl", regs! {rax: 1, rcx: 63, flags: CF}, expect! {rax: 0xc000000000000000});
    check("rcr eax, 1", regs! {eax: 1, flags: CF}, expect! {eax: 1 << 31, flags: CF|OF});
    check("rcr eax, 1", regs! {eax: 0, flags: CF}, expect! {eax: 1 << 31, flags: OF});
    check("rcr rax, 4", regs! {rax: 0xf}, expect! {rax: 0xe000000000000000, flags: CF});
    check("rcr al, cl", regs! {rax: 0x01, rcx: 9}, expect! {flags: NONE});
    check(
        "rcr word [rsi], 1",
        regs! {rsi: D, [DATA; 2]: 1, flags: CF},
        expect! {[DATA; 2]: 0x8000, flags: CF|OF},
    );
    check("rcr eax, cl", regs! {rax: !0, rcx: 0, flags: CF}, expect! {rax: 0xffff_ffff, flags: CF});
}

#[test]
fn double() {
    check(
        "shld eax, ecx, 4",
        regs! {eax: 0x1234_5678, ecx: 0xf000_0000},
        expect! {eax: 0x2345_678f, flags: CF},
    );
    check(
        "shld eax, ecx, cl",
        regs! {eax: 0x1234_5678, ecx: 0xf000_0004},
        expect! {eax: 0x2345_678f, flags: CF},
    );
    check("shld rax, rdx, cl", regs! {rax: 1, rdx: 1 << 63, rcx: 1}, expect! {rax: 3, flags: PF});
    check("shld eax, ecx, 0", regs! {rax: !0, flags: CF|ZF}, expect! {rax: 0xffff_ffff, flags: CF|ZF});
    check("shld ax, cx, 16", regs! {rax: 1, rcx: 0x8000}, expect! {rax: 0x8000, flags: CF|PF|SF});
    check(
        "shld [rsi], edx, 8",
        regs! {edx: 0xab00_0000, rsi: D, [DATA; 4]: 0x0123_4567},
        expect! {flags: CF, [DATA; 4]: 0x234567ab},
    );
    check("shrd eax, ecx, 4", regs! {eax: 0x1234_5678, ecx: 0xf}, expect! {eax: 0xf123_4567, flags: CF|SF});
    check("shrd rax, rdx, cl", regs! {rax: 1, rdx: 1, rcx: 1}, expect! {rax: 1 << 63, flags: CF|OF|SF|PF});
    check("shrd ax, dx, cl", regs! {rax: 0x1234, rdx: 0xf, rcx: 4}, expect! {rax: 0xf123, flags: SF});
    check(
        "shrd [rsi], dx, 1",
        regs! {rdx: 1, rsi: D, [DATA; 2]: 0},
        expect! {[DATA; 2]: 0x8000, flags: OF|SF|PF},
    );
    check("shrd [rsi], rdx, cl", regs! {rcx: 64, rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
}
