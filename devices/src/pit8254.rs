//! 8254 programmable interval timer (Intel 8254 data sheet) and port 61h, which drives its channel 2.
//!
//! Counters are functions of time: a channel keeps the tick of its last load and computes count and output from the
//! ticks since. Nothing runs per tick, so a long idle skip costs nothing and the 1.193182 MHz clock does not drift.
//!
//! Only rising edges of channel 0's output (IRQ 0) are deadlines. Its falls are seen at the next access, which no
//! edge-triggered controller can tell from the exact instant.

use serde::{Deserialize, Serialize};

use crate::clock::{ns_of, tick_at};
use crate::{IrqLine, Ns, PortDevice, Timed};

/// Input clock in Hz.
pub const PIT_HZ: u64 = 1_193_182;
/// The DRAM refresh toggle of port 61h bit 4 changes every 18 ticks (15 us).
const REFRESH_TICKS: u64 = 18;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    mode: u8,
    bcd: bool,
    /// Read/write format: 1 = low byte, 2 = high byte, 3 = low then high.
    format: u8,
    /// The count in force, 1 to 65536.
    count: u64,
    /// A count written while modes 2 and 3 run: it takes effect at the end of the (half) period.
    next_count: Option<u64>,
    /// A count has been written since the mode was set.
    written: bool,
    /// The count has been loaded: by the write, or in modes 1 and 5 by the trigger.
    loaded: bool,
    gate: bool,
    /// Ticks counted before `since`.
    base: u64,
    /// The tick at which counting (re)started; `None` while it is stopped.
    since: Option<u64>,
    /// Rising edges of the output since the load that have been reported.
    seen_rises: u64,
    /// Low byte of a two-byte write.
    low_byte: Option<u8>,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// The next byte of a two-byte read is the high one.
    read_high: bool,
}

impl Channel {
    fn new(gate: bool) -> Self {
        Self {
            mode: 0,
            bcd: false,
            format: 3,
            count: 0x1_0000,
            next_count: None,
            written: false,
            loaded: false,
            gate,
            base: 0,
            since: None,
            seen_rises: 0,
            low_byte: None,
            latched_count: None,
            latched_status: None,
            read_high: false,
        }
    }

    fn elapsed(&self, tick: u64) -> u64 {
        self.base + self.since.map_or(0, |since| tick.saturating_sub(since))
    }

    /// Modes 2 and 3 divide by at least 2 (data sheet: a count of 1 is illegal), which also keeps IRQ 0 apart in time.
    fn period(&self) -> u64 {
        self.count.max(2)
    }

    fn high_half(&self) -> u64 {
        self.period().div_ceil(2)
    }

    fn output(&self, tick: u64) -> bool {
        let elapsed = self.elapsed(tick);
        match self.mode {
            0 => self.loaded && elapsed >= self.count,
            1 => !self.loaded || elapsed >= self.count,
            2 => self.since.is_none() || elapsed % self.period() != self.period() - 1,
            3 => self.since.is_none() || elapsed % self.period() < self.high_half(),
            _ => !self.loaded || elapsed != self.count,
        }
    }

    /// How often the output rose in the first `elapsed` ticks after the load.
    fn rises(&self, elapsed: u64) -> u64 {
        match self.mode {
            _ if !self.loaded => 0,
            0 | 1 => u64::from(elapsed >= self.count),
            2 | 3 => elapsed / self.period(),
            _ => u64::from(elapsed > self.count),
        }
    }

    /// The next tick at which the output may rise: an edge, or the point from which a new count is in force.
    fn next_rise(&self, tick: u64) -> Option<u64> {
        let since = self.since.filter(|_| self.loaded)?;
        if self.next_count.is_some() {
            return Some((since + self.boundary().0).max(tick + 1));
        }
        let elapsed = self.elapsed(tick);
        let at = match self.mode {
            0 | 1 => self.count,
            2 | 3 => (elapsed / self.period() + 1) * self.period(),
            _ => self.count + 1,
        };
        (at > elapsed).then(|| since + (at - self.base))
    }

    /// The counting element's value as a guest reads it.
    fn value(&self, tick: u64) -> u16 {
        let elapsed = self.elapsed(tick);
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let value = match self.mode {
            2 => self.period() - elapsed % self.period(),
            3 => {
                // Counts by two, twice per period.
                let phase = elapsed % self.period();
                let half = if phase < self.high_half() { phase } else { phase - self.high_half() };
                (self.period() & !1).saturating_sub(2 * half)
            }
            _ => self.count + modulus - elapsed % modulus,
        } % modulus;
        if self.bcd { to_bcd(value) } else { value as u16 }
    }

