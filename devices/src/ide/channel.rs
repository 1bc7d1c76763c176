//! A channel: the ports that two drives share, the selection between them, interrupt and bus master.

use serde::{Deserialize, Serialize};

use super::DriveSpec;
use super::bus_master::BusMaster;
use super::drive::{Drive, DriveState};
use crate::block::Disk;
use crate::memory::Dma;
use crate::{IrqLine, Ns, PortDevice, Timed};

/// Device control register.
mod control {
    pub const NIEN: u8 = 0x02;
    pub const SRST: u8 = 0x04;
    /// Reads give what the registers held before the last write.
    pub const HOB: u8 = 0x80;
}
/// DEV in the device register.
const SECOND: u8 = 0x10;

/// See the module.
pub(super) struct Channel {
    drives: [Option<Drive>; 2],
    control: u8,
    second: bool,
    bus_master: BusMaster,
    /// INTRQ as the bus master saw it last.
    intrq: bool,
    dma: Dma,
    irq: IrqLine,
}

/// A channel's state with that of its drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelState {
    drives: [Option<DriveState>; 2],
    control: u8,
    second: bool,
    bus_master: BusMaster,
    intrq: bool,
}

impl Channel {
    pub(super) fn new(drives: [Option<DriveSpec>; 2], index: u8, dma: Dma, irq: IrqLine) -> Self {
        let mut place = 2 * index;
        let drives = drives.map(|spec| {
            let drive = spec.map(|spec| Drive::new(spec, place, false));
            place += 1;
            drive
        });
        let bus_master = BusMaster::default();
        Self { drives, control: 0, second: false, bus_master, intrq: false, dma, irq }
    }

    pub(super) fn reset(&mut self) {
        self.drives.iter_mut().flatten().for_each(Drive::reset);
        (self.control, self.second) = (0, false);
        self.bus_master.reset();
        self.drive_irq();
    }

    pub(super) fn change_medium(&mut self, which: usize, medium: Option<Disk>, force: bool) -> bool {
        self.drives[which].as_mut().is_some_and(|drive| drive.change_medium(medium, force))
    }

    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.drives.iter_mut().flatten().try_for_each(Drive::flush)
    }

    fn selected(&mut self) -> Option<&mut Drive> {
        self.drives[usize::from(self.second)].as_mut()
    }

    fn drive_irq(&mut self) {
        let intrq = self.control & control::NIEN == 0 && self.selected().is_some_and(|drive| drive.irq());
        if intrq && !self.intrq {
            self.bus_master.interrupt();
        }
        self.intrq = intrq;
        self.irq.set(intrq);
    }

    pub(super) fn bus_master_read(&self, offset: u8) -> u8 {
        self.bus_master.read(offset)
    }

    pub(super) fn bus_master_write(&mut self, offset: u8, value: u8, now: Ns) {
        self.bus_master.write(offset, value);
        self.start_dma(now);
    }

    /// A drive that waits for the bus master goes on when that is started.
    fn start_dma(&mut self, now: Ns) {
        if self.bus_master.active()
            && let Some(drive) = self.selected()
        {
            drive.bus_master_ready(now);
        }
    }

    fn read_register(&self, register: u16) -> u8 {
        let previous = self.control & control::HOB != 0;
        let [chosen, other] = if self.second { [1, 0] } else { [0, 1] };
        match (&self.drives[chosen], &self.drives[other]) {
            (Some(drive), _) => drive.read_register(register, previous),
            // The first drive answers for the second, whose status is then 0. Without any, the bus has pull-downs.
            (None, Some(drive)) if register != 7 => drive.read_register(register, previous),
            _ => 0,
        }
    }

    fn write_register(&mut self, register: u16, value: u8, now: Ns) {
        self.control &= !control::HOB;
        if register == 7 {
            if value == 0x90 {
                // EXECUTE DEVICE DIAGNOSTIC is for both.
                self.drives.iter_mut().flatten().for_each(|drive| drive.diagnostic(now));
                self.second = false;
            } else if let Some(drive) = self.selected() {
                drive.command(value, now);
            }
            return;
        }
        if register == 6 {
            self.second = value & SECOND != 0;
        }
        self.drives.iter_mut().flatten().for_each(|drive| drive.write_register(register, value));
    }

    fn write_control(&mut self, value: u8) {
        if value & control::SRST != 0 && self.control & control::SRST == 0 {
            self.drives.iter_mut().flatten().for_each(Drive::soft_reset);
            self.second = false;
        }
        if value & control::SRST == 0 && self.control & control::SRST != 0 {
            self.drives.iter_mut().flatten().for_each(Drive::soft_reset_ends);
        }
        self.control = value;
    }

    pub(super) fn save(&self) -> ChannelState {
        let Self { drives, control, second, bus_master, intrq, dma: _, irq: _ } = self;
        ChannelState {
            drives: drives.each_ref().map(|drive| drive.as_ref().map(Drive::save)),
            control: *control,
            second: *second,
            bus_master: bus_master.clone(),
            intrq: *intrq,
        }
    }

    pub(super) fn restore(&mut self, state: ChannelState) {
        let ChannelState { drives, control, second, bus_master, intrq } = state;
        for (drive, state) in self.drives.iter_mut().zip(drives) {
            if let (Some(drive), Some(state)) = (drive, state) {
                drive.restore(state);
            }
        }
        (self.control, self.second) = (control, second);
        (self.bus_master, self.intrq) = (bus_master, intrq);
        self.drive_irq();
    }
}

/// Ports 1F0h to 1F7h and 3F6h, or 170h to 177h and 376h.
impl PortDevice for Channel {
    fn port_read(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        let value = match port & 0x207 {
            0x000 => self.selected().map_or(0xffff_ffff, |drive| drive.read_data(size, now)),
            0x007 => {
                let status = self.read_register(7);
                if let Some(drive) = self.selected() {
                    drive.acknowledge();
                }
                status.into()
            }
            register @ 0x001..=0x006 => self.read_register(register).into(),
            _ => self.read_register(7).into(),
        };
        self.start_dma(now);
        self.drive_irq();
        value
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        match port & 0x207 {
            0x000 => {
                if let Some(drive) = self.selected() {
                    drive.write_data(size, value, now);
                }
            }
            register @ 0x001..=0x007 => self.write_register(register, value as u8, now),
            _ => self.write_control(value as u8),
        }
        self.start_dma(now);
        self.drive_irq();
    }
}

impl Timed for Channel {
    fn next_deadline(&self) -> Option<Ns> {
        self.drives.iter().flatten().filter_map(Drive::due).min()
    }

    fn advance(&mut self, now: Ns) {
        let Self { drives, bus_master, dma, .. } = self;
        for drive in drives.iter_mut().flatten() {
            drive.advance(now, bus_master, dma);
        }
        // A packet has been understood, and its data may go now.
        self.start_dma(now);
        self.drive_irq();
    }
}
