//! The guest side: a vCPU with an engine of one tier, on which a few bytes of code run from a given state.
//!
//! Code runs at CPL 3 (or 0 where asked) and ends by an exception: every vector's handler is a HLT of its own, so that
//! delivery is part of each test, and the frame on the kernel's stack shows RIP, flags and error code.

use std::cell::RefCell;
use std::sync::Arc;

use jit::{Engine, EngineConfig, Exit, TierPolicy};
use softmmu::{AddressSpace, Gpa, GuestRam, MemoryMap, Mmu, Region, RegionKind};
use x86::model::CpuModel;
use x86::state::{Segment, TableReg, cr0, cr4, efer, reg, seg};
use x86::{Bus, CpuState, Ns, Vcpu, x87};

use super::layout::*;
use super::state::{After, ENDLESS, End, Fp, REPORT, SHUTDOWN, State};

/// In which mode code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bits {
    /// 64-bit mode.
    Long,
    /// 32-bit protected mode, flat, paged.
    Flat32,
    /// Compatibility mode: 32-bit code, flat, under a 64-bit kernel.
    Compat32,
    /// 32-bit protected mode without paging: CS, DS = ES, SS based so that offsets are the same as in the flat modes.
    Unpaged32,
    /// 16-bit protected mode: CS, DS = ES, SS based at `CODE`, `DATA`, `STACK`, limit FFFFh, paged.
    Protected16,
    /// Real mode: CS, DS = ES, SS at 1000h, 2000h, 3000h.
    Real,
}

impl Bits {
    /// 16, 32 or 64.
    pub fn number(self) -> u32 {
        match self {
            Self::Long => 64,
            Self::Flat32 | Self::Compat32 | Self::Unpaged32 => 32,
            _ => 16,
        }
    }
    /// Is the kernel a 64-bit one?
    pub fn is_long_mode(self) -> bool {
        matches!(self, Self::Long | Self::Compat32)
    }
    /// Are offsets in the code segment linear addresses?
    pub fn is_flat(self) -> bool {
        matches!(self, Self::Long | Self::Flat32 | Self::Compat32)
    }
}

/// A bus with nothing on it but a pattern: port reads give the port's number.
struct TestBus;

