//! virtio over PCI (4.1): a transitional function, which both legacy and modern drivers find.
//!
//! BAR 0 (ports) is the legacy interface, BAR 1 the MSI-X table, BAR 4 the modern interface: common configuration, interrupt
//! status, the device's configuration and notifications, where vendor capabilities say. Identifiers and places are those of
//! QEMU's transitional devices, which old drivers were tested with.

use serde::{Deserialize, Serialize};

use super::registers::{Raised, Registers, SavedRegisters, isr};
use super::{NO_VECTOR, VirtioDevice};
use crate::pci::{BarKind, ConfigSpace, Msix, MsixLayout, MsixState, PciFunction, PciSlot};
use crate::{IrqLine, Ns, Timed};

const VENDOR: u16 = 0x1af4;
const LEGACY_BAR: u8 = 0;
const MSIX_BAR: u8 = 1;
const MODERN_BAR: u8 = 4;

/// Parts of the modern BAR, each 4 KiB.
mod part {
    pub const COMMON: u64 = 0;
    pub const ISR: u64 = 1;
    pub const DEVICE: u64 = 2;
    pub const NOTIFY: u64 = 3;
    pub const LEN: u64 = 0x1000;
}
/// Bytes between the places for two queues' notifications.
const NOTIFY_MULTIPLIER: u64 = 4;
/// A vendor's capability, and its kinds (4.1.4).
const VENDOR_CAPABILITY: u8 = 9;
mod kind {
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const ISR: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const PCI: u8 = 5;
}
/// Where the capabilities are in configuration space.
mod place {
    pub const MSIX: usize = 0x40;
    pub const COMMON: usize = 0x50;
    pub const ISR: usize = 0x60;
    pub const DEVICE: usize = 0x70;
    pub const NOTIFY: usize = 0x80;
    /// Configuration access: the register window is at +16.
    pub const PCI: usize = 0x94;
    pub const PCI_DATA: usize = PCI + 16;
}

/// Registers of the legacy interface (4.1.4.10).
mod legacy {
    pub const DEVICE_FEATURES: u64 = 0;
    pub const DRIVER_FEATURES: u64 = 4;
    pub const QUEUE_PAGE: u64 = 8;
    pub const QUEUE_SIZE: u64 = 12;
    pub const QUEUE_SELECT: u64 = 14;
    pub const QUEUE_NOTIFY: u64 = 16;
    pub const STATUS: u64 = 18;
    pub const ISR: u64 = 19;
    /// The next two are there while MSI-X is on.
    pub const CONFIG_VECTOR: u64 = 20;
    pub const QUEUE_VECTOR: u64 = 22;
}

/// Registers of the common configuration (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0;
    pub const DRIVER_FEATURE_SELECT: u64 = 8;
    pub const DRIVER_FEATURE: u64 = 12;
    pub const CONFIG_VECTOR: u64 = 16;
    pub const STATUS: u64 = 20;
    pub const QUEUE_SELECT: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const QUEUE_DESCRIPTORS: u64 = 32;
    pub const QUEUE_DRIVER: u64 = 40;
    pub const QUEUE_DEVICE: u64 = 48;
    pub const LEN: usize = 56;
}

/// See the module.
pub struct VirtioPci {
    config: ConfigSpace,
    registers: Registers,
    msix: Msix,
    intx: IrqLine,
    vectors: u16,
    /// Time of the last access, for those through configuration space, which bring none along.
    now: Ns,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    registers: SavedRegisters,
    msix: MsixState,
}

impl VirtioPci {
    /// The function in a slot of the board.
    pub fn new(device: Box<dyn VirtioDevice>, slot: PciSlot) -> Self {
        let identity = device.identity();
        let registers = Registers::new(device, slot.memory);
        let vectors = registers.queues.len() as u16 + 1;
        let mut config = ConfigSpace::endpoint(VENDOR, identity.transitional_id, identity.class, 0);
        let [low, high] = identity.kind.to_le_bytes();
        config.fixed(0x2c, &[VENDOR as u8, (VENDOR >> 8) as u8, low, high]);
        config.set_interrupt_pin(1);
        // The ports must hold the device's configuration, too.
        let ports = (24 + registers.device.config_len()).next_power_of_two().max(64);
        config.add_bar(LEGACY_BAR.into(), BarKind::Io, ports);
        config.add_bar(MSIX_BAR.into(), BarKind::Memory32, 0x1000);
        config.add_bar(MODERN_BAR.into(), BarKind::Memory64Prefetchable, 4 * part::LEN);
        add_capabilities(&mut config);
        let layout = MsixLayout { vectors, bar: MSIX_BAR, table: 0, pending: 0x800 };
        let msix = Msix::new(&mut config, place::MSIX, layout, slot.messages);
        Self { config, registers, msix, intx: slot.intx, vectors, now: 0 }
    }

