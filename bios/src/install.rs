//! Carries what the pure part of this crate has produced into guest memory.

use softmmu::{AddressSpace, Gpa, Region, RegionKind};

use crate::chunk::Chunk;
use crate::e820::MemoryLayout;
use crate::error::LoadError;

impl MemoryLayout {
    /// The memory map of a machine without device windows: RAM and ROM.
    pub fn regions(&self) -> Vec<Region> {
        let region = |block: crate::e820::Block| Region {
            start: Gpa(block.start),
            len: block.len,
            kind: if block.rom {
                RegionKind::Rom { offset: block.offset }
            } else {
                RegionKind::Ram { offset: block.offset }
            },
        };
        self.blocks().into_iter().map(region).collect()
    }
}

/// Writes `chunks` into `space`, whose memory was laid out by `layout`; ROM contents included. The rest of memory is left as
/// it is, and must be zero for a kernel to start.
pub fn install(chunks: &[Chunk<'_>], layout: &MemoryLayout, space: &AddressSpace) -> Result<(), LoadError> {
    for chunk in chunks.iter().filter(|chunk| !chunk.bytes.is_empty()) {
        let no_room =
            || LoadError::NoRoom { what: chunk.what, start: chunk.at, end: chunk.end(), remedy_mib: None };
        match layout.rom_offset(chunk.at, chunk.bytes.len() as u64) {
            Some(offset) => space.load_rom(offset, &chunk.bytes),
            None => space.write(Gpa(chunk.at), &chunk.bytes).map_err(|_| no_room())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use softmmu::{GuestRam, MemoryMap};

    use super::*;
    use crate::board::Board;
    use crate::e820::SYSTEM_ROM;
    use crate::firmware::Firmware;

    #[test]
    fn the_firmware_lands_in_ram_and_rom() {
        let layout = MemoryLayout::new(16 << 20).unwrap();
        let ram = GuestRam::new(layout.ram_bytes()).unwrap();
        let space = AddressSpace::new(ram, MemoryMap::new(layout.regions()).unwrap());
        let firmware = Firmware::new(&Board::pc(layout, 1));
        install(&firmware.chunks, &layout, &space).unwrap();
        for chunk in &firmware.chunks {
            let mut found = vec![0; chunk.bytes.len()];
            space.read(Gpa(chunk.at), &mut found).unwrap();
            assert!(found == *chunk.bytes, "{}", chunk.what);
        }
        let mut vector = [0; 5];
        space.read(Gpa(0xffff_fff0), &mut vector).unwrap();
        assert_eq!(vector, [0xea, 0x5b, 0xe0, 0x00, 0xf0]);
        assert!(space.write(Gpa(SYSTEM_ROM), &[0]).is_err(), "ROM is not written by stores");
        let outside = Chunk::owned(0xb_8000, vec![1], "video");
        assert!(install(&[outside], &layout, &space).is_err());
    }
}
