//! Checks of the floating-point kernels that run on every host: computed vectors, host arithmetic where IEEE 754
//! fixes its results, and identities. The host's own x87 and SSE units are asked in `x87_host` and `sse_host`.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use x86::softfp::sse::{self, MxEnv};
use x86::softfp::x87::{self, C2, Constant, Env, F80};
use x86::softfp::{DE, IE, OE, PE, Relation, Round, UE, ZE};

/// All masked, nearest, 64-bit precision.
const USUAL_CW: u16 = 0x37f;
const USUAL_MXCSR: u32 = 0x1f80;

fn f80(sign_exp: u16, mantissa: u64) -> F80 {
    F80 { mantissa, sign_exp }
}

fn parse_f80(text: &str) -> F80 {
    let (sign_exp, mantissa) = text.split_once(':').expect("sign_exp:mantissa");
    f80(
        u16::from_str_radix(sign_exp, 16).expect("hexadecimal"),
        u64::from_str_radix(mantissa, 16).expect("hexadecimal"),
    )
}

#[test]
fn transcendental_vectors() {
    let mut lines = 0;
    for line in include_str!("data/x87_transcendental.txt").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [function, rounding, y, x, want, c1] = fields[..] else { panic!("{line}") };
        let rounding: u16 = rounding.parse().expect("rounding control");
        // Precision control does not concern these functions.
        let mut env = Env::new(0x7f | rounding << 10);
        let (y, x) = (parse_f80(y), parse_f80(x));
        let got = match function {
            "sin" => x87::fsin(x, &mut env).expect("in range"),
            "cos" => x87::fcos(x, &mut env).expect("in range"),
            "tan" => x87::fptan(x, &mut env).expect("in range").0,
            "2xm1" => x87::f2xm1(x, &mut env),
            "yl2x" => x87::fyl2x(y, x, &mut env),
            "yl2xp1" => x87::fyl2xp1(y, x, &mut env),
            "patan" => x87::fpatan(y, x, &mut env),
            _ => panic!("{line}"),
        };
        assert_eq!((got, env.c1, env.flags), (parse_f80(want), c1 == "1", PE), "{line}");
        lines += 1;
    }
    assert!(lines > 300);
}

#[test]
fn sincos_agrees_with_sin_and_cos() {
    for bits in
        [0x3fe8_0000_0000_0001u64, 0x4009_21fb_5444_2d18, 0xc1e0_0000_0000_0007, 0x3000_0000_0000_0000]
    {
        let mut env = Env::new(USUAL_CW);
        let x = x87::from_f64(bits, &mut env);
        let (sin, cos) = x87::fsincos(x, &mut env).expect("in range");
        assert_eq!((Some(sin), Some(cos)), (x87::fsin(x, &mut env), x87::fcos(x, &mut env)));
    }
}

#[test]
fn trigonometric_range() {
    let mut env = Env::new(USUAL_CW);
    for sign in [0, 0x8000] {
        assert_eq!(x87::fsin(f80(0x403e | sign, 1 << 63), &mut env), None);
        assert_eq!(env.flags, 0);
        assert!(x87::fsin(f80(0x403d | sign, u64::MAX), &mut env).is_some());
        env.flags = 0;
        // Infinity is invalid, not out of range.
        assert_eq!(x87::fcos(f80(0x7fff | sign, 1 << 63), &mut env), Some(F80::INDEFINITE));
        assert_eq!(env.flags, IE);
        env.flags = 0;
    }
}

#[test]
fn known_quotients_and_roots() {
    let mut env = Env::new(USUAL_CW);
    let three = x87::from_i32(3);
    assert_eq!(x87::div(F80::ONE, three, &mut env), f80(0x3ffd, 0xaaaa_aaaa_aaaa_aaab));
    assert_eq!((env.flags, env.c1), (PE, true));
    let mut single = Env::new(0x07f);
    assert_eq!(x87::div(F80::ONE, three, &mut single), f80(0x3ffd, 0xaaaa_ab00_0000_0000));
    let mut double_down = Env::new(0x67f);
    assert_eq!(x87::div(F80::ONE, three, &mut double_down), f80(0x3ffd, 0xaaaa_aaaa_aaaa_a800));
    assert_eq!((double_down.flags, double_down.c1), (PE, false));
    let mut env = Env::new(USUAL_CW);
    assert_eq!(x87::sqrt(x87::from_i32(2), &mut env), f80(0x3fff, 0xb504_f333_f9de_6484));
    assert_eq!((env.flags, env.c1), (PE, false));
    let mut env = Env::new(USUAL_CW);
    assert_eq!(x87::sqrt(x87::from_i32(9), &mut env), three);
    assert_eq!(x87::div(F80::ONE, F80::ZERO, &mut env), F80::INFINITY);
    assert_eq!(env.flags, ZE);
}

