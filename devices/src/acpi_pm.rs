//! ACPI fixed hardware as on a PIIX4 (82371AB data sheet, chapter 7; ACPI specification, chapter 4): PM1 event and
//! control blocks, PM timer, GPE0, the SMI command port and the reset register. An ICH9 (data sheet, 13.8.3) has GPE0 elsewhere
//! and SMI_EN and SMI_STS besides.
//!
//! A write to the SMI command port asks for an SMI, which the board sends if its chipset is told to. No handler of it is needed
//! to hand over to ACPI: the write itself does so.

use serde::{Deserialize, Serialize};

use crate::clock::{ns_of, tick_at};
use crate::{IrqLine, Ns, PortDevice, PowerEvent, Timed};

/// I/O base of the register block after power-on (PCI 00:01.3, PMBASE).
pub const PM_BASE: u16 = 0x600;
/// Length of the register block.
pub const PM_LEN: u16 = 64;
/// Offset of the PM1a event block (PM1_STS, PM1_EN; 4 bytes).
pub const PM1_EVT: u16 = 0x00;
/// Offset of the PM1a control block (2 bytes).
pub const PM1_CNT: u16 = 0x04;
/// Offset of the PM timer (4 bytes).
pub const PM_TMR: u16 = 0x08;
/// Offset of the GPE0 block (2 bytes status, 2 bytes enable).
pub const GPE0: u16 = 0x0c;
/// Length of the GPE0 block.
pub const GPE0_LEN: u16 = 4;
/// Length of an ICH9's register block.
pub const ICH9_PM_LEN: u16 = 128;
/// Offset of an ICH9's GPE0 block (8 bytes status, 8 bytes enable), of which two bytes each are there.
pub const ICH9_GPE0: u16 = 0x20;
/// Length of an ICH9's GPE0 block.
pub const ICH9_GPE0_LEN: u16 = 16;
/// Width of the PM timer in bits (FADT flag TMR_VAL_EXT is 0).
pub const PM_TIMER_BITS: u32 = 24;
/// PM timer frequency in Hz.
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// ISA interrupt of the SCI: level-triggered, active high.
pub const SCI_IRQ: u8 = 9;
/// SMI command port.
pub const SMI_CMD: u16 = 0xb2;
/// Value for the SMI command port that turns ACPI mode on.
pub const ACPI_ENABLE: u8 = 0xf1;
/// Value for the SMI command port that turns ACPI mode off.
pub const ACPI_DISABLE: u8 = 0xf0;
/// SLP_TYP for S5 (soft off).
pub const SLP_TYP_S5: u8 = 0;
/// Reset register port.
pub const RESET_PORT: u16 = 0xcf9;
/// Value for the reset register that resets the machine.
pub const RESET_VALUE: u8 = 0x06;

const TMR_STS: u16 = 1 << 0;
const PWRBTN_STS: u16 = 1 << 8;
const WAK_STS: u16 = 1 << 15;
/// Status bits that exist: TMR, BM, GBL, PWRBTN, RTC, WAK.
const STS_BITS: u16 = 0x8531;
/// Enable bits that exist: TMR, GBL, PWRBTN, RTC.
const EN_BITS: u16 = 0x0521;
const SCI_EN: u16 = 1;
const SLP_EN: u16 = 1 << 13;
/// SCI_EN, BM_RLD, SLP_TYP.
const CNT_BITS: u16 = 0x1c03;

/// SMI_EN: SMIs at all, and that of the SMI command port.
const GBL_SMI_EN: u32 = 1 << 0;
const APMC_EN: u32 = 1 << 5;
/// SMI_STS: the SMI command port was written.
const APM_STS: u32 = 1 << 5;

/// The most significant bit changes at each multiple of this many ticks.
const HALF_RANGE: u64 = 1 << (PM_TIMER_BITS - 1);

/// Registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcpiPmState {
    pm1_sts: u16,
    pm1_en: u16,
    pm1_cnt: u16,
    gpe0_sts: u16,
    gpe0_en: u16,
    /// Changes of the timer's top bit that have been reported.
    half_ranges_seen: u64,
    smi_en: u32,
    smi_sts: u32,
    apm: [u8; 2],
    /// The SMI command port was written.
    apm_written: bool,
    reset_control: u8,
    event: Option<PowerEvent>,
}

/// The power management function's I/O registers.
pub struct AcpiPm {
    state: AcpiPmState,
    sci: IrqLine,
    ich9: bool,
    /// GBL_SMI_EN cannot be changed.
    smi_locked: bool,
}

