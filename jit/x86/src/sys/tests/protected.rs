//! 32-bit protected mode: segments, gates, privilege changes, virtual-8086 mode.

use super::*;
use crate::state::{Segment, cr0};

pub(super) const GDT: u64 = 0x1000;
pub(super) const IDT: u64 = 0x2000;
pub(super) const TSS: u64 = 0x3000;
pub(super) const CODE0: u16 = 0x08;
pub(super) const DATA0: u16 = 0x10;
pub(super) const CODE3: u16 = 0x1b;
pub(super) const DATA3: u16 = 0x23;
pub(super) const TSS_SEL: u16 = 0x28;
const CALL_GATE: u16 = 0x30;
const ABSENT: u16 = 0x38;
const CONFORMING: u16 = 0x40;
const EXPAND_DOWN: u16 = 0x48;
/// First free selector.
pub(super) const FREE: u16 = 0x50;
/// Stack of level 0.
pub(super) const STACK0: u32 = 0x9000;
/// Stack of level 3.
const STACK3: u64 = 0xa000;

pub(super) fn machine() -> Machine {
    let mut m = Machine::new();
    let flat = |access| descriptor(0, 0xf_ffff, access, 0xc);
    for (sel, d) in [
        (CODE0, flat(0x9a)),
        (DATA0, flat(0x92)),
        (CODE3, flat(0xfa)),
        (DATA3, flat(0xf2)),
        (TSS_SEL, descriptor(TSS as u32, 0x6f, 0x89, 0)),
        (CALL_GATE, gate(CODE0, 0x6000, 0xec, 2)),
        (ABSENT, flat(0x12)),
        (CONFORMING, flat(0x9e)),
        (EXPAND_DOWN, descriptor(0, 0xfff, 0x96, 4)),
    ] {
        m.put64(GDT + u64::from(sel & !7), d);
    }
    m.put32(TSS + 4, STACK0);
    m.put16(TSS + 8, DATA0);
    // The I/O map of one byte: ports 0 and 2 allowed.
    m.put16(TSS + 0x66, 0x68);
    m.put(TSS + 0x68, [0b1111_1010, 0xff]);
    let st = &mut m.cpu.st;
    enter_flat32(st, CODE0, DATA0, CODE as u32);
    st.gdtr = crate::state::TableReg { base: GDT, limit: 0x7f };
    st.idtr = crate::state::TableReg { base: IDT, limit: 0x7ff };
    st.tr = Segment { base: TSS, limit: 0x6f, attrs: 0x8b, selector: TSS_SEL };
    st.gpr[reg::RSP as usize] = u64::from(STACK0);
    m.cpu.load_state_changed();
    m
}

pub(super) fn user() -> Machine {
    let mut m = machine();
    let st = &mut m.cpu.st;
    set_segment_flat(st, seg::CS, CODE3, false);
    for s in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        set_segment_flat(st, s, DATA3, false);
    }
    st.cpl = 3;
    st.gpr[reg::RSP as usize] = STACK3;
    m.cpu.load_state_changed();
    m
}

fn idt(m: &mut Machine, vector: u8, g: u64) {
    m.put64(IDT + 8 * u64::from(vector), g);
}

fn load(m: &mut Machine, modrm: u8, selector: u16) -> Result<(), Fault> {
    *m.reg(reg::RAX) = u64::from(selector);
    m.run(&[0x8e, modrm])
}
const ES: u8 = 0xc0;
const SS: u8 = 0xd0;
const DS: u8 = 0xd8;

#[test]
fn data_segment_rules() {
    let mut m = machine();
    assert_eq!(load(&mut m, DS, 0), Ok(()));
    assert_eq!(m.cpu.st.seg[3], Segment::default());
    assert_eq!(load(&mut m, DS, CODE0), Ok(()), "readable code");
    assert_eq!(load(&mut m, DS, ABSENT), Err(fault(11, u32::from(ABSENT))));
    assert_eq!(load(&mut m, DS, 0x80), Err(gp(0x80)), "beyond the limit");
    assert_eq!(load(&mut m, DS, 0x0c), Err(gp(0x0c)), "no LDT entry");
    assert_eq!(load(&mut m, DS, TSS_SEL), Err(gp(u32::from(TSS_SEL))));
    assert_eq!(load(&mut m, DS, DATA0 | 3), Err(gp(u32::from(DATA0))), "RPL above DPL");
    assert_eq!(load(&mut m, DS, CONFORMING | 3), Ok(()), "conforming code has no level");
    let mut m = user();
    assert_eq!(load(&mut m, ES, DATA0), Err(gp(u32::from(DATA0))));
    assert_eq!(load(&mut m, ES, DATA3), Ok(()));
}

