//! The x87 FPU (SDM vol. 1, chapter 8): stack, tags, exceptions and state; the arithmetic is `softfp::x87`.
//!
//! Every x87 instruction is a helper that all tiers call, but for the common case of those that only move numbers about
//! ([`lift`]). [`select`] picks one, monomorphised for operation and memory format where it is frequent.
//!
//! The order within an instruction: a pending exception is reported; memory is read; the last-instruction pointers are
//! noted; stack faults are found; the operation runs under an [`Env`] made from the control word; memory is written, or
//! the register unless the exception says otherwise; flags reach the status word. A page fault therefore finds nothing
//! changed.
//!
//! Terms: ST(n) is relative to TOP; *physical* registers R0..R7 are what [`X87`] stores. A *stack fault* is IE with SF;
//! C1 tells overflow (1) from underflow (0).

mod arith;
mod control;
mod eval;
pub mod lift;
mod load_store;
mod select;
mod stack;
mod transcend;

pub(crate) use control::settled;
pub use select::{note_opcode, select};
pub use stack::{ES, TOP_MASK, abridged_tag, full_tag_word, get_physical, set_abridged_tag, set_physical};

use crate::emit::R;
use crate::insn::Insn;
use crate::state::{Shadow, cr0, rflags};
use crate::vcpu::{Vcpu, vector};

/// Reports a pending unmasked exception, as every waiting x87 and MMX instruction does before anything else.
#[inline(always)]
pub fn wait(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.x87.sw & ES != 0 { pending(cpu, i) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn pending(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.cr0 & cr0::NE != 0 {
        return Err(cpu.raise(vector::MF, None, 0));
    }
    // SDM vol. 1, 8.7.2 and D.2.1: FERR# asks the board for an interrupt, and the processor waits for it before this
    // instruction, so that the handler finds the pointers of the one that failed. Where none comes (IGNNE# is active,
    // the line or all interrupts are masked) the instruction executes: a processor without IGNNE# would wait for ever.
    let now = cpu.now_at(i);
    cpu.bus.ferr(true, now);
    let accepts = cpu.st.flags & rflags::IF != 0 && cpu.st.shadow == Shadow::None;
    if accepts && cpu.bus.interrupt_pending() {
        return Err(cpu.stop_before());
    }
    cpu.stop_after();
    Ok(())
}
