//! Asynchronous events (5.2): what the controller tells of its own accord, once a driver has asked for it.
//!
//! After an event of one type no other of that type is told until the driver has read the log that belongs to it.

use serde::{Deserialize, Serialize};

use super::AER_LIMIT;
use super::command::{Outcome, Status};

/// An event: type, information, log page, as in dword 0 of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event(u32);

/// Error information.
const ERROR_LOG: u8 = 1;

impl Event {
    /// A write to the doorbell of a queue that is not there.
    pub const NO_SUCH_DOORBELL: Self = Self((ERROR_LOG as u32) << 16);
    /// A value beyond the queue.
    pub const BAD_DOORBELL: Self = Self((ERROR_LOG as u32) << 16 | 1 << 8);

    fn kind(self) -> u32 {
        self.0 & 7
    }
}

/// Requests that wait, and events that nobody has asked for yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Events {
    requests: Vec<u16>,
    pending: Vec<Event>,
    /// A bit for each type that was told and whose log was not read since.
    masked: u8,
}

impl Events {
    /// ASYNCHRONOUS EVENT REQUEST.
    pub fn request(&mut self, command: u16) -> Outcome {
        if self.requests.len() >= AER_LIMIT.into() {
            return Err(Status::TOO_MANY_EVENTS);
        }
        self.requests.push(command);
        Ok(None)
    }

    /// Takes a request back.
    pub fn abort(&mut self, command: u16) -> bool {
        let found = self.requests.iter().position(|waiting| *waiting == command);
        found.map(|at| self.requests.remove(at)).is_some()
    }

    /// An event of a type is remembered once.
    pub fn add(&mut self, event: Event) {
        if !self.pending.contains(&event) {
            self.pending.push(event);
        }
    }

    /// A request to complete, and with what.
    pub fn next(&mut self) -> Option<(u16, u32)> {
        if self.requests.is_empty() {
            return None;
        }
        let at = self.pending.iter().position(|event| self.masked >> event.kind() & 1 == 0)?;
        let event = self.pending.remove(at);
        self.masked |= 1 << event.kind();
        Some((self.requests.remove(0), event.0))
    }

    /// The driver has read log page `number`.
    pub fn log_read(&mut self, number: u8) {
        if number == ERROR_LOG {
            self.masked &= !1;
        }
    }

    /// A saved state may come from anyone.
    pub fn sanitize(&mut self) {
        self.requests.truncate(AER_LIMIT.into());
        self.pending.retain(|event| [Event::NO_SUCH_DOORBELL, Event::BAD_DOORBELL].contains(event));
        self.pending.truncate(2);
    }
}
