//! What a campaign found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use iced_x86::{Code, Instruction};

use crate::harness::guest::Bits;
use crate::harness::state::State;

/// A case that did not come out as it should.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Its number.
    pub number: u64,
    /// Its form, or that of the first instruction of a program.
    pub form: Code,
    /// Is it a program of several instructions?
    pub is_program: bool,
    text: String,
}

impl Mismatch {
    pub(super) fn new(
        number: u64,
        bits: Bits,
        code: &[u8],
        insns: &[Instruction],
        s: &State,
        wrong: Vec<String>,
    ) -> Self {
        let hex: Vec<_> = code.iter().map(|b| format!("{b:02x}")).collect();
        let form = insns.first().map_or(Code::INVALID, Instruction::code);
        let mut text = format!("case {number} ({bits:?}): {}\n", hex.join(" "));
        for x in insns {
            text += &format!("  {x}  ({:?})\n", x.code());
        }
        let gpr: Vec<_> = s.gpr.iter().map(|g| format!("{g:x}")).collect();
        text += &format!(
            "  before: flags {:x}, mxcsr {:x}, fcw {:x}, fsw {:x}, ftag {:x}, rax.. {}\n",
            s.rflags,
            s.mxcsr,
            s.fp.cw,
            s.fp.sw,
            s.fp.tag,
            gpr.join(" ")
        );
        if insns.len() == 1 {
            text += &operands(&insns[0], s);
        }
        for line in wrong {
            text += &format!("  {line}\n");
        }
        Self { number, form, is_program: insns.len() > 1, text }
    }
}

/// Vector and x87 registers that the instruction may read.
fn operands(x: &Instruction, s: &State) -> String {
    let mut text = String::new();
    for n in 0..x.op_count() {
        let r = x.op_register(n);
        if r.is_vector_register() {
            let n = r.number();
            text += &format!("  {r:?} before: {:032x}{:032x}\n", s.high[n], s.xmm[n]);
        }
    }
    if format!("{:?}", x.mnemonic()).starts_with('F') {
        for n in 0..8 {
            let hex: String = s.fp.st[n].iter().rev().map(|b| format!("{b:02x}")).collect();
            text += &format!("  st{n} before: {hex}\n");
        }
    }
    text
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Counts of one tier.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerTier {
    /// Cases executed.
    pub cases: u64,
    /// Those of them that the host's CPU executed too.
    pub on_host: u64,
    /// Those with a difference.
    pub mismatches: u64,
}

/// Counts of a campaign.
#[derive(Clone, Debug)]
pub struct Tally {
    /// By tier.
    pub tiers: BTreeMap<usize, PerTier>,
    /// Cases with a difference, by form.
    pub forms: BTreeMap<String, u64>,
    /// Forms that came.
    drawn: BTreeSet<u32>,
    /// How long it took.
    pub seconds: f64,
    /// There were too many mismatches to go on.
    pub stopped_early: bool,
}

impl Tally {
    pub(super) fn new(tiers: &[usize]) -> Self {
        Self {
            tiers: tiers.iter().map(|t| (*t, PerTier::default())).collect(),
            forms: BTreeMap::new(),
            drawn: BTreeSet::new(),
            seconds: 0.0,
            stopped_early: false,
        }
    }

    pub(super) fn count(&mut self, tier: usize, on_host: bool, differs: bool) {
        let t = self.tiers.entry(tier).or_default();
        t.cases += 1;
        t.on_host += u64::from(on_host);
        t.mismatches += u64::from(differs);
    }

    pub(super) fn seen(&mut self, insns: &[Instruction]) {
        self.drawn.extend(insns.iter().map(|x| x.code() as u32));
    }

    pub(super) fn note(&mut self, m: &Mismatch) {
        let name = if m.is_program { "a program".into() } else { format!("{:?}", m.form) };
        *self.forms.entry(name).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (tier, t) in &other.tiers {
            let sum = self.tiers.entry(*tier).or_default();
            sum.cases += t.cases;
            sum.on_host += t.on_host;
            sum.mismatches += t.mismatches;
        }
        for (name, n) in &other.forms {
            *self.forms.entry(name.clone()).or_default() += n;
        }
        self.drawn.extend(&other.drawn);
    }

    /// Cases with a difference, of all tiers together.
    pub fn mismatches(&self) -> u64 {
        self.tiers.values().map(|t| t.mismatches).sum()
    }

    /// Forms that came at least once.
    pub fn forms_drawn(&self) -> usize {
        self.drawn.len()
    }
}
