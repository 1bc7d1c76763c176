//! Multiplication and division.

use super::{Any, Src};
use crate::cc::CcKind;
use crate::emit::{Emitter, R, Stop};
use crate::eval::DIVIDE_ERROR;
use crate::insn::{Insn, Opnd, Width};
use crate::state::reg;

/// Writes a double-width product: AX, or DX:AX, EDX:EAX, RDX:RAX.
#[inline(always)]
fn set_product<E: Emitter>(e: &mut E, w: Width, lo: E::V, hi: E::V) {
    if w == Width::B {
        e.set_gpr(w, reg::RAX, lo);
        e.set_high(0, hi);
    } else {
        e.set_gpr(w, reg::RAX, lo);
        e.set_gpr(w, reg::RDX, hi);
    }
}

/// MUL.
#[inline(always)]
pub fn mul<E: Emitter, S: Src>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let b = S::get(e, i, w)?;
    let a = e.gpr(w, reg::RAX);
    let lo = e.mul(w, a, b);
    let hi = e.mulhu(w, a, b);
    set_product(e, w, lo, hi);
    let z = e.imm(w, 0);
    let over = e.ult(w, z, hi);
    let over = e.zext(Width::B, w, over);
    e.set_cc(CcKind::Mul, w, lo, over, over);
    Ok(())
}

/// Did the signed product not fit: is the high half not the sign of the low one?
#[inline(always)]
fn overflowed<E: Emitter>(e: &mut E, w: Width, lo: E::V, hi: E::V) -> E::V {
    let n = e.imm(Width::B, u64::from(w.bits() - 1));
    let sign = e.sar(w, lo, n);
    let d = e.xor(w, sign, hi);
    let z = e.imm(w, 0);
    let over = e.ult(w, z, d);
    e.zext(Width::B, w, over)
}

/// One-operand IMUL.
#[inline(always)]
pub fn imul_acc<E: Emitter, S: Src>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let b = S::get(e, i, w)?;
    let a = e.gpr(w, reg::RAX);
    let lo = e.mul(w, a, b);
    let hi = e.mulhs(w, a, b);
    set_product(e, w, lo, hi);
    let over = overflowed(e, w, lo, hi);
    e.set_cc(CcKind::Mul, w, lo, over, over);
    Ok(())
}

/// Two- and three-operand IMUL: `dst = src * (src2 or dst)`.
#[inline(always)]
pub fn imul<E: Emitter, S: Src>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let a = S::get(e, i, w)?;
    let b = if i.src2 == Opnd::None { e.gpr(w, i.rd) } else { e.imm(w, i.imm) };
    let lo = e.mul(w, a, b);
    let hi = e.mulhs(w, a, b);
    e.set_gpr(w, i.rd, lo);
    let over = overflowed(e, w, lo, hi);
    e.set_cc(CcKind::Mul, w, lo, over, over);
    Ok(())
}

/// The dividend of an 8-, 16- or 32-bit division as a 64-bit value.
#[inline(always)]
fn dividend<E: Emitter>(e: &mut E, w: Width) -> E::V {
    if w == Width::B {
        let ax = e.gpr(Width::W, reg::RAX);
        return e.zext(Width::W, Width::Q, ax);
    }
    let lo = e.gpr(w, reg::RAX);
    let hi = e.gpr(w, reg::RDX);
    let lo = e.zext(w, Width::Q, lo);
    let hi = e.zext(w, Width::Q, hi);
    let n = e.imm(Width::B, u64::from(w.bits()));
    let hi = e.shl(Width::Q, hi, n);
    e.or(Width::Q, hi, lo)
}

#[inline(always)]
fn set_quotient<E: Emitter>(e: &mut E, w: Width, q: E::V, r: E::V) {
    let (q, r) = (e.trunc(w, q), e.trunc(w, r));
    set_product(e, w, q, r);
}

/// DIV. Flags are undefined by the SDM; they stay.
#[inline(always)]
pub fn div<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    if w == Width::Q {
        return wide(e, i, false);
    }
    let b = Any::get(e, i, w)?;
    let z = e.imm(w, 0);
    let by_zero = e.eq(w, b, z);
    e.fault_if(by_zero, DIVIDE_ERROR)?;
    let a = dividend(e, w);
    let b = e.zext(w, Width::Q, b);
    let q = e.udiv(Width::Q, a, b);
    let max = e.imm(Width::Q, w.mask());
    let over = e.ult(Width::Q, max, q);
    e.fault_if(over, DIVIDE_ERROR)?;
    let r = e.urem(Width::Q, a, b);
    set_quotient(e, w, q, r);
    Ok(())
}

/// IDIV.
#[inline(always)]
pub fn idiv<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    if w == Width::Q {
        return wide(e, i, true);
    }
    let b = Any::get(e, i, w)?;
    let z = e.imm(w, 0);
    let by_zero = e.eq(w, b, z);
    e.fault_if(by_zero, DIVIDE_ERROR)?;
    let a = dividend(e, w);
    let a = if w == Width::B {
        e.sext(Width::W, Width::Q, a)
    } else if w == Width::W {
        e.sext(Width::D, Width::Q, a)
    } else {
        a
    };
    let b = e.sext(w, Width::Q, b);
    if w == Width::D {
        // The only overflow of the 64-bit division itself: it overflows EAX as well.
        let min = e.imm(Width::Q, 1 << 63);
        let minus = e.imm(Width::Q, u64::MAX);
        let x = e.eq(Width::Q, a, min);
        let y = e.eq(Width::Q, b, minus);
        let worst = e.and(Width::B, x, y);
        e.fault_if(worst, DIVIDE_ERROR)?;
    }
    let q = e.sdiv(Width::Q, a, b);
    let low = e.trunc(w, q);
    let back = e.sext(w, Width::Q, low);
    let differ = e.xor(Width::Q, back, q);
    let z = e.imm(Width::Q, 0);
    let over = e.ult(Width::Q, z, differ);
    e.fault_if(over, DIVIDE_ERROR)?;
    let r = e.srem(Width::Q, a, b);
    set_quotient(e, w, q, r);
    Ok(())
}

/// 128 by 64 bits: no host gives it portably, so that the compiler inlines the common cases only: a dividend whose high
/// half is zero (DIV) or the sign of the low half (IDIV).
#[inline(always)]
fn wide<E: Emitter>(e: &mut E, i: &Insn, signed: bool) -> R<()> {
    let w = Width::Q;
    if e.prefer_helper() {
        return Err(Stop);
    }
    let b = Any::get(e, i, w)?;
    let z = e.imm(w, 0);
    let by_zero = e.eq(w, b, z);
    e.fault_if(by_zero, DIVIDE_ERROR)?;
    let lo = e.gpr(w, reg::RAX);
    let hi = e.gpr(w, reg::RDX);
    let (q, r, over) = e.div128(hi, lo, b, signed);
    e.fault_if(over, DIVIDE_ERROR)?;
    set_product(e, w, q, r);
    Ok(())
}
