//! Images as users have them.

use std::path::PathBuf;
use std::process::Command;

use super::*;

fn drive(path: &Path) -> DriveConfig {
    DriveConfig {
        id: None,
        option: "-hda".into(),
        file: Some(path.into()),
        format: None,
        interface: Interface::Ide,
        media: Media::Disk,
        index: 0,
        read_only: false,
        snapshot: false,
        serial: None,
    }
}

fn image(folder: &Path, len: usize) -> PathBuf {
    let path = folder.join("disk.img");
    std::fs::write(&path, (0..len).map(|n| (n / 512) as u8).collect::<Vec<u8>>()).unwrap();
    path
}

/// A qcow2 image made by QEMU's tool; `None` where that is not installed.
fn qcow2(folder: &Path, arguments: &[&str]) -> Option<PathBuf> {
    let path = folder.join("disk.qcow2");
    let mut tool = Command::new("qemu-img");
    let made = tool.args(["create", "-q", "-f", "qcow2"]).args(arguments).arg(&path).arg("4M").status();
    made.ok().filter(|status| status.success()).map(|_| path)
}

fn message(drive: &DriveConfig) -> String {
    open(drive, drive.file.as_deref().unwrap()).err().expect("it cannot be opened").to_string()
}

#[test]
fn a_raw_image_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), 100_000);
    let mut disk = open(&drive(&path), &path).unwrap();
    assert_eq!((disk.len(), disk.read_only()), (100_000, false));
    let mut sector = [0; 512];
    disk.read(512 * 7, &mut sector).unwrap();
    assert_eq!(sector, [7; 512]);
    disk.write(512 * 7, &[0x5a; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[512 * 7], 0x5a);
    disk.read(512 * 195, &mut sector).unwrap();
    assert_eq!((sector[159], sector[160]), (195, 0), "the end is filled up with zeros");
    assert!(disk.write(512 * 196, &sector).is_err());
    // The image does not become one of another format behind our back.
    sector[..4].copy_from_slice(qcow2::MAGIC);
    assert!(disk.write(0, &sector).is_err());
    disk.discard(0, u64::MAX).unwrap();
}

#[test]
fn two_machines_do_not_share_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), 4096);
    let first = open(&drive(&path), &path).unwrap();
    assert!(message(&drive(&path)).contains("another program"));
    drop(first);
    let readers = DriveConfig { snapshot: true, ..drive(&path) };
    let _first = open(&readers, &path).unwrap();
    let _second = open(&readers, &path).unwrap();
    assert!(message(&drive(&path)).contains("another program"));
}

#[test]
fn a_snapshot_keeps_the_image_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), 300_000);
    let before = std::fs::read(&path).unwrap();
    let mut disk = open(&DriveConfig { snapshot: true, ..drive(&path) }, &path).unwrap();
    let mut expected = before.clone();
    for (at, len, value) in [(512, 512, 1), (65_000, 1_000, 2), (131_072, 65_536, 3), (299_500, 500, 4)] {
        disk.write(at as u64, &vec![value; len]).unwrap();
        expected[at..at + len].fill(value);
    }
    let mut found = vec![0; 300_000];
    disk.read(0, &mut found).unwrap();
    assert!(found == expected);
    drop(disk);
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_qcow2_image_keeps_what_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = qcow2(folder.path(), &[]) else { return eprintln!("no qemu-img: not tested") };
    {
        let mut disk = open(&drive(&path), &path).unwrap();
        assert_eq!(disk.len(), 4 << 20);
        disk.write(1 << 20, &[0x77; 1024]).unwrap();
        disk.flush().unwrap();
        // As if the process died here: nothing that is done when it ends is done.
        std::mem::forget(disk);
    }
    let mut disk = raw_copy(&path, folder.path());
    let mut found = [0; 1024];
    disk.read(1 << 20, &mut found).unwrap();
    assert_eq!(found, [0x77; 1024]);
    let check = Command::new("qemu-img").args(["check", "-q"]).arg(folder.path().join("copy.qcow2")).status();
    assert!(check.unwrap().success());
}

