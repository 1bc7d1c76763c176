//! The harness that Retrograde's tests share.
//!
//! * [`harness::asm`]: one line of assembly to bytes.
//! * [`harness::check`]: runs a line on every tier, and on the host CPU where it is an x86-64, and compares.
//! * [`completeness`]: the table of instructions; [`singlestep`]: the runner of public vectors.
//! * [`harness::guest`], [`harness::host`]: the two sides of a comparison; [`harness::state`]: what is compared.

pub mod completeness;
pub mod differential;
pub mod fuzz;
pub mod harness;
pub mod singlestep;
