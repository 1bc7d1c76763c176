//! Far JMP, CALL and RET: direct, through call gates, through task gates and TSSs (SDM vol. 3, 5.8).

use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use softmmu::Access;

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Width};
use crate::state::{Mode, Segment, reg, seg};
use crate::vcpu::{Vcpu, vector};

use super::stack::Stack;
use super::table::{Descriptor, code_of, is_null, kind};
use super::task::{self, Via};
use super::{ENDS, Pick, handler, next_rip};

/// A far target: selector and offset.
#[derive(Clone, Copy)]
struct Target {
    selector: u16,
    offset: u64,
}

impl Vcpu {
    /// Is `rip` inside the code segment `cs` (or canonical, in 64-bit code)? Else #GP(0).
    pub(super) fn check_rip(&mut self, cs: &Segment, rip: u64) -> R<()> {
        let ok = if self.st.mode.has(Mode::LONG) && cs.attrs & Segment::L != 0 {
            self.canonical(rip)
        } else {
            rip <= u64::from(cs.limit)
        };
        if ok { Ok(()) } else { Err(self.gp(0)) }
    }

    /// The rules for a code segment that a far transfer without a gate names.
    fn check_direct(&mut self, d: &Descriptor) -> R<Segment> {
        let s = d.segment();
        let cpl = self.st.cpl;
        let level_ok = if s.is_conforming() { d.dpl() <= cpl } else { d.rpl() <= cpl && d.dpl() == cpl };
        if !level_ok {
            return Err(self.gp_sel(d.selector));
        }
        self.check_long_code(d, &s)?;
        Ok(Segment { selector: s.selector & !3 | u16::from(cpl), ..s })
    }

    /// Present, and not both L and D in IA-32e mode.
    pub(super) fn check_long_code(&mut self, d: &Descriptor, s: &Segment) -> R<()> {
        let both = Segment::L | Segment::DB;
        if self.st.mode.has(Mode::LONG) && s.attrs & both == both {
            return Err(self.gp_sel(d.selector));
        }
        if !d.present() {
            return Err(self.np_sel(d.selector));
        }
        Ok(())
    }

    /// Real- and virtual-8086-mode CS.
    pub(super) fn real_code(&self, selector: u16) -> Segment {
        if self.st.mode.has(Mode::VM86) {
            return super::segment::vm86_segment(selector);
        }
        Segment { base: u64::from(selector) << 4, selector, ..self.st.seg[seg::CS as usize] }
    }

    /// Commits a transfer.
    pub(super) fn go_far(&mut self, cs: Segment, rip: u64, cpl: u8) {
        self.st.seg[seg::CS as usize] = cs;
        self.st.cpl = cpl;
        self.st.rip = rip;
        self.mode_changed();
    }
}

fn direct(i: &Insn) -> Target {
    Target { selector: i.disp as u16, offset: i.imm }
}

fn indirect(cpu: &mut Vcpu, i: &Insn) -> R<Target> {
    let n = i.w.bytes();
    let at = cpu.operand(i, n + 2, Access::Read)?;
    let offset = cpu.read_w(i.seg, at, i.w)?;
    let selector = cpu.read::<u16>(i.seg, at.wrapping_add(u64::from(n)))?;
    Ok(Target { selector, offset })
}

