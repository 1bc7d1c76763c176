//! What is still missing. Lines can only go: a test fails while something on these lists is there.

use iced_x86::Mnemonic as M;

/// Features that `-cpu max` does not report yet.
pub const FEATURES: &[&str] = &[];

/// Instructions that are not implemented in some mode, or not tested.
pub const INSTRUCTIONS: &[M] = &[];
