//! Moves between vector registers, general registers and memory.

use super::{Form, integer, low, put, put_lane, register, source_aligned};
use crate::emit::{Order, R};
use crate::insn::{Insn, Width};
use crate::lift::addr;
use crate::vec::emitter::VecEmitter;

/// MOVAPS, MOVUPS, MOVDQA, LDDQU, MOVNTDQA, ...: to a register.
#[inline(always)]
pub fn mov_load<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, aligned: bool) -> R<()> {
    let x = source_aligned::<E, N>(e, i, f, aligned)?;
    put(e, i, f, x);
    Ok(())
}

/// The same to memory (or a register, in the encodings that assemblers do not use).
#[inline(always)]
pub fn mov_store<E: VecEmitter, const N: usize>(
    e: &mut E,
    i: &Insn,
    f: Form,
    aligned: bool,
    order: Order,
) -> R<()> {
    let x = register::<E, N>(e, i.rs);
    if f.mem {
        let mut at = addr(e, i);
        at.order = order;
        e.store_vector(at, aligned, x)
    } else {
        put(e, i, f, x);
        Ok(())
    }
}

/// MOVSS, MOVSD to a register: from a register only the lane, from memory with zeros above.
#[inline(always)]
pub fn scalar_load<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = low(e, i, f, w)?;
    if f.mem {
        let x = e.zext128(w, v);
        put(e, i, f, [x]);
    } else {
        put_lane(e, i, f, w, 0, v);
    }
    Ok(())
}

/// MOVSS, MOVSD, MOVLPS, MOVHPS (lane 1) to memory (or to the register's lane).
#[inline(always)]
pub fn lane_store<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width, lane: u8) -> R<()> {
    let v = e.xmm_lane(w, i.rs, lane);
    if f.mem {
        let at = addr(e, i);
        return e.store(at, w, v);
    }
    put_lane(e, i, f, w, lane, v);
    Ok(())
}

/// MOVLPS, MOVHPS from memory; MOVHLPS (0 from 1), MOVLHPS (1 from 0).
#[inline(always)]
pub fn half_load<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, to: u8) -> R<()> {
    let v = if f.mem { low(e, i, f, Width::Q)? } else { e.xmm_lane(Width::Q, i.rs, to ^ 1) };
    put_lane(e, i, f, Width::Q, to, v);
    Ok(())
}

/// MOVQ xmm, xmm/m64 (either encoding's register form): zeros above.
#[inline(always)]
pub fn movq<E: VecEmitter>(e: &mut E, i: &Insn, f: Form) -> R<()> {
    let v = low(e, i, f, Width::Q)?;
    let x = e.zext128(Width::Q, v);
    put(e, i, f, [x]);
    Ok(())
}

/// MOVD, MOVQ xmm, r/m.
#[inline(always)]
pub fn from_integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = integer(e, i, f, w)?;
    let x = e.zext128(w, v);
    put(e, i, f, [x]);
    Ok(())
}

/// MOVD, MOVQ r/m, xmm.
#[inline(always)]
pub fn to_integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<()> {
    let v = e.xmm_lane(w, i.rs, 0);
    if f.mem {
        let at = addr(e, i);
        return e.store(at, w, v);
    }
    e.set_gpr(w, i.rd, v);
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
