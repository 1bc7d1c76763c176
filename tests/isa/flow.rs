//! Jumps and loops.

use super::*;

/// Jumps over `inc eax` or not.
fn taken(cc: &str, set: i128, jumps: bool) {
    let line = format!("{cc} 0x10000004; inc eax");
    check(
        &line,
        regs! {eax: 1, flags: set},
        if jumps {
            expect! {rax: 1}
        } else {
            expect! {rax: 2}
        },
    );
}

#[test]
fn conditional() {
    for (cc, set, jumps) in [
        ("je", ZF, true),
        ("je", CF, false),
        ("jne", ZF, false),
        ("jne", NONE, true),
        ("jb", CF, true),
        ("jae", CF, false),
        ("jbe", ZF, true),
        ("ja", CF, false),
        ("ja", NONE, true),
        ("jl", SF, true),
        ("jl", SF | OF, false),
        ("jge", OF, false),
        ("jle", ZF, true),
        ("jg", NONE, true),
        ("jg", ZF, false),
        ("js", SF, true),
        ("jns", SF, false),
        ("jo", OF, true),
        ("jno", OF, false),
        ("jp", PF, true),
        ("jnp", PF, false),
    ] {
        taken(cc, set, jumps);
    }
}

#[test]
fn after_arithmetic() {
    check("cmp eax, ecx; jl 0x10000006; inc edx", regs! {eax: 1 << 31, ecx: 1, edx: 1}, expect! {rdx: 1});
    check("sub eax, 1; jb 0x10000007; inc edx", regs! {eax: 1, edx: 1}, expect! {rax: 0, rdx: 2});
    check("test eax, eax; js 0x10000006; inc edx", regs! {eax: 1 << 31, edx: 1}, expect! {rdx: 1});
    check(
        "shl eax, cl; jb 0x10000006; inc edx",
        regs! {eax: 1 << 31, ecx: 1, edx: 1},
        expect! {rax: 0, rdx: 1},
    );
    check("inc eax; jb 0x10000006; inc edx", regs! {eax: 1, edx: 1, flags: CF}, expect! {rax: 2, rdx: 1});
    check("add al, 1; jp 0x10000006; inc edx", regs! {rax: 0xff, edx: 1}, expect! {rax: 0, rdx: 1});
}

#[test]
fn unconditional() {
    check("jmp 0x10000004; inc eax", regs! {eax: 1}, expect! {rax: 1});
    check("jmp rcx; inc eax", regs! {eax: 1, rcx: CODE as i128 + 4}, expect! {rax: 1});
    check("jmp qword [rsi]; inc eax", regs! {eax: 1, rsi: D, [DATA; 8]: CODE as i128 + 4}, expect! {rax: 1});
    check("jmp rcx", regs! {rcx: 0x1234}, expect! {fault: PAGE, code: 0x15, cr2: 0x1234, rip: 0x1234});
}

#[test]
fn loops() {
    check("inc eax; loop 0x10000000", regs! {eax: 0, rcx: 5}, expect! {rax: 5, rcx: 0});
    check("inc eax; dec ecx; jne 0x10000000", regs! {eax: 0, rcx: 100}, expect! {rax: 100, rcx: 0});
    check("inc eax; cmp eax, 3; loopne 0x10000000", regs! {eax: 0, rcx: 100}, expect! {rax: 3, rcx: 97});
    check("inc eax; cmp eax, eax; loope 0x10000000", regs! {eax: 0, rcx: 2}, expect! {rax: 2, rcx: 0});
    check("loop 0x10000004; inc eax", regs! {eax: 1, rcx: 0}, expect! {rax: 1, rcx: !0});
    check("jrcxz 0x10000004; inc eax", regs! {eax: 1, rcx: 0}, expect! {rax: 1});
    check("jrcxz 0x10000004; inc eax", regs! {eax: 1, rcx: 1 << 32}, expect! {rax: 2});
    check("jecxz 0x10000005; inc eax", regs! {eax: 1, rcx: 1 << 32}, expect! {rax: 1});
}
