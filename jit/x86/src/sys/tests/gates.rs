//! Call gates, far returns and far jumps (SDM vol. 3, 5.8), and every kind of task switch (chapter 7).

use super::long::{CODE64, NONCANONICAL, machine as long};
use super::protected::{CODE0, CODE3, DATA0, DATA3, FREE, GDT, IDT, STACK0, TSS, TSS_SEL, machine, user};
use super::registers::wrmsr;
use super::tasks::{NEW, two_tasks};
use super::*;
use crate::state::Segment;

const GATE: u16 = FREE;

#[test]
fn gates_of_the_286_have_16_bit_offsets() {
    // SDM vol. 3, 5.8.3 and 21.3: a 16-bit gate's upper offset word is not used, whatever it holds.
    let mut m = machine();
    m.put64(GDT + u64::from(GATE), gate(CODE0, 0xabcd_6000, 0x84, 0));
    m.run(&[0x9a, 0, 0, 0, 0, GATE as u8, 0]).unwrap();
    assert_eq!(m.cpu.st.rip, 0x6000);
    assert_eq!(*m.reg(reg::RSP), u64::from(STACK0) - 4, "it pushes words");
    let sp = *m.reg(reg::RSP);
    assert_eq!((m.get16(sp), m.get16(sp + 2)), (CODE as u16 + 7, CODE0));
    for access in [0x86, 0x87] {
        m.put64(IDT + 0x40 * 8, gate(CODE0, 0xabcd_5000, access, 0));
        let sp = *m.reg(reg::RSP);
        m.run(&[0xcd, 0x40]).unwrap();
        assert_eq!((m.cpu.st.rip, *m.reg(reg::RSP)), (0x5000, sp - 6), "gate {access:#x}");
    }
}

#[test]
fn a_286_gate_to_an_inner_level_copies_words() {
    let mut m = user();
    m.put64(GDT + u64::from(GATE), gate(CODE0, 0xffff_6000, 0xe4, 3));
    let sp = *m.reg(reg::RSP) - 6;
    for (k, v) in [0x1111, 0x2222, 0x3333].iter().enumerate() {
        m.put16(sp + 2 * k as u64, *v);
    }
    *m.reg(reg::RSP) = sp;
    m.run(&[0x9a, 0, 0, 0, 0, GATE as u8 | 3, 0]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl), (0x6000, 0));
    let top = *m.reg(reg::RSP);
    let words: Vec<u16> = (0..7).map(|k| m.get16(top + 2 * k)).collect();
    assert_eq!(words, [CODE as u16 + 7, CODE3, 0x1111, 0x2222, 0x3333, sp as u16, DATA3]);
    assert_eq!(top, u64::from(STACK0) - 14);
}

#[test]
fn far_returns_to_an_outer_level_drop_inner_segments() {
    // SDM vol. 2, RET: a data or non-conforming code segment whose DPL is below the new CPL becomes null.
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xf_ffff, 0x9e, 0xc));
    for (s, selector) in [(seg::DS, DATA0), (seg::ES, DATA3), (seg::FS, FREE), (seg::GS, CODE0)] {
        *m.reg(reg::RAX) = u64::from(selector);
        let code: &[u8] = match s {
            seg::DS => &[0x8e, 0xd8],
            seg::ES => &[0x8e, 0xc0],
            seg::FS => &[0x8e, 0xe0],
            _ => &[0x8e, 0xe8],
        };
        m.run(code).unwrap();
    }
    let sp = 0x8800;
    for (k, v) in [0x7000, u32::from(CODE3), 0xdead, 0xa000, u32::from(DATA3)].iter().enumerate() {
        m.put32(sp + 4 * k as u64, *v);
    }
    *m.reg(reg::RSP) = sp;
    m.run(&[0xca, 4, 0]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (0x7000, 3, 0xa004), "both stacks release");
    let left = [seg::DS, seg::ES, seg::FS, seg::GS].map(|s| m.sel(s));
    assert_eq!(left, [0, DATA3, FREE, 0]);
    assert_eq!(m.cpu.st.seg[seg::DS as usize].attrs & Segment::P, 0);
    assert_eq!(m.run(&[0x8b, 0x03]), Err(gp(0)), "and cannot be used");
}

