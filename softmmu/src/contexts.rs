//! Translation contexts: the sets of TLB banks that one vCPU keeps, so that going back to a recent context is a pointer
//! change and not a refill.
//!
//! A set is named by what may change without a flush: PCID and PKRU. All else that decides an access (CR0.WP, EFER.NXE and
//! the CR4 paging bits) drops every set when it changes. Sets of one PCID with different PKRU are one address space to
//! INVLPG, INVPCID and MOV CR3. Global pages are cached in each set that used them, so what drops global ones looks at all
//! sets.
//!
//! Entries that derive from level 2 outlive flushes, for as long as the set is entered with the same *root* (CR3's table, and
//! the PDPTEs): nobody flushes what changes with the page tables by itself. Without PCIDs all address spaces share one set, whose root
//! changes with each MOV CR3; one whose root is shadowed, since it is used again and again, gets a set of its *own*.
//!
//! Epochs: the supervisor's is the same in all sets while only global pages were executed, so that what the engine knows of
//! the kernel's code survives a change of address space; leaving a set in which the supervisor executed others begins a new
//! one. Users have an epoch in each set. The vCPUs of a machine number theirs from different starts, so that what is noted in
//! blocks of code that they share never fits another one's.

use crate::addr::Privilege;
use crate::bank::{Bank, Leave};
use crate::leaves::Leaves;
use crate::mmu::Flush;
use crate::tlb::{SETS, SharedTlb, TlbEntry};
use crate::walk::{PagingContext, Rules};

/// What names a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Key {
    pub pcid: u16,
    pub pkru: u32,
}

impl Key {
    pub fn of(ctx: &PagingContext) -> Self {
        Self { pcid: ctx.pcid, pkru: ctx.pkru.unwrap_or(0) }
    }
}

/// Which page tables are in force.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Root {
    table: u64,
    pdptes: [u64; 4],
}

impl Root {
    fn of(ctx: &PagingContext) -> Self {
        Self { table: ctx.cr3 & !0x1f, pdptes: ctx.pdptes }
    }
}

struct Set {
    key: Key,
    /// For one root alone.
    own: bool,
    /// Its root was shadowed when it was last entered anew.
    shadowed: bool,
    leaves: Leaves,
    /// What follows from the paging registers that it was last entered with ...
    rules: Rules,
    /// ... when [`Contexts::version`] was this.
    version: u64,
    /// Where its banks are.
    banks: [*const TlbEntry; 3],
    owned: [Bank; 3],
    user_epoch: u64,
    /// When it was last entered.
    used: u64,
}

pub(crate) struct Contexts {
    sets: Vec<Set>,
    current: usize,
    supervisor_epoch: u64,
    last_epoch: u64,
    clock: u64,
    /// Moves when paging registers change that are not in keys, nor CR3.
    version: u64,
}

/// Where a set's banks are.
fn bank_pointers(tlb: &SharedTlb, set: usize) -> [*const TlbEntry; 3] {
    [0, 1, 2].map(|bank| tlb.bank(first_bank(set) + bank).as_ptr())
}

/// log2 of the epochs that a vCPU has before it comes to those of the next one: a thousand a second for a year.
const EPOCH_BITS: u32 = 35;
/// vCPUs with epochs of their own; 43 bits name an epoch, as the engine's tags have room for.
const VCPUS: u64 = 256;

/// A set that so many others were entered after is not in use.
const UNUSED: u64 = 32;

/// The first bank of a set.
fn first_bank(set: usize) -> usize {
    3 * set
}

impl Contexts {
    /// Those of the vCPU with this number.
    pub fn new(number: u64, tlb: &SharedTlb, ctx: &PagingContext) -> Self {
        let start = (number % VCPUS) << EPOCH_BITS;
        let first = Set {
            key: Key::default(),
            own: false,
            shadowed: false,
            leaves: Leaves::default(),
            rules: Rules::new(ctx),
            version: 1,
            banks: bank_pointers(tlb, 0),
            owned: [Bank::new(), Bank::new(), Bank::new()],
            user_epoch: start + 2,
            used: 0,
        };
        Self {
            sets: vec![first],
            current: 0,
            supervisor_epoch: start + 1,
            last_epoch: start + 2,
            clock: 0,
            version: 1,
        }
    }

