//! Control registers, EFER, debug registers, MSRs, CPUID, and saved state.

use super::protected::machine;
use super::*;
use crate::state::{Mode, X87, cr0, cr4, efer};

pub(super) fn write_cr(m: &mut Machine, n: u8, v: u64) -> Result<(), Fault> {
    *m.reg(reg::RAX) = v;
    m.run(&[0x0f, 0x22, 0xc0 | n << 3])
}

pub(super) fn wrmsr(m: &mut Machine, n: u32, v: u64) -> Result<(), Fault> {
    *m.reg(reg::RCX) = u64::from(n);
    *m.reg(reg::RAX) = v & 0xffff_ffff;
    *m.reg(reg::RDX) = v >> 32;
    m.run(&[0x0f, 0x30])
}

fn rdmsr(m: &mut Machine, n: u32) -> Result<u64, Fault> {
    *m.reg(reg::RCX) = u64::from(n);
    m.run(&[0x0f, 0x32])?;
    Ok(*m.reg(reg::RDX) << 32 | *m.reg(reg::RAX))
}

#[test]
fn cr0_rules() {
    let mut m = machine();
    let on = cr0::PE | cr0::ET;
    assert_eq!(write_cr(&mut m, 0, cr0::PG), Err(gp(0)), "PG without PE");
    assert_eq!(write_cr(&mut m, 0, on | cr0::NW), Err(gp(0)), "NW without CD");
    assert_eq!(write_cr(&mut m, 0, on | cr0::TS | 1 << 10), Ok(()));
    assert_eq!(m.cpu.st.cr0, on | cr0::TS, "reserved bits are not kept");
    assert!(m.cpu.st.mode.has(Mode::TS));
    m.run(&[0x0f, 0x06]).unwrap();
    assert!(!m.cpu.st.mode.has(Mode::TS));
    // LMSW cannot clear PE.
    *m.reg(reg::RAX) = cr0::MP;
    m.run(&[0x0f, 0x01, 0xf0]).unwrap();
    assert_eq!(m.cpu.st.cr0, on | cr0::MP);
}

#[test]
fn cr4_rules() {
    let mut m = machine();
    for bit in [cr4::PCIDE, 1 << 13, 1 << 23] {
        assert_eq!(write_cr(&mut m, 4, bit), Err(gp(0)), "bit {bit:#x}");
    }
    assert_eq!(write_cr(&mut m, 4, cr4::PAE | cr4::PGE | cr4::OSFXSR | cr4::SMEP | cr4::OSXSAVE), Ok(()));
}

#[test]
fn entering_and_leaving_long_mode() {
    const EFER: u32 = 0xc000_0080;
    let mut m = machine();
    m.put64(0x1_0000, 0x1_1003);
    m.put64(0x1_1000, 0x1_2003);
    m.put64(0x1_2000, 0x83);
    write_cr(&mut m, 3, 0x1_0000).unwrap();
    wrmsr(&mut m, EFER, efer::LME).unwrap();
    let paging = cr0::PE | cr0::ET | cr0::PG;
    assert_eq!(write_cr(&mut m, 0, paging), Err(gp(0)), "LME without PAE");
    write_cr(&mut m, 4, cr4::PAE).unwrap();
    write_cr(&mut m, 0, paging).unwrap();
    assert_eq!(m.cpu.st.msr.efer, efer::LME | efer::LMA);
    assert!(m.cpu.st.mode.has(Mode::LONG) && !m.cpu.st.mode.has(Mode::CODE64));
    assert_eq!(write_cr(&mut m, 4, 0), Err(gp(0)), "PAE is needed");
    assert_eq!(wrmsr(&mut m, EFER, 0), Err(gp(0)), "LME is fixed under paging");
    assert_eq!(wrmsr(&mut m, EFER, efer::LME | 1 << 12), Err(gp(0)));
    assert_eq!(wrmsr(&mut m, EFER, efer::LME | efer::NXE), Ok(()), "LMA is ignored");
    assert_eq!(m.cpu.st.msr.efer, efer::LME | efer::LMA | efer::NXE);
    write_cr(&mut m, 0, cr0::PE).unwrap();
    assert_eq!(m.cpu.st.msr.efer & efer::LMA, 0);
    assert!(!m.cpu.st.mode.has(Mode::LONG));
}

