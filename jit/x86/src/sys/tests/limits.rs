//! Limits and wrap-around (SDM vol. 3, 5.3), encodings that are #UD or too long, and which of two faults comes first
//! (SDM vol. 3, table 6-2).

use super::protected::{CODE0, DATA0, FREE, GDT, machine};
use super::*;

/// 16-bit real mode, as after a reset but with segments at 0.
fn real() -> Machine {
    Machine::new()
}

fn ss(code: u32) -> Fault {
    fault(12, code)
}

/// Protected mode with a code segment of this limit and size as CS, at base 0.
fn with_cs(limit: u32, flags: u8) -> Machine {
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, limit, 0x9b, flags));
    let [a, b, c, d] = (CODE as u32 + 8).to_le_bytes();
    m.run(&[0xea, a, b, c, d, FREE as u8, 0]).unwrap();
    m
}

#[test]
fn words_at_the_end_of_64_k() {
    let mut m = real();
    *m.reg(reg::RBX) = 0xffff;
    assert_eq!(m.run(&[0x8a, 0x07]), Ok(()), "a byte");
    assert_eq!(m.run(&[0x8b, 0x07]), Err(gp(0)), "a word");
    *m.reg(reg::RBP) = 0xffff;
    assert_eq!(m.run(&[0x8b, 0x46, 0]), Err(ss(0)), "of the stack segment");
    assert_eq!(m.run(&[0x3e, 0x8b, 0x46, 0]), Err(gp(0)), "DS by a prefix");
    assert_eq!(m.run(&[0x36, 0x8b, 0x07]), Err(ss(0)), "SS by a prefix");
    // The offset wraps at 64 K before it is used.
    *m.reg(reg::RBX) = 0xffff;
    m.put16(0x11, 0x1234);
    m.run(&[0x8b, 0x47, 0x12]).unwrap();
    assert_eq!(*m.reg(reg::RAX) & 0xffff, 0x1234);
    // With a 32-bit address it does not.
    *m.reg(reg::RBX) = 0x1_0000;
    assert_eq!(m.run(&[0x67, 0x8a, 0x03]), Err(gp(0)));
}

#[test]
fn stacks_wrap_at_64_k() {
    let mut m = real();
    *m.reg(reg::RSP) = 0;
    m.run(&[0x0e]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0xfffe);
    *m.reg(reg::RSP) = 1;
    assert_eq!(m.run(&[0x0e]), Err(ss(0)), "a word at FFFFh");
    *m.reg(reg::RSP) = 0xffff;
    assert_eq!(m.run(&[0x1f]), Err(ss(0)));
    // Only SP counts: the upper half of ESP stays.
    *m.reg(reg::RSP) = 0x1234_0000;
    m.run(&[0x0e]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0x1234_fffe);
}

#[test]
fn linear_addresses_wrap_at_4_g() {
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0xffff_f000, 0xf_ffff, 0x92, 0xc));
    *m.reg(reg::RAX) = u64::from(FREE);
    m.run(&[0x8e, 0xd8]).unwrap();
    m.put32(0x3000, 0x1122_3344);
    *m.reg(reg::RBX) = 0x4000;
    m.run(&[0x8b, 0x03]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0x1122_3344);
}

#[test]
fn expand_down_limits() {
    // SDM vol. 3, 5.3: valid offsets are above the limit, up to FFFFh or FFFFFFFFh by the B flag.
    for (big, at, ok) in [
        (0, 0x0fff, false),
        (0, 0x1000, true),
        (0, 0xfffe, true),
        (0, 0xffff, false),
        (4, 0xffff, true),
        (4, 0x1000, true),
        (4, 0xfff, false),
        (4, 0xffff_ffff, false),
    ] {
        let mut m = machine();
        m.put64(GDT + u64::from(FREE), descriptor(0, 0xfff, 0x96, big));
        *m.reg(reg::RAX) = u64::from(FREE);
        m.run(&[0x8e, 0xd8]).unwrap();
        *m.reg(reg::RBX) = at;
        assert_eq!(m.run(&[0x66, 0x8b, 0x03]).is_ok(), ok, "B {big}, offset {at:#x}");
    }
}

