//! The pair of 8237A DMA controllers and their page registers, enough for probing.
//!
//! Registers latch and read back as the data sheet says, including the byte pointer flip-flop, masks, and the master
//! clear. No transfer ever happens: nothing on this board requests one. The floppy controller will bring that.

use serde::{Deserialize, Serialize};

use crate::{Ns, PortDevice};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Controller {
    /// Base address and base count of channels 0 to 3, alternating.
    registers: [u16; 8],
    /// The next byte is the high one.
    flip_flop: bool,
    command: u8,
    request: u8,
    mask: u8,
    mode: [u8; 4],
}

impl Controller {
    fn new() -> Self {
        Self { mask: 0x0f, ..Self::default() }
    }

    fn read(&mut self, register: u16) -> u8 {
        match register {
            0..=7 => {
                let byte = usize::from(self.flip_flop);
                self.flip_flop = !self.flip_flop;
                self.registers[usize::from(register)].to_le_bytes()[byte]
            }
            8 => self.request << 4, // status: requests, no terminal count
            15 => self.mask | 0xf0,
            _ => 0,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        let bit = 1 << (value & 3);
        match register {
            0..=7 => {
                let target = &mut self.registers[usize::from(register)];
                let mut bytes = target.to_le_bytes();
                bytes[usize::from(self.flip_flop)] = value;
                *target = u16::from_le_bytes(bytes);
                self.flip_flop = !self.flip_flop;
            }
            8 => self.command = value,
            9 => self.request = if value & 4 != 0 { self.request | bit } else { self.request & !bit },
            10 => self.mask = if value & 4 != 0 { self.mask | bit } else { self.mask & !bit },
            11 => self.mode[usize::from(value & 3)] = value,
            12 => self.flip_flop = false,
            13 => *self = Self { registers: self.registers, mode: self.mode, ..Self::new() },
            14 => self.mask = 0,
            _ => self.mask = value & 0x0f,
        }
    }
}

/// Latched registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmaState {
    controllers: [Controller; 2],
    /// Ports 81h to 8Fh; those without a channel are scratch bytes.
    pages: [u8; 16],
}

/// Both controllers: ports 00h to 0Fh, C0h to DFh (every second one), 81h to 8Fh.
pub struct Dma8237 {
    state: DmaState,
}

impl Default for Dma8237 {
    fn default() -> Self {
        Self::new()
    }
}

impl Dma8237 {
    /// All channels masked.
    pub fn new() -> Self {
        Self { state: DmaState { controllers: [Controller::new(), Controller::new()], pages: [0; 16] } }
    }

    /// Latched registers.
    pub fn save(&self) -> DmaState {
        let Self { state } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: DmaState) {
        self.state = state;
    }
}

impl PortDevice for Dma8237 {
    fn port_read(&mut self, port: u16, _size: u8, _now: Ns) -> u32 {
        let value = match port {
            0x00..=0x0f => self.state.controllers[0].read(port),
            0x80..=0x8f => self.state.pages[usize::from(port & 15)],
            _ => self.state.controllers[1].read(port >> 1 & 15),
        };
        value.into()
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, _now: Ns) {
        let value = value as u8;
        match port {
            0x00..=0x0f => self.state.controllers[0].write(port, value),
            0x80..=0x8f => self.state.pages[usize::from(port & 15)] = value,
            _ => self.state.controllers[1].write(port >> 1 & 15, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_reads_back_what_it_wrote() {
        let mut dma = Dma8237::new();
        assert_eq!(dma.port_read(0x0f, 1, 0), 0xff);
        dma.port_write(0x0c, 1, 0, 0);
        for port in [0x00, 0xc6] {
            dma.port_write(0xd8, 1, 0, 0);
            dma.port_write(port, 1, 0x34, 0);
            dma.port_write(port, 1, 0x12, 0);
            assert_eq!([0; 2].map(|_| dma.port_read(port, 1, 0)), [0x34, 0x12]);
        }
        dma.port_write(0x81, 1, 0x5a, 0);
        dma.port_write(0x0a, 1, 2, 0);
        assert_eq!((dma.port_read(0x81, 1, 0), dma.port_read(0x0f, 1, 0)), (0x5a, 0xfb));
        let state = dma.save();
        dma.port_write(0x0d, 1, 0, 0);
        assert_eq!(dma.port_read(0x0f, 1, 0), 0xff);
        dma.restore(state.clone());
        assert_eq!(dma.save(), state);
    }
}
