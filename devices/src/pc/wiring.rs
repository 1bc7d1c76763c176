//! The board in tables: which device decodes which ports, and where each interrupt source goes.

/// A device as port dispatch sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 8237A pair and page registers.
    Dma,
    /// 8259A pair and edge/level control.
    Pic,
    /// 8254 and port 61h.
    Pit,
    /// Keyboard controller and port 92h.
    KeyboardController,
    /// Clock and CMOS RAM.
    Rtc,
    /// POST, delay, debug console.
    DebugPorts,
    /// isa-debug-exit.
    DebugExit,
    /// The debug console at a port of the user's choice.
    Debugcon,
    /// pc-testdev.
    PcTestdev,
    /// retro-post number n.
    Post(u8),
    /// ACPI registers in ISA space: SMI command, reset.
    Acpi,
    /// ACPI register block at PMBASE.
    AcpiBlock,
    /// Coprocessor error acknowledgement.
    FpuError,
    /// 16550A number n.
    Serial(u8),
    /// PCI configuration mechanism.
    Pci,
    /// IDE channel n.
    Ide(u8),
    /// Floppy controller.
    Floppy,
    /// VGA and its display interface.
    Vga,
    /// Firmware configuration.
    FwCfg,
}

impl Unit {
    /// Devices on the byte-wide X bus: the bridge splits wider accesses into bytes at successive ports.
    pub(super) fn is_byte_wide(self) -> bool {
        !matches!(
            self,
            Unit::DebugExit
                | Unit::AcpiBlock
                | Unit::Pci
                | Unit::PcTestdev
                | Unit::Post(_)
                | Unit::FwCfg
                | Unit::Ide(_)
                | Unit::Vga
        )
    }
}

/// Ports `first` to `last` belong to `unit`.
#[derive(Clone, Copy, Debug)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Who decodes them.
    pub unit: Unit,
}

const fn ports(first: u16, last: u16, unit: Unit) -> PortRange {
    PortRange { first, last, unit }
}

/// Fixed ports in ascending order. CF9h is the reset register even though CF8h is a 32-bit register. What is not here
/// and not configured (isa-debug-exit, the ACPI block at PMBASE) is unassigned and reads all ones.
pub const PORTS: &[PortRange] = &[
    ports(0x000, 0x00f, Unit::Dma),
    ports(0x020, 0x021, Unit::Pic),
    ports(0x040, 0x043, Unit::Pit),
    ports(0x060, 0x060, Unit::KeyboardController),
    ports(0x061, 0x061, Unit::Pit),
    ports(0x064, 0x064, Unit::KeyboardController),
    ports(0x070, 0x071, Unit::Rtc),
    ports(0x080, 0x080, Unit::DebugPorts),
    ports(0x081, 0x08f, Unit::Dma),
    ports(0x092, 0x092, Unit::KeyboardController),
    ports(0x0a0, 0x0a1, Unit::Pic),
    ports(0x0b2, 0x0b3, Unit::Acpi),
    ports(0x0c0, 0x0df, Unit::Dma),
    ports(0x0e9, 0x0e9, Unit::DebugPorts),
    ports(0x0ed, 0x0ed, Unit::DebugPorts),
    ports(0x0f0, 0x0f0, Unit::FpuError),
    ports(0x170, 0x177, Unit::Ide(1)),
    ports(0x1ce, 0x1d0, Unit::Vga),
    ports(0x1f0, 0x1f7, Unit::Ide(0)),
    ports(0x2e8, 0x2ef, Unit::Serial(3)),
    ports(0x2f8, 0x2ff, Unit::Serial(1)),
    ports(0x376, 0x376, Unit::Ide(1)),
    ports(0x3b4, 0x3b5, Unit::Vga),
    ports(0x3ba, 0x3ba, Unit::Vga),
    ports(0x3c0, 0x3cf, Unit::Vga),
    ports(0x3d4, 0x3d5, Unit::Vga),
    ports(0x3da, 0x3da, Unit::Vga),
    ports(0x3e8, 0x3ef, Unit::Serial(2)),
    ports(0x3f0, 0x3f5, Unit::Floppy),
    ports(0x3f6, 0x3f6, Unit::Ide(0)),
    ports(0x3f7, 0x3f7, Unit::Floppy),
    ports(0x3f8, 0x3ff, Unit::Serial(0)),
    ports(0x4d0, 0x4d1, Unit::Pic),
    ports(0x510, 0x51b, Unit::FwCfg),
    ports(0xcf8, 0xcf8, Unit::Pci),
    ports(0xcf9, 0xcf9, Unit::Acpi),
    ports(0xcfa, 0xcff, Unit::Pci),
];

