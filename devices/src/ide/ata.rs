//! The commands of a hard disk (ATA/ATAPI-6, chapter 8).

use super::bus_master::Carrier;
use serde::{Deserialize, Serialize};

use super::drive::{BUFFER, COMMAND_LATENCY, Drive, NS_PER_BYTE, QueueError, SECTOR, Work, error, status};
use super::identify;
use crate::Ns;
use crate::memory::Dma;

/// LBA in the device register.
const LBA: u8 = 0x40;
/// Largest block of READ MULTIPLE.
pub(super) const MAX_MULTIPLE: u8 = 128;

/// A queued command (NCQ).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    /// By which the host tells it from others, 0 to 31.
    pub tag: u8,
    pub lba: u64,
    pub sectors: u32,
    pub write: bool,
    /// Forced unit access.
    pub sync: bool,
}

impl Queued {
    /// Is it one that a command can be?
    pub fn is_sane(&self) -> bool {
        self.tag < 32 && self.lba < 1 << 48 && (1..=0x1_0000).contains(&self.sectors)
    }

    /// How long it takes.
    pub fn duration(&self) -> Ns {
        u64::from(self.sectors) * SECTOR as u64 * NS_PER_BYTE
    }
}

impl Drive {
    /// The first sector and the number of sectors that the registers name.
    fn address(&self, long: bool) -> Option<(u64, u32)> {
        let s = &self.state;
        let byte = |value: u8, shift: u32| u64::from(value) << shift;
        let count = match (long, s.count) {
            (true, [0, 0]) => 0x1_0000,
            (true, [low, high]) => u32::from(high) << 8 | u32::from(low),
            (false, [0, _]) => 256,
            (false, [low, _]) => low.into(),
        };
        let low = byte(s.lba_low[0], 0) | byte(s.lba_mid[0], 8) | byte(s.lba_high[0], 16);
        let lba = if long {
            low | byte(s.lba_low[1], 24) | byte(s.lba_mid[1], 32) | byte(s.lba_high[1], 40)
        } else if s.device & LBA != 0 {
            low | byte(s.device & 0xf, 24)
        } else {
            // Cylinder, head, sector; sectors count from 1.
            let (heads, sectors) = (u64::from(s.geometry.0), u64::from(s.geometry.1));
            let cylinder = low >> 8;
            let sector = u64::from(s.lba_low[0]).checked_sub(1)?;
            (cylinder * heads + u64::from(s.device & 0xf)) * sectors + sector
        };
        (lba.checked_add(count.into())? <= self.sectors()).then_some((lba, count))
    }

    /// Leaves `lba` in the registers.
    fn set_address(&mut self, lba: u64, long: bool) {
        let bytes = lba.to_le_bytes();
        let s = &mut self.state;
        (s.lba_low[0], s.lba_mid[0], s.lba_high[0]) = (bytes[0], bytes[1], bytes[2]);
        if long {
            (s.lba_low[1], s.lba_mid[1], s.lba_high[1]) = (bytes[3], bytes[4], bytes[5]);
        } else {
            s.device = s.device & 0xf0 | bytes[3] & 0xf;
        }
    }

