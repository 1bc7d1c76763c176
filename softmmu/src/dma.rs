//! Guest RAM through the rust-vmm `vm-memory` traits, for virtio queues and other code written to them.
//!
//! Slices carry the funnel as their dirty bitmap, so what they write is noticed like any other write, and comes before what is
//! written later. What they read has the order that is asked of `vm-memory` (`load` with an `Ordering`). ROM is not in
//! these views: a slice cannot refuse a store. A view is of the map as it was when it was taken; [`DmaSpace`] gives
//! the current one.

#![expect(unsafe_code, reason = "makes volatile slices of guest RAM")]

use std::sync::Arc;

use arc_swap::ArcSwap;
use vm_memory::bitmap::{BS, Bitmap, BitmapSlice, WithBitmapSlice};
use vm_memory::{
    GuestAddress, GuestAddressSpace, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    GuestMemoryRegionBytes, GuestUsize, MemoryRegionAddress, VolatileSlice,
};

use crate::addr::{Gpa, RamPage};
use crate::map::RegionKind;
use crate::space::AddressSpace;

/// Tells the write funnel of what a slice wrote.
#[derive(Clone, Debug)]
pub struct Funnel {
    space: Arc<AddressSpace>,
    /// Byte offset in the guest RAM.
    offset: u64,
}

impl WithBitmapSlice<'_> for Funnel {
    type S = Self;
}

impl BitmapSlice for Funnel {}

impl Bitmap for Funnel {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.space.note_write(self.offset + offset as u64, len as u64);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.space.pages.is_dirty(RamPage::containing(self.offset + offset as u64))
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self { space: Arc::clone(&self.space), offset: self.offset + offset as u64 }
    }
}

/// One RAM region.
#[derive(Debug)]
pub struct DmaRegion {
    start: Gpa,
    len: u64,
    funnel: Funnel,
}

impl GuestMemoryRegion for DmaRegion {
    type B = Funnel;

    fn len(&self) -> GuestUsize {
        self.len
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start.0)
    }

    fn bitmap(&self) -> BS<'_, Funnel> {
        self.funnel.clone()
    }

    fn get_host_address(&self, at: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        Ok(self.get_slice(at, 1)?.ptr_guard_mut().as_ptr())
    }

    fn get_slice(
        &self,
        at: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, Funnel>, GuestMemoryError> {
        let inside = at.0.checked_add(count as u64).is_some_and(|end| end <= self.len);
        let host = self.funnel.space.ram.ptr(self.funnel.offset.wrapping_add(at.0), count as u64);
        let (true, Some(host)) = (inside, host) else {
            return Err(GuestMemoryError::InvalidBackendAddress);
        };
        // SAFETY: `count` bytes of guest RAM, which `self` keeps mapped; all accesses to it are volatile or atomic.
        Ok(unsafe { VolatileSlice::with_bitmap(host, count, self.funnel.slice_at(at.0 as usize), None) })
    }
}

impl GuestMemoryRegionBytes for DmaRegion {}

/// The RAM regions of one map.
#[derive(Debug)]
pub struct DmaMemory {
    regions: Vec<DmaRegion>,
    version: u64,
}

impl DmaMemory {
    fn new(space: &Arc<AddressSpace>) -> Self {
        // The version first: a view that is newer than it claims is made once more.
        let version = space.map_version();
        let region = |region: &crate::Region| match region.kind {
            RegionKind::Ram { offset } => Some(DmaRegion {
                start: region.start,
                len: region.len,
                funnel: Funnel { space: Arc::clone(space), offset },
            }),
            RegionKind::Rom { .. } | RegionKind::Mmio { .. } => None,
        };
        Self { regions: space.map().regions().iter().filter_map(region).collect(), version }
    }
}

impl GuestMemoryBackend for DmaMemory {
    type R = DmaRegion;

    fn find_region(&self, at: GuestAddress) -> Option<&DmaRegion> {
        let after = self.regions.partition_point(|region| region.start.0 <= at.0);
        let region = &self.regions[after.checked_sub(1)?];
        (at.0 - region.start.0 < region.len).then_some(region)
    }

    fn iter(&self) -> impl Iterator<Item = &DmaRegion> {
        self.regions.iter()
    }
}

/// An address space as devices written to `vm-memory` take it.
#[derive(Clone, Debug)]
pub struct DmaSpace {
    space: Arc<AddressSpace>,
    current: Arc<ArcSwap<DmaMemory>>,
}

impl DmaSpace {
    /// The RAM of `space`.
    pub fn new(space: &Arc<AddressSpace>) -> Self {
        Self { space: Arc::clone(space), current: Arc::new(ArcSwap::from_pointee(DmaMemory::new(space))) }
    }
}

impl GuestAddressSpace for DmaSpace {
    type M = DmaMemory;
    type T = Arc<DmaMemory>;

    fn memory(&self) -> Arc<DmaMemory> {
        let memory = self.current.load_full();
        if memory.version == self.space.map_version() {
            return memory;
        }
        let memory = Arc::new(DmaMemory::new(&self.space));
        self.current.store(Arc::clone(&memory));
        memory
    }
}
