use proptest::prelude::*;

use super::*;
use crate::test_images::{ElfSpec, bzimage, elf, multiboot_flat};

#[test]
fn kernels_are_recognised() {
    assert_eq!(ImageKind::detect(&bzimage()), Ok(ImageKind::BzImage));
    assert_eq!(ImageKind::detect(&multiboot_flat()), Ok(ImageKind::Multiboot));
    assert_eq!(ImageKind::detect(&elf(&ElfSpec::default())), Ok(ImageKind::Vmlinux));
    let pvh = elf(&ElfSpec { pvh_entry: Some(0), ..ElfSpec::default() });
    assert_eq!(ImageKind::detect(&pvh), Ok(ImageKind::Pvh));
}

fn reason(file: &[u8]) -> String {
    ImageKind::detect(file).expect_err("not a kernel")
}

#[test]
fn strangers_are_named() {
    assert!(reason(&[]).contains("empty"));
    assert!(reason(&[0x1f, 0x8b, 8, 0]).contains("gzip"));
    let mut arm = vec![0; 4096];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    assert!(reason(&arm).contains("ARM64"));
    assert!(reason(&elf(&ElfSpec { machine: 183, ..ElfSpec::default() })).contains("AArch64"));
    assert!(reason(&elf(&ElfSpec { interpreter: true, ..ElfSpec::default() })).contains("user space"));
    assert!(reason(&elf(&ElfSpec { code: b"none", ..ElfSpec::default() })).contains("banner"));
    assert!(reason(&elf(&ElfSpec { kind: 1, ..ElfSpec::default() })).contains("module"));
    let mut disk = vec![0; 512 * 4];
    disk[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    assert!(reason(&disk).contains("HdrS"));
    assert!(reason(&b"text\n".repeat(200)).contains("text file"));
    assert!(reason(&vec![0; 4096]).contains("multiboot"));
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
        let _ = ImageKind::detect(&bytes);
    }
}
