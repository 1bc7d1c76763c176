//! Tier 0 against tier 1 on random instruction sequences: every encodable form of the common instruction sets.

mod rig;

use std::collections::BTreeSet;

use iced_x86::{
    Code, CpuidFeature, Encoder, FlowControl, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind as K,
    Register,
};
use jit::{Exit, TierPolicy};
use rig::{CODE, DATA, Rig, Rng, STACK, config};

/// Registers that operands may name; RBX and RBP stay pointers, RSP the stack.
const GPR: [u32; 13] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn gpr(rng: &mut Rng, size: u32) -> Register {
    let n = rng.pick(&GPR);
    let base = match size {
        1 => {
            if n < 3 && rng.below(4) == 0 {
                return rng.pick(&[Register::AH, Register::CH, Register::DH]);
            }
            // SPL..DIL come after AH..BH.
            return if n < 4 { Register::AL + n } else { Register::SPL + (n - 4) };
        }
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    };
    base + n
}

fn memory(rng: &mut Rng, aligned: bool) -> MemoryOperand {
    let base = if rng.below(4) == 0 { Register::RBP } else { Register::RBX };
    let mut disp = rng.below(0xf00) as i64 - 0x200;
    if aligned {
        disp &= !15;
    }
    if !aligned && rng.below(8) == 0 {
        // Around the page's end.
        disp = 0xff0 + rng.below(16) as i64;
    }
    MemoryOperand::with_base_displ(base, disp)
}

/// Operands for a code, or `None` where it is not for this test.
fn random(rng: &mut Rng, code: Code) -> Option<Instruction> {
    let op = code.op_code();
    let wide = op.cpuid_wants_alignment(code);
    let mut x = Instruction::new();
    x.set_code(code);
    let mut mem = false;
    for n in 0..op.op_count() {
        let kind = op.op_kind(n);
        let reg_or_mem =
            |rng: &mut Rng, size: u32| if rng.below(3) == 0 { None } else { Some(gpr(rng, size)) };
        let reg = match kind {
            K::r8_or_mem => reg_or_mem(rng, 1),
            K::r16_or_mem => reg_or_mem(rng, 2),
            K::r32_or_mem | K::r32_or_mem_mpx => reg_or_mem(rng, 4),
            K::r64_or_mem | K::r64_or_mem_mpx => reg_or_mem(rng, 8),
            K::r8_reg | K::r8_opcode => Some(gpr(rng, 1)),
            K::r16_reg | K::r16_rm | K::r16_opcode => Some(gpr(rng, 2)),
            K::r32_reg | K::r32_rm | K::r32_opcode | K::r32_vvvv => Some(gpr(rng, 4)),
            K::r64_reg | K::r64_rm | K::r64_opcode | K::r64_vvvv => Some(gpr(rng, 8)),
            K::xmm_reg | K::xmm_rm => Some(Register::XMM0 + rng.below(16) as u32),
            K::xmm_or_mem => (rng.below(3) != 0).then(|| Register::XMM0 + rng.below(16) as u32),
            K::mem => None,
            K::al => Some(Register::AL),
            K::cl => Some(Register::CL),
            K::ax => Some(Register::AX),
            K::dx => return None,
            K::eax => Some(Register::EAX),
            K::rax => Some(Register::RAX),
            K::imm8 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate8);
                x.set_immediate8(rng.next() as u8);
                continue;
            }
            K::imm8_const_1 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate8);
                x.set_immediate8(1);
                continue;
            }
            K::imm8sex16 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate8to16);
                x.set_immediate8to16(i16::from(rng.next() as i8));
                continue;
            }
            K::imm8sex32 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate8to32);
                x.set_immediate8to32(i32::from(rng.next() as i8));
                continue;
            }
            K::imm8sex64 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate8to64);
                x.set_immediate8to64(i64::from(rng.next() as i8));
                continue;
            }
            K::imm16 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate16);
                x.set_immediate16(rng.next() as u16);
                continue;
            }
            K::imm32 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate32);
                x.set_immediate32(rng.next() as u32);
                continue;
            }
            K::imm32sex64 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate32to64);
                x.set_immediate32to64(i64::from(rng.next() as i32));
                continue;
            }
            K::imm64 => {
                x.set_op_kind(n, iced_x86::OpKind::Immediate64);
                x.set_immediate64(rng.next());
                continue;
            }
            _ => return None,
        };
        match reg {
            Some(r) => {
                x.set_op_kind(n, iced_x86::OpKind::Register);
                x.set_op_register(n, r);
            }
            None => {
                mem = true;
                let m = memory(rng, wide);
                x.set_op_kind(n, iced_x86::OpKind::Memory);
                x.set_memory_base(m.base);
                x.set_memory_displacement64(m.displacement as u64);
                x.set_memory_displ_size(8);
            }
        }
    }
    if mem && op.can_use_lock_prefix() && rng.below(2) == 0 && x.op0_kind() == iced_x86::OpKind::Memory {
        x.set_has_lock_prefix(true);
    }
    Some(x)
}

