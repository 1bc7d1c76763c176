//! The pair of 8237A DMA controllers and their page registers (Intel 8237A data sheet).
//!
//! A device asks for a transfer by [`Dma8237::transfer`] and learns how many bytes went and whether the count ran out. Each
//! call moves what the channel still has room for at once: what the bus would take is a part of the device's modelled time.
//!
//! Limits: memory-to-memory transfers and cascading beyond the pair's own are not there; a transfer in demand or block mode
//! moves as one in single mode does.

use serde::{Deserialize, Serialize};

use crate::memory::Dma;
use crate::{Ns, PortDevice};

/// Page register of each channel, as an offset from port 80h.
const PAGES: [usize; 8] = [7, 3, 1, 2, 15, 11, 9, 10];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Controller {
    /// Base address and base count of channels 0 to 3, alternating: what was written.
    base: [u16; 8],
    /// Current address and current count: what is read.
    registers: [u16; 8],
    /// Terminal counts since the status was last read.
    terminal: u8,
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
            8 => self.request << 4 | std::mem::take(&mut self.terminal),
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
                self.base[usize::from(register)] = *target;
                self.flip_flop = !self.flip_flop;
            }
            8 => self.command = value,
            9 => self.request = if value & 4 != 0 { self.request | bit } else { self.request & !bit },
            10 => self.mask = if value & 4 != 0 { self.mask | bit } else { self.mask & !bit },
            11 => self.mode[usize::from(value & 3)] = value,
            12 => self.flip_flop = false,
            13 => {
                *self = Self { base: self.base, registers: self.registers, mode: self.mode, ..Self::new() };
            }
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

    /// Is `channel` (0 to 3 or 5 to 7) open to requests?
    pub fn ready(&self, channel: u8) -> bool {
        let controller = &self.state.controllers[usize::from(channel >> 2 & 1)];
        controller.command & 4 == 0 && controller.mask >> (channel & 3) & 1 == 0
    }

    /// Moves bytes of `data` on `channel`: from memory into `data`, or to memory from it, as the channel's mode says. `to_memory` is
    /// what the device expects; a channel set up the other way, or to verify, moves nothing but counts.
    /// Gives the number of bytes, and whether the terminal count was reached.
    pub fn transfer(&mut self, channel: u8, to_memory: bool, data: &mut [u8], memory: &Dma) -> (usize, bool) {
        if !self.ready(channel) {
            return (0, false);
        }
        let page = self.state.pages[PAGES[usize::from(channel & 7)]];
        let wide = channel >= 4;
        let number = usize::from(channel & 3);
        let controller = &mut self.state.controllers[usize::from(wide)];
        let mode = controller.mode[number];
        let unit = 1 + usize::from(wide);
        let [address, count] = [controller.registers[2 * number], controller.registers[2 * number + 1]];
        let room = usize::from(count) + 1;
        let units = room.min(data.len() / unit);
        let down = mode & 0x20 != 0;
        for n in 0..units {
            let step = n as u16;
            let at = if down { address.wrapping_sub(step) } else { address.wrapping_add(step) };
            let at = match wide {
                true => u64::from(page & 0xfe) << 16 | u64::from(at) << 1,
                false => u64::from(page) << 16 | u64::from(at),
            };
            let piece = &mut data[n * unit..(n + 1) * unit];
            match (mode >> 2 & 3, to_memory) {
                (1, true) => drop(memory.write(at, piece)),
                (2, false) => drop(memory.read(at, piece)),
                _ => {}
            }
        }
        let moved = units as u16;
        let done = units == room;
        let registers = &mut controller.registers;
        registers[2 * number] = if down { address.wrapping_sub(moved) } else { address.wrapping_add(moved) };
        registers[2 * number + 1] = count.wrapping_sub(moved);
        if done {
            controller.terminal |= 1 << number;
            controller.request &= !(1 << number);
            if mode & 0x10 != 0 {
                // Autoinitialisation.
                registers[2 * number] = controller.base[2 * number];
                registers[2 * number + 1] = controller.base[2 * number + 1];
            } else {
                controller.mask |= 1 << number;
            }
        }
        (units * unit, done)
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

    #[test]
    fn a_transfer_counts_and_ends() {
        let memory = crate::memory::test_memory::Flat::new(0x4_0000);
        let dma_memory = Dma::new(memory.clone());
        let mut dma = Dma8237::new();
        // Channel 2, single mode, device to memory: 600 bytes to 2FF00h; the address wraps within its 64 KiB page.
        for (port, value) in
            [(0x0c, 0), (0x04, 0x00), (0x04, 0xff), (0x05, 0x57), (0x05, 0x02), (0x81, 2), (0x0b, 0x46)]
        {
            dma.port_write(port, 1, value, 0);
        }
        assert_eq!(dma.transfer(2, true, &mut [1; 512], &dma_memory), (0, false), "masked");
        dma.port_write(0x0a, 1, 2, 0);
        assert_eq!(dma.transfer(2, true, &mut [1; 512], &dma_memory), (512, false));
        assert_eq!(dma.transfer(2, true, &mut [2; 512], &dma_memory), (88, true));
        assert_eq!((memory.get(0x2_ffff, 1), memory.get(0x2_0000, 1)), (vec![1], vec![1]));
        assert_eq!((memory.get(0x2_0100, 1), memory.get(0x2_0157, 2)), (vec![2], vec![2, 0]));
        assert_eq!((dma.port_read(8, 1, 0), dma.port_read(8, 1, 0)), (4, 0), "the status forgets");
        assert_eq!(dma.port_read(0x0f, 1, 0) & 4, 4, "masked again");
        // With autoinitialisation it starts over, here downwards and from memory.
        for (port, value) in
            [(0x0b, 0x7a), (0x0c, 0), (0x04, 0x01), (0x04, 0x00), (0x05, 1), (0x05, 0), (0x0a, 2)]
        {
            dma.port_write(port, 1, value, 0);
        }
        memory.put(0x2_0000, &[7, 8]);
        for _ in 0..2 {
            let mut data = [0; 2];
            assert_eq!(dma.transfer(2, false, &mut data, &dma_memory), (2, true));
            assert_eq!(data, [8, 7]);
        }
    }
}
