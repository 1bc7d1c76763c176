//! The TLB as the architecture's: what hits, what is flushed, what an access at an edge does.

mod support;

use std::sync::Arc;

use softmmu::{Access, AddressSpace, Flush, Gpa, MemTrap, PageFault, Paging, Privilege, TLB_ENTRIES};
use support::*;

#[test]
fn loads_and_stores_without_paging() {
    let space = space();
    let mut mmu = softmmu::Mmu::new(space.clone());
    mmu.write(0x1234, 0x1122_3344_5566_7788u64).unwrap();
    assert_eq!(mmu.read::<u8>(0x1234).unwrap(), 0x88);
    assert_eq!(mmu.read::<u16>(0x1235).unwrap(), 0x6677);
    assert_eq!(mmu.read::<u32>(0x1237).unwrap(), 0x2233_4455);
    assert_eq!(space.load::<u64>(Gpa(0x1234)).unwrap(), 0x1122_3344_5566_7788);
    assert_eq!(mmu.counters().walks, 1, "the loads hit");
    assert_eq!(mmu.read::<u32>(DEVICE + 0x20), Err(MemTrap::Mmio { gpa: Gpa(DEVICE + 0x20) }));
    assert_eq!(mmu.write(0x8000_0000, 1u8), Err(MemTrap::Mmio { gpa: Gpa(0x8000_0000) }), "a gap");
    // Linear addresses have 32 bits: an access across the top goes on at 0.
    assert_eq!(mmu.read::<u16>(0xffff_ffff), Err(MemTrap::Split));
}

#[test]
fn crossing_accesses() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W);
    tables.map(0x2000, 1, 0x30_0000, P | W);
    tables.map(0x3000, 1, DEVICE, P | W);
    tables.map(0x4000, 1, 0x40_0000, P);
    let mut mmu = long_mode(&tables);
    mmu.write(0x1ffd, 0x1122_3344_5566_7788u64).unwrap();
    assert_eq!(mmu.read::<u64>(0x1ffd).unwrap(), 0x1122_3344_5566_7788);
    assert_eq!(space.load::<u16>(Gpa(0x20_0ffe)).unwrap(), 0x6677);
    assert_eq!(space.load::<u32>(Gpa(0x30_0000)).unwrap(), 0x2233_4455);
    assert_eq!(mmu.read::<u32>(0x2ffe), Err(MemTrap::Split), "the second half is a device");
    assert_eq!(mmu.write(0x3ffe, 1u32), Err(MemTrap::Page(PageFault { gva: 0x4000, code: 3 })));
    assert_eq!(mmu.read::<u32>(0xffe), Err(MemTrap::Page(PageFault { gva: 0xffe, code: 0 })));
    assert_eq!(mmu.write(0x2ffe, !0u32), Err(MemTrap::Split));
    assert_eq!(space.load::<u16>(Gpa(0x30_0ffe)).unwrap(), 0, "nothing was written");
    mmu.write128(0x1ff8, 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10).unwrap();
    assert_eq!(mmu.read128(0x1ff8).unwrap(), 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    assert_eq!(mmu.read128(0x2ff8), Err(MemTrap::Split));
    assert_eq!(mmu.probe(0x1000, 0x2000, Access::Write), Ok(()));
    assert_eq!(mmu.probe(0x1000, 0x2001, Access::Write), Err(MemTrap::Split));
    assert_eq!(
        mmu.probe(0x1000, 0x3001, Access::Write),
        Err(MemTrap::Page(PageFault { gva: 0x4000, code: 3 }))
    );
}

#[test]
fn dirty_is_set_before_a_fast_store() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W);
    let mut mmu = long_mode(&tables);
    mmu.read::<u64>(0x1000).unwrap();
    assert_eq!(tables.pte(0x1000, 1) & (A | D), A);
    mmu.write(0x1000, 1u8).unwrap();
    assert_eq!(tables.pte(0x1000, 1) & (A | D), A | D);
    assert_eq!(mmu.counters().walks, 2);
    mmu.write(0x1000, 1u8).unwrap();
    assert_eq!(mmu.counters().walks, 2);
}

