//! FADD, FSUB, FMUL, FDIV, FSQRT and the comparisons.
//!
//! Two normal operands take straight-line integer code; everything else goes through a cold function that sorts out
//! NaNs, infinities, zeros and denormals and then uses the same magnitude arithmetic.

use core::cmp::Ordering;

use super::number::{BIAS, F80, Finite, Magnitude, accept_denormals, numbers};
use super::round::round_pack;
use super::{Env, Round};
use crate::softfp::format::shift_right_sticky;
use crate::softfp::{IE, Relation, ZE};

/// `a + b`.
#[inline]
pub fn add(a: F80, b: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    if a.is_normal() && b.is_normal() {
        return add_finite(a.is_negative(), finite(a), b.is_negative(), finite(b), env);
    }
    add_special(a, b, false, env)
}

/// `a - b`.
#[inline]
pub fn sub(a: F80, b: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    if a.is_normal() && b.is_normal() {
        return add_finite(a.is_negative(), finite(a), !b.is_negative(), finite(b), env);
    }
    add_special(a, b, true, env)
}

/// `a * b`.
#[inline]
pub fn mul(a: F80, b: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let sign = a.is_negative() != b.is_negative();
    if a.is_normal() && b.is_normal() {
        return mul_finite(sign, finite(a), finite(b), env);
    }
    mul_special(sign, a, b, env)
}

/// `a / b`.
#[inline]
pub fn div(a: F80, b: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let sign = a.is_negative() != b.is_negative();
    if a.is_normal() && b.is_normal() {
        return div_finite(sign, finite(a), finite(b), env);
    }
    div_special(sign, a, b, env)
}

#[inline(always)]
fn finite(a: F80) -> Finite {
    Finite { exp: a.exp(), sig: a.mantissa }
}

#[inline(always)]
fn add_finite(sign_a: bool, a: Finite, sign_b: bool, b: Finite, env: &mut Env) -> F80 {
    let order = |x: Finite| i128::from(x.exp) << 64 | i128::from(x.sig);
    let swap = order(b) > order(a);
    let (sign, big, small) = if swap { (sign_b, b, a) } else { (sign_a, a, b) };
    let shift = (big.exp - small.exp) as u32;
    // The smaller operand in units of the larger's last place, and its fraction below that.
    let (aligned, fraction) = if shift < 64 {
        (small.sig >> shift, (small.sig << 1) << (63 - shift))
    } else {
        (0, shift_right_sticky(small.sig, shift - 64))
    };
    if sign_a == sign_b {
        let (sum, carry) = big.sig.overflowing_add(aligned);
        let (exp, high, low) = if carry {
            (big.exp + 1, sum >> 1 | 1 << 63, sum << 63 | fraction >> 1 | fraction & 1)
        } else {
            (big.exp, sum, fraction)
        };
        return round_pack(sign, exp, u128::from(high) << 64 | u128::from(low), env);
    }
    let difference = (u128::from(big.sig) << 64) - (u128::from(aligned) << 64 | u128::from(fraction));
    if difference == 0 {
        return F80::zero(env.rounding == Round::Down);
    }
    let shift = difference.leading_zeros();
    round_pack(sign, big.exp - shift as i32, difference << shift, env)
}

#[inline(always)]
fn mul_finite(sign: bool, a: Finite, b: Finite, env: &mut Env) -> F80 {
    let product = u128::from(a.sig) * u128::from(b.sig);
    let shift = (product >> 127) as u32 ^ 1;
    round_pack(sign, a.exp + b.exp - BIAS + 1 - shift as i32, product << shift, env)
}

#[inline(always)]
fn div_finite(sign: bool, a: Finite, b: Finite, env: &mut Env) -> F80 {
    // The quotient's integer bit is made to fall on bit 63.
    let below = a.sig < b.sig;
    let dividend = u128::from(a.sig) << (63 + u32::from(below));
    let divisor = u128::from(b.sig);
    let quotient = dividend / divisor;
    let remainder = dividend - quotient * divisor;
    let fraction = tail(remainder, divisor);
    round_pack(sign, a.exp - b.exp + BIAS - i32::from(below), quotient << 64 | u128::from(fraction), env)
}

/// The digits of `remainder / divisor` that rounding needs: the first bit, and whether anything follows.
#[inline(always)]
fn tail(remainder: u128, divisor: u128) -> u64 {
    match (remainder * 2).cmp(&divisor) {
        _ if remainder == 0 => 0,
        Ordering::Less => 1,
        Ordering::Equal => 1 << 63,
        Ordering::Greater => 1 << 63 | 1,
    }
}

