//! Partition tables: the master boot record's four entries, and GPT (UEFI specification, chapter 5).
//!
//! Read here rather than by a library: those that there are take the header's word for the size of the table, or assert what
//! an image need not keep to.

use serde::Serialize;

use super::source::{Source, field};

const SECTOR: u64 = 512;
/// Entries of a GPT that are looked at; tables have 128.
const GPT_ENTRIES: u64 = 256;
/// Type bytes of extended partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Logical partitions that are listed.
const LOGICAL: usize = 60;

/// The kind of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Master boot record.
    Mbr,
    /// GUID partition table.
    Gpt,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number as Linux counts.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Type: two hexadecimal digits, or a GUID.
    #[serde(rename = "type")]
    pub kind: String,
    /// What that type is, if it is known here.
    pub description: Option<&'static str>,
    /// Its name (GPT).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Marked as active or bootable.
    pub active: bool,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Which kind.
    pub kind: TableKind,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// What the types of a master boot record mean.
const MBR_TYPES: &[(u8, &str)] = &[
    (0x01, "FAT12"),
    (0x04, "FAT16"),
    (0x05, "extended"),
    (0x06, "FAT16"),
    (0x07, "NTFS or exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32"),
    (0x0e, "FAT16"),
    (0x0f, "extended"),
    (0x27, "Windows recovery"),
    (0x82, "Linux swap"),
    (0x83, "Linux"),
    (0x85, "extended"),
    (0x8e, "Linux LVM"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xa9, "NetBSD"),
    (0xaf, "HFS"),
    (0xee, "protective"),
    (0xef, "EFI system"),
    (0xfb, "VMware file system"),
    (0xfd, "Linux RAID"),
];

