//! qcow2 images, by the crate imago: with backing files, without zstd clusters and internal snapshots.

use std::fs;
use std::io;
use std::path::Path;

use devices::block::BlockBackend;
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate, StorageOpenOptions};

/// How a qcow2 file begins.
pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// See the module.
pub(super) struct Qcow2File {
    image: FormatAccess<File>,
    /// Holds the lock; imago reads and writes through a clone of it.
    _file: fs::File,
    write: bool,
}

impl Qcow2File {
    /// `path` is where relative names of backing files start from.
    pub(super) fn new(file: fs::File, path: &Path, write: bool) -> io::Result<Self> {
        super::qcow2_header::check(&file, path, write)?;
        let options = StorageOpenOptions::new().filename(path).write(write);
        let storage = File::from_open_file(file.try_clone()?, options)?;
        let image =
            Qcow2::<File>::builder(storage).write(write).open(PermissiveImplicitOpenGate::default())?;
        Ok(Self { image: FormatAccess::new(image), _file: file, write })
    }
}

/// What to do about an image that cannot be used.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::Unsupported => "make a plain one with: qemu-img convert -O qcow2",
        _ => "check it with: qemu-img check",
    }
}

impl BlockBackend for Qcow2File {
    fn len(&self) -> u64 {
        self.image.size()
    }
    fn read_only(&self) -> bool {
        !self.write
    }
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.image.read(bytes, offset)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.write {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.image.write(bytes, offset)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.image.flush()?;
        self.image.sync()
    }
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len).min(self.len());
        if !self.write || offset >= end {
            return Ok(());
        }
        match self.image.discard_to_any(offset, end - offset) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            other => other,
        }
    }
    fn write_zeroes(&mut self, offset: u64, len: u64, _unmap: bool) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len());
        if !self.write || end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match self.image.write_zeroes(offset, len) {
            // Images of the format's version 2 have no clusters of zeros.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                super::zeros(offset, len, |at, bytes| self.image.write(bytes, at))
            }
            other => other,
        }
    }
}
