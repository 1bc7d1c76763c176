//! Control registers, descriptor-table registers, and what follows from them for the MMU.
//!
//! Paging is told to the MMU by `super::paging`; [`Vcpu::load_state_changed`] is for those who write [`CpuState`]
//! from outside (boot protocols, snapshots, GDB).

use iced_x86::{Code, Instruction, Mnemonic};
use softmmu::{Access, Flush};

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::lift;
use crate::model::{CpuModel, Era, Feature};
use crate::state::{CpuState, Mode, Segment, TableReg, cr0, cr4, efer, rflags, seg};
use crate::vcpu::Vcpu;

use super::table::kind;
use super::{ENDS, GOES_ON, Pick, advance, handler, serialising};

/// EFER bits that the model has.
pub(super) fn efer_mask(m: &CpuModel) -> u64 {
    [(Feature::Syscall, efer::SCE), (Feature::Lm, efer::LME), (Feature::Nx, efer::NXE)]
        .into_iter()
        .filter(|(f, _)| m.has(*f))
        .fold(efer::LMA, |mask, (_, bit)| mask | bit)
}

/// CR4 bits that the model lets software set.
pub(super) fn cr4_mask(m: &CpuModel) -> u64 {
    let mut mask = 0;
    for (f, bit) in [
        (Feature::Tsc, cr4::TSD),
        (Feature::De, cr4::DE),
        (Feature::Pse, cr4::PSE),
        (Feature::Pae, cr4::PAE),
        (Feature::Mce, cr4::MCE),
        (Feature::Pge, cr4::PGE),
        // RDPMC came with MMX.
        (Feature::Mmx, cr4::PCE),
        (Feature::Fxsr, cr4::OSFXSR),
        (Feature::Sse, cr4::OSXMMEXCPT),
        (Feature::Vme, cr4::VME | cr4::PVI),
        (Feature::Umip, cr4::UMIP),
        (Feature::La57, cr4::LA57),
        (Feature::Fsgsbase, cr4::FSGSBASE),
        (Feature::Pcid, cr4::PCIDE),
        (Feature::Xsave, cr4::OSXSAVE),
        (Feature::Smep, cr4::SMEP),
        (Feature::Smap, cr4::SMAP),
        (Feature::Pku, cr4::PKE),
    ] {
        if m.has(f) {
            mask |= bit;
        }
    }
    mask
}

/// CR0 bits that exist: the i386 has neither write protection nor alignment checks, cache control or NE.
pub(crate) fn cr0_mask(m: &CpuModel) -> u64 {
    match m.era() {
        Era::I8086 | Era::I186 | Era::V30 | Era::I286 | Era::I386 => {
            cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::PG
        }
        Era::I486 | Era::Modern => CR0_WRITABLE,
    }
}

/// CR4 bits whose change drops all cached translations (SDM vol. 3, 4.10.4.1), with those that this MMU looks at.
const CR4_PAGING: u64 =
    cr4::PSE | cr4::PAE | cr4::PGE | cr4::LA57 | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::PKE;
/// CR4 bits whose change reloads the PDPTEs (SDM vol. 3, 4.4.1).
const CR4_PDPTE: u64 = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP;
const CR0_WRITABLE: u64 =
    cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
const CR0_PAGING: u64 = cr0::PG | cr0::WP | cr0::PE;
const CR0_PDPTE: u64 = cr0::PG | cr0::CD | cr0::NW;
impl Vcpu {
    /// Call after [`CpuState`] was written from outside: recomputes all that follows from it.
    pub fn load_state_changed(&mut self) {
        self.bus.set_smm(self.st.smm);
        self.st.a20 = self.bus.a20();
        self.paging_changed(Flush::All);
        self.debug_changed();
        self.mode_changed();
    }

