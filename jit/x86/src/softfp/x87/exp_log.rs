//! F2XM1, FYL2X and FYL2XP1.
//!
//! The results are rounded from 128-bit approximations good to some 120 bits, so that they are correctly rounded but
//! for one operand in about 2^55.

use super::Env;
use super::number::{BIAS, F80, Finite, INTEGER, Magnitude, accept_denormals, numbers};
use super::round::round_pack_extended;
use crate::softfp::wide::{Wide, mul_high};
use crate::softfp::{PE, UE, ZE};

/// ln 2.
const LN_2: Wide = Wide { sign: false, exp: -1, sig: 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af };
/// 2 / ln 2.
const TWO_OVER_LN_2: Wide = Wide { sign: false, exp: 1, sig: 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88 };
/// One, in units of 2^-127.
const ONE: u128 = 1 << 127;

impl Finite {
    /// As a wide number.
    #[inline]
    pub(super) const fn wide(self, sign: bool) -> Wide {
        Wide { sign, exp: self.exp - BIAS, sig: (self.sig as u128) << 64 }
    }
}

/// Rounds an approximation of an irrational value.
pub(super) fn round_irrational(value: Wide, env: &mut Env) -> F80 {
    round_pack_extended(value.sign, value.exp + BIAS, value.sig | 1, env)
}

/// Rounds a value that happens to be exact. Processors flag it as inexact all the same, and so as an underflow if tiny.
fn round_coincidence(sign: bool, exp: i32, sig: u128, env: &mut Env) -> F80 {
    let result = round_pack_extended(sign, exp, sig, env);
    env.raise(if result.is_denormal() { UE | PE } else { PE });
    result
}

/// Coefficients of (e^u - 1 - u) / u^2: 1/(k + 2)!, as fractions.
const EXP_SERIES: [u128; 31] = {
    let mut table = [0; 31];
    let mut term = 1u128 << 127;
    let mut k = 0;
    while k < 31 {
        table[k] = term;
        term /= k as u128 + 3;
        k += 1;
    }
    table
};

/// F2XM1: `2^a - 1`. Defined for |a| <= 1; larger operands come back unchanged.
pub fn f2xm1(a: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let sign = a.is_negative();
    let x = match a.number(env) {
        Err(nan) => return nan,
        Ok(Magnitude::Zero) => return a,
        Ok(Magnitude::Infinite) => return if sign { F80::ONE.neg() } else { a },
        Ok(Magnitude::Finite(x)) => x,
    };
    if a.is_denormal() && !env.denormal() {
        return a;
    }
    if x.exp >= BIAS {
        let minus_one = sign && x.exp == BIAS && x.sig == INTEGER;
        env.raise(PE);
        return if minus_one { F80::new(true, BIAS - 1, INTEGER) } else { a };
    }
    let power = x.wide(sign).mul(LN_2);
    let u = power.fraction();
    let series = EXP_SERIES.iter().rev().fold(0, |sum, &term| {
        let product = mul_high(u, sum);
        if sign { term - product } else { term + product }
    });
    // (e^u - 1) / u lies in [0.72, 1.45].
    let tail = mul_high(u, series) >> 1;
    let factor = if sign { ONE - tail } else { ONE + tail };
    round_irrational(power.mul(Wide::new(false, 0, factor)), env)
}

/// Coefficients of the series of 2 artanh(s) / (2 s) - 1 in s^2, divided by s^2: 1/(2k + 3), as fractions.
const ARTANH_SERIES: [u128; 26] = {
    let mut table = [0; 26];
    let mut k = 0;
    while k < 26 {
        table[k] = u128::MAX / (2 * k as u128 + 3);
        k += 1;
    }
    table
};

/// `log2((1 + s) / (1 - s))` for |s| below 0.1716, with a small relative error.
fn log2_ratio(s: Wide) -> Wide {
    let square = s.mul(s).fraction();
    let series = ARTANH_SERIES.iter().rev().fold(0, |sum, &term| term + mul_high(square, sum));
    let factor = ONE + (mul_high(square, series) >> 1);
    s.mul(Wide::new(false, 0, factor)).mul(TWO_OVER_LN_2)
}

/// `log2` of a number that is not a power of two.
fn log2(x: Finite) -> Wide {
    const SQRT_2: u64 = 0xb504_f333_f9de_6484;
    let one = u128::from(INTEGER);
    let m = u128::from(x.sig);
    // m in [1, sqrt 2) as it is, m in [sqrt 2, 2) as its half.
    let (power, numerator, denominator) = if x.sig < SQRT_2 {
        (x.exp - BIAS, Wide::new(false, 64, m - one), m + one)
    } else {
        (x.exp - BIAS + 1, Wide::new(true, 64, 2 * one - m), m + 2 * one)
    };
    let fraction = log2_ratio(numerator.div(Wide::new(false, 64, denominator)));
    match power {
        0 => fraction,
        _ => Wide::new(power < 0, 127, u128::from(power.unsigned_abs())).add(fraction),
    }
}

