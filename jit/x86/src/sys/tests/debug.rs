//! Breakpoints and single-stepping (SDM vol. 3, chapter 17; priorities: vol. 3, table 6-2).

use super::protected::{CODE0, CODE3, DATA0, FREE, GDT, IDT, TSS, TSS_SEL, machine as protected, user};
use super::tasks::{NEW, two_tasks};
use super::*;
use crate::state::cr4;
use crate::sys::debug::DR7_GD;

const HANDLER: u64 = 0x5000;
const DATA: u64 = 0x3800;
const RF: u64 = rflags::RF;
/// DR7: L0, and the condition of breakpoint 0 (0 execute, 1 write, 2 I/O, 3 access) with its length code.
fn dr7(kind: u64, len: u64) -> u64 {
    1 | kind << 16 | len << 18
}

fn machine() -> Machine {
    let mut m = protected();
    m.put64(IDT + 8, gate(CODE0, HANDLER as u32, 0x8e, 0));
    m.put64(IDT + 8 * 13, gate(CODE0, 0x5800, 0x8e, 0));
    m
}

fn arm(m: &mut Machine, address: u64, dr7: u64) {
    m.cpu.st.dr[0] = address;
    m.cpu.st.dr[7] = dr7 | 0x400;
    m.cpu.load_state_changed();
}

impl Machine {
    /// One step of the engine while instructions run alone: an instruction or a fault, and what follows it.
    pub(super) fn go(&mut self) {
        assert!(runs_alone(&self.cpu.st));
        if !code_breakpoint(&mut self.cpu) {
            let at = crate::decode::fetch_address(&mut self.cpu).expect("a RIP inside CS");
            let bytes: Vec<u8> = (0..15).map(|k| self.cpu.mmu.read::<u8>(at + k).unwrap_or(0x90)).collect();
            let block = decode::single(&bytes, self.cpu.st.rip, self.cpu.st.mode).expect("decodes");
            run_alone(&mut self.cpu, &block.insns[0]).expect("no shutdown");
        }
        if self.cpu.st.stop == stop::FAULT {
            deliver_fault(&mut self.cpu).expect("no shutdown");
        }
        self.cpu.st.stop = stop::NONE;
    }

    /// Puts code at [`CODE`], where RIP goes.
    pub(super) fn code(&mut self, bytes: &[u8]) {
        self.cpu.mmu.space().write(Gpa(CODE), bytes).expect("in RAM");
        self.cpu.st.rip = CODE;
    }

    /// EIP and EFLAGS on the stack of a handler.
    fn frame(&mut self) -> (u64, u64) {
        let sp = *self.reg(reg::RSP);
        (u64::from(self.get32(sp)), u64::from(self.get32(sp + 8)))
    }

    fn in_handler(&self) -> bool {
        self.cpu.st.rip == HANDLER
    }

    /// DR6 without its fixed bits; clears it.
    fn dr6(&mut self) -> u64 {
        std::mem::replace(&mut self.cpu.st.dr[6], 0xffff_0ff0) & !0xffff_0ff0
    }
}

#[test]
fn code_breakpoint_is_a_fault_that_rf_suppresses() {
    let mut m = machine();
    arm(&mut m, CODE, dr7(0, 0));
    m.code(&[0x40, 0x40]);
    m.go();
    assert!(m.in_handler());
    assert_eq!((m.dr6(), *m.reg(reg::RAX)), (1, 0), "before the instruction");
    // SDM vol. 3, 17.3.1.1: RF is pushed as it is; the handler sets it, or the breakpoint hits again.
    let (eip, flags) = m.frame();
    assert_eq!((eip, flags & RF), (CODE, 0));
    let sp = *m.reg(reg::RSP);
    m.put32(sp + 8, (flags | RF) as u32);
    m.put(HANDLER, [0xcf]);
    m.go();
    assert_eq!((m.cpu.st.rip, m.cpu.st.flags & RF), (CODE, RF), "IRETD loads RF");
    m.go();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RAX)), (CODE + 1, 1));
    assert_eq!(m.cpu.st.flags & RF, 0, "and the instruction clears it");
    m.cpu.st.rip = CODE;
    m.go();
    assert!(m.in_handler());
}

