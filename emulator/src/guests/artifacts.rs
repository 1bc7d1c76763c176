//! What there is: kernels, firmware, boot media, each a file of a package.

use super::{Artifact, MemberPath, Origin, Package, Request};

const fn kernel(name: &'static str, package: &'static str, arch: &'static str) -> Artifact {
    let path = MemberPath { folders: &["boot"], name: "vmlinuz-", open_end: true };
    let request = Request { package: Package { name: package, arch }, through: &["linux-image-"] };
    Artifact { name, origin: Origin::Member { request, path } }
}

const fn member(
    name: &'static str,
    package: &'static str,
    arch: &'static str,
    folders: &'static [&'static str],
    file: &'static str,
) -> Artifact {
    let path = MemberPath { folders, name: file, open_end: false };
    let request = Request { package: Package { name: package, arch }, through: &[] };
    Artifact { name, origin: Origin::Member { request, path } }
}

/// Debian's kernel for virtual machines, x86-64.
pub static KERNEL_CLOUD_AMD64: Artifact = kernel("vmlinuz-cloud-amd64", "linux-image-cloud-amd64", "amd64");
/// Debian's general x86-64 kernel.
pub static KERNEL_AMD64: Artifact = kernel("vmlinuz-amd64", "linux-image-amd64", "amd64");
/// Debian's 32-bit kernel with PAE paging.
pub static KERNEL_686_PAE: Artifact = kernel("vmlinuz-686-pae", "linux-image-686-pae", "i386");
/// Debian's 32-bit kernel with two-level paging.
pub static KERNEL_686: Artifact = kernel("vmlinuz-686", "linux-image-686", "i386");
/// A static busybox for x86-64 guests.
pub static BUSYBOX_AMD64: Artifact =
    member("busybox-amd64", "busybox-static", "amd64", &["bin", "usr/bin"], "busybox");
/// A static busybox for 32-bit guests.
pub static BUSYBOX_I386: Artifact =
    member("busybox-i386", "busybox-static", "i386", &["bin", "usr/bin"], "busybox");
/// The initramfs for x86-64 kernels.
pub static INITRAMFS_AMD64: Artifact =
    Artifact { name: "initramfs-amd64.gz", origin: Origin::Initramfs { busybox: &BUSYBOX_AMD64 } };
/// The initramfs for 32-bit kernels.
pub static INITRAMFS_I386: Artifact =
    Artifact { name: "initramfs-i386.gz", origin: Origin::Initramfs { busybox: &BUSYBOX_I386 } };
/// memtest86+, 32-bit, Linux boot protocol.
pub static MEMTEST_IA32: Artifact =
    member("memtest86+ia32.bin", "memtest86+", "amd64", &["boot"], "memtest86+ia32.bin");
/// memtest86+, 64-bit, Linux boot protocol.
pub static MEMTEST_X64: Artifact =
    member("memtest86+x64.bin", "memtest86+", "amd64", &["boot"], "memtest86+x64.bin");

/// SeaBIOS.
pub static SEABIOS: Artifact =
    member("bios-256k.bin", "seabios", "amd64", &["usr/share/seabios"], "bios-256k.bin");
/// SeaBIOS' VGA BIOS for the board's adapter.
pub static VGA_BIOS: Artifact =
    member("vgabios-stdvga.bin", "seabios", "amd64", &["usr/share/seabios"], "vgabios-stdvga.bin");
/// GRUB on a floppy.
pub static GRUB_FLOPPY: Artifact = member(
    "grub-rescue-floppy.img",
    "grub-rescue-pc",
    "amd64",
    &["usr/lib/grub-rescue"],
    "grub-rescue-floppy.img",
);
/// GRUB on a CD.
pub static GRUB_CD: Artifact = member(
    "grub-rescue-cdrom.iso",
    "grub-rescue-pc",
    "amd64",
    &["usr/lib/grub-rescue"],
    "grub-rescue-cdrom.iso",
);
/// ISOLINUX' boot image.
pub static ISOLINUX: Artifact =
    member("isolinux.bin", "isolinux", "amd64", &["usr/lib/ISOLINUX"], "isolinux.bin");
/// The module that SYSLINUX and ISOLINUX load first.
pub static LDLINUX: Artifact =
    member("ldlinux.c32", "syslinux-common", "amd64", &["usr/lib/syslinux/modules/bios"], "ldlinux.c32");
/// A boot sector that starts the active partition.
pub static SYSLINUX_MBR: Artifact =
    member("syslinux-mbr.bin", "syslinux-common", "amd64", &["usr/lib/syslinux/mbr"], "mbr.bin");
/// memtest86+ on a CD.
pub static MEMTEST_CD: Artifact =
    member("memtest86+x64.iso", "memtest86+", "amd64", &["usr/lib/memtest86+"], "memtest86+x64.iso");

