//! Segment registers: what may be loaded into them, and the instructions that load, store and examine selectors.
//!
//! Checking and loading are separate steps: a check gives the [`Segment`] to load (and sets the accessed bit in the
//! table), so that an instruction that loads several registers does all checks first.
//!
//! In real mode a load changes selector and base only; limit and rights stay ("unreal mode" works).

use iced_x86::{Code, Instruction, Mnemonic};
use softmmu::Access;

use crate::cc::CcKind;
use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::lift;
use crate::state::{Mode, Segment, Shadow, reg, rflags, seg};
use crate::vcpu::{Vcpu, vector};

use super::table::{is_null, kind};
use super::{ENDS, GOES_ON, Pick, advance, handler, serialising, stack::Stack};

/// The contents of a segment register in virtual-8086 mode.
pub fn vm86_segment(selector: u16) -> Segment {
    Segment { base: u64::from(selector) << 4, limit: 0xffff, attrs: 0xf3, selector }
}

/// What a null selector loads into DS, ES, FS or GS.
fn null_segment(selector: u16) -> Segment {
    Segment { base: 0, limit: 0, attrs: 0, selector }
}

/// What a null selector loads into SS at privilege level `cpl` (64-bit mode only).
pub fn null_stack(cpl: u8) -> Segment {
    Segment { base: 0, limit: 0, attrs: u16::from(cpl) << 5, selector: u16::from(cpl) }
}

impl Vcpu {
    /// The contents of segment register `s` after loading `selector` in real or virtual-8086 mode.
    fn real_segment(&self, s: u8, selector: u16) -> Segment {
        if self.st.mode.has(Mode::VM86) {
            return vm86_segment(selector);
        }
        let base = u64::from(selector) << 4;
        let old = self.st.seg[s as usize];
        if old.attrs & Segment::P == 0 {
            // A null selector from protected mode left nothing to keep: what it has after reset.
            return Segment { base, limit: 0xffff, attrs: 0x93, selector };
        }
        Segment { base, selector, ..old }
    }

    /// Checks a selector for `s` (not CS) and gives what to load (SDM vol. 2, MOV; vol. 3, 5.5 to 5.7).
    pub(super) fn check_segment(&mut self, s: u8, selector: u16) -> R<Segment> {
        if !self.protected() {
            return Ok(self.real_segment(s, selector));
        }
        if s == seg::SS {
            let cpl = self.st.cpl;
            return self.check_stack(selector, cpl, vector::GP);
        }
        self.check_data(selector, vector::GP)
    }

    /// Checks a selector for DS, ES, FS or GS at the current CPL.
    pub(super) fn check_data(&mut self, selector: u16, v: u8) -> R<Segment> {
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        let d = self.descriptor(selector, v)?;
        let segment = d.segment();
        let level = self.st.cpl.max(d.rpl());
        if d.is_system() || !segment.is_readable() || !segment.is_conforming() && d.dpl() < level {
            return Err(self.raise(v, Some(d.code()), 0));
        }
        if !d.present() {
            return Err(self.np_sel(selector));
        }
        self.mark_accessed(&d)?;
        Ok(segment)
    }

    /// Checks a selector for SS at level `cpl`; `v` is #GP, or #TS for a stack from a TSS.
    pub(super) fn check_stack(&mut self, selector: u16, cpl: u8, v: u8) -> R<Segment> {
        if is_null(selector) {
            // SDM vol. 3, 5.4.1.1: allowed in 64-bit mode below CPL 3.
            let ok =
                self.st.mode.has(Mode::CODE64) && cpl < 3 && selector as u8 & 3 == cpl && v == vector::GP;
            return if ok { Ok(null_stack(cpl)) } else { Err(self.raise(v, Some(0), 0)) };
        }
        let d = self.descriptor(selector, v)?;
        let segment = d.segment();
        if d.rpl() != cpl || d.dpl() != cpl || d.is_system() || !segment.is_writable() {
            return Err(self.raise(v, Some(d.code()), 0));
        }
        if !d.present() {
            return Err(self.ss_sel(selector));
        }
        self.mark_accessed(&d)?;
        Ok(segment)
    }