#[test]
fn a_code_breakpoint_comes_before_faults_of_its_instruction() {
    let mut m = machine();
    arm(&mut m, CODE, dr7(0, 0));
    m.code(&[0x0f, 0x0b]);
    m.go();
    assert!(m.in_handler(), "before #UD");
    // An instruction that faults with RF set pushes RF (a fault), so that it is not seen twice.
    m.put64(IDT + 8 * 6, gate(CODE0, 0x5800, 0x8e, 0));
    m.cpu.st.rip = CODE;
    m.cpu.st.flags |= RF;
    m.go();
    assert_eq!((m.cpu.st.rip, m.frame().1 & RF), (0x5800, RF));
}

#[test]
fn data_breakpoints() {
    let store = [0x89, 0x03];
    let load = [0x8b, 0x03];
    for (kind, len, address, code, at, hit) in [
        (1, 3, DATA, &store[..], DATA, true),
        (1, 3, DATA, &load, DATA, false),
        (3, 3, DATA, &load, DATA, true),
        (3, 0, DATA + 1, &load, DATA, true),
        (3, 0, DATA + 4, &load, DATA, false),
        (1, 3, DATA, &store, DATA - 4, false),
        (1, 3, DATA, &store, DATA - 1, true),
        (1, 3, DATA + 3, &store, DATA, true),
        (1, 2, DATA + 5, &store, DATA, true),
        (1, 1, DATA + 3, &[0x88, 0x03], DATA + 2, true),
        (1, 1, DATA + 3, &[0x88, 0x03], DATA + 1, false),
        (1, 3, 0x6000, &store, 0x5ffe, true),
        (1, 0, DATA + 2, &[0xf0, 0x01, 0x03], DATA, true),
        (1, 0, DATA, &[0xff, 0x03], DATA, true),
        (1, 0, DATA, &[0xa6], DATA, false),
        (3, 0, DATA, &[0xa6], DATA, true),
    ] {
        let mut m = machine();
        arm(&mut m, address, dr7(kind, len));
        m.code(code);
        for r in [reg::RBX, reg::RSI] {
            *m.reg(r) = at;
        }
        *m.reg(reg::RDI) = 0x7000;
        m.go();
        let what = format!("kind {kind} len {len} at {address:#x}, {code:x?} to {at:#x}");
        assert_eq!(m.in_handler(), hit, "{what}");
        if hit {
            assert_eq!((m.dr6(), m.frame().0), (1, CODE + code.len() as u64), "a trap: {what}");
        }
    }
}

#[test]
fn an_instruction_that_faults_triggers_no_data_breakpoint() {
    let mut m = machine();
    arm(&mut m, DATA, dr7(3, 3));
    // BOUND EAX, [EBX] reads both bounds, then faults.
    m.put64(IDT + 8 * 5, gate(CODE0, 0x5800, 0x8e, 0));
    m.code(&[0x62, 0x03]);
    *m.reg(reg::RBX) = DATA;
    *m.reg(reg::RAX) = 5;
    m.go();
    assert_eq!((m.cpu.st.rip, m.dr6(), m.cpu.st.pending_debug), (0x5800, 0, 0));
}

#[test]
fn port_breakpoints_need_cr4_de() {
    for (de, port, hit) in [(true, 0x80, true), (true, 0x82, true), (true, 0x84, false), (false, 0x80, false)]
    {
        let mut m = machine();
        m.cpu.st.cr4 |= if de { cr4::DE } else { 0 };
        arm(&mut m, 0x80, dr7(2, 3));
        m.code(&[0xe4, port]);
        m.go();
        assert_eq!(m.in_handler(), hit, "DE {de}, port {port:#x}");
        if hit {
            assert_eq!((m.dr6(), m.frame().0), (1, CODE + 2));
        }
    }
    // An access that begins below and reaches into it.
    let mut m = machine();
    m.cpu.st.cr4 |= cr4::DE;
    arm(&mut m, 0x80, dr7(2, 0));
    m.code(&[0xe7, 0x7e]);
    m.go();
    assert!(m.in_handler());
}

