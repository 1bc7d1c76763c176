//! AES rounds (FIPS 197), SHA rounds (FIPS 180-4) and carry-less products, on one 128-bit lane.
//!
//! An AES state is its 16 bytes in order, column by column. The S-boxes are computed at compile time from their definition.

use std::array::from_fn;

use super::emitter::{VBin, VImm};
use super::lanes::{self, bytes, dwords, from_bytes, from_dwords, narrow, wide};
use crate::state::Xmm;

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
const fn gf_mul(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}

const fn sub_boxes() -> ([u8; 256], [u8; 256]) {
    let (mut forward, mut inverse) = ([0; 256], [0; 256]);
    let mut x = 0;
    while x < 256 {
        // x^254 is the inverse, and 0 for 0.
        let (mut inverted, mut n) = (1, 0);
        while n < 254 {
            inverted = gf_mul(inverted, x as u8);
            n += 1;
        }
        let i = inverted;
        let s = i ^ i.rotate_left(1) ^ i.rotate_left(2) ^ i.rotate_left(3) ^ i.rotate_left(4) ^ 0x63;
        forward[x] = s;
        inverse[s as usize] = x as u8;
        x += 1;
    }
    (forward, inverse)
}

static SUB: [u8; 256] = sub_boxes().0;
static INVERSE_SUB: [u8; 256] = sub_boxes().1;

/// (Inv)ShiftRows and (Inv)SubBytes.
fn substitute(a: Xmm, inverse: bool) -> [u8; 16] {
    let a = bytes(a);
    from_fn(|k| {
        let (column, row) = (k / 4, k % 4);
        if inverse {
            INVERSE_SUB[a[4 * ((column + 4 - row) % 4) + row] as usize]
        } else {
            SUB[a[4 * ((column + row) % 4) + row] as usize]
        }
    })
}

/// A column times the circulant matrix with these coefficients.
fn mix(a: [u8; 16], coefficients: [u8; 4]) -> [u8; 16] {
    from_fn(|k| {
        let (column, row) = (k / 4 * 4, k % 4);
        (0..4).fold(0, |sum, n| sum ^ gf_mul(a[column + n], coefficients[(n + 4 - row) % 4]))
    })
}

const MIX: [u8; 4] = [2, 3, 1, 1];
const INVERSE_MIX: [u8; 4] = [14, 11, 13, 9];

/// One round.
pub fn aes_round(op: VBin, state: Xmm, key: Xmm) -> Xmm {
    let s = substitute(state, matches!(op, VBin::AesDec | VBin::AesDecLast));
    let s = match op {
        VBin::AesEnc => mix(s, MIX),
        VBin::AesDec => mix(s, INVERSE_MIX),
        _ => s,
    };
    let s = from_bytes(s);
    [s[0] ^ key[0], s[1] ^ key[1]]
}

/// AESIMC: InvMixColumns.
pub fn aes_imc(a: Xmm) -> Xmm {
    from_bytes(mix(bytes(a), INVERSE_MIX))
}

/// AESKEYGENASSIST.
fn aes_key(a: Xmm, imm: u8) -> Xmm {
    let x = dwords(a).map(|d| u32::from_le_bytes(d.to_le_bytes().map(|b| SUB[b as usize])));
    let turned = |d: u32| d.rotate_right(8) ^ u32::from(imm);
    from_dwords([x[1], turned(x[1]), x[3], turned(x[3])])
}

/// Carry-less product of two quadwords.
fn clmul(a: u64, b: u64) -> Xmm {
    let a = u128::from(a);
    narrow((0..64).filter(|n| b >> n & 1 != 0).fold(0, |product, n| product ^ a << n))
}

/// Operations with an immediate.
pub fn vimm(op: VImm, a: Xmm, b: Xmm, imm: u8) -> Xmm {
    match op {
        VImm::Mpsadbw => lanes::mpsadbw(a, b, imm),
        VImm::Clmul => clmul(a[usize::from(imm & 1)], b[usize::from(imm >> 4 & 1)]),
        VImm::Sha1Rounds => sha1_rounds(a, b, imm & 3),
        VImm::AesKey => aes_key(b, imm),
    }
}

