//! Reads the parts of an ELF file that a boot loader needs, for both word sizes, with everything checked against the file.

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::chunk::Chunk;
use crate::error::LoadError;
use crate::placer::Placer;

/// Note of a kernel with a PVH entry: owner "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY).
const PHYS32_ENTRY: u32 = 18;

/// A PT_LOAD segment.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Physical address.
    pub physical: u64,
    /// Virtual address.
    pub virtual_: u64,
    /// Bytes in memory; what the file does not give is zero.
    pub memory_len: u64,
    /// Bytes in the file.
    pub bytes: &'a [u8],
}

/// A parsed ELF file.
#[derive(Clone, Debug)]
pub struct Elf<'a> {
    /// 64-bit class.
    pub is_64: bool,
    /// `e_machine`.
    pub machine: u16,
    /// `e_type`.
    pub kind: u16,
    /// `e_entry`.
    pub entry: u64,
    /// What to load.
    pub loads: Vec<Load<'a>>,
    /// The PVH entry, if a note names one.
    pub pvh_entry: Option<u32>,
    /// A program for a user space: it names a run-time linker.
    pub has_interpreter: bool,
}

impl<'a> Elf<'a> {
    /// Parses `file`, which begins with the ELF magic.
    pub fn parse(file: &'a [u8]) -> Result<Self, LoadError> {
        match file.get(4) {
            Some(1) => Self::parse_class::<FileHeader32<Endianness>>(file),
            Some(2) => Self::parse_class::<FileHeader64<Endianness>>(file),
            _ => Err(LoadError::BadElf("its class is neither 32-bit nor 64-bit".into())),
        }
    }

    fn parse_class<H: FileHeader<Endian = Endianness>>(file: &'a [u8]) -> Result<Self, LoadError> {
        let bad = |error: object::read::Error| LoadError::BadElf(error.to_string());
        let header = H::parse(file).map_err(bad)?;
        let endian = header.endian().map_err(bad)?;
        let mut elf = Elf {
            is_64: header.is_type_64(),
            machine: header.e_machine(endian),
            kind: header.e_type(endian),
            entry: header.e_entry(endian).into(),
            loads: Vec::new(),
            pvh_entry: None,
            has_interpreter: false,
        };
        for segment in header.program_headers(endian, file).map_err(bad)? {
            match segment.p_type(endian) {
                elf::PT_LOAD if segment.p_memsz(endian).into() > 0 => {
                    elf.loads.push(load_segment(segment, endian, file)?);
                }
                elf::PT_INTERP => elf.has_interpreter = true,
                elf::PT_NOTE => elf.pvh_entry = elf.pvh_entry.or(pvh_note(segment, endian, file)),
                _ => {}
            }
        }
        Ok(elf)
    }

    /// Is this code for a PC?
    pub fn is_x86(&self) -> bool {
        matches!(self.machine, elf::EM_386 | elf::EM_X86_64)
    }

    /// The entry point as a physical address: `e_entry` is virtual in many kernels.
    pub fn physical_entry(&self) -> u64 {
        let inside =
            |load: &&Load<'_>| self.entry >= load.virtual_ && self.entry - load.virtual_ < load.memory_len;
        self.loads
            .iter()
            .find(inside)
            .map_or(self.entry, |load| load.physical.wrapping_add(self.entry - load.virtual_))
    }

    /// Copies the segments to their physical addresses; gives the address past the last.
    pub fn place(&self, memory: &mut Placer, chunks: &mut Vec<Chunk<'a>>) -> Result<u64, LoadError> {
        if self.loads.is_empty() {
            return Err(LoadError::BadElf("it has nothing to load".into()));
        }
        let mut end = 0;
        for load in &self.loads {
            let segment_end = load.physical.saturating_add(load.memory_len);
            if !memory.claim(load.physical, load.memory_len) {
                return Err(no_room(load.physical, segment_end));
            }
            chunks.push(Chunk::borrowed(load.physical, load.bytes, "kernel"));
            end = end.max(segment_end);
        }
        Ok(end)
    }
}

/// A segment for which there is no free memory.
pub fn no_room(start: u64, end: u64) -> LoadError {
    let helps = start >= crate::e820::HIGH_MEMORY && end < crate::e820::PCI_HOLE;
    LoadError::NoRoom { what: "a segment", start, end, remedy_mib: helps.then_some((end >> 20) + 2) }
}

fn load_segment<'a, P: ProgramHeader<Endian = Endianness>>(
    segment: &P,
    endian: Endianness,
    file: &'a [u8],
) -> Result<Load<'a>, LoadError> {
    let (offset, len) = segment.file_range(endian);
    let bytes = usize::try_from(offset)
        .ok()
        .zip(usize::try_from(len).ok())
        .and_then(|(offset, len)| file.get(offset..offset.checked_add(len)?))
        .ok_or_else(|| LoadError::TooShort {
            what: "ELF segments",
            len: file.len() as u64,
            needed: offset.saturating_add(len),
        })?;
    let memory_len: u64 = segment.p_memsz(endian).into();
    if memory_len < len {
        return Err(LoadError::BadElf("a segment has more bytes in the file than in memory".into()));
    }
    Ok(Load {
        physical: segment.p_paddr(endian).into(),
        virtual_: segment.p_vaddr(endian).into(),
        memory_len,
        bytes,
    })
}

fn pvh_note<P: ProgramHeader<Endian = Endianness>>(
    segment: &P,
    endian: Endianness,
    file: &[u8],
) -> Option<u32> {
    let mut notes = segment.notes(endian, file).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
            // 4 bytes, or 8 of which the upper half is zero.
            return note.desc().get(..4)?.try_into().ok().map(u32::from_le_bytes);
        }
    }
    None
}
