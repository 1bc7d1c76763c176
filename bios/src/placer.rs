//! Hands out guest memory to the pieces of a boot: what is taken is taken once, and running out is an ordinary answer.

use crate::bytes::align_up;
use crate::e820::{EBDA_START, HIGH_MEMORY, MemoryLayout};

/// First address that small structures are put at: above the interrupt vectors, the BIOS data area and the boot sector.
const LOW_START: u64 = 0x1_0000;

/// Free guest memory below the ACPI area, as sorted disjoint `[start, end)` ranges.
pub struct Placer {
    free: Vec<(u64, u64)>,
}

impl Placer {
    /// All RAM that the e820 map calls usable below 4 GiB.
    pub fn new(layout: &MemoryLayout) -> Self {
        Self { free: vec![(0x500, EBDA_START), (HIGH_MEMORY, layout.acpi_area())] }
    }

    /// Takes exactly `[start, start + len)`; false if any of it is not free.
    pub fn claim(&mut self, start: u64, len: u64) -> bool {
        let Some(end) = start.checked_add(len) else { return false };
        if len == 0 {
            return true;
        }
        let Some(index) = self.free.iter().position(|&(from, to)| from <= start && end <= to) else {
            return false;
        };
        let (from, to) = self.free[index];
        self.free.splice(index..=index, [(from, start), (end, to)].into_iter().filter(|(a, b)| a < b));
        true
    }

    /// Takes the lowest free place at or after 64 KiB.
    pub fn low(&mut self, len: u64, align: u64) -> Option<u64> {
        self.from(LOW_START, len, align)
    }

    /// Takes the lowest free place at or after `first`.
    pub fn from(&mut self, first: u64, len: u64, align: u64) -> Option<u64> {
        let start = self.free.iter().find_map(|&(from, to)| {
            let start = align_up(from.max(first), align)?;
            (start.checked_add(len)? <= to).then_some(start)
        })?;
        self.claim(start, len).then_some(start)
    }

    /// Takes the highest free place that ends at or before `limit`.
    pub fn high(&mut self, len: u64, align: u64, limit: u64) -> Option<u64> {
        let start = self.free.iter().rev().find_map(|&(from, to)| {
            let start = to.min(limit).checked_sub(len)? & !(align - 1);
            (start >= from).then_some(start)
        })?;
        self.claim(start, len).then_some(start)
    }

    /// The largest piece that [`Placer::high`] could take.
    pub fn largest_below(&self, limit: u64) -> u64 {
        self.free.iter().map(|&(from, to)| to.min(limit).saturating_sub(from)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_disjoint() {
        let layout = MemoryLayout::new(4 << 20).unwrap();
        let mut placer = Placer::new(&layout);
        assert!(placer.claim(0x10_0000, 0x1000) && !placer.claim(0x10_0fff, 1));
        assert_eq!(placer.low(0x1000, 0x1000), Some(0x1_0000));
        assert_eq!(placer.low(0x1000, 0x1000), Some(0x1_1000));
        assert_eq!(placer.from(0x10_0000, 8, 0x1000), Some(0x10_1000));
        assert_eq!(placer.high(0x1001, 0x1000, u64::MAX), Some(0x3e_e000));
        assert_eq!(placer.high(0x1000, 0x1000, 0x10_0000), Some(0x9_e000));
        assert_eq!(placer.high(1 << 40, 0x1000, u64::MAX), None);
        assert!(!placer.claim(u64::MAX, 2) && placer.claim(u64::MAX, 0));
    }
}
