//! Tier 0: runs predecoded blocks.
//!
//! Counting: the whole block's count leaves the budget at its start; an instruction that stops the block half-way gives
//! back what was not retired. `CpuState::count_bias` lets an instruction know its exact count meanwhile.

use crate::block::Block;
use crate::eval::go_on;
use crate::insn::{Insn, Rest};
use crate::state::stop;
use crate::vcpu::Vcpu;

/// Why the block loop came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The block is complete; RIP is set.
    Done,
    /// `CpuState::stop` says why; RIP and the budget are exact.
    Stopped,
}

/// Executes a block whose count does not exceed the budget.
#[inline]
pub fn run_block(cpu: &mut Vcpu, block: &Block) -> Outcome {
    let n = u64::from(block.count);
    debug_assert!(cpu.st.budget >= n as i64);
    cpu.st.budget -= n as i64;
    cpu.st.count_bias = n;
    let left = go_on(cpu, block.insns.iter());
    if cpu.st.stop != stop::NONE {
        settle(cpu, block.count, &block.insns[block.insns.len() - 1 - left]);
        return Outcome::Stopped;
    }
    Outcome::Done
}

/// After `i` of a block with `count` instructions stopped it: makes RIP and the budget exact. Also what generated code's
/// dispatcher calls when an instruction's handler stopped.
#[cold]
pub fn settle(cpu: &mut Vcpu, count: u32, i: &Insn) {
    let done = match cpu.st.stop {
        stop::AFTER | stop::SHORT => {
            if !i.ends {
                cpu.st.rip = crate::sys::next_rip(cpu, i);
            }
            u32::from(i.idx) + 1
        }
        _ => {
            cpu.st.rip = i.ip;
            u32::from(i.idx)
        }
    };
    // EndBlock carries idx == count and never stops; saturating keeps a wrong record from minting budget.
    cpu.st.budget += i64::from(count.saturating_sub(done));
}

/// Executes one instruction alone: device accesses are allowed and its count is exact. The budget is at least 1.
pub fn run_single(cpu: &mut Vcpu, i: &Insn) -> Outcome {
    cpu.st.budget -= 1;
    cpu.st.count_bias = 1 + u64::from(i.idx);
    cpu.st.single = true;
    cpu.st.stop = stop::NONE;
    (i.run)(cpu, i, Rest::default());
    cpu.st.single = false;
    match cpu.st.stop {
        stop::NONE => {
            if !i.ends {
                cpu.st.rip = crate::sys::next_rip(cpu, i);
            }
            Outcome::Done
        }
        stop::AFTER | stop::SHORT => {
            if !i.ends {
                cpu.st.rip = crate::sys::next_rip(cpu, i);
            }
            Outcome::Stopped
        }
        _ => {
            cpu.st.rip = i.ip;
            cpu.st.budget += 1;
            Outcome::Stopped
        }
    }
}
