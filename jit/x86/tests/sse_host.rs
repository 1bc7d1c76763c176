//! The SSE kernels against the host's SSE unit: result bits and MXCSR flags under every rounding mode, DAZ, FTZ, and
//! with exceptions unmasked (a SIGFPE handler notes MXCSR at the fault, masks everything and lets the instruction run).
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(unsafe_code, reason = "runs SSE instructions under a guest's MXCSR and catches their faults")]

use core::arch::asm;
use core::cell::Cell;
use std::sync::Once;

use x86::softfp::Relation;
use x86::softfp::sse::{self, FmaSign, MxEnv};

thread_local! {
    /// MXCSR at the last fault on this thread; 0: none.
    static FAULT: Cell<u32> = const { Cell::new(0) };
}

const SIGFPE: i32 = 8;
const SA_SIGINFO: i32 = 4;
/// The mask bits of MXCSR.
const MASKS: u32 = 0x1f80;
const FLAGS: u32 = 0x3f;

/// glibc's and musl's `struct sigaction` on x86-64.
#[repr(C)]
struct SigAction {
    handler: extern "C" fn(i32, *const u8, *mut u8),
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

unsafe extern "C" {
    fn sigaction(signal: i32, action: *const SigAction, old: *mut SigAction) -> i32;
}

extern "C" fn on_fault(_: i32, _: *const u8, context: *mut u8) {
    // SAFETY: the kernel passes a ucontext_t: at offset 224 the pointer to the FXSAVE image, MXCSR at offset 24 there.
    unsafe {
        let image = context.add(224).cast::<*mut u8>().read();
        let mxcsr = image.add(24).cast::<u32>();
        FAULT.set(mxcsr.read());
        mxcsr.write(mxcsr.read() | MASKS);
    }
}

fn catch_faults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action = SigAction { handler: on_fault, mask: [0; 16], flags: SA_SIGINFO, restorer: 0 };
        // SAFETY: the handler only touches its context and a thread local without a destructor.
        let result = unsafe { sigaction(SIGFPE, &action, core::ptr::null_mut()) };
        assert_eq!(result, 0);
    });
}

/// What the host did: result, MXCSR flags, and whether it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    bits: u64,
    flags: u32,
    faulted: bool,
}

fn outcome(bits: u64, mxcsr: u32) -> Outcome {
    match FAULT.replace(0) {
        0 => Outcome { bits, flags: mxcsr & FLAGS, faulted: false },
        at_fault => Outcome { bits: 0, flags: at_fault & FLAGS, faulted: true },
    }
}

/// Operands go through xmm0-xmm2 (and rax), the result comes back in xmm0.
macro_rules! host_op {
    ($name:ident $(<$predicate:ident>)?, $instruction:literal $(, $text:literal)*) => {
        fn $name $(<const $predicate: u8>)? (mxcsr: u32, a: u64, b: u64, c: u64) -> Outcome {
            let (mut control, usual) = (mxcsr, 0x1f80u32);
            let bits: u64;
            // SAFETY: MXCSR is put back before Rust code runs again; a fault is handled by `on_fault`.
            unsafe {
                asm!(
                    "movq xmm0, {a}", "movq xmm1, {b}", "movq xmm2, {c}",
                    "ldmxcsr [{control}]", $instruction $(, $text)*, "stmxcsr [{control}]", "ldmxcsr [{usual}]",
                    "movq {bits}, xmm0",
                    a = in(reg) a, b = in(reg) b, c = in(reg) c, control = in(reg) &mut control, usual = in(reg) &usual,
                    bits = out(reg) bits, inout("rax") a => _, out("xmm0") _, out("xmm1") _, out("xmm2") _,
                    $($predicate = const $predicate,)?
                );
            }
            outcome(bits, control)
        }
    };
}

/// As `host_op`, with the result in rax.
macro_rules! host_to_integer {
    ($name:ident, $instruction:literal $(, $text:literal)*) => {
        fn $name(mxcsr: u32, a: u64, b: u64, _: u64) -> Outcome {
            let (mut control, usual) = (mxcsr, 0x1f80u32);
            let bits: u64;
            // SAFETY: as in `host_op`.
            unsafe {
                asm!(
                    "movq xmm0, {a}", "movq xmm1, {b}", "xor eax, eax",
                    "ldmxcsr [{control}]", $instruction $(, $text)*, "stmxcsr [{control}]", "ldmxcsr [{usual}]",
                    a = in(reg) a, b = in(reg) b, control = in(reg) &mut control, usual = in(reg) &usual,
                    out("rax") bits, out("xmm0") _, out("xmm1") _,
                );
            }
            outcome(bits, control)
        }
    };
}

