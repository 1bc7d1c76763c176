//! The emulator's guest fetcher, for the `xtask` program. See `emulator/src/guests` and this crate's manifest.

#[path = "../../../emulator/src/guests/mod.rs"]
pub mod guests;
