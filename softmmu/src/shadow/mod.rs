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
//! Pages that are stored to [`STORES`] times without a fill, or all at once, stop being shadowed.

mod entry;
mod level1;
mod page;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use crossbeam::epoch::{self, Atomic, Guard, Owned, Shared};

use crate::addr::RamPage;
use crate::sync::{AtomicU64, Mutex, Ordering, fence, lock};
use crate::tlb::SharedTlb;

pub use entry::ram;
use entry::{EXECUTED, Kind, PENDING, kind};
pub use page::{All, Role, Sequence, ShadowPage, Steps};
pub use walk::Recorder;

/// So many stores without a fill end the shadowing of a page.
pub const STORES: u32 = 32;
/// A store of more bytes is none to an entry: the page is something else by now.
const WIDE: u64 = 16;

/// A shadow page in the list of its guest page.
#[derive(Debug)]
struct Node {
    page: Arc<ShadowPage>,
    next: Atomic<Node>,
}

/// The shadow pages of a guest.
#[derive(Debug)]
pub struct Shadow {
    /// By page of guest RAM: its roles.
    heads: Box<[Atomic<Node>]>,
    upper: AtomicU64,
    /// Held while a list and the tracking of its page change together. Nobody waits for anybody while holding it.
    changes: Mutex<()>,
}

impl Shadow {
    /// Nothing is shadowed of `pages` pages.
    pub fn new(pages: u32) -> Self {
        Self {
            heads: (0..pages).map(|_| Atomic::null()).collect(),
            upper: AtomicU64::new(0),
            changes: Mutex::new(()),
        }
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
        let first = self.heads[table.0 as usize].load(Ordering::Acquire, guard);
        std::iter::successors(node(first), |n| node(n.next.load(Ordering::Acquire, guard))).map(|n| &n.page)
    }

    /// Makes the shadow of `table` in a role: takes a place for it, has the page tracked by `track`, which may wait for
    /// other vCPUs, and opens it. `None`: it was stored to meanwhile, or somebody else is about to do the same.
    pub fn insert(&self, table: RamPage, role: Role, track: impl FnOnce()) -> Option<Arc<ShadowPage>> {
        let page = Arc::new(ShadowPage::new(table, role));
        {
            let guard = epoch::pin();
            let _held = lock(&self.changes);
            if self.find(table, role, &guard).is_some() {
                return None;
            }
            let head = &self.heads[table.0 as usize];
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
            let first = self.heads[table.0 as usize].swap(Shared::null(), Ordering::AcqRel, &guard);
            // Words and level 1 first: without tracking nothing would remove them.
            retire_all(first, &self.upper, vcpus, &guard);
            untrack();
            first
        };
        while let Some(n) = node(first) {
            let next = n.next.load(Ordering::Acquire, &guard);
            free(first, &guard);
            first = next;
        }
    }

    /// After `len` bytes at `offset`, in one tracked page of guest RAM, were stored: removes what derives from them, from
    /// here and from level 1 of `vcpus`. True: the page is to be removed.
    #[must_use]
    pub fn stored<S: Steps>(&self, offset: u64, len: u64, vcpus: &[Arc<SharedTlb>]) -> bool {
        let guard = epoch::pin();
        let table = RamPage::containing(offset);
        let mut often = len > WIDE;
        for page in self.roles(table, &guard) {
            often |= page.count_store() > STORES;
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
        for at in 0..self.heads.len() as u32 {
            if !self.heads[at as usize].load(Ordering::Relaxed, &epoch::pin()).is_null() {
                self.remove(RamPage(at), &[], || ());
            }
        }
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
