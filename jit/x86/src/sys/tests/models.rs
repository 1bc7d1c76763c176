//! What depends on the processor model: flags that exist, control-register bits, MSRs.

use super::*;
use crate::state::{cr4, rflags};

fn machine(model: &str) -> Machine {
    let mut m = Machine::new();
    m.cpu.model = CpuModel::by_name(model).expect("a model");
    m.cpu.power_on();
    m.cpu.st.gpr[reg::RSP as usize] = 0x8000;
    m.cpu.st.budget = 1 << 20;
    m.cpu.st.icount_end = 1 << 20;
    for s in &mut m.cpu.st.seg {
        (s.base, s.selector) = (0, 0);
    }
    m
}

/// The way by which software tells processors apart: which flags can be set.
#[test]
fn flags_that_can_be_set() {
    for (model, can) in [("386", 0), ("486", rflags::AC | rflags::ID), ("pentium", rflags::AC | rflags::ID)] {
        let mut m = machine(model);
        m.put32(0x8000, (rflags::AC | rflags::ID) as u32);
        m.run(&[0x66, 0x9d]).unwrap(); // POPFD
        assert_eq!(m.cpu.rflags() & (rflags::AC | rflags::ID), can, "{model}");
    }
    // Bits 12 to 15: always set on the 8086, always clear on the 80286 in real mode, free on the i386 but for bit 15.
    for (model, popped, found) in
        [("8086", 0x0000, 0xf000), ("8086", 0xffff, 0xf000), ("286", 0xf000, 0), ("386", 0xf000, 0x7000)]
    {
        let mut m = machine(model);
        m.put16(0x8000, popped);
        m.run(&[0x9d]).unwrap();
        assert_eq!(m.cpu.rflags() & 0xf000, found, "{model}, {popped:#x}");
    }
}

#[test]
fn control_register_4_follows_the_features() {
    for (model, bits) in [
        ("486", cr4::PSE),
        ("pentium", cr4::PSE | cr4::TSD | cr4::DE | cr4::MCE),
        ("pentium2", cr4::PSE | cr4::PAE | cr4::PGE | cr4::OSFXSR),
        ("pentium3", cr4::OSFXSR | cr4::OSXMMEXCPT),
    ] {
        let mut m = machine(model);
        *m.reg(reg::RAX) = bits;
        m.run(&[0x0f, 0x22, 0xe0]).unwrap();
        assert_eq!(m.cpu.st.cr4, bits, "{model}");
    }
    for (model, bit) in [
        ("486", cr4::TSD),
        ("pentium", cr4::PAE),
        ("pentium", cr4::OSFXSR),
        ("pentium2", cr4::OSXMMEXCPT),
        ("pentium3", cr4::UMIP),
    ] {
        let mut m = machine(model);
        *m.reg(reg::RAX) = bit;
        assert_eq!(m.run(&[0x0f, 0x22, 0xe0]), Err(gp(0)), "{model}, {bit:#x}");
    }
    let mut m = machine("386");
    assert_eq!(m.run(&[0x0f, 0x20, 0xe0]), Err(ud()), "the i386 has no CR4");
    *m.reg(reg::RAX) = 0x0005_002e;
    m.run(&[0x0f, 0x22, 0xc0]).unwrap();
    assert_eq!(m.cpu.st.cr0, 0x1e, "nor WP, AM and NE");
}

#[test]
fn model_specific_registers_follow_the_features() {
    // IA32_EFER, IA32_PAT, IA32_SYSENTER_CS, IA32_MTRRCAP, IA32_LSTAR, IA32_ARCH_CAPABILITIES.
    let msrs = [0xc000_0080u32, 0x277, 0x174, 0xfe, 0xc000_0082, 0x10a];
    for (model, have) in [
        ("pentium", [false; 6]),
        ("pentium3", [false, true, true, true, false, false]),
        ("qemu64", [true, true, true, true, true, false]),
        ("max", [true; 6]),
    ] {
        for (msr, have) in msrs.into_iter().zip(have) {
            let mut m = machine(model);
            *m.reg(reg::RCX) = msr.into();
            assert_eq!(m.run(&[0x0f, 0x32]), if have { Ok(()) } else { Err(gp(0)) }, "{model}, {msr:#x}");
            *m.reg(reg::RCX) = msr.into();
            if !have {
                assert_eq!(m.run(&[0x0f, 0x30]), Err(gp(0)), "{model}, WRMSR {msr:#x}");
            }
        }
    }
    assert_eq!(machine("486").run(&[0x0f, 0x32]), Err(ud()), "no MSRs at all");
}

/// IA32_SPEC_CTRL takes BHI_DIS_S where CPUID.(07H, 2) has it, and no other bit.
#[test]
fn branch_history_control_follows_its_feature() {
    for (has, bit, ok) in
        [(true, 10, true), (false, 10, false), (true, 0, true), (false, 2, true), (true, 3, false)]
    {
        let mut m = machine("max");
        assert!(m.cpu.model.set_feature("bhi-ctrl", has));
        for (register, value) in [(reg::RCX, 0x48), (reg::RDX, 0), (reg::RAX, 1 << bit)] {
            *m.reg(register) = value;
        }
        assert_eq!(m.run(&[0x0f, 0x30]), if ok { Ok(()) } else { Err(gp(0)) }, "{has}, bit {bit}");
    }
}

#[test]
fn edx_names_the_processor_at_reset() {
    for (model, edx) in [("486", 0x480), ("pentium3", 0x673), ("max", 0x8_06b8)] {
        assert_eq!(*machine(model).reg(reg::RDX), edx, "{model}");
    }
}

/// IA32_APIC_BASE.EXTD can be set where CPUID has x2APIC.
#[test]
fn x2apic_mode_follows_its_feature() {
    for model in ["max", "qemu64"] {
        for has in [true, false] {
            let mut m = machine(model);
            assert!(m.cpu.model.set_feature("x2apic", has));
            for (register, value) in [(reg::RCX, 0x1b), (reg::RDX, 0), (reg::RAX, 0xfee0_0d00)] {
                *m.reg(register) = value;
            }
            assert_eq!(m.run(&[0x0f, 0x30]), if has { Ok(()) } else { Err(gp(0)) }, "{model}, {has}");
        }
    }
}
