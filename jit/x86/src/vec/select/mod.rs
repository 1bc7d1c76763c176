//! Recognising vector instructions: mnemonic -> [`VecOp`] and tier-0 handler.
//!
//! `tables` knows the instructions by the mnemonics of their legacy encodings, `vex` those that exist with VEX only; a VEX form
//! is found by the name of its legacy one.

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

use super::lift::Form;
use super::{VecOp, cold, lift_sized, mmx};
use crate::eval::done;
use crate::insn::{Handler, Insn, Op, Opnd, Width};
use crate::state::Mode;

/// What an instruction does, and its handlers for register and memory forms.
#[derive(Clone, Copy)]
struct Choice {
    op: VecOp,
    run: [Handler; 2],
}

/// Handlers monomorphised for both forms.
macro_rules! hot {
    ($op:expr, $f:expr $(, $a:expr)*) => {
        Choice {
            op: $op,
            run: [
                |c: &mut Vcpu, i: &Insn, rest: $crate::insn::Rest<'_>| done($f(c, i, Form::REG $(, $a)*), c, rest),
                |c: &mut Vcpu, i: &Insn, rest: $crate::insn::Rest<'_>| done($f(c, i, Form::MEM $(, $a)*), c, rest),
            ],
        }
    };
}

macro_rules! bin {
    ($op:ident) => {
        hot!(VecOp::Bin(VBin::$op), lift::binary::<Vcpu, 1>, VBin::$op)
    };
}

macro_rules! scalar {
    ($op:ident, $p:ident) => {
        hot!(VecOp::FpScalar(FpOp::$op, Prec::$p), lift::fp_scalar, FpOp::$op, Prec::$p)
    };
}

macro_rules! packed {
    ($op:ident, $p:ident) => {
        hot!(VecOp::FpPacked(FpOp::$op, Prec::$p), lift::fp_packed::<Vcpu, 1>, FpOp::$op, Prec::$p)
    };
}

/// A shift, by its second operand's kind.
macro_rules! shift {
    ($i:expr, $op:ident) => {
        if matches!(($i.src, $i.src2), (Opnd::Imm, _) | (_, Opnd::Imm)) {
            hot!(VecOp::ShiftImm(VShift::$op), lift::shift_imm::<Vcpu, 1>, VShift::$op)
        } else {
            hot!(VecOp::Shift(VShift::$op), lift::shift::<Vcpu, 1>, VShift::$op)
        }
    };
}

/// An instruction that goes through the common handler.
const fn general(op: VecOp) -> Choice {
    const RUN: Handler = |c, i, rest| {
        let Op::Vec(op) = i.op else { return done(Err(c.unimplemented(i)), c, rest) };
        done(lift_sized(c, i, op), c, rest)
    };
    Choice { op, run: [RUN; 2] }
}

/// An instruction with a handler of its own.
macro_rules! cold {
    ($f:path) => {
        Choice { op: VecOp::Cold, run: [|c, i, rest| done($f(c, i), c, rest); 2] }
    };
}

// After the macros, which they use.
mod tables;
mod vex;

/// Number of a register operand of any kind.
fn number(o: Opnd) -> u8 {
    match o {
        Opnd::Gpr(r) | Opnd::Xmm(r) | Opnd::Mm(r) => r,
        _ => 0,
    }
}

/// Width of the integer operand `n` of a conversion or move: the general register's, else the memory's.
fn integer_width(x: &Instruction, n: u32) -> Width {
    let bytes =
        if x.op_kind(n) == OpKind::Register { x.op_register(n).size() } else { x.memory_size().size() };
    Width::from_bytes(bytes as u32).unwrap_or(Width::Q)
}

/// Recognises a vector instruction and fills in its record. `false`: it is none.
pub fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    match x.code().encoding() {
        EncodingKind::Legacy => {}
        EncodingKind::VEX => return vex::select(x, i, mode),
        // AVX-512, XOP and the like, which no model of ours reports.
        _ => {
            refuse(i, UNDEFINED);
            return true;
        }
    }
    (i.rd, i.rs) = (number(i.dst), number(i.src));
    i.rv = i.rd;
    let is_mm = |o: Opnd| matches!(o, Opnd::Mm(_));
    // CVTPI2PS and CVTPI2PD belong to MMX with a memory operand too.
    let from_mmx = matches!(x.mnemonic(), Mnemonic::Emms | Mnemonic::Cvtpi2ps | Mnemonic::Cvtpi2pd);
    if is_mm(i.dst) || is_mm(i.src) || from_mmx {
        return mmx::select(x, i, mode);
    }
    if x.mnemonic() == Mnemonic::Movnti {
        // Not an SSE-state instruction: neither CR0.TS nor CR4.OSFXSR matter.
        let w = integer_width(x, 1);
        i.w = w;
        let c = general(VecOp::Movnti(w));
        (i.op, i.run) = (Op::Vec(c.op), c.run[1]);
        return true;
    }
    let Some(c) = tables::choose(x.mnemonic(), x, i) else { return false };
    record(x, i, mode, c);
    i.run = c.run[usize::from(Form::of(i).mem)];
    // SDM vol. 3, 2.5 and 14.1: #UD comes before #NM.
    if mode.has(Mode::SSE_UD) {
        refuse(i, UNDEFINED);
    } else if mode.has(Mode::TS) {
        refuse(i, |c, _, rest| done(Err(c.nm()), c, rest));
    }
    true
}

/// What both encodings note of a choice.
fn record(x: &Instruction, i: &mut Insn, mode: Mode, c: Choice) {
    i.w = Width::from_bytes(x.memory_size().size() as u32).unwrap_or(Width::Q);
    i.op = Op::Vec(c.op);
    match x.mnemonic() {
        Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr => i.ends = true,
        Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu => cold::describe_masked_store(x, i, mode),
        _ => {}
    }
}

/// The instruction raises an exception in this mode, whatever else it would do.
pub(super) fn refuse(i: &mut Insn, run: Handler) {
    i.op = Op::Vec(VecOp::Cold);
    i.run = run;
}

/// #UD.
const UNDEFINED: Handler = |c, _, rest| done(Err(c.ud()), c, rest);
