//! Requests of any length in pieces: no controller holds a whole request in memory, and none has to say what went wrong twice.

use std::io;

use super::Disk;

/// Bytes of a sector as controllers count them.
pub const SECTOR: u64 = 512;
/// Most that is moved at once.
const PIECE: usize = 256 << 10;

/// How much one request of a guest may ask of the host.
pub struct Limits;

impl Limits {
    /// Bytes to discard.
    pub const DISCARD: u64 = 1 << 30;
    /// Bytes to write zeros to.
    pub const ZEROES: u64 = 32 << 20;
}

/// A disk during one request. What fails is logged; the caller tells the guest.
pub struct Mover<'a> {
    disk: &'a mut Disk,
}

fn noted(result: io::Result<()>, what: &str, at: u64) -> bool {
    if let Err(error) = &result {
        tracing::warn!("disk: {what} at {at:#x} failed: {error}");
    }
    result.is_ok()
}

impl<'a> Mover<'a> {
    /// A request begins.
    pub fn new(disk: &'a mut Disk) -> Self {
        Self { disk }
    }

    /// Calls `each(offset into the request, piece)` for pieces of `len` bytes; false if one of them says so.
    fn pieces(len: u64, mut each: impl FnMut(u64, &mut [u8]) -> bool) -> bool {
        let mut buffer = vec![0; len.min(PIECE as u64) as usize];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(PIECE as u64) as usize;
            if !each(done, &mut buffer[..n]) {
                return false;
            }
            done += n as u64;
        }
        true
    }

    /// Reads `len` bytes at `at` and hands them to `to`.
    pub fn read(&mut self, at: u64, len: u64, mut to: impl FnMut(u64, &[u8]) -> bool) -> bool {
        Self::pieces(len, |offset, piece| {
            noted(self.disk.read(at + offset, piece), "read", at + offset) && to(offset, piece)
        })
    }

    /// Writes `len` bytes at `at` which it gets from `from`.
    pub fn write(&mut self, at: u64, len: u64, mut from: impl FnMut(u64, &mut [u8]) -> bool) -> bool {
        Self::pieces(len, |offset, piece| {
            from(offset, piece) && noted(self.disk.write(at + offset, piece), "write", at + offset)
        })
    }

    /// See [`super::BlockBackend::flush`].
    pub fn flush(&mut self) -> bool {
        noted(self.disk.flush(), "flush", 0)
    }

    /// See [`super::BlockBackend::discard`]: a hint, whose failure is no failure of the request.
    pub fn discard(&mut self, at: u64, len: u64) -> bool {
        noted(self.disk.discard(at, len), "discard", at);
        true
    }

    /// See [`super::BlockBackend::write_zeroes`].
    pub fn write_zeroes(&mut self, at: u64, len: u64, unmap: bool) -> bool {
        noted(self.disk.write_zeroes(at, len, unmap), "writing zeros", at)
    }
}
