//! Lanes of 128-bit values: casts, constants, shuffles, shifts.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use x86::insn::Width;
use x86::vec::VShift;

use super::Lifter;

/// The type in which vectors are kept.
pub(super) const ALL: Type = types::I8X16;

/// The vector type with integer lanes of a width.
pub(super) fn lanes(w: Width) -> Type {
    match w {
        Width::B => types::I8X16,
        Width::W => types::I16X8,
        Width::D => types::I32X4,
        Width::Q => types::I64X2,
    }
}

impl Lifter<'_> {
    /// Reinterprets a vector.
    pub(super) fn cast(&mut self, t: Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == t {
            return x;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(t, flags, x)
    }

    /// A constant.
    pub(super) fn constant(&mut self, x: [u64; 2]) -> Value {
        let bytes: Vec<u8> = x.iter().flat_map(|q| q.to_le_bytes()).collect();
        let c = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.b.ins().vconst(ALL, c)
    }

    /// All lanes of width `w` equal to `v`.
    pub(super) fn constant_lanes(&mut self, w: Width, v: u64) -> Value {
        let mut q = v & w.mask();
        let mut bits = w.bits();
        while bits < 64 {
            q |= q << bits;
            bits *= 2;
        }
        self.constant([q, q])
    }

    /// Runs an operation on lanes of type `t`.
    pub(super) fn lanewise(
        &mut self,
        t: Type,
        a: Value,
        b: Value,
        f: impl FnOnce(&mut Self, Value, Value) -> Value,
    ) -> Value {
        let (a, b) = (self.cast(t, a), self.cast(t, b));
        let r = f(self, a, b);
        self.cast(ALL, r)
    }

    /// Picks 16 of the 32 bytes of `a` and `b`.
    pub(super) fn shuffle_bytes(&mut self, a: Value, b: Value, pick: [u8; 16]) -> Value {
        let mask = self.b.func.dfg.immediates.push(ConstantData::from(pick.to_vec()));
        let (a, b) = (self.cast(ALL, a), self.cast(ALL, b));
        self.b.ins().shuffle(a, b, mask)
    }

    /// Interleaves lanes of `n` bytes from the low or high halves.
    pub(super) fn interleave(&mut self, a: Value, b: Value, n: usize, high: bool) -> Value {
        let pick = std::array::from_fn(|k| {
            let (lane, byte) = (k / n, k % n);
            let from = if high { 8 } else { 0 } + lane / 2 * n + byte;
            (from + if lane % 2 == 1 { 16 } else { 0 }) as u8
        });
        self.shuffle_bytes(a, b, pick)
    }

    /// All ones in the lanes for which `cc` holds.
    pub(super) fn compare_lanes(&mut self, cc: IntCC, w: Width, a: Value, b: Value) -> Value {
        self.lanewise(lanes(w), a, b, |s, a, b| s.b.ins().icmp(cc, a, b))
    }

    /// Is any bit of the vector set? An `i8`.
    pub(super) fn any(&mut self, x: Value) -> Value {
        self.b.ins().vany_true(x)
    }

    /// Shifts all lanes by `n`, which is below their width.
    pub(super) fn shift_lanes(&mut self, op: VShift, a: Value, n: Value) -> Value {
        let a = self.cast(lanes(op.width()), a);
        let x = match op {
            VShift::ShlW | VShift::ShlD | VShift::ShlQ => self.b.ins().ishl(a, n),
            VShift::ShrW | VShift::ShrD | VShift::ShrQ => self.b.ins().ushr(a, n),
            VShift::SarW | VShift::SarD => self.b.ins().sshr(a, n),
        };
        self.cast(ALL, x)
    }

    /// Each doubleword of the result is the one of `a` whose number is in the low two bits of `pick`'s.
    pub(super) fn permute_dwords(&mut self, a: Value, pick: Value) -> Value {
        // Bytes 4n to 4n + 3: 4 times the number in each byte of the lane, and the byte's place.
        let three = self.constant_lanes(Width::D, 3);
        let n = self.b.ins().band(pick, three);
        let n = self.lanewise(types::I32X4, n, n, |s, n, _| {
            let four = s.constant_lanes(Width::D, 0x0404_0404);
            let four = s.cast(types::I32X4, four);
            s.b.ins().imul(n, four)
        });
        let places = self.constant_lanes(Width::D, 0x0302_0100);
        let bytes = self.b.ins().bor(n, places);
        self.b.ins().swizzle(a, bytes)
    }
}