/// FYL2X: `y * log2(x)`.
pub fn fyl2x(y: F80, x: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let (my, mx) = match numbers(y, x, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    let sign = y.is_negative();
    match (my, mx) {
        (_, Magnitude::Finite(_) | Magnitude::Infinite) if x.is_negative() => return env.invalid(),
        (Magnitude::Zero, Magnitude::Zero | Magnitude::Infinite) => return env.invalid(),
        (Magnitude::Infinite, _) if x == F80::ONE => return env.invalid(),
        (Magnitude::Finite(_), Magnitude::Zero) => {
            // A denormal factor goes unreported.
            env.raise(ZE);
            return F80::infinity(!sign);
        }
        _ => {}
    }
    if !accept_denormals(y, x, env) {
        return y;
    }
    let m = match mx {
        Magnitude::Zero => return F80::infinity(!sign),
        Magnitude::Infinite => return F80::infinity(sign),
        Magnitude::Finite(m) => m,
    };
    let sign = sign != (m.exp < BIAS);
    match my {
        Magnitude::Zero => F80::zero(sign),
        Magnitude::Infinite => F80::infinity(sign),
        Magnitude::Finite(n) if m.sig == INTEGER => {
            // A power of two: the product is exact in 128 bits.
            let product = u128::from(n.sig) * u128::from((m.exp - BIAS).unsigned_abs());
            if product == 0 {
                // log2(1) is exact, and reported so.
                return F80::zero(sign);
            }
            let shift = product.leading_zeros();
            round_coincidence(sign, n.exp + 64 - shift as i32, product << shift, env)
        }
        Magnitude::Finite(n) => round_irrational(n.wide(y.is_negative()).mul(log2(m)), env),
    }
}

/// FYL2XP1: `y * log2(x + 1)`. Specified for |x| < 1 - sqrt(2)/2; computed for every x above -1; other x come back
/// unchanged.
pub fn fyl2xp1(y: F80, x: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let (my, mx) = match numbers(y, x, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    let sign = y.is_negative() != x.is_negative();
    match (my, mx) {
        (Magnitude::Zero, Magnitude::Infinite) | (Magnitude::Infinite, Magnitude::Zero) => {
            return env.invalid();
        }
        (_, Magnitude::Infinite) if x.is_negative() => return env.invalid(),
        _ => {}
    }
    if !accept_denormals(y, x, env) {
        return y;
    }
    match (my, mx) {
        (Magnitude::Zero, _) | (_, Magnitude::Zero) => F80::zero(sign),
        (Magnitude::Infinite, _) | (_, Magnitude::Infinite) => F80::infinity(sign),
        (Magnitude::Finite(_), Magnitude::Finite(m)) if x.is_negative() && m.exp >= BIAS => {
            env.raise(PE);
            x
        }
        (Magnitude::Finite(n), Magnitude::Finite(m)) => {
            log2_plus_one(n.wide(y.is_negative()), m, x.is_negative(), env)
        }
    }
}

fn log2_plus_one(factor: Wide, x: Finite, negative: bool, env: &mut Env) -> F80 {
    const ONE_WIDE: Wide = Wide { sign: false, exp: 0, sig: ONE };
    const TWO: Wide = Wide { sign: false, exp: 1, sig: ONE };
    let wide = x.wide(negative);
    // |x| < 1/4: log2(1 + x) is the ratio form with s = x / (2 + x).
    if x.exp < BIAS - 2 {
        return round_irrational(factor.mul(log2_ratio(wide.div(TWO.add(wide)))), env);
    }
    // Here 1 + x is exact in 128 bits, or so large that its last bits do not matter.
    let sum = ONE_WIDE.add(wide);
    if sum.sig == ONE {
        let power = i128::from(sum.exp).unsigned_abs();
        if power == 0 {
            return F80::zero(factor.sign != negative);
        }
        let value = factor.mul(Wide::new(sum.exp < 0, 127, power));
        return round_coincidence(value.sign, value.exp + BIAS, value.sig, env);
    }
    round_irrational(factor.mul(log2_wide(sum)), env)
}

/// `log2` of a wide number that is no power of two.
fn log2_wide(x: Wide) -> Wide {
    const SQRT_2: u128 = 0xb504_f333_f9de_6484 << 64;
    let half = x.sig >> 1;
    let one = ONE >> 1;
    let (power, numerator, denominator) = if x.sig < SQRT_2 {
        (x.exp, Wide::new(false, 0, x.sig - ONE), half + one)
    } else {
        // m/2 - 1 and m/2 + 1.
        (x.exp + 1, Wide::new(true, -1, 0u128.wrapping_sub(x.sig)), (half >> 1) + one)
    };
    let s = numerator.div(Wide::new(false, 1, denominator));
    let fraction = log2_ratio(s);
    match power {
        0 => fraction,
        _ => Wide::new(power < 0, 127, u128::from(power.unsigned_abs())).add(fraction),
    }
}
