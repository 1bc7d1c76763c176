//! Delivery of exceptions and interrupts (SDM vol. 3, chapter 6).
//!
//! Requirement: a delivery that fails leaves the registers as they were, so that the exception which it raised can be
//! delivered instead, or combined with the first into a double fault (table 6-5).
//! Solution: every path computes and checks everything, writes the new stack, and commits registers last.
//! Limitation: the stack memory below the stack pointer may have been written by a delivery that failed.
//!
//! RFLAGS.RF in the images that events push (SDM vol. 3, 17.3.1.1): set for faults but those of instruction breakpoints; all
//! else pushes what the register holds, which a repeated string instruction sets while it is not finished.
//!
//! The engine's part: after a stop with [`stop::FAULT`], call [`deliver_fault`] with `st.rip` at the faulting
//! instruction; between instructions call [`poll_events`]; while `super::runs_alone` holds, execute by
//! `super::run_alone`.

use iced_x86::{Instruction, Mnemonic};

use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::state::{Mode, Segment, Shadow, reg, rflags, seg, stop};
use crate::vcpu::{Vcpu, vector};

use super::debug;
use super::segment::null_stack;
use super::stack::Stack;
use super::table::{Descriptor, code_of, is_null, kind};
use super::task::{self, Via};
use super::{ENDS, Pick, handler, next_rip};

/// The processor gave up: a fault while a double fault was being delivered. A PC resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown;

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A fault, trap or abort that the processor detected.
    Exception,
    /// A maskable interrupt.
    External,
    /// A non-maskable interrupt.
    Nmi,
    /// INT n, INT3, INTO: the gate's DPL is checked.
    Software,
    /// INT1: no DPL check.
    Privileged,
}

/// An exception or interrupt to deliver.
#[derive(Clone, Copy, Debug)]
struct Event {
    vector: u8,
    source: Source,
    code: Option<u32>,
    /// CR2, or bits for DR6.
    info: u64,
    /// The RIP to push.
    rip: u64,
    /// RF in the pushed image.
    rf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    Double,
}

/// SDM vol. 3, table 6-4.
fn class(v: u8, source: Source) -> Class {
    match v {
        _ if source != Source::Exception => Class::Benign,
        vector::DE | vector::TS..=vector::GP => Class::Contributory,
        vector::PF => Class::PageFault,
        vector::DF => Class::Double,
        _ => Class::Benign,
    }
}

