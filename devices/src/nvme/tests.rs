//! The controller as drivers see it, well-behaved and hostile.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::block::RamDisk;
use crate::memory::test_memory::Flat;
use crate::pci::{MessagePort, MsiMessage};

const MEMORY: usize = 1 << 20;
const SECTORS: usize = 4096;
const ADMIN_SQ: usize = 0x1000;
const ADMIN_CQ: usize = 0x2000;
const IO_SQ: usize = 0x3000;
const IO_CQ: usize = 0x4000;
const LIST: usize = 0x5000;
const DATA: usize = 0x2_0000;
const ENTRIES: u32 = 16;

/// A driver with a queue pair of each kind.
struct Driver {
    device: Nvme,
    memory: Arc<Flat>,
    line: IrqLine,
    port: MessagePort,
    now: Ns,
    /// Tail of the submission queue, head of the completion queue, its phase.
    queues: [(u32, u32, bool); 2],
    next_id: u16,
}

fn disk() -> RamDisk {
    RamDisk::new((0..SECTORS * 512).map(|n| (n / 512) as u8).collect())
}

fn function(disk: Disk, memory: &Arc<Flat>, line: &IrqLine, port: &MessagePort) -> Nvme {
    let memory: Arc<Flat> = Arc::clone(memory);
    let slot = PciSlot { memory: Dma::new(memory), intx: line.clone(), messages: port.clone() };
    Nvme::new(disk, "SERIAL-1", slot)
}

impl Driver {
    fn new(disk: Disk) -> Self {
        let (memory, line, port) = (Flat::new(MEMORY), IrqLine::unconnected(), MessagePort::new());
        let mut device = function(disk, &memory, &line, &port);
        device.config_mut().write(4, 6);
        Self { device, memory, line, port, now: 0, queues: [(0, 0, true); 2], next_id: 0 }
    }

    fn read(&mut self, at: u64, size: u8) -> u64 {
        self.device.bar_read(0, at, size, self.now)
    }
    fn write(&mut self, at: u64, size: u8, value: u64) {
        self.device.bar_write(0, at, size, value, self.now);
    }

    /// Enables the controller.
    fn enable(&mut self) {
        self.write(0x14, 4, 0);
        self.queues = [(0, 0, true); 2];
        self.memory.put(ADMIN_CQ, &[0; 0x3000]);
        self.write(0x24, 4, u64::from(ENTRIES - 1) << 16 | u64::from(ENTRIES - 1));
        self.write(0x28, 8, ADMIN_SQ as u64);
        self.write(0x30, 4, ADMIN_CQ as u64);
        self.write(0x34, 4, 0);
        self.write(0x14, 4, 0x0046_0001);
        assert_eq!(self.read(0x1c, 4), 1);
    }

    /// ... and makes queue pair 1.
    fn start(&mut self) {
        self.enable();
        let size = (ENTRIES - 1) << 16 | 1;
        assert_eq!(self.admin(5, 0, [IO_CQ as u64, 0], [size, 3]), (0, 0));
        assert_eq!(self.admin(1, 0, [IO_SQ as u64, 0], [size, 1 << 16 | 1]), (0, 0));
    }

    /// Puts a command into queue 0 or 1 without ringing.
    fn put(&mut self, queue: usize, opcode: u8, namespace: u32, prps: [u64; 2], words: &[u32]) -> u16 {
        self.next_id += 1;
        let mut entry = [0; 64];
        entry[..4].copy_from_slice(&(u32::from(self.next_id) << 16 | u32::from(opcode)).to_le_bytes());
        entry[4..8].copy_from_slice(&namespace.to_le_bytes());
        entry[24..32].copy_from_slice(&prps[0].to_le_bytes());
        entry[32..40].copy_from_slice(&prps[1].to_le_bytes());
        for (n, word) in words.iter().enumerate() {
            entry[40 + 4 * n..44 + 4 * n].copy_from_slice(&word.to_le_bytes());
        }
        let (tail, ..) = &mut self.queues[queue];
        self.memory.put([ADMIN_SQ, IO_SQ][queue] + 64 * *tail as usize, &entry);
        *tail = (*tail + 1) % ENTRIES;
        self.next_id
    }

