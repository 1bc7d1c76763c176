//! String instructions: REP with 0, 1 and more, both directions, faults half-way.

use super::*;

#[test]
fn single() {
    check(
        "movsb",
        regs! {rsi: D, rdi: D + 64, [DATA; 1]: 0xaa},
        expect! {rsi: D + 1, rdi: D + 65, [DATA + 64; 1]: 0xaa},
    );
    check(
        "movsq",
        regs! {rsi: D + 8, rdi: D + 64, flags: DF, [DATA + 8; 8]: 7},
        expect! {rsi: D, rdi: D + 56, [DATA + 64; 8]: 7},
    );
    check("stosd", regs! {eax: 5, rdi: D}, expect! {rdi: D + 4, [DATA; 4]: 5});
    check("stosw", regs! {eax: 5, rdi: D, flags: DF}, expect! {rdi: D - 2, [DATA; 2]: 5});
    check("lodsb", regs! {rax: 0, rsi: D, [DATA; 1]: 0x80}, expect! {rax: 0x80, rsi: D + 1});
    check("lodsd", regs! {rax: -1, rsi: D, [DATA; 4]: 5}, expect! {rax: 5, rsi: D + 4});
    check("lodsq", regs! {rsi: D, flags: DF, [DATA; 8]: 5}, expect! {rax: 5, rsi: D - 8});
    check("scasb", regs! {rax: 5, rdi: D, [DATA; 1]: 5}, expect! {rdi: D + 1, flags: ZF|PF});
    check("scasq", regs! {rax: 5, rdi: D, [DATA; 8]: 6}, expect! {rdi: D + 8, flags: CF|SF|PF|AF});
    check(
        "cmpsb",
        regs! {rsi: D, rdi: D + 8, [DATA; 1]: 1, [DATA + 8; 1]: 2},
        expect! {rsi: D + 1, rdi: D + 9, flags: CF|SF|PF|AF},
    );
}

#[test]
fn repeated() {
    check("rep movsb", regs! {rcx: 0, rsi: 1, rdi: 2}, expect! {});
    check(
        "rep movsb",
        regs! {rcx: 1, rsi: D, rdi: D + 64, [DATA; 1]: 9},
        expect! {rcx: 0, rsi: D + 1, rdi: D + 65, [DATA + 64; 1]: 9},
    );
    check(
        "rep movsd",
        regs! {rcx: 3, rsi: D, rdi: D + 64, [DATA; 12]: 0x11_2233_4455_6677_8899},
        expect! {rcx: 0, rsi: D + 12, rdi: D + 76, [DATA + 64; 12]: 0x11_2233_4455_6677_8899},
    );
    check(
        "rep stosb",
        regs! {rax: 0xaa, rcx: 16, rdi: D + 0xff8},
        expect! {rcx: 0, rdi: D + 0x1008, [DATA + 0xff8; 8]: 0xaaaa_aaaa_aaaa_aaaa, [DATA + 0x1000; 8]: 0xaaaa_aaaa_aaaa_aaaa},
    );
    check(
        "rep stosq",
        regs! {rax: 0, rcx: 2, rdi: D + 8, flags: DF},
        expect! {rcx: 0, rdi: D - 8, [DATA; 16]: 0},
    );
    check(
        "rep lodsb",
        regs! {rax: 0, rcx: 5, rsi: D, [DATA + 4; 1]: 0x33},
        expect! {rax: 0x33, rcx: 0, rsi: D + 5},
    );
    check(
        "repne scasb",
        regs! {rax: 7, rcx: 10, rdi: D, [DATA; 8]: 0x0700_0000, flags: NONE},
        expect! {rcx: 6, rdi: D + 4, flags: ZF|PF},
    );
    check(
        "repe scasb",
        regs! {rax: 0, rcx: 3, rdi: D, [DATA; 8]: 0},
        expect! {rcx: 0, rdi: D + 3, flags: ZF|PF},
    );
    check("repe scasb", regs! {rax: 0, rcx: 0, rdi: D, flags: CF}, expect! {flags: CF});
    check(
        "repe cmpsb",
        regs! {rcx: 8, rsi: D, rdi: D + 16, [DATA; 8]: 0x5_0000_0000, [DATA + 16; 8]: 0x4_0000_0000},
        expect! {rcx: 3, rsi: D + 5, rdi: D + 21, flags: NONE},
    );
    check(
        "repne cmpsd",
        regs! {rcx: 2, rsi: D, rdi: D + 16, [DATA; 8]: 1, [DATA + 16; 8]: 2},
        expect! {rcx: 0, rsi: D + 8, rdi: D + 24, flags: ZF|PF},
    );
    // Overlap: forwards it repeats what was just written.
    check(
        "rep movsb",
        regs! {rcx: 7, rsi: D, rdi: D + 1, [DATA; 1]: 0x5a},
        expect! {rcx: 0, rsi: D + 7, rdi: D + 8, [DATA; 8]: 0x5a5a_5a5a_5a5a_5a5a},
    );
    check(
        "rep movsw",
        regs! {rcx: 4, rsi: D + 6, rdi: D + 8, flags: DF, [DATA; 8]: 0x0004_0003_0002_0001},
        expect! {rcx: 0, rsi: D - 2, rdi: D, [DATA + 2; 8]: 0x0004_0003_0002_0001},
    );
    // With a 32-bit address size the count is ECX, and the upper halves are cleared.
    check(
        "db 0x67, 0xf3, 0xaa",
        regs! {rax: 1, rcx: (1 << 32) + 2, rdi: (1 << 40) + D},
        expect! {rcx: 0, rdi: D + 2, [DATA; 2]: 0x101},
    );
}

