//! A processor with 16 MiB of RAM and one port-logging bus, in 64-bit mode on identity-mapped 2 MiB pages.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex};

use iced_x86::code_asm::CodeAssembler;
use jit::{Engine, EngineConfig, Exit, TierPolicy};
use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, Mmu, Region, RegionKind};
use x86::model::CpuModel;
use x86::state::cr4;
use x86::{Bus, Ns, Vcpu};

pub const RAM: u64 = 16 << 20;
pub const TABLES: u64 = 0x1_0000;
pub const CODE: u64 = 0x10_0000;
pub const STACK: u64 = 0x20_0000;
pub const DATA: u64 = 0x30_0000;
/// Device memory: reads give the low byte of the address times 3, writes are logged.
pub const DEVICE: u64 = 0xf00_0000;
/// A counter of virtual time in it, which a read does not change.
pub const COUNTER: u64 = DEVICE + 0x8f0;
/// The same at a port; reading it takes 300 ns.
pub const COUNTER_PORT: u16 = 0x7608;

/// What devices saw: (port or address, size, value, time); bit 63 of the first is set for reads.
pub type Log = Arc<Mutex<Vec<(u64, u8, u64, Ns)>>>;

#[derive(Default)]
pub struct TestBus {
    pub log: Log,
}

impl Bus for TestBus {
    fn port_in(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        self.log.lock().unwrap().push((1 << 63 | u64::from(port), size, 0, now));
        u32::from(port) * 0x0101
    }
    fn sample_port(&self, port: u16, _: u8, now: Ns) -> Option<u32> {
        (port == COUNTER_PORT).then_some(now as u32)
    }
    fn port_time(&self, port: u16) -> Ns {
        if port == COUNTER_PORT { 300 } else { 0 }
    }
    fn sample_mmio(&self, gpa: u64, _: u8, now: Ns) -> Option<u64> {
        (gpa == COUNTER).then_some(now)
    }
    fn port_out(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        self.log.lock().unwrap().push((u64::from(port), size, value.into(), now));
    }
    fn mmio_read(&mut self, gpa: u64, size: u8, now: Ns) -> u64 {
        self.log.lock().unwrap().push((1 << 63 | gpa, size, 0, now));
        (gpa & 0xff) * 3
    }
    fn mmio_write(&mut self, gpa: u64, size: u8, value: u64, now: Ns) {
        self.log.lock().unwrap().push((gpa, size, value, now));
    }
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

pub struct Rig {
    pub cpu: Vcpu,
    pub engine: Engine,
    pub space: Arc<AddressSpace>,
    pub log: Log,
}

pub fn config(tier: TierPolicy) -> EngineConfig {
    EngineConfig {
        tier,
        hot_threshold: 2,
        code_cache_bytes: 4 << 20,
        verify: true,
        ..EngineConfig::default()
    }
}

fn processor(space: &Arc<AddressSpace>, log: &Log) -> Vcpu {
    let bus = TestBus { log: Arc::clone(log) };
    let mmu = Mmu::new(Arc::clone(space));
    let mut cpu = Vcpu::new(mmu, Box::new(bus), CpuModel::by_name("max").expect("model"));
    // Programs count on registers that are all zero; after reset EDX names the processor.
    cpu.st.gpr = [0; 32];
    x86::sys::enter_long64(&mut cpu.st, 8, 16, TABLES, CODE);
    cpu.st.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT;
    cpu.st.gpr[x86::state::reg::RSP as usize] = STACK;
    cpu.load_state_changed();
    cpu
}

impl Rig {
    pub fn new(config: EngineConfig) -> Self {
        let ram = GuestRam::new(RAM).expect("RAM");
        let map =
            MemoryMap::new(vec![Region { start: Gpa(0), len: RAM, kind: RegionKind::Ram { offset: 0 } }]);
        let space = AddressSpace::new(ram, map.expect("map"));
        let log = Log::default();
        // PML4 -> PDPT -> PD of 2 MiB pages: the first GiB maps itself.
        let put = |at: u64, v: u64| space.store(Gpa(at), v).expect("tables lie in RAM");
        put(TABLES, (TABLES + 0x1000) | 7);
        put(TABLES + 0x1000, (TABLES + 0x2000) | 7);
        for k in 0..512 {
            put(TABLES + 0x2000 + 8 * k, k << 21 | 0x87);
        }
        let engine = Engine::new(config, Arc::clone(&space));
        Self { cpu: processor(&space, &log), engine, space, log }
    }

