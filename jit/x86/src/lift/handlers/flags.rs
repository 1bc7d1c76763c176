//! Handlers that look at flags, and what they know of the instruction that set them.
//!
//! Within a block it is mostly certain which instruction set the flags that a Jcc, SETcc or CMOVcc finds ([`flags_after`]): its
//! handler then evaluates the condition without asking what kind they are ([`specialise`]). A Jcc right after a register
//! operation or comparison is executed by that instruction's own handler ([`fuse`]), with the operands at hand. Its record stays:
//! it is what says where to go, and what executes when the instruction before it took the general way or ran alone.

use super::{Form, alu_h, alu_op};
use super::{Reach, by_reach, conds, ended, form, reach};
use crate::cc::CcKind;
use crate::eval::proceed;
use crate::insn::{Alu, Cond, Handler, Insn, Op, Opnd, Rest, Unary, Width};
use crate::lift::{Any, Dst, Imm, Mem, Near, Reg, Src, alu, flow, mov};
use crate::vcpu::Vcpu;

fn jcc_h<const C: u8>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    proceed(flow::jcc(c, i, Cond::from_u8(C)), c, rest)
}
fn setcc_h<const C: u8, D: Dst>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    ended::<D>(mov::setcc::<_, D>(c, i, Cond::from_u8(C)), c, rest)
}
fn cmov_h<const C: u8, const W: u8>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    proceed(mov::cmov::<_, Any>(c, i, Cond::from_u8(C), Width::from_u8(W)), c, rest)
}

/// Jcc on any flags.
pub fn jcc_handler(c: Cond) -> Handler {
    conds!(c, |C| jcc_h::<C>)
}

/// SETcc on any flags.
pub fn setcc_handler(c: Cond, dst: Opnd) -> Handler {
    match dst {
        Opnd::Gpr(_) => conds!(c, |C| setcc_h::<C, Reg>),
        _ => conds!(c, |C| setcc_h::<C, Any>),
    }
}

/// CMOVcc on any flags.
pub fn cmov_handler(c: Cond, w: Width) -> Handler {
    match w {
        Width::Q => conds!(c, |C| cmov_h::<C, 3>),
        Width::D => conds!(c, |C| cmov_h::<C, 2>),
        _ => conds!(c, |C| cmov_h::<C, 1>),
    }
}

/// The condition on flags of an operation of kind `K` and width `W`.
#[inline(always)]
fn known<const C: u8, const K: u8, const W: u8>(c: &mut Vcpu) -> u64 {
    c.known_cond(CcKind::from_u8(K), Width::from_u8(W), Cond::from_u8(C))
}
fn jcc_known_h<const C: u8, const K: u8, const W: u8>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    let taken = known::<C, K, W>(c);
    proceed(flow::jump_if(c, i, taken), c, rest)
}
fn setcc_known_h<const C: u8, const K: u8, const W: u8>(c: &mut Vcpu, i: &Insn, rest: Rest<'_>) -> usize {
    let v = known::<C, K, W>(c);
    proceed(mov::set_if::<_, Reg>(c, i, v), c, rest)
}
/// 64-bit CMOVcc of a register if `WIDE`, else 32-bit.
fn cmov_known_h<const C: u8, const K: u8, const W: u8, const WIDE: bool>(
    c: &mut Vcpu,
    i: &Insn,
    rest: Rest<'_>,
) -> usize {
    let v = known::<C, K, W>(c);
    proceed(mov::cmov_if::<_, Reg>(c, i, v, if WIDE { Width::Q } else { Width::D }), c, rest)
}

/// INC or DEC of a register, on flags of kind `K` and width `F`.
fn step_known_h<const DEC: bool, const W: u8, const K: u8, const F: u8>(
    c: &mut Vcpu,
    i: &Insn,
    rest: Rest<'_>,
) -> usize {
    let op = if DEC { Unary::Dec } else { Unary::Inc };
    // B: the carry.
    let r = alu::unary_keeping::<_, Reg>(c, i, op, Width::from_u8(W), known::<{ Cond::B as u8 }, K, F>);
    proceed(r, c, rest)
}

