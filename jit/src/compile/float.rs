//! Floating point on the host.
//!
//! Requirement: the same bits and the same MXCSR flags as tier 0, whatever the host.
//!
//! Solution: host arithmetic is used only while MXCSR asks for the default (round to nearest, all exceptions masked; looked at
//! once, where the block is entered), and only for results that are finite; anything else leaves the block before the
//! instruction, and tier 0 does it. That disposes of NaN payloads and of the sign of default NaNs.
//! * On x86 hosts the guest's sticky flags are the host's own while generated code runs (see `thunks::guest_flags`): PE, DE,
//!   OE, UE and ZE follow by themselves. Nothing here may use a host instruction that sets a flag which the guest's
//!   instruction would not, such as a comparison of a denormal result with itself: checks work on the bits.
//! * Elsewhere flags are not the same as x86's: operands must be normal or zero, results normal (or an exact zero), so
//!   that only PE can arise, which is the host's "inexact".
//!
//! Every operation's result feeds its check, so that none is removed as dead with its flags; and no constant is a
//! floating-point constant for Cranelift, so that none is folded.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use x86::emit::{R, Stop};
use x86::insn::{Cond, Width};
use x86::vec::{Cvt, FmaOp, FpOp, Prec};

use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::off;
use crate::tb::{MXCSR_CONTROL, MXCSR_DEFAULT};

/// The least exponent field of a result whose rounding was not that of a tiny one.
const SAFE_EXPONENT: i64 = 2;
/// `scratch` slot that nothing reads.
const SCRATCH_SPARE: i32 = 2;

fn scalar(p: Prec) -> Type {
    match p {
        Prec::F32 => types::F32,
        Prec::F64 => types::F64,
    }
}

pub(super) fn vector(p: Prec) -> Type {
    match p {
        Prec::F32 => types::F32X4,
        Prec::F64 => types::F64X2,
    }
}

/// Exponent field: shift and mask.
pub(super) fn exponent(p: Prec) -> (i64, i64) {
    match p {
        Prec::F32 => (23, 0xff),
        Prec::F64 => (52, 0x7ff),
    }
}

/// What a predicate of CMPPD (SDM, table 3-1) asks of operands that are ordered: those from 8 on differ for others only.
pub(super) fn ordered_relation(predicate: u8) -> R<FloatCC> {
    Ok(match predicate & 15 {
        0 | 8 => FloatCC::Equal,
        1 | 9 => FloatCC::LessThan,
        2 | 10 => FloatCC::LessThanOrEqual,
        4 | 12 => FloatCC::NotEqual,
        5 | 13 => FloatCC::GreaterThanOrEqual,
        6 | 14 => FloatCC::GreaterThan,
        // (Un)ordered, false and true do without the operands' values.
        _ => return Err(Stop),
    })
}

