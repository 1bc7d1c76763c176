//! Atomic operations on memory, each a full barrier as Cranelift has them.

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::{AtomicRmwOp, Function, Value};

use super::Quick;
use super::asm::{Alu, NEG, RAX, RCX, RDX, RSI, Rm, op};
use super::select::{NOT_ZERO, wide};

impl Quick {
    pub(super) fn compare_and_swap(
        &mut self,
        func: &Function,
        v: Value,
        [at, expected, new]: [Value; 3],
    ) -> Option<()> {
        let s = self.size_of(func, v)?;
        let at_in = self.input(at, RDX)?;
        let new_in = self.input(new, RCX)?;
        self.input_into(expected, RAX)?;
        self.asm.locked(s, op::CMPXCHG, new_in, Rm::M(at_in, 0));
        let reg = self.output(v, &[at, expected, new])?;
        self.asm.mov(wide(s), reg, RAX);
        self.clean[v.index()] = s == wide(s);
        Some(())
    }

    pub(super) fn atomic(
        &mut self,
        func: &Function,
        v: Value,
        what: AtomicRmwOp,
        [at, with]: [Value; 2],
    ) -> Option<()> {
        let s = self.size_of(func, v)?;
        let place = Rm::M(self.input(at, RSI)?, 0);
        match what {
            AtomicRmwOp::Add | AtomicRmwOp::Sub | AtomicRmwOp::Xchg => {
                self.input_into(with, RAX)?;
                if what == AtomicRmwOp::Sub {
                    self.asm.group3(wide(s), NEG, RAX);
                }
                if what == AtomicRmwOp::Xchg {
                    self.asm.sized(s, op::XCHG, RAX, place);
                } else {
                    self.asm.locked(s, op::XADD, RAX, place);
                }
            }
            AtomicRmwOp::And | AtomicRmwOp::Or | AtomicRmwOp::Xor => {
                let alu = match what {
                    AtomicRmwOp::And => Alu::And,
                    AtomicRmwOp::Or => Alu::Or,
                    _ => Alu::Xor,
                };
                let with = self.input(with, RCX)?;
                self.asm.load(s, RAX, place);
                let again = self.asm.code.len();
                self.asm.mov(wide(s), RDX, RAX);
                self.asm.alu(wide(s), alu, RDX, Rm::R(with));
                self.asm.locked(s, op::CMPXCHG, RDX, place);
                let site = self.asm.jcc(NOT_ZERO);
                self.asm.land(site, again);
            }
            _ => return None,
        }
        let reg = self.output(v, &[at, with])?;
        self.asm.mov(wide(s), reg, RAX);
        self.clean[v.index()] = s == wide(s);
        Some(())
    }
}