/// GRUB Invaders, a game that is a multiboot kernel.
pub static GRUB_INVADERS: Artifact =
    member("invaders.exec", "grub-invaders", "amd64", &["boot"], "invaders.exec");
/// iPXE on a CD.
pub static IPXE_CD: Artifact = member("ipxe.iso", "ipxe", "amd64", &["usr/lib/ipxe"], "ipxe.iso");
/// iPXE as a Linux kernel.
pub static IPXE_LKRN: Artifact = member("ipxe.lkrn", "ipxe", "amd64", &["boot"], "ipxe.lkrn");
/// UEFI firmware: the code, for the first flash chip.
pub static OVMF_CODE: Artifact =
    member("OVMF_CODE_4M.fd", "ovmf", "amd64", &["usr/share/OVMF"], "OVMF_CODE_4M.fd");
/// A build that keeps its variables in system management mode (on a q35).
pub static OVMF_SMM_CODE: Artifact =
    member("OVMF_CODE_4M.secboot.fd", "ovmf", "amd64", &["usr/share/OVMF"], "OVMF_CODE_4M.secboot.fd");
/// The variables of both, for the second.
pub static OVMF_VARS: Artifact =
    member("OVMF_VARS_4M.fd", "ovmf", "amd64", &["usr/share/OVMF"], "OVMF_VARS_4M.fd");
/// Code and variables in one ROM.
pub static OVMF_ROM: Artifact = member("OVMF.fd", "ovmf", "amd64", &["usr/share/ovmf"], "OVMF.fd");
/// Firmware that does nothing but start a Linux kernel.
pub static QBOOT: Artifact =
    member("qboot.rom", "qemu-system-data", "amd64", &["usr/share/qemu"], "qboot.rom");
/// An option ROM with which SeaBIOS starts a Linux kernel.
pub static LINUXBOOT: Artifact =
    member("linuxboot_dma.bin", "qemu-system-data", "amd64", &["usr/share/qemu"], "linuxboot_dma.bin");
/// GRUB as firmware.
pub static GRUB_FIRMWARE: Artifact =
    member("grub-firmware.bin", "grub-firmware-qemu", "amd64", &["usr/share/qemu"], "grub.bin");
/// U-Boot as firmware, 32-bit.
pub static U_BOOT_X86: Artifact =
    member("u-boot-x86.rom", "u-boot-qemu", "amd64", &["usr/lib/u-boot/qemu-x86"], "u-boot.rom");
/// U-Boot as firmware, 64-bit.
pub static U_BOOT_X64: Artifact =
    member("u-boot-x86_64.rom", "u-boot-qemu", "amd64", &["usr/lib/u-boot/qemu-x86_64"], "u-boot.rom");
/// GNU Mach, a multiboot kernel, compressed.
pub static GNU_MACH: Artifact =
    member("gnumach-i386.gz", "gnumach-image-1.8-486", "i386", &["boot"], "gnumach-1.8-486.gz");
const INSTALLER: &[&str] = &["usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"];
/// The kernel of Debian's installer.
pub static INSTALLER_KERNEL: Artifact =
    member("installer-linux", "debian-installer-12-netboot-amd64", "amd64", INSTALLER, "linux");
/// Its initrd.
pub static INSTALLER_INITRD: Artifact =
    member("installer-initrd.gz", "debian-installer-12-netboot-amd64", "amd64", INSTALLER, "initrd.gz");
/// The Xen hypervisor, a multiboot kernel, compressed.
pub static XEN: Artifact =
    member("xen-amd64.gz", "xen-hypervisor-4.17-amd64", "amd64", &["boot"], "xen-4.17-amd64.gz");

/// What the tests cannot do without.
pub static CORE: [&Artifact; 2] = [&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64];
/// Every guest.
pub static ALL: [&Artifact; 32] = [
    &KERNEL_CLOUD_AMD64,
    &INITRAMFS_AMD64,
    &KERNEL_AMD64,
    &KERNEL_686_PAE,
    &KERNEL_686,
    &INITRAMFS_I386,
    &MEMTEST_IA32,
    &MEMTEST_X64,
    &SEABIOS,
    &VGA_BIOS,
    &GRUB_FLOPPY,
    &GRUB_CD,
    &ISOLINUX,
    &LDLINUX,
    &SYSLINUX_MBR,
    &MEMTEST_CD,
    &GRUB_INVADERS,
    &IPXE_CD,
    &IPXE_LKRN,
    &OVMF_CODE,
    &OVMF_SMM_CODE,
    &OVMF_VARS,
    &OVMF_ROM,
    &QBOOT,
    &LINUXBOOT,
    &GRUB_FIRMWARE,
    &U_BOOT_X86,
    &U_BOOT_X64,
    &GNU_MACH,
    &INSTALLER_KERNEL,
    &INSTALLER_INITRD,
    &XEN,
];
