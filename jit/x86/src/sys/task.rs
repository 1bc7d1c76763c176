//! Hardware task switching (SDM vol. 3, chapter 7) through 16- and 32-bit task-state segments. Not in IA-32e mode.
//!
//! A switch has a point of no return: once the new task's registers are in place, what fails (a bad selector in the new
//! TSS, say) is an exception *of the new task*. [`switch`] delivers such an exception itself and then succeeds; where the
//! switch is itself the delivery of an event, it fails, so that the two may combine into a double fault (in the new task).

use crate::emit::{Emitter, R, Stop};
use crate::insn::Width;
use crate::state::{Mode, Segment, cr0, reg, rflags, seg, stop};
use crate::vcpu::{Vcpu, vector};

use super::debug;
use super::exception;
use super::segment::vm86_segment;
use super::stack::Stack;
use super::table::{Descriptor, is_null, kind};

/// What causes a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// JMP to a TSS or task gate.
    Jump,
    /// CALL to a TSS or task gate.
    Call,
    /// IRET with NT set.
    Return,
    /// An interrupt or exception through a task gate.
    Event {
        /// Error code to push on the new task's stack.
        code: Option<u32>,
        /// RF in the saved EFLAGS.
        rf: bool,
        /// Not an INT n, INT3 or INTO: what fails on the way names the event in its error code and combines with it.
        ext: bool,
    },
}

/// Offsets in a TSS (SDM vol. 3, figures 7-2 and 7-10).
struct Layout {
    width: Width,
    ip: u64,
    flags: u64,
    gpr: u64,
    seg: u64,
    segments: &'static [u8],
    seg_step: u64,
    ldt: u64,
    min_limit: u32,
}

const TSS32: Layout = Layout {
    width: Width::D,
    ip: 0x20,
    flags: 0x24,
    gpr: 0x28,
    seg: 0x48,
    segments: &[seg::ES, seg::CS, seg::SS, seg::DS, seg::FS, seg::GS],
    seg_step: 4,
    ldt: 0x60,
    min_limit: 0x67,
};

const TSS16: Layout = Layout {
    width: Width::W,
    ip: 0x0e,
    flags: 0x10,
    gpr: 0x12,
    seg: 0x22,
    segments: &[seg::ES, seg::CS, seg::SS, seg::DS],
    seg_step: 2,
    ldt: 0x2a,
    min_limit: 0x2b,
};

/// CR3 in a 32-bit TSS.
const CR3: u64 = 0x1c;
/// The word of a 32-bit TSS whose lowest bit is T: #DB when the task is entered.
const TRAP: u64 = 0x64;

fn layout(kind: u8) -> &'static Layout {
    if kind & 8 != 0 { &TSS32 } else { &TSS16 }
}

/// What a TSS holds.
struct Image {
    ip: u64,
    flags: u64,
    gpr: [u64; 8],
    seg: [u16; 6],
    ldt: u16,
    cr3: Option<u64>,
    /// The T flag.
    trap: bool,
}

/// The available TSS that a task gate names.
pub fn gate_target(cpu: &mut Vcpu, selector: u16) -> R<Descriptor> {
    if is_null(selector) || selector & 4 != 0 {
        return Err(cpu.gp_sel(selector));
    }
    let d = cpu.descriptor(selector, vector::GP)?;
    if !d.is_system() || !matches!(d.kind(), kind::TSS | kind::TSS16) {
        return Err(cpu.gp_sel(selector));
    }
    if !d.present() {
        return Err(cpu.np_sel(selector));
    }
    Ok(d)
}

/// The busy TSS that IRET with NT returns to.
pub fn return_target(cpu: &mut Vcpu) -> R<Descriptor> {
    let tr = cpu.st.tr;
    let selector = cpu.read_table(tr.base, Width::W)? as u16;
    if is_null(selector) || selector & 4 != 0 {
        return Err(cpu.ts_sel(selector));
    }
    let d = cpu.descriptor(selector, vector::TS)?;
    if !d.is_system() || !matches!(d.kind(), kind::TSS_BUSY | kind::TSS16_BUSY) {
        return Err(cpu.ts_sel(selector));
    }
    if !d.present() {
        return Err(cpu.np_sel(selector));
    }
    Ok(d)
}

