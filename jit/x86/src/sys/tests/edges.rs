//! Rules that are easy to miss where two features meet: 16-bit stacks and TSSs, events that fail in a new task, accesses that
//! must be writes, and what a level does not open for the next one.

use super::long::{self, CODE64, PML4, STACK};
use super::protected::{self, CODE0, DATA0, DATA3, FREE, GDT, IDT, STACK0, TSS, TSS_SEL};
use super::registers::write_cr;
use super::tasks::{NEW, two_tasks};
use super::*;
use crate::state::{Segment, cr0, cr4};

/// A 16-bit writable data segment at [`FREE`], loaded into SS.
fn small_stack() -> Machine {
    let mut m = protected::machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xffff, 0x92, 0));
    *m.reg(reg::RAX) = u64::from(FREE);
    m.run(&[0x8e, 0xd0]).unwrap();
    m
}

#[test]
fn enter_keeps_all_of_esp_on_a_16_bit_stack() {
    // As hardware does: the frame pointer is ESP, of which only SP moves.
    let mut m = small_stack();
    *m.reg(reg::RSP) = 0x2_9000;
    *m.reg(reg::RBP) = 0x1234_8800;
    m.run(&[0xc8, 8, 0, 2]).unwrap();
    assert_eq!((*m.reg(reg::RBP), *m.reg(reg::RSP)), (0x2_8ffc, 0x2_8fec));
    assert_eq!((m.get32(0x8ffc), m.get32(0x8ff4)), (0x1234_8800, 0x2_8ffc));
    // LEAVE goes back by BP and pops what the operand size says.
    m.run(&[0xc9]).unwrap();
    assert_eq!((*m.reg(reg::RBP), *m.reg(reg::RSP)), (0x1234_8800, 0x2_9000));
    // 16-bit operands change BP only.
    m.run(&[0x66, 0xc8, 0, 0, 0]).unwrap();
    assert_eq!((*m.reg(reg::RBP), *m.reg(reg::RSP)), (0x1234_8ffe, 0x2_8ffe));
}

#[test]
fn a_16_bit_stack_wraps_and_keeps_the_upper_half() {
    let mut m = small_stack();
    *m.reg(reg::RSP) = 0xabcd_0000;
    *m.reg(reg::RAX) = 0x1122_3344;
    m.run(&[0x50]).unwrap();
    assert_eq!((*m.reg(reg::RSP), m.get32(0xfffc)), (0xabcd_fffc, 0x1122_3344));
    m.run(&[0x5b]).unwrap();
    assert_eq!((*m.reg(reg::RSP), *m.reg(reg::RBX)), (0xabcd_0000, 0x1122_3344));
    // A push that would cross the end does not wrap: #SS(0).
    *m.reg(reg::RSP) = 2;
    assert_eq!(m.run(&[0x50]), Err(fault(12, 0)));
    assert_eq!(*m.reg(reg::RSP), 2);
    // PUSH ESP pushes all 32 bits, POP ESP loads them.
    *m.reg(reg::RSP) = 0x7777_8000;
    m.run(&[0x54]).unwrap();
    assert_eq!(m.get32(0x7ffc), 0x7777_8000);
    m.put32(0x7ffc, 0x5555_6666);
    m.run(&[0x5c]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0x5555_6666);
}

#[test]
fn iret_to_a_16_bit_stack_leaves_the_upper_half() {
    let mut m = protected::machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xffff, 0xf2, 0));
    let sp = 0x1234_8800;
    for (k, v) in [0x7000, 0x1b, 2, 0xdead_a000, u32::from(FREE | 3)].iter().enumerate() {
        m.put32(0x8800 + 4 * k as u64, *v);
    }
    // A stack whose base makes the upper half visible.
    m.put64(GDT + 0x58, descriptor(0x0_0000u32.wrapping_sub(0x1234_0000), 0xf_ffff, 0x92, 0xc));
    *m.reg(reg::RAX) = 0x58;
    m.run(&[0x8e, 0xd0]).unwrap();
    *m.reg(reg::RSP) = sp;
    m.run(&[0xcf]).unwrap();
    assert_eq!((m.cpu.st.cpl, *m.reg(reg::RSP)), (3, 0x1234_a000));
}

