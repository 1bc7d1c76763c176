//! The SSE instructions, written once over [`VecEmitter`], by family.
//!
//! `rd` and `rs` of the record are the numbers of the first and second register operand, of whatever kind. The operand
//! form is a [`Form`]: a constant in the hot tier-0 handlers, [`Form::of`] the record elsewhere.

use super::emitter::{CvtX, FpOp, Prec, VBin, VShift, VUn, VecEmitter};
use crate::cc::CcKind;
use crate::emit::{Order, R};
use crate::insn::{Insn, Opnd, Width};
use crate::lift::addr;

/// Is the second operand (of stores: the first) a register or memory?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Registers only.
    Reg,
    /// With a memory operand.
    Mem,
}

impl Form {
    /// The form of a record.
    #[inline(always)]
    pub fn of(i: &Insn) -> Self {
        if i.src == Opnd::Mem || i.dst == Opnd::Mem { Self::Mem } else { Self::Reg }
    }
}

/// The 128-bit source operand. Legacy SSE wants it aligned in memory (SDM vol. 1, 11.3 and 14.9).
#[inline(always)]
pub(super) fn source<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<E::X> {
    source128(e, i, f, true)
}

#[inline(always)]
pub(super) fn source128<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, aligned: bool) -> R<E::X> {
    match f {
        Form::Reg => Ok(e.xmm(i.rs)),
        Form::Mem => {
            let at = addr(e, i);
            e.load128(at, aligned)
        }
    }
}

/// The scalar source operand: the lowest lane of a register, or memory of that width.
#[inline(always)]
pub(super) fn low<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<E::V> {
    match f {
        Form::Reg => Ok(e.xmm_lane(w, i.rs, 0)),
        Form::Mem => {
            let at = addr(e, i);
            e.load(at, w)
        }
    }
}

/// The general-register-or-memory source operand.
#[inline(always)]
pub(super) fn integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<E::V> {
    match f {
        Form::Reg => Ok(e.gpr(w, i.rs)),
        Form::Mem => {
            let at = addr(e, i);
            e.load(at, w)
        }
    }
}

// ---- integer ------------------------------------------------------------------------------------------------------

