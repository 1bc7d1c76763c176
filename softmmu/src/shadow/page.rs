//! One shadow page, and the protocol by which several threads fill, use and zap its entries.
//!
//! A *store* to the guest's table comes first, then the zap: the sequence moves, then the entry goes, then what level 1
//! derives from it. A *fill* samples the sequence, reads the guest's entry, puts its word there by compare-and-swap as
//! [`PENDING`], looks at the sequence again, and makes the word valid, or withdraws it. So a word that was read before the
//! store is either never valid, or the zap finds it: exchanges of one entry have one order, and a fill whose exchange comes after
//! the zap's sees the zap's sequence.
//!
//! A fill of *level 1* names its bank in [`ShadowPage::join`], reads the entry, publishes, and then looks whether the entry is
//! still the same, and whether [`Shadow::upper`](crate::shadow::Shadow::upper) is; a zap removes the entry, moves that number
//! if the entry was above the last level, and then looks for banks: one of them sees the other.
//!
//! A page gets words from when it is *open* (its guest page is tracked, nobody has a write entry for it any more) until it is
//! *retired*: its sequence says so.
//!
//! [`Steps`] lets tests leave out each step.

use crate::addr::RamPage;
use crate::shadow::entry::{EXECUTED, Kind, PENDING, kind};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The sequence of a page that is no longer used.
const RETIRED: u64 = 1 << 63;
/// Of one whose guest page is not tracked yet.
const CLOSED: u64 = 1 << 62;
/// [`ShadowPage::base`] of a page that nothing was filled through.
const UNUSED: u64 = 1;
/// And of one that is used at several addresses.
const SEVERAL: u64 = 2;

/// A page that is stored to so much more often than used stops being shadowed.
pub const STORES: u32 = 32;
/// Uses that a store, which takes the slow path and removes things, costs.
const STORE: u32 = 4;

/// Which steps of the protocol are made: all, but in tests that show that each is needed.
pub trait Steps {
    /// A store moves the sequence.
    const MOVE_SEQUENCE: bool = true;
    /// A fill looks at the sequence again.
    const RECHECK: bool = true;
    /// A word is pending until the sequence was looked at again.
    const PEND: bool = true;
    /// A fill of level 1 names its bank before it reads the entry.
    const JOIN_FIRST: bool = true;
    /// A fill of level 1 looks at the entry again.
    const LOOK_AGAIN: bool = true;
    /// And whether a word above it has gone.
    const LOOK_ABOVE: bool = true;
}

/// Every step.
#[derive(Debug)]
pub struct All;
impl Steps for All {}

/// What a page's words are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Role {
    /// log2 of the stretch of linear addresses that one entry is for.
    pub shift: u32,
    /// Bytes of a guest's entry.
    pub size: u8,
    /// All else that decides what an entry means.
    pub rules: u32,
}

impl Role {
    /// Entries in a page.
    pub fn entries(self) -> usize {
        if cfg!(loom) { 1 } else { 4096 / usize::from(self.size) }
    }
}

/// A sequence as a fill saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence(u64);

/// See the module comment.
#[derive(Debug)]
pub struct ShadowPage {
    /// The guest's page.
    pub table: RamPage,
    /// What it is used as.
    pub role: Role,
    sequence: AtomicU64,
    base: AtomicU64,
    /// Banks that level 1 was filled in, one bit each, see [`Self::join`].
    users: AtomicU64,
    /// Of these, where execute translations were handed out.
    executors: AtomicU64,
    /// What stores cost, less what uses gain.
    cost: AtomicU32,
    entries: Box<[AtomicU64]>,
}

impl ShadowPage {
    /// A page with nothing in it.
    pub fn new(table: RamPage, role: Role) -> Self {
        Self {
            table,
            role,
            sequence: AtomicU64::new(CLOSED),
            base: AtomicU64::new(UNUSED),
            users: AtomicU64::new(0),
            executors: AtomicU64::new(0),
            cost: AtomicU32::new(0),
            entries: crate::sync::zeroed_u64(role.entries()),
        }
    }

    /// The guest's page is tracked now. False: too late, the page was retired.
    pub fn open(&self) -> bool {
        // Not an addition: stores may have moved the rest.
        self.sequence.fetch_and(!CLOSED, Ordering::AcqRel) & RETIRED == 0
    }

    /// Before the guest's entry is read. `None`: the page is not open, or retired.
    #[inline]
    pub fn sample(&self) -> Option<Sequence> {
        let now = self.sequence.load(Ordering::Acquire);
        (now & (RETIRED | CLOSED) == 0).then_some(Sequence(now))
    }

