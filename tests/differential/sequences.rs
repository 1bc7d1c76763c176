//! Short programs, tier 0 against the compiled tiers: what flows from one instruction to the next, flags above all.

use iced_x86::{Code, Encoder, FlowControl, Instruction, MemoryOperand, Mnemonic as M, Register};
use tests::harness::check::between_tiers;
use tests::harness::generate::{self, AVX, INTEGER, VECTOR, X87};
use tests::harness::guest::{self, Bits};
use tests::harness::layout::{CODE, DATA, STACK};
use tests::harness::random::Rng;
use tests::harness::state::{REPORT, State};

use super::setting;

/// Codes for the midst of a program.
fn codes(sets: &[&[iced_x86::CpuidFeature]], bits: Bits) -> Vec<Code> {
    let alone = [M::Ud0, M::Ud1, M::Ud2, M::Enter, M::Leave];
    let mut codes = generate::codes(sets, bits);
    // Gathers want particular vectors, which nothing here loads.
    let gathers = |c: &Code| format!("{c:?}").contains("gather");
    codes.retain(|c| c.flow_control() == FlowControl::Next && !alone.contains(&c.mnemonic()) && !gathers(c));
    codes
}

struct Program {
    code: Vec<u8>,
    text: Vec<String>,
    state: State,
}

/// Encodes `x` at the end of `code`.
fn push(p: &mut Program, x: &Instruction, bits: Bits) -> bool {
    let mut e = Encoder::new(bits.number());
    if e.encode(x, CODE + p.code.len() as u64).is_err() {
        return false;
    }
    p.code.extend(e.take_buffer());
    p.text.push(x.to_string());
    true
}

fn program(rng: &mut Rng, codes: &[Code], bits: Bits) -> Program {
    let mut state = generate::state(rng, bits);
    // No unmasked exceptions: a program should come to its end more often than not.
    state.mxcsr |= 0x1f80;
    state.fp.cw |= 0x3f;
    let mut p = Program { code: Vec::new(), text: Vec::new(), state };
    let n = 5 + rng.below(16) as usize;
    while p.text.len() < n {
        if rng.one_in(8) {
            // Over the next instruction, or not.
            let mut next = Program { code: Vec::new(), text: Vec::new(), state: p.state.clone() };
            one(rng, &mut next, codes, bits);
            if next.code.is_empty() || next.code.len() > 120 {
                continue;
            }
            let condition = rng.below(16) as u8;
            p.code.extend([0x70 | condition, next.code.len() as u8]);
            p.text.push(format!("jcc {condition} over {} instruction(s)", next.text.len()));
            p.code.extend(next.code);
            p.text.extend(next.text);
            continue;
        }
        one(rng, &mut p, codes, bits);
    }
    p
}

/// One random instruction, with moves before it that set the registers it wants.
fn one(rng: &mut Rng, p: &mut Program, codes: &[Code], bits: Bits) {
    let code = rng.pick(codes);
    let mut wanted = p.state.clone();
    let Some(x) = generate::instruction(rng, code, bits, &mut wanted) else { return };
    if generate::is_string(x.mnemonic()) {
        for r in [6, 7] {
            wanted.gpr[r] = DATA + 0x800 + rng.below(0x2000);
        }
        wanted.gpr[1] = rng.below(30);
    }
    for r in 0..16 {
        if wanted.gpr[r] == p.state.gpr[r] || r == 4 {
            continue;
        }
        let set = if bits == Bits::Long {
            Instruction::with2(Code::Mov_r64_imm64, Register::RAX + r as u32, wanted.gpr[r])
        } else {
            Instruction::with2(Code::Mov_r32_imm32, Register::EAX + r as u32, wanted.gpr[r] as u32)
        };
        push(p, &set.expect("a move"), bits);
    }
    // RIP-relative operands were made for another place; they stay within reach.
    push(p, &x, bits);
}

/// Makes the program a loop of `turns` turns: a counter in memory, a jump back to the start.
fn close(p: &mut Program, turns: u32, bits: Bits) {
    let at = &mut p.state.stack[COUNTER..COUNTER + 4];
    at.copy_from_slice(&turns.to_le_bytes());
    let counter = MemoryOperand::with_displ(STACK + COUNTER as u64, bits.number() / 8);
    push(p, &Instruction::with1(Code::Dec_rm32, counter).expect("DEC"), bits);
    let back = if bits == Bits::Long { Code::Jne_rel32_64 } else { Code::Jne_rel32_32 };
    push(p, &Instruction::with_branch(back, CODE).expect("JNE"), bits);
}

/// Where a loop's counter lies in the stack: nothing else leads there.
const COUNTER: usize = 0x10;

fn campaign(sets: &[&[iced_x86::CpuidFeature]], bits: Bits, turns: u32, cases: u64) {
    let codes = codes(sets, bits);
    let base = setting("RETRO_SEED").unwrap_or(1);
    let mut whole = 0;
    let cases = setting("RETRO_CASES").unwrap_or(super::cases(cases));
    let mut failures = Vec::new();
    for n in 0..cases {
        let seed = setting("RETRO_CASE").unwrap_or_else(|| Rng(base ^ n << 32).draw());
        let mut p = program(&mut Rng(seed), &codes, bits);
        if turns > 1 {
            close(&mut p, turns, bits);
        }
        let tiers = guest::run_all(bits, 3, &p.code, &p.state);
        let zero = &tiers[0];
        whole += u64::from(zero.end.vector == 3);
        let mut wrong = between_tiers(&tiers);
        if zero.end.vector == REPORT {
            wrong.push(format!("report: {:?}", zero.report));
        }
        if !wrong.is_empty() {
            failures.push(format!(
                "RETRO_CASE={seed:#x}, MXCSR {:#x}\n  {}\n  {}",
                p.state.mxcsr,
                p.text.join("\n  "),
                wrong.join("\n  ")
            ));
        }
    }
    println!("{whole} of {cases} programs came to their end");
    assert!(
        failures.is_empty(),
        "{} of {cases} fail ({bits:?})\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
    assert!(whole * 5 > cases, "too few programs come to their end");
}

#[test]
fn integer() {
    campaign(&[INTEGER], Bits::Long, 1, 2000);
}

#[test]
fn integer_in_32_bit_code() {
    campaign(&[INTEGER], Bits::Flat32, 1, 1000);
}

#[test]
fn vector() {
    campaign(&[VECTOR], Bits::Long, 1, 1000);
}

#[test]
fn avx() {
    campaign(&[AVX], Bits::Long, 1, 1000);
}

#[test]
fn avx_in_32_bit_code() {
    campaign(&[AVX, VECTOR], Bits::Flat32, 1, 300);
}

#[test]
fn all_kinds() {
    campaign(&[INTEGER, VECTOR, AVX, X87], Bits::Long, 1, 1000);
}

#[test]
fn loops() {
    campaign(&[INTEGER, VECTOR, AVX], Bits::Long, 40, 500);
}

#[test]
fn loops_in_32_bit_code() {
    campaign(&[INTEGER], Bits::Flat32, 40, 300);
}
