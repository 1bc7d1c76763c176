//! The Linux boot protocol, versions 2.00 to 2.15 (Documentation/arch/x86/boot.rst), by the 32-bit and the 64-bit entry.
//!
//! A bzImage is a 16-bit setup part, which only a BIOS needs, and the protected-mode code after it. The setup header in the
//! first sectors says how to load the latter. The code goes to 1 MiB, and the kernel moves itself to its preferred address.
//! memtest86+ is an image of the same form.

use crate::bytes::{align_up, put, u8_at, u16_at, u32_at, u64_at};
use crate::chunk::Chunk;
use crate::e820::{HIGH_MEMORY, PCI_HOLE};
use crate::entry::{EntryMode, EntryState, GDT_LEN, PAGE_TABLES_LEN, gdt_bytes, identity_tables};
use crate::error::LoadError;
use crate::load::{BootRequest, LinuxEntry, Video, place_command_line, place_initrd, single_module};
use crate::placer::Placer;

/// The setup header starts here, in the file and in the zero page.
const HEADER: usize = 0x1f1;
/// Length of the zero page.
const ZERO_PAGE_LEN: usize = 0x1000;
/// The header must end before this offset of the zero page (boot.rst, "the real-mode code").
const HEADER_LIMIT: usize = 0x290;
/// Shortest file that can hold a header of version 2.00.
const MIN_FILE: usize = 0x228;
/// `startup_64` lies this far into the protected-mode code.
const ENTRY_64: u64 = 0x200;
/// More than the uninitialised data of any decompressor.
const DECOMPRESSOR_BSS: u64 = 0x10_0000;
/// Entries that the zero page has room for.
const E820_MAX: usize = 128;

/// The fields of the setup header that a loader reads; those of later versions have the defaults that boot.rst gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupHeader {
    /// Protocol version, 0x020C for 2.12.
    pub version: u16,
    /// Offset of the protected-mode code in the file.
    pub code_offset: usize,
    /// Length of the protected-mode code, bytes; zero if the header does not say.
    pub code_len: u64,
    /// Load and entry address of the protected-mode code.
    pub code32_start: u32,
    /// The code is to be loaded at 1 MiB (bzImage).
    pub loaded_high: bool,
    /// Highest address of an initrd byte.
    pub initrd_addr_max: u32,
    /// Longest command line without its final zero.
    pub cmdline_size: usize,
    /// The kernel runs at any address that is a multiple of `kernel_alignment`.
    pub relocatable: bool,
    /// See `relocatable`; a power of two.
    pub kernel_alignment: u64,
    /// The kernel has a 64-bit entry.
    pub kernel_64: bool,
    /// Preferred address.
    pub pref_address: u64,
    /// Memory needed from the run-time address on, before the kernel has read the memory map.
    pub init_size: u64,
    /// Offset past the header's last byte.
    header_end: usize,
}

impl SetupHeader {
    /// Reads and checks the header of `file`.
    pub fn parse(file: &[u8]) -> Result<Self, LoadError> {
        let short =
            |what, needed: usize| LoadError::TooShort { what, len: file.len() as u64, needed: needed as u64 };
        let signature = u16_at(file, 0x1fe).ok_or(short("boot sector", 0x200))?;
        if signature != 0xaa55 {
            return Err(LoadError::NoBootSignature(signature));
        }
        if file.get(0x202..0x206) != Some(b"HdrS") {
            return Err(LoadError::NoLinuxHeader);
        }
        if file.len() < MIN_FILE {
            return Err(short("Linux setup header", MIN_FILE));
        }
        Self::fields(file).ok_or(short("Linux setup header", HEADER_LIMIT))
    }

    /// `None` when a field that the version promises lies past the end of the file.
    fn fields(file: &[u8]) -> Option<Self> {
        let version = u16_at(file, 0x206)?;
        let since = |minimum: u16| version >= minimum;
        let sectors = match u8_at(file, 0x1f1)? {
            0 => 4,
            n => usize::from(n),
        };
        // The upper half of syssize was something else before 2.04.
        let paragraphs = if since(0x204) { u32_at(file, 0x1f4)? } else { u16_at(file, 0x1f4)?.into() };
        let load_flags = u8_at(file, 0x211)?;
        let alignment = if since(0x205) { u32_at(file, 0x230)?.into() } else { 0x10_0000u64 };
        Some(Self {
            version,
            code_offset: (sectors + 1) * 512,
            code_len: u64::from(paragraphs) * 16,
            code32_start: u32_at(file, 0x214)?,
            loaded_high: load_flags & 1 != 0,
            initrd_addr_max: if since(0x203) { u32_at(file, 0x22c)? } else { 0x37ff_ffff },
            cmdline_size: if since(0x206) { u32_at(file, 0x238)? as usize } else { 255 },
            relocatable: since(0x205) && u8_at(file, 0x234)? != 0,
            kernel_alignment: if alignment.is_power_of_two() { alignment } else { 0x10_0000 },
            kernel_64: since(0x20c) && u16_at(file, 0x236)? & 1 != 0,
            pref_address: if since(0x20a) { u64_at(file, 0x258)? } else { HIGH_MEMORY },
            init_size: if since(0x20a) { u32_at(file, 0x260)?.into() } else { 0 },
            header_end: 0x202 + usize::from(u8_at(file, 0x201)?),
        })
    }

