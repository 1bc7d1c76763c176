//! Level 2: shadow tables that all vCPUs share.
//!
//! Requirement: a translation stays usable over changes of address space and INVLPG, by any vCPU and without a lock, and is
//! gone as soon as the guest stores to any entry of page tables that it derives from.
//!
//! Solution: for each page of the guest's page tables and each role that it is used in there is one shadow page
//! ([`ShadowPage`]) of atomic words; the guest's page is tracked by the write funnel *before* it is first read for it. The
//! words of upper levels name the guest's next table, not a shadow page, so that no shadow page is pointed to but from the one list of its
//! guest page: it can be taken out at any time. Lists are read under an epoch's pin, and a page is freed after the epoch and
//! after the last vCPU's cache has let it go.
//!
//! [`Shadow::upper`] moves whenever a word above the last level goes: caches of where a stretch's last level is compare it.
//!
//! A page is shadowed when it was *looked at* a few times, each after some misses of level 1 ([`Shadow::warm`]): what is used a lot and
//! does not change. Pages that are stored to [`STORES`](page::STORES) times more than used, or all at once, stop being shadowed, and
//! must be looked at twice as often the next time. A guest's page may have [`ROLES`] roles, and one page in [`SHARE`] may be shadowed; when
//! there are more, level 2 begins anew.

mod entry;
mod level1;
mod page;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::{Arc, OnceLock};

use crossbeam::epoch::{self, Atomic, Guard, Owned, Shared};

use crate::addr::RamPage;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, fence, lock};
use crate::tlb::SharedTlb;

use entry::PENDING;
#[cfg(any(test, loom))]
pub use entry::ram;
pub use entry::{EXECUTED, FRAME, Kind, kind, rights};
pub use level1::Derived;
pub use page::{All, Role, Sequence, ShadowPage, Steps};
pub use walk::{Recorder, leaf_index, merge, root_role};

/// Shadow pages that one page of the guest may have: it may be used at each level.
const ROLES: usize = 5;
/// One page of the guest's RAM in so many may be shadowed.
const SHARE: u32 = 16;
/// And at least so many.
const FEW: u32 = 256;
/// Misses of a stretch between two looks, and looks at a page before it is shadowed.
const MISSES: u32 = if cfg!(loom) { 0 } else { 64 };
const LOOKS: u32 = 8;
/// How often the number of looks doubles at most.
const DOUBLINGS: u32 = 12;
/// A store of more bytes is none to an entry: the page is something else by now.
const WIDE: u64 = 16;

/// A shadow page in the list of its guest page.
#[derive(Debug)]
struct Node {
    page: Arc<ShadowPage>,
    next: Atomic<Node>,
}

/// Pages of RAM in a [`Chunk`].
const CHUNK: usize = if cfg!(loom) { 1 } else { 512 };

/// What is known of neighbouring pages of the guest's RAM.
#[derive(Debug)]
struct Chunk {
    /// The roles.
    heads: [Atomic<Node>; CHUNK],
    /// How often a page was looked at (low 16 bits) since it was last given up, and how often that was.
    looks: [AtomicU32; CHUNK],
}

impl Chunk {
    fn new() -> Box<Self> {
        Box::new(Self {
            heads: std::array::from_fn(|_| Atomic::null()),
            looks: std::array::from_fn(|_| AtomicU32::new(0)),
        })
    }
}

/// The shadow pages of a guest.
#[derive(Debug)]
pub struct Shadow {
    /// By page of guest RAM; made where one is first looked at.
    chunks: Box<[OnceLock<Box<Chunk>>]>,
    /// Shadow pages that there are, and may be.
    count: AtomicU32,
    limit: u32,
    misses: AtomicU32,
    looks: AtomicU32,
    upper: AtomicU64,
    /// Held while a list and the tracking of its page change together. Nobody waits for anybody while holding it.
    changes: Mutex<()>,
}

