//! PUSH, POP, CALL, RET, ENTER, LEAVE and the flags on the stack.

use super::*;

#[test]
fn push_and_pop() {
    check("push rax", regs! {rax: 0x1122}, expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: 0x1122});
    check("push rsp", regs! {}, expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: SP});
    check("push ax", regs! {rax: 0x1122}, expect! {rsp: SP - 2, [STACK_TOP - 2; 2]: 0x1122});
    check("push -1", regs! {}, expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: -1});
    check("push 0x12345678", regs! {}, expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: 0x12345678});
    check("push qword [rsi]", regs! {rsi: D, [DATA; 8]: 5}, expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: 5});
    check("pop rax", regs! {[STACK_TOP; 8]: 5}, expect! {rax: 5, rsp: SP + 8});
    check("pop rsp", regs! {[STACK_TOP; 8]: SP - 64}, expect! {rsp: SP - 64});
    check("pop cx", regs! {rcx: 0, [STACK_TOP; 2]: 5}, expect! {rcx: 5, rsp: SP + 2});
    check("pop qword [rsi]", regs! {rsi: D, [STACK_TOP; 8]: 5}, expect! {rsp: SP + 8, [DATA; 8]: 5});
    // An address by RSP is computed after the increment.
    check("pop qword [rsp]", regs! {[STACK_TOP; 8]: 5}, expect! {rsp: SP + 8, [STACK_TOP + 8; 8]: 5});
    check("push qword [rsp]", regs! {[STACK_TOP; 8]: 5}, expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: 5});
    check("push rax", regs! {rsp: STACK as i128}, expect! {fault: PAGE, code: 6, cr2: STACK as i128 - 8});
    check("push rax", regs! {rsp: 1 << 47}, expect! {fault: PAGE, code: 6, cr2: (1 << 47) - 8});
    check("push rax", regs! {rsp: (1 << 47) + 8}, expect! {fault: SS, code: 0});
    check("pop rax", regs! {rsp: 1 << 50}, expect! {fault: SS, code: 0});
    check("pop qword [rsi]", regs! {rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
    check("db 0x06", regs! {}, expect! {fault: UD});
}

#[test]
fn flags_on_the_stack() {
    check(
        "pushfq",
        regs! {flags: CF|ZF|DF},
        expect! {rsp: 0x30001ff8, flags: CF|ZF|DF, [STACK + 0x1ff8; 8]: 0x0000000000000643},
    );
    check("popfq", regs! {[STACK_TOP; 8]: 0xcd7}, expect! {rsp: SP + 8, flags: CF|PF|AF|ZF|SF|OF|DF});
    check("popfq", regs! {flags: CF|DF, [STACK_TOP; 8]: 0}, expect! {rsp: SP + 8, flags: NONE});
    // IF and IOPL are not the program's to change.
    check("popfq; pushfq", regs! {[STACK_TOP; 8]: 0x3000}, expect! {[STACK_TOP; 8]: 0x202, flags: NONE});
    check("pushfw", regs! {flags: CF}, expect! {rsp: SP - 2, [STACK_TOP - 2; 2]: 0x203});
    check("stc; pushfq; clc; popfq", regs! {}, expect! {[STACK_TOP - 8; 8]: 0x203, flags: CF});
}

#[test]
fn frames() {
    check("leave", regs! {rbp: SP - 64, [STACK_TOP - 64; 8]: 0x77}, expect! {rsp: SP - 56, rbp: 0x77});
    check("enter 32, 0", regs! {rbp: 0x77}, expect! {rsp: SP - 40, rbp: SP - 8, [STACK_TOP - 8; 8]: 0x77});
    check(
        "enter 16, 1",
        regs! {rbp: 0x77},
        expect! {rsp: SP - 32, rbp: SP - 8, [STACK_TOP - 8; 8]: 0x77, [STACK_TOP - 16; 8]: SP - 8},
    );
    check(
        "enter 0, 3",
        regs! {rbp: SP + 64, [STACK_TOP + 56; 8]: 0xaa, [STACK_TOP + 48; 8]: 0xbb},
        expect! {rsp: 0x30001fe0, rbp: 0x30001ff8, [STACK + 0x1fe0; 8]: 0x0000000030001ff8, [STACK + 0x1fe8; 8]: 0x00000000000000bb, [STACK + 0x1ff0; 8]: 0x00000000000000aa, [STACK + 0x1ff8; 8]: 0x0000000030002040},
    );
    check("leave", regs! {rbp: 1 << 50}, expect! {fault: SS, code: 0});
    check32(
        "pushad",
        regs! {eax: 1, ecx: 2, edx: 3, ebx: 4, ebp: 5, esi: 6, edi: 7},
        expect! {esp: 0x30001fe0, [STACK + 0x1fe0; 8]: 0x0000000600000007, [STACK + 0x1fe8; 8]: 0x3000200000000005, [STACK + 0x1ff0; 8]: 0x0000000300000004, [STACK + 0x1ff8; 8]: 0x0000000100000002},
    );
    check32(
        "popad",
        regs! {[STACK_TOP; 4]: 7, [STACK_TOP + 28; 4]: 1},
        expect! {eax: 0x1, ecx: 0x9d968f88, edx: 0x817a736c, ebx: 0x655e5750, esp: 0x30002020, ebp: 0x2d261f18, esi: 0x110a03fc, edi: 0x7},
    );
}

#[test]
fn calls() {
    // What is jumped to is an INT3.
    check(
        "call 0x10000100",
        regs! {},
        expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: CODE as i128 + 5, rip: CODE as i128 + 0x101},
    );
    check(
        "call rax",
        regs! {rax: CODE as i128 + 0x200},
        expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: CODE as i128 + 2, rip: CODE as i128 + 0x201},
    );
    check(
        "call qword [rsi]",
        regs! {rsi: D, [DATA; 8]: CODE as i128 + 0x200},
        expect! {rsp: SP - 8, [STACK_TOP - 8; 8]: CODE as i128 + 2, rip: CODE as i128 + 0x201},
    );
    check(
        "ret",
        regs! {[STACK_TOP; 8]: CODE as i128 + 0x300},
        expect! {rsp: SP + 8, rip: CODE as i128 + 0x301},
    );
    check(
        "ret 24",
        regs! {[STACK_TOP; 8]: CODE as i128 + 0x300},
        expect! {rsp: SP + 32, rip: CODE as i128 + 0x301},
    );
    check("call rax", regs! {rax: 1 << 50}, expect! {fault: GP, code: 0});
    check("jmp rax", regs! {rax: 1 << 47}, expect! {fault: GP, code: 0});
    check("ret", regs! {[STACK_TOP; 8]: 1 << 63}, expect! {fault: GP, code: 0});
    check(
        "call rax",
        regs! {rax: 0x1234},
        expect! {fault: PAGE, code: 0x15, cr2: 0x1234, rip: 0x1234, rsp: SP - 8, [STACK_TOP - 8; 8]: CODE as i128 + 2},
    );
    check(
        "call rax",
        regs! {rsp: STACK as i128, rax: CODE as i128},
        expect! {fault: PAGE, code: 6, cr2: STACK as i128 - 8},
    );
    // Code is not writable, the stack not executable.
    check("mov [rsi], eax", regs! {rsi: CODE as i128}, expect! {fault: PAGE, code: 7, cr2: CODE as i128});
    check("jmp rsp", regs! {}, expect! {fault: PAGE, code: 0x15, cr2: SP, rip: SP});
    check(
        "call rsi",
        regs! {rsi: D + 8},
        expect! {fault: PAGE, code: 0x15, cr2: D + 8, rip: D + 8, rsp: SP - 8, [STACK_TOP - 8; 8]: CODE as i128 + 2},
    );
}
