//! System management mode (SDM vol. 3, chapter 32; APM vol. 2, chapter 10) and the A20 gate.

use super::long::{machine as long, user};
use super::*;
use crate::state::{cr0, cr4};

const SMBASE: u64 = 0x3_0000;
const SAVE: u64 = SMBASE + 0xfe00;
const RSM: [u8; 2] = [0x0f, 0xaa];

fn smi(m: &mut Machine) {
    m.bus(Nothing { smi: true, ..Nothing::default() });
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert!(m.cpu.st.smm);
}

/// Executes RSM at SMM's entry.
fn rsm(m: &mut Machine) -> Result<(), Fault> {
    m.put(SMBASE + 0x8000, RSM);
    m.cpu.st.rip = 0x8000;
    m.cpu.st.stop = stop::NONE;
    let r = m.step();
    m.cpu.st.stop = stop::NONE;
    r
}

#[test]
fn entry_state() {
    let mut m = long();
    user(&mut m);
    m.cpu.st.rip = 0x1234_5678;
    m.cpu.st.dr[7] = 0x455;
    let before = m.cpu.st.clone();
    smi(&mut m);
    let st = &m.cpu.st;
    assert_eq!((st.rip, st.cpl, st.flags), (0x8000, 0, 2));
    let cs = st.seg[seg::CS as usize];
    assert_eq!((cs.base, cs.selector, cs.limit), (SMBASE, 0x3000, u32::MAX));
    assert_eq!((st.seg[seg::DS as usize].base, st.seg[seg::DS as usize].limit), (0, u32::MAX));
    assert_eq!(st.cr0, before.cr0 & !(cr0::PE | cr0::PG | cr0::EM | cr0::TS));
    assert_eq!((st.cr4, st.msr.efer, st.dr[7]), (0, 0, 0x400));
    assert!(st.nmi_blocked && !st.mode.has(Mode::PROTECTED) && !st.mode.has(Mode::LONG));
    assert_eq!(m.cpu.mmu.paging().paging, softmmu::Paging::None);
    // The save map, at its documented places.
    assert_eq!(m.get32(SAVE + 0xfc), 0x2_0064, "revision");
    assert_eq!(u64::from(m.get32(SAVE + 0x100)), SMBASE);
    assert_eq!((m.get64(SAVE + 0x178), m.get64(SAVE + 0x158)), (0x1234_5678, before.cr0));
    assert_eq!((m.get64(SAVE + 0x150), m.get64(SAVE + 0xd0)), (before.cr3, before.msr.efer));
    assert_eq!(m.get64(SAVE + 0x1d8), before.gpr[reg::RSP as usize]);
    assert_eq!(m.get16(SAVE + 0x10), before.seg[seg::CS as usize].selector);
}

#[test]
fn rsm_restores_everything() {
    let mut m = long();
    user(&mut m);
    for r in 0..16 {
        *m.reg(r) = 0x0101_0101_0101_0101 * u64::from(r + 1);
    }
    m.cpu.st.rip = 0x5678;
    m.cpu.st.flags |= rflags::IF;
    m.cpu.st.cr4 |= cr4::OSFXSR;
    m.cpu.load_state_changed();
    let mut before = m.cpu.st.clone();
    before.flags = m.cpu.rflags();
    smi(&mut m);
    for r in 0..16 {
        *m.reg(r) = 0xdead;
    }
    rsm(&mut m).unwrap();
    let mut after = m.cpu.st.clone();
    after.flags = m.cpu.rflags();
    assert_eq!(after.gpr, before.gpr);
    assert_eq!((after.seg, after.ldtr, after.tr), (before.seg, before.ldtr, before.tr));
    assert_eq!((after.gdtr, after.idtr), (before.gdtr, before.idtr));
    assert_eq!((after.cr0, after.cr3, after.cr4), (before.cr0, before.cr3, before.cr4));
    assert_eq!((after.msr, after.mode, after.cpl), (before.msr, before.mode, before.cpl));
    assert_eq!((after.rip, after.flags, after.dr), (before.rip, before.flags, before.dr));
    assert!(!after.smm && !after.nmi_blocked);
}