#[test]
fn limits_of_the_range() {
    let (least, greatest) = (f80(0, 1), f80(0x7ffe, u64::MAX));
    let mut env = Env::new(USUAL_CW);
    assert_eq!(x87::add(least, F80::ONE, &mut env), F80::ONE);
    assert_eq!(env.flags, DE | PE);
    let mut env = Env::new(USUAL_CW);
    assert_eq!(x87::mul(least, least, &mut env), F80::ZERO);
    assert_eq!(env.flags, DE | UE | PE);
    let mut env = Env::new(USUAL_CW | 2 << 10);
    assert_eq!(x87::mul(least, least, &mut env), least);
    assert!(env.c1);
    let mut env = Env::new(USUAL_CW);
    assert_eq!(x87::mul(greatest, greatest, &mut env), F80::INFINITY);
    assert_eq!(env.flags, OE | PE);
    let mut env = Env::new(USUAL_CW | 3 << 10);
    assert_eq!(x87::add(greatest, greatest, &mut env), greatest);
    assert!(!env.c1);
    // Unmasked, the register gets the scaled result: 2 * greatest / 2^24576.
    let mut env = Env::new(USUAL_CW & !0x8);
    assert_eq!(x87::add(greatest, greatest, &mut env), f80(0x7fff - 24576, u64::MAX));
    assert!(env.flags == OE && env.unmasked() && !env.suppressed() && env.store_suppressed());
}

#[test]
fn not_a_number_rules() {
    let quiet = |payload: u64| f80(0x7fff, 3 << 62 | payload);
    let signalling = |payload: u64| f80(0x7fff, 2 << 62 | payload);
    let sum = |a, b| {
        let mut env = Env::new(USUAL_CW);
        (x87::add(a, b, &mut env), env.flags)
    };
    assert_eq!(sum(quiet(1), quiet(2)), (quiet(2), 0));
    assert_eq!(sum(quiet(1), signalling(2)), (quiet(1), IE));
    assert_eq!(sum(signalling(5), signalling(2)), (quiet(5), IE));
    assert_eq!(sum(signalling(5), F80::ONE), (quiet(5), IE));
    assert_eq!(sum(quiet(1).neg(), quiet(1)), (quiet(1), 0));
    assert_eq!(sum(quiet(1), f80(0x3fff, 1)), (F80::INDEFINITE, IE));
    assert_eq!(sum(F80::INFINITY, F80::INFINITY.neg()), (F80::INDEFINITE, IE));
}

#[test]
fn constants_bracket_the_host_values() {
    let pairs = [
        (Constant::Pi, std::f64::consts::PI),
        (Constant::Log2E, std::f64::consts::LOG2_E),
        (Constant::Log2Ten, std::f64::consts::LOG2_10),
        (Constant::LogTwo, std::f64::consts::LOG10_2),
        (Constant::LnTwo, std::f64::consts::LN_2),
    ];
    for (which, value) in pairs {
        let constant = |rounding| x87::constant(which, rounding);
        let mut env = Env::new(USUAL_CW);
        assert_eq!(x87::to_f64(constant(Round::Nearest), &mut env), value.to_bits(), "{which:?}");
        let (down, up) = (constant(Round::Down), constant(Round::Up));
        assert_eq!(down.mantissa + 1, up.mantissa);
        assert_eq!(down, constant(Round::Zero));
        assert!([down, up].contains(&constant(Round::Nearest)));
    }
    assert_eq!(x87::constant(Constant::One, Round::Up), F80::ONE);
    assert_eq!(x87::constant(Constant::Zero, Round::Down), F80::ZERO);
}

#[test]
fn partial_remainders_add_up() {
    // 2^100 mod 3, in steps: 2^100 = 1 (mod 3).
    let mut env = Env::new(USUAL_CW);
    let mut rest = f80(0x3fff + 100, 1 << 63);
    let mut steps = 0;
    loop {
        let step = x87::prem(rest, x87::from_i32(3), &mut env);
        rest = step.value;
        steps += 1;
        if step.codes() & C2 == 0 {
            break;
        }
    }
    assert_eq!((rest, env.flags), (F80::ONE, 0));
    assert_eq!(steps, 2);
    let nearest = x87::prem1(x87::from_i32(11), x87::from_i32(4), &mut env);
    assert_eq!((nearest.value, nearest.quotient), (x87::from_i32(-1), 3));
}

