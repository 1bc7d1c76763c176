//! The integer arithmetic: complete for every operand, rounding mode and mask.

use core::cmp::Ordering;

use super::MxEnv;
use super::number::{Finite, Magnitude, Number, accept_denormals, propagate_nan};
use crate::softfp::format::{Format, shift_right_sticky, shift_right_sticky_wide};
use crate::softfp::{IE, PE, Round, UE, ZE};

/// Rounds `sig * 2^(exp - 63)`, bit 63 set and bit 0 sticky; applies FTZ.
#[inline]
pub(super) fn finish(format: Format, sign: bool, exp: i32, sig: u64, env: &mut MxEnv) -> u64 {
    let rounded = format.round(sign, exp, sig, env.rounding, env.masks);
    if rounded.tiny && env.ftz && env.masks & UE != 0 {
        env.raise(UE | PE);
        return format.signed(sign, 0);
    }
    env.raise(rounded.flags);
    rounded.bits
}

/// Narrows a significand, keeping what is lost as a sticky bit.
#[inline(always)]
fn sticky(sig: u128) -> u64 {
    (sig >> 64) as u64 | u64::from(sig as u64 != 0)
}

fn invalid(format: Format, env: &mut MxEnv) -> u64 {
    env.raise(IE);
    format.indefinite()
}

/// `a + b`, or `a - b` if `negate`.
#[cold]
pub(super) fn add(format: Format, a: u64, b: u64, negate: bool, env: &mut MxEnv) -> u64 {
    let (a, b) = (format.flushed(a, env), format.flushed(b, env));
    if let Some(nan) = propagate_nan(format, &[a, b], env) {
        return nan;
    }
    let (x, mut y) = (format.number(a), format.number(b));
    y.sign ^= negate;
    if let (Magnitude::Infinite, Magnitude::Infinite) = (x.magnitude, y.magnitude)
        && x.sign != y.sign
    {
        return invalid(format, env);
    }
    if !accept_denormals(format, &[a, b], env) {
        return a;
    }
    match (x.magnitude, y.magnitude) {
        (Magnitude::Infinite, _) => format.signed(x.sign, format.infinity()),
        (_, Magnitude::Infinite) => format.signed(y.sign, format.infinity()),
        (Magnitude::Zero, Magnitude::Zero) => {
            format.signed(if x.sign == y.sign { x.sign } else { env.rounding == Round::Down }, 0)
        }
        (Magnitude::Finite(n), Magnitude::Zero) => finish(format, x.sign, n.exp, n.sig, env),
        (Magnitude::Zero, Magnitude::Finite(n)) => finish(format, y.sign, n.exp, n.sig, env),
        (Magnitude::Finite(n), Magnitude::Finite(m)) => {
            let swap = (m.exp, m.sig) > (n.exp, n.sig);
            let (sign, big, small) = if swap { (y.sign, m, n) } else { (x.sign, n, m) };
            // Significands have at most 53 bits: halving them loses nothing and leaves room for the carry.
            let aligned = shift_right_sticky(small.sig >> 1, (big.exp - small.exp) as u32);
            let sum = if x.sign == y.sign { (big.sig >> 1) + aligned } else { (big.sig >> 1) - aligned };
            if sum == 0 {
                return format.signed(env.rounding == Round::Down, 0);
            }
            let shift = sum.leading_zeros();
            finish(format, sign, big.exp + 1 - shift as i32, sum << shift, env)
        }
    }
}

/// `a * b`.
#[cold]
pub(super) fn mul(format: Format, a: u64, b: u64, env: &mut MxEnv) -> u64 {
    let (a, b) = (format.flushed(a, env), format.flushed(b, env));
    if let Some(nan) = propagate_nan(format, &[a, b], env) {
        return nan;
    }
    let (x, y) = (format.number(a), format.number(b));
    if let (Magnitude::Infinite, Magnitude::Zero) | (Magnitude::Zero, Magnitude::Infinite) =
        (x.magnitude, y.magnitude)
    {
        return invalid(format, env);
    }
    if !accept_denormals(format, &[a, b], env) {
        return a;
    }
    let sign = x.sign != y.sign;
    match (x.magnitude, y.magnitude) {
        (Magnitude::Infinite, _) | (_, Magnitude::Infinite) => format.signed(sign, format.infinity()),
        (Magnitude::Zero, _) | (_, Magnitude::Zero) => format.signed(sign, 0),
        (Magnitude::Finite(n), Magnitude::Finite(m)) => {
            let (exp, product) = multiply(n, m);
            finish(format, sign, exp, sticky(product), env)
        }
    }
}

/// The exact product: exponent and a significand with bit 127 set.
#[inline]
fn multiply(n: Finite, m: Finite) -> (i32, u128) {
    let product = u128::from(n.sig) * u128::from(m.sig);
    let shift = product.leading_zeros();
    (n.exp + m.exp + 1 - shift as i32, product << shift)
}

