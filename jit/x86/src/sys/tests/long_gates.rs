//! Gates, returns and stacks of IA-32e mode (SDM vol. 3, 5.8.3.1 and 6.14; vol. 2, IRET, RET): what is checked, and in what order.

use super::long::{CODE64, NONCANONICAL, STACK, idt, machine, user};
use super::protected::{CODE0, DATA0, DATA3, GDT, IDT, TSS, TSS_SEL};
use super::*;
use crate::state::Segment;

/// Level-3 64-bit code and its stack, as `long` lays them out.
const CODE64_3: u16 = 0x73;
const STACK_3: u16 = 0x6b;
/// A free pair of slots for a 16-byte call gate.
const GATE: u16 = 0x30;
/// Where far pointers are read.
const POINTER: u64 = 0x2_1000;

fn call_gate(m: &mut Machine, target: u16, offset: u64, access: u8) {
    m.put64(GDT + u64::from(GATE), gate(target, offset as u32, access, 0));
    m.put64(GDT + u64::from(GATE) + 8, offset >> 32);
    m.put32(POINTER, 0xdead_beef);
    m.put16(POINTER + 4, GATE | 3);
    *m.reg(reg::RBX) = POINTER;
}

const CALL: [u8; 2] = [0xff, 0x1b];
const JMP: [u8; 2] = [0xff, 0x2b];

#[test]
fn a_call_gate_to_an_inner_level() {
    let mut m = machine();
    user(&mut m);
    call_gate(&mut m, CODE64, 0x6000, 0xec);
    m.put64(TSS + 4, STACK - 4);
    m.run(&CALL).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::CS)), (0x6000, 0, CODE64));
    assert_eq!((m.sel(seg::SS), m.cpu.st.seg[seg::SS as usize].attrs & Segment::P), (0, 0), "a null SS");
    let sp = *m.reg(reg::RSP);
    assert_eq!(sp, STACK - 4 - 32, "call gates do not align the stack");
    let frame = [0, 8, 16, 24].map(|k| m.get64(sp + k));
    assert_eq!(frame, [CODE + 2, u64::from(CODE64_3), 0xa004, u64::from(STACK_3)]);
    // RETFQ goes back.
    m.run(&[0x48, 0xcb]).unwrap();
    assert_eq!(
        (m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP), m.sel(seg::SS)),
        (CODE + 2, 3, 0xa004, STACK_3)
    );
}

#[test]
fn call_gates_are_checked() {
    let mut m = machine();
    user(&mut m);
    for (what, target, offset, access, expected) in [
        ("32-bit code", CODE0, 0x6000, 0xec, gp(u32::from(CODE0))),
        ("data", DATA0, 0x6000, 0xec, gp(u32::from(DATA0))),
        ("null", 0, 0x6000, 0xec, gp(0)),
        ("beyond the table", 0x1000, 0x6000, 0xec, gp(0x1000)),
        ("not canonical", CODE64, NONCANONICAL, 0xec, gp(0)),
        ("DPL 0", CODE64, 0x6000, 0x8c, gp(u32::from(GATE))),
        ("absent", CODE64, 0x6000, 0x6c, fault(11, u32::from(GATE))),
        ("a 16-bit gate", CODE64, 0x6000, 0xe4, gp(u32::from(GATE))),
        ("a task gate", CODE64, 0x6000, 0xe5, gp(u32::from(GATE))),
        ("an available TSS", CODE64, 0x6000, 0xe9, gp(u32::from(GATE))),
    ] {
        call_gate(&mut m, target, offset, access);
        assert_eq!(m.run(&CALL), Err(expected), "{what}");
        assert_eq!((m.cpu.st.cpl, m.sel(seg::CS)), (3, CODE64_3), "{what}");
    }
    call_gate(&mut m, CODE64, 0x6000, 0xec);
    assert_eq!(m.run(&JMP), Err(gp(u32::from(CODE64))), "JMP does not change the level");
    // The upper half's type must be 0, and it must lie in the table.
    m.put64(GDT + u64::from(GATE) + 8, 0x0000_0c00_0000_0000);
    assert_eq!(m.run(&CALL), Err(gp(u32::from(GATE))));
    m.put64(GDT + u64::from(GATE) + 8, 0);
    m.cpu.st.gdtr.limit = GATE + 7;
    assert_eq!(m.run(&CALL), Err(gp(u32::from(GATE))));
    // The TSS must hold RSP0; the stack must be canonical.
    let mut m = machine();
    user(&mut m);
    call_gate(&mut m, CODE64, 0x6000, 0xec);
    m.cpu.st.tr.limit = 10;
    assert_eq!(m.run(&CALL), Err(fault(10, u32::from(TSS_SEL))));
    m.cpu.st.tr.limit = 11;
    m.put64(TSS + 4, NONCANONICAL + 64);
    assert_eq!(m.run(&CALL), Err(fault(12, 0)));
}

