//! IRET in all its forms (SDM vol. 2, IRET/IRETD/IRETQ).

use iced_x86::{Code, Instruction};

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Width};
use crate::state::{Mode, Segment, reg, rflags, seg};
use crate::vcpu::Vcpu;

use super::debug::kept_rf;
use super::segment::vm86_segment;
use super::stack::Stack;
use super::task::{self, Via};
use super::{ENDS, Pick, next_rip, serialising, vme};

/// Flags that IRET always loads.
const ALWAYS: u64 = rflags::ARITH | rflags::TF | rflags::DF | rflags::NT;
/// Flags that a 32- or 64-bit IRET loads besides, with RF where it is kept.
const WIDE: u64 = rflags::AC | rflags::ID;

impl Vcpu {
    /// Loads the flags in `mask` from `v` and looks at interrupts again if they became possible.
    pub(super) fn load_flags(&mut self, v: u64, mask: u64) {
        let mask = mask & self.model.flags_mask(self.st.mode.has(Mode::PROTECTED));
        let old = self.rflags();
        self.set_rflags(old & !mask | v & mask);
        let enabled = mask & v & !old & rflags::IF != 0;
        if mask & v & rflags::TF != 0 || enabled && self.must_look() {
            self.stop_after();
        }
    }
}

/// What the level before the return may change.
fn mask_at(cpu: &Vcpu, w: Width) -> u64 {
    let mut mask = ALWAYS;
    if w != Width::W {
        mask |= WIDE | kept_rf(&cpu.st);
    }
    let iopl = (cpu.st.flags & rflags::IOPL) >> rflags::IOPL_SHIFT;
    if u64::from(cpu.st.cpl) <= iopl {
        mask |= rflags::IF;
    }
    if cpu.st.cpl == 0 {
        mask |= rflags::IOPL;
        if w != Width::W {
            mask |= rflags::VIF | rflags::VIP;
        }
    }
    mask
}

fn iret(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.mode.has(Mode::LONG) {
        iret_long(cpu, i)?;
    } else if cpu.protected() {
        iret_protected(cpu, i)?;
    } else {
        iret_real(cpu, i)?;
    }
    let cs = cpu.st.seg[seg::CS as usize].selector;
    tracing::trace!(target: "pcall", "IRET from {:#x} to {cs:04x}:{:#x}, CPL {}", i.ip, cpu.st.rip, cpu.st.cpl);
    // A successful IRET ends the blocking of NMIs.
    if cpu.st.nmi_blocked {
        cpu.st.nmi_blocked = false;
        cpu.stop_after();
    }
    Ok(())
}

/// Real mode, and virtual-8086 mode with IOPL 3 or CR4.VME.
fn iret_real(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let vm86 = cpu.st.mode.has(Mode::VM86);
    let sensitive = vme::sensitive(cpu);
    if sensitive {
        vme::check(cpu, i.w)?;
    }
    let mut stack = Stack::current(cpu);
    let rip = stack.pop(cpu, i.w)?;
    let selector = stack.pop(cpu, i.w)? as u16;
    let flags = stack.pop(cpu, i.w)?;
    let cs = cpu.real_code(selector);
    if rip > u64::from(cs.limit) {
        return Err(cpu.gp(0));
    }
    if sensitive {
        vme::check_image(cpu, flags)?;
    }
    stack.commit(cpu);
    let mut mask = ALWAYS | rflags::IF;
    if i.w != Width::W {
        mask |= WIDE | kept_rf(&cpu.st);
    }
    if !vm86 {
        mask |= rflags::IOPL;
    }
    if sensitive {
        vme::load(cpu, flags, mask);
    } else {
        cpu.load_flags(flags, mask);
    }
    let cpl = cpu.st.cpl;
    cpu.go_far(cs, rip, cpl);
    Ok(())
}

fn iret_protected(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.flags & rflags::NT != 0 {
        let to = task::return_target(cpu)?;
        let rip = next_rip(cpu, i);
        return task::switch(cpu, &to, Via::Return, rip);
    }
    let w = i.w;
    let mut stack = Stack::current(cpu);
    let rip = stack.pop(cpu, w)?;
    let selector = stack.pop(cpu, w)? as u16;
    let flags = stack.pop(cpu, w)?;
    if w == Width::D && flags & rflags::VM != 0 && cpu.st.cpl == 0 {
        return to_vm86(cpu, &mut stack, rip, selector, flags);
    }
    finish(cpu, i, stack, rip, selector, flags)
}

fn iret_long(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.flags & rflags::NT != 0 {
        return Err(cpu.gp(0));
    }
    let mut stack = Stack::current(cpu);
    let rip = stack.pop(cpu, i.w)?;
    let selector = stack.pop(cpu, i.w)? as u16;
    let flags = stack.pop(cpu, i.w)?;
    finish(cpu, i, stack, rip, selector, flags)
}

fn to_vm86(cpu: &mut Vcpu, stack: &mut Stack, rip: u64, selector: u16, flags: u64) -> R<()> {
    let sp = stack.pop(cpu, Width::D)?;
    let mut selectors = [0u16; 6];
    for s in [seg::SS, seg::ES, seg::DS, seg::FS, seg::GS] {
        selectors[s as usize] = stack.pop(cpu, Width::D)? as u16;
    }
    selectors[seg::CS as usize] = selector;
    if rip > 0xffff {
        return Err(cpu.gp(0));
    }
    for (s, selector) in selectors.iter().enumerate() {
        cpu.st.seg[s] = vm86_segment(*selector);
    }
    cpu.set_gpr(Width::D, reg::RSP, sp);
    let mask = ALWAYS | WIDE | rflags::IF | rflags::IOPL | rflags::VM | rflags::VIF | rflags::VIP;
    let mask = mask | kept_rf(&cpu.st);
    cpu.load_flags(flags, mask);
    let cs = cpu.st.seg[seg::CS as usize];
    cpu.go_far(cs, rip & 0xffff, 3);
    Ok(())
}

/// Return to the same or an outer level.
fn finish(cpu: &mut Vcpu, i: &Insn, mut stack: Stack, rip: u64, selector: u16, flags: u64) -> R<()> {
    let (d, cs) = cpu.check_return(selector)?;
    let rpl = d.rpl();
    let outer = rpl > cpu.st.cpl;
    let to64 = cpu.st.mode.has(Mode::LONG) && cs.attrs & Segment::L != 0;
    // 64-bit mode always pops SS:RSP.
    let pops_stack = outer || cpu.st.mode.has(Mode::CODE64);
    let new = if pops_stack {
        let sp = stack.pop(cpu, i.w)?;
        let ss = stack.pop(cpu, i.w)? as u16;
        Some((cpu.check_return_stack(ss, rpl, to64)?, sp))
    } else {
        None
    };
    cpu.check_rip(&cs, rip)?;
    cpu.mark_accessed(&d)?;

    let mask = mask_at(cpu, i.w);
    match new {
        Some((ss, sp)) => cpu.load_outer_stack(ss, sp, to64),
        None => stack.commit(cpu),
    }
    cpu.load_flags(flags, mask);
    cpu.go_far(cs, rip, rpl);
    if outer {
        cpu.drop_inner_segments();
        cpu.mode_changed();
    }
    Ok(())
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    i.w = match x.code() {
        Code::Iretw => Width::W,
        Code::Iretd => Width::D,
        Code::Iretq => Width::Q,
        _ => return None,
    };
    Some((serialising!(iret), ENDS))
}
