//! Level 2 in use: translations outlast flushes, and never the page tables that they derive from.
#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use softmmu::{
    Access, AddressSpace, Flush, Gpa, MemTrap, Mmu, Paging, PagingContext, Privilege, RegionKind, walk,
};
use support::*;

/// Frames that begin with their number.
fn number_frames(space: &AddressSpace) {
    for n in 0..64u64 {
        space.store(Gpa(frame(n)), n).unwrap();
    }
}

fn frame(n: u64) -> u64 {
    0x40_0000 + n * 0x1000
}

/// Walks of the guest's page tables in `f`.
fn walks(mmu: &mut Mmu, f: impl FnOnce(&mut Mmu)) -> u64 {
    let before = mmu.counters().walks;
    f(mmu);
    mmu.counters().walks - before
}

/// Pages 1000h to 8000h of an address space whose tables begin at `root`, from frame `first` on.
fn program(space: &Arc<AddressSpace>, root: u64, first: u64) -> Tables {
    let mut tables = Tables::at(space, root);
    for n in 0..8 {
        tables.map(0x1000 + n * 0x1000, 1, frame(first + n), P | W | U | A | D);
    }
    tables
}

/// MOV CR3 without PCIDs.
fn load_cr3(mmu: &mut Mmu, root: u64) {
    mmu.load_cr3(root, 0, Flush::NonGlobal);
}

fn touch(mmu: &mut Mmu, first: u64) {
    for n in 0..8 {
        assert_eq!(mmu.read::<u64>(0x1000 + n * 0x1000), Ok(first + n));
    }
}

/// Two address spaces that were switched between until nothing is left to be learnt.
fn two_programs(space: &Arc<AddressSpace>) -> (Mmu, Tables, Tables) {
    number_frames(space);
    let (one, two) = (program(space, 0x10_0000, 0), program(space, 0x18_0000, 8));
    let mut mmu = Mmu::new(Arc::clone(space));
    mmu.set_paging(&context(Paging::Level4, one.root), Flush::All);
    for _ in 0..100 {
        load_cr3(&mut mmu, one.root);
        touch(&mut mmu, 0);
        load_cr3(&mut mmu, two.root);
        touch(&mut mmu, 8);
    }
    (mmu, one, two)
}

#[test]
fn address_spaces_in_turn_need_no_walks() {
    let (mut mmu, one, two) = two_programs(&space());
    let slow = mmu.counters().slow;
    let walked = walks(&mut mmu, |mmu| {
        for _ in 0..10 {
            load_cr3(mmu, one.root);
            touch(mmu, 0);
            load_cr3(mmu, two.root);
            touch(mmu, 8);
        }
    });
    assert_eq!((walked, mmu.counters().slow - slow), (0, 0), "and nothing else but hits");
}

#[test]
fn what_changes_once_in_a_while_only_is_shadowed_and_what_changes_often_is_not() {
    let (mut mmu, mut one, two) = two_programs(&space());
    let derived = mmu.counters().derived;
    assert!(derived > 0);
    let mut late = 0;
    for n in 0..2000 {
        if n == 1000 {
            late = mmu.counters().derived;
        }
        one.map(0x1000, 1, frame(n % 64), P | W | U | A | D);
        load_cr3(&mut mmu, one.root);
        assert_eq!(mmu.read::<u64>(0x1000), Ok(n % 64));
        load_cr3(&mut mmu, two.root);
    }
    let late = mmu.counters().derived - late;
    assert!(late < 200, "{late} entries of 1000 came from shadow tables that last for some stores only");
}

/// Makes the entry of page 1000h this one.
type Store = Box<dyn Fn(&mut Mmu, u64)>;

