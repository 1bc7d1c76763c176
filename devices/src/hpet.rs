//! High precision event timer (IA-PC HPET specification 1.0a): three comparators on a 100 MHz, 64-bit counter.
//!
//! A tick is exactly 10 ns, the shortest period that a guest is likely to expect, so the counter is a division of the
//! virtual time and cannot drift. A comparator fires when the counter *equals* it, as on hardware: a comparator set
//! behind the counter waits for the counter to wrap.
//!
//! Each comparator has one line; which controller input it drives is programmable, so the board asks
//! [`Hpet::route`] on every change.

use serde::{Deserialize, Serialize};

use crate::clock::MIN_PERIOD;
use crate::{IrqLine, MmioDevice, Ns, Timed};

/// Physical address of the memory window.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// Length of the memory window in bytes.
pub const HPET_LEN: u64 = 0x400;
/// Counter period in femtoseconds.
pub const HPET_PERIOD_FS: u64 = TICK * 1_000_000;

/// Nanoseconds per tick.
const TICK: Ns = 10;
const TIMERS: usize = 3;
/// Shortest period of a periodic comparator in ticks.
const MIN_PERIOD_TICKS: u64 = MIN_PERIOD / TICK;
/// I/O APIC pins that a comparator may be routed to: 2 and 20 to 23.
const ROUTES: u64 = 0x00f0_0004;

/// GENERAL_CAP_ID: period, vendor 8086h, legacy replacement, 64-bit counter, three timers, revision 1.
const CAPABILITIES: u64 =
    HPET_PERIOD_FS << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | (TIMERS as u64 - 1) << 8 | 1;

mod general {
    pub const ENABLE: u64 = 1;
    pub const LEGACY: u64 = 2;
}
mod timer {
    pub const LEVEL: u64 = 1 << 1;
    pub const INTERRUPT: u64 = 1 << 2;
    pub const PERIODIC: u64 = 1 << 3;
    pub const VALUE_SET: u64 = 1 << 6;
    pub const BITS_32: u64 = 1 << 8;
    pub const WRITABLE: u64 = 0x3f4e;
    /// Periodic capable, 64-bit capable, and the routes.
    pub const READ_ONLY: u64 = super::ROUTES << 32 | 1 << 5 | 1 << 4;
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Comparator {
    config: u64,
    value: u64,
    period: u64,
    /// When the counter reaches `value`; `None` while halted, or beyond the end of time.
    fire_at: Option<Ns>,
}

impl Comparator {
    fn width_mask(&self) -> u64 {
        if self.config & timer::BITS_32 != 0 { 0xffff_ffff } else { u64::MAX }
    }

    /// Plans the next match for a counter that holds `counter` at `now`.
    fn plan(&mut self, counter: u64, now: Ns) {
        let mask = self.width_mask();
        let ahead = self.value.wrapping_sub(counter) & mask;
        // Equal right now: that match has been, the next one is a whole range away (never, with 64 bits).
        let ticks = if ahead == 0 { mask.checked_add(1) } else { Some(ahead) };
        let delay = ticks.and_then(|ticks| ticks.checked_mul(TICK));
        self.fire_at = delay.and_then(|delay| (now - now % TICK).checked_add(delay));
    }

    /// Lets all matches up to `now` happen. True if there was one.
    fn pass(&mut self, now: Ns) -> bool {
        let Some(at) = self.fire_at.filter(|at| *at <= now) else { return false };
        let mask = self.width_mask();
        let step = match self.config & timer::PERIODIC {
            0 => mask.checked_add(1),
            _ => Some((self.period & mask).max(MIN_PERIOD_TICKS)),
        };
        self.fire_at = step.and_then(|step| {
            let times = (now - at) / TICK / step + 1;
            if self.config & timer::PERIODIC != 0 {
                self.value = self.value.wrapping_add(times.wrapping_mul(step)) & mask;
            }
            at.checked_add(times.checked_mul(step)?.checked_mul(TICK)?)
        });
        true
    }

