//! The block device as drivers see it, well-behaved and hostile.

use proptest::prelude::*;

use super::blk::feature;
use super::feature::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};
use super::test_driver::*;
use crate::block::{Disk, RamDisk};
use crate::memory::test_memory::Flat;
use crate::pci::{MessagePort, MsiMessage, PciFunction};
use crate::{IrqLine, Timed};

const SECTORS: usize = 2048;

fn disk() -> RamDisk {
    RamDisk::new((0..SECTORS * 512).map(|n| (n / 512) as u8).collect())
}

fn driver(disk: &RamDisk) -> Driver {
    Driver::new(Box::new(disk.clone()) as Disk)
}

#[test]
fn a_driver_finds_capabilities_and_registers() {
    let mut driver = driver(&disk());
    let config = driver.device.config();
    assert_eq!(config.dword(0), 0x1001_1af4);
    assert_eq!((config.dword(8), config.dword(0x2c)), (0x0100_0000, 0x0002_1af4));
    // Vendor capabilities: kind, BAR, offset.
    let mut found = Vec::new();
    let mut at = usize::from(config.bytes()[0x34]);
    while at != 0 {
        if config.bytes()[at] == 9 {
            found.push((config.bytes()[at + 3], config.bytes()[at + 4], config.dword(at + 8)));
        }
        at = usize::from(config.bytes()[at + 1]);
    }
    found.sort_unstable();
    assert_eq!(found, [(1, 4, 0), (2, 4, 0x3000), (3, 4, 0x1000), (4, 4, 0x2000), (5, 0, 0)]);
    assert_eq!(driver.read(4, 18, 2), 1, "one queue");
    assert_eq!(driver.start(USUAL), 0xf);
    // Features that are not offered.
    driver.write(4, 20, 1, 0);
    driver.write(4, 8, 4, 0);
    driver.write(4, 12, 4, 1 << 27);
    driver.write(4, 20, 1, 0xb);
    assert_eq!(driver.read(4, 20, 1), 3);
    // Configuration, the same by both interfaces: capacity, block size, ports of the legacy one.
    assert_eq!((driver.read(4, 0x2000, 8), driver.read(0, 20, 4)), (SECTORS as u64, SECTORS as u64));
    assert_eq!((driver.read(4, 0x2014, 4), driver.read(4, 0x2fff, 1)), (512, 0));
    driver.write(4, 22, 2, 1);
    assert_eq!((driver.read(4, 24, 2), driver.read(4, 26, 2), driver.read(4, 28, 2)), (0, 0xffff, 0));
}

#[test]
fn requests_do_what_they_say() {
    let disk = disk();
    for (features, indirect) in [(USUAL, false), (feature::FLUSH, false), (USUAL, true)] {
        let mut driver = driver(&disk);
        driver.start(features);
        let mut request = |kind, sector, data: &[(u64, u32, bool)]| {
            if indirect { driver.indirect(kind, sector, data) } else { driver.request(kind, sector, data) }
        };
        let flushes = disk.flushes();
        assert_eq!(request(0, 7, &[(DATA as u64, 512, true), (0x5_0000, 1024, true)]), 0);
        assert_eq!(request(1, 100, &[(DATA as u64, 512, false)]), 0);
        assert_eq!(disk.flushes(), flushes, "a flush is the driver's to ask for");
        assert_eq!(request(4, 0, &[]), 0);
        assert_eq!(disk.flushes(), flushes + 1);
        assert_eq!(disk.contents()[100 * 512..][..512], [7; 512]);
        assert_eq!(request(8, 0, &[(DATA as u64, 20, true)]), 0);
        // Beyond the end, half a sector, unknown.
        assert_eq!(request(0, SECTORS as u64, &[(DATA as u64, 512, true)]), 1);
        assert_eq!(request(1, u64::MAX, &[(DATA as u64, 512, false)]), 1);
        assert_eq!(request(0, 0, &[(DATA as u64, 100, true)]), 1);
        assert_eq!(request(2, 0, &[(DATA as u64, 512, true)]), 2);
        // A piece that is not memory.
        assert_eq!(request(0, 0, &[(MEMORY as u64 - 256, 512, true)]), 1);
        assert_eq!(request(1, 0, &[(u64::MAX - 100, 512, false)]), 1);
        assert_eq!(driver.memory.get(DATA, 9), b"SERIAL-1\0");
        assert_eq!(driver.memory.get(0x5_0000, 1024), [[8; 512], [9; 512]].concat());
        assert!(!driver.needs_reset());
    }
}

