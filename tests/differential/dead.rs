//! Floating-point results that nobody looks at, and operands that a compiler knows: MXCSR shows them all the same.
//!
//! Each SSE and AVX instruction that can set a flag runs in a program that makes its operands from constants, executes
//! it twice, and then clears its destination.

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, OpKind, Register};
use tests::harness::check::{self, between_tiers};
use tests::harness::generate::{self, AVX, VECTOR};
use tests::harness::guest::{self, Bits};
use tests::harness::host;
use tests::harness::layout::CODE;
use tests::harness::random::Rng;
use tests::harness::state::{State, VISIBLE};
use tests::harness::undefined;

use super::setting;

fn push(code: &mut Vec<u8>, x: Instruction) {
    let mut e = Encoder::new(64);
    e.encode(&x, CODE + code.len() as u64).expect("an encodable instruction");
    code.extend(e.take_buffer());
}

/// The vector registers of the instruction.
fn vectors(x: &Instruction) -> impl Iterator<Item = Register> {
    (0..x.op_count()).filter(|n| x.op_kind(*n) == OpKind::Register).map(|n| x.op_register(n))
}

/// The program, and the state that it starts from.
fn program(rng: &mut Rng, code: Code) -> Option<(Vec<u8>, State, Instruction)> {
    let case = generate::case(rng, code, Bits::Long)?;
    let (mut s, x) = (case.state, case.insn);
    // What generated code is for, with few flags set already.
    s.rflags &= !(1 << 18);
    s.mxcsr = 0x1f80 | if rng.one_in(2) { 0x20 } else { 0 };
    let mut bytes = Vec::new();
    let known = rng.one_in(2);
    for r in vectors(&x).filter(|r| known && r.is_xmm()) {
        // The low half from a constant; RAX is given back its value.
        let n = r.number();
        let low = s.xmm[n] as u64;
        push(&mut bytes, Instruction::with2(Code::Mov_r64_imm64, Register::RAX, low).ok()?);
        push(
            &mut bytes,
            Instruction::with2(Code::Movq_xmm_rm64, Register::XMM0 + n as u32, Register::RAX).ok()?,
        );
        push(&mut bytes, Instruction::with2(Code::Mov_r64_imm64, Register::RAX, s.gpr[0]).ok()?);
    }
    if x.is_ip_rel_memory_operand() {
        return None;
    }
    push(&mut bytes, x);
    if rng.one_in(2) {
        push(&mut bytes, x);
    }
    let first = x.op0_register();
    if first.is_vector_register() && x.op0_kind() == OpKind::Register {
        let r = Register::XMM0 + first.number() as u32;
        match rng.below(3) {
            0 => push(&mut bytes, Instruction::with2(Code::Xorps_xmm_xmmm128, r, r).ok()?),
            1 => push(&mut bytes, Instruction::with3(Code::VEX_Vxorps_xmm_xmm_xmmm128, r, r, r).ok()?),
            _ => {
                let at = MemoryOperand::with_displ(tests::harness::layout::DATA + 0x800, 4);
                push(&mut bytes, Instruction::with2(Code::Movups_xmm_xmmm128, r, at).ok()?);
            }
        }
    } else if first.is_gpr() && x.op0_kind() == OpKind::Register {
        push(&mut bytes, Instruction::with2(Code::Mov_r64_imm64, first.full_register(), 7u64).ok()?);
    }
    Some((bytes, s, x))
}

#[test]
fn flags_of_unused_results() {
    let base = setting("RETRO_SEED").unwrap_or(1);
    let cases = setting("RETRO_CASES").unwrap_or(super::cases(5));
    let only = std::env::var("RETRO_ONLY").unwrap_or_default();
    let (mut failures, mut ran) = (Vec::new(), 0);
    for code in generate::codes(&[VECTOR, AVX], Bits::Long) {
        let name = format!("{code:?}").to_lowercase();
        let floating = ["ss_", "sd_", "ps_", "pd_", "ph_", "si_", "dq_"].iter().any(|s| name.contains(s));
        if !floating
            || name.contains("mov")
            || name.contains("gather")
            || !format!("{code:?}").contains(&only)
        {
            continue;
        }
        for n in 0..cases {
            let seed = setting("RETRO_CASE").unwrap_or_else(|| Rng(base ^ (code as u64) << 40 ^ n).draw());
            let Some((bytes, state, x)) = program(&mut Rng(seed), code) else { continue };
            ran += 1;
            let tiers = guest::run_all(Bits::Long, 3, &bytes, &state);
            let mut wrong = between_tiers(&tiers);
            let insns = check::decode(&bytes, Bits::Long, CODE);
            if !undefined::result(&x, &state)
                && let Some(after) = host::run(Bits::Long, &bytes, &insns, &state)
            {
                let found = check::against_host(
                    &tiers[0],
                    &after,
                    &insns,
                    &state,
                    VISIBLE,
                    undefined::status(&insns),
                );
                // Whether a page is there depends on the kernel.
                let found = found.into_iter().filter(|d| !d.starts_with("error code"));
                wrong.extend(found.map(|d| format!("tier 0 / host: {d}")));
            }
            if !wrong.is_empty() {
                let text: Vec<_> = insns.iter().map(ToString::to_string).collect();
                failures.push(format!(
                    "{code:?} RETRO_CASE={seed:#x}, MXCSR {:#x}\n  {}\n  {}",
                    state.mxcsr,
                    text.join("; "),
                    wrong.join("\n  ")
                ));
                break;
            }
        }
    }
    println!("{ran} programs");
    assert!(
        failures.is_empty(),
        "{} forms fail (RETRO_SEED={base})\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}
