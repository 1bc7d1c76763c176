//! Floating point on raw bits: the x87 80-bit unit (`x87`) and the scalar SSE kernels (`sse`).
//!
//! The guest must see the same bits and the same sticky flags on every host, so nothing here reads or relies on the
//! host's floating-point environment. Exact results come from integer arithmetic; `sse` uses host `f32`/`f64`
//! operations only where IEEE 754 fixes every bit of the result (round to nearest, normal operands and result).
//!
//! Terms: a *significand* has an explicit integer bit. A result is *tiny* when, rounded as if the exponent were
//! unbounded, it lies below the smallest normal number: x86 detects tininess after rounding (SDM vol. 1, 4.9.1.5).
//!
//! The exception flags and masks use the bit order shared by the x87 status and control words and MXCSR.

mod format;
mod wide;

pub mod sse;
pub mod x87;

/// Invalid operation.
pub const IE: u8 = 1 << 0;
/// Denormal operand.
pub const DE: u8 = 1 << 1;
/// Division of a finite number by zero.
pub const ZE: u8 = 1 << 2;
/// Overflow.
pub const OE: u8 = 1 << 3;
/// Underflow.
pub const UE: u8 = 1 << 4;
/// Precision: the result was rounded.
pub const PE: u8 = 1 << 5;
/// All six exceptions.
pub const ALL_EXCEPTIONS: u8 = 0x3f;
/// The exceptions found before anything is computed: unmasked, they leave the destination alone.
pub const PRE_COMPUTATION: u8 = IE | DE | ZE;

/// Rounding control (SDM vol. 1, table 4-8), in its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Round {
    /// To nearest, ties to even.
    #[default]
    Nearest = 0,
    /// Towards minus infinity.
    Down = 1,
    /// Towards plus infinity.
    Up = 2,
    /// Towards zero.
    Zero = 3,
}

impl Round {
    /// From an RC field; bits above the low two are ignored.
    #[inline]
    pub const fn from_bits(rc: u8) -> Self {
        match rc & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }

    /// Whether a magnitude moves away from zero. `odd` is the last kept bit; `fraction` holds the dropped bits,
    /// left-aligned, with everything below folded into its last bit.
    #[inline(always)]
    const fn increments(self, sign: bool, odd: bool, fraction: u64) -> bool {
        match self {
            // Not short-circuiting: the operands are unpredictable.
            Self::Nearest => (fraction > 1 << 63) | ((fraction == 1 << 63) & odd),
            Self::Down => sign & (fraction != 0),
            Self::Up => !sign & (fraction != 0),
            Self::Zero => false,
        }
    }

    /// Whether a positive (`sign` false) or negative overflow gives infinity rather than the largest finite number.
    #[inline]
    const fn overflows_to_infinity(self, sign: bool) -> bool {
        match self {
            Self::Nearest => true,
            Self::Down => sign,
            Self::Up => !sign,
            Self::Zero => false,
        }
    }
}

/// The outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Less,
    Equal,
    Greater,
    /// At least one operand is a NaN (or, on the x87, has an unsupported encoding).
    Unordered,
}

impl Relation {
    /// C0, C2 and C3 at their places in the x87 status word (SDM vol. 2, FCOM).
    #[inline]
    pub const fn x87_codes(self) -> u16 {
        match self {
            Self::Greater => 0,
            Self::Less => x87::C0,
            Self::Equal => x87::C3,
            Self::Unordered => x87::C0 | x87::C2 | x87::C3,
        }
    }

    /// CF, PF and ZF at their places in EFLAGS (COMISS, FCOMI); the caller clears OF, SF and AF.
    #[inline]
    pub const fn eflags(self) -> u32 {
        match self {
            Self::Greater => 0,
            Self::Less => 1,
            Self::Equal => 0x40,
            Self::Unordered => 0x45,
        }
    }

    /// The relation with the operands exchanged.
    #[inline]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::Greater => Self::Less,
            other => other,
        }
    }
}
