//! Rounding into the 80-bit format, with the x87's responses to overflow and underflow.

use super::number::{F80, INTEGER, MAX_EXP};
use super::{Env, OE, Precision, UE};
use crate::softfp::PE;
use crate::softfp::format::shift_right_sticky_wide;

/// What an unmasked overflow or underflow scales the exponent by (SDM vol. 1, 8.5.4): 3 * 2^13.
const SCALE: i32 = 24576;

/// A significand rounded to `bits`, in the top bits of the word.
struct Significand {
    sig: u64,
    /// The rounding carried out of bit 63; `sig` is then the integer bit alone.
    carry: bool,
    inexact: bool,
    up: bool,
}

#[inline(always)]
fn round_significand(sign: bool, sig: u128, bits: u32, env: &Env) -> Significand {
    let (high, low) = ((sig >> 64) as u64, sig as u64);
    if bits == 64 {
        let up = env.rounding.increments(sign, high & 1 != 0, low);
        let (sum, carry) = high.overflowing_add(u64::from(up));
        return Significand { sig: if carry { INTEGER } else { sum }, carry, inexact: low != 0, up };
    }
    let unit = 1u64 << (64 - bits);
    let fraction = high << bits | u64::from(low != 0);
    let kept = high & unit.wrapping_neg();
    let up = env.rounding.increments(sign, high & unit != 0, fraction);
    let (sum, carry) = kept.overflowing_add(if up { unit } else { 0 });
    Significand { sig: if carry { INTEGER } else { sum }, carry, inexact: fraction != 0, up }
}

/// Rounds `sig * 2^(exp - BIAS - 127)` to the precision of the control word. Bit 127 of `sig` is set, bit 0 sticky.
#[inline(always)]
pub(super) fn round_pack(sign: bool, exp: i32, sig: u128, env: &mut Env) -> F80 {
    round_pack_to(sign, exp, sig, env.precision, env)
}

/// As [`round_pack`], but to 64 bits, as all instructions do that the precision control does not cover.
#[inline]
pub(super) fn round_pack_extended(sign: bool, exp: i32, sig: u128, env: &mut Env) -> F80 {
    round_pack_to(sign, exp, sig, Precision::P64, env)
}

#[inline(always)]
fn round_pack_to(sign: bool, exp: i32, sig: u128, precision: Precision, env: &mut Env) -> F80 {
    // The last exponent is left to the slow path: its carry overflows.
    if (exp - 1) as u32 >= MAX_EXP as u32 - 2 {
        return round_pack_extreme(sign, exp, sig, precision, env);
    }
    let rounded = round_significand(sign, sig, precision.bits(), env);
    if rounded.inexact {
        env.flags |= PE;
    }
    env.c1 = rounded.up;
    F80::new(sign, exp + i32::from(rounded.carry), rounded.sig)
}

#[cold]
fn round_pack_extreme(sign: bool, exp: i32, sig: u128, precision: Precision, env: &mut Env) -> F80 {
    let bits = precision.bits();
    let rounded = round_significand(sign, sig, bits, env);
    let unbounded = exp + i32::from(rounded.carry);
    if unbounded < 1 && env.masks & UE != 0 || exp < 1 && unbounded >= 1 {
        return denormalize(sign, exp, sig, bits, unbounded < 1, env);
    }
    env.c1 = rounded.up;
    if rounded.inexact {
        env.raise(PE);
    }
    if unbounded < 1 {
        env.raise(UE);
        return scaled(sign, unbounded + SCALE, rounded.sig, env);
    }
    if unbounded < MAX_EXP {
        return F80::new(sign, unbounded, rounded.sig);
    }
    env.raise(OE);
    if env.masks & OE == 0 {
        return scaled(sign, unbounded - SCALE, rounded.sig, env);
    }
    env.raise(PE);
    env.c1 = env.rounding.overflows_to_infinity(sign);
    if env.c1 { F80::infinity(sign) } else { F80::new(sign, MAX_EXP - 1, u64::MAX << (64 - bits)) }
}

/// The scaled result of an unmasked overflow or underflow. Only FSCALE can leave the range even so; it then gives an
/// infinity or a zero (SDM vol. 2, FSCALE).
fn scaled(sign: bool, exp: i32, sig: u64, env: &mut Env) -> F80 {
    if exp >= MAX_EXP {
        env.raise(PE);
        env.c1 = true;
        F80::infinity(sign)
    } else if exp < 1 {
        env.raise(PE);
        env.c1 = false;
        F80::zero(sign)
    } else {
        F80::new(sign, exp, sig)
    }
}

/// The masked response to a tiny result, and the exponents just below normal that rounding makes normal.
fn denormalize(sign: bool, exp: i32, sig: u128, bits: u32, tiny: bool, env: &mut Env) -> F80 {
    let shifted = shift_right_sticky_wide(sig, (1 - exp) as u32);
    let rounded = round_significand(sign, shifted, bits, env);
    if rounded.inexact {
        env.raise(if tiny { UE | PE } else { PE });
    }
    env.c1 = rounded.up;
    // No carry leaves the word: the shift freed its top bit.
    F80::new(sign, i32::from(rounded.sig & INTEGER != 0), rounded.sig)
}
