//! The integer instructions, written once over [`Emitter`].
//!
//! [`select`] recognises an instruction when it is decoded and chooses its tier-0 handler; [`lift`] is what the compiler
//! calls. Both end in the same functions: a handler is such a function monomorphised for operation, width and operand
//! form (the [`Dst`] and [`Src`] types), the compiler's call leaves them to run time.

pub mod alu;
pub mod bits;
pub mod flow;
pub mod handlers;
pub mod limited;
pub mod mov;
pub mod muldiv;
pub mod select;
pub mod shift;

pub use select::select;

use crate::emit::{Addr, Emitter, Order, R, Stop};
use crate::insn::{AddrMode, Insn, Op, Opnd, Width};
use crate::state::{reg, seg};

/// A place that can be read and written.
#[derive(Clone, Copy, Debug)]
pub enum Loc<V> {
    /// General register.
    Gpr(u8),
    /// AH..BH.
    High(u8),
    /// Memory.
    Mem(Addr<V>),
    /// Memory at a linear address, if the TLB has it ([`Near`]).
    Near(V),
}

/// The memory operand of `i`.
#[inline(always)]
pub fn addr<E: Emitter>(e: &mut E, i: &Insn) -> Addr<E::V> {
    Addr { seg: i.seg, mode: i.am, off: e.offset(i), order: Order::Tso }
}

/// Base + index * scale + displacement, truncated to the address width.
#[inline(always)]
pub fn offset<E: Emitter>(e: &mut E, i: &Insn) -> E::V {
    let w = i.aw;
    let mut a = None;
    if i.base != reg::ZERO {
        a = Some(e.gpr(w, i.base));
    }
    if i.index != reg::ZERO {
        let mut x = e.gpr(w, i.index);
        if i.factor > 1 {
            let n = e.imm(Width::B, u64::from(i.factor.trailing_zeros()));
            x = e.shl(w, x, n);
        }
        a = Some(match a {
            Some(b) => e.add(w, b, x),
            None => x,
        });
    }
    match a {
        Some(a) if i.disp == 0 => a,
        Some(a) => {
            let d = e.imm(w, i.disp);
            e.add(w, a, d)
        }
        None => e.imm(w, i.disp),
    }
}

/// Where an operand is.
#[inline(always)]
pub fn loc<E: Emitter>(e: &mut E, i: &Insn, o: Opnd) -> Loc<E::V> {
    match o {
        Opnd::Gpr(r) => Loc::Gpr(r),
        Opnd::High(r) => Loc::High(r),
        _ => Loc::Mem(addr(e, i)),
    }
}

/// Reads a place.
#[inline(always)]
pub fn read<E: Emitter>(e: &mut E, l: Loc<E::V>, w: Width) -> R<E::V> {
    Ok(match l {
        Loc::Gpr(r) => e.gpr(w, r),
        Loc::High(r) => e.high(r),
        Loc::Mem(a) => e.load(a, w)?,
        Loc::Near(a) => e.load_near(a, w)?,
    })
}

/// Reads a place that will be written.
#[inline(always)]
pub fn read_for_write<E: Emitter>(e: &mut E, l: Loc<E::V>, w: Width) -> R<E::V> {
    match l {
        Loc::Mem(a) => e.load_for_write(a, w),
        Loc::Near(a) => e.load_for_write_near(a, w),
        _ => read(e, l, w),
    }
}

/// Writes a place.
#[inline(always)]
pub fn write<E: Emitter>(e: &mut E, l: Loc<E::V>, w: Width, v: E::V) -> R<()> {
    match l {
        Loc::Gpr(r) => e.set_gpr(w, r, v),
        Loc::High(r) => e.set_high(r, v),
        Loc::Mem(a) => e.store(a, w, v)?,
        Loc::Near(a) => e.store_near(a, w, v)?,
    }
    Ok(())
}

/// Reads an operand of any kind.
#[inline(always)]
pub fn get<E: Emitter>(e: &mut E, i: &Insn, o: Opnd, w: Width) -> R<E::V> {
    if o == Opnd::Imm {
        return Ok(e.imm(w, i.imm));
    }
    let l = loc(e, i, o);
    read(e, l, w)
}

/// A destination form: static in tier 0's hot handlers, `Any` elsewhere.
pub trait Dst {
    /// Can it be memory? A store may stop the block without failing.
    const MEMORY: bool = true;
    /// Where it is.
    fn loc<E: Emitter>(e: &mut E, i: &Insn) -> Loc<E::V>;
}

