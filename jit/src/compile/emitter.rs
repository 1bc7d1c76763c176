//! The compiler as an [`Emitter`]: integer instructions.

use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{InstBuilder, types};
use x86::cc::{Cc, CcKind};
use x86::emit::{Addr, Emitter, Fence, JumpKind, R, Rmw};
use x86::insn::{Cond, Width};
use x86::state::rflags;

use super::value::{V, ty};
use super::{Lifter, state_flags};
use crate::layout::off;

/// A binary operation that maps to one Cranelift instruction.
macro_rules! op {
    ($self:ident, $w:ident, $a:ident, $b:ident, $commutes:literal, $fold:expr, $ins:ident) => {
        $self.binary($w, $a, $b, $commutes, $fold, |s, x, y| s.b.ins().$ins(x, y))
    };
}

impl Emitter for Lifter<'_> {
    type V = V;

    fn imm(&mut self, w: Width, v: u64) -> V {
        V::Const(v & w.mask())
    }
    fn gpr(&mut self, w: Width, r: u8) -> V {
        self.read_gpr(w, r)
    }
    fn high(&mut self, r: u8) -> V {
        match self.read_gpr(Width::Q, r & 3) {
            V::Const(c) => V::Const(c >> 8 & 0xff),
            v => {
                let v = self.val(Width::Q, v);
                let v = self.b.ins().ushr_imm_s(v, 8);
                V::Val(self.b.ins().ireduce(types::I8, v))
            }
        }
    }
    fn set_gpr(&mut self, w: Width, r: u8, v: V) {
        self.write_gpr(w, r, v);
    }
    fn set_high(&mut self, r: u8, v: V) {
        self.write_high(r, v);
    }

    fn load(&mut self, at: Addr<V>, w: Width) -> R<V> {
        self.load_guest(at, w)
    }
    fn store(&mut self, at: Addr<V>, w: Width, v: V) -> R<()> {
        self.store_guest(at, w, v)
    }
    fn load_for_write(&mut self, at: Addr<V>, w: Width) -> R<V> {
        self.load_guest_for_write(at, w)
    }
    /// Where vCPUs take turns, nothing can come between a load and a store: no host atomics are needed. (Devices
    /// access memory at safepoints.)
    fn atomic(&mut self, at: Addr<V>, w: Width, op: Rmw, operand: V) -> R<V> {
        if self.parallel {
            return self.host_atomic(at, w, op, operand);
        }
        let old = self.load_for_write(at, w)?;
        let new = match op {
            Rmw::Add => self.add(w, old, operand),
            Rmw::Sub => self.sub(w, old, operand),
            Rmw::And => self.and(w, old, operand),
            Rmw::Or => self.or(w, old, operand),
            Rmw::Xor => self.xor(w, old, operand),
            Rmw::Xchg => operand,
            Rmw::Neg => self.neg(w, old),
        };
        self.store(at, w, new)?;
        Ok(old)
    }
    fn atomic_cmpxchg(&mut self, at: Addr<V>, w: Width, expected: V, new: V) -> R<V> {
        if self.parallel {
            return self.host_cmpxchg(at, w, expected, new);
        }
        let old = self.load_for_write(at, w)?;
        let same = self.eq(w, old, expected);
        // The store always happens, with the old value if need be, as on hardware.
        let v = self.select(w, same, new, old);
        self.store(at, w, v)?;
        Ok(old)
    }
    fn fence(&mut self, what: Fence) {
        let needed = match what {
            // Loads are in order with what follows on every host; stores are, but for non-temporal ones on some.
            Fence::Loads => false,
            Fence::Stores => self.ordered,
            Fence::All => self.parallel,
        };
        if needed {
            self.barrier();
        }
    }

    fn add(&mut self, w: Width, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(0), x) | (x, V::Const(0)) if self.is_width(w, x) => x,
            (V::Const(c), V::Val(_)) | (V::Val(_), V::Const(c)) if w == Width::Q => {
                let x = if matches!(a, V::Val(_)) { a } else { b };
                let x = self.val(w, x);
                V::Val(self.plus(x, c as i64))
            }
            _ => op!(self, w, a, b, true, u64::wrapping_add, iadd),
        }
    }
    fn sub(&mut self, w: Width, a: V, b: V) -> V {
        match b {
            V::Const(0) if self.is_width(w, a) => a,
            V::Const(c) if !matches!(a, V::Const(_)) => {
                let x = self.val(w, a);
                let k = w.sext(c.wrapping_neg() & w.mask()) as i64;
                V::Val(if w == Width::Q { self.plus(x, k) } else { self.b.ins().iadd_imm_s(x, k) })
            }
            _ if Self::same(a, b) => V::Const(0),
            _ => op!(self, w, a, b, false, u64::wrapping_sub, isub),
        }
    }
    fn and(&mut self, w: Width, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(0), _) | (_, V::Const(0)) => V::Const(0),
            (V::Const(1), c @ (V::Cmp(..) | V::EntryCarry))
            | (c @ (V::Cmp(..) | V::EntryCarry), V::Const(1)) => c,
            (V::Const(m), x) | (x, V::Const(m)) if m == w.mask() && self.is_width(w, x) => x,
            _ if Self::same(a, b) && self.is_width(w, a) => a,
            _ => op!(self, w, a, b, true, |x, y| x & y, band),
        }
    }
    fn or(&mut self, w: Width, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(0), x) | (x, V::Const(0)) if self.is_width(w, x) => x,
            _ if Self::same(a, b) && self.is_width(w, a) => a,
            _ => op!(self, w, a, b, true, |x, y| x | y, bor),
        }
    }
    fn xor(&mut self, w: Width, a: V, b: V) -> V {
        match (a, b) {
            (V::Const(0), x) | (x, V::Const(0)) if self.is_width(w, x) => x,
            (V::Const(1), V::Cmp(cc, x, y)) | (V::Cmp(cc, x, y), V::Const(1)) => {
                V::Cmp(cc.complement(), x, y)
            }
            _ if Self::same(a, b) => V::Const(0),
            _ => op!(self, w, a, b, true, |x, y| x ^ y, bxor),
        }
    }
    fn not(&mut self, w: Width, a: V) -> V {
        if let V::Const(c) = a {
            return V::Const(!c & w.mask());
        }
        let x = self.val(w, a);
        V::Val(self.b.ins().bnot(x))
    }
    fn neg(&mut self, w: Width, a: V) -> V {
        if let V::Const(c) = a {
            return V::Const(c.wrapping_neg() & w.mask());
        }
        let x = self.val(w, a);
        V::Val(self.b.ins().ineg(x))
    }
    fn mul(&mut self, w: Width, a: V, b: V) -> V {
        op!(self, w, a, b, true, u64::wrapping_mul, imul)
    }
    fn mulhu(&mut self, w: Width, a: V, b: V) -> V {
        if w == Width::Q {
            let (x, y) = (self.val(w, a), self.val(w, b));
            return V::Val(self.b.ins().umulhi(x, y));
        }
        let (a, b) = (self.zext(w, Width::Q, a), self.zext(w, Width::Q, b));
        let p = self.mul(Width::Q, a, b);
        let p = self.shr(Width::Q, p, V::Const(u64::from(w.bits())));
        self.trunc(w, p)
    }
    fn mulhs(&mut self, w: Width, a: V, b: V) -> V {
        if w == Width::Q {
            let (x, y) = (self.val(w, a), self.val(w, b));
            return V::Val(self.b.ins().smulhi(x, y));
        }
        let (a, b) = (self.sext(w, Width::Q, a), self.sext(w, Width::Q, b));
        let p = self.mul(Width::Q, a, b);
        let p = self.shr(Width::Q, p, V::Const(u64::from(w.bits())));
        self.trunc(w, p)
    }
    fn udiv(&mut self, w: Width, a: V, b: V) -> V {
        let (x, y) = (self.val(w, a), self.val(w, b));
        V::Val(self.b.ins().udiv(x, y))
    }
    fn urem(&mut self, w: Width, a: V, b: V) -> V {
        let (x, y) = (self.val(w, a), self.val(w, b));
        V::Val(self.b.ins().urem(x, y))
    }
    fn sdiv(&mut self, w: Width, a: V, b: V) -> V {
        let (x, y) = (self.val(w, a), self.val(w, b));
        V::Val(self.b.ins().sdiv(x, y))
    }
    fn srem(&mut self, w: Width, a: V, b: V) -> V {
        let (x, y) = (self.val(w, a), self.val(w, b));
        V::Val(self.b.ins().srem(x, y))
    }
    /// Only the dividends that compilers produce, zero- or sign-extended from 64 bits; tier 0 does the others.
    fn div128(&mut self, hi: V, lo: V, b: V, signed: bool) -> (V, V, V) {
        let w = Width::Q;
        let want = if signed { self.sar(w, lo, V::Const(63)) } else { V::Const(0) };
        let same = self.eq(w, hi, want);
        let differ = self.xor(Width::B, same, V::Const(1));
        self.redo_if(differ);
        if !signed {
            return (self.udiv(w, lo, b), self.urem(w, lo, b), V::Const(0));
        }
        let min = self.eq(w, lo, V::Const(1 << 63));
        let minus = self.eq(w, b, V::Const(u64::MAX));
        let worst = self.and(Width::B, min, minus);
        self.redo_if(worst);
        (self.sdiv(w, lo, b), self.srem(w, lo, b), V::Const(0))
    }
    fn shl(&mut self, w: Width, a: V, n: V) -> V {
        if let V::Const(k) = n {
            let k = k & 63;
            return match a {
                V::Const(c) => V::Const(c << k & w.mask()),
                a if k == 0 && self.is_width(w, a) => a,
                a => {
                    let x = self.val(w, a);
                    V::Val(self.b.ins().ishl_imm_s(x, k as i64))
                }
            };
        }
        let (x, n) = (self.val(w, a), self.truth(n));
        V::Val(self.b.ins().ishl(x, n))
    }
    fn shr(&mut self, w: Width, a: V, n: V) -> V {
        if let V::Const(k) = n {
            let k = k & 63;
            return match a {
                V::Const(c) => V::Const((c & w.mask()) >> k),
                a if k == 0 && self.is_width(w, a) => a,
                a => {
                    let x = self.val(w, a);
                    V::Val(self.b.ins().ushr_imm_s(x, k as i64))
                }
            };
        }
        let (x, n) = (self.val(w, a), self.truth(n));
        V::Val(self.b.ins().ushr(x, n))
    }
    fn sar(&mut self, w: Width, a: V, n: V) -> V {
        if let V::Const(k) = n {
            let k = k & 63;
            return match a {
                V::Const(c) => V::Const((w.sext(c) as i64 >> k) as u64 & w.mask()),
                a if k == 0 && self.is_width(w, a) => a,
                a => {
                    let x = self.val(w, a);
                    V::Val(self.b.ins().sshr_imm_s(x, k as i64))
                }
            };
        }
        let (x, n) = (self.val(w, a), self.truth(n));
        V::Val(self.b.ins().sshr(x, n))
    }
    fn rotl(&mut self, w: Width, a: V, n: V) -> V {
        let x = self.val(w, a);
        if let V::Const(k) = n {
            return V::Val(self.b.ins().rotl_imm_s(x, (k & u64::from(w.bits() - 1)) as i64));
        }
        let n = self.truth(n);
        V::Val(self.b.ins().rotl(x, n))
    }
    fn rotr(&mut self, w: Width, a: V, n: V) -> V {
        let x = self.val(w, a);
        if let V::Const(k) = n {
            return V::Val(self.b.ins().rotr_imm_s(x, (k & u64::from(w.bits() - 1)) as i64));
        }
        let n = self.truth(n);
        V::Val(self.b.ins().rotr(x, n))
    }
    fn sext(&mut self, from: Width, to: Width, a: V) -> V {
        if let V::Const(c) = a {
            return V::Const(from.sext(c) & to.mask());
        }
        let x = self.val(from, a);
        if from >= to { V::Val(self.resize(ty(to), x)) } else { V::Val(self.b.ins().sextend(ty(to), x)) }
    }
    fn zext(&mut self, from: Width, to: Width, a: V) -> V {
        match a {
            V::Const(c) => V::Const(c & from.mask()),
            // 0 or 1 at any width.
            V::Cmp(..) | V::EntryCarry => a,
            a => {
                let x = self.val(from, a);
                V::Val(self.resize(ty(to), x))
            }
        }
    }
    fn trunc(&mut self, to: Width, a: V) -> V {
        match a {
            V::Const(c) => V::Const(c & to.mask()),
            V::Cmp(..) | V::EntryCarry => a,
            V::Val(x) if self.b.func.dfg.value_type(x).bits() <= to.bits() => a,
            a => V::Val(self.val(to, a)),
        }
    }
    fn bswap(&mut self, w: Width, a: V) -> V {
        if w == Width::B {
            return a;
        }
        let x = self.val(w, a);
        V::Val(self.b.ins().bswap(x))
    }
    fn clz(&mut self, w: Width, a: V) -> V {
        let x = self.val(w, a);
        V::Val(self.b.ins().clz(x))
    }
    fn ctz(&mut self, w: Width, a: V) -> V {
        let x = self.val(w, a);
        V::Val(self.b.ins().ctz(x))
    }
    fn popcnt(&mut self, w: Width, a: V) -> V {
        let x = self.val(w, a);
        V::Val(self.b.ins().popcnt(x))
    }

    fn eq(&mut self, w: Width, a: V, b: V) -> V {
        self.compare(IntCC::Equal, w, a, b)
    }
    fn ult(&mut self, w: Width, a: V, b: V) -> V {
        self.compare(IntCC::UnsignedLessThan, w, a, b)
    }
    fn slt(&mut self, w: Width, a: V, b: V) -> V {
        self.compare(IntCC::SignedLessThan, w, a, b)
    }
    fn select(&mut self, w: Width, c: V, a: V, b: V) -> V {
        if let V::Const(c) = c {
            return if c != 0 { a } else { b };
        }
        let (x, y) = (self.val(w, a), self.val(w, b));
        let c = self.truth(c);
        V::Val(self.b.ins().select(c, x, y))
    }

    fn set_cc(&mut self, kind: CcKind, w: Width, res: V, src: V, aux: V) {
        self.flags_set(Cc { kind, w, res, src, aux });
    }
    fn set_cc_if(&mut self, c: V, kind: CcKind, w: Width, res: V, src: V, aux: V) {
        self.flags_set_if(c, Cc { kind, w, res, src, aux });
    }
    fn cond(&mut self, c: Cond) -> V {
        self.flags_cond(c)
    }
    fn arith_flags(&mut self) -> V {
        self.flags_all()
    }
    fn set_flag_bits(&mut self, c: V, mask: u64, bits: V) {
        self.flags_set_bits(c, mask, bits);
    }
    fn set_df(&mut self, set: bool) {
        let f = self.b.ins().load(types::I64, state_flags(), self.state, off::FLAGS);
        let f = if set {
            self.b.ins().bor_imm_s(f, rflags::DF as i64)
        } else {
            self.b.ins().band_imm_s(f, !rflags::DF as i64)
        };
        self.b.ins().store(state_flags(), f, self.state, off::FLAGS);
    }

    fn jump(&mut self, target: u64) {
        self.end_jump(target);
    }
    fn jump_if(&mut self, c: V, taken: u64, next: u64) {
        self.end_jump_if(c, taken, next);
    }
    fn jump_to(&mut self, target: V, _: JumpKind) {
        self.end_jump_to(target);
    }
    fn note_call(&mut self, _: u64) {}

    fn fault_if(&mut self, c: V, _: u8) -> R<()> {
        self.redo_if(c);
        Ok(())
    }
    fn check_canonical(&mut self, suspect: V, _: V) -> R<()> {
        self.redo_if(suspect);
        Ok(())
    }
    fn prefer_helper(&self) -> bool {
        true
    }
}

impl Lifter<'_> {
    /// Is the value of the type of width `w` already (or free of one)?
    fn is_width(&self, w: Width, v: V) -> bool {
        match v {
            V::Val(x) => self.b.func.dfg.value_type(x) == ty(w),
            _ => true,
        }
    }
}