/// One bit for each port below 1000h: is it in [`PORTS`]?
static FIXED: [u64; 64] = {
    let mut bits = [0; 64];
    let mut n = 0;
    while n < PORTS.len() {
        let mut port = PORTS[n].first;
        while port <= PORTS[n].last {
            bits[(port >> 6) as usize] |= 1 << (port & 63);
            port += 1;
        }
        n += 1;
    }
    bits
};

/// Who decodes a fixed port: quickly told if nobody does.
pub(super) fn fixed(port: u16) -> Option<PortRange> {
    if FIXED.get(usize::from(port >> 6)).is_none_or(|bits| bits >> (port & 63) & 1 == 0) {
        return None;
    }
    let index = PORTS.partition_point(|range| range.last < port);
    PORTS.get(index).copied()
}

/// Who decodes a fixed port and has a lock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApartPort {
    /// The 8259A pair: [`super::Interrupts::port_read`].
    Pic,
    /// This channel of the function at [`crate::pci::IDE`], if there is one.
    Ide(u8),
}

/// Where no device for tests lies over these ports.
#[derive(Clone, Copy, Debug)]
pub struct ApartPorts(pub(super) ());

impl ApartPorts {
    /// Whose an access is that one of them takes as it is.
    #[inline]
    pub fn find(self, port: u16, size: u8) -> Option<ApartPort> {
        let range = fixed(port)?;
        let fits = u32::from(port) + u32::from(size) <= u32::from(range.last) + 1;
        match range.unit {
            Unit::Pic if size == 1 => Some(ApartPort::Pic),
            Unit::Ide(channel) if fits => Some(ApartPort::Ide(channel)),
            _ => None,
        }
    }
}

/// An interrupt source with fixed inputs.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Bit in the board's `Lines`.
    pub line: u8,
    /// Who drives it.
    pub name: &'static str,
    /// Input of the 8259A pair.
    pub isa_irq: u8,
    /// Pin of the I/O APIC = global system interrupt.
    pub ioapic_pin: u8,
}

const fn source(line: u8, name: &'static str, isa_irq: u8, ioapic_pin: u8) -> Source {
    Source { line, name, isa_irq, ioapic_pin }
}

pub(super) const LINE_PIT: u8 = 0;
pub(super) const LINE_KEYBOARD: u8 = 1;
pub(super) const LINE_SERIAL: u8 = 2; // to 5
pub(super) const LINE_RTC: u8 = 6;
pub(super) const LINE_SCI: u8 = 7;
pub(super) const LINE_MOUSE: u8 = 8;
pub(super) const LINE_FPU: u8 = 9;
pub(super) const LINE_IDE: u8 = 10; // and 11
pub(super) const LINE_FLOPPY: u8 = 12;
/// HPET comparators 0 to 2: their inputs are programmable.
pub(super) const LINE_HPET: u8 = 16;
/// PCI interrupt pins, in the order in which they were connected.
pub(super) const LINE_PCI: u8 = 32;

/// The fixed sources (but that a Q35's SCI can be moved). IRQ 0 arrives at I/O APIC pin 2 (an interrupt source override in the MADT); pin 0 is the 8259A
/// pair's INTR. Only the SCI is level-triggered (ELCR bit 9, and an override for pin 9).
pub const SOURCES: &[Source] = &[
    source(LINE_PIT, "8254 channel 0", 0, 2),
    source(LINE_KEYBOARD, "keyboard", 1, 1),
    source(LINE_SERIAL, "COM1", 4, 4),
    source(LINE_SERIAL + 1, "COM2", 3, 3),
    source(LINE_SERIAL + 2, "COM3", 4, 4),
    source(LINE_SERIAL + 3, "COM4", 3, 3),
    source(LINE_RTC, "clock", 8, 8),
    source(LINE_SCI, "SCI", 9, 9),
    source(LINE_MOUSE, "mouse", 12, 12),
    source(LINE_FPU, "FERR#", 13, 13),
    source(LINE_IDE, "primary IDE channel", 14, 14),
    source(LINE_IDE + 1, "secondary IDE channel", 15, 15),
    source(LINE_FLOPPY, "floppy", 6, 6),
];

/// I/O APIC pin of PIRQA; the others follow. The 8259A pair sees PIRQs through the chipset's route registers.
pub const PIRQ_FIRST_PIN: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_free_of_conflicts() {
        assert!(PORTS.windows(2).all(|pair| pair[0].last < pair[1].first));
        assert!(PORTS.iter().all(|range| range.first <= range.last));
        for port in 0..=u16::MAX {
            let found = PORTS.iter().find(|range| (range.first..=range.last).contains(&port));
            assert_eq!(fixed(port).map(|range| range.unit), found.map(|range| range.unit), "{port:#x}");
        }
        let lines: std::collections::BTreeSet<_> = SOURCES.iter().map(|source| source.line).collect();
        assert_eq!(lines.len(), SOURCES.len());
    }
}
