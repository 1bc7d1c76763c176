//! Kernel files and files of single-step vectors: none of them makes a loader panic, run on or ask for memory without
//! bound.

use bios::{Board, BootRequest, Firmware, LinuxEntry, MemoryLayout, Module, Video};

use super::take;
use crate::singlestep;

/// Memory of the machine that kernels are loaded for.
const RAM: u64 = 64 << 20;

/// See the module. The first byte chooses what the others are.
pub fn loaders(mut data: &[u8]) {
    let [what] = take(&mut data);
    if what & 1 != 0 {
        // A file of vectors; the error says where it is damaged.
        if let Ok(vectors) = singlestep::parse(data) {
            let cases: usize = vectors.cases.iter().map(|c| c.initial.ram.len() + c.bytes.len()).sum();
            // Compressed files aside, nothing is made of nothing.
            assert!(
                data.starts_with(&[0x1f, 0x8b]) || cases <= 64 * data.len(),
                "{cases} out of {}",
                data.len()
            );
        }
        return;
    }
    let layout = MemoryLayout::new(RAM).expect("a sensible size");
    let firmware = Firmware::new(&Board::pc(layout, 1));
    let e820 = layout.e820();
    let (kernel, module) =
        if what & 2 != 0 { data.split_at(data.len() - data.len() / 4) } else { (data, &data[..0]) };
    let modules = [Module { bytes: module, command_line: b"module" }];
    let request = BootRequest {
        kernel,
        kernel_name: "kernel",
        command_line: b"console=ttyS0",
        modules: if module.is_empty() { &[] } else { &modules },
        layout,
        e820: &e820,
        rsdp: firmware.rsdp,
        video: Video::None,
        entry: if what & 4 != 0 { LinuxEntry::Protected32 } else { LinuxEntry::Auto },
    };
    let Ok(loaded) = bios::load(&request) else { return };
    for chunk in &loaded.chunks {
        let (at, len) = (chunk.at, chunk.bytes.len() as u64);
        assert!(layout.ram_offset(at, len).is_some(), "{len} bytes at {at:#x} are not in memory");
    }
}

/// Headers of each kind.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut multiboot = [0; 64];
    multiboot[..4].copy_from_slice(&0x1bad_b002u32.to_le_bytes());
    multiboot[4..8].copy_from_slice(&0x1_0000u32.to_le_bytes());
    multiboot[8..12].copy_from_slice(&0u32.wrapping_sub(0x1bad_b002 + 0x1_0000).to_le_bytes());
    for (n, v) in [0x10_0000u32, 0x10_0000, 0, 0, 0x10_0020].into_iter().enumerate() {
        multiboot[12 + 4 * n..16 + 4 * n].copy_from_slice(&v.to_le_bytes());
    }
    let mut bzimage = vec![0; 1536];
    bzimage[0x1f1] = 1;
    bzimage[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    bzimage[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    bzimage[0x211] = 1;
    let elf = |class: u8, machine: u16| {
        let mut b = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        b.extend(2u16.to_le_bytes());
        b.extend(machine.to_le_bytes());
        b.extend(1u32.to_le_bytes());
        b.resize(256, 0);
        b
    };
    let json = br#"[{"name":"nop","bytes":[144],"initial":{"regs":{"ax":1,"cs":0,"ip":16},"ram":[[16,144]]},"final":{"regs":{"ip":17},"ram":[]},"idx":0}]"#;
    let mut moo = b"MOO ".to_vec();
    moo.extend(8u32.to_le_bytes());
    moo.extend([1, 0, 0, 0, 1, 0, 0, 0]);
    moo.extend(b"TEST");
    moo.extend(16u32.to_le_bytes());
    moo.resize(64, 0);
    vec![
        [&[0], &multiboot[..]].concat(),
        [&[2], &multiboot[..]].concat(),
        [&[0], &bzimage[..]].concat(),
        [&[6], &bzimage[..]].concat(),
        [&[0], &elf(1, 3)[..]].concat(),
        [&[0], &elf(2, 62)[..]].concat(),
        [&[1], &json[..]].concat(),
        [&[1], &moo[..]].concat(),
    ]
}
