//! What the firmware must know about the machine that it describes: plain data, chosen by the board's wiring.

use crate::e820::MemoryLayout;

/// Enables and disables ACPI mode by a write to a port (ACPI specification, FADT SMI_CMD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmiCommand {
    /// I/O port.
    pub port: u16,
    /// Value that sets SCI_EN.
    pub enable: u8,
    /// Value that clears it.
    pub disable: u8,
}

/// A general-purpose event block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpeBlock {
    /// I/O port.
    pub port: u16,
    /// Bytes: half status, half enable.
    pub len: u8,
}

/// A port that resets the machine (FADT RESET_REG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRegister {
    /// I/O port.
    pub port: u16,
    /// The value that resets.
    pub value: u8,
}

/// The fixed ACPI hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmBlocks {
    /// PM1a event block, 4 bytes.
    pub event: u16,
    /// PM1a control register, 2 bytes.
    pub control: u16,
    /// PM timer, 4 bytes.
    pub timer: u16,
    /// The timer counts 32 bits, not 24.
    pub timer_32bit: bool,
    /// General-purpose events, if there are any.
    pub gpe0: Option<GpeBlock>,
    /// How to enter ACPI mode; `None`: the machine is always in it.
    pub smi: Option<SmiCommand>,
    /// Interrupt of ACPI events, level triggered.
    pub sci: u8,
    /// The reset register, if there is one.
    pub reset: Option<ResetRegister>,
    /// The power button sets PM1 status bit 8.
    pub power_button: bool,
    /// SLP_TYP values of S0 and of S5 (PIIX4: 5 is working, 0 is soft off).
    pub s0_type: u8,
    /// SLP_TYP value of soft off.
    pub s5_type: u8,
}

/// The chipset, as far as tables and set-up depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    /// i440FX and PIIX: ISA bridge at device 1, four interrupt lines.
    I440Fx,
    /// Q35 and ICH9: LPC bridge at device 1Fh, eight interrupt lines, configuration space in memory.
    Q35,
}

impl Chipset {
    /// Device number of the ISA or LPC bridge, whose function 0 has the PIRQ route registers.
    pub fn bridge(self) -> u8 {
        match self {
            Self::I440Fx => 1,
            Self::Q35 => 0x1f,
        }
    }

    /// Number of interrupt lines, PIRQA first. Their route registers are at 60h to 63h, and 68h to 6Bh of the bridge.
    pub fn lines(self) -> usize {
        match self {
            Self::I440Fx => 4,
            Self::Q35 => 8,
        }
    }

    /// The line (0 = PIRQA) that a pin (0 = INTA#) of a device is wired to.
    pub fn line(self, device: u8, pin: u8) -> usize {
        let (device, pin) = (usize::from(device), usize::from(pin & 3));
        match self {
            Self::I440Fx => (device + pin + 3) % 4,
            Self::Q35 if device < 25 => 4 + (device + pin) % 4,
            Self::Q35 if device == 30 => 4 + pin,
            // As the DnnIR registers are after reset.
            Self::Q35 => pin,
        }
    }
}

/// How the PCI interrupt lines reach the interrupt controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciInterrupts {
    /// What the firmware leaves in the route registers of PIRQA to PIRQD, and of PIRQE to PIRQH: the 8259 inputs.
    pub routes: [u8; 4],
    /// The I/O APIC's input that PIRQA is wired to, and the others after it; `None`: the input of the same number as the
    /// 8259's.
    pub gsi: Option<u32>,
}

/// A serial port at its ISA address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// I/O port of the first register.
    pub port: u16,
    /// ISA interrupt.
    pub irq: u8,
}

