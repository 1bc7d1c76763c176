//! The execution engine: runs guest code in tiers.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`engine`] | the dispatcher: which tier runs what, why blocks come back |
//! | `lookup` | from RIP to a block |
//! | [`table`], [`tb`] | the blocks, where they lie, who leads to whom; invalidation |
//! | [`source`], [`written`] | the bytes that blocks are decoded from; what becomes of writes to them |
//! | [`compile`], [`compiled`] | tier 1: the compiler, an `x86::Emitter` over Cranelift; what it gives |
//! | [`member`] | each vCPU's jump cache; when what was removed may be given up |
//! | [`worker`] | compile threads |
//! | [`code`], [`platform`] | the code cache and executable memory |
//! | [`trace`] | what `-d` shows of blocks and code |
//! | [`thunks`], [`layout`] | where generated code and Rust meet |
//!
//! Tier 0 is `x86::interp`. Whatever tier runs: registers, memory, exceptions and instruction counts are the same, and
//! generated code never raises an exception or touches a device itself; it leaves the instruction to tier 0.

pub mod code;
#[cfg(not(loom))]
pub mod compile;
pub mod compiled;
#[cfg(not(loom))]
pub mod engine;
pub mod jump;
pub mod layout;
#[cfg(not(loom))]
mod lookup;
pub mod member;
pub mod platform;
#[cfg(not(loom))]
mod quick;
pub mod source;
#[cfg(not(loom))]
pub mod stats;
mod sync;
pub mod table;
pub mod tb;
// Model checks build what vCPUs share, and neither compiler nor dispatcher.
#[cfg_attr(loom, path = "thunks/absent.rs")]
pub mod thunks;
#[cfg(not(loom))]
pub mod trace;
#[cfg(not(loom))]
pub mod worker;
pub mod written;

#[cfg(not(loom))]
pub use engine::{CompileCost, Engine, EngineConfig, Exit, TierPolicy};
pub use platform::CodeMapping;
#[cfg(not(loom))]
pub use stats::Stats;
#[cfg(not(loom))]
pub use trace::Trace;
