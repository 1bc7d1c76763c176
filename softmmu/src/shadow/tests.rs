//! Random page tables, accesses and stores; the plain walker is the oracle.

use std::sync::Arc;

use crossbeam::epoch;

use crate::addr::{Access, PAGE_MASK, Privilege, RamPage};
use crate::entry::INVALID;
use crate::shadow::{All, Derived, Recorder, Shadow, Steps, leaf_index};
use crate::sync::Ordering;
use crate::tlb::{SLOT_MASK, SharedTlb, TLB_ENTRIES, Words};
use crate::walk::{Paging, PagingContext, Rules, TableMemory, Translation, walk_by};

/// Pages of RAM: the first are page tables.
const PAGES: u64 = 64;
const TABLES: u64 = 8;

/// Guest RAM.
#[derive(Clone)]
struct Words8(Vec<u64>);

impl TableMemory for &mut Words8 {
    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64> {
        let word = *self.0.get(at as usize / 8)?;
        Some(if size == 4 { (word >> ((at & 4) * 8)) & 0xffff_ffff } else { word })
    }

    fn update_entry(&mut self, at: u64, size: u8, old: u64, new: u64) -> bool {
        if self.load_entry(at, size) != Some(old) {
            return false;
        }
        if let Some(word) = self.0.get_mut(at as usize / 8) {
            *word ^= (old ^ new) << if size == 4 { (at & 4) * 8 } else { 0 };
        }
        true
    }

    fn ram_page(&mut self, at: u64) -> Option<RamPage> {
        page_of(at)
    }
}

struct World {
    ram: Words8,
    shadow: Shadow,
    vcpus: Vec<Arc<SharedTlb>>,
    tracked: [bool; PAGES as usize],
    rules: Rules,
    seed: u64,
}

fn page_of(at: u64) -> Option<RamPage> {
    (at < PAGES << 12).then(|| RamPage::containing(at))
}

impl World {
    fn new(paging: Paging, seed: u64) -> Self {
        let ctx = PagingContext {
            paging,
            cr3: 0x1000,
            pdptes: [0x1001, 0x2001, 0x1001, 0],
            wp: true,
            nxe: true,
            gib_pages: true,
            phys_bits: 40,
            ..PagingContext::default()
        };
        Self {
            ram: Words8(vec![0; PAGES as usize * 512]),
            shadow: Shadow::new(PAGES as u32),
            vcpus: vec![Arc::new(SharedTlb::default())],
            tracked: [false; PAGES as usize],
            rules: Rules::new(&ctx),
            seed,
        }
    }

    fn random(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % n
    }

    /// Few indices at each level, so that walks meet.
    fn address(&mut self) -> u64 {
        let levels: &[u32] = match self.rules.ctx.paging {
            Paging::Bits32 { .. } => &[22, 12],
            Paging::Pae => &[30, 21, 12],
            _ => &[39, 30, 21, 12],
        };
        levels.iter().fold(0, |gva, shift| gva | (self.random(3) << shift))
    }

    fn random_entry(&mut self) -> u64 {
        let frame = if self.random(3) == 0 { self.random(PAGES) } else { self.random(TABLES) };
        let mut entry = (frame << 12) | 7 | (self.random(2) * 0x60);
        for bit in [0, 1, 2, 7, 8, 63] {
            entry ^= u64::from(self.random(if bit == 7 { 8 } else { 6 }) == 0) << bit;
        }
        if entry & 0x80 != 0 && self.random(4) != 0 {
            entry &= !0x3f_f000;
        }
        if self.rules.ctx.paging == (Paging::Bits32 { pse: true }) { entry & 0xffff_ffff } else { entry }
    }

    /// A store of the guest's, through the funnel.
    fn store<S: Steps>(&mut self) {
        let table = self.random(TABLES);
        let size = if matches!(self.rules.ctx.paging, Paging::Bits32 { .. }) { 4 } else { 8 };
        let at = (table << 12) + self.random(3) * size;
        let (entry, bytes) = (self.random_entry(), if self.random(8) == 0 { 1 } else { size });
        let shift = (at & 7) * 8;
        let mask = (u64::MAX >> (64 - 8 * bytes)) << shift;
        let word = &mut self.ram.0[at as usize / 8];
        *word = (*word & !mask) | ((entry << shift) & mask);
        if self.tracked[table as usize] && self.shadow.stored::<S>(at, bytes, &self.vcpus) {
            let tracked = &mut self.tracked[table as usize];
            self.shadow.remove(RamPage(table as u32), &self.vcpus, || *tracked = false);
        }
    }

    /// A walk for an access, which fills both levels.
    fn access<S: Steps>(&mut self) {
        let gva = self.address() | self.random(4096);
        let p = [Privilege::Supervisor, Privilege::User][self.random(2) as usize];
        let access = [Access::Read, Access::Write, Access::Execute][self.random(3) as usize];
        let guard = epoch::pin();
        let upper = self.shadow.upper();
        let mut recorder = Recorder::new(&mut self.ram, &self.shadow, &self.rules.ctx, &guard);
        let Ok(t) = walk_by(&mut recorder, &self.rules, p, gva, access) else { return };
        let missing: Vec<_> = recorder.missing().collect();
        let bank = p as usize;
        let published = recorder.publish::<S>(gva, t.gpa.0 & PAGE_MASK, None, self.vcpus[0].bank_bit(bank));
        if !missing.is_empty() {
            assert!(!published);
            for (table, role) in missing {
                let tracked = &mut self.tracked[table.0 as usize];
                let made = self.shadow.insert(table, role, || *tracked = true);
                assert!(made.is_some() || self.shadow.find(table, role, &guard).is_some());
            }
        } else if published {
            let Some(found) =
                self.shadow.descend(&self.rules.ctx, gva, &guard, self.vcpus[0].bank_bit(bank), page_of)
            else {
                panic!("{gva:#x} was published")
            };
            let page = gva & PAGE_MASK;
            let addend = (t.gpa.0 & PAGE_MASK).wrapping_sub(page);
            let words = Words { read: page, write: INVALID, exec: INVALID, addend };
            let slot = (page & SLOT_MASK) as usize >> 12;
            let from = Derived {
                shadow: &self.shadow,
                page: &found.page,
                index: leaf_index(found.page.role, gva),
                upper,
            };
            assert!(self.vcpus[0].derive::<S>(bank, slot, &from, |_| Some(words)));
        }
    }

