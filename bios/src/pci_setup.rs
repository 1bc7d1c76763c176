//! Addresses for PCI functions, given as firmware gives them before it starts an operating system: for kernels that are
//! started without one. (Linux would place what has none; others rely on it.)
//!
//! Everything is on bus 0. A base address register that holds an address already keeps it.

use std::ops::Range;

use crate::board::{Board, Chipset};
use crate::e820::{PCI_HOLE, PCI_HOLE_END};

/// Configuration space by mechanism #1: addresses as CONFIG_ADDRESS has them.
pub trait ConfigAccess {
    /// Reads a dword.
    fn read(&mut self, address: u32) -> u32;
    /// Writes one.
    fn write(&mut self, address: u32, value: u32);
}

/// First port that is given away: below are the places of devices with fixed ones.
const PORTS: Range<u32> = 0xc100..0x1_0000;
const COMMAND: u32 = 0x04;
const HEADER: u32 = 0x0c;
const BAR_0: u32 = 0x10;
const INTERRUPT: u32 = 0x3c;

/// What there is to give, and how interrupts are wired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciResources {
    chipset: Chipset,
    routes: [u8; 4],
}

impl PciResources {
    pub(crate) fn new(board: &Board) -> Self {
        Self { chipset: board.chipset, routes: board.pci.routes }
    }

    /// Places the memory and ports of every function, turns decoding on for those that got some, and tells each the interrupt that
    /// its pin arrives at.
    pub fn assign(&self, access: &mut dyn ConfigAccess) {
        let mut ports = u64::from(PORTS.start)..u64::from(PORTS.end);
        let mut memory = PCI_HOLE..PCI_HOLE_END;
        for device in 0..32u8 {
            let first = 1 << 31 | u32::from(device) << 11;
            if access.read(first) as u16 == 0xffff {
                continue;
            }
            let functions = if access.read(first | HEADER) & 0x0080_0000 != 0 { 8 } else { 1 };
            for at in (0..functions).map(|function| first | function << 8) {
                if access.read(at) as u16 != 0xffff {
                    place(at, access, &mut ports, &mut memory);
                    self.interrupt(at, device, access);
                }
            }
        }
    }

    fn interrupt(&self, at: u32, device: u8, access: &mut dyn ConfigAccess) {
        let old = access.read(at | INTERRUPT);
        if let Some(pin) = (old >> 8 & 0xff).checked_sub(1).filter(|pin| *pin < 4) {
            let route = self.routes[self.chipset.line(device, pin as u8) % 4];
            access.write(at | INTERRUPT, old & !0xff | u32::from(route));
        }
    }
}

fn place(at: u32, access: &mut dyn ConfigAccess, ports: &mut Range<u64>, memory: &mut Range<u64>) {
    let (mut bar, mut placed) = (0, 0);
    while bar < 6 {
        let register = at | (BAR_0 + 4 * bar);
        let old = access.read(register);
        access.write(register, u32::MAX);
        let mask = access.read(register);
        access.write(register, old);
        let (io, wide) = (mask & 1 != 0, mask & 7 == 4);
        bar += if wide { 2 } else { 1 };
        let bits = if io { !0x3u32 } else { !0xf };
        if mask & bits == 0 || old & bits != 0 {
            continue;
        }
        // A port register may leave the upper half out.
        let size = if io {
            u64::from((mask & bits | 0xffff_0000).wrapping_neg())
        } else {
            u64::from((mask & bits).wrapping_neg())
        };
        let range = if io { &mut *ports } else { &mut *memory };
        let Some(start) = take(range, size) else { continue };
        access.write(register, start as u32);
        if wide {
            access.write(register + 4, 0);
        }
        placed |= if io { 1 } else { 2 };
    }
    if placed != 0 {
        // The status half is cleared by writing ones.
        let command = access.read(at | COMMAND) & 0xffff;
        access.write(at | COMMAND, command | placed);
    }
}

/// `size` bytes, a power of two, at a multiple of it; `None`: there is no more room.
fn take(range: &mut Range<u64>, size: u64) -> Option<u64> {
    let start = range.start.next_multiple_of(size);
    let end = start.checked_add(size).filter(|end| *end <= range.end)?;
    range.start = end;
    Some(start)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::e820::MemoryLayout;

    /// Registers, with the bits that can be written.
    struct Bus(BTreeMap<u32, (u32, u32)>);

    impl ConfigAccess for Bus {
        fn read(&mut self, address: u32) -> u32 {
            let here = self.0.range(address & !0xff..address & !0xff | 0x100).next().is_some();
            self.0.get(&address).map_or(if here { 0 } else { u32::MAX }, |(value, _)| *value)
        }
        fn write(&mut self, address: u32, value: u32) {
            if let Some((old, mask)) = self.0.get_mut(&address) {
                *old = *old & !*mask | value & *mask;
            }
        }
    }

    #[test]
    fn every_function_gets_what_it_asks_for() {
        let at =
            |device: u32, function: u32, register: u32| 1 << 31 | device << 11 | function << 8 | register;
        let mut bus = Bus(BTreeMap::from([
            (at(3, 0, 0), (0x1234_1af4, 0)),
            (at(3, 0, 0x04), (0, 0x407)),
            (at(3, 0, 0x0c), (0x0080_0000, 0)),
            (at(3, 0, 0x10), (1, 0xffe0)),
            (at(3, 0, 0x14), (0, 0xffff_f000)),
            (at(3, 0, 0x18), (0x4, 0xff00_0000)),
            (at(3, 0, 0x1c), (7, 0xffff_ffff)),
            (at(3, 0, 0x20), (0, 0xffff_f000)),
            (at(3, 0, 0x3c), (0x0100, 0xff)),
            (at(3, 1, 0), (0x1234_1af4, 0)),
            (at(3, 1, 0x04), (0, 0x407)),
            (at(3, 1, 0x10), (0xfebf_0000, 0xffff_f000)),
        ]));
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        PciResources::new(&board).assign(&mut bus);
        let read = |bus: &mut Bus, function, register| bus.read(at(3, function, register));
        assert_eq!(read(&mut bus, 0, 0x10), 0xc101);
        assert_eq!(
            [0x14, 0x18, 0x1c, 0x20].map(|r| read(&mut bus, 0, r)),
            [0xc000_0000, 0xc100_0004, 0, 0xc200_0000]
        );
        assert_eq!((read(&mut bus, 0, 0x04), read(&mut bus, 0, 0x3c)), (3, 0x010b));
        assert_eq!((read(&mut bus, 1, 0x10), read(&mut bus, 1, 0x04)), (0xfebf_0000, 0), "it has one");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut range = 0x1000..0x3000;
        assert_eq!(
            [0x2000, 0x1000, 1].map(|size| take(&mut range, size)),
            [None, Some(0x1000), Some(0x2000)]
        );
        assert_eq!((take(&mut range, 0x1000), take(&mut range, 1 << 63)), (None, None));
    }
}