#[test]
fn a_16_bit_tss_fills_the_upper_halves_with_ones() {
    let mut m = two_tasks();
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x2b, 0x81, 0));
    for at in (0..0x2c).step_by(4) {
        m.put32(NEW + at, 0);
    }
    m.put16(NEW + 0x0e, 0x7100);
    for k in 0..8 {
        m.put16(NEW + 0x12 + 2 * k, 0x1111 * (k as u16 + 1));
    }
    for (k, s) in [DATA0, CODE0, DATA0, DATA0].iter().enumerate() {
        m.put16(NEW + 0x22 + 2 * k as u64, *s);
    }
    (m.cpu.st.gpr[reg::RAX as usize], m.cpu.st.gpr[reg::RDI as usize]) = (0x1234_5678, 0x9abc_def0);
    m.run(&[0x9a, 0, 0, 0, 0, FREE as u8, 0]).unwrap();
    for r in 0..8u8 {
        assert_eq!(*m.reg(r), 0xffff_0000 | (0x1111 * (u64::from(r) + 1)), "register {r}");
    }
    assert_eq!((m.cpu.st.rip, m.sel(seg::FS), m.sel(seg::GS)), (0x7100, 0, 0));
    // And back: a 32-bit TSS restores all.
    m.put(0x7100, [0xcf]);
    m.step().unwrap();
    assert_eq!((*m.reg(reg::RAX), *m.reg(reg::RDI)), (0x1234_5678, 0x9abc_def0));
}

#[test]
fn what_fails_in_a_task_entered_by_an_exception() {
    // #UD (benign) through a task gate whose task has a bad DS: #TS names it with EXT, in the new task.
    let mut m = two_tasks();
    m.put64(IDT + 6 * 8, gate(FREE, 0, 0x85, 0));
    m.put64(IDT + 10 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    m.put64(IDT + 8 * 8, gate(CODE0, 0x5800, 0x8e, 0));
    m.put32(NEW + 0x54, u32::from(TSS_SEL));
    m.run(&[0x0f, 0x0b]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.tr.selector, m.cpu.st.rip), (FREE, 0x5000));
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.get32(sp), m.get32(sp + 4)), (u32::from(TSS_SEL) | 1, 0x7000));
    // #GP (contributory) and then #TS: a double fault, also in the new task.
    let mut m = two_tasks();
    m.put64(IDT + 13 * 8, gate(FREE, 0, 0x85, 0));
    m.put64(IDT + 10 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    m.put64(IDT + 8 * 8, gate(CODE0, 0x5800, 0x8e, 0));
    m.put32(NEW + 0x54, u32::from(TSS_SEL));
    *m.reg(reg::RAX) = 0x7c;
    m.run(&[0x8e, 0xd8]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.tr.selector, m.cpu.st.rip), (FREE, 0x5800));
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.get32(sp), m.get32(sp + 4)), (0, 0x7000));
    // By INT n there is neither EXT nor a double fault.
    let mut m = two_tasks();
    m.put64(IDT + 0x40 * 8, gate(FREE, 0, 0x85, 0));
    m.put64(IDT + 10 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    m.put32(NEW + 0x54, u32::from(TSS_SEL));
    m.run(&[0xcd, 0x40]).unwrap();
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.cpu.st.rip, m.get32(sp)), (0x5000, u32::from(TSS_SEL)));
}

#[test]
fn vex_encodings_are_undefined_in_real_mode() {
    // ANDN EAX, EAX, EAX; RORX EAX, EAX, 1; SHLX; VZEROUPPER: LES and LDS of a register to an 8086 program.
    let codes: [&[u8]; 4] = [
        &[0xc4, 0xe2, 0x78, 0xf2, 0xc0],
        &[0xc4, 0xe3, 0x7b, 0xf0, 0xc0, 1],
        &[0xc4, 0xe2, 0x79, 0xf7, 0xc0],
        &[0xc5, 0xf8, 0x77],
    ];
    for code in codes {
        let mut m = Machine::new();
        assert_eq!(m.run(code), Err(ud()), "{code:x?}, real mode");
        let mut m = protected::machine();
        write_cr(&mut m, 4, cr4::OSXSAVE | cr4::OSFXSR).unwrap();
        m.cpu.st.xcr0 = 7;
        m.cpu.mode_changed();
        assert_eq!(m.run(code), Ok(()), "{code:x?}, protected mode");
        m.cpu.st.flags |= rflags::VM;
        m.cpu.st.cpl = 3;
        m.cpu.mode_changed();
        m.cpu.st.seg[seg::CS as usize] = segment::vm86_segment(0);
        m.cpu.mode_changed();
        assert_eq!(m.run(code), Err(ud()), "{code:x?}, virtual-8086 mode");
    }
}

