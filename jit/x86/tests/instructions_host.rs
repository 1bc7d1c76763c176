//! Every SSE, MMX and x87 instruction against the host's processor: registers, memory, flags, MXCSR, status word, tags.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(unsafe_code, reason = "runs the instruction under test on the host")]

mod host;
#[path = "host/native.rs"]
mod native;

use host::{Block, guest, run_guest};
use iced_x86::{Code, CpuidFeature as F, EncodingKind, Mnemonic as M};
use native::{HostCode, Random, forms};

/// Immediates: rounding and comparison predicates, lane numbers, shift counts, string comparison modes.
const IMMS: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 0x0c, 0x0f, 0x10, 0x11, 0x1b, 0x1f, 0x20, 0x3f, 0x40, 0x44, 0x4c, 0x59, 0x7d,
    0x88, 0xb1, 0xd8, 0xe4, 0xff,
];

fn codes(wanted: &[F]) -> impl Iterator<Item = Code> {
    Code::values().filter(move |c| {
        c.op_code().mode64()
            && matches!(c.op_code().encoding(), EncodingKind::Legacy)
            && !c.cpuid_features().is_empty()
            && c.cpuid_features().iter().all(|f| wanted.contains(f))
    })
}

fn hex(b: &[u8]) -> String {
    b.iter().rev().map(|b| format!("{b:02x}")).collect()
}

/// What differs, one line each.
fn differences(host: &Block, ours: &Block, sw_mask: u16, flags: u64) -> Vec<String> {
    let mut d = Vec::new();
    let mut check = |what: String, h: String, o: String| {
        if h != o {
            d.push(format!("  {what}: host {h} ours {o}"));
        }
    };
    for n in 0..16 {
        check(format!("xmm{n}"), format!("{:032x}", host.xmm(n)), format!("{:032x}", ours.xmm(n)));
    }
    for n in 0..8 {
        check(format!("st{n}"), hex(&host.st(n)), hex(&ours.st(n)));
    }
    check("mxcsr".into(), format!("{:04x}", host.mxcsr()), format!("{:04x}", ours.mxcsr()));
    check("cw".into(), format!("{:04x}", host.get16(0)), format!("{:04x}", ours.get16(0)));
    check(
        "sw".into(),
        format!("{:04x}", host.get16(2) & sw_mask),
        format!("{:04x}", ours.get16(2) & sw_mask),
    );
    check("tag".into(), format!("{:02x}", host.fx[4]), format!("{:02x}", ours.fx[4]));
    check("gpr".into(), format!("{:x?}", host.gpr), format!("{:x?}", ours.gpr));
    check("flags".into(), format!("{:x}", host.flags & flags), format!("{:x}", ours.flags & flags));
    check("mem".into(), hex(&host.mem), hex(&ours.mem));
    d
}

/// Dot products: of several NaNs some processors choose another one in each lane, so that any is right.
fn alike_nans(host: &mut Block, ours: &Block, double: bool) {
    let (lanes, bits) = if double { (2, 64) } else { (4, 32) };
    let nan = |lane: u128| {
        if double { f64::from_bits(lane as u64).is_nan() } else { f32::from_bits(lane as u32).is_nan() }
    };
    for n in 0..16 {
        for shift in (0..lanes).map(|lane| lane * bits) {
            let mask = u128::MAX >> (128 - bits) << shift;
            if nan(host.xmm(n) >> shift) && nan(ours.xmm(n) >> shift) {
                host.set_xmm(n, host.xmm(n) & !mask | ours.xmm(n) & mask);
            }
        }
    }
}

fn describe(b: &Block) -> String {
    format!(
        "  from xmm1 {:032x} xmm2 {:032x} xmm0 {:032x} mem {}\n  st {} {} {} mxcsr {:04x} cw {:04x} sw {:04x} tag {:02x} gpr {:x?}",
        b.xmm(1),
        b.xmm(2),
        b.xmm(0),
        hex(&b.mem[32..48]),
        hex(&b.st(0)),
        hex(&b.st(1)),
        hex(&b.st(2)),
        b.mxcsr(),
        b.get16(0),
        b.get16(2),
        b.fx[4],
        b.gpr
    )
}

