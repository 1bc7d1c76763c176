//! The first sectors of a disk that a BIOS starts GRUB from: the boot sector with the table of partitions, and the core image
//! in the sectors between it and the first partition.
//!
//! GRUB's own program for this wants to see the disk as a device of the running system; an image in a file is none.

use anyhow::{Result, bail};

pub const SECTOR: usize = 512;

/// Where the table's first entry is; a number for the disk stands before it.
const TABLE: usize = 446;
const DISK_NUMBER: usize = 440;
const ACTIVE: u8 = 0x80;
const LINUX: u8 = 0x83;
/// Cylinder, head and sector of a place that has no such address: readers take the sector numbers.
const NO_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

/// In GRUB's boot sector: the jump past code for BIOSes that name the wrong drive in DL. On hard disks two NOPs take its place.
const DRIVE_CHECK: usize = 0x66;
/// In the core's first sector: where the rest lies, in how many sectors.
const REST_START: usize = 0x1f4;
const REST_LENGTH: usize = 0x1fc;

/// The only partition, which is active and Linux's. In sectors.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    pub first: u32,
    pub count: u32,
}

/// The sectors before `partition`, as far as they hold something: `boot` is GRUB's `boot.img`, `core` what `grub-mkimage` made.
pub fn first_sectors(boot: &[u8], core: &[u8], partition: Partition) -> Result<Vec<u8>> {
    let mut sectors = Vec::from(boot);
    if boot.len() != SECTOR || !boot.ends_with(&[0x55, 0xaa]) {
        bail!("GRUB's boot image is no boot sector");
    }
    sectors[DRIVE_CHECK..DRIVE_CHECK + 2].fill(0x90);
    sectors[DISK_NUMBER..SECTOR - 2].fill(0);
    sectors[DISK_NUMBER..DISK_NUMBER + 4].copy_from_slice(b"rtro");
    sectors[TABLE..TABLE + 16].copy_from_slice(&entry(partition));
    sectors.extend(core);
    sectors.resize(sectors.len().next_multiple_of(SECTOR), 0);
    let rest = sectors.len() / SECTOR - 2;
    if core.len() < SECTOR || rest_of(core) != (2, rest as u64) {
        bail!("GRUB's core image does not say that its rest is {rest} sectors from sector 2");
    }
    if sectors.len() / SECTOR > partition.first as usize {
        bail!("GRUB's core image reaches into the first partition");
    }
    Ok(sectors)
}

fn entry(Partition { first, count }: Partition) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[0] = ACTIVE;
    entry[1..4].copy_from_slice(&NO_CHS);
    entry[4] = LINUX;
    entry[5..8].copy_from_slice(&NO_CHS);
    entry[8..12].copy_from_slice(&first.to_le_bytes());
    entry[12..16].copy_from_slice(&count.to_le_bytes());
    entry
}

/// First sector and number of sectors, from the list that ends the core's first sector.
fn rest_of(core: &[u8]) -> (u64, u64) {
    let number = |at: usize, bytes: usize| {
        core[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    (number(REST_START, 8), number(REST_LENGTH, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: Partition = Partition { first: 2048, count: 0x0017_f800 };

    fn boot() -> Vec<u8> {
        let mut boot = vec![0xcc; SECTOR];
        boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0xeb, 0x05]);
        boot[SECTOR - 2..].copy_from_slice(&[0x55, 0xaa]);
        boot
    }

    /// A core of `length` bytes whose list names `rest` sectors.
    fn core(length: usize, rest: u8) -> Vec<u8> {
        let mut core = vec![0xdd; length];
        core[REST_START..SECTOR].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, rest, 0, 0x20, 8]);
        core
    }

    #[test]
    fn code_table_and_core_are_in_their_places() {
        let sectors = first_sectors(&boot(), &core(1300, 2), PARTITION).expect("it fits");
        assert_eq!(sectors.len(), 4 * SECTOR);
        assert_eq!(sectors[..DRIVE_CHECK], [0xcc; DRIVE_CHECK]);
        assert_eq!(sectors[DRIVE_CHECK..DRIVE_CHECK + 3], [0x90, 0x90, 0xcc]);
        assert_eq!(sectors[DISK_NUMBER..TABLE], *b"rtro\0\0");
        let entry = [0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0xf8, 0x17, 0];
        assert_eq!(sectors[TABLE..TABLE + 16], entry);
        assert_eq!(sectors[TABLE + 16..SECTOR - 2], [0; 48], "no other partition");
        assert_eq!(sectors[SECTOR - 2..SECTOR], [0x55, 0xaa]);
        assert_eq!(sectors[SECTOR..SECTOR + 1300], core(1300, 2));
        assert_eq!(sectors[SECTOR + 1300..], [0; 236]);
    }

    #[test]
    fn images_that_do_not_belong_there_are_refused() {
        let refused = |boot: &[u8], core: &[u8], partition| first_sectors(boot, core, partition).is_err();
        assert!(refused(&[0; SECTOR], &core(1300, 2), PARTITION), "no signature");
        assert!(refused(&boot()[1..], &core(1300, 2), PARTITION), "too short");
        assert!(refused(&boot(), &core(1300, 3), PARTITION), "another length than the list's");
        assert!(refused(&boot(), &[0; 100], PARTITION), "no list");
        assert!(refused(&boot(), &core(1300, 2), Partition { first: 3, ..PARTITION }), "no room");
        assert!(!refused(&boot(), &core(1300, 2), Partition { first: 4, ..PARTITION }));
    }
}
