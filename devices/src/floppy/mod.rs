//! The floppy controller (Intel 82077AA data sheet) with two drives: DMA channel 2, IRQ 6.
//!
//! A command's bytes are collected, then the drive works for its modelled time, then data moves and the result is there.
//! Seeking, rotation and transfer take time, though less than on real drives: guests wait for interrupts, not for clocks.
//!
//! Limits: no formatting with other geometries than the medium's, no perpendicular mode beyond its command, no tape, no
//! implied seek on reads of a deleted data mark; transfers without DMA are not there.

mod commands;
mod medium;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::block::Disk;
use crate::dma8237::Dma8237;
use crate::memory::Dma;
use crate::{IrqLine, Ns, PortDevice, Timed};
use commands::Command;
pub use medium::{DriveType, Geometry};

/// Main status register.
mod msr {
    pub const RQM: u8 = 0x80;
    pub const DIO: u8 = 0x40;
    pub const BUSY: u8 = 0x10;
}
/// Digital output register.
mod dor {
    pub const SELECT: u8 = 0x03;
    pub const NOT_RESET: u8 = 0x04;
    pub const DMA: u8 = 0x08;
}

const DMA_CHANNEL: u8 = 2;
/// Longest command.
const MAX_COMMAND: usize = 9;
/// Time of a step of the head, of finding a sector, and of a sector passing by.
const STEP: Ns = 50_000;
const SEARCH: Ns = 200_000;
const SECTOR_TIME: Ns = 50_000;

/// Where a command stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Takes command bytes.
    Command,
    /// Works until `due`.
    Execution,
    /// Gives result bytes.
    Result,
}

/// A drive's head and line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    cylinder: u8,
    /// The disk change line: cleared by a step with a medium in the drive.
    changed: bool,
}

/// What a snapshot keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloppyState {
    dor: u8,
    tdr: u8,
    rate: u8,
    phase: Phase,
    due: Option<Ns>,
    command: Vec<u8>,
    result: Vec<u8>,
    heads: [Head; 4],
    /// Status register 0 of finished seeks and of the polling after a reset, for SENSE INTERRUPT STATUS.
    interrupts: Vec<u8>,
    irq: bool,
    configure: [u8; 2],
    specify: [u8; 2],
    locked: bool,
    perpendicular: u8,
    /// The reset bit is to be looked at when its pulse ends.
    in_reset: bool,
}

/// See the module.
pub struct Floppy {
    state: FloppyState,
    drives: [Option<Drive>; 2],
    memory: Dma,
    irq: IrqLine,
}

struct Drive {
    kind: DriveType,
    medium: Option<(Disk, Geometry)>,
}

impl FloppyState {
    fn new() -> Self {
        Self {
            dor: dor::NOT_RESET | dor::DMA,
            tdr: 0,
            rate: 2,
            phase: Phase::Command,
            due: None,
            command: Vec::new(),
            result: Vec::new(),
            heads: [Head { cylinder: 0, changed: true }; 4],
            interrupts: Vec::new(),
            irq: false,
            configure: [0, 0],
            specify: [0, 0],
            locked: false,
            perpendicular: 0,
            in_reset: false,
        }
    }
}

impl Floppy {
    /// The controller with a drive for each medium that is given; `None`: no drive. A drive that is to be empty has
    /// `Some(None)`.
    pub fn new(media: [Option<Option<Disk>>; 2], memory: Dma, irq: IrqLine) -> Self {
        let drives = media.map(|slot| {
            slot.map(|medium| {
                let medium =
                    medium.and_then(|disk| Geometry::of(disk.len()).map(|geometry| (disk, geometry)));
                let kind = medium.as_ref().map_or(DriveType::Inch3_2880, |(_, g)| g.drive_type());
                Drive { kind, medium }
            })
        });
        Self { state: FloppyState::new(), drives, memory, irq }
    }

    /// The types of drives A and B as CMOS register 10h has them.
    pub fn cmos_types(&self) -> u8 {
        let kind = |drive: &Option<Drive>| drive.as_ref().map_or(0, |drive| drive.kind as u8);
        kind(&self.drives[0]) << 4 | kind(&self.drives[1])
    }

    /// Puts another medium (or none) into drive 0 or 1; false: no such drive, or no floppy has this size.
    pub fn change_medium(&mut self, drive: usize, medium: Option<Disk>) -> bool {
        let Some(Some(slot)) = self.drives.get_mut(drive) else { return false };
        slot.medium = match medium {
            None => None,
            Some(disk) => match Geometry::of(disk.len()) {
                Some(geometry) => Some((disk, geometry)),
                None => return false,
            },
        };
        self.state.heads[drive].changed = true;
        true
    }

    /// Platform reset.
    pub fn reset(&mut self) {
        let heads = self.state.heads;
        self.state = FloppyState { heads, ..FloppyState::new() };
        self.drive_irq();
    }

    fn drive_irq(&self) {
        self.irq.set(self.state.irq && self.state.dor & dor::DMA != 0);
    }

    fn raise(&mut self) {
        self.state.irq = true;
    }

    /// The controller's own reset, by the DOR or the DSR: drives are polled, and each reports.
    fn controller_reset(&mut self) {
        let s = &mut self.state;
        (s.phase, s.due) = (Phase::Command, None);
        s.command.clear();
        s.result.clear();
        s.irq = false;
        if !s.locked {
            s.configure = [0, 0];
        }
        s.interrupts = vec![0xc0, 0xc1, 0xc2, 0xc3];
    }