    fn ring(&mut self, queue: usize) {
        let tail = self.queues[queue].0;
        self.write(0x1000 + 8 * queue as u64, 4, tail.into());
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            let Some(due) = self.device.next_deadline() else { return };
            assert!(due > self.now, "a deadline in the past");
            self.now = due;
            self.device.advance(due);
        }
        panic!("the controller never ends");
    }

    /// Takes a completion: command, result, status.
    fn take(&mut self, queue: usize) -> Option<(u16, u32, u16)> {
        let (_, head, phase) = &mut self.queues[queue];
        let entry = self.memory.get([ADMIN_CQ, IO_CQ][queue] + 16 * *head as usize, 16);
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        if (word(12) >> 16 & 1 != 0) != *phase {
            return None;
        }
        *head += 1;
        if *head == ENTRIES {
            (*head, *phase) = (0, !*phase);
        }
        let head = *head;
        self.write(0x1004 + 8 * queue as u64, 4, head.into());
        Some((word(12) as u16, word(0), (word(12) >> 17) as u16))
    }

    /// A whole command; gives result and status.
    fn command(
        &mut self,
        queue: usize,
        opcode: u8,
        namespace: u32,
        prps: [u64; 2],
        words: &[u32],
    ) -> (u32, u16) {
        let id = self.put(queue, opcode, namespace, prps, words);
        self.ring(queue);
        self.settle();
        let (found, result, status) = self.take(queue).expect("a completion");
        assert_eq!(found, id);
        (result, status & 0x3fff)
    }

    fn admin(&mut self, opcode: u8, namespace: u32, prps: [u64; 2], words: [u32; 2]) -> (u32, u16) {
        self.command(0, opcode, namespace, prps, &words)
    }

    /// A transfer of `blocks` at `lba` with data at `DATA`.
    fn transfer(&mut self, opcode: u8, lba: u64, blocks: u32, flags: u32) -> u16 {
        let pages = (blocks as usize * 512).div_ceil(4096);
        let list: Vec<u8> =
            (1..pages.max(1)).flat_map(|n| ((DATA + 4096 * n) as u64).to_le_bytes()).collect();
        self.memory.put(LIST, &list);
        let second = if pages <= 2 { DATA + 4096 } else { LIST };
        let words = [lba as u32, (lba >> 32) as u32, (blocks - 1) | flags];
        self.command(1, opcode, 1, [DATA as u64, second as u64], &words).1
    }
}

#[test]
fn a_driver_identifies_it() {
    let mut driver = Driver::new(Box::new(disk()));
    let config = driver.device.config();
    assert_eq!((config.dword(0), config.dword(8)), (0x0010_1b36, 0x0108_0202));
    assert_eq!((driver.read(0, 8), driver.read(8, 4)), (0x0040_0020_0f01_07ff, 0x0001_0400));
    assert_eq!((driver.read(4, 4), driver.read(5, 1)), (0x0040_0020, 0));
    driver.enable();
    let mut identify = |cns: u32, namespace| {
        let status = driver.admin(6, namespace, [DATA as u64, 0], [cns, 0]).1;
        (status, driver.memory.get(DATA, 4096))
    };
    let (status, page) = identify(1, 0);
    assert_eq!((status, &page[4..24]), (0, &b"SERIAL-1            "[..]));
    assert_eq!((page[77], page[516], page[525]), (7, 1, 7));
    let (status, page) = identify(0, 1);
    assert_eq!((status, &page[..3], page[130]), (0, &[0, 0x10, 0][..], 9));
    assert_eq!((identify(2, 0).1[0], identify(2, 1).1[0]), (1, 0));
    assert_eq!(identify(3, 1).1[..2], [3, 16]);
    assert_eq!((identify(0, 2).0, identify(0x99, 0).0, identify(2, u32::MAX).0), (0x0b, 2, 0x0b));
    assert_eq!(driver.admin(0x7f, 0, [0; 2], [0; 2]).1, 1);
    // Logs: health, one that is not there, a part, too far.
    let mut log = |words: [u32; 4]| driver.command(0, 2, u32::MAX, [DATA as u64, 0], &words).1;
    assert_eq!((log([127 << 16 | 2, 0, 0, 0]), log([0x99, 0, 0, 0])), (0, 0x109));
    assert_eq!((log([0xffff_0001, 0xffff, 60, 0]), log([1, 0, 68, 0]), log([1, 0, 0, 1])), (0, 2, 2));
}