/// The machine as firmware sees it. [`Board::pc`] gives the usual one; change what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// RAM.
    pub layout: MemoryLayout,
    /// Chipset.
    pub chipset: Chipset,
    /// Where configuration space is seen in memory: 256 MiB.
    pub ecam: Option<u32>,
    /// Where the root complex registers are.
    pub root_complex: Option<u32>,
    /// Number of processors.
    pub cpus: u8,
    /// Their APIC ids, where those are not 0, 1, 2 ...
    pub apic_ids: Vec<u8>,
    /// CPUID leaf 1 EAX, for the MP table and SMBIOS.
    pub cpu_signature: u32,
    /// CPUID leaf 1 EDX, likewise.
    pub cpu_features: u32,
    /// Width of physical addresses, bits.
    pub phys_bits: u8,
    /// Local APIC base.
    pub lapic: u32,
    /// I/O APIC base.
    pub ioapic: u32,
    /// I/O APIC id.
    pub ioapic_id: u8,
    /// HPET base, if there is one.
    pub hpet: Option<u32>,
    /// HPET general capabilities, low half: timers, 64-bit, legacy replacement, vendor.
    pub hpet_id: u32,
    /// ACPI hardware; `None`: no ACPI tables at all.
    pub pm: Option<PmBlocks>,
    /// Interrupts of PCI devices.
    pub pci: PciInterrupts,
    /// Serial ports, COM1 first.
    pub serial: Vec<SerialPort>,
    /// A VGA answers at 0xa0000 and 0x3c0.
    pub vga: bool,
    /// An i8042 with a keyboard.
    pub keyboard: bool,
    /// ... and with a mouse.
    pub mouse: bool,
}

impl Board {
    /// A PC with an i440FX-like host bridge and the usual addresses.
    pub fn pc(layout: MemoryLayout, cpus: u8) -> Self {
        Self {
            layout,
            chipset: Chipset::I440Fx,
            ecam: None,
            root_complex: None,
            cpus,
            apic_ids: Vec::new(),
            cpu_signature: 0x0000_0663,
            cpu_features: 0x078b_fbff,
            phys_bits: 40,
            lapic: 0xfee0_0000,
            ioapic: 0xfec0_0000,
            ioapic_id: 0,
            hpet: Some(0xfed0_0000),
            hpet_id: 0x8086_a201,
            pm: Some(PmBlocks {
                event: 0x600,
                control: 0x604,
                timer: 0x608,
                timer_32bit: false,
                gpe0: None,
                smi: Some(SmiCommand { port: 0xb2, enable: 0xf1, disable: 0xf0 }),
                sci: 9,
                reset: Some(ResetRegister { port: 0xcf9, value: 6 }),
                power_button: true,
                s0_type: 5,
                s5_type: 0,
            }),
            pci: PciInterrupts { routes: [10, 10, 11, 11], gsi: Some(16) },
            serial: vec![SerialPort { port: 0x3f8, irq: 4 }],
            vga: false,
            keyboard: true,
            mouse: true,
        }
    }

    /// A Q35 board with an ICH9.
    pub fn q35(layout: MemoryLayout, cpus: u8) -> Self {
        let pc = Self::pc(layout, cpus);
        let gpe0 = Some(GpeBlock { port: 0x620, len: 16 });
        Self {
            chipset: Chipset::Q35,
            ecam: Some(ECAM),
            root_complex: Some(ROOT_COMPLEX),
            pm: pc.pm.map(|pm| PmBlocks { gpe0, ..pm }),
            ..pc
        }
    }

    /// The APIC id of processor number `cpu`.
    pub fn apic_id(&self, cpu: u8) -> u8 {
        self.apic_ids.get(usize::from(cpu)).copied().unwrap_or(cpu)
    }

    /// The interrupts that arrive level-triggered, active high, at the I/O APIC input of the same number: the SCI and,
    /// where they are not wired elsewhere, the targets of the PIRQ lines. Each needs an interrupt source override.
    pub fn level_irqs(&self) -> Vec<u8> {
        let mut irqs: Vec<u8> = self.pm.iter().map(|pm| pm.sci).collect();
        if self.pci.gsi.is_none() {
            irqs.extend(PIRQ_CHOICES);
        }
        irqs.sort_unstable();
        irqs.dedup();
        irqs
    }
}

/// Where firmware of Q35 boards puts configuration space and the root complex registers.
const ECAM: u32 = 0xb000_0000;
const ROOT_COMPLEX: u32 = 0xfed1_c000;
/// Length of configuration space in memory.
pub const ECAM_LEN: u64 = 256 << 20;

/// ISA interrupts that a PIRQ line may be routed to.
pub const PIRQ_CHOICES: [u8; 3] = [5, 10, 11];
