//! The memory map: an immutable, sorted, flat view of the guest physical address space.
//!
//! RAM and ROM regions start and end on 4 KiB boundaries and regions do not overlap, so every page is of one kind:
//! RAM, ROM, or not memory (devices and gaps in any mixture; the access traps with its exact address).

use crate::addr::{Gpa, PAGE_SIZE};

/// What a region is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// Readable and writable memory at `offset` in the guest RAM.
    Ram {
        /// Byte offset in the guest RAM.
        offset: u64,
    },
    /// Readable memory at `offset` in the guest RAM; writes trap as MMIO.
    Rom {
        /// Byte offset in the guest RAM.
        offset: u64,
    },
    /// A device; `id` is the board's. Gaps behave as id `u32::MAX`.
    Mmio {
        /// The board's name for the device window.
        id: u32,
    },
}

/// One contiguous range of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First address.
    pub start: Gpa,
    /// Bytes; not 0.
    pub len: u64,
    /// What is there.
    pub kind: RegionKind,
}

/// Why regions do not form a map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Empty, or past the end of the 52-bit physical address space.
    #[error("region at {0:#x}, {1:#x} bytes: empty or beyond the 52-bit physical address space")]
    Range(u64, u64),
    /// RAM or ROM that is not page aligned.
    #[error("memory region at {0:#x}: start, length and offset must be multiples of 4096")]
    Unaligned(u64),
    /// Two regions overlap.
    #[error("regions at {0:#x} and {1:#x} overlap")]
    Overlap(u64, u64),
}

/// Sorted, non-overlapping regions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryMap {
    regions: Box<[Region]>,
}

impl MemoryMap {
    /// Sorts and checks.
    pub fn new(mut regions: Vec<Region>) -> Result<Self, MapError> {
        regions.sort_by_key(|r| r.start);
        for r in &regions {
            let end = r.start.0.checked_add(r.len);
            if r.len == 0 || end.is_none_or(|end| end > 1 << 52) {
                return Err(MapError::Range(r.start.0, r.len));
            }
            if let RegionKind::Ram { offset } | RegionKind::Rom { offset } = r.kind
                && (r.start.0 | r.len | offset) % PAGE_SIZE != 0
            {
                return Err(MapError::Unaligned(r.start.0));
            }
        }
        for pair in regions.windows(2) {
            if pair[0].start.0 + pair[0].len > pair[1].start.0 {
                return Err(MapError::Overlap(pair[0].start.0, pair[1].start.0));
            }
        }
        Ok(Self { regions: regions.into() })
    }

    /// The region that holds `at`; `None` in a gap.
    pub fn lookup(&self, at: Gpa) -> Option<&Region> {
        let after = self.regions.partition_point(|r| r.start <= at);
        let region = self.regions.get(after.checked_sub(1)?)?;
        (at.0 - region.start.0 < region.len).then_some(region)
    }

    /// All regions, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Offset in the guest RAM of `at` and the bytes up to the end of its region, when `at` is RAM (or ROM, when
    /// `writing` is false).
    pub(crate) fn memory(&self, at: Gpa, writing: bool) -> Option<(u64, u64)> {
        let region = self.lookup(at)?;
        let skip = at.0 - region.start.0;
        match region.kind {
            RegionKind::Ram { offset } => Some((offset + skip, region.len - skip)),
            RegionKind::Rom { offset } if !writing => Some((offset + skip, region.len - skip)),
            _ => None,
        }
    }

    /// The region at `at`, or the gap: what memory it gives, and where it ends.
    fn segment(&self, at: u64) -> (Option<RegionKind>, u64) {
        let after = self.regions.partition_point(|r| r.start.0 <= at);
        let next = self.regions.get(after).map_or(u64::MAX, |r| r.start.0);
        match after.checked_sub(1).map(|i| &self.regions[i]).filter(|r| at - r.start.0 < r.len) {
            None => (None, next),
            Some(region) => {
                let skip = at - region.start.0;
                let kind = match region.kind {
                    RegionKind::Ram { offset } => Some(RegionKind::Ram { offset: offset + skip }),
                    RegionKind::Rom { offset } => Some(RegionKind::Rom { offset: offset + skip }),
                    RegionKind::Mmio { .. } => None,
                };
                (kind, region.start.0 + region.len)
            }
        }
    }

