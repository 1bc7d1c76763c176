//! One line of assembly to bytes, for tests: NASM-like Intel syntax, encoded by iced-x86.
//!
//! Every `Code` with the line's mnemonic is tried with the line's operands; the shortest encoding that iced accepts and
//! decodes back to the same text form of operands wins. `;` separates several instructions.

use std::collections::HashMap;
use std::sync::LazyLock;

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind, OpKind,
    Register,
};

/// Assembles `text` for code of `bits` bits at address `ip`. Panics with what is wrong: it is a test's text.
pub fn assemble(text: &str, bits: u32, ip: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split(';').map(str::trim).filter(|l| !l.is_empty()) {
        let at = ip + out.len() as u64;
        out.extend(one(line, bits, at).unwrap_or_else(|e| panic!("`{line}` ({bits}-bit): {e}")));
    }
    out
}

#[derive(Clone, Debug)]
enum Operand {
    Reg(Register),
    Imm(i64),
    Mem { at: MemoryOperand, bytes: Option<u32> },
}

/// The forms of each mnemonic.
static FORMS: LazyLock<HashMap<String, Vec<Code>>> = LazyLock::new(|| {
    let mut forms: HashMap<String, Vec<Code>> = HashMap::new();
    for code in Code::values().filter(|code| code.mnemonic() != Mnemonic::INVALID) {
        forms.entry(format!("{:?}", code.mnemonic()).to_lowercase()).or_default().push(code);
    }
    forms
});

/// Registers by their names.
static REGISTERS: LazyLock<HashMap<String, Register>> = LazyLock::new(|| {
    let known = Register::values().filter(|register| *register != Register::None);
    known.map(|register| (format!("{register:?}").to_lowercase(), register)).collect()
});

const PREFIXES: [&str; 5] = ["lock", "rep", "repe", "repz", "repne"];

fn one(line: &str, bits: u32, ip: u64) -> Result<Vec<u8>, String> {
    let lower = line.to_lowercase();
    let mut rest = lower.as_str();
    let mut prefixes = Vec::new();
    while let Some((word, tail)) = rest.split_once(' ') {
        if !PREFIXES.contains(&word) {
            break;
        }
        prefixes.push(word);
        rest = tail.trim();
    }
    if let Some(bytes) = rest.strip_prefix("db ") {
        return bytes
            .split(',')
            .map(|b| number(b.trim()).map(|n| n as u8).ok_or_else(|| format!("`{b}` is no byte")))
            .collect();
    }
    let (name, args) = rest.split_once(' ').unwrap_or((rest, ""));
    let name = match name {
        "sal" => "shl",
        "jz" => "je",
        "jnz" => "jne",
        "jc" => "jb",
        "jnc" => "jae",
        "setc" => "setb",
        "setz" => "sete",
        "setnz" => "setne",
        "repz" => "repe",
        "pushfw" => "pushf",
        "popfw" => "popf",
        n => n,
    };
    let operands =
        split_operands(args).into_iter().map(|a| operand(a, bits)).collect::<Result<Vec<_>, _>>()?;
    let mut best: Option<Vec<u8>> = None;
    for code in FORMS.get(name).into_iter().flatten() {
        let Some(bytes) = attempt(*code, &operands, &prefixes, bits, ip) else { continue };
        if best.as_ref().is_none_or(|b| bytes.len() < b.len()) {
            best = Some(bytes);
        }
    }
    best.ok_or_else(|| "no encoding fits these operands".into())
}

/// At commas outside brackets.
fn split_operands(args: &str) -> Vec<&str> {
    args.split(',').map(str::trim).filter(|a| !a.is_empty()).collect()
}

fn number(t: &str) -> Option<i64> {
    let (neg, t) = match t.strip_prefix('-') {
        Some(t) => (true, t.trim()),
        None => (false, t),
    };
    let v = match t.strip_prefix("0x") {
        Some(h) => u64::from_str_radix(&h.replace('_', ""), 16).ok()? as i64,
        None => t.replace('_', "").parse::<i64>().ok()?,
    };
    Some(if neg { v.wrapping_neg() } else { v })
}

/// A product of numbers.
pub(super) fn product(t: &str) -> Option<i64> {
    t.split('*').map(|factor| number(factor.trim())).product()
}

pub(super) fn register(t: &str) -> Option<Register> {
    // Intel's names of the low bytes, beside the manual's R8L.
    let renamed = t.strip_prefix('r').and_then(|n| n.strip_suffix('b')).filter(|n| n.parse::<u8>().is_ok());
    let renamed = renamed.map(|n| format!("r{n}l"));
    let t = renamed.as_deref().unwrap_or(t);
    REGISTERS.get(&t.to_lowercase()).copied()
}

