//! One encodable instance of each `Code`: the simplest operands that fit.

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Instruction, OpCodeOperandKind as K, OpKind, Register,
};

/// Where the instance lies.
const AT: u64 = 0x1000;

/// An instance as the decoder gives it; `None` if no operands of ours can be encoded in this mode.
pub fn of(code: Code, bits: u32) -> Option<Instruction> {
    let x = build(code, bits)?;
    let mut encoder = Encoder::new(bits);
    encoder.encode(&x, AT).ok()?;
    let bytes = encoder.take_buffer();
    let mut decoder = Decoder::with_ip(bits, &bytes, AT, DecoderOptions::FORCE_RESERVED_NOP);
    let x = decoder.decode();
    // Hints that the processor may take for a NOP are one to the decoder, as they are in `x86`.
    let is_hint = format!("{:?}", x.mnemonic()).eq_ignore_ascii_case("reservednop");
    (!x.is_invalid() && (x.code() == code || is_hint)).then_some(x)
}

fn build(code: Code, bits: u32) -> Option<Instruction> {
    let op = code.op_code();
    let mut x = Instruction::new();
    x.set_code(code);
    for n in 0..op.op_count() {
        operand(&mut x, n, op.op_kind(n), bits)?;
    }
    Some(x)
}

fn by_bits<T>(bits: u32, [w, d, q]: [T; 3]) -> T {
    match bits {
        16 => w,
        32 => d,
        _ => q,
    }
}

fn operand(x: &mut Instruction, n: u32, kind: K, bits: u32) -> Option<()> {
    let name = format!("{kind:?}");
    if let Some(r) = register(&name) {
        x.set_op_kind(n, OpKind::Register);
        x.set_op_register(n, r);
        return Some(());
    }
    if name.contains("mem") && kind != K::mem_offs {
        x.set_op_kind(n, OpKind::Memory);
        x.set_memory_base(by_bits(bits, [Register::BX, Register::EBX, Register::RBX]));
        if name.contains("vsib") {
            x.set_memory_base(by_bits(bits, [Register::EBX, Register::EBX, Register::RBX]));
            x.set_memory_index(if name.contains('y') { Register::YMM2 } else { Register::XMM2 });
        }
        return Some(());
    }
    let set = |x: &mut Instruction, kind| x.set_op_kind(n, kind);
    match kind {
        K::imm8 if (0..n).any(|k| matches!(x.op_kind(k), OpKind::Immediate8 | OpKind::Immediate16)) => {
            set(x, OpKind::Immediate8_2nd);
        }
        K::imm8 => set(x, OpKind::Immediate8),
        K::imm8_const_1 => {
            set(x, OpKind::Immediate8);
            x.set_immediate8(1);
        }
        K::imm8sex16 => set(x, OpKind::Immediate8to16),
        K::imm8sex32 => set(x, OpKind::Immediate8to32),
        K::imm8sex64 => set(x, OpKind::Immediate8to64),
        K::imm16 if (0..n).any(|k| x.op_kind(k) == OpKind::Immediate8) => return None,
        K::imm16 => set(x, OpKind::Immediate16),
        K::imm32 => set(x, OpKind::Immediate32),
        K::imm32sex64 => set(x, OpKind::Immediate32to64),
        K::imm64 => set(x, OpKind::Immediate64),
        K::imm4_m2z => set(x, OpKind::Immediate8),
        K::farbr2_2 => {
            set(x, OpKind::FarBranch16);
            x.set_far_branch_selector(8);
        }
        K::farbr4_2 => {
            set(x, OpKind::FarBranch32);
            x.set_far_branch_selector(8);
        }
        K::br16_1 | K::br16_2 => near(x, n, OpKind::NearBranch16),
        K::br32_1 | K::br32_4 => near(x, n, OpKind::NearBranch32),
        K::br64_1 | K::br64_4 => near(x, n, OpKind::NearBranch64),
        K::seg_rSI => {
            set(x, by_bits(bits, [OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI]));
        }
        K::es_rDI => set(x, by_bits(bits, [OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI])),
        K::seg_rDI => {
            set(x, by_bits(bits, [OpKind::MemorySegDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI]));
        }
        K::seg_rBX_al => {
            set(x, OpKind::Memory);
            x.set_memory_base(by_bits(bits, [Register::BX, Register::EBX, Register::RBX]));
            x.set_memory_index(Register::AL);
        }
        K::mem_offs => {
            set(x, OpKind::Memory);
            x.set_memory_displ_size(bits / 8);
            x.set_memory_displacement64(AT);
        }
        _ => return None,
    }
    Some(())
}

fn near(x: &mut Instruction, n: u32, kind: OpKind) {
    x.set_op_kind(n, kind);
    x.set_near_branch64(AT + 0x20);
}

/// The register for an operand kind by the beginning of its name: a register that every form can hold.
fn register(name: &str) -> Option<Register> {
    use Register as R;
    const FIRST: [(&str, R); 18] = [
        // A gather's mask: its three registers must differ.
        ("xmm_vvvv", R::XMM3),
        ("ymm_vvvv", R::YMM3),
        ("r8_", R::CL),
        ("r16_", R::CX),
        ("r32_", R::ECX),
        ("r64_", R::RCX),
        ("xmm_", R::XMM1),
        ("xmmp3", R::None),
        ("ymm_", R::YMM1),
        ("mm_", R::MM1),
        ("seg_reg", R::DS),
        ("cr_", R::CR0),
        ("dr_", R::DR0),
        ("sti_", R::ST1),
        ("st0", R::ST0),
        ("xmm_is4", R::XMM1),
        ("ymm_is4", R::YMM1),
        ("r32_rm", R::ECX),
    ];
    const EXACT: [(&str, R); 14] = [
        ("es", R::ES),
        ("cs", R::CS),
        ("ss", R::SS),
        ("ds", R::DS),
        ("fs", R::FS),
        ("gs", R::GS),
        ("al", R::AL),
        ("cl", R::CL),
        ("ax", R::AX),
        ("dx", R::DX),
        ("eax", R::EAX),
        ("rax", R::RAX),
        ("xmm_or_mem", R::XMM1),
        ("ymm_or_mem", R::YMM1),
    ];
    if let Some((_, r)) = EXACT.iter().find(|(exact, _)| *exact == name) {
        return Some(*r);
    }
    FIRST.iter().find(|(first, r)| name.starts_with(first) && *r != R::None).map(|(_, r)| *r)
}
