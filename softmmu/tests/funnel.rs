//! The write funnel: whoever writes, code tracking and the dirty log hear of it.

mod support;

use std::sync::Arc;

use softmmu::{CodeWrite, Flush, Gpa, Mmu, RamPage, Refused};
use support::*;

const PAGE: RamPage = RamPage(0x200);
const AT: u64 = 0x20_0000;

fn taken(mmu: &Mmu) -> Vec<CodeWrite> {
    let mut out = Vec::new();
    mmu.space().take_code_writes(&mut out);
    assert!(!mmu.space().code_writes_pending());
    out
}

fn hit(lines: u64) -> Vec<CodeWrite> {
    vec![CodeWrite { page: PAGE, lines }]
}

/// Another vCPU may take a write out of the queue, and be done with it, before the writer looks there.
#[test]
fn a_vcpu_remembers_what_code_it_has_written() {
    let space = space();
    let [mut mmu, mut other] = [(); 2].map(|()| Mmu::new(Arc::clone(&space)));
    space.track_code(PAGE, 0b110);
    type Write = fn(&mut Mmu);
    let writes: [(&str, Write); 7] = [
        ("a store", |mmu| mmu.write(AT + 0x40, 1u8).unwrap()),
        ("one into the line", |mmu| mmu.write(AT + 0x3c, 1u64).unwrap()),
        ("a wide one", |mmu| mmu.write128(AT + 0x70, 1).unwrap()),
        ("an atomic one", |mmu| assert!(mmu.rmw(AT + 0x40, |x: u32| x + 1).is_ok())),
        ("one of 16 bytes", |mmu| assert!(mmu.cmpxchg16b(AT + 0x40, 0, 0).is_ok())),
        ("a fill", |mmu| mmu.fill(AT, 0u8, 4096).unwrap()),
        ("a copy", |mmu| mmu.copy(AT, 0x1000, 0x41).unwrap()),
    ];
    for (name, write) in writes {
        write(&mut mmu);
        assert!(!taken(&other).is_empty());
        assert!(mmu.has_written_code(), "{name}");
        assert!(!other.has_written_code(), "{name}");
        mmu.forget_written_code();
        assert!(!mmu.has_written_code());
    }
    mmu.write(AT, 1u64).unwrap();
    other.write(AT + 0x40, 1u8).unwrap();
    space.store(Gpa(AT + 0x80), 1u32).unwrap();
    assert!(!mmu.has_written_code() && other.has_written_code());
}

#[test]
fn every_kind_of_write_is_noticed() {
    let space = space();
    let mut mmu = Mmu::new(Arc::clone(&space));
    // Fast before it is tracked.
    mmu.write(AT, 1u64).unwrap();
    assert!(taken(&mmu).is_empty());
    space.track_code(PAGE, 0b110);
    let version = space.code_version(PAGE);

    mmu.write(AT, 2u64).unwrap();
    assert!(!space.code_writes_pending(), "line 0 holds no code");
    mmu.write(AT + 0x40, 1u8).unwrap();
    assert!(space.code_writes_pending());
    assert_eq!(taken(&mmu), hit(2));
    assert_eq!(space.code_version(PAGE), version + 1);
    mmu.write(AT + 0x3f, 1u16).unwrap();
    assert_eq!(taken(&mmu), hit(2));
    mmu.write(AT + 0x7c, 1u64).unwrap();
    assert_eq!(taken(&mmu), hit(6));
    mmu.rmw(AT + 0x40, |x: u32| x + 1).unwrap();
    assert_eq!(taken(&mmu), hit(2));
    mmu.rmw(AT + 0x41, |x: u32| x + 1).unwrap();
    assert_eq!(taken(&mmu), hit(2));
    mmu.cmpxchg16b(AT + 0x40, 0, 0).unwrap();
    assert_eq!(taken(&mmu), hit(2));
    mmu.write128(AT + 0x38, 0).unwrap();
    assert_eq!(taken(&mmu), hit(2));
    mmu.fill(AT, 0u8, 4096).unwrap();
    assert_eq!(taken(&mmu), hit(6));
    mmu.copy(AT, 0x1000, 0x41).unwrap();
    assert_eq!(taken(&mmu), hit(2));
    mmu.write(AT - 4, u64::MAX).unwrap();
    assert!(taken(&mmu).is_empty());
    space.write(Gpa(AT - 0x1000), &[0; 0x2000]).unwrap();
    assert_eq!(taken(&mmu), hit(6));
    space.store(Gpa(AT + 0x80), 1u32).unwrap();
    assert_eq!(taken(&mmu), hit(4));
    space.load_rom(AT, &[0x90; 0x41]);
    assert_eq!(taken(&mmu), hit(2));

    // Several writes before a drain are one report.
    mmu.write(AT + 0x40, 1u8).unwrap();
    mmu.write(AT + 0x80, 1u8).unwrap();
    assert_eq!(taken(&mmu), hit(6));
}

