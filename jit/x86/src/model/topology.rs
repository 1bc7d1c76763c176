//! How the machine's processors are arranged, and the APIC ids that follow: bits for the thread in its core, the core in its
//! package, and the package, as SDM vol. 3, 10.9.1 wants them.

use serde::{Deserialize, Serialize};

/// Packages, cores and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Processors that are there: the first so many of those that have a place.
    pub cpus: u32,
    /// Packages.
    pub sockets: u32,
    /// Cores in each.
    pub cores: u32,
    /// Threads in each core.
    pub threads: u32,
}

impl Default for Topology {
    fn default() -> Self {
        Self::cores(1)
    }
}

fn bits(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

impl Topology {
    /// One package with this many cores.
    pub fn cores(cpus: u32) -> Self {
        Self { cpus, sockets: 1, cores: cpus, threads: 1 }
    }

    /// Processors that have a place in a package.
    pub fn per_package(&self) -> u32 {
        self.cores.saturating_mul(self.threads)
    }

    /// Bits of an APIC id that tell threads of one core apart.
    pub fn thread_bits(&self) -> u32 {
        bits(self.threads)
    }

    /// Bits of an APIC id that tell processors of one package apart.
    pub fn package_bits(&self) -> u32 {
        bits(self.cores) + self.thread_bits()
    }

    /// The APIC id of processor number `index`. (An impossible arrangement gives some number.)
    pub fn apic_id(&self, index: u32) -> u32 {
        let (threads, cores) = (self.threads.max(1), self.cores.max(1));
        let (thread, core, package) =
            (index % threads, index / threads % cores, u64::from(index / threads / cores));
        let package = package.checked_shl(self.package_bits()).unwrap_or(u64::MAX);
        (package as u32) | core << self.thread_bits() | thread
    }

    /// The APIC ids of all processors.
    pub fn apic_ids(&self) -> Vec<u32> {
        (0..self.cpus).map(|index| self.apic_id(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_field_for_each_level() {
        assert_eq!(Topology::default().apic_ids(), [0]);
        assert_eq!(Topology::cores(3).apic_ids(), [0, 1, 2]);
        let odd = Topology { cpus: 12, sockets: 2, cores: 3, threads: 2 };
        assert_eq!(odd.apic_ids(), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
        assert_eq!((odd.thread_bits(), odd.package_bits(), odd.per_package()), (1, 3, 6));
    }
}
