//! The memory map's generation: lets a reader of an MMIO entry decide without a lock whether it is still true.
//!
//! An update sets the in-progress flag, publishes the new view, waits for the readers of the old one, shoots down the
//! RAM entries that changed, and then moves to the next number and clears the flag. A filler samples the number
//! *before* it looks anything up and stores that sample, so an entry built from the old view never carries the new
//! number. The number has few bits; when it wraps, every MMIO entry is zapped before the number can be reused. It
//! starts just below the wrap so that every run crosses it.

use crate::entry::GENERATION_BITS;
use crate::steps::made;
use crate::sync::{AtomicU32, Ordering};

const IN_PROGRESS: u32 = 1;
const NUMBERS: u32 = 1 << GENERATION_BITS;
const START: u32 = NUMBERS - 2;

/// The published state: number << 1 | in progress.
#[derive(Debug)]
pub struct Generation(AtomicU32);

/// A number as a filler saw it before its look-ups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample(u32);

impl Sample {
    /// What to stamp into an entry; `None` while an update runs: such an entry must not be kept.
    #[inline]
    pub fn number(self) -> Option<u32> {
        (self.0 & IN_PROGRESS == 0).then_some(self.0 >> 1)
    }
}

/// Whether an MMIO entry may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Made from the current view.
    Current,
    /// Made from an older view: zap, retry.
    Stale,
    /// An update is running: zap, wait for it, retry.
    InProgress,
}

impl Default for Generation {
    fn default() -> Self {
        Self(AtomicU32::new(START << 1))
    }
}

impl Generation {
    /// Called before the first look-up of a fill. Pairs with [`Self::finish`].
    #[inline]
    pub fn sample(&self) -> Sample {
        Sample(self.0.load(Ordering::Acquire))
    }

    /// Judges the number found in an entry.
    #[inline]
    pub fn verdict(&self, number: u32) -> Verdict {
        let now = self.0.load(Ordering::SeqCst);
        if now & IN_PROGRESS != 0 {
            Verdict::InProgress
        } else if now >> 1 == number {
            Verdict::Current
        } else {
            Verdict::Stale
        }
    }

    /// Whether an update is running.
    #[inline]
    pub fn in_progress(&self) -> bool {
        self.0.load(Ordering::Acquire) & IN_PROGRESS != 0
    }

    /// Runs one update; the caller serialises updates.
    /// - `publish`: makes the new view visible;
    /// - `grace`: returns when no reader of the old view is left;
    /// - `zap_mmio`: removes every MMIO entry (only called when the number wraps). It comes after the grace period:
    ///   a fill that sampled the last number before the flag was set is over by then, later ones are not kept;
    /// - `shootdown`: removes the RAM entries whose meaning changed, and waits until nobody uses what they gave.
    pub fn update(
        &self,
        publish: impl FnOnce(),
        grace: impl FnOnce(),
        zap_mmio: impl FnOnce(),
        shootdown: impl FnOnce(),
    ) {
        let flag = if made("in-progress flag") { IN_PROGRESS } else { 0 };
        let old = self.0.fetch_or(flag, Ordering::SeqCst);
        assert_eq!(old & IN_PROGRESS, 0, "memory map updates overlap");
        let next = ((old >> 1) + 1) % NUMBERS;
        publish();
        if made("grace period of the old view") {
            grace();
        }
        if next == 0 && made("zap at the wrap") {
            zap_mmio();
        }
        shootdown();
        let next = if made("next generation") { next } else { old >> 1 };
        self.0.store(next << 1, Ordering::SeqCst);
    }
}
