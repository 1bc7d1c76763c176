//! The VGA's modes: the values of its registers for each, and INT 10h AH=00h.

use iced_x86::code_asm::*;

use super::palette::Dac;
use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// How memory is organised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Characters and attributes.
    Text = 0,
    /// CGA, two bits for a pixel.
    Cga4 = 1,
    /// CGA, one bit for a pixel.
    Cga2 = 2,
    /// Four planes.
    Planar = 3,
    /// A byte for a pixel.
    Linear = 4,
}

pub(super) struct Mode {
    number: u8,
    class: Class,
    columns: u8,
    rows: u8,
    pub points: u8,
    page_bytes: u16,
    dac: Dac,
    pub misc: u8,
    pub sequencer: [u8; 4],
    pub crtc: [u8; 25],
    pub attribute: [u8; 20],
    pub graphics: [u8; 9],
}

/// Offsets in a mode's record.
mod record {
    pub const CLASS: i32 = 1;
    pub const COLUMNS: i32 = 2;
    pub const ROWS: i32 = 3;
    pub const POINTS: i32 = 4;
    pub const DAC: i32 = 5;
    pub const PAGE_BYTES: i32 = 6;
    pub const MISC: i32 = 8;
    pub const SEQUENCER: i32 = 9;
    pub const CRTC: i32 = 13;
    pub const ATTRIBUTE: i32 = 38;
    pub const GRAPHICS: i32 = 58;
    pub const SIZE: i32 = 67;
}

impl Mode {
    fn record(&self) -> Vec<u8> {
        let mut out = vec![
            self.number,
            self.class as u8,
            self.columns,
            self.rows - 1,
            self.points,
            self.dac as u8,
            self.page_bytes as u8,
            (self.page_bytes >> 8) as u8,
            self.misc,
        ];
        out.extend(self.sequencer);
        out.extend(self.crtc);
        out.extend(self.attribute);
        out.extend(self.graphics);
        out
    }
}

/// Attribute controller: 16 palette registers, then mode, overscan, plane enable, panning.
const fn attributes(palette: [u8; 16], mode: u8, planes: u8, panning: u8) -> [u8; 20] {
    let mut out = [0; 20];
    let mut i = 0;
    while i < 16 {
        out[i] = palette[i];
        i += 1;
    }
    out[16] = mode;
    out[18] = planes;
    out[19] = panning;
    out
}

