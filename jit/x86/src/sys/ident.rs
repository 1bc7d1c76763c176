//! CPUID, the time-stamp counter, RDPID, extended control registers, and the unprivileged odds and ends of identity.

use iced_x86::{Instruction, Mnemonic};

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::model::Feature;
use crate::state::{cr4, reg};
use crate::vcpu::Vcpu;

use super::{ENDS, GOES_ON, Pick, advance, handler, serialising};

/// IA32_APIC_BASE.EN.
const APIC_ENABLED: u64 = 1 << 11;

fn cpuid(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    let g = &cpu.st.gpr;
    let (leaf, sub) = (g[reg::RAX as usize] as u32, g[reg::RCX as usize] as u32);
    let mut v = cpu.model.cpuid(&cpu.st, leaf, sub);
    if leaf == 1 && cpu.bus.apic_base() & APIC_ENABLED == 0 {
        // A disabled local APIC disappears (SDM vol. 3, 11.4.3).
        v[3] &= !(1 << 9);
    }
    for (r, v) in [reg::RAX, reg::RBX, reg::RCX, reg::RDX].into_iter().zip(v) {
        cpu.set_gpr(Width::D, r, u64::from(v));
    }
    Ok(())
}

impl Vcpu {
    /// The time-stamp counter at `now`: virtual nanoseconds and the offset that writes to IA32_TSC made.
    pub fn tsc_at(&self, now: u64) -> u64 {
        now.wrapping_add(self.st.msr.tsc_offset)
    }

    pub(super) fn set_edx_eax(&mut self, v: u64) {
        self.set_gpr(Width::D, reg::RAX, v & 0xffff_ffff);
        self.set_gpr(Width::D, reg::RDX, v >> 32);
    }

    pub(super) fn edx_eax(&self) -> u64 {
        let g = &self.st.gpr;
        g[reg::RDX as usize] << 32 | g[reg::RAX as usize] & 0xffff_ffff
    }
}

fn read_tsc(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.cr4 & cr4::TSD != 0 && cpu.st.cpl > 0 {
        return Err(cpu.gp(0));
    }
    let v = cpu.tsc_at(cpu.now_at(i));
    cpu.set_edx_eax(v);
    Ok(())
}

fn rdtsc(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    read_tsc(cpu, i)
}

fn rdtscp(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if !cpu.model.has(Feature::Rdtscp) {
        return Err(cpu.ud());
    }
    read_tsc(cpu, i)?;
    let aux = cpu.st.msr.tsc_aux & 0xffff_ffff;
    cpu.set_gpr(Width::D, reg::RCX, aux);
    Ok(())
}

fn rdpid(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Gpr(r) = i.dst else { return Err(cpu.ud()) };
    if !cpu.model.has(Feature::Rdpid) {
        return Err(cpu.ud());
    }
    let v = cpu.st.msr.tsc_aux & 0xffff_ffff;
    cpu.set_gpr(Width::Q, r, v);
    Ok(())
}

/// No performance counters: every index is invalid.
fn rdpmc(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    Err(cpu.gp(0))
}

fn need_osxsave(cpu: &mut Vcpu) -> R<()> {
    if cpu.st.cr4 & cr4::OSXSAVE != 0 { Ok(()) } else { Err(cpu.ud()) }
}

fn xgetbv(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    need_osxsave(cpu)?;
    let v = match cpu.st.gpr[reg::RCX as usize] as u32 {
        0 => cpu.st.xcr0,
        1 if cpu.model.has(Feature::Xgetbv1) => cpu.st.xcr0 & super::xsave::in_use(&cpu.st),
        _ => return Err(cpu.gp(0)),
    };
    cpu.set_edx_eax(v);
    Ok(())
}

fn xsetbv(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    need_osxsave(cpu)?;
    cpu.need_cpl0()?;
    let v = cpu.edx_eax();
    let index = cpu.st.gpr[reg::RCX as usize] as u32;
    // SDM XSETBV: x87 always, AVX only with SSE.
    if index != 0 || v & !cpu.model.xcr0_mask() != 0 || v & 1 == 0 || v & 6 == 4 {
        return Err(cpu.gp(0));
    }
    cpu.st.xcr0 = v;
    advance(cpu, i);
    cpu.mode_changed();
    Ok(())
}

pub(super) fn select(x: &Instruction) -> Pick {
    Some(match x.mnemonic() {
        Mnemonic::Cpuid => (serialising!(cpuid), GOES_ON),
        Mnemonic::Rdtsc => (handler!(rdtsc), GOES_ON),
        Mnemonic::Rdtscp => (handler!(rdtscp), GOES_ON),
        Mnemonic::Rdpid => (handler!(rdpid), GOES_ON),
        Mnemonic::Rdpmc => (handler!(rdpmc), GOES_ON),
        Mnemonic::Xgetbv => (handler!(xgetbv), GOES_ON),
        Mnemonic::Xsetbv => (handler!(xsetbv), ENDS),
        _ => return None,
    })
}
