//! Loads, stores, exchanges, conditional moves, sign changes.

use softmmu::Access;

use super::stack::{StackFault, begin, note_memory};
use crate::emit::{Emitter, R};
use crate::insn::{Cond, Insn};
use crate::softfp::x87::{self, Constant, Env, F80};
use crate::vcpu::Vcpu;

/// Memory formats of loads and stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F64,
    F80,
    I16,
    I32,
    I64,
    Bcd,
}

impl Format {
    #[inline(always)]
    const fn bytes(self) -> u32 {
        match self {
            Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::F80 | Self::Bcd => 10,
        }
    }
}

/// Packed BCD indefinite (SDM vol. 1, table 4-4).
const BCD_INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// Pushes `v` unless the stack is full or the exception in `env` says no.
#[inline(always)]
fn push(cpu: &mut Vcpu, v: F80, env: &Env) {
    let s = &mut cpu.st.x87;
    if s.is_full() {
        if s.fault(StackFault::Overflow) {
            s.push(F80::INDEFINITE);
        }
        return;
    }
    if !env.suppressed() {
        s.push(v);
    }
    s.conclude(env);
}

/// FLD, FILD, FBLD memory.
#[inline(always)]
pub(super) fn load(cpu: &mut Vcpu, i: &Insn, f: Format) -> R<()> {
    super::wait(cpu, i)?;
    let off = cpu.ea(i);
    let at = cpu.linear(i.seg, i.am, off, f.bytes(), Access::Read)?;
    let (low, high) = match f.bytes() {
        2 => (cpu.read::<u16>(i.seg, at)?.into(), 0),
        4 => (cpu.read::<u32>(i.seg, at)?.into(), 0),
        8 => (cpu.read::<u64>(i.seg, at)?, 0),
        _ => {
            cpu.probe(i.seg, at, 10, Access::Read)?;
            (cpu.read::<u64>(i.seg, at)?, cpu.read::<u16>(i.seg, at.wrapping_add(8))?)
        }
    };
    note_memory(cpu, i, off);
    let mut env = cpu.st.x87.env();
    let v = match f {
        Format::F32 => x87::from_f32(low as u32, &mut env),
        Format::F64 => x87::from_f64(low, &mut env),
        Format::F80 => F80 { mantissa: low, sign_exp: high },
        Format::I16 => x87::from_i16(low as i16),
        Format::I32 => x87::from_i32(low as i32),
        Format::I64 => x87::from_i64(low as i64),
        Format::Bcd => x87::from_bcd(ten(low, high)),
    };
    push(cpu, v, &env);
    Ok(())
}

/// The ten bytes of an extended or BCD number.
fn ten(low: u64, high: u16) -> [u8; 10] {
    let mut b = [0; 10];
    b[..8].copy_from_slice(&low.to_le_bytes());
    b[8..].copy_from_slice(&high.to_le_bytes());
    b
}

fn split(b: [u8; 10]) -> (u64, u16) {
    let v = F80::from_bytes(b);
    (v.mantissa, v.sign_exp)
}

/// What a store of an empty register writes when the stack fault is masked.
#[cold]
fn indefinite(f: Format) -> (u64, u16) {
    match f {
        Format::F32 => (0xffc0_0000, 0),
        Format::F64 => (0xfff8_0000_0000_0000, 0),
        Format::F80 => (F80::INDEFINITE.mantissa, F80::INDEFINITE.sign_exp),
        Format::I16 => (0x8000, 0),
        Format::I32 => (0x8000_0000, 0),
        Format::I64 => (1 << 63, 0),
        Format::Bcd => split(BCD_INDEFINITE),
    }
}

/// Converts for a store; `truncate` is FISTTP.
#[inline(always)]
fn convert(v: F80, f: Format, truncate: bool, env: &mut Env) -> (u64, u16) {
    let low = match (f, truncate) {
        (Format::F32, _) => x87::to_f32(v, env).into(),
        (Format::F64, _) => x87::to_f64(v, env),
        (Format::I16, false) => x87::to_i16(v, env) as u16 as u64,
        (Format::I16, true) => x87::to_i16_trunc(v, env) as u16 as u64,
        (Format::I32, false) => x87::to_i32(v, env) as u32 as u64,
        (Format::I32, true) => x87::to_i32_trunc(v, env) as u32 as u64,
        (Format::I64, false) => x87::to_i64(v, env) as u64,
        (Format::I64, true) => x87::to_i64_trunc(v, env) as u64,
        (Format::F80, _) => return (v.mantissa, v.sign_exp),
        (Format::Bcd, _) => return split(x87::to_bcd(v, env)),
    };
    (low, 0)
}

