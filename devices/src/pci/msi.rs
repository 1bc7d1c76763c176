//! MSI: a capability with one address, one data word and up to 32 vectors (PCI Local Bus specification 3.0, 6.8.1).
//!
//! All of its state is in configuration space, so that a function saves and resets nothing. A function calls
//! [`Msi::send`] when it has something to tell while [`Msi::enabled`], and [`Msi::config_written`] from its own
//! `config_written`, for what waits until it is unmasked.

use super::ConfigSpace;
use super::message::{MessagePort, MsiMessage};

/// The capability's number.
pub const MSI: u8 = 0x05;

const ENABLE: u8 = 0x01;
const IS_64_BIT: u8 = 0x80;
const MASKING: u8 = 0x01;

const CONTROL: usize = 2;
const ADDRESS: usize = 4;
const DATA: usize = 12;
const MASK: usize = 16;
const PENDING: usize = 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Msi {
    at: usize,
    masking: bool,
    port: MessagePort,
}

impl Msi {
    /// Puts the capability into `config` at `at`: 14 bytes, or 24 with `masking` (each vector can be masked). `vectors` is a
    /// power of two up to 32.
    pub fn new(config: &mut ConfigSpace, at: usize, vectors: u8, masking: bool, port: MessagePort) -> Self {
        assert!(vectors.is_power_of_two() && vectors <= 32, "{vectors} vectors");
        let mut body = [0; 22];
        let mut writable = [0xff; 22];
        body[0] = (vectors.trailing_zeros() as u8) << 1 | IS_64_BIT;
        body[1] = if masking { MASKING } else { 0 };
        // Enable and the number of vectors in use; the address but for its last two bits; 16 bits of data.
        writable[..3].copy_from_slice(&[ENABLE | 0x70, 0, 0xfc]);
        writable[12..14].fill(0);
        let vectors = if vectors == 32 { u32::MAX } else { (1 << vectors) - 1 };
        writable[14..18].copy_from_slice(&vectors.to_le_bytes());
        writable[18..].fill(0);
        let len = if masking { 22 } else { 12 };
        config.add_capability(at, MSI, &body[..len], &writable[..len]);
        if masking {
            (0..4).for_each(|n| config.own(at + PENDING + n, 0xff));
        }
        Self { at, masking, port }
    }

