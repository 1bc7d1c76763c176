//! Executes cases on a bare processor with flat memory, all of it RAM.
//!
//! Files of the 80286 and later end each case with HLT, and their cases run on the engine of the tier that is asked for.
//! Older ones end when the instruction is over: those cases are single-stepped in tier 0. Between two cases only the bytes
//! that the last one named are cleared.

use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions};
use jit::{Engine, EngineConfig, Exit, TierPolicy};
use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, Mmu, Region, RegionKind};
use x86::model::{CpuModel, Era};
use x86::state::{Shadow, cr0, reg, rflags, seg, stop};
use x86::{Bus, Insn, Ns, Vcpu, interp, sys};

use super::metadata::Revoked;
use super::{Case, EFLAGS, EIP, NAMES, Registers, Vectors};
use crate::harness::state::State;
use crate::harness::undefined;

const MEGABYTE: u64 = 1 << 20;
/// Instructions after which a case that should halt is given up.
const PATIENCE: u64 = 100_000;
/// Times that a case may give control back before it halts: each event is at least one instruction, and a fault whose
/// handler faults at once never gets to one.
const EVENTS: usize = 1000;
const HLT: u8 = 0xf4;
/// Position of CS in [`Registers`].
const CS: usize = 10;

/// Nothing on the bus: input is all ones.
struct Empty {
    /// The 80386EX, which the vectors were made on, answers at 22 and 23 itself: REMAPCFG.
    has_remapcfg: bool,
}

impl Bus for Empty {
    fn port_in(&mut self, port: u16, width: u8, _: Ns) -> u32 {
        const REMAPCFG: [(u16, u32); 2] = [(0x22, 0x7f), (0x23, 0x42)];
        let mut v = u32::MAX;
        for (at, byte) in REMAPCFG {
            let k = u32::from(at.wrapping_sub(port));
            if self.has_remapcfg && k < u32::from(width) {
                v = v & !(0xff << (8 * k)) | byte << (8 * k);
            }
        }
        v
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32, _: Ns) {}
    fn mmio_read(&mut self, _: u64, _: u8, _: Ns) -> u64 {
        u64::MAX
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
        0
    }
    fn set_apic_base(&mut self, _: u64, _: Ns) -> bool {
        false
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

/// The model for a file's processor.
pub fn model_for(cpu: &str) -> Option<&'static str> {
    Some(match cpu {
        "8088" | "8086" => "8086",
        "V20" | "V30" | "v20" | "v30" => "v30",
        "186" | "80186" | "80188" => "80186",
        "C286" | "286" | "80286" => "286",
        "386E" | "386" | "80386" => "386",
        _ => return None,
    })
}

/// How the files of one folder went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases as expected.
    pub passed: usize,
    /// Others.
    pub failed: usize,
    /// Those that the suite's author has revoked: not run.
    pub revoked: usize,
}

/// What is known about a file besides its contents.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// The flags that count; where nobody says, those that the instruction leaves undefined do not.
    pub flags: Option<u32>,
    /// Cases that have been revoked.
    pub revoked: Revoked,
}

/// Flags that the manual leaves undefined after the case's instruction.
fn undefined_flags(case: &Case) -> u32 {
    let x = Decoder::new(16, &case.bytes, DecoderOptions::NONE).decode();
    let mut state = State::default();
    state.gpr[1] = case.initial.registers[4].unwrap_or(0).into();
    if x.is_invalid() { 0 } else { undefined::flags(&x, &state) as u32 }
}

/// A processor with memory.
pub struct Machine {
    cpu: Vcpu,
    engine: Engine,
    space: Arc<AddressSpace>,
}

impl Machine {
    /// A machine of a model that [`CpuModel::new`] knows.
    pub fn new(model: CpuModel, tier: TierPolicy) -> Self {
        let ram = |start: u64, len| Region { start: Gpa(start), len, kind: RegionKind::Ram { offset: 0 } };
        // Twenty address lines before the 80286: the second megabyte is the first.
        let (len, regions) = if model.era() < Era::I286 {
            (MEGABYTE, vec![ram(0, MEGABYTE), ram(MEGABYTE, MEGABYTE)])
        } else {
            (16 * MEGABYTE, vec![ram(0, 16 * MEGABYTE)])
        };
        let map = MemoryMap::new(regions).expect("regions in order");
        let space = AddressSpace::new(GuestRam::new(len).expect("a few megabytes of memory"), map);
        let cpu = Vcpu::new(
            Mmu::new(Arc::clone(&space)),
            Box::new(Empty { has_remapcfg: model.era() == Era::I386 }),
            model,
        );
        let config = EngineConfig { tier, code_cache_bytes: 4 << 20, ..EngineConfig::default() };
        let engine = Engine::new(config, Arc::clone(&space));
        Self { cpu, engine, space }
    }

