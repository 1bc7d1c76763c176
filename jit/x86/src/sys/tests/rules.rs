//! Alignment checks, the modified optimisation of XSAVE, and what vendors do differently.

use super::long::{CODE64, NONCANONICAL, machine as long, user as long_user};
use super::protected::{CODE0, machine, user};
use super::registers::{AREA, sse};
use super::*;
use crate::model::Vendor;
use crate::state::{cr0, efer};

const PLACE: u64 = 0x3000;

fn ac() -> Fault {
    fault(17, 0)
}

#[test]
fn alignment_is_checked_at_level_3() {
    // SDM vol. 3, 6.15, interrupt 17: CR0.AM, RFLAGS.AC and CPL 3.
    let mut m = user();
    m.cpu.st.cr0 |= cr0::AM;
    m.cpu.st.flags |= rflags::AC;
    m.cpu.load_state_changed();
    for (code, at, ok) in [
        (&[0x8b, 0x03][..], PLACE, true),
        (&[0x8b, 0x03], PLACE + 2, false),
        (&[0x89, 0x03], PLACE + 1, false),
        (&[0x66, 0x8b, 0x03], PLACE + 2, true),
        (&[0x66, 0x89, 0x03], PLACE + 1, false),
        (&[0x8a, 0x03], PLACE + 1, true),
        (&[0x01, 0x03], PLACE + 2, false),
        (&[0xf0, 0x01, 0x03], PLACE + 2, false),
        (&[0x8b, 0x03], PLACE + 0xffe, false),
        (&[0xdd, 0x03], PLACE + 4, false),
        (&[0xff, 0x33], PLACE + 1, false),
    ] {
        for _ in 0..2 {
            *m.reg(reg::RBX) = at;
            let wanted = if ok { Ok(()) } else { Err(ac()) };
            assert_eq!(m.run(code), wanted, "{code:x?} at {at:#x}");
        }
    }
    *m.reg(reg::RSP) = 0x9ffe;
    assert_eq!(m.run(&[0x50]), Err(ac()), "PUSH");
    for code in [
        &[0x9c][..],
        &[0x9d],
        &[0x60],
        &[0x61],
        &[0xc8, 0, 0, 0],
        &[0xcb],
        &[0xcf],
        &[0x9a, 0, 0x60, 0, 0, super::protected::CODE3 as u8, 0],
    ] {
        assert_eq!(m.run(code), Err(ac()), "{code:x?} on a stack that is not aligned");
        assert_eq!(*m.reg(reg::RSP), 0x9ffe, "{code:x?}");
    }
    // Off again: without AC, without AM, or below level 3; and its own handler's accesses are the supervisor's.
    *m.reg(reg::RBX) = PLACE + 2;
    m.cpu.st.cr0 &= !cr0::AM;
    m.cpu.mode_changed();
    assert_eq!(m.run(&[0x8b, 0x03]), Ok(()));
    m.cpu.st.cr0 |= cr0::AM;
    m.cpu.st.flags &= !rflags::AC;
    m.cpu.mode_changed();
    assert_eq!(m.run(&[0x8b, 0x03]), Ok(()));
    let mut m = machine();
    m.cpu.st.cr0 |= cr0::AM;
    m.cpu.st.flags |= rflags::AC;
    m.cpu.load_state_changed();
    *m.reg(reg::RBX) = PLACE + 2;
    assert_eq!(m.run(&[0x8b, 0x03]), Ok(()), "CPL 0");
}

#[test]
fn popf_turns_alignment_checks_on() {
    let mut m = user();
    m.cpu.st.cr0 |= cr0::AM;
    m.cpu.load_state_changed();
    *m.reg(reg::RBX) = PLACE + 2;
    assert_eq!(m.run(&[0x8b, 0x03]), Ok(()));
    m.put32(0x9000, (rflags::AC | 2) as u32);
    *m.reg(reg::RSP) = 0x9000;
    m.run(&[0x9d]).unwrap();
    assert_eq!(m.run(&[0x8b, 0x03]), Err(ac()), "and what the TLB had does not help");
    // A page fault of the same access comes first: nothing is mapped there.
    let mut m = long();
    long_user(&mut m);
    m.cpu.st.cr0 |= cr0::AM;
    m.cpu.st.flags |= rflags::AC;
    m.cpu.load_state_changed();
    *m.reg(reg::RBX) = 0x40_0002;
    assert_eq!(m.run(&[0x8b, 0x03]).unwrap_err().vector, 14);
}

