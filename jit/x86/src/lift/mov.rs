//! Data movement: MOV and its kin, LEA, XCHG, stack, SETcc, CMOVcc.

use super::{Dst, Loc, Src, Stack, get, loc, push as push_value, read, write};
use crate::emit::{Emitter, R, Rmw};
use crate::insn::{Cond, Insn, Opnd, Width};
use crate::state::reg;

/// MOV.
#[inline(always)]
pub fn mov<E: Emitter, D: Dst, S: Src>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let v = S::get(e, i, w)?;
    let l = D::loc(e, i);
    write(e, l, w, v)
}

/// MOVZX from width `from` to width `to`.
#[inline(always)]
pub fn movzx<E: Emitter, S: Src>(e: &mut E, i: &Insn, from: Width, to: Width) -> R<()> {
    let v = S::get(e, i, from)?;
    let v = e.zext(from, to, v);
    e.set_gpr(to, i.rd, v);
    Ok(())
}

/// MOVSX, MOVSXD.
#[inline(always)]
pub fn movsx<E: Emitter, S: Src>(e: &mut E, i: &Insn, from: Width, to: Width) -> R<()> {
    let v = S::get(e, i, from)?;
    let v = e.sext(from, to, v);
    e.set_gpr(to, i.rd, v);
    Ok(())
}

/// LEA: the offset, extended or truncated to the operand width.
#[inline(always)]
pub fn lea<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let a = e.offset(i);
    set_offset(e, i, i.aw, w, a)
}

/// LEA with a known address width, and with or without an index.
#[inline(always)]
pub fn lea_as<E: Emitter>(e: &mut E, i: &Insn, aw: Width, index: bool, w: Width) -> R<()> {
    let a = e.offset_as(i, aw, index);
    set_offset(e, i, aw, w, a)
}

#[inline(always)]
fn set_offset<E: Emitter>(e: &mut E, i: &Insn, aw: Width, w: Width, a: E::V) -> R<()> {
    let v = if w > aw { e.zext(aw, w, a) } else { e.trunc(w, a) };
    e.set_gpr(w, i.rd, v);
    Ok(())
}

/// XCHG: with memory always locked (SDM).
#[inline(always)]
pub fn xchg<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    // One of the operands is a register; memory may be decoded as either.
    let (x, y) = if i.src == Opnd::Mem { (i.src, i.dst) } else { (i.dst, i.src) };
    let (x, y) = (loc(e, i, x), loc(e, i, y));
    let b = read(e, y, w)?;
    let a = match x {
        Loc::Mem(at) => e.atomic(at, w, Rmw::Xchg, b)?,
        _ => {
            let a = read(e, x, w)?;
            write(e, x, w, b)?;
            a
        }
    };
    write(e, y, w, a)
}

/// BSWAP (16-bit: undefined by the SDM; zeroes the register's low word, as processors do).
#[inline(always)]
pub fn bswap<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let v = if w == Width::W {
        e.imm(w, 0)
    } else {
        let v = e.gpr(w, i.rd);
        e.bswap(w, v)
    };
    e.set_gpr(w, i.rd, v);
    Ok(())
}

/// MOVBE.
#[inline(always)]
pub fn movbe<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let v = get(e, i, i.src, w)?;
    let v = e.bswap(w, v);
    let l = loc(e, i, i.dst);
    write(e, l, w, v)
}

/// CBW, CWDE, CDQE (`w` is the result's width).
#[inline(always)]
pub fn extend_acc<E: Emitter>(e: &mut E, w: Width) -> R<()> {
    let from = match w {
        Width::Q => Width::D,
        Width::D => Width::W,
        _ => Width::B,
    };
    let v = e.gpr(from, reg::RAX);
    let v = e.sext(from, w, v);
    e.set_gpr(w, reg::RAX, v);
    Ok(())
}

/// CWD, CDQ, CQO.
#[inline(always)]
pub fn extend_dx<E: Emitter>(e: &mut E, w: Width) -> R<()> {
    let v = e.gpr(w, reg::RAX);
    let n = e.imm(Width::B, u64::from(w.bits() - 1));
    let v = e.sar(w, v, n);
    e.set_gpr(w, reg::RDX, v);
    Ok(())
}

/// PUSH r/m/imm.
#[inline(always)]
pub fn push<E: Emitter, K: Stack, S: Src>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let v = S::get(e, i, w)?;
    let sp = push_value::<E, K>(e, i, w, v)?;
    e.set_gpr(K::width(i), reg::RSP, sp);
    Ok(())
}

/// POP r/m. An address that uses RSP uses its value after the increment (SDM); the decoder has put the increment into
/// the displacement.
#[inline(always)]
pub fn pop<E: Emitter, K: Stack, D: Dst>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let sw = K::width(i);
    let sp = e.gpr(sw, reg::RSP);
    let v = K::load(e, i, sp, w)?;
    let n = e.imm(sw, u64::from(w.bytes()));
    let up = e.add(sw, sp, n);
    match D::loc(e, i) {
        Loc::Mem(at) => {
            e.store(at, w, v)?;
            e.set_gpr(sw, reg::RSP, up);
        }
        l => {
            // POP RSP: the popped value wins.
            e.set_gpr(sw, reg::RSP, up);
            write(e, l, w, v)?;
        }
    }
    Ok(())
}

/// LEAVE.
#[inline(always)]
pub fn leave<E: Emitter, K: Stack>(e: &mut E, i: &Insn, w: Width) -> R<()> {
    let sw = K::width(i);
    let bp = e.gpr(sw, reg::RBP);
    let v = K::load(e, i, bp, w)?;
    let n = e.imm(sw, u64::from(w.bytes()));
    let up = e.add(sw, bp, n);
    e.set_gpr(sw, reg::RSP, up);
    e.set_gpr(w, reg::RBP, v);
    Ok(())
}

/// SETcc.
#[inline(always)]
pub fn setcc<E: Emitter, D: Dst>(e: &mut E, i: &Insn, c: Cond) -> R<()> {
    let v = e.cond(c);
    set_if::<E, D>(e, i, v)
}

/// SETcc whose condition (0 or 1) is known already.
#[inline(always)]
pub fn set_if<E: Emitter, D: Dst>(e: &mut E, i: &Insn, v: E::V) -> R<()> {
    let l = D::loc(e, i);
    write(e, l, Width::B, v)
}

/// CMOVcc: the source is read in any case, a 32-bit destination is zero-extended in any case.
#[inline(always)]
pub fn cmov<E: Emitter, S: Src>(e: &mut E, i: &Insn, c: Cond, w: Width) -> R<()> {
    let b = S::get(e, i, w)?;
    let a = e.gpr(w, i.rd);
    let c = e.cond(c);
    move_if(e, i, w, c, b, a)
}

/// CMOVcc whose condition (0 or 1) is known already.
#[inline(always)]
pub fn cmov_if<E: Emitter, S: Src>(e: &mut E, i: &Insn, c: E::V, w: Width) -> R<()> {
    let b = S::get(e, i, w)?;
    let a = e.gpr(w, i.rd);
    move_if(e, i, w, c, b, a)
}

#[inline(always)]
fn move_if<E: Emitter>(e: &mut E, i: &Insn, w: Width, c: E::V, b: E::V, a: E::V) -> R<()> {
    let v = e.select(w, c, b, a);
    e.set_gpr(w, i.rd, v);
    Ok(())
}