#[test]
fn loading_marks_accessed() {
    let mut m = machine();
    assert_eq!(m.get64(GDT + u64::from(DATA0)) >> 40 & 1, 0);
    load(&mut m, ES, DATA0).unwrap();
    assert_eq!(m.get64(GDT + u64::from(DATA0)) >> 40 & 1, 1);
    assert_eq!(m.cpu.st.seg[0].attrs & 0xff, 0x93);
}

#[test]
fn stack_segment_rules() {
    let mut m = machine();
    assert_eq!(load(&mut m, SS, 0), Err(gp(0)));
    assert_eq!(load(&mut m, SS, CODE0), Err(gp(u32::from(CODE0))));
    assert_eq!(load(&mut m, SS, DATA3), Err(gp(0x20)));
    assert_eq!(load(&mut m, SS, ABSENT), Err(fault(12, u32::from(ABSENT))));
    assert_eq!(load(&mut m, SS, DATA0), Ok(()));
    assert_eq!(m.cpu.st.shadow, crate::state::Shadow::MovSs);
    assert_eq!(load(&mut m, SS, EXPAND_DOWN), Ok(()));
    *m.reg(reg::RSP) = 0x1002;
    // Expand-down: offsets above the limit are valid, so the second push goes below.
    assert_eq!(m.run(&[0x66, 0x1e]), Ok(()));
    assert_eq!(m.run(&[0x66, 0x1e]), Err(fault(12, 0)));
}

#[test]
fn interrupt_to_inner_level_and_back() {
    let mut m = user();
    idt(&mut m, 0x80, gate(CODE0, 0x5000, 0xee, 0));
    m.cpu.st.flags |= rflags::IF;
    m.run(&[0xcd, 0x80]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::CS), m.sel(seg::SS)), (0x5000, 0, CODE0, DATA0));
    assert_eq!(m.cpu.st.flags & rflags::IF, 0);
    let sp = *m.reg(reg::RSP);
    assert_eq!(sp, u64::from(STACK0) - 20);
    assert_eq!(m.get32(sp), CODE as u32 + 2);
    assert_eq!(m.get32(sp + 4), u32::from(CODE3));
    assert_eq!(m.get32(sp + 8) & 0x202, 0x202);
    assert_eq!(m.get32(sp + 12), STACK3 as u32);
    assert_eq!(m.get32(sp + 16), u32::from(DATA3));
    load(&mut m, DS, DATA0).unwrap();
    m.run(&[0xcf]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::CS), m.sel(seg::SS)), (CODE + 2, 3, CODE3, DATA3));
    assert_eq!(*m.reg(reg::RSP), STACK3);
    assert_eq!(m.sel(seg::DS), 0, "an inner level's segment is dropped");
    assert_eq!(m.sel(seg::ES), DATA3);
    assert_ne!(m.cpu.st.flags & rflags::IF, 0);
}

#[test]
fn gate_checks() {
    let mut m = user();
    idt(&mut m, 0x40, gate(CODE0, 0x5000, 0x8e, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(0x40 * 8 + 2)), "gate DPL below CPL");
    assert_eq!(m.run(&[0xcd, 0x41]), Err(gp(0x41 * 8 + 2)), "no gate");
    idt(&mut m, 0x42, gate(CODE0, 0x5000, 0x6e, 0));
    assert_eq!(m.run(&[0xcd, 0x42]), Err(fault(11, 0x42 * 8 + 2)));
    idt(&mut m, 0x43, gate(0, 0x5000, 0xee, 0));
    assert_eq!(m.run(&[0xcd, 0x43]), Err(gp(0)));
    idt(&mut m, 0x44, gate(DATA0, 0x5000, 0xee, 0));
    assert_eq!(m.run(&[0xcd, 0x44]), Err(gp(u32::from(DATA0))));
    // A bad inner stack.
    idt(&mut m, 0x45, gate(CODE0, 0x5000, 0xee, 0));
    m.put16(TSS + 8, DATA3);
    assert_eq!(m.run(&[0xcd, 0x45]), Err(fault(10, 0x20)));
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (CODE, 3, STACK3));
}

