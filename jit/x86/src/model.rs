//! What the processor says about itself: CPUID, and the facts that the MSRs and the page walker take from it.
//!
//! One table, [`FEATURES`], has one line for each feature: where CPUID shows it and from which model level on it is
//! shown. Nothing is reported that is not implemented, and what depends on the control registers (OSXSAVE, the APIC
//! bit, the XSAVE area's size) is computed when CPUID executes.
//!
//! The identity is GenuineIntel, family 6, model 8Fh: Linux keeps no erratum, vulnerability or bad-microcode entry for
//! it beyond those that IA32_ARCH_CAPABILITIES (see [`ARCH_CAPABILITIES`]) denies, so that a guest runs without
//! retpolines and page-table isolation. The hypervisor bit is set, with the signature `RetrogradeVM`.

use serde::{Deserialize, Serialize};

use crate::state::{CpuState, Mode, cr4};

/// TSC frequency: one tick is one virtual nanosecond. The local APIC timer runs at the same crystal.
pub const TSC_HZ: u32 = 1_000_000_000;

/// IA32_ARCH_CAPABILITIES (SDM vol. 4, MSR 10Ah): RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO,
/// IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. An emulator
/// has none of these side channels.
pub const ARCH_CAPABILITIES: u64 = 1 << 0
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;

/// The instruction groups that `lift` implements.
const BIT_MANIPULATION: Level = Level::Max;
/// Instruction groups that are not implemented yet.
const ABSENT: Level = Level::Never;

/// The model levels, each of which has all features of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Level {
    /// 32-bit, SSE2.
    X86,
    /// The x86-64 baseline.
    V1,
    /// The x86-64-v2 level.
    V2,
    /// All that is implemented.
    Max,
    /// Known but not implemented.
    Never,
}

/// A CPUID output register that holds feature bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
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
        const FEATURES: &[(Feature, &str, Place, u32, Level)] =
            &[$((Feature::$name, $text, Place::$place, $bit, $level)),*];
    };
}

features! {
    Fpu "fpu" L1D 0 Level::X86;
    Vme "vme" L1D 1 ABSENT;
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
    Pclmulqdq "pclmulqdq" L1C 1 ABSENT;
    Monitor "monitor" L1C 3 ABSENT;
    Ssse3 "ssse3" L1C 9 Level::V2;
    Fma "fma" L1C 12 ABSENT;
    Cx16 "cx16" L1C 13 Level::V2;
    Pcid "pcid" L1C 17 ABSENT;
    Sse41 "sse4.1" L1C 19 Level::V2;
    Sse42 "sse4.2" L1C 20 Level::V2;
    X2apic "x2apic" L1C 21 Level::V1;
    Movbe "movbe" L1C 22 Level::Max;
    Popcnt "popcnt" L1C 23 Level::V2;
    TscDeadline "tsc-deadline" L1C 24 Level::Max;
    Aes "aes" L1C 25 ABSENT;
    Xsave "xsave" L1C 26 Level::Max;
    Avx "avx" L1C 28 ABSENT;
    F16c "f16c" L1C 29 ABSENT;
    Rdrand "rdrand" L1C 30 Level::Max;
    Hypervisor "hypervisor" L1C 31 Level::X86;
    Arat "arat" L6A 2 Level::X86;
    Fsgsbase "fsgsbase" L7B 0 Level::Max;
    TscAdjust "tsc-adjust" L7B 1 Level::Max;
    Bmi1 "bmi1" L7B 3 BIT_MANIPULATION;
    Avx2 "avx2" L7B 5 ABSENT;
    Smep "smep" L7B 7 Level::Max;
    Bmi2 "bmi2" L7B 8 BIT_MANIPULATION;
    Erms "erms" L7B 9 Level::Max;
    Invpcid "invpcid" L7B 10 ABSENT;
    Rdseed "rdseed" L7B 18 Level::Max;
    Adx "adx" L7B 19 BIT_MANIPULATION;
    Smap "smap" L7B 20 Level::Max;
    Clflushopt "clflushopt" L7B 23 Level::Max;
    Clwb "clwb" L7B 24 Level::Max;
    Sha "sha" L7B 29 ABSENT;
    Umip "umip" L7C 2 Level::Max;
    La57 "la57" L7C 16 ABSENT;
    Rdpid "rdpid" L7C 22 Level::Max;
    Fsrm "fsrm" L7D 4 Level::Max;
    SpecCtrl "spec-ctrl" L7D 26 Level::Max;
    Stibp "stibp" L7D 27 Level::Max;
    ArchCapabilities "arch-capabilities" L7D 29 Level::Max;
    Ssbd "ssbd" L7D 31 Level::Max;
    Xsaveopt "xsaveopt" LdA 0 Level::Max;
    Xsavec "xsavec" LdA 1 Level::Max;
    Xgetbv1 "xgetbv1" LdA 2 Level::Max;
    LahfLm "lahf-lm" X1C 0 Level::V1;
    Lzcnt "lzcnt" X1C 5 BIT_MANIPULATION;
    Prefetchw "prefetchw" X1C 8 Level::Max;
    Syscall "syscall" X1D 11 Level::V1;
    Nx "nx" X1D 20 Level::V1;
    Pdpe1gb "pdpe1gb" X1D 26 Level::Max;
    Rdtscp "rdtscp" X1D 27 Level::Max;
    Lm "lm" X1D 29 Level::V1;
    InvariantTsc "invtsc" X7D 8 Level::Max;
}

