//! The one place where a CPU meets devices: [`x86::Bus`] over [`PcDevices`].

use std::sync::Arc;

use devices::flash::FlashArray;
use devices::memory::GuestMemory;
use devices::pc::{PcDevices, port_time};
use devices::vga::VideoMemory;
use softmmu::{AddressSpace, Gpa, MemoryMap};
use x86::{Bus, Ns};

use super::memory::Memory;

/// What the processor reaches by ports, device memory and the local APIC's registers.
pub struct PcBus {
    /// The devices; the machine's loop advances them and carries their output away.
    pub devices: PcDevices,
    /// The number of the processor whose accesses come.
    pub cpu: usize,
    /// Device accesses so far (for statistics).
    pub accesses: u64,
    /// The processor is in system management mode (or one of those that run in parallel).
    smm: bool,
    memory: Memory,
    /// Another map is wanted, and whoever runs the processors publishes it; `None`: it is published at once.
    stale: Option<bool>,
}

impl PcBus {
    /// A bus for processor `cpu`.
    pub fn new(devices: PcDevices, cpu: usize, memory: Memory) -> Self {
        Self { devices, cpu, accesses: 0, smm: false, memory, stale: None }
    }

    /// Publishes another map when the chipset or the processor asks for one: after each port write, after
    /// a write to a device's memory that moves something, when SMM begins or ends, and when devices were reset or restored.
    pub fn remap(&mut self) {
        let (wanted, bars) = (self.devices.bridge_memory(self.smm), self.devices.mapped_bars());
        match &mut self.stale {
            Some(stale) => *stale |= self.memory.differs(&wanted, &bars),
            None => self.memory.show(wanted, bars),
        }
    }

    /// From now on maps are not published here, but asked for by [`PcBus::take_stale`] and [`PcBus::next_map`]; or again.
    pub fn defer_maps(&mut self, on: bool) {
        self.stale = on.then_some(false);
        if !on {
            self.remap();
        }
    }

    /// Has the last access asked for another map?
    pub fn take_stale(&mut self) -> bool {
        self.stale.as_mut().is_some_and(std::mem::take)
    }

    /// The map that is wanted now, if it is another one than the last.
    pub fn next_map(&mut self) -> Option<MemoryMap> {
        self.memory.next(self.devices.bridge_memory(self.smm), self.devices.mapped_bars())
    }

    /// The guest's memory.
    pub fn space(&self) -> &Arc<AddressSpace> {
        self.memory.space()
    }

    /// From now on it is processor `cpu` that reaches the devices, in system management mode or not.
    pub fn turn_to(&mut self, cpu: usize, smm: bool) {
        self.cpu = cpu;
        self.devices.turn_to(cpu);
        if smm != self.smm {
            self.set_smm(smm);
        }
    }

    /// Devices and processor were replaced by saved ones.
    pub fn restored(&mut self, smm: bool) {
        self.smm = smm;
        self.remap();
    }
}

/// Memory as devices that master the bus see it.
pub struct BusMaster(pub Arc<AddressSpace>);

impl GuestMemory for BusMaster {
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        let found = self.0.read(Gpa(at), bytes).is_ok();
        if !found {
            bytes.fill(0xff);
        }
        found
    }
    fn write(&self, at: u64, bytes: &[u8]) -> bool {
        self.0.write(Gpa(at), bytes).is_ok()
    }
}

/// A part of the guest's array that belongs to a device.
pub struct ArrayPart {
    /// The guest's memory.
    pub space: Arc<AddressSpace>,
    /// Where the part begins in the array.
    pub offset: u64,
    /// Its length.
    pub len: u64,
}

impl ArrayPart {
    /// How many of `len` bytes at `offset` lie in it.
    fn within(&self, offset: u64, len: usize) -> usize {
        self.len.saturating_sub(offset).min(len as u64) as usize
    }
}

impl VideoMemory for ArrayPart {
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        let n = self.within(offset, bytes.len());
        self.space.read_array(self.offset + offset.min(self.len), &mut bytes[..n]);
        bytes[n..].fill(0);
    }
    fn write(&self, offset: u64, bytes: &[u8]) {
        let n = self.within(offset, bytes.len());
        self.space.load_rom(self.offset + offset.min(self.len), &bytes[..n]);
    }
}

impl FlashArray for ArrayPart {
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        VideoMemory::read(self, offset, bytes);
    }
    fn write(&self, offset: u64, bytes: &[u8]) {
        VideoMemory::write(self, offset, bytes);
    }
}

impl Bus for PcBus {
    fn port_in(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        self.accesses += 1;
        let v = self.devices.port_read(port, size, now);
        tracing::trace!(target: "io", "in  port {port:#06x} size {size} value {v:#x} at {now} ns");
        v
    }
    fn sample_port(&self, port: u16, size: u8, now: Ns) -> Option<u32> {
        let v = self.devices.sample_port(port, size, now)?;
        tracing::trace!(target: "io", "in  port {port:#06x} size {size} value {v:#x} at {now} ns");
        Some(v)
    }
    fn sample_mmio(&self, gpa: u64, size: u8, now: Ns) -> Option<u64> {
        let v = self.devices.sample_mmio(self.cpu, gpa, size, now)?;
        tracing::trace!(target: "mmio", "read  address {gpa:#x} size {size} value {v:#x} at {now} ns");
        Some(v)
    }
    fn port_out(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        self.accesses += 1;
        tracing::trace!(target: "io", "out port {port:#06x} size {size} value {value:#x} at {now} ns");
        self.devices.port_write(port, size, value, now);
        self.remap();
    }
    fn port_time(&self, port: u16) -> Ns {
        port_time(port)
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
        if !self.memory.write_behind(gpa, size, value) {
            self.devices.mmio_write(self.cpu, gpa, size, value, now);
            if self.devices.take_map_change() {
                self.remap();
            }
        }
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
    fn take_init(&mut self) -> bool {
        self.devices.take_init(self.cpu)
    }
    fn take_start_up(&mut self) -> Option<u8> {
        self.devices.take_sipi(self.cpu)
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
