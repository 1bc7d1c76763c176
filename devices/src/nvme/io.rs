//! Commands of the NVM command set (6).

use super::admin::{ALL_NAMESPACES, NAMESPACE};
use super::command::{Command, Outcome, Status};
use super::prp::Regions;
use super::{LATENCY, MDTS, NS_PER_BYTE, Nvme};
use crate::Ns;
use crate::block::{Mover, SECTOR};

mod opcode {
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const COMPARE: u8 = 0x05;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}
const MAX_TRANSFER: u64 = 0x1000 << MDTS;
/// In WRITE ZEROES: the blocks may be deallocated.
const DEALLOCATE_ZEROES: u32 = 1 << 25;
/// In DATASET MANAGEMENT.
const DEALLOCATE: u32 = 4;
const RANGE: usize = 16;

/// How long a command takes.
pub(super) fn time(command: &Command) -> Ns {
    match command.opcode() {
        opcode::FLUSH => 10 * LATENCY,
        opcode::WRITE | opcode::READ | opcode::COMPARE => {
            (command.blocks() * SECTOR).min(MAX_TRANSFER) * NS_PER_BYTE
        }
        _ => LATENCY,
    }
}

impl Nvme {
    pub(super) fn io(&mut self, command: &Command) -> Outcome {
        match (command.opcode(), command.namespace()) {
            (opcode::FLUSH, NAMESPACE | ALL_NAMESPACES) => self.flush_disk().map(Some),
            (_, namespace) if namespace != NAMESPACE => Err(Status::INVALID_NAMESPACE),
            (opcode::WRITE, _) => self.write(command).map(Some),
            (opcode::READ, _) => self.read(command).map(Some),
            (opcode::COMPARE, _) => self.compare(command).map(Some),
            (opcode::WRITE_ZEROES, _) => self.write_zeroes(command).map(Some),
            (opcode::DATASET_MANAGEMENT, _) => self.dataset_management(command).map(Some),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    fn sectors(&self) -> u64 {
        self.disk.len() / SECTOR
    }

    /// Where on the disk the command's blocks are: offset and length in bytes.
    fn blocks(&self, command: &Command) -> Result<(u64, u64), Status> {
        let (lba, blocks) = (command.lba(), command.blocks());
        match lba.checked_add(blocks) {
            Some(end) if end <= self.sectors() => Ok((lba * SECTOR, blocks * SECTOR)),
            _ => Err(Status::LBA_RANGE),
        }
    }

    /// The same for a command that transfers them, with its memory.
    fn transfer(&self, command: &Command) -> Result<(u64, u64, Regions), Status> {
        if command.blocks() * SECTOR > MAX_TRANSFER {
            return Err(Status::INVALID_FIELD);
        }
        let (at, len) = self.blocks(command)?;
        let page = self.state.registers.page();
        Ok((at, len, Regions::new(&self.dma, command.prps(), len as usize, page)?))
    }

    fn flush_disk(&mut self) -> Result<u32, Status> {
        if self.disk.read_only() || Mover::new(&mut self.disk).flush() {
            Ok(0)
        } else {
            Err(Status::WRITE_FAULT)
        }
    }

    /// What was written is flushed if the command or the absence of a cache wants that.
    fn written(&mut self, command: &Command) -> Result<u32, Status> {
        if command.force_unit_access() || !self.state.features.write_cache() {
            return self.flush_disk();
        }
        Ok(0)
    }

    fn may_write(&self) -> Result<(), Status> {
        if self.disk.read_only() { Err(Status::READ_ONLY) } else { Ok(()) }
    }

    fn write(&mut self, command: &Command) -> Result<u32, Status> {
        self.may_write()?;
        let (at, len, memory) = self.transfer(command)?;
        let (dma, mut answered) = (&self.dma, true);
        let done = Mover::new(&mut self.disk).write(at, len, |offset, piece| {
            answered &= memory.read(dma, offset as usize, piece);
            answered
        });
        match (done, answered) {
            (true, _) => self.written(command),
            (false, true) => Err(Status::WRITE_FAULT),
            (false, false) => Err(Status::DATA_TRANSFER_ERROR),
        }
    }

    fn read(&mut self, command: &Command) -> Result<u32, Status> {
        let (at, len, memory) = self.transfer(command)?;
        let (dma, mut answered) = (&self.dma, true);
        let done = Mover::new(&mut self.disk).read(at, len, |offset, piece| {
            answered &= memory.write(dma, offset as usize, piece);
            answered
        });
        match (done, answered) {
            (true, _) => Ok(0),
            (false, true) => Err(Status::READ_ERROR),
            (false, false) => Err(Status::DATA_TRANSFER_ERROR),
        }
    }

    fn compare(&mut self, command: &Command) -> Result<u32, Status> {
        let (at, len, memory) = self.transfer(command)?;
        let (dma, mut answered, mut equal) = (&self.dma, true, true);
        let done = Mover::new(&mut self.disk).read(at, len, |offset, piece| {
            let mut expected = vec![0; piece.len()];
            answered &= memory.read(dma, offset as usize, &mut expected);
            equal &= expected == piece;
            answered && equal
        });
        match (done, answered, equal) {
            (true, ..) => Ok(0),
            (_, false, _) => Err(Status::DATA_TRANSFER_ERROR),
            (_, _, false) => Err(Status::COMPARE),
            _ => Err(Status::READ_ERROR),
        }
    }

    fn write_zeroes(&mut self, command: &Command) -> Result<u32, Status> {
        self.may_write()?;
        let (at, len) = self.blocks(command)?;
        let unmap = command.word(12) & DEALLOCATE_ZEROES != 0;
        if !Mover::new(&mut self.disk).write_zeroes(at, len, unmap) {
            return Err(Status::WRITE_FAULT);
        }
        self.written(command)
    }

    /// Of its hints one counts: that blocks are not needed. Together no more than the disk is looked at.
    fn dataset_management(&mut self, command: &Command) -> Result<u32, Status> {
        let count = (command.word(10) as usize & 0xff) + 1;
        let mut list = vec![0; count * RANGE];
        let memory = Regions::new(&self.dma, command.prps(), list.len(), self.state.registers.page())?;
        if !memory.read(&self.dma, 0, &mut list) {
            return Err(Status::DATA_TRANSFER_ERROR);
        }
        if command.word(11) & DEALLOCATE == 0 {
            return Ok(0);
        }
        self.may_write()?;
        let mut left = self.sectors();
        for range in list.chunks_exact(RANGE) {
            let number =
                |bytes: &[u8]| bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            let (blocks, lba) = (number(&range[4..8]), number(&range[8..]));
            if lba.checked_add(blocks).is_none_or(|end| end > self.sectors()) {
                return Err(Status::LBA_RANGE);
            }
            if blocks > left {
                break;
            }
            left -= blocks;
            Mover::new(&mut self.disk).discard(lba * SECTOR, blocks * SECTOR);
        }
        Ok(0)
    }
}
