//! Shifts and rotates.
//!
//! SDM SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR: the count is masked to 5 bits (6 for 64-bit operands); a masked count of 0
//! leaves every flag unchanged.

use super::{Dst, Loc, get, loc, read_for_write, write};
use crate::cc::CcKind;
use crate::emit::{Emitter, R, Stop};
use crate::insn::{Cond, Insn, Opnd, Shift, Width};
use crate::state::{reg, rflags};

/// The masked count as a 64-bit value, and statically where it is an immediate.
#[inline(always)]
fn count<E: Emitter>(e: &mut E, i: &Insn, o: Opnd, w: Width) -> (E::V, Option<u64>) {
    let mask = if w == Width::Q { 63 } else { 31 };
    if o == Opnd::Imm {
        let n = i.imm & mask;
        return (e.imm(Width::Q, n), Some(n));
    }
    let cl = e.gpr(Width::B, reg::RCX);
    let cl = e.zext(Width::B, Width::Q, cl);
    let m = e.imm(Width::Q, mask);
    (e.and(Width::Q, cl, m), None)
}

/// "The count is not zero" as 0 or 1.
#[inline(always)]
fn nonzero<E: Emitter>(e: &mut E, n: E::V, known: Option<u64>) -> E::V {
    if known.is_some_and(|n| n != 0) {
        return e.imm(Width::B, 1);
    }
    let z = e.imm(Width::Q, 0);
    e.ult(Width::Q, z, n)
}

/// ROL, ROR, RCL, RCR, SHL, SHR, SAR.
#[inline(always)]
pub fn shift<E: Emitter, D: Dst>(e: &mut E, i: &Insn, op: Shift, w: Width) -> R<()> {
    let l = D::loc(e, i);
    match op {
        Shift::Shl | Shift::Shr | Shift::Sar => linear(e, i, op, w, l),
        Shift::Rol | Shift::Ror => rotate(e, i, op, w, l),
        Shift::Rcl | Shift::Rcr => rotate_carry(e, i, op, w, l),
    }
}

#[inline(always)]
fn linear<E: Emitter>(e: &mut E, i: &Insn, op: Shift, w: Width, l: Loc<E::V>) -> R<()> {
    let (n, known) = count(e, i, i.src, w);
    let a = read_for_write(e, l, w)?;
    if known == Some(0) {
        // Still a write: a 32-bit register is zero-extended.
        return write(e, l, w, a);
    }
    let one = e.imm(Width::Q, 1);
    let wide = if op == Shift::Sar { e.sext(w, Width::Q, a) } else { e.zext(w, Width::Q, a) };
    let (res, cf) = match op {
        Shift::Shl => {
            let r = e.shl(Width::Q, wide, n);
            let cf = if w == Width::Q {
                let bits = e.imm(Width::Q, 64);
                let back = e.sub(Width::Q, bits, n);
                e.shr(Width::Q, wide, back)
            } else {
                let bits = e.imm(Width::Q, u64::from(w.bits()));
                e.shr(Width::Q, r, bits)
            };
            (r, cf)
        }
        Shift::Shr => {
            let before = e.sub(Width::Q, n, one);
            (e.shr(Width::Q, wide, n), e.shr(Width::Q, wide, before))
        }
        _ => {
            let before = e.sub(Width::Q, n, one);
            (e.sar(Width::Q, wide, n), e.sar(Width::Q, wide, before))
        }
    };
    let res = e.trunc(w, res);
    let cf = e.trunc(w, cf);
    let (kind, of) = match op {
        Shift::Shl => (CcKind::Shl, cf),
        Shift::Shr => {
            // OF (for a count of 1) is the original sign.
            let top = e.imm(Width::B, u64::from(w.bits() - 1));
            (CcKind::Shr, e.shr(w, a, top))
        }
        _ => (CcKind::Shr, e.imm(w, 0)),
    };
    write(e, l, w, res)?;
    if known.is_some() {
        e.set_cc(kind, w, res, cf, of);
    } else {
        let nz = nonzero(e, n, known);
        e.set_cc_if(nz, kind, w, res, cf, of);
    }
    Ok(())
}

