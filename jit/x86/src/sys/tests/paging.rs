//! PCIDs, protection keys, five-level paging: what instructions may do and what they drop (SDM vol. 3, chapter 4).

use super::long::{NONCANONICAL, PML4, machine, user};
use super::registers::{AREA, sse, write_cr, wrmsr};
use super::*;
use crate::state::{cr0, cr4, efer};

const DESCRIPTOR: u64 = 0x2_1000;
/// MOV EAX, [RBX]
const LOAD: [u8; 2] = [0x8b, 0x03];
/// MOV [RBX], EAX
const STORE: [u8; 2] = [0x89, 0x03];

/// INVPCID RAX, [RBX] with this type and descriptor.
fn invpcid(m: &mut Machine, kind: u64, low: u64, address: u64) -> Result<(), Fault> {
    m.put64(DESCRIPTOR, low);
    m.put64(DESCRIPTOR + 8, address);
    *m.reg(reg::RAX) = kind;
    *m.reg(reg::RBX) = DESCRIPTOR;
    m.run(&[0x66, 0x0f, 0x38, 0x82, 0x03])
}

#[test]
fn pcide_rules() {
    let mut m = machine();
    // SDM vol. 3, 4.10.1: only in IA-32e mode, and only with CR3[11:0] = 0.
    write_cr(&mut m, 3, PML4 | 8).unwrap();
    assert_eq!(write_cr(&mut m, 4, cr4::PAE | cr4::PCIDE), Err(gp(0)));
    assert_eq!(write_cr(&mut m, 3, PML4 | 1 << 63), Err(gp(0)), "bit 63 is reserved without PCIDE");
    write_cr(&mut m, 3, PML4).unwrap();
    write_cr(&mut m, 4, cr4::PAE | cr4::PCIDE).unwrap();
    write_cr(&mut m, 3, PML4 | 0xabc | 1 << 63).unwrap();
    assert_eq!(m.cpu.st.cr3, PML4 | 0xabc, "bit 63 is not kept");
    assert_eq!(m.cpu.mmu.paging().pcid, 0xabc);
    // SDM vol. 2, MOV CR: paging cannot be turned off while CR4.PCIDE is set. (From compatibility mode.)
    m.cpu.st.seg[seg::CS as usize].attrs ^= crate::state::Segment::L | crate::state::Segment::DB;
    m.cpu.load_state_changed();
    assert_eq!(write_cr(&mut m, 0, cr0::PE), Err(gp(0)));
}

#[test]
fn cr3_bit_63_keeps_translations() {
    let mut m = machine();
    write_cr(&mut m, 4, cr4::PAE | cr4::PCIDE).unwrap();
    let second = 0x1_8000;
    m.put64(second, PML4 + 0x1007);
    *m.reg(reg::RBX) = 0x3000;
    m.run(&LOAD).unwrap();
    // The page directory changes behind the processor's back.
    m.put64(PML4 + 0x2000, 0);
    write_cr(&mut m, 3, PML4 | 1 << 63).unwrap();
    m.run(&LOAD).unwrap();
    *m.reg(reg::RAX) = PML4;
    // Without bit 63 the next fetch faults; this one is still there.
    m.run(&[0x0f, 0x22, 0xd8]).unwrap();
    assert!(m.cpu.mmu.read::<u8>(0x3000).is_err());
}