#[test]
fn flushes_keep_global_pages() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W | G);
    tables.map(0x2000, 1, 0x20_1000, P | W);
    let mut mmu = long_mode(&tables);
    let touch = |mmu: &mut softmmu::Mmu| {
        let before = mmu.counters().walks;
        mmu.read::<u8>(0x1000).unwrap();
        mmu.read::<u8>(0x2000).unwrap();
        mmu.counters().walks - before
    };
    assert_eq!(touch(&mut mmu), 2);
    mmu.flush(Flush::NonGlobal);
    assert_eq!(touch(&mut mmu), 1);
    mmu.flush(Flush::All);
    assert_eq!(touch(&mut mmu), 2);
    mmu.flush(Flush::None);
    assert_eq!(touch(&mut mmu), 0);
    mmu.invlpg(0x1fff);
    assert_eq!(touch(&mut mmu), 1, "INVLPG takes global pages too");
    // A slot that held a global page, then another page, then is flushed.
    let alias = 0x1000 + ((TLB_ENTRIES as u64) << 12);
    tables.map(alias, 1, 0x20_2000, P | W);
    mmu.read::<u8>(alias).unwrap();
    mmu.flush(Flush::NonGlobal);
    let before = mmu.counters().walks;
    mmu.read::<u8>(alias).unwrap();
    assert_eq!(mmu.counters().walks - before, 1);
    // And the other way round.
    mmu.read::<u8>(0x1000).unwrap();
    mmu.flush(Flush::NonGlobal);
    let before = mmu.counters().walks;
    mmu.read::<u8>(0x1000).unwrap();
    assert_eq!(mmu.counters().walks, before);
    mmu.flush(Flush::All);
    mmu.read::<u8>(0x1000).unwrap();
    assert_eq!(mmu.counters().walks, before + 1);
}

/// A long mixture of fills and flushes against a model of what an architectural TLB may still hold.
#[test]
fn flushed_translations_are_never_used() {
    for space in [space(), eager_space()] {
        flushed_are_not_used_in(&space);
    }
}

fn flushed_are_not_used_in(space: &Arc<AddressSpace>) {
    let mut tables = Tables::new(space);
    let slots = (TLB_ENTRIES as u64) << 12;
    let pages: Vec<u64> = (0..12).map(|i| 0x1000 * (1 + i % 4) + slots * (i / 4)).collect();
    let mut mmu = long_mode(&tables);
    let mut seed = 1u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    // Frame of each page, and since when that is what the tables say without a flush for it.
    let mut frame = [0u64; 12];
    let mut global = [false; 12];
    for (i, page) in pages.iter().enumerate() {
        global[i] = i.is_multiple_of(3);
        frame[i] = i as u64;
        tables.map(*page, 1, 0x40_0000 + frame[i] * 0x1000, P | W | if global[i] { G } else { 0 });
    }
    for f in 0..64u64 {
        space.store(Gpa(0x40_0000 + f * 0x1000), f).unwrap();
    }
    for _ in 0..20_000 {
        let i = random(12) as usize;
        match random(8) {
            0 => {
                frame[i] = random(64);
                global[i] = random(2) == 0;
                let bits = P | W | if global[i] { G } else { 0 };
                let was_global = tables.pte(pages[i], 1) & G != 0;
                tables.map(pages[i], 1, 0x40_0000 + frame[i] * 0x1000, bits);
                match random(3) {
                    0 => mmu.flush(Flush::All),
                    1 if !was_global => mmu.flush(Flush::NonGlobal),
                    _ => mmu.invlpg(pages[i] + random(4096)),
                }
            }
            1 if random(16) == 0 => mmu.flush(Flush::NonGlobal),
            2 => assert_eq!(mmu.fetch(pages[i]).unwrap().gpa, Gpa(0x40_0000 + frame[i] * 0x1000)),
            _ => assert_eq!(mmu.read::<u64>(pages[i]), Ok(frame[i])),
        }
    }
}

/// The engine's look-ups by (address, epoch) live longer than TLB slots: none may survive the loss of its translation.
#[test]
fn epochs_cover_all_that_was_fetched() {
    for space in [space(), eager_space()] {
        epochs_cover_in(&space);
    }
}

