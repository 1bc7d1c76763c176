//! What only VEX encodings have: broadcasts, moves of and between halves.

use super::{Form, low, put, register, source_aligned};
use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::lift::addr;
use crate::vec::emitter::{VBin, VecEmitter};

/// VPBROADCASTB, VBROADCASTSS, ...: the lowest element of a register or memory in all places.
#[inline(always)]
pub fn broadcast<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = low(e, i, f, w)?;
    let x = e.zext128(w, v);
    let x = e.splat(w, x)?;
    put(e, i, f, [x; N]);
    Ok(())
}

/// VBROADCASTF128, VBROADCASTI128.
#[inline(always)]
pub fn broadcast_half<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let [x] = source_aligned::<E, 1>(e, i, f, false)?;
    put(e, i, f, [x; 2]);
    Ok(())
}

/// VPERM2F128, VPERM2I128: each half is one of the four source halves, or zero.
#[inline(always)]
pub fn permute_halves<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let [b0, b1] = source_aligned::<E, 2>(e, i, f, false)?;
    let [a0, a1] = register::<E, 2>(e, i.rv);
    let zero = e.const128([0; 2]);
    let pick = |control: u8| match control & 11 {
        0 => a0,
        1 => a1,
        2 => b0,
        3 => b1,
        _ => zero,
    };
    let imm = i.imm as u8;
    put(e, i, f, [pick(imm), pick(imm >> 4)]);
    Ok(())
}

/// VINSERTF128, VINSERTI128.
#[inline(always)]
pub fn insert_half<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let [b] = source_aligned::<E, 1>(e, i, f, false)?;
    let mut x = register::<E, 2>(e, i.rv);
    x[usize::from(i.imm as u8 & 1)] = b;
    put(e, i, f, x);
    Ok(())
}

/// VEXTRACTF128, VEXTRACTI128.
#[inline(always)]
pub fn extract_half<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let x = register::<E, 2>(e, i.rs)[usize::from(i.imm as u8 & 1)];
    if f.mem {
        let at = addr(e, i);
        return e.store_vector(at, false, [x]);
    }
    put(e, i, f, [x]);
    Ok(())
}

/// VPERMQ, VPERMPD: quadwords across the halves.
#[inline(always)]
pub fn permute_quads<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let a = source_aligned::<E, 2>(e, i, f, false)?;
    let mut x = a;
    for (k, x) in x.iter_mut().enumerate() {
        let quad = |n: usize| i.imm as u8 >> (4 * k + 2 * n) & 3;
        let (l, h) = (quad(0), quad(1));
        let (from, to) = (a[usize::from(l >> 1)], a[usize::from(h >> 1)]);
        let (l, h) = (2 * (l & 1), 4 + 2 * (h & 1));
        *x = e.shuffle32(from, to, [l, l + 1, h, h + 1])?;
    }
    put(e, i, f, x);
    Ok(())
}

/// VPERMD, VPERMPS: each doubleword of the last operand, by the index in the first.
#[inline(always)]
pub fn permute_dwords<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let b = source_aligned::<E, 2>(e, i, f, false)?;
    let index = register::<E, 2>(e, i.rv);
    let mut x = index;
    for (x, index) in x.iter_mut().zip(index) {
        // Bit 2 of an index chooses the half: moved to the sign, where a blend looks for it.
        let low = e.vbin(VBin::PermD, b[0], index)?;
        let high = e.vbin(VBin::PermD, b[1], index)?;
        let half = e.vshift_imm(crate::vec::VShift::ShlD, index, 29)?;
        *x = e.blend_var(Width::D, low, high, half)?;
    }
    put(e, i, f, x);
    Ok(())
}

/// How many vector registers the mode has.
#[inline(always)]
fn registers(i: &Insn) -> u8 {
    if i.sw == Width::Q { 16 } else { 8 }
}

/// VZEROUPPER.
#[inline(always)]
pub fn zero_upper<E: VecEmitter>(e: &mut E, i: &Insn) -> R<()> {
    let zero = e.const128([0; 2]);
    for r in 0..registers(i) {
        e.set_ymm_hi(r, zero);
    }
    Ok(())
}

/// VZEROALL.
#[inline(always)]
pub fn zero_all<E: VecEmitter>(e: &mut E, i: &Insn) -> R<()> {
    let zero = e.const128([0; 2]);
    for r in 0..registers(i) {
        e.set_xmm(r, zero);
        e.set_ymm_hi(r, zero);
    }
    Ok(())
}