    /// Interrupts as the driver has set them up.
    fn raise(&mut self, raised: Raised) {
        if raised.queues == 0 && !raised.config {
            return;
        }
        if self.msix.enabled(&self.config) {
            let queues = self.registers.queues.iter().enumerate();
            let vectors: Vec<u16> = queues
                .filter(|(n, _)| raised.queues >> n & 1 != 0)
                .map(|(_, queue)| queue.state.vector)
                .chain(raised.config.then_some(self.registers.s.config_vector))
                .collect();
            // NO_VECTOR is beyond the table, so that nothing is sent.
            vectors.into_iter().for_each(|vector| self.msix.send(&self.config, vector));
            return;
        }
        if raised.queues != 0 {
            self.registers.s.isr |= isr::QUEUE;
        }
        if raised.config {
            self.registers.s.isr |= isr::QUEUE | isr::CONFIG;
        }
        self.drive_intx();
    }

    fn drive_intx(&mut self) {
        let asserted = self.registers.s.isr != 0 && !self.msix.enabled(&self.config);
        self.config.drive_intx(&self.intx, asserted);
    }

    /// A read clears it, and with it the interrupt.
    fn take_isr(&mut self) -> u8 {
        let isr = std::mem::take(&mut self.registers.s.isr);
        self.drive_intx();
        isr
    }

    fn set_status(&mut self, value: u8) {
        self.registers.set_status(value);
        self.drive_intx();
    }

    /// The vector, or none if there is no such one: how a driver learns that (4.1.4.3.1).
    fn vector(&self, value: u64) -> u16 {
        let vector = value as u16;
        if vector < self.vectors { vector } else { NO_VECTOR }
    }

    /// Where the device's configuration begins among the legacy ports.
    fn legacy_config(&self) -> u64 {
        if self.msix.enabled(&self.config) { 24 } else { 20 }
    }

    fn legacy_read(&mut self, offset: u64, size: u8) -> u64 {
        let start = self.legacy_config();
        if offset >= start {
            return self.registers.config_read(offset - start, size);
        }
        let r = &mut self.registers;
        match offset {
            legacy::DEVICE_FEATURES => r.legacy_features().into(),
            legacy::DRIVER_FEATURES => r.s.driver_features & 0xffff_ffff,
            legacy::QUEUE_PAGE => r.queue().map_or(0, |queue| queue.legacy_page().into()),
            legacy::QUEUE_SIZE => r.queue().map_or(0, |queue| queue.max().into()),
            legacy::QUEUE_SELECT => r.s.queue_select.into(),
            legacy::STATUS => r.s.status.into(),
            legacy::ISR => self.take_isr().into(),
            legacy::CONFIG_VECTOR => r.s.config_vector.into(),
            legacy::QUEUE_VECTOR => r.queue().map_or(NO_VECTOR, |queue| queue.state.vector).into(),
            _ => 0,
        }
    }

    fn legacy_write(&mut self, offset: u64, size: u8, value: u64, now: Ns) {
        let start = self.legacy_config();
        if offset >= start {
            return self.registers.config_write(offset - start, size, value);
        }
        let vector = self.vector(value);
        let r = &mut self.registers;
        match offset {
            legacy::DRIVER_FEATURES => r.s.driver_features = value & u64::from(r.legacy_features()),
            // Page 0 resets the device (QEMU's drivers count on it).
            legacy::QUEUE_PAGE if value == 0 => r.reset(),
            legacy::QUEUE_PAGE => {
                if let Some(queue) = r.queue() {
                    queue.set_legacy_page(value as u32);
                }
            }
            legacy::QUEUE_SELECT => r.s.queue_select = value as u16,
            legacy::QUEUE_NOTIFY => {
                let raised = r.notify(value as u16, now);
                self.raise(raised);
            }
            legacy::STATUS => self.set_status(value as u8),
            legacy::CONFIG_VECTOR => r.s.config_vector = vector,
            legacy::QUEUE_VECTOR => {
                if let Some(queue) = r.queue() {
                    queue.state.vector = vector;
                }
            }
            _ => {}
        }
    }