/// The lazy flags that an instruction leaves, where their kind is certain; `before` are those that it finds.
pub fn flags_after(i: &Insn, before: Option<(CcKind, Width)>) -> Option<(CcKind, Width)> {
    let kind = match i.op {
        Op::Alu(Alu::Add) => CcKind::Add,
        Op::Alu(Alu::Sub | Alu::Cmp) | Op::Unary(Unary::Neg) => CcKind::Sub,
        Op::Alu(Alu::And | Alu::Or | Alu::Xor | Alu::Test) => CcKind::Logic,
        Op::Unary(Unary::Inc) => CcKind::Inc,
        Op::Unary(Unary::Dec) => CcKind::Dec,
        Op::Mov | Op::Movzx | Op::Movsx | Op::Lea | Op::Push | Op::Pop | Op::Leave | Op::Bswap | Op::Nop => {
            return before;
        }
        Op::Xchg | Op::Movbe | Op::ExtendAcc | Op::ExtendDx | Op::Setcc(_) | Op::Cmov(_) => return before,
        Op::Unary(Unary::Not) => return before,
        _ => return None,
    };
    Some((kind, i.w))
}

/// Chooses a handler for an instruction that knows which flags it finds.
pub fn specialise(i: &mut Insn, (kind, w): (CcKind, Width)) {
    macro_rules! at_width {
        ($c:expr, $h:ident, $k:literal $(, $more:tt)?) => {
            match w {
                Width::B => conds!($c, |C| $h::<C, $k, 0 $(, $more)?>, else return),
                Width::W => conds!($c, |C| $h::<C, $k, 1 $(, $more)?>, else return),
                Width::D => conds!($c, |C| $h::<C, $k, 2 $(, $more)?>, else return),
                Width::Q => conds!($c, |C| $h::<C, $k, 3 $(, $more)?>, else return),
            }
        };
    }
    /// INC and DEC at their frequent widths, on flags of any width.
    macro_rules! step {
        ($dec:literal, $k:literal) => {
            match (i.w, w) {
                (Width::D, Width::B) => step_known_h::<$dec, 2, $k, 0>,
                (Width::D, Width::W) => step_known_h::<$dec, 2, $k, 1>,
                (Width::D, Width::D) => step_known_h::<$dec, 2, $k, 2>,
                (Width::D, Width::Q) => step_known_h::<$dec, 2, $k, 3>,
                (Width::Q, Width::B) => step_known_h::<$dec, 3, $k, 0>,
                (Width::Q, Width::W) => step_known_h::<$dec, 3, $k, 1>,
                (Width::Q, Width::D) => step_known_h::<$dec, 3, $k, 2>,
                (Width::Q, Width::Q) => step_known_h::<$dec, 3, $k, 3>,
                _ => return,
            }
        };
    }
    let register = |o: Opnd| matches!(o, Opnd::Gpr(_));
    i.run = match (i.op, kind) {
        (Op::Jcc(c), CcKind::Add) => at_width!(c, jcc_known_h, 1),
        (Op::Jcc(c), CcKind::Sub) => at_width!(c, jcc_known_h, 3),
        (Op::Jcc(c), CcKind::Logic) => at_width!(c, jcc_known_h, 5),
        (Op::Jcc(c), CcKind::Inc) => at_width!(c, jcc_known_h, 6),
        (Op::Jcc(c), CcKind::Dec) => at_width!(c, jcc_known_h, 7),
        (Op::Unary(Unary::Inc), CcKind::Sub) if register(i.dst) => step!(false, 3),
        (Op::Unary(Unary::Inc), CcKind::Logic) if register(i.dst) => step!(false, 5),
        (Op::Unary(Unary::Dec), CcKind::Sub) if register(i.dst) => step!(true, 3),
        (Op::Unary(Unary::Dec), CcKind::Logic) if register(i.dst) => step!(true, 5),
        (Op::Setcc(c), CcKind::Sub) if register(i.dst) => at_width!(c, setcc_known_h, 3),
        (Op::Setcc(c), CcKind::Logic) if register(i.dst) => at_width!(c, setcc_known_h, 5),
        (Op::Cmov(c), CcKind::Sub) if register(i.src) && i.w == Width::Q => {
            at_width!(c, cmov_known_h, 3, true)
        }
        (Op::Cmov(c), CcKind::Logic) if register(i.src) && i.w == Width::Q => {
            at_width!(c, cmov_known_h, 5, true)
        }
        (Op::Cmov(c), CcKind::Sub) if register(i.src) && i.w == Width::D => {
            at_width!(c, cmov_known_h, 3, false)
        }
        (Op::Cmov(c), CcKind::Logic) if register(i.src) && i.w == Width::D => {
            at_width!(c, cmov_known_h, 5, false)
        }
        _ => return,
    };
}