#[test]
fn interrupts_align_the_stack_whatever_the_level() {
    for level in [0, 3] {
        for ist in [0, 1] {
            let mut m = machine();
            idt(&mut m, 0x40, gate(CODE64, 0x5000, 0xee, ist));
            m.put64(TSS + 4, STACK + 5);
            m.put64(TSS + 0x24, 0xe00f);
            if level == 3 {
                user(&mut m);
            }
            *m.reg(reg::RSP) = 0xa007;
            let (cs, ss) = (u64::from(m.sel(seg::CS)), u64::from(m.sel(seg::SS)));
            m.run(&[0xcd, 0x40]).unwrap();
            let top = match (level, ist) {
                (_, 1) => 0xe000,
                (3, _) => STACK,
                _ => 0xa000,
            };
            let sp = *m.reg(reg::RSP);
            assert_eq!(sp, top - 40, "level {level}, IST {ist}");
            let frame = [0, 8, 24, 32].map(|k| m.get64(sp + k));
            assert_eq!(frame, [CODE + 2, cs, 0xa007, ss], "level {level}, IST {ist}");
            assert_eq!(m.sel(seg::SS), if level == 3 { 0 } else { ss as u16 }, "null only with the level");
        }
    }
    // An IST entry beyond the TSS's limit.
    let mut m = machine();
    idt(&mut m, 0x40, gate(CODE64, 0x5000, 0xee, 7));
    m.cpu.st.tr.limit = 0x5a;
    assert_eq!(m.run(&[0xcd, 0x40]), Err(fault(10, u32::from(TSS_SEL))));
    m.cpu.st.tr.limit = 0x5b;
    m.put64(TSS + 0x54, 0xd000);
    m.run(&[0xcd, 0x40]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0xd000 - 40);
}

#[test]
fn a_conforming_handler_keeps_level_3() {
    let mut m = machine();
    m.put64(GDT + 0x30, descriptor(0, 0xf_ffff, 0x9e, 0xa));
    idt(&mut m, 0x40, gate(0x30, 0x5000, 0xee, 0));
    user(&mut m);
    m.run(&[0xcd, 0x40]).unwrap();
    assert_eq!((m.cpu.st.cpl, m.sel(seg::CS), m.sel(seg::SS)), (3, 0x33, STACK_3));
    assert_eq!(*m.reg(reg::RSP), 0xa000 - 40);
}

#[test]
fn gates_of_other_kinds_and_widths() {
    let mut m = machine();
    for (access, selector, expected) in [
        (0x85, CODE64, gp(0x40 * 8 + 2)),
        (0x86, CODE64, gp(0x40 * 8 + 2)),
        (0x8c, CODE64, gp(0x40 * 8 + 2)),
        (0x0e, CODE64, fault(11, 0x40 * 8 + 2)),
        (0x8e, CODE0, gp(u32::from(CODE0))),
        (0x8e, 0, gp(0)),
    ] {
        idt(&mut m, 0x40, gate(selector, 0x5000, access, 0));
        assert_eq!(m.run(&[0xcd, 0x40]), Err(expected), "{access:#x}, {selector:#x}");
    }
    idt(&mut m, 0x40, gate(CODE64, 0x5000, 0x8e, 0));
    m.put64(IDT + 0x400 + 8, 0x8000);
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0)), "a target that is not canonical");
    m.cpu.st.idtr.limit = 0x40e;
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0x40 * 8 + 2)), "its 16 bytes must lie in the table");
}

/// IRET (`prefix`: 48h for IRETQ) with this frame on the stack.
fn iret(m: &mut Machine, code: &[u8], frame: [u64; 5]) -> Result<(), Fault> {
    let step = if code.len() == 2 { 8 } else { 4 };
    for (k, v) in frame.iter().enumerate() {
        if step == 8 {
            m.put64(0x8800 + 8 * k as u64, *v);
        } else {
            m.put32(0x8800 + 4 * k as u64, *v as u32);
        }
    }
    *m.reg(reg::RSP) = 0x8800;
    m.run(code)
}

