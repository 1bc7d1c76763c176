//! Whole MMUs and address spaces under loom: the miss path, map updates and tracking as they are, and each of their steps left out
//! once to show that some run fails without it.
//!
//! Loom knows its own atomics only; guest memory is not one. So what a vCPU reaches by an address that the TLB gave it is told
//! by a cell of the test's, which loom watches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use softmmu::steps::without;
use softmmu::{AddressSpace, Gpa, GuestRam, MemTrap, MemoryMap, Mmu, PAGE_SIZE, RamPage, Region, RegionKind};

use super::model;

/// Where maps differ, and the page of RAM that is there in some.
const AT: u64 = PAGE_SIZE;
const RAM: RegionKind = RegionKind::Ram { offset: PAGE_SIZE };

fn device(number: u32) -> RegionKind {
    RegionKind::Mmio { id: number }
}

/// Two pages from `AT` on are of this kind.
fn map(kind: RegionKind) -> MemoryMap {
    let low = Region { start: Gpa(0), len: PAGE_SIZE, kind: RegionKind::Ram { offset: 0 } };
    MemoryMap::new(vec![low, Region { start: Gpa(AT), len: 2 * PAGE_SIZE, kind }]).expect("a map")
}

struct World {
    space: Arc<AddressSpace>,
    /// Stands for the page of RAM: whoever reaches it reads, whoever takes it away writes.
    page: UnsafeCell<()>,
    /// The map that the last update that is over has made, as the guest knows by its own accesses.
    told: AtomicU64,
}

impl World {
    fn new(kind: RegionKind) -> Arc<Self> {
        let space = AddressSpace::new(GuestRam::new(3 * PAGE_SIZE).expect("memory"), map(kind));
        Arc::new(Self { space, page: UnsafeCell::new(()), told: AtomicU64::new(0) })
    }

    fn update(&self, kind: RegionKind, number: u64) {
        self.space.update_map(map(kind));
        self.told.store(number, Ordering::Release);
    }

    fn mmu(&self) -> Mmu {
        Mmu::new(Arc::clone(&self.space))
    }
}

/// What a vCPU finds at the address.
#[derive(PartialEq, Debug)]
enum Found {
    Ram,
    Device,
}

/// A read by hit or miss. A device is asked for behind the MMU's back, as a bus does: by the map of then.
fn read(mmu: &mut Mmu) -> Found {
    read_at(mmu, AT)
}

fn read_at(mmu: &mut Mmu, at: u64) -> Found {
    match mmu.read::<u8>(at) {
        Ok(_) => Found::Ram,
        Err(MemTrap::Mmio { gpa }) => {
            assert_eq!(gpa, Gpa(at), "the frame of another address");
            Found::Device
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// A device becomes RAM, and RAM a device again (so that the generation wraps), while a vCPU reads there. What the guest has been
/// told of is what it finds.
fn remapped_while_it_is_read() {
    model(|| {
        let world = World::new(device(1));
        let mut mmu = world.mmu();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                mmu.go_online();
                for _ in 0..2 {
                    let told = world.told.load(Ordering::Acquire);
                    let found = read(&mut mmu);
                    if told == 1 {
                        assert_eq!(found, Found::Ram, "old device");
                    }
                    mmu.safepoint();
                }
                mmu.go_quiescent();
                mmu
            }
        });
        world.update(RAM, 1);
        let mut mmu = vcpu.join().unwrap();
        assert_eq!(read(&mut mmu), Found::Ram, "an entry of the old view");
    });
}

/// Two pages become RAM at once. Who has found that of one does not find the old device at the other any more.
fn changed_together() {
    model(|| {
        let world = World::new(device(1));
        let mut mmu = world.mmu();
        let vcpu = thread::spawn(move || {
            mmu.go_online();
            read_at(&mut mmu, AT + PAGE_SIZE);
            if read(&mut mmu) == Found::Ram {
                assert_eq!(
                    read_at(&mut mmu, AT + PAGE_SIZE),
                    Found::Ram,
                    "first the new map, then the old one"
                );
            }
            mmu.go_quiescent();
        });
        world.update(RAM, 1);
        vcpu.join().unwrap();
    });
}

/// A fill of a device entry, and so many updates that its number comes again: what it was filled from has gone.
fn wrapped_while_it_is_filled() {
    model(|| {
        let world = World::new(device(1));
        let mut mmu = world.mmu();
        let vcpu = thread::spawn(move || {
            mmu.go_online();
            read(&mut mmu);
            mmu.go_quiescent();
            mmu
        });
        world.update(RAM, 1);
        world.update(RAM, 2);
        let mut mmu = vcpu.join().unwrap();
        assert_eq!(read(&mut mmu), Found::Ram, "a number was taken for that of another round");
        world.update(device(2), 3);
        assert_eq!(read(&mut mmu), Found::Device);
    });
}

