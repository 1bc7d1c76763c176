//! 32-bit and 16-bit code.

use super::*;

#[test]
fn flat_32_bit() {
    check32("add eax, ecx", regs! {eax: 1, ecx: !0}, expect! {eax: 0, flags: CF|ZF|PF|AF});
    check32("push eax", regs! {eax: 0x1234}, expect! {esp: SP - 4, [STACK_TOP - 4; 4]: 0x1234});
    check32("pop dword [esi]", regs! {esi: D, [STACK_TOP; 4]: 7}, expect! {esp: SP + 4, [DATA; 4]: 7});
    check32("inc eax", regs! {eax: !0}, expect! {eax: 0, flags: ZF|PF|AF});
    check32("mov eax, [esi+ecx*4]", regs! {esi: D, ecx: 2, [DATA + 8; 4]: 5}, expect! {eax: 5});
    check32("mov eax, [esi]", regs! {esi: -4}, expect! {fault: PAGE, code: 4, cr2: 0xffff_fffc});
    check32(
        "call 0x10000100",
        regs! {},
        expect! {esp: SP - 4, [STACK_TOP - 4; 4]: CODE as i128 + 5, rip: CODE as i128 + 0x101},
    );
    check32(
        "ret 8",
        regs! {[STACK_TOP; 4]: CODE as i128 + 0x100},
        expect! {esp: SP + 12, rip: CODE as i128 + 0x101},
    );
    check32(
        "rep stosd",
        regs! {eax: 7, ecx: 2, edi: D},
        expect! {ecx: 0, edi: D + 8, [DATA; 8]: 0x7_0000_0007},
    );
    check32("loop 0x10000000", regs! {ecx: 3}, expect! {ecx: 0});
    check32("lea eax, [ebx+esi*8+0x7fffffff]", regs! {ebx: 1, esi: 0x1000_0000}, expect! {eax: 0});
    check32("movaps xmm1, [esi]", regs! {esi: D, [DATA; 16]: v(1, 2)}, expect! {xmm1: v(1, 2)});
    check32(
        "cmpxchg8b [esi]",
        regs! {eax: 1, edx: 2, ebx: 3, ecx: 4, esi: D, [DATA; 8]: 0x2_0000_0001},
        expect! {[DATA; 8]: 0x4_0000_0003, flags: ZF},
    );
    check32("arpl ax, cx", regs! {eax: 0x10, ecx: 3}, expect! {eax: 0x13, flags: ZF});
    check32("arpl ax, cx", regs! {eax: 0x13, ecx: 1}, expect! {flags: NONE});
    check32("db 0xd6", regs! {flags: CF}, expect! {al: 0xff});
    check32("enter 8, 0; leave", regs! {}, expect! {[STACK_TOP - 4; 4]: 0x0606_0606});
    check32("pushfd", regs! {flags: CF}, expect! {esp: SP - 4, [STACK_TOP - 4; 4]: 0x203});
    // A 16-bit address and operand in 32-bit code.
    check32("db 0x67, 0x8d, 0x40, 0x01", regs! {ebx: 0x12345, esi: 0xfff0}, expect! {eax: 0x2336});
    check32("push ax", regs! {eax: 5}, expect! {esp: SP - 2, [STACK_TOP - 2; 2]: 5});
    check32("mov ax, ds", regs! {eax: 0}, expect! {eax: 0x2b});
    check32("mov ax, cs", regs! {eax: 0}, expect! {eax: 0x23});
    check32("mov eax, [fs:0]", regs! {}, expect! {fault: GP, code: 0});
}

#[test]
fn sixteen_bit() {
    check16("add ax, cx", regs! {ax: 1, cx: !0}, expect! {ax: 0, flags: CF|ZF|PF|AF});
    check16(
        "add [si], cx",
        regs! {si: 16, cx: 1, [DATA + 16; 2]: 0xff},
        expect! {[DATA + 16; 2]: 0x100, flags: AF|PF},
    );
    check16("mov ax, [bx+si+4]", regs! {bx: 8, si: 4, [DATA + 16; 2]: 5}, expect! {ax: 5});
    // Addresses wrap at 64 KiB.
    check16("mov ax, [bx+si]", regs! {bx: 0xfff0, si: 0x20, [DATA + 16; 2]: 5}, expect! {ax: 5});
    check16("mov ax, [bp]", regs! {bp: 0x2000, [STACK_TOP; 2]: 5}, expect! {ax: 5});
    check16("push ax", regs! {ax: 5}, expect! {sp: 0x1ffe, [STACK_TOP - 2; 2]: 5});
    check16("push eax", regs! {eax: 0x12345}, expect! {sp: 0x1ffc, [STACK_TOP - 4; 4]: 0x12345});
    check16("pop cx", regs! {ecx: 0, [STACK_TOP; 2]: 5}, expect! {ecx: 5, sp: 0x2002});
    check16(
        "pusha",
        regs! {ax: 1, cx: 2, dx: 3, bx: 4, bp: 5, si: 6, di: 7},
        expect! {esp: 0x1ff0, [STACK + 0x1ff0; 8]: 0x2000000500060007, [STACK + 0x1ff8; 8]: 0x0001000200030004},
    );
    check16("call 0x100", regs! {}, expect! {sp: 0x1ffe, [STACK_TOP - 2; 2]: 3, rip: 0x101});
    check16(
        "rep movsb",
        regs! {cx: 3, si: 0, di: 64, [DATA; 3]: 0x030201},
        expect! {cx: 0, si: 3, di: 67, [DATA + 64; 3]: 0x030201},
    );
    check16("loop 0", regs! {cx: 3}, expect! {cx: 0});
    check16("movzx eax, word [si]", regs! {si: 0, [DATA; 2]: 0xffff}, expect! {eax: 0xffff});
    check16("mov eax, [si]", regs! {si: 0, [DATA; 4]: 0x1234_5678}, expect! {eax: 0x1234_5678});
    check16("mov eax, [ebx+4]", regs! {ebx: 4, [DATA + 8; 4]: 7}, expect! {eax: 7});
    check16("aam 10", regs! {ax: 77}, expect! {eax: 0x1010707, flags: NONE});
    check16("div cl", regs! {ax: 100, cl: 0}, expect! {fault: DE});
}

#[test]
fn limits() {
    // Beyond the segment's limit of FFFFh, for data and for the stack.
    let at =
        |line: &str, before, expect| Check::new(Bits::Protected16, line).before(before).expect(expect).run();
    at("mov eax, [ebx]", regs! {ebx: 0x10000}, expect! {fault: GP, code: 0});
    at("mov eax, [ebx]", regs! {ebx: 0xfffd}, expect! {fault: GP, code: 0});
    at("mov eax, [ebp]", regs! {ebp: 0x10000}, expect! {fault: SS, code: 0});
    at("mov [cs:bx], ax", regs! {bx: 0}, expect! {fault: GP, code: 0});
    at("mov ax, [bx]", regs! {bx: 0xffff}, expect! {fault: GP, code: 0});
    at("mov al, [bx]", regs! {bx: 0x5000}, expect! {fault: PAGE, code: 4, cr2: D + 0x5000});
}
