//! The PC board's devices in one struct: the table of ports and interrupts, dispatch, and interrupt propagation.

use serde::{Deserialize, Serialize};

use crate::{Ns, PowerEvent};

/// What the board decides about its devices.
#[derive(Clone, Debug)]
pub struct PcConfig {
    /// Number of vCPUs = local APICs, 1 to 255. APIC id = index.
    pub cpus: u8,
    /// Guest RAM in bytes, for the CMOS memory-size bytes.
    pub ram_bytes: u64,
    /// The RTC's time at power-on, in seconds since 1970-01-01 (UTC).
    pub epoch_seconds: u64,
    /// Number of 16550A ports, 0 to 4, at 3F8h, 2F8h, 3E8h, 2E8h.
    pub serial_ports: u8,
    /// isa-debug-exit: (first port, number of ports).
    pub debug_exit: Option<(u16, u16)>,
}

/// All devices of the PC.
pub struct PcDevices {}

/// Saved state of all devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PcState {}

impl PcDevices {
    /// The devices at power-on.
    pub fn new(_config: &PcConfig) -> Self {
        Self {}
    }
    /// Platform reset at `now`; the clock and CMOS RAM keep running.
    pub fn reset(&mut self, _now: Ns) {}
    /// Port read of 1, 2 or 4 bytes. Unassigned ports read all ones.
    pub fn port_read(&mut self, _port: u16, size: u8, _now: Ns) -> u32 {
        u32::MAX >> (32 - 8 * u32::from(size))
    }
    /// Port write of 1, 2 or 4 bytes.
    pub fn port_write(&mut self, _port: u16, _size: u8, _value: u32, _now: Ns) {}
    /// Memory-mapped read by vCPU `cpu` (each sees its own local APIC).
    pub fn mmio_read(&mut self, _cpu: usize, _gpa: u64, size: u8, _now: Ns) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(size))
    }
    /// Memory-mapped write by vCPU `cpu`.
    pub fn mmio_write(&mut self, _cpu: usize, _gpa: u64, _size: u8, _value: u64, _now: Ns) {}
    /// When `advance` must be called next.
    pub fn next_deadline(&self) -> Option<Ns> {
        None
    }
    /// Brings all devices to `now`.
    pub fn advance(&mut self, _now: Ns) {}
    /// Whether INTR is asserted to `cpu`.
    pub fn interrupt_pending(&self, _cpu: usize) -> bool {
        false
    }
    /// INTA cycle by `cpu`: the vector to deliver.
    pub fn acknowledge(&mut self, _cpu: usize, _now: Ns) -> Option<u8> {
        None
    }
    /// Takes a pending NMI.
    pub fn take_nmi(&mut self, _cpu: usize) -> bool {
        false
    }
    /// Takes a pending INIT (the local APIC has reset itself already).
    pub fn take_init(&mut self, _cpu: usize) -> bool {
        false
    }
    /// Takes a pending start-up IPI: execution starts at `vector << 12`.
    pub fn take_sipi(&mut self, _cpu: usize) -> Option<u8> {
        None
    }
    /// IA32_APIC_BASE.
    pub fn apic_base(&self, _cpu: usize) -> u64 {
        0xfee0_0900
    }
    /// Writes IA32_APIC_BASE; false means #GP.
    pub fn set_apic_base(&mut self, _cpu: usize, _value: u64, _now: Ns) -> bool {
        true
    }
    /// CR8 (task priority class).
    pub fn cr8(&self, _cpu: usize) -> u8 {
        0
    }
    /// Writes CR8.
    pub fn set_cr8(&mut self, _cpu: usize, _cr8: u8) {}
    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&mut self, _cpu: usize, _now: Ns) -> u64 {
        0
    }
    /// Writes IA32_TSC_DEADLINE (a TSC value = virtual ns).
    pub fn set_tsc_deadline(&mut self, _cpu: usize, _tsc: u64, _now: Ns) {}
    /// Reads an x2APIC MSR (800h to 8FFh); `None` means #GP.
    pub fn x2apic_read(&mut self, _cpu: usize, _msr: u32, _now: Ns) -> Option<u64> {
        None
    }
    /// Writes an x2APIC MSR; `None` means #GP.
    pub fn x2apic_write(&mut self, _cpu: usize, _msr: u32, _value: u64, _now: Ns) -> Option<()> {
        None
    }
    /// The request to the board that a device made, if any.
    pub fn take_power_event(&mut self) -> Option<PowerEvent> {
        None
    }
    /// Whether address line 20 is passed (true) or forced low.
    pub fn a20(&self) -> bool {
        true
    }
    /// Bytes that serial port `index` sent since the last call.
    pub fn take_serial_output(&mut self, _index: usize) -> Vec<u8> {
        Vec::new()
    }
    /// Whether serial port `index` has room for another byte.
    pub fn serial_can_receive(&self, _index: usize) -> bool {
        false
    }
    /// Gives serial port `index` a byte from outside; false: it was lost.
    pub fn serial_receive(&mut self, _index: usize, _byte: u8, _now: Ns) -> bool {
        false
    }
    /// Bytes written to port E9h since the last call.
    pub fn take_debugcon_output(&mut self) -> Vec<u8> {
        Vec::new()
    }
    /// The last POST code (port 80h).
    pub fn post_code(&self) -> u8 {
        0
    }
    /// The whole state.
    pub fn save(&self) -> PcState {
        PcState {}
    }
    /// Restores `save`'s state into devices of the same configuration.
    pub fn restore(&mut self, _state: PcState) {}
}
