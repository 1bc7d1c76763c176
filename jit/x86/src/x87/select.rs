//! Recognising x87 instructions.

use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpKind};

use super::arith::{self, Op as Arith, Target};
use super::lift::{self, Form};
use super::{control, load_store, transcend};
use crate::eval::{done, go_on};
use crate::insn::{Cond, Handler, Insn, Op, Opnd, Rest, Width};
use crate::softfp::x87::{self as soft, Constant};
use crate::state::Mode;
use crate::vcpu::Vcpu;

/// A handler from a function and constant arguments.
macro_rules! run {
    ($f:path $(, $a:expr)*) => {
        |c: &mut Vcpu, i: &Insn, rest: Rest<'_>| done($f(c, i $(, $a)*), c, rest)
    };
}

/// A handler that tries the common case first: a lift, and the complete function.
macro_rules! near {
    ($near:path $(, $b:expr)*; $f:path $(, $a:expr)*) => {
        |c: &mut Vcpu, i: &Insn, rest: Rest<'_>| match $near(c, i $(, $b)*) {
            Ok(()) => go_on(c, rest),
            Err(_) => done($f(c, i $(, $a)*), c, rest),
        }
    };
}

/// Recognises an x87 instruction and fills in its record: `rd` and `rs` are its ST numbers, `w2` the width of an
/// environment's fields ([`note_opcode`] adds the rest). `false`: it is none.
pub fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    let number = |o: Opnd| if let Opnd::St(n) = o { n } else { 0 };
    (i.rd, i.rs) = (number(i.dst), number(i.src));
    let m = x.mnemonic();
    let Some(run) =
        control_handler(m).or_else(|| arithmetic(x, i)).or_else(|| moves(x)).or_else(|| transcendental(m))
    else {
        return false;
    };
    i.run = run;
    i.op = form(x).op();
    i.w2 = match x.code() {
        Code::Fnstenv_m14byte | Code::Fldenv_m14byte | Code::Fnsave_m94byte | Code::Frstor_m94byte => {
            Width::W
        }
        _ => Width::D,
    };
    // FWAIT has its own rule (CR0.MP and TS), and looks when it executes.
    if mode.has(Mode::X87_NM) && m != Mnemonic::Wait {
        i.run = |c, _, rest| done(Err(c.nm()), c, rest);
        i.op = Form::Other.op();
    }
    true
}

/// Which of the lifted instructions it is.
fn form(x: &Instruction) -> Form {
    use Mnemonic::*;
    let extended = x.memory_size() == MemorySize::Float80;
    let memory = (0..x.op_count()).any(|n| x.op_kind(n) == OpKind::Memory);
    match x.mnemonic() {
        Fld if extended => Form::LoadExtended,
        Fstp if extended => Form::StoreExtended,
        Fld if !memory => Form::LoadRegister,
        Fst if !memory => Form::StoreRegister,
        Fstp if !memory => Form::StoreRegisterPop,
        Fxch => Form::Exchange,
        Fchs => Form::ChangeSign,
        Fabs => Form::Absolute,
        _ => Form::Other,
    }
}

/// FOP: the low three bits of the first opcode byte and the ModRM byte (SDM vol. 1, 8.1.9), from the bytes of the
/// instruction: what iced knows does not tell the encodings of a plain displacement apart. It goes to `imm`.
pub fn note_opcode(i: &mut Insn, bytes: &[u8]) {
    if !matches!(i.op, Op::X87(_)) {
        return;
    }
    // No prefix looks like an escape opcode.
    let escape = bytes.iter().position(|b| b & 0xf8 == 0xd8);
    if let Some([opcode, modrm]) = escape.and_then(|at| bytes.get(at..at + 2)) {
        i.imm = u64::from(opcode & 7) << 8 | u64::from(*modrm);
    }
}

fn control_handler(m: Mnemonic) -> Option<Handler> {
    use Mnemonic::*;
    Some(match m {
        Wait => run!(control::fwait),
        Fninit => run!(control::fninit),
        Fnclex => run!(control::fnclex),
        Fldcw => run!(control::fldcw),
        Fnstcw => run!(control::fnstcw),
        Fnstsw => run!(control::fnstsw),
        Fnstenv => run!(control::fnstenv),
        Fldenv => run!(control::fldenv),
        Fnsave => run!(control::fnsave),
        Frstor => run!(control::frstor),
        Fnop => run!(control::fnop),
        Fneni | Fndisi | Fnsetpm => run!(control::obsolete),
        Fincstp => run!(control::rotate, 1),
        Fdecstp => run!(control::rotate, 7),
        Ffree => run!(control::free, false),
        Ffreep => run!(control::free, true),
        _ => return None,
    })
}

