//! The controller's commands (82077AA data sheet, chapter 6).

use super::medium::Geometry;
use super::{DMA_CHANNEL, Floppy, Phase, SEARCH, SECTOR_TIME, STEP, dor};
use crate::Ns;
use crate::dma8237::Dma8237;

/// Status register 0.
mod st0 {
    pub const ABNORMAL: u8 = 0x40;
    pub const INVALID: u8 = 0x80;
    pub const SEEK_END: u8 = 0x20;
    pub const EQUIPMENT_CHECK: u8 = 0x10;
}
/// Status register 1.
mod st1 {
    pub const MISSING_ADDRESS: u8 = 0x01;
    pub const NOT_WRITABLE: u8 = 0x02;
    pub const NO_DATA: u8 = 0x04;
    pub const OVERRUN: u8 = 0x10;
    pub const END_OF_CYLINDER: u8 = 0x80;
}

const SECTOR: usize = 512;

/// What a command byte asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Read,
    Write,
    Verify,
    Format,
    ReadId,
    Recalibrate,
    SenseInterrupt,
    Specify,
    SenseDrive,
    Seek,
    RelativeSeek,
    Configure,
    DumpReg,
    Version,
    Perpendicular,
    Lock,
    PartId,
    Invalid,
}

impl Command {
    fn of(byte: u8) -> Self {
        match byte & 0x1f {
            0x06 | 0x0c | 0x02 => Self::Read,
            0x05 | 0x09 => Self::Write,
            0x16 => Self::Verify,
            0x0d => Self::Format,
            0x0a => Self::ReadId,
            0x07 => Self::Recalibrate,
            0x08 => Self::SenseInterrupt,
            0x03 => Self::Specify,
            0x04 => Self::SenseDrive,
            0x0f if byte & 0x80 != 0 => Self::RelativeSeek,
            0x0f => Self::Seek,
            0x13 => Self::Configure,
            0x0e => Self::DumpReg,
            0x10 => Self::Version,
            0x12 => Self::Perpendicular,
            0x14 => Self::Lock,
            0x18 => Self::PartId,
            _ => Self::Invalid,
        }
    }

    /// Bytes of the command that begins with `byte`.
    pub(super) fn length(byte: u8) -> usize {
        match Self::of(byte) {
            Self::Read | Self::Write | Self::Verify => 9,
            Self::Format => 6,
            Self::Configure => 4,
            Self::Specify | Self::Seek | Self::RelativeSeek => 3,
            Self::ReadId | Self::Recalibrate | Self::SenseDrive | Self::Perpendicular => 2,
            _ => 1,
        }
    }
}

/// The sector that a command names.
#[derive(Clone, Copy)]
struct Place {
    cylinder: u8,
    head: u8,
    sector: u8,
    size: u8,
}

/// A byte of a command; a damaged saved state may hold a short one.
fn at(command: &[u8], index: usize) -> u8 {
    command.get(index).copied().unwrap_or(0)
}

impl Floppy {
    fn geometry(&self, drive: usize) -> Option<Geometry> {
        self.drives.get(drive)?.as_ref()?.medium.as_ref().map(|(_, geometry)| *geometry)
    }

    /// A complete command has arrived.
    pub(super) fn start(&mut self, command: &[u8], now: Ns) {
        tracing::trace!(target: "floppy", "command {command:02x?} at {now} ns");
        let drive = usize::from(at(command, 1) & 3);
        let cylinder = self.state.heads[drive].cylinder;
        let delay = match Command::of(command[0]) {
            Command::Read | Command::Write | Command::Verify => {
                let first = at(command, 4);
                let sectors = u64::from(at(command, 6).saturating_sub(first)) + 1;
                Some(SEARCH + sectors.min(64) * SECTOR_TIME)
            }
            Command::Format => Some(SEARCH + u64::from(at(command, 3)) * SECTOR_TIME),
            Command::ReadId => Some(SEARCH),
            Command::Recalibrate => Some(STEP * (1 + u64::from(cylinder))),
            Command::Seek => Some(STEP * (1 + u64::from(cylinder.abs_diff(at(command, 2))))),
            Command::RelativeSeek => Some(STEP * (1 + u64::from(at(command, 2)))),
            other => {
                self.at_once(other, command);
                None
            }
        };
        if let Some(delay) = delay {
            self.state.command = command.to_vec();
            (self.state.phase, self.state.due) = (Phase::Execution, Some(now.saturating_add(delay)));
        }
    }