/// Doubles of every class, clustered where carries, cancellation and the range's ends are.
fn double() -> impl Strategy<Value = u64> {
    let exponent = prop_oneof![
        Just(0u64),
        Just(1),
        Just(2),
        Just(0x7fe),
        Just(0x7ff),
        0x3f0u64..0x410,
        0x1f0u64..0x210,
        0u64..0x800
    ];
    let fraction = prop_oneof![
        Just(0u64),
        Just(1),
        Just((1 << 52) - 1),
        Just(1 << 51),
        (0u32..52).prop_map(|n| (1u64 << 52) - (1 << n)),
        0u64..1 << 52
    ];
    (any::<bool>(), exponent, fraction).prop_map(|(sign, e, f)| u64::from(sign) << 63 | e << 52 | f)
}

/// The same for singles.
fn single() -> impl Strategy<Value = u32> {
    let exponent = prop_oneof![Just(0u32), Just(1), Just(0xfe), Just(0xff), 0x70u32..0x90, 0u32..0x100];
    let fraction = prop_oneof![Just(0u32), Just(1), Just((1 << 23) - 1), Just(1 << 22), 0u32..1 << 23];
    (any::<bool>(), exponent, fraction).prop_map(|(sign, e, f)| u32::from(sign) << 31 | e << 23 | f)
}

type Op64 = fn(u64, u64, &mut MxEnv) -> u64;
type Op32 = fn(u32, u32, &mut MxEnv) -> u32;

/// SSE's choice of NaN for two operands, or `None` if neither is one.
fn nan_rule(a: u64, b: u64) -> Option<u64> {
    let nan = |bits: u64| f64::from_bits(bits).is_nan();
    if nan(a) {
        Some(a | 1 << 51)
    } else if nan(b) {
        Some(b | 1 << 51)
    } else {
        None
    }
}