fn read_image(cpu: &mut Vcpu, base: u64, l: &Layout) -> R<Image> {
    let mut at = |off: u64, w: Width| cpu.read_table(base.wrapping_add(off), w);
    let mut image = Image {
        ip: at(l.ip, l.width)?,
        flags: at(l.flags, l.width)?,
        gpr: [0; 8],
        seg: [0; 6],
        ldt: at(l.ldt, Width::W)? as u16,
        cr3: if l.width == Width::D { Some(at(CR3, Width::D)?) } else { None },
        trap: l.width == Width::D && at(TRAP, Width::W)? & 1 != 0,
    };
    for (k, r) in image.gpr.iter_mut().enumerate() {
        *r = at(l.gpr + k as u64 * u64::from(l.width.bytes()), l.width)?;
    }
    for (k, s) in l.segments.iter().enumerate() {
        image.seg[*s as usize] = at(l.seg + k as u64 * l.seg_step, Width::W)? as u16;
    }
    Ok(image)
}

fn save_state(cpu: &mut Vcpu, l: &Layout, rip: u64, flags: u64) -> R<()> {
    let base = cpu.st.tr.base;
    let w = l.width;
    cpu.write_table(base.wrapping_add(l.ip), w, rip & w.mask())?;
    cpu.write_table(base.wrapping_add(l.flags), w, flags & w.mask())?;
    for k in 0..8 {
        let v = cpu.st.gpr[k as usize] & w.mask();
        cpu.write_table(base.wrapping_add(l.gpr + k * u64::from(w.bytes())), w, v)?;
    }
    for (k, s) in l.segments.iter().enumerate() {
        let v = u64::from(cpu.st.seg[*s as usize].selector);
        cpu.write_table(base.wrapping_add(l.seg + k as u64 * l.seg_step), Width::W, v)?;
    }
    Ok(())
}

/// Sets or clears the busy bit of the current task's descriptor.
fn clear_busy(cpu: &mut Vcpu) -> R<()> {
    let selector = cpu.st.tr.selector;
    if let Some(d) = cpu.find_descriptor(selector)? {
        cpu.write_type(&d, d.kind() & !2)?;
    }
    Ok(())
}

/// Switches to the task of the TSS `to`, whose type, privilege and presence are checked. `rip` is where the old task
/// goes on.
pub fn switch(cpu: &mut Vcpu, to: &Descriptor, via: Via, rip: u64) -> R<()> {
    let new = layout(to.kind());
    let old = layout(cpu.st.tr.attrs as u8 & 15);
    if to.limit() < new.min_limit {
        return Err(cpu.ts_sel(to.selector));
    }
    let old_selector = cpu.st.tr.selector;
    if cpu.st.tr.limit < old.min_limit {
        return Err(cpu.ts_sel(old_selector));
    }
    let mut image = read_image(cpu, to.base(), new)?;
    // A switch with PAE paging also checks the new PDPTEs before it commits.
    let pdptes = match image.cr3 {
        Some(cr3) if cpu.st.cr0 & cr0::PG != 0 && cpu.st.cr4 & crate::state::cr4::PAE != 0 => {
            Some(cpu.load_pdptes(cr3)?)
        }
        _ => None,
    };
    let mut flags = cpu.rflags() & !rflags::RF;
    match via {
        Via::Return => flags &= !rflags::NT,
        Via::Event { rf: true, .. } => flags |= rflags::RF,
        _ => {}
    }
    save_state(cpu, old, rip, flags)?;
    if matches!(via, Via::Call | Via::Event { .. }) {
        cpu.write_table(to.base(), Width::W, u64::from(old_selector))?;
        image.flags |= rflags::NT;
    } else {
        clear_busy(cpu)?;
    }
    if via != Via::Return {
        cpu.write_type(to, to.kind() | 2)?;
    }

    // The point of no return.
    commit(cpu, to, &image, new, pdptes);
    let code = if let Via::Event { code, .. } = via { code } else { None };
    if load_segments(cpu, &image).and_then(|()| finish(cpu, new, code)).is_err() {
        if let Via::Event { ext: true, .. } = via {
            return Err(Stop);
        }
        fault_in_new_task(cpu);
    }
    cpu.stop_after();
    Ok(())
}

