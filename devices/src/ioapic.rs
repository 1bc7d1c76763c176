//! I/O APIC (82093AA data sheet), with the EOI register of later versions (20h).
//!
//! A pin's polarity bit is kept but not applied: our lines say "asserted", not high or low. A message that no local APIC
//! accepts leaves its level-triggered pin without remote IRR, so it is offered again when anything changes.

use serde::{Deserialize, Serialize};

use crate::apic::{ApicMessage, Delivery, Destination};
use crate::{MmioDevice, Ns};

/// Physical address of the memory window.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// Length of the memory window in bytes.
pub const IOAPIC_LEN: u64 = 0x1000;
/// Number of input pins.
pub const IOAPIC_PINS: usize = 24;

/// Version 20h (has the EOI register), highest entry 23.
const VERSION: u32 = 0x0017_0020;

mod entry {
    pub const LOGICAL: u64 = 1 << 11;
    pub const REMOTE_IRR: u64 = 1 << 14;
    pub const LEVEL: u64 = 1 << 15;
    pub const MASKED: u64 = 1 << 16;
    /// All but delivery status and remote IRR.
    pub const WRITABLE: u64 = 0xff00_0000_0001_afff;
}

/// Registers and pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoApicState {
    id: u8,
    index: u8,
    table: [u64; IOAPIC_PINS],
    levels: u32,
    /// Edges that wait to be sent.
    edges: u32,
}

/// The I/O APIC.
pub struct IoApic {
    state: IoApicState,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// All pins masked.
    pub fn new() -> Self {
        let table = [entry::MASKED; IOAPIC_PINS];
        Self { state: IoApicState { id: 0, index: 0, table, levels: 0, edges: 0 } }
    }

    /// Platform reset. The pins are the board's.
    pub fn reset(&mut self) {
        let levels = self.state.levels;
        *self = Self::new();
        self.state.levels = levels;
    }

    /// Drives the pins, bit n for pin n. `rose` marks pins with a rising edge since the last call.
    pub fn set_pins(&mut self, levels: u32, rose: u32) {
        let s = &mut self.state;
        let edges = levels & !s.levels | rose;
        s.levels = levels;
        for (pin, entry) in s.table.iter().enumerate() {
            // 82093AA: an edge on a masked pin is lost.
            if edges >> pin & 1 != 0 && entry & (entry::LEVEL | entry::MASKED) == 0 {
                s.edges |= 1 << pin;
            }
        }
    }

    /// Is `pin` masked?
    pub fn is_masked(&self, pin: u8) -> bool {
        self.state.table.get(usize::from(pin)).is_none_or(|entry| entry & entry::MASKED != 0)
    }

    /// Sends what is due. `deliver` says whether a local APIC accepted the message.
    pub fn service(&mut self, mut deliver: impl FnMut(&ApicMessage) -> bool) {
        let s = &mut self.state;
        let due = s.edges | s.levels;
        for (pin, entry) in s.table.iter_mut().enumerate().filter(|(pin, _)| due >> pin & 1 != 0) {
            if *entry & entry::MASKED != 0 {
                continue;
            }
            let level = *entry & entry::LEVEL != 0;
            let wanted = if level {
                s.levels >> pin & 1 != 0 && *entry & entry::REMOTE_IRR == 0
            } else {
                s.edges >> pin & 1 != 0
            };
            if !wanted {
                continue;
            }
            let accepted = message(*entry).is_some_and(|message| deliver(&message));
            if !level {
                s.edges &= !(1 << pin);
            } else if accepted {
                *entry |= entry::REMOTE_IRR;
            }
        }
    }

    /// The end of a level-triggered interrupt with this vector.
    pub fn eoi(&mut self, vector: u8) {
        for entry in &mut self.state.table {
            if *entry as u8 == vector && *entry & entry::LEVEL != 0 {
                *entry &= !entry::REMOTE_IRR;
            }
        }
    }

    fn read(&self) -> u32 {
        let s = &self.state;
        match s.index {
            0 | 2 => u32::from(s.id) << 24,
            1 => VERSION,
            index @ 0x10..=0x3f => {
                let entry = s.table[usize::from(index - 0x10) / 2];
                (if index & 1 == 0 { entry } else { entry >> 32 }) as u32
            }
            _ => 0,
        }
    }

