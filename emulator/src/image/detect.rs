//! What the contents of an image are, and what boots them.
//!
//! The order of the questions matters: a hybrid CD has a partition table too, a bzImage ends its first sector as a boot sector does.

use std::collections::BTreeSet;

use bios::ImageKind;
use bios::detect::stranger;
use serde::Serialize;

use super::fat::Fat;
use super::firmware::Firmware;
use super::iso::{Cd, platform};
use super::partitions::{self, BIOS_BOOT, EFI_SYSTEM, Partition, Table, TableKind};
use super::source::{Source, field};

/// Bytes at the beginning in which marks of formats are.
const HEAD: usize = 0x8100;
/// ELF files are parsed whole, up to this size.
const MAX_ELF: u64 = 256 << 20;
/// ROMs of machines: whole multiples of this ...
const ROM_UNIT: u64 = 64 << 10;
/// ... up to this.
const MAX_ROM: u64 = 8 << 20;

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// What a BIOS starts: 16-bit code, which says nothing of what comes after it.
    X86,
    /// 32-bit x86.
    I386,
    /// 64-bit x86.
    X86_64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit ARM.
    Arm64,
    /// 64-bit RISC-V.
    Riscv64,
    /// LoongArch.
    Loongarch64,
    /// Itanium.
    Ia64,
    /// PowerPC.
    PowerPc,
}

impl Arch {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::I386 => "i386",
            Self::X86_64 => "x86-64",
            Self::Arm => "32-bit ARM",
            Self::Arm64 => "ARM64",
            Self::Riscv64 => "RISC-V",
            Self::Loongarch64 => "LoongArch",
            Self::Ia64 => "Itanium",
            Self::PowerPc => "PowerPC",
        }
    }

    /// Can this machine run it?
    pub fn is_ours(self) -> bool {
        matches!(self, Self::X86 | Self::I386 | Self::X86_64)
    }
}

/// Boot programs that UEFI firmware starts from media (UEFI specification, 3.5.1.1).
const EFI_PROGRAMS: [(&str, Arch); 7] = [
    ("BOOTX64.EFI", Arch::X86_64),
    ("BOOTIA32.EFI", Arch::I386),
    ("BOOTAA64.EFI", Arch::Arm64),
    ("BOOTARM.EFI", Arch::Arm),
    ("BOOTRISCV64.EFI", Arch::Riscv64),
    ("BOOTLOONGARCH64.EFI", Arch::Loongarch64),
    ("BOOTIA64.EFI", Arch::Ia64),
];
/// 8.3 names of those that have longer ones.
const EFI_SHORT: [(&str, Arch); 2] = [("BOOTRI~1.EFI", Arch::Riscv64), ("BOOTLO~1.EFI", Arch::Loongarch64)];

/// What the contents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A kernel of a known boot protocol.
    Kernel(ImageKind),
    /// A CD.
    Cd,
    /// A floppy disk.
    Floppy,
    /// A hard disk, or what looks like one.
    HardDisk,
    /// A machine's ROM.
    Rom,
    /// Something else: what, and what to do ("" if nothing is known).
    Other(String, String),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// What the contents are.
    pub what: What,
    /// The volume's name.
    pub label: Option<String>,
    /// The partition table.
    pub table: Option<Table>,
    /// The file system without a table around it.
    pub file_system: Option<&'static str>,
    /// What a BIOS boots it by.
    pub bios: Option<&'static str>,
    /// The architectures that UEFI boots it on.
    pub uefi: BTreeSet<Arch>,
    /// All architectures that were seen.
    pub architectures: BTreeSet<Arch>,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

impl Findings {
    fn new(what: What) -> Self {
        Self {
            what,
            label: None,
            table: None,
            file_system: None,
            bios: None,
            uefi: BTreeSet::new(),
            architectures: BTreeSet::new(),
            warnings: Vec::new(),
        }
    }

    fn other(what: &str, arch: Option<Arch>) -> Self {
        let (what, remedy) = what.split_once("; ").unwrap_or((what, ""));
        let mut findings = Self::new(What::Other(what.into(), remedy.into()));
        findings.architectures.extend(arch);
        findings
    }