fn epochs_cover_in(space: &Arc<AddressSpace>) {
    let mut tables = Tables::new(space);
    let slots = (TLB_ENTRIES as u64) << 12;
    let pages: Vec<u64> = (0..8).map(|i| 0x1000 * (1 + i % 2) + slots * (i / 2)).collect();
    let mut mmu = long_mode(&tables);
    let mut seed = 7u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % n
    };
    let mut frame: Vec<u64> = (0..8).collect();
    for (i, page) in pages.iter().enumerate() {
        tables.map(*page, 1, 0x40_0000 + frame[i] * 0x1000, P | W | if i.is_multiple_of(3) { G } else { 0 });
    }
    let mut cache = std::collections::HashMap::new();
    for _ in 0..20_000 {
        let i = random(8) as usize;
        match random(8) {
            0 => {
                frame[i] = random(64);
                tables.map(
                    pages[i],
                    1,
                    0x40_0000 + frame[i] * 0x1000,
                    P | W | if i.is_multiple_of(3) { G } else { 0 },
                );
                match random(3) {
                    0 => mmu.flush(Flush::All),
                    1 if !i.is_multiple_of(3) => mmu.flush(Flush::NonGlobal),
                    _ => mmu.invlpg(pages[i]),
                }
            }
            1 if random(8) == 0 => mmu.flush(Flush::NonGlobal),
            2 => drop(mmu.read::<u64>(pages[i])),
            _ => {
                let expected = Gpa(0x40_0000 + frame[i] * 0x1000);
                let found =
                    *cache.entry((i, mmu.epoch())).or_insert_with(|| mmu.fetch(pages[i]).unwrap().gpa);
                assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn invlpg_in_a_large_page_takes_all_of_it_and_no_more() {
    for (level, size) in [(2, 2u64 << 20), (3, 1 << 30)] {
        let space = space();
        let mut tables = Tables::new(&space);
        let base = 0x40_0000_0000;
        tables.map(base, level, 0, P | W | PS);
        // In another top-level region, with a slot of its own.
        let other = base + (1 << 39) + 0x20_000;
        tables.map(other, 1, 0x20_0000, P | W);
        let mut mmu = long_mode(&tables);
        for page in 0..10 {
            mmu.read::<u8>(base + page * 0x1000).unwrap();
        }
        mmu.read::<u8>(other).unwrap();
        tables.map(base, level, 0, 0);
        mmu.invlpg(base + size - 1);
        for page in 0..10 {
            assert!(matches!(mmu.read::<u8>(base + page * 0x1000), Err(MemTrap::Page(_))), "page {page}");
        }
        let before = mmu.counters().walks;
        mmu.read::<u8>(other).unwrap();
        assert_eq!(mmu.counters().walks, before);
    }
}

#[test]
fn large_pages_are_walked_once_per_range_and_get_dirty() {
    let space = space();
    let mut tables = Tables::new(&space);
    let base = 0x40_0000_0000;
    tables.map(base, 2, 0, P | W | PS);
    tables.map(base + (1 << 30), 3, 0, P | W | PS | G);
    let mut mmu = long_mode(&tables);
    for (base, level) in [(base, 2), (base + (1 << 30), 3)] {
        space.store(Gpa(0x5008), 0u64).unwrap();
        assert_eq!(mmu.read::<u64>(base + 0x3008), Ok(0));
        assert_eq!(tables.pte(base, level) & (A | D), A);
        assert_eq!(mmu.read::<u64>(base + 0x4008), Ok(0));
        mmu.write(base + 0x5008, 7u64).unwrap();
        assert_eq!(tables.pte(base, level) & (A | D), A | D);
        mmu.write(base + 0x6008, 7u64).unwrap();
        assert_eq!(space.load::<u64>(Gpa(0x5008)), Ok(7));
        mmu.select(Privilege::User);
        assert_eq!(
            mmu.read::<u64>(base + 0x7000),
            Err(MemTrap::Page(PageFault { gva: base + 0x7000, code: 5 }))
        );
        mmu.select(Privilege::Supervisor);
        assert_eq!(mmu.fetch(base + 0x7000).unwrap().gpa, Gpa(0x7000));
        // Another range of the same page, where it has one.
        if level == 3 {
            mmu.write(base + 0x30_0000, 9u64).unwrap();
            assert_eq!(space.load::<u64>(Gpa(0x30_0000)), Ok(9));
            assert_eq!(mmu.read::<u64>(base + 0x30_1000), Ok(0));
        }
        tables.map(base, level, 0, 0);
        mmu.invlpg(base + 0x123_4567 % (1 << 21));
        for page in 3..9 {
            assert!(matches!(mmu.read::<u64>(base + (page << 12)), Err(MemTrap::Page(_))), "{level} {page}");
        }
    }
}

#[test]
fn invlpg_of_a_small_page_leaves_its_neighbours() {
    let space = space();
    let mut tables = Tables::new(&space);
    for page in 0..4 {
        tables.map(0x1000 * page, 1, 0x20_0000 + 0x1000 * page, P | W);
    }
    let mut mmu = long_mode(&tables);
    (0..4).for_each(|page| assert_eq!(mmu.read::<u8>(0x1000 * page), Ok(0)));
    mmu.invlpg(0x2000);
    let before = mmu.counters().walks;
    (0..4).for_each(|page| assert_eq!(mmu.read::<u8>(0x1000 * page), Ok(0)));
    assert_eq!(mmu.counters().walks - before, 1);
}

#[test]
fn banks_hold_their_own_rights() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W | U);
    tables.map(0x2000, 1, 0x20_1000, P | W);
    let mut mmu = long_mode(&tables);
    let mut ctx = *mmu.paging();
    ctx.smap = true;
    ctx.smep = true;
    mmu.set_paging(&ctx, Flush::All);
    mmu.select(Privilege::SupervisorAc);
    mmu.write(0x1000, 5u32).unwrap();
    mmu.select(Privilege::Supervisor);
    assert_eq!(mmu.read::<u32>(0x1000), Err(MemTrap::Page(PageFault { gva: 0x1000, code: 1 })));
    mmu.select(Privilege::User);
    assert_eq!(mmu.read::<u32>(0x1000), Ok(5));
    assert_eq!(mmu.read::<u32>(0x2000), Err(MemTrap::Page(PageFault { gva: 0x2000, code: 5 })));
    assert_eq!(mmu.read_as::<u32>(Privilege::Supervisor, 0x2000), Ok(0));
    mmu.write_as(Privilege::Supervisor, 0x2ffe, 7u16).unwrap();
    assert_eq!(mmu.privilege(), Privilege::User);
    assert_eq!(mmu.fetch(0x1000).unwrap().gpa, Gpa(0x20_0000));
    mmu.select(Privilege::Supervisor);
    assert_eq!(mmu.fetch(0x1000), Err(MemTrap::Page(PageFault { gva: 0x1000, code: 0x11 })));
}

#[test]
fn fetch_and_epochs() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W | U);
    tables.map(0x2000, 1, 0x20_1000, P | W | U | G);
    tables.map(0x3000, 1, 0x20_2000, P | W | U);
    tables.map(0x4000, 1, DEVICE, P | W | U);
    tables.map(0x5000, 1, ROM + 0x3000, P | W | U);
    let mut mmu = long_mode(&tables);
    let kernel = mmu.epoch();
    let page = mmu.fetch(0x1abc).unwrap();
    assert_eq!((page.page.0, page.gpa), (0x200, Gpa(0x20_0000)));
    assert_eq!(mmu.fetch(0x1abc).unwrap(), page);
    assert_eq!(mmu.counters().walks, 1);
    assert_eq!(mmu.fetch(0x5000).unwrap().page.offset(), RAM + 0x3000);
    assert_eq!(mmu.fetch(0x4010), Err(MemTrap::Mmio { gpa: Gpa(DEVICE + 0x10) }));
    mmu.read::<u8>(0x3000).unwrap();
    assert_eq!(mmu.epoch(), kernel, "fills do not matter");
    mmu.invlpg(0x3000);
    assert_eq!(mmu.epoch(), kernel, "not an execute translation");
    mmu.write(0x1000, 0x90u8).unwrap();
    assert_eq!(mmu.fetch(0x1000).unwrap(), page);
    mmu.invlpg(0x1000);
    assert_ne!(mmu.epoch(), kernel);
    let kernel = mmu.epoch();
    mmu.select(Privilege::User);
    let user = mmu.epoch();
    assert_ne!(user, kernel);
    mmu.fetch(0x2000).unwrap();
    mmu.flush(Flush::NonGlobal);
    assert_eq!(mmu.epoch(), user, "only a global page was executed here");
    mmu.flush(Flush::All);
    assert_ne!(mmu.epoch(), user);
    mmu.select(Privilege::Supervisor);
    assert_ne!(mmu.epoch(), kernel, "page 0x5000 was flushed");
    // A page that lost its slot to another was still handed out in this epoch.
    mmu.fetch(0x1000).unwrap();
    let alias = 0x1000 + ((TLB_ENTRIES as u64) << 12);
    tables.map(alias, 1, 0x20_3000, P | W);
    mmu.read::<u8>(alias).unwrap();
    let kernel = mmu.epoch();
    mmu.invlpg(0x1000);
    assert_ne!(mmu.epoch(), kernel);
    mmu.fetch(0x1000).unwrap();
    let kernel = mmu.epoch();
    mmu.invlpg(alias);
    assert_eq!(mmu.epoch(), kernel, "only the other page of this slot was executed");
    for page in [0x1000, alias] {
        mmu.fetch(0x1000).unwrap();
        mmu.fetch(alias).unwrap();
        let kernel = mmu.epoch();
        mmu.invlpg(page);
        assert_ne!(mmu.epoch(), kernel, "both were executed");
    }
}

