//! What instructions are drawn from.

use iced_x86::{Code, CpuidFeature, FlowControl, Mnemonic};

use crate::harness::generate;
use crate::harness::guest::Bits;
use crate::harness::host;
use crate::harness::random::Rng;

/// Modes, and how many of a hundred cases run in them.
const MODES: [(Bits, u64); 3] = [(Bits::Long, 60), (Bits::Compat32, 28), (Bits::Flat32, 12)];

/// The forms that a campaign draws from, by mode.
#[derive(Clone, Debug)]
pub struct Plan {
    modes: Vec<Mode>,
}

#[derive(Clone, Debug)]
struct Mode {
    bits: Bits,
    share: u64,
    codes: Vec<Code>,
    /// Those that programs are made of.
    inner: Vec<Code>,
}

/// Names of families for `--features`, each with what iced-x86 calls its parts.
pub fn families() -> Vec<(&'static str, Vec<CpuidFeature>)> {
    use CpuidFeature as F;
    let mut all = vec![
        ("integer", generate::INTEGER.to_vec()),
        ("x87", generate::X87.to_vec()),
        ("vector", generate::VECTOR.to_vec()),
        ("bmi", vec![F::BMI1, F::BMI2, F::LZCNT, F::POPCNT]),
    ];
    for feature in crate::completeness::features::FEATURES {
        if !feature.codes.is_empty() && feature.name != "fpu" {
            all.push((feature.name, feature.codes.to_vec()));
        }
    }
    all
}

impl Plan {
    /// All forms of these families (all, if none is named); the error names what is unknown.
    pub fn new(names: &[String]) -> Result<Self, String> {
        let families = families();
        let mut wanted = Vec::new();
        for name in names {
            let family = families.iter().find(|(known, _)| known == name);
            let (_, features) = family.ok_or_else(|| {
                let known: Vec<_> = families.iter().map(|(name, _)| *name).collect();
                format!("`{name}` is no family of instructions; there are {}", known.join(", "))
            })?;
            wanted.extend(features.iter().copied());
        }
        let named = |c: &Code| names.is_empty() || c.cpuid_features().iter().any(|f| wanted.contains(f));
        let mode = |(bits, share)| {
            let mut codes = generate::codes(generate::ALL, bits);
            codes.retain(named);
            let inner = generate::program_codes(&codes);
            Mode { bits, share, codes, inner }
        };
        let modes: Vec<Mode> = MODES.map(mode).into_iter().filter(|m| !m.codes.is_empty()).collect();
        if modes.is_empty() {
            return Err(format!("no instruction belongs to {}", names.join(", ")));
        }
        Ok(Self { modes })
    }

    /// Forms whose iced-x86 name contains `text` only.
    pub fn only(mut self, text: &str) -> Result<Self, String> {
        for m in &mut self.modes {
            m.codes.retain(|c| format!("{c:?}").contains(text));
            m.inner.retain(|c| format!("{c:?}").contains(text));
        }
        self.modes.retain(|m| !m.codes.is_empty());
        if self.modes.is_empty() { Err(format!("no form's name contains `{text}`")) } else { Ok(self) }
    }

    fn mode(&self, rng: &mut Rng) -> &Mode {
        let all: u64 = self.modes.iter().map(|m| m.share).sum();
        let mut at = rng.below(all);
        for m in &self.modes {
            if at < m.share {
                return m;
            }
            at -= m.share;
        }
        &self.modes[0]
    }

    /// One form, in one mode.
    pub(super) fn draw(&self, rng: &mut Rng) -> (Bits, Code) {
        let mode = self.mode(rng);
        (mode.bits, rng.pick(&mode.codes))
    }

    /// A mode, and the forms that a program in it is made of.
    pub(super) fn for_program(&self, rng: &mut Rng) -> (Bits, &[Code]) {
        let mode = self.mode(rng);
        (mode.bits, if mode.inner.is_empty() { &mode.codes } else { &mode.inner })
    }

    /// All forms, in any mode.
    pub fn codes(&self) -> Vec<Code> {
        let mut all: Vec<Code> = self.modes.iter().flat_map(|m| m.codes.iter().copied()).collect();
        all.sort_by_key(|c| *c as u32);
        all.dedup();
        all
    }

    /// Forms that the host's CPU lacks.
    pub fn unsupported(&self) -> Vec<Mnemonic> {
        let mut all: Vec<_> =
            self.codes().into_iter().filter(|c| !host::supports(c.cpuid_features())).collect();
        all.retain(|c| c.flow_control() != FlowControl::Exception);
        let mut names: Vec<_> = all.into_iter().map(Code::mnemonic).collect();
        names.dedup();
        names
    }
}
