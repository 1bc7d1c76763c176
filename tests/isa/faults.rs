//! Exceptions: which, with which error code, with what left untouched.

use super::*;

#[test]
fn undefined() {
    check("ud2", regs! {}, expect! {fault: UD});
    check("db 0x0f, 0x0b", regs! {}, expect! {fault: UD});
    check("db 0x0f, 0xff, 0xc0", regs! {}, expect! {fault: UD});
    check("db 0x0e", regs! {}, expect! {fault: UD});
    check("db 0xd6", regs! {}, expect! {fault: UD});
    check("db 0x8d, 0xc0", regs! {}, expect! {fault: UD});
    check("db 0x0f, 0x1f, 0xc0", regs! {}, expect! {});
    // Sixteen bytes are no instruction.
    check(
        "db 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90",
        regs! {},
        expect! {fault: GP, code: 0},
    );
    check(
        "db 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90",
        regs! {},
        expect! {},
    );
}

#[test]
fn privileged() {
    for line in [
        "cli",
        "sti",
        "hlt",
        "in al, dx",
        "out dx, al",
        "in eax, 0x80",
        "clts",
        "wbinvd",
        "invd",
        "lgdt [rsi]",
        "lidt [rsi]",
        "invlpg [rsi]",
        "mov rax, cr0",
        "mov cr3, rax",
        "mov rax, dr0",
        "rdmsr",
        "wrmsr",
        "lldt ax",
        "ltr ax",
        "lmsw ax",
        "swapgs",
    ] {
        // The host's kernel answers some of these itself.
        Check::new(Bits::Long, line)
            .without_host()
            .before(regs! {rsi: D})
            .expect(expect! {fault: GP, code: 0})
            .run();
    }
    check("hlt", regs! {}, expect! {fault: GP, code: 0});
    check("cli", regs! {}, expect! {fault: GP, code: 0});
}

#[test]
fn software_interrupts() {
    check("int3", regs! {}, expect! {rip: CODE as i128 + 1});
    check("int 0x20", regs! {}, expect! {fault: GP, code: 0x102});
    check("int 14", regs! {}, expect! {fault: GP, code: 0x72});
    check32("into", regs! {flags: OF}, expect! {fault: OVERFLOW, rip: CODE as i128 + 1});
    check32("into", regs! {}, expect! {});
    check32("bound eax, [esi]", regs! {eax: 5, esi: D, [DATA; 8]: 0x7_0000_0003}, expect! {});
    check32("bound eax, [esi]", regs! {eax: 8, esi: D, [DATA; 8]: 0x7_0000_0003}, expect! {fault: BR});
    check32("bound eax, [esi]", regs! {eax: -1, esi: D, [DATA; 8]: 0x7_0000_0003}, expect! {fault: BR});
}