    fn write_value(&mut self, value: u64) {
        // Specification 2.3.9.2.2: in periodic mode the first write after VAL_SET sets the comparator, others the period.
        let value = value & self.width_mask();
        if self.config & timer::PERIODIC == 0 || self.config & timer::VALUE_SET != 0 {
            self.value = value;
        }
        if self.config & timer::PERIODIC != 0 {
            self.period = value;
        }
        self.config &= !timer::VALUE_SET;
    }
}

/// Where a comparator's line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpetRoute {
    /// Input of the 8259A pair: only in place of the legacy timers.
    pub isa_irq: Option<u8>,
    /// Pin of the I/O APIC.
    pub ioapic_pin: u8,
}

/// The main counter as a function of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HpetCounter {
    /// It counts.
    pub runs: bool,
    /// Its value at `since`, and always while halted.
    pub value: u64,
    /// When that was.
    pub since: Ns,
}

impl HpetCounter {
    /// The value at `now`.
    pub fn at(self, now: Ns) -> u64 {
        if !self.runs {
            return self.value;
        }
        self.value.wrapping_add(now / TICK - (self.since / TICK).min(now / TICK))
    }

    /// What is read in the window's register of the counter or the capabilities: reading those changes nothing.
    pub fn sample(self, offset: u64, size: u8, now: Ns) -> Option<u64> {
        let register = match offset & !7 {
            0x00 => CAPABILITIES,
            0xf0 => self.at(now),
            _ => return None,
        };
        Some(part(register, offset, size))
    }
}

/// Registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HpetState {
    config: u64,
    status: u64,
    /// The counter's value at `counter_since`, and always while halted.
    counter: u64,
    counter_since: Ns,
    comparators: [Comparator; TIMERS],
}

/// The HPET.
pub struct Hpet {
    state: HpetState,
    irqs: [IrqLine; TIMERS],
}

impl Hpet {
    /// Halted, counter 0.
    pub fn new(irqs: [IrqLine; TIMERS]) -> Self {
        let comparators = std::array::from_fn(|_| Comparator { value: u64::MAX, ..Comparator::default() });
        Self { state: HpetState { config: 0, status: 0, counter: 0, counter_since: 0, comparators }, irqs }
    }

    /// Platform reset.
    pub fn reset(&mut self) {
        self.irqs.iter().for_each(|irq| irq.set(false));
        *self = Self::new(self.irqs.clone());
    }

    /// Legacy replacement: comparators 0 and 1 stand in for the PIT's IRQ 0 and the RTC's IRQ 8.
    pub fn replaces_legacy(&self) -> bool {
        self.state.config & general::LEGACY != 0
    }

    /// Where comparator `index` (below 3) interrupts; `None` while no route is set.
    pub fn route(&self, index: usize) -> Option<HpetRoute> {
        match index {
            0 if self.replaces_legacy() => Some(HpetRoute { isa_irq: Some(0), ioapic_pin: 2 }),
            1 if self.replaces_legacy() => Some(HpetRoute { isa_irq: Some(8), ioapic_pin: 8 }),
            _ => {
                let pin = (self.state.comparators[index].config >> 9 & 31) as u8;
                (ROUTES >> pin & 1 != 0).then_some(HpetRoute { isa_irq: None, ioapic_pin: pin })
            }
        }
    }

    fn enabled(&self) -> bool {
        self.state.config & general::ENABLE != 0
    }

    fn counter(&self, now: Ns) -> u64 {
        self.counting().at(now)
    }

    /// What the counter derives from, until the next write.
    pub fn counting(&self) -> HpetCounter {
        let s = &self.state;
        HpetCounter { runs: self.enabled(), value: s.counter, since: s.counter_since }
    }

    /// Replans every comparator after anything that moves it against the counter.
    fn plan(&mut self, now: Ns) {
        let counter = self.counter(now);
        let enabled = self.enabled();
        for comparator in &mut self.state.comparators {
            if enabled {
                comparator.plan(counter, now);
            } else {
                comparator.fire_at = None;
            }
        }
        self.drive();
    }

    fn drive(&self) {
        for (index, (comparator, irq)) in self.state.comparators.iter().zip(&self.irqs).enumerate() {
            let on = comparator.config & timer::INTERRUPT != 0 && comparator.config & timer::LEVEL != 0;
            irq.set(on && self.state.status >> index & 1 != 0);
        }
    }

