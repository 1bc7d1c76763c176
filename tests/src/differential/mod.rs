//! Campaigns of random cases: each tier against the host's CPU, and against each other.
//!
//! A case is one random instruction in one random state, or (one in [`PROGRAM_EVERY`] groups) a short program, for which
//! the tiers are compared with each other only. Cases come in groups of [`STATES`] that share the instruction, so that it is
//! compiled once. A case is a function of the seed, its number and what it may be drawn from: nothing else.

mod plan;
mod report;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use iced_x86::Instruction;

use crate::harness::check::against_host;
use crate::harness::generate::{self, Program};
use crate::harness::guest::{self, Bits, TIERS};
use crate::harness::host::{self, Question};
use crate::harness::random::Rng;
use crate::harness::state::{After, Compare, REPORT, State, VISIBLE, differences};
use crate::harness::undefined;

pub use plan::{Plan, families};
pub use report::{Mismatch, Tally};

/// Cases that share an instruction.
pub const STATES: u64 = 4;
/// One group in so many is of programs.
pub const PROGRAM_EVERY: u64 = 16;
/// Mismatches after which a campaign stops.
const ENOUGH: u64 = 2000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Everything random comes from it.
    pub seed: u64,
    /// The numbers of the cases.
    pub cases: std::ops::Range<u64>,
    /// Indices into [`TIERS`].
    pub tiers: Vec<usize>,
    /// What instructions are drawn from.
    pub plan: Plan,
    /// Threads.
    pub jobs: usize,
}

/// One case, whatever it consists of.
struct Case {
    number: u64,
    bits: Bits,
    code: Vec<u8>,
    insns: Vec<Instruction>,
    state: State,
    /// Flags and x87 status bits that count against the host; `None`: it is not asked.
    host: Option<(u64, u16)>,
}

impl Campaign {
    fn case(&self, number: u64) -> Option<Case> {
        let group = number / STATES;
        let mut operands = Rng(self.seed.wrapping_mul(0x1_0000_0001) ^ group.wrapping_mul(0x9e37_79b9) << 20);
        let mut operands = Rng(operands.draw());
        let mut rng = Rng(operands.0 ^ (number % STATES + 1).wrapping_mul(0xd1b5_4a32_d192_ed03));
        let mut rng = Rng(rng.draw());
        if group % PROGRAM_EVERY == PROGRAM_EVERY - 1 {
            let (bits, codes) = self.plan.for_program(&mut operands);
            let turns = if operands.one_in(4) { 20 } else { 1 };
            let Program { code, state, .. } = generate::program(&mut operands, codes, bits, turns);
            let insns = crate::harness::check::decode(&code, bits, crate::harness::layout::CODE);
            // The same code, but for the first state, with other registers.
            let state = if number.is_multiple_of(STATES) {
                state
            } else {
                generate::program_state(&mut rng, bits, &state)
            };
            return Some(Case { number, bits, code, insns, state, host: None });
        }
        let (bits, code) = self.plan.draw(&mut operands);
        let case = generate::case_of(&mut operands, &mut rng, code, bits)?;
        let insns = vec![case.insn];
        let asked = host::is_asked(bits, &insns, &case.state) && !undefined::result(&case.insn, &case.state);
        let host = asked.then(|| {
            let flags = VISIBLE & !undefined::flags(&case.insn, &case.state);
            (flags, undefined::status(&insns))
        });
        Some(Case { number, bits, code: case.code, insns, state: case.state, host })
    }

    /// Runs everything; `each` sees every mismatch as it is found.
    pub fn run(&self, each: &(dyn Fn(&Mismatch) + Sync)) -> Tally {
        let next = AtomicU64::new(self.cases.start);
        let stop = AtomicBool::new(false);
        let total = Mutex::new(Tally::new(&self.tiers));
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    let mut tally = Tally::new(&self.tiers);
                    loop {
                        let from = next.fetch_add(host::BATCH as u64, Ordering::Relaxed);
                        if from >= self.cases.end || stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let to = (from + host::BATCH as u64).min(self.cases.end);
                        self.batch(from..to, &mut tally, each);
                        if tally.mismatches() > ENOUGH {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                    total.lock().expect("no thread panicked").add(&tally);
                });
            }
        });
        let mut total = total.into_inner().expect("no thread panicked");
        total.seconds = started.elapsed().as_secs_f64();
        total.stopped_early = stop.load(Ordering::Relaxed);
        total
    }

    fn batch(&self, numbers: std::ops::Range<u64>, tally: &mut Tally, each: &(dyn Fn(&Mismatch) + Sync)) {
        let cases: Vec<Case> = numbers.filter_map(|n| self.case(n)).collect();
        let asked = || cases.iter().filter(|c| c.host.is_some());
        let questions: Vec<Question> =
            asked().map(|c| Question { bits: c.bits, code: &c.code, state: &c.state }).collect();
        let mut ours: Vec<Vec<After>> = Vec::new();
        let run = || {
            // Tier 0 always: it is what the others are compared with.
            let tiers = |c: &Case| {
                let mut all = vec![guest::run(0, c.bits, 3, &c.code, &c.state)];
                let others = self.tiers.iter().filter(|t| **t != 0);
                all.extend(others.map(|t| guest::run(*t, c.bits, 3, &c.code, &c.state)));
                all
            };
            ours = cases.iter().map(tiers).collect();
        };
        let theirs = host::batch(&questions, run);
        let mut theirs = theirs.into_iter().flatten();
        for (case, ours) in cases.iter().zip(&ours) {
            let theirs = case.host.and_then(|_| theirs.next());
            self.judge(case, ours, theirs.as_ref(), tally, each);
        }
    }

    fn judge(
        &self,
        case: &Case,
        ours: &[After],
        theirs: Option<&After>,
        tally: &mut Tally,
        each: &(dyn Fn(&Mismatch) + Sync),
    ) {
        let others: Vec<usize> = self.tiers.iter().copied().filter(|t| *t != 0).collect();
        let mut wrong = Vec::new();
        let report = ours[0].end.vector == REPORT;
        let against = match (theirs, case.host) {
            (Some(host), Some((flags, sw))) if !report => {
                against_host(&ours[0], host, &case.insns, &case.state, flags, sw)
            }
            _ => Vec::new(),
        };
        for tier in &self.tiers {
            // A tier that agrees with tier 0 agrees with the host exactly if that does.
            let after = others.iter().position(|t| t == tier).map(|n| &ours[n + 1]);
            let between = after.map_or(Vec::new(), |after| differences(&ours[0], after, Compare::TIERS));
            let mut lines: Vec<String> =
                between.iter().map(|d| format!("tier 0 / tier {tier}: {d}")).collect();
            lines.extend(against.iter().map(|d| format!("tier {tier} / host: {d}")));
            if report {
                lines.push(format!("tier {tier} reports: {:?}", ours[0].report));
            }
            tally.count(*tier, theirs.is_some(), !lines.is_empty());
            wrong.extend(lines);
        }
        tally.seen(&case.insns);
        if !wrong.is_empty() {
            let mismatch = Mismatch::new(case.number, case.bits, &case.code, &case.insns, &case.state, wrong);
            tally.note(&mismatch);
            each(&mismatch);
        }
    }
}

/// The tier by its number.
pub fn tier_name(tier: usize) -> String {
    format!("{:?}", TIERS[tier])
}