/// The image as another process finds it.
fn raw_copy(path: &Path, folder: &Path) -> Disk {
    let copy = folder.join("copy.qcow2");
    std::fs::copy(path, &copy).unwrap();
    open(&DriveConfig { read_only: true, ..drive(&copy) }, &copy).unwrap()
}

#[test]
fn a_qcow2_image_stands_on_another() {
    let folder = tempfile::tempdir().unwrap();
    let base = image(folder.path(), 1 << 20);
    let backing = base.to_str().unwrap();
    let Some(path) = qcow2(folder.path(), &["-b", backing, "-F", "raw"]) else {
        return eprintln!("no qemu-img: not tested");
    };
    let mut disk = open(&drive(&path), &path).unwrap();
    let mut sector = [0; 512];
    disk.read(512 * 9, &mut sector).unwrap();
    assert_eq!(sector, [9; 512]);
    disk.write(512 * 9, &[1; 512]).unwrap();
    disk.read(512 * 10, &mut sector).unwrap();
    assert_eq!(sector, [10; 512]);
    assert_eq!(std::fs::read(&base).unwrap()[512 * 9], 9);
}

#[test]
fn mistakes_are_one_line_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let none = folder.path().join("none.img");
    assert!(message(&drive(&none)).contains("no such file"));
    assert!(message(&drive(folder.path())).contains("folder"));
    assert!(message(&drive(&file("empty", b""))).contains("empty"));
    let vmdk = message(&drive(&file("a.vmdk", b"KDMV\x01\0\0\0")));
    assert!(vmdk.contains("VMDK") && vmdk.contains("qemu-img convert"), "{vmdk}");
    let mut vdi = [0; 512];
    vdi[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    let vdi = message(&drive(&file("a.vdi", &vdi)));
    assert!(vdi.contains("VDI") && vdi.contains("qemu-img convert"), "{vdi}");
    for (at, bits, what) in
        [(75, 0, "encrypted"), (79, 4, "another file"), (79, 8, "zstd"), (79, 16, "extended L2")]
    {
        let mut header = [0; 512];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        (header[at], header[104]) = (bits, 1);
        header[35] = u8::from(bits == 0);
        let refused = message(&drive(&file("e.qcow2", &header)));
        assert!(refused.contains(what) && refused.contains("qemu-img convert"), "{refused}");
    }
    let qcow2 = DriveConfig { format: Some(ImageFormat::Qcow2), ..drive(&file("b", &[0; 1024])) };
    assert!(message(&qcow2).contains("no qcow2"));
    let damaged = message(&drive(&file("c", &[&b"QFI\xfb\0\0\0\x09"[..], &[0xff; 512]].concat())));
    assert!(damaged.contains("qcow2") && !damaged.contains('\n'), "{damaged}");
    let floppy = DriveConfig { interface: Interface::Floppy, ..drive(&file("d", &vec![0; 3 << 20])) };
    assert!(
        open_all(&MachineConfig { drives: vec![floppy], ..MachineConfig::default() })
            .err()
            .unwrap()
            .to_string()
            .contains("no floppy disk")
    );
}

