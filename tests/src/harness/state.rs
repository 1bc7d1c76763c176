//! What a program can see of a processor, before and after.

use super::layout::{CODE, DATA, DATA_LEN, STACK, STACK_LEN, STACK_TOP};

/// The x87 registers as FXSAVE shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fp {
    /// Control word.
    pub cw: u16,
    /// Status word.
    pub sw: u16,
    /// Abridged tag word: bit n set, physical register n is in use.
    pub tag: u8,
    /// ST(0) to ST(7).
    pub st: [[u8; 10]; 8],
}

/// Registers and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// General registers in encoding order.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// XMM registers.
    pub xmm: [u128; 16],
    /// Upper halves of the YMM registers.
    pub high: [u128; 16],
    /// SSE control and status.
    pub mxcsr: u32,
    /// x87.
    pub fp: Fp,
    /// The memory at `DATA`.
    pub data: Vec<u8>,
    /// The memory at `STACK`.
    pub stack: Vec<u8>,
}

impl Default for State {
    fn default() -> Self {
        let pattern =
            |len: usize, seed: usize| (0..len).map(|k| (k * 7 + (k >> 8) * 3 + seed) as u8).collect();
        Self::with_memory(pattern(DATA_LEN, 1), pattern(STACK_LEN, 0x80))
    }
}

impl State {
    /// Registers with a pattern, and this memory.
    pub fn with_memory(data: Vec<u8>, stack: Vec<u8>) -> Self {
        let mut gpr: [u64; 16] = std::array::from_fn(|n| 0x0101_0101_0101_0101 * (n as u64 + 1));
        gpr[4] = STACK_TOP;
        Self {
            gpr,
            rip: CODE,
            rflags: 0x202,
            fs_base: DATA + 0x800,
            gs_base: DATA + 0xc00,
            xmm: std::array::from_fn(|n| 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10 * (n as u128 + 1)),
            high: std::array::from_fn(|n| 0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20 * (n as u128 % 14 + 1)),
            mxcsr: 0x1f80,
            fp: Fp { cw: 0x37f, sw: 0, tag: 0, st: [[0; 10]; 8] },
            data,
            stack,
        }
    }

    /// The bytes at linear addresses of data or stack.
    pub fn memory(&mut self, at: u64, len: usize) -> &mut [u8] {
        let (bytes, from) =
            if at >= STACK { (&mut self.stack, at - STACK) } else { (&mut self.data, at.wrapping_sub(DATA)) };
        let from = from as usize;
        assert!(from < bytes.len() && from + len <= bytes.len(), "{at:#x} is neither data nor stack");
        &mut bytes[from..from + len]
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exception that ended it. A program that came to its end raises #BP.
    pub vector: u8,
    /// The error code, where it is known.
    pub code: Option<u32>,
    /// The address of a page fault.
    pub cr2: Option<u64>,
    /// Retired instructions (0: not known).
    pub icount: u64,
    /// Selectors in encoding order, where they are known.
    pub selectors: Option<[u16; 6]>,
}

/// [`End::vector`] of a triple fault.
pub const SHUTDOWN: u8 = 0xfe;
/// [`End::vector`] of a program that did not end.
pub const ENDLESS: u8 = 0xff;
/// [`End::vector`] of an instruction that Retrograde does not implement.
pub const REPORT: u8 = 0xfd;

/// A state and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// What is left.
    pub state: State,
    /// How it ended.
    pub end: End,
    /// What the engine reported.
    pub report: Option<String>,
}

/// CF, PF, AF, ZF, SF, OF.
pub const ARITH: u64 = 0x8d5;
/// Flags that programs see and that the two sides share: the arithmetic ones, DF, NT, AC, ID.
pub const VISIBLE: u64 = ARITH | 1 << 10 | 1 << 14 | 1 << 18 | 1 << 21;

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Compare {
    /// Flags that count.
    pub flags: u64,
    /// x87 status bits that count.
    pub sw: u16,
    /// The x87 data registers count.
    pub st: bool,
    /// Retired instructions count (two of our tiers).
    pub exact: bool,
}

