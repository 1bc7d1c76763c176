//! MONITOR and MWAIT (SDM vol. 3, 9.10.5), and PAUSE where several processors take turns.
//!
//! MWAIT with the monitor armed waits as HLT does, until an interrupt comes; with ECX bit 0 also until one that IF masks,
//! which is not taken then. Where there are several processors, a change of the monitored line ends the wait too: the board looks
//! at it when it looks for processors that can run. Limitations: with one processor, a store to the line by a device does not end the
//! wait, which the architecture lets software cope with by interrupts; with several, a store that changes nothing does not.

use iced_x86::{Code, Instruction, Mnemonic};
use softmmu::{Access, Gpa};

use crate::emit::R;
use crate::insn::{Insn, Op, Width};
use crate::model::Feature;
use crate::state::{Monitored, reg};
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
    if cpu.model.isa().yields() {
        let line = cpu.mmu.debug_translate(at).map(|gpa| gpa.0 & !63);
        cpu.st.monitored = line.map(|line| Monitored { line, contents: contents(cpu, line) });
    }
    Ok(())
}

fn contents(cpu: &Vcpu, line: u64) -> [u64; 8] {
    std::array::from_fn(|k| cpu.mmu.space().load::<u64>(Gpa(line + 8 * k as u64)).unwrap_or(0))
}

/// PAUSE: the next turn is another processor's.
fn pause(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    cpu.st.yielded = true;
    cpu.stop_after();
    Ok(())
}

/// For models whose PAUSE yields.
pub fn yield_at_pause(x: &Instruction, i: &mut Insn) {
    if x.code() == Code::Pause {
        (i.op, i.run) = (Op::Cold, handler!(pause));
    }
}

impl Vcpu {
    /// Does it wait, by MWAIT, for a store of another processor?
    pub fn waits_for_store(&self) -> bool {
        self.st.halted && self.st.monitored.is_some()
    }

    /// A processor that waits by MWAIT goes on if the line that it watches has changed.
    pub fn look_at_monitored(&mut self) {
        if let Some(watched) = self.st.monitored
            && self.st.halted
            && contents(self, watched.line) != watched.contents
        {
            (self.st.halted, self.st.wakes_masked, self.st.monitored) = (false, false, None);
        }
    }
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
        cpu.look_at_monitored();
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
