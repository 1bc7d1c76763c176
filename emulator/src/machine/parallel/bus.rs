//! The devices as the vCPUs that run in parallel reach them: one access at a time, each at the time of the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use x86::{Bus, Ns};

use super::super::bus::PcBus;
use super::{Shared, lock};

/// The bus as one of the vCPUs that run in parallel sees it.
pub(super) struct SharedBus {
    pub shared: Arc<Shared>,
    pub cpu: usize,
}

impl SharedBus {
    /// An access to the devices, which nothing else comes between.
    fn access<R>(&self, f: impl FnOnce(&mut PcBus, Ns) -> R) -> R {
        let shared = &*self.shared;
        let mut bus = lock(&shared.bus);
        bus.cpu = self.cpu;
        bus.devices.turn_to(self.cpu);
        // Under the lock: time does not run backwards for the devices.
        let now = shared.clock.now();
        let result = f(&mut bus, now);
        shared.publish(&bus, Some(self.cpu));
        if bus.take_stale() {
            let space = Arc::clone(bus.space());
            drop(bus);
            space.update_map_by(|| lock(&shared.bus).next_map());
        }
        result
    }

    /// A look at the devices that changes nothing.
    fn look<R>(&self, f: impl FnOnce(&PcBus) -> R) -> R {
        let mut bus = lock(&self.shared.bus);
        bus.cpu = self.cpu;
        f(&bus)
    }

    fn attention(&self) -> bool {
        self.shared.vcpus[self.cpu].attention.load(Ordering::Acquire)
    }
}

impl Bus for SharedBus {
    fn clock(&self) -> Ns {
        self.shared.clock.now()
    }
    fn port_in(&mut self, port: u16, size: u8, _now: Ns) -> u32 {
        self.access(|bus, now| bus.port_in(port, size, now))
    }
    fn port_out(&mut self, port: u16, size: u8, value: u32, _now: Ns) {
        self.access(|bus, now| bus.port_out(port, size, value, now));
    }
    fn sample_port(&self, port: u16, size: u8, _now: Ns) -> Option<u32> {
        let now = self.shared.clock.now();
        self.look(|bus| bus.sample_port(port, size, now))
    }
    fn sample_mmio(&self, gpa: u64, size: u8, _now: Ns) -> Option<u64> {
        let now = self.shared.clock.now();
        self.look(|bus| bus.sample_mmio(gpa, size, now))
    }
    fn mmio_read(&mut self, gpa: u64, size: u8, _now: Ns) -> u64 {
        self.access(|bus, now| bus.mmio_read(gpa, size, now))
    }
    fn mmio_write(&mut self, gpa: u64, size: u8, value: u64, _now: Ns) {
        self.access(|bus, now| bus.mmio_write(gpa, size, value, now));
    }
    fn interrupt_pending(&mut self) -> bool {
        self.attention() && self.look(|bus| bus.devices.interrupt_pending(bus.cpu))
    }
    fn interrupt_acknowledge(&mut self, _now: Ns) -> Option<u8> {
        self.access(|bus, now| bus.interrupt_acknowledge(now))
    }
    fn a20(&self) -> bool {
        self.shared.a20.load(Ordering::Acquire)
    }
    fn take_init(&mut self) -> bool {
        self.attention() && self.access(|bus, _| bus.take_init())
    }
    fn take_start_up(&mut self) -> Option<u8> {
        if self.attention() { self.access(|bus, _| bus.take_start_up()) } else { None }
    }
    fn take_smi(&mut self) -> bool {
        self.attention() && self.access(|bus, _| bus.take_smi())
    }
    fn set_smm(&mut self, on: bool) {
        self.access(|bus, _| {
            let mut smm = lock(&self.shared.smm);
            let bit = 1 << self.cpu;
            *smm = if on { *smm | bit } else { *smm & !bit };
            bus.set_smm(*smm != 0);
        });
    }
    fn take_nmi(&mut self) -> bool {
        self.attention() && self.access(|bus, _| bus.take_nmi())
    }
    fn apic_base(&self) -> u64 {
        self.look(|bus| bus.apic_base())
    }
    fn set_apic_base(&mut self, value: u64, _now: Ns) -> bool {
        self.access(|bus, now| bus.set_apic_base(value, now))
    }
    fn cr8(&self) -> u8 {
        self.look(|bus| bus.cr8())
    }
    fn set_cr8(&mut self, value: u8, _now: Ns) {
        self.access(|bus, now| bus.set_cr8(value, now));
    }
    fn tsc_deadline(&mut self, _now: Ns) -> u64 {
        self.access(|bus, now| bus.tsc_deadline(now))
    }
    fn set_tsc_deadline(&mut self, deadline: u64, _now: Ns) {
        self.access(|bus, now| bus.set_tsc_deadline(deadline, now));
    }
    fn x2apic_read(&mut self, msr: u32, _now: Ns) -> Option<u64> {
        self.access(|bus, now| bus.x2apic_read(msr, now))
    }
    fn x2apic_write(&mut self, msr: u32, value: u64, _now: Ns) -> bool {
        self.access(|bus, now| bus.x2apic_write(msr, value, now))
    }
    fn ferr(&mut self, asserted: bool, _now: Ns) {
        self.access(|bus, now| bus.ferr(asserted, now));
    }
}
