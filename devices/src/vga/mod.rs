//! A VGA with the Bochs display interface, as QEMU's `-vga std` (PCI 1234:1111): what VGA BIOSes, Linux' bochs-drm and
//! every DOS program know (IBM VGA technical reference; Bochs' vbe_display_api).
//!
//! Video memory is the board's: it can be mapped into the guest's address space as RAM (BAR 0) and is read here when a picture is
//! made. Byte n of plane p is byte `4 n + p` of it, so that chained-4 modes and the linear frame buffer see the same bytes.
//! Nothing here runs with time: the retrace bits and the blinking are functions of the virtual time of the look.
//!
//! Limits: one display page is shown as it is at the moment of the look (no raster effects within a frame); CGA's snow is not there.

mod dispi;
mod memory;
mod pci_function;
mod registers;
mod render;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Ns;
use dispi::Dispi;
use registers::Registers;
pub use render::Picture;
pub use text::{Cell, TextScreen};

/// Bytes of video memory.
pub const VIDEO_MEMORY: u64 = 16 << 20;
/// The window below 1 MiB.
pub const WINDOW: u64 = 0xa_0000;
/// Its length.
pub const WINDOW_LEN: u64 = 0x2_0000;

/// Video memory on the board.
pub trait VideoMemory: Send + Sync {
    /// Fills `bytes` from `offset`; zeros beyond the end.
    fn read(&self, offset: u64, bytes: &mut [u8]);
    /// Writes `bytes` at `offset`; what is beyond the end is lost.
    fn write(&self, offset: u64, bytes: &[u8]);
}

/// The adapter.
pub struct Vga {
    registers: Registers,
    dispi: Dispi,
    /// The last byte of each plane that was read.
    latch: [u8; 4],
    memory: Arc<dyn VideoMemory>,
    config: crate::pci::ConfigSpace,
}

/// Everything but video memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VgaState {
    registers: Registers,
    dispi: Dispi,
    latch: [u8; 4],
}

impl Vga {
    /// The adapter at power-on. `rom_len`: bytes of its ROM BAR, a power of two, 0 for none.
    pub fn new(memory: Arc<dyn VideoMemory>, rom_len: u64) -> Self {
        Self {
            registers: Registers::default(),
            dispi: Dispi::default(),
            latch: [0; 4],
            memory,
            config: pci_function::config(rom_len),
        }
    }

    /// The picture at `now`.
    pub fn picture(&self, now: Ns) -> Picture {
        render::picture(self, now)
    }

    /// The characters on the screen at `now`, if it is in a text mode.
    pub fn text(&self, now: Ns) -> Option<TextScreen> {
        text::screen(self, now)
    }

    /// Does the window answer at `at`, an offset into A0000h to BFFFFh? If so, the offset into what it shows.
    fn window_offset(&self, at: u64) -> Option<u64> {
        let (start, len) = match self.registers.graphics[6] >> 2 & 3 {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        };
        let offset = at.checked_sub(start)?;
        (offset < len).then_some(offset)
    }

    /// A read in A0000h to BFFFFh.
    pub fn window_read(&mut self, at: u64, size: u8) -> u64 {
        (0..u64::from(size)).fold(0, |value, n| value | u64::from(self.read_byte(at + n)) << (8 * n))
    }

    /// A write there.
    pub fn window_write(&mut self, at: u64, size: u8, value: u64) {
        for n in 0..u64::from(size) {
            self.write_byte(at + n, (value >> (8 * n)) as u8);
        }
    }

    fn byte(&self, offset: u64) -> u8 {
        let mut byte = [0];
        self.memory.read(offset, &mut byte);
        byte[0]
    }
}

/// Video memory in a vector: for tests, and for boards that never map it.
#[derive(Debug, Default)]
pub struct OwnMemory(std::sync::Mutex<Vec<u8>>);

impl OwnMemory {
    /// All zeros.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(std::sync::Mutex::new(vec![0; VIDEO_MEMORY as usize])))
    }
}

impl VideoMemory for OwnMemory {
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        let memory = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(memory.len());
        let n = bytes.len().min(memory.len() - from);
        bytes[..n].copy_from_slice(&memory[from..from + n]);
        bytes[n..].fill(0);
    }
    fn write(&self, offset: u64, bytes: &[u8]) {
        let mut memory = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(memory.len());
        let n = bytes.len().min(memory.len() - from);
        memory[from..from + n].copy_from_slice(&bytes[..n]);
    }
}
