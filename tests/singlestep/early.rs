//! What the processors before the 80286 do that the others do not: the stack's edge, and the instructions of NEC's.

use tests::singlestep::{Case, EFLAGS, EIP};

use crate::build::case;
use crate::cases::{AX, CS, CX, DI, DX, F, SI, SP, check, ends};

const BX: usize = 3;
const BP: usize = 8;
const CARRY: u32 = 1;
const PARITY: u32 = 4;
const ZERO: u32 = 0x40;

/// A case with memory besides its code.
fn with(mut case: Case, ram: &[(u32, u8)]) -> Case {
    case.initial.ram.extend(ram);
    case
}

fn new(code: &[u8], before: &[(usize, u32)]) -> Case {
    case(false, code, &[&[(EFLAGS, F)], before].concat())
}

/// The case runs into an interrupt, whose handler is at 0000:0400: what is pushed, with IP behind `len` bytes.
fn interrupted(case: Case, number: u32, flags: u32, len: u32) -> Case {
    let at = number * 4;
    let case = with(case, &[(at, 0x00), (at + 1, 0x04), (at + 2, 0), (at + 3, 0)]);
    let ip = 0x200 + len;
    let pushed = [flags, 0x1000, ip];
    let ram: Vec<(u32, u8)> = pushed
        .iter()
        .zip([0x4_00fe, 0x4_00fc, 0x4_00fa])
        .flat_map(|(v, at)| [(at, *v as u8), (at + 1, (*v >> 8) as u8)])
        .collect();
    ends(case, &[(SP, 0xfa), (EIP, 0x400), (CS, 0), (EFLAGS, flags)], &ram)
}

#[test]
fn words_on_the_stack_go_on_at_the_segments_beginning() {
    let edges = [(0x4_ffff, 0x34), (0x4_0000, 0x12)];
    let pop = with(new(&[0x5b], &[(SP, 0xffff)]), &edges);
    let far = with(new(&[0xcb], &[(SP, 0xfffd)]), &[edges[0], edges[1], (0x4_fffd, 0x78), (0x4_fffe, 0x56)]);
    for cpu in ["8088", "186", "V20"] {
        check(
            cpu,
            vec![
                ends(new(&[0x50], &[(AX, 0x1234), (SP, 1)]), &[(SP, 0xffff), (EIP, 0x201)], &edges),
                ends(pop.clone(), &[(BX, 0x1234), (SP, 1), (EIP, 0x201)], &[]),
                ends(far.clone(), &[(CS, 0x1234), (SP, 1), (EIP, 0x5678)], &[]),
                // INT 3: flags across the edge, then CS and IP.
                ends(
                    with(new(&[0xcc], &[(SP, 1)]), &[(12, 0), (13, 4), (14, 0), (15, 0)]),
                    &[(SP, 0xfffb), (CS, 0), (EIP, 0x400)],
                    &[
                        (0x4_ffff, 2),
                        (0x4_0000, 0xf0),
                        (0x4_fffd, 0),
                        (0x4_fffe, 0x10),
                        (0x4_fffb, 1),
                        (0x4_fffc, 2),
                    ],
                ),
                // Loads of SS and input end like other instructions.
                ends(with(new(&[0x17], &[]), &[(0x4_0100, 7)]), &[(15, 7), (SP, 0x102), (EIP, 0x201)], &[]),
                ends(new(&[0x8e, 0xd0], &[(AX, 9)]), &[(15, 9), (EIP, 0x202)], &[]),
                ends(new(&[0xe6, 0x10], &[]), &[(EIP, 0x202)], &[]),
            ],
        );
    }
}

#[test]
fn aam_by_0_sets_flags_and_interrupts() {
    check("8088", vec![interrupted(new(&[0xd4, 0], &[(AX, 0x1234)]), 0, F | ZERO | PARITY, 2)]);
}

