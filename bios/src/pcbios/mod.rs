//! Our BIOS: firmware that runs in the guest, assembled here.
//!
//! The image is 128 KiB, which a board shows at its reset vector below 4 GiB and at E0000-FFFFF:
//!
//! | image | what |
//! | --- | --- |
//! | E0000 | [`video`]: the video BIOS, 16-bit, copied to C0000 |
//! | E8000 | [`flat`]: the 32-bit part of power-on self test |
//! | F0000 | everything else, 16-bit: [`post`], interrupt services; tables behind it |
//! | FE000 | entry points at the places of IBM's ROM, the 32-bit services, the reset vector |
//!
//! Each module is a list of procedures written with [`asm::code!`]; a comment beside `proc` says what goes in and out. All
//! variables lie in the BIOS data areas ([`layout`]).

mod asm;
mod boot;
mod disk;
mod flat;
mod font;
mod frame;
mod gate;
mod keyboard;
mod layout;
mod monitor;
mod mouse;
mod pci_bios;
mod post;
mod print;
mod serial;
mod system;
mod timer;
mod vectors;
mod video;

pub(crate) use video::text_mode;

use std::sync::OnceLock;

pub use asm::AsmError;
use asm::{Assembled, Section};
use layout::{BIOS_SEGMENT, CODE32, IMAGE, IMAGE_LEN, VIDEO_LEN};

use crate::bytes::put;

/// Offset in the BIOS segment where the fixed places begin.
const FIXED: usize = 0xe000;
/// Offset of the 32-bit services there.
const SERVICES_32: usize = 0xf900;
/// Offset of the 8 x 8 font's first half, where old programs look for it.
const OLD_FONT: usize = 0xfa6e;

/// The ROM image: 128 KiB, always the same.
pub fn rom() -> &'static [u8] {
    static ROM: OnceLock<Vec<u8>> = OnceLock::new();
    // The source is fixed: a test builds it, and it cannot fail in one place and not in another.
    ROM.get_or_init(|| match build() {
        Ok(image) => image,
        Err(error) => panic!("our BIOS does not assemble: {error}"),
    })
}

/// Assembles the image.
pub fn build() -> Result<Vec<u8>, AsmError> {
    let mut image = vec![0; IMAGE_LEN];
    put(&mut image, 0, &video::build()?);
    let flat = flat::build()?;
    put(&mut image, VIDEO_LEN, &flat.bytes);
    // Twice: the second time the place for tables is known.
    let length = system(&flat, 0)?.bytes.len();
    let tables = (length + 15) & !15;
    let system = system(&flat, u32::from(BIOS_SEGMENT) * 16 + tables as u32)?;
    if tables > FIXED {
        return Err(AsmError::TooLong { what: "the 16-bit part", bytes: tables, room: FIXED });
    }
    let segment = &mut image[(usize::from(BIOS_SEGMENT) << 4) - IMAGE as usize..];
    put(segment, 0, &system.bytes);
    fixed_places(segment, &system)?;
    directory(segment)?;
    debug_assert_eq!(CODE32, IMAGE + VIDEO_LEN as u32);
    Ok(image)
}

/// The 16-bit part.
fn system(flat: &Assembled, tables: u32) -> Result<Assembled, AsmError> {
    let mut section = Section::new(16, 0)?;
    let s = &mut section;
    post::emit(s, flat, tables)?;
    gate::emit(s, flat.address("gate")?)?;
    frame::emit(s)?;
    print::emit(s)?;
    vectors::emit(s)?;
    timer::emit(s)?;
    keyboard::emit(s)?;
    serial::emit(s)?;
    system::emit(s, flat)?;
    pci_bios::emit(s)?;
    mouse::emit(s)?;
    disk::emit(s, flat)?;
    boot::emit(s)?;
    monitor::emit(s)?;
    section.assemble()
}

/// Jumps at the places of IBM's ROM, the font, the reset vector, date and model.
fn fixed_places(segment: &mut [u8], system: &Assembled) -> Result<(), AsmError> {
    put(segment, FIXED, &gate::back()?.bytes);
    for (at, label) in vectors::OLD_ENTRIES {
        let target = system.address(label)? as u16;
        let [low, high] = target.wrapping_sub(at + 3).to_le_bytes();
        put(segment, usize::from(*at), &[0xe9, low, high]);
    }
    put(segment, OLD_FONT, &font::glyphs(8)[..128 * 8]);
    let [low, high] = 0xe05bu16.to_le_bytes();
    put(segment, 0xfff0, &[0xea, low, high, 0x00, 0xf0]);
    put(segment, 0xfff5, b"01/01/26");
    segment[0xfffe] = 0xfc; // model byte: AT
    Ok(())
}

/// The BIOS32 service directory's header, and the services.
fn directory(segment: &mut [u8]) -> Result<(), AsmError> {
    let base = u32::from(BIOS_SEGMENT) * 16;
    let services = pci_bios::services_32(base + SERVICES_32 as u32)?;
    put(segment, SERVICES_32, &services.bytes);
    let mut header = b"_32_".to_vec();
    header.extend(services.address("directory")?.to_le_bytes());
    header.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    header[10] = crate::bytes::checksum(&header);
    put(segment, SERVICES_32 - 0x10, &header);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_assembles_and_is_the_same_each_time() {
        let image = build().unwrap();
        assert_eq!(image.len(), IMAGE_LEN);
        assert_eq!(image, build().unwrap());
        assert_eq!(image, rom());
        assert_eq!(image[IMAGE_LEN - 16], 0xea);
        assert_eq!(image[..VIDEO_LEN].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    }
}
