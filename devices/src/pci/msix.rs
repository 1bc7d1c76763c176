//! MSI-X: a table of messages and an array of pending bits in memory that one of the function's base address registers maps
//! (PCI Local Bus specification 3.0, 6.8.2).
//!
//! The function asks [`Msix::read`] and [`Msix::write`] first when that register's memory is accessed, calls
//! [`Msix::send`] when it has something to tell while [`Msix::enabled`], and [`Msix::config_written`] from its own
//! `config_written`. The table is no part of configuration space, so the function resets, saves and restores it.

use serde::{Deserialize, Serialize};

use super::ConfigSpace;
use super::message::{MessagePort, MsiMessage};

/// The capability's number.
pub const MSI_X: u8 = 0x11;
/// Bytes of a vector's entry: address, data, control.
pub const MSIX_ENTRY: u64 = 16;

/// In the second byte of message control.
const ENABLE: u8 = 0x80;
const FUNCTION_MASK: u8 = 0x40;
/// In a vector's control word.
const MASKED: u8 = 0x01;

/// Where the table and the pending bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// The base address register that maps both.
    pub bar: u8,
    /// Where the table begins there, a multiple of 8.
    pub table: u32,
    /// Where the pending bits begin, 64 at a time, a multiple of 8.
    pub pending: u32,
}

/// Table and pending bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsixState {
    table: Vec<u8>,
    pending: Vec<u8>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Msix {
    at: usize,
    layout: MsixLayout,
    state: MsixState,
    port: MessagePort,
}

/// Every vector masked, none pending.
fn after_reset(layout: &MsixLayout) -> MsixState {
    let vectors = usize::from(layout.vectors);
    let entry = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, MASKED, 0, 0, 0];
    MsixState { table: entry.repeat(vectors), pending: vec![0; vectors.div_ceil(64) * 8] }
}