/// INVLPG of one page begins a new epoch where a large page around it was executed, and not where one was only read.
#[test]
fn epochs_and_large_pages() {
    for (level, size) in [(2, 2u64 << 20), (3, 1 << 30)] {
        let space = space();
        let mut tables = Tables::new(&space);
        let (code, data) = (0x40_0000_0000, 0x40_0000_0000 + (1 << 39) + 2 * size);
        tables.map(code, level, 0, P | W | PS);
        tables.map(data, level, 0, P | W | PS);
        let mut mmu = long_mode(&tables);
        mmu.fetch(code + 0x20_3000 % size).unwrap();
        mmu.read::<u8>(data).unwrap();
        let epoch = mmu.epoch();
        mmu.invlpg(data + 0x5000);
        assert_eq!(mmu.epoch(), epoch);
        mmu.invlpg(code + 0x5000);
        assert_ne!(mmu.epoch(), epoch);
        // What was handed out in this epoch stays known when its slot goes to another page.
        mmu.fetch(code + 0x3000).unwrap();
        mmu.read::<u8>(data + 0x3000).unwrap();
        let epoch = mmu.epoch();
        mmu.invlpg(code + 0x1000);
        assert_ne!(mmu.epoch(), epoch);
    }
}

#[test]
fn rom_reads_and_traps_writes() {
    let space = space();
    space.load_rom(RAM + 0x10, b"firmware");
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, ROM, P | W);
    let mut mmu = long_mode(&tables);
    assert_eq!(mmu.read::<u32>(0x1010).unwrap().to_le_bytes(), *b"firm");
    for _ in 0..2 {
        assert_eq!(mmu.write(0x1010, 0u32), Err(MemTrap::Mmio { gpa: Gpa(ROM + 0x10) }));
        assert_eq!(mmu.read::<u32>(0x1010).unwrap().to_le_bytes(), *b"firm");
    }
    assert_eq!(mmu.rmw(0x1010, |x: u32| x + 1), Err(MemTrap::Mmio { gpa: Gpa(ROM + 0x10) }));
    assert_eq!(mmu.probe(0x1010, 4, Access::Write), Err(MemTrap::Mmio { gpa: Gpa(ROM + 0x10) }));
    assert_eq!(mmu.probe(0x1010, 4, Access::Read), Ok(()));
}

