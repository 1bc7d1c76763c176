//! The PS/2 mouse's side of the wire: commands and replies (IBM PS/2 technical reference, auxiliary device), with the
//! sample rate sequences by which a driver turns on the wheel (identity 3) and two more buttons (identity 4).
//!
//! It does not move yet: reports are sent only when asked for, and say so.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

const BUFFER: usize = 16;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mouse {
    buffer: VecDeque<u8>,
    command: Option<u8>,
    last_sent: u8,
    /// 0 = plain, 3 = wheel, 4 = wheel and five buttons.
    identity: u8,
    resolution: u8,
    rate: u8,
    /// The last three sample rates set.
    rates: [u8; 3],
    scaling_2_to_1: bool,
    remote: bool,
    reporting: bool,
    wrap: bool,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            buffer: VecDeque::new(),
            command: None,
            last_sent: 0,
            identity: 0,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            scaling_2_to_1: false,
            remote: false,
            reporting: false,
            wrap: false,
        }
    }
}

impl Mouse {
    pub(super) fn pop(&mut self) -> Option<u8> {
        let byte = self.buffer.pop_front()?;
        self.last_sent = byte;
        Some(byte)
    }

    /// A byte from the host. A command ends whatever the mouse was saying.
    pub(super) fn write(&mut self, byte: u8) {
        self.buffer.clear();
        if self.wrap && !matches!(byte, 0xec | 0xff) {
            return self.buffer.push_back(byte);
        }
        match self.command.take() {
            Some(0xe8) => {
                self.resolution = byte & 3;
                self.buffer.push_back(ACK);
            }
            Some(_) => {
                self.set_rate(byte);
                self.buffer.push_back(ACK);
            }
            None => self.command(byte),
        }
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.rates = [self.rates[1], self.rates[2], rate];
        match (self.rates, self.identity) {
            ([200, 100, 80], 0) => self.identity = 3,
            ([200, 200, 80], 3) => self.identity = 4,
            _ => {}
        }
    }

    fn defaults(&mut self) {
        *self = Self { identity: self.identity, rates: self.rates, ..Self::default() };
    }

    fn command(&mut self, byte: u8) {
        match byte {
            0xe6 => self.scaling_2_to_1 = false,
            0xe7 => self.scaling_2_to_1 = true,
            0xe8 | 0xf3 => self.command = Some(byte),
            0xe9 => {
                let status = u8::from(self.remote) << 6
                    | u8::from(self.reporting) << 5
                    | u8::from(self.scaling_2_to_1) << 4;
                return self.buffer.extend([ACK, status, self.resolution, self.rate]);
            }
            0xea => self.remote = false,
            0xeb => {
                // Bit 3 is always set; nothing moved.
                self.buffer.extend([ACK, 0x08, 0, 0]);
                if self.identity != 0 {
                    self.buffer.push_back(0);
                }
                return;
            }
            0xec => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => return self.buffer.extend([ACK, self.identity]),
            0xf4 => self.reporting = true,
            0xf5 => self.reporting = false,
            0xf6 => self.defaults(),
            0xfe => return self.buffer.push_back(self.last_sent),
            0xff => {
                *self = Self::default();
                return self.buffer.extend([ACK, 0xaa, 0x00]);
            }
            _ => return self.buffer.push_back(RESEND),
        }
        self.buffer.push_back(ACK);
    }

    pub(super) fn sanitise(&mut self) {
        self.buffer.truncate(BUFFER);
    }
}
