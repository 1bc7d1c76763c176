//! The same bits on every host: digests of the kernels' results, flags and C1 over many operands under every control
//! word. They were taken where `x87_host` and `sse_host` had compared the kernels with a processor; a host of another
//! kind must come to the same numbers. A failure prints the table as it would be now.

use x86::softfp::sse::{self, FmaSign, MxEnv};
use x86::softfp::x87::{self, Constant, Env, F80};
use x86::softfp::{Relation, Round};

/// Operands for each kernel.
const COUNT: usize = 20_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// An exponent field up to `max`, often at its ends or in its middle.
    fn exponent(&mut self, max: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => max,
            2 => 1 + self.below(3),
            3 => max - 1 - self.below(3),
            4 => self.below(max + 1),
            _ => (max / 2 + self.below(80)).saturating_sub(40).min(max),
        }
    }

    fn fraction(&mut self) -> u64 {
        match self.below(4) {
            0 => u64::MAX << self.below(64),
            1 => 1 << self.below(64),
            _ => self.next(),
        }
    }

    fn f80(&mut self) -> F80 {
        let exponent = self.exponent(0x7fff);
        let integer = if exponent == 0 || self.below(50) == 0 { 0 } else { 1 << 63 };
        F80 { mantissa: self.fraction() | integer, sign_exp: exponent as u16 | (self.next() as u16 & 0x8000) }
    }

    fn f64(&mut self) -> u64 {
        self.exponent(0x7ff) << 52 | self.fraction() >> 12 | self.next() << 63
    }

    fn f32(&mut self) -> u32 {
        (self.exponent(0xff) as u32) << 23 | (self.fraction() >> 41) as u32 | (self.next() as u32) << 31
    }
}

/// FNV-1a over 64-bit words.
fn mix(digest: u64, v: u64) -> u64 {
    (digest ^ v).wrapping_mul(0x100_0000_01b3)
}

fn digest(one: impl Fn(&mut Random) -> u64) -> u64 {
    let mut random = Random(0x8087);
    (0..COUNT).fold(0xcbf2_9ce4_8422_2325, |d, _| mix(d, one(&mut random)))
}

/// An x87 operation on two operands.
fn x87_op(op: impl Fn(F80, F80, &mut Env) -> Option<F80>) -> u64 {
    digest(|r| {
        let control = r.next() as u16;
        let mut env = Env::new(if r.below(2) == 0 { control } else { control | 0x3f });
        let (a, b) = (r.f80(), r.f80());
        let v = op(a, b, &mut env);
        let status = u64::from(env.flags) | u64::from(env.c1) << 8;
        // What an unmasked exception leaves is not looked at.
        let v = if env.suppressed() { Some(F80::ZERO) } else { v };
        v.map_or(!0, |v| mix(v.mantissa, u64::from(v.sign_exp) << 16 | status))
    })
}

/// An x87 store of at most eight bytes.
fn x87_store(op: impl Fn(F80, &mut Env) -> u64) -> u64 {
    x87_op(|a, _, env| {
        let v = op(a, env);
        let v = if env.store_suppressed() { 0 } else { v };
        Some(F80 { mantissa: v, sign_exp: 0 })
    })
}

/// An SSE operation.
fn sse_op(op: impl Fn(&mut Random, &mut MxEnv) -> u64) -> u64 {
    digest(|r| {
        let word = r.next() as u32 & 0xffff;
        let word = if r.below(2) == 0 { word } else { word | 0x1f80 };
        let mut env = MxEnv::new(word);
        let v = op(r, &mut env);
        let v = if env.faulted() { 0 } else { v };
        mix(v, env.commit(word).into())
    })
}

fn relation(r: Relation) -> u64 {
    r.eflags().into()
}

