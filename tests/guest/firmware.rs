//! SeaBIOS, unmodified, and what it boots: from floppies, CDs and disks.

use emulator::guests::{self, GRUB_CD, GRUB_FLOPPY, MEMTEST_CD};
use jit::TierPolicy;
use tests::harness::media::{isolinux_cd, syslinux_disk};
use tests::harness::pc::{Pc, cd, floppy, hard_disk};

const RAM: u64 = 64 << 20;

#[test]
fn without_a_disk_it_says_so() {
    let Some(mut pc) = Pc::seabios(Vec::new(), "cad", RAM, TierPolicy::Auto) else { return };
    pc.until_screen("No bootable device.", 120);
    let text = pc.text();
    assert!(text.contains("SeaBIOS (version"), "{text}");
    // The picture shows it too: more than one colour, and light on dark.
    let picture = pc.machine.picture().expect("a display");
    assert_eq!((picture.width, picture.height), (720, 400));
    let light = picture.rgb.iter().filter(|part| **part > 100).count();
    assert!(light > 1000 && light < picture.rgb.len() / 4, "{light}");
}

/// The rescue media have a menu, from which "c" leads to the command line.
pub fn to_grubs_prompt(pc: &mut Pc) {
    let parts = ["GNU GRUB  version", "GNU/Linux", "Memtest86+", "executed automatically"];
    pc.until("menu", 300, |pc| {
        let text = pc.text();
        parts.iter().all(|part| text.contains(part))
    });
    pc.type_keys("c");
    pc.until_screen("grub>", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn grub_on_a_floppy_takes_commands() {
    let Some(image) = guests::for_test(&GRUB_FLOPPY) else { return };
    let Some(mut pc) = Pc::seabios(vec![floppy(&image)], "a", RAM, TierPolicy::Auto) else { return };
    to_grubs_prompt(&mut pc);
    pc.type_keys("echo hi $grub_platform\n");
    pc.until_screen("hi pc", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn grub_on_a_cd_takes_commands() {
    let Some(image) = guests::for_test(&GRUB_CD) else { return };
    let Some(mut pc) = Pc::seabios(vec![cd(&image)], "d", RAM, TierPolicy::Auto) else { return };
    to_grubs_prompt(&mut pc);
    pc.type_keys("ls\n");
    pc.until_screen("(cd)", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn memtest_on_a_cd_tests() {
    let Some(image) = guests::for_test(&MEMTEST_CD) else { return };
    let Some(mut pc) = Pc::seabios(vec![cd(&image)], "d", RAM, TierPolicy::Auto) else { return };
    pc.until("memtest's test", 300, |pc| {
        let text = pc.text();
        text.contains("Memtest86+ v") && text.contains("Errors: 0") && text.contains("Pass ")
    });
}

/// Linux from a medium that a boot loader of its own reads, to the marker and to power-off.
pub fn linux_boots(mut pc: Pc) {
    pc.until("Linux' marker", 600, |pc| pc.serial.shows("RETRO-BOOT-OK"));
    pc.until_off(60);
    for bad in ["Kernel panic", "BUG:", "Oops", "Call Trace"] {
        assert!(!pc.serial.shows(bad), "{}", pc.serial.tail(4000));
    }
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_fat_disk_by_syslinux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = syslinux_disk(folder.path()) else { return };
    let drives = vec![hard_disk(&disk, false)];
    let Some(pc) = Pc::seabios(drives, "c", 4 * RAM, TierPolicy::Auto) else { return };
    linux_boots(pc);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_cd_by_isolinux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = isolinux_cd(folder.path()) else { return };
    let Some(pc) = Pc::seabios(vec![cd(&disk)], "d", 4 * RAM, TierPolicy::Auto) else { return };
    linux_boots(pc);
}
