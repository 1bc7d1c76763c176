//! The system side: privileged instructions, segments, far transfers, exceptions, tasks, CPUID, MSRs, state saving,
//! and the rare integer instructions. All of them are helpers: plain functions over [`Vcpu`] that every tier calls.
//!
//! A handler whose instruction ends its block sets RIP itself, by [`advance`] when it goes on with the next one.
//! An instruction of a feature that CPUID denies raises #UD; one that should exist and is known to no family stops the
//! machine with a report (see [`select`]).

pub mod control;
mod debug;
pub mod exception;
mod far;
mod fast;
mod flags;
mod ident;
mod integer;
mod io;
mod iret;
mod monitor;
mod msr;
mod paging;
pub mod segment;
mod smm;
mod stack;
mod table;
mod task;
mod vme;
mod xsave;

#[cfg(test)]
mod tests;

use iced_x86::{CpuidFeature, Instruction};

use crate::insn::{Handler, Insn, Op};
use crate::state::Mode;
use crate::vcpu::Vcpu;

pub use control::{enter_flat32, enter_long64, set_segment_flat};
pub use debug::{code_breakpoint, note_port, run_alone, runs_alone};
pub use exception::{Shutdown, Source, deliver_fault, interrupt, poll_events};
pub use io::check_io;
pub use monitor::yield_at_pause;
pub use smm::{IoAccess, note_access};

/// A handler and whether its instruction ends the block.
type Pick = Option<(Handler, bool)>;
const ENDS: bool = true;
const GOES_ON: bool = false;

/// Makes a tier-0 handler of a helper.
macro_rules! handler {
    ($f:path) => {
        (|c: &mut $crate::vcpu::Vcpu, i: &$crate::insn::Insn, rest: $crate::insn::Rest<'_>| {
            $crate::eval::done($f(c, i), c, rest)
        }) as $crate::insn::Handler
    };
}
use handler;

/// The same for a serialising instruction (SDM vol. 3, 10.3) or one for ports (10.2.5): all earlier stores are seen by the other
/// vCPUs before it.
macro_rules! serialising {
    ($f:path) => {
        (|c: &mut $crate::vcpu::Vcpu, i: &$crate::insn::Insn, rest: $crate::insn::Rest<'_>| {
            c.serialise();
            $crate::eval::done($f(c, i), c, rest)
        }) as $crate::insn::Handler
    };
}
use serialising;

/// Offset of the next instruction, at the width of the running code's instruction pointer.
pub(crate) fn next_rip(cpu: &Vcpu, i: &Insn) -> u64 {
    // The 8086's IP has 16 bits, also when it is single-stepped.
    let eight = cpu.model.era() == crate::model::Era::I8086;
    i.next() & if eight { 0xffff } else { crate::lift::select::ip_mask(cpu.st.mode) }
}

/// Goes on with the next instruction. Before anything that changes the mode.
fn advance(cpu: &mut Vcpu, i: &Insn) {
    cpu.st.rip = next_rip(cpu, i);
}

/// Recognises an instruction of this module; the last family to be asked.
pub fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    let pick = exception::select(x, i)
        .or_else(|| iret::select(x, i))
        .or_else(|| far::select(x, i))
        .or_else(|| flags::select(x, i))
        .or_else(|| io::select(x, i))
        .or_else(|| integer::select(x, i, mode))
        .or_else(|| ident::select(x))
        .or_else(|| msr::select(x))
        .or_else(|| smm::select(x))
        .or_else(|| xsave::select(x, i))
        .or_else(|| paging::select(x, i, mode))
        .or_else(|| debug::select(x, i, mode))
        .or_else(|| monitor::select(x, i, mode))
        .or_else(|| control::select(x, i, mode))
        .or_else(|| segment::select(x, i))
        .or_else(|| fast::select(x, i));
    take(pick, i)
}

/// An instruction that no family knows: #UD if it belongs to an extension that no model has.
pub fn deny(x: &Instruction, i: &mut Insn) -> bool {
    is_denied(x) && take(integer::absent(i), i)
}

fn take(pick: Pick, i: &mut Insn) -> bool {
    let Some((run, ends)) = pick else { return false };
    i.run = run;
    i.op = if is_input(i) { Op::In } else { Op::Cold };
    i.ends = ends;
    true
}

fn is_input(i: &Insn) -> bool {
    use iced_x86::Code as C;
    let codes = [C::In_AL_imm8, C::In_AX_imm8, C::In_EAX_imm8, C::In_AL_DX, C::In_AX_DX, C::In_EAX_DX]
        .map(|c| c as u16);
    codes.contains(&i.code)
}

/// Is it an instruction of an extension that no model of ours has? Those are #UD by CPUID's promise.
fn is_denied(x: &Instruction) -> bool {
    use CpuidFeature as F;
    const HAVE: &[F] = &[
        F::INTEL8086,
        F::INTEL8086_ONLY,
        F::INTEL186,
        F::INTEL286,
        F::INTEL286_ONLY,
        F::INTEL386,
        F::INTEL386_ONLY,
        F::INTEL386_A0_ONLY,
        F::INTEL486,
        F::INTEL486_A_ONLY,
        F::FPU,
        F::FPU287,
        F::FPU387,
        F::X64,
        F::ADX,
        F::BMI1,
        F::BMI2,
        F::CMOV,
        F::CX8,
        F::CLFSH,
        F::CLFLUSHOPT,
        F::CLWB,
        F::CMPXCHG16B,
        F::CPUID,
        F::FXSR,
        F::INVPCID,
        F::PKU,
        F::FSGSBASE,
        F::LZCNT,
        F::MMX,
        F::MONITOR,
        F::MOVBE,
        F::MSR,
        F::MULTIBYTENOP,
        F::PAUSE,
        F::POPCNT,
        F::RDPID,
        F::RDRAND,
        F::RDSEED,
        F::RDTSCP,
        F::SEP,
        F::SMAP,
        F::SMM,
        F::SSE,
        F::SSE2,
        F::SSE3,
        F::SSSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::SYSCALL,
        F::TSC,
        F::XSAVE,
        F::XSAVEC,
        F::XSAVEOPT,
        F::XSAVES,
    ];
    !x.cpuid_features().iter().all(|f| HAVE.contains(f))
}
