//! The memory controller hub of a Q35 board, 00:00.0 (3 Series chipset data sheet, chapter 5), as far as QEMU's firmware uses
//! it: PAM, SMRAM with TSEG, and PCIEXBAR.

use std::ops::Range;

use super::bridge_memory::{BridgeMemory, Registers};
use super::{ConfigSpace, PciFunction};

const PCIEXBAR: usize = 0x60;
/// QEMU's: MiB of the TSEG that TSEG_SZ 3 chooses. FFFFh asks for what there may be.
const EXT_TSEG_MBYTES: usize = 0x50;
/// Bases of graphics memory, of its translation table and of TSEG, in MiB from bit 20 on. Firmware computes them, and reads them again as its
/// note of where TSEG is; here TSEG ends where RAM below 4 GiB does, whatever is written.
const BASES: [usize; 3] = [0xa4, 0xa8, 0xac];
const REGISTERS: Registers = Registers { pam: 0x90, smramc: 0x9d, tseg: Some((0x9e, EXT_TSEG_MBYTES)) };

/// See the module.
pub struct Q35Host {
    config: ConfigSpace,
    ext_tseg_mbytes: u16,
}

impl Q35Host {
    /// After reset. `ext_tseg_mbytes` is the size of the large TSEG (QEMU: 16).
    pub fn new(ext_tseg_mbytes: u16) -> Self {
        let mut config = ConfigSpace::endpoint(0x8086, 0x29c0, 0x06_0000, 0x00);
        config.fixed(0x04, &[0x06, 0x00, 0x00, 0x00]);
        config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.register(PCIEXBAR, &[0; 8], &[0x07, 0, 0, 0xfc, 0x0f, 0, 0, 0]);
        for at in BASES {
            config.register(at, &[0; 4], &[0, 0, 0xf0, 0xff]);
        }
        REGISTERS.define(&mut config);
        Self { config, ext_tseg_mbytes }
    }

    /// The memory map for a processor that is in SMM or not; `top` is the end of RAM below 4 GiB.
    pub fn memory(&self, smm: bool, top: u64) -> BridgeMemory {
        REGISTERS.memory(&self.config, smm, top)
    }

    /// Where the configuration space is seen in memory: 256, 128 or 64 buses of 1 MiB.
    pub fn pciexbar(&self) -> Option<Range<u64>> {
        let bytes = self.config.bytes();
        let value = (0..8).rev().fold(0, |v, n| v << 8 | u64::from(bytes[PCIEXBAR + n]));
        let len = match value & 6 {
            0 => 256u64 << 20,
            2 => 128 << 20,
            4 => 64 << 20,
            _ => return None,
        };
        let start = value & 0xf_fc00_0000 & !(len - 1);
        (value & 1 != 0).then_some(start..start + len)
    }
}

