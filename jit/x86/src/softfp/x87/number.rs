//! The 80-bit format: encodings, classes, NaN selection and the built-in constants.

use super::{C0, C1, C2, C3, Env, Round};
use crate::softfp::IE;

/// The integer bit of the significand.
pub(super) const INTEGER: u64 = 1 << 63;
/// The bit that tells quiet from signalling NaNs.
const QUIET: u64 = 1 << 62;
/// Exponent field of infinities and NaNs.
pub(super) const MAX_EXP: i32 = 0x7fff;
/// Exponent bias.
pub(super) const BIAS: i32 = 0x3fff;

/// A double extended-precision number as the register holds it. Every bit pattern is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct F80 {
    /// Significand with its explicit integer bit.
    pub mantissa: u64,
    /// Bit 15: sign; bits 14-0: exponent, biased by 16383.
    pub sign_exp: u16,
}

impl core::fmt::Debug for F80 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:04x}:{:016x}", self.sign_exp, self.mantissa)
    }
}

/// A valid operand that is not a NaN, without its sign.
#[derive(Clone, Copy)]
pub(super) enum Magnitude {
    Zero,
    Finite(Finite),
    Infinite,
}

/// A finite non-zero magnitude `sig * 2^(exp - BIAS - 63)`, bit 63 of `sig` set; denormals have `exp` below 1.
#[derive(Clone, Copy)]
pub(super) struct Finite {
    pub exp: i32,
    pub sig: u64,
}

impl F80 {
    /// Positive zero.
    pub const ZERO: Self = Self::new(false, 0, 0);
    /// One.
    pub const ONE: Self = Self::new(false, BIAS, INTEGER);
    /// Positive infinity.
    pub const INFINITY: Self = Self::new(false, MAX_EXP, INTEGER);
    /// The default NaN ("real indefinite").
    pub const INDEFINITE: Self = Self::new(true, MAX_EXP, INTEGER | QUIET);

    #[inline(always)]
    pub(super) const fn new(sign: bool, exp: i32, mantissa: u64) -> Self {
        Self { mantissa, sign_exp: exp as u16 | (sign as u16) << 15 }
    }

    /// From the ten bytes of an m80fp operand.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 10]) -> Self {
        let [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1] = bytes;
        Self {
            mantissa: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
            sign_exp: u16::from_le_bytes([e0, e1]),
        }
    }

    /// The ten bytes of an m80fp operand.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 10] {
        let [m0, m1, m2, m3, m4, m5, m6, m7] = self.mantissa.to_le_bytes();
        let [e0, e1] = self.sign_exp.to_le_bytes();
        [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1]
    }

    /// The sign bit (FXAM's C1).
    #[inline(always)]
    pub const fn is_negative(self) -> bool {
        self.sign_exp >> 15 != 0
    }

    /// FABS.
    #[inline]
    pub const fn abs(self) -> Self {
        Self { sign_exp: self.sign_exp & 0x7fff, ..self }
    }

    /// FCHS.
    #[inline]
    pub const fn neg(self) -> Self {
        Self { sign_exp: self.sign_exp ^ 0x8000, ..self }
    }

    /// Exponent field.
    #[inline(always)]
    pub(super) const fn exp(self) -> i32 {
        (self.sign_exp & 0x7fff) as i32
    }

    /// A zero of either sign.
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.exp() == 0 && self.mantissa == 0
    }

    /// A NaN, quiet or signalling, in a supported encoding.
    #[inline]
    pub const fn is_nan(self) -> bool {
        self.exp() == MAX_EXP && self.mantissa > INTEGER
    }

    pub(super) const fn is_signalling(self) -> bool {
        self.is_nan() && self.mantissa & QUIET == 0
    }

    /// An infinity of either sign.
    #[inline]
    pub const fn is_infinite(self) -> bool {
        self.exp() == MAX_EXP && self.mantissa == INTEGER
    }

    /// A denormal or pseudo-denormal.
    pub(super) const fn is_denormal(self) -> bool {
        self.exp() == 0 && self.mantissa != 0
    }

    /// An encoding that no x87 operation accepts.
    pub(super) const fn is_unsupported(self) -> bool {
        self.exp() != 0 && self.mantissa & INTEGER == 0
    }

    /// A normal finite number.
    #[inline(always)]
    pub(super) const fn is_normal(self) -> bool {
        (self.sign_exp & 0x7fff).wrapping_sub(1) < 0x7ffe && self.mantissa & INTEGER != 0
    }

    pub(super) const fn quieted(self) -> Self {
        Self { mantissa: self.mantissa | QUIET, ..self }
    }

    pub(super) const fn zero(sign: bool) -> Self {
        Self::new(sign, 0, 0)
    }

    pub(super) const fn infinity(sign: bool) -> Self {
        Self::new(sign, MAX_EXP, INTEGER)
    }

    /// The magnitude of a supported operand that is not a NaN.
    pub(super) const fn magnitude(self) -> Magnitude {
        match self.exp() {
            0 if self.mantissa == 0 => Magnitude::Zero,
            0 => {
                let shift = self.mantissa.leading_zeros();
                Magnitude::Finite(Finite { exp: 1 - shift as i32, sig: self.mantissa << shift })
            }
            MAX_EXP => Magnitude::Infinite,
            exp => Magnitude::Finite(Finite { exp, sig: self.mantissa }),
        }
    }

    /// The operand of a one-operand instruction, or the result where a NaN or an unsupported encoding decides it.
    /// Denormals are not reported here.
    pub(super) fn number(self, env: &mut Env) -> Result<Magnitude, Self> {
        if self.is_unsupported() {
            return Err(env.invalid());
        }
        if self.is_nan() {
            if self.is_signalling() {
                env.raise(IE);
            }
            return Err(self.quieted());
        }
        Ok(self.magnitude())
    }
}

