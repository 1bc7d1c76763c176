//! Rounding into the interchange formats: half, single and double. Shared by the SSE kernels and the x87 stores.

use super::{OE, PE, Round, UE};

/// An IEEE 754 interchange format of at most 64 bits.
#[derive(Clone, Copy)]
pub(super) struct Format {
    /// Bits of the fraction field (the integer bit is implied).
    pub fraction: u32,
    /// Exponent field of infinities and NaNs.
    pub max_exponent: i32,
}

pub(super) const HALF: Format = Format { fraction: 10, max_exponent: 0x1f };
pub(super) const SINGLE: Format = Format { fraction: 23, max_exponent: 0xff };
pub(super) const DOUBLE: Format = Format { fraction: 52, max_exponent: 0x7ff };

/// A number rounded into a format, with the flags that this raised.
#[derive(Clone, Copy)]
pub(super) struct Rounded {
    pub bits: u64,
    pub flags: u8,
    /// The magnitude was rounded up (the x87's C1).
    pub up: bool,
    /// Tiny after rounding, whether or not exact (what FTZ looks at).
    pub tiny: bool,
}

impl Format {
    /// Exponent bias.
    #[inline(always)]
    pub const fn bias(self) -> i32 {
        self.max_exponent >> 1
    }

    /// The sign bit.
    #[inline(always)]
    pub const fn sign_bit(self) -> u64 {
        (self.max_exponent as u64 + 1) << self.fraction
    }

    /// Mask of the fraction field.
    #[inline(always)]
    pub const fn fraction_mask(self) -> u64 {
        (1 << self.fraction) - 1
    }

    /// Positive infinity.
    #[inline(always)]
    pub const fn infinity(self) -> u64 {
        (self.max_exponent as u64) << self.fraction
    }

    /// The most significant fraction bit, which tells quiet from signalling NaNs.
    #[inline(always)]
    pub const fn quiet_bit(self) -> u64 {
        1 << (self.fraction - 1)
    }

    /// The default NaN: negative, quiet, no payload ("QNaN floating-point indefinite", SDM vol. 1, 4.8.3.7).
    #[inline(always)]
    pub const fn indefinite(self) -> u64 {
        self.sign_bit() | self.infinity() | self.quiet_bit()
    }

    #[inline(always)]
    pub const fn signed(self, sign: bool, magnitude: u64) -> u64 {
        if sign { magnitude | self.sign_bit() } else { magnitude }
    }

    /// Rounds `significand * 2^(exponent - 63)`. Bit 63 of the significand is set and its bit 0 is sticky.
    ///
    /// A result for an unmasked overflow or underflow has no use on x86 (SSE and stores write nothing then), so the
    /// masked result is returned always; `masks` only decides which flags are raised.
    #[inline(always)]
    pub fn round(self, sign: bool, exponent: i32, significand: u64, rounding: Round, masks: u8) -> Rounded {
        let drop = 63 - self.fraction;
        let biased = exponent + self.bias();
        if biased >= self.max_exponent {
            return self.overflow(sign, significand << (64 - drop) != 0, rounding, masks);
        }
        if biased >= 1 {
            let (kept, fraction) = (significand >> drop, significand << (64 - drop));
            let up = rounding.increments(sign, kept & 1 != 0, fraction);
            // The integer bit adds one to the exponent field, and so does a carry out of the fraction.
            let magnitude = ((biased as u64 - 1) << self.fraction) + kept + u64::from(up);
            if magnitude < self.infinity() {
                let flags = if fraction != 0 { PE } else { 0 };
                return Rounded { bits: self.signed(sign, magnitude), flags, up, tiny: false };
            }
            return self.overflow(sign, fraction != 0, rounding, masks);
        }
        self.round_subnormal(sign, biased, significand, rounding, masks)
    }

    #[cold]
    fn overflow(self, sign: bool, inexact: bool, rounding: Round, masks: u8) -> Rounded {
        let up = rounding.overflows_to_infinity(sign);
        let magnitude = self.infinity() - u64::from(!up);
        // The unmasked response delivers the exactly scaled result: precision is lost only by the rounding itself.
        let precision = if inexact || masks & OE != 0 { PE } else { 0 };
        Rounded { bits: self.signed(sign, magnitude), flags: OE | precision, up, tiny: false }
    }

    #[cold]
    fn round_subnormal(
        self,
        sign: bool,
        biased: i32,
        significand: u64,
        rounding: Round,
        masks: u8,
    ) -> Rounded {
        let drop = 63 - self.fraction;
        let (kept, fraction) = (significand >> drop, significand << (64 - drop));
        let carries = kept == (2 << self.fraction) - 1 && rounding.increments(sign, true, fraction);
        let tiny = biased < 0 || !carries;
        if tiny && masks & UE == 0 {
            // Unmasked: flagged even if exact; precision is that of the scaled result.
            let precision = if fraction != 0 { PE } else { 0 };
            let up = rounding.increments(sign, kept & 1 != 0, fraction);
            return Rounded { bits: self.signed(sign, 0), flags: UE | precision, up, tiny };
        }
        let shift = drop + (1 - biased).min(64) as u32;
        let (kept, fraction) = shift_right_fraction(significand, shift);
        let up = rounding.increments(sign, kept & 1 != 0, fraction);
        let flags = match (fraction != 0, tiny) {
            (true, true) => UE | PE,
            (true, false) => PE,
            (false, _) => 0,
        };
        Rounded { bits: self.signed(sign, kept + u64::from(up)), flags, up, tiny }
    }
}

/// `value >> shift`, and the bits shifted out, left-aligned, with everything below folded into the last one.
#[inline]
pub(super) const fn shift_right_fraction(value: u64, shift: u32) -> (u64, u64) {
    match shift {
        0 => (value, 0),
        1..=63 => (value >> shift, value << (64 - shift)),
        64 => (0, value),
        65..=127 => (0, (value >> (shift - 64)) | ((value << (128 - shift) != 0) as u64)),
        _ => (0, (value != 0) as u64),
    }
}

/// `value >> shift` with the bits shifted out folded into bit 0.
#[inline(always)]
pub(super) const fn shift_right_sticky(value: u64, shift: u32) -> u64 {
    if shift > 63 {
        return (value != 0) as u64;
    }
    let kept = value >> shift;
    kept | (kept << shift != value) as u64
}

/// As [`shift_right_sticky`], for 128 bits.
#[inline(always)]
pub(super) const fn shift_right_sticky_wide(value: u128, shift: u32) -> u128 {
    if shift > 127 {
        return (value != 0) as u128;
    }
    let kept = value >> shift;
    kept | (kept << shift != value) as u128
}
