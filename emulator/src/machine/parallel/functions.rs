//! PCI functions beside the board: each behind a lock of its own, and each that acts on its own on a thread of its own.
//!
//! Requirement: a vCPU that uses one function waits for nobody who uses another one or the board; and while a disk's file is read, written or
//! flushed, neither the board's timers nor other disks stand still.
//!
//! Solution: a vCPU that finds the function alone at an address takes the function's lock only ([`LockedFunction`]). The function's thread
//! sleeps until the function's deadline, and does what is due then: that is where disks are read and written. What pin and messages do is carried
//! on after the function was let go ([`Interrupts::carry`](devices::pc::Interrupts::carry)).
//!
//! Who gives a function a deadline publishes it and then looks how long its thread sleeps; the thread says how long it will sleep and then
//! looks at the deadline. Both orders are sequentially consistent, so that one of the two sees the other.
//!
//! Limitation: who uses a function waits while its own disk is at work; so does an access to its configuration space, with the board.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::sync::{Parker, Unparker};
use devices::pci::LockedFunction;

use super::{Shared, StopsAll};

/// It sleeps until it is woken.
const FOREVER: u64 = u64::MAX;
/// It is at work.
const AWAKE: u64 = 0;

/// A function and its thread.
pub(super) struct Function {
    pub locked: Arc<LockedFunction>,
    /// When its thread looks at it next.
    sleeps_until: AtomicU64,
    unparker: Unparker,
}

impl Function {
    /// Its thread will wait by the parker.
    pub fn new(locked: &Arc<LockedFunction>) -> (Self, Parker) {
        let parker = Parker::new();
        let sleeps_until = AtomicU64::new(if locked.is_timed() { AWAKE } else { FOREVER });
        let unparker = parker.unparker().clone();
        (Self { locked: Arc::clone(locked), sleeps_until, unparker }, parker)
    }

    /// After it may have got a deadline: its thread does not sleep longer than that.
    pub fn wake_in_time(&self) {
        if self.locked.deadline().is_some_and(|at| at < self.sleeps_until.load(Ordering::SeqCst)) {
            self.unparker.unpark();
        }
    }

    /// For whatever reason.
    pub fn wake(&self) {
        self.unparker.unpark();
    }

    /// Is there nothing that it will do, nor does now?
    pub fn sleeps_for_good(&self) -> bool {
        self.sleeps_until.load(Ordering::SeqCst) == FOREVER && self.locked.deadline().is_none()
    }
}

/// What the thread of function `n` does.
pub(super) fn serve(shared: &Shared, n: usize, parker: &Parker) {
    let _stops = StopsAll(shared);
    let function = &shared.functions[n];
    while !shared.stop.load(Ordering::SeqCst) {
        let deadline = function.locked.deadline();
        let left = deadline.map(|at| at.saturating_sub(shared.clock.now()));
        if left == Some(0) {
            function.locked.advance(|| shared.clock.now());
            shared.interrupts.carry();
            shared.wake_sleepers();
            continue;
        }
        // Pairs with the look at it of whoever sets a deadline from now on.
        function.sleeps_until.store(deadline.unwrap_or(FOREVER), Ordering::SeqCst);
        if function.locked.deadline() == deadline && !shared.stop.load(Ordering::SeqCst) {
            match left {
                Some(ns) => parker.park_timeout(Duration::from_nanos(ns)),
                None => parker.park(),
            }
        }
        function.sleeps_until.store(AWAKE, Ordering::SeqCst);
    }
}
