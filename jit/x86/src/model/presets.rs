//! The models of `-cpu`: one table.
//!
//! A model is a set of features and an identity. Old ones name their features; the others are levels of the feature
//! table. What a model names and is not implemented is left out of it, so that CPUID stays honest; the x86-64-v3 level is
//! refused while that is so, since software asks for it by name.

use super::Feature as F;
use super::features::{FEATURES, Level};
use super::isa::Era;

/// What CPUID says besides the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Family, model and stepping as CPUID.01H:EAX has them, and EDX at reset.
    pub signature: u32,
    /// Highest basic leaf; 0: there is no CPUID instruction, and EFLAGS.ID cannot be set.
    pub max_basic: u32,
    /// Highest extended leaf; 0: none.
    pub max_extended: u32,
}

/// Our own: family 6, model 8Bh, stepping 8.
const OURS: Identity = Identity { signature: 0x0008_06b8, max_basic: 0x16, max_extended: 0x8000_0008 };

const fn old(signature: u32, max_basic: u32) -> Identity {
    Identity { signature, max_basic, max_extended: 0 }
}

/// Where a model's features come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Set {
    /// All of the table up to this level.
    Level(Level),
    /// These.
    Of(&'static [&'static [F]]),
    /// A level and these besides.
    Both(Level, &'static [&'static [F]]),
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preset {
    pub names: &'static [&'static str],
    /// For `-cpu help`.
    pub about: &'static str,
    pub era: Era,
    pub set: Set,
    pub identity: Identity,
    /// MAXPHYADDR.
    pub phys_bits: u8,
    /// Refuse the model while something of its level is not implemented.
    pub complete: bool,
}

const I486: &[F] = &[F::Fpu, F::Vme, F::Pse];
const P5: &[F] = &[F::De, F::Tsc, F::Msr, F::Mce, F::Cx8, F::Mmx];
const P6: &[F] = &[F::Pae, F::Sep, F::Mtrr, F::Pge, F::Mca, F::Cmov, F::Pat, F::Pse36, F::Fxsr, F::Apic];
const P3: &[F] = &[F::Sse];
/// What 64-bit processors of the middle 2000s have besides the baseline.
const CORE2: &[F] = &[F::Sse3, F::Ssse3, F::Cx16, F::Monitor];
/// What Intel's third Core generation has besides x86-64-v2.
const IVY_BRIDGE: &[F] = &[
    F::Pclmulqdq,
    F::Aes,
    F::Xsave,
    F::Xsaveopt,
    F::Avx,
    F::F16c,
    F::Rdrand,
    F::Fsgsbase,
    F::Smep,
    F::Erms,
    F::Pcid,
    F::X2apic,
    F::TscDeadline,
    F::Rdtscp,
];
/// What today's operating systems use when it is there, and every one of them accepts.
const SYSTEM: &[F] = &[
    F::TscDeadline,
    F::Fsgsbase,
    F::TscAdjust,
    F::Smep,
    F::Smap,
    F::Umip,
    F::Pcid,
    F::Invpcid,
    F::Erms,
    F::Fsrm,
    F::Rdrand,
    F::Rdseed,
    F::Adx,
    F::Aes,
    F::Pclmulqdq,
    F::Clflushopt,
    F::Clwb,
    F::Rdpid,
    F::Rdtscp,
    F::Pdpe1gb,
    F::Prefetchw,
    F::Xsave,
    F::Xsaveopt,
    F::Xsavec,
    F::Xgetbv1,
    F::SpecCtrl,
    F::Stibp,
    F::Ssbd,
    F::BhiCtrl,
    F::McdtNo,
    F::ArchCapabilities,
    F::InvariantTsc,
    F::Vme,
];

const fn line(
    names: &'static [&'static str],
    about: &'static str,
    era: Era,
    set: Set,
    identity: Identity,
    phys_bits: u8,
) -> Preset {
    Preset { names, about, era, set, identity, phys_bits, complete: false }
}

