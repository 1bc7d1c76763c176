//! What processors that run at the same time use without the board, and how they know that they may.
//!
//! The board shares its PCI functions ([`LockedFunction`]) and interrupt controllers ([`Interrupts`]), and finds out which functions are the only
//! ones to decode what their registers map. An access there needs the function's lock only, and then [`Interrupts::carry`]. Everything else
//! goes through the board, with the same result: which way an access takes decides about locks, not about meaning.

use std::sync::Arc;

use super::wiring::{ApartPorts, PORTS, PortRange, Unit};
use super::{Interrupts, MMIO_WINDOWS, PcDevices};
use crate::harness::{IOMEM_BASE, IOMEM_LEN};
use crate::pci::{LockedFunction, RCBA_LEN};

impl PcDevices {
    /// From now on PCI functions with locks of their own are used and advanced by those who share them with the board, and what they do is
    /// carried on by [`Interrupts::carry`]; or no longer. Accesses that come here reach them in either case.
    pub fn set_apart(&mut self, apart: bool) {
        self.apart = apart;
        self.settle();
    }

    /// Those, to be shared.
    pub fn functions(&self) -> &[Arc<LockedFunction>] {
        self.pci.cards()
    }

    /// The interrupt controllers, for whoever uses these functions or ends an interrupt.
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// What the guest reaches at fixed ports without the board, if there is nothing else at these ports.
    pub fn apart_ports(&self) -> Option<ApartPorts> {
        let ours = |range: &&PortRange| matches!(range.unit, Unit::Pic | Unit::Ide(_));
        let mut ports = PORTS.iter().filter(ours).flat_map(|range| range.first..=range.last);
        ports.all(|port| self.harness.decode(port).is_none()).then_some(ApartPorts(()))
    }

    /// Finds out which functions are reached by one way only, so that they need not be looked for here.
    pub(super) fn find_alone(&mut self) {
        let (flash, ecam) = ([0, 1].map(|unit| self.flash_range(unit)), self.pci.chipset.ecam());
        let testdev = self.harness.pc_testdev.as_ref().map(|_| IOMEM_BASE..IOMEM_BASE + IOMEM_LEN);
        let root = self.pci.chipset.lpc().and_then(|lpc| lpc.root_complex_base());
        let root = root.map(|base| base..base + RCBA_LEN);
        let windows = MMIO_WINDOWS.map(|(start, len)| start..start + len);
        // Below 1 MiB: the display's window, and segments whose writes go to RAM behind.
        let low = 0..1 << 20;
        let others = [Some(low), ecam, testdev, root].into_iter().chain(flash).flatten();
        let taken: Vec<_> = windows.into_iter().chain(others).collect();
        self.pci.find_alone(|io, start, len| {
            let end = start.saturating_add(len);
            if io {
                (start..end.min(1 << 16)).any(|port| self.decode(port as u16).is_some())
            } else {
                taken.iter().any(|range| range.start < end && start < range.end)
            }
        });
    }
}
