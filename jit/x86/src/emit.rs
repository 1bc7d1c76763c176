//! The trait over which instructions are written once.
//!
//! What is static about an instruction (form, width, mode) is plain Rust in `lift`; what is known only at run time is an
//! [`Emitter::V`]: a `u64` in the evaluator, a Cranelift value in the compiler. `if` on guest values therefore cannot be
//! written by accident; use [`Emitter::select`], [`Emitter::set_cc_if`] or the branch terminators.
//!
//! Values carry no width of their own: every operation names it, and a value of width `w` is zero-extended, i.e. has all
//! bits above `w` clear (the compiler may represent this by types).
//!
//! The rule for writers: loads, stores' address checks and [`Emitter::fault_if`] come before the first register or flag
//! write of an instruction; an error leaves at once by `?`. In the evaluator [`Stop`] means that `CpuState::stop` says
//! why; in the compiler it means "this form is not inlined": nothing has been written, and the compiler calls the
//! instruction's tier-0 handler instead.

use crate::cc::CcKind;
use crate::insn::{AddrMode, Cond, Insn, Width};

/// The instruction cannot go on (see the module).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// Result of a step that may stop the instruction.
pub type R<T> = Result<T, Stop>;

/// Memory ordering that an access asks for. x86's default is TSO; the compiler maps it to what the host needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ordinary access: total store order.
    Tso,
    /// Non-temporal store: weakly ordered (SDM vol. 1, 10.4.6.2).
    NonTemporal,
}

/// Fence instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// LFENCE: loads before all that follows. TSO has that already.
    Loads,
    /// SFENCE: stores before stores. TSO has that but for non-temporal ones.
    Stores,
    /// MFENCE: everything, stores before loads too.
    All,
}

/// A memory operand: segment and offset, and how they combine.
#[derive(Clone, Copy, Debug)]
pub struct Addr<V> {
    /// Segment register index.
    pub seg: u8,
    /// How the segment is applied.
    pub mode: AddrMode,
    /// Offset, truncated to the address width.
    pub off: V,
    /// Ordering of the access.
    pub order: Order,
}

/// What instructions are made of. See the module for the rules.
#[expect(missing_docs, reason = "operations are named by their meaning; the widths are in the signature")]
pub trait Emitter: Sized {
    /// An integer of up to 64 bits.
    type V: Copy;

    // Constants and registers.
    fn imm(&mut self, w: Width, v: u64) -> Self::V;
    fn gpr(&mut self, w: Width, r: u8) -> Self::V;
    /// AH, CH, DH, BH (`r` 0..3).
    fn high(&mut self, r: u8) -> Self::V;
    /// Writes a register: 32 bits zero-extend, 8 and 16 bits keep the rest.
    fn set_gpr(&mut self, w: Width, r: u8, v: Self::V);
    fn set_high(&mut self, r: u8, v: Self::V);

    // Memory.
    /// Base + index * scale + displacement of the memory operand, truncated to the address width.
    fn offset(&mut self, i: &Insn) -> Self::V {
        crate::lift::offset(self, i)
    }
    /// [`Emitter::offset`] where the address width is known, and whether there is an index.
    fn offset_as(&mut self, i: &Insn, _aw: Width, _index: bool) -> Self::V {
        self.offset(i)
    }
    fn load(&mut self, at: Addr<Self::V>, w: Width) -> R<Self::V>;
    // Shortcuts of tier 0 at linear addresses: done if the TLB has the page, else `Err` with nothing raised and nothing
    // done. Nobody else has reason to offer them.
    fn load_near(&mut self, _at: Self::V, _w: Width) -> R<Self::V> {
        Err(Stop)
    }
    /// As `load_near`, where `store_near` would not fail either.
    fn load_for_write_near(&mut self, _at: Self::V, _w: Width) -> R<Self::V> {
        Err(Stop)
    }
    fn store_near(&mut self, _at: Self::V, _w: Width, _v: Self::V) -> R<()> {
        Err(Stop)
    }
    fn store(&mut self, at: Addr<Self::V>, w: Width, v: Self::V) -> R<()>;
    /// Reads for an unlocked read-modify-write: faults as a write would. Followed by `store` to the same address, which
    /// then cannot fault.
    fn load_for_write(&mut self, at: Addr<Self::V>, w: Width) -> R<Self::V>;
    /// Atomic read-modify-write (LOCK): stores `f(old, operand)`, gives the old value.
    fn atomic(&mut self, at: Addr<Self::V>, w: Width, op: Rmw, operand: Self::V) -> R<Self::V>;
    /// Atomic compare-exchange: stores `new` if memory equals `expected`; gives the old value.
    fn atomic_cmpxchg(&mut self, at: Addr<Self::V>, w: Width, expected: Self::V, new: Self::V) -> R<Self::V>;
    /// Orders earlier accesses before later ones.
    fn fence(&mut self, what: Fence);

