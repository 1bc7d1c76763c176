//! Square root, rounding, remainders, and the transcendental instructions.

use super::stack::{StackFault, begin};
use crate::emit::R;
use crate::insn::Insn;
use crate::softfp::x87::{self, C2, Env, F80, Remainder};
use crate::vcpu::Vcpu;

/// ST(0) = f(ST(0)).
#[inline(always)]
pub(super) fn unary(cpu: &mut Vcpu, i: &Insn, f: impl FnOnce(F80, &mut Env) -> F80) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    if s.is_empty(0) {
        if s.fault(StackFault::Underflow) {
            s.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let mut env = s.env();
    let r = f(s.st(0), &mut env);
    if !env.suppressed() {
        s.set_st(0, r);
    }
    s.conclude(&env);
    Ok(())
}

/// Does an instruction on ST(0) and ST(1) find both? If not, and the fault is masked, `to` becomes indefinite.
fn both(cpu: &mut Vcpu, to: u8, pop: bool) -> bool {
    let s = &mut cpu.st.x87;
    if !s.is_empty(0) && !s.is_empty(1) {
        return true;
    }
    if s.fault(StackFault::Underflow) {
        s.set_st(to, F80::INDEFINITE);
        if pop {
            s.pop();
        }
    }
    false
}

/// ST(1) = f(ST(1), ST(0)), then pop: FYL2X, FYL2XP1, FPATAN.
#[inline(always)]
pub(super) fn binary_pop(cpu: &mut Vcpu, i: &Insn, f: impl FnOnce(F80, F80, &mut Env) -> F80) -> R<()> {
    begin(cpu, i)?;
    if !both(cpu, 1, true) {
        return Ok(());
    }
    let s = &mut cpu.st.x87;
    let mut env = s.env();
    let r = f(s.st(1), s.st(0), &mut env);
    if !env.suppressed() {
        s.set_st(1, r);
        s.pop();
    }
    s.conclude(&env);
    Ok(())
}

/// FSCALE.
pub(super) fn scale(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)?;
    if !both(cpu, 0, false) {
        return Ok(());
    }
    let s = &mut cpu.st.x87;
    let mut env = s.env();
    let r = x87::scale(s.st(0), s.st(1), &mut env);
    if !env.suppressed() {
        s.set_st(0, r);
    }
    s.conclude(&env);
    Ok(())
}

/// FPREM, FPREM1.
#[inline(always)]
pub(super) fn remainder(cpu: &mut Vcpu, i: &Insn, f: impl FnOnce(F80, F80, &mut Env) -> Remainder) -> R<()> {
    begin(cpu, i)?;
    // Complete, as far as a failed one tells; C0 and C3 stay then.
    cpu.st.x87.sw &= !C2;
    if !both(cpu, 0, false) {
        return Ok(());
    }
    let s = &mut cpu.st.x87;
    let mut env = s.env();
    let r = f(s.st(0), s.st(1), &mut env);
    if !env.suppressed() {
        s.set_st(0, r.value);
    }
    s.conclude(&env);
    if !env.suppressed() && !r.value.is_nan() {
        // C1 is a bit of the quotient here.
        s.set_codes(r.codes());
    }
    Ok(())
}

/// FSIN, FCOS.
#[inline(always)]
pub(super) fn trigonometric(cpu: &mut Vcpu, i: &Insn, f: impl FnOnce(F80, &mut Env) -> Option<F80>) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    if s.is_empty(0) {
        if s.fault(StackFault::Underflow) {
            s.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let mut env = s.env();
    let r = f(s.st(0), &mut env);
    s.sw &= !C2;
    match r {
        Some(r) if !env.suppressed() => s.set_st(0, r),
        Some(_) => {}
        None => s.sw |= C2,
    }
    s.conclude(&env);
    Ok(())
}

/// An instruction that replaces ST(0) by the first result and pushes the second: FSINCOS, FPTAN, FXTRACT.
#[inline(always)]
pub(super) fn replace_and_push(
    cpu: &mut Vcpu,
    i: &Insn,
    f: impl FnOnce(F80, &mut Env) -> Option<(F80, F80)>,
    sets_c2: bool,
) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    let stack = match (s.is_empty(0), s.is_full()) {
        (true, _) => Some(StackFault::Underflow),
        (_, true) => Some(StackFault::Overflow),
        _ => None,
    };
    if let Some(fault) = stack {
        if s.fault(fault) {
            s.set_st(0, F80::INDEFINITE);
            s.push(F80::INDEFINITE);
        }
        return Ok(());
    }
    let mut env = s.env();
    let r = f(s.st(0), &mut env);
    if sets_c2 {
        s.sw &= !C2;
    }
    match r {
        Some((first, second)) if !env.suppressed() => {
            s.set_st(0, first);
            s.push(second);
        }
        Some(_) => {}
        None => s.sw |= C2,
    }
    s.conclude(&env);
    Ok(())
}

/// FXTRACT's results in the order of [`replace_and_push`]: the exponent stays, the significand is pushed.
pub(super) fn extract(v: F80, env: &mut Env) -> Option<(F80, F80)> {
    let e = x87::extract(v, env);
    Some((e.exponent, e.significand))
}
