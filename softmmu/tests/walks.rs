//! Page walks: exact error codes by example, and everything against a second, plain implementation of the manual's tables.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use softmmu::{
    Access, AddressSpace, Flush, Gpa, GuestRam, MemTrap, MemoryMap, Mmu, PageFault, Paging, PagingContext,
    Privilege, RegionKind, Translation, walk,
};
use support::*;

const ROOT: u64 = 0x1000;

fn small_space() -> Arc<AddressSpace> {
    let map = vec![region(0, 0x1_0000, RegionKind::Ram { offset: 0 })];
    AddressSpace::new(GuestRam::new(0x1_0000).unwrap(), MemoryMap::new(map).unwrap())
}

struct Case {
    space: Arc<AddressSpace>,
    ctx: PagingContext,
}

impl Case {
    fn new(paging: Paging) -> Self {
        Self { space: small_space(), ctx: context(paging, ROOT) }
    }

    fn put32(&self, at: u64, value: u32) -> &Self {
        self.space.store(Gpa(at), value).unwrap();
        self
    }

    fn put(&self, at: u64, value: u64) -> &Self {
        self.space.store(Gpa(at), value).unwrap();
        self
    }

    fn go(&self, privilege: Privilege, gva: u64, access: Access) -> Result<Translation, u32> {
        walk(&self.space, &self.ctx, privilege, gva, access).map_err(|fault| {
            assert_eq!(fault.gva, gva);
            fault.code
        })
    }

    fn code(&self, privilege: Privilege, gva: u64, access: Access) -> Option<u32> {
        self.go(privilege, gva, access).err()
    }
}

use Access::{Execute, Read, Write};
use Privilege::{Supervisor, SupervisorAc, User};

#[test]
fn bits32_small_and_large_pages() {
    let case = Case::new(Paging::Bits32 { pse: true });
    case.put32(0x1000, 0x2003).put32(0x2004, 0x5003).put32(0x1004, 0x0040_0083 | 0x20_0000);
    let t = case.go(Supervisor, 0x1abc, Write).unwrap();
    assert_eq!((t.gpa, t.page_size, t.writable, t.user), (Gpa(0x5abc), 4096, true, false));
    assert_eq!(case.space.load::<u32>(Gpa(0x1000)), Ok(0x2023));
    assert_eq!(case.space.load::<u32>(Gpa(0x2004)), Ok(0x5063));
    assert_eq!(case.code(Supervisor, 0x40_0000, Read), Some(9), "bit 21 of a 4 MiB PDE is reserved");
    // PSE-36: bits 20:13 are bits 39:32.
    case.put32(0x1004, 0x0040_0083 | 0xff << 13);
    assert_eq!(case.go(Supervisor, 0x51_2345, Read).unwrap().gpa, Gpa(0xff_0051_2345));
    assert_eq!(case.go(Supervisor, 0x51_2345, Read).unwrap().page_size, 4 << 20);
    let narrow = Case { ctx: PagingContext { phys_bits: 36, ..case.ctx }, space: case.space.clone() };
    assert_eq!(narrow.code(Supervisor, 0x51_2345, Write), Some(0xb));
    // Without PSE, bit 7 means nothing.
    let plain = Case {
        ctx: PagingContext { paging: Paging::Bits32 { pse: false }, ..case.ctx },
        space: case.space.clone(),
    };
    plain.put32(0x1000, 0x2083);
    assert_eq!(plain.go(Supervisor, 0x1abc, Read).unwrap().gpa, Gpa(0x5abc));
    // 64-bit entries are not read: a present neighbour does not matter.
    assert_eq!(case.code(Supervisor, 0x80_0000, Write), Some(2));
}

