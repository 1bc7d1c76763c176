//! x87 instructions in every state of the unit, and what FNSTENV, FNSAVE and FXSAVE show after them.
//!
//! A case is one instruction under a random control word (each rounding, precision and mask), with flags set already,
//! stacks from empty to full, exceptions pending, and then one of the instructions that store the unit's state. All
//! tiers and the host's processor must agree on registers and on the image in memory: control, status and tag words,
//! opcode and pointers. `results` of transcendental instructions may differ from the host's in the last place.

use std::collections::BTreeSet;

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Mnemonic as M, Register};
use tests::harness::check::between_tiers;
use tests::harness::generate::{self, X87};
use tests::harness::guest::{self, Bits};
use tests::harness::host;
use tests::harness::layout::{CODE, DATA};
use tests::harness::random::Rng;
use tests::harness::state::{After, Compare, Fp, State, VISIBLE, differences};
use tests::harness::undefined;

use super::setting;

/// Where the state is stored, and where images to load from lie.
const IMAGE: usize = 0x3c00;

/// ES and B of the status word.
const ES: u16 = 0x8080;

/// A control word, status word, tags and registers of all kinds.
fn unit(rng: &mut Rng) -> Fp {
    let masks = match rng.below(3) {
        0 => 0x3f,
        1 => rng.draw() as u16 & 0x3f,
        _ => !(1 << rng.below(6)) & 0x3f,
    };
    let cw = 0x40 | masks | (rng.below(4) as u16) << 8 | (rng.below(4) as u16) << 10;
    let top = rng.below(8) as u16;
    let flags = if rng.one_in(3) { rng.draw() as u16 & 0x7f } else { 0 };
    // Mostly nothing pending.
    let flags = if rng.one_in(4) { flags } else { flags & (masks | 0x40) };
    let pending = if flags & !cw & 0x3f != 0 { ES } else { 0 };
    let tag = match rng.below(8) {
        0 => 0xff,
        1 => 0,
        2 => rng.draw() as u8,
        3 => !(1u8 << ((top + 7) & 7)),
        _ => 0x0fu8.rotate_left(top.into()),
    };
    Fp {
        cw,
        sw: top << 11 | rng.draw() as u16 & 0x4700 | flags | pending,
        tag,
        st: std::array::from_fn(|_| extended(rng)),
    }
}

/// Registers: the harness's kinds, and the edges of what rounding, denormals and scaling make of them.
fn extended(rng: &mut Rng) -> [u8; 10] {
    const EXPONENTS: [u16; 20] = [
        0, 0, 1, 2, 0x3f81, 0x3f6a, 0x3c01, 0x3bcd, 0x3ffe, 0x3fff, 0x4000, 0x400e, 0x401e, 0x403a, 0x403e,
        0x407e, 0x43fe, 0x5fff, 0x7ffe, 0x7fff,
    ];
    const MANTISSAS: [u64; 12] = [
        0,
        1,
        1 << 63,
        1 << 63 | 1,
        !0,
        !0 >> 1,
        3 << 62,
        0xa000_0000_0000_0000,
        0xffff_ffff_ffff_fc00,
        0xffff_ff80_0000_0000,
        0x8000_0080_0000_0000,
        0x8000_0000_0000_0400,
    ];
    if rng.one_in(2) {
        return rng.extended();
    }
    let exponent = rng.pick(&EXPONENTS);
    let mut mantissa = if rng.one_in(4) { rng.draw() } else { rng.pick(&MANTISSAS) };
    if exponent != 0 && !rng.one_in(12) {
        mantissa |= 1 << 63;
    }
    let mut v = [0; 10];
    v[..8].copy_from_slice(&mantissa.to_le_bytes());
    v[8..].copy_from_slice(&(exponent | (rng.draw() as u16) << 15).to_le_bytes());
    v
}

/// The instructions that store the unit's state, by how their images are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Show {
    Environment28,
    Environment14,
    Save108,
    Save94,
    Fx,
    FxWide,
    Nothing,
}

impl Show {
    fn draw(rng: &mut Rng, bits: Bits) -> Self {
        let all = [
            Self::Environment28,
            Self::Environment28,
            Self::Environment14,
            Self::Save108,
            Self::Save94,
            Self::Fx,
            Self::Nothing,
            Self::FxWide,
        ];
        let n = if bits == Bits::Long { all.len() } else { all.len() - 1 };
        rng.pick(&all[..n])
    }

    fn code(self) -> Option<Code> {
        Some(match self {
            Self::Environment28 => Code::Fnstenv_m28byte,
            Self::Environment14 => Code::Fnstenv_m14byte,
            Self::Save108 => Code::Fnsave_m108byte,
            Self::Save94 => Code::Fnsave_m94byte,
            Self::Fx => Code::Fxsave_m512byte,
            Self::FxWide => Code::Fxsave64_m512byte,
            Self::Nothing => return None,
        })
    }
}

