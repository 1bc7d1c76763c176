//! Where the memory of a PC lies, and the map that firmware hands to the guest (INT 15h, AX=E820h).
//!
//! ```text
//! 0                                                                    4 GiB
//! | low RAM | EBDA | VGA hole | ROM shadow | RAM ... | ACPI |  PCI hole  | ROM | RAM above 4 GiB
//! 0      0x9fc00  0xa0000   0xc0000     0x100000     top of the low part (at most 3 GiB)
//! ```
//! Guest RAM is one array; its offsets equal guest physical addresses below the PCI hole, and what lies above 4 GiB follows.
//! The VGA hole's 128 KiB of the array are not reachable.

use thiserror::Error;

/// End of conventional memory: the extended BIOS data area begins here (639 KiB, as most PC firmware has it).
pub const EBDA_START: u64 = 0x9_fc00;
/// Start of the video memory hole.
pub const VGA_HOLE: u64 = 0xa_0000;
/// Start of the ROM area: option ROMs, then the system ROM.
pub const ROM_AREA: u64 = 0xc_0000;
/// The system ROM page: RSDP, SMBIOS, MP table and the reset stub.
pub const SYSTEM_ROM: u64 = 0xf_0000;
/// Size of the system ROM, bytes.
pub const SYSTEM_ROM_LEN: u64 = 0x1_0000;
/// One mebibyte: where extended memory begins.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// Largest amount of RAM below 4 GiB; above it lies the PCI hole.
pub const PCI_HOLE: u64 = 0xc000_0000;
/// Most memory below 4 GiB on a Q35 board, and how much there is if there is more.
const Q35_HOLE: u64 = 0xb000_0000;
const Q35_LOW_RAM: u64 = 0x8000_0000;
/// End of the part of the PCI hole that bridges may hand out; the I/O APIC follows.
pub const PCI_HOLE_END: u64 = 0xfec0_0000;
/// How much of a ROM that ends at 4 GiB appears below 1 MiB too.
pub const ROM_SHADOW: u64 = 0x2_0000;
/// Largest ROM that the user can give.
pub const MAX_ROM: u64 = 8 << 20;
/// Size of the ACPI area at the top of low RAM: tables, then one page of non-volatile storage for the FACS.
pub const ACPI_AREA_LEN: u64 = 0x1_0000;
/// Size of the non-volatile part of the ACPI area.
pub const ACPI_NVS_LEN: u64 = 0x1000;
/// Smallest machine.
pub const MIN_RAM: u64 = 2 << 20;
/// Largest machine: what 39 physical address bits leave after the PCI hole.
pub const MAX_RAM: u64 = 511 << 30;
/// RAM sizes are a multiple of this: the largest host page size.
pub const RAM_GRANULE: u64 = 0x1_0000;

/// Can a ROM have this length? ROMs are whole 64 KiB blocks, at most [`MAX_ROM`].
pub fn rom_fits(len: u64) -> bool {
    len > 0 && len <= MAX_ROM && len.is_multiple_of(RAM_GRANULE)
}

/// Type of a range in the e820 map (ACPI specification, table 15.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Kind {
    /// RAM, free for the guest.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
    /// ACPI tables: RAM once they have been read.
    Acpi = 3,
    /// ACPI non-volatile storage: to be kept over sleep.
    Nvs = 4,
}

/// One entry of the e820 map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct E820Entry {
    /// Guest physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// What the range is.
    pub kind: E820Kind,
}

impl E820Entry {
    /// The 20-byte form that every protocol shares: start, length, type.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes
    }
}

/// Why a RAM size cannot be a PC's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Less than the firmware and the smallest guest need.
    #[error("{0} bytes of memory are too little for a PC: at least {min} MiB are needed", min = MIN_RAM >> 20)]
    TooSmall(u64),
    /// More than the guest's physical address space holds.
    #[error("{gib} GiB of memory are too much: the machine has room for {max} GiB", gib = .0 >> 30, max = MAX_RAM >> 30)]
    TooLarge(u64),
    /// Not a multiple of [`RAM_GRANULE`].
    #[error("{0} bytes of memory are not a multiple of 64 KiB")]
    Uneven(u64),
}

/// A block of the guest physical address space that is backed by the guest RAM array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Guest physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Offset into the guest RAM array.
    pub offset: u64,
    /// The guest's writes are discarded.
    pub rom: bool,
}

/// The memory of a machine with a given amount of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLayout {
    below_4g: u64,
    above_4g: u64,
    /// Length of a ROM that the user gave, 0 for our own.
    rom: u64,
}

