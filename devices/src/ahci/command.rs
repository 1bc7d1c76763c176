//! A command in memory: header, table, and the physical region descriptors that lead to its data (AHCI 1.3.1, 4.2.2 and 4.2.3).
//!
//! All of it is the guest's: it can lie where no memory is, change at any time, and say anything. What a header says is kept
//! when the command begins; descriptors are read when data moves, at most as many as there are bytes to move.

use serde::{Deserialize, Serialize};

use super::fis::{self, HostFis};
use crate::ide::bus_master::{Carrier, Regions};
use crate::memory::Dma;

/// Bytes of a header in the command list.
const HEADER: u64 = 32;
/// Where in a command table the packet and the descriptors begin.
const PACKET: u64 = 0x40;
const DESCRIPTORS: u64 = 0x80;
const DESCRIPTOR: u64 = 16;

/// A command that a port has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Command {
    /// Its place in the command list.
    pub slot: u8,
    /// Where its header is.
    header: u64,
    table: u64,
    /// Number of descriptors.
    descriptors: u16,
    /// BSY is cleared as soon as the FIS has been sent.
    pub clear_busy: bool,
    /// Bytes that have moved.
    moved: u64,
    /// The descriptors hold less than the drive had to give.
    pub overflow: bool,
    /// Memory did not answer.
    pub failed: bool,
}

impl Command {
    /// Fetches the command in `slot` of the list at `list`; `None`: memory does not answer.
    pub fn fetch(dma: &Dma, list: u64, slot: u8) -> Option<Self> {
        let header = list.wrapping_add(HEADER * u64::from(slot));
        let mut bytes = [0; 16];
        if !dma.read(header, &mut bytes) {
            return None;
        }
        let word = |n: usize| u32::from_le_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
        let flags = word(0);
        let table = u64::from(word(12)) << 32 | u64::from(word(8) & !0x7f);
        Some(Self {
            slot,
            header,
            table,
            descriptors: (flags >> 16) as u16,
            clear_busy: flags & 1 << 10 != 0,
            moved: 0,
            overflow: false,
            failed: false,
        })
    }

    /// What is to be done. Outer `None`: memory does not answer; inner: this is no FIS for a drive.
    pub fn host_fis(&self, dma: &Dma) -> Option<Option<HostFis>> {
        let mut bytes = [0; 20];
        dma.read(self.table, &mut bytes).then(|| fis::parse(&bytes))
    }

    /// The packet of an ATAPI command.
    pub fn packet(&self, dma: &Dma, bytes: &mut [u8]) -> bool {
        let len = bytes.len().min(16);
        dma.read(self.table.wrapping_add(PACKET), &mut bytes[..len])
    }

    /// Tells the guest how many bytes have moved.
    pub fn write_count(&self, dma: &Dma) -> bool {
        dma.write(self.header.wrapping_add(4), &(self.moved.min(u32::MAX.into()) as u32).to_le_bytes())
    }

    /// The memory of the `len` bytes after what has moved.
    fn walk(&self, dma: &Dma, len: usize) -> Vec<(u64, usize)> {
        let mut pieces = Vec::new();
        let (mut skip, mut left) = (self.moved, len as u64);
        for n in 0..u64::from(self.descriptors) {
            let mut entry = [0; DESCRIPTOR as usize];
            let at = self.table.wrapping_add(DESCRIPTORS + DESCRIPTOR * n);
            if left == 0 || !dma.read(at, &mut entry) {
                break;
            }
            let [a, b, c, d, e, f, g, h, _, _, _, _, i, j, k, l] = entry;
            let start = u64::from_le_bytes([a, b, c, d, e, f, g, h]) & !1;
            let size = u64::from(u32::from_le_bytes([i, j, k, l]) & 0x3f_ffff | 1) + 1;
            let skipped = skip.min(size);
            skip -= skipped;
            let piece = (size - skipped).min(left);
            if piece > 0 {
                pieces.push((start.wrapping_add(skipped), piece as usize));
                left -= piece;
            }
        }
        pieces
    }

    /// Copies between memory and `window`, which is as much as the drive moves now.
    pub fn copy(&mut self, dma: &Dma, window: &mut [u8], to_memory: bool) {
        let mut done = 0;
        for (at, len) in self.walk(dma, window.len()) {
            let piece = &mut window[done..done + len];
            let answered = if to_memory { dma.write(at, piece) } else { dma.read(at, piece) };
            self.failed |= !answered;
            done += len;
        }
        self.overflow |= done < window.len();
        self.moved += done as u64;
    }
}

/// A transfer to memory that the descriptors have no room for is cut short; one from memory is, too: the rest comes as zeros
/// that the drive never sees, for it ends where the data does.
impl Carrier for Command {
    fn regions(&mut self, dma: &Dma, len: usize, _to_memory: bool) -> Option<Regions> {
        let pieces = self.walk(dma, len);
        let found: usize = pieces.iter().map(|(_, len)| len).sum();
        self.overflow |= found < len;
        self.moved += found as u64;
        Some(Regions { pieces, short: false, exhausted: false })
    }

    fn finish(&mut self, _exhausted: bool, failed: bool) {
        self.failed |= failed;
    }
}
