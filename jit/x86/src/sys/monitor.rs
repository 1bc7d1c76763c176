//! MONITOR and MWAIT (SDM vol. 3, 9.10.5).
//!
//! MWAIT with the monitor armed waits as HLT does, until an interrupt comes; with ECX bit 0 also until one that IF masks,
//! which is not taken then. Limitation: a store to the monitored line by a device does not end the wait, which the
//! architecture lets software cope with by interrupts.

use iced_x86::{Code, Instruction, Mnemonic};
use softmmu::Access;

use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::model::Feature;
use crate::state::reg;
use crate::vcpu::{Vcpu, addr_mode};

use super::msr::MONITOR_ENABLED;
use super::{ENDS, GOES_ON, Pick, advance, handler};

/// ECX of MWAIT: interrupts end the wait even while IF is clear.
const BREAK_ON_MASKED: u64 = 1;

fn available(cpu: &mut Vcpu) -> R<()> {
    let ok = cpu.model.has(Feature::Monitor) && cpu.st.msr.misc_enable & MONITOR_ENABLED != 0;
    // SDM MONITOR, MWAIT: #UD also above CPL 0.
    if ok && cpu.st.cpl == 0 { Ok(()) } else { Err(cpu.ud()) }
}

fn monitor(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    available(cpu)?;
    if cpu.st.gpr[reg::RCX as usize] & 0xffff_ffff != 0 {
        return Err(cpu.gp(0));
    }
    let off = cpu.st.gpr[reg::RAX as usize] & i.aw.mask();
    let at = cpu.linear(i.seg, i.am, off, 1, Access::Read)?;
    cpu.read::<u8>(i.seg, at)?;
    cpu.st.monitor = true;
    Ok(())
}

fn mwait(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    available(cpu)?;
    let extensions = cpu.st.gpr[reg::RCX as usize] & 0xffff_ffff;
    if extensions & !BREAK_ON_MASKED != 0 {
        return Err(cpu.gp(0));
    }
    if std::mem::take(&mut cpu.st.monitor) {
        cpu.st.halted = true;
        cpu.st.wakes_masked = extensions & BREAK_ON_MASKED != 0;
    }
    advance(cpu, i);
    cpu.stop_after();
    Ok(())
}

/// Ends an MWAIT that an interrupt ends although IF masks it.
pub(super) fn wake(cpu: &mut Vcpu) {
    if cpu.st.halted && cpu.st.wakes_masked && cpu.bus.interrupt_pending() {
        cpu.st.halted = false;
    }
    if !cpu.st.halted {
        cpu.st.wakes_masked = false;
    }
}

pub(super) fn select(x: &Instruction, i: &mut Insn, mode: crate::state::Mode) -> Pick {
    Some(match x.mnemonic() {
        Mnemonic::Monitor => {
            i.aw = match x.code() {
                Code::Monitorw => Width::W,
                Code::Monitord => Width::D,
                _ => Width::Q,
            };
            i.seg = crate::decode::segment(x.segment_prefix());
            i.am = addr_mode(mode, i.seg);
            (handler!(monitor), GOES_ON)
        }
        Mnemonic::Mwait => (handler!(mwait), ENDS),
        _ => return None,
    })
}
