//! Integer vector operations on two quadwords, as the evaluator runs them: pure functions, the same on every host.
//!
//! What can be done without taking lanes apart is (`swar`); the rest splits into arrays of fixed size and joins again.

use std::array::from_fn;

use super::crypto;
use super::emitter::{VBin, VShift, VUn};
use super::swar::{self, both};
use crate::insn::Width;
use crate::state::Xmm;

/// Defines the split into lanes of a type, and the join.
macro_rules! lanes {
    ($t:ty, $n:literal, $split:ident, $join:ident) => {
        /// The lanes, lowest first.
        #[inline(always)]
        pub fn $split(x: Xmm) -> [$t; $n] {
            const B: usize = size_of::<$t>();
            from_fn(|k| {
                let q = x[k * B / 8];
                (q >> (k * B % 8 * 8)) as $t
            })
        }
        /// The inverse.
        #[inline(always)]
        pub fn $join(l: [$t; $n]) -> Xmm {
            const B: usize = size_of::<$t>();
            const PER: usize = 8 / B;
            let q = |h: usize| {
                let mut v = 0u64;
                let mut k = 0;
                while k < PER {
                    v |= (l[h * PER + k] as u64) << (k * B * 8);
                    k += 1;
                }
                v
            };
            [q(0), q(1)]
        }
    };
}

lanes!(u8, 16, bytes, from_bytes);
lanes!(u16, 8, words, from_words);
lanes!(u32, 4, dwords, from_dwords);

/// Words, lane by lane.
#[inline(always)]
fn map2_w(a: Xmm, b: Xmm, f: impl Fn(u16, u16) -> u16) -> Xmm {
    let (a, b) = (words(a), words(b));
    from_words(from_fn(|k| f(a[k], b[k])))
}

/// Doublewords, lane by lane.
#[inline(always)]
fn map2_d(a: Xmm, b: Xmm, f: impl Fn(u32, u32) -> u32) -> Xmm {
    let (a, b) = (dwords(a), dwords(b));
    from_dwords(from_fn(|k| f(a[k], b[k])))
}

#[inline(always)]
fn sat_i8(v: i16) -> u8 {
    v.clamp(-128, 127) as u8
}
#[inline(always)]
fn sat_u8(v: i16) -> u8 {
    v.clamp(0, 255) as u8
}
#[inline(always)]
fn sat_i16(v: i32) -> u16 {
    v.clamp(-32768, 32767) as u16
}
#[inline(always)]
fn sat_u16(v: i32) -> u16 {
    v.clamp(0, 65535) as u16
}

/// Signed product of two words.
#[inline(always)]
fn mul_sw(x: u16, y: u16) -> i32 {
    i32::from(x as i16) * i32::from(y as i16)
}

#[inline(always)]
fn pack_words(a: Xmm, b: Xmm, f: impl Fn(i16) -> u8) -> Xmm {
    let (a, b) = (words(a), words(b));
    from_bytes(from_fn(|k| f(if k < 8 { a[k] } else { b[k - 8] } as i16)))
}

#[inline(always)]
fn pack_dwords(a: Xmm, b: Xmm, f: impl Fn(i32) -> u16) -> Xmm {
    let (a, b) = (dwords(a), dwords(b));
    from_words(from_fn(|k| f(if k < 4 { a[k] } else { b[k - 4] } as i32)))
}

/// Spreads the bytes of a dword to the even bytes of a quadword.
#[inline(always)]
fn spread_bytes(v: u32) -> u64 {
    let v = u64::from(v);
    let v = (v | v << 16) & 0x0000_ffff_0000_ffff;
    (v | v << 8) & 0x00ff_00ff_00ff_00ff
}

/// Spreads the words of a dword to the even words of a quadword.
#[inline(always)]
fn spread_words(v: u32) -> u64 {
    let v = u64::from(v);
    (v | v << 16) & 0x0000_ffff_0000_ffff
}

