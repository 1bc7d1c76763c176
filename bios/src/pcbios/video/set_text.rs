//! Text mode 3 (80 x 25, colour) set from outside, for kernels that are started without a BIOS: they find the display as POST
//! leaves it.

use super::modes;
use super::palette;
use crate::pcbios::font;
use crate::setup::{PortWrite, TextMode};

/// Offset of a character's rows in plane 2.
const GLYPH: usize = 32;

fn byte(port: u16, value: u8) -> PortWrite {
    PortWrite { port, size: 1, value: value.into() }
}

/// Registers behind an index port.
fn indexed(port: u16, from: u8, values: &[u8]) -> impl Iterator<Item = PortWrite> {
    (from..).zip(values).flat_map(move |(index, value)| [byte(port, index), byte(port + 1, *value)])
}

/// Everything in the order in which it is done.
pub fn text_mode() -> TextMode {
    let mode = modes::text_mode();
    let mut before: Vec<PortWrite> = Vec::new();
    // Plane 2 alone, at A0000h, byte by byte.
    before.push(byte(0x3c2, mode.misc));
    before.extend(indexed(0x3c4, 0, &[3, 1, 4, 0, 6]));
    before.extend(indexed(0x3ce, 0, &[0, 0, 0, 0, 0, 0, 4, 0, 0xff]));
    let rows = font::glyphs(mode.points.into());
    let glyphs = rows.chunks(mode.points.into()).flat_map(|rows| {
        let mut glyph = [0; GLYPH];
        glyph[..rows.len()].copy_from_slice(rows);
        glyph
    });
    let mut after: Vec<PortWrite> = indexed(0x3c4, 1, &mode.sequencer).collect();
    after.extend(indexed(0x3ce, 0, &mode.graphics));
    // Registers 0 to 7 are protected by bit 7 of register 11h.
    after.extend(indexed(0x3d4, 0x11, &[0]));
    after.extend(indexed(0x3d4, 0, &mode.crtc));
    // Attribute registers: an index and its data by the same port, which reading 3DAh puts in order. After reset it is.
    for (index, value) in (0..).zip(mode.attribute) {
        after.extend([byte(0x3c0, index), byte(0x3c0, value)]);
    }
    after.push(byte(0x3c0, 0x20));
    after.extend([byte(0x3c6, 0xff), byte(0x3c8, 0)]);
    after.extend(palette::text_colours().into_iter().flatten().map(|part| byte(0x3c9, part)));
    TextMode { before, font: glyphs.collect(), after }
}
