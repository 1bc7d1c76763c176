//! INT 11h, 12h, 15h: equipment, memory, and the system services.

use iced_x86::code_asm::*;

use super::asm::{Assembled, Emit, Section, code};
use super::frame as f;
use super::layout::{EBDA_SEGMENT, bda, ebda};

/// The procedures.
pub fn emit(s: &mut Section, flat: &Assembled) -> Emit {
    small(s)?;
    dispatch(s)?;
    a20(s)?;
    memory(s)?;
    block_move(s, flat)?;
    waits(s)?;
    power(s)
}

fn small(s: &mut Section) -> Emit {
    f::service(s, "int11", "equipment")?;
    f::service(s, "int12", "conventional")?;
    code! { s;
        proc "equipment";
        mov ax, word_ptr(bda::EQUIP_FLAG);
        mov f::ax_(), ax;
        ret;
        proc "conventional";
        mov ax, word_ptr(bda::MEMORY_SIZE);
        mov f::ax_(), ax;
        ret;
    }
    Ok(())
}

fn dispatch(s: &mut Section) -> Emit {
    // The keyboard's hook is called for each scan code, and returns with the carry flag as it came in.
    code! { s;
        proc "int15";
        cmp ah, 0x4f;
        jne ".service";
        push bp;
        mov bp, sp;
        or byte_ptr(bp + 6), 1;
        pop bp;
        iret;
        label ".service";
    }
    f::enter(s)?;
    s.call("system_service")?;
    f::leave(s)?;
    code! { s;
        proc "system_service";
        mov ah, f::ah_();
        mov al, f::al_();
        select ah, &[
            (0x24, "a20_service"), (0x53, "apm"), (0x80, "ok_ah0"), (0x81, "ok_ah0"), (0x82, "ok_ah0"), (0x85, "ok_ah0"),
            (0x86, "wait_service"), (0x87, "block_service"), (0x88, "extended_memory"), (0x90, "ok_ah0"), (0x91, "ok_ah0"),
            (0xc0, ".configuration"), (0xc1, ".ebda"), (0xc2, "mouse_service"), (0xe8, "e8_services")
        ];
        jmp "unsupported";
        label ".configuration";
        offset ax, "configuration_table";
        mov f::bx_(), ax;
        mov f::es_(), cs;
        jmp "ok_ah0";
        label ".ebda";
        mov f::es_(), EBDA_SEGMENT;
        jmp "ok";
        // Model FCh (AT), features: two interrupt controllers, clock, INT 15h AH=4Fh, EBDA; INT 16h AH=09h.
        proc "configuration_table";
        dw &[8];
        db &[0xfc, 0, 1, 0x74, 0x40, 0, 0, 0];
    }
    Ok(())
}

fn a20(s: &mut Section) -> Emit {
    code! { s;
        proc "a20_service"; // AH=24h, AL: 0 off, 1 on, 2 which, 3 how
        select al, &[(0, ".off"), (1, ".on"), (2, ".which"), (3, ".how")];
        jmp "unsupported";
        label ".off";
        in_ al, 0x92;
        and al, 0xfc;
        out 0x92, al;
        jmp "ok_ah0";
        label ".on";
        in_ al, 0x92;
        or al, 2;
        and al, 0xfe;
        out 0x92, al;
        jmp "ok_ah0";
        label ".which";
        in_ al, 0x92;
        shr al, 1;
        and al, 1;
        mov f::al_(), al;
        jmp "ok_ah0";
        label ".how";
        mov f::bx_(), 3; // keyboard controller and port 92h
        jmp "ok_ah0";
    }
    Ok(())
}

fn memory(s: &mut Section) -> Emit {
    code! { s;
        proc "extended_memory"; // AH=88h -> AX: KiB above 1 MiB, at most 63 MiB
        mov eax, dword_ptr(ebda::RAM_TOP).fs();
        sub eax, 0x10_0000;
        shr eax, 10;
        cmp eax, 0xfc00;
        jbe ".fits";
        mov ax, 0xfc00;
        label ".fits";
        mov f::ax_(), ax;
        jmp "ok";
        proc "e8_services"; // AX=E801h, E881h, E820h
        select al, &[(0x20, ".map"), (0x01, ".sizes"), (0x81, ".sizes")];
        jmp "unsupported";
        label ".sizes"; // KiB between 1 and 16 MiB, and 64 KiB above
        mov eax, dword_ptr(ebda::RAM_TOP).fs();
        xor ebx, ebx;
        cmp eax, 0x100_0000;
        jbe ".small";
        mov ebx, eax;
        sub ebx, 0x100_0000;
        shr ebx, 16;
        mov eax, 0x100_0000;
        label ".small";
        sub eax, 0x10_0000;
        shr eax, 10;
        mov f::ax_(), ax;
        mov f::cx_(), ax;
        mov f::bx_(), bx;
        mov f::dx_(), bx;
        jmp "ok";
        label ".map"; // EBX: which entry; 20 bytes to ES:DI
        cmp f::edx_(), u32::from_le_bytes(*b"PAMS");
        jne "unsupported";
        cmp f::ecx_(), 20;
        jb "unsupported";
        mov eax, f::ebx_();
        movzx ebx, word_ptr(ebda::E820_COUNT).fs();
        cmp eax, ebx;
        jae "unsupported";
        imul_3 si, ax, 20;
        add si, ebda::E820;
        inc eax;
        cmp eax, ebx;
        jne ".more";
        xor eax, eax;
        label ".more";
        mov f::ebx_(), eax;
        push ds;
        mov es, f::es_();
        mov di, f::di_();
        push fs;
        pop ds;
        mov cx, 10;
        rep_movsw;
        pop ds;
        mov eax, f::edx_();
        mov f::eax_(), eax;
        mov f::ecx_(), 20;
        jmp "ok";
    }
    Ok(())
}

