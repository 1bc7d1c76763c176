//! Debian systems on disks, which slow tests and the boot benchmark start.
//!
//! They are made by `cargo xtask guests --set disks`, as root and with the distribution's tools, and are kept in the cache like
//! fetched guests. Nothing here makes one: what boots a disk takes it from the cache, or does without.

use std::path::PathBuf;

use super::{Cache, GuestError, looked_up};

/// A raw image: an MBR with GRUB, and from [`Self::OFFSET`] an ext4 file system with systemd, a serial console, and a root user
/// without a password.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// File name in the cache.
    pub name: &'static str,
    /// Debian architecture.
    pub arch: &'static str,
    /// The package of its kernel.
    pub kernel: &'static str,
}

/// With the kernel for virtual machines, which has no driver for AHCI.
pub static DEBIAN_AMD64: Disk =
    Disk { name: "debian-amd64.img", arch: "amd64", kernel: "linux-image-cloud-amd64" };
/// With Debian's general 32-bit kernel, which has one.
pub static DEBIAN_I386: Disk = Disk { name: "debian-i386.img", arch: "i386", kernel: "linux-image-686" };

/// Every disk.
pub static DISKS: [&Disk; 2] = [&DEBIAN_AMD64, &DEBIAN_I386];

impl Disk {
    /// Where the file system begins, in bytes.
    pub const OFFSET: u64 = 1 << 20;

    /// The image for a test, which never makes one. `None`: the test says so by returning; the skip is written down for the
    /// runner (see [`super::SKIP_LOG`]).
    #[must_use]
    pub fn for_test(&self) -> Option<PathBuf> {
        looked_up(|cache| self.cached(cache), "not built (cargo xtask guests --set disks, as root)")
            .map_err(|why| super::skip(self.name, &why))
            .ok()
    }

    /// The image, if it is in the cache and undamaged.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn cached(&self, cache: &Cache) -> Result<Option<PathBuf>, GuestError> {
        cache.verified(self.name)
    }
}