fn commit(cpu: &mut Vcpu, to: &Descriptor, image: &Image, l: &Layout, pdptes: Option<[u64; 4]>) {
    let mut tr = to.segment();
    tr.attrs |= 2;
    cpu.st.tr = tr;
    cpu.st.cr0 |= cr0::TS;
    if let Some(cr3) = image.cr3
        && cpu.st.cr0 & cr0::PG != 0
    {
        cpu.st.cr3 = cr3;
        cpu.st.pdptes = pdptes.unwrap_or(cpu.st.pdptes);
        cpu.paging_changed(softmmu::Flush::NonGlobal);
    }
    cpu.st.rip = image.ip;
    let mask = if l.width == Width::D { 0x003f_7fd5 } else { 0x7fd5 };
    cpu.set_rflags(image.flags & (mask & !rflags::RF | debug::kept_rf(&cpu.st)));
    // A 16-bit TSS leaves ones in the upper halves.
    let upper = if l.width == Width::W { 0xffff_0000 } else { 0 };
    for r in 0..8 {
        cpu.set_gpr(Width::D, r, image.gpr[r as usize] | upper);
    }
    // Selectors are visible at once; hidden parts are invalid until their descriptors have been checked.
    let vm86 = cpu.st.flags & rflags::VM != 0;
    for s in 0..6 {
        let selector = image.seg[s];
        cpu.st.seg[s] =
            if vm86 { vm86_segment(selector) } else { Segment { selector, ..Segment::default() } };
    }
    cpu.st.ldtr = Segment { selector: image.ldt, ..Segment::default() };
    cpu.st.cpl = if vm86 { 3 } else { image.seg[seg::CS as usize] as u8 & 3 };
    // Local breakpoint enables are per task.
    cpu.st.dr[7] &= !0x155;
    cpu.debug_changed();
    if image.trap {
        cpu.st.pending_debug |= debug::BT;
    }
    cpu.mode_changed();
}

/// Loads LDTR and the segment registers of the new task (SDM vol. 3, table 7-1).
fn load_segments(cpu: &mut Vcpu, image: &Image) -> R<()> {
    cpu.st.ldtr = cpu.check_ldt(image.ldt, vector::TS)?;
    if cpu.st.mode.has(Mode::VM86) {
        return Ok(());
    }
    let cs = image.seg[seg::CS as usize];
    if is_null(cs) {
        return Err(cpu.ts_sel(cs));
    }
    let d = cpu.descriptor(cs, vector::TS)?;
    let code = d.segment();
    let level_ok = if code.is_conforming() { d.dpl() <= d.rpl() } else { d.dpl() == d.rpl() };
    if d.is_system() || !code.is_code() || !level_ok {
        return Err(cpu.ts_sel(cs));
    }
    if !d.present() {
        return Err(cpu.np_sel(cs));
    }
    let cpl = cpu.st.cpl;
    let ss = cpu.check_stack(image.seg[seg::SS as usize], cpl, vector::TS)?;
    cpu.mark_accessed(&d)?;
    cpu.st.seg[seg::CS as usize] = code;
    cpu.st.seg[seg::SS as usize] = ss;
    cpu.mode_changed();
    for s in [seg::ES, seg::DS, seg::FS, seg::GS] {
        let segment = cpu.check_data(image.seg[s as usize], vector::TS)?;
        cpu.st.seg[s as usize] = segment;
    }
    cpu.mode_changed();
    Ok(())
}

/// Pushes the error code and checks EIP.
fn finish(cpu: &mut Vcpu, l: &Layout, code: Option<u32>) -> R<()> {
    if let Some(code) = code {
        let mut stack = Stack::current(cpu);
        stack.push(cpu, l.width, u64::from(code))?;
        stack.commit(cpu);
    }
    if cpu.st.rip > u64::from(cpu.st.seg[seg::CS as usize].limit) {
        return Err(cpu.gp(0));
    }
    Ok(())
}

/// Delivers what loading the new task raised, in the new task.
fn fault_in_new_task(cpu: &mut Vcpu) {
    if cpu.st.stop == stop::FAULT && exception::deliver_fault(cpu).is_err() {
        // The engine meets the shutdown when it delivers this double fault with nothing to deliver it through.
        cpu.raise(vector::DF, Some(0), 0);
    }
}

const _: () = assert!(reg::RDI == 7, "a TSS holds the registers in encoding order");