#[test]
fn near_branches_beyond_the_limit_fault_at_the_branch() {
    let far = 0x9000u32.to_le_bytes();
    let jump = |op: &[u8]| [op, &[0xfa, 0x5f, 0, 0]].concat();
    for (what, code, setup) in [
        ("JMP rel", jump(&[0xe9]), 0),
        ("CALL rel", jump(&[0xe8]), 0),
        ("JZ rel", jump(&[0x0f, 0x84]), 0),
        ("JMP EAX", vec![0xff, 0xe0], 0),
        ("CALL EAX", vec![0xff, 0xd0], 0),
        ("RET", vec![0xc3], 0),
        ("RET 4", vec![0xc2, 4, 0], 0),
        ("LOOP", vec![0xe2, 0x7f], 0x4070),
    ] {
        let mut m = with_cs(if setup == 0 { 0x8fff } else { setup }, 4);
        m.put(0x7000, far);
        *m.reg(reg::RSP) = 0x7000;
        *m.reg(reg::RAX) = 0x9000;
        *m.reg(reg::RCX) = 5;
        m.cpu.set_rflags(rflags::ZF | 2);
        assert_eq!(m.run(&code), Err(gp(0)), "{what}");
        let rip = m.cpu.st.rip;
        assert_eq!((rip, *m.reg(reg::RSP), *m.reg(reg::RCX)), (CODE, 0x7000, 5), "{what}");
        // And not where the condition is false.
        m.cpu.set_rflags(2);
        *m.reg(reg::RCX) = 1;
        if matches!(what, "JZ rel" | "LOOP") {
            assert_eq!(m.run(&code), Ok(()), "{what} not taken");
        }
    }
    let mut m = with_cs(0x8fff, 4);
    m.run(&[0xe9, 0xfa, 0x3f, 0, 0]).unwrap();
    assert_eq!(m.cpu.st.rip, 0x7fff);
}

#[test]
fn wide_branches_in_16_bit_code() {
    // 66h: the target has 32 bits, and the limit of real mode is 64 K.
    let mut m = real();
    *m.reg(reg::RAX) = 0x1_0000;
    assert_eq!(m.run(&[0x66, 0xff, 0xe0]), Err(gp(0)));
    assert_eq!(m.cpu.st.rip, CODE);
    assert_eq!(m.run(&[0x66, 0xe9, 0, 0, 1, 0]), Err(gp(0)));
    *m.reg(reg::RAX) = 0x5000;
    m.run(&[0x66, 0xff, 0xe0]).unwrap();
    assert_eq!(m.cpu.st.rip, 0x5000);
    // Without it IP wraps: FFFFh + a short jump.
    m.run(&[0xe9, 0x00, 0xd0]).unwrap();
    assert_eq!(m.cpu.st.rip, 0x1003);
}

#[test]
fn fetching_beyond_the_limit() {
    let mut m = with_cs(CODE as u32 + 9, 4);
    m.cpu.st.rip = CODE + 10;
    assert_eq!(decode::fetch_address(&mut m.cpu).map_err(|_| m.cpu.st.fault), Err(gp(0)));
    assert_eq!(decode::fetch_room(&m.cpu), 0);
}

/// Where RIP is after the two NOPs at FFFEh: executed as a block, and one by one.
fn past_64_k(m: &mut Machine) -> [u64; 2] {
    let (isa, mode) = (m.cpu.model.isa(), m.cpu.st.mode);
    let block = isa.block(&[0x90, 0x90], 0xfffe, mode).expect("decodes");
    let last = isa.single(&[0x90], 0xffff, mode).expect("decodes");
    m.cpu.st.rip = 0xfffe;
    interp::run_block(&mut m.cpu, &block);
    let whole = m.cpu.st.rip;
    m.cpu.st.rip = 0xffff;
    interp::run_single(&mut m.cpu, &last.insns[0]);
    [whole, m.cpu.st.rip]
}

#[test]
fn code_that_runs_past_64_k_meets_the_limit() {
    // Only branches truncate RIP: the fetch after FFFFh is #GP(0), where the 8086 wraps.
    let mut m = real();
    assert_eq!(past_64_k(&mut m), [0x1_0000; 2]);
    assert_eq!(decode::fetch_address(&mut m.cpu).map_err(|_| m.cpu.st.fault), Err(gp(0)));
    let mut m = real();
    m.cpu.model = CpuModel::by_name("8086").expect("a model");
    assert_eq!(past_64_k(&mut m), [0; 2]);
    // With a limit beyond, 16-bit code goes on.
    let mut m = with_cs(0xf_ffff, 0);
    assert_eq!(past_64_k(&mut m), [0x1_0000; 2]);
    assert_eq!(decode::fetch_address(&mut m.cpu), Ok(0x1_0000));
}

#[test]
fn instructions_have_15_bytes() {
    // SDM vol. 2, 2.3.11.
    let with_prefixes = |n: usize| [vec![0x2e; n], vec![0x90]].concat();
    let mut m = machine();
    assert_eq!(m.run(&with_prefixes(14)), Ok(()));
    assert_eq!(m.run(&with_prefixes(15)), Err(gp(0)));
    // The limit comes before #UD of what would follow.
    assert_eq!(m.run(&[vec![0x2e; 14], vec![0x0f, 0x0b]].concat()), Err(gp(0)));
}

