//! SSE to SSE4.2 and MMX.
//!
//! [`select`] recognises an instruction when it is decoded, describes it as a [`VecOp`] and chooses its tier-0 handler;
//! [`lift`] is what the compiler calls. Both end in the functions of `lift.rs`, which state the semantics once over
//! [`VecEmitter`]: a handler is such a function with operation, precision and operand form as constants.
//!
//! MMX, the string comparisons and the other rare ones ([`VecOp::Cold`]) have only their tier-0 handler.
//!
//! Invariants: every load, check and floating-point operation of an instruction comes before its first register write;
//! MXCSR is only changed through functions that keep `Mode::FAST_FP` in step.

mod cold;
mod emitter;
mod eval;
mod lanes;
mod lift;
mod mmx;
mod select;
mod string;
mod swar;

#[cfg(test)]
mod tests;

pub use cold::{MXCSR_MASK, load_mxcsr};
pub use emitter::{Cvt, CvtX, FpOp, Prec, VBin, VShift, VUn, VecEmitter};
pub use lift::Shuffle;
pub use select::select;

use crate::emit::{Order, R, Stop};
use crate::insn::{AddrMode, Insn, Op, Width};
use lift::Form;

/// What a vector instruction does; the operand form is in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VecOp {
    /// `dst = dst op src`.
    Bin(VBin),
    /// `dst = op src`.
    Un(VUn),
    /// Shift by a register or memory.
    Shift(VShift),
    /// Shift by the immediate.
    ShiftImm(VShift),
    /// PSLLDQ (true), PSRLDQ.
    ShiftBytes(bool),
    /// PALIGNR.
    Align,
    /// Dword shuffles.
    Shuffle(Shuffle),
    /// MOVDDUP.
    Movddup,
    /// PSHUFHW (true), PSHUFLW.
    ShuffleWords(bool),
    /// PBLENDW, BLENDPS, BLENDPD.
    Blend(Width),
    /// PBLENDVB, BLENDVPS, BLENDVPD.
    BlendVar(Width),
    /// PMOVSX (true) or PMOVZX, from, to.
    Extend(bool, Width, Width),
    /// PMOVMSKB, MOVMSKPS, MOVMSKPD.
    MoveMask(Width),
    /// PTEST.
    Test,
    /// PINSR.
    Insert(Width),
    /// PEXTR, EXTRACTPS.
    Extract(Width),
    /// INSERTPS.
    Insertps,
    /// 128-bit move to a register; must memory be aligned?
    Load(bool),
    /// 128-bit move to memory; must it be aligned?
    Store(bool),
    /// MOVNTPS, MOVNTDQ, ...
    StoreNonTemporal,
    /// MOVSS, MOVSD to a register.
    ScalarLoad(Width),
    /// A lane to memory: MOVSS, MOVSD, MOVLPS, MOVHPS.
    LaneStore(Width, u8),
    /// A quadword into lane 0 or 1: MOVLPS, MOVHPS, MOVHLPS, MOVLHPS.
    HalfLoad(u8),
    /// MOVQ xmm, xmm/m64.
    Movq,
    /// MOVD, MOVQ xmm, r/m.
    FromInteger(Width),
    /// MOVD, MOVQ r/m, xmm.
    ToInteger(Width),
    /// MOVNTI.
    Movnti(Width),
    /// Scalar arithmetic.
    FpScalar(FpOp, Prec),
    /// Packed arithmetic.
    FpPacked(FpOp, Prec),
    /// HADDPS, HSUBPD, ...
    FpHorizontal(FpOp, Prec),
    /// CMPSS, CMPSD.
    FpCmp(Prec),
    /// CMPPS, CMPPD.
    FpCmpPacked(Prec),
    /// COMISS, or UCOMISS (true).
    FpFlags(Prec, bool),
    /// ROUNDSS, ROUNDSD.
    FpRound(Prec),
    /// ROUNDPS, ROUNDPD.
    FpRoundPacked(Prec),
    /// CVTSS2SD, CVTSD2SS by source.
    ConvertFloat(Prec),
    /// CVTSI2SS, CVTSI2SD.
    ConvertFromInteger(Width, Prec),
    /// CVTSS2SI, CVTSD2SI, truncating (true) or rounding.
    ConvertToInteger(Prec, Width, bool),
    /// Packed conversions.
    ConvertPacked(CvtX),
    /// An MMX instruction, in terms of the 128-bit operation that it is made from.
    Mmx(mmx::Mmx),
    /// Only the tier-0 handler knows.
    Cold,
}

/// The conversion between a general register's width and a precision.
#[inline(always)]
const fn from_integer(from: Width, to: Prec) -> Cvt {
    match (from, to) {
        (Width::Q, Prec::F32) => Cvt::I64ToF32,
        (Width::Q, Prec::F64) => Cvt::I64ToF64,
        (_, Prec::F32) => Cvt::I32ToF32,
        (_, Prec::F64) => Cvt::I32ToF64,
    }
}

