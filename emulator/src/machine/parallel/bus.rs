//! The devices as the vCPUs that run in parallel reach them.
//!
//! Four ways, from the cheapest: samples from published state, without a lock; the vCPU's local APIC, under a lock of its own; PCI functions
//! and the interrupt controllers, under those of theirs; everything else one access at a time under the devices' lock. Each access is at the
//! time of the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::lapic::{Effect, LAPIC_LEN, LocalApic, signal};
use devices::pc::{ApartPort, BoardSamples, Interrupts};
use devices::pci::{self, PciFunction};
use devices::{PortDevice, Timed};
use x86::{Bus, Ns};

use super::super::bus::PcBus;
use super::counts::Why;
use super::functions::Function;
use super::{Shared, lock};

/// The bus as one of the vCPUs that run in parallel sees it.
pub(super) struct SharedBus {
    pub shared: Arc<Shared>,
    pub cpu: usize,
}

fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}

impl SharedBus {
    fn count(&self, why: Why) {
        self.shared.counts.cpu(self.cpu).count(why);
    }

    /// An access to the devices, which nothing else comes between.
    fn access<R>(&self, why: Why, f: impl FnOnce(&mut PcBus, Ns) -> R) -> R {
        self.access_at(why, |bus| f(bus, self.shared.clock.now()))
    }

    /// The same, for `f` to read the clock.
    fn access_at<R>(&self, why: Why, f: impl FnOnce(&mut PcBus) -> R) -> R {
        self.count(why);
        let shared = &*self.shared;
        let mut bus = lock(&shared.bus);
        bus.cpu = self.cpu;
        bus.devices.turn_to(self.cpu);
        // The clock is read under the lock: time does not run backwards for the devices.
        let result = f(&mut bus);
        shared.publish(&bus, true);
        if bus.take_stale() {
            let space = Arc::clone(bus.space());
            drop(bus);
            self.count(Why::MemoryMap);
            space.update_map_by(|| lock(&shared.bus).next_map());
        }
        result
    }

    /// Carries on what an access to `function` has done to its pin, its messages and its deadline.
    fn carry(&self, function: &Function) {
        self.count(Why::Function);
        if self.shared.interrupts.carry() {
            self.count(Why::ControllersPin);
        }
        self.shared.wake_sleepers();
        function.wake_in_time();
    }

    /// An access to the PCI function that alone decodes the I/O port (`io`) or address `at`, by base address register and offset. `None`: there
    /// is none, and the devices are to be asked.
    fn function<R>(
        &self,
        io: bool,
        at: u64,
        f: impl FnOnce(&mut dyn PciFunction, u8, u64, Ns) -> R,
    ) -> Option<R> {
        let shared = &*self.shared;
        let function =
            shared.functions.iter().find(|function| function.locked.decodes_alone(io, at).is_some())?;
        // The clock is read under the lock: time does not run backwards for the function.
        let access = |own: &mut dyn PciFunction, bar, offset| f(own, bar, offset, shared.clock.now());
        let result = function.locked.access(io, at, access)?;
        self.carry(function);
        Some(result)
    }

    /// An access to fixed ports of channel `channel` of the IDE function.
    fn channel<R>(&self, channel: u8, f: impl FnOnce(&mut dyn PortDevice, Ns) -> R) -> Option<R> {
        let shared = &*self.shared;
        let function = shared.functions.iter().find(|function| function.locked.at() == pci::IDE)?;
        let result = function.locked.with(|own| {
            let ports = own.fixed_ports(channel)?;
            Some(f(ports, shared.clock.now()))
        })?;
        self.carry(function);
        Some(result)
    }

    /// A read of a port that is reached without the board.
    fn port_in_apart(&self, port: u16, size: u8) -> Option<u32> {
        let shared = &*self.shared;
        match shared.ports.and_then(|ports| ports.find(port, size)) {
            Some(ApartPort::Pic) => {
                self.count(Why::ControllersRegister);
                Some(shared.interrupts.port_read(port, shared.clock.now()))
            }
            Some(ApartPort::Ide(channel)) => {
                self.channel(channel, |ports, now| ports.port_read(port, size, now))
            }
            None => self.function(true, port.into(), |own, bar, offset, now| {
                own.bar_read(bar, offset, size, now) as u32
            }),
        }
    }

