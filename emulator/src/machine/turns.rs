//! Several vCPUs on one thread: whose turn it is, for how long, and how time goes on meanwhile.
//!
//! Requirement: the run is a function of the images, the configuration and the seed, down to each instruction; no vCPU starves;
//! and N vCPUs that work are N processors of the usual speed, as the guest measures it.
//!
//! Solution: *rounds*. In a round every vCPU that can run has one turn, in an order that the seed shuffles; a turn is a number of
//! instructions that the seed varies around [`SLICE`]. A vCPU that can run from some point of a round on (an interrupt or a start-up
//! IPI came) gets its turn at the end of it, unless it has had one. There is one clock, and it only goes on: while N vCPUs share a
//! round, an instruction takes 1/N ns, so that a round takes as long as a slice and not as all of them
//! ([`Pace`](x86::state::Pace)). What one vCPU did is earlier, for its clock as for the others', than what the next one does; time-stamp
//! counters never run backwards between them. Time that a port access takes is taken from the turn.
//!
//! A turn ends early at HLT, MWAIT and PAUSE; what is left of it passes (up to the next device's deadline), as if the vCPU had spun.
//! While only one can run, there are no turns: it runs at full pace from event to event, as on a machine with one processor, until
//! an access of its own or a deadline makes another one able to run. (While one waits by MWAIT for a store there are turns, and it is
//! looked at between them.)
//! Events are looked at between turns and where the running vCPU leaves the engine, both at fixed counts.
//!
//! The bus goes with the turn: the vCPU whose turn it is holds the devices, so that nothing is shared and nothing is locked; the
//! others hold [`Parked`]. The memory map is one: SMRAM appears and disappears with the turns of a vCPU in SMM.
//! Limitation: a device access that takes time (a microsecond for an ISA port) takes it from all.

use devices::lapic::{LocalApics, signal};
use jit::{Engine, Stats};
use serde::{Deserialize, Serialize};
use x86::Vcpu;
use x86::state::{Pace, rflags};

use super::Machine;
use super::parked::Parked;

/// Instructions in a turn, on average. Short, so that processors that wait for one another (with a spinning one among them) do
/// not wait long; long against what a change of turns costs the host.
const SLICE: u64 = 20_000;

/// What a saved machine remembers of its turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TurnState {
    /// Whose turn it is.
    pub current: usize,
    /// Who comes next in this round.
    queue: Vec<usize>,
    /// Who has had a turn in this round, has it, or is in the queue.
    in_round: Vec<bool>,
    /// Instructions left of this turn; `None`: it is alone.
    left: Option<u64>,
    /// The generator behind order and lengths.
    rng: u64,
}

/// See the module.
pub(super) struct Turns {
    /// The vCPUs whose turn it is not, with their engines, by number.
    parked: Vec<Option<(Box<Vcpu>, Engine)>>,
    pub state: TurnState,
}

impl Turns {
    /// `others`: all vCPUs but number 0, whose turn it is.
    pub fn new(others: impl Iterator<Item = (Box<Vcpu>, Engine)>, seed: u64) -> Self {
        let parked: Vec<_> = std::iter::once(None).chain(others.map(Some)).collect();
        let in_round = vec![false; parked.len()];
        let state = TurnState { in_round, rng: seed, ..TurnState::default() };
        Self { parked, state }
    }

    /// Is there more than one vCPU?
    pub fn several(&self) -> bool {
        self.parked.len() > 1
    }

    /// Number of vCPUs.
    pub fn count(&self) -> usize {
        self.parked.len()
    }

    /// The vCPUs whose turn it is not.
    pub fn others(&mut self) -> impl Iterator<Item = (usize, &mut Vcpu)> {
        self.others_and_engines().map(|(n, cpu, _)| (n, cpu))
    }

    /// Those, with their engines.
    pub fn others_and_engines(&mut self) -> impl Iterator<Item = (usize, &mut Vcpu, &mut Engine)> {
        self.parked.iter_mut().enumerate().filter_map(|(n, parked)| {
            let (cpu, engine) = parked.as_mut()?;
            Some((n, &mut **cpu, engine))
        })
    }

    /// What the others have counted.
    pub fn stats(&self) -> impl Iterator<Item = Stats> {
        self.parked.iter().flatten().map(|(_, engine)| engine.stats())
    }

    /// How many of them wait for a store by MWAIT.
    fn waiting(&self) -> usize {
        self.parked.iter().flatten().filter(|(cpu, _)| cpu.waits_for_store()).count()
    }

    /// Instructions that they have retired.
    pub fn retired(&self) -> u64 {
        self.parked.iter().flatten().fold(0, |sum, (cpu, _)| sum.wrapping_add(cpu.st.icount()))
    }
}

