//! The register stack, tags, and what exceptions do to the status word.

use crate::emit::R;
use crate::insn::Insn;
use crate::softfp::IE;
use crate::softfp::x87::{C0, C1, C2, C3, Env, F80};
use crate::state::{X87, seg};
use crate::vcpu::Vcpu;

/// Status word: an unmasked exception is pending (error summary).
pub const ES: u16 = 1 << 7;
/// Status word: stack fault.
pub const SF: u16 = 1 << 6;
/// Status word: busy, a copy of [`ES`].
pub const BUSY: u16 = 1 << 15;
/// Status word: TOP.
pub const TOP_MASK: u16 = 7 << 11;
/// The condition codes.
pub const CODES: u16 = C0 | C1 | C2 | C3;

/// Which way the stack failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StackFault {
    Underflow,
    Overflow,
}

impl X87 {
    /// Physical register of ST(n).
    #[inline(always)]
    pub(super) fn physical(&self, n: u8) -> usize {
        ((self.sw >> 11) as u8).wrapping_add(n) as usize & 7
    }
    #[inline(always)]
    pub(super) fn is_empty(&self, n: u8) -> bool {
        // Not a shift: that becomes a bit test of 32 bits of memory, which cannot forward from the last byte store.
        self.empty.rotate_right(self.physical(n) as u32) & 1 != 0
    }
    #[inline(always)]
    pub(super) fn st(&self, n: u8) -> F80 {
        let p = self.physical(n);
        F80 { mantissa: self.mant[p], sign_exp: self.sexp[p] }
    }
    /// Writes ST(n) and makes it valid.
    #[inline(always)]
    pub(super) fn set_st(&mut self, n: u8, v: F80) {
        let p = self.physical(n);
        self.mant[p] = v.mantissa;
        self.sexp[p] = v.sign_exp;
        self.empty &= !(1 << p);
    }
    #[inline(always)]
    pub(super) fn rotate(&mut self, by: u16) {
        self.sw = self.sw & !TOP_MASK | self.sw.wrapping_add(by << 11) & TOP_MASK;
    }
    #[inline(always)]
    pub(super) fn pop(&mut self) {
        self.empty |= 1 << self.physical(0);
        self.rotate(1);
    }
    /// Pushes; the caller has checked for overflow.
    #[inline(always)]
    pub(super) fn push(&mut self, v: F80) {
        self.rotate(7);
        self.set_st(0, v);
    }
    /// Would a push overflow?
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        !self.is_empty(7)
    }
    #[inline(always)]
    pub(super) fn env(&self) -> Env {
        Env::new(self.cw)
    }
    /// Flags and C1 of a completed operation reach the status word.
    #[inline(always)]
    pub(super) fn conclude(&mut self, env: &Env) {
        self.sw = self.sw & !C1 | u16::from(env.flags) | u16::from(env.c1) << 9;
        if env.unmasked() {
            self.sw |= ES | BUSY;
        }
    }
    pub(super) fn set_codes(&mut self, codes: u16) {
        self.sw = self.sw & !CODES | codes;
    }
    pub(super) fn clear_c1(&mut self) {
        self.sw &= !C1;
    }
    /// Raises a stack fault. `true`: it is masked, the instruction goes on with the indefinite value.
    #[cold]
    pub(super) fn fault(&mut self, f: StackFault) -> bool {
        let mut env = self.env();
        env.flags = IE;
        env.c1 = f == StackFault::Overflow;
        self.sw |= SF;
        self.conclude(&env);
        !env.unmasked()
    }
    /// ES and B follow from the flags and the masks.
    pub(super) fn summarize(&mut self) {
        if self.sw & !self.cw & 0x3f != 0 {
            self.sw |= ES | BUSY;
        } else {
            self.sw &= !(ES | BUSY);
        }
    }
}

/// Notes the pointers of a non-control instruction without a memory operand.
#[inline(always)]
pub(super) fn note(cpu: &mut Vcpu, i: &Insn) {
    let s = &mut cpu.st;
    s.x87.fip = i.ip;
    s.x87.fcs = s.seg[seg::CS as usize].selector;
    s.x87.fop = i.imm as u16;
}

/// Notes the pointers of an instruction with a memory operand at offset `off`.
#[inline(always)]
pub(super) fn note_memory(cpu: &mut Vcpu, i: &Insn, off: u64) {
    note(cpu, i);
    cpu.st.x87.fdp = off;
    cpu.st.x87.fds = cpu.st.seg[i.seg as usize % 6].selector;
}

/// The start of an instruction on registers: pending exceptions, then the pointers.
#[inline(always)]
pub(super) fn begin(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    super::wait(cpu, i)?;
    note(cpu, i);
    Ok(())
}

/// A physical register R0..R7 (FXSAVE stores ST(n): add TOP).
pub fn get_physical(f: &X87, r: u8) -> (u64, u16) {
    (f.mant[r as usize & 7], f.sexp[r as usize & 7])
}

/// Writes a physical register; its tag stays.
pub fn set_physical(f: &mut X87, r: u8, mantissa: u64, sign_exp: u16) {
    f.mant[r as usize & 7] = mantissa;
    f.sexp[r as usize & 7] = sign_exp;
}

/// FXSAVE's tag byte: bit n set for a valid physical register n.
pub fn abridged_tag(f: &X87) -> u8 {
    !f.empty
}

/// Sets the tags from FXRSTOR's tag byte.
pub fn set_abridged_tag(f: &mut X87, tag: u8) {
    f.empty = !tag;
}

/// The tag word (SDM vol. 1, 8.1.7): two bits per physical register, worked out from the contents.
pub fn full_tag_word(f: &X87) -> u16 {
    let tag = |r: usize| {
        if f.empty >> r & 1 != 0 {
            return 3;
        }
        match (f.sexp[r] & 0x7fff, f.mant[r]) {
            (0, 0) => 1,
            (1..0x7fff, m) if m >> 63 != 0 => 0,
            _ => 2,
        }
    };
    (0..8).fold(0, |w, r| w | tag(r) << (2 * r))
}
