//! SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS and the FS/GS base instructions.
//!
//! Vendors differ. Intel has SYSCALL in 64-bit mode only; AMD has it in all modes (compatibility mode enters by CSTAR, legacy
//! mode by STAR), does not check SYSRET's target, and has no SYSENTER and SYSEXIT in long mode (APM vol. 3).

use iced_x86::{Code, Instruction, Mnemonic};

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::model::{Feature, Vendor};
use crate::state::{Mode, Segment, cr4, efer, reg, rflags, seg};
use crate::vcpu::Vcpu;

use super::debug;
use super::{ENDS, GOES_ON, Pick, handler, next_rip};

/// The flat segments that these instructions load without looking at a descriptor.
fn flat_code(selector: u16, dpl: u8, long: bool) -> Segment {
    let size = if long { Segment::L } else { Segment::DB };
    let attrs = Segment::G | size | 0x9b | u16::from(dpl) << 5;
    Segment { base: 0, limit: u32::MAX, attrs, selector }
}

fn flat_stack(selector: u16, dpl: u8) -> Segment {
    let attrs = Segment::G | Segment::DB | 0x93 | u16::from(dpl) << 5;
    Segment { base: 0, limit: u32::MAX, attrs, selector }
}

impl Vcpu {
    fn go_fast(&mut self, cs: Segment, ss: Segment, rip: u64, cpl: u8) {
        self.st.seg[seg::SS as usize] = ss;
        self.go_far(cs, rip, cpl);
    }

    fn is_amd(&self) -> bool {
        self.model.vendor == Vendor::Amd
    }

    fn need_syscall(&mut self) -> R<()> {
        let mode_ok = self.is_amd() || self.st.mode.has(Mode::CODE64);
        if mode_ok && self.st.msr.efer & efer::SCE != 0 { Ok(()) } else { Err(self.ud()) }
    }
}

fn syscall(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_syscall()?;
    if !cpu.st.mode.has(Mode::LONG) {
        return syscall_legacy(cpu, i);
    }
    let flags = cpu.rflags();
    cpu.st.gpr[reg::RCX as usize] = next_rip(cpu, i);
    cpu.st.gpr[11] = flags;
    let m = &cpu.st.msr;
    let target = if cpu.st.mode.has(Mode::CODE64) { m.lstar } else { m.cstar };
    let mask = m.sfmask;
    let selector = (m.star >> 32) as u16 & 0xfffc;
    cpu.set_rflags(flags & !mask & !rflags::RF);
    cpu.go_fast(flat_code(selector, 0, true), flat_stack(selector.wrapping_add(8), 0), target, 0);
    Ok(())
}

/// SYSCALL of AMD's processors outside long mode: no flags are saved.
fn syscall_legacy(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let rip = next_rip(cpu, i);
    cpu.set_gpr(Width::D, reg::RCX, rip);
    let star = cpu.st.msr.star;
    let selector = (star >> 32) as u16 & 0xfffc;
    cpu.st.flags &= !(rflags::VM | rflags::IF | rflags::RF);
    cpu.go_fast(
        flat_code(selector, 0, false),
        flat_stack(selector.wrapping_add(8), 0),
        star & 0xffff_ffff,
        0,
    );
    Ok(())
}

/// SYSRET of AMD's processors outside long mode.
fn sysret_legacy(cpu: &mut Vcpu) {
    let base = (cpu.st.msr.star >> 48) as u16;
    let rip = cpu.st.gpr[reg::RCX as usize] & 0xffff_ffff;
    cpu.load_flags(rflags::IF, rflags::IF);
    cpu.go_fast(flat_code(base | 3, 3, false), flat_stack(base.wrapping_add(8) | 3, 3), rip, 3);
}

/// SYSRET; `i.w` is Q for the 64-bit form.
fn sysret(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_syscall()?;
    if !cpu.protected() {
        return Err(cpu.gp(0));
    }
    cpu.need_cpl0()?;
    if !cpu.st.mode.has(Mode::LONG) {
        sysret_legacy(cpu);
        return Ok(());
    }
    let rcx = cpu.st.gpr[reg::RCX as usize];
    let long = i.w == Width::Q;
    if long && !cpu.is_amd() && !cpu.canonical(rcx) {
        return Err(cpu.gp(0));
    }
    let base = (cpu.st.msr.star >> 48) as u16;
    let code = base.wrapping_add(if long { 16 } else { 0 }) | 3;
    let rip = if long { rcx } else { rcx & 0xffff_ffff };
    // SDM SYSRET: RFLAGS = (R11 & 3C7FD7H) | 2, here without RF.
    let flags = cpu.st.gpr[11];
    cpu.load_flags(flags, 0x003c_7fd7);
    if flags & rflags::TF != 0 {
        // Unlike after IRET, the trap comes before the next instruction: SYSRET ends with the new TF.
        cpu.st.pending_debug |= debug::BS;
    }
    let ss = flat_stack(base.wrapping_add(8) | 3, 3);
    cpu.go_fast(flat_code(code, 3, long), ss, rip, 3);
    Ok(())
}