impl Msix {
    /// Puts the capability (12 bytes) into `config` at `at`. The base address register is the function's to define.
    pub fn new(config: &mut ConfigSpace, at: usize, layout: MsixLayout, port: MessagePort) -> Self {
        let MsixLayout { vectors, bar, table, pending } = layout;
        assert!((1..=2048).contains(&vectors) && bar < 6, "{layout:?}");
        assert!(table.is_multiple_of(8) && pending.is_multiple_of(8), "{layout:?}");
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table | u32::from(bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pending | u32::from(bar)).to_le_bytes());
        config.add_capability(at, MSI_X, &body, &[0, ENABLE | FUNCTION_MASK]);
        Self { at, layout, state: after_reset(&layout), port }
    }

    /// Has the guest turned it on? Then the function must not use its interrupt pin.
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.bytes()[self.at + 3] & ENABLE != 0
    }

    /// Sends the interrupt `vector`, or remembers it while it is masked. Nothing happens while MSI-X is off, the function may
    /// not master the bus, or there is no such vector.
    pub fn send(&mut self, config: &ConfigSpace, vector: u16) {
        let at = usize::from(vector) * MSIX_ENTRY as usize;
        let Some(entry) = self.state.table.get(at..at + MSIX_ENTRY as usize) else { return };
        if !self.enabled(config) {
            return;
        }
        if config.bytes()[self.at + 3] & FUNCTION_MASK != 0 || entry[12] & MASKED != 0 {
            self.state.pending[usize::from(vector / 8)] |= 1 << (vector & 7);
        } else if config.is_bus_master() {
            let number = |range: std::ops::Range<usize>| {
                entry[range].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
            };
            self.port.send(MsiMessage { address: number(0..8) & !3, data: number(8..12) as u32 });
        }
    }

    /// Sends what is pending and not masked any more.
    fn send_pending(&mut self, config: &ConfigSpace) {
        if !self.enabled(config) || config.bytes()[self.at + 3] & FUNCTION_MASK != 0 {
            return;
        }
        for byte in 0..self.state.pending.len() {
            let waiting = self.state.pending[byte];
            for bit in (0..8).filter(|bit| waiting >> bit & 1 != 0) {
                self.state.pending[byte] &= !(1 << bit);
                self.send(config, byte as u16 * 8 + bit);
            }
        }
    }

    /// Configuration space was written.
    pub fn config_written(&mut self, config: &ConfigSpace) {
        self.send_pending(config);
    }

    /// The offset into the table, or into the pending bits.
    fn place(&self, bar: u8, offset: u64, of: u32, len: usize) -> Option<usize> {
        let at = offset.checked_sub(of.into()).filter(|at| bar == self.layout.bar && *at < len as u64)?;
        Some(at as usize)
    }

    /// A read of `size` bytes at `offset` of what base address register `bar` maps; `None`: neither table nor pending bits are
    /// there.
    pub fn read(&self, bar: u8, offset: u64, size: u8) -> Option<u64> {
        let MsixState { table, pending } = &self.state;
        let (bytes, at) = match self.place(bar, offset, self.layout.table, table.len()) {
            Some(at) => (table, at),
            None => (pending, self.place(bar, offset, self.layout.pending, pending.len())?),
        };
        let bytes = bytes[at..].iter().take(size.min(8).into());
        Some(bytes.rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A write there; false: neither is there. Software does not write pending bits.
    pub fn write(&mut self, config: &ConfigSpace, bar: u8, offset: u64, size: u8, value: u64) -> bool {
        let MsixState { table, pending } = &mut self.state;
        let (table_len, pending_len) = (table.len(), pending.len());
        let Some(at) = self.place(bar, offset, self.layout.table, table_len) else {
            return self.place(bar, offset, self.layout.pending, pending_len).is_some();
        };
        let place = self.state.table[at..].iter_mut().zip(value.to_le_bytes()).zip(at..);
        for ((place, byte), at) in place.take(size.min(8).into()) {
            // Of a control word the mask is all there is.
            *place = match at % MSIX_ENTRY as usize {
                12 => byte & MASKED,
                13..16 => 0,
                _ => byte,
            };
        }
        self.send_pending(config);
        true
    }

    /// Every vector masked, none pending.
    pub fn reset(&mut self) {
        self.state = after_reset(&self.layout);
    }

    /// Table and pending bits.
    pub fn save(&self) -> MsixState {
        let Self { state, at: _, layout: _, port: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave; a state of another size (hostile input) changes nothing.
    pub fn restore(&mut self, state: MsixState) {
        let MsixState { table, pending } = &state;
        if table.len() == self.state.table.len() && pending.len() == self.state.pending.len() {
            self.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: MsixLayout = MsixLayout { vectors: 65, bar: 4, table: 0x1000, pending: 0x1800 };

    fn function() -> (ConfigSpace, Msix, MessagePort) {
        let mut config = ConfigSpace::endpoint(0x1af4, 0x1042, 0x01_0000, 1);
        let port = MessagePort::new();
        let msix = Msix::new(&mut config, 0x98, LAYOUT, port.clone());
        (config, msix, port)
    }

    /// Message control as software writes it: enable, function mask.
    fn control(config: &mut ConfigSpace, value: u8) {
        config.write(0x9a, 0xff);
        config.write(0x9b, value);
        config.write(0x04, 0x06);
    }

    fn fill(config: &ConfigSpace, msix: &mut Msix, vector: u64) {
        let at = 0x1000 + 16 * vector;
        assert!(msix.write(config, 4, at, 8, 0xfee0_0000));
        assert!(msix.write(config, 4, at + 8, 4, 0x30 + vector));
        assert!(msix.write(config, 4, at + 12, 4, 0xffff_fffe));
    }

    #[test]
    fn a_driver_fills_the_table() {
        let (mut config, mut msix, port) = function();
        assert_eq!(config.bytes()[0x98..0xa4], [0x11, 0, 64, 0, 4, 0x10, 0, 0, 4, 0x18, 0, 0]);
        assert_eq!(msix.read(4, 0x140c, 4), Some(1), "masked");
        fill(&config, &mut msix, 64);
        msix.send(&config, 64);
        assert_eq!(port.take(), [], "off");
        control(&mut config, 0x80);
        assert_eq!(config.bytes()[0x9a..0x9c], [64, 0x80]);
        msix.send(&config, 64);
        assert_eq!(port.take(), [MsiMessage { address: 0xfee0_0000, data: 0x70 }]);
        assert_eq!((msix.read(4, 0x1408, 8), msix.read(4, 0x1400, 4)), (Some(0x70), Some(0xfee0_0000)));
        // Not there, or half there.
        assert_eq!(
            (msix.read(4, 0x1410, 4), msix.read(3, 0x1000, 4), msix.read(4, 0x140e, 8)),
            (None, None, Some(0))
        );
        assert!(!msix.write(&config, 4, 0xfff, 4, 0) && !msix.write(&config, 0, 0x1000, 4, 0));
        msix.send(&config, 65);
        msix.send(&config, u16::MAX);
        assert_eq!(port.take(), []);
    }

    #[test]
    fn masked_vectors_are_pending_also_in_a_saved_state() {
        let (mut config, mut msix, port) = function();
        control(&mut config, 0xc0);
        for vector in [0, 9, 64] {
            fill(&config, &mut msix, vector);
            msix.send(&config, vector as u16);
        }
        assert_eq!((msix.read(4, 0x1800, 8), msix.read(4, 0x1808, 1)), (Some(0x201), Some(1)));
        assert!(msix.write(&config, 4, 0x1800, 8, 0));
        let (mut twins_config, mut twin, _) = function();
        twins_config.restore(config.bytes());
        twin.restore(msix.save());
        assert_eq!(twin.read(4, 0x1800, 4), Some(0x201));
        assert!(msix.write(&config, 4, 0x109c, 4, 1));
        control(&mut config, 0x80);
        msix.config_written(&config);
        assert_eq!(port.take().iter().map(|m| m.data).collect::<Vec<_>>(), [0x30, 0x70]);
        assert!(msix.write(&config, 4, 0x109c, 4, 0));
        assert_eq!(port.take().iter().map(|m| m.data).collect::<Vec<_>>(), [0x39]);
        assert_eq!(msix.read(4, 0x1800, 8), Some(0));
        let (_, other, _) = function();
        let mut state = other.save();
        state.table.truncate(7);
        twin.restore(state);
        assert_eq!(twin.read(4, 0x1800, 4), Some(0x201), "not a state of this function");
        twin.reset();
        assert_eq!((twin.read(4, 0x1800, 4), twin.read(4, 0x109c, 4)), (Some(0), Some(1)));
    }
}
