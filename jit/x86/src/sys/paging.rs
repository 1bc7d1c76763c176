//! Paging as instructions see it: what of the control registers the MMU is told, CR3 with PCIDs, protection keys, and the
//! instructions that drop translations.
//!
//! [`Vcpu::paging_changed`] is the only place that tells the MMU about paging, but for CR3 alone.

use iced_x86::{Instruction, Mnemonic};
use softmmu::{Access, Flush, Gpa, Paging, PagingContext};

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::model::Feature;
use crate::state::{Mode, cr0, cr4, efer, reg};
use crate::vcpu::Vcpu;

use super::{ENDS, GOES_ON, Pick, advance, handler, serialising};

/// CR3's PCID, with CR4.PCIDE.
const PCID: u64 = 0xfff;
/// MOV to CR3 with CR4.PCIDE: no translation is dropped.
const CR3_KEEP: u64 = 1 << 63;

impl Vcpu {
    /// Tells the MMU about CR0, CR3, CR4, EFER and the PDPTEs after a change, dropping translations as `flush` says.
    pub fn paging_changed(&mut self, flush: Flush) {
        let s = &self.st;
        let paging = if s.cr0 & cr0::PG == 0 {
            Paging::None
        } else if s.cr4 & cr4::PAE == 0 {
            Paging::Bits32 { pse: s.cr4 & cr4::PSE != 0 }
        } else if s.msr.efer & efer::LMA == 0 {
            Paging::Pae
        } else if s.cr4 & cr4::LA57 == 0 {
            Paging::Level4
        } else {
            Paging::Level5
        };
        let ctx = PagingContext {
            paging,
            cr3: s.cr3,
            pcid: if s.cr4 & cr4::PCIDE != 0 { (s.cr3 & PCID) as u16 } else { 0 },
            pkru: (s.cr4 & cr4::PKE != 0 && s.msr.efer & efer::LMA != 0).then_some(s.pkru),
            pdptes: s.pdptes,
            wp: s.cr0 & cr0::WP != 0,
            nxe: s.msr.efer & efer::NXE != 0,
            smep: s.cr4 & cr4::SMEP != 0,
            smap: s.cr4 & cr4::SMAP != 0,
            pge: s.cr4 & cr4::PGE != 0,
            a20_masked: !s.a20,
            gib_pages: self.model.has(Feature::Pdpe1gb),
            phys_bits: self.model.phys_bits,
        };
        self.mmu.set_paging(&ctx, flush);
    }

    /// Physical-address bits above MAXPHYADDR.
    pub(super) fn beyond_physical(&self) -> u64 {
        u64::MAX << self.model.phys_bits
    }

    /// Reads and checks the four PDPTEs that CR3 points to (SDM vol. 3, 4.4.1).
    pub(super) fn load_pdptes(&mut self, cr3: u64) -> R<[u64; 4]> {
        let lines = if self.st.a20 { 0xffff_ffe0 } else { 0xffef_ffe0 };
        let reserved = self.beyond_physical() | 0x1e6;
        let mut p = [0; 4];
        for (k, e) in p.iter_mut().enumerate() {
            // A table outside RAM reads as not present.
            *e = self.mmu.space().load::<u64>(Gpa((cr3 & lines) + 8 * k as u64)).unwrap_or(0);
            if *e & 1 != 0 && *e & reserved != 0 {
                return Err(self.gp(0));
            }
        }
        Ok(p)
    }

    /// The PDPTEs again, where they are used.
    pub(super) fn reload_pdptes(&mut self) -> R<()> {
        if self.uses_pdptes(self.st.cr0, self.st.cr4, self.st.msr.efer) {
            let cr3 = self.st.cr3;
            self.st.pdptes = self.load_pdptes(cr3)?;
            self.paging_changed(Flush::All);
        }
        Ok(())
    }

    /// Takes over the A20 gate, after something that may have moved it.
    pub fn sync_a20(&mut self) {
        let a20 = self.bus.a20();
        if a20 != self.st.a20 {
            self.st.a20 = a20;
            self.paging_changed(Flush::All);
        }
    }

    pub(super) fn uses_pdptes(&self, cr0: u64, cr4: u64, efer: u64) -> bool {
        cr0 & cr0::PG != 0 && cr4 & cr4::PAE != 0 && efer & efer::LMA == 0
    }

