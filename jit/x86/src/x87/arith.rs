//! Arithmetic and comparisons.

use softmmu::Access;

use super::stack::{StackFault, begin, note_memory};
use crate::cc::CcKind;
use crate::emit::{Emitter, R};
use crate::insn::{Insn, Width};
use crate::softfp::x87::{self, Env, F80};
use crate::softfp::{DE, Relation};
use crate::vcpu::Vcpu;

/// Two-operand operations; the reversed ones exchange their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Mul,
    Sub,
    Subr,
    Div,
    Divr,
}

/// Formats of memory operands of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F64,
    I16,
    I32,
}

#[inline(always)]
fn apply(op: Op, a: F80, b: F80, env: &mut Env) -> F80 {
    match op {
        Op::Add => x87::add(a, b, env),
        Op::Mul => x87::mul(a, b, env),
        Op::Sub => x87::sub(a, b, env),
        Op::Subr => x87::sub(b, a, env),
        Op::Div => x87::div(a, b, env),
        Op::Divr => x87::div(b, a, env),
    }
}

/// Reads a memory operand's raw bits. Nothing but the memory access happens here.
#[inline(always)]
fn read(cpu: &mut Vcpu, i: &Insn, f: Format, off: u64) -> R<u64> {
    let bytes = match f {
        Format::I16 => 2,
        Format::F32 | Format::I32 => 4,
        Format::F64 => 8,
    };
    let at = cpu.linear(i.seg, i.am, off, bytes, Access::Read)?;
    Ok(match bytes {
        2 => cpu.read::<u16>(i.seg, at)?.into(),
        4 => cpu.read::<u32>(i.seg, at)?.into(),
        _ => cpu.read::<u64>(i.seg, at)?,
    })
}

/// A memory operand in register format. Unlike FLD it keeps a signalling NaN signalling: the operation's NaN rule looks
/// at it. A denormal raises DE, unless `other` decides the result (SDM vol. 1, 4.9.2: NaNs come before denormals).
#[inline(always)]
fn widen(raw: u64, f: Format, other: F80, env: &mut Env) -> F80 {
    match f {
        Format::I16 => return x87::from_i16(raw as i16),
        Format::I32 => return x87::from_i32(raw as i32),
        _ => {}
    }
    let nan = match f {
        Format::F32 => raw & 0x7fff_ffff > 0x7f80_0000,
        _ => raw << 1 > 0xffe0_0000_0000_0000,
    };
    if nan {
        return widen_nan(raw, f);
    }
    let v = if f == Format::F32 { x87::from_f32(raw as u32, env) } else { x87::from_f64(raw, env) };
    if env.flags & DE != 0 && decides(other) {
        env.flags &= !DE;
    }
    v
}

#[cold]
fn widen_nan(raw: u64, f: Format) -> F80 {
    let (sign, fraction) = match f {
        Format::F32 => (raw >> 31, raw << 41),
        _ => (raw >> 63, raw << 12),
    };
    F80 { mantissa: 1 << 63 | fraction >> 1, sign_exp: (sign as u16) << 15 | 0x7fff }
}

/// Is it a NaN or an unsupported encoding?
#[cold]
fn decides(v: F80) -> bool {
    v.is_nan() || (v.sign_exp & 0x7fff != 0 && v.mantissa >> 63 == 0)
}

/// ST(0) = ST(0) op memory.
#[inline(always)]
pub(super) fn memory(cpu: &mut Vcpu, i: &Insn, op: Op, f: Format) -> R<()> {
    super::wait(cpu, i)?;
    let off = cpu.ea(i);
    let raw = read(cpu, i, f, off)?;
    note_memory(cpu, i, off);
    let s = &mut cpu.st.x87;
    if s.is_empty(0) {
        if s.fault(StackFault::Underflow) {
            s.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let mut env = s.env();
    let a = s.st(0);
    let b = widen(raw, f, a, &mut env);
    if env.flags & DE != 0 {
        if op == Op::Divr && a.is_zero() {
            // Division by zero comes before the denormal operand (SDM vol. 1, 4.9.2).
            env.flags &= !DE;
        } else if env.suppressed() {
            // Nothing is computed, so that nothing is rounded either.
            s.conclude(&env);
            return Ok(());
        }
    }
    let r = apply(op, a, b, &mut env);
    if !env.suppressed() {
        s.set_st(0, r);
    }
    s.conclude(&env);
    Ok(())
}

/// ST(d) = ST(d) op ST(n), where one of them is ST(0); `pop` after it.
#[inline(always)]
pub(super) fn registers(cpu: &mut Vcpu, i: &Insn, op: Op, pop: bool) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    if s.is_empty(i.rd) || s.is_empty(i.rs) {
        if s.fault(StackFault::Underflow) {
            s.set_st(i.rd, F80::INDEFINITE);
            if pop {
                s.pop();
            }
        }
        return Ok(());
    }
    let mut env = s.env();
    let r = apply(op, s.st(i.rd), s.st(i.rs), &mut env);
    if !env.suppressed() {
        s.set_st(i.rd, r);
        if pop {
            s.pop();
        }
    }
    s.conclude(&env);
    Ok(())
}

/// Where a comparison's result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Codes,
    Flags,
}

