//! The owner's side of a TLB bank: what was filled, so that flushes clear that and nothing else.
//!
//! A slot is listed once per kind, when it is first filled after a flush with a page of that kind; what lasts (global pages, and
//! *kept* entries, which derive from level 2) has a list of its own, so that [`Flush::NonGlobal`](crate::Flush::NonGlobal) does not even look at it. A 4 KiB entry that was made from a large page is marked with the
//! page's size class, and a small filter remembers which large pages had any, so that INVLPG looks for siblings only
//! where there may be some; removing too much is always allowed.
//!
//! Look-up caches of the engine are keyed by an epoch and outlive the TLB's slots, so "may an execute translation of
//! this page have been handed out in this epoch" is kept per slot even when another page has taken the slot: by the page while there
//! was one only. Large pages that were executed have filters of their own. Both matter because a new epoch costs the
//! engine all that it knows of the kernel's code, and kernels use INVLPG for pages of programs all the time.

use crate::addr::PAGE_MASK;
use crate::tlb::{TLB_ENTRIES, TlbEntry};

/// In the list of slots that got a page that is not global.
const LISTED: u8 = 1;
/// In the list of slots that got an entry that lasts.
const LISTED_LASTING: u8 = 32;
/// Holds a kept entry now: level 2 removes it when the page tables change, so that nobody else needs to.
const KEPT: u8 = 64;
/// Holds a global page now.
const GLOBAL: u8 = 2;
/// Made from a 2 MiB or 4 MiB page.
const LARGE: u8 = 4;
/// Made from a 1 GiB page.
const HUGE: u8 = 8;
/// An execute translation was handed out through this slot in this epoch.
const EXEC: u8 = 16;

const LARGE_SHIFT: u32 = 21;
const HUGE_SHIFT: u32 = 30;

/// In [`Bank::exec_pages`]: several pages were executed through this slot.
const SEVERAL: u64 = !0;

/// log2 of the buckets of a [`Filter`]. A kernel's map of all memory alone takes one for every 4 MiB.
const FILTER_BITS: u32 = 12;

/// One-bit buckets.
struct Filter {
    buckets: Box<[u64; 1 << (FILTER_BITS - 6)]>,
    /// Is any bit set? Most flushes find none.
    any: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { buckets: Box::new([0; 1 << (FILTER_BITS - 6)]), any: false }
    }
}

impl Filter {
    fn bucket(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS)
    }

    fn add(&mut self, key: u64) {
        let bucket = Self::bucket(key);
        self.buckets[(bucket >> 6) as usize] |= 1 << (bucket & 63);
        self.any = true;
    }

    fn may_hold(&self, key: u64) -> bool {
        let bucket = Self::bucket(key);
        self.buckets[(bucket >> 6) as usize] >> (bucket & 63) & 1 != 0
    }

    fn clear(&mut self) {
        if self.any {
            self.buckets.fill(0);
            self.any = false;
        }
    }
}

/// What a fill adds to a slot.
pub(crate) struct Filled {
    pub page: u64,
    pub page_size: u64,
    pub global: bool,
    /// Derived from level 2.
    pub kept: bool,
    /// For execute fills, the guest physical address of the page.
    pub executes: Option<u64>,
}

pub(crate) struct Bank {
    listed: Vec<u16>,
    listed_lasting: Vec<u16>,
    marks: Box<[u8]>,
    /// Guest physical page of each execute tag.
    exec_frames: Box<[u64]>,
    /// The page that an execute translation was handed out for through each slot marked EXEC, or SEVERAL.
    exec_pages: Box<[u64]>,
    large: Filter,
    huge: Filter,
    /// As `large` and `huge`, for those with execute translations.
    exec_large: Filter,
    exec_huge: Filter,
    exec_any: bool,
    /// Of pages that are neither global nor kept.
    exec_passing: bool,
    /// Of pages that are kept and not global.
    exec_kept: bool,
    /// Were there kept entries since the last flush of them?
    keeps: bool,
}

/// What a flush leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    Nothing,
    /// Global pages.
    Global,
    /// Global pages and what level 2 looks after.
    Lasting,
}

/// The slot of an address.
#[inline(always)]
pub(crate) fn slot_of(gva: u64) -> usize {
    (gva >> 12) as usize & (TLB_ENTRIES - 1)
}

impl Bank {
    pub fn new() -> Self {
        Self {
            listed: Vec::with_capacity(TLB_ENTRIES),
            listed_lasting: Vec::with_capacity(TLB_ENTRIES),
            marks: vec![0; TLB_ENTRIES].into(),
            exec_frames: vec![0; TLB_ENTRIES].into(),
            exec_pages: vec![0; TLB_ENTRIES].into(),
            large: Filter::default(),
            huge: Filter::default(),
            exec_large: Filter::default(),
            exec_huge: Filter::default(),
            exec_any: false,
            exec_passing: false,
            exec_kept: false,
            keeps: false,
        }
    }

