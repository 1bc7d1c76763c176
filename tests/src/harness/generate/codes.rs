//! Which forms of instructions are drawn.

use iced_x86::{Code, CpuidFeature as F, FlowControl, Mnemonic as M, OpCodeInfo, OpCodeOperandKind as K};

use crate::harness::guest::Bits;

/// The extensions that the tests cover: those that our processor reports to programs.
pub const INTEGER: &[F] = &[
    F::INTEL8086,
    F::INTEL186,
    F::INTEL286,
    F::INTEL386,
    F::INTEL486,
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
    F::FSGSBASE,
    F::LZCNT,
    F::MOVBE,
    F::MULTIBYTENOP,
    F::PAUSE,
    F::POPCNT,
];
/// SSE and its kin, MMX.
pub const VECTOR: &[F] =
    &[F::MMX, F::SSE, F::SSE2, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2, F::AES, F::PCLMULQDQ, F::SHA];
/// What is VEX-encoded, and what has forms of both kinds.
pub const AVX: &[F] = &[F::AVX, F::AVX2, F::FMA, F::F16C, F::AES, F::PCLMULQDQ];
/// x87.
pub const X87: &[F] = &[F::FPU, F::FPU287, F::FPU387];

/// What saves and restores states.
pub const STATE: &[F] = &[F::FXSR, F::XSAVE, F::XSAVEOPT, F::XSAVEC];
/// What programs may not execute: that they fault, and with what.
pub const SYSTEM: &[F] =
    &[F::MSR, F::SMM, F::MONITOR, F::SMAP, F::INVPCID, F::SYSCALL, F::XSAVES, F::PREFETCHW];

/// Everything that random tests draw from.
pub const ALL: &[&[F]] = &[INTEGER, VECTOR, AVX, X87, STATE, SYSTEM];

/// Not for random tests: they depend on more than registers and data, or call the kernel.
const EXCLUDED: &[M] = &[
    M::INVALID,
    // Linux answers these for the processor where it has UMIP.
    M::Sldt,
    M::Str,
    M::Smsw,
    M::Sgdt,
    M::Sidt,
    // System calls.
    M::Syscall,
    M::Sysenter,
    M::Sysexit,
    // The components that the processor has.
    M::Xgetbv,
    // Contents that the manual leaves open.
    M::Umov,
    M::Loadall,
    M::Storeall,
    M::Ibts,
    M::Xbts,
    // Old forms that later processors know as something else or not at all.
    M::Jmpe,
    M::Fneni,
    M::Feni,
    M::Fndisi,
    M::Fdisi,
    M::Fnsetpm,
    M::Fsetpm,
    M::Frstpm,
    M::Fnstdw,
    M::Fstdw,
    M::Fnstsg,
    M::Fstsg,
    M::Fstpnce,
    M::Ftstp,
    M::Frint2,
    M::Frichop,
    M::Frinear,
];

/// All codes of these extensions in this mode.
pub fn codes(sets: &[&[F]], bits: Bits) -> Vec<Code> {
    Code::values().filter(|c| is_drawn(*c, sets, bits)).collect()
}

pub(super) fn is_drawn(c: Code, sets: &[&[F]], bits: Bits) -> bool {
    let op = c.op_code();
    let mode = if bits == Bits::Long { op.mode64() } else { op.mode32() };
    let name = format!("{c:?}");
    mode && op.is_instruction()
        // WAIT and the instruction after it, which only assemblers take for one.
        && !op.fwait()
        && !EXCLUDED.contains(&c.mnemonic())
        && c.cpuid_features().iter().all(|f| sets.iter().any(|s| s.contains(f)))
        && !name.starts_with("D3NOW")
        && !name.contains("_tr")
        // Intel's processors ignore the prefix that cuts RIP, AMD's do not.
        && !(bits == Bits::Long && op.op_kinds().iter().any(|k| matches!(k, K::br16_1 | K::br16_2)))
}

/// Does it transfer control to another code segment?
pub(super) fn is_far(c: Code) -> bool {
    let op = c.op_code();
    matches!(c.mnemonic(), M::Retf | M::Iret | M::Iretd | M::Iretq)
        || op.op_kinds().iter().any(|k| matches!(k, K::farbr2_2 | K::farbr4_2))
        || matches!(c.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
            && op.op_kinds().contains(&K::mem)
}

fn moves_segment(op: &OpCodeInfo) -> bool {
    op.op_kinds().iter().any(|k| matches!(k, K::seg_reg | K::es | K::cs | K::ss | K::ds | K::fs | K::gs))
}

/// Those of `codes` that may stand in the midst of a program.
pub fn program_codes(codes: &[Code]) -> Vec<Code> {
    let alone = [
        M::Ud0,
        M::Ud1,
        M::Ud2,
        M::Enter,
        M::Leave,
        M::Popf,
        M::Popfd,
        M::Popfq,
        M::Lds,
        M::Les,
        M::Lss,
        M::Lfs,
        M::Lgs,
        M::In,
        M::Out,
        M::Insb,
        M::Insw,
        M::Insd,
        M::Outsb,
        M::Outsw,
        M::Outsd,
        M::Fldenv,
        M::Frstor,
    ];
    let mut codes = codes.to_vec();
    codes.retain(|c| {
        let features = c.cpuid_features();
        c.flow_control() == FlowControl::Next
            && !alone.contains(&c.mnemonic())
            && !c.is_privileged()
            && !c.op_code().must_be_cpl0()
            && !moves_segment(c.op_code())
            && !features.iter().any(|f| STATE.contains(f) || SYSTEM.contains(f))
            // Gathers want particular vectors, which nothing there loads.
            && !format!("{c:?}").contains("gather")
    });
    codes
}
