//! IA-32e mode: interrupts with IST, IRETQ, fast system calls, far transfers.

use super::protected::{CODE0, DATA0, GDT, IDT, TSS, TSS_SEL};
use super::*;
use crate::state::{Segment, TableReg, cr4, efer};

pub(super) const PML4: u64 = 0x1_0000;
/// 64-bit code for CPL 0 and 3 behind the 32-bit segments of `protected`.
pub(super) const CODE64: u16 = 0x50;
const CODE64_3: u16 = 0x73;
/// SYSRET's base: 32-bit code at 60h, data at 68h, 64-bit code at 70h.
const SYSRET: u64 = 0x63;
const DATA64_3: u16 = 0x6b;
pub(super) const STACK: u64 = 0x9000;
pub(super) const NONCANONICAL: u64 = 0x8000_0000_0000;

pub(super) fn machine() -> Machine {
    let mut m = super::protected::machine();
    let code = |access, flags| descriptor(0, 0xf_ffff, access, flags);
    m.put64(GDT + 0x50, code(0x9a, 0xa));
    m.put64(GDT + 0x60, code(0xfa, 0xc));
    m.put64(GDT + 0x68, code(0xf2, 0xc));
    m.put64(GDT + 0x70, code(0xfa, 0xa));
    // 2 MiB page over everything, for all levels.
    m.put64(PML4, PML4 + 0x1007);
    m.put64(PML4 + 0x1000, PML4 + 0x2007);
    m.put64(PML4 + 0x2000, 0x87);
    // TSS: RSP0 and IST1.
    m.put64(TSS + 4, STACK);
    m.put64(TSS + 0x24, 0xe008);
    let st = &mut m.cpu.st;
    enter_long64(st, CODE64, DATA0, PML4, CODE);
    st.gdtr = TableReg { base: GDT, limit: 0x7f };
    st.idtr = TableReg { base: IDT, limit: 0xfff };
    st.tr = Segment { base: TSS, limit: 0x6f, attrs: 0x8b, selector: TSS_SEL };
    m.cpu.load_state_changed();
    m
}

pub(super) fn user(m: &mut Machine) {
    let st = &mut m.cpu.st;
    set_segment_flat(st, seg::CS, CODE64_3, true);
    set_segment_flat(st, seg::SS, DATA64_3, false);
    st.cpl = 3;
    st.gpr[reg::RSP as usize] = 0xa004;
    m.cpu.load_state_changed();
}

pub(super) fn idt(m: &mut Machine, vector: u8, g: u64) {
    m.put64(IDT + 16 * u64::from(vector), g);
    m.put64(IDT + 16 * u64::from(vector) + 8, 0);
}

#[test]
fn interrupt_and_iretq() {
    let mut m = machine();
    user(&mut m);
    idt(&mut m, 0x80, gate(CODE64, 0x5000, 0xee, 0));
    m.run(&[0xcd, 0x80]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::SS)), (0x5000, 0, 0));
    let sp = *m.reg(reg::RSP);
    assert_eq!(sp, STACK - 40);
    assert_eq!((m.get64(sp), m.get64(sp + 8)), (CODE + 2, u64::from(CODE64_3)));
    assert_eq!((m.get64(sp + 24), m.get64(sp + 32)), (0xa004, u64::from(DATA64_3)));
    m.run(&[0x48, 0xcf]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl), (CODE + 2, 3));
    assert_eq!((*m.reg(reg::RSP), m.sel(seg::SS)), (0xa004, DATA64_3));
}

#[test]
fn ist_and_alignment() {
    let mut m = machine();
    idt(&mut m, 0x81, gate(CODE64, 0x5000, 0x8f, 1));
    *m.reg(reg::RSP) = 0x9ff4;
    m.cpu.st.flags |= rflags::IF;
    m.run(&[0xcd, 0x81]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0xe000 - 40, "IST1, aligned");
    assert_ne!(m.cpu.st.flags & rflags::IF, 0, "a trap gate leaves IF");
    assert_eq!(m.sel(seg::SS), DATA0, "SS stays at the same level");
    m.run(&[0x48, 0xcf]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0x9ff4);
}

#[test]
fn gates_lead_to_64_bit_code_only() {
    let mut m = machine();
    idt(&mut m, 0x82, gate(CODE0, 0x5000, 0x8e, 0));
    assert_eq!(m.run(&[0xcd, 0x82]), Err(gp(u32::from(CODE0))));
    idt(&mut m, 0x83, gate(CODE64, 0x5000, 0x8e, 0));
    m.put64(IDT + 16 * 0x83 + 8, 0x0001_0000);
    assert_eq!(m.run(&[0xcd, 0x83]), Err(gp(0)), "non-canonical target");
}

