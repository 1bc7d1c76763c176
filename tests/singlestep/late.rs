//! What the 80286 and the i386 do where the manual leaves it open, or later processors do it otherwise.

use jit::TierPolicy;
use tests::singlestep::run::Machine;
use tests::singlestep::{Case, EFLAGS, EIP};
use x86::model::CpuModel;

use crate::build::{case, moo};
use crate::cases::{AX, CS, CX, SP, check, ends, machine, vectors};

const BX: usize = 3;
const SS: usize = 15;

fn new(wide: bool, code: &[u8], before: &[(usize, u32)]) -> Case {
    case(wide, &[code, &[0xf4]].concat(), &[&[(EFLAGS, 2)], before].concat())
}

fn with(mut case: Case, ram: &[(u32, u8)]) -> Case {
    case.initial.ram.extend(ram);
    case
}

/// The case runs into an exception, which pushes this IP; the handler at 0000:0600 halts.
fn faults(case: Case, number: u32, ip: u32) -> Case {
    let at = number * 4;
    let case = with(case, &[(at, 0x00), (at + 1, 0x06), (at + 2, 0), (at + 3, 0)]);
    let frame = [(0x4_00fa, ip as u8), (0x4_00fb, (ip >> 8) as u8), (0x4_00fc, 0), (0x4_00fd, 0x10)];
    ends(case, &[(SP, 0xfa), (CS, 0), (EIP, 0x601)], &frame)
}

#[test]
fn what_a_machine_would_look_at_devices_for_goes_on() {
    for (cpu, wide) in [("C286", false), ("386E", true)] {
        check(
            cpu,
            vec![
                ends(
                    with(new(wide, &[0x17], &[]), &[(0x4_0100, 7)]),
                    &[(SS, 7), (SP, 0x102), (EIP, 0x202)],
                    &[],
                ),
                ends(new(wide, &[0x8e, 0xd0], &[(AX, 9)]), &[(SS, 9), (EIP, 0x203)], &[]),
                ends(new(wide, &[0xe4, 0x10], &[]), &[(AX, 0xff), (EIP, 0x203)], &[]),
                ends(new(wide, &[0xef], &[]), &[(EIP, 0x202)], &[]),
                // The HLT at the target is nowhere in the file.
                ends(new(wide, &[0xeb, 0x10], &[]), &[(EIP, 0x213)], &[]),
            ],
        );
    }
    // A register of the 80386EX; nothing on the bus of an 80286.
    check("386E", vec![ends(new(true, &[0xe5, 0x22], &[]), &[(AX, 0x427f), (EIP, 0x203)], &[])]);
    check("C286", vec![ends(new(false, &[0xe5, 0x22], &[]), &[(AX, 0xffff), (EIP, 0x203)], &[])]);
}

#[test]
fn the_80286_shifts_bit_by_bit_and_knows_no_i386() {
    let table = ends(new(false, &[0x0f, 0x01, 0x07], &[]), &[(EIP, 0x204)], &[(0x2_0005, 0xff)]);
    check(
        "C286",
        vec![
            // SHL AL, 2 leaves AF as bit 4; ROR AL, 2 leaves OF as the last step does.
            ends(new(false, &[0xc0, 0xe0, 2], &[(AX, 4)]), &[(AX, 0x10), (EIP, 0x204), (EFLAGS, 0x12)], &[]),
            ends(new(false, &[0xc0, 0xc8, 2], &[(AX, 2)]), &[(AX, 0x80), (EIP, 0x204), (EFLAGS, 0x803)], &[]),
            ends(new(false, &[0x0f, 0x01, 0xe0], &[]), &[(AX, 0xfff0), (EIP, 0x204)], &[]),
            table,
            faults(new(false, &[0x64, 0x8b, 0x07], &[]), 6, 0x200),
            faults(new(false, &[0x66, 0x90], &[]), 6, 0x200),
            faults(new(false, &[0xf0, 0x67, 0x90], &[]), 6, 0x200),
            faults(new(false, &[0x8e, 0xe0], &[]), 6, 0x200),
        ],
    );
}

#[test]
fn the_i386_has_a_wide_shifter() {
    let shift = |code: &[u8], before: &[(usize, u32)], after: &[(usize, u32)]| {
        let end = 0x201 + code.len() as u32;
        ends(new(true, code, before), &[after, &[(EIP, end)]].concat(), &[])
    };
    check(
        "386E",
        vec![
            shift(&[0xc0, 0xe0, 2], &[(AX, 4)], &[(AX, 0x10), (EFLAGS, 2)]),
            shift(&[0xc0, 0xe0, 16], &[(AX, 1)], &[(AX, 0), (EFLAGS, 0x847)]),
            shift(&[0xc0, 0xe0, 17], &[(AX, 1)], &[(AX, 0), (EFLAGS, 0x46)]),
            shift(&[0xc0, 0xe8, 24], &[(AX, 0x80)], &[(AX, 0), (EFLAGS, 0x47)]),
            // SHLD AX, BX, 20.
            shift(&[0x0f, 0xa4, 0xd8, 20], &[(AX, 0x1234), (BX, 0x5678)], &[(AX, 0x6785), (EFLAGS, 3)]),
            shift(&[0x66, 0x0f, 0xa4, 0xd8, 4], &[(AX, 0x1234), (BX, 0x5678_0000)], &[(AX, 0x1_2345)]),
        ],
    );
}