impl AcpiPm {
    /// The registers at power-on: ACPI mode off.
    pub fn new(sci: IrqLine) -> Self {
        Self { state: AcpiPmState::new(), sci, ich9: false, smi_locked: false }
    }

    /// The same with an ICH9's registers.
    pub fn ich9(sci: IrqLine) -> Self {
        Self { ich9: true, ..Self::new(sci) }
    }

    /// Length of the register block.
    pub fn block_len(&self) -> u16 {
        if self.ich9 { ICH9_PM_LEN } else { PM_LEN }
    }

    /// Whether SMI_EN lets the SMI command port assert SMI#.
    pub fn apmc_enabled(&self) -> bool {
        self.state.smi_en & (GBL_SMI_EN | APMC_EN) == GBL_SMI_EN | APMC_EN
    }

    /// The chipset locks SMIs on, or has been reset.
    pub fn set_smi_locked(&mut self, locked: bool) {
        self.smi_locked = locked;
    }

    /// An ICH9's place of a register as a PIIX4 has it; `None`: a PIIX4 has no such register.
    fn place(&self, offset: u16) -> Option<u16> {
        match offset {
            _ if !self.ich9 => Some(offset),
            0x00..=0x0b => Some(offset),
            0x20..=0x21 => Some(offset - 0x20 + GPE0),
            0x28..=0x29 => Some(offset - 0x28 + GPE0 + 2),
            _ => None,
        }
    }

    /// Platform reset.
    pub fn reset(&mut self, now: Ns) {
        self.state = AcpiPmState { half_ranges_seen: half_ranges(now), ..AcpiPmState::new() };
        self.drive();
    }

    /// The request that the last access made.
    pub fn take_event(&mut self) -> Option<PowerEvent> {
        self.state.event.take()
    }

    /// The power button was pressed.
    pub fn press_power_button(&mut self) {
        self.state.pm1_sts |= PWRBTN_STS;
        self.drive();
    }

    /// A general-purpose event, bit 0 to 15 of GPE0.
    pub fn raise_gpe(&mut self, bit: u8) {
        self.state.gpe0_sts |= 1 << (bit & 15);
        self.drive();
    }

    /// Whether the guest has ACPI mode on.
    pub fn acpi_mode(&self) -> bool {
        self.state.pm1_cnt & SCI_EN != 0
    }

    fn drive(&self) {
        let s = &self.state;
        let event = s.pm1_sts & s.pm1_en & EN_BITS != 0 || s.gpe0_sts & s.gpe0_en != 0;
        self.sci.set(event && self.acpi_mode());
    }

    fn block_byte(&self, offset: u16, now: Ns) -> u8 {
        let s = &self.state;
        let Some(offset) = self.place(offset) else {
            return match offset {
                0x30..=0x33 => s.smi_en.to_le_bytes()[usize::from(offset & 3)],
                0x34..=0x37 => s.smi_sts.to_le_bytes()[usize::from(offset & 3)],
                _ => 0,
            };
        };
        let byte = |word: u16| word.to_le_bytes()[usize::from(offset & 1)];
        match offset {
            0x00..=0x01 => byte(s.pm1_sts),
            0x02..=0x03 => byte(s.pm1_en),
            0x04..=0x05 => byte(s.pm1_cnt),
            0x08..=0x0b => pm_timer(now).to_le_bytes()[usize::from(offset & 3)],
            0x0c..=0x0d => byte(s.gpe0_sts),
            0x0e..=0x0f => byte(s.gpe0_en),
            _ => 0,
        }
    }

    /// Is `port` of the register block the PM timer's?
    pub fn is_timer(&self, port: u16) -> bool {
        port & (self.block_len() - 1) == PM_TMR
    }

    fn write_block_byte(&mut self, offset: u16, value: u8) {
        let Some(offset) = self.place(offset) else {
            let byte = u32::from(value) << (8 * (offset & 3));
            let keep = !(0xff << (8 * (offset & 3))) | if self.smi_locked { GBL_SMI_EN } else { 0 };
            match offset {
                0x30..=0x33 => self.state.smi_en = self.state.smi_en & keep | byte & !keep,
                0x34..=0x37 => self.state.smi_sts &= !byte,
                _ => {}
            }
            return;
        };
        let s = &mut self.state;
        let shift = 8 * (offset & 1);
        let wide = u16::from(value) << shift;
        let keep = !(0xff << shift);
        match offset {
            0x00..=0x01 => s.pm1_sts &= !(wide & STS_BITS),
            0x02..=0x03 => s.pm1_en = s.pm1_en & keep | wide & EN_BITS,
            0x04..=0x05 => {
                s.pm1_cnt = s.pm1_cnt & keep | wide & CNT_BITS;
                if wide & SLP_EN != 0 {
                    self.sleep();
                }
            }
            0x0c..=0x0d => s.gpe0_sts &= !wide,
            0x0e..=0x0f => s.gpe0_en = s.gpe0_en & keep | wide,
            _ => {}
        }
    }

