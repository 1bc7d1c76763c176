//! Drawing in graphics modes: glyphs, scrolling, and single dots (INT 10h AH=0Ch, 0Dh).

use iced_x86::code_asm::*;

use super::modes::Class;
use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// Graphics controller.
const GC: i32 = 0x3ce;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    glyph(s)?;
    glyph_planar(s)?;
    glyph_packed(s)?;
    recognise(s)?;
    scroll_setup(s)?;
    scroll_kernel(s)?;
    pixel_address(s)?;
    write_pixel(s)?;
    read_pixel(s)
}

fn glyph(s: &mut Section) -> Emit {
    code! { s;
        proc "glyph_address"; // AL: character -> FS:SI: its lines. Keeps the rest
        push ax;
        xor si, si;
        mov fs, si;
        lfs si, ptr(0x43 * 4).fs();
        mul byte_ptr(vars::POINTS);
        add si, ax;
        pop ax;
        ret;
        proc "glyph_row"; // DH: row -> AX: its first line. Keeps the rest
        mov al, dh;
        mul byte_ptr(vars::POINTS);
        ret;
        proc "draw_glyph"; // AL: character, AH: colour, CL: class, BL: page, DX: row and column
        call "glyph_address";
        mov bh, ah;
        mov ch, byte_ptr(vars::POINTS);
        select cl, &[
            (Class::Planar as i32, "draw_planar"), (Class::Linear as i32, "draw_linear"),
            (Class::Cga4 as i32, "draw_cga"), (Class::Cga2 as i32, "draw_cga")
        ];
        ret;
    }
    Ok(())
}

fn glyph_planar(s: &mut Section) -> Emit {
    code! { s;
        proc "planar_address"; // BL: page, DX: row and column -> ES:DI. Destroys AX
        mov ax, 0xa000;
        mov es, ax;
        push dx;
        call "glyph_row";
        push dx;
        mul word_ptr(vars::CRT_COLS);
        pop dx;
        mov dh, 0;
        add ax, dx;
        mov di, ax;
        mov al, bl;
        mov ah, 0;
        mul word_ptr(vars::CRT_LEN);
        add di, ax;
        pop dx;
        ret;
        proc "planar_colour"; // BH: colour, bit 7: exclusive or. All planes are written by set/reset
        mov dx, 0x3c4;
        mov ax, 0x0f02;
        out dx, ax;
        mov dx, GC;
        mov ax, 0x0f01;
        out dx, ax;
        mov ax, 0x0005;
        out dx, ax;
        mov ax, 0x0003;
        test bh, 0x80;
        jz ".replace";
        mov ah, 0x18;
        label ".replace";
        out dx, ax;
        mov al, 0;
        mov ah, bh;
        and ah, 0x0f;
        out dx, ax;
        ret;
        proc "planar_default"; // the graphics controller as a mode set leaves it
        mov dx, GC;
        mov ax, 0xff08;
        out dx, ax;
        mov ax, 0x0000;
        out dx, ax;
        mov ax, 0x0001;
        out dx, ax;
        mov ax, 0x0003;
        out dx, ax;
        mov ax, 0x0005;
        out dx, ax;
        ret;
        proc "draw_planar";
        call "planar_address";
        call "planar_colour";
        label ".line";
        test bh, 0x80;
        jnz ".ink";
        mov ax, 0xff08;
        out dx, ax;
        mov ax, 0x0000;
        out dx, ax;
        mov byte_ptr(di).es(), al;
        mov ah, bh;
        out dx, ax;
        label ".ink";
        mov al, 8;
        mov ah, byte_ptr(si).fs();
        out dx, ax;
        mov al, byte_ptr(di).es(); // fills the latches
        mov byte_ptr(di).es(), al;
        inc si;
        add di, word_ptr(vars::CRT_COLS);
        dec ch;
        jnz ".line";
        jmp "planar_default";
    }
    Ok(())
}