#[test]
fn faults_push_their_code_and_rf() {
    let mut m = user();
    idt(&mut m, 13, gate(CODE0, 0x5000, 0x8e, 0));
    assert_eq!(load(&mut m, DS, DATA0), Err(gp(0x10)));
    deliver_fault(&mut m.cpu).unwrap();
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.get32(sp), m.get32(sp + 4)), (0x10, CODE as u32));
    assert_ne!(u64::from(m.get32(sp + 12)) & rflags::RF, 0);
    assert_eq!(m.cpu.st.flags & rflags::RF, 0);
}

#[test]
fn double_and_triple_fault() {
    let mut m = user();
    // #GP has no gate; #DF has one.
    idt(&mut m, 8, gate(CODE0, 0x5100, 0x8e, 0));
    load(&mut m, DS, DATA0).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!(m.cpu.st.rip, 0x5100);
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.get32(sp), m.get32(sp + 4)), (0, CODE as u32));
    idt(&mut m, 8, 0);
    load(&mut m, SS, DATA3).unwrap_err();
    assert_eq!(deliver_fault(&mut m.cpu), Err(Shutdown));
}

#[test]
fn benign_then_contributory_is_serial() {
    let mut m = user();
    // #UD has no gate: #GP(6 * 8 + 2 + EXT) instead.
    idt(&mut m, 13, gate(CODE0, 0x5000, 0x8e, 0));
    m.run(&[0x0f, 0x0b]).unwrap_err();
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!(m.cpu.st.rip, 0x5000);
    let sp = *m.reg(reg::RSP);
    assert_eq!(m.get32(sp), 6 * 8 + 3);
}

#[test]
fn external_interrupt_failing_sets_ext() {
    let mut m = user();
    idt(&mut m, 13, gate(CODE0, 0x5000, 0x8e, 0));
    interrupt(&mut m.cpu, 0x77, Source::External).unwrap();
    let sp = *m.reg(reg::RSP);
    assert_eq!(m.get32(sp), 0x77 * 8 + 3);
}

#[test]
fn call_gate_with_parameters() {
    let mut m = user();
    m.put32(STACK3 - 8, 0x1111_1111);
    m.put32(STACK3 - 4, 0x2222_2222);
    *m.reg(reg::RSP) = STACK3 - 8;
    let [lo, hi] = (CALL_GATE | 3).to_le_bytes();
    m.run(&[0x9a, 0, 0, 0, 0, lo, hi]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl), (0x6000, 0));
    let sp = *m.reg(reg::RSP);
    assert_eq!(sp, u64::from(STACK0) - 24);
    let words: Vec<u32> = (0..6).map(|k| m.get32(sp + 4 * k)).collect();
    let (cs, ss) = (u32::from(CODE3), u32::from(DATA3));
    assert_eq!(words, [CODE as u32 + 7, cs, 0x1111_1111, 0x2222_2222, STACK3 as u32 - 8, ss]);
    m.run(&[0xca, 8, 0]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (CODE + 7, 3, STACK3));
    // JMP may not change the level.
    assert_eq!(m.run(&[0xea, 0, 0, 0, 0, lo, hi]), Err(gp(u32::from(CODE0))));
}