impl TurnState {
    /// SplitMix64.
    fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.rng ^ self.rng >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below.max(1)
    }

    fn begin_round(&mut self, mut able: Vec<usize>) {
        for n in (1..able.len()).rev() {
            let other = self.random(n as u64 + 1) as usize;
            able.swap(n, other);
        }
        self.in_round.fill(false);
        for cpu in &able {
            self.in_round[*cpu] = true;
        }
        able.reverse();
        self.queue = able;
    }

    /// vCPUs that share the round's time.
    fn sharers(&self) -> u32 {
        self.in_round.iter().filter(|n| **n).count().max(1) as u32
    }

    /// Does it fit a machine with `cpus` vCPUs?
    pub fn fits(&self, cpus: usize) -> bool {
        self.in_round.len() == cpus && self.current < cpus && self.queue.iter().all(|n| *n < cpus)
    }
}

/// Counts time for `cpu` from `now` on as one of `sharers`.
pub(super) fn set_pace(cpu: &mut Vcpu, now: u64, sharers: u32) {
    let st = &mut cpu.st;
    let count = st.icount();
    if sharers > 1 {
        (st.pace, st.time_offset) = (Pace { origin: count, divisor: sharers }, now);
    } else {
        (st.pace, st.time_offset) = (Pace::default(), now.wrapping_sub(count));
    }
}

impl Machine {
    /// Retired instructions of all vCPUs.
    pub fn retired(&self) -> u64 {
        self.cpu.st.icount().wrapping_add(self.turns.retired())
    }

    /// Number of vCPUs.
    pub fn cpus(&self) -> usize {
        self.turns.count()
    }

    /// vCPU number `index`, whose registers are those between two turns.
    pub fn vcpu(&mut self, index: usize) -> Option<&mut Vcpu> {
        if index == self.turns.state.current {
            return Some(&mut self.cpu);
        }
        self.turns.parked.get_mut(index)?.as_mut().map(|(cpu, _)| &mut **cpu)
    }

    /// Can vCPU `index` execute something?
    fn is_able(&self, index: usize) -> bool {
        let any: &dyn std::any::Any = &*self.cpu.bus;
        let bus = any.downcast_ref::<super::PcBus>().expect("the machine made the bus");
        let cpu = match &self.turns.parked[index] {
            Some((cpu, _)) => cpu,
            None => &self.cpu,
        };
        !cpu.st.halted || wakes(cpu, index, bus.devices.local_apics())
    }

    fn able(&self) -> Vec<usize> {
        (0..self.turns.count()).filter(|n| self.is_able(*n)).collect()
    }

    /// Gives the turn to `next`.
    fn turn_to(&mut self, next: usize, now: u64) {
        let current = self.turns.state.current;
        if next != current
            && let Some((mut cpu, engine)) = self.turns.parked[next].take()
        {
            std::mem::swap(&mut self.cpu.bus, &mut cpu.bus);
            let before = (std::mem::replace(&mut self.cpu, cpu), std::mem::replace(&mut self.engine, engine));
            self.turns.parked[current] = Some(before);
            self.turns.state.current = next;
            let smm = self.cpu.st.smm;
            self.bus().turn_to(next, smm);
            self.cpu.sync_a20();
        }
        let sharers = self.turns.state.sharers();
        set_pace(&mut self.cpu, now, sharers);
    }

    /// The turn of the running vCPU is over with `left` instructions of it to go: they pass, up to `deadline`.
    fn pass_rest(&mut self, left: u64, now: u64, deadline: Option<u64>) -> u64 {
        let rest = left / u64::from(self.cpu.st.pace.divisor);
        let rest = deadline.map_or(rest, |at| rest.min(at.saturating_sub(now)));
        self.cpu.st.time_offset = self.cpu.st.time_offset.wrapping_add(rest);
        now.wrapping_add(rest)
    }

