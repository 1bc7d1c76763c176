//! ACPI tables (ACPI specification 6.5): RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT, HPET.
//!
//! The RSDP goes to the system ROM, where guests without a boot protocol that names it search for it; the FACS, which the
//! guest writes to, goes to non-volatile storage; everything else goes to reclaimable memory. There is an MCFG where the host
//! bridge shows configuration space in memory.

use acpi_tables::Aml;
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;

use crate::board::{Board, PmBlocks};
use crate::bytes::{checksum, put};
use crate::dsdt;

const OEM: [u8; 6] = *b"RETRO ";
const OEM_TABLE: [u8; 8] = *b"RETROPC ";
const OEM_REVISION: u32 = 1;

/// Flags of an interrupt source override or a local NMI: active high, level triggered.
const LEVEL_HIGH: u16 = 0xd;

/// The tables, with addresses filled in.
pub struct AcpiTables {
    /// The root pointer, for the system ROM (16-byte aligned).
    pub rsdp: Vec<u8>,
    /// What goes to the reclaimable area given to [`build`].
    pub area: Vec<u8>,
    /// What goes to non-volatile storage.
    pub facs: Vec<u8>,
}

/// Builds the tables of `board` for a reclaimable area at `area` and a FACS at `facs_at`; both below 4 GiB.
pub fn build(board: &Board, pm: &PmBlocks, area: u32, facs_at: u32) -> AcpiTables {
    let mut bytes = Vec::new();
    let mut place = |table: &[u8]| {
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let at = area + bytes.len() as u32;
        bytes.extend_from_slice(table);
        at
    };
    let dsdt = place(&dsdt(board, pm));
    let mut entries = vec![place(&fadt(board, pm, dsdt, facs_at)), place(&madt(board))];
    if let Some(base) = board.hpet {
        entries.push(place(&hpet(base, board.hpet_id)));
    }
    if let Some(base) = board.ecam {
        entries.push(place(&mcfg(base)));
    }
    let rsdt = place(&root(*b"RSDT", entries.iter().flat_map(|at| at.to_le_bytes()).collect()));
    let xsdt = place(&root(*b"XSDT", entries.iter().flat_map(|at| u64::from(*at).to_le_bytes()).collect()));
    AcpiTables { rsdp: rsdp(rsdt, xsdt), area: bytes, facs: facs() }
}

fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut sdt = Sdt::new(signature, 36, revision, OEM, OEM_TABLE, OEM_REVISION);
    sdt.append_slice(body);
    sdt.as_slice().to_vec()
}

fn root(signature: [u8; 4], entries: Vec<u8>) -> Vec<u8> {
    table(signature, 1, &entries)
}

fn dsdt(board: &Board, pm: &PmBlocks) -> Vec<u8> {
    // Revision 2: integers are 64 bits wide.
    table(*b"DSDT", 2, &dsdt::body(board, pm))
}

fn rsdp(rsdt: u32, xsdt: u32) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    put(&mut bytes, 0, b"RSD PTR ");
    put(&mut bytes, 9, &OEM);
    bytes[15] = 2;
    put(&mut bytes, 16, &rsdt.to_le_bytes());
    put(&mut bytes, 20, &36u32.to_le_bytes());
    put(&mut bytes, 24, &u64::from(xsdt).to_le_bytes());
    bytes[8] = checksum(&bytes[..20]);
    bytes[32] = checksum(&bytes);
    bytes
}

fn facs() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    put(&mut bytes, 0, b"FACS");
    put(&mut bytes, 4, &64u32.to_le_bytes());
    bytes[32] = 1;
    bytes
}

/// Generic address structure: an I/O port of `bits` bits (5.2.3.2). Access size 1 is a byte, 2 a word, 3 a doubleword.
fn port(address: u16, bits: u8) -> [u8; 12] {
    let mut gas = [0; 12];
    gas[0] = 1;
    gas[1] = bits;
    gas[3] = match bits {
        0..=8 => 1,
        9..=16 => 2,
        _ => 3,
    };
    put(&mut gas, 4, &u64::from(address).to_le_bytes());
    gas
}

