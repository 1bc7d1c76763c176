//! A channel's bus master: the physical region descriptor table (82371SB data sheet, 2.7; SFF-8038i); and what a drive
//! needs of it, which an AHCI port has too.

use serde::{Deserialize, Serialize};

use crate::memory::Dma;

const START: u8 = 0x01;
/// Data goes from the drive to memory.
const TO_MEMORY: u8 = 0x08;
const ACTIVE: u8 = 0x01;
const ERROR: u8 = 0x02;
const INTERRUPT: u8 = 0x04;
/// Bits that software keeps there: which drives were set up for DMA.
const CAPABLE: u8 = 0x60;

/// A table must not cross 64 KiB, so it has no more entries than this.
const MAX_ENTRIES: usize = 8192;

/// What carries a drive's data between it and memory.
pub(crate) trait Carrier {
    /// The memory of the next `len` bytes, which go to memory or come from there; `None`: it is set up for the other way.
    fn regions(&mut self, dma: &Dma, len: usize, to_memory: bool) -> Option<Regions>;
    /// A transfer has ended: `exhausted` as in [`Regions`]; `failed`: memory did not answer.
    fn finish(&mut self, exhausted: bool, failed: bool);
}

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
}

/// The memory of one transfer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Regions {
    /// Address and length of each piece; together not more than what was asked for.
    pub pieces: Vec<(u64, usize)>,
    /// The table held less than was asked for, and the drive waits for the rest.
    pub short: bool,
    /// The table ended together with the transfer.
    pub exhausted: bool,
}

impl BusMaster {
    pub(crate) fn read(&self, offset: u8) -> u8 {
        match offset {
            0 => self.command,
            2 => self.status,
            4..=7 => self.table.to_le_bytes()[usize::from(offset - 4)],
            _ => 0,
        }
    }

    pub(crate) fn write(&mut self, offset: u8, value: u8) {
        match offset {
            0 => {
                let started = value & !self.command & START != 0;
                self.command = value & (START | TO_MEMORY);
                if started {
                    self.status |= ACTIVE;
                } else if value & START == 0 {
                    self.status &= !ACTIVE;
                }
            }
            2 => {
                let cleared = value & (ERROR | INTERRUPT);
                self.status = self.status & !cleared & !CAPABLE | value & CAPABLE;
            }
            4..=7 => {
                let mut bytes = self.table.to_le_bytes();
                bytes[usize::from(offset - 4)] = value;
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }

    /// Does it move data now?
    pub(crate) fn active(&self) -> bool {
        self.command & START != 0 && self.status & ACTIVE != 0
    }

    /// The drive asserted its interrupt.
    pub(crate) fn interrupt(&mut self) {
        self.status |= INTERRUPT;
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Walks the table for a transfer of `len` bytes.
    fn walk(&self, dma: &Dma, len: usize) -> Regions {
        let mut regions = Regions { pieces: Vec::new(), short: false, exhausted: false };
        let mut left = len;
        for n in 0..MAX_ENTRIES {
            let mut entry = [0; 8];
            if left == 0 || !dma.read(u64::from(self.table) + 8 * n as u64, &mut entry) {
                break;
            }
            let [a, b, c, d, e, f, _, flags] = entry;
            let at = u32::from_le_bytes([a, b, c, d]) & !1;
            let size = match u16::from_le_bytes([e, f]) & !1 {
                0 => 0x1_0000,
                size => usize::from(size),
            };
            let last = flags & 0x80 != 0;
            let piece = size.min(left);
            regions.pieces.push((at.into(), piece));
            left -= piece;
            regions.exhausted = left == 0 && last && piece == size;
            if last {
                break;
            }
        }
        regions.short = left > 0;
        regions
    }
}

impl Carrier for BusMaster {
    fn regions(&mut self, dma: &Dma, len: usize, to_memory: bool) -> Option<Regions> {
        (to_memory == (self.command & TO_MEMORY != 0)).then(|| self.walk(dma, len))
    }

    fn finish(&mut self, exhausted: bool, failed: bool) {
        if exhausted || failed {
            self.status &= !ACTIVE;
        }
        if failed {
            self.status |= ERROR;
        }
    }
}