#[test]
fn single_step_traps_after_the_instruction() {
    let mut m = machine();
    m.code(&[0x40]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert!(m.in_handler());
    assert_eq!((m.dr6(), *m.reg(reg::RAX)), (1 << 14, 1));
    assert_eq!(m.frame(), (CODE + 1, rflags::TF | 2));
    assert_eq!(m.cpu.st.flags & rflags::TF, 0);
    // POPF that sets TF: the trap comes after the next instruction; IRET back works the same.
    let mut m = machine();
    m.code(&[0x9d, 0x90]);
    m.put32(0x8ffc, rflags::TF as u32);
    *m.reg(reg::RSP) = 0x8ffc;
    m.step().unwrap();
    m.go();
    assert_eq!(m.frame().0, CODE + 2);
}

#[test]
fn single_step_and_breakpoint_are_one_exception() {
    let mut m = machine();
    arm(&mut m, DATA, dr7(1, 3));
    m.code(&[0x89, 0x03]);
    *m.reg(reg::RBX) = DATA;
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.in_handler(), m.dr6()), (true, 1 << 14 | 1));
    assert_eq!(m.cpu.st.pending_debug, 0);
}

#[test]
fn mov_ss_and_pop_ss_hold_traps_back() {
    // SDM vol. 3, 6.8.3.
    for (code, sp) in [(&[0x8e, 0xd0, 0x90][..], 0), (&[0x17, 0x90], 4)] {
        let mut m = machine();
        m.code(code);
        *m.reg(reg::RAX) = u64::from(DATA0);
        m.put32(0x8800, u32::from(DATA0));
        *m.reg(reg::RSP) = 0x8800;
        m.cpu.st.flags |= rflags::TF;
        m.go();
        assert_eq!((m.cpu.st.rip, m.dr6()), (CODE + code.len() as u64 - 1, 0), "{code:x?}");
        assert_eq!(*m.reg(reg::RSP), 0x8800 + sp);
        m.go();
        assert_eq!((m.in_handler(), m.frame().0), (true, CODE + code.len() as u64), "{code:x?}");
        assert_eq!(m.dr6(), 1 << 14);
    }
    // LSS needs no such help: it loads both.
    let mut m = machine();
    m.code(&[0x0f, 0xb2, 0x23]);
    *m.reg(reg::RBX) = DATA;
    m.put32(DATA, 0x8800);
    m.put16(DATA + 4, DATA0);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.in_handler(), m.frame().0), (true, CODE + 3));
}

#[test]
fn a_data_breakpoint_of_mov_ss_waits_for_the_next_instruction() {
    let mut m = machine();
    arm(&mut m, DATA, dr7(3, 1));
    m.put16(DATA, DATA0);
    *m.reg(reg::RBX) = DATA;
    m.code(&[0x8e, 0x13, 0x90]);
    m.go();
    assert_eq!((m.cpu.st.rip, m.dr6()), (CODE + 2, 0));
    assert_eq!(poll_events(&mut m.cpu), Ok(false), "nor between the two");
    m.go();
    assert_eq!((m.in_handler(), m.frame().0, m.dr6()), (true, CODE + 3, 1));
    // Before INT n the trap comes at its handler's first instruction.
    let mut m = machine();
    arm(&mut m, DATA, dr7(3, 1));
    m.put16(DATA, DATA0);
    *m.reg(reg::RBX) = DATA;
    m.put64(IDT + 8 * 0x80, gate(CODE0, 0x5800, 0x8e, 0));
    m.code(&[0x8e, 0x13, 0xcd, 0x80]);
    m.go();
    m.go();
    assert_eq!((m.in_handler(), m.frame().0), (true, 0x5800));
    // Before ICEBP there is one #DB for both.
    let mut m = machine();
    arm(&mut m, DATA, dr7(3, 1));
    m.put16(DATA, DATA0);
    *m.reg(reg::RBX) = DATA;
    m.code(&[0x8e, 0x13, 0xf1]);
    m.go();
    m.go();
    assert_eq!((m.in_handler(), m.frame().0, m.dr6()), (true, CODE + 3, 1));
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
}

#[test]
fn each_exception_sets_b3_to_b0_anew_and_leaves_the_rest() {
    let mut m = machine();
    arm(&mut m, CODE, dr7(0, 0));
    m.cpu.st.dr[6] |= 1 << 14 | 2;
    m.code(&[0x90]);
    m.go();
    assert_eq!((m.in_handler(), m.dr6()), (true, 1 << 14 | 1));
}

#[test]
fn icebp_takes_a_waiting_trap_along() {
    // Two exceptions here would share the handler's stack where that has a stack of its own (IST).
    let mut m = machine();
    arm(&mut m, DATA, dr7(3, 1) | DR7_GD);
    m.put16(DATA, DATA0);
    *m.reg(reg::RBX) = DATA;
    m.code(&[0x8e, 0x13, 0xf1]);
    m.go();
    m.go();
    assert_eq!((m.in_handler(), m.frame().0, m.dr6()), (true, CODE + 3, 1));
    assert_eq!((m.cpu.st.pending_debug, m.cpu.st.dr[7] & DR7_GD), (0, 0));
}

