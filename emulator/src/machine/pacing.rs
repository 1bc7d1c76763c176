//! Pacing: how virtual time and the wall clock of the host keep up with each other while someone watches.
//!
//! Requirement: a guest that someone watches lives through a second in a second, as far as the host is fast enough; it is never made
//! slower than it must be.
//! Solution: an origin says which moments of both clocks belong together. The guest's clock lags where the host executes slower
//! than an instruction a nanosecond; it makes up for that in the next halts, which are shortened or skipped. It leads where the
//! host is faster; then halts are waited out at half speed at most, so that nothing stands still.
//! Limitation: what lag or lead exceeds [`SLACK`] is forgiven, by moving the origin: a guest that has computed for an hour
//! would else live through its next idle minutes in an instant. Time that a user may want to use, as that of a boot menu, stays.

use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::gate::Live;

/// The lag that is made up for, and the lead that is waited for, in nanoseconds. Long against the waits for a disk, of which a boot is
/// full; short against what a person calls a wait.
pub(super) const SLACK: u64 = 1_000_000_000;

/// The wall clock of the host, and waiting by it.
pub trait HostClock: Send {
    /// Nanoseconds since some moment.
    fn now(&mut self) -> u64;
    /// Waits for input, `at_most` that many nanoseconds.
    ///
    /// # Errors
    /// As for [`Receiver::recv_timeout`].
    fn wait(&mut self, input: &Receiver<Live>, at_most: Option<u64>) -> Result<Live, RecvTimeoutError>;
}

/// The host's own.
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl HostClock for Monotonic {
    fn now(&mut self) -> u64 {
        self.0.elapsed().as_nanos().min(u128::from(u64::MAX)) as u64
    }

    fn wait(&mut self, input: &Receiver<Live>, at_most: Option<u64>) -> Result<Live, RecvTimeoutError> {
        match at_most {
            Some(ns) => input.recv_timeout(Duration::from_nanos(ns)),
            None => input.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }
}

/// See the module.
pub(super) struct Pacer {
    clock: Box<dyn HostClock>,
    /// Wall clock and virtual time, which belong together; `None`: the next halt says.
    origin: Option<(u64, u64)>,
}

impl Pacer {
    pub fn new(clock: Box<dyn HostClock>) -> Self {
        Self { clock, origin: None }
    }

    /// Time stood still: it goes on from where it was.
    pub fn stood_still(&mut self) {
        self.origin = None;
    }

    /// The virtual time that belongs to the moment `wall`. Where there is no origin yet, that is `now`.
    fn due(&mut self, wall: u64, now: u64) -> u64 {
        let (wall_origin, origin) = *self.origin.get_or_insert((wall, now));
        origin.saturating_add(wall.saturating_sub(wall_origin))
    }

    /// [`Pacer::due`] after what is too much has been forgiven.
    fn due_within_slack(&mut self, now: u64) -> u64 {
        let wall = self.clock.now();
        let due = self.due(wall, now).clamp(now.saturating_sub(SLACK), now.saturating_add(SLACK));
        self.origin = Some((wall, due));
        due
    }

    /// A halt at `now`, until input comes or `until_deadline` nanoseconds of virtual time have passed. How many have passed, never
    /// more than these, and what came; a halt that is skipped waits for nothing.
    pub fn halt(
        &mut self,
        input: &Receiver<Live>,
        now: u64,
        until_deadline: Option<u64>,
    ) -> (u64, Result<Live, RecvTimeoutError>) {
        let due = self.due_within_slack(now);
        let at_most = match until_deadline {
            None => None,
            Some(ns) => {
                let wait = now.saturating_add(ns).saturating_sub(due).min(ns.saturating_mul(2));
                if wait == 0 {
                    return (ns, Err(RecvTimeoutError::Timeout));
                }
                Some(wait)
            }
        };
        let got = self.clock.wait(input, at_most);
        let ns = match (&got, until_deadline) {
            (Err(RecvTimeoutError::Timeout), Some(ns)) => ns,
            (_, limit) => {
                let wall = self.clock.now();
                let passed = self.due(wall, now).saturating_sub(now);
                limit.map_or(passed, |ns| passed.min(ns))
            }
        };
        (ns, got)
    }
}

#[cfg(test)]
mod tests;
