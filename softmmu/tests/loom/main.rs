//! The protocol core under loom, one test per race. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p softmmu --release --test loom`.
//!
//! These run the crate's own modules with loom's atomics: a vCPU thread does what `Mmu` does, step by step, on a TLB of
//! two slots; a word stands for the guest's memory.
#![cfg(loom)]
#![expect(clippy::arc_with_non_send_sync, reason = "loom's cells are checked by loom, not by the compiler")]

mod mmu;
mod shadow;
mod twice;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use softmmu::protocol::*;
use softmmu::{Access, Gpa, Paging, PagingContext, Privilege, RamPage, TableMemory, walk_in};

const PAGE: RamPage = RamPage(0);
/// Guest virtual page, and its slot in the small TLB.
const GVA: u64 = 0x5000;
const SLOT: usize = 1;
const HOST: u64 = 0x7000_0000;
const VCPU: ThreadToken = ThreadToken(1);
const OTHER: ThreadToken = ThreadToken(2);

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 100_000;
    builder.check(f);
}

/// What the threads of a test share.
struct World {
    pages: Pages,
    tlb: SharedTlb,
    quiescence: Quiescence,
    generation: Generation,
    /// Stands for the published map: its version.
    map: AtomicU64,
    /// Stands for a word of guest RAM.
    data: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pages: Pages::new(1),
            tlb: SharedTlb::default(),
            quiescence: Quiescence::default(),
            generation: Generation::default(),
            map: AtomicU64::new(0),
            data: AtomicU64::new(0),
        })
    }

    fn watch(&self, me: ThreadToken) {
        self.pages.add_lines(PAGE, 1);
        self.pages.watch([(PAGE, HOST)].into_iter(), CODE, [&self.tlb].into_iter(), &self.quiescence, me);
    }

    /// A fill for a store, as the MMU does it.
    fn fill(&self) {
        let write = if self.pages.admit_writer(PAGE, SLOT) { GVA } else { GVA | TRACKED };
        self.tlb.publish(0, SLOT, Words { read: GVA, write, exec: INVALID, addend: HOST - GVA });
    }

    /// A store, as generated code and its slow path do it.
    fn store(&self, value: u64) {
        loop {
            let entry = &self.tlb.bank(0)[SLOT];
            let tag = entry.write.load(Ordering::Relaxed);
            if tag == GVA {
                self.data.store(value, Ordering::Release);
                return;
            }
            if tag == GVA | TRACKED && self.pages.watched(PAGE) {
                self.data.store(value, Ordering::Release);
                self.pages.note_write(0, 8);
                return;
            }
            self.fill();
        }
    }

    fn online(&self) {
        self.quiescence.go_online(&self.tlb.presence, VCPU);
    }

    fn quiescent(&self) {
        self.quiescence.go_quiescent(&self.tlb.presence);
    }

    fn safepoint(&self) {
        if self.quiescence.attention() {
            self.quiescence.acknowledge(&self.tlb.presence);
        }
    }

    /// A fill of a device entry whose frame says which map it was made from. `false`: an update is running.
    fn fill_mmio(&self) -> bool {
        let sample = self.generation.sample();
        let frame = Gpa(self.map.load(Ordering::Acquire) << 12);
        let Some(generation) = sample.number() else { return false };
        let read = MmioEntry { frame, access: Access::Read, generation }.encode();
        self.tlb.publish(0, SLOT, Words { read, write: INVALID, exec: INVALID, addend: GVA | 1 });
        true
    }

    /// The device entry, if it may be used: map version and number.
    fn usable_mmio(&self) -> Option<(u64, u32)> {
        let entry = &self.tlb.bank(0)[SLOT];
        let tag = entry.read.load(Ordering::Acquire);
        match decode(tag, tag, entry.addend.load(Ordering::Relaxed), GVA, Access::Read, 0x1000) {
            Seen::Mmio(found) => match self.generation.verdict(found.generation) {
                Verdict::Current => Some((found.frame.0 >> 12, found.generation)),
                Verdict::Stale | Verdict::InProgress => None,
            },
            Seen::Absent => None,
            other => panic!("{other:?}"),
        }
    }

    fn update(&self, map: u64, shootdown: impl FnOnce()) {
        let vcpus = || [&*self.tlb.presence].into_iter();
        self.quiescence.serialized(vcpus(), OTHER, || {
            self.generation.update(
                || self.map.store(map, Ordering::Release),
                || self.quiescence.wait_for_readers(vcpus(), OTHER),
                || self.tlb.zap_mmio(),
                shootdown,
            );
        });
    }
}

