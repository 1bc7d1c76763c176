//! MC146818 real-time clock and CMOS RAM (Motorola data sheet), ports 70h and 71h.
//!
//! The clock starts at a configured date and runs on virtual time: the host's clock is not visible here. Time registers
//! are real registers: seconds that passed are added to what they hold when somebody looks, by arithmetic.
//!
//! An update takes no time at its end but is announced by UIP for as long as the data sheet's update cycle lasts
//! (244 us + 1984 us), so a driver that polls UIP sees it and one that respects it reads consistent values.

use serde::{Deserialize, Serialize};

use crate::clock::{earlier, ns_of, tick_at};
use crate::{IrqLine, Ns, PortDevice, Timed};

const SECOND: Ns = 1_000_000_000;
const UPDATE_CYCLE: Ns = 2_228_000;
const PERIODIC_HZ: u64 = 32_768;
const CMOS_BYTES: usize = 128;
const SECONDS_PER_DAY: u64 = 86_400;

mod reg {
    pub const SECONDS: usize = 0x00;
    pub const SECONDS_ALARM: usize = 0x01;
    pub const MINUTES: usize = 0x02;
    pub const MINUTES_ALARM: usize = 0x03;
    pub const HOURS: usize = 0x04;
    pub const HOURS_ALARM: usize = 0x05;
    pub const WEEKDAY: usize = 0x06;
    pub const DAY: usize = 0x07;
    pub const MONTH: usize = 0x08;
    pub const YEAR: usize = 0x09;
    pub const A: usize = 0x0a;
    pub const B: usize = 0x0b;
    pub const C: usize = 0x0c;
    pub const D: usize = 0x0d;
    pub const CENTURY: usize = 0x32;
}
mod b {
    pub const SET: u8 = 0x80;
    pub const PIE: u8 = 0x40;
    pub const AIE: u8 = 0x20;
    pub const UIE: u8 = 0x10;
    pub const BINARY: u8 = 0x04;
    pub const HOURS_24: u8 = 0x02;
}
/// Register C flags sit at the same bits as their enables in B.
const PF: u8 = b::PIE;
const AF: u8 = b::AIE;
const UF: u8 = b::UIE;
const IRQF: u8 = 0x80;
const PM: u8 = 0x80;

/// Memory sizes for the CMOS bytes that firmware and old systems read.
#[derive(Clone, Copy, Debug)]
pub struct CmosMemory {
    /// RAM below 4 GiB in bytes, counted from address 0.
    pub below_4g: u64,
    /// RAM above 4 GiB in bytes.
    pub above_4g: u64,
    /// Number of CPUs (CMOS 5Fh holds it minus one).
    pub cpus: u8,
}

/// CMOS contents and clock phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcState {
    index: u8,
    /// 128 bytes; the clock's registers are the first fourteen and 32h.
    cmos: Vec<u8>,
    /// When the next second begins.
    next_second: Ns,
    /// When the divider chain was last released.
    divider_origin: Ns,
    /// Periods of the periodic flag that have been reported.
    periods_seen: u64,
}

/// The clock chip.
pub struct Rtc {
    state: RtcState,
    irq: IrqLine,
}

impl Rtc {
    /// A clock that shows `epoch_seconds` (since 1970-01-01 UTC) at time 0, in BCD and 24-hour mode.
    pub fn new(irq: IrqLine, epoch_seconds: u64, memory: CmosMemory) -> Self {
        let mut state = RtcState {
            index: 0,
            cmos: vec![0; CMOS_BYTES],
            next_second: SECOND,
            divider_origin: 0,
            periods_seen: 0,
        };
        state.cmos[reg::A] = 0x26;
        state.cmos[reg::B] = b::HOURS_24;
        state.cmos[reg::D] = 0x80;
        state.write_memory_sizes(memory);
        state.set_calendar(epoch_seconds);
        let weekday = (epoch_seconds / SECONDS_PER_DAY + 4) % 7 + 1;
        state.cmos[reg::WEEKDAY] = weekday as u8;
        Self { state, irq }
    }

    /// Platform reset: the interrupt enables and flags clear, the clock runs on.
    pub fn reset(&mut self) {
        self.state.cmos[reg::B] &= !(b::PIE | b::AIE | b::UIE | 0x08);
        self.state.cmos[reg::C] = 0;
        self.state.index = 0;
        self.update();
    }

    /// A byte of CMOS RAM (index below 128), for the board's own use.
    pub fn cmos(&self, index: u8) -> u8 {
        self.state.cmos[usize::from(index & 0x7f)]
    }

