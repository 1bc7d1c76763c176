//! The table of translation blocks, shared by the vCPUs of a machine.
//!
//! Look-up is lock-free: buckets are singly linked lists of blocks behind atomic pointers. Changes (insertion, removal,
//! linking) take the lock. What is removed stays allocated until no vCPU can hold it any more (see [`crate::member`]); a vCPU in the
//! code of a removed block leaves it at the next jump, and does not come back.
//!
//! Per page of RAM the table knows which blocks lie there, and for each which 64-byte lines: a store into translated
//! code removes the blocks that overlap the written lines and no others.

#![expect(unsafe_code, reason = "lock-free lists of blocks")]

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;

use softmmu::steps::made;
use softmmu::{AddressSpace, CodeWrite, RamPage};

use crate::code::SharedMemory;
use crate::compiled::Code;
use crate::jump::Jumps;
use crate::layout::Link;
use crate::member::{Member, Members};
use crate::sync::{AtomicPtr, AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::tb::{Key, LinkRef, Links, Tb};

mod sweep;

/// As many as a system decodes blocks until it has booted: a list is walked with a cache miss for each of its blocks.
const BUCKETS: usize = if cfg!(loom) { 2 } else { 1 << 18 };

/// See the module.
pub struct Table {
    buckets: Box<[AtomicPtr<Tb>]>,
    inner: Mutex<Inner>,
    /// Moves when something is taken out of reach.
    clock: AtomicU64,
    /// Moves when a block gets code, before anyone can find that: see [`crate::platform::Fetches`].
    published: AtomicU64,
    /// The memory that the blocks' code is in, whose jumps are turned here.
    memory: Option<SharedMemory>,
    /// Blocks that there may be at once.
    room: usize,
}

// SAFETY: the raw pointers lead to blocks that the table owns (one strong count each) and to code that lives for ever.
unsafe impl Send for Table {}
// SAFETY: as above; mutation happens under `inner`.
unsafe impl Sync for Table {}

#[derive(Default)]
struct Inner {
    /// Never iterated over: its order cannot be seen.
    pages: HashMap<u32, Vec<*const Tb>>,
    members: Members,
    /// With their stamps.
    graveyard: Vec<(u64, Removed)>,
    blocks: usize,
    /// The bucket where [`sweep`] goes on.
    hand: usize,
    /// Blocks that it has removed.
    swept: u64,
}

/// What a vCPU may still look at.
enum Removed {
    Block(#[expect(dead_code, reason = "held until it is dropped")] Arc<Tb>),
    /// Of a block that has other code now.
    Links(#[expect(dead_code, reason = "held until it is dropped")] Links),
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("blocks", &self.lock().blocks).finish_non_exhaustive()
    }
}

impl Table {
    /// An empty table of up to `room` blocks, whose code will be in `memory`.
    pub fn new(memory: Option<SharedMemory>, room: usize) -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicPtr::default()).collect();
        let (clock, published) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { buckets, inner: Mutex::default(), clock, published, memory, room }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn bucket(&self, key: Key) -> &AtomicPtr<Tb> {
        &self.buckets[(key.hash() >> (u64::BITS - BUCKETS.ilog2())) as usize]
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.lock().blocks
    }

    /// How many blocks have had to make room for others.
    pub fn swept(&self) -> u64 {
        self.lock().swept
    }

    /// No blocks?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The block for `key`. Valid until the caller's next safepoint. Takes no lock.
    pub fn find(&self, key: Key) -> Option<&Tb> {
        // Acquire: pairs with the release store of an insertion.
        let mut at = self.bucket(key).load(Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: blocks in a bucket are alive, and removed ones stay allocated until a safepoint.
            let tb = unsafe { &*at };
            if tb.key == key {
                return Some(tb);
            }
            at = tb.next.load(Ordering::Acquire);
        }
        None
    }

    /// A new vCPU.
    pub fn join(&self) -> Arc<Member> {
        let member = Member::new();
        self.lock().members.join(&member);
        member
    }

    /// The vCPU is no more.
    pub fn part(&self, member: &Arc<Member>) {
        self.lock().members.part(member);
    }

    /// Are there several vCPUs?
    pub fn has_several_vcpus(&self) -> bool {
        self.lock().members.several()
    }

    /// What members note at safepoints.
    #[inline]
    pub fn clock(&self) -> &AtomicU64 {
        &self.clock
    }

    /// What a vCPU looks at before it enters code that it has found.
    #[inline]
    pub fn published(&self) -> &AtomicU64 {
        &self.published
    }

    /// A stamp for what was taken out of reach just now.
    pub fn stamp(&self) -> u64 {
        // SeqCst: with `Member::come_online`.
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Adds a block, unless another vCPU has added the same meanwhile. Its lines are tracked already; `intact` tells whether they
    /// still are, and the bytes still those that were decoded: otherwise there is no block (`None`).
    pub fn insert(&self, tb: Arc<Tb>, intact: impl FnOnce() -> bool) -> Option<&Tb> {
        let mut inner = self.lock();
        // Under the lock: lines stop being tracked under it too, and whoever takes a write to them out of the queue from here on
        // finds this block.
        if made("intact at insertion") && !intact() {
            return None;
        }
        if let Some(same) = self.find(tb.key).filter(|same| same.spans == tb.spans) {
            return Some(same);
        }
        self.sweep(&mut inner);
        let p = Arc::into_raw(tb);
        // SAFETY: the table owns the count that `into_raw` left.
        let tb = unsafe { &*p };
        for (n, page) in tb.pages() {
            let list = inner.pages.entry(page.0).or_default();
            // As many blocks as there is `room` for are fewer than 2^32.
            tb.places[n].store(list.len() as u32, Ordering::Relaxed);
            list.push(p);
        }
        inner.blocks += 1;
        let bucket = self.bucket(tb.key);
        tb.next.store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release: pairs with the acquire loads of `find`.
        bucket.store(p.cast_mut(), Ordering::Release);
        Some(tb)
    }

    /// All blocks that have code, by RIP.
    pub fn compiled(&self) -> Vec<Arc<Tb>> {
        let _lock = self.lock();
        let mut all = Vec::new();
        for b in &self.buckets {
            let mut at = b.load(Ordering::Acquire);
            while !at.is_null() {
                // SAFETY: blocks in a bucket are alive.
                let tb = unsafe { &*at };
                if !tb.code().is_null() {
                    all.push(self.share(tb));
                }
                at = tb.next.load(Ordering::Acquire);
            }
        }
        all.sort_by_key(|tb| (tb.key.rip, tb.key.ram));
        all
    }

    /// A second strong reference to a block of the table, for a compile worker.
    pub fn share(&self, tb: &Tb) -> Arc<Tb> {
        let p = ptr::from_ref(tb);
        // SAFETY: every `&Tb` outside workers comes from a table, where it is held by an `Arc`.
        unsafe {
            Arc::increment_strong_count(p);
            Arc::from_raw(p)
        }
    }

    /// Removes the blocks in the written lines whose bytes have changed; `gone` is told of each. (Boot loaders have variables
    /// beside code that they run again and again: to decode it anew after each store takes most of their time.)
    pub fn invalidate(&self, space: &AddressSpace, write: CodeWrite, mut gone: impl FnMut(&Tb)) {
        let mut inner = self.lock();
        // None may be left where blocks have made room for others: then the page's lines stop being tracked below.
        let list = inner.pages.get(&write.page.0).map_or(&[][..], Vec::as_slice);
        // SAFETY: blocks in a page's list are alive.
        let hit = |p: &*const Tb| unsafe { (**p).lines(write.page) } & write.lines != 0;
        let hit: Vec<*const Tb> = list.iter().copied().filter(hit).collect();
        // SAFETY: as above.
        let changed =
            |p: &*const Tb| unsafe { !(**p).is_as_decoded(|at, bytes| space.read_array(at, bytes)) };
        let victims: Vec<*const Tb> = hit.iter().copied().filter(changed).collect();
        if victims.is_empty() && !hit.is_empty() {
            return;
        }
        for p in victims {
            // SAFETY: as above.
            let tb = unsafe { &*p };
            gone(tb);
            self.remove(&mut inner, tb);
        }
        self.retrack(&inner, space, write.page);
    }

    /// Removes one block; its lines stay tracked.
    pub fn discard(&self, tb: &Tb) {
        let mut inner = self.lock();
        if !tb.dead.load(Ordering::Acquire) {
            self.remove(&mut inner, tb);
        }
    }

    /// Tells the address space which lines still hold code.
    fn retrack(&self, inner: &Inner, space: &AddressSpace, page: RamPage) {
        // SAFETY: blocks in a page's list are alive.
        let lines = |l: &Vec<*const Tb>| l.iter().fold(0, |a, p| a | unsafe { (**p).lines(page) });
        space.keep_code_lines(page, inner.pages.get(&page.0).map_or(0, lines));
    }

    fn remove(&self, inner: &mut Inner, tb: &Tb) {
        let p = ptr::from_ref(tb).cast_mut();
        tb.dead.store(true, Ordering::Release);
        let mut at = self.bucket(tb.key);
        loop {
            let here = at.load(Ordering::Acquire);
            if here == p {
                at.store(tb.next.load(Ordering::Acquire), Ordering::Release);
                break;
            }
            assert!(!here.is_null(), "a block of the table is in its bucket");
            // SAFETY: blocks in a bucket are alive.
            at = unsafe { &(*here).next };
        }
        for (n, page) in tb.pages() {
            take_off(&mut inner.pages, page, tb.places[n].load(Ordering::Relaxed) as usize);
        }
        self.drop_code_locked(inner, tb);
        inner.members.forget(tb);
        inner.blocks -= 1;
        // SAFETY: takes over the count that `insert` left in the table.
        let tb = unsafe { Arc::from_raw(p) };
        inner.graveyard.push((self.stamp(), Removed::Block(tb)));
    }

    /// `tb` has this code from now on, which lies at host address `at`. `false`: the block has died meanwhile.
    pub fn give_code(&self, tb: &Tb, at: *const u8, code: Code) -> bool {
        let mut inner = self.lock();
        if made("code for the living only") && tb.dead.load(Ordering::Acquire) {
            return false;
        }
        self.drop_code_locked(&inner, tb);
        for jump in &code.jumps {
            let link = &code.links.0[jump.link];
            link.site.store(at as usize + jump.site, Ordering::Relaxed);
            link.exit.store(at as usize + jump.exit, Ordering::Relaxed);
        }
        let old = std::mem::replace(&mut *lock(&tb.links), code.links);
        tb.tier.store(code.tier as u8, Ordering::Relaxed);
        tb.inner.store(code.inner as u8, Ordering::Relaxed);
        // Relaxed: the store behind it releases both.
        self.published.fetch_add(1, Ordering::Relaxed);
        tb.code.store(at.cast_mut(), Ordering::Release);
        inner.members.forget(tb);
        if !old.0.is_empty() {
            inner.graveyard.push((self.stamp(), Removed::Links(old)));
        }
        true
    }

    /// Makes `link` lead to `tb`, which has code.
    pub fn link(&self, link: &Link, tb: &Tb, epoch: u64) {
        let early = (!made("links are made under the lock")).then(|| tb.code());
        let _lock = self.lock();
        let code = early.unwrap_or_else(|| tb.code());
        if code.is_null() || early.is_none() && tb.dead.load(Ordering::Acquire) {
            return;
        }
        let inner = usize::from(tb.inner.load(Ordering::Relaxed));
        if !self.turn(link, code as usize + inner) {
            return;
        }
        detach(link);
        link.epoch.store(epoch, Ordering::Relaxed);
        link.to.store(ptr::from_ref(tb).cast_mut(), Ordering::Relaxed);
        lock(&tb.incoming).push(LinkRef(link));
    }

    /// Makes the jump of `link` lead to host address `to`. `false`: it is not in its place, or cannot lead there.
    fn turn(&self, link: &Link, to: usize) -> bool {
        let (Some(memory), site @ 1..) = (&self.memory, link.site.load(Ordering::Relaxed)) else {
            return false;
        };
        let Some(bytes) = Jumps::HERE.and_then(|j| j.to(site, to)) else { return false };
        let mut memory = lock(memory);
        let at = site - memory.base() as usize;
        memory
            .replace(at, bytes)
            .inspect_err(|why| tracing::warn!("a jump cannot be replaced: {why}"))
            .is_ok()
    }

    /// Makes `link` lead out of generated code. Under the lock.
    fn turn_out(&self, link: &Link) {
        let out = link.exit.load(Ordering::Relaxed);
        // Code that a jump leads to is about to be replaced: there is no way to go on with it.
        assert!(self.turn(link, out), "a jump into code that is dropped could not be replaced");
    }

    /// Takes a block's code away: nothing leads into it any more, and it leads nowhere. Until all have passed a safepoint
    /// ([`Table::passed`]), somebody may still execute it.
    pub fn drop_code(&self, tb: &Tb) {
        let inner = self.lock();
        self.drop_code_locked(&inner, tb);
        inner.members.forget(tb);
    }

    /// Have all vCPUs that run passed a safepoint since `stamp` was given?
    pub fn passed(&self, stamp: u64) -> bool {
        self.lock().members.passed(stamp)
    }

    fn drop_code_locked(&self, inner: &Inner, tb: &Tb) {
        tb.code.store(ptr::null_mut(), Ordering::Release);
        let incoming = std::mem::take(&mut *lock(&tb.incoming));
        for l in incoming {
            // SAFETY: a link removes itself from its target's list before its block dies.
            let link = unsafe { &*l.0 };
            link.to.store(ptr::null_mut(), Ordering::Relaxed);
            if made("jumps into dropped code are turned") {
                self.turn_out(link);
            }
        }
        for link in &lock(&tb.links).0 {
            if made("jumps out of dropped code are turned")
                && inner.members.several()
                && !link.to.load(Ordering::Relaxed).is_null()
            {
                // Another vCPU may be in this code, and what it leads to may be removed before that one has left.
                self.turn_out(link);
            }
            detach(link);
            // Its place may soon be another block's.
            link.site.store(0, Ordering::Relaxed);
        }
    }

    /// Frees what was removed and no vCPU can hold any more.
    pub fn reclaim(&self) {
        let mut inner = self.lock();
        if inner.graveyard.is_empty() {
            return;
        }
        let Inner { members, graveyard, .. } = &mut *inner;
        // Stamps were given in this order.
        let free =
            graveyard.partition_point(|(stamp, _)| !made("grace period of blocks") || members.passed(*stamp));
        let free: Vec<_> = graveyard.drain(..free).collect();
        drop(inner);
        drop(free);
    }

    /// Removes everything. All vCPUs are offline.
    pub fn clear(&self, space: &AddressSpace) {
        let mut inner = self.lock();
        inner.members.forget_all();
        for b in &self.buckets {
            loop {
                let p = b.load(Ordering::Acquire);
                if p.is_null() {
                    break;
                }
                // SAFETY: blocks in a bucket are alive.
                let tb = unsafe { &*p };
                self.remove(&mut inner, tb);
                for (page, _) in tb.spans.iter().flatten() {
                    space.keep_code_lines(*page, 0);
                }
            }
        }
    }
}

/// Takes the block at `place` off a page's list, whose last one takes the place.
fn take_off(pages: &mut HashMap<u32, Vec<*const Tb>>, page: RamPage, place: usize) {
    let Some(list) = pages.get_mut(&page.0) else { return };
    list.swap_remove(place);
    if let Some(moved) = list.get(place) {
        // SAFETY: blocks in a page's list are alive.
        let moved = unsafe { &**moved };
        if let Some((n, _)) = moved.pages().find(|(_, p)| *p == page) {
            moved.places[n].store(place as u32, Ordering::Relaxed);
        }
    }
    if list.is_empty() {
        pages.remove(&page.0);
    }
}

/// Takes `link` off its target's list. Under the lock.
fn detach(link: &Link) {
    let to = link.to.swap(ptr::null_mut(), Ordering::Relaxed);
    if !to.is_null() {
        // SAFETY: a block detaches everything that leads to it before it dies.
        let list = unsafe { &(*to).incoming };
        lock(list).retain(|l| l.0 != ptr::from_ref(link));
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut inner = self.lock();
        for b in &self.buckets {
            loop {
                let p = b.load(Ordering::Acquire);
                if p.is_null() {
                    break;
                }
                // SAFETY: blocks in a bucket are alive.
                self.remove(&mut inner, unsafe { &*p });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use x86::state::Mode;

    use super::*;

    fn block() -> Arc<Tb> {
        mapped_at(0x1000)
    }

    /// The instruction that lies at 1000h of RAM, where a program sees it at `rip`.
    fn mapped_at(rip: u64) -> Arc<Tb> {
        let block = x86::decode::block(&[0xc3], rip, Mode(Mode::CODE64)).expect("RET");
        Arc::new(Tb::new(block, 0x1000, [Some((RamPage(1), 1)), None]))
    }

    #[test]
    fn programs_at_ever_new_addresses_leave_room() {
        let table = Table::new(None, 100);
        let kept = table.insert(mapped_at(0), || true).expect("it is intact").key;
        for n in 1..10_000 {
            table.insert(mapped_at(n << 12), || true).expect("it is intact");
            assert!(table.len() <= 100);
            // Tier 0 runs one of them again and again.
            table.find(kept).expect("what is in use stays").heat.store(1, Ordering::Relaxed);
            table.reclaim();
        }
        assert_eq!(table.swept(), 9_900);
        assert_eq!(table.lock().pages[&1].len(), 100);
    }

    #[test]
    fn room_is_made_for_several_blocks_at_once() {
        let table = Table::new(None, 640);
        let insert = |n: u64| assert!(table.insert(mapped_at(n << 12), || true).is_some());
        (0..641).for_each(insert);
        assert_eq!((table.len(), table.swept()), (631, 10));
        (641..650).for_each(insert);
        assert_eq!((table.len(), table.swept()), (640, 10));
    }

    #[test]
    fn what_is_not_as_decoded_any_more_is_not_added() {
        let table = Table::new(None, usize::MAX);
        assert!(table.insert(block(), || false).is_none());
        assert_eq!(table.len(), 0);
        let first = std::ptr::from_ref(table.insert(block(), || true).expect("it is intact"));
        let again = std::ptr::from_ref(table.insert(block(), || true).expect("it is intact"));
        assert_eq!((first, table.len()), (again, 1), "two vCPUs have decoded the same");
    }

    #[test]
    fn removed_blocks_stay_while_a_vcpu_may_hold_them() {
        let table = Table::new(None, usize::MAX);
        let (one, other) = (table.join(), table.join());
        other.come_online(table.clock(), false);
        let tb = block();
        let held = Arc::downgrade(&tb);
        table.discard(table.insert(tb, || true).expect("it is intact"));
        one.come_online(table.clock(), false);
        one.pass(table.clock());
        table.reclaim();
        assert!(held.upgrade().is_some(), "the other has not passed a safepoint");
        other.pass(table.clock());
        table.reclaim();
        assert!(held.upgrade().is_none());
    }
}
