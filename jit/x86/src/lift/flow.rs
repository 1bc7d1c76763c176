//! Near control flow. `i.w` is the operand width: the width of pushed return addresses and of the new RIP.

use super::{Src, Stack, push};
use crate::emit::{Emitter, JumpKind, R};
use crate::insn::{Cond, Insn, Width};
use crate::state::reg;

/// #GP(0) at the branch itself when a 64-bit target is not canonical (SDM vol. 2, JMP, CALL, RET). What has 48 bits always is.
#[inline(always)]
fn canonical<E: Emitter>(e: &mut E, i: &Insn, t: E::V) -> R<()> {
    if i.w != Width::Q {
        return Ok(());
    }
    let half = e.imm(Width::Q, 1 << 47);
    let shifted = e.add(Width::Q, t, half);
    let bits = e.imm(Width::Q, 48);
    let above = e.shr(Width::Q, shifted, bits);
    let zero = e.imm(Width::Q, 0);
    let suspect = e.ult(Width::Q, zero, above);
    e.check_canonical(suspect, t)
}

/// JMP rel.
#[inline(always)]
pub fn jmp<E: Emitter>(e: &mut E, i: &Insn) -> R<()> {
    e.jump(i.imm);
    Ok(())
}

/// JMP r/m.
#[inline(always)]
pub fn jmp_ind<E: Emitter, S: Src>(e: &mut E, i: &Insn) -> R<()> {
    let t = S::get(e, i, i.w)?;
    canonical(e, i, t)?;
    let t = e.zext(i.w, Width::Q, t);
    e.jump_to(t, JumpKind::Jump);
    Ok(())
}

/// Jcc rel.
#[inline(always)]
pub fn jcc<E: Emitter>(e: &mut E, i: &Insn, c: Cond) -> R<()> {
    let c = e.cond(c);
    jump_if(e, i, c)
}

/// Jcc whose condition (0 or 1) is known already.
#[inline(always)]
pub fn jump_if<E: Emitter>(e: &mut E, i: &Insn, c: E::V) -> R<()> {
    e.jump_if(c, i.imm, next(i));
    Ok(())
}

/// RIP of the next instruction, wrapped at the code width; the decoder leaves it in `disp` of direct branches.
#[inline(always)]
fn next(i: &Insn) -> u64 {
    i.disp
}

/// LOOP, LOOPE (1), LOOPNE (2): the counter has the address width.
#[inline(always)]
pub fn loop_<E: Emitter>(e: &mut E, i: &Insn, kind: u8) -> R<()> {
    let c = e.gpr(i.aw, reg::RCX);
    let one = e.imm(i.aw, 1);
    let c = e.sub(i.aw, c, one);
    let z = e.imm(i.aw, 0);
    let mut go = e.ult(i.aw, z, c);
    if kind != 0 {
        let zf = e.cond(if kind == 1 { Cond::E } else { Cond::Ne });
        go = e.and(Width::B, go, zf);
    }
    e.set_gpr(i.aw, reg::RCX, c);
    e.jump_if(go, i.imm, next(i));
    Ok(())
}

/// JCXZ, JECXZ, JRCXZ.
#[inline(always)]
pub fn jcxz<E: Emitter>(e: &mut E, i: &Insn) -> R<()> {
    let c = e.gpr(i.aw, reg::RCX);
    let z = e.imm(i.aw, 0);
    let go = e.eq(i.aw, c, z);
    e.jump_if(go, i.imm, next(i));
    Ok(())
}

/// CALL rel.
#[inline(always)]
pub fn call<E: Emitter, K: Stack>(e: &mut E, i: &Insn) -> R<()> {
    let ret = e.imm(i.w, next(i));
    let sp = push::<E, K>(e, i, i.w, ret)?;
    e.set_gpr(K::width(i), reg::RSP, sp);
    e.note_call(next(i));
    e.jump(i.imm);
    Ok(())
}

/// CALL r/m. (`imm` is the return address: the displacement belongs to the operand.)
#[inline(always)]
pub fn call_ind<E: Emitter, K: Stack, S: Src>(e: &mut E, i: &Insn) -> R<()> {
    let t = S::get(e, i, i.w)?;
    canonical(e, i, t)?;
    let ret = e.imm(i.w, i.imm);
    let sp = push::<E, K>(e, i, i.w, ret)?;
    e.set_gpr(K::width(i), reg::RSP, sp);
    e.note_call(i.imm);
    let t = e.zext(i.w, Width::Q, t);
    e.jump_to(t, JumpKind::Call);
    Ok(())
}

/// RET, RET imm16 (`i.imm` bytes).
#[inline(always)]
pub fn ret<E: Emitter, K: Stack>(e: &mut E, i: &Insn) -> R<()> {
    let sw = K::width(i);
    let sp = e.gpr(sw, reg::RSP);
    let t = K::load(e, i, sp, i.w)?;
    canonical(e, i, t)?;
    let n = e.imm(sw, u64::from(i.w.bytes()) + i.imm);
    let up = e.add(sw, sp, n);
    e.set_gpr(sw, reg::RSP, up);
    let t = e.zext(i.w, Width::Q, t);
    e.jump_to(t, JumpKind::Return);
    Ok(())
}

/// The end of a block that no branch ends.
#[inline(always)]
pub fn end_block<E: Emitter>(e: &mut E, i: &Insn) -> R<()> {
    e.jump(i.imm);
    Ok(())
}
