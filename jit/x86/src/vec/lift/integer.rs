//! Integer arithmetic, logic, shifts, shuffles.

use super::{Form, each, integer, low, put, put_lane, register, set_flags, source};
use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::lift::addr;
use crate::vec::emitter::{VBin, VImm, VShift, VUn, VecEmitter};

/// `dst = first op last`.
#[inline(always)]
pub fn binary<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: VBin) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let x = each(a, |k, a| e.vbin(op, a, b[k]))?;
    put(e, i, f, x);
    Ok(())
}

/// `dst = op last`.
#[inline(always)]
pub fn unary<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: VUn) -> R<()> {
    let a = source::<E, N>(e, i, f)?;
    let x = each(a, |_, a| e.vun(op, a))?;
    put(e, i, f, x);
    Ok(())
}

/// `dst = first op last` with the immediate, of which VMPSADBW uses three bits for each half.
#[inline(always)]
pub fn with_immediate<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: VImm) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let step = if op == VImm::Mpsadbw { 3 } else { 0 };
    let x = each(a, |k, a| e.vimm(op, a, b[k], i.imm as u8 >> (step * k)))?;
    put(e, i, f, x);
    Ok(())
}

/// SHA256RNDS2: the sums of messages and constants are in XMM0.
#[inline(always)]
pub fn sha256_rounds<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let [b] = source::<E, 1>(e, i, f)?;
    let (a, wk) = (e.xmm(i.rd), e.xmm(0));
    let x = e.sha256_rounds(a, b, wk)?;
    put(e, i, f, [x]);
    Ok(())
}

/// Shift by the low quadword of the last operand, which has 128 bits whatever the length.
#[inline(always)]
pub fn shift<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: VShift) -> R<()> {
    let [b] = source::<E, 1>(e, i, f)?;
    let n = e.lane(Width::Q, b, 0);
    let a = register::<E, N>(e, i.rv);
    let x = each(a, |_, a| e.vshift(op, a, n))?;
    put(e, i, f, x);
    Ok(())
}

/// Shift by the immediate.
#[inline(always)]
pub fn shift_imm<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, op: VShift) -> R<()> {
    let a = register::<E, N>(e, i.rv);
    let x = each(a, |_, a| e.vshift_imm(op, a, i.imm as u8))?;
    put(e, i, f, x);
    Ok(())
}

/// PSLLDQ, PSRLDQ.
#[inline(always)]
pub fn shift_bytes<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, left: bool) -> R<()> {
    let a = register::<E, N>(e, i.rv);
    let z = e.const128([0; 2]);
    let n = (i.imm as u8).min(16);
    let x = each(a, |_, a| if left { e.align_bytes(a, z, 16 - n) } else { e.align_bytes(z, a, n) })?;
    put(e, i, f, x);
    Ok(())
}

/// PALIGNR.
#[inline(always)]
pub fn align<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let x = each(a, |k, a| e.align_bytes(a, b[k], i.imm as u8))?;
    put(e, i, f, x);
    Ok(())
}

/// Dword shuffles of the first (dwords 0..3) and the last operand (4..7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Shuffle {
    Pshufd,
    Shufps,
    Shufpd,
    Movsldup,
    Movshdup,
    /// VPERMILPD with an immediate. (VPERMILPS with one is PSHUFD.)
    Permilpd,
}

impl Shuffle {
    /// The dwords picked for an immediate in half `k`.
    #[inline(always)]
    pub fn pick(self, imm: u8, k: usize) -> [u8; 4] {
        let two = |n: u32| imm >> (2 * n) & 3;
        match self {
            Self::Pshufd => [4 + two(0), 4 + two(1), 4 + two(2), 4 + two(3)],
            Self::Shufps => [two(0), two(1), 4 + two(2), 4 + two(3)],
            Self::Shufpd | Self::Permilpd => {
                let imm = imm >> (2 * k);
                let first = if self == Self::Shufpd { 0 } else { 4 };
                let (l, h) = (first + (imm << 1 & 2), 4 + (imm & 2));
                [l, l + 1, h, h + 1]
            }
            Self::Movsldup => [4, 4, 6, 6],
            Self::Movshdup => [5, 5, 7, 7],
        }
    }
}

/// PSHUFD, SHUFPS, SHUFPD, MOVSLDUP, MOVSHDUP, VPERMILPD.
#[inline(always)]
pub fn shuffle<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, s: Shuffle) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let x = each(a, |k, a| e.shuffle32(a, b[k], s.pick(i.imm as u8, k)))?;
    put(e, i, f, x);
    Ok(())
}

/// MOVDDUP. Its 128-bit form reads 64 bits of memory only.
#[inline(always)]
pub fn movddup<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let a = if N == 1 {
        let v = low(e, i, f, Width::Q)?;
        [e.zext128(Width::Q, v); N]
    } else {
        source::<E, N>(e, i, f)?
    };
    let x = each(a, |_, a| e.shuffle32(a, a, [0, 1, 0, 1]))?;
    put(e, i, f, x);
    Ok(())
}

/// PSHUFLW, PSHUFHW.
#[inline(always)]
pub fn shuffle_words<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, high: bool) -> R<()> {
    let a = source::<E, N>(e, i, f)?;
    let base = if high { 4 } else { 0 };
    let mut pick = [0, 1, 2, 3, 4, 5, 6, 7];
    for k in 0..4 {
        pick[base + k] = base as u8 + (i.imm as u8 >> (2 * k) & 3);
    }
    let x = each(a, |_, a| e.shuffle16(a, pick))?;
    put(e, i, f, x);
    Ok(())
}

