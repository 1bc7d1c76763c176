//! Interrupt vectors, BIOS data area and extended BIOS data area, as power-on self test leaves them.

use crate::board::Board;
use crate::bytes::put;
use crate::chunk::Chunk;
use crate::e820::{EBDA_START, VGA_HOLE};
use crate::rom::IRET;

/// The three areas.
pub fn chunks(board: &Board) -> Vec<Chunk<'static>> {
    let mut low = vec![0; 0x500];
    for vector in 0..256 {
        put(&mut low, vector * 4, &IRET.to_le_bytes());
        put(&mut low, vector * 4 + 2, &0xf000u16.to_le_bytes());
    }
    for (slot, serial) in board.serial.iter().take(4).enumerate() {
        put(&mut low, 0x400 + slot * 2, &serial.port.to_le_bytes());
    }
    put(&mut low, 0x40e, &((EBDA_START >> 4) as u16).to_le_bytes());
    // Equipment: bit 1 x87, bit 2 pointing device, bits 4-5 display (2: 80 x 25 colour), bits 9-11 serial ports.
    let equipment = 0x0002
        | (u16::from(board.mouse) << 2)
        | (u16::from(board.vga) * 0x20)
        | ((board.serial.len().min(4) as u16) << 9);
    put(&mut low, 0x410, &equipment.to_le_bytes());
    put(&mut low, 0x413, &((EBDA_START >> 10) as u16).to_le_bytes());
    // Keyboard buffer at 0x40:0x1e, empty.
    put(&mut low, 0x41a, &[0x1e, 0, 0x1e, 0]);
    put(&mut low, 0x480, &[0x1e, 0, 0x3e, 0]);
    if board.vga {
        low[0x449] = 3;
        put(&mut low, 0x44a, &80u16.to_le_bytes());
        put(&mut low, 0x44c, &0x1000u16.to_le_bytes());
        put(&mut low, 0x463, &0x3d4u16.to_le_bytes());
        low[0x484] = 24;
        put(&mut low, 0x485, &16u16.to_le_bytes());
    }
    let mut ebda = vec![0; (VGA_HOLE - EBDA_START) as usize];
    ebda[0] = 1; // its size in KiB
    vec![
        Chunk::owned(0, low, "interrupt vectors and BIOS data area"),
        Chunk::owned(EBDA_START, ebda, "extended BIOS data area"),
    ]
}
