//! Descriptors and the processor's own accesses to the descriptor tables, the task-state segment and new stacks.
//!
//! These accesses are supervisor accesses whatever the CPL is (SDM vol. 3, 4.6.1). Tables may lie in device memory or
//! ROM (a firmware's GDT usually does): reads go to the bus, and setting an accessed bit in ROM has no effect.

use softmmu::{GuestInt, MemTrap, Privilege};

use crate::emit::R;
use crate::insn::Width;
use crate::state::{Mode, Segment, seg};
use crate::vcpu::{Vcpu, vector};

/// System-descriptor types (SDM vol. 3, table 3-2).
pub mod kind {
    pub const TSS16: u8 = 1;
    pub const LDT: u8 = 2;
    pub const TSS16_BUSY: u8 = 3;
    pub const CALL16: u8 = 4;
    pub const TASK_GATE: u8 = 5;
    pub const INT16: u8 = 6;
    pub const TRAP16: u8 = 7;
    pub const TSS: u8 = 9;
    pub const TSS_BUSY: u8 = 11;
    pub const CALL: u8 = 12;
    pub const INT: u8 = 14;
    pub const TRAP: u8 = 15;
}

/// The error code that names a selector.
pub fn code_of(selector: u16) -> u32 {
    u32::from(selector & 0xfffc)
}

/// Is it a null selector?
pub fn is_null(selector: u16) -> bool {
    selector & 0xfffc == 0
}

/// A segment descriptor or gate as it stands in its table.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The eight bytes.
    pub raw: u64,
    /// The selector by which it was found.
    pub selector: u16,
    /// Its linear address.
    pub at: u64,
}

impl Descriptor {
    /// Access rights as [`Segment::attrs`] has them.
    pub fn attrs(&self) -> u16 {
        (self.raw >> 40) as u16 & 0xf0ff
    }
    /// Base, 32 bits.
    pub fn base(&self) -> u64 {
        self.raw >> 16 & 0xff_ffff | self.raw >> 32 & 0xff00_0000
    }
    /// Limit in bytes.
    pub fn limit(&self) -> u32 {
        let l = (self.raw & 0xffff | self.raw >> 32 & 0xf_0000) as u32;
        if self.raw >> 55 & 1 != 0 { l << 12 | 0xfff } else { l }
    }
    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.raw >> 45 & 3) as u8
    }
    /// Requested privilege level of the selector.
    pub fn rpl(&self) -> u8 {
        (self.selector & 3) as u8
    }
    /// The present bit.
    pub fn present(&self) -> bool {
        self.raw >> 47 & 1 != 0
    }
    /// A system segment or gate (S clear).
    pub fn is_system(&self) -> bool {
        self.raw >> 44 & 1 == 0
    }
    /// The type field.
    pub fn kind(&self) -> u8 {
        (self.raw >> 40 & 15) as u8
    }
    /// The segment-register contents that it describes, with the accessed bit set for code and data.
    pub fn segment(&self) -> Segment {
        let accessed = u16::from(!self.is_system());
        Segment {
            base: self.base(),
            limit: self.limit(),
            attrs: self.attrs() | accessed,
            selector: self.selector,
        }
    }
    /// A gate's target selector.
    pub fn gate_selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }
    /// A gate's target offset, low 32 bits.
    pub fn gate_offset(&self) -> u64 {
        self.raw & 0xffff | self.raw >> 32 & 0xffff_0000
    }
    /// The error code that names this descriptor.
    pub fn code(&self) -> u32 {
        code_of(self.selector)
    }
}

impl Vcpu {
    /// Outside IA-32e mode linear addresses have 32 bits.
    pub(super) fn linear_mask(&self) -> u64 {
        if self.st.mode.has(Mode::LONG) { u64::MAX } else { 0xffff_ffff }
    }

    fn typed_read<T: GuestInt>(&mut self, p: Privilege, s: u8, at: u64) -> R<u64> {
        match self.mmu.read_as::<T>(p, at) {
            Ok(v) => Ok(v.into()),
            Err(t) => self.implicit_read_trap(p, s, at, size_of::<T>() as u64, t),
        }
    }

