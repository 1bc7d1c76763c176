//! Why a kernel cannot be started. Each message completes "FILE: ..."; the command line adds the name and what to do where
//! the message does not say it.

use thiserror::Error;

/// A kernel, an initrd or a command line that cannot be booted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// Nothing that a loader here knows.
    #[error("not a kernel that can be booted: {0}")]
    Unknown(String),
    /// The file ends inside a structure.
    #[error("the file ends inside its {what} ({len} bytes are there, {needed} are needed): it is cut short")]
    TooShort {
        /// The structure.
        what: &'static str,
        /// Length of the file.
        len: u64,
        /// Length that the structure needs.
        needed: u64,
    },
    /// Offset 0x1FE does not hold 0xAA55.
    #[error("no boot sector signature: 0xAA55 is missing at offset 0x1FE (found {0:#06x})")]
    NoBootSignature(u16),
    /// A boot sector without the Linux header.
    #[error("no Linux header: \"HdrS\" is missing at offset 0x202")]
    NoLinuxHeader,
    /// A zImage, loaded below 640 KiB.
    #[error("an old zImage kernel, which loads below 640 KiB; only bzImage kernels can be started")]
    ZImage,
    /// The payload is shorter than the header says.
    #[error("the kernel is cut short: its header names {expected} bytes of code, the file has {found}")]
    Truncated {
        /// From the header.
        expected: u64,
        /// In the file.
        found: u64,
    },
    /// The 64-bit entry was asked for.
    #[error("this kernel has no 64-bit entry point (XLF_KERNEL_64 is not set)")]
    No64BitEntry,
    /// The kernel's place is not free RAM.
    #[error("the kernel wants {what} at {start:#x}-{end:#x}, where there is no free memory{}", remedy(.remedy_mib))]
    NoRoom {
        /// The segment.
        what: &'static str,
        /// First address.
        start: u64,
        /// Address past the end.
        end: u64,
        /// A `-m` value that suffices, if one can.
        remedy_mib: Option<u64>,
    },
    /// No place for the initrd.
    #[error("the initrd ({len} bytes) does not fit: {room} bytes are free below {limit:#x}{}", remedy(.remedy_mib))]
    InitrdTooLarge {
        /// Its size.
        len: u64,
        /// The largest free piece.
        room: u64,
        /// Highest address that the kernel accepts.
        limit: u64,
        /// A `-m` value that suffices, if one can.
        remedy_mib: Option<u64>,
    },
    /// A structure of the boot protocol found no memory.
    #[error("no memory is left for the {0}; give the machine more with -m")]
    OutOfMemory(&'static str),
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {len} bytes; this kernel takes at most {max}")]
    CommandLineTooLong {
        /// Given.
        len: usize,
        /// Allowed.
        max: usize,
    },
    /// More than one module for a protocol with one initrd.
    #[error("this kernel takes one initrd, {0} were given")]
    TooManyModules(usize),
    /// A damaged ELF file.
    #[error("a damaged ELF file: {0}")]
    BadElf(String),
    /// A multiboot header that asks for what is not there.
    #[error("its multiboot header {0}")]
    BadMultiboot(String),
}

fn remedy(mib: &Option<u64>) -> String {
    mib.map_or_else(String::new, |mib| format!("; give the machine more memory (-m {mib})"))
}