/// A page becomes tracked while a vCPU fills a write entry for it: the zap falls between look-up and publication.
/// What the tracker reads afterwards holds the store, or the store is reported.
#[test]
fn late_fill_of_a_page_that_becomes_tracked() {
    model(|| {
        let world = World::new();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.online();
                world.store(1);
                world.safepoint();
                world.store(2);
                world.quiescent();
            }
        });
        world.watch(OTHER);
        let seen = world.data.load(Ordering::Acquire);
        vcpu.join().unwrap();
        assert!(seen == 2 || world.pages.code_writes_pending(), "snapshot {seen}");
    });
}

/// A vCPU with a write entry wakes from HLT while the page becomes tracked.
#[test]
fn shootdown_of_a_vcpu_that_comes_online() {
    model(|| {
        let world = World::new();
        world.fill();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.online();
                world.store(1);
                world.quiescent();
            }
        });
        world.watch(OTHER);
        let seen = world.data.load(Ordering::Acquire);
        vcpu.join().unwrap();
        assert!(seen == 1 || world.pages.code_writes_pending(), "snapshot {seen}");
    });
}

/// DMA through the funnel races with the tracker.
#[test]
fn device_write_to_a_page_that_becomes_tracked() {
    model(|| {
        let world = World::new();
        let device = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.data.store(1, Ordering::Relaxed);
                world.pages.note_write(0, 8);
            }
        });
        world.watch(OTHER);
        let seen = world.data.load(Ordering::Relaxed);
        device.join().unwrap();
        assert!(seen == 1 || world.pages.code_writes_pending());
    });
}

/// Reports of code writes are neither lost between two drains nor left without the pending flag.
#[test]
fn code_write_during_a_drain() {
    model(|| {
        let world = World::new();
        world.watch(OTHER);
        world.pages.add_lines(PAGE, 3);
        let writer = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.pages.note_write(0, 8);
                world.pages.note_write(64, 8);
            }
        });
        let mut out = Vec::new();
        world.pages.take_code_writes(&mut out);
        writer.join().unwrap();
        if world.pages.code_writes_pending() {
            world.pages.take_code_writes(&mut out);
        }
        assert_eq!(out.iter().fold(0, |all, write| all | write.lines), 3);
        assert_eq!(world.pages.version(PAGE), 2);
    });
}

/// A shootdown that returned while a vCPU can still use the old host page: RAM goes away while a vCPU runs on it.
#[test]
fn old_page_in_use_after_the_update() {
    model(|| {
        let world = World::new();
        let page = Arc::new(UnsafeCell::new(0u64));
        let vcpu = thread::spawn({
            let (world, page) = (Arc::clone(&world), Arc::clone(&page));
            move || {
                world.online();
                for _ in 0..2 {
                    // A fill by the map, then a hit.
                    if world.map.load(Ordering::Acquire) == 0 {
                        let words = Words { read: GVA, write: INVALID, exec: INVALID, addend: HOST - GVA };
                        world.tlb.publish(0, SLOT, words);
                    }
                    if world.tlb.bank(0)[SLOT].read.load(Ordering::Relaxed) == GVA {
                        page.with(|_| ());
                    }
                    world.safepoint();
                    if world.tlb.bank(0)[SLOT].read.load(Ordering::Relaxed) == GVA {
                        page.with(|_| ());
                    }
                }
                world.quiescent();
            }
        });
        world.update(1, || {
            world.tlb.zap_ram(|host| host == HOST);
            world.quiescence.wait_for_readers([&*world.tlb.presence].into_iter(), OTHER);
        });
        // The page is unmapped: loom fails if the vCPU can reach it now.
        page.with_mut(|_| ());
        vcpu.join().unwrap();
    });
}

