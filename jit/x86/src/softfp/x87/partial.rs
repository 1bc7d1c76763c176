//! FRNDINT, FSCALE, FXTRACT, FPREM and FPREM1.

use super::convert::from_i64;
use super::number::{BIAS, F80, Finite, MAX_EXP, Magnitude, accept_denormals, numbers};
use super::round::round_pack_extended;
use super::{C0, C1, C2, C3, Env};
use crate::softfp::format::shift_right_fraction;
use crate::softfp::{PE, ZE};

/// FRNDINT.
pub fn rndint(a: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let x = match a.number(env) {
        Err(nan) => return nan,
        Ok(Magnitude::Finite(x)) => x,
        Ok(_) => return a,
    };
    if a.is_denormal() && !env.denormal() {
        return a;
    }
    let shift = BIAS + 63 - x.exp;
    if shift <= 0 {
        return a;
    }
    let sign = a.is_negative();
    let (kept, fraction) = shift_right_fraction(x.sig, shift.min(128) as u32);
    let up = env.rounding.increments(sign, kept & 1 != 0, fraction);
    if fraction != 0 {
        env.raise(PE);
    }
    env.c1 = up;
    // At least one bit was dropped, so the increment cannot overflow.
    super::convert::from_magnitude(sign, kept + u64::from(up))
}

/// FSCALE: `a * 2^trunc(b)`.
pub fn scale(a: F80, b: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let (x, y) = match numbers(a, b, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    let sign = a.is_negative();
    match (x, y, b.is_negative()) {
        (Magnitude::Zero, Magnitude::Infinite, false) | (Magnitude::Infinite, Magnitude::Infinite, true) => {
            return env.invalid();
        }
        _ => {}
    }
    if !accept_denormals(a, b, env) {
        return a;
    }
    match (x, y) {
        (Magnitude::Zero | Magnitude::Infinite, _) | (_, Magnitude::Zero) if !a.is_denormal() => a,
        (_, Magnitude::Infinite) => {
            if b.is_negative() {
                F80::zero(sign)
            } else {
                F80::infinity(sign)
            }
        }
        (Magnitude::Finite(x), y) => {
            let power = truncated(y);
            let power = if b.is_negative() { -power } else { power };
            round_pack_extended(sign, x.exp + power, u128::from(x.sig) << 64, env)
        }
        _ => a,
    }
}

/// The integer part, or something larger than every exponent difference.
fn truncated(magnitude: Magnitude) -> i32 {
    const HUGE: i32 = 0x20000;
    match magnitude {
        Magnitude::Zero => 0,
        Magnitude::Infinite => HUGE,
        Magnitude::Finite(Finite { exp, .. }) if exp < BIAS => 0,
        Magnitude::Finite(Finite { exp, .. }) if exp > BIAS + 16 => HUGE,
        Magnitude::Finite(Finite { exp, sig }) => (sig >> (BIAS + 63 - exp)) as i32,
    }
}

/// The two results of FXTRACT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Pushed: the number with its exponent made zero.
    pub significand: F80,
    /// Replaces the operand: the unbiased exponent.
    pub exponent: F80,
}

/// FXTRACT.
pub fn extract(a: F80, env: &mut Env) -> Extract {
    env.c1 = false;
    match a.number(env) {
        Err(nan) => Extract { significand: nan, exponent: nan },
        Ok(Magnitude::Zero) => {
            env.raise(ZE);
            Extract { significand: a, exponent: F80::infinity(true) }
        }
        Ok(Magnitude::Infinite) => Extract { significand: a, exponent: F80::INFINITY },
        Ok(Magnitude::Finite(x)) => {
            if a.is_denormal() {
                env.denormal();
            }
            Extract {
                significand: F80::new(a.is_negative(), BIAS, x.sig),
                exponent: from_i64(i64::from(x.exp - BIAS)),
            }
        }
    }
}