fn operand(t: &str, bits: u32) -> Result<Operand, String> {
    if let Some(n) = number(t) {
        return Ok(Operand::Imm(n));
    }
    if let Some(r) = register(t) {
        return Ok(Operand::Reg(r));
    }
    let (size, inner) = t.split_once('[').ok_or_else(|| format!("`{t}` is no operand"))?;
    let inner = inner.strip_suffix(']').ok_or_else(|| format!("`{t}` lacks `]`"))?;
    let bytes = match size.trim().trim_end_matches(" ptr") {
        "" => None,
        "byte" => Some(1),
        "word" => Some(2),
        "dword" => Some(4),
        "qword" => Some(8),
        "tword" => Some(10),
        "oword" | "xmmword" => Some(16),
        "yword" | "ymmword" => Some(32),
        other => return Err(format!("`{other}` is no size")),
    };
    let (segment, inner) = match inner.split_once(':') {
        Some((s, i)) => (register(s.trim()).ok_or_else(|| format!("`{s}` is no segment"))?, i),
        None => (Register::None, inner),
    };
    let mut m = MemoryOperand::new(Register::None, Register::None, 1, 0, 0, false, segment);
    let spaced = inner.replace('-', "+-");
    for term in spaced.split('+').map(str::trim).filter(|t| !t.is_empty()) {
        if let Some(n) = product(term) {
            m.displacement = m.displacement.wrapping_add(n);
        } else if let Some((r, s)) = term.split_once('*') {
            m.index = register(r.trim()).ok_or_else(|| format!("`{r}` is no register"))?;
            m.scale = number(s.trim()).ok_or_else(|| format!("`{s}` is no scale"))? as u32;
        } else {
            let r = register(term).ok_or_else(|| format!("`{term}` is no register"))?;
            if m.base == Register::None && !r.is_vector_register() { m.base = r } else { m.index = r }
        }
    }
    if m.base == Register::None && m.index == Register::None {
        m.displ_size = if bits == 64 { 8 } else { bits / 8 };
        if bits == 64 && i32::try_from(m.displacement).is_ok() {
            m.displ_size = 8;
        }
    } else if m.displacement != 0 {
        m.displ_size = 1;
    }
    Ok(Operand::Mem { at: m, bytes })
}

fn attempt(code: Code, operands: &[Operand], prefixes: &[&str], bits: u32, ip: u64) -> Option<Vec<u8>> {
    let info = code.op_code();
    if !match bits {
        16 => info.mode16(),
        32 => info.mode32(),
        _ => info.mode64(),
    } {
        return None;
    }
    // String instructions are written without operands.
    let implied = operands.is_empty() && info.op_count() > 0;
    // MASKMOVQ and MASKMOVDQU are written without their memory operand.
    let hidden = u32::from(
        info.op_count() > 0 && info.op_kind(0) == OpCodeOperandKind::seg_rDI && operands.len() == 2,
    );
    if !implied && (info.op_count() - hidden) as usize != operands.len() {
        return None;
    }
    let mut x = Instruction::new();
    x.set_code(code);
    for p in prefixes {
        match *p {
            "lock" => x.set_has_lock_prefix(true),
            "repne" => x.set_has_repne_prefix(true),
            _ => x.set_has_rep_prefix(true),
        }
    }
    if implied {
        for n in 0..info.op_count() {
            set_implied(&mut x, n, info.op_kind(n), bits)?;
        }
    }
    if hidden == 1 {
        set_implied(&mut x, 0, info.op_kind(0), bits)?;
    }
    for (n, o) in (hidden..).zip(operands) {
        set_operand(&mut x, n, info.op_kind(n), o, bits)?;
    }
    for (n, o) in operands.iter().enumerate() {
        if let Operand::Mem { bytes: Some(b), .. } = o
            && x.op_kind(n as u32) == OpKind::Memory
            && x.memory_size().size() as u32 != *b
        {
            return None;
        }
    }
    let mut encoder = Encoder::new(bits);
    encoder.encode(&x, ip).ok()?;
    let bytes = encoder.take_buffer();
    // It must mean what was asked for.
    let back = Decoder::with_ip(bits, &bytes, ip, DecoderOptions::NONE).decode();
    (back.code() == code).then_some(bytes)
}