impl PciFunction for Q35Host {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, offset: u8, len: u8) {
        let size = self.config.bytes()[EXT_TSEG_MBYTES..].first_chunk().map_or(0, |b| u16::from_le_bytes(*b));
        // After reset, too, FFFFh is there: the question is a write.
        let asked = len < 255 && usize::from(offset) < EXT_TSEG_MBYTES + 2;
        if asked && size == 0xffff && usize::from(offset) + usize::from(len) > EXT_TSEG_MBYTES {
            for (n, byte) in self.ext_tseg_mbytes.to_le_bytes().into_iter().enumerate() {
                self.config.write((EXT_TSEG_MBYTES + n) as u8, byte);
            }
        }
        REGISTERS.lock(&mut self.config);
        let locked = if REGISTERS.is_locked(&self.config) { 0xff } else { 0 };
        BASES.iter().flat_map(|at| *at..at + 4).for_each(|at| self.config.set_locked(at, locked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u64 = 0x8000_0000;

    fn write(host: &mut Q35Host, at: u8, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            host.config_mut().write(at + n as u8, *byte);
        }
        host.config_written(at, bytes.len() as u8);
    }

    fn hidden(host: &Q35Host, smm: bool) -> Option<u64> {
        host.memory(smm, TOP).hidden.map(|range| TOP - range.start)
    }

    #[test]
    fn tseg_has_four_sizes_and_is_there_for_smm_only() {
        let mut host = Q35Host::new(16);
        write(&mut host, 0x9e, &[0x01]);
        assert_eq!(hidden(&host, false), None, "G_SMRAME is off");
        write(&mut host, 0x9d, &[0x08]);
        for (size, len) in [(0, 1u64), (1, 2), (2, 8)] {
            write(&mut host, 0x9e, &[size << 1 | 1]);
            assert_eq!((hidden(&host, false), hidden(&host, true)), (Some(len << 20), None));
        }
        // How OVMF asks for the large one.
        assert_eq!(host.config().bytes()[0x50..0x52], [0xff, 0xff]);
        write(&mut host, 0x50, &[0xff, 0xff]);
        assert_eq!(host.config().bytes()[0x50..0x52], [16, 0]);
        write(&mut host, 0x9e, &[0x07]);
        assert_eq!(hidden(&host, false), Some(16 << 20));
        // D_OPEN shows it to all.
        write(&mut host, 0x9d, &[0x48]);
        assert_eq!(hidden(&host, false), None);
        assert!(host.memory(false, TOP).smram);
    }

    #[test]
    fn the_lock_holds_until_reset() {
        let mut host = Q35Host::new(16);
        write(&mut host, 0x9e, &[0x03]);
        write(&mut host, 0x9d, &[0x5a]);
        assert_eq!(host.config().bytes()[0x9d], 0x1a, "D_OPEN is cleared");
        for (at, value) in
            [(0x9d, 0x40), (0x9e, 0x00), (0x50, 0x01), (0xaf, 0x01), (0xa7, 0x01), (0xaa, 0x10)]
        {
            let before = host.config().bytes()[usize::from(at)];
            write(&mut host, at, &[value]);
            assert_eq!(host.config().bytes()[usize::from(at)], before, "{at:#x}");
        }
        assert_eq!(hidden(&host, false), Some(2 << 20));
        write(&mut host, 0x9d, &[0x20]);
        assert_eq!(host.config().bytes()[0x9d], 0x3a, "D_CLS alone can be changed");
        host.config_mut().reset();
        host.config_written(0, 255);
        write(&mut host, 0x9d, &[0x48]);
        assert_eq!(host.config().bytes()[0x9d], 0x4a);
    }

    #[test]
    fn firmware_notes_where_tseg_is() {
        let mut host = Q35Host::new(16);
        for at in [0xa4, 0xa8, 0xac] {
            write(&mut host, at, &[0xff, 0xff, 0x1f, 0x7f]);
            assert_eq!(host.config().bytes()[at.into()..][..4], [0, 0, 0x10, 0x7f]);
        }
        write(&mut host, 0xac, &[0, 0, 0, 0x1f]);
        assert_eq!(host.config().bytes()[0xac..0xb0], [0, 0, 0, 0x1f]);
    }

    #[test]
    fn smram_can_be_moved_up() {
        let mut host = Q35Host::new(16);
        write(&mut host, 0x9d, &[0x08]);
        write(&mut host, 0x9e, &[0x80]);
        let memory = host.memory(true, TOP);
        assert!(memory.high_smram && !memory.smram);
        assert!(!host.memory(false, TOP).high_smram);
    }

    #[test]
    fn pciexbar() {
        let mut host = Q35Host::new(16);
        assert_eq!(host.pciexbar(), None);
        write(&mut host, 0x60, &[0x01, 0, 0, 0xb0]);
        assert_eq!(host.pciexbar(), Some(0xb000_0000..0xc000_0000));
        write(&mut host, 0x60, &[0x05]);
        assert_eq!(host.pciexbar(), Some(0xb000_0000..0xb400_0000));
        write(&mut host, 0x60, &[0x07]);
        assert_eq!(host.pciexbar(), None);
    }
}