/// Interleaves two quadwords by `spread` of their halves, shifted by `bits`.
#[inline(always)]
fn interleave(a: u64, b: u64, bits: u32, spread: impl Fn(u32) -> u64) -> Xmm {
    let half = |x: u32, y: u32| spread(x) | spread(y) << bits;
    [half(a as u32, b as u32), half((a >> 32) as u32, (b >> 32) as u32)]
}

#[inline(always)]
fn interleave_dwords(a: u64, b: u64) -> Xmm {
    [a & 0xffff_ffff | b << 32, a >> 32 | b & 0xffff_ffff_0000_0000]
}

/// Pairs of words of `a` then of `b` through `f`.
#[inline(always)]
fn horizontal_w(a: Xmm, b: Xmm, f: impl Fn(i16, i16) -> u16) -> Xmm {
    let (a, b) = (words(a), words(b));
    from_words(from_fn(|k| {
        let (s, k) = if k < 4 { (&a, k) } else { (&b, k - 4) };
        f(s[2 * k] as i16, s[2 * k + 1] as i16)
    }))
}

#[inline(always)]
fn horizontal_d(a: Xmm, b: Xmm, f: impl Fn(u32, u32) -> u32) -> Xmm {
    let (a, b) = (dwords(a), dwords(b));
    from_dwords([f(a[0], a[1]), f(a[2], a[3]), f(b[0], b[1]), f(b[2], b[3])])
}

/// PSIGN: `a` negated, zeroed or kept by `b`'s sign.
#[inline(always)]
fn sign(l: swar::Lanes, a: u64, b: u64) -> u64 {
    l.negate_where(a, l.negative(b)) & !l.equal(b, 0)
}

/// Sum of the absolute differences of eight bytes.
#[inline(always)]
fn sad(a: u64, b: u64) -> u64 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    (0..8).map(|k| u64::from(a[k].abs_diff(b[k]))).sum()
}

