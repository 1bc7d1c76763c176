//! Interrupt propagation: lines -> 8259A pair and I/O APIC -> local APICs; messages of PCI functions -> local APICs.
//!
//! `settle` runs after everything that may have moved a line or a controller. It carries levels and the edges that
//! happened since, lets the I/O APIC send, and finds the next deadline.

use super::PcDevices;
use super::wiring::{LINE_HPET, LINE_PCI, LINE_PIT, LINE_RTC, LINE_SCI, PIRQ_FIRST_PIN, SOURCES};
use crate::clock::earlier;
use crate::lapic::{Effect, LocalApic};
use crate::{IrqLine, Ns, Timed};

/// Inputs of the interrupt controllers: a wire is high if one of its drivers is.
#[derive(Default)]
struct Wires {
    high: u64,
    /// A driver rose ...
    rose: u64,
    /// ... but another held the wire high all the time: no edge.
    held: u64,
}

/// A line's change since the last look.
#[derive(Clone, Copy)]
struct Driver {
    high: bool,
    rose: bool,
    held: bool,
}

impl Wires {
    fn drive(&mut self, wire: u8, driver: Driver) {
        self.high |= u64::from(driver.high) << wire;
        self.rose |= u64::from(driver.rose) << wire;
        self.held |= u64::from(driver.held) << wire;
    }
    fn edges(&self) -> u64 {
        self.rose & !self.held
    }
}

impl PcDevices {
    /// Connects INTA# (`pin` 1) to INTD# (4) of a PCI device. At most 32 pins.
    pub fn connect_pci_interrupt(&mut self, device: u8, pin: u8) -> IrqLine {
        let line = LINE_PCI + self.pci_pins.len() as u8;
        self.pci_pins.push((device, pin));
        self.lines.line(line)
    }

    /// Carries line changes to the controllers and messages to the local APICs.
    pub(super) fn settle(&mut self) {
        let levels = self.lines.levels();
        let rose = self.lines.take_rose();
        let driver = |line: u8| {
            let bit = 1 << line;
            Driver {
                high: levels & bit != 0,
                rose: rose & bit != 0,
                held: levels & self.seen_levels & !rose & bit != 0,
            }
        };
        let (mut isa, mut pins) = (Wires::default(), Wires::default());
        for source in SOURCES {
            if source.line == LINE_SCI {
                let input = self.pci.chipset.sci();
                if input < 16 {
                    isa.drive(input, driver(LINE_SCI));
                }
                pins.drive(input, driver(LINE_SCI));
                continue;
            }
            let replaced = self.hpet.replaces_legacy() && matches!(source.line, LINE_PIT | LINE_RTC);
            if !replaced {
                isa.drive(source.isa_irq, driver(source.line));
                pins.drive(source.ioapic_pin, driver(source.line));
            }
        }
        for timer in 0..3 {
            let Some(route) = self.hpet.route(timer.into()) else { continue };
            if let Some(irq) = route.isa_irq {
                isa.drive(irq, driver(LINE_HPET + timer));
            }
            pins.drive(route.ioapic_pin, driver(LINE_HPET + timer));
        }
        for (line, (device, pin)) in (LINE_PCI..).zip(&self.pci_pins) {
            let pirq = self.pci.chipset.pirq_of(*device, *pin);
            if let Some(irq) = self.pci.chipset.pirq_route(pirq) {
                isa.drive(irq, driver(line));
            }
            pins.drive(PIRQ_FIRST_PIN + pirq, driver(line));
        }
        if let Some(device) = &mut self.harness.pc_testdev {
            let (high, rose) = (device.irqs(), device.take_rose());
            for input in 0..24 {
                let (high, rose) = (high >> input & 1 != 0, rose >> input & 1 != 0);
                // A board's inputs: the 8259A pair has the first sixteen, and its input 0 is the I/O APIC's pin 2.
                let driver = Driver { high, rose, held: high && !rose };
                if input < 16 {
                    isa.drive(input, driver);
                }
                pins.drive(if input == 0 { 2 } else { input }, driver);
            }
        }
        self.seen_levels = levels;
        self.pic.set_lines(isa.high as u16, isa.edges() as u16);

        let intr = self.pic.output();
        let intr_rose = intr && !self.seen_intr;
        self.seen_intr = intr;
        pins.drive(0, Driver { high: intr, rose: intr_rose, held: false });
        self.lapics.set_intr(intr);
        if intr_rose {
            self.lapics.each(LocalApic::lint0_rose);
        }
        self.deliver_messages();
        let lapics = &self.lapics;
        self.ioapic.set_pins(pins.high as u32, pins.edges() as u32);
        self.ioapic.service(|message| lapics.deliver(message, None));
        self.deadline = self.find_deadline();
    }

    /// Message-signalled interrupts are writes to memory: where local APICs answer, or RAM if the guest wants that.
    fn deliver_messages(&mut self) {
        for message in self.messages.take() {
            if let Some(interrupt) = message.interrupt() {
                self.lapics.deliver(&interrupt, None);
            } else if !message.is_interrupt() {
                self.memory.write(message.address, &message.data.to_le_bytes());
            }
        }
    }

    fn find_deadline(&self) -> Option<Ns> {
        let serial = self.serial.iter().filter_map(Timed::next_deadline);
        [&self.pit as &dyn Timed, &self.rtc, &self.hpet, &self.acpi]
            .map(Timed::next_deadline)
            .into_iter()
            .chain([serial.min(), self.storage_deadline()])
            .fold(None, earlier)
    }

    /// Does what an access to `cpu`'s local APIC asked for.
    pub(super) fn perform(&mut self, cpu: usize, effect: Effect) {
        if let Some(vector) = self.lapics.perform(cpu, effect) {
            self.ioapic.eoi(vector);
        }
    }
}
