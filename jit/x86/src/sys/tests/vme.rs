//! Virtual-8086 mode extensions and protected-mode virtual interrupts (SDM vol. 3, 20.3 and 20.4), by method.

use super::protected::{CODE0, IDT, STACK0, TSS, machine, user};
use super::*;
use crate::state::{Segment, cr4};

const VIF: u64 = rflags::VIF;
const VIP: u64 = rflags::VIP;
const BITMAP: u64 = TSS + 0x68;

/// Virtual-8086 mode at 0000:4000, stack 0000:8000, with these flags; the redirection bitmap is at TSS + 68h, all zero.
fn virtual_8086(flags: u64, cr4: u64) -> Machine {
    let mut m = machine();
    m.put16(TSS + 0x66, 0x88);
    for at in (0..40).step_by(8) {
        m.put64(BITMAP + at, 0);
    }
    let st = &mut m.cpu.st;
    st.tr = Segment { limit: 0x8f, ..st.tr };
    st.cr4 |= cr4;
    for s in &mut st.seg {
        *s = segment::vm86_segment(0);
    }
    st.cpl = 3;
    st.flags |= rflags::VM | flags;
    st.gpr[reg::RSP as usize] = 0x8000;
    m.cpu.load_state_changed();
    // INT 21h of the program, and the monitor's handler of it.
    m.put32(0x21 * 4, 0x0500_1234);
    m.put64(IDT + 0x21 * 8, gate(CODE0, 0x5000, 0xee, 0));
    m
}

const INT21: [u8; 2] = [0xcd, 0x21];

#[test]
fn redirected_interrupts() {
    // Methods 5 (IOPL 3) and 6 (below).
    for (iopl, flags, seen, cleared) in [
        (3, rflags::IF, rflags::IF, rflags::IF),
        (0, rflags::IF | VIF, rflags::IF, VIF),
        (0, rflags::IF, 0, VIF),
    ] {
        let mut m = virtual_8086(iopl << 12 | flags | rflags::TF, cr4::VME);
        m.run(&INT21).unwrap();
        assert_eq!((m.cpu.st.rip, m.sel(seg::CS), m.cpu.st.cpl), (0x1234, 0x500, 3));
        assert!(m.cpu.st.mode.has(Mode::VM86));
        assert_eq!(*m.reg(reg::RSP), 0x7ffa);
        assert_eq!((m.get16(0x7ffa), m.get16(0x7ffc)), (CODE as u16 + 2, 0));
        let image = u64::from(m.get16(0x7ffe));
        assert_eq!(image & (rflags::IF | rflags::IOPL), seen | rflags::IOPL, "IOPL {iopl}");
        assert_ne!(image & rflags::TF, 0);
        assert_eq!(m.cpu.st.flags & (cleared | rflags::TF), 0);
        assert_eq!(m.cpu.st.flags & rflags::IOPL, iopl << 12, "IOPL itself stays");
    }
}

#[test]
fn interrupts_that_are_not_redirected() {
    // Bit 1: method 3 or 4. IOPL 3 goes to the monitor by the IDT, below it is #GP(0).
    for (iopl, cr4, monitored) in [(3, cr4::VME, true), (0, cr4::VME, false), (3, 0, true), (0, 0, false)] {
        let mut m = virtual_8086(iopl << 12, cr4);
        m.put(BITMAP + 0x21 / 8, [1 << (0x21 % 8)]);
        let result = m.run(&INT21);
        if monitored {
            assert_eq!(result, Ok(()));
            assert_eq!((m.cpu.st.rip, m.cpu.st.cpl, *m.reg(reg::RSP)), (0x5000, 0, u64::from(STACK0) - 36));
        } else {
            assert_eq!(result, Err(gp(0)), "IOPL {iopl}, CR4 {cr4:#x}");
        }
    }
    // The bitmap lies beyond the TSS.
    let mut m = virtual_8086(3 << 12, cr4::VME);
    m.put16(TSS + 0x66, 0xb0);
    assert_eq!(m.run(&INT21), Err(gp(0)));
    // INT3 and INTO are not redirected, whatever IOPL is.
    let mut m = virtual_8086(0, cr4::VME);
    m.put64(IDT + 3 * 8, gate(CODE0, 0x5000, 0xee, 0));
    m.run(&[0xcc]).unwrap();
    assert_eq!(m.cpu.st.cpl, 0);
}

