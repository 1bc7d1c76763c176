//! Level 2's part of a miss in level 1.
//!
//! A stretch of addresses that misses again and again gets its page tables shadowed ([`Mmu::look`]); from then on a miss reads one
//! word of the shadow page that all vCPUs share, and what level 1 gets from it is *kept*: MOV CR3 and flushes of an
//! address space leave it, since the store that changes the page tables removes it (see the module `shadow`).
//!
//! Level 2 is never needed: where anything speaks against it (tables in ROM, a page that is stored to too often, a store in
//! between), the walk of the guest's tables serves the access, and level 1 keeps the result as the architecture's TLB would.

use std::sync::Arc;

use crossbeam::epoch;

use crate::addr::{Access, PAGE_MASK, Privilege, RamPage};
use crate::bank::{Filled, slot_of};
use crate::entry::{INVALID, MMIO_ADDEND, MmioEntry, TRACKED};
use crate::generation::{Sample, Verdict};
use crate::leaves::{Advice, Leaf};
use crate::mmu::{MemTrap, Mmu, Place};
use crate::shadow::{
    All, Derived, EXECUTED, FRAME, Kind, Recorder, kind, leaf_index, merge, rights, root_role,
};
use crate::tlb::Words;
use crate::view::Tables;
use crate::walk::{Paging, PagingContext, Translation, walk_by};

/// What became of a miss.
pub(crate) enum Served {
    /// Here is the place; `None`: something changed, look at level 1 again.
    Yes(Option<Place>),
    /// Walk the guest's page tables.
    No,
}

impl Mmu {
    /// Serves a miss from level 2, if that is what the stretch of `gva` is ready for.
    #[inline]
    pub(crate) fn serve(
        &mut self,
        p: Privilege,
        gva: u64,
        access: Access,
        sample: Sample,
    ) -> Result<Served, MemTrap> {
        if !self.paging().paging.translates(gva) {
            return Ok(Served::No);
        }
        let (upper, misses) = (self.space.shadow.upper(), self.space.shadow.misses());
        let (leaves, shadowed) = self.contexts.leaves();
        match leaves.advise(gva, upper, shadowed, misses) {
            Advice::Walk => Ok(Served::No),
            Advice::Look => self.look(p, gva, access, sample),
            Advice::Use(leaf) => match self.use_leaf(p, gva, access, leaf)? {
                Some(served) => Ok(served),
                None => self.look(p, gva, access, sample),
            },
        }
    }

    /// [`Self::derive`] from a leaf that is remembered for the next miss.
    fn use_leaf(
        &mut self,
        p: Privilege,
        gva: u64,
        access: Access,
        leaf: Leaf,
    ) -> Result<Option<Served>, MemTrap> {
        let served = self.derive(p, gva, access, &leaf);
        self.contexts.leaves().0.remember(gva, leaf);
        served
    }

    /// Fills level 1 from a word of level 2. `None`: the word does not allow the access, or there is none.
    fn derive(
        &mut self,
        p: Privilege,
        gva: u64,
        access: Access,
        leaf: &Leaf,
    ) -> Result<Option<Served>, MemTrap> {
        let role = leaf.page.role;
        let index = leaf_index(role, gva);
        let word = leaf.page.get(index);
        let page_size = 1 << role.shift;
        match kind(word) {
            Kind::Absent | Kind::Table => return Ok(None),
            Kind::Corrupt => return Err(self.corrupt_word(gva, word, leaf)),
            Kind::Ram | Kind::Mmio { .. } => {}
        }
        let gpa = word & FRAME | gva & (page_size - 1);
        let t = self.contexts.rules().judge(p, merge(rights(word), leaf.above), gpa, page_size);
        if !t.allows(access) {
            return Ok(None);
        }
        let page = gva & PAGE_MASK;
        let (words, place) = match kind(word) {
            Kind::Mmio { frame, generation } => {
                if access == Access::Execute || self.space.generation.verdict(generation) != Verdict::Current
                {
                    return Ok(None);
                }
                let pattern = |right, access| {
                    if right { MmioEntry { frame, access, generation }.encode() } else { INVALID }
                };
                let words = Words {
                    read: pattern(t.readable, Access::Read),
                    write: pattern(t.writable, Access::Write),
                    exec: INVALID,
                    addend: page | MMIO_ADDEND,
                };
                (words, Place::Mmio(t.gpa))
            }
            _ => match self.view.memory(t.gpa.0 & PAGE_MASK) {
                // Rights to ROM are not those of its page tables.
                Some((_, true)) => return Ok(Some(Served::No)),
                None => return Ok(None),
                Some((offset, false)) => {
                    let addend = self.addend(offset, page);
                    let write = self.write_tag(&t, page, offset);
                    let host = Self::host(addend, gva);
                    let watched = access == Access::Write && write == page | TRACKED;
                    let place = if watched { Place::Watched(host) } else { Place::Ram(host) };
                    (self.ram_words(p, page, access, &t, addend, write), place)
                }
            },
        };
        if words.exec != INVALID {
            leaf.page.join_executors(self.tlb.bank_bit(self.contexts.bank(p)));
            if !leaf.page.mark_executed(index, word) {
                return Ok(Some(Served::Yes(None)));
            }
        }
        let from = Derived { shadow: &self.space.shadow, page: &leaf.page, index, upper: leaf.upper };
        let stays = self.tlb.derive::<All>(self.contexts.bank(p), slot_of(gva), &from, |now| {
            ((now ^ word) & !EXECUTED == 0).then_some(words)
        });
        leaf.page.count_use();
        self.counters.derived += 1;
        let executes = (access == Access::Execute).then_some(t.gpa.0 & PAGE_MASK);
        self.contexts
            .owned(p)
            .note_fill(slot_of(gva), &Filled { page, page_size, global: t.global, kept: true, executes });
        Ok(Some(Served::Yes(stays.then_some(place))))
    }

