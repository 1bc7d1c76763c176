//! Tier 0's handlers of the integer instructions: the functions of [`super`], monomorphised for operation, width and operand form
//! where they are frequent.
//!
//! A memory operand in a flat segment has a short way ([`Near`]) while the TLB has its page, and so has the flat stack
//! ([`stack`]): such a handler tries that and otherwise becomes the general one, by a jump, so that it needs no frame. What
//! follows from the instructions before in the block is in [`flags`].

mod flags;
mod stack;

pub(super) use flags::{cmov_handler, jcc_handler, setcc_handler};
pub use flags::{flags_after, fuse, specialise};
pub(super) use stack::{call_handler, leave_handler, pop_handler, push_handler, ret_handler};

use super::{Any, Dst, Imm, Mem, Near, Reg, Src, alu, mov, muldiv, shift};
use crate::emit::R;
use crate::eval::{done, go_on, proceed};
use crate::insn::{AddrMode, Alu, Handler, Insn, Opnd, Rest, Shift, Unary, Width, prefix};
use crate::state::reg;
use crate::vcpu::Vcpu;

/// Operand forms with handlers of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    RegReg,
    RegImm,
    RegMem,
    MemReg,
    MemImm,
    Other,
}

pub(super) fn form(i: &Insn) -> Form {
    match (i.dst, i.src) {
        (Opnd::Gpr(_), Opnd::Gpr(_)) => Form::RegReg,
        (Opnd::Gpr(_), Opnd::Imm) => Form::RegImm,
        (Opnd::Gpr(_), Opnd::Mem) => Form::RegMem,
        (Opnd::Mem, Opnd::Gpr(_)) => Form::MemReg,
        (Opnd::Mem, Opnd::Imm) => Form::MemImm,
        _ => Form::Other,
    }
}

/// Where a memory operand is that most accesses reach by a short way ([`Near`]).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// 64-bit addresses, no index register.
    Near64,
    /// 64-bit addresses with an index register.
    Indexed64,
    /// 32-bit addresses.
    Near32,
    Far,
}

pub(super) fn reach(i: &Insn) -> Reach {
    match i.aw {
        _ if i.am != AddrMode::Flat || i.has(prefix::LOCK) => Reach::Far,
        Width::Q if i.index == reg::ZERO => Reach::Near64,
        Width::Q => Reach::Indexed64,
        Width::D => Reach::Near32,
        _ => Reach::Far,
    }
}

/// A handler for the operand's reach: `$h` with `$m` standing for the memory operand's form.
macro_rules! by_reach {
    ($reach:expr, |$m:ident| $near:expr, $far:expr) => {
        match $reach {
            Reach::Near64 => {
                type $m = Near<3, false>;
                $near
            }
            Reach::Indexed64 => {
                type $m = Near<3, true>;
                $near
            }
            Reach::Near32 => {
                type $m = Near<2, true>;
                $near
            }
            Reach::Far => $far,
        }
    };
}

#[inline(always)]
fn ended<D: Dst>(r: R<()>, c: &mut Vcpu, rest: Rest<'_>) -> usize {
    if D::MEMORY { done(r, c, rest) } else { proceed(r, c, rest) }
}

#[inline(never)]
fn alu_h<const OP: u8, const W: u8, D: Dst, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    ended::<D>(alu::binary::<_, D, S>(c, i, alu_op(OP), Width::from_u8(W)), c, rest)
}
/// `D` and `S` with a near operand, `GD` and `GS` the same with a general one.
fn alu_near_h<const OP: u8, const W: u8, D: Dst, S: Src, GD: Dst, GS: Src>(
    c: &mut Vcpu,
    i: &Insn,
    rest: Rest<'_>,
) -> usize {
    match alu::binary::<_, D, S>(c, i, alu_op(OP), Width::from_u8(W)) {
        Ok(()) => go_on(c, rest),
        Err(_) => alu_h::<OP, W, GD, GS>(c, i, rest),
    }
}

const fn alu_op(n: u8) -> Alu {
    match n {
        0 => Alu::Add,
        1 => Alu::Or,
        2 => Alu::Adc,
        3 => Alu::Sbb,
        4 => Alu::And,
        5 => Alu::Sub,
        6 => Alu::Xor,
        7 => Alu::Cmp,
        _ => Alu::Test,
    }
}

fn unary_h<const OP: u8, const W: u8, D: Dst>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    let op = match OP {
        0 => Unary::Inc,
        1 => Unary::Dec,
        2 => Unary::Neg,
        _ => Unary::Not,
    };
    ended::<D>(alu::unary::<_, D>(c, i, op, Width::from_u8(W)), c, rest)
}

