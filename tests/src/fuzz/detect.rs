//! Disk, CD and floppy images: none of them makes the look at it panic, run on or read without bound.

use std::io;

use devices::block::BlockBackend;
use emulator::image;

/// What a look may read of an image beyond its own size: some structures are read twice.
const BUDGET: usize = 32 << 20;
/// Images are made this large with zeros: so that structures lie inside.
const LEN: usize = 128 << 10;

/// A disk that counts what is read.
struct Counted {
    bytes: Vec<u8>,
    read: usize,
}

impl BlockBackend for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_only(&self) -> bool {
        true
    }
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read += bytes.len();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let n = bytes.len().min(self.bytes.len() - from);
        bytes[..n].copy_from_slice(&self.bytes[from..from + n]);
        bytes[n..].fill(0);
        Ok(())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        panic!("a look writes nothing");
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See the module. If the first byte is odd, zeros follow the image.
pub fn detect(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if first & 1 != 0 && bytes.len() < LEN {
        bytes.resize(LEN, 0);
    }
    let mut disk = Counted { bytes, read: 0 };
    let found = image::detect(&mut disk);
    let most = BUDGET + disk.bytes.len();
    assert!(disk.read <= most, "{} bytes read of {}", disk.read, disk.bytes.len());
    assert!(found.table.is_none_or(|table| table.partitions.len() <= 256));
}

/// An image of each kind, without the zeros at its end.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let trimmed = |image: Vec<u8>| {
        let used = image.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        [&[1], &image[..used.min(LEN)]].concat()
    };
    image::samples::all().into_iter().map(trimmed).collect()
}
