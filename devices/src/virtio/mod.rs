//! virtio devices (OASIS Virtual I/O Device specification 1.2), transport apart from device.
//!
//! A [`VirtioDevice`] knows its features, its configuration and what to do with buffers; [`pci::VirtioPci`] knows registers, ring
//! addresses and interrupts, and lends the device its queues for one call at a time ([`Io`]). So a device is written once, whatever
//! it is reached through.
//!
//! As with other devices, what a notification asks for is done when a modelled latency has passed; until then a buffer stays in its
//! ring. So nothing is in flight between two events, and a saved state is complete.
//!
//! A device that finds nonsense in a ring stops with DEVICE_NEEDS_RESET, as the specification has it.

pub mod blk;
pub mod pci;
mod registers;
mod ring;
#[cfg(test)]
mod test_driver;
#[cfg(test)]
mod tests;

use std::io;

use crate::Ns;
use crate::memory::Dma;
pub use ring::{Broken, Chain, Queue, QueueState};

/// A vector that is none.
pub const NO_VECTOR: u16 = 0xffff;

/// Feature bits that belong to no kind of device (6).
pub mod feature {
    /// Legacy: an interrupt when the available ring is empty, wanted or not.
    pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
    /// Legacy: no assumptions about how a request is cut into descriptors.
    pub const ANY_LAYOUT: u64 = 1 << 27;
    /// Indirect descriptors.
    pub const RING_INDIRECT_DESC: u64 = 1 << 28;
    /// Indices that tell when a notification or interrupt is wanted.
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// The specification from 1.0 on.
    pub const VERSION_1: u64 = 1 << 32;
}

/// What a device is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// virtio's number for its kind (5): 1 network, 2 block, 3 console, 4 entropy.
    pub kind: u16,
    /// PCI device number of a transitional device (4.1.2.1).
    pub transitional_id: u16,
    /// PCI class in 24 bits.
    pub class: u32,
}

/// A device behind a transport.
pub trait VirtioDevice: Send {
    /// What it is.
    fn identity(&self) -> Identity;
    /// Its features, without those of the transport and the rings.
    fn features(&self) -> u64;
    /// The largest size of each queue, powers of two.
    fn queue_sizes(&self) -> Vec<u16>;
    /// A byte of its configuration; 0 beyond the end.
    fn config_byte(&self, offset: u64) -> u8;
    /// Length of the configuration.
    fn config_len(&self) -> u64;
    /// The driver writes a byte of it.
    fn config_write(&mut self, _offset: u64, _value: u8) {}
    /// The driver has accepted these features.
    fn negotiated(&mut self, _features: u64) {}
    /// The driver says that buffers are available in `queue`.
    fn notified(&mut self, queue: usize, io: &mut Io<'_>, now: Ns);
    /// When [`VirtioDevice::advance`] is to be called; after a call it is later than that call's `now`.
    fn next_deadline(&self) -> Option<Ns>;
    /// Does what is due.
    fn advance(&mut self, io: &mut Io<'_>, now: Ns);
    /// The driver or the platform resets it.
    fn reset(&mut self);
    /// Brings what was written to the host's disk: for the end of the run.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Its state.
    fn save(&self) -> Vec<u8>;
    /// Restores what `save` gave; bytes that do not fit are hostile input, not a bug.
    fn restore(&mut self, state: &[u8]);
}

/// A device's queues and memory for one call.
pub struct Io<'a> {
    /// Guest memory.
    pub dma: &'a Dma,
    /// Accepted features.
    features: u64,
    queues: &'a mut [Queue],
    /// A bit for each queue whose driver wants an interrupt.
    interrupts: u64,
    broken: bool,
}

impl<'a> Io<'a> {
    fn new(dma: &'a Dma, features: u64, queues: &'a mut [Queue]) -> Self {
        Self { dma, features, queues, interrupts: 0, broken: false }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// The result, or a device that is broken from now on.
    fn or_break<T>(&mut self, result: Result<T, Broken>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Broken(why)) => {
                self.give_up(why);
                None
            }
        }
    }

    /// What the driver did makes no sense: the device stops until it is reset.
    pub fn give_up(&mut self, why: &str) {
        tracing::debug!(target: "guest_errors", "virtio: the driver has made {why}");
        self.broken = true;
    }

    /// The next buffer of `queue`, which stays there.
    pub fn peek(&mut self, queue: usize) -> Option<Chain> {
        let indirect = self.has(feature::RING_INDIRECT_DESC);
        let result = self.queues.get(queue).filter(|_| !self.broken)?.peek(self.dma, indirect);
        self.or_break(result).flatten()
    }

    /// Takes the next buffer of `queue`.
    pub fn pop(&mut self, queue: usize) -> Option<Chain> {
        let indirect = self.has(feature::RING_INDIRECT_DESC);
        let result = self.queues.get_mut(queue).filter(|_| !self.broken)?.pop(self.dma, indirect);
        self.or_break(result).flatten()
    }

    /// Gives a buffer back, and interrupts if the driver wants to know.
    pub fn push(&mut self, queue: usize, chain: &Chain, written: u32) {
        let (event_idx, on_empty) = (self.has(feature::RING_EVENT_IDX), self.has(feature::NOTIFY_ON_EMPTY));
        let Some(ring) = self.queues.get_mut(queue) else { return };
        let pushed = ring.push(self.dma, chain, written);
        let wanted = pushed.and_then(|()| ring.wants_interrupt(self.dma, event_idx));
        let empty = on_empty && ring.is_empty(self.dma);
        if self.or_break(wanted) == Some(true) || empty {
            self.interrupts |= 1 << queue;
        }
    }

    /// Nothing is left in `queue`: the driver is to notify us of what comes.
    pub fn drained(&mut self, queue: usize) {
        if self.has(feature::RING_EVENT_IDX)
            && let Some(ring) = self.queues.get(queue).filter(|ring| ring.state.ready)
        {
            let result = ring.ask_for_notification(self.dma);
            self.or_break(result);
        }
    }
}