/// FST, FSTP, FIST, FISTP, FISTTP, FBSTP memory.
#[inline(always)]
pub(super) fn store(cpu: &mut Vcpu, i: &Insn, f: Format, truncate: bool, pop: bool) -> R<()> {
    super::wait(cpu, i)?;
    let off = cpu.ea(i);
    let at = cpu.linear(i.seg, i.am, off, f.bytes(), Access::Write)?;
    let mut env = cpu.st.x87.env();
    let empty = cpu.st.x87.is_empty(0);
    let v = if empty { indefinite(f) } else { convert(cpu.st.x87.st(0), f, truncate, &mut env) };
    let masked = if empty { cpu.st.x87.cw & 1 != 0 } else { !env.store_suppressed() };
    if masked {
        write(cpu, i, at, f.bytes(), v)?;
    } else {
        // The operand is still checked: a page fault or an alignment check comes before the exception.
        cpu.probe(i.seg, at, f.bytes().into(), Access::Write)?;
        cpu.check_alignment(at, f.bytes())?;
    }
    note_memory(cpu, i, off);
    let s = &mut cpu.st.x87;
    if empty {
        s.fault(StackFault::Underflow);
    } else {
        s.conclude(&env);
    }
    if pop && masked {
        s.pop();
    }
    Ok(())
}

#[inline(always)]
fn write(cpu: &mut Vcpu, i: &Insn, at: u64, bytes: u32, (low, high): (u64, u16)) -> R<()> {
    match bytes {
        2 => cpu.write::<u16>(i.seg, at, low as u16),
        4 => cpu.write::<u32>(i.seg, at, low as u32),
        8 => cpu.write::<u64>(i.seg, at, low),
        _ => {
            cpu.probe(i.seg, at, 10, Access::Write)?;
            if cpu.mmu.probe(at, 10, Access::Write).is_err() {
                cpu.need_single()?;
            }
            cpu.write::<u64>(i.seg, at, low)?;
            cpu.write::<u16>(i.seg, at.wrapping_add(8), high)
        }
    }
}

/// FLD ST(n).
pub(super) fn load_register(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    if s.is_empty(i.rd) {
        if s.fault(StackFault::Underflow) {
            s.push(F80::INDEFINITE);
        }
        return Ok(());
    }
    let (v, env) = (s.st(i.rd), s.env());
    push(cpu, v, &env);
    Ok(())
}

/// FLD1, FLDZ, ...
#[inline(always)]
pub(super) fn load_constant(cpu: &mut Vcpu, i: &Insn, c: Constant) -> R<()> {
    begin(cpu, i)?;
    let env = cpu.st.x87.env();
    push(cpu, x87::constant(c, env.rounding), &env);
    Ok(())
}

/// FST, FSTP ST(n).
#[inline(always)]
pub(super) fn store_register(cpu: &mut Vcpu, i: &Insn, pop: bool) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    let v = if s.is_empty(0) {
        if !s.fault(StackFault::Underflow) {
            return Ok(());
        }
        F80::INDEFINITE
    } else {
        s.clear_c1();
        s.st(0)
    };
    s.set_st(i.rd, v);
    if pop {
        s.pop();
    }
    Ok(())
}

/// FSTPNCE: as FSTP ST(n), but an empty register moves without a stack fault.
pub(super) fn store_unchecked(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    let (v, empty) = (s.st(0), s.is_empty(0));
    s.set_st(i.rd, v);
    if empty {
        s.empty |= 1 << s.physical(i.rd);
    }
    s.pop();
    Ok(())
}

/// FXCH.
pub(super) fn exchange(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    let (a, b) = (s.is_empty(0), s.is_empty(i.rs));
    if a || b {
        if !s.fault(StackFault::Underflow) {
            return Ok(());
        }
        if a {
            s.set_st(0, F80::INDEFINITE);
        }
        if b {
            s.set_st(i.rs, F80::INDEFINITE);
        }
    } else {
        s.clear_c1();
    }
    let (a, b) = (s.st(0), s.st(i.rs));
    s.set_st(0, b);
    s.set_st(i.rs, a);
    Ok(())
}

/// FCMOVcc.
#[inline(always)]
pub(super) fn conditional_move(cpu: &mut Vcpu, i: &Insn, c: Cond) -> R<()> {
    begin(cpu, i)?;
    let holds = cpu.cond(c) != 0;
    let s = &mut cpu.st.x87;
    // Both registers must be valid, whatever the condition.
    if s.is_empty(0) || s.is_empty(i.rs) {
        if s.fault(StackFault::Underflow) {
            s.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    if holds {
        s.set_st(0, s.st(i.rs));
    }
    Ok(())
}

/// FCHS (true), FABS.
#[inline(always)]
pub(super) fn change_sign(cpu: &mut Vcpu, i: &Insn, negate: bool) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    let v = if s.is_empty(0) {
        if !s.fault(StackFault::Underflow) {
            return Ok(());
        }
        F80::INDEFINITE
    } else {
        s.clear_c1();
        if negate { s.st(0).neg() } else { s.st(0).abs() }
    };
    s.set_st(0, v);
    Ok(())
}
