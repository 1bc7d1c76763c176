//! System management mode (SDM vol. 3, chapter 32; APM vol. 2, chapter 10).
//!
//! SMBASE can be relocated; auto-halt restart and I/O instruction restart are there; SMIs, INITs and NMIs wait until RSM. The
//! state-save maps are in [`map`].
//!
//! Where SMRAM is, and that only SMM sees it, is the board's business: [`crate::Bus::set_smm`].
//! Limitation: a debug trap of the instruction that an SMI follows is delivered before the SMI and not after RSM.

mod map;

use iced_x86::{Instruction, Mnemonic};
use serde::{Deserialize, Serialize};
use softmmu::Gpa;

use crate::emit::{R, Stop};
use crate::insn::{Insn, Opnd, Width, prefix};
use crate::model::Feature;
use crate::state::{CpuState, Segment, Shadow, cr0, cr4, efer, reg, rflags, seg, stop};
use crate::vcpu::Vcpu;

use super::{ENDS, Pick, serialising};
use map::{AREA, Area};

/// The entry point, as an offset from SMBASE.
const ENTRY: u64 = 0x8000;

/// The last access to a port, as it is needed to do it once more after an SMI.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoAccess {
    /// Retired instructions after it: an SMI at this count follows it immediately.
    pub icount: u64,
    /// The instruction.
    pub rip: u64,
    /// RCX, RSI and RDI before it.
    pub registers: [u64; 3],
    /// The port.
    pub port: u16,
    /// Bytes.
    pub size: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// ... with a repeat prefix.
    pub repeated: bool,
    /// The port stands in the instruction.
    pub immediate: bool,
}

impl IoAccess {
    /// APM vol. 2, figure 10-3: the I/O restart doubleword.
    fn amd(&self) -> u32 {
        let bit = |set: bool, n: u32| u32::from(set) << n;
        let size = u32::from(self.size) << 4;
        u32::from(self.port) << 16
            | size
            | bit(self.repeated, 3)
            | bit(self.string, 2)
            | 2
            | bit(self.input, 0)
    }

    /// SDM vol. 3, table 32-7: the I/O state field.
    fn intel(&self) -> u32 {
        let kind = u32::from(self.input)
            | u32::from(self.string) << 1
            | u32::from(self.repeated) << 2
            | u32::from(self.immediate) << 3;
        u32::from(self.port) << 16 | kind << 4 | u32::from(self.size) << 1 | 1
    }
}

/// Remembers an access to a port by `i`. Called before it changes registers.
pub fn note_access(cpu: &mut Vcpu, i: &Insn, port: u16, w: Width, input: bool) {
    let string = matches!(i.op, crate::insn::Op::Str(_));
    let operand = if input { i.src } else { i.dst };
    let icount = cpu.icount_at(i).wrapping_add(1);
    let st = &mut cpu.st;
    st.io = IoAccess {
        icount,
        rip: i.ip,
        registers: [reg::RCX, reg::RSI, reg::RDI].map(|r| st.gpr[r as usize]),
        port,
        size: w.bytes() as u8,
        input,
        string,
        repeated: string && i.has(prefix::REP | prefix::REPNE),
        immediate: !string && operand == Opnd::Imm,
    };
}

/// Takes a pending SMI, unless in SMM already, where one waits.
pub(super) fn poll(cpu: &mut Vcpu) -> bool {
    let taken = !cpu.st.smm && cpu.bus.take_smi();
    if taken {
        enter(cpu);
    }
    taken
}