#[test]
fn pages() {
    check("mov eax, [rsi]", regs! {rsi: 0x123456}, expect! {fault: PAGE, code: 4, cr2: 0x123456});
    check("mov [rsi], eax", regs! {rsi: 0x123456}, expect! {fault: PAGE, code: 6, cr2: 0x123456});
    // Supervisor pages: present, not the program's.
    check("mov eax, [rsi]", regs! {rsi: 0x3000}, expect! {fault: PAGE, code: 5, cr2: 0x3000});
    check("mov [rsi], eax", regs! {rsi: 0x3000}, expect! {fault: PAGE, code: 7, cr2: 0x3000});
    check("mov eax, [rsi]", regs! {rsi: -8}, expect! {fault: PAGE, code: 4, cr2: -8});
    check("mov eax, [rsi]", regs! {rsi: 1 << 47}, expect! {fault: GP, code: 0});
    check("mov rax, [rsi]", regs! {rsi: (1 << 47) - 4}, expect! {fault: GP, code: 0x0});
    // A read-modify-write is refused as a write, before anything is read.
    check("inc dword [rsi]", regs! {rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
    check("inc dword [rsi]", regs! {rsi: 0x123456}, expect! {fault: PAGE, code: 6, cr2: 0x123456});
    check("xchg [rsi], eax", regs! {rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
    // Two operands: the destination's registers are untouched when the source faults.
    check("add rax, [rsi]", regs! {rax: 5, rsi: 0x123456}, expect! {fault: PAGE, code: 4, cr2: 0x123456});
    check("pop qword [rsi]", regs! {rsi: 0x123456}, expect! {fault: PAGE, code: 6, cr2: 0x123456});
    check("mov eax, [rsi]", regs! {rsi: D + 0x4ffd}, expect! {fault: PAGE, code: 4, cr2: D + 0x5000});
}

/// However flat it is.
#[test]
fn code_segments_are_not_written() {
    for bits in [Bits::Flat32, Bits::Compat32] {
        for line in ["mov dword [cs:ebx], 1", "add dword [cs:ebx], 1", "movups [cs:ebx], xmm0"] {
            let at = regs! {ebx: i128::from(DATA)};
            Check::new(bits, line).before(at).expect(expect! {fault: GP, code: 0}).run();
        }
        let read = regs! {ebx: i128::from(DATA), [DATA; 4]: 5};
        Check::new(bits, "mov eax, [cs:ebx]").before(read).expect(expect! {eax: 5}).run();
    }
    // In 64-bit mode the prefix says nothing.
    check("mov dword [cs:rbx], 1", regs! {rbx: i128::from(DATA)}, expect! {[DATA; 4]: 1});
}

#[test]
fn alignment() {
    check("movaps xmm0, [rsi]", regs! {rsi: D + 8}, expect! {fault: GP, code: 0});
    check("movaps [rsi], xmm0", regs! {rsi: D + 1}, expect! {fault: GP, code: 0});
    check("paddb xmm0, [rsi]", regs! {rsi: D + 8}, expect! {fault: GP, code: 0});
    check("movntdq [rsi], xmm0", regs! {rsi: D + 8}, expect! {fault: GP, code: 0});
    // Alignment is looked at before the page.
    check("movaps xmm0, [rsi]", regs! {rsi: 0x123458}, expect! {fault: GP, code: 0});
}

#[test]
fn in_the_kernel() {
    let kernel = |line: &str, before, expect| {
        Check::new(Bits::Long, line).kernel().before(before).expect(expect).run()
    };
    kernel("cli; pushfq; pop rax", regs! {}, expect! {rax: 2, [STACK_TOP - 8; 8]: 2});
    kernel("in al, dx", regs! {rax: 0, rdx: 0x55}, expect! {rax: 0x55});
    kernel("in eax, 0x80", regs! {rax: 0}, expect! {rax: 0x80_0080});
    kernel("mov rax, cr3", regs! {}, expect! {rax: 0x8000});
    kernel("mov eax, [rsi]", regs! {rsi: 0x123456}, expect! {fault: PAGE, code: 0, cr2: 0x123456});
    // CR0.WP: the kernel heeds read-only pages.
    kernel("mov [rsi], eax", regs! {rsi: RO}, expect! {fault: PAGE, code: 3, cr2: RO});
    kernel("mov cr0, rax", regs! {rax: 1 << 31}, expect! {fault: GP, code: 0});
    kernel("mov cr4, rax", regs! {rax: 0}, expect! {fault: GP, code: 0});
    kernel("rdmsr", regs! {rcx: 0xc000_0080}, expect! {rax: 0xd01, rdx: 0});
    kernel("rdmsr", regs! {rcx: 0x1234_5678}, expect! {fault: GP, code: 0});
    kernel("wrmsr", regs! {rcx: 0xc000_0100, rax: D, rdx: 0}, expect! {fs_base: D});
    kernel("wrmsr", regs! {rcx: 0xc000_0100, rax: 0, rdx: 1 << 20}, expect! {fault: GP, code: 0});
    kernel("ltr ax", regs! {rax: 0x28}, expect! {fault: GP, code: 0x28});
    kernel("mov ds, eax", regs! {eax: 0x100}, expect! {fault: GP, code: 0x100});
    kernel("mov ss, eax", regs! {eax: 0}, expect! {});
    kernel("mov es, eax", regs! {eax: 0x18}, expect! {});
    kernel("invlpg [rsi]; wbinvd; clts", regs! {rsi: D}, expect! {});
}