#[test]
fn far_transfer_checks() {
    let mut m = machine();
    let jump = |s: u16| [0xea, 0, 0x60, 0, 0, s as u8, (s >> 8) as u8];
    assert_eq!(m.run(&jump(0)), Err(gp(0)));
    assert_eq!(m.run(&jump(DATA0)), Err(gp(u32::from(DATA0))));
    assert_eq!(m.run(&jump(CODE3)), Err(gp(0x18)));
    assert_eq!(m.run(&jump(CODE0)), Ok(()));
    assert_eq!(m.run(&jump(CONFORMING)), Ok(()));
    let mut m = user();
    assert_eq!(m.run(&jump(CODE0)), Err(gp(u32::from(CODE0))));
    assert_eq!(m.run(&jump(CONFORMING)), Ok(()));
    assert_eq!((m.cpu.st.cpl, m.sel(seg::CS)), (3, CONFORMING | 3));
}

#[test]
fn virtual_8086_mode() {
    let mut m = machine();
    let frame = [0x100, 0x0700, 0x2_0202, 0x0800, 0x0900, 0x0a00, 0x0b00, 0x0c00, 0x0d00];
    for (k, v) in frame.iter().enumerate() {
        m.put32(0x8800 + 4 * k as u64, *v);
    }
    *m.reg(reg::RSP) = 0x8800;
    m.run(&[0xcf]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::VM86));
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (0x100, 3, 0x800));
    assert_eq!(
        [seg::SS, seg::ES, seg::DS, seg::FS, seg::GS].map(|s| m.sel(s)),
        [0x900, 0xa00, 0xb00, 0xc00, 0xd00]
    );
    assert_eq!(m.cpu.st.seg[seg::CS as usize].base, 0x7000);
    // IOPL 0: PUSHF, CLI and INT n fault.
    for code in [&[0x9c][..], &[0xfa], &[0xcd, 0x21]] {
        m.cpu.mmu.space().write(Gpa(0x7100), code).unwrap();
        m.cpu.st.rip = 0x100;
        assert_eq!(m.step(), Err(gp(0)));
    }
    idt(&mut m, 13, gate(CODE0, 0x5000, 0x8e, 0));
    deliver_fault(&mut m.cpu).unwrap();
    assert!(!m.cpu.st.mode.has(Mode::VM86));
    assert_eq!((m.cpu.st.cpl, m.sel(seg::DS), m.sel(seg::GS)), (0, 0, 0));
    let sp = *m.reg(reg::RSP);
    assert_eq!(sp, u64::from(STACK0) - 40);
    let words: Vec<u32> = (0..10).map(|k| m.get32(sp + 4 * k)).collect();
    assert_eq!(words[..3], [0, 0x100, 0x700]);
    assert_eq!(words[4..], [0x800, 0x900, 0xa00, 0xb00, 0xc00, 0xd00]);
    assert_ne!(u64::from(words[3]) & rflags::VM, 0);
    // And back.
    *m.reg(reg::RSP) += 4;
    m.run(&[0xcf]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::VM86));
    assert_eq!(m.cpu.st.rip, 0x100);
}

#[test]
fn io_permission_map() {
    let mut m = user();
    assert_eq!(m.run(&[0xe4, 0]), Ok(()));
    assert_eq!(m.run(&[0xe4, 1]), Err(gp(0)));
    assert_eq!(m.run(&[0xe4, 2]), Ok(()));
    assert_eq!(m.run(&[0x66, 0xe5, 2]), Err(gp(0)), "port 3 is not allowed");
    assert_eq!(m.run(&[0xe4, 0x80]), Err(gp(0)), "beyond the map");
    // REP INSB and OUTSB ask before they look at the count.
    (*m.reg(reg::RCX), *m.reg(reg::RDX)) = (0, 1);
    assert_eq!(m.run(&[0xf3, 0x6c]), Err(gp(0)));
    assert_eq!(m.run(&[0xf3, 0x6e]), Err(gp(0)));
    *m.reg(reg::RDX) = 0;
    assert_eq!(m.run(&[0xf3, 0x6c]), Ok(()));
    m.cpu.st.flags |= rflags::IOPL;
    assert_eq!(m.run(&[0xe4, 0x80]), Ok(()));
}