    /// MOV to CR3 (SDM vol. 3, 4.10.4.1): with CR4.PCIDE, bit 63 keeps what is cached for the PCID.
    pub(super) fn write_cr3(&mut self, v: u64) -> R<()> {
        let pcids = self.st.cr4 & cr4::PCIDE != 0;
        let keep = pcids && v & CR3_KEEP != 0;
        let v = if pcids { v & !CR3_KEEP } else { v };
        if self.st.mode.has(Mode::LONG) && v & self.beyond_physical() != 0 {
            return Err(self.gp(0));
        }
        let pdptes = self.uses_pdptes(self.st.cr0, self.st.cr4, self.st.msr.efer);
        if pdptes {
            self.st.pdptes = self.load_pdptes(v)?;
        }
        self.st.cr3 = v;
        let pcid = if pcids { (v & PCID) as u16 } else { 0 };
        let flush = match (keep, pcids) {
            (true, _) => Flush::None,
            (false, true) => Flush::Pcid(pcid),
            (false, false) => Flush::NonGlobal,
        };
        if pdptes {
            self.paging_changed(flush);
        } else {
            self.mmu.load_cr3(v, pcid, flush);
        }
        Ok(())
    }

    /// Is `v` canonical at the width that the processor supports? SDM vol. 1, 3.3.7.1, and "5-Level Paging", 2.3: what loads
    /// a base address into a register asks that, whatever CR4.LA57 says.
    pub(super) fn canonical_base(&self, v: u64) -> bool {
        let unused = if self.model.has(Feature::La57) { 7 } else { 16 };
        ((v << unused) as i64 >> unused) as u64 == v
    }
}

fn invlpg(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    let off = cpu.ea(i);
    let at = off.wrapping_add(if i.am == crate::insn::AddrMode::Flat {
        0
    } else {
        cpu.st.seg[i.seg as usize].base
    });
    let at = at & cpu.linear_mask();
    if cpu.canonical(at) || !cpu.st.mode.has(Mode::LONG) {
        cpu.mmu.invlpg(at);
    }
    advance(cpu, i);
    Ok(())
}

/// INVPCID: the type in a register, the descriptor in memory.
fn invpcid(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Gpr(r) = i.dst else { return Err(cpu.ud()) };
    if !cpu.model.has(Feature::Invpcid) {
        return Err(cpu.ud());
    }
    // SDM INVPCID: not recognised in virtual-8086 mode, which is at CPL 3.
    cpu.need_cpl0()?;
    let kind = cpu.gpr(i.w, r);
    let at = cpu.operand(i, 16, Access::Read)?;
    let low = cpu.read::<u64>(i.seg, at)?;
    let address = cpu.read::<u64>(i.seg, at.wrapping_add(8))?;
    let pcids = cpu.st.cr4 & cr4::PCIDE != 0;
    // Types 0 and 1 name a PCID, which must be 0 while PCIDs are off.
    if kind > 3
        || low & !PCID != 0
        || kind < 2 && !pcids && low != 0
        || kind == 0 && !cpu.canonical_base(address)
    {
        return Err(cpu.gp(0));
    }
    let pcid = low as u16;
    match kind {
        0 => cpu.mmu.invalidate(pcid, address),
        1 => cpu.mmu.flush(Flush::Pcid(pcid)),
        2 => cpu.mmu.flush(Flush::All),
        _ => cpu.mmu.flush(Flush::NonGlobal),
    }
    advance(cpu, i);
    Ok(())
}

/// RDPKRU and WRPKRU: #UD while CR4.PKE is clear, #GP(0) unless ECX (and for a write EDX) is 0.
fn check_pkru(cpu: &mut Vcpu, zeros: &[u8]) -> R<()> {
    if cpu.st.cr4 & cr4::PKE == 0 {
        return Err(cpu.ud());
    }
    let set = zeros.iter().any(|r| cpu.st.gpr[*r as usize] as u32 != 0);
    if set { Err(cpu.gp(0)) } else { Ok(()) }
}

fn rdpkru(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    check_pkru(cpu, &[reg::RCX])?;
    let v = u64::from(cpu.st.pkru);
    cpu.set_edx_eax(v);
    Ok(())
}

fn wrpkru(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    check_pkru(cpu, &[reg::RCX, reg::RDX])?;
    cpu.set_pkru(cpu.st.gpr[reg::RAX as usize] as u32);
    Ok(())
}

impl Vcpu {
    /// Changes PKRU; no translation is dropped.
    pub(super) fn set_pkru(&mut self, v: u32) {
        self.st.pkru = v;
        self.mmu.set_pkru(v);
    }
}

pub(super) fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> Pick {
    Some(match x.mnemonic() {
        Mnemonic::Invlpg => (serialising!(invlpg), ENDS),
        Mnemonic::Invpcid => {
            i.w = if mode.has(Mode::CODE64) { Width::Q } else { Width::D };
            (serialising!(invpcid), ENDS)
        }
        // It chooses another set of translation banks, which callers read again after every helper; PKRU does not govern
        // fetches, so the block goes on.
        Mnemonic::Wrpkru => (handler!(wrpkru), GOES_ON),
        Mnemonic::Rdpkru => (handler!(rdpkru), GOES_ON),
        _ => return None,
    })
}
