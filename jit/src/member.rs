//! The vCPUs of a machine as the table of blocks sees them: their jump caches, and whether they may still hold what was removed.
//!
//! Requirement: blocks, their links and places in the code cache are given up while other vCPUs look at them, or execute them,
//! and looking must cost nothing.
//!
//! Solution: whoever takes something out of reach moves the table's *clock* and stamps what was taken with it. A vCPU that runs
//! (*online*) notes the clock at each safepoint, where it holds no block; what has a stamp that every online vCPU has noted is out of
//! everybody's hands. A vCPU that waits, or whose turn it is not, is offline and holds nothing.
//!
//! The jump cache is its owner's; generated code reads it. Others only take entries out ([`Member::forget`]). An entry that its owner
//! puts in, or takes for good again, might be of a block that has just died, or lost its code: so the owner looks once more
//! afterwards ([`Member::enter`]). Either it sees that, or who took the block away sees the entry.

#![expect(unsafe_code, reason = "the frame is shared with generated code")]

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::Arc;

use softmmu::steps::made;

use crate::layout::{Frame, JitFrame, Jump, jump_index};
use crate::platform;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::tb::{Entered, Tb};
use crate::thunks;

/// In [`Member::seen`]: not running.
const OFFLINE: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct Member {
    /// The clock at the last safepoint.
    seen: AtomicU64,
    frame: Box<UnsafeCell<Frame>>,
}

// SAFETY: the frame's head is used by the thread that runs the vCPU only (through `head`); the jump cache consists of atomics.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

impl Member {
    /// A vCPU that is offline, with an empty jump cache.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { seen: AtomicU64::new(OFFLINE), frame: new_frame() })
    }

    /// What generated code and thunks share with the dispatcher. The thread that runs the vCPU alone may use it.
    #[inline]
    pub fn head(&self) -> *mut JitFrame {
        self.frame.get().cast()
    }

    /// The jump cache.
    #[inline]
    pub fn jumps(&self) -> &[Jump] {
        // SAFETY: nobody makes an exclusive reference to this part of the frame.
        unsafe { &(*self.frame.get()).jumps }
    }

    /// The entry for a linear address.
    #[inline(always)]
    pub fn jump(&self, linear: u64) -> &Jump {
        // SAFETY: as in `jumps`; the index is below the length.
        unsafe { &*(&raw const (*self.frame.get()).jumps).cast::<Jump>().add(jump_index(linear)) }
    }

    /// The vCPU begins to run. `alone`: the threads that change the table are this one only.
    #[inline]
    pub fn come_online(&self, clock: &AtomicU64, alone: bool) {
        self.seen.store(clock.load(Ordering::Relaxed), Ordering::Relaxed);
        if !alone {
            // With the one in `Members::passed`: it sees us online, or we see what it has taken out of reach.
            if made("barrier of who comes online") {
                fence(Ordering::SeqCst);
            }
            platform::synchronize();
        }
    }

    /// A safepoint: the vCPU holds no block.
    #[inline]
    pub fn pass(&self, clock: &AtomicU64) {
        let now = clock.load(Ordering::Acquire);
        if self.seen.load(Ordering::Relaxed) != now {
            // Release: with `Members::passed`, which frees what was used before.
            self.seen.store(now, Ordering::Release);
            platform::synchronize();
        }
    }

    /// The vCPU stops running, and holds no block.
    #[inline]
    pub fn go_offline(&self) {
        self.seen.store(OFFLINE, Ordering::Release);
    }

    /// Has it noted `stamp`, or nothing to note?
    fn has_seen(&self, stamp: u64) -> bool {
        self.seen.load(Ordering::Acquire) >= stamp
    }

    /// Owner: puts `tb` into the jump cache, with the code that it has. `false`: it is dead.
    pub fn enter(&self, linear: u64, tag: u64, tb: &Tb) -> bool {
        let entry = self.jump(linear);
        let code = entry_code(tb);
        entry.tag.store(u64::MAX, Ordering::Relaxed);
        entry.tb.store(ptr::from_ref(tb).cast_mut(), Ordering::Relaxed);
        entry.code.store(code, Ordering::Relaxed);
        entry.rip.store(linear, Ordering::Relaxed);
        entry.tag.store(tag, Ordering::Relaxed);
        // With the one in `Members::forget`.
        if made("barrier before the second look") {
            fence(Ordering::SeqCst);
        }
        if !made("second look at an entered block") {
            return true;
        }
        if tb.dead.load(Ordering::Relaxed) || entry_code(tb) != code {
            entry.tag.store(u64::MAX, Ordering::Relaxed);
            entry.tb.store(ptr::null_mut(), Ordering::Relaxed);
            return !tb.dead.load(Ordering::Relaxed);
        }
        true
    }

    /// Any thread: takes `tb`, which has died or has other code from now on, out of the jump cache.
    fn forget(&self, tb: &Tb) {
        let p = ptr::from_ref(tb).cast_mut();
        let clear = |j: &Jump| {
            if j.tb.load(Ordering::Relaxed) == p {
                j.tag.store(u64::MAX, Ordering::Relaxed);
                // Unless the owner has replaced it meanwhile.
                let _ = j.tb.compare_exchange(p, ptr::null_mut(), Ordering::Relaxed, Ordering::Relaxed);
            }
        };
        match tb.entered() {
            Entered::Nowhere => {}
            Entered::At(linear) => clear(self.jump(linear)),
            Entered::Anywhere => self.jumps().iter().for_each(clear),
        }
    }

    /// Takes everything out of the jump cache. The vCPU is offline.
    fn forget_all(&self) {
        for entry in self.jumps() {
            entry.tag.store(u64::MAX, Ordering::Relaxed);
            entry.tb.store(ptr::null_mut(), Ordering::Relaxed);
        }
    }
}

