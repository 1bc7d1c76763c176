//! The system side, executed instruction by instruction on a processor with 1 MiB of RAM and a bus without devices.

mod debug;
mod edges;
mod gates;
mod integer;
mod limits;
mod long;
mod long_gates;
mod models;
mod paging;
mod protected;
mod real;
mod registers;
mod remaining;
mod rules;
mod smm;
mod tasks;
mod vme;

use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, Mmu, Region, RegionKind};

use super::*;
use crate::bus::{Bus, Ns};
use crate::model::CpuModel;
use crate::state::{Fault, reg, rflags, seg, stop};
use crate::{decode, interp};

const RAM: u64 = 1 << 20;
/// Where [`Machine::run`] puts code.
const CODE: u64 = 0x4000;

/// A bus with nothing on it but one interrupt, an NMI and the last port write.
#[derive(Default)]
struct Nothing {
    interrupt: Option<u8>,
    nmi: bool,
    smi: bool,
    init: bool,
    a20_off: bool,
    port_time: Ns,
}

impl Bus for Nothing {
    fn port_in(&mut self, port: u16, _: u8, _: Ns) -> u32 {
        0xabcd_0000 | u32::from(port)
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32, _: Ns) {}
    fn port_time(&self, _: u16) -> Ns {
        self.port_time
    }
    fn mmio_read(&mut self, _: u64, _: u8, _: Ns) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: u64, _: u8, _: u64, _: Ns) {}
    fn interrupt_pending(&mut self) -> bool {
        self.interrupt.is_some()
    }
    fn interrupt_acknowledge(&mut self, _: Ns) -> Option<u8> {
        self.interrupt.take()
    }
    fn a20(&self) -> bool {
        !self.a20_off
    }
    fn take_init(&mut self) -> bool {
        std::mem::take(&mut self.init)
    }
    fn take_smi(&mut self) -> bool {
        std::mem::take(&mut self.smi)
    }
    fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }
    fn apic_base(&self) -> u64 {
        0xfee0_0900
    }
    fn set_apic_base(&mut self, _: u64, _: Ns) -> bool {
        true
    }
    fn cr8(&self) -> u8 {
        5
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

struct Machine {
    cpu: Vcpu,
}

impl Machine {
    fn new() -> Self {
        Self::with_bus(Nothing::default())
    }

    fn with_bus(bus: Nothing) -> Self {
        let ram = GuestRam::new(RAM).expect("1 MiB of RAM");
        let region = Region { start: Gpa(0), len: RAM, kind: RegionKind::Ram { offset: 0 } };
        let map = MemoryMap::new(vec![region]).expect("one region");
        let space = AddressSpace::new(ram, map);
        let mut cpu = Vcpu::new(Mmu::new(space), Box::new(bus), CpuModel::default());
        cpu.st.gpr[reg::RSP as usize] = 0x8000;
        cpu.st.budget = 1 << 20;
        cpu.st.icount_end = 1 << 20;
        for s in &mut cpu.st.seg {
            s.base = 0;
            s.selector = 0;
        }
        Self { cpu }
    }

    fn put<const N: usize>(&mut self, at: u64, bytes: [u8; N]) {
        self.cpu.mmu.space().write(Gpa(at), &bytes).expect("in RAM");
    }
    fn put64(&mut self, at: u64, v: u64) {
        self.put(at, v.to_le_bytes());
    }
    fn put32(&mut self, at: u64, v: u32) {
        self.put(at, v.to_le_bytes());
    }
    fn put16(&mut self, at: u64, v: u16) {
        self.put(at, v.to_le_bytes());
    }
    fn get64(&self, at: u64) -> u64 {
        self.cpu.mmu.space().load::<u64>(Gpa(at)).expect("in RAM")
    }
    fn get32(&self, at: u64) -> u32 {
        self.get64(at) as u32
    }
    fn get16(&self, at: u64) -> u16 {
        self.get64(at) as u16
    }
    fn reg(&mut self, r: u8) -> &mut u64 {
        &mut self.cpu.st.gpr[r as usize]
    }
    fn sel(&self, s: u8) -> u16 {
        self.cpu.st.seg[s as usize].selector
    }

    /// Executes the instruction at RIP.
    fn step(&mut self) -> Result<(), Fault> {
        let at = decode::fetch_address(&mut self.cpu);
        let at = at.map_err(|_| self.cpu.st.fault)?;
        let bytes: Vec<u8> = (0..32).map(|k| self.cpu.mmu.read::<u8>(at + k).unwrap_or(0x90)).collect();
        let isa = self.cpu.model.isa();
        let block = isa.single(&bytes, self.cpu.st.rip, self.cpu.st.mode).expect("decodes");
        // The engine's part: the shadow covers the instruction that is executed now.
        self.cpu.st.shadow = crate::state::Shadow::None;
        interp::run_single(&mut self.cpu, &block.insns[0]);
        match self.cpu.st.stop {
            stop::FAULT => Err(self.cpu.st.fault),
            stop::NONE | stop::AFTER => Ok(()),
            other => panic!("stop {other}: {:?}", self.cpu.report),
        }
    }

    /// Executes one instruction given as bytes, placed at [`CODE`].
    fn run(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let base =
            if self.cpu.st.mode.has(Mode::CODE64) { 0 } else { self.cpu.st.seg[seg::CS as usize].base };
        self.cpu.mmu.space().write(Gpa(CODE), bytes).expect("in RAM");
        self.cpu.st.rip = CODE - base;
        self.step()
    }

    fn bus(&mut self, bus: Nothing) {
        self.cpu.bus = Box::new(bus);
    }
}

fn gp(code: u32) -> Fault {
    Fault { vector: 13, has_code: true, code, info: 0 }
}
fn fault(vector: u8, code: u32) -> Fault {
    Fault { vector, has_code: true, code, info: 0 }
}
fn ud() -> Fault {
    Fault { vector: 6, ..Fault::default() }
}

/// A descriptor from base, limit (as encoded), access byte and flags nibble.
fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | u64::from(access) << 40
        | (limit >> 16 & 15) << 48
        | u64::from(flags) << 52
        | (base >> 24) << 56
}

/// A gate from selector, offset, access byte and parameter count (or IST).
fn gate(selector: u16, offset: u32, access: u8, count: u8) -> u64 {
    let offset = u64::from(offset);
    offset & 0xffff
        | u64::from(selector) << 16
        | u64::from(count) << 32
        | u64::from(access) << 40
        | (offset >> 16) << 48
}
