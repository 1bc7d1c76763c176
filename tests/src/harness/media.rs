//! Boot media made from packages with the host's tools: a FAT disk with SYSLINUX, a CD with ISOLINUX, each with a Linux kernel and
//! the test's initramfs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::guests::{
    self, Artifact, INITRAMFS_AMD64, ISOLINUX, KERNEL_CLOUD_AMD64, LDLINUX, SYSLINUX_MBR,
};

/// What SYSLINUX and ISOLINUX are to do.
const CONFIGURATION: &str = "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nLABEL linux\nKERNEL vmlinuz\n\
    INITRD initrd.gz\nAPPEND console=ttyS0\n";
/// Where the disk's partition begins.
const PARTITION: u64 = 2048;
/// Sectors of the disk.
const SECTORS: u64 = 131_072;

/// Runs a tool; `None` and a line about it where it is not installed.
fn tool(program: &str, arguments: &[&str]) -> Option<()> {
    let output = Command::new(program).args(arguments).env("MTOOLS_SKIP_CHECK", "1").output();
    match output {
        Err(error) => {
            guests::skip(program, &format!("cannot be run on this host: {error}"));
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
            Some(())
        }
    }
}

fn bytes(artifact: &Artifact) -> Option<Vec<u8>> {
    Some(fs::read(guests::for_test(artifact)?).expect("the cache can be read"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// A disk with a FAT partition that boots Linux by SYSLINUX. `None`: something is missing, which has been said.
pub fn syslinux_disk(folder: &Path) -> Option<PathBuf> {
    let (kernel, initrd) = (guests::for_test(&KERNEL_CLOUD_AMD64)?, guests::for_test(&INITRAMFS_AMD64)?);
    let disk = folder.join("syslinux.img");
    let mut sector = bytes(&SYSLINUX_MBR)?;
    sector.resize(512, 0);
    // One active partition of type 0Eh (FAT16, LBA).
    sector[446] = 0x80;
    sector[447..454].copy_from_slice(&[0x20, 0x21, 0x00, 0x0e, 0xfe, 0xff, 0xff]);
    sector[454..458].copy_from_slice(&(PARTITION as u32).to_le_bytes());
    sector[458..462].copy_from_slice(&((SECTORS - PARTITION) as u32).to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = fs::File::create(&disk).expect("a temporary file");
    file.write_all(&sector).expect("room");
    file.set_len(SECTORS * 512).expect("room");
    drop(file);
    let offset = (PARTITION * 512).to_string();
    let partition = format!("{}@@{offset}", text(&disk));
    let sectors = (SECTORS - PARTITION).to_string();
    let hidden = PARTITION.to_string();
    let configuration = folder.join("syslinux.cfg");
    fs::write(&configuration, CONFIGURATION).expect("a temporary file");
    tool(
        "mformat",
        &["-i", &partition, "-T", &sectors, "-h", "255", "-s", "63", "-H", &hidden, "-c", "4", "::"],
    )?;
    for (from, to) in
        [(kernel.as_path(), "::vmlinuz"), (&initrd, "::initrd.gz"), (&configuration, "::syslinux.cfg")]
    {
        tool("mcopy", &["-i", &partition, text(from), to])?;
    }
    tool("syslinux", &["--install", "--offset", &offset, text(&disk)])?;
    Some(disk)
}

/// A hybrid image that boots Linux by GRUB, under a BIOS and under UEFI, from a CD and from a disk.
pub fn grub_hybrid(folder: &Path) -> Option<PathBuf> {
    let root = folder.join("hybrid");
    let boot = root.join("boot/grub");
    fs::create_dir_all(&boot).expect("a temporary folder");
    for (artifact, name) in [(&KERNEL_CLOUD_AMD64, "vmlinuz"), (&INITRAMFS_AMD64, "initrd.gz")] {
        fs::write(root.join(name), bytes(artifact)?).expect("room");
    }
    let configuration = "serial --unit=0\nterminal_output serial console\nset timeout=0\n\
        linux /vmlinuz console=ttyS0\ninitrd /initrd.gz\nboot\n";
    fs::write(boot.join("grub.cfg"), configuration).expect("room");
    for platform in ["i386-pc", "x86_64-efi"] {
        if !Path::new("/usr/lib/grub").join(platform).is_dir() {
            guests::skip("grub-mkrescue", &format!("GRUB for {platform} is not installed on this host"));
            return None;
        }
    }
    let image = folder.join("hybrid.iso");
    tool("grub-mkrescue", &["-o", text(&image), text(&root)])?;
    Some(image)
}

/// A CD that boots Linux by ISOLINUX.
pub fn isolinux_cd(folder: &Path) -> Option<PathBuf> {
    let root = folder.join("cd");
    fs::create_dir(&root).expect("a temporary folder");
    for (artifact, name) in [
        (&KERNEL_CLOUD_AMD64, "vmlinuz"),
        (&INITRAMFS_AMD64, "initrd.gz"),
        (&ISOLINUX, "isolinux.bin"),
        (&LDLINUX, "ldlinux.c32"),
    ] {
        fs::write(root.join(name), bytes(artifact)?).expect("room");
    }
    fs::write(root.join("isolinux.cfg"), CONFIGURATION).expect("room");
    let cd = folder.join("isolinux.iso");
    tool(
        "xorriso",
        &[
            "-as",
            "mkisofs",
            "-quiet",
            "-o",
            text(&cd),
            "-b",
            "isolinux.bin",
            "-c",
            "boot.cat",
            "-no-emul-boot",
            "-boot-load-size",
            "4",
            "-boot-info-table",
            text(&root),
        ],
    )?;
    Some(cd)
}
