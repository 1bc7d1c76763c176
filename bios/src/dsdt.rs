//! The DSDT: the devices that cannot be found by probing, and the routing of PCI interrupts.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Memory32Fixed, Method,
    Name, OpRegion, OpRegionSpace, Or, Package, PackageBuilder, Path, ResourceTemplate, Return, Scope, Store,
    Uuid, ZERO,
};
use acpi_tables::{Aml, AmlSink};

use crate::board::{Board, Chipset, ECAM_LEN, PIRQ_CHOICES, PmBlocks, SerialPort};
use crate::e820::{PCI_HOLE, PCI_HOLE_END};

/// Definition block contents for `board`, without the table header.
pub fn body(board: &Board, pm: &PmBlocks) -> Vec<u8> {
    let mut aml = Vec::new();
    sleep_state("_S0_", pm.s0_type).to_aml_bytes(&mut aml);
    sleep_state("_S5_", pm.s5_type).to_aml_bytes(&mut aml);

    Name::new(Path::new("PICF"), &ZERO).to_aml_bytes(&mut aml);
    let mode = Path::new("PICF");
    let remember = Store::new(&mode, &Arg(0));
    Method::new(Path::new("_PIC"), 1, false, vec![&remember]).to_aml_bytes(&mut aml);

    let host_bridge = Encoded::new(|out| host_bridge(board, out));
    let lines = 0..board.chipset.lines();
    let links = Encoded::new(|out| lines.for_each(|line| link_device(line, out)));
    let windows = Encoded::new(|out| board_windows(board, out));
    let hpet = Encoded::new(|out| {
        if let Some(base) = board.hpet {
            hpet_device(base, out);
        }
    });
    let cpus = Encoded::new(|out| (0..board.cpus).for_each(|cpu| processor(cpu, out)));
    Scope::new(Path::new("\\_SB_"), vec![&host_bridge, &links, &windows, &hpet, &cpus])
        .to_aml_bytes(&mut aml);
    aml
}

/// AML that has been encoded already.
struct Encoded(Vec<u8>);

impl Encoded {
    fn new(build: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::new();
        build(&mut bytes);
        Self(bytes)
    }
}

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// `IRQNoFlags`: an ISA interrupt, edge triggered (ACPI specification 6.4.2.1).
struct IsaIrq(u8);

impl Aml for IsaIrq {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x22);
        sink.word(1 << (self.0 & 15));
    }
}

/// Extended interrupt descriptor with several choices, level triggered, active high, shared (6.4.3.6).
struct InterruptChoices<'a>(&'a [u8]);

impl Aml for InterruptChoices<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x89);
        sink.word(2 + 4 * self.0.len() as u16);
        sink.byte(0x09);
        sink.byte(self.0.len() as u8);
        for irq in self.0 {
            sink.dword((*irq).into());
        }
    }
}

fn hid(id: &str) -> Name {
    Name::new(Path::new("_HID"), &EISAName::new(id))
}

fn uid(number: u8) -> Name {
    Name::new(Path::new("_UID"), &number)
}

fn crs(resources: Vec<&dyn Aml>) -> Name {
    Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources))
}

fn sleep_state(name: &str, kind: u8) -> Name {
    Name::new(Path::new(name), &Package::new(vec![&kind, &kind, &ZERO, &ZERO]))
}

fn host_bridge(board: &Board, out: &mut Vec<u8>) {
    let buses = AddressSpace::new_bus_number(0u16, 0xff);
    let config = IO::new(0xcf8, 0xcf8, 1, 8);
    let low_ports = AddressSpace::new_io(0u16, 0xcf7, None);
    let high_ports = AddressSpace::new_io(0xd00u16, 0xffff, None);
    let video = AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, 0xa_0000u32, 0xb_ffff, None);
    let hole = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        PCI_HOLE as u32,
        (PCI_HOLE_END - 1) as u32,
        None,
    );
    let windows = crs(vec![&buses, &config, &low_ports, &high_ports, &video, &hole]);
    let kind = Encoded::new(|out| match board.ecam {
        None => hid("PNP0A03").to_aml_bytes(out),
        Some(_) => {
            hid("PNP0A08").to_aml_bytes(out);
            Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")).to_aml_bytes(out);
            operating_system_capabilities(out);
        }
    });
    let routing = Encoded::new(|out| routing(board, out));
    let isa = Encoded::new(|out| isa_bridge(board, out));
    Device::new(
        Path::new("PCI0"),
        vec![&kind, &uid(0), &Name::new(Path::new("_BBN"), &ZERO), &windows, &routing, &isa],
    )
    .to_aml_bytes(out);
}

