//! Colours: the digital-to-analogue converter's tables, and INT 10h AH=0Bh and AH=10h.

use iced_x86::code_asm::*;

use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// What the DAC is loaded with.
#[derive(Clone, Copy)]
pub enum Dac {
    /// 64 colours, two bits for each component.
    Ega = 0,
    /// 16 colours, repeated.
    Cga = 1,
    /// Grey.
    Mono = 2,
    /// 256 colours.
    Full = 3,
}

type Colour = [u8; 3];

/// The EGA's colour `number`: bits 0-2 blue, green, red of two thirds, bits 3-5 of one third.
fn ega(number: u8) -> Colour {
    let part = |bit: u8| 42 * (number >> bit & 1) + 21 * (number >> (bit + 3) & 1);
    [part(2), part(1), part(0)]
}

/// The CGA's colour `number`: red, green and blue with a common intensity; dark yellow is brown.
fn cga(number: u8) -> Colour {
    if number & 15 == 6 {
        return [42, 21, 0];
    }
    let bright = 21 * (number >> 3 & 1);
    [2, 1, 0].map(|bit| 42 * (number >> bit & 1) + bright)
}

/// 24 hues from blue over red, green to cyan, whose components lie between the first and the last of `levels`.
fn hues(levels: [u8; 5]) -> Vec<Colour> {
    let [low, high] = [levels[0], levels[4]];
    let mut out = Vec::new();
    // Each sixth of the circle moves one component from one end to the other, in four steps.
    for (moving, up, fixed_high) in
        [(0, true, 2), (2, false, 0), (1, true, 0), (0, false, 1), (2, true, 1), (1, false, 2)]
    {
        for step in 0..4 {
            let mut colour = [low; 3];
            colour[fixed_high] = high;
            colour[moving] = levels[if up { step } else { 4 - step }];
            out.push(colour);
        }
    }
    out
}

/// Mode 13h: 16 colours of the CGA, 16 greys, then 24 hues in three intensities and three saturations.
fn full() -> Vec<Colour> {
    const GREYS: [u8; 16] = [0, 5, 8, 11, 14, 17, 20, 24, 28, 32, 36, 40, 45, 50, 56, 63];
    const LEVELS: [[u8; 5]; 9] = [
        [0, 16, 31, 47, 63],
        [31, 39, 47, 55, 63],
        [45, 49, 54, 58, 63],
        [0, 7, 14, 21, 28],
        [14, 17, 21, 24, 28],
        [20, 22, 24, 26, 28],
        [0, 4, 8, 12, 16],
        [8, 10, 12, 14, 16],
        [11, 12, 13, 15, 16],
    ];
    let mut out: Vec<Colour> = (0..16).map(cga).collect();
    out.extend(GREYS.map(|grey| [grey; 3]));
    out.extend(LEVELS.into_iter().flat_map(hues));
    out.resize(256, [0; 3]);
    out
}

/// What the DAC has in text modes.
pub(super) fn text_colours() -> Vec<Colour> {
    (0..64).map(ega).collect()
}

/// Tables and procedures.
pub fn emit(s: &mut Section) -> Emit {
    let bytes = |colours: Vec<Colour>| colours.into_iter().flatten().collect::<Vec<u8>>();
    s.proc("dac_ega")?;
    s.bytes(&bytes((0..64).map(ega).collect()))?;
    s.proc("dac_cga")?;
    // Intensity is bit 4 in the palette of the 200-line modes.
    s.bytes(&bytes((0..64).map(|n| cga(n & 7 | (n & 0x10) >> 1)).collect()))?;
    s.proc("dac_mono")?;
    s.bytes(&bytes((0..64u8).map(|n| [[0, 42, 21, 63][usize::from(n >> 3 & 3)]; 3]).collect()))?;
    s.proc("dac_full")?;
    s.bytes(&bytes(full()))?;
    load(s)?;
    attributes(s)?;
    dac(s)?;
    cga_palette(s)
}

fn load(s: &mut Section) -> Emit {
    code! { s;
        proc "load_dac"; // AL: which table. Keeps SI
        push si;
        mov cx, 64 * 3;
        offset si, "dac_ega";
        cmp al, 0;
        je ".go";
        offset si, "dac_cga";
        cmp al, 1;
        je ".go";
        offset si, "dac_mono";
        cmp al, 2;
        je ".go";
        offset si, "dac_full";
        mov cx, 256 * 3;
        label ".go";
        mov dx, 0x3c8;
        mov al, 0;
        out dx, al;
        inc dx;
        label ".next";
        mov al, byte_ptr(si).cs();
        inc si;
        out dx, al;
        dec cx;
        jnz ".next";
        pop si;
        ret;
    }
    Ok(())
}