#[test]
fn the_modified_optimisation() {
    // SDM vol. 1, 13.6: what XRSTOR loaded from an image and nobody changed, XSAVEOPT to that image does not write.
    let mut m = machine();
    sse(&mut m);
    m.cpu.st.xmm[3] = [7, 8];
    m.cpu.st.x87.mant[1] = 0x55;
    *m.reg(reg::RAX) = 3;
    m.run(&[0x0f, 0xae, 0x23]).unwrap();
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    let xmm3 = AREA + 160 + 48;
    m.put64(xmm3, 0xdead);
    m.run(&[0x0f, 0xae, 0x33]).unwrap();
    assert_eq!(
        (m.get64(xmm3), m.get64(AREA + 512)),
        (0xdead, 3),
        "unmodified: not written, but in XSTATE_BV"
    );
    m.cpu.st.xmm[0] = [1, 0];
    m.run(&[0x0f, 0xae, 0x33]).unwrap();
    assert_eq!(m.get64(xmm3), 7, "modified");
    // Another image, another level, or XSAVE: written.
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    *m.reg(reg::RBX) = AREA + 0x1000;
    m.run(&[0x0f, 0xae, 0x33]).unwrap();
    assert_eq!(m.get64(xmm3 + 0x1000), 7);
    *m.reg(reg::RBX) = AREA;
    m.put64(xmm3, 0xdead);
    m.run(&[0x0f, 0xae, 0x23]).unwrap();
    assert_eq!(m.get64(xmm3), 7, "XSAVE has no optimisation");
    m.put64(xmm3, 0xdead);
    m.cpu.st.cpl = 3;
    m.cpu.mode_changed();
    m.run(&[0x0f, 0xae, 0x33]).unwrap();
    assert_eq!(m.get64(xmm3), 7, "restored at another level");
    // XSAVES has it, XSAVEC has not.
    let mut m = machine();
    sse(&mut m);
    m.cpu.st.xmm[3] = [7, 8];
    *m.reg(reg::RAX) = 3;
    for (save, kept) in [(0x2b, true), (0x23, false)] {
        m.run(&[0x0f, 0xc7, save]).unwrap();
        m.run(&[0x0f, 0xc7, 0x1b]).unwrap();
        m.put64(xmm3, 0xdead);
        m.run(&[0x0f, 0xc7, save]).unwrap();
        assert_eq!(m.get64(xmm3) == 0xdead, kept, "{save:#x}");
    }
}

/// An AMD processor with STAR: SYSRET's base 60h, SYSCALL's 50h, legacy target 6000h.
fn amd(mut m: Machine) -> Machine {
    m.cpu.model.vendor = Vendor::Amd;
    let msr = &mut m.cpu.st.msr;
    (msr.star, msr.lstar, msr.cstar) = (0x63 << 48 | u64::from(CODE64) << 32 | 0x6000, 0x6100, 0x6200);
    msr.efer |= efer::SCE;
    (msr.sysenter_cs, msr.sysenter_esp, msr.sysenter_eip) = (u64::from(CODE64), 0x9000, 0x6000);
    m
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SYSRET: [u8; 2] = [0x0f, 0x07];

/// Compatibility mode, by a far return.
fn compatibility(mut m: Machine) -> Machine {
    m.put64(0x8ff0, 0x7000);
    m.put64(0x8ff8, u64::from(CODE0));
    *m.reg(reg::RSP) = 0x8ff0;
    m.run(&[0x48, 0xcb]).unwrap();
    m
}

#[test]
fn syscall_outside_64_bit_mode_is_amds() {
    // APM vol. 3, SYSCALL; SDM vol. 2, SYSCALL: #UD.
    let mut m = compatibility(long());
    m.cpu.st.msr.efer |= efer::SCE;
    assert_eq!(m.run(&SYSCALL), Err(ud()), "Intel, compatibility mode");
    assert_eq!(machine().run(&SYSCALL), Err(ud()), "Intel, legacy mode");
    let mut m = compatibility(amd(long()));
    m.run(&SYSCALL).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), *m.reg(reg::RCX)), (0x6200, CODE64, CODE + 2), "CSTAR");
    assert!(m.cpu.st.mode.has(Mode::CODE64));
    let mut m = amd(user());
    m.cpu.st.flags |= rflags::IF;
    m.run(&SYSCALL).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), m.sel(seg::SS)), (0x6000, CODE64, CODE64 + 8), "STAR");
    assert_eq!((m.cpu.st.cpl, m.cpu.st.flags & rflags::IF), (0, 0));
    assert!(m.cpu.st.mode.has(Mode::CODE32));
    m.run(&SYSRET).unwrap();
    assert_eq!((m.cpu.st.rip, m.sel(seg::CS), m.cpu.st.cpl), (CODE + 2, 0x63, 3));
    assert_ne!(m.cpu.st.flags & rflags::IF, 0);
    assert_eq!(m.run(&SYSRET), Err(gp(0)), "CPL 3");
}

#[test]
fn sysret_to_a_non_canonical_rip() {
    // Intel faults at SYSRET, at level 0; AMD at the target, at level 3.
    let mut m = long();
    m.cpu.st.msr.efer |= efer::SCE;
    *m.reg(reg::RCX) = NONCANONICAL;
    assert_eq!(m.run(&[0x48, 0x0f, 0x07]), Err(gp(0)));
    assert_eq!(m.cpu.st.cpl, 0);
    let mut m = amd(long());
    *m.reg(reg::RCX) = NONCANONICAL;
    m.run(&[0x48, 0x0f, 0x07]).unwrap();
    assert_eq!((m.cpu.st.cpl, m.step()), (3, Err(gp(0))));
}

