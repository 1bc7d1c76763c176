//! The serial ATA controller of an ICH9 in AHCI mode (8086:2922; AHCI 1.3.1): six ports, each with a hard disk, a CD-ROM drive or
//! nothing, command lists, native command queuing, interrupts by INTA# or MSI.
//!
//! The drives are those of [`crate::ide`]: what a command means stands there once. This module is how commands, data and ends
//! of commands travel. As there, nothing is in flight between two events, and guest memory is touched when a command begins
//! and when its time has come. Memory that is none (a device's registers, say) does not answer: the port's fatal error.
//!
//! Registers are also reached by the index-data pair in BAR 4, for programs that cannot reach high memory.
//!
//! Limits: no port multipliers, no command completion coalescing, no power states of the link (they are accepted and left at
//! once), no hot-plug of drives: media change.

mod command;
mod fis;
mod port;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::block::Disk;
use crate::ide::DriveSpec;
use crate::ide::drive::Drive;
use crate::memory::Dma;
use crate::pc::PciCard;
use crate::pci::{BarKind, ConfigSpace, Msi, PciFunction, PciSlot};
use crate::{Ns, Timed};
use port::{Port, PortState};

/// Number of ports.
pub const PORTS: usize = 6;
/// A drive for each port.
pub type PortSpecs = [Option<DriveSpec>; PORTS];

const INDEX_BAR: u8 = 4;
const MEMORY_BAR: u8 = 5;
const MEMORY_LEN: u64 = 0x1000;
/// Where index and data are in BAR 4.
const INDEX: u64 = 0x10;
const DATA: u64 = 0x14;
const MSI_AT: usize = 0x80;
const SATA_AT: usize = 0xa8;
/// Capability number of a serial ATA controller.
const SATA: u8 = 0x12;

/// Generic host control registers.
mod register {
    pub const CAP: u32 = 0x00;
    pub const GHC: u32 = 0x04;
    pub const IS: u32 = 0x08;
    pub const PI: u32 = 0x0c;
    pub const VS: u32 = 0x10;
    /// The first port's; 80h bytes each.
    pub const PORT_0: u32 = 0x100;
}

/// 64-bit addresses, queuing, 3 Gbit/s, AHCI mode only, 32 slots, six ports.
const CAP: u32 = 1 << 31 | 1 << 30 | 2 << 20 | 1 << 18 | 31 << 8 | (PORTS as u32 - 1);
const VERSION: u32 = 0x0001_0301;
mod ghc {
    pub const HR: u32 = 1;
    pub const IE: u32 = 2;
    pub const AE: u32 = 1 << 31;
}

/// See the module.
pub struct Ahci {
    config: ConfigSpace,
    slot: PciSlot,
    msi: Msi,
    ghc: u32,
    is: u32,
    index: u32,
    ports: [Port; PORTS],
    /// The interrupt as it was asked for last.
    asserted: bool,
}

/// What is not in the configuration space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AhciState {
    ghc: u32,
    is: u32,
    index: u32,
    ports: [PortState; PORTS],
    asserted: bool,
}

