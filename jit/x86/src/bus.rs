//! What a processor needs from the machine around it. The consumer owns the trait: `emulator` implements it, and that
//! is the one place where a CPU meets devices.

/// Virtual nanoseconds since power-on. The time-stamp counter runs at 1 GHz, so one TSC tick is one nanosecond.
pub type Ns = u64;

/// The processor's side of the machine: port I/O, device memory, interrupt acknowledge and the local APIC's registers
/// that are reached without a memory access.
///
/// Every access carries the exact virtual time at which the instruction executes. An access may change pending
/// interrupts or deadlines: the engine leaves the block after the instruction, in every tier, and looks again. Reads that
/// change nothing are asked for first, as samples, and leave nothing.
/// `Any` lets the board get at its own type behind the processor's box.
pub trait Bus: Send + std::any::Any {
    /// Reads `size` (1, 2 or 4) bytes from an I/O port. Unassigned ports read as ones.
    fn port_in(&mut self, port: u16, size: u8, now: Ns) -> u32;
    /// Writes `size` (1, 2 or 4) bytes to an I/O port.
    fn port_out(&mut self, port: u16, size: u8, value: u32, now: Ns);
    /// Virtual nanoseconds that an access to `port` takes, in addition to the instruction's own: it is over that much later.
    fn port_time(&self, _port: u16) -> Ns {
        0
    }
    /// The time now, for a processor whose time is not counted ([`Pace::BY_CLOCK`](crate::state::Pace::BY_CLOCK)). Never runs
    /// backwards, for all processors of a machine together.
    fn clock(&self) -> Ns {
        0
    }
    /// What [`Bus::port_in`] would read, if that read changes nothing at all (a counter, say): then the engine need not look at
    /// anything after it, and may do it anywhere in a block, or twice. Whether a port can be sampled must be a function of what
    /// the guest has done, so that every tier answers alike.
    fn sample_port(&self, _port: u16, _size: u8, _now: Ns) -> Option<u32> {
        None
    }
    /// Likewise for [`Bus::mmio_read`].
    fn sample_mmio(&self, _gpa: u64, _size: u8, _now: Ns) -> Option<u64> {
        None
    }
    /// Reads `size` (1, 2, 4 or 8) bytes of device memory, which do not cross a page.
    fn mmio_read(&mut self, gpa: u64, size: u8, now: Ns) -> u64;
    /// Writes `size` (1, 2, 4 or 8) bytes of device memory, which do not cross a page.
    fn mmio_write(&mut self, gpa: u64, size: u8, value: u64, now: Ns);
    /// Is an external interrupt asserted to this processor (INTR, or the local APIC's IRR above its PPR)?
    fn interrupt_pending(&mut self) -> bool;
    /// Interrupt acknowledge: the vector to deliver, `None` when the request was withdrawn.
    fn interrupt_acknowledge(&mut self, now: Ns) -> Option<u8>;
    /// Takes a pending non-maskable interrupt.
    fn take_nmi(&mut self) -> bool;
    /// IA32_APIC_BASE (SDM vol. 3, 11.4.4).
    fn apic_base(&self) -> u64;
    /// Writes IA32_APIC_BASE; `false` asks for #GP.
    fn set_apic_base(&mut self, value: u64, now: Ns) -> bool;
    /// The task priority as CR8 shows it (bits 7:4 of the TPR).
    fn cr8(&self) -> u8;
    /// Writes the task priority by CR8.
    fn set_cr8(&mut self, value: u8, now: Ns);
    /// IA32_TSC_DEADLINE.
    fn tsc_deadline(&mut self, now: Ns) -> u64;
    /// Writes IA32_TSC_DEADLINE; the deadline is in TSC ticks of a counter without an offset.
    fn set_tsc_deadline(&mut self, deadline: u64, now: Ns);
    /// Reads an x2APIC register (MSR 800h..8FFh); `None` asks for #GP.
    fn x2apic_read(&mut self, msr: u32, now: Ns) -> Option<u64>;
    /// Writes an x2APIC register; `false` asks for #GP.
    fn x2apic_write(&mut self, msr: u32, value: u64, now: Ns) -> bool;
    /// Does address line 20 pass? Looked at after each port write.
    fn a20(&self) -> bool {
        true
    }
    /// Takes a pending INIT.
    fn take_init(&mut self) -> bool {
        false
    }
    /// Takes the vector of a start-up IPI that has come since the last INIT.
    fn take_start_up(&mut self) -> Option<u8> {
        None
    }
    /// Takes a pending system-management interrupt.
    fn take_smi(&mut self) -> bool {
        false
    }
    /// The processor is in SMM or not: SMRAM may have to appear or disappear. Called between two instructions.
    fn set_smm(&mut self, _on: bool) {}
    /// FERR#: the x87 FPU reports an unmasked error with CR0.NE clear (IRQ 13 on a PC).
    fn ferr(&mut self, asserted: bool, now: Ns);
}