#[test]
fn iret_checks_its_frame() {
    const Q: [u8; 2] = [0x48, 0xcf];
    let (c0, c3, s0, s3) = (u64::from(CODE64), u64::from(CODE64_3), u64::from(DATA0), u64::from(STACK_3));
    let compat = 0x63;
    for (what, frame, expected) in [
        ("to level 3 with a null SS", [0x7000, c3, 2, 0xa000, 0], gp(0)),
        ("to level 3 with a null SS, RPL 3", [0x7000, c3, 2, 0xa000, 3], gp(0)),
        ("SS of another RPL", [0x7000, c3, 2, 0xa000, s0], gp(s0 as u32)),
        ("SS of another DPL", [0x7000, c0, 2, 0xa000, s3 & !3], gp(s3 as u32 & !3)),
        ("a null CS", [0x7000, 0, 2, 0xa000, s0], gp(0)),
        ("data for CS", [0x7000, s0, 2, 0xa000, s0], gp(s0 as u32)),
        ("RPL 3, DPL 0", [0x7000, c0 | 3, 2, 0xa000, s3], gp(c0 as u32)),
        ("RPL 0, DPL 3", [0x7000, c3 & !3, 2, 0xa000, s0], gp(c3 as u32 & !3)),
        ("32-bit code with a null SS", [0x7000, u64::from(CODE0), 2, 0xa000, 0], gp(0)),
        ("not canonical", [NONCANONICAL, c0, 2, 0xa000, s0], gp(0)),
    ] {
        let mut m = machine();
        assert_eq!(iret(&mut m, &Q, frame), Err(expected), "{what}");
        assert_eq!((m.cpu.st.cpl, *m.reg(reg::RSP)), (0, 0x8800), "{what}");
    }
    // A null SS is fine for 64-bit code of level 0; SS:RSP are popped although the level stays.
    let mut m = machine();
    iret(&mut m, &Q, [0x7000, c0, 2, 0xa123, 0]).unwrap();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RSP), m.sel(seg::SS)), (0x7000, 0xa123, 0));
    // IRETD in 64-bit mode pops five doublewords.
    let mut m = machine();
    iret(&mut m, &[0xcf], [0x7000, c0, 2, 0xa123, s0]).unwrap();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RSP), m.sel(seg::SS)), (0x7000, 0xa123, DATA0));
    // To compatibility mode: RSP is truncated to ESP by a big stack segment. VM and reserved flags are not loaded.
    let mut m = machine();
    iret(&mut m, &Q, [0x7000, compat, 0x2_0002, 0x1_2345_a000, s3]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::CODE32) && !m.cpu.st.mode.has(Mode::VM86));
    assert_eq!((m.cpu.st.cpl, *m.reg(reg::RSP), m.cpu.st.flags & rflags::VM), (3, 0x2345_a000, 0));
    // NT is an error in IA-32e mode.
    let mut m = machine();
    m.cpu.st.flags |= rflags::NT;
    assert_eq!(iret(&mut m, &Q, [0x7000, c0, 2, 0xa123, s0]), Err(gp(0)));
}

#[test]
fn flags_that_iret_may_change() {
    // SDM vol. 2, IRET: IOPL at level 0 only, IF by IOPL, never VIP and VIF from outside.
    let all = 0x3f_7fd5;
    for (cpl, iopl, may) in [(0u8, 0u64, 0x3c_7fd5u64), (3, 3, 0x24_4fd5), (3, 0, 0x24_4dd5)] {
        let mut m = machine();
        m.put64(GDT + 0x70, descriptor(0, 0xf_ffff, 0xfa, 0xa));
        if cpl == 3 {
            user(&mut m);
        }
        m.cpu.set_rflags(2 | iopl << 12);
        let (cs, ss) = if cpl == 3 { (CODE64_3, STACK_3) } else { (CODE64, DATA0) };
        iret(&mut m, &[0x48, 0xcf], [0x7000, cs.into(), all, 0xa000, ss.into()]).unwrap();
        let now = m.cpu.rflags();
        assert_eq!(now & !0x1_0000, 2 | iopl << 12 | may, "CPL {cpl}, IOPL {iopl}");
    }
}