/// Evaluates a two-operand operation.
#[inline(always)]
pub fn vbin(op: VBin, a: Xmm, b: Xmm) -> Xmm {
    use VBin::*;
    match op {
        And => [a[0] & b[0], a[1] & b[1]],
        Andn => [!a[0] & b[0], !a[1] & b[1]],
        Or => [a[0] | b[0], a[1] | b[1]],
        Xor => [a[0] ^ b[0], a[1] ^ b[1]],

        AddB => both(a, b, |x, y| swar::B.add(x, y)),
        AddW => both(a, b, |x, y| swar::W.add(x, y)),
        AddD => both(a, b, |x, y| swar::D.add(x, y)),
        AddQ => both(a, b, u64::wrapping_add),
        SubB => both(a, b, |x, y| swar::B.sub(x, y)),
        SubW => both(a, b, |x, y| swar::W.sub(x, y)),
        SubD => both(a, b, |x, y| swar::D.sub(x, y)),
        SubQ => both(a, b, u64::wrapping_sub),
        AddSB => both(a, b, |x, y| swar::B.add_signed_saturating(x, y)),
        AddSW => both(a, b, |x, y| swar::W.add_signed_saturating(x, y)),
        AddUsB => both(a, b, |x, y| swar::B.add_unsigned_saturating(x, y)),
        AddUsW => both(a, b, |x, y| swar::W.add_unsigned_saturating(x, y)),
        SubSB => both(a, b, |x, y| swar::B.sub_signed_saturating(x, y)),
        SubSW => both(a, b, |x, y| swar::W.sub_signed_saturating(x, y)),
        SubUsB => both(a, b, |x, y| swar::B.sub_unsigned_saturating(x, y)),
        SubUsW => both(a, b, |x, y| swar::W.sub_unsigned_saturating(x, y)),

        MulLoW => map2_w(a, b, u16::wrapping_mul),
        MulHiW => map2_w(a, b, |x, y| (mul_sw(x, y) >> 16) as u16),
        MulHiUW => map2_w(a, b, |x, y| ((u32::from(x) * u32::from(y)) >> 16) as u16),
        MulLoD => map2_d(a, b, u32::wrapping_mul),
        MulUD => both(a, b, |x, y| (x & 0xffff_ffff) * (y & 0xffff_ffff)),
        MulSD => both(a, b, |x, y| (i64::from(x as i32) * i64::from(y as i32)) as u64),
        MulHrsW => map2_w(a, b, |x, y| (((mul_sw(x, y) >> 14) + 1) >> 1) as u16),
        MaddWD => map2_d(a, b, |x, y| {
            let low = mul_sw(x as u16, y as u16);
            low.wrapping_add(mul_sw((x >> 16) as u16, (y >> 16) as u16)) as u32
        }),
        MaddUbSW => map2_w(a, b, |x, y| {
            let low = i32::from(x as u8) * i32::from(y as i8);
            sat_i16(low + i32::from((x >> 8) as u8) * i32::from((y >> 8) as i8))
        }),
        SadBW => [sad(a[0], b[0]), sad(a[1], b[1])],
        AvgB => both(a, b, |x, y| swar::B.average(x, y)),
        AvgW => both(a, b, |x, y| swar::W.average(x, y)),
        MinUB => both(a, b, |x, y| swar::choose(y, x, swar::B.below(x, y))),
        MaxUB => both(a, b, |x, y| swar::choose(x, y, swar::B.below(x, y))),
        MinSB => both(a, b, |x, y| swar::choose(y, x, swar::B.less(x, y))),
        MaxSB => both(a, b, |x, y| swar::choose(x, y, swar::B.less(x, y))),
        MinUW => both(a, b, |x, y| swar::choose(y, x, swar::W.below(x, y))),
        MaxUW => both(a, b, |x, y| swar::choose(x, y, swar::W.below(x, y))),
        MinSW => both(a, b, |x, y| swar::choose(y, x, swar::W.less(x, y))),
        MaxSW => both(a, b, |x, y| swar::choose(x, y, swar::W.less(x, y))),
        MinUD => both(a, b, |x, y| swar::choose(y, x, swar::D.below(x, y))),
        MaxUD => both(a, b, |x, y| swar::choose(x, y, swar::D.below(x, y))),
        MinSD => both(a, b, |x, y| swar::choose(y, x, swar::D.less(x, y))),
        MaxSD => both(a, b, |x, y| swar::choose(x, y, swar::D.less(x, y))),

        CmpEqB => both(a, b, |x, y| swar::B.equal(x, y)),
        CmpEqW => both(a, b, |x, y| swar::W.equal(x, y)),
        CmpEqD => both(a, b, |x, y| swar::D.equal(x, y)),
        CmpEqQ => both(a, b, |x, y| swar::Q.equal(x, y)),
        CmpGtB => both(a, b, |x, y| swar::B.less(y, x)),
        CmpGtW => both(a, b, |x, y| swar::W.less(y, x)),
        CmpGtD => both(a, b, |x, y| swar::D.less(y, x)),
        CmpGtQ => both(a, b, |x, y| swar::Q.less(y, x)),

        PackSsWB => pack_words(a, b, sat_i8),
        PackUsWB => pack_words(a, b, sat_u8),
        PackSsDW => pack_dwords(a, b, sat_i16),
        PackUsDW => pack_dwords(a, b, sat_u16),
        UnpackLoB => interleave(a[0], b[0], 8, spread_bytes),
        UnpackLoW => interleave(a[0], b[0], 16, spread_words),
        UnpackLoD => interleave_dwords(a[0], b[0]),
        UnpackLoQ => [a[0], b[0]],
        UnpackHiB => interleave(a[1], b[1], 8, spread_bytes),
        UnpackHiW => interleave(a[1], b[1], 16, spread_words),
        UnpackHiD => interleave_dwords(a[1], b[1]),
        UnpackHiQ => [a[1], b[1]],
        ShufB => {
            let (a, b) = (bytes(a), bytes(b));
            from_bytes(from_fn(|k| if b[k] & 0x80 != 0 { 0 } else { a[b[k] as usize & 15] }))
        }
        SignB => both(a, b, |x, y| sign(swar::B, x, y)),
        SignW => both(a, b, |x, y| sign(swar::W, x, y)),
        SignD => both(a, b, |x, y| sign(swar::D, x, y)),
        HaddW => horizontal_w(a, b, |x, y| x.wrapping_add(y) as u16),
        HaddD => horizontal_d(a, b, u32::wrapping_add),
        HaddSW => horizontal_w(a, b, |x, y| x.saturating_add(y) as u16),
        HsubW => horizontal_w(a, b, |x, y| x.wrapping_sub(y) as u16),
        HsubD => horizontal_d(a, b, u32::wrapping_sub),
        HsubSW => horizontal_w(a, b, |x, y| x.saturating_sub(y) as u16),

        ShlvD => map2_d(a, b, |x, n| x.checked_shl(n).unwrap_or(0)),
        ShrvD => map2_d(a, b, |x, n| x.checked_shr(n).unwrap_or(0)),
        SarvD => map2_d(a, b, |x, n| (x as i32 >> n.min(31)) as u32),
        ShlvQ => both(a, b, |x, n| if n < 64 { x << n } else { 0 }),
        ShrvQ => both(a, b, |x, n| if n < 64 { x >> n } else { 0 }),
        PermD => {
            let (a, b) = (dwords(a), dwords(b));
            from_dwords(b.map(|n| a[n as usize & 3]))
        }
        PermQ => b.map(|n| a[(n >> 1 & 1) as usize]),
        AesEnc | AesEncLast | AesDec | AesDecLast => crypto::aes_round(op, a, b),
        Sha1NextE | Sha1Msg1 | Sha1Msg2 | Sha256Msg1 | Sha256Msg2 => crypto::sha(op, a, b),
    }
}