    pub(super) fn ata_command(&mut self, command: u8, now: Ns) {
        match command {
            0x20 | 0x21 => self.read_pio(false, 1, now),
            0x24 => self.read_pio(true, 1, now),
            0xc4 => self.read_pio(false, self.state.multiple, now),
            0x29 => self.read_pio(true, self.state.multiple, now),
            0x30 | 0x31 => self.write_pio(false, 1),
            0x34 => self.write_pio(true, 1),
            0xc5 => self.write_pio(false, self.state.multiple),
            0x39 | 0xce => self.write_pio(true, self.state.multiple),
            0xc8 | 0xc9 => self.transfer(false, false, false),
            0x25 => self.transfer(true, false, false),
            0xca | 0xcb => self.transfer(false, true, false),
            0x35 => self.transfer(true, true, false),
            0x3d => self.transfer(true, true, true),
            0x40 | 0x41 => self.verify(false, now),
            0x42 => self.verify(true, now),
            0x06 if self.state.features[0] & 1 != 0 => {
                let sectors = u32::from(self.state.count[0]).max(1);
                self.wait_for_bus_master(Work::Trim { sectors });
            }
            0xe7 | 0xea => self.busy(Work::Flush, now, 10 * COMMAND_LATENCY),
            0xec => {
                self.state.buffer = identify::disk(self);
                (self.state.pos, self.state.end) = (0, SECTOR);
                self.busy(Work::ReadSectors { lba: 0, left: 0, block: 1 }, now, COMMAND_LATENCY);
            }
            0xf8 => {
                self.set_address(self.sectors().min(1 << 28).saturating_sub(1), false);
                self.finish_soon(now);
            }
            0x27 => {
                self.set_address(self.sectors().saturating_sub(1), true);
                self.finish_soon(now);
            }
            0xc6 => {
                let count = self.state.count[0];
                if count == 0 || count <= MAX_MULTIPLE && count.is_power_of_two() {
                    self.state.multiple = count;
                    self.finish_soon(now);
                } else {
                    self.fail(error::ABRT);
                }
            }
            0xef => self.set_features(now),
            0x2f => self.read_log(now),
            0x91 => {
                // INITIALIZE DEVICE PARAMETERS.
                let (heads, sectors) = ((self.state.device & 0xf) + 1, self.state.count[0]);
                if sectors == 0 {
                    return self.fail(error::ABRT);
                }
                self.state.geometry = (heads, sectors);
                self.finish_soon(now);
            }
            0xe5 | 0x98 => {
                // CHECK POWER MODE: active or idle.
                self.state.count[0] = 0xff;
                self.finish_soon(now);
            }
            0x10..=0x1f | 0x70..=0x7f | 0xe0..=0xe3 | 0xe6 | 0x94..=0x97 | 0x99 => self.finish_soon(now),
            // A packet drive would answer; IDENTIFY PACKET DEVICE and all that is not there are aborted.
            _ => self.fail(error::ABRT),
        }
    }

    fn finish_soon(&mut self, now: Ns) {
        self.busy(Work::Finish, now, COMMAND_LATENCY / 4);
    }

    fn read_pio(&mut self, long: bool, block: u8, now: Ns) {
        match self.address(long) {
            _ if block == 0 => self.fail(error::ABRT),
            None => self.fail(error::IDNF),
            Some((lba, left)) => {
                self.state.buffer.clear();
                let first = u64::from(left.min(block.into())) * SECTOR as u64;
                let delay = COMMAND_LATENCY + first * NS_PER_BYTE;
                self.busy(Work::ReadSectors { lba, left, block }, now, delay);
            }
        }
    }

    fn write_pio(&mut self, long: bool, block: u8) {
        let read_only = self.medium.as_ref().is_none_or(|medium| medium.read_only());
        match self.address(long) {
            _ if block == 0 || read_only => self.fail(error::ABRT),
            None => self.fail(error::IDNF),
            Some((lba, left)) => {
                let first = left.min(block.into()).min((BUFFER / SECTOR) as u32);
                // No interrupt asks for the first block.
                self.request(
                    first as usize * SECTOR,
                    Work::WriteSectors { lba, left: left - first, block },
                    false,
                );
            }
        }
    }

    fn transfer(&mut self, long: bool, write: bool, sync: bool) {
        let read_only = self.medium.as_ref().is_none_or(|medium| medium.read_only());
        match self.address(long) {
            _ if write && read_only => self.fail(error::ABRT),
            None => self.fail(error::IDNF),
            Some((lba, sectors)) => self.wait_for_bus_master(Work::Transfer { lba, sectors, write, sync }),
        }
    }

    fn verify(&mut self, long: bool, now: Ns) {
        match self.address(long) {
            None => self.fail(error::IDNF),
            Some((_, count)) => {
                let bytes = u64::from(count) * SECTOR as u64;
                self.busy(Work::Finish, now, COMMAND_LATENCY + bytes * NS_PER_BYTE);
            }
        }
    }

    fn set_features(&mut self, now: Ns) {
        let s = &mut self.state;
        match (s.features[0], s.count[0]) {
            (0x02, _) => s.write_cache = true,
            (0x82, _) => s.write_cache = false,
            (0xaa, _) => s.read_ahead = true,
            (0x55, _) => s.read_ahead = false,
            // Transfer modes: default PIO, PIO 0 to 4, multiword DMA 0 to 2, Ultra DMA 0 to 5.
            (0x03, mode @ (0x00..=0x01 | 0x08..=0x0c | 0x20..=0x22 | 0x40..=0x45)) => s.transfer_mode = mode,
            (0x05 | 0x85 | 0x42 | 0xc2 | 0x66 | 0xcc | 0x67, _) => {}
            _ => return self.fail(error::ABRT),
        }
        self.finish_soon(now);
    }