host_op!(add32, "addss xmm0, xmm1");
host_op!(add64, "addsd xmm0, xmm1");
host_op!(sub32, "subss xmm0, xmm1");
host_op!(sub64, "subsd xmm0, xmm1");
host_op!(mul32, "mulss xmm0, xmm1");
host_op!(mul64, "mulsd xmm0, xmm1");
host_op!(div32, "divss xmm0, xmm1");
host_op!(div64, "divsd xmm0, xmm1");
host_op!(min32, "minss xmm0, xmm1");
host_op!(min64, "minsd xmm0, xmm1");
host_op!(max32, "maxss xmm0, xmm1");
host_op!(max64, "maxsd xmm0, xmm1");
host_op!(sqrt32, "sqrtss xmm0, xmm0");
host_op!(sqrt64, "sqrtsd xmm0, xmm0");
host_op!(f32_to_f64, "cvtss2sd xmm0, xmm0");
host_op!(f64_to_f32, "cvtsd2ss xmm0, xmm0");
host_op!(i32_to_f32, "cvtsi2ss xmm0, eax");
host_op!(i64_to_f32, "cvtsi2ss xmm0, rax");
host_op!(i64_to_f64, "cvtsi2sd xmm0, rax");
host_op!(fma32, "vfmadd213ss xmm0, xmm1, xmm2");
host_op!(fma64, "vfmadd213sd xmm0, xmm1, xmm2");
host_op!(fma132, "vfmadd132sd xmm0, xmm1, xmm2");
host_op!(fma231, "vfmadd231sd xmm0, xmm1, xmm2");
host_op!(fnms32, "vfnmsub213ss xmm0, xmm1, xmm2");
host_op!(fnms64, "vfnmsub213sd xmm0, xmm1, xmm2");
host_op!(fms64, "vfmsub213sd xmm0, xmm1, xmm2");
host_op!(fnma64, "vfnmadd213sd xmm0, xmm1, xmm2");
host_op!(f16_to_f32, "vcvtph2ps xmm0, xmm0");
host_op!(f32_to_f16<IMM>, "vcvtps2ph xmm0, xmm0, {IMM}");
host_op!(round32<IMM>, "roundss xmm0, xmm0, {IMM}");
host_op!(round64<IMM>, "roundsd xmm0, xmm0, {IMM}");
host_op!(cmp32<IMM>, "vcmpss xmm0, xmm0, xmm1, {IMM}");
host_op!(cmp64<IMM>, "vcmpsd xmm0, xmm0, xmm1, {IMM}");
host_to_integer!(f32_to_i32, "cvtss2si eax, xmm0");
host_to_integer!(f32_to_i64, "cvtss2si rax, xmm0");
host_to_integer!(f64_to_i32, "cvtsd2si eax, xmm0");
host_to_integer!(f64_to_i64, "cvtsd2si rax, xmm0");
host_to_integer!(f32_to_i32_trunc, "cvttss2si eax, xmm0");
host_to_integer!(f32_to_i64_trunc, "cvttss2si rax, xmm0");
host_to_integer!(f64_to_i32_trunc, "cvttsd2si eax, xmm0");
host_to_integer!(f64_to_i64_trunc, "cvttsd2si rax, xmm0");
host_to_integer!(comi32, "comiss xmm0, xmm1", "lahf");
host_to_integer!(comi64, "comisd xmm0, xmm1", "lahf");
host_to_integer!(ucomi32, "ucomiss xmm0, xmm1", "lahf");
host_to_integer!(ucomi64, "ucomisd xmm0, xmm1", "lahf");