#[test]
fn cli_and_sti_act_on_vif() {
    let mut m = virtual_8086(rflags::IF, cr4::VME);
    m.run(&[0xfb]).unwrap();
    assert_eq!(m.cpu.st.flags & (rflags::IF | VIF), rflags::IF | VIF);
    assert_eq!(m.cpu.st.shadow, crate::state::Shadow::None);
    m.run(&[0xfa]).unwrap();
    assert_eq!(m.cpu.st.flags & (rflags::IF | VIF), rflags::IF, "IF is the monitor's");
    m.cpu.st.flags |= VIP;
    assert_eq!(m.run(&[0xfb]), Err(gp(0)), "an interrupt waits");
    assert_eq!(m.run(&[0xfa]), Ok(()));
    let mut m = virtual_8086(0, 0);
    assert_eq!(m.run(&[0xfb]), Err(gp(0)), "CR4.VME is clear");
    let mut m = virtual_8086(3 << 12, cr4::VME);
    m.run(&[0xfb]).unwrap();
    assert_eq!(m.cpu.st.flags & (rflags::IF | VIF), rflags::IF, "IOPL 3");
}

#[test]
fn pvi_in_protected_mode() {
    let mut m = user();
    m.cpu.st.cr4 |= cr4::PVI;
    m.run(&[0xfb]).unwrap();
    assert_eq!(m.cpu.st.flags & (rflags::IF | VIF), VIF);
    m.run(&[0xfa]).unwrap();
    assert_eq!(m.cpu.st.flags & VIF, 0);
    m.cpu.st.flags |= VIP;
    assert_eq!(m.run(&[0xfb]), Err(gp(0)));
    m.cpu.st.cr4 = cr4::VME;
    assert_eq!(m.run(&[0xfa]), Err(gp(0)), "VME is for virtual-8086 mode");
    // PUSHF and POPF know nothing of PVI.
    m.cpu.st.flags |= VIF;
    m.cpu.st.cr4 = cr4::PVI;
    m.run(&[0x66, 0x9c]).unwrap();
    let sp = *m.reg(reg::RSP);
    assert_eq!(u64::from(m.get16(sp)) & rflags::IF, 0);
}

#[test]
fn pushf_popf_and_iret_show_vif() {
    let mut m = virtual_8086(VIF, cr4::VME);
    m.run(&[0x9c]).unwrap();
    assert_eq!(u64::from(m.get16(0x7ffe)), rflags::IF | rflags::IOPL | 2);
    assert_eq!(m.run(&[0x66, 0x9c]), Err(gp(0)), "the 32-bit forms fault");
    assert_eq!(m.run(&[0x66, 0x9d]), Err(gp(0)));
    assert_eq!(m.run(&[0x66, 0xcf]), Err(gp(0)));
    for pop in [&[0x9d][..], &[0xcf]] {
        let frame = |m: &mut Machine, flags: u64| {
            *m.reg(reg::RSP) = 0x7ff0;
            let at = if pop == [0xcf] { 0x7ff4 } else { 0x7ff0 };
            m.put32(0x7ff0, 0x0000_4321);
            m.put16(at, flags as u16);
        };
        let mut m = virtual_8086(VIF, cr4::VME);
        frame(&mut m, rflags::CF);
        m.run(pop).unwrap();
        assert_eq!(m.cpu.rflags() & (VIF | rflags::CF | rflags::IOPL), rflags::CF, "{pop:x?}");
        frame(&mut m, rflags::IF | rflags::IOPL);
        m.run(pop).unwrap();
        assert_eq!(m.cpu.rflags() & (VIF | rflags::IF | rflags::IOPL), VIF, "{pop:x?}");
        frame(&mut m, rflags::TF);
        assert_eq!(m.run(pop), Err(gp(0)), "TF, {pop:x?}");
        m.cpu.st.flags |= VIP;
        frame(&mut m, rflags::IF);
        assert_eq!(m.run(pop), Err(gp(0)), "IF while VIP is set, {pop:x?}");
        frame(&mut m, 0);
        assert_eq!(m.run(pop), Ok(()));
    }
}