/// The result of FPREM and FPREM1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// The remainder, or the partial remainder.
    pub value: F80,
    /// The low three bits of the quotient; zero while `partial`.
    pub quotient: u8,
    /// The reduction is incomplete.
    pub partial: bool,
}

impl Remainder {
    /// C0-C3 at their places in the status word.
    pub const fn codes(self) -> u16 {
        (if self.quotient & 4 != 0 { C0 } else { 0 })
            | (if self.quotient & 2 != 0 { C3 } else { 0 })
            | (if self.quotient & 1 != 0 { C1 } else { 0 })
            | (if self.partial { C2 } else { 0 })
    }

    const fn complete(value: F80) -> Self {
        Self { value, quotient: 0, partial: false }
    }
}

/// FPREM: the quotient is truncated.
pub fn prem(a: F80, b: F80, env: &mut Env) -> Remainder {
    remainder(a, b, false, env)
}

/// FPREM1: the quotient is rounded to nearest, as IEEE 754 defines the remainder.
pub fn prem1(a: F80, b: F80, env: &mut Env) -> Remainder {
    remainder(a, b, true, env)
}

fn remainder(a: F80, b: F80, nearest: bool, env: &mut Env) -> Remainder {
    env.c1 = false;
    let (x, y) = match numbers(a, b, env) {
        Ok(pair) => pair,
        Err(nan) => return Remainder::complete(nan),
    };
    if let (Magnitude::Infinite, _) | (_, Magnitude::Zero) = (x, y) {
        return Remainder::complete(env.invalid());
    }
    if !accept_denormals(a, b, env) {
        return Remainder::complete(a);
    }
    match (x, y) {
        (Magnitude::Finite(x), Magnitude::Finite(y)) => reduce(a.is_negative(), x, y, nearest, env),
        (Magnitude::Finite(x), _) => {
            Remainder::complete(exact(a.is_negative(), x.exp, u128::from(x.sig), env))
        }
        _ => Remainder::complete(a),
    }
}

fn reduce(sign: bool, x: Finite, y: Finite, nearest: bool, env: &mut Env) -> Remainder {
    let difference = x.exp - y.exp;
    let divisor = u128::from(y.sig);
    if difference >= 64 {
        // A step takes 32 to 63 bits off the exponent difference and leaves a multiple of 32 (processors' choice
        // within the SDM's "between 32 and 63").
        let step = difference % 32 + 32;
        let rest = (u128::from(x.sig) << step) % divisor;
        let value = exact(sign, y.exp + difference - step, rest, env);
        return Remainder { value, quotient: 0, partial: true };
    }
    if difference < -1 || (difference < 0 && !nearest) {
        return Remainder::complete(exact(sign, x.exp, u128::from(x.sig), env));
    }
    // In units of the smaller of the two last places.
    let unit = x.exp.min(y.exp);
    let dividend = u128::from(x.sig) << difference.max(0);
    let divisor = divisor << (-difference).max(0);
    let (mut quotient, mut rest) = (dividend / divisor, dividend % divisor);
    let mut flipped = sign;
    if nearest && (2 * rest > divisor || (2 * rest == divisor && quotient & 1 != 0)) {
        quotient += 1;
        rest = divisor - rest;
        flipped = !sign;
    }
    let value = if rest == 0 { F80::zero(sign) } else { exact(flipped, unit, rest, env) };
    Remainder { value, quotient: (quotient & 7) as u8, partial: false }
}

/// `sig * 2^(exp - BIAS - 63)`, known to be representable (it can still be tiny).
fn exact(sign: bool, exp: i32, sig: u128, env: &mut Env) -> F80 {
    if sig == 0 {
        return F80::zero(sign);
    }
    let shift = sig.leading_zeros();
    let exp = exp + 64 - shift as i32;
    debug_assert!(exp < MAX_EXP);
    round_pack_extended(sign, exp, sig << shift, env)
}
