//! The x87 instructions that only move numbers about, written once over [`X87Emitter`].
//!
//! They are for the common case: no exception is pending, and the stack is as the instruction wants it. Where it is not,
//! [`X87Emitter::refuse_if`] gives up before anything has been written, and tier 0 runs the complete function in
//! `load_store`, which knows stack faults and their masked responses.

use super::stack::{CODES, ES, TOP_MASK};
use crate::emit::{Addr, Emitter, R, Stop};
use crate::insn::{Insn, Op, Width};
use crate::lift::addr;
use crate::softfp::x87::C1;

/// A number in register format: significand (width Q), sign and exponent (width W).
pub type Number<V> = (V, V);

/// What these instructions are made of, besides [`Emitter`]. A register number is a physical one, R0 to R7, at width W.
pub trait X87Emitter: Emitter {
    /// Gives up if `c` is not 0: nothing has been written, and tier 0 executes the instruction by its complete function.
    fn refuse_if(&mut self, c: Self::V) -> R<()>;
    /// The status word, width W.
    fn x87_status(&mut self) -> Self::V;
    /// Replaces the status word.
    fn set_x87_status(&mut self, sw: Self::V);
    /// Bit n: physical register n is empty; width B.
    fn x87_empty(&mut self) -> Self::V;
    /// Replaces the tags.
    fn set_x87_empty(&mut self, empty: Self::V);
    /// Reads a register.
    fn x87_register(&mut self, r: Self::V) -> Number<Self::V>;
    /// Writes a register; its tag stays.
    fn set_x87_register(&mut self, r: Self::V, v: Number<Self::V>);
    /// Notes the last-instruction pointers, with the offset of the memory operand if there is one.
    fn x87_note(&mut self, i: &Insn, off: Option<Self::V>);
    /// Reads the ten bytes of a number.
    fn load_extended(&mut self, at: Addr<Self::V>) -> R<Number<Self::V>>;
    /// Writes the ten bytes of a number, all or none.
    fn store_extended(&mut self, at: Addr<Self::V>, v: Number<Self::V>) -> R<()>;
}

/// The instructions that are written here, as [`Op::X87`] carries them.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// None of them.
    Other,
    /// FLD m80fp.
    LoadExtended,
    /// FSTP m80fp.
    StoreExtended,
    /// FLD ST(i).
    LoadRegister,
    /// FST ST(i).
    StoreRegister,
    /// FSTP ST(i).
    StoreRegisterPop,
    /// FXCH.
    Exchange,
    /// FCHS.
    ChangeSign,
    /// FABS.
    Absolute,
}

impl Form {
    /// The operation of a record.
    pub const fn op(self) -> Op {
        Op::X87(self as u8)
    }
}

/// The status word and the tags while an instruction looks at them.
struct Stack<V> {
    sw: V,
    empty: V,
}

/// Begins an instruction: a pending exception is not for here.
#[inline(always)]
fn begin<E: X87Emitter>(e: &mut E) -> R<Stack<E::V>> {
    let sw = e.x87_status();
    let es = e.imm(Width::W, ES.into());
    let pending = e.and(Width::W, sw, es);
    e.refuse_if(pending)?;
    let empty = e.x87_empty();
    Ok(Stack { sw, empty })
}

impl<V: Copy> Stack<V> {
    /// The physical register of ST(n).
    #[inline(always)]
    fn register<E: X87Emitter<V = V>>(&self, e: &mut E, n: u8) -> V {
        let place = e.imm(Width::B, 11);
        let top = e.shr(Width::W, self.sw, place);
        let n = e.imm(Width::W, n.into());
        let r = e.add(Width::W, top, n);
        let seven = e.imm(Width::W, 7);
        e.and(Width::W, r, seven)
    }

    /// 1 if the register is empty, at width B.
    #[inline(always)]
    fn is_empty<E: X87Emitter<V = V>>(&self, e: &mut E, r: V) -> V {
        // Not a shift, which some hosts make a bit test of more bytes in memory than were written last.
        let bit = e.rotr(Width::B, self.empty, r);
        let one = e.imm(Width::B, 1);
        e.and(Width::B, bit, one)
    }

    #[inline(always)]
    fn refuse_empty<E: X87Emitter<V = V>>(&self, e: &mut E, r: V) -> R<()> {
        let empty = self.is_empty(e, r);
        e.refuse_if(empty)
    }

    #[inline(always)]
    fn refuse_full<E: X87Emitter<V = V>>(&self, e: &mut E, r: V) -> R<()> {
        let empty = self.is_empty(e, r);
        let one = e.imm(Width::B, 1);
        let full = e.xor(Width::B, empty, one);
        e.refuse_if(full)
    }

    /// The register is valid from now on.
    #[inline(always)]
    fn fill<E: X87Emitter<V = V>>(&mut self, e: &mut E, r: V) {
        let keep = e.imm(Width::B, 0xfe);
        let keep = e.rotl(Width::B, keep, r);
        self.empty = e.and(Width::B, self.empty, keep);
        e.set_x87_empty(self.empty);
    }

    /// Clears C1, and `r` becomes ST(0).
    #[inline(always)]
    fn finish_with_top<E: X87Emitter<V = V>>(&self, e: &mut E, r: V) {
        let keep = e.imm(Width::W, (!(TOP_MASK | C1)).into());
        let sw = e.and(Width::W, self.sw, keep);
        let place = e.imm(Width::B, 11);
        let top = e.shl(Width::W, r, place);
        let sw = e.or(Width::W, sw, top);
        e.set_x87_status(sw);
    }

