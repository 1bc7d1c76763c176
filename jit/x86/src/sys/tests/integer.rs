//! The rare integer instructions.

use super::protected::machine;
use super::*;

const CF: u64 = rflags::CF;
const AF: u64 = rflags::AF;

fn adjust(opcode: u8, ax: u64, flags: u64) -> (u64, u64) {
    let mut m = machine();
    *m.reg(reg::RAX) = ax;
    m.cpu.set_rflags(flags);
    m.run(&[opcode]).unwrap();
    (*m.reg(reg::RAX), m.cpu.rflags() & (CF | AF))
}

#[test]
fn decimal_adjust() {
    // SDM's example: 79h + 35h = AEh, DAA gives 14h with carry.
    assert_eq!(adjust(0x27, 0xae, 0), (0x14, CF | AF));
    assert_eq!(adjust(0x27, 0x2e, 0), (0x34, AF));
    // 35h - 47h = EEh with CF and AF: DAS gives 88h with carry.
    assert_eq!(adjust(0x2f, 0xee, CF | AF), (0x88, CF | AF));
    assert_eq!(adjust(0x2f, 0x05, 0), (0x05, 0));
    assert_eq!(adjust(0x2f, 0x02, AF), (0xfc, CF | AF));
}

/// DAA and DAS against another formulation: the decimal digits of what was added or subtracted.
#[test]
fn decimal_sums() {
    for a in 0..100u64 {
        for b in 0..100u64 {
            let bcd = |v: u64| v / 10 * 16 + v % 10;
            let (x, y) = (bcd(a), bcd(b));
            let af = if (x & 15) + (y & 15) > 15 { AF } else { 0 };
            let cf = if x + y > 255 { CF } else { 0 };
            let (sum, flags) = adjust(0x27, (x + y) & 0xff, af | cf);
            assert_eq!((sum, flags & CF != 0), (bcd((a + b) % 100), a + b > 99), "{a} + {b}");
            let af = if x & 15 < y & 15 { AF } else { 0 };
            let cf = if x < y { CF } else { 0 };
            let (diff, flags) = adjust(0x2f, x.wrapping_sub(y) & 0xff, af | cf);
            assert_eq!((diff, flags & CF != 0), (bcd((100 + a - b) % 100), a < b), "{a} - {b}");
        }
    }
}

#[test]
fn ascii_adjust() {
    assert_eq!(adjust(0x37, 0x000b, 0), (0x0101, CF | AF));
    assert_eq!(adjust(0x37, 0x0009, 0), (0x0009, 0));
    assert_eq!(adjust(0x3f, 0x02ff, AF), (0x0109, CF | AF));
    let mut m = machine();
    *m.reg(reg::RAX) = 57;
    m.run(&[0xd4, 10]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 0x0507);
    m.run(&[0xd5, 10]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 57);
    let f = m.run(&[0xd4, 0]).unwrap_err();
    assert_eq!((f.vector, f.has_code), (0, false));
}

#[test]
fn enter_with_nesting() {
    let mut m = machine();
    *m.reg(reg::RBP) = 0x8800;
    *m.reg(reg::RSP) = 0x9000;
    m.put32(0x87fc, 0x1111);
    m.run(&[0xc8, 0x10, 0, 2]).unwrap();
    assert_eq!((*m.reg(reg::RBP), *m.reg(reg::RSP)), (0x8ffc, 0x8ff4 - 0x10));
    assert_eq!((m.get32(0x8ffc), m.get32(0x8ff8), m.get32(0x8ff4)), (0x8800, 0x1111, 0x8ffc));
}

#[test]
fn push_and_pop_all() {
    let mut m = machine();
    for r in 0..8 {
        *m.reg(r) = 0x1000 * u64::from(r + 1);
    }
    *m.reg(reg::RSP) = 0x9000;
    m.run(&[0x60]).unwrap();
    assert_eq!(*m.reg(reg::RSP), 0x9000 - 32);
    assert_eq!(m.get32(0x9000 - 20), 0x9000);
    for r in [0, 1, 2, 3, 5, 6, 7] {
        *m.reg(r) = 0;
    }
    m.run(&[0x61]).unwrap();
    assert_eq!((*m.reg(reg::RAX), *m.reg(reg::RDI), *m.reg(reg::RSP)), (0x1000, 0x8000, 0x9000));
}

#[test]
fn bound_and_xlat() {
    let mut m = machine();
    m.put32(0x2_0000, 5);
    m.put32(0x2_0004, 9);
    *m.reg(reg::RBX) = 0x2_0000;
    *m.reg(reg::RAX) = 9;
    m.run(&[0x62, 0x03]).unwrap();
    *m.reg(reg::RAX) = 4;
    assert_eq!(m.run(&[0x62, 0x03]).unwrap_err().vector, 5);
    m.run(&[0xd7]).unwrap();
    assert_eq!(*m.reg(reg::RAX), 9);
}

#[test]
fn wide_compare_exchange() {
    let mut m = machine();
    m.put64(0x2_0000, 0x1111_1111_2222_2222);
    *m.reg(reg::RDI) = 0x2_0000;
    *m.reg(reg::RBX) = 0x4444;
    *m.reg(reg::RCX) = 0x3333;
    m.run(&[0xf0, 0x0f, 0xc7, 0x0f]).unwrap();
    assert_eq!((*m.reg(reg::RDX), *m.reg(reg::RAX)), (0x1111_1111, 0x2222_2222));
    assert_eq!(m.cpu.rflags() & rflags::ZF, 0);
    m.run(&[0x0f, 0xc7, 0x0f]).unwrap();
    assert_eq!(m.get64(0x2_0000), 0x0000_3333_0000_4444);
    assert_ne!(m.cpu.rflags() & rflags::ZF, 0);
}

#[test]
fn random_numbers_repeat_with_the_seed() {
    let mut a = machine();
    let mut b = machine();
    for m in [&mut a, &mut b] {
        m.run(&[0x0f, 0xc7, 0xf0]).unwrap();
        assert_eq!(m.cpu.rflags() & CF, CF);
    }
    assert_eq!(a.reg(reg::RAX), b.reg(reg::RAX));
    let first = *a.reg(reg::RAX);
    a.run(&[0x0f, 0xc7, 0xf8]).unwrap();
    assert_ne!(*a.reg(reg::RAX), first);
}