/// Runs each form of each instruction `rounds` times; panics with the first failure of each.
fn compare(
    codes: impl Iterator<Item = Code>,
    rounds: u32,
    mut fill: impl FnMut(&mut Random, &mut Block),
    sw_mask: impl Fn(M) -> u16,
) {
    let mut cpu = guest();
    let mut failures = Vec::new();
    let (mut n, mut instructions) = (0u64, 0);
    for code in codes {
        let mut random = Random(code as u64);
        instructions += 1;
        for (x, bytes) in forms(code, IMMS) {
            let host = HostCode::new(&bytes);
            for _ in 0..rounds {
                n += 1;
                let mut start = Block::new();
                fill(&mut random, &mut start);
                let (mut h, mut o) = (start.clone(), start.clone());
                host.run(&mut h);
                let r = run_guest(&mut cpu, &bytes, &mut o);
                if matches!(x.mnemonic(), M::Dpps | M::Dppd) {
                    alike_nans(&mut h, &o, x.mnemonic() == M::Dppd);
                }
                let mut d = differences(&h, &o, sw_mask(x.mnemonic()), 0x8d5);
                if let Err(v) = r {
                    d.push(format!("  exception {v}"));
                }
                if !d.is_empty() {
                    failures.push(format!(
                        "{x} ({code:?}, {})\n{}\n{}",
                        hex(&bytes),
                        describe(&start),
                        d.join("\n")
                    ));
                    break;
                }
            }
        }
    }
    println!("{instructions} instructions, {n} executions");
    assert!(instructions > 0);
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

/// Vector registers, memory, MXCSR with all exceptions masked; integers that look like lengths now and then.
fn fill_vector(r: &mut Random, b: &mut Block) {
    for n in 0..16 {
        b.set_xmm(n, r.vector());
    }
    for k in (0..128).step_by(16) {
        b.mem[k..k + 16].copy_from_slice(&r.vector().to_le_bytes());
    }
    for g in &mut b.gpr {
        *g = match r.below(4) {
            0 => r.below(20),
            1 => r.below(20).wrapping_neg(),
            _ => r.next(),
        };
    }
    b.flags = r.next() & 0x8d5;
    let control = r.pick(&[0u32, 0, 0, 0x2000, 0x4000, 0x6000, 0x8000, 0x0040, 0x8040, 0xe040]);
    let sticky = if r.below(2) == 0 { 0 } else { r.below(64) as u32 };
    b.set_mxcsr(0x1f80 | control | sticky);
    // Shift counts are small more often than not.
    if r.below(3) == 0 {
        let count = r.below(70).into();
        b.set_xmm(2, count);
        b.mem[32..48].copy_from_slice(&count.to_le_bytes());
    }
}

#[test]
fn sse() {
    let skip = [
        // Approximations differ between makers; the kernel has its own test.
        M::Rcpss,
        M::Rcpps,
        M::Rsqrtss,
        M::Rsqrtps,
        // Stores at RDI; tested in the crate.
        M::Maskmovdqu,
        M::Maskmovq,
        M::Ldmxcsr,
        M::Stmxcsr,
        M::Pause,
        M::Prefetchnta,
        M::Clflush,
    ];
    let wanted = [F::SSE, F::SSE2, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2];
    let list = codes(&wanted).filter(|c| {
        let m = c.mnemonic();
        let is_x87 = format!("{m:?}").starts_with('F');
        !skip.contains(&m) && !is_x87 && !matches!(m, M::Crc32 | M::Popcnt | M::Monitor | M::Mwait)
    });
    compare(
        list,
        60,
        |r, b| {
            fill_vector(r, b);
            fill_mmx(r, b);
        },
        |_| !0,
    );
}

/// MMX registers; the state is x87's.
fn fill_mmx(r: &mut Random, b: &mut Block) {
    for n in 0..8 {
        let mut v = [0xff; 10];
        v[..8].copy_from_slice(&(r.vector() as u64).to_le_bytes());
        b.set_st(n, v);
    }
    b.fx[4] = r.next() as u8;
}

#[test]
fn mmx() {
    let list = codes(&[F::MMX]).filter(|c| c.mnemonic() != M::Maskmovq);
    compare(
        list,
        100,
        |r, b| {
            fill_vector(r, b);
            fill_mmx(r, b);
            if r.below(2) == 0 {
                let count = (r.below(70)).to_le_bytes();
                let mut v = [0xff; 10];
                v[..8].copy_from_slice(&count);
                b.set_st(2, v);
            }
        },
        |_| !0,
    );
}

/// x87 registers, a random TOP, mostly full stacks, all kinds of control words.
fn fill_x87(r: &mut Random, b: &mut Block) {
    fill_vector(r, b);
    b.set_mxcsr(0x1f80);
    for n in 0..8 {
        b.set_st(n, r.f80());
    }
    let top = r.below(8) as u16;
    b.fx[4] = match r.below(4) {
        0 => r.next() as u8,
        1 => !(1u8 << ((top + 7) & 7)),
        // ST(0..3) valid, room above.
        _ => 0x0fu8.rotate_left(top.into()),
    };
    b.set16(2, top << 11 | (r.next() as u16 & 0x4700));
    let masks = if r.below(4) == 0 { r.next() as u16 & 0x3f } else { 0x3f };
    let precision = r.pick(&[0x300u16, 0x300, 0x200, 0]);
    let rounding = r.pick(&[0u16, 0, 0x400, 0x800, 0xc00]);
    b.set16(0, 0x40 | masks | precision | rounding);
    let operand = match r.below(3) {
        0 => (r.f64()).to_le_bytes(),
        1 => u64::from(r.f32()).to_le_bytes(),
        _ => r.next().to_le_bytes(),
    };
    b.mem[32..40].copy_from_slice(&operand);
    if r.below(2) == 0 {
        b.mem[32..42].copy_from_slice(&r.f80());
    }
}

fn x87_codes() -> impl Iterator<Item = Code> {
    codes(&[F::FPU, F::FPU287, F::FPU387, F::SSE3, F::CMOV]).filter(|c| {
        let m = c.mnemonic();
        format!("{m:?}").starts_with('F')
            && !format!("{c:?}").contains("_m14byte")
            && !format!("{c:?}").contains("_m28byte")
            && !format!("{c:?}").contains("_m94byte")
            && !format!("{c:?}").contains("_m108byte")
            // These wait: two instructions in one code.
            && !matches!(m, M::Fstcw | M::Fstsw | M::Fclex | M::Finit | M::Feni | M::Fdisi | M::Fsetpm)
            // Transcendental: makers differ in the last place; their kernels have their own tests.
            && !matches!(m, M::F2xm1 | M::Fyl2x | M::Fyl2xp1 | M::Fsin | M::Fcos | M::Fsincos | M::Fptan | M::Fpatan)
            // Of the 287 and of other makers.
            && !matches!(m, M::Fneni | M::Fndisi | M::Fnsetpm | M::Frstpm | M::Fstdw | M::Fstsg | M::Fnstdw | M::Fnstsg)
            && !matches!(m, M::Fstpnce | M::Ftstp | M::Frint2 | M::Frichop | M::Frinear | M::Femms)
            && *c != Code::Fldcw_m2byte
    })
}

#[test]
fn x87() {
    compare(x87_codes(), 400, fill_x87, |m| match m {
        // C0, C2 and C3 are undefined after most instructions.
        M::Fcom
        | M::Fcomp
        | M::Fcompp
        | M::Fucom
        | M::Fucomp
        | M::Fucompp
        | M::Ficom
        | M::Ficomp
        | M::Ftst
        | M::Fxam
        | M::Fprem
        | M::Fprem1 => !0,
        // SDM: C1 is cleared; AMD leaves it.
        M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip => !0x4700,
        _ => !0x4500,
    });
}