/// PBLENDW, BLENDPS (and VPBLENDD), BLENDPD by lane width. The words of both halves share the immediate's eight bits.
#[inline(always)]
pub fn blend<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let lanes = 16 / w.bytes();
    let x = each(a, |k, a| {
        let imm = i.imm as u8 >> (k as u32 * lanes % 8);
        let mut pick = 0u16;
        for byte in 0..16 {
            pick |= u16::from(imm >> (byte / w.bytes()) & 1) << byte;
        }
        e.blend(a, b[k], pick)
    })?;
    put(e, i, f, x);
    Ok(())
}

/// PBLENDVB, BLENDVPS, BLENDVPD: the mask is XMM0, or the register that a VEX encoding's immediate names.
#[inline(always)]
pub fn blend_var<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rv);
    let mask = register::<E, N>(e, if f.vex { i.imm as u8 } else { 0 });
    let x = each(a, |k, a| e.blend_var(w, a, b[k], mask[k]))?;
    put(e, i, f, x);
    Ok(())
}

/// PMOVSX.., PMOVZX..: the source has as many elements as the destination.
#[inline(always)]
pub fn extend<E: VecEmitter, const N: usize>(
    e: &mut E,
    i: &Insn,
    f: Form,
    signed: bool,
    from: Width,
    to: Width,
) -> R<()> {
    let half = 16 * from.bytes() / to.bytes();
    let a = match Width::from_bytes(half * N as u32) {
        Some(w) if f.mem => {
            let v = low(e, i, f, w)?;
            e.zext128(w, v)
        }
        _ => source_unaligned(e, i, f)?,
    };
    let x = each([a; N], |k, a| {
        let z = e.const128([0; 2]);
        let a = if k == 0 { a } else { e.align_bytes(z, a, half as u8)? };
        e.extend(signed, from, to, a)
    })?;
    put(e, i, f, x);
    Ok(())
}

/// 128 bits of a register or memory.
#[inline(always)]
fn source_unaligned<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<E::X> {
    let [x] = super::source_aligned::<E, 1>(e, i, f, false)?;
    Ok(x)
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD by lane width.
#[inline(always)]
pub fn move_mask<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, _: Form, w: Width) -> R<()> {
    let a = register::<E, N>(e, i.rs);
    let mut v = e.move_mask(w, a[0])?;
    for (k, a) in a.iter().enumerate().skip(1) {
        let high = e.move_mask(w, *a)?;
        let n = e.imm(Width::B, u64::from(16 / w.bytes()) * k as u64);
        let high = e.shl(Width::D, high, n);
        v = e.or(Width::D, v, high);
    }
    e.set_gpr(Width::D, i.rd, v);
    Ok(())
}

/// PTEST: both flags hold if they do in either half.
#[inline(always)]
pub fn test<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rd);
    set_test_flags(e, a, b)
}

/// ZF and CF of PTEST: each is set where it would be for every half.
#[inline(always)]
fn set_test_flags<E: VecEmitter, const N: usize>(e: &mut E, a: [E::X; N], b: [E::X; N]) -> R<()> {
    let mut v = e.test(a[0], b[0])?;
    for k in 1..N {
        let high = e.test(a[k], b[k])?;
        v = e.and(Width::D, v, high);
    }
    set_flags(e, v);
    Ok(())
}

/// VTESTPS, VTESTPD: PTEST of the sign bits.
#[inline(always)]
pub fn test_signs<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let b = source::<E, N>(e, i, f)?;
    let a = register::<E, N>(e, i.rd);
    let sign = if w == Width::D { w.sign() << 32 | w.sign() } else { w.sign() };
    let sign = e.const128([sign; 2]);
    let b = each(b, |_, b| e.vbin(VBin::And, b, sign))?;
    set_test_flags(e, a, b)
}

/// PINSRB, PINSRW, PINSRD, PINSRQ.
#[inline(always)]
pub fn insert<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = integer(e, i, f, w)?;
    put_lane(e, i, f, w, i.imm as u8 & lane_mask(w), v);
    Ok(())
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS.
#[inline(always)]
pub fn extract<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = e.xmm_lane(w, i.rs, i.imm as u8 & lane_mask(w));
    if f.mem {
        let at = addr(e, i);
        return e.store(at, w, v);
    }
    let to = w.max(Width::D);
    let v = e.zext(w, to, v);
    e.set_gpr(to, i.rd, v);
    Ok(())
}

fn lane_mask(w: Width) -> u8 {
    (16 / w.bytes() - 1) as u8
}

/// INSERTPS.
#[inline(always)]
pub fn insertps<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let imm = i.imm as u8;
    let v = if f.mem { low(e, i, f, Width::D)? } else { e.xmm_lane(Width::D, i.rs, imm >> 6) };
    let a = e.xmm(i.rv);
    let x = e.with_lane(Width::D, a, imm >> 4 & 3, v);
    let keep = |k: u8| if imm >> k & 1 != 0 { 0 } else { u64::from(u32::MAX) };
    let mask = e.const128([keep(0) | keep(1) << 32, keep(2) | keep(3) << 32]);
    let x = e.vbin(VBin::And, x, mask)?;
    put(e, i, f, [x]);
    Ok(())
}
