//! What the processor says about itself: CPUID, and the facts that the MSRs and the page walker take from it.
//!
//! [`features`] is one table with one line for each feature; [`cpuid`](CpuModel::cpuid) makes the leaves from it.
//!
//! The identity is GenuineIntel, family 6, model 8Bh, a number that Intel has not given: software that goes by the model
//! (GCC's `target_clones("arch=...")`, `__builtin_cpu_is`) would take the instructions of a processor that it knows for
//! granted, AVX-512 where that has it. Linux keeps no erratum, vulnerability or bad-microcode entry for it beyond those
//! that IA32_ARCH_CAPABILITIES (see [`ARCH_CAPABILITIES`]) denies, so that a guest runs without retpolines and page-table
//! isolation. The hypervisor bit is set, with the signature `RetrogradeVM`.

mod cpuid;
mod features;
mod isa;
mod presets;
#[cfg(test)]
mod tests;
mod topology;

use std::sync::Arc;

use features::{FEATURES, Level};
use presets::{Identity, PRESETS, Preset, lacking, supported};

pub use cpuid::{compacted_size, component_offset, standard_size};
pub use features::Feature;
pub use isa::{Era, Isa};
pub use topology::Topology;

/// TSC frequency: one tick is one virtual nanosecond. The local APIC timer runs at the same crystal.
pub const TSC_HZ: u32 = 1_000_000_000;

/// IA32_ARCH_CAPABILITIES (SDM vol. 4, MSR 10Ah): RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO,
/// IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. An emulator
/// has none of these side channels.
///
/// BHI_NO does not keep Linux from clearing the branch history by a loop at every system call, since a processor that has
/// it may still be attacked within one privilege level: IA32_SPEC_CTRL.BHI_DIS_S does ([`Feature::BhiCtrl`]).
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

/// Whose rules the processor follows where they differ: SYSCALL and SYSENTER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vendor {
    /// `GenuineIntel`.
    #[default]
    Intel,
    /// `AuthenticAMD`.
    Amd,
}

/// The processor's identity and abilities, and its random-number generator.
#[derive(Clone, Debug)]
pub struct CpuModel {
    name: Box<str>,
    era: Era,
    identity: Identity,
    features: u128,
    /// Whose rules and name it has.
    pub vendor: Vendor,
    /// The instructions that follow from the features.
    isa: Arc<Isa>,
    /// MAXPHYADDR.
    pub phys_bits: u8,
    /// This processor's (x2)APIC id.
    apic_id: u32,
    /// Where it is among the machine's processors.
    topology: Topology,
    /// State of the generator behind RDRAND and RDSEED: part of a snapshot, seeded by the configuration.
    pub rng: u64,
    /// Refused MSR accesses that were logged.
    pub(crate) reports: u32,
}