    /// Sets a byte of CMOS RAM beyond the clock's registers.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        if usize::from(index & 0x7f) > reg::D {
            self.state.cmos[usize::from(index & 0x7f)] = value;
        }
    }

    /// Port 70h bit 7: NMI to the CPU is masked.
    pub fn nmi_masked(&self) -> bool {
        self.state.index & 0x80 != 0
    }

    fn update(&mut self) {
        let cmos = &mut self.state.cmos;
        let active = cmos[reg::C] & cmos[reg::B] & (PF | AF | UF) != 0;
        cmos[reg::C] = cmos[reg::C] & !IRQF | if active { IRQF } else { 0 };
        self.irq.set(active);
    }

    fn read(&mut self, now: Ns) -> u8 {
        let index = usize::from(self.state.index & 0x7f);
        match index {
            reg::A => {
                let s = &self.state;
                let updating = s.updates() && now.saturating_add(UPDATE_CYCLE) >= s.next_second;
                s.cmos[reg::A] & 0x7f | if updating { 0x80 } else { 0 }
            }
            reg::C => {
                let flags = std::mem::take(&mut self.state.cmos[reg::C]);
                self.update();
                flags
            }
            _ => self.state.cmos[index],
        }
    }

    fn write(&mut self, value: u8, now: Ns) {
        let index = usize::from(self.state.index & 0x7f);
        let s = &mut self.state;
        match index {
            reg::A => {
                let ran = s.divider_runs();
                s.cmos[reg::A] = value & 0x7f;
                if !ran && s.divider_runs() {
                    // Data sheet: the first update follows half a second after the divider is released.
                    s.next_second = now.saturating_add(SECOND / 2);
                    s.divider_origin = now;
                }
                s.periods_seen = s.periods(now);
            }
            reg::B => {
                s.cmos[reg::B] = if value & b::SET != 0 { value & !b::UIE } else { value };
                self.update();
            }
            reg::C | reg::D => {}
            _ => s.cmos[index] = value,
        }
    }

    /// CMOS contents and clock phase.
    pub fn save(&self) -> RtcState {
        let Self { state, irq: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: RtcState) {
        state.cmos.resize(CMOS_BYTES, 0);
        self.state = state;
        self.update();
    }
}

impl RtcState {
    fn write_memory_sizes(&mut self, memory: CmosMemory) {
        let mut word = |at: usize, value: u64, limit: u64| {
            let [low, high] = (value.min(limit) as u16).to_le_bytes();
            self.cmos[at] = low;
            self.cmos[at + 1] = high;
        };
        let extended_kib = memory.below_4g.saturating_sub(1 << 20) >> 10;
        word(0x15, 640, 640);
        word(0x17, extended_kib, 0xffff);
        word(0x30, extended_kib, 0xffff);
        word(0x34, memory.below_4g.saturating_sub(16 << 20) >> 16, 0xffff);
        let high = (memory.above_4g >> 16).min(0xff_ffff).to_le_bytes();
        self.cmos[0x5b..0x5e].copy_from_slice(&high[..3]);
        self.cmos[0x5f] = memory.cpus.saturating_sub(1);
        self.cmos[0x14] = 0x06; // equipment: FPU, pointing device
        let sum: u16 = self.cmos[0x10..0x2e].iter().map(|&byte| u16::from(byte)).sum();
        self.cmos[0x2e..0x30].copy_from_slice(&sum.to_be_bytes());
    }

    fn divider_runs(&self) -> bool {
        self.cmos[reg::A] & 0x70 == 0x20
    }

    fn updates(&self) -> bool {
        self.divider_runs() && self.cmos[reg::B] & b::SET == 0
    }

