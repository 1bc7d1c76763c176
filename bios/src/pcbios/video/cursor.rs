//! Cursor, pages, and the mode query: INT 10h AH=01h-03h, 05h, 0Fh.

use iced_x86::code_asm::*;

use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    position(s)?;
    shape(s)?;
    pages(s)
}

fn position(s: &mut Section) -> Emit {
    code! { s;
        proc "set_cursor"; // AH=02h, BH: page, DX: row and column
        mov dx, f::dx_();
        mov bl, f::bh_();
        jmp "store_cursor";
        proc "store_cursor"; // BL: page, DX: row and column; moves the CRT controller's too. Keeps all but BX
        and bx, 7;
        add bx, bx;
        mov word_ptr(bx + vars::CURSOR_POSN), dx;
        shr bl, 1;
        cmp bl, byte_ptr(vars::ACTIVE_PAGE);
        jne ".ret";
        jmp "show_cursor";
        label ".ret";
        ret;
        proc "show_cursor"; // BL: page, DX: row and column
        pusha;
        call "cell_offset";
        shr di, 1;
        mov bx, di;
        mov al, 0x0e;
        call "crtc_word";
        popa;
        ret;
        proc "crtc_word"; // AL: index of the high byte, BX: value
        mov dx, word_ptr(vars::ADDR_6845);
        mov ah, bh;
        out dx, ax;
        inc al;
        mov ah, bl;
        out dx, ax;
        ret;
        proc "load_cursor"; // BL: page -> DX. Keeps the rest
        push bx;
        and bx, 7;
        add bx, bx;
        mov dx, word_ptr(bx + vars::CURSOR_POSN);
        pop bx;
        ret;
        proc "get_cursor"; // AH=03h
        mov bl, f::bh_();
        call "load_cursor";
        mov f::dx_(), dx;
        mov ax, word_ptr(vars::CURSOR_MODE);
        mov f::cx_(), ax;
        ret;
        proc "cell_offset"; // BL: page, DX: row and column -> DI: offset in text memory. Keeps the rest
        push ax;
        push dx;
        mov al, dh;
        mul byte_ptr(vars::CRT_COLS);
        mov dh, 0;
        add ax, dx;
        add ax, ax;
        mov di, ax;
        mov al, bl;
        mov ah, 0;
        mul word_ptr(vars::CRT_LEN);
        add di, ax;
        pop dx;
        pop ax;
        ret;
        proc "text_segment"; // ES: B800h or B000h. Keeps the rest
        push ax;
        mov ax, 0xb800;
        cmp byte_ptr(vars::ADDR_6845), 0xb4;
        jne ".colour";
        mov ah, 0xb0;
        label ".colour";
        mov es, ax;
        pop ax;
        ret;
    }
    Ok(())
}

fn shape(s: &mut Section) -> Emit {
    code! { s;
        proc "cursor_type"; // AH=01h, CX: start and end line
        mov cx, f::cx_();
        jmp "cursor_shape";
        proc "cursor_shape"; // CX: start and end line; lines of an 8-line character are stretched to the real ones
        mov word_ptr(vars::CURSOR_MODE), cx;
        test byte_ptr(vars::INFO), 1;
        jnz ".as_is";
        mov al, byte_ptr(vars::POINTS);
        cmp al, 8;
        jbe ".as_is";
        cmp ch, 0x20;
        jae ".as_is";
        cmp ch, 8;
        jae ".as_is";
        cmp cl, 8;
        jae ".as_is";
        // An underline stays near the bottom; anything else is stretched.
        mov bl, cl;
        sub bl, ch;
        cmp bl, 2;
        jae ".block";
        cmp cl, 5;
        jb ".stretch_both";
        mov ah, al;
        sub ah, 2;
        mov cl, ah;
        mov ch, ah;
        sub ch, bl;
        jmp ".as_is";
        label ".block";
        label ".stretch_both";
        push ax;
        inc cl;
        mul cl;
        shr ax, 3;
        dec ax;
        mov cl, al;
        pop ax;
        mul ch;
        shr ax, 3;
        mov ch, al;
        label ".as_is";
        mov bx, cx;
        mov al, 0x0a;
        jmp "crtc_word";
    }
    Ok(())
}

fn pages(s: &mut Section) -> Emit {
    code! { s;
        proc "select_page"; // AH=05h, AL: page
        mov bl, f::al_();
        and bx, 7;
        mov byte_ptr(vars::ACTIVE_PAGE), bl;
        mov ax, bx;
        mul word_ptr(vars::CRT_LEN);
        mov word_ptr(vars::CRT_START), ax;
        call "load_cursor";
        push bx;
        push dx;
        mov bx, ax;
        call "mode_class";
        cmp al, 0;
        jne ".bytes";
        shr bx, 1;
        label ".bytes";
        mov al, 0x0c;
        call "crtc_word";
        pop dx;
        pop bx;
        jmp "show_cursor";
        proc "get_mode"; // AH=0Fh
        mov al, byte_ptr(vars::CRT_MODE);
        mov ah, byte_ptr(vars::INFO);
        and ah, 0x80;
        or al, ah;
        mov ah, byte_ptr(vars::CRT_COLS);
        mov f::ax_(), ax;
        mov al, byte_ptr(vars::ACTIVE_PAGE);
        mov f::bh_(), al;
        ret;
    }
    Ok(())
}
