//! Hardware task switches.

use super::protected::{CODE0, DATA0, DATA3, FREE, GDT, IDT, TSS, TSS_SEL, machine};
use super::*;

pub(super) const NEW: u64 = 0xb000;
const NEW_STACK: u32 = 0xd000;

/// A machine with a second 32-bit task at selector [`FREE`].
pub(super) fn two_tasks() -> Machine {
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x67, 0x89, 0));
    m.put64(GDT + u64::from(TSS_SEL), descriptor(TSS as u32, 0x6f, 0x8b, 0));
    m.put32(NEW + 0x20, 0x7000);
    m.put32(NEW + 0x24, 0x0202);
    m.put32(NEW + 0x28, 0xaaaa_aaaa);
    m.put32(NEW + 0x38, NEW_STACK);
    for (k, s) in [DATA0, CODE0, DATA0, DATA0, 0, 0].iter().enumerate() {
        m.put32(NEW + 0x48 + 4 * k as u64, u32::from(*s));
    }
    m
}

fn jump(m: &mut Machine) -> Result<(), Fault> {
    m.run(&[0xea, 0, 0, 0, 0, FREE as u8, 0])
}

fn kind(m: &Machine, selector: u16) -> u64 {
    m.get64(GDT + u64::from(selector)) >> 40 & 15
}

#[test]
fn jump_to_a_task() {
    let mut m = two_tasks();
    *m.reg(reg::RBX) = 0x1234_5678;
    jump(&mut m).unwrap();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RAX)), (0x7000, 0xaaaa_aaaa));
    assert_eq!((*m.reg(reg::RSP), m.cpu.st.tr.selector), (u64::from(NEW_STACK), FREE));
    assert_eq!((kind(&m, FREE), kind(&m, TSS_SEL)), (11, 9));
    assert_eq!(m.get32(TSS + 0x20), CODE as u32 + 7);
    assert_eq!(m.get32(TSS + 0x34), 0x1234_5678);
    assert_eq!(m.get16(TSS + 0x4c), CODE0);
    assert_ne!(m.cpu.st.cr0 & crate::state::cr0::TS, 0);
    assert_eq!(m.cpu.st.flags & rflags::NT, 0);
}

#[test]
fn call_and_return() {
    let mut m = two_tasks();
    m.run(&[0x9a, 0, 0, 0, 0, FREE as u8, 0]).unwrap();
    assert_ne!(m.cpu.st.flags & rflags::NT, 0);
    assert_eq!(m.get16(NEW), TSS_SEL);
    assert_eq!((kind(&m, FREE), kind(&m, TSS_SEL)), (11, 11));
    m.put(0x7000, [0xcf]);
    m.step().unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.tr.selector), (CODE + 7, TSS_SEL));
    assert_eq!((kind(&m, FREE), kind(&m, TSS_SEL)), (9, 11));
    assert_eq!(m.cpu.st.flags & rflags::NT, 0);
}

#[test]
fn exception_through_a_task_gate() {
    let mut m = two_tasks();
    m.put64(IDT + 13 * 8, gate(FREE, 0, 0x85, 0));
    *m.reg(reg::RAX) = 0x78;
    m.run(&[0x8e, 0xd8]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.tr.selector), (0x7000, FREE));
    assert_eq!(*m.reg(reg::RSP), u64::from(NEW_STACK) - 4);
    assert_eq!(m.get32(u64::from(NEW_STACK) - 4), 0x78);
    assert_eq!(m.get32(TSS + 0x20), CODE as u32);
}

#[test]
fn checks_before_the_switch() {
    let mut m = two_tasks();
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x66, 0x89, 0));
    assert_eq!(jump(&mut m), Err(fault(10, u32::from(FREE))));
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x67, 0x8b, 0));
    assert_eq!(jump(&mut m), Err(gp(u32::from(FREE))), "busy");
    assert_eq!(m.cpu.st.tr.selector, TSS_SEL);
}

#[test]
fn a_bad_selector_faults_in_the_new_task() {
    let mut m = two_tasks();
    m.put64(IDT + 10 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    m.put32(NEW + 0x54, u32::from(TSS_SEL));
    jump(&mut m).unwrap();
    assert_eq!((m.cpu.st.tr.selector, m.cpu.st.rip), (FREE, 0x5000));
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.get32(sp), m.get32(sp + 4)), (u32::from(TSS_SEL), 0x7000));
}

#[test]
fn sixteen_bit_task() {
    let mut m = two_tasks();
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x2b, 0x81, 0));
    for at in (0..0x2c).step_by(4) {
        m.put32(NEW + at, 0);
    }
    m.put16(NEW + 0x0e, 0x7100);
    m.put16(NEW + 0x12, 0xbbbb);
    m.put16(NEW + 0x1a, 0xd000);
    for (k, s) in [DATA0, CODE0, DATA0, DATA3].iter().enumerate() {
        m.put16(NEW + 0x22 + 2 * k as u64, *s);
    }
    jump(&mut m).unwrap();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RAX) & 0xffff), (0x7100, 0xbbbb));
    assert_eq!(m.sel(seg::DS), DATA3);
}