    /// Notes that UEFI firmware finds these boot programs.
    fn add_uefi(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            let known = EFI_PROGRAMS.iter().chain(&EFI_SHORT).find(|(program, _)| *program == name);
            self.uefi.extend(known.map(|(_, arch)| *arch));
        }
        self.architectures.extend(&self.uefi);
    }
}

/// Looks at the contents of an image.
pub fn findings(source: &mut Source<'_>) -> Findings {
    let head = source.read_up_to(0, HEAD);
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if head.is_empty() {
        return Findings::other("an empty file; make it or copy it again", None);
    }
    if has(0x1fe, &[0x55, 0xaa]) && has(0x202, b"HdrS") {
        return bzimage(&head);
    }
    if has(0, b"\x7fELF") {
        return elf(source);
    }
    if has(0x8001, b"CD001")
        && let Some(cd) = Cd::open(source)
    {
        return compact_disc(source, &cd);
    }
    if let Some(what) = stranger(&head) {
        let arch = match what {
            _ if what.contains("ARM64") => Some(Arch::Arm64),
            _ if what.contains("32-bit ARM") => Some(Arch::Arm),
            _ if what.contains("RISC-V") => Some(Arch::Riscv64),
            _ => None,
        };
        return Findings::other(what, arch);
    }
    match Firmware::find(source, &head) {
        Some(whole @ Firmware::Whole) => {
            let mut findings = rom();
            findings.label = Some(whole.describe().into());
            return findings;
        }
        Some(part) => return Findings::other(part.describe(), None),
        None => {}
    }
    if has(0, b"MZ")
        && let Some((what, arch)) = program(&head)
    {
        return Findings::other(what, arch);
    }
    let mut warnings = Vec::new();
    let table = partitions::read(source, &mut warnings);
    if table.is_none() && ImageKind::detect(&head) == Ok(ImageKind::Multiboot) {
        let mut findings = Findings::new(What::Kernel(ImageKind::Multiboot));
        findings.architectures.insert(Arch::I386);
        return findings;
    }
    if table.is_none() && !has(0x1fe, &[0x55, 0xaa]) && is_rom(source) {
        return rom();
    }
    let disk = disk(source, &head, table, warnings);
    let nothing_known = disk.bios.is_none() && disk.table.is_none() && disk.file_system.is_none();
    if nothing_known && let Some(what) = no_disk(source, &head) {
        return Findings::other(what, None);
    }
    disk
}

fn rom() -> Findings {
    let mut findings = Findings::new(What::Rom);
    findings.architectures.insert(Arch::X86);
    findings
}

/// What a file is that nobody would take for a disk. (The smallest floppies have 160, 180, 320 and 360 KiB.)
fn no_disk(source: &Source<'_>, head: &[u8]) -> Option<&'static str> {
    let start = &head[..head.len().min(512)];
    if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Some("a text file");
    }
    let len = source.len();
    let small = len < 1 << 20 && len > 512 && !len.is_multiple_of(20 << 10);
    (small || !len.is_multiple_of(512)).then_some("a file of a kind that is not known here")
}

fn bzimage(head: &[u8]) -> Findings {
    let mut findings = Findings::new(What::Kernel(ImageKind::BzImage));
    // Boot protocol 2.12, XLF_KERNEL_64.
    let wide = field::<2>(head, 0x206) >= 0x20c && field::<2>(head, 0x236) & 1 != 0;
    findings.architectures.insert(if wide { Arch::X86_64 } else { Arch::I386 });
    let version = field::<2>(head, 0x20e) as usize;
    if version != 0
        && let Some(text) = head.get(version + 0x200..)
    {
        let text = text.iter().take_while(|byte| **byte != 0).take(80);
        let text: String = text.map(|byte| char::from(*byte)).filter(|c| !c.is_control()).collect();
        findings.label = text.split(' ').next().filter(|word| !word.is_empty()).map(str::to_owned);
    }
    findings
}