#[test]
fn the_i386_has_a_limit_for_its_instruction_pointer() {
    let at_end = |code: u8, after: u8| {
        let mut case = case(true, &[code], &[(EFLAGS, 2), (EIP, 0xffff)]);
        case.initial.ram.push((0x2_0000, after));
        case
    };
    // INC AX in the last byte: IP is 1_0000 then, of which 16 bits are pushed.
    let mut beyond = faults(at_end(0x40, 0xf4), 13, 0);
    beyond.last.registers[AX] = Some(1);
    check("386E", vec![beyond, faults(at_end(0xb0, 0x5a), 13, 0xffff)]);
}

#[test]
fn the_i386_takes_lock_before_a_bit_test_in_memory() {
    let stack: Vec<(u32, u8)> =
        (0..32).map(|k| (0x4_0100 + k, if (12..16).contains(&k) { 0x11 } else { 0 })).collect();
    check(
        "386E",
        vec![
            ends(new(true, &[0xf0, 0x0f, 0xa3, 0x07], &[]), &[(EIP, 0x205)], &[]),
            ends(new(true, &[0xf0, 0x0f, 0xba, 0x27, 1], &[]), &[(EIP, 0x206)], &[]),
            faults(new(true, &[0xf0, 0x0f, 0xa3, 0xc0], &[]), 6, 0x200),
            faults(new(true, &[0xf0, 0x90], &[]), 6, 0x200),
            // POPAD: ESP's upper half comes from the place that is skipped.
            ends(with(new(true, &[0x66, 0x61], &[]), &stack), &[(SP, 0x1111_0120), (EIP, 0x203)], &[]),
            // SMSW EAX: bits that are not there read as ones.
            ends(new(true, &[0x0f, 0x01, 0xe0], &[(CX, 1)]), &[(AX, 0xfff0), (EIP, 0x204)], &[]),
        ],
    );
}

#[test]
fn a_shutdown_is_an_end_if_the_file_says_so() {
    // The stack has no room for a word, nor for the exception's frame.
    let mut shut = new(true, &[0x50], &[(SP, 1)]);
    let why = machine("386E", TierPolicy::Zero).case(&shut, &Default::default()).unwrap_err();
    assert!(why.contains("shut down"), "{why}");
    shut.shuts_down = true;
    shut.last.registers[SP] = Some(1);
    check("386E", vec![shut.clone()]);
    // As a bit in the mask of the final registers.
    shut.last.registers = Default::default();
    let mut file = moo(&vectors("386E", vec![shut]), true);
    let at = file.windows(4).rposition(|w| w == b"RG32").unwrap() + 8;
    file[at + 3] |= 0x80;
    assert!(tests::singlestep::parse(&file).unwrap().cases[0].shuts_down);
}

/// No bytes are an instruction that nobody has written: they are one or #UD.
#[test]
fn every_opcode_is_there_or_refused() {
    for model in ["8086", "80186", "v30", "286", "386", "486"] {
        let wide = matches!(model, "386" | "486");
        let mut machine = Machine::new(CpuModel::new(model).unwrap(), TierPolicy::Zero);
        let mut missing = Vec::new();
        for first in 0..=255u8 {
            let two = if first == 0x0f { 0..=255 } else { 0..=0 };
            for second in two {
                // Forms without memory differ by all eight of their registers in few opcodes only.
                let step = if first == 0x0f && matches!(second, 1 | 0xae | 0xc7) { 1 } else { 9 };
                for modrm in (7..=0x3f).step_by(8).chain((0xc0..=0xff).step_by(step)) {
                    let code = [
                        &[first][..],
                        if first == 0x0f { &[second][..] } else { &[] },
                        &[modrm, 0xf4, 0xf4, 0xf4, 0xf4],
                    ];
                    let mut case = case(wide, &code.concat(), &[(EFLAGS, 2)]);
                    // All interrupts halt.
                    case.initial.ram.extend((0..0x100).filter(|at| at % 4 == 1).map(|at| (at, 6)));
                    case.initial.ram.push((0x600, 0xf4));
                    if let Err(why) = machine.case(&case, &Default::default())
                        && why.contains("not implemented")
                    {
                        missing.push(why);
                    }
                }
            }
        }
        assert!(missing.is_empty(), "{model}: {} {:#?}", missing.len(), &missing[..missing.len().min(9)]);
    }
}
