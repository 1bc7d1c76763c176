//! The rest of INT 10h: alternate select (12h), display combination (1Ah), state (1Bh), save and restore (1Ch).

use iced_x86::code_asm::*;

use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    alternate(s)?;
    state(s)?;
    save_restore(s)
}

fn alternate(s: &mut Section) -> Emit {
    code! { s;
        proc "alternate"; // AH=12h, BL: function
        mov bl, f::bl_();
        mov al, f::al_();
        select bl, &[(0x10, ".information"), (0x30, ".lines"), (0x31, ".palette"), (0x32, ".video"), (0x33, ".grey"), (0x34, ".emulation"), (0x36, ".screen")];
        cmp bl, 0x20; // print screen: nothing to be done
        je ".ret";
        ret;
        label ".information";
        mov f::bx_(), 0x0003; // colour, 256 KiB
        cmp byte_ptr(vars::ADDR_6845), 0xb4;
        jne ".colour";
        mov f::bh_(), 1;
        label ".colour";
        mov f::cx_(), 0x0009;
        ret;
        label ".lines"; // AL: 200, 350 or 400 lines from the next mode set on; text is always of 400 here
        jmp ".done";
        label ".palette"; // AL = 1: mode sets keep the palette
        and byte_ptr(vars::FLAGS), 0xf7;
        and al, 1;
        shl al, 3;
        or byte_ptr(vars::FLAGS), al;
        jmp ".done";
        label ".video";
        mov dx, 0x3cc;
        mov ah, al;
        in_ al, dx;
        and al, 0xfd;
        test ah, 1;
        jnz ".disabled";
        or al, 2;
        label ".disabled";
        mov dl, 0xc2;
        out dx, al;
        jmp ".done";
        label ".grey";
        and byte_ptr(vars::FLAGS), 0xfd;
        and al, 1;
        xor al, 1;
        shl al, 1;
        or byte_ptr(vars::FLAGS), al;
        jmp ".done";
        label ".emulation"; // cursor lines as they are, or stretched
        and byte_ptr(vars::INFO), 0xfe;
        and al, 1;
        or byte_ptr(vars::INFO), al;
        jmp ".done";
        label ".screen"; // AL = 1: off
        mov ah, al;
        and ah, 1;
        shl ah, 5;
        mov dx, 0x3c4;
        mov al, 1;
        out dx, al;
        inc dx;
        in_ al, dx;
        and al, 0xdf;
        or al, ah;
        out dx, al;
        label ".done";
        mov f::al_(), 0x12;
        label ".ret";
        ret;
        proc "combination"; // AH=1Ah
        mov al, f::al_();
        cmp al, 1;
        ja ".ret";
        je ".set";
        movzx ax, byte_ptr(vars::DCC);
        mov f::bx_(), ax;
        jmp ".done";
        label ".set";
        mov al, f::bl_();
        mov byte_ptr(vars::DCC), al;
        label ".done";
        mov f::al_(), 0x1a;
        label ".ret";
        ret;
    }
    Ok(())
}

fn state(s: &mut Section) -> Emit {
    code! { s;
        proc "state"; // AH=1Bh, BX=0: 64 bytes to ES:DI
        cmp f::bx_(), 0;
        jne ".ret";
        mov es, f::es_();
        mov di, f::di_();
        push di;
        xor ax, ax;
        mov cx, 32;
        rep_stosw;
        pop di;
        push di;
        offset ax, "static_state";
        stosw;
        mov ax, cs;
        stosw;
        mov si, vars::CRT_MODE;
        mov cx, 0x1e;
        rep_movsb;
        mov al, byte_ptr(vars::ROWS);
        inc al;
        stosb;
        mov ax, word_ptr(vars::POINTS);
        stosw;
        movzx ax, byte_ptr(vars::DCC);
        stosw;
        mov ax, 16;
        stosw;
        mov al, 8; // pages
        stosb;
        mov al, 2; // 400 lines
        stosb;
        pop di;
        mov byte_ptr(di + 0x31).es(), 3; // 256 KiB
        mov f::al_(), 0x1b;
        label ".ret";
        ret;
        proc "static_state";
    }
    // Modes 0-7, 0Dh-13h; 200, 350 and 400 lines; character blocks; functions.
    s.bytes(&[0xff, 0xe0, 0x0f, 0, 0, 0, 0, 7, 2, 8, 0xe7, 0x0c, 0, 0, 0, 0])
}

fn save_restore(s: &mut Section) -> Emit {
    code! { s;
        // AH=1Ch. Saved are, one after the other in a fixed layout: the BIOS data area's video part (bit 1) and the DAC (bit 2).
        // The hardware's registers (bit 0) follow from the mode, which a restore sets again.
        proc "save_restore";
        mov al, f::al_();
        mov es, f::es_();
        mov di, f::bx_();
        select al, &[(0, ".size"), (1, ".save"), (2, ".restore")];
        ret;
        label ".size";
        mov f::bx_(), 14; // blocks of 64 bytes
        jmp ".done";
        label ".save";
        mov si, vars::CRT_MODE;
        mov cx, 0x1e;
        rep_movsb;
        mov si, vars::ROWS;
        mov cx, 7;
        rep_movsb;
        test f::cl_(), 4;
        jz ".done";
        mov dx, 0x3c7;
        mov al, 0;
        out dx, al;
        mov dl, 0xc9;
        mov cx, 768;
        rep_insb;
        jmp ".done";
        label ".restore";
        push ds;
        push es;
        pop ds;
        pop es;
        mov si, di;
        mov di, vars::CRT_MODE;
        mov cx, 0x1e;
        rep_movsb;
        mov di, vars::ROWS;
        mov cx, 7;
        rep_movsb;
        push si;
        push ds;
        push es;
        pop ds;
        test f::cl_(), 1;
        jz ".registers_kept";
        mov al, byte_ptr(vars::CRT_MODE);
        call "find_mode";
        jc ".registers_kept";
        call "program_mode";
        label ".registers_kept";
        pop ds;
        pop si;
        test f::cl_(), 4;
        jz ".restored";
        mov dx, 0x3c8;
        mov al, 0;
        out dx, al;
        inc dx;
        mov cx, 768;
        label ".dac";
        lodsb;
        out dx, al;
        dec cx;
        jnz ".dac";
        label ".restored";
        push 0x40;
        pop ds;
        label ".done";
        mov f::al_(), 0x1c;
        ret;
    }
    Ok(())
}