/// What the types of a GPT mean.
const GPT_TYPES: &[(&str, &str)] = &[
    ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", EFI_SYSTEM),
    ("21686148-6449-6E6F-744E-656564454649", BIOS_BOOT),
    ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", "Linux"),
    ("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "Linux root, x86-64"),
    ("44479540-F297-41B2-9AF7-D131D5F0458A", "Linux root, i386"),
    ("B921B045-1DF0-41C3-AF44-4C6F280D3FAE", "Linux root, ARM64"),
    ("69DAD710-2CE4-4E3C-B16C-21A1D49ABED3", "Linux root, 32-bit ARM"),
    ("72EC70A6-CF74-40E6-BD49-4BDA08E8F224", "Linux root, RISC-V"),
    ("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "Linux swap"),
    ("E6D6D379-F507-44C2-A23C-238F2A3DF928", "Linux LVM"),
    ("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "Windows data"),
    ("E3C9E316-0B5C-4DB8-817D-F92DF00215AE", "Windows reserved"),
    ("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "Windows recovery"),
    ("516E7CB4-6ECF-11D6-8FF8-00022D09712B", "FreeBSD"),
    ("516E7CB6-6ECF-11D6-8FF8-00022D09712B", "FreeBSD UFS"),
    ("83BD6B9D-7F41-11DC-BE0B-001560B84F0F", "FreeBSD boot"),
    ("48465300-0000-11AA-AA11-00306543ECAC", "HFS+"),
];
/// The partition that UEFI firmware boots from.
pub const EFI_SYSTEM: &str = "EFI system";
/// The partition that GRUB's BIOS part lives in.
pub const BIOS_BOOT: &str = "BIOS boot";

/// Reads the table, if there is one, and adds what is wrong with it to `warnings`.
pub fn read(source: &mut Source<'_>, warnings: &mut Vec<String>) -> Option<Table> {
    let sector = source.read(0, SECTOR as usize)?;
    if sector[510..] != [0x55, 0xaa] {
        return None;
    }
    let entries = entries(&sector)?;
    if entries.iter().any(|entry| entry.kind == 0xee)
        && let Some(table) = gpt(source, warnings)
    {
        return Some(table);
    }
    let used: Vec<_> = (1..).zip(entries).filter(|(_, entry)| entry.kind != 0).collect();
    if used.is_empty() {
        return None;
    }
    let mut partitions: Vec<Partition> = used.iter().map(|(n, entry)| entry.partition(*n, 0)).collect();
    for (_, entry) in used.iter().filter(|(_, entry)| EXTENDED.contains(&entry.kind)) {
        logical(source, entry.start, &mut partitions);
    }
    let end = source.len();
    for outside in partitions.iter().filter(|p| p.start.saturating_add(p.length) > end) {
        warnings.push(format!("partition {} ends behind the image's end: it is cut short", outside.number));
    }
    Some(Table { kind: TableKind::Mbr, partitions })
}

/// An entry of a master boot record.
struct Entry {
    active: bool,
    kind: u8,
    start: u64,
    sectors: u64,
}

impl Entry {
    fn partition(&self, number: u32, base: u64) -> Partition {
        Partition {
            number,
            start: (base + self.start) * SECTOR,
            length: self.sectors * SECTOR,
            kind: format!("{:02x}", self.kind),
            description: MBR_TYPES.iter().find(|(kind, _)| *kind == self.kind).map(|(_, what)| *what),
            name: None,
            active: self.active,
        }
    }
}

/// The four entries; `None` if a boot sector of a file system is there, whose code does not look like entries.
fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    let entry = |n: usize| {
        let raw = sector.get(446 + 16 * n..462 + 16 * n).unwrap_or_default();
        let (flag, kind) = (field::<1>(raw, 0), field::<1>(raw, 4) as u8);
        let (start, sectors) = (field::<4>(raw, 8), field::<4>(raw, 12));
        let sound = matches!(flag, 0 | 0x80) && (kind == 0 || start != 0 && sectors != 0 || kind == 0xee);
        sound.then_some(Entry { active: flag == 0x80, kind, start, sectors })
    };
    Some([entry(0)?, entry(1)?, entry(2)?, entry(3)?])
}

/// Follows the chain of an extended partition.
fn logical(source: &mut Source<'_>, base: u64, partitions: &mut Vec<Partition>) {
    let mut at = base;
    for number in (5..).take(LOGICAL) {
        let Some(sector) = source.read(at * SECTOR, SECTOR as usize) else { return };
        let (true, Some([first, next, ..])) = (sector[510..] == [0x55, 0xaa], entries(&sector)) else {
            return;
        };
        if first.kind != 0 {
            partitions.push(first.partition(number, at));
        }
        // A chain goes forward, or it would not end.
        if !EXTENDED.contains(&next.kind) || base + next.start <= at {
            return;
        }
        at = base + next.start;
    }
}

fn gpt(source: &mut Source<'_>, warnings: &mut Vec<String>) -> Option<Table> {
    let primary = header(source, 1);
    if primary.is_none() {
        warnings.push("the first GPT header is damaged; the one at the end is used, if it is good".into());
    }
    let last = (source.len() / SECTOR).checked_sub(1)?;
    let backup = header(source, last);
    if primary.is_some() && backup.is_none() {
        warnings.push(
            "there is no second GPT header at the end: the image was cut short or made larger since it was partitioned"
                .into(),
        );
    }
    let header = primary.or(backup)?;
    let (at, count, size) = (field::<8>(&header, 72), field::<4>(&header, 80), field::<4>(&header, 84));
    if size < 128 {
        return None;
    }
    let bytes = count.min(GPT_ENTRIES).checked_mul(size)?;
    let table = source.read(at.checked_mul(SECTOR)?, usize::try_from(bytes).ok()?)?;
    if count <= GPT_ENTRIES && u64::from(crc32fast::hash(&table)) != field::<4>(&header, 88) {
        warnings.push("the checksum of the GPT's entries is wrong".into());
    }
    let entries = table.chunks_exact(usize::try_from(size).ok()?);
    let used = (1..).zip(entries).filter(|(_, entry)| entry[..16] != [0; 16]);
    let partitions = used.map(|(number, entry)| gpt_partition(number, entry)).collect();
    Some(Table { kind: TableKind::Gpt, partitions })
}

/// The header at `sector`, if it is sound.
fn header(source: &mut Source<'_>, sector: u64) -> Option<Vec<u8>> {
    let mut header = source.read(sector * SECTOR, SECTOR as usize)?;
    let (len, sum) = (field::<4>(&header, 12) as usize, field::<4>(&header, 16));
    if !header.starts_with(b"EFI PART") || !(92..=SECTOR as usize).contains(&len) {
        return None;
    }
    header[16..20].fill(0);
    (u64::from(crc32fast::hash(&header[..len])) == sum).then_some(header)
}

fn gpt_partition(number: u32, entry: &[u8]) -> Partition {
    let kind = guid(&entry[..16]);
    let (first, last) = (field::<8>(entry, 32), field::<8>(entry, 40));
    let name = entry[56..128].chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
    let name: Vec<u16> = name.take_while(|c| *c != 0).collect();
    let name = String::from_utf16_lossy(&name);
    Partition {
        number,
        start: first.saturating_mul(SECTOR),
        length: last.saturating_sub(first).saturating_add(1).saturating_mul(SECTOR),
        description: GPT_TYPES.iter().find(|(guid, _)| *guid == kind).map(|(_, what)| *what),
        kind,
        name: (!name.is_empty()).then_some(name),
        // Attribute 2: legacy BIOS bootable.
        active: field::<8>(entry, 48) & 4 != 0,
    }
}

/// The usual spelling, whose first three groups are little-endian.
fn guid(bytes: &[u8]) -> String {
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let turned = |part: &[u8]| hex(&part.iter().rev().copied().collect::<Vec<_>>());
    let groups = [
        turned(&bytes[..4]),
        turned(&bytes[4..6]),
        turned(&bytes[6..8]),
        hex(&bytes[8..10]),
        hex(&bytes[10..16]),
    ];
    groups.join("-")
}