fn set_operand(x: &mut Instruction, n: u32, kind: OpCodeOperandKind, o: &Operand, bits: u32) -> Option<()> {
    use OpCodeOperandKind as K;
    match o {
        Operand::Reg(r) => {
            x.set_op_kind(n, OpKind::Register);
            x.set_op_register(n, *r);
        }
        Operand::Imm(v) => {
            let v = *v;
            let fits = |lo: i64, hi: i64| (lo..=hi).contains(&v).then_some(());
            match kind {
                K::imm8 => fits(-128, 255)?,
                K::imm8_const_1 => fits(1, 1)?,
                K::imm8sex16 | K::imm8sex32 | K::imm8sex64 => fits(-128, 127)?,
                K::imm16 => fits(-32768, 65535)?,
                K::imm32 => fits(i64::from(i32::MIN), i64::from(u32::MAX))?,
                K::imm32sex64 => fits(i64::from(i32::MIN), i64::from(i32::MAX))?,
                K::imm64 => {}
                K::br16_1 | K::br16_2 | K::br32_1 | K::br32_4 | K::br64_1 | K::br64_4 => {
                    x.set_op_kind(
                        n,
                        match bits {
                            16 => OpKind::NearBranch16,
                            32 => OpKind::NearBranch32,
                            _ => OpKind::NearBranch64,
                        },
                    );
                    x.set_near_branch64(v as u64);
                    return Some(());
                }
                _ => return None,
            }
            x.set_op_kind(
                n,
                match kind {
                    K::imm8 | K::imm8_const_1 if n > 0 && has_immediate(x, n) => OpKind::Immediate8_2nd,
                    K::imm8 | K::imm8_const_1 => OpKind::Immediate8,
                    K::imm8sex16 => OpKind::Immediate8to16,
                    K::imm8sex32 => OpKind::Immediate8to32,
                    K::imm8sex64 => OpKind::Immediate8to64,
                    K::imm16 => OpKind::Immediate16,
                    K::imm32 => OpKind::Immediate32,
                    K::imm32sex64 => OpKind::Immediate32to64,
                    _ => OpKind::Immediate64,
                },
            );
            x.set_immediate_i64(n, v);
        }
        Operand::Mem { at, .. } => {
            x.set_op_kind(n, OpKind::Memory);
            x.set_memory_base(at.base);
            x.set_memory_index(at.index);
            x.set_memory_index_scale(at.scale);
            x.set_memory_displ_size(at.displ_size);
            x.set_memory_displacement64(at.displacement as u64);
            x.set_segment_prefix(at.segment_prefix);
        }
    }
    Some(())
}

fn set_implied(x: &mut Instruction, n: u32, kind: OpCodeOperandKind, bits: u32) -> Option<()> {
    use OpCodeOperandKind as K;
    let by_bits = |a, b, c| match bits {
        16 => a,
        32 => b,
        _ => c,
    };
    let (op, register) = match kind {
        K::es_rDI => (by_bits(OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI), Register::None),
        K::seg_rDI => {
            (by_bits(OpKind::MemorySegDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI), Register::None)
        }
        K::seg_rBX_al => {
            x.set_memory_base(by_bits_register(bits));
            x.set_memory_index(Register::AL);
            (OpKind::Memory, Register::None)
        }
        K::seg_rSI => {
            (by_bits(OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI), Register::None)
        }
        K::al => (OpKind::Register, Register::AL),
        K::ax => (OpKind::Register, Register::AX),
        K::eax => (OpKind::Register, Register::EAX),
        K::rax => (OpKind::Register, Register::RAX),
        _ => return None,
    };
    x.set_op_kind(n, op);
    if register != Register::None {
        x.set_op_register(n, register);
    }
    Some(())
}

/// The base of XLATB.
fn by_bits_register(bits: u32) -> Register {
    match bits {
        16 => Register::BX,
        32 => Register::EBX,
        _ => Register::RBX,
    }
}

fn has_immediate(x: &Instruction, before: u32) -> bool {
    (0..before).any(|n| x.op_kind(n) == OpKind::Immediate8 || x.op_kind(n) == OpKind::Immediate16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_lines() {
        let a = |t| assemble(t, 64, 0x1000);
        assert_eq!(a("add eax, ecx"), [0x01, 0xc8]);
        assert_eq!(a("mov rax, [rbx+rcx*4+8]"), [0x48, 0x8b, 0x44, 0x8b, 0x08]);
        assert_eq!(a("add dword [rax], 5"), [0x83, 0x00, 0x05]);
        assert_eq!(a("lock cmpxchg [rdi], esi"), [0xf0, 0x0f, 0xb1, 0x37]);
        assert_eq!(a("rep movsb; ret"), [0xf3, 0xa4, 0xc3]);
        assert_eq!(a("mov rax, 0x1122334455667788").len(), 10);
        assert_eq!(a("jne 0x1000"), [0x75, 0xfe]);
        assert_eq!(a("shl eax, 3"), [0xc1, 0xe0, 0x03]);
        assert_eq!(assemble("mov ax, [bx+si]", 16, 0), [0x8b, 0x00]);
        assert_eq!(a("db 0x0f, 0x0b"), [0x0f, 0x0b]);
    }
}
