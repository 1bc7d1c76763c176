//! FSIN, FCOS, FSINCOS, FPTAN and FPATAN.
//!
//! Operands beyond pi/4 are reduced with the processors' 66-bit pi (SDM vol. 1, 8.3.8), exactly; what follows is
//! rounded from 128-bit approximations as in `exp_log`.

use super::Env;
use super::exp_log::round_irrational;
use super::number::{BIAS, F80, Finite, Magnitude, accept_denormals, numbers};
use crate::softfp::wide::{Wide, mul_high};

/// pi/2 in units of 2^-65, from the 66-bit pi.
const HALF_PI_66: u128 = 0x3_243f_6a88_85a3_08d3;
/// One, in units of 2^-127.
const ONE: u128 = 1 << 127;
const PI: Wide = Wide { sign: false, exp: 1, sig: 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1 };
const HALF_PI: Wide = Wide { exp: 0, ..PI };
const QUARTER_PI: Wide = Wide { exp: -1, ..PI };
const THREE_QUARTERS_PI: Wide = Wide { sign: false, exp: 1, sig: 0x96cb_e3f9_990e_91a7_9394_c9e8_a0a5_159c };

/// 1/(2k + first)!, as fractions.
const fn series_of_factorials<const N: usize>(first: u128) -> [u128; N] {
    let mut table = [0; N];
    // 1/2, then on to 1/first!.
    let mut term = 1u128 << 127;
    let mut n = 3;
    while n <= first {
        term /= n;
        n += 1;
    }
    let mut k = 0;
    while k < N {
        table[k] = term;
        term /= n * (n + 1);
        n += 2;
        k += 1;
    }
    table
}

/// Coefficients of (1 - sin(r)/r) / r^2, signs alternating.
const SIN_SERIES: [u128; 17] = series_of_factorials(3);
/// Coefficients of (1 - cos(r)) / r^2, signs alternating.
const COS_SERIES: [u128; 17] = series_of_factorials(2);

/// Coefficients of (1 - atan(t)/t) / t^2, signs alternating: 1/(2k + 3).
const ATAN_SERIES: [u128; 12] = {
    let mut table = [0; 12];
    let mut k = 0;
    while k < 12 {
        table[k] = u128::MAX / (2 * k as u128 + 3);
        k += 1;
    }
    table
};

/// `1 - x * (c0 - x * (c1 - ..))` in units of 2^-127, always below one.
fn alternating(series: &[u128], x: u128) -> u128 {
    let tail = series.iter().rev().fold(0, |sum, &term| term - mul_high(x, sum));
    // The last unit keeps directed rounding on the right side of a representable leading term.
    ONE - (mul_high(x, tail) >> 1) - 1
}

/// An angle `quadrant * pi/2 + rest`, |rest| <= pi/4.
#[derive(Clone, Copy)]
struct Reduced {
    quadrant: u8,
    rest: Wide,
}

/// Reduces a magnitude below 2^63.
fn reduce(x: Finite) -> Reduced {
    let exp = x.exp - BIAS;
    if exp < -1 {
        return Reduced { quadrant: 0, rest: x.wide(false) };
    }
    let angle = u128::from(x.sig) << (exp + 2);
    let (turns, rest) = (angle / HALF_PI_66, angle % HALF_PI_66);
    let quadrant = (turns & 3) as u8;
    // No 80-bit number is a multiple of the 66-bit pi/2, so the rest is not zero.
    if 2 * rest < HALF_PI_66 {
        Reduced { quadrant, rest: Wide::new(false, 62, rest) }
    } else {
        Reduced { quadrant: (quadrant + 1) & 3, rest: Wide::new(true, 62, HALF_PI_66 - rest) }
    }
}

impl Reduced {
    fn square(self) -> u128 {
        self.rest.mul(self.rest).fraction()
    }

    fn sin_rest(self, square: u128) -> Wide {
        self.rest.mul(Wide::new(false, 0, alternating(&SIN_SERIES, square)))
    }

    fn cos_rest(square: u128) -> Wide {
        Wide::new(false, 0, alternating(&COS_SERIES, square))
    }

    fn sin(self) -> Wide {
        let square = self.square();
        let value = if self.quadrant & 1 == 0 { self.sin_rest(square) } else { Self::cos_rest(square) };
        if self.quadrant & 2 == 0 { value } else { value.negated() }
    }

    fn cos(self) -> Wide {
        Self { quadrant: (self.quadrant + 1) & 3, ..self }.sin()
    }

