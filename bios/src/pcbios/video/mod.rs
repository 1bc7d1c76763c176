//! The video BIOS: INT 10h for a VGA with the Bochs VBE interface, as an option ROM in a segment of its own.
//!
//! It keeps its state where IBM's does, in the BIOS data area; which VBE mode is set, the display's registers know.

mod cells;
mod cursor;
mod fonts;
mod graphics;
mod modes;
mod palette;
mod services;
mod set_text;
mod vbe;

use iced_x86::code_asm::*;

use super::asm::{AsmError, Emit, Section, code};
use super::layout::VIDEO_LEN;
use super::{font, frame as f};

/// The BIOS data area's video part.
pub use set_text::text_mode;

pub mod vars {
    /// Mode.
    pub const CRT_MODE: i32 = 0x49;
    /// Columns.
    pub const CRT_COLS: i32 = 0x4a;
    /// Bytes of a page.
    pub const CRT_LEN: i32 = 0x4c;
    /// Start of the page shown.
    pub const CRT_START: i32 = 0x4e;
    /// Cursors of eight pages: column, row.
    pub const CURSOR_POSN: i32 = 0x50;
    /// End and start line of the cursor.
    pub const CURSOR_MODE: i32 = 0x60;
    /// The page shown.
    pub const ACTIVE_PAGE: i32 = 0x62;
    /// CRT controller's port.
    pub const ADDR_6845: i32 = 0x63;
    /// CGA mode register.
    pub const CRT_MODE_SET: i32 = 0x65;
    /// CGA palette register.
    pub const CRT_PALETTE: i32 = 0x66;
    /// Rows - 1.
    pub const ROWS: i32 = 0x84;
    /// Bytes of a character.
    pub const POINTS: i32 = 0x85;
    /// EGA options; bit 7: memory kept.
    pub const INFO: i32 = 0x87;
    /// EGA switches.
    pub const INFO_3: i32 = 0x88;
    /// VGA options.
    pub const FLAGS: i32 = 0x89;
    /// Display combination.
    pub const DCC: i32 = 0x8a;
    /// A mode number that stands for a VBE mode: no text is drawn.
    pub const VBE_MODE: i32 = 0x7f;
}

/// Offset of the entry of INT 10h.
pub const ENTRY: u16 = 0x0010;

/// The video BIOS, padded and with its checksum.
pub fn build() -> Result<Vec<u8>, AsmError> {
    let mut section = Section::new(16, 0)?;
    let s = &mut section;
    // 55AA, length in 512 bytes, then a far return for whoever initialises option ROMs: POST has done it.
    s.bytes(&[0x55, 0xaa, (VIDEO_LEN / 512) as u8, 0xcb])?;
    s.bytes(&[0; ENTRY as usize - 4])?;
    dispatch(s)?;
    initialise(s)?;
    modes::emit(s)?;
    palette::emit(s)?;
    cursor::emit(s)?;
    cells::emit(s)?;
    graphics::emit(s)?;
    fonts::emit(s)?;
    services::emit(s)?;
    vbe::emit(s)?;
    for (name, points) in [("font_8", 8), ("font_14", 14), ("font_16", 16)] {
        s.proc(name)?;
        s.bytes(&font::glyphs(points))?;
    }
    let mut bytes = section.assemble()?.bytes;
    if bytes.len() >= VIDEO_LEN {
        return Err(AsmError::TooLong { what: "the video BIOS", bytes: bytes.len(), room: VIDEO_LEN - 1 });
    }
    bytes.resize(VIDEO_LEN, 0);
    bytes[VIDEO_LEN - 1] = crate::bytes::checksum(&bytes);
    Ok(bytes)
}

fn dispatch(s: &mut Section) -> Emit {
    s.proc("int10")?;
    f::enter(s)?;
    code! { s;
        push_offset ".out";
        mov ah, f::ah_();
        select ah, &[
            (0x0e, "teletype"), (0x02, "set_cursor"), (0x03, "get_cursor"), (0x09, "write_cells"),
            (0x0a, "write_characters"), (0x06, "scroll_up"), (0x07, "scroll_down"), (0x08, "read_cell"),
            (0x01, "cursor_type"), (0x0f, "get_mode"), (0x00, "set_mode"), (0x05, "select_page"),
            (0x0b, "cga_palette"), (0x0c, "write_pixel"), (0x0d, "read_pixel"), (0x10, "palette"),
            (0x11, "fonts"), (0x12, "alternate"), (0x13, "write_string"), (0x1a, "combination"),
            (0x1b, "state"), (0x1c, "save_restore"), (0x4f, "vbe")
        ];
        ret;
        label ".out";
    }
    f::leave(s)
}

/// A far procedure at a fixed place, called by POST with DS = 40h: makes the video part of the BIOS data area.
fn initialise(s: &mut Section) -> Emit {
    code! { s;
        proc "initialise";
        mov byte_ptr(vars::INFO), 0x60; // 256 KiB
        mov byte_ptr(vars::INFO_3), 0xf9;
        mov byte_ptr(vars::FLAGS), 0x51; // 400 lines, VGA active
        mov byte_ptr(vars::DCC), 8;
        ret;
    }
    Ok(())
}