/// SDM vol. 3, table 6-5: what a second exception while delivering the first one makes.
fn combine(first: Class, second: Class) -> Result<Combined, Shutdown> {
    match (first, second) {
        (Class::Double, Class::Contributory | Class::PageFault) => Err(Shutdown),
        (Class::Contributory, Class::Contributory)
        | (Class::PageFault, Class::Contributory | Class::PageFault) => Ok(Combined::DoubleFault),
        _ => Ok(Combined::Second),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combined {
    Second,
    DoubleFault,
}

/// Delivers `st.fault`, raised by the instruction at `st.rip`.
pub fn deliver_fault(cpu: &mut Vcpu) -> Result<(), Shutdown> {
    let f = cpu.st.fault;
    let ev = Event {
        vector: f.vector,
        source: Source::Exception,
        code: f.has_code.then_some(f.code),
        info: f.info,
        rip: cpu.st.rip,
        rf: !(f.vector == vector::DB && f.info & debug::B != 0),
    };
    deliver_all(cpu, ev)
}

/// Delivers an interrupt between instructions; `st.rip` is the next instruction.
pub fn interrupt(cpu: &mut Vcpu, vector: u8, source: Source) -> Result<(), Shutdown> {
    let ev = Event { vector, source, code: None, info: 0, rip: cpu.st.rip, rf: false };
    deliver_all(cpu, ev)
}

/// #DB as a trap, after an instruction or a task switch; `bits` go to DR6.
pub(super) fn debug_trap(cpu: &mut Vcpu, bits: u64) -> Result<(), Shutdown> {
    let (vector, source) = (vector::DB, Source::Exception);
    deliver_all(cpu, Event { vector, source, code: None, info: bits, rip: cpu.st.rip, rf: false })
}

/// Delivers debug traps that wait, then a pending NMI or interrupt if the processor accepts one now; wakes it from HLT. Did it?
pub fn poll_events(cpu: &mut Vcpu) -> Result<bool, Shutdown> {
    if cpu.st.wait_sipi {
        return Ok(poll_start_up(cpu));
    }
    let trapped = debug::deliver_pending(cpu)? | super::smm::poll(cpu);
    // SDM vol. 3, 32.4.2: an INIT waits in SMM.
    if !cpu.st.smm && cpu.bus.take_init() {
        cpu.init();
        return Ok(true);
    }
    super::monitor::wake(cpu);
    if cpu.st.shadow != Shadow::MovSs && !cpu.st.nmi_blocked && cpu.bus.take_nmi() {
        cpu.st.nmi_blocked = true;
        interrupt(cpu, vector::NMI, Source::Nmi)?;
        return Ok(true);
    }
    if cpu.st.flags & rflags::IF == 0 || cpu.st.shadow != Shadow::None || !cpu.bus.interrupt_pending() {
        return Ok(trapped);
    }
    let now = cpu.now();
    let Some(v) = cpu.bus.interrupt_acknowledge(now) else { return Ok(trapped) };
    interrupt(cpu, v, Source::External)?;
    Ok(true)
}

/// A processor that waits for a start-up IPI: everything but that and INIT stays pending.
#[cold]
fn poll_start_up(cpu: &mut Vcpu) -> bool {
    if cpu.bus.take_init() {
        cpu.init();
    }
    let vector = cpu.bus.take_start_up();
    if let Some(vector) = vector {
        cpu.start_up(vector);
    }
    vector.is_some()
}

fn deliver_all(cpu: &mut Vcpu, first: Event) -> Result<(), Shutdown> {
    // Tables in device memory may be read: no instruction is being executed, so counts are exact.
    let single = std::mem::replace(&mut cpu.st.single, true);
    let r = deliver_chain(cpu, first);
    cpu.st.single = single;
    r
}

fn deliver_chain(cpu: &mut Vcpu, mut ev: Event) -> Result<(), Shutdown> {
    loop {
        cpu.st.stop = stop::NONE;
        record(cpu, &ev);
        show(cpu, &ev);
        if deliver(cpu, &ev).is_ok() {
            // A task switch succeeds even if the new task could not take its own first exception.
            let failed = std::mem::replace(&mut cpu.st.stop, stop::NONE) == stop::FAULT;
            return if failed { Err(Shutdown) } else { Ok(()) };
        }
        if cpu.st.stop != stop::FAULT {
            // A corrupted translation: the stop reason stands, the engine reports it.
            return Ok(());
        }
        let f = cpu.st.fault;
        let mut code = f.has_code.then_some(f.code);
        if ev.source != Source::Software && f.vector != vector::PF {
            code = code.map(|c| c | 1);
        }
        let combined = combine(class(ev.vector, ev.source), class(f.vector, Source::Exception));
        let info = f.info;
        // A task gate may have changed RIP: what fails then is the new task's.
        let (source, rf, rip) = (Source::Exception, true, cpu.st.rip);
        ev = match combined? {
            Combined::Second => Event { vector: f.vector, source, code, info, rf, rip },
            Combined::DoubleFault => Event { vector: vector::DF, source, code: Some(0), info: 0, rf, rip },
        };
        if combined == Ok(Combined::DoubleFault) {
            // The page-fault address stands even where the page fault itself is not delivered.
            if f.vector == vector::PF {
                cpu.st.cr2 = f.info;
            }
        }
    }
}

/// For `-d int`: a line like QEMU's and the registers.
#[inline]
fn show(cpu: &mut Vcpu, ev: &Event) {
    if tracing::enabled!(target: "int", tracing::Level::TRACE) {
        show_now(cpu, ev);
    }
}

#[cold]
fn show_now(cpu: &mut Vcpu, ev: &Event) {
    let st = &cpu.st;
    let [cs, ss] = [seg::CS, seg::SS].map(|s| st.seg[s as usize].selector);
    let software = u8::from(matches!(ev.source, Source::Software | Source::Privileged));
    let (count, cpl, rsp, cr2) = (st.icount(), st.cpl, st.gpr[reg::RSP as usize], st.cr2);
    let kind = match ev.source {
        Source::External => " (interrupt)",
        Source::Nmi => " (NMI)",
        _ => "",
    };
    let (vector, code, rip) = (ev.vector, ev.code.unwrap_or(0), ev.rip);
    let registers = crate::show::registers(cpu);
    tracing::trace!(
        target: "int",
        "{count}: v={vector:02x} e={code:04x} i={software} cpl={cpl} IP={cs:04x}:{rip:016x} SP={ss:04x}:{rsp:016x} \
         CR2={cr2:016x}{kind}\n{registers}"
    );
}

/// What an exception leaves in CR2, DR6 and DR7.
fn record(cpu: &mut Vcpu, ev: &Event) {
    if ev.source != Source::Exception {
        return;
    }
    match ev.vector {
        vector::PF => cpu.st.cr2 = ev.info,
        vector::DB => record_debug(cpu, ev.info),
        _ => {}
    }
}

/// Traps that wait are reported with any #DB: ICEBP after a MOV SS that hit a breakpoint is one exception, not two.
fn record_debug(cpu: &mut Vcpu, bits: u64) {
    let bits = bits | std::mem::take(&mut cpu.st.pending_debug);
    if bits != 0 {
        // SDM vol. 3, 18.2.3: B3:0 are those of this exception, everything else stays until software clears it.
        cpu.st.dr[6] = cpu.st.dr[6] & !debug::B | bits;
    }
    cpu.st.dr[7] &= !debug::DR7_GD;
    cpu.st.msr.debugctl &= !debug::BTF;
}

fn deliver(cpu: &mut Vcpu, ev: &Event) -> R<()> {
    if !cpu.st.mode.has(Mode::PROTECTED) {
        deliver_real(cpu, ev)?;
    } else if cpu.st.mode.has(Mode::LONG) {
        deliver_long(cpu, ev)?;
    } else {
        deliver_protected(cpu, ev)?;
    }
    cpu.st.halted = false;
    cpu.st.shadow = Shadow::None;
    Ok(())
}

fn image(cpu: &mut Vcpu, ev: &Event) -> u64 {
    cpu.rflags() | if ev.rf { rflags::RF } else { 0 }
}

fn deliver_real(cpu: &mut Vcpu, ev: &Event) -> R<()> {
    let at = u64::from(ev.vector) * 4;
    if at + 3 > u64::from(cpu.st.idtr.limit) {
        return Err(cpu.gp(0));
    }
    let entry = cpu.read_table(cpu.st.idtr.base.wrapping_add(at), Width::D)?;
    let flags = image(cpu, ev);
    let cs = cpu.st.seg[seg::CS as usize];
    let mut stack = Stack::current(cpu);
    stack.push(cpu, Width::W, flags)?;
    stack.push(cpu, Width::W, u64::from(cs.selector))?;
    stack.push(cpu, Width::W, ev.rip)?;
    stack.commit(cpu);
    cpu.st.flags &= !(rflags::IF | rflags::TF | rflags::RF | rflags::AC);
    let selector = (entry >> 16) as u16;
    cpu.st.seg[seg::CS as usize] = Segment { base: u64::from(selector) << 4, selector, ..cs };
    cpu.st.rip = entry & 0xffff;
    cpu.mode_changed();
    Ok(())
}

/// The gate's own checks: its type must be one of `valid`.
fn check_gate(cpu: &mut Vcpu, ev: &Event, gate: &Descriptor, valid: &[u8]) -> R<()> {
    let code = u32::from(ev.vector) * 8 + 2;
    if !gate.is_system() || !valid.contains(&gate.kind()) {
        return Err(cpu.gp(code));
    }
    if ev.source == Source::Software && gate.dpl() < cpu.st.cpl {
        return Err(cpu.gp(code));
    }
    if !gate.present() {
        return Err(cpu.raise(vector::NP, Some(code), 0));
    }
    Ok(())
}

/// The code segment that a gate names: checked, not yet marked accessed.
fn handler_code(cpu: &mut Vcpu, selector: u16) -> R<Descriptor> {
    if is_null(selector) {
        return Err(cpu.gp(0));
    }
    let d = cpu.descriptor(selector, vector::GP)?;
    if d.is_system() || !d.segment().is_code() || d.dpl() > cpu.st.cpl {
        return Err(cpu.gp_sel(selector));
    }
    if !d.present() {
        return Err(cpu.np_sel(selector));
    }
    Ok(d)
}

impl Vcpu {
    /// SS:ESP for an inner level from the current 16- or 32-bit TSS, unchecked.
    pub(super) fn tss_stack(&mut self, level: u8) -> R<(u16, u64)> {
        let tr = self.st.tr;
        let (at, w) = if tr.attrs & 8 != 0 {
            (4 + 8 * u64::from(level), Width::D)
        } else {
            (2 + 4 * u64::from(level), Width::W)
        };
        let ss_at = at + u64::from(w.bytes());
        if ss_at + 1 > u64::from(tr.limit) {
            return Err(self.ts_sel(tr.selector));
        }
        let sp = self.read_table(tr.base.wrapping_add(at), w)?;
        let ss = self.read_table(tr.base.wrapping_add(ss_at), Width::W)?;
        Ok((ss as u16, sp))
    }

    /// A stack pointer of the 64-bit TSS: RSP0..2 or (`level` 3 and up) IST1...
    pub(super) fn tss_rsp(&mut self, offset: u64) -> R<u64> {
        let tr = self.st.tr;
        if offset + 7 > u64::from(tr.limit) {
            return Err(self.ts_sel(tr.selector));
        }
        self.read_table(tr.base.wrapping_add(offset), Width::Q)
    }
}

fn deliver_protected(cpu: &mut Vcpu, ev: &Event) -> R<()> {
    let at = u64::from(ev.vector) * 8;
    if at + 7 > u64::from(cpu.st.idtr.limit) {
        return Err(cpu.gp(u32::from(ev.vector) * 8 + 2));
    }
    let at = cpu.st.idtr.base.wrapping_add(at);
    let gate = Descriptor { raw: cpu.read_table(at, Width::Q)?, selector: 0, at };
    let kinds = [kind::TASK_GATE, kind::INT16, kind::TRAP16, kind::INT, kind::TRAP];
    check_gate(cpu, ev, &gate, &kinds)?;
    if gate.kind() == kind::TASK_GATE {
        let tss = task::gate_target(cpu, gate.gate_selector())?;
        let ext = !matches!(ev.source, Source::Software | Source::Privileged);
        return task::switch(cpu, &tss, Via::Event { code: ev.code, rf: ev.rf, ext }, ev.rip);
    }
    let w = if gate.kind() & 8 != 0 { Width::D } else { Width::W };
    let code = handler_code(cpu, gate.gate_selector())?;
    let vm86 = cpu.st.mode.has(Mode::VM86);
    let inner = !code.segment().is_conforming() && code.dpl() < cpu.st.cpl;
    if vm86 && (!inner || code.dpl() != 0) {
        return Err(cpu.gp(code.code()));
    }
    let mut target = code.segment();
    let rip = gate.gate_offset() & w.mask();
    if rip > u64::from(target.limit) {
        return Err(cpu.gp(0));
    }
    let flags = image(cpu, ev);
    let old = cpu.st.seg;
    let selector_of = |s: u8| u64::from(old[s as usize].selector);
    let cpl = if inner { code.dpl() } else { cpu.st.cpl };
    let mut stack = if inner {
        let (ss, sp) = cpu.tss_stack(cpl)?;
        let segment = cpu.check_stack(ss, cpl, vector::TS)?;
        let mut stack = Stack::other(cpu, segment, sp, cpl, code_of(ss));
        if vm86 {
            for s in [seg::GS, seg::FS, seg::DS, seg::ES] {
                stack.push(cpu, w, selector_of(s))?;
            }
        }
        stack.push(cpu, w, selector_of(seg::SS))?;
        stack.push(cpu, w, cpu.st.gpr[reg::RSP as usize])?;
        stack
    } else {
        Stack::current(cpu)
    };
    stack.push(cpu, w, flags)?;
    stack.push(cpu, w, selector_of(seg::CS))?;
    stack.push(cpu, w, ev.rip)?;
    if let Some(code) = ev.code {
        stack.push(cpu, w, u64::from(code))?;
    }
    cpu.mark_accessed(&code)?;

    if inner {
        cpu.st.seg[seg::SS as usize] = stack.segment;
    }
    if vm86 {
        for s in [seg::GS, seg::FS, seg::DS, seg::ES] {
            cpu.st.seg[s as usize] = Segment::default();
        }
    }
    stack.commit(cpu);
    target.selector = target.selector & !3 | u16::from(cpl);
    enter_handler(cpu, target, rip, cpl, gate.kind());
    Ok(())
}

fn deliver_long(cpu: &mut Vcpu, ev: &Event) -> R<()> {
    let at = u64::from(ev.vector) * 16;
    if at + 15 > u64::from(cpu.st.idtr.limit) {
        return Err(cpu.gp(u32::from(ev.vector) * 8 + 2));
    }
    let at = cpu.st.idtr.base.wrapping_add(at);
    let gate = Descriptor { raw: cpu.read_table(at, Width::Q)?, selector: 0, at };
    let upper = cpu.read_table(at.wrapping_add(8), Width::Q)?;
    check_gate(cpu, ev, &gate, &[kind::INT, kind::TRAP])?;
    let code = handler_code(cpu, gate.gate_selector())?;
    let mut target = code.segment();
    if target.attrs & (Segment::L | Segment::DB) != Segment::L {
        return Err(cpu.gp(code.code()));
    }
    let rip = gate.gate_offset() | upper << 32;
    if !cpu.canonical(rip) {
        return Err(cpu.gp(0));
    }
    let old_cpl = cpu.st.cpl;
    let cpl = if target.is_conforming() { old_cpl } else { code.dpl() };
    let ist = gate.raw >> 32 & 7;
    // The upper half is undefined in compatibility mode (AMD APM vol. 2, 4.5.3 and 2.5): processors clear it here.
    let width = if cpu.st.mode.has(Mode::CODE64) { Width::Q } else { Width::D };
    let old_rsp = cpu.st.gpr[reg::RSP as usize] & width.mask();
    let rsp = if ist != 0 {
        cpu.tss_rsp(0x1c + 8 * ist)?
    } else if cpl != old_cpl {
        cpu.tss_rsp(4 + 8 * u64::from(cpl))?
    } else {
        old_rsp
    };
    let ss = cpu.st.seg[seg::SS as usize];
    let new_ss = if cpl != old_cpl { null_stack(cpl) } else { ss };
    let flags = image(cpu, ev);
    let cs = u64::from(cpu.st.seg[seg::CS as usize].selector);
    let mut stack = Stack::long(cpu, new_ss, rsp & !15, cpl);
    for v in [u64::from(ss.selector), old_rsp, flags, cs, ev.rip] {
        stack.push(cpu, Width::Q, v)?;
    }
    if let Some(code) = ev.code {
        stack.push(cpu, Width::Q, u64::from(code))?;
    }
    cpu.mark_accessed(&code)?;

    cpu.st.seg[seg::SS as usize] = new_ss;
    stack.commit(cpu);
    target.selector = target.selector & !3 | u16::from(cpl);
    enter_handler(cpu, target, rip, cpl, gate.kind());
    Ok(())
}

fn enter_handler(cpu: &mut Vcpu, cs: Segment, rip: u64, cpl: u8, gate: u8) {
    let mut clear = rflags::TF | rflags::NT | rflags::RF | rflags::VM;
    if gate & 1 == 0 {
        // Interrupt gates; trap gates leave IF.
        clear |= rflags::IF;
    }
    cpu.st.flags &= !clear;
    cpu.st.seg[seg::CS as usize] = cs;
    cpu.st.cpl = cpl;
    cpu.st.rip = rip;
    cpu.mode_changed();
}

// ---- software interrupts ----------------------------------------------------------------------------------------

fn software(cpu: &mut Vcpu, i: &Insn, vector: u8, source: Source) -> R<()> {
    let rip = next_rip(cpu, i);
    let ev = Event { vector, source, code: None, info: 0, rip, rf: false };
    show(cpu, &ev);
    deliver(cpu, &ev)
}

fn int_n(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let vector = i.imm as u8;
    if cpu.st.mode.has(Mode::VM86) {
        if super::vme::redirect(cpu, i, vector)? {
            return Ok(());
        }
        if cpu.st.flags & rflags::IOPL != rflags::IOPL {
            return Err(cpu.gp(0));
        }
    }
    software(cpu, i, vector, Source::Software)
}

fn int3(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    software(cpu, i, vector::BP, Source::Software)
}

fn int1(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let delivered = software(cpu, i, vector::DB, Source::Privileged);
    if delivered.is_ok() {
        record_debug(cpu, 0);
    } else if cpu.st.stop == stop::FAULT && cpu.st.fault.has_code && cpu.st.fault.vector != vector::PF {
        // Unlike INT n, its delivery counts as that of an external event.
        cpu.st.fault.code |= 1;
    }
    delivered
}

fn into(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.rflags() & rflags::OF != 0 {
        return software(cpu, i, vector::OF, Source::Software);
    }
    super::advance(cpu, i);
    Ok(())
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    Some(match x.mnemonic() {
        Mnemonic::Int => {
            i.imm = u64::from(x.immediate8());
            (handler!(int_n), ENDS)
        }
        Mnemonic::Int3 => (handler!(int3), ENDS),
        Mnemonic::Int1 => (handler!(int1), ENDS),
        Mnemonic::Into => (handler!(into), ENDS),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_6_5() {
        use Class::{Benign, Contributory, Double, PageFault};
        for second in [Benign, Contributory, PageFault] {
            assert_eq!(combine(Benign, second), Ok(Combined::Second));
        }
        assert_eq!(combine(Contributory, Benign), Ok(Combined::Second));
        assert_eq!(combine(Contributory, Contributory), Ok(Combined::DoubleFault));
        assert_eq!(combine(Contributory, PageFault), Ok(Combined::Second));
        assert_eq!(combine(PageFault, Benign), Ok(Combined::Second));
        assert_eq!(combine(PageFault, Contributory), Ok(Combined::DoubleFault));
        assert_eq!(combine(PageFault, PageFault), Ok(Combined::DoubleFault));
        assert_eq!(combine(Double, Contributory), Err(Shutdown));
        assert_eq!(combine(Double, PageFault), Err(Shutdown));
        assert_eq!(combine(Double, Benign), Ok(Combined::Second));
    }

    #[test]
    fn only_exceptions_are_contributory() {
        assert_eq!(class(vector::GP, Source::Exception), Class::Contributory);
        assert_eq!(class(vector::GP, Source::Software), Class::Benign);
        assert_eq!(class(vector::GP, Source::External), Class::Benign);
        assert_eq!(class(vector::PF, Source::Exception), Class::PageFault);
        assert_eq!(class(9, Source::Exception), Class::Benign);
        assert_eq!(class(vector::UD, Source::Exception), Class::Benign);
    }
}