/// The models that [`CpuModel::by_name`] knows: name and one line for `-cpu help`.
pub const MODELS: &[(&str, &str)] = &[
    ("max", "everything that is implemented (the default)"),
    ("x86-64-v2", "the x86-64-v2 level: SSE4.2, POPCNT, CMPXCHG16B"),
    ("qemu64", "the x86-64 baseline: SSE2"),
    ("qemu32", "32-bit, SSE2"),
];

/// Highest basic CPUID leaf.
const MAX_BASIC: u32 = 0x16;
/// Highest hypervisor leaf: 40000010h gives the TSC and APIC bus frequencies in kHz, as several hypervisors do.
const MAX_HYPERVISOR: u32 = 0x4000_0010;
/// Highest extended leaf.
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Family 6, model 8Fh, stepping 8.
const SIGNATURE: u32 = 0x0008_06f8;
const BRAND: &[u8] = b"Retrograde vCPU @ 1.00GHz";
const LINEAR_BITS: u32 = 48;

/// The processor's identity and abilities, and its random-number generator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    name: Box<str>,
    level: Level,
    features: u128,
    /// MAXPHYADDR.
    pub phys_bits: u8,
    /// This processor's (x2)APIC id.
    pub apic_id: u32,
    /// Processors of the machine: one package, one thread in each core.
    pub cpus: u32,
    /// State of the generator behind RDRAND and RDSEED: part of a snapshot, seeded by the configuration.
    pub rng: u64,
    /// Refused MSR accesses that were logged.
    #[serde(skip)]
    pub(crate) reports: u32,
}

impl Default for CpuModel {
    fn default() -> Self {
        Self::of_level("max", Level::Max)
    }
}

impl CpuModel {
    /// A model by its name; `None` if there is none (see [`MODELS`]).
    pub fn by_name(name: &str) -> Option<Self> {
        let level = match name {
            "max" => Level::Max,
            "x86-64-v2" => Level::V2,
            "qemu64" | "x86-64" | "x86-64-v1" => Level::V1,
            "qemu32" => Level::X86,
            _ => return None,
        };
        Some(Self::of_level(name, level))
    }

    fn of_level(name: &str, level: Level) -> Self {
        let features = FEATURES.iter().filter(|f| f.4 <= level).fold(0, |m, f| m | 1 << f.0 as u8);
        let phys_bits = if level == Level::X86 { 36 } else { 40 };
        Self {
            name: name.into(),
            level,
            features,
            phys_bits,
            apic_id: 0,
            cpus: 1,
            rng: 0x5245_5452_4f47_5241,
            reports: 0,
        }
    }

    /// The name by which it was chosen.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is the feature reported (and, for privileged ones, enabled)?
    #[inline]
    pub fn has(&self, f: Feature) -> bool {
        self.features >> f as u8 & 1 != 0
    }

    /// Turns a feature of this model on or off by its CPUID name; `false` if there is no such feature, or it is to be
    /// turned on and not implemented.
    pub fn set_feature(&mut self, name: &str, on: bool) -> bool {
        let Some(f) = FEATURES.iter().find(|f| f.1 == name) else { return false };
        if on && f.4 == Level::Never {
            return false;
        }
        let bit = 1 << f.0 as u8;
        self.features = if on { self.features | bit } else { self.features & !bit };
        true
    }