    #[cold]
    fn implicit_read_trap(&mut self, p: Privilege, s: u8, at: u64, len: u64, t: MemTrap) -> R<u64> {
        match t {
            MemTrap::Mmio { gpa } => {
                self.need_single()?;
                let now = self.now_single();
                let v = self.bus.mmio_read(gpa.0, len as u8, now);
                self.stop_after();
                Ok(v)
            }
            MemTrap::Split if len > 1 => {
                self.need_single()?;
                let mut v = 0;
                for k in 0..len {
                    v |= (self.typed_read::<u8>(p, s, at.wrapping_add(k))? & 0xff) << (8 * k);
                }
                Ok(v)
            }
            t => Err(self.mem_fault(s, at, t)),
        }
    }

    fn typed_write<T: GuestInt>(&mut self, p: Privilege, s: u8, at: u64, v: u64) -> R<()> {
        match self.mmu.write_as::<T>(p, at, T::truncate(v)) {
            Ok(()) => {
                self.check_code_write();
                Ok(())
            }
            Err(t) => self.implicit_write_trap(p, s, at, size_of::<T>() as u64, v, t),
        }
    }

    #[cold]
    fn implicit_write_trap(&mut self, p: Privilege, s: u8, at: u64, len: u64, v: u64, t: MemTrap) -> R<()> {
        match t {
            MemTrap::Mmio { gpa } => {
                self.need_single()?;
                let now = self.now_single();
                self.bus.mmio_write(gpa.0, len as u8, v, now);
                self.stop_after();
                Ok(())
            }
            MemTrap::Split if len > 1 => {
                self.need_single()?;
                for k in 0..len {
                    self.typed_write::<u8>(p, s, at.wrapping_add(k), v >> (8 * k) & 0xff)?;
                }
                Ok(())
            }
            t => Err(self.mem_fault(s, at, t)),
        }
    }

    /// Reads at a linear address with privilege `p`; `s` names the segment for the exception at a non-canonical one.
    pub(super) fn read_implicit(&mut self, p: Privilege, s: u8, at: u64, w: Width) -> R<u64> {
        let at = at & self.linear_mask();
        match w {
            Width::B => self.typed_read::<u8>(p, s, at),
            Width::W => self.typed_read::<u16>(p, s, at),
            Width::D => self.typed_read::<u32>(p, s, at),
            Width::Q => self.typed_read::<u64>(p, s, at),
        }
    }

    /// Writes at a linear address with privilege `p`.
    pub(super) fn write_implicit(&mut self, p: Privilege, s: u8, at: u64, w: Width, v: u64) -> R<()> {
        let at = at & self.linear_mask();
        match w {
            Width::B => self.typed_write::<u8>(p, s, at, v),
            Width::W => self.typed_write::<u16>(p, s, at, v),
            Width::D => self.typed_write::<u32>(p, s, at, v),
            Width::Q => self.typed_write::<u64>(p, s, at, v),
        }
    }

    /// Reads a system table.
    pub(super) fn read_table(&mut self, at: u64, w: Width) -> R<u64> {
        self.read_implicit(Privilege::Supervisor, seg::DS, at, w)
    }

    /// Writes a system table.
    pub(super) fn write_table(&mut self, at: u64, w: Width, v: u64) -> R<()> {
        self.write_implicit(Privilege::Supervisor, seg::DS, at, w, v)
    }

    /// The privilege of accesses to the stack of level `cpl`. A program's AC does not open its handler's stack to SMAP: an event
    /// that enters an inner level makes implicit accesses.
    pub(super) fn privilege_at(&self, cpl: u8) -> Privilege {
        use crate::state::{cr4, rflags};
        if cpl == 3 {
            Privilege::User
        } else if self.st.cpl < 3 && self.st.flags & rflags::AC != 0 && self.st.cr4 & cr4::SMAP != 0 {
            Privilege::SupervisorAc
        } else {
            Privilege::Supervisor
        }
    }

    /// Where the descriptor of a selector lies, if its table holds `len` bytes there.
    fn descriptor_at(&self, selector: u16, len: u64) -> Option<u64> {
        let offset = u64::from(selector & 0xfff8);
        let (base, limit) = if selector & 4 != 0 {
            if self.st.ldtr.attrs & Segment::P == 0 {
                return None;
            }
            (self.st.ldtr.base, u64::from(self.st.ldtr.limit))
        } else {
            (self.st.gdtr.base, u64::from(self.st.gdtr.limit))
        };
        (offset + len - 1 <= limit).then(|| base.wrapping_add(offset) & self.linear_mask())
    }