    /// Records what a slot holds now.
    #[inline]
    pub fn note_fill(&mut self, slot: usize, fill: &Filled) {
        let mark = &mut self.marks[slot];
        let mut new = *mark & (EXEC | LISTED | LISTED_LASTING);
        // A global page needs no level 2 to stay, and stays where another root's tables are in force.
        let kept = fill.kept && !fill.global;
        let (list, kind) = if fill.global || kept {
            (&mut self.listed_lasting, LISTED_LASTING)
        } else {
            (&mut self.listed, LISTED)
        };
        if new & kind == 0 {
            list.push(slot as u16);
        }
        new |= kind | if fill.global { GLOBAL } else { 0 } | if kept { KEPT } else { 0 };
        self.keeps |= kept;
        if fill.page_size > 4096 {
            if fill.page_size > 1 << 22 {
                new |= HUGE;
                self.huge.add(fill.page >> HUGE_SHIFT);
                if fill.executes.is_some() {
                    self.exec_huge.add(fill.page >> HUGE_SHIFT);
                }
            } else {
                new |= LARGE;
                // 4 MiB pages count as their two halves' pair.
                self.large.add(fill.page >> (LARGE_SHIFT + 1));
                if fill.executes.is_some() {
                    self.exec_large.add(fill.page >> (LARGE_SHIFT + 1));
                }
            }
        }
        if let Some(frame) = fill.executes {
            let other = new & EXEC != 0 && self.exec_pages[slot] != fill.page;
            self.exec_pages[slot] = if other { SEVERAL } else { fill.page };
            new |= EXEC;
            self.exec_frames[slot] = frame;
            self.exec_any = true;
            self.exec_passing |= !fill.global && !kept;
            self.exec_kept |= kept;
        }
        *mark = new;
    }

    /// Guest physical page of the execute tag in a slot.
    #[inline]
    pub fn exec_frame(&self, slot: usize) -> u64 {
        self.exec_frames[slot]
    }

    /// Clears the entries but those to leave; true when an execute translation may be gone.
    pub fn flush(&mut self, entries: &[TlbEntry], leave: Leave) -> bool {
        let (lost, stays) = match leave {
            Leave::Nothing => (self.exec_any, 0),
            Leave::Global => (self.exec_passing || self.exec_kept, GLOBAL),
            Leave::Lasting => (self.exec_passing, GLOBAL | KEPT),
        };
        for slot in self.listed.drain(..).map(usize::from) {
            let mark = &mut self.marks[slot];
            if *mark & stays != 0 {
                *mark &= !LISTED;
                continue;
            }
            // EXEC stays: a lasting page that was handed out may have lost this slot to another.
            *mark &= LISTED_LASTING | EXEC;
            entries[slot].clear();
        }
        self.exec_passing = false;
        match leave {
            Leave::Lasting => {}
            Leave::Global if self.keeps => self.drop_kept(entries),
            Leave::Global => {}
            Leave::Nothing => {
                for slot in self.listed_lasting.drain(..).map(usize::from) {
                    self.marks[slot] = 0;
                    entries[slot].clear();
                }
                self.exec_any = false;
                self.exec_kept = false;
                self.keeps = false;
                self.exec_large.clear();
                self.exec_huge.clear();
            }
        }
        if self.listed_lasting.is_empty() {
            self.large.clear();
            self.huge.clear();
        }
        lost
    }

    fn drop_kept(&mut self, entries: &[TlbEntry]) {
        let marks = &mut self.marks;
        self.listed_lasting.retain(|&slot| {
            let mark = &mut marks[usize::from(slot)];
            let kept = *mark & KEPT != 0;
            if kept {
                *mark &= EXEC;
                entries[usize::from(slot)].clear();
            }
            !kept
        });
        self.exec_kept = false;
        self.keeps = false;
    }

    /// Are there entries that [`Leave::Lasting`] leaves and [`Leave::Global`] does not?
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// May an execute translation of a page that is not global have been handed out since the last flush?
    pub fn executes_nonglobal(&self) -> bool {
        self.exec_passing || self.exec_kept
    }

    /// Clears what derives from the page of `gva`, of whatever size (`only_global`: if it is global); true when an execute
    /// translation may be gone.
    pub fn invalidate(&mut self, entries: &[TlbEntry], gva: u64, only_global: bool) -> bool {
        let slot = slot_of(gva);
        let kind = if only_global { GLOBAL } else { 0 };
        if self.marks[slot] & kind == kind && entries[slot].derives(|page| page == gva & PAGE_MASK) {
            entries[slot].clear();
        }
        let executed = self.exec_pages[slot];
        let mut lost = self.marks[slot] & EXEC != 0 && (executed == gva & PAGE_MASK || executed == SEVERAL);
        if self.large.may_hold(gva >> (LARGE_SHIFT + 1)) {
            self.sweep(entries, LARGE | kind, gva >> (LARGE_SHIFT + 1), LARGE_SHIFT + 1);
        }
        if self.huge.may_hold(gva >> HUGE_SHIFT) {
            self.sweep(entries, HUGE | kind, gva >> HUGE_SHIFT, HUGE_SHIFT);
        }
        lost |= self.exec_large.may_hold(gva >> (LARGE_SHIFT + 1));
        lost |= self.exec_huge.may_hold(gva >> HUGE_SHIFT);
        lost
    }

    #[cold]
    fn sweep(&mut self, entries: &[TlbEntry], class: u8, key: u64, shift: u32) {
        for &slot in self.listed.iter().chain(&self.listed_lasting) {
            let slot = usize::from(slot);
            if self.marks[slot] & class == class && entries[slot].derives(|page| page >> shift == key) {
                entries[slot].clear();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_all_memory_leaves_the_filter_sharp() {
        let key = |gva: u64| gva >> (LARGE_SHIFT + 1);
        let mut filter = Filter::default();
        let kernel = (0..128).map(|n| 0xffff_8880_0000_0000 + (n << 22));
        kernel.clone().for_each(|gva| filter.add(key(gva)));
        assert!(kernel.clone().all(|gva| filter.may_hold(key(gva))));
        let program = (0..1000).map(|n| 0x7fff_0000_0000 - (n << 22));
        let mistaken = program.filter(|gva| filter.may_hold(key(*gva))).count();
        assert!(mistaken < 100, "{mistaken} of 1000 looked for in vain");
        filter.clear();
        assert!(!kernel.clone().any(|gva| filter.may_hold(key(gva))));
    }
}
