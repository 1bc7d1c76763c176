//! How long port accesses take in virtual time.
//!
//! Guests count on it: a write to port 80h is the usual way to wait a microsecond, and polls of the keyboard controller or of
//! the 8254 are bounded by a number of accesses. If an access took one instruction's time only, such loops would run
//! out early or make a thousand times as many accesses as on a real PC.

use crate::Ns;

/// An 8-bit cycle on the ISA bus: 6 clocks at 8.33 MHz, and what the bridge adds.
const ISA: Ns = 1_000;
/// A PIO mode 4 cycle (ATA-4, 9.3 table 39): data and registers of the IDE channels.
const ATA: Ns = 120;
/// A port that a PCI function or the host bridge decodes.
const PCI: Ns = 300;

/// Virtual nanoseconds that one access to `port` takes, of any size, in addition to the instruction's own.
#[must_use]
pub fn port_time(port: u16) -> Ns {
    match port {
        0x170..=0x177 | 0x1f0..=0x1f7 | 0x376 | 0x3f6 => ATA,
        0..=0x3ff => ISA,
        _ => PCI,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_80h_takes_a_microsecond_and_disk_data_less() {
        assert_eq!(port_time(0x80), 1_000);
        assert!(port_time(0x1f0) < port_time(0x3f8) / 4, "programmed I/O is not throttled to ISA's pace");
        assert!(port_time(0xcf8) < port_time(0x3ff));
    }
}