#[test]
fn untracked_pages_are_fast_again() {
    let space = space();
    let mut mmu = Mmu::new(Arc::clone(&space));
    space.track_code(PAGE, 1);
    space.settle_code(PAGE);
    mmu.write(AT, 1u8).unwrap();
    let slow = mmu.counters().slow;
    mmu.write(AT, 1u8).unwrap();
    assert_eq!(mmu.counters().slow, slow + 1, "tracked: each store is slow");
    space.keep_code_lines(PAGE, 0);
    mmu.write(AT, 1u8).unwrap();
    let slow = mmu.counters().slow;
    mmu.write(AT, 1u8).unwrap();
    assert_eq!(mmu.counters().slow, slow);
    // Tracked once more, with the fast entry in place.
    space.track_code(PAGE, 1);
    taken(&mmu);
    mmu.write(AT, 1u8).unwrap();
    assert_eq!(taken(&mmu), hit(1));
}

#[test]
fn shootdown_finds_every_alias() {
    let space = space();
    let mut tables = Tables::new(&space);
    for alias in 0..6u64 {
        tables.map(0x1000 * (alias + 1), 1, AT, P | W | U);
    }
    let mut mmu = long_mode(&tables);
    for aliases in 1..=6u64 {
        let user = softmmu::Privilege::User;
        for alias in 0..aliases {
            mmu.write(0x1000 * (alias + 1), 1u8).unwrap();
            mmu.write_as(user, 0x1000 * (alias + 1), 1u8).unwrap();
        }
        space.track_code(PAGE, 1);
        for alias in 0..aliases {
            mmu.write(0x1000 * (alias + 1), 1u8).unwrap();
            assert_eq!(taken(&mmu), hit(1), "{alias} of {aliases}");
            mmu.write_as(user, 0x1000 * (alias + 1), 1u8).unwrap();
            assert_eq!(taken(&mmu), hit(1), "user {alias} of {aliases}");
        }
        space.keep_code_lines(PAGE, 0);
    }
}

#[test]
fn jit_stores_are_refused_on_code_only() {
    let space = space();
    let mut mmu = Mmu::new(Arc::clone(&space));
    space.track_code(PAGE, 2);
    assert_eq!(mmu.write_unless_code(AT, 7u64), Ok(()));
    assert_eq!(mmu.write_unless_code(AT + 0x3c, 7u64), Err(Refused));
    assert_eq!(mmu.write_unless_code(AT + 0x1000 - 4, 7u64), Ok(()));
    assert_eq!(mmu.read_ram::<u64>(AT), Ok(7));
    assert_eq!(mmu.read_ram::<u32>(AT + 0x3c), Ok(0), "nothing was done");
    assert!(!space.code_writes_pending());
    space.track_code(RamPage(0x201), 1);
    assert_eq!(mmu.write_unless_code(AT + 0x1000 - 4, 1u64), Err(Refused));
    assert_eq!(mmu.read_ram::<u32>(AT + 0x1000 - 4), Ok(7));
    assert_eq!(mmu.write_unless_code(DEVICE, 7u64), Err(Refused));
    assert_eq!(mmu.read_ram::<u64>(DEVICE), Err(Refused));
    // With the entry marked slow while no line is hit, stores stay possible, and are seen by the dirty log.
    space.log_dirty(0x200..0x202);
    assert_eq!(mmu.write_unless_code(AT, 9u64), Ok(()));
    let mut dirty = Vec::new();
    space.take_dirty(0..space.ram_len() as u32 >> 12, &mut dirty);
    assert_eq!(dirty, [PAGE]);
}

