//! Memory that several processors change: locked operations, locks, translations, code.

use tests::harness::smp::Program;

/// Every width, within a cache line, across two, and across two pages.
#[test]
fn locked_operations_lose_nothing() {
    let (cpus, rounds) = (4u64, 101u64);
    let n = cpus * rounds;
    let wanted = [
        n & 0xff,
        (3 * n) & 0xffff,
        (5 * n).wrapping_neg() & 0xffff_ffff,
        n << 32 | n,
        7 * n,
        n & 0xff,
        n,
        n,
        // CMPXCHG8B: the low half up, the high half down.
        n | n.wrapping_neg() << 32,
        n + 1,
        0xf,
        5,
        0,
        0xf,
        0x100,
        n,
        n.wrapping_neg(),
    ];
    for (at, stride) in [(0, 64), (61, 64), (63, 64), (60, 64), (4093, 4096), (4095, 4096), (4089, 4096)] {
        let constants = [("ROUNDS", rounds as i64), ("AT", at), ("STRIDE", stride)];
        let program = Program::new(cpus as u32, include_str!("locks.asm"), &constants);
        program.check(|results| assert_eq!(results, wanted, "at {at}, {stride} apart"));
    }
}

#[test]
fn locks_exclude() {
    let program = Program::new(4, include_str!("spin.asm"), &[("ROUNDS", 1000)]);
    program.check(|results| assert_eq!(results, [4000, 4000, 0]));
}

/// Once a processor has acknowledged the IPI, it neither reads nor writes by the old translation.
#[test]
fn translations_go_when_an_ipi_asks() {
    let program = Program::new(4, include_str!("shootdown.asm"), &[("ROUNDS", 100)]);
    program.check(|results| assert_eq!(results, [0, 100]));
}

/// The operand of the patched instruction lies within a line, across two, and across two pages.
#[test]
fn code_that_another_processor_changes() {
    for place in [0, 61, 4096 + 1] {
        let constants = [("ROUNDS", 200), ("PATCHES", 50), ("PLACE", place)];
        let program = Program::new(3, include_str!("code.asm"), &constants);
        program.check(|results| assert_eq!(results, [0, 200, 50], "{place}"));
    }
}