#[test]
fn error_codes() {
    let mut case = Case::new(Paging::Level4);
    case.put(0x1000, 0x2007).put(0x2000, 0x3007).put(0x3000, 0x4007);
    case.put(0x4000, 0x5007).put(0x4008, 0x5001).put(0x4010, 0x5003 | XD).put(0x4018, 1 << 45 | 0x5007);
    case.put(0x4020, 0x5005);
    assert_eq!(case.code(User, 0, Write), None);
    assert_eq!(case.code(User, 0x5000, Read), Some(4));
    assert_eq!(case.code(User, 0x5000, Write), Some(6));
    assert_eq!(case.code(User, 0x5000, Execute), Some(0x14));
    assert_eq!(case.code(Supervisor, 0x5000, Write), Some(2));
    assert_eq!(case.code(User, 0x1000, Read), Some(5));
    assert_eq!(case.code(User, 0x1000, Write), Some(7));
    assert_eq!(case.code(Supervisor, 0x1000, Write), Some(3));
    assert_eq!(case.code(Supervisor, 0x2000, Execute), Some(0x11));
    assert_eq!(case.code(User, 0x2000, Execute), Some(0x15));
    assert_eq!(case.code(User, 0x3000, Read), Some(0xd), "bits at and above MAXPHYADDR");
    assert_eq!(case.code(Supervisor, 0x3000, Write), Some(0xb));
    assert_eq!(case.code(User, 0x4000, Write), Some(7));
    case.ctx.wp = false;
    assert_eq!(case.code(Supervisor, 0x1000, Write), None);
    assert_eq!(case.code(User, 0x4000, Write), Some(7), "WP is about supervisors");
    // Without NXE bit 63 is reserved, and fetches are not reported unless SMEP is on.
    case.ctx.nxe = false;
    assert_eq!(case.code(Supervisor, 0x2000, Read), Some(9));
    assert_eq!(case.code(User, 0x5000, Execute), Some(4));
    case.ctx.smep = true;
    assert_eq!(case.code(User, 0x5000, Execute), Some(0x14));
    assert_eq!(case.code(Supervisor, 0, Execute), Some(0x11));
    case.ctx.smap = true;
    assert_eq!(case.code(Supervisor, 0, Read), Some(1));
    assert_eq!(case.code(Supervisor, 0, Write), Some(3));
    assert_eq!(case.code(SupervisorAc, 0, Write), None);
    assert_eq!(case.code(SupervisorAc, 0, Execute), Some(0x11), "AC does not lift SMEP");
}

#[test]
fn fetches_are_not_reported_in_32_bit_paging_without_smep() {
    let mut case = Case::new(Paging::Bits32 { pse: true });
    assert_eq!(case.code(User, 0, Execute), Some(4), "NXE does not count without PAE");
    case.ctx.smep = true;
    assert_eq!(case.code(User, 0, Execute), Some(0x14));
}

#[test]
fn pae() {
    let mut case = Case::new(Paging::Pae);
    case.ctx.pdptes = [0x2001, 0, 0x3001, 0];
    case.put(0x2000, 0x4007).put(0x4000, 0x5007).put(0x2008, 0x80_0087).put(0x3000, 0x87 | 1 << 13);
    assert_eq!(case.go(User, 0x123, Write).unwrap().gpa, Gpa(0x5123));
    let t = case.go(User, 0x20_1234, Read).unwrap();
    assert_eq!((t.gpa, t.page_size), (Gpa(0x80_1234), 2 << 20));
    assert!(!t.writable, "not dirty yet");
    assert_eq!(case.code(User, 0x4000_0000, Read), Some(4));
    assert_eq!(case.code(User, 0x8000_0000, Read), Some(0xd), "bit 13 of a 2 MiB PDE");
    for bit in [40, 51, 52, 62] {
        case.put(0x4000, 0x5007 | 1 << bit);
        assert_eq!(case.code(User, 0, Read), Some(0xd), "bit {bit}");
    }
    // Addresses have 32 bits.
    case.put(0x4000, 0x5007);
    assert_eq!(case.go(User, 1 << 32 | 0x123, Read).unwrap().gpa, Gpa(0x5123));
}

