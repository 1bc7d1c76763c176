//! A vCPU's own view of the memory map: what the miss path needs, without locks, reference counts or searches.

#![expect(unsafe_code, reason = "page tables are read by host address")]

use std::sync::Arc;

use crate::addr::{Gpa, RamPage};
use crate::map::{MemoryMap, RegionKind};
use crate::ram::Raw;
use crate::space::{AddressSpace, update_table_entry};
use crate::walk::TableMemory;

/// One RAM or ROM region.
#[derive(Clone, Copy, Default)]
struct Window {
    start: u64,
    len: u64,
    offset: u64,
    rom: bool,
}

/// The map as of `version`, and the two regions used last (low and high memory).
pub(crate) struct View {
    version: u64,
    map: Arc<MemoryMap>,
    windows: [Window; 2],
}

impl View {
    pub fn new(space: &AddressSpace) -> Self {
        // The version first: a map that is newer than it claims is loaded once more, an older one never stays.
        let version = space.map_version();
        Self { version, map: space.map(), windows: [Window::default(); 2] }
    }

    /// Loads the map again if it has changed. After the generation was sampled.
    #[inline]
    pub fn refresh(&mut self, space: &AddressSpace) {
        if self.version != space.map_version() {
            *self = Self::new(space);
        }
    }

    /// Offset in the guest RAM of physical address `at`, and whether it is ROM; `None` for devices and gaps.
    #[inline]
    pub fn memory(&mut self, at: u64) -> Option<(u64, bool)> {
        for window in &self.windows {
            let skip = at.wrapping_sub(window.start);
            if skip < window.len {
                return Some((window.offset + skip, window.rom));
            }
        }
        self.search(at)
    }

    /// The page of guest RAM behind physical address `at`; `None` for ROM, devices and gaps.
    pub fn ram_page(&mut self, at: u64) -> Option<RamPage> {
        self.memory(at).filter(|(_, rom)| !rom).map(|(offset, _)| RamPage::containing(offset))
    }

    #[cold]
    fn search(&mut self, at: u64) -> Option<(u64, bool)> {
        let region = self.map.lookup(Gpa(at))?;
        let (offset, rom) = match region.kind {
            RegionKind::Ram { offset } => (offset, false),
            RegionKind::Rom { offset } => (offset, true),
            RegionKind::Mmio { .. } => return None,
        };
        self.windows[1] = self.windows[0];
        self.windows[0] = Window { start: region.start.0, len: region.len, offset, rom };
        Some((offset + (at - region.start.0), rom))
    }
}

/// Page tables through a view.
pub(crate) struct Tables<'a> {
    pub view: &'a mut View,
    pub space: &'a AddressSpace,
    pub directory: &'a mut Directory,
}

const DIRECTORY: usize = 512;
const STAMP_BITS: u32 = 20;

/// A paging-structure cache (SDM vol. 3, 4.10.3): which page table serves a 2 MiB range, and the rights so far, so that
/// most walks read one entry; or the large page that the range lies in, so that they read none. Forgotten at every
/// flush and INVLPG.
pub(crate) struct Directory {
    /// (gva >> 21) << 20 | stamp; then the entry, see [`TableMemory::remember`].
    ranges: Box<[(u64, u64); DIRECTORY]>,
    /// Entries with another stamp are forgotten. Never 0.
    stamp: u64,
}

impl Default for Directory {
    fn default() -> Self {
        Self { ranges: Box::new([(0, 0); DIRECTORY]), stamp: 1 }
    }
}

impl Directory {
    pub fn forget(&mut self) {
        self.stamp += 1;
        if self.stamp >> STAMP_BITS != 0 {
            *self = Self::default();
        }
    }

    #[inline]
    fn key(&self, gva: u64) -> (usize, u64) {
        let range = gva >> 21;
        (range as usize % DIRECTORY, range << STAMP_BITS | self.stamp)
    }
}

impl TableMemory for Tables<'_> {
    #[inline]
    fn recall(&mut self, gva: u64) -> Option<u64> {
        let (at, key) = self.directory.key(gva);
        let (found, entry) = self.directory.ranges[at];
        (found == key).then_some(entry)
    }

    #[inline]
    fn remember(&mut self, gva: u64, entry: u64) {
        let (at, key) = self.directory.key(gva);
        self.directory.ranges[at] = (key, entry);
    }

    #[inline]
    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64> {
        let (offset, _) = self.view.memory(at)?;
        // In bounds: maps are checked against the RAM when published, and regions are page aligned.
        debug_assert!(offset + u64::from(size) <= self.space.ram.len());
        let ptr = self.space.ram.base().wrapping_add(offset as usize);
        // SAFETY: inside guest RAM, as said above.
        Some(unsafe { if size == 4 { u32::load(ptr).into() } else { u64::load(ptr) } })
    }

    #[inline]
    fn ram_page(&mut self, at: u64) -> Option<RamPage> {
        self.view.ram_page(at)
    }

    #[cold]
    fn update_entry(&mut self, at: u64, size: u8, old: u64, new: u64) -> bool {
        match self.view.memory(at) {
            Some((offset, false)) => {
                let ptr = self.space.ram.base().wrapping_add(offset as usize);
                // SAFETY: inside guest RAM, as in `load_entry`; entries are aligned.
                unsafe { update_table_entry(&self.space.pages, ptr, offset, size, old, new) }
            }
            _ => true,
        }
    }
}

/// Page tables that nobody changes, for debuggers and reports: accessed and dirty bits stay as they are.
pub(crate) struct Untouched<'a> {
    pub space: &'a AddressSpace,
    /// Entries as they were read: address, value.
    pub seen: Vec<(u64, Option<u64>)>,
}

impl TableMemory for Untouched<'_> {
    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64> {
        let mut space = self.space;
        let entry = space.load_entry(at, size);
        self.seen.push((at, entry));
        entry
    }

    fn update_entry(&mut self, _at: u64, _size: u8, _old: u64, _new: u64) -> bool {
        true
    }
}
