//! Tier 0's side of [`X87Emitter`].

use super::lift::{Number, X87Emitter};
use super::stack::{note, note_memory};
use crate::emit::{Addr, R, Stop};
use crate::insn::{AddrMode, Insn};
use crate::vcpu::Vcpu;

impl Vcpu {
    /// The linear address of an operand whose segment cannot fault.
    #[inline(always)]
    fn unchecked(&self, at: Addr<u64>) -> R<u64> {
        match at.mode {
            AddrMode::Flat => Ok(at.off),
            AddrMode::Base => Ok(at.off.wrapping_add(self.st.seg[at.seg as usize].base)),
            AddrMode::Checked => Err(Stop),
        }
    }
}

impl X87Emitter for Vcpu {
    #[inline(always)]
    fn refuse_if(&mut self, c: u64) -> R<()> {
        if c == 0 { Ok(()) } else { Err(Stop) }
    }
    #[inline(always)]
    fn x87_status(&mut self) -> u64 {
        self.st.x87.sw.into()
    }
    #[inline(always)]
    fn set_x87_status(&mut self, sw: u64) {
        self.st.x87.sw = sw as u16;
    }
    #[inline(always)]
    fn x87_empty(&mut self) -> u64 {
        self.st.x87.empty.into()
    }
    #[inline(always)]
    fn set_x87_empty(&mut self, empty: u64) {
        self.st.x87.empty = empty as u8;
    }
    #[inline(always)]
    fn x87_register(&mut self, r: u64) -> Number<u64> {
        let r = r as usize & 7;
        (self.st.x87.mant[r], self.st.x87.sexp[r].into())
    }
    #[inline(always)]
    fn set_x87_register(&mut self, r: u64, (mantissa, sign_exp): Number<u64>) {
        let r = r as usize & 7;
        self.st.x87.mant[r] = mantissa;
        self.st.x87.sexp[r] = sign_exp as u16;
    }
    #[inline(always)]
    fn x87_note(&mut self, i: &Insn, off: Option<u64>) {
        match off {
            Some(off) => note_memory(self, i, off),
            None => note(self, i),
        }
    }
    #[inline(always)]
    fn load_extended(&mut self, at: Addr<u64>) -> R<Number<u64>> {
        let at = self.unchecked(at)?;
        let (mantissa, sign_exp) = self.mmu.read_hit80(at).ok_or(Stop)?;
        Ok((mantissa, sign_exp.into()))
    }
    #[inline(always)]
    fn store_extended(&mut self, at: Addr<u64>, (mantissa, sign_exp): Number<u64>) -> R<()> {
        let at = self.unchecked(at)?;
        if self.mmu.write_hit80(at, mantissa, sign_exp as u16) { Ok(()) } else { Err(Stop) }
    }
}
