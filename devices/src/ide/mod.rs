//! The PIIX3's IDE function (82371SB data sheet, chapter 3; ATA/ATAPI-6): two channels in legacy mode with up to two
//! drives each, and the bus master.
//!
//! A command is done when its modelled latency has passed: until then the drive is busy, and what it will do is plain
//! data in its state. So nothing is in flight on the host between two events, and a saved state is complete. Guest
//! memory is written at the moment of completion.
//!
//! [`drive`] knows no channel: the ports of the AHCI controller hold the same drives, as serial ones, with queued commands.
//!
//! Limits: no drive is hidden or slowed by the timing registers (IDETIM is kept, not obeyed); overlapped commands are not
//! there, nor SMART and security.

pub(crate) mod ata;
mod atapi;
pub(crate) mod bus_master;
mod channel;
pub(crate) mod drive;
mod identify;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::block::Disk;
use crate::memory::Dma;
use crate::pci::{BarKind, ConfigSpace, PciFunction};
use crate::{IrqLine, Ns, PortDevice, Timed};
use channel::{Channel, ChannelState};

/// A drive to be built in.
pub enum DriveSpec {
    /// A hard disk.
    HardDisk(Disk),
    /// A CD-ROM drive with or without a medium.
    CdRom(Option<Disk>),
}

/// Primary master and slave, secondary master and slave.
pub type DriveSpecs = [Option<DriveSpec>; 4];

/// Both channels and the PCI function's registers.
pub struct Ide {
    config: ConfigSpace,
    channels: [Channel; 2],
}

/// What is not in the configuration space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IdeState {
    channels: [ChannelState; 2],
}

impl Ide {
    /// The function with these drives; interrupts are IRQ 14 and 15.
    pub fn new(drives: DriveSpecs, dma: &Dma, irqs: [IrqLine; 2]) -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x7010, 0x01_0180, 0x00);
        config.fixed(0x06, &[0x80, 0x02]);
        config.register(0x40, &[0x00, 0x80, 0x00, 0x80, 0x00], &[0xff, 0xf3, 0xff, 0xf3, 0xff]);
        config.add_bar(4, BarKind::Io, 16);
        let [a, b, c, d] = drives;
        let [first, second] = irqs;
        Self {
            config,
            channels: [
                Channel::new([a, b], 0, dma.clone(), first),
                Channel::new([c, d], 1, dma.clone(), second),
            ],
        }
    }

    /// The channel (0 or 1) as ports see it.
    pub fn channel(&mut self, index: u8) -> &mut dyn PortDevice {
        &mut self.channels[usize::from(index & 1)]
    }
}

impl PciFunction for Ide {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn bar_read(&mut self, _bar: u8, offset: u64, size: u8, _now: Ns) -> u64 {
        let channel = &self.channels[usize::from(offset >> 3 & 1 == 1)];
        (0..u64::from(size))
            .fold(0, |value, n| value | u64::from(channel.bus_master_read((offset + n) as u8 & 7)) << (8 * n))
    }
    fn bar_write(&mut self, _bar: u8, offset: u64, size: u8, value: u64, now: Ns) {
        let channel = &mut self.channels[usize::from(offset >> 3 & 1 == 1)];
        for n in 0..u64::from(size) {
            channel.bus_master_write((offset + n) as u8 & 7, (value >> (8 * n)) as u8, now);
        }
    }
    fn fixed_ports(&mut self, index: u8) -> Option<&mut dyn PortDevice> {
        Some(self.channel(index))
    }
    fn reset(&mut self) {
        self.channels.iter_mut().for_each(Channel::reset);
    }
    fn timed(&self) -> Option<&dyn Timed> {
        Some(self)
    }
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        Some(self)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.channels.iter_mut().try_for_each(Channel::flush)
    }
    fn change_medium(&mut self, place: usize, medium: Option<Disk>, force: bool) -> bool {
        self.channels
            .get_mut(place >> 1)
            .is_some_and(|channel| channel.change_medium(place & 1, medium, force))
    }
    fn save(&self) -> Vec<u8> {
        let Self { config: _, channels: [first, second] } = self;
        let state = IdeState { channels: [first.save(), second.save()] };
        crate::saved::to_bytes(&state)
    }
    fn restore(&mut self, state: &[u8]) {
        let Some(IdeState { channels: [first, second] }) = crate::saved::from_bytes(state) else { return };
        self.channels[0].restore(first);
        self.channels[1].restore(second);
    }
}

impl Timed for Ide {
    fn next_deadline(&self) -> Option<Ns> {
        self.channels.iter().filter_map(Timed::next_deadline).min()
    }
    fn advance(&mut self, now: Ns) {
        self.channels.iter_mut().for_each(|channel| channel.advance(now));
    }
}
