//! System management mode (SDM vol. 3, chapter 32; APM vol. 2, chapter 10) and the A20 gate.

use super::long::{machine as long, user};
use super::*;
use crate::state::Segment;
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
    // Likewise PCIDE outside long mode and reserved bits of EFER.
    for (at, v) in [
        (0x158, cr0::PG),
        (0x148, 1 << 40),
        (0x158, cr0::NW),
        (0x158, 1 << 32),
        (0xd0, 0xd01 | 1 << 20),
        (0xd0, 0x101),
        (0x148, 0),
    ] {
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
fn an_io_instruction_can_be_done_again() {
    // OUT DX, EAX; OUT 92h, AL; IN AX, 60h: what the handler is told, and whether it asks for the instruction once more.
    for (code, dword) in
        [(&[0xef][..], 0x1234_0042u32), (&[0xe6, 0x92], 0x0092_0012), (&[0x66, 0xe5, 0x60], 0x0060_0023)]
    {
        for again in [true, false] {
            let mut m = long();
            *m.reg(reg::RDX) = 0x1234;
            m.run(code).unwrap();
            m.cpu.st.stop = stop::NONE;
            smi(&mut m);
            assert_eq!((m.get32(SAVE + 0xc0), m.get64(SAVE + 0xa0)), (dword, CODE));
            if again {
                m.put(SAVE + 0xc8, [0xff]);
            }
            rsm(&mut m).unwrap();
            assert_eq!(m.cpu.st.rip, if again { CODE } else { CODE + code.len() as u64 });
        }
    }
    // An instruction between them: there is nothing to restart, whatever the handler writes.
    let mut m = long();
    m.run(&[0xef]).unwrap();
    m.run(&[0x90]).unwrap();
    m.cpu.st.stop = stop::NONE;
    smi(&mut m);
    assert_eq!(m.get32(SAVE + 0xc0), 0);
    m.put(SAVE + 0xc8, [0xff]);
    rsm(&mut m).unwrap();
    assert_eq!(m.cpu.st.rip, CODE + 1);
}

#[test]
fn repeated_string_io_is_done_again_with_its_registers() {
    let mut m = long();
    (*m.reg(reg::RCX), *m.reg(reg::RSI), *m.reg(reg::RDX)) = (3, 0x5000, 0x80);
    m.run(&[0xf3, 0x6e]).unwrap();
    m.cpu.st.stop = stop::NONE;
    assert_eq!((*m.reg(reg::RCX), *m.reg(reg::RSI)), (2, 0x5001));
    smi(&mut m);
    assert_eq!(m.get32(SAVE + 0xc0), 0x0080_001e);
    assert_eq!((m.get64(SAVE + 0xa8), m.get64(SAVE + 0xb0)), (3, 0x5000));
    m.put(SAVE + 0xc8, [0xff]);
    *m.reg(reg::RCX) = 99;
    // The handler's own I/O does not count.
    m.put(SMBASE + 0x8100, [0xe6, 0x92]);
    m.cpu.st.rip = 0x8100;
    m.step().unwrap();
    rsm(&mut m).unwrap();
    assert_eq!((m.cpu.st.rip, *m.reg(reg::RCX), *m.reg(reg::RSI)), (CODE, 3, 0x5000));
}

#[test]
fn processors_without_long_mode_have_the_32_bit_map() {
    let mut m = Machine::new();
    m.cpu.model = CpuModel::by_name("pentium3").unwrap();
    for r in 0..8 {
        *m.reg(r) = 0x0101_0101 * u64::from(r + 1);
    }
    let code = Segment { base: 0x1_0000, limit: 0xf_ffff, attrs: 0x409b, selector: 0x18 };
    (m.cpu.st.seg[seg::CS as usize], m.cpu.st.cr0) = (code, cr0::PE | cr0::ET);
    m.cpu.st.tr = Segment { base: 0x7_0000, limit: 0x67, attrs: 0x8b, selector: 0x28 };
    m.cpu.st.cr4 = cr4::PSE;
    m.cpu.st.rip = 0x1234;
    m.cpu.load_state_changed();
    let before = m.cpu.st.clone();
    smi(&mut m);
    assert_eq!(m.get32(SAVE + 0xfc), 0x2_0000, "revision");
    for (at, v) in [(0xf8, SMBASE as u32), (0x1f0, 0x1234), (0x1d0, 0x0101_0101), (0x1ec, 0x0808_0808)] {
        assert_eq!(m.get32(SAVE + at), v, "{at:#x}");
    }
    // Selectors of CS and TR; SDM vol. 3, table 32-1.
    assert_eq!((m.get32(SAVE + 0x1ac), m.get32(SAVE + 0x1c4)), (0x18, 0x28));
    assert_eq!((m.get32(SAVE + 0x1fc), m.get32(SAVE + 0x1f4)), (before.cr0 as u32, 2));
    m.put32(SAVE + 0xf8, 0x4_0000);
    rsm(&mut m).unwrap();
    let mut after = m.cpu.st.clone();
    assert_eq!(after.smbase, 0x4_0000);
    (after.smbase, after.budget, after.stop) = (before.smbase, before.budget, before.stop);
    (after.cc_op, after.cc_res, after.cc_src, after.cc_aux) =
        (before.cc_op, before.cc_res, before.cc_src, before.cc_aux);
    (after.count_bias, after.smm_nmi) = (before.count_bias, before.smm_nmi);
    assert_eq!(after, before);
}

#[test]
fn io_in_the_32_bit_map() {
    let mut m = Machine::new();
    m.cpu.model = CpuModel::by_name("pentium3").unwrap();
    m.run(&[0xe6, 0x92]).unwrap();
    m.cpu.st.stop = stop::NONE;
    smi(&mut m);
    // OUT immediate, one byte.
    assert_eq!(m.get32(SAVE + 0x1a4), 0x0092_0083);
    m.put16(SAVE + 0x100, 0xff);
    rsm(&mut m).unwrap();
    assert_eq!(m.cpu.st.rip + m.cpu.st.seg[seg::CS as usize].base, CODE);
}

#[test]
fn the_interrupt_shadow_is_the_interrupted_codes() {
    let mut m = long();
    // The deadline has come: STI leaves its shadow to see.
    m.cpu.until = 0;
    m.run(&[0xfb]).unwrap();
    m.cpu.st.stop = stop::NONE;
    assert_eq!(m.cpu.st.shadow, crate::state::Shadow::Sti);
    smi(&mut m);
    assert_eq!(m.cpu.st.shadow, crate::state::Shadow::None);
    rsm(&mut m).unwrap();
    assert_eq!(m.cpu.st.shadow, crate::state::Shadow::Sti);
}

#[test]
fn init_keeps_what_the_manual_says_and_waits_in_smm() {
    let mut m = long();
    m.cpu.st.xmm[3] = [5, 6];
    m.cpu.st.msr.lstar = 0x1234;
    m.cpu.st.smbase = 0x4_0000;
    m.cpu.st.dr[7] = 0x455;
    m.bus(Nothing { init: true, smi: true, ..Nothing::default() });
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert!(m.cpu.st.smm, "the SMI comes first, and the INIT waits");
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    m.put(0x4_8000, RSM);
    m.cpu.st.stop = stop::NONE;
    m.step().unwrap();
    m.cpu.st.stop = stop::NONE;
    let count = m.cpu.st.icount();
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    let st = &m.cpu.st;
    assert_eq!((st.rip, st.seg[seg::CS as usize].base), (0xfff0, 0xffff_0000));
    assert_eq!((st.cr0, st.cr3, st.cr4, st.msr.efer, st.dr[7]), (cr0::ET, 0, 0, 0, 0x400));
    assert_eq!((st.xmm[3], st.msr.lstar, st.smbase), ([5, 6], 0x1234, 0x4_0000));
    assert_eq!(st.gpr[reg::RDX as usize], u64::from(m.cpu.model.signature()));
    assert_eq!(st.icount(), count);
    assert_eq!(m.cpu.mmu.paging().paging, softmmu::Paging::None);
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
