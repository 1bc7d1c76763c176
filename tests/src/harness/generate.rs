//! Random instructions with random operands, and states to execute them in.
//!
//! Every encodable form of an iced-x86 `Code` can come: registers of all kinds, memory by all addressing forms, aimed
//! mostly at data, sometimes across a page, at the read-only page, at nothing, at a non-canonical address.

use std::cell::RefCell;
use std::collections::BTreeMap;

use iced_x86::{
    Code, CpuidFeature as F, Encoder, FlowControl, Instruction, Mnemonic as M, OpCodeInfo,
    OpCodeOperandKind as K, OpKind, Register,
};

use super::guest::Bits;
use super::layout::{CODE, DATA, READ_ONLY, STACK};
use super::random::Rng;
use super::state::{ARITH, State};

/// The extensions that the tests cover: those that our processor reports to programs.
pub const INTEGER: &[F] = &[
    F::INTEL8086,
    F::INTEL186,
    F::INTEL286,
    F::INTEL386,
    F::INTEL486,
    F::X64,
    F::ADX,
    F::BMI1,
    F::BMI2,
    F::CMOV,
    F::CX8,
    F::CLFSH,
    F::CLFLUSHOPT,
    F::CLWB,
    F::CMPXCHG16B,
    F::FSGSBASE,
    F::LZCNT,
    F::MOVBE,
    F::MULTIBYTENOP,
    F::PAUSE,
    F::POPCNT,
];
/// SSE and its kin, MMX.
pub const VECTOR: &[F] =
    &[F::MMX, F::SSE, F::SSE2, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2, F::AES, F::PCLMULQDQ, F::SHA];
/// What is VEX-encoded, and what has forms of both kinds.
pub const AVX: &[F] = &[F::AVX, F::AVX2, F::FMA, F::F16C, F::AES, F::PCLMULQDQ];
/// x87.
pub const X87: &[F] = &[F::FPU, F::FPU287, F::FPU387];

/// Everything that random tests draw from.
pub const ALL: &[&[F]] = &[INTEGER, VECTOR, AVX, X87];

/// Not for random tests: they depend on more than registers and data, or change more.
const EXCLUDED: &[M] = &[
    M::INVALID,
    // Descriptors, which differ between kernels.
    M::Lar,
    M::Lsl,
    M::Verr,
    M::Verw,
    M::Sldt,
    M::Str,
    M::Smsw,
    M::Sgdt,
    M::Sidt,
    M::Lds,
    M::Les,
    M::Lss,
    M::Lfs,
    M::Lgs,
    // System calls, debugging, machine control.
    M::Int,
    M::Int1,
    M::Int3,
    M::Into,
    M::Monitor,
    M::Mwait,
    M::In,
    M::Out,
    M::Insb,
    M::Insw,
    M::Insd,
    M::Outsb,
    M::Outsw,
    M::Outsd,
    // All of the flags, TF included; and contents that the manual leaves open.
    M::Popf,
    M::Popfd,
    M::Popfq,
    M::Umov,
    M::Loadall,
    M::Storeall,
    M::Ibts,
    M::Xbts,
    // Old forms that later processors know as something else or not at all.
    M::Jmpe,
    M::Fneni,
    M::Feni,
    M::Fndisi,
    M::Fdisi,
    M::Fnsetpm,
    M::Fsetpm,
    M::Frstpm,
    M::Fnstdw,
    M::Fstdw,
    M::Fnstsg,
    M::Fstsg,
    M::Fstpnce,
    M::Ftstp,
    M::Frint2,
    M::Frichop,
    M::Frinear,
    // Their images hold instruction pointers, which processors keep in several ways.
    M::Fnstenv,
    M::Fstenv,
    M::Fnsave,
    M::Fsave,
    M::Fldenv,
    M::Frstor,
    M::Fxsave,
    M::Fxsave64,
    M::Fxrstor,
    M::Fxrstor64,
];

