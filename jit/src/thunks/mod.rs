//! Where generated code and Rust meet.
//!
//! `enter` calls a block; blocks go on to each other by tail calls and return to `enter` when the dispatcher is needed.
//! Memory accesses that miss the TLB call [`slow_memory`] through a thunk that preserves every register, so that the hot
//! path allocates registers as if there were no call. When nothing can be done there (a fault, a device, a store into
//! translated code), the thunk does not return: it restores the dispatcher's stack pointer, and the dispatcher executes
//! the instruction in tier 0, which raises the fault or does the device access exactly. No Rust frame is skipped: the
//! Rust function has returned by then, and frames of generated code hold nothing to unwind.

#![expect(unsafe_code, reason = "called from generated code with raw pointers")]

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::{
    enter, exit_stub, leave, load8, load16, load32, load64, lock16, lock32, lock64, memory_thunk,
    place_read128, place_read256, place_write128, place_write256, place8, place16, place32, place64,
    return_stub, store8, store16, store32, store64,
};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::{
    enter, exit_stub, leave, load8, load16, load32, load64, lock16, lock32, lock64, memory_thunk,
    place_read128, place_read256, place_write128, place_write256, place8, place16, place32, place64,
    return_stub, store8, store16, store32, store64,
};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod absent;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use absent::{
    enter, exit_stub, leave, load8, load16, load32, load64, lock16, lock32, lock64, memory_thunk,
    place_read128, place_read256, place_write128, place_write256, place8, place16, place32, place64,
    return_stub, store8, store16, store32, store64,
};

/// Loads and stores where vCPUs run in parallel: the same on x86 hosts, whose order is the guest's.
pub mod ordered {
    #[cfg(target_arch = "aarch64")]
    pub use super::aarch64::{
        ordered_load8 as load8, ordered_load16 as load16, ordered_load32 as load32, ordered_load64 as load64,
        ordered_store8 as store8, ordered_store16 as store16, ordered_store32 as store32,
        ordered_store64 as store64,
    };
    #[cfg(not(target_arch = "aarch64"))]
    pub use super::{load8, load16, load32, load64, store8, store16, store32, store64};
}

use softmmu::{GuestInt, TlbEntry};
use x86::cc::{CcKind, cc_op};
use x86::insn::{Cond, Insn, Rest, Width};
use x86::state::{Mode, stop};
use x86::{Emitter, Vcpu};

use crate::layout::{JitFrame, SCRATCH_ADDEND, SCRATCH_FRAME, TLB_INDEX_MASK, jump_tag, pack};
use crate::tb::default_fp;

/// The host's floating-point environment while generated code runs: its sticky flags are the guest's. On x86 hosts all of
/// them, elsewhere only "inexact" (generated code stays away from what sets the others, see `compile::float`). The control
/// bits are the default ones on both sides; while the guest's are not, no floating-point code is entered.
pub mod guest_flags {
    use super::{Vcpu, default_fp};

    /// PE in MXCSR.
    #[cfg(target_arch = "aarch64")]
    const PE: u32 = 1 << 5;
    /// IXC in FPSR.
    #[cfg(target_arch = "aarch64")]
    const IXC: u64 = 1 << 4;

    /// Before generated code runs, and after Rust code that it called.
    #[inline]
    pub fn give(cpu: &Vcpu) {
        if default_fp(cpu.st.mxcsr) {
            set(cpu.st.mxcsr);
        }
    }