/// Every model; the first name of a line is the one that help shows.
pub(super) const PRESETS: &[Preset] = &[
    line(&["max"], "everything that is implemented", Era::Modern, Set::Level(Level::Max), OURS, 40),
    Preset {
        complete: true,
        ..line(
            &["x86-64-v3"],
            "the x86-64-v3 level: AVX2, FMA, BMI; and what operating systems use of later ones",
            Era::Modern,
            Set::Both(Level::V3, &[SYSTEM]),
            OURS,
            40,
        )
    },
    line(
        &["x86-64-v2"],
        "the x86-64-v2 level: SSE4.2, POPCNT, CMPXCHG16B",
        Era::Modern,
        Set::Level(Level::V2),
        OURS,
        40,
    ),
    line(&["x86-64-v1", "x86-64"], "the x86-64 baseline: SSE2", Era::Modern, Set::Level(Level::V1), OURS, 40),
    line(&["qemu64"], "the same", Era::Modern, Set::Level(Level::V1), OURS, 40),
    line(
        &["kvm64"],
        "the same and SSE3, CMPXCHG16B",
        Era::Modern,
        Set::Both(Level::V1, &[&[F::Sse3, F::Cx16]]),
        OURS,
        40,
    ),
    line(&["core2duo"], "the same and SSSE3", Era::Modern, Set::Both(Level::V1, &[CORE2]), OURS, 36),
    line(&["Nehalem"], "as x86-64-v2", Era::Modern, Set::Level(Level::V2), OURS, 40),
    line(&["Opteron_G1"], "x86-64-v1 and SSE3", Era::Modern, Set::Both(Level::V1, &[&[F::Sse3]]), OURS, 40),
    line(&["IvyBridge"], "x86-64-v2, AVX, AES", Era::Modern, Set::Both(Level::V2, &[IVY_BRIDGE]), OURS, 40),
    line(&["qemu32"], "32-bit, SSE2", Era::Modern, Set::Level(Level::X86), OURS, 36),
    line(&["kvm32"], "the same", Era::Modern, Set::Level(Level::X86), OURS, 36),
    line(&["pentium3"], "32-bit, SSE", Era::Modern, Set::Of(&[I486, P5, P6, P3]), old(0x673, 2), 36),
    line(
        &["pentium2"],
        "32-bit, MMX, SYSENTER, FXSAVE",
        Era::Modern,
        Set::Of(&[I486, P5, P6]),
        old(0x652, 2),
        36,
    ),
    line(&["pentium"], "32-bit, MMX", Era::Modern, Set::Of(&[I486, P5]), old(0x543, 1), 32),
    line(&["486"], "i486 with FPU and CPUID", Era::I486, Set::Of(&[I486]), old(0x480, 1), 32),
    line(&["386"], "i386 with i387, without CPUID", Era::I386, Set::Of(&[&[F::Fpu]]), old(0x308, 0), 32),
    line(&["286"], "80286 with 80287", Era::I286, Set::Of(&[&[F::Fpu]]), old(0, 0), 24),
    line(
        &["v30", "v20"],
        "NEC V30 without FPU, in native mode; emulation of the 8080 (BRKEM) is not there",
        Era::V30,
        Set::Of(&[]),
        old(0, 0),
        20,
    ),
    line(
        &["80186", "80188", "186"],
        "80186 without FPU and peripherals, in real mode",
        Era::I186,
        Set::Of(&[]),
        old(0, 0),
        20,
    ),
    line(&["8086", "8088"], "8086 without FPU, in real mode", Era::I8086, Set::Of(&[]), old(0, 0), 20),
];