    fn write(&mut self, value: u32) {
        let s = &mut self.state;
        match s.index {
            0 => s.id = (value >> 24) as u8 & 0x0f,
            index @ 0x10..=0x3f => {
                let pin = usize::from(index - 0x10) / 2;
                let entry = &mut s.table[pin];
                let (half, shift) = if index & 1 == 0 { (0xffff_ffff, 0) } else { (0xffff_ffff << 32, 32) };
                let writable = entry::WRITABLE & half;
                *entry = *entry & !writable | u64::from(value) << shift & writable;
                if *entry & entry::LEVEL == 0 {
                    // As on the chip: making a pin edge-triggered ends its interrupt. Old drivers rely on it.
                    *entry &= !entry::REMOTE_IRR;
                } else {
                    s.edges &= !(1 << pin);
                }
            }
            _ => {}
        }
    }

    /// Registers and pins.
    pub fn save(&self) -> IoApicState {
        let Self { state } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: IoApicState) {
        self.state = state;
    }
}

/// The message of a redirection entry; `None` for a reserved delivery mode.
fn message(entry: u64) -> Option<ApicMessage> {
    let delivery = Delivery::from_bits((entry >> 8) as u32).filter(|mode| *mode != Delivery::StartUp)?;
    Some(ApicMessage {
        vector: entry as u8,
        delivery,
        level: entry & entry::LEVEL != 0,
        destination: Destination::from_byte(entry & entry::LOGICAL != 0, (entry >> 56) as u8),
    })
}

impl MmioDevice for IoApic {
    fn mmio_read(&mut self, offset: u64, _size: u8, _now: Ns) -> u64 {
        match offset & 0xff {
            0x00 => self.state.index.into(),
            0x10 => self.read().into(),
            _ => 0,
        }
    }

    fn mmio_write(&mut self, offset: u64, _size: u8, value: u64, _now: Ns) {
        match offset & 0xff {
            0x00 => self.state.index = value as u8,
            0x10 => self.write(value as u32),
            0x40 => self.eoi(value as u8),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(apic: &mut IoApic, index: u64, value: u64) {
        apic.mmio_write(0, 4, index, 0);
        apic.mmio_write(0x10, 4, value, 0);
    }
    fn get(apic: &mut IoApic, index: u64) -> u64 {
        apic.mmio_write(0, 4, index, 0);
        apic.mmio_read(0x10, 4, 0)
    }
    fn sent(apic: &mut IoApic, accept: bool) -> Vec<u8> {
        let mut vectors = Vec::new();
        apic.service(|message| {
            vectors.push(message.vector);
            accept
        });
        vectors
    }

    #[test]
    fn level_pins_wait_for_eoi() {
        let mut apic = IoApic::new();
        assert_eq!(get(&mut apic, 1), 0x0017_0020);
        set(&mut apic, 0x10 + 2 * 9, 0x8051);
        apic.set_pins(1 << 9, 1 << 9);
        assert_eq!(sent(&mut apic, false), [0x51], "nobody took it");
        assert_eq!(sent(&mut apic, true), [0x51]);
        assert_eq!(get(&mut apic, 0x10 + 2 * 9), 0xc051);
        assert_eq!(sent(&mut apic, true), []);
        apic.eoi(0x51);
        assert_eq!(sent(&mut apic, true), [0x51]);
        apic.set_pins(0, 0);
        apic.mmio_write(0x40, 4, 0x51, 0);
        assert_eq!(sent(&mut apic, true), []);
    }

    #[test]
    fn edges_are_sent_once_and_lost_while_masked() {
        let mut apic = IoApic::new();
        apic.set_pins(1 << 2, 1 << 2);
        set(&mut apic, 0x14, 0x30);
        assert_eq!(sent(&mut apic, true), []);
        apic.set_pins(1 << 2, 1 << 2);
        apic.set_pins(0, 0);
        assert_eq!(sent(&mut apic, false), [0x30]);
        assert_eq!(sent(&mut apic, true), []);
        set(&mut apic, 0x15, 0x0300_0000);
        assert_eq!(get(&mut apic, 0x15), 0x0300_0000);
        let state = apic.save();
        apic.reset();
        assert_eq!(get(&mut apic, 0x14), 0x1_0000);
        apic.restore(state);
        assert_eq!(get(&mut apic, 0x14), 0x30);
    }

    #[test]
    fn destinations() {
        let logical = message(0xff00_0000_0000_0841).unwrap();
        assert_eq!(logical.destination, Destination::Logical(u32::MAX));
        assert_eq!(message(0x0200_0000_0000_0700).unwrap().delivery, Delivery::ExtInt);
        assert_eq!(message(0x300), None);
    }
}
