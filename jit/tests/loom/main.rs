//! What vCPUs share of translated code, under loom: the crate's own modules, of which each step is left out once to show that some
//! run fails without it. Run with `RUSTFLAGS="--cfg loom" cargo test -p jit --release --test loom`.
//!
//! A block that was given up is told by its count of owners: the test holds one, the table and its graveyard the other.
#![cfg(loom)]
#![expect(clippy::arc_with_non_send_sync, reason = "loom's cells are checked by loom, not by the compiler")]

mod code;
mod source;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jit::member::Member;
use jit::table::Table;
use jit::tb::{Key, Tb};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use softmmu::RamPage;
use softmmu::steps::without;
use x86::state::Mode;

/// Where the block's code is, linear and in RAM.
const PLACE: u64 = 0x40;
const PAGE: RamPage = RamPage(0);
const MODE: Mode = Mode(Mode::CODE64);
const TAG: u64 = 5;
/// MOV AL, imm8; RET.
const CODE: [u8; 3] = [0xb0, 1, 0xc3];

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 100_000;
    builder.check(f);
}

fn block_of(code: &[u8]) -> Arc<Tb> {
    let block = x86::decode::block(code, PLACE, MODE).expect("two instructions");
    Arc::new(Tb::new(block, PLACE, [Some((PAGE, 2)), None]).decoded_from(code))
}

const KEY: Key = Key { ram: PLACE, rip: PLACE, mode: MODE };

/// A table with one block.
struct World {
    table: Table,
    tb: Arc<Tb>,
    /// So that loom takes what follows to depend on what the other one does there: it knows of its own atomics only.
    between: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        let table = Table::new(None, usize::MAX);
        let tb = block_of(&CODE);
        table.insert(Arc::clone(&tb), || true).expect("it is intact");
        Arc::new(Self { table, tb, between: AtomicU64::new(0) })
    }

    /// The block is executed.
    fn run(&self) {
        self.between.fetch_add(1, Ordering::Relaxed);
        assert!(Arc::strong_count(&self.tb) > 1, "the block was given up");
    }

    fn online(&self, member: &Member) {
        member.come_online(self.table.clock(), false);
    }

    fn safepoint(&self, member: &Member) {
        member.pass(self.table.clock());
    }

    /// Removes the block, and gives up what can be.
    fn remove(&self) {
        self.table.discard(&self.tb);
        self.table.reclaim();
        self.between.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody runs any more.
    fn over(&self) {
        self.table.reclaim();
        assert_eq!(Arc::strong_count(&self.tb), 1, "the block is never given up");
    }
}

/// One vCPU looks a block up and executes it, and again after a safepoint; another takes it away.
fn removed_while_it_is_executed() {
    model(|| {
        let world = World::new();
        let member = world.table.join();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.online(&member);
                for _ in 0..2 {
                    if world.table.find(KEY).is_some() {
                        world.run();
                    }
                    world.safepoint(&member);
                }
                // A vCPU that halts, or is over.
                member.go_offline();
            }
        });
        world.remove();
        vcpu.join().unwrap();
        world.over();
    });
}

/// A vCPU puts a block into its jump cache, where it finds it after a safepoint; another takes the block away.
fn removed_while_it_is_entered() {
    model(|| {
        let world = World::new();
        let member = world.table.join();
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.table.discard(&world.tb);
                world.between.fetch_add(1, Ordering::Relaxed);
            }
        });
        world.online(&member);
        if let Some(tb) = world.table.find(KEY) {
            member.enter(PLACE, TAG, tb);
        }
        world.safepoint(&member);
        world.table.reclaim();
        let entry = member.jump(PLACE);
        if entry.tag.load(Ordering::Relaxed) == TAG && !entry.tb.load(Ordering::Relaxed).is_null() {
            world.run();
        }
        member.go_offline();
        other.join().unwrap();
        world.over();
    });
}

/// Two vCPUs give up what they have removed, each while the other runs: nobody waits for the other one.
fn both_remove() {
    model(|| {
        let world = World::new();
        let members = [world.table.join(), world.table.join()];
        let run = |n: usize| {
            let (world, member) = (Arc::clone(&world), Arc::clone(&members[n]));
            move || {
                world.online(&member);
                if world.table.find(KEY).is_some() {
                    world.run();
                }
                world.remove();
                world.safepoint(&member);
                world.table.reclaim();
                member.go_offline();
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().unwrap();
        world.over();
    });
}

#[test]
fn what_is_executed_is_not_given_up() {
    removed_while_it_is_executed();
}

#[test]
fn a_jump_cache_leads_to_the_living() {
    removed_while_it_is_entered();
}

#[test]
fn two_vcpus_remove_one_block() {
    both_remove();
}

/// Without the step, one of `runs` fails.
fn needed(step: &'static str, runs: &[fn()]) {
    let failed = without(step, || runs.iter().any(|run| catch_unwind(AssertUnwindSafe(run)).is_err()));
    assert!(failed, "nothing fails without \"{step}\"");
}

#[test]
fn each_step_of_removal_is_needed() {
    needed("grace period of blocks", &[removed_while_it_is_executed]);
    needed("barrier of who comes online", &[removed_while_it_is_executed]);
    needed("removed blocks leave jump caches", &[removed_while_it_is_entered]);
    needed("second look at an entered block", &[removed_while_it_is_entered]);
    needed("barrier before the second look", &[removed_while_it_is_entered]);
}