const fn shift_op(n: u8) -> Shift {
    match n {
        0 => Shift::Rol,
        1 => Shift::Ror,
        2 => Shift::Rcl,
        3 => Shift::Rcr,
        4 => Shift::Shl,
        5 => Shift::Shr,
        _ => Shift::Sar,
    }
}

fn shift_h<const OP: u8, const W: u8, D: Dst>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    ended::<D>(shift::shift::<_, D>(c, i, shift_op(OP), Width::from_u8(W)), c, rest)
}
#[inline(never)]
fn mov_h<const W: u8, D: Dst, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    ended::<D>(mov::mov::<_, D, S>(c, i, Width::from_u8(W)), c, rest)
}
fn mov_near_h<const W: u8, D: Dst, S: Src, GD: Dst, GS: Src>(
    c: &mut Vcpu,
    i: &Insn,
    rest: Rest<'_>,
) -> usize {
    match mov::mov::<_, D, S>(c, i, Width::from_u8(W)) {
        Ok(()) => go_on(c, rest),
        Err(_) => mov_h::<W, GD, GS>(c, i, rest),
    }
}
fn movzx_near_h<const F: u8, const W: u8, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    match mov::movzx::<_, S>(c, i, Width::from_u8(F), Width::from_u8(W)) {
        Ok(()) => go_on(c, rest),
        Err(_) => movzx_h::<F, W, Mem>(c, i, rest),
    }
}
fn movsx_near_h<const F: u8, const W: u8, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    match mov::movsx::<_, S>(c, i, Width::from_u8(F), Width::from_u8(W)) {
        Ok(()) => go_on(c, rest),
        Err(_) => movsx_h::<F, W, Mem>(c, i, rest),
    }
}
#[inline(never)]
fn movzx_h<const F: u8, const W: u8, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    proceed(mov::movzx::<_, S>(c, i, Width::from_u8(F), Width::from_u8(W)), c, rest)
}
#[inline(never)]
fn movsx_h<const F: u8, const W: u8, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    proceed(mov::movsx::<_, S>(c, i, Width::from_u8(F), Width::from_u8(W)), c, rest)
}
fn imul_h<const W: u8, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    done(muldiv::imul::<_, S>(c, i, Width::from_u8(W)), c, rest)
}
/// `S` is no far memory operand.
fn imul_near_h<const W: u8, S: Src>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    match muldiv::imul::<_, S>(c, i, Width::from_u8(W)) {
        Ok(()) => go_on(c, rest),
        Err(_) => imul_h::<W, Mem>(c, i, rest),
    }
}
fn lea_h<const W: u8, const INDEX: bool>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    proceed(mov::lea_as(c, i, Width::Q, INDEX, Width::from_u8(W)), c, rest)
}

/// `$f::<…, W, …>` for the width `$w`.
macro_rules! widths {
    ($w:expr, |$n:ident| $f:expr) => {
        match $w {
            Width::B => {
                const $n: u8 = 0;
                $f as Handler
            }
            Width::W => {
                const $n: u8 = 1;
                $f as Handler
            }
            Width::D => {
                const $n: u8 = 2;
                $f as Handler
            }
            Width::Q => {
                const $n: u8 = 3;
                $f as Handler
            }
        }
    };
}

