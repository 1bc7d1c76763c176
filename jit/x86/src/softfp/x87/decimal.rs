//! Packed decimal: FBLD and FBSTP. Eighteen digits, two to a byte, least significant first; bit 7 of the last byte is
//! the sign, its other bits are ignored.

use super::convert::{Integer, from_magnitude, round_to_integer};
use super::{Env, F80, IE};
use crate::softfp::PE;

/// Packed decimal indefinite.
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// FBLD. Digits above nine are not checked by the processor; each nibble counts with its binary value.
pub fn from_bcd(bytes: [u8; 10]) -> F80 {
    let magnitude = bytes[..9]
        .iter()
        .rev()
        .fold(0u64, |value, byte| value * 100 + u64::from(byte >> 4) * 10 + u64::from(byte & 15));
    from_magnitude(bytes[9] & 0x80 != 0, magnitude)
}

/// FBSTP.
pub fn to_bcd(a: F80, env: &mut Env) -> [u8; 10] {
    env.c1 = false;
    match round_to_integer(a, env.rounding) {
        Some(Integer { magnitude, inexact, up }) if magnitude < 1_000_000_000_000_000_000 => {
            if inexact {
                env.raise(PE);
            }
            env.c1 = up;
            let mut bytes = [0; 10];
            let mut rest = magnitude;
            for byte in &mut bytes[..9] {
                let pair = (rest % 100) as u8;
                *byte = ((pair / 10) << 4) | (pair % 10);
                rest /= 100;
            }
            bytes[9] = u8::from(a.is_negative()) << 7;
            bytes
        }
        _ => {
            env.raise(IE);
            INDEFINITE
        }
    }
}
