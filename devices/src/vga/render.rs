//! From the adapter's state to a picture in RGB.
//!
//! One pixel of the picture is one of the guest's: lines and columns that the CRT controller repeats are shown once.

use super::dispi::Mode;
use super::text;
use super::{VIDEO_MEMORY, Vga};
use crate::Ns;

/// A picture: rows of red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    pub(super) fn black(width: u32, height: u32) -> Self {
        Self { width, height, rgb: vec![0; 3 * (width * height) as usize] }
    }

    pub(super) fn set(&mut self, x: u32, y: u32, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = 3 * (y * self.width + x) as usize;
            self.rgb[at..at + 3].copy_from_slice(&colour);
        }
    }

    /// The colour of a pixel.
    pub fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let at = 3 * (y * self.width + x) as usize;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}

pub(super) fn picture(vga: &Vga, now: Ns) -> Picture {
    if let Some(mode) = vga.dispi.mode() {
        return match mode.bits {
            4 => planar_linear(vga, &mode),
            _ => packed(vga, &mode),
        };
    }
    if vga.registers.crtc[1] == 0 {
        // Nobody has set a mode yet: dark, and as large as a text mode.
        return Picture::black(720, 400);
    }
    if vga.registers.graphics[6] & 1 != 0 { graphics(vga) } else { text::picture(vga, now) }
}

impl Vga {
    /// Is the screen dark?
    pub(super) fn blanked(&self) -> bool {
        self.registers.sequencer[1] & 0x20 != 0 || self.registers.attribute_index & 0x20 == 0
    }

    /// The colour of DAC entry `index`.
    pub(super) fn dac_colour(&self, index: u8) -> [u8; 3] {
        let entry = self.registers.dac[usize::from(index & self.registers.dac_mask)];
        if self.dispi.wide_dac() { entry } else { entry.map(|v| v << 2 | v >> 4) }
    }

    /// The colour of a 4-bit pixel through the attribute controller.
    pub(super) fn palette_colour(&self, pixel: u8) -> [u8; 3] {
        let attribute = &self.registers.attribute;
        let mut index = attribute[usize::from(pixel & attribute[0x12] & 0xf)];
        if attribute[0x10] & 0x80 != 0 {
            index = index & 0x0f | (attribute[0x14] & 3) << 4;
        }
        self.dac_colour(index & 0x3f | (attribute[0x14] & 0x0c) << 4)
    }

    /// The plane offset that the CRT controller's counter stands for.
    pub(super) fn crtc_offset(&self, counter: u32, row_scan: u32) -> u64 {
        let crtc = &self.registers.crtc;
        let mut at = if self.registers.sequencer[4] & 8 != 0 || crtc[0x17] & 0x40 != 0 {
            counter
        } else if crtc[0x14] & 0x40 != 0 {
            counter << 2
        } else {
            let top = if crtc[0x17] & 0x20 != 0 { 15 } else { 13 };
            counter << 1 | counter >> top & 1
        };
        for (bit, address_bit) in [(0, 13), (1, 14)] {
            if crtc[0x17] >> bit & 1 == 0 {
                at = at & !(1 << address_bit) | (row_scan >> bit & 1) << address_bit;
            }
        }
        u64::from(at & if self.registers.sequencer[4] & 8 != 0 { 0x3_ffff } else { 0xffff })
    }

    /// The counter at the top of the screen.
    pub(super) fn start_address(&self) -> u32 {
        u32::from(self.registers.crtc[0x0c]) << 8 | u32::from(self.registers.crtc[0x0d])
    }

    /// The scan line after which the counter starts again at 0.
    pub(super) fn line_compare(&self) -> u32 {
        let crtc = &self.registers.crtc;
        u32::from(crtc[0x18]) | u32::from(crtc[7] & 0x10) << 4 | u32::from(crtc[9] & 0x40) << 3
    }
}

/// The display interface's modes with whole bytes per pixel.
fn packed(vga: &Vga, mode: &Mode) -> Picture {
    let mut picture = Picture::black(mode.width, mode.height);
    let bytes = usize::from(mode.bits.div_ceil(8));
    let mut line = vec![0; bytes * mode.width as usize];
    for y in 0..mode.height {
        vga.memory.read((mode.start + u64::from(y) * mode.pitch) % VIDEO_MEMORY, &mut line);
        for (x, pixel) in (0..).zip(line.chunks_exact(bytes)) {
            let colour = match (mode.bits, pixel) {
                (8, [index]) => vga.dac_colour(*index),
                (15, [a, b]) => five_bits(u16::from_le_bytes([*a, *b]), 10, 5),
                (16, [a, b]) => five_six_five(u16::from_le_bytes([*a, *b])),
                (_, [b, g, r, ..]) => [*r, *g, *b],
                _ => [0; 3],
            };
            picture.set(x, y, colour);
        }
    }
    picture
}

