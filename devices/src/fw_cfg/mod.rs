//! The firmware configuration device of QEMU's machines (its docs/specs/fw_cfg): how firmware, and test suites, learn
//! what the user asked for: processors, memory, tables, a kernel to start.
//!
//! Ports: 510h selects an item (16 bits), each read of 511h gives its next byte; at 514h lies a 64-bit big-endian register:
//! writing its low half starts a transfer that a structure in guest memory describes.
//! What the machine offers is [`FwCfgContents`], fixed when it is built. Only files that are made writable change, and only
//! by DMA: writes to 511h have no effect, as in QEMU since 2.4.

mod contents;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::memory::Dma;
use crate::{Ns, PortDevice};
use contents::Item;
pub use contents::{FileError, FwCfgContents, MAX_FILES, MAX_NAME, key};

/// Selector.
pub const SELECTOR: u16 = 0x510;
/// Data, byte by byte.
pub const DATA: u16 = 0x511;
/// DMA address, 64 bits.
pub const DMA: u16 = 0x514;
/// Last port.
pub const LAST: u16 = 0x51b;

/// What the DMA register reads as: its presence.
const DMA_SIGNATURE: u64 = u64::from_be_bytes(*b"QEMU CFG");

/// Bits of a transfer's control word.
mod control {
    pub const ERROR: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const SKIP: u32 = 1 << 2;
    pub const SELECT: u32 = 1 << 3;
    pub const WRITE: u32 = 1 << 4;
}

/// Selected key: bit 14 asks for write access by port, which is gone; it does not belong to the key.
const KEY: u16 = 0xbfff;
/// Bytes moved at once.
const CHUNK: usize = 4096;

/// Registers, and files that firmware has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwCfgState {
    selected: u16,
    offset: u32,
    /// The half of the DMA address that is written first.
    dma_high: u32,
    written: BTreeMap<u16, Vec<u8>>,
}

/// The device.
pub struct FwCfg {
    contents: FwCfgContents,
    items: BTreeMap<u16, Item>,
    dma: Dma,
    state: FwCfgState,
}

impl FwCfg {
    /// A device that offers `contents` and reaches memory by `dma`.
    pub fn new(contents: FwCfgContents, dma: Dma) -> Self {
        Self { items: contents.clone().into_items(), contents, dma, state: FwCfgState::default() }
    }

    /// Offers one more file, unless there is one of its name: before the machine starts, since the files are numbered anew.
    pub(crate) fn add_file(&mut self, name: &str, bytes: Vec<u8>) {
        if self.contents.add_file(name, bytes).is_ok() {
            self.items = self.contents.clone().into_items();
        }
    }

    /// Platform reset: files that firmware wrote are as they were at first.
    pub fn reset(&mut self) {
        self.state = FwCfgState::default();
    }

    /// The bytes of a writable file as firmware has left them.
    pub fn file_written(&self, key: u16) -> Option<&[u8]> {
        self.state.written.get(&key).map(Vec::as_slice)
    }

    fn bytes(&self) -> &[u8] {
        let key = self.state.selected;
        match self.state.written.get(&key) {
            Some(bytes) => bytes,
            None => self.items.get(&key).map_or(&[], |item| &item.bytes),
        }
    }

    fn select(&mut self, key: u16) {
        (self.state.selected, self.state.offset) = (key & KEY, 0);
    }

    /// The next byte; zero past the end.
    fn next_byte(&mut self) -> u8 {
        let byte = self.bytes().get(self.state.offset as usize).copied();
        if byte.is_some() {
            self.state.offset += 1;
        }
        byte.unwrap_or(0)
    }