/// `dst = dst op src`.
#[inline(always)]
pub fn binary<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: VBin) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let x = e.vbin(op, a, b)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// `dst = op src`.
#[inline(always)]
pub fn unary<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: VUn) -> R<()> {
    let a = source(e, i, f)?;
    let x = e.vun(op, a)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// Shift by the low quadword of the source.
#[inline(always)]
pub fn shift<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: VShift) -> R<()> {
    let b = source(e, i, f)?;
    let n = e.lane(Width::Q, b, 0);
    let a = e.xmm(i.rd);
    let x = e.vshift(op, a, n)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// Shift by the immediate.
#[inline(always)]
pub fn shift_imm<E: VecEmitter>(e: &mut E, i: &Insn, _: Form, op: VShift) -> R<()> {
    let a = e.xmm(i.rd);
    let x = e.vshift_imm(op, a, i.imm as u8)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PSLLDQ, PSRLDQ.
#[inline(always)]
pub fn shift_bytes<E: VecEmitter>(e: &mut E, i: &Insn, _: Form, left: bool) -> R<()> {
    let a = e.xmm(i.rd);
    let z = e.const128([0; 2]);
    let n = (i.imm as u8).min(16);
    let x = if left { e.align_bytes(a, z, 16 - n)? } else { e.align_bytes(z, a, n)? };
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PALIGNR.
#[inline(always)]
pub fn align<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let x = e.align_bytes(a, b, i.imm as u8)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// Dword shuffles of the destination (dwords 0..3) and the source (4..7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Shuffle {
    Pshufd,
    Shufps,
    Shufpd,
    Movsldup,
    Movshdup,
}

impl Shuffle {
    /// The dwords picked for an immediate.
    #[inline(always)]
    pub fn pick(self, imm: u8) -> [u8; 4] {
        let two = |k: u32| imm >> (2 * k) & 3;
        match self {
            Self::Pshufd => [4 + two(0), 4 + two(1), 4 + two(2), 4 + two(3)],
            Self::Shufps => [two(0), two(1), 4 + two(2), 4 + two(3)],
            Self::Shufpd => {
                let (l, h) = (imm << 1 & 2, 4 + (imm & 2));
                [l, l + 1, h, h + 1]
            }
            Self::Movsldup => [4, 4, 6, 6],
            Self::Movshdup => [5, 5, 7, 7],
        }
    }
}

/// PSHUFD, SHUFPS, SHUFPD, MOVSLDUP, MOVSHDUP.
#[inline(always)]
pub fn shuffle<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, s: Shuffle) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let x = e.shuffle32(a, b, s.pick(i.imm as u8))?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// MOVDDUP.
#[inline(always)]
pub fn movddup<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let v = low(e, i, f, Width::Q)?;
    let x = e.zext128(Width::Q, v);
    let x = e.shuffle32(x, x, [0, 1, 0, 1])?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PSHUFLW, PSHUFHW.
#[inline(always)]
pub fn shuffle_words<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, high: bool) -> R<()> {
    let a = source(e, i, f)?;
    let base = if high { 4 } else { 0 };
    let mut pick = [0, 1, 2, 3, 4, 5, 6, 7];
    for k in 0..4 {
        pick[base + k] = base as u8 + (i.imm as u8 >> (2 * k) & 3);
    }
    let x = e.shuffle16(a, pick)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PBLENDW, BLENDPS, BLENDPD by lane width.
#[inline(always)]
pub fn blend<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let mut pick = 0u16;
    for byte in 0..16 {
        pick |= u16::from(i.imm as u8 >> (byte / w.bytes()) & 1) << byte;
    }
    let x = e.blend(a, b, pick)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PBLENDVB, BLENDVPS, BLENDVPD: the mask is XMM0.
#[inline(always)]
pub fn blend_var<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let b = source(e, i, f)?;
    let (a, mask) = (e.xmm(i.rd), e.xmm(0));
    let x = e.blend_var(w, a, b, mask)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PMOVSX.., PMOVZX..
#[inline(always)]
pub fn extend<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, signed: bool, from: Width, to: Width) -> R<()> {
    let a = match f {
        Form::Reg => e.xmm(i.rs),
        Form::Mem => {
            let w = Width::from_bytes(16 * from.bytes() / to.bytes()).unwrap_or(Width::Q);
            let v = low(e, i, f, w)?;
            e.zext128(w, v)
        }
    };
    let x = e.extend(signed, from, to, a)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD by lane width.
#[inline(always)]
pub fn move_mask<E: VecEmitter>(e: &mut E, i: &Insn, _: Form, w: Width) -> R<()> {
    let a = e.xmm(i.rs);
    let v = e.move_mask(w, a)?;
    e.set_gpr(Width::D, i.rd, v);
    Ok(())
}

/// PTEST.
#[inline(always)]
pub fn test<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let v = e.test(a, b)?;
    set_flags(e, v);
    Ok(())
}

/// The six arithmetic flags are those in `v`.
#[inline(always)]
pub(super) fn set_flags<E: VecEmitter>(e: &mut E, v: E::V) {
    let z = e.imm(Width::D, 0);
    e.set_cc(CcKind::Flags, Width::D, v, z, z);
}

/// PINSRB, PINSRW, PINSRD, PINSRQ.
#[inline(always)]
pub fn insert<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = integer(e, i, f, w)?;
    e.set_xmm_lane(w, i.rd, i.imm as u8 & lane_mask(w), v);
    Ok(())
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS.
#[inline(always)]
pub fn extract<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = e.xmm_lane(w, i.rs, i.imm as u8 & lane_mask(w));
    match f {
        Form::Mem => {
            let at = addr(e, i);
            e.store(at, w, v)
        }
        Form::Reg => {
            let to = w.max(Width::D);
            let v = e.zext(w, to, v);
            e.set_gpr(to, i.rd, v);
            Ok(())
        }
    }
}

