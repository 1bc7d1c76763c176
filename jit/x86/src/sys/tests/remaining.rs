//! Instructions that no random program contains and no other test is about: 16-bit branches, segment registers, far
//! pointers, descriptor-table registers, clocks, caches, hints.

use super::protected::{machine as protected, user};
use super::*;
use crate::state::{TableReg, cr4};

/// For each condition: flags with which it holds, and with which it does not.
const CONDITIONS: [(u64, u64); 16] = [
    (rflags::OF, 0),
    (0, rflags::OF),
    (rflags::CF, 0),
    (0, rflags::CF),
    (rflags::ZF, 0),
    (0, rflags::ZF),
    (rflags::ZF, rflags::SF),
    (rflags::SF, rflags::CF),
    (rflags::SF, 0),
    (0, rflags::SF),
    (rflags::PF, 0),
    (0, rflags::PF),
    (rflags::SF, rflags::SF | rflags::OF),
    (rflags::SF | rflags::OF, rflags::OF),
    (rflags::ZF | rflags::SF | rflags::OF, rflags::SF | rflags::OF),
    (rflags::SF | rflags::OF, rflags::ZF),
];

#[test]
fn sixteen_bit_branches() {
    let mut m = Machine::new();
    for (cc, (taken, not)) in (0u8..).zip(CONDITIONS) {
        for (flags, jumps) in [(taken, true), (not, false)] {
            for (bytes, len, by) in
                [(&[0x70 | cc, 0x10][..], 2, 0x10), (&[0x0f, 0x80 | cc, 0x00, 0xf0], 4, 0x1_0000 - 0x1000)]
            {
                m.cpu.set_rflags(flags | rflags::FIXED);
                m.run(bytes).unwrap();
                let next = if m.cpu.st.rip == CODE { CODE + len } else { m.cpu.st.rip };
                assert_eq!(next, (CODE + len + if jumps { by } else { 0 }) & 0xffff, "cc {cc:x} {bytes:x?}");
            }
        }
    }
    // A target beyond 64 KiB wraps: IP has sixteen bits.
    for (bytes, target) in [
        (&[0xeb, 0x7f][..], CODE + 0x81),
        (&[0xe9, 0xfd, 0xff], CODE),
        (&[0xe9, 0x00, 0xd0], CODE + 3 + 0xd000 - 0x1_0000),
        (&[0xe8, 0x00, 0xd0], CODE + 3 + 0xd000 - 0x1_0000),
    ] {
        *m.reg(reg::RSP) = 0x8000;
        m.run(bytes).unwrap();
        assert_eq!(m.cpu.st.rip, target, "{bytes:x?}");
    }
    assert_eq!((*m.reg(reg::RSP), m.get16(0x7ffe)), (0x7ffe, CODE as u16 + 3), "CALL's return address");
}

#[test]
fn sixteen_bit_loops() {
    let mut m = Machine::new();
    // LOOPNE, LOOPE, LOOP with CX, then with ECX: opcode, ZF, whether it jumps while the count is not zero.
    for wide in [false, true] {
        for (opcode, zf, jumps) in [
            (0xe0, false, true),
            (0xe0, true, false),
            (0xe1, true, true),
            (0xe1, false, false),
            (0xe2, false, true),
        ] {
            let prefix: &[u8] = if wide { &[0x67] } else { &[] };
            let bytes = [prefix, &[opcode, 0x20]].concat();
            for (count, ends) in [(0x1_0002u64, false), (0x1_0001, true)] {
                *m.reg(reg::RCX) = count;
                m.cpu.set_rflags(rflags::FIXED | if zf { rflags::ZF } else { 0 });
                m.run(&bytes).unwrap();
                let goes = jumps && (wide || !ends);
                let next = CODE + bytes.len() as u64;
                let at = if m.cpu.st.rip == CODE { next } else { m.cpu.st.rip };
                assert_eq!(at, next + if goes { 0x20 } else { 0 }, "{bytes:x?}, {count:#x}");
                assert_eq!(*m.reg(reg::RCX), count - 1);
            }
        }
    }
    for (bytes, count, jumps) in [
        (&[0xe3, 0x20][..], 0x1_0000, true),
        (&[0xe3, 0x20], 1, false),
        (&[0x67, 0xe3, 0x20], 0x1_0000, false),
        (&[0x67, 0xe3, 0x20], 0, true),
    ] {
        *m.reg(reg::RCX) = count;
        m.run(bytes).unwrap();
        let next = CODE + bytes.len() as u64;
        let at = if m.cpu.st.rip == CODE { next } else { m.cpu.st.rip };
        assert_eq!(at, next + if jumps { 0x20 } else { 0 }, "{bytes:x?}, {count:#x}");
    }
}