#[test]
fn smbase_can_be_relocated() {
    let mut m = long();
    smi(&mut m);
    m.put32(SAVE + 0x100, 0x4_0000);
    rsm(&mut m).unwrap();
    assert_eq!(m.cpu.st.smbase, 0x4_0000);
    smi(&mut m);
    assert_eq!((m.cpu.st.seg[seg::CS as usize].base, m.get32(0x4_fefc)), (0x4_0000, 0x2_0064));
}

#[test]
fn smis_and_nmis_wait_in_smm() {
    let mut m = long();
    smi(&mut m);
    m.bus(Nothing { smi: true, nmi: true, ..Nothing::default() });
    let base = m.cpu.st.clone();
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    assert_eq!(m.cpu.st, base);
    rsm(&mut m).unwrap();
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert!(m.cpu.st.smm, "the SMI that waited comes first");
    // What blocked NMIs before blocks them after.
    let mut m = long();
    m.cpu.st.nmi_blocked = true;
    smi(&mut m);
    rsm(&mut m).unwrap();
    assert!(m.cpu.st.nmi_blocked);
}

#[test]
fn halted_processors_halt_again() {
    // The auto-halt restart flag, which the handler may clear.
    for restart in [true, false] {
        let mut m = long();
        m.run(&[0xf4]).unwrap();
        m.cpu.st.stop = stop::NONE;
        smi(&mut m);
        assert!(!m.cpu.st.halted);
        assert_eq!(m.get16(SAVE + 0xc9) & 0xff, 1);
        if !restart {
            m.put(SAVE + 0xc9, [0]);
        }
        rsm(&mut m).unwrap();
        assert_eq!((m.cpu.st.halted, m.cpu.st.rip), (restart, CODE + 1));
    }
}

#[test]
fn rsm_outside_smm_and_of_a_bad_image() {
    let mut m = long();
    assert_eq!(m.run(&RSM), Err(ud()));
    // SDM vol. 3, 32.4.1: PG without PE, reserved bits of CR4: the processor shuts down.
    for (at, v) in [(0x158, cr0::PG), (0x148, 1 << 40), (0x158, cr0::NW)] {
        let mut m = long();
        smi(&mut m);
        m.put64(SAVE + at, v);
        m.put(SMBASE + 0x8000, RSM);
        m.cpu.st.stop = stop::NONE;
        let block = decode::single(&RSM, 0x8000, m.cpu.st.mode).unwrap();
        interp::run_single(&mut m.cpu, &block.insns[0]);
        assert_eq!(m.cpu.st.stop, stop::SHUTDOWN);
        assert!(m.cpu.st.smm);
    }
}

#[test]
fn a20_follows_the_board_after_a_port_write() {
    let mut m = Machine::with_bus(Nothing { a20_off: true, ..Nothing::default() });
    m.put(0x3000, [0x5a]);
    m.cpu.st.seg[seg::DS as usize].limit = u32::MAX;
    m.cpu.mode_changed();
    // OUT 92h, AL: the gate closes. MOV AL, [103000h] reads 3000h.
    m.run(&[0xe6, 0x92]).unwrap();
    assert!(!m.cpu.st.a20);
    m.run(&[0x67, 0xa0, 0x00, 0x30, 0x10, 0x00]).unwrap();
    assert_eq!(*m.reg(reg::RAX) & 0xff, 0x5a);
    m.bus(Nothing::default());
    m.run(&[0xe6, 0x92]).unwrap();
    m.run(&[0x67, 0xa0, 0x00, 0x30, 0x10, 0x00]).unwrap();
    assert_eq!(*m.reg(reg::RAX) & 0xff, 0xff, "no memory there");
}
