//! Floating-point arithmetic, comparisons and conversions.
//!
//! All elements of an instruction are computed in one call of the emitter, whatever the vector's length: an unmasked exception
//! of one of them decides which flags the others report (SDM vol. 1, 11.5.4).

use super::{Form, each, integer, join_low, low, put, put_lane, register, set_flags, source, source_aligned};
use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::vec::emitter::{CvtX, FmaOp, FpOp, Prec, VecEmitter};

/// ADDSS, SQRTSD, ...
#[inline(always)]
pub fn fp_scalar<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: FpOp, p: Prec) -> R<()> {
    let w = p.width();
    let b = low(e, i, f, w)?;
    let a = e.xmm_lane(w, i.rv, 0);
    let v = e.fp_scalar(op, p, a, b)?;
    put_lane(e, i, f, w, 0, v);
    Ok(())
}

/// ADDPS, SQRTPD, ...
#[inline(always)]
pub fn fp_packed<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: FpOp, p: Prec) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let x = e.fp_packed(op, p, a, b)?;
    put(e, i, f, x);
    Ok(())
}

/// HADDPS, HSUBPD, ...
#[inline(always)]
pub fn fp_horizontal<E: VecEmitter, const N: usize>(
    e: &mut E,
    i: &Insn,
    f: Form,
    op: FpOp,
    p: Prec,
) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let (even, odd) = match p {
        Prec::F32 => ([0, 2, 4, 6], [1, 3, 5, 7]),
        Prec::F64 => ([0, 1, 4, 5], [2, 3, 6, 7]),
    };
    let x = each(a, |k, a| e.shuffle32(a, b[k], even))?;
    let y = each(a, |k, a| e.shuffle32(a, b[k], odd))?;
    let x = e.fp_packed(op, p, x, y)?;
    put(e, i, f, x);
    Ok(())
}

/// DPPS and DPPD in three steps, each with its own exceptions (SDM vol. 2, DPPS): the products, the pairs, the sum.
pub fn dot_product<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let zero = e.const128([0; 2]);
    let bytes = p.width().bytes();
    // Lanes that are not selected become zeros, which multiply (and add) to zeros without any flag.
    let selected = |e: &mut E, x: [E::X; N], lanes: u8| {
        let pick = (0..16).fold(0, |m, k| m | u16::from(lanes >> (k / bytes) & 1) << k);
        each(x, |_, x| e.blend(zero, x, pick))
    };
    let imm = i.imm as u8;
    let (a, b) = (selected(e, a, imm >> 4)?, selected(e, b, imm >> 4)?);
    let mut pairs = e.fp_packed(FpOp::Mul, p, a, b)?;
    if p == Prec::F32 {
        let even = each(pairs, |_, x| e.shuffle32(x, x, [0, 2, 0, 2]))?;
        let odd = each(pairs, |_, x| e.shuffle32(x, x, [1, 3, 1, 3]))?;
        pairs = e.fp_packed(FpOp::Add, p, even, odd)?;
    }
    let (second, all) = match p {
        Prec::F32 => ([1, 0, 0, 0], [0, 0, 0, 0]),
        Prec::F64 => ([2, 3, 0, 1], [0, 1, 0, 1]),
    };
    let high = each(pairs, |_, x| e.shuffle32(x, x, second))?;
    let (low, high) = (selected(e, pairs, 1)?, selected(e, high, 1)?);
    let sum = e.fp_packed(FpOp::Add, p, low, high)?;
    let sum = each(sum, |_, x| e.shuffle32(x, x, all))?;
    let x = selected(e, sum, imm)?;
    put(e, i, f, x);
    Ok(())
}

/// The three operands of a fused multiply-add in the order multiplicand, multiplier, addend, which is also the order in which a
/// NaN is chosen (SDM vol. 1, 14.5.2). `last` is the third operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the digits of the mnemonics")]
pub enum FmaOrder {
    O132,
    O213,
    O231,
}

impl FmaOrder {
    #[inline(always)]
    fn sort<T>(self, first: T, second: T, last: T) -> [T; 3] {
        match self {
            Self::O132 => [first, last, second],
            Self::O213 => [second, first, last],
            Self::O231 => [second, last, first],
        }
    }
}

/// VFMADD132SS and its kin. The rest of the destination stays, above 128 bits it is zeroed.
#[inline(always)]
pub fn fma_scalar<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: FmaOp, order: FmaOrder, p: Prec) -> R<()> {
    let w = p.width();
    let last = low(e, i, f, w)?;
    let (first, second) = (e.xmm_lane(w, i.rd, 0), e.xmm_lane(w, i.rv, 0));
    let v = e.fma_scalar(op, p, order.sort(first, second, last))?;
    let a = e.xmm(i.rd);
    let x = e.with_lane(w, a, 0, v);
    put(e, i, f, [x]);
    Ok(())
}