#[test]
fn features_and_queues() {
    let mut driver = Driver::new(Box::new(disk()));
    driver.enable();
    assert_eq!(driver.admin(9, 0, [0; 2], [7, 0x00ff_0003]), (0x003f_0003, 0));
    assert_eq!(driver.admin(10, 0, [0; 2], [7, 0]), (0x003f_0003, 0));
    assert_eq!(
        (driver.admin(10, 0, [0; 2], [0x106, 0]), driver.admin(10, 0, [0; 2], [0x306, 0])),
        ((1, 0), (4, 0))
    );
    assert_eq!(driver.admin(9, 0, [0; 2], [7, 0xffff]).1, 2);
    assert_eq!(driver.admin(9, 0, [0; 2], [1 << 31 | 6, 0]).1, 0x10d);
    assert_eq!(driver.admin(9, 0, [0; 2], [0x77, 0]).1, 2);
    let pages = [IO_CQ as u64, 0];
    for (opcode, prps, words, status) in [
        (1, pages, [0xf_0001, 1 << 16 | 1], 0x100), // no completion queue
        (5, pages, [0xf_0000, 1], 0x101),           // the admin queue
        (5, pages, [0xf_0041, 1], 0x101),           // beyond the last
        (5, pages, [1, 1], 0x102),                  // one entry
        (5, pages, [0xffff_0001, 1], 0x102),
        (5, pages, [0xf_0001, 0], 0x02), // not contiguous
        (5, [IO_CQ as u64 + 8, 0], [0xf_0001, 1], 0x13),
        (5, pages, [0xf_0001, 5 << 16 | 3], 0x108), // no such vector
        (5, pages, [0xf_0001, 3], 0),
        (5, pages, [0xf_0001, 3], 0x101), // again
        (1, pages, [0xf_0001, 1 << 16 | 1], 0),
        (4, pages, [1, 0], 0x10c), // in use
        (9, pages, [7, 0], 0x0c),
        (0, pages, [1, 0], 0),
        (0, pages, [1, 0], 0x101),
        (4, pages, [1, 0], 0),
        (4, pages, [0, 0], 0x101),
    ] {
        assert_eq!(driver.admin(opcode, 0, prps, words).1, status, "opcode {opcode} {words:x?}");
    }
}

#[test]
fn transfers_of_all_sizes() {
    let disk = disk();
    let mut driver = Driver::new(Box::new(disk.clone()));
    driver.start();
    for blocks in [1, 8, 9, 16, 17, 1000, 1024] {
        driver.memory.put(DATA, &vec![0xee; 1025 * 512]);
        assert_eq!(driver.transfer(2, 3, blocks, 0), 0);
        let expected: Vec<u8> = disk.contents()[3 * 512..][..blocks as usize * 512].to_vec();
        assert!(driver.memory.get(DATA, expected.len()) == expected, "{blocks} blocks");
        assert_eq!(driver.memory.get(DATA + expected.len(), 1), [0xee]);
    }
    driver.memory.put(DATA, &[0x5a; 17 * 512]);
    assert_eq!(driver.transfer(1, 2000, 17, 0), 0);
    assert_eq!(disk.contents()[2000 * 512..][..17 * 512], [0x5a; 17 * 512]);
    assert_eq!((driver.transfer(5, 2000, 17, 0), driver.transfer(5, 1999, 17, 0)), (0, 0x285));
    assert_eq!(disk.flushes(), 0);
    assert_eq!((driver.transfer(1, 2000, 1, 1 << 30), disk.flushes()), (0, 1));
    assert_eq!((driver.command(1, 0, u32::MAX, [0; 2], &[]), disk.flushes()), ((0, 0), 2));
    // Without a cache each write is safe.
    assert_eq!(driver.admin(9, 0, [0; 2], [6, 0]).1, 0);
    assert_eq!((driver.transfer(1, 2000, 1, 0), disk.flushes()), (0, 3));
    assert_eq!(driver.transfer(8, 2001, 2, 1 << 25), 0);
    assert_eq!((disk.contents()[2001 * 512], disk.contents()[2003 * 512]), (0, 0x5a));
    // Deallocate: a range that is there, one that is not.
    for (lba, status) in [(5u64, 0), (SECTORS as u64, 0x80)] {
        driver.memory.put(DATA, &[&[0; 4][..], &1u32.to_le_bytes(), &lba.to_le_bytes()].concat());
        assert_eq!(driver.command(1, 9, 1, [DATA as u64, 0], &[0, 4]).1, status);
    }
    for (lba, blocks, status) in
        [(SECTORS as u64, 1, 0x80), (u64::MAX, 1, 0x80), (SECTORS as u64 - 1, 2, 0x80), (0, 1025, 2)]
    {
        assert_eq!(driver.transfer(2, lba, blocks, 0), status, "{lba} {blocks}");
    }
    for (prps, status) in [([1, 0], 0x13), ([MEMORY as u64, 0], 4), ([DATA as u64 + 512, 8], 0x13)] {
        assert_eq!(driver.command(1, 2, 1, prps, &[0, 0, 7]).1, status);
    }
    assert_eq!(
        (driver.command(1, 2, 2, [DATA as u64, 0], &[0, 0, 0]).1, driver.command(1, 0x33, 1, [0; 2], &[]).1),
        (0x0b, 1)
    );
}