/// FADT revision 3, 244 bytes: offsets are those of table 5.9.
fn fadt(board: &Board, pm: &PmBlocks, dsdt: u32, facs: u32) -> Vec<u8> {
    const HEADER: usize = 36;
    let mut body = vec![0; 244 - HEADER];
    let mut set = |offset: usize, value: &[u8]| put(&mut body, offset - HEADER, value);
    let wide = |address: u16| u32::from(address).to_le_bytes();
    set(36, &facs.to_le_bytes());
    set(40, &dsdt.to_le_bytes());
    set(45, &[1]); // desktop
    set(46, &u16::from(pm.sci).to_le_bytes());
    if let Some(smi) = pm.smi {
        set(48, &wide(smi.port));
        set(52, &[smi.enable, smi.disable]);
    }
    set(56, &wide(pm.event));
    set(64, &wide(pm.control));
    set(76, &wide(pm.timer));
    set(88, &[4, 2, 0, 4]);
    if let Some(gpe) = pm.gpe0 {
        set(80, &wide(gpe.port));
        set(92, &[gpe.len]);
        set(220, &port(gpe.port, gpe.len.saturating_mul(8)));
    }
    // Latencies above 100 and 1000 us: there is no C2 and no C3.
    set(96, &0x0fffu16.to_le_bytes());
    set(98, &0x0fffu16.to_le_bytes());
    set(108, &[0x32]); // century in CMOS
    set(109, &boot_architecture(board).to_le_bytes());
    set(112, &fadt_flags(pm).to_le_bytes());
    if let Some(reset) = pm.reset {
        set(116, &port(reset.port, 8));
        set(128, &[reset.value]);
    }
    set(140, &u64::from(dsdt).to_le_bytes());
    set(148, &port(pm.event, 32));
    set(172, &port(pm.control, 16));
    set(208, &port(pm.timer, 32));
    table(*b"FACP", 3, &body)
}

/// IA-PC boot architecture flags (5.2.9.3).
fn boot_architecture(board: &Board) -> u16 {
    const LEGACY_DEVICES: u16 = 1;
    const I8042: u16 = 1 << 1;
    const NO_VGA: u16 = 1 << 2;
    LEGACY_DEVICES | if board.keyboard { I8042 } else { 0 } | if board.vga { 0 } else { NO_VGA }
}

/// Fixed feature flags (table 5.10).
fn fadt_flags(pm: &PmBlocks) -> u32 {
    const WBINVD: u32 = 1;
    const PROC_C1: u32 = 1 << 2;
    const NO_POWER_BUTTON: u32 = 1 << 4;
    const NO_SLEEP_BUTTON: u32 = 1 << 5;
    const NO_FIXED_RTC: u32 = 1 << 6;
    const TIMER_32BIT: u32 = 1 << 8;
    const RESET_REGISTER: u32 = 1 << 10;
    let mut flags = WBINVD | PROC_C1 | NO_SLEEP_BUTTON | NO_FIXED_RTC;
    if !pm.power_button {
        flags |= NO_POWER_BUTTON;
    }
    if pm.timer_32bit {
        flags |= TIMER_32BIT;
    }
    if pm.reset.is_some() {
        flags |= RESET_REGISTER;
    }
    flags
}

fn madt(board: &Board) -> Vec<u8> {
    const PCAT_COMPAT: u32 = 1; // two 8259s are there as well
    let mut body = Vec::new();
    body.extend_from_slice(&board.lapic.to_le_bytes());
    body.extend_from_slice(&PCAT_COMPAT.to_le_bytes());
    for cpu in 0..board.cpus {
        ProcessorLocalApic::new(cpu, board.apic_id(cpu), EnabledStatus::Enabled).to_aml_bytes(&mut body);
    }
    IoApic::new(board.ioapic_id, board.ioapic, 0).to_aml_bytes(&mut body);
    // The PIT is on input 2, as on every PC since the 8259 cascade took input 0.
    source_override(&mut body, 0, 2, 0);
    for irq in board.level_irqs() {
        source_override(&mut body, irq, irq.into(), LEVEL_HIGH);
    }
    // NMI on LINT1 of every processor, polarity and trigger of the bus.
    body.extend_from_slice(&[4, 6, 0xff, 0, 0, 1]);
    table(*b"APIC", 3, &body)
}

/// Interrupt source override (5.2.12.5).
fn source_override(body: &mut Vec<u8>, irq: u8, gsi: u32, flags: u16) {
    body.extend_from_slice(&[2, 10, 0, irq]);
    body.extend_from_slice(&gsi.to_le_bytes());
    body.extend_from_slice(&flags.to_le_bytes());
}

/// HPET description table (IA-PC HPET specification 3.2.4).
fn hpet(base: u32, id: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&id.to_le_bytes());
    body.extend_from_slice(&[0, 64, 0, 0]);
    body.extend_from_slice(&u64::from(base).to_le_bytes());
    body.extend_from_slice(&[0, 0, 0, 0]); // number 0, minimum tick 0, no page protection
    table(*b"HPET", 1, &body)
}