#[test]
fn long_mode_sizes() {
    let mut case = Case::new(Paging::Level4);
    case.put(0x1000, 0x2007).put(0x2000, 0x4000_0087).put(0x2008, 0x3007).put(0x3000, 0x20_0087 | 1 << 12);
    let t = case.go(User, 0x1234_5678, Write).unwrap();
    assert_eq!((t.gpa, t.page_size, t.writable), (Gpa(0x5234_5678), 1 << 30, true));
    let t = case.go(User, 0x4012_3456, Read).unwrap();
    assert_eq!((t.gpa, t.page_size), (Gpa(0x32_3456), 2 << 20), "bit 12 is PAT");
    case.put(0x3000, 0x20_0087 | 1 << 20);
    assert_eq!(case.code(User, 0x4012_3456, Read), Some(0xd));
    case.put(0x2000, 0x4000_0087 | 1 << 29);
    assert_eq!(case.code(User, 0, Read), Some(0xd));
    case.put(0x2000, 0x4000_0087);
    case.ctx.gib_pages = false;
    assert_eq!(case.code(User, 0, Read), Some(0xd));
    case.put(0x1000, 0x2087);
    assert_eq!(case.code(User, 0x4012_3456, Read), Some(0xd), "bit 7 of a PML4E");
    case.put(0x1000, 0x2007 | 0x7ff << 52);
    case.put(0x3000, 0x20_0087);
    assert_eq!(case.code(User, 0x4012_3456, Read), None, "bits 62:52 are ignored");

    let mut five = Case { ctx: context(Paging::Level5, 0x6000), space: case.space.clone() };
    five.put(0x6000 + 8 * 3, 0x1007);
    assert_eq!(five.go(User, 3 << 48 | 0x4012_3456, Read).unwrap().gpa, Gpa(0x32_3456));
    five.put(0x6000 + 8 * 3, 0x1087);
    assert_eq!(five.code(User, 3 << 48 | 0x4012_3456, Read), Some(0xd));
    five.ctx.cr3 |= 0xfff;
    assert_eq!(five.code(User, 4 << 48, Read), Some(4), "flag bits of CR3 are no address");
}

#[test]
fn faulting_walks_leave_accessed_and_dirty_alone() {
    let case = Case::new(Paging::Level4);
    case.put(0x1000, 0x2007).put(0x2000, 0x3007).put(0x3000, 0x4007).put(0x4000, 0x5005);
    assert_eq!(case.code(User, 0, Write), Some(7));
    for (at, entry) in [(0x1000, 0x2007u64), (0x2000, 0x3007), (0x3000, 0x4007), (0x4000, 0x5005)] {
        assert_eq!(case.space.load::<u64>(Gpa(at)), Ok(entry));
    }
}

