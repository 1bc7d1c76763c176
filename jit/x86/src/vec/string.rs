//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 2, 4.1).

use super::emitter::VecEmitter;
use super::lanes;
use super::lift::{self, Form};
use crate::emit::{Emitter, R};
use crate::insn::{Insn, Width};
use crate::state::{Xmm, reg, rflags};
use crate::vcpu::Vcpu;

/// A string operand: its elements, widened with their sign if they have one, and how many are valid.
struct Text {
    el: [i32; 16],
    len: usize,
}

/// Elements of a string operand by the format in the immediate's low two bits.
fn elements(x: Xmm, imm: u8) -> ([i32; 16], usize) {
    let (bytes, words) = (lanes::bytes(x), lanes::words(x));
    let n = if imm & 1 != 0 { 8 } else { 16 };
    let el = std::array::from_fn(|k| match imm & 3 {
        0 => bytes[k].into(),
        1 => words[k & 7].into(),
        2 => (bytes[k] as i8).into(),
        _ => (words[k & 7] as i16).into(),
    });
    (el, n)
}

/// The first zero ends it.
fn implicit(x: Xmm, imm: u8) -> Text {
    let (el, n) = elements(x, imm);
    let len = el[..n].iter().position(|&e| e == 0).unwrap_or(n);
    Text { el, len }
}

/// A register holds the length; its absolute value counts, saturated.
fn explicit(x: Xmm, imm: u8, length: i64) -> Text {
    let (el, n) = elements(x, imm);
    let len = length.unsigned_abs().min(n as u64) as usize;
    Text { el, len }
}

/// The aggregated and polarised result, one bit per element of `b` (IntRes2).
fn aggregate(a: &Text, b: &Text, imm: u8) -> u32 {
    let n = if imm & 1 != 0 { 8 } else { 16 };
    let holds = |j: usize| -> bool {
        let valid = j < b.len;
        match imm >> 2 & 3 {
            0 => valid && a.el[..a.len].contains(&b.el[j]),
            1 => valid && a.el[..a.len].chunks_exact(2).any(|r| (r[0]..=r[1]).contains(&b.el[j])),
            2 => (j >= a.len && !valid) || (j < a.len && valid && a.el[j] == b.el[j]),
            // Equal ordered: `a` from its start matches `b` from j; what is beyond the last element is not compared.
            _ => (0..a.len.min(n - j)).all(|k| j + k < b.len && a.el[k] == b.el[j + k]),
        }
    };
    let mut r = (0..n).fold(0, |r, j| r | u32::from(holds(j)) << j);
    match imm >> 4 & 3 {
        1 => r ^= (1 << n) - 1,
        3 => r ^= (1 << b.len) - 1,
        _ => {}
    }
    r
}

/// Compares and sets the flags; IntRes2.
fn compare(cpu: &mut Vcpu, a: &Text, b: &Text, imm: u8) -> u32 {
    let n = if imm & 1 != 0 { 8 } else { 16 };
    let r = aggregate(a, b, imm);
    let flag = |c: bool, f: u64| if c { f } else { 0 };
    let v = flag(r != 0, rflags::CF)
        | flag(b.len < n, rflags::ZF)
        | flag(a.len < n, rflags::SF)
        | flag(r & 1 != 0, rflags::OF);
    lift::set_flags(cpu, v);
    r
}

fn set_index(cpu: &mut Vcpu, r: u32, imm: u8) {
    let n = if imm & 1 != 0 { 8 } else { 16 };
    let index = match r {
        0 => n,
        _ if imm & 0x40 != 0 => 31 - r.leading_zeros(),
        _ => r.trailing_zeros(),
    };
    cpu.set_gpr(Width::D, reg::RCX, index.into());
}

fn set_mask(cpu: &mut Vcpu, i: &Insn, r: u32) {
    let imm = i.imm as u8;
    let bit = |k: usize| r >> k & 1 != 0;
    let x = match (imm & 0x40 != 0, imm & 1 != 0) {
        (false, _) => [r.into(), 0],
        (true, false) => lanes::from_bytes(std::array::from_fn(|k| if bit(k) { 0xff } else { 0 })),
        (true, true) => lanes::from_words(std::array::from_fn(|k| if bit(k) { 0xffff } else { 0 })),
    };
    lift::put_to(cpu, 0, Form::of(i), [x]);
}

/// Both operands with lengths in EAX and EDX (RAX and RDX with REX.W), compared.
fn explicit_operands(cpu: &mut Vcpu, i: &Insn, quad: bool) -> R<u32> {
    let imm = i.imm as u8;
    // The memory operand need not be aligned.
    let [b] = lift::source_aligned::<Vcpu, 1>(cpu, i, Form::of(i), false)?;
    let a = cpu.xmm(i.rd);
    let length = |r: u8| {
        let v = cpu.st.gpr[r as usize];
        if quad { v as i64 } else { (v as i32).into() }
    };
    let (a, b) = (explicit(a, imm, length(reg::RAX)), explicit(b, imm, length(reg::RDX)));
    Ok(compare(cpu, &a, &b, imm))
}

fn implicit_operands(cpu: &mut Vcpu, i: &Insn) -> R<u32> {
    let imm = i.imm as u8;
    let [b] = lift::source_aligned::<Vcpu, 1>(cpu, i, Form::of(i), false)?;
    let a = cpu.xmm(i.rd);
    Ok(compare(cpu, &implicit(a, imm), &implicit(b, imm), imm))
}

/// PCMPESTRI.
pub fn pcmpestri<const QUAD: bool>(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let r = explicit_operands(cpu, i, QUAD)?;
    set_index(cpu, r, i.imm as u8);
    Ok(())
}

/// PCMPESTRM.
pub fn pcmpestrm<const QUAD: bool>(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let r = explicit_operands(cpu, i, QUAD)?;
    set_mask(cpu, i, r);
    Ok(())
}

/// PCMPISTRI.
pub fn pcmpistri(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let r = implicit_operands(cpu, i)?;
    set_index(cpu, r, i.imm as u8);
    Ok(())
}

/// PCMPISTRM.
pub fn pcmpistrm(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let r = implicit_operands(cpu, i)?;
    set_mask(cpu, i, r);
    Ok(())
}
