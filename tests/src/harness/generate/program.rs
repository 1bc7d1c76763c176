//! Short programs: what flows from one instruction to the next, flags above all.

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};

use super::{instruction, is_string};
use crate::harness::guest::Bits;
use crate::harness::layout::{CODE, DATA, STACK};
use crate::harness::random::Rng;
use crate::harness::state::State;

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its bytes.
    pub code: Vec<u8>,
    /// Its instructions.
    pub text: Vec<String>,
    /// Registers and memory before.
    pub state: State,
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

/// A random program of forms out of `codes`; more than one turn make it a loop.
pub fn program(rng: &mut Rng, codes: &[Code], bits: Bits, turns: u32) -> Program {
    let mut p = Program { code: Vec::new(), text: Vec::new(), state: quiet(super::state(rng, bits)) };
    let n = 3 + rng.below(16) as usize;
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
    if turns > 1 {
        close(&mut p, turns, bits);
    }
    p
}

/// Without unmasked exceptions and alignment checks: a program should come to its end more often than not.
fn quiet(mut s: State) -> State {
    s.mxcsr |= 0x1f80;
    s.fp.cw |= 0x3f;
    s.fp.sw &= !0x8080;
    s.rflags &= !(1 << 18);
    s
}

/// Another state for a program: general registers and memory of `first`, which its addresses were made for.
pub fn program_state(rng: &mut Rng, bits: Bits, first: &State) -> State {
    let other = quiet(super::state(rng, bits));
    State {
        xmm: other.xmm,
        high: other.high,
        fp: other.fp,
        mxcsr: other.mxcsr,
        rflags: other.rflags,
        ..first.clone()
    }
}

/// One random instruction, with moves before it that set the registers it wants.
fn one(rng: &mut Rng, p: &mut Program, codes: &[Code], bits: Bits) {
    let code = rng.pick(codes);
    let mut wanted = p.state.clone();
    let Some(x) = instruction(rng, code, bits, &mut wanted) else { return };
    if is_string(x.mnemonic()) {
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