/// The 16 colours as the EGA's 64-colour palette numbers them.
const EGA: [u8; 16] = [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f];
/// The same on a 200-line display: intensity is bit 4.
const CGA: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
const CGA_FOUR: [u8; 16] = [0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
const MONO: [u8; 16] = [0, 8, 8, 8, 8, 8, 8, 8, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18];
const TWO_CGA: [u8; 16] =
    [0, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17];
const TWO: [u8; 16] =
    [0, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f];
const IDENTITY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// CRT controller. Horizontal registers 0-5; vertical total, overflow, maximum scan line; cursor; vertical retrace start and end,
/// display end; offset, underline, blank start and end, mode control.
const fn crtc(horizontal: [u8; 6], total: [u8; 3], cursor: [u8; 2], vertical: [u8; 8]) -> [u8; 25] {
    let (h, t, v) = (horizontal, total, vertical);
    [
        h[0], h[1], h[2], h[3], h[4], h[5], t[0], t[1], 0, t[2], cursor[0], cursor[1], 0, 0, 0, 0, v[0],
        v[1], v[2], v[3], v[4], v[5], v[6], v[7], 0xff,
    ]
}

const H80_TEXT: [u8; 6] = [0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81];
const H40_TEXT: [u8; 6] = [0x2d, 0x27, 0x28, 0x90, 0x2b, 0xa0];
const H80: [u8; 6] = [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80];
const H40: [u8; 6] = [0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80];
const PLANAR: [u8; 9] = [0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff];

fn text(number: u8, columns: u8) -> Mode {
    let mono = number == 7;
    let wide = columns == 80;
    Mode {
        number,
        class: Class::Text,
        columns,
        rows: 25,
        points: 16,
        page_bytes: if wide { 0x1000 } else { 0x800 },
        dac: if mono { Dac::Mono } else { Dac::Ega },
        misc: if mono { 0x66 } else { 0x67 },
        sequencer: [if wide { 0 } else { 8 }, 3, 0, 2],
        crtc: crtc(
            if wide { H80_TEXT } else { H40_TEXT },
            [0xbf, 0x1f, 0x4f],
            [0x0d, 0x0e],
            [
                0x9c,
                0x8e,
                0x8f,
                if wide { 0x28 } else { 0x14 },
                if mono { 0x0f } else { 0x1f },
                0x96,
                0xb9,
                0xa3,
            ],
        ),
        attribute: if mono { attributes(MONO, 0x0e, 0x0f, 8) } else { attributes(EGA, 0x0c, 0x0f, 8) },
        graphics: [0, 0, 0, 0, 0, 0x10, if mono { 0x0a } else { 0x0e }, 0, 0xff],
    }
}

fn graphics(number: u8, class: Class, columns: u8, points: u8, page_bytes: u16) -> Mode {
    let wide = columns == 80;
    Mode {
        number,
        class,
        columns,
        rows: 25,
        points,
        page_bytes,
        dac: Dac::Cga,
        misc: 0x63,
        sequencer: [if wide { 1 } else { 9 }, 0x0f, 0, 6],
        crtc: crtc(
            if wide { H80 } else { H40 },
            [0xbf, 0x1f, 0xc0],
            [0, 0],
            [0x9c, 0x8e, 0x8f, if wide { 0x28 } else { 0x14 }, 0, 0x96, 0xb9, 0xe3],
        ),
        attribute: attributes(CGA, 1, 0x0f, 0),
        graphics: PLANAR,
    }
}

fn cga(number: u8) -> Mode {
    let four = number != 6;
    let class = if four { Class::Cga4 } else { Class::Cga2 };
    let mut mode = graphics(number, class, if four { 40 } else { 80 }, 8, 0x4000);
    mode.sequencer = if four { [9, 3, 0, 2] } else { [1, 1, 0, 6] };
    mode.crtc[9] = 0xc1;
    mode.crtc[23] = if four { 0xa2 } else { 0xc2 };
    mode.attribute = if four { attributes(CGA_FOUR, 1, 3, 0) } else { attributes(TWO_CGA, 1, 1, 0) };
    mode.graphics =
        if four { [0, 0, 0, 0, 0, 0x30, 0x0f, 0x0f, 0xff] } else { [0, 0, 0, 0, 0, 0, 0x0d, 0x0f, 0xff] };
    mode
}

fn lines_350(number: u8, mono: bool) -> Mode {
    let mut mode = graphics(number, Class::Planar, 80, 14, 0x8000);
    mode.misc = if mono { 0xa2 } else { 0xa3 };
    mode.dac = if mono { Dac::Mono } else { Dac::Ega };
    mode.crtc = crtc(H80, [0xbf, 0x1f, 0x40], [0, 0], [0x83, 0x85, 0x5d, 0x28, 0x0f, 0x63, 0xba, 0xe3]);
    mode.attribute = if mono {
        attributes([0, 8, 0, 0, 0x18, 0x18, 0, 0, 0, 8, 0, 0, 0, 0x18, 0, 0], 0x0b, 5, 0)
    } else {
        attributes(EGA, 1, 0x0f, 0)
    };
    mode
}

fn lines_480(number: u8) -> Mode {
    let mut mode = graphics(number, Class::Planar, 80, 16, 0xa000);
    mode.rows = 30;
    mode.misc = 0xe3;
    mode.dac = Dac::Ega;
    mode.crtc = crtc(H80, [0x0b, 0x3e, 0x40], [0, 0], [0xea, 0x8c, 0xdf, 0x28, 0, 0xe7, 0x04, 0xe3]);
    mode.attribute =
        attributes(if number == 0x11 { TWO } else { EGA }, 1, if number == 0x11 { 1 } else { 0x0f }, 0);
    mode
}

fn linear() -> Mode {
    let mut mode = graphics(0x13, Class::Linear, 40, 8, 0);
    mode.sequencer = [1, 0x0f, 0, 0x0e];
    mode.dac = Dac::Full;
    mode.crtc = crtc(H80, [0xbf, 0x1f, 0x41], [0, 0], [0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3]);
    mode.attribute = attributes(IDENTITY, 0x41, 0x0f, 0);
    mode.graphics = [0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff];
    mode
}

fn modes() -> Vec<Mode> {
    vec![
        text(0, 40),
        text(1, 40),
        text(2, 80),
        text(3, 80),
        cga(4),
        cga(5),
        cga(6),
        text(7, 80),
        graphics(0x0d, Class::Planar, 40, 8, 0x2000),
        graphics(0x0e, Class::Planar, 80, 8, 0x4000),
        lines_350(0x0f, true),
        lines_350(0x10, false),
        lines_480(0x11),
        lines_480(0x12),
        linear(),
    ]
}

/// The mode in which a PC starts.
pub(super) fn text_mode() -> Mode {
    text(3, 80)
}

/// The table and the procedures.
pub fn emit(s: &mut Section) -> Emit {
    s.proc("mode_table")?;
    for mode in modes() {
        s.bytes(&mode.record())?;
    }
    s.bytes(&[0xff])?;
    find(s)?;
    set(s)?;
    registers(s)?;
    clear(s)
}

fn find(s: &mut Section) -> Emit {
    code! { s;
        proc "find_mode"; // AL: mode. CF = 0 and SI: its record (in CS)
        offset si, "mode_table";
        label ".next";
        mov ah, byte_ptr(si).cs();
        cmp ah, -1;
        je ".none";
        cmp ah, al;
        je ".found";
        add si, record::SIZE;
        jmp ".next";
        label ".found";
        clc;
        ret;
        label ".none";
        stc;
        ret;
        proc "mode_class"; // AL: class of the present mode, 0ffh if it is none of these. Keeps the rest
        push si;
        mov al, byte_ptr(vars::CRT_MODE);
        call "find_mode";
        mov al, byte_ptr(si + record::CLASS).cs();
        jnc ".out";
        mov al, -1;
        label ".out";
        pop si;
        ret;
    }
    Ok(())
}

fn set(s: &mut Section) -> Emit {
    code! { s;
        proc "set_mode"; // AH=00h, AL: mode, bit 7: keep the memory
        call "vbe_off";
        mov al, f::al_();
        mov dl, al;
        and al, 0x7f;
        call "find_mode";
        jnc ".known";
        ret;
        label ".known";
        mov byte_ptr(vars::CRT_MODE), al;
        and dl, 0x80;
        and byte_ptr(vars::INFO), 0x7f;
        or byte_ptr(vars::INFO), dl;
        call "program_mode";
        test byte_ptr(vars::INFO), 0x80;
        jnz ".kept";
        call "clear_memory";
        label ".kept";
        // What the BIOS data area tells.
        movzx ax, byte_ptr(si + record::COLUMNS).cs();
        mov word_ptr(vars::CRT_COLS), ax;
        mov al, byte_ptr(si + record::ROWS).cs();
        mov byte_ptr(vars::ROWS), al;
        movzx ax, byte_ptr(si + record::POINTS).cs();
        mov word_ptr(vars::POINTS), ax;
        mov ax, word_ptr(si + record::PAGE_BYTES).cs();
        mov word_ptr(vars::CRT_LEN), ax;
        xor eax, eax;
        mov word_ptr(vars::CRT_START), ax;
        mov byte_ptr(vars::ACTIVE_PAGE), al;
        push ds;
        pop es;
        mov di, vars::CURSOR_POSN;
        mov cx, 4;
        rep_stosd;
        mov word_ptr(vars::CURSOR_MODE), 0x0607;
        mov dx, 0x3d4;
        test byte_ptr(si + record::MISC).cs(), 1;
        jnz ".colour";
        mov dl, 0xb4;
        label ".colour";
        mov word_ptr(vars::ADDR_6845), dx;
        // CGA's mode register as old programs look for it.
        movzx bx, byte_ptr(vars::CRT_MODE);
        mov al, 0x29;
        cmp bl, 7;
        ja ".modern";
        offset di, "cga_mode";
        mov al, byte_ptr(bx + di).cs();
        label ".modern";
        mov byte_ptr(vars::CRT_MODE_SET), al;
        mov byte_ptr(vars::CRT_PALETTE), 0x30;
        // Fonts.
        cmp byte_ptr(si + record::CLASS).cs(), 0;
        jne ".graphics";
        mov bl, 0;
        call "load_font_16";
        mov cx, 0x0607;
        call "cursor_shape";
        jmp ".font_done";
        label ".graphics";
        call "graphics_font";
        label ".font_done";
        call "return_mode_al";
        ret;
        proc "return_mode_al"; // what AL is after a mode set
        mov al, 0x20;
        cmp byte_ptr(vars::CRT_MODE), 7;
        ja ".store";
        mov al, 0x30;
        cmp byte_ptr(vars::CRT_MODE), 6;
        jne ".store";
        mov al, 0x3f;
        label ".store";
        mov f::al_(), al;
        ret;
        proc "cga_mode";
    }
    s.bytes(&[0x2c, 0x28, 0x2d, 0x29, 0x2a, 0x2e, 0x1e, 0x29])
}

fn registers(s: &mut Section) -> Emit {
    code! { s;
        proc "write_registers"; // DX: index port, CX: how many, BX: their values (in CS), AH: first index
        label ".next";
        mov al, ah;
        out dx, al;
        mov al, byte_ptr(bx).cs();
        inc dx;
        out dx, al;
        dec dx;
        inc ah;
        inc bx;
        dec cx;
        jnz ".next";
        ret;

        proc "program_mode"; // SI: the record. Keeps SI
        // Screen off, synchronous reset while the clock changes.
        mov dx, 0x3c4;
        mov ax, 0x2001;
        out dx, ax;
        mov ax, 0x0100;
        out dx, ax;
        mov al, byte_ptr(si + record::MISC).cs();
        mov dl, 0xc2;
        out dx, al;
        mov dl, 0xc4;
        mov ah, 1;
        mov cx, 4;
        lea bx, word_ptr(si + record::SEQUENCER);
        call "write_registers";
        mov ax, 0x0300;
        out dx, ax;
        // CRT controller: its first eight registers are unlocked by bit 7 of the twelfth.
        mov dx, 0x3d4;
        test byte_ptr(si + record::MISC).cs(), 1;
        jnz ".colour";
        mov dl, 0xb4;
        label ".colour";
        push dx;
        mov ax, 0x0011;
        out dx, ax;
        mov ah, 0;
        mov cx, 25;
        lea bx, word_ptr(si + record::CRTC);
        call "write_registers";
        mov dx, 0x3ce;
        mov ah, 0;
        mov cx, 9;
        lea bx, word_ptr(si + record::GRAPHICS);
        call "write_registers";
        // Attribute controller: one port for index and value.
        pop dx;
        add dl, 6;
        in_ al, dx;
        mov dl, 0xc0;
        lea bx, word_ptr(si + record::ATTRIBUTE);
        mov ah, 0;
        label ".attribute";
        mov al, ah;
        out dx, al;
        mov al, byte_ptr(bx).cs();
        out dx, al;
        inc bx;
        inc ah;
        cmp ah, 20;
        jb ".attribute";
        mov al, 0x14;
        out dx, al;
        mov al, 0;
        out dx, al;
        mov al, byte_ptr(si + record::DAC).cs();
        test byte_ptr(vars::FLAGS), 8; // default palette loading is off
        jnz ".screen_on";
        call "load_dac";
        label ".screen_on";
        mov dx, 0x3c6;
        mov al, -1;
        out dx, al;
        mov dl, 0xc0;
        mov al, 0x20;
        out dx, al;
        ret;
    }
    Ok(())
}

fn clear(s: &mut Section) -> Emit {
    code! { s;
        proc "clear_memory"; // SI: the record. Keeps SI
        xor eax, eax;
        mov dx, 0xa000;
        mov cl, byte_ptr(si + record::CLASS).cs();
        cmp cl, Class::Planar as i32;
        jae ".fill";
        mov dx, 0xb800;
        cmp cl, 0;
        jne ".fill";
        mov eax, 0x0720_0720;
        test byte_ptr(si + record::MISC).cs(), 1;
        jnz ".fill";
        mov dx, 0xb000;
        label ".fill";
        mov es, dx;
        xor di, di;
        mov cx, 0x4000;
        cmp dx, 0xa000;
        je ".go";
        shr cx, 1;
        label ".go";
        rep_stosd;
        ret;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_size_that_the_code_knows() {
        for mode in modes() {
            assert_eq!(mode.record().len(), record::SIZE as usize, "mode {:#x}", mode.number);
        }
    }
}
