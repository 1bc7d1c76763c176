//! Boots of unmodified guests, in every tier, through saved states, and with input at given counts.
//!
//! Guests come from the cache that `cargo xtask guests` fills; a test whose guest is not there says so and returns.

mod debian;
mod disks;
mod firmware;
mod input;
mod ladder;
mod memtest;
mod own_bios;
mod q35;
mod reboot;
mod restore;
mod smp;
mod uefi;