fn lane_mask(w: Width) -> u8 {
    (16 / w.bytes() - 1) as u8
}

/// INSERTPS.
#[inline(always)]
pub fn insertps<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let imm = i.imm as u8;
    let v = match f {
        Form::Reg => e.xmm_lane(Width::D, i.rs, imm >> 6),
        Form::Mem => low(e, i, f, Width::D)?,
    };
    let a = e.xmm(i.rd);
    let x = e.with_lane(Width::D, a, imm >> 4 & 3, v);
    let keep = |k: u8| if imm >> k & 1 != 0 { 0 } else { u64::from(u32::MAX) };
    let mask = e.const128([keep(0) | keep(1) << 32, keep(2) | keep(3) << 32]);
    let x = e.vbin(VBin::And, x, mask)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

// ---- moves --------------------------------------------------------------------------------------------------------

/// MOVAPS, MOVUPS, MOVDQA, LDDQU, MOVNTDQA, ...: to a register.
#[inline(always)]
pub fn mov_load<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, aligned: bool) -> R<()> {
    let x = source128(e, i, f, aligned)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// The same to memory (or a register, in the encodings that assemblers do not use).
#[inline(always)]
pub fn mov_store<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, aligned: bool, order: Order) -> R<()> {
    let x = e.xmm(i.rs);
    match f {
        Form::Reg => e.set_xmm(i.rd, x),
        Form::Mem => {
            let mut at = addr(e, i);
            at.order = order;
            e.store128(at, aligned, x)?;
        }
    }
    Ok(())
}

/// MOVSS, MOVSD to a register: from a register only the lane, from memory with zeros above.
#[inline(always)]
pub fn scalar_load<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = low(e, i, f, w)?;
    match f {
        Form::Reg => e.set_xmm_lane(w, i.rd, 0, v),
        Form::Mem => {
            let x = e.zext128(w, v);
            e.set_xmm(i.rd, x);
        }
    }
    Ok(())
}

/// MOVSS, MOVSD, MOVLPS, MOVHPS (lane 1) to memory (or to the register's lane).
#[inline(always)]
pub fn lane_store<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width, lane: u8) -> R<()> {
    let v = e.xmm_lane(w, i.rs, lane);
    match f {
        Form::Reg => e.set_xmm_lane(w, i.rd, lane, v),
        Form::Mem => {
            let at = addr(e, i);
            e.store(at, w, v)?;
        }
    }
    Ok(())
}

/// MOVLPS, MOVHPS from memory; MOVHLPS (0 from 1), MOVLHPS (1 from 0).
#[inline(always)]
pub fn half_load<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, to: u8) -> R<()> {
    let v = match f {
        Form::Reg => e.xmm_lane(Width::Q, i.rs, to ^ 1),
        Form::Mem => low(e, i, f, Width::Q)?,
    };
    e.set_xmm_lane(Width::Q, i.rd, to, v);
    Ok(())
}

/// MOVQ xmm, xmm/m64 (either encoding's register form): zeros above.
#[inline(always)]
pub fn movq<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let v = low(e, i, f, Width::Q)?;
    let x = e.zext128(Width::Q, v);
    e.set_xmm(i.rd, x);
    Ok(())
}

/// MOVD, MOVQ xmm, r/m.
#[inline(always)]
pub fn from_integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = integer(e, i, f, w)?;
    let x = e.zext128(w, v);
    e.set_xmm(i.rd, x);
    Ok(())
}

/// MOVD, MOVQ r/m, xmm.
#[inline(always)]
pub fn to_integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = e.xmm_lane(w, i.rs, 0);
    match f {
        Form::Reg => e.set_gpr(w, i.rd, v),
        Form::Mem => {
            let at = addr(e, i);
            e.store(at, w, v)?;
        }
    }
    Ok(())
}