#[test]
fn locked_accesses_at_any_alignment() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W);
    tables.map(0x2000, 1, 0x30_0000, P | W);
    let mut mmu = long_mode(&tables);
    for at in [0x1000u64, 0x1004, 0x1003, 0x103d, 0x1ffd, 0x1fff] {
        mmu.write(at, 0x7fff_ffffu32).unwrap();
        assert_eq!(mmu.rmw(at, |x: u32| x.wrapping_add(1)).unwrap(), 0x7fff_ffff, "{at:#x}");
        assert_eq!(mmu.read::<u32>(at).unwrap(), 0x8000_0000);
        assert_eq!(mmu.cmpxchg(at, 1u32, 2).unwrap(), 0x8000_0000);
        assert_eq!(mmu.cmpxchg(at, 0x8000_0000u32, 3).unwrap(), 0x8000_0000);
        assert_eq!(mmu.read::<u32>(at).unwrap(), 3);
    }
    for at in [0x1001u64, 0x1fff] {
        mmu.write(at, 0xfffeu16).unwrap();
        assert_eq!(mmu.rmw(at, |x: u16| x + 1).unwrap(), 0xfffe);
        assert_eq!(mmu.read::<u16>(at).unwrap(), 0xffff);
    }
    mmu.write(0x1ff9, !0u64).unwrap();
    assert_eq!(mmu.rmw(0x1ff9, |x: u64| !x).unwrap(), !0);
    assert_eq!(mmu.read::<u64>(0x1ff9).unwrap(), 0);
    mmu.write128(0x1100, 7 << 64 | 9).unwrap();
    assert_eq!(mmu.cmpxchg16b(0x1100, 0, 1).unwrap(), 7 << 64 | 9);
    assert_eq!(mmu.cmpxchg16b(0x1100, 7 << 64 | 9, 1 << 100).unwrap(), 7 << 64 | 9);
    assert_eq!(mmu.read128(0x1100).unwrap(), 1 << 100);
    // A failing comparison needs write access all the same.
    tables.map(0x3000, 1, 0x30_0000, P);
    assert_eq!(mmu.cmpxchg(0x3000, 1u32, 2), Err(MemTrap::Page(PageFault { gva: 0x3000, code: 3 })));
}

