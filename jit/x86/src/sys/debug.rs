//! Debug registers, breakpoints, and single-stepping (SDM vol. 3, chapter 17).
//!
//! Requirement: hot code pays nothing for breakpoints. Solution: while one is enabled in DR7 (or RFLAGS.TF is set) the
//! engine executes every instruction alone, see [`runs_alone`], and asks here before ([`code_breakpoint`]) and after
//! ([`run_alone`]). Data breakpoints are noticed by the MMU, which keeps watched pages out of its fast path.
//!
//! Debug traps of one instruction (data and I/O breakpoints, single step) are one #DB. What cannot be delivered at once
//! (after MOV SS, or from a task switch in compiled code) waits in `CpuState::pending_debug`.
//!
//! Limitation: RFLAGS.RF is kept only while a breakpoint is enabled, and within a repeated string instruction; nothing else
//! looks at it but the image that an interrupt between IRET and the next instruction would push.

use iced_x86::{Code, Instruction, Mnemonic};
use softmmu::WatchPoint;

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Op, Opnd, Width};
use crate::interp::{self, Outcome};
use crate::state::{CpuState, Mode, Shadow, cr4, rflags, seg, stop};
use crate::vcpu::{Vcpu, vector};

use super::exception::{Shutdown, debug_trap};
use super::{ENDS, GOES_ON, Pick, advance, handler, next_rip, serialising};

/// DR6 bits that are always set (no RTM, no bus-lock detection).
const DR6_FIXED: u64 = 0xffff_0ff0;
/// DR6 bits that software can set: B3:0, BD, BS, BT.
const DR6_MASK: u64 = 0xe00f;
/// DR6.BD: a debug register was accessed under DR7.GD.
const BD: u64 = 1 << 13;
/// DR6.BS: single step.
pub(super) const BS: u64 = 1 << 14;
/// DR6.BT: the new task's T flag.
pub(super) const BT: u64 = 1 << 15;
/// DR6.B3:0.
pub(super) const B: u64 = 15;
/// DR7 bits that software can set; bit 10 is always set.
const DR7_MASK: u64 = 0xffff_23ff;
/// DR7.GD.
pub(super) const DR7_GD: u64 = 1 << 13;
/// DR7.L3:0 and G3:0.
const DR7_ENABLES: u64 = 0xff;
/// IA32_DEBUGCTL.BTF: single-step on branches.
pub(super) const BTF: u64 = 1 << 1;

/// What a breakpoint triggers on: DR7.R/Wn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Execute,
    Write,
    Port,
    Access,
}

/// An enabled breakpoint.
#[derive(Clone, Copy)]
struct Breakpoint {
    kind: Kind,
    start: u64,
    len: u64,
}

/// Breakpoint `n`, if it is enabled.
fn breakpoint(st: &CpuState, n: usize) -> Option<Breakpoint> {
    let dr7 = st.dr[7];
    if dr7 >> (2 * n) & 3 == 0 {
        return None;
    }
    let control = dr7 >> (16 + 4 * n);
    let kind = match control & 3 {
        0 => Kind::Execute,
        1 => Kind::Write,
        2 if st.cr4 & cr4::DE != 0 => Kind::Port,
        // SDM vol. 3, 17.2.4: undefined without CR4.DE.
        2 => return None,
        _ => Kind::Access,
    };
    let len = match control >> 2 & 3 {
        0 => 1,
        1 => 2,
        2 => 8,
        _ => 4,
    };
    // SDM vol. 3, 17.2.5: the low bits of the address do not count.
    let start = st.dr[n] & !(len - 1);
    Some(Breakpoint { kind, start, len })
}

/// Is any breakpoint enabled?
#[inline]
fn armed(st: &CpuState) -> bool {
    st.dr[7] & DR7_ENABLES != 0
}

/// Must the next instruction be executed alone, outside the fast tiers?
#[inline]
pub fn runs_alone(st: &CpuState) -> bool {
    st.shadow != Shadow::None || st.flags & rflags::TF != 0 || armed(st)
}

/// RF where it is looked at: see the module.
pub(super) fn kept_rf(st: &CpuState) -> u64 {
    if armed(st) { rflags::RF } else { 0 }
}

/// Before an instruction is fetched: does a breakpoint on it trigger? Then #DB is raised (SDM vol. 3, 17.3.1.1).
#[inline]
pub fn code_breakpoint(cpu: &mut Vcpu) -> bool {
    armed(&cpu.st) && raise_code_breakpoint(cpu)
}

#[cold]
fn raise_code_breakpoint(cpu: &mut Vcpu) -> bool {
    // SDM vol. 3, 17.3.1.1: on the instruction after MOV SS or POP SS as if RF were set.
    if cpu.st.flags & rflags::RF != 0 || cpu.st.shadow == Shadow::MovSs {
        return false;
    }
    let rip = cpu.st.rip;
    let linear = if cpu.st.mode.has(Mode::CODE64) {
        rip
    } else {
        cpu.st.seg[seg::CS as usize].base.wrapping_add(rip) & 0xffff_ffff
    };
    let bits = hits(&cpu.st, |b| b.kind == Kind::Execute && b.start == linear);
    if bits != 0 {
        cpu.raise(vector::DB, None, bits);
    }
    bits != 0
}

fn hits(st: &CpuState, wanted: impl Fn(&Breakpoint) -> bool) -> u64 {
    (0..4).filter(|n| breakpoint(st, *n).is_some_and(|b| wanted(&b))).fold(0, |bits, n| bits | 1 << n)
}

