//! Integer operations for which no single instruction exists on both kinds of host: widening products, sums across lanes,
//! signs.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use x86::insn::Width;

use super::Lifter;
use super::lanes::{ALL, lanes};

/// How adjacent lanes are combined.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pairs {
    AddSaturated,
    Sub,
    SubSaturated,
}

impl Lifter<'_> {
    /// The 32-bit products of the words: of the low four lanes, and of the high four.
    fn word_products(&mut self, a: Value, b: Value, signed: bool) -> [Value; 2] {
        let (a, b) = (self.cast(types::I16X8, a), self.cast(types::I16X8, b));
        let i = &mut self.b;
        let [(x, y), (z, w)] = if signed {
            let low = (i.ins().swiden_low(a), i.ins().swiden_low(b));
            [low, (i.ins().swiden_high(a), i.ins().swiden_high(b))]
        } else {
            let low = (i.ins().uwiden_low(a), i.ins().uwiden_low(b));
            [low, (i.ins().uwiden_high(a), i.ins().uwiden_high(b))]
        };
        [self.b.ins().imul(x, y), self.b.ins().imul(z, w)]
    }

    /// The high halves of the words' products.
    pub(super) fn high_products(&mut self, a: Value, b: Value, signed: bool) -> Value {
        let products = self.word_products(a, b, signed);
        let n = self.b.ins().iconst(types::I32, 16);
        let [x, y] = products.map(|p| if signed { self.b.ins().sshr(p, n) } else { self.b.ins().ushr(p, n) });
        // They fit: nothing is saturated.
        let x = if signed { self.b.ins().snarrow(x, y) } else { self.b.ins().unarrow(x, y) };
        self.cast(ALL, x)
    }

    /// PMULHRSW.
    pub(super) fn rounded_products(&mut self, a: Value, b: Value) -> Value {
        let products = self.word_products(a, b, true);
        let one = self.constant_lanes(Width::D, 1);
        let one = self.cast(types::I32X4, one);
        let low = self.constant_lanes(Width::D, 0xffff);
        let low = self.cast(types::I32X4, low);
        let [x, y] = products.map(|p| {
            let n = self.b.ins().iconst(types::I32, 14);
            let p = self.b.ins().sshr(p, n);
            let p = self.b.ins().iadd(p, one);
            let n = self.b.ins().iconst(types::I32, 1);
            let p = self.b.ins().sshr(p, n);
            // 8000h squared gives 8000h, which is not to be saturated.
            self.b.ins().band(p, low)
        });
        let x = self.b.ins().unarrow(x, y);
        self.cast(ALL, x)
    }

    /// PMULDQ.
    pub(super) fn signed_dword_products(&mut self, a: Value, b: Value) -> Value {
        let [a, b] = [a, b].map(|x| {
            let even = self.shuffle_bytes(x, x, [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]);
            let even = self.cast(types::I32X4, even);
            self.b.ins().swiden_low(even)
        });
        let x = self.b.ins().imul(a, b);
        self.cast(ALL, x)
    }

    /// PMADDUBSW: no product of an unsigned and a signed byte leaves 16 bits; their sums do.
    pub(super) fn byte_products(&mut self, a: Value, b: Value) -> Value {
        let t = types::I16X8;
        let bytes = self.constant_lanes(Width::W, 0xff);
        let even = self.b.ins().band(a, bytes);
        let (even, a) = (self.cast(t, even), self.cast(t, a));
        let b = self.cast(t, b);
        let n = self.b.ins().iconst(types::I32, 8);
        let odd = self.b.ins().ushr(a, n);
        let odd_b = self.b.ins().sshr(b, n);
        let even_b = self.b.ins().ishl(b, n);
        let even_b = self.b.ins().sshr(even_b, n);
        let even = self.b.ins().imul(even, even_b);
        let odd = self.b.ins().imul(odd, odd_b);
        let x = self.b.ins().sadd_sat(even, odd);
        self.cast(ALL, x)
    }

    /// PSADBW.
    pub(super) fn byte_distances(&mut self, a: Value, b: Value) -> Value {
        let (high, low) = (self.b.ins().umax(a, b), self.b.ins().umin(a, b));
        let mut x = self.b.ins().isub(high, low);
        // Sums of two bytes in words, of two words in doublewords, of two of those in quadwords.
        for w in [Width::W, Width::D, Width::Q] {
            let half = w.mask() >> (w.bits() / 2);
            let mask = self.constant_lanes(w, half);
            let even = self.b.ins().band(x, mask);
            let n = self.b.ins().iconst(types::I32, i64::from(w.bits() / 2));
            let lanes = lanes(w);
            let odd = self.cast(lanes, x);
            let odd = self.b.ins().ushr(odd, n);
            let even = self.cast(lanes, even);
            let sum = self.b.ins().iadd(even, odd);
            x = self.cast(ALL, sum);
        }
        x
    }

    /// PSIGNB, PSIGNW, PSIGND: `a` negated, zeroed or kept by the sign of `b`.
    pub(super) fn signed_by(&mut self, w: Width, a: Value, b: Value) -> Value {
        let zero = self.constant([0; 2]);
        let negative = self.compare_lanes(IntCC::SignedGreaterThan, w, zero, b);
        let none = self.compare_lanes(IntCC::Equal, w, zero, b);
        let a = self.b.ins().bxor(a, negative);
        let a = self.lanewise(lanes(w), a, negative, |s, a, m| s.b.ins().isub(a, m));
        self.b.ins().band_not(a, none)
    }

    /// PHSUBW and its kin: adjacent lanes of `a`, then those of `b`.
    pub(super) fn pairs(&mut self, how: Pairs, w: Width, a: Value, b: Value) -> Value {
        let n = w.bytes() as u8;
        let side = |odd: u8| std::array::from_fn(|k| 2 * n * (k as u8 / n) + odd * n + k as u8 % n);
        let even = self.shuffle_bytes(a, b, side(0));
        let odd = self.shuffle_bytes(a, b, side(1));
        self.lanewise(lanes(w), even, odd, |s, x, y| match how {
            Pairs::AddSaturated => s.b.ins().sadd_sat(x, y),
            Pairs::Sub => s.b.ins().isub(x, y),
            Pairs::SubSaturated => s.b.ins().ssub_sat(x, y),
        })
    }

    /// VPERMILPD: bit 1 of each quadword of `pick` chooses one of `a`.
    pub(super) fn permute_quads(&mut self, a: Value, pick: Value) -> Value {
        let low = self.shuffle_bytes(a, a, std::array::from_fn(|k| k as u8 % 8));
        let high = self.shuffle_bytes(a, a, std::array::from_fn(|k| 8 + k as u8 % 8));
        let two = self.constant_lanes(Width::Q, 2);
        let bit = self.b.ins().band(pick, two);
        let m = self.compare_lanes(IntCC::Equal, Width::Q, bit, two);
        self.b.ins().bitselect(m, high, low)
    }
}