/// `_OSC` of a PCI Express host bridge (PCI Firmware specification 3.0, 4.5): no feature is there to be handed over.
fn operating_system_capabilities(out: &mut Vec<u8>) {
    const UNRECOGNIZED: u8 = 0x04;
    const MASKED: u8 = 0x10;
    let (first, third) = (Path::new("CDW1"), Path::new("CDW3"));
    let status = CreateDWordField::new(&first, &Arg(3), &ZERO);
    let control = CreateDWordField::new(&third, &Arg(3), &8u8);
    let uuid = Uuid::new("33DB4D5B-1FF7-401C-9657-7441C03DD766");
    let known = acpi_tables::aml::Equal::new(&Arg(0), &uuid);
    let masked = Or::new(&first, &first, &MASKED);
    let nothing = Store::new(&third, &ZERO);
    let if_wanted = If::new(&third, vec![&masked, &nothing]);
    let if_known = If::new(&known, vec![&control, &if_wanted]);
    let unknown = Or::new(&first, &first, &UNRECOGNIZED);
    let otherwise = Else::new(vec![&unknown]);
    let result = Return::new(&Arg(3));
    Method::new(Path::new("_OSC"), 4, true, vec![&status, &if_known, &otherwise, &result]).to_aml_bytes(out);
}

/// Memory that belongs to the board itself: configuration space and the root complex registers.
fn board_windows(board: &Board, out: &mut Vec<u8>) {
    let windows = [board.ecam.map(|at| (at, ECAM_LEN as u32)), board.root_complex.map(|at| (at, 0x4000))];
    let windows: Vec<_> =
        windows.into_iter().flatten().map(|(at, len)| Memory32Fixed::new(true, at, len)).collect();
    if !windows.is_empty() {
        let resources = crs(windows.iter().map(|window| window as &dyn Aml).collect());
        Device::new(Path::new("MEM0"), vec![&hid("PNP0C02"), &uid(0), &resources]).to_aml_bytes(out);
    }
}

/// `_PRT`, which depends on the interrupt controller that the guest has announced by `_PIC`.
fn routing(board: &Board, out: &mut Vec<u8>) {
    let table = |first| routing_table(board.chipset, first);
    let Some(first) = board.pci.gsi else {
        Name::new(Path::new("_PRT"), &table(None)).to_aml_bytes(out);
        return;
    };
    Name::new(Path::new("PRTP"), &table(None)).to_aml_bytes(out);
    Name::new(Path::new("PRTA"), &table(Some(first))).to_aml_bytes(out);
    let (for_pic, for_apic) = (Path::new("PRTP"), Path::new("PRTA"));
    let (pic, apic) = (Return::new(&for_pic), Return::new(&for_apic));
    let mode = Path::new("\\PICF");
    let if_apic = If::new(&mode, vec![&apic]);
    Method::new(Path::new("_PRT"), 0, false, vec![&if_apic, &pic]).to_aml_bytes(out);
}

/// One entry per slot and pin: by the link device of its line, or by the I/O APIC's input, where PIRQA's is `first`.
fn routing_table(chipset: Chipset, first: Option<u32>) -> PackageBuilder {
    let mut table = PackageBuilder::new();
    for slot in 1..32u32 {
        for pin in 0..4u8 {
            let line = chipset.line(slot as u8, pin);
            let address = (slot << 16) | 0xffff;
            match first {
                None => {
                    let link = Path::new(LINKS[line]);
                    table.add_element(&Package::new(vec![&address, &pin, &link, &ZERO]));
                }
                Some(first) => {
                    let input = first + line as u32;
                    table.add_element(&Package::new(vec![&address, &pin, &ZERO, &input]));
                }
            }
        }
    }
    table
}

const LINKS: [&str; 8] = ["LNKA", "LNKB", "LNKC", "LNKD", "LNKE", "LNKF", "LNKG", "LNKH"];
const ROUTES: [&[u8; 4]; 8] = [b"PRQA", b"PRQB", b"PRQC", b"PRQD", b"PRQE", b"PRQF", b"PRQG", b"PRQH"];

fn isa_bridge(board: &Board, out: &mut Vec<u8>) {
    // Four bytes; on an ICH9 four more after a gap of four.
    let len: u8 = if board.chipset.lines() > 4 { 12 } else { 4 };
    let mut fields: Vec<_> = ROUTES[..4].iter().map(|name| FieldEntry::Named(**name, 8)).collect();
    if board.chipset.lines() > 4 {
        fields.push(FieldEntry::Reserved(32));
        fields.extend(ROUTES[4..].iter().map(|name| FieldEntry::Named(**name, 8)));
    }
    let region = OpRegion::new(Path::new("PIRR"), OpRegionSpace::PCIConfig, &0x60u8, &len);
    let routes = Field::new(
        Path::new("PIRR"),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        fields,
    );
    let devices = Encoded::new(|out| isa_devices(board, out));
    let bridge = u32::from(board.chipset.bridge()) << 16;
    let address = Name::new(Path::new("_ADR"), &bridge);
    Device::new(Path::new("ISA_"), vec![&address, &region, &routes, &devices]).to_aml_bytes(out);
}

