//! SeaBIOS, unmodified, and what it boots: from floppies, CDs and disks.

use std::path::Path;

use emulator::config::MachineConfig;
use emulator::guests::{self, GRUB_CD, GRUB_FLOPPY, MEMTEST_CD};
use emulator::storage::{BootOrder, DeviceKind, DriveConfig, Interface, Media, PluggedDevice};
use jit::TierPolicy;
use tests::harness::media::{isolinux_cd, syslinux_disk};
use tests::harness::pc::{Pc, cd, configuration, drive, floppy, hard_disk};

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

/// An image of a Debian system with a serial console and root without a password, for the test below.
const DEBIAN_DISK: &str = "RETROGRADE_DEBIAN_DISK";

/// How the Debian disk is connected: firmware (`None`: our own), interface or device, and what Linux calls it.
struct Connection {
    seabios: bool,
    interface: Interface,
    device: Option<DeviceKind>,
    name: &'static str,
}

fn power_on_debian(image: &Path, connection: &Connection) -> Option<Pc> {
    let bios = if connection.seabios {
        guests::for_test(&guests::VGA_BIOS)?;
        guests::for_test(&guests::SEABIOS)?
    } else {
        "builtin".into()
    };
    let drive = drive(image, connection.interface, Media::Disk, 0, true);
    let device = connection.device.map(|kind| PluggedDevice {
        option: "-device".into(),
        kind,
        id: None,
        drive: Some("disk".into()),
        bus: None,
        address: None,
        serial: None,
    });
    let config = MachineConfig {
        bios: Some(bios),
        drives: vec![DriveConfig { id: Some("disk".into()), ..drive }],
        devices: device.into_iter().collect(),
        boot: BootOrder { order: "c".into(), menu: false },
        no_reboot: false,
        ..configuration(8 * RAM)
    };
    Some(Pc::power_on(&config, TierPolicy::Auto))
}

/// Seconds for a line that is typed. Characters come by instruction count, and a guest that idles executes few.
const TYPING: u64 = 3600;

/// Log in, write a file, switch off; the next boot finds it.
fn keeps_what_is_written(connection: &Connection) {
    let Some(image) = std::env::var_os(DEBIAN_DISK) else {
        return guests::skip("a Debian disk", &format!("{DEBIAN_DISK} names no image"));
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("debian.img");
    std::fs::copy(image, &copy).expect("room for a copy");
    let boot = || {
        let mut pc = power_on_debian(&copy, connection)?;
        pc.until_serial(" login:", 900);
        pc.type_serial("root\n", ":~# ", TYPING);
        Some(pc)
    };
    let off = |pc: &mut Pc| {
        pc.type_serial("systemctl poweroff\n", "reboot: Power down", TYPING);
        pc.until_off(60);
        pc.machine.devices().flush_disks().expect("the image can be written");
    };
    let Some(mut pc) = boot() else { return };
    pc.type_serial("echo $((6*7)) kept > /root/note; sync; ls /sys/block\n", connection.name, TYPING);
    off(&mut pc);
    drop(pc);
    let Some(mut pc) = boot() else { return };
    pc.type_serial("cat /root/note\n", "42 kept", TYPING);
    off(&mut pc);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn a_debian_disk_keeps_what_is_written() {
    let ide = Connection { seabios: true, interface: Interface::Ide, device: None, name: "sda" };
    keeps_what_is_written(&ide);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn a_debian_disk_on_virtio_keeps_what_is_written() {
    for seabios in [true, false] {
        let virtio = Connection { seabios, interface: Interface::Virtio, device: None, name: "vda" };
        keeps_what_is_written(&virtio);
    }
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn a_debian_disk_on_nvme_keeps_what_is_written() {
    let device = Some(DeviceKind::Nvme);
    let nvme = Connection { seabios: true, interface: Interface::None, device, name: "nvme0n1" };
    keeps_what_is_written(&nvme);
}
