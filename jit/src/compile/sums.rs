//! Sums of a value and a constant, by their parts.
//!
//! Addresses are made of few registers that move by constants (`add rsi, 8` between `[rsi]` and `[rsi - 8]`): the same sum is
//! the same Cranelift value, so that what was computed of an address serves all accesses there, without the help of an
//! optimiser.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Lifter;

/// `sum = base + k`, 64 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    sum: Value,
    base: Value,
    k: i64,
}

/// Looking further back costs more than it finds.
const RECENT: usize = 16;

impl Lifter<'_> {
    /// `v + k` for a 64-bit value.
    pub(super) fn plus(&mut self, v: Value, k: i64) -> Value {
        debug_assert_eq!(self.b.func.dfg.value_type(v), types::I64);
        let recent = || self.sums.iter().rev().take(RECENT);
        let (base, k) = recent().find(|s| s.sum == v).map_or((v, k), |s| (s.base, s.k.wrapping_add(k)));
        if k == 0 {
            return base;
        }
        if let Some(known) = recent().find(|s| (s.base, s.k) == (base, k)) {
            return known.sum;
        }
        let sum = self.b.ins().iadd_imm_s(base, k);
        // What a cold path computes is not there on the other paths.
        if !self.in_cold {
            self.sums.push(Sum { sum, base, k });
        }
        sum
    }
}
