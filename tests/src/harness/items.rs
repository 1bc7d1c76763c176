//! The language of checks: `regs!{eax: 1, [DATA; 4]: 0x55}` and `expect!{eax: 0, flags: CF|ZF, fault: GP, code: 0}`.
//!
//! Values are `i128`, so that `!0` and negative numbers mean what they look like at every width.

use iced_x86::Register;

use super::state::State;

/// One register, memory word, or other fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// By name: a register of any width (of YMM ones the halves: `xmm0`, `high0`), `flags`, `mxcsr`, `st0`, `fcw`, `fsw`, `ftag`, `rip`, `fs_base`, `gs_base`;
    /// for expectations also `fault`, `code`, `cr2`.
    Named(&'static str, i128),
    /// Bytes at a linear address: address, length up to 16, value.
    Memory(u64, usize, i128),
}

/// Makes one [`Item`].
#[macro_export]
macro_rules! item {
    ([$at:expr; $len:expr], $v:expr) => {
        $crate::harness::items::Item::Memory($at, $len, $v)
    };
    ($name:ident, $v:expr) => {
        $crate::harness::items::Item::Named(stringify!($name), $v)
    };
}

/// Registers and memory before: `regs!{eax: 1, xmm0: v(hi, lo), [DATA; 4]: 0x1234}`. Everything else has a pattern.
#[macro_export]
macro_rules! regs {
    ($($k:tt : $v:expr),* $(,)?) => { vec![$($crate::item!($k, $v)),*] };
}

/// What is expected: registers and memory that are not listed keep their values; `flags` and `mxcsr` are looked at only
/// when they are listed; the x87 registers likewise.
#[macro_export]
macro_rules! expect {
    ($($k:tt : $v:expr),* $(,)?) => { vec![$($crate::item!($k, $v)),*] };
}

/// Names for flags and vectors.
pub mod names {
    #![expect(missing_docs, reason = "names of the manual")]
    pub const CF: i128 = 1;
    pub const PF: i128 = 4;
    pub const AF: i128 = 0x10;
    pub const ZF: i128 = 0x40;
    pub const SF: i128 = 0x80;
    pub const DF: i128 = 0x400;
    pub const OF: i128 = 0x800;
    pub const NONE: i128 = 0;

    pub const DE: i128 = 0;
    pub const DB: i128 = 1;
    pub const BP: i128 = 3;
    pub const OVERFLOW: i128 = 4;
    pub const BR: i128 = 5;
    pub const UD: i128 = 6;
    pub const NM: i128 = 7;
    pub const NP: i128 = 11;
    pub const SS: i128 = 12;
    pub const GP: i128 = 13;
    pub const PAGE: i128 = 14;
    pub const MF: i128 = 16;
    pub const AC: i128 = 17;
    pub const XM: i128 = 19;
}

/// A 128-bit value by its halves.
pub fn v(hi: u64, lo: u64) -> i128 {
    (u128::from(hi) << 64 | u128::from(lo)) as i128
}

/// Two doubles.
pub fn f64x2(hi: f64, lo: f64) -> i128 {
    v(hi.to_bits(), lo.to_bits())
}

/// Four singles, the highest first.
pub fn f32x4(d: f32, c: f32, b: f32, a: f32) -> i128 {
    let pair = |h: f32, l: f32| u64::from(h.to_bits()) << 32 | u64::from(l.to_bits());
    v(pair(d, c), pair(b, a))
}

/// A double in the x87's 80-bit format (normal numbers, zeros and infinities).
pub fn f80(x: f64) -> i128 {
    let b = x.to_bits();
    let (sign, exponent, fraction) = (b >> 63, b >> 52 & 0x7ff, b << 12 >> 1);
    let (e, m) = match exponent {
        0 => (0, 0),
        0x7ff => (0x7fff, 1 << 63 | fraction),
        e => (e + 16383 - 1023, 1 << 63 | fraction),
    };
    (u128::from(sign << 15 | e) << 64 | u128::from(m)) as i128
}

impl Item {
    /// Puts it into a state. `false`: it is no part of one (`fault`, `code`, `cr2`).
    pub fn apply(&self, s: &mut State) -> bool {
        match *self {
            Self::Memory(at, len, v) => s.memory(at, len).copy_from_slice(&v.to_le_bytes()[..len]),
            Self::Named(name, v) => match name {
                "fault" | "code" | "cr2" => return false,
                "flags" => s.rflags = s.rflags & !super::state::VISIBLE | v as u64,
                "mxcsr" => s.mxcsr = v as u32,
                "fcw" => s.fp.cw = v as u16,
                "fsw" => s.fp.sw = v as u16,
                "ftag" => s.fp.tag = v as u8,
                "rip" => s.rip = v as u64,
                "fs_base" => s.fs_base = v as u64,
                "gs_base" => s.gs_base = v as u64,
                _ => register(s, name, v),
            },
        }
        true
    }
}

fn register(s: &mut State, name: &str, v: i128) {
    if let Some(n) = name.strip_prefix("high") {
        s.high[n.parse::<usize>().expect("a register")] = v as u128;
        return;
    }
    let r = Register::values()
        .find(|r| format!("{r:?}").eq_ignore_ascii_case(name))
        .unwrap_or_else(|| panic!("`{name}` is nothing that a check knows"));
    let n = r.number();
    if r.is_xmm() {
        s.xmm[n] = v as u128;
    } else if r.is_st() {
        s.fp.st[n].copy_from_slice(&v.to_le_bytes()[..10]);
        let top = s.fp.sw >> 11 & 7;
        s.fp.tag |= 1 << ((top as usize + n) & 7);
    } else if r.is_mm() {
        s.fp.st[n][..8].copy_from_slice(&v.to_le_bytes()[..8]);
        s.fp.st[n][8..].fill(0xff);
    } else if r.is_gpr() {
        let v = v as u64;
        let g = &mut s.gpr[r.full_register().number()];
        *g = match r.size() {
            8 => v,
            4 => v & 0xffff_ffff,
            2 => *g & !0xffff | v & 0xffff,
            _ if (Register::AH..=Register::BH).contains(&r) => *g & !0xff00 | (v & 0xff) << 8,
            _ => *g & !0xff | v & 0xff,
        };
    } else {
        panic!("`{name}` cannot be set");
    }
}
