//! Guest memory, memory map, page walks and the software TLB.
//!
//! This crate knows no x86 register and no device. It turns a guest virtual address into a host address (fast), or into
//! a trap that the CPU side handles: a page fault, a device access, a split access.
//!
//! - [`AddressSpace`] is what all vCPUs and devices share: RAM, the published memory map, and the funnel through
//!   which every write goes, so that translated code and the dirty log never miss one.
//! - [`Mmu`] is one vCPU's: page walks, the TLB that generated code reads inline ([`layout`]), and the rules for what
//!   a slow entry means while other threads change maps and track pages.
//! - Behind the TLBs lie shadow page tables that all MMUs of a space share: what derives from them outlasts flushes, and goes when
//!   the guest's tables are stored to.
//! - The races between the two live in small modules that loom tests run as they are: the TLB's zaps and late fills,
//!   the map's generation, grace periods, page tracking, A/D updates.

mod access;
mod addr;
mod atomic;
mod bank;
mod contexts;
mod dma;
mod entry;
mod generation;
mod leaves;
mod map;
mod mmu;
mod quiesce;
mod ram;
mod shadow;
mod shadowed;
mod space;
pub mod steps;
mod sync;
mod tlb;
mod tracking;
mod view;
mod walk;
mod watch;

pub use addr::{Access, Gpa, Gva, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Privilege, RamPage};
pub use dma::{DmaMemory, DmaRegion, DmaSpace, Funnel};
pub use map::{MapError, MemoryMap, Region, RegionKind};
pub use mmu::{Counters, FetchPage, Flush, MemTrap, Mmu, Refused, layout};
pub use ram::{GuestInt, GuestRam, RamError};
pub use space::{AddressSpace, NotRam};
pub use tlb::{TLB_ENTRIES, TlbEntry};
pub use tracking::CodeWrite;
pub use walk::{PageFault, Paging, PagingContext, TableMemory, Translation, walk, walk_in};
pub use watch::WatchPoint;

/// The protocol core, for the loom tests.
#[cfg(loom)]
pub mod protocol {
    pub use crate::entry::{INVALID, MmioEntry, Seen, TRACKED, decode};
    pub use crate::generation::{Generation, Sample, Verdict};
    pub use crate::quiesce::{Presence, Quiescence, ThreadToken};
    pub use crate::shadow::{All, Derived, Role, Shadow, ShadowPage, Steps, ram as ram_word};
    pub use crate::tlb::{SharedTlb, Words};
    pub use crate::tracking::{CODE, DIRTY_LOG, Pages, TRACKED as TRACKED_PAGE};
}
