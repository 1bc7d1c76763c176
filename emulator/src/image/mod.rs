//! Looks at a file that is to be booted: what it is, what boots it, and which machine that takes.
//!
//! One look serves `retrograde run FILE`, which starts that machine, and `retrograde image info FILE`, which says what was seen.
//! Invariants: no image makes a look panic, read more than a bounded number of bytes or follow a chain without end; nothing is
//! written, and no lock is taken.

mod container;
mod detect;
mod fat;
mod firmware;
mod iso;
mod partitions;
mod plan;
mod report;
pub mod samples;
mod source;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use devices::block::{BlockBackend, RamDisk};

pub use container::{Backing, Qcow2};
pub use detect::{Arch, Findings, What};
pub use partitions::{Partition, Table, TableKind};
pub use plan::{Plan, Role, plan};
pub use report::{json, size, text};

use crate::boot::explain;
use crate::cli::UserError;
use crate::storage;

/// Bytes of a compressed file that are unpacked to see what is in it.
const PEEK: u64 = 64 << 10;

/// What a look at a file gave.
#[derive(Clone, Debug)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its format: `raw` or `qcow2`.
    pub format: &'static str,
    /// Bytes that a guest sees.
    pub virtual_bytes: u64,
    /// Bytes that the file takes on the host.
    pub allocated_bytes: u64,
    /// May it be written?
    pub writable: bool,
    /// What a qcow2 header says.
    pub qcow2: Option<Qcow2>,
    /// What is in it, if it could be read.
    pub findings: Option<Findings>,
    /// Why it cannot be used as an image, and what to do.
    pub problem: Option<(String, String)>,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

/// Looks at the contents of a disk.
pub fn detect(disk: &mut dyn BlockBackend) -> Findings {
    detect::findings(&mut source::Source::new(disk))
}

/// Looks at a file. An error is the host's: the file cannot be read at all.
pub fn inspect(path: &Path) -> Result<Image, UserError> {
    let subject = || path.display().to_string();
    let failed = |error: std::io::Error| {
        let (problem, remedy) = explain(&error);
        UserError::new(subject(), problem, remedy)
    };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if facts.is_dir() {
        return Err(UserError::new(subject(), "this is a folder", "name an image file in it"));
    }
    let writable = File::options().write(true).open(path).is_ok();
    let qcow2 = container::qcow2(&file, path).map_err(failed)?;
    let mut image = Image {
        path: path.into(),
        format: if qcow2.is_some() { "qcow2" } else { "raw" },
        virtual_bytes: facts.len(),
        allocated_bytes: facts.blocks().saturating_mul(512),
        writable,
        qcow2: None,
        findings: None,
        problem: None,
        warnings: Vec::new(),
    };
    match &qcow2 {
        Some(header) => look_at_qcow2(&mut image, header, file),
        None => {
            let disk = storage::look(file, path, storage::ImageFormat::Raw).map_err(failed)?;
            look_at(&mut image, disk).map_err(failed)?;
        }
    }
    image.qcow2 = qcow2;
    Ok(image)
}

fn look_at_qcow2(image: &mut Image, header: &Qcow2, file: File) {
    image.virtual_bytes = header.virtual_bytes;
    if header.dirty {
        image.warnings.push("it was not closed properly: qemu-img check -r all mends it".into());
    }
    let missing = header.backing.iter().find(|below| below.format.is_none());
    let problem = match (header.problem, missing) {
        (Some(problem), _) => Some((
            format!("this qcow2 image cannot be used: {problem}"),
            "make a plain one with: qemu-img convert -O qcow2",
        )),
        (_, Some(below)) => Some((
            format!("the backing file {} is not there", below.name),
            "put it there, or qemu-img rebase",
        )),
        (None, None) => None,
    };
    if let Some((problem, remedy)) = problem {
        image.problem = Some((problem, remedy.into()));
        return;
    }
    let looked = storage::look(file, &image.path, storage::ImageFormat::Qcow2);
    if let Err(error) = looked.and_then(|disk| look_at(image, disk)) {
        let problem = format!("this qcow2 image cannot be used: {error}");
        image.problem = Some((problem, storage::qcow2_remedy(&error).into()));
    }
}

/// Looks at the contents.
fn look_at(image: &mut Image, mut disk: devices::block::Disk) -> std::io::Result<()> {
    image.virtual_bytes = disk.len();
    let mut source = source::Source::new(&mut *disk);
    let mut findings = detect::findings(&mut source);
    if let What::Other(what, _) = &findings.what
        && what.starts_with("a gzip file")
    {
        let packed = source.read_up_to(0, PEEK as usize);
        look_inside(&packed, &mut findings);
    }
    if let Some(error) = source.error {
        return Err(error);
    }
    if findings.what == What::HardDisk && !image.virtual_bytes.is_multiple_of(512) {
        findings.warnings.push("its size is not a multiple of 512 bytes: it may be cut short".into());
    }
    image.warnings.append(&mut findings.warnings);
    if let What::Other(what, remedy) = &findings.what {
        image.format = match what.as_str() {
            "a VMDK disk image" | "the description of a VMDK disk image" => "vmdk",
            "a VDI disk image" => "vdi",
            "a VHDX disk image" => "vhdx",
            "a VHD disk image" => "vpc",
            "a QED disk image" => "qed",
            "a Parallels disk image" => "parallels",
            "a Bochs disk image" => "bochs",
            _ => image.format,
        };
        if image.format != "raw" {
            let convert =
                format!("convert it with: qemu-img convert -O qcow2 {} NEW.qcow2", image.path.display());
            findings.what =
                What::Other(what.clone(), if remedy.is_empty() { convert } else { remedy.clone() });
        }
    }
    image.findings = Some(findings);
    Ok(())
}

/// Says what is in a compressed file, as far as its beginning tells.
fn look_inside(packed: &[u8], findings: &mut Findings) {
    let mut head = Vec::new();
    // An error is the end of what was read, or damage: what came before it tells enough.
    let _ = flate2::read::GzDecoder::new(packed).take(PEEK).read_to_end(&mut head);
    let inner = detect(&mut RamDisk::read_only(head));
    let what = match &inner.what {
        What::Other(what, _) => what.clone(),
        What::Kernel(kind) => format!("a {kind}"),
        What::Cd => "a CD image".into(),
        // So little of it is there that its size says nothing.
        What::Floppy | What::HardDisk if inner.bios.is_some() || inner.table.is_some() => {
            "a disk image".into()
        }
        _ => return,
    };
    findings.what =
        What::Other(format!("a gzip file with {what} in it"), "unpack it first: gunzip -k".into());
    findings.architectures = inner.architectures;
}
