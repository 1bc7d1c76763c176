//! Puts the parts of the firmware together.

use crate::acpi;
use crate::bda;
use crate::board::{Board, ECAM_LEN};
use crate::chunk::Chunk;
use crate::e820::{E820Entry, E820Kind, SYSTEM_ROM};
use crate::mptable;
use crate::rom::Rom;
use crate::setup::Setup;
use crate::smbios;

/// Resets a PC when nothing else is known: port 0xCF9 of the PIIX3.
const DEFAULT_RESET: (u16, u8) = (0xcf9, 6);

/// What the firmware leaves in memory, and what it tells a loader.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// Memory contents. The chunk at 0xF0000 lies in ROM.
    pub chunks: Vec<Chunk<'static>>,
    /// Address of the ACPI root pointer, if there are ACPI tables.
    pub rsdp: Option<u64>,
    /// What has been done to the hardware.
    pub setup: Setup,
    /// The memory map.
    pub e820: Vec<E820Entry>,
}

impl Firmware {
    /// Builds the firmware of `board`.
    pub fn new(board: &Board) -> Self {
        let layout = &board.layout;
        let reset = board.pm.and_then(|pm| pm.reset).map_or(DEFAULT_RESET, |r| (r.port, r.value));
        let mut rom = Rom::new(reset);
        let mut chunks = bda::chunks(board);
        let rsdp = board.pm.and_then(|pm| {
            let tables = acpi::build(board, &pm, layout.acpi_area() as u32, layout.acpi_nvs() as u32);
            chunks.push(Chunk::owned(layout.acpi_area(), tables.area, "ACPI tables"));
            chunks.push(Chunk::owned(layout.acpi_nvs(), tables.facs, "ACPI FACS"));
            rom.append(&tables.rsdp, 16)
        });
        mptable::append(board, &mut rom);
        smbios::append(board, &mut rom);
        chunks.push(Chunk::owned(SYSTEM_ROM, rom.into_image(), "system ROM"));
        Self { chunks, rsdp, setup: Setup::new(board), e820: memory_map(board) }
    }
}

/// The memory map, with configuration space: operating systems use it only if it is reserved.
fn memory_map(board: &Board) -> Vec<E820Entry> {
    let mut map = board.layout.e820();
    if let Some(at) = board.ecam {
        map.push(E820Entry { start: at.into(), len: ECAM_LEN, kind: E820Kind::Reserved });
        map.sort_unstable_by_key(|entry| entry.start);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e820::{ACPI_AREA_LEN, ACPI_NVS_LEN, MemoryLayout};

    fn contents(firmware: &Firmware, at: u64) -> &[u8] {
        let chunk = firmware.chunks.iter().find(|c| c.at <= at && at < c.end()).unwrap();
        &chunk.bytes[(at - chunk.at) as usize..]
    }

    #[test]
    fn chunks_fit_their_places_even_with_255_processors() {
        for cpus in [1, 8, 255] {
            let layout = MemoryLayout::new(64 << 20).unwrap();
            let firmware = Firmware::new(&Board::pc(layout, cpus));
            for chunk in &firmware.chunks {
                assert!(layout.ram_offset(chunk.at, chunk.bytes.len() as u64).is_some(), "{}", chunk.what);
            }
            let tables = firmware.chunks.iter().find(|c| c.what == "ACPI tables").unwrap();
            assert!((tables.bytes.len() as u64) < ACPI_AREA_LEN - ACPI_NVS_LEN);
        }
    }

    #[test]
    fn signatures_are_found_where_guests_scan() {
        let firmware = Firmware::new(&Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1));
        let rom = contents(&firmware, SYSTEM_ROM);
        for signature in [&b"RSD PTR "[..], b"_MP_", b"_SM_"] {
            let hits = rom.chunks(16).filter(|line| line.starts_with(signature)).count();
            assert_eq!(hits, 1, "{signature:?}");
        }
        assert!(contents(&firmware, firmware.rsdp.unwrap()).starts_with(b"RSD PTR "));
        assert_eq!(contents(&firmware, 0xf_fff0)[0], 0xea);
    }

    #[test]
    fn no_acpi_means_no_tables() {
        let mut board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        board.pm = None;
        let firmware = Firmware::new(&board);
        assert!(firmware.rsdp.is_none() && firmware.chunks.iter().all(|c| !c.what.starts_with("ACPI")));
    }
}
