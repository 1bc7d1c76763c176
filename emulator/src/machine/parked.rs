//! What a processor has instead of a bus while it is another one's turn: nothing answers, and nobody asks but for show.

use x86::{Bus, Ns};

/// See the module.
pub struct Parked;

impl Bus for Parked {
    fn port_in(&mut self, _port: u16, _size: u8, _now: Ns) -> u32 {
        u32::MAX
    }
    fn port_out(&mut self, _port: u16, _size: u8, _value: u32, _now: Ns) {}
    fn mmio_read(&mut self, _gpa: u64, _size: u8, _now: Ns) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _gpa: u64, _size: u8, _value: u64, _now: Ns) {}
    fn interrupt_pending(&mut self) -> bool {
        false
    }
    fn interrupt_acknowledge(&mut self, _now: Ns) -> Option<u8> {
        None
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn apic_base(&self) -> u64 {
        0
    }
    fn set_apic_base(&mut self, _value: u64, _now: Ns) -> bool {
        false
    }
    fn cr8(&self) -> u8 {
        0
    }
    fn set_cr8(&mut self, _value: u8, _now: Ns) {}
    fn tsc_deadline(&mut self, _now: Ns) -> u64 {
        0
    }
    fn set_tsc_deadline(&mut self, _deadline: u64, _now: Ns) {}
    fn x2apic_read(&mut self, _msr: u32, _now: Ns) -> Option<u64> {
        None
    }
    fn x2apic_write(&mut self, _msr: u32, _value: u64, _now: Ns) -> bool {
        false
    }
    fn ferr(&mut self, _asserted: bool, _now: Ns) {}
}