    /// Names of the features that can be turned on, for `-cpu help`.
    pub fn feature_names() -> impl Iterator<Item = &'static str> {
        FEATURES.iter().filter(|f| f.4 != Level::Never).map(|f| f.1)
    }

    /// The next 64 random bits (SplitMix64: every seed gives a full-period sequence).
    pub fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.rng ^ self.rng >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// The state components that XCR0 may enable (SDM vol. 1, 13.3).
    pub fn xcr0_mask(&self) -> u64 {
        match (self.has(Feature::Xsave), self.has(Feature::Avx)) {
            (false, _) => 1,
            (true, false) => 3,
            (true, true) => 7,
        }
    }

    fn bits(&self, at: Place) -> u32 {
        FEATURES.iter().filter(|f| f.2 == at && self.has(f.0)).fold(0, |m, f| m | 1 << f.3)
    }

    /// CPUID: EAX, EBX, ECX, EDX for a leaf and subleaf.
    pub fn cpuid(&self, st: &CpuState, leaf: u32, sub: u32) -> [u32; 4] {
        // SDM CPUID: an input above the maximum of its range gives the data of the highest basic leaf.
        let leaf = match leaf {
            0..=MAX_BASIC | 0x4000_0000..=MAX_HYPERVISOR | 0x8000_0000..=MAX_EXTENDED => leaf,
            _ => MAX_BASIC,
        };
        match leaf {
            0 => registers(MAX_BASIC, b"GenuineIntel", [0, 2, 1]),
            1 => self.leaf_1(st),
            // No descriptors: the caches are in leaf 4.
            2 => [0x0000_ff01, 0, 0, 0],
            4 => self.caches(sub),
            6 => [self.bits(Place::L6A), 0, 0, 0],
            7 if sub == 0 => [0, self.bits(Place::L7B), self.bits(Place::L7C), self.bits(Place::L7D)],
            0xb => self.topology(sub),
            0xd => self.xsave(st, sub),
            // SDM vol. 3, 19.7.3: the crystal's frequency and the ratio of the TSC to it.
            0x15 => [1, 1, TSC_HZ, 0],
            0x16 => [TSC_HZ / 1_000_000, TSC_HZ / 1_000_000, 100, 0],
            0x4000_0000 => registers(MAX_HYPERVISOR, b"RetrogradeVM", [0, 1, 2]),
            0x4000_0010 => [TSC_HZ / 1000, TSC_HZ / 1000, 0, 0],
            0x8000_0000 => [MAX_EXTENDED, 0, 0, 0],
            0x8000_0001 => {
                let mut d = self.bits(Place::X1D);
                // Intel shows SYSCALL in 64-bit mode only.
                if !st.mode.has(Mode::CODE64) {
                    d &= !(1 << 11);
                }
                [0, 0, self.bits(Place::X1C), d]
            }
            0x8000_0002..=0x8000_0004 => brand(leaf - 0x8000_0002),
            // L2: 2 MiB, 16-way, 64-byte lines.
            0x8000_0006 => [0, 0, 2048 << 16 | 8 << 12 | 64, 0],
            0x8000_0007 => [0, 0, 0, self.bits(Place::X7D)],
            0x8000_0008 => {
                let linear = if self.has(Feature::Lm) { LINEAR_BITS } else { 32 };
                [u32::from(self.phys_bits) | linear << 8, 0, 0, 0]
            }
            _ => [0; 4],
        }
    }

    fn leaf_1(&self, st: &CpuState) -> [u32; 4] {
        let mut c = self.bits(Place::L1C);
        if st.cr4 & cr4::OSXSAVE != 0 {
            c |= 1 << 27;
        }
        let mut d = self.bits(Place::L1D);
        if self.cpus > 1 {
            d |= 1 << 28;
        }
        // CLFLUSH line in 8-byte units, addressable ids in the package, initial APIC id.
        let ids = self.cpus.next_power_of_two().min(255);
        [SIGNATURE, 8 << 8 | ids << 16 | (self.apic_id & 0xff) << 24, c, d]
    }

    /// Leaf 4: L1D and L1I of 32 KiB, L2 of 2 MiB, a shared L3 of 16 MiB, all with 64-byte lines.
    fn caches(&self, sub: u32) -> [u32; 4] {
        let all = self.cpus.next_power_of_two() - 1;
        let (kind, level, sharing, ways, sets, flags) = match sub {
            0 => (1, 1, 0, 8, 64, 0),
            1 => (2, 1, 0, 8, 64, 0),
            2 => (3, 2, 0, 16, 2048, 0),
            3 => (3, 3, all.min(0xfff), 16, 16384, 4),
            _ => return [0; 4],
        };
        let a = kind | level << 5 | 1 << 8 | sharing << 14 | all.min(63) << 26;
        [a, 63 | (ways - 1) << 22, sets - 1, flags]
    }

    fn topology(&self, sub: u32) -> [u32; 4] {
        let shift = self.cpus.next_power_of_two().trailing_zeros();
        match sub {
            0 => [0, 1, 1 << 8, self.apic_id],
            1 => [shift, self.cpus, 1 | 2 << 8, self.apic_id],
            _ => [0, 0, sub & 0xff, self.apic_id],
        }
    }

    fn xsave(&self, st: &CpuState, sub: u32) -> [u32; 4] {
        if !self.has(Feature::Xsave) {
            return [0; 4];
        }
        // Legacy area and header; AVX's component follows at once, in both formats.
        let size = |mask: u64| 576 + if mask & 4 != 0 { 256 } else { 0 };
        let mask = self.xcr0_mask();
        match sub {
            0 => [mask as u32, size(st.xcr0), size(mask), 0],
            1 => [self.bits(Place::LdA), size(st.xcr0), 0, 0],
            2 if mask & 4 != 0 => [256, 576, 0, 0],
            _ => [0; 4],
        }
    }
}