    /// The protected-mode code, checked against the length that the header gives.
    fn code<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], LoadError> {
        let code =
            file.get(self.code_offset..).filter(|code| !code.is_empty()).ok_or(LoadError::TooShort {
                what: "16-bit setup part",
                len: file.len() as u64,
                needed: self.code_offset as u64 + 1,
            })?;
        let found = code.len() as u64;
        // The length is counted in paragraphs: the last one need not be whole.
        if found + 15 < self.code_len {
            return Err(LoadError::Truncated { expected: self.code_len, found });
        }
        Ok(code)
    }

    /// Where the kernel will run after moving itself (boot.rst, field `init_size`).
    fn runtime_start(&self, loaded_at: u64) -> Option<u64> {
        if self.relocatable {
            align_up(loaded_at.max(self.pref_address), self.kernel_alignment)
        } else {
            Some(self.pref_address)
        }
    }
}

/// A bzImage in the parts that firmware loads: what belongs to 10000h, header filled in, and what belongs to 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The real-mode part.
    pub setup: Vec<u8>,
    /// The protected-mode part.
    pub code: Vec<u8>,
    /// Highest address of an initrd byte.
    pub initrd_addr_max: u32,
}

/// Takes a bzImage apart for firmware that starts it by its real-mode entry with a command line at `cmdline` and an initrd
/// of `initrd.1` bytes at `initrd.0`.
pub fn parts(file: &[u8], cmdline: u32, initrd: (u32, u32)) -> Result<Parts, LoadError> {
    let header = SetupHeader::parse(file)?;
    let code = header.code(file)?.to_vec();
    let mut setup = file[..header.code_offset].to_vec();
    let mut set = |at: usize, bytes: &[u8]| put(&mut setup, at, bytes);
    set(0x210, &[0xff]); // type_of_loader: none that has a number
    set(0x211, &[file[0x211] | 0x80]); // loadflags: CAN_USE_HEAP
    set(0x218, &initrd.0.to_le_bytes());
    set(0x21c, &initrd.1.to_le_bytes());
    set(0x224, &0xfe00u16.to_le_bytes()); // heap_end_ptr: the command line begins 200h behind it
    set(0x228, &cmdline.to_le_bytes());
    Ok(Parts { setup, code, initrd_addr_max: header.initrd_addr_max })
}

/// Loads a bzImage.
pub fn load<'a>(
    request: &BootRequest<'a>,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<EntryState, LoadError> {
    let header = SetupHeader::parse(request.kernel)?;
    if !header.loaded_high {
        return Err(LoadError::ZImage);
    }
    if request.command_line.len() > header.cmdline_size {
        return Err(LoadError::CommandLineTooLong {
            len: request.command_line.len(),
            max: header.cmdline_size,
        });
    }
    let mode = match (request.entry, header.kernel_64) {
        (LinuxEntry::Long64, false) => return Err(LoadError::No64BitEntry),
        (LinuxEntry::Protected32, _) | (LinuxEntry::Auto, false) => EntryMode::Protected32,
        (LinuxEntry::Long64 | LinuxEntry::Auto, true) => EntryMode::Long64,
    };
    let code = header.code(request.kernel)?;
    let load_at = u64::from(header.code32_start);
    claim_kernel(&header, load_at, code.len() as u64, memory)?;
    chunks.push(Chunk::borrowed(load_at, code, "kernel"));

    let mut zero_page = header_copy(request.kernel, &header);
    let zero_page_at = memory.low(ZERO_PAGE_LEN as u64, 0x1000).ok_or(LoadError::OutOfMemory("zero page"))?;
    let initrd = match single_module(request)? {
        Some(bytes) if !bytes.is_empty() => {
            let limit = u64::from(header.initrd_addr_max) + 1;
            let at = place_initrd(bytes, limit, &request.layout, memory, chunks)?;
            Some((at as u32, bytes.len() as u32))
        }
        _ => None,
    };
    let command_line = place_command_line(request.command_line, memory, chunks)?;
    finish_zero_page(&mut zero_page, request, header.version, command_line as u32, initrd);
    put(&mut zero_page, 0x214, &header.code32_start.to_le_bytes());
    chunks.push(Chunk::owned(zero_page_at, zero_page, "zero page"));

    let mut state = start(mode, load_at, memory, chunks)?;
    if mode == EntryMode::Long64 {
        state.rip += ENTRY_64;
    }
    state.rsi = zero_page_at;
    Ok(state)
}

