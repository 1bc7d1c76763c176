use std::sync::{Arc, Mutex};

use super::*;
use crate::block::RamDisk;

/// An array that the test can look into.
#[derive(Clone)]
struct Array(Arc<Mutex<Vec<u8>>>);

impl FlashArray for Array {
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0.lock().unwrap()[offset as usize..][..bytes.len()]);
    }
    fn write(&self, offset: u64, bytes: &[u8]) {
        self.0.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}

const LEN: usize = 0x4000;

fn chip(read_only: bool) -> (Flash, Array, RamDisk) {
    let contents: Vec<u8> = (0..LEN).map(|n| (n >> 8) as u8 | 0x80).collect();
    let array = Array(Arc::new(Mutex::new(vec![0; LEN])));
    let file = if read_only { RamDisk::read_only(contents) } else { RamDisk::new(contents) };
    (Flash::new(Box::new(file.clone()), Box::new(array.clone()), SECTOR).unwrap(), array, file)
}

fn write(flash: &mut Flash, cycles: &[(u64, u8)]) {
    for (offset, value) in cycles {
        flash.write(*offset, 1, (*value).into());
    }
}

#[test]
fn firmware_recognises_flash() {
    let (mut flash, ..) = chip(false);
    assert_eq!((flash.read(0x1234, 1), flash.read(0x1fff, 4)), (0x92, 0xa0a0_a09f));
    // Clear status, read status: neither the array, nor what was written, but 0.
    write(&mut flash, &[(0x1234, 0x50)]);
    assert!(flash.reads_array());
    write(&mut flash, &[(0x1234, 0x70)]);
    assert!(!flash.reads_array());
    assert_eq!(flash.read(0x1234, 1), 0);
    write(&mut flash, &[(0, 0x90)]);
    assert_eq!((flash.read(0, 2), flash.read(0x3002, 1)), (0x1889, 0));
    write(&mut flash, &[(0x55, 0x98)]);
    assert_eq!(flash.read(0x10, 4) as u32, u32::from_le_bytes([b'Q', b'R', b'Y', 1]));
    // 2^14 bytes in four blocks of 4 KiB.
    assert_eq!((flash.read(0x27, 1), flash.read(0x2c, 4) as u32, flash.read(0x30, 1)), (14, 0x1000_0301, 0));
    write(&mut flash, &[(0, 0xff)]);
    assert_eq!(flash.read(0x1234, 1), 0x92);
}

#[test]
fn programming_clears_bits_and_erasing_sets_a_sector() {
    let (mut flash, array, file) = chip(false);
    write(&mut flash, &[(0x1000, 0x10), (0x1000, 0x0f)]);
    assert_eq!(flash.read(0, 1), 0x80, "ready, no error");
    write(&mut flash, &[(0x1001, 0x40), (0x1001, 0xf0), (0, 0xff)]);
    assert_eq!(flash.read(0x1000, 2), 0x9000);
    write(&mut flash, &[(0x1fff, 0x20), (0x1fff, 0xd0), (0, 0xff)]);
    let (array, file) = (array.0.lock().unwrap(), file.contents());
    assert!(array[0x1000..0x2000].iter().all(|byte| *byte == 0xff));
    assert_eq!((array[0xfff], array[0x2000]), (0x8f, 0xa0));
    assert_eq!(*array, file, "what is in the array is in the file");
}

#[test]
fn a_buffer_is_programmed_when_it_is_confirmed() {
    let (mut flash, array, file) = chip(false);
    write(&mut flash, &[(0x2000, 0x20), (0x2000, 0xd0), (0x2000, 0xe8)]);
    assert_eq!(flash.read(0x2000, 1), 0x80, "a buffer is free");
    write(&mut flash, &[(0x2000, 3), (0x2010, 1), (0x2012, 3), (0x2013, 4), (0x2011, 2)]);
    assert_eq!(array.0.lock().unwrap()[0x2010], 0xff);
    write(&mut flash, &[(0x2000, 0xd0), (0, 0xff)]);
    assert_eq!(array.0.lock().unwrap()[0x200f..0x2015], [0xff, 1, 2, 3, 4, 0xff]);
    assert_eq!(*array.0.lock().unwrap(), file.contents());
    // Outside of what was announced, beyond the end, not confirmed: an error each, and nothing changes.
    for cycles in [
        &[(0, 0xe8), (0, 1), (0x2020, 0), (0x2022, 0)][..],
        &[(0, 0xe8), (0, 255), (LEN as u64 - 1, 0)],
        &[(0, 0xe8), (0, 0), (0x2020, 0), (0, 0xff)],
        &[(0x2020, 0x20), (0x2020, 0x20)],
    ] {
        write(&mut flash, &[(0, 0x50)]);
        write(&mut flash, cycles);
        assert_eq!(flash.read(0, 1), 0xb0, "{cycles:x?}");
        assert_eq!(*array.0.lock().unwrap(), file.contents());
        assert_eq!(array.0.lock().unwrap()[0x2020], 0xff);
    }
}

#[test]
fn what_is_read_only_stays() {
    let (mut flash, array, _) = chip(true);
    let before = array.0.lock().unwrap().clone();
    write(&mut flash, &[(0, 0x50), (0x1000, 0x10), (0x1000, 0)]);
    assert_eq!(flash.read(0, 1), 0x92);
    write(&mut flash, &[(0, 0x50), (0x1000, 0x20), (0x1000, 0xd0)]);
    assert_eq!(flash.read(0, 1), 0xa2);
    assert_eq!(*array.0.lock().unwrap(), before);
}

#[test]
fn a_restored_chip_goes_on_and_hostile_states_do_not_matter() {
    let (mut flash, array, _) = chip(false);
    write(&mut flash, &[(0, 0xe8), (0, 1), (0x2000, 0)]);
    let state = flash.save();
    flash.reset();
    assert!(flash.reads_array());
    flash.restore(state);
    write(&mut flash, &[(0x2001, 0), (0, 0xd0)]);
    assert_eq!(array.0.lock().unwrap()[0x2000..0x2003], [0, 0, 0xa0]);
    for mode in [
        Mode::Fill { start: Some(u64::MAX), left: 3, bytes: vec![0; 4] },
        Mode::Fill { start: None, left: 0, bytes: Vec::new() },
        Mode::Confirm { start: LEN as u64 - 1, bytes: vec![0; 2] },
    ] {
        flash.restore(FlashState { mode, status: 0xff });
        assert!(flash.reads_array());
        write(&mut flash, &[(0, 0xd0)]);
    }
    // Any cycles at all, also across the end.
    let mut seed = 1u64;
    for _ in 0..100_000 {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let (offset, value) = (seed >> 40 & 0x7fff, seed >> 56);
        flash.write(offset, 1 << (seed >> 33 & 3), value * 0x0101_0101_0101_0101);
        flash.read(offset, 8);
    }
}
