//! A slot of the mail: one case, and what became of it.

use crate::harness::guest::Bits;
use crate::harness::layout::{DATA_LEN, STACK_LEN};
use crate::harness::state::{After, End, Fp, State};

/// The registers of XSAVE in the standard format: legacy area, header, upper halves of YMM (SDM vol. 1, 13.4).
pub const EXTENDED: usize = 0;
pub const EXTENDED_LEN: usize = 832;
const HEADER: usize = 512;
const HIGH: usize = 576;
/// R15 down to RAX without RSP, then the frame of IRETQ.
pub const REGISTERS: usize = 0x380;
/// FS and GS.
pub const BASES: usize = 0x420;
/// ES, DS, FS, GS; 32 bits each.
pub const SELECTORS: usize = 0x430;
pub const CODE: usize = 0x440;
pub const CODE_LEN: usize = 0x3c0;
/// `struct sigcontext` from its first register on: R8-R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, flags,
/// selectors, error code, exception, mask, CR2.
pub const AFTER: usize = 0x800;
pub const AFTER_LEN: usize = 23 * 8;
pub const SIGNAL: usize = 0x8c0;
pub const ADDRESS: usize = 0x8c8;
pub const BASES_AFTER: usize = 0x8d0;
pub const SELECTORS_AFTER: usize = 0x8e0;
pub const EXTENDED_AFTER: usize = 0x900;
/// Data and stack.
pub const MEMORY: usize = 0x1000;
pub const MEMORY_AFTER: usize = MEMORY + DATA_LEN + STACK_LEN;
pub const LEN: usize = MEMORY_AFTER + DATA_LEN + STACK_LEN;

/// User code and data selectors of Linux.
const USER64: u64 = 0x33;
const USER32: u64 = 0x23;
const USER_DATA: u64 = 0x2b;
/// Addresses from here on belong to the kernel.
const KERNEL_HALF: u64 = 0x7fff_ffff_f000;

fn put(slot: &mut [u8], at: usize, v: &[u8]) {
    slot[at..at + v.len()].copy_from_slice(v);
}

fn word(slot: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*slot[at..].first_chunk().expect("within the slot"))
}

fn wide(slot: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(*slot[at..].first_chunk().expect("within the slot"))
}

/// Puts a case into a slot. `avx`: the host has YMM registers.
pub fn fill(slot: &mut [u8], bits: Bits, code: &[u8], s: &State, avx: bool) {
    assert!(code.len() < CODE_LEN, "{} bytes of code are too many", code.len());
    put(slot, CODE, code);
    slot[CODE + code.len()..CODE + CODE_LEN].fill(0xcc);
    put(slot, MEMORY, &s.data);
    put(slot, MEMORY + DATA_LEN, &s.stack);
    let x = &mut slot[EXTENDED..EXTENDED + EXTENDED_LEN];
    x.fill(0);
    put(x, 0, &s.fp.cw.to_le_bytes());
    put(x, 2, &s.fp.sw.to_le_bytes());
    x[4] = s.fp.tag;
    put(x, 24, &s.mxcsr.to_le_bytes());
    for n in 0..8 {
        put(x, 32 + 16 * n, &s.fp.st[n]);
    }
    for n in 0..16 {
        put(x, 160 + 16 * n, &s.xmm[n].to_le_bytes());
        put(x, HIGH + 16 * n, &s.high[n].to_le_bytes());
    }
    x[HEADER] = if avx { 7 } else { 3 };
    let g = &s.gpr;
    let order = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 3, 2, 1, 0];
    let cs = if bits == Bits::Long { USER64 } else { USER32 };
    let frame = [s.rip, cs, s.rflags, g[4], USER_DATA];
    for (n, v) in order.iter().map(|n| g[*n]).chain(frame).enumerate() {
        put(slot, REGISTERS + 8 * n, &v.to_le_bytes());
    }
    put(slot, BASES, &s.fs_base.to_le_bytes());
    put(slot, BASES + 8, &s.gs_base.to_le_bytes());
    let data = if bits == Bits::Long { 0 } else { USER_DATA as u32 };
    for (n, v) in [data, data, 0, 0].into_iter().enumerate() {
        put(slot, SELECTORS + 4 * n, &v.to_le_bytes());
    }
}

/// What became of the case. `before` has what this host has no registers for.
pub fn outcome(slot: &[u8], bits: Bits, before: &State) -> After {
    let r: [u64; 23] = std::array::from_fn(|n| word(slot, AFTER + 8 * n));
    let x = &slot[EXTENDED_AFTER..EXTENDED_AFTER + EXTENDED_LEN];
    let in_use = word(x, HEADER);
    let half = |at: usize, component: u64| if in_use >> component & 1 != 0 { wide(x, at) } else { 0 };
    let high = |n| if x[HEADER] & 4 == 0 && !has_avx() { before.high[n] } else { half(HIGH + 16 * n, 2) };
    let long = bits == Bits::Long;
    let fp = if in_use & 1 == 0 {
        Fp { cw: 0x37f, sw: 0, tag: 0, st: [[0; 10]; 8] }
    } else {
        Fp {
            cw: u16::from_le_bytes([x[0], x[1]]),
            sw: u16::from_le_bytes([x[2], x[3]]),
            tag: x[4],
            st: std::array::from_fn(|n| *x[32 + 16 * n..].first_chunk().expect("within the image")),
        }
    };
    let selectors: [u16; 4] = std::array::from_fn(|n| word(slot, SELECTORS_AFTER + 4 * n) as u16);
    let state = State {
        gpr: [
            r[13], r[14], r[12], r[11], r[15], r[10], r[9], r[8], r[0], r[1], r[2], r[3], r[4], r[5], r[6],
            r[7],
        ],
        rip: r[16],
        rflags: r[17],
        fs_base: if long { word(slot, BASES_AFTER) } else { 0 },
        gs_base: if long { word(slot, BASES_AFTER + 8) } else { 0 },
        xmm: std::array::from_fn(|n| half(160 + 16 * n, 1)),
        high: std::array::from_fn(high),
        mxcsr: u32::from_le_bytes([x[24], x[25], x[26], x[27]]),
        fp,
        data: slot[MEMORY_AFTER..MEMORY_AFTER + DATA_LEN].to_vec(),
        stack: slot[MEMORY_AFTER + DATA_LEN..MEMORY_AFTER + DATA_LEN + STACK_LEN].to_vec(),
    };
    let (error, vector) = (r[19], r[20] as u8);
    let address = word(slot, ADDRESS);
    let code = match vector {
        // The kernel hides from programs whether its own pages are there.
        14 if address >= KERNEL_HALF => None,
        // Our 32-bit kernel has no NX: the bit for fetches stays clear (SDM vol. 3, 4.7).
        14 if bits == Bits::Flat32 => Some(error as u32 & !0x10),
        8 | 10..=14 | 17 => Some(error as u32),
        _ => None,
    };
    let [es, ds, fs, gs] = selectors;
    // `struct sigcontext` has CS, GS, FS and SS in one word; the middle two are not filled in.
    // The way to the handler has made all null selectors 0.
    let selectors = Some([es, r[18] as u16, (r[18] >> 48) as u16, ds, fs, gs]);
    let cr2 = (vector == 14).then_some(address);
    After { state, end: End { vector, code, cr2, icount: 0, selectors }, report: None }
}

fn has_avx() -> bool {
    std::arch::is_x86_feature_detected!("avx")
}
