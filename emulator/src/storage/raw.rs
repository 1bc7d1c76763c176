//! Raw images: the file's bytes are the disk's.
#![expect(unsafe_code, reason = "punching holes is a system call without a safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use devices::block::BlockBackend;

use super::{foreign, qcow2};

/// See the module.
pub(super) struct RawFile {
    file: File,
    len: u64,
    read_only: bool,
    /// The format was guessed: the guest must not turn the image into one of another format, which would be opened as
    /// such the next time, with files of the host behind it.
    guessed: bool,
}

impl RawFile {
    pub(super) fn new(file: File, read_only: bool, guessed: bool) -> io::Result<Self> {
        // Seeking tells the size of block devices too.
        let len = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
        Ok(Self { file, len, read_only, guessed })
    }
}

impl BlockBackend for RawFile {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset.saturating_add(done as u64)) {
                Ok(0) => {
                    bytes[done..].fill(0);
                    break;
                }
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.len.next_multiple_of(512)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let marks = |bytes: &[u8]| bytes.starts_with(qcow2::MAGIC) || foreign(bytes).is_some();
        if self.guessed && offset == 0 && marks(bytes) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the guest writes the mark of another image format; give format=raw to allow it",
            ));
        }
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len).min(self.len);
        if self.read_only || offset >= end {
            return Ok(());
        }
        punch_hole(&self.file, offset, end - offset).map(|_| ())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let end = offset.saturating_add(len);
        if self.read_only || end > self.len.next_multiple_of(512) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = end.min(self.len);
        if offset >= end || unmap && punch_hole(&self.file, offset, end - offset)? {
            return Ok(());
        }
        super::zeros(offset, end - offset, |at, bytes| self.file.write_all_at(bytes, at))
    }
}

/// Gives the host's blocks back, so that zeros are read there. False: the file system cannot, and the bytes stay.
#[cfg(target_os = "linux")]
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return Ok(false) };
    // SAFETY: fallocate takes no pointers; the descriptor is open for as long as `file` is borrowed.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            // EINVAL and ENODEV: a kind of file that has no holes, EPERM: one that may not get any.
            error
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENODEV | libc::EPERM)
                ) =>
            {
                Ok(false)
            }
            error => Err(error),
        },
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn punch_hole(file: &File, _offset: u64, _len: u64) -> io::Result<bool> {
    let _ = file.as_raw_fd();
    Ok(false)
}