#[test]
fn segment_registers_on_the_stack_and_in_registers() {
    let mut m = Machine::new();
    // PUSH, POP and the register: ES, SS, DS, FS, GS. In both operand sizes; a wide pop takes four bytes.
    let all: [(&[u8], &[u8], u8); 5] = [
        (&[0x06], &[0x07], seg::ES),
        (&[0x16], &[0x17], seg::SS),
        (&[0x1e], &[0x1f], seg::DS),
        (&[0x0f, 0xa0], &[0x0f, 0xa1], seg::FS),
        (&[0x0f, 0xa8], &[0x0f, 0xa9], seg::GS),
    ];
    for (push, pop, s) in all {
        for (prefix, size) in [(&[][..], 2), (&[0x66], 4)] {
            *m.reg(reg::RSP) = 0x8000;
            m.put32(0x8000, 0xdead_1234);
            m.run(&[prefix, pop].concat()).unwrap();
            assert_eq!((m.sel(s), *m.reg(reg::RSP)), (0x1234, 0x8000 + size));
            assert_eq!(m.cpu.st.seg[s as usize].base, 0x1_2340);
            if s != seg::SS {
                m.put32(0x8000, 0);
                m.run(&[prefix, push].concat()).unwrap();
                assert_eq!((m.get16(0x8000), *m.reg(reg::RSP)), (0x1234, 0x8000));
            }
            // Base 0 again for what follows.
            m.cpu.st.seg[s as usize].base = 0;
            m.cpu.st.seg[s as usize].selector = 0;
        }
    }
    m.run(&[0x0e]).unwrap();
    assert_eq!((*m.reg(reg::RSP), m.get16(0x7ffe)), (0x7ffe, 0), "PUSH CS");
    *m.reg(reg::RAX) = 0x4321;
    m.run(&[0x8e, 0xc0]).unwrap();
    assert_eq!((m.sel(seg::ES), m.cpu.st.seg[seg::ES as usize].base), (0x4321, 0x4_3210));
    *m.reg(reg::RBX) = u64::MAX;
    m.run(&[0x66, 0x8c, 0xc3]).unwrap();
    assert_eq!(*m.reg(reg::RBX), 0xffff_ffff_0000_4321 & 0xffff_ffff, "a 32-bit register is zero-extended");
    assert_eq!(m.run(&[0x8e, 0xc8]), Err(ud()), "MOV to CS");
}

#[test]
fn far_pointers() {
    let mut m = Machine::new();
    for (bytes, s) in [
        (&[0xc4, 0x06, 0x00, 0x06][..], seg::ES),
        (&[0xc5, 0x06, 0x00, 0x06], seg::DS),
        (&[0x0f, 0xb2, 0x06, 0x00, 0x06], seg::SS),
        (&[0x0f, 0xb4, 0x06, 0x00, 0x06], seg::FS),
        (&[0x0f, 0xb5, 0x06, 0x00, 0x06], seg::GS),
    ] {
        m.put64(0x600, 0x7777_2222_1111);
        m.run(bytes).unwrap();
        assert_eq!((*m.reg(reg::RAX) & 0xffff, m.sel(s)), (0x1111, 0x2222), "{bytes:x?}");
        (m.cpu.st.seg[s as usize].selector, m.cpu.st.seg[s as usize].base) = (0, 0);
        m.run(&[&[0x66][..], bytes].concat()).unwrap();
        assert_eq!((*m.reg(reg::RAX), m.sel(s)), (0x2222_1111, 0x7777), "{bytes:x?} with 66");
        (m.cpu.st.seg[s as usize].selector, m.cpu.st.seg[s as usize].base) = (0, 0);
    }
}

#[test]
fn descriptor_table_registers_are_stored_and_loaded() {
    let mut m = Machine::new();
    m.put64(0x600, 0x12ff_3344_01ff);
    m.run(&[0x0f, 0x01, 0x16, 0x00, 0x06]).unwrap();
    assert_eq!(
        m.cpu.st.gdtr,
        TableReg { base: 0xff_3344, limit: 0x1ff },
        "LGDT with 16-bit operands: 24 bits"
    );
    m.run(&[0x66, 0x0f, 0x01, 0x1e, 0x00, 0x06]).unwrap();
    assert_eq!(m.cpu.st.idtr, TableReg { base: 0x12ff_3344, limit: 0x1ff });
    m.run(&[0x0f, 0x01, 0x06, 0x10, 0x06]).unwrap();
    assert_eq!((m.get16(0x610), m.get32(0x612)), (0x1ff, 0xff_3344), "SGDT");
    m.run(&[0x0f, 0x01, 0x0e, 0x20, 0x06]).unwrap();
    assert_eq!((m.get16(0x620), m.get32(0x622)), (0x1ff, 0x12ff_3344), "SIDT");
    let mut m = protected();
    m.cpu.st.ldtr.selector = 0x58;
    m.cpu.st.tr.selector = 0x60;
    m.run(&[0x0f, 0x00, 0xc0]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0x58, "SLDT");
    m.run(&[0x0f, 0x00, 0xcb]).unwrap();
    assert_eq!(*m.reg(reg::RBX), 0x60, "STR");
    m.run(&[0x0f, 0x01, 0xe1]).unwrap();
    assert_eq!(*m.reg(reg::RCX) & 1, 1, "SMSW");
}