fn isa_devices(board: &Board, out: &mut Vec<u8>) {
    let clock_ports = IO::new(0x70, 0x70, 1, 8);
    let clock = crs(vec![&clock_ports, &IsaIrq(8)]);
    Device::new(Path::new("RTC_"), vec![&hid("PNP0B00"), &clock]).to_aml_bytes(out);
    if board.keyboard {
        let data = IO::new(0x60, 0x60, 1, 1);
        let command = IO::new(0x64, 0x64, 1, 1);
        let keyboard = crs(vec![&data, &command, &IsaIrq(1)]);
        Device::new(Path::new("KBD_"), vec![&hid("PNP0303"), &keyboard]).to_aml_bytes(out);
    }
    if board.keyboard && board.mouse {
        let mouse = crs(vec![&IsaIrq(12)]);
        Device::new(Path::new("MOU_"), vec![&hid("PNP0F13"), &mouse]).to_aml_bytes(out);
    }
    for (number, serial) in (1..=4).zip(&board.serial) {
        serial_port(number, *serial, out);
    }
}

fn serial_port(number: u8, serial: SerialPort, out: &mut Vec<u8>) {
    let registers = IO::new(serial.port, serial.port, 1, 8);
    let resources = crs(vec![&registers, &IsaIrq(serial.irq)]);
    Device::new(Path::new(&format!("COM{number}")), vec![&hid("PNP0501"), &uid(number), &resources])
        .to_aml_bytes(out);
}

/// A PCI interrupt link: reads and writes one PIRQ route register, whose bit 7 means "not routed".
fn link_device(line: usize, out: &mut Vec<u8>) {
    let name = String::from_utf8_lossy(ROUTES[line]);
    let route = Path::new(&format!("\\_SB_.PCI0.ISA_.{name}"));
    let disabled = And::new(&ZERO, &route, &0x80u8);
    let absent = Return::new(&0x09u8);
    let present = Return::new(&0x0bu8);
    let if_disabled = If::new(&disabled, vec![&absent]);
    let status = Method::new(Path::new("_STA"), 0, false, vec![&if_disabled, &present]);

    let off = Or::new(&route, &route, &0x80u8);
    let disable = Method::new(Path::new("_DIS"), 0, false, vec![&off]);

    // The number is at offset 5 of the extended interrupt descriptor.
    let buffer_name = Path::new("BUFF");
    let irq_name = Path::new("IRQN");
    let nothing = Interrupt::new(true, false, false, true, 0);
    let buffer = Name::new(Path::new("BUFF"), &ResourceTemplate::new(vec![&nothing]));
    let number = CreateDWordField::new(&irq_name, &buffer_name, &5u8);
    let routed = And::new(&ZERO, &route, &0x0fu8);
    let fill = Store::new(&irq_name, &routed);
    let enabled = acpi_tables::aml::Equal::new(&disabled, &ZERO);
    let fill_if_enabled = If::new(&enabled, vec![&fill]);
    let result = Return::new(&buffer_name);
    let current = Method::new(Path::new("_CRS"), 0, true, vec![&buffer, &number, &fill_if_enabled, &result]);

    let wanted = CreateDWordField::new(&irq_name, &Arg(0), &5u8);
    let program = Store::new(&route, &irq_name);
    let set = Method::new(Path::new("_SRS"), 1, true, vec![&wanted, &program]);

    let choices = InterruptChoices(&PIRQ_CHOICES);
    let possible = Name::new(Path::new("_PRS"), &ResourceTemplate::new(vec![&choices]));
    Device::new(
        Path::new(LINKS[line]),
        vec![&hid("PNP0C0F"), &uid(line as u8), &possible, &status, &disable, &current, &set],
    )
    .to_aml_bytes(out);
}

fn hpet_device(base: u32, out: &mut Vec<u8>) {
    let registers = Memory32Fixed::new(false, base, 0x400);
    Device::new(Path::new("HPET"), vec![&hid("PNP0103"), &uid(0), &crs(vec![&registers])]).to_aml_bytes(out);
}

fn processor(cpu: u8, out: &mut Vec<u8>) {
    let id = Name::new(Path::new("_HID"), &"ACPI0007");
    Device::new(Path::new(&format!("C{cpu:03X}")), vec![&id, &uid(cpu)]).to_aml_bytes(out);
}
