//! What the 80286 and the i386 do where the manual leaves it open, as the public single-step vectors show it on hardware.
//!
//! - The 80286 shifts and rotates one bit for each clock, so that flags are those of the last step.
//! - The i386 has a shifter as wide as a doubleword: a byte or word shifted by a multiple of its size leaves the same carry
//!   as by its size; SHLD and SHRD of words by more than 16 go on with the second operand again.
//!
//! These are helpers: nothing here is worth compiling.

use iced_x86::{Instruction, Mnemonic};

use crate::Vcpu;
use crate::cc::CcKind;
use crate::emit::{Emitter, R};
use crate::eval::done;
use crate::insn::{Handler, Insn, Op, Opnd, Width};
use crate::lift;
use crate::model::Era;
use crate::state::{reg, rflags};

/// Replaces the arithmetic flags in `mask`.
pub(crate) fn set_arith(c: &mut Vcpu, mask: u64, v: u64) {
    let f = c.arith_flags() & !mask | v & mask;
    c.set_cc(CcKind::Flags, Width::D, f, 0, 0);
}

pub(crate) fn flag(on: bool, bit: u64) -> u64 {
    if on { bit } else { 0 }
}

/// SF, ZF and PF of a result.
pub(crate) fn result_flags(v: u64, w: Width) -> u64 {
    flag(v & w.sign() != 0, rflags::SF)
        | flag(v & w.mask() == 0, rflags::ZF)
        | flag((v as u8).count_ones() & 1 == 0, rflags::PF)
}

/// ROL, ROR, RCL, RCR, SHL, SHR, (6: SHL), SAR by their encoding: `count` steps of one bit. What the steps leave is the
/// value, with CF, OF and AF as of the last.
pub(crate) fn steps(kind: u8, w: Width, mut v: u64, count: u64, mut carry: u64) -> (u64, u64) {
    let top = w.bits() - 1;
    let mut flags = 0;
    for _ in 0..count {
        let (high, low) = (v >> top & 1, v & 1);
        let (next, out) = match kind {
            0 => (v << 1 | high, high),
            1 => (v >> 1 | low << top, low),
            2 => (v << 1 | carry, high),
            3 => (v >> 1 | carry << top, low),
            4 | 6 => (v << 1, high),
            5 => (v >> 1, low),
            _ => (v >> 1 | high << top, low),
        };
        v = next & w.mask();
        let overflow = match kind {
            0 | 2 | 4 | 6 => (v >> top & 1) ^ out,
            _ => (v >> top & 1) ^ (v >> (top - 1) & 1),
        };
        carry = out;
        flags = out
            | flag(overflow != 0 && kind != 7, rflags::OF)
            | if matches!(kind, 4 | 6) { v & rflags::AF } else { 0 };
    }
    (v, flags)
}

/// The shift or rotate of `i` by `count` steps.
pub(crate) fn shift(c: &mut Vcpu, i: &Insn, kind: u8, count: u64) -> R<()> {
    let w = i.w;
    let at = lift::loc(c, i, i.dst);
    let old = lift::read_for_write(c, at, w)? & w.mask();
    if count == 0 {
        return lift::write(c, at, w, old);
    }
    let (v, mut flags) = steps(kind, w, old, count, c.arith_flags() & rflags::CF);
    if c.model.era() == Era::I386 && kind >= 4 {
        flags &= !rflags::AF;
        let size = u64::from(w.bits());
        if count > size && count.is_multiple_of(size) {
            let edge = if kind == 4 || kind == 6 { old & 1 } else { old >> (size - 1) };
            let sign = flag(kind < 7 && kind != 5 && edge != 0, rflags::OF);
            flags = flags & !(rflags::CF | rflags::OF) | edge | sign;
        }
    }
    lift::write(c, at, w, v)?;
    let mask = if kind >= 4 { rflags::ARITH } else { rflags::CF | rflags::OF };
    set_arith(c, mask, flags | result_flags(v, w));
    Ok(())
}

fn count(c: &Vcpu, i: &Insn, o: Opnd) -> u64 {
    let n = if o == Opnd::Imm { i.imm } else { c.st.gpr[reg::RCX as usize] };
    n & 31
}

fn masked(c: &mut Vcpu, i: &Insn, kind: u8) -> R<()> {
    let n = count(c, i, i.src);
    shift(c, i, kind, n)
}

/// SHLD and SHRD of words.
fn double(c: &mut Vcpu, i: &Insn, right: bool) -> R<()> {
    let n = count(c, i, i.src2);
    let b = lift::get(c, i, i.src, Width::W)? & 0xffff;
    let at = lift::loc(c, i, i.dst);
    let a = lift::read_for_write(c, at, Width::W)? & 0xffff;
    if n == 0 {
        return lift::write(c, at, Width::W, a);
    }
    let (v, out) = if right {
        let all = b << 32 | b << 16 | a;
        (all >> n & 0xffff, all >> (n - 1) & 1)
    } else {
        let all = a << 32 | b << 16 | b;
        (all >> (32 - n) & 0xffff, all >> (48 - n) & 1)
    };
    lift::write(c, at, Width::W, v)?;
    let overflow = flag((v ^ a) & 0x8000 != 0, rflags::OF);
    set_arith(c, rflags::ARITH, out | overflow | result_flags(v, Width::W));
    Ok(())
}

fn helper(i: &mut Insn, run: Handler) {
    (i.op, i.run) = (Op::Cold, run);
}

/// Gives an instruction of an 80286 or i386 its own handler where it needs one.
pub(crate) fn rules(x: &Instruction, i: &mut Insn, era: Era) {
    macro_rules! run {
        ($kind:literal) => {
            helper(i, |c, i, rest| done(masked(c, i, $kind), c, rest))
        };
    }
    // By one bit there is nothing open but AF.
    let one = i.src == Opnd::Imm && i.imm & 31 == 1;
    match x.mnemonic() {
        _ if one => {}
        Mnemonic::Rol => run!(0),
        Mnemonic::Ror => run!(1),
        Mnemonic::Rcl => run!(2),
        Mnemonic::Rcr => run!(3),
        Mnemonic::Shl | Mnemonic::Sal => run!(4),
        Mnemonic::Shr => run!(5),
        Mnemonic::Sar => run!(7),
        Mnemonic::Shld if era == Era::I386 && i.w == Width::W => {
            helper(i, |c, i, rest| done(double(c, i, false), c, rest));
        }
        Mnemonic::Shrd if era == Era::I386 && i.w == Width::W => {
            helper(i, |c, i, rest| done(double(c, i, true), c, rest));
        }
        _ => {}
    }
}