#[test]
fn clocks() {
    let mut m = protected();
    m.cpu.st.msr.tsc_aux = 0x55;
    m.run(&[0x0f, 0x31]).unwrap();
    let first = *m.reg(reg::RDX) << 32 | *m.reg(reg::RAX);
    m.run(&[0x0f, 0x01, 0xf9]).unwrap();
    let second = *m.reg(reg::RDX) << 32 | *m.reg(reg::RAX);
    assert_eq!((second - first, *m.reg(reg::RCX)), (1, 0x55), "RDTSCP, one instruction later");
    m.run(&[0xf3, 0x0f, 0xc7, 0xfb]).unwrap();
    assert_eq!(*m.reg(reg::RBX), 0x55, "RDPID");
    assert_eq!(m.run(&[0x0f, 0x33]), Err(gp(0)), "there is no counter");
    let mut m = user();
    m.run(&[0x0f, 0x31]).unwrap();
    m.cpu.st.cr4 |= cr4::TSD;
    assert_eq!(m.run(&[0x0f, 0x31]), Err(gp(0)));
    assert_eq!(m.run(&[0x0f, 0x01, 0xf9]), Err(gp(0)));
}

#[test]
fn privileged_without_operands() {
    // INVD, WBINVD, CLTS, HLT, INVLPG [EAX], LMSW AX.
    for bytes in
        [&[0x0f, 0x08][..], &[0x0f, 0x09], &[0x0f, 0x06], &[0xf4], &[0x0f, 0x01, 0x38], &[0x0f, 0x01, 0xf0]]
    {
        let mut m = protected();
        *m.reg(reg::RAX) = 1;
        m.run(bytes).unwrap();
        assert_eq!(m.cpu.st.halted, bytes == [0xf4], "{bytes:x?}");
        assert_eq!(user().run(bytes), Err(gp(0)), "{bytes:x?} at level 3");
    }
    // STAC and CLAC are #UD there.
    for (bytes, ac) in [(&[0x0f, 0x01, 0xcb][..], rflags::AC), (&[0x0f, 0x01, 0xca], 0)] {
        let mut m = protected();
        m.cpu.st.flags ^= rflags::AC & !ac;
        m.run(bytes).unwrap();
        assert_eq!(m.cpu.st.flags & rflags::AC, ac);
        assert_eq!(user().run(bytes), Err(ud()));
    }
    let mut m = protected();
    m.run(&[0xfb]).unwrap();
    assert_ne!(m.cpu.st.flags & rflags::IF, 0, "STI");
    m.run(&[0xfa]).unwrap();
    assert_eq!(m.cpu.st.flags & rflags::IF, 0, "CLI");
}

#[test]
fn hints_and_relics_do_nothing() {
    let before = protected().cpu.st.gpr;
    // PREFETCH, PREFETCHW and the reserved ones; FENI, FDISI, FSETPM of older coprocessors; memory is never
    // touched: the address is beyond the segment.
    for reg_field in 0..8 {
        let mut m = protected();
        m.run(&[0x0f, 0x0d, 0x05 | reg_field << 3, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert_eq!(m.cpu.st.gpr, before);
    }
    for second in [0xe0, 0xe1, 0xe4] {
        let mut m = protected();
        let x87 = m.cpu.st.x87;
        m.run(&[0xdb, second]).unwrap();
        assert_eq!((m.cpu.st.x87, m.cpu.st.gpr), (x87, before), "DB {second:x}");
    }
    for bytes in [&[0x0f, 0x0b][..], &[0x0f, 0xb9, 0xc0], &[0x0f, 0xff, 0xc0]] {
        assert_eq!(protected().run(bytes), Err(ud()), "{bytes:x?}");
    }
}

#[test]
fn string_ports() {
    let mut m = Machine::new();
    *m.reg(reg::RDX) = 0x1f0;
    *m.reg(reg::RDI) = 0x700;
    for (bytes, width, value) in
        [(&[0x6c][..], 1, 0xf0), (&[0x6d], 2, 0x01f0), (&[0x66, 0x6d], 4, 0xabcd_01f0)]
    {
        let di = *m.reg(reg::RDI);
        m.put64(di, 0);
        m.run(bytes).unwrap();
        assert_eq!((m.get64(di), *m.reg(reg::RDI)), (value, di + width));
    }
    *m.reg(reg::RSI) = 0x700;
    for (bytes, width) in [(&[0x6e][..], 1), (&[0x6f], 2), (&[0x66, 0x6f], 4)] {
        let si = *m.reg(reg::RSI);
        m.run(bytes).unwrap();
        assert_eq!(*m.reg(reg::RSI), si + width);
    }
}

#[test]
fn icebp_is_a_debug_exception() {
    let mut m = Machine::new();
    m.put16(4, 0x5678);
    m.put16(6, 0x1234);
    m.run(&[0xf1]).unwrap();
    assert_eq!((m.sel(seg::CS), m.cpu.st.rip), (0x1234, 0x5678));
    assert_eq!(m.get16(0x7ffa), CODE as u16 + 1, "a trap: it returns behind the instruction");
}
