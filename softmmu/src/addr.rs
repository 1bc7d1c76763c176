//! Address and access types. Plain integers of different meaning never meet.

use std::fmt;

/// log2 of the guest's smallest page.
pub const PAGE_SHIFT: u32 = 12;
/// The guest's smallest page, in bytes. Independent of the host's page size.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Selects the page of an address: `address & PAGE_MASK`.
pub const PAGE_MASK: u64 = !(PAGE_SIZE - 1);

/// A guest physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gpa(pub u64);

/// A guest virtual (linear) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gva(pub u64);

impl fmt::Debug for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpa({:#x})", self.0)
    }
}

impl fmt::Debug for Gva {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gva({:#x})", self.0)
    }
}

/// Index of a 4 KiB page in [`GuestRam`](crate::GuestRam) (byte offset >> 12), not in the physical address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RamPage(pub u32);

impl RamPage {
    /// The page that holds byte `offset` of the guest RAM.
    pub fn containing(offset: u64) -> Self {
        Self((offset >> PAGE_SHIFT) as u32)
    }

    /// Byte offset of the page in the guest RAM.
    pub fn offset(self) -> u64 {
        u64::from(self.0) << PAGE_SHIFT
    }
}

/// What an access does; selects the tag of a TLB entry and the rules of the page walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    /// Data load.
    Read = 0,
    /// Data store, or the read of a read-modify-write (which faults as a write).
    Write = 1,
    /// Instruction fetch.
    Execute = 2,
}

/// Who accesses: the part of the CPU state that selects a TLB bank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Privilege {
    /// CPL < 3 with EFLAGS.AC = 0, and implicit supervisor accesses: SMAP is enforced.
    Supervisor = 0,
    /// CPL < 3 with EFLAGS.AC = 1: SMAP is off (SDM vol. 3, 4.6).
    SupervisorAc = 1,
    /// CPL = 3.
    User = 2,
}