    fn tan(self) -> Wide {
        let square = self.square();
        let sin = if self.rest.exp < -33 {
            // cos is 1 to within the error of the quotient: tan r = r (1 + r^2 / 3), a little above r.
            let value = self.rest.mul(Wide::new(false, 0, ONE + square / 6 + 1));
            if self.quadrant & 1 == 0 {
                return value;
            }
            value
        } else {
            self.sin_rest(square)
        };
        let cos = Self::cos_rest(square);
        if self.quadrant & 1 == 0 { sin.div(cos) } else { cos.div(sin).negated() }
    }
}

/// A trigonometric operand.
enum Angle {
    /// At least 2^63: the instruction reports C2 and changes nothing.
    OutOfRange,
    /// A zero, or an operand that decides the result: NaN, invalid, unmasked denormal.
    Zero,
    Special(F80),
    Finite(Finite),
}

fn angle(a: F80, env: &mut Env) -> Angle {
    env.c1 = false;
    match a.number(env) {
        Err(nan) => Angle::Special(nan),
        Ok(Magnitude::Infinite) => Angle::Special(env.invalid()),
        Ok(Magnitude::Zero) => Angle::Zero,
        Ok(Magnitude::Finite(x)) if x.exp >= BIAS + 63 => Angle::OutOfRange,
        Ok(Magnitude::Finite(_)) if a.is_denormal() && !env.denormal() => Angle::Special(a),
        Ok(Magnitude::Finite(x)) => Angle::Finite(x),
    }
}

fn signed(value: Wide, negate: bool) -> Wide {
    if negate { value.negated() } else { value }
}

/// FSIN. `None`: the operand is out of range (C2).
pub fn fsin(a: F80, env: &mut Env) -> Option<F80> {
    match angle(a, env) {
        Angle::OutOfRange => None,
        Angle::Zero => Some(a),
        Angle::Special(result) => Some(result),
        Angle::Finite(x) => Some(round_irrational(signed(reduce(x).sin(), a.is_negative()), env)),
    }
}

/// FCOS. `None`: the operand is out of range (C2).
pub fn fcos(a: F80, env: &mut Env) -> Option<F80> {
    match angle(a, env) {
        Angle::OutOfRange => None,
        Angle::Zero => Some(F80::ONE),
        Angle::Special(result) => Some(result),
        Angle::Finite(x) => Some(round_irrational(reduce(x).cos(), env)),
    }
}

/// FSINCOS: the sine replaces ST(0), then the cosine is pushed. `None`: the operand is out of range (C2).
pub fn fsincos(a: F80, env: &mut Env) -> Option<(F80, F80)> {
    match angle(a, env) {
        Angle::OutOfRange => None,
        Angle::Zero => Some((a, F80::ONE)),
        Angle::Special(result) => Some((result, result)),
        Angle::Finite(x) => {
            let reduced = reduce(x);
            let sin = round_irrational(signed(reduced.sin(), a.is_negative()), env);
            let cos = round_irrational(reduced.cos(), env);
            Some((sin, cos))
        }
    }
}

/// FPTAN: the tangent replaces ST(0), then one is pushed. `None`: the operand is out of range (C2).
pub fn fptan(a: F80, env: &mut Env) -> Option<(F80, F80)> {
    match angle(a, env) {
        Angle::OutOfRange => None,
        Angle::Zero => Some((a, F80::ONE)),
        Angle::Special(result) => Some((result, result)),
        Angle::Finite(x) => Some((round_irrational(signed(reduce(x).tan(), a.is_negative()), env), F80::ONE)),
    }
}

