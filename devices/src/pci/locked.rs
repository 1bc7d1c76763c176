//! Functions under locks of their own.
//!
//! Requirement: processors that run at the same time use several functions at once (a disk each, say), and must not stand in line for them,
//! nor for the board, while one of them reads or writes its medium.
//!
//! Solution: a lock for each, and beside it what others ask without it, published as words: what its base address registers decode, whether
//! nothing else decodes that, and when the function is to be advanced. Whoever has used a function under its lock publishes before letting go.
//! A processor finds the function by these words, takes its lock, and looks at them again: they change under that lock only. So an access
//! reaches the function where it was when the access was made, or does not reach it at all and is decoded anew.
//!
//! Whether something else decodes the same is decided by who holds the board ([`super::PciBus::find_alone`]), after each write to
//! configuration space. What moves is not alone until then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::PciFunction;
use crate::Ns;

/// A base address register that decodes nothing; a deadline that does not come.
const NONE: u64 = u64::MAX;

/// What one base address register maps.
#[derive(Debug)]
struct Window {
    io: bool,
    /// 0: there is no such register.
    len: u64,
    /// Its start, or [`NONE`]. Stored under the function's lock.
    start: AtomicU64,
    /// Nothing else decodes any of it. Taken back under the function's lock, given by who holds the board.
    alone: AtomicBool,
}

impl Window {
    fn offset(&self, io: bool, at: u64) -> Option<u64> {
        let start = self.start.load(Ordering::Acquire);
        (self.io == io && start != NONE).then(|| at.wrapping_sub(start)).filter(|offset| *offset < self.len)
    }
}

/// A place that a base address register decodes: (I/O ports or not, start, length).
pub(super) type Decoded = (bool, u64, u64);

/// See the module.
///
/// Lock order: the board, then one function, never a second one, then the interrupt controllers ([`crate::pc::Interrupts`]), then the message
/// port, then one local APIC. A function under its lock drives its pin without a lock, and sends messages to the
/// port only; who has used it carries both on when the lock is free again.
pub struct LockedFunction {
    at: u8,
    /// It acts on its own.
    timed: bool,
    windows: [Window; 6],
    deadline: AtomicU64,
    function: Mutex<Box<dyn PciFunction>>,
}

impl LockedFunction {
    /// `function` at this place of its bus.
    pub(super) fn new(at: u8, function: Box<dyn PciFunction>) -> Self {
        let windows = std::array::from_fn(|bar| {
            let (io, len) = function.config().bar_kind(bar).unwrap_or((false, 0));
            Window { io, len, start: AtomicU64::new(NONE), alone: AtomicBool::new(false) }
        });
        let (timed, deadline) = (function.timed().is_some(), AtomicU64::new(NONE));
        let locked = Self { at, timed, windows, deadline, function: Mutex::new(function) };
        locked.with(|_| ());
        locked
    }

    /// Device and function number.
    pub fn at(&self) -> u8 {
        self.at
    }

    /// Does it act on its own as time passes?
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// Uses the function. No other one may be used meanwhile, nor what comes before it in the lock order.
    pub fn with<R>(&self, f: impl FnOnce(&mut dyn PciFunction) -> R) -> R {
        let mut function = self.function.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(function.as_mut());
        self.publish(function.as_ref());
        result
    }

    fn publish(&self, function: &dyn PciFunction) {
        for (bar, window) in self.windows.iter().enumerate().filter(|(_, window)| window.len > 0) {
            let start = function.config().bar(bar).unwrap_or(NONE);
            if window.start.load(Ordering::Relaxed) != start {
                window.alone.store(false, Ordering::Relaxed);
                // Pairs with the acquiring load of who looks for a function: it does not see the new place and the old `alone`.
                window.start.store(start, Ordering::Release);
            }
        }
        let deadline = function.timed().and_then(|timed| timed.next_deadline()).unwrap_or(NONE);
        if self.deadline.load(Ordering::Relaxed) != deadline {
            // Before the look at how long its thread sleeps; pairs with that thread's last look before it does.
            self.deadline.store(deadline, Ordering::SeqCst);
        }
    }

    /// When the function is to be advanced.
    #[inline]
    pub fn deadline(&self) -> Option<Ns> {
        Some(self.deadline.load(Ordering::SeqCst)).filter(|at| *at != NONE)
    }

    /// Brings a function that acts on its own to the time that `clock` gives once the function is at hand.
    pub fn advance(&self, clock: impl FnOnce() -> Ns) {
        if self.timed {
            self.with(|function| function.timed_mut().map(|timed| timed.advance(clock())));
        }
    }

    /// The base address register that decodes the I/O port (`io`) or physical address `at`, and the offset into what it maps.
    #[inline]
    pub(super) fn decodes(&self, io: bool, at: u64) -> Option<(u8, u64)> {
        (0..).zip(&self.windows).find_map(|(bar, window)| Some((bar, window.offset(io, at)?)))
    }

    /// The same, if nothing else decodes `at`: the function can be reached by [`LockedFunction::access`]. Takes no lock.
    #[inline]
    pub fn decodes_alone(&self, io: bool, at: u64) -> Option<(u8, u64)> {
        let (bar, offset) = self.decodes(io, at)?;
        self.windows[usize::from(bar)].alone.load(Ordering::Acquire).then_some((bar, offset))
    }

    /// Hands the function to `f`, with base address register and offset, if it and nothing else decodes `at`. Takes no other lock.
    pub fn access<R>(
        &self,
        io: bool,
        at: u64,
        f: impl FnOnce(&mut dyn PciFunction, u8, u64) -> R,
    ) -> Option<R> {
        self.with(|function| {
            // It may have moved since it was found. From here on it stays.
            let (bar, offset) = self.decodes_alone(io, at)?;
            Some(f(function, bar, offset))
        })
    }

    /// What its registers decode.
    pub(super) fn decoded(&self) -> impl Iterator<Item = Decoded> {
        self.windows.iter().filter_map(|window| {
            let start = window.start.load(Ordering::Relaxed);
            (window.len > 0 && start != NONE).then_some((window.io, start, window.len))
        })
    }

    /// Says of each place that its registers decode whether nothing else decodes any of it. Called by who holds the board.
    pub(super) fn set_alone(&self, alone: impl Fn(Decoded) -> bool) {
        for window in self.windows.iter().filter(|window| window.len > 0) {
            let start = window.start.load(Ordering::Relaxed);
            let alone = start != NONE && alone((window.io, start, window.len));
            window.alone.store(alone, Ordering::Release);
        }
    }
}