#[test]
fn zeros_and_discards() {
    let disk = disk();
    let mut driver = driver(&disk);
    driver.start(USUAL | feature::WRITE_ZEROES | feature::DISCARD);
    let range = |driver: &Driver, sector: u64, count: u32, flags: u32| {
        driver.memory.put(DATA, &sector.to_le_bytes());
        driver.memory.put(DATA + 8, &[count.to_le_bytes(), flags.to_le_bytes()].concat());
    };
    let data = [(DATA as u64, 16, false)];
    range(&driver, 5, 2, 1);
    assert_eq!(driver.request(13, 0, &data), 0);
    assert!(disk.contents()[5 * 512..7 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(disk.contents()[7 * 512], 7);
    range(&driver, 8, 1, 0);
    assert_eq!(driver.request(11, 0, &data), 0);
    for (sector, count, flags, kind, status) in [
        (8, 1, 1, 11, 2),
        (8, 1, 2, 13, 2),
        (SECTORS as u64, 1, 0, 13, 1),
        (u64::MAX, 1, 0, 11, 1),
        (0, u32::MAX, 0, 13, 1),
    ] {
        range(&driver, sector, count, flags);
        assert_eq!(driver.request(kind, 0, &data), status, "{sector} {count} {flags} {kind}");
    }
    assert_eq!(driver.request(13, 0, &[(DATA as u64, 15, false)]), 1);
    assert_eq!(driver.request(13, 0, &[(DATA as u64, 0x8000, false)]), 1);
}

#[test]
fn a_driver_that_cannot_flush_loses_nothing() {
    let disk = disk();
    let mut driver = driver(&disk);
    driver.start_legacy(0);
    let write = |driver: &mut Driver| assert_eq!(driver.request(1, 1, &[(DATA as u64, 512, false)]), 0);
    write(&mut driver);
    assert_eq!(disk.flushes(), 1);
    driver.start(feature::FLUSH | feature::CONFIG_WCE);
    write(&mut driver);
    assert_eq!((disk.flushes(), driver.read(4, 0x2020, 1)), (1, 1));
    driver.write(4, 0x2020, 1, 0);
    write(&mut driver);
    assert_eq!(disk.flushes(), 2);
}

#[test]
fn a_read_only_disk_says_so() {
    let mut driver = Driver::new(Box::new(RamDisk::read_only(vec![0; 4096])));
    assert_eq!(driver.read(4, 4, 4) & 1 << 5, 1 << 5);
    driver.start(USUAL);
    for kind in [1, 11, 13] {
        assert_eq!(driver.request(kind, 0, &[(DATA as u64, 512, false)]), 1);
    }
    assert_eq!(driver.request(4, 0, &[]), 0);
}

#[test]
fn notifications_and_interrupts_only_when_wanted() {
    let mut driver = driver(&disk());
    driver.start(USUAL);
    driver.header(4, 0);
    let flush = [(HEADER as u64, 16, false), (STATUS as u64, 1, true)];
    driver.chain(0, &flush);
    driver.chain(2, &flush);
    driver.offer(0);
    assert!(driver.must_notify());
    driver.notify();
    // The device is busy: it looks by itself.
    driver.offer(2);
    assert!(!driver.must_notify());
    // An interrupt for the second only.
    driver.memory.put(AVAILABLE + 4 + 2 * 256, &[1, 0]);
    let due = driver.device.next_deadline().unwrap();
    driver.now = due;
    driver.device.advance(due);
    assert_eq!((driver.used().len(), driver.line.level()), (1, true), "the first ever is always told");
    assert_eq!((driver.read(4, 0x1000, 1), driver.line.level(), driver.read(4, 0x1000, 1)), (1, false, 0));
    driver.settle();
    assert_eq!((driver.used().len(), driver.line.level()), (1, true));
    assert_eq!(driver.read(0, 19, 1), 1, "the legacy interface has the same register");
    driver.memory.put(AVAILABLE + 4 + 2 * 256, &[9, 0]);
    driver.offer(0);
    assert!(driver.must_notify());
    driver.notify();
    driver.settle();
    assert_eq!((driver.used().len(), driver.line.level()), (1, false), "none before index 9");
    // Without indices, a flag.
    driver.start(feature::FLUSH);
    driver.memory.put(AVAILABLE, &[1]);
    assert_eq!(driver.request(4, 0, &[]), 0);
    assert!(!driver.line.level());
    driver.memory.put(AVAILABLE, &[0]);
    assert_eq!(driver.request(4, 0, &[]), 0);
    assert!(driver.line.level());
    driver.device.config_mut().write(5, 4);
    driver.device.config_written(4, 2);
    assert!(!driver.line.level(), "the pin is disabled");
}

#[test]
fn msi_x_has_a_vector_for_each() {
    let mut driver = driver(&disk());
    for (vector, data) in [(0u64, 0x30), (1, 0x31)] {
        driver.write(1, 16 * vector, 4, 0xfee0_0000);
        driver.write(1, 16 * vector + 8, 4, data);
        driver.write(1, 16 * vector + 12, 4, 0);
    }
    driver.device.config_mut().write(0x43, 0x80);
    driver.device.config_written(0x43, 1);
    driver.start(USUAL);
    driver.write(4, 26, 2, 7);
    assert_eq!(driver.read(4, 26, 2), 0xffff, "there is no vector 7");
    driver.write(4, 26, 2, 1);
    driver.write(4, 16, 2, 0);
    assert_eq!(driver.request(4, 0, &[]), 0);
    let sent = |driver: &Driver| driver.port.take();
    assert_eq!(sent(&driver), [MsiMessage { address: 0xfee0_0000, data: 0x31 }]);
    assert!(!driver.line.level());
    assert_eq!(driver.read(0, 24, 4), SECTORS as u64, "the configuration makes room for vectors");
    // Nonsense is told by the configuration's vector.
    driver.offer(999);
    driver.notify();
    assert!(driver.needs_reset());
    assert_eq!(sent(&driver), [MsiMessage { address: 0xfee0_0000, data: 0x30 }]);
}

#[test]
fn registers_through_configuration_space() {
    let mut driver = driver(&disk());
    let set = |driver: &mut Driver, at: u8, value: u32| {
        value
            .to_le_bytes()
            .iter()
            .zip(at..)
            .for_each(|(byte, at)| driver.device.config_mut().write(at, *byte));
        driver.device.config_written(at, 4);
    };
    for (at, value) in [(0x98, 4), (0x9c, 0x2000), (0xa0, 4)] {
        set(&mut driver, at, value);
    }
    driver.device.config_reading(0xa4, 5);
    assert_eq!(driver.device.config().dword(0xa4), SECTORS as u32);
    for (at, value) in [(0x9c, 20), (0xa0, 1), (0xa4, 1)] {
        set(&mut driver, at, value);
    }
    assert_eq!(driver.read(4, 20, 1), 1);
    // Nothing is there.
    for (bar, at, len) in [
        (9, 0, 4),
        (150, 0, 4),
        (255, 0, 4),
        (4, 0x4000, 4),
        (4, 1, 4),
        (4, 0, 3),
        (4, u32::MAX, 1),
        (5, 0, 4),
    ] {
        set(&mut driver, 0x98, bar);
        set(&mut driver, 0x9c, at);
        set(&mut driver, 0xa0, len);
        driver.device.config_reading(0xa4, 6);
        set(&mut driver, 0xa4, 0);
    }
}

#[test]
fn nonsense_in_a_ring_stops_the_device() {
    type Mistake = (&'static str, fn(&mut Driver));
    let mistakes: [Mistake; 12] = [
        ("a loop", |d| d.descriptor(TABLE, HEADER as u64, 16, NEXT, 0)),
        ("a next that is not there", |d| d.descriptor(TABLE, HEADER as u64, 16, NEXT, 256)),
        ("no header", |d| d.descriptor(TABLE, HEADER as u64, 15, 0, 0)),
        ("no status", |d| d.descriptor(TABLE, HEADER as u64, 16, 0, 0)),
        ("wrong order", |d| d.chain(0, &[(STATUS as u64, 1, true), (HEADER as u64, 16, false)])),
        ("a header that is not memory", |d| {
            d.chain(0, &[(u64::MAX - 8, 16, false), (STATUS as u64, 1, true)])
        }),
        ("a status that is not memory", |d| d.chain(0, &[(HEADER as u64, 16, false), (u64::MAX, 1, true)])),
        ("an indirect table of 17 bytes", |d| d.descriptor(TABLE, DATA as u64, 17, INDIRECT, 0)),
        ("an indirect table in one", |d| {
            d.descriptor(TABLE, DATA as u64, 32, INDIRECT, 0);
            d.descriptor(DATA, DATA as u64, 32, INDIRECT, 0);
        }),
        ("a loop in an indirect table", |d| {
            d.descriptor(TABLE, DATA as u64, 32, INDIRECT, 0);
            d.descriptor(DATA, HEADER as u64, 16, NEXT, 0);
        }),
        ("an indirect table that is not memory", |d| d.descriptor(TABLE, !0xf, 0xffff_fff0, INDIRECT, 0)),
        ("more than the ring holds", |d| d.memory.put(AVAILABLE + 2, &[0xff, 0xff])),
    ];
    for (what, make) in mistakes {
        let disk = disk();
        let mut driver = driver(&disk);
        driver.start(USUAL);
        driver.header(4, 0);
        driver.offer(0);
        make(&mut driver);
        driver.notify();
        driver.settle();
        assert!(driver.needs_reset(), "{what}");
        assert_eq!(driver.read(4, 0x1000, 1), 3, "{what}: the driver is told");
        driver.notify();
        assert_eq!(driver.device.next_deadline(), None, "{what}");
        // A reset, and all is well.
        driver.start(USUAL);
        assert_eq!(driver.request(4, 0, &[]), 0);
    }
    // Four gigabytes many times over, and a ring at the end of the world.
    let mut driver = driver(&disk());
    driver.start(USUAL);
    driver.header(0, 0);
    driver.chain(0, &[[(HEADER as u64, 16, false)].as_slice(), &[(0, u32::MAX, true); 200]].concat());
    driver.offer(0);
    driver.notify();
    driver.settle();
    assert!(driver.needs_reset());
    driver.start(USUAL);
    for at in [32, 40, 48] {
        driver.write(4, at, 8, u64::MAX - 99);
    }
    driver.notify();
    driver.settle();
    assert!(driver.needs_reset());
}

#[test]
fn the_saved_state_goes_on_the_same() {
    let disk = disk();
    let mut driver = driver(&disk);
    driver.start(USUAL);
    assert_eq!(driver.request(0, 3, &[(DATA as u64, 512, true)]), 0);
    driver.header(0, 9);
    driver.offer(0);
    driver.notify();
    let due = driver.device.next_deadline();
    assert!(due.is_some());
    let mut twin = function(Box::new(disk.clone()), &driver.memory, &driver.line, &driver.port);
    twin.config_mut().restore(driver.device.config().bytes());
    twin.config_written(0, 255);
    twin.restore(&driver.device.save());
    assert_eq!((twin.next_deadline(), twin.save()), (due, driver.device.save()));
    driver.device = twin;
    driver.settle();
    assert_eq!((driver.used().len(), driver.memory.get(DATA, 1)[0]), (1, 9));
    let saved = driver.device.save();
    driver.device.reset();
    assert_ne!(driver.device.save(), saved);
    driver.device.restore(&saved[1..]);
    driver.device.restore(&[]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Any bytes as rings, descriptors and requests; any writes to registers in between.
    #[test]
    fn hostile_rings(
        bytes in prop::collection::vec(any::<u8>(), 64),
        small in prop::collection::vec((0..0x4000usize, 0..4u8), 0..64),
        writes in prop::collection::vec((prop::sample::select(vec![0u8, 1, 4]), 0..0x4000u64, 0..3u8, any::<u64>()), 0..40),
    ) {
        let disk = disk();
        let mut driver = driver(&disk);
        driver.start(RING_EVENT_IDX | RING_INDIRECT_DESC | VERSION_1);
        for n in 0..16 {
            driver.memory.put(TABLE + 64 * n, &bytes);
        }
        small.iter().for_each(|(at, value)| driver.memory.put(TABLE + at, &[*value]));
        for (bar, at, size, value) in writes {
            driver.write(bar, at, 1 << size, value);
            driver.read(bar, at, 1 << size);
            driver.write(4, 0x3000, 2, 0);
            for _ in 0..4 {
                let Some(due) = driver.device.next_deadline() else { break };
                prop_assert!(due > driver.now);
                driver.now = due;
                driver.device.advance(due);
            }
        }
    }

    #[test]
    fn hostile_states(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut driver = driver(&disk());
        driver.start(USUAL);
        let mut bytes = driver.device.save();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        driver.device.restore(&bytes);
        driver.now = u64::MAX / 2;
        driver.device.advance(driver.now);
        driver.offer(0);
        driver.notify();
        driver.device.save();
    }
}

#[test]
fn a_slot_without_memory_is_survived() {
    let (memory, line, port) = (Flat::new(0), IrqLine::unconnected(), MessagePort::new());
    let mut device = function(Box::new(disk()), &memory, &line, &port);
    device.bar_write(0, 8, 4, 5, 0);
    device.bar_write(0, 16, 2, 0, 0);
    assert_eq!(device.bar_read(0, 18, 1, 0), 0x40);
}