/// RAM goes away while a vCPU uses it by a TLB hit: when the update is over, nobody reaches it.
fn unplugged_while_it_is_used() {
    model(|| {
        let world = World::new(RAM);
        let mut mmu = world.mmu();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                mmu.go_online();
                for _ in 0..2 {
                    if read(&mut mmu) == Found::Ram {
                        world.page.with(|_| ());
                    }
                    mmu.safepoint();
                }
                mmu.go_quiescent();
            }
        });
        world.update(device(1), 1);
        // Loom fails if a vCPU can reach the page now.
        world.page.with_mut(|_| ());
        vcpu.join().unwrap();
    });
}

/// The page becomes tracked while a vCPU stores to it by a hit: what is read then holds the store, or the store is reported.
fn tracked_while_it_is_written() {
    tracked(false);
}

/// The vCPU has halted with an entry for the page, and wakes.
fn tracked_while_a_writer_wakes() {
    tracked(true);
}

fn tracked(cached: bool) {
    model(move || {
        let world = World::new(RAM);
        let mut mmu = world.mmu();
        if cached {
            mmu.write(AT, 0u8).unwrap();
        }
        let stored = Arc::new(AtomicU64::new(0));
        let vcpu = thread::spawn({
            let stored = Arc::clone(&stored);
            move || {
                mmu.go_online();
                for value in 1..3 {
                    // The TLB says where; loom's word is what is written there.
                    if mmu.write_hits::<u8>(AT) {
                        stored.store(value, Ordering::Release);
                    } else {
                        stored.store(value, Ordering::Release);
                        mmu.write(AT, 1u8).unwrap();
                    }
                    mmu.safepoint();
                }
                mmu.go_quiescent();
            }
        });
        world.space.track_code(RamPage(1), 1);
        let seen = stored.load(Ordering::Acquire);
        vcpu.join().unwrap();
        assert!(seen == 2 || world.space.code_writes_pending(), "snapshot {seen}");
    });
}

/// Two vCPUs change the map at once: each waits for the other one's safepoints, and for its turn.
fn both_update() {
    model(|| {
        let world = World::new(device(1));
        let run = |world: &Arc<World>, number: u32| {
            let (world, mut mmu) = (Arc::clone(world), world.mmu());
            move || {
                mmu.go_online();
                world.space.update_map(map(device(number)));
                mmu.safepoint();
                mmu.go_quiescent();
            }
        };
        let (one, mut two) = (run(&world, 2), run(&world, 3));
        let other = thread::spawn(one);
        two();
        other.join().unwrap();
    });
}

#[test]
fn new_ram_over_a_cached_device() {
    remapped_while_it_is_read();
}

#[test]
fn a_generation_that_comes_again() {
    wrapped_while_it_is_filled();
}

#[test]
fn ram_that_goes_away() {
    unplugged_while_it_is_used();
}

#[test]
fn a_page_that_becomes_tracked() {
    tracked_while_it_is_written();
}

#[test]
fn a_page_that_becomes_tracked_while_its_writer_wakes() {
    tracked_while_a_writer_wakes();
}

#[test]
fn two_pages_that_change_together() {
    changed_together();
}

#[test]
fn two_updates_at_once() {
    both_update();
}

/// Without any of the steps, one of `runs` fails.
pub(super) fn needed(steps: &[&'static str], runs: &[fn()]) {
    let fails = |run: &fn()| catch_unwind(AssertUnwindSafe(run)).is_err();
    let idle: Vec<_> = steps.iter().filter(|step| !without(step, || runs.iter().any(fails))).collect();
    assert!(idle.is_empty(), "nothing fails without {idle:?}");
}

#[test]
fn each_step_of_an_update_is_needed() {
    let steps = [
        "in-progress flag",
        "grace period of the old view",
        "zap at the wrap",
        "next generation",
        "shootdown of RAM entries",
        "grace period after the shootdown",
    ];
    let runs =
        [remapped_while_it_is_read, changed_together, wrapped_while_it_is_filled, unplugged_while_it_is_used];
    needed(&steps, &runs);
}

/// The grace period holds an update back while a fill is under way. For device entries either it or the order of sample and look-up
/// is enough (so a slow filler costs nobody anything); without both an old entry gets the new number.
#[test]
fn the_generation_is_sampled_before_the_look_up() {
    let fails = || catch_unwind(AssertUnwindSafe(remapped_while_it_is_read)).is_err();
    let (grace, order) = ("grace period of the old view", "sample before look-up");
    assert!(!without(order, fails) && !without(grace, fails));
    assert!(without(grace, || without(order, fails)), "nothing fails without both");
}

#[test]
fn each_step_of_tracking_is_needed() {
    let steps = ["zap of write entries", "grace period of write entries", "second zap of write entries"];
    needed(&steps, &[tracked_while_it_is_written, tracked_while_a_writer_wakes]);
}
