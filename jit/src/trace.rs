//! What `-d` shows of the engine: translated guest code, host code, and each block as it is entered.
//!
//! Requirement: every entry of a block must be seen, in every tier, although compiled blocks jump to each other and to
//! themselves without coming back. Solution: while entries are shown, a slice is one block long, so that whatever a block
//! leads to does not fit the budget and comes back. Decided when the engine is built: otherwise nothing is checked.
//! Limitation: what is redone alone (a device access, say) begins a block of its own, as under QEMU.

#![expect(unsafe_code, reason = "blocks are held by address between safepoints")]

use softmmu::PAGE_SIZE;
use x86::Vcpu;
use x86::show;
use x86::state::{seg, stop};
use x86::sys;

use crate::compile::{Code, Compiler, Tier};
use crate::engine::{Engine, Exit};
use crate::tb::Tb;

/// What is logged, as `tracing` events of level TRACE. Their targets are QEMU's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// `in_asm`: the guest instructions of each block when it is decoded.
    pub guest_code: bool,
    /// `out_asm`: the host instructions of each compiled block.
    pub host_code: bool,
    /// `op`: Cranelift's input for each compiled block.
    pub ir: bool,
    /// `exec`: each block as it is entered.
    pub blocks: bool,
    /// `cpu`: the registers at that point.
    pub registers: bool,
}

impl Trace {
    /// Must every entry of a block be seen?
    pub(crate) fn each_block(self) -> bool {
        self.blocks || self.registers
    }

    /// Is compiled code shown?
    pub(crate) fn code(self) -> bool {
        self.host_code || self.ir
    }

    #[cold]
    pub(crate) fn show_code(self, compiler: &mut Compiler, tb: &Tb, code: &Code) {
        let (rip, count, bytes) = (tb.key.rip, tb.block.count, code.body);
        let tier = code.tier as u8;
        // The compiler's own listing is made where it is needed only: by compiling once more.
        let decoded = cfg!(target_arch = "x86_64");
        let dump = if self.ir || !decoded { compiler.dump(tb, code.tier).ok() } else { None };
        let (ir, listing) = dump.unwrap_or_default();
        if self.ir {
            tracing::trace!(target: "op", "OP: {rip:#x}, {count} instructions, tier {tier}\n{ir}");
        }
        if self.host_code {
            let listing = if decoded { show::listing(&code.bytes[..code.body], 0, 64) } else { listing };
            tracing::trace!(
                target: "out_asm",
                "OUT: {rip:#x}, {count} instructions, tier {tier} [size={bytes}]\n{listing}"
            );
        }
    }

    fn show_entry(self, cpu: &mut Vcpu, tier: &str) {
        if self.blocks {
            let cs = cpu.st.seg[seg::CS as usize];
            let (count, rip, mode) = (cpu.st.icount(), cpu.st.rip, cpu.st.mode);
            tracing::trace!(
                target: "exec",
                "Trace 0: {count} [{:016x}/{rip:016x}/{:08x}] {}-bit, {tier}",
                cs.base,
                mode.0,
                mode.bitness()
            );
        }
        if self.registers {
            let registers = show::registers(cpu);
            tracing::trace!(target: "cpu", "{registers}");
        }
    }
}

impl Engine {
    /// As [`Engine::rounds`], and shows each block before it runs.
    #[cold]
    pub(crate) fn traced_rounds(&mut self, cpu: &mut Vcpu, until: u64) -> Exit {
        if let Some(exit) = self.poll(cpu) {
            return exit;
        }
        loop {
            if cpu.st.stop == stop::NONE {
                self.safepoint(cpu);
                let now = cpu.st.icount();
                if now >= cpu.until {
                    return Exit::Deadline;
                }
                let alone = sys::runs_alone(&cpu.st);
                let Some(tb) = self.find(cpu) else { continue };
                // SAFETY: blocks live until the next safepoint at least.
                let tb = unsafe { &*tb };
                let tier = match tb.compiled_for() {
                    _ if alone || tb.code().is_null() => "tier 0",
                    Tier::One => "tier 1",
                    Tier::Two => "tier 2",
                };
                let slice = if alone { 1 } else { u64::from(tb.block.count) };
                self.config.trace.show_entry(cpu, tier);
                let slice = slice.min(cpu.until - now);
                cpu.st.budget = slice as i64;
                cpu.st.icount_end = now.wrapping_add(slice);
                // What does not fit is executed up to here and not beyond.
                if let Some(exit) = self.round(cpu, now.wrapping_add(slice)) {
                    if exit == Exit::Deadline {
                        continue;
                    }
                    return exit;
                }
            } else if let Some(exit) = self.round(cpu, until) {
                return exit;
            }
        }
    }

    #[cold]
    pub(crate) fn show_guest_code(&self, tb: &Tb) {
        let mut bytes = Vec::new();
        let mut page = [0; PAGE_SIZE as usize];
        let mut from = (tb.key.ram % PAGE_SIZE) as usize;
        for (at, _) in tb.spans.iter().flatten() {
            self.space().read_ram_page(*at, &mut page);
            bytes.extend_from_slice(&page[from..]);
            from = 0;
        }
        bytes.truncate(tb.block.len as usize);
        let (rip, bitness) = (tb.key.rip, tb.key.mode.bitness());
        let listing = show::listing(&bytes, rip, bitness);
        tracing::trace!(target: "in_asm", "----------------\nIN: {rip:#x}, {bitness}-bit\n{listing}");
    }
}