impl Shadow {
    /// Nothing is shadowed of `pages` pages.
    pub fn new(pages: u32) -> Self {
        Self {
            chunks: (0..(pages as usize).div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            count: AtomicU32::new(0),
            limit: (pages / SHARE).max(FEW),
            misses: AtomicU32::new(MISSES),
            looks: AtomicU32::new(LOOKS),
            upper: AtomicU64::new(0),
            changes: Mutex::new(()),
        }
    }

    /// Shadows page tables after `looks` looks, one for each `misses` misses in a stretch; 0 misses: never.
    pub fn set_patience(&self, misses: u32, looks: u32) {
        self.misses.store(misses, Ordering::Relaxed);
        self.looks.store(looks, Ordering::Relaxed);
    }

    /// Misses of a stretch between two looks. 0: nothing is shadowed.
    #[inline]
    pub fn misses(&self) -> u32 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Shadow pages that there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Are there as many as there may be?
    pub fn is_full(&self) -> bool {
        self.count() >= self.limit
    }

    /// Counts a look at `table`. True: it is to be shadowed.
    pub fn warm(&self, table: RamPage) -> bool {
        let (chunk, at) = self.chunk(table);
        // Relaxed: this is about speed alone.
        let seen = chunk.looks[at].load(Ordering::Relaxed);
        let looks = (seen & 0xffff) + 1;
        chunk.looks[at].store(seen & !0xffff | looks.min(0xffff), Ordering::Relaxed);
        looks >= (self.looks.load(Ordering::Relaxed) << (seen >> 16)).min(0xffff)
    }

    /// Pages that have roles.
    pub fn tables(&self) -> impl Iterator<Item = RamPage> {
        let made = self.chunks.iter().enumerate().filter_map(|(n, chunk)| Some((n, chunk.get()?)));
        made.flat_map(|(n, chunk)| {
            let used = |(at, head): (usize, &Atomic<Node>)| {
                let any = !head.load(Ordering::Acquire, &epoch::pin()).is_null();
                any.then_some(RamPage((n * CHUNK + at) as u32))
            };
            chunk.heads.iter().enumerate().filter_map(used).collect::<Vec<_>>()
        })
    }

    fn chunk(&self, table: RamPage) -> (&Chunk, usize) {
        let at = table.0 as usize;
        (self.chunks[at / CHUNK].get_or_init(Chunk::new), at % CHUNK)
    }

    /// Moves when a word above the last level is gone.
    #[inline]
    pub fn upper(&self) -> u64 {
        self.upper.load(Ordering::Acquire)
    }

    /// The shadow of `table` in a role, for as long as the pin lasts.
    #[inline]
    pub fn find<'g>(&self, table: RamPage, role: Role, guard: &'g Guard) -> Option<&'g Arc<ShadowPage>> {
        self.roles(table, guard).find(|page| page.role == role)
    }

    fn roles<'g>(&self, table: RamPage, guard: &'g Guard) -> impl Iterator<Item = &'g Arc<ShadowPage>> {
        let at = table.0 as usize;
        let chunk = self.chunks[at / CHUNK].get();
        let first = chunk.map_or(Shared::null(), |c| c.heads[at % CHUNK].load(Ordering::Acquire, guard));
        std::iter::successors(node(first), |n| node(n.next.load(Ordering::Acquire, guard))).map(|n| &n.page)
    }

    /// Makes the shadow of `table` in a role: takes a place for it, has the page tracked by `track`, which may wait for
    /// other vCPUs, and opens it. `None`: it was stored to meanwhile, or somebody else is about to do the same.
    pub fn insert(&self, table: RamPage, role: Role, track: impl FnOnce()) -> Option<Arc<ShadowPage>> {
        let page = Arc::new(ShadowPage::new(table, role));
        {
            let guard = epoch::pin();
            let _held = lock(&self.changes);
            if self.find(table, role, &guard).is_some() || self.roles(table, &guard).count() >= ROLES {
                return None;
            }
            self.count.fetch_add(1, Ordering::Relaxed);
            let (chunk, at) = self.chunk(table);
            let head = &chunk.heads[at];
            let next = Atomic::null();
            next.store(head.load(Ordering::Acquire, &guard), Ordering::Relaxed);
            head.store(Owned::new(Node { page: Arc::clone(&page), next }), Ordering::Release);
        }
        track();
        page.open().then_some(page)
    }

    /// Takes out all roles of `table`, and has it no longer tracked. Whole lists go, never single nodes: a reader of the old
    /// list ends in pages that are retired.
    pub fn remove(&self, table: RamPage, vcpus: &[Arc<SharedTlb>], untrack: impl FnOnce()) {
        let guard = epoch::pin();
        let mut first = {
            // No page is put in between: who does that tracks it after, so that this end of tracking is not the last word.
            let _held = lock(&self.changes);
            let (chunk, at) = self.chunk(table);
            let first = chunk.heads[at].swap(Shared::null(), Ordering::AcqRel, &guard);
            let given_up = ((chunk.looks[at].load(Ordering::Relaxed) >> 16) + 1).min(DOUBLINGS);
            chunk.looks[at].store(given_up << 16, Ordering::Relaxed);
            // Words and level 1 first: without tracking nothing would remove them.
            retire_all(first, &self.upper, vcpus, &guard);
            untrack();
            first
        };
        while let Some(n) = node(first) {
            let next = n.next.load(Ordering::Acquire, &guard);
            free(first, &guard);
            self.count.fetch_sub(1, Ordering::Relaxed);
            first = next;
        }
    }

    /// After `len` bytes at `offset`, in one tracked page of guest RAM, were stored: removes what derives from them, from
    /// here and from level 1 of `vcpus`. True: the page is to be removed; so is one that is tracked and has no role any more.
    #[must_use]
    pub fn stored<S: Steps>(&self, offset: u64, len: u64, vcpus: &[Arc<SharedTlb>]) -> bool {
        let guard = epoch::pin();
        let table = RamPage::containing(offset);
        let mut often = len > WIDE || self.roles(table, &guard).next().is_none();
        for page in self.roles(table, &guard) {
            often |= page.count_store();
            if often {
                break;
            }
            let size = u64::from(page.role.size);
            let within = offset & 0xfff;
            for index in within / size..=(within + len - 1) / size {
                self.zap::<S>(page, index as usize, vcpus);
            }
        }
        often
    }

    /// Removes one word, and what level 1 derives from it.
    pub fn zap<S: Steps>(&self, page: &ShadowPage, index: usize, vcpus: &[Arc<SharedTlb>]) {
        let old = page.zap::<S>(index);
        if old == 0 {
            return;
        }
        let shift = page.role.shift;
        if shift > 12 {
            self.upper.fetch_add(1, Ordering::AcqRel);
            fence(Ordering::SeqCst);
        }
        let executed = old & EXECUTED != 0 || kind(old & !PENDING) == Kind::Table;
        let start = page.base().map(|base| base.wrapping_add((index as u64) << shift));
        drop_derived(page, start, 1 << shift, executed, vcpus);
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        let tables: Vec<_> = self.tables().collect();
        tables.into_iter().for_each(|table| self.remove(table, &[], || ()));
    }
}

