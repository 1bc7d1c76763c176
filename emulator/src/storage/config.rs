//! The drives that the user asked for: plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How an image's bytes lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageFormat {
    /// As on the disk.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// Where a drive is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interface {
    /// One of the four places on the IDE channels.
    Ide,
    /// One of two floppy drives.
    Floppy,
    /// A virtio block device of its own.
    Virtio,
    /// One of two flash chips below 4 GiB: firmware, and its variables.
    Flash,
    /// Nowhere.
    None,
}

/// What kind of drive it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Media {
    /// A hard disk (or a floppy disk).
    Disk,
    /// A CD-ROM drive.
    Cdrom,
}

/// A drive.
///
/// One that is connected nowhere is there for a [`PluggedDevice`] that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveConfig {
    /// What the user wrote, for messages.
    pub option: String,
    /// Its name (`id=`).
    pub id: Option<String>,
    /// The image; `None`: an empty drive.
    pub file: Option<PathBuf>,
    /// Its format; `None`: to be found out.
    pub format: Option<ImageFormat>,
    /// Where it is connected.
    pub interface: Interface,
    /// Disk or CD.
    pub media: Media,
    /// Its place there.
    pub index: u8,
    /// Nothing may be written.
    pub read_only: bool,
    /// What is written is thrown away at the end.
    pub snapshot: bool,
    /// What the disk tells as its serial number, if it is asked for.
    pub serial: Option<String>,
}

impl DriveConfig {
    /// Is writing refused? CDs are never written.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.media == Media::Cdrom
    }
}

/// What the user plugs in with `-device`: a controller, or a drive at a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedDevice {
    /// What the user wrote, for messages.
    pub option: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Its name (`id=`).
    pub id: Option<String>,
    /// The name of the drive with its contents (`drive=`).
    pub drive: Option<String>,
    /// The bus that it is on (`bus=`), and its number there (`unit=`).
    pub bus: Option<(String, Option<u8>)>,
    /// PCI device and function number (`addr=`).
    pub address: Option<(u8, u8)>,
    /// What a disk tells as its serial number (`serial=`).
    pub serial: Option<String>,
    /// Its rank among what firmware tries first (`bootindex=`).
    pub boot_index: Option<u32>,
}

/// What can be plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// An AHCI controller.
    Ahci,
    /// A hard disk at an IDE channel or a port of an AHCI controller.
    AtaDisk,
    /// A CD-ROM drive there.
    AtaCd,
    /// A virtio block device.
    VirtioBlk,
    /// An NVMe controller with a namespace.
    Nvme,
}

/// What firmware is told of the boot order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootOrder {
    /// Letters: a floppy, c disk, d CD, n network.
    pub order: String,
    /// Show a menu.
    pub menu: bool,
}

impl Default for BootOrder {
    fn default() -> Self {
        Self { order: "cad".into(), menu: false }
    }
}

impl BootOrder {
    /// CMOS registers 3Dh and 38h, in which firmware looks for the order of up to three devices.
    pub fn cmos(&self) -> [u8; 2] {
        let mut codes = self.order.chars().map(|letter| match letter {
            'a' | 'b' => 1,
            'c' => 2,
            'd' => 3,
            _ => 4,
        });
        let mut next = || codes.next().unwrap_or(0);
        let (first, second, third) = (next(), next(), next());
        [second << 4 | first, third << 4]
    }
}
