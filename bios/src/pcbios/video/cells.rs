//! Characters: reading, writing and scrolling them, in text and graphics modes. INT 10h AH=06h-0Ah, 0Eh, 13h.

use iced_x86::code_asm::*;

use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    write(s)?;
    scroll(s)?;
    teletype(s)?;
    string(s)
}

fn write(s: &mut Section) -> Emit {
    code! { s;
        proc "write_cells"; // AH=09h, AL: character, BL: attribute, BH: page, CX: how often
        mov cx, f::cx_();
        mov bx, f::bx_();
        mov al, f::al_();
        mov ah, bl;
        mov bl, bh;
        call "load_cursor";
        label ".next";
        jcxz ".done";
        call "put_cell";
        call "advance";
        dec cx;
        jmp ".next";
        label ".done";
        ret;
        proc "write_characters"; // AH=0Ah: as AH=09h, but the attribute stays in text modes
        mov cx, f::cx_();
        mov bl, f::bh_();
        call "load_cursor";
        label ".next";
        jcxz ".done";
        mov al, f::al_();
        mov ah, f::bl_();
        call "put_character";
        call "advance";
        dec cx;
        jmp ".next";
        label ".done";
        ret;
        proc "advance"; // DX: to the next cell, which may be on the next row. Keeps the rest
        inc dl;
        cmp dl, byte_ptr(vars::CRT_COLS);
        jb ".ret";
        mov dl, 0;
        inc dh;
        label ".ret";
        ret;

        proc "put_cell"; // AL: character, AH: attribute, BL: page, DX: row and column. Keeps everything
        pusha;
        push es;
        push ax;
        call "mode_class";
        mov cl, al;
        pop ax;
        cmp cl, 0;
        jne ".graphics";
        call "text_segment";
        call "cell_offset";
        stosw;
        jmp ".done";
        label ".graphics";
        call "draw_glyph";
        label ".done";
        pop es;
        popa;
        ret;
        proc "put_character"; // the same, but in text modes the attribute stays
        pusha;
        push es;
        push ax;
        call "mode_class";
        mov cl, al;
        pop ax;
        cmp cl, 0;
        jne ".graphics";
        call "text_segment";
        call "cell_offset";
        stosb;
        jmp ".done";
        label ".graphics";
        call "draw_glyph";
        label ".done";
        pop es;
        popa;
        ret;

        proc "read_cell"; // AH=08h, BH: page
        mov bl, f::bh_();
        call "load_cursor";
        call "mode_class";
        cmp al, 0;
        jne "recognise_glyph";
        call "text_segment";
        call "cell_offset";
        mov ax, word_ptr(di).es();
        mov f::ax_(), ax;
        ret;
    }
    Ok(())
}

fn scroll(s: &mut Section) -> Emit {
    code! { s;
        proc "scroll_up"; // AH=06h, AL: lines (0: all), BH: attribute, CX-DX: window
        mov ax, f::ax_();
        mov bx, f::bx_();
        mov cx, f::cx_();
        mov dx, f::dx_();
        mov bl, byte_ptr(vars::ACTIVE_PAGE);
        jmp "scroll";
        proc "scroll_down"; // AH=07h
        mov ax, f::ax_();
        mov bx, f::bx_();
        mov cx, f::cx_();
        mov dx, f::dx_();
        mov bl, byte_ptr(vars::ACTIVE_PAGE);
        jmp "scroll";

        proc "scroll"; // AL: lines, AH: 06h up, 07h down, BH: attribute, BL: page, CX: upper left, DX: lower right
        cmp dh, byte_ptr(vars::ROWS);
        jbe ".rows_fit";
        mov dh, byte_ptr(vars::ROWS);
        label ".rows_fit";
        cmp dl, byte_ptr(vars::CRT_COLS);
        jb ".columns_fit";
        mov dl, byte_ptr(vars::CRT_COLS);
        dec dl;
        label ".columns_fit";
        cmp ch, dh;
        ja ".ret";
        cmp cl, dl;
        ja ".ret";
        // AL: lines to move by, all of them if that many or none are asked for.
        push dx;
        sub dh, ch;
        inc dh;
        cmp al, 0;
        je ".all";
        cmp al, dh;
        jb ".some";
        label ".all";
        mov al, dh;
        label ".some";
        pop dx;
        push ax;
        call "mode_class";
        mov ah, al;
        pop si; // low: lines, high: 06h or 07h
        cmp ah, 0;
        jne "scroll_graphics";

        call "text_segment";
        // Row by row, from the side that the text moves to.
        mov ax, si;
        mov si, cx; // upper left
        cmp ah, 7;
        je ".down";
        label ".up_next"; // CH: row to be filled
        push dx;
        mov dl, cl;
        mov ah, dh; // last row
        mov dh, ch;
        call "cell_offset"; // DI: to
        add dh, al;
        cmp dh, ah;
        pop dx;
        call "scroll_row_up";
        inc ch;
        cmp ch, dh;
        jbe ".up_next";
        label ".ret";
        ret;
        label ".down"; // DH: row to be filled
        push dx;
        mov ah, ch;
        mov ch, dh;
        mov dl, cl;
        call "cell_offset";
        sub dh, al;
        jb ".blank";
        cmp dh, ah;
        label ".blank";
        cmc; // now CF = 1 if there is a row to move, as "scroll_row_down" wants it
        pop dx;
        mov ch, ah;
        call "scroll_row_down";
        dec dh;
        js ".ret";
        cmp dh, ch;
        jae ".down";
        ret;

        proc "scroll_row_up"; // flags: source row compared with the last. DI: to, AL: lines, CL-DL: columns, BH: attribute
        pusha;
        push ds;
        ja ".fill";
        call "row_distance"; // AX: bytes between the rows, CX: cells
        mov si, di;
        add si, ax;
        jmp ".copy";
        label ".copy";
        push es;
        pop ds;
        rep_movsw;
        pop ds;
        popa;
        ret;
        label ".fill";
        call "row_distance";
        mov ah, bh;
        mov al, 0x20;
        rep_stosw;
        pop ds;
        popa;
        ret;
        proc "scroll_row_down"; // CF: there is a row to move. The rest as above
        pusha;
        push ds;
        jnc ".fill";
        call "row_distance";
        mov si, di;
        sub si, ax;
        push es;
        pop ds;
        rep_movsw;
        pop ds;
        popa;
        ret;
        label ".fill";
        call "row_distance";
        mov ah, bh;
        mov al, 0x20;
        rep_stosw;
        pop ds;
        popa;
        ret;
        proc "row_distance"; // AL: rows, CL, DL: first and last column -> AX: bytes, CX: cells
        mul byte_ptr(vars::CRT_COLS);
        add ax, ax;
        mov ch, 0;
        neg cl;
        add cl, dl;
        inc cl;
        ret;
    }
    Ok(())
}

