//! What the processor says about itself: CPUID, and the facts that the MSRs and the page walker take from it.
//!
//! [`features`] is one table with one line for each feature; [`cpuid`](CpuModel::cpuid) makes the leaves from it.
//!
//! The identity is GenuineIntel, family 6, model 8Fh: Linux keeps no erratum, vulnerability or bad-microcode entry for
//! it beyond those that IA32_ARCH_CAPABILITIES (see [`ARCH_CAPABILITIES`]) denies, so that a guest runs without
//! retpolines and page-table isolation. The hypervisor bit is set, with the signature `RetrogradeVM`.

mod cpuid;
mod features;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use features::{FEATURES, Level};

pub use cpuid::{compacted_size, component_offset, standard_size};
pub use features::Feature;

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

/// The models that [`CpuModel::by_name`] knows: name and one line for `-cpu help`.
pub const MODELS: &[(&str, &str)] = &[
    ("max", "everything that is implemented (the default)"),
    ("x86-64-v2", "the x86-64-v2 level: SSE4.2, POPCNT, CMPXCHG16B"),
    ("qemu64", "the x86-64 baseline: SSE2"),
    ("qemu32", "32-bit, SSE2"),
];

/// Whose rules the processor follows where they differ: SYSCALL and SYSENTER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vendor {
    /// `GenuineIntel`.
    #[default]
    Intel,
    /// `AuthenticAMD`.
    Amd,
}

/// The processor's identity and abilities, and its random-number generator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    name: Box<str>,
    level: Level,
    features: u128,
    /// Whose rules and name it has.
    pub vendor: Vendor,
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
            vendor: Vendor::default(),
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
        if !self.has(Feature::Xsave) {
            return 1;
        }
        let extended = [(Feature::Avx, 1 << 2), (Feature::Pku, 1 << 9)];
        extended.iter().filter(|(f, _)| self.has(*f)).fold(3, |mask, (_, bit)| mask | bit)
    }
}
