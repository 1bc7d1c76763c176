//! The answers to IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA/ATAPI-6, 8.15 and 8.16).

use super::ata::MAX_MULTIPLE;
use super::drive::{Drive, SECTOR};

/// 256 words.
struct Words([u16; 256]);

impl Words {
    /// Text: two characters per word, the first in the upper half, padded with spaces.
    fn text(&mut self, first: usize, words: usize, text: &str) {
        let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
        for word in &mut self.0[first..first + words] {
            let (a, b) = (bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' '));
            *word = u16::from(a) << 8 | u16::from(b);
        }
    }

    fn number(&mut self, first: usize, words: usize, value: u64) {
        for (n, word) in self.0[first..first + words].iter_mut().enumerate() {
            *word = (value >> (16 * n)) as u16;
        }
    }

    fn bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// What both kinds say: names, and the modes of transfer.
fn common(drive: &Drive, model: &str) -> Words {
    let mut words = Words([0; 256]);
    let serial = drive.medium.as_ref().and_then(|medium| medium.serial().map(str::to_owned));
    words.text(10, 10, &serial.unwrap_or_else(|| format!("RT{:05}", drive.place + 1)));
    words.text(23, 4, "1.0");
    words.text(27, 20, model);
    words.0[49] = 0x0f00; // IORDY, LBA, DMA
    words.0[53] = 0x0007; // words 54 to 58, 64 to 70 and 88 are valid
    words.0[63] = 0x0007 | selected(drive, 0x20, 3);
    words.0[64] = 0x0003; // PIO 3 and 4
    words.number(65, 4, 0x0078_0078_0078_0078);
    words.0[80] = 0x007e; // ATA-1 to ATA/ATAPI-6
    words.0[88] = 0x003f | selected(drive, 0x40, 6);
    if drive.sata {
        words.0[76] = 0x0006; // 1.5 and 3 Gbit/s
        words.0[222] = 0x1020; // serial, SATA 2.5
    } else {
        words.0[93] = 0x6003 | if drive.place & 1 == 0 { 0 } else { 0x0b00 };
    }
    words
}

/// The bit in the upper half for the selected one of `modes` modes from `first` on.
fn selected(drive: &Drive, first: u8, modes: u8) -> u16 {
    match drive.state.transfer_mode.checked_sub(first) {
        Some(mode) if mode < modes => 0x100 << mode,
        _ => 0,
    }
}

/// Cylinders, heads and sectors that a disk of this size reports.
pub(super) fn geometry(sectors: u64) -> (u16, u16, u16) {
    let cylinders = (sectors / (16 * 63)).clamp(2, 16383);
    (cylinders as u16, 16, 63)
}

/// IDENTIFY DEVICE.
pub(super) fn disk(drive: &Drive) -> Vec<u8> {
    let mut words = common(drive, "RETROGRADE HARDDISK");
    let total = drive.sectors();
    let (cylinders, heads, sectors) = geometry(total);
    let s = &drive.state;
    words.0[0] = 0x0040;
    (words.0[1], words.0[3], words.0[6]) = (cylinders, heads, sectors);
    words.0[47] = 0x8000 | u16::from(MAX_MULTIPLE);
    words.0[48] = 1; // 32-bit data register
    let (current_heads, current_sectors) = (u16::from(s.geometry.0), u16::from(s.geometry.1));
    let per_cylinder = u64::from(current_heads) * u64::from(current_sectors);
    let current_cylinders = (total / per_cylinder.max(1)).min(u64::from(cylinders)) as u16;
    (words.0[54], words.0[55], words.0[56]) = (current_cylinders, current_heads, current_sectors);
    words.number(57, 2, u64::from(current_cylinders) * per_cylinder);
    words.0[59] = if s.multiple > 0 { 0x100 | u16::from(s.multiple) } else { 0 };
    words.number(60, 2, total.min((1 << 28) - 1));
    words.0[69] = 0x4000; // trimmed sectors read as before or as zeros
    words.0[82] = 0x4060; // write cache, look-ahead, NOP
    words.0[83] = 0x7400; // 48-bit addresses, FLUSH CACHE and FLUSH CACHE EXT
    words.0[84] = 0x4040; // write FUA
    words.0[85] = 0x4000 | u16::from(s.write_cache) << 5 | u16::from(s.read_ahead) << 6;
    words.0[86] = 0x3400;
    words.0[87] = 0x4040;
    words.number(100, 4, total);
    words.0[106] = 0x4000; // 512-byte sectors
    words.0[169] = 1; // TRIM
    words.0[217] = 1; // not rotating
    if drive.sata {
        words.0[75] = 31; // queue depth - 1
        words.0[76] |= 0x0100; // queued commands
        words.0[84] |= 0x0020; // logs
        words.0[87] |= 0x0020;
    }
    words.bytes()
}

/// IDENTIFY PACKET DEVICE.
pub(super) fn cd(drive: &Drive) -> Vec<u8> {
    let mut words = common(drive, "RETROGRADE DVD-ROM");
    words.0[0] = 0x85c0; // removable CD-ROM, 12-byte packets
    words.0[82] = 0x4210; // NOP, DEVICE RESET, PACKET
    words.0[83] = 0x4000;
    words.0[84] = 0x4000;
    words.0[85] = 0x4210;
    words.0[87] = 0x4000;
    let bytes = words.bytes();
    debug_assert_eq!(bytes.len(), SECTOR);
    bytes
}