/// A handler for each of the sixteen conditions, or for all but O, NO, P and NP.
macro_rules! conds {
    ($c:expr, |$n:ident| $f:expr) => {
        conds!(@ $c, $n, $f, unreachable!("a condition code is below 16"), 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($c:expr, |$n:ident| $f:expr, else $rare:expr) => {
        conds!(@ $c, $n, $f, $rare, 2 3 4 5 6 7 8 9 12 13 14 15)
    };
    (@ $c:expr, $n:ident, $f:expr, $else:expr, $($k:literal)*) => {
        match $c as u8 {
            $($k => { const $n: u8 = $k; $f as Handler })*
            _ => $else,
        }
    };
}

use conds;

use by_reach;

pub(super) fn alu_handler(op: Alu, w: Width, f: Form, reach: Reach) -> Handler {
    macro_rules! op {
        ($($k:literal)*) => {
            match op as u8 {
                $($k => match f {
                    Form::RegReg => widths!(w, |W| alu_h::<$k, W, Reg, Reg>),
                    Form::RegImm => widths!(w, |W| alu_h::<$k, W, Reg, Imm>),
                    Form::RegMem => by_reach!(
                        reach,
                        |M| widths!(w, |W| alu_near_h::<$k, W, Reg, M, Reg, Mem>),
                        widths!(w, |W| alu_h::<$k, W, Reg, Mem>)
                    ),
                    Form::MemReg => by_reach!(
                        reach,
                        |M| widths!(w, |W| alu_near_h::<$k, W, M, Reg, Mem, Reg>),
                        widths!(w, |W| alu_h::<$k, W, Mem, Reg>)
                    ),
                    Form::MemImm => by_reach!(
                        reach,
                        |M| widths!(w, |W| alu_near_h::<$k, W, M, Imm, Mem, Imm>),
                        widths!(w, |W| alu_h::<$k, W, Mem, Imm>)
                    ),
                    Form::Other => widths!(w, |W| alu_h::<$k, W, Any, Any>),
                },)*
                _ => unreachable!("nine operations"),
            }
        };
    }
    op!(0 1 2 3 4 5 6 7 8)
}

pub(super) fn mov_handler(w: Width, f: Form, reach: Reach) -> Handler {
    match f {
        Form::RegReg => widths!(w, |W| mov_h::<W, Reg, Reg>),
        Form::RegImm => widths!(w, |W| mov_h::<W, Reg, Imm>),
        Form::RegMem => by_reach!(
            reach,
            |M| widths!(w, |W| mov_near_h::<W, Reg, M, Reg, Mem>),
            widths!(w, |W| mov_h::<W, Reg, Mem>)
        ),
        Form::MemReg => by_reach!(
            reach,
            |M| widths!(w, |W| mov_near_h::<W, M, Reg, Mem, Reg>),
            widths!(w, |W| mov_h::<W, Mem, Reg>)
        ),
        Form::MemImm => by_reach!(
            reach,
            |M| widths!(w, |W| mov_near_h::<W, M, Imm, Mem, Imm>),
            widths!(w, |W| mov_h::<W, Mem, Imm>)
        ),
        Form::Other => widths!(w, |W| mov_h::<W, Any, Any>),
    }
}

pub(super) fn extend_handler(signed: bool, from: Width, to: Width, src: Opnd, reach: Reach) -> Handler {
    macro_rules! src {
        ($h:ident, $near:ident, $f:literal) => {
            match src {
                Opnd::Mem => by_reach!(
                    reach,
                    |M| widths!(to, |W| $near::<$f, W, M>),
                    widths!(to, |W| $h::<$f, W, Mem>)
                ),
                Opnd::Gpr(_) => widths!(to, |W| $h::<$f, W, Reg>),
                _ => widths!(to, |W| $h::<$f, W, Any>),
            }
        };
    }
    match (signed, from) {
        (false, Width::B) => src!(movzx_h, movzx_near_h, 0),
        (false, _) => src!(movzx_h, movzx_near_h, 1),
        (true, Width::B) => src!(movsx_h, movsx_near_h, 0),
        (true, Width::W) => src!(movsx_h, movsx_near_h, 1),
        (true, _) => src!(movsx_h, movsx_near_h, 2),
    }
}

pub(super) fn shift_handler(op: Shift, w: Width, dst: Opnd) -> Handler {
    macro_rules! op {
        ($($k:literal)*) => {
            match op as u8 {
                $($k => match dst {
                    Opnd::Gpr(_) => widths!(w, |W| shift_h::<$k, W, Reg>),
                    _ => widths!(w, |W| shift_h::<$k, W, Any>),
                },)*
                _ => unreachable!("seven operations"),
            }
        };
    }
    op!(0 1 2 3 4 5 6)
}

pub(super) fn unary_handler(op: Unary, w: Width, dst: Opnd) -> Handler {
    macro_rules! op {
        ($($k:literal)*) => {
            match op as u8 {
                $($k => match dst {
                    Opnd::Gpr(_) => widths!(w, |W| unary_h::<$k, W, Reg>),
                    _ => widths!(w, |W| unary_h::<$k, W, Any>),
                },)*
                _ => unreachable!("four operations"),
            }
        };
    }
    op!(0 1 2 3)
}

pub(super) fn imul_handler(w: Width, src: Opnd, reach: Reach) -> Handler {
    match src {
        Opnd::Gpr(_) => widths!(w, |W| imul_near_h::<W, Reg>),
        _ => by_reach!(reach, |M| widths!(w, |W| imul_near_h::<W, M>), widths!(w, |W| imul_h::<W, Mem>)),
    }
}

pub(super) fn lea_handler(i: &Insn) -> Handler {
    match (i.aw, i.index == reg::ZERO) {
        (Width::Q, true) => widths!(i.w, |W| lea_h::<W, false>),
        (Width::Q, false) => widths!(i.w, |W| lea_h::<W, true>),
        _ => |c, i, rest| proceed(mov::lea(c, i, i.w), c, rest),
    }
}
