//! The chipset's functions: i440FX host bridge, PIIX3 ISA bridge, PIIX4 power management.

use super::bridge_memory::{BridgeMemory, Registers};
use super::{ConfigSpace, PciFunction};
use crate::acpi_pm::PM_BASE;

macro_rules! pci_function {
    ($name:ident) => {
        impl PciFunction for $name {
            fn config(&self) -> &ConfigSpace {
                &self.config
            }
            fn config_mut(&mut self) -> &mut ConfigSpace {
                &mut self.config
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

/// 82441FX host bridge, 00:00.0.
pub struct I440Fx {
    config: ConfigSpace,
}

impl PciFunction for I440Fx {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, _offset: u8, _len: u8) {
        REGISTERS.lock(&mut self.config);
    }
}

impl Default for I440Fx {
    fn default() -> Self {
        Self::new()
    }
}

/// PAM0 to PAM6 at 59h, SMRAM at 72h; there is no TSEG.
const REGISTERS: Registers = Registers { pam: 0x59, smramc: 0x72, tseg: None };

impl I440Fx {
    /// After reset: shadow RAM off.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x1237, 0x06_0000, 0x02);
        config.fixed(0x04, &[0x06, 0x01, 0x80, 0x02]);
        config.register(0x50, &[0x00, 0x00, 0x00, 0x00], &[0xff, 0xff, 0x00, 0xff]);
        config.register(0x57, &[0x01], &[0x27]);
        config.register(0x60, &[0; 8], &[0xff; 8]);
        REGISTERS.define(&mut config);
        Self { config }
    }

    /// The memory map for a processor that is in SMM or not; `top` is the end of RAM below 4 GiB.
    pub fn memory(&self, smm: bool, top: u64) -> BridgeMemory {
        REGISTERS.memory(&self.config, smm, top)
    }
}

/// 82371SB ISA bridge, 00:01.0.
pub struct Piix3Isa {
    config: ConfigSpace,
}
pci_function!(Piix3Isa);

const PIRQ_A: usize = 0x60;

impl Piix3Isa {
    /// After reset: no PCI interrupt is routed.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x7000, 0x06_0100, 0x00);
        config.set_multi_function();
        config.fixed(0x04, &[0x07, 0x00, 0x00, 0x02]);
        config.register(0x4c, &[0x4d, 0x00, 0x03, 0x00], &[0xff, 0x00, 0xff, 0x01]);
        config.register(PIRQ_A, &[0x80; 4], &[0x8f; 4]);
        config.register(0x69, &[0x02], &[0xfe]);
        config.register(0x6a, &[0x04, 0x00], &[0x12, 0x00]);
        config.register(0x70, &[0x80, 0x80], &[0xef, 0xef]);
        config.register(0x82, &[0x00], &[0x0f]);
        Self { config }
    }

    /// The ISA interrupt that PIRQ `pirq` (0 = A to 3 = D) drives.
    pub fn pirq_route(&self, pirq: usize) -> Option<u8> {
        let route = self.config.bytes()[PIRQ_A + (pirq & 3)];
        (route & 0x80 == 0).then_some(route & 0x0f)
    }
}

/// 82371AB power management, 00:01.3.
pub struct Piix4Pm {
    config: ConfigSpace,
}
pci_function!(Piix4Pm);

const PMBASE: usize = 0x40;
const PMREGMISC: usize = 0x80;

impl Piix4Pm {
    /// Unlike on hardware the register block decodes after reset, at [`PM_BASE`], so that it works without firmware.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x7113, 0x06_8000, 0x03);
        config.fixed(0x06, &[0x80, 0x02]);
        config.set_interrupt_pin(1);
        let [low, high] = PM_BASE.to_le_bytes();
        config.register(PMBASE, &[low | 1, high, 0, 0], &[0xc0, 0xff, 0, 0]);
        config.register(0x58, &[0; 4], &[0xff; 4]);
        config.register(PMREGMISC, &[0x01], &[0x01]);
        config.register(0x90, &[0x01, 0, 0, 0], &[0xf0, 0xff, 0, 0]);
        config.register(0xd2, &[0x00], &[0x0f]);
        Self { config }
    }

    /// DEVACTB.APMC_EN: a write to the SMI command port asserts SMI#.
    pub fn apmc_enabled(&self) -> bool {
        self.config.bytes()[0x5b] & 2 != 0
    }

    /// The first port of the register block; `None` while it is not decoded.
    pub fn base(&self) -> Option<u16> {
        let bytes = self.config.bytes();
        let base = u16::from_le_bytes([bytes[PMBASE] & 0xc0, bytes[PMBASE + 1]]);
        (bytes[PMREGMISC] & 1 != 0 && base != 0).then_some(base)
    }
}