/// Every way in which a guest's page tables can be stored to.
#[test]
fn a_store_to_page_tables_ends_what_derives_from_them() {
    let space = eager_space();
    let (mut mmu, mut one, two) = two_programs(&space);
    // The page table itself, as kernels map it.
    let table = one.entry(0, 1);
    let bits = P | W | U | A | D;
    one.map(0x9000, 1, table, bits);
    let view = move |gva: u64| 0x9000 + (gva >> 12) * 8;
    let mut by: Vec<Store> = vec![
        Box::new(move |mmu, value| mmu.space().store(Gpa(table + 8), value).unwrap()),
        Box::new(move |mmu, value| mmu.space().write(Gpa(table + 8), &value.to_le_bytes()).unwrap()),
        Box::new(move |mmu, value| mmu.write(view(0x1000), value).unwrap()),
        Box::new(move |mmu, value| mmu.write(view(0x1000), value as u32).unwrap()),
        Box::new(move |mmu, value| mmu.write(view(0x1000) + 1, (value >> 8) as u16).unwrap()),
        Box::new(move |mmu, value| assert!(mmu.write_unless_code(view(0x1000), value).is_ok())),
    ];
    // Neighbours in the same access, before and behind.
    by.push(Box::new(move |mmu, value| {
        let before = mmu.read::<u64>(view(0)).unwrap();
        let bytes = [before.to_le_bytes(), value.to_le_bytes()].concat();
        mmu.write128(view(0), u128::from_le_bytes(bytes.try_into().unwrap())).unwrap();
    }));
    by.push(Box::new(move |mmu, value| assert!(mmu.rmw(view(0x1000), |_| value).is_ok())));
    by.push(Box::new(move |mmu, value| {
        let old = mmu.read::<u64>(view(0x1000)).unwrap();
        assert_eq!(mmu.cmpxchg(view(0x1000), old, value), Ok(old));
    }));
    by.push(Box::new(move |mmu, value| mmu.fill(view(0x1000), value, 1).unwrap()));
    for (way, store) in by.iter().enumerate() {
        for turn in 0..40u64 {
            load_cr3(&mut mmu, one.root);
            let wanted = 16 + turn % 8;
            store(&mut mmu, frame(wanted) | bits);
            mmu.invlpg(0x1000);
            assert_eq!(mmu.read::<u64>(0x1000), Ok(wanted), "way {way}, turn {turn}");
            load_cr3(&mut mmu, two.root);
            touch(&mut mmu, 8);
        }
    }
}

#[test]
fn a_store_to_an_upper_table_ends_all_below() {
    let space = eager_space();
    for level in 2..=4 {
        let (mut mmu, mut one, two) = two_programs(&space);
        let at = one.entry(0x1000, level);
        let other: u64 = space.load(Gpa(Tables::at(&space, two.root).entry(0x1000, level))).unwrap();
        let own: u64 = space.load(Gpa(at)).unwrap();
        load_cr3(&mut mmu, one.root);
        touch(&mut mmu, 0);
        for (entry, first) in [(other, 8), (own, 0), (other, 8), (own, 0)] {
            space.store(Gpa(at), entry).unwrap();
            load_cr3(&mut mmu, one.root);
            touch(&mut mmu, first);
        }
        space.store(Gpa(at), 0u64).unwrap();
        load_cr3(&mut mmu, one.root);
        assert!(matches!(mmu.read::<u64>(0x1000), Err(MemTrap::Page(_))));
        space.store(Gpa(at), own).unwrap();
    }
}

#[test]
fn a_page_of_page_tables_becomes_something_else() {
    let space = eager_space();
    let (mut mmu, mut one, two) = two_programs(&space);
    let table = one.entry(0, 1);
    // Cleared in one go, as kernels do it, and then data.
    space.write(Gpa(table), &[0; 4096]).unwrap();
    load_cr3(&mut mmu, one.root);
    assert!(matches!(mmu.read::<u64>(0x1000), Err(MemTrap::Page(_))));
    load_cr3(&mut mmu, two.root);
    let slow = mmu.counters().slow;
    let mut there = Tables::at(&space, two.root);
    there.map(0x9000, 1, table, P | W | U | A | D);
    for n in 0..100u64 {
        mmu.write(0x9000 + n * 8, n).unwrap();
    }
    assert!(mmu.counters().slow - slow < 10, "it is no longer watched");
}

#[test]
fn another_vcpu_needs_no_walk_of_its_own() {
    let space = eager_space();
    let (_mmu, one, _two) = two_programs(&space);
    let mut other = Mmu::new(Arc::clone(&space));
    other.set_paging(&context(Paging::Level4, one.root), Flush::All);
    let walked = walks(&mut other, |mmu| touch(mmu, 0));
    assert_eq!(walked, 0);
    assert!(other.counters().derived >= 8);
}

