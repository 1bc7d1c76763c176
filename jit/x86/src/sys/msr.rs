//! RDMSR and WRMSR: what Linux, Windows-era kernels, firmware and memtest86+ touch on an Intel-like processor (SDM
//! vol. 4, chapter 2). Everything else raises #GP(0), as on hardware, and is logged once for each MSR number and
//! direction (up to a limit), so that a guest's probing cannot flood the log.

use iced_x86::{Instruction, Mnemonic};

use crate::emit::R;
use crate::insn::Insn;
use crate::model::{ARCH_CAPABILITIES, Feature};
use crate::state::{reg, seg};
use crate::vcpu::Vcpu;

use super::{ENDS, GOES_ON, Pick, advance, handler};

mod msr {
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

/// MTRRCAP: 8 variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 8 | 1 << 8 | 1 << 10;
/// MCG_CAP: 4 banks, MCG_CTL present.
const MCG_CAP: u64 = 4 | 1 << 8;
/// The microcode revision, in the upper half of BIOS_SIGN_ID.
const MICROCODE: u64 = 1 << 32;
/// IA32_FEATURE_CONTROL: locked, with VMX and SGX off.
const FEATURES_LOCKED: u64 = 1;
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
        msr::MTRR_FIX64K => 0,
        msr::MTRR_FIX16K_80000 => 1,
        msr::MTRR_FIX16K_A0000 => 2,
        msr::MTRR_FIX4K_FIRST..=msr::MTRR_FIX4K_LAST => 3 + (n - msr::MTRR_FIX4K_FIRST) as usize,
        _ => return None,
    })
}

