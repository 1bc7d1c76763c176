//! RCPSS and RSQRTSS: approximations with a relative error of at most 1.5 * 2^-12 (SDM vol. 2), from tables of our own.
//!
//! Processors differ in these bits; here every host gives the same. No flags are raised, MXCSR is not read: denormal
//! operands count as zeros, and results that would be denormal are zeros.

/// Index bits of the tables, and of the fractions in them.
const INDEX_BITS: u32 = 11;
const VALUE_BITS: u32 = 15;
const ENTRIES: usize = 1 << INDEX_BITS;

/// For m in [1, 2), by the leading bits of its fraction: the fraction of 2/m at the middle of the interval.
const RECIPROCALS: [u16; ENTRIES] = {
    let mut table = [0; ENTRIES];
    let mut i = 0;
    while i < ENTRIES {
        // m = middle / 2^(INDEX_BITS + 1).
        let middle = 2 * (ENTRIES + i) as u64 + 1;
        let reciprocal = (1u64 << (VALUE_BITS + INDEX_BITS + 3)).div_ceil(middle) / 2;
        table[i] = (reciprocal - (1 << VALUE_BITS)) as u16;
        i += 1;
    }
    table
};

/// For x in [1, 4), by the low bit of its exponent (clear: [1, 2)) and the leading bits of its fraction: the
/// fraction of 2/sqrt(x) at the middle of the interval.
const ROOTS: [u16; 2 * ENTRIES] = {
    let mut table = [0; 2 * ENTRIES];
    let mut i = 0;
    while i < 2 * ENTRIES {
        // x = middle / 2^(INDEX_BITS + 1), doubled in the upper half of the table.
        let middle = (2 * (ENTRIES + i % ENTRIES) as u128 + 1) << (i / ENTRIES);
        // 2/sqrt(x) in units of 2^-VALUE_BITS: the square root of 2^(2 VALUE_BITS + INDEX_BITS + 3) / middle.
        let square = (1u128 << (2 * VALUE_BITS + INDEX_BITS + 3)) / middle;
        table[i] = (square.isqrt() - (1 << VALUE_BITS)) as u16;
        i += 1;
    }
    table
};

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = 0xff << 23;
const QUIET: u32 = 1 << 22;
const INDEFINITE: u32 = SIGN | INFINITY | QUIET;

#[inline(always)]
const fn index(a: u32) -> usize {
    (a >> (23 - INDEX_BITS)) as usize & (ENTRIES - 1)
}

/// RCPSS.
pub fn rcp32(a: u32) -> u32 {
    let (sign, exponent) = (a & SIGN, a >> 23 & 0xff);
    match exponent {
        0 => sign | INFINITY,
        0xff if a << 9 == 0 => sign,
        0xff => a | QUIET,
        // 1/(m 2^e) = (2/m) 2^(-e - 1).
        _ if exponent > 252 => sign,
        _ => sign | (253 - exponent) << 23 | u32::from(RECIPROCALS[index(a)]) << (23 - VALUE_BITS),
    }
}

/// RSQRTSS.
pub fn rsqrt32(a: u32) -> u32 {
    let (sign, exponent) = (a & SIGN, a >> 23 & 0xff);
    match exponent {
        0 => sign | INFINITY,
        0xff if a << 9 != 0 => a | QUIET,
        _ if sign != 0 => INDEFINITE,
        0xff => 0,
        _ => {
            // An odd field is an even exponent (the bias is odd): x in [1, 2).
            let upper = usize::from(exponent & 1 == 0);
            // 1/sqrt(x 2^(2k)) = (2/sqrt(x)) 2^(-k - 1).
            let result = 126 - ((exponent as i32 - 127) >> 1);
            (result as u32) << 23 | u32::from(ROOTS[upper * ENTRIES + index(a)]) << (23 - VALUE_BITS)
        }
    }
}