    /// Commands without an execution phase.
    fn at_once(&mut self, what: Command, command: &[u8]) {
        let (first, second) = (at(command, 1), at(command, 2));
        let drive = usize::from(first & 3);
        match what {
            Command::SenseInterrupt => {
                self.state.irq = false;
                if self.state.interrupts.is_empty() {
                    return self.finish(&[st0::INVALID]);
                }
                let st0 = self.state.interrupts.remove(0);
                let cylinder = self.state.heads[usize::from(st0 & 3)].cylinder;
                self.finish(&[st0, cylinder]);
            }
            Command::Specify => {
                self.state.specify = [first, second];
                self.finish(&[]);
            }
            Command::SenseDrive => {
                let track_0 = u8::from(self.state.heads[drive].cylinder == 0) << 4;
                let two_sided = u8::from(self.geometry(drive).is_none_or(|g| g.heads > 1)) << 3;
                let protected = u8::from(self.is_protected(drive)) << 6;
                self.finish(&[first & 7 | two_sided | track_0 | protected | 0x20]);
            }
            Command::Configure => {
                self.state.configure = [second, at(command, 3)];
                self.finish(&[]);
            }
            Command::Perpendicular => {
                self.state.perpendicular = first;
                self.finish(&[]);
            }
            Command::Lock => {
                self.state.locked = command[0] & 0x80 != 0;
                self.finish(&[u8::from(self.state.locked) << 4]);
            }
            Command::Version => self.finish(&[0x90]),
            Command::PartId => self.finish(&[0x41]),
            Command::DumpReg => {
                let s = &self.state;
                let cylinders = s.heads.map(|head| head.cylinder);
                let lock = u8::from(s.locked) << 7 | s.perpendicular & 0x7f;
                let tail = [s.specify[0], s.specify[1], 0, lock, s.configure[0], s.configure[1]];
                self.finish(&[&cylinders[..], &tail].concat());
            }
            _ => self.finish(&[st0::INVALID]),
        }
    }

    fn is_protected(&self, drive: usize) -> bool {
        match self.drives.get(drive) {
            Some(Some(drive)) => drive.medium.as_ref().is_some_and(|(disk, _)| disk.read_only()),
            _ => false,
        }
    }

    /// What a command does once its time has come.
    pub(super) fn execute(&mut self, command: &[u8], dma: &mut Dma8237) {
        let what = Command::of(at(command, 0));
        let select = at(command, 1) & 7;
        let drive = usize::from(select & 3);
        match what {
            Command::Recalibrate => self.seek_to(drive, 0),
            Command::Seek => self.seek_to(drive, at(command, 2)),
            Command::RelativeSeek => {
                let (from, by) = (self.state.heads[drive].cylinder, at(command, 2));
                let inwards = at(command, 0) & 0x40 != 0;
                self.seek_to(drive, if inwards { from.saturating_add(by) } else { from.saturating_sub(by) });
            }
            Command::ReadId => self.read_id(select),
            Command::Format => self.format(command, dma),
            Command::Read | Command::Write | Command::Verify => self.transfer(what, command, dma),
            _ => self.finish(&[st0::INVALID]),
        }
    }

    fn seek_to(&mut self, drive: usize, cylinder: u8) {
        let exists = matches!(self.drives.get(drive), Some(Some(_)));
        let head = &mut self.state.heads[drive];
        if exists {
            head.cylinder = cylinder.min(85);
        }
        if self.geometry(drive).is_some() {
            self.state.heads[drive].changed = false;
        }
        let failed = if exists { 0 } else { st0::ABNORMAL | st0::EQUIPMENT_CHECK };
        self.state.interrupts.clear();
        self.state.interrupts.push(st0::SEEK_END | failed | drive as u8);
        self.finish(&[]);
        self.raise();
    }

    /// The seven result bytes of commands that look for sectors.
    fn conclude(&mut self, select: u8, failure: Option<u8>, place: Place) {
        let st0 = select | if failure.is_some() { st0::ABNORMAL } else { 0 };
        let result = [st0, failure.unwrap_or(0), 0, place.cylinder, place.head, place.sector, place.size];
        self.finish(&result);
        self.raise();
    }

    fn read_id(&mut self, select: u8) {
        let (drive, head) = (usize::from(select & 3), select >> 2);
        let cylinder = self.state.heads[drive].cylinder;
        let place = Place { cylinder, head, sector: 1, size: 2 };
        let found = self.geometry(drive).is_some_and(|g| g.offset(cylinder, head, 1).is_some());
        self.conclude(select, (!found).then_some(st1::MISSING_ADDRESS), place);
    }

    fn access(&mut self, drive: usize, offset: u64, write: bool, sector: &mut [u8]) -> bool {
        let Some(Some(drive)) = self.drives.get_mut(drive) else { return false };
        let Some((disk, _)) = &mut drive.medium else { return false };
        let result = if write { disk.write(offset, sector) } else { disk.read(offset, sector) };
        if let Err(problem) = &result {
            tracing::warn!("floppy: access at {offset:#x} failed: {problem}");
        }
        result.is_ok()
    }

