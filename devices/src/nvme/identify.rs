//! What IDENTIFY and GET LOG PAGE tell (5.14, 5.15).

use super::{AER_LIMIT, MDTS, VERSION};
use crate::block::SECTOR;

/// Bytes that IDENTIFY gives.
pub(super) const LEN: usize = 4096;
/// Kelvin.
const TEMPERATURE: u16 = 300;
const WARNING_TEMPERATURE: u16 = 343;
const CRITICAL_TEMPERATURE: u16 = 373;

struct Page(Vec<u8>);

impl Page {
    fn new(len: usize) -> Self {
        Self(vec![0; len])
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    /// Text that spaces fill up.
    fn text(&mut self, at: usize, len: usize, text: &str) {
        self.0[at..at + len].fill(b' ');
        let bytes = text.as_bytes();
        self.put(at, &bytes[..bytes.len().min(len)]);
    }
}

/// The controller.
pub(super) fn controller(serial: &str) -> Vec<u8> {
    let mut page = Page::new(LEN);
    page.put(0, &[0x36, 0x1b, 0xf4, 0x1a]);
    page.text(4, 20, serial);
    page.text(24, 40, "Retrograde NVMe Disk");
    page.text(64, 8, "1.0");
    page.put(72, &[6, 0x00, 0x54, 0x52]);
    page.put(77, &[MDTS]);
    page.put(80, &VERSION.to_le_bytes());
    // An I/O controller.
    page.put(111, &[1]);
    // Abort and event limits count from 0; one firmware slot, which is read-only; logs of commands, and by offset.
    page.put(258, &[3, AER_LIMIT - 1, 0x03, 0x06, 0]);
    page.put(266, &[WARNING_TEMPERATURE.to_le_bytes(), CRITICAL_TEMPERATURE.to_le_bytes()].concat());
    // Entries of 64 and 16 bytes, neither more nor less.
    page.put(512, &[0x66, 0x44]);
    page.put(516, &1u32.to_le_bytes());
    // COMPARE, DATASET MANAGEMENT, WRITE ZEROES.
    page.put(520, &0x000du16.to_le_bytes());
    // A volatile write cache; FLUSH knows the namespace that stands for all.
    page.put(525, &[0x07]);
    let name = format!("nqn.2014-08.org.nvmexpress:1b361af4{serial}");
    page.put(768, &name.as_bytes()[..name.len().min(223)]);
    // Power state 0: 25 W.
    page.put(2048, &2500u16.to_le_bytes());
    page.0
}

/// The namespace.
pub(super) fn namespace(sectors: u64, read_only: bool) -> Vec<u8> {
    let mut page = Page::new(LEN);
    for at in [0, 8, 16] {
        page.put(at, &sectors.to_le_bytes());
    }
    page.put(99, &[read_only.into()]);
    // The one format: no metadata, blocks of 2^9 bytes.
    page.put(130, &[SECTOR.trailing_zeros() as u8]);
    page.0
}

/// Identification descriptors of the namespace: a UUID made of the serial number, and its command set.
pub(super) fn descriptors(serial: &str) -> Vec<u8> {
    let hash = |basis: u64| {
        serial.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    };
    let mut uuid =
        [hash(0xcbf2_9ce4_8422_2325).to_le_bytes(), hash(0x8422_2325_cbf2_9ce4).to_le_bytes()].concat();
    // Version 8 (made as its maker likes), variant of RFC 9562.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let mut page = Page::new(LEN);
    page.put(0, &[3, 16]);
    page.put(4, &uuid);
    page.put(20, &[4, 1, 0, 0, 0]);
    page.0
}

/// Namespaces with numbers above `after`.
pub(super) fn active_namespaces(after: u32) -> Vec<u8> {
    let mut page = Page::new(LEN);
    if after == 0 {
        page.put(0, &[1]);
    }
    page.0
}

/// A log page, if there is one of this number.
pub(super) fn log(number: u8) -> Option<Vec<u8>> {
    let mut page = Page::new(match number {
        1 => 64,
        2 | 3 => 512,
        5 => LEN,
        _ => return None,
    });
    match number {
        // Health: temperature, available spare and its threshold.
        2 => {
            page.put(1, &TEMPERATURE.to_le_bytes());
            page.put(3, &[100, 10]);
        }
        // Firmware: slot 1 is active.
        3 => {
            page.put(0, &[1]);
            page.text(8, 8, "1.0");
        }
        // Commands that are there; those that change the contents of blocks.
        5 => {
            for admin in [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c] {
                page.put(4 * admin, &[1]);
            }
            for (command, effects) in [(0x00, 1), (0x01, 3), (0x02, 1), (0x05, 1), (0x08, 3), (0x09, 3)] {
                page.put(1024 + 4 * command, &[effects]);
            }
        }
        _ => {}
    }
    Some(page.0)
}