/// An entry built from the old view must not carry the new number.
#[test]
fn entry_of_the_old_view_with_the_new_number() {
    model(|| {
        let world = World::new();
        let first = world.generation.sample().number().unwrap();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.online();
                world.fill_mmio();
                if let Some((map, number)) = world.usable_mmio() {
                    assert!(number == first || map == 1, "map {map} with number {number}");
                }
                world.quiescent();
            }
        });
        world.update(1, || {});
        vcpu.join().unwrap();
        if let Some((map, _)) = world.usable_mmio() {
            assert_eq!(map, 1, "a cached device outlived the map");
        }
    });
}

/// The generation's number wraps (in two steps here) while an entry with that number is made.
#[test]
fn numbers_wrap_under_a_filler() {
    model(|| {
        let world = World::new();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.online();
                world.fill_mmio();
                world.quiescent();
            }
        });
        world.update(1, || {});
        world.update(2, || {});
        vcpu.join().unwrap();
        if let Some((map, number)) = world.usable_mmio() {
            assert_eq!(map, 2, "number {number} was taken for that of another round");
        }
        // And once more round, past the wrap on the other side.
        world.update(3, || {});
        if let Some((map, _)) = world.usable_mmio() {
            assert_eq!(map, 3);
        }
    });
}

/// Two vCPUs wait for each other's safepoints at the same time: loom reports a deadlock if one waits for a waiter.
#[test]
fn updaters_wait_for_each_other() {
    model(|| {
        let world = Arc::new((Quiescence::default(), [Presence::default(), Presence::default()]));
        let run = |me: usize| {
            let world = Arc::clone(&world);
            move || {
                let (quiescence, vcpus) = &*world;
                let token = ThreadToken(me as u64 + 1);
                quiescence.go_online(&vcpus[me], token);
                if me == 0 {
                    quiescence.wait_for_readers(vcpus.iter(), token);
                } else {
                    quiescence
                        .serialized(vcpus.iter(), token, || quiescence.wait_for_readers(vcpus.iter(), token));
                }
                quiescence.go_quiescent(&vcpus[me]);
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().unwrap();
    });
}

/// A split lock runs alone: its two halves are no step for anybody else.
#[test]
fn split_lock_runs_alone() {
    model(|| {
        let world = Arc::new((
            Quiescence::default(),
            [Presence::default(), Presence::default()],
            UnsafeCell::new(0u64),
        ));
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let (quiescence, vcpus, memory) = &*world;
                quiescence.go_online(&vcpus[1], ThreadToken(2));
                memory.with(|_| ());
                if quiescence.attention() {
                    quiescence.acknowledge(&vcpus[1]);
                }
                memory.with(|_| ());
                quiescence.go_quiescent(&vcpus[1]);
            }
        });
        let (quiescence, vcpus, memory) = &*world;
        quiescence.go_online(&vcpus[0], ThreadToken(1));
        quiescence.exclusive(vcpus.iter(), ThreadToken(1), || memory.with_mut(|_| ()));
        quiescence.go_quiescent(&vcpus[0]);
        other.join().unwrap();
    });
}

/// A page table of one entry.
struct Table<'a>(&'a AtomicU64);

impl TableMemory for Table<'_> {
    fn load_entry(&mut self, _at: u64, _size: u8) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire))
    }

    fn update_entry(&mut self, _at: u64, _size: u8, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// The walker sets accessed and dirty bits while the guest changes the entry.
#[test]
fn accessed_and_dirty_update_against_a_guest_write() {
    model(|| {
        let entry = Arc::new(AtomicU64::new(0x0040_0083));
        let guest = thread::spawn({
            let entry = Arc::clone(&entry);
            move || entry.swap(0x0080_0083, Ordering::SeqCst)
        });
        let ctx =
            PagingContext { paging: Paging::Bits32 { pse: true }, phys_bits: 36, ..PagingContext::default() };
        let t = walk_in(&mut Table(&entry), &ctx, Privilege::Supervisor, 0x1234, Access::Write).unwrap();
        let replaced = guest.join().unwrap();
        let last = entry.load(Ordering::SeqCst);
        assert_eq!(last & !0x60, 0x0080_0083, "the guest's write was lost");
        match t.gpa.0 & !0x3f_ffff {
            0x0040_0000 => {
                assert_eq!(replaced & 0x60, 0x60, "written through the old entry, which is not dirty")
            }
            0x0080_0000 => assert_eq!(last & 0x60, 0x60),
            other => panic!("{other:#x}"),
        }
    });
}