#[test]
fn iretq_makes_inner_segments_null_and_keeps_their_bases() {
    // SDM vol. 2, IRET: the selector becomes null. The base that the MSR gave stays, and 64-bit code sees it.
    let mut m = machine();
    let inner = Segment { base: 0x1_2000, limit: 0xffff, attrs: 0x93, selector: DATA0 };
    m.cpu.st.seg[seg::GS as usize] = inner;
    let sp = STACK - 40;
    let frame = [0x7000, u64::from(CODE64_3), 0x202, 0xa000, u64::from(DATA64_3)];
    for (k, v) in frame.iter().enumerate() {
        m.put64(sp + 8 * k as u64, *v);
    }
    *m.reg(reg::RSP) = sp;
    m.run(&[0x48, 0xcf]).unwrap();
    assert_eq!((m.cpu.st.cpl, m.sel(seg::GS)), (3, 0));
    assert_eq!(m.cpu.st.seg[seg::GS as usize].base, 0x1_2000);
    m.put32(0x1_2010, 0x5566_7788);
    // MOV EAX, GS:[10h]
    m.run(&[0x65, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0x5566_7788);
}

#[test]
fn iretq_to_a_non_canonical_rip() {
    let mut m = machine();
    let sp = STACK - 40;
    let frame = [NONCANONICAL, u64::from(CODE64_3), 0x202, 0xa000, u64::from(DATA64_3)];
    for (k, v) in frame.iter().enumerate() {
        m.put64(sp + 8 * k as u64, *v);
    }
    *m.reg(reg::RSP) = sp;
    assert_eq!(m.run(&[0x48, 0xcf]), Err(gp(0)));
    assert_eq!((m.cpu.st.cpl, *m.reg(reg::RSP)), (0, sp));
}

fn enable_syscall(m: &mut Machine) {
    let msr = &mut m.cpu.st.msr;
    msr.star = SYSRET << 48 | u64::from(CODE64) << 32;
    msr.lstar = 0x6000;
    msr.sfmask = rflags::IF | rflags::TF;
}

#[test]
fn syscall_and_sysret() {
    let mut m = machine();
    enable_syscall(&mut m);
    user(&mut m);
    m.cpu.st.flags |= rflags::IF;
    m.run(&[0x0f, 0x05]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl), (0x6000, 0));
    assert_eq!((m.sel(seg::CS), m.sel(seg::SS)), (CODE64, CODE64 + 8));
    assert_eq!((*m.reg(reg::RCX), *m.reg(11)), (CODE + 2, 0x202));
    assert_eq!(m.cpu.st.flags & rflags::IF, 0);
    assert_eq!(*m.reg(reg::RSP), 0xa004, "the stack is the kernel's business");
    m.run(&[0x48, 0x0f, 0x07]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl), (CODE + 2, 3));
    assert_eq!((m.sel(seg::CS), m.sel(seg::SS)), (CODE64_3, DATA64_3));
    assert!(m.cpu.st.mode.has(Mode::CODE64));
    assert_ne!(m.cpu.st.flags & rflags::IF, 0);
}

#[test]
fn sysret_rules() {
    let mut m = machine();
    enable_syscall(&mut m);
    *m.reg(reg::RCX) = NONCANONICAL;
    assert_eq!(m.run(&[0x48, 0x0f, 0x07]), Err(gp(0)));
    *m.reg(reg::RCX) = 0xffff_0000_1234;
    m.run(&[0x0f, 0x07]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0x1234, 0x63), "32-bit form");
    assert!(m.cpu.st.mode.has(Mode::CODE32) && !m.cpu.st.mode.has(Mode::CODE64));
    let mut m = machine();
    enable_syscall(&mut m);
    user(&mut m);
    assert_eq!(m.run(&[0x48, 0x0f, 0x07]), Err(gp(0)), "CPL 3");
    m.cpu.st.msr.efer &= !efer::SCE;
    assert_eq!(m.run(&[0x0f, 0x05]), Err(ud()));
}

#[test]
fn sysenter_and_sysexit() {
    let mut m = machine();
    user(&mut m);
    assert_eq!(m.run(&[0x0f, 0x34]), Err(gp(0)), "SYSENTER_CS is 0");
    let msr = &mut m.cpu.st.msr;
    (msr.sysenter_cs, msr.sysenter_esp, msr.sysenter_eip) = (u64::from(CODE64), 0x9000, 0x6000);
    m.run(&[0x0f, 0x34]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (0x6000, 0, 0x9000));
    *m.reg(reg::RDX) = 0x7000;
    *m.reg(reg::RCX) = 0xa000;
    m.run(&[0x48, 0x0f, 0x35]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::CS)), (0x7000, 3, CODE64_3));
}

