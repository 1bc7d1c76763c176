//! RDMSR and WRMSR: what Linux, Windows-era kernels, firmware and memtest86+ touch on an Intel-like processor (SDM
//! vol. 4, chapter 2). Everything else raises #GP(0), as on hardware, and is logged up to a limit, so that a guest's
//! probing cannot flood the log.

use iced_x86::{Instruction, Mnemonic};

use crate::emit::R;
use crate::insn::Insn;
use crate::model::{ARCH_CAPABILITIES, CpuModel, Feature};
use crate::state::{reg, seg};
use crate::vcpu::Vcpu;

use super::{ENDS, GOES_ON, Pick, advance, handler, serialising};

mod index {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const SPEC_CTRL: u32 = 0x48;
    pub const PRED_CMD: u32 = 0x49;
    pub const BIOS_UPDT_TRIG: u32 = 0x79;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const PKG_CST_CONFIG: u32 = 0xe2;
    pub const MTRRCAP: u32 = 0xfe;
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const MISC_FEATURE_ENABLES: u32 = 0x140;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MCG_CTL: u32 = 0x17b;
    pub const PERF_STATUS: u32 = 0x198;
    pub const PERF_CTL: u32 = 0x199;
    pub const CLOCK_MODULATION: u32 = 0x19a;
    pub const THERM_INTERRUPT: u32 = 0x19b;
    pub const THERM_STATUS: u32 = 0x19c;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const POWER_CTL: u32 = 0x1fc;
    pub const MTRR_PHYS_FIRST: u32 = 0x200;
    pub const MTRR_PHYS_LAST: u32 = 0x20f;
    pub const MTRR_FIX64K: u32 = 0x250;
    pub const MTRR_FIX16K_80000: u32 = 0x258;
    pub const MTRR_FIX16K_A0000: u32 = 0x259;
    pub const MTRR_FIX4K_FIRST: u32 = 0x268;
    pub const MTRR_FIX4K_LAST: u32 = 0x26f;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const MC_FIRST: u32 = 0x400;
    pub const MC_LAST: u32 = 0x40f;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC_FIRST: u32 = 0x800;
    pub const X2APIC_LAST: u32 = 0x8ff;
    pub const XSS: u32 = 0xda0;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// IA32_APIC_BASE.EXTD, which is reserved where CPUID has no x2APIC.
const X2APIC_MODE: u64 = 1 << 10;
/// IA32_MISC_ENABLE: MONITOR and MWAIT exist.
pub(super) const MONITOR_ENABLED: u64 = 1 << 18;
/// MSR_PKG_CST_CONFIG_CONTROL.CFG_LOCK.
const CST_LOCKED: u64 = 1 << 15;
/// MTRRCAP: 8 variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 8 | 1 << 8 | 1 << 10;
/// MCG_CAP: 4 banks, MCG_CTL present.
const MCG_CAP: u64 = 4 | 1 << 8;
/// The microcode revision, in the upper half of BIOS_SIGN_ID.
const MICROCODE: u64 = 1 << 32;
/// IA32_FEATURE_CONTROL: locked, with VMX and SGX off.
const FEATURES_LOCKED: u64 = 1;
/// Refused accesses that are logged for each processor.
const MAX_REPORTS: u32 = 64;
/// Bus ratio 10 (10 × 100 MHz).
const RATIO: u64 = 10 << 8;

/// Is it a memory type that MTRRs and the PAT know? `uc_minus`: the PAT's type 7 counts.
fn is_memory_type(t: u64, uc_minus: bool) -> bool {
    matches!(t, 0 | 1 | 4..=6) || uc_minus && t == 7
}

fn all_memory_types(v: u64, uc_minus: bool) -> bool {
    v.to_le_bytes().iter().all(|t| is_memory_type(u64::from(*t), uc_minus))
}

/// Index of a fixed-range MTRR in `Msrs::mtrr_fixed`.
fn fixed_index(n: u32) -> Option<usize> {
    Some(match n {
        index::MTRR_FIX64K => 0,
        index::MTRR_FIX16K_80000 => 1,
        index::MTRR_FIX16K_A0000 => 2,
        index::MTRR_FIX4K_FIRST..=index::MTRR_FIX4K_LAST => 3 + (n - index::MTRR_FIX4K_FIRST) as usize,
        _ => return None,
    })
}

/// Reads an MSR; `None` asks for #GP(0).
fn read(cpu: &mut Vcpu, i: &Insn, n: u32) -> R<Option<u64>> {
    let m = &cpu.st.msr;
    Ok(Some(match n {
        index::TSC => cpu.tsc_at(cpu.now_at(i)),
        // TSC and TSC_ADJUST move together, and both start at 0.
        index::TSC_ADJUST => m.tsc_offset,
        index::PLATFORM_ID | index::BIOS_UPDT_TRIG | index::MISC_FEATURE_ENABLES => 0,
        index::PERF_CTL | index::CLOCK_MODULATION | index::THERM_INTERRUPT | index::THERM_STATUS => 0,
        index::APIC_BASE => cpu.bus.apic_base(),
        index::FEATURE_CONTROL => FEATURES_LOCKED,
        index::SPEC_CTRL if cpu.model.has(Feature::SpecCtrl) => m.spec_ctrl,
        index::BIOS_SIGN_ID => MICROCODE,
        // No C-states but C1; locked.
        index::PKG_CST_CONFIG => CST_LOCKED,
        index::POWER_CTL => 0,
        index::PLATFORM_INFO => RATIO,
        index::PERF_STATUS => RATIO,
        index::MTRRCAP => MTRR_CAP,
        index::ARCH_CAPABILITIES if cpu.model.has(Feature::ArchCapabilities) => ARCH_CAPABILITIES,
        index::SYSENTER_CS => m.sysenter_cs,
        index::SYSENTER_ESP => m.sysenter_esp,
        index::SYSENTER_EIP => m.sysenter_eip,
        index::MCG_CAP => MCG_CAP,
        index::MCG_STATUS => m.mcg_status,
        index::MCG_CTL => m.mcg_ctl,
        index::MISC_ENABLE => m.misc_enable,
        index::DEBUGCTL => m.debugctl,
        index::MTRR_PHYS_FIRST..=index::MTRR_PHYS_LAST => m.mtrr_var[(n & 15) as usize],
        index::PAT => m.pat,
        index::MTRR_DEF_TYPE => m.mtrr_def_type,
        index::MC_FIRST..=index::MC_LAST => m.mc[(n & 15) as usize],
        index::EFER => m.efer,
        index::XSS if cpu.model.has(Feature::Xsaves) => m.xss,
        index::STAR => m.star,
        index::LSTAR => m.lstar,
        index::CSTAR => m.cstar,
        index::FMASK => m.sfmask,
        index::FS_BASE => cpu.st.seg[seg::FS as usize].base,
        index::GS_BASE => cpu.st.seg[seg::GS as usize].base,
        index::KERNEL_GS_BASE => m.kernel_gs_base,
        index::TSC_AUX if cpu.model.has(Feature::Rdtscp) => m.tsc_aux,
        index::TSC_DEADLINE if cpu.model.has(Feature::TscDeadline) => {
            cpu.need_single()?;
            let now = cpu.now_single();
            // 0 means disarmed, whatever the offset.
            match cpu.bus.tsc_deadline(now) {
                0 => 0,
                at => cpu.tsc_at(at),
            }
        }
        index::X2APIC_FIRST..=index::X2APIC_LAST if cpu.model.has(Feature::X2apic) => {
            cpu.need_single()?;
            let now = cpu.now_single();
            let v = cpu.bus.x2apic_read(n, now);
            cpu.stop_after();
            return Ok(v);
        }
        _ => match fixed_index(n) {
            Some(k) => m.mtrr_fixed[k],
            None => return Ok(None),
        },
    }))
}

/// Writes an MSR; `false` asks for #GP(0).
fn write(cpu: &mut Vcpu, i: &Insn, n: u32, v: u64) -> R<bool> {
    let canonical = cpu.canonical_base(v);
    let beyond = cpu.beyond_physical();
    let now = cpu.now_at(i);
    let has = |f| cpu.model.has(f);
    let (spec_ctrl, x2apic, deadline) =
        (has(Feature::SpecCtrl), has(Feature::X2apic), has(Feature::TscDeadline));
    // IBRS, STIBP, SSBD and BHI_DIS_S: stored only.
    let spec_ctrl_bits = if has(Feature::BhiCtrl) { 7 | 1 << 10 } else { 7 };
    let (rdtscp, xsaves) = (has(Feature::Rdtscp), has(Feature::Xsaves));
    let m = &mut cpu.st.msr;
    let store = |place: &mut u64, ok: bool| {
        if ok {
            *place = v;
        }
        Ok(ok)
    };
    match n {
        index::TSC => {
            m.tsc_offset = v.wrapping_sub(now);
            Ok(true)
        }
        index::TSC_ADJUST => store(&mut m.tsc_offset, true),
        index::APIC_BASE => {
            cpu.need_single()?;
            let now = cpu.now_single();
            let reserved = if x2apic { beyond } else { beyond | X2APIC_MODE };
            let ok = v & reserved == 0 && cpu.bus.set_apic_base(v, now);
            cpu.stop_after();
            Ok(ok)
        }
        index::SPEC_CTRL => store(&mut m.spec_ctrl, spec_ctrl && v & !spec_ctrl_bits == 0),
        index::PRED_CMD => Ok(spec_ctrl && v & !1 == 0),
        // A microcode update "succeeds" and changes nothing.
        index::BIOS_UPDT_TRIG | index::BIOS_SIGN_ID => Ok(true),
        index::PERF_CTL | index::CLOCK_MODULATION | index::THERM_INTERRUPT | index::THERM_STATUS => Ok(true),
        index::MISC_FEATURE_ENABLES => Ok(v == 0),
        index::PKG_CST_CONFIG => Ok(v == CST_LOCKED),
        // C1E and its kin: there is nothing to save.
        index::POWER_CTL => Ok(true),
        index::SYSENTER_CS => store(&mut m.sysenter_cs, true),
        index::SYSENTER_ESP => store(&mut m.sysenter_esp, canonical),
        index::SYSENTER_EIP => store(&mut m.sysenter_eip, canonical),
        index::MCG_STATUS => store(&mut m.mcg_status, v & !7 == 0),
        index::MCG_CTL => store(&mut m.mcg_ctl, v == 0 || v == u64::MAX),
        index::MISC_ENABLE => store(&mut m.misc_enable, true),
        // Branch tracing is absent: only LBR and BTF can be set, without effect.
        index::DEBUGCTL => store(&mut m.debugctl, v & !3 == 0),
        index::MTRR_PHYS_FIRST..=index::MTRR_PHYS_LAST => {
            let ok = match n & 1 {
                0 => v & (beyond | 0xf00) == 0 && is_memory_type(v & 0xff, false),
                _ => v & (beyond | 0x7ff) == 0,
            };
            store(&mut m.mtrr_var[(n & 15) as usize], ok)
        }
        index::PAT => store(&mut m.pat, all_memory_types(v, true)),
        index::MTRR_DEF_TYPE => {
            store(&mut m.mtrr_def_type, v & !0xcff == 0 && is_memory_type(v & 0xff, false))
        }
        // MCi_CTL turns a bank on or off (Linux leaves bit 10 out of one); the status can be cleared only (SDM vol. 3, 16.3.2).
        index::MC_FIRST..=index::MC_LAST => {
            let ok = match n & 3 {
                0 => v == 0 || v | 1 << 10 == u64::MAX,
                1 => v == 0,
                _ => true,
            };
            store(&mut m.mc[(n & 15) as usize], ok)
        }
        index::EFER => cpu.write_efer(v).map(|()| true),
        // No supervisor state component exists.
        index::XSS => Ok(xsaves && v == 0),
        index::STAR => store(&mut m.star, true),
        index::LSTAR => store(&mut m.lstar, canonical),
        index::CSTAR => store(&mut m.cstar, canonical),
        index::FMASK => store(&mut m.sfmask, v >> 32 == 0),
        index::FS_BASE => store(&mut cpu.st.seg[seg::FS as usize].base, canonical),
        index::GS_BASE => store(&mut cpu.st.seg[seg::GS as usize].base, canonical),
        index::KERNEL_GS_BASE => store(&mut m.kernel_gs_base, canonical),
        index::TSC_AUX => store(&mut m.tsc_aux, rdtscp && v >> 32 == 0),
        index::TSC_DEADLINE if deadline => {
            let at = if v == 0 { 0 } else { v.wrapping_sub(m.tsc_offset) };
            cpu.need_single()?;
            let now = cpu.now_single();
            cpu.bus.set_tsc_deadline(at, now);
            cpu.stop_after();
            Ok(true)
        }
        index::X2APIC_FIRST..=index::X2APIC_LAST if x2apic => {
            cpu.need_single()?;
            let now = cpu.now_single();
            let ok = cpu.bus.x2apic_write(n, v, now);
            cpu.stop_after();
            Ok(ok)
        }
        _ => match fixed_index(n) {
            Some(k) => store(&mut m.mtrr_fixed[k], all_memory_types(v, false)),
            None => Ok(false),
        },
    }
}

/// Logs an access that is refused, up to [`MAX_REPORTS`] times.
#[cold]
fn refused(cpu: &mut Vcpu, n: u32, value: Option<u64>) {
    if cpu.model.reports >= MAX_REPORTS {
        return;
    }
    cpu.model.reports += 1;
    let more = if cpu.model.reports == MAX_REPORTS { " (further ones are not reported)" } else { "" };
    match value {
        None => tracing::trace!(target: "unimp", "MSR {n:#x} read: refused with #GP{more}"),
        Some(v) => tracing::trace!(target: "unimp", "MSR {n:#x} written with {v:#x}: refused with #GP{more}"),
    }
}

/// Has the model this MSR? Those that follow from no feature came with the 64-bit processors.
fn exists(model: &CpuModel, n: u32) -> bool {
    use Feature as F;
    let has = |f| model.has(f);
    match n {
        index::TSC => has(F::Tsc),
        index::TSC_ADJUST => has(F::TscAdjust),
        index::APIC_BASE => has(F::Apic),
        index::SYSENTER_CS..=index::SYSENTER_EIP => has(F::Sep),
        index::MCG_CAP..=index::MCG_CTL | index::MC_FIRST..=index::MC_LAST => has(F::Mca),
        index::PAT => has(F::Pat),
        index::MTRRCAP | index::MTRR_PHYS_FIRST..=index::MTRR_PHYS_LAST | index::MTRR_DEF_TYPE => {
            has(F::Mtrr)
        }
        index::BIOS_UPDT_TRIG | index::BIOS_SIGN_ID | index::DEBUGCTL | index::PLATFORM_ID => has(F::Sep),
        index::EFER => has(F::Syscall) || has(F::Nx) || has(F::Lm),
        index::STAR => has(F::Syscall),
        index::LSTAR
        | index::CSTAR
        | index::FMASK
        | index::FS_BASE
        | index::GS_BASE
        | index::KERNEL_GS_BASE => has(F::Lm),
        _ if fixed_index(n).is_some() => has(F::Mtrr),
        index::TSC_AUX => has(F::Rdtscp) || has(F::Rdpid),
        _ => has(F::Sse2),
    }
}

fn rdmsr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    let n = cpu.st.gpr[reg::RCX as usize] as u32;
    let value = if exists(&cpu.model, n) { read(cpu, i, n)? } else { None };
    match value {
        Some(v) => {
            cpu.set_edx_eax(v);
            Ok(())
        }
        None => {
            refused(cpu, n, None);
            Err(cpu.gp(0))
        }
    }
}

fn wrmsr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    let n = cpu.st.gpr[reg::RCX as usize] as u32;
    let v = cpu.edx_eax();
    if !exists(&cpu.model, n) || !write(cpu, i, n, v)? {
        refused(cpu, n, Some(v));
        return Err(cpu.gp(0));
    }
    advance(cpu, i);
    Ok(())
}

pub(super) fn select(x: &Instruction) -> Pick {
    Some(match x.mnemonic() {
        Mnemonic::Rdmsr => (handler!(rdmsr), GOES_ON),
        Mnemonic::Wrmsr => (serialising!(wrmsr), ENDS),
        _ => return None,
    })
}
