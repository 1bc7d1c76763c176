//! Lazy arithmetic flags.
//!
//! An instruction that sets flags leaves its result and the operands from which CF, PF, AF, ZF, SF and OF follow; a flag
//! is computed when something looks at it. How each follows is written once, over [`Emitter`], and used by the evaluator
//! (which looks at `CpuState::cc_op` at run time) and the compiler (which mostly knows the kind statically).

use crate::emit::Emitter;
use crate::insn::{Cond, Width};
use crate::state::rflags;

/// How flags follow from `res`, `src`, `aux`. The operands are zero-extended values of the width. All kinds from `Inc` on have
/// the CF in bit 0 of `src`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CcKind {
    /// `res` is the six flags themselves at their RFLAGS places (width ignored).
    Flags = 0,
    /// ADD: `res = a + src`.
    Add = 1,
    /// ADC: `res = a + src + aux`, `aux` 0 or 1.
    Adc = 2,
    /// SUB, CMP, NEG: `res = a - src`, and `aux = a`.
    Sub = 3,
    /// SBB: `res = a - src - aux`, `aux` 0 or 1.
    Sbb = 4,
    /// AND, OR, XOR, TEST: CF = OF = AF = 0.
    Logic = 5,
    /// INC: `src` is the preserved CF.
    Inc = 6,
    /// DEC: `src` is the preserved CF.
    Dec = 7,
    /// SHL: `src` holds the CF in bit 0; OF = CF ^ sign. AF = 0.
    Shl = 8,
    /// SHR, SAR, SHRD: `src` holds the CF in bit 0, `aux` the OF in bit 0. AF = 0.
    Shr = 9,
    /// MUL, IMUL: CF = OF = `src` (0 or 1); SF, ZF, PF from `res`; AF = 0.
    Mul = 10,
    /// BLSI/BLSR/BLSMSK/BEXTR/BZHI/ANDN, TZCNT/LZCNT/POPCNT-like: CF = `src` (0 or 1), OF = AF = 0, ZF and SF from
    /// `res`, PF from `res`.
    Bmi = 11,
}

impl CcKind {
    /// Whether `src` and `aux` are looked at. Where not, what they hold is left over from before.
    pub const fn operands(self) -> (bool, bool) {
        match self {
            Self::Flags | Self::Logic => (false, false),
            Self::Adc | Self::Sub | Self::Sbb | Self::Shr => (true, true),
            Self::Add | Self::Inc | Self::Dec | Self::Shl | Self::Mul | Self::Bmi => (true, false),
        }
    }

    /// From the discriminant.
    pub const fn from_u8(n: u8) -> Self {
        match n {
            1 => Self::Add,
            2 => Self::Adc,
            3 => Self::Sub,
            4 => Self::Sbb,
            5 => Self::Logic,
            6 => Self::Inc,
            7 => Self::Dec,
            8 => Self::Shl,
            9 => Self::Shr,
            10 => Self::Mul,
            11 => Self::Bmi,
            _ => Self::Flags,
        }
    }
}

/// `CpuState::cc_op` for a kind and width.
#[inline(always)]
pub const fn cc_op(kind: CcKind, w: Width) -> u32 {
    (kind as u32) << 2 | w as u32
}

/// The operands of the lazy flags.
#[derive(Clone, Copy, Debug)]
pub struct Cc<V> {
    /// Kind.
    pub kind: CcKind,
    /// Width.
    pub w: Width,
    /// Result (or the flags themselves).
    pub res: V,
    /// See [`CcKind`].
    pub src: V,
    /// See [`CcKind`].
    pub aux: V,
}

