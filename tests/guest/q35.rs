//! The Q35 board: kernels started directly, and firmware that boots disks and CDs at its AHCI controller.

use emulator::config::BoardKind;
use emulator::guests::{self, GRUB_CD, INITRAMFS_AMD64, KERNEL_AMD64};
use jit::TierPolicy;
use tests::harness::boot::Guest;
use tests::harness::media::{isolinux_cd, syslinux_disk};
use tests::harness::pc::{Pc, cd, hard_disk};

use crate::debian::{boot, reaches_the_marker};
use crate::firmware::{linux_boots, to_grubs_prompt};

const RAM: u64 = 64 << 20;

/// What is at which place, by our BIOS's monitor: the numbers are those that QEMU's board shows.
#[test]
fn the_monitor_shows_the_board() {
    let mut pc = Pc::own_bios_on(BoardKind::Q35, Vec::new(), "cad", RAM, TierPolicy::Auto);
    pc.until_screen("This is the monitor", 30);
    pc.type_keys("p\n");
    for function in [
        "00:00.0 8086:29C0 class 0600",
        "00:01.0 1234:1111 class 0300",
        "00:1F.0 8086:2918 class 0601",
        "00:1F.2 8086:2922 class 0106",
        "00:1F.3 8086:2930 class 0C05",
    ] {
        pc.until("the list", 10, |pc| pc.text().to_uppercase().contains(&function.to_uppercase()));
    }
    pc.type_keys("m\n");
    pc.until_screen("00000000B0000000 0000000010000000 2", 10);
    pc.type_keys("q\n");
    pc.until_off(10);
}

/// Configuration space in memory, by MCFG, and power-off by the ICH9's registers.
#[test]
fn the_general_kernel_boots() {
    let Some(guest) = Guest::linux(&KERNEL_AMD64, &INITRAMFS_AMD64, "console=ttyS0") else { return };
    let booted = boot(&guest.on(BoardKind::Q35), TierPolicy::Auto);
    reaches_the_marker(&booted);
    assert!(booted.1.shows("MMCONFIG at [mem 0xb0000000-0xbfffffff] reserved"), "{}", booted.1.tail(9000));
    assert!(booted.1.shows("[8086:2918]"), "{}", booted.1.tail(9000));
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn our_bios_boots_linux_from_a_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = syslinux_disk(folder.path()) else { return };
    let drives = vec![hard_disk(&disk, false)];
    linux_boots(Pc::own_bios_on(BoardKind::Q35, drives, "c", 4 * RAM, TierPolicy::Auto));
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn our_bios_boots_linux_from_a_cd() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = isolinux_cd(folder.path()) else { return };
    linux_boots(Pc::own_bios_on(BoardKind::Q35, vec![cd(&disk)], "d", 4 * RAM, TierPolicy::Auto));
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn our_bios_boots_grub_from_a_cd() {
    let Some(image) = guests::for_test(&GRUB_CD) else { return };
    let mut pc = Pc::own_bios_on(BoardKind::Q35, vec![cd(&image)], "d", RAM, TierPolicy::Auto);
    to_grubs_prompt(&mut pc);
    pc.type_keys("ls\n");
    pc.until_screen("(cd)", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn seabios_boots_linux_from_a_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = syslinux_disk(folder.path()) else { return };
    let drives = vec![hard_disk(&disk, false)];
    let Some(pc) = Pc::seabios_on(BoardKind::Q35, drives, "c", 4 * RAM, TierPolicy::Auto) else { return };
    linux_boots(pc);
}
