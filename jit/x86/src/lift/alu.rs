//! Arithmetic and logic: ADD..TEST, INC/DEC/NEG/NOT, CMPXCHG, XADD, flag instructions.

use super::{Dst, Loc, Src, get, loc, read, read_for_write, write};
use crate::cc::CcKind;
use crate::emit::{Emitter, R, Rmw};
use crate::insn::{Alu, Cond, Insn, Op, Unary, Width, prefix};
use crate::state::{reg, rflags};

/// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST.
#[inline(always)]
pub fn binary<E: Emitter, D: Dst, S: Src>(e: &mut E, i: &Insn, op: Alu, w: Width) -> R<()> {
    let b = S::get(e, i, w)?;
    let l = D::loc(e, i);
    if matches!(op, Alu::Cmp | Alu::Test) {
        let a = read(e, l, w)?;
        let res = if op == Alu::Cmp { e.sub(w, a, b) } else { e.and(w, a, b) };
        set_flags(e, op, w, res, a, b, None);
        return Ok(());
    }
    if let (Loc::Mem(at), true) = (l, i.has(prefix::LOCK)) {
        return locked(e, op, w, at, b);
    }
    let a = read_for_write(e, l, w)?;
    let carry = carry_in(e, op, w);
    let res = compute(e, op, w, a, b, carry);
    write(e, l, w, res)?;
    set_flags(e, op, w, res, a, b, carry);
    Ok(())
}

#[inline(always)]
fn carry_in<E: Emitter>(e: &mut E, op: Alu, w: Width) -> Option<E::V> {
    if !matches!(op, Alu::Adc | Alu::Sbb) {
        return None;
    }
    let c = e.cond(Cond::B);
    Some(e.zext(Width::B, w, c))
}

#[inline(always)]
fn compute<E: Emitter>(e: &mut E, op: Alu, w: Width, a: E::V, b: E::V, carry: Option<E::V>) -> E::V {
    let r = match op {
        Alu::Add | Alu::Adc => e.add(w, a, b),
        Alu::Sub | Alu::Sbb | Alu::Cmp => e.sub(w, a, b),
        Alu::And | Alu::Test => e.and(w, a, b),
        Alu::Or => e.or(w, a, b),
        Alu::Xor => e.xor(w, a, b),
    };
    match carry {
        Some(c) if op == Alu::Adc => e.add(w, r, c),
        Some(c) => e.sub(w, r, c),
        None => r,
    }
}

#[inline(always)]
fn set_flags<E: Emitter>(e: &mut E, op: Alu, w: Width, res: E::V, a: E::V, b: E::V, carry: Option<E::V>) {
    match (op, carry) {
        (Alu::Add, _) => e.set_cc(CcKind::Add, w, res, b, b),
        (Alu::Sub | Alu::Cmp, _) => e.set_cc(CcKind::Sub, w, res, b, a),
        (Alu::Adc, Some(c)) => e.set_cc(CcKind::Adc, w, res, b, c),
        (Alu::Sbb, Some(c)) => e.set_cc(CcKind::Sbb, w, res, b, c),
        _ => e.set_cc(CcKind::Logic, w, res, res, res),
    }
}

/// LOCK-prefixed form: one atomic read-modify-write.
#[inline(always)]
fn locked<E: Emitter>(e: &mut E, op: Alu, w: Width, at: crate::emit::Addr<E::V>, b: E::V) -> R<()> {
    let carry = carry_in(e, op, w);
    let (rmw, operand) = match (op, carry) {
        (Alu::Add, _) => (Rmw::Add, b),
        (Alu::Sub, _) => (Rmw::Sub, b),
        (Alu::And, _) => (Rmw::And, b),
        (Alu::Or, _) => (Rmw::Or, b),
        (Alu::Adc, Some(c)) => (Rmw::Add, e.add(w, b, c)),
        (Alu::Sbb, Some(c)) => (Rmw::Sub, e.add(w, b, c)),
        _ => (Rmw::Xor, b),
    };
    let a = e.atomic(at, w, rmw, operand)?;
    let res = compute(e, op, w, a, b, carry);
    set_flags(e, op, w, res, a, b, carry);
    Ok(())
}

/// INC, DEC, NEG, NOT.
#[inline(always)]
pub fn unary<E: Emitter, D: Dst>(e: &mut E, i: &Insn, op: Unary, w: Width) -> R<()> {
    unary_keeping::<E, D>(e, i, op, w, |e| e.cond(Cond::B))
}

/// INC, DEC, NEG, NOT; `carry` gives the CF that INC and DEC keep.
#[inline(always)]
pub fn unary_keeping<E: Emitter, D: Dst>(
    e: &mut E,
    i: &Insn,
    op: Unary,
    w: Width,
    carry: impl FnOnce(&mut E) -> E::V,
) -> R<()> {
    let l = D::loc(e, i);
    let one = e.imm(w, 1);
    let a = match (l, i.has(prefix::LOCK)) {
        (Loc::Mem(at), true) => match op {
            Unary::Inc => e.atomic(at, w, Rmw::Add, one)?,
            Unary::Dec => e.atomic(at, w, Rmw::Sub, one)?,
            Unary::Not => {
                let ones = e.imm(w, w.mask());
                e.atomic(at, w, Rmw::Xor, ones)?
            }
            Unary::Neg => e.atomic(at, w, Rmw::Neg, one)?,
        },
        _ => read_for_write(e, l, w)?,
    };
    let res = match op {
        Unary::Inc => e.add(w, a, one),
        Unary::Dec => e.sub(w, a, one),
        Unary::Neg => e.neg(w, a),
        Unary::Not => e.not(w, a),
    };
    if !(matches!(l, Loc::Mem(_)) && i.has(prefix::LOCK)) {
        write(e, l, w, res)?;
    }
    match op {
        Unary::Inc | Unary::Dec => {
            let cf = carry(e);
            let cf = e.zext(Width::B, w, cf);
            let kind = if op == Unary::Inc { CcKind::Inc } else { CcKind::Dec };
            e.set_cc(kind, w, res, cf, cf);
        }
        Unary::Neg => {
            let z = e.imm(w, 0);
            e.set_cc(CcKind::Sub, w, res, a, z);
        }
        Unary::Not => {}
    }
    Ok(())
}