fn block_move(s: &mut Section, flat: &Assembled) -> Emit {
    let block_move = flat.address("block_move")?;
    code! { s;
        proc "block_service"; // AH=87h: CX words, descriptors at ES:SI
        movzx ecx, f::cx_();
        cmp cx, 0x8000;
        ja ".bad";
        movzx esi, f::es_();
        shl esi, 4;
        movzx eax, f::si_();
        add esi, eax;
        mov eax, block_move;
        call "call32";
        jmp "ok_ah0";
        label ".bad";
        mov f::ah_(), 2;
        jmp "fail";
    }
    Ok(())
}

fn waits(s: &mut Section) -> Emit {
    code! { s;
        proc "wait_service"; // AH=86h: CX:DX microseconds
        movzx eax, f::cx_();
        shl eax, 16;
        mov ax, f::dx_();
        // Long waits sleep from tick to tick, what is left is counted.
        xor edx, edx;
        mov ecx, 54_925;
        div ecx;
        mov ebx, edx;
        mov cx, ax;
        jcxz ".short";
        call "ticks_wait";
        label ".short";
        mov eax, ebx;
        xor edx, edx;
        mov ecx, 15;
        div ecx;
        mov ecx, eax;
        call "refresh_wait";
        jmp "ok";
    }
    Ok(())
}

fn power(s: &mut Section) -> Emit {
    code! { s;
        proc "apm"; // AH=53h: APM 1.2 in real mode: there, connected, idle, off
        select al, &[(0x00, ".present"), (0x01, ".ok"), (0x04, ".ok"), (0x05, ".idle"), (0x06, ".ok"), (0x07, ".state"), (0x08, ".ok"), (0x0a, ".supply"), (0x0b, ".no_event"), (0x0d, ".ok"), (0x0e, ".version"), (0x0f, ".ok")];
        mov f::ah_(), 0x0c; // not supported: also 16- and 32-bit interfaces
        jmp "fail";
        label ".present";
        mov f::bx_(), 0x504d; // "PM"
        mov f::cx_(), 0;
        mov f::ax_(), 0x0102;
        jmp "ok";
        label ".version";
        mov f::ax_(), 0x0102;
        jmp "ok";
        label ".idle";
        sti;
        hlt;
        label ".ok";
        mov f::ah_(), 0;
        jmp "ok";
        label ".state"; // BX=1: all devices; CX: 3 off
        cmp f::bx_(), 1;
        jne ".ok";
        cmp f::cx_(), 3;
        jne ".ok";
        call "power_off";
        mov f::ah_(), 0x60;
        jmp "fail";
        label ".supply"; // on line, no battery
        mov f::bx_(), 0x01ff;
        mov f::cx_(), 0xff80u32;
        mov f::dx_(), -1;
        mov f::si_(), 0;
        jmp "ok";
        label ".no_event";
        mov f::ah_(), 0x80;
        jmp "fail";
        proc "power_off"; // returns if this board cannot
        mov dx, word_ptr(ebda::PM_BASE).fs();
        test dx, dx;
        jz ".ret";
        add dx, 4;
        mov ax, word_ptr(ebda::SLEEP_OFF).fs();
        out dx, ax;
        label ".ret";
        ret;
        proc "reset"; // port CF9h, the keyboard controller, a triple fault
        cli;
        mov dx, 0xcf9;
        mov al, 2;
        out dx, al;
        mov al, 6;
        out dx, al;
        mov al, 0xfe;
        out 0x64, al;
        mov cx, 100;
        call "milliseconds";
        lidt fword_ptr(ebda::E820 + 0x100).fs();
        int3;
        label ".stop";
        hlt;
        jmp ".stop";
    }
    Ok(())
}