/// A source form.
pub trait Src {
    /// Its value.
    fn get<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<E::V>;
}

/// Any operand form, looked at when executed or compiled.
pub struct Any;
/// General register (not AH..BH).
pub struct Reg;
/// Memory.
pub struct Mem;
/// Immediate.
pub struct Imm;
/// Memory in a flat segment with 64-bit (`AW` 3) or 32-bit (2) addresses, with or without an index register, without LOCK,
/// while the TLB has it. Where it has not, nothing happens and the result is `Err` with nothing raised: tier 0 then runs the handler of the general form.
pub struct Near<const AW: u8, const INDEX: bool>;

impl<const AW: u8, const INDEX: bool> Near<AW, INDEX> {
    #[inline(always)]
    fn address<E: Emitter>(e: &mut E, i: &Insn) -> E::V {
        e.offset_as(i, Width::from_u8(AW), INDEX)
    }
}
impl<const AW: u8, const INDEX: bool> Dst for Near<AW, INDEX> {
    #[inline(always)]
    fn loc<E: Emitter>(e: &mut E, i: &Insn) -> Loc<E::V> {
        Loc::Near(Self::address(e, i))
    }
}
impl<const AW: u8, const INDEX: bool> Src for Near<AW, INDEX> {
    #[inline(always)]
    fn get<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<E::V> {
        let at = Self::address(e, i);
        e.load_near(at, w)
    }
}

impl Dst for Any {
    #[inline(always)]
    fn loc<E: Emitter>(e: &mut E, i: &Insn) -> Loc<E::V> {
        loc(e, i, i.dst)
    }
}
impl Dst for Reg {
    const MEMORY: bool = false;
    #[inline(always)]
    fn loc<E: Emitter>(_: &mut E, i: &Insn) -> Loc<E::V> {
        Loc::Gpr(i.rd)
    }
}
impl Dst for Mem {
    #[inline(always)]
    fn loc<E: Emitter>(e: &mut E, i: &Insn) -> Loc<E::V> {
        Loc::Mem(addr(e, i))
    }
}
impl Src for Any {
    #[inline(always)]
    fn get<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<E::V> {
        get(e, i, i.src, w)
    }
}
impl Src for Reg {
    #[inline(always)]
    fn get<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<E::V> {
        Ok(e.gpr(w, i.rs))
    }
}
impl Src for Mem {
    #[inline(always)]
    fn get<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<E::V> {
        let a = addr(e, i);
        e.load(a, w)
    }
}
impl Src for Imm {
    #[inline(always)]
    fn get<E: Emitter>(e: &mut E, i: &Insn, w: Width) -> R<E::V> {
        Ok(e.imm(w, i.imm))
    }
}

/// How the stack is reached.
pub trait Stack {
    /// Width of the stack pointer.
    fn width(i: &Insn) -> Width;
    /// Reads at the offset `off`.
    fn load<E: Emitter>(e: &mut E, i: &Insn, off: E::V, w: Width) -> R<E::V>;
    /// Writes at the offset `off`.
    fn store<E: Emitter>(e: &mut E, i: &Insn, off: E::V, w: Width, v: E::V) -> R<()>;
}

/// Any stack segment.
pub struct AnyStack;
/// The flat stack of 64-bit mode, while the TLB has it; `Err` as for [`Near`].
pub struct NearStack;

impl Stack for AnyStack {
    #[inline(always)]
    fn width(i: &Insn) -> Width {
        i.sw
    }
    #[inline(always)]
    fn load<E: Emitter>(e: &mut E, i: &Insn, off: E::V, w: Width) -> R<E::V> {
        e.load(Addr { seg: seg::SS, mode: i.sm, off, order: Order::Tso }, w)
    }
    #[inline(always)]
    fn store<E: Emitter>(e: &mut E, i: &Insn, off: E::V, w: Width, v: E::V) -> R<()> {
        e.store(Addr { seg: seg::SS, mode: i.sm, off, order: Order::Tso }, w, v)
    }
}
impl Stack for NearStack {
    #[inline(always)]
    fn width(_: &Insn) -> Width {
        Width::Q
    }
    #[inline(always)]
    fn load<E: Emitter>(e: &mut E, _: &Insn, off: E::V, w: Width) -> R<E::V> {
        e.load_near(off, w)
    }
    #[inline(always)]
    fn store<E: Emitter>(e: &mut E, _: &Insn, off: E::V, w: Width, v: E::V) -> R<()> {
        e.store_near(off, w, v)
    }
}