/// atan(i / 32), as fractions.
const ATAN_TABLE: [u128; 33] = [
    0x0000_0000_0000_0000_0000_0000_0000_0000,
    0x07ff_556e_ea5d_892a_13bc_ebbb_6ed4_6310,
    0x0ffa_addb_967e_f4e3_6cb2_792d_c0e2_e0d5,
    0x17ee_1826_02f1_0e8c_126a_cfcf_099f_06ce,
    0x1fd5_ba9a_ac2f_6dc6_5912_f313_e7d1_11de,
    0x27ad_ddd1_8cc4_d8b0_d1d8_6749_40d8_3fa1,
    0x2f72_f697_9cb6_044d_1ec2_d3e2_0727_1d21,
    0x3721_aea5_24c1_4408_bd88_6970_72d5_4bc0,
    0x3eb6_ebf2_5901_bac5_5b71_e7bd_7de8_85f9,
    0x462f_d68c_2fc5_e098_6523_a458_dfc4_14c6,
    0x4d89_dcdc_1faf_2f34_e2d5_da4c_693d_7994,
    0x54c2_b665_4735_276d_4cdb_fbbd_fbec_f460,
    0x5bd8_6507_937b_c239_c551_9091_6e7f_2241,
    0x62c9_34e5_286c_95b6_d0ba_3748_fa85_146e,
    0x6993_bb0f_308f_f2db_213e_4af4_800f_389b,
    0x7036_d325_3b27_be33_e318_f6cb_3cc6_5c01,
    0x76b1_9c15_86ed_3da2_b7f2_22f6_5e1d_4681,
    0x7d03_742d_5050_5f2e_3369_1e3e_aee4_7661,
    0x832b_f4a6_d986_7e2a_4b6a_09cb_61a5_15c0,
    0x892a_ecdf_de95_47b5_0944_78fc_472b_4afb,
    0x8f00_5d5e_f7f5_9f9b_5c83_5e16_65c4_3747,
    0x94ac_72c9_8471_86f6_18c4_f393_f78a_32f8,
    0x9a2f_80e6_71bd_da20_4226_f8e2_204f_f3bc,
    0x9f89_fdc4_f4b7_a1ec_f8b4_9264_4f07_01df,
    0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9e,
    0xa9c7_abdc_4830_f5c8_916a_84b5_be79_33f5,
    0xaeac_4c38_b4d8_c080_1472_5e2f_3e52_070a,
    0xb36b_31c9_1f04_3691_5901_4174_4462_f939,
    0xb805_3e2b_c231_9e73_cb2d_a552_10a4_443d,
    0xbc7b_5dea_e98a_f280_d411_3006_e80f_b290,
    0xc0ce_85b8_ac52_6640_89dd_62c4_6e92_fa24,
    0xc4ff_affa_bf8f_bd54_8cb4_3d10_bc9e_0221,
    0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1,
];

/// atan(t) for 0 < |t| <= 1/63.
fn atan_small(t: Wide) -> Wide {
    let square = t.mul(t).fraction();
    t.mul(Wide::new(false, 0, alternating(&ATAN_SERIES, square)))
}

/// atan(a / b) for a <= b.
fn atan_ratio(a: Finite, b: Finite) -> Wide {
    let shift = (b.exp - a.exp) as u32;
    // The nearest thirty-second; an estimate that is off by a little does no harm.
    let index = if shift > 6 { 0 } else { (((a.sig >> 26) >> shift) / (b.sig >> 32)).div_ceil(2).min(32) };
    if index == 0 {
        return atan_small(a.wide(false).div(b.wide(false)));
    }
    // atan(a/b) = atan(i/32) + atan((32 a - i b) / (32 b + i a)); both terms are exact integers.
    let (small, big) = (i128::from(a.sig), i128::from(b.sig) << shift);
    let i = i128::from(index);
    let numerator = 32 * small - i * big;
    let denominator = 32 * big + i * small;
    let base = ATAN_TABLE[index as usize];
    if numerator == 0 {
        return Wide::new(false, -1, base);
    }
    let t = Wide::new(numerator < 0, 0, numerator.unsigned_abs()).div(Wide::new(
        false,
        0,
        denominator.unsigned_abs(),
    ));
    let correction = atan_small(t);
    let sum = if correction.sign { base - correction.fraction() } else { base + correction.fraction() };
    Wide::new(false, -1, sum)
}

/// FPATAN: the angle of the point (x, y), in (-pi, pi].
pub fn fpatan(y: F80, x: F80, env: &mut Env) -> F80 {
    env.c1 = false;
    let (my, mx) = match numbers(y, x, env) {
        Ok(pair) => pair,
        Err(nan) => return nan,
    };
    if !accept_denormals(y, x, env) {
        return y;
    }
    let (sign, left) = (y.is_negative(), x.is_negative());
    let angle = match (my, mx) {
        (Magnitude::Infinite, Magnitude::Infinite) if left => THREE_QUARTERS_PI,
        (Magnitude::Infinite, Magnitude::Infinite) => QUARTER_PI,
        (Magnitude::Infinite, _) | (Magnitude::Finite(_), Magnitude::Zero) => HALF_PI,
        (_, Magnitude::Infinite) | (Magnitude::Zero, _) if left => PI,
        (_, Magnitude::Infinite) | (Magnitude::Zero, _) => return F80::zero(sign),
        (Magnitude::Finite(b), Magnitude::Finite(a)) => {
            let steep = (b.exp, b.sig) > (a.exp, a.sig);
            let angle = if steep { atan_ratio(a, b) } else { atan_ratio(b, a) };
            match (steep, left) {
                (false, false) => angle,
                (false, true) => PI.add(angle.negated()),
                (true, false) => HALF_PI.add(angle.negated()),
                (true, true) => HALF_PI.add(angle),
            }
        }
    };
    round_irrational(signed(angle, sign), env)
}
