//! The host's CPU as an oracle: a child process that holds nothing but code, data and stack at the harness's addresses,
//! and runs batches of cases, each to the signal that ends it.
//!
//! Each test thread has a child of its own. A case costs some microseconds, a batch two switches between processes.
//! Limitations: the x87 instruction pointers are not compared, and the kernel answers some instructions itself (UMIP).

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod child;
mod facts;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod program;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod slot;

use std::sync::atomic::{AtomicU64, Ordering};

use iced_x86::Instruction;

use super::guest::Bits;
use super::state::{After, State};

pub use facts::{differs_between_makers, is_approximation, is_open, is_transcendental, supports};

static RUN: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// A case for the host's CPU.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// 64- or 32-bit code.
    pub bits: Bits,
    /// The code.
    pub code: &'a [u8],
    /// Registers and memory before.
    pub state: &'a State,
}

/// Can the host's CPU be asked about these instructions in this state, and does it have the only answer?
pub fn is_asked(bits: Bits, insns: &[Instruction], state: &State) -> bool {
    bits.is_flat() && insns.iter().all(|x| supports(x.cpuid_features()) && !is_open(x, state))
}

/// Runs code on the host's CPU. `None`: this host is no x86-64 Linux, or lacks an instruction.
pub fn run(bits: Bits, code: &[u8], insns: &[Instruction], state: &State) -> Option<After> {
    if !is_asked(bits, insns, state) {
        return None;
    }
    batch(&[Question { bits, code, state }], || ())?.pop()
}

/// Runs cases on the host's CPU, and meanwhile `f`. `None`: this host is no x86-64 Linux.
pub fn batch(questions: &[Question], f: impl FnOnce()) -> Option<Vec<After>> {
    let (after, counter) = match oracle(questions, f) {
        Some(after) => (Some(after), &RUN),
        None => (None, &SKIPPED),
    };
    counter.fetch_add(questions.len() as u64, Ordering::Relaxed);
    after
}

/// Cases that a batch can have.
pub const BATCH: usize = 64;

/// Cases that the host's CPU ran in this process, and cases that it could not be asked about.
pub fn tally() -> (u64, u64) {
    (RUN.load(Ordering::Relaxed), SKIPPED.load(Ordering::Relaxed))
}

/// Why the host's CPU is not asked; `None` when it is.
pub fn absent() -> Option<String> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return child::with(|c| c.map(|_| ())).err();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return Some("this host is no x86-64 Linux".into());
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn oracle(questions: &[Question], f: impl FnOnce()) -> Option<Vec<After>> {
    const { assert!(BATCH <= program::CAPACITY) };
    child::with(|c| {
        let c = match c {
            Ok(c) => c,
            Err(_) => {
                f();
                return None;
            }
        };
        c.start(questions);
        f();
        Some(c.finish(questions).unwrap_or_else(|e| panic!("{e}")))
    })
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn oracle(_: &[Question], f: impl FnOnce()) -> Option<Vec<After>> {
    f();
    None
}
