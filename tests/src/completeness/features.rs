//! The features that the processor is to have, with their places in CPUID and iced-x86's names for them.

use iced_x86::{CpuidFeature as F, Mnemonic as M};

/// An output register of CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// EAX.
    A,
    /// EBX.
    B,
    /// ECX.
    C,
    /// EDX.
    D,
}

/// A feature.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name in `-cpu`.
    pub name: &'static str,
    /// Leaf, subleaf, register and bit of CPUID (SDM vol. 2, CPUID; APM vol. 3, appendix E).
    pub place: (u32, u32, Reg, u32),
    /// What iced-x86 calls the instructions that it brings.
    pub codes: &'static [F],
}

const fn feature(
    name: &'static str,
    leaf: u32,
    sub: u32,
    reg: Reg,
    bit: u32,
    codes: &'static [F],
) -> Feature {
    Feature { name, place: (leaf, sub, reg, bit), codes }
}

/// What every processor from the i486 on has, and 64-bit mode.
pub const PROCESSORS: &[F] = &[
    F::INTEL8086,
    F::INTEL186,
    F::INTEL286,
    F::INTEL386,
    F::INTEL486,
    F::CPUID,
    F::FPU287,
    F::FPU387,
    F::MULTIBYTENOP,
    F::PAUSE,
    F::RDPMC,
    F::SMM,
    F::X64,
];

/// Instructions that processors had once and that mean something else or nothing today.
pub const REMOVED: &[M] = &[M::Loadall, M::Storeall, M::Ibts, M::Xbts, M::Umov, M::Fstpnce];

/// Every feature that `-cpu max` must report.
pub const FEATURES: &[Feature] = &[
    feature("fpu", 1, 0, Reg::D, 0, &[F::FPU]),
    feature("vme", 1, 0, Reg::D, 1, &[]),
    feature("de", 1, 0, Reg::D, 2, &[]),
    feature("pse", 1, 0, Reg::D, 3, &[]),
    feature("tsc", 1, 0, Reg::D, 4, &[F::TSC]),
    feature("msr", 1, 0, Reg::D, 5, &[F::MSR]),
    feature("pae", 1, 0, Reg::D, 6, &[]),
    feature("mce", 1, 0, Reg::D, 7, &[]),
    feature("cx8", 1, 0, Reg::D, 8, &[F::CX8]),
    feature("apic", 1, 0, Reg::D, 9, &[]),
    feature("sep", 1, 0, Reg::D, 11, &[F::SEP]),
    feature("mtrr", 1, 0, Reg::D, 12, &[]),
    feature("pge", 1, 0, Reg::D, 13, &[]),
    feature("mca", 1, 0, Reg::D, 14, &[]),
    feature("cmov", 1, 0, Reg::D, 15, &[F::CMOV]),
    feature("pat", 1, 0, Reg::D, 16, &[]),
    feature("pse36", 1, 0, Reg::D, 17, &[]),
    feature("clflush", 1, 0, Reg::D, 19, &[F::CLFSH]),
    feature("mmx", 1, 0, Reg::D, 23, &[F::MMX]),
    feature("fxsr", 1, 0, Reg::D, 24, &[F::FXSR]),
    feature("sse", 1, 0, Reg::D, 25, &[F::SSE]),
    feature("sse2", 1, 0, Reg::D, 26, &[F::SSE2]),
    feature("sse3", 1, 0, Reg::C, 0, &[F::SSE3]),
    feature("pclmulqdq", 1, 0, Reg::C, 1, &[F::PCLMULQDQ]),
    feature("monitor", 1, 0, Reg::C, 3, &[F::MONITOR]),
    feature("ssse3", 1, 0, Reg::C, 9, &[F::SSSE3]),
    feature("fma", 1, 0, Reg::C, 12, &[F::FMA]),
    feature("cx16", 1, 0, Reg::C, 13, &[F::CMPXCHG16B]),
    feature("pcid", 1, 0, Reg::C, 17, &[]),
    feature("sse4.1", 1, 0, Reg::C, 19, &[F::SSE4_1]),
    feature("sse4.2", 1, 0, Reg::C, 20, &[F::SSE4_2]),
    feature("x2apic", 1, 0, Reg::C, 21, &[]),
    feature("movbe", 1, 0, Reg::C, 22, &[F::MOVBE]),
    feature("popcnt", 1, 0, Reg::C, 23, &[F::POPCNT]),
    feature("tsc-deadline", 1, 0, Reg::C, 24, &[]),
    feature("aes", 1, 0, Reg::C, 25, &[F::AES]),
    feature("xsave", 1, 0, Reg::C, 26, &[F::XSAVE]),
    feature("avx", 1, 0, Reg::C, 28, &[F::AVX]),
    feature("f16c", 1, 0, Reg::C, 29, &[F::F16C]),
    feature("rdrand", 1, 0, Reg::C, 30, &[F::RDRAND]),
    feature("fsgsbase", 7, 0, Reg::B, 0, &[F::FSGSBASE]),
    feature("bmi1", 7, 0, Reg::B, 3, &[F::BMI1]),
    feature("avx2", 7, 0, Reg::B, 5, &[F::AVX2]),
    feature("smep", 7, 0, Reg::B, 7, &[]),
    feature("bmi2", 7, 0, Reg::B, 8, &[F::BMI2]),
    feature("erms", 7, 0, Reg::B, 9, &[]),
    feature("invpcid", 7, 0, Reg::B, 10, &[F::INVPCID]),
    feature("rdseed", 7, 0, Reg::B, 18, &[F::RDSEED]),
    feature("adx", 7, 0, Reg::B, 19, &[F::ADX]),
    feature("smap", 7, 0, Reg::B, 20, &[F::SMAP]),
    feature("clflushopt", 7, 0, Reg::B, 23, &[F::CLFLUSHOPT]),
    feature("clwb", 7, 0, Reg::B, 24, &[F::CLWB]),
    feature("sha", 7, 0, Reg::B, 29, &[F::SHA]),
    feature("umip", 7, 0, Reg::C, 2, &[]),
    feature("pku", 7, 0, Reg::C, 3, &[F::PKU]),
    feature("la57", 7, 0, Reg::C, 16, &[]),
    feature("rdpid", 7, 0, Reg::C, 22, &[F::RDPID]),
    feature("fsrm", 7, 0, Reg::D, 4, &[]),
    feature("xsaveopt", 0xd, 1, Reg::A, 0, &[F::XSAVEOPT]),
    feature("xsavec", 0xd, 1, Reg::A, 1, &[F::XSAVEC]),
    feature("xgetbv1", 0xd, 1, Reg::A, 2, &[]),
    feature("xsaves", 0xd, 1, Reg::A, 3, &[F::XSAVES]),
    feature("lahf-lm", 0x8000_0001, 0, Reg::C, 0, &[]),
    feature("lzcnt", 0x8000_0001, 0, Reg::C, 5, &[F::LZCNT]),
    feature("prefetchw", 0x8000_0001, 0, Reg::C, 8, &[F::PREFETCHW]),
    feature("syscall", 0x8000_0001, 0, Reg::D, 11, &[F::SYSCALL]),
    feature("nx", 0x8000_0001, 0, Reg::D, 20, &[]),
    feature("pdpe1gb", 0x8000_0001, 0, Reg::D, 26, &[]),
    feature("rdtscp", 0x8000_0001, 0, Reg::D, 27, &[F::RDTSCP]),
    feature("lm", 0x8000_0001, 0, Reg::D, 29, &[]),
    feature("invtsc", 0x8000_0007, 0, Reg::D, 8, &[]),
];
