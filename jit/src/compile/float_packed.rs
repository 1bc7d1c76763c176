//! Packed floating point on the host, by the rules of [`super::float`], mostly on hosts with x86's flags only.
//!
//! Results are checked or kept ([`Lifter::keep`]), so that no operation disappears with its flags.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use x86::emit::{R, Stop};
use x86::vec::{CvtX, FmaOp, FpOp, Prec};

use super::float::{exponent, ordered_relation, vector};
use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::off;

impl Lifter<'_> {
    pub(super) fn float_packed(&mut self, op: FpOp, p: Prec, a: Value, b: Value) -> R<Value> {
        if !self.host_flags {
            return Err(Stop);
        }
        let t = vector(p);
        let (x, y) = (self.cast(t, a), self.cast(t, b));
        let r = match op {
            FpOp::Add => self.b.ins().fadd(x, y),
            FpOp::Sub => self.b.ins().fsub(x, y),
            FpOp::Mul => self.b.ins().fmul(x, y),
            FpOp::Div => self.b.ins().fdiv(x, y),
            FpOp::Sqrt => self.b.ins().sqrt(y),
            FpOp::Min | FpOp::Max => {
                // MINPS: a < b ? a : b, for operands that are numbers.
                self.finite_lanes(p, a);
                self.finite_lanes(p, b);
                let cc = if op == FpOp::Min { FloatCC::LessThan } else { FloatCC::GreaterThan };
                let m = self.b.ins().fcmp(cc, x, y);
                self.keep_lanes(m);
                let m = self.cast(types::I8X16, m);
                return Ok(self.b.ins().bitselect(m, a, b));
            }
            FpOp::AddSub => {
                let sign = p.width().sign();
                let even = if p == Prec::F32 { [sign; 2] } else { [sign, 0] };
                let even = self.constant(even);
                let y = self.b.ins().bxor(b, even);
                let y = self.cast(t, y);
                self.b.ins().fadd(x, y)
            }
            FpOp::Rcp | FpOp::Rsqrt => return Err(Stop),
        };
        let r = self.cast(types::I8X16, r);
        self.finite_lanes(p, r);
        Ok(r)
    }

    /// ROUNDPS and ROUNDPD, scalar ones too: of any type.
    pub(super) fn float_round(&mut self, imm: u8, x: Value) -> R<Value> {
        let quiet = imm & 8 != 0;
        if !self.host_rounds || !self.host_flags && !quiet {
            return Err(Stop);
        }
        if self.host_flags && quiet {
            // The host's instruction reports PE, which is nothing new only if it has been seen before.
            let mxcsr = self.b.ins().load(types::I32, state_flags(), self.state, off::MXCSR);
            let pe = self.b.ins().band_imm_s(mxcsr, 0x20);
            let unseen = self.b.ins().icmp_imm_s(IntCC::Equal, pe, 0);
            self.redo_if(V::Val(unseen));
        }
        Ok(match imm & 7 {
            1 => self.b.ins().floor(x),
            2 => self.b.ins().ceil(x),
            3 => self.b.ins().trunc(x),
            // By the immediate or, bit 2 set, by MXCSR, which has the default here.
            _ => self.b.ins().nearest(x),
        })
    }

    /// The same for a vector.
    pub(super) fn float_round_packed(&mut self, p: Prec, imm: u8, a: Value) -> R<Value> {
        let x = self.cast(vector(p), a);
        let x = self.float_round(imm, x)?;
        let x = self.cast(types::I8X16, x);
        self.finite_lanes(p, x);
        Ok(x)
    }

    /// Leaves the block if any lane is infinite or a NaN.
    fn finite_lanes(&mut self, p: Prec, r: Value) {
        let (shift, mask) = exponent(p);
        let w = p.width();
        let m = self.constant_lanes(w, (mask as u64) << shift);
        let e = self.b.ins().band(r, m);
        let bad = self.lanewise(super::lanes::lanes(w), e, m, |s, e, m| s.b.ins().icmp(IntCC::Equal, e, m));
        let bad = self.b.ins().vany_true(bad);
        self.redo_if(V::Val(bad));
    }

    pub(super) fn float_fma_packed(&mut self, op: FmaOp, p: Prec, abc: [Value; 3]) -> R<Value> {
        if !self.host_fma || !self.host_flags {
            return Err(Stop);
        }
        let t = vector(p);
        let signs = |s: &mut Self, op: [FmaOp; 2], of: fn(FmaOp) -> bool| {
            let bits = p.width().bits();
            let sign = |n: usize| if of(op[n]) { 1u64 << (bits - 1) } else { 0 };
            let pair = match p {
                Prec::F32 => [sign(0) | sign(1) << 32; 2],
                Prec::F64 => [sign(0), sign(1)],
            };
            (pair != [0; 2]).then(|| s.constant(pair))
        };
        let lanes = [op.in_lane(0), op.in_lane(1)];
        let [mut x, y, mut z] = abc;
        if let Some(m) = signs(self, lanes, |op| op.negates().0) {
            x = self.b.ins().bxor(x, m);
        }
        if let Some(m) = signs(self, lanes, |op| op.negates().1) {
            z = self.b.ins().bxor(z, m);
        }
        let [x, y, z] = [x, y, z].map(|v| self.cast(t, v));
        let r = self.b.ins().fma(x, y, z);
        let r = self.cast(types::I8X16, r);
        self.finite_lanes(p, r);
        Ok(r)
    }

    /// Comparisons of lanes that are all finite.
    pub(super) fn float_cmp_packed(&mut self, p: Prec, predicate: u8, a: Value, b: Value) -> R<Value> {
        if !self.host_flags {
            return Err(Stop);
        }
        let cc = ordered_relation(predicate)?;
        self.finite_lanes(p, a);
        self.finite_lanes(p, b);
        let t = vector(p);
        let (x, y) = (self.cast(t, a), self.cast(t, b));
        let r = self.b.ins().fcmp(cc, x, y);
        self.keep_lanes(r);
        Ok(self.cast(types::I8X16, r))
    }

    /// As [`Self::keep`], for a vector of any type.
    fn keep_lanes(&mut self, r: Value) {
        let r = self.cast(types::F64X2, r);
        let low = self.b.ins().extractlane(r, 0);
        self.keep(low);
    }

    /// Packed conversions.
    pub(super) fn float_convert_packed(&mut self, op: CvtX, a: Value) -> R<Value> {
        if !self.host_flags {
            return Err(Stop);
        }
        let x = match op {
            CvtX::I32ToF32 => {
                let a = self.cast(types::I32X4, a);
                self.b.ins().fcvt_from_sint(types::F32X4, a)
            }
            CvtX::I32ToF64 => {
                let a = self.cast(types::I32X4, a);
                let a = self.b.ins().swiden_low(a);
                self.b.ins().fcvt_from_sint(types::F64X2, a)
            }
            CvtX::F32ToF64 => {
                let a = self.cast(types::F32X4, a);
                self.b.ins().fvpromote_low(a)
            }
            CvtX::F64ToF32 => {
                let a = self.cast(types::F64X2, a);
                self.b.ins().fvdemote(a)
            }
            CvtX::F32ToI32Trunc => {
                self.in_range(Prec::F32, a);
                let a = self.cast(types::F32X4, a);
                self.b.ins().x86_cvtt2dq(types::I32X4, a)
            }
            CvtX::F64ToI32Trunc => {
                self.in_range(Prec::F64, a);
                let a = self.cast(types::F64X2, a);
                let x = self.b.ins().x86_cvtt2dq(types::I64X2, a);
                let zero = self.constant([0; 2]);
                let zero = self.cast(types::I64X2, zero);
                self.b.ins().snarrow(x, zero)
            }
            // The current rounding mode: no portable instruction.
            CvtX::F32ToI32 | CvtX::F64ToI32 => return Err(Stop),
        };
        let x = self.cast(types::I8X16, x);
        match op {
            CvtX::F32ToF64 => self.finite_lanes(Prec::F64, x),
            CvtX::F64ToF32 => self.finite_lanes(Prec::F32, x),
            _ => self.keep_lanes(x),
        }
        Ok(x)
    }

    /// Leaves the block unless all lanes are below 2^31 in magnitude.
    fn in_range(&mut self, p: Prec, a: Value) {
        let (shift, mask) = exponent(p);
        let w = p.width();
        let lanes = super::lanes::lanes(w);
        // Exponent fields, in lanes wide enough for a signed comparison.
        let m = self.constant_lanes(w, (mask as u64) << shift);
        let e = self.b.ins().band(a, m);
        let limit = (mask >> 1) + 31;
        let limit = self.constant_lanes(w, ((limit - 1) as u64) << shift);
        let bad = self.lanewise(lanes, e, limit, |s, e, l| s.b.ins().icmp(IntCC::SignedGreaterThan, e, l));
        let bad = self.b.ins().vany_true(bad);
        self.redo_if(V::Val(bad));
    }
}