#[test]
fn a_code_breakpoint_after_mov_ss_is_suppressed() {
    let mut m = protected::machine();
    m.put64(IDT + 8, gate(CODE0, 0x5000, 0x8e, 0));
    m.code(&[0x8e, 0xd0, 0x90, 0x90]);
    *m.reg(reg::RAX) = u64::from(DATA0);
    (m.cpu.st.dr[0], m.cpu.st.dr[7]) = (CODE + 2, 0x401);
    m.cpu.load_state_changed();
    m.go();
    m.go();
    assert_eq!((m.cpu.st.rip, m.cpu.st.dr[6] & 15), (CODE + 3, 0));
    // Without MOV SS before it, it is taken.
    m.cpu.st.rip = CODE + 2;
    m.go();
    assert_eq!((m.cpu.st.rip, m.cpu.st.dr[6] & 15), (0x5000, 1));
}

/// 64-bit mode with 4 KiB pages for the first 2 MiB; the page at `page` has the flags `flags`.
fn paged(page: u64, flags: u64) -> Machine {
    let mut m = long::machine();
    m.put64(PML4 + 0x2000, (PML4 + 0x3000) | 7);
    for k in 0..256 {
        m.put64(PML4 + 0x3000 + 8 * k, k << 12 | 7);
    }
    m.put64(PML4 + 0x3000 + (page >> 9), page | flags);
    m.cpu.load_state_changed();
    m
}

fn entry(m: &Machine, page: u64) -> u64 {
    m.get64(PML4 + 0x3000 + (page >> 9))
}

const PAGE: u64 = 0x4_0000;

fn pf(code: u32, at: u64) -> Fault {
    Fault { vector: 14, has_code: true, code, info: at }
}

#[test]
fn compares_that_fail_write_too() {
    // SDM vol. 2, CMPXCHG: "the destination operand is written regardless of the result".
    for code in [
        &[0x0f, 0xb1, 0x0b][..],
        &[0xf0, 0x0f, 0xb1, 0x0b],
        &[0x0f, 0xc7, 0x0b],
        &[0xf0, 0x0f, 0xc7, 0x0b],
        &[0x48, 0x0f, 0xc7, 0x0b],
        &[0x0f, 0xb0, 0x0b],
    ] {
        let mut m = paged(PAGE, 5);
        *m.reg(reg::RAX) = 1;
        *m.reg(reg::RBX) = PAGE;
        assert_eq!(m.run(code), Err(pf(3, PAGE)), "{code:x?}");
        assert_eq!((*m.reg(reg::RAX), entry(&m, PAGE) & 0x60), (1, 0), "{code:x?}: nothing happened");
        let mut m = paged(PAGE, 7);
        *m.reg(reg::RAX) = 1;
        *m.reg(reg::RBX) = PAGE;
        m.run(code).unwrap();
        assert_eq!(entry(&m, PAGE) & 0x60, 0x60, "{code:x?}: dirty");
    }
    let mut m = paged(PAGE, 7);
    *m.reg(reg::RBX) = PAGE + 8;
    assert_eq!(m.run(&[0x48, 0x0f, 0xc7, 0x0b]), Err(gp(0)), "CMPXCHG16B wants 16-byte alignment");
    assert_eq!(m.run(&[0xf0, 0x48, 0x0f, 0xc7, 0x0b]), Err(gp(0)));
}

#[test]
fn accesses_that_cross_into_a_bad_page() {
    // CR2 is the first byte that cannot be accessed; nothing is written before.
    for (flags, code) in [(0, 2), (5, 3)] {
        let mut m = paged(PAGE, flags);
        *m.reg(reg::RBX) = PAGE - 3;
        *m.reg(reg::RAX) = u64::MAX;
        assert_eq!(m.run(&[0x48, 0x89, 0x03]), Err(pf(code, PAGE)));
        assert_eq!(m.get32(PAGE - 4), 0);
        assert_eq!(m.run(&[0xf0, 0x48, 0x01, 0x03]).map_err(|f| f.info), Err(PAGE));
        assert_eq!(m.get32(PAGE - 4), 0);
    }
    let mut m = paged(PAGE, 0);
    *m.reg(reg::RBX) = PAGE - 3;
    assert_eq!(m.run(&[0x48, 0x8b, 0x03]), Err(pf(0, PAGE)));
    *m.reg(reg::RSP) = PAGE + 4;
    assert_eq!(m.run(&[0x50]), Err(pf(2, PAGE)), "PUSH");
    assert_eq!(*m.reg(reg::RSP), PAGE + 4);
    // FXSAVE over both pages: the second is found out first.
    *m.reg(reg::RBX) = PAGE - 256;
    assert_eq!(m.run(&[0x0f, 0xae, 0x03]), Err(pf(2, PAGE)));
    assert_eq!(m.get64(PAGE - 256), 0);
}

