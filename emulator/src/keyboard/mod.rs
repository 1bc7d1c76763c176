//! Keys by QEMU's names, and what a terminal sends when they are pressed: as the scan codes (set 2) of a PS/2 keyboard with a
//! US layout.

mod names;
mod typed;

pub use names::{combination, name_of};
pub use typed::Typed;

/// The codes of one movement of one key.
pub type Codes = Vec<u8>;

/// Presses all keys in order and lets them go in the opposite order.
fn chord(codes: &[u16]) -> Vec<Codes> {
    let press = codes.iter().map(|code| press(*code));
    let release = codes.iter().rev().map(|code| release(*code));
    press.chain(release).collect()
}

/// Codes above FFh come after the prefix E0h.
fn press(code: u16) -> Codes {
    if code > 0xff { vec![0xe0, code as u8] } else { vec![code as u8] }
}

fn release(code: u16) -> Codes {
    if code > 0xff { vec![0xe0, 0xf0, code as u8] } else { vec![0xf0, code as u8] }
}