#[test]
fn pdpte_reserved_bits() {
    let mut m = machine();
    write_cr(&mut m, 4, cr4::PAE).unwrap();
    m.put64(0x1_0000, 0x1_1001);
    m.put64(0x1_1000, 0x83);
    m.put64(0x1_0008, 0x1_1003);
    write_cr(&mut m, 3, 0x1_0000).unwrap();
    let paging = cr0::PE | cr0::ET | cr0::PG;
    assert_eq!(write_cr(&mut m, 0, paging), Err(gp(0)));
    assert_eq!(m.cpu.st.cr0 & cr0::PG, 0);
    m.put64(0x1_0008, 0);
    write_cr(&mut m, 0, paging).unwrap();
    assert_eq!(m.cpu.st.pdptes, [0x1_1001, 0, 0, 0]);
    m.put64(0x1_0010, 0x1e1);
    assert_eq!(write_cr(&mut m, 3, 0x1_0000), Err(gp(0)));
}

#[test]
fn debug_registers() {
    let mut m = machine();
    *m.reg(reg::RAX) = 0xffff_ffff;
    m.run(&[0x0f, 0x23, 0xf0]).unwrap();
    assert_eq!(m.cpu.st.dr[6], 0xffff_efff & !0x1000 | 0xffff_0ff0);
    *m.reg(reg::RAX) = 0;
    // DR5 is DR7 unless CR4.DE.
    m.run(&[0x0f, 0x23, 0xe8]).unwrap();
    assert_eq!(m.cpu.st.dr[7], 0x400);
    m.cpu.st.cr4 |= cr4::DE;
    assert_eq!(m.run(&[0x0f, 0x23, 0xe8]), Err(ud()));
    // General detect.
    m.cpu.st.dr[7] |= 1 << 13;
    let f = m.run(&[0x0f, 0x21, 0xc0]).unwrap_err();
    assert_eq!((f.vector, f.info), (1, 1 << 13));
}

#[test]
fn model_specific_registers() {
    let mut m = machine();
    assert_eq!(rdmsr(&mut m, 0x1234_5678), Err(gp(0)));
    assert_eq!(wrmsr(&mut m, 0x277, 0x0606_0606_0606_0602), Err(gp(0)), "PAT type 2");
    wrmsr(&mut m, 0x277, 0x0007_0106_0007_0106).unwrap();
    assert_eq!(rdmsr(&mut m, 0x277), Ok(0x0007_0106_0007_0106));
    assert_eq!(wrmsr(&mut m, 0xc000_0082, 1 << 63), Err(gp(0)), "LSTAR");
    wrmsr(&mut m, 0x268, 0x0606_0606_0505_0404).unwrap();
    assert_eq!(rdmsr(&mut m, 0x268), Ok(0x0606_0606_0505_0404));
    assert_eq!(wrmsr(&mut m, 0x201, 1 << 41), Err(gp(0)), "beyond MAXPHYADDR");
    wrmsr(&mut m, 0x10, 0x100_0000_0000).unwrap();
    let tsc = rdmsr(&mut m, 0x10).unwrap();
    assert_eq!(tsc - 0x100_0000_0000, 1, "one instruction later");
    assert_eq!(rdmsr(&mut m, 0x10a), Ok(crate::model::ARCH_CAPABILITIES));
    assert_eq!(rdmsr(&mut m, 0x8b), Ok(1 << 32));
}

#[test]
fn cpuid_instruction() {
    let mut m = machine();
    *m.reg(reg::RAX) = 0;
    m.run(&[0x0f, 0xa2]).unwrap();
    assert_eq!(*m.reg(reg::RBX), u64::from(u32::from_le_bytes(*b"Genu")));
}

