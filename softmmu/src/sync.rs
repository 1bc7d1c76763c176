//! The atomics of the protocol core: the standard ones, or loom's when its tests run the same code.

#![cfg_attr(not(loom), expect(unsafe_code, reason = "zeroed arrays of atomics"))]

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};

/// Waits a moment in a loop that another thread will end.
pub(crate) fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}

/// Locks; a panic elsewhere while the lock was held does not matter to the data kept behind it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> + '_ {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// `n` zeroed words. The host provides the memory as it is touched.
#[cfg(not(loom))]
pub(crate) fn zeroed_u64(n: usize) -> Box<[AtomicU64]> {
    // SAFETY: all-zero bytes are a valid AtomicU64.
    unsafe { Box::new_zeroed_slice(n).assume_init() }
}

/// `n` zeroed words.
#[cfg(not(loom))]
pub(crate) fn zeroed_u32(n: usize) -> Box<[AtomicU32]> {
    // SAFETY: all-zero bytes are a valid AtomicU32.
    unsafe { Box::new_zeroed_slice(n).assume_init() }
}

#[cfg(loom)]
pub(crate) fn zeroed_u64(n: usize) -> Box<[AtomicU64]> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

#[cfg(loom)]
pub(crate) fn zeroed_u32(n: usize) -> Box<[AtomicU32]> {
    (0..n).map(|_| AtomicU32::new(0)).collect()
}