    /// The bank of the current set for `p`, as [`SharedTlb::bank`] counts them.
    #[inline]
    pub fn bank(&self, p: Privilege) -> usize {
        first_bank(self.current) + p as usize
    }

    /// The owner's side of that bank.
    #[inline]
    pub fn owned(&mut self, p: Privilege) -> &mut Bank {
        &mut self.sets[self.current].owned[p as usize]
    }

    /// The epoch of the current set for `p`.
    #[inline]
    pub fn epoch(&self, p: Privilege) -> u64 {
        if p == Privilege::User { self.sets[self.current].user_epoch } else { self.supervisor_epoch }
    }

    /// What follows from the paging registers in force.
    #[inline]
    pub fn rules(&self) -> &Rules {
        &self.sets[self.current].rules
    }

    /// Where the current set's banks are.
    #[inline]
    pub fn banks(&self) -> [*const TlbEntry; 3] {
        self.sets[self.current].banks
    }

    /// The paging registers are `ctx` now, which has the current set's key.
    pub fn set_rules(&mut self, ctx: &PagingContext) {
        let set = &mut self.sets[self.current];
        let known = set.version == self.version && set.rules.ctx.pkru == ctx.pkru;
        if known && set.rules.ctx == *ctx {
            return;
        }
        set.leaves.forget();
        if known {
            // What follows from the others is the same for every root.
            set.rules.ctx = *ctx;
        } else {
            set.rules = Rules::new(ctx);
            set.version = self.version;
        }
    }

    /// Other paging registers change than [`Self::go_back`] looks at.
    pub fn other_registers(&mut self) {
        self.version += 1;
    }

    /// Enters the set of `key`, if there is one and it was last entered with this CR3, and all other registers as now.
    #[inline]
    pub fn go_back(&mut self, key: Key, cr3: u64) -> bool {
        let known = |set: &Set| set.key == key && set.rules.ctx.cr3 == cr3 && set.version == self.version;
        let Some(at) = self.sets.iter().position(known) else { return false };
        if at != self.current {
            self.go_to(at);
        }
        true
    }

    /// The current set's PCID.
    pub fn pcid(&self) -> u16 {
        self.sets[self.current].key.pcid
    }

    fn fresh(&mut self) -> u64 {
        self.last_epoch += 1;
        self.last_epoch
    }

    /// Begins new epochs for banks that have lost execute translations, one bit each, as [`SharedTlb::bank`] counts them.
    pub fn lost_banks(&mut self, banks: u32) {
        for set in 0..self.sets.len() {
            let mine = banks >> first_bank(set) & 7;
            (0..3).filter(|bank| mine >> bank & 1 != 0).for_each(|bank| self.lost(set, bank));
        }
    }

    /// An execute translation of `bank` (0 to 2) of a set may be gone.
    fn lost(&mut self, set: usize, bank: usize) {
        let epoch = self.fresh();
        if bank == Privilege::User as usize {
            self.sets[set].user_epoch = epoch;
        } else {
            self.supervisor_epoch = epoch;
        }
    }

    /// Makes a set for these registers the current one; [`Self::set_rules`] comes next. `shadowed` says whether the root is.
    pub fn enter(&mut self, tlb: &SharedTlb, ctx: &PagingContext, shadowed: bool) {
        let (key, root) = (Key::of(ctx), Root::of(ctx));
        let own = |set: &Set| set.own && set.key == key && Root::of(&set.rules.ctx) == root;
        let set = match self.sets.iter().position(own) {
            Some(set) => set,
            None if shadowed && key.pcid == 0 && self.has_room() => self.assign(tlb, key, true),
            None => {
                let common = self.sets.iter().position(|set| !set.own && set.key == key);
                let set = common.unwrap_or_else(|| self.assign(tlb, key, false));
                if Root::of(&self.sets[set].rules.ctx) != root {
                    self.drop_kept(tlb, set);
                }
                set
            }
        };
        self.sets[set].shadowed = shadowed;
        if set != self.current {
            self.go_to(set);
        }
    }

