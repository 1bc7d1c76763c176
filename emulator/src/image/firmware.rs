//! UEFI firmware: what a file of firmware volumes is (Platform Initialization specification 1.7, vol. 3, 3.2.1: `EFI_FIRMWARE_VOLUME_HEADER`).
//!
//! Builds of it come whole, for a ROM, or as two files for flash memory: the code, and the store of its variables, which it writes to.

use super::source::{Source, field};

/// Of the header: the volume's file system, its length, its signature.
const FILE_SYSTEM: usize = 16;
const LENGTH: usize = 32;
const SIGNATURE: (usize, &[u8]) = (40, b"_FVH");
/// `EFI_SYSTEM_NV_DATA_FV_GUID`, fff12b8d-7696-4c8b-a985-2747075b4f50: the volume of the variables.
const VARIABLES: [u8; 16] =
    [0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50];

/// What a file of UEFI firmware has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Code, with the variables before it.
    Whole,
    /// Code only.
    Code,
    /// Variables only.
    Variables,
}

impl Firmware {
    /// What the file that begins with `head` is, if it begins with a firmware volume.
    pub fn find(source: &Source<'_>, head: &[u8]) -> Option<Self> {
        let (at, signature) = SIGNATURE;
        if !head.get(at..)?.starts_with(signature) {
            return None;
        }
        if head.get(FILE_SYSTEM..)?.starts_with(&VARIABLES) {
            // The volume may say more than is left of a file that was cut off; it has no code either.
            let volume = field::<8>(head, LENGTH);
            return Some(if source.len() > volume { Self::Whole } else { Self::Variables });
        }
        Some(Self::Code)
    }

    /// In words, with what to do after "; " where a machine cannot be made of the file alone.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Whole => "UEFI firmware",
            Self::Code => {
                "UEFI firmware without its variables; give it as flash memory, with a copy of its store of variables: \
                 -drive if=pflash,format=raw,readonly=on,file=CODE -drive if=pflash,format=raw,file=COPY"
            }
            Self::Variables => {
                "a store of UEFI variables; give a copy of it after the firmware's code: \
                 -drive if=pflash,format=raw,readonly=on,file=CODE -drive if=pflash,format=raw,file=COPY"
            }
        }
    }
}
