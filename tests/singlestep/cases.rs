//! Cases with known ends, in each format and on each of the old processors.

use std::io::Write as _;

use jit::TierPolicy;
use tests::singlestep::run::{Beside, Machine, Tally, model_for};
use tests::singlestep::{Case, EFLAGS, EIP, Exception, Vectors, parse};
use x86::model::CpuModel;

use crate::build::{case, json, moo};

pub(crate) const AX: usize = 2;
pub(crate) const CX: usize = 4;
pub(crate) const DX: usize = 5;
pub(crate) const SI: usize = 6;
pub(crate) const DI: usize = 7;
pub(crate) const SP: usize = 9;
pub(crate) const CS: usize = 10;

/// The case with what changes.
pub(crate) fn ends(mut case: Case, registers: &[(usize, u32)], ram: &[(u32, u8)]) -> Case {
    for (n, v) in registers {
        case.last.registers[*n] = Some(*v);
    }
    case.last.ram = ram.to_vec();
    case
}

pub(crate) fn machine(cpu: &str, tier: TierPolicy) -> Machine {
    Machine::new(CpuModel::new(model_for(cpu).unwrap()).unwrap(), tier)
}

pub(crate) fn vectors(cpu: &str, cases: Vec<Case>) -> Vectors {
    Vectors { cpu: cpu.into(), cases, ..Vectors::default() }
}

fn counting(flags: u32) -> Beside {
    Beside { flags: Some(flags), ..Beside::default() }
}

pub(crate) fn check(cpu: &str, cases: Vec<Case>) {
    let mut machine = machine(cpu, TierPolicy::Zero);
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|c| machine.case(c, &Default::default()).err().map(|why| format!("{}: {why}", c.name)))
        .collect();
    assert!(wrong.is_empty(), "{cpu}: {wrong:#?}");
}

pub(crate) const F: u32 = 0xf002;