    fn write_dor(&mut self, value: u8, now: Ns) {
        let s = &mut self.state;
        let (was, is) = (s.dor & dor::NOT_RESET, value & dor::NOT_RESET);
        s.dor = value;
        if was != 0 && is == 0 {
            self.controller_reset();
            self.state.in_reset = true;
            self.state.interrupts.clear();
        } else if was == 0 && is != 0 {
            self.controller_reset();
            // The interrupt comes after the drives were polled.
            self.state.due = Some(now.saturating_add(SEARCH));
        }
    }

    fn msr(&self) -> u8 {
        let s = &self.state;
        if s.dor & dor::NOT_RESET == 0 || s.in_reset {
            return 0;
        }
        match s.phase {
            Phase::Command if s.command.is_empty() => msr::RQM,
            Phase::Command => msr::RQM | msr::BUSY,
            Phase::Execution => msr::BUSY,
            Phase::Result => msr::RQM | msr::DIO | msr::BUSY,
        }
    }

    /// The disk change line of the selected drive; an absent drive's is pulled up.
    fn dir(&self) -> u8 {
        let selected = usize::from(self.state.dor & dor::SELECT);
        let motor = self.state.dor >> (4 + selected) & 1 != 0;
        match self.drives.get(selected) {
            Some(Some(drive)) => {
                u8::from(motor && (self.state.heads[selected].changed || drive.medium.is_none())) << 7
            }
            _ => u8::from(motor) << 7,
        }
    }

    fn read_data(&mut self) -> u8 {
        let s = &mut self.state;
        if s.phase != Phase::Result || s.result.is_empty() {
            return 0;
        }
        // The first byte of the result takes the interrupt away.
        s.irq = false;
        let byte = s.result.remove(0);
        if s.result.is_empty() {
            s.phase = Phase::Command;
        }
        byte
    }

    fn write_data(&mut self, value: u8, now: Ns) {
        let s = &mut self.state;
        if s.phase != Phase::Command || s.dor & dor::NOT_RESET == 0 || s.in_reset {
            return;
        }
        s.command.push(value);
        let len = Command::length(s.command[0]).min(MAX_COMMAND);
        if s.command.len() >= len {
            let command = std::mem::take(&mut s.command);
            self.start(&command, now);
        }
    }

    /// Ends a command with these result bytes; none: it goes back to the command phase.
    fn finish(&mut self, result: &[u8]) {
        let s = &mut self.state;
        s.result = result.to_vec();
        s.phase = if result.is_empty() { Phase::Command } else { Phase::Result };
    }

    /// Does what is due. Data goes through the board's DMA controller.
    pub fn run(&mut self, now: Ns, dma: &mut Dma8237) {
        if self.state.due.is_none_or(|due| due > now) {
            return;
        }
        self.state.due = None;
        if self.state.phase == Phase::Execution {
            let command = std::mem::take(&mut self.state.command);
            self.execute(&command, dma);
        } else {
            self.raise();
        }
        self.drive_irq();
    }

    /// Flushes the media: for the end of the run.
    pub fn flush(&mut self) -> std::io::Result<()> {
        let media = self.drives.iter_mut().flatten().filter_map(|drive| drive.medium.as_mut());
        media.filter(|(disk, _)| !disk.read_only()).map(|(disk, _)| disk).try_for_each(|disk| disk.flush())
    }

    /// Registers and the command in progress.
    pub fn save(&self) -> FloppyState {
        let Self { state, drives: _, memory: _, irq: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: FloppyState) {
        state.command.truncate(MAX_COMMAND);
        state.result.truncate(16);
        state.interrupts.truncate(8);
        if state.phase == Phase::Result && state.result.is_empty() {
            state.phase = Phase::Command;
        }
        self.state = state;
        self.drive_irq();
    }
}

/// Ports 3F0h to 3F5h and 3F7h.
impl PortDevice for Floppy {
    fn port_read(&mut self, port: u16, _size: u8, _now: Ns) -> u32 {
        let value = match port & 7 {
            0 => u8::from(self.state.irq) << 7,
            1 => self.state.dor & 0x30 | 0xc0,
            2 => self.state.dor,
            3 => self.state.tdr,
            4 => {
                if self.state.in_reset && self.state.dor & dor::NOT_RESET != 0 {
                    self.state.in_reset = false;
                }
                self.msr()
            }
            5 => self.read_data(),
            7 => self.dir(),
            _ => 0xff,
        };
        self.drive_irq();
        value.into()
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, now: Ns) {
        let value = value as u8;
        match port & 7 {
            2 => self.write_dor(value, now),
            3 => self.state.tdr = value & 3,
            4 => {
                self.state.rate = value & 3;
                if value & 0x80 != 0 {
                    self.controller_reset();
                    self.state.due = Some(now.saturating_add(SEARCH));
                }
            }
            5 => self.write_data(value, now),
            7 => self.state.rate = value & 3,
            _ => {}
        }
        self.drive_irq();
    }
}

/// What is due needs the DMA controller: the board calls [`Floppy::run`].
impl Timed for Floppy {
    fn next_deadline(&self) -> Option<Ns> {
        self.state.due
    }
    fn advance(&mut self, _now: Ns) {}
}
