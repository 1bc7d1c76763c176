//! Ports for people: debug console (E9h), isa-debug-exit, POST codes (80h) and the delay port (EDh).

use serde::{Deserialize, Serialize};

use crate::{Ns, PortDevice, PowerEvent};

/// Debug console: writes are output, reads give E9h, by which software finds it.
pub const DEBUGCON_PORT: u16 = 0xe9;
/// POST code display.
pub const POST_PORT: u16 = 0x80;
/// A port that nothing decodes but much software writes to as a delay.
pub const DELAY_PORT: u16 = 0xed;

/// The board drains output after each access; a board that does not loses what exceeds this.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// Latched values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugPortsState {
    post: u8,
    event: Option<PowerEvent>,
}

/// The debug ports. Ports other than the console's, 80h and EDh are taken for isa-debug-exit's.
pub struct DebugPorts {
    state: DebugPortsState,
    output: Vec<u8>,
    console: u16,
}

impl Default for DebugPorts {
    fn default() -> Self {
        Self::new()
    }
}

impl DebugPorts {
    /// Nothing written yet; the console at [`DEBUGCON_PORT`].
    pub fn new() -> Self {
        Self { state: DebugPortsState::default(), output: Vec::new(), console: DEBUGCON_PORT }
    }

    /// Moves the debug console to another port.
    pub fn set_console(&mut self, port: u16) {
        self.console = port;
    }

    /// Is there any?
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Bytes written to the debug console since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The last POST code.
    pub fn post_code(&self) -> u8 {
        self.state.post
    }

    /// The exit that was asked for.
    pub fn take_event(&mut self) -> Option<PowerEvent> {
        self.state.event.take()
    }

    /// Latched values.
    pub fn save(&self) -> DebugPortsState {
        let Self { state, output: _, console: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: DebugPortsState) {
        self.state = state;
    }
}

impl PortDevice for DebugPorts {
    fn port_read(&mut self, port: u16, size: u8, _now: Ns) -> u32 {
        match port {
            _ if port == self.console => DEBUGCON_PORT.into(),
            POST_PORT => self.state.post.into(),
            DELAY_PORT => 0xff,
            _ => u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4))),
        }
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, _now: Ns) {
        match port {
            _ if port == self.console => {
                if self.output.len() < OUTPUT_LIMIT {
                    self.output.push(value as u8);
                }
            }
            POST_PORT => self.state.post = value as u8,
            DEBUGCON_PORT | DELAY_PORT => {}
            _ => self.state.event = Some(PowerEvent::DebugExit(value << 1 | 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_exit_and_post() {
        let mut ports = DebugPorts::new();
        assert_eq!(ports.port_read(0xe9, 1, 0), 0xe9);
        for byte in b"hi" {
            ports.port_write(0xe9, 1, (*byte).into(), 0);
        }
        assert_eq!(ports.take_output(), b"hi");
        ports.port_write(0x80, 1, 0x42, 0);
        assert_eq!((ports.post_code(), ports.take_event()), (0x42, None));
        ports.port_write(0x501, 4, 16, 0);
        assert_eq!(ports.save().event, Some(PowerEvent::DebugExit(33)));
        assert_eq!(ports.take_event(), Some(PowerEvent::DebugExit(33)));
    }
}
