//! x2APIC mode (SDM vol. 3, "Extended XAPIC (x2APIC)"): the transitions of IA32_APIC_BASE, and which accesses raise #GP.

use std::fmt::Write as _;

use tests::harness::smp::Program;

/// What the program does in a row of its rules.
#[derive(Clone, Copy)]
enum Rule {
    Reads(u32),
    ReadFaults(u32),
    /// Under the mask.
    Is(u32, u64, u64),
    Writes(u32, u64),
    WriteFaults(u32, u64),
}
use Rule::*;

const ALL: u64 = u64::MAX;
const BASE_MSR: u32 = 0x1b;
/// IA32_APIC_BASE of a processor that is not the bootstrap processor: disabled, xAPIC, and what is added for x2APIC.
const OFF: u64 = 0xfee0_0000;
const ON: u64 = OFF | 1 << 11;
const EXTD: u64 = 1 << 10;

fn rows(rules: &[Rule]) -> String {
    let mut text = String::from("rules:\n");
    for rule in rules {
        let (what, msr, value, mask, faults) = match *rule {
            Reads(msr) => (0, msr, 0, 0, 0),
            ReadFaults(msr) => (0, msr, 0, 0, 1),
            Is(msr, value, mask) => (2, msr, value, mask, 0),
            Writes(msr, value) => (1, msr, value, 0, 0),
            WriteFaults(msr, value) => (1, msr, value, 0, 1),
        };
        writeln!(text, "dq {what}, {msr:#x}, {value:#x}, {mask:#x}, {faults}")
            .expect("a string takes everything");
    }
    text + "rules_end:\nresults: dq 7\n"
}

/// A failure names the row by its number.
fn hold(rules: &[Rule]) {
    let text = include_str!("x2apic.asm").to_owned() + &rows(rules);
    Program::new(2, &text, &[]).check(|results| assert_eq!(results, [7]));
}

#[test]
fn modes_change_as_the_manual_allows() {
    hold(&[
        Is(BASE_MSR, ON, ALL),
        WriteFaults(BASE_MSR, OFF | EXTD),
        WriteFaults(BASE_MSR, ON | 1),
        WriteFaults(BASE_MSR, ON | 1 << 9),
        WriteFaults(BASE_MSR, ON | 1 << 63),
        ReadFaults(0x802),
        WriteFaults(0x80b, 0),
        Is(BASE_MSR, ON, ALL),
        Writes(BASE_MSR, ON | EXTD),
        Is(BASE_MSR, ON | EXTD, ALL),
        Is(0x802, 1, ALL),
        // The task priority and the rest go on from one mode to the other; only by way of disabled is there a way back.
        Is(0x80f, 0x1ff, ALL),
        WriteFaults(BASE_MSR, ON),
        WriteFaults(BASE_MSR, OFF | EXTD),
        Writes(0x80f, 0x1f0),
        Writes(0x808, 0x20),
        Writes(BASE_MSR, OFF),
        ReadFaults(0x802),
        WriteFaults(BASE_MSR, ON | EXTD),
        WriteFaults(BASE_MSR, OFF | EXTD),
        Writes(BASE_MSR, ON),
        Writes(BASE_MSR, ON | EXTD),
        // What was set is gone.
        Is(0x80f, 0xff, ALL),
        Is(0x808, 0, ALL),
        Writes(0x80f, 0x1ff),
    ]);
}

#[test]
fn registers_and_their_reserved_bits() {
    let mut rules = vec![Writes(BASE_MSR, ON | EXTD)];
    rules.extend([
        Is(0x802, 1, ALL),
        WriteFaults(0x802, 1),
        Reads(0x803),
        WriteFaults(0x803, 0),
        // Logical id: cluster 0, bit 1.
        Is(0x80d, 2, ALL),
        WriteFaults(0x80d, 2),
        Writes(0x808, 0x31),
        Is(0x808, 0x31, ALL),
        Is(0x80a, 0x31, ALL),
        WriteFaults(0x80a, 0),
        WriteFaults(0x808, 0x100),
        Writes(0x808, 0),
        // EOI and ESR take zero only, EOI and self IPI cannot be read.
        Writes(0x80b, 0),
        WriteFaults(0x80b, 1),
        ReadFaults(0x80b),
        Writes(0x828, 0),
        WriteFaults(0x828, 1),
        ReadFaults(0x83f),
        WriteFaults(0x83f, 0x100),
        WriteFaults(0x80f, 1 << 10),
        WriteFaults(0x80f, 1 << 32),
        // ICR: 64 bits in one; no delivery status, and nothing where it was.
        Writes(0x830, 0xff_0000_00f0),
        Is(0x830, 0xff_0000_00f0, ALL),
        WriteFaults(0x830, 1 << 12),
        WriteFaults(0x830, 1 << 13),
        WriteFaults(0x830, 1 << 16),
        WriteFaults(0x830, 1 << 20),
        // Timer: divisor, count, local vector table.
        Writes(0x83e, 0xb),
        WriteFaults(0x83e, 4),
        Writes(0x838, 0xffff_ffff),
        WriteFaults(0x838, 1 << 32),
        Writes(0x838, 0),
        WriteFaults(0x839, 0),
        Writes(0x832, 0x1_00f0),
        WriteFaults(0x832, 1 << 8),
        Is(0x832, 0x1_00f0, ALL),
        Writes(0x837, 0x1_00f1),
        WriteFaults(0x837, 1 << 17),
    ]);
    // Registers that x2APIC mode has no more, or never had.
    for msr in [0x800, 0x801, 0x804, 0x809, 0x80c, 0x80e, 0x831, 0x83a, 0x840, 0x8ff] {
        rules.extend([ReadFaults(msr), WriteFaults(msr, 0)]);
    }
    for msr in (0x810..0x828).step_by(3) {
        rules.extend([Reads(msr), WriteFaults(msr, 0)]);
    }
    hold(&rules);
}
