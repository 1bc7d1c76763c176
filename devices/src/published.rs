//! A few words that one thread changes and any number of others look at, without a lock or a shared write: a sequence lock.
//!
//! Requirement: what a device's sample derives from is seen whole, and a clock that is read beside it is read while it held. A
//! counter that one processor stops must not be seen to run on by another one that has looked before and read the clock since.
//!
//! Solution: the writer marks the words as being changed *before* it reads the clock for its change ([`Published::begin`]); a reader
//! looks at the mark before and after. It does not wait: while a change goes on it gets nothing, and does what it would do if there were
//! no samples.
//!
//! Limitation: an out-of-order host may read its clock a few nanoseconds off its place between two loads.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// See the module. Writers take turns by other means: a lock that they hold anyway.
#[derive(Debug)]
pub struct Published<const N: usize> {
    /// Odd: the words are being changed.
    sequence: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Published<N> {
    /// Holds `words`.
    pub fn new(words: [u64; N]) -> Self {
        Self { sequence: AtomicU64::new(0), words: words.map(AtomicU64::new) }
    }

    /// From here on readers get nothing, until [`Published::end`].
    pub fn begin(&self) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence | 1, Ordering::Relaxed);
        // Pairs with the fence of a reader: who sees anything that follows sees the mark. SeqCst, so that the clock is read later too.
        fence(Ordering::SeqCst);
    }

    /// What readers get from here on. After [`Published::begin`].
    pub fn end(&self, words: [u64; N]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        debug_assert!(sequence & 1 != 0, "a change that was not begun ends");
        self.words.iter().zip(words).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        // Pairs with the acquiring load of a reader.
        self.sequence.store((sequence | 1).wrapping_add(1), Ordering::Release);
    }

    /// The words, and what `look` gives at a time at which they held; `None`: they are being changed.
    #[inline]
    pub fn read<R>(&self, look: impl FnOnce() -> R) -> Option<([u64; N], R)> {
        let before = self.sequence.load(Ordering::Acquire);
        if before & 1 != 0 {
            return None;
        }
        let words = std::array::from_fn(|n| self.words[n].load(Ordering::Relaxed));
        let seen = look();
        // Pairs with the fence of `begin`.
        fence(Ordering::Acquire);
        (self.sequence.load(Ordering::Relaxed) == before).then_some((words, seen))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn readers_get_nothing_during_a_change() {
        let published = Published::new([1, 2]);
        assert_eq!(published.read(|| 3), Some(([1, 2], 3)));
        published.begin();
        assert_eq!(published.read(|| ()), None);
        published.end([4, 5]);
        assert_eq!(published.read(|| ()), Some(([4, 5], ())));
        // A change that comes between two looks is one.
        let torn = published.read(|| {
            published.begin();
            published.end([4, 5]);
        });
        assert_eq!(torn, None);
    }
}