    fn read(&self, register: u64, now: Ns) -> u64 {
        let s = &self.state;
        match register {
            0x00 => CAPABILITIES,
            0x10 => s.config,
            0x20 => s.status,
            0xf0 => self.counter(now),
            0x100..=0x15f => {
                let comparator = &s.comparators[((register - 0x100) / 0x20) as usize];
                match register & 0x1f {
                    0x00 => comparator.config | timer::READ_ONLY,
                    0x08 => comparator.value,
                    _ => 0,
                }
            }
            _ => 0,
        }
    }

    /// See [`HpetCounter::sample`].
    pub fn sample(&self, offset: u64, size: u8, now: Ns) -> Option<u64> {
        self.counting().sample(offset, size, now)
    }

    /// Writes the bits of `mask` of a 64-bit register.
    fn write(&mut self, register: u64, value: u64, mask: u64, now: Ns) {
        let counter = self.counter(now);
        let s = &mut self.state;
        match register {
            0x10 => {
                s.config = s.config & !mask | value & mask & (general::ENABLE | general::LEGACY);
                s.counter = counter;
                s.counter_since = now;
            }
            0x20 => {
                s.status &= !(value & mask);
                self.drive();
                return;
            }
            0xf0 => {
                s.counter = counter & !mask | value & mask;
                s.counter_since = now;
            }
            0x100..=0x15f => {
                let index = ((register - 0x100) / 0x20) as usize;
                let comparator = &mut s.comparators[index];
                match register & 0x1f {
                    0x00 => {
                        let writable = timer::WRITABLE & mask;
                        let mut config = comparator.config & !writable | value & writable;
                        // A route that the capability field does not offer is not taken.
                        if ROUTES >> (config >> 9 & 31) & 1 == 0 {
                            config &= !(31 << 9);
                        }
                        comparator.config = config;
                        if config & timer::BITS_32 != 0 {
                            comparator.value &= 0xffff_ffff;
                            comparator.period &= 0xffff_ffff;
                        }
                        if config & timer::LEVEL == 0 {
                            s.status &= !(1 << index);
                        }
                    }
                    0x08 => {
                        let old =
                            if comparator.config & (timer::PERIODIC | timer::VALUE_SET) == timer::PERIODIC {
                                comparator.period
                            } else {
                                comparator.value
                            };
                        comparator.write_value(old & !mask | value & mask);
                    }
                    _ => return,
                }
            }
            _ => return,
        }
        self.plan(now);
    }

    /// Registers.
    pub fn save(&self) -> HpetState {
        let Self { state, irqs: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: HpetState) {
        self.state = state;
        self.drive();
    }
}

/// The bytes of a 64-bit register at `offset` that an access sees.
fn part(register: u64, offset: u64, size: u8) -> u64 {
    let value = register >> (8 * (offset & 7));
    if size >= 8 { value } else { value & !(u64::MAX << (8 * u64::from(size))) }
}

impl MmioDevice for Hpet {
    fn mmio_read(&mut self, offset: u64, size: u8, now: Ns) -> u64 {
        self.advance(now);
        part(self.read(offset & !7, now), offset, size)
    }

    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, now: Ns) {
        self.advance(now);
        // Specification 2.3: accesses are of 32 or 64 bits.
        let shift = 8 * (offset & 7);
        match size {
            8 if shift == 0 => self.write(offset, value, u64::MAX, now),
            4 if shift & 31 == 0 => self.write(offset & !7, value << shift, 0xffff_ffff << shift, now),
            _ => {}
        }
    }
}

impl Timed for Hpet {
    fn next_deadline(&self) -> Option<Ns> {
        let waiting = self.state.comparators.iter().filter(|c| c.config & timer::INTERRUPT != 0);
        waiting.filter_map(|comparator| comparator.fire_at).min()
    }