    /// Ranges of guest RAM (byte offsets) that this map shows somewhere where `new` shows something else.
    pub(crate) fn memory_changed_in(&self, new: &Self) -> Vec<std::ops::Range<u64>> {
        let mut changed = Vec::new();
        for region in &self.regions {
            let mut at = region.start.0;
            while at < region.start.0 + region.len {
                let (old_kind, old_end) = self.segment(at);
                let (new_kind, new_end) = new.segment(at);
                let end = old_end.min(new_end);
                if let Some(RegionKind::Ram { offset } | RegionKind::Rom { offset }) = old_kind
                    && old_kind != new_kind
                {
                    changed.push(offset..offset + (end - at));
                }
                at = end;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, len: u64, kind: RegionKind) -> Region {
        Region { start: Gpa(start), len, kind }
    }

    #[test]
    fn looks_up() {
        let map = MemoryMap::new(vec![
            region(0xfee0_0000, 0x10, RegionKind::Mmio { id: 3 }),
            region(0, 0x4000, RegionKind::Ram { offset: 0x1000 }),
            region(0x4000, 0x1000, RegionKind::Rom { offset: 0 }),
        ])
        .unwrap();
        assert_eq!(map.memory(Gpa(0x3ff8), true), Some((0x4ff8, 8)));
        assert_eq!(map.memory(Gpa(0x4000), false), Some((0, 0x1000)));
        assert_eq!(map.memory(Gpa(0x4000), true), None);
        assert_eq!(map.lookup(Gpa(0x5000)), None);
        assert_eq!(map.lookup(Gpa(0xfee0_000f)).unwrap().kind, RegionKind::Mmio { id: 3 });
        assert_eq!(map.lookup(Gpa(0xfee0_0010)), None);
        assert_eq!(map.lookup(Gpa(u64::MAX)), None);
    }

    #[test]
    fn refuses() {
        let ram = RegionKind::Ram { offset: 0 };
        assert_eq!(MemoryMap::new(vec![region(0, 0, ram)]), Err(MapError::Range(0, 0)));
        assert!(matches!(MemoryMap::new(vec![region(1 << 52, 1 << 12, ram)]), Err(MapError::Range(..))));
        assert!(matches!(MemoryMap::new(vec![region(u64::MAX - 1, 4, ram)]), Err(MapError::Range(..))));
        assert_eq!(MemoryMap::new(vec![region(0x800, 0x1000, ram)]), Err(MapError::Unaligned(0x800)));
        let two = vec![region(0, 0x2000, ram), region(0x1000, 0x1000, ram)];
        assert_eq!(MemoryMap::new(two), Err(MapError::Overlap(0, 0x1000)));
    }

    #[test]
    fn changes() {
        let ram = |start, len, offset| region(start, len, RegionKind::Ram { offset });
        let old = MemoryMap::new(vec![ram(0, 0x10000, 0), ram(0x10_0000, 0x1000, 0x20000)]).unwrap();
        assert_eq!(old.memory_changed_in(&old), []);
        let split = MemoryMap::new(vec![ram(0, 0x8000, 0), ram(0x8000, 0x8000, 0x8000)]).unwrap();
        assert!(old.memory_changed_in(&split).into_iter().eq(std::iter::once(0x20000..0x21000)));
        let hole = MemoryMap::new(vec![
            ram(0, 0x4000, 0),
            region(0x4000, 0x1000, RegionKind::Rom { offset: 0x4000 }),
            region(0x5000, 0x10, RegionKind::Mmio { id: 1 }),
            ram(0x6000, 0xa000, 0x6000),
            ram(0x10_0000, 0x1000, 0x20000),
        ])
        .unwrap();
        assert_eq!(old.memory_changed_in(&hole), [0x4000..0x5000, 0x5000..0x5010, 0x5010..0x6000]);
    }
}