#[test]
fn a_read_only_namespace() {
    let mut driver = Driver::new(Box::new(RamDisk::read_only(vec![7; 1 << 20])));
    driver.start();
    assert_eq!(
        (driver.transfer(1, 0, 1, 0), driver.transfer(8, 0, 1, 0), driver.transfer(2, 0, 1, 0)),
        (0x182, 0x182, 0)
    );
    assert_eq!(driver.command(1, 0, 1, [0; 2], &[]).1, 0);
}

#[test]
fn the_pin_is_asserted_until_completions_are_taken() {
    let mut driver = Driver::new(Box::new(disk()));
    driver.start();
    driver.put(1, 0, 1, [0; 2], &[]);
    driver.put(1, 0, 1, [0; 2], &[]);
    driver.ring(1);
    assert!(!driver.line.level());
    driver.settle();
    assert!(driver.line.level());
    driver.write(0x0c, 4, 1);
    assert!(!driver.line.level(), "masked");
    driver.write(0x10, 4, 1);
    assert!(driver.line.level());
    driver.take(1).unwrap();
    assert!(driver.line.level(), "one is left");
    driver.take(1).unwrap();
    assert!(!driver.line.level());
}

#[test]
fn msi_x_per_queue_and_a_full_completion_queue() {
    let mut driver = Driver::new(Box::new(disk()));
    for vector in 0..2 {
        driver.write(0x2000 + 16 * vector, 4, 0xfee0_0000);
        driver.write(0x2008 + 16 * vector, 4, 0x40 + vector);
        driver.write(0x200c + 16 * vector, 4, 0);
    }
    driver.device.config_mut().write(0x43, 0x80);
    driver.device.config_written(0x43, 1);
    driver.enable();
    // A completion queue of two entries holds one.
    assert_eq!(driver.admin(5, 0, [IO_CQ as u64, 0], [1 << 16 | 1, 1 << 16 | 3]).1, 0);
    assert_eq!(driver.admin(1, 0, [IO_SQ as u64, 0], [(ENTRIES - 1) << 16 | 1, 1 << 16 | 1]).1, 0);
    assert!(!driver.port.take().is_empty());
    for _ in 0..3 {
        driver.put(1, 0, 1, [0; 2], &[]);
    }
    driver.ring(1);
    driver.settle();
    let message = MsiMessage { address: 0xfee0_0000, data: 0x41 };
    assert_eq!(driver.port.take(), [message]);
    for head in [1u64, 0] {
        driver.write(0x100c, 4, head);
        driver.settle();
        assert_eq!(driver.port.take(), [message], "there is room for one more");
    }
    assert!(!driver.line.level());
}

#[test]
fn events_aborts_and_shutdown() {
    let disk = disk();
    let mut driver = Driver::new(Box::new(disk.clone()));
    driver.start();
    let ids: Vec<u16> = (0..5).map(|_| driver.put(0, 0x0c, 0, [0; 2], &[])).collect();
    driver.ring(0);
    driver.settle();
    assert_eq!(driver.take(0).map(|(id, _, status)| (id, status & 0x3fff)), Some((ids[4], 0x105)));
    driver.write(0x1000 + 8 * 9, 4, 0);
    assert_eq!(driver.take(0), Some((ids[0], 0x0001_0000, 0)));
    // The next one of the type comes once the log was read.
    driver.write(0x1008, 4, 999);
    assert_eq!(driver.take(0), None);
    driver.put(0, 2, 0, [DATA as u64, 0], &[1, 0, 0, 0]);
    driver.ring(0);
    driver.settle();
    driver.take(0).unwrap();
    assert_eq!(driver.take(0), Some((ids[1], 0x0001_0100, 0)));
    // Abort one that waits, and one that does not.
    driver.put(0, 8, 0, [0; 2], &[u32::from(ids[2]) << 16]);
    driver.ring(0);
    driver.settle();
    assert_eq!(driver.take(0), Some((ids[2], 0, 7)));
    assert_eq!(driver.take(0).map(|(_, result, _)| result), Some(0));
    assert_eq!(driver.admin(8, 0, [0; 2], [77 << 16 | 1, 0]), (1, 0));
    driver.write(0x14, 4, 0x0046_4001);
    assert_eq!((driver.read(0x1c, 4), disk.flushes()), (9, 1));
    driver.write(0x14, 4, 0);
    assert_eq!(driver.read(0x1c, 4), 0);
    driver.start();
    assert_eq!(driver.transfer(2, 0, 1, 0), 0);
}

