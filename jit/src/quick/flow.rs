//! Branches between blocks, calls, and jumps out of the function.

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, ExternalName, FuncRef, Function, Inst, Opcode, Value,
};
use cranelift_codegen::isa::CallConv;

use super::Quick;
use super::asm::{RAX, RCX, RDI, RDX, RSI, Size};
use super::live::NEVER;

impl Quick {
    pub(super) fn branch(
        &mut self,
        func: &Function,
        c: Value,
        [yes, no]: [BlockCall; 2],
        next: Option<Block>,
    ) -> Option<()> {
        let pool = &func.dfg.value_lists;
        let cc = self.truth(func, c)?;
        let (to_yes, to_no) = (yes.block(pool), no.block(pool));
        if to_yes == to_no {
            return None;
        }
        // Moves, which leave the flags alone.
        self.arrive(func, yes, true)?;
        self.arrive(func, no, true)?;
        self.after_comparison(func);
        if next == Some(to_yes) {
            let site = self.asm.jcc(cc ^ 1);
            self.fixups.push((site, to_no));
        } else {
            let site = self.asm.jcc(cc);
            self.fixups.push((site, to_yes));
            self.go(to_no, next);
        }
        Some(())
    }

    pub(super) fn go(&mut self, to: Block, next: Option<Block>) {
        if next != Some(to) {
            let site = self.asm.jmp();
            self.fixups.push((site, to));
        }
    }

    /// Leaves values as the block expects them that the branch leads to. `branches`: it may not be taken.
    pub(super) fn arrive(&mut self, func: &Function, call: BlockCall, branches: bool) -> Option<()> {
        let pool = &func.dfg.value_lists;
        let block = call.block(pool);
        let params = func.dfg.block_params(block);
        for (arg, param) in call.args(pool).zip(params) {
            let BlockArg::Value(arg) = arg else { return None };
            self.size_of(func, *param)?;
            // A loop's own parameters could be one another's arguments, or needed still where the branch is not taken: there
            // is no such loop here.
            if self.starts[block.index()].is_some() && (branches || params.contains(&arg)) {
                return None;
            }
            self.input_into(arg, RAX)?;
            let slot = self.slot(*param);
            self.asm.store(Size::Q, RAX, slot);
        }
        if self.branches[block.index()] == 1 {
            self.entries[block.index()] = Some(self.places.clone());
            return Some(());
        }
        let state = self.state()?;
        let mut needed = std::mem::take(&mut self.needed);
        needed.clear();
        needed.extend(self.live.needed(block).filter(|v| *v != state));
        let all = needed.iter().try_for_each(|v| self.store_away(*v));
        self.needed = needed;
        all?;
        if self.entries[block.index()].is_none() {
            let mut there = self.places.clone();
            there.forget_registers();
            self.entries[block.index()] = Some(there);
        }
        Some(())
    }

    pub(super) fn tail_call(&mut self, func: &Function, inst: Inst, callee: FuncRef) -> Option<()> {
        if func.dfg.inst_args(inst) != [self.state()?] {
            return None;
        }
        let ExternalName::User(name) = func.dfg.ext_funcs[callee].name else { return None };
        self.take_frame_down();
        let site = self.asm.jmp();
        self.jumps.push((site, func.params.user_named_funcs().get(name)?.index));
        Some(())
    }

    pub(super) fn call(
        &mut self,
        func: &Function,
        opcode: Opcode,
        conv: CallConv,
        args: &[Value],
        (result, following): (Option<Value>, Option<Inst>),
    ) -> Option<()> {
        let (&callee, args) = args.split_first()?;
        if args.first() != Some(&self.state()?) {
            return None;
        }
        if opcode == Opcode::ReturnCallIndirect {
            if args.len() != 1 || conv != CallConv::Tail {
                return None;
            }
            self.input_into(callee, RAX)?;
            self.take_frame_down();
            self.asm.jmp_to(RAX);
            return Some(());
        }
        if opcode != Opcode::CallIndirect || args.len() > 4 {
            return None;
        }
        if let (Some(thunk), CallConv::PreserveAll) = (self.constant(callee), conv)
            && self.access(func, thunk, &args[1..], following)?
        {
            return Some(());
        }
        for (arg, reg) in args[1..].iter().zip([RSI, RDX, RCX]) {
            self.input_into(*arg, reg)?;
        }
        match conv {
            CallConv::PreserveAll if result.is_none() => {
                self.input_into(callee, RAX)?;
                self.asm.call(RAX);
            }
            CallConv::SystemV => {
                let state = self.state()?;
                // Stored once, at the function's beginning.
                let kept = self.slot(state);
                self.save_for_call();
                self.input_into(callee, RAX)?;
                self.asm.call(RAX);
                self.lose_registers();
                self.asm.load(Size::Q, RDI, kept);
                if let Some(v) = result.filter(|v| self.live.last[v.index()] != NEVER) {
                    let reg = self.output(v, &[])?;
                    self.asm.mov(Size::Q, reg, RAX);
                    self.clean[v.index()] = true;
                }
            }
            _ => return None,
        }
        Some(())
    }
}
