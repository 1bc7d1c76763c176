//! Random instructions with random operands, and states to execute them in.
//!
//! Every encodable form of an iced-x86 `Code` can come: registers of all kinds, memory by all addressing forms, aimed
//! mostly at data, sometimes across a page, at the read-only page, at nothing, at a non-canonical address; some with
//! prefixes that they do not need. What programs may not do comes too: that it faults, and how.

mod codes;
mod images;
mod operands;
mod prepare;
mod program;

use std::cell::RefCell;
use std::collections::BTreeMap;

use iced_x86::{Code, Encoder, Instruction, Mnemonic as M, OpKind};

use super::guest::Bits;
use super::layout::{CODE, DATA_LEN, STACK, STACK_LEN};
use super::random::Rng;
use super::state::{ARITH, State};

pub use codes::{ALL, AVX, INTEGER, STATE, SYSTEM, VECTOR, X87, codes, program_codes};
pub use operands::instruction;
pub use prepare::address;
pub use program::{Program, program, program_state};

/// A random program of one instruction, ready to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The instruction.
    pub insn: Instruction,
    /// Its bytes.
    pub code: Vec<u8>,
    /// Registers and memory before.
    pub state: State,
}

/// A state with random registers: general registers from the edges of all widths, vectors of all kinds, x87 stacks of
/// all depths, mostly default control words.
pub fn state(rng: &mut Rng, bits: Bits) -> State {
    let mut s = State::with_memory(Vec::new(), Vec::new());
    let long = bits == Bits::Long;
    for (n, g) in s.gpr.iter_mut().enumerate() {
        let v = rng.integer();
        *g = if long {
            v
        } else if n < 8 {
            v & 0xffff_ffff
        } else {
            0
        };
    }
    s.gpr[4] = STACK + 0x1000 + rng.below(0x200) * 8;
    s.rflags = 0x202 | rng.draw() & ARITH | if rng.one_in(8) { 1 << 10 } else { 0 };
    if !long {
        (s.fs_base, s.gs_base) = (0, 0);
    }
    let vectors = if long { 16 } else { 8 };
    s.xmm = [0; 16];
    for x in &mut s.xmm[..vectors] {
        *x = rng.vector();
    }
    // From a sequence of their own: the others' was there first, and stored seeds rely on it.
    let mut other = Rng(rng.0 ^ 0x5945_4d4d);
    s.high = [0; 16];
    for x in &mut s.high[..vectors] {
        *x = other.vector();
    }
    let control = match rng.below(8) {
        0..4 => 0,
        4 => (rng.below(4) as u32) << 13,
        5 => 0x8000,
        6 => 0x40,
        _ => rng.draw() as u32 & 0xe040,
    };
    let masks = if rng.one_in(12) { rng.draw() as u32 & 0x1f80 } else { 0x1f80 };
    let sticky = if rng.one_in(2) { 0x20 } else { rng.below(64) as u32 };
    s.mxcsr = control | masks | sticky;
    x87(rng, &mut s);
    if rng.one_in(24) {
        // Alignment checks.
        s.rflags |= 1 << 18;
    }
    let image = rng.below(IMAGES);
    NOISE.with_borrow_mut(|all| {
        let (data, stack) =
            all.entry(image).or_insert_with(|| (noise(image, DATA_LEN), noise(image + IMAGES, STACK_LEN)));
        (s.data, s.stack) = (data.clone(), stack.clone());
    });
    s
}

/// Contents of memory are one of a few images: making them takes longer than running most instructions.
const IMAGES: u64 = 16;

/// Contents of the data and stack windows of one image.
type Noise = (Vec<u8>, Vec<u8>);

thread_local! {
    static NOISE: RefCell<BTreeMap<u64, Noise>> = const { RefCell::new(BTreeMap::new()) };
}

fn x87(rng: &mut Rng, s: &mut State) {
    let f = &mut s.fp;
    let top = rng.below(8) as u16;
    f.cw = match rng.below(6) {
        0 => 0x340 | rng.draw() as u16 & 0xc3f,
        1 => 0x7f | (rng.below(4) as u16) << 10 | rng.pick(&[0u16, 0x200, 0x300]),
        _ => 0x37f,
    };
    f.sw = top << 11 | rng.draw() as u16 & 0x4700;
    let depth = rng.below(9) as u32;
    f.tag = ((1u32 << depth) - 1) as u8;
    f.tag = if rng.one_in(6) { rng.draw() as u8 } else { f.tag.rotate_left(top.into()) };
    for v in &mut f.st {
        *v = rng.extended();
    }
    if rng.one_in(8) {
        // Exceptions that came before; those that are unmasked wait for the next instruction (ES and B).
        f.sw |= rng.draw() as u16 & 0x7f;
        if f.sw & 0x3f & !f.cw != 0 {
            f.sw |= 0x8080;
        }
    }
}

