//! Addition, subtraction, logic, comparison, in all widths and forms.

use super::*;

#[test]
fn add() {
    check("add eax, ecx", regs! {eax: 1, ecx: !0}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check("add al, cl", regs! {rax: 0x7f, rcx: 1}, expect! {rax: 0x80, flags: SF|OF|AF});
    check("add ah, ch", regs! {rax: 0x1234, rcx: 0xf000}, expect! {rax: 0x234, flags: CF});
    check("add ax, cx", regs! {rax: 0x1_8000, rcx: 0x8000}, expect! {rax: 0x1_0000, flags: CF|ZF|OF|PF});
    check("add rax, rcx", regs! {rax: 1 << 63, rcx: 1 << 63}, expect! {rax: 0, flags: CF|OF|ZF|PF});
    check("add eax, 5", regs! {rax: !0}, expect! {rax: 4, flags: CF|AF});
    check("add rax, -1", regs! {rax: 0}, expect! {rax: !0, flags: SF|PF});
    check("add r8d, r15d", regs! {r8: !0, r15: 2}, expect! {r8: 1, flags: CF|AF});
    check("add sil, r9b", regs! {rsi: 0x100, r9: 0xff}, expect! {rsi: 0x1ff, flags: SF|PF});
}

#[test]
fn add_memory() {
    check(
        "add [rsi], rax",
        regs! {rax: 1, rsi: D, [DATA; 8]: !0},
        expect! {[DATA; 8]: 0, flags: CF|ZF|PF|AF},
    );
    check(
        "add [rsi], al",
        regs! {rax: 1, rsi: D, [DATA; 1]: 0xff},
        expect! {[DATA; 1]: 0, flags: CF|ZF|PF|AF},
    );
    check(
        "add [rsi], ax",
        regs! {rax: 1, rsi: D, [DATA; 2]: 0x7fff},
        expect! {[DATA; 2]: 0x8000, flags: OF|SF|PF|AF},
    );
    check(
        "add [rsi], eax",
        regs! {rax: 1, rsi: D + 1, [DATA + 1; 4]: 0xf},
        expect! {[DATA + 1; 4]: 0x10, flags: AF},
    );
    check(
        "add eax, [rsi+rcx*4]",
        regs! {rax: 1, rcx: 4, rsi: D, [DATA + 16; 4]: 2},
        expect! {rax: 3, flags: PF},
    );
    check(
        "add rax, [rsi+rcx*8-8]",
        regs! {rax: 1, rcx: 4, rsi: D, [DATA + 24; 8]: 2},
        expect! {rax: 3, flags: PF},
    );
    check("add dword [rsi], 5", regs! {rsi: D, [DATA; 4]: 1}, expect! {[DATA; 4]: 6, flags: PF});
    check("add word [rsi], 0x1234", regs! {rsi: D, [DATA; 2]: 1}, expect! {[DATA; 2]: 0x1235, flags: PF});
    // Across a page.
    check(
        "add [rsi], rax",
        regs! {rax: 1, rsi: D + 0xffc, [DATA + 0xffc; 8]: 0xffff_ffff},
        expect! {[DATA + 0xffc; 8]: 0x1_0000_0000, flags: PF|AF},
    );
    check("add [rsi], rax", regs! {rax: 1, rsi: RO - 4}, expect! {fault: PAGE, code: 7, cr2: RO});
    check(
        "add [rsi], rax",
        regs! {rax: 1, rsi: D + 0x5000 - 4},
        expect! {fault: PAGE, cr2: D + 0x4ffc, code: 7},
    );
}

#[test]
fn carry_in() {
    check("adc eax, ecx", regs! {eax: 1, ecx: 1, flags: CF}, expect! {eax: 3, flags: PF});
    check("adc eax, ecx", regs! {eax: !0, ecx: 0, flags: CF}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check("adc eax, ecx", regs! {eax: !0, ecx: !0, flags: CF}, expect! {eax: !0, flags: CF|SF|PF|AF});
    check("adc al, 0", regs! {rax: 0x7f, flags: CF}, expect! {rax: 0x80, flags: SF|OF|AF});
    check("adc rax, rcx", regs! {rax: !0, rcx: !0, flags: CF}, expect! {rax: !0, flags: CF|SF|PF|AF});
    check(
        "adc [rsi], ax",
        regs! {rax: 0xffff, rsi: D, [DATA; 2]: 0, flags: CF},
        expect! {[DATA; 2]: 0, flags: CF|ZF|PF|AF},
    );
    check("sbb eax, ecx", regs! {eax: 0, ecx: 0, flags: CF}, expect! {eax: !0, flags: CF|SF|PF|AF});
    check("sbb eax, ecx", regs! {eax: 0, ecx: !0, flags: CF}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check("sbb eax, eax", regs! {eax: 77, flags: CF}, expect! {eax: !0, flags: CF|SF|PF|AF});
    check("sbb rax, rax", regs! {rax: 77}, expect! {rax: 0, flags: ZF|PF});
    check("sbb al, 0x80", regs! {rax: 0, flags: CF}, expect! {rax: 0x7f, flags: CF|AF});
    check(
        "sbb [rsi], ecx",
        regs! {ecx: 1, rsi: D, [DATA; 4]: 1, flags: CF},
        expect! {[DATA; 4]: !0, flags: CF|SF|PF|AF},
    );
    check("adcx eax, ecx", regs! {eax: !0, ecx: 1, flags: OF|ZF}, expect! {eax: 0, flags: CF|OF|ZF});
    check("adox eax, ecx", regs! {eax: !0, ecx: 1, flags: CF}, expect! {eax: 0, flags: CF|OF});
    check("adox rax, rcx", regs! {rax: 1, rcx: 1, flags: OF|SF}, expect! {rax: 3, flags: SF});
}

#[test]
fn subtract_and_compare() {
    check("sub eax, ecx", regs! {eax: 0, ecx: 1}, expect! {eax: !0, flags: CF|SF|PF|AF});
    check("sub al, cl", regs! {rax: 0x80, rcx: 1}, expect! {rax: 0x7f, flags: OF|AF});
    check("sub rax, rax", regs! {rax: 5}, expect! {rax: 0, flags: ZF|PF});
    check("sub rsp, 8", regs! {}, expect! {rsp: 0x30001ff8, flags: AF});
    check("cmp eax, ecx", regs! {eax: 1 << 31, ecx: 1}, expect! {flags: OF|PF|AF});
    check("cmp al, 0xff", regs! {rax: 0x7f}, expect! {flags: CF|OF|SF});
    check("cmp [rsi], rax", regs! {rax: 5, rsi: RO, [READ_ONLY; 8]: 5}, expect! {flags: ZF|PF});
    check("cmp dword [rsi], -1", regs! {rsi: D, [DATA; 4]: !0}, expect! {flags: ZF|PF});
    check("cmp rax, 0x7fffffff", regs! {rax: 0}, expect! {flags: CF|AF|SF});
    check("neg eax", regs! {eax: 1}, expect! {eax: !0, flags: CF|SF|PF|AF});
    check("neg eax", regs! {eax: 0}, expect! {eax: 0, flags: ZF|PF});
    check("neg rax", regs! {rax: 1 << 63}, expect! {flags: CF|OF|SF|PF});
    check("neg byte [rsi]", regs! {rsi: D, [DATA; 1]: 0x10}, expect! {[DATA; 1]: 0xf0, flags: CF|SF|PF});
    check("inc eax", regs! {eax: !0, flags: CF}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check("inc al", regs! {rax: 0x7f}, expect! {rax: 0x80, flags: OF|SF|AF});
    check("dec rax", regs! {rax: 0, flags: CF}, expect! {rax: !0, flags: CF|SF|PF|AF});
    check("dec word [rsi]", regs! {rsi: D, [DATA; 2]: 0x8000}, expect! {[DATA; 2]: 0x7fff, flags: OF|PF|AF});
}

#[test]
fn logic() {
    check(
        "and eax, ecx",
        regs! {eax: 0xf0f0, ecx: 0xff00, flags: CF|OF|AF},
        expect! {eax: 0xf000, flags: PF},
    );
    check("and rax, -16", regs! {rax: 0x12345}, expect! {rax: 0x12340, flags: NONE});
    check("and al, 0x80", regs! {rax: 0xff}, expect! {rax: 0x80, flags: SF});
    check("or rax, rcx", regs! {rax: 1 << 63, rcx: 1}, expect! {rax: (1 << 63) + 1, flags: SF});
    check("or ax, 0x8000", regs! {rax: 0x10000}, expect! {rax: 0x18000, flags: SF|PF});
    check("or [rsi], cl", regs! {rcx: 1, rsi: D, [DATA; 1]: 2}, expect! {[DATA; 1]: 3, flags: PF});
    check("xor eax, eax", regs! {rax: !0, flags: CF|OF}, expect! {rax: 0, flags: ZF|PF});
    check(
        "xor [rsi], rax",
        regs! {rax: !0, rsi: D, [DATA; 8]: 0xff},
        expect! {[DATA; 8]: !0xff, flags: SF|PF},
    );
    check("test eax, ecx", regs! {eax: 2, ecx: 4}, expect! {flags: ZF|PF});
    check("test al, 1", regs! {rax: 3}, expect! {flags: NONE});
    check("test byte [rsi], 0x80", regs! {rsi: RO, [READ_ONLY; 1]: 0x81}, expect! {flags: SF});
    check("test rax, 0x40000000", regs! {rax: 0x40000000, flags: CF}, expect! {flags: PF});
    check("not eax", regs! {rax: 0, flags: CF|ZF}, expect! {rax: 0xffff_ffff, flags: CF|ZF});
    check("not word [rsi]", regs! {rsi: D, [DATA; 2]: 0x1234}, expect! {[DATA; 2]: 0xedcb});
    check("andn eax, ecx, edx", regs! {ecx: 0xff, edx: 0xf0f, flags: CF}, expect! {rax: 0xf00, flags: NONE});
}

#[test]
fn flags_themselves() {
    check("stc", regs! {}, expect! {flags: CF});
    check("clc", regs! {flags: CF|ZF}, expect! {flags: ZF});
    check("cmc", regs! {flags: CF}, expect! {flags: NONE});
    check("cmc", regs! {flags: ZF}, expect! {flags: CF|ZF});
    check("std", regs! {}, expect! {flags: DF});
    check("cld", regs! {flags: DF|CF}, expect! {flags: CF});
    check("lahf", regs! {rax: 0, flags: CF|ZF|OF}, expect! {rax: 0x4300, flags: CF|ZF|OF});
    check("sahf", regs! {rax: 0xff00, flags: OF}, expect! {flags: CF|PF|AF|ZF|SF|OF});
    check("sahf", regs! {rax: 0, flags: OF|CF|ZF}, expect! {flags: OF});
}

#[test]
fn locked() {
    check(
        "lock add [rsi], eax",
        regs! {eax: 1, rsi: D, [DATA; 4]: !0},
        expect! {[DATA; 4]: 0, flags: CF|ZF|PF|AF},
    );
    check(
        "lock sub [rsi], rax",
        regs! {rax: 1, rsi: D + 3, [DATA + 3; 8]: 0},
        expect! {[DATA + 3; 8]: !0, flags: CF|SF|PF|AF},
    );
    check(
        "lock and [rsi], ax",
        regs! {rax: 0xff, rsi: D, [DATA; 2]: 0xf0f},
        expect! {[DATA; 2]: 0xf, flags: PF},
    );
    check("lock or byte [rsi], 0x80", regs! {rsi: D, [DATA; 1]: 1}, expect! {[DATA; 1]: 0x81, flags: SF|PF});
    check(
        "lock xor [rsi], rax",
        regs! {rax: !0, rsi: D, [DATA; 8]: !0},
        expect! {[DATA; 8]: 0, flags: ZF|PF},
    );
    check(
        "lock adc [rsi], eax",
        regs! {eax: 1, rsi: D, [DATA; 4]: 1, flags: CF},
        expect! {[DATA; 4]: 3, flags: PF},
    );
    check(
        "lock sbb [rsi], eax",
        regs! {eax: 1, rsi: D, [DATA; 4]: 1, flags: CF},
        expect! {[DATA; 4]: !0, flags: CF|SF|PF|AF},
    );
    check(
        "lock inc qword [rsi]",
        regs! {rsi: D, [DATA; 8]: !0, flags: CF},
        expect! {[DATA; 8]: 0, flags: CF|ZF|PF|AF},
    );
    check("lock dec byte [rsi]", regs! {rsi: D, [DATA; 1]: 0}, expect! {[DATA; 1]: 0xff, flags: SF|PF|AF});
    check("lock not dword [rsi]", regs! {rsi: D, [DATA; 4]: 0}, expect! {[DATA; 4]: !0});
    check("lock neg dword [rsi]", regs! {rsi: D, [DATA; 4]: 1}, expect! {[DATA; 4]: !0, flags: CF|SF|PF|AF});
    // Across cache lines and pages.
    check(
        "lock add [rsi], rax",
        regs! {rax: 1, rsi: D + 0x3c, [DATA + 0x3c; 8]: 0xffff_ffff},
        expect! {[DATA + 0x3c; 8]: 0x1_0000_0000, flags: PF|AF},
    );
    check(
        "lock add [rsi], rax",
        regs! {rax: 1, rsi: D + 0xffd, [DATA + 0xffd; 8]: 0xffff_ffff},
        expect! {[DATA + 0xffd; 8]: 0x1_0000_0000, flags: PF|AF},
    );
    check("lock add [rsi], rax", regs! {rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
    // LOCK belongs to a memory destination.
    check("db 0xf0, 0x01, 0xc8", regs! {}, expect! {fault: UD});
    check("db 0xf0, 0x3b, 0x06", regs! {rsi: D}, expect! {fault: UD});
    check("db 0xf0, 0x90", regs! {}, expect! {fault: UD});
}

#[test]
fn exchange() {
    check("xchg eax, ecx", regs! {rax: !0, rcx: 1}, expect! {rax: 1, rcx: 0xffff_ffff});
    check("xchg al, ah", regs! {rax: 0x1234}, expect! {rax: 0x3412});
    check("xchg [rsi], rax", regs! {rax: 1, rsi: D, [DATA; 8]: 2}, expect! {rax: 2, [DATA; 8]: 1});
    check(
        "xchg [rsi], cx",
        regs! {rcx: 1, rsi: D + 0x3f, [DATA + 0x3f; 2]: 2},
        expect! {rcx: 2, [DATA + 0x3f; 2]: 1},
    );
    check("xchg rax, rax", regs! {}, expect! {});
    check("xchg eax, r8d", regs! {rax: !0, r8: !0}, expect! {rax: 0xffff_ffff, r8: 0xffff_ffff});
    check("xadd eax, ecx", regs! {eax: 5, ecx: !0}, expect! {eax: 4, ecx: 5, flags: CF|AF});
    check("xadd rax, rax", regs! {rax: 5}, expect! {rax: 10, flags: PF});
    check(
        "xadd [rsi], ecx",
        regs! {ecx: 1, rsi: D, [DATA; 4]: 7},
        expect! {rcx: 7, [DATA; 4]: 8, flags: NONE},
    );
    check(
        "lock xadd [rsi], cl",
        regs! {rcx: 1, rsi: D, [DATA; 1]: 0xff},
        expect! {rcx: 0xff, [DATA; 1]: 0, flags: CF|ZF|PF|AF},
    );
    check("cmpxchg ecx, edx", regs! {rax: 5, rcx: 5, rdx: 7}, expect! {rcx: 7, flags: ZF|PF});
    check(
        "cmpxchg ecx, edx",
        regs! {rax: (1 << 40) + 5, rcx: (1 << 40) + 6, rdx: 7},
        expect! {rax: 6, flags: CF|SF|PF|AF},
    );
    check(
        "cmpxchg ecx, edx",
        regs! {rax: (1 << 40) + 5, rcx: (1 << 41) + 5, rdx: !0},
        expect! {rcx: 0xffff_ffff, flags: ZF|PF},
    );
    check("cmpxchg cl, dl", regs! {rax: 5, rcx: 6, rdx: 7}, expect! {rax: 6, flags: CF|SF|PF|AF});
    check(
        "cmpxchg [rsi], rdx",
        regs! {rax: 5, rdx: 7, rsi: D, [DATA; 8]: 5},
        expect! {[DATA; 8]: 7, flags: ZF|PF},
    );
    check(
        "cmpxchg [rsi], dx",
        regs! {rax: 5, rdx: 7, rsi: D, [DATA; 2]: 6},
        expect! {rax: 6, flags: CF|SF|PF|AF},
    );
    check(
        "lock cmpxchg [rsi], edx",
        regs! {rax: 5, rdx: 7, rsi: D, [DATA; 4]: 5},
        expect! {[DATA; 4]: 7, flags: ZF|PF},
    );
    check(
        "lock cmpxchg [rsi], edx",
        regs! {rax: 5, rdx: 7, rsi: D, [DATA; 4]: 4},
        expect! {rax: 4, flags: NONE},
    );
    // The write cycle comes even when the compare fails.
    check(
        "cmpxchg [rsi], edx",
        regs! {rax: 5, rsi: RO, [READ_ONLY; 4]: 4},
        expect! {fault: PAGE, code: 7, cr2: RO},
    );
    check(
        "cmpxchg8b [rsi]",
        regs! {rax: 1, rdx: 2, rbx: 3, rcx: 4, rsi: D, [DATA; 8]: 0x2_0000_0001},
        expect! {[DATA; 8]: 0x4_0000_0003, flags: ZF},
    );
    check(
        "cmpxchg8b [rsi]",
        regs! {rax: 1, rdx: 2, rsi: D, [DATA; 8]: 0x9_0000_0008, flags: ZF|CF},
        expect! {rax: 8, rdx: 9, flags: CF},
    );
    check(
        "lock cmpxchg8b [rsi]",
        regs! {rax: 1, rdx: 2, rbx: 3, rcx: 4, rsi: D, [DATA; 8]: 0x2_0000_0001},
        expect! {[DATA; 8]: 0x4_0000_0003, flags: ZF},
    );
    check(
        "cmpxchg16b [rsi]",
        regs! {rax: 1, rdx: 2, rbx: 3, rcx: 4, rsi: D, [DATA; 16]: v(2, 1)},
        expect! {[DATA; 16]: v(4, 3), flags: ZF},
    );
    check(
        "lock cmpxchg16b [rsi]",
        regs! {rax: 1, rdx: 2, rsi: D, [DATA; 16]: v(8, 9)},
        expect! {rax: 9, rdx: 8, flags: NONE},
    );
    check("cmpxchg16b [rsi]", regs! {rsi: D + 8}, expect! {fault: GP, code: 0});
}

#[test]
fn decimal() {
    check32("daa", regs! {eax: 0x9a}, expect! {eax: 0, flags: CF|AF|ZF|PF});
    check32("daa", regs! {eax: 0x0f}, expect! {eax: 0x15, flags: AF});
    check32("das", regs! {eax: 0x05, flags: AF}, expect! {eax: 0xff, flags: AF|SF|CF|PF});
    check32("aaa", regs! {eax: 0x0b}, expect! {eax: 0x101, flags: AF|CF});
    check32("aas", regs! {eax: 0x0b}, expect! {eax: 0xff05, flags: CF|AF});
    check32("aam 10", regs! {eax: 77}, expect! {eax: 0x707, flags: NONE});
    check32("aam 0", regs! {eax: 77}, expect! {fault: DE});
    check32("aad 10", regs! {eax: 0x707}, expect! {eax: 77, flags: PF});
    check("db 0x27", regs! {}, expect! {fault: UD});
    check("db 0xd4, 0x0a", regs! {}, expect! {fault: UD});
}

/// The carry that ADC took from before the block counts for AF still when CF has been changed and the flags were written back.
#[test]
fn auxiliary_carry_after_a_rotate() {
    check(
        "adc edi, esi; ror ecx, 1; adcx eax, [rbx]",
        regs! {rdi: 0xf, rsi: 0, rcx: 2, rax: 0, rbx: D, [DATA; 4]: 0, flags: CF},
        expect! {rdi: 0x10, rcx: 1, flags: AF},
    );
}