    fn advance(&mut self, now: Ns) {
        for (index, comparator) in self.state.comparators.iter_mut().enumerate() {
            if !comparator.pass(now) || comparator.config & timer::INTERRUPT == 0 {
                continue;
            }
            if comparator.config & timer::LEVEL != 0 {
                self.state.status |= 1 << index;
                self.irqs[index].set(true);
            } else {
                self.irqs[index].pulse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lines;

    fn hpet(lines: &std::sync::Arc<Lines>) -> Hpet {
        Hpet::new([lines.line(0), lines.line(1), lines.line(2)])
    }
    fn write(hpet: &mut Hpet, offset: u64, value: u64, now: Ns) {
        hpet.mmio_write(offset, 8, value, now);
    }

    #[test]
    fn counter_and_capabilities() {
        let mut hpet = hpet(&Lines::new());
        assert_eq!(hpet.mmio_read(4, 4, 0), HPET_PERIOD_FS);
        assert_eq!(hpet.mmio_read(0, 8, 0) & 0xffff_ffff, 0x8086_a201);
        assert_eq!(hpet.mmio_read(0xf0, 8, 1000), 0, "halted");
        write(&mut hpet, 0x10, 1, 1000);
        assert_eq!(hpet.mmio_read(0xf0, 8, 2009), 100);
        write(&mut hpet, 0x10, 0, 3000);
        assert_eq!(hpet.mmio_read(0xf0, 8, 9000), 200);
        hpet.mmio_write(0xf4, 4, 7, 9000);
        assert_eq!(hpet.mmio_read(0xf0, 8, 9000), 7 << 32 | 200);
    }

    #[test]
    fn one_shot_and_periodic_as_linux_programs_them() {
        let lines = Lines::new();
        let mut hpet = hpet(&lines);
        write(&mut hpet, 0x10, 3, 0);
        assert_eq!(hpet.route(0), Some(HpetRoute { isa_irq: Some(0), ioapic_pin: 2 }));
        // Periodic, VAL_SET, 32-bit.
        write(&mut hpet, 0x100, 0x14c, 0);
        hpet.mmio_write(0x108, 4, 100_000, 0);
        hpet.mmio_write(0x108, 4, 100_000, 0);
        for n in 1..=5000 {
            assert_eq!(hpet.next_deadline(), Some(n * 1_000_000));
            hpet.advance(n * 1_000_000);
            assert_eq!(lines.take_rose(), 1);
        }
        hpet.advance(1 << 62);
        assert_eq!(lines.take_rose(), 1);
        let next = hpet.next_deadline().unwrap();
        assert!(next > 1 << 62 && next.is_multiple_of(1_000_000));
        // One-shot.
        write(&mut hpet, 0x100, 0x104, 1 << 62);
        let counter = hpet.mmio_read(0xf0, 4, 1 << 62);
        hpet.mmio_write(0x108, 4, counter + 50, 1 << 62);
        let due = (1 << 62) / 10 * 10 + 500;
        assert_eq!(hpet.next_deadline(), Some(due));
        hpet.advance(due);
        assert_eq!(hpet.next_deadline(), Some(due + (10 << 32)), "again when 32 bits wrap");
    }

    #[test]
    fn level_interrupts_and_routes() {
        let lines = Lines::new();
        let mut hpet = hpet(&lines);
        write(&mut hpet, 0x10, 1, 0);
        write(&mut hpet, 0x140, 20 << 9 | 6, 0);
        assert_eq!(hpet.route(2), Some(HpetRoute { isa_irq: None, ioapic_pin: 20 }));
        write(&mut hpet, 0x120, 3 << 9, 0);
        assert_eq!(hpet.route(1), None, "not offered");
        write(&mut hpet, 0x148, 10, 0);
        hpet.advance(100);
        assert_eq!((lines.levels(), hpet.mmio_read(0x20, 4, 100)), (4, 4));
        let state = hpet.save();
        write(&mut hpet, 0x20, 4, 100);
        assert_eq!(lines.levels(), 0);
        hpet.restore(state);
        assert_eq!(lines.levels(), 4);
    }

    #[test]
    fn a_zero_period_is_clamped() {
        let mut hpet = hpet(&Lines::new());
        write(&mut hpet, 0x10, 1, 0);
        write(&mut hpet, 0x100, 0x4c, 0);
        write(&mut hpet, 0x108, 1, 0);
        write(&mut hpet, 0x108, 0, 0);
        hpet.advance(10);
        assert_eq!(hpet.next_deadline(), Some(10 + MIN_PERIOD));
    }
}