#[test]
fn returns_to_an_outer_level_clear_null_selectors() {
    // SDM vol. 2, RET and IRET: SegmentSelector := NULL, whatever RPL it had; the base of FS is not touched.
    for code in [&[0xcb][..], &[0xcf]] {
        let mut m = machine();
        for (k, s) in [seg::DS, seg::ES, seg::FS, seg::GS].iter().enumerate() {
            let null = Segment { selector: k as u16, base: 0x1234, attrs: 0, limit: 0 };
            m.cpu.st.seg[*s as usize] = null;
        }
        let sp = 0x8800;
        let flags = (code == [0xcf]).then_some(2);
        let frame = [0x7000, u32::from(CODE3)].into_iter().chain(flags).chain([0xa000, u32::from(DATA3)]);
        for (k, v) in frame.enumerate() {
            m.put32(sp + 4 * k as u64, v);
        }
        *m.reg(reg::RSP) = sp;
        m.run(code).unwrap();
        assert_eq!((m.cpu.st.rip, m.cpu.st.cpl), (0x7000, 3));
        assert_eq!([seg::DS, seg::ES, seg::FS, seg::GS].map(|s| m.sel(s)), [0; 4], "{code:x?}");
        assert_eq!(m.cpu.st.seg[seg::FS as usize].base, 0x1234);
    }
}

#[test]
fn conforming_code_keeps_the_level() {
    let mut m = user();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xf_ffff, 0x9e, 0xc));
    m.run(&[0x9a, 0, 0x60, 0, 0, FREE as u8, 0]).unwrap();
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::CS)), (0x6000, 3, FREE | 3));
    // A return to conforming code of a level above the RPL is refused.
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xf_ffff, 0xfe, 0xc));
    m.put32(0x8800, 0x7000);
    m.put32(0x8804, u32::from(FREE));
    *m.reg(reg::RSP) = 0x8800;
    assert_eq!(m.run(&[0xcb]), Err(gp(u32::from(FREE))));
}

#[test]
fn rex_w_widens_far_jumps_of_64_bit_code() {
    let at = 0x2_1000;
    let far = |m: &mut Machine| {
        m.put64(at, 0x5000);
        m.put16(at + 4, CODE64);
        m.put16(at + 8, CODE64);
        *m.reg(reg::RBX) = at;
    };
    // Without REX.W the pointer is 16:32.
    let mut m = long();
    far(&mut m);
    m.run(&[0xff, 0x2b]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0x5000, CODE64));
    // With it 16:64: what was the selector is part of the offset.
    let mut m = long();
    far(&mut m);
    m.put64(at, 0x1_5000);
    m.run(&[0x48, 0xff, 0x2b]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0x1_5000, CODE64));
    m.put64(at, NONCANONICAL);
    m.put16(at + 8, CODE64);
    assert_eq!(m.run(&[0x48, 0xff, 0x2b]), Err(gp(0)));
    // 66h: 16:16. REX.B picks the register and nothing else.
    let mut m = long();
    m.put32(at, u32::from(CODE64) << 16 | 0x6000);
    *m.reg(11) = at;
    m.run(&[0x66, 0x41, 0xff, 0x2b]).unwrap();
    assert_eq!(m.cpu.st.rip, 0x6000);
    // Direct far jumps do not exist in 64-bit mode.
    assert_eq!(m.run(&[0xea, 0, 0, 0, 0, 0x50, 0]), Err(ud()));
    assert_eq!(m.run(&[0x9a, 0, 0, 0, 0, 0x50, 0]), Err(ud()));
}

#[test]
fn rex_does_not_reach_mmx_registers() {
    // SDM vol. 2, 2.2.1.2: REX.R and REX.B are ignored for MMX operands: MOVQ MM1, MM2 under REX.RB.
    let mut m = long();
    m.cpu.st.x87.mant[2] = 0x1122_3344_5566_7788;
    m.run(&[0x45, 0x0f, 0x6f, 0xca]).unwrap();
    assert_eq!(m.cpu.st.x87.mant[1], 0x1122_3344_5566_7788);
}

#[test]
fn bases_in_msrs_are_canonical() {
    // SDM vol. 2, WRMSR: #GP(0) otherwise. 57 bits count where the processor has five-level paging.
    for n in [0x175, 0x176, 0xc000_0082, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102] {
        let mut m = long();
        assert!(m.cpu.model.set_feature("la57", false));
        assert_eq!(wrmsr(&mut m, n, NONCANONICAL), Err(gp(0)), "MSR {n:#x}");
        assert_eq!(wrmsr(&mut m, n, !NONCANONICAL), Err(gp(0)), "MSR {n:#x}");
        assert_eq!(wrmsr(&mut m, n, 0xffff_8000_0000_0000), Ok(()), "MSR {n:#x}");
        assert_eq!(wrmsr(&mut m, n, 0x7fff_ffff_ffff), Ok(()), "MSR {n:#x}");
    }
}

