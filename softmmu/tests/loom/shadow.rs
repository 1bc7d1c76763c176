//! Level 2's protocol under loom: every race is a run of the crate's own modules, and each step of the protocol is left out
//! once to show that some run fails without it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use softmmu::RamPage;
use softmmu::protocol::*;

use super::model;

const GVA: u64 = 0x5000;
const SLOT: usize = 1;
const TABLE: RamPage = RamPage(0);
/// The one that names it.
const ABOVE: RamPage = RamPage(1);
const ROLE: Role = Role { shift: 12, size: 8, rules: 0 };
/// Two frames, as entries of the guest's.
const OLD: u64 = 0x1_0067;
const NEW: u64 = 0x2_0067;

struct World {
    shadow: Shadow,
    page: Arc<ShadowPage>,
    vcpus: Vec<Arc<SharedTlb>>,
    /// The guest's entry.
    entry: AtomicU64,
}

impl World {
    fn new(vcpus: u32) -> Arc<Self> {
        let shadow = Shadow::new(2);
        let page = shadow.insert(TABLE, ROLE, || ()).unwrap();
        page.use_at(GVA);
        let tlb = |number| {
            let tlb = SharedTlb::default();
            tlb.set_number(number);
            Arc::new(tlb)
        };
        Arc::new(Self { shadow, page, vcpus: (0..vcpus).map(tlb).collect(), entry: AtomicU64::new(OLD) })
    }

    /// A fill of level 2.
    fn fill<S: Steps>(&self) {
        let Some(sample) = self.page.sample() else { return };
        let word = ram_word(self.entry.load(Ordering::Acquire));
        self.page.publish::<S>(0, word, sample);
    }

    /// A fill of a vCPU's level 1.
    fn derive<S: Steps>(&self, vcpu: usize) {
        self.derive_below::<S>(vcpu, self.shadow.upper());
    }

    /// A fill of a vCPU's level 1 with what was read above before [`Shadow::upper`] was this.
    fn derive_below<S: Steps>(&self, vcpu: usize, upper: u64) {
        let words =
            |word| Some(Words { read: GVA, write: INVALID, exec: INVALID, addend: (word & !0xfff) - GVA });
        let from = Derived { shadow: &self.shadow, page: &self.page, index: 0, upper };
        self.vcpus[vcpu].derive::<S>(0, SLOT, &from, words);
    }

    /// A guest's store of an entry.
    fn store<S: Steps>(&self, value: u64) {
        self.entry.store(value, Ordering::Release);
        let _often = self.shadow.stored::<S>(0, 8, &self.vcpus);
    }

    /// Nothing old can be found in level 1.
    fn check_level1(&self) {
        let now = self.entry.load(Ordering::Acquire) & !0xfff;
        for tlb in &self.vcpus {
            let entry = &tlb.bank(0)[SLOT];
            if entry.read.load(Ordering::Acquire) == GVA {
                assert_eq!(GVA + entry.addend.load(Ordering::Acquire), now, "level 1 kept what was zapped");
            }
        }
    }

    fn check(&self) {
        let word = self.page.get(0);
        assert!(word == 0 || word == ram_word(self.entry.load(Ordering::Acquire)), "level 2 kept {word:#x}");
        self.check_level1();
    }
}

/// Does it on another thread.
fn beside(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || f(&world))
}

/// An entry is stored to while a vCPU walks and fills both levels from it.
fn late_fill<S: Steps>() {
    model(|| {
        let world = World::new(1);
        let vcpu = beside(&world, |world| {
            world.fill::<S>();
            world.derive::<S>(0);
        });
        world.store::<S>(NEW);
        vcpu.join().unwrap();
        world.check();
    });
}

/// Level 2 has the entry, and a vCPU fills level 1 from it while it is stored to.
fn late_fill_of_level_1<S: Steps>() {
    model(|| {
        let world = World::new(1);
        world.fill::<S>();
        let vcpu = beside(&world, |world| world.derive::<S>(0));
        world.store::<S>(NEW);
        vcpu.join().unwrap();
        world.check();
    });
}

/// One vCPU fills level 2, another takes level 1 from it, and a third stores. When the store has retired, and the fills
/// are over, nobody has the old entry; not even the second vCPU, if the first withdraws what it put there.
fn withdrawn_fill<S: Steps>() {
    model(|| {
        let world = World::new(1);
        let filler = beside(&world, |world| world.fill::<S>());
        let user = beside(&world, |world| world.derive::<S>(0));
        world.store::<S>(NEW);
        filler.join().unwrap();
        user.join().unwrap();
        world.check();
    });
}