    /// Performs the transfer described at `at`: control, length, address, each big-endian.
    fn transfer(&mut self, at: u64) {
        let mut access = [0; 16];
        if !self.dma.read(at, &mut access) {
            tracing::trace!(target: "guest_errors", "fw_cfg: no transfer can be read at {at:#x}");
            return;
        }
        let word = |n: usize| u32::from_be_bytes([access[n], access[n + 1], access[n + 2], access[n + 3]]);
        let (control, len) = (word(0), word(4));
        let address = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & control::SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let ok = if control & control::READ != 0 {
            self.read_to(address, len)
        } else if control & control::WRITE != 0 {
            self.write_from(address, len)
        } else {
            if control & control::SKIP != 0 {
                self.skip(len);
            }
            true
        };
        let result = if ok { 0 } else { control::ERROR };
        self.dma.write(at, &result.to_be_bytes());
    }

    fn skip(&mut self, len: u32) {
        let end = self.bytes().len() as u64;
        self.state.offset = (u64::from(self.state.offset) + u64::from(len)).min(end) as u32;
    }

    /// Item to memory; zeros follow its end.
    fn read_to(&mut self, address: u64, len: u32) -> bool {
        let mut done = 0;
        while done < len {
            let n = (len - done).min(CHUNK as u32);
            let mut chunk = [0; CHUNK];
            let rest = self.bytes().get(self.state.offset as usize..).unwrap_or(&[]);
            let found = rest.len().min(n as usize);
            chunk[..found].copy_from_slice(&rest[..found]);
            if !self.dma.write(address.wrapping_add(done.into()), &chunk[..n as usize]) {
                return false;
            }
            self.state.offset += found as u32;
            done += n;
        }
        true
    }

    /// Memory to a writable item, which keeps its length.
    fn write_from(&mut self, address: u64, len: u32) -> bool {
        let key = self.state.selected;
        let Some(item) = self.items.get(&key).filter(|item| item.writable) else { return false };
        let offset = self.state.offset as usize;
        if item.bytes.len().saturating_sub(offset) < len as usize {
            return false;
        }
        let mut bytes = vec![0; len as usize];
        if !self.dma.read(address, &mut bytes) {
            return false;
        }
        let whole = self.state.written.entry(key).or_insert_with(|| item.bytes.to_vec());
        whole[offset..offset + bytes.len()].copy_from_slice(&bytes);
        self.state.offset += len;
        true
    }

    /// Registers and written files.
    pub fn save(&self) -> FwCfgState {
        let Self { contents: _, items: _, dma: _, state } = self;
        state.clone()
    }

    /// Restores what `save` gave; what does not fit this machine's items is left out.
    pub fn restore(&mut self, state: FwCfgState) {
        let items = &self.items;
        let fits = |key: &u16, bytes: &mut Vec<u8>| {
            items.get(key).is_some_and(|item| item.writable && item.bytes.len() == bytes.len())
        };
        self.state = state;
        self.state.written.retain(fits);
        let end = self.bytes().len() as u32;
        self.state.offset = self.state.offset.min(end);
    }
}

/// The selector takes 16 bits, the data port gives bytes, the DMA register is big-endian.
impl PortDevice for FwCfg {
    fn port_read(&mut self, port: u16, size: u8, _now: Ns) -> u32 {
        if port == DATA && size == 1 {
            return self.next_byte().into();
        }
        let first = port.wrapping_sub(DMA);
        if first >= 8 {
            return u32::MAX;
        }
        let bytes = DMA_SIGNATURE.to_be_bytes();
        (0..usize::from(size)).fold(0, |value, n| {
            value | u32::from(*bytes.get(usize::from(first) + n).unwrap_or(&0)) << (8 * n)
        })
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, _now: Ns) {
        match (port, size) {
            (SELECTOR, 2) => self.select(value as u16),
            (DMA, 4) => self.state.dma_high = u32::swap_bytes(value),
            (port, 4) if port == DMA + 4 => {
                let high = std::mem::take(&mut self.state.dma_high);
                self.transfer(u64::from(high) << 32 | u64::from(u32::swap_bytes(value)));
            }
            _ => tracing::trace!(target: "guest_errors", "fw_cfg: write of {size} bytes to port {port:#x}"),
        }
    }
}
