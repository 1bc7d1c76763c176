//! The south bridge of a Q35 board, as far as software of such boards uses it: 00:1f.0, the LPC bridge with power management
//! base, interrupt routing and the root complex register block, and 00:1f.3, the SMBus controller (ICH9 data sheet, chapters 10,
//! 13 and 19).
//!
//! Interrupts: eight lines, PIRQA to PIRQH. Devices 0 to 24 are wired to PIRQE to PIRQH, each device and pin moving on by one,
//! as QEMU has it; those of the chipset go where the DnnIR registers say. Each line is an input of the I/O APIC (16 to 23), and
//! one of the 8259A pair where its route register says.
//!
//! Not there: GPIOs, and the TCO watchdog, which GCS.NR says (drivers then leave it alone); LPC decode ranges are kept and mean
//! nothing. On the SMBus no device answers, which every transaction tells.

use crate::acpi_pm::PM_BASE;
use crate::pci::{BarKind, ConfigSpace, PciFunction};
use crate::{IrqLine, Ns};

const PMBASE: usize = 0x40;
const ACPI_CNTL: usize = 0x44;
const ACPI_EN: u8 = 0x80;
/// Registers of PIRQA to PIRQD, and of PIRQE to PIRQH.
const PIRQ_ROUTES: [usize; 2] = [0x60, 0x68];
const GEN_PMCON_1: usize = 0xa0;
const SMI_LOCK: u8 = 0x10;
const RCBA: usize = 0xf0;

/// Bytes of the root complex register block.
pub const RCBA_LEN: u64 = 0x4000;
/// DnnIR, from D31IR down: device and offset. D30IR is fixed.
const ROUTED: [(u8, usize); 6] =
    [(31, 0x3140), (29, 0x3144), (28, 0x3146), (27, 0x3148), (26, 0x314c), (25, 0x3150)];
const ROUTE_DEFAULT: u16 = 0x3210;
const D30IR: usize = 0x3142;
/// General control and status, and its bit NR: a TCO timeout does not reset.
const GCS: usize = 0x3410;
const NO_REBOOT: u8 = 0x20;

/// LPC bridge, 00:1f.0.
pub struct Ich9Lpc {
    config: ConfigSpace,
    root_complex: Vec<u8>,
}

impl Default for Ich9Lpc {
    fn default() -> Self {
        Self::new()
    }
}

fn root_complex() -> Vec<u8> {
    let mut bytes = vec![0; RCBA_LEN as usize];
    for (_, at) in ROUTED {
        bytes[at..at + 2].copy_from_slice(&ROUTE_DEFAULT.to_le_bytes());
    }
    bytes[GCS] = NO_REBOOT;
    bytes
}

