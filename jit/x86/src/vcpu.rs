//! A processor with its MMU and its way to the devices; raising exceptions, and guest memory as instructions see it.

use softmmu::{Access, GuestInt, MemTrap, Mmu, Privilege};

use crate::bus::Bus;
use crate::emit::{R, Stop};
use crate::insn::{AddrMode, Insn, Width};
use crate::model::{CpuModel, Era};
use crate::state::{CpuState, Fault, Mode, cr0, seg, stop};

/// Exception vectors (SDM vol. 3, table 6-1).
pub mod vector {
    #![expect(missing_docs, reason = "mnemonics")]
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const MC: u8 = 18;
    pub const XM: u8 = 19;
}

/// Marks the address of an operand that goes on at the beginning of its segment (8086): base and offset follow. No
/// memory lies there, so that the access comes to its trap.
const WRAPS: u64 = 1 << 48;

/// A virtual processor. `#[repr(C)]` with the registers first: a pointer to it is a pointer to them.
#[repr(C)]
pub struct Vcpu {
    /// Registers.
    pub st: CpuState,
    /// Translation of addresses and access to guest memory.
    pub mmu: Mmu,
    /// Devices.
    pub bus: Box<dyn Bus>,
    /// What CPUID and the MSRs say.
    pub model: CpuModel,
    /// The instruction count up to which the engine was told to run. An access to a port takes time, and brings it nearer.
    pub until: u64,
    /// Other vCPUs run at the same time.
    pub parallel: bool,
    /// What stopped the machine, when `stop` is `UNIMPLEMENTED` or `CORRUPT`: one line.
    pub report: Option<Box<str>>,
}

impl Vcpu {
    /// A processor in its power-on state.
    pub fn new(mmu: Mmu, bus: Box<dyn Bus>, model: CpuModel) -> Self {
        let mut v = Self {
            st: CpuState::power_on(),
            mmu,
            bus,
            model,
            until: u64::MAX,
            parallel: false,
            report: None,
        };
        v.power_on();
        v
    }