/// #UD for SYSENTER and SYSEXIT in long mode on AMD's processors.
fn need_sysenter(cpu: &mut Vcpu) -> R<()> {
    if cpu.is_amd() && cpu.st.mode.has(Mode::LONG) { Err(cpu.ud()) } else { Ok(()) }
}

fn sysenter(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    need_sysenter(cpu)?;
    let m = &cpu.st.msr;
    let (selector, rsp, rip) = (m.sysenter_cs as u16 & 0xfffc, m.sysenter_esp, m.sysenter_eip);
    if !cpu.st.mode.has(Mode::PROTECTED) || selector == 0 {
        return Err(cpu.gp(0));
    }
    let long = cpu.st.mode.has(Mode::LONG);
    cpu.st.flags &= !(rflags::VM | rflags::IF | rflags::RF);
    let w = if long { Width::Q } else { Width::D };
    cpu.set_gpr(w, reg::RSP, rsp & w.mask());
    let cs = flat_code(selector, 0, long);
    cpu.go_fast(cs, flat_stack(selector.wrapping_add(8), 0), rip & w.mask(), 0);
    Ok(())
}

/// SYSEXIT; `i.w` is Q for the 64-bit form.
fn sysexit(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    need_sysenter(cpu)?;
    let selector = cpu.st.msr.sysenter_cs as u16 & 0xfffc;
    if !cpu.protected() || selector == 0 || cpu.st.cpl != 0 {
        return Err(cpu.gp(0));
    }
    let w = i.w;
    let long = w == Width::Q;
    let (rip, rsp) = (cpu.st.gpr[reg::RDX as usize], cpu.st.gpr[reg::RCX as usize]);
    if long && (!cpu.canonical(rip) || !cpu.canonical(rsp)) {
        return Err(cpu.gp(0));
    }
    let offset = if long { 32 } else { 16 };
    cpu.set_gpr(w, reg::RSP, rsp & w.mask());
    let code = selector.wrapping_add(offset) | 3;
    let stack = selector.wrapping_add(offset + 8) | 3;
    cpu.go_fast(flat_code(code, 3, long), flat_stack(stack, 3), rip & w.mask(), 3);
    Ok(())
}

fn swapgs(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    if !cpu.st.mode.has(Mode::CODE64) {
        return Err(cpu.ud());
    }
    cpu.need_cpl0()?;
    let gs = &mut cpu.st.seg[seg::GS as usize].base;
    std::mem::swap(gs, &mut cpu.st.msr.kernel_gs_base);
    Ok(())
}

/// RDFSBASE and the like: segment register in `imm`.
fn read_base(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    need_fsgsbase(cpu)?;
    let Opnd::Gpr(r) = i.dst else { return Err(cpu.ud()) };
    let v = cpu.st.seg[base_register(i)].base;
    cpu.set_gpr(i.w, r, v & i.w.mask());
    Ok(())
}

fn write_base(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    need_fsgsbase(cpu)?;
    let Opnd::Gpr(r) = i.dst else { return Err(cpu.ud()) };
    let v = cpu.gpr(i.w, r);
    if !cpu.canonical_base(v) {
        return Err(cpu.gp(0));
    }
    cpu.st.seg[base_register(i)].base = v;
    Ok(())
}

fn base_register(i: &Insn) -> usize {
    usize::from(if i.imm == u64::from(seg::FS) { seg::FS } else { seg::GS })
}

fn need_fsgsbase(cpu: &mut Vcpu) -> R<()> {
    let ok =
        cpu.model.has(Feature::Fsgsbase) && cpu.st.cr4 & cr4::FSGSBASE != 0 && cpu.st.mode.has(Mode::CODE64);
    if ok { Ok(()) } else { Err(cpu.ud()) }
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    i.w = match x.code() {
        Code::Sysretq
        | Code::Sysexitq
        | Code::Rdfsbase_r64
        | Code::Rdgsbase_r64
        | Code::Wrfsbase_r64
        | Code::Wrgsbase_r64 => Width::Q,
        _ => Width::D,
    };
    i.imm = u64::from(if matches!(x.mnemonic(), Mnemonic::Rdfsbase | Mnemonic::Wrfsbase) {
        seg::FS
    } else {
        seg::GS
    });
    Some(match x.mnemonic() {
        Mnemonic::Syscall => (handler!(syscall), ENDS),
        Mnemonic::Sysret | Mnemonic::Sysretq => (handler!(sysret), ENDS),
        Mnemonic::Sysenter => (handler!(sysenter), ENDS),
        Mnemonic::Sysexit | Mnemonic::Sysexitq => (handler!(sysexit), ENDS),
        Mnemonic::Swapgs => (handler!(swapgs), GOES_ON),
        Mnemonic::Rdfsbase | Mnemonic::Rdgsbase => (handler!(read_base), GOES_ON),
        Mnemonic::Wrfsbase | Mnemonic::Wrgsbase => (handler!(write_base), GOES_ON),
        _ => return None,
    })
}
