//! Interrupt propagation: lines -> 8259A pair and I/O APIC -> local APICs; messages of PCI functions -> local APICs.
//!
//! `settle` runs after everything that may have moved a line or a controller. It carries levels and the edges that
//! happened since, and lets the I/O APIC send.
//!
//! The controllers have a lock of their own, for processors that run at the same time: what ends or acknowledges an interrupt, and what a
//! function's pin does, needs nothing else of the board. Which inputs a line leads to is the board's to say (chipset and HPET decide);
//! whoever holds the board leaves it here ([`Routes`]) whenever it settles. Messages pass by the controllers.

use std::sync::{Arc, Mutex, PoisonError};

use super::PcDevices;
use super::wiring::{LINE_HPET, LINE_PCI, LINE_PIT, LINE_RTC, LINE_SCI, PIRQ_FIRST_PIN, SOURCES};
use crate::clock::earlier;
use crate::ioapic::{IOAPIC_BASE, IOAPIC_LEN, IoApic};
use crate::lapic::{Effect, LocalApic, LocalApics};
use crate::lines::Look;
use crate::memory::Dma;
use crate::pci::MessagePort;
use crate::pic8259::PicPair;
use crate::{IrqLine, Lines, MmioDevice, Ns, PortDevice, Timed};

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

/// The controllers' inputs that one line leads to.
#[derive(Clone, Copy, Debug, Default)]
struct Route {
    isa: Option<u8>,
    pin: Option<u8>,
}

/// Where all lines lead.
#[derive(Clone, Debug)]
pub(super) struct Routes([Route; 64]);

/// pc-testdev drives inputs, not lines: their levels, and which of them rose.
#[derive(Clone, Copy, Debug, Default)]
struct Testdev {
    high: u32,
    rose: u32,
}

/// The interrupt controllers that are not the processors' own.
pub(super) struct Controllers {
    pub pic: PicPair,
    pub ioapic: IoApic,
    /// Line levels as they saw them last.
    pub seen_levels: u64,
    pub seen_intr: bool,
    routes: Routes,
    /// Levels as the board saw them last.
    testdev: u32,
}

impl Controllers {
    /// Can an edge of `line` interrupt a processor, as the masks are? (One at a masked input of the 8259A pair is kept there.)
    fn hear(&self, line: u8) -> bool {
        let Route { isa, pin } = self.routes.0[usize::from(line)];
        isa.is_some_and(|irq| !self.pic.is_masked(irq)) || pin.is_some_and(|pin| !self.ioapic.is_masked(pin))
    }
}

/// See the module. What is used without the board is settled here.
///
/// Lock order: the board, a PCI function ([`crate::pci::LockedFunction`]), the controllers, the message port, one local APIC. Lines are words;
/// they have no lock.
pub struct Interrupts {
    lines: Arc<Lines>,
    /// Where PCI functions send interrupt messages; empty between two accesses.
    messages: MessagePort,
    /// For messages that are no interrupts.
    memory: Dma,
    lapics: Arc<LocalApics>,
    controllers: Mutex<Controllers>,
}

impl Interrupts {
    pub(super) fn new(lines: Arc<Lines>, lapics: Arc<LocalApics>, memory: Dma) -> Self {
        let controllers = Controllers {
            pic: PicPair::new(),
            ioapic: IoApic::new(),
            seen_levels: 0,
            seen_intr: false,
            routes: Routes([Route::default(); 64]),
            testdev: 0,
        };
        let (messages, controllers) = (MessagePort::new(), Mutex::new(controllers));
        Self { lines, messages, memory, lapics, controllers }
    }

    pub(super) fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    pub(super) fn messages(&self) -> &MessagePort {
        &self.messages
    }