/// Evaluates a one-operand operation.
#[inline(always)]
pub fn vun(op: VUn, a: Xmm) -> Xmm {
    match op {
        VUn::AbsB => a.map(|x| swar::B.negate_where(x, swar::B.negative(x))),
        VUn::AbsW => a.map(|x| swar::W.negate_where(x, swar::W.negative(x))),
        VUn::AbsD => a.map(|x| swar::D.negate_where(x, swar::D.negative(x))),
        VUn::MinPos => {
            let w = words(a);
            let mut best = 0;
            for k in 1..8 {
                if w[k] < w[best] {
                    best = k;
                }
            }
            [u64::from(w[best]) | (best as u64) << 16, 0]
        }
        VUn::AesImc => crypto::aes_imc(a),
    }
}

/// MPSADBW: sums of absolute differences of four bytes of `b` and eight windows of `a`.
pub fn mpsadbw(a: Xmm, b: Xmm, imm: u8) -> Xmm {
    let (a, b) = (bytes(a), bytes(b));
    let (at, bt) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    let sum = |k: usize| (0..4).map(|j| u16::from(a[at + k + j].abs_diff(b[bt + j]))).sum();
    from_words(from_fn(sum))
}

/// Shifts all lanes by `n`.
#[inline(always)]
pub fn vshift(op: VShift, a: Xmm, n: u64) -> Xmm {
    let bits = u64::from(op.width().bits());
    let over = n >= bits;
    if over && !matches!(op, VShift::SarW | VShift::SarD) {
        return [0, 0];
    }
    let n = n.min(bits - 1) as u32;
    match op {
        VShift::ShlW => a.map(|x| swar::W.shl(x, n)),
        VShift::ShlD => a.map(|x| swar::D.shl(x, n)),
        VShift::ShlQ => a.map(|x| x << n),
        VShift::ShrW => a.map(|x| swar::W.shr(x, n)),
        VShift::ShrD => a.map(|x| swar::D.shr(x, n)),
        VShift::ShrQ => a.map(|x| x >> n),
        VShift::SarW => a.map(|x| swar::W.sar(x, n)),
        VShift::SarD => a.map(|x| swar::D.sar(x, n)),
    }
}

/// One lane of width `w`.
#[inline(always)]
pub fn lane(w: Width, x: Xmm, lane: u8) -> u64 {
    let bit = u32::from(lane) * w.bits();
    x[(bit / 64) as usize & 1] >> (bit % 64) & w.mask()
}

