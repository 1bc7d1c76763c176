//! retro-post: ports whose writes are kept outside, byte for byte: POST codes, and the output ports of test ROMs.

use serde::{Deserialize, Serialize};

use crate::{Ns, PortDevice, PowerEvent};

/// What outside gets to see of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostFormat {
    /// The bytes as they are, the low one first.
    #[default]
    Raw,
    /// One line for each write: hexadecimal digits, two for each byte.
    Hex,
}

/// One range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostConfig {
    /// First port.
    pub iobase: u16,
    /// Number of ports, at least 1.
    pub iosize: u16,
    /// Form of the output.
    pub format: PostFormat,
    /// A write of this value switches the machine off.
    pub exit: Option<u32>,
}

/// The board drains output after each slice; a board that does not loses what exceeds this.
const OUTPUT_LIMIT: usize = 1 << 20;

/// The last value written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostState {
    last: u32,
    event: Option<PowerEvent>,
}

/// See the module.
pub struct PostPort {
    config: PostConfig,
    state: PostState,
    output: Vec<u8>,
}

impl PostPort {
    /// Nothing written yet.
    pub fn new(config: &PostConfig) -> Self {
        Self { config: *config, state: PostState::default(), output: Vec::new() }
    }

    /// Is there any?
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// What was written since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The end that was asked for.
    pub fn take_event(&mut self) -> Option<PowerEvent> {
        self.state.event.take()
    }

    /// Forgets the last value.
    pub fn reset(&mut self) {
        self.state = PostState::default();
    }

    /// The state.
    pub fn save(&self) -> PostState {
        let Self { config: _, state, output: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: PostState) {
        self.state = state;
    }
}

impl PortDevice for PostPort {
    fn port_read(&mut self, _port: u16, size: u8, _now: Ns) -> u32 {
        self.state.last & u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
    }

    fn port_write(&mut self, _port: u16, size: u8, value: u32, _now: Ns) {
        let size = usize::from(size.clamp(1, 4));
        self.state.last = value;
        if self.config.exit == Some(value) {
            self.state.event = Some(PowerEvent::PowerOff);
        }
        if self.output.len() < OUTPUT_LIMIT {
            match self.config.format {
                PostFormat::Raw => self.output.extend_from_slice(&value.to_le_bytes()[..size]),
                PostFormat::Hex => {
                    self.output.extend_from_slice(format!("{value:0width$x}\n", width = 2 * size).as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_go_outside_in_either_form() {
        let config = |format| PostConfig { iobase: 0x190, iosize: 2, format, exit: Some(0xff) };
        let mut raw = PostPort::new(&config(PostFormat::Raw));
        let mut hex = PostPort::new(&config(PostFormat::Hex));
        for (size, value) in [(1, 0x0a), (2, 0xbeef), (1, 0xff)] {
            assert!(raw.take_event().is_none());
            raw.port_write(0x190, size, value, 0);
            hex.port_write(0x190, size, value, 0);
        }
        assert_eq!(raw.port_read(0x190, 1, 0), 0xff);
        assert_eq!(raw.take_output(), [0x0a, 0xef, 0xbe, 0xff]);
        assert_eq!(hex.take_output(), b"0a\nbeef\nff\n");
        assert_eq!((raw.take_event(), raw.take_event()), (Some(PowerEvent::PowerOff), None));
    }
}
