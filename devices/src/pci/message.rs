//! Message-signalled interrupts on their way from a function to the local APICs: writes of 32 bits to memory, most of them
//! to FEExxxxxh (SDM vol. 3, "Message Signalled Interrupts").
//!
//! A function holds a [`MessagePort`] as it holds an `IrqLine`, and sends at any time. What was sent is delivered after each
//! access and each event, so that nothing is on its way when a state is saved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::apic::{ApicMessage, Delivery, Destination};

/// The local APICs answer to the MiB that begins here.
const APIC_RANGE: u64 = 0xfee0_0000;

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// Where to.
    pub address: u64,
    /// What.
    pub data: u32,
}

impl MsiMessage {
    /// Whether local APICs take it, not memory.
    pub fn is_interrupt(self) -> bool {
        self.address & !0xf_ffff == APIC_RANGE
    }

    /// What the local APICs make of it; `None`: nothing (a reserved delivery mode, or the end of a level).
    pub fn interrupt(self) -> Option<ApicMessage> {
        let delivery = Delivery::from_bits(self.data >> 8).filter(|mode| *mode != Delivery::StartUp)?;
        let level = self.data & 1 << 15 != 0;
        if !self.is_interrupt() || level && self.data & 1 << 14 == 0 {
            return None;
        }
        let logical = self.address & 1 << 2 != 0;
        let destination = Destination::from_byte(logical, (self.address >> 12) as u8);
        Some(ApicMessage { vector: self.data as u8, delivery, level, destination })
    }
}

/// The sending end, shared by the functions of a board. Clones lead to the same place.
#[derive(Clone, Debug, Default)]
pub struct MessagePort(Arc<Waiting>);

/// Lock order: after those of the function which sends and of the interrupt controllers, before a local APIC's.
#[derive(Debug, Default)]
struct Waiting {
    any: AtomicBool,
    messages: Mutex<Vec<MsiMessage>>,
}

impl MessagePort {
    /// A port of its own: for a function that is used alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends. What is on its way already is not sent twice: an edge that nobody has seen is one edge.
    pub fn send(&self, message: MsiMessage) {
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if !messages.contains(&message) {
            messages.push(message);
        }
        self.0.any.store(true, Ordering::SeqCst);
    }

    /// Hands what was sent to `to`, in order. When this returns, what had been sent before has been delivered, by whomever: a function's
    /// register that is read after it does not overtake it.
    pub fn deliver(&self, mut to: impl FnMut(MsiMessage)) {
        // Cheap look first: most accesses send nothing.
        if self.0.any.load(Ordering::SeqCst) {
            let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
            messages.drain(..).for_each(&mut to);
            // Last, under the lock: who sees it knows that all of them have arrived.
            self.0.any.store(false, Ordering::SeqCst);
        }
    }

    /// What was sent since the last call, in order.
    pub fn take(&self) -> Vec<MsiMessage> {
        let mut taken = Vec::new();
        self.deliver(|message| taken.push(message));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_data_mean_what_the_manual_says() {
        let interrupt = |address, data| MsiMessage { address, data }.interrupt();
        let fixed = interrupt(0xfee0_2000, 0x4041).unwrap();
        assert_eq!((fixed.vector, fixed.delivery, fixed.level), (0x41, Delivery::Fixed, false));
        assert_eq!(fixed.destination, Destination::Physical(2));
        let lowest = interrupt(0xfee0_300c, 0x0141).unwrap();
        assert_eq!(
            (lowest.delivery, lowest.destination),
            (Delivery::LowestPriority, Destination::Logical(3))
        );
        assert_eq!(interrupt(0xfeef_f000, 0x41).unwrap().destination, Destination::Physical(u32::MAX));
        assert!(interrupt(0xfee0_0000, 0xc041).unwrap().level);
        for (address, data) in
            [(0xfee0_0000, 0x8041), (0xfee0_0000, 0x0341), (0xfee0_0000, 0x0641), (0xfed0_0000, 0x41)]
        {
            assert_eq!(interrupt(address, data), None, "{address:#x} {data:#x}");
        }
        assert!(!MsiMessage { address: 0x1_fee0_0000, data: 0 }.is_interrupt());
    }

    #[test]
    fn messages_keep_their_order_and_wait_once() {
        let port = MessagePort::new();
        let message = |data| MsiMessage { address: APIC_RANGE, data };
        for data in [3, 1, 3, 2] {
            port.clone().send(message(data));
        }
        assert_eq!(port.take(), [3, 1, 2].map(message));
        assert_eq!(port.take(), []);
    }
}