    /// Has the guest turned it on? Then the function must not use its interrupt pin.
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.bytes()[self.at + CONTROL] & ENABLE != 0
    }

    /// How many vectors the guest has given: 1 to 32, and no more than there are.
    pub fn vectors(&self, config: &ConfigSpace) -> u8 {
        let control = config.bytes()[self.at + CONTROL];
        1 << (control >> 4 & 7).min(control >> 1 & 7)
    }

    /// Sends the interrupt `vector`; those that the guest gave no vector of their own share the given ones. Nothing happens
    /// while MSI is off or the function may not master the bus.
    pub fn send(&self, config: &mut ConfigSpace, vector: u8) {
        if !self.enabled(config) {
            return;
        }
        let vector = vector & (self.vectors(config) - 1);
        let (byte, bit) = (usize::from(vector / 8), 1 << (vector & 7));
        if self.masking && config.bytes()[self.at + MASK + byte] & bit != 0 {
            config.set(self.at + PENDING + byte, bit);
            return;
        }
        if config.is_bus_master() {
            let address = config.dword(self.at + ADDRESS);
            let address = u64::from(config.dword(self.at + ADDRESS + 4)) << 32 | u64::from(address);
            let data = config.dword(self.at + DATA) & 0xffff & !u32::from(self.vectors(config) - 1);
            self.port.send(MsiMessage { address, data: data | u32::from(vector) });
        }
    }

    /// Configuration space was written: what was pending and is not masked any more is sent.
    pub fn config_written(&self, config: &mut ConfigSpace) {
        if !self.masking || !self.enabled(config) {
            return;
        }
        let due = config.dword(self.at + PENDING) & !config.dword(self.at + MASK);
        for vector in (0..32).filter(|vector| due >> vector & 1 != 0) {
            config.clear(self.at + PENDING + usize::from(vector / 8), 1 << (vector & 7));
            self.send(config, vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(vectors: u8, masking: bool) -> (ConfigSpace, Msi, MessagePort) {
        let mut config = ConfigSpace::endpoint(0x8086, 0x2922, 0x01_0601, 2);
        let port = MessagePort::new();
        let msi = Msi::new(&mut config, 0x80, vectors, masking, port.clone());
        (config, msi, port)
    }

    fn write(config: &mut ConfigSpace, at: u8, bytes: &[u8]) {
        bytes.iter().enumerate().for_each(|(n, byte)| config.write(at + n as u8, *byte));
    }

    /// As a driver sets it up: address, data, then the enable bit with 2^`log` vectors.
    fn set_up(config: &mut ConfigSpace, log: u8) {
        write(config, 0x84, &[0x0c, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x40, 0x40]);
        write(config, 0x82, &[log << 4 | 1]);
        write(config, 0x04, &[0x06]);
    }

    #[test]
    fn a_driver_finds_and_uses_it() {
        let (mut config, msi, port) = function(1, false);
        assert_eq!((config.bytes()[0x34], config.bytes()[6] & 0x10), (0x80, 0x10));
        assert_eq!((config.capability(MSI), config.capability(0x11)), (Some(0x80), None));
        assert_eq!(config.bytes()[0x80..0x84], [5, 0, 0x80, 0]);
        msi.send(&mut config, 0);
        assert_eq!(port.take(), [], "off");
        set_up(&mut config, 0);
        msi.send(&mut config, 0);
        assert_eq!(port.take(), [MsiMessage { address: 0xfee0_100c, data: 0x4040 }]);
        write(&mut config, 0x84, &[0xff, 0xff]);
        assert_eq!(config.bytes()[0x84], 0xfc);
        write(&mut config, 0x04, &[0x02]);
        msi.send(&mut config, 0);
        assert_eq!(port.take(), [], "no bus master");
        config.reset();
        assert!(!msi.enabled(&config));
    }

    #[test]
    fn vectors_share_what_the_guest_has_given() {
        let (mut config, msi, port) = function(8, false);
        let sent = |config: &mut ConfigSpace, log| {
            set_up(config, log);
            (0..8).for_each(|vector| msi.send(config, vector));
            port.take().iter().map(|message| message.data & 0xff).collect::<Vec<_>>()
        };
        assert_eq!(sent(&mut config, 0), [0x40]);
        assert_eq!(sent(&mut config, 1), [0x40, 0x41]);
        assert_eq!(sent(&mut config, 7), (0x40..0x48).collect::<Vec<_>>(), "more than there are");
    }

    #[test]
    fn masked_vectors_wait_also_in_a_saved_state() {
        let (mut config, msi, port) = function(4, true);
        set_up(&mut config, 2);
        write(&mut config, 0x90, &[0xff, 0xff, 0xff, 0xff]);
        assert_eq!(config.dword(0x90), 0xf, "only the bits of vectors that are there");
        for vector in [1, 3, 1] {
            msi.send(&mut config, vector);
        }
        assert_eq!((port.take(), config.dword(0x94)), (vec![], 0xa));
        write(&mut config, 0x94, &[0]);
        assert_eq!(config.dword(0x94), 0xa, "software does not write it");
        let (mut twin, twins_msi, twins_port) = function(4, true);
        twin.restore(config.bytes());
        for (config, msi, port) in [(&mut config, &msi, &port), (&mut twin, &twins_msi, &twins_port)] {
            write(config, 0x90, &[0x05]);
            msi.config_written(config);
            assert_eq!(port.take().iter().map(|m| m.data).collect::<Vec<_>>(), [0x4041, 0x4043]);
            assert_eq!(config.dword(0x94), 0);
            msi.config_written(config);
            assert_eq!(port.take(), []);
        }
    }
}