/// An arithmetic instruction by the kind of its operands.
macro_rules! arith {
    ($x:expr, $i:expr, $op:ident) => {
        match ($i.dst, $x.memory_size()) {
            (Opnd::Mem, MemorySize::Float32) => run!(arith::memory, Arith::$op, arith::Format::F32),
            (Opnd::Mem, MemorySize::Float64) => run!(arith::memory, Arith::$op, arith::Format::F64),
            (Opnd::Mem, MemorySize::Int16) => run!(arith::memory, Arith::$op, arith::Format::I16),
            (Opnd::Mem, _) => run!(arith::memory, Arith::$op, arith::Format::I32),
            _ => run!(arith::registers, Arith::$op, false),
        }
    };
}

macro_rules! compare {
    ($x:expr, $i:expr, $pops:literal) => {
        match ($i.dst, $x.memory_size()) {
            (Opnd::Mem, MemorySize::Float32) => run!(arith::compare_memory, arith::Format::F32, $pops),
            (Opnd::Mem, MemorySize::Float64) => run!(arith::compare_memory, arith::Format::F64, $pops),
            (Opnd::Mem, MemorySize::Int16) => run!(arith::compare_memory, arith::Format::I16, $pops),
            (Opnd::Mem, _) => run!(arith::compare_memory, arith::Format::I32, $pops),
            _ => run!(arith::compare_registers, false, Target::Codes, $pops),
        }
    };
}

fn arithmetic(x: &Instruction, i: &mut Insn) -> Option<Handler> {
    use Mnemonic::*;
    Some(match x.mnemonic() {
        Fadd | Fiadd => arith!(x, i, Add),
        Fmul | Fimul => arith!(x, i, Mul),
        Fsub | Fisub => arith!(x, i, Sub),
        Fsubr | Fisubr => arith!(x, i, Subr),
        Fdiv | Fidiv => arith!(x, i, Div),
        Fdivr | Fidivr => arith!(x, i, Divr),
        Faddp => run!(arith::registers, Arith::Add, true),
        Fmulp => run!(arith::registers, Arith::Mul, true),
        Fsubp => run!(arith::registers, Arith::Sub, true),
        Fsubrp => run!(arith::registers, Arith::Subr, true),
        Fdivp => run!(arith::registers, Arith::Div, true),
        Fdivrp => run!(arith::registers, Arith::Divr, true),
        Fcom | Ficom => compare!(x, i, 0),
        Fcomp | Ficomp => compare!(x, i, 1),
        Fcompp => {
            i.rs = 1;
            run!(arith::compare_registers, false, Target::Codes, 2)
        }
        Fucom => run!(arith::compare_registers, true, Target::Codes, 0),
        Fucomp => run!(arith::compare_registers, true, Target::Codes, 1),
        Fucompp => {
            i.rs = 1;
            run!(arith::compare_registers, true, Target::Codes, 2)
        }
        Fcomi => run!(arith::compare_registers, false, Target::Flags, 0),
        Fcomip => run!(arith::compare_registers, false, Target::Flags, 1),
        Fucomi => run!(arith::compare_registers, true, Target::Flags, 0),
        Fucomip => run!(arith::compare_registers, true, Target::Flags, 1),
        Ftst => run!(arith::ftst),
        Fxam => run!(arith::fxam),
        _ => return None,
    })
}