fn widen(value: u16) -> u8 {
    let v = (value & 0x1f) as u8;
    v << 3 | v >> 2
}

fn five_bits(pixel: u16, red: u32, green: u32) -> [u8; 3] {
    [widen(pixel >> red), widen(pixel >> green), widen(pixel)]
}

fn five_six_five(pixel: u16) -> [u8; 3] {
    let green = (pixel >> 5 & 0x3f) as u8;
    [widen(pixel >> 11), green << 2 | green >> 4, widen(pixel)]
}

/// Bit `bit` of each plane's byte as a 4-bit pixel.
fn planar_pixel(planes: &[u8], bit: u32) -> u8 {
    planes.iter().enumerate().fold(0, |pixel, (plane, byte)| pixel | (byte >> bit & 1) << plane)
}

fn planar_linear(vga: &Vga, mode: &Mode) -> Picture {
    let mut picture = Picture::black(mode.width, mode.height);
    let mut line = vec![0; 4 * mode.width.div_ceil(8) as usize];
    for y in 0..mode.height {
        vga.memory.read((mode.start + u64::from(y) * mode.pitch) % VIDEO_MEMORY, &mut line);
        for x in 0..mode.width {
            let at = 4 * (x / 8) as usize;
            picture.set(x, y, vga.palette_colour(planar_pixel(&line[at..at + 4], 7 - x % 8)));
        }
    }
    picture
}

/// How pixels lie in the planes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shift {
    /// One bit in each plane.
    Planar,
    /// Two bits in each of two planes, as on a CGA.
    Interleaved,
    /// A byte, each plane in turn.
    Bytes,
}

/// The VGA's own graphics modes.
fn graphics(vga: &Vga) -> Picture {
    let r = &vga.registers;
    let shift = match r.graphics[5] >> 5 & 3 {
        0 => Shift::Planar,
        1 => Shift::Interleaved,
        _ => Shift::Bytes,
    };
    let characters = u32::from(r.crtc[1]) + 1;
    let per_character = if shift == Shift::Bytes { 4 } else { 8 };
    let double_scan = 1 + u32::from(r.crtc[9] >> 7);
    let row_height = u32::from(r.crtc[9] & 0x1f) + 1;
    // Rows of scan lines that show the same bytes, unless the row counter is a part of the address.
    let same = double_scan * if r.crtc[0x17] & 3 == 3 { row_height } else { 1 };
    let lines = r.visible_lines();
    let mut picture = Picture::black(characters * per_character, (lines / same).max(1));
    if vga.blanked() {
        return picture;
    }
    let pitch = u32::from(r.crtc[0x13]) * 2;
    let mut pan = u32::from(r.attribute[0x13] & 7) / if shift == Shift::Bytes { 2 } else { 1 };
    let (mut counter, mut row_scan) = (vga.start_address(), u32::from(r.crtc[8] & 0x1f));
    let split = vga.line_compare();
    for line in 0..lines {
        if line == split.saturating_add(1) {
            (counter, row_scan) = (0, 0);
            if r.attribute[0x10] & 0x20 != 0 {
                pan = 0;
            }
        }
        if line % same == 0 {
            graphics_line(vga, shift, &mut picture, line / same, counter, row_scan, pan);
        }
        if line % double_scan == double_scan - 1 {
            row_scan += 1;
            if row_scan >= row_height {
                (row_scan, counter) = (0, counter.wrapping_add(pitch));
            }
        }
    }
    picture
}

fn graphics_line(
    vga: &Vga,
    shift: Shift,
    picture: &mut Picture,
    y: u32,
    counter: u32,
    row_scan: u32,
    pan: u32,
) {
    let per_character = if shift == Shift::Bytes { 4 } else { 8 };
    let characters = picture.width / per_character;
    for character in 0..=characters {
        let mut planes = [0; 4];
        let at = vga.crtc_offset(counter.wrapping_add(character), row_scan);
        vga.memory.read(4 * at, &mut planes);
        for n in 0..per_character {
            let Some(x) = (character * per_character + n).checked_sub(pan) else { continue };
            let colour = match shift {
                Shift::Bytes => vga.dac_colour(planes[n as usize]),
                Shift::Planar => vga.palette_colour(planar_pixel(&planes, 7 - n)),
                Shift::Interleaved => {
                    let (low, high) = (planes[n as usize / 4], planes[n as usize / 4 + 2]);
                    let at = 6 - 2 * (n % 4);
                    vga.palette_colour(low >> at & 3 | (high >> at & 3) << 2)
                }
            };
            picture.set(x, y, colour);
        }
    }
}