fn attributes(s: &mut Section) -> Emit {
    code! { s;
        proc "attribute_index"; // AL: index. DX: 3c0h, the next write is the value
        push ax;
        mov dx, word_ptr(vars::ADDR_6845);
        add dx, 6;
        in_ al, dx;
        mov dx, 0x3c0;
        pop ax;
        out dx, al;
        ret;
        proc "attribute_write"; // AL: index, AH: value
        call "attribute_index";
        mov al, ah;
        out dx, al;
        mov al, 0x20;
        out dx, al;
        ret;
        proc "attribute_read"; // AL: index -> AH
        call "attribute_index";
        inc dx;
        in_ al, dx;
        mov ah, al;
        dec dx;
        push ax;
        mov dx, word_ptr(vars::ADDR_6845);
        add dx, 6;
        in_ al, dx;
        mov dx, 0x3c0;
        mov al, 0x20;
        out dx, al;
        pop ax;
        ret;

        proc "palette"; // AH=10h
        mov al, f::al_();
        mov bx, f::bx_();
        mov cx, f::cx_();
        select al, &[
            (0x00, ".one"), (0x01, ".overscan"), (0x02, ".all"), (0x03, ".blink"), (0x07, ".read_one"),
            (0x08, ".read_overscan"), (0x09, ".read_all"), (0x10, "dac_one"), (0x12, "dac_block"),
            (0x13, "dac_page"), (0x15, "dac_read_one"), (0x17, "dac_read_block"), (0x18, "dac_mask"),
            (0x19, "dac_read_mask"), (0x1a, "dac_read_page"), (0x1b, "dac_grey")
        ];
        ret;
        label ".one";
        cmp bl, 0x14;
        ja ".ret";
        mov ax, bx;
        jmp "attribute_write";
        label ".ret";
        ret;
        label ".overscan";
        mov al, 0x11;
        mov ah, bh;
        jmp "attribute_write";
        label ".all";
        mov es, f::es_();
        mov di, f::dx_();
        mov cl, 0;
        label ".all_next";
        mov al, cl;
        mov ah, byte_ptr(di).es();
        cmp cl, 16;
        jne ".not_border";
        inc al;
        label ".not_border";
        call "attribute_write";
        inc di;
        inc cl;
        cmp cl, 17;
        jb ".all_next";
        ret;
        label ".blink";
        mov al, 0x10;
        call "attribute_read";
        and ah, 0xf7;
        and bl, 1;
        shl bl, 3;
        or ah, bl;
        and byte_ptr(vars::CRT_MODE_SET), 0xdf;
        shl bl, 2;
        or byte_ptr(vars::CRT_MODE_SET), bl;
        mov al, 0x10;
        jmp "attribute_write";
        label ".read_one";
        mov al, bl;
        call "attribute_read";
        mov f::bh_(), ah;
        ret;
        label ".read_overscan";
        mov al, 0x11;
        call "attribute_read";
        mov f::bh_(), ah;
        ret;
        label ".read_all";
        mov es, f::es_();
        mov di, f::dx_();
        mov cl, 0;
        label ".read_next";
        mov al, cl;
        cmp cl, 16;
        jne ".not_border2";
        inc al;
        label ".not_border2";
        call "attribute_read";
        mov byte_ptr(di).es(), ah;
        inc di;
        inc cl;
        cmp cl, 17;
        jb ".read_next";
        ret;
    }
    Ok(())
}

