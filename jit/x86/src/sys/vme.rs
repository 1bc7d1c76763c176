//! Virtual interrupts: the virtual-8086 mode extensions (CR4.VME) and their protected-mode part (CR4.PVI), SDM vol. 3,
//! 20.3 and 20.4. Below IOPL 3 the program's IF is VIF; VIP says that the monitor holds an interrupt for it.

use softmmu::Privilege;

use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::state::{Mode, cr4, rflags, seg};
use crate::vcpu::Vcpu;

use super::next_rip;
use super::stack::Stack;
use super::table::kind;

/// Bytes of the interrupt redirection bitmap, which ends where the I/O permission bitmap begins.
const REDIRECTION: u64 = 32;

pub(super) fn iopl(cpu: &Vcpu) -> u8 {
    ((cpu.st.flags & rflags::IOPL) >> rflags::IOPL_SHIFT) as u8
}

/// Virtual-8086 mode below IOPL 3, where instructions on IF are sensitive.
pub(super) fn sensitive(cpu: &Vcpu) -> bool {
    cpu.st.mode.has(Mode::VM86) && iopl(cpu) < 3
}

/// In [`sensitive`] code, an instruction with operands of width `w` on the flags: does VIF stand for IF? Else #GP(0).
pub(super) fn check(cpu: &mut Vcpu, w: Width) -> R<()> {
    if cpu.st.cr4 & cr4::VME != 0 && w == Width::W { Ok(()) } else { Err(cpu.gp(0)) }
}

/// The flags as [`sensitive`] code sees them: VIF in place of IF, IOPL 3.
pub(super) fn seen(flags: u64) -> u64 {
    let enabled = if flags & rflags::VIF != 0 { rflags::IF } else { 0 };
    flags & !rflags::IF | enabled | rflags::IOPL
}

/// Is `v` something that POPF or IRET of [`sensitive`] code may load? #GP(0) for TF, and for IF while VIP is set.
pub(super) fn check_image(cpu: &mut Vcpu, v: u64) -> R<()> {
    let pending = v & rflags::IF != 0 && cpu.st.flags & rflags::VIP != 0;
    if pending || v & rflags::TF != 0 { Err(cpu.gp(0)) } else { Ok(()) }
}

/// Loads the flags in `mask` (IF and IOPL are not) and VIF from the place of IF.
pub(super) fn load(cpu: &mut Vcpu, v: u64, mask: u64) {
    cpu.load_flags(v, mask & !(rflags::IF | rflags::IOPL));
    set_vif(cpu, v & rflags::IF != 0);
}

fn set_vif(cpu: &mut Vcpu, on: bool) {
    cpu.st.flags = if on { cpu.st.flags | rflags::VIF } else { cpu.st.flags & !rflags::VIF };
}

/// CLI and STI where IOPL forbids IF: they act on VIF under VME or, at CPL 3 in protected mode, PVI (SDM vol. 2, CLI,
/// STI). STI with an interrupt pending is #GP(0).
pub(super) fn set_virtual_if(cpu: &mut Vcpu, on: bool) -> R<()> {
    let needed = if cpu.st.mode.has(Mode::VM86) { cr4::VME } else { cr4::PVI };
    if cpu.st.cpl != 3 || cpu.st.cr4 & needed == 0 || on && cpu.st.flags & rflags::VIP != 0 {
        return Err(cpu.gp(0));
    }
    set_vif(cpu, on);
    Ok(())
}

/// INT n in virtual-8086 mode with CR4.VME: where the redirection bitmap says so, the program\'s own handler at 0000:4n is
/// called in virtual-8086 mode. Was it?
pub(super) fn redirect(cpu: &mut Vcpu, i: &Insn, vector: u8) -> R<bool> {
    if cpu.st.cr4 & cr4::VME == 0 {
        return Ok(false);
    }
    let tr = cpu.st.tr;
    let limit = u64::from(tr.limit);
    if tr.attrs as u8 & 15 & !2 != kind::TSS || limit < 0x67 {
        return Err(cpu.gp(0));
    }
    let map = cpu.read_table(tr.base.wrapping_add(0x66), Width::W)?;
    let at = map.wrapping_sub(REDIRECTION).wrapping_add(u64::from(vector >> 3));
    if at > limit {
        return Err(cpu.gp(0));
    }
    let bits = cpu.read_table(tr.base.wrapping_add(at), Width::B)?;
    if bits >> (vector & 7) & 1 != 0 {
        return Ok(false);
    }
    let entry = cpu.read_implicit(Privilege::User, seg::DS, u64::from(vector) * 4, Width::D)?;
    let flags = cpu.rflags();
    let below = iopl(cpu) < 3;
    let mut stack = Stack::current(cpu);
    stack.push(cpu, Width::W, if below { seen(flags) } else { flags })?;
    stack.push(cpu, Width::W, u64::from(cpu.st.seg[seg::CS as usize].selector))?;
    stack.push(cpu, Width::W, next_rip(cpu, i))?;
    stack.commit(cpu);
    cpu.st.flags &= !(rflags::TF | rflags::RF | if below { rflags::VIF } else { rflags::IF });
    let cs = cpu.real_code((entry >> 16) as u16);
    cpu.go_far(cs, entry & 0xffff, 3);
    Ok(true)
}