    /// Decides who runs from `now` on; the time then. If that one is halted and cannot be woken, all are.
    pub(super) fn next_turn(&mut self, now: u64, deadline: Option<u64>) -> u64 {
        let current = self.turns.state.current;
        let mut able = self.able();
        let yielded = std::mem::take(&mut self.cpu.st.yielded);
        let goes_on = able.contains(&current);
        let state = &mut self.turns.state;
        let sharers = state.sharers();
        let mut now = now;
        match state.left {
            // Alone until now.
            None if goes_on && able.len() == 1 => {
                state.in_round.fill(false);
                state.in_round[current] = true;
                return now;
            }
            None => state.queue.clear(),
            Some(left) => {
                for cpu in &able {
                    if !std::mem::replace(&mut state.in_round[*cpu], true) {
                        state.queue.insert(0, *cpu);
                    }
                }
                if goes_on && !yielded && left > 0 {
                    if state.sharers() != sharers {
                        let sharers = state.sharers();
                        set_pace(&mut self.cpu, now, sharers);
                    }
                    return now;
                }
                if left > 0 && able.iter().any(|n| *n != current) {
                    now = self.pass_rest(left, now, deadline);
                }
            }
        }
        // Between turns only: where else a turn is interrupted is not always the same.
        if self.turns.waiting() > 0 || self.cpu.waits_for_store() {
            self.cpu.look_at_monitored();
            self.turns.others().for_each(|(_, cpu)| cpu.look_at_monitored());
            able = self.able();
        }
        self.begin_turn(&able, now);
        now
    }

    fn begin_turn(&mut self, able: &[usize], now: u64) {
        let waiting = self.turns.waiting();
        let state = &mut self.turns.state;
        let next = loop {
            match state.queue.pop() {
                Some(next) if able.contains(&next) => break Some(next),
                Some(_) => {}
                None => break None,
            }
        };
        let next = match next {
            Some(next) => next,
            None => {
                state.begin_round(able.to_vec());
                // Nobody: whose turn it is waits for all.
                state.queue.pop().unwrap_or(state.current)
            }
        };
        state.left = if able.len() > 1 || state.sharers() > 1 || waiting > 0 && !able.is_empty() {
            Some(SLICE / 2 + state.random(SLICE))
        } else {
            None
        };
        self.turn_to(next, now);
    }

    /// The count at which the running vCPU has to be looked at again for the sake of others.
    pub(super) fn turn_limit(&self) -> Option<u64> {
        let left = self.turns.state.left?;
        Some(self.cpu.st.icount().saturating_add(left.max(1)))
    }

    /// Takes what the running vCPU has used since it had retired `count` instructions, at `time_offset`, from its turn.
    pub(super) fn charge_turn(&mut self, count: u64, time_offset: u64) {
        if let Some(left) = &mut self.turns.state.left {
            let st = &self.cpu.st;
            let passed = st.time_offset.wrapping_sub(time_offset);
            let used = st.icount().wrapping_sub(count);
            let used = used.saturating_add(passed.saturating_mul(st.pace.divisor.into()));
            *left = left.saturating_sub(used);
        }
    }

    /// Takes over whose turn it is in a saved state that fits.
    pub(super) fn restore_turns(&mut self, state: TurnState) {
        let now = self.cpu.st.now();
        self.turn_to(state.current, now);
        self.turns.state = state;
    }

    /// All vCPUs begin anew at `now`, number 0 first.
    pub(super) fn reset_turns(&mut self, now: u64) {
        if !self.turns.several() {
            return;
        }
        self.turns.state.in_round.fill(false);
        self.turns.state.queue.clear();
        self.turns.state.left = None;
        for (_, cpu) in self.turns.others() {
            power_on(cpu);
        }
        self.turn_to(0, now);
    }
}

/// The state after RESET; counts and time go on.
pub(super) fn power_on(cpu: &mut Vcpu) {
    let (icount, offset, pace) = (cpu.st.icount(), cpu.st.time_offset, cpu.st.pace);
    cpu.power_on();
    let st = &mut cpu.st;
    (st.icount_end, st.budget, st.time_offset, st.pace) = (icount, 0, offset, pace);
    cpu.load_state_changed();
}

/// Is there an event that ends the wait of `cpu`, number `index`, which is halted?
pub(super) fn wakes(cpu: &Vcpu, index: usize, apics: &LocalApics) -> bool {
    let st = &cpu.st;
    if st.wait_sipi {
        return apics.has(index, signal::INIT | signal::START_UP);
    }
    let enabled = st.flags & rflags::IF != 0 || st.wakes_masked;
    !st.smm && apics.has(index, signal::SMI | signal::INIT)
        || !st.nmi_blocked && apics.has(index, signal::NMI)
        || enabled && apics.interrupt_pending(index)
}

/// The vCPUs from number 1 on, with engines that share what `engine` has.
pub(super) fn others(
    space: &std::sync::Arc<softmmu::AddressSpace>,
    model: &x86::model::CpuModel,
    engine: &Engine,
) -> impl Iterator<Item = (Box<Vcpu>, Engine)> {
    let one = move |index| {
        let mmu = softmmu::Mmu::new(space.clone());
        (Box::new(Vcpu::new(mmu, Box::new(Parked), model.of_processor(index))), engine.another())
    };
    (1..model.topology().cpus).map(one)
}
