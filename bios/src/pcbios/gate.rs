//! From real mode to a 32-bit procedure and back.

use iced_x86::code_asm::*;

use super::asm::{AsmError, Assembled, Emit, Section, code};
use super::flat::{BACK16, selector};
use super::layout::BIOS_SEGMENT;

/// "call32" and the descriptor table. `gate` is the address of the 32-bit side.
pub fn emit(s: &mut Section, gate: u32) -> Emit {
    code! { s;
        // EAX: address of a 32-bit procedure; EBX, ECX, EDX, ESI, EDI reach it. EAX: what it returns. The caller's
        // descriptor table register, A20 and flags come back as they were; EBP, segments are kept, the rest is not.
        proc "call32";
        pushf;
        cli;
        push ds;
        push es;
        push fs;
        push gs;
        push ebp;
        sub sp, 6;
        mov bp, sp;
        // sgdt [bp] with a 32-bit base
        db &[0x66, 0x0f, 0x01, 0x46, 0x00];
        push eax;
        in_ al, 0x92;
        push ax;
        or al, 2;
        and al, 0xfe;
        out 0x92, al;
        push ss;
        // EBP: the stack pointer as a flat address.
        mov bp, ss;
        movzx ebp, bp;
        shl ebp, 4;
        movzx eax, sp;
        add ebp, eax;
        // lgdt cs:[gdt_register] with a 32-bit base
        db &[0x2e, 0x66, 0x0f, 0x01, 0x16];
        address_word "gdt_register";
        mov eax, cr0;
        or al, 1;
        mov cr0, eax;
    }
    // jmp selector:gate with a 32-bit offset
    s.db(&[0x66, 0xea])?;
    s.dd(&[gate])?;
    s.dw(&[selector::CODE32])?;
    s.proc("gdt_register")?;
    s.dw(&[5 * 8 - 1])?;
    s.address_word("gdt")?;
    s.dw(&[BIOS_SEGMENT >> 12])?;
    s.proc("gdt")?;
    s.dq(&[
        0,
        0x00cf_9b00_0000_ffff, // flat code
        0x00cf_9300_0000_ffff, // flat data
        0x0000_9b0f_0000_ffff, // 16-bit code at F0000
        0x0000_9300_0000_ffff, // 16-bit data at 0
    ])?;
    Ok(())
}

/// The way back, which the 32-bit side jumps to at a fixed place. BX: the stack segment, EBP: flat address of the frame.
pub fn back() -> Result<Assembled, AsmError> {
    let mut section = Section::new(16, BACK16)?;
    let s = &mut section;
    code! { s;
        proc "back16";
        mov eax, cr0;
        and al, 0xfe;
        mov cr0, eax;
        jmp_to_segment BIOS_SEGMENT, ".real";
        label ".real";
        movzx ebx, bx;
        mov eax, ebx;
        shl eax, 4;
        sub ebp, eax;
        mov ss, bx;
        mov esp, ebp;
        pop ax; // SS
        pop ax;
        out 0x92, al;
        pop eax;
        mov bp, sp;
        // lgdt [bp] with a 32-bit base
        db &[0x66, 0x0f, 0x01, 0x56, 0x00];
        add sp, 6;
        pop ebp;
        pop gs;
        pop fs;
        pop es;
        pop ds;
        popf;
        ret;
    }
    section.assemble()
}