/// The message schedules, and SHA1NEXTE.
pub fn sha(op: VBin, a: Xmm, b: Xmm) -> Xmm {
    let (x, y) = (dwords(a), dwords(b));
    match op {
        VBin::Sha1NextE => from_dwords([y[0], y[1], y[2], y[3].wrapping_add(x[3].rotate_left(30))]),
        VBin::Sha1Msg1 => {
            // Words 0 to 5 from the highest doubleword downwards.
            narrow(wide(a) ^ (wide(a) << 64 | wide(b) >> 64))
        }
        VBin::Sha1Msg2 => {
            let w16 = (x[3] ^ y[2]).rotate_left(1);
            let w17 = (x[2] ^ y[1]).rotate_left(1);
            let w18 = (x[1] ^ y[0]).rotate_left(1);
            from_dwords([(x[0] ^ w16).rotate_left(1), w18, w17, w16])
        }
        VBin::Sha256Msg1 => {
            let s0 = |w: u32| w.rotate_right(7) ^ w.rotate_right(18) ^ w >> 3;
            let next = [x[1], x[2], x[3], y[0]];
            from_dwords(from_fn(|k| x[k].wrapping_add(s0(next[k]))))
        }
        _ => {
            let s1 = |w: u32| w.rotate_right(17) ^ w.rotate_right(19) ^ w >> 10;
            let w16 = x[0].wrapping_add(s1(y[2]));
            let w17 = x[1].wrapping_add(s1(y[3]));
            from_dwords([w16, w17, x[2].wrapping_add(s1(w16)), x[3].wrapping_add(s1(w17))])
        }
    }
}