fn glyph_packed(s: &mut Section) -> Emit {
    code! { s;
        proc "draw_linear";
        mov ax, 0xa000;
        mov es, ax;
        call "glyph_row";
        push dx;
        mov di, 320;
        mul di;
        pop dx;
        mov dh, 0;
        shl dx, 3;
        add ax, dx;
        mov di, ax;
        label ".line";
        mov ah, byte_ptr(si).fs();
        inc si;
        mov cl, 8;
        label ".dot";
        mov al, bh;
        add ah, ah;
        jc ".store";
        mov al, 0;
        label ".store";
        stosb;
        dec cl;
        jnz ".dot";
        add di, 320 - 8;
        dec ch;
        jnz ".line";
        ret;

        proc "draw_cga"; // also CL: class
        mov ax, 0xb800;
        mov es, ax;
        mov al, dh;
        mov ah, 0;
        imul_3 ax, ax, 320;
        mov dh, 0;
        add ax, dx;
        mov di, ax;
        cmp cl, Class::Cga4 as i32;
        jne ".line";
        add di, dx;
        label ".line";
        mov al, byte_ptr(si).fs();
        inc si;
        cmp cl, Class::Cga4 as i32;
        je ".four";
        test bh, 0x80;
        jz ".set_two";
        xor al, byte_ptr(di).es();
        label ".set_two";
        mov byte_ptr(di).es(), al;
        jmp ".moved";
        label ".four";
        call "double_bits"; // AX: the eight dots, two bits each
        push bx;
        mov bl, bh;
        and bx, 3;
        imul_3 bx, bx, 0x5555;
        and ax, bx;
        pop bx;
        xchg al, ah;
        test bh, 0x80;
        jz ".set_four";
        xor ax, word_ptr(di).es();
        label ".set_four";
        mov word_ptr(di).es(), ax;
        label ".moved";
        xor di, 0x2000; // even and odd lines
        test di, 0x2000;
        jnz ".same";
        add di, 80;
        label ".same";
        dec ch;
        jnz ".line";
        ret;
        proc "double_bits"; // AL -> AX. Keeps the rest
        push cx;
        push dx;
        mov cx, 8;
        xor dx, dx;
        label ".next";
        shl dx, 2;
        add al, al;
        jnc ".zero";
        or dl, 3;
        label ".zero";
        dec cx;
        jnz ".next";
        mov ax, dx;
        pop dx;
        pop cx;
        ret;
    }
    Ok(())
}

fn recognise(s: &mut Section) -> Emit {
    code! { s;
        proc "recognise_glyph"; // AL: class, BL: page, DX: row and column. The frame's AX: a character with these dots
        mov f::ax_(), 0;
        cmp al, Class::Planar as i32;
        jne ".ret"; // only where a plane looks like a glyph
        call "planar_address";
        mov dx, GC;
        mov ax, 0x0805; // read mode 1: dots that are not colour 0
        out dx, ax;
        mov ax, 0x0002;
        out dx, ax;
        mov ax, 0x0f07;
        out dx, ax;
        mov bh, 0;
        label ".character";
        mov al, bh;
        call "glyph_address";
        push di;
        mov ch, byte_ptr(vars::POINTS);
        label ".line";
        mov al, byte_ptr(di).es();
        not al;
        cmp al, byte_ptr(si).fs();
        jne ".other";
        inc si;
        add di, word_ptr(vars::CRT_COLS);
        dec ch;
        jnz ".line";
        pop di;
        mov f::al_(), bh;
        jmp ".done";
        label ".other";
        pop di;
        inc bh;
        jnz ".character";
        label ".done";
        mov ax, 0x0005;
        out dx, ax;
        label ".ret";
        ret;
    }
    Ok(())
}

/// Locals of the scrolling kernel.
mod local {
    pub const PITCH: i32 = 0;
    pub const WIDTH: i32 = 2;
    pub const COPIES: i32 = 4;
    pub const FILLS: i32 = 6;
    pub const DISTANCE: i32 = 8;
    pub const FILL: i32 = 10;
    pub const PLANAR: i32 = 11;
    pub const SIZE: i32 = 12;
}

