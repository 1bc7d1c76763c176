//! A quick back end of tier 1 for x86-64 hosts: Cranelift's input, made into code in one pass.
//!
//! Requirement: most blocks are compiled once and run a few thousand times; Cranelift's own back end takes longer for them than
//! tier 0 takes to run them. What an instruction means is none of this module's business: it gets the same function
//! that Cranelift would ([`crate::compile`]), and may decline it; Cranelift compiles it then, as it does everything for tier 2.
//!
//! Solution. Blocks are gone through in the order of their code, hot ones first. A value stays in the register where it was made until its
//! last use ([`live`]), or until its register is needed and it goes to a slot of the frame ([`places`]). Constants are
//! kept as such and become operands. A block with one predecessor begins with that one's registers, as it left them; where several
//! meet, all that is needed is in slots. Comparisons become flags when the next instruction is the branch or selection that asks.
//!
//! Registers. RDI is the state, always, as in the thunks. RAX, RCX, RDX and RSI hold nothing from one instruction to the next: they
//! are the operands of calls, shifts and products. RBX and R8 to R15 are given to values; the thunks for memory preserve them,
//! a call by the platform's convention takes R8 to R11 away. Of a value narrower than its register the rest is undefined, unless
//! it is noted as clean.

mod access;
mod asm;
mod atomic;
mod flow;
mod live;
mod places;
mod select;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::{Block, Function, Inst, Value};

use asm::{Asm, RBP, RDI, RSP, Rm, Size, op};
use live::Live;
use places::Places;

/// What the host's processor has, beyond x86-64's first version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// POPCNT.
    pub popcnt: bool,
    /// LZCNT.
    pub lzcnt: bool,
    /// TZCNT.
    pub bmi1: bool,
}

/// A compiled function.
#[derive(Debug)]
pub struct Output {
    /// May lie anywhere.
    pub code: Vec<u8>,
    /// Direct jumps: the offset of the displacement, and the number of the function's user-defined name.
    pub jumps: Vec<(usize, u32)>,
}

/// PUSH RBP; MOV RBP, RSP: how all functions begin ([`crate::jump`]).
const FRAME: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];

/// The compiler, with memory that is used again and again.
#[derive(Debug, Default)]
pub struct Quick {
    features: Features,
    asm: Asm,
    live: Live,
    /// Blocks in the order of their code.
    order: Vec<Block>,
    /// By block: where its code begins.
    starts: Vec<Option<usize>>,
    /// By block: how many branches lead to it.
    branches: Vec<u32>,
    /// By block: where values are when it begins, if a block before it has been there.
    entries: Vec<Option<Places>>,
    /// Branches to blocks: the displacement's offset.
    fixups: Vec<(usize, Block)>,
    jumps: Vec<(usize, u32)>,
    /// By value: its number, if it is a constant; as an `iconst` has it.
    constants: Vec<Option<i64>>,
    /// By value: is its register zero above its width?
    clean: Vec<bool>,
    /// By value: its slot's number, from 1.
    slots: Vec<u16>,
    slot_count: u16,
    /// The frame has slots.
    framed: bool,
    /// Where values are.
    places: Places,
    /// The instruction being compiled, by its number in the block.
    now: u32,
    /// Registers that it uses.
    pinned: u16,
    /// A comparison for the next instruction.
    compared: Option<Inst>,
    /// Look-ups that have a path for misses to come.
    misses: Vec<access::Miss>,
    /// The instruction whose result has been made by the one before it.
    given: Option<Inst>,
    /// Memory for a list.
    needed: Vec<Value>,
}

impl Quick {
    /// A compiler for a host with these features.
    pub fn new(features: Features) -> Self {
        Self { features, ..Self::default() }
    }

