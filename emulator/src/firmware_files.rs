//! Firmware images that the host has: where distributions put them.

use std::path::{Path, PathBuf};

use crate::boot::read_file;
use crate::cli::UserError;

/// Folders of data files, as QEMU's packages use them.
const FOLDERS: [&str; 4] =
    ["/usr/share/seabios", "/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/OVMF"];
/// The VGA BIOS for this board's adapter.
const VGA_BIOS: &str = "vgabios-stdvga.bin";

fn search(name: &Path, beside: Option<&Path>) -> Option<PathBuf> {
    let folders = beside.into_iter().chain(FOLDERS.iter().map(Path::new));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The name of our own BIOS for `-bios`.
pub const BUILT_IN: &str = "builtin";

/// SeaBIOS' option ROM that starts the kernel of the firmware configuration device.
const KERNEL_LOADER: &str = "linuxboot_dma.bin";

/// UEFI firmware (OVMF) and its empty variable store, the first pair that the host has.
pub fn uefi() -> Option<(PathBuf, PathBuf)> {
    const PAIRS: [(&str, &str); 3] = [
        ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
        ("OVMF_CODE.fd", "OVMF_VARS.fd"),
        ("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
    ];
    PAIRS
        .iter()
        .find_map(|(code, variables)| Some((search(code.as_ref(), None)?, search(variables.as_ref(), None)?)))
}

/// A ROM to start from.
pub struct Rom {
    /// Its file; `None`: our own BIOS.
    pub path: Option<PathBuf>,
    /// Its contents.
    pub bytes: Vec<u8>,
}

impl Rom {
    /// Our own BIOS.
    fn built_in() -> Self {
        Self { path: None, bytes: bios::rom().to_vec() }
    }

    fn read(path: PathBuf) -> Result<Self, UserError> {
        Ok(Self { bytes: read_file("-bios", &path)?, path: Some(path) })
    }

    /// The ROM of `-bios NAME`: a path, a name in a folder of firmware, or our own.
    pub fn named(name: &Path) -> Result<Self, UserError> {
        if name == Path::new(BUILT_IN) {
            return Ok(Self::built_in());
        }
        let bare = name.components().count() == 1;
        let found = if name.exists() || !bare { None } else { search(name, None) };
        Self::read(found.unwrap_or_else(|| name.into()))
    }

    /// What boots disks when no ROM is named: our own BIOS, whatever the host has, so that a run depends on its images only.
    pub fn default_for_disks() -> Self {
        Self::built_in()
    }

    /// The VGA BIOS that goes with it; empty: the ROM draws by itself.
    pub fn vga_bios(&self) -> Result<Vec<u8>, UserError> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        match search(VGA_BIOS.as_ref(), path.parent()) {
            Some(path) => read_file("-vga std", &path),
            None => Ok(Vec::new()),
        }
    }

    /// An option ROM that starts a kernel, for firmware that leaves this to one: its name and contents.
    pub fn kernel_loader(&self) -> Result<Option<(&'static str, Vec<u8>)>, UserError> {
        let path = self.path.as_ref().and_then(|path| search(KERNEL_LOADER.as_ref(), path.parent()));
        path.map(|path| Ok((KERNEL_LOADER, read_file("-kernel with", &path)?))).transpose()
    }
}
