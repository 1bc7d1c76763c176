//! What is looked at before a qcow2 image is handed to the crate imago: sizes of tables, which are read whole into memory, the chain of
//! backing files, and, of an image that will be written, that its own first cluster is counted as taken. (The last: an image
//! that calls the cluster of its header free is damaged, and allocating from it would overwrite the header. imago does not
//! look, and takes a missing first block of counts for the end of the world.)
//!
//! The limits are those of QEMU, so that no image that it takes is refused.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use super::qcow2::MAGIC;

/// Files that an image may stand on, one on the other.
const MAX_CHAIN: usize = 64;
/// Bytes of the first table, and of the table of reference counts.
const MAX_L1: u64 = 32 << 20;
const MAX_COUNT_TABLE: u64 = 8 << 20;

/// Incompatible features (qcow2 specification, "Header").
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

fn bad<T>(what: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, what.into()))
}

/// Header fields as far as they are looked at.
struct Header {
    cluster_bits: u32,
    backing: Option<(u64, usize)>,
    l1_bytes: u64,
    counts_at: u64,
    counts_bytes: u64,
    /// A reference count has 2^this bits.
    count_order: u32,
}

impl Header {
    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 112];
        // Version 2 headers are shorter; nothing says that something follows.
        let len = super::read_head(file, &mut bytes)?;
        if len < 72 || !bytes.starts_with(MAGIC) {
            return bad("the header is cut off");
        }
        let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let version = u32_at(4);
        if !(2..=3).contains(&version) || version == 3 && len < 104 {
            return bad(format!("its version is {version}"));
        }
        // Incompatible features, and the compression type, which is behind what every header has.
        let features = if version == 3 { u64_at(72) } else { 0 };
        let what = match () {
            () if u32_at(32) != 0 => Some("it is encrypted"),
            () if features & EXTERNAL_DATA != 0 => Some("its data is in another file"),
            () if features & COMPRESSION_TYPE != 0 && bytes[104] != 0 => {
                Some("its clusters are compressed by zstd")
            }
            () if features & EXTENDED_L2 != 0 => Some("its clusters are divided (extended L2 entries)"),
            () => None,
        };
        if let Some(what) = what {
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let cluster_bits = u32_at(20);
        if !(9..=21).contains(&cluster_bits) {
            return bad(format!("its clusters have 2^{cluster_bits} bytes"));
        }
        let name = (u64_at(8), u32_at(16) as usize);
        let header = Self {
            cluster_bits,
            backing: (name.0 != 0 && name.1 != 0).then_some(name),
            l1_bytes: 8 * u64::from(u32_at(36)),
            counts_at: u64_at(48),
            counts_bytes: u64::from(u32_at(56)) << cluster_bits,
            count_order: if version == 3 { u32_at(96) } else { 4 },
        };
        if header.l1_bytes > MAX_L1 || header.counts_bytes > MAX_COUNT_TABLE || header.count_order > 6 {
            return bad("its tables are larger than any that there are");
        }
        // The disk's clusters, divided by the entries of a second-level table.
        let covered = u128::from(header.l1_bytes / 8) << (2 * cluster_bits - 3);
        if u128::from(u64_at(24)) > covered {
            return bad("its first table is too small for the disk");
        }
        Ok(header)
    }

    /// Is the cluster of the header counted as taken?
    fn counts_itself(&self, file: &File) -> io::Result<bool> {
        const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
        let mut entry = [0; 8];
        if self.counts_bytes == 0 || file.read_at(&mut entry, self.counts_at)? < 8 {
            return Ok(false);
        }
        let block = u64::from_be_bytes(entry) & OFFSET;
        let cluster = (1 << self.cluster_bits) - 1;
        if block == 0 || block & cluster != 0 || self.counts_at & cluster != 0 {
            return Ok(false);
        }
        let mut count = [0; 8];
        let n = file.read_at(&mut count, block)?;
        // Counts of less than a byte begin with the low bits of the first.
        let bits = 1 << self.count_order;
        let taken = if bits < 8 {
            count[0] & ((1u16 << bits) - 1) as u8 != 0
        } else {
            count[..bits / 8].iter().any(|byte| *byte != 0)
        };
        Ok(n >= bits.div_ceil(8) && taken)
    }

    /// The name of the file that the image stands on.
    fn backing_name(&self, file: &File) -> io::Result<Option<String>> {
        let Some((at, len)) = self.backing else { return Ok(None) };
        if len > 1023 {
            return bad("the name of its backing file is too long");
        }
        let mut name = vec![0; len];
        file.read_exact_at(&mut name, at)?;
        String::from_utf8(name).map(Some).or_else(|_| bad("the name of its backing file is no text"))
    }
}

/// Looks at the image in `file`, named `path`, and at what it stands on.
pub(super) fn check(file: &File, path: &Path, write: bool) -> io::Result<()> {
    let header = Header::read(file)?;
    if write && !header.counts_itself(file)? {
        return bad("it says that the place of its own header is free");
    }
    let mut below = header.backing_name(file)?.map(|name| beside(path, &name));
    let mut seen = 0;
    while let Some(path) = below.take() {
        seen += 1;
        if seen > MAX_CHAIN {
            return bad(format!("more than {MAX_CHAIN} files stand on one another"));
        }
        let name = path.display().to_string();
        let told =
            |error: io::Error| io::Error::new(error.kind(), format!("its backing file {name}: {error}"));
        let kind = std::fs::metadata(&path).map_err(told)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return bad(format!("its backing file {name} is neither a file nor a disk"));
        }
        let file = File::open(&path).map_err(told)?;
        let mut magic = [0; 4];
        if super::read_head(&file, &mut magic)? == 4 && magic == MAGIC {
            let header = Header::read(&file).map_err(told)?;
            below = header.backing_name(&file).map_err(told)?.map(|name| beside(&path, &name));
        }
    }
    Ok(())
}

/// Relative names start from the folder of the image that has them.
fn beside(path: &Path, name: &str) -> PathBuf {
    let name = name.strip_prefix("file:").unwrap_or(name);
    path.parent().unwrap_or("".as_ref()).join(name)
}
