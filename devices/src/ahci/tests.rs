//! The controller driven as Linux's libata and SeaBIOS drive it, and as nobody should.

use std::sync::Arc;

use super::*;
use crate::Lines;
use crate::block::RamDisk;
use crate::memory::test_memory::Flat;
use crate::pci::MessagePort;

const LIST: u64 = 0x1000;
const RECEIVED: u64 = 0x2000;
const TABLES: u64 = 0x4000;
const DATA_AT: u64 = 0x1_0000;

struct Bench {
    ahci: Ahci,
    lines: Arc<Lines>,
    messages: MessagePort,
    memory: Arc<Flat>,
    now: Ns,
}

fn pattern(sectors: usize) -> Vec<u8> {
    (0..sectors * 512).map(|n| (n / 512 * 7 + n) as u8).collect()
}

fn ports(first: Option<DriveSpec>, second: Option<DriveSpec>) -> PortSpecs {
    [first, second, None, None, None, None]
}

fn bench(drives: PortSpecs) -> Bench {
    let (lines, memory, messages) = (Lines::new(), Flat::new(0x20_0000), MessagePort::new());
    let slot = PciSlot { memory: Dma::new(memory.clone()), intx: lines.line(0), messages: messages.clone() };
    let mut ahci = Ahci::new(drives, slot);
    ahci.config_mut().write(4, 0x07);
    let mut bench = Bench { ahci, lines, messages, memory, now: 0 };
    bench.start(0);
    bench
}

fn disk(sectors: usize) -> (Bench, RamDisk) {
    let medium = RamDisk::new(pattern(sectors));
    (bench(ports(Some(DriveSpec::HardDisk(Box::new(medium.clone()))), None)), medium)
}

/// A command: FIS, flags of its header, packet, and (address, length) of its data.
#[derive(Clone, Default)]
struct Wanted {
    fis: [u8; 20],
    flags: u32,
    packet: [u8; 12],
    pieces: Vec<(u64, u32)>,
}

/// A command with a 48-bit address.
fn command(code: u8, lba: u64, count: u16) -> Wanted {
    let mut fis = [0; 20];
    let l = lba.to_le_bytes();
    (fis[0], fis[1], fis[2], fis[7]) = (0x27, 0x80, code, 0x40);
    (fis[4], fis[5], fis[6], fis[8], fis[9], fis[10]) = (l[0], l[1], l[2], l[3], l[4], l[5]);
    fis[12..14].copy_from_slice(&count.to_le_bytes());
    Wanted { fis, ..Wanted::default() }
}

/// READ or WRITE FPDMA QUEUED.
fn queued(code: u8, tag: u8, lba: u64, count: u16) -> Wanted {
    let mut wanted = command(code, lba, u16::from(tag) << 3);
    [wanted.fis[3], wanted.fis[11]] = count.to_le_bytes();
    wanted
}

fn packet(dma: bool, packet: [u8; 12], pieces: &[(u64, u32)]) -> Wanted {
    let mut wanted = command(0xa0, 0xfffe00, 0);
    wanted.fis[3] = dma.into();
    Wanted { packet, flags: 0x20, pieces: pieces.to_vec(), ..wanted }
}

impl Wanted {
    fn to(mut self, pieces: &[(u64, u32)]) -> Self {
        self.pieces = pieces.to_vec();
        self
    }
}

