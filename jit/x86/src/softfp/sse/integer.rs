//! Conversions to integers, and ROUNDSS/ROUNDSD.

use super::MxEnv;
use super::number::{Magnitude, propagate_nan};
use crate::softfp::format::{DOUBLE, Format, SINGLE, shift_right_fraction};
use crate::softfp::{IE, PE, Round};

/// Rounds to a signed integer of `bits`; out of range and NaN: IE and the most negative value ("integer
/// indefinite"). Conversions to integers report no denormal operand.
#[inline]
fn to_integer(format: Format, a: u64, bits: u32, rounding: Round, env: &mut MxEnv) -> i64 {
    let limit = 1u64 << (bits - 1);
    if !format.is_nan(a) {
        let number = format.number(format.flushed(a, env));
        let (magnitude, inexact) = match number.magnitude {
            Magnitude::Zero => return 0,
            Magnitude::Finite(x) if x.exp < 64 => {
                let (kept, fraction) = shift_right_fraction(x.sig, (63 - x.exp).min(128) as u32);
                let up = rounding.increments(number.sign, kept & 1 != 0, fraction);
                (kept.saturating_add(u64::from(up)), fraction != 0)
            }
            _ => (u64::MAX, false),
        };
        if magnitude < limit + u64::from(number.sign) {
            if inexact {
                env.raise(PE);
            }
            return if number.sign { (magnitude as i64).wrapping_neg() } else { magnitude as i64 };
        }
    }
    env.raise(IE);
    (limit as i64).wrapping_neg()
}

macro_rules! to_integer {
    ($name:ident, $truncating:ident, $bits:ty, $float:ty, $format:ident, $integer:ty, $width:literal, $what:literal) => {
        #[doc = concat!("CVT", $what, ": rounds as MXCSR says.")]
        #[inline]
        pub fn $name(a: $bits, env: &mut MxEnv) -> $integer {
            to_integer($format, u64::from(a), $width, env.rounding, env) as $integer
        }

        #[doc = concat!("CVTT", $what, ": truncates.")]
        #[inline]
        pub fn $truncating(a: $bits, env: &mut MxEnv) -> $integer {
            let x = <$float>::from_bits(a);
            let r = x as $integer;
            // The host's conversion of a small number in range is exact truncation.
            if r != 0 && x.abs() < (1u64 << ($width - 1)) as $float {
                if !env.precision_known() && r as $float != x {
                    env.raise(PE);
                }
                return r;
            }
            to_integer($format, u64::from(a), $width, Round::Zero, env) as $integer
        }
    };
}

to_integer!(f32_to_i32, f32_to_i32_trunc, u32, f32, SINGLE, i32, 32, "SS2SI to 32 bits");
to_integer!(f32_to_i64, f32_to_i64_trunc, u32, f32, SINGLE, i64, 64, "SS2SI to 64 bits");
to_integer!(f64_to_i32, f64_to_i32_trunc, u64, f64, DOUBLE, i32, 32, "SD2SI to 32 bits");
to_integer!(f64_to_i64, f64_to_i64_trunc, u64, f64, DOUBLE, i64, 64, "SD2SI to 64 bits");

/// ROUNDSS/SD immediate: suppress PE.
const SUPPRESS_PRECISION: u8 = 1 << 3;
/// ROUNDSS/SD and VCVTPS2PH immediate: round as MXCSR says.
const FROM_MXCSR: u8 = 1 << 2;

/// The rounding mode that an immediate asks for.
pub(super) fn rounding_of(immediate: u8, env: &MxEnv) -> Round {
    if immediate & FROM_MXCSR != 0 { env.rounding } else { Round::from_bits(immediate) }
}

fn round_to_integral(format: Format, a: u64, immediate: u8, env: &mut MxEnv) -> u64 {
    let a = format.flushed(a, env);
    if let Some(nan) = propagate_nan(format, &[a], env) {
        return nan;
    }
    let exponent = format.exponent(a) - format.bias();
    if exponent >= format.fraction as i32 || a & (format.sign_bit() - 1) == 0 {
        return a;
    }
    let sign = format.is_negative(a);
    let rounding = rounding_of(immediate, env);
    let (magnitude, inexact) = if exponent < 0 {
        // Below one: only which side of a half it lies on matters.
        let half = (format.bias() as u64 - 1) << format.fraction;
        let fraction = match (a & (format.sign_bit() - 1)).cmp(&half) {
            core::cmp::Ordering::Less => 1,
            core::cmp::Ordering::Equal => 1 << 63,
            core::cmp::Ordering::Greater => 1 << 63 | 1,
        };
        let one = (format.bias() as u64) << format.fraction;
        (if rounding.increments(sign, false, fraction) { one } else { 0 }, true)
    } else {
        // The carry of an increment runs into the exponent as it should.
        let drop = format.fraction - exponent as u32;
        let magnitude = a & (format.sign_bit() - 1);
        let (kept, fraction) = shift_right_fraction(magnitude, drop);
        // Below 2 the last kept bit is the implied one, which the exponent's last bit (set: the bias is odd) stands for.
        let up = rounding.increments(sign, kept & 1 != 0, fraction);
        ((kept + u64::from(up)) << drop, fraction != 0)
    };
    if inexact && immediate & SUPPRESS_PRECISION == 0 {
        env.raise(PE);
    }
    format.signed(sign, magnitude)
}

/// ROUNDSS: immediate bits 1-0 rounding, bit 2 take MXCSR's instead, bit 3 suppress PE.
#[inline]
pub fn round32(a: u32, immediate: u8, env: &mut MxEnv) -> u32 {
    round_to_integral(SINGLE, u64::from(a), immediate, env) as u32
}

/// ROUNDSD: immediate bits 1-0 rounding, bit 2 take MXCSR's instead, bit 3 suppress PE.
#[inline]
pub fn round64(a: u64, immediate: u8, env: &mut MxEnv) -> u64 {
    round_to_integral(DOUBLE, a, immediate, env)
}