fn digests() -> Vec<(&'static str, u64)> {
    let sign = |r: &mut Random| FmaSign { negate_product: r.below(2) == 0, negate_addend: r.below(2) == 0 };
    vec![
        ("fadd", x87_op(|a, b, e| Some(x87::add(a, b, e)))),
        ("fsub", x87_op(|a, b, e| Some(x87::sub(a, b, e)))),
        ("fmul", x87_op(|a, b, e| Some(x87::mul(a, b, e)))),
        ("fdiv", x87_op(|a, b, e| Some(x87::div(a, b, e)))),
        ("fsqrt", x87_op(|a, _, e| Some(x87::sqrt(a, e)))),
        ("frndint", x87_op(|a, _, e| Some(x87::rndint(a, e)))),
        ("fscale", x87_op(|a, b, e| Some(x87::scale(a, b, e)))),
        ("fxtract significand", x87_op(|a, _, e| Some(x87::extract(a, e).significand))),
        ("fxtract exponent", x87_op(|a, _, e| Some(x87::extract(a, e).exponent))),
        ("fprem", x87_op(|a, b, e| Some(x87::prem(a, b, e).value))),
        (
            "fprem codes",
            x87_store(|a, e| x87::prem(a, F80 { mantissa: 3 << 62, sign_exp: 0x3fff }, e).codes().into()),
        ),
        ("fprem1", x87_op(|a, b, e| Some(x87::prem1(a, b, e).value))),
        ("fcom", x87_op(|a, b, e| Some(F80 { mantissa: relation(x87::compare(a, b, e)), sign_exp: 0 }))),
        (
            "fucom",
            x87_op(|a, b, e| Some(F80 { mantissa: relation(x87::compare_quiet(a, b, e)), sign_exp: 0 })),
        ),
        ("f2xm1", x87_op(|a, _, e| Some(x87::f2xm1(a, e)))),
        ("fyl2x", x87_op(|a, b, e| Some(x87::fyl2x(a, b, e)))),
        ("fyl2xp1", x87_op(|a, b, e| Some(x87::fyl2xp1(a, b, e)))),
        ("fpatan", x87_op(|a, b, e| Some(x87::fpatan(a, b, e)))),
        ("fsin", x87_op(|a, _, e| x87::fsin(a, e))),
        ("fcos", x87_op(|a, _, e| x87::fcos(a, e))),
        ("fptan", x87_op(|a, _, e| x87::fptan(a, e).map(|(tan, _)| tan))),
        ("fst m32fp", x87_store(|a, e| x87::to_f32(a, e).into())),
        ("fst m64fp", x87_store(x87::to_f64)),
        ("fist m16int", x87_store(|a, e| x87::to_i16(a, e) as u64)),
        ("fist m32int", x87_store(|a, e| x87::to_i32(a, e) as u64)),
        ("fistp m64int", x87_store(|a, e| x87::to_i64(a, e) as u64)),
        ("fisttp m64int", x87_store(|a, e| x87::to_i64_trunc(a, e) as u64)),
        ("fbstp", x87_op(|a, _, e| Some(F80::from_bytes(x87::to_bcd(a, e))))),
        ("fld m32fp", x87_op(|a, _, e| Some(x87::from_f32(a.mantissa as u32, e)))),
        ("fld m64fp", x87_op(|a, _, e| Some(x87::from_f64(a.mantissa, e)))),
        ("addss", sse_op(|r, e| sse::add32(r.f32(), r.f32(), e).into())),
        ("addsd", sse_op(|r, e| sse::add64(r.f64(), r.f64(), e))),
        ("subsd", sse_op(|r, e| sse::sub64(r.f64(), r.f64(), e))),
        ("mulss", sse_op(|r, e| sse::mul32(r.f32(), r.f32(), e).into())),
        ("mulsd", sse_op(|r, e| sse::mul64(r.f64(), r.f64(), e))),
        ("divss", sse_op(|r, e| sse::div32(r.f32(), r.f32(), e).into())),
        ("divsd", sse_op(|r, e| sse::div64(r.f64(), r.f64(), e))),
        ("sqrtss", sse_op(|r, e| sse::sqrt32(r.f32(), e).into())),
        ("sqrtsd", sse_op(|r, e| sse::sqrt64(r.f64(), e))),
        ("minsd", sse_op(|r, e| sse::min64(r.f64(), r.f64(), e))),
        ("maxss", sse_op(|r, e| sse::max32(r.f32(), r.f32(), e).into())),
        ("cmpsd", sse_op(|r, e| sse::cmp64(r.f64(), r.f64(), r.next() as u8 & 31, e).into())),
        ("cmpss", sse_op(|r, e| sse::cmp32(r.f32(), r.f32(), r.next() as u8 & 31, e).into())),
        ("comisd", sse_op(|r, e| relation(sse::comi64(r.f64(), r.f64(), e)))),
        ("ucomiss", sse_op(|r, e| relation(sse::ucomi32(r.f32(), r.f32(), e)))),
        ("vfmaddss", sse_op(|r, e| sse::fma_op32(r.f32(), r.f32(), r.f32(), sign(r), e).into())),
        ("vfmaddsd", sse_op(|r, e| sse::fma_op64(r.f64(), r.f64(), r.f64(), sign(r), e))),
        ("cvtss2sd", sse_op(|r, e| sse::f32_to_f64(r.f32(), e))),
        ("cvtsd2ss", sse_op(|r, e| sse::f64_to_f32(r.f64(), e).into())),
        ("cvtsi2sd", sse_op(|r, e| sse::i64_to_f64(r.fraction() as i64, e))),
        ("cvtsi2ss", sse_op(|r, e| sse::i64_to_f32(r.fraction() as i64, e).into())),
        ("cvtsd2si", sse_op(|r, e| sse::f64_to_i64(r.f64(), e) as u64)),
        ("cvtss2si", sse_op(|r, e| sse::f32_to_i32(r.f32(), e) as u64)),
        ("cvttsd2si", sse_op(|r, e| sse::f64_to_i32_trunc(r.f64(), e) as u64)),
        ("roundss", sse_op(|r, e| sse::round32(r.f32(), r.next() as u8 & 15, e).into())),
        ("roundsd", sse_op(|r, e| sse::round64(r.f64(), r.next() as u8 & 15, e))),
        ("vcvtps2ph", sse_op(|r, e| sse::f32_to_f16(r.f32(), r.next() as u8 & 7, e).into())),
        ("vcvtph2ps", sse_op(|r, e| sse::f16_to_f32(r.next() as u16, e).into())),
        ("rcpss", digest(|r| sse::rcp32(r.f32()).into())),
        ("rsqrtss", digest(|r| sse::rsqrt32(r.f32()).into())),
    ]
}

