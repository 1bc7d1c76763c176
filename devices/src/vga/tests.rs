//! The adapter programmed as its BIOS and its users program it.

use super::*;
use crate::PortDevice;
use crate::pci::PciFunction;

fn vga() -> Vga {
    Vga::new(OwnMemory::new(), 0x1_0000)
}

fn out(v: &mut Vga, port: u16, index: u8, value: u8) {
    v.port_write(port, 2, u32::from(index) | u32::from(value) << 8, 0);
}

fn set(v: &mut Vga, port: u16, values: &[u8]) {
    for (index, value) in (0..).zip(values) {
        out(v, port, index, *value);
    }
}

fn attributes(v: &mut Vga, values: &[u8]) {
    v.port_read(0x3da, 1, 0);
    for (index, value) in (0..).zip(values) {
        v.port_write(0x3c0, 1, index, 0);
        v.port_write(0x3c0, 1, (*value).into(), 0);
    }
    v.port_write(0x3c0, 1, 0x20, 0);
}

fn palette(v: &mut Vga) {
    v.port_write(0x3c8, 1, 0, 0);
    for n in 0..256u32 {
        for part in [n & 0x3f, n >> 1 & 0x3f, n >> 2 & 0x3f] {
            v.port_write(0x3c9, 1, part, 0);
        }
    }
}

const IDENTITY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// IBM's parameter tables (technical reference, video modes).
fn mode_3(v: &mut Vga) {
    v.port_write(0x3c2, 1, 0x67, 0);
    set(v, 0x3c4, &[3, 0, 3, 0, 2]);
    out(v, 0x3d4, 0x11, 0);
    let crtc = [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f,
        0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ];
    set(v, 0x3d4, &crtc);
    set(v, 0x3ce, &[0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff]);
    attributes(v, &[&IDENTITY[..], &[0x0c, 0, 0x0f, 8, 0]].concat());
    palette(v);
}

fn mode_13(v: &mut Vga) {
    v.port_write(0x3c2, 1, 0x63, 0);
    set(v, 0x3c4, &[3, 1, 0x0f, 0, 0x0e]);
    out(v, 0x3d4, 0x11, 0);
    let crtc = [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28,
        0x40, 0x96, 0xb9, 0xa3, 0xff,
    ];
    set(v, 0x3d4, &crtc);
    set(v, 0x3ce, &[0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff]);
    attributes(v, &[&IDENTITY[..], &[0x41, 0, 0x0f, 0, 0]].concat());
    palette(v);
}

fn mode_12(v: &mut Vga) {
    v.port_write(0x3c2, 1, 0xe3, 0);
    set(v, 0x3c4, &[3, 1, 0x0f, 0, 6]);
    out(v, 0x3d4, 0x11, 0);
    let crtc = [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0,
        0xe7, 0x04, 0xe3, 0xff,
    ];
    set(v, 0x3d4, &crtc);
    set(v, 0x3ce, &[0, 0, 0, 0, 0, 0, 0x05, 0x0f, 0xff]);
    attributes(v, &[&IDENTITY[..], &[1, 0, 0x0f, 0, 0]].concat());
    palette(v);
}

/// The DAC's colour as `palette` set it.
fn colour(index: u8) -> [u8; 3] {
    [index & 0x3f, index >> 1 & 0x3f, index >> 2 & 0x3f].map(|v| v << 2 | v >> 4)
}

