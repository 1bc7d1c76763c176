//! Guest memory accesses: what the access thunks do when they hit, inline.
//!
//! Tier 1's function calls a thunk for each access and takes the result from the state ([`crate::compile`]). Here the look-up is made in
//! place, and the thunk is called at the end of the code when it misses: it looks again, goes on to the slow path, and leaves the
//! result in the state. Everything that the guest could see is in the state by then, as for the call.

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::{Function, Inst, InstructionData, Opcode, Value};

use super::Quick;
use super::asm::{Alu, RAX, RCX, RDI, RDX, RSI, Reg, Rm, Shift, Size, op};
use super::select::signed;
use crate::layout::{TLB_ADDEND, TLB_INDEX_MASK, TLB_READ, TLB_WRITE, off};
use crate::thunks;

/// What a thunk does with the place that it has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Load,
    Store,
    /// Gives its host address.
    Place,
}

/// A thunk.
#[derive(Clone, Copy, Debug)]
struct Access {
    act: Act,
    size: Size,
    /// An address that is not aligned misses.
    aligned: bool,
}

/// What a store writes.
#[derive(Clone, Copy, Debug)]
enum Stored {
    Reg(Reg),
    Imm(i32),
}

/// A look-up that has missed.
#[derive(Debug)]
pub struct Miss {
    /// The branch.
    site: usize,
    /// Where it goes on.
    back: usize,
    address: Reg,
    value: Option<Stored>,
    insn: i64,
    thunk: i64,
    /// Where the result belongs.
    result: Option<(Reg, Size)>,
}

/// The thunk at an address.
fn access(address: i64) -> Option<Access> {
    use Act::{Load, Place, Store};
    let known: [(unsafe extern "C" fn(), Act, Size, bool); 15] = [
        (thunks::load64, Load, Size::Q, false),
        (thunks::store64, Store, Size::Q, false),
        (thunks::load32, Load, Size::D, false),
        (thunks::store32, Store, Size::D, false),
        (thunks::load8, Load, Size::B, false),
        (thunks::store8, Store, Size::B, false),
        (thunks::load16, Load, Size::W, false),
        (thunks::store16, Store, Size::W, false),
        (thunks::place8, Place, Size::B, false),
        (thunks::place16, Place, Size::W, false),
        (thunks::place32, Place, Size::D, false),
        (thunks::place64, Place, Size::Q, false),
        (thunks::lock16, Place, Size::W, true),
        (thunks::lock32, Place, Size::D, true),
        (thunks::lock64, Place, Size::Q, true),
    ];
    let found = known.iter().find(|(thunk, ..)| *thunk as *const () as i64 == address)?;
    let &(_, act, size, aligned) = found;
    Some(Access { act, size, aligned })
}

impl Quick {
    /// A call of `thunk` with these arguments after the state. `Some(false)`: nothing has been done, it is none that is known here, or
    /// its result is not taken at once, by `following`.
    pub(super) fn access(
        &mut self,
        func: &Function,
        thunk: i64,
        args: &[Value],
        following: Option<Inst>,
    ) -> Option<bool> {
        let (Some(Access { act, size, aligned }), Some(insn)) =
            (access(thunk), args.get(1).and_then(|v| self.constants[v.index()]))
        else {
            return Some(false);
        };
        let taken = following.and_then(|f| self.taken(func, f));
        let (result, t) = match (act, taken) {
            (Act::Store, _) => (None, size),
            (Act::Load, Some((v, t))) if t == size => (Some(v), t),
            (Act::Place, Some((v, Size::Q))) => (Some(v), Size::Q),
            _ => return Some(false),
        };
        let address = self.input(args[0], RSI)?;
        let value = match args.get(2) {
            Some(v) => Some(match self.constants[v.index()].map(|c| i32::try_from(signed(size, c))) {
                Some(Ok(imm)) => Stored::Imm(imm),
                _ => Stored::Reg(self.input(*v, RDX)?),
            }),
            None => None,
        };
        let bytes = 1 << size as u8;
        let (last, page) = if aligned { (0, -4096 | (bytes - 1)) } else { (bytes - 1, -4096) };
        let tag = if act == Act::Load { TLB_READ } else { TLB_WRITE };
        self.asm.mov(Size::Q, RAX, address);
        self.asm.shift_imm(Size::Q, Shift::Shr, RAX, 12 - crate::layout::TLB_ENTRY_SHIFT as u8);
        self.asm.alu_imm(Size::D, Alu::And, Rm::R(RAX), TLB_INDEX_MASK as i32);
        self.asm.alu(Size::Q, Alu::Add, RAX, Rm::M(RDI, off::BANK));
        self.asm.rm(Size::Q, op::LEA, RCX, Rm::M(address, last));
        self.asm.alu_imm(Size::Q, Alu::And, Rm::R(RCX), page);
        self.asm.alu(Size::Q, Alu::Cmp, RCX, Rm::M(RAX, tag));
        let site = self.asm.jcc(super::select::NOT_ZERO);
        self.asm.rm(Size::Q, op::LOAD, RAX, Rm::M(RAX, TLB_ADDEND));
        let mut into = None;
        if let Some(v) = result {
            let reg = self.output(v, args)?;
            into = Some((reg, t));
            self.clean[v.index()] = true;
            self.given = following;
            match act {
                Act::Load => self.asm.load(size, reg, Rm::X(address)),
                _ => self.asm.rm(Size::Q, op::LEA, reg, Rm::X(address)),
            }
        } else if let Some(Stored::Imm(imm)) = value {
            self.asm.store_imm(size, imm, Rm::X(address));
        } else if let Some(Stored::Reg(reg)) = value {
            self.asm.store(size, reg, Rm::X(address));
        }
        let back = self.asm.code.len();
        self.misses.push(Miss { site, back, address, value, insn, thunk, result: into });
        Some(true)
    }

    /// Does the instruction take a thunk's result? Into what?
    fn taken(&self, func: &Function, inst: Inst) -> Option<(Value, Size)> {
        let InstructionData::Load { opcode: Opcode::Load, arg, offset, .. } = func.dfg.insts[inst] else {
            return None;
        };
        if Some(arg) != self.state() || i32::from(offset) != off::ADDEND {
            return None;
        }
        let v = *func.dfg.inst_results(inst).first()?;
        (self.live.last[v.index()] != super::live::NEVER).then_some((v, self.size_of(func, v)?))
    }

    /// The code of all misses.
    pub(super) fn misses(&mut self) {
        for miss in std::mem::take(&mut self.misses) {
            let here = self.asm.code.len();
            self.asm.land(miss.site, here);
            if miss.address != RSI {
                self.asm.mov(Size::Q, RSI, miss.address);
            }
            match miss.value {
                Some(Stored::Reg(reg)) => self.asm.mov(Size::Q, RCX, reg),
                Some(Stored::Imm(imm)) => self.asm.mov_imm(RCX, imm.into()),
                None => {}
            }
            self.asm.mov_imm(RDX, miss.insn);
            self.asm.mov_imm(RAX, miss.thunk);
            self.asm.call(RAX);
            if let Some((reg, size)) = miss.result {
                self.asm.load(size, reg, Rm::M(RDI, off::ADDEND));
            }
            let site = self.asm.jmp();
            self.asm.land(site, miss.back);
        }
    }
}