#[test]
fn lock_needs_a_read_modify_write_of_memory() {
    // SDM vol. 2, LOCK: else #UD.
    let mut m = machine();
    *m.reg(reg::RBX) = 0x3000;
    for code in [
        &[0xf0, 0x01, 0xc3][..],
        &[0xf0, 0x8b, 0x03],
        &[0xf0, 0x3b, 0x03],
        &[0xf0, 0x39, 0x03],
        &[0xf0, 0x90],
        &[0xf0, 0x0f, 0xa3, 0x03],
        &[0xf0, 0x89, 0x03],
        &[0xf0, 0xa4],
        &[0xf0, 0xc1, 0x23, 1],
        &[0xf0, 0x85, 0x03],
        &[0xf0, 0xcf],
        &[0xf0, 0x0f, 0x01, 0x1b],
    ] {
        assert_eq!(m.run(code), Err(ud()), "{code:x?}");
    }
    for code in [
        &[0xf0, 0x01, 0x03][..],
        &[0xf0, 0x87, 0x03],
        &[0xf0, 0x0f, 0xab, 0x03],
        &[0xf0, 0xf7, 0x1b],
        &[0xf0, 0x0f, 0xc1, 0x03],
        &[0xf0, 0x0f, 0xb1, 0x03],
        &[0xf0, 0x0f, 0xc7, 0x0b],
        &[0xf0, 0xff, 0x03],
    ] {
        assert_eq!(m.run(code), Ok(()), "{code:x?}");
    }
}

#[test]
fn undefined_instructions() {
    let mut m = machine();
    for code in [&[0x0f, 0xff, 0xc0][..], &[0x0f, 0xb9, 0xc0], &[0x0f, 0x0b], &[0x0f, 0x04], &[0xd6, 0x0f]] {
        let undefined = code[0] == 0x0f;
        assert_eq!(m.run(code).is_err(), undefined, "{code:x?}");
    }
    // LES and LDS of registers, BOUND and LSS of registers, MOV to CS, segment registers 6 and 7, CR1.
    for code in [
        &[0x0f, 0xb2, 0xc0][..],
        &[0x8e, 0xc8],
        &[0x8e, 0xf0],
        &[0x8c, 0xf8],
        &[0x0f, 0x20, 0xc8],
        &[0x0f, 0x01, 0xd8 | 1],
    ] {
        assert_eq!(m.run(code), Err(ud()), "{code:x?}");
    }
}

#[test]
fn the_first_of_two_faults() {
    // #UD of the encoding before the privilege level: LOCK CLTS at CPL 3.
    let mut m = super::protected::user();
    assert_eq!(m.run(&[0xf0, 0x0f, 0x06]), Err(ud()));
    // The privilege level before the operand: LGDT from beyond the limit; LIDT of nothing.
    m.put64(GDT + 0x20, descriptor(0, 0, 0xf2, 4));
    *m.reg(reg::RBX) = 0xffff_0000;
    assert_eq!(m.run(&[0x0f, 0x01, 0x13]), Err(gp(0)));
    // #NM before the operand of an x87 instruction; its #GP before #MF of an earlier one? #MF comes first.
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xf, 0x92, 4));
    *m.reg(reg::RAX) = u64::from(FREE);
    m.run(&[0x8e, 0xd8]).unwrap();
    *m.reg(reg::RBX) = 0x1000;
    m.cpu.st.cr0 |= crate::state::cr0::TS;
    m.cpu.mode_changed();
    assert_eq!(m.run(&[0xdd, 0x03]).unwrap_err().vector, 7);
    m.cpu.st.cr0 &= !crate::state::cr0::TS;
    m.cpu.mode_changed();
    assert_eq!(m.run(&[0xdd, 0x03]), Err(gp(0)));
}

#[test]
fn stack_faults_name_the_segment_that_is_loaded() {
    let mut m = machine();
    m.put64(GDT + u64::from(FREE), descriptor(0, 0xffff, 0x12, 4));
    *m.reg(reg::RAX) = u64::from(FREE);
    assert_eq!(m.run(&[0x8e, 0xd0]), Err(ss(u32::from(FREE))), "not present: #SS, where others have #NP");
    assert_eq!(m.run(&[0x8e, 0xd8]), Err(fault(11, u32::from(FREE))));
    *m.reg(reg::RAX) = u64::from(CODE0);
    assert_eq!(m.run(&[0x8e, 0xd0]), Err(gp(u32::from(CODE0))));
    *m.reg(reg::RAX) = u64::from(DATA0);
    assert_eq!(m.run(&[0x8e, 0xd0]), Ok(()));
}