#[test]
fn the_8086_has_rules_of_its_own() {
    let memory = [(0x2_0000, 0x34), (0x2_ffff, 0x12)];
    let mut wrap = case(false, &[0x8b, 0x07], &[(EFLAGS, F), (3, 0xffff)]);
    wrap.initial.ram.extend(memory);
    let mut store_wrap = case(false, &[0x89, 0x07], &[(EFLAGS, F), (3, 0xffff), (AX, 0xabcd)]);
    store_wrap.initial.ram.extend(memory);
    // Interrupt 0 at 0000:0400 by the table.
    let mut divide = case(false, &[0xf6, 0xf1], &[(EFLAGS, F), (AX, 0x1234)]);
    divide.initial.ram.extend([(0, 0x00), (1, 0x04), (2, 0x00), (3, 0x00)]);
    let pushed = [
        (0x4_00fe, 0x02),
        (0x4_00ff, 0xf0),
        (0x4_00fc, 0x00),
        (0x4_00fd, 0x10),
        (0x4_00fa, 0x02),
        (0x4_00fb, 0x02),
    ];
    let mut popped = case(false, &[0x0f], &[(EFLAGS, F)]);
    popped.initial.ram.extend([(0x4_0100, 0x00), (0x4_0101, 0x50)]);
    let mut moved = case(false, &[0xf3, 0xa4], &[(EFLAGS, F), (CX, 3), (SI, 0xfffe), (DI, 0x10)]);
    moved.initial.ram.extend([(0x2_fffe, 1), (0x2_ffff, 2), (0x2_0000, 3)]);
    // Physical addresses wrap at 1 MiB: FFFF:0011 is 1.
    let mut high = case(false, &[0x8a, 0x07], &[(EFLAGS, F), (3, 0x11), (11, 0xffff)]);
    high.initial.ram.push((1, 0x77));
    check(
        "8088",
        vec![
            ends(
                case(false, &[0x54], &[(EFLAGS, F)]),
                &[(SP, 0xfe), (EIP, 0x201)],
                &[(0x4_00fe, 0xfe), (0x4_00ff, 0)],
            ),
            ends(
                case(false, &[0xff, 0xfc], &[(EFLAGS, F)]),
                &[(SP, 0xfe), (EIP, 0x202)],
                &[(0x4_00fe, 0xfe)],
            ),
            // SHL AL, CL by 33: all bits are gone, the last one out was 0.
            ends(
                case(false, &[0xd2, 0xe0], &[(EFLAGS, F | 1), (AX, 0xff), (CX, 33)]),
                &[(AX, 0), (EIP, 0x202), (EFLAGS, F | 0x44)],
                &[],
            ),
            // RCL AX, CL by 17: once around through the carry.
            ends(
                case(false, &[0xd3, 0xd0], &[(EFLAGS, F | 1), (AX, 0x1234), (CX, 17)]),
                &[(EIP, 0x202), (EFLAGS, F | 0x801)],
                &[],
            ),
            // SETMO AL.
            ends(
                case(false, &[0xd0, 0xf0], &[(EFLAGS, F | 1)]),
                &[(AX, 0xff), (EIP, 0x202), (EFLAGS, F | 0x84)],
                &[],
            ),
            // JO by its alias 60h; RET by C1h.
            ends(case(false, &[0x60, 0x10], &[(EFLAGS, F | 0x800)]), &[(EIP, 0x212)], &[]),
            ends(wrap, &[(AX, 0x3412), (EIP, 0x202)], &[]),
            ends(store_wrap, &[(EIP, 0x202)], &[(0x2_ffff, 0xcd), (0x2_0000, 0xab)]),
            ends(divide, &[(SP, 0xfa), (EIP, 0x400), (CS, 0)], &pushed),
            ends(popped, &[(SP, 0x102), (CS, 0x5000), (EIP, 0x201)], &[]),
            ends(
                moved,
                &[(CX, 0), (SI, 1), (DI, 0x13), (EIP, 0x202)],
                &[(0x3_0010, 1), (0x3_0011, 2), (0x3_0012, 3)],
            ),
            ends(high, &[(AX, 0x77), (EIP, 0x202)], &[]),
            // IDIV with a repeat prefix: 7 / 2 = -3, remainder 1. Without one -128 would be a fault.
            ends(
                case(false, &[0xf3, 0xf6, 0xf9], &[(EFLAGS, F), (AX, 7), (CX, 2)]),
                &[(AX, 0x01fd), (EIP, 0x203)],
                &[],
            ),
            // AAA adds to AL and AH apart; MOV CS; CMC behind a LOCK that means nothing.
            ends(
                case(false, &[0x37], &[(EFLAGS, F), (AX, 0xfb)]),
                &[(AX, 0x0101), (EIP, 0x201), (EFLAGS, F | 0x11)],
                &[],
            ),
            ends(
                case(false, &[0x8e, 0xc8], &[(EFLAGS, F), (AX, 0x4444)]),
                &[(CS, 0x4444), (EIP, 0x202)],
                &[],
            ),
            ends(case(false, &[0xf1, 0xf5], &[(EFLAGS, F)]), &[(EIP, 0x202), (EFLAGS, F | 1)], &[]),
            // An escape reads its operand and does nothing; input is all ones.
            ends(case(false, &[0xd9, 0x46, 0x10], &[(EFLAGS, F)]), &[(EIP, 0x203)], &[]),
            ends(case(false, &[0xe5, 0x10], &[(EFLAGS, F)]), &[(AX, 0xffff), (EIP, 0x202)], &[]),
            // IP goes on at 0 behind FFFF.
            ends(
                Case {
                    initial: {
                        let mut s = case(false, &[0xb0], &[(EFLAGS, F), (EIP, 0xffff)]).initial;
                        s.ram.push((0x1_0000, 0x5a));
                        s
                    },
                    ..case(false, &[0xb0, 0x5a], &[])
                },
                &[(AX, 0x5a), (EIP, 1)],
                &[],
            ),
        ],
    );
}

