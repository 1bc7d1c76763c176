//! pc-testdev, as QEMU has it and kvm-unit-tests use it: a register that reads back what was written, a window of
//! memory that is a device, and ports that drive the interrupt inputs.
//!
//! * E0h to E3h: a register of 4 bytes, accessed in 1, 2 or 4 bytes.
//! * E4h: in QEMU, drops the host's mapping of the page whose address is written; here nothing is to be dropped.
//! * E8h to EBh: the same register once more, always byte by byte.
//! * 2000h to 2017h: a byte written to 2000h + n sets interrupt input n (any value but 0) or clears it.
//! * FF000000h: 64 KiB of bytes.

use serde::{Deserialize, Serialize};

use crate::{MmioDevice, Ns, PortDevice};

const REGISTER: u16 = 0xe0;
const FLUSH: u16 = 0xe4;
const BYTES: u16 = 0xe8;
const IRQS: u16 = 0x2000;
const IRQ_COUNT: u16 = 24;

/// The ports, first and last.
pub(super) const PORTS: [(u16, u16); 4] =
    [(REGISTER, REGISTER + 3), (FLUSH, FLUSH + 3), (BYTES, BYTES + 3), (IRQS, IRQS + IRQ_COUNT - 1)];

/// Address of the memory window.
pub const IOMEM_BASE: u64 = 0xff00_0000;
/// Its size, bytes.
pub const IOMEM_LEN: u64 = 0x1_0000;

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcTestdevState {
    register: [u8; 4],
    irqs: u32,
    rose: u32,
    iomem: Vec<u8>,
}

/// See the module.
pub struct PcTestdev {
    state: PcTestdevState,
}

impl Default for PcTestdev {
    fn default() -> Self {
        Self::new()
    }
}

impl PcTestdev {
    /// All zeros, no interrupt input driven.
    pub fn new() -> Self {
        let iomem = vec![0; IOMEM_LEN as usize];
        Self { state: PcTestdevState { register: [0; 4], irqs: 0, rose: 0, iomem } }
    }

    /// The interrupt inputs that are driven, bit n for input n.
    pub fn irqs(&self) -> u32 {
        self.state.irqs
    }

    /// The inputs that rose since the last call.
    pub fn take_rose(&mut self) -> u32 {
        std::mem::take(&mut self.state.rose)
    }

    /// The state.
    pub fn save(&self) -> PcTestdevState {
        self.state.clone()
    }

    /// Restores what `save` gave; a window of the wrong size is taken as far as it goes.
    pub fn restore(&mut self, mut state: PcTestdevState) {
        state.iomem.resize(IOMEM_LEN as usize, 0);
        self.state = state;
    }
}

impl PortDevice for PcTestdev {
    fn port_read(&mut self, port: u16, size: u8, _now: Ns) -> u32 {
        match port {
            REGISTER..=0xe3 | BYTES..=0xeb => {
                let first = usize::from(port & 3);
                let bytes = &self.state.register[first..];
                (0..usize::from(size))
                    .fold(0, |v, n| v | u32::from(bytes.get(n).copied().unwrap_or(0)) << (8 * n))
            }
            // Write only.
            _ => 0,
        }
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, _now: Ns) {
        match port {
            REGISTER..=0xe3 | BYTES..=0xeb => {
                let first = usize::from(port & 3);
                let bytes = self.state.register[first..].iter_mut().take(size.into());
                bytes.zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
            }
            IRQS.. => {
                let bit = 1 << (port - IRQS);
                if value == 0 {
                    self.state.irqs &= !bit;
                } else {
                    self.state.rose |= bit & !self.state.irqs;
                    self.state.irqs |= bit;
                }
            }
            _ => {}
        }
    }
}

impl MmioDevice for PcTestdev {
    fn mmio_read(&mut self, offset: u64, size: u8, _now: Ns) -> u64 {
        let bytes = &self.state.iomem[offset as usize % IOMEM_LEN as usize..];
        bytes.iter().take(size.into()).enumerate().fold(0, |v, (n, byte)| v | u64::from(*byte) << (8 * n))
    }

    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, _now: Ns) {
        let bytes = self.state.iomem[offset as usize % IOMEM_LEN as usize..].iter_mut();
        bytes.take(size.into()).zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_has_two_faces() {
        let mut device = PcTestdev::new();
        device.port_write(0xe0, 4, 0x1234_5678, 0);
        assert_eq!(device.port_read(0xe8, 1, 0), 0x78);
        device.port_write(0xe9, 1, 0xaa, 0);
        assert_eq!(device.port_read(0xe0, 4, 0), 0x1234_aa78);
        device.port_write(0xe2, 2, 0xbeef, 0);
        assert_eq!((device.port_read(0xe2, 2, 0), device.port_read(0xe3, 4, 0)), (0xbeef, 0xbe));
        device.port_write(0xe4, 4, u32::MAX, 0);
        assert_eq!(device.port_read(0xe0, 4, 0), 0xbeef_aa78, "flushing changes nothing");
    }

    #[test]
    fn the_window_keeps_bytes_and_ends() {
        let mut device = PcTestdev::new();
        device.mmio_write(0xfff8, 8, 0x1122_3344_5566_7788, 0);
        assert_eq!(device.mmio_read(0xfffc, 4, 0), 0x1122_3344);
        device.mmio_write(0xffff, 8, u64::MAX, 0);
        assert_eq!((device.mmio_read(0xffff, 8, 0), device.mmio_read(0, 8, 0)), (0xff, 0));
        let mut other = PcTestdev::new();
        other.restore(device.save());
        assert_eq!(other.mmio_read(0xfff8, 4, 0), 0x5566_7788);
    }

    #[test]
    fn interrupt_inputs_rise_once() {
        let mut device = PcTestdev::new();
        device.port_write(0x2005, 1, 1, 0);
        device.port_write(0x2005, 1, 0x80, 0);
        device.port_write(0x2017, 1, 1, 0);
        assert_eq!((device.irqs(), device.take_rose(), device.take_rose()), (0x80_0020, 0x80_0020, 0));
        device.port_write(0x2005, 1, 0, 0);
        device.port_write(0x2005, 1, 1, 0);
        assert_eq!((device.irqs(), device.take_rose()), (0x80_0020, 0x20));
    }
}