#[test]
fn sysenter_in_long_mode_is_intels() {
    for mut m in [amd(long()), compatibility(amd(long()))] {
        assert_eq!(m.run(&[0x0f, 0x34]), Err(ud()));
        assert_eq!(m.run(&[0x0f, 0x35]), Err(ud()));
    }
    let mut m = amd(machine());
    assert_eq!(m.run(&[0x0f, 0x34]), Ok(()), "legacy mode");
    // Intel: compatibility mode enters 64-bit code.
    let mut m = compatibility(long());
    let msr = &mut m.cpu.st.msr;
    (msr.sysenter_cs, msr.sysenter_esp, msr.sysenter_eip) =
        (u64::from(CODE64), 0xffff_8000_0000_9000, 0x6000);
    m.run(&[0x0f, 0x34]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::CODE64));
    assert_eq!(*m.reg(reg::RSP), 0xffff_8000_0000_9000);
}

#[test]
fn vendors_in_cpuid() {
    let mut m = machine();
    let name = |m: &Machine| {
        let [_, b, c, d] = m.cpu.model.cpuid(&m.cpu.st, 0, 0);
        [b, d, c].iter().flat_map(|v| v.to_le_bytes()).map(char::from).collect::<String>()
    };
    let syscall = |m: &Machine| m.cpu.model.cpuid(&m.cpu.st, 0x8000_0001, 0)[3] >> 11 & 1;
    assert_eq!(
        (name(&m).as_str(), syscall(&m)),
        ("GenuineIntel", 0),
        "Intel hides SYSCALL outside 64-bit mode"
    );
    m.cpu.model.vendor = Vendor::Amd;
    assert_eq!((name(&m).as_str(), syscall(&m)), ("AuthenticAMD", 1));
}

#[test]
fn random_numbers_and_identity() {
    // SDM vol. 2, RDRAND: CF says that there is a number; OF, SF, ZF, AF, PF are cleared.
    let mut m = machine();
    m.cpu.set_rflags(rflags::ARITH | 2);
    m.run(&[0x0f, 0xc7, 0xf0]).unwrap();
    assert_eq!(m.cpu.rflags() & rflags::ARITH, rflags::CF);
    m.run(&[0x0f, 0xc7, 0xf8]).unwrap();
    assert_eq!(m.cpu.rflags() & rflags::ARITH, rflags::CF);
    m.cpu.st.msr.tsc_aux = 0x1234_5678;
    m.run(&[0xf3, 0x0f, 0xc7, 0xf8]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0x1234_5678, "RDPID");
    m.run(&[0x0f, 0x01, 0xf9]).unwrap();
    assert_eq!(*m.reg(reg::RCX), 0x1234_5678, "RDTSCP");
    // CR4.TSD makes RDTSC and RDTSCP privileged, RDPID not.
    let mut m = user();
    m.cpu.st.cr4 |= crate::state::cr4::TSD;
    assert_eq!(m.run(&[0x0f, 0x31]), Err(gp(0)));
    assert_eq!(m.run(&[0x0f, 0x01, 0xf9]), Err(gp(0)));
    assert_eq!(m.run(&[0xf3, 0x0f, 0xc7, 0xf8]), Ok(()));
    for (name, code) in [
        ("rdrand", &[0x0f, 0xc7, 0xf0][..]),
        ("rdseed", &[0x0f, 0xc7, 0xf8]),
        ("rdpid", &[0xf3, 0x0f, 0xc7, 0xf8]),
        ("rdtscp", &[0x0f, 0x01, 0xf9]),
    ] {
        let mut m = machine();
        assert!(m.cpu.model.set_feature(name, false));
        assert_eq!(m.run(code), Err(ud()), "{name} is off");
    }
}

#[test]
fn umip_hides_the_tables_from_programs() {
    // SDM vol. 2, SGDT, SIDT, SLDT, STR, SMSW: #GP(0) above CPL 0 with CR4.UMIP; loads are privileged anyway.
    let stores =
        [[0x0f, 0x01, 0x03], [0x0f, 0x01, 0x0b], [0x0f, 0x00, 0x03], [0x0f, 0x00, 0x0b], [0x0f, 0x01, 0x23]];
    for code in stores {
        for (cpl, umip, ok) in [(3, false, true), (3, true, false), (0, true, true)] {
            let mut m = if cpl == 3 { user() } else { machine() };
            m.cpu.st.cr4 |= if umip { crate::state::cr4::UMIP } else { 0 };
            *m.reg(reg::RBX) = PLACE;
            let wanted = if ok { Ok(()) } else { Err(gp(0)) };
            assert_eq!(m.run(&code), wanted, "{code:x?} at CPL {cpl}, UMIP {umip}");
        }
    }
}
