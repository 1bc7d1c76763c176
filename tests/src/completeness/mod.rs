//! Is every instruction there, and is each of them tested?
//!
//! The table has a line for each of iced-x86's `Code` values that the processors from the 8086 on and the features of
//! [`features::FEATURES`] cover. A code is *implemented* if, in every mode where it is legal, a family of `x86` knows it;
//! it is *tested* if the differential generator draws it or a test named in [`named::TESTS`] is about it. What is missing
//! stands in [`owed`]: a list that can only shrink, because whatever is on it must really be missing.

pub mod features;
pub mod instance;
pub mod named;
pub mod owed;

use std::collections::BTreeMap;

use iced_x86::{Code, CpuidFeature, DecoderOptions, Mnemonic, OpCodeOperandKind as Operand};
use x86::state::Mode;

use crate::harness::generate;
use crate::harness::guest::Bits;
use crate::harness::random::Rng;

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// The form of the instruction.
    pub code: Code,
    /// Modes (16, 32, 64) in which it is legal and has been encoded.
    pub modes: Vec<u32>,
    /// Those of them in which it is not implemented.
    pub missing: Vec<u32>,
    /// How it is tested, if it is.
    pub tested: Option<&'static str>,
}

impl Line {
    /// Is nothing missing?
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.tested.is_some()
    }
}

/// Does the processor that the tests are about have everything that `code` asks for?
fn is_covered(code: Code) -> bool {
    let op = code.op_code();
    let ours = |f: &CpuidFeature| {
        features::PROCESSORS.contains(f) || features::FEATURES.iter().any(|line| line.codes.contains(f))
    };
    // What only a decoder option shows are encodings that one stepping of one old processor had.
    op.is_instruction()
        && code.mnemonic() != Mnemonic::INVALID
        && op.decoder_option() == DecoderOptions::NONE
        // WAIT and the instruction after it, which only assemblers take for one.
        && !op.fwait()
        && !is_cut_branch(op)
        // AMD's form of UD0, without a ModR/M byte.
        && code != Code::Ud0
        && !features::REMOVED.contains(&code.mnemonic())
        && code.cpuid_features().iter().all(ours)
}

/// Near branches of 64-bit code whose operand-size prefix cuts RIP to 16 bits: Intel's processors ignore the prefix.
fn is_cut_branch(op: &iced_x86::OpCodeInfo) -> bool {
    let to_16_bits = op.op_kinds().iter().any(|k| matches!(k, Operand::br16_1 | Operand::br16_2));
    op.mode64() && !op.mode32() && to_16_bits
}

fn mode(bits: u32) -> Mode {
    match bits {
        16 => Mode(Mode::PROTECTED | Mode::KERNEL),
        32 => Mode(Mode::PROTECTED | Mode::KERNEL | Mode::CODE32 | Mode::STACK32),
        _ => Mode(Mode::PROTECTED | Mode::KERNEL | Mode::LONG | Mode::CODE64 | Mode::STACK32),
    }
}

/// Codes that the differential generator draws, in 64- and 32-bit mode.
fn drawn() -> Vec<bool> {
    let mut drawn = vec![false; Code::values().len()];
    for bits in [Bits::Long, Bits::Flat32] {
        for code in generate::codes(generate::ALL, bits) {
            let any = || (0..60).any(|n| generate::case(&mut Rng(n * 0x9e37_79b9 + 1), code, bits).is_some());
            drawn[code as usize] = drawn[code as usize] || any();
        }
    }
    drawn
}

/// The whole table, in the order of `Code`.
pub fn table() -> Vec<Line> {
    let drawn = drawn();
    let named: BTreeMap<Mnemonic, &str> =
        named::TESTS.iter().flat_map(|(test, all)| all.iter().map(|m| (*m, *test))).collect();
    let line = |code: Code| {
        let op = code.op_code();
        let legal = [(16, op.mode16()), (32, op.mode32()), (64, op.mode64())];
        let mut line = Line { code, modes: Vec::new(), missing: Vec::new(), tested: None };
        for bits in legal.into_iter().filter(|(_, legal)| *legal).map(|(bits, _)| bits) {
            let Some(x) = instance::of(code, bits) else { continue };
            line.modes.push(bits);
            if !x86::decode::is_implemented(&x, mode(bits)) {
                line.missing.push(bits);
            }
        }
        line.tested =
            if drawn[code as usize] { Some("differential") } else { named.get(&code.mnemonic()).copied() };
        line
    };
    Code::values().filter(|code| is_covered(*code)).map(line).collect()
}

/// The table as text: one line for each code, then the totals.
pub fn print(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let Line { code, modes, missing, tested } = line;
        let state = match (missing.is_empty(), tested) {
            (true, Some(by)) => format!("implemented, tested by {by}"),
            (true, None) => "implemented, NOT TESTED".into(),
            (false, _) => format!("MISSING in {missing:?}"),
        };
        text.push_str(&format!("{:<40} {modes:?} {state}\n", format!("{code:?}")));
    }
    let complete = lines.iter().filter(|line| line.is_complete()).count();
    let missing = lines.iter().filter(|line| !line.missing.is_empty()).count();
    let untested = lines.len() - complete - missing;
    text.push_str(&format!(
        "{} forms: {complete} implemented and tested, {untested} implemented only, {missing} missing\n",
        lines.len()
    ));
    text
}