#[test]
fn indirect_branches_under_five_levels() {
    let mut m = long();
    *m.reg(reg::RAX) = NONCANONICAL;
    assert_eq!(m.run(&[0xff, 0xe0]), Err(gp(0)));
    m.cpu.st.cr4 |= crate::state::cr4::LA57;
    m.cpu.st.cr3 = 0x1_8000;
    m.put64(0x1_8000, 0x1_0007);
    m.cpu.load_state_changed();
    assert_eq!(m.run(&[0xff, 0xe0]), Ok(()), "57 bits are canonical now");
    assert_eq!(m.cpu.st.rip, NONCANONICAL);
    *m.reg(reg::RAX) = 1 << 57;
    assert_eq!(m.run(&[0xff, 0xe0]), Err(gp(0)));
}

// ---- task switches ----------------------------------------------------------------------------------------------

/// A second task with a TSS of 16 or 32 bits, reached by `selector`, and a task gate to it at vector 40h.
fn tasks(wide: bool, user_gate: bool) -> Machine {
    let mut m = two_tasks();
    if !wide {
        m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x2b, 0x81, 0));
        for at in (0..0x30).step_by(4) {
            m.put32(NEW + at, 0);
        }
        m.put16(NEW + 0x0e, 0x7000);
        m.put16(NEW + 0x10, 2);
        m.put16(NEW + 0x1a, 0xd000);
        for (k, s) in [DATA0, CODE0, DATA0, DATA0].iter().enumerate() {
            m.put16(NEW + 0x22 + 2 * k as u64, *s);
        }
    }
    m.put64(GDT + 0x58, gate(FREE, 0, 0x85, 0));
    m.put64(IDT + 0x40 * 8, gate(FREE, 0, if user_gate { 0xe5 } else { 0x85 }, 0));
    m
}

fn kind(m: &Machine, selector: u16) -> u64 {
    m.get64(GDT + u64::from(selector)) >> 40 & 15
}

#[test]
fn each_kind_of_task_switch() {
    // SDM vol. 3, 7.3 and table 7-2: busy flags, NT, link, TS. In and out, by TSS and by task gate.
    let far = |op: u8, selector: u16| vec![op, 0, 0, 0, 0, selector as u8, 0];
    for wide in [true, false] {
        for (what, code, nests) in [
            ("JMP to a TSS", far(0xea, FREE), false),
            ("JMP to a task gate", far(0xea, 0x58), false),
            ("CALL of a TSS", far(0x9a, FREE), true),
            ("CALL of a task gate", far(0x9a, 0x58), true),
            ("INT", vec![0xcd, 0x40], true),
        ] {
            let mut m = tasks(wide, false);
            let what = format!("{what}, {} bits", if wide { 32 } else { 16 });
            m.run(&code).unwrap();
            let (base, available) = if wide { (11, 9) } else { (3, 1) };
            assert_eq!((m.cpu.st.rip, m.cpu.st.tr.selector), (0x7000, FREE), "{what}");
            assert_eq!(kind(&m, FREE), base, "{what}: busy");
            assert_eq!(kind(&m, TSS_SEL), if nests { 11 } else { 9 }, "{what}: the old one");
            assert_eq!(m.cpu.st.flags & rflags::NT != 0, nests, "{what}: NT");
            assert_eq!(m.get16(NEW), if nests { TSS_SEL } else { 0 }, "{what}: link");
            assert_ne!(m.cpu.st.cr0 & crate::state::cr0::TS, 0, "{what}");
            let next = CODE as u32 + code.len() as u32;
            assert_eq!(m.get32(TSS + 0x20), next, "{what}: EIP saved");
            if !nests {
                continue;
            }
            // IRET goes back, and the task can be entered again where it left off.
            m.put(0x7000, [0xcf]);
            m.step().unwrap();
            assert_eq!((m.cpu.st.rip, m.cpu.st.tr.selector), (u64::from(next), TSS_SEL), "{what}: IRET");
            assert_eq!((kind(&m, FREE), kind(&m, TSS_SEL)), (available, 11), "{what}: IRET");
            assert_eq!(m.cpu.st.flags & rflags::NT, 0, "{what}: IRET");
            let saved = if wide { m.get32(NEW + 0x20) } else { u32::from(m.get16(NEW + 0x0e)) };
            assert_eq!(saved, 0x7001, "{what}: the task goes on after its IRET");
        }
    }
}

