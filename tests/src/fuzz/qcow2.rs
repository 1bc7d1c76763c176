//! qcow2 images: any bytes as one, opened, read, written, flushed, discarded.
//!
//! Names of other files (backing, external data) are taken out first: what a fuzzer writes there are files of the host.

use std::io::Write;

use devices::block::BlockBackend;
use emulator::storage::{self, DriveConfig, ImageFormat, Interface, Media};

use super::take;

/// Bytes of a cluster of the seeds.
const CLUSTER: usize = 512;

/// See the module.
pub fn qcow2(mut data: &[u8]) {
    let [first, second] = take(&mut data);
    let mut image = data.to_vec();
    image.truncate(1 << 20);
    if image.len() >= 16 {
        image[8..16].fill(0);
    }
    // Incompatible feature 2: the data is in another file.
    if image.len() >= 80 {
        image[79] &= !4;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&image).expect("room for it");
    let path = file.path().to_owned();
    let drive = DriveConfig {
        option: "-drive".into(),
        id: None,
        file: Some(path.clone()),
        format: Some(ImageFormat::Qcow2),
        interface: Interface::None,
        media: Media::Disk,
        index: 0,
        read_only: first & 1 != 0,
        snapshot: first & 2 != 0,
        serial: None,
    };
    let Ok(mut disk) = storage::open(&drive, &path) else { return };
    use_it(disk.as_mut(), second);
}

/// The end, the middle, and what the input chooses. Whether it works does not matter.
fn use_it(disk: &mut dyn BlockBackend, choice: u8) {
    let len = disk.len();
    let mut bytes = vec![0; 4096];
    for at in [0, u64::from(choice) * 512, len / 2, len.saturating_sub(512), len, u64::MAX - 100] {
        let _ = disk.read(at, &mut bytes);
        let _ = disk.write(at, &bytes[..512]);
        let _ = disk.read(at, &mut bytes[..512]);
    }
    let _ = disk.flush();
    let _ = disk.write_zeroes(u64::from(choice) * 512, 1024, choice & 1 != 0);
    let _ = disk.discard(u64::from(choice) * 256, 4096);
    let _ = disk.write(u64::from(choice) * 512, &bytes);
    let _ = disk.flush();
}

/// Sound images with 512-byte clusters: header, reference counts, tables, and a cluster of data, of zeros, or none.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    [(3u32, (5 * CLUSTER as u64) | 1 << 63), (3, 1), (3, 0), (2, (5 * CLUSTER as u64) | 1 << 63)]
        .into_iter()
        .map(|(version, entry)| {
            let mut image = vec![0; 6 * CLUSTER];
            let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
            put(0, b"QFI\xfb");
            put(4, &version.to_be_bytes());
            put(20, &9u32.to_be_bytes()); // bits of a cluster
            put(24, &(16u64 << 10).to_be_bytes()); // size of the disk
            put(36, &1u32.to_be_bytes()); // entries of the first table
            put(40, &(3 * CLUSTER as u64).to_be_bytes());
            put(48, &(CLUSTER as u64).to_be_bytes()); // reference counts
            put(56, &1u32.to_be_bytes());
            put(96, &4u32.to_be_bytes()); // 16-bit counts
            put(100, &104u32.to_be_bytes());
            put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
            (0..6).for_each(|n| put(2 * CLUSTER + 2 * n, &1u16.to_be_bytes()));
            put(3 * CLUSTER, &((4 * CLUSTER as u64) | 1 << 63).to_be_bytes());
            put(4 * CLUSTER, &entry.to_be_bytes());
            put(5 * CLUSTER, &[0x77; CLUSTER]);
            [&[0, 0][..], &image].concat()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_images() {
        for seed in seeds() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("seed.qcow2");
            std::fs::write(&path, &seed[2..]).unwrap();
            let drive = DriveConfig {
                option: "-drive".into(),
                id: None,
                file: Some(path.clone()),
                format: None,
                interface: Interface::None,
                media: Media::Disk,
                index: 0,
                read_only: false,
                snapshot: false,
                serial: None,
            };
            let mut disk = storage::open(&drive, &path).unwrap();
            assert_eq!(disk.len(), 16 << 10);
            disk.write(512, &[1; 512]).unwrap();
            disk.flush().unwrap();
        }
    }
}