#[test]
fn a_code_breakpoint_after_mov_ss_is_suppressed() {
    for (first, hits) in [(&[0x8e, 0xd0][..], false), (&[0x8e, 0xd8], true)] {
        let mut m = machine();
        arm(&mut m, CODE + 2, dr7(0, 0));
        m.code(&[first, &[0x90]].concat());
        *m.reg(reg::RAX) = u64::from(DATA0);
        m.go();
        m.go();
        assert_eq!(m.in_handler(), hits);
    }
}

#[test]
fn sti_does_not_hold_traps_back() {
    let mut m = machine();
    m.code(&[0xfb]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert!(m.in_handler());
}

#[test]
fn software_interrupts_do_not_step() {
    let mut m = machine();
    m.put64(IDT + 8 * 0x80, gate(CODE0, 0x5800, 0x8e, 0));
    m.code(&[0xcd, 0x80]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.cpu.st.rip, m.dr6()), (0x5800, 0));
    assert_ne!(m.frame().1 & rflags::TF, 0, "the image has TF, for the return");
    // INTO that is not taken is an instruction like others.
    let mut m = machine();
    m.code(&[0xce]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.in_handler(), m.frame().0), (true, CODE + 1));
    // ICEBP is a #DB without bits in DR6.
    let mut m = machine();
    m.code(&[0xf1]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.in_handler(), m.dr6(), m.frame().0), (true, 0, CODE + 1));
}

#[test]
fn a_fault_does_not_step() {
    let mut m = machine();
    m.code(&[0xcd, 0x90]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.cpu.st.rip, m.dr6()), (0x5800, 0));
}

#[test]
fn repeated_strings_step_by_iteration() {
    let mut m = machine();
    m.code(&[0xf3, 0xa4]);
    *m.reg(reg::RCX) = 2;
    (*m.reg(reg::RSI), *m.reg(reg::RDI)) = (DATA, 0x7000);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.in_handler(), *m.reg(reg::RCX)), (true, 1));
    // SDM vol. 3, 17.3.1.1: RF is set in the image for all iterations but the last.
    assert_eq!((m.frame().0, m.frame().1 & RF), (CODE, RF));
    m.put(HANDLER, [0xcf]);
    m.step().unwrap();
    m.go();
    assert_eq!((m.in_handler(), *m.reg(reg::RCX)), (true, 0));
    assert_eq!((m.frame().0, m.frame().1 & RF), (CODE + 2, 0));
}

#[test]
fn an_interrupted_repetition_pushes_rf() {
    let mut m = machine();
    m.bus(Nothing { interrupt: Some(0x80), ..Nothing::default() });
    m.put64(IDT + 8 * 0x80, gate(CODE0, 0x5800, 0x8e, 0));
    m.code(&[0xf3, 0xaa]);
    *m.reg(reg::RCX) = 3;
    *m.reg(reg::RDI) = 0x7000;
    m.cpu.st.flags |= rflags::IF;
    m.step().unwrap();
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RCX), m.frame().0, m.frame().1 & RF), (0x5800, 2, CODE, RF));
    assert_eq!(m.cpu.st.flags & RF, 0);
}

#[test]
fn a_repetition_that_faults_half_way_keeps_what_is_done() {
    // SDM vol. 2, REP: the registers are those of the iterations completed. DS ends at 3803h.
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0x3803, 0x92, 4));
    *m.reg(reg::RAX) = u64::from(FREE);
    m.run(&[0x8e, 0xd8]).unwrap();
    (*m.reg(reg::RCX), *m.reg(reg::RSI), *m.reg(reg::RDI)) = (10, DATA, 0x7000);
    m.code(&[0xf3, 0xa4]);
    m.cpu.st.flags |= rflags::TF;
    for left in [9, 8, 7, 6] {
        m.go();
        assert_eq!((m.in_handler(), *m.reg(reg::RCX)), (true, left));
        m.put(HANDLER, [0xcf]);
        m.step().unwrap();
    }
    m.go();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RCX), *m.reg(reg::RSI)), (0x5800, 6, DATA + 4));
    assert_eq!(*m.reg(reg::RDI), 0x7004);
}