    /// A write to one. `None`: it is not.
    fn port_out_apart(&self, port: u16, size: u8, value: u32) -> Option<()> {
        let shared = &*self.shared;
        match shared.ports.and_then(|ports| ports.find(port, size)) {
            Some(ApartPort::Pic) => {
                self.count(Why::ControllersRegister);
                shared.interrupts.port_write(port, value as u8, shared.clock.now());
                shared.wake_sleepers();
                Some(())
            }
            Some(ApartPort::Ide(channel)) => {
                self.channel(channel, |ports, now| ports.port_write(port, size, value, now))
            }
            None => self.function(true, port.into(), |own, bar, offset, now| {
                own.bar_write(bar, offset, size, value.into(), now);
            }),
        }
    }

    /// An access to the vCPU's local APIC.
    fn apic<R>(&self, f: impl FnOnce(&mut LocalApic, Ns) -> R) -> R {
        self.count(Why::LocalApic);
        let now = self.shared.clock.now();
        self.shared.apics.with(self.cpu, |apic| f(apic, now))
    }

    /// Does what an access to the local APIC asked for.
    fn perform(&self, effect: Effect) {
        if let Effect::Send(_) = effect {
            self.count(Why::Ipi);
        }
        if let Some(vector) = self.shared.apics.perform(self.cpu, effect) {
            self.count(Why::ControllersEoi);
            self.shared.interrupts.end_of_interrupt(vector);
        }
        if effect != Effect::None {
            self.shared.wake_sleepers();
        }
    }

    /// Takes one of [`signal`]'s.
    fn take(&self, which: u32) -> bool {
        let waits = self.shared.apics.has(self.cpu, which);
        if waits {
            self.count(Why::LocalApic);
        }
        waits && self.shared.apics.take(self.cpu, which)
    }
}