    fn oracle(&self, p: Privilege, gva: u64, access: Access) -> Option<Translation> {
        walk_by(&mut &mut self.ram.clone(), &self.rules, p, gva, access).ok()
    }

    /// What level 2 says is what the guest's tables say.
    fn check_shadow(&mut self) -> Option<bool> {
        let gva = self.address();
        let guard = epoch::pin();
        let found = self.shadow.descend(&self.rules.ctx, gva, &guard, 0, page_of)?;
        let mut right = true;
        for p in [Privilege::Supervisor, Privilege::User] {
            let size = 1 << found.page.role.shift;
            let judged = self.rules.judge(p, found.merged, found.gpa.0, size);
            let same = |t: Option<Translation>, allowed| {
                t.is_some() == allowed && t.is_none_or(|t| t.gpa == found.gpa)
            };
            right &= same(self.oracle(p, gva, Access::Read), judged.readable);
            right &= same(self.oracle(p, gva, Access::Execute), judged.executable);
            if judged.writable {
                right &= same(self.oracle(p, gva, Access::Write), true);
            }
        }
        Some(right)
    }

    /// What level 1 holds is what the guest's tables say.
    fn check_level1(&self, p: Privilege) -> (u64, bool) {
        let (mut held, mut right) = (0, true);
        for slot in 0..TLB_ENTRIES {
            let entry = &self.vcpus[0].bank(p as usize)[slot];
            let page = entry.read.load(Ordering::Relaxed);
            if page != INVALID {
                held += 1;
                let gpa = page.wrapping_add(entry.addend.load(Ordering::Relaxed));
                let any = [Access::Read, Access::Execute, Access::Write].map(|a| self.oracle(p, page, a));
                right &= any.iter().flatten().next().is_some_and(|t| t.gpa.0 == gpa);
            }
        }
        (held, right)
    }
}

/// Whether all was right; how often there was something to be wrong.
fn run<S: Steps>(paging: Paging, seed: u64, steps: u32) -> (bool, u64) {
    let mut world = World::new(paging, seed);
    let (mut right, mut seen) = (true, 0);
    for step in 0..steps {
        match world.random(12) {
            0 => world.store::<S>(),
            _ => world.access::<S>(),
        }
        for _ in 0..2 {
            let found = world.check_shadow();
            seen += u64::from(found.is_some());
            right &= found.unwrap_or(true);
        }
        if step % 16 == 0 {
            for p in [Privilege::Supervisor, Privilege::User] {
                let (held, ok) = world.check_level1(p);
                seen += held;
                right &= ok;
            }
        }
    }
    (right, seen)
}

const MODES: [Paging; 5] = [
    Paging::Bits32 { pse: false },
    Paging::Bits32 { pse: true },
    Paging::Pae,
    Paging::Level4,
    Paging::Level5,
];

#[test]
fn both_levels_are_what_the_tables_say() {
    for paging in MODES {
        let mut seen = 0;
        for seed in 0..40 {
            let (right, looked_at) = run::<All>(paging, seed, 1500);
            assert!(right, "{paging:?}, seed {seed}");
            seen += looked_at;
        }
        assert!(seen > 1000, "{paging:?}: {seen} translations were looked at");
    }
}

#[test]
fn pages_stored_to_often_are_given_up_and_freed() {
    let shadow = Shadow::new(2);
    let ctx = PagingContext { paging: Paging::Level4, phys_bits: 40, ..PagingContext::default() };
    let role = super::walk::role(&ctx, 3);
    let page = shadow.insert(RamPage(1), role, || ()).unwrap();
    assert!(shadow.insert(RamPage(1), role, || ()).is_none());
    let sample = page.sample().unwrap();
    assert!(page.publish::<All>(3, super::ram(0x67), sample));
    for _ in 0..crate::shadow::page::STORES {
        assert!(!shadow.stored::<All>(0x1000, 8, &[]));
    }
    assert_ne!(page.get(3), 0, "other entries stay");
    assert!(shadow.stored::<All>(0x1000, 8, &[]));
    let mut untracked = false;
    shadow.remove(RamPage(1), &[], || untracked = true);
    assert!(untracked && page.get(3) == 0 && page.sample().is_none());
    assert!(!page.publish::<All>(3, super::ram(0x67), sample));
    // What clears a whole page makes something else of it.
    shadow.insert(RamPage(1), role, || ()).unwrap();
    assert!(shadow.stored::<All>(0x1000, 4096, &[]));
}

#[test]
fn a_page_that_is_removed_before_it_is_tracked_never_opens() {
    let shadow = Shadow::new(1);
    let ctx = PagingContext { paging: Paging::Pae, phys_bits: 40, ..PagingContext::default() };
    let role = super::walk::role(&ctx, 0);
    assert!(shadow.insert(RamPage(0), role, || shadow.remove(RamPage(0), &[], || ())).is_none());
    let guard = epoch::pin();
    assert!(shadow.find(RamPage(0), role, &guard).is_none());
}
