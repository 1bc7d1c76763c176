//! System management mode (SDM vol. 3, chapter 32; APM vol. 2, chapter 10).
//!
//! The state-save map is AMD64's, with its revision 2_0064h: it has room for 64-bit registers at documented places, and is
//! what firmware for this board's virtual relatives knows. SMBASE can be relocated; auto-halt restart is there, I/O
//! restart is not (bit 16 of the revision is clear).
//!
//! Where SMRAM is, and that only SMM sees it, is the board's business: [`crate::Bus::set_smm`].
//! Limitation: a debug trap that waits is delivered before an SMI and not after RSM.

use iced_x86::{Instruction, Mnemonic};
use softmmu::Gpa;

use crate::emit::{R, Stop};
use crate::insn::Insn;
use crate::state::{CpuState, Segment, TableReg, cr0, cr4, efer, rflags, seg, stop};
use crate::vcpu::Vcpu;

use super::{ENDS, Pick, handler};

/// The entry point and the save area, as offsets from SMBASE.
const ENTRY: u64 = 0x8000;
const SAVE: u64 = 0xfe00;
/// SMBASE relocation (bit 17), layout 64h.
const REVISION: u64 = 0x2_0064;

/// Places in the save area (APM vol. 2, table 10-1), counted from SMBASE + FE00h.
mod at {
    pub const SEGMENTS: usize = 0x00;
    pub const GDTR: usize = 0x60;
    pub const LDTR: usize = 0x70;
    pub const IDTR: usize = 0x80;
    pub const TR: usize = 0x90;
    pub const AUTO_HALT: usize = 0xc9;
    pub const EFER: usize = 0xd0;
    pub const REVISION: usize = 0xfc;
    pub const SMBASE: usize = 0x100;
    pub const CR4: usize = 0x148;
    pub const CR3: usize = 0x150;
    pub const CR0: usize = 0x158;
    pub const DR7: usize = 0x160;
    pub const DR6: usize = 0x168;
    pub const RFLAGS: usize = 0x170;
    pub const RIP: usize = 0x178;
    /// RAX; the others lie below it in the order of their numbers.
    pub const RAX: usize = 0x1f8;
}

/// The save area as bytes.
struct Area([u8; 512]);

impl Area {
    fn put(&mut self, at: usize, bytes: usize, v: u64) {
        self.0[at..at + bytes].copy_from_slice(&v.to_le_bytes()[..bytes]);
    }

    fn get(&self, at: usize, bytes: usize) -> u64 {
        self.0[at..at + bytes].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b))
    }

    fn put_segment(&mut self, at: usize, s: &Segment) {
        self.put(at, 2, s.selector.into());
        self.put(at + 2, 2, s.attrs.into());
        self.put(at + 4, 4, s.limit.into());
        self.put(at + 8, 8, s.base);
    }

    fn segment(&self, at: usize) -> Segment {
        Segment {
            selector: self.get(at, 2) as u16,
            attrs: self.get(at + 2, 2) as u16 & 0xf0ff,
            limit: self.get(at + 4, 4) as u32,
            base: self.get(at + 8, 8),
        }
    }

    fn put_table(&mut self, at: usize, t: TableReg) {
        self.put(at + 4, 4, t.limit.into());
        self.put(at + 8, 8, t.base);
    }

    fn table(&self, at: usize) -> TableReg {
        TableReg { base: self.get(at + 8, 8), limit: self.get(at + 4, 2) as u16 }
    }
}

fn saved(cpu: &mut Vcpu) -> Area {
    let flags = cpu.rflags();
    let st = &cpu.st;
    let mut a = Area([0; 512]);
    for (n, s) in st.seg.iter().enumerate() {
        a.put_segment(at::SEGMENTS + 16 * n, s);
    }
    a.put_segment(at::LDTR, &st.ldtr);
    a.put_segment(at::TR, &st.tr);
    a.put_table(at::GDTR, st.gdtr);
    a.put_table(at::IDTR, st.idtr);
    a.put(at::AUTO_HALT, 1, u64::from(st.halted));
    a.put(at::EFER, 8, st.msr.efer);
    a.put(at::REVISION, 4, REVISION);
    a.put(at::SMBASE, 4, st.smbase.into());
    for (place, v) in [
        (at::CR4, st.cr4),
        (at::CR3, st.cr3),
        (at::CR0, st.cr0),
        (at::DR7, st.dr[7]),
        (at::DR6, st.dr[6]),
        (at::RFLAGS, flags),
        (at::RIP, st.rip),
    ] {
        a.put(place, 8, v);
    }
    for n in 0..16 {
        a.put(at::RAX - 8 * n, 8, st.gpr[n]);
    }
    a
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
    let area = saved(cpu);
    cpu.bus.set_smm(true);
    let base = u64::from(cpu.st.smbase);
    if cpu.mmu.space().write(Gpa(base + SAVE), &area.0).is_err() {
        tracing::trace!(target: "guest_errors", "SMI: no memory at SMBASE {base:#x}");
    }
    let st = &mut cpu.st;
    (st.smm_nmi, st.nmi_blocked) = (st.nmi_blocked, true);
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
    st.msr.efer = 0;
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
        && (s.msr.efer & efer::LMA != 0) == lma
}

fn rsm(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    if !cpu.st.smm {
        return Err(cpu.ud());
    }
    cpu.need_single()?;
    let mut area = Area([0; 512]);
    let read = cpu.mmu.space().read(Gpa(u64::from(cpu.st.smbase) + SAVE), &mut area.0);
    let mut st = restored(&cpu.st, &area);
    if read.is_err() || !is_valid(cpu, &st) {
        cpu.st.stop = stop::SHUTDOWN;
        return Err(Stop);
    }
    (st.smm, st.nmi_blocked) = (false, st.smm_nmi);
    cpu.st = st;
    cpu.set_rflags(area.get(at::RFLAGS, 4));
    cpu.load_state_changed();
    if cpu.reload_pdptes().is_err() {
        cpu.st.stop = stop::SHUTDOWN;
        return Err(Stop);
    }
    cpu.stop_after();
    Ok(())
}

fn restored(old: &CpuState, a: &Area) -> CpuState {
    let mut st = old.clone();
    st.seg = std::array::from_fn(|n| a.segment(at::SEGMENTS + 16 * n));
    (st.ldtr, st.tr) = (a.segment(at::LDTR), a.segment(at::TR));
    (st.gdtr, st.idtr) = (a.table(at::GDTR), a.table(at::IDTR));
    st.halted = a.get(at::AUTO_HALT, 1) & 1 != 0;
    st.msr.efer = a.get(at::EFER, 8);
    st.smbase = a.get(at::SMBASE, 4) as u32;
    (st.cr4, st.cr3, st.cr0) = (a.get(at::CR4, 8), a.get(at::CR3, 8), a.get(at::CR0, 8));
    (st.dr[7], st.dr[6]) = (a.get(at::DR7, 4) | 0x400, a.get(at::DR6, 4) | 0xffff_0ff0);
    st.rip = a.get(at::RIP, 8);
    for n in 0..16 {
        st.gpr[n] = a.get(at::RAX - 8 * n, 8);
    }
    // The level is that of the stack segment.
    st.cpl = st.seg[seg::SS as usize].dpl();
    st
}

pub(super) fn select(x: &Instruction) -> Pick {
    (x.mnemonic() == Mnemonic::Rsm).then_some((handler!(rsm), ENDS))
}
