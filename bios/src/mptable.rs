//! The MultiProcessor Specification 1.4 table: for guests that do not read ACPI.

use crate::board::Board;
use crate::bytes::{checksum, padded, put};
use crate::rom::Rom;

const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;
/// Interrupt flags: polarity and trigger as the bus has them / active high and level.
const CONFORMING: u16 = 0;
const LEVEL_HIGH: u16 = 0xd;
/// Interrupt types (table 4-10).
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

/// Puts the table and its floating pointer into `rom`; leaves them out when there is no room.
pub fn append(board: &Board, rom: &mut Rom) {
    let Some(at) = rom.append(&configuration(board), 16) else { return };
    let mut pointer = vec![0; 16];
    put(&mut pointer, 0, b"_MP_");
    put(&mut pointer, 4, &(at as u32).to_le_bytes());
    pointer[8] = 1;
    pointer[9] = 4;
    pointer[10] = checksum(&pointer);
    rom.append(&pointer, 16);
}

fn configuration(board: &Board) -> Vec<u8> {
    let entries = entries(board);
    let count = entries.len() as u16;
    let mut bytes = vec![0; 44];
    bytes.extend(entries.into_iter().flatten());
    let len = bytes.len() as u16;
    put(&mut bytes, 0, b"PCMP");
    put(&mut bytes, 4, &len.to_le_bytes());
    bytes[6] = 4;
    put(&mut bytes, 8, &padded::<8>("RETRO"));
    put(&mut bytes, 16, &padded::<12>("RETROGRADE"));
    put(&mut bytes, 34, &count.to_le_bytes());
    put(&mut bytes, 36, &board.lapic.to_le_bytes());
    bytes[7] = checksum(&bytes);
    bytes
}

fn entries(board: &Board) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = (0..board.cpus).map(|cpu| processor(board, cpu)).collect();
    entries.push(bus(PCI_BUS, "PCI"));
    entries.push(bus(ISA_BUS, "ISA"));
    let mut ioapic = vec![2, board.ioapic_id, 0x11, 1];
    ioapic.extend_from_slice(&board.ioapic.to_le_bytes());
    entries.push(ioapic);
    let input = |flags: u16, bus: u8, irq: u8, pin: u8| {
        let [lo, hi] = flags.to_le_bytes();
        vec![3, INT, lo, hi, bus, irq, board.ioapic_id, pin]
    };
    for slot in 1..32u8 {
        for pin in 0..4u8 {
            let line = board.chipset.line(slot, pin);
            let (flags, target) = match board.pci.gsi {
                None => (LEVEL_HIGH, board.pci.routes[line % 4]),
                Some(first) => (CONFORMING, first as u8 + line as u8),
            };
            entries.push(input(flags, PCI_BUS, (slot << 2) | pin, target));
        }
    }
    let level = board.level_irqs();
    for irq in (0..16u8).filter(|irq| *irq != 2) {
        let flags = if level.contains(&irq) { LEVEL_HIGH } else { CONFORMING };
        // The PIT is on input 2.
        entries.push(input(flags, ISA_BUS, irq, if irq == 0 { 2 } else { irq }));
    }
    entries.push(vec![4, EXT_INT, 0, 0, ISA_BUS, 0, 0, 0]);
    entries.push(vec![4, NMI, 0, 0, ISA_BUS, 0, 0xff, 1]);
    entries
}

fn processor(board: &Board, cpu: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    const BOOT: u8 = 2;
    let mut entry = vec![0, board.apic_id(cpu), 0x14, if cpu == 0 { ENABLED | BOOT } else { ENABLED }];
    entry.extend_from_slice(&board.cpu_signature.to_le_bytes());
    entry.extend_from_slice(&board.cpu_features.to_le_bytes());
    entry.extend_from_slice(&[0; 8]);
    entry
}

fn bus(id: u8, name: &str) -> Vec<u8> {
    let mut entry = vec![1, id];
    entry.extend_from_slice(&padded::<6>(name));
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e820::MemoryLayout;

    #[test]
    fn entry_lengths_add_up() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 4);
        let table = configuration(&board);
        assert_eq!(table.iter().fold(0u8, |a, b| a.wrapping_add(*b)), 0);
        let count = u16::from_le_bytes([table[34], table[35]]);
        let mut at = 44;
        for _ in 0..count {
            at += if table[at] == 0 { 20 } else { 8 };
        }
        assert_eq!(at, table.len());
    }
}