/// Zeros and discards: what must be zero is, what must stay stays, and of an image with a base nothing else shows.
#[test]
fn zeros_and_discards_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), 1 << 20);
    let base = folder.path().join("base.img");
    std::fs::copy(&path, &base).unwrap();
    let mut disks = vec![
        ("overlay", open(&DriveConfig { snapshot: true, ..drive(&path) }, &path).unwrap()),
        ("raw", open(&drive(&base), &base).unwrap()),
    ];
    let below = folder.path().join("below.img");
    std::fs::copy(&path, &below).unwrap();
    match qcow2(folder.path(), &["-b", below.to_str().unwrap(), "-F", "raw"]) {
        Some(path) => disks.push(("qcow2", open(&drive(&path), &path).unwrap())),
        None => eprintln!("no qemu-img: qcow2 is not tested"),
    }
    for (what, mut disk) in disks {
        let mut found = vec![0; 512];
        for unmap in [false, true] {
            let at = if unmap { 0x4_0000 } else { 0x1_0000 };
            disk.write_zeroes(at + 512, 0x1_8000, unmap).unwrap();
            for sector in [1, 2, 0xc0] {
                disk.read(at + 512 * sector, &mut found).unwrap();
                assert_eq!(found, [0; 512], "{what}: sector {sector} of {at:#x}");
            }
            for (sector, value) in [(0, at / 512), (0xc1, at / 512 + 0xc1)] {
                disk.read(at + 512 * sector, &mut found).unwrap();
                assert_eq!(found, [value as u8; 512], "{what}: a neighbour");
            }
        }
        disk.discard(0x8_0000 + 512, 0x3_0000).unwrap();
        for (sector, value) in [(0, 0), (0x181, 0x81)] {
            disk.read(0x8_0000 + 512 * sector, &mut found).unwrap();
            assert_eq!(found, [value; 512], "{what}: a neighbour of what is discarded");
        }
        disk.discard(u64::MAX - 5, 100).unwrap();
        disk.discard(0, u64::MAX).unwrap();
        assert!(disk.write_zeroes(disk.len(), 512, true).is_err(), "{what}");
        assert!(disk.write_zeroes(u64::MAX, u64::MAX, false).is_err());
        // What was discarded can be written again.
        disk.write(0x9_0200, &[0x5a; 512]).unwrap();
        disk.read(0x9_0200, &mut found).unwrap();
        assert_eq!(found, [0x5a; 512], "{what}");
        disk.flush().unwrap();
    }
}

/// Found by fuzzing: such an image overflowed the stack at its first write. Nor may files stand on one another in a circle.
#[test]
fn damaged_qcow2_images_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = qcow2(folder.path(), &[]) else { return eprintln!("no qemu-img: not tested") };
    let whole = std::fs::read(&path).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut image = whole.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let path = folder.path().join("damaged.qcow2");
        std::fs::write(&path, image).unwrap();
        message(&drive(&path))
    };
    // The table of reference counts is in the second cluster.
    for (at, bytes, hint) in [
        (0x1_0000, &[0; 8][..], "own header is free"),
        (4, &[0, 0, 0, 9], "version is 9"),
        (20, &[0, 0, 0, 30], "2^30"),
        (36, &[0xff; 4], "tables are larger"),
        (56, &[0, 0, 1, 0], "tables are larger"),
        (24, &[0x7f; 8], "too small for the disk"),
    ] {
        let message = with(at, bytes);
        assert!(message.contains(hint) && message.contains("qemu-img check"), "{message}");
    }
    let circle = folder.path().join("damaged.qcow2");
    let mut image = whole.clone();
    let name = circle.to_str().unwrap();
    image[8..20].copy_from_slice(&[&512u64.to_be_bytes()[..], &(name.len() as u32).to_be_bytes()].concat());
    image[512..512 + name.len()].copy_from_slice(name.as_bytes());
    std::fs::write(&circle, image).unwrap();
    let message = message(&drive(&circle));
    assert!(message.contains("stand on one another"), "{message}");
}

#[test]
fn a_disk_tells_the_number_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), 4096);
    let given = DriveConfig { serial: Some("S-1".into()), ..drive(&path) };
    let mut disk = open_medium(&given).unwrap().unwrap();
    assert_eq!((disk.serial(), disk.len()), (Some("S-1"), 4096));
    let mut sector = [0; 512];
    disk.read(512, &mut sector).unwrap();
    assert_eq!(sector, [1; 512]);
    drop(disk);
    assert_eq!(open_medium(&drive(&path)).unwrap().unwrap().serial(), None);
}
