//! The controller driven as a BIOS drives it.

use super::*;
use crate::Lines;
use crate::block::RamDisk;
use crate::memory::test_memory::Flat;
use std::sync::Arc;

struct Bench {
    floppy: Floppy,
    dma: Dma8237,
    lines: Arc<Lines>,
    memory: Arc<Flat>,
    now: Ns,
}

fn bench(disk: &RamDisk) -> Bench {
    let (lines, memory) = (Lines::new(), Flat::new(0x2_0000));
    let media = [Some(Some(Box::new(disk.clone()) as Disk)), None];
    let floppy = Floppy::new(media, Dma::new(memory.clone()), lines.line(6));
    Bench { floppy, dma: Dma8237::new(), lines, memory, now: 0 }
}

fn image(bytes: usize) -> RamDisk {
    RamDisk::new((0..bytes).map(|n| (n / 512 * 3 + n) as u8).collect())
}

impl Bench {
    fn out(&mut self, port: u16, value: u8) {
        self.floppy.port_write(port, 1, value.into(), self.now);
    }
    fn input(&mut self, port: u16) -> u8 {
        self.floppy.port_read(port, 1, self.now) as u8
    }
    fn command(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(self.input(0x3f4) & 0xc0, 0x80);
            self.out(0x3f5, *byte);
        }
    }
    fn interrupt(&mut self) {
        self.now = self.floppy.next_deadline().expect("something is going on");
        self.floppy.run(self.now, &mut self.dma);
        assert_eq!(self.lines.levels(), 1 << 6);
    }
    fn result(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.input(0x3f4) & 0xd0 == 0xd0 {
            bytes.push(self.input(0x3f5));
        }
        bytes
    }
    fn reset(&mut self) {
        self.out(0x3f2, 0x08);
        self.out(0x3f2, 0x1c);
        self.interrupt();
        for drive in 0..4 {
            self.command(&[8]);
            assert_eq!(self.result(), [0xc0 | drive, 0]);
        }
        assert_eq!(self.lines.levels(), 0);
        self.command(&[3, 0xaf, 0x02]);
    }
    fn seek(&mut self, command: &[u8], cylinder: u8) {
        self.command(command);
        self.interrupt();
        self.command(&[8]);
        assert_eq!(self.result(), [0x20, cylinder]);
    }
    /// Channel 2 for `bytes` bytes at 8000h.
    fn set_up_dma(&mut self, mode: u8, bytes: u16) {
        let [low, high] = (bytes - 1).to_le_bytes();
        for (port, value) in
            [(0x0a, 6), (0x0c, 0), (4, 0), (4, 0x80), (5, low), (5, high), (0x81, 0), (0x0b, mode), (0x0a, 2)]
        {
            self.dma.port_write(port, 1, u32::from(value), 0);
        }
    }
}

#[test]
fn sectors_are_read_over_both_sides_of_a_track() {
    let disk = image(1_474_560);
    let mut b = bench(&disk);
    assert_eq!(b.floppy.cmos_types(), 0x40);
    b.reset();
    assert_eq!(b.input(0x3f7) & 0x80, 0x80, "the disk was changed");
    b.seek(&[7, 0], 0);
    assert_eq!(b.input(0x3f7) & 0x80, 0);
    b.seek(&[0x0f, 0, 5], 5);
    b.command(&[0x4a, 0]);
    b.interrupt();
    assert_eq!(b.result(), [0, 0, 0, 5, 0, 1, 2]);
    // From sector 17 of side 0 over four sectors.
    b.set_up_dma(0x46, 2048);
    b.command(&[0xe6, 0, 5, 0, 17, 2, 18, 0x1b, 0xff]);
    assert_eq!(b.input(0x3f4), 0x10);
    // A saved state in the middle of it.
    let state = b.floppy.save();
    b.floppy.restore(state.clone());
    assert_eq!(b.floppy.save(), state);
    b.interrupt();
    assert_eq!(b.result(), [4, 0, 0, 5, 1, 3, 2]);
    assert_eq!(b.lines.levels(), 0);
    let at = 512 * (5 * 36 + 16);
    assert!(b.memory.get(0x8000, 2048) == disk.contents()[at..at + 2048]);
}

