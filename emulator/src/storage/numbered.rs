//! `serial=`: a disk that tells guests the number that the user gave it.

use std::io;

use devices::block::{BlockBackend, Disk};

/// See the module.
pub(super) struct Numbered {
    pub disk: Disk,
    pub serial: String,
}

impl BlockBackend for Numbered {
    fn len(&self) -> u64 {
        self.disk.len()
    }
    fn read_only(&self) -> bool {
        self.disk.read_only()
    }
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, bytes)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(offset, bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.discard(offset, len)
    }
    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.disk.write_zeroes(offset, len, unmap)
    }
    fn serial(&self) -> Option<&str> {
        Some(&self.serial)
    }
}
