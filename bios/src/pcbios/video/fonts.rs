//! Character generators: INT 10h AH=11h.

use iced_x86::code_asm::*;

use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    load(s)?;
    services(s)?;
    set_rows(s)?;
    information(s)
}

fn load(s: &mut Section) -> Emit {
    code! { s;
        proc "load_font_16"; // BL: block
        offset si, "font_16";
        mov bh, 16;
        jmp "load_rom_font";
        proc "load_rom_font"; // CS:SI: 256 glyphs of BH bytes, BL: block
        push ds;
        push cs;
        pop ds;
        mov cx, 256;
        xor dx, dx;
        call "load_font";
        pop ds;
        ret;
        proc "load_font"; // DS:SI: CX glyphs of BH bytes, from character DX; BL: block
        mov ax, 0xa000;
        mov es, ax;
        push dx;
        // Plane 2, linear.
        mov dx, 0x3c4;
        mov ax, 0x0100;
        out dx, ax;
        mov ax, 0x0402;
        out dx, ax;
        mov ax, 0x0704;
        out dx, ax;
        mov ax, 0x0300;
        out dx, ax;
        mov dl, 0xce;
        mov ax, 0x0204;
        out dx, ax;
        mov ax, 0x0005;
        out dx, ax;
        mov ax, 0x0406;
        out dx, ax;
        pop dx;
        // Blocks 0-3 begin at 16 KiB steps, 4-7 8 KiB above them.
        mov al, bl;
        and al, 3;
        shl al, 1;
        test bl, 4;
        jz ".low";
        inc al;
        label ".low";
        mov ah, 0;
        shl ax, 13;
        mov di, ax;
        shl dx, 5;
        add di, dx;
        label ".glyph";
        jcxz ".done";
        push cx;
        push di;
        movzx cx, bh;
        rep_movsb;
        pop di;
        add di, 32;
        pop cx;
        dec cx;
        jmp ".glyph";
        label ".done";
        mov dx, 0x3c4;
        mov ax, 0x0100;
        out dx, ax;
        mov ax, 0x0302;
        out dx, ax;
        mov ax, 0x0304;
        out dx, ax;
        mov ax, 0x0300;
        out dx, ax;
        mov dl, 0xce;
        mov ax, 0x0004;
        out dx, ax;
        mov ax, 0x1005;
        out dx, ax;
        // Memory at B8000h, or at B0000h with the monochrome ports.
        mov dl, 0xcc;
        in_ al, dx;
        mov dl, 0xce;
        test al, 1;
        mov ax, 0x0e06;
        jnz ".colour";
        mov ah, 0x0a;
        label ".colour";
        out dx, ax;
        ret;
        proc "graphics_font"; // the vectors of the graphics modes' font, by POINTS
        xor ax, ax;
        mov es, ax;
        offset ax, "font_8";
        cmp byte_ptr(vars::POINTS), 8;
        je ".set";
        offset ax, "font_14";
        cmp byte_ptr(vars::POINTS), 14;
        je ".set";
        offset ax, "font_16";
        label ".set";
        mov word_ptr(0x43 * 4).es(), ax;
        mov word_ptr(0x43 * 4 + 2).es(), cs;
        ret;
    }
    Ok(())
}

