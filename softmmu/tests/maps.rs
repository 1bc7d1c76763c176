//! Changes of the memory map while translations of the old one are cached.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use softmmu::{AddressSpace, Gpa, GuestRam, MemTrap, MemoryMap, Mmu, Privilege, RamPage, Region, RegionKind};
use support::*;

fn mmio<T>(gpa: u64) -> Result<T, MemTrap> {
    Err(MemTrap::Mmio { gpa: Gpa(gpa) })
}

/// The standard map with one page of RAM replaced.
fn with_page(at: u64, kind: Option<RegionKind>) -> MemoryMap {
    let mut all: Vec<Region> = regions();
    all.remove(0);
    all.push(region(0, at, RegionKind::Ram { offset: 0 }));
    all.push(region(at + 0x1000, RAM - at - 0x1000, RegionKind::Ram { offset: at + 0x1000 }));
    all.extend(kind.map(|kind| region(at, 0x1000, kind)));
    MemoryMap::new(all).unwrap()
}

#[test]
fn a_page_goes_through_every_kind() {
    let space = space();
    let at = 0x5000;
    let mut mmu = Mmu::new(Arc::clone(&space));
    mmu.write(at, 0x1111_1111u32).unwrap();
    mmu.fetch(at).unwrap();
    let epoch = mmu.epoch();

    space.update_map(with_page(at, Some(RegionKind::Mmio { id: 1 })));
    mmu.safepoint();
    assert_ne!(mmu.epoch(), epoch);
    assert_eq!(mmu.read::<u32>(at + 4), mmio(at + 4));
    assert_eq!(mmu.write(at + 4, 1u8), mmio(at + 4));
    assert_eq!(mmu.fetch(at), mmio(at));
    assert_eq!(mmu.read::<u32>(at + 0x1000), Ok(0));

    space.update_map(with_page(at, Some(RegionKind::Rom { offset: at })));
    mmu.safepoint();
    assert_eq!(mmu.read::<u32>(at), Ok(0x1111_1111));
    assert_eq!(mmu.write(at, 1u8), mmio(at));
    mmu.fetch(at).unwrap();

    space.update_map(MemoryMap::new(regions()).unwrap());
    mmu.safepoint();
    mmu.write(at, 0x22u8).unwrap();
    assert_eq!(mmu.read::<u32>(at), Ok(0x1111_1122));

    space.update_map(with_page(at, Some(RegionKind::Ram { offset: RAM + 0x2000 })));
    mmu.safepoint();
    assert_eq!(mmu.read::<u32>(at), Ok(0));
    mmu.write(at, 7u32).unwrap();
    assert_eq!(space.load::<u32>(Gpa(ROM + 0x2000)), Ok(7));

    space.update_map(with_page(at, None));
    mmu.safepoint();
    assert_eq!(mmu.read::<u32>(at), mmio(at));
    space.update_map(MemoryMap::new(regions()).unwrap());
    mmu.safepoint();
    assert_eq!(mmu.read::<u32>(at), Ok(0x1111_1122));
}

#[test]
fn mmio_entries_are_cached_per_generation() {
    let space = space();
    let mut mmu = Mmu::new(Arc::clone(&space));
    assert_eq!(mmu.read::<u8>(DEVICE), mmio(DEVICE));
    let walks = mmu.counters().walks;
    assert_eq!(mmu.read::<u8>(DEVICE + 9), mmio(DEVICE + 9));
    assert_eq!(mmu.write(DEVICE + 9, 0u16), mmio(DEVICE + 9));
    assert_eq!(mmu.counters().walks, walks);
    space.update_map(MemoryMap::new(regions()).unwrap());
    assert_eq!(mmu.read::<u8>(DEVICE), mmio(DEVICE));
    assert_eq!(mmu.counters().walks, walks + 1);
}

#[test]
fn the_frame_of_the_entry_counts_not_the_tables() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, DEVICE, P | W);
    let mut mmu = long_mode(&tables);
    assert_eq!(mmu.read::<u8>(0x1004), mmio(DEVICE + 4));
    // The guest remaps, and has not executed INVLPG yet.
    tables.map(0x1000, 1, 0x20_0000, P | W);
    assert_eq!(mmu.read::<u8>(0x1004), mmio(DEVICE + 4));
    mmu.invlpg(0x1000);
    assert_eq!(mmu.read::<u8>(0x1004), Ok(0));
}

#[test]
fn numbers_wrap() {
    let space = space();
    let mut mmu = Mmu::new(Arc::clone(&space));
    let at = 0x5000;
    let maps = [MemoryMap::new(regions()).unwrap(), with_page(at, Some(RegionKind::Mmio { id: 1 }))];
    // A device entry that is not looked at for exactly one round of the counter.
    space.update_map(maps[1].clone());
    assert_eq!(mmu.read::<u8>(at), mmio(at));
    for i in 0..4096 {
        space.update_map(maps[i % 2].clone());
        if i % 64 == 0 {
            assert_eq!(mmu.read::<u8>(0x3000), Ok(0));
        }
    }
    space.update_map(maps[0].clone());
    for _ in 0..4095 {
        space.update_map(maps[0].clone());
    }
    assert_eq!(mmu.read::<u8>(at), Ok(0), "the number is the one that the entry carries");
}

