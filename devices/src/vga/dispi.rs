//! The Bochs display interface: an index at 1CEh and data at 1CFh (1D0h), or the same registers as words in BAR 2.

use serde::{Deserialize, Serialize};

use super::{VIDEO_MEMORY, Vga};

const XRES: usize = 1;
const YRES: usize = 2;
const BPP: usize = 3;
const ENABLE: usize = 4;
const BANK: usize = 5;
const VIRT_WIDTH: usize = 6;
const VIRT_HEIGHT: usize = 7;
const X_OFFSET: usize = 8;
const Y_OFFSET: usize = 9;
const MEMORY_64K: usize = 10;

const ENABLED: u16 = 0x01;
/// Reads of the resolution registers give the largest values.
const GET_CAPS: u16 = 0x02;
const DAC_8_BIT: u16 = 0x20;
const LINEAR: u16 = 0x40;
const NO_CLEAR: u16 = 0x80;

const MAX_XRES: u16 = 2560;
const MAX_YRES: u16 = 1600;
const ID: u16 = 0xb0c5;

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dispi {
    index: u16,
    registers: [u16; 11],
}

impl Default for Dispi {
    fn default() -> Self {
        let mut registers = [0; 11];
        registers[0] = ID;
        registers[BPP] = 8;
        Self { index: 0, registers }
    }
}

/// What the interface shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub width: u32,
    pub height: u32,
    pub bits: u16,
    /// Bytes from one line to the next.
    pub pitch: u64,
    /// Where the first pixel is.
    pub start: u64,
}

/// Bytes of a line of `width` pixels.
fn line_bytes(width: u64, bits: u16) -> u64 {
    match bits {
        4 => width.div_ceil(8) * 4,
        15 => width * 2,
        bits => width * u64::from(bits / 8),
    }
}

impl Dispi {
    pub(super) fn enabled(&self) -> bool {
        self.registers[ENABLE] & ENABLED != 0
    }

    pub(super) fn wide_dac(&self) -> bool {
        self.registers[ENABLE] & DAC_8_BIT != 0
    }

    pub(super) fn bank_offset(&self) -> u64 {
        if self.enabled() { u64::from(self.registers[BANK]) << 16 } else { 0 }
    }

    /// The mode that is on.
    pub(super) fn mode(&self) -> Option<Mode> {
        let r = &self.registers;
        if !self.enabled() {
            return None;
        }
        let bits = r[BPP];
        let pitch = line_bytes(u64::from(r[VIRT_WIDTH].max(r[XRES])), bits);
        let start = pitch * u64::from(r[Y_OFFSET]) + line_bytes(u64::from(r[X_OFFSET]), bits);
        Some(Mode { width: r[XRES].into(), height: r[YRES].into(), bits, pitch, start })
    }

    pub(super) fn read(&self, index: usize) -> u16 {
        let caps = self.registers[ENABLE] & GET_CAPS != 0;
        match index {
            XRES if caps => MAX_XRES,
            YRES if caps => MAX_YRES,
            BPP if caps => 32,
            VIRT_HEIGHT if self.enabled() => {
                let r = &self.registers;
                let pitch = line_bytes(u64::from(r[VIRT_WIDTH].max(r[XRES])), r[BPP]).max(1);
                (VIDEO_MEMORY / pitch).min(0xffff) as u16
            }
            MEMORY_64K => (VIDEO_MEMORY >> 16) as u16,
            _ => self.registers.get(index).copied().unwrap_or(0),
        }
    }

    /// Writes a register; true if video memory is to be cleared.
    pub(super) fn write(&mut self, index: usize, value: u16) -> bool {
        let r = &mut self.registers;
        match index {
            0 if (0xb0c0..=ID).contains(&value) => r[0] = value,
            XRES if (1..=MAX_XRES).contains(&value) => r[XRES] = value & !7,
            YRES if (1..=MAX_YRES).contains(&value) => r[YRES] = value,
            BPP if matches!(value, 0 | 4 | 8 | 15 | 16 | 24 | 32) => {
                r[BPP] = if value == 0 { 8 } else { value };
            }
            BANK if u64::from(value) < VIDEO_MEMORY >> 16 => r[BANK] = value,
            VIRT_WIDTH if value >= r[XRES] => r[VIRT_WIDTH] = value & !7,
            X_OFFSET => r[X_OFFSET] = value,
            Y_OFFSET => r[Y_OFFSET] = value,
            ENABLE => {
                let turned_on = value & !r[ENABLE] & ENABLED != 0;
                if turned_on {
                    r[VIRT_WIDTH] = r[XRES];
                    (r[X_OFFSET], r[Y_OFFSET], r[BANK]) = (0, 0, 0);
                }
                r[ENABLE] = value & (ENABLED | GET_CAPS | DAC_8_BIT | LINEAR | NO_CLEAR);
                return turned_on && value & NO_CLEAR == 0;
            }
            _ => {}
        }
        false
    }

    pub(super) fn sanitise(&mut self) {
        let r = &mut self.registers;
        r[XRES] = r[XRES].min(MAX_XRES);
        r[YRES] = r[YRES].min(MAX_YRES);
        if !matches!(r[BPP], 4 | 8 | 15 | 16 | 24 | 32) {
            r[BPP] = 8;
        }
    }
}

impl Vga {
    pub(super) fn dispi_read(&self, index: usize) -> u16 {
        self.dispi.read(index)
    }

    pub(super) fn dispi_write(&mut self, index: usize, value: u16) {
        if self.dispi.write(index, value)
            && let Some(mode) = self.dispi.mode()
        {
            let len = (mode.pitch * u64::from(mode.height)).min(VIDEO_MEMORY);
            let zeros = [0; 4096];
            for at in (0..len).step_by(zeros.len()) {
                self.memory.write(at, &zeros);
            }
        }
    }

    pub(super) fn dispi_port_read(&mut self, port: u16, _size: u8) -> u32 {
        match port {
            0x1ce => self.dispi.index.into(),
            _ => self.dispi_read(self.dispi.index.into()).into(),
        }
    }

    pub(super) fn dispi_port_write(&mut self, port: u16, _size: u8, value: u32) {
        match port {
            0x1ce => self.dispi.index = value as u16,
            _ => self.dispi_write(self.dispi.index.into(), value as u16),
        }
    }
}