    /// Ticks from `since`, where `load` pinned the phase, to the next (half) period; true if that is the half.
    fn boundary(&self) -> (u64, bool) {
        let phase = self.base % self.period();
        if self.mode == 3 && phase < self.high_half() {
            (self.high_half() - phase, true)
        } else {
            (self.period() - phase, false)
        }
    }

    /// Lets a count that waits for the end of a (half) period take effect. True if the output rose there.
    fn settle(&mut self, tick: u64) -> bool {
        let (Some(next), Some(since)) = (self.next_count, self.since) else { return false };
        let (boundary, to_half) = self.boundary();
        if tick.saturating_sub(since) < boundary {
            return false;
        }
        self.next_count = None;
        self.count = next;
        self.base = if to_half { self.high_half() } else { 0 };
        self.since = Some(since + boundary);
        self.seen_rises = 0;
        !to_half
    }

    fn set_mode(&mut self, mode: u8, format: u8, bcd: bool) {
        *self = Self { mode, format, bcd, ..Self::new(self.gate) };
    }

    fn start(&mut self, tick: u64) {
        self.loaded = true;
        self.base = 0;
        self.seen_rises = 0;
        self.next_count = None;
        // The load takes the clock pulse after the write or the trigger.
        self.since = Some(tick + 1);
    }

    fn load(&mut self, raw: u16, tick: u64) {
        let count = if self.bcd { from_bcd(raw) } else { raw.into() };
        let count = if count == 0 { if self.bcd { 10_000 } else { 0x1_0000 } } else { count };
        self.written = true;
        match self.mode {
            2 | 3 if self.since.is_some() => {
                // Pin the phase here so that `settle` finds the first boundary after now.
                self.base = self.elapsed(tick) % self.period();
                self.since = Some(tick.max(self.since.unwrap_or(0)));
                self.seen_rises = 0;
                self.next_count = Some(count);
            }
            1 | 5 => self.count = count, // the trigger starts it
            _ => {
                self.count = count;
                self.start(tick);
                if !self.gate {
                    self.since = None;
                }
            }
        }
    }

    fn set_gate(&mut self, gate: bool, tick: u64) {
        let rising = gate && !self.gate;
        let falling = !gate && self.gate;
        self.gate = gate;
        match self.mode {
            1 | 5 if rising && self.written => self.start(tick),
            2 | 3 if rising && self.written => {
                self.count = self.next_count.unwrap_or(self.count);
                self.start(tick);
            }
            0 | 4 if rising && self.loaded => self.since = Some(tick),
            0 | 2 | 3 | 4 if falling => {
                self.base = self.elapsed(tick);
                self.since = None;
            }
            _ => {}
        }
    }

    fn write(&mut self, byte: u8, tick: u64) {
        match (self.format, self.low_byte.take()) {
            (1, _) => self.load(byte.into(), tick),
            (2, _) => self.load(u16::from(byte) << 8, tick),
            (_, Some(low)) => self.load(u16::from_le_bytes([low, byte]), tick),
            (_, None) => {
                self.low_byte = Some(byte);
                // Data sheet, mode 0: the first byte of a two-byte count stops the counting.
                if self.mode == 0 {
                    self.base = self.elapsed(tick);
                    self.since = None;
                }
            }
        }
    }

    fn latch_count(&mut self, tick: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.value(tick));
        }
    }

    fn latch_status(&mut self, tick: u64) {
        let null_count = !self.loaded || self.next_count.is_some();
        self.latched_status.get_or_insert(
            u8::from(self.output(tick)) << 7
                | u8::from(null_count) << 6
                | self.format << 4
                | self.mode << 1
                | u8::from(self.bcd),
        );
    }

    fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.value(tick)).to_le_bytes();
        let first_of_two = self.format == 3 && !self.read_high;
        let byte = if self.format == 1 || first_of_two { low } else { high };
        self.read_high = first_of_two;
        if !first_of_two {
            self.latched_count = None;
        }
        byte
    }
}

fn from_bcd(raw: u16) -> u64 {
    [1000, 100, 10, 1]
        .iter()
        .zip([12, 8, 4, 0])
        .map(|(weight, shift)| weight * u64::from(raw >> shift & 15))
        .sum()
}

fn to_bcd(value: u64) -> u16 {
    [1000, 100, 10, 1]
        .iter()
        .zip([12, 8, 4, 0])
        .fold(0, |bcd, (w, shift)| bcd | ((value / w % 10) as u16) << shift)
}

/// Registers of the three channels and of port 61h.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PitState {
    channels: [Channel; 3],
    /// Writable bits of port 61h: gate 2, speaker data, parity and channel check disable.
    port_b: u8,
    /// Time of the last `advance`.
    now: Ns,
}

