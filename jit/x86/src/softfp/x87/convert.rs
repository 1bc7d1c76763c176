//! Loads and stores: conversions between the register format and `m32fp`, `m64fp`, `m16int`, `m32int`, `m64int`.

use super::number::{BIAS, F80, INTEGER, MAX_EXP, Magnitude};
use super::{Env, IE, OE, Round, UE};
use crate::softfp::PE;
use crate::softfp::format::{DOUBLE, Format, SINGLE, shift_right_fraction};

/// FLD m32fp: DE for a denormal, IE for a signalling NaN.
#[inline]
pub fn from_f32(bits: u32, env: &mut Env) -> F80 {
    widen(SINGLE, u64::from(bits), env)
}

/// FLD m64fp: DE for a denormal, IE for a signalling NaN.
#[inline]
pub fn from_f64(bits: u64, env: &mut Env) -> F80 {
    widen(DOUBLE, bits, env)
}

#[inline(always)]
fn widen(format: Format, bits: u64, env: &mut Env) -> F80 {
    env.c1 = false;
    let sign = bits & format.sign_bit() != 0;
    let exp = (bits >> format.fraction) as i32 & format.max_exponent;
    let fraction = (bits & format.fraction_mask()) << (63 - format.fraction);
    if exp == format.max_exponent {
        let nan = F80::new(sign, MAX_EXP, INTEGER | fraction);
        if nan.is_signalling() {
            env.raise(IE);
        }
        return if fraction == 0 { nan } else { nan.quieted() };
    }
    if exp != 0 {
        return F80::new(sign, exp - format.bias() + BIAS, INTEGER | fraction);
    }
    if fraction == 0 {
        return F80::zero(sign);
    }
    env.denormal();
    let shift = fraction.leading_zeros();
    F80::new(sign, 1 - format.bias() + BIAS - shift as i32, fraction << shift)
}

/// FILD m16int. Exact.
#[inline]
pub const fn from_i16(value: i16) -> F80 {
    from_i64(value as i64)
}

/// FILD m32int. Exact.
#[inline]
pub const fn from_i32(value: i32) -> F80 {
    from_i64(value as i64)
}

/// FILD m64int. Exact.
#[inline]
pub const fn from_i64(value: i64) -> F80 {
    from_magnitude(value < 0, value.unsigned_abs())
}

pub(super) const fn from_magnitude(sign: bool, magnitude: u64) -> F80 {
    if magnitude == 0 {
        return F80::zero(sign);
    }
    let shift = magnitude.leading_zeros();
    F80::new(sign, BIAS + 63 - shift as i32, magnitude << shift)
}

/// FST m32fp. Nothing is stored if [`Env::store_suppressed`].
#[inline]
pub fn to_f32(a: F80, env: &mut Env) -> u32 {
    narrow(SINGLE, a, env) as u32
}

/// FST m64fp. Nothing is stored if [`Env::store_suppressed`].
#[inline]
pub fn to_f64(a: F80, env: &mut Env) -> u64 {
    narrow(DOUBLE, a, env)
}

#[inline(always)]
fn narrow(format: Format, a: F80, env: &mut Env) -> u64 {
    env.c1 = false;
    let sign = a.is_negative();
    if a.is_normal() {
        return narrow_finite(format, sign, a.exp(), a.mantissa, env);
    }
    narrow_special(format, a, env)
}

#[inline(always)]
fn narrow_finite(format: Format, sign: bool, exp: i32, sig: u64, env: &mut Env) -> u64 {
    let rounded = format.round(sign, exp - BIAS, sig, env.rounding, env.masks);
    if rounded.flags & !env.masks & (OE | UE) != 0 {
        // SDM vol. 1, 8.5.6: inexactness is ignored where an unmasked overflow or underflow keeps memory unchanged.
        env.raise(rounded.flags & !PE);
        return 0;
    }
    env.raise(rounded.flags);
    env.c1 = rounded.up;
    rounded.bits
}

#[cold]
fn narrow_special(format: Format, a: F80, env: &mut Env) -> u64 {
    let sign = a.is_negative();
    match a.number(env) {
        Err(nan) => {
            // The NaN keeps the leading bits of its payload (the quiet bit is among them).
            let fraction = (nan.mantissa & !INTEGER) >> (63 - format.fraction);
            format.signed(nan.is_negative(), format.infinity() | fraction)
        }
        Ok(Magnitude::Zero) => format.signed(sign, 0),
        Ok(Magnitude::Infinite) => format.signed(sign, format.infinity()),
        // A store reports no denormal operand.
        Ok(Magnitude::Finite(x)) => narrow_finite(format, sign, x.exp, x.sig, env),
    }
}

/// A number rounded to an integer magnitude.
pub(super) struct Integer {
    pub magnitude: u64,
    pub inexact: bool,
    pub up: bool,
}

/// Rounds a number to an integer; `None` for what fits no 64-bit magnitude, and for NaNs.
pub(super) fn round_to_integer(a: F80, rounding: Round) -> Option<Integer> {
    if a.is_unsupported() || a.is_nan() {
        return None;
    }
    let x = match a.magnitude() {
        Magnitude::Zero => return Some(Integer { magnitude: 0, inexact: false, up: false }),
        Magnitude::Infinite => return None,
        Magnitude::Finite(x) => x,
    };
    let shift = BIAS + 63 - x.exp;
    if shift < 0 {
        return None;
    }
    let (kept, fraction) = shift_right_fraction(x.sig, shift.min(128) as u32);
    let up = rounding.increments(a.is_negative(), kept & 1 != 0, fraction);
    Some(Integer { magnitude: kept.checked_add(u64::from(up))?, inexact: fraction != 0, up })
}

/// The integer in the range of a signed type of `bits`, or IE and its most negative value.
fn to_integer(a: F80, bits: u32, rounding: Round, env: &mut Env) -> i64 {
    env.c1 = false;
    let limit = 1u64 << (bits - 1);
    match round_to_integer(a, rounding) {
        Some(Integer { magnitude, inexact, up }) if magnitude < limit + u64::from(a.is_negative()) => {
            if inexact {
                env.raise(PE);
            }
            env.c1 = up;
            if a.is_negative() { (magnitude as i64).wrapping_neg() } else { magnitude as i64 }
        }
        _ => {
            env.raise(IE);
            (limit as i64).wrapping_neg()
        }
    }
}

/// FIST m16int.
pub fn to_i16(a: F80, env: &mut Env) -> i16 {
    to_integer(a, 16, env.rounding, env) as i16
}

/// FIST m32int.
pub fn to_i32(a: F80, env: &mut Env) -> i32 {
    to_integer(a, 32, env.rounding, env) as i32
}

/// FISTP m64int.
pub fn to_i64(a: F80, env: &mut Env) -> i64 {
    to_integer(a, 64, env.rounding, env)
}

/// FISTTP m16int.
pub fn to_i16_trunc(a: F80, env: &mut Env) -> i16 {
    to_integer(a, 16, Round::Zero, env) as i16
}

/// FISTTP m32int.
pub fn to_i32_trunc(a: F80, env: &mut Env) -> i32 {
    to_integer(a, 32, Round::Zero, env) as i32
}

/// FISTTP m64int.
pub fn to_i64_trunc(a: F80, env: &mut Env) -> i64 {
    to_integer(a, 64, Round::Zero, env)
}
