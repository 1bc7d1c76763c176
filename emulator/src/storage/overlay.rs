//! `-snapshot`: what is written goes to a file without a name, which is gone with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use devices::block::{BlockBackend, Disk};

use super::raw::punch_hole;

/// What is copied when a part of it is written.
const CLUSTER: u64 = 0x1_0000;

/// See the module.
pub(super) struct Overlay {
    below: Disk,
    above: File,
    /// A bit for each cluster that is in `above`.
    written: Vec<u64>,
}

impl Overlay {
    pub(super) fn new(below: Disk) -> io::Result<Self> {
        let clusters = below.len().div_ceil(CLUSTER);
        let written = vec![0; clusters.div_ceil(64) as usize];
        Ok(Self { below, above: tempfile::tempfile()?, written })
    }

    fn is_written(&self, cluster: u64) -> bool {
        self.written.get((cluster / 64) as usize).is_some_and(|bits| bits >> (cluster % 64) & 1 != 0)
    }

    fn mark(&mut self, cluster: u64) {
        if let Some(bits) = self.written.get_mut((cluster / 64) as usize) {
            *bits |= 1 << (cluster % 64);
        }
    }

    /// Calls `each` with the pieces of a range that lie in one cluster: cluster, offset, and place in the buffer.
    fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, u64, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset.checked_add(done as u64).filter(|_| done < len)?;
            let n = (CLUSTER - at % CLUSTER).min((len - done) as u64) as usize;
            let piece = (at / CLUSTER, at, done..done + n);
            done += n;
            Some(piece)
        })
    }
}

impl BlockBackend for Overlay {
    fn len(&self) -> u64 {
        self.below.len()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        for (cluster, at, part) in Self::pieces(offset, bytes.len()) {
            if self.is_written(cluster) {
                self.above.read_exact_at(&mut bytes[part], at)?;
            } else {
                self.below.read(at, &mut bytes[part])?;
            }
        }
        Ok(())
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.len().next_multiple_of(512)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (cluster, at, part) in Self::pieces(offset, bytes.len()) {
            if !self.is_written(cluster) && (part.len() as u64) < CLUSTER {
                let mut old = vec![0; CLUSTER as usize];
                self.below.read(cluster * CLUSTER, &mut old)?;
                self.above.write_all_at(&old, cluster * CLUSTER)?;
            }
            // A failure leaves the old contents: the mark comes last.
            self.above.write_all_at(&bytes[part], at)?;
            self.mark(cluster);
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Whole clusters become zeros, and their place is given back.
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len).min(self.len());
        let (first, last) = (offset.div_ceil(CLUSTER), end / CLUSTER);
        if first >= last || !punch_hole(&self.above, first * CLUSTER, (last - first) * CLUSTER)? {
            return Ok(());
        }
        // The file grows as clusters are written: what lies beyond its end must be readable as zeros.
        if self.above.metadata()?.len() < last * CLUSTER {
            self.above.set_len(last * CLUSTER)?;
        }
        (first..last).for_each(|cluster| self.mark(cluster));
        Ok(())
    }
}