#[test]
fn tables_in_strange_places() {
    // A root beyond memory, tables in a device, in ROM, in themselves.
    let space = space();
    let mut ctx = context(Paging::Level4, 0x80_0000_0000 - 0x1000);
    assert_eq!(walk(&space, &ctx, User, 0, Read), Err(PageFault { gva: 0, code: 4 }));
    ctx.cr3 = DEVICE;
    assert_eq!(walk(&space, &ctx, Supervisor, 0, Write), Err(PageFault { gva: 0, code: 2 }));
    ctx.cr3 = 0xf_ffff_ffff_f000;
    assert_eq!(walk(&space, &ctx, Supervisor, 0, Read), Err(PageFault { gva: 0, code: 0 }));
    ctx.cr3 = ROM;
    space.load_rom(RAM, &(ROM | 7).to_le_bytes());
    let t = walk(&space, &ctx, User, 0x123, Write).unwrap();
    assert_eq!(t.gpa, Gpa(ROM + 0x123));
    assert_eq!(space.load::<u64>(Gpa(ROM)), Ok(ROM | 7), "ROM has no accessed bits");
    // A root that is every level, and the page as well.
    ctx.cr3 = 0x3000;
    space.store(Gpa(0x3000), 0x3007u64).unwrap();
    space.store(Gpa(0x3ff8), 0x3007u64).unwrap();
    let mut mmu = Mmu::new(space.clone());
    mmu.set_paging(&ctx, Flush::All);
    mmu.select(User);
    mmu.write(0x008, 0x3087u64).unwrap();
    assert_eq!(mmu.read::<u64>(0), Ok(0x3067), "accessed four times, dirty once");
    assert_eq!(mmu.read::<u64>(0xffff_ffff_ffff_f000 + 8), Ok(0x3087));
    assert_eq!(mmu.read::<u64>(0x20_0000), Err(MemTrap::Page(PageFault { gva: 0x20_0000, code: 0xd })));
    mmu.write(0, 0u64).unwrap();
    mmu.invlpg(0);
    assert_eq!(mmu.read::<u64>(0), Err(MemTrap::Page(PageFault { gva: 0, code: 4 })));
}

/// What the manual says, level by level, without regard to speed. `entries` is RAM as 64-bit words.
fn reference(
    ram: &[u64],
    ctx: &PagingContext,
    privilege: Privilege,
    gva: u64,
    access: Access,
) -> (Result<Translation, u32>, Vec<u64>) {
    let mut after = ram.to_vec();
    let (levels, index_bits, wide) = match ctx.paging {
        Paging::None => unreachable!(),
        Paging::Bits32 { .. } => (2, 10, false),
        Paging::Pae => (2, 9, true),
        Paging::Level4 => (4, 9, true),
        Paging::Level5 => (5, 9, true),
    };
    let long = levels > 2;
    let gva = if long { gva } else { gva & 0xffff_ffff };
    let user = privilege == User;
    let mut code = if user { 4 } else { 0 };
    if access == Write {
        code |= 2;
    }
    if access == Execute && (ctx.smep || ctx.nxe && wide) {
        code |= 16;
    }
    let phys = (1u64 << ctx.phys_bits) - 1;
    let mut table = if wide { ctx.cr3 & 0xf_ffff_ffff_f000 & phys } else { ctx.cr3 & 0xffff_f000 };
    if ctx.paging == Paging::Pae {
        let pdpte = ctx.pdptes[(gva >> 30) as usize & 3];
        if pdpte & 1 == 0 {
            return (Err(code), after);
        }
        table = pdpte & 0xf_ffff_ffff_f000;
    }
    let (mut writable, mut user_page, mut nx) = (true, true, false);
    let mut used = Vec::new();
    for level in (1..=levels).rev() {
        let shift = 12 + index_bits * (level - 1);
        let index = (gva >> shift) & ((1 << index_bits) - 1);
        let at = table + index * if wide { 8 } else { 4 };
        let Some(&word) = ram.get(at as usize / 8) else { return (Err(code), after) };
        let entry = if wide { word } else { word >> (at % 8 * 8) & 0xffff_ffff };
        if entry & 1 == 0 {
            return (Err(code), after);
        }
        let may_be_large = match (ctx.paging, level) {
            (Paging::Bits32 { pse }, 2) => pse,
            (Paging::Bits32 { .. }, _) => false,
            (_, 2) => true,
            (_, 3) => ctx.gib_pages,
            _ => false,
        };
        let large = entry & 0x80 != 0 && may_be_large;
        let mut reserved = 0;
        if wide {
            reserved |= !phys & 0xf_ffff_ffff_f000;
            if !ctx.nxe {
                reserved |= XD;
            }
            if ctx.paging == Paging::Pae {
                reserved |= 0x7ff << 52;
            }
            if long && level > 1 && !may_be_large {
                reserved |= 0x80;
            }
            if large {
                reserved |= ((1 << shift) - 1) & !0x1fff;
            }
        } else if large {
            reserved |= 1 << 21;
            for bit in 13..=20 {
                // Bit 13 is address bit 32.
                if bit - 13 + 32 >= ctx.phys_bits {
                    reserved |= 1 << bit;
                }
            }
        }
        if entry & reserved != 0 {
            return (Err(code | 9), after);
        }
        writable &= entry & 2 != 0;
        user_page &= entry & 4 != 0;
        nx |= wide && entry & XD != 0;
        used.push((at, entry));
        if !large && level > 1 {
            table = entry & 0xf_ffff_ffff_f000;
            continue;
        }
        let smap = ctx.smap && privilege == Supervisor && user_page;
        let can = |access| match (access, user) {
            (Read, true) => user_page,
            (Write, true) => user_page && writable,
            (Execute, true) => user_page && !nx,
            (Read, false) => !smap,
            (Write, false) => !smap && (writable || !ctx.wp),
            (Execute, false) if ctx.smep && user_page => false,
            (Execute, false) => !nx,
        };
        if !can(access) {
            return (Err(code | 1), after);
        }
        for (at, _) in &used {
            let leaf = *at == used.last().unwrap().0 && access == Write;
            let set = 0x20 | if leaf { 0x40 } else { 0 };
            after[*at as usize / 8] |= set << (if wide { 0 } else { at % 8 * 8 });
        }
        let size = 1u64 << shift;
        let mut frame = entry & 0xf_ffff_ffff_f000 & !(size - 1);
        if large && !wide {
            frame |= (entry >> 13 & 0xff) << 32;
        }
        return (
            Ok(Translation {
                gpa: Gpa(frame | gva & (size - 1)),
                page_size: size,
                readable: can(Read),
                writable: can(Write) && (entry & 0x40 != 0 || access == Write),
                executable: can(Execute),
                user: user_page,
                global: ctx.pge && entry & 0x100 != 0,
            }),
            after,
        );
    }
    unreachable!()
}