fn elf(source: &mut Source<'_>) -> Findings {
    let Some(file) = source.whole(MAX_ELF) else {
        return Findings::other("an ELF file that is too large to be a kernel", None);
    };
    let arch = match (field::<2>(&file, 18), file.get(4)) {
        (3, _) => Some(Arch::I386),
        (62, _) => Some(Arch::X86_64),
        (40, _) => Some(Arch::Arm),
        (183, _) => Some(Arch::Arm64),
        (243, Some(2)) => Some(Arch::Riscv64),
        (258, _) => Some(Arch::Loongarch64),
        (20 | 21, _) => Some(Arch::PowerPc),
        _ => None,
    };
    match ImageKind::detect(&file) {
        Ok(kind) => {
            let mut findings = Findings::new(What::Kernel(kind));
            findings.architectures.extend(arch);
            findings
        }
        Err(why) => Findings::other(why.strip_prefix("it is ").unwrap_or(&why), arch),
    }
}

/// A program with a PE header. Boot sectors may begin with the same letters, but have none.
fn program(head: &[u8]) -> Option<(&'static str, Option<Arch>)> {
    let pe = field::<4>(head, 0x3c) as usize;
    let header = head.get(pe..pe.checked_add(0x60)?)?;
    if !header.starts_with(b"PE\0\0") {
        return None;
    }
    let arch = match field::<2>(header, 4) {
        0x14c => Some(Arch::I386),
        0x8664 => Some(Arch::X86_64),
        0xaa64 => Some(Arch::Arm64),
        0x1c0 | 0x1c2 | 0x1c4 => Some(Arch::Arm),
        0x5064 => Some(Arch::Riscv64),
        0x6264 => Some(Arch::Loongarch64),
        _ => None,
    };
    // Subsystems 10 to 13 are EFI's.
    let efi = (10..=13).contains(&field::<2>(header, 0x5c));
    Some((
        if efi { "an EFI program; put it on a disk with UEFI firmware" } else { "a Windows program" },
        arch,
    ))
}

fn compact_disc(source: &mut Source<'_>, cd: &Cd) -> Findings {
    let mut findings = Findings::new(What::Cd);
    findings.label = Some(cd.label.clone()).filter(|label| !label.is_empty());
    findings.table = partitions::read(source, &mut Vec::new());
    if cd.bytes > source.len() {
        let missing = super::report::size(cd.bytes - source.len());
        findings.warnings.push(format!("{missing} are missing at the end: the download is not complete"));
    }
    findings.add_uefi(cd.list(source, &["EFI", "BOOT"]).unwrap_or_default());
    for entry in cd.boot.iter().flatten().filter(|entry| entry.bootable) {
        match entry.platform {
            platform::X86 => {
                findings.bios = Some(match entry.emulation {
                    0 => "El Torito",
                    1..=3 => "El Torito, as a floppy",
                    _ => "El Torito, as a hard disk",
                });
                findings.architectures.insert(Arch::X86);
            }
            platform::POWER_PC | platform::MAC => {
                findings.architectures.insert(Arch::PowerPc);
            }
            platform::EFI => {
                let names = efi_names(source, entry.start);
                if names.is_empty() && findings.uefi.is_empty() {
                    findings.warnings.push("it has a UEFI boot image without a known boot program".into());
                }
                findings.add_uefi(names);
            }
            _ => {}
        }
    }
    findings
}

