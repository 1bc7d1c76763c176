use proptest::prelude::*;

use super::*;
use crate::load::{Module, load as load_any};
use crate::test_images::{bytes_at, bzimage, check_loaded, firmware, request};

fn fails(change: impl FnOnce(&mut Vec<u8>)) -> LoadError {
    let mut file = bzimage();
    change(&mut file);
    SetupHeader::parse(&file)
        .and_then(|header| header.code(&file).map(|_| ()))
        .expect_err("a damaged file must be refused")
}

#[test]
fn damage_is_named() {
    assert!(matches!(fails(|f| f.truncate(100)), LoadError::TooShort { what: "boot sector", .. }));
    assert!(matches!(fails(|f| f.truncate(0x210)), LoadError::TooShort { what: "Linux setup header", .. }));
    assert!(matches!(fails(|f| f.truncate(0x250)), LoadError::TooShort { what: "Linux setup header", .. }));
    assert!(matches!(fails(|f| f.truncate(1024)), LoadError::TooShort { what: "16-bit setup part", .. }));
    assert!(matches!(fails(|f| f[0x1fe] = 0), LoadError::NoBootSignature(0xaa00)));
    assert!(matches!(fails(|f| f[0x202] = 0), LoadError::NoLinuxHeader));
    assert_eq!(fails(|f| f.truncate(1024 + 4000)), LoadError::Truncated { expected: 4096, found: 4000 });
}

#[test]
fn the_64_bit_entry_is_preferred() {
    let (layout, firmware) = firmware();
    let file = bzimage();
    let initrd = vec![7; 5000];
    let modules = [Module { bytes: &initrd, command_line: b"" }];
    let loaded = load_any(&request(&file, &modules, layout, &firmware.e820)).unwrap();
    check_loaded(&loaded, &layout);
    assert_eq!((loaded.entry.mode, loaded.entry.rip), (EntryMode::Long64, 0x10_0200));
    assert_eq!(bytes_at(&loaded, 0x10_0000)[0], 0x90);

    let page = bytes_at(&loaded, loaded.entry.rsi);
    assert_eq!(&page[0x202..0x206], b"HdrS");
    assert_eq!(usize::from(page[0x1e8]), firmware.e820.len());
    assert_eq!(u64_at(page, 0x70), Some(0xf_0000));
    assert_eq!(u32_at(page, 0x21c), Some(5000));
    let initrd_at = u64::from(u32_at(page, 0x218).unwrap());
    assert_eq!(initrd_at, layout.acpi_area() - 0x2000);
    assert_eq!(bytes_at(&loaded, initrd_at), initrd);
    let text = bytes_at(&loaded, u32_at(page, 0x228).unwrap().into());
    assert_eq!(text, b"console=ttyS0\0");
    assert_eq!(page[0x210], 0xff);
    assert!(page[..2].iter().chain(&page[6..16]).all(|b| *b == 0), "no display, no video mode");
}

#[test]
fn the_32_bit_entry_serves_old_kernels_and_requests() {
    let (layout, firmware) = firmware();
    let mut file = bzimage();
    let mut wanted = request(&file, &[], layout, &firmware.e820);
    wanted.entry = LinuxEntry::Protected32;
    wanted.video = Video::Text80x25;
    let loaded = load_any(&wanted).unwrap();
    assert_eq!((loaded.entry.mode, loaded.entry.rip), (EntryMode::Protected32, 0x10_0000));
    let page = bytes_at(&loaded, loaded.entry.rsi);
    assert_eq!((page[6], page[7], page[14], page[15]), (3, 80, 25, 1));

    put(&mut file, 0x206, &0x202u16.to_le_bytes());
    let loaded = load_any(&request(&file, &[], layout, &firmware.e820)).unwrap();
    check_loaded(&loaded, &layout);
    assert_eq!(loaded.entry.mode, EntryMode::Protected32);
    assert_eq!(u64_at(bytes_at(&loaded, loaded.entry.rsi), 0x70), Some(0), "no RSDP field before 2.14");
    let mut wanted = request(&file, &[], layout, &firmware.e820);
    wanted.entry = LinuxEntry::Long64;
    assert_eq!(load_any(&wanted).unwrap_err(), LoadError::No64BitEntry);
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let (layout, firmware) = firmware();
    let mut file = bzimage();
    let huge = vec![0; 60 << 20];
    let modules = [Module { bytes: &huge, command_line: b"" }];
    let error = load_any(&request(&file, &modules, layout, &firmware.e820)).unwrap_err();
    assert!(error.to_string().contains("-m "), "{error}");
    assert!(matches!(error, LoadError::InitrdTooLarge { len, .. } if len == 60 << 20));

    let two = [modules[0], modules[0]];
    let error = load_any(&request(&file, &two, layout, &firmware.e820)).unwrap_err();
    assert_eq!(error, LoadError::TooManyModules(2));

    let long = vec![b'x'; 2048];
    let mut wanted = request(&file, &[], layout, &firmware.e820);
    wanted.command_line = &long;
    assert_eq!(load_any(&wanted).unwrap_err(), LoadError::CommandLineTooLong { len: 2048, max: 2047 });

    put(&mut file, 0x260, &0x1000_0000u32.to_le_bytes());
    let error = load_any(&request(&file, &[], layout, &firmware.e820)).unwrap_err();
    assert!(matches!(error, LoadError::NoRoom { remedy_mib: Some(274), .. }), "{error}");
    file[0x211] = 0;
    let error = load_any(&request(&file, &[], layout, &firmware.e820)).unwrap_err();
    assert_eq!(error, LoadError::ZImage);
}

proptest! {
    #[test]
    fn damaged_headers_never_panic(
        changes in prop::collection::vec((0x1f1usize..0x270, any::<u8>()), 0..12),
        wide in prop::option::of((0usize..4, any::<u64>())),
        len in 0usize..5120,
        cut in any::<bool>(),
        initrd_len in 0usize..9000,
    ) {
        let (layout, firmware) = firmware();
        let mut file = bzimage();
        for (at, value) in changes {
            if !(0x1fe..0x206).contains(&at) {
                file[at] = value;
            }
        }
        if let Some((field, value)) = wide {
            let at = [0x214, 0x22c, 0x258, 0x25c][field];
            put(&mut file, at, &value.to_le_bytes());
        }
        if cut {
            file.truncate(len);
        }
        let initrd = vec![1; initrd_len];
        let modules = [Module { bytes: &initrd, command_line: b"" }];
        if let Ok(loaded) = load_any(&request(&file, &modules, layout, &firmware.e820)) {
            check_loaded(&loaded, &layout);
        }
    }
}
