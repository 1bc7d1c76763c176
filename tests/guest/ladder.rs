//! Other firmware and other kernels that packages hold, unmodified.

use std::io::Read;
use std::path::{Path, PathBuf};

use emulator::config::MachineConfig;
use emulator::guests::{
    self, Artifact, GNU_MACH, GRUB_FIRMWARE, GRUB_INVADERS, INITRAMFS_AMD64, INSTALLER_INITRD,
    INSTALLER_KERNEL, IPXE_CD, IPXE_LKRN, KERNEL_AMD64, KERNEL_CLOUD_AMD64, LINUXBOOT, QBOOT, SEABIOS,
    U_BOOT_X64, U_BOOT_X86, XEN,
};
use jit::TierPolicy;
use tests::harness::media::grub_hybrid;
use tests::harness::pc::{Pc, cd, configuration, hard_disk};

use crate::firmware::linux_boots;

const RAM: u64 = 128 << 20;

fn path(artifact: &Artifact) -> Option<PathBuf> {
    guests::for_test(artifact)
}

fn start(config: &MachineConfig) -> Pc {
    Pc::power_on(config, TierPolicy::Auto)
}

/// The contents of a compressed guest, in a file.
fn unpacked(artifact: &Artifact, folder: &Path) -> Option<PathBuf> {
    let file = std::fs::File::open(path(artifact)?).expect("the cache can be read");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    let out = folder.join(artifact.name.trim_end_matches(".gz"));
    std::fs::write(&out, bytes).expect("room");
    Some(out)
}

/// A PC with Linux and its initramfs for firmware that starts a kernel.
fn with_linux(bios: PathBuf) -> Option<MachineConfig> {
    let (kernel, initrd) = (path(&KERNEL_CLOUD_AMD64)?, path(&INITRAMFS_AMD64)?);
    Some(MachineConfig {
        bios: Some(bios),
        kernel: Some(kernel),
        initrd: Some(initrd.to_str()?.into()),
        append: "console=ttyS0".into(),
        ..configuration(2 * RAM)
    })
}

#[test]
fn qboot_starts_linux() {
    let Some(config) = path(&QBOOT).and_then(with_linux) else { return };
    linux_boots(start(&config));
}

#[test]
fn seabios_starts_linux_by_an_option_rom() {
    let (Some(rom), Some(_)) = (path(&SEABIOS), path(&LINUXBOOT)) else { return };
    let Some(config) = with_linux(rom) else { return };
    linux_boots(start(&config));
}

/// As U-Boot has it, the VGA BIOS runs with segment limits of 64 KiB, which it does not keep to: the 32-bit ROM works
/// without a display only (on processors too; QEMU does not check the limits).
#[test]
fn u_boot_reaches_its_prompt() {
    for (rom, vga) in [(&U_BOOT_X86, Some(false)), (&U_BOOT_X64, None)] {
        let Some(rom) = path(rom) else { continue };
        let mut pc = start(&MachineConfig { bios: Some(rom), vga, ..configuration(2 * RAM) });
        pc.until_serial("Hit any key to stop autoboot", 60);
        pc.type_serial("\r", "=> ", 60);
        pc.type_serial("pci\r", "00.01.03   0x8086     0x7113", 60);
        pc.type_serial("echo $arch\r", "\nx86\r\n", 60);
    }
}

#[test]
fn grub_is_firmware() {
    let Some(rom) = path(&GRUB_FIRMWARE) else { return };
    let mut pc = start(&MachineConfig { bios: Some(rom), ..configuration(RAM) });
    pc.until_screen("Search & load", 60);
    pc.type_keys("c");
    pc.until_screen("grub>", 60);
    pc.type_keys("echo hi $grub_platform\n");
    pc.until_screen("hi qemu", 60);
}

#[test]
fn gnu_mach_misses_its_servers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(kernel) = unpacked(&GNU_MACH, folder.path()) else { return };
    let append = "console=com0".into();
    let mut pc = start(&MachineConfig { kernel: Some(kernel), append, ..configuration(RAM) });
    pc.until_serial("No bootstrap code loaded with the kernel", 30);
    assert!(pc.serial.shows("RTC time is 2023-11-14 22:13:"), "{}", pc.serial.tail(2000));
}

#[test]
fn grub_invaders_draws_itself() {
    let Some(kernel) = path(&GRUB_INVADERS) else { return };
    let mut pc = start(&MachineConfig { kernel: Some(kernel), vga: Some(true), ..configuration(RAM) });
    // A row of them.
    pc.until_screen("-*-    -*-    -*-", 30);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn ipxe_looks_for_a_network() {
    let (Some(rom), Some(_)) = (path(&SEABIOS), path(&LINUXBOOT)) else { return };
    let (Some(iso), Some(lkrn)) = (path(&IPXE_CD), path(&IPXE_LKRN)) else { return };
    let plain = || MachineConfig { bios: Some(rom.clone()), ..configuration(RAM) };
    for config in
        [MachineConfig { drives: vec![cd(&iso)], ..plain() }, MachineConfig { kernel: Some(lkrn), ..plain() }]
    {
        let mut pc = start(&config);
        pc.until_screen("Open Source Network Boot Firmware", 120);
        pc.until_screen("No more network devices", 120);
    }
    let mut pc = Pc::own_bios(vec![cd(&iso)], "d", RAM, TierPolicy::Auto);
    pc.until_screen("No more network devices", 120);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn the_installer_shows_its_first_dialog() {
    let (Some(kernel), Some(initrd)) = (path(&INSTALLER_KERNEL), path(&INSTALLER_INITRD)) else { return };
    let mut pc = start(&MachineConfig {
        kernel: Some(kernel),
        initrd: initrd.to_str().map(Into::into),
        append: "console=ttyS0".into(),
        ..configuration(4 * RAM)
    });
    // With this much memory it says first that this is little.
    pc.until_serial("Entering low memory mode", 120);
    pc.until_serial("<Continue>", 10);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn xen_starts_linux() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(kernel) = unpacked(&XEN, folder.path()) else { return };
    // The kernel for virtual machines has no driver for Xen's console.
    let (Some(linux), Some(initrd)) = (path(&KERNEL_AMD64), path(&INITRAMFS_AMD64)) else { return };
    let modules = format!("{} console=hvc0,{}", linux.display(), initrd.display());
    let mut pc = start(&MachineConfig {
        kernel: Some(kernel),
        initrd: Some(modules),
        append: "com1=115200,8n1 console=com1".into(),
        ..configuration(4 * RAM)
    });
    pc.until_serial("Xen version", 60);
    pc.until_serial("RETRO-BOOT-OK", 120);
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn linux_from_a_hybrid_image_by_grub() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(image) = grub_hybrid(folder.path()) else { return };
    linux_boots(Pc::own_bios(vec![cd(&image)], "d", 2 * RAM, TierPolicy::Auto));
    linux_boots(Pc::own_bios(vec![hard_disk(&image, false)], "c", 2 * RAM, TierPolicy::Auto));
    for (drive, order) in [(cd(&image), "d"), (hard_disk(&image, false), "c")] {
        let Some(pc) = Pc::seabios(vec![drive], order, 2 * RAM, TierPolicy::Auto) else { return };
        linux_boots(pc);
    }
}