#[test]
fn later_processors_halt_at_the_end() {
    for (cpu, wide, flags) in [("C286", false, 2), ("386E", true, 2)] {
        // ADD AX, CX; HLT. PUSH SP stores the old value. A word at FFFF is #GP through the table, and the handler halts.
        let add = case(wide, &[0x01, 0xc8, 0xf4], &[(EFLAGS, flags), (AX, 0x7fff), (CX, 1)]);
        let push = case(wide, &[0x54, 0xf4], &[(EFLAGS, flags)]);
        let mut fault = case(wide, &[0x8b, 0x07, 0xf4], &[(EFLAGS, flags), (3, 0xffff)]);
        fault.initial.ram.extend([
            (13 * 4, 0x00),
            (13 * 4 + 1, 0x06),
            (13 * 4 + 2, 0),
            (13 * 4 + 3, 0),
            (0x600, 0xf4),
        ]);
        fault.exception = Some(Exception { number: 13, flags_at: 0x4_00fe });
        check(
            cpu,
            vec![
                ends(add, &[(AX, 0x8000), (EIP, 0x203), (EFLAGS, 0x896)], &[]),
                ends(push, &[(SP, 0xfe), (EIP, 0x202)], &[(0x4_00fe, 0), (0x4_00ff, 1)]),
                ends(
                    fault,
                    &[(SP, 0xfa), (EIP, 0x601), (CS, 0)],
                    &[
                        (0x4_00fe, 2),
                        (0x4_00ff, 0),
                        (0x4_00fc, 0),
                        (0x4_00fd, 0x10),
                        (0x4_00fa, 0),
                        (0x4_00fb, 2),
                    ],
                ),
            ],
        );
    }
    // The 80286 ignores LOCK before any instruction, and takes at most ten bytes.
    let locked = case(false, &[0xf0, 0x26, 0x40, 0xf4], &[(EFLAGS, 2), (AX, 1)]);
    let mut long = case(false, &[0x26, 0x26, 0x26, 0x26, 0x26, 0x81, 0x06, 0, 0, 0, 0, 0xf4], &[(EFLAGS, 2)]);
    long.initial.ram.extend([(24, 0x00), (25, 0x06), (26, 0), (27, 0), (0x600, 0xf4)]);
    let frame = [(0x4_00fa, 0), (0x4_00fb, 2)];
    check(
        "C286",
        vec![
            ends(locked, &[(AX, 2), (EIP, 0x204), (EFLAGS, 2)], &[]),
            ends(long, &[(SP, 0xfa), (EIP, 0x601), (CS, 0)], &frame),
        ],
    );
    // MUL leaves all flags but CF and OF undefined: unless somebody says otherwise they do not count.
    let multiply = case(false, &[0xf6, 0xe1, 0xf4], &[(EFLAGS, 2), (AX, 2), (CX, 3)]);
    let mut vectors = vectors("C286", vec![ends(multiply, &[(AX, 6), (EIP, 0x203), (EFLAGS, 0xd6)], &[])]);
    let mut machine = machine("C286", TierPolicy::Zero);
    assert_eq!(machine.run(&vectors, &Beside::default(), 9).0.failed, 0);
    assert_eq!(machine.run(&vectors, &counting(u32::MAX), 9).0.failed, 1);
    vectors.mask[EFLAGS] = Some(0x801);
    assert_eq!(machine.run(&vectors, &Beside::default(), 9).0.failed, 0);
}

#[test]
fn what_the_model_has_not_fails() {
    let movzx = case(false, &[0x0f, 0xb6, 0xc0, 0xf4], &[(EFLAGS, 2)]);
    let vectors = vectors("C286", vec![ends(movzx, &[(EIP, 0x204)], &[])]);
    assert_eq!(machine("C286", TierPolicy::Zero).run(&vectors, &Beside::default(), 9).0.failed, 1);
}

