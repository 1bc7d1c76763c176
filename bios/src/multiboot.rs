//! Multiboot 1 (specification 0.6.96): ELF images of both classes, and flat images whose header gives the addresses.

use crate::bytes::{put, u32_at};
use crate::bzimage::start;
use crate::chunk::Chunk;
use crate::e820::{EBDA_START, HIGH_MEMORY, PCI_HOLE};
use crate::elf::{Elf, no_room};
use crate::entry::{EntryMode, EntryState};
use crate::error::LoadError;
use crate::load::{BootRequest, place_command_line, place_initrd};
use crate::placer::Placer;

/// The header lies within this many bytes of the file's start.
const SEARCH: usize = 8192;
const HEADER_MAGIC: u32 = 0x1bad_b002;
/// In EAX at the entry.
const LOADER_MAGIC: u64 = 0x2bad_b002;

/// Header flags: features that a loader must know (bits 0-15) or may ignore.
const WANTS_VIDEO: u32 = 1 << 2;
const ADDRESSES: u32 = 1 << 16;
const KNOWN_REQUIREMENTS: u32 = 0x7;

/// Information flags.
const HAS_MEMORY: u32 = 1;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

const INFO_LEN: usize = 120;
const MODULE_LEN: usize = 16;
const MAP_ENTRY_LEN: usize = 24;

/// Where the header of `file` starts, if it has one.
pub fn find_header(file: &[u8]) -> Option<usize> {
    (0..file.len().min(SEARCH).saturating_sub(11)).step_by(4).find(|&at| {
        let field = |n: usize| u32_at(file, at + n * 4).unwrap_or(0);
        field(0) == HEADER_MAGIC && field(0).wrapping_add(field(1)).wrapping_add(field(2)) == 0
    })
}

/// Loads a multiboot kernel and its modules.
pub fn load<'a>(
    request: &BootRequest<'a>,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<EntryState, LoadError> {
    let file = request.kernel;
    let header = find_header(file).ok_or_else(|| LoadError::BadMultiboot("is gone".into()))?;
    let flags = u32_at(file, header + 4).unwrap_or(0);
    let unknown = flags & 0xffff & !KNOWN_REQUIREMENTS;
    if unknown != 0 {
        return Err(LoadError::BadMultiboot(format!(
            "requires features that do not exist (flags {unknown:#x})"
        )));
    }
    if flags & WANTS_VIDEO != 0 {
        tracing::debug!("the kernel would like a video mode; it gets none");
    }
    let (entry, end) = if flags & ADDRESSES != 0 {
        load_flat(file, header, memory, chunks)?
    } else if file.starts_with(b"\x7fELF") {
        let elf = Elf::parse(file)?;
        let end = elf.place(memory, chunks)?;
        (elf.physical_entry(), end)
    } else {
        return Err(LoadError::BadMultiboot("gives no addresses, and the file is not an ELF file".into()));
    };
    let info = information(request, end, memory, chunks)?;
    let mut state = start(EntryMode::Protected32, entry, memory, chunks)?;
    state.rax = LOADER_MAGIC;
    state.rbx = info;
    Ok(state)
}