    /// Another processor for the same memory, at its first instruction.
    pub fn another(&self) -> Vcpu {
        processor(&self.space, &self.log)
    }

    /// Maps the 2 MiB at `page` by 4 KiB pages; `entry` gives each one's table entry.
    pub fn split(&mut self, page: u64, table: u64, entry: impl Fn(u64) -> u64) {
        for k in 0..512 {
            self.space.store(Gpa(table + 8 * k), entry(page + (k << 12))).expect("RAM");
        }
        self.space.store(Gpa(TABLES + 0x2000 + (page >> 21) * 8), table | 7).expect("RAM");
        self.cpu.mmu.flush(softmmu::Flush::All);
    }

    pub fn load(&mut self, at: u64, code: &[u8]) {
        self.space.write(Gpa(at), code).expect("RAM");
    }

    pub fn load_asm(&mut self, at: u64, f: impl FnOnce(&mut CodeAssembler)) {
        let mut a = CodeAssembler::new(64).expect("assembler");
        f(&mut a);
        let bytes = a.assemble(at).expect("assembles");
        self.load(at, &bytes);
    }

    /// Runs until HLT, a report or `until`; events are nothing to wait for here.
    pub fn run(&mut self, until: u64) -> Exit {
        loop {
            match self.engine.run(&mut self.cpu, until) {
                Exit::Event => {}
                e => return e,
            }
        }
    }

    pub fn word(&self, at: u64) -> u64 {
        self.space.load(Gpa(at)).expect("RAM")
    }

    /// Everything that a guest could see.
    pub fn seen(&mut self) -> Seen {
        let rflags = self.cpu.rflags();
        let s = &self.cpu.st;
        let mut data = vec![0; 0x4000];
        self.space.read(Gpa(DATA - 0x1000), &mut data).expect("RAM");
        let mut stack = vec![0; 0x1000];
        self.space.read(Gpa(STACK - 0xf00), &mut stack).expect("RAM");
        let log = self.log.lock().unwrap().clone();
        Seen {
            gpr: s.gpr[..16].try_into().unwrap(),
            rip: s.rip,
            rflags,
            icount: s.icount(),
            xmm: s.xmm,
            mxcsr: s.mxcsr,
            cr2: s.cr2,
            memory: [data, stack].concat(),
            log,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub icount: u64,
    pub xmm: [[u64; 2]; 16],
    pub mxcsr: u32,
    pub cr2: u64,
    pub memory: Vec<u8>,
    pub log: Vec<(u64, u8, u64, Ns)>,
}

impl Seen {
    /// Panics with what differs.
    pub fn same_as(&self, other: &Self, what: &str) {
        if self == other {
            return;
        }
        let mut text = format!("{what}:\n");
        for r in 0..16 {
            if self.gpr[r] != other.gpr[r] {
                text += &format!("  gpr {r}: {:#x} / {:#x}\n", self.gpr[r], other.gpr[r]);
            }
            if self.xmm[r] != other.xmm[r] {
                text += &format!("  xmm {r}: {:x?} / {:x?}\n", self.xmm[r], other.xmm[r]);
            }
        }
        for (name, a, b) in [
            ("rip", self.rip, other.rip),
            ("rflags", self.rflags, other.rflags),
            ("icount", self.icount, other.icount),
            ("mxcsr", self.mxcsr.into(), other.mxcsr.into()),
            ("cr2", self.cr2, other.cr2),
        ] {
            if a != b {
                text += &format!("  {name}: {a:#x} / {b:#x}\n");
            }
        }
        if let Some(k) = (0..self.memory.len()).find(|k| self.memory[*k] != other.memory[*k]) {
            text +=
                &format!("  memory differs at byte {k:#x}: {:#x} / {:#x}\n", self.memory[k], other.memory[k]);
        }
        if self.log != other.log {
            text += &format!("  log: {:x?}\n     / {:x?}\n", self.log, other.log);
        }
        panic!("{text}");
    }
}

/// A small deterministic generator (xorshift64*).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
