//! Which values are needed where: by blocks as sets, within a block by the last instruction that uses them.

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::{Block, Function, Inst, Value};

/// The number of a value's last user, where a later block uses it too.
pub const BEYOND: u32 = u32::MAX;
/// Where nobody does.
pub const NEVER: u32 = u32::MAX - 1;

/// Sets of values by block, and the last uses of the block being looked at.
#[derive(Debug, Default)]
pub struct Live {
    words: usize,
    /// By block, `words` each: what it needs from before.
    needed: Vec<u64>,
    /// What it defines.
    defined: Vec<u64>,
    /// What the blocks after the one looked at need.
    after: Vec<u64>,
    /// By value, within that block: see [`Self::look_at`].
    pub last: Vec<u32>,
    order: Vec<Block>,
}

fn set(words: &mut [u64], v: usize) -> bool {
    let (word, bit) = (&mut words[v / 64], 1 << (v % 64));
    let new = *word & bit == 0;
    *word |= bit;
    new
}

impl Live {
    /// Finds what every block needs.
    pub fn analyse(&mut self, func: &Function) {
        self.words = func.dfg.num_values().div_ceil(64);
        let all = self.words * func.dfg.num_blocks();
        for sets in [&mut self.needed, &mut self.defined] {
            sets.clear();
            sets.resize(all, 0);
        }
        self.last.clear();
        self.last.resize(func.dfg.num_values(), NEVER);
        self.after.clear();
        self.after.resize(self.words, 0);
        self.order.clear();
        self.order.extend(func.layout.blocks());
        for &block in &self.order {
            let at = block.index() * self.words;
            let (needed, defined) =
                (&mut self.needed[at..at + self.words], &mut self.defined[at..at + self.words]);
            for param in func.dfg.block_params(block) {
                set(defined, param.index());
            }
            for inst in func.layout.block_insts(block) {
                for v in func.dfg.inst_values(inst) {
                    if defined[v.index() / 64] >> (v.index() % 64) & 1 == 0 {
                        set(needed, v.index());
                    }
                }
                for v in func.dfg.inst_results(inst) {
                    set(defined, v.index());
                }
            }
        }
        // Backwards, until nothing changes: once, but for loops.
        loop {
            let mut changed = false;
            for k in (0..self.order.len()).rev() {
                let block = self.order[k];
                self.gather(func, block);
                let at = block.index() * self.words;
                for w in 0..self.words {
                    let new = self.needed[at + w] | self.after[w] & !self.defined[at + w];
                    changed |= new != self.needed[at + w];
                    self.needed[at + w] = new;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// What the blocks after `block` need.
    fn gather(&mut self, func: &Function, block: Block) {
        self.after.fill(0);
        let Some(last) = func.layout.last_inst(block) else { return };
        for call in successors(func, last) {
            let at = call.index() * self.words;
            for w in 0..self.words {
                self.after[w] |= self.needed[at + w];
            }
        }
    }

    /// Does `block` need `v` from before?
    pub fn needs(&self, block: Block, v: usize) -> bool {
        self.needed[block.index() * self.words + v / 64] >> (v % 64) & 1 != 0
    }

    /// The values that `block` needs from before.
    pub fn needed(&self, block: Block) -> impl Iterator<Item = Value> + '_ {
        let at = block.index() * self.words;
        (0..self.words).flat_map(move |w| {
            let mut bits = self.needed[at + w];
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then(|| Value::new(w * 64 + bit as usize))
            })
        })
    }

    /// Fills in [`Self::last`] for every value that `block` uses or defines: the number of the instruction, counted within the
    /// block, [`BEYOND`], or [`NEVER`] for a result that is not used.
    pub fn look_at(&mut self, func: &Function, block: Block, insts: &[Inst]) {
        self.gather(func, block);
        for w in 0..self.words {
            let mut bits = self.after[w];
            while bits != 0 {
                self.last[w * 64 + bits.trailing_zeros() as usize] = BEYOND;
                bits &= bits - 1;
            }
        }
        for (n, &inst) in insts.iter().enumerate().rev() {
            for v in func.dfg.inst_results(inst) {
                if set(&mut self.after, v.index()) {
                    self.last[v.index()] = NEVER;
                }
            }
            for v in func.dfg.inst_values(inst) {
                if set(&mut self.after, v.index()) {
                    self.last[v.index()] = n as u32;
                }
            }
        }
        for v in func.dfg.block_params(block) {
            if set(&mut self.after, v.index()) {
                self.last[v.index()] = NEVER;
            }
        }
    }
}

/// Where a block's last instruction leads.
pub fn successors(func: &Function, inst: Inst) -> impl Iterator<Item = Block> + '_ {
    let calls = func.dfg.insts[inst].branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables);
    calls.iter().map(|call| call.block(&func.dfg.value_lists))
}
