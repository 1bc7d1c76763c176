//! The adapter as a PCI function: frame buffer in BAR 0, registers in BAR 2 (QEMU's docs/specs/standard-vga), ROM.

use super::{VIDEO_MEMORY, Vga, VgaState};
use crate::Ns;
use crate::PortDevice;
use crate::pci::{BarKind, ConfigSpace, PciFunction};

/// The base address register of the frame buffer.
pub(super) const FRAME_BUFFER_BAR: usize = 0;
const REGISTERS_BAR: u8 = 2;
const REGISTERS_LEN: u64 = 0x1000;

pub(super) fn config(rom_len: u64) -> ConfigSpace {
    let mut config = ConfigSpace::endpoint(0x1234, 0x1111, 0x03_0000, 0x02);
    config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
    config.add_bar(FRAME_BUFFER_BAR, BarKind::Memory32, VIDEO_MEMORY);
    config.add_bar(REGISTERS_BAR.into(), BarKind::Memory32, REGISTERS_LEN);
    if rom_len > 0 {
        config.add_rom(rom_len);
    }
    config
}

impl Vga {
    fn register_read(&mut self, offset: u64, size: u8, now: Ns) -> u64 {
        match offset {
            0x400..=0x41f => self.port_read(0x3c0 + (offset as u16 - 0x400), size.min(4), now).into(),
            0x500..=0x515 => {
                let word = |at: u64| u64::from(self.dispi_read(((at - 0x500) / 2) as usize));
                match size {
                    1 => word(offset & !1) >> (8 * (offset & 1)) & 0xff,
                    2 => word(offset),
                    _ => word(offset) | word(offset + 2) << 16,
                }
            }
            0x600 => 8,
            0x604 => 0x1e1e_1e1e, // little endian
            _ => 0,
        }
    }

    fn register_write(&mut self, offset: u64, size: u8, value: u64, now: Ns) {
        match offset {
            0x400..=0x41f => {
                self.port_write(0x3c0 + (offset as u16 - 0x400), size.min(4), value as u32, now);
            }
            0x500..=0x515 if size >= 2 => {
                self.dispi_write(((offset - 0x500) / 2) as usize, value as u16);
                if size >= 4 {
                    self.dispi_write(((offset - 0x500) / 2) as usize + 1, (value >> 16) as u16);
                }
            }
            _ => {}
        }
    }
}

impl PciFunction for Vga {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn bar_read(&mut self, bar: u8, offset: u64, size: u8, now: Ns) -> u64 {
        if bar == REGISTERS_BAR {
            return self.register_read(offset, size, now);
        }
        let mut bytes = [0; 8];
        self.memory.read(offset, &mut bytes[..usize::from(size.min(8))]);
        u64::from_le_bytes(bytes)
    }
    fn bar_write(&mut self, bar: u8, offset: u64, size: u8, value: u64, now: Ns) {
        if bar == REGISTERS_BAR {
            return self.register_write(offset, size, value, now);
        }
        self.memory.write(offset, &value.to_le_bytes()[..usize::from(size.min(8))]);
    }
    fn reset(&mut self) {
        (self.registers, self.dispi, self.latch) = Default::default();
    }
    fn save(&self) -> Vec<u8> {
        let Self { registers, dispi, latch, memory: _, config: _ } = self;
        let state = VgaState { registers: registers.clone(), dispi: dispi.clone(), latch: *latch };
        crate::saved::to_bytes(&state)
    }
    fn restore(&mut self, state: &[u8]) {
        let Some(VgaState { mut registers, mut dispi, latch }) = crate::saved::from_bytes(state) else {
            return;
        };
        registers.sanitise();
        dispi.sanitise();
        (self.registers, self.dispi, self.latch) = (registers, dispi, latch);
    }
}