#[test]
fn the_80186_has_more_instructions_and_refuses_others() {
    check(
        "186",
        vec![
            ends(new(&[0x6a, 0xfe], &[]), &[(SP, 0xfe), (EIP, 0x202)], &[(0x4_00fe, 0xfe), (0x4_00ff, 0xff)]),
            ends(new(&[0x54], &[]), &[(SP, 0xfe), (EIP, 0x201)], &[(0x4_00fe, 0xfe), (0x4_00ff, 0)]),
            // Counts are masked: by 33 is by 1.
            ends(new(&[0xc0, 0xe0, 33], &[(AX, 1)]), &[(AX, 2), (EIP, 0x203)], &[]),
            interrupted(new(&[0x0f, 0x18], &[]), 6, F, 0),
            interrupted(new(&[0x66, 0x90], &[]), 6, F, 0),
            interrupted(new(&[0xc4, 0xc0], &[]), 6, F, 0),
            interrupted(new(&[0xff, 0xf8], &[]), 6, F, 0),
        ],
    );
}

#[test]
fn the_v30_has_bit_operations() {
    check(
        "V20",
        vec![
            // TEST1 AL, 3.
            ends(
                new(&[0x0f, 0x18, 0xc0, 0x0b], &[(AX, 8), (EFLAGS, F | 0x801)]),
                &[(EIP, 0x204), (EFLAGS, F)],
                &[],
            ),
            ends(new(&[0x0f, 0x10, 0xc0], &[(AX, 8), (CX, 2)]), &[(EIP, 0x203), (EFLAGS, F | ZERO)], &[]),
            // SET1 AX, CL; NOT1 and CLR1 in memory.
            ends(new(&[0x0f, 0x15, 0xc0], &[(CX, 0x1f)]), &[(AX, 0x8000), (EIP, 0x203)], &[]),
            ends(new(&[0x0f, 0x1e, 0x47, 0x10, 4], &[]), &[(EIP, 0x205)], &[(0x2_0010, 0x10)]),
            ends(
                with(new(&[0x26, 0x0f, 0x12, 0x07], &[(CX, 9)]), &[(0x3_0000, 0xff)]),
                &[(EIP, 0x204)],
                &[(0x3_0000, 0xfd)],
            ),
        ],
    );
}

#[test]
fn the_v30_has_decimal_digits() {
    let digits = |code: &[u8]| {
        with(new(code, &[(CX, 3)]), &[(0x2_0000, 0x99), (0x2_0001, 1), (0x3_0000, 1), (0x3_0001, 2)])
    };
    let equal = with(new(&[0x0f, 0x26], &[(CX, 2)]), &[(0x2_0000, 0x42), (0x3_0000, 0x42)]);
    check(
        "V20",
        vec![
            // ROL4 BL, ROR4 BL.
            ends(
                new(&[0x0f, 0x28, 0xc3], &[(AX, 0xf5), (BX, 0x12)]),
                &[(AX, 0xf1), (BX, 0x25), (EIP, 0x203)],
                &[],
            ),
            ends(
                new(&[0x0f, 0x2a, 0xc3], &[(AX, 0xf5), (BX, 0x12)]),
                &[(AX, 0x12), (BX, 0x51), (EIP, 0x203)],
                &[],
            ),
            // ADD4S: 201 + 199. SUB4S: 201 - 199. CMP4S.
            ends(digits(&[0x0f, 0x20]), &[(EIP, 0x202)], &[(0x3_0000, 0x00), (0x3_0001, 0x04)]),
            ends(digits(&[0x0f, 0x22]), &[(EIP, 0x202)], &[(0x3_0000, 0x02), (0x3_0001, 0x00)]),
            ends(equal, &[(EIP, 0x202), (EFLAGS, F | ZERO)], &[(0x3_0000, 0x42)]),
        ],
    );
}