#[test]
fn denied_extensions_are_undefined() {
    let mut m = machine();
    // VMXON [EAX], AESENC, VMCALL, VADDPS, SHA1MSG1, RSM, UD1.
    for bytes in [
        &[0xf3, 0x0f, 0xc7, 0x30][..],
        &[0x66, 0x0f, 0x38, 0xdc, 0xc1],
        &[0x0f, 0x01, 0xc1],
        &[0xc5, 0xf0, 0x58, 0xc1],
        &[0x0f, 0x38, 0xc9, 0xc1],
        &[0x0f, 0xaa],
        &[0x0f, 0xb9, 0xc0],
    ] {
        assert_eq!(m.run(bytes), Err(ud()), "{bytes:x?}");
    }
}

pub(super) const AREA: u64 = 0x2_0000;

fn fill(m: &mut Machine) -> X87 {
    let x87 = X87 {
        mant: std::array::from_fn(|n| 0x8000_0000_0000_0000 | n as u64),
        sexp: std::array::from_fn(|n| 0x3fff + n as u16),
        cw: 0x27f,
        sw: 5 << 11,
        empty: 0x1f,
        fop: 0x123,
        fip: 0x1111,
        fcs: 8,
        fdp: 0x2222,
        fds: 0x10,
    };
    m.cpu.st.x87 = x87;
    m.cpu.st.xmm = std::array::from_fn(|n| if n < 8 { [n as u64 + 1, !(n as u64)] } else { [0, 0] });
    m.cpu.st.mxcsr = 0x1fbf;
    x87
}

pub(super) fn sse(m: &mut Machine) {
    let cr4 = m.cpu.st.cr4 | cr4::OSFXSR | cr4::OSXSAVE;
    write_cr(m, 4, cr4).unwrap();
    *m.reg(reg::RCX) = 0;
    *m.reg(reg::RDX) = 0;
    *m.reg(reg::RAX) = 3;
    m.run(&[0x0f, 0x01, 0xd1]).unwrap();
    *m.reg(reg::RBX) = AREA;
}

#[test]
fn fxsave_round_trip() {
    let mut m = machine();
    sse(&mut m);
    let x87 = fill(&mut m);
    let xmm = m.cpu.st.xmm;
    m.run(&[0x0f, 0xae, 0x03]).unwrap();
    assert_eq!(m.get16(AREA + 4), 0xe0, "abridged tags");
    assert_eq!(m.get64(AREA + 32), x87.mant[5], "ST(0) first");
    assert_eq!(m.get64(AREA + 24), 0xffff_0000_1fbf);
    m.cpu.st.x87 = X87::default();
    m.cpu.st.xmm = Default::default();
    m.cpu.st.mxcsr = 0x1f80;
    m.run(&[0x0f, 0xae, 0x0b]).unwrap();
    assert_eq!((m.cpu.st.x87, m.cpu.st.xmm, m.cpu.st.mxcsr), (x87, xmm, 0x1fbf));
    m.put32(AREA + 24, 0x1_0000);
    assert_eq!(m.run(&[0x0f, 0xae, 0x0b]), Err(gp(0)), "reserved MXCSR bit");
    *m.reg(reg::RBX) = AREA + 8;
    assert_eq!(m.run(&[0x0f, 0xae, 0x03]), Err(gp(0)), "alignment");
}

#[test]
fn xsave_formats() {
    let mut m = machine();
    assert_eq!(m.run(&[0x0f, 0xae, 0x23]), Err(ud()), "CR4.OSXSAVE is clear");
    sse(&mut m);
    let x87 = fill(&mut m);
    let xmm = m.cpu.st.xmm;
    *m.reg(reg::RAX) = 3;
    m.run(&[0x0f, 0xae, 0x23]).unwrap();
    assert_eq!(m.get64(AREA + 512), 3);
    m.cpu.st.xmm = Default::default();
    m.cpu.st.x87 = X87::default();
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    assert_eq!((m.cpu.st.x87, m.cpu.st.xmm), (x87, xmm));
    // Components in their initial state are not in use.
    m.cpu.st.xmm = Default::default();
    m.run(&[0x0f, 0xae, 0x33]).unwrap();
    assert_eq!(m.get64(AREA + 512), 1, "XSAVEOPT");
    m.cpu.st.xmm = xmm;
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    assert_eq!(m.cpu.st.xmm, <[[u64; 2]; 16]>::default(), "initialised by XRSTOR");
    // XSAVEC counts MXCSR as SSE state and writes the compacted header.
    m.run(&[0x0f, 0xc7, 0x23]).unwrap();
    assert_eq!((m.get64(AREA + 512), m.get64(AREA + 520)), (3, 1 << 63 | 3));
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    m.put64(AREA + 528, 1);
    assert_eq!(m.run(&[0x0f, 0xae, 0x2b]), Err(gp(0)), "reserved header bytes");
    m.put64(AREA + 528, 0);
    m.put64(AREA + 512, 4);
    assert_eq!(m.run(&[0x0f, 0xae, 0x2b]), Err(gp(0)), "a component outside XCOMP_BV");
}