impl Bench {
    fn read(&mut self, register: u32) -> u32 {
        self.ahci.bar_read(MEMORY_BAR, register.into(), 4, self.now) as u32
    }
    fn write(&mut self, register: u32, value: u32) {
        self.ahci.bar_write(MEMORY_BAR, register.into(), 4, value.into(), self.now);
    }
    fn port(&mut self, port: u32, register: u32) -> u32 {
        self.read(0x100 + 0x80 * port + register)
    }
    fn put_port(&mut self, port: u32, register: u32, value: u32) {
        self.write(0x100 + 0x80 * port + register, value);
    }
    /// As a driver starts a port: lists, errors cleared, FIS receive, interrupts, start.
    fn start(&mut self, port: u32) {
        self.put_port(port, 0x00, LIST as u32);
        self.put_port(port, 0x08, RECEIVED as u32);
        self.put_port(port, 0x18, 0x10);
        self.put_port(port, 0x30, u32::MAX);
        self.put_port(port, 0x10, u32::MAX);
        self.put_port(port, 0x14, 0x7dc0_00ff);
        self.put_port(port, 0x18, 0x11);
        self.write(0x08, u32::MAX);
        self.write(0x04, 0x8000_0002);
    }
    fn fill(&mut self, slot: u32, wanted: &Wanted) {
        let table = TABLES + 0x400 * u64::from(slot);
        let header = (wanted.pieces.len() as u32) << 16 | wanted.flags | 5;
        let mut bytes = [header.to_le_bytes(), [0xaa; 4], (table as u32).to_le_bytes(), [0; 4]].concat();
        self.memory.put((LIST + 32 * u64::from(slot)) as usize, &bytes);
        self.memory.put(table as usize, &wanted.fis);
        self.memory.put(table as usize + 0x40, &wanted.packet);
        bytes.clear();
        for (at, len) in &wanted.pieces {
            bytes.extend(at.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend((len - 1).to_le_bytes());
        }
        self.memory.put(table as usize + 0x80, &bytes);
    }
    fn issue(&mut self, port: u32, slot: u32, wanted: &Wanted) {
        self.fill(slot, wanted);
        self.put_port(port, 0x38, 1 << slot);
    }
    /// Waits for an interrupt of `port` and clears it: PxIS, and what the time file said.
    fn interrupt(&mut self, port: u32) -> (u32, u32) {
        for _ in 0..1000 {
            let status = self.port(port, 0x10);
            if self.lines.levels() & 1 != 0 && status != 0 {
                assert_ne!(self.read(0x08) >> port & 1, 0);
                self.put_port(port, 0x10, status);
                self.write(0x08, 1 << port);
                assert_eq!(self.lines.levels(), 0, "IS {:#x}", self.port(port, 0x10));
                return (status, self.port(port, 0x20));
            }
            self.now = self.ahci.next_deadline().expect("something is going on");
            self.ahci.advance(self.now);
        }
        panic!("no interrupt");
    }
    /// A command in slot 0 from its beginning to its end.
    fn run(&mut self, port: u32, wanted: &Wanted) -> (u32, u32) {
        self.issue(port, 0, wanted);
        loop {
            let (status, tfd) = self.interrupt(port);
            if self.port(port, 0x38) == 0 || status & 0x7800_0000 != 0 {
                return (status, tfd);
            }
        }
    }
    fn moved(&self, slot: u64) -> u32 {
        u32::from_le_bytes(self.memory.get((LIST + 32 * slot + 4) as usize, 4).try_into().unwrap())
    }
    fn data(&self, at: u64, len: usize) -> Vec<u8> {
        self.memory.get(at as usize, len)
    }
    /// Ends a fatal error as drivers do.
    fn restart(&mut self, port: u32) {
        self.put_port(port, 0x18, 0x10);
        assert_eq!(self.port(port, 0x18) & 0x8001, 0);
        self.put_port(port, 0x30, u32::MAX);
        self.put_port(port, 0x10, u32::MAX);
        self.write(0x08, u32::MAX);
        self.put_port(port, 0x18, 0x11);
    }
    fn twin(&mut self, drives: PortSpecs) {
        let state = (self.ahci.config().bytes().to_vec(), self.ahci.save());
        let mut twin = bench(drives);
        twin.ahci.config_mut().restore(&state.0);
        twin.ahci.restore(&state.1);
        (self.ahci, self.lines, self.messages) = (twin.ahci, twin.lines, twin.messages);
        self.ahci.slot.memory = Dma::new(self.memory.clone());
    }
}

#[test]
fn a_driver_finds_controller_and_drives() {
    let cd = DriveSpec::CdRom(None);
    let mut b = bench(ports(Some(DriveSpec::HardDisk(Box::new(RamDisk::new(pattern(10))))), Some(cd)));
    assert_eq!((b.read(0x00) & 0x1f, b.read(0x0c), b.read(0x10)), (5, 0x3f, 0x10301));
    assert_eq!([0, 1, 2].map(|n| b.port(n, 0x28)), [0x123, 0x123, 0]);
    assert_eq!([0, 1, 2].map(|n| b.port(n, 0x24)), [0x101, 0xeb14_0101, u32::MAX]);
    assert_eq!([0, 1, 2].map(|n| b.port(n, 0x20)), [0x150, 0x100, 0x7f]);
    assert_eq!(b.port(0, 0x18) & 0xc017, 0xc017);
    // The signature FIS was received.
    assert_eq!(b.data(RECEIVED + 0x40, 4), [0x34, 0, 0x50, 1]);
    // The same registers by index and data.
    b.ahci.bar_write(INDEX_BAR, 0x10, 4, 0x128, 0);
    assert_eq!(b.ahci.bar_read(INDEX_BAR, 0x14, 4, 0), 0x123);
    // COMRESET: the link goes down and comes up, with a change to be told.
    b.put_port(0, 0x2c, 0x301);
    assert_eq!((b.port(0, 0x28), b.port(0, 0x20)), (0, 0x7f));
    b.put_port(0, 0x2c, 0x300);
    assert_eq!((b.port(0, 0x28), b.port(0, 0x24), b.port(0, 0x20)), (0x123, 0x101, 0x150));
    assert_eq!(b.port(0, 0x10) & 0x40_0040, 0x40_0040);
    b.put_port(0, 0x10, u32::MAX);
    assert_ne!(b.port(0, 0x10), 0, "these bits follow PxSERR");
    b.put_port(0, 0x30, u32::MAX);
    b.write(8, 1);
    assert_eq!((b.port(0, 0x10), b.lines.levels()), (0, 0));
    b.write(4, 1);
    assert_eq!((b.read(4), b.port(0, 0), b.port(0, 0x18)), (0x8000_0000, 0, 6));
}

#[test]
fn identify_by_pio_setup() {
    let (mut b, _) = disk(20_000);
    let (status, tfd) = b.run(0, &command(0xec, 0, 0).to(&[(DATA_AT, 100), (DATA_AT + 0x1000, 412)]));
    assert_eq!((status, tfd), (2, 0x50));
    assert_eq!(b.data(RECEIVED + 0x20, 4)[..3], [0x5f, 0x60, 0x58]);
    assert_eq!((b.data(RECEIVED + 0x2f, 1)[0], b.moved(0)), (0x50, 512));
    let bytes = [b.data(DATA_AT, 100), b.data(DATA_AT + 0x1000, 412)].concat();
    let word = |n: usize| u16::from_le_bytes([bytes[2 * n], bytes[2 * n + 1]]);
    assert_eq!((word(60), word(75), word(76) & 0x100, word(93)), (20_000, 31, 0x100, 0));
}

#[test]
fn sectors_by_dma_and_by_pio() {
    let (mut b, medium) = disk(70_000);
    let data = pattern(70_000);
    let pieces = [(DATA_AT, 512), (DATA_AT + 0x8000, 8192)];
    assert_eq!(b.run(0, &command(0x25, 66_000, 17).to(&pieces)), (1, 0x50));
    assert_eq!(b.data(RECEIVED + 0x40, 3), [0x34, 0x40, 0x50]);
    assert_eq!(b.data(DATA_AT, 512), data[66_000 * 512..][..512]);
    assert_eq!(b.data(DATA_AT + 0x8000, 8192), data[66_001 * 512..][..8192]);
    assert_eq!(b.moved(0), 17 * 512);
    // Sectors by PIO: an interrupt for each.
    assert_eq!(b.run(0, &command(0x24, 5, 3).to(&[(DATA_AT, 2048)])), (2, 0x50));
    assert_eq!(b.data(DATA_AT, 1536), data[5 * 512..][..1536]);
    // Writing both ways.
    for (code, lba, fill) in [(0x35, 9, 0x77), (0x34, 11, 0x78)] {
        b.memory.put(DATA_AT as usize, &[fill; 1024]);
        let (status, tfd) = b.run(0, &command(code, lba, 2).to(&[(DATA_AT, 1000), (DATA_AT + 1000, 24)]));
        assert_eq!((status & !2, tfd), (1, 0x50));
        let contents = medium.contents();
        let at = lba as usize * 512;
        assert!(contents[at..at + 1024].iter().all(|byte| *byte == fill));
        assert_eq!(contents[at - 1], if code == 0x35 { data[at - 1] } else { 0x77 });
    }
    assert_eq!(b.run(0, &command(0xea, 0, 0)), (1, 0x50));
    assert_eq!(medium.flushes(), 1);
    // TRIM takes its list by DMA.
    b.memory.put(DATA_AT as usize, &[0; 512]);
    b.memory.put(DATA_AT as usize, &[16, 0, 0, 0, 0, 0, 8, 0]);
    let mut trim = command(0x06, 0, 1).to(&[(DATA_AT, 512)]);
    trim.fis[3] = 1;
    assert_eq!(b.run(0, &trim), (1, 0x50));
    // More than the descriptors hold: what fits arrives.
    let (status, _) = b.run(0, &command(0x25, 3, 2).to(&[(DATA_AT, 512)]));
    assert_eq!((status, b.moved(0), b.port(0, 0x38)), (0x0100_0001, 512, 0));
}

#[test]
fn queued_commands_leave_their_slots_at_once() {
    let (mut b, medium) = disk(4000);
    let data = pattern(4000);
    for tag in 0..4u32 {
        b.fill(
            tag,
            &queued(0x60, tag as u8, 100 * u64::from(tag), 8)
                .to(&[(DATA_AT + 0x1000 * u64::from(tag), 4096)]),
        );
    }
    b.put_port(0, 0x34, 0x1f);
    b.memory.put(0x8_0000, &[0x3c; 512]);
    b.fill(4, &queued(0x61, 4, 7, 1).to(&[(0x8_0000, 512)]));
    b.put_port(0, 0x38, 0x1f);
    assert_eq!((b.port(0, 0x38), b.port(0, 0x34), b.port(0, 0x20)), (0, 0x1f, 0x50));
    // Saved in the middle of the queue.
    let mut left = 0x1f;
    for tag in 0..5u32 {
        if tag == 2 {
            b.twin(ports(Some(DriveSpec::HardDisk(Box::new(medium.clone()))), None));
        }
        assert_eq!(b.interrupt(0), (8, 0x50));
        left &= !(1 << tag);
        assert_eq!(b.port(0, 0x34), left);
        assert_eq!(b.data(RECEIVED + 0x58, 8), [0xa1, 0x40, 0x50, 0, 1 << tag, 0, 0, 0]);
    }
    for tag in 0..4 {
        assert_eq!(b.data(DATA_AT + 0x1000 * tag, 4096), data[100 * tag as usize * 512..][..4096]);
    }
    assert_eq!(medium.contents()[7 * 512..8 * 512], [0x3c; 512]);
    // One that fails takes the others with it; the log says which.
    b.fill(0, &queued(0x60, 0, 3999, 2).to(&[(DATA_AT, 1024)]));
    b.fill(1, &queued(0x60, 1, 0, 1).to(&[(DATA_AT, 512)]));
    b.put_port(0, 0x34, 3);
    b.put_port(0, 0x38, 3);
    let (status, tfd) = b.interrupt(0);
    assert_eq!((status, tfd, b.port(0, 0x34)), (0x4000_0008, 0x1051, 3));
    assert_eq!(b.ahci.next_deadline(), None);
    b.restart(0);
    assert_eq!(b.port(0, 0x34), 0);
    let mut log = command(0x2f, 0x10, 1).to(&[(DATA_AT, 512)]);
    log.fis[7] = 0xa0;
    b.run(0, &log);
    let page = b.data(DATA_AT, 512);
    assert_eq!(page[..8], [0, 0, 0x51, 0x10, 0x9f, 0x0f, 0, 0x40]);
    assert_eq!(page.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
}

#[test]
fn a_cd_answers_packets_by_dma_and_by_pio() {
    let medium = RamDisk::read_only(pattern(1200));
    let data = pattern(1200);
    let mut b = bench(ports(None, Some(DriveSpec::CdRom(Some(Box::new(medium))))));
    b.put_port(0, 0x18, 0);
    b.start(1);
    assert_eq!(b.run(1, &command(0xa1, 0, 0).to(&[(DATA_AT, 512)])), (2, 0x50));
    let read = |lba: u8, count: u8| [0x28, 0, 0, 0, 0, lba, 0, 0, count, 0, 0, 0];
    let pieces = [(DATA_AT, 0x1_0000), (DATA_AT + 0x2_0000, 0x1_0000)];
    for dma in [true, false] {
        b.memory.put(DATA_AT as usize, &vec![0; 0x4_0000]);
        let (status, tfd) = b.run(1, &packet(dma, read(17, 40), &pieces));
        assert_eq!((status & !2, tfd & 0xff, b.moved(0)), (1, 0x50, 40 * 2048), "dma {dma}");
        let found = [b.data(DATA_AT, 0x1_0000), b.data(DATA_AT + 0x2_0000, 40 * 2048 - 0x1_0000)].concat();
        assert!(found == data[17 * 2048..][..40 * 2048]);
    }
    // An error, the sense behind it, and life goes on.
    let (status, tfd) = b.run(1, &packet(true, [0x28, 0, 0, 0, 1, 44, 0, 0, 1, 0, 0, 0], &pieces));
    assert_eq!((status, tfd), (0x4000_0001, 0x5451));
    b.restart(1);
    b.run(1, &packet(false, [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0], &[(DATA_AT, 18)]));
    assert_eq!(b.data(DATA_AT + 2, 1), [5]);
    assert!(b.ahci.change_medium(1, None, false) && !b.ahci.change_medium(0, None, true));
    assert_eq!(b.run(1, &packet(false, [0; 12], &[])).1, 0x2051);
}

#[test]
fn soft_reset_by_two_control_fises() {
    let (mut b, _) = disk(100);
    let control = |srst: bool| {
        let mut wanted = Wanted { flags: if srst { 0x500 } else { 0 }, ..Wanted::default() };
        (wanted.fis[0], wanted.fis[15]) = (0x27, if srst { 4 } else { 0 });
        wanted
    };
    b.issue(0, 0, &control(true));
    assert_eq!((b.port(0, 0x38), b.port(0, 0x20) & 0x80), (0, 0));
    b.memory.put(RECEIVED as usize + 0x40, &[0; 20]);
    b.issue(0, 0, &control(false));
    assert_eq!((b.port(0, 0x38), b.port(0, 0x20), b.lines.levels()), (0, 0x150, 0));
    assert_eq!(b.data(RECEIVED + 0x40, 4), [0x34, 0, 0x50, 1]);
    assert_eq!(b.run(0, &command(0x25, 3, 1).to(&[(DATA_AT, 512)])), (1, 0x50));
}

#[test]
fn a_message_for_each_event() {
    let (mut b, _) = disk(100);
    for (at, value) in [(0x84, 0x00), (0x85, 0x00), (0x86, 0xe0), (0x87, 0xfe), (0x8c, 0x41), (0x82, 1)] {
        b.ahci.config_mut().write(at, value);
    }
    b.ahci.config_written(0x82, 1);
    b.issue(0, 0, &command(0x25, 3, 1).to(&[(DATA_AT, 512)]));
    assert_eq!(b.messages.take(), []);
    let sent = |b: &mut Bench| {
        b.now = b.ahci.next_deadline().unwrap();
        b.ahci.advance(b.now);
        b.messages.take().len()
    };
    assert_eq!((sent(&mut b), b.lines.levels()), (1, 0));
    // Another event while the first is not cleared is told too, and so is what a driver leaves.
    b.issue(0, 0, &command(0x25, 3, 1).to(&[(DATA_AT, 512)]));
    b.messages.take();
    assert_eq!(sent(&mut b), 1);
    b.write(8, 1);
    assert_eq!(b.messages.take().len(), 1, "PxIS is still set");
    b.put_port(0, 0x10, u32::MAX);
    b.messages.take();
    b.write(8, 1);
    assert_eq!(b.messages.take(), []);
}

#[test]
fn stopping_in_the_middle_of_a_command() {
    let (mut b, medium) = disk(100);
    let before = medium.contents();
    b.issue(0, 3, &command(0x35, 0, 8).to(&[(DATA_AT, 4096)]));
    assert_eq!((b.port(0, 0x20) & 0x80, b.port(0, 0x18) >> 8 & 0x1f), (0x80, 3));
    b.put_port(0, 0x18, 0x10);
    assert_eq!(b.port(0, 0x38), 0);
    b.put_port(0, 0x18, 0x11);
    // The next one waits until the drive is ready, and BSY is cleared.
    b.issue(0, 0, &command(0x25, 3, 1).to(&[(DATA_AT, 512)]));
    assert_eq!(b.port(0, 0x38), 1);
    assert_eq!(b.interrupt(0), (1, 0x50));
    assert!(medium.contents() == before, "nothing was written");
}

#[test]
fn what_no_memory_holds_is_a_fatal_error() {
    let (mut b, medium) = disk(100);
    let before = medium.contents();
    let fatal = |b: &mut Bench| {
        let (status, _) = b.interrupt(0);
        assert_ne!(status & 0x6000_0000, 0, "{status:#x}");
        b.put_port(0, 0x00, LIST as u32);
        b.put_port(0, 0x04, 0);
        b.restart(0);
        assert_eq!(b.run(0, &command(0x25, 3, 1).to(&[(DATA_AT, 512)])), (1, 0x50));
    };
    // The list, the table, descriptors and data elsewhere: nowhere, on our own registers, at the end of everything.
    for at in [0x4000_0000u64, 0xfebf_1000, !0x3ffu64] {
        b.put_port(0, 0x00, at as u32);
        b.put_port(0, 0x04, (at >> 32) as u32);
        b.put_port(0, 0x38, 1);
        fatal(&mut b);
        b.fill(0, &command(0x25, 0, 1));
        b.memory.put(LIST as usize + 8, &at.to_le_bytes());
        b.put_port(0, 0x38, 1);
        fatal(&mut b);
        for code in [0x25, 0x35, 0x24, 0x34, 0xec] {
            b.issue(0, 0, &command(code, 0, 1).to(&[(at, 512)]));
            fatal(&mut b);
        }
        b.fill(0, &queued(0x60, 0, 0, 1).to(&[(at, 512)]));
        b.put_port(0, 0x34, 1);
        b.put_port(0, 0x38, 1);
        fatal(&mut b);
    }
    // No FIS at all.
    b.issue(0, 0, &Wanted::default());
    fatal(&mut b);
    // Without bus mastering nothing can be fetched.
    b.ahci.config_mut().write(4, 3);
    b.put_port(0, 0x38, 1);
    b.ahci.config_mut().write(4, 7);
    fatal(&mut b);
    let after = medium.contents();
    assert!(after[512..] == before[512..]);
}

#[test]
fn a_list_of_descriptors_that_never_ends_does() {
    let (mut b, _) = disk(70_000);
    // 65535 descriptors, all memory over: most are of two bytes, and the command is of 65536 sectors.
    let mut wanted = command(0x25, 0, 0).to(&[(DATA_AT, 2)]);
    wanted.pieces = vec![(DATA_AT, 2)];
    b.fill(0, &wanted);
    b.memory.put(LIST as usize, &0xffff_0005u32.to_le_bytes());
    for n in 0..0x2000usize {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&DATA_AT.to_le_bytes());
        entry[12] = 1;
        b.memory.put(0x10_0000 + 16 * n, &entry);
    }
    b.memory.put(LIST as usize + 8, &(0x10_0000u32 - 0x80).to_le_bytes());
    b.memory.put(0x10_0000 - 0x80, &wanted.fis);
    b.put_port(0, 0x38, 1);
    let (status, _) = b.interrupt(0);
    assert_eq!(status & 0x0100_0001, 0x0100_0001);
}

/// Registers, memory and time at random: nothing panics, hangs or grows.
#[test]
fn any_registers_and_any_memory() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let medium = RamDisk::new(pattern(500));
    let cd = RamDisk::read_only(pattern(400));
    let mut b =
        bench(ports(Some(DriveSpec::HardDisk(Box::new(medium))), Some(DriveSpec::CdRom(Some(Box::new(cd))))));
    b.start(1);
    let codes =
        [0x60, 0x61, 0x25, 0x35, 0x24, 0x34, 0xec, 0xa0, 0xa1, 0xea, 0x2f, 0xc4, 0xc5, 0xc6, 0x06, 0x91];
    for n in 0..30_000 {
        let r = random();
        let port = (r >> 8 & 1) as u32;
        match r & 15 {
            0..=5 => {
                let code = codes[(r >> 16) as usize % codes.len()];
                let mut wanted = command(code, r >> 32 & 0x1ff, (r >> 41 & 0x1ff) as u16);
                wanted.packet = std::array::from_fn(|_| random() as u8 & 0x3f);
                wanted.pieces = (0..r >> 50 & 3)
                    .map(|_| (random() & 0x1f_ffff, 1 + (random() as u32 & 0xffff)))
                    .collect();
                if r >> 60 == 0 {
                    wanted.fis[(r >> 20 & 15) as usize] = random() as u8;
                }
                let slot = (r >> 52 & 31) as u32;
                b.fill(slot, &wanted);
                b.put_port(port, 0x34, random() as u32 & 3);
                b.put_port(port, 0x38, 1 << slot);
            }
            6..=8 => {
                let register = (random() & 0x7f) as u32;
                let at = if r >> 16 & 7 == 0 { register } else { 0x100 + 0x80 * port + register };
                let size = [1, 2, 4, 8][(r >> 20 & 3) as usize];
                b.ahci.bar_write(MEMORY_BAR, at.into(), size, random(), b.now);
            }
            9 => {
                let _ = b.ahci.bar_read(MEMORY_BAR, random() & 0xfff, 8, b.now);
                let _ = b.ahci.bar_read(INDEX_BAR, random() & 0x1f, 4, b.now);
            }
            10 => b.restart(port),
            11 => b.start(port),
            12 if n % 64 == 0 => {
                let mut state = b.ahci.save();
                let at = random() as usize % state.len();
                state[at] = random() as u8;
                b.ahci.restore(&state);
            }
            _ => {
                for _ in 0..20 {
                    let Some(due) = b.ahci.next_deadline() else { break };
                    if due > b.now + (1 << 40) {
                        break;
                    }
                    b.now = b.now.max(due);
                    b.ahci.advance(b.now);
                    assert!(b.ahci.next_deadline().is_none_or(|next| next > b.now), "step {n}");
                }
            }
        }
        b.messages.take();
    }
}
