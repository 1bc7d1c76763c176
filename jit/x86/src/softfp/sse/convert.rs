//! Conversions between single and double, and from integers.

use super::MxEnv;
use super::number::{Finite, Magnitude, accept_denormals, propagate_nan};
use super::soft::finish;
use crate::softfp::PE;
use crate::softfp::format::{DOUBLE, Format, SINGLE};

/// CVTSS2SD.
#[inline]
pub fn f32_to_f64(a: u32, env: &mut MxEnv) -> u64 {
    if (a & 0x7f80_0000).wrapping_sub(0x0080_0000) < 0x7f00_0000 {
        return f64::from(f32::from_bits(a)).to_bits();
    }
    convert_special(SINGLE, DOUBLE, u64::from(a), env)
}

/// CVTSD2SS.
#[inline]
pub fn f64_to_f32(a: u64, env: &mut MxEnv) -> u32 {
    let r = f64::from_bits(a) as f32;
    let exponent = r.to_bits() >> 23 & 0xff;
    // At the smallest normal numbers tininess depends on how the result was rounded.
    if env.nearest() && exponent.wrapping_sub(2) < 0xfd {
        if !env.precision_known() && f64::from(r).to_bits() != a {
            env.raise(PE);
        }
        return r.to_bits();
    }
    convert_special(DOUBLE, SINGLE, a, env) as u32
}

#[cold]
fn convert_special(from: Format, to: Format, a: u64, env: &mut MxEnv) -> u64 {
    let a = from.flushed(a, env);
    if let Some(nan) = propagate_nan(from, &[a], env) {
        return convert_nan(from, to, nan);
    }
    if !accept_denormals(from, &[a], env) {
        return 0;
    }
    let number = from.number(a);
    match number.magnitude {
        Magnitude::Zero => to.signed(number.sign, 0),
        Magnitude::Infinite => to.signed(number.sign, to.infinity()),
        Magnitude::Finite(Finite { exp, sig }) => finish(to, number.sign, exp, sig, env),
    }
}

/// A quiet NaN in another format: the leading bits of the payload stay.
pub(super) fn convert_nan(from: Format, to: Format, nan: u64) -> u64 {
    let payload = (nan & from.fraction_mask()) << (63 - from.fraction) >> (63 - to.fraction);
    to.signed(from.is_negative(nan), to.infinity() | payload)
}

/// CVTSI2SD from 32 bits: exact.
#[inline]
pub fn i32_to_f64(value: i32) -> u64 {
    f64::from(value).to_bits()
}

/// CVTSI2SD from 64 bits.
#[inline]
pub fn i64_to_f64(value: i64, env: &mut MxEnv) -> u64 {
    if env.nearest() {
        if !env.precision_known() && needs_more_than(value, 53) {
            env.raise(PE);
        }
        return (value as f64).to_bits();
    }
    from_integer(DOUBLE, value, env)
}

/// CVTSI2SS from 32 bits, CVTDQ2PS.
#[inline]
pub fn i32_to_f32(value: i32, env: &mut MxEnv) -> u32 {
    i64_to_f32(i64::from(value), env)
}

/// CVTSI2SS from 64 bits.
#[inline]
pub fn i64_to_f32(value: i64, env: &mut MxEnv) -> u32 {
    if env.nearest() {
        if !env.precision_known() && needs_more_than(value, 24) {
            env.raise(PE);
        }
        return (value as f32).to_bits();
    }
    from_integer(SINGLE, value, env) as u32
}

/// Whether the integer has more significant bits than a format.
#[inline(always)]
fn needs_more_than(value: i64, bits: u32) -> bool {
    let magnitude = value.unsigned_abs();
    magnitude != 0 && 64 - magnitude.leading_zeros() - magnitude.trailing_zeros() > bits
}

fn from_integer(format: Format, value: i64, env: &mut MxEnv) -> u64 {
    let magnitude = value.unsigned_abs();
    if magnitude == 0 {
        return 0;
    }
    let shift = magnitude.leading_zeros();
    // All 64 bits are kept: an integer needs no sticky bit.
    finish(format, value < 0, 63 - shift as i32, magnitude << shift, env)
}
