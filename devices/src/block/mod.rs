//! The seam between disk controllers and whatever holds a disk's contents.
//!
//! A backend answers at once: what it takes the host is not virtual time. A controller performs the access when the
//! modelled latency has passed, so that no host I/O is ever in flight when the machine's state is looked at.
//! Invariants: a write that a later `flush` has followed survives the death of the process; no request, however large
//! or far outside, panics.

mod mover;
mod ram;

use std::io;

pub use mover::{Limits, Mover, SECTOR};
pub use ram::RamDisk;

/// What holds the contents of a disk, CD or floppy.
pub trait BlockBackend: Send {
    /// Its size in bytes.
    fn len(&self) -> u64;
    /// Has it no bytes at all?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Are writes refused?
    fn read_only(&self) -> bool;
    /// Reads all of `bytes` at `offset`; what lies beyond the end reads as zeros.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what was written before is where nothing but the host's own death can lose it.
    fn flush(&mut self) -> io::Result<()>;
    /// The contents of this range are not needed any more; they may read as zeros from now on.
    fn discard(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// This range reads as zeros from now on; with `unmap` its place may be given back.
    fn write_zeroes(&mut self, offset: u64, len: u64, _unmap: bool) -> io::Result<()> {
        let zeros = [0; 0x1_0000];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(zeros.len() as u64);
            self.write(offset.saturating_add(done), &zeros[..n as usize])?;
            done += n;
        }
        Ok(())
    }
    /// What guests are told as the serial number.
    fn serial(&self) -> Option<&str> {
        None
    }
}

/// A backend in a box: how controllers hold it.
pub type Disk = Box<dyn BlockBackend>;
