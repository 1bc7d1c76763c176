//! What the board's samples derive from, for processors that run at the same time and do not hold the devices.
//!
//! The HPET's counter and the ACPI PM timer are functions of time and of a few words that hardly ever change. Whoever holds the devices
//! publishes these words ([`PcDevices::publish_samples`]); a read then takes no lock and writes nothing that others see.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{PcDevices, wiring};
use crate::Ns;
use crate::acpi_pm::{PM_TMR, pm_timer};
use crate::hpet::{HPET_BASE, HPET_LEN, HpetCounter};
use crate::published::Published;

/// No port has more bits than this.
const NO_PORT: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub struct BoardSamples {
    hpet: Published<3>,
    /// The PM timer's port, or [`NO_PORT`].
    pm_timer: AtomicU32,
}

fn words(counter: HpetCounter) -> [u64; 3] {
    let HpetCounter { runs, value, since } = counter;
    [runs.into(), value, since]
}

impl BoardSamples {
    /// Is an access at `gpa` one that may move the HPET's counter?
    pub fn governs(gpa: u64) -> bool {
        gpa.wrapping_sub(HPET_BASE) < HPET_LEN
    }

    /// Before the time is read for a write that may move the HPET's counter.
    pub fn begin(&self) {
        self.hpet.begin();
    }

    /// The sample at `gpa`, of the time that `clock` gives; `None`: there is none, or it is being changed. Who reads has made sure that
    /// its local APIC's window is not there.
    #[inline]
    pub fn memory(&self, gpa: u64, size: u8, clock: impl FnOnce() -> Ns) -> Option<u64> {
        let offset = gpa.wrapping_sub(HPET_BASE);
        if offset >= HPET_LEN {
            return None;
        }
        let ([runs, value, since], now) = self.hpet.read(clock)?;
        HpetCounter { runs: runs != 0, value, since }.sample(offset, size, now)
    }

    /// The sample at `port`, of the time that `clock` gives.
    #[inline]
    pub fn port(&self, port: u16, size: u8, clock: impl FnOnce() -> Ns) -> Option<u32> {
        // Pairs with nothing: the port is all there is, and who moves it sees its own store.
        let sampled = size == 4 && u32::from(port) == self.pm_timer.load(Ordering::Relaxed);
        sampled.then(|| pm_timer(clock()))
    }
}

impl PcDevices {
    /// The PM timer's port, where the guest has put it and nothing else is.
    pub(super) fn pm_timer_port(&self) -> Option<u16> {
        let port = self.pci.chipset.pm_base()?.wrapping_add(PM_TMR);
        // Fixed ports and those of test devices come before the block that a guest may put over them.
        let elsewhere = wiring::fixed(port).is_some() || self.harness.decode(port).is_some();
        (self.acpi.is_timer(port) && !elsewhere).then_some(port)
    }

    /// What samples derive from now.
    pub fn samples(&self) -> BoardSamples {
        let pm_timer = AtomicU32::new(self.pm_timer_port().map_or(NO_PORT, u32::from));
        BoardSamples { hpet: Published::new(words(self.hpet.counting())), pm_timer }
    }

    /// After an access that [`BoardSamples::governs`], for which [`BoardSamples::begin`] was called.
    pub fn end_samples(&self, samples: &BoardSamples) {
        samples.hpet.end(words(self.hpet.counting()));
    }

    /// After any other access that may have moved something.
    pub fn publish_samples(&self, samples: &BoardSamples) {
        let port = self.pm_timer_port().map_or(NO_PORT, u32::from);
        if samples.pm_timer.load(Ordering::Relaxed) != port {
            samples.pm_timer.store(port, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi_pm::PM_BASE;
    use crate::pc::PcConfig;

    /// As a processor that runs in parallel accesses memory.
    fn write(pc: &mut PcDevices, samples: &BoardSamples, at: u64, value: u64, now: Ns) {
        samples.begin();
        assert_eq!(samples.memory(HPET_BASE + 0xf0, 8, || now), None, "it is being changed");
        pc.mmio_write(0, at, 8, value, now);
        pc.end_samples(samples);
    }

    #[test]
    fn what_is_published_gives_what_the_devices_give() {
        let mut pc = PcDevices::new(&PcConfig { cpus: 1, ..PcConfig::default() });
        let samples = pc.samples();
        // Halted, running, written, halted again.
        for (n, (register, value)) in
            [(0x10, 1), (0xf0, 0xffff_ffff_ffff_fff0), (0x10, 0), (0xf0, 7)].into_iter().enumerate()
        {
            let now = 1_000_005 * (n as u64 + 1);
            write(&mut pc, &samples, HPET_BASE + register, value, now);
            for later in [now, now + 9, now + 123_456] {
                for (offset, size) in [(0, 8), (4, 4), (0xf0, 8), (0xf0, 4), (0xf4, 4)] {
                    let sample = samples.memory(HPET_BASE + offset, size, || later);
                    assert_eq!(sample, Some(pc.mmio_read(0, HPET_BASE + offset, size, later)));
                }
            }
        }
        assert_eq!(samples.memory(HPET_BASE + 0x10, 8, || 0), None);
        assert_eq!(samples.memory(HPET_BASE - 8, 8, || 0), None);
    }

    #[test]
    fn the_pm_timer_is_sampled_where_it_is() {
        const PM_REGISTERS: u32 = 0x8000_0b40;
        let mut pc = PcDevices::new(&PcConfig { cpus: 1, ..PcConfig::default() });
        let samples = pc.samples();
        let sampled = |samples: &BoardSamples| -> Vec<u16> {
            (0..=u16::MAX).filter(|port| samples.port(*port, 4, || 5_000_000).is_some()).collect()
        };
        assert_eq!(sampled(&samples), [PM_BASE + PM_TMR]);
        assert_eq!(samples.port(PM_BASE + PM_TMR, 2, || 0), None);
        assert_eq!(
            samples.port(PM_BASE + PM_TMR, 4, || 5_000_000),
            Some(pc.port_read(PM_BASE + PM_TMR, 4, 5_000_000))
        );
        for (base, wanted) in [(0xb001, vec![0xb000 + PM_TMR]), (0x3c1, vec![]), (1, vec![])] {
            pc.port_write(0xcf8, 4, PM_REGISTERS, 0);
            pc.port_write(0xcfc, 4, base, 0);
            pc.publish_samples(&samples);
            assert_eq!(sampled(&samples), wanted, "{base:#x}");
        }
    }
}