    /// S5 turns the machine off. No other state is offered; one that is asked for anyhow ends at once.
    fn sleep(&mut self) {
        if (self.state.pm1_cnt >> 10 & 7) as u8 == SLP_TYP_S5 {
            self.state.event = Some(PowerEvent::PowerOff);
        } else {
            self.state.pm1_sts |= WAK_STS;
        }
    }

    fn write_reset_control(&mut self, value: u8) {
        // 82371SB, RC register: RCPU (bit 2) resets when it goes from 0 to 1.
        if value & !self.state.reset_control & 4 != 0 {
            self.state.event = Some(PowerEvent::Reset);
        }
        self.state.reset_control = value & 0x0e;
    }

    fn write_apm(&mut self, value: u8) {
        self.state.apm[0] = value;
        self.state.apm_written = true;
        self.state.smi_sts |= APM_STS;
        match value {
            ACPI_ENABLE => self.state.pm1_cnt |= SCI_EN,
            ACPI_DISABLE => self.state.pm1_cnt &= !SCI_EN,
            _ => {}
        }
    }

    /// Whether the SMI command port was written since the last call.
    pub fn take_apm_write(&mut self) -> bool {
        std::mem::take(&mut self.state.apm_written)
    }

    /// Registers.
    pub fn save(&self) -> AcpiPmState {
        let Self { state, sci: _, ich9: _, smi_locked: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: AcpiPmState) {
        self.state = state;
        self.drive();
    }
}

impl AcpiPmState {
    fn new() -> Self {
        Self {
            pm1_sts: 0,
            pm1_en: 0,
            pm1_cnt: 0,
            gpe0_sts: 0,
            gpe0_en: 0,
            half_ranges_seen: 0,
            smi_en: 0,
            smi_sts: 0,
            apm: [0; 2],
            apm_written: false,
            reset_control: 0,
            event: None,
        }
    }
}

/// The PM timer's value.
#[must_use]
pub fn pm_timer(now: Ns) -> u32 {
    tick_at(now, PM_TIMER_HZ) as u32 & (2 * HALF_RANGE as u32 - 1)
}

fn half_ranges(now: Ns) -> u64 {
    tick_at(now, PM_TIMER_HZ) / HALF_RANGE
}

/// The register block decodes the low six bits of the port (an ICH9's seven), wherever PMBASE puts it.
impl PortDevice for AcpiPm {
    fn port_read(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        self.advance(now);
        match port {
            0xb2 | 0xb3 => self.state.apm[usize::from(port & 1)].into(),
            RESET_PORT => self.state.reset_control.into(),
            _ => {
                let at = port & (self.block_len() - 1);
                (0..u16::from(size))
                    .fold(0, |value, n| value | u32::from(self.block_byte(at + n, now)) << (8 * n))
            }
        }
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        self.advance(now);
        match port {
            SMI_CMD => self.write_apm(value as u8),
            0xb3 => self.state.apm[1] = value as u8,
            RESET_PORT => self.write_reset_control(value as u8),
            _ => {
                let at = port & (self.block_len() - 1);
                (0..u16::from(size)).for_each(|n| self.write_block_byte(at + n, (value >> (8 * n)) as u8));
            }
        }
        self.drive();
    }
}

impl Timed for AcpiPm {
    fn next_deadline(&self) -> Option<Ns> {
        let s = &self.state;
        let wanted = s.pm1_en & !s.pm1_sts & TMR_STS != 0 && self.acpi_mode();
        if wanted {
            ns_of(s.half_ranges_seen.checked_add(1)?.checked_mul(HALF_RANGE)?, PM_TIMER_HZ)
        } else {
            None
        }
    }

