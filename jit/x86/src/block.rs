//! Blocks: straight runs of predecoded instructions.
//!
//! A block starts at a physical place and a RIP in a mode; it ends with the first instruction that may go elsewhere or
//! changes what later ones depend on, at the end of its page, or at [`MAX_INSNS`]. It never crosses a page, except when
//! it is a single instruction that does. Its last record always sets RIP: a branch, an instruction decoded with
//! `ends`, or [`Op::EndBlock`], which is not counted.

use crate::insn::{Insn, Op};
use crate::state::Mode;

/// Longest block, in instructions.
pub const MAX_INSNS: usize = 64;

/// A decoded block.
#[derive(Debug)]
pub struct Block {
    /// The records; the last one sets RIP.
    pub insns: Box<[Insn]>,
    /// Instructions that count (without [`Op::EndBlock`]).
    pub count: u32,
    /// RIP of the first instruction.
    pub ip: u64,
    /// The mode in which it was decoded.
    pub mode: Mode,
    /// Bytes covered.
    pub len: u32,
}

impl Block {
    /// The instruction records that count.
    pub fn counted(&self) -> &[Insn] {
        &self.insns[..self.count as usize]
    }
    /// RIP after the last instruction.
    pub fn end(&self) -> u64 {
        self.ip.wrapping_add(u64::from(self.len))
    }
    /// Does the block end without a branch?
    pub fn falls_through(&self) -> bool {
        self.insns.last().is_some_and(|i| i.op == Op::EndBlock)
    }
}
