//! Data breakpoints: places in linear memory whose accesses are to be noticed; and alignment checks of all user accesses.
//!
//! Requirement: no load or store that overlaps a watched place escapes, and nothing is checked while there is none.
//! Solution: pages with a watched byte (all, where alignment is checked) get no entry that serves loads or stores, so that every access to them takes the
//! slow path, which compares. Limitation: the owner runs no generated code meanwhile and takes the hits after each
//! instruction; a page-wise copy would otherwise be one access.

use crate::addr::{Access, PAGE_MASK, Privilege};
use crate::mmu::{Flush, MemTrap, Mmu};

/// A watched place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchPoint {
    /// First linear address.
    pub start: u64,
    /// Bytes, at least 1.
    pub len: u64,
    /// Loads count, not only stores.
    pub reads: bool,
}

impl WatchPoint {
    fn last(&self) -> u64 {
        self.start.wrapping_add(self.len - 1)
    }

    fn overlaps(&self, gva: u64, len: u64) -> bool {
        self.start <= gva.wrapping_add(len - 1) && gva <= self.last()
    }
}

/// The places of one vCPU, and which were accessed.
#[derive(Default)]
pub(crate) struct Watch {
    points: [Option<WatchPoint>; 4],
    /// Is there any, or is alignment checked?
    any: bool,
    /// Explicit accesses at CPL 3 must be aligned (CR0.AM and RFLAGS.AC).
    aligned: bool,
    /// One bit for each place.
    hits: u8,
}

impl Watch {
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.any
    }

    /// Must accesses to `page` be seen?
    pub fn covers(&self, page: u64) -> bool {
        self.aligned
            || self
                .points
                .iter()
                .flatten()
                .any(|p| p.start & PAGE_MASK == page || p.last() & PAGE_MASK == page)
    }

    fn note(&mut self, gva: u64, len: u64, access: Access) {
        for (n, point) in self.points.iter().enumerate() {
            let counts = |p: &WatchPoint| p.reads || access == Access::Write;
            if point.is_some_and(|p| counts(&p) && p.overlaps(gva, len)) {
                self.hits |= 1 << n;
            }
        }
    }
}

impl Mmu {
    /// Watches these places and no others.
    pub fn set_watch(&mut self, points: [Option<WatchPoint>; 4]) {
        if self.watch.points != points {
            let aligned = self.watch.aligned;
            self.watch =
                Watch { points, any: aligned || points.iter().any(Option::is_some), aligned, hits: 0 };
            self.flush(Flush::All);
        }
    }

    /// Turns alignment checks of user accesses on or off.
    #[inline]
    pub fn check_alignment(&mut self, on: bool) {
        if self.watch.aligned != on {
            self.watch.aligned = on;
            self.watch.any = on || self.watch.points.iter().any(Option::is_some);
            self.flush(Flush::All);
        }
    }

    /// Are user accesses checked?
    pub fn checks_alignment(&self) -> bool {
        self.watch.aligned
    }

    /// After the translation of a slow access of `len` bytes: page faults come first.
    #[inline(always)]
    pub(crate) fn aligned(&self, p: Privilege, gva: u64, len: u64) -> Result<(), MemTrap> {
        let checked = self.watch.aligned && p == Privilege::User && self.privilege() == Privilege::User;
        // The ten bytes of an x87 register are aligned to eight (SDM vol. 3, table 6-7).
        let unit = if len == 10 { 8 } else { len };
        if checked && matches!(unit, 2 | 4 | 8) && gva & (unit - 1) != 0 {
            return Err(MemTrap::Misaligned);
        }
        Ok(())
    }

    /// The places that were accessed since the last call, one bit each.
    pub fn take_watch_hits(&mut self) -> u8 {
        std::mem::take(&mut self.watch.hits)
    }

    /// Every slow access passes here, whether it succeeds or not.
    #[inline(always)]
    pub(crate) fn note_access(&mut self, gva: u64, len: u64, access: Access) {
        if self.watch.any {
            self.watch.note(gva, len, access);
        }
    }
}