    fn advance(&mut self, now: Ns) {
        let seen = half_ranges(now);
        if seen > self.state.half_ranges_seen {
            self.state.half_ranges_seen = seen;
            self.state.pm1_sts |= TMR_STS;
            self.drive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lines;

    #[test]
    fn a_driver_enables_acpi_and_turns_the_machine_off() {
        let mut pm = AcpiPm::new(IrqLine::unconnected());
        pm.port_write(SMI_CMD, 1, ACPI_ENABLE.into(), 0);
        assert_eq!(pm.port_read(PM_BASE + PM1_CNT, 2, 0), 1);
        pm.port_write(PM_BASE + PM1_CNT, 2, 0x3401, 0);
        assert_eq!(pm.take_event(), None);
        assert_eq!(pm.port_read(PM_BASE, 2, 0), 0x8000, "woken at once");
        pm.port_write(PM_BASE + PM1_CNT, 2, 0x2001, 0);
        assert_eq!(pm.take_event(), Some(PowerEvent::PowerOff));
        pm.port_write(RESET_PORT, 1, 2, 0);
        assert_eq!(pm.take_event(), None);
        pm.port_write(RESET_PORT, 1, RESET_VALUE.into(), 0);
        assert_eq!(pm.take_event(), Some(PowerEvent::Reset));
    }

    #[test]
    fn the_timer_counts_and_overflows() {
        let lines = Lines::new();
        let mut pm = AcpiPm::new(lines.line(9));
        assert_eq!(pm.port_read(PM_BASE + PM_TMR, 4, 1_000_000_000), 3_579_545);
        assert_eq!(pm.port_read(PM_BASE + PM_TMR, 4, 100_000_000_000), 357_954_500 % (1 << 24));
        pm.port_write(PM_BASE, 2, 1, 100_000_000_000);
        pm.port_write(SMI_CMD, 1, ACPI_ENABLE.into(), 100_000_000_000);
        pm.port_write(PM_BASE + 2, 2, 1, 100_000_000_000);
        let at = pm.next_deadline().unwrap();
        assert_eq!(tick_at(at, PM_TIMER_HZ) % HALF_RANGE, 0);
        pm.advance(at - 1);
        assert_eq!(lines.levels(), 0);
        pm.advance(at);
        assert_eq!((lines.levels(), pm.next_deadline()), (1 << 9, None));
        pm.port_write(PM_BASE, 2, 1, at);
        assert_eq!(lines.levels(), 0);
        assert!(pm.next_deadline().is_some());
    }

    #[test]
    fn events_raise_the_sci() {
        let lines = Lines::new();
        let mut pm = AcpiPm::new(lines.line(9));
        pm.port_write(PM_BASE + PM1_CNT, 2, 1, 0);
        pm.port_write(PM_BASE + 2, 2, 0x100, 0);
        pm.press_power_button();
        assert_eq!(lines.levels(), 1 << 9);
        pm.port_write(PM_BASE + 1, 1, 1, 0);
        assert_eq!(lines.levels(), 0);
        pm.port_write(PM_BASE + GPE0 + 2, 2, 2, 0);
        pm.raise_gpe(1);
        assert_eq!((lines.levels(), pm.port_read(PM_BASE + GPE0, 2, 0)), (1 << 9, 2));
        let state = pm.save();
        pm.reset(0);
        assert_eq!(lines.levels(), 0);
        pm.restore(state);
        assert_eq!(lines.levels(), 1 << 9);
    }

    #[test]
    fn an_ich9_has_its_registers_elsewhere() {
        let lines = Lines::new();
        let mut pm = AcpiPm::ich9(lines.line(9));
        pm.port_write(PM_BASE + PM1_CNT, 2, 1, 0);
        pm.port_write(PM_BASE + ICH9_GPE0 + 8, 4, 2, 0);
        pm.raise_gpe(1);
        assert_eq!((lines.levels(), pm.port_read(PM_BASE + ICH9_GPE0, 4, 0)), (1 << 9, 2));
        pm.port_write(PM_BASE + ICH9_GPE0, 4, 2, 0);
        assert_eq!((lines.levels(), pm.port_read(PM_BASE + GPE0, 4, 0)), (0, 0));
        assert_eq!(pm.port_read(PM_BASE + PM_TMR, 4, 1_000_000_000), 3_579_545);
        assert!(!pm.apmc_enabled());
        pm.port_write(PM_BASE + 0x30, 4, 0x21, 0);
        pm.port_write(SMI_CMD, 1, 7, 0);
        assert!(pm.apmc_enabled() && pm.take_apm_write());
        assert_eq!(pm.port_read(PM_BASE + 0x34, 4, 0), 0x20);
        pm.port_write(PM_BASE + 0x34, 4, 0x20, 0);
        assert_eq!(pm.port_read(PM_BASE + 0x34, 4, 0), 0);
        pm.set_smi_locked(true);
        pm.port_write(PM_BASE + 0x30, 4, 0, 0);
        assert_eq!(pm.port_read(PM_BASE + 0x30, 4, 0), 1);
    }
}