#[test]
fn tables_are_read_as_supervisor_from_level_3() {
    // A GDT on a supervisor page serves level 3; where it is absent, the fault is no user fault.
    let mut m = paged(GDT, 3);
    long::user(&mut m);
    *m.reg(reg::RAX) = u64::from(DATA3);
    m.run(&[0x8e, 0xd8]).unwrap();
    let mut m = paged(GDT, 0);
    long::user(&mut m);
    *m.reg(reg::RAX) = u64::from(DATA3);
    assert_eq!(m.run(&[0x8e, 0xd8]), Err(pf(0, GDT + 0x20)));
    // On a read-only page a descriptor's accessed bit cannot be set: a supervisor write, with CR0.WP.
    let mut m = paged(GDT, 1);
    long::user(&mut m);
    *m.reg(reg::RAX) = u64::from(DATA3);
    assert_eq!(m.run(&[0x8e, 0xd8]), Err(pf(3, GDT + 0x25)));
    // One that is set already is not written.
    m.put64(GDT + 0x20, descriptor(0, 0xf_ffff, 0xf3, 0xc));
    m.run(&[0x8e, 0xd8]).unwrap();
}

#[test]
fn a_programs_ac_does_not_open_the_handlers_stack() {
    // SDM vol. 3, 4.6.1: under SMAP, entering the kernel on a user page is #PF, then a double fault on an IST stack.
    let mut m = paged(STACK - 0x1000, 7);
    long::idt(&mut m, 6, gate(CODE64, 0x5000, 0x8e, 0));
    long::idt(&mut m, 14, gate(CODE64, 0x5800, 0x8e, 1));
    for page in [IDT, IDT + 0x1000, GDT, TSS, 0xe000, 0xd000, 0x5000] {
        m.put64(PML4 + 0x3000 + (page >> 9), page | 3);
    }
    write_cr(&mut m, 4, cr4::PAE | cr4::SMAP).unwrap();
    long::user(&mut m);
    m.cpu.st.flags |= rflags::AC;
    m.cpu.load_state_changed();
    m.run(&[0x0f, 0x0b]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cr2), (0x5800, STACK - 8));
    assert_eq!(m.get64(0xe000 - 48), 3, "a supervisor write to a present page");
}

#[test]
fn a_page_fault_while_a_fault_is_delivered() {
    // #GP then #PF (table 6-5): serial. #PF then #PF: double.
    let serial = |vector: u8| {
        let mut m = paged(STACK - 0x1000, 0);
        long::idt(&mut m, vector, gate(CODE64, 0x5000, 0x8e, 0));
        if vector != 14 {
            long::idt(&mut m, 14, gate(CODE64, 0x5800, 0x8e, 1));
        }
        long::idt(&mut m, 8, gate(CODE64, 0x6000, 0x8e, 1));
        *m.reg(reg::RSP) = STACK;
        m
    };
    let mut m = serial(13);
    *m.reg(reg::RAX) = long::NONCANONICAL;
    m.run(&[0x48, 0x8b, 0x00]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cr2, m.get64(0xe000 - 48)), (0x5800, STACK - 8, 2));
    assert_eq!(m.get64(0xe000 - 40), CODE, "RIP is that of the first fault's instruction");
    let mut m = serial(14);
    *m.reg(reg::RAX) = 0x20_0000;
    m.run(&[0x48, 0x8b, 0x00]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cr2), (0x6000, STACK - 8));
}