    /// After generated code, and before Rust code that it calls: the guest's MXCSR is exact again.
    #[inline]
    pub fn take(cpu: &mut Vcpu) {
        if default_fp(cpu.st.mxcsr) {
            let new = cpu.st.mxcsr | get();
            if new != cpu.st.mxcsr {
                cpu.st.mxcsr = new;
                cpu.st.mxcsr_changed();
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn set(mxcsr: u32) {
        let v: u32 = mxcsr & 0x3f | 0x1f80;
        // SAFETY: loads a valid MXCSR with all exceptions masked and the default rounding mode.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const v, options(nostack, readonly)) };
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn get() -> u32 {
        let mut v: u32 = 0;
        // SAFETY: stores MXCSR to a local.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut v, options(nostack)) };
        v & 0x3f
    }

    #[cfg(target_arch = "aarch64")]
    #[inline]
    fn set(mxcsr: u32) {
        let v: u64 = if mxcsr & PE != 0 { IXC } else { 0 };
        // SAFETY: writes the cumulative exception flags.
        unsafe { std::arch::asm!("msr fpsr, {}", in(reg) v, options(nomem, nostack)) };
    }

    #[cfg(target_arch = "aarch64")]
    #[inline]
    fn get() -> u32 {
        let v: u64;
        // SAFETY: reads the cumulative exception flags.
        unsafe { std::arch::asm!("mrs {}, fpsr", out(reg) v, options(nomem, nostack)) };
        if v & IXC != 0 { PE } else { 0 }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn set(_: u32) {}

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn get() -> u32 {
        0
    }
}

/// The frame of the vCPU whose generated code is running.
fn frame(cpu: &Vcpu) -> *mut JitFrame {
    cpu.st.scratch[SCRATCH_FRAME] as *mut JitFrame
}

/// The slow path of an access at `va`. Zero: the addend is in `scratch[SCRATCH_ADDEND]`, go on. One: leave the block.
///
/// # Safety
/// Called by generated code (through the memory thunk) with its own state, an instruction of the running block, and the
/// value to store in `frame.bounce` for stores.
pub unsafe extern "C" fn slow_memory(cpu: *mut Vcpu, va: u64, insn: *const Insn, packed: u64) -> u64 {
    // SAFETY: generated code passes the vCPU that it runs on, exclusively, and an instruction of a live block.
    let (cpu, insn) = unsafe { (&mut *cpu, &*insn) };
    let f = frame(cpu);
    // SAFETY: the dispatcher put its frame there before it entered generated code.
    let f = unsafe { &mut *f };
    let size = pack::size(packed);
    let write = packed & pack::WRITE != 0;
    let served = if packed & pack::RMW != 0 {
        f.slow_stores += 1;
        read_modify_write(cpu, va, packed)
    } else if write {
        f.slow_stores += 1;
        store(cpu, f, va, size)
    } else {
        f.slow_loads += 1;
        match sampled(cpu, f, va, insn, size, || packed >> pack::COUNT) {
            Some(v) => {
                f.bounce[0] = v;
                bounced(f, va)
            }
            None => load(cpu, f, va, size).and_then(|()| loaded(cpu, f, va, size)),
        }
    };
    match served {
        Some(addend) => {
            cpu.st.scratch[SCRATCH_ADDEND] = addend;
            f.tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
            0
        }
        None => {
            f.redos += 1;
            redo(cpu, insn, packed);
            1
        }
    }
}

/// The slow path of an access thunk. Zero: done, and the value or the host address is in `scratch[SCRATCH_ADDEND]`. One: leave
/// the block.
///
/// # Safety
/// As [`slow_memory`]; `value` is what a store stores (vectors: they are in `frame.bounce`).
pub unsafe extern "C" fn slow_access(
    cpu: *mut Vcpu,
    va: u64,
    insn: *const Insn,
    kind: u64,
    value: u64,
) -> u64 {
    // SAFETY: generated code passes the vCPU that it runs on, exclusively, and an instruction of a live block.
    let (cpu, insn) = unsafe { (&mut *cpu, &*insn) };
    // SAFETY: the dispatcher put its frame there before it entered generated code.
    let f = unsafe { &mut *frame(cpu) };
    let size = pack::size(kind);
    let (write, rmw, place) = (kind & pack::WRITE != 0, kind & pack::RMW != 0, kind & pack::PLACE != 0);
    *(if write { &mut f.slow_stores } else { &mut f.slow_loads }) += 1;
    if !write
        && !place
        && let Some(v) = sampled(cpu, f, va, insn, size, || block_count(insn).into())
    {
        cpu.st.scratch[SCRATCH_ADDEND] = v;
        return 0;
    }
    let result = if rmw {
        read_modify_write(cpu, va, kind).map(|addend| va.wrapping_add(addend))
    } else if write {
        if !place {
            f.bounce[0] = value;
        }
        store(cpu, f, va, size).map(|addend| va.wrapping_add(addend))
    } else if place {
        let addend = load(cpu, f, va, size).and_then(|()| loaded(cpu, f, va, size));
        addend.map(|addend| va.wrapping_add(addend))
    } else {
        load(cpu, f, va, size).map(|()| f.bounce[0])
    };
    let Some(result) = result else {
        f.redos += 1;
        redo(cpu, insn, u64::from(block_count(insn)) << pack::COUNT);
        return 1;
    };
    f.tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
    if place || !write {
        cpu.st.scratch[SCRATCH_ADDEND] = result;
    }
    0
}

/// Reads a device for `insn` where that is all that happens ([`x86::Bus::sample_mmio`]), at its exact time: `count` tells how many
/// instructions its block has taken off the budget. Doing it in the block is the same as doing it alone, and it may be done
/// again if the instruction turns out to need tier 0 for another reason. No lock is taken on this way, and nothing is written
/// that another vCPU reads.
#[inline]
fn sampled(
    cpu: &mut Vcpu,
    f: &mut JitFrame,
    va: u64,
    insn: &Insn,
    size: u64,
    count: impl Fn() -> u64,
) -> Option<u64> {
    if size > 8 || !reachable(cpu, va, size) {
        return None;
    }
    let gpa = cpu.mmu.device_hit(va, size)?;
    cpu.st.count_bias = count();
    let v = cpu.bus.sample_mmio(gpa.0, size as u8, cpu.now_at(insn))?;
    f.samples += 1;
    Some(v)
}

/// How many instructions count in the block of `insn`: its last record says so.
fn block_count(insn: &Insn) -> u32 {
    let mut at = std::ptr::from_ref(insn);
    // SAFETY: records of a block lie one after the other, and the last one has `ends`.
    unsafe {
        while !(*at).ends {
            at = at.add(1);
        }
        u32::from((*at).idx) + u32::from((*at).op != x86::Op::EndBlock)
    }
}

/// Leaves a block before `insn`, which tier 0 is to execute alone.
///
/// # Safety
/// As [`slow_memory`].
pub unsafe extern "C" fn redo_insn(cpu: *mut Vcpu, insn: *const Insn, packed: u64) {
    // SAFETY: generated code passes the vCPU that it runs on, exclusively, and an instruction of a live block.
    let (cpu, insn) = unsafe { (&mut *cpu, &*insn) };
    // SAFETY: the dispatcher put its frame there before it entered generated code.
    unsafe { (*frame(cpu)).redos += 1 };
    redo(cpu, insn, packed);
}

fn redo(cpu: &mut Vcpu, insn: &Insn, packed: u64) {
    if packed & pack::PENDING != 0 {
        // SAFETY: as above.
        let (op, res) = unsafe { ((*frame(cpu)).pending_op, (*frame(cpu)).pending_res) };
        let cf = cpu.cond(Cond::B);
        let (kind, w) = (CcKind::from_u8((op >> 2) as u8), Width::from_u8((op & 3) as u8));
        debug_assert_eq!(cc_op(kind, w), op as u32);
        cpu.set_cc(kind, w, res, cf, cf);
    }
    cpu.st.stop = stop::REDO;
    x86::interp::settle(cpu, (packed >> pack::COUNT) as u32, insn);
}

/// Runs the tier-0 handler of `insn` for generated code. Non-zero: the block must be left; RIP and the budget are exact.
///
/// # Safety
/// As [`slow_memory`].
pub unsafe extern "C" fn run_handler(cpu: *mut Vcpu, insn: *const Insn, count: u64) -> u64 {
    // SAFETY: generated code passes the vCPU that it runs on, exclusively, and an instruction of a live block.
    let (cpu, insn) = unsafe { (&mut *cpu, &*insn) };
    // x87 instructions and IN look at no sticky flag of MXCSR, set none, and change neither mode nor translation; reading and writing
    // the host's register takes longer than most of them.
    let apart = matches!(insn.op, x86::Op::X87(_) | x86::Op::In);
    if !apart {
        guest_flags::take(cpu);
    }
    (insn.run)(cpu, insn, Rest::default());
    if !apart {
        guest_flags::give(cpu);
    }
    if cpu.parallel && insn.op == x86::Op::Cold {
        // Serialising instructions are among these: the guest goes on with what others have changed.
        crate::platform::synchronize();
    }
    // SAFETY: the dispatcher put its frame there before it entered generated code.
    let f = unsafe { &mut *frame(cpu) };
    if cpu.st.stop == stop::NONE {
        if !apart {
            f.tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
        }
        return 0;
    }
    f.stopped += 1;
    x86::interp::settle(cpu, count as u32, insn);
    1
}

/// Evaluates a condition on the flags in the state for generated code that does not know their kind.
///
/// # Safety
/// As [`slow_memory`].
pub unsafe extern "C" fn eval_cond(cpu: *mut Vcpu, cond: u64) -> u64 {
    // SAFETY: generated code passes the vCPU that it runs on, exclusively.
    let cpu = unsafe { &mut *cpu };
    cpu.cond(Cond::from_u8(cond as u8))
}

/// The six arithmetic flags for generated code that does not know their kind.
///
/// # Safety
/// As [`slow_memory`].
pub unsafe extern "C" fn eval_flags(cpu: *mut Vcpu) -> u64 {
    // SAFETY: generated code passes the vCPU that it runs on, exclusively.
    let cpu = unsafe { &mut *cpu };
    cpu.arith_flags()
}

/// Addend of `va` if a fast entry serves `size` bytes there.
fn fast(cpu: &Vcpu, va: u64, size: u64, write: bool) -> Option<u64> {
    let bank = (&raw const cpu.mmu).cast::<u8>().wrapping_add(softmmu::layout::MMU_BANK).cast::<*const u8>();
    // SAFETY: `MMU_BANK` is the offset of the bank pointer, and the masked offset stays inside the bank.
    let e = unsafe { &*(*bank).add((va >> 7 & TLB_INDEX_MASK as u64) as usize).cast::<TlbEntry>() };
    let tag = if write { &e.write } else { &e.read };
    // Relaxed: only this vCPU's thread fills its entries.
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let hit = tag.load(relaxed) == va.wrapping_add(size - 1) & !0xfff;
    hit.then(|| e.addend.load(relaxed))
}

/// Addend that leads an access at `va` to the bounce buffer.
fn bounced(f: &mut JitFrame, va: u64) -> Option<u64> {
    Some((f.bounce.as_ptr() as u64).wrapping_sub(va))
}

/// The addend for a load of RAM that [`load`] allowed: of its page if a fast entry serves it now, else of the bounce buffer.
fn loaded(cpu: &Vcpu, f: &mut JitFrame, va: u64, size: u64) -> Option<u64> {
    fast(cpu, va, size, false).or_else(|| bounced(f, va))
}

/// Loads RAM into the bounce buffer.
fn load(cpu: &mut Vcpu, f: &mut JitFrame, va: u64, size: u64) -> Option<()> {
    fn read<T: GuestInt>(cpu: &mut Vcpu, va: u64) -> Option<u64> {
        cpu.mmu.read_ram::<T>(va).ok().map(Into::into)
    }
    if !reachable(cpu, va, size) {
        return None;
    }
    f.bounce[0] = match size {
        1 => read::<u8>(cpu, va)?,
        2 => read::<u16>(cpu, va)?,
        4 => read::<u32>(cpu, va)?,
        8 => read::<u64>(cpu, va)?,
        10 => {
            f.bounce[1] = read::<u16>(cpu, va.wrapping_add(8))?;
            read::<u64>(cpu, va)?
        }
        _ => {
            let mut first = 0;
            for k in (0..size / 16).rev() {
                let v = cpu.mmu.read128(va.wrapping_add(16 * k)).ok()?;
                first = v as u64;
                (f.bounce[2 * k as usize], f.bounce[2 * k as usize + 1]) = (first, (v >> 64) as u64);
            }
            first
        }
    };
    Some(())
}

fn store(cpu: &mut Vcpu, f: &mut JitFrame, va: u64, size: u64) -> Option<u64> {
    if !reachable(cpu, va, size) {
        return None;
    }
    let v = f.bounce[0];
    match size {
        1 => cpu.mmu.write_unless_code(va, v as u8).ok()?,
        2 => cpu.mmu.write_unless_code(va, v as u16).ok()?,
        4 => cpu.mmu.write_unless_code(va, v as u32).ok()?,
        8 => cpu.mmu.write_unless_code(va, v).ok()?,
        _ => {
            let mut bytes = [0; 32];
            for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(f.bounce) {
                *bytes = word.to_le_bytes();
            }
            cpu.mmu.write_bytes_unless_code(va, &bytes[..size as usize]).ok()?;
        }
    }
    // The store is done. Doing it again through a fast entry would be the same; the bounce buffer always takes it.
    bounced(f, va)
}

fn read_modify_write(cpu: &mut Vcpu, va: u64, packed: u64) -> Option<u64> {
    let size = pack::size(packed);
    let misaligned = packed & pack::LOCK != 0 && va & (size - 1) != 0;
    if misaligned || !reachable(cpu, va, size) {
        return None;
    }
    // Fills the entry for writing without changing memory. Tracked pages have no fast entry: tier 0 does those.
    cpu.mmu.probe(va, size, softmmu::Access::Write).ok()?;
    fast(cpu, va, size, true)
}

/// Can the access not wrap or be non-canonical? Such ones are tier 0's.
fn reachable(cpu: &Vcpu, va: u64, size: u64) -> bool {
    let last = va.wrapping_add(size - 1);
    let mode = cpu.st.mode;
    if mode.has(Mode::CODE64) {
        cpu.canonical(va) && cpu.canonical(last) && last >= va
    } else {
        last <= 0xffff_ffff
    }
}