    /// Finds the leaf of `gva` in the shadow tables, or walks the guest's and puts it there. Tables of a path that was looked at
    /// often enough are shadowed from then on.
    #[cold]
    #[inline(never)]
    fn look(&mut self, p: Privilege, gva: u64, access: Access, sample: Sample) -> Result<Served, MemTrap> {
        let space = Arc::clone(&self.space);
        let shadow = &space.shadow;
        let guard = epoch::pin();
        let upper = shadow.upper();
        let banks = self.contexts.bank_bits(&self.tlb);
        let misses = shadow.misses();
        let (rules, view) = (self.contexts.rules(), &mut self.view);
        if let Some(found) = shadow.descend(&rules.ctx, gva, &guard, banks, |at| view.ram_page(at)) {
            let t = rules.judge(p, found.merged, found.gpa.0, 1 << found.page.role.shift);
            if t.allows(access) {
                let leaf = Leaf { page: found.page, above: found.above, upper };
                if let Some(served) = self.use_leaf(p, gva, access, leaf)? {
                    return Ok(served);
                }
            }
        }
        self.counters.walks += 1;
        let rules = self.contexts.rules();
        let tables = Tables { view: &mut self.view, space: &space, directory: &mut self.directory };
        let mut recorder = Recorder::new(tables, shadow, &rules.ctx, &guard);
        let t = walk_by(&mut recorder, rules, p, gva, access).map_err(MemTrap::Page)?;
        let missing: Vec<_> = recorder.missing().collect();
        if missing.is_empty() {
            let frame = t.gpa.0 & PAGE_MASK;
            let memory = recorder.memory().view.memory(frame);
            let device = if memory.is_some() { None } else { sample.number() };
            let published =
                (memory.is_some() || device.is_some()) && recorder.publish::<All>(gva, frame, device, banks);
            let leaf = recorder.leaf(upper).filter(|_| published);
            let served = match leaf {
                Some(leaf) => self.use_leaf(p, gva, access, leaf)?,
                None => None,
            };
            return Ok(served.unwrap_or_else(|| {
                self.contexts.leaves().0.look_after(gva, misses);
                Served::No
            }));
        }
        drop(guard);
        // Each of them counts, not only those up to the first that is new.
        let warm = missing.iter().filter(|(table, _)| shadow.warm(*table)).count() == missing.len();
        // Once they are shadowed, the second miss from now finds them so; the first is this one, which is served without.
        self.contexts.leaves().0.look_after(gva, if warm { 2 } else { misses });
        if !warm {
            return Ok(Served::No);
        }
        self.pauses += 1;
        missing.into_iter().for_each(|(table, role)| space.shadow_table(table, role));
        // That has waited for other vCPUs: host addresses and the view of the map from before are void.
        Ok(Served::Yes(None))
    }

    /// Is the root of `ctx` shadowed?
    pub(crate) fn root_is_shadowed(&mut self, ctx: &PagingContext) -> bool {
        if self.space.shadow.count() == 0 {
            return false;
        }
        let guard = epoch::pin();
        let roots: &[u64] = match ctx.paging {
            Paging::None => return false,
            Paging::Pae => &ctx.pdptes,
            _ => &[ctx.cr3 | 1],
        };
        let role = root_role(ctx);
        let lines = if ctx.a20_masked { !(1 << 20) } else { !0 };
        roots.iter().filter(|root| *root & 1 != 0).any(|root| {
            let table = self.view.ram_page(root & FRAME & lines);
            table.is_some_and(|table| self.space.shadow.find(table, role, &guard).is_some())
        })
    }

    /// Level 2 holds a word that none of its threads has made.
    #[cold]
    fn corrupt_word(&self, gva: u64, word: u64, leaf: &Leaf) -> MemTrap {
        let report = format!(
            "corrupt word of level 2: {word:#x} for {gva:#x}, in the shadow of page {:#x} of the guest's RAM; {:?}",
            leaf.page.table.offset(),
            self.paging()
        );
        tracing::error!("{report}");
        MemTrap::Corrupt(report.into())
    }

    /// The tag for stores to a page of RAM at `offset`.
    #[inline(always)]
    pub(crate) fn write_tag(&self, t: &Translation, page: u64, offset: u64) -> u64 {
        if !t.writable {
            INVALID
        } else if self.space.pages.admit_writer(RamPage::containing(offset), slot_of(page)) {
            page
        } else {
            page | TRACKED
        }
    }
}
