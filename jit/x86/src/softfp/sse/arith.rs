//! The arithmetic entry points: host operations where they are provably right, `soft` elsewhere.

use super::MxEnv;
use super::soft;
use crate::softfp::PE;
use crate::softfp::format::{DOUBLE, Format, SINGLE};

/// Biased exponents that a result may have for the host's rounding to be the whole truth: clear of overflow, of
/// underflow (tininess is judged after rounding, so the smallest normal numbers count as doubtful), and of overflow
/// in the residue computations.
#[inline(always)]
const fn safe_result(format: Format, bits: u64) -> bool {
    let exponent = (bits >> format.fraction) as u32 & format.max_exponent as u32;
    exponent.wrapping_sub(2) < format.max_exponent as u32 - 4
}

/// A normal number, a zero, an infinity or a NaN: anything that raises no DE.
#[inline(always)]
const fn not_denormal(format: Format, bits: u64) -> bool {
    (bits >> format.fraction) as i32 & format.max_exponent != 0 || bits & (format.sign_bit() - 1) == 0
}

#[inline(always)]
const fn is_zero(format: Format, bits: u64) -> bool {
    bits & (format.sign_bit() - 1) == 0
}

/// Raises PE if `inexact` says so, unless that is known already.
#[inline(always)]
fn note_precision(env: &mut MxEnv, inexact: impl FnOnce() -> bool) {
    if !env.precision_known() && inexact() {
        env.raise(PE);
    }
}

/// The significand of a normal double.
#[inline(always)]
const fn significand(bits: u64) -> u64 {
    (bits & DOUBLE.fraction_mask()) | 1 << 52
}

macro_rules! sum {
    ($name:ident, $bits:ty, $float:ty, $format:ident, $operator:tt, $negate:literal, $what:literal) => {
        #[doc = $what]
        #[inline]
        pub fn $name(a: $bits, b: $bits, env: &mut MxEnv) -> $bits {
            let (x, y) = (<$float>::from_bits(a), <$float>::from_bits(b));
            let r = x $operator y;
            let bits = u64::from(r.to_bits());
            if env.nearest()
                && (safe_result($format, bits) || is_zero($format, bits))
                && not_denormal($format, u64::from(a))
                && not_denormal($format, u64::from(b))
            {
                // Knuth's TwoSum: the residue is exact.
                note_precision(env, || {
                    let y = if $negate { -y } else { y };
                    let virtual_y = r - x;
                    (x - (r - virtual_y)) + (y - virtual_y) != 0.0
                });
                return r.to_bits();
            }
            soft::add($format, u64::from(a), u64::from(b), $negate, env) as $bits
        }
    };
}

sum!(add32, u32, f32, SINGLE, +, false, "ADDSS.");
sum!(sub32, u32, f32, SINGLE, -, true, "SUBSS.");
sum!(add64, u64, f64, DOUBLE, +, false, "ADDSD.");
sum!(sub64, u64, f64, DOUBLE, -, true, "SUBSD.");

/// MULSS.
#[inline]
pub fn mul32(a: u32, b: u32, env: &mut MxEnv) -> u32 {
    // The product of two singles is exact as a double.
    let exact = f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b));
    let r = exact as f32;
    if env.nearest() && fast_product(SINGLE, u64::from(a), u64::from(b), u64::from(r.to_bits())) {
        note_precision(env, || f64::from(r) != exact);
        return r.to_bits();
    }
    soft::mul(SINGLE, u64::from(a), u64::from(b), env) as u32
}

/// MULSD.
#[inline]
pub fn mul64(a: u64, b: u64, env: &mut MxEnv) -> u64 {
    let r = (f64::from_bits(a) * f64::from_bits(b)).to_bits();
    if env.nearest() && fast_product(DOUBLE, a, b, r) {
        note_precision(env, || {
            // Exact if the product of the odd parts fits 53 bits.
            let odd = |bits: u64| significand(bits) >> significand(bits).trailing_zeros();
            !is_zero(DOUBLE, r) && (u128::from(odd(a)) * u128::from(odd(b))) >> 53 != 0
        });
        return r;
    }
    soft::mul(DOUBLE, a, b, env)
}

#[inline(always)]
const fn fast_product(format: Format, a: u64, b: u64, r: u64) -> bool {
    not_denormal(format, a)
        && not_denormal(format, b)
        && (safe_result(format, r) || (is_zero(format, r) && (is_zero(format, a) || is_zero(format, b))))
}

/// DIVSS.
#[inline]
pub fn div32(a: u32, b: u32, env: &mut MxEnv) -> u32 {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    let r = x / y;
    if env.nearest() && fast_quotient(SINGLE, u64::from(a), u64::from(b), u64::from(r.to_bits())) {
        // A zero result comes from a zero dividend. Else the product is exact as a double.
        note_precision(env, || r != 0.0 && f64::from(r) * f64::from(y) != f64::from(x));
        return r.to_bits();
    }
    soft::div(SINGLE, u64::from(a), u64::from(b), env) as u32
}