#[test]
fn text_with_a_font() {
    let mut v = vga();
    mode_3(&mut v);
    // The font of 'A' in plane 2, as a BIOS loads it.
    for (index, value) in [(2, 4), (4, 6)] {
        out(&mut v, 0x3c4, index, value);
    }
    for (index, value) in [(4, 2), (5, 0), (6, 4)] {
        out(&mut v, 0x3ce, index, value);
    }
    v.window_write(32 * 65, 1, 0x81);
    assert_eq!(v.window_read(32 * 65, 1), 0x81);
    mode_3(&mut v);
    let at = 0x1_8000;
    for (n, byte) in [b'A', 0x1e, b'b', 0x07].into_iter().enumerate() {
        v.window_write(at + n as u64, 1, byte.into());
    }
    assert_eq!(v.window_read(at, 4), 0x0762_1e41);
    let screen = v.text(0).unwrap();
    assert_eq!((screen.columns, screen.rows, screen.row(0).as_str()), (80, 25, "Ab"));
    assert_eq!((screen.cells[0].foreground, screen.cells[0].background), (colour(14), colour(1)));
    assert_eq!(screen.cursor, Some((0, 0)));
    let picture = v.picture(300_000_000);
    assert_eq!((picture.width, picture.height), (720, 400));
    let row: Vec<_> = (0..9).map(|x| picture.at(x, 0) == colour(14)).collect();
    assert_eq!(row, [true, false, false, false, false, false, false, true, false]);
    // The cursor is on in the first half of its period, in lines 13 and 14.
    assert_eq!((picture.at(3, 13), v.picture(0).at(3, 13)), (colour(1), colour(14)));
    // Scrolling by the start address: the second row comes first.
    v.window_write(at + 160, 2, 0x0758);
    out(&mut v, 0x3d4, 0x0d, 80);
    assert_eq!(v.text(0).unwrap().row(0), "X");
}

#[test]
fn two_hundred_and_fifty_six_colours() {
    let mut v = vga();
    mode_13(&mut v);
    v.window_write(320 * 10 + 5, 4, 0x0403_0201);
    let picture = v.picture(0);
    assert_eq!((picture.width, picture.height), (320, 200));
    assert_eq!([5, 6, 7, 8].map(|x| picture.at(x, 10)), [1, 2, 3, 4].map(colour));
    assert_eq!(picture.at(9, 10), colour(0));
    // Mode X: unchained, 320 x 240, with pixels four to a byte address.
    out(&mut v, 0x3c4, 4, 6);
    v.port_write(0x3c2, 1, 0xe3, 0);
    for (index, value) in [
        (0x11, 0),
        (6, 0x0d),
        (7, 0x3e),
        (9, 0x41),
        (0x10, 0xea),
        (0x12, 0xdf),
        (0x14, 0),
        (0x15, 0xe7),
        (0x16, 6),
        (0x17, 0xe3),
    ] {
        out(&mut v, 0x3d4, index, value);
    }
    for plane in 0..4u8 {
        out(&mut v, 0x3c4, 2, 1 << plane);
        v.window_write(80 * 239 + 79, 1, 0x50 + u64::from(plane));
    }
    let picture = v.picture(0);
    assert_eq!((picture.width, picture.height), (320, 240));
    assert_eq!([316, 317, 318, 319].map(|x| picture.at(x, 239)), [0x50, 0x51, 0x52, 0x53].map(colour));
    // A split screen: from line 200 of 480 on, the top of memory is shown again.
    v.window_write(0, 1, 9);
    out(&mut v, 0x3d4, 0x0d, 80);
    for (index, value) in [(0x18, 199), (7, 0x2e), (9, 0x01)] {
        out(&mut v, 0x3d4, index, value);
    }
    assert_eq!(v.picture(0).at(3, 100), colour(9));
}