#[test]
fn rights_are_those_of_the_whole_path() {
    let space = eager_space();
    number_frames(&space);
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, frame(1), P | U | A);
    tables.map(0x2000, 1, frame(2), P | W | A | D);
    tables.map(0x20_0000, 1, frame(3), P | W | U | A | D);
    let ctx = PagingContext { smap: true, smep: true, ..context(Paging::Level4, tables.root) };
    let mut mmu = Mmu::new(Arc::clone(&space));
    mmu.set_paging(&ctx, Flush::All);
    // The table of 200000h gives neither stores nor execution.
    let at = tables.entry(0x20_0000, 2);
    let above: u64 = space.load(Gpa(at)).unwrap();
    space.store(Gpa(at), above & !W | XD).unwrap();
    for _ in 0..3 {
        for p in [Privilege::User, Privilege::Supervisor, Privilege::SupervisorAc] {
            mmu.select(p);
            for page in [0x1000, 0x2000, 0x20_0000] {
                for access in [Access::Read, Access::Write, Access::Execute] {
                    let allowed = match access {
                        Access::Execute => mmu.fetch(page).is_ok(),
                        _ => mmu.probe(page, 1, access).is_ok(),
                    };
                    let expected = walk(&space, &ctx, p, page, access).is_ok();
                    assert_eq!(allowed, expected, "{access:?} of {page:#x} as {p:?}");
                }
            }
        }
        mmu.flush(Flush::All);
    }
    assert!(mmu.counters().derived > 0);
}

#[test]
fn devices_are_found_in_level_2_until_the_map_changes() {
    let space = eager_space();
    let (mut mmu, mut one, two) = two_programs(&space);
    one.map(0xa000, 1, DEVICE, P | W | A | D);
    let read = |mmu: &mut Mmu| mmu.read::<u32>(0xa010);
    load_cr3(&mut mmu, one.root);
    for _ in 0..4 {
        assert_eq!(read(&mut mmu), Err(MemTrap::Mmio { gpa: Gpa(DEVICE + 0x10) }));
        mmu.flush(Flush::All);
    }
    let walked = walks(&mut mmu, |mmu| {
        read(mmu).unwrap_err();
        load_cr3(mmu, two.root);
        load_cr3(mmu, one.root);
        read(mmu).unwrap_err();
        assert_eq!(mmu.device_hit(0xa010, 4), Some(Gpa(DEVICE + 0x10)), "it is kept");
    });
    assert_eq!(walked, 0);
    // The device goes, and RAM comes in its place; then the other way round.
    let mut with_ram = regions();
    with_ram[2] = region(DEVICE, 0x1000, RegionKind::Ram { offset: frame(5) });
    for _ in 0..3 {
        space.update_map(softmmu::MemoryMap::new(with_ram.clone()).unwrap());
        mmu.safepoint();
        assert_eq!(mmu.read::<u64>(0xa000), Ok(5));
        space.update_map(softmmu::MemoryMap::new(regions()).unwrap());
        mmu.safepoint();
        assert_eq!(read(&mut mmu), Err(MemTrap::Mmio { gpa: Gpa(DEVICE + 0x10) }));
    }
}

#[test]
fn a_guest_with_tables_everywhere_has_no_more_shadows_than_there_may_be() {
    let space = eager_space();
    number_frames(&space);
    // A page of RAM in two is a page table.
    let mut tables = Tables::at(&space, 0x80_0000);
    let stretches = (RAM - 0x80_0000) / 0x1000 - 8;
    for n in 0..stretches {
        tables.map(n << 21, 1, frame(n % 64), P | W | A | D);
    }
    let mut mmu = long_mode(&tables);
    for n in 0..stretches {
        for _ in 0..4 {
            mmu.flush(Flush::All);
            assert_eq!(mmu.read::<u64>(n << 21), Ok(n % 64));
        }
        let shadows = space.shadow_pages();
        assert!(shadows <= 260, "{shadows} shadow pages for 4112 pages of RAM");
    }
    assert!(mmu.counters().derived > stretches);
}

/// Random page tables in every mode, stores to them from all sides, two vCPUs: what a flush leaves is what the tables say.
#[test]
fn after_a_flush_translations_are_what_the_tables_say() {
    for (mode, paging) in [
        Paging::Bits32 { pse: false },
        Paging::Bits32 { pse: true },
        Paging::Pae,
        Paging::Level4,
        Paging::Level5,
    ]
    .into_iter()
    .enumerate()
    {
        let derived: u64 = (0..6).map(|seed| random_tables(paging, seed * 5 + mode as u64 + 1)).sum();
        assert!(derived > 300, "{paging:?}: {derived} entries came from level 2");
    }
}