/// CMPXCHG's register destination: written when the compare succeeds. A failed one does not even clear the upper half
/// (processors do not, whatever the SDM's pseudocode writes).
#[inline(always)]
fn register_if<E: Emitter>(e: &mut E, l: Loc<E::V>, w: Width, equal: E::V, new: E::V, old: E::V) {
    match l {
        Loc::Gpr(r) if w == Width::D => {
            let was = e.gpr(Width::Q, r);
            let wide = e.zext(w, Width::Q, new);
            let v = e.select(Width::Q, equal, wide, was);
            e.set_gpr(Width::Q, r, v);
        }
        Loc::Gpr(r) => {
            let v = e.select(w, equal, new, old);
            e.set_gpr(w, r, v);
        }
        Loc::High(r) => {
            let v = e.select(w, equal, new, old);
            e.set_high(r, v);
        }
        Loc::Mem(_) | Loc::Near(_) => {}
    }
}

/// CMPXCHG r/m, r.
#[inline(always)]
pub fn cmpxchg<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let new = get(e, i, i.src, w)?;
    let acc = e.gpr(w, reg::RAX);
    let l = loc(e, i, i.dst);
    let (old, equal) = match (l, i.has(prefix::LOCK)) {
        (Loc::Mem(at), true) => {
            let old = e.atomic_cmpxchg(at, w, acc, new)?;
            (old, e.eq(w, old, acc))
        }
        (Loc::Mem(_), false) => {
            let old = read_for_write(e, l, w)?;
            let equal = e.eq(w, old, acc);
            // SDM: memory receives a write cycle in either case.
            let v = e.select(w, equal, new, old);
            write(e, l, w, v)?;
            (old, equal)
        }
        _ => {
            let old = read(e, l, w)?;
            let equal = e.eq(w, old, acc);
            register_if(e, l, w, equal, new, old);
            (old, equal)
        }
    };
    if w == Width::D {
        // A failed 32-bit compare clears the accumulator's upper half; a successful one leaves RAX alone.
        let was = e.gpr(Width::Q, reg::RAX);
        let wide = e.zext(w, Width::Q, old);
        let v = e.select(Width::Q, equal, was, wide);
        e.set_gpr(Width::Q, reg::RAX, v);
    } else {
        let was = e.gpr(w, reg::RAX);
        let v = e.select(w, equal, was, old);
        e.set_gpr(w, reg::RAX, v);
    }
    let res = e.sub(w, acc, old);
    e.set_cc(CcKind::Sub, w, res, old, acc);
    Ok(())
}

/// XADD r/m, r.
#[inline(always)]
pub fn xadd<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let b = get(e, i, i.src, w)?;
    let l = loc(e, i, i.dst);
    let src = loc(e, i, i.src);
    let (old, res) = match (l, i.has(prefix::LOCK)) {
        (Loc::Mem(at), true) => {
            let old = e.atomic(at, w, Rmw::Add, b)?;
            let res = e.add(w, old, b);
            write(e, src, w, old)?;
            (old, res)
        }
        (Loc::Mem(_), false) => {
            let old = read_for_write(e, l, w)?;
            let res = e.add(w, old, b);
            write(e, l, w, res)?;
            write(e, src, w, old)?;
            (old, res)
        }
        _ => {
            let old = read(e, l, w)?;
            let res = e.add(w, old, b);
            // XADD r, r with one register: the sum is what remains.
            write(e, src, w, old)?;
            write(e, l, w, res)?;
            (old, res)
        }
    };
    let _ = old;
    e.set_cc(CcKind::Add, w, res, b, b);
    Ok(())
}

/// CLC, STC, CMC, CLD, STD, LAHF, SAHF.
#[inline(always)]
pub fn flag_op<E: Emitter>(e: &mut E, op: Op) -> R<()> {
    let one = e.imm(Width::B, 1);
    match op {
        Op::Clc => {
            let z = e.imm(Width::D, 0);
            e.set_flag_bits(one, rflags::CF, z);
        }
        Op::Stc => {
            let c = e.imm(Width::D, rflags::CF);
            e.set_flag_bits(one, rflags::CF, c);
        }
        Op::Cmc => {
            let c = e.cond(Cond::Ae);
            let c = e.zext(Width::B, Width::D, c);
            e.set_flag_bits(one, rflags::CF, c);
        }
        Op::Cld => e.set_df(false),
        Op::Std => e.set_df(true),
        Op::Lahf => {
            // AH = SF ZF 0 AF 0 PF 1 CF
            let f = e.arith_flags();
            let f = e.trunc(Width::B, f);
            let fixed = e.imm(Width::B, 2);
            let f = e.or(Width::B, f, fixed);
            e.set_high(0, f);
        }
        _ => {
            let ah = e.high(0);
            let ah = e.zext(Width::B, Width::D, ah);
            let mask = rflags::ARITH & 0xff;
            let m = e.imm(Width::D, mask);
            let bits = e.and(Width::D, ah, m);
            e.set_flag_bits(one, mask, bits);
        }
    }
    Ok(())
}
