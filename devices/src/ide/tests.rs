//! The function driven as SeaBIOS (PIO) and Linux (bus master) drive it.

use super::*;
use crate::Lines;
use crate::block::RamDisk;
use crate::memory::test_memory::Flat;
use std::sync::Arc;

struct Bench {
    ide: Ide,
    lines: Arc<Lines>,
    memory: Arc<Flat>,
    now: Ns,
}

fn bench(drives: DriveSpecs) -> Bench {
    let (lines, memory) = (Lines::new(), Flat::new(0x20_0000));
    let irqs = [lines.line(0), lines.line(1)];
    let ide = Ide::new(drives, &Dma::new(memory.clone()), irqs);
    Bench { ide, lines, memory, now: 0 }
}

fn pattern(sectors: usize) -> Vec<u8> {
    (0..sectors * 512).map(|n| (n / 512 * 7 + n) as u8).collect()
}

fn disk(sectors: usize) -> (Bench, RamDisk) {
    let medium = RamDisk::new(pattern(sectors));
    let spec = DriveSpec::HardDisk(Box::new(medium.clone()));
    (bench([Some(spec), None, None, None]), medium)
}

fn cd(blocks: usize) -> Bench {
    let medium = RamDisk::read_only(pattern(blocks * 4));
    bench([None, None, Some(DriveSpec::CdRom(Some(Box::new(medium)))), None])
}

impl Bench {
    fn write(&mut self, port: u16, value: u8) {
        let now = self.now;
        self.ide.channel(u8::from(port & 0x80 == 0)).port_write(port, 1, value.into(), now);
    }
    fn read(&mut self, port: u16) -> u8 {
        let now = self.now;
        self.ide.channel(u8::from(port & 0x80 == 0)).port_read(port, 1, now) as u8
    }
    /// Waits by the alternate status, as a polling driver does.
    fn wait(&mut self, base: u16) -> u8 {
        for _ in 0..10_000 {
            let status = self.read(base + 0x206);
            if status & 0x80 == 0 {
                return status;
            }
            self.now += 1_000;
            self.ide.advance(self.now);
        }
        panic!("busy for ever");
    }
    fn words(&mut self, base: u16, bytes: usize) -> Vec<u8> {
        let now = self.now;
        let channel = self.ide.channel(u8::from(base & 0x80 == 0));
        (0..bytes / 2).flat_map(|_| (channel.port_read(base, 2, now) as u16).to_le_bytes()).collect()
    }
    fn put_words(&mut self, base: u16, bytes: &[u8]) {
        let now = self.now;
        for word in bytes.chunks_exact(2) {
            let value = u32::from(word[0]) | u32::from(word[1]) << 8;
            self.ide.channel(u8::from(base & 0x80 == 0)).port_write(base, 2, value, now);
        }
    }
    fn lba28(&mut self, command: u8, lba: u32, count: u8) {
        let [a, b, c, d] = lba.to_le_bytes();
        for (port, value) in [(0x1f6, 0xe0 | d), (0x1f2, count), (0x1f3, a), (0x1f4, b), (0x1f5, c)] {
            self.write(port, value);
        }
        self.write(0x1f7, command);
    }
    fn lba48(&mut self, command: u8, lba: u64, count: u16) {
        let (l, [low, high]) = (lba.to_le_bytes(), count.to_le_bytes());
        self.write(0x1f6, 0xe0);
        for (port, first, second) in
            [(0x1f2, high, low), (0x1f3, l[3], l[0]), (0x1f4, l[4], l[1]), (0x1f5, l[5], l[2])]
        {
            self.write(port, first);
            self.write(port, second);
        }
        self.write(0x1f7, command);
    }
    /// Runs until the channel's interrupt comes; acknowledges it.
    fn interrupt(&mut self, base: u16) -> u8 {
        let line = u64::from(base & 0x80 == 0) + 1;
        for _ in 0..100 {
            if self.lines.levels() & line != 0 {
                let status = self.read(base + 7);
                assert_eq!(self.lines.levels() & line, 0, "reading the status acknowledges");
                return status;
            }
            self.now = self.ide.next_deadline().expect("something is going on");
            self.ide.advance(self.now);
        }
        panic!("no interrupt");
    }
    fn bm(&mut self, offset: u64, size: u8, value: u64) {
        let now = self.now;
        self.ide.bar_write(4, offset, size, value, now);
    }
    fn bm_status(&mut self, offset: u64) -> u8 {
        self.ide.bar_read(4, offset, 1, self.now) as u8
    }
    fn packet(&mut self, features: u8, limit: u16, packet: [u8; 12]) {
        let [low, high] = limit.to_le_bytes();
        for (port, value) in [(0x176, 0xa0), (0x171, features), (0x174, low), (0x175, high), (0x177, 0xa0)] {
            self.write(port, value);
        }
        assert_eq!(self.wait(0x170) & 8, 8);
        assert_eq!(self.read(0x172), 1, "a command is asked for");
        self.put_words(0x170, &packet);
    }
    /// A packet with its whole reply by PIO; `Err` is the error register.
    fn reply(&mut self, limit: u16, packet: [u8; 12]) -> Result<Vec<u8>, u8> {
        self.packet(0, limit, packet);
        let mut reply = Vec::new();
        loop {
            let status = self.interrupt(0x170);
            if status & 1 != 0 {
                return Err(self.read(0x171));
            }
            if status & 8 == 0 {
                assert_eq!(self.read(0x172), 3);
                return Ok(reply);
            }
            assert_eq!(self.read(0x172), 2);
            let len = u16::from_le_bytes([self.read(0x174), self.read(0x175)]);
            assert!(len <= limit);
            let mut bytes = self.words(0x170, usize::from(len.next_multiple_of(2)));
            bytes.truncate(len.into());
            reply.extend(bytes);
        }
    }
    /// Saves, restores into a twin, and goes on with that.
    fn twin(&mut self, drives: DriveSpecs) {
        let irqs = [self.lines.line(0), self.lines.line(1)];
        let mut twin = Ide::new(drives, &Dma::new(self.memory.clone()), irqs);
        twin.config.restore(self.ide.config.bytes());
        twin.restore(&self.ide.save());
        assert_eq!(twin.save(), self.ide.save());
        self.ide = twin;
    }
}

