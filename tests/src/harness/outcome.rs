//! What an instruction did, as one line of text: results that are stored, and replayed on hosts of any kind.
//!
//! Only what changed is written, and nothing that the architecture leaves undefined.

use std::fmt::Write;

use super::layout::{DATA, STACK};
use super::state::{After, Fp, State, VISIBLE};

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// Longest run of changed bytes that is written out; longer ones are hashed.
const LONGEST: usize = 48;

/// The line for `after`, which came from `before`; `flags` and `sw` are the bits that count.
pub fn encode(before: &State, after: &After, flags: u64, sw: u16) -> String {
    let mut t = String::new();
    let (b, a) = (before, &after.state);
    let _ = write!(t, "#{}", after.end.vector);
    if let Some(cr2) = after.end.cr2 {
        let _ = write!(t, " cr2={cr2:x}");
    }
    let _ = write!(t, " rip={:x} f={:x}", a.rip, a.rflags & flags & VISIBLE);
    for (name, (x, y)) in NAMES.iter().zip(a.gpr.iter().zip(&b.gpr)) {
        if x != y {
            let _ = write!(t, " {name}={x:x}");
        }
    }
    for (name, x, y) in [
        ("fs", b.fs_base, a.fs_base),
        ("gs", b.gs_base, a.gs_base),
        ("mxcsr", b.mxcsr.into(), a.mxcsr.into()),
    ] {
        if x != y {
            let _ = write!(t, " {name}={y:x}");
        }
    }
    for n in 0..16 {
        if a.xmm[n] != b.xmm[n] {
            let _ = write!(t, " x{n}={:x}", a.xmm[n]);
        }
        if a.high[n] != b.high[n] {
            let _ = write!(t, " h{n}={:x}", a.high[n]);
        }
    }
    x87(&mut t, &b.fp, &a.fp, sw);
    runs(&mut t, DATA, &b.data, &a.data);
    runs(&mut t, STACK, &b.stack, &a.stack);
    t
}

fn x87(t: &mut String, b: &Fp, a: &Fp, sw: u16) {
    for (name, x, y) in
        [("fcw", b.cw, a.cw), ("fsw", b.sw & sw, a.sw & sw), ("ftag", b.tag.into(), a.tag.into())]
    {
        if x != y {
            let _ = write!(t, " {name}={y:x}");
        }
    }
    // Physical registers: a push changes one of them.
    let at = |f: &Fp, n: u16| f.st[(n.wrapping_sub(f.sw >> 11) & 7) as usize];
    for n in 0..8 {
        if at(a, n) != at(b, n) {
            let _ = write!(t, " r{n}={}", hex(&at(a, n)));
        }
    }
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|b| format!("{b:02x}")).collect()
}

fn runs(t: &mut String, base: u64, b: &[u8], a: &[u8]) {
    let mut k = 0;
    while k < a.len() {
        if a[k] == b[k] {
            k += 1;
            continue;
        }
        // A run goes on over up to 15 bytes that happen to be equal.
        let mut end = k + 1;
        let mut same = 0;
        for n in k + 1..a.len() {
            same = if a[n] == b[n] { same + 1 } else { 0 };
            if same > 15 {
                break;
            }
            if same == 0 {
                end = n + 1;
            }
        }
        let _ = write!(t, " [{:x}]=", base + k as u64);
        let bytes = &a[k..end];
        if bytes.len() > LONGEST {
            let hash = bytes
                .iter()
                .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
            let _ = write!(t, "{}:{hash:x}", bytes.len());
        } else {
            t.push_str(&hex(bytes));
        }
        k = end;
    }
}
