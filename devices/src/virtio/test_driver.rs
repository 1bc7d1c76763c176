//! A driver, as guests have them, for tests: both interfaces, rings in a flat memory.

use std::sync::Arc;

use super::blk::VirtioBlk;
use super::feature::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};
use super::pci::VirtioPci;
use crate::block::Disk;
use crate::memory::Dma;
use crate::memory::test_memory::Flat;
use crate::pci::{MessagePort, PciFunction, PciSlot};
use crate::{IrqLine, Ns, Timed};

pub(super) const MEMORY: usize = 1 << 20;
pub(super) const TABLE: usize = 0x1_0000;
pub(super) const AVAILABLE: usize = TABLE + 16 * 256;
pub(super) const USED: usize = 0x1_2000;
/// Request header, status byte, data.
pub(super) const HEADER: usize = 0x2_0000;
pub(super) const STATUS: usize = 0x2_1000;
pub(super) const DATA: usize = 0x4_0000;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

pub(super) struct Driver {
    pub device: VirtioPci,
    pub memory: Arc<Flat>,
    pub line: IrqLine,
    pub port: MessagePort,
    pub now: Ns,
    event_idx: bool,
    next: u16,
    seen: u16,
}

pub(super) fn function(disk: Disk, memory: &Arc<Flat>, line: &IrqLine, port: &MessagePort) -> VirtioPci {
    let memory: Arc<Flat> = Arc::clone(memory);
    let slot = PciSlot { memory: Dma::new(memory), intx: line.clone(), messages: port.clone() };
    VirtioPci::new(Box::new(VirtioBlk::new(disk, "SERIAL-1")), slot)
}

impl Driver {
    pub fn new(disk: Disk) -> Self {
        let (memory, line, port) = (Flat::new(MEMORY), IrqLine::unconnected(), MessagePort::new());
        let mut device = function(disk, &memory, &line, &port);
        device.config_mut().write(4, 7);
        Self { device, memory, line, port, now: 0, event_idx: false, next: 0, seen: 0 }
    }

    pub fn read(&mut self, bar: u8, at: u64, size: u8) -> u64 {
        self.device.bar_read(bar, at, size, self.now)
    }
    pub fn write(&mut self, bar: u8, at: u64, size: u8, value: u64) {
        self.device.bar_write(bar, at, size, value, self.now);
    }

    /// A modern driver's initialisation (3.1.1); gives the status that it ends with.
    pub fn start(&mut self, features: u64) -> u64 {
        self.write(4, 20, 1, 0);
        self.write(4, 20, 1, 1);
        self.write(4, 20, 1, 3);
        let features = features | VERSION_1;
        for half in 0..2 {
            self.write(4, 8, 4, half);
            self.write(4, 12, 4, features >> (32 * half) & 0xffff_ffff);
        }
        self.write(4, 20, 1, 0xb);
        self.write(4, 22, 2, 0);
        self.write(4, 24, 2, 256);
        for (at, place) in [(32, TABLE), (40, AVAILABLE), (48, USED)] {
            self.write(4, at, 4, place as u64);
            self.write(4, at + 4, 4, 0);
        }
        self.write(4, 28, 2, 1);
        self.write(4, 20, 1, 0xf);
        self.begin(features);
        self.read(4, 20, 1)
    }

    /// A legacy driver's, with its ring at the same place.
    pub fn start_legacy(&mut self, features: u32) {
        for value in [0, 1, 3] {
            self.write(0, 18, 1, value);
        }
        self.write(0, 4, 4, features.into());
        self.write(0, 14, 2, 0);
        assert_eq!(self.read(0, 12, 2), 256);
        self.write(0, 8, 4, TABLE as u64 >> 12);
        self.write(0, 18, 1, 7);
        self.begin(features.into());
    }

    fn begin(&mut self, features: u64) {
        self.event_idx = features & RING_EVENT_IDX != 0;
        (self.next, self.seen) = (0, 0);
        self.memory.put(TABLE, &[0; 0x3000]);
    }

    pub fn descriptor(&self, at: usize, address: u64, len: u32, flags: u16, next: u16) {
        self.memory.put(at, &address.to_le_bytes());
        self.memory.put(at + 8, &len.to_le_bytes());
        self.memory.put(at + 12, &flags.to_le_bytes());
        self.memory.put(at + 14, &next.to_le_bytes());
    }