fn random_tables(paging: Paging, mut seed: u64) -> u64 {
    const TABLES: u64 = 10;
    let mut random = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let space = eager_space();
    let size = if matches!(paging, Paging::Bits32 { .. }) { 4 } else { 8 };
    let table = |n: u64| 0x10_0000 + n * 0x1000;
    let levels: &[u32] = match paging {
        Paging::Bits32 { .. } => &[22, 12],
        Paging::Pae => &[30, 21, 12],
        _ => &[39, 30, 21, 12],
    };
    let mut vcpus: Vec<_> = (0..2).map(|_| Mmu::new(Arc::clone(&space))).collect();
    let contexts = [0, 1].map(|n| PagingContext {
        pdptes: if paging == Paging::Pae {
            [table(n) | 1, table(2) | 1, table(n + 1) | 1, 0]
        } else {
            [0; 4]
        },
        // Global pages would outlast the flushes below.
        pge: false,
        ..context(paging, table(n))
    });
    let mut current = [0, 1];
    for (mmu, n) in vcpus.iter_mut().zip(current) {
        mmu.set_paging(&contexts[n], Flush::All);
    }
    for step in 0..6000 {
        if random(12) == 0 {
            let frame = if random(3) == 0 { 0x40_0000 + random(64) * 0x1000 } else { table(random(TABLES)) };
            let mut entry = frame | P | W | U | random(4) << 5;
            for bit in [0, 1, 2, 7, 8, 63] {
                entry ^= u64::from(random(if bit == 7 { 12 } else { 6 }) == 0) << bit;
            }
            if entry & PS != 0 {
                entry &= !0x3f_f000;
            }
            let at = Gpa(table(random(TABLES)) + random(3) * size);
            if size == 4 { space.store(at, entry as u32) } else { space.store(at, entry) }.unwrap();
            // The guest does what makes a store count.
            for (mmu, n) in vcpus.iter_mut().zip(current) {
                mmu.set_paging(&contexts[n], if random(8) == 0 { Flush::All } else { Flush::NonGlobal });
            }
        }
        let which = random(2) as usize;
        let mmu = &mut vcpus[which];
        if random(8) == 0 {
            current[which] = random(2) as usize;
            mmu.set_paging(&contexts[current[which]], Flush::NonGlobal);
        }
        let ctx = &contexts[current[which]];
        let p = [Privilege::Supervisor, Privilege::User][random(2) as usize];
        mmu.select(p);
        let gva = levels.iter().fold(0, |gva, shift| gva | random(3) << shift);
        let access = [Access::Read, Access::Write, Access::Execute][random(3) as usize];
        let expected = walk(&space, ctx, p, gva, access);
        let found = match access {
            Access::Execute => mmu.fetch(gva).map(|page| page.gpa),
            _ => mmu.probe(gva, 1, access).map(|()| Gpa(0)),
        };
        let same = match (&expected, &found) {
            (Ok(t), Ok(gpa)) => access != Access::Execute || *gpa == t.gpa,
            (Err(expected), Err(MemTrap::Page(found))) => expected == found,
            // Beyond the RAM.
            (Ok(t), Err(MemTrap::Mmio { .. })) => t.gpa.0 >= RAM,
            _ => false,
        };
        assert!(same, "step {step}: {access:?} of {gva:#x} as {p:?}: {expected:x?}, but {found:x?}");
        if let (Ok(t), Access::Read) = (expected, access)
            && t.gpa.0 + 8 <= RAM
        {
            assert_eq!(mmu.read::<u64>(gva), Ok(space.load(t.gpa).unwrap()), "step {step}: {gva:#x}");
        }
    }
    vcpus.iter().map(|mmu| mmu.counters().derived).sum()
}