trait Wants {
    fn cpuid_wants_alignment(&self, code: Code) -> bool;
}
impl Wants for iced_x86::OpCodeInfo {
    /// 128-bit operands mostly want to be aligned; sometimes not doing so is a test as well.
    fn cpuid_wants_alignment(&self, code: Code) -> bool {
        code.cpuid_features().iter().any(|f| format!("{f:?}").starts_with("SSE") || *f == CpuidFeature::SSSE3)
    }
}

fn features(vector: bool) -> Vec<CpuidFeature> {
    use CpuidFeature as F;
    if vector {
        vec![F::SSE, F::SSE2, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2]
    } else {
        vec![
            F::INTEL8086,
            F::INTEL186,
            F::INTEL286,
            F::INTEL386,
            F::INTEL486,
            F::X64,
            F::CMOV,
            F::BMI1,
            F::BMI2,
            F::ADX,
            F::POPCNT,
            F::LZCNT,
            F::MOVBE,
        ]
    }
}

/// All codes of the sets that neither branch nor touch the system.
fn codes(vector: bool) -> Vec<Code> {
    let sets = features(vector);
    let skip = [
        Mnemonic::Ud0,
        Mnemonic::Ud1,
        Mnemonic::Ud2,
        Mnemonic::Hlt,
        Mnemonic::Leave,
        Mnemonic::Enter,
        Mnemonic::Xlatb,
        Mnemonic::Popf,
        Mnemonic::Popfq,
        Mnemonic::Ldmxcsr,
        Mnemonic::Invlpg,
        Mnemonic::Wbinvd,
        Mnemonic::Invd,
        Mnemonic::Pop,
    ];
    Code::values()
        .filter(|c| {
            let op = c.op_code();
            op.mode64()
                && c.flow_control() == FlowControl::Next
                && !c.is_privileged()
                && !skip.contains(&c.mnemonic())
                && c.cpuid_features().iter().all(|f| sets.contains(f))
                && !format!("{c:?}").starts_with("D3NOW")
                && c.mnemonic() != Mnemonic::INVALID
        })
        .collect()
}

fn encode(x: &Instruction, at: u64) -> Option<Vec<u8>> {
    let mut e = Encoder::new(64);
    e.encode(x, at).ok()?;
    Some(e.take_buffer())
}

