//! SSE to SSE4.2, AVX, AVX2, FMA3, F16C, AES, SHA and MMX.
//!
//! [`select`] recognises an instruction when it is decoded, describes it as a [`VecOp`] and chooses its tier-0 handler;
//! [`lift`] is what the compiler calls. Both end in the functions of `lift`, which state the semantics once over
//! [`VecEmitter`]: a handler is such a function with operation, precision and operand form as constants.
//!
//! MMX, the string comparisons, accesses under a mask and the other rare ones ([`VecOp::Cold`]) have only their tier-0 handler.
//!
//! Invariants: every load, check and floating-point operation of an instruction comes before its first register write;
//! MXCSR is only changed through functions that keep `Mode::FAST_FP` in step.

mod cold;
mod crypto;
mod emitter;
mod eval;
mod gather;
mod half;
mod lanes;
mod lift;
mod mmx;
mod select;
mod string;
mod swar;

#[cfg(test)]
mod tests;

pub use cold::{MXCSR_MASK, load_mxcsr};
pub use emitter::{Cvt, CvtX, FmaOp, FpOp, Prec, VBin, VImm, VShift, VUn, VecEmitter};
pub use lift::{FmaOrder, Shuffle};
pub use select::select;

use crate::emit::{Order, R, Stop};
use crate::insn::{AddrMode, Insn, Op, Width, prefix};
use lift::Form;

/// What a vector instruction does; the operand form is in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VecOp {
    /// `dst = first op last`; in legacy encodings the first source is the destination.
    Bin(VBin),
    /// `dst = op last`.
    Un(VUn),
    /// `dst = first op last`, with the immediate.
    Imm(VImm),
    /// SHA256RNDS2.
    Sha256Rounds,
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
    /// VTESTPS, VTESTPD.
    TestSigns(Width),
    /// DPPS, DPPD.
    DotProduct(Prec),
    /// VPBROADCASTB, VBROADCASTSS, ...
    Broadcast(Width),
    /// VBROADCASTF128.
    BroadcastHalf,
    /// VPERM2F128.
    PermuteHalves,
    /// VINSERTF128.
    InsertHalf,
    /// VEXTRACTF128.
    ExtractHalf,
    /// VPERMQ.
    PermuteQuads,
    /// VPERMD.
    PermuteDwords,
    /// VZEROUPPER.
    ZeroUpper,
    /// VZEROALL.
    ZeroAll,
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
    /// VFMADD132SS and its kin.
    FmaScalar(FmaOp, FmaOrder, Prec),
    /// VFMADD132PS and its kin.
    FmaPacked(FmaOp, FmaOrder, Prec),
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
    if f.mem && i.am == AddrMode::Checked {
        return Err(Stop);
    }
    match i.op {
        Op::Vec(op) => lift_sized(e, i, op),
        _ => Err(Stop),
    }
}

/// The meaning of `op` at the record's vector length.
fn lift_sized<E: VecEmitter>(e: &mut E, i: &Insn, op: VecOp) -> R<()> {
    let f = Form::of(i);
    if i.has(prefix::L256) { lift_op::<E, 2>(e, i, f, op) } else { lift_op::<E, 1>(e, i, f, op) }
}

