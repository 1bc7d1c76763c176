//! Integer instructions that compilers do not use: BCD adjustments, ENTER, BOUND, PUSHA, POPA, XLAT, SALC, the wide
//! compare-exchanges, random numbers and cache hints.

use iced_x86::{Code, Instruction, Mnemonic};
use softmmu::{Access, MemTrap};

use crate::cc::CcKind;
use crate::emit::{Emitter, R};
use crate::insn::{AddrMode, Insn, Opnd, Width, prefix};
use crate::lift;
use crate::model::{Era, Feature};
use crate::state::{Mode, reg, rflags};
use crate::vcpu::{Vcpu, addr_mode, vector};

use super::stack::Stack;
use super::{ENDS, GOES_ON, Pick, handler};

fn set_flags(cpu: &mut Vcpu, f: u64) {
    cpu.set_cc(CcKind::Flags, Width::D, f, 0, 0);
}

/// SF, ZF and PF of an 8-bit result.
fn result_flags(v: u8) -> u64 {
    let mut f = 0;
    if v == 0 {
        f |= rflags::ZF;
    }
    if v & 0x80 != 0 {
        f |= rflags::SF;
    }
    if v.count_ones().is_multiple_of(2) {
        f |= rflags::PF;
    }
    f
}

fn al(cpu: &Vcpu) -> u8 {
    cpu.st.gpr[reg::RAX as usize] as u8
}

/// AAA and AAS; OF, SF, ZF, PF are undefined and here those of AL.
fn ascii_adjust(cpu: &mut Vcpu, subtract: bool) {
    let f = cpu.arith_flags();
    let ax = cpu.st.gpr[reg::RAX as usize] as u16;
    let adjust = ax & 0xf > 9 || f & rflags::AF != 0;
    let v = match (adjust, subtract) {
        (false, _) => ax,
        (true, false) => ax.wrapping_add(0x106),
        (true, true) => ax.wrapping_sub(0x106),
    } & 0xff0f;
    let carry = if adjust { rflags::AF | rflags::CF } else { 0 };
    cpu.set_gpr(Width::W, reg::RAX, u64::from(v));
    set_flags(cpu, result_flags(v as u8) | carry);
}

fn aaa(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    ascii_adjust(cpu, false);
    Ok(())
}

fn aas(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    ascii_adjust(cpu, true);
    Ok(())
}

fn aam(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (a, base) = (al(cpu), i.imm as u8);
    let (Some(high), Some(low)) = (a.checked_div(base), a.checked_rem(base)) else {
        return Err(cpu.raise(vector::DE, None, 0));
    };
    cpu.set_gpr(Width::W, reg::RAX, u64::from(high) << 8 | u64::from(low));
    set_flags(cpu, result_flags(low));
    Ok(())
}

fn aad(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let ah = (cpu.st.gpr[reg::RAX as usize] >> 8) as u8;
    let v = al(cpu).wrapping_add(ah.wrapping_mul(i.imm as u8));
    cpu.set_gpr(Width::W, reg::RAX, u64::from(v));
    set_flags(cpu, result_flags(v));
    Ok(())
}

/// DAA and DAS (SDM's operation sections); OF is undefined and here 0.
fn decimal_adjust(cpu: &mut Vcpu, subtract: bool) {
    let f = cpu.arith_flags();
    let old = al(cpu);
    let old_cf = f & rflags::CF != 0;
    let step = |v: u8, n: u8| if subtract { v.overflowing_sub(n) } else { v.overflowing_add(n) };
    let mut v = old;
    let mut out = 0;
    let mut cf = false;
    if old & 0xf > 9 || f & rflags::AF != 0 {
        let (next, wrapped) = step(v, 6);
        v = next;
        cf = old_cf || wrapped;
        out |= rflags::AF;
    }
    if old > 0x99 || old_cf {
        v = step(v, 0x60).0;
        cf = true;
    } else if !subtract {
        cf = false;
    }
    if cf {
        out |= rflags::CF;
    }
    cpu.set_gpr(Width::B, reg::RAX, u64::from(v));
    set_flags(cpu, out | result_flags(v));
}

fn daa(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    decimal_adjust(cpu, false);
    Ok(())
}

fn das(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    decimal_adjust(cpu, true);
    Ok(())
}

fn salc(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    let v = if cpu.arith_flags() & rflags::CF != 0 { 0xff } else { 0 };
    cpu.set_gpr(Width::B, reg::RAX, v);
    Ok(())
}

fn xlat(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let off = cpu.st.gpr[reg::RBX as usize].wrapping_add(u64::from(al(cpu))) & i.aw.mask();
    let at = cpu.linear(i.seg, i.am, off, 1, Access::Read)?;
    let v = cpu.read::<u8>(i.seg, at)?;
    cpu.set_gpr(Width::B, reg::RAX, u64::from(v));
    Ok(())
}