fn dac(s: &mut Section) -> Emit {
    code! { s;
        proc "dac_one"; // BX: register; DH, CH, CL: red, green, blue
        mov dx, 0x3c8;
        mov al, bl;
        out dx, al;
        inc dx;
        mov al, f::dh_();
        out dx, al;
        mov al, ch;
        out dx, al;
        mov al, cl;
        out dx, al;
        ret;
        proc "dac_block"; // BX: first, CX: how many, ES:DX: table
        mov ds, f::es_();
        mov si, f::dx_();
        mov dx, 0x3c8;
        mov al, bl;
        out dx, al;
        inc dx;
        label ".next";
        jcxz ".done";
        lodsb;
        out dx, al;
        lodsb;
        out dx, al;
        lodsb;
        out dx, al;
        dec cx;
        jmp ".next";
        label ".done";
        push 0x40;
        pop ds;
        ret;
        proc "dac_page"; // BL=0: mode BH; BL=1: page BH
        mov al, 0x10;
        call "attribute_read";
        cmp bl, 0;
        jne ".page";
        and ah, 0x7f;
        shl bh, 7;
        or ah, bh;
        mov al, 0x10;
        jmp "attribute_write";
        label ".page";
        test ah, 0x80;
        jnz ".sixteen";
        shl bh, 2;
        label ".sixteen";
        mov al, 0x14;
        mov ah, bh;
        jmp "attribute_write";
        proc "dac_read_page";
        mov al, 0x10;
        call "attribute_read";
        mov bl, ah;
        shr bl, 7;
        mov al, 0x14;
        call "attribute_read";
        cmp bl, 0;
        jne ".done";
        shr ah, 2;
        label ".done";
        mov f::bl_(), bl;
        mov f::bh_(), ah;
        ret;
        proc "dac_read_one";
        mov dx, 0x3c7;
        mov al, bl;
        out dx, al;
        mov dl, 0xc9;
        in_ al, dx;
        mov f::dh_(), al;
        in_ al, dx;
        mov f::ch_(), al;
        in_ al, dx;
        mov f::cl_(), al;
        ret;
        proc "dac_read_block";
        mov es, f::es_();
        mov di, f::dx_();
        mov dx, 0x3c7;
        mov al, bl;
        out dx, al;
        mov dl, 0xc9;
        mov ax, cx;
        add cx, cx;
        add cx, ax;
        rep_insb;
        ret;
        proc "dac_mask";
        mov dx, 0x3c6;
        mov al, bl;
        out dx, al;
        ret;
        proc "dac_read_mask";
        mov dx, 0x3c6;
        in_ al, dx;
        mov f::bl_(), al;
        ret;
        proc "dac_grey"; // BX: first, CX: how many become grey
        label ".next";
        jcxz ".done";
        mov dx, 0x3c7;
        mov al, bl;
        out dx, al;
        mov dl, 0xc9;
        // 30 % red, 59 % green, 11 % blue, of 256.
        in_ al, dx;
        mov ah, 77;
        mul ah;
        mov si, ax;
        in_ al, dx;
        mov ah, 151;
        mul ah;
        add si, ax;
        in_ al, dx;
        mov ah, 28;
        mul ah;
        add si, ax;
        mov ax, si;
        mov al, bl;
        mov dl, 0xc8;
        out dx, al;
        inc dx;
        mov al, ah;
        out dx, al;
        out dx, al;
        out dx, al;
        inc bx;
        dec cx;
        jmp ".next";
        label ".done";
        ret;
    }
    Ok(())
}

fn cga_palette(s: &mut Section) -> Emit {
    code! { s;
        proc "cga_palette"; // AH=0Bh. BH=0: background or border BL; BH=1: palette BL of mode 4
        mov bx, f::bx_();
        cmp bh, 0;
        jne ".palette";
        mov ah, bl;
        and ah, 0x0f;
        test ah, 8;
        jz ".dark";
        add ah, 8;
        label ".dark";
        mov al, 0x11;
        push ax;
        call "attribute_write";
        pop ax;
        cmp byte_ptr(vars::CRT_MODE), 3;
        jbe ".ret";
        mov al, 0;
        jmp "attribute_write";
        label ".palette";
        and bl, 1;
        mov cl, 1;
        label ".next";
        mov al, cl;
        call "attribute_read";
        and ah, 0xfe;
        or ah, bl;
        mov al, cl;
        call "attribute_write";
        inc cl;
        cmp cl, 4;
        jb ".next";
        label ".ret";
        ret;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hues_begin_with_blue_and_pass_red_green_cyan() {
        let full = full();
        assert_eq!(full[32], [0, 0, 63]);
        assert_eq!(full[33], [16, 0, 63]);
        assert_eq!(full[40], [63, 0, 0]);
        assert_eq!(full[48], [0, 63, 0]);
        assert_eq!(full[52], [0, 63, 63]);
        assert_eq!(full[15], [63, 63, 63]);
        assert_eq!(ega(0x14), [42, 21, 0]);
    }
}