/// The 8254 at ports 40h to 43h and the system control port B, 61h.
pub struct Pit8254 {
    state: PitState,
    irq: IrqLine,
}

impl Pit8254 {
    /// The timer at power-on: no channel counts. `irq` is channel 0's output.
    pub fn new(irq: IrqLine) -> Self {
        Self { state: PitState::new(0), irq }
    }

    /// Platform reset.
    pub fn reset(&mut self, now: Ns) {
        self.state = PitState::new(now);
        self.irq.set(false);
    }

    /// What the PC speaker plays: the frequency of channel 2 in Hz, `None` while silent.
    pub fn speaker_hz(&self) -> Option<u64> {
        let [_, _, channel] = &self.state.channels;
        let sounding = self.state.port_b & 3 == 3 && matches!(channel.mode, 2 | 3) && channel.loaded;
        sounding.then(|| PIT_HZ / channel.period())
    }

    /// Registers and phases.
    pub fn save(&self) -> PitState {
        let Self { state, irq: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: PitState) {
        for channel in &mut state.channels {
            channel.mode = channel.mode.min(5);
            channel.format = channel.format.clamp(1, 3);
            channel.count = channel.count.clamp(1, 0x1_0000);
            channel.next_count = channel.next_count.map(|count| count.clamp(1, 0x1_0000));
            // No tick of a 64-bit nanosecond clock comes near this.
            channel.base = channel.base.min(u64::MAX >> 8);
            channel.since = channel.since.map(|since| since.min(u64::MAX >> 8));
        }
        self.state = state;
    }

    fn control(&mut self, value: u8, tick: u64) {
        let which = usize::from(value >> 6);
        let format = value >> 4 & 3;
        if which == 3 {
            for (index, channel) in self.state.channels.iter_mut().enumerate() {
                if value & 2 << index != 0 {
                    if value & 0x20 == 0 {
                        channel.latch_count(tick);
                    }
                    if value & 0x10 == 0 {
                        channel.latch_status(tick);
                    }
                }
            }
        } else if format == 0 {
            self.state.channels[which].latch_count(tick);
        } else {
            let mode = value >> 1 & 7;
            self.state.channels[which].set_mode(
                if mode > 5 { mode - 4 } else { mode },
                format,
                value & 1 != 0,
            );
        }
    }

    /// Lets the IRQ line follow channel 0, with a pulse for edges that came and went.
    fn drive(&mut self, tick: u64) {
        let channel = &mut self.state.channels[0];
        let mut rose = channel.settle(tick);
        let rises = channel.rises(channel.elapsed(tick));
        rose |= rises > channel.seen_rises;
        channel.seen_rises = rises;
        if rose {
            self.irq.set(false);
            self.irq.set(true);
        }
        self.irq.set(channel.output(tick));
    }
}

impl PitState {
    fn new(now: Ns) -> Self {
        Self { channels: [Channel::new(true), Channel::new(true), Channel::new(false)], port_b: 0, now }
    }
}

impl PortDevice for Pit8254 {
    fn port_read(&mut self, port: u16, _size: u8, now: Ns) -> u32 {
        self.advance(now);
        let tick = tick_at(now, PIT_HZ);
        let value = match port {
            0x61 => {
                let refresh = ((tick / REFRESH_TICKS) & 1) as u8;
                let output = u8::from(self.state.channels[2].output(tick));
                self.state.port_b | refresh << 4 | output << 5
            }
            0x40..=0x42 => self.state.channels[usize::from(port & 3)].read(tick),
            _ => 0xff, // the control word cannot be read
        };
        value.into()
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, now: Ns) {
        self.advance(now);
        let tick = tick_at(now, PIT_HZ);
        let value = value as u8;
        match port {
            0x61 => {
                self.state.port_b = value & 0x0f;
                self.state.channels[2].set_gate(value & 1 != 0, tick);
            }
            0x40..=0x42 => self.state.channels[usize::from(port & 3)].write(value, tick),
            _ => self.control(value, tick),
        }
        self.drive(tick);
    }
}

impl Timed for Pit8254 {
    fn next_deadline(&self) -> Option<Ns> {
        let channel = &self.state.channels[0];
        let rise = channel.next_rise(tick_at(self.state.now, PIT_HZ));
        rise.and_then(|tick| ns_of(tick, PIT_HZ))
    }

    fn advance(&mut self, now: Ns) {
        self.state.now = self.state.now.max(now);
        let tick = tick_at(self.state.now, PIT_HZ);
        self.state.channels[2].settle(tick);
        self.state.channels[1].settle(tick);
        self.drive(tick);
    }
}

#[cfg(test)]
#[path = "pit8254_tests.rs"]
mod tests;