#[test]
fn sectors_are_written_and_formatted() {
    let disk = image(737_280);
    let mut b = bench(&disk);
    b.reset();
    b.seek(&[7, 0], 0);
    b.memory.put(0x8000, &[0x5a; 512]);
    b.set_up_dma(0x4a, 512);
    b.command(&[0xc5, 4, 0, 1, 9, 2, 9, 0x1b, 0xff]);
    b.interrupt();
    assert_eq!(b.result(), [4, 0, 0, 1, 0, 1, 2]);
    let contents = disk.contents();
    assert_eq!((contents[17 * 512], contents[18 * 512 - 1], contents[18 * 512]), (0x5a, 0x5a, 54));
    b.seek(&[0x0f, 0, 2], 2);
    let ids: Vec<u8> = (1..=9).flat_map(|sector| [2, 0, sector, 2]).collect();
    b.memory.put(0x8000, &ids);
    b.set_up_dma(0x4a, 36);
    b.command(&[0x4d, 0, 2, 9, 0x54, 0xf6]);
    b.interrupt();
    assert_eq!(b.result()[..2], [0, 0]);
    assert!(disk.contents()[36 * 512..45 * 512].iter().all(|byte| *byte == 0xf6));
}

#[test]
fn what_cannot_be_done_says_so() {
    let disk = RamDisk::read_only(vec![0; 1_228_800]);
    let mut b = bench(&disk);
    assert_eq!(b.floppy.cmos_types(), 0x20);
    b.reset();
    b.command(&[8]);
    assert_eq!(b.result(), [0x80]);
    b.command(&[0x1f]);
    assert_eq!(b.result(), [0x80]);
    b.command(&[0x10]);
    assert_eq!(b.result(), [0x90]);
    b.seek(&[7, 0], 0);
    b.command(&[4, 0]);
    assert_eq!(b.result(), [0x78]);
    b.set_up_dma(0x4a, 512);
    for (command, st1) in [
        ([0xc5, 0, 0, 0, 1, 2, 15, 0x1b, 0xff], 2),
        ([0xe6, 0, 3, 0, 1, 2, 15, 0x1b, 0xff], 4),
        ([0xe6, 0, 0, 0, 16, 2, 18, 0x1b, 0xff], 4),
        ([0xe6, 1, 0, 0, 1, 2, 15, 0x1b, 0xff], 1),
    ] {
        b.command(&command);
        b.interrupt();
        let result = b.result();
        assert_eq!((result[0] & 0xc0, result[1]), (0x40, st1));
    }
    // A masked channel, and one that stops in the middle of a track.
    b.dma.port_write(0x0a, 1, 6, 0);
    b.command(&[0xe6, 0, 0, 0, 1, 2, 15, 0x1b, 0xff]);
    b.interrupt();
    assert_eq!(b.result()[1], 0x10);
    b.set_up_dma(0x46, 16_384);
    b.command(&[0x46, 0, 0, 0, 1, 2, 15, 0x1b, 0xff]);
    b.interrupt();
    assert_eq!(b.result(), [0x40, 0x80, 0, 1, 0, 1, 2]);
    // No medium.
    assert!(b.floppy.change_medium(0, None));
    assert!(!b.floppy.change_medium(0, Some(Box::new(RamDisk::new(vec![0; 4 << 20])))), "too large");
    b.command(&[0x4a, 0]);
    b.interrupt();
    assert_eq!(b.result()[..2], [0x40, 1]);
}

#[test]
fn formats_by_size() {
    for (bytes, sectors) in [(1_474_560, 18), (2_949_120, 36), (737_280, 9), (1_228_800, 15), (368_640, 9)] {
        assert_eq!(Geometry::of(bytes).unwrap().sectors, sectors);
    }
    assert_eq!(Geometry::of(100_000).unwrap().sectors, 18, "a short image");
    assert_eq!(Geometry::of(3 << 20), None);
}