    // Arithmetic at a width; results are zero-extended.
    fn add(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn sub(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn and(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn or(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn xor(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn not(&mut self, w: Width, a: Self::V) -> Self::V;
    fn neg(&mut self, w: Width, a: Self::V) -> Self::V;
    fn mul(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// High half of the unsigned product.
    fn mulhu(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// High half of the signed product.
    fn mulhs(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// Unsigned division of a value of width `w` (the compiler's caller guarantees `b != 0`).
    fn udiv(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn urem(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// Signed division; `b != 0` and no overflow.
    fn sdiv(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn srem(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// 128 by 64 bits: quotient, remainder, "quotient does not fit" (0 or 1). `b != 0`. Only called where
    /// `prefer_helper` is false.
    fn div128(&mut self, hi: Self::V, lo: Self::V, b: Self::V, signed: bool) -> (Self::V, Self::V, Self::V);
    /// Shifts; the count is below the width in bits (any width of value: only its low 6 bits are looked at).
    fn shl(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn shr(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn sar(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    /// Rotates by the count modulo the width.
    fn rotl(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn rotr(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn sext(&mut self, from: Width, to: Width, a: Self::V) -> Self::V;
    /// Zero-extends: changes nothing but the representation.
    fn zext(&mut self, from: Width, to: Width, a: Self::V) -> Self::V;
    /// The low `to` bits.
    fn trunc(&mut self, to: Width, a: Self::V) -> Self::V;
    fn bswap(&mut self, w: Width, a: Self::V) -> Self::V;
    /// Leading zeros (the width in bits for 0).
    fn clz(&mut self, w: Width, a: Self::V) -> Self::V;
    /// Trailing zeros (the width in bits for 0).
    fn ctz(&mut self, w: Width, a: Self::V) -> Self::V;
    fn popcnt(&mut self, w: Width, a: Self::V) -> Self::V;

    // Comparisons give 0 or 1 at width B.
    fn eq(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn ult(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn slt(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// `c != 0 ? a : b`; `c` is 0 or 1.
    fn select(&mut self, w: Width, c: Self::V, a: Self::V, b: Self::V) -> Self::V;

    // Flags (see `cc`).
    /// The arithmetic flags now follow from these operands.
    fn set_cc(&mut self, kind: CcKind, w: Width, res: Self::V, src: Self::V, aux: Self::V);
    /// As `set_cc` if `c` (0 or 1), else they stay.
    fn set_cc_if(&mut self, c: Self::V, kind: CcKind, w: Width, res: Self::V, src: Self::V, aux: Self::V);
    /// A condition as 0 or 1 at width B.
    fn cond(&mut self, c: Cond) -> Self::V;
    /// The six arithmetic flags at their RFLAGS places, others 0, width D.
    fn arith_flags(&mut self) -> Self::V;
    /// If `c` (0 or 1): replaces the arithmetic flags in `mask` by those in `bits` (width D, RFLAGS places, only bits of
    /// `mask` set); the others stay.
    fn set_flag_bits(&mut self, c: Self::V, mask: u64, bits: Self::V) {
        let f = self.arith_flags();
        let keep = self.imm(Width::D, !mask);
        let f = self.and(Width::D, f, keep);
        let f = self.or(Width::D, f, bits);
        let z = self.imm(Width::D, 0);
        self.set_cc_if(c, CcKind::Flags, Width::D, f, z, z);
    }
    /// The flag DF: sets or clears it.
    fn set_df(&mut self, set: bool);

    // Ends of a block.
    fn jump(&mut self, target: u64);
    /// Goes to `taken` if `c` (0 or 1), else to `next`.
    fn jump_if(&mut self, c: Self::V, taken: u64, next: u64);
    /// Indirect jump to an offset in CS (already truncated to the code's width).
    fn jump_to(&mut self, target: Self::V, kind: JumpKind);
    /// Tells a return-address predictor of a call's return address.
    fn note_call(&mut self, return_to: u64);

    /// Raises an exception without an error code, or #GP(0), if `c` (0 or 1).
    fn fault_if(&mut self, c: Self::V, vector: u8) -> R<()>;
    /// #GP(0) if `target` is not canonical; `suspect` is 1 if it has more than 48 significant bits.
    fn check_canonical(&mut self, suspect: Self::V, target: Self::V) -> R<()>;
    /// `true` in the compiler for forms that are better left to the tier-0 handler.
    fn prefer_helper(&self) -> bool;
}

/// What an indirect jump is, for prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JumpKind {
    /// JMP r/m.
    Jump,
    /// CALL r/m.
    Call,
    /// RET.
    Return,
}

/// Atomic read-modify-write operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named by what they do")]
pub enum Rmw {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Xchg,
    /// `-old`; the operand is ignored.
    Neg,
}