/// Stores `v` below the stack pointer and gives the new stack pointer, which the caller writes when nothing can fail
/// any more.
#[inline(always)]
pub fn push<E: Emitter, K: Stack>(e: &mut E, i: &Insn, w: Width, v: E::V) -> R<E::V> {
    let sw = K::width(i);
    let sp = e.gpr(sw, reg::RSP);
    let n = e.imm(sw, u64::from(w.bytes()));
    let sp = e.sub(sw, sp, n);
    K::store(e, i, sp, w, v)?;
    Ok(sp)
}

/// Lifts an instruction for the compiler. `Err(Stop)`: nothing was written, call its tier-0 handler instead.
pub fn lift<E: Emitter>(e: &mut E, i: &Insn) -> R<()> {
    if i.am == AddrMode::Checked && [i.dst, i.src, i.src2].contains(&Opnd::Mem) && i.op != Op::Lea {
        return Err(Stop);
    }
    match i.op {
        Op::Alu(op) => alu::binary::<E, Any, Any>(e, i, op, i.w),
        Op::Unary(op) => alu::unary::<E, Any>(e, i, op, i.w),
        Op::Shift(op) => shift::shift::<E, Any>(e, i, op, i.w),
        Op::ShiftDouble(right) => shift::double(e, i, right, i.w),
        Op::Mov => mov::mov::<E, Any, Any>(e, i, i.w),
        Op::Movzx => mov::movzx::<E, Any>(e, i, i.w2, i.w),
        Op::Movsx => mov::movsx::<E, Any>(e, i, i.w2, i.w),
        Op::Lea => mov::lea(e, i, i.w),
        Op::Xchg => mov::xchg(e, i, i.w),
        Op::Bswap => mov::bswap(e, i, i.w),
        Op::Movbe => mov::movbe(e, i, i.w),
        Op::ExtendAcc => mov::extend_acc(e, i.w),
        Op::ExtendDx => mov::extend_dx(e, i.w),
        Op::Push => mov::push::<E, AnyStack, Any>(e, i, i.w),
        Op::Pop => mov::pop::<E, AnyStack, Any>(e, i, i.w),
        Op::Leave => mov::leave::<E, AnyStack>(e, i, i.w),
        Op::Setcc(c) => mov::setcc::<E, Any>(e, i, c),
        Op::Cmov(c) => mov::cmov::<E, Any>(e, i, c, i.w),
        Op::Jmp => flow::jmp(e, i),
        Op::JmpInd => flow::jmp_ind::<E, Any>(e, i),
        Op::Jcc(c) => flow::jcc(e, i, c),
        Op::Loop(kind) => flow::loop_(e, i, kind),
        Op::Jcxz => flow::jcxz(e, i),
        Op::Call => flow::call::<E, AnyStack>(e, i),
        Op::CallInd => flow::call_ind::<E, AnyStack, Any>(e, i),
        Op::Ret => flow::ret::<E, AnyStack>(e, i),
        Op::EndBlock => flow::end_block(e, i),
        Op::Mul => muldiv::mul::<E, Any>(e, i, i.w),
        Op::ImulAcc => muldiv::imul_acc::<E, Any>(e, i, i.w),
        Op::Imul => muldiv::imul::<E, Any>(e, i, i.w),
        Op::Div => muldiv::div(e, i, i.w),
        Op::Idiv => muldiv::idiv(e, i, i.w),
        Op::BitTest(op) => bits::bit_test(e, i, op, i.w),
        Op::BitScan(op) => bits::scan::<E, Any>(e, i, op, i.w),
        Op::Bmi(op) => bits::bmi(e, i, op, i.w),
        Op::Crc32 => bits::crc32(e, i),
        Op::Cmpxchg => alu::cmpxchg(e, i, i.w),
        Op::Xadd => alu::xadd(e, i, i.w),
        Op::Nop => Ok(()),
        Op::Clc | Op::Stc | Op::Cmc | Op::Lahf | Op::Sahf | Op::Cld | Op::Std => alu::flag_op(e, i.op),
        Op::Fence(what) => {
            e.fence(what);
            Ok(())
        }
        Op::Str(_) | Op::Vec(_) | Op::X87(_) | Op::In | Op::Cold => Err(Stop),
    }
}
