//! Taking SSE operands apart: classes, DAZ, denormal and NaN rules. Bits of any format travel as `u64`.

use super::MxEnv;
use crate::softfp::format::Format;
use crate::softfp::{DE, IE};

/// The magnitude of a number.
#[derive(Clone, Copy)]
pub(super) enum Magnitude {
    Zero,
    Finite(Finite),
    Infinite,
}

/// `sig * 2^(exp - 63)`, bit 63 of `sig` set.
#[derive(Clone, Copy)]
pub(super) struct Finite {
    pub exp: i32,
    pub sig: u64,
}

/// An operand that is not a NaN.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub sign: bool,
    pub magnitude: Magnitude,
}

impl Format {
    #[inline(always)]
    pub(super) const fn exponent(self, bits: u64) -> i32 {
        (bits >> self.fraction) as i32 & self.max_exponent
    }

    #[inline(always)]
    pub(super) const fn is_negative(self, bits: u64) -> bool {
        bits & self.sign_bit() != 0
    }

    #[inline(always)]
    pub(super) const fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign_bit() - 1) > self.infinity()
    }

    #[inline(always)]
    pub(super) const fn is_signalling(self, bits: u64) -> bool {
        self.is_nan(bits) && bits & self.quiet_bit() == 0
    }

    #[inline(always)]
    pub(super) const fn is_denormal(self, bits: u64) -> bool {
        self.exponent(bits) == 0 && bits & self.fraction_mask() != 0
    }

    /// The number, denormals with their value.
    pub(super) const fn number(self, bits: u64) -> Number {
        let fraction = (bits & self.fraction_mask()) << (63 - self.fraction);
        let magnitude = match self.exponent(bits) {
            0 if fraction == 0 => Magnitude::Zero,
            0 => {
                let shift = fraction.leading_zeros();
                Magnitude::Finite(Finite { exp: 1 - self.bias() - shift as i32, sig: fraction << shift })
            }
            exp if exp == self.max_exponent => Magnitude::Infinite,
            exp => Magnitude::Finite(Finite { exp: exp - self.bias(), sig: fraction | 1 << 63 }),
        };
        Number { sign: self.is_negative(bits), magnitude }
    }

    /// The operand as DAZ lets the unit see it.
    #[inline]
    pub(super) const fn flushed(self, bits: u64, env: &MxEnv) -> u64 {
        if env.daz && self.is_denormal(bits) { bits & self.sign_bit() } else { bits }
    }
}

/// The NaN that an operation returns, if an operand is one: the first of them, made quiet (SDM vol. 1, table 4-7).
/// Raises IE if any is signalling.
pub(super) fn propagate_nan(format: Format, operands: &[u64], env: &mut MxEnv) -> Option<u64> {
    let first = operands.iter().copied().find(|&bits| format.is_nan(bits))?;
    if operands.iter().any(|&bits| format.is_signalling(bits)) {
        env.raise(IE);
    }
    Some(first | format.quiet_bit())
}

/// Raises DE if an operand (after DAZ) is denormal; whether the operation goes on.
pub(super) fn accept_denormals(format: Format, operands: &[u64], env: &mut MxEnv) -> bool {
    if operands.iter().any(|&bits| format.is_denormal(bits)) {
        env.raise(DE);
    }
    !env.suppressed()
}