/// ENTER: size in `imm`, nesting level in `disp`.
fn enter(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let level = i.disp & 31;
    let mut stack = Stack::current(cpu);
    let bp = cpu.st.gpr[reg::RBP as usize];
    stack.push(cpu, i.w, bp)?;
    // The whole of ESP, also on a 16-bit stack, where only SP moves.
    let frame = cpu.st.gpr[reg::RSP as usize] & !stack.width.mask() | stack.sp;
    // Copies the enclosing frames' pointers, which lie below the old frame pointer.
    let mut outer = stack;
    outer.sp = bp & stack.width.mask();
    for _ in 1..level {
        outer.skip(0u64.wrapping_sub(u64::from(i.w.bytes())));
        let v = outer.peek(cpu, i.w)?;
        stack.push(cpu, i.w, v)?;
    }
    if level > 0 {
        stack.push(cpu, i.w, frame)?;
    }
    stack.skip(0u64.wrapping_sub(i.imm));
    // SDM: the memory at the new stack pointer is touched, so that a stack overflow faults here.
    probe_top(cpu, i, &stack)?;
    stack.commit(cpu);
    let w = if i.w == Width::W { Width::W } else { stack.width.max(i.w) };
    cpu.set_gpr(w, reg::RBP, frame & w.mask());
    Ok(())
}

fn probe_top(cpu: &mut Vcpu, i: &Insn, stack: &Stack) -> R<()> {
    use crate::state::seg;
    let at = cpu.linear_any(seg::SS, stack.sp, i.w.bytes(), Access::Write)?;
    cpu.probe(seg::SS, at, u64::from(i.w.bytes()), Access::Write)
}

fn bound(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let n = i.w.bytes();
    let at = cpu.operand(i, 2 * n, Access::Read)?;
    let low = i.w.sext(cpu.read_w(i.seg, at, i.w)?) as i64;
    let high = i.w.sext(cpu.read_w(i.seg, at.wrapping_add(u64::from(n)), i.w)?) as i64;
    let v = i.w.sext(lift::get(cpu, i, i.dst, i.w)?) as i64;
    if v < low || v > high { Err(cpu.raise(vector::BR, None, 0)) } else { Ok(()) }
}

fn pusha(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let mut stack = Stack::current(cpu);
    for r in 0..8 {
        // SP is pushed as it was before the instruction.
        let v = cpu.st.gpr[r];
        stack.push(cpu, i.w, v)?;
    }
    stack.commit(cpu);
    Ok(())
}

fn popa(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let mut stack = Stack::current(cpu);
    let mut v = [0; 8];
    for r in (0..8).rev() {
        v[r] = stack.pop(cpu, i.w)?;
    }
    for (r, v) in v.iter().enumerate() {
        if r != usize::from(reg::RSP) {
            cpu.set_gpr(i.w, r as u8, *v);
        }
    }
    if i.w == Width::D && cpu.model.era() == Era::I386 {
        // What is skipped there goes to ESP, of which a 16-bit stack then replaces the lower half.
        cpu.set_gpr(Width::D, reg::RSP, v[usize::from(reg::RSP)]);
    }
    stack.commit(cpu);
    Ok(())
}

fn set_zf(cpu: &mut Vcpu, set: bool) {
    let f = cpu.arith_flags() & !rflags::ZF | if set { rflags::ZF } else { 0 };
    set_flags(cpu, f);
}

fn pair(cpu: &Vcpu, high: u8, low: u8) -> u64 {
    cpu.st.gpr[high as usize] << 32 | cpu.st.gpr[low as usize] & 0xffff_ffff
}

/// CMPXCHG8B, always atomic: LOCK changes nothing that a guest could see.
fn cmpxchg8b(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let expected = pair(cpu, reg::RDX, reg::RAX);
    let new = pair(cpu, reg::RCX, reg::RBX);
    let at = lift::addr(cpu, i);
    let old = cpu.atomic_cmpxchg(at, Width::Q, expected, new)?;
    let equal = old == expected;
    if !equal {
        cpu.set_gpr(Width::D, reg::RAX, old & 0xffff_ffff);
        cpu.set_gpr(Width::D, reg::RDX, old >> 32);
    }
    set_zf(cpu, equal);
    Ok(())
}

fn cmpxchg16b(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if !cpu.model.has(Feature::Cx16) {
        return Err(cpu.ud());
    }
    let at = cpu.operand(i, 16, Access::Write)?;
    if at & 15 != 0 {
        return Err(cpu.gp(0));
    }
    let g = &cpu.st.gpr;
    let wide = |high: u8, low: u8| u128::from(g[high as usize]) << 64 | u128::from(g[low as usize]);
    let (expected, new) = (wide(reg::RDX, reg::RAX), wide(reg::RCX, reg::RBX));
    let old = match cpu.mmu.cmpxchg16b(at, expected, new) {
        Ok(old) => {
            cpu.check_code_write();
            old
        }
        Err(MemTrap::Mmio { .. } | MemTrap::Split) => {
            cpu.probe(i.seg, at, 16, Access::Write)?;
            cpu.need_single()?;
            let low = cpu.read::<u64>(i.seg, at)?;
            let old = u128::from(cpu.read::<u64>(i.seg, at.wrapping_add(8))?) << 64 | u128::from(low);
            let v = if old == expected { new } else { old };
            cpu.write::<u64>(i.seg, at, v as u64)?;
            cpu.write::<u64>(i.seg, at.wrapping_add(8), (v >> 64) as u64)?;
            old
        }
        Err(t) => return Err(cpu.mem_fault(i.seg, at, t)),
    };
    let equal = old == expected;
    if !equal {
        cpu.st.gpr[reg::RAX as usize] = old as u64;
        cpu.st.gpr[reg::RDX as usize] = (old >> 64) as u64;
    }
    set_zf(cpu, equal);
    Ok(())
}

