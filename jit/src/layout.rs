//! What generated code knows of memory layouts, and the per-vCPU record that it shares with the dispatcher.

use std::mem::offset_of;

use softmmu::{TLB_ENTRIES, layout as tlb};
use x86::state::Mode;
use x86::{CpuState, Vcpu};

use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize};
use crate::tb::{Tb, key_mode};

/// `scratch` slot where a slow path leaves the addend of the access.
pub const SCRATCH_ADDEND: usize = 0;
/// `scratch` slot that holds the address of [`JitFrame`] while generated code runs.
pub const SCRATCH_FRAME: usize = 3;

/// Offsets from the state pointer, which is a pointer to a [`Vcpu`].
pub mod off {
    #![expect(missing_docs, reason = "field names")]
    use super::{CpuState, SCRATCH_ADDEND, SCRATCH_FRAME, Vcpu, offset_of, tlb};
    const ST: usize = offset_of!(Vcpu, st);
    pub const GPR: i32 = (ST + offset_of!(CpuState, gpr)) as i32;
    pub const RIP: i32 = (ST + offset_of!(CpuState, rip)) as i32;
    pub const BUDGET: i32 = (ST + offset_of!(CpuState, budget)) as i32;
    pub const COUNT_BIAS: i32 = (ST + offset_of!(CpuState, count_bias)) as i32;
    pub const STOP: i32 = (ST + offset_of!(CpuState, stop)) as i32;
    pub const CC_OP: i32 = (ST + offset_of!(CpuState, cc_op)) as i32;
    pub const CC_RES: i32 = (ST + offset_of!(CpuState, cc_res)) as i32;
    pub const CC_SRC: i32 = (ST + offset_of!(CpuState, cc_src)) as i32;
    pub const CC_AUX: i32 = (ST + offset_of!(CpuState, cc_aux)) as i32;
    pub const FLAGS: i32 = (ST + offset_of!(CpuState, flags)) as i32;
    pub const MODE: i32 = (ST + offset_of!(CpuState, mode)) as i32;
    pub const MXCSR: i32 = (ST + offset_of!(CpuState, mxcsr)) as i32;
    pub const SCRATCH: i32 = (ST + offset_of!(CpuState, scratch)) as i32;
    pub const ADDEND: i32 = SCRATCH + 8 * SCRATCH_ADDEND as i32;
    pub const FRAME: i32 = SCRATCH + 8 * SCRATCH_FRAME as i32;
    pub const XMM: i32 = (ST + offset_of!(CpuState, xmm)) as i32;
    pub const YMM_HI: i32 = (ST + offset_of!(CpuState, ymm_hi)) as i32;
    const X87: usize = ST + offset_of!(CpuState, x87);
    pub const X87_MANT: i32 = (X87 + offset_of!(x86::state::X87, mant)) as i32;
    pub const X87_SEXP: i32 = (X87 + offset_of!(x86::state::X87, sexp)) as i32;
    pub const X87_SW: i32 = (X87 + offset_of!(x86::state::X87, sw)) as i32;
    pub const X87_EMPTY: i32 = (X87 + offset_of!(x86::state::X87, empty)) as i32;
    pub const X87_FOP: i32 = (X87 + offset_of!(x86::state::X87, fop)) as i32;
    pub const X87_FIP: i32 = (X87 + offset_of!(x86::state::X87, fip)) as i32;
    pub const X87_FCS: i32 = (X87 + offset_of!(x86::state::X87, fcs)) as i32;
    pub const X87_FDP: i32 = (X87 + offset_of!(x86::state::X87, fdp)) as i32;
    pub const X87_FDS: i32 = (X87 + offset_of!(x86::state::X87, fds)) as i32;
    pub const SEG: i32 = (ST + offset_of!(CpuState, seg)) as i32;
    pub const SEG_SIZE: i32 = size_of::<x86::state::Segment>() as i32;
    pub const SEG_BASE: i32 = offset_of!(x86::state::Segment, base) as i32;
    pub const SEG_SELECTOR: i32 = offset_of!(x86::state::Segment, selector) as i32;
    pub const BANK: i32 = (offset_of!(Vcpu, mmu) + tlb::MMU_BANK) as i32;
    pub const EPOCH: i32 = (offset_of!(Vcpu, mmu) + tlb::MMU_EPOCH) as i32;
}

