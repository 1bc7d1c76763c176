//! Our own BIOS on our own board: the monitor, and the same media that SeaBIOS boots. (`bios/tests` has it in QEMU.)

use std::path::Path;

use emulator::config::MachineConfig;
use emulator::guests::{self, GRUB_CD, GRUB_FLOPPY, MEMTEST_CD, SEABIOS, VGA_BIOS};
use emulator::storage::{DeviceKind, DriveConfig, Interface, Media, PluggedDevice};
use jit::TierPolicy;
use tests::harness::media::{isolinux_cd, syslinux_disk};
use tests::harness::pc::{Pc, cd, configuration, drive, floppy, hard_disk};
use x86::model::Topology;

use crate::firmware::{linux_boots, to_grubs_prompt};

const RAM: u64 = 64 << 20;

fn without_drives(tier: TierPolicy) -> Pc {
    Pc::own_bios(Vec::new(), "cad", RAM, tier)
}

#[test]
fn the_monitor_shows_the_machine() {
    for tier in [TierPolicy::Zero, TierPolicy::One] {
        let mut pc = without_drives(tier);
        pc.until_screen("This is the monitor", 30);
        let text = pc.text();
        assert!(text.contains("Memory: 65536 KiB"), "{text}");
        pc.type_keys("p\n");
        pc.until_screen("00:00.0 8086:1237 class 0600", 10);
        // The area of the ROM is RAM now, with the same contents.
        pc.type_keys("d ffff0\n");
        pc.until_screen("000FFFF0  EA 5B E0 00 F0", 10);
        pc.type_keys("m\n");
        pc.until_screen("0000000000000000 000000000009E000 1", 10);
        // The power button's way off.
        pc.type_keys("q\n");
        pc.until_off(10);
    }
}

/// Every processor has the first one's memory types, and waits for a start-up IPI.
#[test]
fn all_processors_have_the_same_memory_types() {
    let bios = Some("builtin".into());
    let topology = Topology::cores(3);
    let config = MachineConfig { bios, topology, ..configuration(RAM) };
    let mut pc = Pc::power_on(&config, TierPolicy::Auto);
    pc.until_screen("This is the monitor", 30);
    let types = |pc: &mut Pc, index: usize| {
        let st = &pc.machine.vcpu(index).expect("a processor").st;
        let msr = &st.msr;
        (msr.mtrr_def_type, msr.mtrr_fixed, msr.mtrr_var, st.wait_sipi)
    };
    let first = types(&mut pc, 0);
    assert_eq!((first.0, first.3), (0xc06, false));
    for index in 1..3 {
        assert_eq!(types(&mut pc, index), (first.0, first.1, first.2, true), "processor {index}");
    }
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn grub_on_a_floppy_takes_commands() {
    let Some(image) = guests::for_test(&GRUB_FLOPPY) else { return };
    let mut pc = Pc::own_bios(vec![floppy(&image)], "a", RAM, TierPolicy::Auto);
    to_grubs_prompt(&mut pc);
    pc.type_keys("echo hi $grub_platform\n");
    pc.until_screen("hi pc", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn grub_on_a_cd_takes_commands() {
    let Some(image) = guests::for_test(&GRUB_CD) else { return };
    let mut pc = Pc::own_bios(vec![cd(&image)], "d", RAM, TierPolicy::Auto);
    to_grubs_prompt(&mut pc);
    pc.type_keys("ls\n");
    pc.until_screen("(cd)", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn memtest_on_a_cd_tests() {
    let Some(image) = guests::for_test(&MEMTEST_CD) else { return };
    let mut pc = Pc::own_bios(vec![cd(&image)], "d", RAM, TierPolicy::Auto);
    pc.until("memtest's test", 300, |pc| {
        let text = pc.text();
        text.contains("Memtest86+ v") && text.contains("Errors: 0") && text.contains("Pass ")
    });
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_fat_disk_by_syslinux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = syslinux_disk(folder.path()) else { return };
    linux_boots(Pc::own_bios(vec![hard_disk(&disk, false)], "c", 4 * RAM, TierPolicy::Auto));
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_virtio_disk_by_syslinux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = syslinux_disk(folder.path()) else { return };
    let disk = drive(&disk, Interface::Virtio, Media::Disk, 0, false);
    linux_boots(Pc::own_bios(vec![disk], "c", 4 * RAM, TierPolicy::Auto));
}

/// A drive of that name, and a card or a place for it.
fn plugged(disk: &Path, id: &str, kind: DeviceKind, boot_index: Option<u32>) -> (DriveConfig, PluggedDevice) {
    let drive = DriveConfig { id: Some(id.into()), ..drive(disk, Interface::None, Media::Disk, 0, false) };
    let device = PluggedDevice {
        option: "-device".into(),
        kind,
        id: None,
        drive: Some(id.into()),
        bus: None,
        address: None,
        serial: None,
        boot_index,
    };
    (drive, device)
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_an_nvme_disk_by_syslinux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = syslinux_disk(folder.path()) else { return };
    let (drive, nvme) = plugged(&disk, "d", DeviceKind::Nvme, None);
    let config = MachineConfig {
        bios: Some("builtin".into()),
        drives: vec![drive],
        devices: vec![nvme],
        ..configuration(4 * RAM)
    };
    linux_boots(Pc::power_on(&config, TierPolicy::Auto));
}

/// A boot sector that writes a letter to the first serial port, and halts.
fn boots_with(folder: &Path, letter: char) -> std::path::PathBuf {
    let mut disk = vec![0; 1 << 20];
    // MOV DX, 3F8h; MOV AL, letter; OUT DX, AL; HLT; JMP to the HLT
    disk[..9].copy_from_slice(&[0xba, 0xf8, 0x03, 0xb0, letter as u8, 0xee, 0xf4, 0xeb, 0xfd]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = folder.join(format!("{letter}.img"));
    std::fs::write(&path, disk).expect("room for it");
    path
}

#[test]
fn a_disk_with_a_boot_index_is_booted_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bioses =
        [Some("builtin".into()), guests::for_test(&VGA_BIOS).and_then(|_| guests::for_test(&SEABIOS))];
    let kinds = [DeviceKind::AtaDisk, DeviceKind::VirtioBlk, DeviceKind::Nvme];
    for bios in bioses.into_iter().flatten() {
        for first in 0..kinds.len() {
            let plugs = kinds.iter().zip("ABC".chars()).enumerate().map(|(n, (kind, letter))| {
                // One has no rank, and comes last.
                let rank = [Some(1), Some(2), None][(n + kinds.len() - first) % kinds.len()];
                plugged(&boots_with(folder.path(), letter), &letter.to_string(), *kind, rank)
            });
            let (drives, devices) = plugs.unzip();
            let config = MachineConfig { bios: Some(bios.clone()), drives, devices, ..configuration(RAM) };
            Pc::power_on(&config, TierPolicy::Auto).until_serial(["A", "B", "C"][first], 30);
        }
    }
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_cd_by_isolinux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = isolinux_cd(folder.path()) else { return };
    linux_boots(Pc::own_bios(vec![cd(&disk)], "d", 4 * RAM, TierPolicy::Auto));
}
