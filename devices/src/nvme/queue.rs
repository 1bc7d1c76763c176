//! Submission and completion queues: rings in guest memory whose ends doorbells tell (4.1).

use serde::{Deserialize, Serialize};

use super::command::{Command, ENTRY, Status};
use crate::memory::Dma;

/// Entries that a queue can have.
pub(super) const MAX_ENTRIES: u32 = 2048;
const COMPLETION: u64 = 16;

/// Where the driver puts commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubmissionQueue {
    base: u64,
    size: u32,
    head: u32,
    tail: u32,
    /// The completion queue.
    pub cq: u16,
}

/// Where the controller puts completions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CompletionQueue {
    base: u64,
    size: u32,
    head: u32,
    tail: u32,
    phase: bool,
    interrupts: bool,
    /// Interrupt vector.
    pub vector: u16,
}

/// Memory did not answer: the controller cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fatal;

/// A doorbell's value that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadDoorbell;

impl SubmissionQueue {
    pub fn new(base: u64, size: u32, cq: u16) -> Self {
        Self { base, size, head: 0, tail: 0, cq }
    }

    pub fn ring(&mut self, tail: u32) -> Result<(), BadDoorbell> {
        if tail >= self.size {
            return Err(BadDoorbell);
        }
        self.tail = tail;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// The next command, which stays.
    pub fn peek(&self, dma: &Dma) -> Result<Command, Fatal> {
        let mut bytes = [0; ENTRY];
        let at = self.base.wrapping_add(u64::from(self.head) * ENTRY as u64);
        if dma.read(at, &mut bytes) { Ok(Command::new(&bytes)) } else { Err(Fatal) }
    }

    /// It is taken.
    pub fn advance(&mut self) {
        self.head = (self.head + 1) % self.size;
    }

    pub fn head(&self) -> u32 {
        self.head
    }

    /// Can this be, whoever saved it?
    pub fn is_sound(&self) -> bool {
        (2..=MAX_ENTRIES).contains(&self.size) && self.head < self.size && self.tail < self.size
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    pub result: u32,
    pub sq: u16,
    pub sq_head: u32,
    pub command: u16,
    pub status: Status,
}

impl CompletionQueue {
    pub fn new(base: u64, size: u32, interrupts: bool, vector: u16) -> Self {
        Self { base, size, head: 0, tail: 0, phase: true, interrupts, vector }
    }

    pub fn ring(&mut self, head: u32) -> Result<(), BadDoorbell> {
        if head >= self.size {
            return Err(BadDoorbell);
        }
        self.head = head;
        Ok(())
    }

    /// Entries that are free: one always stays so.
    pub fn room(&self) -> u32 {
        (self.head + self.size - self.tail - 1) % self.size
    }

    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Are there completions that the driver has not taken, of which it wants to know?
    pub fn asks(&self) -> bool {
        self.interrupts && self.head != self.tail
    }

    /// Puts a completion in, which has room; true if it interrupts.
    pub fn post(&mut self, dma: &Dma, completion: &Completion) -> Result<bool, Fatal> {
        let Completion { result, sq, sq_head, command, status } = *completion;
        let mut entry = [0; COMPLETION as usize];
        entry[..4].copy_from_slice(&result.to_le_bytes());
        entry[8..10].copy_from_slice(&(sq_head as u16).to_le_bytes());
        entry[10..12].copy_from_slice(&sq.to_le_bytes());
        entry[12..14].copy_from_slice(&command.to_le_bytes());
        entry[14..].copy_from_slice(&(status.0 << 1 | u16::from(self.phase)).to_le_bytes());
        if !dma.write(self.base.wrapping_add(u64::from(self.tail) * COMPLETION), &entry) {
            return Err(Fatal);
        }
        self.tail += 1;
        if self.tail == self.size {
            (self.tail, self.phase) = (0, !self.phase);
        }
        Ok(self.interrupts)
    }

    /// Can this be, whoever saved it?
    pub fn is_sound(&self) -> bool {
        (2..=MAX_ENTRIES).contains(&self.size) && self.head < self.size && self.tail < self.size
    }
}