impl MemoryLayout {
    /// Lays out `ram` bytes.
    pub fn new(ram: u64) -> Result<Self, LayoutError> {
        if ram < MIN_RAM {
            return Err(LayoutError::TooSmall(ram));
        }
        if ram > MAX_RAM {
            return Err(LayoutError::TooLarge(ram));
        }
        if !ram.is_multiple_of(RAM_GRANULE) {
            return Err(LayoutError::Uneven(ram));
        }
        let below_4g = ram.min(PCI_HOLE);
        Ok(Self { below_4g, above_4g: ram - below_4g, rom: 0 })
    }

    /// The same for a Q35 board, whose hole is larger if there is more memory than fits below it (QEMU's sizes): configuration
    /// space is in it, from B0000000h on.
    pub fn for_q35(self) -> Self {
        let ram = self.ram_bytes();
        let below_4g = if ram > Q35_HOLE { Q35_LOW_RAM } else { ram };
        Self { below_4g, above_4g: ram - below_4g, ..self }
    }

    /// Lays out `ram` bytes and a system ROM of `rom` bytes, which ends at 4 GiB; its last 128 KiB (all of it, if it is
    /// smaller) appear below 1 MiB too. `None` if no ROM can have that length: see [`rom_fits`].
    pub fn with_rom(ram: u64, rom: u64) -> Result<Option<Self>, LayoutError> {
        Ok(rom_fits(rom).then_some(Self { rom, ..Self::new(ram)? }))
    }