/// An instruction, one that stores the unit's state behind it, and the state to start from.
pub struct Case {
    pub insn: Instruction,
    show: Show,
    pub code: Vec<u8>,
    /// Length of the first instruction.
    first: usize,
    pub state: State,
}

impl Case {
    /// Where in the data the image's status word lies, if there is an image; `None` for FXSAVE's images.
    pub fn status(&self) -> Option<Option<usize>> {
        match self.show {
            Show::Environment28 | Show::Save108 => Some(Some(IMAGE + 4)),
            Show::Environment14 | Show::Save94 => Some(Some(IMAGE + 2)),
            Show::Nothing => Some(None),
            Show::Fx | Show::FxWide => None,
        }
    }
}

/// FXSAVE: what it stores of pointers differs between makers.
pub fn saves_extended(x: &Instruction) -> bool {
    x.mnemonic() == M::Fxsave
}

fn at_image(bits: Bits) -> MemoryOperand {
    MemoryOperand::with_displ(DATA + IMAGE as u64, bits.number() / 8)
}

/// Instructions that load or store the unit's state; the harness's generator leaves them out.
const STATE: [Code; 13] = [
    Code::Fnstenv_m14byte,
    Code::Fnstenv_m28byte,
    Code::Fldenv_m14byte,
    Code::Fldenv_m28byte,
    Code::Fnsave_m94byte,
    Code::Fnsave_m108byte,
    Code::Frstor_m94byte,
    Code::Frstor_m108byte,
    Code::Fxsave_m512byte,
    Code::Fxrstor_m512byte,
    Code::Emms,
    Code::Movd_mm_rm32,
    Code::Wait,
];

/// All x87 instructions, and those that load and store its state.
pub fn codes(bits: Bits) -> Vec<Code> {
    let mut codes =
        generate::codes(&[X87, &[iced_x86::CpuidFeature::CMOV, iced_x86::CpuidFeature::SSE3]], bits);
    codes.retain(|c| format!("{:?}", c.mnemonic()).starts_with('F'));
    codes.extend(STATE);
    codes
}

fn encode(x: &Instruction, bits: Bits, at: u64) -> Option<Vec<u8>> {
    let mut e = Encoder::new(bits.number());
    e.encode(x, at).ok()?;
    Some(e.take_buffer())
}