/// MOVNTI.
#[inline(always)]
pub fn movnti<E: VecEmitter>(e: &mut E, i: &Insn, _: Form, w: Width) -> R<()> {
    let v = e.gpr(w, i.rs);
    let mut at = addr(e, i);
    at.order = Order::NonTemporal;
    e.store(at, w, v)
}

// ---- floating point -----------------------------------------------------------------------------------------------

/// ADDSS, SQRTSD, ...
#[inline(always)]
pub fn fp_scalar<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: FpOp, p: Prec) -> R<()> {
    let w = p.width();
    let b = low(e, i, f, w)?;
    let a = e.xmm_lane(w, i.rd, 0);
    let v = e.fp_scalar(op, p, a, b)?;
    e.set_xmm_lane(w, i.rd, 0, v);
    Ok(())
}

/// ADDPS, SQRTPD, ...
#[inline(always)]
pub fn fp_packed<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: FpOp, p: Prec) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let x = e.fp_packed(op, p, a, b)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// HADDPS, HSUBPD, ...
#[inline(always)]
pub fn fp_horizontal<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: FpOp, p: Prec) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let (even, odd) = match p {
        Prec::F32 => ([0, 2, 4, 6], [1, 3, 5, 7]),
        Prec::F64 => ([0, 1, 4, 5], [2, 3, 6, 7]),
    };
    let x = e.shuffle32(a, b, even)?;
    let y = e.shuffle32(a, b, odd)?;
    let x = e.fp_packed(op, p, x, y)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// CMPSS, CMPSD (legacy: predicates 0..7).
#[inline(always)]
pub fn fp_cmp<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let w = p.width();
    let b = low(e, i, f, w)?;
    let a = e.xmm_lane(w, i.rd, 0);
    let v = e.fp_cmp(p, i.imm as u8 & 7, a, b)?;
    e.set_xmm_lane(w, i.rd, 0, v);
    Ok(())
}

/// CMPPS, CMPPD.
#[inline(always)]
pub fn fp_cmp_packed<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let b = source(e, i, f)?;
    let a = e.xmm(i.rd);
    let x = e.fp_cmp_packed(p, i.imm as u8 & 7, a, b)?;
    e.set_xmm(i.rd, x);
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
    e.set_xmm_lane(w, i.rd, 0, v);
    Ok(())
}

/// ROUNDPS, ROUNDPD.
#[inline(always)]
pub fn fp_round_packed<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, p: Prec) -> R<()> {
    let b = source(e, i, f)?;
    let x = e.fp_round_packed(p, i.imm as u8, b)?;
    e.set_xmm(i.rd, x);
    Ok(())
}

/// CVTSS2SD, CVTSD2SS.
#[inline(always)]
pub fn convert_float<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, from: Prec) -> R<()> {
    let to = if from == Prec::F32 { Width::Q } else { Width::D };
    let v = low(e, i, f, from.width())?;
    let v = e.convert(super::between_floats(from), v)?;
    e.set_xmm_lane(to, i.rd, 0, v);
    Ok(())
}

/// CVTSI2SS, CVTSI2SD.
#[inline(always)]
pub fn convert_from_integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, from: Width, to: Prec) -> R<()> {
    let v = integer(e, i, f, from)?;
    let v = e.convert(super::from_integer(from, to), v)?;
    e.set_xmm_lane(to.width(), i.rd, 0, v);
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
    let v = e.convert(super::to_integer(from, to, truncate), v)?;
    e.set_gpr(to, i.rd, v);
    Ok(())
}

/// CVTDQ2PS, CVTPD2DQ, ...
#[inline(always)]
pub fn convert_packed<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, op: CvtX) -> R<()> {
    let a = match (f, op) {
        (Form::Mem, CvtX::I32ToF64 | CvtX::F32ToF64) => {
            let v = low(e, i, f, Width::Q)?;
            e.zext128(Width::Q, v)
        }
        _ => source(e, i, f)?,
    };
    let x = e.convert_packed(op, a)?;
    e.set_xmm(i.rd, x);
    Ok(())
}
