//! Whole Debian systems on a disk, under SeaBIOS and under our own BIOS: log in, write a file, switch off; the next boot finds
//! it, and the file system is clean.

use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::guests;
use emulator::storage::DriveConfig;
use jit::TierPolicy;
use tests::harness::pc::{Pc, hard_disk};

/// Images with a serial console, root without a password, and an ext4 root file system that begins at 1 MiB.
const AMD64: &str = "RETROGRADE_DEBIAN_DISK";
const I386: &str = "RETROGRADE_DEBIAN_DISK_I386";

const RAM: u64 = 512 << 20;

/// A copy of the image that the environment names.
fn copy(variable: &str, folder: &Path) -> Option<PathBuf> {
    let Some(image) = std::env::var_os(variable) else {
        guests::skip("a Debian disk", &format!("{variable} names no image"));
        return None;
    };
    let copy = folder.join("debian.img");
    std::fs::copy(image, &copy).expect("room for a copy");
    Some(copy)
}

fn seabios(drive: DriveConfig) -> Option<Pc> {
    Pc::seabios(vec![drive], "c", RAM, TierPolicy::Auto)
}

fn own_bios(drive: DriveConfig) -> Option<Pc> {
    Some(Pc::own_bios(vec![drive], "c", RAM, TierPolicy::Auto))
}

fn keeps_what_is_written(variable: &str, power_on: fn(DriveConfig) -> Option<Pc>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = copy(variable, folder.path()) else { return };
    for (command, answer) in
        [("echo $((6*7)) kept > /root/note; sync; ls /sys/block\n", "sda"), ("cat /root/note\n", "42 kept")]
    {
        let Some(mut pc) = power_on(hard_disk(&disk, true)) else { return };
        pc.until_serial(" login:", 900);
        pc.type_serial("root\n", ":~# ", 120);
        pc.type_serial(command, answer, 60);
        pc.type_serial("systemctl poweroff\n", "reboot: Power down", 300);
        pc.until_off(60);
        pc.machine.devices().flush_disks().expect("the image can be written");
        drop(pc);
        file_system_is_clean(&disk);
    }
}

fn file_system_is_clean(disk: &Path) {
    let mut partition = disk.as_os_str().to_owned();
    partition.push("?offset=1048576");
    match Command::new("e2fsck").arg("-fn").arg(partition).output() {
        Ok(check) => assert!(check.status.success(), "{check:?}"),
        Err(error) => guests::skip("e2fsck", &format!("cannot be run on this host: {error}")),
    }
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_amd64_under_seabios() {
    keeps_what_is_written(AMD64, seabios);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_amd64_under_our_bios() {
    keeps_what_is_written(AMD64, own_bios);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_i386_under_seabios() {
    keeps_what_is_written(I386, seabios);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_i386_under_our_bios() {
    keeps_what_is_written(I386, own_bios);
}
