//! SMBIOS 2.8 structures: the names by which guests know this machine.

use crate::board::Board;
use crate::bytes::{checksum, put};
use crate::rom::Rom;

/// Puts the entry point and the structures into `rom`; leaves them out when there is no room.
pub fn append(board: &Board, rom: &mut Rom) {
    let structures = structures(board);
    let Some(at) = rom.append(&structures.concat(), 16) else { return };
    rom.append(&entry_point(&structures, at as u32), 16);
}

/// The entry point, for structures at address 0, and the structures: for firmware that places them.
pub fn files(board: &Board) -> (Vec<u8>, Vec<u8>) {
    let structures = structures(board);
    (entry_point(&structures, 0), structures.concat())
}

fn entry_point(structures: &[Vec<u8>], at: u32) -> Vec<u8> {
    let count = structures.len() as u16;
    let largest = structures.iter().map(Vec::len).max().unwrap_or(0) as u16;
    let len = structures.iter().map(Vec::len).sum::<usize>() as u16;
    let mut entry = vec![0; 31];
    put(&mut entry, 0, b"_SM_");
    entry[5] = 31;
    entry[6] = 2;
    entry[7] = 8;
    put(&mut entry, 8, &largest.to_le_bytes());
    put(&mut entry, 16, b"_DMI_");
    put(&mut entry, 22, &len.to_le_bytes());
    put(&mut entry, 24, &at.to_le_bytes());
    put(&mut entry, 28, &count.to_le_bytes());
    entry[30] = 0x28;
    entry[21] = checksum(&entry[16..]);
    entry[4] = checksum(&entry);
    entry
}

/// One structure: type, handle, the fields after the header, the strings that the fields number from 1.
fn structure(kind: u8, handle: u16, fields: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut bytes = vec![kind, 4 + fields.len() as u8];
    bytes.extend_from_slice(&handle.to_le_bytes());
    bytes.extend_from_slice(fields);
    for string in strings {
        bytes.extend_from_slice(string.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(if strings.is_empty() { &[0, 0] } else { &[0] });
    bytes
}

fn structures(board: &Board) -> Vec<Vec<u8>> {
    const VENDOR: &str = "Retrograde";
    const PRODUCT: &str = "PC (i440FX + PIIX)";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let mut list = Vec::new();

    let mut bios = vec![1, 2, 0x00, 0xf0, 3, 0];
    bios.extend_from_slice(&(1u64 << 3).to_le_bytes()); // characteristics: not supported
    bios.extend_from_slice(&[0, 0x14, 0, 0, 0xff, 0xff]); // a virtual machine
    list.push(structure(0, 0x000, &bios, &[VENDOR, VERSION, "01/01/2026"]));

    let mut system = vec![1, 2, 3, 0];
    system.extend_from_slice(&[0; 16]); // no UUID
    system.extend_from_slice(&[6, 0, 0]); // woken by the power switch
    list.push(structure(1, 0x100, &system, &[VENDOR, PRODUCT, VERSION]));

    let mut chassis = vec![1, 1, 2, 0, 0, 3, 3, 3, 2];
    chassis.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0]);
    list.push(structure(3, 0x300, &chassis, &[VENDOR, VERSION]));

    for cpu in 0..board.cpus {
        list.push(processor(board, cpu, VENDOR));
    }
    list.extend(memory(board));
    list.push(structure(32, 0x2000, &[0; 7], &[])); // booted without error
    list.push(structure(127, 0x7f00, &[], &[]));
    list
}

fn processor(board: &Board, cpu: u8, vendor: &str) -> Vec<u8> {
    let socket = format!("CPU {cpu}");
    let mut fields = vec![1, 3, 1, 2]; // central processor, family other
    fields.extend_from_slice(&board.cpu_signature.to_le_bytes());
    fields.extend_from_slice(&board.cpu_features.to_le_bytes());
    fields.extend_from_slice(&[2, 0, 0, 0, 0xe8, 0x03, 0xe8, 0x03, 0x41, 0x01]); // 1000 MHz, enabled
    fields.extend_from_slice(&[0xff; 6]); // no cache structures
    fields.extend_from_slice(&[0, 0, 0, 1, 1, 1, 0, 0, 1, 0]); // one core, one thread
    structure(4, 0x400 + u16::from(cpu), &fields, &[&socket, vendor])
}

/// Physical memory array, one module, and what it maps to.
fn memory(board: &Board) -> [Vec<u8>; 3] {
    let kib = board.layout.ram_bytes() >> 10;
    let mib = kib >> 10;
    let mut array = vec![1, 3, 3]; // other location, system memory, no error correction
    array.extend_from_slice(&(kib.min(0x8000_0000) as u32).to_le_bytes());
    array.extend_from_slice(&[0xfe, 0xff, 1, 0]);
    let extended = if kib >= 0x8000_0000 { kib << 10 } else { 0 };
    array.extend_from_slice(&extended.to_le_bytes());

    let mut module = vec![0x00, 0x10, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];
    let size = if mib < 0x7fff { mib as u16 } else { 0x7fff };
    module.extend_from_slice(&size.to_le_bytes());
    module.extend_from_slice(&[9, 0, 1, 0, 7, 2, 0, 0, 0, 2, 0, 0, 0, 0]); // DIMM, RAM
    let extended = if mib < 0x7fff { 0 } else { mib as u32 };
    module.extend_from_slice(&extended.to_le_bytes());
    module.extend_from_slice(&[0; 8]);

    let mut mapping = Vec::new();
    let last_kib = (kib - 1).min(0xffff_ffff) as u32;
    mapping.extend_from_slice(&0u32.to_le_bytes());
    mapping.extend_from_slice(&last_kib.to_le_bytes());
    mapping.extend_from_slice(&[0x00, 0x10, 1]);
    mapping.extend_from_slice(&[0; 16]);
    [
        structure(16, 0x1000, &array, &[]),
        structure(17, 0x1100, &module, &["DIMM 0"]),
        structure(19, 0x1300, &mapping, &[]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e820::MemoryLayout;

    #[test]
    fn structures_have_the_lengths_of_version_2_8() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        let lengths: Vec<_> = structures(&board).iter().map(|s| (s[0], s[1])).collect();
        let expected = [
            (0, 0x18),
            (1, 0x1b),
            (3, 0x16),
            (4, 0x2a),
            (16, 0x17),
            (17, 0x28),
            (19, 0x1f),
            (32, 0x0b),
            (127, 4),
        ];
        assert_eq!(lengths, expected);
        assert!(structures(&board).iter().all(|s| s.ends_with(&[0, 0])));
    }
}
