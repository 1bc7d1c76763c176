//! Code that is written to while it is decoded, looked up and removed.

use std::sync::Arc;

use jit::source::Source;
use jit::table::Table;
use jit::written::Written;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, PAGE_SIZE, Region, RegionKind};

use super::{CODE, KEY, PAGE, PLACE, block_of, model, needed};

struct World {
    space: Arc<AddressSpace>,
    table: Table,
    written: Written,
    /// The guest's own word that code was changed.
    told: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        let ram = Region { start: Gpa(0), len: PAGE_SIZE, kind: RegionKind::Ram { offset: 0 } };
        let ram = MemoryMap::new(vec![ram]).expect("a map");
        let space = AddressSpace::new(GuestRam::new(PAGE_SIZE).expect("memory"), ram);
        space.write(Gpa(PLACE), &CODE).expect("memory");
        let (table, written) = (Table::new(None, usize::MAX), Written::default());
        Arc::new(Self { space, table, written, told: AtomicBool::new(false) })
    }

    /// The operand changes, and then the others are told.
    fn write(&self, value: u8) {
        self.space.write(Gpa(PLACE + 1), &[value]).expect("memory");
        self.told.store(true, Ordering::Release);
    }

    /// As the engine decodes.
    fn decode(&self) {
        let mut page = [0; PAGE_SIZE as usize];
        let source = Source::read(&self.space, PAGE, 2, &mut page);
        let tb = block_of(&page[PLACE as usize..][..CODE.len()]);
        let _ = self.table.insert(tb, || source.settle(&self.space));
    }

    fn safepoint(&self) {
        if self.written.pending(&self.space) {
            self.written.drop_blocks(&self.table, &self.space, |_| ());
        }
    }

    /// What is found is what memory holds.
    fn check(&self) {
        if let Some(tb) = self.table.find(KEY) {
            assert!(tb.is_as_decoded(|at, bytes| self.space.read_array(at, bytes)), "old code is found");
        }
    }

    /// A vCPU that has been told, if it has been, executes the code.
    fn execute(&self) {
        let told = self.told.load(Ordering::Acquire);
        self.safepoint();
        if told {
            self.check();
        }
    }
}

/// One vCPU decodes what another one writes to, which then removes what was decoded already.
fn written_while_it_is_decoded() {
    model(|| {
        let world = World::new();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.decode();
                world.execute();
            }
        });
        world.write(2);
        world.safepoint();
        vcpu.join().unwrap();
        world.safepoint();
        world.check();
    });
}

/// A block is written to; one vCPU removes it, and another one, which knows of the write, must not execute it meanwhile.
fn removed_by_another_vcpu() {
    model(|| {
        let world = World::new();
        world.decode();
        let run = |world: &Arc<World>| {
            let world = Arc::clone(world);
            move || world.execute()
        };
        world.write(2);
        let one = thread::spawn(run(&world));
        run(&world)();
        one.join().unwrap();
        world.check();
    });
}

/// Two vCPUs decode the same code at the same time, and a write comes.
fn decoded_twice() {
    model(|| {
        let world = World::new();
        let one = thread::spawn({
            let world = Arc::clone(&world);
            move || world.decode()
        });
        world.decode();
        world.write(2);
        one.join().unwrap();
        world.safepoint();
        world.check();
    });
}

#[test]
fn code_that_is_written_to_while_it_is_decoded() {
    written_while_it_is_decoded();
}

#[test]
fn code_that_another_vcpu_is_removing() {
    removed_by_another_vcpu();
}

#[test]
fn code_that_two_decode() {
    decoded_twice();
}

#[test]
fn each_step_of_decoding_is_needed() {
    needed("tracking before reading", &[written_while_it_is_decoded]);
    needed("intact at insertion", &[written_while_it_is_decoded]);
    needed("others wait for who removes", &[removed_by_another_vcpu]);
}
