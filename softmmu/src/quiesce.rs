//! Grace periods: waiting until every vCPU has passed a safepoint.
//!
//! Requirement: after a zap, another vCPU may still be between its tag compare and its access, or use an addend that
//! generated code keeps in a register. The one who zapped must wait for that to end; vCPUs must pay nothing for it.
//!
//! Solution: each vCPU has a counter, odd while it runs guest code (*online*), even while it does not (*quiescent*:
//! halted, blocked, waiting, or driven by the thread that asks). At a safepoint an online vCPU holds no host address;
//! it then steps its counter by two if somebody waits. A waiter is itself quiescent while it waits, so that two
//! waiters never wait for each other, and skips vCPUs that its own thread drives: they are at a safepoint by
//! definition. A vCPU that is never put online belongs to the thread that drives it, which must be the one that
//! updates maps and tracks code (or must be stopped meanwhile): single-threaded machines need no calls at all.
//!
//! Lock order: the exclusive lock, then nothing.

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, fence, lock, relax};

/// Names a thread. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadToken(pub u64);

impl ThreadToken {
    /// The calling thread, as loom counts them.
    #[cfg(loom)]
    pub fn current() -> Self {
        loom::thread_local!(static ANCHOR: Box<u8> = Box::new(0));
        Self(ANCHOR.with(|a| std::ptr::from_ref(&**a).addr() as u64))
    }

    /// The calling thread.
    #[cfg(not(loom))]
    pub fn current() -> Self {
        thread_local!(static ANCHOR: u8 = const { 0 });
        Self(ANCHOR.with(|a| std::ptr::from_ref(a).addr() as u64))
    }
}

/// A vCPU's side: its counter and the thread that drives it while online.
#[derive(Debug)]
pub struct Presence {
    count: AtomicU64,
    owner: AtomicU64,
}

impl Default for Presence {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), owner: AtomicU64::new(0) }
    }
}

impl Presence {
    /// Whether the vCPU runs guest code.
    pub fn online(&self) -> bool {
        self.count.load(Ordering::SeqCst) & 1 != 0
    }

    fn step(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn driven_by(&self, me: ThreadToken) -> bool {
        self.owner.load(Ordering::Relaxed) == me.0
    }
}

/// The vCPUs that were online at some moment, with their counts then.
#[derive(Debug)]
pub struct Readers<'a>(Vec<(&'a Presence, u64)>);

impl Readers<'_> {
    /// Nobody was.
    pub fn none(&self) -> bool {
        self.0.is_empty()
    }
}

/// The space's side.
#[derive(Debug)]
pub struct Quiescence {
    /// Number of waiters: tells safepoints to look closer.
    attention: AtomicU32,
    /// Nobody may come online.
    stopped: AtomicBool,
    /// Held by the one map update or exclusive section at a time.
    exclusive: Mutex<()>,
}

impl Default for Quiescence {
    fn default() -> Self {
        Self { attention: AtomicU32::new(0), stopped: AtomicBool::new(false), exclusive: Mutex::new(()) }
    }
}

impl Quiescence {
    /// The thread starts to run guest code on this vCPU. Blocks while others are stopped.
    pub fn go_online(&self, vcpu: &Presence, me: ThreadToken) {
        vcpu.owner.store(me.0, Ordering::Relaxed);
        self.join(vcpu);
    }

    fn join(&self, vcpu: &Presence) {
        debug_assert!(!vcpu.online());
        loop {
            // SeqCst with the waiter's: either it sees us online, or we see what it published (map, flags, stop).
            vcpu.step();
            fence(Ordering::SeqCst);
            if !self.stopped.load(Ordering::SeqCst) {
                return;
            }
            vcpu.step();
            while self.stopped.load(Ordering::SeqCst) {
                relax();
            }
        }
    }

    /// The vCPU holds no host address until [`Self::go_online`]. Harmless when it is quiescent already.
    pub fn go_quiescent(&self, vcpu: &Presence) {
        if vcpu.online() {
            vcpu.step();
        }
    }

    /// Whether somebody waits for safepoints.
    #[inline]
    pub fn attention(&self) -> bool {
        // Relaxed: a waiter waits until it is seen, however late.
        self.attention.load(Ordering::Relaxed) != 0
    }