impl Ich9Lpc {
    /// After reset: no interrupt is routed to the 8259A pair. Unlike on hardware the ACPI registers decode, at [`PM_BASE`], so
    /// that they work without firmware.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x2918, 0x06_0100, 0x02);
        config.set_multi_function();
        config.fixed(0x04, &[0x07, 0x00, 0x00, 0x02]);
        config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        let [low, high] = PM_BASE.to_le_bytes();
        config.register(PMBASE, &[low | 1, high, 0, 0], &[0x80, 0xff, 0, 0]);
        config.register(ACPI_CNTL, &[ACPI_EN], &[0x87]);
        config.register(0x48, &[0x01, 0, 0, 0, 0], &[0x80, 0xff, 0, 0, 0x10]);
        for at in PIRQ_ROUTES {
            config.register(at, &[0x80; 4], &[0x8f; 4]);
        }
        config.register(0x64, &[0x10], &[0xff]);
        config.register(0x80, &[0; 4], &[0x77, 0x03, 0x0f, 0x3f]);
        config.register(0x84, &[0; 16], &[0xff; 16]);
        config.register(GEN_PMCON_1, &[0; 8], &[0xff; 8]);
        config.register(0xd0, &[0x33, 0x22, 0x11, 0x00, 0x67, 0x45, 0, 0, 0xcf, 0xff], &[0xff; 10]);
        config.register(0xdc, &[0x00], &[0x1f]);
        config.register(RCBA, &[0; 4], &[0x01, 0xc0, 0xff, 0xff]);
        Self { config, root_complex: root_complex() }
    }

    /// The PIRQ (0 = A to 7 = H) that pin 1 (INTA#) to 4 of a device is wired to.
    pub fn pirq_of(&self, device: u8, pin: u8) -> u8 {
        let pin = pin.wrapping_sub(1) & 3;
        match ROUTED.iter().find(|(routed, _)| *routed == device) {
            Some((_, at)) => self.root_complex[at + usize::from(pin / 2)] >> (4 * (pin & 1)) & 7,
            None if device == 30 => pin + 4,
            None => ((device + pin) & 3) + 4,
        }
    }

    /// The ISA interrupt that a PIRQ drives, too.
    pub fn pirq_route(&self, pirq: u8) -> Option<u8> {
        let at = PIRQ_ROUTES[usize::from(pirq >> 2 & 1)] + usize::from(pirq & 3);
        let route = self.config.bytes()[at];
        (route & 0x80 == 0).then_some(route & 0x0f)
    }

    /// The first port of the ACPI registers; `None` while they are not decoded.
    pub fn pm_base(&self) -> Option<u16> {
        let bytes = self.config.bytes();
        let base = u16::from_le_bytes([bytes[PMBASE] & 0x80, bytes[PMBASE + 1]]);
        (bytes[ACPI_CNTL] & ACPI_EN != 0 && base != 0).then_some(base)
    }

    /// Where the SCI arrives: input of the I/O APIC, and of the 8259A pair if it has that one.
    pub fn sci(&self) -> u8 {
        match self.config.bytes()[ACPI_CNTL] & 7 {
            1 => 10,
            2 => 11,
            4 => 20,
            5 => 21,
            _ => 9,
        }
    }

    /// SMI_LOCK: SMIs cannot be turned off any more.
    pub fn smi_lock(&self) -> bool {
        self.config.bytes()[GEN_PMCON_1] & SMI_LOCK != 0
    }

    /// Where the root complex register block is.
    pub fn root_complex_base(&self) -> Option<u64> {
        let value = self.config.dword(RCBA);
        (value & 1 != 0).then_some(u64::from(value & !0x3fff))
    }

    /// A read there.
    pub fn root_complex_read(&self, offset: u64, size: u8) -> u64 {
        let bytes = self.root_complex.iter().skip(offset as usize).take(size.min(8).into());
        bytes.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// A write there: interrupt routes mean what they say, the rest is kept.
    pub fn root_complex_write(&mut self, offset: u64, size: u8, value: u64) {
        for (n, byte) in value.to_le_bytes().into_iter().enumerate().take(size.into()) {
            let at = offset as usize + n;
            if let Some(place) = self.root_complex.get_mut(at) {
                *place = match at {
                    GCS => byte | NO_REBOOT,
                    D30IR | 0x3143 => 0,
                    _ => byte,
                };
            }
        }
    }
}

impl PciFunction for Ich9Lpc {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, _offset: u8, _len: u8) {
        // SMI_LOCK holds itself until reset.
        let locked = if self.smi_lock() { SMI_LOCK } else { 0 };
        self.config.set_locked(GEN_PMCON_1, locked);
    }
    fn reset(&mut self) {
        self.root_complex = root_complex();
    }
    fn save(&self) -> Vec<u8> {
        let Self { config: _, root_complex } = self;
        root_complex.clone()
    }
    fn restore(&mut self, state: &[u8]) {
        if state.len() == self.root_complex.len() {
            self.root_complex.copy_from_slice(state);
        }
    }
}

/// Host registers of the SMBus controller.
mod smbus {
    pub const HST_STS: u64 = 0x00;
    pub const HST_CNT: u64 = 0x02;
    pub const LEN: usize = 0x10;
    /// No device acknowledged.
    pub const DEV_ERR: u8 = 0x04;
    /// Interrupt and error bits, which are cleared by writing 1.
    pub const CLEARED: u8 = 0xfe;
    pub const INTREN: u8 = 0x01;
    pub const START: u8 = 0x40;
    /// HST_EN, in the configuration register 40h.
    pub const HOSTC: u8 = 0x40;
}
const SMBUS_BAR: usize = 4;

/// SMBus controller, 00:1f.3.
pub struct Ich9Smbus {
    config: ConfigSpace,
    registers: [u8; smbus::LEN],
    intx: IrqLine,
}

impl Ich9Smbus {
    /// After reset: off.
    pub fn new(intx: IrqLine) -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x2930, 0x0c_0500, 0x02);
        config.fixed(0x06, &[0x80, 0x02]);
        config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.set_interrupt_pin(1);
        config.add_bar(SMBUS_BAR, BarKind::Io, 64);
        config.register(smbus::HOSTC.into(), &[0], &[0x1f]);
        Self { config, registers: [0; smbus::LEN], intx }
    }

    fn drive(&mut self) {
        let [status, _, control, ..] = self.registers;
        let asserted = control & smbus::INTREN != 0 && status & smbus::CLEARED != 0;
        self.config.drive_intx(&self.intx, asserted);
    }

    fn write(&mut self, at: u64, value: u8) {
        match at {
            smbus::HST_STS => self.registers[0] &= !(value & smbus::CLEARED),
            smbus::HST_CNT => {
                self.registers[2] = value & !smbus::START;
                let enabled = self.config.bytes()[usize::from(smbus::HOSTC)] & 1 != 0;
                if enabled && value & smbus::START != 0 {
                    self.registers[0] |= smbus::DEV_ERR;
                }
            }
            _ => {
                if let Some(register) = self.registers.get_mut(at as usize) {
                    *register = value;
                }
            }
        }
    }
}