/// Of [`digests`].
const EXPECTED: &[(&str, u64)] = &[
    ("fadd", 0xfd6c_97bf_199a_34c1),
    ("fsub", 0xb386_08da_ae0f_4506),
    ("fmul", 0xff87_33e6_c32d_6f69),
    ("fdiv", 0x9839_bc0f_cd43_864c),
    ("fsqrt", 0x4f2c_3b81_4f00_3583),
    ("frndint", 0x2ddb_e058_351a_d646),
    ("fscale", 0x86a5_1937_ca69_03e3),
    ("fxtract significand", 0x66d6_5466_4b75_d0d6),
    ("fxtract exponent", 0xbb5c_94fe_42af_a3fa),
    ("fprem", 0xe175_02cf_3c36_c3f0),
    ("fprem codes", 0x21be_89b2_ed66_b2e2),
    ("fprem1", 0x8e7c_b46a_048d_90b9),
    ("fcom", 0xd5c6_5060_7091_b842),
    ("fucom", 0x39ab_35c1_1e59_9a31),
    ("f2xm1", 0xe8ba_f6e4_6e5a_c6d7),
    ("fyl2x", 0xa92d_d3b8_ab39_9a25),
    ("fyl2xp1", 0x1edc_b42d_f42b_bf79),
    ("fpatan", 0x24f1_4a3d_172b_e022),
    ("fsin", 0x3fb1_4cd2_eeb4_8086),
    ("fcos", 0xc709_5cf4_f1b2_126b),
    ("fptan", 0x5b2e_fa1c_3ec6_0942),
    ("fst m32fp", 0x0d31_faf0_87d1_fbea),
    ("fst m64fp", 0x9216_e2ef_f449_2e8c),
    ("fist m16int", 0xef9e_29c7_2a7a_1bf9),
    ("fist m32int", 0x6f6a_7a57_38d0_5603),
    ("fistp m64int", 0x08f2_69d2_72c2_a933),
    ("fisttp m64int", 0xbfc4_5f51_8991_2a4a),
    ("fbstp", 0x9c85_dd70_f502_00c4),
    ("fld m32fp", 0x42dd_68ab_1c6e_2290),
    ("fld m64fp", 0x8f42_c615_6c1e_96a3),
    ("addss", 0x86ac_5afa_e8b0_8a98),
    ("addsd", 0xbfff_5f70_d88b_860c),
    ("subsd", 0x838c_95ca_9078_e7ac),
    ("mulss", 0x151b_ce44_622e_1ae7),
    ("mulsd", 0xa83d_f575_0868_ae63),
    ("divss", 0x3c3f_bc06_f601_a15b),
    ("divsd", 0xe7e5_87af_8a0e_6e1f),
    ("sqrtss", 0x09ad_882d_464b_31e4),
    ("sqrtsd", 0xcd56_427c_0e8f_cb9d),
    ("minsd", 0xaabe_74ba_01e0_ce32),
    ("maxss", 0x4f3c_6dae_c6e4_d22c),
    ("cmpsd", 0x6bd2_c93d_9e32_475d),
    ("cmpss", 0xf833_1b23_fad3_0e1b),
    ("comisd", 0xa571_990f_da09_3ee8),
    ("ucomiss", 0x303c_290b_137f_8863),
    ("vfmaddss", 0x3ac1_6aa3_fec9_9965),
    ("vfmaddsd", 0x7bb0_3229_bdd6_ab7f),
    ("cvtss2sd", 0x735b_e235_1318_ead8),
    ("cvtsd2ss", 0x150f_861d_1441_5de0),
    ("cvtsi2sd", 0x9877_c137_de47_e4ef),
    ("cvtsi2ss", 0x49bc_ea41_e11d_fdf2),
    ("cvtsd2si", 0xe8ea_885b_7c96_3e0a),
    ("cvtss2si", 0x5cce_f5bc_c29b_8a37),
    ("cvttsd2si", 0x2955_fcd5_12e9_3913),
    ("roundss", 0xb695_8708_a5a4_17a3),
    ("roundsd", 0xd133_be83_094f_023b),
    ("vcvtps2ph", 0xce2e_bd58_a7b6_bf28),
    ("vcvtph2ps", 0xe471_0f27_96f6_a1f0),
    ("rcpss", 0x497e_1d09_df7d_371a),
    ("rsqrtss", 0x5bd6_8ebd_fbac_631a),
];