/// The Jcc that follows an operation `OP` of width `W`: the last of its block.
#[inline(always)]
fn branch<const OP: u8, const W: u8, const C: u8>(c: &mut Vcpu, mut rest: Rest<'_>) -> usize {
    let Some(i) = rest.next() else { return 0 };
    let kind = match alu_op(OP) {
        Alu::Add => CcKind::Add,
        Alu::Sub | Alu::Cmp => CcKind::Sub,
        _ => CcKind::Logic,
    };
    let taken = c.known_cond(kind, Width::from_u8(W), Cond::from_u8(C));
    proceed(flow::jump_if(c, i, taken), c, rest)
}
/// Operands that cannot fail.
fn alu_jcc_h<const OP: u8, const W: u8, const C: u8, D: Dst, S: Src>(
    c: &mut Vcpu,
    i: &Insn,
    rest: Rest<'_>,
) -> usize {
    match alu::binary::<_, D, S>(c, i, alu_op(OP), Width::from_u8(W)) {
        Ok(()) => branch::<OP, W, C>(c, rest),
        Err(_) => rest.len(),
    }
}
/// `D` and `S` with a near operand, `GD` and `GS` the same with a general one.
fn alu_near_jcc_h<const OP: u8, const W: u8, const C: u8, D: Dst, S: Src, GD: Dst, GS: Src>(
    c: &mut Vcpu,
    i: &Insn,
    rest: Rest<'_>,
) -> usize {
    match alu::binary::<_, D, S>(c, i, alu_op(OP), Width::from_u8(W)) {
        Ok(()) => branch::<OP, W, C>(c, rest),
        Err(_) => alu_h::<OP, W, GD, GS>(c, i, rest),
    }
}

/// Lets `i`, which the Jcc `c` follows, execute that too, where there is a handler for both.
pub fn fuse(i: &mut Insn, c: Cond) {
    let Op::Alu(op) = i.op else { return };
    macro_rules! at_width {
        (|$w:ident, $c:ident| $h:expr) => {
            match i.w {
                Width::B => {
                    const $w: u8 = 0;
                    conds!(c, |$c| $h, else return)
                }
                Width::D => {
                    const $w: u8 = 2;
                    conds!(c, |$c| $h, else return)
                }
                Width::Q => {
                    const $w: u8 = 3;
                    conds!(c, |$c| $h, else return)
                }
                Width::W => return,
            }
        };
    }
    /// A register with a register or an immediate.
    macro_rules! registers {
        ($k:literal) => {
            match form(i) {
                Form::RegReg => at_width!(|W, C| alu_jcc_h::<$k, W, C, Reg, Reg>),
                Form::RegImm => at_width!(|W, C| alu_jcc_h::<$k, W, C, Reg, Imm>),
                _ => return,
            }
        };
    }
    macro_rules! near {
        ($k:literal, $d:ident $s:ident, $gd:ident $gs:ident) => {
            by_reach!(
                reach(i),
                |M| at_width!(|W, C| alu_near_jcc_h::<$k, W, C, near!(@ $d M), near!(@ $s M), $gd, $gs>),
                return
            )
        };
        (@ Near $m:ident) => { $m };
        (@ $t:ident $m:ident) => { $t };
    }
    i.run = match (op, form(i)) {
        (Alu::Cmp, Form::RegMem) => near!(7, Reg Near, Reg Mem),
        (Alu::Cmp, Form::MemReg) => near!(7, Near Reg, Mem Reg),
        (Alu::Cmp, Form::MemImm) => near!(7, Near Imm, Mem Imm),
        (Alu::Test, Form::MemImm) => near!(8, Near Imm, Mem Imm),
        (Alu::Cmp, _) => registers!(7),
        (Alu::Test, _) => registers!(8),
        (Alu::Add, _) => registers!(0),
        (Alu::Sub, _) => registers!(5),
        (Alu::And, _) => registers!(4),
        _ => return,
    };
}
