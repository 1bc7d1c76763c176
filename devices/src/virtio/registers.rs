//! What both interfaces of a transport show: features, status, queues, interrupt status.
//!
//! The legacy interface sees the low 32 feature bits, sets a queue up by a page number, and knows no FEATURES_OK; the modern
//! one does. Which of them a driver uses it says by using it.

use serde::{Deserialize, Serialize};

use super::{Io, NO_VECTOR, Queue, QueueState, VirtioDevice, feature};
use crate::Ns;
use crate::memory::Dma;

/// Device status (2.1).
pub(super) mod status {
    pub const DRIVER_OK: u8 = 0x04;
    pub const FEATURES_OK: u8 = 0x08;
    pub const NEEDS_RESET: u8 = 0x40;
}
/// Interrupt status (4.1.4.5).
pub(super) mod isr {
    pub const QUEUE: u8 = 1;
    pub const CONFIG: u8 = 2;
}

const RINGS: u64 = feature::RING_INDIRECT_DESC | feature::RING_EVENT_IDX;

/// Registers that are not a queue's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RegisterState {
    pub device_feature_select: u32,
    pub driver_feature_select: u32,
    pub driver_features: u64,
    pub status: u8,
    pub isr: u8,
    pub queue_select: u16,
    pub config_vector: u16,
}

impl Default for RegisterState {
    fn default() -> Self {
        Self {
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            status: 0,
            isr: 0,
            queue_select: 0,
            config_vector: NO_VECTOR,
        }
    }
}

/// What a call of the device gave rise to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Raised {
    /// A bit for each queue that interrupts.
    pub queues: u64,
    /// The configuration (here: the status) changed.
    pub config: bool,
}

/// A saved device with its transport's registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRegisters {
    registers: RegisterState,
    queues: Vec<QueueState>,
    device: Vec<u8>,
}

/// A device with its registers and queues.
pub(super) struct Registers {
    pub s: RegisterState,
    pub queues: Vec<Queue>,
    pub device: Box<dyn VirtioDevice>,
    dma: Dma,
}

impl Registers {
    pub fn new(device: Box<dyn VirtioDevice>, dma: Dma) -> Self {
        let queues: Vec<Queue> = device.queue_sizes().into_iter().map(Queue::new).collect();
        assert!(queues.len() <= 64, "{} queues", queues.len());
        Self { s: RegisterState::default(), queues, device, dma }
    }

    /// What the modern interface offers.
    pub fn features(&self) -> u64 {
        self.device.features() | RINGS | feature::VERSION_1
    }

    /// What the legacy interface offers.
    pub fn legacy_features(&self) -> u32 {
        (self.device.features() | RINGS | feature::NOTIFY_ON_EMPTY | feature::ANY_LAYOUT) as u32
    }

    /// Features that both sides know.
    fn accepted(&self) -> u64 {
        let offered = if self.is_modern() { self.features() } else { self.legacy_features().into() };
        self.s.driver_features & offered
    }

    fn is_modern(&self) -> bool {
        self.s.driver_features & feature::VERSION_1 != 0
    }

    /// A write of the device status; false: it was a reset.
    pub fn set_status(&mut self, value: u8) -> bool {
        if value == 0 {
            self.reset();
            return false;
        }
        let mut value = value | self.s.status & status::NEEDS_RESET;
        if value & !self.s.status & status::FEATURES_OK != 0 && self.s.driver_features & !self.features() != 0
        {
            tracing::debug!(
                target: "guest_errors",
                "virtio: the driver wants features that are not offered: {:#x}",
                self.s.driver_features & !self.features()
            );
            value &= !status::FEATURES_OK;
        }
        let settled = status::FEATURES_OK | status::DRIVER_OK;
        if value & !self.s.status & settled != 0 {
            let accepted = self.accepted();
            self.device.negotiated(accepted);
        }
        self.s.status = value;
        true
    }

    pub fn reset(&mut self) {
        self.s = RegisterState::default();
        self.queues.iter_mut().for_each(Queue::reset);
        self.device.reset();
    }

    /// The selected queue.
    pub fn queue(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(self.s.queue_select))
    }

    /// Calls the device with its queues.
    fn call(&mut self, f: impl FnOnce(&mut dyn VirtioDevice, &mut Io<'_>)) -> Raised {
        let features = self.accepted();
        let mut io = Io::new(&self.dma, features, &mut self.queues);
        f(self.device.as_mut(), &mut io);
        let mut raised = Raised { queues: io.interrupts, config: false };
        if io.broken && self.s.status & status::NEEDS_RESET == 0 {
            self.s.status |= status::NEEDS_RESET;
            // Only who has set DRIVER_OK is told (2.1.2).
            raised.config = self.s.status & status::DRIVER_OK != 0;
        }
        raised
    }

    fn works(&self) -> bool {
        self.s.status & status::NEEDS_RESET == 0
    }

    /// The driver notifies us of `queue`.
    pub fn notify(&mut self, queue: u16, now: Ns) -> Raised {
        let index = usize::from(queue);
        if !self.works() || self.queues.get(index).is_none_or(|queue| !queue.state.ready) {
            return Raised::default();
        }
        self.call(|device, io| device.notified(index, io, now))
    }

    pub fn next_deadline(&self) -> Option<Ns> {
        if self.works() { self.device.next_deadline() } else { None }
    }

    pub fn advance(&mut self, now: Ns) -> Raised {
        if self.next_deadline().is_none_or(|due| due > now) {
            return Raised::default();
        }
        self.call(|device, io| device.advance(io, now))
    }

    /// A byte of the device's configuration.
    pub fn config_read(&self, offset: u64, size: u8) -> u64 {
        (0..u64::from(size.min(8)))
            .fold(0, |value, n| value | u64::from(self.device.config_byte(offset + n)) << (8 * n))
    }

    pub fn config_write(&mut self, offset: u64, size: u8, value: u64) {
        for (n, byte) in value.to_le_bytes().into_iter().enumerate().take(size.into()) {
            self.device.config_write(offset + n as u64, byte);
        }
    }

    pub fn save(&self) -> SavedRegisters {
        let Self { s, queues, device, dma: _ } = self;
        SavedRegisters {
            registers: s.clone(),
            queues: queues.iter().map(|queue| queue.state.clone()).collect(),
            device: device.save(),
        }
    }

    pub fn restore(&mut self, state: SavedRegisters) {
        let SavedRegisters { registers, queues, device } = state;
        self.s = registers;
        self.queues.iter_mut().zip(queues).for_each(|(queue, state)| queue.restore(state));
        let accepted = self.accepted();
        self.device.negotiated(accepted);
        self.device.restore(&device);
    }
}