    /// Fetches a descriptor, `None` for a null selector or one outside its table.
    pub(super) fn find_descriptor(&mut self, selector: u16) -> R<Option<Descriptor>> {
        if is_null(selector) {
            return Ok(None);
        }
        let Some(at) = self.descriptor_at(selector, 8) else { return Ok(None) };
        let raw = self.read_table(at, Width::Q)?;
        Ok(Some(Descriptor { raw, selector, at }))
    }

    /// Fetches the descriptor of a selector that is not null; exception `v` naming the selector if it lies outside
    /// its table.
    pub(super) fn descriptor(&mut self, selector: u16, v: u8) -> R<Descriptor> {
        let Some(at) = self.descriptor_at(selector, 8) else {
            return Err(self.raise(v, Some(code_of(selector)), 0));
        };
        let raw = self.read_table(at, Width::Q)?;
        Ok(Descriptor { raw, selector, at })
    }

    /// The second half of a 16-byte descriptor of IA-32e mode. Its type field must be zero (SDM vol. 3, figure 8-4).
    pub(super) fn upper_half(&mut self, d: &Descriptor, v: u8) -> R<u64> {
        if self.descriptor_at(d.selector, 16).is_none() {
            return Err(self.raise(v, Some(d.code()), 0));
        }
        let upper = self.read_table(d.at.wrapping_add(8), Width::Q)?;
        if upper >> 40 & 0x1f != 0 {
            return Err(self.raise(v, Some(d.code()), 0));
        }
        Ok(upper)
    }

    /// Sets the accessed bit of a code or data descriptor.
    pub(super) fn mark_accessed(&mut self, d: &Descriptor) -> R<()> {
        if d.is_system() || d.raw >> 40 & 1 != 0 {
            return Ok(());
        }
        self.write_type(d, d.kind() | 1)
    }

    /// Replaces the type field of a descriptor in its table.
    pub(super) fn write_type(&mut self, d: &Descriptor, kind: u8) -> R<()> {
        let at = d.at.wrapping_add(5) & self.linear_mask();
        let byte = (d.raw >> 40) as u8 & 0xf0 | kind;
        match self.mmu.write_as::<u8>(Privilege::Supervisor, at, byte) {
            // A table in ROM stays as it is.
            Ok(()) | Err(MemTrap::Mmio { .. }) => {
                self.check_code_write();
                Ok(())
            }
            Err(t) => Err(self.mem_fault(seg::DS, at, t)),
        }
    }

    /// #GP naming a selector.
    pub(super) fn gp_sel(&mut self, selector: u16) -> crate::emit::Stop {
        self.gp(code_of(selector))
    }
    /// #NP naming a selector.
    pub(super) fn np_sel(&mut self, selector: u16) -> crate::emit::Stop {
        self.raise(vector::NP, Some(code_of(selector)), 0)
    }
    /// #TS naming a selector.
    pub(super) fn ts_sel(&mut self, selector: u16) -> crate::emit::Stop {
        self.raise(vector::TS, Some(code_of(selector)), 0)
    }
    /// #SS naming a selector.
    pub(super) fn ss_sel(&mut self, selector: u16) -> crate::emit::Stop {
        self.raise(vector::SS, Some(code_of(selector)), 0)
    }
    /// #GP(0) unless CPL is 0.
    pub(super) fn need_cpl0(&mut self) -> R<()> {
        if self.st.cpl == 0 { Ok(()) } else { Err(self.gp(0)) }
    }
    /// Protected mode, and not virtual-8086 mode.
    pub(super) fn protected(&self) -> bool {
        self.st.mode.has(Mode::PROTECTED) && !self.st.mode.has(Mode::VM86)
    }
    /// #UD in real and virtual-8086 mode.
    pub(super) fn need_protected(&mut self) -> R<()> {
        if self.protected() { Ok(()) } else { Err(self.ud()) }
    }
}