    /// All of the common configuration, as bytes.
    fn common(&mut self) -> [u8; common::LEN] {
        let r = &mut self.registers;
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let (select, s) = (r.s.queue_select, r.s.clone());
        let device_feature = half(r.features(), s.device_feature_select);
        let driver_feature = half(s.driver_features, s.driver_feature_select);
        let count = r.queues.len() as u16;
        let mut bytes = [0; common::LEN];
        let mut at = 0;
        let mut put = |value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
            at += value.len();
        };
        put(&s.device_feature_select.to_le_bytes());
        put(&device_feature.to_le_bytes());
        put(&s.driver_feature_select.to_le_bytes());
        put(&driver_feature.to_le_bytes());
        put(&s.config_vector.to_le_bytes());
        put(&count.to_le_bytes());
        // Configurations change by the driver's own writes only: their generation stays.
        put(&[s.status, 0]);
        put(&select.to_le_bytes());
        if let Some(queue) = r.queue() {
            let q = &queue.state;
            put(&q.size.to_le_bytes());
            put(&q.vector.to_le_bytes());
            put(&u16::from(q.ready).to_le_bytes());
            put(&select.to_le_bytes());
            [q.descriptors, q.available, q.used].iter().for_each(|at| put(&at.to_le_bytes()));
        } else {
            put(&[0, 0]);
            put(&NO_VECTOR.to_le_bytes());
        }
        bytes
    }

    fn common_write(&mut self, offset: u64, size: u8, value: u64) {
        let vector = self.vector(value);
        let r = &mut self.registers;
        match (offset, size) {
            (common::DEVICE_FEATURE_SELECT, 4) => r.s.device_feature_select = value as u32,
            (common::DRIVER_FEATURE_SELECT, 4) => r.s.driver_feature_select = value as u32,
            (common::DRIVER_FEATURE, 4) if r.s.driver_feature_select < 2 => {
                let shift = 32 * r.s.driver_feature_select;
                let kept = r.s.driver_features & !(0xffff_ffff << shift);
                r.s.driver_features = kept | (value & 0xffff_ffff) << shift;
            }
            (common::CONFIG_VECTOR, 2) => r.s.config_vector = vector,
            (common::STATUS, 1) => self.set_status(value as u8),
            (common::QUEUE_SELECT, 2) => r.s.queue_select = value as u16,
            _ => {
                if let Some(queue) = r.queue() {
                    match (offset, size) {
                        (common::QUEUE_SIZE, 2) => queue.set_size(value as u16),
                        (common::QUEUE_VECTOR, 2) => queue.state.vector = vector,
                        (common::QUEUE_ENABLE, 2) => queue.state.ready |= value == 1,
                        _ => set_address(&mut queue.state, offset, size, value),
                    }
                }
            }
        }
    }

    fn modern_read(&mut self, offset: u64, size: u8) -> u64 {
        let (part, at) = (offset / part::LEN, offset % part::LEN);
        match part {
            part::COMMON => {
                let bytes = self.common();
                let found = bytes.iter().skip(at as usize).take(size.min(8).into());
                found.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
            part::ISR => self.take_isr().into(),
            part::DEVICE => self.registers.config_read(at, size),
            _ => 0,
        }
    }

    fn modern_write(&mut self, offset: u64, size: u8, value: u64, now: Ns) {
        let (part, at) = (offset / part::LEN, offset % part::LEN);
        match part {
            part::COMMON => self.common_write(at, size, value),
            part::DEVICE => self.registers.config_write(at, size, value),
            part::NOTIFY => {
                let raised = self.registers.notify((at / NOTIFY_MULTIPLIER) as u16, now);
                self.raise(raised);
            }
            _ => {}
        }
    }

    /// The access that the capability for configuration access describes, if it is one: BAR, offset, length.
    fn window(&self) -> Option<(u8, u64, u8)> {
        let config = &self.config;
        let (bar, at, len) =
            (config.bytes()[place::PCI + 4], config.dword(place::PCI + 8), config.dword(place::PCI + 12));
        if !matches!(bar, LEGACY_BAR | MSIX_BAR | MODERN_BAR) {
            return None;
        }
        let (_, bar_len) = config.bar_kind(bar.into())?;
        let fits = matches!(len, 1 | 2 | 4) && at % len == 0 && u64::from(at) + u64::from(len) <= bar_len;
        fits.then_some((bar, at.into(), len as u8))
    }
}

