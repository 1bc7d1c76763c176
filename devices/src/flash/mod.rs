//! A byte-wide NOR flash chip with Intel's command set, in which firmware and its variables live below 4 GiB.
//! (Intel StrataFlash 28F128J3 data sheet; JEDEC JESD68.01 and JEP137 for the query table.)
//!
//! While the chip gives its array it is plain memory to the processor: the board maps it as ROM, and only writes come here.
//! After a command other than Read Array every read comes here too, and gives status, identification or the query table.
//! Programming and erasing are done at once and the chip never reports that it is busy: no firmware minds, and no state is
//! in flight. Contents go to the file behind the chip as they are written; [`Flash::flush`] makes them durable.
//!
//! Deviation: Clear Status Register leaves 00h, not 80h, until the next operation. Firmware for virtual machines tells
//! flash from ROM and RAM by that.

mod command;
mod query;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Deserialize, Serialize};

use crate::block::Disk;
use command::Mode;

/// Bytes that are erased at once on this board.
pub const SECTOR: u64 = 4096;
/// Most chips that a board has: code, and variables below it.
pub const UNITS: usize = 2;

/// The chip's array, where the board keeps it.
pub trait FlashArray: Send + Sync {
    /// Fills `bytes` from `offset`.
    fn read(&self, offset: u64, bytes: &mut [u8]);
    /// Writes `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]);
}

/// Bits of the status register.
mod status {
    pub const LOCKED: u8 = 1 << 1;
    pub const PROGRAM_ERROR: u8 = 1 << 4;
    pub const ERASE_ERROR: u8 = 1 << 5;
    pub const READY: u8 = 1 << 7;
}

/// Registers of a chip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashState {
    mode: Mode,
    status: u8,
}

/// A chip.
pub struct Flash {
    len: u64,
    sector: u64,
    array: Box<dyn FlashArray>,
    file: Disk,
    state: FlashState,
}

impl Flash {
    /// A chip with the contents of `file`, which are copied into `array`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn new(mut file: Disk, array: Box<dyn FlashArray>, sector: u64) -> io::Result<Self> {
        let len = file.len();
        let mut chunk = vec![0; SECTOR as usize];
        for offset in (0..len).step_by(chunk.len()) {
            let n = (len - offset).min(SECTOR) as usize;
            file.read(offset, &mut chunk[..n])?;
            array.write(offset, &chunk[..n]);
        }
        let mut flash = Self { len, sector, array, file, state: FlashState::default() };
        flash.reset();
        Ok(flash)
    }

    /// Reset: the array is read, and the chip is ready.
    pub fn reset(&mut self) {
        self.state = FlashState { mode: Mode::Array, status: status::READY };
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Has it no bytes at all?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Does a read give the array?
    pub fn reads_array(&self) -> bool {
        self.state.mode == Mode::Array
    }

    /// Returns when the file has what was written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// A read of `size` bytes, cycle by cycle.
    pub fn read(&mut self, offset: u64, size: u8) -> u64 {
        (0..u64::from(size)).fold(0, |value, n| value | u64::from(self.read_byte(offset + n)) << (8 * n))
    }

    /// A write of `size` bytes, cycle by cycle.
    pub fn write(&mut self, offset: u64, size: u8, value: u64) {
        for n in 0..u64::from(size) {
            if offset + n < self.len {
                self.write_byte(offset + n, (value >> (8 * n)) as u8);
            }
        }
    }

    fn read_byte(&self, offset: u64) -> u8 {
        match self.state.mode {
            Mode::Array => {
                let mut byte = [0xff];
                if offset < self.len {
                    self.array.read(offset, &mut byte);
                }
                byte[0]
            }
            Mode::Identifier => query::identifier(offset % self.sector),
            Mode::Query => query::byte(offset, self.len, self.sector),
            _ => self.state.status,
        }
    }

    /// Programs `bytes` at `offset`: bits go from 1 to 0 only.
    fn program(&mut self, offset: u64, bytes: &[u8]) {
        let mut after = vec![0; bytes.len()];
        self.array.read(offset, &mut after);
        after.iter_mut().zip(bytes).for_each(|(byte, new)| *byte &= new);
        self.store(offset, &after, status::PROGRAM_ERROR);
    }

    fn erase(&mut self, offset: u64) {
        let start = offset - offset % self.sector;
        let ones = vec![0xff; self.sector.min(self.len - start) as usize];
        self.store(start, &ones, status::ERASE_ERROR);
    }

    /// Puts new contents into array and file, or sets `error`.
    fn store(&mut self, offset: u64, bytes: &[u8], error: u8) {
        self.state.status |= status::READY;
        if self.file.read_only() {
            self.state.status |= error | status::LOCKED;
            return;
        }
        match self.file.write(offset, bytes) {
            Ok(()) => self.array.write(offset, bytes),
            Err(problem) => {
                tracing::warn!(%problem, "flash: the file cannot be written, so that the guest's write fails");
                self.state.status |= error;
            }
        }
    }

    /// Registers; the board saves the array.
    pub fn save(&self) -> FlashState {
        let Self { len: _, sector: _, array: _, file: _, state } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: FlashState) {
        self.state = FlashState { mode: state.mode.sanitised(self.len), status: state.status };
    }
}