    /// Puts a chain into the table from descriptor `first` on; `write` is for the device.
    pub fn chain(&self, first: u16, pieces: &[(u64, u32, bool)]) {
        for (n, (address, len, write)) in (first..).zip(pieces) {
            let more = if n + 1 < first + pieces.len() as u16 { NEXT } else { 0 };
            let flags = more | if *write { WRITE } else { 0 };
            self.descriptor(TABLE + 16 * usize::from(n), *address, *len, flags, n + 1);
        }
    }

    /// Makes `head` available.
    pub fn offer(&mut self, head: u16) {
        self.memory.put(AVAILABLE + 4 + 2 * usize::from(self.next & 255), &head.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.memory.put(AVAILABLE + 2, &self.next.to_le_bytes());
    }

    /// Would a driver notify the device now?
    pub fn must_notify(&self) -> bool {
        let event = self.memory.get(USED + 4 + 8 * 256, 2);
        let event = u16::from_le_bytes([event[0], event[1]]);
        !self.event_idx || self.next.wrapping_sub(event).wrapping_sub(1) < 1
    }

    pub fn notify(&mut self) {
        self.write(4, 0x3000, 2, 0);
    }

    /// Runs the device for as long as it has something to do.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let Some(due) = self.device.next_deadline() else { return };
            assert!(due > self.now, "a deadline in the past");
            self.now = due;
            self.device.advance(due);
        }
        panic!("the device never ends");
    }

    /// The buffers that came back since the last call: head and length.
    pub fn used(&mut self) -> Vec<(u32, u32)> {
        let word = |at: usize| {
            let bytes = self.memory.get(at, 4);
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        let index = (word(USED) >> 16) as u16;
        let mut found = Vec::new();
        while self.seen != index {
            let at = USED + 4 + 8 * usize::from(self.seen & 255);
            found.push((word(at), word(at + 4)));
            self.seen = self.seen.wrapping_add(1);
        }
        found
    }

    pub fn header(&self, kind: u32, sector: u64) {
        self.memory.put(HEADER, &kind.to_le_bytes());
        self.memory.put(HEADER + 8, &sector.to_le_bytes());
        self.memory.put(STATUS, &[0xee]);
    }

    /// A whole request with `data` pieces; gives the status byte.
    pub fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> u8 {
        self.header(kind, sector);
        let mut pieces = vec![(HEADER as u64, 16, false)];
        pieces.extend(data);
        pieces.push((STATUS as u64, 1, true));
        self.chain(0, &pieces);
        self.offer(0);
        self.notify();
        self.settle();
        let written: u32 = data.iter().filter(|(_, _, write)| *write).map(|(_, len, _)| len).sum();
        let used = self.used();
        assert_eq!(used.len(), 1, "{used:?}");
        assert!(used[0].0 == 0 && (1..=written + 1).contains(&used[0].1), "{used:?}");
        self.memory.get(STATUS, 1)[0]
    }

    /// The same request through an indirect table.
    pub fn indirect(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> u8 {
        let table = 0x3_0000;
        self.header(kind, sector);
        let mut pieces = vec![(HEADER as u64, 16, false)];
        pieces.extend(data);
        pieces.push((STATUS as u64, 1, true));
        for (n, (address, len, write)) in pieces.iter().enumerate() {
            let more = if n + 1 < pieces.len() { NEXT } else { 0 };
            let flags = more | if *write { WRITE } else { 0 };
            self.descriptor(table + 16 * n, *address, *len, flags, n as u16 + 1);
        }
        self.descriptor(TABLE + 16 * 7, table as u64, 16 * pieces.len() as u32, INDIRECT, 0);
        self.offer(7);
        self.notify();
        self.settle();
        assert_eq!(self.used().len(), 1);
        self.memory.get(STATUS, 1)[0]
    }

    pub fn needs_reset(&mut self) -> bool {
        self.read(4, 20, 1) & 0x40 != 0
    }
}

/// What a driver of today accepts.
pub(super) const USUAL: u64 = RING_EVENT_IDX | RING_INDIRECT_DESC | super::blk::feature::FLUSH;