fn services(s: &mut Section) -> Emit {
    code! { s;
        proc "fonts"; // AH=11h
        mov al, f::al_();
        cmp al, 0x30;
        je "font_information";
        cmp al, 0x20;
        jae ".graphics";
        mov ah, al;
        and ah, 0xef;
        mov bl, f::bl_();
        select ah, &[(0, ".user"), (1, ".rom_14"), (2, ".rom_8"), (3, ".select"), (4, ".rom_16")];
        ret;
        label ".user"; // ES:BP: CX glyphs of BH bytes from character DX
        push ds;
        mov bh, f::bh_();
        mov cx, f::cx_();
        mov dx, f::dx_();
        mov si, f::bp_();
        mov ds, f::es_();
        call "load_font";
        pop ds;
        jmp ".rows";
        label ".rom_14";
        offset si, "font_14";
        mov bh, 14;
        jmp ".rom";
        label ".rom_8";
        offset si, "font_8";
        mov bh, 8;
        jmp ".rom";
        label ".rom_16";
        offset si, "font_16";
        mov bh, 16;
        label ".rom";
        push bx;
        call "load_rom_font";
        pop bx;
        label ".rows"; // 1xh: the number of rows follows
        test f::al_(), 0x10;
        jnz "set_rows";
        ret;
        label ".select";
        mov dx, 0x3c4;
        mov al, 3;
        mov ah, bl;
        out dx, ax;
        ret;
        label ".graphics"; // 20h: glyphs 80h-ffh at ES:BP; 21h: all, of CX bytes; 22h-24h: ROM
        xor cx, cx;
        mov ds, cx;
        mov bx, f::bp_();
        mov dx, f::es_();
        cmp al, 0x20;
        jne ".not_upper";
        mov word_ptr(0x1f * 4), bx;
        mov word_ptr(0x1f * 4 + 2), dx;
        ret;
        label ".not_upper";
        mov cx, f::cx_();
        cmp al, 0x21;
        je ".vector";
        mov dx, cs;
        offset bx, "font_14";
        mov cx, 14;
        cmp al, 0x22;
        je ".vector";
        offset bx, "font_8";
        mov cx, 8;
        cmp al, 0x23;
        je ".vector";
        offset bx, "font_16";
        mov cx, 16;
        label ".vector";
        mov word_ptr(0x43 * 4), bx;
        mov word_ptr(0x43 * 4 + 2), dx;
        push 0x40;
        pop ds;
        mov word_ptr(vars::POINTS), cx;
        // BL: rows as a code, or as DL.
        mov al, f::dl_();
        mov bl, f::bl_();
        cmp bl, 0;
        je ".rows_known";
        mov al, 14;
        cmp bl, 1;
        je ".rows_known";
        mov al, 25;
        cmp bl, 2;
        je ".rows_known";
        mov al, 43;
        label ".rows_known";
        dec al;
        mov byte_ptr(vars::ROWS), al;
        ret;
    }
    Ok(())
}

fn set_rows(s: &mut Section) -> Emit {
    code! { s;
        proc "set_rows"; // BH: bytes of a character. As many rows as the lines of the display make
        mov bl, bh;
        mov bh, 0;
        mov word_ptr(vars::POINTS), bx;
        mov dx, word_ptr(vars::ADDR_6845);
        // Lines shown: register 12h and two bits of register 07h.
        mov al, 7;
        out dx, al;
        inc dx;
        in_ al, dx;
        mov ah, 0;
        test al, 2;
        jz ".bit8";
        inc ah;
        label ".bit8";
        test al, 0x40;
        jz ".bit9";
        add ah, 2;
        label ".bit9";
        dec dx;
        mov al, 0x12;
        out dx, al;
        inc dx;
        in_ al, dx;
        inc ax;
        div bl;
        push ax;
        dec al;
        mov byte_ptr(vars::ROWS), al;
        // Maximum scan line.
        dec dx;
        mov al, 9;
        out dx, al;
        inc dx;
        in_ al, dx;
        and al, 0xe0;
        mov ah, bl;
        dec ah;
        or al, ah;
        out dx, al;
        // The page's size.
        pop ax;
        mul byte_ptr(vars::CRT_COLS);
        add ax, ax;
        add ax, 0x00ff;
        mov al, 0;
        mov word_ptr(vars::CRT_LEN), ax;
        mov cx, word_ptr(vars::CURSOR_MODE);
        jmp "cursor_shape";
    }
    Ok(())
}

fn information(s: &mut Section) -> Emit {
    code! { s;
        proc "font_information"; // AX=1130h, BH: which -> ES:BP, CX: points, DL: rows - 1
        mov ax, word_ptr(vars::POINTS);
        mov f::cx_(), ax;
        mov al, byte_ptr(vars::ROWS);
        mov f::dl_(), al;
        mov al, f::bh_();
        mov dx, cs;
        offset bx, "font_8";
        cmp al, 3;
        je ".found";
        add bx, 128 * 8;
        cmp al, 4;
        je ".found";
        offset bx, "font_14";
        cmp al, 2;
        je ".found";
        offset bx, "font_16";
        cmp al, 6;
        je ".found";
        offset bx, "no_alternates";
        cmp al, 5;
        je ".found";
        cmp al, 7;
        je ".found";
        xor cx, cx;
        mov es, cx;
        mov bx, 0x1f * 4;
        cmp al, 0;
        je ".vector";
        mov bx, 0x43 * 4;
        label ".vector";
        les bx, ptr(bx).es();
        mov dx, es;
        label ".found";
        mov f::bp_(), bx;
        mov f::es_(), dx;
        ret;
        proc "no_alternates";
    }
    s.bytes(&[0])
}