/// VFMADD132PS and its kin.
#[inline(always)]
pub fn fma_packed<E: VecEmitter, const N: usize>(
    e: &mut E,
    i: &Insn,
    f: Form,
    op: FmaOp,
    order: FmaOrder,
    p: Prec,
) -> R<()> {
    let last = source::<E, N>(e, i, f)?;
    let (first, second) = (register::<E, N>(e, i.rd), register::<E, N>(e, i.rv));
    let x = e.fma_packed(op, p, order.sort(first, second, last))?;
    put(e, i, f, x);
    Ok(())
}

/// Predicates are 0..7 in legacy encodings, 0..31 in VEX ones.
#[inline(always)]
fn predicate(i: &Insn, f: Form) -> u8 {
    i.imm as u8 & if f.vex { 31 } else { 7 }
}

/// CMPSS, CMPSD.
#[inline(always)]
pub fn fp_cmp<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let w = p.width();
    let b = low(e, i, f, w)?;
    let a = e.xmm_lane(w, i.rv, 0);
    let v = e.fp_cmp(p, predicate(i, f), a, b)?;
    put_lane(e, i, f, w, 0, v);
    Ok(())
}

/// CMPPS, CMPPD.
#[inline(always)]
pub fn fp_cmp_packed<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let x = e.fp_cmp_packed(p, predicate(i, f), a, b)?;
    put(e, i, f, x);
    Ok(())
}

/// COMISS, UCOMISS, COMISD, UCOMISD.
#[inline(always)]
pub fn fp_flags<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, p: Prec, quiet: bool) -> R<()> {
    let w = p.width();
    let b = low(e, i, f, w)?;
    let a = e.xmm_lane(w, i.rd, 0);
    let v = e.fp_flags(p, quiet, a, b)?;
    set_flags(e, v);
    Ok(())
}

/// ROUNDSS, ROUNDSD.
#[inline(always)]
pub fn fp_round<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let w = p.width();
    let b = low(e, i, f, w)?;
    let v = e.fp_round(p, i.imm as u8, b)?;
    put_lane(e, i, f, w, 0, v);
    Ok(())
}

/// ROUNDPS, ROUNDPD.
#[inline(always)]
pub fn fp_round_packed<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let x = e.fp_round_packed(p, i.imm as u8, b)?;
    put(e, i, f, x);
    Ok(())
}

/// CVTSS2SD, CVTSD2SS.
#[inline(always)]
pub fn convert_float<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, from: Prec) -> R<()> {
    let to = if from == Prec::F32 { Width::Q } else { Width::D };
    let v = low(e, i, f, from.width())?;
    let v = e.convert(crate::vec::between_floats(from), v)?;
    put_lane(e, i, f, to, 0, v);
    Ok(())
}

/// CVTSI2SS, CVTSI2SD.
#[inline(always)]
pub fn convert_from_integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, from: Width, to: Prec) -> R<()> {
    let v = integer(e, i, f, from)?;
    let v = e.convert(crate::vec::from_integer(from, to), v)?;
    put_lane(e, i, f, to.width(), 0, v);
    Ok(())
}

/// CVTSS2SI, CVTTSD2SI, ...
#[inline(always)]
pub fn convert_to_integer<E: VecEmitter>(
    e: &mut E,
    i: &Insn,
    f: Form,
    from: Prec,
    to: Width,
    truncate: bool,
) -> R<()> {
    let v = low(e, i, f, from.width())?;
    let v = e.convert(crate::vec::to_integer(from, to, truncate), v)?;
    e.set_gpr(to, i.rd, v);
    Ok(())
}

/// CVTDQ2PS, CVTPD2DQ, ...
#[inline(always)]
pub fn convert_packed<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: CvtX) -> R<()> {
    let a = match op {
        CvtX::I32ToF64 | CvtX::F32ToF64 => widening_source::<E, N>(e, i, f)?,
        _ => source::<E, N>(e, i, f)?,
    };
    let x = e.convert_packed(op, a)?;
    match op {
        // Each half gives the low half of a 128-bit result.
        CvtX::F64ToI32 | CvtX::F64ToI32Trunc | CvtX::F64ToF32 if N == 2 => {
            let x = join_low(e, x[0], x[N - 1])?;
            put(e, i, f, [x]);
        }
        _ => put(e, i, f, x),
    }
    Ok(())
}

/// Two elements of 32 bits for each half, in its low quadword.
#[inline(always)]
fn widening_source<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form) -> R<[E::X; N]> {
    let x = if N == 1 && f.mem {
        let v = low(e, i, f, Width::Q)?;
        e.zext128(Width::Q, v)
    } else {
        let [x] = source_aligned::<E, 1>(e, i, f, false)?;
        x
    };
    each([x; N], |k, x| if k == 0 { Ok(x) } else { e.shuffle32(x, x, [2, 3, 2, 3]) })
}
