//! Pacing by a clock that goes as the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::{HostClock, Pacer, SLACK};
use crate::machine::gate::{Input, InputGate, Live, Stamped, Wait};

const MS: u64 = 1_000_000;

/// Waits pass at once; each takes `too_long` more than it should.
struct Clock {
    now: Arc<AtomicU64>,
    too_long: u64,
    /// When a byte arrives.
    byte_at: Option<u64>,
}

impl HostClock for Clock {
    fn now(&mut self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn wait(&mut self, _: &Receiver<Live>, at_most: Option<u64>) -> Result<Live, RecvTimeoutError> {
        let start = self.now();
        let end = at_most.map(|ns| start + ns + self.too_long);
        if let Some(at) = self.byte_at.take_if(|at| end.is_none_or(|end| *at < end)) {
            self.now.store(at.max(start), Ordering::Relaxed);
            return Ok(Live::Byte(b'x'));
        }
        self.now.store(end.expect("nothing would end this wait"), Ordering::Relaxed);
        Err(RecvTimeoutError::Timeout)
    }
}

/// A guest with its own time, beside the wall clock.
struct Guest {
    wall: Arc<AtomicU64>,
    pacer: Pacer,
    input: (Sender<Live>, Receiver<Live>),
    now: u64,
}

impl Guest {
    fn new(too_long: u64, byte_at: Option<u64>) -> Self {
        let wall = Arc::new(AtomicU64::new(7 * SLACK));
        let byte_at = byte_at.map(|at| at + 7 * SLACK);
        let clock = Clock { now: wall.clone(), too_long, byte_at };
        let pacer = Pacer::new(Box::new(clock));
        let mut guest = Self { wall, pacer, input: unbounded(), now: 123 };
        // The first halt makes both clocks begin.
        guest.halt(0);
        guest
    }

    fn compute(&mut self, guest: u64, wall: u64) {
        self.now += guest;
        self.wall.fetch_add(wall, Ordering::Relaxed);
    }

    /// How long it took by the wall clock.
    fn halt(&mut self, ns: u64) -> u64 {
        let before = self.wall.load(Ordering::Relaxed);
        let (passed, _) = self.pacer.halt(&self.input.1, self.now, Some(ns));
        self.now += passed;
        self.wall.load(Ordering::Relaxed) - before
    }

    /// The guest's time less the wall clock's.
    fn lead(&self) -> i64 {
        (self.now - 123) as i64 - (self.wall.load(Ordering::Relaxed) - 7 * SLACK) as i64
    }
}

#[test]
fn a_halt_is_as_long_as_it_says_where_both_clocks_agree() {
    let mut guest = Guest::new(0, None);
    guest.compute(5 * MS, 5 * MS);
    assert_eq!(guest.halt(40 * MS), 40 * MS);
    assert_eq!(guest.lead(), 0);
}

#[test]
fn a_lag_is_made_up_for_by_halts_and_never_turned_into_a_lead() {
    let mut guest = Guest::new(0, None);
    guest.compute(10 * MS, 35 * MS);
    assert_eq!(guest.halt(10 * MS), 0, "skipped");
    assert_eq!(guest.halt(10 * MS), 0, "skipped");
    assert_eq!(guest.halt(10 * MS), 5 * MS, "what is left of the lag");
    assert_eq!(guest.halt(10 * MS), 10 * MS);
    assert_eq!(guest.lead(), 0);
}

#[test]
fn waits_of_the_host_that_end_late_are_made_up_for() {
    let mut guest = Guest::new(60_000, None);
    for _ in 0..1000 {
        guest.halt(100_000);
        assert!(guest.lead() <= 0 && guest.lead() >= -160_000, "{}", guest.lead());
    }
}

#[test]
fn no_more_than_the_slack_is_made_up_for() {
    let mut guest = Guest::new(0, None);
    guest.compute(SLACK, 600 * SLACK);
    let skipped = (0..).take_while(|_| guest.halt(10 * MS) == 0).count() as u64;
    assert_eq!(skipped, SLACK / (10 * MS));
    assert_eq!(guest.halt(3 * SLACK), 3 * SLACK);
}

#[test]
fn a_lead_is_waited_for_at_half_speed() {
    let mut guest = Guest::new(0, None);
    guest.compute(40 * MS, 10 * MS);
    assert_eq!(guest.halt(10 * MS), 20 * MS);
    assert_eq!(guest.halt(25 * MS), 45 * MS, "now they agree");
    assert_eq!(guest.halt(10 * MS), 10 * MS);
    guest.compute(600 * SLACK, SLACK);
    let longer = (0..).take_while(|_| guest.halt(100 * MS) == 200 * MS).count() as u64;
    assert_eq!(longer, SLACK / (100 * MS));
}

#[test]
fn time_passes_to_where_input_came_however_long_that_took() {
    for until_deadline in [None, Some(100 * SLACK)] {
        let mut guest = Guest::new(0, Some(30 * SLACK));
        let (passed, got) = guest.pacer.halt(&guest.input.1, guest.now, until_deadline);
        assert_eq!((passed, got), (30 * SLACK, Ok(Live::Byte(b'x'))));
    }
}

#[test]
fn time_that_stood_still_is_not_made_up_for() {
    let mut guest = Guest::new(0, None);
    guest.compute(0, SLACK / 2);
    guest.pacer.stood_still();
    assert_eq!(guest.halt(10 * MS), 10 * MS);
}

/// Computes and halts by turns; the virtual time of each halt's end. The count is that of instructions.
fn halts(gate: &mut InputGate, wall: &AtomicU64) -> Vec<u64> {
    let (mut icount, mut skipped, mut ends) = (0, 0, Vec::new());
    for n in 0..50 {
        icount += MS;
        wall.fetch_add(3 * MS, Ordering::Relaxed);
        // Halted twice at the same count.
        for _ in 0..2 {
            gate.stop_requested(icount, icount + skipped);
            while gate.serial_byte(0, icount, icount + skipped).is_some() {
                ends.push(1);
            }
            match gate.idle(icount, icount + skipped, Some((n % 7) * 10 * MS)) {
                Wait::Elapsed(ns) => skipped += ns,
                Wait::Forever => panic!("there was a deadline"),
            }
            ends.push(icount + skipped);
        }
    }
    ends
}

#[test]
fn pacing_decisions_pass_the_gate_and_replay() {
    let wall = Arc::new(AtomicU64::new(0));
    let clock = Clock { now: wall.clone(), too_long: 10_000, byte_at: Some(1000 * MS + 345) };
    let (_sender, input) = unbounded();
    let mut gate = InputGate::paced_by(Box::new(clock), input, Some(0));
    gate.record();
    let seen = halts(&mut gate, &wall);
    let journal: Vec<Stamped> = gate.journal().to_vec();
    assert!(
        journal.iter().any(|e| matches!(e.input, Input::Idle(ns) if ns % MS != 0)),
        "one was interrupted"
    );
    assert!(journal.iter().any(|e| matches!(e.input, Input::Serial { .. })));

    let mut gate = InputGate::script(journal.clone());
    gate.record();
    assert_eq!(halts(&mut gate, &wall), seen);
    assert_eq!(gate.journal(), journal);
}