    /// An online vCPU that holds no host address lets waiters pass.
    #[cold]
    pub fn acknowledge(&self, vcpu: &Presence) {
        if vcpu.online() {
            vcpu.step();
            self.join(vcpu);
        }
    }

    /// Runs `wait` while the vCPUs that this thread drives are quiescent.
    fn aside<'a>(
        &self,
        vcpus: impl Iterator<Item = &'a Presence> + Clone,
        me: ThreadToken,
        wait: impl FnOnce(),
    ) {
        let mine = || vcpus.clone().filter(|v| v.driven_by(me));
        let was: Vec<bool> = mine().map(|v| v.online()).collect();
        mine().for_each(|v| self.go_quiescent(v));
        self.attention.fetch_add(1, Ordering::SeqCst);
        wait();
        self.attention.fetch_sub(1, Ordering::SeqCst);
        mine().zip(was).filter(|(_, was)| *was).for_each(|(v, _)| self.join(v));
    }

    /// Notes who is online, after the caller has made something visible. Call it at a safepoint.
    pub fn readers<'a>(&self, vcpus: impl Iterator<Item = &'a Presence>, me: ThreadToken) -> Readers<'a> {
        // SeqCst with `join`: either we see the vCPU online, or it sees what the caller made visible. One that is
        // seen quiescent has published all its fills (its step releases them).
        fence(Ordering::SeqCst);
        Readers(
            vcpus
                .filter(|v| !v.driven_by(me))
                .map(|v| (v, v.count.load(Ordering::SeqCst)))
                .filter(|(_, count)| count & 1 != 0)
                .collect(),
        )
    }

    /// Returns when each of `readers` has passed a safepoint since they were noted.
    pub fn wait<'a>(
        &self,
        readers: &Readers<'_>,
        vcpus: impl Iterator<Item = &'a Presence> + Clone,
        me: ThreadToken,
    ) {
        if readers.none() {
            return;
        }
        self.aside(vcpus, me, || {
            for (vcpu, seen) in &readers.0 {
                while vcpu.count.load(Ordering::SeqCst) == *seen {
                    relax();
                }
            }
        });
        fence(Ordering::SeqCst);
    }

    /// Returns when every vCPU that is online has passed a safepoint.
    pub fn wait_for_readers<'a>(&self, vcpus: impl Iterator<Item = &'a Presence> + Clone, me: ThreadToken) {
        let readers = self.readers(vcpus.clone(), me);
        self.wait(&readers, vcpus, me);
    }

    /// Runs `f` alone among map updates and exclusive sections, with this thread's vCPUs quiescent. Others run on.
    pub fn serialized<'a>(
        &self,
        vcpus: impl Iterator<Item = &'a Presence> + Clone,
        me: ThreadToken,
        f: impl FnOnce(),
    ) {
        self.aside(vcpus, me, || {
            let _held = lock(&self.exclusive);
            f();
        });
    }

    /// Runs `f` while no other vCPU is online. This thread's vCPUs are online in it if they were before.
    pub fn exclusive<'a, R>(
        &self,
        vcpus: impl Iterator<Item = &'a Presence> + Clone,
        me: ThreadToken,
        f: impl FnOnce() -> R,
    ) -> R {
        let mine = || vcpus.clone().filter(|v| v.driven_by(me));
        let was: Vec<bool> = mine().map(|v| v.online()).collect();
        mine().for_each(|v| self.go_quiescent(v));
        self.attention.fetch_add(1, Ordering::SeqCst);
        let held = lock(&self.exclusive);
        self.stopped.store(true, Ordering::SeqCst);
        // SeqCst with `join`: either we see the vCPU online and wait, or it sees the stop.
        fence(Ordering::SeqCst);
        for vcpu in vcpus.clone().filter(|v| !v.driven_by(me)) {
            while vcpu.online() {
                relax();
            }
        }
        // Online again, past the stop that is ours: those who track pages wait for the end of `f`.
        mine().zip(was).filter(|(_, was)| *was).for_each(|(v, _)| v.step());
        fence(Ordering::SeqCst);
        let result = f();
        self.stopped.store(false, Ordering::SeqCst);
        drop(held);
        self.attention.fetch_sub(1, Ordering::SeqCst);
        result
    }
}
