use std::fs;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// The verdict on a file with these contents.
fn verdict(bytes: &[u8]) -> Result<Role, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    fs::write(&path, bytes).unwrap();
    let image = inspect(&path).unwrap();
    assert!(!text(&image).chars().any(|c| c.is_control() && c != '\n'));
    let json: serde_json::Value = serde_json::from_str(&json(&image)).unwrap();
    let verdict = plan(&image);
    assert_eq!(json["runs"], verdict.is_ok());
    verdict.map(|plan| plan.role).map_err(|error| {
        let line = error.to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    })
}

fn refused(bytes: &[u8], parts: &[&str]) {
    let line = verdict(bytes).unwrap_err();
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
}

#[test]
fn cds() {
    assert_eq!(verdict(&samples::cd(&[0], &[])), Ok(Role::Cd));
    assert_eq!(verdict(&samples::cd(&[0, 0xef], &["BOOTX64.EFI"])), Ok(Role::Cd));
    refused(&samples::cd(&[0xef], &["BOOTAA64.EFI"]), &["an ARM64 CD", "amd64"]);
    refused(&samples::cd(&[0xef], &["BOOTRISCV64.EFI"]), &["a RISC-V CD"]);
    assert_eq!(verdict(&samples::cd(&[0xef], &["BOOTX64.EFI"])), Ok(Role::Cd));
    refused(&samples::cd(&[0xef], &["BOOTIA32.EFI"]), &["32-bit UEFI only", "BIOS"]);
    refused(&samples::cd(&[], &[]), &["no boot record", "-cdrom"]);
}

#[test]
fn a_cd_with_both_ways_says_so() {
    let mut disk = RamDisk::read_only(samples::cd(&[0, 0xef], &["BOOTX64.EFI", "BOOTIA32.EFI"]));
    let found = detect(&mut disk);
    assert_eq!((found.what, found.bios), (What::Cd, Some("El Torito")));
    assert_eq!(found.label.as_deref(), Some("SAMPLE"));
    assert_eq!(found.uefi.into_iter().collect::<Vec<_>>(), [Arch::I386, Arch::X86_64]);
}

#[test]
fn the_efi_image_in_a_cd_is_looked_into() {
    let mut cd = samples::cd(&[0xef], &[]);
    let fat = samples::fat(&["BOOTAA64.EFI"]);
    cd.truncate(30 * 2048);
    cd.extend(fat);
    cd.resize(48 * 2048, 0);
    refused(&cd, &["an ARM64 CD"]);
}

#[test]
fn a_short_download_is_noticed() {
    let mut cd = samples::cd(&[0], &[]);
    cd.truncate(40 * 2048);
    let found = detect(&mut RamDisk::read_only(cd));
    assert!(found.warnings.iter().any(|warning| warning.contains("not complete")), "{found:?}");
}

