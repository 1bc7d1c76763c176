//! The host's CPU as an oracle: a child process that holds nothing but code, data and stack at the harness's addresses,
//! run by ptrace from one int3 to the next signal.
//!
//! Each test thread has a child of its own (the tracer of a process is a thread). A case costs some 20 microseconds.
//! Limitations: exceptions are known by their signals, so that error codes stay unknown, and #GP, #BR and #OF look the
//! same; the x87 instruction pointers are not compared.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod child;
mod facts;

use std::sync::atomic::{AtomicU64, Ordering};

use iced_x86::Instruction;

use super::guest::Bits;
use super::state::{After, State};

pub use facts::{differs_between_makers, is_open, supports};

static RUN: AtomicU64 = AtomicU64::new(0);
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// Runs code on the host's CPU. `None`: this host is no x86-64 Linux, permits no ptrace, or lacks an instruction.
pub fn run(bits: Bits, code: &[u8], insns: &[Instruction], state: &State) -> Option<After> {
    let asked = insns.iter().all(|x| supports(x.cpuid_features()) && !is_open(x, state));
    if !bits.is_flat() || !asked {
        return None;
    }
    let after = oracle(bits, code, state);
    let counter = if after.is_some() { &RUN } else { &SKIPPED };
    counter.fetch_add(1, Ordering::Relaxed);
    after
}

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
fn oracle(bits: Bits, code: &[u8], state: &State) -> Option<After> {
    child::with(|c| c.map(|c| c.run(bits, code, state))).ok()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn oracle(_: Bits, _: &[u8], _: &State) -> Option<After> {
    None
}