/// `a / b`.
#[cold]
pub(super) fn div(format: Format, a: u64, b: u64, env: &mut MxEnv) -> u64 {
    let (a, b) = (format.flushed(a, env), format.flushed(b, env));
    if let Some(nan) = propagate_nan(format, &[a, b], env) {
        return nan;
    }
    let (x, y) = (format.number(a), format.number(b));
    let sign = x.sign != y.sign;
    match (x.magnitude, y.magnitude) {
        (Magnitude::Infinite, Magnitude::Infinite) | (Magnitude::Zero, Magnitude::Zero) => {
            return invalid(format, env);
        }
        (Magnitude::Finite(_), Magnitude::Zero) => {
            // A denormal dividend goes unreported.
            env.raise(ZE);
            return format.signed(sign, format.infinity());
        }
        _ => {}
    }
    if !accept_denormals(format, &[a, b], env) {
        return a;
    }
    match (x.magnitude, y.magnitude) {
        (Magnitude::Infinite, _) | (Magnitude::Finite(_), Magnitude::Zero) => {
            format.signed(sign, format.infinity())
        }
        (Magnitude::Zero, _) | (_, Magnitude::Infinite) => format.signed(sign, 0),
        (Magnitude::Finite(n), Magnitude::Finite(m)) => {
            let below = n.sig < m.sig;
            let dividend = u128::from(n.sig) << (63 + u32::from(below));
            let divisor = u128::from(m.sig);
            let quotient = (dividend / divisor) as u64;
            let exact = u128::from(quotient) * divisor == dividend;
            finish(format, sign, n.exp - m.exp - i32::from(below), quotient | u64::from(!exact), env)
        }
    }
}

/// The square root.
#[cold]
pub(super) fn sqrt(format: Format, a: u64, env: &mut MxEnv) -> u64 {
    let a = format.flushed(a, env);
    if let Some(nan) = propagate_nan(format, &[a], env) {
        return nan;
    }
    let Number { sign, magnitude } = format.number(a);
    match magnitude {
        Magnitude::Zero => a,
        _ if sign => invalid(format, env),
        Magnitude::Infinite => a,
        Magnitude::Finite(n) => {
            if !accept_denormals(format, &[a], env) {
                return a;
            }
            let odd = n.exp & 1;
            let radicand = u128::from(n.sig) << (63 + odd);
            let root = radicand.isqrt();
            let inexact = root * root != radicand;
            finish(format, false, (n.exp - odd) / 2, root as u64 | u64::from(inexact), env)
        }
    }
}

/// `±(a * b) ± c`; the signs do not touch NaNs.
pub(super) fn fma(
    format: Format,
    [a, b, c]: [u64; 3],
    negate_product: bool,
    negate_addend: bool,
    env: &mut MxEnv,
) -> u64 {
    let operands = [format.flushed(a, env), format.flushed(b, env), format.flushed(c, env)];
    if let Some(nan) = propagate_nan(format, &operands, env) {
        return nan;
    }
    let [x, y, z] = operands.map(|bits| format.number(bits));
    let (sign, sign_z) = ((x.sign != y.sign) != negate_product, z.sign != negate_addend);
    let infinite_product = match (x.magnitude, y.magnitude) {
        (Magnitude::Infinite, Magnitude::Zero) | (Magnitude::Zero, Magnitude::Infinite) => {
            return invalid(format, env);
        }
        (Magnitude::Infinite, _) | (_, Magnitude::Infinite) => true,
        _ => false,
    };
    if infinite_product && matches!(z.magnitude, Magnitude::Infinite) && sign != sign_z {
        return invalid(format, env);
    }
    if !accept_denormals(format, &operands, env) {
        return a;
    }
    if infinite_product {
        return format.signed(sign, format.infinity());
    }
    match (x.magnitude, y.magnitude, z.magnitude) {
        (_, _, Magnitude::Infinite) => format.signed(sign_z, format.infinity()),
        (Magnitude::Finite(n), Magnitude::Finite(m), Magnitude::Zero) => {
            let (exp, product) = multiply(n, m);
            finish(format, sign, exp, sticky(product), env)
        }
        (Magnitude::Finite(n), Magnitude::Finite(m), Magnitude::Finite(k)) => {
            fused(format, (sign, multiply(n, m)), (sign_z, k), env)
        }
        (_, _, Magnitude::Finite(k)) => finish(format, sign_z, k.exp, k.sig, env),
        (_, _, Magnitude::Zero) => {
            format.signed(if sign == sign_z { sign } else { env.rounding == Round::Down }, 0)
        }
    }
}

fn fused(format: Format, product: (bool, (i32, u128)), addend: (bool, Finite), env: &mut MxEnv) -> u64 {
    let (sign, (exp, sig)) = product;
    let (sign_z, Finite { exp: exp_z, sig: sig_z }) = addend;
    let wide_z = u128::from(sig_z) << 64;
    let order = (exp_z, wide_z).cmp(&(exp, sig));
    let (result_sign, big_exp, big, small_exp, small) = match order {
        Ordering::Greater => (sign_z, exp_z, wide_z, exp, sig),
        _ => (sign, exp, sig, exp_z, wide_z),
    };
    // A product has at most 106 bits: halving loses nothing.
    let aligned = shift_right_sticky_wide(small >> 1, (big_exp - small_exp) as u32);
    let sum = if sign == sign_z { (big >> 1) + aligned } else { (big >> 1) - aligned };
    if sum == 0 {
        return format.signed(env.rounding == Round::Down, 0);
    }
    let shift = sum.leading_zeros();
    finish(format, result_sign, big_exp + 1 - shift as i32, sticky(sum << shift), env)
}