#[test]
fn planes_write_modes_and_compared_reads() {
    let mut v = vga();
    mode_12(&mut v);
    // Write mode 0 with set/reset and a bit mask.
    out(&mut v, 0x3ce, 0, 0x0a);
    out(&mut v, 0x3ce, 1, 0x0f);
    out(&mut v, 0x3ce, 8, 0xf0);
    v.window_read(0, 1);
    v.window_write(0, 1, 0);
    let picture = v.picture(0);
    assert_eq!((picture.width, picture.height), (640, 480));
    assert_eq!([0, 3, 4].map(|x| picture.at(x, 0)), [10, 10, 0].map(colour));
    // Read mode 1 finds the pixels of a colour.
    for (index, value) in [(2, 0x0a), (5, 8), (7, 0x0f)] {
        out(&mut v, 0x3ce, index, value);
    }
    assert_eq!(v.window_read(0, 1), 0xf0);
    // Write mode 1 copies four planes at once; mode 2 takes a colour; mode 3 a mask.
    out(&mut v, 0x3ce, 5, 1);
    v.window_read(0, 1);
    v.window_write(80, 1, 0);
    for (index, value) in [(5, 2), (8, 0x0f), (1, 0)] {
        out(&mut v, 0x3ce, index, value);
    }
    v.window_read(80, 1);
    v.window_write(80, 1, 5);
    for (index, value) in [(5, 3), (8, 0xff), (0, 3)] {
        out(&mut v, 0x3ce, index, value);
    }
    v.window_read(80, 1);
    v.window_write(80, 1, 0x81);
    let picture = v.picture(0);
    assert_eq!([0, 1, 3, 4, 6, 7].map(|x| picture.at(x, 1)), [3, 10, 10, 5, 5, 3].map(colour));
    // Rotation and XOR with the latches.
    for (index, value) in [(5, 0), (1, 0), (3, 0x18 | 1)] {
        out(&mut v, 0x3ce, index, value);
    }
    out(&mut v, 0x3c4, 2, 1);
    v.window_read(160, 1);
    v.window_write(160, 1, 0x02);
    assert_eq!(v.picture(0).at(7, 2), colour(1));
    // Bits 4 and 5 of the palette from the colour select register.
    attributes(&mut v, &[&IDENTITY[..], &[0x81, 0, 0x0f, 0, 0x0d]].concat());
    assert_eq!(v.picture(0).at(7, 2), colour(0xd1));
}

#[test]
fn cga_graphics() {
    let mut v = vga();
    v.port_write(0x3c2, 1, 0x63, 0);
    set(&mut v, 0x3c4, &[3, 9, 3, 0, 2]);
    out(&mut v, 0x3d4, 0x11, 0);
    let crtc = [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0,
        0x96, 0xb9, 0xa2, 0xff,
    ];
    set(&mut v, 0x3d4, &crtc);
    set(&mut v, 0x3ce, &[0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff]);
    attributes(&mut v, &[&IDENTITY[..], &[1, 0, 3, 0, 0]].concat());
    palette(&mut v);
    // Odd lines lie 8 KiB further on.
    v.window_write(0x1_8000, 2, 0xe41b);
    v.window_write(0x1_a000, 1, 0x40);
    let picture = v.picture(0);
    assert_eq!((picture.width, picture.height), (320, 200));
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|x| picture.at(x, 0)), [0, 1, 2, 3, 3, 2, 1, 0].map(colour));
    assert_eq!((picture.at(0, 1), picture.at(1, 1)), (colour(1), colour(0)));
}