/// All codes of these extensions that programs may execute in this mode.
pub fn codes(sets: &[&[F]], bits: Bits) -> Vec<Code> {
    Code::values()
        .filter(|c| {
            let op = c.op_code();
            let mode = if bits == Bits::Long { op.mode64() } else { op.mode32() };
            let flow = matches!(
                c.flow_control(),
                FlowControl::Next
                    | FlowControl::ConditionalBranch
                    | FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Call
                    | FlowControl::IndirectCall
                    | FlowControl::Return
                    | FlowControl::Exception
            );
            let name = format!("{c:?}");
            mode && flow
                && op.is_instruction()
                && !op.must_be_cpl0()
                && !op.is_privileged()
                && !c.is_privileged()
                && !EXCLUDED.contains(&c.mnemonic())
                && c.cpuid_features().iter().all(|f| sets.iter().any(|s| s.contains(f)))
                && !name.starts_with("D3NOW")
                && !name.contains("_sreg")
                && !name.contains("Sreg")
                && !name.contains("_cr")
                && !name.contains("_dr")
                && !name.contains("_tr")
                && !is_far(op)
                && !matches!(
                    c,
                    Code::Retfw
                        | Code::Retfd
                        | Code::Retfq
                        | Code::Retfw_imm16
                        | Code::Retfd_imm16
                        | Code::Retfq_imm16
                )
                && !matches!(
                    c.mnemonic(),
                    M::Iret | M::Iretd | M::Iretq | M::Syscall | M::Sysret | M::Sysenter | M::Sysexit
                )
                && !moves_segment(op)
        })
        .collect()
}