/// Reads an MSR; `None` asks for #GP(0).
fn read(cpu: &mut Vcpu, i: &Insn, n: u32) -> R<Option<u64>> {
    let m = &cpu.st.msr;
    Ok(Some(match n {
        msr::TSC => cpu.tsc_at(cpu.now_at(i)),
        // TSC and TSC_ADJUST move together, and both start at 0.
        msr::TSC_ADJUST => m.tsc_offset,
        msr::PLATFORM_ID | msr::BIOS_UPDT_TRIG | msr::MISC_FEATURE_ENABLES => 0,
        msr::PERF_CTL | msr::CLOCK_MODULATION | msr::THERM_INTERRUPT | msr::THERM_STATUS => 0,
        msr::APIC_BASE => cpu.bus.apic_base(),
        msr::FEATURE_CONTROL => FEATURES_LOCKED,
        msr::SPEC_CTRL if cpu.model.has(Feature::SpecCtrl) => m.spec_ctrl,
        msr::BIOS_SIGN_ID => MICROCODE,
        msr::PLATFORM_INFO => RATIO,
        msr::PERF_STATUS => RATIO,
        msr::MTRRCAP => MTRR_CAP,
        msr::ARCH_CAPABILITIES if cpu.model.has(Feature::ArchCapabilities) => ARCH_CAPABILITIES,
        msr::SYSENTER_CS => m.sysenter_cs,
        msr::SYSENTER_ESP => m.sysenter_esp,
        msr::SYSENTER_EIP => m.sysenter_eip,
        msr::MCG_CAP => MCG_CAP,
        msr::MCG_STATUS => m.mcg_status,
        msr::MCG_CTL => m.mcg_ctl,
        msr::MISC_ENABLE => m.misc_enable,
        msr::DEBUGCTL => m.debugctl,
        msr::MTRR_PHYS_FIRST..=msr::MTRR_PHYS_LAST => m.mtrr_var[(n & 15) as usize],
        msr::PAT => m.pat,
        msr::MTRR_DEF_TYPE => m.mtrr_def_type,
        msr::MC_FIRST..=msr::MC_LAST => m.mc[(n & 15) as usize],
        msr::EFER => m.efer,
        msr::STAR => m.star,
        msr::LSTAR => m.lstar,
        msr::CSTAR => m.cstar,
        msr::FMASK => m.sfmask,
        msr::FS_BASE => cpu.st.seg[seg::FS as usize].base,
        msr::GS_BASE => cpu.st.seg[seg::GS as usize].base,
        msr::KERNEL_GS_BASE => m.kernel_gs_base,
        msr::TSC_AUX if cpu.model.has(Feature::Rdtscp) => m.tsc_aux,
        msr::TSC_DEADLINE if cpu.model.has(Feature::TscDeadline) => {
            cpu.need_single()?;
            let now = cpu.now_single();
            // 0 means disarmed, whatever the offset.
            match cpu.bus.tsc_deadline(now) {
                0 => 0,
                at => cpu.tsc_at(at),
            }
        }
        msr::X2APIC_FIRST..=msr::X2APIC_LAST if cpu.model.has(Feature::X2apic) => {
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
    let canonical = cpu.canonical(v);
    let beyond = cpu.beyond_physical();
    let now = cpu.now_at(i);
    let has = |f| cpu.model.has(f);
    let (spec_ctrl, x2apic, deadline, rdtscp) =
        (has(Feature::SpecCtrl), has(Feature::X2apic), has(Feature::TscDeadline), has(Feature::Rdtscp));
    let m = &mut cpu.st.msr;
    let store = |place: &mut u64, ok: bool| {
        if ok {
            *place = v;
        }
        Ok(ok)
    };
    match n {
        msr::TSC => {
            m.tsc_offset = v.wrapping_sub(now);
            Ok(true)
        }
        msr::TSC_ADJUST => store(&mut m.tsc_offset, true),
        msr::APIC_BASE => {
            cpu.need_single()?;
            let now = cpu.now_single();
            let ok = v & beyond == 0 && cpu.bus.set_apic_base(v, now);
            cpu.stop_after();
            Ok(ok)
        }
        // IBRS, STIBP, SSBD: stored only.
        msr::SPEC_CTRL => store(&mut m.spec_ctrl, spec_ctrl && v & !7 == 0),
        msr::PRED_CMD => Ok(spec_ctrl && v & !1 == 0),
        // A microcode update "succeeds" and changes nothing.
        msr::BIOS_UPDT_TRIG | msr::BIOS_SIGN_ID => Ok(true),
        msr::PERF_CTL | msr::CLOCK_MODULATION | msr::THERM_INTERRUPT | msr::THERM_STATUS => Ok(true),
        msr::MISC_FEATURE_ENABLES => Ok(v == 0),
        msr::SYSENTER_CS => store(&mut m.sysenter_cs, true),
        msr::SYSENTER_ESP => store(&mut m.sysenter_esp, canonical),
        msr::SYSENTER_EIP => store(&mut m.sysenter_eip, canonical),
        msr::MCG_STATUS => store(&mut m.mcg_status, v & !7 == 0),
        msr::MCG_CTL => store(&mut m.mcg_ctl, v == 0 || v == u64::MAX),
        msr::MISC_ENABLE => store(&mut m.misc_enable, true),
        // Branch tracing is absent: only LBR and BTF can be set, without effect.
        msr::DEBUGCTL => store(&mut m.debugctl, v & !3 == 0),
        msr::MTRR_PHYS_FIRST..=msr::MTRR_PHYS_LAST => {
            let ok = match n & 1 {
                0 => v & (beyond | 0xf00) == 0 && is_memory_type(v & 0xff, false),
                _ => v & (beyond | 0x7ff) == 0,
            };
            store(&mut m.mtrr_var[(n & 15) as usize], ok)
        }
        msr::PAT => store(&mut m.pat, all_memory_types(v, true)),
        msr::MTRR_DEF_TYPE => store(&mut m.mtrr_def_type, v & !0xcff == 0 && is_memory_type(v & 0xff, false)),
        // MCi_CTL stores anything; status, address and misc can be cleared only (SDM vol. 3, 16.3.2).
        msr::MC_FIRST..=msr::MC_LAST => store(&mut m.mc[(n & 15) as usize], n & 3 == 0 || v == 0),
        msr::EFER => cpu.write_efer(v).map(|()| true),
        msr::STAR => store(&mut m.star, true),
        msr::LSTAR => store(&mut m.lstar, canonical),
        msr::CSTAR => store(&mut m.cstar, canonical),
        msr::FMASK => store(&mut m.sfmask, v >> 32 == 0),
        msr::FS_BASE => store(&mut cpu.st.seg[seg::FS as usize].base, canonical),
        msr::GS_BASE => store(&mut cpu.st.seg[seg::GS as usize].base, canonical),
        msr::KERNEL_GS_BASE => store(&mut m.kernel_gs_base, canonical),
        msr::TSC_AUX => store(&mut m.tsc_aux, rdtscp && v >> 32 == 0),
        msr::TSC_DEADLINE if deadline => {
            let at = if v == 0 { 0 } else { v.wrapping_sub(m.tsc_offset) };
            cpu.need_single()?;
            let now = cpu.now_single();
            cpu.bus.set_tsc_deadline(at, now);
            cpu.stop_after();
            Ok(true)
        }
        msr::X2APIC_FIRST..=msr::X2APIC_LAST if x2apic => {
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

/// Logs an access that is refused: the first few by number, at debug level the rest.
#[cold]
fn refused(cpu: &Vcpu, n: u32, value: Option<u64>) {
    tracing::debug!(
        msr = format_args!("{n:#x}"),
        ?value,
        rip = format_args!("{:#x}", cpu.st.rip),
        "MSR access refused"
    );
}

fn rdmsr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    let n = cpu.st.gpr[reg::RCX as usize] as u32;
    match read(cpu, i, n)? {
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
    if !write(cpu, i, n, v)? {
        refused(cpu, n, Some(v));
        return Err(cpu.gp(0));
    }
    advance(cpu, i);
    Ok(())
}

pub(super) fn select(x: &Instruction) -> Pick {
    Some(match x.mnemonic() {
        Mnemonic::Rdmsr => (handler!(rdmsr), GOES_ON),
        Mnemonic::Wrmsr => (handler!(wrmsr), ENDS),
        _ => return None,
    })
}
