//! The local APIC's timer: one-shot, periodic, TSC deadline (SDM vol. 3, 12.5.4).
//!
//! The input clock is 1 GHz before the divide configuration, so a tick is `divide` virtual nanoseconds and the TSC
//! deadline is a time as it stands.

use serde::{Deserialize, Serialize};

use crate::Ns;
use crate::clock::{MIN_PERIOD, catch_up};

const PERIODIC: u32 = 1;
const TSC_DEADLINE: u32 = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timer {
    mode: u32,
    initial: u32,
    divide_config: u32,
    /// When the count reaches zero; in deadline mode the armed deadline.
    fire_at: Option<Ns>,
}

impl Timer {
    fn divide(&self) -> u64 {
        // Bits 0, 1 and 3 give log2 of the divisor minus one; 111b divides by 1.
        let code = self.divide_config & 3 | self.divide_config >> 1 & 4;
        1 << ((code + 1) & 7)
    }

    /// The time from one periodic interrupt to the next, at least `MIN_PERIOD`.
    fn period(&self) -> Ns {
        (u64::from(self.initial) * self.divide()).max(MIN_PERIOD)
    }

    pub(super) fn next_fire(&self) -> Option<Ns> {
        self.fire_at
    }

    /// True if the timer expired at or before `now`.
    pub(super) fn advance(&mut self, now: Ns) -> bool {
        let Some(at) = self.fire_at.filter(|at| *at <= now) else { return false };
        self.fire_at = if self.mode == PERIODIC { catch_up(at, self.period(), now) } else { None };
        true
    }

    pub(super) fn set_mode(&mut self, old: u32, new: u32) {
        // SDM vol. 3, 12.5.4.1: a change to or from deadline mode disarms the timer.
        if (old == TSC_DEADLINE) != (new == TSC_DEADLINE) {
            self.fire_at = None;
        }
        self.mode = new;
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) fn set_initial(&mut self, count: u32, now: Ns) {
        if self.mode == TSC_DEADLINE {
            return; // ignored in deadline mode
        }
        self.initial = count;
        let delay = if self.mode == PERIODIC { self.period() } else { u64::from(count) * self.divide() };
        self.fire_at = if count == 0 { None } else { now.checked_add(delay) };
    }

    /// The current count.
    pub(super) fn current(&self, now: Ns) -> u32 {
        if self.mode == TSC_DEADLINE {
            return 0;
        }
        let left = self.fire_at.map_or(0, |at| at.saturating_sub(now).div_ceil(self.divide()));
        left.min(self.initial.into()) as u32
    }

    pub(super) fn divide_config(&self) -> u32 {
        self.divide_config
    }

    /// Changes the tick length; the count goes on from where it is.
    pub(super) fn set_divide_config(&mut self, value: u32, now: Ns) {
        let left = self.current(now);
        self.divide_config = value & 0xb;
        if self.mode != TSC_DEADLINE && self.fire_at.is_some() {
            self.fire_at = now.checked_add((u64::from(left) * self.divide()).max(1));
        }
    }

    pub(super) fn tsc_deadline(&self) -> u64 {
        if self.mode == TSC_DEADLINE { self.fire_at.unwrap_or(0) } else { 0 }
    }

    pub(super) fn set_tsc_deadline(&mut self, tsc: u64) {
        if self.mode == TSC_DEADLINE {
            self.fire_at = (tsc != 0).then_some(tsc);
        }
    }

    pub(super) fn sanitise(&mut self) {
        self.mode &= 3;
        self.divide_config &= 0xb;
    }
}
