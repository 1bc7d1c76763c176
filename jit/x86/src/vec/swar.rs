//! Lane-wise integer operations on a quadword at a time, without taking the lanes apart ("SIMD within a register").
//!
//! Carries are kept from crossing lanes by treating each lane's top bit on its own. A *lane mask* has a lane's top bit
//! where something holds; [`Lanes::spread`] fills such lanes with ones.

use crate::state::Xmm;

/// The lane width, as the quadword with every lane's top bit.
#[derive(Clone, Copy)]
pub struct Lanes {
    top: u64,
    bits: u32,
}

/// Eight bytes.
pub const B: Lanes = Lanes { top: 0x8080_8080_8080_8080, bits: 8 };
/// Four words.
pub const W: Lanes = Lanes { top: 0x8000_8000_8000_8000, bits: 16 };
/// Two doublewords.
pub const D: Lanes = Lanes { top: 0x8000_0000_8000_0000, bits: 32 };
/// One quadword.
pub const Q: Lanes = Lanes { top: 1 << 63, bits: 64 };

/// Bits of `b` where `m` has ones, else of `a`.
#[inline(always)]
pub fn choose(a: u64, b: u64, m: u64) -> u64 {
    a & !m | b & m
}

/// Both quadwords through `f`.
#[inline(always)]
pub fn both(a: Xmm, b: Xmm, f: impl Fn(u64, u64) -> u64) -> Xmm {
    [f(a[0], b[0]), f(a[1], b[1])]
}

impl Lanes {
    /// All ones in the lanes of a lane mask.
    #[inline(always)]
    pub fn spread(self, m: u64) -> u64 {
        m | (m - (m >> (self.bits - 1)))
    }
    #[inline(always)]
    pub fn add(self, a: u64, b: u64) -> u64 {
        (a & !self.top).wrapping_add(b & !self.top) ^ (a ^ b) & self.top
    }
    #[inline(always)]
    pub fn sub(self, a: u64, b: u64) -> u64 {
        (a | self.top).wrapping_sub(b & !self.top) ^ (a ^ !b) & self.top
    }
    /// Lanes that are equal, filled.
    #[inline(always)]
    pub fn equal(self, a: u64, b: u64) -> u64 {
        let x = a ^ b;
        let differs = (x & !self.top).wrapping_add(!self.top) | x;
        self.spread(!differs & self.top)
    }
    /// Lanes where `a < b`, unsigned, filled.
    #[inline(always)]
    pub fn below(self, a: u64, b: u64) -> u64 {
        let not_less = (a | self.top).wrapping_sub(b & !self.top);
        self.spread((!a & b | !(a ^ b) & !not_less) & self.top)
    }
    /// Lanes where `a < b`, signed, filled.
    #[inline(always)]
    pub fn less(self, a: u64, b: u64) -> u64 {
        self.below(a ^ self.top, b ^ self.top)
    }
    /// Lanes that are negative, filled.
    #[inline(always)]
    pub fn negative(self, a: u64) -> u64 {
        self.spread(a & self.top)
    }
    #[inline(always)]
    pub fn add_unsigned_saturating(self, a: u64, b: u64) -> u64 {
        let sum = self.add(a, b);
        sum | self.spread((a & b | (a | b) & !sum) & self.top)
    }
    #[inline(always)]
    pub fn sub_unsigned_saturating(self, a: u64, b: u64) -> u64 {
        self.sub(a, b) & !self.below(a, b)
    }
    /// The extreme of `a`'s sign: largest for positive lanes, smallest for negative ones.
    #[inline(always)]
    fn extreme(self, a: u64) -> u64 {
        ((a & self.top) >> (self.bits - 1)).wrapping_add(!self.top)
    }
    #[inline(always)]
    pub fn add_signed_saturating(self, a: u64, b: u64) -> u64 {
        let sum = self.add(a, b);
        choose(sum, self.extreme(a), self.spread(!(a ^ b) & (a ^ sum) & self.top))
    }
    #[inline(always)]
    pub fn sub_signed_saturating(self, a: u64, b: u64) -> u64 {
        let difference = self.sub(a, b);
        choose(difference, self.extreme(a), self.spread((a ^ b) & (a ^ difference) & self.top))
    }
    /// `(a + b + 1) / 2`, unsigned.
    #[inline(always)]
    pub fn average(self, a: u64, b: u64) -> u64 {
        // a + b = 2 (a | b) - (a ^ b); the shift must not bring a bit in from the next lane.
        self.sub(a | b, (a ^ b) >> 1 & !self.top)
    }
    /// `a` negated where `m` has ones.
    #[inline(always)]
    pub fn negate_where(self, a: u64, m: u64) -> u64 {
        self.sub(a ^ m, m)
    }
    /// Shifts left by less than the lane width.
    #[inline(always)]
    pub fn shl(self, a: u64, n: u32) -> u64 {
        // The lowest `n` bits of each lane are to be zero: a lane mask of bit 0, times 2^n - 1.
        let low = (self.top >> (self.bits - 1)).wrapping_mul((1u64 << n) - 1);
        a << n & !low
    }
    /// Shifts right by less than the lane width.
    #[inline(always)]
    pub fn shr(self, a: u64, n: u32) -> u64 {
        a >> n & self.after_shift(n)
    }
    /// Shifts right by less than the lane width, bringing in the sign.
    #[inline(always)]
    pub fn sar(self, a: u64, n: u32) -> u64 {
        let keep = self.after_shift(n);
        a >> n & keep | self.negative(a) & !keep
    }
    /// The bits of each lane that a right shift by `n` leaves.
    #[inline(always)]
    fn after_shift(self, n: u32) -> u64 {
        let lane = u64::MAX >> (64 - self.bits);
        (self.top >> (self.bits - 1)).wrapping_mul(lane >> n)
    }
}
