//! The PS/2 mouse's side of the wire: commands and replies (IBM PS/2 technical reference, auxiliary device), with the
//! sample rate sequences by which a driver turns on the wheel (identity 3) and two more buttons (identity 4).
//!
//! Movements add up until the host has taken the last report: so a slow host sees the whole way, in few reports. A change of the
//! buttons ends a report, so that no click is lost while the buffer has room.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

const BUFFER: usize = 16;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// What the mouse was moved by, and which buttons are down: bit 0 left, 1 right, 2 middle, 3 and 4 the side buttons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MouseMove {
    /// To the right.
    pub dx: i32,
    /// Down.
    pub dy: i32,
    /// The wheel, towards the user.
    pub dz: i32,
    /// Buttons that are down afterwards.
    pub buttons: u8,
}

/// Counts that wait at most: several screens.
const MAX_PENDING: i32 = 8192;

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
    /// What no report has told yet.
    pending: MouseMove,
    /// The buttons of the last report.
    told_buttons: u8,
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
            pending: MouseMove::default(),
            told_buttons: 0,
        }
    }
}

impl Mouse {
    /// The mouse was moved, or a button pressed or let go.
    pub(super) fn moved(&mut self, by: MouseMove) {
        if self.streams() && by.buttons != self.pending.buttons && self.has_news() {
            self.report_if_room();
        }
        let add = |sum: i32, more: i32| sum.saturating_add(more).clamp(-MAX_PENDING, MAX_PENDING);
        let MouseMove { dx, dy, dz, buttons } = self.pending;
        self.pending =
            MouseMove { dx: add(dx, by.dx), dy: add(dy, by.dy), dz: add(dz, by.dz), buttons: by.buttons };
        if buttons != by.buttons && self.streams() {
            self.report_if_room();
        }
    }

    fn streams(&self) -> bool {
        self.reporting && !self.remote && !self.wrap
    }

    fn has_news(&self) -> bool {
        let MouseMove { dx, dy, dz, buttons } = self.pending;
        (dx, dy) != (0, 0) || dz != 0 && self.identity != 0 || buttons != self.told_buttons
    }

    fn report_if_room(&mut self) {
        if self.buffer.len() + 4 <= BUFFER {
            self.report();
        }
    }

    /// Puts a report of what has happened since the last one into the buffer.
    fn report(&mut self) {
        let take = |pending: &mut i32, most: i32| {
            let part = (*pending).clamp(-most, most);
            *pending -= part;
            part
        };
        let pending = &mut self.pending;
        // Up is positive on the wire.
        let (dx, dy) = (take(&mut pending.dx, 255), -take(&mut pending.dy, 255));
        let (dz, buttons) = (take(&mut pending.dz, 7), pending.buttons);
        self.told_buttons = buttons;
        let signs = u8::from(dx < 0) << 4 | u8::from(dy < 0) << 5;
        self.buffer.extend([0x08 | signs | buttons & 7, dx as u8, dy as u8]);
        match self.identity {
            0 => {}
            4 => self.buffer.push_back((dz as u8) & 0xf | (buttons & 0x18) << 1),
            _ => self.buffer.push_back(dz as u8),
        }
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        if self.buffer.is_empty() && self.streams() && self.has_news() {
            self.report();
        }
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
        let pending = MouseMove { buttons: self.pending.buttons, ..MouseMove::default() };
        *self = Self { identity: self.identity, rates: self.rates, pending, ..Self::default() };
    }

    fn command(&mut self, byte: u8) {
        match byte {
            0xe6 => self.scaling_2_to_1 = false,
            0xe7 => self.scaling_2_to_1 = true,
            0xe8 | 0xf3 => self.command = Some(byte),
            0xe9 => {
                let status = u8::from(self.remote) << 6
                    | u8::from(self.reporting) << 5
                    | u8::from(self.scaling_2_to_1) << 4
                    | self.status_buttons();
                return self.buffer.extend([ACK, status, self.resolution, self.rate]);
            }
            0xea => self.remote = false,
            0xeb => {
                self.buffer.push_back(ACK);
                return self.report();
            }
            0xec => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => return self.buffer.extend([ACK, self.identity]),
            0xf4 => {
                // What happened before is old.
                (self.pending.dx, self.pending.dy, self.pending.dz) = (0, 0, 0);
                self.reporting = true;
            }
            0xf5 => self.reporting = false,
            0xf6 => self.defaults(),
            0xfe => return self.buffer.push_back(self.last_sent),
            0xff => {
                let pending = MouseMove { buttons: self.pending.buttons, ..MouseMove::default() };
                *self = Self { pending, ..Self::default() };
                return self.buffer.extend([ACK, 0xaa, 0x00]);
            }
            _ => return self.buffer.push_back(RESEND),
        }
        self.buffer.push_back(ACK);
    }

    /// Buttons as the status byte has them: left, middle and right from bit 2 down.
    fn status_buttons(&self) -> u8 {
        let buttons = self.pending.buttons;
        (buttons & 1) << 2 | (buttons >> 2 & 1) << 1 | buttons >> 1 & 1
    }

    pub(super) fn sanitise(&mut self) {
        self.buffer.truncate(BUFFER);
        let MouseMove { dx, dy, dz, buttons: _ } = &mut self.pending;
        for pending in [dx, dy, dz] {
            *pending = (*pending).clamp(-MAX_PENDING, MAX_PENDING);
        }
    }
}
