//! One-line checks of the instruction set: every tier, and the host's CPU.

use tests::harness::check::{Check, check, check16, check32};
use tests::harness::guest::Bits;
use tests::harness::items::names::*;
use tests::harness::items::{f32x4, f64x2, f80, v};
use tests::harness::layout::*;
use tests::{expect, regs};

mod alu;
mod oracle;
