//! Moves, addresses, conditional moves and sets, segment overrides.

use super::*;

#[test]
fn mov() {
    check("mov eax, ecx", regs! {rax: !0, rcx: 0x1_2345_6789}, expect! {rax: 0x2345_6789});
    check("mov ax, cx", regs! {rax: !0, rcx: 0x1234}, expect! {rax: -0xedcc});
    check("mov ah, cl", regs! {rax: 0, rcx: 0x12}, expect! {rax: 0x1200});
    check("mov rax, 0x1122334455667788", regs! {}, expect! {rax: 0x1122334455667788});
    check("mov rax, -1", regs! {}, expect! {rax: !0});
    check("mov eax, -1", regs! {}, expect! {rax: 0xffff_ffff});
    check("mov qword [rsi], -2", regs! {rsi: D}, expect! {[DATA; 8]: -2});
    check("mov byte [rsi], 0x7f", regs! {rsi: D}, expect! {[DATA; 1]: 0x7f});
    check("mov [rsi+0x10], cx", regs! {rcx: 0x1234, rsi: D}, expect! {[DATA + 16; 2]: 0x1234});
    check(
        "mov rcx, [rsi]",
        regs! {rsi: D + 0xffc, [DATA + 0xffc; 8]: 0x1122_3344_5566_7788},
        expect! {rcx: 0x1122_3344_5566_7788},
    );
    check(
        "mov [rsi], rcx",
        regs! {rcx: 0x1122_3344_5566_7788, rsi: D + 0x1fff},
        expect! {[DATA + 0x1fff; 8]: 0x1122_3344_5566_7788},
    );
    check("mov [rsi], rcx", regs! {rsi: RO - 1}, expect! {fault: PAGE, code: 7, cr2: RO});
    check("mov eax, [0x20000010]", regs! {[DATA + 16; 4]: 0xabcd}, expect! {rax: 0xabcd});
    check("movsx eax, cl", regs! {rcx: 0x80}, expect! {rax: 0xffff_ff80});
    check("movsx rax, cx", regs! {rcx: 0x8000}, expect! {rax: -0x8000});
    check("movsx ax, byte [rsi]", regs! {rax: 0, rsi: D, [DATA; 1]: 0xff}, expect! {rax: 0xffff});
    check("movsxd rax, ecx", regs! {rcx: 0x8000_0000}, expect! {rax: -0x8000_0000});
    check("movzx eax, ch", regs! {rcx: 0xab00}, expect! {rax: 0xab});
    check("movzx rax, word [rsi]", regs! {rsi: D, [DATA; 2]: 0xffff}, expect! {rax: 0xffff});
    check("movnti [rsi], rax", regs! {rax: 7, rsi: D}, expect! {[DATA; 8]: 7});
}

#[test]
fn addresses() {
    check("lea rax, [rsi+rcx*8+0x12345678]", regs! {rsi: 1, rcx: 2}, expect! {rax: 0x1234_5689});
    check("lea eax, [rsi+rcx]", regs! {rsi: 1 << 40, rcx: 3}, expect! {rax: 3});
    check("lea ax, [rsi]", regs! {rax: 0, rsi: 0x12345}, expect! {rax: 0x2345});
    check("lea rax, [esi+ecx*2]", regs! {rsi: -1, rcx: 1}, expect! {rax: 1});
    check("mov eax, [esi]", regs! {rsi: (1 << 40) + D, [DATA; 4]: 5}, expect! {rax: 5});
    check("mov eax, [rsp+8]", regs! {[STACK_TOP + 8; 4]: 9}, expect! {rax: 9});
    check("mov eax, [rbp+r12*4]", regs! {rbp: D, r12: 4, [DATA + 16; 4]: 8}, expect! {rax: 8});
    check("mov eax, [r13]", regs! {r13: D, [DATA; 4]: 8}, expect! {rax: 8});
    check("mov eax, [fs:0x10]", regs! {fs_base: D, [DATA + 16; 4]: 1}, expect! {rax: 1});
    check("mov [gs:rcx], eax", regs! {gs_base: D + 0x100, rcx: -0x100, eax: 3}, expect! {[DATA; 4]: 3});
    check("mov eax, [fs:rcx]", regs! {fs_base: 1 << 46, rcx: 1 << 46}, expect! {fault: GP, code: 0});
    check("lea rax, [fs:rcx]", regs! {rcx: 5}, expect! {rax: 5});
    check("rdfsbase rax", regs! {fs_base: D}, expect! {rax: D});
    check("wrgsbase rcx", regs! {rcx: D + 8}, expect! {gs_base: D + 8});
    check("wrfsbase rcx", regs! {rcx: 1 << 50}, expect! {fault: GP, code: 0});
    // Ignored prefixes: ES, CS, SS, DS.
    check("db 0x36, 0x8b, 0x06", regs! {rsi: 1 << 50}, expect! {fault: GP, code: 0});
    check("db 0x3e, 0x8b, 0x45, 0x00", regs! {rbp: 1 << 50}, expect! {fault: SS, code: 0});
    check("mov eax, [rbp]", regs! {rbp: 1 << 50}, expect! {fault: SS, code: 0});
    check("mov eax, [rsp+rax]", regs! {rax: 1 << 50}, expect! {fault: SS, code: 0});
    check("xlatb", regs! {rax: 0x1205, rbx: D, [DATA + 5; 1]: 0x77}, expect! {rax: 0x1277});
    check("nop dword [rax]", regs! {rax: 1}, expect! {});
    check("prefetcht0 [rax]", regs! {rax: 1 << 50}, expect! {});
    check("clflush [rsi]", regs! {rsi: D}, expect! {});
    check("mfence; lfence; sfence; pause", regs! {}, expect! {});
}

#[test]
fn conditions() {
    let all = |set: i128, yes: &[&str], no: &[&str]| {
        for cc in yes {
            check(&format!("set{cc} al"), regs! {rax: 0x1234, flags: set}, expect! {al: 1, flags: set});
            check(&format!("cmov{cc} rax, rcx"), regs! {rax: 1, rcx: 2, flags: set}, expect! {rax: 2});
        }
        for cc in no {
            check(&format!("set{cc} al"), regs! {rax: 0x1234, flags: set}, expect! {al: 0, flags: set});
            // A 32-bit destination's upper half is cleared in either case.
            check(
                &format!("cmov{cc} eax, ecx"),
                regs! {rax: -1, rcx: 2, flags: set},
                expect! {rax: 0xffff_ffff},
            );
        }
    };
    all(CF, &["b", "be", "ne"], &["ae", "a", "e", "l", "s", "o", "p"]);
    all(ZF, &["e", "be", "le", "ae"], &["ne", "a", "g", "b"]);
    all(SF, &["s", "l", "le", "ne"], &["ns", "ge", "g"]);
    all(OF, &["o", "l", "le"], &["no", "ge", "g"]);
    all(SF | OF, &["ge", "g", "s", "o"], &["l", "le"]);
    all(PF, &["p", "a", "g"], &["np", "be"]);
    check("cmove eax, [rsi]", regs! {rsi: 0x1234}, expect! {fault: PAGE, code: 5, cr2: 0x1234});
    check("cmp eax, ecx; setl dl", regs! {eax: 1 << 31, ecx: 1, edx: 0}, expect! {rdx: 1});
    check("sub eax, ecx; setbe dl; seto dh", regs! {eax: 1, ecx: 1, edx: 0}, expect! {rax: 0, rdx: 1});
    check("setne byte [rsi]", regs! {rsi: D, flags: ZF}, expect! {[DATA; 1]: 0});
}