/// CF and OF at their RFLAGS places from 0/1 values.
#[inline(always)]
fn cf_of<E: Emitter>(e: &mut E, cf: E::V, of: E::V) -> E::V {
    let cf = e.zext(Width::B, Width::D, cf);
    let of = e.zext(Width::B, Width::D, of);
    let n = e.imm(Width::B, 11);
    let of = e.shl(Width::D, of, n);
    e.or(Width::D, cf, of)
}

/// Bit `n` of `v` as 0 or 1 at width B.
#[inline(always)]
fn bit<E: Emitter>(e: &mut E, w: Width, v: E::V, n: u32) -> E::V {
    let c = e.imm(Width::B, u64::from(n));
    let v = e.shr(w, v, c);
    let v = e.trunc(Width::B, v);
    let one = e.imm(Width::B, 1);
    e.and(Width::B, v, one)
}

#[inline(always)]
fn rotate<E: Emitter>(e: &mut E, i: &Insn, op: Shift, w: Width, l: Loc<E::V>) -> R<()> {
    let (n, known) = count(e, i, i.src, w);
    let a = read_for_write(e, l, w)?;
    if known == Some(0) {
        return write(e, l, w, a);
    }
    let top = w.bits() - 1;
    let (res, cf, of) = if op == Shift::Rol {
        let r = e.rotl(w, a, n);
        let cf = bit(e, w, r, 0);
        let msb = bit(e, w, r, top);
        (r, cf, e.xor(Width::B, cf, msb))
    } else {
        let r = e.rotr(w, a, n);
        let cf = bit(e, w, r, top);
        let next = bit(e, w, r, top - 1);
        (r, cf, e.xor(Width::B, cf, next))
    };
    write(e, l, w, res)?;
    let bits = cf_of(e, cf, of);
    let nz = nonzero(e, n, known);
    e.set_flag_bits(nz, rflags::CF | rflags::OF, bits);
    Ok(())
}

/// RCL and RCR rotate through width + 1 bits: the count is taken modulo 9, 17, 33 or 65.
#[inline(always)]
fn rotate_carry<E: Emitter>(e: &mut E, i: &Insn, op: Shift, w: Width, l: Loc<E::V>) -> R<()> {
    let (n, known) = count(e, i, i.src, w);
    if known != Some(1) && e.prefer_helper() {
        return Err(Stop);
    }
    let a = read_for_write(e, l, w)?;
    if known == Some(0) {
        return write(e, l, w, a);
    }
    let cin = e.cond(Cond::B);
    let top = w.bits() - 1;
    let (mut res, mut cf) = (a, cin);
    let step = |e: &mut E, res: E::V, cf: E::V| {
        let one = e.imm(Width::B, 1);
        let c = e.zext(Width::B, w, cf);
        if op == Shift::Rcl {
            let out = bit(e, w, res, top);
            let r = e.shl(w, res, one);
            (e.or(w, r, c), out)
        } else {
            let out = bit(e, w, res, 0);
            let r = e.shr(w, res, one);
            let place = e.imm(Width::B, u64::from(top));
            let c = e.shl(w, c, place);
            (e.or(w, r, c), out)
        }
    };
    if known == Some(1) {
        (res, cf) = step(e, res, cf);
    } else {
        // The evaluator's loop: at most 63 steps, each kept only while the count lasts.
        let m = e.imm(Width::Q, u64::from(w.bits() + 1));
        let turns = e.urem(Width::Q, n, m);
        for k in 0..u64::from(w.bits()) {
            let k = e.imm(Width::Q, k);
            let go = e.ult(Width::Q, k, turns);
            let (r, c) = step(e, res, cf);
            res = e.select(w, go, r, res);
            cf = e.select(Width::B, go, c, cf);
        }
    }
    let msb = bit(e, w, res, top);
    let of = if op == Shift::Rcl {
        e.xor(Width::B, cf, msb)
    } else {
        let next = bit(e, w, res, top - 1);
        e.xor(Width::B, msb, next)
    };
    write(e, l, w, res)?;
    let bits = cf_of(e, cf, of);
    let nz = nonzero(e, n, known);
    e.set_flag_bits(nz, rflags::CF | rflags::OF, bits);
    Ok(())
}