/// The operands of a two-operand instruction, or its result where NaNs or unsupported encodings decide it.
/// Denormals are not reported here.
pub(super) fn numbers(a: F80, b: F80, env: &mut Env) -> Result<(Magnitude, Magnitude), F80> {
    if a.is_unsupported() || b.is_unsupported() {
        return Err(env.invalid());
    }
    if a.is_nan() || b.is_nan() {
        return Err(select_nan(a, b, env));
    }
    Ok((a.magnitude(), b.magnitude()))
}

/// The NaN that an operation on `a` and `b` returns (SDM vol. 1, table 4-7, x87 column).
fn select_nan(a: F80, b: F80, env: &mut Env) -> F80 {
    let (signal_a, signal_b) = (a.is_signalling(), b.is_signalling());
    if signal_a || signal_b {
        env.raise(IE);
    }
    let first = match (a.is_nan(), b.is_nan()) {
        (first, second) if first != second => first,
        // A quiet NaN wins over a signalling one.
        _ if signal_a != signal_b => signal_b,
        // Else the larger significand does, and between equal ones the positive.
        _ if a.mantissa != b.mantissa => a.mantissa > b.mantissa,
        _ => a.sign_exp <= b.sign_exp,
    };
    if first { a.quieted() } else { b.quieted() }
}

/// Raises DE if an operand is denormal; whether the instruction goes on.
pub(super) fn accept_denormals(a: F80, b: F80, env: &mut Env) -> bool {
    !(a.is_denormal() || b.is_denormal()) || env.denormal()
}

/// FXAM's C0-C3 for a register that is not empty. (Empty: C3, C0 and the sign in C1.)
pub const fn examine(a: F80) -> u16 {
    let class = if a.is_unsupported() {
        0
    } else if a.is_nan() {
        C0
    } else if a.is_infinite() {
        C2 | C0
    } else if a.is_zero() {
        C3
    } else if a.is_denormal() {
        C3 | C2
    } else {
        C2
    };
    class | if a.is_negative() { C1 } else { 0 }
}

/// What the FLD-constant instructions load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// FLD1.
    One,
    /// FLDL2T: log2(10).
    Log2Ten,
    /// FLDL2E: log2(e).
    Log2E,
    /// FLDPI.
    Pi,
    /// FLDLG2: log10(2).
    LogTwo,
    /// FLDLN2: ln(2).
    LnTwo,
    /// FLDZ.
    Zero,
}

/// The constant, rounded from its 66-bit internal form. No flag is raised, C1 is cleared.
pub const fn constant(which: Constant, rounding: Round) -> F80 {
    // Truncated significands; `above` tells that the tail is more than half a unit, so that nearest rounds up.
    let (exp, truncated, above) = match which {
        Constant::One => return F80::ONE,
        Constant::Zero => return F80::ZERO,
        Constant::Log2Ten => (BIAS + 1, 0xd49a_784b_cd1b_8afe, false),
        Constant::Log2E => (BIAS, 0xb8aa_3b29_5c17_f0bb, true),
        Constant::Pi => (BIAS + 1, 0xc90f_daa2_2168_c234, true),
        Constant::LogTwo => (BIAS - 2, 0x9a20_9a84_fbcf_f798, true),
        Constant::LnTwo => (BIAS - 1, 0xb172_17f7_d1cf_79ab, true),
    };
    let up = match rounding {
        Round::Nearest => above,
        Round::Up => true,
        Round::Down | Round::Zero => false,
    };
    F80::new(false, exp, truncated + up as u64)
}