/// Entries that mostly point to tables among the 16 pages of RAM, with any bit set now and then.
fn entry() -> impl Strategy<Value = u64> {
    let noise = prop_oneof![6 => Just(0u64), 2 => (0..64u32).prop_map(|bit| 1 << bit), 1 => any::<u64>()];
    (0..17u64, any::<u16>(), prop::bool::weighted(0.9), prop::bool::weighted(0.25), noise).prop_map(
        |(page, low, present, large, noise)| {
            let low = u64::from(low) & 0xf7e & !PS;
            (page << 12 | low | u64::from(present) | if large { PS } else { 0 }) ^ noise
        },
    )
}

/// Few indices per level, so that walks meet entries.
fn address() -> impl Strategy<Value = u64> {
    (prop::collection::vec(0..3u64, 5), 0..4096u64, any::<bool>(), 0..4u64).prop_map(
        |(index, offset, high, quarter)| {
            let low = index.iter().enumerate().fold(offset, |gva, (level, i)| gva | i << (12 + 9 * level));
            if high { low | !0 << 57 | 0x1ff << 48 } else { low | quarter << 30 }
        },
    )
}

fn any_context() -> impl Strategy<Value = PagingContext> {
    let paging = prop_oneof![
        any::<bool>().prop_map(|pse| Paging::Bits32 { pse }),
        Just(Paging::Pae),
        Just(Paging::Level4),
        Just(Paging::Level5)
    ];
    (paging, any::<[bool; 6]>(), 32..=52u8, 0..16u64, prop::array::uniform4(entry())).prop_map(
        |(paging, [wp, nxe, smep, smap, pge, gib_pages], phys_bits, root, pdptes)| PagingContext {
            paging,
            cr3: root << 12,
            pcid: 0,
            pkru: None,
            pdptes,
            wp,
            nxe,
            smep,
            smap,
            pge,
            a20_masked: false,
            gib_pages,
            phys_bits,
        },
    )
}

