//! Generated code: direct jumps that are turned, and places that are used again.

#![expect(unsafe_code, reason = "looks at code memory")]

use std::sync::Arc;

use jit::CodeMapping;
use jit::code::{CodeCache, NoPlace};
use jit::compiled::{Code, Site, Tier};
use jit::jump::Jumps;
use jit::layout::Link;
use jit::table::Table;
use jit::tb::{Links, Tb};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use loom::thread;
use softmmu::RamPage;

use super::{MODE, model, needed};

/// Offsets in the code of each block.
const SITE: usize = 4;
const EXIT: usize = 64;
const LEN: usize = 128;

fn block(at: u64) -> Arc<Tb> {
    let block = x86::decode::block(&[0xc3], at, MODE).expect("RET");
    Arc::new(Tb::new(block, at, [Some((RamPage(0), 1)), None]))
}

/// Code with one exit, to `rip`.
fn code(rip: u64) -> Code {
    let link = Link {
        site: AtomicUsize::new(0),
        exit: AtomicUsize::new(0),
        epoch: AtomicU64::new(0),
        rip,
        to: AtomicPtr::default(),
    };
    Code {
        bytes: vec![0; LEN],
        body: EXIT,
        inner: 0,
        jumps: vec![Site { link: 0, site: SITE, exit: EXIT }],
        links: Links(vec![Box::new(link)]),
        tier: Tier::One,
    }
}

/// Two blocks with code, the first of which may lead to the second.
struct World {
    cache: loom::sync::Mutex<CodeCache>,
    table: Table,
    blocks: [Arc<Tb>; 2],
}

impl World {
    fn new() -> Arc<Self> {
        let cache = CodeCache::new(4 * LEN, CodeMapping::Auto).expect("code memory");
        let table = Table::new(Some(cache.memory()), usize::MAX);
        let blocks = [block(0x100), block(0x200)];
        let world = Self { cache: loom::sync::Mutex::new(cache), table, blocks };
        for tb in &world.blocks {
            world.table.insert(Arc::clone(tb), || true).expect("it is intact");
            world.compile(tb);
        }
        Arc::new(world)
    }

    /// Gives a block code, if there is a place for it.
    fn compile(&self, tb: &Arc<Tb>) {
        let code = code(0x200);
        let mut cache = self.cache.lock().unwrap();
        match cache.install(&self.table, tb, &code.bytes, std::iter::once(SITE), |_| ()) {
            Ok(at) => _ = self.table.give_code(tb, at, code),
            Err(NoPlace::InUse) => {}
            Err(NoPlace::Host(why)) => panic!("{why}"),
        }
    }

    /// Links the first block to the second, as its dispatcher does.
    fn link(&self) {
        let [from, to] = &self.blocks;
        let link = from.links.lock().unwrap().0.first().map(|link| std::ptr::from_ref(&**link));
        if let Some(link) = link {
            // SAFETY: the test keeps the blocks, and nobody gives them other links.
            self.table.link(unsafe { &*link }, to, 1);
        }
    }

    /// Where the first block's jump leads; 0: out of generated code.
    fn leads_to(&self, code: *const u8) -> usize {
        let site = code as usize + SITE;
        // SAFETY: four bytes of code memory, which `block` holds by its cache.
        let bytes: [u8; 4] = unsafe { std::ptr::read_volatile(site as *const [u8; 4]) };
        let to = |at: usize| Jumps::HERE.and_then(|j| j.to(site, at)) == Some(bytes);
        let second = self.blocks[1].code() as usize;
        match () {
            () if bytes == [0; 4] || to(code as usize + EXIT) => 0,
            () if second != 0 && to(second) => second,
            () => usize::MAX,
        }
    }
}

/// One vCPU links to a block that another one removes.
fn linked_while_it_is_removed() {
    model(|| {
        let world = World::new();
        let from = world.blocks[0].code();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || world.link()
        });
        world.table.discard(&world.blocks[1]);
        vcpu.join().unwrap();
        assert_eq!(world.leads_to(from), 0, "a jump leads to a block that is dead");
        assert!(world.blocks[1].incoming.lock().unwrap().is_empty(), "a dead block knows who leads to it");
    });
}

/// A vCPU links from code that another one takes away, and may be executing it: it comes out at the next jump.
fn linked_while_its_code_is_dropped() {
    model(|| {
        let world = World::new();
        let _others = [world.table.join(), world.table.join()];
        let from = world.blocks[0].code();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || world.link()
        });
        world.table.drop_code(&world.blocks[0]);
        vcpu.join().unwrap();
        assert_eq!(world.leads_to(from), 0, "dropped code leads to other blocks");
        assert!(world.blocks[1].incoming.lock().unwrap().is_empty());
    });
}

/// Code is ready when its block dies.
fn compiled_while_it_is_removed() {
    model(|| {
        let table = Table::new(None, usize::MAX);
        let tb = block(0x100);
        table.insert(Arc::clone(&tb), || true).expect("it is intact");
        let world = Arc::new((table, tb));
        let worker = thread::spawn({
            let world = Arc::clone(&world);
            move || world.0.give_code(&world.1, [0u8; LEN].as_ptr(), code(0x200))
        });
        world.0.discard(&world.1);
        worker.join().unwrap();
        assert!(world.1.code().is_null(), "a dead block has code");
    });
}

/// A place is used again while a vCPU may execute what was there: loom fails where it can.
fn place_used_again() {
    model(|| {
        let cache = CodeCache::new(1, CodeMapping::Auto).expect("code memory");
        let table = Table::new(None, usize::MAX);
        let blocks = [block(0x100), block(0x200), block(0x300)];
        for tb in &blocks {
            table.insert(Arc::clone(tb), || true).expect("it is intact");
        }
        let world = Arc::new((table, blocks, UnsafeCell::new(())));
        let mut cache = cache;
        let mut place = |n: usize| {
            let (table, blocks, _) = &*world;
            let code = code(0x200);
            let at = cache.install(table, &blocks[n], &[0; 200], std::iter::empty(), |_| ());
            at.map(|at| table.give_code(&blocks[n], at, Code { jumps: Vec::new(), ..code }))
        };
        assert!(place(0).is_ok() && place(1).is_ok(), "nobody runs");
        let member = world.0.join();
        let vcpu = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let (table, blocks, cell) = &*world;
                member.come_online(table.clock(), false);
                for _ in 0..2 {
                    if !blocks[0].code().is_null() {
                        cell.with(|_| ());
                    }
                    member.pass(table.clock());
                }
                member.go_offline();
            }
        });
        // Where the first one's code was.
        if place(2).is_ok() {
            world.2.with_mut(|_| ());
        }
        vcpu.join().unwrap();
        assert!(place(2).is_ok(), "nobody runs");
    });
}

#[test]
fn a_jump_to_a_block_that_is_being_removed() {
    linked_while_it_is_removed();
}

#[test]
fn a_jump_from_code_that_is_being_dropped() {
    linked_while_its_code_is_dropped();
}

#[test]
fn code_for_a_block_that_is_being_removed() {
    compiled_while_it_is_removed();
}

#[test]
fn code_where_other_code_was() {
    place_used_again();
}

#[test]
fn each_step_of_generated_code_is_needed() {
    needed("jumps into dropped code are turned", &[linked_while_it_is_removed]);
    needed("links are made under the lock", &[linked_while_it_is_removed]);
    needed("jumps out of dropped code are turned", &[linked_while_its_code_is_dropped]);
    needed("code for the living only", &[compiled_while_it_is_removed]);
    needed("grace period of places", &[place_used_again]);
}