    /// Size of the guest's RAM, bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.below_4g + self.above_4g
    }

    /// Size of the array that backs RAM and ROM, bytes.
    pub fn array_bytes(&self) -> u64 {
        self.ram_bytes() + self.rom
    }

    /// Length of the part of the ROM that is seen at the end of the first megabyte.
    pub fn low_rom_len(&self) -> u64 {
        if self.rom == 0 { SYSTEM_ROM_LEN } else { self.rom.min(ROM_SHADOW) }
    }

    /// Bytes of RAM below the PCI hole, counted from address 0: also the end address of low RAM.
    pub fn below_4g(&self) -> u64 {
        self.below_4g
    }

    /// Bytes of RAM above 4 GiB.
    pub fn above_4g(&self) -> u64 {
        self.above_4g
    }

    /// Where the ACPI tables lie.
    pub fn acpi_area(&self) -> u64 {
        self.below_4g - ACPI_AREA_LEN
    }

    /// The page for the FACS, the one ACPI structure that is written to.
    pub fn acpi_nvs(&self) -> u64 {
        self.below_4g - ACPI_NVS_LEN
    }

    /// The parts of the address space that guest RAM backs, in ascending order. Gaps are for devices.
    pub fn blocks(&self) -> Vec<Block> {
        // The system ROM: its length, the part below 1 MiB, and where in the array it begins.
        let shadow = self.low_rom_len();
        let (rom, at) = match self.rom {
            0 => (SYSTEM_ROM_LEN, SYSTEM_ROM),
            len => (len, self.ram_bytes()),
        };
        let low = HIGH_MEMORY - shadow;
        let mut blocks = vec![
            Block { start: 0, len: VGA_HOLE, offset: 0, rom: false },
            Block { start: ROM_AREA, len: low - ROM_AREA, offset: ROM_AREA, rom: true },
            Block { start: low, len: shadow, offset: at + rom - shadow, rom: true },
            Block { start: HIGH_MEMORY, len: self.below_4g - HIGH_MEMORY, offset: HIGH_MEMORY, rom: false },
            Block { start: (1 << 32) - rom, len: rom, offset: at, rom: true },
        ];
        if self.above_4g > 0 {
            blocks.push(Block { start: 1 << 32, len: self.above_4g, offset: self.below_4g, rom: false });
        }
        blocks
    }

    /// Offset into the guest RAM array of `len` bytes at `gpa`, if one block backs them all.
    pub fn ram_offset(&self, gpa: u64, len: u64) -> Option<u64> {
        let end = gpa.checked_add(len)?;
        let block = self.blocks().into_iter().find(|b| gpa >= b.start && end <= b.start + b.len)?;
        Some(block.offset + (gpa - block.start))
    }

    /// Offset into the guest RAM array of `len` bytes at `gpa`, if they are ROM.
    pub fn rom_offset(&self, gpa: u64, len: u64) -> Option<u64> {
        let end = gpa.checked_add(len)?;
        let block = self.blocks().into_iter().find(|b| b.rom && gpa >= b.start && end <= b.start + b.len)?;
        Some(block.offset + (gpa - block.start))
    }

    /// The map for the guest, ascending and without overlaps.
    pub fn e820(&self) -> Vec<E820Entry> {
        let entry = |start, end: u64, kind| E820Entry { start, len: end - start, kind };
        let mut map = vec![
            entry(0, EBDA_START, E820Kind::Ram),
            entry(EBDA_START, VGA_HOLE, E820Kind::Reserved),
            entry(SYSTEM_ROM, HIGH_MEMORY, E820Kind::Reserved),
            entry(HIGH_MEMORY, self.acpi_area(), E820Kind::Ram),
            entry(self.acpi_area(), self.acpi_nvs(), E820Kind::Acpi),
            entry(self.acpi_nvs(), self.below_4g, E820Kind::Nvs),
            // 256 KiB, the flash of a PC of this age, as other firmware for this board reserves it.
            entry(0xfffc_0000, 1 << 32, E820Kind::Reserved),
        ];
        if self.above_4g > 0 {
            map.push(E820Entry { start: 1 << 32, len: self.above_4g, kind: E820Kind::Ram });
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(MemoryLayout::new(0), Err(LayoutError::TooSmall(0)));
        assert_eq!(MemoryLayout::new((3 << 20) + 1), Err(LayoutError::Uneven((3 << 20) + 1)));
        assert_eq!(MemoryLayout::new(u64::MAX), Err(LayoutError::TooLarge(u64::MAX)));
        assert!(MemoryLayout::new(MIN_RAM).is_ok() && MemoryLayout::new(MAX_RAM).is_ok());
    }

    #[test]
    fn five_gib_are_split_around_the_hole() {
        let layout = MemoryLayout::new(5 << 30).unwrap();
        assert_eq!((layout.below_4g(), layout.above_4g()), (3 << 30, 2 << 30));
        assert_eq!(layout.ram_offset(1 << 32, 8), Some(3 << 30));
        assert_eq!(layout.ram_offset(0xffff_fff0, 16), Some(0xf_fff0));
        assert_eq!(layout.ram_offset(0xb_8000, 2), None);
        assert_eq!(layout.ram_offset(0x9_ffff, 2), None);
        assert_eq!(layout.ram_offset(u64::MAX, 2), None);
    }

    #[test]
    fn a_q35_leaves_room_for_configuration_space() {
        let low = |ram: u64| MemoryLayout::new(ram).unwrap().for_q35();
        assert_eq!(low(0xb000_0000).below_4g(), 0xb000_0000);
        let large = low(3 << 30);
        assert_eq!((large.below_4g(), large.above_4g()), (2 << 30, 1 << 30));
        let rom = MemoryLayout::with_rom(3 << 30, 0x1_0000).unwrap().unwrap().for_q35();
        assert_eq!(rom.array_bytes(), (3 << 30) + 0x1_0000);
    }

    #[test]
    fn a_rom_appears_below_both_limits() {
        for (len, shadow) in [(0x1_0000, 0x1_0000), (0x2_0000, 0x2_0000), (0x8_0000, 0x2_0000)] {
            let layout = MemoryLayout::with_rom(5 << 30, len).unwrap().unwrap();
            assert_eq!((layout.ram_bytes(), layout.array_bytes()), (5 << 30, (5 << 30) + len));
            let start = (1 << 32) - len;
            assert_eq!(layout.rom_offset(start, len), Some(5 << 30));
            assert_eq!(layout.rom_offset(0x10_0000 - shadow, shadow), Some((5 << 30) + len - shadow));
            assert_eq!(layout.rom_offset(0xf_fff0, 16), layout.rom_offset(0xffff_fff0, 16));
            assert_eq!(layout.ram_offset(start - 1, 1), None);
        }
        for len in [0, 0x8000, 0x1_8000, MAX_ROM + 0x1_0000] {
            assert_eq!(MemoryLayout::with_rom(5 << 30, len), Ok(None), "{len:#x}");
        }
    }

    #[test]
    fn the_map_ascends_and_counts_all_ram() {
        for ram in [MIN_RAM, 512 << 20, 3 << 30, (3 << 30) + RAM_GRANULE, 64 << 30] {
            let layout = MemoryLayout::new(ram).unwrap();
            let map = layout.e820();
            assert!(map.windows(2).all(|w| w[0].start + w[0].len <= w[1].start), "{map:x?}");
            let usable: u64 = map.iter().filter(|e| e.kind == E820Kind::Ram).map(|e| e.len).sum();
            assert_eq!(usable, ram - (HIGH_MEMORY - EBDA_START) - ACPI_AREA_LEN);
            let blocks = layout.blocks();
            assert!(blocks.windows(2).all(|w| w[0].start + w[0].len <= w[1].start));
        }
    }
}