#[test]
fn every_host_gives_the_same_bits() {
    let now = digests();
    let table: String = now.iter().map(|(name, d)| format!("    (\"{name}\", {d:#018x}),\n")).collect();
    assert!(now == EXPECTED, "\n{table}");
}

/// RCPSS and RSQRTSS for operands from the whole range, in order: no other table may come in.
#[test]
fn approximations_are_from_one_table() {
    let all = (0..=u32::MAX).step_by(2053);
    let d = all.fold(0xcbf2_9ce4_8422_2325, |d, a| mix(mix(d, sse::rcp32(a).into()), sse::rsqrt32(a).into()));
    assert_eq!(d, 0x5634_8712_dcb1_7ad5, "{d:#018x}");
}

/// The constants under each rounding (SDM vol. 1, 8.3.2).
#[test]
fn constants_are_rounded_from_66_bits() {
    let all = [
        (Constant::Pi, 0x4000, [0xc90f_daa2_2168_c235u64, 0xc90f_daa2_2168_c234]),
        (Constant::Log2Ten, 0x4000, [0xd49a_784b_cd1b_8afe, 0xd49a_784b_cd1b_8afe]),
        (Constant::Log2E, 0x3fff, [0xb8aa_3b29_5c17_f0bc, 0xb8aa_3b29_5c17_f0bb]),
        (Constant::LogTwo, 0x3ffd, [0x9a20_9a84_fbcf_f799, 0x9a20_9a84_fbcf_f798]),
        (Constant::LnTwo, 0x3ffe, [0xb172_17f7_d1cf_79ac, 0xb172_17f7_d1cf_79ab]),
    ];
    for (which, sign_exp, [nearest, down]) in all {
        for (rounding, mantissa) in
            [(Round::Nearest, nearest), (Round::Down, down), (Round::Zero, down), (Round::Up, down + 1)]
        {
            assert_eq!(x87::constant(which, rounding), F80 { mantissa, sign_exp }, "{which:?} {rounding:?}");
        }
    }
}
