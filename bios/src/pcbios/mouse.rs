//! The PS/2 mouse: INT 15h AH=C2h, and its interrupt (INT 74h), which hands packages to the program's handler.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::frame as f;
use super::layout::ebda;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    talk(s)?;
    services(s)?;
    interrupt(s)
}

fn talk(s: &mut Section) -> Emit {
    code! { s;
        proc "mouse_send"; // AL: byte to the mouse. CF = 1: not acknowledged. Interrupts are off. Destroys AX
        push ax;
        mov al, 0xd4;
        call "kbc_command";
        pop ax;
        call "kbc_data";
        call "kbc_read";
        jc ".ret";
        cmp al, 0xfa;
        je ".ret"; // CF = 0
        stc;
        label ".ret";
        ret;
        proc "mouse_hold"; // keyboard and mouse interrupts off while we talk
        cli;
        mov al, 0xad;
        call "kbc_command";
        mov al, 0x20;
        call "kbc_command";
        call "kbc_read";
        mov ah, al;
        and ah, 0xdd; // mouse clock on, interrupt off
        mov al, 0x60;
        call "kbc_command";
        mov al, ah;
        jmp "kbc_data";
        proc "mouse_release"; // keeps flags
        pushf;
        push ax;
        mov al, 0x20;
        call "kbc_command";
        call "kbc_read";
        mov ah, al;
        or ah, 2;
        mov al, 0x60;
        call "kbc_command";
        mov al, ah;
        call "kbc_data";
        mov al, 0xae;
        call "kbc_command";
        pop ax;
        popf;
        ret;
        proc "mouse_command"; // AL: command, with an argument in BL if it is E8h or F3h. CF = 1: failed
        push ax;
        call "mouse_hold";
        pop ax;
        push ax;
        call "mouse_send";
        pop ax;
        jc "mouse_release";
        cmp al, 0xe8;
        je ".argument";
        cmp al, 0xf3;
        je ".argument";
        clc;
        jmp "mouse_release";
        label ".argument";
        mov al, bl;
        call "mouse_send";
        jmp "mouse_release";
    }
    Ok(())
}

fn services(s: &mut Section) -> Emit {
    code! { s;
        proc "mouse_service"; // AH=C2h
        mov al, f::al_();
        mov bx, f::bx_();
        select al, &[(0, ".enable"), (1, ".reset"), (2, ".rate"), (3, ".resolution"), (4, ".kind"), (5, ".initialise"), (6, ".extended"), (7, ".handler")];
        mov ah, 1;
        jmp ".error";
        label ".enable"; // BH: 0 off, 1 on
        mov al, 0xf5;
        cmp bh, 1;
        jb ".command";
        ja ".invalid";
        mov al, 0xf4;
        mov byte_ptr(ebda::MOUSE_COUNT).fs(), 0;
        label ".command";
        call "mouse_command";
        jnc "ok_ah0";
        mov ah, 4; // interface error: no mouse
        label ".error";
        mov f::ah_(), ah;
        jmp "fail";
        label ".invalid";
        mov ah, 2;
        jmp ".error";
        label ".initialise"; // BH: bytes of a package
        cmp bh, 1;
        jb ".invalid";
        cmp bh, 8;
        ja ".invalid";
        dec bh;
        mov al, byte_ptr(ebda::MOUSE_FLAGS).fs();
        and al, 0xf8;
        or al, bh;
        mov byte_ptr(ebda::MOUSE_FLAGS).fs(), al;
        mov byte_ptr(ebda::MOUSE_COUNT).fs(), 0;
        label ".reset";
        call "mouse_hold";
        mov al, 0xff;
        call "mouse_send";
        jc ".no_mouse";
        call "kbc_read";
        mov ah, al;
        call "kbc_read";
        xchg al, ah;
        mov f::bx_(), ax; // AAh, identity
        call "mouse_release";
        jmp "ok_ah0";
        label ".no_mouse";
        call "mouse_release";
        mov ah, 4;
        jmp ".error";
        label ".rate"; // BH: 10, 20, 40, 60, 80, 100, 200 a second
        cmp bh, 6;
        ja ".invalid";
        movzx si, bh;
        offset di, "mouse_rates";
        add di, si;
        mov bl, byte_ptr(di).cs();
        mov al, 0xf3;
        jmp ".command";
        label ".resolution";
        cmp bh, 3;
        ja ".invalid";
        mov bl, bh;
        mov al, 0xe8;
        jmp ".command";
        label ".kind";
        call "mouse_hold";
        mov al, 0xf2;
        call "mouse_send";
        jc ".no_mouse";
        call "kbc_read";
        mov f::bh_(), al;
        call "mouse_release";
        jmp "ok_ah0";
        label ".extended"; // BH: 0 status, 1 scaling 1:1, 2 scaling 2:1
        mov al, 0xe6;
        cmp bh, 1;
        je ".command";
        mov al, 0xe7;
        cmp bh, 2;
        je ".command";
        ja ".invalid";
        call "mouse_hold";
        mov al, 0xe9;
        call "mouse_send";
        jc ".no_mouse";
        call "kbc_read";
        mov f::bl_(), al;
        call "kbc_read";
        mov f::cl_(), al;
        call "kbc_read";
        mov f::dl_(), al;
        call "mouse_release";
        jmp "ok_ah0";
        label ".handler"; // ES:BX; 0: none
        mov ax, f::es_();
        mov word_ptr(ebda::MOUSE_HANDLER).fs(), bx;
        mov word_ptr(ebda::MOUSE_HANDLER + 2).fs(), ax;
        and byte_ptr(ebda::MOUSE_FLAGS).fs(), 0x7f;
        or ax, bx;
        jz "ok_ah0";
        or byte_ptr(ebda::MOUSE_FLAGS).fs(), 0x80;
        jmp "ok_ah0";
        proc "mouse_rates";
        db &[10, 20, 40, 60, 80, 100, 200];
    }
    Ok(())
}

fn interrupt(s: &mut Section) -> Emit {
    f::service(s, "int74", "mouse_interrupt")?;
    code! { s;
        proc "mouse_interrupt";
        in_ al, 0x64;
        and al, 0x21;
        cmp al, 0x21;
        jne ".eoi";
        in_ al, 0x60;
        mov cl, byte_ptr(ebda::MOUSE_FLAGS).fs();
        test cl, 0x80;
        jz ".eoi";
        movzx bx, byte_ptr(ebda::MOUSE_COUNT).fs();
        mov byte_ptr(bx + ebda::MOUSE_DATA).fs(), al;
        inc bl;
        and cl, 7;
        cmp bl, cl;
        ja ".complete";
        mov byte_ptr(ebda::MOUSE_COUNT).fs(), bl;
        label ".eoi";
        mov al, 0x20;
        out 0xa0, al;
        out 0x20, al;
        ret;
        label ".complete";
        mov byte_ptr(ebda::MOUSE_COUNT).fs(), 0;
        mov al, 0x20;
        out 0xa0, al;
        out 0x20, al;
        // The handler gets status, x, y and 0 as words on the stack.
        movzx ax, byte_ptr(ebda::MOUSE_DATA).fs();
        push ax;
        mov al, byte_ptr(ebda::MOUSE_DATA + 1).fs();
        push ax;
        mov al, byte_ptr(ebda::MOUSE_DATA + 2).fs();
        push ax;
        push 0;
        push bp;
        sti;
        call_far_fs ebda::MOUSE_HANDLER;
        cli;
        pop bp;
        add sp, 8;
        ret;
    }
    Ok(())
}
