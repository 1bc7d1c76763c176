//! Guest general registers as SSA values within a block.
//!
//! A register is loaded once, kept as a value, and written back ("dirty") before anything that may look at the state:
//! a memory access whose slow path may leave the block, a handler, an exit.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use x86::insn::Width;

use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::off;

/// What is known of a register.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reg {
    /// Its 64 bits: a constant, an `i64`, or an `i32` above which all is zero.
    whole: Option<V>,
    /// Its low 32 bits, where `whole` is an `i64`.
    low: Option<Value>,
    /// Not in the state yet.
    dirty: bool,
}

fn place(r: u8) -> i32 {
    off::GPR + 8 * i32::from(r & 31)
}

impl Lifter<'_> {
    /// The register's low `w`.
    pub(super) fn read_gpr(&mut self, w: Width, r: u8) -> V {
        let k = r as usize & 15;
        if r as usize != k {
            return V::Const(0);
        }
        let whole = match self.regs[k].whole {
            Some(V::Const(c)) => return V::Const(c & w.mask()),
            Some(v) => v,
            None => {
                let v = V::Val(self.b.ins().load(types::I64, state_flags(), self.state, place(r)));
                self.regs[k].whole = Some(v);
                v
            }
        };
        match w {
            Width::Q => {
                let v = self.val(Width::Q, whole);
                let is_d = matches!(whole, V::Val(x) if self.b.func.dfg.value_type(x) == types::I32);
                if is_d {
                    self.regs[k].low = match whole {
                        V::Val(x) => Some(x),
                        _ => None,
                    };
                    self.regs[k].whole = Some(V::Val(v));
                }
                V::Val(v)
            }
            Width::D => {
                if let Some(low) = self.regs[k].low {
                    return V::Val(low);
                }
                let v = self.val(Width::D, whole);
                self.regs[k].low = Some(v);
                V::Val(v)
            }
            w => V::Val(self.val(w, whole)),
        }
    }

    /// Writes the register: 32 bits zero-extend, 8 and 16 bits keep the rest.
    pub(super) fn write_gpr(&mut self, w: Width, r: u8, v: V) {
        let k = r as usize & 15;
        let whole = match (w, v) {
            (Width::Q | Width::D, V::Const(c)) => V::Const(c & w.mask()),
            (Width::Q | Width::D, v) => V::Val(self.val(w, v)),
            (w, v) => {
                let old = self.read_gpr(Width::Q, r);
                self.merge(old, v, w, 0)
            }
        };
        self.regs[k] = Reg { whole: Some(whole), low: None, dirty: true };
    }

    /// Writes AH, CH, DH or BH.
    pub(super) fn write_high(&mut self, r: u8, v: V) {
        let old = self.read_gpr(Width::Q, r & 3);
        let whole = self.merge(old, v, Width::B, 8);
        self.regs[r as usize & 3] = Reg { whole: Some(whole), low: None, dirty: true };
    }

    /// `old` with `w` bits at `shift` replaced by `v`.
    fn merge(&mut self, old: V, v: V, w: Width, shift: u32) -> V {
        let mask = w.mask() << shift;
        match (old, v) {
            (V::Const(o), V::Const(n)) => V::Const(o & !mask | (n & w.mask()) << shift),
            (old, v) => {
                let o = self.val(Width::Q, old);
                let o = self.b.ins().band_imm_s(o, !mask as i64);
                let v = self.narrow(w, v);
                let n = self.val(Width::Q, v);
                let n = if shift == 0 { n } else { self.b.ins().ishl_imm_s(n, i64::from(shift)) };
                V::Val(self.b.ins().bor(o, n))
            }
        }
    }

    /// At exactly the width, so that a widening clears what is above.
    fn narrow(&mut self, w: Width, v: V) -> V {
        match v {
            V::Const(c) => V::Const(c & w.mask()),
            v => V::Val(self.val(w, v)),
        }
    }

    /// Emits the stores of all dirty registers; what is known about them stays.
    pub(super) fn emit_dirty(&mut self) {
        for r in 0..16u8 {
            let reg = self.regs[r as usize];
            if let (true, Some(v)) = (reg.dirty, reg.whole) {
                let v = self.val(Width::Q, v);
                self.b.ins().store(state_flags(), v, self.state, place(r));
            }
        }
    }

    /// Writes everything back, on the path that goes on.
    pub(super) fn write_back(&mut self) {
        for r in 0..16u8 {
            if self.regs[r as usize].dirty {
                // Widens an `i32` once and remembers it.
                let v = self.read_gpr(Width::Q, r);
                let v = self.val(Width::Q, v);
                self.b.ins().store(state_flags(), v, self.state, place(r));
                self.regs[r as usize].dirty = false;
            }
        }
    }

    /// Forgets everything: something else may have written the registers. All were written back before.
    pub(super) fn forget_regs(&mut self) {
        debug_assert!(self.regs.iter().all(|r| !r.dirty));
        self.regs = Default::default();
    }
}