    /// The word of an entry; 0 where there is none that is valid.
    #[inline]
    pub fn get(&self, index: usize) -> u64 {
        let word = self.entries[index].load(Ordering::Acquire);
        if word & PENDING != 0 { 0 } else { word }
    }

    /// Makes `word` the entry, if the guest's is still what it was at `sample`. False: use what was read once, keep nothing.
    pub fn publish<S: Steps>(&self, index: usize, word: u64, sample: Sequence) -> bool {
        let entry = &self.entries[index];
        let old = entry.load(Ordering::Acquire);
        if old & PENDING != 0 {
            return false;
        }
        // In other kinds of words the bit means something else.
        let word = if [word, old].map(kind) == [Kind::Ram; 2] { word | old & EXECUTED } else { word };
        let fresh = || !S::RECHECK || self.sequence.load(Ordering::Acquire) == sample.0;
        if old == word {
            return fresh();
        }
        let pending = if S::PEND { word | PENDING } else { word };
        if entry.compare_exchange(old, pending, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let last = if fresh() { word } else { 0 };
        if !S::PEND && last == word {
            return true;
        }
        let kept = entry.compare_exchange(pending, last, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        kept && last != 0
    }

    /// After the guest's entry was stored to: removes the word. Returns it; where that is not 0, level 1 comes next.
    pub fn zap<S: Steps>(&self, index: usize) -> u64 {
        if S::MOVE_SEQUENCE {
            self.sequence.fetch_add(1, Ordering::AcqRel);
        }
        let old = self.entries[index].swap(0, Ordering::AcqRel);
        if old != 0 {
            fence(Ordering::SeqCst);
        }
        old
    }

    /// One more store to the page. True: there are many more of them than uses.
    pub fn count_store(&self) -> bool {
        // Relaxed, here and below, and some may be lost: this is about speed alone.
        self.cost.fetch_add(STORE, Ordering::Relaxed) >= STORE * STORES
    }

    /// Level 1 was filled from here.
    #[inline]
    pub fn count_use(&self) {
        let cost = self.cost.load(Ordering::Relaxed);
        if cost != 0 {
            self.cost.store(cost - 1, Ordering::Relaxed);
        }
    }

    /// No word is kept here from now on. Level 1 comes next.
    pub fn retire(&self) {
        self.sequence.fetch_or(RETIRED, Ordering::AcqRel);
        for entry in &self.entries {
            entry.swap(0, Ordering::AcqRel);
        }
        fence(Ordering::SeqCst);
    }

    /// Level 1 is about to be filled from here, in banks with these bits.
    #[inline]
    pub fn join(&self, banks: u64) {
        if self.users.load(Ordering::Relaxed) & banks != banks {
            self.users.fetch_or(banks, Ordering::SeqCst);
        }
    }

    /// [`Self::join`] for execute translations.
    pub fn join_executors(&self, banks: u64) {
        if self.executors.load(Ordering::Relaxed) & banks != banks {
            self.executors.fetch_or(banks, Ordering::SeqCst);
        }
    }

    /// Banks that were filled from here.
    pub fn users(&self) -> u64 {
        self.users.load(Ordering::SeqCst)
    }

    /// Banks that got execute translations from here.
    #[inline]
    pub fn executors(&self) -> u64 {
        self.executors.load(Ordering::SeqCst)
    }

    /// Notes that an execute translation is made from `word`; false when the entry is another one by now.
    pub fn mark_executed(&self, index: usize, word: u64) -> bool {
        word & EXECUTED != 0
            || self.entries[index]
                .compare_exchange(word, word | EXECUTED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// After level 1 was filled from `word`: may that stay?
    #[inline]
    pub fn still<S: Steps>(&self, index: usize, word: u64) -> bool {
        if !S::LOOK_AGAIN {
            return true;
        }
        fence(Ordering::SeqCst);
        (self.entries[index].load(Ordering::Acquire) ^ word) & !EXECUTED == 0
    }

    /// The page is used for linear addresses from `base` on.
    pub fn use_at(&self, base: u64) {
        let now = self.base.load(Ordering::Relaxed);
        if now != base && now != SEVERAL {
            let put = self.base.compare_exchange(UNUSED, base, Ordering::SeqCst, Ordering::SeqCst);
            if put.is_err_and(|other| other != base) {
                self.base.store(SEVERAL, Ordering::SeqCst);
            }
        }
    }

    /// Where the page is used; `None`: at several places.
    pub fn base(&self) -> Option<u64> {
        match self.base.load(Ordering::SeqCst) {
            SEVERAL => None,
            base => Some(base & !0xfff),
        }
    }
}
