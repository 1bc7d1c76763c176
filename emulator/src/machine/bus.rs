//! The one place where a CPU meets devices: [`x86::Bus`] over [`PcDevices`].

use std::sync::Arc;

use devices::pc::PcDevices;
use softmmu::{AddressSpace, Gpa, MemoryMap, Region, RegionKind};
use x86::{Bus, Ns};

/// What the processor reaches by ports, device memory and the local APIC's registers.
pub struct PcBus {
    /// The devices; the machine's loop advances them and carries their output away.
    pub devices: PcDevices,
    /// This processor's number.
    pub cpu: usize,
    /// Device accesses so far (for statistics).
    pub accesses: u64,
    /// The processor is in system management mode.
    smm: bool,
    memory: Memory,
}

impl PcBus {
    /// A bus for processor `cpu`.
    pub fn new(devices: PcDevices, cpu: usize, memory: Memory) -> Self {
        Self { devices, cpu, accesses: 0, smm: false, memory }
    }

    /// Publishes another map when SMRAM appears or disappears.
    fn remap(&mut self) {
        let visible = self.devices.smram(self.smm);
        if visible != self.memory.smram {
            self.memory.smram = visible;
            self.memory.publish();
        }
    }
}

/// The memory map as it changes while the machine runs. Changes are made between two instructions, or at the end of one that
/// runs alone: nothing is held by host address then.
pub struct Memory {
    space: Arc<AddressSpace>,
    /// What is always there.
    regions: Vec<Region>,
    /// RAM is at A0000h to BFFFFh.
    smram: bool,
}

/// SMRAM: RAM behind the video window, at the same place in guest memory.
const SMRAM: Region =
    Region { start: Gpa(0xa_0000), len: 0x2_0000, kind: RegionKind::Ram { offset: 0xa_0000 } };

impl Memory {
    /// The memory of a machine whose map is `regions`.
    pub fn new(space: Arc<AddressSpace>, regions: Vec<Region>) -> Self {
        Self { space, regions, smram: false }
    }

    fn publish(&self) {
        let mut regions = self.regions.clone();
        if self.smram {
            regions.push(SMRAM);
        }
        let map = MemoryMap::new(regions).expect("nothing else is where SMRAM is");
        self.space.update_map(map);
    }
}

impl Bus for PcBus {
    fn port_in(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        self.accesses += 1;
        let v = self.devices.port_read(port, size, now);
        tracing::trace!(target: "io", "in  port {port:#06x} size {size} value {v:#x} at {now} ns");
        v
    }
    fn port_out(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        self.accesses += 1;
        tracing::trace!(target: "io", "out port {port:#06x} size {size} value {value:#x} at {now} ns");
        self.devices.port_write(port, size, value, now);
        self.remap();
    }
    fn mmio_read(&mut self, gpa: u64, size: u8, now: Ns) -> u64 {
        self.accesses += 1;
        let v = self.devices.mmio_read(self.cpu, gpa, size, now);
        tracing::trace!(target: "mmio", "read  address {gpa:#x} size {size} value {v:#x} at {now} ns");
        v
    }
    fn mmio_write(&mut self, gpa: u64, size: u8, value: u64, now: Ns) {
        self.accesses += 1;
        tracing::trace!(target: "mmio", "write address {gpa:#x} size {size} value {value:#x} at {now} ns");
        self.devices.mmio_write(self.cpu, gpa, size, value, now);
    }
    fn interrupt_pending(&mut self) -> bool {
        self.devices.interrupt_pending(self.cpu)
    }
    fn interrupt_acknowledge(&mut self, now: Ns) -> Option<u8> {
        self.devices.acknowledge(self.cpu, now)
    }
    fn a20(&self) -> bool {
        self.devices.a20()
    }
    fn take_smi(&mut self) -> bool {
        self.devices.take_smi(self.cpu)
    }
    fn set_smm(&mut self, on: bool) {
        self.smm = on;
        self.remap();
    }
    fn take_nmi(&mut self) -> bool {
        self.devices.take_nmi(self.cpu)
    }
    fn apic_base(&self) -> u64 {
        self.devices.apic_base(self.cpu)
    }
    fn set_apic_base(&mut self, value: u64, now: Ns) -> bool {
        self.devices.set_apic_base(self.cpu, value, now)
    }
    fn cr8(&self) -> u8 {
        self.devices.cr8(self.cpu)
    }
    fn set_cr8(&mut self, value: u8, _now: Ns) {
        self.devices.set_cr8(self.cpu, value);
    }
    fn tsc_deadline(&mut self, now: Ns) -> u64 {
        self.devices.tsc_deadline(self.cpu, now)
    }
    fn set_tsc_deadline(&mut self, deadline: u64, now: Ns) {
        self.devices.set_tsc_deadline(self.cpu, deadline, now);
    }
    fn x2apic_read(&mut self, msr: u32, now: Ns) -> Option<u64> {
        self.devices.x2apic_read(self.cpu, msr, now)
    }
    fn x2apic_write(&mut self, msr: u32, value: u64, now: Ns) -> bool {
        self.devices.x2apic_write(self.cpu, msr, value, now).is_some()
    }
    fn ferr(&mut self, asserted: bool, now: Ns) {
        self.devices.ferr(asserted, now);
    }
}
