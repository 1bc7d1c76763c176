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
}