/// Boot programs in the FAT file system at `at`.
fn efi_names(source: &mut Source<'_>, at: u64) -> Vec<String> {
    let Some(fat) = Fat::open(source, at) else { return Vec::new() };
    let entries = fat.list(source, &["EFI", "BOOT"]).unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Does the file look like a ROM of a machine? Its reset vector is a jump.
fn is_rom(source: &mut Source<'_>) -> bool {
    let len = source.len();
    if len == 0 || !len.is_multiple_of(ROM_UNIT) || len > MAX_ROM {
        return false;
    }
    let vector = source.read(len - 16, 16).unwrap_or_default();
    match vector.as_slice() {
        // A far jump into the segment F000 or E000, or a near one that may have no-ops before it.
        [0xea, _, _, _, segment, ..] => *segment >= 0xc0,
        [0x90, 0x90, 0xe9 | 0xeb, ..] | [0xe9, _, 0xf0..=0xff, ..] | [0x0f, 0x09, 0xe9, ..] => true,
        _ => false,
    }
}

/// Marks of file systems without boot sectors.
const FILE_SYSTEMS: [(u64, &[u8], &str); 6] = [
    (0x438, &[0x53, 0xef], "ext2, ext3 or ext4"),
    (0, b"XFSB", "XFS"),
    (0x1_0040, b"_BHRfS_M", "Btrfs"),
    (0, b"hsqs", "SquashFS"),
    (0xff6, b"SWAPSPACE2", "Linux swap"),
    (3, b"NTFS    ", "NTFS"),
];

fn disk(source: &mut Source<'_>, head: &[u8], table: Option<Table>, warnings: Vec<String>) -> Findings {
    let floppy = table.is_none() && is_floppy(source.len());
    let mut findings = Findings::new(if floppy { What::Floppy } else { What::HardDisk });
    findings.warnings = warnings;
    let found = FILE_SYSTEMS.iter().find(|(at, magic, _)| source.has(*at, magic)).map(|(_, _, name)| *name);
    let fat = if table.is_none() { Fat::open(source, 0) } else { None };
    findings.file_system = found.filter(|_| table.is_none()).or(fat.is_some().then_some("FAT"));
    if let Some(fat) = fat {
        let names = fat.list(source, &["EFI", "BOOT"]).unwrap_or_default();
        findings.add_uefi(names.into_iter().map(|entry| entry.name));
    }
    for partition in table.iter().flat_map(|table| &table.partitions) {
        look_into(source, partition, &mut findings);
    }
    let signed = head.get(510..512) == Some(&[0x55, 0xaa]);
    // What comes before the disk's identity and the table is code; GRUB's stub and others begin with a jump.
    let code = head.get(..440).is_some_and(|code| code.iter().any(|byte| *byte != 0));
    if signed && code {
        findings.bios = Some(match &table {
            None => "boot sector",
            Some(_) => "master boot record",
        });
        findings.architectures.insert(Arch::X86);
    }
    if let Some(table) = &table
        && findings.bios.is_none()
        && table.kind == TableKind::Gpt
        && table.partitions.iter().any(|partition| partition.description == Some(BIOS_BOOT))
    {
        findings.warnings.push("there is a BIOS boot partition, but no code in the first sector".into());
    }
    findings.table = table;
    findings
}

/// Floppy sizes, and nothing smaller that has no format.
fn is_floppy(len: u64) -> bool {
    (512..=2_949_120).contains(&len) && devices::floppy::Geometry::of(len).is_some()
}

/// What a partition says of the architecture.
fn look_into(source: &mut Source<'_>, partition: &Partition, findings: &mut Findings) {
    let architecture = match partition.description {
        Some("Linux root, x86-64") => Some(Arch::X86_64),
        Some("Linux root, i386") => Some(Arch::I386),
        Some("Linux root, ARM64") => Some(Arch::Arm64),
        Some("Linux root, 32-bit ARM") => Some(Arch::Arm),
        Some("Linux root, RISC-V") => Some(Arch::Riscv64),
        _ => None,
    };
    findings.architectures.extend(architecture);
    let fat = matches!(partition.description, Some(EFI_SYSTEM | "FAT12" | "FAT16" | "FAT32"));
    if !fat {
        return;
    }
    let Some(fat) = Fat::open(source, partition.start) else { return };
    let names = fat.list(source, &["EFI", "BOOT"]).unwrap_or_default();
    findings.add_uefi(names.into_iter().map(|entry| entry.name));
    let root = fat.list(source, &[]).unwrap_or_default();
    // The firmware of a Raspberry Pi.
    if root.iter().any(|entry| matches!(entry.name.as_str(), "BOOTCODE.BIN" | "START4.ELF" | "KERNEL8.IMG")) {
        findings.architectures.insert(Arch::Arm64);
        findings.warnings.push("it has the boot files of a Raspberry Pi".into());
    }
}