#[test]
fn general_detect() {
    let mut m = machine();
    m.cpu.st.dr[7] |= 1 << 13;
    m.code(&[0x0f, 0x21, 0xc0]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!((m.in_handler(), m.dr6(), m.frame().0), (true, 1 << 13, CODE), "a fault, without BS");
    assert_eq!(m.cpu.st.dr[7] & 1 << 13, 0, "the handler may use the registers");
}

#[test]
fn branch_stepping() {
    let mut m = machine();
    m.cpu.st.msr.debugctl = 2;
    m.code(&[0x90, 0xeb, 0x02]);
    m.cpu.st.flags |= rflags::TF;
    m.go();
    assert_eq!(m.cpu.st.rip, CODE + 1, "no branch, no trap");
    m.go();
    assert_eq!((m.in_handler(), m.frame().0), (true, CODE + 5));
    assert_eq!(m.cpu.st.msr.debugctl, 0, "cleared by the exception");
}

#[test]
fn the_t_flag_of_a_tss_traps_in_the_new_task() {
    // SDM vol. 3, 17.3.1.5: after the switch, before the new task's first instruction.
    let mut m = two_tasks();
    m.put64(IDT + 8, gate(CODE0, HANDLER as u32, 0x8e, 0));
    m.put16(NEW + 0x64, 1);
    m.run(&[0xea, 0, 0, 0, 0, FREE as u8, 0]).unwrap();
    assert_eq!(m.cpu.st.rip, 0x7000);
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert_eq!((m.in_handler(), m.dr6(), m.frame().0), (true, 1 << 15, 0x7000));
    assert_eq!((m.cpu.st.tr.selector, kind_of(&m, TSS_SEL)), (FREE, 9));
}

fn kind_of(m: &Machine, selector: u16) -> u64 {
    m.get64(GDT + u64::from(selector)) >> 40 & 15
}

#[test]
fn a_task_switch_clears_local_enables() {
    let mut m = two_tasks();
    arm(&mut m, DATA, dr7(3, 0) | 3 << 2 | 0x300);
    m.run(&[0xea, 0, 0, 0, 0, FREE as u8, 0]).unwrap();
    assert_eq!(m.cpu.st.dr[7] & 0x3ff, 0x208, "G1 and GE stay");
    assert_eq!(m.get32(TSS + 0x20), CODE as u32 + 7);
}

#[test]
fn system_calls_step_by_the_flag_that_they_leave() {
    use super::long::{CODE64, machine as long, user as long_user};
    let mut m = long();
    let msr = &mut m.cpu.st.msr;
    (msr.star, msr.lstar) = (0x63 << 48 | u64::from(CODE64) << 32, 0x6000);
    m.put64(IDT + 16, gate(CODE64, HANDLER as u32, 0x8e, 1));
    m.put64(IDT + 24, 0);
    for (mask, hit) in [(rflags::TF, false), (0, true)] {
        let mut m = long();
        let msr = &mut m.cpu.st.msr;
        (msr.star, msr.lstar, msr.sfmask) = (0x63 << 48 | u64::from(CODE64) << 32, 0x6000, mask);
        m.put64(IDT + 16, gate(CODE64, HANDLER as u32, 0x8e, 1));
        m.put64(IDT + 24, 0);
        long_user(&mut m);
        m.code(&[0x0f, 0x05]);
        m.cpu.st.flags |= rflags::TF;
        m.go();
        assert_eq!(m.in_handler(), hit, "SYSCALL, FMASK {mask:#x}");
    }
    // SYSRET that sets TF traps before the next instruction.
    *m.reg(11) = rflags::TF | 2;
    *m.reg(reg::RCX) = 0x7000;
    m.run(&[0x48, 0x0f, 0x07]).unwrap();
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert!(m.in_handler());
    let sp = *m.reg(reg::RSP);
    assert_eq!(m.get64(sp), 0x7000);
}

#[test]
fn breakpoints_at_level_3() {
    let mut m = user();
    m.put64(IDT + 8, gate(CODE0, HANDLER as u32, 0x8e, 0));
    arm(&mut m, DATA, dr7(1, 0));
    m.code(&[0x88, 0x03]);
    *m.reg(reg::RBX) = DATA;
    m.go();
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.in_handler(), m.get16(sp + 4)), (true, CODE3));
}