#[cold]
fn add_special(a: F80, b: F80, negate: bool, env: &mut Env) -> F80 {
    // A NaN operand of FSUB keeps its sign: negate only once it is known to be a number.
    let (x, y) = match numbers(a, b, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    let (sign_a, sign_b) = (a.is_negative(), b.is_negative() != negate);
    if let (Magnitude::Infinite, Magnitude::Infinite) = (x, y)
        && sign_a != sign_b
    {
        return env.invalid();
    }
    if !accept_denormals(a, b, env) {
        return a;
    }
    match (x, y) {
        (Magnitude::Infinite, _) => F80::infinity(sign_a),
        (_, Magnitude::Infinite) => F80::infinity(sign_b),
        (Magnitude::Zero, Magnitude::Zero) => {
            F80::zero(if sign_a == sign_b { sign_a } else { env.rounding == Round::Down })
        }
        (Magnitude::Finite(x), Magnitude::Finite(y)) => add_finite(sign_a, x, sign_b, y, env),
        // Adding a zero still rounds to the precision of the control word.
        (Magnitude::Finite(x), Magnitude::Zero) => round_pack(sign_a, x.exp, u128::from(x.sig) << 64, env),
        (Magnitude::Zero, Magnitude::Finite(y)) => round_pack(sign_b, y.exp, u128::from(y.sig) << 64, env),
    }
}

#[cold]
fn mul_special(sign: bool, a: F80, b: F80, env: &mut Env) -> F80 {
    let (x, y) = match numbers(a, b, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    if let (Magnitude::Infinite, Magnitude::Zero) | (Magnitude::Zero, Magnitude::Infinite) = (x, y) {
        return env.invalid();
    }
    if !accept_denormals(a, b, env) {
        return a;
    }
    match (x, y) {
        (Magnitude::Infinite, _) | (_, Magnitude::Infinite) => F80::infinity(sign),
        (Magnitude::Zero, _) | (_, Magnitude::Zero) => F80::zero(sign),
        (Magnitude::Finite(x), Magnitude::Finite(y)) => mul_finite(sign, x, y, env),
    }
}

#[cold]
fn div_special(sign: bool, a: F80, b: F80, env: &mut Env) -> F80 {
    let (x, y) = match numbers(a, b, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    match (x, y) {
        (Magnitude::Infinite, Magnitude::Infinite) | (Magnitude::Zero, Magnitude::Zero) => {
            return env.invalid();
        }
        (Magnitude::Finite(_), Magnitude::Zero) => {
            // A denormal dividend goes unreported.
            env.raise(ZE);
            return F80::infinity(sign);
        }
        _ => {}
    }
    if !accept_denormals(a, b, env) {
        return a;
    }
    match (x, y) {
        (Magnitude::Infinite, _) | (Magnitude::Finite(_), Magnitude::Zero) => F80::infinity(sign),
        (Magnitude::Zero, _) | (_, Magnitude::Infinite) => F80::zero(sign),
        (Magnitude::Finite(x), Magnitude::Finite(y)) => div_finite(sign, x, y, env),
    }
}

/// The square root.
pub fn sqrt(a: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let magnitude = match a.number(env) {
        Ok(magnitude) => magnitude,
        Err(nan) => return nan,
    };
    match magnitude {
        Magnitude::Zero => a,
        _ if a.is_negative() => env.invalid(),
        Magnitude::Infinite => a,
        Magnitude::Finite(_) if a.is_denormal() && !env.denormal() => a,
        Magnitude::Finite(x) => {
            let odd = (x.exp - BIAS) & 1;
            let radicand = u128::from(x.sig) << (63 + odd);
            let root = radicand.isqrt();
            let remainder = radicand - root * root;
            // A tie is impossible: (root + 1/2)^2 is not an integer.
            let fraction = match remainder {
                0 => 0,
                _ if remainder <= root => 1,
                _ => 1 << 63 | 1,
            };
            round_pack(false, (x.exp - BIAS - odd) / 2 + BIAS, root << 64 | fraction, env)
        }
    }
}

/// FCOM, FCOMI, FTST: every NaN is invalid.
pub fn compare(a: F80, b: F80, env: &mut Env) -> Relation {
    compare_numbers(a, b, true, env)
}

/// FUCOM, FUCOMI: quiet NaNs only give `Unordered`.
pub fn compare_quiet(a: F80, b: F80, env: &mut Env) -> Relation {
    compare_numbers(a, b, false, env)
}

fn compare_numbers(a: F80, b: F80, signal_quiet: bool, env: &mut Env) -> Relation {
    env.c1 = false;
    let (x, y) = match numbers(a, b, env) {
        Ok(pair) => pair,
        Err(_) => {
            if signal_quiet {
                env.raise(IE);
            }
            return Relation::Unordered;
        }
    };
    accept_denormals(a, b, env);
    let order = match (key(x), key(y)) {
        ((0, 0, 0), (0, 0, 0)) => Ordering::Equal,
        (x, y) => match (a.is_negative(), b.is_negative()) {
            (false, false) => x.cmp(&y),
            (true, true) => y.cmp(&x),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        },
    };
    match order {
        Ordering::Less => Relation::Less,
        Ordering::Equal => Relation::Equal,
        Ordering::Greater => Relation::Greater,
    }
}

/// Orders magnitudes.
fn key(magnitude: Magnitude) -> (u8, i32, u64) {
    match magnitude {
        Magnitude::Zero => (0, 0, 0),
        Magnitude::Finite(x) => (1, x.exp, x.sig),
        Magnitude::Infinite => (2, 0, 0),
    }
}
