//! Retrograde: the machine around the processor, and the program that runs it.
//!
//! [`cli`] turns arguments into a [`config::MachineConfig`]; [`boot`] reads the files and loads them by way of the `bios`
//! crate; [`machine`] is the board and its loop; [`display`], [`terminal`], [`console`], [`logging`], [`host_clock`], [`host_heap`] and [`host_text`] are
//! the host's side. [`program`] ties them together. Only the host's side performs I/O.

pub mod boot;
pub mod cli;
pub mod config;
pub mod console;
pub mod display;
pub mod exit_status;
mod firmware_config;
mod firmware_files;
pub mod guests;
pub mod host_clock;
pub mod host_heap;
pub mod host_text;
pub mod image;
pub mod keyboard;
pub mod logging;
pub mod machine;
pub mod monitor;
pub mod program;
pub mod storage;
pub mod terminal;