const INDEFINITE: u64 = 0xfff8_0000_0000_0000;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn double_arithmetic_matches_the_host(a in double(), b in double()) {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        let cases: [(Op64, f64); 4] = [(sse::add64, x + y), (sse::sub64, x - y), (sse::mul64, x * y), (sse::div64, x / y)];
        for (n, (operation, host)) in cases.into_iter().enumerate() {
            let mut env = MxEnv::new(USUAL_MXCSR);
            let got = operation(a, b, &mut env);
            let want = nan_rule(a, b).unwrap_or(if host.is_nan() { INDEFINITE } else { host.to_bits() });
            prop_assert_eq!(got, want, "{} {:x} {:x}", n, a, b);
            // Whether a result is exact does not depend on how it is rounded.
            let mut truncating = MxEnv::new(USUAL_MXCSR | 3 << 13);
            operation(a, b, &mut truncating);
            prop_assert_eq!(env.flags & !(OE | UE), truncating.flags & !(OE | UE), "{} {:x} {:x}", n, a, b);
            // A known PE changes nothing else.
            let mut sticky = MxEnv::new(USUAL_MXCSR | 0x20);
            prop_assert_eq!((operation(a, b, &mut sticky), sticky.flags), (want, env.flags | PE));
        }
    }

    #[test]
    fn single_arithmetic_matches_the_host(a in single(), b in single()) {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        let cases: [(Op32, f32); 4] = [(sse::add32, x + y), (sse::sub32, x - y), (sse::mul32, x * y), (sse::div32, x / y)];
        for (n, (operation, host)) in cases.into_iter().enumerate() {
            let mut env = MxEnv::new(USUAL_MXCSR);
            let got = operation(a, b, &mut env);
            let want = match (x.is_nan(), y.is_nan()) {
                (true, _) => a | 1 << 22,
                (false, true) => b | 1 << 22,
                _ if host.is_nan() => 0xffc0_0000,
                _ => host.to_bits(),
            };
            prop_assert_eq!(got, want, "{} {:x} {:x}", n, a, b);
            let mut truncating = MxEnv::new(USUAL_MXCSR | 3 << 13);
            operation(a, b, &mut truncating);
            prop_assert_eq!(env.flags & !(OE | UE), truncating.flags & !(OE | UE), "{} {:x} {:x}", n, a, b);
        }
    }

    #[test]
    fn directed_results_bracket_the_nearest(a in double(), b in double()) {
        let finite = |bits: u64| f64::from_bits(bits).is_finite();
        if !(finite(a) && finite(b)) {
            return Ok(());
        }
        for operation in [sse::add64 as Op64, sse::sub64, sse::mul64, sse::div64] {
            let run = |rounding: u32| {
                let mut env = MxEnv::new(USUAL_MXCSR | rounding << 13);
                f64::from_bits(operation(a, b, &mut env))
            };
            let (nearest, down, up, zero) = (run(0), run(1), run(2), run(3));
            if !nearest.is_nan() {
                prop_assert!(down <= nearest && nearest <= up);
                prop_assert!(down == up || down.next_up() == up);
                prop_assert_eq!(zero, if nearest < 0.0 || up <= 0.0 { up } else { down });
            }
        }
    }

    #[test]
    fn fused_matches_the_host(a in double(), b in double(), c in double()) {
        let host = f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c));
        let mut env = MxEnv::new(USUAL_MXCSR);
        let got = f64::from_bits(sse::fma64(a, b, c, &mut env));
        prop_assert!(got.to_bits() == host.to_bits() || (got.is_nan() && host.is_nan()));
    }

    #[test]
    fn fused_singles_match_the_host(a in single(), b in single(), c in single()) {
        let host = f32::from_bits(a).mul_add(f32::from_bits(b), f32::from_bits(c));
        let mut env = MxEnv::new(USUAL_MXCSR);
        let got = f32::from_bits(sse::fma32(a, b, c, &mut env));
        prop_assert!(got.to_bits() == host.to_bits() || (got.is_nan() && host.is_nan()));
    }

    #[test]
    fn roots_and_conversions_match_the_host(a in double(), s in single(), i in any::<i64>(), shift in 0u32..64) {
        let x = f64::from_bits(a);
        let env = &mut MxEnv::new(USUAL_MXCSR);
        if !x.is_nan() {
            let root = f64::from_bits(sse::sqrt64(a, env));
            prop_assert!(root.to_bits() == x.sqrt().to_bits() || (root.is_nan() && x < 0.0));
            prop_assert_eq!(sse::f64_to_f32(a, env), (x as f32).to_bits());
            for (immediate, host) in [(0, x.round_ties_even()), (1, x.floor()), (2, x.ceil()), (3, x.trunc())] {
                prop_assert_eq!(sse::round64(a, immediate, env), host.to_bits());
            }
            let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x);
            prop_assert_eq!(sse::f64_to_i64_trunc(a, env), if in_range { x as i64 } else { i64::MIN });
        }
        let y = f32::from_bits(s);
        if !y.is_nan() {
            prop_assert_eq!(sse::f32_to_f64(s, env), f64::from(y).to_bits());
            let root = f32::from_bits(sse::sqrt32(s, env));
            prop_assert!(root.to_bits() == y.sqrt().to_bits() || (root.is_nan() && y < 0.0));
            prop_assert_eq!(sse::round32(s, 0, env), y.round_ties_even().to_bits());
        }
        let i = i >> shift;
        prop_assert_eq!(sse::i64_to_f64(i, env), (i as f64).to_bits());
        prop_assert_eq!(sse::i64_to_f32(i, env), (i as f32).to_bits());
        prop_assert_eq!(sse::i32_to_f32(i as i32, env), (i as i32 as f32).to_bits());
    }

    #[test]
    fn comparisons_match_the_host(a in double(), b in double()) {
        let env = &mut MxEnv::new(USUAL_MXCSR);
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        let want = match x.partial_cmp(&y) {
            Some(std::cmp::Ordering::Less) => Relation::Less,
            Some(std::cmp::Ordering::Equal) => Relation::Equal,
            Some(std::cmp::Ordering::Greater) => Relation::Greater,
            None => Relation::Unordered,
        };
        prop_assert_eq!(sse::ucomi64(a, b, env), want);
        prop_assert_eq!(sse::min64(a, b, env), if x < y { a } else { b });
        prop_assert_eq!(sse::max64(a, b, env), if x > y { a } else { b });
        let x87_env = &mut Env::new(USUAL_CW);
        let (p, q) = (x87::from_f64(a, x87_env), x87::from_f64(b, x87_env));
        prop_assert_eq!(x87::compare(p, q, x87_env), want);
    }

    /// At 53-bit precision the x87 rounds as doubles do, while the exponent stays within theirs.
    #[test]
    fn x87_at_double_precision_matches_the_host(a in double(), b in double()) {
        let env = &mut Env::new(0x27f);
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        if !(x.is_finite() && y.is_finite()) {
            return Ok(());
        }
        let (p, q) = (x87::from_f64(a, env), x87::from_f64(b, env));
        let cases = [
            (x87::add(p, q, env), x + y),
            (x87::sub(p, q, env), x - y),
            (x87::mul(p, q, env), x * y),
            (x87::div(p, q, env), x / y),
            (x87::sqrt(p, env), x.sqrt()),
        ];
        for (got, host) in cases {
            if host.is_normal() && host.abs() > f64::MIN_POSITIVE {
                prop_assert_eq!(x87::to_f64(got, env), host.to_bits());
            }
        }
    }

    #[test]
    fn loads_and_stores_round_trip(bits in double(), small in single(), i in any::<i64>(), digits in 0u64..1_000_000_000_000_000_000) {
        let env = &mut Env::new(USUAL_CW);
        let quiet = if f64::from_bits(bits).is_nan() { bits | 1 << 51 } else { bits };
        let wide = x87::from_f64(bits, env);
        prop_assert_eq!(x87::to_f64(wide, env), quiet);
        let quiet = if f32::from_bits(small).is_nan() { small | 1 << 22 } else { small };
        let wide = x87::from_f32(small, env);
        prop_assert_eq!(x87::to_f32(wide, env), quiet);
        prop_assert_eq!(x87::to_i64(x87::from_i64(i), env), i);
        let decimal = x87::to_bcd(x87::from_i64(digits as i64), env);
        prop_assert_eq!(x87::from_bcd(decimal), x87::from_i64(digits as i64));
        let bytes = x87::from_i64(i).to_bytes();
        prop_assert_eq!(F80::from_bytes(bytes), x87::from_i64(i));
    }

    #[test]
    fn extract_and_scale_are_inverse(bits in double()) {
        let env = &mut Env::new(USUAL_CW);
        let a = x87::from_f64(bits, env);
        if a.is_nan() || a.is_zero() || a.is_infinite() {
            return Ok(());
        }
        let parts = x87::extract(a, env);
        prop_assert_eq!(x87::scale(parts.significand, parts.exponent, env), a);
    }
}