const _: () = assert!(offset_of!(Vcpu, st) == 0, "thunks take the state pointer for a pointer to the Vcpu");

/// log2 of the size of a TLB entry.
pub const TLB_ENTRY_SHIFT: u32 = tlb::ENTRY_SHIFT;
/// Offset of the load tag in a TLB entry.
pub const TLB_READ: i32 = tlb::ENTRY_READ as i32;
/// Offset of the store tag.
pub const TLB_WRITE: i32 = tlb::ENTRY_WRITE as i32;
/// Offset of the addend.
pub const TLB_ADDEND: i32 = tlb::ENTRY_ADDEND as i32;
/// Mask of the byte offset of an entry in its bank, applied to `va >> (12 - TLB_ENTRY_SHIFT)`.
pub const TLB_INDEX_MASK: i64 = ((TLB_ENTRIES - 1) << TLB_ENTRY_SHIFT) as i64;

/// log2 of the number of jump-cache entries.
pub const JUMP_BITS: u32 = if cfg!(loom) { 1 } else { 16 };

/// An entry of the per-vCPU jump cache: where the code for a RIP is, valid for one (epoch, mode). The owner fills it; others take it
/// out (see [`crate::member`]).
#[repr(C)]
#[derive(Debug, Default)]
pub struct Jump {
    /// RIP (a linear address: entries exist for flat code segments only).
    pub rip: AtomicU64,
    /// [`jump_tag`].
    pub tag: AtomicU64,
    /// Host code: the block's, or the stub that returns to the dispatcher.
    pub code: AtomicPtr<u8>,
    /// The block; null in an empty entry.
    pub tb: AtomicPtr<Tb>,
}

/// log2 of the size of [`Jump`].
pub const JUMP_SHIFT: u32 = 5;
const _: () = assert!(cfg!(loom) || size_of::<Jump>() == 1 << JUMP_SHIFT);

/// What makes a jump-cache entry valid besides its RIP. Blocks of non-flat code are entered in the same cache under their linear
/// address, for the dispatcher only: their tags never match what generated code looks for.
#[inline]
pub const fn jump_tag(epoch: u64, mode: Mode) -> u64 {
    epoch << 20 ^ key_mode(mode).0 as u64 ^ if is_flat(mode) { 0 } else { 1 << 63 }
}

/// Is RIP a linear address?
#[inline]
pub const fn is_flat(mode: Mode) -> bool {
    mode.0 & (Mode::CODE64 | Mode::CS_FLAT) != 0
}

/// Index of a RIP in the jump cache. Generated code computes the same.
#[inline]
pub const fn jump_index(rip: u64) -> usize {
    ((rip ^ rip >> JUMP_BITS) & ((1 << JUMP_BITS) - 1)) as usize
}

/// What generated code and thunks share with the dispatcher. Its address is in `scratch[SCRATCH_FRAME]`.
#[repr(C)]
#[derive(Debug)]
pub struct JitFrame {
    /// The dispatcher's stack pointer, restored by thunks that leave generated code.
    pub sp: u64,
    /// The link through which generated code was left, or null.
    pub link: *const Link,
    /// [`jump_tag`] of the current epoch and mode; every Rust function that generated code calls and that may change either
    /// brings it up to date.
    pub tag: u64,
    /// A place that stands for guest memory in an access that the slow path has already done.
    pub bounce: [u64; 4],
    /// Lazy flags not yet in the state (see [`pack::PENDING`]).
    pub pending_op: u64,
    /// Likewise.
    pub pending_res: u64,
    /// Slow-path calls: loads.
    pub slow_loads: u64,
    /// Slow-path calls: stores.
    pub slow_stores: u64,
    /// Blocks left to redo an instruction in tier 0.
    pub redos: u64,
    /// Handler calls that stopped their block.
    pub stopped: u64,
    /// Devices read without leaving a block.
    pub samples: u64,
}