impl Preset {
    /// The line that has this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.names.contains(&name))
    }

    fn names_feature(&self, f: F, level: Level) -> bool {
        let (up_to, lists): (_, &[&[F]]) = match self.set {
            Set::Level(up_to) => (Some(up_to), &[]),
            Set::Of(lists) => (None, lists),
            Set::Both(up_to, lists) => (Some(up_to), lists),
        };
        up_to.is_some_and(|up_to| level <= up_to) || lists.iter().any(|list| list.contains(&f))
    }

    /// The features, as bits: what is named and implemented.
    pub fn features(&self) -> u128 {
        let mine = FEATURES.iter().filter(|f| f.4 != Level::Never && self.names_feature(f.0, f.4));
        mine.fold(0, |bits, f| bits | 1 << f.0 as u8)
    }

    /// What keeps the model from being there: the features of its level that are not implemented.
    pub fn missing(&self) -> Vec<&'static str> {
        if !self.complete {
            return Vec::new();
        }
        V3.iter()
            .filter(|f| FEATURES.iter().any(|line| line.0 == **f && line.4 == Level::Never))
            .filter_map(|f| FEATURES.iter().find(|line| line.0 == *f).map(|line| line.1))
            .collect()
    }
}

/// The x86-64-v3 level beyond v2 (x86-64 psABI, table 3.1).
const V3: &[F] = &[F::Avx, F::Avx2, F::Bmi1, F::Bmi2, F::F16c, F::Fma, F::Lzcnt, F::Movbe, F::Xsave];

/// What a feature cannot be without.
const NEEDS: &[(F, &[F])] = &[
    (F::Sse, &[F::Fxsr]),
    (F::Sse2, &[F::Sse]),
    (F::Sse3, &[F::Sse2]),
    (F::Ssse3, &[F::Sse3]),
    (F::Sse41, &[F::Ssse3]),
    (F::Sse42, &[F::Sse41]),
    (F::Sse4a, &[F::Sse3]),
    (F::Aes, &[F::Sse2]),
    (F::Pclmulqdq, &[F::Sse2]),
    (F::Sha, &[F::Ssse3]),
    (F::Avx, &[F::Xsave, F::Sse42]),
    (F::Avx2, &[F::Avx]),
    (F::Fma, &[F::Avx]),
    (F::F16c, &[F::Avx]),
    (F::Xsave, &[F::Fxsr]),
    (F::Xsaveopt, &[F::Xsave]),
    (F::Xsavec, &[F::Xsave]),
    (F::Xgetbv1, &[F::Xsave]),
    (F::Xsaves, &[F::Xsavec]),
    (F::Pku, &[F::Lm, F::Xsave]),
    (F::Lm, &[F::Pae, F::Msr, F::Cx8, F::Cmov, F::Sse2]),
    (F::Cx16, &[F::Lm, F::Cx8]),
    (F::LahfLm, &[F::Lm]),
    (F::Fsgsbase, &[F::Lm]),
    (F::Pdpe1gb, &[F::Lm]),
    (F::Pcid, &[F::Lm, F::Pge]),
    (F::La57, &[F::Lm]),
    (F::Nx, &[F::Pae]),
    (F::Pse36, &[F::Pse]),
    (F::X2apic, &[F::Apic]),
    (F::TscDeadline, &[F::Apic, F::Tsc]),
    (F::Rdtscp, &[F::Tsc, F::Msr]),
    (F::TscAdjust, &[F::Tsc, F::Msr]),
    (F::InvariantTsc, &[F::Tsc]),
    (F::Mmx, &[F::Fpu]),
    (F::Fxsr, &[F::Fpu]),
    (F::Mca, &[F::Mce, F::Msr]),
    (F::Mtrr, &[F::Msr]),
    (F::Sep, &[F::Msr]),
    (F::BhiCtrl, &[F::SpecCtrl]),
];

/// What `f` needs and `bits` lacks.
pub(super) fn lacking(f: F, bits: u128) -> Option<F> {
    let needs = NEEDS.iter().find(|(what, _)| *what == f).map_or(&[][..], |(_, needs)| needs);
    needs.iter().copied().find(|need| bits >> *need as u8 & 1 == 0)
}

/// `bits` without the features whose needs are not met.
pub(super) fn supported(mut bits: u128) -> u128 {
    loop {
        let before = bits;
        for (f, _) in NEEDS {
            if lacking(*f, bits).is_some() {
                bits &= !(1 << *f as u8);
            }
        }
        if bits == before {
            return bits;
        }
    }
}
