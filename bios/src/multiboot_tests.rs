use proptest::prelude::*;

use super::*;
use crate::bytes::u64_at;
use crate::detect::ImageKind;
use crate::load::{Module, load as load_any};
use crate::test_images::{ElfSpec, bytes_at, check_loaded, elf, firmware, multiboot_flat, request};

#[test]
fn a_flat_image_gets_its_information() {
    let (layout, firmware) = firmware();
    let file = multiboot_flat();
    let modules = [
        Module { bytes: &[1; 100], command_line: b"first arg" },
        Module { bytes: &[2; 5000], command_line: b"second" },
    ];
    let loaded = load_any(&request(&file, &modules, layout, &firmware.e820)).unwrap();
    check_loaded(&loaded, &layout);
    assert_eq!(loaded.kind, ImageKind::Multiboot);
    assert_eq!((loaded.entry.rax, loaded.entry.rip), (0x2bad_b002, 0x10_0040));
    let info = bytes_at(&loaded, loaded.entry.rbx);
    let field = |at| u32_at(info, at).unwrap();
    assert_eq!(field(0), 0x24d);
    assert_eq!(field(4), 639);
    assert_eq!(bytes_at(&loaded, field(16).into()), b"kernel console=ttyS0\0");
    assert_eq!(field(20), 2);
    let list = bytes_at(&loaded, field(24).into());
    assert_eq!(u32_at(list, 0), Some(0x10_3000), "first page after the bss");
    assert_eq!(u32_at(list, 16), Some(0x10_4000));
    assert_eq!(bytes_at(&loaded, u32_at(list, 8).unwrap().into()), b"first arg\0");
    let map = bytes_at(&loaded, field(48).into());
    assert_eq!(field(44) as usize, firmware.e820.len() * 24);
    assert_eq!((u32_at(map, 0), u64_at(map, 12)), (Some(20), Some(EBDA_START)));
}

#[test]
fn headers_that_lie_are_refused() {
    let (layout, firmware) = firmware();
    let with = |index: usize, value: u32| {
        let mut file = multiboot_flat();
        put(&mut file, 16 + index * 4, &value.to_le_bytes());
        load_any(&request(&file, &[], layout, &firmware.e820)).map(|_| ()).unwrap_err()
    };
    assert!(matches!(with(3, 0), LoadError::BadMultiboot(_)));
    assert!(matches!(with(3, 0x20_0000), LoadError::BadMultiboot(_)));
    assert!(matches!(with(5, 0x20_0000), LoadError::Truncated { .. }));
    assert!(matches!(with(5, 5), LoadError::BadMultiboot(_)));
    assert!(matches!(with(6, 0xffff_ffff), LoadError::NoRoom { remedy_mib: None, .. }));
}

#[test]
fn an_image_without_bytes_may_be_said_to_lie_anywhere() {
    let (layout, firmware) = firmware();
    let mut file = multiboot_flat();
    for (index, value) in [(3, 0x4949_4959u32), (4, 0x4949_4949), (5, 0x4949_4949), (6, 0)] {
        put(&mut file, 16 + index * 4, &value.to_le_bytes());
    }
    let loaded = load_any(&request(&file, &[], layout, &firmware.e820)).unwrap();
    check_loaded(&loaded, &layout);
    assert!(loaded.chunks.iter().all(|chunk| !chunk.bytes.is_empty()));
}

#[test]
fn pvh_kernels_get_start_information() {
    let (layout, firmware) = firmware();
    for is_64 in [true, false] {
        let file = elf(&ElfSpec { is_64, pvh_entry: Some(0x100_0040), ..ElfSpec::default() });
        let modules = [Module { bytes: &[3; 300], command_line: b"" }];
        let loaded = load_any(&request(&file, &modules, layout, &firmware.e820)).unwrap();
        check_loaded(&loaded, &layout);
        assert_eq!(loaded.kind, ImageKind::Pvh);
        assert_eq!(loaded.entry.rip, 0x100_0040);
        let info = bytes_at(&loaded, loaded.entry.rbx);
        assert_eq!(u32_at(info, 0), Some(0x336e_c578));
        let list = bytes_at(&loaded, u64_at(info, 16).unwrap());
        assert_eq!(bytes_at(&loaded, u64_at(list, 0).unwrap()), [3; 300]);
        assert_eq!(u32_at(info, 48), Some(firmware.e820.len() as u32));
    }
}

#[test]
fn a_vmlinux_is_entered_at_its_physical_address() {
    let (layout, firmware) = firmware();
    let file = elf(&ElfSpec::default());
    let loaded = load_any(&request(&file, &[], layout, &firmware.e820)).unwrap();
    check_loaded(&loaded, &layout);
    assert_eq!((loaded.kind, loaded.entry.rip), (ImageKind::Vmlinux, 0x100_0010));
    assert_eq!(loaded.entry.mode, EntryMode::Long64);
}

proptest! {
    #[test]
    fn damaged_images_never_panic(
        which in 0usize..3,
        changes in prop::collection::vec((0usize..0x240, any::<u8>()), 0..10),
        len in prop::option::of(0usize..0x400),
    ) {
        let (layout, firmware) = firmware();
        let mut file = match which {
            0 => multiboot_flat(),
            1 => elf(&ElfSpec { pvh_entry: Some(0x100_0040), ..ElfSpec::default() }),
            _ => elf(&ElfSpec { is_64: false, ..ElfSpec::default() }),
        };
        for (at, value) in changes {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(len) = len {
            file.truncate(len);
        }
        let modules = [Module { bytes: &[1; 9], command_line: b"" }];
        if let Ok(loaded) = load_any(&request(&file, &modules, layout, &firmware.e820)) {
            check_loaded(&loaded, &layout);
        }
    }

    #[test]
    fn multiboot_fields_never_panic(fields in prop::array::uniform5(any::<u32>())) {
        let (layout, firmware) = firmware();
        let mut file = multiboot_flat();
        for (index, value) in fields.iter().enumerate() {
            if value % 3 != 0 {
                put(&mut file, 16 + 12 + index * 4, &value.to_le_bytes());
            }
        }
        let _ = load_any(&request(&file, &[], layout, &firmware.e820));
    }
}