fn canonical(ctx: &PagingContext, gva: u64) -> u64 {
    let unused = match ctx.paging {
        Paging::Level4 => 16,
        Paging::Level5 => 7,
        _ => return gva & 0xffff_ffff,
    };
    ((gva << unused) as i64 >> unused) as u64
}

fn accesses() -> impl Strategy<Value = (Privilege, Access)> {
    (
        prop_oneof![Just(Supervisor), Just(SupervisorAc), Just(User)],
        prop_oneof![Just(Read), Just(Write), Just(Execute)],
    )
}

fn fill(space: &AddressSpace, entries: &[u64]) -> Vec<u64> {
    // Entries 0..4 and the last of each page.
    let mut ram = vec![0u64; 0x2000];
    for (i, entry) in entries.iter().enumerate() {
        let (page, slot) = (i / 5, [0, 1, 2, 3, 511][i % 5]);
        ram[page * 512 + slot] = *entry;
    }
    for (i, word) in ram.iter().enumerate() {
        space.store(Gpa(i as u64 * 8), *word).unwrap();
    }
    ram
}

fn contents(space: &AddressSpace) -> Vec<u64> {
    (0..0x2000).map(|i| space.load(Gpa(i * 8)).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn walks_agree_with_the_manual(
        entries in prop::collection::vec(entry(), 80),
        ctx in any_context(),
        tries in prop::collection::vec((address(), accesses()), 1..20),
    ) {
        let space = small_space();
        let mut ram = fill(&space, &entries);
        for (gva, (privilege, access)) in tries {
            let gva = canonical(&ctx, gva);
            let (expected, after) = reference(&ram, &ctx, privilege, gva, access);
            let found = walk(&space, &ctx, privilege, gva, access).map_err(|fault| fault.code);
            prop_assert_eq!(found, expected);
            ram = after;
            prop_assert_eq!(contents(&space), &ram[..]);
        }
    }

    /// The same through the TLB and the paging-structure cache, with the architecture's flushes after each change.
    #[test]
    fn cached_translations_agree(
        entries in prop::collection::vec(entry(), 80),
        ctx in any_context(),
        tries in prop::collection::vec((address(), accesses(), prop::option::weighted(0.2, (0..80usize, entry()))), 1..40),
    ) {
        let space = small_space();
        let mut ram = fill(&space, &entries);
        let mut mmu = Mmu::new(space.clone());
        mmu.set_paging(&ctx, Flush::All);
        for (gva, (privilege, access), change) in tries {
            if let Some((i, entry)) = change {
                let at = (i / 5 * 512 + [0, 1, 2, 3, 511][i % 5]) as u64 * 8;
                space.store(Gpa(at), entry).unwrap();
                mmu.flush(Flush::All);
            }
            // What is cached may differ from the tables only in bits that a walk sets or that need no flush.
            ram = contents(&space);
            let gva = canonical(&ctx, gva) & !7;
            let (expected, _) = reference(&ram, &ctx, privilege, gva, access);
            mmu.select(privilege);
            let found = match access {
                Read => mmu.read::<u64>(gva).map(drop),
                Write => mmu.rmw(gva, |x: u64| x).map(drop),
                Execute => mmu.fetch(gva).map(drop),
            };
            match expected {
                Err(code) => prop_assert_eq!(found, Err(MemTrap::Page(PageFault { gva, code }))),
                Ok(t) if t.gpa.0 < 0x1_0000 => {
                    prop_assert_eq!(&found, &Ok(()));
                    if access == Read {
                        prop_assert_eq!(mmu.read::<u64>(gva), space.load::<u64>(t.gpa).map_err(|_| MemTrap::Split));
                    }
                }
                Ok(t) => prop_assert_eq!(found, Err(MemTrap::Mmio { gpa: t.gpa })),
            }
        }
        let _ = ram;
    }
}