#[test]
fn nonsense_is_a_fatal_status_until_reset() {
    let mut driver = Driver::new(Box::new(disk()));
    // No admin queues; then some that are not in memory.
    for (sizes, sq, fatal_at_once) in
        [(0, ADMIN_SQ as u64, true), (0xf_000f, 4, true), (0xf_000f, !0xfff, false)]
    {
        driver.write(0x14, 4, 0);
        driver.write(0x24, 4, sizes);
        driver.write(0x28, 8, sq);
        driver.write(0x30, 8, sq);
        driver.write(0x14, 4, 0x0046_0001);
        assert_eq!(driver.read(0x1c, 4) & 2 != 0, fatal_at_once);
        driver.write(0x1000, 4, 1);
        driver.settle();
        assert_eq!(driver.read(0x1c, 4) & 2, 2);
        assert_eq!(driver.device.next_deadline(), None);
    }
    driver.start();
    assert_eq!(driver.transfer(2, 0, 1, 0), 0);
    // Commands wait for a function that may not master the bus.
    driver.device.config_mut().write(4, 2);
    driver.put(1, 0, 1, [0; 2], &[]);
    driver.ring(1);
    assert_eq!(driver.device.next_deadline(), None);
    driver.device.config_mut().write(4, 6);
    driver.device.config_written(4, 2);
    driver.settle();
    assert!(driver.take(1).is_some());
    // SGLs and fused commands.
    let at = IO_SQ + 64 * driver.queues[1].0 as usize;
    driver.put(1, 0, 1, [0; 2], &[]);
    driver.memory.put(at + 1, &[0x40]);
    driver.ring(1);
    driver.settle();
    assert_eq!(driver.take(1).unwrap().2 & 0x3fff, 2);
}

#[test]
fn the_saved_state_goes_on_the_same() {
    let disk = disk();
    let mut driver = Driver::new(Box::new(disk.clone()));
    driver.start();
    driver.put(1, 2, 1, [DATA as u64, 0], &[9, 0, 0]);
    driver.ring(1);
    let mut twin = function(Box::new(disk.clone()), &driver.memory, &driver.line, &driver.port);
    twin.config_mut().restore(driver.device.config().bytes());
    twin.config_written(0, 255);
    twin.restore(&driver.device.save());
    assert_eq!((twin.next_deadline(), twin.save()), (driver.device.next_deadline(), driver.device.save()));
    driver.device = twin;
    driver.settle();
    assert_eq!((driver.take(1).unwrap().2, driver.memory.get(DATA, 1)[0]), (0, 9));
    let saved = driver.device.save();
    driver.device.reset();
    driver.device.restore(&saved[..saved.len() / 2]);
    assert_ne!(driver.device.save(), saved);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Any commands in the queues, and any writes to registers.
    #[test]
    fn hostile_commands(
        commands in prop::collection::vec((0..14u8, 0..3u32, prop::collection::vec(prop_oneof![0..64u32, any::<u32>()], 9)), 1..15),
        writes in prop::collection::vec((prop_oneof![0..0x40u64, 0x1000..0x1020u64, 0x2000..0x2030u64], 0..4u8, any::<u64>()), 0..30),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
    ) {
        let mut driver = Driver::new(Box::new(disk()));
        driver.start();
        for (opcode, namespace, words) in &commands {
            let prps = [u64::from(words[0]), u64::from(words[1])];
            let queue = usize::from(words[2] & 1 != 0);
            driver.put(queue, *opcode, *namespace, prps, &words[3..]);
        }
        let run = |driver: &mut Driver| {
            driver.ring(0);
            driver.ring(1);
            for _ in 0..20 {
                let Some(due) = driver.device.next_deadline() else { break };
                assert!(due > driver.now);
                driver.now = due;
                driver.device.advance(due);
                driver.take(0);
                driver.take(1);
            }
        };
        run(&mut driver);
        let mut bytes = driver.device.save();
        for (at, size, value) in writes {
            driver.write(at, 1 << size, value);
            driver.read(at, 1 << size);
            run(&mut driver);
        }
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        driver.device.restore(&bytes);
        driver.now = u64::MAX / 2;
        driver.device.advance(driver.now);
        run(&mut driver);
    }
}
