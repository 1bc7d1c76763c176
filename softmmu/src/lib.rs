//! Guest memory, memory map, page walks and the software TLB.
//!
//! This crate knows no x86 register and no device. It turns a guest virtual address into a host address (fast), or
//! into a trap that the CPU side handles: a page fault, a device access, a split access.

mod addr;
mod map;
mod mmu;
mod ram;
mod space;
mod walk;

pub use addr::{Access, Gpa, Gva, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Privilege, RamPage};
pub use map::{MapError, MemoryMap, Region, RegionKind};
pub use mmu::{FetchPage, Flush, MemTrap, Mmu, Refused, TLB_ENTRIES, TlbEntry};
pub use ram::{GuestInt, GuestRam, RamError};
pub use space::{AddressSpace, CodeWrite, NotRam};
pub use walk::{PageFault, Paging, PagingContext, Translation, walk};