#[cold]
fn enter(cpu: &mut Vcpu) {
    tracing::trace!(target: "int", "SMI at {:#x}, SMBASE {:#x}", cpu.st.rip, cpu.st.smbase);
    let flags = cpu.rflags();
    let follows_io = cpu.st.io.size != 0 && cpu.st.io.icount == cpu.st.icount();
    // The handler's own accesses are remembered in `io` meanwhile.
    cpu.st.smm_io = if follows_io { cpu.st.io } else { IoAccess::default() };
    let io = follows_io.then_some(&cpu.st.smm_io);
    let area = Area::save(&cpu.st, flags, cpu.model.has(Feature::Lm), io);
    cpu.bus.set_smm(true);
    let base = u64::from(cpu.st.smbase);
    if cpu.mmu.space().write(Gpa(base + AREA), &area.bytes).is_err() {
        tracing::trace!(target: "guest_errors", "SMI: no memory at SMBASE {base:#x}");
    }
    let st = &mut cpu.st;
    (st.smm_nmi, st.nmi_blocked) = (st.nmi_blocked, true);
    (st.smm_shadow, st.shadow) = (st.shadow, Shadow::None);
    (st.smm, st.halted, st.wakes_masked) = (true, false, false);
    // SDM vol. 3, table 32-4.
    let flat = Segment { base: 0, limit: u32::MAX, attrs: Segment::G | 0x93, selector: 0 };
    st.seg = [flat; 6];
    let cs = &mut st.seg[seg::CS as usize];
    (cs.base, cs.selector, cs.attrs) = (base, (st.smbase >> 4) as u16, Segment::G | 0x9b);
    st.cpl = 0;
    st.rip = ENTRY;
    st.cr0 &= !(cr0::PE | cr0::EM | cr0::TS | cr0::PG);
    st.cr4 = 0;
    st.msr.efer &= if cpu.model.has(Feature::Lm) { 0 } else { efer::NXE };
    st.dr[7] = 0x400;
    cpu.set_rflags(rflags::FIXED);
    cpu.load_state_changed();
}

/// Is it a state that RSM may load? (SDM vol. 3, 32.4.1: else the processor shuts down.)
fn is_valid(cpu: &Vcpu, s: &CpuState) -> bool {
    let lma = s.cr0 & cr0::PG != 0 && s.msr.efer & efer::LME != 0;
    let cr0_ok = s.cr0 >> 32 == 0
        && (s.cr0 & cr0::PG == 0 || s.cr0 & cr0::PE != 0)
        && s.cr0 & (cr0::NW | cr0::CD) != cr0::NW;
    cr0_ok
        && s.cr4 & !super::control::cr4_mask(&cpu.model) == 0
        && (!lma || s.cr4 & cr4::PAE != 0)
        && (s.cr4 & cr4::PCIDE == 0 || lma)
        && (s.msr.efer & efer::LMA != 0) == lma
        && s.msr.efer & !super::control::efer_mask(&cpu.model) == 0
}

fn rsm(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    if !cpu.st.smm {
        return Err(cpu.ud());
    }
    cpu.need_single()?;
    let mut area = Area::new(cpu.model.has(Feature::Lm));
    let read = cpu.mmu.space().read(Gpa(u64::from(cpu.st.smbase) + AREA), &mut area.bytes);
    let mut st = cpu.st.clone();
    area.restore(&mut st);
    if read.is_err() || !is_valid(cpu, &st) {
        cpu.st.stop = stop::SHUTDOWN;
        return Err(Stop);
    }
    if st.smm_io.size != 0 && area.restarts_io() {
        st.rip = st.smm_io.rip;
        for (r, v) in [reg::RCX, reg::RSI, reg::RDI].into_iter().zip(st.smm_io.registers) {
            st.gpr[r as usize] = v;
        }
    }
    (st.smm, st.nmi_blocked, st.shadow) = (false, st.smm_nmi, st.smm_shadow);
    cpu.st = st;
    cpu.set_rflags(area.flags());
    cpu.load_state_changed();
    if cpu.reload_pdptes().is_err() {
        cpu.st.stop = stop::SHUTDOWN;
        return Err(Stop);
    }
    cpu.stop_after();
    Ok(())
}

pub(super) fn select(x: &Instruction) -> Pick {
    (x.mnemonic() == Mnemonic::Rsm).then_some((serialising!(rsm), ENDS))
}