#[test]
fn port_accesses_take_virtual_time_and_are_one_instruction() {
    let mut m = user();
    m.bus(Nothing { port_time: 700, ..Nothing::default() });
    let (count, now) = (m.cpu.st.icount(), m.cpu.st.now());
    m.run(&[0xe4, 0]).unwrap();
    m.run(&[0xe6, 0]).unwrap();
    m.run(&[0x90]).unwrap();
    assert_eq!((m.cpu.st.icount() - count, m.cpu.st.now() - now), (3, 3 + 2 * 700));
    assert_eq!(m.run(&[0xe4, 1]), Err(gp(0)));
    assert_eq!(m.cpu.st.now() - now, 3 + 2 * 700, "a refused access takes none");
}

#[test]
fn flags_and_privilege() {
    let mut m = user();
    assert_eq!(m.run(&[0xfa]), Err(gp(0)));
    assert_eq!(m.run(&[0xf4]), Err(gp(0)));
    // POPF at CPL 3 changes neither IF nor IOPL.
    m.put32(STACK3 - 4, 0x3ed5);
    *m.reg(reg::RSP) = STACK3 - 4;
    m.run(&[0x9d]).unwrap();
    assert_eq!(m.cpu.rflags(), 0xcd7);
    m.cpu.st.flags |= rflags::IOPL;
    m.run(&[0xfb]).unwrap();
    assert_ne!(m.cpu.st.flags & rflags::IF, 0);
}

#[test]
fn examining_selectors() {
    let mut m = machine();
    let zf = |m: &mut Machine| m.cpu.rflags() & rflags::ZF != 0;
    *m.reg(reg::RAX) = u64::from(CODE3);
    m.run(&[0x0f, 0x02, 0xd8]).unwrap();
    assert!(zf(&mut m));
    assert_eq!(*m.reg(reg::RBX), 0x00c0_fa00);
    m.run(&[0x0f, 0x03, 0xd8]).unwrap();
    assert_eq!(*m.reg(reg::RBX), 0xffff_ffff);
    m.run(&[0x0f, 0x00, 0xe0]).unwrap();
    assert!(zf(&mut m), "VERR");
    m.run(&[0x0f, 0x00, 0xe8]).unwrap();
    assert!(!zf(&mut m), "VERW of code");
    *m.reg(reg::RAX) = u64::from(CALL_GATE);
    m.run(&[0x0f, 0x03, 0xd8]).unwrap();
    assert!(!zf(&mut m), "LSL of a gate");
    *m.reg(reg::RAX) = 0x10;
    *m.reg(reg::RBX) = 3;
    m.run(&[0x63, 0xd8]).unwrap();
    assert!(zf(&mut m));
    assert_eq!(*m.reg(reg::RAX), 0x13);
}

#[test]
fn ldt_and_task_register() {
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0xc000, 0xf, 0x82, 0));
    m.put64(0xc008, descriptor(0x1_0000, 0xffff, 0x92, 0));
    *m.reg(reg::RAX) = u64::from(FREE);
    m.run(&[0x0f, 0x00, 0xd0]).unwrap();
    assert_eq!((m.cpu.st.ldtr.base, m.cpu.st.ldtr.limit), (0xc000, 0xf));
    load(&mut m, ES, 0x0c).unwrap();
    assert_eq!(m.cpu.st.seg[0].base, 0x1_0000);
    *m.reg(reg::RAX) = u64::from(TSS_SEL);
    m.run(&[0x0f, 0x00, 0xd8]).unwrap();
    assert_eq!(m.get64(GDT + u64::from(TSS_SEL)) >> 40 & 15, 11, "busy");
    assert_eq!(m.run(&[0x0f, 0x00, 0xd8]), Err(gp(u32::from(TSS_SEL))));
}

#[test]
fn leaving_protected_mode() {
    let mut m = machine();
    *m.reg(reg::RAX) = cr0::ET;
    m.run(&[0x0f, 0x22, 0xc0]).unwrap();
    assert!(!m.cpu.st.mode.has(Mode::PROTECTED));
    m.run(&[0xea, 0, 0x70, 0, 0, 0, 1]).unwrap();
    assert_eq!((m.cpu.st.seg[1].base, m.cpu.st.rip), (0x1000, 0x7000));
}