fn transfer(cpu: &mut Vcpu, i: &Insn, to: Target, call: bool) -> R<()> {
    let (what, cpl) = (if call { "call" } else { "jump" }, cpu.st.cpl);
    tracing::trace!(target: "pcall", "far {what} from {:#x} to {:04x}:{:#x}, CPL {cpl}", i.ip, to.selector, to.offset);
    if !cpu.protected() {
        return transfer_real(cpu, i, to, call);
    }
    if is_null(to.selector) {
        return Err(cpu.gp(0));
    }
    let d = cpu.descriptor(to.selector, vector::GP)?;
    if !d.is_system() {
        return transfer_code(cpu, i, to, &d, call);
    }
    let level = cpu.st.cpl.max(d.rpl());
    let long = cpu.st.mode.has(Mode::LONG);
    let valid = match d.kind() {
        kind::CALL => true,
        kind::CALL16 | kind::TASK_GATE | kind::TSS | kind::TSS16 => !long,
        _ => false,
    };
    // A task-state segment is known to the GDT only.
    let local_task = matches!(d.kind(), kind::TSS | kind::TSS16) && to.selector & 4 != 0;
    if !valid || local_task || d.dpl() < level {
        return Err(cpu.gp_sel(to.selector));
    }
    if !d.present() {
        return Err(cpu.np_sel(to.selector));
    }
    let via = if call { Via::Call } else { Via::Jump };
    let rip = next_rip(cpu, i);
    match d.kind() {
        kind::TSS | kind::TSS16 => task::switch(cpu, &d, via, rip),
        kind::TASK_GATE => {
            let tss = task::gate_target(cpu, d.gate_selector())?;
            task::switch(cpu, &tss, via, rip)
        }
        _ => through_call_gate(cpu, i, &d, call),
    }
}

fn transfer_real(cpu: &mut Vcpu, i: &Insn, to: Target, call: bool) -> R<()> {
    let cs = cpu.real_code(to.selector);
    if to.offset > u64::from(cs.limit) {
        return Err(cpu.gp(0));
    }
    if call {
        push_return(cpu, i, i.w, &cs)?;
    }
    let cpl = cpu.st.cpl;
    cpu.go_far(cs, to.offset, cpl);
    Ok(())
}

/// Pushes CS and the next RIP on the stack that the running code has; in `target`, the stack pointer is that code's.
fn push_return(cpu: &mut Vcpu, i: &Insn, w: Width, target: &Segment) -> R<()> {
    let mut stack = Stack::current(cpu);
    // From 64-bit to compatibility mode: found on processors by the addresses of their page faults.
    if stack.width == Width::Q && target.attrs & Segment::L == 0 {
        stack = Stack::other(cpu, cpu.st.seg[seg::SS as usize], stack.sp, cpu.st.cpl, 0);
    }
    let cs = u64::from(cpu.st.seg[seg::CS as usize].selector);
    stack.push(cpu, w, cs)?;
    let rip = next_rip(cpu, i);
    stack.push(cpu, w, rip)?;
    stack.commit(cpu);
    Ok(())
}

fn transfer_code(cpu: &mut Vcpu, i: &Insn, to: Target, d: &Descriptor, call: bool) -> R<()> {
    if !d.segment().is_code() {
        return Err(cpu.gp_sel(to.selector));
    }
    let cs = cpu.check_direct(d)?;
    cpu.check_rip(&cs, to.offset)?;
    cpu.mark_accessed(d)?;
    if call {
        push_return(cpu, i, i.w, &cs)?;
    }
    let cpl = cpu.st.cpl;
    cpu.go_far(cs, to.offset, cpl);
    Ok(())
}

fn through_call_gate(cpu: &mut Vcpu, i: &Insn, gate: &Descriptor, call: bool) -> R<()> {
    let long = cpu.st.mode.has(Mode::LONG);
    let (w, mut offset) = match (long, gate.kind()) {
        (true, _) => (Width::Q, gate.gate_offset() | cpu.upper_half(gate, vector::GP)? << 32),
        (false, kind::CALL) => (Width::D, gate.gate_offset()),
        _ => (Width::W, gate.gate_offset()),
    };
    offset &= w.mask();
    let selector = gate.gate_selector();
    if is_null(selector) {
        return Err(cpu.gp(0));
    }
    let d = cpu.descriptor(selector, vector::GP)?;
    let mut cs = d.segment();
    let cpl = cpu.st.cpl;
    if d.is_system() || !cs.is_code() || d.dpl() > cpl {
        return Err(cpu.gp_sel(selector));
    }
    // SDM: IA-32e mode call gates lead to 64-bit code only.
    if long && cs.attrs & (Segment::L | Segment::DB) != Segment::L {
        return Err(cpu.gp_sel(selector));
    }
    if !d.present() {
        return Err(cpu.np_sel(selector));
    }
    let inner = !cs.is_conforming() && d.dpl() < cpl;
    if inner && !call {
        return Err(cpu.gp_sel(selector));
    }
    cpu.check_rip(&cs, offset)?;
    let new_cpl = if inner { d.dpl() } else { cpl };
    cs.selector = cs.selector & !3 | u16::from(new_cpl);
    if inner {
        let count = (gate.raw >> 32 & 31) as u32;
        let stack =
            if long { inner_long(cpu, i, new_cpl)? } else { inner_legacy(cpu, i, new_cpl, w, count)? };
        cpu.mark_accessed(&d)?;
        cpu.st.seg[seg::SS as usize] = stack.segment;
        stack.commit(cpu);
    } else {
        cpu.mark_accessed(&d)?;
        if call {
            push_return(cpu, i, w, &cs)?;
        }
    }
    cpu.go_far(cs, offset, new_cpl);
    Ok(())
}