    /// Uses the controllers, for a caller who settles afterwards.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Controllers) -> R) -> R {
        f(&mut self.controllers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses them, and settles.
    fn with_settled<R>(&self, f: impl FnOnce(&mut Controllers) -> R) -> R {
        self.with(|controllers| {
            let result = f(controllers);
            let testdev = Testdev { high: controllers.testdev, rose: 0 };
            self.settle(controllers, testdev);
            result
        })
    }

    /// After a PCI function was used without the board: carries on what its pin and its messages do. True if that took the controllers' lock:
    /// if a line moved.
    pub fn carry(&self) -> bool {
        self.deliver_messages();
        let moved = self.lines.moved();
        if moved {
            self.with_settled(|_| ());
        }
        moved
    }

    /// INTA cycle by `cpu`, for which the 8259A pair's interrupt was seen: the vector, `None` if nothing is pending any more.
    pub fn acknowledge(&self, cpu: usize) -> Option<u8> {
        self.with_settled(|controllers| self.take_vector(controllers, cpu))
    }

    pub(super) fn take_vector(&self, controllers: &mut Controllers, cpu: usize) -> Option<u8> {
        if self.lapics.pic_interrupts(cpu) {
            self.lapics.with(cpu, LocalApic::take_ext_int);
            Some(controllers.pic.acknowledge())
        } else {
            self.lapics.acknowledge(cpu)
        }
    }

    /// A read of a byte from the 8259A pair's ports ([`ApartPort::Pic`]).
    pub fn port_read(&self, port: u16, now: Ns) -> u32 {
        self.with_settled(|controllers| controllers.pic.port_read(port, 1, now))
    }

    /// A write of a byte there.
    pub fn port_write(&self, port: u16, value: u8, now: Ns) {
        self.with_settled(|controllers| controllers.pic.port_write(port, 1, value.into(), now));
    }

    /// A level-triggered interrupt with this vector has ended at a local APIC.
    pub fn end_of_interrupt(&self, vector: u8) {
        self.with_settled(|controllers| controllers.ioapic.eoi(vector));
    }

    /// Is an access at `gpa` one to the I/O APIC?
    #[inline]
    pub fn in_window(gpa: u64) -> bool {
        gpa.wrapping_sub(IOAPIC_BASE) < IOAPIC_LEN
    }

    /// A read of the I/O APIC's register at `gpa`.
    pub fn window_read(&self, gpa: u64, size: u8, now: Ns) -> u64 {
        self.with(|controllers| controllers.ioapic.mmio_read(gpa - IOAPIC_BASE, size, now))
    }

    /// A write there.
    pub fn window_write(&self, gpa: u64, size: u8, value: u64, now: Ns) {
        self.with_settled(|controllers| {
            controllers.ioapic.mmio_write(gpa - IOAPIC_BASE, size, value, now);
        });
    }

    /// Carries line changes to the controllers and messages to the local APICs.
    fn settle(&self, controllers: &mut Controllers, testdev: Testdev) {
        let Look { levels, rose } = self.lines.take();
        let seen = controllers.seen_levels;
        let (mut isa, mut pins) = (Wires::default(), Wires::default());
        // A line that is low and has not risen drives nothing.
        let mut active = levels | rose;
        while active != 0 {
            let bit = active & active.wrapping_neg();
            active &= !bit;
            let route = controllers.routes.0[bit.trailing_zeros() as usize];
            let driver = Driver {
                high: levels & bit != 0,
                rose: rose & bit != 0,
                held: levels & seen & !rose & bit != 0,
            };
            route.isa.into_iter().for_each(|irq| isa.drive(irq, driver));
            route.pin.into_iter().for_each(|pin| pins.drive(pin, driver));
        }
        for input in (0..24).filter(|input| (testdev.high | testdev.rose) >> input & 1 != 0) {
            let (high, rose) = (testdev.high >> input & 1 != 0, testdev.rose >> input & 1 != 0);
            // A board's inputs: the 8259A pair has the first sixteen, and its input 0 is the I/O APIC's pin 2.
            let driver = Driver { high, rose, held: high && !rose };
            if input < 16 {
                isa.drive(input, driver);
            }
            pins.drive(if input == 0 { 2 } else { input }, driver);
        }
        controllers.pic.set_lines(isa.high as u16, isa.edges() as u16);

        let intr = controllers.pic.output();
        let intr_rose = intr && !controllers.seen_intr;
        controllers.seen_intr = intr;
        pins.drive(0, Driver { high: intr, rose: intr_rose, held: false });
        self.lapics.set_intr(intr);
        if intr_rose {
            self.lapics.each(LocalApic::lint0_rose);
        }
        self.deliver_messages();
        controllers.ioapic.set_pins(pins.high as u32, pins.edges() as u32);
        controllers.ioapic.service(|message| self.lapics.deliver(message, None));
        controllers.seen_levels = levels;
    }

    /// Message-signalled interrupts are writes to memory: where local APICs answer, or RAM if the guest wants that.
    fn deliver_messages(&self) {
        self.messages.deliver(|message| {
            if let Some(interrupt) = message.interrupt() {
                self.lapics.deliver(&interrupt, None);
            } else if !message.is_interrupt() {
                self.memory.write(message.address, &message.data.to_le_bytes());
            }
        });
    }
}

impl PcDevices {
    /// Connects INTA# (`pin` 1) to INTD# (4) of a PCI device. At most 32 pins.
    pub fn connect_pci_interrupt(&mut self, device: u8, pin: u8) -> IrqLine {
        let line = LINE_PCI + self.pci_pins.len() as u8;
        self.pci_pins.push((device, pin));
        self.interrupts.lines().line(line)
    }