#[test]
fn sensitive_instructions_without_vme() {
    for code in [&[0x9c][..], &[0x9d], &[0xcf], &[0xcd, 0x21], &[0xfa], &[0xfb]] {
        let mut m = virtual_8086(2 << 12, 0);
        assert_eq!(m.run(code), Err(gp(0)), "{code:x?} below IOPL 3");
        let mut m = virtual_8086(3 << 12, 0);
        assert_eq!(m.run(code), Ok(()), "{code:x?} at IOPL 3");
    }
    // Privileged, whatever IOPL is; IN looks at the bitmap only.
    for code in [&[0xf4][..], &[0x0f, 0x20, 0xc0], &[0x0f, 0x06], &[0x0f, 0x30]] {
        assert_eq!(virtual_8086(3 << 12, 0).run(code), Err(gp(0)), "{code:x?}");
    }
    let mut m = virtual_8086(3 << 12, 0);
    m.put(TSS + 0x88, [0xfe, 0xff]);
    assert_eq!(m.run(&[0xe4, 0]), Ok(()));
    assert_eq!(m.run(&[0xe4, 1]), Err(gp(0)));
    for code in [&[0x0f, 0x00, 0xd0][..], &[0x0f, 0x02, 0xc0], &[0x63, 0xd8]] {
        assert_eq!(virtual_8086(3 << 12, 0).run(code), Err(ud()), "{code:x?}");
    }
}

/// MONITOR of DS:EAX, then MWAIT with ECX.
fn wait(m: &mut Machine, ecx: u64) -> Result<(), Fault> {
    *m.reg(reg::RAX) = 0x3000;
    *m.reg(reg::RCX) = 0;
    m.run(&[0x0f, 0x01, 0xc8])?;
    *m.reg(reg::RCX) = ecx;
    m.run(&[0x0f, 0x01, 0xc9])
}

#[test]
fn monitor_and_mwait() {
    let mut m = machine();
    m.run(&[0x0f, 0x01, 0xc9]).unwrap();
    assert!(!m.cpu.st.halted, "nothing is monitored");
    wait(&mut m, 0).unwrap();
    assert!(m.cpu.st.halted);
    assert_eq!(m.cpu.st.rip, CODE + 3);
    // IF is clear: an interrupt does not end it, unless ECX bit 0 asked for that; it is not taken then.
    m.bus(Nothing { interrupt: Some(0x20), ..Nothing::default() });
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    assert!(m.cpu.st.halted);
    m.cpu.st.halted = false;
    wait(&mut m, 1).unwrap();
    assert_eq!(poll_events(&mut m.cpu), Ok(false));
    assert!(!m.cpu.st.halted && !m.cpu.st.wakes_masked);
    // With IF set it is taken.
    m.put64(IDT + 0x20 * 8, gate(CODE0, 0x5000, 0x8e, 0));
    wait(&mut m, 0).unwrap();
    m.cpu.st.flags |= rflags::IF;
    assert_eq!(poll_events(&mut m.cpu), Ok(true));
    assert_eq!((m.cpu.st.rip, m.cpu.st.halted), (0x5000, false));
}

#[test]
fn monitor_rules() {
    let mut m = machine();
    assert_eq!(wait(&mut m, 2), Err(gp(0)), "an unknown extension");
    *m.reg(reg::RCX) = 1;
    assert_eq!(m.run(&[0x0f, 0x01, 0xc8]), Err(gp(0)), "MONITOR has none");
    *m.reg(reg::RCX) = 0;
    m.cpu.st.seg[seg::DS as usize].limit = 0xfff;
    m.cpu.mode_changed();
    *m.reg(reg::RAX) = 0x1000;
    assert_eq!(m.run(&[0x0f, 0x01, 0xc8]), Err(gp(0)), "the address is checked as a load's");
    let mut m = user();
    assert_eq!(m.run(&[0x0f, 0x01, 0xc8]), Err(ud()), "CPL 3: #UD");
    assert_eq!(m.run(&[0x0f, 0x01, 0xc9]), Err(ud()));
    // Drivers of MWAIT look at these MSRs where the processor's model has them.
    let mut m = machine();
    for n in [0xe2, 0x1fc] {
        *m.reg(reg::RCX) = n;
        assert_eq!(m.run(&[0x0f, 0x32]), Ok(()), "RDMSR {n:#x}");
        assert_eq!(m.run(&[0x0f, 0x30]), Ok(()), "WRMSR {n:#x}");
    }
    // IA32_MISC_ENABLE bit 18 takes both away, and CPUID shows it.
    let mut m = machine();
    assert_ne!(m.cpu.model.cpuid(&m.cpu.st, 1, 0)[2] & 8, 0);
    m.cpu.st.msr.misc_enable &= !(1 << 18);
    assert_eq!(m.cpu.model.cpuid(&m.cpu.st, 1, 0)[2] & 8, 0);
    assert_eq!(wait(&mut m, 0), Err(ud()));
}