#[test]
fn task_gates_ask_for_their_own_level() {
    let mut m = tasks(true, true);
    let st = &mut m.cpu.st;
    set_segment_flat(st, seg::CS, CODE3, false);
    for s in [seg::ES, seg::SS, seg::DS] {
        set_segment_flat(st, s, DATA3, false);
    }
    st.cpl = 3;
    m.cpu.load_state_changed();
    // The TSS and the gate in the GDT have DPL 0, the gate in the IDT has DPL 3.
    assert_eq!(m.run(&[0x9a, 0, 0, 0, 0, FREE as u8, 0]), Err(gp(u32::from(FREE))));
    assert_eq!(m.run(&[0x9a, 0, 0, 0, 0, 0x58, 0]), Err(gp(0x58)));
    m.run(&[0xcd, 0x40]).unwrap();
    assert_eq!((m.cpu.st.cpl, m.cpu.st.tr.selector), (0, FREE));
}

#[test]
fn a_task_that_is_busy_or_absent() {
    let mut m = tasks(true, false);
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x67, 0x8b, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(gp(u32::from(FREE))), "busy");
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x67, 0x09, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(fault(11, u32::from(FREE))), "not present");
    m.put64(GDT + u64::from(FREE), descriptor(NEW as u32, 0x66, 0x89, 0));
    assert_eq!(m.run(&[0xcd, 0x40]), Err(fault(10, u32::from(FREE))), "too short");
    // IRET to a task that is not busy: #TS.
    let mut m = tasks(true, false);
    m.put16(TSS, FREE);
    m.cpu.st.flags |= rflags::NT;
    assert_eq!(m.run(&[0xcf]), Err(fault(10, u32::from(FREE))));
}

#[test]
fn a_task_switch_loads_cr3_and_ldt() {
    let mut m = tasks(true, false);
    // Identity page tables of 4 MiB pages, two sets.
    for root in [0x1_0000, 0x1_1000] {
        m.put32(root, 0x83);
    }
    m.put64(GDT + 0x60, descriptor(0xc000, 0xf, 0x82, 0));
    m.put64(0xc008, descriptor(0, 0xf_ffff, 0x92, 0xc));
    m.put32(NEW + 0x1c, 0x1_1000);
    m.put16(NEW + 0x60, 0x60);
    m.put16(NEW + 0x54, 0x0c);
    let st = &mut m.cpu.st;
    (st.cr4, st.cr3) = (st.cr4 | crate::state::cr4::PSE, 0x1_0000);
    st.cr0 |= crate::state::cr0::PG;
    m.cpu.load_state_changed();
    m.run(&[0xcd, 0x40]).unwrap();
    assert_eq!((m.cpu.st.cr3, m.cpu.st.ldtr.selector, m.cpu.st.ldtr.base), (0x1_1000, 0x60, 0xc000));
    assert_eq!(m.sel(seg::DS), 0x0c, "by the new LDT");
    assert_eq!(m.cpu.st.seg[seg::DS as usize].limit, u32::MAX);
}

#[test]
fn a_task_in_virtual_8086_mode() {
    let mut m = tasks(true, false);
    m.put32(NEW + 0x24, 0x2_0002);
    m.put32(NEW + 0x20, 0x0123);
    for k in 0..6u64 {
        m.put16(NEW + 0x48 + 4 * k, 0x700 + k as u16);
    }
    m.run(&[0xcd, 0x40]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::VM86));
    assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, m.sel(seg::CS)), (0x123, 3, 0x701));
    assert_eq!(m.cpu.st.seg[seg::GS as usize].base, 0x7050);
}

#[test]
fn error_codes_of_a_task_gate_handler() {
    // A 32-bit task gets a doubleword, a 16-bit one a word.
    for wide in [true, false] {
        let mut m = tasks(wide, false);
        m.put64(IDT + 13 * 8, gate(FREE, 0, 0x85, 0));
        if !wide {
            // A 16-bit stack: the upper half of ESP, all ones, does not count.
            m.put64(GDT + 0x60, descriptor(0, 0xffff, 0x92, 0));
            m.put16(NEW + 0x26, 0x60);
        }
        *m.reg(reg::RAX) = 0x7c;
        m.run(&[0x8e, 0xd8]).unwrap_err();
        deliver_fault(&mut m.cpu).unwrap();
        let len = if wide { 4 } else { 2 };
        let sp = *m.reg(reg::RSP);
        assert_eq!(sp & 0xffff, 0xd000 - len);
        assert_eq!(m.get16(sp & 0xffff), 0x7c);
    }
}