    /// What a command does once its time has come.
    pub(super) fn ata_work(&mut self, work: Work, now: Ns, bus_master: &mut dyn Carrier, dma: &Dma) {
        match work {
            Work::Finish => self.finish(),
            Work::ReadSectors { left: 0, .. } => self.offer(None),
            Work::ReadSectors { lba, left, block } => self.load_sectors(lba, left, block),
            Work::WriteSectors { lba, left, block } => self.store_sectors(lba, left, block),
            Work::Transfer { lba, sectors, write, sync } => {
                self.move_sectors(lba, sectors, write, sync, bus_master, dma);
            }
            Work::Flush => match self.flush_medium() {
                true => self.finish(),
                false => self.fail(error::ABRT),
            },
            Work::Trim { sectors } => self.trim(sectors, bus_master, dma),
            Work::Packet { .. } | Work::Reply { .. } => self.fail(error::ABRT),
        }
        let _ = now;
    }

    fn load_sectors(&mut self, lba: u64, left: u32, block: u8) {
        let n = left.min(block.into()).clamp(1, (BUFFER / SECTOR) as u32);
        let mut buffer = std::mem::take(&mut self.state.buffer);
        buffer.clear();
        buffer.resize(n as usize * SECTOR, 0);
        let good = self.read_medium(lba.saturating_mul(SECTOR as u64), &mut buffer);
        (self.state.pos, self.state.end) = (0, buffer.len());
        self.state.buffer = buffer;
        if !good {
            self.set_address(lba, false);
            return self.fail(error::UNC);
        }
        let left = left.saturating_sub(n);
        let next = Work::ReadSectors { lba: lba.saturating_add(n.into()), left, block };
        self.offer((left > 0).then_some(next));
    }

    fn store_sectors(&mut self, lba: u64, left: u32, block: u8) {
        let buffer = std::mem::take(&mut self.state.buffer);
        let mut good = self.write_medium(lba.saturating_mul(SECTOR as u64), &buffer);
        let written = (buffer.len() / SECTOR) as u64;
        self.state.buffer = buffer;
        if good && left == 0 && !self.state.write_cache {
            good = self.flush_medium();
        }
        if !good {
            self.set_address(lba, false);
            return self.fail(error::UNC);
        }
        if left == 0 {
            return self.finish();
        }
        let n = left.min(block.into()).clamp(1, (BUFFER / SECTOR) as u32);
        let then =
            Work::WriteSectors { lba: lba.saturating_add(written), left: left.saturating_sub(n), block };
        self.request(n as usize * SECTOR, then, true);
    }

    fn move_sectors(
        &mut self,
        lba: u64,
        sectors: u32,
        write: bool,
        sync: bool,
        bus_master: &mut dyn Carrier,
        dma: &Dma,
    ) {
        match self.carry_sectors(lba, sectors, write, sync, bus_master, dma) {
            None => {}
            Some(Ok(())) => self.finish(),
            Some(Err(error)) => self.fail(error),
        }
    }

    /// Moves sectors between medium and memory; `None`: the carrier has no room left, and the drive waits. The error is what
    /// the error register is to say.
    fn carry_sectors(
        &mut self,
        lba: u64,
        sectors: u32,
        write: bool,
        sync: bool,
        carrier: &mut dyn Carrier,
        dma: &Dma,
    ) -> Option<Result<(), u8>> {
        let from = lba.saturating_mul(SECTOR as u64);
        let len = sectors.min(0x1_0000) as usize * SECTOR;
        let mut each = |drive: &mut Self, done: usize, piece: &mut [u8]| {
            let at = from.saturating_add(done as u64);
            if write { drive.write_medium(at, piece) } else { drive.read_medium(at, piece) }
        };
        if !self.through_bus_master(len, !write, carrier, dma, &mut each)? {
            return Some(Err(error::ABRT));
        }
        let flush = write && (sync || !self.state.write_cache);
        Some(if flush && !self.flush_medium() { Err(error::UNC) } else { Ok(()) })
    }

