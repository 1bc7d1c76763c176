//! The compiler as a [`VecEmitter`]: registers, memory and integer vectors.
//!
//! Vector registers are kept as values and written back ("dirty") where a block ends, before handlers, and on the cold paths of
//! what may leave the block. (A vector write is the last step of its instruction.) A scalar in the lowest lane is joined with
//! what is above it only when somebody wants the whole. The upper half of a YMM register is a value of its own; where it is
//! known to be zero, it is not zeroed again.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use x86::emit::{Addr, R, Stop};
use x86::insn::Width;
use x86::vec::{Cvt, CvtX, FmaOp, FpOp, Prec, VBin, VImm, VShift, VUn, VecEmitter};

use super::lanes::{ALL, lanes};
use super::memory::Want;
use super::products::Pairs;
use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::off;

/// What is known of a vector register.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Xmm {
    /// The low 128 bits, an `i8x16`.
    whole: Option<Value>,
    /// The lowest lane: a 32- or 64-bit scalar.
    low: Option<Value>,
    /// What is above `low`, where that is known and `whole` is not.
    above: Above,
    /// Bits 127:0 are not in the state yet.
    dirty: bool,
    /// Bits 255:128.
    high: Option<Value>,
    /// They are zero.
    high_is_zero: bool,
    /// They are not in the state yet.
    high_dirty: bool,
}

/// The bits of a register above a scalar.
#[derive(Clone, Copy, Debug, Default)]
enum Above {
    /// Those of the register in the state.
    #[default]
    State,
    /// Those of this `i8x16`.
    Of(Value),
    Zero,
}

/// `f` of the halves of two vectors, or of their only part.
fn halves<const N: usize>(
    mut a: [Value; N],
    b: [Value; N],
    mut f: impl FnMut(Value, Value) -> R<Value>,
) -> R<[Value; N]> {
    for (a, b) in a.iter_mut().zip(b) {
        *a = f(*a, b)?;
    }
    Ok(a)
}

fn place(r: u8) -> i32 {
    off::XMM + 16 * i32::from(r & 15)
}

fn place_high(r: u8) -> i32 {
    off::YMM_HI + 16 * i32::from(r & 15)
}

impl Lifter<'_> {
    /// Forgets everything: something else may have written the registers. All were written back before.
    pub(super) fn forget_vectors(&mut self) {
        debug_assert!(self.xmm.iter().all(|x| !x.dirty && !x.high_dirty));
        self.xmm = Default::default();
        self.zero = None;
    }

    /// Emits the stores of all dirty vector registers; what is known about them stays.
    pub(super) fn emit_dirty_vectors(&mut self) {
        for r in 0..16u8 {
            let known = self.xmm[r as usize];
            if known.dirty {
                let x = self.joined(r);
                self.b.ins().store(state_flags(), x, self.state, place(r));
            }
            if let (true, Some(x)) = (known.high_dirty, known.high) {
                self.b.ins().store(state_flags(), x, self.state, place_high(r));
            }
        }
    }

    /// Writes everything back, on the path that goes on.
    pub(super) fn write_back_vectors(&mut self) {
        for r in 0..16u8 {
            if self.xmm[r as usize].dirty {
                self.xmm(r);
            }
        }
        self.emit_dirty_vectors();
        for x in &mut self.xmm {
            (x.dirty, x.high_dirty) = (false, false);
        }
    }

    /// The low 128 bits of a register; to be remembered by the caller, if it is on the path that goes on.
    fn joined(&mut self, r: u8) -> Value {
        let known = self.xmm[r as usize & 15];
        if let Some(x) = known.whole {
            return x;
        }
        let above = match (known.above, known.low) {
            (Above::Zero, Some(v)) => return self.lowest_lane(v),
            (Above::Of(x), _) => x,
            // Registers are loaded and stored whole: a processor cannot forward a store of 16 bytes and one of a lane over it to
            // a later load of the 16, in this block or the next.
            _ => self.b.ins().load(ALL, state_flags(), self.state, place(r)),
        };
        match known.low {
            Some(v) => {
                let w = if self.b.func.dfg.value_type(v).bits() == 32 { Width::D } else { Width::Q };
                self.with_lane(w, above, 0, V::Val(v))
            }
            None => above,
        }
    }

    /// A vector of a scalar and zeros.
    fn lowest_lane(&mut self, v: Value) -> Value {
        let t = match self.b.func.dfg.value_type(v) {
            types::F32 => types::F32X4,
            types::F64 => types::F64X2,
            types::I32 => types::I32X4,
            _ => types::I64X2,
        };
        let x = self.b.ins().scalar_to_vector(t, v);
        self.cast(ALL, x)
    }

    /// The zero vector; always the same value, so that zeroed registers are known.
    fn zero(&mut self) -> Value {
        if let Some(zero) = self.zero {
            return zero;
        }
        let zero = self.constant([0; 2]);
        self.zero = Some(zero);
        zero
    }

    /// Address of `bytes` bytes, checked for alignment.
    fn place_vector(&mut self, at: Addr<V>, aligned: bool, bytes: usize) -> R<Value> {
        let va = self.linear(at)?;
        if aligned {
            let low = self.b.ins().band_imm_s(va, bytes as i64 - 1);
            self.redo_if(V::Val(low));
        }
        Ok(va)
    }
}

