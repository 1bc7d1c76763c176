//! Walks of the shadow tables, and fills of them by walks of the guest's.

use std::sync::Arc;

use crossbeam::epoch::Guard;

use crate::addr::{Gpa, RamPage};
use crate::leaves::Leaf;
use crate::shadow::entry::{self, FRAME, Kind, P, RW, US, XD};
use crate::shadow::{Role, Sequence, Shadow, ShadowPage, Steps};
use crate::walk::{Paging, PagingContext, TableMemory};

const A: u64 = 1 << 5;

/// Levels of a paging mode, from the root: log2 of what an entry is for.
fn shifts(paging: Paging) -> &'static [u32] {
    match paging {
        Paging::None => &[],
        Paging::Bits32 { .. } => &[22, 12],
        Paging::Pae => &[21, 12],
        Paging::Level4 => &[39, 30, 21, 12],
        Paging::Level5 => &[48, 39, 30, 21, 12],
    }
}

/// The role of the page that is read `depth` steps below the root.
pub(super) fn role(ctx: &PagingContext, depth: usize) -> Role {
    let (format, size): (u32, u8) = match ctx.paging {
        Paging::None => (0, 8),
        Paging::Bits32 { pse: false } => (1, 4),
        Paging::Bits32 { pse: true } => (2, 4),
        Paging::Pae => (3, 8),
        Paging::Level4 | Paging::Level5 => (4, 8),
    };
    let flag = |on, bit| u32::from(on) << bit;
    let rules = format | flag(ctx.nxe, 3) | flag(ctx.a20_masked, 4) | flag(ctx.gib_pages, 5);
    Role { shift: shifts(ctx.paging)[depth], size, rules: rules | u32::from(ctx.phys_bits) << 8 }
}

/// The role of the page that CR3 (PAE: a PDPTE) names.
pub fn root_role(ctx: &PagingContext) -> Role {
    role(ctx, 0)
}

/// The entry for `gva`.
#[inline]
pub fn leaf_index(role: Role, gva: u64) -> usize {
    (gva >> role.shift) as usize & (role.entries() - 1)
}

/// First linear address that the page of `role` is for, in a walk of `gva`.
fn base(role: Role, gva: u64) -> u64 {
    gva & !(((role.entries() as u64) << role.shift) - 1)
}

/// A leaf in the shadow tables.
#[derive(Clone, Debug)]
pub struct Found {
    /// The shadow page that it is in.
    pub page: Arc<ShadowPage>,
    /// The word's rights, with those of the words above.
    pub merged: u64,
    /// Those of the words above.
    pub above: u64,
    /// The address that it gives.
    pub gpa: Gpa,
}

/// AND of R/W and U/S, OR of XD.
#[inline]
pub fn merge(word: u64, above: u64) -> u64 {
    (word & (above | !(RW | US))) | (above & XD)
}

impl Shadow {
    /// Looks for the leaf of `gva`, without a lock, for level 1 in the banks with these bits. `ram` says where in guest RAM a table is.
    pub fn descend(
        &self,
        ctx: &PagingContext,
        gva: u64,
        guard: &Guard,
        banks: u64,
        mut ram: impl FnMut(u64) -> Option<RamPage>,
    ) -> Option<Found> {
        let lines = if ctx.a20_masked { !(1 << 20) } else { !0 };
        let (gva, mut table) = match ctx.paging {
            Paging::None => return None,
            Paging::Bits32 { .. } => (gva & 0xffff_ffff, ctx.cr3 & 0xffff_f000),
            Paging::Pae => (gva & 0xffff_ffff, ctx.pdptes[(gva >> 30) as usize & 3] & FRAME),
            Paging::Level4 | Paging::Level5 => (gva, ctx.cr3 & FRAME),
        };
        let mut above = RW | US;
        for depth in 0..shifts(ctx.paging).len() {
            let role = role(ctx, depth);
            let page = self.find(ram(table & lines)?, role, guard)?;
            // Before the word is read: who zaps it after that looks here.
            page.join(banks);
            page.use_at(base(role, gva));
            let index = leaf_index(role, gva);
            let word = page.get(index);
            let merged = merge(entry::rights(word), above);
            match entry::kind(word) {
                Kind::Absent | Kind::Corrupt => return None,
                Kind::Table => (table, above) = (word & FRAME, merged & (RW | US) | (word | above) & XD),
                Kind::Ram | Kind::Mmio { .. } => {
                    let gpa = Gpa((word & FRAME | gva & ((1 << role.shift) - 1)) & lines);
                    return Some(Found { page: Arc::clone(page), merged, above, gpa });
                }
            }
        }
        None
    }
}

