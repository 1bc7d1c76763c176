//! What an image is read through: so many bytes and no more, whatever the image says.

use devices::block::BlockBackend;

/// Bytes that a look at an image may read in all. A GPT has 16 KiB, a folder of a CD some hundred.
const BUDGET: u64 = 16 << 20;
/// Bytes of one read.
const MAX_READ: usize = 1 << 20;

/// A disk's contents, of which a bounded part can be read.
pub struct Source<'a> {
    disk: &'a mut dyn BlockBackend,
    left: u64,
    /// The first error of the host, which is not the image's fault.
    pub error: Option<std::io::Error>,
}

impl<'a> Source<'a> {
    /// Nothing is read yet.
    pub fn new(disk: &'a mut dyn BlockBackend) -> Self {
        Self { disk, left: BUDGET, error: None }
    }

    /// Length of the contents.
    pub fn len(&self) -> u64 {
        self.disk.len()
    }

    /// `len` bytes at `at`. `None`: they are not all there, too many, or cannot be read.
    pub fn read(&mut self, at: u64, len: usize) -> Option<Vec<u8>> {
        let end = at.checked_add(len as u64)?;
        if len > MAX_READ || end > self.len() || self.left < len as u64 {
            return None;
        }
        self.left -= len as u64;
        let mut bytes = vec![0; len];
        match self.disk.read(at, &mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    /// As many of `len` bytes at `at` as there are.
    pub fn read_up_to(&mut self, at: u64, len: usize) -> Vec<u8> {
        let there = self.len().saturating_sub(at).min(len as u64) as usize;
        self.read(at, there).unwrap_or_default()
    }

    /// Everything, if it is at most `limit` bytes: outside the budget.
    pub fn whole(&mut self, limit: u64) -> Option<Vec<u8>> {
        let len = self.len();
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| len <= limit)?];
        match self.disk.read(0, &mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    /// Are these bytes at `at`?
    pub fn has(&mut self, at: u64, magic: &[u8]) -> bool {
        self.read(at, magic.len()).is_some_and(|bytes| bytes == magic)
    }
}

/// A little-endian field of a structure; 0 where the structure is shorter.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    if let Some(part) = bytes.get(at..at + N) {
        value[..N].copy_from_slice(part);
    }
    u64::from_le_bytes(value)
}