fn moves(x: &Instruction) -> Option<Handler> {
    use Mnemonic::*;
    use load_store::Format;
    let memory = (0..x.op_count()).any(|n| x.op_kind(n) == OpKind::Memory);
    let size = x.memory_size();
    Some(match x.mnemonic() {
        Fld if !memory => near!(lift::load_register; load_store::load_register),
        Fld => match size {
            MemorySize::Float32 => run!(load_store::load, Format::F32),
            MemorySize::Float64 => run!(load_store::load, Format::F64),
            _ => near!(lift::load_extended; load_store::load, Format::F80),
        },
        Fild => match size {
            MemorySize::Int16 => run!(load_store::load, Format::I16),
            MemorySize::Int32 => run!(load_store::load, Format::I32),
            _ => run!(load_store::load, Format::I64),
        },
        Fbld => run!(load_store::load, Format::Bcd),
        Fst if !memory => near!(lift::store_register, false; load_store::store_register, false),
        Fst => match size {
            MemorySize::Float32 => run!(load_store::store, Format::F32, false, false),
            _ => run!(load_store::store, Format::F64, false, false),
        },
        Fstp if !memory => near!(lift::store_register, true; load_store::store_register, true),
        Fstp => match size {
            MemorySize::Float32 => run!(load_store::store, Format::F32, false, true),
            MemorySize::Float64 => run!(load_store::store, Format::F64, false, true),
            _ => near!(lift::store_extended; load_store::store, Format::F80, false, true),
        },
        Fstpnce => run!(load_store::store_unchecked),
        Fist => match size {
            MemorySize::Int16 => run!(load_store::store, Format::I16, false, false),
            _ => run!(load_store::store, Format::I32, false, false),
        },
        Fistp => match size {
            MemorySize::Int16 => run!(load_store::store, Format::I16, false, true),
            MemorySize::Int32 => run!(load_store::store, Format::I32, false, true),
            _ => run!(load_store::store, Format::I64, false, true),
        },
        Fisttp => match size {
            MemorySize::Int16 => run!(load_store::store, Format::I16, true, true),
            MemorySize::Int32 => run!(load_store::store, Format::I32, true, true),
            _ => run!(load_store::store, Format::I64, true, true),
        },
        Fbstp => run!(load_store::store, Format::Bcd, false, true),
        Fxch => near!(lift::exchange; load_store::exchange),
        Fchs => near!(lift::change_sign, true; load_store::change_sign, true),
        Fabs => near!(lift::change_sign, false; load_store::change_sign, false),
        Fcmovb => run!(load_store::conditional_move, Cond::B),
        Fcmovnb => run!(load_store::conditional_move, Cond::Ae),
        Fcmove => run!(load_store::conditional_move, Cond::E),
        Fcmovne => run!(load_store::conditional_move, Cond::Ne),
        Fcmovbe => run!(load_store::conditional_move, Cond::Be),
        Fcmovnbe => run!(load_store::conditional_move, Cond::A),
        Fcmovu => run!(load_store::conditional_move, Cond::P),
        Fcmovnu => run!(load_store::conditional_move, Cond::Np),
        Fld1 => run!(load_store::load_constant, Constant::One),
        Fldl2t => run!(load_store::load_constant, Constant::Log2Ten),
        Fldl2e => run!(load_store::load_constant, Constant::Log2E),
        Fldpi => run!(load_store::load_constant, Constant::Pi),
        Fldlg2 => run!(load_store::load_constant, Constant::LogTwo),
        Fldln2 => run!(load_store::load_constant, Constant::LnTwo),
        Fldz => run!(load_store::load_constant, Constant::Zero),
        _ => return None,
    })
}

fn transcendental(m: Mnemonic) -> Option<Handler> {
    use Mnemonic::*;
    Some(match m {
        Fsqrt => run!(transcend::unary, soft::sqrt),
        Frndint => run!(transcend::unary, soft::rndint),
        F2xm1 => run!(transcend::unary, soft::f2xm1),
        Fscale => run!(transcend::scale),
        Fyl2x => run!(transcend::binary_pop, soft::fyl2x),
        Fyl2xp1 => run!(transcend::binary_pop, soft::fyl2xp1),
        Fpatan => run!(transcend::binary_pop, soft::fpatan),
        Fprem => run!(transcend::remainder, soft::prem),
        Fprem1 => run!(transcend::remainder, soft::prem1),
        Fsin => run!(transcend::trigonometric, soft::fsin),
        Fcos => run!(transcend::trigonometric, soft::fcos),
        Fsincos => run!(transcend::replace_and_push, soft::fsincos, true),
        Fptan => run!(transcend::replace_and_push, soft::fptan, true),
        Fxtract => run!(transcend::replace_and_push, transcend::extract, false),
        _ => return None,
    })
}