/// What one step of a walk read.
#[derive(Clone, Copy)]
struct Step<'g> {
    page: Option<(&'g Arc<ShadowPage>, Sequence)>,
    table: Option<RamPage>,
    at: u64,
    value: u64,
}

/// Table memory for a walk whose result goes to the shadow tables.
pub struct Recorder<'g, M> {
    memory: M,
    shadow: &'g Shadow,
    ctx: &'g PagingContext,
    guard: &'g Guard,
    steps: Vec<Step<'g>>,
}

impl<'g, M: TableMemory> Recorder<'g, M> {
    /// Over the guest's memory.
    pub fn new(memory: M, shadow: &'g Shadow, ctx: &'g PagingContext, guard: &'g Guard) -> Self {
        Self { memory, shadow, ctx, guard, steps: Vec::with_capacity(5) }
    }

    /// That memory.
    pub fn memory(&mut self) -> &mut M {
        &mut self.memory
    }

    /// After [`Self::publish`]: where the leaf is, with [`Shadow::upper`] as it was before the walk.
    pub fn leaf(&self, upper: u64) -> Option<Leaf> {
        let (last, path) = self.steps.split_last()?;
        let all = path.iter().fold(RW | US, |all, step| all & step.value);
        let any = path.iter().fold(0, |any, step| any | step.value & XD);
        Some(Leaf { page: Arc::clone(last.page?.0), above: all | any, upper })
    }

    /// Tables of the walk that have no shadow page, each with the role.
    pub fn missing(&self) -> impl Iterator<Item = (RamPage, Role)> {
        let bare = self.steps.iter().enumerate().filter(|(_, step)| step.page.is_none());
        bare.filter_map(|(depth, step)| Some((step.table?, role(self.ctx, depth))))
    }

    /// After a walk that succeeded: its entries become words, from the root on. `frame` is that of the leaf, `device` the map's
    /// generation if that is no memory. True: the leaf can be found now.
    pub fn publish<S: Steps>(&self, gva: u64, frame: u64, device: Option<u32>, banks: u64) -> bool {
        for (depth, step) in self.steps.iter().enumerate() {
            let Some((page, sample)) = step.page else { return false };
            if step.value & (P | A) != P | A {
                // A table in ROM: nothing would tell of its first use.
                return false;
            }
            let leaf = depth + 1 == self.steps.len();
            let large = !((1 << page.role.shift) - 1) & FRAME;
            let bits = step.value & !FRAME;
            let word = match device {
                _ if !leaf => entry::table(step.value & if page.role.size == 4 { 0xffff_ffff } else { !0 }),
                Some(generation) if page.role.shift == 12 => match entry::mmio(bits | frame, generation) {
                    Some(word) => word,
                    None => return false,
                },
                _ => entry::ram(bits | frame & large),
            };
            page.join(banks);
            page.use_at(base(page.role, gva));
            if !page.publish::<S>(leaf_index(page.role, gva), word, sample) {
                return false;
            }
        }
        true
    }
}

impl<M: TableMemory> TableMemory for Recorder<'_, M> {
    fn begin(&mut self) {
        self.steps.clear();
    }

    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64> {
        let table = self.memory.ram_page(at);
        let role = role(self.ctx, self.steps.len());
        // The sequence before the entry.
        let page = table.and_then(|table| self.shadow.find(table, role, self.guard));
        let page = page.and_then(|page| Some((page, page.sample()?)));
        let value = self.memory.load_entry(at, size)?;
        self.steps.push(Step { page, table, at, value });
        Some(value)
    }

    fn update_entry(&mut self, at: u64, size: u8, old: u64, new: u64) -> bool {
        let done = self.memory.update_entry(at, size, old, new);
        if done {
            // One entry may be read at several levels, where tables name themselves.
            self.steps
                .iter_mut()
                .filter(|step| step.at == at && step.value == old)
                .for_each(|step| step.value = new);
        }
        done
    }
}