/// A fault leaves the registers where the iterations before it brought them.
#[test]
fn stopped() {
    check(
        "rep stosb",
        regs! {rax: 0, rcx: 20, rdi: RO - 3},
        expect! {fault: PAGE, code: 7, cr2: RO, rcx: 17, rdi: RO, [READ_ONLY - 3; 3]: 0},
    );
    check(
        "rep movsq",
        regs! {rcx: 4, rsi: RO + 0xff0, rdi: D},
        expect! {fault: PAGE, code: 0x4, cr2: RO + 0x1000, rcx: 0x2, rsi: RO + 0x1000, rdi: D + 0x10, [DATA; 8]: 0xafa8a19a938c857e, [DATA + 0x8; 8]: 0xe7e0d9d2cbc4bdb6},
    );
    check("repe cmpsb", regs! {rcx: 4, rsi: D, rdi: 0x1234}, expect! {fault: PAGE, code: 5, cr2: 0x1234});
    // Iterations are done, and RFLAGS is as before them (SDM vol. 2, REP).
    for line in ["repne scasb", "repne cmpsb"] {
        check(
            line,
            regs! {rax: 1, rcx: 8, rsi: D, rdi: RO + 0xffe, flags: CF|OF, [DATA; 4]: 0x0101_0101},
            match line {
                "repne scasb" => {
                    expect! {fault: PAGE, code: 4, cr2: RO + 0x1000, rcx: 6, rdi: RO + 0x1000, flags: CF|OF}
                }
                _ => {
                    expect! {fault: PAGE, code: 4, cr2: RO + 0x1000, rcx: 6, rsi: D + 2, rdi: RO + 0x1000, flags: CF|OF}
                }
            },
        );
    }
    check("rep movsb", regs! {rcx: 4, rsi: 1 << 50, rdi: D}, expect! {fault: GP, code: 0});
    check("rep stosb", regs! {rcx: 4, rdi: 1 << 50}, expect! {fault: GP, code: 0});
}

#[test]
fn overridden_segment() {
    check("db 0x64, 0xac", regs! {rax: 0, fs_base: D, rsi: 5, [DATA + 5; 1]: 9}, expect! {rax: 9, rsi: 6});
    check(
        "db 0x65, 0xa4",
        regs! {gs_base: D, rsi: 5, rdi: D + 64, [DATA + 5; 1]: 9},
        expect! {rsi: 6, rdi: D + 65, [DATA + 64; 1]: 9},
    );
    // The destination's segment cannot be overridden.
    check("db 0x64, 0xaa", regs! {rax: 3, fs_base: 0x1000, rdi: D}, expect! {rdi: D + 1, [DATA; 1]: 3});
}