#[test]
fn a_probe_tells_disks_cds_and_nothing_apart() {
    let (mut b, _) = disk(2000);
    for (port, value) in [(0x1f6, 0xa0), (0x1f2, 0x55), (0x1f3, 0xaa)] {
        b.write(port, value);
    }
    assert_eq!((b.read(0x1f2), b.read(0x1f3)), (0x55, 0xaa));
    // The absent slave: the master answers, with status 0.
    b.write(0x1f6, 0xb0);
    assert_eq!(b.read(0x1f7), 0);
    assert_eq!((b.read(0x177), b.read(0x172)), (0, 0), "an empty channel");
    // Soft reset.
    b.write(0x3f6, 4);
    assert_eq!(b.read(0x3f6), 0x80);
    b.write(0x3f6, 0);
    assert_eq!(b.wait(0x1f0), 0x50);
    assert_eq!([0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5].map(|port| b.read(port)), [1, 1, 1, 0, 0]);
    let mut b = cd(10);
    b.write(0x376, 4);
    b.write(0x376, 0);
    assert_eq!((b.read(0x174), b.read(0x175), b.read(0x177)), (0x14, 0xeb, 0));
    b.write(0x177, 0xec);
    assert_eq!((b.read(0x177) & 1, b.read(0x174), b.read(0x175)), (1, 0x14, 0xeb));
}

#[test]
fn identify_says_what_it_can() {
    let (mut b, _) = disk(20_000);
    b.write(0x1f6, 0xa0);
    b.write(0x1f7, 0xec);
    assert_eq!(b.interrupt(0x1f0), 0x58);
    let bytes = b.words(0x1f0, 512);
    let word = |n: usize| u16::from_le_bytes([bytes[2 * n], bytes[2 * n + 1]]);
    assert_eq!((word(60), word(100), word(1), word(3), word(6)), (20_000, 20_000, 19, 16, 63));
    assert_eq!((word(88), word(83) & 0x400, word(49) & 0x300), (0x203f, 0x400, 0x300));
    let model: String = (27..47).flat_map(|n| word(n).to_be_bytes()).map(char::from).collect();
    assert!(model.starts_with("RETROGRADE HARDDISK "), "{model}");
    assert_eq!(b.read(0x1f7), 0x50);
}