    /// Compiles a function of the shape that [`crate::compile`] makes: one parameter, the state. `None`: something in it is not known here.
    pub fn compile(&mut self, func: &Function) -> Option<Output> {
        self.live.analyse(func);
        self.order.clear();
        self.order.extend(func.layout.blocks().filter(|b| !func.layout.is_cold(*b)));
        self.order.extend(func.layout.blocks().filter(|b| func.layout.is_cold(*b)));
        self.branches.clear();
        self.branches.resize(func.dfg.num_blocks(), 0);
        for block in func.layout.blocks() {
            for to in live::successors(func, func.layout.last_inst(block)?) {
                self.branches[to.index()] += 1;
            }
        }
        self.framed = false;
        if !self.attempt(func)? {
            self.framed = true;
            if !self.attempt(func)? {
                return None;
            }
        }
        for (site, block) in std::mem::take(&mut self.fixups) {
            self.asm.land(site, self.starts[block.index()]?);
        }
        let mut code = Asm::default();
        code.code.reserve(self.asm.code.len() + 16);
        code.code.extend_from_slice(&FRAME);
        if self.framed {
            let bytes = i32::from(self.slot_count.next_multiple_of(2)) * 8;
            code.alu_imm(Size::Q, asm::Alu::Sub, Rm::R(RSP), bytes);
            if self.slots[self.state()?.index()] != 0 {
                code.store(Size::Q, RDI, self.slot(self.state()?));
            }
        }
        let before = code.code.len();
        code.code.extend_from_slice(&self.asm.code);
        let jumps = self.jumps.iter().map(|&(site, name)| (site + before, name)).collect();
        Some(Output { code: code.code, jumps })
    }

    /// One pass. `false`: slots are needed, and the frame has none.
    fn attempt(&mut self, func: &Function) -> Option<bool> {
        let (blocks, values) = (func.dfg.num_blocks(), func.dfg.num_values());
        self.asm.code.clear();
        self.fixups.clear();
        self.jumps.clear();
        self.misses.clear();
        (self.compared, self.given) = (None, None);
        self.starts.clear();
        self.starts.resize(blocks, None);
        self.entries.clear();
        self.entries.resize_with(blocks, || None);
        self.constants.clear();
        self.constants.resize(values, None);
        self.clean.clear();
        self.clean.resize(values, false);
        self.slots.clear();
        self.slots.resize(values, 0);
        self.slot_count = 0;
        self.places.clear(values);
        let entry = *self.order.first()?;
        let [state] = func.dfg.block_params(entry) else { return None };
        self.places.set_state(*state);
        self.clean[state.index()] = true;
        let mut insts = Vec::new();
        for k in 0..self.order.len() {
            let block = self.order[k];
            insts.clear();
            insts.extend(func.layout.block_insts(block));
            self.begin(func, block, &insts, k == 0)?;
            let next = self.order.get(k + 1).copied();
            for (n, &inst) in insts.iter().enumerate() {
                self.now = n as u32;
                self.pinned = 0;
                let following = insts.get(n + 1).copied();
                if self.given.take() != Some(inst) {
                    self.instruction(func, inst, following, next)?;
                }
                if self.compared.is_none() {
                    self.let_go(func, inst);
                }
                if self.slot_count > 0 && !self.framed {
                    return Some(false);
                }
            }
        }
        self.misses();
        Some(true)
    }

    fn begin(&mut self, func: &Function, block: Block, insts: &[Inst], first: bool) -> Option<()> {
        if !first {
            // A block that nobody has led to yet begins where nothing is known: none is like that.
            self.places = self.entries[block.index()].take()?;
            if self.branches[block.index()] > 1 {
                // For those that come later, to compare with.
                self.entries[block.index()] = Some(self.places.clone());
            }
            let live = &self.live;
            self.places.keep(|v| live.needs(block, v.index()));
            for v in func.dfg.block_params(block) {
                self.places.stored(*v);
            }
        }
        self.starts[block.index()] = Some(self.asm.code.len());
        self.live.look_at(func, block, insts);
        Some(())
    }

    /// After an instruction: registers of what is not needed any more are free.
    fn let_go(&mut self, func: &Function, inst: Inst) {
        for v in func.dfg.inst_values(inst) {
            self.release(v);
        }
        for v in func.dfg.inst_results(inst) {
            if self.live.last[v.index()] == live::NEVER {
                self.places.free(*v);
            }
        }
    }

    /// Frees the register of a value that this instruction, or the comparison before it, is the last to use.
    fn release(&mut self, v: Value) {
        let last = self.live.last[v.index()];
        if last <= self.now {
            self.places.free(v);
        }
    }

    fn state(&self) -> Option<Value> {
        self.places.state()
    }

    /// The memory of a value's slot, which is made if there is none.
    fn slot(&mut self, v: Value) -> Rm {
        let slot = &mut self.slots[v.index()];
        if *slot == 0 {
            self.slot_count += 1;
            *slot = self.slot_count;
        }
        Rm::M(RBP, -8 * i32::from(*slot))
    }

    /// The function's end, up to the jump or RET.
    fn take_frame_down(&mut self) {
        if self.framed {
            self.asm.rm(Size::Q, op::LOAD, RSP, Rm::R(RBP));
        }
        self.asm.pop_frame();
    }
}
