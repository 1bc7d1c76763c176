//! Level 1: the per-vCPU TLB as other threads see it. Only the owner fills; any thread may zap.
//!
//! A zap is one store of [`INVALID`](crate::entry::INVALID) to a tag; addends are the owner's, so what the owner reads
//! of its own entry is consistent, and a torn pair that another thread may see (tag of one entry, addend of the next)
//! belongs to a slot whose old content is dead already.
//!
//! A zap that lands between a walk and the store that publishes its result must not be lost. Who zaps first makes the
//! reason visible (a page's flags, a new map), notes which vCPUs are online, zaps, and waits until those that are online
//! then have passed a safepoint: fills that were under way are over, and later ones see the reason. What they
//! published is zapped in a second pass. So a fill costs plain stores; the alternative, an exchange and the check of a
//! sequence number in every fill, was measured at a fifth of a TLB miss.

use std::sync::OnceLock;

use crossbeam::utils::CachePadded;

use crate::addr::{Access, PAGE_MASK};
use crate::entry::{INVALID, MMIO_ADDEND};
use crate::quiesce::Presence;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Entries in a bank; a power of two.
pub const TLB_ENTRIES: usize = if cfg!(loom) { 2 } else { 8192 };
/// Bits of a page address that choose the slot.
pub(crate) const SLOT_MASK: u64 = (TLB_ENTRIES as u64 - 1) << 12;

/// One TLB entry, read inline by generated code. See the module `entry` for the words.
#[repr(C)]
#[derive(Debug)]
pub struct TlbEntry {
    /// Tag for loads.
    pub read: AtomicU64,
    /// Tag for stores.
    pub write: AtomicU64,
    /// Tag for instruction fetches.
    pub exec: AtomicU64,
    /// Host address minus guest virtual address, wrapping.
    pub addend: AtomicU64,
}

/// The words of an entry to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words {
    /// Tag for loads.
    pub read: u64,
    /// Tag for stores.
    pub write: u64,
    /// Tag for instruction fetches.
    pub exec: u64,
    /// Host address minus guest address, or the page of an MMIO entry.
    pub addend: u64,
}

impl Default for TlbEntry {
    fn default() -> Self {
        Self {
            read: AtomicU64::new(INVALID),
            write: AtomicU64::new(INVALID),
            exec: AtomicU64::new(INVALID),
            addend: AtomicU64::new(0),
        }
    }
}