impl PciFunction for Ich9Smbus {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, _offset: u8, _len: u8) {
        self.drive();
    }
    fn bar_read(&mut self, _bar: u8, offset: u64, size: u8, _now: Ns) -> u64 {
        (0..u64::from(size)).rev().fold(0, |value, n| {
            value << 8 | u64::from(self.registers.get((offset + n) as usize).copied().unwrap_or(0))
        })
    }
    fn bar_write(&mut self, _bar: u8, offset: u64, size: u8, value: u64, _now: Ns) {
        (0..u64::from(size)).for_each(|n| self.write(offset + n, (value >> (8 * n)) as u8));
        self.drive();
    }
    fn reset(&mut self) {
        self.registers = [0; smbus::LEN];
        self.drive();
    }
    fn save(&self) -> Vec<u8> {
        let Self { config: _, registers, intx: _ } = self;
        registers.to_vec()
    }
    fn restore(&mut self, state: &[u8]) {
        if let Ok(registers) = state.try_into() {
            self.registers = registers;
            self.drive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_routed_as_the_data_sheet_says() {
        let mut lpc = Ich9Lpc::new();
        assert_eq!(
            [(1, 1), (2, 1), (3, 2), (24, 4), (30, 1)].map(|(d, p)| lpc.pirq_of(d, p)),
            [5, 6, 4, 7, 4]
        );
        assert_eq!([1, 2, 3, 4].map(|pin| lpc.pirq_of(31, pin)), [0, 1, 2, 3]);
        lpc.root_complex_write(0x3140, 2, 0x0127);
        assert_eq!([1, 2, 3, 4].map(|pin| lpc.pirq_of(31, pin)), [7, 2, 1, 0]);
        assert_eq!(lpc.root_complex_read(0x3140, 4), 0x0127, "D30IR is 0");
        assert_eq!(lpc.pirq_route(5), None);
        lpc.config_mut().write(0x69, 0x0b);
        assert_eq!((lpc.pirq_route(5), lpc.pirq_route(1)), (Some(11), None));
        lpc.root_complex_write(0x3410, 4, 0);
        assert_eq!(lpc.root_complex_read(0x3410, 1), 0x20, "no watchdog");
        let state = lpc.save();
        lpc.reset();
        assert_eq!(lpc.pirq_of(31, 1), 0);
        lpc.restore(&state);
        assert_eq!(lpc.pirq_of(31, 1), 7);
        assert_eq!(lpc.root_complex_read(0x3ffe, 8), 0);
        lpc.root_complex_write(0x3ffe, 8, u64::MAX);
    }

    #[test]
    fn bases_and_the_lock() {
        let mut lpc = Ich9Lpc::new();
        assert_eq!((lpc.pm_base(), lpc.sci(), lpc.root_complex_base()), (Some(0x600), 9, None));
        for (at, value) in
            [(0x40, 0x80), (0x41, 0xb0), (0xf0, 0x01), (0xf1, 0xc0), (0xf2, 0xd1), (0xf3, 0xfe)]
        {
            lpc.config_mut().write(at, value);
        }
        assert_eq!((lpc.pm_base(), lpc.root_complex_base()), (Some(0xb080), Some(0xfed1_c000)));
        lpc.config_mut().write(0x44, 0x05);
        assert_eq!((lpc.pm_base(), lpc.sci()), (None, 21));
        lpc.config_mut().write(0xa0, 0x10);
        lpc.config_written(0xa0, 1);
        lpc.config_mut().write(0xa0, 0x00);
        assert!(lpc.smi_lock());
    }

    #[test]
    fn nobody_answers_on_the_smbus() {
        let lines = crate::Lines::new();
        let mut bus = Ich9Smbus::new(lines.line(3));
        bus.bar_write(4, 2, 1, 0x49, 0);
        assert_eq!(bus.bar_read(4, 0, 1, 0), 0, "the controller is off");
        bus.config_mut().write(0x40, 1);
        bus.bar_write(4, 4, 1, 0xa1, 0);
        bus.bar_write(4, 2, 1, 0x49, 0);
        assert_eq!((bus.bar_read(4, 0, 4, 0), lines.levels()), (0x0009_0004, 8));
        let state = bus.save();
        bus.bar_write(4, 0, 1, 0xff, 0);
        assert_eq!((bus.bar_read(4, 0, 1, 0), lines.levels()), (0, 0));
        bus.restore(&state);
        assert_eq!(lines.levels(), 8);
        bus.bar_write(4, 0x3f, 8, u64::MAX, 0);
    }
}