#[test]
fn dirty_log() {
    let space = space();
    let mut mmu = Mmu::new(Arc::clone(&space));
    mmu.write(0x1000, 1u8).unwrap();
    mmu.write(0x3000, 1u8).unwrap();
    let take = || {
        let mut out = Vec::new();
        space.take_dirty(0..8, &mut out);
        out.into_iter().map(|page| page.0).collect::<Vec<_>>()
    };
    assert!(take().is_empty());
    space.log_dirty(0..8);
    mmu.read::<u8>(0x2000).unwrap();
    mmu.write(0x1000, 1u8).unwrap();
    let slow = mmu.counters().slow;
    mmu.write(0x1000, 1u8).unwrap();
    mmu.write(0x1000, 1u8).unwrap();
    assert!(mmu.counters().slow <= slow + 1, "fast once logged");
    space.store(Gpa(0x4000), 1u8).unwrap();
    assert_eq!(take(), [1, 4]);
    assert!(take().is_empty());
    mmu.write(0x1000, 1u8).unwrap();
    assert_eq!(take(), [1]);
    mmu.write(0x1000, 1u8).unwrap();
    space.end_dirty_log(0..8);
    assert!(take().is_empty());
}

#[test]
fn page_walk_updates_are_logged_but_do_not_count_as_table_writes() {
    let space = space();
    space.shadow_after(1, 1);
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, AT, P | W);
    tables.map(0x2000, 1, AT, P | W);
    let table = RamPage::containing(tables.entry(0x1000, 1));
    let mut mmu = long_mode(&tables);
    // Shadowed, and what it is about is kept.
    for _ in 0..4 {
        mmu.flush(Flush::All);
        mmu.read::<u8>(0x2000).unwrap();
    }
    assert!(mmu.counters().derived > 0);
    space.log_dirty(0..space.ram_len() as u32 >> 12);
    mmu.write(0x1000, 1u8).unwrap();
    let mut dirty = Vec::new();
    space.take_dirty(0..space.ram_len() as u32 >> 12, &mut dirty);
    assert!(dirty.contains(&table) && dirty.contains(&PAGE));
    let walks = mmu.counters().walks;
    mmu.flush(Flush::NonGlobal);
    mmu.read::<u8>(0x2000).unwrap();
    assert_eq!(mmu.counters().walks, walks, "the entry is still there");
    tables.map(0x2000, 1, 0x20_0000, P | W);
    mmu.read::<u8>(0x2000).unwrap();
    assert!(mmu.counters().walks > walks, "a store of the guest's removes it");
}

#[test]
fn save_and_restore() {
    let space = space();
    space.store(Gpa(0x5008), 0x1234u16).unwrap();
    space.load_rom(RAM + 0x8000, b"rom");
    let mut image = Vec::new();
    space.save_ram(&mut image).unwrap();
    assert_eq!(image.len(), 2 * (4 + 4096) + 4, "zero pages are skipped");
    space.store(Gpa(0x9000), 1u8).unwrap();
    space.store(Gpa(0x5008), 1u8).unwrap();
    space.track_code(RamPage(9), 1);
    space.restore_ram(&mut &image[..]).unwrap();
    assert_eq!(space.load::<u16>(Gpa(0x5008)).unwrap(), 0x1234);
    assert_eq!(space.load::<u16>(Gpa(0x9000)).unwrap(), 0);
    assert_eq!(space.load::<u8>(Gpa(ROM + 0x8002)).unwrap(), b'm');
    assert!(space.code_writes_pending(), "restoring goes through the funnel");

    for bad in [&image[..100], &[0, 0, 0, 0x7f], &[]] {
        assert!(space.restore_ram(&mut &bad[..]).is_err());
    }
    let mut twice = image[..4 + 4096].to_vec();
    twice.extend_from_slice(&image);
    assert!(space.restore_ram(&mut &twice[..]).is_err(), "out of order");
}

#[test]
fn physical_accesses() {
    let space = space();
    assert!(space.write(Gpa(RAM - 4), &[1; 8]).is_err());
    assert_eq!(space.load::<u32>(Gpa(RAM - 4)).unwrap(), 0x0101_0101, "the part in RAM was written");
    assert!(space.load::<u32>(Gpa(RAM - 2)).is_err());
    assert!(space.store(Gpa(ROM), 1u8).is_err());
    assert!(space.load::<u8>(Gpa(DEVICE)).is_err());
    assert!(space.read(Gpa(u64::MAX), &mut [0; 2]).is_err());
    assert!(space.write(Gpa(u64::MAX), &[]).is_ok());
    let mut bytes = [0; 13];
    space.write(Gpa(0x1003), b"hello, guest!").unwrap();
    space.read(Gpa(0x1003), &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello, guest!");
    assert_eq!(space.load::<u32>(Gpa(0x1003)).unwrap().to_le_bytes(), *b"hell");
}