/// `x` with one lane replaced by `v`, which has no bits above `w`.
#[inline(always)]
pub fn with_lane(w: Width, mut x: Xmm, lane: u8, v: u64) -> Xmm {
    let bit = u32::from(lane) * w.bits();
    let q = &mut x[(bit / 64) as usize & 1];
    *q = *q & !(w.mask() << (bit % 64)) | v << (bit % 64);
    x
}

/// Widens the low lanes.
#[inline(always)]
pub fn extend(signed: bool, from: Width, to: Width, a: Xmm) -> Xmm {
    let mut out = [0; 2];
    for k in 0..(128 / to.bits()) as u8 {
        let v = lane(from, a, k);
        let v = if signed { from.sext(v) & to.mask() } else { v };
        out = with_lane(to, out, k, v);
    }
    out
}

/// Picks dwords of `a` (0..3) and `b` (4..7).
#[inline(always)]
pub fn shuffle32(a: Xmm, b: Xmm, pick: [u8; 4]) -> Xmm {
    let (a, b) = (dwords(a), dwords(b));
    let all = [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
    from_dwords(pick.map(|p| all[p as usize & 7]))
}

/// The lowest lane in all of them.
#[inline(always)]
pub fn splat(w: Width, a: Xmm) -> Xmm {
    // Ones at the bottom of each lane.
    let ones = u64::MAX / w.mask();
    [(a[0] & w.mask()).wrapping_mul(ones); 2]
}

/// Picks words.
#[inline(always)]
pub fn shuffle16(a: Xmm, pick: [u8; 8]) -> Xmm {
    let a = words(a);
    from_words(pick.map(|p| a[p as usize & 7]))
}

/// 128-bit value.
#[inline(always)]
pub fn wide(x: Xmm) -> u128 {
    u128::from(x[0]) | u128::from(x[1]) << 64
}

/// Two quadwords.
#[inline(always)]
pub fn narrow(v: u128) -> Xmm {
    [v as u64, (v >> 64) as u64]
}

/// `high:low` shifted right by `n` bytes, low 128 bits.
#[inline(always)]
pub fn align_bytes(high: Xmm, low: Xmm, n: u8) -> Xmm {
    let bits = u32::from(n) * 8;
    narrow(match bits {
        0 => wide(low),
        1..128 => wide(low) >> bits | wide(high) << (128 - bits),
        128..256 => wide(high) >> (bits - 128),
        _ => 0,
    })
}

/// `b` where `mask` has ones, else `a`.
#[inline(always)]
pub fn choose(a: Xmm, b: Xmm, mask: Xmm) -> Xmm {
    [swar::choose(a[0], b[0], mask[0]), swar::choose(a[1], b[1], mask[1])]
}

/// Bytes of `b` where `pick` has a bit, else of `a`.
#[inline(always)]
pub fn blend(a: Xmm, b: Xmm, pick: u16) -> Xmm {
    choose(a, b, from_bytes(from_fn(|k| if pick >> k & 1 != 0 { 0xff } else { 0 })))
}

/// Lanes of `b` where `mask`'s lane is negative, else of `a`.
#[inline(always)]
pub fn blend_var(w: Width, a: Xmm, b: Xmm, mask: Xmm) -> Xmm {
    let m = match w {
        Width::B => mask.map(|m| swar::B.negative(m)),
        Width::W => mask.map(|m| swar::W.negative(m)),
        Width::D => mask.map(|m| swar::D.negative(m)),
        Width::Q => mask.map(|m| swar::Q.negative(m)),
    };
    choose(a, b, m)
}

/// The sign bits of eight bytes in the low byte.
#[inline(always)]
fn byte_signs(v: u64) -> u64 {
    // Each byte's sign bit times the multiplier lands in the top byte at its own place, without carries.
    (v >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// The sign bits of the lanes, lane 0 in bit 0.
#[inline(always)]
pub fn move_mask(w: Width, a: Xmm) -> u64 {
    match w {
        Width::B => byte_signs(a[0]) | byte_signs(a[1]) << 8,
        Width::Q => a[0] >> 63 | a[1] >> 63 << 1,
        _ => {
            let half = |q: u64| q >> 31 & 1 | q >> 63 << 1;
            half(a[0]) | half(a[1]) << 2
        }
    }
}