/// A leaf that gives its maximum and a 12-byte text, whose parts go to EBX, ECX, EDX in the order `order`.
fn registers(max: u32, text: &[u8; 12], order: [usize; 3]) -> [u32; 4] {
    let part =
        |n: usize| u32::from_le_bytes([text[4 * n], text[4 * n + 1], text[4 * n + 2], text[4 * n + 3]]);
    [max, part(order[0]), part(order[1]), part(order[2])]
}

fn brand(n: u32) -> [u32; 4] {
    let byte = |k: usize| u32::from(BRAND.get(n as usize * 16 + k).copied().unwrap_or(0));
    std::array::from_fn(|r| (0..4).fold(0, |v, k| v | byte(4 * r + k) << (8 * k)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(r: &[u32]) -> String {
        r.iter().flat_map(|v| v.to_le_bytes()).take_while(|b| *b != 0).map(char::from).collect()
    }

    #[test]
    fn identity() {
        let (m, st) = (CpuModel::default(), CpuState::power_on());
        let [max, b, c, d] = m.cpuid(&st, 0, 0);
        assert_eq!((max, text(&[b, d, c]).as_str()), (0x16, "GenuineIntel"));
        assert_eq!(text(&m.cpuid(&st, 0x4000_0000, 0)[1..]), "RetrogradeVM");
        let name: Vec<u32> = (2..5).flat_map(|n| m.cpuid(&st, 0x8000_0000 + n, 0)).collect();
        assert_eq!(text(&name), "Retrograde vCPU @ 1.00GHz");
        assert_eq!(m.cpuid(&st, 0x15, 0), [1, 1, 1_000_000_000, 0]);
    }

    #[test]
    fn every_listed_model_exists_and_levels_nest() {
        for (name, _) in MODELS {
            assert!(CpuModel::by_name(name).is_some(), "{name}");
        }
        let of = |n| CpuModel::by_name(n).map(|m| m.features).unwrap_or(0);
        assert_eq!(of("qemu64") & of("x86-64-v2") & of("max"), of("qemu64"));
        assert_eq!(of("qemu32") & 1 << Feature::Lm as u8, 0);
        assert!(CpuModel::by_name("athlon").is_none());
    }

    #[test]
    fn absent_features_cannot_be_turned_on() {
        let mut m = CpuModel::default();
        assert!(!m.set_feature("avx", true));
        assert!(m.set_feature("x2apic", false));
        assert_eq!(m.cpuid(&CpuState::power_on(), 1, 0)[2] & 1 << 21, 0);
    }

    #[test]
    fn osxsave_and_syscall_follow_the_state() {
        let (m, mut st) = (CpuModel::default(), CpuState::power_on());
        assert_eq!(m.cpuid(&st, 1, 0)[2] & 1 << 27, 0);
        assert_eq!(m.cpuid(&st, 0x8000_0001, 0)[3] & 1 << 11, 0);
        st.cr4 |= cr4::OSXSAVE;
        st.mode = Mode(Mode::CODE64);
        assert_ne!(m.cpuid(&st, 1, 0)[2] & 1 << 27, 0);
        assert_ne!(m.cpuid(&st, 0x8000_0001, 0)[3] & 1 << 11, 0);
    }

    #[test]
    fn out_of_range_leaves_repeat_the_last_basic_one() {
        let (m, st) = (CpuModel::default(), CpuState::power_on());
        assert_eq!(m.cpuid(&st, 0x1000, 0), m.cpuid(&st, 0x16, 0));
        assert_eq!(m.cpuid(&st, 0x8000_0009, 0), m.cpuid(&st, 0x16, 0));
    }
}
