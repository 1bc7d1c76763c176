//! The vector instructions, written once over [`VecEmitter`], by family.
//!
//! `rd` is the number of the destination, `rs` that of the last register operand, `rv` that of the first source: the one that
//! VEX.vvvv names, in legacy encodings the destination again. The operand form is a [`Form`]: a constant in the hot tier-0
//! handlers, [`Form::of`] the record elsewhere.
//!
//! A vector is `N` 128-bit values: one in legacy and VEX.128 encodings, two in VEX.256 ones, which the architecture defines
//! as the 128-bit operation on either half almost everywhere. What VEX leaves of the destination is zeroed; legacy encodings
//! leave it alone. Both is in [`put`] and [`put_lane`], and nowhere else.

mod avx;
mod float;
mod integer;
mod moves;

pub use avx::*;
pub use float::*;
pub use integer::*;
pub use moves::*;

use super::emitter::{VBin, VecEmitter};
use crate::cc::CcKind;
use crate::emit::R;
use crate::insn::{Insn, Opnd, Width, prefix};
use crate::lift::addr;

/// The form of a record's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Is the last operand (of stores: the first) in memory?
    pub mem: bool,
    /// VEX-encoded?
    pub vex: bool,
}

impl Form {
    /// Legacy encoding, registers only.
    pub const REG: Self = Self { mem: false, vex: false };
    /// Legacy encoding, with a memory operand.
    pub const MEM: Self = Self { mem: true, vex: false };

    /// The form of a record.
    #[inline(always)]
    pub fn of(i: &Insn) -> Self {
        Self { mem: i.src == Opnd::Mem || i.dst == Opnd::Mem, vex: i.has(prefix::VEX) }
    }
}

/// A register of `N` halves.
#[inline(always)]
pub(in super::super) fn register<E: VecEmitter, const N: usize>(e: &mut E, r: u8) -> [E::X; N] {
    let mut x = [e.xmm(r); N];
    if let Some(high) = x.get_mut(1) {
        *high = e.ymm_hi(r);
    }
    x
}

/// The last operand. Legacy SSE wants it aligned in memory, VEX does not (SDM vol. 1, 11.3 and 14.9).
#[inline(always)]
pub(in super::super) fn source<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form) -> R<[E::X; N]> {
    source_aligned(e, i, f, !f.vex)
}

/// The last operand, whose alignment in memory is checked or not.
#[inline(always)]
pub(in super::super) fn source_aligned<E: VecEmitter, const N: usize>(
    e: &mut E,
    i: &Insn,
    f: Form,
    aligned: bool,
) -> R<[E::X; N]> {
    if f.mem {
        let at = addr(e, i);
        e.load_vector(at, aligned)
    } else {
        Ok(register(e, i.rs))
    }
}

/// The scalar source operand: the lowest lane of a register, or memory of that width.
#[inline(always)]
pub(in super::super) fn low<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<E::V> {
    if f.mem {
        let at = addr(e, i);
        e.load(at, w)
    } else {
        Ok(e.xmm_lane(w, i.rs, 0))
    }
}

/// The general-register-or-memory source operand.
#[inline(always)]
pub(in super::super) fn integer<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width) -> R<E::V> {
    if f.mem {
        let at = addr(e, i);
        e.load(at, w)
    } else {
        Ok(e.gpr(w, i.rs))
    }
}

/// Writes register `r`: VEX zeroes what is above, legacy encodings leave it.
#[inline(always)]
pub(in super::super) fn put_to<E: VecEmitter, const N: usize>(e: &mut E, r: u8, f: Form, x: [E::X; N]) {
    e.set_xmm(r, x[0]);
    if f.vex {
        let high = match x.get(1) {
            Some(high) => *high,
            None => e.const128([0; 2]),
        };
        e.set_ymm_hi(r, high);
    }
}

/// Writes the destination.
#[inline(always)]
pub(in super::super) fn put<E: VecEmitter, const N: usize>(e: &mut E, i: &Insn, f: Form, x: [E::X; N]) {
    put_to(e, i.rd, f, x);
}

/// Writes one lane of the destination; the rest of the low 128 bits comes from the first source.
#[inline(always)]
pub(in super::super) fn put_lane<E: VecEmitter>(e: &mut E, i: &Insn, f: Form, w: Width, lane: u8, v: E::V) {
    if f.vex {
        let a = e.xmm(i.rv);
        let x = e.with_lane(w, a, lane, v);
        put(e, i, f, [x]);
    } else {
        e.set_xmm_lane(w, i.rd, lane, v);
    }
}

/// An operation on either half.
#[inline(always)]
pub(in super::super) fn each<X: Copy, const N: usize>(
    a: [X; N],
    mut f: impl FnMut(usize, X) -> R<X>,
) -> R<[X; N]> {
    let mut out = a;
    for (k, x) in out.iter_mut().enumerate() {
        *x = f(k, *x)?;
    }
    Ok(out)
}

/// The six arithmetic flags are those in `v`.
#[inline(always)]
pub(in super::super) fn set_flags<E: VecEmitter>(e: &mut E, v: E::V) {
    let z = e.imm(Width::D, 0);
    e.set_cc(CcKind::Flags, Width::D, v, z, z);
}

/// Both halves in the low and the high half of one value.
#[inline(always)]
fn join_low<E: VecEmitter>(e: &mut E, low: E::X, high: E::X) -> R<E::X> {
    e.vbin(VBin::UnpackLoQ, low, high)
}
