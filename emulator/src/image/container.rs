//! Formats of image files: what the file is, before what is in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Images behind one another that are followed.
const MAX_CHAIN: usize = 16;
/// Longest name of a backing file (qcow2 specification).
const MAX_NAME: usize = 1023;

/// A file below a qcow2 image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backing {
    /// Its name as the image has it.
    pub name: String,
    /// Its format: `qcow2` or `raw`; `None`: it is not there.
    pub format: Option<&'static str>,
}

/// What a qcow2 header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Qcow2 {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// Snapshots in it.
    pub snapshots: u32,
    /// The images below it, nearest first.
    pub backing: Vec<Backing>,
    /// The size that guests see.
    #[serde(skip)]
    pub virtual_bytes: u64,
    /// Why it cannot be used.
    #[serde(skip)]
    pub problem: Option<&'static str>,
    /// It was not closed properly.
    pub dirty: bool,
}

struct Header {
    parsed: Qcow2,
    backing: Option<String>,
}

fn big_endian<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..at + N).unwrap_or_default();
    part.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Reads as much of `len` bytes at `at` as there is.
fn read(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// The header of `file` (qcow2 specification, "Header").
fn header(file: &File) -> io::Result<Option<Header>> {
    const DIRTY: u64 = 1;
    const CORRUPT: u64 = 2;
    let head = read(file, 0, 112)?;
    if !head.starts_with(b"QFI\xfb") {
        return Ok(None);
    }
    let version = big_endian::<4>(&head, 4) as u32;
    let features = if version >= 3 { big_endian::<8>(&head, 72) } else { 0 };
    let cluster_bits = big_endian::<4>(&head, 20);
    let problem = match () {
        () if !matches!(version, 2 | 3) => Some("its version is neither 2 nor 3"),
        () if !(9..=21).contains(&cluster_bits) => Some("its header is damaged"),
        () if features & CORRUPT != 0 => Some("it is marked as damaged"),
        () => None,
    };
    let (at, len) = (big_endian::<8>(&head, 8), big_endian::<4>(&head, 16) as usize);
    let backing = if at != 0 && (1..=MAX_NAME).contains(&len) {
        Some(String::from_utf8_lossy(&read(file, at, len)?).into_owned())
    } else {
        None
    };
    let parsed = Qcow2 {
        version,
        cluster_bytes: 1u64.checked_shl(cluster_bits as u32).unwrap_or(0),
        snapshots: big_endian::<4>(&head, 60) as u32,
        backing: Vec::new(),
        virtual_bytes: big_endian::<8>(&head, 24),
        problem,
        dirty: features & DIRTY != 0,
    };
    Ok(Some(Header { parsed, backing }))
}

/// The header of the image at `path` and the chain below it; `None`: it is not qcow2.
pub fn qcow2(file: &File, path: &Path) -> io::Result<Option<Qcow2>> {
    let Some(Header { mut parsed, backing }) = header(file)? else { return Ok(None) };
    let (mut folder, mut next) = (path.parent().map(PathBuf::from).unwrap_or_default(), backing);
    while let Some(name) = next.take().filter(|_| parsed.backing.len() < MAX_CHAIN) {
        let below = folder.join(&name);
        let Ok(file) = File::open(&below) else {
            parsed.backing.push(Backing { name, format: None });
            break;
        };
        folder = below.parent().map(PathBuf::from).unwrap_or_default();
        let format = match header(&file) {
            Ok(Some(header)) => {
                next = header.backing;
                "qcow2"
            }
            _ => "raw",
        };
        parsed.backing.push(Backing { name, format: Some(format) });
    }
    Ok(Some(parsed))
}