#[test]
fn types_that_lar_and_lsl_know() {
    // SDM vol. 2, LAR and LSL, tables 3-50 and 3-53.
    let legacy_lar = [1, 2, 3, 4, 5, 9, 11, 12];
    let legacy_lsl = [1, 2, 3, 9, 11];
    let (long_lar, long_lsl) = ([2, 9, 11, 12], [2, 9, 11]);
    for is_long in [false, true] {
        for kind in 0..16u8 {
            let mut m = if is_long { long::machine() } else { protected::machine() };
            m.put64(GDT + 0x30, descriptor(0x1_0000, 0x123, 0x80 | kind, 0));
            m.put64(GDT + 0x38, 0);
            for (op, valid) in [
                (2, if is_long { long_lar.contains(&kind) } else { legacy_lar.contains(&kind) }),
                (3, if is_long { long_lsl.contains(&kind) } else { legacy_lsl.contains(&kind) }),
            ] {
                *m.reg(reg::RCX) = 0x30;
                *m.reg(reg::RAX) = 0x5555;
                m.run(&[0x0f, op, 0xc1]).unwrap();
                let zf = m.cpu.rflags() & rflags::ZF != 0;
                assert_eq!(zf, valid, "0F {op:02x}, type {kind}, long {is_long}");
                if !valid {
                    assert_eq!(*m.reg(reg::RAX), 0x5555, "unchanged");
                }
            }
        }
    }
}

#[test]
fn the_io_map_ends_with_the_tss() {
    // SDM vol. 1, 19.5.2: two bytes are read always, so that the last byte of the map must be followed by one more.
    let mut m = protected::user();
    m.put16(TSS + 0x66, 0x68);
    m.put(TSS + 0x68, [0, 0, 0, 0]);
    let with_limit = |m: &mut Machine, limit: u32| m.cpu.st.tr.limit = limit;
    with_limit(&mut m, 0x69);
    m.run(&[0xe4, 7]).unwrap();
    assert_eq!(m.run(&[0xe4, 8]), Err(gp(0)), "its second byte is beyond");
    with_limit(&mut m, 0x68);
    assert_eq!(m.run(&[0xe4, 7]), Err(gp(0)));
    with_limit(&mut m, 0x6a);
    m.run(&[0x66, 0xe5, 7]).unwrap();
    m.put(TSS + 0x69, [1]);
    assert_eq!(m.run(&[0x66, 0xe5, 7]), Err(gp(0)), "port 8 is denied");
    m.run(&[0xe4, 7]).unwrap();
    // The map's base may lie anywhere, in the TSS itself too.
    m.put16(TSS + 0x66, 0);
    m.put32(TSS, 0);
    m.run(&[0xe4, 3]).unwrap();
    m.put16(TSS + 0x66, 0xffff);
    assert_eq!(m.run(&[0xe4, 3]), Err(gp(0)));
    // A 16-bit TSS has none.
    m.cpu.st.tr.attrs = 0x83;
    assert_eq!(m.run(&[0xe4, 3]), Err(gp(0)));
}

#[test]
fn interrupts_that_cannot_be_delivered_name_their_gate() {
    let mut m = protected::machine();
    m.cpu.st.idtr.limit = 0x40 * 8 + 6;
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0x40 * 8 + 2)), "its last byte is beyond the limit");
    m.cpu.st.idtr.limit += 1;
    m.put64(IDT + 0x40 * 8, gate(CODE0, 0x5000, 0x0e, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(fault(11, 0x40 * 8 + 2)), "not present");
    m.put64(IDT + 0x40 * 8, gate(CODE0, 0x5000, 0x8c, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0x40 * 8 + 2)), "a call gate");
    m.put64(IDT + 0x40 * 8, gate(0, 0x5000, 0x8e, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0)), "a null selector");
    m.put64(IDT + 0x40 * 8, gate(DATA0, 0x5000, 0x8e, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(u32::from(DATA0))), "data");
    m.put64(IDT + 0x40 * 8, gate(0x1004, 0x5000, 0x8e, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0x1004)), "no LDT; the TI bit is part of the code");
    // From level 3: the gate's DPL for INT n and INT3, not for exceptions.
    let mut m = protected::user();
    m.put64(IDT + 3 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    m.put64(IDT + 6 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    assert_eq!(m.run(&[0xcc]), Err(gp(3 * 8 + 2)));
    m.run(&[0x0f, 0x0b]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.cpl, m.cpu.st.rip), (0, 0x5000));
}

