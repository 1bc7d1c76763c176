//! A bare processor in 64-bit mode, with an engine, 16 MiB of RAM and one device.
//!
//! | virtual | mapped to |
//! | --- | --- |
//! | 0.. 1 GiB | itself, by 2 MiB pages, global as a kernel's own pages are |
//! | [`SMALL`].. 1 GiB | 512 RAM pages over and over, by 4 KiB pages, not global |
//! | [`LARGE`].. 1 GiB | 2 MiB of RAM over and over, by 2 MiB pages, not global |
//!
//! The two windows are wide enough to miss in the TLB for ever, over RAM that stays in the host's caches: what is
//! measured is the translation and not the host's memory.

use std::sync::Arc;

use jit::{Engine, EngineConfig, Exit, TierPolicy};
use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, Mmu, Region, RegionKind};
use x86::model::CpuModel;
use x86::state::{cr4, reg};
use x86::{Bus, Ns, Vcpu};

/// Bytes of RAM.
pub const RAM: u64 = 16 << 20;
/// Root of the page tables.
pub const ROOT: u64 = 0x1_0000;
/// A second root with the same contents: another process that shares all its memory with the first.
pub const OTHER_ROOT: u64 = 0x1_1000;
/// Where programs begin.
pub const CODE: u64 = 0x10_0000;
/// Top of the stack.
pub const STACK: u64 = 0x20_0000;
/// Memory for programs' data; it has nothing else behind it.
pub const DATA: u64 = 0x30_0000;
/// A page of device memory, see [`Counter`].
pub const DEVICE: u64 = 0xf00_0000;
/// The register there that a read does not change, like the HPET's counter: see [`Bus::sample_mmio`].
pub const COUNTER: u64 = 0xf0;
/// A port of that kind, like the ACPI timer.
pub const COUNTER_PORT: u16 = 0x608;
/// Window of 4 KiB pages.
pub const SMALL: u64 = 1 << 30;
/// Window of 2 MiB pages.
pub const LARGE: u64 = 2 << 30;

const PDPT: u64 = 0x1_2000;
const IDENTITY: u64 = 0x1_3000;
const SMALL_DIRECTORY: u64 = 0x1_4000;
const SMALL_TABLE: u64 = 0x1_5000;
const LARGE_DIRECTORY: u64 = 0x1_6000;
/// RAM behind both windows.
const WINDOW: u64 = 8 << 20;

/// Page table entry bits (SDM vol. 3, 4.5): present, writable, accessed, dirty.
const PAGE: u64 = 0x63;
const PAGE_2M: u64 = PAGE | 0x80;
const GLOBAL: u64 = 0x100;

/// The cheapest useful device: a counter that shows the virtual time, as the HPET's main counter does, in every
/// register and at every port. What is left to measure is the way to it.
#[derive(Debug)]
pub struct Counter;

impl Bus for Counter {
    fn port_in(&mut self, _: u16, _: u8, now: Ns) -> u32 {
        now as u32
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32, _: Ns) {}
    fn mmio_read(&mut self, _: u64, _: u8, now: Ns) -> u64 {
        now
    }
    fn sample_port(&self, port: u16, _: u8, now: Ns) -> Option<u32> {
        (port == COUNTER_PORT).then_some(now as u32)
    }
    fn sample_mmio(&self, gpa: u64, _: u8, now: Ns) -> Option<u64> {
        (gpa == DEVICE + COUNTER).then_some(now)
    }
    fn mmio_write(&mut self, _: u64, _: u8, _: u64, _: Ns) {}
    fn interrupt_pending(&mut self) -> bool {
        false
    }
    fn interrupt_acknowledge(&mut self, _: Ns) -> Option<u8> {
        None
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn apic_base(&self) -> u64 {
        0xfee0_0900
    }
    fn set_apic_base(&mut self, _: u64, _: Ns) -> bool {
        true
    }
    fn cr8(&self) -> u8 {
        0
    }
    fn set_cr8(&mut self, _: u8, _: Ns) {}
    fn tsc_deadline(&mut self, _: Ns) -> u64 {
        0
    }
    fn set_tsc_deadline(&mut self, _: u64, _: Ns) {}
    fn x2apic_read(&mut self, _: u32, _: Ns) -> Option<u64> {
        None
    }
    fn x2apic_write(&mut self, _: u32, _: u64, _: Ns) -> bool {
        false
    }
    fn ferr(&mut self, _: bool, _: Ns) {}
}

/// See the module.
pub struct Rig {
    /// The processor.
    pub cpu: Vcpu,
    /// Its engine.
    pub engine: Engine,
    /// Its memory.
    pub space: Arc<AddressSpace>,
}

impl Rig {
    /// A processor at [`CODE`] that runs everything in `tier`.
    pub fn new(tier: TierPolicy) -> Self {
        let ram = GuestRam::new(RAM).expect("16 MiB of memory");
        let map = MemoryMap::new(vec![
            Region { start: Gpa(0), len: RAM, kind: RegionKind::Ram { offset: 0 } },
            Region { start: Gpa(DEVICE), len: 0x1000, kind: RegionKind::Mmio { id: 0 } },
        ]);
        let space = AddressSpace::new(ram, map.expect("two regions apart"));
        write_tables(&space);
        let model = CpuModel::by_name("max").expect("a model");
        let mut cpu = Vcpu::new(Mmu::new(Arc::clone(&space)), Box::new(Counter), model);
        x86::sys::enter_long64(&mut cpu.st, 8, 16, ROOT, CODE);
        cpu.st.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PGE;
        cpu.st.gpr[reg::RSP as usize] = STACK;
        cpu.load_state_changed();
        // As a user's machine has it, but for the tier: no checks of ours inside the compiler.
        let config =
            EngineConfig { tier, verify: false, code_cache_bytes: 4 << 20, ..EngineConfig::default() };
        let engine = Engine::new(config, Arc::clone(&space));
        Self { cpu, engine, space }
    }

    /// A processor that has run the beginning of a program at [`CODE`]: what it needs is translated.
    pub fn running(tier: TierPolicy, code: &[u8]) -> Self {
        let mut rig = Self::new(tier);
        rig.space.write(Gpa(CODE), code).expect("code lies in RAM");
        rig.run(50_000);
        rig
    }

    /// Runs `instructions` more.
    ///
    /// # Panics
    /// When the program stops before.
    pub fn run(&mut self, instructions: u64) {
        let until = self.cpu.st.icount() + instructions;
        loop {
            match self.engine.run(&mut self.cpu, until) {
                Exit::Event => {}
                Exit::Deadline => return,
                end => panic!("a program without an end ended at {:#x}: {end:?}", self.cpu.st.rip),
            }
        }
    }
}

fn write_tables(space: &AddressSpace) {
    let put = |table: u64, index: u64, entry: u64| {
        space.store(Gpa(table + 8 * index), entry).expect("tables lie in RAM");
    };
    put(ROOT, 0, PDPT | PAGE);
    put(OTHER_ROOT, 0, PDPT | PAGE);
    for (index, directory) in (0..).zip([IDENTITY, SMALL_DIRECTORY, LARGE_DIRECTORY]) {
        put(PDPT, index, directory | PAGE);
    }
    for k in 0..512 {
        put(IDENTITY, k, k << 21 | PAGE_2M | GLOBAL);
        put(SMALL_DIRECTORY, k, SMALL_TABLE | PAGE);
        put(SMALL_TABLE, k, (WINDOW + (k << 12)) | PAGE);
        put(LARGE_DIRECTORY, k, WINDOW | PAGE_2M);
    }
}