#[test]
fn sectors_by_pio_one_and_many_at_a_time() {
    let (mut b, medium) = disk(3000);
    let data = pattern(3000);
    b.lba28(0x20, 1000, 3);
    for n in 1000..1003 {
        assert_eq!(b.interrupt(0x1f0), 0x58);
        assert_eq!(b.words(0x1f0, 512), data[n * 512..][..512]);
    }
    assert_eq!(b.wait(0x1f0), 0x50);
    // READ MULTIPLE in blocks of 8: 20 sectors are 8, 8 and 4.
    b.write(0x1f2, 8);
    b.write(0x1f7, 0xc6);
    b.interrupt(0x1f0);
    b.lba28(0xc4, 5, 20);
    for (first, count) in [(5, 8), (13, 8), (21, 4)] {
        b.interrupt(0x1f0);
        assert_eq!(b.words(0x1f0, count * 512), data[first * 512..][..count * 512]);
    }
    // Cylinder 2, head 1, sector 4 of 16 x 63.
    for (port, value) in [(0x1f6, 0xa1), (0x1f2, 1), (0x1f3, 4), (0x1f4, 2), (0x1f5, 0), (0x1f7, 0x20)] {
        b.write(port, value);
    }
    b.interrupt(0x1f0);
    assert_eq!(b.words(0x1f0, 512), data[(2 * 16 * 63 + 63 + 3) * 512..][..512]);
    // Writing, with a save in the middle of a sector.
    b.lba28(0x30, 7, 2);
    assert_eq!(b.read(0x1f7) & 0x88, 8, "the first block is asked for without an interrupt");
    b.put_words(0x1f0, &[0x5a; 256]);
    b.twin([Some(DriveSpec::HardDisk(Box::new(medium.clone()))), None, None, None]);
    b.put_words(0x1f0, &[0x5b; 256]);
    assert_eq!(b.interrupt(0x1f0), 0x58);
    b.put_words(0x1f0, &[0x5c; 512]);
    assert_eq!(b.interrupt(0x1f0), 0x50);
    let contents = medium.contents();
    assert_eq!(
        (contents[7 * 512 - 1], contents[7 * 512], contents[8 * 512 - 1]),
        (data[7 * 512 - 1], 0x5a, 0x5b)
    );
    assert_eq!((contents[8 * 512], contents[9 * 512]), (0x5c, data[9 * 512]));
    b.write(0x1f7, 0xe7);
    b.interrupt(0x1f0);
    assert_eq!(medium.flushes(), 1);
    // Beyond the end.
    b.lba28(0x20, 2999, 2);
    assert_eq!((b.read(0x1f7), b.read(0x1f1)), (0x51, 0x10));
}

#[test]
fn sectors_by_the_bus_master() {
    let (mut b, medium) = disk(70_000);
    let data = pattern(70_000);
    // Two regions: 512 bytes, and the rest; the second ends the table.
    b.memory.put(0x1000, &[0x00, 0x20, 0, 0, 0x00, 0x02, 0, 0]);
    b.memory.put(0x1008, &[0x00, 0x30, 0, 0, 0x00, 0x0e, 0, 0x80]);
    b.bm(4, 4, 0x1000);
    b.bm(2, 1, 6);
    b.bm(0, 1, 8);
    b.lba48(0x25, 66_000, 8);
    assert_eq!(b.read(0x3f6) & 0x80, 0x80);
    assert_eq!(b.ide.next_deadline(), None, "it waits for the bus master");
    b.bm(0, 1, 9);
    assert_eq!(b.bm_status(2) & 7, 1);
    assert_eq!(b.interrupt(0x1f0), 0x50);
    assert_eq!(b.bm_status(2) & 7, 4);
    assert_eq!(b.memory.get(0x2000, 512), data[66_000 * 512..][..512]);
    assert_eq!(b.memory.get(0x3000, 7 * 512), data[66_001 * 512..][..7 * 512]);
    // Writing: memory to disk, and through to the host if the cache is off.
    for (features, count) in [(0x82, 0), (0x03, 0x45)] {
        b.write(0x1f1, features);
        b.write(0x1f2, count);
        b.write(0x1f7, 0xef);
        assert_eq!(b.interrupt(0x1f0), 0x50);
    }
    b.memory.put(0x2000, &[0x77; 512]);
    b.bm(0, 1, 0);
    b.bm(2, 1, 6);
    b.lba28(0xca, 11, 8);
    b.bm(0, 1, 1);
    assert_eq!(b.interrupt(0x1f0), 0x50);
    assert_eq!((medium.contents()[11 * 512], medium.flushes()), (0x77, 1));
    // A table that is too short: neither active nor interrupt, until a reset.
    b.bm(0, 1, 0);
    b.bm(2, 1, 6);
    b.lba28(0xc8, 0, 20);
    b.bm(0, 1, 9);
    let at = b.ide.next_deadline().unwrap();
    b.ide.advance(at);
    assert_eq!((b.lines.levels(), b.bm_status(2) & 4, b.ide.next_deadline()), (0, 0, None));
    b.write(0x3f6, 4);
    b.write(0x3f6, 0);
    assert_eq!(b.wait(0x1f0), 0x50);
}