/// `n` instructions and a HLT, as bytes, with their text.
fn sequence(rng: &mut Rng, codes: &[Code], n: usize) -> (Vec<u8>, Vec<String>) {
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    let add = |bytes: &mut Vec<u8>, text: &mut Vec<String>, x: Instruction| {
        if let Some(b) = encode(&x, CODE + bytes.len() as u64) {
            bytes.extend(b);
            text.push(format!("{x}"));
            return true;
        }
        false
    };
    while text.len() < n {
        match rng.below(24) {
            0 => {
                // A short forward jump over one instruction.
                let code = rng.pick(&codes.iter().copied().take(1).collect::<Vec<_>>());
                let _ = code;
                let mut over = Vec::new();
                let inner = Instruction::with2(Code::Add_r64_rm64, gpr(rng, 8), gpr(rng, 8)).unwrap();
                over.extend(encode(&inner, 0).unwrap());
                let jcc = 0x70 | rng.below(16) as u8;
                bytes.extend([jcc, over.len() as u8]);
                bytes.extend(over);
                text.push(format!("j{:x} over: {inner}", jcc & 15));
            }
            1 => {
                for x in [
                    Instruction::with2(Code::Lea_r64_m, Register::RSI, memory(rng, false)).unwrap(),
                    Instruction::with2(Code::Lea_r64_m, Register::RDI, memory(rng, false)).unwrap(),
                    Instruction::with2(Code::Mov_r32_imm32, Register::ECX, rng.below(40) as u32).unwrap(),
                ] {
                    add(&mut bytes, &mut text, x);
                }
                let s = rng.pick(&[
                    [0xf3, 0xa4],
                    [0xf3, 0xaa],
                    [0xf3, 0xa6],
                    [0xf2, 0xae],
                    [0x90, 0xac],
                    [0x90, 0xa7],
                    [0xf3, 0xa5],
                ]);
                bytes.extend(s);
                text.push(format!("string {s:x?}"));
            }
            2 => {
                let x = if rng.below(2) == 0 {
                    Instruction::with1(Code::Pop_r64, gpr(rng, 8))
                } else {
                    Instruction::with1(Code::Push_r64, gpr(rng, 8))
                };
                add(&mut bytes, &mut text, x.unwrap());
            }
            _ => {
                let code = rng.pick(codes);
                if let Some(x) = random(rng, code) {
                    add(&mut bytes, &mut text, x);
                }
            }
        }
    }
    bytes.push(0xf4);
    (bytes, text)
}

/// Doubles at the edges: zeros, denormals, the smallest and largest normals, infinities, quiet and signalling NaNs.
const SPECIAL: [u64; 14] = [
    0,
    1 << 63,
    1,
    0x000f_ffff_ffff_ffff,
    0x8000_0000_0000_1234,
    0x0010_0000_0000_0000,
    0x8010_0000_0000_0001,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0001,
    0xfff8_0000_0000_4321,
    0x7ff0_0000_0000_0001,
    0x41df_ffff_ffc0_0000,
];

/// Likewise, singles.
const SPECIAL32: [u32; 13] = [
    0,
    1 << 31,
    1,
    0x007f_ffff,
    0x8000_1234,
    0x0080_0000,
    0x8080_0001,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0001,
    0xffc0_4321,
    0x7f80_0001,
];