/// Puts the outcome where it belongs, and pops if `go_on`. Processors set codes and flags even when an unmasked
/// exception keeps the instruction from popping.
#[inline(always)]
fn outcome(cpu: &mut Vcpu, r: Relation, to: Target, pops: u8, go_on: bool) {
    match to {
        Target::Codes => cpu.st.x87.set_codes(r.x87_codes()),
        Target::Flags => cpu.set_cc(CcKind::Flags, Width::D, r.eflags().into(), 0, 0),
    }
    if go_on {
        for _ in 0..pops {
            cpu.st.x87.pop();
        }
    }
}

#[cold]
fn compare_empty(cpu: &mut Vcpu, to: Target, pops: u8) {
    let masked = cpu.st.x87.fault(StackFault::Underflow);
    outcome(cpu, Relation::Unordered, to, pops, masked);
}

#[inline(always)]
fn compare(cpu: &mut Vcpu, b: F80, mut env: Env, quiet: bool, to: Target, pops: u8) {
    let a = cpu.st.x87.st(0);
    let r = if quiet { x87::compare_quiet(a, b, &mut env) } else { x87::compare(a, b, &mut env) };
    outcome(cpu, r, to, pops, !env.suppressed());
    cpu.st.x87.conclude(&env);
}

/// FCOM, FCOMP, FICOM, FICOMP memory.
#[inline(always)]
pub(super) fn compare_memory(cpu: &mut Vcpu, i: &Insn, f: Format, pops: u8) -> R<()> {
    super::wait(cpu, i)?;
    let off = cpu.ea(i);
    let raw = read(cpu, i, f, off)?;
    note_memory(cpu, i, off);
    if cpu.st.x87.is_empty(0) {
        compare_empty(cpu, Target::Codes, pops);
        return Ok(());
    }
    let mut env = cpu.st.x87.env();
    let b = widen(raw, f, cpu.st.x87.st(0), &mut env);
    compare(cpu, b, env, false, Target::Codes, pops);
    Ok(())
}

/// FCOM, FUCOM, FCOMI, FUCOMI and their popping forms: ST(0) with ST(rs).
#[inline(always)]
pub(super) fn compare_registers(cpu: &mut Vcpu, i: &Insn, quiet: bool, to: Target, pops: u8) -> R<()> {
    begin(cpu, i)?;
    let s = &cpu.st.x87;
    if s.is_empty(0) || s.is_empty(i.rs) {
        compare_empty(cpu, to, pops);
        return Ok(());
    }
    let (b, env) = (s.st(i.rs), s.env());
    compare(cpu, b, env, quiet, to, pops);
    Ok(())
}

/// FTST.
pub(super) fn ftst(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)?;
    if cpu.st.x87.is_empty(0) {
        compare_empty(cpu, Target::Codes, 0);
        return Ok(());
    }
    let env = cpu.st.x87.env();
    compare(cpu, F80::ZERO, env, false, Target::Codes, 0);
    Ok(())
}

/// FXAM.
pub(super) fn fxam(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    let v = s.st(0);
    let codes = if s.is_empty(0) {
        // Empty: C3 and C0, and the sign of what is in the register.
        x87::C3 | x87::C0 | if v.is_negative() { x87::C1 } else { 0 }
    } else {
        x87::examine(v)
    };
    s.set_codes(codes);
    Ok(())
}
