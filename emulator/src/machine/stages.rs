//! `-d boot`: how far a guest has come, in one line for each step that can be seen from outside.
//!
//! Steps are what the machine is in when it looks at its devices anyway: the modes of the processor that are reached for the first
//! time since a reset, POST codes, the display's modes, the first output of a serial port, power events. Times are virtual.

use devices::PowerEvent;

use super::Machine;

/// Virtual nanoseconds between two looks at the display.
const DISPLAY_EVERY: u64 = 50_000_000;

/// What has been told.
pub(super) struct Stages {
    enabled: bool,
    /// Modes that were reached, as bits.
    reached: u8,
    post_code: u8,
    display: String,
    next_display: u64,
    /// Serial ports that have spoken, as bits.
    spoken: u8,
}

impl Stages {
    /// Nothing has been told. Steps are told if the log wants them at this moment.
    pub(super) fn new() -> Self {
        Self {
            enabled: tracing::enabled!(target: "boot", tracing::Level::TRACE),
            reached: 0,
            post_code: 0,
            display: String::new(),
            next_display: 0,
            spoken: 0,
        }
    }

    fn tell(&self, now: u64, what: &str) {
        let (seconds, micros) = (now / 1_000_000_000, now / 1000 % 1_000_000);
        tracing::trace!(target: "boot", "[{seconds:5}.{micros:06}] {what}");
    }

    /// The guest starts anew.
    pub(super) fn reset(&mut self, now: u64, why: &str) {
        if self.enabled {
            self.tell(now, why);
            *self = Self { next_display: now, ..Self::new() };
        }
    }

    /// A serial port has sent something.
    pub(super) fn serial(&mut self, now: u64, port: u8, bytes: &[u8]) {
        let bit = 1 << (port & 7);
        if self.enabled && self.spoken & bit == 0 && bytes.iter().any(|byte| !byte.is_ascii_control()) {
            self.spoken |= bit;
            self.tell(now, &format!("COM{} speaks", port + 1));
        }
    }

    /// A power event.
    pub(super) fn power(&self, now: u64, event: PowerEvent) {
        if self.enabled {
            self.tell(
                now,
                match event {
                    PowerEvent::PowerOff => "the guest switches the machine off",
                    PowerEvent::Reset => "the guest resets the machine",
                    PowerEvent::DebugExit(_) => "the guest ends the emulator",
                },
            );
        }
    }
}

impl Machine {
    /// Tells what has changed since the last look.
    pub(super) fn tell_stage(&mut self, now: u64) {
        if !self.stages.enabled {
            return;
        }
        let (cr0, efer) = (self.cpu.st.cr0, self.cpu.st.msr.efer);
        let (bit, mode) = match (cr0 & 1 != 0, cr0 >> 31 & 1 != 0, efer >> 10 & 1 != 0) {
            (_, _, true) => (8, "64-bit mode"),
            (_, true, _) => (4, "protected mode with paging"),
            (true, ..) => (2, "protected mode"),
            _ => (1, "real mode"),
        };
        if self.stages.reached & bit == 0 {
            self.stages.reached |= bit;
            self.stages.tell(now, &format!("the processor is in {mode}"));
        }
        let code = self.devices().post_code();
        if std::mem::replace(&mut self.stages.post_code, code) != code {
            self.stages.tell(now, &format!("POST code {code:02X}h"));
        }
        if now >= self.stages.next_display {
            self.stages.next_display = now + DISPLAY_EVERY;
            self.tell_display(now);
        }
    }

    fn tell_display(&mut self, now: u64) {
        let devices = self.devices();
        let shown = match devices.text_screen(now) {
            Some(text) => format!("text mode, {} x {} characters", text.columns, text.rows),
            None => match devices.picture(now) {
                Some(picture) if picture.rgb.iter().any(|value| *value != 0) => {
                    format!("a picture of {} x {} pixels", picture.width, picture.height)
                }
                _ => return,
            },
        };
        if shown != self.stages.display {
            self.stages.tell(now, &format!("the display shows {shown}"));
            self.stages.display = shown;
        }
    }
}