    /// Runs the first `limit` cases; gives the counts and what is wrong with the first that fails.
    pub fn run(&mut self, vectors: &Vectors, beside: &Beside, limit: usize) -> (Tally, Option<String>) {
        let mut mask = vectors.mask;
        let said = mask[EFLAGS].is_some() || beside.flags.is_some();
        let all = mask[EFLAGS].unwrap_or(u32::MAX) & beside.flags.unwrap_or(u32::MAX);
        let (mut tally, mut first) = (Tally::default(), None);
        for case in vectors.cases.iter().take(limit) {
            if case.hash.is_some_and(|hash| beside.revoked.contains(&hash)) {
                tally.revoked += 1;
                continue;
            }
            let undefined = if said { 0 } else { undefined_flags(case) };
            mask[EFLAGS] = Some(all & !undefined);
            match self.case(case, &mask) {
                Ok(()) => tally.passed += 1,
                Err(why) => {
                    tally.failed += 1;
                    first.get_or_insert_with(|| format!("test {} \"{}\": {why}", case.index, case.name));
                }
            }
        }
        (tally, first)
    }

    /// Runs one case and compares.
    pub fn case(&mut self, case: &Case, mask: &Registers) -> Result<(), String> {
        for (at, byte) in &case.initial.ram {
            self.write(*at, *byte);
        }
        let end = self.end(case);
        if let Some(at) = end {
            self.write(at, HLT);
        }
        self.load(&case.initial.registers);
        let result = self.execute(case).and_then(|()| self.compare(case, mask));
        for (at, _) in case.initial.ram.iter().chain(&case.last.ram) {
            self.write(*at, 0);
        }
        if let Some(at) = end {
            self.write(at, 0);
        }
        result
    }

    /// Where the HLT lies that ends the case, unless the case says what is there: with the vectors of the i386 it was
    /// put on the bus.
    fn end(&self, case: &Case) -> Option<u32> {
        let last = |n: usize| case.last.registers[n].or(case.initial.registers[n]);
        let at = (last(CS)? << 4).wrapping_add(last(EIP)?).wrapping_sub(1);
        let named = case.initial.ram.iter().any(|(named, _)| *named == at);
        (self.cpu.model.era() >= Era::I286 && !case.shuts_down && !named).then_some(at)
    }

    fn write(&self, at: u32, byte: u8) {
        // What lies beyond memory is not there for the processor either.
        let _ = self.space.write(Gpa(at.into()), &[byte]);
    }

    fn load(&mut self, registers: &Registers) {
        let get = |n: usize| u64::from(registers[n].unwrap_or(0));
        self.cpu.power_on();
        let fixed = self.cpu.model.flags_fixed();
        let st = &mut self.cpu.st;
        let order = [reg::RAX, reg::RBX, reg::RCX, reg::RDX, reg::RSI, reg::RDI, reg::RBP, reg::RSP];
        for (n, r) in order.into_iter().enumerate() {
            st.gpr[r as usize] = get(2 + n);
        }
        for (n, s) in [seg::CS, seg::DS, seg::ES, seg::FS, seg::GS, seg::SS].into_iter().enumerate() {
            let s = &mut st.seg[s as usize];
            s.selector = get(10 + n) as u16;
            s.base = u64::from(s.selector) << 4;
        }
        st.rip = get(EIP);
        if let Some(v) = registers[0] {
            st.cr0 = u64::from(v) & (cr0::MP | cr0::EM | cr0::TS) | cr0::ET;
        }
        for (n, register) in [(18, 6), (19, 7)] {
            if let Some(v) = registers[n] {
                st.dr[register] = v.into();
            }
        }
        // As LOADALL in real mode does it: what the mode has not stays as it is.
        let loaded = get(EFLAGS) & self.cpu.model.flags_mask(false) & 0x7fd5;
        self.cpu.load_state_changed();
        self.cpu.set_rflags(loaded | fixed | rflags::FIXED);
        self.cpu.st.budget = 0;
        self.cpu.st.icount_end = 0;
    }

    fn execute(&mut self, case: &Case) -> Result<(), String> {
        if self.cpu.model.era() < Era::I286 {
            return self.step(case);
        }
        for _ in 0..EVENTS {
            match self.engine.run(&mut self.cpu, PATIENCE) {
                Exit::Halted if !case.shuts_down => return Ok(()),
                Exit::Shutdown if case.shuts_down => return Ok(()),
                Exit::Shutdown => return Err("the processor shut down".into()),
                // An IN, an OUT, a load of SS: a machine would look at its devices now.
                Exit::Event => {}
                Exit::Report(text) => return Err(text.into()),
                exit => return Err(format!("did not halt: {exit:?} at {:#x}", self.cpu.st.rip)),
            }
        }
        Err(format!("did not halt: still at {:#x}", self.cpu.st.rip))
    }