impl TlbEntry {
    /// The tag that `access` compares with.
    #[inline]
    pub fn tag(&self, access: Access) -> &AtomicU64 {
        match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
            Access::Execute => &self.exec,
        }
    }

    /// Invalidates all three tags.
    #[inline]
    pub fn clear(&self) {
        // Relaxed: a zap by another thread is followed by a grace period; the owner sees its own stores.
        self.read.store(INVALID, Ordering::Relaxed);
        self.write.store(INVALID, Ordering::Relaxed);
        self.exec.store(INVALID, Ordering::Relaxed);
    }

    /// Invalidates the write tag if it gives plain stores to the host page at `host`; true if it did.
    fn zap_write_to(&self, host: u64) -> bool {
        // Acquire pairs with `publish`.
        let tag = self.write.load(Ordering::Acquire);
        if tag & !PAGE_MASK != 0 || tag.wrapping_add(self.addend.load(Ordering::Acquire)) != host {
            return false;
        }
        // A failed exchange: the owner has put another entry there; the second pass looks at that.
        self.write.compare_exchange(tag, INVALID, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Whether any word of the entry is about a page that `wanted` accepts.
    pub(crate) fn derives(&self, wanted: impl Fn(u64) -> bool) -> bool {
        let tags = [&self.read, &self.write, &self.exec].map(|tag| tag.load(Ordering::Acquire));
        let addend = self.addend.load(Ordering::Acquire);
        // A tag with bit 0 is an MMIO pattern; its page stands in the addend, or (ROM) in the read tag.
        tags.into_iter().any(|tag| tag & MMIO_ADDEND == 0 && wanted(tag & PAGE_MASK))
            || (addend & MMIO_ADDEND != 0 && wanted(addend & PAGE_MASK))
    }

    /// Host address of the RAM page that the entry gives any access to.
    fn host(&self) -> Option<u64> {
        let addend = self.addend.load(Ordering::Acquire);
        [&self.read, &self.write, &self.exec].into_iter().find_map(|tag| {
            let tag = tag.load(Ordering::Acquire);
            let ram = tag & !PAGE_MASK == 0 || tag & !PAGE_MASK == crate::entry::TRACKED;
            (ram && tag != INVALID).then(|| (tag & PAGE_MASK).wrapping_add(addend))
        })
    }
}

/// Sets of three banks, see the module `contexts`.
pub(crate) const SETS: usize = if cfg!(loom) { 1 } else { 6 };
/// In [`SharedTlb::take_execute_lost`].
pub(crate) const ALL_BANKS: u32 = (1 << (3 * SETS)) - 1;

/// The banks of one vCPU, in each set one per [`Privilege`](crate::Privilege), and what others need to know of it.
#[derive(Debug)]
pub struct SharedTlb {
    /// Made by the owner when a set is first used.
    pub(crate) banks: [OnceLock<Box<[TlbEntry]>>; 3 * SETS],
    /// Execute translations of these banks were zapped by another thread: the owner must start new epochs.
    pub(crate) execute_lost: AtomicU32,
    /// Names the vCPU in masks of banks.
    pub(crate) number: AtomicU32,
    /// Whether the vCPU is online. Stepped at safepoints, in a line of its own.
    pub presence: CachePadded<Presence>,
}

impl Default for SharedTlb {
    fn default() -> Self {
        let tlb = Self {
            banks: std::array::from_fn(|_| OnceLock::new()),
            execute_lost: AtomicU32::new(0),
            number: AtomicU32::new(0),
            presence: CachePadded::default(),
        };
        for bank in 0..3 {
            tlb.bank(bank);
        }
        tlb
    }
}

fn new_bank() -> Box<[TlbEntry]> {
    (0..TLB_ENTRIES).map(|_| TlbEntry::default()).collect()
}

impl SharedTlb {
    /// A bank's entries.
    pub fn bank(&self, bank: usize) -> &[TlbEntry] {
        self.banks[bank].get_or_init(new_bank)
    }

    /// Any thread: the banks that exist. One that the owner makes meanwhile holds nothing that was filled before.
    fn existing(&self) -> impl Iterator<Item = &[TlbEntry]> {
        self.banks.iter().filter_map(|bank| bank.get().map(|bank| &**bank))
    }

    /// Owner: makes `words` the entry.
    #[inline]
    pub fn publish(&self, bank: usize, slot: usize, words: Words) {
        let entry = &self.bank(bank)[slot];
        // The old write tag goes before the addend changes, the new one comes last, so that a zapper that sees a tag
        // (Acquire) sees its addend or a later one.
        entry.write.store(INVALID, Ordering::Relaxed);
        entry.addend.store(words.addend, Ordering::Release);
        entry.read.store(words.read, Ordering::Release);
        entry.exec.store(words.exec, Ordering::Release);
        entry.write.store(words.write, Ordering::Release);
    }

    /// Any thread, one pass: removes plain write access to the host page at `host`. `slots` are where it may be; `None`
    /// looks everywhere. True if there was any.
    pub fn zap_writes(&self, host: u64, slots: Option<&[usize]>) -> bool {
        let mut any = false;
        for bank in self.existing() {
            match slots {
                Some(slots) => slots.iter().for_each(|&slot| any |= bank[slot].zap_write_to(host)),
                None => bank.iter().for_each(|entry| any |= entry.zap_write_to(host)),
            }
        }
        any
    }

    /// Any thread, one pass: removes all plain write access.
    pub fn zap_all_writes(&self) {
        for entry in self.existing().flatten() {
            let tag = entry.write.load(Ordering::Acquire);
            if tag & !PAGE_MASK == 0 {
                // As in `zap_write_to`.
                let _ = entry.write.compare_exchange(tag, INVALID, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }

    /// Any thread: removes every entry of a RAM page whose host address `gone` accepts. The caller waits for a grace
    /// period before (so that fills made from the old map are over) and after.
    pub fn zap_ram(&self, gone: impl Fn(u64) -> bool) {
        for entry in self.existing().flatten() {
            if entry.host().is_some_and(&gone) {
                entry.clear();
            }
        }
        self.execute_lost.store(ALL_BANKS, Ordering::SeqCst);
    }

    /// Any thread: removes every MMIO pattern.
    pub fn zap_mmio(&self) {
        for entry in self.existing().flatten() {
            for tag in [&entry.read, &entry.write, &entry.exec] {
                let word = tag.load(Ordering::SeqCst);
                if word & 1 != 0 {
                    // A failed exchange: the owner replaced it meanwhile, with the number it sampled.
                    let _ = tag.compare_exchange(word, INVALID, Ordering::SeqCst, Ordering::SeqCst);
                }
            }
        }
    }

    /// Owner: the banks whose execute translations were zapped since the last call, one bit each.
    #[inline]
    pub fn take_execute_lost(&self) -> u32 {
        if self.execute_lost.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.execute_lost.swap(0, Ordering::SeqCst)
    }
}