/// All that generated code finds at the frame's address.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// The owner's part.
    pub head: JitFrame,
    /// The jump cache.
    pub jumps: [Jump; 1 << JUMP_BITS],
}

const _: () = assert!(offset_of!(Frame, head) == 0);

/// Offset of the jump cache.
pub const FRAME_JUMPS: i32 = offset_of!(Frame, jumps) as i32;
/// Offset of [`Jump::tag`].
pub const JUMP_TAG: i32 = offset_of!(Jump, tag) as i32;
/// Offset of [`Jump::code`].
pub const JUMP_CODE: i32 = offset_of!(Jump, code) as i32;
/// Offset of [`Jump::tb`].
pub const JUMP_TB: i32 = offset_of!(Jump, tb) as i32;
/// Offset of the current tag.
pub const FRAME_TAG: i32 = offset_of!(JitFrame, tag) as i32;
/// Offset of the bounce buffer.
pub const FRAME_BOUNCE: i32 = offset_of!(JitFrame, bounce) as i32;
/// Offset of the pending flags.
pub const FRAME_PENDING_OP: i32 = offset_of!(JitFrame, pending_op) as i32;
/// See [`FRAME_PENDING_OP`].
pub const FRAME_PENDING_RES: i32 = offset_of!(JitFrame, pending_res) as i32;

/// One static exit of a compiled block: a jump (see [`crate::jump`]) to the target block's code, or to the link's way out of
/// generated code. For exits to another page generated code compares `epoch`; everything else is the dispatcher's.
#[repr(C)]
#[derive(Debug)]
pub struct Link {
    /// Host address of the bytes of the jump that are replaced; 0 while the block's code is not in its place.
    pub site: AtomicUsize,
    /// Host address of the way out.
    pub exit: AtomicUsize,
    /// The translation epoch in which the link was made.
    pub epoch: AtomicU64,
    /// RIP of the target.
    pub rip: u64,
    /// The block that the link leads to, null while it leads out. Under the table's lock.
    pub to: AtomicPtr<Tb>,
}

/// Offset of [`Link::epoch`].
pub const LINK_EPOCH: i32 = offset_of!(Link, epoch) as i32;
/// Offset of [`Link::rip`].
pub const LINK_RIP: i32 = offset_of!(Link, rip) as i32;

/// What a thunk needs to know of the access that calls it, in one register: bits 3:0 the size ([`pack::size`]), flags, and from
/// bit 16 on the block's count.
pub mod pack {
    /// Code of the ten bytes of an x87 register; other sizes are their binary logarithm.
    const TEN: u64 = 15;
    /// The code of a size in bytes.
    pub const fn size_code(size: u32) -> u64 {
        if size == 10 { TEN } else { size.trailing_zeros() as u64 }
    }
    /// The size in bytes that `packed` says.
    pub const fn size(packed: u64) -> u64 {
        match packed & 15 {
            TEN => 10,
            log => 1 << log,
        }
    }
    /// The access writes.
    pub const WRITE: u64 = 1 << 4;
    /// Lazy flags of kind INC or DEC are pending: operation and result are in the frame, CF is that of the flags in the
    /// state.
    pub const PENDING: u64 = 1 << 5;
    /// A read for a read-modify-write: the addend must be good for the store as well.
    pub const RMW: u64 = 1 << 6;
    /// The host address is wanted, not a value (access thunks).
    pub const PLACE: u64 = 1 << 7;
    /// The place is for a host atomic: it must be naturally aligned.
    pub const LOCK: u64 = 1 << 8;
    /// Where the block's count starts.
    pub const COUNT: u32 = 16;
}