    /// Earlier stores are seen by the other vCPUs before later loads are done.
    #[inline]
    pub(crate) fn serialise(&self) {
        if self.parallel {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }

    /// Puts the registers in the model's power-on state.
    pub fn power_on(&mut self) {
        self.st = CpuState::power_on();
        // SDM vol. 3, 10.1.2: EDX tells family, model and stepping.
        self.st.gpr[crate::state::reg::RDX as usize] = self.model.signature().into();
        self.st.flags |= self.model.flags_fixed();
        self.st.cr0 &= crate::sys::control::cr0_mask(&self.model) | crate::state::cr0::ET;
        self.st.wait_sipi = !self.model.is_bootstrap();
        self.st.halted = self.st.wait_sipi;
        self.mode_changed();
    }

    /// A start-up IPI ends the wait for it: real mode at `vector << 12` (SDM vol. 3, 10.4.4).
    pub fn start_up(&mut self, vector: u8) {
        (self.st.wait_sipi, self.st.halted) = (false, false);
        let cs = &mut self.st.seg[seg::CS as usize];
        (cs.selector, cs.base) = (u16::from(vector) << 8, u64::from(vector) << 12);
        self.st.rip = 0;
        self.load_state_changed();
    }

    /// INIT: registers as after power-on (processors other than the first wait for a start-up IPI then), but for what SDM vol. 3, table 10-1 keeps: caching bits of CR0, x87 and vector state,
    /// MSRs, and the places of SMM.
    pub fn init(&mut self) {
        let caching = self.st.cr0 & (cr0::CD | cr0::NW);
        let old = std::mem::take(&mut self.st);
        let st = &mut self.st;
        st.cr0 = cr0::ET | caching;
        (st.x87, st.xmm, st.ymm_hi, st.mxcsr) = (old.x87, old.xmm, old.ymm_hi, old.mxcsr);
        (st.xcr0, st.pkru, st.restored) = (old.xcr0, old.pkru, old.restored);
        st.msr = crate::state::Msrs { efer: 0, ..old.msr };
        st.smbase = old.smbase;
        (st.icount_end, st.budget, st.time_offset, st.scratch) =
            (old.icount_end, old.budget, old.time_offset, old.scratch);
        st.pace = old.pace;
        st.wait_sipi = !self.model.is_bootstrap();
        st.halted = st.wait_sipi;
        st.gpr[crate::state::reg::RDX as usize] = self.model.signature().into();
        st.flags |= self.model.flags_fixed();
        self.load_state_changed();
    }

    /// Call after a change of CR0, CR4, EFER, CPL, RFLAGS.VM or a segment register: recomputes the mode and chooses the
    /// translation bank. (Paging control changes also need [`Vcpu::paging_changed`].)
    pub fn mode_changed(&mut self) {
        self.st.compute_mode();
        if self.model.era() < Era::I386 {
            self.st.mode.0 |= Mode::IP16;
        }
        self.privilege_changed();
    }

    /// Chooses the translation bank for CPL and RFLAGS.AC.
    #[inline]
    pub fn privilege_changed(&mut self) {
        let p = if self.st.cpl == 3 {
            Privilege::User
        } else if self.st.flags & crate::state::rflags::AC != 0 && self.st.cr4 & crate::state::cr4::SMAP != 0
        {
            Privilege::SupervisorAc
        } else {
            Privilege::Supervisor
        };
        self.mmu.select(p);
        // SDM vol. 3, 6.15, interrupt 17.
        let st = &self.st;
        let checks =
            st.cpl == 3 && st.flags & crate::state::rflags::AC != 0 && st.cr0 & crate::state::cr0::AM != 0;
        self.mmu.check_alignment(checks);
    }

    // ---- exceptions -------------------------------------------------------------------------------------------

    /// Raises an exception; the instruction must return the [`Stop`] at once.
    #[cold]
    pub fn raise(&mut self, vector: u8, code: Option<u32>, info: u64) -> Stop {
        self.st.fault = Fault { vector, has_code: code.is_some(), code: code.unwrap_or(0), info };
        self.st.stop = stop::FAULT;
        Stop
    }
    /// #GP with an error code.
    #[cold]
    pub fn gp(&mut self, code: u32) -> Stop {
        self.raise(vector::GP, Some(code), 0)
    }
    /// #UD.
    #[cold]
    pub fn ud(&mut self) -> Stop {
        self.raise(vector::UD, None, 0)
    }
    /// #NM.
    #[cold]
    pub fn nm(&mut self) -> Stop {
        self.raise(vector::NM, None, 0)
    }

    /// Does the instruction need to run alone (device access, exact count)? Then stops it now, with nothing done, if it
    /// is not.
    #[inline]
    pub fn need_single(&mut self) -> R<()> {
        if self.st.single { Ok(()) } else { Err(self.redo()) }
    }
    #[cold]
    fn redo(&mut self) -> Stop {
        self.st.stop = stop::REDO;
        Stop
    }

    /// Stops with nothing of the instruction done, for an interrupt that is pending.
    #[cold]
    pub fn stop_before(&mut self) -> Stop {
        self.st.stop = stop::EVENT;
        Stop
    }

    /// Marks the instruction as the last to execute before interrupts, deadlines and mode are looked at again.
    #[inline]
    pub fn stop_after(&mut self) {
        if self.st.stop == stop::NONE {
            self.st.stop = stop::AFTER;
        }
    }

    /// IF was set. Must interrupts and deadlines be looked at before the next instruction but one? Not where no interrupt waits
    /// and the next deadline is not here yet: what waits changes at deadlines and by accesses to devices only, and each of
    /// these looks by itself. (What other vCPUs that run in parallel send is found here, or at the end of the slice, which is a
    /// deadline.) So the usual STI, POPF and IRET of a kernel leave no block.
    #[inline]
    pub(crate) fn must_look(&mut self) -> bool {
        // The block's last instruction: the count that was taken is exact.
        self.st.icount() >= self.until || self.bus.interrupt_pending()
    }

    /// An instruction that Retrograde does not implement: stops the machine with one clear report.
    #[cold]
    pub fn unimplemented(&mut self, i: &Insn) -> Stop {
        let text = crate::decode::describe(self, i);
        tracing::trace!(target: "unimp", "{text}");
        self.report = Some(text.into());
        self.st.stop = stop::UNIMPLEMENTED;
        Stop
    }

    /// Retired instructions before `i`, which is being executed.
    #[inline]
    pub fn icount_at(&self, i: &Insn) -> u64 {
        let s = &self.st;
        s.icount_end.wrapping_sub(s.budget as u64).wrapping_sub(s.count_bias).wrapping_add(u64::from(i.idx))
    }
    /// Virtual time at which `i` executes.
    #[inline]
    pub fn now_at(&self, i: &Insn) -> u64 {
        if !self.st.pace.is_counted() {
            return self.bus.clock();
        }
        self.st.pace.time(self.icount_at(i)).wrapping_add(self.st.time_offset)
    }
    /// Virtual time between blocks.
    #[inline]
    pub fn now(&self) -> u64 {
        if self.st.pace.is_counted() { self.st.now() } else { self.bus.clock() }
    }
    /// Virtual time while one instruction executes alone (`CpuState::single`).
    #[inline]
    pub fn now_single(&self) -> u64 {
        if !self.st.pace.is_counted() {
            return self.bus.clock();
        }
        // budget was decremented for the one instruction.
        let s = &self.st;
        s.pace.time(s.icount_end.wrapping_sub(s.budget as u64).wrapping_sub(1)).wrapping_add(s.time_offset)
    }

    /// The access of `i` to `port` took its time: what was to come at a certain time comes that many instructions sooner.
    /// ([`Vcpu::until`] may stand for something else, too: then the machine looks around once more than it needs to.)
    pub fn pass_time(&mut self, i: &Insn, port: u16) {
        let time = self.bus.port_time(port);
        if time == 0 {
            return;
        }
        let after = self.icount_at(i).wrapping_add(1);
        let instructions = time.saturating_mul(self.st.pace.divisor.into());
        self.until = self.until.saturating_sub(instructions).max(after);
        let st = &mut self.st;
        st.time_offset = st.time_offset.wrapping_add(time);
        let over = st.icount_end.saturating_sub(self.until);
        if over > 0 {
            st.icount_end -= over;
            st.budget -= over as i64;
            if st.budget < 0 {
                // Inside a block, which has taken its whole count.
                st.stop = stop::SHORT;
            }
        }
    }

    // ---- addresses --------------------------------------------------------------------------------------------

    /// The linear address of `len` bytes at `off` in `seg`, with the checks that `mode` asks for.
    #[inline(always)]
    pub fn linear(&mut self, s: u8, mode: AddrMode, off: u64, len: u32, access: Access) -> R<u64> {
        match mode {
            AddrMode::Flat => Ok(off),
            AddrMode::Base => Ok(off.wrapping_add(self.st.seg[s as usize].base)),
            AddrMode::Checked => self.linear_checked(s, off, len, access),
        }
    }

    /// As [`Vcpu::linear`] for helpers, which do not know the mode statically.
    pub fn linear_any(&mut self, s: u8, off: u64, len: u32, access: Access) -> R<u64> {
        let mode = self.addr_mode(s);
        self.linear(s, mode, off, len, access)
    }

    /// How offsets in segment register `s` become linear addresses now.
    pub fn addr_mode(&self, s: u8) -> AddrMode {
        addr_mode(self.st.mode, s)
    }

    /// #SS for stack-segment accesses, #GP for the others, error code 0.
    #[cold]
    pub fn segment_fault(&mut self, s: u8) -> Stop {
        let v = if s == seg::SS { vector::SS } else { vector::GP };
        self.raise(v, Some(0), 0)
    }

    #[cold]
    #[inline(never)]
    fn linear_checked(&mut self, s: u8, off: u64, len: u32, access: Access) -> R<u64> {
        let d = self.st.seg[s as usize];
        let protected = self.st.mode.has(Mode::PROTECTED) && !self.st.mode.has(Mode::VM86);
        if protected {
            // A null selector loads a segment with P clear; SDM vol. 3, 5.3 and 5.4.1.
            let ok = d.attrs & 0x80 != 0
                && match access {
                    Access::Read => d.is_readable(),
                    Access::Write => d.is_writable(),
                    Access::Execute => d.is_code(),
                };
            if !ok {
                return Err(self.segment_fault(s));
            }
        }
        let (first, last) = (off, off + u64::from(len) - 1);
        let limit = u64::from(d.limit);
        let ok = if d.is_expand_down() && protected {
            let top = if d.db() { 0xffff_ffff } else { 0xffff };
            first > limit && last <= top
        } else {
            last <= limit
        };
        if !ok {
            if self.model.era() < Era::I286 {
                return Ok(WRAPS | d.base << 24 | off);
            }
            return Err(self.segment_fault(s));
        }
        Ok(d.base.wrapping_add(off) & 0xffff_ffff)
    }

    /// The linear address of byte `k` of an operand that the 8086 continues at offset 0, if `linear` marks one.
    fn wrapped(&self, linear: u64, k: u64) -> Option<u64> {
        let off = (linear & 0xff_ffff).wrapping_add(k) & 0xffff;
        (linear & WRAPS != 0 && self.model.era() < Era::I286).then(|| (linear >> 24 & 0xf_ffff) + off)
    }

    /// Is the linear address canonical (48 bits, or 57 with LA57)?
    #[inline]
    pub fn canonical(&self, linear: u64) -> bool {
        let s = if self.st.cr4 & crate::state::cr4::LA57 != 0 { 7 } else { 16 };
        ((linear << s) as i64 >> s) as u64 == linear
    }

    // ---- guest memory -----------------------------------------------------------------------------------------

    /// Reads an integer at a linear address with the current privilege.
    #[inline(always)]
    pub fn read<T: GuestInt>(&mut self, s: u8, linear: u64) -> R<T> {
        match self.mmu.read::<T>(linear) {
            Ok(v) => Ok(v),
            Err(t) => self.read_trap(s, linear, t),
        }
    }

    /// Writes an integer at a linear address with the current privilege.
    #[inline(always)]
    pub fn write<T: GuestInt>(&mut self, s: u8, linear: u64, v: T) -> R<()> {
        if self.mmu.write_hit(linear, v) { Ok(()) } else { self.write_miss(s, linear, v) }
    }

    #[cold]
    #[inline(never)]
    fn write_miss<T: GuestInt>(&mut self, s: u8, linear: u64, v: T) -> R<()> {
        match self.mmu.write::<T>(linear, v) {
            Ok(()) => {
                self.check_code_write();
                Ok(())
            }
            Err(t) => self.write_trap(s, linear, v, t),
        }
    }

    /// A store may have hit the code being run: then the block is left after this instruction. (That a write is pending is not all: another
    /// vCPU may have taken ours out of the queue already, and be about to remove what we would go on with.)
    #[inline(always)]
    pub fn check_code_write(&mut self) {
        if self.mmu.has_written_code() || self.mmu.space().code_writes_pending() {
            self.stop_after();
        }
    }

    /// Turns a trap of the MMU into an exception (or a stop with a report) and returns the [`Stop`].
    #[cold]
    pub fn mem_fault(&mut self, s: u8, linear: u64, t: MemTrap) -> Stop {
        if self.st.mode.has(Mode::LONG) && !self.canonical(linear) {
            return self.segment_fault(s);
        }
        match t {
            MemTrap::Page(f) => {
                tracing::trace!(target: "mmu", "page fault: address {:#x}, error code {:#x}", f.gva, f.code);
                self.raise(vector::PF, Some(f.code), f.gva)
            }
            MemTrap::Corrupt(text) => {
                self.report = Some(text);
                self.st.stop = stop::CORRUPT;
                Stop
            }
            MemTrap::Misaligned => self.raise(vector::AC, Some(0), 0),
            MemTrap::Mmio { .. } | MemTrap::Split => self.redo(),
        }
    }

    /// A failed access at a non-canonical or wrapping place is sorted out here before the MMU's verdict counts.
    #[cold]
    pub(crate) fn address_ok(&mut self, s: u8, linear: u64, len: u64) -> R<()> {
        if self.st.mode.has(Mode::LONG) && self.st.mode.has(Mode::CODE64) {
            let last = linear.wrapping_add(len - 1);
            if !self.canonical(linear) || !self.canonical(last) {
                return Err(self.segment_fault(s));
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn read_trap<T: GuestInt>(&mut self, s: u8, linear: u64, t: MemTrap) -> R<T> {
        let len = size_of::<T>() as u64;
        if self.wrapped(linear, 0).is_some() {
            let mut v = 0u64;
            for k in 0..len {
                let at = self.wrapped(linear, k).unwrap_or(0);
                v |= u64::from(self.read::<u8>(s, at)?) << (8 * k);
            }
            return Ok(T::truncate(v));
        }
        self.address_ok(s, linear, len)?;
        match t {
            MemTrap::Mmio { gpa } => {
                self.need_single()?;
                let now = self.now_single();
                if let Some(v) = self.bus.sample_mmio(gpa.0, len as u8, now) {
                    return Ok(T::truncate(v));
                }
                let v = self.bus.mmio_read(gpa.0, len as u8, now);
                self.stop_after();
                Ok(T::truncate(v))
            }
            MemTrap::Split => {
                self.need_single()?;
                // Probe all bytes before a read that may have side effects.
                for k in 0..len {
                    self.probe_byte(s, linear.wrapping_add(k), Access::Read)?;
                }
                let mut v = 0u64;
                for k in 0..len {
                    v |= u64::from(self.read::<u8>(s, self.wrap(linear, k))?) << (8 * k);
                }
                Ok(T::truncate(v))
            }
            t => Err(self.mem_fault(s, linear, t)),
        }
    }

    /// `linear + k`, wrapping at 4 GiB outside 64-bit mode.
    #[inline]
    fn wrap(&self, linear: u64, k: u64) -> u64 {
        let a = linear.wrapping_add(k);
        if self.st.mode.has(Mode::CODE64) { a } else { a & 0xffff_ffff }
    }

    #[cold]
    #[inline(never)]
    fn write_trap<T: GuestInt>(&mut self, s: u8, linear: u64, v: T, t: MemTrap) -> R<()> {
        let len = size_of::<T>() as u64;
        if self.wrapped(linear, 0).is_some() {
            for k in 0..len {
                let at = self.wrapped(linear, k).unwrap_or(0);
                self.write::<u8>(s, at, (Into::<u64>::into(v) >> (8 * k)) as u8)?;
            }
            return Ok(());
        }
        self.address_ok(s, linear, len)?;
        match t {
            MemTrap::Mmio { gpa } => {
                self.need_single()?;
                let now = self.now_single();
                self.bus.mmio_write(gpa.0, len as u8, Into::<u64>::into(v), now);
                self.stop_after();
                Ok(())
            }
            MemTrap::Split => {
                self.need_single()?;
                for k in 0..len {
                    self.probe_byte(s, linear.wrapping_add(k), Access::Write)?;
                }
                for k in 0..len {
                    self.write::<u8>(s, self.wrap(linear, k), (Into::<u64>::into(v) >> (8 * k)) as u8)?;
                }
                Ok(())
            }
            t => Err(self.mem_fault(s, linear, t)),
        }
    }

    fn probe_byte(&mut self, s: u8, linear: u64, access: Access) -> R<()> {
        match self.mmu.probe(linear, 1, access) {
            Ok(()) | Err(MemTrap::Mmio { .. }) => Ok(()),
            Err(t) => Err(self.mem_fault(s, linear, t)),
        }
    }

    /// Checks that `len` bytes can be accessed, without accessing them. Device memory passes.
    pub fn probe(&mut self, s: u8, linear: u64, len: u64, access: Access) -> R<()> {
        if self.mmu.probe(linear, len, access).is_ok() {
            return Ok(());
        }
        self.address_ok(s, linear, len)?;
        let first_page = 0x1000 - (linear & 0xfff);
        self.probe_byte(s, linear, access)?;
        if len > first_page {
            self.probe_byte(s, self.wrap(linear, first_page), access)?;
        }
        Ok(())
    }

    /// The alignment check of an operand that is not accessed after all.
    pub fn check_alignment(&mut self, linear: u64, len: u32) -> R<()> {
        let user = self.mmu.checks_alignment() && self.st.cpl == 3;
        if user && matches!(len, 2 | 4 | 8) && linear & u64::from(len - 1) != 0 {
            return Err(self.raise(vector::AC, Some(0), 0));
        }
        Ok(())
    }

    /// Reads an integer of run-time width through a segment, as helpers do.
    pub fn read_seg(&mut self, s: u8, off: u64, w: Width) -> R<u64> {
        let at = self.linear_any(s, off, w.bytes(), Access::Read)?;
        self.read_w(s, at, w)
    }

    /// Writes an integer of run-time width through a segment.
    pub fn write_seg(&mut self, s: u8, off: u64, w: Width, v: u64) -> R<()> {
        let at = self.linear_any(s, off, w.bytes(), Access::Write)?;
        self.write_w(s, at, w, v)
    }

    /// Reads at a linear address.
    #[inline(always)]
    pub fn read_w(&mut self, s: u8, at: u64, w: Width) -> R<u64> {
        Ok(match w {
            Width::B => u64::from(self.read::<u8>(s, at)?),
            Width::W => u64::from(self.read::<u16>(s, at)?),
            Width::D => u64::from(self.read::<u32>(s, at)?),
            Width::Q => self.read::<u64>(s, at)?,
        })
    }

    /// Writes at a linear address.
    #[inline(always)]
    pub fn write_w(&mut self, s: u8, at: u64, w: Width, v: u64) -> R<()> {
        match w {
            Width::B => self.write::<u8>(s, at, v as u8),
            Width::W => self.write::<u16>(s, at, v as u16),
            Width::D => self.write::<u32>(s, at, v as u32),
            Width::Q => self.write::<u64>(s, at, v),
        }
    }

    /// Offset of the memory operand of `i`, truncated to its address width.
    #[inline(always)]
    pub fn ea(&self, i: &Insn) -> u64 {
        let g = &self.st.gpr;
        let a = g[i.base as usize & 31]
            .wrapping_add(g[i.index as usize & 31].wrapping_mul(u64::from(i.factor)))
            .wrapping_add(i.disp);
        if i.aw == Width::Q { a } else { a & i.aw.mask() }
    }

    /// Linear address of `len` bytes at the memory operand of `i`.
    #[inline(always)]
    pub fn operand(&mut self, i: &Insn, len: u32, access: Access) -> R<u64> {
        let off = self.ea(i);
        self.linear(i.seg, i.am, off, len, access)
    }
}

/// How offsets in segment register `s` become linear addresses in `mode`.
pub fn addr_mode(mode: Mode, s: u8) -> AddrMode {
    let flat = match s {
        seg::ES => Mode::ES_FLAT,
        // Outside 64-bit mode a code segment cannot be written, however flat it is (SDM vol. 3, 5.3).
        seg::CS if !mode.has(Mode::CODE64) => return AddrMode::Checked,
        seg::CS => Mode::CS_FLAT,
        seg::SS => Mode::SS_FLAT,
        seg::DS => Mode::DS_FLAT,
        _ if mode.has(Mode::CODE64) => return AddrMode::Base,
        _ => return AddrMode::Checked,
    };
    if mode.has(flat) { AddrMode::Flat } else { AddrMode::Checked }
}