#[test]
fn bases() {
    let mut m = machine();
    m.cpu.st.msr.kernel_gs_base = 0x1111;
    m.cpu.st.seg[5].base = 0x2222;
    m.run(&[0x0f, 0x01, 0xf8]).unwrap();
    assert_eq!((m.cpu.st.msr.kernel_gs_base, m.cpu.st.seg[5].base), (0x2222, 0x1111));
    *m.reg(reg::RAX) = 1 << 57;
    let wrgsbase = [0xf3, 0x48, 0x0f, 0xae, 0xd8];
    assert_eq!(m.run(&wrgsbase), Err(ud()), "CR4.FSGSBASE is clear");
    m.cpu.st.cr4 |= cr4::FSGSBASE;
    assert_eq!(m.run(&wrgsbase), Err(gp(0)));
    *m.reg(reg::RAX) = 0xffff_8000_0000_0000;
    m.run(&wrgsbase).unwrap();
    m.run(&[0xf3, 0x48, 0x0f, 0xae, 0xcb]).unwrap();
    assert_eq!(*m.reg(reg::RBX), 0xffff_8000_0000_0000);
}

#[test]
fn far_return_to_compatibility_mode() {
    let mut m = machine();
    m.put64(STACK - 16, 0x7000);
    m.put64(STACK - 8, u64::from(CODE0));
    *m.reg(reg::RSP) = STACK - 16;
    m.run(&[0x48, 0xcb]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::LONG | Mode::CODE32) && !m.cpu.st.mode.has(Mode::CODE64));
    // And back by a far jump, then leave IA-32e mode altogether.
    m.run(&[0xea, 0, 0x70, 0, 0, CODE64 as u8, 0]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::CODE64));
}

#[test]
fn null_stack_selector() {
    let mut m = machine();
    *m.reg(reg::RAX) = 0;
    m.run(&[0x8e, 0xd0]).unwrap();
    assert_eq!(m.sel(seg::SS), 0);
    *m.reg(reg::RAX) = 3;
    assert_eq!(m.run(&[0x8e, 0xd0]), Err(gp(0)));
}

#[test]
fn sixteen_byte_descriptors() {
    let mut m = machine();
    m.put64(GDT + 0x28, descriptor(0, 0x67, 0x89, 0));
    m.put64(GDT + 0x30, 0xffff_8000);
    *m.reg(reg::RAX) = 0x28;
    m.run(&[0x0f, 0x00, 0xd8]).unwrap();
    assert_eq!(m.cpu.st.tr.base, 0xffff_8000_0000_0000);
    m.put64(GDT + 0x28, descriptor(0, 0x67, 0x89, 0));
    m.put64(GDT + 0x30, 0x200_0000);
    assert_eq!(m.run(&[0x0f, 0x00, 0xd8]), Err(gp(0x28)), "non-canonical base");
}

#[test]
fn page_fault_sets_cr2() {
    let mut m = machine();
    idt(&mut m, 14, gate(CODE64, 0x5000, 0x8e, 0));
    *m.reg(reg::RAX) = 0x20_0000;
    // FXSAVE [RAX]
    let f = m.run(&[0x0f, 0xae, 0x00]).unwrap_err();
    assert_eq!((f.vector, f.code, f.info), (14, 2, 0x20_0000));
    *m.reg(reg::RSP) = STACK;
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!(m.cpu.st.cr2, 0x20_0000);
    assert_eq!(m.get64(STACK - 48), 2);
}

#[test]
fn page_fault_on_the_exception_stack_is_a_double_fault() {
    let mut m = machine();
    idt(&mut m, 14, gate(CODE64, 0x5000, 0x8e, 0));
    idt(&mut m, 8, gate(CODE64, 0x5800, 0x8e, 1));
    *m.reg(reg::RAX) = 0x20_0000;
    *m.reg(reg::RSP) = 0x40_0000;
    m.run(&[0x0f, 0xae, 0x00]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!(m.cpu.st.rip, 0x5800);
    assert_eq!(m.cpu.st.cr2, 0x3f_fff8);
    assert_eq!(m.get64(0xe000 - 40 - 8), 0);
}

#[test]
fn non_canonical_stack() {
    let mut m = machine();
    idt(&mut m, 3, gate(CODE64, 0x5000, 0xee, 0));
    *m.reg(reg::RSP) = NONCANONICAL + 0x1000;
    assert_eq!(m.run(&[0xcc]), Err(fault(12, 0)));
}
