//! Conversion between virtual nanoseconds and the ticks of a crystal, without drift.
//!
//! Tick n begins at the first nanosecond not before `n / hz` seconds. Both directions are exact and count from the same
//! origin, so an error never accumulates: `tick_at(ns_of(n)) == n`, and a later tick is always at a later time.

use crate::Ns;

const NS_PER_S: u128 = 1_000_000_000;

/// Shortest period of a repeating interrupt source, in nanoseconds.
///
/// Data sheets allow a timer that fires on each tick of its input clock; at one instruction per nanosecond no guest
/// could make progress between two such interrupts, and the board would stop at each. Shorter periods act as this one.
pub(crate) const MIN_PERIOD: Ns = 1_000;

/// The number of `hz` ticks that have begun by `now` (tick 0 begins at 0).
pub(crate) fn tick_at(now: Ns, hz: u64) -> u64 {
    // Whole seconds apart: no division of 128 bits, which would be most of what reading a timer costs.
    const S: u64 = NS_PER_S as u64;
    let whole = (now / S).checked_mul(hz);
    let part = (now % S).checked_mul(hz).map_or_else(|| wide_part(now % S, hz), |product| product / S);
    whole.and_then(|whole| whole.checked_add(part)).unwrap_or(u64::MAX)
}

/// Ticks in less than a second, of a clock beyond 18 GHz.
#[cold]
fn wide_part(ns: Ns, hz: u64) -> u64 {
    (u128::from(ns) * u128::from(hz) / NS_PER_S) as u64
}

/// When `tick` begins; `None` when that is after the end of virtual time.
pub(crate) fn ns_of(tick: u64, hz: u64) -> Option<Ns> {
    Ns::try_from((u128::from(tick) * NS_PER_S).div_ceil(u128::from(hz))).ok()
}

/// The first time after `now` in the sequence `next`, `next + period`, ... where `next <= now`; `None` at the end of time.
pub(crate) fn catch_up(next: Ns, period: Ns, now: Ns) -> Option<Ns> {
    let period = period.max(MIN_PERIOD);
    let missed = now.saturating_sub(next) / period + 1;
    missed.checked_mul(period)?.checked_add(next)
}

/// The earlier of two deadlines.
pub(crate) fn earlier(a: Option<Ns>, b: Option<Ns>) -> Option<Ns> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_times_are_inverse_and_do_not_drift() {
        for hz in [1_193_182, 3_579_545, 32_768] {
            for tick in [0, 1, 2, 1_000_003, hz, hz * 86_400 * 365] {
                assert_eq!(tick_at(ns_of(tick, hz).unwrap(), hz), tick);
            }
            assert_eq!(ns_of(hz * 1000, hz), Some(1_000_000_000_000));
        }
        assert_eq!(ns_of(u64::MAX, 32_768), None);
    }

    #[test]
    fn ticks_are_those_of_wide_arithmetic() {
        for hz in [1, 32_768, 3_579_545, 1_000_000_000, 20_000_000_001, u64::MAX] {
            for now in [0, 1, 999_999_999, 1_000_000_000, 5_153_328_999_999, u64::MAX / 2, u64::MAX] {
                let wide = u64::try_from(u128::from(now) * u128::from(hz) / NS_PER_S).unwrap_or(u64::MAX);
                assert_eq!(tick_at(now, hz), wide, "{now} ns at {hz} Hz");
            }
        }
    }

    #[test]
    fn catching_up_is_arithmetic() {
        assert_eq!(catch_up(1_000, 5_000, 1_000), Some(6_000));
        assert_eq!(catch_up(1_000, 5_000, 1_000_000_000_999), Some(1_000_000_001_000));
        assert_eq!(catch_up(10, 0, 10), Some(10 + MIN_PERIOD));
        assert_eq!(catch_up(10, u64::MAX, 10), None);
    }
}
