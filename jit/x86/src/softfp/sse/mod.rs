//! The scalar SSE/AVX floating-point kernels on raw bits: `u32` holds a single, `u64` a double.
//!
//! Requirement: the bits and the MXCSR flags of an x86 processor, on every host. Solution: host `f32`/`f64` operations
//! where rounding is to nearest and operands and result are normal (or exact zeros), for there IEEE 754 fixes the
//! result and only PE can be raised; integer code (`soft`) for the rest. PE costs a check of the residue, skipped when
//! PE is sticky already and masked, which is the usual state of a running program.
//! Limitation: directed rounding always takes the integer code.
//!
//! Packed instructions call a kernel per element with one [`MxEnv`], then [`MxEnv::commit`].

mod approximate;
mod arith;
mod compare;
mod convert;
mod half;
mod integer;
mod number;
mod soft;

pub use approximate::{rcp32, rsqrt32};
pub use arith::{
    FmaSign, add32, add64, div32, div64, fma_op32, fma_op64, fma32, fma64, mul32, mul64, sqrt32, sqrt64,
    sub32, sub64,
};
pub use compare::{cmp32, cmp64, comi32, comi64, max32, max64, min32, min64, ucomi32, ucomi64};
pub use convert::{f32_to_f64, f64_to_f32, i32_to_f32, i32_to_f64, i64_to_f32, i64_to_f64};
pub use half::{f16_to_f32, f32_to_f16};
pub use integer::{
    f32_to_i32, f32_to_i32_trunc, f32_to_i64, f32_to_i64_trunc, f64_to_i32, f64_to_i32_trunc, f64_to_i64,
    f64_to_i64_trunc, round32, round64,
};

use super::{ALL_EXCEPTIONS, PE, PRE_COMPUTATION, Round};

/// What the instructions take from MXCSR and give back to it.
#[derive(Clone, Copy, Debug)]
pub struct MxEnv {
    pub rounding: Round,
    /// Denormals are zeros: denormal operands count as zeros of their sign.
    pub daz: bool,
    /// Flush to zero: tiny results become zeros of their sign (only while underflow is masked).
    pub ftz: bool,
    /// Masked exceptions, MXCSR bits 7-12.
    pub masks: u8,
    /// Exceptions raised, MXCSR bits 0-5.
    pub flags: u8,
}

impl MxEnv {
    /// From MXCSR. `flags` starts as the sticky flags whose exceptions are masked: they cannot fault, and knowing PE
    /// makes the kernels faster.
    #[inline]
    pub const fn new(mxcsr: u32) -> Self {
        let masks = (mxcsr >> 7 & 0x3f) as u8;
        Self {
            rounding: Round::from_bits((mxcsr >> 13) as u8),
            daz: mxcsr & 1 << 6 != 0,
            ftz: mxcsr & 1 << 15 != 0,
            masks,
            flags: mxcsr as u8 & masks,
        }
    }

    /// Whether an unmasked exception was raised: #XM, and no destination is written.
    #[inline]
    pub const fn faulted(&self) -> bool {
        self.flags & !self.masks != 0
    }

    /// Whether an unmasked exception was raised before anything was computed.
    #[inline]
    const fn suppressed(&self) -> bool {
        self.flags & !self.masks & PRE_COMPUTATION != 0
    }

    /// The MXCSR after the instruction, whether it faulted or not. If an element raised an unmasked IE, DE or ZE,
    /// nothing is computed for any element, and OE, UE and PE are not updated (SDM vol. 1, 11.5.4).
    #[inline]
    pub const fn commit(&self, mxcsr: u32) -> u32 {
        let reported = if self.suppressed() { PRE_COMPUTATION } else { ALL_EXCEPTIONS };
        mxcsr | (self.flags & reported) as u32
    }

    #[inline(always)]
    const fn raise(&mut self, flags: u8) {
        self.flags |= flags;
    }

    /// Whether PE need not be worked out: it is set, and was or will be no fault.
    #[inline(always)]
    const fn precision_known(&self) -> bool {
        self.flags & self.masks & PE != 0
    }

    #[inline(always)]
    const fn nearest(&self) -> bool {
        matches!(self.rounding, Round::Nearest)
    }
}