/// Values of all kinds at all sizes.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    let mut out = vec![0; len];
    for chunk in out.chunks_exact_mut(8) {
        let v = match rng.below(6) {
            0 => rng.double(),
            1 => u64::from(rng.single()) << 32 | u64::from(rng.single()),
            2 => rng.integer(),
            3 => rng.below(256),
            _ => rng.draw(),
        };
        chunk.copy_from_slice(&v.to_le_bytes());
    }
    out
}

/// A random instruction of `code` in a random state. `None`: the operands drawn cannot be encoded.
pub fn case(rng: &mut Rng, code: Code, bits: Bits) -> Option<Case> {
    let mut operands = Rng(rng.draw());
    case_of(&mut operands, rng, code, bits)
}

/// The instruction of `code` that `operands` draws, in a state that `rng` draws: with the same operands it is the same
/// instruction, and its memory operand leads to the same place.
pub fn case_of(operands: &mut Rng, rng: &mut Rng, code: Code, bits: Bits) -> Option<Case> {
    let mut s = state(rng, bits);
    let insn = instruction(operands, code, bits, &mut s)?;
    prepare::prepare(rng, &insn, bits, &mut s);
    let mut e = Encoder::new(bits.number());
    e.encode(&insn, CODE).ok()?;
    let code = e.take_buffer();
    if operands.one_in(10)
        && let Some(case) = prefixed(operands, &code, bits, &s)
    {
        return Some(case);
    }
    // What was encoded is what will be decoded: branches and RIP-relative operands are as they came out.
    let form = insn.code();
    let insn = super::check::decode(&code, bits, CODE).into_iter().next()?;
    // An operand-size prefix that Intel's processors ignore (and AMD's do not): another instruction.
    if insn.code() != form || wraps(&insn, bits, &s) {
        return None;
    }
    Some(Case { insn, code, state: s })
}

/// The instruction with a prefix before it that it has no need of, or that makes another instruction of it.
fn prefixed(rng: &mut Rng, code: &[u8], bits: Bits, s: &State) -> Option<Case> {
    let prefix =
        rng.pick(&[0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x40, 0x41, 0x44, 0x48u8]);
    if prefix >> 4 == 4 && bits != Bits::Long || code.len() > 14 {
        return None;
    }
    let bytes = [&[prefix], code].concat();
    let insn = super::check::decode(&bytes, bits, CODE).into_iter().next()?;
    let whole = insn.len() == bytes.len() && !insn.is_invalid();
    let far = codes::is_far(insn.code()) || insn.is_ip_rel_memory_operand();
    if !whole || far || !codes::is_drawn(insn.code(), ALL, bits) || wraps(&insn, bits, s) {
        return None;
    }
    // Targets of branches, counts of repetitions, counts of shifts: what was prepared was for another instruction.
    let masked = matches!(insn.mnemonic(), M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu);
    let prepared = insn.flow_control() != iced_x86::FlowControl::Next || is_string(insn.mnemonic()) || masked;
    (!prepared).then(|| Case { insn, code: bytes, state: s.clone() })
}

/// Does the memory operand reach beyond 4 GiB in 32-bit code? The manual leaves open what happens (vol. 3, 5.3).
fn wraps(x: &Instruction, bits: Bits, s: &State) -> bool {
    let at = x.virtual_address(memory_operand(x), 0, |r, _, _| {
        Some(if r.is_segment_register() { 0 } else { s.gpr[r.full_register().number()] })
    });
    bits != Bits::Long && at.is_some_and(|at| at as u32 >= 0xffff_ff00)
}

fn memory_operand(x: &Instruction) -> u32 {
    (0..x.op_count()).find(|n| x.op_kind(*n) == OpKind::Memory).unwrap_or(0)
}

/// Is it an instruction that goes through memory by RSI and RDI?
pub fn is_string(m: M) -> bool {
    matches!(
        m,
        M::Movsb
            | M::Movsw
            | M::Movsd
            | M::Movsq
            | M::Cmpsb
            | M::Cmpsw
            | M::Cmpsd
            | M::Cmpsq
            | M::Stosb
            | M::Stosw
            | M::Stosd
            | M::Stosq
            | M::Lodsb
            | M::Lodsw
            | M::Lodsd
            | M::Lodsq
            | M::Scasb
            | M::Scasw
            | M::Scasd
            | M::Scasq
    )
}