/// DIVSD.
#[inline]
pub fn div64(a: u64, b: u64, env: &mut MxEnv) -> u64 {
    let r = (f64::from_bits(a) / f64::from_bits(b)).to_bits();
    if env.nearest() && fast_quotient(DOUBLE, a, b, r) {
        note_precision(env, || {
            // Exact if quotient times divisor gives the dividend's significand again.
            let product = u128::from(significand(r)) * u128::from(significand(b));
            let dividend = u128::from(significand(a));
            !is_zero(DOUBLE, r) && product != dividend << 52 && product != dividend << 53
        });
        return r;
    }
    soft::div(DOUBLE, a, b, env)
}

#[inline(always)]
const fn fast_quotient(format: Format, a: u64, b: u64, r: u64) -> bool {
    not_denormal(format, a)
        && not_denormal(format, b)
        && (safe_result(format, r) || (is_zero(format, r) && is_zero(format, a)))
}

/// SQRTSS.
#[inline]
pub fn sqrt32(a: u32, env: &mut MxEnv) -> u32 {
    let x = f32::from_bits(a);
    if env.nearest() && a.wrapping_sub(0x0080_0000) < 0x7f00_0000 {
        let r = x.sqrt();
        note_precision(env, || f64::from(r) * f64::from(r) != f64::from(x));
        return r.to_bits();
    }
    soft::sqrt(SINGLE, u64::from(a), env) as u32
}

/// SQRTSD.
#[inline]
pub fn sqrt64(a: u64, env: &mut MxEnv) -> u64 {
    if env.nearest() && a.wrapping_sub(1 << 52) < DOUBLE.infinity() - (1 << 52) {
        let r = f64::from_bits(a).sqrt();
        note_precision(env, || {
            // An exact root has at most 27 bits; its square must give the operand's significand again.
            let root = significand(r.to_bits());
            let square = (root >> 26) * (root >> 26);
            root.trailing_zeros() < 26 || (square != significand(a) && square != significand(a) << 1)
        });
        return r.to_bits();
    }
    soft::sqrt(DOUBLE, a, env)
}

/// The sign changes of the FMA family: VFNM* negate the product, V*SUB the addend. NaNs keep their sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FmaSign {
    pub negate_product: bool,
    pub negate_addend: bool,
}

/// `a * b + c` with one rounding. A NaN is chosen in the order a, b, c.
#[inline]
pub fn fma32(a: u32, b: u32, c: u32, env: &mut MxEnv) -> u32 {
    fma_op32(a, b, c, FmaSign::default(), env)
}

/// `a * b + c` with one rounding. A NaN is chosen in the order a, b, c.
#[inline]
pub fn fma64(a: u64, b: u64, c: u64, env: &mut MxEnv) -> u64 {
    fma_op64(a, b, c, FmaSign::default(), env)
}

/// `±(a * b) ± c` with one rounding.
#[inline]
pub fn fma_op32(a: u32, b: u32, c: u32, signs: FmaSign, env: &mut MxEnv) -> u32 {
    let operands = [a, b, c].map(u64::from);
    if env.nearest() && operands.iter().all(|&bits| not_denormal(SINGLE, bits)) {
        let product = f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b));
        let product = if signs.negate_product { -product } else { product };
        let addend = f64::from(f32::from_bits(c));
        let addend = if signs.negate_addend { -addend } else { addend };
        // The product is exact. The sum is rounded to odd, which makes the second rounding innocuous.
        let sum = product + addend;
        let virtual_addend = sum - product;
        let residue = (product - (sum - virtual_addend)) + (addend - virtual_addend);
        let odd = if residue != 0.0 && sum.to_bits() & 1 == 0 {
            let toward_zero = (residue < 0.0) != (sum < 0.0);
            f64::from_bits(if toward_zero { sum.to_bits() - 1 } else { sum.to_bits() + 1 })
        } else {
            sum
        };
        let r = odd as f32;
        if safe_result(SINGLE, u64::from(r.to_bits())) {
            note_precision(env, || residue != 0.0 || f64::from(r) != sum);
            return r.to_bits();
        }
    }
    soft::fma(SINGLE, operands, signs.negate_product, signs.negate_addend, env) as u32
}

/// `±(a * b) ± c` with one rounding.
#[inline]
pub fn fma_op64(a: u64, b: u64, c: u64, signs: FmaSign, env: &mut MxEnv) -> u64 {
    // A host without the instruction would call its C library here; the integer code is as fast and surely right.
    if cfg!(any(target_arch = "aarch64", target_feature = "fma"))
        && env.nearest()
        && env.precision_known()
        && [a, b, c].iter().all(|&bits| not_denormal(DOUBLE, bits))
    {
        let x = f64::from_bits(a);
        let x = if signs.negate_product { -x } else { x };
        let z = f64::from_bits(c);
        let z = if signs.negate_addend { -z } else { z };
        let r = x.mul_add(f64::from_bits(b), z).to_bits();
        if safe_result(DOUBLE, r) {
            return r;
        }
    }
    soft::fma(DOUBLE, [a, b, c], signs.negate_product, signs.negate_addend, env)
}