#[test]
fn the_display_interface() {
    let mut v = vga();
    let reg = |v: &mut Vga, index: u16, value: u16| {
        v.port_write(0x1ce, 2, index.into(), 0);
        v.port_write(0x1cf, 2, value.into(), 0);
    };
    v.port_write(0x1ce, 2, 0, 0);
    assert_eq!(v.port_read(0x1cf, 2, 0), 0xb0c5);
    for (index, value) in [(4, 0), (1, 1024), (2, 768), (3, 32), (4, 0x41)] {
        reg(&mut v, index, value);
    }
    PciFunction::bar_write(&mut v, 0, 4 * (1024 * 5 + 7), 4, 0x0011_2233, 0);
    let picture = v.picture(0);
    assert_eq!((picture.width, picture.height, picture.at(7, 5)), (1024, 768, [0x11, 0x22, 0x33]));
    // The same by the registers in memory: panning by one line.
    PciFunction::bar_write(&mut v, 2, 0x512, 2, 5, 0);
    assert_eq!(PciFunction::bar_read(&mut v, 2, 0x512, 2, 0), 5);
    assert_eq!(v.picture(0).at(7, 0), [0x11, 0x22, 0x33]);
    for (bits, value, shown) in
        [(16, 0xf81f, [255, 0, 255]), (15, 0x7c00, [255, 0, 0]), (24, 0x00ff_8001, [255, 128, 1])]
    {
        for (index, value) in [(4, 0), (3, bits), (4, 0x41)] {
            reg(&mut v, index, value);
        }
        PciFunction::bar_write(&mut v, 0, 0, 4, value, 0);
        assert_eq!(v.picture(0).at(0, 0), shown);
    }
    // Through the banked window, with an 8-bit palette.
    for (index, value) in [(4, 0), (3, 8), (4, 0x61), (5, 1)] {
        reg(&mut v, index, value);
    }
    out(&mut v, 0x3ce, 6, 5);
    out(&mut v, 0x3c4, 2, 0x0f);
    out(&mut v, 0x3c4, 4, 0x0e);
    v.port_write(0x3c8, 1, 7, 0);
    for part in [200, 100, 50] {
        v.port_write(0x3c9, 1, part, 0);
    }
    v.window_write(0, 1, 7);
    assert_eq!(v.picture(0).at(0, 64), [200, 100, 50]);
    let state = PciFunction::save(&v);
    let mut twin = Vga::new(v.memory.clone(), 0);
    twin.restore(&state);
    assert_eq!((PciFunction::save(&twin), twin.picture(0)), (state, v.picture(0)));
    // Capabilities, and values that no display has.
    reg(&mut v, 4, 2);
    v.port_write(0x1ce, 2, 1, 0);
    assert_eq!(v.port_read(0x1cf, 2, 0), 2560);
    for index in 0..0x20 {
        reg(&mut v, index, 0xffff);
    }
    v.picture(0);
}

#[test]
fn retrace_bits_come_from_the_time() {
    let mut v = vga();
    mode_3(&mut v);
    let samples: Vec<u32> = (0..10_000).map(|n| v.port_read(0x3da, 1, n * 1_500) & 9).collect();
    for bits in [0, 1, 9] {
        assert!(samples.contains(&bits), "{bits}");
    }
    let retraces = samples.windows(2).filter(|pair| pair[0] & 8 == 0 && pair[1] & 8 != 0).count();
    assert_eq!(retraces, 1, "15 ms are about one picture at 70 Hz");
}

/// GRUB as firmware programs no more than this, on an adapter just reset; its font is written with the sequencer in odd/even and the
/// graphics controller in sequential mode.
#[test]
fn what_is_not_programmed_lets_text_be_seen() {
    let mut v = vga();
    v.port_write(0x3c2, 1, 1, 0);
    out(&mut v, 0x3ce, 6, 0);
    set(&mut v, 0x3c4, &[0, 0, 4, 0, 0]);
    out(&mut v, 0x3ce, 5, 0);
    out(&mut v, 0x3ce, 8, 0xff);
    for row in 0..16 {
        v.window_write(32 * 0x41 + row, 1, 0x80 | row);
    }
    out(&mut v, 0x3ce, 6, 0x0c);
    out(&mut v, 0x3ce, 5, 0x10);
    set(&mut v, 0x3c4, &[0, 1, 3, 0, 0]);
    for (index, value) in [(9, 0xf), (1, 0x4f), (0x13, 0x28), (0x12, 0x90), (7, 2)] {
        out(&mut v, 0x3d4, index, value);
    }
    attributes(&mut v, &IDENTITY);
    v.port_write(0x3c8, 1, 7, 0);
    (0..3).for_each(|_| v.port_write(0x3c9, 1, 0xa8, 0));
    v.window_write(0x1_8000, 4, 0x0741_0741);
    let picture = v.picture(0);
    assert_eq!((picture.width, picture.height), (640, 400));
    let lit = |x: usize, y: usize| picture.rgb[3 * (y * 640 + x)] > 0x80;
    // Each row of the letter: its first dot, and the row's number in the last four.
    for y in 0..16 {
        let dots: Vec<bool> = (0..8).map(|x| lit(8 + x, y)).collect();
        let want: Vec<bool> = (0..8).map(|x| (0x80 | y) >> (7 - x) & 1 != 0).collect();
        assert_eq!(dots, want, "row {y}");
    }
}
