//! Disk images on the host: raw files and qcow2, read-only or not, with a throw-away layer above them if asked for.
//!
//! An image is opened once, with a lock on the file (shared for readers), so that two machines cannot write to it. What the
//! guest has written is in the host's hands when the write returns (raw), or at the latest when the guest's own flush does (qcow2,
//! whose tables are kept in memory meanwhile): a killed process loses nothing that a guest may count on.

mod config;
mod numbered;
mod overlay;
mod plan;
mod qcow2;
mod qcow2_header;
mod raw;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::Path;

use devices::ahci::{Ahci, PortSpecs};
use devices::block::Disk;
use devices::flash::{SECTOR, UNITS};
use devices::ide::{DriveSpec, DriveSpecs};
use devices::nvme::Nvme;
use devices::pc::{BootPlace, CdPlace, PciCard};
use devices::pci::{PciFunction, PciSlot};
use devices::virtio::blk::VirtioBlk;
use devices::virtio::pci::VirtioPci;

pub use config::{BootOrder, DeviceKind, DriveConfig, ImageFormat, Interface, Media, PluggedDevice};
use numbered::Numbered;
use overlay::Overlay;
pub use plan::{AhciCard, Connected, DiskCard, Plan, plan};
use plan::{boot_first, cd_names, test_device_place};
pub use qcow2::remedy as qcow2_remedy;

use crate::boot::explain;
use crate::cli::UserError;
use crate::config::{BoardKind, MachineConfig};

/// Bytes at the beginning of a file that tell its format.
const HEAD: usize = 128;

/// The format that `head`, the first bytes of an image, is a mark of, if it is one that is not there.
fn foreign(head: &[u8]) -> Option<&'static str> {
    bios::detect::stranger(head)
        .filter(|what| what.ends_with("disk image") && !head.starts_with(qcow2::MAGIC))
}

/// What a file's first bytes say. Raw images have no mark of their own.
fn probe(head: &[u8]) -> Result<ImageFormat, &'static str> {
    if head.starts_with(qcow2::MAGIC) {
        return Ok(ImageFormat::Qcow2);
    }
    match foreign(head) {
        Some(what) => Err(what),
        None => Ok(ImageFormat::Raw),
    }
}

/// Opens the image of a drive. `option` is what the user wrote.
pub fn open(drive: &DriveConfig, path: &Path) -> Result<Disk, UserError> {
    let subject = || format!("{} {}", drive.option, path.display());
    let failed = |error: std::io::Error| {
        let (problem, remedy) = explain(&error);
        UserError::new(subject(), problem, remedy)
    };
    let temporary = drive.snapshot;
    let read_only = drive.is_read_only();
    let write = !read_only && !temporary;
    let file = OpenOptions::new().read(true).write(write).open(path).map_err(|error| {
        match (write, error.kind()) {
            (true, std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) => {
                UserError::new(
                    subject(),
                    "the file cannot be written",
                    "add readonly=on or snapshot=on, or change its permissions",
                )
            }
            _ => failed(error),
        }
    })?;
    let facts = file.metadata().map_err(failed)?;
    if facts.is_dir() {
        return Err(UserError::new(subject(), "this is a folder", "name an image file in it"));
    }
    lock(&file, write).map_err(|problem| {
        UserError::new(subject(), problem, "end the other program, or use -snapshot on a copy")
    })?;
    let mut head = [0; HEAD];
    let len = read_head(&file, &mut head).map_err(failed)?;
    let (format, guessed) = match drive.format {
        Some(format) => (format, false),
        None => {
            let format = probe(&head[..len]).map_err(|what| {
                UserError::new(
                    subject(),
                    format!("this is {what}, a format that is not there"),
                    "convert it with: qemu-img convert -O qcow2",
                )
            })?;
            (format, true)
        }
    };
    let disk: Disk = match format {
        ImageFormat::Raw => Box::new(raw::RawFile::new(file, !write, guessed).map_err(failed)?),
        ImageFormat::Qcow2 => {
            if !head.starts_with(qcow2::MAGIC) {
                return Err(UserError::new(
                    subject(),
                    "this is no qcow2 image",
                    "use format=raw, or leave the format out",
                ));
            }
            Box::new(qcow2::Qcow2File::new(file, path, write).map_err(|error| {
                let problem = format!("the qcow2 image cannot be used: {error}");
                UserError::new(subject(), problem, qcow2::remedy(&error))
            })?)
        }
    };
    if disk.is_empty() {
        return Err(UserError::new(subject(), "the image is empty", "make it or copy it again"));
    }
    if temporary && !read_only {
        let overlay = Overlay::new(disk).map_err(failed)?;
        return Ok(Box::new(overlay));
    }
    Ok(disk)
}

/// Opens an image to look at it: nothing is written, and no lock is taken.
pub fn look(file: File, path: &Path, format: ImageFormat) -> std::io::Result<Disk> {
    Ok(match format {
        ImageFormat::Raw => Box::new(raw::RawFile::new(file, true, false)?),
        ImageFormat::Qcow2 => Box::new(qcow2::Qcow2File::new(file, path, false)?),
    })
}