fn prepare(r: &mut Rig, code: &[u8], seed: u64) {
    let mut rng = Rng(seed | 1);
    r.load(CODE, code);
    let noise: Vec<u8> = (0..0x3000 / 8)
        .flat_map(|_| {
            match rng.below(4) {
                0 => f64::from(rng.next() as i32).to_bits(),
                1 => rng.below(256),
                _ => rng.next(),
            }
            .to_le_bytes()
        })
        .collect();
    r.load(DATA - 0x800, &noise);
    // Exceptions end the program: each vector leads to a HLT of its own.
    for v in 0..32u64 {
        let handler = 0x5000 + v * 16;
        r.load(handler, &[0xf4]);
        let mut gate = [0u8; 16];
        gate[..2].copy_from_slice(&(handler as u16).to_le_bytes());
        gate[2] = 8;
        gate[5] = 0x8e;
        r.load(0x3000 + v * 16, &gate);
    }
    r.load(0x4008, &0x00af_9b00_0000_ffffu64.to_le_bytes());
    r.load(0x4010, &0x00cf_9300_0000_ffffu64.to_le_bytes());
    r.cpu.st.idtr = x86::state::TableReg { base: 0x3000, limit: 0xfff };
    r.cpu.st.gdtr = x86::state::TableReg { base: 0x4000, limit: 0x17 };
    for g in 0..16 {
        r.cpu.st.gpr[g] = match rng.below(3) {
            0 => rng.below(100),
            1 => rng.next() as u32 as u64,
            _ => rng.next(),
        };
    }
    r.cpu.st.gpr[3] = DATA;
    r.cpu.st.gpr[5] = DATA + 0x40;
    r.cpu.st.gpr[4] = STACK - 0x400;
    for x in 0..16 {
        r.cpu.st.xmm[x] = [0, 1].map(|_| match rng.below(8) {
            5 => SPECIAL[rng.below(SPECIAL.len() as u64) as usize],
            6 => {
                // Two singles: specials and ordinary ones.
                let mut half = || match rng.below(2) {
                    0 => SPECIAL32[rng.below(SPECIAL32.len() as u64) as usize],
                    _ => (rng.below(2000) as f32 / 8.0).to_bits(),
                };
                u64::from(half()) << 32 | u64::from(half())
            }
            0 => (rng.below(2000) as f64 / 8.0).to_bits(),
            1 => u64::from((rng.below(2000) as f32 / 8.0).to_bits()) << 32 | u64::from(1.5f32.to_bits()),
            2 => f64::from(rng.next() as i32).to_bits(),
            _ => rng.next(),
        });
    }
    r.cpu.st.flags = 2;
    if rng.below(2) == 0 {
        r.cpu.st.mxcsr = 0x1fa0;
        r.cpu.st.mxcsr_changed();
    }
    let flags = rng.next() & 0x8d5 | 2;
    r.cpu.set_rflags(flags);
    r.cpu.mode_changed();
}

/// Runs a program in both tiers, the compiled one in random slices and with or without what vCPUs in parallel need, and compares.
fn compare(code: &[u8], text: &[String], seed: u64) -> bool {
    let tier = if seed & 1 == 0 { TierPolicy::One } else { TierPolicy::Two };
    let mut zero = Rig::new(config(TierPolicy::Zero));
    let parallel = seed >> 1 & 1 != 0;
    let mut one = Rig::new(jit::EngineConfig { parallel, ..config(tier) });
    prepare(&mut zero, code, seed);
    prepare(&mut one, code, seed);
    let a = zero.run(100_000);
    let mut rng = Rng(seed ^ 0x5555 | 1);
    let mut until = 0;
    let b = loop {
        until += if seed.is_multiple_of(3) { 1 + rng.below(20) } else { 100_000 };
        match one.run(until.min(100_000)) {
            Exit::Deadline if until < 100_000 => {}
            e => break e,
        }
    };
    let what = format!("seed {seed:#x}, {tier:?}, parallel: {parallel}\n{}", text.join("\n"));
    assert_eq!(a, b, "{what}");
    zero.seen().same_as(&one.seen(), &what);
    zero.cpu.st.rip == CODE + code.len() as u64
}

/// `RETRO_ONE_IN` divides the number of rounds, for hosts that are slow because they are emulated.
fn campaign(vector: bool, rounds: u64, len: usize) {
    let one_in = std::env::var("RETRO_ONE_IN").map_or(1, |n| n.parse().expect("RETRO_ONE_IN is a number"));
    let rounds = rounds.div_ceil(one_in);
    let codes = codes(vector);
    let mut used = BTreeSet::new();
    let mut whole = 0;
    for n in 0..rounds {
        let seed = 0x1234_5678_9abc_def0 ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = Rng(seed | 1);
        let (code, text) = sequence(&mut rng, &codes, len);
        used.extend(text.iter().filter_map(|t| t.split(' ').next().map(str::to_owned)));
        whole += u64::from(compare(&code, &text, seed));
    }
    println!("{whole} of {rounds} programs ran to their end; {} mnemonics", used.len());
}

#[test]
fn integer_instructions() {
    campaign(false, 300, 24);
}

#[test]
fn integer_instructions_one_by_one() {
    campaign(false, 600, 3);
}

#[test]
fn vector_instructions() {
    campaign(true, 300, 16);
}

#[test]
fn vector_instructions_one_by_one() {
    campaign(true, 3000, 2);
}
