//! One instruction at a time on our processor, and (in `native`) on the host's, from the same state.
//!
//! The encoded bytes are the same on both sides. R15 points at a [`Block`], which holds the register image (in FXSAVE's
//! format) and the memory operand; in the guest it lies at [`AT`].

use softmmu::{AddressSpace, GuestRam, MemoryMap, Mmu, Region, RegionKind};
use x86::bus::{Bus, Ns};
use x86::model::CpuModel;
use x86::state::{efer, reg, seg};
use x86::{Vcpu, decode};

/// Where the block lies in the guest.
pub const AT: u64 = 0x2000;
/// Where the instruction lies in the guest.
pub const CODE: u64 = 0x1000;

/// Everything an instruction may read or write.
#[repr(C, align(64))]
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// FXSAVE image.
    pub fx: [u8; 512],
    /// RAX, RCX, RDX, RBX, RSI, RDI.
    pub gpr: [u64; 6],
    /// RFLAGS, arithmetic part.
    pub flags: u64,
    /// Unused, for alignment.
    pad: u64,
    /// The memory operand and what surrounds it.
    pub mem: [u8; 128],
}

pub const GPR: usize = 512;
pub const FLAGS: usize = GPR + 48;
pub const MEM: usize = FLAGS + 16;
/// The operand within `mem`, aligned.
pub const OPERAND: usize = MEM + 32;
/// The arithmetic flags.
pub const ARITH: u64 = 0x8d5;

impl Block {
    pub fn new() -> Self {
        let mut b = Self { fx: [0; 512], gpr: [0; 6], flags: 0, pad: 0, mem: [0; 128] };
        b.set16(0, 0x37f);
        b.set_mxcsr(0x1f80);
        b
    }
    pub fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.fx[at], self.fx[at + 1]])
    }
    pub fn set16(&mut self, at: usize, v: u16) {
        self.fx[at..at + 2].copy_from_slice(&v.to_le_bytes());
    }
    pub fn mxcsr(&self) -> u32 {
        u32::from_le_bytes(self.fx[24..28].try_into().unwrap())
    }
    pub fn set_mxcsr(&mut self, v: u32) {
        self.fx[24..28].copy_from_slice(&v.to_le_bytes());
    }
    /// ST(n) or MMn.
    pub fn st(&self, n: usize) -> [u8; 10] {
        self.fx[32 + 16 * n..42 + 16 * n].try_into().unwrap()
    }
    pub fn set_st(&mut self, n: usize, v: [u8; 10]) {
        self.fx[32 + 16 * n..42 + 16 * n].copy_from_slice(&v);
    }
    pub fn xmm(&self, n: usize) -> u128 {
        u128::from_le_bytes(self.fx[160 + 16 * n..176 + 16 * n].try_into().unwrap())
    }
    pub fn set_xmm(&mut self, n: usize, v: u128) {
        self.fx[160 + 16 * n..176 + 16 * n].copy_from_slice(&v.to_le_bytes());
    }
}

/// A bus that nothing is connected to but a latch for FERR#, which can request an interrupt.
#[derive(Default)]
pub struct Nothing {
    pub ferr: std::sync::Arc<std::sync::atomic::AtomicBool>,
    pub interrupts: bool,
}