    /// Where lines lead as chipset and HPET are set up now.
    fn routes(&self) -> Routes {
        let mut routes = [Route::default(); 64];
        let mut lead = |line: u8, isa: Option<u8>, pin: u8| {
            routes[usize::from(line)] = Route { isa, pin: Some(pin) };
        };
        for source in SOURCES {
            let replaced = self.hpet.replaces_legacy() && matches!(source.line, LINE_PIT | LINE_RTC);
            if source.line == LINE_SCI {
                let input = self.pci.chipset.sci();
                lead(LINE_SCI, Some(input).filter(|input| *input < 16), input);
            } else if !replaced {
                lead(source.line, Some(source.isa_irq), source.ioapic_pin);
            }
        }
        for timer in 0..3 {
            if let Some(route) = self.hpet.route(timer.into()) {
                lead(LINE_HPET + timer, route.isa_irq, route.ioapic_pin);
            }
        }
        for (line, (device, pin)) in (LINE_PCI..).zip(&self.pci_pins) {
            let pirq = self.pci.chipset.pirq_of(*device, *pin);
            lead(line, self.pci.chipset.pirq_route(pirq), PIRQ_FIRST_PIN + pirq);
        }
        Routes(routes)
    }

    /// After everything that may have moved a line, a controller or a deadline.
    pub(super) fn settle(&mut self) {
        if self.pci.take_moved() {
            self.find_alone();
        }
        let routes = self.routes();
        let mut testdev = Testdev::default();
        if let Some(device) = &mut self.harness.pc_testdev {
            testdev = Testdev { high: device.irqs(), rose: device.take_rose() };
        }
        let interrupts = &self.interrupts;
        let pit_is_heard = interrupts.with(|controllers| {
            (controllers.routes, controllers.testdev) = (routes, testdev.high);
            interrupts.settle(controllers, testdev);
            controllers.hear(LINE_PIT)
        });
        let (others, pit) = (self.other_deadline(), self.pit.next_deadline());
        self.deadline = earlier(others, pit);
        self.wake = if pit_is_heard { self.deadline } else { others };
    }

    /// The earliest deadline of all devices but the PIT and the local APICs.
    fn other_deadline(&self) -> Option<Ns> {
        let serial = self.serial.iter().filter_map(Timed::next_deadline);
        [&self.rtc as &dyn Timed, &self.hpet, &self.acpi]
            .map(Timed::next_deadline)
            .into_iter()
            .chain([serial.min(), self.storage_deadline()])
            .fold(None, earlier)
    }

    /// Does what an access to `cpu`'s local APIC asked for.
    pub(super) fn perform(&mut self, cpu: usize, effect: Effect) {
        if let Some(vector) = self.lapics.perform(cpu, effect) {
            self.interrupts.with(|controllers| controllers.ioapic.eoi(vector));
        }
    }
}
