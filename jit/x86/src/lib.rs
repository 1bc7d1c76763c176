//! The x86 instruction set, once.
//!
//! * [`state`]: what a processor holds; [`vcpu`]: a processor together with its MMU and its [`Bus`].
//! * [`decode`]: iced-x86 instructions into compact [`Insn`] records grouped in [`Block`]s.
//! * [`emit`]: the [`Emitter`] trait over which every common instruction's meaning is written, once. The evaluator
//!   (tier 0) is `Vcpu` itself; the compiler (tier 1) lives in the crate `jit`.
//! * [`lift`]: the integer instructions; [`vec`]: SSE; [`x87`]: the x87 FPU; [`sys`]: privileged instructions, far
//!   transfers, exceptions, interrupts, CPUID and MSRs. Cold instructions are plain functions over `Vcpu` ("helpers"),
//!   which every tier calls.
//!
//! Invariants: no architectural register is written before the last step of an instruction that can fault; nothing here
//! reads host time, host floating-point status or any other host state that a guest could see.
#![forbid(unsafe_code)]

pub mod block;
pub mod bus;
pub mod cc;
pub mod decode;
pub mod emit;
pub mod eval;
mod i8086;
pub mod insn;
pub mod interp;
pub mod lift;
pub mod model;
mod old;
pub mod show;
pub mod softfp;
pub mod state;
pub mod string;
pub mod sys;
mod v30;
pub mod vcpu;
pub mod vec;
pub mod x87;

pub use block::Block;
pub use bus::{Bus, Ns};
pub use emit::{Emitter, Stop};
pub use insn::{Insn, Op, Opnd, Width};
pub use state::CpuState;
pub use vcpu::Vcpu;