    fn encode(&self, value: u64) -> u8 {
        let value = (value % 100) as u8;
        if self.cmos[reg::B] & b::BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(&self, raw: u8) -> u64 {
        let raw = u64::from(raw);
        if self.cmos[reg::B] & b::BINARY != 0 { raw } else { (raw >> 4) * 10 + (raw & 15) }
    }

    fn decode_hours(&self, raw: u8) -> u64 {
        if self.cmos[reg::B] & b::HOURS_24 != 0 {
            return self.decode(raw);
        }
        self.decode(raw & !PM) % 12 + if raw & PM != 0 { 12 } else { 0 }
    }

    fn encode_hours(&self, hours: u64) -> u8 {
        if self.cmos[reg::B] & b::HOURS_24 != 0 {
            return self.encode(hours);
        }
        let twelve = self.encode(if hours.is_multiple_of(12) { 12 } else { hours % 12 });
        twelve | if hours >= 12 { PM } else { 0 }
    }

    /// The registers as seconds since 1970; values that no clock shows are clamped to some that it can.
    fn calendar(&self) -> u64 {
        let get = |at: usize| self.decode(self.cmos[at]);
        let year = (get(reg::CENTURY).min(99) * 100 + get(reg::YEAR).min(99)).max(1970);
        let days = days_from_civil(year, get(reg::MONTH).clamp(1, 12), get(reg::DAY).clamp(1, 31));
        let hours = self.decode_hours(self.cmos[reg::HOURS]).min(23);
        days * SECONDS_PER_DAY + hours * 3600 + get(reg::MINUTES).min(59) * 60 + get(reg::SECONDS).min(59)
    }

    fn set_calendar(&mut self, seconds: u64) {
        let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
        let time = seconds % SECONDS_PER_DAY;
        self.cmos[reg::SECONDS] = self.encode(time % 60);
        self.cmos[reg::MINUTES] = self.encode(time / 60 % 60);
        self.cmos[reg::HOURS] = self.encode_hours(time / 3600);
        self.cmos[reg::DAY] = self.encode(day);
        self.cmos[reg::MONTH] = self.encode(month);
        self.cmos[reg::YEAR] = self.encode(year % 100);
        self.cmos[reg::CENTURY] = self.encode(year / 100);
    }

    /// Lets `seconds` updates happen.
    fn pass_seconds(&mut self, seconds: u64) {
        let before = self.calendar();
        let after = before.saturating_add(seconds);
        let midnights = after / SECONDS_PER_DAY - before / SECONDS_PER_DAY;
        let weekday = u64::from(self.cmos[reg::WEEKDAY]).clamp(1, 7) - 1;
        self.cmos[reg::WEEKDAY] = ((weekday + midnights) % 7 + 1) as u8;
        self.set_calendar(after);
        self.cmos[reg::C] |= UF;
        if self.cmos[reg::C] & AF == 0 && self.alarm_in(before, seconds) {
            self.cmos[reg::C] |= AF;
        }
    }

    /// Whether the alarm matches one of the `seconds` updates after `before`. A day covers every time there is.
    fn alarm_in(&self, before: u64, seconds: u64) -> bool {
        // C0h to FFh: any value matches.
        let wanted = |at: usize| Some(self.cmos[at]).filter(|raw| raw & 0xc0 != 0xc0);
        let second = wanted(reg::SECONDS_ALARM).map(|raw| self.decode(raw));
        let minute = wanted(reg::MINUTES_ALARM).map(|raw| self.decode(raw));
        let hour = wanted(reg::HOURS_ALARM).map(|raw| self.decode_hours(raw));
        (1..=seconds.min(SECONDS_PER_DAY)).any(|n| {
            let time = (before + n) % SECONDS_PER_DAY;
            second.is_none_or(|s| s == time % 60)
                && minute.is_none_or(|m| m == time / 60 % 60)
                && hour.is_none_or(|h| h == time / 3600)
        })
    }

    /// log2 of the periodic flag's period in 32768 Hz ticks.
    fn period_shift(&self) -> Option<u32> {
        match self.cmos[reg::A] & 15 {
            _ if !self.divider_runs() => None,
            0 => None,
            // Data sheet, table 5: with a 32768 Hz time base the first two rates are those of 8 and 9.
            rate @ 1..=2 => Some(u32::from(rate) + 6),
            rate => Some(u32::from(rate) - 1),
        }
    }

    fn periods(&self, now: Ns) -> u64 {
        let ticks = tick_at(now.saturating_sub(self.divider_origin), PERIODIC_HZ);
        self.period_shift().map_or(0, |shift| ticks >> shift)
    }

    fn next_period(&self) -> Option<Ns> {
        let tick = self.periods_seen.checked_add(1)?.checked_mul(1 << self.period_shift()?)?;
        ns_of(tick, PERIODIC_HZ)?.checked_add(self.divider_origin)
    }
}

impl PortDevice for Rtc {
    fn port_read(&mut self, port: u16, _size: u8, now: Ns) -> u32 {
        self.advance(now);
        // Port 70h is write-only; the index is where a PIIX leaves the bus.
        if port & 1 == 0 { 0xff } else { self.read(now).into() }
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, now: Ns) {
        self.advance(now);
        if port & 1 == 0 { self.state.index = value as u8 } else { self.write(value as u8, now) }
    }
}

impl Timed for Rtc {
    fn next_deadline(&self) -> Option<Ns> {
        let s = &self.state;
        // A flag that is set already cannot raise the line again before register C is read.
        let waits = |flag: u8| s.cmos[reg::B] & !s.cmos[reg::C] & flag != 0;
        // The last second of virtual time does not end.
        let ticking = s.updates() && s.next_second != Ns::MAX;
        let second = (ticking && (waits(UF) || waits(AF))).then_some(s.next_second);
        let period = if waits(PF) { s.next_period() } else { None };
        earlier(second, period)
    }

    fn advance(&mut self, now: Ns) {
        let s = &mut self.state;
        if s.divider_runs() && now >= s.next_second {
            let seconds = (now - s.next_second) / SECOND + 1;
            s.next_second = s.next_second.saturating_add(seconds.saturating_mul(SECOND));
            if s.updates() {
                s.pass_seconds(seconds);
            }
        }
        let periods = s.periods(now);
        if periods > s.periods_seen {
            s.periods_seen = periods;
            s.cmos[reg::C] |= PF;
        }
        self.update();
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, year >= 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    // Years start in March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// (year, month, day) of a day since 1970-01-01; years wrap at 10000, as four digits do.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days % 3_652_059 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year % 10_000, month, day)
}

#[cfg(test)]
#[path = "rtc_tests.rs"]
mod tests;
