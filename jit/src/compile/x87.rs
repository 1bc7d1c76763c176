//! The compiler as an [`X87Emitter`]: the x87's registers stay in the state, TOP is looked at by every instruction.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use x86::emit::{Addr, R};
use x86::insn::{Insn, Width};
use x86::state::seg;
use x86::x87::lift::{Number, X87Emitter};

use super::memory::Want;
use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::off;

impl Lifter<'_> {
    /// The address of element `r` of an array in the state, less the array's offset.
    fn element(&mut self, r: V, log_size: i64) -> Value {
        let r = self.val(Width::Q, r);
        let at = self.b.ins().ishl_imm_s(r, log_size);
        self.b.ins().iadd(self.state, at)
    }

    fn copy_selector(&mut self, s: u8, to: i32) {
        let from = off::SEG + off::SEG_SIZE * i32::from(s) + off::SEG_SELECTOR;
        let selector = self.b.ins().load(types::I16, state_flags(), self.state, from);
        self.b.ins().store(state_flags(), selector, self.state, to);
    }
}

impl X87Emitter for Lifter<'_> {
    fn refuse_if(&mut self, c: V) -> R<()> {
        self.redo_if(c);
        Ok(())
    }
    fn x87_status(&mut self) -> V {
        V::Val(self.b.ins().load(types::I16, state_flags(), self.state, off::X87_SW))
    }
    fn set_x87_status(&mut self, sw: V) {
        let sw = self.val(Width::W, sw);
        self.b.ins().store(state_flags(), sw, self.state, off::X87_SW);
    }
    fn x87_empty(&mut self) -> V {
        V::Val(self.b.ins().load(types::I8, state_flags(), self.state, off::X87_EMPTY))
    }
    fn set_x87_empty(&mut self, empty: V) {
        let empty = self.val(Width::B, empty);
        self.b.ins().store(state_flags(), empty, self.state, off::X87_EMPTY);
    }
    fn x87_register(&mut self, r: V) -> Number<V> {
        let at = self.element(r, 3);
        let mantissa = self.b.ins().load(types::I64, state_flags(), at, off::X87_MANT);
        let at = self.element(r, 1);
        let sign_exp = self.b.ins().load(types::I16, state_flags(), at, off::X87_SEXP);
        (V::Val(mantissa), V::Val(sign_exp))
    }
    fn set_x87_register(&mut self, r: V, (mantissa, sign_exp): Number<V>) {
        let (mantissa, sign_exp) = (self.val(Width::Q, mantissa), self.val(Width::W, sign_exp));
        let at = self.element(r, 3);
        self.b.ins().store(state_flags(), mantissa, at, off::X87_MANT);
        let at = self.element(r, 1);
        self.b.ins().store(state_flags(), sign_exp, at, off::X87_SEXP);
    }
    fn x87_note(&mut self, i: &Insn, offset: Option<V>) {
        let ip = self.b.ins().iconst(types::I64, i.ip as i64);
        self.b.ins().store(state_flags(), ip, self.state, off::X87_FIP);
        let opcode = self.b.ins().iconst(types::I16, i.imm as i64 & 0xffff);
        self.b.ins().store(state_flags(), opcode, self.state, off::X87_FOP);
        self.copy_selector(seg::CS, off::X87_FCS);
        if let Some(offset) = offset {
            let offset = self.val(Width::Q, offset);
            self.b.ins().store(state_flags(), offset, self.state, off::X87_FDP);
            self.copy_selector(i.seg % 6, off::X87_FDS);
        }
    }
    fn load_extended(&mut self, at: Addr<V>) -> R<Number<V>> {
        let va = self.linear(at)?;
        let host = self.host(va, 10, Want::Read);
        let mantissa = self.load_host(types::I64, host);
        let sign_exp = self.load_host_at(types::I16, host, 8);
        self.after_plain_load();
        Ok((V::Val(mantissa), V::Val(sign_exp)))
    }
    fn store_extended(&mut self, at: Addr<V>, (mantissa, sign_exp): Number<V>) -> R<()> {
        let (mantissa, sign_exp) = (self.val(Width::Q, mantissa), self.val(Width::W, sign_exp));
        let va = self.linear(at)?;
        let host = self.host(va, 10, Want::WriteTen(mantissa, sign_exp));
        self.before_plain_store(at.order);
        self.store_host(mantissa, host);
        self.store_host_at(sign_exp, host, 8);
        Ok(())
    }
}