#[test]
fn a_list_of_discarded_ranges_is_taken() {
    let (mut b, _) = disk(1000);
    b.memory.put(0x1000, &[0x00, 0x20, 0, 0, 0x00, 0x02, 0, 0x80]);
    b.memory.put(0x2000, &[16, 0, 0, 0, 0, 0, 8, 0]);
    b.bm(4, 4, 0x1000);
    b.write(0x1f1, 1);
    b.lba48(0x06, 0, 1);
    b.bm(0, 1, 1);
    assert_eq!(b.interrupt(0x1f0), 0x50);
}

#[test]
fn a_cd_is_read_by_pio_and_by_the_bus_master() {
    let mut b = cd(300);
    let data = pattern(1200);
    assert_eq!(b.reply(0xfffe, [0; 12]), Ok(vec![]), "ready");
    let inquiry = b.reply(0xfffe, [0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!((inquiry[0], inquiry.len()), (5, 36));
    let capacity = b.reply(0xfffe, [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(capacity, [0, 0, 1, 43, 0, 0, 8, 0]);
    // 40 blocks in pieces of 2048 and of 60000 bytes: more than a fetch.
    for limit in [2048, 60_000] {
        let read = b.reply(limit, [0x28, 0, 0, 0, 0, 17, 0, 0, 40, 0, 0, 0]).unwrap();
        assert!(read == data[17 * 2048..][..40 * 2048]);
    }
    b.memory.put(0x1000, &[0x00, 0x20, 0, 0, 0x00, 0x10, 0, 0x80]);
    b.bm(12, 4, 0x1000);
    b.packet(1, 0, [0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0]);
    b.bm(8, 1, 9);
    // The packet first, then the data.
    assert_eq!(b.interrupt(0x170) & 0x89, 0);
    assert_eq!(b.bm_status(10) & 7, 4);
    assert_eq!(b.memory.get(0x2000, 4096), data[3 * 2048..][..4096]);
    let toc = b.reply(0xfffe, [0x43, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0]).unwrap();
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 1, 44]);
    assert!(b.reply(0xfffe, [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 100, 0, 0, 0]).unwrap().len() > 20);
    // Errors, and what REQUEST SENSE says of them.
    assert_eq!(b.reply(0xfffe, [0x28, 0, 0, 0, 1, 44, 0, 0, 1, 0, 0, 0]), Err(0x54));
    let sense = b.reply(0xfffe, [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!((sense[2], sense[12]), (5, 0x21));
    assert_eq!(b.reply(0xfffe, [0xff; 12]), Err(0x54));
}

#[test]
fn a_cd_is_changed_while_the_machine_runs() {
    let mut b = cd(10);
    let event = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0];
    let lock = |on: u8| [0x1e, 0, 0, 0, on, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(b.reply(8, event).unwrap()[4..6], [0, 2]);
    b.reply(8, lock(1)).unwrap();
    assert!(!b.ide.change_medium(2, None, false), "the door is locked");
    assert!(!b.ide.change_medium(0, None, true), "no drive");
    b.reply(8, lock(0)).unwrap();
    assert!(b.ide.change_medium(2, None, false));
    assert_eq!(b.reply(8, [0; 12]), Err(0x20));
    assert_eq!(b.reply(8, event).unwrap()[4..6], [3, 0]);
    let next = RamDisk::read_only(pattern(80));
    assert!(b.ide.change_medium(2, Some(Box::new(next)), false));
    assert_eq!(b.reply(8, [0; 12]), Err(0x60), "a unit attention, once");
    assert_eq!(b.reply(8, [0; 12]), Ok(vec![]));
    assert_eq!(b.reply(8, event).unwrap()[4..6], [2, 2]);
    assert_eq!(b.reply(8, [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap()[3], 19);
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let medium = RamDisk::read_only(pattern(100));
    let mut b = bench([Some(DriveSpec::HardDisk(Box::new(medium))), None, None, None]);
    b.lba28(0x30, 0, 1);
    assert_eq!(b.read(0x1f7), 0x51);
    b.lba28(0xca, 0, 1);
    assert_eq!(b.read(0x1f7), 0x51);
}
