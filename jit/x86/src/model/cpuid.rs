//! The leaves of CPUID (SDM vol. 2, CPUID).
//!
//! What depends on the control registers (OSXSAVE, SYSCALL, the XSAVE area's size) is computed when CPUID executes.

use super::features::{Feature, Place};
use super::{CpuModel, TSC_HZ, Vendor};
use crate::state::{CpuState, Mode, cr4};

/// Highest hypervisor leaf: 40000010h gives the TSC and APIC bus frequencies in kHz, as several hypervisors do.
const MAX_HYPERVISOR: u32 = 0x4000_0010;
const BRAND: &[u8] = b"Retrograde vCPU @ 1.00GHz";

impl CpuModel {
    /// CPUID: EAX, EBX, ECX, EDX for a leaf and subleaf.
    pub fn cpuid(&self, st: &CpuState, leaf: u32, sub: u32) -> [u32; 4] {
        // SDM CPUID: an input above the maximum of its range gives the data of the highest basic leaf.
        let (basic, extended) = (self.identity.max_basic, self.identity.max_extended);
        let leaf = match leaf {
            0x4000_0000..=MAX_HYPERVISOR if self.has(Feature::Hypervisor) => leaf,
            _ if leaf <= basic || (0x8000_0000..=extended).contains(&leaf) => leaf,
            _ => basic,
        };
        match leaf {
            0 => match self.vendor {
                Vendor::Intel => registers(basic, b"GenuineIntel", [0, 2, 1]),
                Vendor::Amd => registers(basic, b"AuthenticAMD", [0, 2, 1]),
            },
            1 => self.leaf_1(st),
            // SDM CPUID, table 3-12: TLBs (01h, 02h, 03h, 04h), L1I and L1D of 16 KiB (08h, 0Ch), L2 of 512 KiB (43h).
            2 if basic < 4 => [0x0302_0101, 0, 0, 0x0c04_0843],
            // No descriptors: the caches are in leaf 4. Programs that read this ask there until it has no more to say.
            2 => [0x0000_ff01, 0, 0, 0],
            4 => self.caches(sub),
            // MONITOR's line, that MWAIT has hints and breaks on masked interrupts, and one C1 state.
            5 if self.has(Feature::Monitor) => [64, 64, 3, 0x10],
            6 => [self.bits(Place::L6A), 0, 0, 0],
            7 if sub == 0 => self.leaf_7(st),
            7 if sub == 2 => [0, 0, 0, self.bits(Place::L72D)],
            0xb | 0x1f => self.levels(sub),
            0xd => self.xsave(st, sub),
            // SDM vol. 3, 19.7.3: the crystal's frequency and the ratio of the TSC to it.
            0x15 => [1, 1, TSC_HZ, 0],
            0x16 => [TSC_HZ / 1_000_000, TSC_HZ / 1_000_000, 100, 0],
            0x4000_0000 => registers(MAX_HYPERVISOR, b"RetrogradeVM", [0, 1, 2]),
            0x4000_0010 => [TSC_HZ / 1000, TSC_HZ / 1000, 0, 0],
            0x8000_0000 => match self.vendor {
                Vendor::Intel => [extended, 0, 0, 0],
                Vendor::Amd => registers(extended, b"AuthenticAMD", [0, 2, 1]),
            },
            0x8000_0001 => {
                let mut d = self.bits(Place::X1D);
                // Intel shows SYSCALL in 64-bit mode only.
                if self.vendor == Vendor::Intel && !st.mode.has(Mode::CODE64) {
                    d &= !(1 << 11);
                }
                // CmpLegacy: more than one core in the package.
                let several = self.vendor == Vendor::Amd && self.topology.per_package() > 1;
                [0, 0, self.bits(Place::X1C) | u32::from(several) << 1, d]
            }
            0x8000_0002..=0x8000_0004 => brand(leaf - 0x8000_0002),
            // L2: 2 MiB, 16-way, 64-byte lines.
            0x8000_0006 => [0, 0, 2048 << 16 | 8 << 12 | 64, 0],
            0x8000_0007 => [0, 0, 0, self.bits(Place::X7D)],
            0x8000_0008 => {
                let linear = match (self.has(Feature::Lm), self.has(Feature::La57)) {
                    (false, _) => 32,
                    (true, false) => 48,
                    (true, true) => 57,
                };
                // APM vol. 3, E.4.7: cores (threads count) of the package, and the width of the APIC ids in it.
                let last = self.topology.per_package().saturating_sub(1);
                let cores = if self.vendor == Vendor::Amd && last > 0 {
                    last.min(255) | self.topology.package_bits() << 12
                } else {
                    0
                };
                [u32::from(self.phys_bits) | linear << 8, 0, cores, 0]
            }
            _ => [0; 4],
        }
    }

    fn leaf_1(&self, st: &CpuState) -> [u32; 4] {
        let mut c = self.bits(Place::L1C);
        if st.cr4 & cr4::OSXSAVE != 0 {
            c |= 1 << 27;
        }
        if st.msr.misc_enable & 1 << 18 == 0 {
            // IA32_MISC_ENABLE hides MONITOR.
            c &= !(1 << 3);
        }
        let mut d = self.bits(Place::L1D);
        if self.topology.per_package() > 1 {
            d |= 1 << 28;
        }
        // CLFLUSH line in 8-byte units, addressable ids in the package, initial APIC id.
        let ids = (1 << self.topology.package_bits()).min(255);
        [self.signature(), 8 << 8 | ids << 16 | (self.apic_id & 0xff) << 24, c, d]
    }