/// What the jump cache has for the code of `tb`.
fn entry_code(tb: &Tb) -> *mut u8 {
    let code = tb.code();
    let code = if code.is_null() { thunks::return_stub as *const () as *const u8 } else { code };
    code.cast_mut()
}

/// All vCPUs of a machine.
#[derive(Debug, Default)]
pub struct Members(Vec<Arc<Member>>);

impl Members {
    /// Adds one.
    pub fn join(&mut self, member: &Arc<Member>) {
        self.0.push(Arc::clone(member));
    }

    /// Takes one out, which is offline.
    pub fn part(&mut self, member: &Arc<Member>) {
        self.0.retain(|m| !Arc::ptr_eq(m, member));
    }

    /// Are there others?
    #[inline]
    pub fn several(&self) -> bool {
        self.0.len() > 1
    }

    /// Is what has this stamp out of everybody's hands?
    pub fn passed(&self, stamp: u64) -> bool {
        fence(Ordering::SeqCst);
        self.0.iter().all(|m| m.has_seen(stamp))
    }

    /// Takes a block that has died, or has other code from now on, out of all jump caches.
    pub fn forget(&self, tb: &Tb) {
        // With the one in `Member::enter`.
        fence(Ordering::SeqCst);
        if made("removed blocks leave jump caches") {
            self.0.iter().for_each(|m| m.forget(tb));
        }
    }

    /// Empties all jump caches. All vCPUs are offline.
    pub fn forget_all(&self) {
        self.0.iter().for_each(|m| m.forget_all());
    }
}

/// A frame with an empty jump cache. Entries must never match while empty: their tag is none.
#[cfg(not(loom))]
fn new_frame() -> Box<UnsafeCell<Frame>> {
    let layout = std::alloc::Layout::new::<UnsafeCell<Frame>>();
    // SAFETY: the layout is not empty; all fields are integers and pointers, valid when zero.
    let frame = unsafe {
        let p = std::alloc::alloc_zeroed(layout).cast::<UnsafeCell<Frame>>();
        if p.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Box::from_raw(p)
    };
    let stub = thunks::return_stub as *const () as *const u8;
    // SAFETY: nobody else has the frame yet.
    for entry in unsafe { &(*frame.get()).jumps } {
        entry.tag.store(u64::MAX, Ordering::Relaxed);
        entry.code.store(stub.cast_mut(), Ordering::Relaxed);
    }
    frame
}

/// The same of loom's atomics.
#[cfg(loom)]
fn new_frame() -> Box<UnsafeCell<Frame>> {
    let jumps: [Jump; 1 << crate::layout::JUMP_BITS] = std::array::from_fn(|_| Jump::default());
    jumps.iter().for_each(|entry| entry.tag.store(u64::MAX, Ordering::Relaxed));
    // SAFETY: all fields are integers and pointers, valid when zero.
    let head = unsafe { std::mem::zeroed() };
    Box::new(UnsafeCell::new(Frame { head, jumps }))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use x86::state::Mode;

    fn block() -> Tb {
        let block = x86::decode::block(&[0xc3], 0x1000, Mode(Mode::CODE64)).expect("RET");
        Tb::new(block, 0x1000, [None; 2])
    }

    #[test]
    fn what_was_removed_waits_for_those_that_run() {
        let clock = AtomicU64::new(0);
        let (a, b) = (Member::new(), Member::new());
        let mut all = Members::default();
        all.join(&a);
        all.join(&b);
        assert!(all.several());
        a.come_online(&clock, false);
        let stamp = clock.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(!all.passed(stamp), "one runs");
        b.come_online(&clock, false);
        assert!(!all.passed(stamp));
        a.pass(&clock);
        assert!(all.passed(stamp), "the other came later");
        let stamp = clock.fetch_add(1, Ordering::SeqCst) + 1;
        a.pass(&clock);
        assert!(!all.passed(stamp));
        b.go_offline();
        assert!(all.passed(stamp));
        all.part(&b);
        assert!(!all.several());
    }

    #[test]
    fn blocks_that_died_are_in_no_jump_cache() {
        let member = Member::new();
        let mut all = Members::default();
        all.join(&member);
        let tb = block();
        assert!(member.enter(0x1000, 5, &tb));
        let entry = member.jump(0x1000);
        assert_eq!((entry.rip.load(Ordering::Relaxed), entry.tag.load(Ordering::Relaxed)), (0x1000, 5));
        all.forget(&tb);
        assert_eq!(entry.tag.load(Ordering::Relaxed), u64::MAX);
        assert!(entry.tb.load(Ordering::Relaxed).is_null());
        // Dies between being found and being entered.
        tb.dead.store(true, Ordering::Relaxed);
        assert!(!member.enter(0x1000, 5, &tb));
        assert_eq!(entry.tag.load(Ordering::Relaxed), u64::MAX);
    }
}
