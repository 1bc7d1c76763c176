//! 128-bit helpers for the transcendental functions: fractions (`u128` as a multiple of 2^-128) and a floating type
//! with a 128-bit significand. Errors are a few units in the last place, some sixty bits below an 80-bit result.

/// The upper half of the 256-bit product.
#[inline]
pub(super) const fn mul_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (ah, al, bh, bl) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (hl, lh) = (ah * bl, al * bh);
    let middle = ((al * bl) >> 64) + (hl & LOW) + (lh & LOW);
    ah * bh + (hl >> 64) + (lh >> 64) + (middle >> 64)
}

/// `numerator * 2^128 / denominator`, rounded down, for `numerator < denominator` and a denominator with its top bit
/// set: schoolbook division in base 2^64 (Knuth, TAOCP vol. 2, 4.3.1, algorithm D).
pub(super) const fn div_fraction(numerator: u128, denominator: u128) -> u128 {
    let (high, rest) = div_digit(numerator, denominator);
    let (low, _) = div_digit(rest, denominator);
    high << 64 | low
}

/// One digit of the quotient and the new remainder.
const fn div_digit(remainder: u128, denominator: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (dh, dl) = (denominator >> 64, denominator & LOW);
    let mut digit = remainder / dh;
    if digit > LOW {
        digit = LOW;
    }
    // The new remainder is high * 2^64 - low; the estimated digit is at most two too large.
    let (mut high, mut low) = (remainder - digit * dh, digit * dl);
    while high <= LOW && high << 64 < low {
        digit -= 1;
        high += dh;
        low -= dl;
    }
    (digit, (high << 64).wrapping_sub(low))
}

/// `(-1)^sign * sig * 2^(exp - 127)`, bit 127 of `sig` set. Never zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    pub sign: bool,
    pub exp: i32,
    pub sig: u128,
}

impl Wide {
    /// Normalizes `sig * 2^(exp - 127)`; a zero `sig` is taken as one unit, far below what any caller keeps.
    pub const fn new(sign: bool, exp: i32, sig: u128) -> Self {
        let sig = if sig == 0 { 1 } else { sig };
        let shift = sig.leading_zeros();
        Self { sign, exp: exp - shift as i32, sig: sig << shift }
    }

    pub const fn negated(self) -> Self {
        Self { sign: !self.sign, ..self }
    }

    pub const fn mul(self, other: Self) -> Self {
        Self::new(self.sign != other.sign, self.exp + other.exp + 1, mul_high(self.sig, other.sig))
    }

    pub const fn div(self, other: Self) -> Self {
        let sign = self.sign != other.sign;
        // Halving the dividend keeps it below the divisor.
        Self::new(sign, self.exp - other.exp, div_fraction(self.sig >> 1, other.sig))
    }

    pub const fn add(self, other: Self) -> Self {
        let swap = other.exp > self.exp || (other.exp == self.exp && other.sig > self.sig);
        let (big, small) = if swap { (other, self) } else { (self, other) };
        let shift = (big.exp - small.exp) as u32 + 1;
        let small_sig = if shift < 128 { small.sig >> shift } else { 0 };
        let big_sig = big.sig >> 1;
        let sum = if big.sign == small.sign { big_sig + small_sig } else { big_sig - small_sig };
        Self::new(big.sign, big.exp + 1, sum)
    }

    /// The magnitude as a fraction of 2^128; it must be below one.
    pub const fn fraction(self) -> u128 {
        debug_assert!(self.exp < 0);
        let shift = -1 - self.exp;
        if shift < 128 { self.sig >> shift } else { 0 }
    }
}