impl VecEmitter for Lifter<'_> {
    type X = Value;

    fn xmm(&mut self, r: u8) -> Value {
        let x = self.joined(r);
        self.xmm[r as usize & 15].whole = Some(x);
        x
    }
    fn set_xmm(&mut self, r: u8, x: Value) {
        let x = self.cast(ALL, x);
        let scalar = self.scalar.filter(|(whole, _)| *whole == x).map(|(_, v)| v);
        let known = &mut self.xmm[r as usize & 15];
        (known.whole, known.low, known.above) = (Some(x), scalar, Above::Zero);
        known.dirty = true;
    }
    fn ymm_hi(&mut self, r: u8) -> Value {
        if let Some(x) = self.xmm[r as usize & 15].high {
            return x;
        }
        let x = self.b.ins().load(ALL, state_flags(), self.state, place_high(r));
        self.xmm[r as usize & 15].high = Some(x);
        x
    }
    fn set_ymm_hi(&mut self, r: u8, x: Value) {
        let x = self.cast(ALL, x);
        let zero = self.zero == Some(x);
        if zero && self.xmm[r as usize & 15].high_is_zero {
            return;
        }
        let known = &mut self.xmm[r as usize & 15];
        (known.high, known.high_is_zero, known.high_dirty) = (Some(x), zero, true);
    }
    fn xmm_lane(&mut self, w: Width, r: u8, lane: u8) -> V {
        let known = self.xmm[r as usize & 15];
        if let (0, Some(v)) = (lane, known.low)
            && self.b.func.dfg.value_type(v).bits() >= w.bits()
        {
            return if self.b.func.dfg.value_type(v).bits() == w.bits() {
                V::Val(v)
            } else {
                V::Val(self.val(w, V::Val(v)))
            };
        }
        let x = self.xmm(r);
        let v = self.lane(w, x, lane);
        if let (0, Width::D | Width::Q, V::Val(low)) = (lane, w, v) {
            let known = &mut self.xmm[r as usize & 15];
            (known.low, known.above) = (Some(low), Above::Of(x));
        }
        v
    }
    fn set_xmm_lane(&mut self, w: Width, r: u8, lane: u8, v: V) {
        let v = self.memory_val(w, v);
        let known = self.xmm[r as usize & 15];
        let covers = known.low.is_none_or(|old| self.b.func.dfg.value_type(old).bits() <= w.bits());
        let (whole, low, above) = if lane != 0 || w < Width::D {
            let old = self.xmm(r);
            let x = self.with_lane(w, old, lane, V::Val(v));
            (Some(x), None, Above::State)
        } else {
            // The lane replaces what is known of it: what was above the old scalar is above the new one.
            let above = match known {
                Xmm { low: Some(_), above, .. } if covers => above,
                Xmm { whole: Some(x), .. } => Above::Of(x),
                Xmm { low: None, .. } => Above::State,
                _ => Above::Of(self.xmm(r)),
            };
            (None, Some(v), above)
        };
        let known = &mut self.xmm[r as usize & 15];
        (known.whole, known.low, known.above, known.dirty) = (whole, low, above, true);
    }

    fn load_vector<const N: usize>(&mut self, at: Addr<V>, aligned: bool) -> R<[Value; N]> {
        let va = self.place_vector(at, aligned, 16 * N)?;
        let host = self.host(va, 16 * N as u32, Want::Read);
        let x = std::array::from_fn(|k| self.load_host_at(ALL, host, 16 * k as i32));
        self.after_plain_load();
        Ok(x)
    }
    fn store_vector<const N: usize>(&mut self, at: Addr<V>, aligned: bool, x: [Value; N]) -> R<()> {
        let va = self.place_vector(at, aligned, 16 * N)?;
        let x = x.map(|x| self.cast(ALL, x));
        let want = match x[..] {
            [low, high] => Want::WritePair(low, high),
            _ => Want::Write(x[0]),
        };
        let host = self.host(va, 16 * N as u32, want);
        self.before_plain_store(at.order);
        for (k, x) in (0..).zip(x) {
            self.store_host_at(x, host, 16 * k);
        }
        Ok(())
    }

    fn const128(&mut self, x: [u64; 2]) -> Value {
        if x == [0; 2] { self.zero() } else { self.constant(x) }
    }
    fn zext128(&mut self, w: Width, v: V) -> Value {
        let v = match w {
            Width::D => self.float(Prec::F32, v),
            Width::Q => self.float(Prec::F64, v),
            w => {
                let v = self.val(w, v);
                self.b.ins().uextend(types::I32, v)
            }
        };
        let x = self.lowest_lane(v);
        self.scalar = Some((x, v));
        x
    }
    fn lane(&mut self, w: Width, x: Value, lane: u8) -> V {
        let t = match w {
            Width::D => types::F32X4,
            Width::Q => types::F64X2,
            w => lanes(w),
        };
        let x = self.cast(t, x);
        V::Val(self.b.ins().extractlane(x, lane))
    }
    fn with_lane(&mut self, w: Width, x: Value, lane: u8, v: V) -> Value {
        let v = self.memory_val(w, v);
        let t = match self.b.func.dfg.value_type(v) {
            types::F32 => types::F32X4,
            types::F64 => types::F64X2,
            _ => lanes(w),
        };
        let x = self.cast(t, x);
        let x = self.b.ins().insertlane(x, v, lane);
        self.cast(ALL, x)
    }

    fn vbin(&mut self, op: VBin, a: Value, b: Value) -> R<Value> {
        use types::{I8X16, I16X8, I32X4, I64X2};
        macro_rules! ins {
            ($t:ident, $ins:ident) => {
                self.lanewise($t, a, b, |s, a, b| s.b.ins().$ins(a, b))
            };
        }
        Ok(match op {
            VBin::And => ins!(I8X16, band),
            VBin::Andn => self.b.ins().band_not(b, a),
            VBin::Or => ins!(I8X16, bor),
            VBin::Xor if a == b => self.constant([0; 2]),
            VBin::Xor => ins!(I8X16, bxor),
            VBin::AddB => ins!(I8X16, iadd),
            VBin::AddW => ins!(I16X8, iadd),
            VBin::AddD => ins!(I32X4, iadd),
            VBin::AddQ => ins!(I64X2, iadd),
            VBin::SubB => ins!(I8X16, isub),
            VBin::SubW => ins!(I16X8, isub),
            VBin::SubD => ins!(I32X4, isub),
            VBin::SubQ => ins!(I64X2, isub),
            VBin::AddSB => ins!(I8X16, sadd_sat),
            VBin::AddSW => ins!(I16X8, sadd_sat),
            VBin::AddUsB => ins!(I8X16, uadd_sat),
            VBin::AddUsW => ins!(I16X8, uadd_sat),
            VBin::SubSB => ins!(I8X16, ssub_sat),
            VBin::SubSW => ins!(I16X8, ssub_sat),
            VBin::SubUsB => ins!(I8X16, usub_sat),
            VBin::SubUsW => ins!(I16X8, usub_sat),
            VBin::MulLoW => ins!(I16X8, imul),
            VBin::MulLoD => ins!(I32X4, imul),
            VBin::MulUD => {
                let low = self.constant([0xffff_ffff; 2]);
                let (a, b) = (self.b.ins().band(a, low), self.b.ins().band(b, low));
                self.lanewise(I64X2, a, b, |s, a, b| s.b.ins().imul(a, b))
            }
            VBin::MaddWD => self.lanewise(I16X8, a, b, |s, a, b| {
                let ins = |s: &mut Self, high: bool, x: Value| {
                    if high { s.b.ins().swiden_high(x) } else { s.b.ins().swiden_low(x) }
                };
                let (al, bl) = (ins(s, false, a), ins(s, false, b));
                let (ah, bh) = (ins(s, true, a), ins(s, true, b));
                let low = s.b.ins().imul(al, bl);
                let high = s.b.ins().imul(ah, bh);
                s.b.ins().iadd_pairwise(low, high)
            }),
            VBin::AvgB => ins!(I8X16, avg_round),
            VBin::AvgW => ins!(I16X8, avg_round),
            VBin::MinUB => ins!(I8X16, umin),
            VBin::MaxUB => ins!(I8X16, umax),
            VBin::MinSW => ins!(I16X8, smin),
            VBin::MaxSW => ins!(I16X8, smax),
            VBin::MinSB => ins!(I8X16, smin),
            VBin::MaxSB => ins!(I8X16, smax),
            VBin::MinUW => ins!(I16X8, umin),
            VBin::MaxUW => ins!(I16X8, umax),
            VBin::MinSD => ins!(I32X4, smin),
            VBin::MaxSD => ins!(I32X4, smax),
            VBin::MinUD => ins!(I32X4, umin),
            VBin::MaxUD => ins!(I32X4, umax),
            VBin::CmpEqB => self.compare_lanes(IntCC::Equal, Width::B, a, b),
            VBin::CmpEqW => self.compare_lanes(IntCC::Equal, Width::W, a, b),
            VBin::CmpEqD => self.compare_lanes(IntCC::Equal, Width::D, a, b),
            VBin::CmpEqQ => self.compare_lanes(IntCC::Equal, Width::Q, a, b),
            VBin::CmpGtB => self.compare_lanes(IntCC::SignedGreaterThan, Width::B, a, b),
            VBin::CmpGtW => self.compare_lanes(IntCC::SignedGreaterThan, Width::W, a, b),
            VBin::CmpGtD => self.compare_lanes(IntCC::SignedGreaterThan, Width::D, a, b),
            VBin::CmpGtQ => self.compare_lanes(IntCC::SignedGreaterThan, Width::Q, a, b),
            VBin::PackSsWB => ins!(I16X8, snarrow),
            VBin::PackUsWB => ins!(I16X8, unarrow),
            VBin::PackSsDW => ins!(I32X4, snarrow),
            VBin::PackUsDW => ins!(I32X4, unarrow),
            VBin::UnpackLoB => self.interleave(a, b, 1, false),
            VBin::UnpackLoW => self.interleave(a, b, 2, false),
            VBin::UnpackLoD => self.interleave(a, b, 4, false),
            VBin::UnpackLoQ => self.interleave(a, b, 8, false),
            VBin::UnpackHiB => self.interleave(a, b, 1, true),
            VBin::UnpackHiW => self.interleave(a, b, 2, true),
            VBin::UnpackHiD => self.interleave(a, b, 4, true),
            VBin::UnpackHiQ => self.interleave(a, b, 8, true),
            VBin::ShufB => {
                let low = self.constant_lanes(Width::B, 0x8f);
                let pick = self.b.ins().band(b, low);
                self.b.ins().swizzle(a, pick)
            }
            VBin::PermD => self.permute_dwords(a, b),
            VBin::HaddW => ins!(I16X8, iadd_pairwise),
            VBin::HaddD => ins!(I32X4, iadd_pairwise),
            VBin::MulHiW => self.high_products(a, b, true),
            VBin::MulHiUW => self.high_products(a, b, false),
            VBin::MulHrsW => self.rounded_products(a, b),
            VBin::MulSD => self.signed_dword_products(a, b),
            VBin::MaddUbSW => self.byte_products(a, b),
            VBin::SadBW => self.byte_distances(a, b),
            VBin::SignB => self.signed_by(Width::B, a, b),
            VBin::SignW => self.signed_by(Width::W, a, b),
            VBin::SignD => self.signed_by(Width::D, a, b),
            VBin::HaddSW => self.pairs(Pairs::AddSaturated, Width::W, a, b),
            VBin::HsubW => self.pairs(Pairs::Sub, Width::W, a, b),
            VBin::HsubD => self.pairs(Pairs::Sub, Width::D, a, b),
            VBin::HsubSW => self.pairs(Pairs::SubSaturated, Width::W, a, b),
            VBin::PermQ => self.permute_quads(a, b),
            // Nothing that Cranelift knows.
            VBin::ShlvD
            | VBin::ShlvQ
            | VBin::ShrvD
            | VBin::ShrvQ
            | VBin::SarvD
            | VBin::AesEnc
            | VBin::AesEncLast
            | VBin::AesDec
            | VBin::AesDecLast
            | VBin::Sha1NextE
            | VBin::Sha1Msg1
            | VBin::Sha1Msg2
            | VBin::Sha256Msg1
            | VBin::Sha256Msg2 => return Err(Stop),
        })
    }
    fn vun(&mut self, op: VUn, a: Value) -> R<Value> {
        let t = match op {
            VUn::AbsB => types::I8X16,
            VUn::AbsW => types::I16X8,
            VUn::AbsD => types::I32X4,
            VUn::MinPos | VUn::AesImc => return Err(Stop),
        };
        let a = self.cast(t, a);
        let x = self.b.ins().iabs(a);
        Ok(self.cast(ALL, x))
    }
    fn vimm(&mut self, _: VImm, _: Value, _: Value, _: u8) -> R<Value> {
        Err(Stop)
    }
    fn sha256_rounds(&mut self, _: Value, _: Value, _: Value) -> R<Value> {
        Err(Stop)
    }
    fn splat(&mut self, w: Width, a: Value) -> R<Value> {
        let n = w.bytes() as usize;
        Ok(self.shuffle_bytes(a, a, std::array::from_fn(|k| (k % n) as u8)))
    }
    fn vshift_imm(&mut self, op: VShift, a: Value, n: u8) -> R<Value> {
        let w = op.width();
        let sar = matches!(op, VShift::SarW | VShift::SarD);
        let n = if u32::from(n) < w.bits() {
            n
        } else if sar {
            w.bits() as u8 - 1
        } else {
            return Ok(self.constant([0; 2]));
        };
        let n = self.b.ins().iconst(types::I32, i64::from(n));
        Ok(self.shift_lanes(op, a, n))
    }
    fn vshift(&mut self, op: VShift, a: Value, n: V) -> R<Value> {
        let bits = i64::from(op.width().bits());
        let n = self.val(Width::Q, n);
        let small = self.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, n, bits);
        if matches!(op, VShift::SarW | VShift::SarD) {
            let top = self.b.ins().iconst(types::I64, bits - 1);
            let n = self.b.ins().select(small, n, top);
            let n = self.b.ins().ireduce(types::I32, n);
            return Ok(self.shift_lanes(op, a, n));
        }
        let n = self.b.ins().ireduce(types::I32, n);
        let n = self.b.ins().band_imm_s(n, bits - 1);
        let x = self.shift_lanes(op, a, n);
        let zero = self.constant([0; 2]);
        Ok(self.b.ins().select(small, x, zero))
    }
    fn extend(&mut self, signed: bool, from: Width, to: Width, a: Value) -> R<Value> {
        let mut x = self.cast(lanes(from), a);
        for _ in from as u8..to as u8 {
            x = if signed { self.b.ins().swiden_low(x) } else { self.b.ins().uwiden_low(x) };
        }
        Ok(self.cast(ALL, x))
    }
    fn shuffle32(&mut self, a: Value, b: Value, pick: [u8; 4]) -> R<Value> {
        let bytes = std::array::from_fn(|k| (pick[k / 4] & 7) * 4 + k as u8 % 4);
        Ok(self.shuffle_bytes(a, b, bytes))
    }
    fn shuffle16(&mut self, a: Value, pick: [u8; 8]) -> R<Value> {
        let bytes = std::array::from_fn(|k| (pick[k / 2] & 7) * 2 + k as u8 % 2);
        Ok(self.shuffle_bytes(a, a, bytes))
    }
    fn align_bytes(&mut self, high: Value, low: Value, n: u8) -> R<Value> {
        let zero = self.constant([0; 2]);
        Ok(match n {
            0..16 => self.shuffle_bytes(low, high, std::array::from_fn(|k| k as u8 + n)),
            16..32 => self.shuffle_bytes(high, zero, std::array::from_fn(|k| k as u8 + n - 16)),
            _ => zero,
        })
    }
    fn blend(&mut self, a: Value, b: Value, pick: u16) -> R<Value> {
        let bytes = std::array::from_fn(|k| k as u8 + if pick >> k & 1 != 0 { 16 } else { 0 });
        Ok(self.shuffle_bytes(a, b, bytes))
    }
    fn blend_var(&mut self, w: Width, a: Value, b: Value, mask: Value) -> R<Value> {
        // All bits of a lane like its sign.
        let zero = self.constant([0; 2]);
        let m = self.compare_lanes(IntCC::SignedGreaterThan, w, zero, mask);
        Ok(self.b.ins().bitselect(m, b, a))
    }
    fn move_mask(&mut self, w: Width, a: Value) -> R<V> {
        let a = self.cast(lanes(w), a);
        Ok(V::Val(self.b.ins().vhigh_bits(types::I32, a)))
    }
    fn test(&mut self, a: Value, b: Value) -> R<V> {
        let both = self.b.ins().band(a, b);
        let outside = self.b.ins().band_not(b, a);
        let (x, y) = (self.any(both), self.any(outside));
        let (x, y) = (self.b.ins().uextend(types::I32, x), self.b.ins().uextend(types::I32, y));
        let zf = self.b.ins().bxor_imm_s(x, 1);
        let zf = self.b.ins().ishl_imm_s(zf, 6);
        let cf = self.b.ins().bxor_imm_s(y, 1);
        Ok(V::Val(self.b.ins().bor(zf, cf)))
    }

    fn fp_scalar(&mut self, op: FpOp, p: Prec, a: V, b: V) -> R<V> {
        self.float_scalar(op, p, a, b)
    }
    fn fp_packed<const N: usize>(
        &mut self,
        op: FpOp,
        p: Prec,
        a: [Value; N],
        b: [Value; N],
    ) -> R<[Value; N]> {
        halves(a, b, |a, b| self.float_packed(op, p, a, b))
    }
    fn fma_scalar(&mut self, op: FmaOp, p: Prec, abc: [V; 3]) -> R<V> {
        self.float_fma(op, p, abc)
    }
    fn fma_packed<const N: usize>(
        &mut self,
        op: FmaOp,
        p: Prec,
        [a, b, c]: [[Value; N]; 3],
    ) -> R<[Value; N]> {
        let mut x = a;
        for (k, x) in x.iter_mut().enumerate() {
            *x = self.float_fma_packed(op, p, [*x, b[k], c[k]])?;
        }
        Ok(x)
    }
    fn fp_round(&mut self, p: Prec, imm: u8, a: V) -> R<V> {
        let x = self.float(p, a);
        let x = self.float_round(imm, x)?;
        self.finite(p, V::Val(x));
        Ok(V::Val(x))
    }
    fn fp_round_packed<const N: usize>(&mut self, p: Prec, imm: u8, a: [Value; N]) -> R<[Value; N]> {
        let mut x = a;
        for x in &mut x {
            *x = self.float_round_packed(p, imm, *x)?;
        }
        Ok(x)
    }
    fn fp_cmp(&mut self, p: Prec, predicate: u8, a: V, b: V) -> R<V> {
        self.float_cmp(p, predicate, a, b)
    }
    fn fp_cmp_packed<const N: usize>(
        &mut self,
        p: Prec,
        predicate: u8,
        a: [Value; N],
        b: [Value; N],
    ) -> R<[Value; N]> {
        halves(a, b, |a, b| self.float_cmp_packed(p, predicate, a, b))
    }
    fn fp_flags(&mut self, p: Prec, _: bool, a: V, b: V) -> R<V> {
        self.float_flags(p, a, b)
    }
    fn convert(&mut self, op: Cvt, a: V) -> R<V> {
        self.float_convert(op, a)
    }
    fn convert_packed<const N: usize>(&mut self, op: CvtX, a: [Value; N]) -> R<[Value; N]> {
        let mut x = a;
        for x in &mut x {
            *x = self.float_convert_packed(op, *x)?;
        }
        Ok(x)
    }
}