impl Bus for TestBus {
    fn port_in(&mut self, port: u16, _: u8, _: Ns) -> u32 {
        u32::from(port) * 0x1_0001
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32, _: Ns) {}
    fn mmio_read(&mut self, _: u64, _: u8, _: Ns) -> u64 {
        !0
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

/// A machine of one tier.
pub struct Rig {
    cpu: Vcpu,
    engine: Engine,
    space: Arc<AddressSpace>,
    mode: Option<(Bits, u8)>,
    template: CpuState,
    /// What lies in guest memory now.
    code: Vec<u8>,
    data: Vec<u8>,
    stack: Vec<u8>,
    /// All of memory as it was at first.
    pristine: Vec<u8>,
}

/// The tiers that every check runs in.
pub const TIERS: [TierPolicy; 3] = [TierPolicy::Zero, TierPolicy::One, TierPolicy::Two];

/// Retired instructions after which a program counts as endless.
const PATIENCE: u64 = 200_000;

thread_local! {
    static RIGS: RefCell<[Option<Rig>; 3]> = const { RefCell::new([None, None, None]) };
}

/// Runs code in tier `TIERS[tier]` on this thread's machine for it.
pub fn run(tier: usize, bits: Bits, cpl: u8, code: &[u8], state: &State) -> After {
    RIGS.with_borrow_mut(|rigs| {
        rigs[tier].get_or_insert_with(|| Rig::new(TIERS[tier])).run(bits, cpl, code, state)
    })
}

/// As [`run`], with [`Rig::system`] at the end.
pub fn run_whole(tier: usize, bits: Bits, cpl: u8, code: &[u8], state: &State) -> (After, String) {
    RIGS.with_borrow_mut(|rigs| {
        let rig = rigs[tier].get_or_insert_with(|| Rig::new(TIERS[tier]));
        let after = rig.run_to_end(bits, cpl, code, state);
        let system = rig.system();
        rig.clean_up(bits, cpl, &after);
        (after, system)
    })
}

/// Runs code in every tier, in the order of [`TIERS`].
pub fn run_all(bits: Bits, cpl: u8, code: &[u8], state: &State) -> [After; TIERS.len()] {
    std::array::from_fn(|tier| run(tier, bits, cpl, code, state))
}

fn descriptor(base: u32, limit_pages: u32, access: u8, flags: u8) -> u64 {
    let (b, l) = (u64::from(base), u64::from(limit_pages));
    l & 0xffff
        | (b & 0xff_ffff) << 16
        | u64::from(access) << 40
        | (l >> 16 & 0xf) << 48
        | u64::from(flags) << 52
        | b >> 24 << 56
}

impl Rig {
    /// A machine that runs everything in tier `tier`.
    pub fn new(tier: TierPolicy) -> Self {
        let ram = GuestRam::new(RAM_LEN).expect("RAM");
        let map =
            MemoryMap::new(vec![Region { start: Gpa(0), len: RAM_LEN, kind: RegionKind::Ram { offset: 0 } }]);
        let space = AddressSpace::new(ram, map.expect("map"));
        let mmu = Mmu::new(Arc::clone(&space));
        // Base addresses are judged as on hosts without five-level paging, so that these can be the oracle.
        let mut model = CpuModel::by_name("max").expect("model");
        assert!(model.set_feature("la57", false));
        let cpu = Vcpu::new(mmu, Box::new(TestBus), model);
        let config =
            EngineConfig { tier, code_cache_bytes: 4 << 20, verify: true, ..EngineConfig::default() };
        let engine = Engine::new(config, Arc::clone(&space));
        let mut rig = Self {
            template: cpu.st.clone(),
            cpu,
            engine,
            space,
            mode: None,
            code: vec![0xcc; CODE_LEN - 1],
            data: Vec::new(),
            stack: Vec::new(),
            pristine: vec![0; RAM_LEN as usize],
        };
        rig.tables();
        rig.space.read(Gpa(0), &mut rig.pristine).expect("RAM");
        rig
    }

    fn put<T: softmmu::GuestInt>(&self, at: u64, v: T) {
        self.space.store(Gpa(at), v).expect("within RAM");
    }

    fn tables(&self) {
        let flat = |access, flags| descriptor(0, 0xf_ffff, access, flags);
        let small = |base: u64, access| descriptor(base as u32, 0xffff, access, 0);
        for (s, d) in [
            (selector::KERNEL32, flat(0x9b, 0xc)),
            (selector::KERNEL64, flat(0x9b, 0xa)),
            (selector::KERNEL_DATA, flat(0x93, 0xc)),
            (selector::USER32, flat(0xfb, 0xc)),
            (selector::USER_DATA, flat(0xf3, 0xc)),
            (selector::USER64, flat(0xfb, 0xa)),
            (selector::TSS, descriptor(TSS as u32, 0x67, 0x8b, 0)),
            (selector::CODE16, small(CODE, 0xfb)),
            (selector::DATA16, small(DATA, 0xf3)),
            (selector::STACK16, small(STACK, 0xf3)),
            (selector::CODE16 + 24, small(CODE, 0x9b)),
            (selector::DATA16 + 24, small(DATA, 0x93)),
            (selector::STACK16 + 24, small(STACK, 0x93)),
        ] {
            self.put(GDT + u64::from(s & !7), d);
        }
        for v in 0..32u64 {
            self.put(HANDLERS + 16 * v, 0xf4u8);
            // Real-mode vectors stay at 0.
            self.put(4 * v, (HANDLERS + 16 * v) as u32);
        }
        // Page tables, supervisor-only for the first 2 MiB. Entries are accessed and dirty, as an OS makes them.
        let windows = [
            (CODE, CODE_AT, CODE_LEN, 0x65u64),
            (DATA, DATA_AT, DATA_LEN, 0x67),
            (STACK, STACK_AT, STACK_LEN, 0x67),
        ];
        let [pml4, pdpt, pd, low] = [0, 0x1000, 0x2000, 0x3000].map(|k| LONG_TABLES + k);
        self.put(pml4, pdpt | 0x27);
        self.put(pdpt, pd | 0x27);
        self.put(pd, low | 0x27);
        for k in 0..RAM_LEN >> 12 {
            self.put(low + 8 * k, k << 12 | 0x63);
            self.put(FLAT_TABLES + 0x1000 + 4 * k, (k << 12 | 0x63) as u32);
        }
        self.put(FLAT_TABLES, ((FLAT_TABLES + 0x1000) | 0x27) as u32);
        for (n, (at, physical, len, bits)) in (0u64..).zip(windows) {
            let long = LONG_TABLES + 0x4000 + 0x1000 * n;
            let short = FLAT_TABLES + 0x2000 + 0x1000 * n;
            self.put(pd + (at >> 21) * 8, long | 0x27);
            self.put(FLAT_TABLES + (at >> 22) * 4, (short | 0x27) as u32);
            for k in 0..len as u64 >> 12 {
                let page = at + (k << 12);
                let bits = if page == READ_ONLY { 0x65 } else { bits };
                let entry = (physical + (k << 12)) | bits;
                // Only code is executable, where the tables can say so.
                let no_execute = if at == CODE { 0 } else { 1 << 63 };
                self.put(long + (page >> 12 & 511) * 8, entry | no_execute);
                self.put(short + (page >> 12 & 1023) * 4, entry as u32);
            }
        }
        self.space.write(Gpa(CODE_AT), &[0xcc; CODE_LEN]).expect("RAM");
    }

    /// Gates and task state for the mode, and the registers that programs start with.
    fn enter(&mut self, bits: Bits, cpl: u8) {
        if self.mode == Some((bits, cpl)) {
            return;
        }
        let mut st = CpuState::power_on();
        for v in 0..32u64 {
            let handler = HANDLERS + 16 * v;
            let access = if v == 3 || v == 4 { 0xee } else { 0x8e };
            if bits.is_long_mode() {
                // IST 1 for all: the frame is always in the same place.
                self.put(
                    IDT + 16 * v,
                    handler | u64::from(selector::KERNEL64) << 16 | 1 << 32 | access << 40,
                );
                self.put(IDT + 16 * v + 8, 0u64);
            } else {
                self.put(IDT + 8 * v, handler | u64::from(selector::KERNEL32) << 16 | access << 40);
            }
        }
        self.space.write(Gpa(TSS), &[0; 0x68]).expect("RAM");
        if bits.is_long_mode() {
            self.put(TSS + 4, KERNEL_STACK);
            self.put(TSS + 0x24, KERNEL_STACK);
        } else {
            self.put(TSS + 4, KERNEL_STACK as u32);
            self.put(TSS + 8, u32::from(selector::KERNEL_DATA));
        }
        self.put(TSS + 0x66, 0x68u16);
        let segment =
            |base: u64, limit: u32, attrs: u16, selector: u16| Segment { base, limit, attrs, selector };
        let dpl = u16::from(cpl) << 5;
        let (code, data, stack);
        match bits {
            Bits::Long | Bits::Flat32 | Bits::Compat32 => {
                let user = cpl == 3;
                // Compatibility mode is for programs only.
                assert!(user || bits != Bits::Compat32, "no kernel runs in compatibility mode");
                let (c, d) = match (bits, user) {
                    (Bits::Long, true) => (selector::USER64, selector::USER_DATA),
                    (Bits::Long, false) => (selector::KERNEL64, selector::KERNEL_DATA),
                    (_, true) => (selector::USER32, selector::USER_DATA),
                    _ => (selector::KERNEL32, selector::KERNEL_DATA),
                };
                let kind = if bits == Bits::Long { Segment::L } else { Segment::DB };
                code = segment(0, u32::MAX, 0x9b | dpl | Segment::G | kind, c);
                stack = segment(0, u32::MAX, 0x93 | dpl | Segment::G | Segment::DB, d);
                data = stack;
            }
            Bits::Protected16 => {
                let s = if cpl == 3 { 3 } else { 24 };
                code = segment(CODE, 0xffff, 0x9b | dpl, selector::CODE16 + s);
                data = segment(DATA, 0xffff, 0x93 | dpl, selector::DATA16 + s);
                stack = segment(STACK, 0xffff, 0x93 | dpl, selector::STACK16 + s);
            }
            Bits::Unpaged32 => {
                let kind = 0x93 | dpl | Segment::G | Segment::DB;
                let at = |physical: u64, offset: u64, attrs, selector| {
                    segment(physical.wrapping_sub(offset) & 0xffff_ffff, u32::MAX, attrs, selector)
                };
                let (c, d) = if cpl == 3 {
                    (selector::USER32, selector::USER_DATA)
                } else {
                    (selector::KERNEL32, selector::KERNEL_DATA)
                };
                code = at(CODE_AT, CODE, kind | 8, c);
                data = at(DATA_AT, DATA, kind, d);
                stack = at(STACK_AT, STACK, kind, d);
            }
            Bits::Real => {
                let at = |a: u64, attrs| segment(a, 0xffff, attrs, (a >> 4) as u16);
                (code, data, stack) = (at(CODE_AT, 0x9b), at(DATA_AT, 0x93), at(STACK_AT, 0x93));
            }
        }
        st.seg = [data; 6];
        st.seg[seg::CS as usize] = code;
        st.seg[seg::SS as usize] = stack;
        if bits == Bits::Long {
            // Linux starts 64-bit programs with null data segments.
            for s in [seg::ES, seg::DS, seg::FS, seg::GS] {
                st.seg[s as usize].selector = 0;
            }
        } else if bits.is_flat() {
            for s in [seg::FS, seg::GS] {
                st.seg[s as usize] = Segment::default();
            }
        }
        st.cpl = if bits == Bits::Real { 0 } else { cpl };
        st.gdtr = TableReg { base: GDT, limit: 0x7f };
        st.cr0 = cr0::ET | cr0::NE | cr0::MP;
        st.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
        st.xcr0 = 7;
        if bits == Bits::Real {
            st.idtr = TableReg { base: 0, limit: 0x3ff };
        } else {
            st.cr0 |= cr0::PE | cr0::WP | cr0::AM;
            if bits != Bits::Unpaged32 {
                st.cr0 |= cr0::PG;
            }
            st.tr = segment(TSS, 0x67, 0x8b, selector::TSS);
            st.idtr = TableReg { base: IDT, limit: if bits.is_long_mode() { 0x1ff } else { 0xff } };
            st.cr3 = FLAT_TABLES;
        }
        if bits.is_long_mode() {
            st.cr4 |= cr4::PAE | cr4::FSGSBASE;
            st.msr.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
            st.cr3 = LONG_TABLES;
        }
        self.template = st;
        self.cpu.st = self.template.clone();
        self.cpu.load_state_changed();
        self.mode = Some((bits, cpl));
    }

    fn load(&mut self, code: &[u8], s: &State) {
        assert!(code.len() < CODE_LEN, "the code is too long");
        if self.code != code {
            let mut bytes = code.to_vec();
            bytes.resize(self.code.len().max(code.len()) + 1, 0xcc);
            self.space.write(Gpa(CODE_AT), &bytes).expect("RAM");
            self.code.clear();
            self.code.extend(code);
        }
        for (have, want, at) in [(&self.data, &s.data, DATA_AT), (&self.stack, &s.stack, STACK_AT)] {
            for (n, page) in want.chunks(0x1000).enumerate() {
                if have.get(n << 12..(n << 12) + page.len()) != Some(page) {
                    self.space.write(Gpa(at + (n << 12) as u64), page).expect("RAM");
                }
            }
        }
    }

    fn set(&mut self, s: &State, bits: Bits) {
        self.cpu.st.clone_from(&self.template);
        let st = &mut self.cpu.st;
        st.gpr[..16].copy_from_slice(&s.gpr);
        st.rip = if bits.number() > 16 { s.rip } else { s.rip & 0xffff };
        if bits == Bits::Long {
            st.seg[seg::FS as usize].base = s.fs_base;
            st.seg[seg::GS as usize].base = s.gs_base;
        }
        for (x, v) in st.xmm.iter_mut().zip(s.xmm).chain(st.ymm_hi.iter_mut().zip(s.high)) {
            *x = [v as u64, (v >> 64) as u64];
        }
        st.mxcsr = s.mxcsr;
        let f = &mut st.x87;
        (f.cw, f.sw) = (s.fp.cw, s.fp.sw);
        x87::set_abridged_tag(f, s.fp.tag);
        let top = (s.fp.sw >> 11 & 7) as u8;
        for (n, v) in (0u8..).zip(&s.fp.st) {
            let mantissa = u64::from_le_bytes(v[..8].try_into().expect("eight bytes"));
            x87::set_physical(f, (top + n) & 7, mantissa, u16::from_le_bytes([v[8], v[9]]));
        }
        self.cpu.set_rflags(s.rflags);
        self.cpu.mode_changed();
    }

    /// Runs `code` from `state` to the exception that ends it.
    pub fn run(&mut self, bits: Bits, cpl: u8, code: &[u8], state: &State) -> After {
        let after = self.run_to_end(bits, cpl, code, state);
        self.clean_up(bits, cpl, &after);
        after
    }

    fn clean_up(&mut self, bits: Bits, cpl: u8, after: &After) {
        if cpl == 3 && bits != Bits::Real {
            self.data.clone_from(&after.state.data);
            self.stack.clone_from(&after.state.stack);
        } else {
            // Kernel code may have changed anything.
            self.restore();
        }
    }

    fn run_to_end(&mut self, bits: Bits, cpl: u8, code: &[u8], state: &State) -> After {
        self.enter(bits, cpl);
        self.load(code, state);
        self.set(state, bits);
        let exit = loop {
            match self.engine.run(&mut self.cpu, PATIENCE) {
                Exit::Event => {}
                e => break e,
            }
        };
        let mut report = None;
        let vector = match exit {
            Exit::Halted => {
                let at = self.cpu.st.rip.wrapping_sub(HANDLERS + 1);
                if at < 512 { (at / 16) as u8 } else { ENDLESS }
            }
            Exit::Shutdown => SHUTDOWN,
            Exit::Report(text) => {
                report = Some(text.into());
                REPORT
            }
            _ => ENDLESS,
        };
        let (state, code, selectors) = self.seen(bits, cpl, vector);
        let icount = self.cpu.st.icount();
        let cr2 = (vector == 14).then_some(self.cpu.st.cr2);
        After { state, end: End { vector, code, cr2, icount, selectors }, report }
    }

    fn restore(&mut self) {
        let mut now = vec![0; self.pristine.len()];
        self.space.read(Gpa(0), &mut now).expect("RAM");
        for (n, (page, was)) in now.chunks(0x1000).zip(self.pristine.chunks(0x1000)).enumerate() {
            if page != was {
                self.space.write(Gpa((n << 12) as u64), was).expect("RAM");
            }
        }
        (self.mode, self.code) = (None, Vec::new());
        self.data.clear();
        self.stack.clear();
    }

    /// What programs cannot see of the processor, as text: control and system registers, and all of memory as a number.
    pub fn system(&mut self) -> String {
        let st = &self.cpu.st;
        let mut memory = vec![0; RAM_LEN as usize];
        self.space.read(Gpa(0), &mut memory).expect("RAM");
        let hash = memory.chunks_exact(8).fold(0u64, |h, b| {
            (h ^ u64::from_le_bytes(b.try_into().expect("eight")))
                .wrapping_mul(0x100_0000_01b3)
                .rotate_left(5)
        });
        format!(
            "cr0 {:x} cr2 {:x} cr3 {:x} cr4 {:x} xcr0 {:x} dr {:x?} cpl {} {:x?} gdtr {:x?} idtr {:x?} ldtr {:x?} tr {:x?} {:x?} memory {hash:x}",
            st.cr0,
            st.cr2,
            st.cr3,
            st.cr4,
            st.xcr0,
            st.dr,
            st.cpl,
            st.seg,
            st.gdtr,
            st.idtr,
            st.ldtr,
            st.tr,
            st.msr,
        )
    }

    /// Registers as the program left them, the error code and the selectors: what delivery changed is taken from its frame.
    fn seen(&mut self, bits: Bits, cpl: u8, vector: u8) -> (State, Option<u32>, Option<[u16; 6]>) {
        let rflags = self.cpu.rflags();
        let st = &self.cpu.st;
        let top = (st.x87.sw >> 11 & 7) as u8;
        let mut s = State {
            gpr: st.gpr[..16].try_into().expect("sixteen"),
            rip: st.rip,
            rflags,
            fs_base: st.seg[seg::FS as usize].base,
            gs_base: st.seg[seg::GS as usize].base,
            xmm: st.xmm.map(|x| u128::from(x[0]) | u128::from(x[1]) << 64),
            high: st.ymm_hi.map(|x| u128::from(x[0]) | u128::from(x[1]) << 64),
            mxcsr: st.mxcsr,
            fp: Fp {
                cw: st.x87.cw,
                sw: st.x87.sw,
                tag: x87::abridged_tag(&st.x87),
                st: std::array::from_fn(|n| {
                    let (m, e) = x87::get_physical(&st.x87, (top + n as u8) & 7);
                    let mut v = [0; 10];
                    v[..8].copy_from_slice(&m.to_le_bytes());
                    v[8..].copy_from_slice(&e.to_le_bytes());
                    v
                }),
            },
            data: vec![0; DATA_LEN],
            stack: vec![0; STACK_LEN],
        };
        self.space.read(Gpa(DATA_AT), &mut s.data).expect("RAM");
        self.space.read(Gpa(STACK_AT), &mut s.stack).expect("RAM");
        if bits != Bits::Long {
            (s.fs_base, s.gs_base) = (0, 0);
        }
        if vector >= REPORT {
            return (s, None, None);
        }
        let has_code = bits != Bits::Real && matches!(vector, 8 | 10..=14 | 17);
        let esp = st.gpr[reg::RSP as usize];
        let at = match bits {
            Bits::Protected16 if cpl == 0 => STACK_AT + (esp & 0xffff),
            Bits::Flat32 | Bits::Unpaged32 if cpl == 0 => esp.wrapping_sub(STACK).wrapping_add(STACK_AT),
            Bits::Real => STACK_AT + (esp & 0xffff),
            _ => esp,
        };
        let w = if bits.is_long_mode() {
            8
        } else if bits == Bits::Real {
            2
        } else {
            4
        };
        let word = |n: u64| -> u64 {
            let at = Gpa(at.wrapping_add(n * w));
            match w {
                8 => self.space.load::<u64>(at).unwrap_or(0),
                4 => self.space.load::<u32>(at).unwrap_or(0).into(),
                _ => self.space.load::<u16>(at).unwrap_or(0).into(),
            }
        };
        let k = u64::from(has_code);
        let code = has_code.then(|| word(0) as u32);
        s.rip = word(k);
        s.rflags = word(k + 2);
        let mut selectors = None;
        if bits.is_flat() && cpl == 3 {
            let mut all = st.seg.each_ref().map(|s| s.selector);
            (all[seg::CS as usize], all[seg::SS as usize]) = (word(k + 1) as u16, word(k + 4) as u16);
            // The host's child cannot tell null selectors apart.
            selectors = Some(all.map(|s| if s < 4 { 0 } else { s }));
        }
        if bits.is_long_mode() || bits != Bits::Real && cpl == 3 {
            s.gpr[reg::RSP as usize] = word(k + 3);
        } else {
            let sp = &mut s.gpr[reg::RSP as usize];
            let mask = if bits.number() == 32 { 0xffff_ffff } else { 0xffff };
            *sp = *sp & !mask | sp.wrapping_add((k + 3) * w) & mask;
        }
        (s, code, selectors)
    }
}