    /// #GP(0) for SGDT, SIDT, SLDT, STR and SMSW above CPL 0 with CR4.UMIP.
    pub(super) fn check_umip(&mut self) -> R<()> {
        if self.st.cpl > 0 && self.st.cr4 & cr4::UMIP != 0 { Err(self.gp(0)) } else { Ok(()) }
    }

    /// MOV to CR0 (SDM vol. 2, MOV—Move to/from Control Registers).
    pub(super) fn write_cr0(&mut self, v: u64) -> R<()> {
        if v >> 32 != 0 || v & cr0::PG != 0 && v & cr0::PE == 0 || v & cr0::NW != 0 && v & cr0::CD == 0 {
            return Err(self.gp(0));
        }
        let v = v & cr0_mask(&self.model) | cr0::ET;
        let old = self.st.cr0;
        let mut e = self.st.msr.efer;
        let cs_l = self.st.seg[seg::CS as usize].attrs & Segment::L != 0;
        if v & cr0::PG != 0 && old & cr0::PG == 0 && e & efer::LME != 0 {
            let tss16 = matches!(self.st.tr.attrs as u8 & 15, kind::TSS16 | kind::TSS16_BUSY);
            if self.st.cr4 & cr4::PAE == 0 || cs_l || tss16 {
                return Err(self.gp(0));
            }
            e |= efer::LMA;
        }
        if v & cr0::PG == 0 && old & cr0::PG != 0 {
            if self.st.mode.has(Mode::CODE64) || self.st.cr4 & cr4::PCIDE != 0 {
                return Err(self.gp(0));
            }
            e &= !efer::LMA;
        }
        if (v ^ old) & CR0_PDPTE != 0 && self.uses_pdptes(v, self.st.cr4, e) {
            let cr3 = self.st.cr3;
            self.st.pdptes = self.load_pdptes(cr3)?;
        }
        self.st.cr0 = v;
        self.st.msr.efer = e;
        if v & cr0::PE == 0 {
            self.st.cpl = 0;
        }
        if (v ^ old) & CR0_PAGING != 0 {
            self.paging_changed(Flush::All);
        }
        self.mode_changed();
        Ok(())
    }

    /// MOV to CR4.
    pub(super) fn write_cr4(&mut self, v: u64) -> R<()> {
        let old = self.st.cr4;
        let lma = self.st.msr.efer & efer::LMA != 0;
        if v & !cr4_mask(&self.model) != 0
            || lma && (v & cr4::PAE == 0 || (v ^ old) & cr4::LA57 != 0)
            // SDM vol. 3, 4.10.1: PCIDs are turned on in IA-32e mode, with PCID 0 in CR3.
            || v & !old & cr4::PCIDE != 0 && (!lma || self.st.cr3 & 0xfff != 0)
        {
            return Err(self.gp(0));
        }
        if (v ^ old) & CR4_PDPTE != 0 && self.uses_pdptes(self.st.cr0, v, self.st.msr.efer) {
            let cr3 = self.st.cr3;
            self.st.pdptes = self.load_pdptes(cr3)?;
        }
        self.st.cr4 = v;
        if (v ^ old) & CR4_PAGING != 0 {
            self.paging_changed(Flush::All);
        }
        self.mode_changed();
        Ok(())
    }

    /// WRMSR to EFER (SDM vol. 3, 2.2.1). LMA is read-only.
    pub(super) fn write_efer(&mut self, v: u64) -> R<()> {
        let mask = efer_mask(&self.model);
        let old = self.st.msr.efer;
        if v & !mask != 0 || (v ^ old) & efer::LME != 0 && self.st.cr0 & cr0::PG != 0 {
            return Err(self.gp(0));
        }
        self.st.msr.efer = v & !efer::LMA | old & efer::LMA;
        if (v ^ old) & efer::NXE != 0 {
            self.paging_changed(Flush::All);
        }
        self.mode_changed();
        Ok(())
    }
}

// ---- instructions -----------------------------------------------------------------------------------------------