/// The stack of the inner level, with SS:ESP, `count` parameters and CS:EIP pushed.
fn inner_legacy(cpu: &mut Vcpu, i: &Insn, cpl: u8, w: Width, count: u32) -> R<Stack> {
    let (ss, sp) = cpu.tss_stack(cpl)?;
    let segment = cpu.check_stack(ss, cpl, vector::TS)?;
    let mut stack = Stack::other(cpu, segment, sp, cpl, code_of(ss));
    let old = Stack::current(cpu);
    let old_ss = u64::from(cpu.st.seg[seg::SS as usize].selector);
    stack.push(cpu, w, old_ss)?;
    stack.push(cpu, w, cpu.st.gpr[reg::RSP as usize])?;
    for k in (0..count).rev() {
        let mut at = old;
        at.skip(u64::from(k * w.bytes()));
        let v = at.peek(cpu, w)?;
        stack.push(cpu, w, v)?;
    }
    let cs = u64::from(cpu.st.seg[seg::CS as usize].selector);
    stack.push(cpu, w, cs)?;
    let rip = next_rip(cpu, i);
    stack.push(cpu, w, rip)?;
    Ok(stack)
}

fn inner_long(cpu: &mut Vcpu, i: &Insn, cpl: u8) -> R<Stack> {
    let rsp = cpu.tss_rsp(4 + 8 * u64::from(cpl))?;
    let mut stack = Stack::long(cpu, super::segment::null_stack(cpl), rsp, cpl);
    let ss = u64::from(cpu.st.seg[seg::SS as usize].selector);
    let cs = u64::from(cpu.st.seg[seg::CS as usize].selector);
    let rip = next_rip(cpu, i);
    for v in [ss, cpu.st.gpr[reg::RSP as usize], cs, rip] {
        stack.push(cpu, Width::Q, v)?;
    }
    Ok(stack)
}

impl Vcpu {
    /// Checks the code segment that RET or IRET goes to.
    pub(super) fn check_return(&mut self, selector: u16) -> R<(Descriptor, Segment)> {
        if is_null(selector) {
            return Err(self.gp(0));
        }
        let d = self.descriptor(selector, vector::GP)?;
        let s = d.segment();
        let level_ok = if s.is_conforming() { d.dpl() <= d.rpl() } else { d.dpl() == d.rpl() };
        if d.is_system() || !s.is_code() || d.rpl() < self.st.cpl || !level_ok {
            return Err(self.gp_sel(selector));
        }
        self.check_long_code(&d, &s)?;
        Ok((d, s))
    }

    /// Checks the SS that a return pops; `to64`: the returned-to code is 64-bit.
    pub(super) fn check_return_stack(&mut self, selector: u16, rpl: u8, to64: bool) -> R<Segment> {
        if is_null(selector) {
            // SDM RET, IRET: a null SS is allowed when returning to 64-bit mode below CPL 3.
            if to64 && rpl < 3 && selector as u8 & 3 == rpl {
                return Ok(super::segment::null_stack(rpl));
            }
            return Err(self.gp(0));
        }
        self.check_stack(selector, rpl, vector::GP)
    }