/// Why a model or a feature cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such model.
    NoModel,
    /// The model needs what is not implemented.
    Incomplete(Vec<&'static str>),
    /// There is no such feature.
    NoFeature,
    /// The feature is not implemented.
    Absent,
    /// It was asked for, and what it needs is off.
    Needs(&'static str),
}

impl Default for CpuModel {
    fn default() -> Self {
        Self::new("max").expect("the fullest model")
    }
}

impl CpuModel {
    /// A model by its name; `None` if there is none (see [`CpuModel::models`]).
    pub fn by_name(name: &str) -> Option<Self> {
        Self::new(name).ok()
    }

    /// A model by its name.
    pub fn new(name: &str) -> Result<Self, Refusal> {
        let preset = Preset::find(name).ok_or(Refusal::NoModel)?;
        let missing = preset.missing();
        if !missing.is_empty() {
            return Err(Refusal::Incomplete(missing));
        }
        let features = supported(preset.features());
        Ok(Self {
            name: name.into(),
            era: preset.era,
            identity: preset.identity,
            features,
            vendor: Vendor::default(),
            isa: Arc::new(Isa::new(preset.era, preset.identity, features, name == "max", false)),
            phys_bits: preset.phys_bits,
            apic_id: 0,
            topology: Topology::default(),
            rng: 0x5245_5452_4f47_5241,
            reports: 0,
        })
    }

    /// The models that can be had: name and one line for `-cpu help`.
    pub fn models() -> impl Iterator<Item = (&'static str, &'static str)> {
        PRESETS
            .iter()
            .filter(|preset| preset.missing().is_empty())
            .map(|preset| (preset.names[0], preset.about))
    }

    /// What is used when nothing is asked for: the x86-64-v3 level, which every current operating system accepts.
    pub fn default_name() -> &'static str {
        let v3 = Preset::find("x86-64-v3").is_some_and(|preset| preset.missing().is_empty());
        if v3 { "x86-64-v3" } else { "max" }
    }

    /// The instructions of this model.
    #[inline]
    pub fn isa(&self) -> &Isa {
        &self.isa
    }

    /// The generation.
    #[inline]
    pub fn era(&self) -> Era {
        self.era
    }

    /// Family, model and stepping: CPUID.01H:EAX, and EDX after reset.
    pub fn signature(&self) -> u32 {
        self.identity.signature
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

    /// Turns features on or off, in this order, by their names in CPUID. What an absent feature would carry goes with it;
    /// to ask for one whose needs are off is a mistake, named with the feature.
    pub fn set_features(&mut self, changes: &[(String, bool)]) -> Result<(), (String, Refusal)> {
        for (name, on) in changes {
            let Some(f) = FEATURES.iter().find(|f| f.1 == name) else {
                // What does not exist is off already.
                if *on {
                    return Err((name.clone(), Refusal::NoFeature));
                }
                continue;
            };
            if *on && f.4 == Level::Never {
                return Err((name.clone(), Refusal::Absent));
            }
            let bit = 1 << f.0 as u8;
            self.features = if *on { self.features | bit } else { self.features & !bit };
        }
        for (name, _) in changes.iter().filter(|(_, on)| *on) {
            let f = FEATURES.iter().find(|f| f.1 == name).map(|f| f.0).filter(|f| self.has(*f));
            if let Some(lacking) = f.and_then(|f| lacking(f, self.features)) {
                return Err((name.clone(), Refusal::Needs(lacking.name())));
            }
        }
        self.features = supported(self.features);
        self.renew_isa();
        Ok(())
    }

    fn renew_isa(&mut self) {
        let (max, yields) = (&*self.name == "max", self.topology.cpus > 1);
        self.isa = Arc::new(Isa::new(self.era, self.identity, self.features, max, yields));
    }

    /// Puts it into a machine of several processors, of which it is the first.
    pub fn set_topology(&mut self, topology: Topology) {
        self.topology = topology;
        self.renew_isa();
    }

    /// Processor number `index` of the same machine: its APIC id and its random numbers are its own.
    pub fn of_processor(&self, index: u32) -> Self {
        let mut other = self.clone();
        other.apic_id = self.topology.apic_id(index);
        other.rng ^= u64::from(index).wrapping_mul(0x2545_f491_4f6c_dd1d);
        other
    }

    /// Where it is among the machine's processors.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Is it the processor that begins at the reset vector, while the others wait for it? The one with APIC id 0.
    pub fn is_bootstrap(&self) -> bool {
        self.apic_id == 0
    }

    /// Turns one feature on or off; `false` if that cannot be.
    pub fn set_feature(&mut self, name: &str, on: bool) -> bool {
        FEATURES.iter().any(|f| f.1 == name) && self.set_features(&[(name.into(), on)]).is_ok()
    }

    /// Names of the features that can be turned on, for `-cpu help`.
    pub fn feature_names() -> impl Iterator<Item = &'static str> {
        FEATURES.iter().filter(|f| f.4 != Level::Never).map(|f| f.1)
    }

    /// RFLAGS bits that are always set besides bit 1.
    pub fn flags_fixed(&self) -> u64 {
        // The 8086 and its kin have no flags there, and the bus gives ones.
        if self.era < Era::I286 { 0xf000 } else { 0 }
    }

    /// CR0 bits that read as ones though they are not there: those of the machine status word of an 80286, and what the
    /// i386 has of CR0 besides (the vectors made on an i386EX show 7FFEFFF0).
    pub fn cr0_fixed(&self) -> u64 {
        match self.era {
            Era::I286 => 0xfff0,
            Era::I386 => 0x7ffe_ffe0,
            _ => 0,
        }
    }

    /// RFLAGS bits that exist: the others keep their value. `protected`: in protected mode.
    pub fn flags_mask(&self, protected: bool) -> u64 {
        match self.era {
            // An 80286 in real mode has neither IOPL nor NT.
            Era::I8086 | Era::I186 | Era::V30 => 0x0fff,
            Era::I286 if !protected => 0x0fff,
            Era::I286 => 0x7fff,
            Era::I386 => 0x3_7fff,
            _ if self.identity.max_basic == 0 => 0x7_7fff,
            _ => u64::MAX,
        }
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