fn mov_from_cr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (Opnd::Gpr(r), Opnd::Cr(n)) = (i.dst, i.src) else { return Err(cpu.ud()) };
    cpu.need_cpl0()?;
    let v = match n {
        0 => cpu.st.cr0 | cpu.model.cr0_fixed(),
        2 => cpu.st.cr2,
        3 => cpu.st.cr3,
        4 if cr4_mask(&cpu.model) != 0 => cpu.st.cr4,
        8 => u64::from(cpu.bus.cr8()),
        _ => return Err(cpu.ud()),
    };
    cpu.set_gpr(i.w, r, v & i.w.mask());
    Ok(())
}

fn mov_to_cr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (Opnd::Cr(n), Opnd::Gpr(r)) = (i.dst, i.src) else { return Err(cpu.ud()) };
    cpu.need_cpl0()?;
    let v = cpu.gpr(i.w, r);
    match n {
        0 => cpu.write_cr0(v)?,
        2 => cpu.st.cr2 = v,
        3 => cpu.write_cr3(v)?,
        4 if cr4_mask(&cpu.model) != 0 => cpu.write_cr4(v)?,
        8 => {
            if v > 15 {
                return Err(cpu.gp(0));
            }
            cpu.need_single()?;
            let now = cpu.now_single();
            cpu.bus.set_cr8(v as u8, now);
            cpu.stop_after();
        }
        _ => return Err(cpu.ud()),
    }
    advance(cpu, i);
    Ok(())
}

fn lmsw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    let v = lift::get(cpu, i, i.dst, Width::W)?;
    // PE can be set but not cleared.
    let low = v & 0xf | cpu.st.cr0 & cr0::PE;
    let v = cpu.st.cr0 & !0xf | low;
    cpu.write_cr0(v)?;
    advance(cpu, i);
    Ok(())
}

fn smsw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.check_umip()?;
    let w = if i.dst == Opnd::Mem { Width::W } else { i.w };
    let v = (cpu.st.cr0 | cpu.model.cr0_fixed()) & w.mask();
    let at = lift::loc(cpu, i, i.dst);
    lift::write(cpu, at, w, v)
}

fn clts(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    cpu.st.cr0 &= !cr0::TS;
    advance(cpu, i);
    cpu.mode_changed();
    Ok(())
}

/// The operand of LGDT and LIDT. `w2` is the width of the base.
fn load_table(cpu: &mut Vcpu, i: &Insn) -> R<TableReg> {
    cpu.need_cpl0()?;
    let at = cpu.operand(i, 2 + i.w2.bytes(), Access::Read)?;
    let limit = cpu.read::<u16>(i.seg, at)?;
    let mut base = cpu.read_w(i.seg, at.wrapping_add(2), i.w2)?;
    if i.w == Width::W {
        base &= 0xff_ffff;
    }
    if i.w2 == Width::Q && !cpu.canonical_base(base) {
        return Err(cpu.gp(0));
    }
    Ok(TableReg { base, limit })
}

fn lgdt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.st.gdtr = load_table(cpu, i)?;
    advance(cpu, i);
    Ok(())
}

fn lidt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.st.idtr = load_table(cpu, i)?;
    advance(cpu, i);
    Ok(())
}

fn store_table(cpu: &mut Vcpu, i: &Insn, t: TableReg) -> R<()> {
    cpu.check_umip()?;
    let len = 2 + i.w2.bytes();
    let at = cpu.operand(i, len, Access::Write)?;
    cpu.probe(i.seg, at, u64::from(len), Access::Write)?;
    cpu.write::<u16>(i.seg, at, t.limit)?;
    // The byte that the 80286's bases do not have is stored as ones (80286 Programmer's Reference, SGDT).
    let absent = if cpu.model.era() == Era::I286 { 0xff00_0000 } else { 0 };
    cpu.write_w(i.seg, at.wrapping_add(2), i.w2, (t.base | absent) & i.w2.mask())
}

fn sgdt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let t = cpu.st.gdtr;
    store_table(cpu, i, t)
}