    /// The stack pointer after a return to an outer level.
    pub(super) fn load_outer_stack(&mut self, ss: Segment, sp: u64, to64: bool) {
        self.st.seg[seg::SS as usize] = ss;
        let w = if to64 {
            Width::Q
        } else if ss.db() {
            Width::D
        } else {
            Width::W
        };
        self.set_gpr(w, reg::RSP, sp & w.mask());
    }
}

fn ret_far(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let w = i.w;
    let mut stack = Stack::current(cpu);
    let rip = stack.pop(cpu, w)?;
    let selector = stack.pop(cpu, w)? as u16;
    stack.skip(i.imm);
    tracing::trace!(target: "pcall", "far return from {:#x} to {selector:04x}:{rip:#x}, CPL {}", i.ip, cpu.st.cpl);
    if !cpu.protected() {
        let cs = cpu.real_code(selector);
        if rip > u64::from(cs.limit) {
            return Err(cpu.gp(0));
        }
        stack.commit(cpu);
        let cpl = cpu.st.cpl;
        cpu.go_far(cs, rip, cpl);
        return Ok(());
    }
    let (d, cs) = cpu.check_return(selector)?;
    let rpl = d.rpl();
    if rpl == cpu.st.cpl {
        cpu.check_rip(&cs, rip)?;
        cpu.mark_accessed(&d)?;
        stack.commit(cpu);
        cpu.go_far(cs, rip, rpl);
        return Ok(());
    }
    let to64 = cpu.st.mode.has(Mode::LONG) && cs.attrs & Segment::L != 0;
    let sp = stack.pop(cpu, w)?;
    let ss = stack.pop(cpu, w)? as u16;
    let ss = cpu.check_return_stack(ss, rpl, to64)?;
    cpu.check_rip(&cs, rip)?;
    cpu.mark_accessed(&d)?;
    // The parameters are also released from the outer stack.
    cpu.load_outer_stack(ss, sp.wrapping_add(i.imm), to64);
    cpu.go_far(cs, rip, rpl);
    cpu.drop_inner_segments();
    cpu.mode_changed();
    Ok(())
}

fn jmp_direct(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    transfer(cpu, i, direct(i), false)
}

fn call_direct(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    transfer(cpu, i, direct(i), true)
}

fn jmp_indirect(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let to = indirect(cpu, i)?;
    transfer(cpu, i, to, false)
}

fn call_indirect(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let to = indirect(cpu, i)?;
    transfer(cpu, i, to, true)
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    let call = x.mnemonic() == Mnemonic::Call;
    i.w = match x.code() {
        Code::Jmp_ptr1616
        | Code::Call_ptr1616
        | Code::Jmp_m1616
        | Code::Call_m1616
        | Code::Retfw
        | Code::Retfw_imm16 => Width::W,
        Code::Jmp_ptr1632
        | Code::Call_ptr1632
        | Code::Jmp_m1632
        | Code::Call_m1632
        | Code::Retfd
        | Code::Retfd_imm16 => Width::D,
        Code::Jmp_m1664 | Code::Call_m1664 | Code::Retfq | Code::Retfq_imm16 => Width::Q,
        _ => return None,
    };
    if x.mnemonic() == Mnemonic::Retf {
        i.imm = if x.op_count() == 1 { u64::from(x.immediate16()) } else { 0 };
        return Some((handler!(ret_far), ENDS));
    }
    if matches!(x.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32) {
        i.disp = u64::from(x.far_branch_selector());
        i.imm = match x.op0_kind() {
            OpKind::FarBranch16 => u64::from(x.far_branch16()),
            _ => u64::from(x.far_branch32()),
        };
        return Some(if call { (handler!(call_direct), ENDS) } else { (handler!(jmp_direct), ENDS) });
    }
    Some(if call { (handler!(call_indirect), ENDS) } else { (handler!(jmp_indirect), ENDS) })
}
