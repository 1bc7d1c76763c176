//! The table of features: one line for each, with its place in CPUID and the model level from which on it is reported.
//!
//! Nothing is reported that is not implemented: [`ABSENT`] marks what is known and still owed.

use super::CpuModel;

/// Instruction groups that are not implemented yet.
const ABSENT: Level = Level::Never;

/// The model levels, each of which has all features of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// 32-bit, SSE2.
    X86,
    /// The x86-64 baseline.
    V1,
    /// The x86-64-v2 level.
    V2,
    /// The x86-64-v3 level.
    V3,
    /// All that is implemented.
    Max,
    /// Known but not implemented.
    Never,
}

/// A CPUID output register that holds feature bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// CPUID.01H:ECX.
    L1C,
    /// CPUID.01H:EDX.
    L1D,
    /// CPUID.06H:EAX.
    L6A,
    /// CPUID.07H.0:EBX.
    L7B,
    /// CPUID.07H.0:ECX.
    L7C,
    /// CPUID.07H.0:EDX.
    L7D,
    /// CPUID.07H.2:EDX.
    L72D,
    /// CPUID.0DH.1:EAX.
    LdA,
    /// CPUID.80000001H:ECX.
    X1C,
    /// CPUID.80000001H:EDX.
    X1D,
    /// CPUID.80000007H:EDX.
    X7D,
}

macro_rules! features {
    ($($name:ident $text:literal $place:ident $bit:literal $level:expr;)*) => {
        /// A processor feature.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "feature names")]
        pub enum Feature { $($name),* }

        /// Every feature that is known: name, place in CPUID, and the level from which on it is reported.
        pub(super) const FEATURES: &[(Feature, &str, Place, u32, Level)] =
            &[$((Feature::$name, $text, Place::$place, $bit, $level)),*];
    };
}

features! {
    Fpu "fpu" L1D 0 Level::X86;
    Vme "vme" L1D 1 Level::X86;
    De "de" L1D 2 Level::X86;
    Pse "pse" L1D 3 Level::X86;
    Tsc "tsc" L1D 4 Level::X86;
    Msr "msr" L1D 5 Level::X86;
    Pae "pae" L1D 6 Level::X86;
    Mce "mce" L1D 7 Level::X86;
    Cx8 "cx8" L1D 8 Level::X86;
    Apic "apic" L1D 9 Level::X86;
    Sep "sep" L1D 11 Level::X86;
    Mtrr "mtrr" L1D 12 Level::X86;
    Pge "pge" L1D 13 Level::X86;
    Mca "mca" L1D 14 Level::X86;
    Cmov "cmov" L1D 15 Level::X86;
    Pat "pat" L1D 16 Level::X86;
    Pse36 "pse36" L1D 17 Level::X86;
    Clflush "clflush" L1D 19 Level::X86;
    Mmx "mmx" L1D 23 Level::X86;
    Fxsr "fxsr" L1D 24 Level::X86;
    Sse "sse" L1D 25 Level::X86;
    Sse2 "sse2" L1D 26 Level::X86;
    SelfSnoop "ss" L1D 27 Level::X86;
    Sse3 "sse3" L1C 0 Level::V2;
    Pclmulqdq "pclmulqdq" L1C 1 Level::Max;
    Monitor "monitor" L1C 3 Level::Max;
    Ssse3 "ssse3" L1C 9 Level::V2;
    Fma "fma" L1C 12 Level::V3;
    Cx16 "cx16" L1C 13 Level::V2;
    Pcid "pcid" L1C 17 Level::Max;
    Sse41 "sse4.1" L1C 19 Level::V2;
    Sse42 "sse4.2" L1C 20 Level::V2;
    X2apic "x2apic" L1C 21 Level::V1;
    Movbe "movbe" L1C 22 Level::V3;
    Popcnt "popcnt" L1C 23 Level::V2;
    TscDeadline "tsc-deadline" L1C 24 Level::Max;
    Aes "aes" L1C 25 Level::Max;
    Xsave "xsave" L1C 26 Level::V3;
    Avx "avx" L1C 28 Level::V3;
    F16c "f16c" L1C 29 Level::V3;
    Rdrand "rdrand" L1C 30 Level::Max;
    Hypervisor "hypervisor" L1C 31 Level::X86;
    Arat "arat" L6A 2 Level::X86;
    Fsgsbase "fsgsbase" L7B 0 Level::Max;
    TscAdjust "tsc-adjust" L7B 1 Level::Max;
    Bmi1 "bmi1" L7B 3 Level::V3;
    Avx2 "avx2" L7B 5 Level::V3;
    Smep "smep" L7B 7 Level::Max;
    Bmi2 "bmi2" L7B 8 Level::V3;
    Erms "erms" L7B 9 Level::Max;
    Invpcid "invpcid" L7B 10 Level::Max;
    Rdseed "rdseed" L7B 18 Level::Max;
    Adx "adx" L7B 19 Level::Max;
    Smap "smap" L7B 20 Level::Max;
    Clflushopt "clflushopt" L7B 23 Level::Max;
    Clwb "clwb" L7B 24 Level::Max;
    Sha "sha" L7B 29 Level::Max;
    Umip "umip" L7C 2 Level::Max;
    Pku "pku" L7C 3 Level::Max;
    La57 "la57" L7C 16 Level::Max;
    Rdpid "rdpid" L7C 22 Level::Max;
    Fsrm "fsrm" L7D 4 Level::Max;
    SpecCtrl "spec-ctrl" L7D 26 Level::Max;
    Stibp "stibp" L7D 27 Level::Max;
    ArchCapabilities "arch-capabilities" L7D 29 Level::Max;
    Ssbd "ssbd" L7D 31 Level::Max;
    BhiCtrl "bhi-ctrl" L72D 4 Level::Max;
    McdtNo "mcdt-no" L72D 5 Level::Max;
    Xsaveopt "xsaveopt" LdA 0 Level::Max;
    Xsavec "xsavec" LdA 1 Level::Max;
    Xgetbv1 "xgetbv1" LdA 2 Level::Max;
    Xsaves "xsaves" LdA 3 Level::Max;
    LahfLm "lahf-lm" X1C 0 Level::V1;
    Lzcnt "lzcnt" X1C 5 Level::V3;
    Sse4a "sse4a" X1C 6 ABSENT;
    Prefetchw "prefetchw" X1C 8 Level::Max;
    Syscall "syscall" X1D 11 Level::V1;
    Nx "nx" X1D 20 Level::V1;
    Pdpe1gb "pdpe1gb" X1D 26 Level::Max;
    Rdtscp "rdtscp" X1D 27 Level::Max;
    Lm "lm" X1D 29 Level::V1;
    InvariantTsc "invtsc" X7D 8 Level::Max;
}

impl Feature {
    /// Is it implemented, so that some model reports it?
    pub fn is_implemented(self) -> bool {
        FEATURES[self as usize].4 != Level::Never
    }
    /// Its name in `-cpu`.
    pub fn name(self) -> &'static str {
        FEATURES[self as usize].1
    }
}

impl CpuModel {
    /// The feature bits of one CPUID register.
    pub(super) fn bits(&self, at: Place) -> u32 {
        FEATURES.iter().filter(|f| f.2 == at && self.has(f.0)).fold(0, |m, f| m | 1 << f.3)
    }
}
