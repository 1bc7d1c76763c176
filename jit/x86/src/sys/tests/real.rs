//! Real mode.

use super::*;

#[test]
fn interrupt_and_iret() {
    let mut m = Machine::new();
    m.put16(0x21 * 4, 0x1234);
    m.put16(0x21 * 4 + 2, 0x0500);
    m.cpu.st.flags |= rflags::IF | rflags::TF;
    m.run(&[0xcd, 0x21]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0x1234, 0x500));
    assert_eq!(m.cpu.st.seg[1].base, 0x5000);
    assert_eq!(m.cpu.st.flags & (rflags::IF | rflags::TF), 0);
    assert_eq!(*m.reg(reg::RSP), 0x7ffa);
    assert_eq!((m.get16(0x7ffa), m.get16(0x7ffc)), (CODE as u16 + 2, 0));
    // IRET at 0500:1234.
    m.put(0x6234, [0xcf]);
    m.step().unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), *m.reg(reg::RSP)), (CODE + 2, 0, 0x8000));
    assert_ne!(m.cpu.st.flags & rflags::IF, 0);
}

#[test]
fn far_jump_keeps_limits() {
    let mut m = Machine::new();
    m.run(&[0xea, 0x34, 0x12, 0x00, 0x08]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), m.cpu.st.seg[1].base), (0x1234, 0x800, 0x8000));
    // "Unreal mode": the limit of DS survives a load.
    m.cpu.st.seg[3].limit = u32::MAX;
    *m.reg(reg::RAX) = 0x2000;
    m.cpu.st.seg[1].base = 0;
    m.run(&[0x8e, 0xd8]).unwrap();
    assert_eq!((m.cpu.st.seg[3].base, m.cpu.st.seg[3].limit), (0x2_0000, u32::MAX));
}

#[test]
fn far_call_and_return() {
    let mut m = Machine::new();
    m.run(&[0x9a, 0x10, 0x00, 0x00, 0x07]).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0x10, 0x700));
    m.put(0x7010, [0xca, 4, 0]);
    m.step().unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), *m.reg(reg::RSP)), (CODE + 5, 0, 0x8004));
}

#[test]
fn faults_go_through_the_vector_table() {
    let mut m = Machine::new();
    m.put32(6 * 4, 0x0100_0042);
    m.run(&[0x0f, 0x0b]).unwrap_err();
    assert_eq!(m.cpu.st.rip, CODE);
    deliver_fault(&mut m.cpu).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0x42, 0x100));
    assert_eq!(m.get16(0x7ffa), CODE as u16);
}

#[test]
fn an_unusable_table_shuts_down() {
    let mut m = Machine::new();
    m.cpu.st.idtr.limit = 0;
    m.run(&[0x0f, 0x0b]).unwrap_err();
    assert_eq!(deliver_fault(&mut m.cpu), Err(Shutdown));
}

#[test]
fn interrupts_wait_for_the_shadow() {
    let mut m = Machine::with_bus(Nothing { interrupt: Some(8), ..Nothing::default() });
    m.put32(8 * 4, 0x0200_0000);
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    m.run(&[0xfb]).unwrap();
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    m.run(&[0xf4]).unwrap();
    assert!(m.cpu.st.halted);
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert!(!m.cpu.st.halted);
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS)), (0, 0x200));
    assert_eq!(m.get16(0x7ffa), CODE as u16 + 1);
}

#[test]
fn enabling_interrupts_stops_a_block_only_if_something_can_come_of_it() {
    use crate::state::Shadow;
    const IF: u16 = 0x202;
    for instruction in [0xfb, 0x9d, 0xcf] {
        let sti = instruction == 0xfb;
        // What waits for the processor, the deadline after the instruction, and whether it stops.
        for (interrupt, left, stops) in [(None, 2, false), (None, 1, true), (Some(8), 2, true)] {
            let mut m = Machine::with_bus(Nothing { interrupt, ..Nothing::default() });
            // POPF's image, or IRET's: IP, CS, FLAGS.
            let image = if instruction == 0xcf { [0x1234, 0, IF] } else { [IF, 0, 0] };
            (0x8000u64..).step_by(2).zip(image).for_each(|(at, v)| m.put16(at, v));
            m.cpu.until = m.cpu.st.icount() + left;
            m.run(&[instruction]).unwrap();
            assert_ne!(m.cpu.st.flags & rflags::IF, 0);
            let expected = if stops { stop::AFTER } else { stop::NONE };
            assert_eq!(m.cpu.st.stop, expected, "{instruction:x} {interrupt:?} {left}");
            let shadow = if sti && stops { Shadow::Sti } else { Shadow::None };
            assert_eq!(m.cpu.st.shadow, shadow, "{instruction:x} {interrupt:?} {left}");
        }
    }
}

#[test]
fn nmi_is_blocked_until_iret() {
    let mut m = Machine::with_bus(Nothing { nmi: true, ..Nothing::default() });
    m.put32(2 * 4, 0x0200_0000);
    m.put(0x2000, [0xcf]);
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    m.bus(Nothing { nmi: true, ..Nothing::default() });
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    m.step().unwrap();
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
}

#[test]
fn ports() {
    let mut m = Machine::new();
    *m.reg(reg::RDX) = 0x3f8;
    *m.reg(reg::RAX) = u64::MAX;
    m.run(&[0x66, 0xed]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0xabcd_03f8);
    m.run(&[0xe4, 0x80]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0xabcd_0380);
}

#[test]
fn protected_only_instructions() {
    let mut m = Machine::new();
    for bytes in [[0x0f, 0x00, 0xd0], [0x0f, 0x00, 0xd8], [0x0f, 0x00, 0xc0], [0x0f, 0x02, 0xc0]] {
        assert_eq!(m.run(&bytes), Err(ud()));
    }
}