#[test]
fn disks() {
    assert_eq!(verdict(&samples::mbr(true, &[0x83])), Ok(Role::Disk));
    refused(&samples::mbr(false, &[0x83]), &["no code in its boot sector", "-cdrom"]);
    refused(&samples::gpt(&["BOOTAA64.EFI"]), &["an ARM64 disk"]);
    assert_eq!(verdict(&samples::gpt(&["BOOTX64.EFI"])), Ok(Role::Disk));
    refused(&vec![0; 4 << 20], &["no boot signature", "55AA"]);
    let mut ext4 = vec![0; 4 << 20];
    ext4[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    refused(&ext4, &["file system (ext2, ext3 or ext4)", "-hdb"]);
}

#[test]
fn partitions_are_listed() {
    let found = detect(&mut RamDisk::read_only(samples::gpt(&["BOOTX64.EFI"])));
    let table = found.table.unwrap();
    let only = &table.partitions[0];
    assert_eq!((table.kind, table.partitions.len()), (TableKind::Gpt, 1));
    assert_eq!((only.start, only.length, only.name.as_deref()), (64 * 512, 64 * 512, Some("boot")));
    assert_eq!(only.description, Some("EFI system"));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    // A damaged first header: the second one serves, and its loss is told.
    let mut damaged = samples::gpt(&["BOOTX64.EFI"]);
    damaged[512 + 40] ^= 1;
    let found = detect(&mut RamDisk::read_only(damaged));
    assert_eq!(found.table.unwrap().partitions.len(), 1);
    assert!(found.warnings[0].contains("first GPT header"), "{:?}", found.warnings);
}

#[test]
fn logical_partitions_are_followed_but_not_for_ever() {
    let mut image = samples::mbr(true, &[0x83, 0x05]);
    // The extended partition at sector 128: a logical one, and a link to itself.
    let at = 128 * 512;
    image[at + 446 + 4] = 0x83;
    image[at + 446 + 8..at + 446 + 16].copy_from_slice(&[1, 0, 0, 0, 8, 0, 0, 0]);
    image[at + 462 + 4] = 0x05;
    image[at + 462 + 8..at + 462 + 16].copy_from_slice(&[0, 0, 0, 0, 8, 0, 0, 0]);
    image[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
    let numbers = |image: Vec<u8>| -> Vec<u32> {
        let table = detect(&mut RamDisk::read_only(image)).table.unwrap();
        table.partitions.iter().map(|partition| partition.number).collect()
    };
    // An entry without a start is no entry: the link's sector is not taken for one of a chain.
    assert_eq!(numbers(image.clone()), [1, 2]);
    image[at + 462 + 8] = 1;
    assert_eq!(numbers(image), [1, 2, 5]);
}

#[test]
fn floppies_roms_and_kernels() {
    let mut floppy = vec![0; 1_474_560];
    floppy[0] = 0xeb;
    floppy[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(verdict(&floppy), Ok(Role::Floppy));
    refused(&vec![1; 1_474_560], &["floppy disk", "no boot signature"]);
    assert_eq!(verdict(bios::rom()), Ok(Role::Rom));
    let mut kernel = vec![0; 4096];
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    assert_eq!(verdict(&kernel), Ok(Role::Kernel(true)));
    let mut arm = vec![0; 4096];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    refused(&arm, &["an ARM64 Linux Image", "amd64"]);
    let mut elf = vec![0; 4096];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (elf[16], elf[18], elf[20]) = (2, 243, 1);
    refused(&elf, &["RISC-V", "amd64"]);
}

#[test]
fn uefi_firmware_is_told_from_disks() {
    // Of the sizes that it comes in: 2 MiB whole, 1.9 MiB of code (which a floppy could have), 528 KiB of variables.
    let store = samples::firmware_volume(true, 0x84000);
    let code = samples::firmware_volume(false, 0x1e_0000);
    let mut whole = samples::firmware_volume(true, 0x20000);
    whole.extend(&code);
    assert_eq!(verdict(&whole), Ok(Role::Rom));
    refused(&code, &["UEFI firmware without its variables", "-drive if=pflash", "format=raw,file=COPY"]);
    refused(&store, &["a store of UEFI variables", "after the firmware's code"]);
    let cut = &store[..store.len() / 2];
    refused(cut, &["a store of UEFI variables"]);
    // A length that lies changes what it is taken for, and nothing else.
    whole[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&whole, &["a store of UEFI variables"]);
}

#[test]
fn other_files_are_named() {
    refused(b"#!/bin/sh\n", &["a script"]);
    refused(b"", &["an empty file"]);
    refused(b"\xfd7zXZ\0.......", &["an xz file", "unpack it first"]);
    refused(b"<!DOCTYPE html>", &["an HTML page", "download"]);
    let mut vdi = vec![0; 1024];
    vdi[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    refused(&vdi, &["a VDI disk image", "qemu-img convert"]);
    refused(b"KDMV............", &["a VMDK disk image", "qemu-img convert"]);
    refused(b"vhdxfile........", &["a VHDX disk image", "qemu-img convert"]);
    refused(b"QED\0............", &["a QED disk image", "qemu-img convert"]);
    refused(b"WithouFreSpacExt....", &["a Parallels disk image", "qemu-img convert"]);
    refused(b"Bochs Virtual HD Image\0..", &["a Bochs disk image", "qemu-img convert"]);
}

#[test]
fn a_gzip_file_is_looked_into() {
    use std::io::Write;
    let mut arm = vec![0; 4096];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    for (inner, parts) in [
        (arm, ["a gzip file with an ARM64 Linux Image in it", "amd64"]),
        (samples::mbr(true, &[0x83]), ["a gzip file with a disk image in it", "gunzip"]),
    ] {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&inner).unwrap();
        refused(&packer.finish().unwrap(), &parts);
    }
}

/// `qemu-img`, where the host has it.
fn qemu_img(arguments: &[&str]) -> bool {
    let done = Command::new("qemu-img").args(arguments).output();
    match done {
        Ok(output) => output.status.success(),
        Err(_) => {
            crate::guests::skip("qemu-img", "is not installed");
            false
        }
    }
}

#[test]
fn qcow2_images_with_backing_files() {
    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (raw, base, top) = (name("raw"), name("base.qcow2"), name("top.qcow2"));
    fs::write(&raw, samples::mbr(true, &[0x83])).unwrap();
    if !qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &raw, &base])
        || !qemu_img(&["create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", &top])
    {
        return;
    }
    let image = inspect(Path::new(&top)).unwrap();
    let below = &image.qcow2.as_ref().unwrap().backing;
    assert_eq!((below[0].name.as_str(), below[0].format), ("base.qcow2", Some("qcow2")));
    assert_eq!((image.format, image.virtual_bytes), ("qcow2", 1 << 20));
    assert_eq!(plan(&image).map(|plan| (plan.role, plan.qcow2)), Ok((Role::Disk, true)));
    fs::remove_file(&base).unwrap();
    let image = inspect(Path::new(&top)).unwrap();
    let line = plan(&image).unwrap_err().to_string();
    assert!(line.contains("backing file base.qcow2 is not there"), "{line}");
    assert!(text(&image).contains("(missing)"));
}

#[test]
fn sizes_for_people() {
    for (bytes, expected) in [(0, "0 bytes"), (1536, "1.5 KiB"), (1 << 30, "1 GiB"), (5 << 40, "5 TiB")] {
        assert_eq!(size(bytes), expected);
    }
}

#[test]
fn what_cannot_be_opened_is_said() {
    let line = inspect(Path::new("/nonexistent/x.img")).unwrap_err().to_string();
    assert!(line.contains("no such file"), "{line}");
    assert!(inspect(&std::env::temp_dir()).unwrap_err().to_string().contains("folder"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_image_panics(
        sample in 0..samples::all().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut image = samples::all().swap_remove(sample);
        // Most bytes are zeros that nobody looks at: change those that are not.
        let places: Vec<usize> = (0..image.len()).filter(|n| image[*n] != 0 || image[n.saturating_sub(1)] != 0).collect();
        for (place, byte) in changes {
            image[places[place.index(places.len())]] = byte;
        }
        if sample % 2 == 0 {
            image.truncate(cut.index(image.len()));
        }
        let _ = verdict(&image);
    }

    #[test]
    fn no_qcow2_header_panics(head in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = verdict(&[b"QFI\xfb\0\0\0\x03", &head[..]].concat());
    }
}
