//! Tables for firmware that places them itself: it gets them as files of the firmware configuration device, with addresses
//! relative to the file, and a script that says where each address is and which checksums follow from it.
//! (The script's form is QEMU's, docs/specs and `bios-linker-loader`; SeaBIOS and OVMF know it.)

use crate::acpi::{self, AcpiTables};
use crate::board::{Board, PmBlocks};
use crate::bytes::{put, u32_at};
use crate::smbios;

/// A file's name and contents.
pub type File = (&'static str, Vec<u8>);

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";
const SCRIPT: &str = "etc/table-loader";

/// Length of a command, and of a file name in it.
const COMMAND: usize = 128;
const NAME: usize = 56;
/// Where a file goes: anywhere below 4 GiB, or to F0000h-FFFFFh.
const ZONE_HIGH: u8 = 1;
const ZONE_FSEG: u8 = 2;
/// Alignment of the FACS.
const FACS_ALIGN: usize = 64;

/// The files of `board`'s tables: ACPI if it has it, and SMBIOS.
pub fn files(board: &Board) -> Vec<File> {
    let mut files: Vec<File> = board.pm.iter().flat_map(|pm| acpi_files(board, pm)).collect();
    let (anchor, tables) = smbios::files(board);
    files.extend([("etc/smbios/smbios-anchor", anchor), ("etc/smbios/smbios-tables", tables)]);
    files
}

/// Commands, one after the other.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn command(&mut self, kind: u32, files: &[&str], fields: &[u8]) {
        let mut command = [0; COMMAND];
        put(&mut command, 0, &kind.to_le_bytes());
        for (n, name) in files.iter().enumerate() {
            put(&mut command, 4 + NAME * n, name.as_bytes());
        }
        put(&mut command, 4 + NAME * files.len(), fields);
        self.0.extend(command);
    }

    /// Finds a place for `file`.
    fn allocate(&mut self, file: &str, align: u32, zone: u8) {
        self.command(1, &[file], &[&align.to_le_bytes()[..], &[zone]].concat());
    }

    /// Adds the address of the tables to the `size` bytes at `offset` of `file`.
    fn add_pointer(&mut self, file: &str, offset: usize, size: u8) {
        self.command(2, &[file, TABLES], &[&(offset as u32).to_le_bytes()[..], &[size]].concat());
    }

    /// Makes the sum of `len` bytes from `start` of `file` zero by the byte at `offset`.
    fn add_checksum(&mut self, file: &str, offset: usize, start: usize, len: usize) {
        let fields = [offset, start, len].map(|field| (field as u32).to_le_bytes());
        self.command(3, &[file], fields.as_flattened());
    }
}

fn acpi_files(board: &Board, pm: &PmBlocks) -> [File; 3] {
    let facs_at = acpi::build(board, pm, 0, 0).area.len().next_multiple_of(FACS_ALIGN);
    let AcpiTables { mut rsdp, area: mut tables, facs } = acpi::build(board, pm, 0, facs_at as u32);
    tables.resize(facs_at, 0);
    tables.extend(facs);
    let mut script = Script::default();
    script.allocate(TABLES, FACS_ALIGN as u32, ZONE_HIGH);
    script.allocate(RSDP, 16, ZONE_FSEG);
    let roots = [16, 24].map(|field| u32_at(&rsdp, field).unwrap_or(0) as usize);
    for (root, size) in roots.into_iter().zip([4, 8]) {
        let end = root + table_len(&tables, root);
        for at in (root + 36..end).step_by(size) {
            script.add_pointer(TABLES, at, size as u8);
        }
        finish(&mut script, &mut tables, root);
    }
    for at in (roots[0] + 36..roots[0] + table_len(&tables, roots[0])).step_by(4) {
        let table = u32_at(&tables, at).unwrap_or(0) as usize;
        if tables[table..].starts_with(b"FACP") {
            // FIRMWARE_CTRL, DSDT, X_DSDT.
            for (field, size) in [(36, 4), (40, 4), (140, 8)] {
                script.add_pointer(TABLES, table + field, size);
            }
            finish(&mut script, &mut tables, table);
        }
    }
    for (field, size) in [(16, 4), (24, 8)] {
        script.add_pointer(RSDP, field, size);
    }
    (rsdp[8], rsdp[32]) = (0, 0);
    script.add_checksum(RSDP, 8, 0, 20);
    script.add_checksum(RSDP, 32, 0, 36);
    [(TABLES, tables), (RSDP, rsdp), (SCRIPT, script.0)]
}

fn table_len(tables: &[u8], at: usize) -> usize {
    u32_at(tables, at + 4).unwrap_or(0) as usize
}

/// The table's addresses are known: its checksum is to be made.
fn finish(script: &mut Script, tables: &mut [u8], at: usize) {
    tables[at + 9] = 0;
    script.add_checksum(TABLES, at + 9, at, table_len(tables, at));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::e820::MemoryLayout;

    /// Firmware: places each file at a given address, and does what the script says.
    fn run(files: &mut BTreeMap<String, Vec<u8>>, places: &BTreeMap<String, u64>) {
        let script = files[SCRIPT].clone();
        let text =
            |at: &[u8]| String::from_utf8(at[..NAME].split(|b| *b == 0).next().unwrap().to_vec()).unwrap();
        for command in script.chunks(COMMAND) {
            let (kind, name) = (u32_at(command, 0).unwrap(), text(&command[4..]));
            let field = |n: usize| u32_at(command, n).unwrap() as usize;
            match kind {
                1 => assert!(places[&name].is_multiple_of(field(60) as u64) && command[64] > 0),
                2 => {
                    let (source, offset, size) = (text(&command[60..]), field(116), command[120] as usize);
                    let place = &mut files.get_mut(&name).unwrap()[offset..offset + size];
                    let mut value = [0; 8];
                    value[..size].copy_from_slice(place);
                    let sum = u64::from_le_bytes(value) + places[&source];
                    place.copy_from_slice(&sum.to_le_bytes()[..size]);
                }
                3 => {
                    let file = files.get_mut(&name).unwrap();
                    assert_eq!(file[field(60)], 0);
                    file[field(60)] = crate::bytes::checksum(&file[field(64)..field(64) + field(68)]);
                }
                other => panic!("command {other}"),
            }
        }
    }

    #[test]
    fn placed_by_the_script_the_tables_are_those_that_we_place_ourselves() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 2);
        let mut files: BTreeMap<String, Vec<u8>> =
            super::files(&board).into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        assert_eq!(files.len(), 5);
        let places = [(TABLES.to_owned(), 0x12_3440), (RSDP.to_owned(), 0xf_5000)].into();
        run(&mut files, &places);
        let facs_at = files[TABLES].len() as u32 - 64;
        let ours = acpi::build(&board, &board.pm.unwrap(), 0x12_3440, 0x12_3440 + facs_at);
        assert_eq!(files[RSDP], ours.rsdp);
        assert!(files[TABLES].starts_with(&ours.area) && files[TABLES].ends_with(&ours.facs));
    }

    #[test]
    fn smbios_has_an_anchor_and_the_structures() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        let (anchor, tables) = smbios::files(&board);
        assert!(anchor.starts_with(b"_SM_") && anchor[24..28] == [0; 4]);
        assert_eq!(usize::from(u16::from_le_bytes([anchor[22], anchor[23]])), tables.len());
    }
}