/// The carry flag as 0 or 1 at width B.
#[inline(always)]
pub fn carry<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    let w = c.w;
    match c.kind {
        CcKind::Flags => bit(e, c.res, 0),
        CcKind::Add => e.ult(w, c.res, c.src),
        CcKind::Adc => {
            // a + s + 1 carries iff res <= s; a + s carries iff res < s.
            let lt = e.ult(w, c.res, c.src);
            let eq = e.eq(w, c.res, c.src);
            let cin = e.trunc(Width::B, c.aux);
            let both = e.and(Width::B, eq, cin);
            e.or(Width::B, lt, both)
        }
        CcKind::Sub => e.ult(w, c.aux, c.src),
        CcKind::Sbb => {
            // a = res + src + aux; borrow iff a < src + aux, i.e. a < src, or a == src with a borrow in.
            let a = minuend(e, c);
            let lt = e.ult(w, a, c.src);
            let eq = e.eq(w, a, c.src);
            let cin = e.trunc(Width::B, c.aux);
            let both = e.and(Width::B, eq, cin);
            e.or(Width::B, lt, both)
        }
        CcKind::Logic => e.imm(Width::B, 0),
        CcKind::Inc | CcKind::Dec | CcKind::Shl | CcKind::Shr | CcKind::Mul | CcKind::Bmi => bit(e, c.src, 0),
    }
}

/// `v` bit `n` as 0 or 1 at width B.
#[inline(always)]
fn bit<E: Emitter>(e: &mut E, v: E::V, n: u32) -> E::V {
    let one = e.imm(Width::B, 1);
    let v = if n == 0 {
        v
    } else {
        let n = e.imm(Width::B, u64::from(n));
        e.shr(Width::Q, v, n)
    };
    let v = e.trunc(Width::B, v);
    e.and(Width::B, v, one)
}

/// The first operand of a subtraction, recomputed.
#[inline(always)]
fn minuend<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    if c.kind == CcKind::Sub {
        return c.aux;
    }
    let a = e.add(c.w, c.res, c.src);
    if c.kind == CcKind::Sbb { e.add(c.w, a, c.aux) } else { a }
}

#[inline(always)]
fn zero<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    if c.kind == CcKind::Flags {
        return bit(e, c.res, 6);
    }
    let z = e.imm(c.w, 0);
    e.eq(c.w, c.res, z)
}

#[inline(always)]
fn sign<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    if c.kind == CcKind::Flags {
        return bit(e, c.res, 7);
    }
    let z = e.imm(c.w, 0);
    e.slt(c.w, c.res, z)
}

/// Is the sign bit of `v` set? 0 or 1 at width B.
#[inline(always)]
fn negative<E: Emitter>(e: &mut E, w: Width, v: E::V) -> E::V {
    let z = e.imm(w, 0);
    e.slt(w, v, z)
}

#[inline(always)]
fn overflow<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    let w = c.w;
    match c.kind {
        CcKind::Flags => bit(e, c.res, 11),
        CcKind::Add | CcKind::Adc => {
            // a = res - src - cin; OF = sign((a ^ res) & (src ^ res)).
            let mut a = e.sub(w, c.res, c.src);
            if c.kind == CcKind::Adc {
                a = e.sub(w, a, c.aux);
            }
            let x = e.xor(w, a, c.res);
            let y = e.xor(w, c.src, c.res);
            let z = e.and(w, x, y);
            negative(e, w, z)
        }
        CcKind::Sub | CcKind::Sbb => {
            let a = minuend(e, c);
            let x = e.xor(w, a, c.src);
            let y = e.xor(w, a, c.res);
            let z = e.and(w, x, y);
            negative(e, w, z)
        }
        CcKind::Logic | CcKind::Bmi => e.imm(Width::B, 0),
        CcKind::Inc => {
            let m = e.imm(w, w.sign());
            e.eq(w, c.res, m)
        }
        CcKind::Dec => {
            let m = e.imm(w, w.sign() - 1);
            e.eq(w, c.res, m)
        }
        CcKind::Shl => {
            let cf = bit(e, c.src, 0);
            let s = sign(e, c);
            e.xor(Width::B, cf, s)
        }
        CcKind::Shr => bit(e, c.aux, 0),
        CcKind::Mul => bit(e, c.src, 0),
    }
}

#[inline(always)]
fn parity<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    if c.kind == CcKind::Flags {
        return bit(e, c.res, 2);
    }
    let b = e.trunc(Width::B, c.res);
    let n = e.popcnt(Width::B, b);
    let one = e.imm(Width::B, 1);
    let odd = e.and(Width::B, n, one);
    e.xor(Width::B, odd, one)
}