/// Two spaces with the same generation number: each MMU knows one of them.
#[test]
fn two_spaces_share_a_number() {
    let (a, b) = (space(), space());
    let mut mmus = [Mmu::new(Arc::clone(&a)), Mmu::new(Arc::clone(&b))];
    b.update_map(with_page(0x5000, Some(RegionKind::Mmio { id: 1 })));
    a.update_map(MemoryMap::new(regions()).unwrap());
    a.store(Gpa(0x5000), 3u8).unwrap();
    for _ in 0..2 {
        assert_eq!(mmus[0].read::<u8>(0x5000), Ok(3));
        assert_eq!(mmus[1].read::<u8>(0x5000), mmio(0x5000));
    }
}

#[test]
#[should_panic(expected = "outside the guest RAM")]
fn maps_are_checked() {
    let map = MemoryMap::new(vec![region(0, 0x2000, RegionKind::Ram { offset: 0 })]).unwrap();
    AddressSpace::new(GuestRam::new(0x1000).unwrap(), map);
}

/// vCPUs run in parallel; a page turns from RAM to device and back. Once an update has returned, no store may land in
/// the page's RAM, and no device access may be reported for a RAM page.
#[test]
fn no_vcpu_uses_the_old_page_after_an_update() {
    let space = space();
    let at = 0x5000;
    let stop = AtomicBool::new(false);
    let progress = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        for progress in &progress {
            let (space, stop) = (Arc::clone(&space), &stop);
            scope.spawn(move || {
                let mut mmu = Mmu::new(space);
                mmu.go_online();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..10 {
                        match mmu.rmw(at, |x: u64| x + 1) {
                            Ok(_) => {}
                            Err(trap) => assert_eq!(trap, MemTrap::Mmio { gpa: Gpa(at) }),
                        }
                        assert_eq!(mmu.read::<u8>(DEVICE), mmio(DEVICE));
                        assert_eq!(mmu.read_as::<u8>(Privilege::User, 0x7000), Ok(0));
                    }
                    progress.fetch_add(1, Ordering::Relaxed);
                    mmu.safepoint();
                    if progress.load(Ordering::Relaxed) % 16 == 0 {
                        mmu.go_quiescent();
                        mmu.go_online();
                    }
                }
            });
        }
        let device = with_page(at, Some(RegionKind::Mmio { id: 1 }));
        let ram = MemoryMap::new(regions()).unwrap();
        let wait = || {
            let before: Vec<u64> = progress.iter().map(|p| p.load(Ordering::Relaxed)).collect();
            while progress.iter().zip(&before).any(|(p, b)| p.load(Ordering::Relaxed) < b + 2) {
                std::thread::yield_now();
            }
        };
        let count = || {
            let mut page = [0; 4096];
            space.read_ram_page(RamPage(5), &mut page);
            u64::from_le_bytes(page[..8].try_into().unwrap())
        };
        for _ in 0..100 {
            space.update_map(device.clone());
            let frozen = count();
            wait();
            assert_eq!(count(), frozen, "a store to a page that is not RAM");
            space.update_map(ram.clone());
            wait();
            assert!(count() > frozen);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// vCPUs change the map from their own threads: nobody waits for himself, or for one who waits.
#[test]
fn updaters_do_not_wait_for_each_other() {
    let space = space();
    std::thread::scope(|scope| {
        for id in 0..3u32 {
            let space = Arc::clone(&space);
            scope.spawn(move || {
                let mut mmu = Mmu::new(Arc::clone(&space));
                mmu.go_online();
                for round in 0..200u32 {
                    let at = 0x5000 + u64::from(id) * 0x1000;
                    space.update_map(with_page(at, Some(RegionKind::Mmio { id })));
                    mmu.safepoint();
                    mmu.write(0x9000 + u64::from(id) * 8, u64::from(round)).unwrap();
                    space.track_code(RamPage(9), 1);
                    mmu.safepoint();
                    // A split lock: everyone else stands still.
                    mmu.rmw(0x9ffd + 0x2000, |x: u64| x + 1).unwrap();
                    mmu.safepoint();
                    space.keep_code_lines(RamPage(9), 0);
                }
            });
        }
    });
    assert_eq!(space.load::<u64>(Gpa(0x9ffd + 0x2000)), Ok(600));
}

/// Stores race with a tracker: what it reads after tracking is what was stored, or the store is reported.
#[test]
fn stores_are_in_the_snapshot_or_reported() {
    let space = space();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = {
            let (space, stop) = (Arc::clone(&space), &stop);
            scope.spawn(move || {
                let mut mmu = Mmu::new(space);
                mmu.go_online();
                let mut value = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    value += 1;
                    mmu.write(0x5000, value).unwrap();
                    mmu.safepoint();
                }
                mmu.go_quiescent();
            })
        };
        for _ in 0..2000 {
            space.track_code(RamPage(5), 1);
            let version = space.code_version(RamPage(5));
            let mut page = [0; 4096];
            space.read_ram_page(RamPage(5), &mut page);
            std::thread::yield_now();
            let mut now = [0; 4096];
            space.read_ram_page(RamPage(5), &mut now);
            // The writer notes after it stores: a store without a note yet is in flight, at most one.
            let seen = |page: &[u8; 4096]| u64::from_le_bytes(page[..8].try_into().unwrap());
            let notes = u64::from(space.code_version(RamPage(5)).wrapping_sub(version));
            assert!(seen(&now) - seen(&page) <= notes + 1);
            space.keep_code_lines(RamPage(5), 0);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
}
