//! Keys by QEMU's names, and what a terminal sends when they are pressed: as the scan codes (set 2) of a PS/2 keyboard with a
//! US layout.

mod held;
mod names;
mod symbols;
mod typed;

pub use held::Held;
pub use names::{code, code_of_number, combination, name_of};
#[cfg(all(test, feature = "window"))]
pub use symbols::web_keys;
pub use symbols::{code_of_web_key, name_of_symbol};
pub use typed::Typed;

/// The codes of one movement of one key.
pub type Codes = Vec<u8>;

/// The key Pause, whose codes follow no rule.
pub const PAUSE: u16 = 0xe1ff;

/// Presses all keys in order and lets them go in the opposite order.
fn chord(codes: &[u16]) -> Vec<Codes> {
    let press = codes.iter().map(|code| press(*code));
    let release = codes.iter().rev().map(|code| release(*code));
    press.chain(release).collect()
}

/// Codes above FFh come after the prefix E0h.
fn press(code: u16) -> Codes {
    if code == PAUSE {
        return vec![0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77];
    }
    if code > 0xff { vec![0xe0, code as u8] } else { vec![code as u8] }
}

fn release(code: u16) -> Codes {
    if code == PAUSE {
        return Vec::new();
    }
    if code > 0xff { vec![0xe0, 0xf0, code as u8] } else { vec![0xf0, code as u8] }
}
