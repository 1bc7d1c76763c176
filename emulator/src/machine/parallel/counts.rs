//! How often each vCPU has taken which lock: what shows that its hot paths take none.
//!
//! Each vCPU has a line of its own, which its thread alone writes; others read it when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// Why a lock was taken (or, of samples, was not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The devices' lock, for device memory.
    DeviceMemory,
    /// The devices' lock, for a port.
    DevicePort,
    /// The devices' lock, for the rest: system management mode, FERR#.
    DeviceOther,
    /// The lock of a PCI function, for what its base address registers map or for its fixed ports.
    Function,
    /// The interrupt controllers' lock, since a function has moved its pin.
    ControllersPin,
    /// The interrupt controllers' lock, for their registers.
    ControllersRegister,
    /// The interrupt controllers' lock, for an interrupt of the 8259A pair.
    ControllersAcknowledge,
    /// The interrupt controllers' lock, for the end of a level-triggered interrupt.
    ControllersEoi,
    /// The lock of the vCPU's own local APIC.
    LocalApic,
    /// Those of others' local APICs, for an IPI.
    Ipi,
    /// Updates of the memory map.
    MemoryMap,
    /// None: samples of device memory.
    SampledMemory,
    /// None: samples of ports.
    SampledPort,
}

impl Why {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::DeviceMemory,
        Self::DevicePort,
        Self::DeviceOther,
        Self::Function,
        Self::ControllersPin,
        Self::ControllersRegister,
        Self::ControllersAcknowledge,
        Self::ControllersEoi,
        Self::LocalApic,
        Self::Ipi,
        Self::MemoryMap,
        Self::SampledMemory,
        Self::SampledPort,
    ];

    /// Is it the devices' lock: that of the board, and of all that has no lock of its own?
    pub fn is_devices(self) -> bool {
        (self as usize) < Self::Function as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::DeviceMemory => "devices, for memory",
            Self::DevicePort => "devices, for a port",
            Self::DeviceOther => "devices, other",
            Self::Function => "PCI function",
            Self::ControllersPin => "interrupt controllers, for a PCI function's pin",
            Self::ControllersRegister => "interrupt controllers, for a register",
            Self::ControllersAcknowledge => "interrupt controllers, for an acknowledgement",
            Self::ControllersEoi => "interrupt controllers, for the end of a level",
            Self::LocalApic => "own local APIC",
            Self::Ipi => "other local APICs",
            Self::MemoryMap => "memory map",
            Self::SampledMemory => "none: samples of memory",
            Self::SampledPort => "none: samples of ports",
        }
    }
}

/// What one vCPU has counted, in the order of [`Why::ALL`].
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Why::ALL.len()]);

impl Counts {
    /// Counts. By the vCPU's own thread only: a load and a store are enough.
    #[inline]
    pub fn count(&self, why: Why) {
        let word = &self.0[why as usize];
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How often.
    pub fn of(&self, why: Why) -> u64 {
        self.0[why as usize].load(Ordering::Relaxed)
    }

    /// How often the devices' lock was taken.
    pub fn devices(&self) -> u64 {
        Why::ALL.into_iter().filter(|why| why.is_devices()).map(|why| self.of(why)).sum()
    }
}

/// What all vCPUs of a machine have counted while they ran in parallel.
#[derive(Clone, Debug)]
pub struct LockCounts(Arc<[CachePadded<Counts>]>);

impl LockCounts {
    /// Nothing yet, of `cpus` vCPUs.
    pub fn new(cpus: usize) -> Self {
        Self((0..cpus).map(|_| CachePadded::default()).collect())
    }

    /// Those of vCPU `cpu`.
    pub fn cpu(&self, cpu: usize) -> &Counts {
        &self.0[cpu]
    }

    /// Those of all, together.
    pub fn total(&self, of: impl Fn(&Counts) -> u64) -> u64 {
        self.0.iter().map(|counts| of(counts)).sum()
    }
}

impl fmt::Display for LockCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<52}", "locks taken")?;
        (0..self.0.len()).try_for_each(|cpu| write!(f, " {:>11}", format!("CPU #{cpu}")))?;
        for why in Why::ALL {
            write!(f, "\n{:<52}", why.name())?;
            self.0.iter().try_for_each(|counts| write!(f, " {:>11}", counts.of(why)))?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_by_reason_and_vcpu() {
        let counts = LockCounts::new(2);
        counts.cpu(1).count(Why::DevicePort);
        counts.cpu(1).count(Why::DevicePort);
        counts.cpu(0).count(Why::Ipi);
        counts.cpu(0).count(Why::Function);
        assert_eq!((counts.cpu(1).devices(), counts.cpu(0).devices()), (2, 0));
        assert_eq!(counts.total(|counts| counts.of(Why::Ipi)), 1);
        for (n, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(n, why as usize);
        }
        let text = counts.to_string();
        let line = text.lines().find(|line| line.starts_with("devices, for a port"));
        assert_eq!(line.map(|line| line.split_whitespace().rev().take(2).collect()), Some(vec!["2", "0"]));
        assert_eq!(text.lines().count(), 1 + Why::ALL.len());
    }
}
