//! Our firmware: what a PC's BIOS leaves in memory, and the loaders that a boot program would be.
//!
//! Everything here is a pure function from a description of the board and the bytes of the user's files to a list of
//! [`Chunk`]s to be copied into guest memory, and an [`EntryState`] for the boot processor. No file is opened here, and no
//! input, however damaged, panics: each file is somebody else's.
//!
//! - [`e820`]: where RAM lies, and the map that tells the guest so.
//! - [`firmware`]: ROM page, BIOS data area, ACPI, MP table, SMBIOS, assembled from a [`Board`].
//! - [`load()`]: recognises a kernel ([`detect`]) and runs the loader of its boot protocol.
//! - [`rom()`]: our BIOS, code that runs in the guest ([`pcbios`]).
//! - [`install()`]: the one function that touches guest memory.
#![forbid(unsafe_code)]

pub mod acpi;
mod bda;
mod board;
mod bytes;
mod bzimage;
mod chunk;
pub mod detect;
mod dsdt;
pub mod e820;
mod elf;
mod entry;
mod error;
pub mod firmware;
pub mod initrd;
mod install;
pub mod linker;
pub mod load;
mod mptable;
mod multiboot;
pub mod pcbios;
pub mod pci_setup;
mod placer;
mod pvh;
mod rom;
mod setup;
mod smbios;
#[cfg(test)]
mod test_images;
mod vmlinux;

pub use board::{
    Board, Chipset, ECAM_LEN, GpeBlock, PciInterrupts, PmBlocks, ResetRegister, SerialPort, SmiCommand,
};
pub use bzimage::{Parts as BzImageParts, parts as bzimage_parts};
pub use chunk::Chunk;
pub use detect::ImageKind;
pub use e820::{E820Entry, E820Kind, LayoutError, MemoryLayout};
pub use entry::{EntryMode, EntryState, Segment, TableRegister};
pub use error::LoadError;
pub use firmware::Firmware;
pub use install::install;
pub use load::{BootRequest, LinuxEntry, Loaded, Module, Video, load};
pub use pcbios::rom;
pub use setup::{Mtrrs, PortWrite, Setup, TextMode};