/// The meaning of `op` on vectors of `N` halves.
fn lift_op<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: VecOp) -> R<()> {
    match op {
        VecOp::Bin(op) => lift::binary::<E, N>(e, i, f, op),
        VecOp::Un(op) => lift::unary::<E, N>(e, i, f, op),
        VecOp::Shift(op) => lift::shift::<E, N>(e, i, f, op),
        VecOp::ShiftImm(op) => lift::shift_imm::<E, N>(e, i, f, op),
        VecOp::ShiftBytes(left) => lift::shift_bytes::<E, N>(e, i, f, left),
        VecOp::Align => lift::align::<E, N>(e, i, f),
        VecOp::Shuffle(s) => lift::shuffle::<E, N>(e, i, f, s),
        VecOp::Movddup => lift::movddup::<E, N>(e, i, f),
        VecOp::ShuffleWords(high) => lift::shuffle_words::<E, N>(e, i, f, high),
        VecOp::Blend(w) => lift::blend::<E, N>(e, i, f, w),
        VecOp::BlendVar(w) => lift::blend_var::<E, N>(e, i, f, w),
        VecOp::Extend(signed, from, to) => lift::extend::<E, N>(e, i, f, signed, from, to),
        VecOp::MoveMask(w) => lift::move_mask::<E, N>(e, i, f, w),
        VecOp::Test => lift::test::<E, N>(e, i, f),
        VecOp::TestSigns(w) => lift::test_signs::<E, N>(e, i, f, w),
        VecOp::Imm(op) => lift::with_immediate::<E, N>(e, i, f, op),
        VecOp::Sha256Rounds => lift::sha256_rounds(e, i, f),
        VecOp::DotProduct(p) => lift::dot_product::<E, N>(e, i, f, p),
        VecOp::Broadcast(w) => lift::broadcast::<E, N>(e, i, f, w),
        VecOp::BroadcastHalf => lift::broadcast_half(e, i, f),
        VecOp::PermuteHalves => lift::permute_halves(e, i, f),
        VecOp::InsertHalf => lift::insert_half(e, i, f),
        VecOp::ExtractHalf => lift::extract_half(e, i, f),
        VecOp::PermuteQuads => lift::permute_quads(e, i, f),
        VecOp::PermuteDwords => lift::permute_dwords(e, i, f),
        VecOp::ZeroUpper => lift::zero_upper(e, i),
        VecOp::ZeroAll => lift::zero_all(e, i),
        VecOp::Insert(w) => lift::insert(e, i, f, w),
        VecOp::Extract(w) => lift::extract(e, i, f, w),
        VecOp::Insertps => lift::insertps(e, i, f),
        VecOp::Load(aligned) => lift::mov_load::<E, N>(e, i, f, aligned),
        VecOp::Store(aligned) => lift::mov_store::<E, N>(e, i, f, aligned, Order::Tso),
        VecOp::StoreNonTemporal => lift::mov_store::<E, N>(e, i, f, true, Order::NonTemporal),
        VecOp::ScalarLoad(w) => lift::scalar_load(e, i, f, w),
        VecOp::LaneStore(w, lane) => lift::lane_store(e, i, f, w, lane),
        VecOp::HalfLoad(to) => lift::half_load(e, i, f, to),
        VecOp::Movq => lift::movq(e, i, f),
        VecOp::FromInteger(w) => lift::from_integer(e, i, f, w),
        VecOp::ToInteger(w) => lift::to_integer(e, i, f, w),
        VecOp::Movnti(w) => lift::movnti(e, i, f, w),
        VecOp::FpScalar(op, p) => lift::fp_scalar(e, i, f, op, p),
        VecOp::FpPacked(op, p) => lift::fp_packed::<E, N>(e, i, f, op, p),
        VecOp::FpHorizontal(op, p) => lift::fp_horizontal::<E, N>(e, i, f, op, p),
        VecOp::FmaScalar(op, order, p) => lift::fma_scalar(e, i, f, op, order, p),
        VecOp::FmaPacked(op, order, p) => lift::fma_packed::<E, N>(e, i, f, op, order, p),
        VecOp::FpCmp(p) => lift::fp_cmp(e, i, f, p),
        VecOp::FpCmpPacked(p) => lift::fp_cmp_packed::<E, N>(e, i, f, p),
        VecOp::FpFlags(p, quiet) => lift::fp_flags(e, i, f, p, quiet),
        VecOp::FpRound(p) => lift::fp_round(e, i, f, p),
        VecOp::FpRoundPacked(p) => lift::fp_round_packed::<E, N>(e, i, f, p),
        VecOp::ConvertFloat(p) => lift::convert_float(e, i, f, p),
        VecOp::ConvertFromInteger(w, p) => lift::convert_from_integer(e, i, f, w, p),
        VecOp::ConvertToInteger(p, w, truncate) => lift::convert_to_integer(e, i, f, p, w, truncate),
        VecOp::ConvertPacked(op) => lift::convert_packed::<E, N>(e, i, f, op),
        VecOp::Mmx(_) | VecOp::Cold => Err(Stop),
    }
}
