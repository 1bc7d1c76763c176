//! An uncompressed Linux kernel (ELF) without a PVH note: entered as its decompressor would enter it, with a zero page
//! whose header fields we fill ourselves.

use crate::bytes::put;
use crate::bzimage::{finish_zero_page, start};
use crate::chunk::Chunk;
use crate::e820::PCI_HOLE;
use crate::elf::Elf;
use crate::entry::{EntryMode, EntryState};
use crate::error::LoadError;
use crate::load::{BootRequest, place_command_line, place_initrd, single_module};
use crate::placer::Placer;

/// Protocol version that the zero page claims: the first with an RSDP address.
const VERSION: u16 = 0x20e;

/// Loads a vmlinux.
pub fn load<'a>(
    request: &BootRequest<'a>,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<EntryState, LoadError> {
    let elf = Elf::parse(request.kernel)?;
    elf.place(memory, chunks)?;
    let zero_page_at = memory.low(0x1000, 0x1000).ok_or(LoadError::OutOfMemory("zero page"))?;
    let initrd = match single_module(request)? {
        Some(bytes) if !bytes.is_empty() => {
            let at = place_initrd(bytes, PCI_HOLE, &request.layout, memory, chunks)?;
            Some((at as u32, bytes.len() as u32))
        }
        _ => None,
    };
    let command_line = place_command_line(request.command_line, memory, chunks)?;
    let mut page = vec![0; 0x1000];
    put(&mut page, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut page, 0x202, b"HdrS");
    put(&mut page, 0x206, &VERSION.to_le_bytes());
    page[0x211] = 1; // loaded high
    finish_zero_page(&mut page, request, VERSION, command_line as u32, initrd);
    chunks.push(Chunk::owned(zero_page_at, page, "zero page"));
    let mode = if elf.is_64 { EntryMode::Long64 } else { EntryMode::Protected32 };
    let mut state = start(mode, elf.physical_entry(), memory, chunks)?;
    state.rsi = zero_page_at;
    Ok(state)
}