/// Takes the memory of the image as loaded, and of the image as it runs.
fn claim_kernel(
    header: &SetupHeader,
    load_at: u64,
    code_len: u64,
    memory: &mut Placer,
) -> Result<(), LoadError> {
    let end = load_at.saturating_add(code_len);
    let start = header.runtime_start(load_at).unwrap_or(u64::MAX);
    let run_end = start.saturating_add(header.init_size);
    let highest = end.max(run_end);
    let remedy_mib = (load_at >= HIGH_MEMORY && highest < PCI_HOLE).then_some((highest >> 20) + 2);
    let no_room = |what, start, end| LoadError::NoRoom { what, start, end, remedy_mib };
    // The two ranges may overlap: take their union where they do, both where they do not.
    let ranges = if start <= end && load_at <= run_end {
        vec![("memory", start.min(load_at), run_end.max(end))]
    } else {
        vec![("its image", load_at, end), ("memory to run", start, run_end)]
    };
    for (what, from, to) in ranges {
        if !memory.claim(from, to - from) {
            return Err(no_room(what, from, to));
        }
    }
    // The decompressor's stack lies past the image before it moves: keep small structures off it where there is room.
    memory.claim(end, DECOMPRESSOR_BSS);
    Ok(())
}

/// A zero page with the kernel's own setup header in it.
fn header_copy(file: &[u8], header: &SetupHeader) -> Vec<u8> {
    let mut page = vec![0; ZERO_PAGE_LEN];
    let end = header.header_end.min(HEADER_LIMIT).min(file.len());
    if let Some(source) = file.get(HEADER..end) {
        put(&mut page, HEADER, source);
    }
    page
}

/// Fills what the loader owes the kernel (boot.rst, zero-page.rst).
pub fn finish_zero_page(
    page: &mut [u8],
    request: &BootRequest<'_>,
    version: u16,
    command_line: u32,
    initrd: Option<(u32, u32)>,
) {
    const LOADER_UNDEFINED: u8 = 0xff;
    screen_info(page, request.video);
    // Extended memory in KiB, as INT 15h AH=88h and AX=E801h would give it.
    let extended_kib = (request.layout.acpi_area() - HIGH_MEMORY) >> 10;
    put(page, 0x02, &(extended_kib.min(0xffff) as u16).to_le_bytes());
    put(page, 0x1e0, &(extended_kib as u32).to_le_bytes());
    if version >= 0x20e
        && let Some(rsdp) = request.rsdp
    {
        put(page, 0x70, &rsdp.to_le_bytes());
    }
    put(page, 0x1fa, &0xffffu16.to_le_bytes()); // vid_mode: normal
    page[0x210] = LOADER_UNDEFINED;
    if let Some((at, len)) = initrd {
        put(page, 0x218, &at.to_le_bytes());
        put(page, 0x21c, &len.to_le_bytes());
    }
    put(page, 0x228, &command_line.to_le_bytes());
    let entries = request.e820.iter().take(E820_MAX);
    page[0x1e8] = entries.len() as u8;
    for (index, entry) in entries.enumerate() {
        put(page, 0x2d0 + index * 20, &entry.to_bytes());
    }
}

fn screen_info(page: &mut [u8], video: Video) {
    if video == Video::Text80x25 {
        page[0x06] = 3; // mode
        page[0x07] = 80; // columns
        page[0x0e] = 25; // lines
        page[0x0f] = 1; // a VGA
        page[0x10] = 16; // font height
    }
}

/// Descriptor tables, page tables and the state for an entry at `rip`.
pub fn start<'a>(
    mode: EntryMode,
    rip: u64,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<EntryState, LoadError> {
    let gdt = memory.low(GDT_LEN, 0x1000).ok_or(LoadError::OutOfMemory("descriptor table"))?;
    chunks.push(Chunk::owned(gdt, gdt_bytes(mode), "descriptor table"));
    let stack_len = 0x1000;
    let stack = memory.low(stack_len, 0x1000).ok_or(LoadError::OutOfMemory("boot stack"))?;
    let mut state = match mode {
        EntryMode::Protected32 => EntryState::protected32(rip, gdt),
        EntryMode::Long64 => {
            let tables = memory.low(PAGE_TABLES_LEN, 0x1000).ok_or(LoadError::OutOfMemory("page tables"))?;
            chunks.push(Chunk::owned(tables, identity_tables(tables), "page tables"));
            EntryState::long64(rip, gdt, tables)
        }
    };
    state.rsp = stack + stack_len - 16;
    Ok(state)
}

#[cfg(test)]
#[path = "bzimage_tests.rs"]
mod tests;
