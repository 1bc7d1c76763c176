//! Saving and restoring the whole board.

use serde::{Deserialize, Serialize};

use super::PcDevices;
use super::interrupts::Controllers;
use crate::PowerEvent;
use crate::acpi_pm::AcpiPmState;
use crate::debug_ports::DebugPortsState;
use crate::dma8237::DmaState;
use crate::flash::{Flash, FlashState};
use crate::floppy::FloppyState;
use crate::fpu_error::FpuErrorState;
use crate::fw_cfg::FwCfgState;
use crate::harness::HarnessState;
use crate::hpet::HpetState;
use crate::i8042::I8042State;
use crate::ioapic::IoApicState;
use crate::lapic::LapicState;
use crate::lines::LinesState;
use crate::pci::PciState;
use crate::pic8259::PicState;
use crate::pit8254::PitState;
use crate::rtc::RtcState;
use crate::uart16550::UartState;

/// Saved state of all devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcState {
    lines: LinesState,
    seen_levels: u64,
    seen_intr: bool,
    dma: DmaState,
    pic: PicState,
    pit: PitState,
    rtc: RtcState,
    keyboard_controller: I8042State,
    serial: Vec<UartState>,
    debug: DebugPortsState,
    harness: HarnessState,
    fpu_error: FpuErrorState,
    acpi: AcpiPmState,
    pci: PciState,
    floppy: Option<FloppyState>,
    flash: Vec<FlashState>,
    fw_cfg: FwCfgState,
    hpet: HpetState,
    ioapic: IoApicState,
    lapics: Vec<LapicState>,
    event: Option<PowerEvent>,
}

/// A state that does not fit these devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateMismatch {
    /// What is counted.
    pub what: &'static str,
    /// How many the state has.
    pub found: usize,
    /// How many there are here.
    pub expected: usize,
}

impl std::fmt::Display for StateMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, found, expected } = self;
        write!(f, "the saved state has {found} {what}, this machine has {expected}: start it with {found}")
    }
}

impl std::error::Error for StateMismatch {}

impl PcDevices {
    /// The whole state. Output that the board has not drained is not part of it.
    pub fn save(&self) -> PcState {
        let Self {
            interrupts,
            ram_below_4g: _,
            on_ports: _,
            pci_pins: _,
            cards: _,
            dma,
            pit,
            rtc,
            keyboard_controller,
            serial,
            debug,
            harness,
            fpu_error,
            acpi,
            pci,
            floppy,
            flash,
            memory: _,
            fw_cfg,
            hpet,
            lapics,
            event,
            map_changed: _,
            apart: _,
            deadline: _,
            wake: _,
        } = self;
        let controllers = interrupts.with(|Controllers { pic, ioapic, seen_levels, seen_intr, .. }| {
            (pic.save(), ioapic.save(), *seen_levels, *seen_intr)
        });
        let (pic, ioapic, seen_levels, seen_intr) = controllers;
        PcState {
            lines: interrupts.lines().save(),
            seen_levels,
            seen_intr,
            dma: dma.save(),
            pic,
            pit: pit.save(),
            rtc: rtc.save(),
            keyboard_controller: keyboard_controller.save(),
            serial: serial.iter().map(|port| port.save()).collect(),
            debug: debug.save(),
            harness: harness.save(),
            fpu_error: fpu_error.save(),
            acpi: acpi.save(),
            pci: pci.save(),
            floppy: floppy.as_ref().map(|floppy| floppy.save()),
            flash: flash.iter().flatten().map(Flash::save).collect(),
            fw_cfg: fw_cfg.save(),
            hpet: hpet.save(),
            ioapic,
            lapics: lapics.save(),
            event: *event,
        }
    }

    /// Restores `save`'s state into devices of the same configuration. After an error nothing has changed.
    pub fn restore(&mut self, state: PcState) -> Result<(), StateMismatch> {
        let expect = |what, found, expected| {
            if found == expected { Ok(()) } else { Err(StateMismatch { what, found, expected }) }
        };
        let PcState {
            lines,
            seen_levels,
            seen_intr,
            dma,
            pic,
            pit,
            rtc,
            keyboard_controller,
            serial,
            debug,
            harness,
            fpu_error,
            acpi,
            pci,
            floppy,
            flash,
            fw_cfg,
            hpet,
            ioapic,
            lapics,
            event,
        } = state;
        expect("vCPUs", lapics.len(), self.lapics.count())?;
        expect("serial ports", serial.len(), self.serial.len())?;
        expect("flash chips", flash.len(), self.flash.iter().flatten().count())?;
        self.dma.restore(dma);
        self.interrupts.with(|controllers| {
            controllers.pic.restore(pic);
            controllers.ioapic.restore(ioapic);
            (controllers.seen_levels, controllers.seen_intr) = (seen_levels, seen_intr);
        });
        self.pit.restore(pit);
        self.rtc.restore(rtc);
        self.keyboard_controller.restore(keyboard_controller);
        self.serial.iter_mut().zip(serial).for_each(|(port, state)| port.restore(state));
        self.debug.restore(debug);
        self.harness.restore(harness);
        self.fpu_error.restore(fpu_error);
        self.acpi.restore(acpi);
        self.pci.restore(pci);
        self.acpi.set_smi_locked(self.pci.chipset.smi_locked());
        if let (Some(device), Some(state)) = (&mut self.floppy, floppy) {
            device.restore(state);
        }
        self.flash.iter_mut().flatten().zip(flash).for_each(|(flash, state)| flash.restore(state));
        self.fw_cfg.restore(fw_cfg);
        self.hpet.restore(hpet);
        self.lapics.restore(lapics);
        // Devices drove their lines while they were restored; what counts is what was saved.
        self.interrupts.lines().restore(lines);
        self.interrupts.messages().take();
        self.event = event;
        self.settle();
        Ok(())
    }
}