fn scroll_setup(s: &mut Section) -> Emit {
    code! { s;
        // SI: lines, 06h or 07h; AH: class; BH: colour, BL: page; CX-DX: window, inside the screen
        proc "scroll_graphics";
        push bp;
        sub sp, local::SIZE;
        mov bp, sp;
        mov byte_ptr(bp + local::FILL), bh;
        mov byte_ptr(bp + local::PLANAR), 0;
        push bx;
        mov bl, ah;
        // Lines of a row in one bank of memory, in BH; bytes of a column, as a shift in AL.
        mov bh, byte_ptr(vars::POINTS);
        mov al, 0;
        mov word_ptr(bp + local::PITCH), 80;
        select bl, &[(Class::Linear as i32, ".linear"), (Class::Cga4 as i32, ".cga4"), (Class::Cga2 as i32, ".cga2"), (Class::Planar as i32, ".planar")];
        pop bx;
        jmp ".out";
        label ".linear";
        mov al, 3;
        mov word_ptr(bp + local::PITCH), 320;
        jmp ".known";
        label ".planar";
        mov byte_ptr(bp + local::PLANAR), 1;
        push ax;
        mov ax, word_ptr(vars::CRT_COLS);
        mov word_ptr(bp + local::PITCH), ax;
        pop ax;
        jmp ".known";
        label ".cga4";
        mov al, 1;
        label ".cga2";
        shr bh, 1;
        mov byte_ptr(bp + local::FILL), 0;
        label ".known";
        xchg ax, cx; // AX: upper left, CL: shift
        // Width.
        push dx;
        mov dh, 0;
        sub dl, al;
        inc dx;
        shl dx, cl;
        mov word_ptr(bp + local::WIDTH), dx;
        pop dx;
        // Lines to copy and to fill.
        push ax;
        push dx;
        sub dh, ah;
        inc dh;
        mov ax, si;
        sub dh, al;
        mul bh;
        mov word_ptr(bp + local::FILLS), ax;
        mov al, dh;
        mul bh;
        mov word_ptr(bp + local::COPIES), ax;
        mov ax, word_ptr(bp + local::FILLS);
        mul word_ptr(bp + local::PITCH);
        mov word_ptr(bp + local::DISTANCE), ax;
        pop dx;
        pop ax;
        // First line: the top one, or the last one of the window when it moves down.
        push ax;
        mov al, bh;
        mul ah;
        cmp si, 0x0700;
        jb ".from_top";
        mov al, dh;
        inc al;
        mul bh;
        dec ax;
        label ".from_top";
        mul word_ptr(bp + local::PITCH);
        mov di, ax;
        pop ax;
        mov ah, 0;
        shl ax, cl;
        add di, ax;
        cmp si, 0x0700;
        jb ".up";
        neg word_ptr(bp + local::PITCH);
        neg word_ptr(bp + local::DISTANCE);
        label ".up";
        mov cl, bl;
        pop bx;
        mov ax, 0xa000;
        cmp cl, Class::Planar as i32;
        jae ".segment";
        mov ax, 0xb800;
        label ".segment";
        mov es, ax;
        cmp byte_ptr(bp + local::PLANAR), 0;
        je ".packed";
        mov al, bl;
        mov ah, 0;
        mul word_ptr(vars::CRT_LEN);
        add di, ax;
        call "scroll_planar";
        jmp ".out";
        label ".packed";
        push cx;
        push di;
        call "scroll_bank";
        pop di;
        pop cx;
        cmp cl, Class::Linear as i32;
        je ".out";
        xor di, 0x2000;
        call "scroll_bank";
        label ".out";
        add sp, local::SIZE;
        pop bp;
        ret;
    }
    Ok(())
}

fn scroll_kernel(s: &mut Section) -> Emit {
    code! { s;
        proc "scroll_planar";
        mov bh, byte_ptr(bp + local::FILL);
        and bh, 0x0f;
        call "planar_colour";
        mov ax, 0x0105; // write mode 1 copies the latches
        out dx, ax;
        call "scroll_copy";
        mov dx, GC;
        mov ax, 0x0005;
        out dx, ax;
        call "scroll_fill";
        jmp "planar_default";
        proc "scroll_bank";
        call "scroll_copy";
        jmp "scroll_fill";
        proc "scroll_copy"; // ES:DI: first line, which moves
        push ds;
        push es;
        pop ds;
        mov bx, word_ptr(bp + local::COPIES);
        label ".next";
        test bx, bx;
        jz ".done";
        push di;
        mov si, di;
        add si, word_ptr(bp + local::DISTANCE);
        mov cx, word_ptr(bp + local::WIDTH);
        rep_movsb;
        pop di;
        add di, word_ptr(bp + local::PITCH);
        dec bx;
        jmp ".next";
        label ".done";
        pop ds;
        ret;
        proc "scroll_fill";
        mov bx, word_ptr(bp + local::FILLS);
        mov al, byte_ptr(bp + local::FILL);
        label ".next";
        test bx, bx;
        jz ".done";
        push di;
        mov cx, word_ptr(bp + local::WIDTH);
        rep_stosb;
        pop di;
        add di, word_ptr(bp + local::PITCH);
        dec bx;
        jmp ".next";
        label ".done";
        ret;
    }
    Ok(())
}

