//! Pushing and popping several values before the stack pointer is committed.
//!
//! Far transfers and event delivery work on a [`Stack`], a copy of SS:SP (or of a new SS:SP from the TSS). A fault
//! leaves the registers as they were; only memory below the stack pointer may have been written.

use softmmu::Privilege;

use crate::emit::R;
use crate::insn::Width;
use crate::model::Era;
use crate::state::{Mode, Segment, reg, seg};
use crate::vcpu::{Vcpu, vector};

/// A stack being worked on.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// SS.
    pub segment: Segment,
    /// The stack pointer.
    pub sp: u64,
    /// Width of the stack pointer.
    pub width: Width,
    /// Privilege of its accesses.
    privilege: Privilege,
    /// Error code of #SS.
    code: u32,
    /// Segmentation is checked with a limit; else addresses must be canonical.
    checked: bool,
    /// A protected-mode segment: expand-down and P count. (An inner stack is one even while virtual-8086 mode is left.)
    protected: bool,
}

impl Stack {
    /// The stack of the running code.
    pub fn current(cpu: &Vcpu) -> Self {
        let m = cpu.st.mode;
        let width = if m.has(Mode::CODE64) {
            Width::Q
        } else if m.has(Mode::STACK32) {
            Width::D
        } else {
            Width::W
        };
        let sp = cpu.st.gpr[reg::RSP as usize] & width.mask();
        let privilege = cpu.privilege_at(cpu.st.cpl);
        Self {
            segment: cpu.st.seg[seg::SS as usize],
            sp,
            width,
            privilege,
            code: 0,
            checked: width != Width::Q,
            protected: cpu.protected(),
        }
    }

    /// A stack that an inner level or a return will use: its segment, pointer and level. `code` goes with #SS.
    pub fn other(cpu: &Vcpu, segment: Segment, sp: u64, cpl: u8, code: u32) -> Self {
        let width = if segment.db() { Width::D } else { Width::W };
        Self {
            segment,
            sp: sp & width.mask(),
            width,
            privilege: cpu.privilege_at(cpl),
            code,
            checked: true,
            protected: true,
        }
    }

    /// A stack of 64-bit code.
    pub fn long(cpu: &Vcpu, segment: Segment, sp: u64, cpl: u8) -> Self {
        Self {
            segment,
            sp,
            width: Width::Q,
            privilege: cpu.privilege_at(cpl),
            code: 0,
            checked: false,
            protected: true,
        }
    }

    fn linear(&self, cpu: &mut Vcpu, off: u64, len: u32) -> R<u64> {
        let last = off.wrapping_add(u64::from(len) - 1);
        if !self.checked {
            if !cpu.canonical(off) || !cpu.canonical(last) {
                return Err(cpu.raise(vector::SS, Some(self.code), 0));
            }
            return Ok(off);
        }
        let d = &self.segment;
        let limit = u64::from(d.limit);
        let protected = self.protected;
        let ok = if protected && d.is_expand_down() {
            let top = if d.db() { 0xffff_ffff } else { 0xffff };
            off > limit && last <= top
        } else {
            last <= limit
        };
        if !ok || protected && d.attrs & Segment::P == 0 {
            return Err(cpu.raise(vector::SS, Some(self.code), 0));
        }
        Ok(d.base.wrapping_add(off) & 0xffff_ffff)
    }

    /// The linear addresses of the two bytes of a word that the 8086 and its kin continue at the segment's beginning.
    fn wrapped(&self, cpu: &Vcpu, off: u64) -> Option<[u64; 2]> {
        let base = self.segment.base;
        (off == 0xffff && cpu.model.era() < Era::I286).then(|| [base + off, base])
    }

    /// Pushes the low `w` bits of `v`.
    pub fn push(&mut self, cpu: &mut Vcpu, w: Width, v: u64) -> R<()> {
        let sp = self.sp.wrapping_sub(u64::from(w.bytes())) & self.width.mask();
        if let Some([low, high]) = self.wrapped(cpu, sp) {
            cpu.write_implicit(self.privilege, seg::SS, low, Width::B, v & 0xff)?;
            cpu.write_implicit(self.privilege, seg::SS, high, Width::B, v >> 8 & 0xff)?;
            self.sp = sp;
            return Ok(());
        }
        let at = self.linear(cpu, sp, w.bytes())?;
        cpu.write_implicit(self.privilege, seg::SS, at, w, v & w.mask())?;
        self.sp = sp;
        Ok(())
    }

    /// Makes room for a value of width `w` and writes only its low 16 bits (PUSH of a segment register).
    pub fn push_selector(&mut self, cpu: &mut Vcpu, w: Width, v: u16) -> R<()> {
        if w != Width::D {
            return self.push(cpu, w, u64::from(v));
        }
        let sp = self.sp.wrapping_sub(4) & self.width.mask();
        let at = self.linear(cpu, sp, 4)?;
        cpu.write_implicit(self.privilege, seg::SS, at, Width::W, u64::from(v))?;
        self.sp = sp;
        Ok(())
    }

    /// Pops a value.
    pub fn pop(&mut self, cpu: &mut Vcpu, w: Width) -> R<u64> {
        let v = self.peek(cpu, w)?;
        self.skip(u64::from(w.bytes()));
        Ok(v)
    }

    /// The value at the top.
    pub fn peek(&self, cpu: &mut Vcpu, w: Width) -> R<u64> {
        if let Some([low, high]) = self.wrapped(cpu, self.sp) {
            let low = cpu.read_implicit(self.privilege, seg::SS, low, Width::B)?;
            return Ok(low | cpu.read_implicit(self.privilege, seg::SS, high, Width::B)? << 8);
        }
        let at = self.linear(cpu, self.sp, w.bytes())?;
        cpu.read_implicit(self.privilege, seg::SS, at, w)
    }

    /// Releases `n` bytes.
    pub fn skip(&mut self, n: u64) {
        self.sp = self.sp.wrapping_add(n) & self.width.mask();
    }

    /// Writes the stack pointer register.
    pub fn commit(&self, cpu: &mut Vcpu) {
        let r = &mut cpu.st.gpr[reg::RSP as usize];
        *r = match self.width {
            Width::W => *r & !0xffff | self.sp,
            _ => self.sp,
        };
    }
}