impl Lifter<'_> {
    /// At the entry of a block with floating-point arithmetic: back to the dispatcher, which uses tier 0, unless MXCSR is the
    /// default.
    pub(super) fn check_fp(&mut self) {
        let control = self.b.ins().load(types::I32, state_flags(), self.state, off::MXCSR);
        let control = self.b.ins().band_imm_s(control, i64::from(MXCSR_CONTROL));
        let good = self.b.ins().icmp_imm_s(IntCC::Equal, control, i64::from(MXCSR_DEFAULT));
        let (bad, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(bad);
        self.b.ins().brif(good, go_on, &[], bad, &[]);
        self.b.switch_to_block(bad);
        let rip = self.b.ins().iconst(types::I64, self.tb.block.ip as i64);
        self.b.ins().store(state_flags(), rip, self.state, off::RIP);
        self.leave();
        self.b.switch_to_block(go_on);
    }

    /// The value as a floating-point scalar.
    pub(super) fn float(&mut self, p: Prec, v: V) -> Value {
        if let V::Val(x) = v
            && self.b.func.dfg.value_type(x) == scalar(p)
        {
            return x;
        }
        let bits = self.val(p.width(), v);
        self.b.ins().bitcast(scalar(p), MemFlagsData::new(), bits)
    }

    /// The exponent field of a scalar.
    fn exponent_of(&mut self, p: Prec, v: V) -> Value {
        let bits = self.val(p.width(), v);
        let (shift, mask) = exponent(p);
        let e = self.b.ins().ushr_imm_s(bits, shift);
        self.b.ins().band_imm_s(e, mask)
    }

    /// Leaves the block if the scalar is infinite or a NaN.
    pub(super) fn finite(&mut self, p: Prec, v: V) {
        let e = self.exponent_of(p, v);
        let bad = self.b.ins().icmp_imm_s(IntCC::Equal, e, exponent(p).1);
        self.redo_if(V::Val(bad));
    }

    /// Is the exponent field of the scalar below `least`, or that of infinities and NaNs?
    fn outside(&mut self, p: Prec, v: V, least: i64) -> Value {
        let e = self.exponent_of(p, v);
        let e = self.b.ins().iadd_imm_s(e, -least);
        self.b.ins().icmp_imm_s(IntCC::UnsignedGreaterThanOrEqual, e, exponent(p).1 - least)
    }

    /// Leaves the block unless the exponent field of the scalar is at least `least` (and finite), or the scalar zero.
    fn inside_or_zero(&mut self, p: Prec, v: V, least: i64) {
        let odd = self.outside(p, v, least);
        let bits = self.val(p.width(), v);
        let size = self.b.ins().ishl_imm_s(bits, 1);
        let not_zero = self.b.ins().icmp_imm_s(IntCC::NotEqual, size, 0);
        let bad = self.b.ins().band(odd, not_zero);
        self.redo_if(V::Val(bad));
    }

    /// Leaves the block if the scalar is neither normal nor zero.
    fn normal_or_zero(&mut self, p: Prec, v: V) {
        self.inside_or_zero(p, v, 1);
    }

    /// Leaves the block if the rounded scalar may have been tiny: among the smallest normal numbers that depends on how it was
    /// rounded.
    fn safe(&mut self, p: Prec, v: V) {
        let bad = self.outside(p, v, SAFE_EXPONENT);
        self.redo_if(V::Val(bad));
    }

    pub(super) fn float_scalar(&mut self, op: FpOp, p: Prec, a: V, b: V) -> R<V> {
        if matches!(op, FpOp::Rcp | FpOp::Rsqrt | FpOp::AddSub) {
            return Err(Stop);
        }
        let (x, y) = (self.float(p, a), self.float(p, b));
        let (a, b) = (V::Val(x), V::Val(y));
        if !self.host_flags {
            if op != FpOp::Sqrt {
                self.normal_or_zero(p, a);
            }
            self.normal_or_zero(p, b);
        }
        let r = match op {
            FpOp::Add => self.b.ins().fadd(x, y),
            FpOp::Sub => self.b.ins().fsub(x, y),
            FpOp::Mul => self.b.ins().fmul(x, y),
            FpOp::Div => self.b.ins().fdiv(x, y),
            FpOp::Sqrt => self.b.ins().sqrt(y),
            _ => {
                // MINSD: a < b ? a : b, for operands that are numbers.
                self.ordered(p, a, b);
                let less = self.b.ins().fcmp(FloatCC::LessThan, x, y);
                let more = self.b.ins().fcmp(FloatCC::GreaterThan, x, y);
                let c = if op == FpOp::Min { less } else { more };
                return Ok(V::Val(self.b.ins().select(c, x, y)));
            }
        };
        match op {
            _ if self.host_flags => self.finite(p, V::Val(r)),
            // Sums of normal numbers: a zero is exact.
            FpOp::Add | FpOp::Sub | FpOp::Sqrt => self.normal_or_zero(p, V::Val(r)),
            _ => self.safe(p, V::Val(r)),
        }
        Ok(V::Val(r))
    }

    /// `a * b + c` with one rounding. The signs of product and addend are turned on the bits: no operand can be a NaN where the
    /// result is finite.
    pub(super) fn float_fma(&mut self, op: FmaOp, p: Prec, abc: [V; 3]) -> R<V> {
        if !self.host_fma {
            return Err(Stop);
        }
        let [x, y, z] = abc.map(|v| self.float(p, v));
        if !self.host_flags {
            for v in [x, y, z] {
                self.normal_or_zero(p, V::Val(v));
            }
        }
        let (negate_product, negate_addend) = op.negates();
        let x = if negate_product { self.b.ins().fneg(x) } else { x };
        let z = if negate_addend { self.b.ins().fneg(z) } else { z };
        let r = self.b.ins().fma(x, y, z);
        if self.host_flags {
            self.finite(p, V::Val(r))
        } else {
            self.safe(p, V::Val(r))
        }
        Ok(V::Val(r))
    }

    /// Leaves the block unless both are numbers, and (where the host's flags are not x86's) not denormal. What compares them
    /// next notes denormal operands, as UCOMISD does here.
    fn ordered(&mut self, p: Prec, a: V, b: V) {
        if self.host_flags {
            let (x, y) = (self.float(p, a), self.float(p, b));
            let unordered = self.b.ins().fcmp(FloatCC::Unordered, x, y);
            return self.redo_if(V::Val(unordered));
        }
        for v in [a, b] {
            self.normal_or_zero(p, v);
        }
    }

    pub(super) fn float_cmp(&mut self, p: Prec, predicate: u8, a: V, b: V) -> R<V> {
        let cc = ordered_relation(predicate)?;
        let (x, y) = (self.float(p, a), self.float(p, b));
        self.ordered(p, V::Val(x), V::Val(y));
        let c = self.b.ins().fcmp(cc, x, y);
        let ones = self.val(p.width(), V::Const(p.width().mask()));
        let zero = self.val(p.width(), V::Const(0));
        Ok(V::Val(self.b.ins().select(c, ones, zero)))
    }

    pub(super) fn float_flags(&mut self, p: Prec, a: V, b: V) -> R<V> {
        let (x, y) = (self.float(p, a), self.float(p, b));
        // A denormal operand is noted in MXCSR by this, though nobody may look at the flags.
        self.ordered(p, V::Val(x), V::Val(y));
        let less = self.b.ins().fcmp(FloatCC::LessThan, x, y);
        let equal = self.relation(FloatCC::Equal, x, y);
        let cf = self.b.ins().uextend(types::I32, less);
        let zf = self.b.ins().uextend(types::I32, equal);
        let zf = self.b.ins().ishl_imm_s(zf, 6);
        let flags = self.b.ins().bor(cf, zf);
        self.compared = Some((flags, x, y));
        Ok(V::Val(flags))
    }

    /// Compares two numbers that are ordered; x86 hosts have single conditions for those that let unordered ones pass.
    fn relation(&mut self, cc: FloatCC, x: Value, y: Value) -> Value {
        let cc = match cc {
            FloatCC::Equal if self.host_flags => FloatCC::UnorderedOrEqual,
            FloatCC::NotEqual if self.host_flags => FloatCC::OrderedNotEqual,
            cc => cc,
        };
        self.b.ins().fcmp(cc, x, y)
    }

    /// A condition on flags that [`Self::float_flags`] made, by the numbers themselves. `None`: it is not one of those.
    pub(super) fn float_cond(&mut self, flags: V, c: Cond) -> Option<V> {
        let (made, x, y) = self.compared?;
        let cc = match (flags, c) {
            (V::Val(v), _) if v != made => return None,
            (V::Val(_), Cond::B) => FloatCC::LessThan,
            (V::Val(_), Cond::Be) => FloatCC::LessThanOrEqual,
            (V::Val(_), Cond::A) => FloatCC::GreaterThan,
            (V::Val(_), Cond::Ae) => FloatCC::GreaterThanOrEqual,
            (V::Val(_), Cond::E) => FloatCC::Equal,
            (V::Val(_), Cond::Ne) => FloatCC::NotEqual,
            // The operands were ordered.
            (V::Val(_), Cond::P) => return Some(V::Const(0)),
            (V::Val(_), Cond::Np) => return Some(V::Const(1)),
            _ => return None,
        };
        Some(V::Val(self.relation(cc, x, y)))
    }

    /// Keeps an operation whose result nobody may look at: Cranelift takes it for pure, but it sets flags in MXCSR. (Arithmetic is
    /// kept by the check of its result.)
    pub(super) fn keep(&mut self, r: Value) {
        self.b.ins().store(state_flags(), r, self.state, off::SCRATCH + 8 * SCRATCH_SPARE);
    }

    pub(super) fn float_convert(&mut self, op: Cvt, a: V) -> R<V> {
        let from_int = |s: &mut Self, w: Width, p: Prec| {
            let v = s.val(w, a);
            let r = s.b.ins().fcvt_from_sint(scalar(p), v);
            s.keep(r);
            Ok(V::Val(r))
        };
        let to_int = |s: &mut Self, p: Prec, w: Width| {
            let v = s.float(p, a);
            let e = s.exponent_of(p, V::Val(v));
            // Magnitude below 2^31 or 2^63; the negative limit itself goes to tier 0 as well.
            let bias = exponent(p).1 >> 1;
            let limit = bias + i64::from(w.bits()) - 1;
            let bad = s.b.ins().icmp_imm_s(IntCC::UnsignedGreaterThanOrEqual, e, limit);
            s.redo_if(V::Val(bad));
            let t = if w == Width::Q { types::I64 } else { types::I32 };
            let r = s.b.ins().fcvt_to_sint_sat(t, v);
            s.keep(r);
            Ok(V::Val(r))
        };
        match op {
            Cvt::I32ToF32 => from_int(self, Width::D, Prec::F32),
            Cvt::I64ToF32 => from_int(self, Width::Q, Prec::F32),
            Cvt::I32ToF64 => from_int(self, Width::D, Prec::F64),
            Cvt::I64ToF64 => from_int(self, Width::Q, Prec::F64),
            Cvt::F32ToI32Trunc => to_int(self, Prec::F32, Width::D),
            Cvt::F32ToI64Trunc => to_int(self, Prec::F32, Width::Q),
            Cvt::F64ToI32Trunc => to_int(self, Prec::F64, Width::D),
            Cvt::F64ToI64Trunc => to_int(self, Prec::F64, Width::Q),
            Cvt::F32ToF64 | Cvt::F64ToF32 => {
                let (from, to) =
                    if op == Cvt::F32ToF64 { (Prec::F32, Prec::F64) } else { (Prec::F64, Prec::F32) };
                let v = self.float(from, a);
                if !self.host_flags {
                    self.normal_or_zero(from, V::Val(v));
                }
                let r = if op == Cvt::F32ToF64 {
                    self.b.ins().fpromote(types::F64, v)
                } else {
                    self.b.ins().fdemote(types::F32, v)
                };
                if self.host_flags {
                    self.finite(to, V::Val(r));
                } else {
                    self.normal_or_zero_exact(from, to, V::Val(v), V::Val(r));
                }
                Ok(V::Val(r))
            }
            // The current rounding mode: no portable instruction.
            Cvt::F32ToI32 | Cvt::F32ToI64 | Cvt::F64ToI32 | Cvt::F64ToI64 => Err(Stop),
        }
    }

    /// Leaves the block unless the converted result is normal, or zero like its operand.
    fn normal_or_zero_exact(&mut self, from: Prec, to: Prec, v: V, r: V) {
        self.inside_or_zero(to, r, if to == Prec::F32 { SAFE_EXPONENT } else { 1 });
        let z = self.val(to.width(), r);
        let z = self.b.ins().ishl_imm_s(z, 1);
        let r_zero = self.b.ins().icmp_imm_s(IntCC::Equal, z, 0);
        let z = self.val(from.width(), v);
        let z = self.b.ins().ishl_imm_s(z, 1);
        let v_not = self.b.ins().icmp_imm_s(IntCC::NotEqual, z, 0);
        let lost = self.b.ins().band(r_zero, v_not);
        self.redo_if(V::Val(lost));
    }
}