#[test]
fn stacks_of_the_tss_are_checked_as_such() {
    // SDM vol. 2, INT: #TS with the stack's selector (its TI and index), EXT for exceptions.
    let with = |ss: u16, d: Option<u64>| {
        let mut m = protected::user();
        m.put64(IDT + 0x40 * 8, gate(CODE0, 0x5000, 0xee, 0));
        m.put64(IDT + 6 * 8, gate(CODE0, 0x5000, 0x8e, 0));
        m.put64(IDT + 10 * 8, gate(CODE0, 0x5800, 0x8e, 0));
        m.put16(TSS + 8, ss);
        if let Some(d) = d {
            m.put64(GDT + u64::from(FREE), d);
        }
        m
    };
    for (what, ss, d, expected) in [
        ("null", 0, None, fault(10, 0)),
        ("RPL 3", DATA0 | 3, None, fault(10, u32::from(DATA0))),
        ("DPL 3", DATA3 & !3, None, fault(10, u32::from(DATA3 & !3))),
        ("code", CODE0, None, fault(10, u32::from(CODE0))),
        ("read-only", FREE, Some(descriptor(0, 0xf_ffff, 0x90, 0xc)), fault(10, u32::from(FREE))),
        ("absent", FREE, Some(descriptor(0, 0xf_ffff, 0x12, 0xc)), fault(12, u32::from(FREE))),
        ("beyond the table", 0x1000, None, fault(10, 0x1000)),
        ("too small", FREE, Some(descriptor(0, 0xff, 0x92, 4)), fault(12, u32::from(FREE))),
    ] {
        let mut m = with(ss, d);
        assert_eq!(m.run(&[0xcd, 0x40]), Err(expected), "{what}");
        assert_eq!((m.cpu.st.cpl, m.sel(seg::SS)), (3, DATA3), "{what}: nothing changed");
    }
    // A TSS that ends before SS0.
    let mut m = with(DATA0, None);
    m.cpu.st.tr.limit = 8;
    assert_eq!(m.run(&[0xcd, 0x40]), Err(fault(10, u32::from(TSS_SEL))));
    m.cpu.st.tr.limit = 9;
    m.run(&[0xcd, 0x40]).unwrap();
    assert_eq!(*m.reg(reg::RSP), u64::from(STACK0) - 20);
}

#[test]
fn registers_at_reset_follow_the_model() {
    for (model, value) in [("386", cr0::ET), ("486", 0x6000_0010), ("max", 0x6000_0010)] {
        let mut m = Machine::new();
        m.cpu.model = CpuModel::by_name(model).expect("a model");
        m.cpu.power_on();
        assert_eq!(m.cpu.st.cr0, value, "{model}");
    }
}

#[test]
fn returns_drop_segments_of_the_inner_level_only() {
    // DS with DPL 0, ES with DPL 3, FS conforming, GS null: after IRET to level 3 only DS is gone.
    let mut m = protected::machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xf_ffff, 0x9e, 0xc));
    for (modrm, selector) in [(0xd8, DATA0), (0xc0, DATA3), (0xe0, FREE), (0xe8, 0)] {
        *m.reg(reg::RAX) = u64::from(selector);
        m.run(&[0x8e, modrm]).unwrap();
    }
    for (k, v) in [0x7000, 0x1b, 2, 0xa000, u32::from(DATA3)].iter().enumerate() {
        m.put32(0x8800 + 4 * k as u64, *v);
    }
    *m.reg(reg::RSP) = 0x8800;
    m.run(&[0xcf]).unwrap();
    assert_eq!([seg::DS, seg::ES, seg::FS, seg::GS].map(|s| m.sel(s)), [0, DATA3, FREE, 0]);
    assert_eq!(m.cpu.st.seg[seg::FS as usize].attrs & Segment::P, Segment::P);
}

#[test]
fn a_task_state_segment_is_known_to_the_gdt_only() {
    let mut m = two_tasks();
    m.put64(0xc000, descriptor(NEW as u32, 0x67, 0x89, 0));
    m.cpu.st.ldtr = Segment { base: 0xc000, limit: 0xff, attrs: 0x82, selector: 0x30 };
    assert_eq!(m.run(&[0xea, 0, 0, 0, 0, 4, 0]), Err(gp(4)));
    // A task gate may stand in the LDT.
    m.put64(0xc000, gate(FREE, 0, 0x85, 0));
    m.run(&[0xea, 0, 0, 0, 0, 4, 0]).unwrap();
    assert_eq!(m.cpu.st.tr.selector, FREE);
}

#[test]
fn who_writes_code_leaves_the_block_also_if_another_vcpu_has_dealt_with_it() {
    let mut m = Machine::new();
    m.cpu.mmu.space().track_code(softmmu::RamPage(3), 1);
    m.cpu.mmu.write(0x3008, 1u8).expect("in RAM");
    m.cpu.mmu.space().take_code_writes(&mut Vec::new());
    m.cpu.check_code_write();
    assert_eq!(m.cpu.st.stop, stop::AFTER);
}
