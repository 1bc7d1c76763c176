//! Features (5.21): what SET FEATURES keeps and GET FEATURES tells.

use serde::{Deserialize, Serialize};

use super::IO_QUEUES;
use super::command::Status;

const ARBITRATION: u8 = 0x01;
const POWER_MANAGEMENT: u8 = 0x02;
const TEMPERATURE_THRESHOLD: u8 = 0x04;
const ERROR_RECOVERY: u8 = 0x05;
const WRITE_CACHE: u8 = 0x06;
const QUEUES: u8 = 0x07;
const COALESCING: u8 = 0x08;
const VECTOR: u8 = 0x09;
const ATOMICITY: u8 = 0x0a;
const EVENTS: u8 = 0x0b;

/// Features that are there, with their values after reset.
const DEFAULTS: [(u8, u32); 10] = [
    (ARBITRATION, 0),
    (POWER_MANAGEMENT, 0),
    (TEMPERATURE_THRESHOLD, 343),
    (ERROR_RECOVERY, 0),
    (WRITE_CACHE, 1),
    (QUEUES, (IO_QUEUES as u32 - 1) | (IO_QUEUES as u32 - 1) << 16),
    (COALESCING, 0),
    (VECTOR, 0),
    (ATOMICITY, 0),
    (EVENTS, 0),
];

/// Values in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Features([u32; DEFAULTS.len()]);

impl Default for Features {
    fn default() -> Self {
        Self(DEFAULTS.map(|(_, value)| value))
    }
}

fn place(feature: u8) -> Result<usize, Status> {
    DEFAULTS.iter().position(|(id, _)| *id == feature).ok_or(Status::INVALID_FIELD)
}

impl Features {
    /// Is what was written kept in a cache that a power failure loses?
    pub fn write_cache(&self) -> bool {
        place(WRITE_CACHE).is_ok_and(|at| self.0[at] & 1 != 0)
    }

    /// SET FEATURES; `word` is command dword 11. Gives dword 0 of the completion. `busy`: there are I/O queues.
    pub fn set(&mut self, selector: u32, word: u32, busy: bool) -> Result<u32, Status> {
        let feature = selector as u8;
        if selector >> 31 != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        let at = place(feature)?;
        match feature {
            QUEUES if busy => return Err(Status::SEQUENCE),
            QUEUES => {
                let (submission, completion) = (word & 0xffff, word >> 16);
                if submission == 0xffff || completion == 0xffff {
                    return Err(Status::INVALID_FIELD);
                }
                let most = u32::from(IO_QUEUES) - 1;
                self.0[at] = submission.min(most) | completion.min(most) << 16;
                return Ok(self.0[at]);
            }
            // There is one power state, and one format of nothing else.
            POWER_MANAGEMENT if word & 0x1f != 0 => return Err(Status::INVALID_FIELD),
            VECTOR if word & 0xffff > u32::from(IO_QUEUES) => return Err(Status::INVALID_FIELD),
            // Of vectors the numbers come back: none is coalesced.
            VECTOR => self.0[at] = 0,
            WRITE_CACHE => self.0[at] = word & 1,
            _ => self.0[at] = word,
        }
        Ok(0)
    }

    /// GET FEATURES: the value now, after reset, or what can be done with it.
    pub fn get(&self, selector: u32, word: u32) -> Result<u32, Status> {
        let feature = selector as u8;
        let at = place(feature)?;
        match selector >> 8 & 7 {
            0 if feature == VECTOR && word & 0xffff > u32::from(IO_QUEUES) => Err(Status::INVALID_FIELD),
            0 if feature == VECTOR => Ok(word & 0xffff),
            0 => Ok(self.0[at]),
            1 | 2 => Ok(DEFAULTS[at].1),
            // Changeable, but neither saveable nor of a namespace.
            3 => Ok(4),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}