#[test]
fn invpcid_rules() {
    let mut m = machine();
    write_cr(&mut m, 4, cr4::PAE | cr4::PCIDE).unwrap();
    for kind in 0..4 {
        assert_eq!(invpcid(&mut m, kind, 5, 0x1000), Ok(()), "type {kind}");
    }
    assert_eq!(invpcid(&mut m, 4, 0, 0), Err(gp(0)), "no such type");
    assert_eq!(invpcid(&mut m, 1 << 32, 0, 0), Err(gp(0)), "the whole register counts");
    assert_eq!(invpcid(&mut m, 2, 0x1000, 0), Err(gp(0)), "reserved bits of the descriptor");
    assert_eq!(invpcid(&mut m, 0, 0, 1 << 60), Err(gp(0)), "type 0 needs a canonical address");
    let wide = m.cpu.model.has(crate::model::Feature::La57);
    assert_eq!(invpcid(&mut m, 0, 0, NONCANONICAL).is_ok(), wide, "at the width of the processor");
    assert_eq!(invpcid(&mut m, 1, 0, NONCANONICAL), Ok(()));
    write_cr(&mut m, 4, cr4::PAE).unwrap();
    for kind in 0..2 {
        assert_eq!(invpcid(&mut m, kind, 1, 0), Err(gp(0)), "PCIDs are off");
    }
    assert_eq!(invpcid(&mut m, 3, 1, 0), Ok(()));
    user(&mut m);
    assert_eq!(invpcid(&mut m, 2, 0, 0), Err(gp(0)), "CPL 3");
    assert!(m.cpu.model.set_feature("invpcid", false));
    assert_eq!(invpcid(&mut m, 2, 0, 0), Err(ud()));
}

#[test]
fn invpcid_drops_by_type() {
    for (kind, low, gone) in
        [(0, 0, true), (0, 1, false), (1, 0, true), (1, 1, false), (2, 9, true), (3, 9, true)]
    {
        let mut m = machine();
        write_cr(&mut m, 4, cr4::PAE | cr4::PCIDE).unwrap();
        m.put64(DESCRIPTOR, low);
        m.put64(DESCRIPTOR + 8, 0x3000);
        *m.reg(reg::RBX) = 0x3000;
        m.run(&LOAD).unwrap();
        m.cpu.mmu.space().write(Gpa(CODE), &[0x66, 0x0f, 0x38, 0x82, 0x03]).unwrap();
        *m.reg(reg::RBX) = DESCRIPTOR;
        m.run(&LOAD).unwrap();
        m.cpu.mmu.space().write(Gpa(CODE), &[0x66, 0x0f, 0x38, 0x82, 0x03]).unwrap();
        m.put64(PML4 + 0x2000, 0);
        m.cpu.st.rip = CODE;
        *m.reg(reg::RAX) = kind;
        m.step().unwrap();
        assert_eq!(m.cpu.mmu.read::<u8>(0x3000).is_err(), gone, "type {kind}, PCID {low}");
    }
}

/// Maps 3000h with protection key 7 as a user page, by a page table of its own.
fn keyed() -> Machine {
    let mut m = machine();
    let table = 0x1_9000;
    for page in 0..512u64 {
        m.put64(table + 8 * page, page << 12 | 7);
    }
    m.put64(table + 8 * 3, 7 << 59 | 0x3007);
    m.put64(PML4 + 0x2000, table | 7);
    m.cpu.load_state_changed();
    write_cr(&mut m, 4, cr4::PAE | cr4::PKE).unwrap();
    *m.reg(reg::RBX) = 0x3000;
    m
}

fn wrpkru(m: &mut Machine, v: u32) -> Result<(), Fault> {
    *m.reg(reg::RAX) = u64::from(v);
    *m.reg(reg::RCX) = 0;
    *m.reg(reg::RDX) = 0;
    m.run(&[0x0f, 0x01, 0xef])
}

