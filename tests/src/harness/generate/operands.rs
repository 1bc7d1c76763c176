//! The operands of an instruction.

use iced_x86::{Code, Instruction, Mnemonic as M, OpCodeInfo, OpCodeOperandKind as K, OpKind, Register};

use super::codes::{AVX, STATE, VECTOR};
use super::is_string;
use super::prepare::far_selector;
use crate::harness::guest::Bits;
use crate::harness::layout::{CODE, DATA, READ_ONLY};
use crate::harness::random::Rng;
use crate::harness::state::State;

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
        let by_bits = |w, d, q| match bits.number() {
            64 => q,
            32 => d,
            _ => w,
        };
        match kind {
            K::imm8 => {
                x.set_op_kind(n, if immediates == 0 { OpKind::Immediate8 } else { OpKind::Immediate8_2nd });
                if code == Code::Int_imm8 {
                    // 80h is a system call.
                    x.set_immediate8(
                        rng.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 13, 14, 0x20, 0x21, 0x2f, 0x81, 0xff]),
                    );
                } else if immediates == 0 {
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
                let v = if matches!(code.mnemonic(), M::Enter | M::Ret | M::Retf) {
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
                    x.set_op_kind(n, OpKind::NearBranch16);
                    x.set_near_branch16((target - CODE) as u16);
                    continue;
                }
                x.set_op_kind(n, by_bits(OpKind::NearBranch16, OpKind::NearBranch32, OpKind::NearBranch64));
                x.set_near_branch64(target);
            }
            K::farbr2_2 | K::farbr4_2 => {
                let wide = kind == K::farbr4_2;
                x.set_op_kind(n, if wide { OpKind::FarBranch32 } else { OpKind::FarBranch16 });
                let to = CODE + 0x800 + rng.below(0x2000);
                x.set_far_branch32(to as u32);
                if !wide {
                    x.set_far_branch16(to as u16);
                }
                x.set_far_branch_selector(far_selector(rng, bits));
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
        K::es => return Some(Register::ES),
        K::cs => return Some(Register::CS),
        K::ss => return Some(Register::SS),
        K::ds => return Some(Register::DS),
        K::fs => return Some(Register::FS),
        K::gs => return Some(Register::GS),
        K::seg_reg => return Some(Register::ES + rng.below(6) as u32),
        K::cr_reg => return Some(rng.pick(&[Register::CR0, Register::CR2, Register::CR3, Register::CR4])),
        K::dr_reg => return Some(rng.pick(&[Register::DR0, Register::DR3, Register::DR6, Register::DR7])),
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
    let among = |set: &[iced_x86::CpuidFeature]| features.iter().any(|f| set.contains(f));
    let vector = among(VECTOR) || among(AVX) || op.code().mnemonic() == M::Cmpxchg16b;
    let align = if among(STATE) && !rng.one_in(10) {
        63
    } else if vector && !rng.one_in(10) {
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