    /// Clears C1.
    #[inline(always)]
    fn finish<E: X87Emitter<V = V>>(&self, e: &mut E) {
        let keep = e.imm(Width::W, (!C1).into());
        let sw = e.and(Width::W, self.sw, keep);
        e.set_x87_status(sw);
    }

    /// Clears C1 and pops ST(0), whose register is `top`.
    #[inline(always)]
    fn finish_with_pop<E: X87Emitter<V = V>>(&mut self, e: &mut E, top: V) {
        let one = e.imm(Width::B, 1);
        let bit = e.rotl(Width::B, one, top);
        self.empty = e.or(Width::B, self.empty, bit);
        e.set_x87_empty(self.empty);
        let next = self.register(e, 1);
        self.finish_with_top(e, next);
    }
}

const _: () = assert!(CODES & C1 != 0 && CODES & TOP_MASK == 0);

/// FLD m80fp.
#[inline(always)]
pub fn load_extended<E: X87Emitter>(e: &mut E, i: &Insn) -> R<()> {
    let mut s = begin(e)?;
    let top = s.register(e, 7);
    s.refuse_full(e, top)?;
    let at = addr(e, i);
    let v = e.load_extended(at)?;
    e.x87_note(i, Some(at.off));
    e.set_x87_register(top, v);
    s.fill(e, top);
    s.finish_with_top(e, top);
    Ok(())
}

/// FSTP m80fp.
#[inline(always)]
pub fn store_extended<E: X87Emitter>(e: &mut E, i: &Insn) -> R<()> {
    let mut s = begin(e)?;
    let top = s.register(e, 0);
    s.refuse_empty(e, top)?;
    let v = e.x87_register(top);
    let at = addr(e, i);
    e.store_extended(at, v)?;
    e.x87_note(i, Some(at.off));
    s.finish_with_pop(e, top);
    Ok(())
}

/// FLD ST(i).
#[inline(always)]
pub fn load_register<E: X87Emitter>(e: &mut E, i: &Insn) -> R<()> {
    let mut s = begin(e)?;
    let (from, top) = (s.register(e, i.rd), s.register(e, 7));
    s.refuse_empty(e, from)?;
    s.refuse_full(e, top)?;
    e.x87_note(i, None);
    let v = e.x87_register(from);
    e.set_x87_register(top, v);
    s.fill(e, top);
    s.finish_with_top(e, top);
    Ok(())
}

/// FST, FSTP ST(i).
#[inline(always)]
pub fn store_register<E: X87Emitter>(e: &mut E, i: &Insn, pop: bool) -> R<()> {
    let mut s = begin(e)?;
    let (top, to) = (s.register(e, 0), s.register(e, i.rd));
    s.refuse_empty(e, top)?;
    e.x87_note(i, None);
    let v = e.x87_register(top);
    e.set_x87_register(to, v);
    s.fill(e, to);
    if pop {
        s.finish_with_pop(e, top);
    } else {
        s.finish(e);
    }
    Ok(())
}

/// FXCH.
#[inline(always)]
pub fn exchange<E: X87Emitter>(e: &mut E, i: &Insn) -> R<()> {
    let s = begin(e)?;
    let (top, other) = (s.register(e, 0), s.register(e, i.rs));
    s.refuse_empty(e, top)?;
    s.refuse_empty(e, other)?;
    e.x87_note(i, None);
    let (a, b) = (e.x87_register(top), e.x87_register(other));
    e.set_x87_register(top, b);
    e.set_x87_register(other, a);
    s.finish(e);
    Ok(())
}

/// FCHS (`negate`), FABS.
#[inline(always)]
pub fn change_sign<E: X87Emitter>(e: &mut E, i: &Insn, negate: bool) -> R<()> {
    let s = begin(e)?;
    let top = s.register(e, 0);
    s.refuse_empty(e, top)?;
    e.x87_note(i, None);
    let (mantissa, sign_exp) = e.x87_register(top);
    let sign = e.imm(Width::W, 0x8000);
    let sign_exp = if negate {
        e.xor(Width::W, sign_exp, sign)
    } else {
        let keep = e.not(Width::W, sign);
        e.and(Width::W, sign_exp, keep)
    };
    e.set_x87_register(top, (mantissa, sign_exp));
    s.finish(e);
    Ok(())
}

/// Lifts an instruction for the compiler. `Err(Stop)`: call its tier-0 handler instead.
pub fn lift<E: X87Emitter>(e: &mut E, i: &Insn) -> R<()> {
    let is = |f: Form| i.op == f.op();
    match () {
        () if is(Form::LoadExtended) => load_extended(e, i),
        () if is(Form::StoreExtended) => store_extended(e, i),
        () if is(Form::LoadRegister) => load_register(e, i),
        () if is(Form::StoreRegister) => store_register(e, i, false),
        () if is(Form::StoreRegisterPop) => store_register(e, i, true),
        () if is(Form::Exchange) => exchange(e, i),
        () if is(Form::ChangeSign) => change_sign(e, i, true),
        () if is(Form::Absolute) => change_sign(e, i, false),
        () => Err(Stop),
    }
}
