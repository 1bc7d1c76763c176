//! A small machine for tests: RAM at 0, a ROM, a device, and page tables written as a guest would.
#![expect(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, Mmu, Paging, PagingContext, Region, RegionKind};

pub const P: u64 = 1;
pub const W: u64 = 2;
pub const U: u64 = 4;
pub const A: u64 = 0x20;
pub const D: u64 = 0x40;
pub const PS: u64 = 0x80;
pub const G: u64 = 0x100;
pub const XD: u64 = 1 << 63;

/// 16 MiB of RAM at 0.
pub const RAM: u64 = 16 << 20;
/// A ROM page region: 64 KiB, behind the RAM in the guest's memory.
pub const ROM: u64 = 0xf_0000_0000;
/// A device of one page.
pub const DEVICE: u64 = 0xfee0_0000;

pub fn region(start: u64, len: u64, kind: RegionKind) -> Region {
    Region { start: Gpa(start), len, kind }
}

pub fn regions() -> Vec<Region> {
    vec![
        region(0, RAM, RegionKind::Ram { offset: 0 }),
        region(ROM, 0x1_0000, RegionKind::Rom { offset: RAM }),
        region(DEVICE, 0x1000, RegionKind::Mmio { id: 7 }),
    ]
}

pub fn space() -> Arc<AddressSpace> {
    let ram = GuestRam::new(RAM + 0x1_0000).unwrap();
    AddressSpace::new(ram, MemoryMap::new(regions()).unwrap())
}

/// One that shadows page tables as soon as they are used.
pub fn eager_space() -> Arc<AddressSpace> {
    let space = space();
    space.shadow_after(1, 1);
    space
}

pub fn context(paging: Paging, cr3: u64) -> PagingContext {
    PagingContext {
        paging,
        cr3,
        pcid: 0,
        pkru: None,
        pdptes: [0; 4],
        wp: true,
        nxe: true,
        smep: false,
        smap: false,
        pge: true,
        a20_masked: false,
        gib_pages: true,
        phys_bits: 40,
    }
}

/// Builds 4-level tables from 1 MiB on.
pub struct Tables {
    pub space: Arc<AddressSpace>,
    next: u64,
    pub root: u64,
}

impl Tables {
    pub fn new(space: &Arc<AddressSpace>) -> Self {
        Self::at(space, 0x10_0000)
    }

    /// Tables from `root` on.
    pub fn at(space: &Arc<AddressSpace>, root: u64) -> Self {
        Self { space: Arc::clone(space), next: root + 0x1000, root }
    }

    /// Address of the entry of `gva` at `level` (1: PTE), with tables above it made as needed.
    pub fn entry(&mut self, gva: u64, level: u32) -> u64 {
        let mut table = self.root;
        let mut at = 4;
        loop {
            let entry = table + (gva >> (12 + 9 * (at - 1)) & 0x1ff) * 8;
            if at == level {
                return entry;
            }
            let mut value: u64 = self.space.load(Gpa(entry)).unwrap();
            if value & P == 0 {
                value = self.next | P | W | U | A;
                self.next += 0x1000;
                self.space.store(Gpa(entry), value).unwrap();
            }
            table = value & 0xf_ffff_ffff_f000;
            at -= 1;
        }
    }

    /// Maps one page at `level` with the given low and high bits.
    pub fn map(&mut self, gva: u64, level: u32, gpa: u64, bits: u64) {
        let at = self.entry(gva, level);
        self.space.store(Gpa(at), gpa | bits).unwrap();
    }

    pub fn pte(&mut self, gva: u64, level: u32) -> u64 {
        let at = self.entry(gva, level);
        self.space.load(Gpa(at)).unwrap()
    }
}

/// 4-level paging with these tables.
pub fn long_mode(tables: &Tables) -> Mmu {
    let mut mmu = Mmu::new(Arc::clone(&tables.space));
    mmu.set_paging(&context(Paging::Level4, tables.root), softmmu::Flush::All);
    mmu
}
