//! F16C: conversions between half and single precision.

use super::MxEnv;
use super::convert::convert_nan;
use super::integer::rounding_of;
use super::number::{Finite, Magnitude, accept_denormals, propagate_nan};
use crate::softfp::format::{HALF, SINGLE};

/// VCVTPH2PS for one element: exact. Denormals are numbers whatever DAZ says, and raise no DE.
pub fn f16_to_f32(a: u16, env: &mut MxEnv) -> u32 {
    let a = u64::from(a);
    if let Some(nan) = propagate_nan(HALF, &[a], env) {
        return convert_nan(HALF, SINGLE, nan) as u32;
    }
    let number = HALF.number(a);
    let bits = match number.magnitude {
        Magnitude::Zero => SINGLE.signed(number.sign, 0),
        Magnitude::Infinite => SINGLE.signed(number.sign, SINGLE.infinity()),
        Magnitude::Finite(Finite { exp, sig }) => {
            SINGLE.round(number.sign, exp, sig, env.rounding, env.masks).bits
        }
    };
    bits as u32
}

/// VCVTPS2PH for one element: immediate bits 1-0 rounding, bit 2 take MXCSR's instead. FTZ does not apply.
pub fn f32_to_f16(a: u32, immediate: u8, env: &mut MxEnv) -> u16 {
    let a = SINGLE.flushed(u64::from(a), env);
    if let Some(nan) = propagate_nan(SINGLE, &[a], env) {
        return convert_nan(SINGLE, HALF, nan) as u16;
    }
    if !accept_denormals(SINGLE, &[a], env) {
        return 0;
    }
    let number = SINGLE.number(a);
    let bits = match number.magnitude {
        Magnitude::Zero => HALF.signed(number.sign, 0),
        Magnitude::Infinite => HALF.signed(number.sign, HALF.infinity()),
        Magnitude::Finite(Finite { exp, sig }) => {
            let rounded = HALF.round(number.sign, exp, sig, rounding_of(immediate, env), env.masks);
            env.raise(rounded.flags);
            rounded.bits
        }
    };
    bits as u16
}
