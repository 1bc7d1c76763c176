//! UEFI firmware (OVMF), unmodified: from a ROM and from flash, to its shell, and to Linux by GRUB.

use std::path::{Path, PathBuf};

use devices::pc::BoardKind;
use emulator::config::MachineConfig;
use emulator::guests::{self, Artifact, OVMF_CODE, OVMF_ROM, OVMF_SMM_CODE, OVMF_VARS};
use emulator::storage::DriveConfig;
use jit::TierPolicy;
use tests::harness::media::grub_hybrid;
use tests::harness::pc::{Pc, cd, configuration, flash, hard_disk};

use crate::firmware::linux_boots;

const RAM: u64 = 256 << 20;

/// Firmware and a copy of its variables that is kept, in flash.
fn chips(folder: &Path) -> Option<Vec<DriveConfig>> {
    chips_with(&OVMF_CODE, folder)
}

fn chips_with(code: &Artifact, folder: &Path) -> Option<Vec<DriveConfig>> {
    let (code, vars) = (guests::for_test(code)?, guests::for_test(&OVMF_VARS)?);
    let copy: PathBuf = folder.join("vars.fd");
    std::fs::copy(vars, &copy).expect("room for a copy");
    Some(vec![flash(&code, 0, false), flash(&copy, 1, true)])
}

fn start(drives: Vec<DriveConfig>) -> Pc {
    Pc::power_on(&MachineConfig { drives, no_reboot: false, ..configuration(RAM) }, TierPolicy::Auto)
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn from_a_rom_to_its_shell() {
    let Some(rom) = guests::for_test(&OVMF_ROM) else { return };
    let mut pc = Pc::power_on(&MachineConfig { bios: Some(rom), ..configuration(RAM) }, TierPolicy::Auto);
    pc.until_serial("Shell>", 120);
    assert!(pc.serial.shows("UEFI v2.70"), "{}", pc.serial.tail(2000));
    // The display has the shell too: a graphics mode with light on dark.
    let picture = pc.machine.picture().expect("a display");
    assert!(picture.width >= 640 && picture.rgb.iter().filter(|part| **part > 100).count() > 1000);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn from_flash_to_its_shell_on_q35() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(drives) = chips(folder.path()) else { return };
    let board = BoardKind::Q35;
    let mut pc = Pc::power_on(&MachineConfig { drives, board, ..configuration(RAM) }, TierPolicy::Auto);
    pc.until_serial("Shell>", 120);
    // The host bridge, by configuration space in memory.
    pc.type_serial("pci 0 0 0\r", "86 80 C0 29", 60);
}

/// A build whose variables are kept by code in system management mode, with its memory at the end of RAM.
#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn with_smm_to_its_shell_on_q35() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(drives) = chips_with(&OVMF_SMM_CODE, folder.path()) else { return };
    let config = MachineConfig { drives, board: BoardKind::Q35, no_reboot: false, ..configuration(RAM) };
    let mut pc = Pc::power_on(&config, TierPolicy::Auto);
    pc.until_serial("Shell>", 120);
    // SMRAM is enabled and locked, and there is a TSEG of the large size.
    pc.type_serial("mm 9d -w 1 -pci -n\r", "0x1A", 60);
    pc.type_serial("mm 9e -w 1 -pci -n\r", "0x3F", 60);
    pc.type_serial("alias keepit \"echo 42\"\r", "Shell>", 60);
    pc.type_serial("reset\r", "Press", 120);
    pc.until_serial("Shell>", 120);
    pc.type_serial("alias keepit\r", "echo 42", 60);
}

/// What the shell stores in a variable is in the file, and there after the next start.
#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn variables_in_flash_outlive_the_machine() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(drives) = chips(folder.path()) else { return };
    let mut pc = start(drives.clone());
    pc.until_serial("Shell>", 120);
    // The shell stores an alias in a variable of its own.
    pc.type_serial("alias keepit \"echo 42\"\r", "Shell>", 60);
    // By way of a reset, which flash survives as well.
    pc.type_serial("reset\r", "Press", 120);
    pc.until_serial("Shell>", 120);
    pc.type_serial("alias keepit\r", "echo 42", 60);
    pc.machine.devices().flush_disks().expect("the file can be written");
    drop(pc);
    let vars = std::fs::read(folder.path().join("vars.fd")).expect("the file of the variables");
    let name: Vec<u8> = "keepit".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(vars.windows(name.len()).any(|part| part == name), "no variable in the file");
    let mut pc = start(drives);
    pc.until_serial("Shell>", 120);
    pc.type_serial("alias keepit\r", "echo 42", 60);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_hybrid_image_by_grub() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(image) = grub_hybrid(folder.path()) else { return };
    for drive in [cd(&image), hard_disk(&image, false)] {
        // New variables each time: the boot order in the old ones has the shell before a new disk.
        let Some(drives) = chips(folder.path()) else { return };
        let mut pc = start([drives, vec![drive]].concat());
        pc.until_serial("efi: EFI v2.70 by", 120);
        linux_boots(pc);
    }
}
