//! Guest memory as devices that master the bus reach it.
//!
//! The board hands each of them a [`Dma`]; who owns the memory is not their business. An address where nothing answers
//! is the guest's mistake, not ours: reads give all ones there, writes are lost, and the caller is told.

use std::sync::Arc;

/// Memory on the bus.
pub trait GuestMemory: Send + Sync {
    /// Fills `bytes` from physical address `at`; false if a part of the range is not memory.
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool;
    /// Writes `bytes` there; false if a part of the range is not memory that can be written.
    fn write(&self, at: u64, bytes: &[u8]) -> bool;
}

/// No memory at all: for a board that is tested without any.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMemory;

impl GuestMemory for NoMemory {
    fn read(&self, _at: u64, bytes: &mut [u8]) -> bool {
        bytes.fill(0xff);
        false
    }
    fn write(&self, _at: u64, _bytes: &[u8]) -> bool {
        false
    }
}

/// A device's way to guest memory.
#[derive(Clone)]
pub struct Dma(Arc<dyn GuestMemory>);

impl std::fmt::Debug for Dma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dma")
    }
}

impl Default for Dma {
    fn default() -> Self {
        Self(Arc::new(NoMemory))
    }
}

impl Dma {
    /// A way to `memory`.
    pub fn new(memory: Arc<dyn GuestMemory>) -> Self {
        Self(memory)
    }
    /// See [`GuestMemory::read`].
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        self.0.read(at, bytes)
    }
    /// See [`GuestMemory::write`].
    pub fn write(&self, at: u64, bytes: &[u8]) -> bool {
        self.0.write(at, bytes)
    }
}

/// A few pages of memory for tests.
#[cfg(test)]
pub(crate) mod test_memory {
    use std::sync::Mutex;

    use super::*;

    /// Memory from address 0 on.
    pub(crate) struct Flat(pub Mutex<Vec<u8>>);

    impl Flat {
        pub(crate) fn new(len: usize) -> Arc<Self> {
            Arc::new(Self(Mutex::new(vec![0; len])))
        }
        pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
            self.0.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
        }
        pub(crate) fn get(&self, at: usize, len: usize) -> Vec<u8> {
            self.0.lock().unwrap()[at..at + len].to_vec()
        }
    }

    impl GuestMemory for Flat {
        fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
            let memory = self.0.lock().unwrap();
            let range = usize::try_from(at).ok().and_then(|at| memory.get(at..at.checked_add(bytes.len())?));
            match range {
                Some(found) => bytes.copy_from_slice(found),
                None => bytes.fill(0xff),
            }
            range.is_some()
        }
        fn write(&self, at: u64, bytes: &[u8]) -> bool {
            let mut memory = self.0.lock().unwrap();
            let range =
                usize::try_from(at).ok().and_then(|at| memory.get_mut(at..at.checked_add(bytes.len())?));
            let Some(place) = range else { return false };
            place.copy_from_slice(bytes);
            true
        }
    }
}