#[test]
fn xsetbv_rules() {
    let mut m = machine();
    sse(&mut m);
    for (index, v) in [(0, 0), (0, 2), (0, 5), (0, 15), (1, 3)] {
        *m.reg(reg::RCX) = index;
        *m.reg(reg::RDX) = 0;
        *m.reg(reg::RAX) = v;
        assert_eq!(m.run(&[0x0f, 0x01, 0xd1]), Err(gp(0)), "{index} {v}");
    }
    *m.reg(reg::RCX) = 0;
    m.run(&[0x0f, 0x01, 0xd0]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 3);
    assert!(!m.cpu.st.mode.has(Mode::AVX));
    *m.reg(reg::RAX) = 7;
    m.run(&[0x0f, 0x01, 0xd1]).unwrap();
    assert!(m.cpu.st.mode.has(Mode::AVX));
}

#[test]
fn xsave_of_avx_state() {
    let mut m = machine();
    sse(&mut m);
    *m.reg(reg::RAX) = 7;
    m.run(&[0x0f, 0x01, 0xd1]).unwrap();
    // The mode has eight registers.
    let high = std::array::from_fn(|n| if n < 8 { [n as u64 + 1, 0x100 + n as u64] } else { [0; 2] });
    m.cpu.st.ymm_hi = high;
    // In the standard format at 576, in the compacted one too, being the first component.
    for save in [[0x0f, 0xae, 0x23], [0x0f, 0xc7, 0x23]] {
        m.run(&save).unwrap();
        assert_eq!(m.get64(AREA + 512) & 4, 4);
        assert_eq!((m.get64(AREA + 576), m.get64(AREA + 584), m.get64(AREA + 592)), (1, 0x100, 2));
        m.cpu.st.ymm_hi = Default::default();
        m.run(&[0x0f, 0xae, 0x2b]).unwrap();
        assert_eq!(m.cpu.st.ymm_hi, high);
    }
    // XRSTOR of an image without the component initialises it.
    m.put64(AREA + 512, 0);
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    assert_eq!(m.cpu.st.ymm_hi, [[0; 2]; 16]);
    m.run(&[0x0f, 0xae, 0x33]).unwrap();
    assert_eq!(m.get64(AREA + 512) & 4, 0, "XSAVEOPT: not in use");
}

#[test]
fn machine_check_banks() {
    // SDM vol. 3, 16.3.2: CTL is all ones or zero, STATUS can be cleared; address and miscellany are memory.
    let mut m = Machine::new();
    let mut write = |n: u32, v: u64| {
        *m.reg(reg::RCX) = n.into();
        (*m.reg(reg::RAX), *m.reg(reg::RDX)) = (v & 0xffff_ffff, v >> 32);
        m.run(&[0x0f, 0x30])
    };
    for (n, v, ok) in [
        (0x400, u64::MAX, true),
        (0x400, !(1 << 10), true),
        (0x400, 0, true),
        (0x400, 0xaaaa_aaaa_aaaa_aaaa, false),
        (0x401, 0, true),
        (0x401, 1, false),
        (0x402, u64::MAX, true),
        (0x403, 0xaaaa_aaaa_aaaa_aaaa, true),
        (0x410, 0, false),
    ] {
        assert_eq!(write(n, v), if ok { Ok(()) } else { Err(gp(0)) }, "MSR {n:#x}, {v:#x}");
    }
}