    /// After a return to an outer level: data segments that it may not use become null, and null selectors lose their RPL
    /// (SDM vol. 2, RET and IRET). Processors keep the base, which 64-bit code sees through FS and GS.
    pub(super) fn drop_inner_segments(&mut self) {
        for s in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let d = &mut self.st.seg[s as usize];
            if d.attrs & Segment::P != 0 && !d.is_conforming() && d.dpl() < self.st.cpl {
                *d = Segment { base: d.base, ..null_segment(0) };
            } else if is_null(d.selector) {
                d.selector = 0;
            }
        }
    }
}

// ---- loads and stores of segment registers ----------------------------------------------------------------------

fn load_and_go_on(cpu: &mut Vcpu, i: &Insn, s: u8, segment: Segment) {
    cpu.st.seg[s as usize] = segment;
    advance(cpu, i);
    cpu.mode_changed();
}

fn shadow_ss(cpu: &mut Vcpu, s: u8) {
    if s == seg::SS {
        cpu.st.shadow = Shadow::MovSs;
        cpu.stop_after();
    }
}

fn mov_to(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Seg(s) = i.dst else { return Err(cpu.ud()) };
    if s == seg::CS {
        return Err(cpu.ud());
    }
    let v = lift::get(cpu, i, i.src, Width::W)? as u16;
    let segment = cpu.check_segment(s, v)?;
    load_and_go_on(cpu, i, s, segment);
    shadow_ss(cpu, s);
    Ok(())
}

fn mov_from(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Seg(s) = i.src else { return Err(cpu.ud()) };
    let v = u64::from(cpu.st.seg[s as usize].selector);
    store_selector(cpu, i, v)
}

/// Stores 16 bits to memory, or zero-extended to a register of the operand size.
pub(super) fn store_selector(cpu: &mut Vcpu, i: &Insn, v: u64) -> R<()> {
    let w = if i.dst == Opnd::Mem { Width::W } else { i.w };
    let at = lift::loc(cpu, i, i.dst);
    lift::write(cpu, at, w, v)
}

fn push_seg(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Seg(s) = i.dst else { return Err(cpu.ud()) };
    let v = cpu.st.seg[s as usize].selector;
    let mut stack = Stack::current(cpu);
    stack.push_selector(cpu, i.w, v)?;
    stack.commit(cpu);
    Ok(())
}

fn pop_seg(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Seg(s) = i.dst else { return Err(cpu.ud()) };
    let mut stack = Stack::current(cpu);
    let v = stack.peek(cpu, Width::W)? as u16;
    stack.skip(u64::from(i.w.bytes()));
    let segment = cpu.check_segment(s, v)?;
    stack.commit(cpu);
    load_and_go_on(cpu, i, s, segment);
    shadow_ss(cpu, s);
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: register in `dst`, segment in `imm`.
fn load_far_pointer(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let Opnd::Gpr(r) = i.dst else { return Err(cpu.ud()) };
    let s = i.imm as u8;
    let at = cpu.operand(i, i.w.bytes() + 2, Access::Read)?;
    let off = cpu.read_w(i.seg, at, i.w)?;
    let selector = cpu.read::<u16>(i.seg, at.wrapping_add(u64::from(i.w.bytes())))?;
    let segment = cpu.check_segment(s, selector)?;
    cpu.set_gpr(i.w, r, off);
    load_and_go_on(cpu, i, s, segment);
    Ok(())
}

// ---- system segments --------------------------------------------------------------------------------------------

fn lldt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_protected()?;
    cpu.need_cpl0()?;
    let selector = lift::get(cpu, i, i.dst, Width::W)? as u16;
    let segment = cpu.check_ldt(selector, vector::GP)?;
    cpu.st.ldtr = segment;
    advance(cpu, i);
    Ok(())
}