impl Compare {
    /// Two tiers: everything.
    pub const TIERS: Self = Self { flags: VISIBLE, sw: !0, st: true, exact: true };
    /// Ours and the host: all but what only the kernel sees.
    pub const HOST: Self = Self { flags: VISIBLE, sw: !0, st: true, exact: false };
}

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// Names of the set flags.
pub fn flag_names(f: u64) -> String {
    let named = [
        (0, "CF"),
        (2, "PF"),
        (4, "AF"),
        (6, "ZF"),
        (7, "SF"),
        (10, "DF"),
        (11, "OF"),
        (14, "NT"),
        (18, "AC"),
        (21, "ID"),
    ];
    named.iter().filter(|(b, _)| f >> b & 1 != 0).map(|(_, n)| *n).collect::<Vec<_>>().join("|")
}

fn hex(b: &[u8]) -> String {
    b.iter().rev().map(|b| format!("{b:02x}")).collect()
}

/// Runs of bytes that differ, as text.
fn memory(out: &mut Vec<String>, base: u64, a: &[u8], b: &[u8]) {
    if a == b {
        return;
    }
    let mut k = 0;
    let mut runs = 0;
    while k < a.len() && runs < 8 {
        if a[k] == b[k] {
            k += 1;
            continue;
        }
        let mut end = k + 1;
        while end < a.len() && end < k + 16 && a[end] != b[end] {
            end += 1;
        }
        out.push(format!(
            "[{:#x}] (lowest byte last): {} / {}",
            base + k as u64,
            hex(&a[k..end]),
            hex(&b[k..end])
        ));
        (k, runs) = (end, runs + 1);
    }
}

/// What differs, one line each; `a / b`.
pub fn differences(a: &After, b: &After, how: Compare) -> Vec<String> {
    let mut out = Vec::new();
    let mut put = |name: &str, x: u128, y: u128| {
        if x != y {
            out.push(format!("{name}: {x:#x} / {y:#x}"));
        }
    };
    let (s, t) = (&a.state, &b.state);
    put("vector", a.end.vector.into(), b.end.vector.into());
    if let (Some(x), Some(y)) = (a.end.cr2, b.end.cr2) {
        put("cr2", x.into(), y.into());
    }
    if let (Some(x), Some(y)) = (a.end.code, b.end.code) {
        put("error code", x.into(), y.into());
    }
    if let (Some(x), Some(y)) = (a.end.selectors, b.end.selectors) {
        for (name, (x, y)) in ["es", "cs", "ss", "ds", "fs", "gs"].iter().zip(x.into_iter().zip(y)) {
            put(name, x.into(), y.into());
        }
    }
    for (name, (x, y)) in NAMES.iter().zip(s.gpr.iter().zip(&t.gpr)) {
        put(name, (*x).into(), (*y).into());
    }
    put("rip", s.rip.into(), t.rip.into());
    put("fs_base", s.fs_base.into(), t.fs_base.into());
    put("gs_base", s.gs_base.into(), t.gs_base.into());
    for n in 0..16 {
        put(&format!("xmm{n}"), s.xmm[n], t.xmm[n]);
        put(&format!("high{n}"), s.high[n], t.high[n]);
    }
    put("mxcsr", s.mxcsr.into(), t.mxcsr.into());
    put("fcw", s.fp.cw.into(), t.fp.cw.into());
    put("fsw", (s.fp.sw & how.sw).into(), (t.fp.sw & how.sw).into());
    put("ftag", s.fp.tag.into(), t.fp.tag.into());
    if how.exact {
        put("retired", a.end.icount.into(), b.end.icount.into());
    }
    let (f, g) = (s.rflags & how.flags, t.rflags & how.flags);
    if f != g {
        out.push(format!("flags: {} / {}", flag_names(f), flag_names(g)));
    }
    if how.st {
        for n in 0..8 {
            if s.fp.st[n] != t.fp.st[n] {
                out.push(format!("st{n}: {} / {}", hex(&s.fp.st[n]), hex(&t.fp.st[n])));
            }
        }
    }
    memory(&mut out, DATA, &s.data, &t.data);
    memory(&mut out, STACK, &s.stack, &t.stack);
    if a.report != b.report {
        out.push(format!("report: {:?} / {:?}", a.report, b.report));
    }
    out
}