#[test]
fn pkru_instructions() {
    let mut m = machine();
    assert_eq!(wrpkru(&mut m, 0), Err(ud()), "CR4.PKE is clear");
    assert_eq!(m.run(&[0x0f, 0x01, 0xee]), Err(ud()));
    let cpuid_7 = |m: &mut Machine| {
        (*m.reg(reg::RAX), *m.reg(reg::RCX)) = (7, 0);
        m.run(&[0x0f, 0xa2]).unwrap();
        *m.reg(reg::RCX)
    };
    assert_eq!(cpuid_7(&mut m) & 0x18, 0x08, "PKU without OSPKE");
    write_cr(&mut m, 4, cr4::PAE | cr4::PKE).unwrap();
    assert_eq!(cpuid_7(&mut m) & 0x18, 0x18);
    wrpkru(&mut m, 0x1234_5678).unwrap();
    *m.reg(reg::RDX) = 99;
    m.run(&[0x0f, 0x01, 0xee]).unwrap();
    assert_eq!((*m.reg(reg::RAX), *m.reg(reg::RDX)), (0x1234_5678, 0));
    for (ecx, edx) in [(1, 0), (0, 1)] {
        (*m.reg(reg::RCX), *m.reg(reg::RDX)) = (ecx, edx);
        assert_eq!(m.run(&[0x0f, 0x01, 0xef]), Err(gp(0)), "WRPKRU, ECX {ecx}, EDX {edx}");
    }
    *m.reg(reg::RCX) = 1;
    assert_eq!(m.run(&[0x0f, 0x01, 0xee]), Err(gp(0)), "RDPKRU");
    // At any privilege level.
    user(&mut m);
    wrpkru(&mut m, 0).unwrap();
    assert_eq!(m.cpu.st.pkru, 0);
}

#[test]
fn a_denied_key_is_bit_5_of_the_error_code() {
    let mut m = keyed();
    user(&mut m);
    m.run(&STORE).unwrap();
    wrpkru(&mut m, 2 << 14).unwrap();
    m.run(&LOAD).unwrap();
    let f = m.run(&STORE).unwrap_err();
    assert_eq!((f.vector, f.code, f.info), (14, 0x27, 0x3000));
    wrpkru(&mut m, 1 << 14).unwrap();
    assert_eq!(m.run(&LOAD).unwrap_err().code, 0x25);
    wrpkru(&mut m, 0).unwrap();
    m.run(&STORE).unwrap();
}

#[test]
fn pkru_is_a_state_component() {
    let mut m = keyed();
    sse(&mut m);
    (*m.reg(reg::RAX), *m.reg(reg::RDX), *m.reg(reg::RCX)) = (0x203, 0, 0);
    m.run(&[0x0f, 0x01, 0xd1]).unwrap();
    wrpkru(&mut m, 0x5555_0000).unwrap();
    (*m.reg(reg::RAX), *m.reg(reg::RBX)) = (0x200, AREA);
    m.run(&[0x0f, 0xae, 0x23]).unwrap();
    assert_eq!((m.get64(AREA + 512), m.get64(AREA + 2688)), (0x200, 0x5555_0000), "standard format");
    m.cpu.st.pkru = 1;
    m.run(&[0x0f, 0xae, 0x2b]).unwrap();
    assert_eq!(m.cpu.st.pkru, 0x5555_0000);
    // Compacted: right behind the header, AVX not being in the image. XSAVES, then XRSTORS.
    m.put64(AREA + 512, 0);
    m.run(&[0x0f, 0xc7, 0x2b]).unwrap();
    assert_eq!((m.get64(AREA + 512), m.get64(AREA + 520)), (0x200, 1 << 63 | 0x200));
    assert_eq!(m.get64(AREA + 576), 0x5555_0000);
    m.cpu.st.pkru = 1;
    m.run(&[0x0f, 0xc7, 0x1b]).unwrap();
    assert_eq!(m.cpu.st.pkru, 0x5555_0000);
    m.put64(AREA + 512, 0);
    m.run(&[0x0f, 0xc7, 0x1b]).unwrap();
    assert_eq!(m.cpu.st.pkru, 0, "initialised");
}