fn pixel_address(s: &mut Section) -> Emit {
    code! { s;
        proc "planar_pixel"; // the frame's CX: column, DX: line, BH: page -> ES:DI, AH: mask
        mov ax, 0xa000;
        mov es, ax;
        mov ax, f::dx_();
        mul word_ptr(vars::CRT_COLS);
        mov di, ax;
        mov al, f::bh_();
        mov ah, 0;
        mul word_ptr(vars::CRT_LEN);
        add di, ax;
        mov cx, f::cx_();
        mov ax, cx;
        shr ax, 3;
        add di, ax;
        and cl, 7;
        mov ah, 0x80;
        shr ah, cl;
        ret;
        proc "linear_pixel"; // -> ES:DI
        mov ax, 0xa000;
        mov es, ax;
        mov ax, f::dx_();
        mov di, 320;
        mul di;
        add ax, f::cx_();
        mov di, ax;
        ret;
        proc "cga_pixel"; // BL: bits of a dot - 1 (0 or 1) -> ES:DI, CL: shift, BH: mask unshifted
        mov ax, 0xb800;
        mov es, ax;
        mov ax, f::dx_();
        shr ax, 1;
        mov dx, 80;
        mul dx;
        mov di, ax;
        test f::dl_(), 1;
        jz ".even";
        add di, 0x2000;
        label ".even";
        mov ax, f::cx_();
        mov cx, ax;
        mov bh, 1;
        cmp bl, 0;
        je ".one_bit";
        shr ax, 2;
        add cl, cl;
        not cl;
        and cl, 6;
        mov bh, 3;
        jmp ".add";
        label ".one_bit";
        shr ax, 3;
        not cl;
        and cl, 7;
        label ".add";
        add di, ax;
        ret;
    }
    Ok(())
}

fn write_pixel(s: &mut Section) -> Emit {
    code! { s;
        proc "write_pixel"; // AH=0Ch, AL: colour, bit 7: exclusive or
        call "mode_class";
        select al, &[(Class::Planar as i32, ".planar"), (Class::Linear as i32, ".linear"), (Class::Cga4 as i32, ".cga4"), (Class::Cga2 as i32, ".cga2")];
        ret;
        label ".planar";
        mov bh, f::al_();
        call "planar_colour";
        call "planar_pixel";
        mov dx, GC;
        mov al, 8;
        out dx, ax;
        mov al, byte_ptr(di).es();
        mov byte_ptr(di).es(), al;
        jmp "planar_default";
        label ".linear";
        call "linear_pixel";
        mov al, f::al_();
        stosb;
        ret;
        label ".cga4";
        mov bl, 1;
        jmp ".cga";
        label ".cga2";
        mov bl, 0;
        label ".cga";
        call "cga_pixel";
        mov al, f::al_();
        mov ah, al;
        and al, bh;
        shl al, cl;
        test ah, 0x80;
        jnz ".xor";
        shl bh, cl;
        not bh;
        and byte_ptr(di).es(), bh;
        or byte_ptr(di).es(), al;
        ret;
        label ".xor";
        xor byte_ptr(di).es(), al;
        ret;
    }
    Ok(())
}

fn read_pixel(s: &mut Section) -> Emit {
    code! { s;
        proc "read_pixel"; // AH=0Dh
        call "mode_class";
        select al, &[(Class::Planar as i32, ".planar"), (Class::Linear as i32, ".linear"), (Class::Cga4 as i32, ".cga4"), (Class::Cga2 as i32, ".cga2")];
        ret;
        label ".planar";
        call "planar_pixel";
        mov bh, ah;
        mov bl, 0;
        mov dx, GC;
        mov ax, 0x0304;
        label ".plane";
        out dx, ax;
        add bl, bl;
        test byte_ptr(di).es(), bh;
        jz ".clear";
        inc bl;
        label ".clear";
        dec ah;
        jns ".plane";
        mov ax, 0x0004;
        out dx, ax;
        mov f::al_(), bl;
        ret;
        label ".linear";
        call "linear_pixel";
        mov al, byte_ptr(di).es();
        mov f::al_(), al;
        ret;
        label ".cga4";
        mov bl, 1;
        jmp ".cga";
        label ".cga2";
        mov bl, 0;
        label ".cga";
        call "cga_pixel";
        mov al, byte_ptr(di).es();
        shr al, cl;
        and al, bh;
        mov f::al_(), al;
        ret;
    }
    Ok(())
}