impl Vcpu {
    /// Checks a selector for LDTR; `v` is #GP, or #TS in a task switch.
    pub(super) fn check_ldt(&mut self, selector: u16, v: u8) -> R<Segment> {
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        if selector & 4 != 0 {
            return Err(self.raise(v, Some(u32::from(selector & 0xfffc)), 0));
        }
        let d = self.descriptor(selector, v)?;
        if !d.is_system() || d.kind() != kind::LDT {
            return Err(self.raise(v, Some(d.code()), 0));
        }
        if !d.present() {
            let np = if v == vector::TS { vector::TS } else { vector::NP };
            return Err(self.raise(np, Some(d.code()), 0));
        }
        let mut segment = d.segment();
        if self.st.mode.has(Mode::LONG) {
            segment.base |= self.upper_half(&d, v)? << 32;
            if !self.canonical_base(segment.base) {
                return Err(self.raise(v, Some(d.code()), 0));
            }
        }
        Ok(segment)
    }
}

fn ltr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_protected()?;
    cpu.need_cpl0()?;
    let selector = lift::get(cpu, i, i.dst, Width::W)? as u16;
    if is_null(selector) || selector & 4 != 0 {
        return Err(cpu.gp_sel(selector));
    }
    let d = cpu.descriptor(selector, vector::GP)?;
    let long = cpu.st.mode.has(Mode::LONG);
    if !d.is_system() || d.kind() != kind::TSS && (long || d.kind() != kind::TSS16) {
        return Err(cpu.gp_sel(selector));
    }
    if !d.present() {
        return Err(cpu.np_sel(selector));
    }
    let mut segment = d.segment();
    if long {
        segment.base |= cpu.upper_half(&d, vector::GP)? << 32;
        if !cpu.canonical_base(segment.base) {
            return Err(cpu.gp_sel(selector));
        }
    }
    cpu.write_type(&d, d.kind() | 2)?;
    segment.attrs |= 2;
    cpu.st.tr = segment;
    advance(cpu, i);
    Ok(())
}

fn sldt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_protected()?;
    cpu.check_umip()?;
    let v = u64::from(cpu.st.ldtr.selector);
    store_selector(cpu, i, v)
}

fn str(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_protected()?;
    cpu.check_umip()?;
    let v = u64::from(cpu.st.tr.selector);
    store_selector(cpu, i, v)
}

// ---- examining selectors ----------------------------------------------------------------------------------------

fn set_zf(cpu: &mut Vcpu, set: bool) {
    let f = cpu.arith_flags() & !rflags::ZF | if set { rflags::ZF } else { 0 };
    cpu.set_cc(CcKind::Flags, Width::D, f, 0, 0);
}

/// LAR and LSL: what the descriptor says, if it is of a valid type and visible at the current level.
fn examine(cpu: &mut Vcpu, i: &Insn, valid: u16, value: fn(&super::table::Descriptor) -> u64) -> R<()> {
    cpu.need_protected()?;
    let selector = lift::get(cpu, i, i.src, Width::W)? as u16;
    let found = cpu.find_descriptor(selector)?.filter(|d| {
        let visible = d.dpl() >= cpu.st.cpl.max(d.rpl());
        if d.is_system() {
            valid >> d.kind() & 1 != 0 && visible
        } else {
            visible || d.segment().is_conforming()
        }
    });
    if let (Some(d), Opnd::Gpr(r)) = (found, i.dst) {
        cpu.set_gpr(i.w, r, value(&d) & i.w.mask());
    }
    set_zf(cpu, found.is_some());
    Ok(())
}

fn lar(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    // SDM LAR: types 1-5, 9, B, C; in IA-32e mode 2, 9, B, C.
    let valid = if cpu.st.mode.has(Mode::LONG) { 0x1a04 } else { 0x1a3e };
    examine(cpu, i, valid, |d| d.raw >> 32 & 0x00f0_ff00)
}

