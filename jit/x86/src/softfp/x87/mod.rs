//! The x87 unit's 80-bit arithmetic.
//!
//! Operands are any 80-bit pattern: pseudo-denormals are accepted as the numbers they stand for, the other encodings
//! without an integer bit (unnormals, pseudo-infinities, pseudo-NaNs) are invalid operands (SDM vol. 1, 8.2.2).
//! Functions add to `Env::flags` and set `Env::c1`; stack faults, tags and the status word are the caller's.
//!
//! On an unmasked IE, DE or ZE the value returned is meaningless ([`Env::suppressed`]). On an unmasked OE or UE it is
//! the scaled result of SDM vol. 1, 8.5.4 and 8.5.5, which does reach the register.

mod arith;
mod convert;
mod decimal;
mod exp_log;
mod number;
mod partial;
mod round;
mod trig;

pub use arith::{add, compare, compare_quiet, div, mul, sqrt, sub};
pub use convert::{
    from_f32, from_f64, from_i16, from_i32, from_i64, to_f32, to_f64, to_i16, to_i16_trunc, to_i32,
    to_i32_trunc, to_i64, to_i64_trunc,
};
pub use decimal::{from_bcd, to_bcd};
pub use exp_log::{f2xm1, fyl2x, fyl2xp1};
pub use number::{Constant, F80, constant, examine};
pub use partial::{Extract, Remainder, extract, prem, prem1, rndint, scale};
pub use trig::{fcos, fpatan, fptan, fsin, fsincos};

use super::{DE, IE, OE, PRE_COMPUTATION, Round, UE};

/// Condition code C0 in the status word.
pub const C0: u16 = 1 << 8;
/// Condition code C1 in the status word.
pub const C1: u16 = 1 << 9;
/// Condition code C2 in the status word.
pub const C2: u16 = 1 << 10;
/// Condition code C3 in the status word.
pub const C3: u16 = 1 << 14;

/// Precision control: significand bits of the results of FADD, FSUB, FMUL, FDIV and FSQRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    P24,
    P53,
    P64,
}

impl Precision {
    #[inline(always)]
    const fn bits(self) -> u32 {
        match self {
            Self::P24 => 24,
            Self::P53 => 53,
            Self::P64 => 64,
        }
    }
}

/// What one instruction takes from the control word and gives to the status word.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    pub rounding: Round,
    pub precision: Precision,
    /// Masked exceptions, bits 0-5 of the control word.
    pub masks: u8,
    /// Exceptions raised, bits 0-5 of the status word.
    pub flags: u8,
    /// The result's magnitude was rounded up.
    pub c1: bool,
}

impl Env {
    /// From the control word, with no exception raised.
    #[inline]
    pub const fn new(control: u16) -> Self {
        let precision = match control >> 8 & 3 {
            0 => Precision::P24,
            2 => Precision::P53,
            // 01B is reserved; processors take it as extended precision.
            _ => Precision::P64,
        };
        Self {
            rounding: Round::from_bits((control >> 10) as u8),
            precision,
            masks: (control & 0x3f) as u8,
            flags: 0,
            c1: false,
        }
    }

    /// Whether some exception raised is unmasked.
    #[inline]
    pub const fn unmasked(&self) -> bool {
        self.flags & !self.masks != 0
    }

    /// Whether the instruction must leave its destination and the stack alone: an unmasked IE, DE or ZE.
    #[inline]
    pub const fn suppressed(&self) -> bool {
        self.flags & !self.masks & PRE_COMPUTATION != 0
    }

    /// The same for an instruction whose destination is memory (SDM vol. 1, 8.5.4: "if the destination is memory,
    /// nothing is stored").
    #[inline]
    pub const fn store_suppressed(&self) -> bool {
        self.flags & !self.masks & (PRE_COMPUTATION | OE | UE) != 0
    }

    #[inline]
    const fn raise(&mut self, flag: u8) {
        self.flags |= flag;
    }

    /// Raises IE; gives the default NaN.
    #[inline]
    const fn invalid(&mut self) -> F80 {
        self.raise(IE);
        F80::INDEFINITE
    }

    /// Raises DE; whether the instruction goes on.
    #[inline]
    const fn denormal(&mut self) -> bool {
        self.raise(DE);
        self.masks & DE != 0
    }
}