/// A small generator with a fixed sequence (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pattern(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX << self.below(64),
            2 => 1 << self.below(64),
            3 => (1 << self.below(64)) - 1,
            4 => self.next() << self.below(64),
            5 => self.next() >> self.below(64),
            _ => self.next(),
        }
    }

    /// A floating-point operand of the format, with the exponent often special or in the middle.
    fn float(&mut self, kind: Kind) -> u64 {
        let (fraction, max) = kind.shape();
        let exponent = match self.below(16) {
            0 | 1 => 0,
            2 => 1 + self.below(4),
            3 => max - 1 - self.below(4),
            4 => max,
            5 => self.below(max + 1),
            6 => max / 2 + u64::from(fraction) - 2 + self.below(5),
            7 => max / 2 + self.below(70.min(max / 2)),
            8 => max / 4 + self.below(8),
            9 => max / 4 * 3 + self.below(8),
            _ => max / 2 - 5 + self.below(10),
        };
        let mantissa = self.pattern() & ((1 << fraction) - 1);
        let sign = self.below(2) * ((max + 1) << fraction);
        sign | exponent << fraction | mantissa
    }

    /// A second operand, often close to the first in magnitude.
    fn near(&mut self, kind: Kind, a: u64) -> u64 {
        let (fraction, max) = kind.shape();
        let sign = (max + 1) << fraction;
        match self.below(4) {
            0 => {
                let moved = (a & (sign - 1)).wrapping_add(self.below(5)).wrapping_sub(2) & (sign - 1);
                moved | (self.below(2) * sign)
            }
            1 => {
                let exponent = ((a >> fraction & max) + self.below(120)).saturating_sub(60).min(max);
                (exponent << fraction) | (self.pattern() & ((1 << fraction) - 1)) | (self.below(2) * sign)
            }
            _ => self.float(kind),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Half,
    Single,
    Double,
    Integer,
}

impl Kind {
    /// Fraction bits and the greatest exponent field.
    fn shape(self) -> (u32, u64) {
        match self {
            Self::Half => (10, 0x1f),
            Self::Single => (23, 0xff),
            Self::Double | Self::Integer => (52, 0x7ff),
        }
    }

    fn edges(self) -> Vec<u64> {
        let (fraction, max) = self.shape();
        let mut all = Vec::new();
        for exponent in
            [0, 1, 2, max / 2 - 1, max / 2, max / 2 + 1, max / 2 + u64::from(fraction), max - 1, max]
        {
            let half = 1u64 << (fraction - 1);
            for mantissa in [0, 1, half - 1, half, half + 1, (1 << fraction) - 1] {
                for sign in [0, (max + 1) << fraction] {
                    all.push(sign | exponent << fraction | mantissa);
                }
            }
        }
        all
    }

    fn operand(self, random: &mut Random) -> u64 {
        match self {
            Self::Integer => random.pattern(),
            _ => random.float(self),
        }
    }
}

type Host = fn(u32, u64, u64, u64) -> Outcome;

struct Report {
    name: &'static str,
    failures: Vec<String>,
    count: usize,
}

impl Report {
    fn new(name: &'static str) -> Self {
        catch_faults();
        Self { name, failures: Vec::new(), count: 0 }
    }

    /// Runs both and compares. `ours` gives the result's bits.
    fn check(
        &mut self,
        mxcsr: u32,
        [a, b, c]: [u64; 3],
        host: Host,
        ours: &impl Fn(u64, u64, u64, &mut MxEnv) -> u64,
    ) {
        let mut want = host(mxcsr, a, b, c);
        let mut env = MxEnv::new(mxcsr);
        let bits = ours(a, b, c, &mut env);
        let flags = env.commit(mxcsr) & FLAGS;
        let got = Outcome { bits: if env.faulted() { 0 } else { bits }, flags, faulted: env.faulted() };
        if self.name == "vcvtps2ph" && want.faulted && got.faulted {
            // An underflow that is not masked: some processors say that the result is inexact, too.
            want.flags = want.flags & !PRECISION | got.flags & PRECISION;
        }
        if want != got {
            self.count += 1;
            if self.failures.len() < 25 {
                self.failures.push(format!(
                    "mxcsr {mxcsr:04x} {a:016x} {b:016x} {c:016x}: want {want:x?} got {got:x?}"
                ));
            }
        }
    }

    fn finish(self) {
        assert!(self.count == 0, "{}: {} differ\n{}", self.name, self.count, self.failures.join("\n"));
    }
}

const PRECISION: u32 = 1 << 5;
const DAZ: u32 = 1 << 6;
const FTZ: u32 = 1 << 15;

/// A control word: any rounding, mostly masked, sometimes DAZ, FTZ, unmasked exceptions or a sticky PE.
fn control(random: &mut Random) -> u32 {
    let masks = if random.below(16) == 0 { (random.next() as u32) & MASKS } else { MASKS };
    let rounding = if random.below(2) == 0 { 0 } else { (random.below(4) as u32) << 13 };
    let daz = if random.below(4) == 0 { DAZ } else { 0 };
    let ftz = if random.below(4) == 0 { FTZ } else { 0 };
    let sticky = if random.below(4) == 0 { 0x20 & masks >> 7 } else { 0 };
    masks | rounding | daz | ftz | sticky
}

fn controls() -> Vec<u32> {
    let mut all = Vec::new();
    for rounding in 0..4 {
        for mode in [0, DAZ, FTZ, DAZ | FTZ] {
            all.push(MASKS | rounding << 13 | mode);
        }
        // Each exception unmasked alone, and all.
        for unmasked in [1u32, 2, 4, 8, 0x10, 0x20, 0x3f] {
            all.push(MASKS & !(unmasked << 7) | rounding << 13);
        }
        all.push((MASKS & !0x800) | rounding << 13 | FTZ);
    }
    all
}

const COUNT: usize = 1_000_000;

fn compare(
    name: &'static str,
    count: usize,
    kind: Kind,
    host: Host,
    ours: impl Fn(u64, u64, u64, &mut MxEnv) -> u64,
) {
    let mut report = Report::new(name);
    if !matches!(kind, Kind::Integer) {
        let edges = kind.edges();
        for (n, &mxcsr) in controls().iter().enumerate() {
            // Unmasked modes trap often: a part of the pairs will do for them.
            let step = if mxcsr & MASKS == MASKS { 1 } else { 7 };
            for &a in &edges {
                for &b in edges.iter().skip(n % step).step_by(step) {
                    report.check(mxcsr, [a, b, edges[(a ^ b) as usize % edges.len()]], host, &ours);
                }
            }
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..count {
        let mxcsr = control(&mut random);
        let a = kind.operand(&mut random);
        let b = random.near(kind, a);
        let c = random.float(kind);
        report.check(mxcsr, [a, b, c], host, &ours);
    }
    report.finish();
}

macro_rules! binary {
    ($($test:ident: $name32:ident, $name64:ident;)+) => {
        $(
            #[test]
            fn $test() {
                compare(stringify!($name32), COUNT, Kind::Single, $name32, |a, b, _, env| {
                    u64::from(sse::$name32(a as u32, b as u32, env))
                });
                compare(stringify!($name64), COUNT, Kind::Double, $name64, |a, b, _, env| sse::$name64(a, b, env));
            }
        )+
    };
}

binary! {
    addition: add32, add64;
    subtraction: sub32, sub64;
    multiplication: mul32, mul64;
    division: div32, div64;
    minimum: min32, min64;
    maximum: max32, max64;
}

#[test]
fn square_root() {
    compare("sqrt32", COUNT, Kind::Single, sqrt32, |a, _, _, env| u64::from(sse::sqrt32(a as u32, env)));
    compare("sqrt64", COUNT, Kind::Double, sqrt64, |a, _, _, env| sse::sqrt64(a, env));
}

#[test]
fn fused_multiply_add() {
    if !is_x86_feature_detected!("fma") {
        return;
    }
    // 213: xmm1 * xmm0 + xmm2.
    compare("fma32", COUNT, Kind::Single, fma32, |a, b, c, env| {
        u64::from(sse::fma32(b as u32, a as u32, c as u32, env))
    });
    compare("fma64", COUNT, Kind::Double, fma64, |a, b, c, env| sse::fma64(b, a, c, env));
    // The order of the operands in the product and sum, which decides between NaNs.
    compare("fma132", COUNT / 2, Kind::Double, fma132, |a, b, c, env| sse::fma64(a, c, b, env));
    compare("fma231", COUNT / 2, Kind::Double, fma231, |a, b, c, env| sse::fma64(b, c, a, env));
    let both = FmaSign { negate_product: true, negate_addend: true };
    compare("fnmsub32", COUNT / 2, Kind::Single, fnms32, |a, b, c, env| {
        u64::from(sse::fma_op32(b as u32, a as u32, c as u32, both, env))
    });
    compare("fnmsub64", COUNT / 2, Kind::Double, fnms64, |a, b, c, env| sse::fma_op64(b, a, c, both, env));
    let addend = FmaSign { negate_product: false, negate_addend: true };
    compare("fmsub64", COUNT / 2, Kind::Double, fms64, |a, b, c, env| sse::fma_op64(b, a, c, addend, env));
    let product = FmaSign { negate_product: true, negate_addend: false };
    compare("fnmadd64", COUNT / 2, Kind::Double, fnma64, |a, b, c, env| sse::fma_op64(b, a, c, product, env));
}

#[test]
fn fused_cancellation() {
    if !is_x86_feature_detected!("fma") {
        return;
    }
    // The addend is the rounded product, or near it: what is left is the rounding error.
    let mut report = Report::new("fma64 cancelling");
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..COUNT {
        let mxcsr = control(&mut random);
        let (a, b) = (random.float(Kind::Double), random.float(Kind::Double));
        let product = (f64::from_bits(a) * f64::from_bits(b)).to_bits();
        let c = product.wrapping_add(random.below(5)).wrapping_sub(2) ^ 1 << 63;
        report.check(mxcsr, [a, b, c], fma64, &|a, b, c, env| sse::fma64(b, a, c, env));
        let (a, b) = (random.float(Kind::Single) as u32, random.float(Kind::Single) as u32);
        let product = (f32::from_bits(a) * f32::from_bits(b)).to_bits();
        let c = product.wrapping_add(random.below(5) as u32).wrapping_sub(2) ^ 1 << 31;
        report.check(mxcsr, [a, b, c].map(u64::from), fma32, &|a, b, c, env| {
            u64::from(sse::fma32(b as u32, a as u32, c as u32, env))
        });
    }
    report.finish();
}

#[test]
fn conversions_between_formats() {
    compare("cvtss2sd", COUNT, Kind::Single, f32_to_f64, |a, _, _, env| sse::f32_to_f64(a as u32, env));
    compare("cvtsd2ss", COUNT, Kind::Double, f64_to_f32, |a, _, _, env| {
        // CVTSD2SS leaves the upper half of the low quadword alone.
        u64::from(sse::f64_to_f32(a, env)) | a & 0xffff_ffff_0000_0000
    });
    // Doubles around the singles' limits.
    let mut report = Report::new("cvtsd2ss limits");
    let mut random = Random(7);
    for _ in 0..COUNT {
        let mxcsr = control(&mut random);
        let exponent =
            [0x381, 0x380, 0x37f, 0x360 + random.below(40), 0x47e, 0x47f][random.below(6) as usize];
        let a = exponent << 52 | random.pattern() & ((1 << 52) - 1) | random.below(2) << 63;
        report.check(mxcsr, [a, 0, 0], f64_to_f32, &|a, _, _, env| {
            u64::from(sse::f64_to_f32(a, env)) | a & 0xffff_ffff_0000_0000
        });
    }
    report.finish();
}

#[test]
fn conversions_from_integers() {
    compare("cvtsi2ss 32", COUNT, Kind::Integer, i32_to_f32, |a, _, _, env| {
        u64::from(sse::i32_to_f32(a as i32, env)) | a & 0xffff_ffff_0000_0000
    });
    compare("cvtsi2ss 64", COUNT, Kind::Integer, i64_to_f32, |a, _, _, env| {
        u64::from(sse::i64_to_f32(a as i64, env)) | a & 0xffff_ffff_0000_0000
    });
    compare("cvtsi2sd 64", COUNT, Kind::Integer, i64_to_f64, |a, _, _, env| sse::i64_to_f64(a as i64, env));
}

#[test]
fn conversions_to_integers() {
    fn single(name: &'static str, host: Host, ours: impl Fn(u32, &mut MxEnv) -> u64) {
        compare(name, COUNT, Kind::Single, host, |a, _, _, env| ours(a as u32, env));
    }
    fn double(name: &'static str, host: Host, ours: impl Fn(u64, &mut MxEnv) -> u64) {
        compare(name, COUNT, Kind::Double, host, |a, _, _, env| ours(a, env));
    }
    single("cvtss2si 32", f32_to_i32, |a, env| u64::from(sse::f32_to_i32(a, env) as u32));
    single("cvtss2si 64", f32_to_i64, |a, env| sse::f32_to_i64(a, env) as u64);
    single("cvttss2si 32", f32_to_i32_trunc, |a, env| u64::from(sse::f32_to_i32_trunc(a, env) as u32));
    single("cvttss2si 64", f32_to_i64_trunc, |a, env| sse::f32_to_i64_trunc(a, env) as u64);
    double("cvtsd2si 32", f64_to_i32, |a, env| u64::from(sse::f64_to_i32(a, env) as u32));
    double("cvtsd2si 64", f64_to_i64, |a, env| sse::f64_to_i64(a, env) as u64);
    double("cvttsd2si 32", f64_to_i32_trunc, |a, env| u64::from(sse::f64_to_i32_trunc(a, env) as u32));
    double("cvttsd2si 64", f64_to_i64_trunc, |a, env| sse::f64_to_i64_trunc(a, env) as u64);
}

#[test]
fn comparisons() {
    // LAHF puts CF, PF and ZF (and bit 1, always set) into AH.
    let flags = |relation: Relation| u64::from(relation.eflags() | 2) << 8;
    // LAHF keeps what the comparison left in AL: zero.
    compare("comiss", COUNT, Kind::Single, comi32, |a, b, _, env| {
        flags(sse::comi32(a as u32, b as u32, env))
    });
    compare("ucomiss", COUNT, Kind::Single, ucomi32, |a, b, _, env| {
        flags(sse::ucomi32(a as u32, b as u32, env))
    });
    compare("comisd", COUNT, Kind::Double, comi64, |a, b, _, env| flags(sse::comi64(a, b, env)));
    compare("ucomisd", COUNT, Kind::Double, ucomi64, |a, b, _, env| flags(sse::ucomi64(a, b, env)));
}

macro_rules! each_immediate {
    ($check:ident: $($immediate:literal)+) => {
        $($check::<$immediate>();)+
    };
}

#[test]
fn predicates() {
    fn check<const IMM: u8>() {
        compare("vcmpss", COUNT / 20, Kind::Single, cmp32::<IMM>, |a, b, _, env| {
            // The upper half comes from the first operand.
            let mask = if sse::cmp32(a as u32, b as u32, IMM, env) { 0xffff_ffff } else { 0 };
            mask | a & 0xffff_ffff_0000_0000
        });
        compare("vcmpsd", COUNT / 20, Kind::Double, cmp64::<IMM>, |a, b, _, env| {
            if sse::cmp64(a, b, IMM, env) { u64::MAX } else { 0 }
        });
    }
    if is_x86_feature_detected!("avx") {
        each_immediate!(check: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    }
}

#[test]
fn rounding_to_integral() {
    fn check<const IMM: u8>() {
        compare("roundss", COUNT / 8, Kind::Single, round32::<IMM>, |a, _, _, env| {
            u64::from(sse::round32(a as u32, IMM, env))
        });
        compare("roundsd", COUNT / 8, Kind::Double, round64::<IMM>, |a, _, _, env| sse::round64(a, IMM, env));
    }
    if is_x86_feature_detected!("sse4.1") {
        each_immediate!(check: 0 1 2 3 4 8 9 10 11 12);
    }
}

#[test]
fn half_precision() {
    if !is_x86_feature_detected!("f16c") {
        return;
    }
    // The instruction converts four elements: the others are zeros.
    let mut report = Report::new("vcvtph2ps");
    for mxcsr in controls() {
        for a in 0..=u64::from(u16::MAX) {
            if mxcsr & MASKS == MASKS || a % 61 == 0 {
                report.check(mxcsr, [a, 0, 0], f16_to_f32, &|a, _, _, env| {
                    u64::from(sse::f16_to_f32(a as u16, env))
                });
            }
        }
    }
    report.finish();
    fn check<const IMM: u8>() {
        let mut report = Report::new("vcvtps2ph");
        let mut random = Random(11);
        for _ in 0..COUNT / 4 {
            let mxcsr = control(&mut random);
            let kind = if random.below(2) == 0 { Kind::Half } else { Kind::Single };
            let a = match kind {
                // Singles around the halves' limits and rounding boundaries.
                Kind::Half => {
                    let exponent = 127 - 15 - 12 + random.below(30 + 14);
                    exponent << 23 | random.pattern() & 0x7f_ffff | random.below(2) << 31
                }
                _ => random.float(Kind::Single),
            };
            report.check(mxcsr, [a, 0, 0], f32_to_f16::<IMM>, &|a, _, _, env| {
                u64::from(sse::f32_to_f16(a as u32, IMM, env))
            });
        }
        report.finish();
    }
    each_immediate!(check: 0 1 2 3 4);
}
