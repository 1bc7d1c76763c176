//! CDs: ISO 9660 folders (ECMA-119) and the boot catalogue (El Torito specification 1.0).

use super::source::{Source, field};

const SECTOR: u64 = 2048;
/// Volume descriptors that are looked at.
const DESCRIPTORS: u64 = 32;
/// Bytes of a folder that are looked at.
const MAX_FOLDER: u64 = 256 << 10;

/// Platforms of a boot catalogue.
pub mod platform {
    /// PC with a BIOS.
    pub const X86: u8 = 0;
    /// PowerPC.
    pub const POWER_PC: u8 = 1;
    /// Macintosh.
    pub const MAC: u8 = 2;
    /// UEFI.
    pub const EFI: u8 = 0xef;
}

/// An entry of the boot catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootEntry {
    /// See [`platform`].
    pub platform: u8,
    /// Marked as bootable.
    pub bootable: bool,
    /// 0: none; 1 to 3: a floppy of 1.2, 1.44, 2.88 MB; 4: a hard disk.
    pub emulation: u8,
    /// Where its image begins in the CD image.
    pub start: u64,
}

/// A CD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cd {
    /// The volume's name.
    pub label: String,
    /// Its size by its own word.
    pub bytes: u64,
    /// The boot catalogue's entries; `None`: there is no boot record.
    pub boot: Option<Vec<BootEntry>>,
    /// The root folder: first byte and length.
    root: (u64, u64),
}

impl Cd {
    /// Reads the volume descriptors. `None`: no CD.
    pub fn open(source: &mut Source<'_>) -> Option<Self> {
        let (mut cd, mut catalogue) = (None, None);
        for n in 16..16 + DESCRIPTORS {
            let descriptor = source.read(n * SECTOR, SECTOR as usize)?;
            if &descriptor[1..6] != b"CD001" {
                break;
            }
            match descriptor[0] {
                0 if descriptor[7..].starts_with(b"EL TORITO SPECIFICATION") => {
                    catalogue = Some(field::<4>(&descriptor, 71));
                }
                1 if cd.is_none() => cd = Some(Self::primary(&descriptor)),
                255 => break,
                _ => {}
            }
        }
        let mut cd = cd?;
        cd.boot = catalogue.map(|at| boot_entries(source, at * SECTOR));
        Some(cd)
    }

    fn primary(descriptor: &[u8]) -> Self {
        let label = String::from_utf8_lossy(&descriptor[40..72]).trim_end().to_owned();
        let extent = |record: &[u8]| (field::<4>(record, 2) * SECTOR, field::<4>(record, 10));
        Self {
            label,
            bytes: field::<4>(descriptor, 80) * SECTOR,
            boot: None,
            root: extent(&descriptor[156..190]),
        }
    }

    /// The names in the folder at `path`, in capitals and without version numbers.
    pub fn list(&self, source: &mut Source<'_>, path: &[&str]) -> Option<Vec<String>> {
        let mut folder = self.root;
        for part in path {
            let found = records(source, folder).into_iter().find(|record| record.name == *part)?;
            folder = found.folder.then_some(found.extent)?;
        }
        Some(records(source, folder).into_iter().map(|record| record.name).collect())
    }
}

struct Record {
    name: String,
    folder: bool,
    extent: (u64, u64),
}

fn records(source: &mut Source<'_>, (at, len): (u64, u64)) -> Vec<Record> {
    let bytes = source.read_up_to(at, len.min(MAX_FOLDER) as usize);
    let mut records = Vec::new();
    for sector in bytes.chunks(SECTOR as usize) {
        let mut rest = sector;
        // A record does not cross sectors; a length of 0 fills the rest.
        while let Some(len) = rest.first().map(|len| usize::from(*len)).filter(|len| *len >= 34) {
            let Some(record) = rest.get(..len) else { break };
            let name = record.get(33..33 + usize::from(record[32])).unwrap_or_default();
            let name = String::from_utf8_lossy(name).to_uppercase();
            let name = name.split(';').next().unwrap_or_default().trim_end_matches('.').to_owned();
            let extent = (field::<4>(record, 2) * SECTOR, field::<4>(record, 10));
            records.push(Record { name, folder: record[25] & 2 != 0, extent });
            rest = &rest[len..];
        }
    }
    records
}

/// The entries of the boot catalogue at `at`.
fn boot_entries(source: &mut Source<'_>, at: u64) -> Vec<BootEntry> {
    let catalogue = source.read_up_to(at, SECTOR as usize);
    let mut rows = catalogue.chunks_exact(32);
    let Some(validation) = rows.next().filter(|row| row[0] == 1 && row[30..] == [0x55, 0xaa]) else {
        return Vec::new();
    };
    let mut platform = validation[1];
    let mut entries = Vec::new();
    let mut more = true;
    for (n, row) in rows.enumerate() {
        match row[0] {
            0x88 | 0x00 if n == 0 || row[0] == 0x88 => entries.push(BootEntry {
                platform,
                bootable: row[0] == 0x88,
                emulation: row[1] & 0xf,
                start: field::<4>(row, 8) * SECTOR,
            }),
            // A section header; 91h is the last one.
            0x90 | 0x91 if more => {
                platform = row[1];
                more = row[0] == 0x90;
            }
            // An extension of the entry before.
            0x44 => {}
            _ => break,
        }
    }
    entries
}