/// SHLD and SHRD. For 16-bit operands a count above 16 is undefined; here the operands behave as a 32-bit rotating pair,
/// as on Intel processors.
#[inline(always)]
pub fn double<E: Emitter>(e: &mut E, i: &Insn, right: bool, w: Width) -> R<()> {
    let (n, known) = count(e, i, i.src2, w);
    let b = get(e, i, i.src, w)?;
    let l = loc(e, i, i.dst);
    let a = read_for_write(e, l, w)?;
    if known == Some(0) {
        return write(e, l, w, a);
    }
    let bits = u64::from(w.bits());
    let one = e.imm(Width::Q, 1);
    let (res, cf) = match w {
        Width::Q => {
            // n = 0 gives shifts by 64 & 63 = 0: the value is replaced below.
            let c64 = e.imm(Width::Q, 64);
            let back = e.sub(Width::Q, c64, n);
            let before = e.sub(Width::Q, n, one);
            let (x, y, cf) = if right {
                (e.shr(w, a, n), e.shl(w, b, back), e.shr(w, a, before))
            } else {
                (e.shl(w, a, n), e.shr(w, b, back), e.shr(w, a, back))
            };
            let r = e.or(w, x, y);
            let nz = nonzero(e, n, known);
            (e.select(w, nz, r, a), cf)
        }
        _ => {
            // Both operands side by side in 64 bits; 16-bit operands as a : b : a so that counts up to 31 work.
            let (a64, b64) = (e.zext(w, Width::Q, a), e.zext(w, Width::Q, b));
            let sh = e.imm(Width::B, bits);
            if right {
                // low part a, above it b, above that a again.
                let hi = e.shl(Width::Q, b64, sh);
                let mut v = e.or(Width::Q, a64, hi);
                if w == Width::W {
                    let sh2 = e.imm(Width::B, 32);
                    let x = e.shl(Width::Q, a64, sh2);
                    v = e.or(Width::Q, v, x);
                }
                let before = e.sub(Width::Q, n, one);
                let r = e.shr(Width::Q, v, n);
                let cf = e.shr(Width::Q, v, before);
                (e.trunc(w, r), cf)
            } else {
                let hi = e.shl(Width::Q, a64, sh);
                let v = e.or(Width::Q, hi, b64);
                if w == Width::W {
                    // a : b : a in 48 bits; result is the top 16 after shifting left.
                    let sh16 = e.imm(Width::B, 16);
                    let v = e.shl(Width::Q, v, sh16);
                    let v = e.or(Width::Q, v, a64);
                    let r = e.shl(Width::Q, v, n);
                    let sh32 = e.imm(Width::B, 32);
                    let sh48 = e.imm(Width::B, 48);
                    let res = e.shr(Width::Q, r, sh32);
                    let cf = e.shr(Width::Q, r, sh48);
                    (e.trunc(w, res), cf)
                } else {
                    let r = e.shl(Width::Q, v, n);
                    let res = e.shr(Width::Q, r, sh);
                    // Bit 64 fell out; recover the last bit shifted out of a.
                    let c32 = e.imm(Width::Q, 32);
                    let back = e.sub(Width::Q, c32, n);
                    let cf = e.shr(Width::Q, a64, back);
                    (e.trunc(w, res), cf)
                }
            }
        }
    };
    let cf = e.trunc(w, cf);
    // OF (count 1): the sign changed.
    let x = e.xor(w, res, a);
    let top = e.imm(Width::B, bits - 1);
    let of = e.shr(w, x, top);
    write(e, l, w, res)?;
    let nz = nonzero(e, n, known);
    e.set_cc_if(nz, CcKind::Shr, w, res, cf, of);
    Ok(())
}