/// Memory-mapped configuration space (PCI Firmware specification 3.0, 4.1.2): segment 0, all buses.
fn mcfg(base: u32) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&u64::from(base).to_le_bytes());
    body.extend_from_slice(&[0, 0, 0, 255, 0, 0, 0, 0]);
    table(*b"MCFG", 1, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{u32_at, u64_at};
    use crate::e820::MemoryLayout;

    const AREA: u32 = 0x1fff_0000;
    const FACS: u32 = 0x1fff_f000;

    fn tables(board: &Board) -> AcpiTables {
        build(board, &board.pm.unwrap(), AREA, FACS)
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |a, b| a.wrapping_add(*b))
    }

    /// Every table that the RSDP leads to, checked as a guest checks it.
    fn walk(tables: &AcpiTables) -> Vec<([u8; 4], Vec<u8>)> {
        assert_eq!(sum(&tables.rsdp[..20]), 0);
        assert_eq!(sum(&tables.rsdp), 0);
        let at = |address: u64| {
            let bytes = &tables.area[(address - u64::from(AREA)) as usize..];
            let table = bytes[..u32_at(bytes, 4).unwrap() as usize].to_vec();
            assert_eq!(sum(&table), 0, "{:?}", std::str::from_utf8(&table[..4]));
            (table[..4].try_into().unwrap(), table)
        };
        let (name, rsdt) = at(u32_at(&tables.rsdp, 16).unwrap().into());
        assert_eq!(&name, b"RSDT");
        let (name, xsdt) = at(u64_at(&tables.rsdp, 24).unwrap());
        assert_eq!(&name, b"XSDT");
        let narrow: Vec<u64> =
            rsdt[36..].chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap()).into()).collect();
        let wide: Vec<u64> =
            xsdt[36..].chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
        assert_eq!(narrow, wide);
        let mut found: Vec<_> = wide.into_iter().map(at).collect();
        let fadt = found[0].1.clone();
        assert_eq!(u64::from(u32_at(&fadt, 40).unwrap()), u64_at(&fadt, 140).unwrap());
        found.push(at(u64_at(&fadt, 140).unwrap()));
        found
    }

    #[test]
    fn a_guest_finds_every_table() {
        let board = Board::pc(MemoryLayout::new(512 << 20).unwrap(), 2);
        let names: Vec<_> = walk(&tables(&board)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [*b"FACP", *b"APIC", *b"HPET", *b"DSDT"]);
    }

    #[test]
    fn a_q35_has_its_own_tables() {
        let board = Board::q35(MemoryLayout::new(512 << 20).unwrap(), 1);
        let all = walk(&tables(&board));
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [*b"FACP", *b"APIC", *b"HPET", *b"MCFG", *b"DSDT"]);
        assert_eq!(u64_at(&all[3].1, 44), Some(0xb000_0000));
        assert_eq!((u32_at(&all[0].1, 80), all[0].1[92]), (Some(0x620), 16));
        for name in [b"LNKH", b"PRQH", b"_OSC", b"_CID"] {
            assert!(all[4].1.windows(4).any(|w| w == name), "{name:?}");
        }
    }

    #[test]
    fn fadt_names_the_fixed_hardware() {
        let board = Board::pc(MemoryLayout::new(512 << 20).unwrap(), 1);
        let (_, fadt) = walk(&tables(&board)).remove(0);
        assert_eq!(fadt.len(), 244);
        assert_eq!(u32_at(&fadt, 36), Some(FACS));
        assert_eq!(u32_at(&fadt, 56), Some(0x600));
        assert_eq!(u32_at(&fadt, 64), Some(0x604));
        assert_eq!(u64_at(&fadt, 208 + 4), Some(0x608));
        assert_eq!((fadt[128], u64_at(&fadt, 120)), (6, Some(0xcf9)));
        assert_ne!(u32_at(&fadt, 112).unwrap() & (1 << 10), 0);
    }

    #[test]
    fn madt_lists_processors_and_overrides() {
        let mut board = Board::pc(MemoryLayout::new(512 << 20).unwrap(), 3);
        board.pci.gsi = None;
        let (_, madt) = walk(&tables(&board)).remove(1);
        let mut kinds = Vec::new();
        let mut at = 44;
        while at < madt.len() {
            kinds.push(madt[at]);
            at += usize::from(madt[at + 1]);
        }
        assert_eq!((at, kinds), (madt.len(), vec![0, 0, 0, 1, 2, 2, 2, 2, 2, 4]));
    }

    #[test]
    fn the_dsdt_names_the_devices() {
        for gsi in [None, Some(16)] {
            let mut board = Board::pc(MemoryLayout::new(512 << 20).unwrap(), 2);
            board.pci.gsi = gsi;
            let (_, dsdt) = walk(&tables(&board)).pop().unwrap();
            for name in [b"_S5_", b"PCI0", b"_PRT", b"RTC_", b"COM1", b"HPET", b"C001", b"LNKD"] {
                assert!(dsdt.windows(4).any(|w| w == name), "{name:?}");
            }
            assert_eq!(dsdt.windows(4).any(|w| w == b"PRTA"), gsi.is_some());
        }
    }
}