#[inline(always)]
const fn to_integer(from: Prec, to: Width, truncate: bool) -> Cvt {
    match (from, to, truncate) {
        (Prec::F32, Width::Q, false) => Cvt::F32ToI64,
        (Prec::F32, Width::Q, true) => Cvt::F32ToI64Trunc,
        (Prec::F32, _, false) => Cvt::F32ToI32,
        (Prec::F32, _, true) => Cvt::F32ToI32Trunc,
        (Prec::F64, Width::Q, false) => Cvt::F64ToI64,
        (Prec::F64, Width::Q, true) => Cvt::F64ToI64Trunc,
        (Prec::F64, _, false) => Cvt::F64ToI32,
        (Prec::F64, _, true) => Cvt::F64ToI32Trunc,
    }
}

#[inline(always)]
const fn between_floats(from: Prec) -> Cvt {
    match from {
        Prec::F32 => Cvt::F32ToF64,
        Prec::F64 => Cvt::F64ToF32,
    }
}

/// Lifts a vector instruction for the compiler. `Err(Stop)`: nothing was written, call its tier-0 handler instead.
pub fn lift<E: VecEmitter>(e: &mut E, i: &Insn) -> R<()> {
    let f = Form::of(i);
    if f == Form::Mem && i.am == AddrMode::Checked {
        return Err(Stop);
    }
    match i.op {
        Op::Vec(op) => lift_op(e, i, f, op),
        _ => Err(Stop),
    }
}

/// The meaning of `op`.
fn lift_op<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: VecOp) -> R<()> {
    match op {
        VecOp::Bin(op) => lift::binary(e, i, f, op),
        VecOp::Un(op) => lift::unary(e, i, f, op),
        VecOp::Shift(op) => lift::shift(e, i, f, op),
        VecOp::ShiftImm(op) => lift::shift_imm(e, i, f, op),
        VecOp::ShiftBytes(left) => lift::shift_bytes(e, i, f, left),
        VecOp::Align => lift::align(e, i, f),
        VecOp::Shuffle(s) => lift::shuffle(e, i, f, s),
        VecOp::Movddup => lift::movddup(e, i, f),
        VecOp::ShuffleWords(high) => lift::shuffle_words(e, i, f, high),
        VecOp::Blend(w) => lift::blend(e, i, f, w),
        VecOp::BlendVar(w) => lift::blend_var(e, i, f, w),
        VecOp::Extend(signed, from, to) => lift::extend(e, i, f, signed, from, to),
        VecOp::MoveMask(w) => lift::move_mask(e, i, f, w),
        VecOp::Test => lift::test(e, i, f),
        VecOp::Insert(w) => lift::insert(e, i, f, w),
        VecOp::Extract(w) => lift::extract(e, i, f, w),
        VecOp::Insertps => lift::insertps(e, i, f),
        VecOp::Load(aligned) => lift::mov_load(e, i, f, aligned),
        VecOp::Store(aligned) => lift::mov_store(e, i, f, aligned, Order::Tso),
        VecOp::StoreNonTemporal => lift::mov_store(e, i, f, true, Order::NonTemporal),
        VecOp::ScalarLoad(w) => lift::scalar_load(e, i, f, w),
        VecOp::LaneStore(w, lane) => lift::lane_store(e, i, f, w, lane),
        VecOp::HalfLoad(to) => lift::half_load(e, i, f, to),
        VecOp::Movq => lift::movq(e, i, f),
        VecOp::FromInteger(w) => lift::from_integer(e, i, f, w),
        VecOp::ToInteger(w) => lift::to_integer(e, i, f, w),
        VecOp::Movnti(w) => lift::movnti(e, i, f, w),
        VecOp::FpScalar(op, p) => lift::fp_scalar(e, i, f, op, p),
        VecOp::FpPacked(op, p) => lift::fp_packed(e, i, f, op, p),
        VecOp::FpHorizontal(op, p) => lift::fp_horizontal(e, i, f, op, p),
        VecOp::FpCmp(p) => lift::fp_cmp(e, i, f, p),
        VecOp::FpCmpPacked(p) => lift::fp_cmp_packed(e, i, f, p),
        VecOp::FpFlags(p, quiet) => lift::fp_flags(e, i, f, p, quiet),
        VecOp::FpRound(p) => lift::fp_round(e, i, f, p),
        VecOp::FpRoundPacked(p) => lift::fp_round_packed(e, i, f, p),
        VecOp::ConvertFloat(p) => lift::convert_float(e, i, f, p),
        VecOp::ConvertFromInteger(w, p) => lift::convert_from_integer(e, i, f, w, p),
        VecOp::ConvertToInteger(p, w, truncate) => lift::convert_to_integer(e, i, f, p, w, truncate),
        VecOp::ConvertPacked(op) => lift::convert_packed(e, i, f, op),
        VecOp::Mmx(_) | VecOp::Cold => Err(Stop),
    }
}
