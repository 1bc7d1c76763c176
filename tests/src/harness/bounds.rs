//! Where more than one answer is right: results by error bound, and fields of images that processors fill in several
//! ways.

use iced_x86::{Code, Instruction, Mnemonic as M};

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
    if before.rflags >> 18 & 1 != 0 && matches!((ours.end.vector, host.end.vector), (13 | 14, 17)) {
        // Which comes first is left open (SDM vol. 3, 6.9): on some processors the page fault or #GP, on others #AC.
        host.clone_from(ours);
    }
    faults(x, before, ours, host);
    if matches!(x.mnemonic(), M::Dpps | M::Dppd | M::Vdpps | M::Vdppd) {
        // Of several NaNs Intel's processors choose another one in each lane, whatever the manual's order of additions says.
        let double = matches!(x.mnemonic(), M::Dppd | M::Vdppd);
        for n in 0..16 {
            let (a, b) = (&ours.state, &mut host.state);
            b.xmm[n] = nans(a.xmm[n], b.xmm[n], double);
            b.high[n] = nans(a.high[n], b.high[n], double);
        }
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

/// What an instruction that faults has done by then, where the manual leaves that open.
fn faults(x: &Instruction, before: &State, ours: &After, host: &mut After) {
    const PAGE: u8 = 14;
    const PROTECTION: u8 = 13;
    let memory = |vector| matches!(vector, PAGE | PROTECTION);
    if !memory(ours.end.vector) && ours.end.vector != 17 {
        return;
    }
    let name = format!("{:?}", x.mnemonic());
    let both = memory(ours.end.vector) && memory(host.end.vector);
    // A store that an unmasked exception suppresses: some processors look for faults all the same.
    const SUMMARY: u16 = 1 << 7;
    if name.starts_with('F') && host.end.vector == 3 && host.state.fp.sw & SUMMARY != 0 {
        host.clone_from(ours);
    }
    if both && name.contains("maskmov") || name == "Vcvtps2ph" && host.end.vector == 19 {
        // Which of several elements faults first; whether an unmasked exception comes before the store's fault.
        host.clone_from(ours);
    }
    if !both || ours.end.vector != host.end.vector {
        return;
    }
    if name.contains("gather") {
        // Elements beyond the one that faults may be there or not (SDM vol. 2, VGATHERDPS).
        (host.state.xmm, host.state.high) = (ours.state.xmm, ours.state.high);
    }
    if matches!(x.mnemonic(), M::Scasb | M::Scasw | M::Scasd | M::Scasq) || name.starts_with("Cmps") {
        // After some iterations: the flags from before by the SDM, those of the last one on AMD's processors.
        host.state.rflags = ours.state.rflags;
    }
    if name == "Vcvtps2ph" {
        settle_flags(ours, host);
    }
    if x.code() == Code::Call_rm64 {
        // To an address that is not canonical: the stack is written before or after that is found, RSP moves in neither case.
        host.state.stack.clone_from(&ours.state.stack);
    }
    if let (10, Some(at)) = (x.memory_size().size(), address(x, before)) {
        // A store of two parts, the second of which faults.
        copy(&ours.state, &mut host.state, at, 10);
    }
}

/// VCVTPS2PH: where its store faults, are the flags of MXCSR set by then?
pub fn settle_flags(ours: &After, host: &mut After) {
    if ours.end.vector == host.end.vector && matches!(host.end.vector, 13 | 14 | 17) {
        host.state.mxcsr = ours.state.mxcsr;
    }
}

/// `b` with the lanes of `a` where both are NaNs.
fn nans(a: u128, b: u128, double: bool) -> u128 {
    let (count, bits) = if double { (2, 64) } else { (4, 32) };
    (0..count).fold(b, |v, n| {
        let nan = |v: u128| {
            let lane = v >> (bits * n);
            if double { f64::from_bits(lane as u64).is_nan() } else { f32::from_bits(lane as u32).is_nan() }
        };
        let mask = (u128::MAX >> (128 - bits)) << (bits * n);
        if nan(a) && nan(b) { v & !mask | a & mask } else { v }
    })
}

/// Fields of the image that `x` saves which are not compared: instruction and data pointers with opcode, which AMD's
/// processors, and Intel's newer ones, save only after an exception, and MXCSR_MASK, in which AMD's have one bit more.
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
    fn nans_are_alike_and_nothing_else() {
        let v = |x: u32, y: u32| u128::from(x) << 32 | u128::from(y);
        assert_eq!(nans(v(0x7fc0_0001, 5), v(0xffc0_0000, 6), false), v(0x7fc0_0001, 6));
        assert_eq!(nans(v(0x7f80_0000, 5), v(0xffc0_0000, 6), false), v(0xffc0_0000, 6));
        let nan = u128::from(f64::NAN.to_bits());
        assert_eq!(nans(nan, nan | 1, true), nan);
    }

    #[test]
    fn lanes_are_judged_one_by_one() {
        let v = |x: f32, y: f32| u128::from(x.to_bits()) << 32 | u128::from(y.to_bits());
        assert_eq!(lanes(v(1.0, 2.0), v(1.0001, 2.1)), v(1.0, 2.1));
        assert_eq!(lanes(v(f32::NAN, 0.0), v(1.0, 0.0)), v(1.0, 0.0));
    }
}