#[test]
fn each_tier_runs_cases_that_halt() {
    let code = [0xb9, 0x05, 0x00, 0x01, 0xc8, 0x42, 0xe2, 0xfb, 0xf4]; // 5 times: ADD AX, CX; INC DX
    let case = ends(
        case(true, &code, &[(EFLAGS, 2), (AX, 0), (DX, 0)]),
        &[(AX, 15), (CX, 0), (DX, 5), (EIP, 0x209)],
        &[],
    );
    let vectors = vectors("386E", vec![case.clone(), case]);
    for tier in [TierPolicy::Zero, TierPolicy::One, TierPolicy::Two] {
        let (tally, first) = machine("386E", tier).run(&vectors, &counting(!0xff), usize::MAX);
        assert_eq!((tally, first), (Tally { passed: 2, ..Tally::default() }, None), "{tier:?}");
    }
}

#[test]
fn what_differs_is_named() {
    let good =
        ends(case(false, &[0x40], &[(EFLAGS, F), (AX, 1)]), &[(AX, 2), (EIP, 0x201), (EFLAGS, F)], &[]);
    let change = |f: &dyn Fn(&mut Case)| {
        let mut case = good.clone();
        f(&mut case);
        let mut mask = vectors("8088", vec![case]);
        mask.mask[EFLAGS] = Some(0xffff);
        machine("8088", TierPolicy::Zero).run(&mask, &Beside::default(), 1).1
    };
    assert_eq!(change(&|_| {}), None);
    for (f, expected) in [
        (&(|c: &mut Case| c.last.registers[AX] = Some(3)) as &dyn Fn(&mut Case), "ax is 0x2, expected 0x3"),
        (&|c: &mut Case| c.last.registers[EFLAGS] = Some(F | 1), "flags is 0xf002, expected 0xf003"),
        (&|c: &mut Case| c.last.ram = vec![(0x500, 7)], "the byte at 0x500 is 0x00, expected 0x07"),
        (&|c: &mut Case| c.last.registers[CX] = Some(9), "cx is 0x0, expected 0x9"),
    ] {
        let found = change(f).unwrap();
        assert!(found.contains(expected), "{found}");
    }
    // What a mask leaves out does not count.
    assert_eq!(change(&|c: &mut Case| (c.last.registers[AX], c.mask[AX]) = (Some(3), Some(0xfff0))), None);
}

#[test]
fn revoked_cases_are_not_run() {
    let mut wrong = ends(case(false, &[0x40], &[(EFLAGS, F)]), &[(AX, 7), (EIP, 0x201)], &[]);
    wrong.hash = Some([7; 20]);
    let vectors = vectors("8088", vec![wrong, case(false, &[0x90], &[(EFLAGS, F)])]);
    let beside = Beside { revoked: [[7; 20]].into(), ..Beside::default() };
    let (tally, _) = machine("8088", TierPolicy::Zero).run(&vectors, &beside, 1);
    assert_eq!(tally, Tally { passed: 0, failed: 0, revoked: 1 });
}

#[test]
fn all_four_forms_say_the_same() {
    let mut all = vectors("386E", vec![case(true, &[0x90, 0xf4], &[(AX, 0x1234_5678)])]);
    all.cases[0].hash = Some([0xa5; 20]);
    all.cases[0].exception = Some(Exception { number: 6, flags_at: 0x1234 });
    let plain = moo(&all, true);
    assert_eq!(parse(&plain), Ok(all.clone()));
    let text = parse(&json(&all, true)).unwrap();
    assert_eq!((text.cases, text.cpu.as_str()), (all.cases.clone(), "386"));
    for bytes in [plain, json(&all, true)] {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&bytes).unwrap();
        assert_eq!(parse(&gz.finish().unwrap()).map(|v| v.cases), Ok(all.cases.clone()));
    }
    let mut short = vectors("8088", vec![case(false, &[0x90], &[(AX, 0x1234)])]);
    short.mask[EFLAGS] = Some(0xf7ff);
    assert_eq!(parse(&moo(&short, false)), Ok(short.clone()));
    assert_eq!(parse(&json(&short, false)).map(|v| v.cases), Ok(short.cases));
}