/// SHA1RNDS4: four rounds of one of the four kinds; E is in the first message word already.
fn sha1_rounds(state: Xmm, message: Xmm, kind: u8) -> Xmm {
    let [mut d, mut c, mut b, mut a] = dwords(state);
    let mut e = 0;
    for w in dwords(message).into_iter().rev() {
        let (f, k) = match kind {
            0 => (b & c ^ !b & d, 0x5a82_7999),
            1 => (b ^ c ^ d, 0x6ed9_eba1),
            2 => (b & c ^ b & d ^ c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6u32),
        };
        let next = [f, a.rotate_left(5), w, e, k].into_iter().fold(0, u32::wrapping_add);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    from_dwords([d, c, b, a])
}

/// SHA256RNDS2: two rounds.
pub fn sha256_rounds(cdgh: Xmm, abef: Xmm, wk: Xmm) -> Xmm {
    let [mut h, mut g, mut d, mut c] = dwords(cdgh);
    let [mut f, mut e, mut b, mut a] = dwords(abef);
    for wk in &dwords(wk)[..2] {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let t = [e & f ^ !e & g, s1, *wk, h].into_iter().fold(0, u32::wrapping_add);
        let u = (a & b ^ a & c ^ b & c).wrapping_add(s0);
        (h, g, f, e) = (g, f, e, d.wrapping_add(t));
        (d, c, b, a) = (c, b, a, t.wrapping_add(u));
    }
    from_dwords([f, e, b, a])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(hex: u128) -> Xmm {
        from_bytes(hex.to_be_bytes())
    }

    #[test]
    fn a_round_of_fips_197_appendix_b() {
        let state = block(0x193d_e3be_a0f4_e22b_9ac6_8d2a_e9f8_4808);
        let key = block(0xa0fa_fe17_8854_2cb1_23a3_3939_2a6c_7605);
        let next = block(0xa49c_7ff2_689f_352b_6b5b_ea43_026a_5049);
        assert_eq!(aes_round(VBin::AesEnc, state, key), next);
        // Backwards, by the equivalent inverse cipher: InvMixColumns of state and key.
        let without_key = [next[0] ^ key[0], next[1] ^ key[1]];
        let mixed = aes_imc(without_key);
        let back = aes_round(VBin::AesDecLast, mixed, [0; 2]);
        assert_eq!(back, state);
    }

    #[test]
    fn key_expansion_of_fips_197_appendix_a() {
        // w[3] of the AES-128 key; the next round key's first word is w[0] ^ this.
        let key = block(0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c);
        let assist = dwords(vimm(VImm::AesKey, [0; 2], key, 1));
        let w4 = dwords(key)[0] ^ assist[3];
        assert_eq!(w4.to_be(), 0xa0fa_fe17);
    }

    #[test]
    fn sha256_of_abc() {
        const K: [u32; 64] = constants();
        let mut w = [0u32; 64];
        (w[0], w[15]) = (0x6162_6380, 24);
        for t in 16..64 {
            let (x, y) = (w[t - 15], w[t - 2]);
            let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3;
            let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ y >> 10;
            w[t] = w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1);
        }
        let h = [
            0x6a09_e667u32,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        let mut abef = from_dwords([h[5], h[4], h[1], h[0]]);
        let mut cdgh = from_dwords([h[7], h[6], h[3], h[2]]);
        for t in (0..64).step_by(2) {
            let wk = from_dwords([w[t].wrapping_add(K[t]), w[t + 1].wrapping_add(K[t + 1]), 0, 0]);
            (cdgh, abef) = (abef, sha256_rounds(cdgh, abef, wk));
        }
        assert_eq!(dwords(abef)[3].wrapping_add(h[0]), 0xba78_16bf);
        assert_eq!(dwords(cdgh)[0].wrapping_add(h[7]), 0xf200_15ad);
        // The schedule by the instructions: W16..W19 from W0..W15.
        let four = |n: usize| from_dwords([w[n], w[n + 1], w[n + 2], w[n + 3]]);
        let first = sha(VBin::Sha256Msg1, four(0), four(4));
        let sum = |a: Xmm, b: Xmm| from_dwords(from_fn(|k| dwords(a)[k].wrapping_add(dwords(b)[k])));
        assert_eq!(sha(VBin::Sha256Msg2, sum(first, four(9)), four(12)), four(16));
    }

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    const fn constants() -> [u32; 64] {
        let (mut out, mut n, mut p) = ([0; 64], 0, 2u128);
        while n < 64 {
            let mut d = 2;
            while p % d != 0 {
                d += 1;
            }
            if d == p {
                // The integer cube root of p * 2^96.
                let (mut low, mut high) = (0u128, 1 << 36);
                while high - low > 1 {
                    let middle = (low + high) / 2;
                    if middle * middle * middle <= p << 96 { low = middle } else { high = middle }
                }
                out[n] = low as u32;
                n += 1;
            }
            p += 1;
        }
        out
    }

    #[test]
    fn sha1_of_abc() {
        let mut w = [0u32; 80];
        (w[0], w[15]) = (0x6162_6380, 24);
        for t in 16..80 {
            w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
        }
        let four = |n: usize| from_dwords([w[n + 3], w[n + 2], w[n + 1], w[n]]);
        let first = sha(VBin::Sha1Msg1, four(0), four(4));
        let first = [first[0] ^ four(8)[0], first[1] ^ four(8)[1]];
        assert_eq!(sha(VBin::Sha1Msg2, first, four(12)), four(16));

        let h = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        let mut abcd = from_dwords([h[3], h[2], h[1], h[0]]);
        // E of the next group is A of the one before, turned: NEXTE adds it to the message.
        let mut message = from_dwords([w[3], w[2], w[1], w[0].wrapping_add(h[4])]);
        for t in (0..80).step_by(4) {
            let before = abcd;
            abcd = vimm(VImm::Sha1Rounds, abcd, message, (t / 20) as u8);
            if t + 4 < 80 {
                message = sha(VBin::Sha1NextE, before, four(t + 4));
            }
        }
        assert_eq!(dwords(abcd)[3].wrapping_add(h[0]), 0xa999_3e36);
    }

    #[test]
    fn carry_less_products() {
        assert_eq!(clmul(3, 3), [5, 0]);
        assert_eq!(clmul(1 << 63, 1 << 63), [0, 1 << 62]);
        assert_eq!(vimm(VImm::Clmul, [2, 7], [9, 4], 0x01), clmul(7, 9));
        assert_eq!(vimm(VImm::Clmul, [2, 7], [9, 4], 0x10), clmul(2, 4));
    }
}