#[inline(always)]
fn adjust<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    let w = c.w;
    let nibble = |e: &mut E, v: E::V| bit(e, v, 4);
    match c.kind {
        CcKind::Flags => nibble(e, c.res),
        CcKind::Add | CcKind::Adc => {
            let mut a = e.sub(w, c.res, c.src);
            if c.kind == CcKind::Adc {
                a = e.sub(w, a, c.aux);
            }
            let x = e.xor(w, a, c.src);
            let x = e.xor(w, x, c.res);
            nibble(e, x)
        }
        CcKind::Sub | CcKind::Sbb => {
            let a = minuend(e, c);
            let x = e.xor(w, a, c.src);
            let x = e.xor(w, x, c.res);
            nibble(e, x)
        }
        CcKind::Inc | CcKind::Dec => {
            // INC: low nibble became 0; DEC: low nibble became 15.
            let m = e.imm(w, 15);
            let n = e.and(w, c.res, m);
            let want = e.imm(w, if c.kind == CcKind::Inc { 0 } else { 15 });
            e.eq(w, n, want)
        }
        CcKind::Logic | CcKind::Shl | CcKind::Shr | CcKind::Mul | CcKind::Bmi => e.imm(Width::B, 0),
    }
}

/// A condition as 0 or 1 at width B.
#[inline(always)]
pub fn cond<E: Emitter>(e: &mut E, c: Cc<E::V>, cond: Cond) -> E::V {
    let positive = Cond::from_u8(cond as u8 & !1);
    let v = match (positive, c.kind) {
        // The comparisons that compilers emit, without going through single flags.
        (Cond::Be, CcKind::Sub) => {
            let gt = e.ult(c.w, c.src, c.aux);
            return flip(e, gt, cond != Cond::A);
        }
        (Cond::L, CcKind::Sub) => e.slt(c.w, c.aux, c.src),
        (Cond::Le, CcKind::Sub) => {
            let gt = e.slt(c.w, c.src, c.aux);
            return flip(e, gt, cond != Cond::G);
        }
        (Cond::L, CcKind::Logic | CcKind::Bmi) => sign(e, c),
        (Cond::Be, CcKind::Logic) => zero(e, c),
        (Cond::O, _) => overflow(e, c),
        (Cond::B, _) => carry(e, c),
        (Cond::E, _) => zero(e, c),
        (Cond::Be, _) => {
            let a = carry(e, c);
            let b = zero(e, c);
            e.or(Width::B, a, b)
        }
        (Cond::S, _) => sign(e, c),
        (Cond::P, _) => parity(e, c),
        (Cond::L, _) => {
            let a = sign(e, c);
            let b = overflow(e, c);
            e.xor(Width::B, a, b)
        }
        (_, _) => {
            let a = sign(e, c);
            let b = overflow(e, c);
            let l = e.xor(Width::B, a, b);
            let z = zero(e, c);
            e.or(Width::B, l, z)
        }
    };
    flip(e, v, cond as u8 & 1 != 0)
}

#[inline(always)]
fn flip<E: Emitter>(e: &mut E, v: E::V, invert: bool) -> E::V {
    if invert {
        let one = e.imm(Width::B, 1);
        e.xor(Width::B, v, one)
    } else {
        v
    }
}

/// All six flags at their RFLAGS places, width D.
#[inline(always)]
pub fn all<E: Emitter>(e: &mut E, c: Cc<E::V>) -> E::V {
    if c.kind == CcKind::Flags {
        return e.trunc(Width::D, c.res);
    }
    let parts = [
        (carry(e, c), 0),
        (parity(e, c), 2),
        (adjust(e, c), 4),
        (zero(e, c), 6),
        (sign(e, c), 7),
        (overflow(e, c), 11),
    ];
    let mut f = e.imm(Width::D, 0);
    for (v, place) in parts {
        let v = e.zext(Width::B, Width::D, v);
        let n = e.imm(Width::B, place);
        let v = e.shl(Width::D, v, n);
        f = e.or(Width::D, f, v);
    }
    f
}

/// Mask of the flags that [`all`] can set.
pub const ALL: u64 = rflags::ARITH;