    fn leaf_7(&self, st: &CpuState) -> [u32; 4] {
        // OSPKE shows CR4.PKE.
        let ospke = if st.cr4 & cr4::PKE != 0 { 1 << 4 } else { 0 };
        let last = if self.bits(Place::L72D) != 0 { 2 } else { 0 };
        [last, self.bits(Place::L7B), self.bits(Place::L7C) | ospke, self.bits(Place::L7D)]
    }

    /// Leaf 4: L1D and L1I of 32 KiB, L2 of 2 MiB, a shared L3 of 16 MiB, all with 64-byte lines.
    fn caches(&self, sub: u32) -> [u32; 4] {
        let all = (1 << self.topology.package_bits()) - 1;
        let core = (1 << self.topology.thread_bits()) - 1;
        let (kind, level, sharing, ways, sets, flags) = match sub {
            0 => (1, 1, core, 8, 64, 0),
            1 => (2, 1, core, 8, 64, 0),
            2 => (3, 2, core, 16, 2048, 0),
            3 => (3, 3, all, 16, 16384, 4),
            _ => return [0; 4],
        };
        let cores = (all >> self.topology.thread_bits()).min(63);
        let a = kind | level << 5 | 1 << 8 | sharing.min(0xfff) << 14 | cores << 26;
        [a, 63 | (ways - 1) << 22, sets - 1, flags]
    }

    /// Leaves 0Bh and 1Fh: threads in the core, processors in the package.
    fn levels(&self, sub: u32) -> [u32; 4] {
        let t = &self.topology;
        match sub {
            0 => [t.thread_bits(), t.threads, 1 << 8, self.apic_id],
            1 => [t.package_bits(), t.per_package(), 1 | 2 << 8, self.apic_id],
            _ => [0, 0, sub & 0xff, self.apic_id],
        }
    }

    fn xsave(&self, st: &CpuState, sub: u32) -> [u32; 4] {
        if !self.has(Feature::Xsave) {
            return [0; 4];
        }
        let mask = self.xcr0_mask();
        match sub {
            0 => [mask as u32, standard_size(st.xcr0), standard_size(mask), 0],
            1 => [self.bits(Place::LdA), compacted_size(st.xcr0), 0, 0],
            _ => match COMPONENTS.iter().find(|c| c.bit == sub) {
                Some(c) if mask >> c.bit & 1 != 0 => [c.size, c.offset, 0, 0],
                _ => [0; 4],
            },
        }
    }
}

/// An extended state component of the XSAVE area.
struct Component {
    /// Its bit in XCR0.
    bit: u32,
    /// Bytes.
    size: u32,
    /// Place in the standard format: where processors have it that also have MPX.
    offset: u32,
}

/// AVX (the upper halves of YMM) and PKRU.
const COMPONENTS: [Component; 2] =
    [Component { bit: 2, size: 256, offset: 576 }, Component { bit: 9, size: 8, offset: 2688 }];

/// Bytes of the legacy area and the header, with which every XSAVE area begins.
const XSAVE_BASE: u32 = 576;

fn enabled(mask: u64) -> impl Iterator<Item = &'static Component> {
    COMPONENTS.iter().filter(move |c| mask >> c.bit & 1 != 0)
}

/// Bytes of an XSAVE area in standard format with the components in `mask` (SDM vol. 1, 13.4.2).
pub fn standard_size(mask: u64) -> u32 {
    enabled(mask).map(|c| c.offset + c.size).max().unwrap_or(XSAVE_BASE)
}

/// Bytes of an XSAVE area in compacted format with the components in `mask` (SDM vol. 1, 13.4.3).
pub fn compacted_size(mask: u64) -> u32 {
    XSAVE_BASE + enabled(mask).map(|c| c.size).sum::<u32>()
}

/// Where component `bit` lies in an XSAVE area: in compacted format behind those before it in `map`.
pub fn component_offset(bit: u32, map: Option<u64>) -> u64 {
    let standard = COMPONENTS.iter().find(|c| c.bit == bit).map_or(0, |c| c.offset);
    u64::from(map.map_or(standard, |map| compacted_size(map & ((1 << bit) - 1))))
}

/// A leaf that gives its maximum and a 12-byte text, whose parts go to EBX, ECX, EDX in the order `order`.
fn registers(max: u32, text: &[u8; 12], order: [usize; 3]) -> [u32; 4] {
    let part =
        |n: usize| u32::from_le_bytes([text[4 * n], text[4 * n + 1], text[4 * n + 2], text[4 * n + 3]]);
    [max, part(order[0]), part(order[1]), part(order[2])]
}

fn brand(n: u32) -> [u32; 4] {
    let byte = |k: usize| u32::from(BRAND.get(n as usize * 16 + k).copied().unwrap_or(0));
    std::array::from_fn(|r| (0..4).fold(0, |v, k| v | byte(4 * r + k) << (8 * k)))
}