#[test]
fn supervisor_xsave_rules() {
    let mut m = machine();
    *m.reg(reg::RBX) = AREA;
    assert_eq!(m.run(&[0x0f, 0xc7, 0x2b]), Err(ud()), "CR4.OSXSAVE is clear");
    sse(&mut m);
    *m.reg(reg::RAX) = 3;
    m.run(&[0x0f, 0xae, 0x23]).unwrap();
    // SDM vol. 1, 13.12: XRSTORS takes the compacted format only.
    assert_eq!(m.run(&[0x0f, 0xc7, 0x1b]), Err(gp(0)));
    assert_eq!(wrmsr(&mut m, 0xda0, 1), Err(gp(0)), "IA32_XSS has no bits");
    assert_eq!(wrmsr(&mut m, 0xda0, 0), Ok(()));
    user(&mut m);
    *m.reg(reg::RBX) = AREA;
    assert_eq!(m.run(&[0x0f, 0xc7, 0x2b]), Err(gp(0)), "CPL 3");
}

#[test]
fn five_level_paging() {
    let mut m = machine();
    assert_eq!(write_cr(&mut m, 4, cr4::PAE | cr4::LA57), Err(gp(0)), "fixed in IA-32e mode");
    // Off and on again, as an operating system does: compatibility mode, paging off, LA57, paging on.
    m.cpu.st.seg[seg::CS as usize].attrs ^= crate::state::Segment::L | crate::state::Segment::DB;
    m.cpu.load_state_changed();
    write_cr(&mut m, 0, cr0::PE).unwrap();
    write_cr(&mut m, 4, cr4::PAE | cr4::LA57).unwrap();
    let root = 0x1_8000;
    m.put64(root, PML4 | 7);
    // 100_0000_0000_0000h is canonical with 57 bits; its PML5 entry shares the lower tables.
    m.put64(root + 8 * 0x100, PML4 | 7);
    write_cr(&mut m, 3, root).unwrap();
    write_cr(&mut m, 0, cr0::PE | cr0::PG).unwrap();
    m.cpu.st.seg[seg::CS as usize].attrs ^= crate::state::Segment::L | crate::state::Segment::DB;
    m.cpu.load_state_changed();
    assert!(m.cpu.st.msr.efer & efer::LMA != 0 && m.cpu.st.mode.has(Mode::CODE64));
    m.put32(0x3000, 0x1122_3344);
    for address in [0x3000, 0xff00_0000_0000_3000] {
        *m.reg(reg::RBX) = address;
        m.run(&LOAD).unwrap();
        assert_eq!(*m.reg(reg::RAX), 0x1122_3344, "{address:#x}");
    }
    *m.reg(reg::RBX) = 0x0100_0000_0000_0000;
    assert_eq!(m.run(&LOAD), Err(gp(0)), "57 bits");
    *m.reg(reg::RBX) = NONCANONICAL;
    assert_eq!(m.run(&LOAD).unwrap_err().vector, 14, "canonical now, and not mapped");
}

#[test]
fn bases_may_have_57_bits_under_four_level_paging() {
    // SDM vol. 1, 3.3.7.1 and "5-Level Paging", 2.3: loading a base asks what the processor supports.
    let wide = 0x00ff_0000_0000_0000;
    let mut m = machine();
    assert_eq!(wrmsr(&mut m, 0xc000_0102, wide), Ok(()));
    assert_eq!(wrmsr(&mut m, 0xc000_0102, 1 << 57), Err(gp(0)));
    m.put16(DESCRIPTOR, 0x7f);
    m.put64(DESCRIPTOR + 2, wide);
    *m.reg(reg::RBX) = DESCRIPTOR;
    assert_eq!(m.run(&[0x0f, 0x01, 0x1b]), Ok(()), "LIDT");
    assert!(m.cpu.model.set_feature("la57", false));
    assert_eq!(m.run(&[0x0f, 0x01, 0x1b]), Err(gp(0)));
    assert_eq!(wrmsr(&mut m, 0xc000_0102, wide), Err(gp(0)));
    let linear_bits = |m: &Machine| m.cpu.model.cpuid(&m.cpu.st, 0x8000_0008, 0)[0] >> 8 & 0xff;
    assert_eq!(linear_bits(&m), 48);
    assert!(m.cpu.model.set_feature("la57", true));
    assert_eq!(linear_bits(&m), 57);
}