fn retire_all(first: Shared<'_, Node>, upper: &AtomicU64, vcpus: &[Arc<SharedTlb>], guard: &Guard) {
    for n in std::iter::successors(node(first), |n| node(n.next.load(Ordering::Acquire, guard))) {
        let Role { shift, .. } = n.page.role;
        n.page.retire();
        if shift > 12 {
            upper.fetch_add(1, Ordering::AcqRel);
            fence(Ordering::SeqCst);
        }
        drop_derived(&n.page, n.page.base(), (n.page.role.entries() as u64) << shift, true, vcpus);
    }
}

/// Removes from level 1 what derives from `page` in the `len` bytes from `start`; everything of its banks where that is not known.
fn drop_derived(page: &ShadowPage, start: Option<u64>, len: u64, executed: bool, vcpus: &[Arc<SharedTlb>]) {
    let (users, executors) = (page.users(), page.executors());
    if users == 0 {
        return;
    }
    for tlb in vcpus {
        tlb.zap_derived(users, start, len);
        if executed && executors != 0 {
            tlb.lose_execute(executors);
        }
    }
}

#[expect(unsafe_code, reason = "lists under an epoch's pin")]
fn node<'g>(at: Shared<'g, Node>) -> Option<&'g Node> {
    // SAFETY: nodes are freed by `free` only, after the epochs of all who could load a pointer to them.
    unsafe { at.as_ref() }
}

#[expect(unsafe_code, reason = "lists under an epoch's pin")]
fn free(at: Shared<'_, Node>, guard: &Guard) {
    // SAFETY: `at` is out of the list, and was put there as an `Owned`; whoever took it out is the only one to free it.
    unsafe { guard.defer_destroy(at) }
}
