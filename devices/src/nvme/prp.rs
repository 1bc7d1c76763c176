//! Physical region pages (4.3): where a command's data is in guest memory.

use super::command::Status;
use crate::memory::Dma;

/// Guest memory of one command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Regions(Vec<(u64, usize)>);

impl Regions {
    /// Follows the entries for `len` bytes. Only the first page may begin in its middle; lists end with a pointer to the next
    /// where they do not suffice, and every list but the first fills its page, so that this ends.
    pub fn new(dma: &Dma, [first, second]: [u64; 2], len: usize, page: usize) -> Result<Self, Status> {
        let offset = |at: u64| (at % page as u64) as usize;
        if first % 4 != 0 {
            return Err(Status::PRP_OFFSET);
        }
        let n = len.min(page - offset(first));
        let mut regions = vec![(first, n)];
        let mut left = len - n;
        if left == 0 {
            return Ok(Self(regions));
        }
        if left <= page {
            if offset(second) != 0 {
                return Err(Status::PRP_OFFSET);
            }
            regions.push((second, left));
            return Ok(Self(regions));
        }
        if second % 8 != 0 {
            return Err(Status::PRP_OFFSET);
        }
        let mut list = second;
        loop {
            let mut bytes = vec![0; page - offset(list)];
            let needed = 8 * left.div_ceil(page);
            // What is not needed is not read: it may not be there.
            let entries = bytes.len().min(needed);
            if !dma.read(list, &mut bytes[..entries]) {
                return Err(Status::DATA_TRANSFER_ERROR);
            }
            let whole = needed <= bytes.len();
            let mut numbers = bytes[..entries]
                .chunks_exact(8)
                .map(|entry| entry.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
            let data = entries / 8 - usize::from(!whole);
            for at in numbers.by_ref().take(data) {
                if offset(at) != 0 {
                    return Err(Status::PRP_OFFSET);
                }
                let n = left.min(page);
                regions.push((at, n));
                left -= n;
            }
            match numbers.next().filter(|_| !whole) {
                None => return Ok(Self(regions)),
                Some(next) if offset(next) != 0 => return Err(Status::PRP_OFFSET),
                Some(next) => list = next,
            }
        }
    }

    /// Calls `access` for each part of `len` bytes at `offset`.
    fn each(
        &self,
        mut offset: usize,
        len: usize,
        mut access: impl FnMut(u64, std::ops::Range<usize>) -> bool,
    ) -> bool {
        let mut done = 0;
        for (at, region) in &self.0 {
            if done == len {
                break;
            }
            if offset >= *region {
                offset -= region;
                continue;
            }
            let n = (region - offset).min(len - done);
            if !access(at.wrapping_add(offset as u64), done..done + n) {
                return false;
            }
            done += n;
            offset = 0;
        }
        done == len
    }

    /// From guest memory; false: a part is not memory.
    pub fn read(&self, dma: &Dma, offset: usize, bytes: &mut [u8]) -> bool {
        let len = bytes.len();
        self.each(offset, len, |at, range| dma.read(at, &mut bytes[range]))
    }

    /// To guest memory.
    pub fn write(&self, dma: &Dma, offset: usize, bytes: &[u8]) -> bool {
        self.each(offset, bytes.len(), |at, range| dma.write(at, &bytes[range]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_memory::Flat;

    #[test]
    fn entries_lists_and_lists_of_lists() {
        let memory = Flat::new(1 << 20);
        let dma = Dma::new(memory.clone());
        let new = |first, second, len| Regions::new(&dma, [first, second], len, 4096);
        assert_eq!(new(0x1004, 0, 100), Ok(Regions(vec![(0x1004, 100)])));
        assert_eq!(new(0x1800, 0x5000, 4096), Ok(Regions(vec![(0x1800, 2048), (0x5000, 2048)])));
        // A list at the end of a page: one entry fits, then a pointer.
        let put = |at: usize, entries: &[u64]| {
            let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            memory.put(at, &bytes);
        };
        put(0x2ff0, &[0x8000, 0x4000]);
        put(0x4000, &[0x9000, 0xa000]);
        let found = new(0x1000, 0x2ff0, 3 * 4096 + 5).unwrap();
        assert_eq!(found, Regions(vec![(0x1000, 4096), (0x8000, 4096), (0x9000, 4096), (0xa000, 5)]));
        assert!(found.write(&dma, 4090, &[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!((memory.get(0x1ffa, 6), memory.get(0x8000, 2)), (vec![1, 2, 3, 4, 5, 6], vec![7, 8]));
        // Exactly as many as fit: no pointer.
        put(0x2ff0, &[0x8000, 0xb000]);
        assert_eq!(new(0x1000, 0x2ff0, 3 * 4096).unwrap().0[2], (0xb000, 4096));
    }

    #[test]
    fn hostile_lists() {
        let memory = Flat::new(1 << 20);
        let dma = Dma::new(memory.clone());
        let new = |first, second, len| Regions::new(&dma, [first, second], len, 4096).unwrap_err();
        assert_eq!(new(1, 0, 8), Status::PRP_OFFSET);
        assert_eq!(new(0, 0x1010, 8192), Status::PRP_OFFSET);
        assert_eq!(new(0, 0x1004, 3 * 4096), Status::PRP_OFFSET);
        assert_eq!(new(0, 0x10_0000, 3 * 4096), Status::DATA_TRANSFER_ERROR);
        assert_eq!(new(0, u64::MAX - 7, 3 * 4096), Status::DATA_TRANSFER_ERROR);
        // A pointer to itself, in the last entry of a page.
        memory.put(0x2ff8, &0x2ff8u64.to_le_bytes());
        assert_eq!(new(0, 0x2ff8, 3 * 4096), Status::PRP_OFFSET);
        memory.put(0x3000, &[0x3000u64.to_le_bytes(); 512].concat());
        assert!(
            Regions::new(&dma, [0, 0x3000], 4096 * 5000, 4096).unwrap().0.len() == 5000,
            "a page that is its own list"
        );
        let outside = Regions::new(&dma, [u64::MAX - 3, 0], 4, 4096).unwrap();
        assert!(!outside.read(&dma, 0, &mut [0; 4]) && !outside.write(&dma, 0, &[0; 4]));
    }
}