fn is_far(op: &OpCodeInfo) -> bool {
    op.op_kinds().iter().any(|k| matches!(k, K::farbr2_2 | K::farbr4_2))
        || matches!(op.code().flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
            && op.op_kinds().contains(&K::mem)
}

fn moves_segment(op: &OpCodeInfo) -> bool {
    op.op_kinds().iter().any(|k| matches!(k, K::seg_reg | K::es | K::cs | K::ss | K::ds | K::fs | K::gs))
}

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
    let mut s = State::default();
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
    let image = rng.below(IMAGES);
    NOISE.with_borrow_mut(|all| {
        let (data, stack) = all
            .entry(image)
            .or_insert_with(|| (noise(image, s.data.len()), noise(image + IMAGES, s.stack.len())));
        s.data.copy_from_slice(data);
        s.stack.copy_from_slice(stack);
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
    let mut s = state(rng, bits);
    let insn = instruction(rng, code, bits, &mut s)?;
    prepare(rng, &insn, bits, &mut s);
    let mut e = Encoder::new(bits.number());
    e.encode(&insn, CODE).ok()?;
    let code = e.take_buffer();
    // What was encoded is what will be decoded: branches and RIP-relative operands are as they came out.
    let form = insn.code();
    let insn = super::check::decode(&code, bits, CODE).into_iter().next()?;
    // An operand-size prefix that Intel's processors ignore (and AMD's do not): another instruction.
    if insn.code() != form || wraps(&insn, bits, &s) {
        return None;
    }
    Some(Case { insn, code, state: s })
}

/// Does the memory operand reach beyond 4 GiB in 32-bit code? The manual leaves open what happens (vol. 3, 5.3).
fn wraps(x: &Instruction, bits: Bits, s: &State) -> bool {
    let at = x.virtual_address(memory_operand(x), 0, |r, _, _| {
        Some(if r.is_segment_register() { 0 } else { s.gpr[r.full_register().number()] })
    });
    bits == Bits::Flat32 && at.is_some_and(|at| at as u32 >= 0xffff_ff00)
}

fn memory_operand(x: &Instruction) -> u32 {
    (0..x.op_count()).find(|n| x.op_kind(*n) == OpKind::Memory).unwrap_or(0)
}

/// A random instruction of `code`; registers of `s` are set so that its memory operand leads somewhere.
pub fn instruction(rng: &mut Rng, code: Code, bits: Bits, s: &mut State) -> Option<Instruction> {
    let op = code.op_code();
    let mut x = Instruction::new();
    x.set_code(code);
    let mut immediates = 0;
    for n in 0..op.op_count() {
        let kind = op.op_kind(n);
        if let Some(r) = register(rng, kind, bits) {
            x.set_op_kind(n, OpKind::Register);
            x.set_op_register(n, r);
            continue;
        }
        if let Some((first, width)) = vector_index(kind) {
            x.set_op_kind(n, OpKind::Memory);
            gather(rng, &mut x, first, width, bits, s);
            continue;
        }
        if is_memory(kind) {
            x.set_op_kind(n, OpKind::Memory);
            memory(rng, &mut x, op, bits, s);
            continue;
        }
        let by_bits = |w, d, q| match bits {
            Bits::Long => q,
            Bits::Flat32 => d,
            _ => w,
        };
        match kind {
            K::imm8 => {
                x.set_op_kind(n, if immediates == 0 { OpKind::Immediate8 } else { OpKind::Immediate8_2nd });
                if immediates == 0 {
                    x.set_immediate8(rng.integer() as u8);
                } else {
                    x.set_immediate8_2nd(rng.below(4) as u8);
                }
                immediates += 1;
            }
            K::imm8_const_1 => {
                x.set_op_kind(n, OpKind::Immediate8);
                x.set_immediate8(1);
            }
            K::imm8sex16 => {
                x.set_op_kind(n, OpKind::Immediate8to16);
                x.set_immediate8to16((rng.integer() as i8).into());
            }
            K::imm8sex32 => {
                x.set_op_kind(n, OpKind::Immediate8to32);
                x.set_immediate8to32((rng.integer() as i8).into());
            }
            K::imm8sex64 => {
                x.set_op_kind(n, OpKind::Immediate8to64);
                x.set_immediate8to64((rng.integer() as i8).into());
            }
            K::imm16 => {
                x.set_op_kind(n, OpKind::Immediate16);
                // ENTER and RET n move the stack pointer by it.
                let v = if matches!(code.mnemonic(), M::Enter | M::Ret) {
                    rng.below(256) as u16
                } else {
                    rng.integer() as u16
                };
                x.set_immediate16(v);
                immediates += 1;
            }
            K::imm32 => {
                x.set_op_kind(n, OpKind::Immediate32);
                x.set_immediate32(rng.integer() as u32);
            }
            K::imm32sex64 => {
                x.set_op_kind(n, OpKind::Immediate32to64);
                x.set_immediate32to64((rng.integer() as i32).into());
            }
            K::imm64 => {
                x.set_op_kind(n, OpKind::Immediate64);
                x.set_immediate64(rng.integer());
            }
            K::br16_1 | K::br16_2 | K::br32_1 | K::br32_4 | K::br64_1 | K::br64_4 => {
                let near = matches!(kind, K::br16_1 | K::br32_1 | K::br64_1);
                // Never to itself.
                let target =
                    if near { CODE + 0x10 + rng.below(0x60) } else { CODE + 0x10 + rng.below(0x2000) };
                if matches!(kind, K::br16_1 | K::br16_2) {
                    // The instruction pointer is cut to 16 bits: into nothing.
                    return None;
                }
                x.set_op_kind(n, by_bits(OpKind::NearBranch16, OpKind::NearBranch32, OpKind::NearBranch64));
                x.set_near_branch64(target);
            }
            K::seg_rSI => {
                x.set_op_kind(n, by_bits(OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI))
            }
            K::es_rDI => {
                x.set_op_kind(n, by_bits(OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI))
            }
            K::seg_rDI => {
                x.set_op_kind(n, by_bits(OpKind::MemorySegDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI))
            }
            K::seg_rBX_al => {
                x.set_op_kind(n, OpKind::Memory);
                x.set_memory_base(if bits == Bits::Long { Register::RBX } else { Register::EBX });
                x.set_memory_index(Register::AL);
            }
            K::mem_offs => {
                x.set_op_kind(n, OpKind::Memory);
                x.set_memory_displ_size(bits.number() / 8);
                x.set_memory_displacement64(target(rng, op, bits));
            }
            _ => return None,
        }
    }
    let memory_first = op.op_count() > 0 && x.op0_kind() == OpKind::Memory;
    if op.can_use_lock_prefix() && (memory_first && rng.one_in(3) || rng.one_in(100)) {
        x.set_has_lock_prefix(true);
    }
    if op.can_use_rep_prefix() && is_string(code.mnemonic()) {
        match rng.below(4) {
            0 => x.set_has_rep_prefix(true),
            1 if op.can_use_repne_prefix() => x.set_has_repne_prefix(true),
            1 => x.set_has_rep_prefix(true),
            _ => {}
        }
    }
    Some(x)
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

fn gpr(rng: &mut Rng, size: u32, bits: Bits) -> Register {
    let n = rng.below(if bits == Bits::Long { 16 } else { 8 }) as u32;
    match size {
        1 if bits != Bits::Long => Register::AL + n,
        // AL..BL, then AH..BH, then SPL..R15L.
        1 if n < 4 => {
            if rng.one_in(3) {
                Register::AH + n
            } else {
                Register::AL + n
            }
        }
        1 => Register::SPL + (n - 4),
        2 => Register::AX + n,
        4 => Register::EAX + n,
        _ => Register::RAX + n,
    }
}

fn register(rng: &mut Rng, kind: K, bits: Bits) -> Option<Register> {
    let mut or_memory = |size: u32| (!rng.one_in(2)).then_some(size);
    let size = match kind {
        K::r8_or_mem => or_memory(1)?,
        K::r16_or_mem => or_memory(2)?,
        K::r32_or_mem | K::r32_or_mem_mpx => or_memory(4)?,
        K::r64_or_mem | K::r64_or_mem_mpx => or_memory(8)?,
        K::r8_reg | K::r8_opcode => 1,
        K::r16_reg | K::r16_reg_mem | K::r16_rm | K::r16_opcode => 2,
        K::r32_reg | K::r32_reg_mem | K::r32_rm | K::r32_opcode | K::r32_vvvv => 4,
        K::r64_reg | K::r64_reg_mem | K::r64_rm | K::r64_opcode | K::r64_vvvv => 8,
        K::xmm_or_mem => or_memory(16)?,
        K::ymm_or_mem => or_memory(32)?,
        K::mm_or_mem => or_memory(10)?,
        K::xmm_reg | K::xmm_rm | K::xmm_vvvv | K::xmm_is4 => 16,
        K::ymm_reg | K::ymm_rm | K::ymm_vvvv | K::ymm_is4 => 32,
        K::mm_reg | K::mm_rm => 10,
        K::al => return Some(Register::AL),
        K::cl => return Some(Register::CL),
        K::ax => return Some(Register::AX),
        K::dx => return Some(Register::DX),
        K::eax => return Some(Register::EAX),
        K::rax => return Some(Register::RAX),
        K::st0 => return Some(Register::ST0),
        K::sti_opcode => return Some(Register::ST0 + rng.below(8) as u32),
        _ => return None,
    };
    Some(match size {
        16 => Register::XMM0 + rng.below(if bits == Bits::Long { 16 } else { 8 }) as u32,
        32 => Register::YMM0 + rng.below(if bits == Bits::Long { 16 } else { 8 }) as u32,
        10 => Register::MM0 + rng.below(8) as u32,
        size => gpr(rng, size, bits),
    })
}

fn is_memory(kind: K) -> bool {
    matches!(
        kind,
        K::mem
            | K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r32_or_mem_mpx
            | K::r64_or_mem
            | K::r64_or_mem_mpx
            | K::xmm_or_mem
            | K::ymm_or_mem
            | K::mm_or_mem
    )
}

/// Where a memory operand leads.
fn target(rng: &mut Rng, op: &OpCodeInfo, bits: Bits) -> u64 {
    let features = op.code().cpuid_features();
    let among = |set: &[F]| features.iter().any(|f| set.contains(f));
    let vector = among(VECTOR) || among(AVX) || op.code().mnemonic() == M::Cmpxchg16b;
    let align = if vector && !rng.one_in(10) {
        if among(AVX) { 31 } else { 15 }
    } else if rng.one_in(2) {
        7
    } else {
        0
    };
    match rng.below(40) {
        0 => DATA + 0x1000 - rng.below(17),
        1 => DATA + 0x2000 - rng.below(9),
        2 => READ_ONLY + (rng.below(0xf00) & !align),
        3 => READ_ONLY - rng.below(17),
        4 => READ_ONLY + 0x1000 - rng.below(17),
        5 => DATA - rng.below(17),
        6 => rng.integer() & if bits == Bits::Long { !0 } else { 0xffff_ffff },
        7 if bits == Bits::Long => 0x0000_8000_0000_0000 - rng.below(17),
        8 => CODE + 0x2000 + (rng.below(0x1000) & !align),
        _ => DATA + ((0x100 + rng.below(0x3c00)) & !align),
    }
}

/// The first index register and the width of the indices, where the operand is a gather's.
fn vector_index(kind: K) -> Option<(Register, usize)> {
    Some(match kind {
        K::mem_vsib32x => (Register::XMM0, 4),
        K::mem_vsib64x => (Register::XMM0, 8),
        K::mem_vsib32y => (Register::YMM0, 4),
        K::mem_vsib64y => (Register::YMM0, 8),
        _ => return None,
    })
}

/// A gather's operand: indices that mostly lead into the data, one of them sometimes elsewhere.
fn gather(rng: &mut Rng, x: &mut Instruction, first: Register, width: usize, bits: Bits, s: &mut State) {
    let long = bits == Bits::Long;
    let count = if long { 16 } else { 8 };
    let (base, index, scale) = (rng.below(count) as usize, rng.below(count) as usize, rng.below(4));
    let mut bytes = [0; 32];
    for element in bytes.chunks_exact_mut(width) {
        let v = if rng.one_in(16) { rng.integer() as i64 } else { rng.below(0x200) as i64 - 0x100 };
        element.copy_from_slice(&v.to_le_bytes()[..width]);
    }
    let half = |n: usize| u128::from_le_bytes(bytes[n..n + 16].try_into().expect("sixteen"));
    (s.xmm[index], s.high[index]) = (half(0), half(16));
    // 32-bit addresses wrap.
    let narrow = long && rng.one_in(6);
    let displacement = i64::from(rng.draw() as i8);
    let at = (DATA + 0x800 + rng.below(0x2800)).wrapping_sub(displacement as u64);
    s.gpr[base] = if narrow { at & 0xffff_ffff | rng.draw() << 32 } else { at };
    x.set_memory_base(if long && !narrow { Register::RAX } else { Register::EAX } + base as u32);
    x.set_memory_index(first + index as u32);
    x.set_memory_index_scale(1 << scale);
    x.set_memory_displacement64(displacement as u64);
    x.set_memory_displ_size(1);
}

/// A random addressing form for the memory operand of `x`.
fn memory(rng: &mut Rng, x: &mut Instruction, op: &OpCodeInfo, bits: Bits, s: &mut State) {
    let long = bits == Bits::Long;
    let at = target(rng, op, bits);
    let mut at = at;
    if long && rng.one_in(16) {
        let (r, base) = if rng.one_in(2) { (Register::FS, s.fs_base) } else { (Register::GS, s.gs_base) };
        x.set_segment_prefix(r);
        at = at.wrapping_sub(base);
    } else if rng.one_in(24) {
        x.set_segment_prefix(rng.pick(&[Register::ES, Register::CS, Register::SS, Register::DS]));
        if x.segment_prefix() == Register::CS && !long {
            // Code segments cannot be written.
            x.set_segment_prefix(Register::None);
        }
    }
    // 32-bit addresses in 64-bit mode (prefix 67h).
    let narrow = long && rng.one_in(12) && at <= 0xffff_ffff;
    let wide = long && !narrow;
    let width = if wide { 8 } else { 4 };
    match rng.below(10) {
        0 if long && !narrow => {
            // RIP-relative: from the next instruction, whose place the encoder knows.
            let near = (CODE + 0x100).wrapping_add(rng.below(0x3000));
            x.set_memory_base(Register::RIP);
            x.set_memory_displ_size(8);
            x.set_memory_displacement64(
                if (at as i64).wrapping_sub(CODE as i64).unsigned_abs() < 0x7000_0000 { at } else { near },
            );
        }
        1 if at as i64 == at as i32 as i64 || !long => {
            x.set_memory_displ_size(if wide { 8 } else { 4 });
            x.set_memory_displacement64(at);
        }
        form => {
            let count = if long { 16 } else { 8 };
            let base = rng.below(count) as usize;
            let mut index = rng.below(count) as usize;
            while index == base || index == 4 {
                index = rng.below(count) as usize;
            }
            let first = if wide { Register::RAX } else { Register::EAX };
            let displacement = match rng.below(4) {
                0 => 0,
                1 => (rng.draw() as i8).into(),
                _ => i64::from(rng.integer() as i32),
            };
            let mut rest = at.wrapping_sub(displacement as u64);
            if form >= 6 {
                let scale = rng.below(4) as u32;
                let v = if rng.one_in(2) { rng.below(64) } else { rng.integer() };
                s.gpr[index] = if long { v } else { v & 0xffff_ffff };
                rest = rest.wrapping_sub(s.gpr[index] << scale);
                x.set_memory_index(first + index as u32);
                x.set_memory_index_scale(1 << scale);
            }
            s.gpr[base] = if wide {
                rest
            } else if long && rng.one_in(2) {
                // The upper half does not count.
                rest & 0xffff_ffff | rng.draw() << 32
            } else {
                rest & 0xffff_ffff
            };
            x.set_memory_base(first + base as u32);
            x.set_memory_displacement64(displacement as u64);
            x.set_memory_displ_size(if displacement == 0 && base & 7 != 5 {
                0
            } else if displacement as i8 as i64 == displacement {
                1
            } else {
                width
            });
        }
    }
}

/// What particular instructions need besides operands.
fn prepare(rng: &mut Rng, x: &Instruction, bits: Bits, s: &mut State) {
    let long = bits == Bits::Long;
    let m = x.mnemonic();
    let in_code = |rng: &mut Rng| CODE + 0x800 + rng.below(0x2000);
    let data = |rng: &mut Rng| match rng.below(8) {
        0 => DATA + 0x4000 - rng.below(20),
        1 => DATA + 0x5000 - rng.below(20),
        2 => DATA + rng.below(20),
        _ => DATA + 0x400 + rng.below(0x3000),
    };
    match m {
        _ if is_string(m) => {
            (s.gpr[6], s.gpr[7]) = (data(rng), data(rng));
            if rng.one_in(4) {
                // Overlapping by a little.
                s.gpr[7] = s.gpr[6].wrapping_add(rng.below(20)).wrapping_sub(10);
            }
            if !rng.one_in(20) {
                s.gpr[1] = rng.pick(&[0, 1, 2, 3, 5, 8, 17, 40, 300]);
            }
            if rng.one_in(2) {
                // Runs of equal bytes, so that scans and compares go on for a while.
                s.data[0x400..0x3400].fill(rng.pick(&[0, 0xff]));
                s.gpr[0] = if s.data[0x400] == 0 { 0 } else { if long { !0 } else { 0xffff_ffff } };
            }
        }
        M::Xlatb => s.gpr[3] = data(rng),
        // Not near a page's end: whether a mask of zeros faults there is left open.
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => s.gpr[7] = DATA + 0x1800 + rng.below(0x400),
        M::Enter | M::Leave => s.gpr[5] = STACK + 0x1000 + rng.below(0x1000),
        M::Ret => {
            let at = (s.gpr[4] - STACK) as usize;
            let to = if long && rng.one_in(10) { rng.integer() } else { in_code(rng) };
            s.stack[at..at + 8].copy_from_slice(&to.to_le_bytes());
        }
        M::Jmp | M::Call
            if x.op0_kind() == OpKind::Register
            // 32-bit code can be executed anywhere in the guest, which has no NX there.
            && (!long || !rng.one_in(10)) =>
        {
            s.gpr[x.op0_register().full_register().number()] = in_code(rng);
        }
        M::Jmp | M::Call
            if x.op0_kind() == OpKind::Memory
            // All of memory is full of good targets.
            && (!long || !rng.one_in(10)) =>
        {
            let to = in_code(rng);
            let bytes = if long { 8 } else { 4 };
            for chunk in s.data.chunks_exact_mut(bytes) {
                chunk.copy_from_slice(&to.to_le_bytes()[..bytes]);
            }
        }
        M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if rng.one_in(2) => {
            // Equal: the accumulator is everywhere.
            let (a, d) = (s.gpr[0], s.gpr[2]);
            for chunk in s.data.chunks_exact_mut(16) {
                if m == M::Cmpxchg16b {
                    chunk[..8].copy_from_slice(&a.to_le_bytes());
                    chunk[8..].copy_from_slice(&d.to_le_bytes());
                } else if m == M::Cmpxchg8b {
                    let v = (d << 32 | a & 0xffff_ffff).to_le_bytes();
                    chunk[..8].copy_from_slice(&v);
                    chunk[8..].copy_from_slice(&v);
                } else {
                    chunk[..8].copy_from_slice(&a.to_le_bytes());
                    chunk[8..].copy_from_slice(&a.to_le_bytes());
                }
            }
        }
        M::Ldmxcsr | M::Vldmxcsr => {
            // Bit 17 is reserved here and means something on AMD's processors.
            let keep = if rng.one_in(4) { 0xfffd_ffffu32 } else { 0xffff };
            for chunk in s.data.chunks_exact_mut(4) {
                let v = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) & keep;
                chunk.copy_from_slice(&v.to_le_bytes());
            }
        }
        M::Shld | M::Shrd | M::Shl | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr
            if !rng.one_in(3) =>
        {
            // Mostly counts that mean something; unless CL addresses memory.
            let cl = s.gpr[1];
            let addressed = [x.memory_base(), x.memory_index()]
                .iter()
                .any(|r| *r != Register::None && r.full_register() == Register::RCX);
            if !addressed {
                s.gpr[1] = cl & !0xff | rng.below(40);
            }
        }
        M::Bt | M::Btc | M::Btr | M::Bts
            if x.op0_kind() == OpKind::Memory && x.op1_kind() == OpKind::Register =>
        {
            let r = x.op1_register().full_register();
            if r != x.memory_base().full_register() && r != x.memory_index().full_register() && !rng.one_in(8)
            {
                let offset = rng.below(2000) as i64 - 1000;
                let g = &mut s.gpr[r.number()];
                *g = if long { offset as u64 } else { u64::from(offset as u32) };
            }
        }
        M::Div | M::Idiv if !rng.one_in(4) => {
            // Quotients that fit, more often than by chance.
            s.gpr[2] = if rng.one_in(2) {
                0
            } else if long {
                (s.gpr[0] as i64 >> 63) as u64
            } else {
                u64::from((s.gpr[0] as i32 >> 31) as u32)
            };
            if x.memory_base() != Register::None
                && [x.memory_base(), x.memory_index()].iter().any(|r| r.full_register() == Register::RDX)
            {
                s.gpr[2] = 0;
            }
        }
        _ => {}
    }
}
