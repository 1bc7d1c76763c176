//! The PC's devices, as plain state machines.
//!
//! A device here is a struct with `&mut self` methods. It has no thread, no lock, no host clock and does no host I/O: it
//! is told the virtual time on each access, answers, and says when it wants to be called again. Outputs to the host
//! (serial bytes, power events) are collected in small buffers that the board drains; interrupt outputs are
//! [`IrqLine`]s. What a guest sees is therefore a function of the accesses and their times alone, which is what
//! deterministic replay rests on.
//!
//! Every register write is hostile input: none may panic, loop without bound or allocate without bound. Timers that
//! were left behind by a long idle skip catch up by arithmetic, never tick by tick.
//!
//! [`pc::PcDevices`] is the whole PC: one table says which device sits at which port and interrupt.

pub mod acpi_pm;
pub mod ahci;
pub mod apic;
pub mod block;
mod clock;
pub mod debug_ports;
pub mod dma8237;
pub mod events;
pub mod flash;
pub mod floppy;
pub mod fpu_error;
pub mod fw_cfg;
pub mod harness;
pub mod hpet;
pub mod i8042;
pub mod ide;
pub mod ioapic;
pub mod lapic;
pub mod lines;
pub mod memory;
pub mod nvme;
pub mod pc;
pub mod pci;
pub mod pic8259;
pub mod pit8254;
pub mod published;
pub mod rtc;
mod saved;
pub mod uart16550;
pub mod vga;
pub mod virtio;

pub use events::PowerEvent;
pub use lines::{IrqLine, Lines};

/// Virtual nanoseconds since power-on. The TSC runs at 1 GHz, so this is its value too.
pub type Ns = u64;

/// A device with I/O ports.
pub trait PortDevice {
    /// Reads `size` bytes (1, 2 or 4) at `port`; bytes beyond `size` are zero.
    fn port_read(&mut self, port: u16, size: u8, now: Ns) -> u32;
    /// Writes the low `size` bytes of `value` (1, 2 or 4) to `port`.
    fn port_write(&mut self, port: u16, size: u8, value: u32, now: Ns);
}

/// A device with a memory window.
pub trait MmioDevice {
    /// Reads `size` bytes (1, 2, 4 or 8) at `offset` into the window.
    fn mmio_read(&mut self, offset: u64, size: u8, now: Ns) -> u64;
    /// Writes the low `size` bytes of `value` at `offset` into the window.
    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, now: Ns);
}

/// A device that acts on its own as time passes.
pub trait Timed {
    /// The next time at which the device's outputs change without an access. After `advance(now)` it is always `> now`.
    fn next_deadline(&self) -> Option<Ns>;
    /// Brings the device's state to `now` and drives its lines accordingly.
    fn advance(&mut self, now: Ns);
}