    /// One instruction, with all iterations of a repeated one.
    fn step(&mut self, case: &Case) -> Result<(), String> {
        for _ in 0..PATIENCE {
            let (ip, cs) = (self.cpu.st.rip, self.cpu.st.seg[seg::CS as usize].base);
            let bytes: Vec<u8> = (0..15).map(|k| self.read(cs + ((ip + k) & 0xffff))).collect();
            let block = self.cpu.model.isa().single(&bytes, ip, self.cpu.st.mode);
            let insn: &Insn = match &block {
                Some(block) => &block.insns[0],
                None => return Err(format!("cannot be decoded: {:02x?}", case.bytes)),
            };
            self.cpu.st.shadow = Shadow::None;
            self.cpu.st.budget = 1;
            interp::run_single(&mut self.cpu, insn);
            match std::mem::replace(&mut self.cpu.st.stop, stop::NONE) {
                stop::FAULT => {
                    return sys::deliver_fault(&mut self.cpu).map_err(|_| "the processor shut down".into());
                }
                stop::NONE | stop::AFTER => {}
                _ => return Err(self.cpu.report.take().map_or("cannot go on".into(), String::from)),
            }
            self.cpu.st.rip &= 0xffff;
            // A repeated string instruction stays where it is until its last iteration.
            if !matches!(insn.op, x86::Op::Str(_)) || self.cpu.st.rip != ip {
                return Ok(());
            }
        }
        Err("does not end".into())
    }

    fn read(&self, at: u64) -> u8 {
        let mut byte = [0xff];
        let _ = self.space.read(Gpa(at), &mut byte);
        byte[0]
    }

    fn found(&mut self) -> [u32; 20] {
        let flags = self.cpu.rflags() as u32;
        let st = &self.cpu.st;
        let g = |r: u8| st.gpr[r as usize] as u32;
        let s = |s: u8| u32::from(st.seg[s as usize].selector);
        [
            st.cr0 as u32,
            st.cr3 as u32,
            g(reg::RAX),
            g(reg::RBX),
            g(reg::RCX),
            g(reg::RDX),
            g(reg::RSI),
            g(reg::RDI),
            g(reg::RBP),
            g(reg::RSP),
            s(seg::CS),
            s(seg::DS),
            s(seg::ES),
            s(seg::FS),
            s(seg::GS),
            s(seg::SS),
            st.rip as u32,
            flags,
            st.dr[6] as u32,
            st.dr[7] as u32,
        ]
    }

    fn compare(&mut self, case: &Case, mask: &Registers) -> Result<(), String> {
        let wide = self.cpu.model.era() >= Era::I386;
        let found = self.found();
        for (n, found) in found.into_iter().enumerate() {
            let Some(before) = case.initial.registers[n] else { continue };
            let exists = match NAMES[n] {
                // What the i386's register images hold in their other bits depends on how they were read out.
                "cr0" => 0x8000_000f,
                "dr6" => 0xe00f,
                "dr7" | "cs" | "ds" | "es" | "fs" | "gs" | "ss" => 0xffff,
                "eflags" if wide => 0x0003_7fd7,
                _ if wide => u32::MAX,
                _ => 0xffff,
            };
            // Flags that were not changed are those that were loaded, which are fewer than those that were named.
            let mut expected = case.last.registers[n].unwrap_or(before);
            if n == EFLAGS && case.last.registers[n].is_none() {
                let fixed = self.cpu.model.flags_fixed() | rflags::FIXED;
                let real = self.cpu.model.flags_mask(false) & 0x3_7fd7;
                expected = expected & real as u32 | fixed as u32;
            }
            let counts = exists & mask[n].unwrap_or(u32::MAX) & case.mask[n].unwrap_or(u32::MAX);
            if (found ^ expected) & counts != 0 {
                let name = if wide { NAMES[n] } else { super::short_name(n) };
                return Err(format!("{name} is {:#x}, expected {:#x}", found & counts, expected & counts));
            }
        }
        let flags = mask[EFLAGS].unwrap_or(u32::MAX) & case.mask[EFLAGS].unwrap_or(u32::MAX);
        let pushed = self.pushed_flags(case);
        let changed: std::collections::HashMap<u32, u8> = case.last.ram.iter().copied().collect();
        let initial = case.initial.ram.iter().filter(|(at, _)| !changed.contains_key(at));
        for (at, expected) in case.last.ram.iter().chain(initial) {
            let found = self.read((*at).into());
            let counts = match pushed.map(|first| at.wrapping_sub(first)) {
                Some(0) => flags as u8,
                Some(1) => (flags >> 8) as u8,
                _ => 0xff,
            };
            if (found ^ expected) & counts != 0 {
                return Err(format!("the byte at {at:#x} is {found:#04x}, expected {expected:#04x}"));
            }
        }
        Ok(())
    }

    /// Where the flags were pushed, whose undefined ones count as little there: named by the file, or at the top of the
    /// stack for the instructions of the 8086 that divide.
    fn pushed_flags(&self, case: &Case) -> Option<u32> {
        if let Some(exception) = case.exception {
            return Some(exception.flags_at);
        }
        let opcode = case.bytes.iter().position(|b| !matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0..=0xf3))?;
        let divides = match case.bytes[opcode..] {
            [0xd4, ..] => true,
            [0xf6 | 0xf7, modrm, ..] => modrm >> 3 & 7 >= 6,
            _ => false,
        };
        let (ss, sp) = (case.initial.registers[15]?, case.initial.registers[9]?);
        divides.then(|| (ss << 4).wrapping_add(sp.wrapping_sub(2) & 0xffff) & 0xf_ffff)
    }
}