#[test]
fn string_pieces() {
    let space = space();
    let mut mmu = softmmu::Mmu::new(space);
    for i in 0..4096u64 {
        mmu.write(0x1000 + i, (i * 7) as u8).unwrap();
    }
    for (dst, src, len) in
        [(0x2000u64, 0x1000u64, 4096u64), (0x3001, 0x1003, 61), (0x3101, 0x1007, 500), (0x3300, 0x1000, 0)]
    {
        mmu.copy(dst, src, len).unwrap();
        for i in 0..len {
            assert_eq!(mmu.read::<u8>(dst + i).unwrap(), ((src - 0x1000 + i) * 7) as u8);
        }
    }
    assert_eq!(mmu.copy(0x2001, 0x1000, 4096), Err(MemTrap::Split));
    assert_eq!(mmu.copy(DEVICE, 0x1000, 8), Err(MemTrap::Mmio { gpa: Gpa(DEVICE) }));
    for (at, count) in [(0x4000u64, 2048u64), (0x5002, 3), (0x5101, 100), (0x5306, 77)] {
        mmu.fill(at, 0xabcdu16, count).unwrap();
        for i in 0..count {
            assert_eq!(mmu.read::<u16>(at + i * 2).unwrap(), 0xabcd);
        }
        assert_eq!(mmu.read::<u8>(at + count * 2).unwrap(), 0, "one past");
    }
    assert_eq!(mmu.fill(0x4001, 1u16, 2048), Err(MemTrap::Split));
    assert_eq!(mmu.fill(0x4000, 1u8, u64::MAX), Err(MemTrap::Split));
}

#[test]
fn non_canonical_addresses_never_enter() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W);
    let mut mmu = long_mode(&tables);
    for gva in [1u64 << 47 | 0x1000, 1 << 63 | 0x1000, 0xffff << 48 | 0x1000] {
        assert!(matches!(mmu.read::<u8>(gva), Err(MemTrap::Page(_))));
    }
    assert_eq!(mmu.debug_translate(0x1abc), Some(Gpa(0x20_0abc)));
    assert_eq!(mmu.debug_translate(0x2abc), None);
    assert_eq!(tables.pte(0x1000, 1) & A, 0, "a debugger leaves no trace");
    let mut ctx = context(Paging::Level5, tables.root);
    ctx.nxe = false;
    mmu.set_paging(&ctx, Flush::All);
    assert!(matches!(mmu.read::<u8>(1 << 57), Err(MemTrap::Page(_))));
}