fn read_head(file: &File, head: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < head.len() {
        match file.read_at(&mut head[done..], done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes `len` zeros at `offset` in pieces.
fn zeros(
    offset: u64,
    len: u64,
    mut write: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    static PIECE: [u8; 0x1_0000] = [0; 0x1_0000];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(PIECE.len() as u64);
        write(offset + done, &PIECE[..n as usize])?;
        done += n;
    }
    Ok(())
}

/// Locks the file for as long as it is open. File systems without locks do without.
fn lock(file: &File, write: bool) -> Result<(), &'static str> {
    match if write { file.try_lock() } else { file.try_lock_shared() } {
        Err(TryLockError::WouldBlock) => Err("another program has this image open"),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// All drives of a machine with their media.
#[derive(Default)]
pub struct Drives {
    /// IDE drives in their places; `None`: there is no IDE function.
    pub ide: Option<DriveSpecs>,
    /// Drives at the board's own AHCI controller; `None`: there is none.
    pub sata: Option<PortSpecs>,
    /// Floppy drives; `Some(None)`: one without a medium.
    pub floppies: [Option<Option<Disk>>; 2],
    /// Controllers that are PCI cards, with their drives.
    pub cards: Vec<PciCard>,
    /// The CD drives by the names that users have for them.
    pub cds: Vec<(String, CdPlace)>,
    /// What firmware boots from first.
    pub boot_first: Vec<BootPlace>,
}

/// Opens every image that the configuration names.
pub fn open_all(config: &MachineConfig) -> Result<Drives, UserError> {
    let plan = plan(config.board, &config.drives, &config.devices)?;
    test_device_place(config)?;
    let mut all =
        Drives { cds: cd_names(config.board, &plan), boot_first: boot_first(&plan), ..Drives::default() };
    match config.board {
        BoardKind::Q35 => all.sata = Some(open_places(plan.sata)?),
        BoardKind::Pc if config.boots_firmware() || plan.ide.iter().any(Option::is_some) => {
            all.ide = Some(open_places(plan.ide)?);
        }
        BoardKind::Pc => {}
    }
    for AhciCard { address, ports, .. } in plan.cards {
        all.cards.push(Ahci::card(address, open_places(ports)?));
    }
    for card in plan.disks {
        all.cards.extend(open_card(card)?);
    }
    for drive in &config.drives {
        match drive.interface {
            // The chips are opened by `open_flash`.
            Interface::Ide | Interface::Virtio | Interface::Flash => {}
            Interface::Floppy => all.floppies[usize::from(drive.index & 1)] = Some(open_floppy(drive)?),
            // One that no device uses is opened too, so that mistakes are told.
            Interface::None if !config.devices.iter().any(|d| d.drive.is_some() && d.drive == drive.id) => {
                open_medium(drive)?;
            }
            Interface::None => {}
        }
    }
    Ok(all)
}

/// Opens the images of the flash chips.
pub fn open_flash(drives: &[DriveConfig]) -> Result<[Option<Disk>; UNITS], UserError> {
    let mut chips = [const { None }; UNITS];
    for drive in drives.iter().filter(|drive| drive.interface == Interface::Flash) {
        let image = open_medium(drive)?;
        if image.as_ref().is_some_and(|image| !image.len().is_multiple_of(SECTOR)) {
            return Err(UserError::new(
                format!("{} {}", drive.option, drive.file.as_deref().unwrap_or("".as_ref()).display()),
                "the length of a flash chip is a multiple of 4 KiB",
                "give a firmware image with if=pflash, and disks with -hda",
            ));
        }
        chips[usize::from(drive.index) % UNITS] = image;
    }
    Ok(chips)
}

/// The lengths of the flash chips: only looked at, so that the images can be opened afterwards.
pub fn flash_len(drives: &[DriveConfig]) -> Result<u64, UserError> {
    let looked_at = |drive: &DriveConfig| DriveConfig { read_only: true, ..drive.clone() };
    let chips = open_flash(&drives.iter().map(looked_at).collect::<Vec<_>>())?;
    Ok(chips.iter().flatten().map(|chip| chip.len()).sum())
}

fn open_medium(drive: &DriveConfig) -> Result<Option<Disk>, UserError> {
    let disk = drive.file.as_deref().map(|path| open(drive, path)).transpose()?;
    Ok(disk.map(|disk| match drive.serial.clone() {
        Some(serial) => Box::new(Numbered { disk, serial }),
        None => disk,
    }))
}

/// Opens the drives of a controller.
fn open_places<const N: usize>(places: [Option<Connected>; N]) -> Result<[Option<DriveSpec>; N], UserError> {
    let mut specs = [const { None }; N];
    for (spec, place) in specs.iter_mut().zip(places) {
        let Some(Connected { drive, media, .. }) = place else { continue };
        let medium = drive.as_ref().map(open_medium).transpose()?.flatten();
        *spec = match media {
            Media::Cdrom => Some(DriveSpec::CdRom(medium)),
            Media::Disk => medium.map(DriveSpec::HardDisk),
        };
    }
    Ok(specs)
}

/// Opens the disk of a card; none without an image.
fn open_card(card: DiskCard) -> Result<Option<PciCard>, UserError> {
    let DiskCard { option: _, kind, drive, serial, boot_index: _, address } = card;
    let Some(disk) = open_medium(&drive)? else { return Ok(None) };
    let serial = serial.or_else(|| disk.serial().map(Into::into));
    let make: Box<dyn FnOnce(PciSlot) -> Box<dyn PciFunction>> = match kind {
        DeviceKind::Nvme => {
            Box::new(move |slot| Box::new(Nvme::new(disk, serial.as_deref().unwrap_or("RETROGRADE"), slot)))
        }
        _ => Box::new(move |slot| {
            let device = VirtioBlk::new(disk, serial.as_deref().unwrap_or(""));
            Box::new(VirtioPci::new(Box::new(device), slot))
        }),
    };
    Ok(Some(PciCard { at: address, make }))
}

fn open_floppy(drive: &DriveConfig) -> Result<Option<Disk>, UserError> {
    let medium = open_medium(drive)?;
    if let Some(disk) = &medium
        && devices::floppy::Geometry::of(disk.len()).is_none()
    {
        let problem = format!("no floppy disk has {} bytes", disk.len());
        return Err(UserError::new(drive.option.clone(), problem, "give it as a disk with -hda"));
    }
    Ok(medium)
}