fn teletype(s: &mut Section) -> Emit {
    code! { s;
        proc "teletype"; // AH=0Eh, AL: character, BL: colour in graphics modes
        mov al, f::al_();
        mov ah, f::bl_();
        mov bl, byte_ptr(vars::ACTIVE_PAGE);
        call "load_cursor";
        call "type_character";
        jmp "store_cursor";

        proc "type_character"; // AL, AH: as above, BL: page, DX: cursor, which moves. Keeps BX
        cmp al, 0x0d;
        ja ".plain";
        je ".return";
        cmp al, 0x0a;
        je ".line_feed";
        cmp al, 8;
        je ".back";
        cmp al, 7;
        je ".bell";
        label ".plain";
        call "put_character";
        call "advance";
        jmp ".scroll";
        label ".return";
        mov dl, 0;
        ret;
        label ".bell";
        jmp "bell";
        label ".back";
        cmp dl, 0;
        je ".ret";
        dec dl;
        label ".ret";
        ret;
        label ".line_feed";
        inc dh;
        label ".scroll";
        cmp dh, byte_ptr(vars::ROWS);
        jbe ".ret";
        mov dh, byte_ptr(vars::ROWS);
        pusha;
        push es;
        // The new line has the attribute of the last one's first cell; graphics are blank.
        push ax;
        call "mode_class";
        mov bh, 0;
        cmp al, 0;
        pop ax;
        jne ".blank";
        call "text_segment";
        mov dl, 0;
        call "cell_offset";
        mov bh, byte_ptr(di + 1).es();
        label ".blank";
        mov ax, 0x0601;
        xor cx, cx;
        mov dl, byte_ptr(vars::CRT_COLS);
        dec dl;
        call "scroll";
        pop es;
        popa;
        ret;

        proc "bell"; // a short tone of 900 Hz. Keeps everything
        pusha;
        mov al, 0xb6;
        out 0x43, al;
        mov ax, 1326;
        out 0x42, al;
        mov al, ah;
        out 0x42, al;
        in_ al, 0x61;
        push ax;
        or al, 3;
        out 0x61, al;
        // 4000 refresh periods of 15 us
        mov cx, 4000;
        label ".wait";
        in_ al, 0x61;
        and al, 0x10;
        cmp al, ah;
        mov ah, al;
        je ".wait";
        dec cx;
        jnz ".wait";
        pop ax;
        out 0x61, al;
        popa;
        ret;
    }
    Ok(())
}

fn string(s: &mut Section) -> Emit {
    code! { s;
        proc "write_string"; // AH=13h, AL: bit 0 move the cursor, bit 1 attributes inside; ES:BP, CX: length, DX: where
        mov es, f::es_();
        mov si, f::bp_();
        mov cx, f::cx_();
        mov dx, f::dx_();
        mov bl, f::bh_();
        and bl, 7;
        cmp dh, -1; // here: at the cursor
        jne ".next";
        call "load_cursor";
        label ".next";
        jcxz ".done";
        mov al, byte_ptr(si).es();
        inc si;
        mov ah, f::bl_();
        test f::al_(), 2;
        jz ".attribute";
        mov ah, byte_ptr(si).es();
        inc si;
        label ".attribute";
        cmp al, 0x0d;
        je ".control";
        cmp al, 0x0a;
        je ".control";
        cmp al, 8;
        je ".control";
        cmp al, 7;
        je ".control";
        call "put_cell";
        mov al, 0x20;
        call "advance";
        cmp dh, byte_ptr(vars::ROWS);
        jbe ".moved";
        dec dh;
        mov al, 0x0a; // scrolls
        label ".control";
        call "type_character";
        label ".moved";
        dec cx;
        jmp ".next";
        label ".done";
        test f::al_(), 1;
        jz ".ret";
        jmp "store_cursor";
        label ".ret";
        ret;
    }
    Ok(())
}