/// A random instruction of `code` in a random state of the unit.
pub fn case(rng: &mut Rng, code: Code, bits: Bits) -> Option<Case> {
    let mut state;
    let insn;
    if STATE.contains(&code) && code.op_code().op_count() > 0 {
        state = generate::state(rng, bits);
        let mut x = Instruction::new();
        x.set_code(code);
        let memory = if code == Code::Movd_mm_rm32 { 1 } else { 0 };
        if memory == 1 {
            x.set_op0_kind(iced_x86::OpKind::Register);
            x.set_op0_register(Register::MM0 + rng.below(8) as u32);
        }
        x.set_op_kind(memory, iced_x86::OpKind::Memory);
        x.set_memory_displ_size(bits.number() / 8);
        x.set_memory_displacement64(DATA + IMAGE as u64 - 0x200);
        insn = x;
        let image = &mut state.data[IMAGE - 0x200..IMAGE];
        image.fill_with(|| rng.draw() as u8);
        // An environment that means something: control, status, tags.
        let f = unit(rng);
        let wide = matches!(code, Code::Fldenv_m28byte | Code::Frstor_m108byte);
        let step = if wide { 4 } else { 2 };
        image[..2].copy_from_slice(&(f.cw ^ if rng.one_in(4) { 0x40 } else { 0 }).to_le_bytes());
        image[step..step + 2].copy_from_slice(&f.sw.to_le_bytes());
        if rng.one_in(2) {
            image[1] = rng.draw() as u8;
        }
        if code == Code::Fxrstor_m512byte {
            image[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
            for (n, v) in f.st.iter().enumerate() {
                image[32 + 16 * n..42 + 16 * n].copy_from_slice(v);
            }
        }
    } else {
        let c = generate::case(rng, code, bits)?;
        (insn, state) = (c.insn, c.state);
    }
    state.fp = unit(rng);
    state.mxcsr = 0x1f80;
    // Alignment checks have tests of their own.
    state.rflags &= !(1 << 18);
    let mut bytes = encode(&insn, bits, CODE)?;
    let first = bytes.len();
    let insn = tests::harness::check::decode(&bytes, bits, CODE).into_iter().next()?;
    let show = Show::draw(rng, bits);
    if let Some(code) = show.code() {
        let x = Instruction::with1(code, at_image(bits)).ok()?;
        bytes.extend(encode(&x, bits, CODE + first as u64)?);
    }
    Some(Case { insn, show, code: bytes, first, state })
}

/// The fields of a stored image, by name.
fn fields(show: Show, image: &[u8]) -> Vec<(&'static str, u64)> {
    let word = |at: usize| u64::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let dword = |at: usize| word(at) | word(at + 2) << 16;
    let qword = |at: usize| dword(at) | dword(at + 4) << 32;
    match show {
        Show::Environment28 | Show::Save108 => vec![
            ("control word", dword(0)),
            ("status word", dword(4)),
            ("tag word", dword(8)),
            ("FIP", dword(12)),
            ("FCS", word(16)),
            ("FOP", word(18)),
            ("FDP", dword(20)),
            ("FDS", word(24)),
            ("upper half of FDS", word(26)),
        ],
        Show::Environment14 | Show::Save94 => vec![
            ("control word", word(0)),
            ("status word", word(2)),
            ("tag word", word(4)),
            ("FIP", word(6)),
            ("FCS", word(8)),
            ("FDP", word(10)),
            ("FDS", word(12)),
        ],
        Show::Fx => vec![
            ("control word", word(0)),
            ("status word", word(2)),
            ("tag word", word(4)),
            ("FOP", word(6)),
            ("FIP", dword(8)),
            ("FCS", word(12)),
            ("FDP", dword(16)),
            ("FDS", word(20)),
        ],
        Show::FxWide => vec![
            ("control word", word(0)),
            ("status word", word(2)),
            ("tag word", word(4)),
            ("FOP", word(6)),
            ("FIP", qword(8)),
            ("FDP", qword(16)),
        ],
        Show::Nothing => vec![],
    }
}

/// Is the last place of the results the processor's affair?
fn transcendental(m: M) -> bool {
    matches!(m, M::F2xm1 | M::Fyl2x | M::Fyl2xp1 | M::Fsin | M::Fcos | M::Fsincos | M::Fptan | M::Fpatan)
}

fn ten(b: &[u8]) -> [u8; 10] {
    b.try_into().expect("ten bytes")
}

/// Units in the last place between two registers.
fn distance(a: [u8; 10], b: [u8; 10]) -> u128 {
    let parts = |v: [u8; 10]| {
        (u16::from_le_bytes([v[8], v[9]]), u64::from_le_bytes(v[..8].try_into().expect("eight")))
    };
    let key = |(e, m): (u16, u64)| (u128::from((e & 0x7fff).max(1)) << 63) + u128::from(m);
    let (x, y) = (parts(a), parts(b));
    if a == b {
        0
    } else if x.0 >> 15 != y.0 >> 15 || x.0 & 0x7fff == 0x7fff || y.0 & 0x7fff == 0x7fff {
        u128::MAX
    } else {
        key(x).abs_diff(key(y))
    }
}

/// What differs between ours and the host's.
fn against_host(case: &Case, ours: &After, host: &After) -> Vec<String> {
    let m = case.insn.mnemonic();
    let stores = matches!(m, M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp | M::Fbstp);
    if stores && matches!(ours.end.vector, 13 | 14 | 17) && host.end.vector == 3 {
        // A store that an unmasked exception suppresses: some processors look for faults all the same.
        return Vec::new();
    }
    let (mut ours, mut host) = (ours.clone(), host.clone());
    // Whether a page is there depends on the kernel.
    host.end.code = ours.end.code;
    let sw = undefined::status(&[case.insn]) & if transcendental(m) { !0x200 } else { !0 };
    // Fields that are named, not bytes.
    let (a, b) = (fields(case.show, &ours.state.data[IMAGE..]), fields(case.show, &host.state.data[IMAGE..]));
    let mut out = Vec::new();
    // AMD's FXSAVE stores pointers only while an exception is pending, and zeros otherwise. Newer processors of Intel's do
    // not note data pointers and opcodes without one, nor selectors ever (SDM vol. 1, 8.1.8).
    let status =
        host.state.data[IMAGE + if matches!(case.show, Show::Environment28 | Show::Save108) { 4 } else { 2 }];
    let silent = matches!(case.show, Show::Fx | Show::FxWide)
        && status & 0x80 == 0
        && host.state.data[IMAGE + 6..IMAGE + 24].iter().all(|b| *b == 0);
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        let unnoted = match *name {
            "FCS" | "FDS" => *y == 0,
            "FDP" | "FOP" => *y == 0 && status & 0x80 == 0,
            _ => false,
        };
        if unnoted || silent && name.starts_with('F') {
            continue;
        }
        let mask = match *name {
            "status word" => u64::from(sw) | 0xffff_0000,
            _ => !0,
        };
        if x & mask != y & mask {
            out.push(format!("{name}: {x:#x} / {y:#x}"));
        }
    }
    let header = match case.show {
        Show::Environment28 | Show::Save108 => 28,
        Show::Environment14 | Show::Save94 => 14,
        Show::Fx | Show::FxWide => 24,
        Show::Nothing => 0,
    };
    let (x, y) = (&mut ours.state.data, &host.state.data);
    x[IMAGE..IMAGE + header].copy_from_slice(&y[IMAGE..IMAGE + header]);
    if transcendental(m) {
        let (first, step) = match case.show {
            Show::Save108 | Show::Save94 => (header, 10),
            _ => (32, 16),
        };
        let stored = !matches!(case.show, Show::Nothing | Show::Environment14 | Show::Environment28);
        for n in 0..8 {
            let at = IMAGE + first + step * n;
            if stored {
                let (x, y) = (&mut ours.state.data[at..at + 10], &host.state.data[at..at + 10]);
                if distance(ten(x), ten(y)) <= 2 {
                    x.copy_from_slice(y);
                }
            }
            // FNSAVE has made TOP zero: any register can be one of the results.
            let (x, y) = (&mut ours.state.fp.st[n], host.state.fp.st[n]);
            if distance(*x, y) <= 2 {
                *x = y;
            }
        }
    }
    for (at, saved) in [
        (IMAGE, matches!(case.show, Show::Fx | Show::FxWide)),
        (IMAGE - 0x200, case.insn.code() == Code::Fxsave_m512byte),
    ] {
        if saved {
            // MXCSR_MASK.
            let range = at + 28..at + 32;
            host.state.data[range.clone()].copy_from_slice(&ours.state.data[range]);
        }
    }
    let flags = VISIBLE & !undefined::flags(&case.insn, &case.state);
    out.extend(differences(&ours, &host, Compare { flags, sw, ..Compare::HOST }));
    out
}