fn lsl(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let valid = if cpu.st.mode.has(Mode::LONG) { 0x0a04 } else { 0x0a0e };
    examine(cpu, i, valid, |d| u64::from(d.limit()))
}

fn verify(cpu: &mut Vcpu, i: &Insn, write: bool) -> R<()> {
    cpu.need_protected()?;
    let selector = lift::get(cpu, i, i.dst, Width::W)? as u16;
    let ok = cpu.find_descriptor(selector)?.is_some_and(|d| {
        let s = d.segment();
        let visible = d.dpl() >= cpu.st.cpl.max(d.rpl());
        !d.is_system()
            && if write {
                s.is_writable() && visible
            } else {
                s.is_readable() && (visible || s.is_conforming())
            }
    });
    set_zf(cpu, ok);
    Ok(())
}

fn verr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    verify(cpu, i, false)
}

fn verw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    verify(cpu, i, true)
}

fn arpl(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_protected()?;
    let at = lift::loc(cpu, i, i.dst);
    // Written only when it changes: a read-only word that is right already does not fault.
    let old = lift::read(cpu, at, Width::W)?;
    let rpl = lift::get(cpu, i, i.src, Width::W)? & 3;
    let raise = old & 3 < rpl;
    if raise {
        lift::write(cpu, at, Width::W, old & !3 | rpl)?;
    }
    set_zf(cpu, raise);
    Ok(())
}

fn far_pointer(x: &Instruction, i: &mut Insn, s: u8) -> Pick {
    // The memory operand is 2 bytes longer than the register.
    i.w = Width::from_bytes(x.op0_register().size() as u32)?;
    i.imm = u64::from(s);
    Some((handler!(load_far_pointer), ENDS))
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    // Operand size of the forms that name a selector operand: that of the register, 16 bits for memory.
    i.w = match x.op0_register().size() {
        4 => Width::D,
        8 => Width::Q,
        _ => Width::W,
    };
    Some(match x.mnemonic() {
        Mnemonic::Mov => match x.code() {
            Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => {
                (handler!(mov_from), GOES_ON)
            }
            Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => (handler!(mov_to), ENDS),
            _ => return None,
        },
        Mnemonic::Push if x.op0_register().is_segment_register() => {
            i.w = width_of_stack_op(x)?;
            (handler!(push_seg), GOES_ON)
        }
        Mnemonic::Pop if x.op0_register().is_segment_register() => {
            i.w = width_of_stack_op(x)?;
            (handler!(pop_seg), ENDS)
        }
        Mnemonic::Les => return far_pointer(x, i, seg::ES),
        Mnemonic::Lds => return far_pointer(x, i, seg::DS),
        Mnemonic::Lss => return far_pointer(x, i, seg::SS),
        Mnemonic::Lfs => return far_pointer(x, i, seg::FS),
        Mnemonic::Lgs => return far_pointer(x, i, seg::GS),
        Mnemonic::Lldt => (serialising!(lldt), ENDS),
        Mnemonic::Ltr => (serialising!(ltr), ENDS),
        Mnemonic::Sldt => (handler!(sldt), GOES_ON),
        Mnemonic::Str => (handler!(str), GOES_ON),
        Mnemonic::Lar => (handler!(lar), GOES_ON),
        Mnemonic::Lsl => (handler!(lsl), GOES_ON),
        Mnemonic::Verr => (handler!(verr), GOES_ON),
        Mnemonic::Verw => (handler!(verw), GOES_ON),
        Mnemonic::Arpl => (handler!(arpl), GOES_ON),
        _ => return None,
    })
}

fn width_of_stack_op(x: &Instruction) -> Option<Width> {
    Width::from_bytes(x.stack_pointer_increment().unsigned_abs())
}

const _: () = assert!(reg::RSP == 4, "Stack and the decoder agree on the stack pointer");