    /// Another root comes into force in a set.
    fn drop_kept(&mut self, tlb: &SharedTlb, set: usize) {
        if self.sets[set].owned.iter().any(Bank::keeps) {
            self.flush_set(tlb, set, Leave::Global);
        }
    }

    /// What the current set knows of level 2, and whether its root is shadowed.
    #[inline]
    pub fn leaves(&mut self) -> (&mut Leaves, bool) {
        let set = &mut self.sets[self.current];
        (&mut set.leaves, set.shadowed)
    }

    /// The current set's banks, as bits that vCPUs share.
    pub fn bank_bits(&self, tlb: &SharedTlb) -> u64 {
        (0..3).fold(0, |all, bank| all | tlb.bank_bit(first_bank(self.current) + bank))
    }

    #[inline]
    fn go_to(&mut self, set: usize) {
        let [supervisor, with_ac, _] = &self.sets[self.current].owned;
        if supervisor.executes_nonglobal() || with_ac.executes_nonglobal() {
            self.supervisor_epoch = self.fresh();
        }
        self.clock += 1;
        self.sets[set].used = self.clock;
        self.current = set;
    }

    /// Is there a set that nobody would miss? More roots in turn than sets are better off in one set, with its global pages.
    fn has_room(&self) -> bool {
        self.sets.len() < SETS || self.sets.iter().any(|set| self.clock - set.used > UNUSED)
    }

    /// A set for what has none: a new one, or the one that was left longest ago.
    fn assign(&mut self, tlb: &SharedTlb, key: Key, own: bool) -> usize {
        if self.sets.len() < SETS {
            let user_epoch = self.fresh();
            let owned = [Bank::new(), Bank::new(), Bank::new()];
            let banks = bank_pointers(tlb, self.sets.len());
            self.sets.push(Set {
                key,
                own,
                shadowed: false,
                leaves: Leaves::default(),
                rules: Rules::default(),
                version: 0,
                banks,
                owned,
                user_epoch,
                used: 0,
            });
            return self.sets.len() - 1;
        }
        let oldest = (0..self.sets.len()).min_by_key(|set| self.sets[*set].used).unwrap_or(0);
        self.flush_set(tlb, oldest, Leave::Nothing);
        let user_epoch = self.fresh();
        let set = &mut self.sets[oldest];
        (set.key, set.own, set.version, set.user_epoch) = (key, own, 0, user_epoch);
        oldest
    }

    fn flush_set(&mut self, tlb: &SharedTlb, set: usize, leave: Leave) {
        for bank in 0..3 {
            let entries = tlb.bank(first_bank(set) + bank);
            if self.sets[set].owned[bank].flush(entries, leave) {
                self.lost(set, bank);
            }
        }
    }

    /// Drops translations.
    pub fn flush(&mut self, tlb: &SharedTlb, f: Flush) {
        for set in 0..self.sets.len() {
            match f {
                Flush::None => {}
                Flush::All => self.flush_set(tlb, set, Leave::Nothing),
                Flush::NonGlobal => self.flush_set(tlb, set, Leave::Lasting),
                Flush::Pcid(pcid) if self.sets[set].key.pcid == pcid => {
                    self.flush_set(tlb, set, Leave::Lasting);
                }
                Flush::Pcid(_) => {}
            }
        }
    }

    /// Drops what derives from the page of `gva` in the address space `pcid`, and global translations of it in all.
    pub fn invalidate(&mut self, tlb: &SharedTlb, pcid: u16, gva: u64) {
        for set in 0..self.sets.len() {
            let only_global = self.sets[set].key.pcid != pcid;
            for bank in 0..3 {
                let entries = tlb.bank(first_bank(set) + bank);
                if self.sets[set].owned[bank].invalidate(entries, gva, only_global) {
                    self.lost(set, bank);
                }
            }
        }
    }
}
