//! A disk in memory: for tests, and for contents that the emulator makes itself.

use std::io;
use std::sync::{Arc, Mutex};

use super::BlockBackend;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct RamDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    read_only: bool,
    flushes: Arc<Mutex<u32>>,
}

impl RamDisk {
    /// A disk with these contents.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(Mutex::new(bytes)), ..Self::default() }
    }
    /// The same, but nobody may write to it.
    pub fn read_only(bytes: Vec<u8>) -> Self {
        Self { read_only: true, ..Self::new(bytes) }
    }
    /// The contents now.
    pub fn contents(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
    /// How often it was flushed.
    pub fn flushes(&self) -> u32 {
        *self.flushes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl BlockBackend for RamDisk {
    fn len(&self) -> u64 {
        self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len() as u64
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let contents = self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.len());
        let n = bytes.len().min(contents.len() - from);
        bytes[..n].copy_from_slice(&contents[from..from + n]);
        bytes[n..].fill(0);
        Ok(())
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let mut contents = self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = usize::try_from(offset).ok();
        let range = at.and_then(|at| contents.get_mut(at..at.checked_add(bytes.len())?));
        range.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        *self.flushes.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
        Ok(())
    }
}
