//! Small images for the tests, built field by field as the specifications lay them out.

use crate::board::Board;
use crate::bytes::put;
use crate::e820::{E820Entry, MemoryLayout};
use crate::entry::EntryMode;
use crate::firmware::Firmware;
use crate::load::{BootRequest, LinuxEntry, Loaded, Module, Video};

/// A 64 MiB machine's firmware.
pub fn firmware() -> (MemoryLayout, Firmware) {
    let layout = MemoryLayout::new(64 << 20).unwrap();
    (layout, Firmware::new(&Board::pc(layout, 1)))
}

/// A request with everything at its default.
pub fn request<'a>(
    kernel: &'a [u8],
    modules: &'a [Module<'a>],
    layout: MemoryLayout,
    e820: &'a [E820Entry],
) -> BootRequest<'a> {
    BootRequest {
        kernel,
        kernel_name: "kernel",
        command_line: b"console=ttyS0",
        modules,
        layout,
        e820,
        rsdp: Some(0xf_0000),
        video: Video::None,
        entry: LinuxEntry::Auto,
    }
}

/// A bzImage of protocol 2.15 with a 64-bit entry, one setup sector and 4 KiB of code.
pub fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 1024 + 4096];
    file[0x1f1] = 1;
    put(&mut file, 0x1f4, &256u32.to_le_bytes());
    put(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x20fu16.to_le_bytes());
    file[0x211] = 1;
    put(&mut file, 0x214, &0x10_0000u32.to_le_bytes());
    put(&mut file, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut file, 0x230, &0x20_0000u32.to_le_bytes());
    file[0x234] = 1;
    put(&mut file, 0x236, &1u16.to_le_bytes());
    put(&mut file, 0x238, &2047u32.to_le_bytes());
    put(&mut file, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut file, 0x260, &0x80_0000u32.to_le_bytes());
    file[1024..].fill(0x90);
    file
}

/// A flat multiboot image: header at 16, loaded at 1 MiB, entry after the header.
pub fn multiboot_flat() -> Vec<u8> {
    let mut file = vec![0; 4096];
    let flags = 0x1_0003u32;
    let magic = 0x1bad_b002u32;
    let fields = [
        magic,
        flags,
        0u32.wrapping_sub(magic).wrapping_sub(flags),
        0x10_0010,
        0x10_0000,
        0x10_1000,
        0x10_3000,
        0x10_0040,
    ];
    for (index, field) in fields.iter().enumerate() {
        put(&mut file, 16 + index * 4, &field.to_le_bytes());
    }
    file
}

/// What an ELF image is made of.
pub struct ElfSpec<'a> {
    pub is_64: bool,
    pub machine: u16,
    pub kind: u16,
    pub entry: u64,
    pub virtual_: u64,
    pub physical: u64,
    pub code: &'a [u8],
    pub pvh_entry: Option<u32>,
    pub interpreter: bool,
}

impl Default for ElfSpec<'_> {
    fn default() -> Self {
        Self {
            is_64: true,
            machine: 62,
            kind: 2,
            entry: 0xffff_ffff_8100_0010,
            virtual_: 0xffff_ffff_8100_0000,
            physical: 0x100_0000,
            code: b"Linux version 6.1 ",
            pvh_entry: None,
            interpreter: false,
        }
    }
}

/// Builds an ELF file with one PT_LOAD, and a PT_NOTE or PT_INTERP as asked.
pub fn elf(spec: &ElfSpec<'_>) -> Vec<u8> {
    const DATA: u64 = 0x200;
    let mut note = Vec::new();
    if let Some(entry) = spec.pvh_entry {
        for field in [4u32, 4, 18] {
            note.extend_from_slice(&field.to_le_bytes());
        }
        note.extend_from_slice(b"Xen\0");
        note.extend_from_slice(&entry.to_le_bytes());
    }
    // type, offset, virtual, physical, file size, memory size
    let code_len = spec.code.len() as u64;
    let mut headers = vec![(1u32, DATA + 0x100, spec.virtual_, spec.physical, code_len, code_len + 0x1000)];
    if !note.is_empty() {
        headers.push((4, DATA, 0, 0, note.len() as u64, note.len() as u64));
    }
    if spec.interpreter {
        headers.push((3, DATA, 0, 0, 4, 4));
    }
    let word = |value: u64| {
        if spec.is_64 { value.to_le_bytes().to_vec() } else { (value as u32).to_le_bytes().to_vec() }
    };
    let (header_len, entry_len) = if spec.is_64 { (64u16, 56u16) } else { (52, 32) };
    let mut file =
        vec![0x7f, b'E', b'L', b'F', if spec.is_64 { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend_from_slice(&spec.kind.to_le_bytes());
    file.extend_from_slice(&spec.machine.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend(word(spec.entry));
    file.extend(word(header_len.into()));
    file.extend(word(0));
    file.extend_from_slice(&0u32.to_le_bytes());
    for field in [header_len, entry_len, headers.len() as u16, 0, 0, 0] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    for (kind, offset, virtual_, physical, file_len, memory_len) in headers {
        file.extend_from_slice(&kind.to_le_bytes());
        if spec.is_64 {
            file.extend_from_slice(&7u32.to_le_bytes());
        }
        for field in [offset, virtual_, physical, file_len, memory_len] {
            file.extend(word(field));
        }
        if !spec.is_64 {
            file.extend_from_slice(&7u32.to_le_bytes());
        }
        file.extend(word(4));
    }
    file.resize(DATA as usize, 0);
    file.extend(note);
    file.resize((DATA + 0x100) as usize, 0);
    file.extend_from_slice(spec.code);
    file
}

/// Checks what every successful load must satisfy: pieces are disjoint, lie in free RAM, and the state names them.
pub fn check_loaded(loaded: &Loaded<'_>, layout: &MemoryLayout) {
    let mut ranges: Vec<(u64, u64)> =
        loaded.chunks.iter().map(|c| (c.at, c.end())).filter(|(a, b)| a < b).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{ranges:x?}");
    for chunk in loaded.chunks.iter().filter(|c| !c.bytes.is_empty()) {
        assert!(layout.ram_offset(chunk.at, chunk.bytes.len() as u64).is_some(), "{}", chunk.what);
        assert!(chunk.end() <= layout.acpi_area());
    }
    let long = loaded.entry.mode == EntryMode::Long64;
    assert_eq!(loaded.entry.cr3 != 0, long);
    assert!(bytes_at(loaded, loaded.entry.gdt.base).len() > usize::from(loaded.entry.gdt.limit));
}

/// The bytes of the chunk that holds `at`, from there on.
pub fn bytes_at<'a>(loaded: &'a Loaded<'_>, at: u64) -> &'a [u8] {
    let chunk = loaded.chunks.iter().find(|c| c.at <= at && at < c.end()).expect("an address in a chunk");
    &chunk.bytes[(at - chunk.at) as usize..]
}
