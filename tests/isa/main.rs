//! One-line checks of the instruction set: every tier, and the host's CPU.
//!
//! Expectations are what the manual says; with `RETRO_SHOW=1` a check whose expectation does not hold prints what
//! happened instead (in the language of expectations) when all sides agree on it.

use tests::harness::check::{Check, check, check16, check32};
use tests::harness::guest::Bits;
use tests::harness::items::names::*;
use tests::harness::items::{f32x4, f64x2, f80, v};
use tests::harness::layout::*;
use tests::{expect, regs};

/// Addresses, as values of registers.
const D: i128 = DATA as i128;
const SP: i128 = STACK_TOP as i128;
const RO: i128 = READ_ONLY as i128;

mod alu;
mod avx;
mod bits;
mod faults;
mod flow;
mod modes;
mod moves;
mod muldiv;
mod oracle;
mod shifts;
mod sse;
mod stack;
mod strings;
mod x87;