#[test]
fn compatibility_mode_has_segments_again() {
    let mut m = machine();
    // In 64-bit code DS may be anything...
    *m.reg(reg::RAX) = 0;
    m.run(&[0x8e, 0xd8]).unwrap();
    *m.reg(reg::RBX) = 0x8000;
    m.run(&[0x8b, 0x03]).unwrap();
    m.put64(GDT + 0x30, descriptor(0, 0xff, 0x92, 4));
    *m.reg(reg::RAX) = 0x30;
    m.run(&[0x8e, 0xc0]).unwrap();
    m.run(&[0x26, 0x8b, 0x03]).unwrap();
    // ... in 32-bit code it has to be good.
    m.put64(STACK - 16, 0x7000);
    m.put64(STACK - 8, u64::from(CODE0));
    *m.reg(reg::RSP) = STACK - 16;
    m.run(&[0x48, 0xcb]).unwrap();
    assert_eq!(m.run(&[0x8b, 0x03]), Err(gp(0)));
    assert_eq!(m.run(&[0x26, 0x8b, 0x03]), Err(gp(0)));
    m.run(&[0x36, 0x8b, 0x03]).unwrap();
    *m.reg(reg::RAX) = 0;
    assert_eq!(m.run(&[0x8e, 0xd0]), Err(gp(0)), "nor is a null SS allowed");
    // REX prefixes are INC and DEC.
    *m.reg(reg::RAX) = 1;
    m.run(&[0x40]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 2);
}

#[test]
fn far_returns_release_both_stacks() {
    let mut m = machine();
    let sp = 0x8800;
    for (k, v) in [0x7000, u64::from(CODE64_3), 0xdead, 0xdead, 0xa000, u64::from(STACK_3)].iter().enumerate()
    {
        m.put64(sp + 8 * k as u64, *v);
    }
    *m.reg(reg::RSP) = sp;
    m.run(&[0x48, 0xca, 16, 0]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (0x7000, 3, 0xa010));
    // The 32-bit form from 64-bit mode.
    let mut m = machine();
    for (k, v) in [0x7000, u32::from(CODE64_3), 0xa000, u32::from(DATA3)].iter().enumerate() {
        m.put32(sp + 4 * k as u64, *v);
    }
    *m.reg(reg::RSP) = sp;
    m.run(&[0xcb]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (0x7000, 3, 0xa000));
}

#[test]
fn stack_faults_of_addresses_that_are_not_canonical() {
    // SDM vol. 1, 3.3.7.1: #SS(0) for RSP- and RBP-based operands, #GP(0) for the others; An FS or GS prefix makes it #GP.
    let mut m = machine();
    for r in [reg::RSP, reg::RBP, reg::RAX] {
        *m.reg(r) = NONCANONICAL + 0x100;
    }
    for (code, vector) in [
        (&[0x48, 0x8b, 0x4d, 0][..], 12),
        (&[0x48, 0x8b, 0x0c, 0x24], 12),
        (&[0x48, 0x8b, 0x08], 13),
        (&[0x3e, 0x48, 0x8b, 0x4d, 0], 12),
        (&[0x65, 0x48, 0x8b, 0x4d, 0], 13),
        (&[0x50], 12),
        (&[0x58], 12),
        (&[0xc3], 12),
        (&[0x9c], 12),
        (&[0xc8, 0, 0, 0], 12),
        (&[0xc9], 12),
        (&[0xff, 0xd0], 13),
        (&[0xff, 0xe0], 13),
    ] {
        assert_eq!(m.run(code), Err(fault(vector, 0)), "{code:x?}");
    }
    // An operand whose last byte only is beyond.
    *m.reg(reg::RAX) = NONCANONICAL - 4;
    assert_eq!(m.run(&[0x48, 0x8b, 0x08]), Err(gp(0)));
}

#[test]
fn from_64_bit_to_compatibility_mode_the_stack_pointer_has_32_bits() {
    let mut m = machine();
    user(&mut m);
    // 32-bit code at 60h. CALL m16:32 [rbx] pushes by ESP already; the register keeps its upper half.
    m.put32(POINTER, 0x6000);
    m.put16(POINTER + 4, 0x63);
    *m.reg(reg::RBX) = POINTER;
    *m.reg(reg::RSP) = 0x5555_0000_a004;
    m.run(&[0xff, 0x1b]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), *m.reg(reg::RSP)), (0x6000, 0x63, 0x9ffc));
    assert_eq!((m.get32(0x9ffc), m.get32(0xa000)), (CODE as u32 + 2, u32::from(CODE64_3)));
    // What interrupts 32-bit code finds no upper half.
    *m.reg(reg::RSP) = 0xffff_ffff_0000_a000;
    idt(&mut m, 0x80, gate(CODE64, 0x5000, 0xee, 0));
    m.run(&[0xcd, 0x80]).unwrap();
    let sp = *m.reg(reg::RSP);
    assert_eq!(m.get64(sp + 24), 0xa000);
}
