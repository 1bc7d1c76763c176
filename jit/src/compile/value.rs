//! Values of the compiler: Cranelift values with what is known about them at compile time.
//!
//! Constants stay constants and comparisons stay comparisons until something needs them in a register, so that conditions
//! fuse with branches and selects without help from the optimiser (which may be off).

use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use x86::insn::Width;

use super::Lifter;

/// A guest value.
#[derive(Clone, Copy, Debug)]
pub enum V {
    /// An integer of any width; the operation that uses it converts.
    Val(Value),
    /// A constant, masked to its width.
    Const(u64),
    /// 0 or 1.
    Cmp(IntCC, Value, Value),
    /// 0 or 1: CF as the block found it, not evaluated yet.
    EntryCarry,
}

/// The type of a width.
pub fn ty(w: Width) -> Type {
    match w {
        Width::B => types::I8,
        Width::W => types::I16,
        Width::D => types::I32,
        Width::Q => types::I64,
    }
}

impl Lifter<'_> {
    /// The value in a register, at width `w`.
    pub(super) fn val(&mut self, w: Width, v: V) -> Value {
        let t = ty(w);
        match v {
            V::Const(c) => self.b.ins().iconst(t, (c & w.mask()) as i64),
            V::Val(v) => self.resize(t, v),
            V::Cmp(cc, a, b) => {
                let v = self.b.ins().icmp(cc, a, b);
                self.resize(t, v)
            }
            V::EntryCarry => {
                let v = self.entry_carry();
                self.resize(t, v)
            }
        }
    }

    /// Zero-extends or truncates; floating-point values give their bits.
    pub(super) fn resize(&mut self, t: Type, v: Value) -> Value {
        let from = self.b.func.dfg.value_type(v);
        if from.is_float() {
            let bits = if from == types::F32 { types::I32 } else { types::I64 };
            let v = self.b.ins().bitcast(bits, MemFlagsData::new(), v);
            return self.resize(t, v);
        }
        match from.bits().cmp(&t.bits()) {
            std::cmp::Ordering::Equal => v,
            std::cmp::Ordering::Less => self.b.ins().uextend(t, v),
            std::cmp::Ordering::Greater => self.b.ins().ireduce(t, v),
        }
    }

    /// A value for memory, at width `w`: floating-point values stay what they are.
    pub(super) fn memory_val(&mut self, w: Width, v: V) -> Value {
        match v {
            V::Val(x)
                if self.b.func.dfg.value_type(x).is_float()
                    && self.b.func.dfg.value_type(x).bits() == w.bits() =>
            {
                x
            }
            v => self.val(w, v),
        }
    }

    /// A condition for `brif` and `select`: any integer, not zero means true.
    pub(super) fn truth(&mut self, v: V) -> Value {
        match v {
            V::Val(v) => v,
            v => self.val(Width::B, v),
        }
    }

    /// `a op b` with folding; `commutes` moves a constant to the right, where hosts take immediates.
    pub(super) fn binary(
        &mut self,
        w: Width,
        a: V,
        b: V,
        commutes: bool,
        fold: fn(u64, u64) -> u64,
        emit: fn(&mut Self, Value, Value) -> Value,
    ) -> V {
        match (a, b) {
            (V::Const(x), V::Const(y)) => V::Const(fold(x & w.mask(), y & w.mask()) & w.mask()),
            (V::Const(_), b) if commutes => {
                let y = self.val(w, a);
                let x = self.val(w, b);
                V::Val(emit(self, x, y))
            }
            _ => {
                let x = self.val(w, a);
                let y = self.val(w, b);
                V::Val(emit(self, x, y))
            }
        }
    }

    /// Are both certainly the same value of the same width?
    pub(super) fn same(a: V, b: V) -> bool {
        matches!((a, b), (V::Val(x), V::Val(y)) if x == y)
    }

    /// A comparison with folding.
    pub(super) fn compare(&mut self, cc: IntCC, w: Width, a: V, b: V) -> V {
        if let (V::Const(x), V::Const(y)) = (a, b) {
            let (x, y) = (x & w.mask(), y & w.mask());
            let (sx, sy) = (w.sext(x) as i64, w.sext(y) as i64);
            return V::Const(u64::from(match cc {
                IntCC::Equal => x == y,
                IntCC::UnsignedLessThan => x < y,
                _ => sx < sy,
            }));
        }
        // The answer of a comparison against 0 or 1 is the comparison or its opposite.
        if let (V::Cmp(c, x, y), IntCC::Equal, V::Const(k @ (0 | 1))) = (a, cc, b) {
            return V::Cmp(if k == 1 { c } else { c.complement() }, x, y);
        }
        if let (V::Const(_), cc) = (a, cc) {
            let y = self.val(w, a);
            let x = self.val(w, b);
            return V::Cmp(cc.swap_args(), x, y);
        }
        let x = self.val(w, a);
        let y = self.val(w, b);
        V::Cmp(cc, x, y)
    }
}