impl Bus for Nothing {
    fn port_in(&mut self, _: u16, _: u8, _: Ns) -> u32 {
        !0
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32, _: Ns) {}
    fn mmio_read(&mut self, _: u64, _: u8, _: Ns) -> u64 {
        !0
    }
    fn mmio_write(&mut self, _: u64, _: u8, _: u64, _: Ns) {}
    fn interrupt_pending(&mut self) -> bool {
        self.interrupts && self.ferr.load(std::sync::atomic::Ordering::Relaxed)
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
    fn ferr(&mut self, asserted: bool, _: Ns) {
        self.ferr.store(asserted, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A guest in 64-bit code without paging (no processor allows that; the instructions do not mind).
pub fn guest() -> Vcpu {
    guest_on(Nothing::default())
}

/// The same with a bus of the caller's.
pub fn guest_on(bus: Nothing) -> Vcpu {
    let ram = GuestRam::new(0x10000).unwrap();
    let map = MemoryMap::new(vec![Region {
        start: softmmu::Gpa(0),
        len: 0x10000,
        kind: RegionKind::Ram { offset: 0 },
    }])
    .unwrap();
    let mut cpu = Vcpu::new(Mmu::new(AddressSpace::new(ram, map)), Box::new(bus), CpuModel::default());
    cpu.st.msr.efer = efer::LMA;
    cpu.st.seg[seg::CS as usize].attrs |= x86::state::Segment::L;
    cpu.st.cr0 = x86::state::cr0::PE | x86::state::cr0::NE;
    cpu.st.cr4 = x86::state::cr4::OSFXSR | x86::state::cr4::OSXMMEXCPT;
    cpu.mode_changed();
    cpu
}

/// Runs the instruction in the guest. `Err`: the vector that it raised.
pub fn run_guest(cpu: &mut Vcpu, bytes: &[u8], b: &mut Block) -> Result<(), u8> {
    let s = &mut cpu.st;
    s.stop = 0;
    s.budget = 1000;
    for (r, v) in [reg::RAX, reg::RCX, reg::RDX, reg::RBX, reg::RSI, reg::RDI].into_iter().zip(b.gpr) {
        s.gpr[r as usize] = v;
    }
    s.gpr[15] = AT;
    let top = b.get16(2) >> 11 & 7;
    let f = &mut s.x87;
    f.cw = b.get16(0);
    f.sw = b.get16(2);
    x86::x87::set_abridged_tag(f, b.fx[4]);
    for n in 0..8 {
        let v = b.st(n);
        let m = u64::from_le_bytes(v[..8].try_into().unwrap());
        let p = (top as u8 + n as u8) & 7;
        x86::x87::set_physical(f, p, m, u16::from_le_bytes([v[8], v[9]]));
    }
    s.mxcsr = b.mxcsr();
    s.mxcsr_changed();
    for n in 0..16 {
        let v = b.xmm(n);
        s.xmm[n] = [v as u64, (v >> 64) as u64];
    }
    cpu.set_rflags(b.flags | 2);
    cpu.mmu.space().write(softmmu::Gpa(AT + MEM as u64), &b.mem).unwrap();
    let block = decode::single(bytes, CODE, cpu.st.mode).expect("decodes");
    (block.insns[0].run)(cpu, &block.insns[0], [].iter());
    let result = match cpu.st.stop {
        x86::state::stop::NONE | x86::state::stop::AFTER => Ok(()),
        x86::state::stop::FAULT => Err(cpu.st.fault.vector),
        other => panic!("stop {other}: {:?}", cpu.report),
    };
    b.flags = cpu.rflags() & ARITH;
    let s = &cpu.st;
    for (r, v) in [reg::RAX, reg::RCX, reg::RDX, reg::RBX, reg::RSI, reg::RDI].into_iter().zip(&mut b.gpr) {
        *v = s.gpr[r as usize];
    }
    b.set16(0, s.x87.cw);
    b.set16(2, s.x87.sw);
    b.fx[4] = x86::x87::abridged_tag(&s.x87);
    let top = (s.x87.sw >> 11 & 7) as u8;
    for n in 0..8 {
        let (m, e) = x86::x87::get_physical(&s.x87, top + n as u8);
        let mut v = [0; 10];
        v[..8].copy_from_slice(&m.to_le_bytes());
        v[8..].copy_from_slice(&e.to_le_bytes());
        b.set_st(n, v);
    }
    b.set_mxcsr(s.mxcsr);
    for n in 0..16 {
        b.set_xmm(n, u128::from(s.xmm[n][0]) | u128::from(s.xmm[n][1]) << 64);
    }
    cpu.mmu.space().read(softmmu::Gpa(AT + MEM as u64), &mut b.mem).unwrap();
    result
}