#[test]
fn the_v30_has_bit_fields() {
    check(
        "V20",
        vec![
            // INS BL, DL: eight bits from bit 12 on, into two words. EXT BL, 8 reads them.
            ends(
                new(&[0x0f, 0x31, 0xd3], &[(AX, 0x12ab), (BX, 12), (DX, 7)]),
                &[(BX, 4), (DI, 2), (EIP, 0x203)],
                &[(0x3_0000, 0), (0x3_0001, 0xb0), (0x3_0002, 0x0a)],
            ),
            ends(
                with(new(&[0x0f, 0x3b, 0xc3, 7], &[(BX, 12)]), &[(0x2_0001, 0xb0), (0x2_0002, 0x0a)]),
                &[(AX, 0xab), (BX, 4), (SI, 2), (EIP, 0x204)],
                &[],
            ),
            ends(
                with(new(&[0x0f, 0x33, 0xd3], &[(BX, 4), (DX, 3)]), &[(0x2_0000, 0x5a)]),
                &[(AX, 5), (BX, 8), (EIP, 0x203)],
                &[],
            ),
        ],
    );
}

#[test]
fn the_v30_does_some_things_its_own_way() {
    let scan = with(new(&[0x65, 0xae], &[(AX, 5), (CX, 5)]), &[(0x3_0000, 6), (0x3_0001, 7), (0x3_0002, 3)]);
    let compare = with(new(&[0x64, 0xa7], &[(CX, 2)]), &[(0x2_0000, 1), (0x3_0002, 1)]);
    let bounds = |index: u32| with(new(&[0x62, 0x07], &[(AX, index)]), &[(0x2_0002, 4)]);
    check(
        "V30",
        vec![
            // REPC SCASB goes on as long as there is a carry, REPNC CMPSW as long as there is none.
            ends(scan, &[(CX, 2), (DI, 3), (EIP, 0x202), (EFLAGS, F)], &[]),
            ends(compare, &[(CX, 0), (SI, 4), (DI, 4), (EIP, 0x202), (EFLAGS, F | 0x95)], &[]),
            ends(new(&[0xd4, 0], &[(AX, 0x12)]), &[(AX, 0xff12), (EIP, 0x202), (EFLAGS, F | PARITY)], &[]),
            ends(new(&[0xd5, 7], &[(AX, 0x102)]), &[(AX, 0x0c), (EIP, 0x202), (EFLAGS, F | PARITY)], &[]),
            ends(bounds(4), &[(EIP, 0x202)], &[]),
            interrupted(bounds(5), 5, F, 2),
            interrupted(new(&[0xf6, 0xf9], &[(AX, 0xff80), (CX, 1)]), 0, F, 2),
            // ENTER 4, 2.
            ends(
                with(new(&[0xc8, 4, 0, 2], &[(BP, 0x80)]), &[(0x4_007e, 0x77)]),
                &[(BP, 0xfe), (SP, 0xf6), (EIP, 0x204)],
                &[(0x4_00fe, 0x80), (0x4_00fc, 0x77), (0x4_00fa, 0xfe)],
            ),
            // Counts are not masked; extension 6 is SHL.
            ends(
                new(&[0xc0, 0xf0, 33], &[(AX, 0xff)]),
                &[(AX, 0), (EIP, 0x203), (EFLAGS, F | ZERO | PARITY)],
                &[],
            ),
            ends(
                new(&[0xd0, 0xf0], &[(AX, 0x80)]),
                &[(AX, 0), (EIP, 0x202), (EFLAGS, F | 0x800 | ZERO | PARITY | CARRY)],
                &[],
            ),
            // An escape; XLAT by its alias; two bytes that nobody knows.
            ends(new(&[0x66, 0x46, 0x10], &[]), &[(EIP, 0x203)], &[]),
            ends(with(new(&[0xd6], &[(AX, 3)]), &[(0x2_0003, 9)]), &[(AX, 9), (EIP, 0x201)], &[]),
            ends(new(&[0x62, 0xc0], &[]), &[(EIP, 0x202)], &[]),
        ],
    );
}
