//! Our BIOS in QEMU: proof that it is firmware, which knows no more about its board than the board tells.
//!
//! Where `qemu-system-x86_64` is not installed, or the package with an image is not, the test says so and passes.

// The ROM is the same on every host: one of them suffices.
#![cfg(target_arch = "x86_64")]

mod machine;
mod services;

use machine::{Qemu, image};

/// Debian package grub-rescue-pc.
const GRUB: &str = "/usr/lib/grub-rescue";

#[test]
fn without_a_medium_the_monitor_starts_and_lists_what_there_is() {
    let Some(mut qemu) = Qemu::start(&["-m", "64"]) else { return };
    let screen = qemu.wait_for("monitor. h lists its commands");
    assert!(screen.contains("Retrograde BIOS"), "{screen}");
    assert!(screen.contains("Memory: 65536 KiB"), "{screen}");
    assert!(screen.contains("no disc in the drive"), "{screen}");
    qemu.keys(&["p", "ret"]);
    let screen = qemu.wait_for("8086:7000");
    assert!(screen.contains("00:00.0 8086:1237"), "{screen}");
    qemu.keys(&["d", "spc", "f", "f", "f", "f", "0", "ret"]);
    qemu.wait_for("000FFFF0  EA 5B E0 00 F0");
}

#[test]
fn grub_comes_up_from_a_diskette() {
    let Some(file) = image(GRUB, "grub-rescue-floppy.img") else { return };
    let drive = format!("file={file},if=floppy,format=raw,snapshot=on");
    let Some(mut qemu) = Qemu::start(&["-m", "64", "-drive", &drive]) else { return };
    qemu.wait_for("GNU GRUB");
    qemu.wait_for("Memtest86+");
    // Its command line, by keys: the keyboard and the disk services work.
    qemu.keys(&["c"]);
    qemu.wait_for("grub>");
    qemu.keys(&["l", "s", "ret"]);
    qemu.wait_for("(fd0)");
}

#[test]
fn grub_comes_up_from_a_cd() {
    let Some(file) = image(GRUB, "grub-rescue-cdrom.iso") else { return };
    let Some(mut qemu) = Qemu::start(&["-m", "64", "-cdrom", &file]) else { return };
    qemu.wait_for("GNU GRUB");
    qemu.keys(&["c"]);
    qemu.wait_for("grub>");
}

#[test]
fn memtest_tests_memory_from_its_cd() {
    let Some(file) = image("/usr/lib/memtest86+", "memtest86+x64.iso") else { return };
    let Some(mut qemu) = Qemu::start(&["-m", "32", "-cdrom", &file]) else { return };
    qemu.wait_for("Testing");
}

#[test]
fn the_serial_line_is_the_console_without_a_display() {
    let Some(mut qemu) = Qemu::start(&["-m", "64", "-vga", "none"]) else { return };
    let text = qemu.wait_for_serial("> ");
    assert!(text.contains("Retrograde BIOS"), "{text}");
    qemu.type_serial("m\r");
    qemu.wait_for_serial("0000000000000000 000000000009E000 1");
    qemu.wait_for_serial("0000000000100000 ");
}

/// A Q35 board: its drives are at an AHCI controller.
#[test]
fn grub_comes_up_from_a_cd_of_a_q35() {
    let Some(file) = image(GRUB, "grub-rescue-cdrom.iso") else { return };
    let Some(mut qemu) = Qemu::start(&["-M", "q35", "-m", "64", "-cdrom", &file]) else { return };
    qemu.wait_for("GNU GRUB");
    qemu.keys(&["c"]);
    qemu.wait_for("grub>");
}

#[test]
fn grub_comes_up_from_a_disk_of_a_q35() {
    let Some(file) = image(GRUB, "grub-rescue-usb.img") else { return };
    let drive = format!("file={file},format=raw,snapshot=on");
    let Some(mut qemu) = Qemu::start(&["-M", "q35", "-m", "64", "-drive", &drive]) else { return };
    qemu.wait_for("GNU GRUB");
    qemu.keys(&["c"]);
    qemu.wait_for("grub>");
    qemu.keys(&["l", "s", "ret"]);
    qemu.wait_for("(hd0");
}