/// After an access of `len` bytes to `port`.
#[inline]
pub fn note_port(cpu: &mut Vcpu, port: u16, len: u32) {
    if armed(&cpu.st) {
        let (first, last) = (u64::from(port), u64::from(port) + u64::from(len) - 1);
        let hit = |b: &Breakpoint| b.kind == Kind::Port && b.start <= last && first < b.start + b.len;
        cpu.st.pending_debug |= hits(&cpu.st, hit);
    }
}

/// Executes one instruction alone, with the debug traps that follow it. Was it completed? Otherwise `stop` says why not.
pub fn run_alone(cpu: &mut Vcpu, i: &Insn) -> Result<bool, Shutdown> {
    let stepping = cpu.st.flags & rflags::TF != 0;
    cpu.st.shadow = Shadow::None;
    cpu.st.flags &= !rflags::RF;
    cpu.mmu.take_watch_hits();
    if interp::run_single(cpu, i) == Outcome::Stopped && cpu.st.stop != stop::AFTER {
        return Ok(false);
    }
    let mut bits = cpu.st.pending_debug | u64::from(cpu.mmu.take_watch_hits());
    if stepping && steps(cpu, i) {
        bits |= BS;
    }
    if bits == 0 {
        return Ok(true);
    }
    if cpu.st.shadow == Shadow::MovSs {
        // SDM vol. 3, 6.8.3: held back until after the next instruction, which single-steps by itself.
        cpu.st.pending_debug = bits & !BS;
        return Ok(true);
    }
    let after = std::mem::replace(&mut cpu.st.stop, stop::NONE);
    debug_trap(cpu, bits)?;
    if cpu.st.stop == stop::NONE {
        cpu.st.stop = after;
    }
    Ok(true)
}

/// Does an instruction that began with TF set end in a single-step trap?
fn steps(cpu: &Vcpu, i: &Insn) -> bool {
    let is = |codes: &[Code]| codes.iter().any(|c| *c as u16 == i.code);
    if is(&[Code::Int_imm8, Code::Int3, Code::Int1]) {
        // They clear TF before they complete.
        return false;
    }
    if is(&[Code::Into, Code::Syscall, Code::Sysretd, Code::Sysretq]) && cpu.st.flags & rflags::TF == 0 {
        return false;
    }
    let falls_through = cpu.st.rip == next_rip(cpu, i) || matches!(i.op, Op::Str(_));
    !(cpu.st.msr.debugctl & BTF != 0 && falls_through)
}

/// Debug traps that wait, between instructions.
pub(super) fn deliver_pending(cpu: &mut Vcpu) -> Result<bool, Shutdown> {
    if cpu.st.pending_debug == 0 || cpu.st.shadow == Shadow::MovSs {
        return Ok(false);
    }
    let bits = cpu.st.pending_debug;
    debug_trap(cpu, bits).map(|()| true)
}

impl Vcpu {
    /// Tells the MMU which places to watch, after a change of DR0 to DR3 or DR7.
    pub(super) fn debug_changed(&mut self) {
        let st = &self.st;
        let point = |n| match breakpoint(st, n) {
            Some(Breakpoint { kind: kind @ (Kind::Write | Kind::Access), start, len }) => {
                Some(WatchPoint { start, len, reads: kind == Kind::Access })
            }
            _ => None,
        };
        let points = std::array::from_fn(point);
        self.mmu.set_watch(points);
    }
}

// ---- instructions -----------------------------------------------------------------------------------------------

/// The number of a debug register after the DR4/DR5 rule, with the checks common to both directions.
fn debug_register(cpu: &mut Vcpu, n: u8) -> R<usize> {
    if n > 7 || matches!(n, 4 | 5) && cpu.st.cr4 & cr4::DE != 0 {
        return Err(cpu.ud());
    }
    cpu.need_cpl0()?;
    if cpu.st.dr[7] & DR7_GD != 0 {
        // General detect: a fault.
        return Err(cpu.raise(vector::DB, None, BD));
    }
    Ok(usize::from(if matches!(n, 4 | 5) { n + 2 } else { n }))
}

fn mov_from_dr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (Opnd::Gpr(r), Opnd::Dr(n)) = (i.dst, i.src) else { return Err(cpu.ud()) };
    let n = debug_register(cpu, n)?;
    let v = cpu.st.dr[n];
    cpu.set_gpr(i.w, r, v & i.w.mask());
    Ok(())
}

fn mov_to_dr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (Opnd::Dr(n), Opnd::Gpr(r)) = (i.dst, i.src) else { return Err(cpu.ud()) };
    let n = debug_register(cpu, n)?;
    let v = cpu.gpr(i.w, r);
    if n >= 6 && v >> 32 != 0 {
        return Err(cpu.gp(0));
    }
    cpu.st.dr[n] = match n {
        6 => v & DR6_MASK | DR6_FIXED,
        7 => v & DR7_MASK | 1 << 10,
        _ => v,
    };
    advance(cpu, i);
    cpu.debug_changed();
    // Compiled code would go on by itself.
    cpu.stop_after();
    Ok(())
}

pub(super) fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> Pick {
    if x.mnemonic() != Mnemonic::Mov {
        return None;
    }
    let pick = match x.code() {
        Code::Mov_r32_dr | Code::Mov_r64_dr => (handler!(mov_from_dr), GOES_ON),
        Code::Mov_dr_r32 | Code::Mov_dr_r64 => (serialising!(mov_to_dr), ENDS),
        _ => return None,
    };
    i.w = if mode.has(Mode::CODE64) { Width::Q } else { Width::D };
    Some(pick)
}