/// The "a.out kludge": addresses in the header. Gives the entry point and the end of the image in memory.
fn load_flat<'a>(
    file: &'a [u8],
    header: usize,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<(u64, u64), LoadError> {
    let bad = |text: &str| LoadError::BadMultiboot(text.into());
    let field = |n: usize| {
        u32_at(file, header + n * 4).map(u64::from).ok_or(LoadError::TooShort {
            what: "multiboot header",
            len: file.len() as u64,
            needed: header as u64 + 32,
        })
    };
    let (header_at, load_at, load_end, bss_end, entry) =
        (field(3)?, field(4)?, field(5)?, field(6)?, field(7)?);
    let before = header_at.checked_sub(load_at).ok_or_else(|| bad("lies before the code it describes"))?;
    let skipped = (header as u64)
        .checked_sub(before)
        .ok_or_else(|| bad("says that the image begins before the file"))?;
    let image = &file[skipped as usize..];
    let wanted = match load_end {
        0 => image.len() as u64,
        end => end.checked_sub(load_at).ok_or_else(|| bad("has an image that ends before it begins"))?,
    };
    let found = image.len() as u64;
    let bytes = usize::try_from(wanted)
        .ok()
        .and_then(|len| image.get(..len))
        .ok_or(LoadError::Truncated { expected: wanted, found })?;
    let end = bss_end.max(load_at + wanted);
    if !memory.claim(load_at, end - load_at) {
        return Err(no_room(load_at, end));
    }
    chunks.push(Chunk::borrowed(load_at, bytes, "kernel"));
    Ok((entry, end))
}

/// Puts modules and the information structure into memory; gives the address of the latter.
fn information<'a>(
    request: &BootRequest<'a>,
    kernel_end: u64,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<u64, LoadError> {
    let mut command_line = request.kernel_name.as_bytes().to_vec();
    if !request.command_line.is_empty() {
        command_line.push(b' ');
        command_line.extend_from_slice(request.command_line);
    }
    let command_line = place_command_line(&command_line, memory, chunks)?;
    let loader_name = place_command_line(b"retrograde", memory, chunks)?;
    let mut modules = Vec::new();
    for module in request.modules {
        let at = place_module(module.bytes, kernel_end, request, memory, chunks)?;
        let text = place_command_line(module.command_line, memory, chunks)?;
        modules.push([at, at + module.bytes.len() as u64, text, 0]);
    }
    let map_offset = INFO_LEN + modules.len() * MODULE_LEN;
    let len = map_offset + request.e820.len() * MAP_ENTRY_LEN;
    let at = memory.low(len as u64, 16).ok_or(LoadError::OutOfMemory("multiboot information"))?;

    let mut info = vec![0; len];
    let mut set = |offset: usize, value: u64| put(&mut info, offset, &(value as u32).to_le_bytes());
    let module_flag = if modules.is_empty() { 0 } else { HAS_MODULES };
    set(0, (HAS_MEMORY | HAS_COMMAND_LINE | module_flag | HAS_MAP | HAS_LOADER_NAME).into());
    set(4, EBDA_START >> 10);
    set(8, (request.layout.acpi_area() - HIGH_MEMORY) >> 10);
    set(16, command_line);
    set(20, modules.len() as u64);
    set(24, at + INFO_LEN as u64);
    set(44, (request.e820.len() * MAP_ENTRY_LEN) as u64);
    set(48, at + map_offset as u64);
    set(64, loader_name);
    for (index, fields) in modules.iter().enumerate() {
        for (field, value) in fields.iter().enumerate() {
            set(INFO_LEN + index * MODULE_LEN + field * 4, *value);
        }
    }
    for (index, range) in request.e820.iter().enumerate() {
        let offset = map_offset + index * MAP_ENTRY_LEN;
        // The size field does not count itself.
        put(&mut info, offset, &20u32.to_le_bytes());
        put(&mut info, offset + 4, &range.to_bytes());
    }
    chunks.push(Chunk::owned(at, info, "multiboot information"));
    Ok(at)
}

/// A module goes to the first page after the kernel, as other loaders do it; to the top of memory if nothing is free there.
fn place_module<'a>(
    bytes: &'a [u8],
    kernel_end: u64,
    request: &BootRequest<'a>,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<u64, LoadError> {
    if let Some(at) = memory.from(kernel_end.max(HIGH_MEMORY), bytes.len() as u64, 0x1000) {
        chunks.push(Chunk::borrowed(at, bytes, "module"));
        return Ok(at);
    }
    place_initrd(bytes, PCI_HOLE, &request.layout, memory, chunks)
}

#[cfg(test)]
#[path = "multiboot_tests.rs"]
mod tests;