impl Bus for SharedBus {
    fn clock(&self) -> Ns {
        self.shared.clock.now()
    }
    fn port_in(&mut self, port: u16, size: u8, _now: Ns) -> u32 {
        let size = size.min(4);
        if let Some(value) = self.port_in_apart(port, size) {
            let value = value & ones(size) as u32;
            tracing::trace!(target: "io", "in  port {port:#06x} size {size} value {value:#x}, CPU {}", self.cpu);
            return value;
        }
        self.access(Why::DevicePort, |bus, now| bus.port_in(port, size, now))
    }
    fn port_out(&mut self, port: u16, size: u8, value: u32, _now: Ns) {
        let (size, value) = (size.min(4), value & ones(size.min(4)) as u32);
        if self.port_out_apart(port, size, value).is_some() {
            tracing::trace!(target: "io", "out port {port:#06x} size {size} value {value:#x}, CPU {}", self.cpu);
            return;
        }
        self.access(Why::DevicePort, |bus, now| bus.port_out(port, size, value, now));
    }
    fn sample_port(&self, port: u16, size: u8, _now: Ns) -> Option<u32> {
        let value = self.shared.samples.port(port, size, || self.shared.clock.now())?;
        self.count(Why::SampledPort);
        tracing::trace!(target: "io", "in  port {port:#06x} size {size} value {value:#x}, sampled");
        Some(value)
    }
    fn sample_mmio(&self, gpa: u64, size: u8, _now: Ns) -> Option<u64> {
        if self.shared.apics.in_window(self.cpu, gpa) {
            return None;
        }
        let value = self.shared.samples.memory(gpa, size, || self.shared.clock.now())?;
        self.count(Why::SampledMemory);
        tracing::trace!(target: "mmio", "read  address {gpa:#x} size {size} value {value:#x}, sampled");
        Some(value)
    }
    fn mmio_read(&mut self, gpa: u64, size: u8, _now: Ns) -> u64 {
        if self.shared.apics.in_window(self.cpu, gpa) {
            let value =
                self.apic(|apic, now| apic.window_read(gpa & (LAPIC_LEN - 1), size, now)) & ones(size);
            tracing::trace!(target: "mmio", "read  address {gpa:#x} size {size} value {value:#x}, CPU {}", self.cpu);
            return value;
        }
        let apart = if Interrupts::in_window(gpa) {
            self.count(Why::ControllersRegister);
            Some(self.shared.interrupts.window_read(gpa, size, self.shared.clock.now()))
        } else {
            self.function(false, gpa, |own, bar, offset, now| own.bar_read(bar, offset, size, now))
        };
        if let Some(value) = apart {
            let value = value & ones(size);
            tracing::trace!(target: "mmio", "read  address {gpa:#x} size {size} value {value:#x}, CPU {}", self.cpu);
            return value;
        }
        self.access(Why::DeviceMemory, |bus, now| bus.mmio_read(gpa, size, now))
    }
    fn mmio_write(&mut self, gpa: u64, size: u8, value: u64, _now: Ns) {
        let (shared, value) = (&*self.shared, value & ones(size));
        if shared.apics.in_window(self.cpu, gpa) {
            tracing::trace!(target: "mmio", "write address {gpa:#x} size {size} value {value:#x}, CPU {}", self.cpu);
            let offset = gpa & (LAPIC_LEN - 1);
            let effect = self.apic(|apic, now| apic.window_write(offset, size, value, now));
            self.perform(effect);
        } else if Interrupts::in_window(gpa) {
            tracing::trace!(target: "mmio", "write address {gpa:#x} size {size} value {value:#x}, CPU {}", self.cpu);
            self.count(Why::ControllersRegister);
            shared.interrupts.window_write(gpa, size, value, shared.clock.now());
            shared.wake_sleepers();
        } else if BoardSamples::governs(gpa) {
            self.access_at(Why::DeviceMemory, |bus| {
                // Before the clock is read: see `BoardSamples`.
                shared.samples.begin();
                bus.mmio_write(gpa, size, value, shared.clock.now());
                bus.devices.end_samples(&shared.samples);
            });
        } else if self
            .function(false, gpa, |own, bar, offset, now| own.bar_write(bar, offset, size, value, now))
            .is_some()
        {
            tracing::trace!(target: "mmio", "write address {gpa:#x} size {size} value {value:#x}, CPU {}", self.cpu);
        } else {
            self.access(Why::DeviceMemory, |bus, now| bus.mmio_write(gpa, size, value, now));
        }
    }
    fn interrupt_pending(&mut self) -> bool {
        self.shared.apics.interrupt_pending(self.cpu)
    }
    fn interrupt_acknowledge(&mut self, _now: Ns) -> Option<u8> {
        if self.shared.apics.pic_interrupts(self.cpu) {
            self.count(Why::ControllersAcknowledge);
            let vector = self.shared.interrupts.acknowledge(self.cpu);
            self.shared.wake_sleepers();
            return vector;
        }
        self.count(Why::LocalApic);
        self.shared.apics.acknowledge(self.cpu)
    }
    fn a20(&self) -> bool {
        self.shared.a20.load(Ordering::Acquire)
    }
    fn take_init(&mut self) -> bool {
        self.take(signal::INIT)
    }
    fn take_start_up(&mut self) -> Option<u8> {
        if !self.shared.apics.has(self.cpu, signal::START_UP) {
            return None;
        }
        self.count(Why::LocalApic);
        self.shared.apics.take_start_up(self.cpu)
    }
    fn take_smi(&mut self) -> bool {
        self.take(signal::SMI)
    }
    fn set_smm(&mut self, on: bool) {
        self.access(Why::DeviceOther, |bus, _| {
            let mut smm = lock(&self.shared.smm);
            let bit = 1 << self.cpu;
            *smm = if on { *smm | bit } else { *smm & !bit };
            bus.set_smm(*smm != 0);
        });
    }
    fn take_nmi(&mut self) -> bool {
        self.take(signal::NMI)
    }
    fn apic_base(&self) -> u64 {
        self.shared.apics.base(self.cpu)
    }
    fn set_apic_base(&mut self, value: u64, _now: Ns) -> bool {
        self.apic(|apic, now| {
            apic.advance(now);
            apic.set_base(value)
        })
    }
    fn cr8(&self) -> u8 {
        self.apic(|apic, _| apic.cr8())
    }
    fn set_cr8(&mut self, value: u8, _now: Ns) {
        self.apic(|apic, _| apic.set_cr8(value));
    }
    fn tsc_deadline(&mut self, _now: Ns) -> u64 {
        self.apic(|apic, now| apic.tsc_deadline(now))
    }
    fn set_tsc_deadline(&mut self, deadline: u64, _now: Ns) {
        self.apic(|apic, now| apic.set_tsc_deadline(deadline, now));
    }
    fn x2apic_read(&mut self, msr: u32, _now: Ns) -> Option<u64> {
        self.apic(|apic, now| apic.msr_read(msr, now))
    }
    fn x2apic_write(&mut self, msr: u32, value: u64, _now: Ns) -> bool {
        let effect = self.apic(|apic, now| apic.msr_write(msr, value, now));
        effect.map(|effect| self.perform(effect)).is_some()
    }
    fn ferr(&mut self, asserted: bool, _now: Ns) {
        self.access(Why::DeviceOther, |bus, now| bus.ferr(asserted, now));
    }
}
