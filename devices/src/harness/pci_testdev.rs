//! pci-testdev (1b36:0005), as QEMU has it: BAR 0 is 4 KiB of memory, BAR 1 256 ports, and each begins with a header by
//! which a guest learns what to write where, and how many such writes arrived (QEMU's docs/specs/pci-testdev).
//!
//! Writing a number to the header's first byte starts that test on this BAR; there are three for each. Then the header
//! reads: test, width of the access (1), two zeros, offset (4 bytes), data (4), count (4), name. A write at the offset
//! counts: any value in the second test of a BAR, the header's data in the others. QEMU's three differ in how the host
//! hears of the write, which no guest sees; here all of them count.

use crate::Ns;
use crate::pci::{BarKind, ConfigSpace, PciFunction};

const MEMORY_LEN: u64 = 4096;
const IO_LEN: u64 = 256;
/// Tests on each BAR.
const TESTS: u64 = 3;
const NAMES: [&str; 3] = ["no-eventfd", "wildcard-eventfd", "datamatch-eventfd"];
const DATA_MATCH: u8 = 0xfa;
const DATA_ANY: u8 = 0xce;

/// See the module.
pub struct PciTestdev {
    config: ConfigSpace,
    /// The test that runs: BAR and number.
    current: Option<(u8, u8)>,
    count: u32,
}

impl Default for PciTestdev {
    fn default() -> Self {
        Self::new()
    }
}

impl PciTestdev {
    /// No test runs.
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(0x1b36, 0x0005, 0xff_0000, 0);
        config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.add_bar(0, BarKind::Memory32, MEMORY_LEN);
        config.add_bar(1, BarKind::Io, IO_LEN);
        Self { config, current: None, count: 0 }
    }

    /// Where the test's writes go, within its BAR: the second half, a byte for each test.
    fn offset(bar: u8, test: u8) -> u64 {
        let half = if bar == 0 { MEMORY_LEN } else { IO_LEN } / 2;
        half + u64::from(bar) * TESTS + u64::from(test)
    }

    fn data(test: u8) -> u8 {
        if test == 1 { DATA_ANY } else { DATA_MATCH }
    }

    fn header(&self) -> Vec<u8> {
        let Some((bar, test)) = self.current else { return Vec::new() };
        let mut header = vec![bar * TESTS as u8 + test, 1, 0, 0];
        header.extend_from_slice(&(Self::offset(bar, test) as u32).to_le_bytes());
        header.extend_from_slice(&u32::from(Self::data(test)).to_le_bytes());
        header.extend_from_slice(&self.count.to_le_bytes());
        header.extend_from_slice(if bar == 0 { b"mmio-" } else { b"portio-" });
        header.extend_from_slice(NAMES[usize::from(test)].as_bytes());
        header
    }

    fn byte_written(&mut self, bar: u8, offset: u64, value: u8) {
        if offset == 0 {
            self.count = 0;
            self.current = (u64::from(value) < TESTS).then_some((bar, value));
            return;
        }
        if let Some((bar, test)) = self.current
            && offset == Self::offset(bar, test)
            && (test == 1 || value == Self::data(test))
        {
            self.count = self.count.wrapping_add(1);
        }
    }
}

impl PciFunction for PciTestdev {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn reset(&mut self) {
        (self.current, self.count) = (None, 0);
    }
    fn bar_read(&mut self, _bar: u8, offset: u64, size: u8, _now: Ns) -> u64 {
        let header = self.header();
        (0..u64::from(size)).fold(0, |v, n| {
            let byte = usize::try_from(offset + n).ok().and_then(|at| header.get(at)).copied().unwrap_or(0);
            v | u64::from(byte) << (8 * n)
        })
    }
    fn bar_write(&mut self, bar: u8, offset: u64, size: u8, value: u64, _now: Ns) {
        for (n, byte) in value.to_le_bytes().into_iter().take(size.into()).enumerate() {
            self.byte_written(bar, offset + n as u64, byte);
        }
    }
    fn save(&self) -> Vec<u8> {
        let [bar, test] = self.current.map_or([0xff; 2], |(bar, test)| [bar, test]);
        let mut state = vec![bar, test];
        state.extend_from_slice(&self.count.to_le_bytes());
        state
    }
    fn restore(&mut self, state: &[u8]) {
        let &[bar, test, a, b, c, d] = state else { return self.reset() };
        self.current = (bar < 2 && u64::from(test) < TESTS).then_some((bar, test));
        self.count = u32::from_le_bytes([a, b, c, d]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest does with each BAR, one test after another.
    #[test]
    fn a_guest_runs_all_tests() {
        let mut device = PciTestdev::new();
        for bar in 0..2 {
            let read = |device: &mut PciTestdev, at, size| device.bar_read(bar, at, size, 0);
            for test in 0..TESTS {
                device.bar_write(bar, 0, 1, test, 0);
                assert_eq!(read(&mut device, 1, 1), 1, "width");
                let (offset, data) = (read(&mut device, 4, 4), read(&mut device, 8, 4));
                assert!(offset >= if bar == 0 { 2048 } else { 128 });
                device.bar_write(bar, offset, 1, data, 0);
                device.bar_write(bar, offset, 1, data ^ 1, 0);
                device.bar_write(bar, offset + 1, 1, data, 0);
                assert_eq!(read(&mut device, 12, 4), if test == 1 { 2 } else { 1 }, "count");
                let name: Vec<u8> =
                    (16..).map(|at| read(&mut device, at, 1) as u8).take_while(|b| *b != 0).collect();
                assert!(name.ends_with(NAMES[test as usize].as_bytes()));
                let mut other = PciTestdev::new();
                other.restore(&device.save());
                assert_eq!(read(&mut other, 12, 4), read(&mut device, 12, 4));
            }
            device.bar_write(bar, 0, 1, TESTS, 0);
            assert_eq!(read(&mut device, 1, 1), 0, "no such test");
        }
        device.restore(&[9, 9, 0, 0, 0, 0]);
        assert_eq!(device.bar_read(0, 0, 8, 0), 0, "a damaged snapshot runs no test");
    }
}
