//! See the crate.

pub mod asm;