    /// Is `command` READ or WRITE FPDMA QUEUED? Then what the registers name: whether it writes, its tag, the first sector and
    /// their number, and whether it is to be on the medium at its end.
    pub(crate) fn queued_command(&self, command: u8) -> Option<Queued> {
        let s = &self.state;
        if !self.sata || self.is_cd() || !matches!(command, 0x60 | 0x61) {
            return None;
        }
        let sectors = match u32::from(u16::from_le_bytes(s.features)) {
            0 => 0x1_0000,
            sectors => sectors,
        };
        let [low, mid, high] = [s.lba_low, s.lba_mid, s.lba_high];
        let lba = u64::from_le_bytes([low[0], mid[0], high[0], low[1], mid[1], high[1], 0, 0]);
        Some(Queued {
            tag: s.count[0] >> 3,
            lba,
            sectors,
            write: command == 0x61,
            sync: s.device & 0x80 != 0,
        })
    }

    /// Takes a queued command: it is ready for the next one at once.
    pub(crate) fn accept_queued(&mut self) {
        let s = &mut self.state;
        (s.status, s.error, s.irq) = (status::DRDY | status::DSC, 0, false);
    }

    /// Carries a queued command out. After an error the drive has dropped its queue.
    pub(crate) fn carry_out_queued(
        &mut self,
        queued: &Queued,
        carrier: &mut dyn Carrier,
        dma: &Dma,
    ) -> Result<(), u8> {
        let Queued { tag, lba, sectors, write, sync } = *queued;
        let beyond = lba + u64::from(sectors) > self.sectors();
        let read_only = self.medium.as_ref().is_none_or(|medium| medium.read_only());
        let result = if beyond {
            Err(error::IDNF)
        } else if write && read_only {
            Err(error::ABRT)
        } else {
            self.carry_sectors(lba, sectors, write, sync, carrier, dma).unwrap_or(Err(error::ABRT))
        };
        let s = &mut self.state;
        (s.status, s.error) = (status::DRDY | status::DSC, 0);
        if let Err(error) = result {
            s.queue_error = Some(QueueError { tag, lba, error });
            (s.status, s.error) = (s.status | status::ERR, error);
        }
        result
    }

    /// READ LOG EXT: the directory, and the log of the queued command that failed last (ATA8-ACS, annex A).
    fn read_log(&mut self, now: Ns) {
        let s = &mut self.state;
        if !self.sata || s.count != [1, 0] || s.lba_mid[0] != 0 {
            return self.fail(error::ABRT);
        }
        let mut page = vec![0; SECTOR];
        match s.lba_low[0] {
            0x00 => {
                page[0] = 1; // version
                page[2 * 0x10] = 1; // pages of log 10h
            }
            0x10 => {
                let none = QueueError { tag: 0x80, lba: 0, error: 0 };
                let QueueError { tag, lba, error } = s.queue_error.take().unwrap_or(none);
                let [a, b, c, d, e, f, ..] = lba.to_le_bytes();
                let status = if tag == 0x80 { 0x50 } else { 0x51 };
                page[..14].copy_from_slice(&[tag, 0, status, error, a, b, c, 0x40, d, e, f, 0, 0, 0]);
                let sum = page.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                page[SECTOR - 1] = sum.wrapping_neg();
            }
            _ => return self.fail(error::ABRT),
        }
        s.buffer = page;
        (s.pos, s.end) = (0, SECTOR);
        self.busy(Work::ReadSectors { lba: 0, left: 0, block: 1 }, now, COMMAND_LATENCY);
    }

    /// DATA SET MANAGEMENT: each entry has 48 bits of address and 16 of length.
    fn trim(&mut self, sectors: u32, bus_master: &mut dyn Carrier, dma: &Dma) {
        let mut list = vec![0; sectors.min(255) as usize * SECTOR];
        let mut each = |_: &mut Self, done: usize, piece: &mut [u8]| {
            list[done..done + piece.len()].copy_from_slice(piece);
            true
        };
        let len = sectors.min(255) as usize * SECTOR;
        match self.through_bus_master(len, false, bus_master, dma, &mut each) {
            None => return,
            Some(false) => return self.fail(error::ABRT),
            Some(true) => {}
        }
        for entry in list.chunks_exact(8) {
            let entry = u64::from_le_bytes(entry.try_into().unwrap_or_default());
            let (lba, count) = (entry & 0xffff_ffff_ffff, entry >> 48);
            if count == 0 {
                continue;
            }
            if lba + count > self.sectors() {
                return self.fail(error::IDNF);
            }
            if let Some(medium) = self.medium.as_mut().filter(|medium| !medium.read_only())
                && let Err(problem) = medium.discard(lba * SECTOR as u64, count * SECTOR as u64)
            {
                tracing::debug!("discard at sector {lba}: {problem}");
            }
        }
        self.finish();
    }
}