/// Two fills of the same entry, one of them from before the store.
fn two_fills<S: Steps>() {
    model(|| {
        let world = World::new(1);
        let filler = beside(&world, |world| world.fill::<S>());
        world.store::<S>(NEW);
        world.fill::<S>();
        filler.join().unwrap();
        world.check();
    });
}

/// The word above a leaf is stored to while a vCPU, which has just read it, fills level 1 from the leaf.
fn late_fill_below<S: Steps>() {
    model(|| {
        let world = World::new(1);
        world.fill::<S>();
        let above = world.shadow.insert(ABOVE, Role { shift: 21, ..ROLE }, || ()).unwrap();
        above.use_at(GVA);
        let word = ram_word(OLD);
        assert!(above.publish::<S>(0, word, above.sample().unwrap()));
        let vcpu = beside(&world, move |world| {
            let upper = world.shadow.upper();
            above.join(world.vcpus[0].bank_bit(0));
            if above.get(0) == word {
                world.derive_below::<S>(0, upper);
            }
        });
        let _often = world.shadow.stored::<S>(ABOVE.offset(), 8, &world.vcpus);
        vcpu.join().unwrap();
        assert_ne!(
            world.vcpus[0].bank(0)[SLOT].read.load(Ordering::Acquire),
            GVA,
            "level 1 kept what is below"
        );
    });
}

#[test]
fn late_fill_below_a_store() {
    late_fill_below::<All>();
}

#[test]
fn late_fill_of_both_levels() {
    late_fill::<All>();
}

#[test]
fn late_fill_from_level_2() {
    late_fill_of_level_1::<All>();
}

#[test]
fn a_withdrawn_word_was_never_used() {
    withdrawn_fill::<All>();
}

#[test]
fn fills_before_and_after_a_store() {
    two_fills::<All>();
}

/// A shadow page is taken out, and its guest page untracked, while a walker fills it and another makes it anew: a
/// page that gets words is tracked, whoever comes last.
#[test]
fn page_removed_under_a_walker_and_a_maker() {
    model(|| {
        let world = World::new(1);
        let tracked = Arc::new(AtomicBool::new(true));
        let walker = beside(&world, |world| {
            world.fill::<All>();
            world.derive::<All>(0);
        });
        let maker = thread::spawn({
            let (world, tracked) = (Arc::clone(&world), Arc::clone(&tracked));
            move || world.shadow.insert(TABLE, ROLE, || tracked.store(true, Ordering::SeqCst))
        });
        world.shadow.remove(TABLE, &world.vcpus, || tracked.store(false, Ordering::SeqCst));
        walker.join().unwrap();
        let made = maker.join().unwrap();
        assert!(world.page.sample().is_none() && world.page.get(0) == 0);
        assert_ne!(world.vcpus[0].bank(0)[SLOT].read.load(Ordering::Acquire), GVA, "nobody will zap this");
        if made.is_some_and(|page| page.sample().is_some()) {
            assert!(tracked.load(Ordering::SeqCst), "an open page is not tracked");
        }
    });
}

/// The protocol without one step.
macro_rules! without {
    ($($name:ident $step:ident $runs:expr;)*) => {$(
        #[test]
        fn $name() {
            struct Without;
            impl Steps for Without {
                const $step: bool = false;
            }
            let runs: &[fn()] = &$runs;
            let failed = runs.iter().any(|run| catch_unwind(AssertUnwindSafe(run)).is_err());
            assert!(failed, "nothing fails without it");
        }
    )*};
}

without! {
    a_store_must_move_the_sequence MOVE_SEQUENCE [late_fill::<Without>, two_fills::<Without>];
    a_fill_must_look_at_the_sequence_again RECHECK [late_fill::<Without>, two_fills::<Without>];
    a_word_must_be_pending_until_then PEND [withdrawn_fill::<Without>];
    a_fill_of_level_1_must_join_first JOIN_FIRST [late_fill_of_level_1::<Without>];
    a_fill_of_level_1_must_look_above LOOK_ABOVE [late_fill_below::<Without>];
    a_fill_of_level_1_must_look_again LOOK_AGAIN [late_fill_of_level_1::<Without>];
}