fn random(cpu: &mut Vcpu, i: &Insn, f: Feature) -> R<()> {
    let Opnd::Gpr(r) = i.dst else { return Err(cpu.ud()) };
    if !cpu.model.has(f) {
        return Err(cpu.ud());
    }
    let v = cpu.model.random() & i.w.mask();
    cpu.set_gpr(i.w, r, v);
    // CF: a number was ready. It always is.
    set_flags(cpu, rflags::CF);
    Ok(())
}

fn rdrand(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    random(cpu, i, Feature::Rdrand)
}

fn rdseed(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    random(cpu, i, Feature::Rdseed)
}

/// CLFLUSH, CLFLUSHOPT, CLWB: checked like a one-byte read.
fn flush_line(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let at = cpu.operand(i, 1, Access::Read)?;
    cpu.probe(i.seg, at, 1, Access::Read)
}

fn nothing(_: &mut Vcpu, _: &Insn) -> R<()> {
    Ok(())
}

fn undefined(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    Err(cpu.ud())
}

pub(super) fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> Pick {
    let register = Width::from_bytes(x.op0_register().size() as u32);
    Some(match x.mnemonic() {
        Mnemonic::Aaa => (handler!(aaa), GOES_ON),
        Mnemonic::Aas => (handler!(aas), GOES_ON),
        Mnemonic::Aam => (handler!(aam), GOES_ON),
        Mnemonic::Aad => (handler!(aad), GOES_ON),
        Mnemonic::Daa => (handler!(daa), GOES_ON),
        Mnemonic::Das => (handler!(das), GOES_ON),
        Mnemonic::Salc => (handler!(salc), GOES_ON),
        Mnemonic::Xlatb => {
            i.aw = Width::from_bytes(x.memory_base().size() as u32)?;
            i.seg = crate::decode::segment(x.memory_segment());
            i.am = addr_mode(mode, i.seg);
            if mode.has(Mode::CODE64) && i.seg >= crate::state::seg::FS {
                i.am = AddrMode::Base;
            }
            (handler!(xlat), GOES_ON)
        }
        Mnemonic::Enter => {
            i.w = match x.code() {
                Code::Enterw_imm16_imm8 => Width::W,
                Code::Enterd_imm16_imm8 => Width::D,
                _ => Width::Q,
            };
            i.imm = u64::from(x.immediate16());
            i.disp = u64::from(x.immediate8_2nd());
            (handler!(enter), GOES_ON)
        }
        Mnemonic::Bound => {
            i.w = register?;
            (handler!(bound), GOES_ON)
        }
        Mnemonic::Pusha | Mnemonic::Pushad | Mnemonic::Popa | Mnemonic::Popad => {
            let wide = matches!(x.code(), Code::Pushad | Code::Popad);
            i.w = if wide { Width::D } else { Width::W };
            let push = matches!(x.code(), Code::Pushaw | Code::Pushad);
            if push { (handler!(pusha), GOES_ON) } else { (handler!(popa), GOES_ON) }
        }
        Mnemonic::Cmpxchg8b => (handler!(cmpxchg8b), GOES_ON),
        Mnemonic::Cmpxchg16b => (handler!(cmpxchg16b), GOES_ON),
        Mnemonic::Rdrand => {
            i.w = register?;
            (handler!(rdrand), GOES_ON)
        }
        Mnemonic::Rdseed => {
            i.w = register?;
            (handler!(rdseed), GOES_ON)
        }
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => (handler!(flush_line), GOES_ON),
        Mnemonic::Prefetch
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Prefetchw
        | Mnemonic::Prefetchwt1
        | Mnemonic::Cldemote
        | Mnemonic::Reservednop
        | Mnemonic::Endbr32
        | Mnemonic::Endbr64
        | Mnemonic::Pause
        | Mnemonic::Nop => (handler!(nothing), GOES_ON),
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => (handler!(undefined), ENDS),
        _ => return None,
    })
}

/// What an instruction of a feature that the processor does not have becomes.
pub(super) fn absent(i: &mut Insn) -> Pick {
    i.prefix &= !prefix::LOCK;
    Some((handler!(undefined), ENDS))
}
