//! What the board must act on: a device cannot reset the machine that it is part of.

use serde::{Deserialize, Serialize};

/// A request to the board. The board takes it after the access that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerEvent {
    /// ACPI S5 (soft off).
    PowerOff,
    /// Platform reset: all CPUs and devices (port CF9h, port 92h, keyboard controller pulse).
    Reset,
    /// isa-debug-exit: end the run with this exit status, `(value << 1) | 1`.
    DebugExit(u32),
}