impl Ahci {
    /// The controller with these drives.
    pub fn new(drives: PortSpecs, slot: PciSlot) -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x2922, 0x01_0601, 0x02);
        config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.register(0x0c, &[0x00], &[0xff]);
        config.fixed(0x90, &[0x40]); // AHCI mode
        config.register(0x92, &[0x00, 0x00], &[0x3f, 0x80]); // ports enabled: kept
        config.set_interrupt_pin(1);
        config.add_bar(INDEX_BAR.into(), BarKind::Io, 32);
        config.add_bar(MEMORY_BAR.into(), BarKind::Memory32, MEMORY_LEN);
        // Revision 1.0; the index is 4 dwords into BAR 4.
        config.add_capability(SATA_AT, SATA, &[0x10, 0x00, 0x48, 0x00, 0x00, 0x00], &[]);
        let msi = Msi::new(&mut config, MSI_AT, 1, false, slot.messages.clone());
        let mut index = 0;
        let ports = drives.map(|spec| {
            let drive = spec.map(|spec| Drive::new(spec, index, true));
            index += 1;
            Port::new(drive)
        });
        Self { config, slot, msi, ghc: ghc::AE, is: 0, index: 0, ports, asserted: false }
    }

    /// The controller as a card.
    pub fn card(at: Option<(u8, u8)>, drives: PortSpecs) -> PciCard {
        PciCard { at, make: Box::new(|slot| Box::new(Self::new(drives, slot))) }
    }

    /// The way to memory, which the command register may have closed.
    fn memory(&self) -> Dma {
        if self.config.is_bus_master() { self.slot.memory.clone() } else { Dma::default() }
    }

    fn read_register(&self, register: u32) -> u32 {
        match register {
            register::CAP => CAP,
            register::GHC => self.ghc,
            register::IS => self.is,
            register::PI => (1 << PORTS) - 1,
            register::VS => VERSION,
            register::PORT_0.. => {
                let port = self.ports.get(((register - register::PORT_0) >> 7) as usize);
                port.map_or(0, |port| port.read(register & 0x7c))
            }
            _ => 0,
        }
    }

    /// A write of the bits in `mask`.
    fn write_register(&mut self, register: u32, value: u32, mask: u32, now: Ns) {
        match register {
            register::GHC => {
                let value = self.ghc & !mask | value & mask;
                if value & ghc::HR != 0 {
                    self.reset_controller();
                } else {
                    self.ghc = value & ghc::IE | ghc::AE;
                }
            }
            register::IS => self.is &= !(value & mask),
            register::PORT_0.. => {
                let memory = self.memory();
                if let Some(port) = self.ports.get_mut(((register - register::PORT_0) >> 7) as usize) {
                    port.write(register & 0x7c, value, mask, now, &memory);
                }
            }
            _ => return,
        }
        // What is still there after a write asks again.
        self.interrupt(true);
    }

    fn reset_controller(&mut self) {
        self.ports.iter_mut().for_each(Port::reset);
        (self.ghc, self.is) = (ghc::AE, 0);
    }

    /// Drives INTA#, or sends a message when something is new: `again` if the guest has just written to a register.
    fn interrupt(&mut self, again: bool) {
        let mut news = again;
        for (n, port) in self.ports.iter_mut().enumerate() {
            news |= std::mem::take(&mut port.event);
            if port.interrupts() {
                self.is |= 1 << n;
            }
        }
        let asserted = self.ghc & ghc::IE != 0 && self.is != 0;
        let by_message = self.msi.enabled(&self.config);
        if asserted && by_message && (news || !self.asserted) {
            self.msi.send(&mut self.config, 0);
        }
        self.asserted = asserted;
        self.config.drive_intx(&self.slot.intx, asserted && !by_message);
    }

    fn memory_read(&self, offset: u64, size: u8) -> u64 {
        let mut bytes = [0; 8];
        for (n, byte) in bytes.iter_mut().enumerate().take(size.into()) {
            let at = offset as u32 + n as u32;
            *byte = self.read_register(at & !3).to_le_bytes()[(at & 3) as usize];
        }
        u64::from_le_bytes(bytes)
    }

    fn memory_write(&mut self, offset: u64, size: u8, value: u64, now: Ns) {
        let (mut at, mut left, mut value) = (offset as u32, u32::from(size.min(8)), value);
        while left > 0 {
            let (lane, n) = (at & 3, left.min(4 - (at & 3)));
            let mask = (u32::MAX >> (32 - 8 * n)) << (8 * lane);
            self.write_register(at & !3, (value as u32) << (8 * lane), mask, now);
            (at, left, value) = (at + n, left - n, value.checked_shr(8 * n).unwrap_or(0));
        }
    }
}

impl PciFunction for Ahci {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, _offset: u8, _len: u8) {
        self.interrupt(false);
    }
    fn bar_read(&mut self, bar: u8, offset: u64, size: u8, _now: Ns) -> u64 {
        match (bar, offset) {
            (MEMORY_BAR, _) => self.memory_read(offset, size),
            (INDEX_BAR, INDEX) => self.index.into(),
            (INDEX_BAR, DATA..=0x17) => {
                self.memory_read(u64::from(self.index) + (offset - DATA), size.min(4))
            }
            _ => 0,
        }
    }
    fn bar_write(&mut self, bar: u8, offset: u64, size: u8, value: u64, now: Ns) {
        match (bar, offset) {
            (MEMORY_BAR, _) => self.memory_write(offset, size, value, now),
            (INDEX_BAR, INDEX) => self.index = value as u32 & (MEMORY_LEN as u32 - 4),
            (INDEX_BAR, DATA..=0x17) => {
                let at = u64::from(self.index) + (offset - DATA);
                self.memory_write(at, size.min(4), value, now);
            }
            _ => {}
        }
    }
    fn reset(&mut self) {
        self.reset_controller();
        self.index = 0;
        self.interrupt(false);
    }
    fn timed(&self) -> Option<&dyn Timed> {
        Some(self)
    }
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        Some(self)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.ports.iter_mut().try_for_each(Port::flush)
    }
    fn change_medium(&mut self, port: usize, medium: Option<Disk>, force: bool) -> bool {
        self.ports.get_mut(port).is_some_and(|port| port.change_medium(medium, force))
    }
    fn save(&self) -> Vec<u8> {
        let Self { config: _, slot: _, msi: _, ghc, is, index, ports, asserted } = self;
        let ports = ports.each_ref().map(Port::save);
        let state = AhciState { ghc: *ghc, is: *is, index: *index, ports, asserted: *asserted };
        crate::saved::to_bytes(&state)
    }
    fn restore(&mut self, state: &[u8]) {
        let Some(AhciState { ghc, is, index, ports, asserted }) = crate::saved::from_bytes(state) else {
            return;
        };
        (self.ghc, self.is, self.asserted) = (ghc & ghc::IE | ghc::AE, is, asserted);
        self.index = index & (MEMORY_LEN as u32 - 4);
        for (port, state) in self.ports.iter_mut().zip(ports) {
            port.restore(state);
        }
        self.interrupt(false);
    }
}

impl Timed for Ahci {
    fn next_deadline(&self) -> Option<Ns> {
        self.ports.iter().filter_map(Port::next_deadline).min()
    }
    fn advance(&mut self, now: Ns) {
        let memory = self.memory();
        self.ports.iter_mut().for_each(|port| port.advance(now, &memory));
        self.interrupt(false);
    }
}
