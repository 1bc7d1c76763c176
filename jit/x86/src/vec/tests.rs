//! The lane-parallel tricks against plain loops over lanes. (`tests/instructions_host.rs` compares whole instructions with
//! the host's processor where that is an x86.)

use super::emitter::{VBin, VShift, VUn};
use super::lanes::{self, lane, with_lane};
use crate::insn::Width;
use crate::state::Xmm;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let z = (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ z >> 32
    }
    /// Lanes that are often extreme.
    fn vector(&mut self) -> Xmm {
        const EDGES: [u64; 6] =
            [0, !0, 0x8080_8080_8080_8080, 0x7fff_7fff_7fff_7fff, 0x8000_0000_8000_0000, 1];
        [0, 1].map(|_| match self.next() % 3 {
            0 => self.next(),
            1 => EDGES[(self.next() % 6) as usize],
            _ => {
                let m = self.next();
                EDGES[(self.next() % 6) as usize] & m | EDGES[(self.next() % 6) as usize] & !m
            }
        })
    }
}

/// Lane by lane on sign-extended and zero-extended values.
fn by_lane(w: Width, a: Xmm, b: Xmm, f: impl Fn((i64, u64), (i64, u64)) -> u64) -> Xmm {
    let mut out = [0; 2];
    for k in 0..(16 / w.bytes()) as u8 {
        let both = |x: Xmm| (w.sext(lane(w, x, k)) as i64, lane(w, x, k));
        out = with_lane(w, out, k, f(both(a), both(b)) & w.mask());
    }
    out
}

/// The plain meaning of the operations that are computed without taking lanes apart.
fn plain(op: VBin, a: Xmm, b: Xmm) -> Option<Xmm> {
    use VBin::*;
    let w = match op {
        AddB | SubB | AddSB | AddUsB | SubSB | SubUsB | AvgB | MinUB | MaxUB | MinSB | MaxSB | CmpEqB
        | CmpGtB | SignB => Width::B,
        AddW | SubW | AddSW | AddUsW | SubSW | SubUsW | AvgW | MinUW | MaxUW | MinSW | MaxSW | CmpEqW
        | CmpGtW | SignW => Width::W,
        AddD | SubD | MinUD | MaxUD | MinSD | MaxSD | CmpEqD | CmpGtD | SignD => Width::D,
        CmpEqQ | CmpGtQ => Width::Q,
        _ => return None,
    };
    let (low, high) = (w.sext(w.sign()) as i64, (w.mask() >> 1) as i64);
    let ones = |c: bool| if c { !0 } else { 0 };
    Some(by_lane(w, a, b, |(sa, ua), (sb, ub)| match op {
        AddB | AddW | AddD => ua.wrapping_add(ub),
        SubB | SubW | SubD => ua.wrapping_sub(ub),
        AddSB | AddSW => (sa + sb).clamp(low, high) as u64,
        SubSB | SubSW => (sa - sb).clamp(low, high) as u64,
        AddUsB | AddUsW => (ua + ub).min(w.mask()),
        SubUsB | SubUsW => ua.saturating_sub(ub),
        AvgB | AvgW => (ua + ub).div_ceil(2),
        MinUB | MinUW | MinUD => ua.min(ub),
        MaxUB | MaxUW | MaxUD => ua.max(ub),
        MinSB | MinSW | MinSD => sa.min(sb) as u64,
        MaxSB | MaxSW | MaxSD => sa.max(sb) as u64,
        CmpEqB | CmpEqW | CmpEqD | CmpEqQ => ones(ua == ub),
        CmpGtB | CmpGtW | CmpGtD | CmpGtQ => ones(sa > sb),
        _ => (sa * sb.signum()) as u64,
    }))
}

#[test]
fn binary_operations() {
    let mut r = Random(1);
    let mut checked = 0;
    for &op in VBin::ALL {
        for _ in 0..2000 {
            let (a, b) = (r.vector(), r.vector());
            let Some(want) = plain(op, a, b) else { break };
            assert_eq!(lanes::vbin(op, a, b), want, "{op:?} {a:x?} {b:x?}");
            checked += 1;
        }
    }
    assert_eq!(checked, 39 * 2000);
}

#[test]
fn absolute_values() {
    let mut r = Random(2);
    for _ in 0..2000 {
        let a = r.vector();
        for (op, w) in [(VUn::AbsB, Width::B), (VUn::AbsW, Width::W), (VUn::AbsD, Width::D)] {
            assert_eq!(lanes::vun(op, a), by_lane(w, a, a, |(s, _), _| s.unsigned_abs()), "{op:?} {a:x?}");
        }
    }
}

#[test]
fn shifts() {
    use VShift::*;
    let mut r = Random(3);
    for op in [ShlW, ShlD, ShlQ, ShrW, ShrD, ShrQ, SarW, SarD] {
        let w = op.width();
        for n in (0..70).chain([255, 256, 1 << 32, u64::MAX]) {
            let a = r.vector();
            let want = by_lane(w, a, a, |(s, u), _| {
                let inside = n < u64::from(w.bits());
                match op {
                    ShlW | ShlD | ShlQ if inside => u << n,
                    ShrW | ShrD | ShrQ if inside => u >> n,
                    SarW | SarD => (s >> n.min(63)) as u64,
                    _ => 0,
                }
            });
            assert_eq!(lanes::vshift(op, a, n), want, "{op:?} {a:x?} {n}");
        }
    }
}

#[test]
fn sign_masks_and_blends() {
    let mut r = Random(4);
    for _ in 0..1000 {
        let (a, b, m) = (r.vector(), r.vector(), r.vector());
        for w in [Width::B, Width::D, Width::Q] {
            let n = (16 / w.bytes()) as u8;
            let sign = |x: Xmm, k: u8| lane(w, x, k) & w.sign() != 0;
            let want = (0..n).fold(0, |v, k| v | u64::from(sign(a, k)) << k);
            assert_eq!(lanes::move_mask(w, a), want, "{w:?} {a:x?}");
            let got = lanes::blend_var(w, a, b, m);
            for k in 0..n {
                let from = if sign(m, k) { b } else { a };
                assert_eq!(lane(w, got, k), lane(w, from, k), "{w:?} {m:x?}");
            }
        }
    }
}

#[test]
fn byte_alignment() {
    let bytes: Vec<u8> = (0..32).collect();
    let q = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (low, high) = ([q(0), q(8)], [q(16), q(24)]);
    for n in 0..40u8 {
        let want: [u8; 16] = std::array::from_fn(|k| bytes.get(usize::from(n) + k).copied().unwrap_or(0));
        assert_eq!(lanes::bytes(lanes::align_bytes(high, low, n)), want, "{n}");
    }
}