    /// READ DATA, WRITE DATA and VERIFY: sector after sector until the DMA controller says stop, or the track ends.
    fn transfer(&mut self, what: Command, command: &[u8], dma: &mut Dma8237) {
        let select = at(command, 1) & 7;
        let drive = usize::from(select & 3);
        let multi_track = at(command, 0) & 0x80 != 0;
        let last = at(command, 6);
        let mut place = Place {
            cylinder: at(command, 2),
            head: at(command, 3),
            sector: at(command, 4),
            size: at(command, 5),
        };
        let Some(geometry) = self.geometry(drive) else {
            return self.conclude(select, Some(st1::MISSING_ADDRESS), place);
        };
        if what == Command::Write && self.is_protected(drive) {
            return self.conclude(select, Some(st1::NOT_WRITABLE), place);
        }
        if self.state.configure[0] & 0x40 != 0 {
            self.state.heads[drive].cylinder = place.cylinder; // implied seek
        }
        if place.cylinder != self.state.heads[drive].cylinder {
            return self.conclude(select, Some(st1::NO_DATA), place);
        }
        if what != Command::Verify && (self.state.dor & dor::DMA == 0 || self.state.specify[1] & 1 != 0) {
            tracing::warn!("floppy: a transfer without DMA was asked for, which is not there");
            return self.conclude(select, Some(st1::OVERRUN), place);
        }
        let mut side = select >> 2 & 1;
        // A disk has fewer sectors than this, whatever the command says.
        for _ in 0..512 {
            let Some(offset) = geometry.offset(place.cylinder, side, place.sector) else {
                return self.conclude(select, Some(st1::NO_DATA), place);
            };
            let mut sector = [0; SECTOR];
            let end = match what {
                Command::Read => {
                    if !self.access(drive, offset, false, &mut sector) {
                        return self.conclude(select, Some(st1::NO_DATA), place);
                    }
                    let (moved, end) = dma.transfer(DMA_CHANNEL, true, &mut sector, &self.memory);
                    if moved == 0 {
                        return self.conclude(select, Some(st1::OVERRUN), place);
                    }
                    end
                }
                Command::Write => {
                    let (moved, end) = dma.transfer(DMA_CHANNEL, false, &mut sector, &self.memory);
                    if moved == 0 {
                        return self.conclude(select, Some(st1::OVERRUN), place);
                    }
                    if !self.access(drive, offset, true, &mut sector) {
                        return self.conclude(select, Some(st1::NO_DATA), place);
                    }
                    end
                }
                _ => false,
            };
            // The registers name the sector that would come next.
            if place.sector >= last {
                let turns = multi_track && side == 0 && geometry.heads > 1;
                place.sector = 1;
                if turns {
                    (side, place.head) = (1, place.head | 1);
                } else {
                    place.cylinder = place.cylinder.wrapping_add(1);
                    if multi_track {
                        place.head &= !1;
                    }
                    let ended = end || what == Command::Verify;
                    let select = select & 3 | side << 2;
                    return self.conclude(select, (!ended).then_some(st1::END_OF_CYLINDER), place);
                }
            } else {
                place.sector += 1;
            }
            if end {
                return self.conclude(select & 3 | side << 2, None, place);
            }
        }
        self.conclude(select, Some(st1::NO_DATA), place);
    }

    /// FORMAT TRACK: the identifications come by DMA, four bytes for each sector; data is the filler byte.
    fn format(&mut self, command: &[u8], dma: &mut Dma8237) {
        let select = at(command, 1) & 7;
        let drive = usize::from(select & 3);
        let mut place = Place { cylinder: self.state.heads[drive].cylinder, head: 0, sector: 1, size: 2 };
        let Some(geometry) = self.geometry(drive) else {
            return self.conclude(select, Some(st1::MISSING_ADDRESS), place);
        };
        if self.is_protected(drive) {
            return self.conclude(select, Some(st1::NOT_WRITABLE), place);
        }
        for _ in 0..at(command, 3) {
            let mut id = [0; 4];
            let (moved, end) = dma.transfer(DMA_CHANNEL, false, &mut id, &self.memory);
            if moved < 4 {
                return self.conclude(select, Some(st1::OVERRUN), place);
            }
            place = Place { cylinder: id[0], head: id[1], sector: id[2], size: id[3] };
            let offset = geometry.offset(self.state.heads[drive].cylinder, select >> 2 & 1, place.sector);
            let mut filler = [at(command, 5); SECTOR];
            if !offset.is_some_and(|offset| self.access(drive, offset, true, &mut filler)) {
                return self.conclude(select, Some(st1::NO_DATA), place);
            }
            if end {
                break;
            }
        }
        self.conclude(select, None, place);
    }
}
