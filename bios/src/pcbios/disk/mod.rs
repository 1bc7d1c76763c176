//! Drives: finding them, and INT 13h.
//!
//! What a service wants is put into the request (`RQ_...` in the extended BIOS data area): operation, first block, how many, and
//! where to. "transfer" hands it to the driver of the drive's kind, which counts in `RQ_DONE` what it has done.

mod ahci;
mod ata;
mod atapi;
mod dma;
mod edd;
pub mod el_torito;
mod fixed;
mod floppy;
mod nvme;
mod service;
mod virtio;

use iced_x86::code_asm::*;

use super::asm::{Assembled, Emit, Section, code};
use super::layout::ebda;

/// Everything.
pub fn emit(s: &mut Section, flat: &Assembled) -> Emit {
    service::emit(s)?;
    fixed::emit(s)?;
    edd::emit(s)?;
    ata::emit(s)?;
    virtio::emit(s)?;
    ahci::emit(s)?;
    nvme::emit(s, flat)?;
    dma::emit(s)?;
    atapi::emit(s)?;
    floppy::emit(s)?;
    el_torito::emit(s)
}

/// The end of a walk over every function of every PCI bus, and of its procedure: from ".other" on to ".next" with the next one in EBX.
fn to_next_function(s: &mut Section) -> Emit {
    code! { s;
        label ".other";
        add ebx, 0x100;
        mov eax, ebx;
        shr eax, 16;
        movzx dx, byte_ptr(ebda::PCI_LAST_BUS).fs();
        cmp ax, dx;
        jbe ".next";
        label ".ret";
        ret;
    }
    Ok(())
}

/// What INT 13h tells in AH.
pub mod status {
    /// No such function or drive.
    pub const INVALID: i32 = 0x01;
    /// The sector is not there.
    pub const NOT_FOUND: i32 = 0x04;
    /// A DMA transfer would cross a 64 KiB boundary.
    pub const BOUNDARY: i32 = 0x09;
    /// The controller failed.
    pub const CONTROLLER: i32 = 0x20;
    /// No answer.
    pub const TIMEOUT: i32 = 0x80;
    /// Not ready.
    pub const NOT_READY: i32 = 0xaa;
    /// Locked media, or a volume that cannot be removed.
    pub const WRITE_PROTECTED: i32 = 0x03;
}