#[test]
fn every_half_survives_the_round_trip() {
    for a in 0..=u16::MAX {
        let mut env = MxEnv::new(USUAL_MXCSR);
        let wide = sse::f16_to_f32(a, &mut env);
        let back = sse::f32_to_f16(wide, 0, &mut env);
        let nan = a & 0x7fff > 0x7c00;
        assert_eq!(back, if nan { a | 0x200 } else { a });
        assert_eq!(env.flags, if nan && a & 0x200 == 0 { IE } else { 0 });
    }
}

#[test]
fn approximations_keep_their_bound() {
    const BOUND: f64 = 1.5 / 4096.0;
    // The error depends on the fraction and, for the root, on the exponent's parity.
    for exponent in [126u32, 127] {
        for fraction in 0..1u32 << 23 {
            let a = exponent << 23 | fraction;
            let x = f64::from(f32::from_bits(a));
            let (reciprocal, root) = (f32::from_bits(sse::rcp32(a)), f32::from_bits(sse::rsqrt32(a)));
            assert!((f64::from(reciprocal) * x - 1.0).abs() < BOUND, "{a:x}");
            assert!((f64::from(root) * x.sqrt() - 1.0).abs() < BOUND, "{a:x}");
        }
    }
    // The rest of the range, and the special cases.
    for exponent in 1..=252u32 {
        let a = exponent << 23 | 0x2a_aaaa;
        let x = f64::from(f32::from_bits(a));
        assert!((f64::from(f32::from_bits(sse::rcp32(a))) * x - 1.0).abs() < BOUND);
        assert!((f64::from(f32::from_bits(sse::rsqrt32(a))) * x.sqrt() - 1.0).abs() < BOUND);
        assert_eq!(sse::rcp32(a | 1 << 31), sse::rcp32(a) | 1 << 31);
    }
    let (infinity, indefinite) = (0x7f80_0000u32, 0xffc0_0000u32);
    assert_eq!(
        [0, 1 << 31, 1, infinity, infinity | 1 << 31].map(sse::rcp32),
        [infinity, infinity | 1 << 31, infinity, 0, 1 << 31]
    );
    assert_eq!(
        [0, 1 << 31, 1, infinity, infinity | 1 << 31, 0xbf80_0000].map(sse::rsqrt32),
        [infinity, infinity | 1 << 31, infinity, 0, indefinite, indefinite]
    );
    assert_eq!(sse::rcp32(0x7f80_0001), 0x7fc0_0001);
}
