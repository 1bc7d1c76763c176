//! The execution engine: runs guest code in tiers.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`engine`] | the dispatcher: which tier runs what, why blocks come back |
//! | `lookup` | from RIP to a block |
//! | [`table`], [`tb`] | the blocks, where they lie, who leads to whom; invalidation |
//! | [`compile`] | tier 1: the compiler, an `x86::Emitter` over Cranelift |
//! | [`member`] | each vCPU's jump cache; when what was removed may be given up |
//! | [`worker`] | compile threads |
//! | [`code`], [`platform`] | the code cache and executable memory |
//! | [`trace`] | what `-d` shows of blocks and code |
//! | [`thunks`], [`layout`] | where generated code and Rust meet |
//!
//! Tier 0 is `x86::interp`. Whatever tier runs: registers, memory, exceptions and instruction counts are the same, and
//! generated code never raises an exception or touches a device itself; it leaves the instruction to tier 0.

pub mod code;
pub mod compile;
pub mod engine;
pub mod jump;
pub mod layout;
mod lookup;
pub mod member;
pub mod platform;
pub mod stats;
pub mod table;
pub mod tb;
pub mod thunks;
pub mod trace;
pub mod worker;

pub use engine::{CompileCost, Engine, EngineConfig, Exit, TierPolicy};
pub use platform::CodeMapping;
pub use stats::Stats;
pub use trace::Trace;
