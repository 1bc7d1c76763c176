//! PVH: an ELF kernel with a 32-bit entry point named by a Xen note, started with a `hvm_start_info` in EBX
//! (Xen, include/public/arch-x86/hvm/start_info.h).

use crate::bytes::put;
use crate::bzimage::start;
use crate::chunk::Chunk;
use crate::e820::PCI_HOLE;
use crate::elf::Elf;
use crate::entry::{EntryMode, EntryState};
use crate::error::LoadError;
use crate::load::{BootRequest, place_command_line, place_initrd};
use crate::placer::Placer;

const MAGIC: u32 = 0x336e_c578;
const START_INFO_LEN: usize = 56;
const MODULE_LEN: usize = 32;
const MAP_ENTRY_LEN: usize = 24;

/// Loads an ELF kernel with a PVH note.
pub fn load<'a>(
    request: &BootRequest<'a>,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<EntryState, LoadError> {
    let elf = Elf::parse(request.kernel)?;
    let entry = elf.pvh_entry.ok_or_else(|| LoadError::BadElf("its PVH note is gone".into()))?;
    elf.place(memory, chunks)?;
    let command_line = place_command_line(request.command_line, memory, chunks)?;
    let mut modules = Vec::new();
    for module in request.modules {
        let at = place_initrd(module.bytes, PCI_HOLE, &request.layout, memory, chunks)?;
        let text = place_command_line(module.command_line, memory, chunks)?;
        modules.push((at, module.bytes.len() as u64, text));
    }
    let map_offset = START_INFO_LEN + modules.len() * MODULE_LEN;
    let len = map_offset + request.e820.len() * MAP_ENTRY_LEN;
    let at = memory.low(len as u64, 0x1000).ok_or(LoadError::OutOfMemory("PVH start information"))?;

    let mut info = vec![0; len];
    put(&mut info, 0, &MAGIC.to_le_bytes());
    put(&mut info, 4, &1u32.to_le_bytes()); // version: with a memory map
    put(&mut info, 12, &(modules.len() as u32).to_le_bytes());
    if !modules.is_empty() {
        put(&mut info, 16, &(at + START_INFO_LEN as u64).to_le_bytes());
    }
    put(&mut info, 24, &command_line.to_le_bytes());
    put(&mut info, 32, &request.rsdp.unwrap_or(0).to_le_bytes());
    put(&mut info, 40, &(at + map_offset as u64).to_le_bytes());
    put(&mut info, 48, &(request.e820.len() as u32).to_le_bytes());
    for (index, (module_at, module_len, text)) in modules.iter().enumerate() {
        let offset = START_INFO_LEN + index * MODULE_LEN;
        put(&mut info, offset, &module_at.to_le_bytes());
        put(&mut info, offset + 8, &module_len.to_le_bytes());
        put(&mut info, offset + 16, &text.to_le_bytes());
    }
    for (index, range) in request.e820.iter().enumerate() {
        put(&mut info, map_offset + index * MAP_ENTRY_LEN, &range.to_bytes());
    }
    chunks.push(Chunk::owned(at, info, "PVH start information"));
    let mut state = start(EntryMode::Protected32, entry.into(), memory, chunks)?;
    state.rbx = at;
    Ok(state)
}
