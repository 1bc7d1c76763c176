//! Where more than one answer is right: results by error bound, and fields of images that processors fill in several
//! ways.

use iced_x86::{Instruction, Mnemonic as M};

use super::generate::address;
use super::host;
use super::layout::{DATA, DATA_LEN, STACK, STACK_LEN};
use super::state::{After, State};

/// Units in the last place between two transcendental results, each of which is within one of the exact one.
const ULPS: u128 = 2;
/// RCPPS and its kin: each within 1.5 * 2^-12 of the exact result.
const RELATIVE: f64 = 2.0 * 1.5 / 4096.0;

/// The guest kernel's part of the address space.
const LOW: u64 = 0x20_0000;

/// Gives `host` our values where both are right.
pub fn settle(x: &Instruction, before: &State, ours: &After, host: &mut After) {
    if host::is_approximation(x) {
        for n in 0..16 {
            let (a, b) = (ours.state.xmm[n], host.state.xmm[n]);
            host.state.xmm[n] = lanes(a, b);
            host.state.high[n] = lanes(ours.state.high[n], host.state.high[n]);
        }
    }
    if host::is_transcendental(x) {
        for n in 0..8 {
            let (a, b) = (ours.state.fp.st[n], host.state.fp.st[n]);
            if distance(a, b).is_some_and(|d| d <= ULPS) {
                host.state.fp.st[n] = a;
            }
        }
        // Rounded up or not, exact or not: that depends on the last place too.
        const OPEN: u16 = 0x220;
        host.state.fp.sw = host.state.fp.sw & !OPEN | ours.state.fp.sw & OPEN;
    }
    if let (Some(a), Some(b)) = (ours.end.cr2, host.end.cr2) {
        // Supervisor pages lie there in the guest, nothing in the host's child.
        if a < LOW {
            host.end.code = ours.end.code;
        }
        // Which part of a long operand does the processor look at first, or which of two operands?
        let len = match x.memory_size().size() as u64 {
            // XSAVE and its kin: the legacy region, the header and AVX's component (SDM vol. 1, 13.4).
            0 => 832,
            len => len,
        };
        let image = address(x, before).map_or(0..0, |at| at..at.saturating_add(len));
        let long = image.end - image.start > 8 && image.contains(&a) && image.contains(&b);
        if long || matches!(x.mnemonic(), M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq) {
            if a != b {
                host.end.code = ours.end.code;
            }
            host.end.cr2 = ours.end.cr2;
        }
    }
    if before.rflags >> 18 & 1 != 0 && (ours.end.vector, host.end.vector) == (14, 17) {
        // Which comes first is left open (SDM vol. 3, 6.9): on Intel's processors the page fault, on AMD's the other.
        host.clone_from(ours);
    }
    if matches!(x.mnemonic(), M::Lar) {
        // SDM LAR: bits 19:16 are undefined.
        for (a, b) in ours.state.gpr.iter().zip(&mut host.state.gpr) {
            *b = *b & !0xf_0000 | a & 0xf_0000;
        }
    }
    if ours.end.vector == 3
        && let Some(at) = address(x, before)
    {
        for (offset, len) in fields(x) {
            copy(&ours.state, &mut host.state, at + offset, *len);
        }
    }
}

/// Fields of the image that `x` saves which are not compared: instruction and data pointers with opcode, which AMD's
/// processors save only after an exception, and MXCSR_MASK, in which they have one bit more.
fn fields(x: &Instruction) -> &'static [(u64, u64)] {
    match (x.mnemonic(), x.memory_size().size()) {
        (M::Fnstenv | M::Fnsave, 14 | 94) => &[(6, 8)],
        (M::Fnstenv | M::Fnsave, _) => &[(12, 16)],
        (
            M::Fxsave
            | M::Fxsave64
            | M::Xsave
            | M::Xsave64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xsavec
            | M::Xsavec64,
            _,
        ) => &[(6, 18), (28, 4)],
        _ => &[],
    }
}

fn copy(from: &State, to: &mut State, at: u64, len: u64) {
    for at in (0..len).map(|n| at.wrapping_add(n)) {
        if (DATA..DATA + DATA_LEN as u64).contains(&at) {
            to.data[(at - DATA) as usize] = from.data[(at - DATA) as usize];
        } else if (STACK..STACK + STACK_LEN as u64).contains(&at) {
            to.stack[(at - STACK) as usize] = from.stack[(at - STACK) as usize];
        }
    }
}

/// `b` with the lanes of `a` that are near enough.
fn lanes(a: u128, b: u128) -> u128 {
    (0..4).fold(b, |v, n| {
        let lane = |v: u128| f64::from(f32::from_bits((v >> (32 * n)) as u32));
        let (x, y) = (lane(a), lane(b));
        let near = x.is_finite() && y.is_finite() && (x - y).abs() <= x.abs() * RELATIVE;
        let mask = u128::from(u32::MAX) << (32 * n);
        if near { v & !mask | a & mask } else { v }
    })
}

/// Units in the last place between two numbers of the same sign; `None` for what is no number.
fn distance(a: [u8; 10], b: [u8; 10]) -> Option<u128> {
    let parts = |v: [u8; 10]| {
        let m = u64::from_le_bytes(*v.first_chunk().expect("ten bytes"));
        let e = u16::from_le_bytes([v[8], v[9]]);
        (e >> 15, u128::from(e & 0x7fff), m)
    };
    let ((s, e, m), (t, f, n)) = (parts(a), parts(b));
    let usual = e != 0x7fff && f != 0x7fff && (e == 0 || m >> 63 != 0) && (f == 0 || n >> 63 != 0);
    (s == t && usual).then(|| ordinal(e, m).abs_diff(ordinal(f, n)))
}

/// The number's place among all of its sign.
fn ordinal(e: u128, m: u64) -> u128 {
    // The explicit integer bit is one step of the exponent.
    if e == 0 { u128::from(m) } else { (e << 63) + u128::from(m & !(1 << 63)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(e: u16, m: u64) -> [u8; 10] {
        let mut v = [0; 10];
        v[..8].copy_from_slice(&m.to_le_bytes());
        v[8..].copy_from_slice(&e.to_le_bytes());
        v
    }

    #[test]
    fn distances_in_units_of_the_last_place() {
        let one = number(0x3fff, 1 << 63);
        assert_eq!(distance(one, number(0x3fff, 1 << 63 | 3)), Some(3));
        assert_eq!(distance(one, number(0x3ffe, !0)), Some(1), "across a power of two");
        assert_eq!(distance(number(0, !0 >> 1), number(1, 1 << 63)), Some(1), "into the normal numbers");
        assert_eq!(distance(one, number(0xbfff, 1 << 63)), None, "another sign");
        assert_eq!(distance(one, number(0x7fff, 1 << 63)), None, "infinity");
    }

    #[test]
    fn lanes_are_judged_one_by_one() {
        let v = |x: f32, y: f32| u128::from(x.to_bits()) << 32 | u128::from(y.to_bits());
        assert_eq!(lanes(v(1.0, 2.0), v(1.0001, 2.1)), v(1.0, 2.1));
        assert_eq!(lanes(v(f32::NAN, 0.0), v(1.0, 0.0)), v(1.0, 0.0));
    }
}