/// A vCPU remaps pages and tells the other, which flushes and must see it; both run on threads of their own.
#[test]
fn a_shootdown_between_threads_leaves_nothing_old() {
    const ROUNDS: u64 = if cfg!(target_arch = "aarch64") { 200 } else { 800 };
    let space = eager_space();
    let (_, mut one, two) = two_programs(&space);
    let (entry, root) = (one.entry(0x1000, 1), one.root);
    let (told, heard) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut mmu = Mmu::new(Arc::clone(&space));
            mmu.set_paging(&context(Paging::Level4, root), Flush::All);
            mmu.go_online();
            start.wait();
            let mut flushed = 0;
            while flushed < ROUNDS {
                mmu.safepoint();
                let round = told.load(Ordering::Acquire);
                if round != flushed {
                    if round % 2 == 0 {
                        mmu.invlpg(0x1000)
                    } else {
                        load_cr3(&mut mmu, one.root)
                    };
                    flushed = round;
                    assert_eq!(mmu.read::<u64>(0x1000), Ok(round % 64));
                    heard.store(round, Ordering::Release);
                } else {
                    std::thread::yield_now();
                }
                // Fills that race with the next store.
                for page in [0x1000, 0x2000] {
                    mmu.read::<u64>(page).unwrap();
                    if round % 3 == 0 {
                        mmu.invlpg(page);
                    }
                }
            }
            mmu.go_quiescent();
        });
        let mut mmu = Mmu::new(Arc::clone(&space));
        mmu.set_paging(&context(Paging::Level4, two.root), Flush::All);
        start.wait();
        mmu.go_online();
        for round in 1..=ROUNDS {
            space.store(Gpa(entry), frame(round % 64) | P | W | U | A | D).unwrap();
            told.store(round, Ordering::Release);
            while heard.load(Ordering::Acquire) != round {
                mmu.safepoint();
                touch(&mut mmu, 8);
                std::thread::yield_now();
            }
        }
        mmu.go_quiescent();
    });
}

#[test]
fn an_address_that_is_not_canonical_is_in_no_shadow_table() {
    let (mut mmu, one, two) = two_programs(&eager_space());
    for bits in [1u64 << 47, 1 << 63, 0xffff << 48] {
        for _ in 0..8 {
            load_cr3(&mut mmu, one.root);
            assert!(matches!(mmu.read::<u64>(bits | 0x1000), Err(MemTrap::Page(_))), "{bits:#x}");
            load_cr3(&mut mmu, two.root);
        }
    }
    load_cr3(&mut mmu, one.root);
    touch(&mut mmu, 0);
}

/// Whoever has page tables tracked waits for other vCPUs, and others change the memory map meanwhile.
#[test]
fn the_map_changes_while_page_tables_become_shadowed() {
    const WINDOW: u64 = 0xe000_0000;
    const STRETCHES: u64 = if cfg!(target_arch = "aarch64") { 60 } else { 400 };
    let space = eager_space();
    number_frames(&space);
    // The window shows one of three frames.
    let map = |shown: u64| {
        let window = region(WINDOW, 0x1000, RegionKind::Ram { offset: frame(shown % 3) });
        softmmu::MemoryMap::new(regions().into_iter().chain([window]).collect()).unwrap()
    };
    space.update_map(map(0));
    let mut tables = Tables::at(&space, 0x80_0000);
    let table: Vec<_> = (0..STRETCHES)
        .map(|n| {
            tables.map(n << 21, 1, WINDOW, P | W | U | A | D);
            tables.entry(n << 21, 1) & !0xfff
        })
        .collect();
    // The last update that has returned; where the reader is.
    let (shown, place) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = || place.load(Ordering::Acquire) == STRETCHES;
    /// The reader's end, however it comes.
    struct End<'a>(&'a AtomicU64);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(STRETCHES, Ordering::Release);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = End(&place);
            let mut mmu = Mmu::new(Arc::clone(&space));
            mmu.set_paging(&context(Paging::Level4, tables.root), Flush::All);
            mmu.go_online();
            for n in 0..STRETCHES {
                place.store(n, Ordering::Release);
                for turn in 0..16 {
                    mmu.safepoint();
                    let first = shown.load(Ordering::SeqCst);
                    let found = mmu.read::<u64>(n << 21).unwrap();
                    let last = shown.load(Ordering::SeqCst) + 1;
                    let right = last - first > 1 || [first % 3, last % 3].contains(&found);
                    assert!(right, "stretch {n}: frame {found} after update {first}");
                    // Every other time what the last one has left in the TLB is read.
                    if turn % 2 == 1 {
                        mmu.flush(Flush::All);
                    }
                }
            }
            mmu.go_quiescent();
        });
        scope.spawn(|| {
            // Stores to page tables before they are tracked, so that tracking them has to wait for this vCPU.
            let mut mmu = Mmu::new(Arc::clone(&space));
            mmu.set_paging(&context(Paging::None, 0), Flush::All);
            mmu.go_online();
            while !done() {
                let n = place.load(Ordering::Acquire) as usize;
                for table in table.iter().skip(n).take(4) {
                    mmu.write(table + 0xff8, 0u64).unwrap();
                }
                mmu.safepoint();
            }
            mmu.go_quiescent();
        });
        while !done() {
            let next = shown.load(Ordering::SeqCst) + 1;
            space.update_map(map(next));
            shown.store(next, Ordering::SeqCst);
        }
    });
}