fn sidt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let t = cpu.st.idtr;
    store_table(cpu, i, t)
}

fn invd(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    cpu.need_cpl0()
}

pub(super) fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> Pick {
    let full = if mode.has(Mode::CODE64) { Width::Q } else { Width::D };
    Some(match x.mnemonic() {
        Mnemonic::Mov => {
            i.w = full;
            match x.code() {
                Code::Mov_r32_cr | Code::Mov_r64_cr => (handler!(mov_from_cr), GOES_ON),
                Code::Mov_cr_r32 | Code::Mov_cr_r64 => (serialising!(mov_to_cr), ENDS),
                _ => return None,
            }
        }
        Mnemonic::Lmsw => (handler!(lmsw), ENDS),
        Mnemonic::Smsw => {
            i.w = Width::from_bytes(x.op0_register().size() as u32).unwrap_or(Width::W);
            (handler!(smsw), GOES_ON)
        }
        Mnemonic::Clts => (handler!(clts), ENDS),
        Mnemonic::Lgdt | Mnemonic::Lidt | Mnemonic::Sgdt | Mnemonic::Sidt => {
            let short = [Code::Lgdt_m1632_16, Code::Lidt_m1632_16, Code::Sgdt_m1632_16, Code::Sidt_m1632_16];
            i.w = if short.contains(&x.code()) { Width::W } else { full };
            i.w2 = full;
            match x.mnemonic() {
                Mnemonic::Lgdt => (serialising!(lgdt), ENDS),
                Mnemonic::Lidt => (serialising!(lidt), ENDS),
                Mnemonic::Sgdt => (handler!(sgdt), GOES_ON),
                _ => (handler!(sidt), GOES_ON),
            }
        }
        Mnemonic::Invd | Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => (serialising!(invd), GOES_ON),
        _ => return None,
    })
}

// ---- initial states for boot protocols --------------------------------------------------------------------------

/// Loads a flat 4 GiB segment: base 0, code or data, of the given default size. For CS, `long` makes it 64-bit code.
pub fn set_segment_flat(st: &mut CpuState, s: u8, selector: u16, long: bool) {
    let dpl = (selector & 3) << 5;
    let attrs = match (s == seg::CS, long) {
        (true, true) => Segment::G | Segment::L | 0x9b,
        (true, false) => Segment::G | Segment::DB | 0x9b,
        (false, _) => Segment::G | Segment::DB | 0x93,
    };
    st.seg[s as usize] = Segment { base: 0, limit: u32::MAX, attrs: attrs | dpl, selector };
}

/// 32-bit protected mode with flat segments and paging off, at `entry`, interrupts disabled: what multiboot-like and
/// the Linux 32-bit boot protocols ask for. Call [`Vcpu::load_state_changed`] afterwards.
pub fn enter_flat32(st: &mut CpuState, code: u16, data: u16, entry: u32) {
    set_segment_flat(st, seg::CS, code, false);
    for s in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        set_segment_flat(st, s, data, false);
    }
    st.cr0 = cr0::PE | cr0::ET;
    st.flags = rflags::FIXED;
    st.cpl = 0;
    st.rip = u64::from(entry);
    st.compute_mode();
}

/// 64-bit mode at `entry` on the page tables at `cr3`, interrupts disabled: the Linux 64-bit boot protocol. Call
/// [`Vcpu::load_state_changed`] afterwards.
pub fn enter_long64(st: &mut CpuState, code: u16, data: u16, cr3: u64, entry: u64) {
    enter_flat32(st, code, data, 0);
    set_segment_flat(st, seg::CS, code, true);
    st.cr0 = cr0::PE | cr0::ET | cr0::PG | cr0::WP | cr0::NE | cr0::MP;
    st.cr4 = cr4::PAE;
    st.cr3 = cr3;
    st.msr.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
    st.rip = entry;
    st.compute_mode();
}