fn describe(case: &Case, seed: u64, wrong: &[String]) -> String {
    let f = &case.state.fp;
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let st: Vec<_> = f.st[..3].iter().map(|v| hex(&v.iter().rev().copied().collect::<Vec<_>>())).collect();
    format!(
        "{} ({:?}, {}), then {:?}; RETRO_CASE={seed:#x}\n  cw {:04x} sw {:04x} tag {:02x} st {}\n  {}",
        case.insn,
        case.insn.code(),
        hex(&case.code[..case.first]),
        case.show,
        f.cw,
        f.sw,
        f.tag,
        st.join(" "),
        wrong.join("\n  ")
    )
}

fn campaign(bits: Bits, cases: u64) {
    let base = setting("RETRO_SEED").unwrap_or(1);
    let cases = setting("RETRO_CASES").unwrap_or(super::cases(cases));
    let only = std::env::var("RETRO_ONLY").unwrap_or_default();
    let (mut failures, mut ran) = (Vec::new(), 0u64);
    let mut seen = BTreeSet::new();
    for code in codes(bits) {
        if !format!("{code:?}").contains(&only) {
            continue;
        }
        let mut failed = 0;
        for n in 0..cases {
            let seed = setting("RETRO_CASE")
                .unwrap_or_else(|| Rng(base.wrapping_mul(0x1_0000_0001) ^ (code as u64) << 40 ^ n).draw());
            let Some(case) = case(&mut Rng(seed), code, bits) else { continue };
            ran += 1;
            let tiers = guest::run_all(bits, 3, &case.code, &case.state);
            let mut wrong = between_tiers(&tiers);
            if let Some(after) = host::run(bits, &case.code, &[case.insn], &case.state) {
                seen.insert((case.state.fp.cw, case.show));
                wrong.extend(
                    against_host(&case, &tiers[0], &after).into_iter().map(|d| format!("tier 0 / host: {d}")),
                );
            }
            if !wrong.is_empty() {
                failures.push(describe(&case, seed, &wrong));
                failed += 1;
                if failed >= setting("RETRO_SHOW").unwrap_or(1) {
                    break;
                }
            }
        }
    }
    let words: BTreeSet<u16> = seen.iter().map(|(cw, _)| *cw).collect();
    println!("{ran} cases, {} on the host's CPU, {} of 1024 control words", host::tally().0, words.len());
    assert!(
        failures.is_empty(),
        "{} fail ({bits:?})\n{}",
        failures.len(),
        failures[..failures.len().min(200)].join("\n")
    );
}

#[test]
fn every_state_of_the_unit() {
    campaign(Bits::Long, 60);
}

#[test]
fn every_state_of_the_unit_in_32_bit_code() {
    campaign(Bits::Flat32, 20);
}
