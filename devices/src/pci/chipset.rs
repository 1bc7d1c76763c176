//! The chipset of either board behind one set of questions: which functions it has, how memory is mapped, and where interrupts
//! and the power management registers are.

use std::ops::Range;

use super::ich9::{Ich9Lpc, Ich9Smbus};
use super::{BridgeMemory, I440Fx, PciFunction, Piix3Isa, Piix4Pm, Q35Host, devfn};
use crate::IrqLine;
use crate::acpi_pm::SCI_IRQ;

/// MiB of the large TSEG: QEMU's.
const EXT_TSEG_MBYTES: u16 = 16;

/// The chipset's own functions.
pub enum Chipset {
    /// i440FX and PIIX.
    I440Fx {
        /// 00:00.0
        host: Box<I440Fx>,
        /// 00:01.0
        isa: Box<Piix3Isa>,
        /// 00:01.3
        pm: Box<Piix4Pm>,
    },
    /// Q35 and ICH9.
    Q35 {
        /// 00:00.0
        host: Box<Q35Host>,
        /// 00:1f.0
        lpc: Box<Ich9Lpc>,
        /// 00:1f.3
        smbus: Box<Ich9Smbus>,
    },
}

const HOST: u8 = devfn(0, 0);
const ISA: u8 = devfn(1, 0);
const PM: u8 = devfn(1, 3);
const LPC: u8 = devfn(0x1f, 0);
const SMBUS: u8 = devfn(0x1f, 3);

impl Chipset {
    /// i440FX and PIIX at power-on.
    pub fn i440fx() -> Self {
        Self::I440Fx { host: Box::default(), isa: Box::default(), pm: Box::default() }
    }

    /// Q35 and ICH9; `smbus` is INTA# of device 1Fh.
    pub fn q35(smbus: IrqLine) -> Self {
        Self::Q35 {
            host: Box::new(Q35Host::new(EXT_TSEG_MBYTES)),
            lpc: Box::default(),
            smbus: Box::new(Ich9Smbus::new(smbus)),
        }
    }

    /// The functions with their places, in order.
    pub(super) fn functions(&self) -> [(u8, &dyn PciFunction); 3] {
        match self {
            Self::I440Fx { host, isa, pm } => [(HOST, host.as_ref()), (ISA, isa.as_ref()), (PM, pm.as_ref())],
            Self::Q35 { host, lpc, smbus } => {
                [(HOST, host.as_ref()), (LPC, lpc.as_ref()), (SMBUS, smbus.as_ref())]
            }
        }
    }

    pub(super) fn function(&mut self, at: u8) -> Option<&mut dyn PciFunction> {
        match (self, at) {
            (Self::I440Fx { host, .. }, HOST) => Some(host.as_mut()),
            (Self::I440Fx { isa, .. }, ISA) => Some(isa.as_mut()),
            (Self::I440Fx { pm, .. }, PM) => Some(pm.as_mut()),
            (Self::Q35 { host, .. }, HOST) => Some(host.as_mut()),
            (Self::Q35 { lpc, .. }, LPC) => Some(lpc.as_mut()),
            (Self::Q35 { smbus, .. }, SMBUS) => Some(smbus.as_mut()),
            _ => None,
        }
    }

    /// The memory map for a processor that is in SMM or not; `top` is the end of RAM below 4 GiB.
    pub fn memory(&self, smm: bool, top: u64) -> BridgeMemory {
        match self {
            Self::I440Fx { host, .. } => host.memory(smm, top),
            Self::Q35 { host, .. } => host.memory(smm, top),
        }
    }

    /// Where configuration space is seen in memory.
    pub fn ecam(&self) -> Option<Range<u64>> {
        match self {
            Self::I440Fx { .. } => None,
            Self::Q35 { host, .. } => host.pciexbar(),
        }
    }

    /// The LPC bridge of an ICH9.
    pub fn lpc(&mut self) -> Option<&mut Ich9Lpc> {
        match self {
            Self::I440Fx { .. } => None,
            Self::Q35 { lpc, .. } => Some(lpc),
        }
    }

    /// The PIRQ (0 = A) that a device's interrupt pin (1 = INTA# to 4 = INTD#) is wired to. On the i440FX INTA# of device 1 is
    /// PIRQA, and each device and each pin moves on by one of four.
    pub fn pirq_of(&self, device: u8, pin: u8) -> u8 {
        match self {
            Self::I440Fx { .. } => device.wrapping_add(pin).wrapping_sub(2) & 3,
            Self::Q35 { lpc, .. } => lpc.pirq_of(device, pin),
        }
    }

    /// The ISA interrupt that a PIRQ drives.
    pub fn pirq_route(&self, pirq: u8) -> Option<u8> {
        match self {
            Self::I440Fx { isa, .. } => isa.pirq_route(pirq.into()),
            Self::Q35 { lpc, .. } => lpc.pirq_route(pirq),
        }
    }

    /// The I/O APIC's input that the SCI arrives at.
    pub fn sci(&self) -> u8 {
        match self {
            Self::I440Fx { .. } => SCI_IRQ,
            Self::Q35 { lpc, .. } => lpc.sci(),
        }
    }

    /// The first port of the power management registers; `None` while they are not decoded.
    pub fn pm_base(&self) -> Option<u16> {
        match self {
            Self::I440Fx { pm, .. } => pm.base(),
            Self::Q35 { lpc, .. } => lpc.pm_base(),
        }
    }

    /// A PIIX decides about the SMI of the SMI command port by a bit of its configuration space; `None`: the power management
    /// registers decide.
    pub fn apmc_enabled(&self) -> Option<bool> {
        match self {
            Self::I440Fx { pm, .. } => Some(pm.apmc_enabled()),
            Self::Q35 { .. } => None,
        }
    }

    /// SMIs cannot be turned off any more.
    pub fn smi_locked(&self) -> bool {
        matches!(self, Self::Q35 { lpc, .. } if lpc.smi_lock())
    }
}