/// A write to half or all of a queue's addresses.
fn set_address(queue: &mut super::QueueState, offset: u64, size: u8, value: u64) {
    let place = match offset & !7 {
        common::QUEUE_DESCRIPTORS => &mut queue.descriptors,
        common::QUEUE_DRIVER => &mut queue.available,
        common::QUEUE_DEVICE => &mut queue.used,
        _ => return,
    };
    match (offset & 7, size) {
        (0, 8) => *place = value,
        (0, 4) => *place = *place & !0xffff_ffff | value & 0xffff_ffff,
        (4, 4) => *place = *place & 0xffff_ffff | value << 32,
        _ => {}
    }
}

fn add_capabilities(config: &mut ConfigSpace) {
    let body = |kind: u8, len: u8, part: u64| {
        let mut body = vec![len, kind, MODERN_BAR, 0, 0, 0];
        body.extend(((part * part::LEN) as u32).to_le_bytes());
        body.extend((part::LEN as u32).to_le_bytes());
        body
    };
    let mut add = |at: usize, body: &[u8], writable: &[u8]| {
        config.add_capability(at, VENDOR_CAPABILITY, body, writable);
    };
    // The list is searched from the one that was added last.
    let mut access = vec![20, kind::PCI];
    access.resize(18, 0);
    let mut writable = vec![0, 0, 0xff, 0, 0, 0];
    writable.resize(18, 0xff);
    add(place::PCI, &access, &writable);
    let mut notify = body(kind::NOTIFY, 20, part::NOTIFY);
    notify.extend((NOTIFY_MULTIPLIER as u32).to_le_bytes());
    add(place::NOTIFY, &notify, &[]);
    add(place::DEVICE, &body(kind::DEVICE, 16, part::DEVICE), &[]);
    add(place::ISR, &body(kind::ISR, 16, part::ISR), &[]);
    add(place::COMMON, &body(kind::COMMON, 16, part::COMMON), &[]);
}

impl PciFunction for VirtioPci {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, offset: u8, len: u8) {
        self.msix.config_written(&self.config);
        self.drive_intx();
        // After reset and restore all of it counts as written.
        if usize::from(offset) == place::PCI_DATA
            && len <= 4
            && let Some((bar, at, size)) = self.window()
        {
            let (value, now) = (self.config.dword(place::PCI_DATA), self.now);
            self.bar_write(bar, at, size, value.into(), now);
        }
    }
    fn config_reading(&mut self, offset: u8, now: Ns) {
        self.now = now;
        if usize::from(offset) == place::PCI_DATA
            && let Some((bar, at, size)) = self.window()
        {
            let value = self.bar_read(bar, at, size, now) as u32;
            self.config.fill(place::PCI_DATA, &value.to_le_bytes());
        }
    }
    fn bar_read(&mut self, bar: u8, offset: u64, size: u8, _now: Ns) -> u64 {
        match bar {
            LEGACY_BAR => self.legacy_read(offset, size),
            MODERN_BAR => self.modern_read(offset, size),
            _ => self.msix.read(bar, offset, size).unwrap_or(0),
        }
    }
    fn bar_write(&mut self, bar: u8, offset: u64, size: u8, value: u64, now: Ns) {
        self.now = now;
        match bar {
            LEGACY_BAR => self.legacy_write(offset, size, value, now),
            MODERN_BAR => self.modern_write(offset, size, value, now),
            _ => {
                self.msix.write(&self.config, bar, offset, size, value);
            }
        }
    }
    fn timed(&self) -> Option<&dyn Timed> {
        Some(self)
    }
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        Some(self)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.registers.device.flush()
    }
    fn reset(&mut self) {
        self.registers.reset();
        self.msix.reset();
        self.drive_intx();
    }
    fn save(&self) -> Vec<u8> {
        let Self { config: _, registers, msix, intx: _, vectors: _, now: _ } = self;
        crate::saved::to_bytes(&Saved { registers: registers.save(), msix: msix.save() })
    }
    fn restore(&mut self, state: &[u8]) {
        let Some(Saved { registers, msix }) = crate::saved::from_bytes(state) else { return };
        self.registers.restore(registers);
        self.msix.restore(msix);
        self.drive_intx();
    }
}

impl Timed for VirtioPci {
    fn next_deadline(&self) -> Option<Ns> {
        self.registers.next_deadline()
    }
    fn advance(&mut self, now: Ns) {
        self.now = now;
        let raised = self.registers.advance(now);
        self.raise(raised);
    }
}
