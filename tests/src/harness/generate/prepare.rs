//! What particular instructions need besides operands: registers and memory that make something of them.

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register};

use super::codes::is_far;
use super::{images, is_string, memory_operand};
use crate::harness::guest::Bits;
use crate::harness::layout::{CODE, DATA, DATA_LEN, STACK, STACK_LEN};
use crate::harness::random::Rng;
use crate::harness::state::State;

/// The linear address of the memory operand of `x`; `None` for a gather's.
pub fn address(x: &Instruction, s: &State) -> Option<u64> {
    (0..x.op_count()).find(|n| x.op_kind(*n) == OpKind::Memory)?;
    x.virtual_address(memory_operand(x), 0, |r, _, _| {
        Some(match r {
            Register::FS => s.fs_base,
            Register::GS => s.gs_base,
            r if r.is_segment_register() => 0,
            r => s.gpr[r.full_register().number()],
        })
    })
}

/// Puts bytes into the state's memory; those that lie elsewhere are left out.
fn poke(s: &mut State, at: u64, bytes: &[u8]) {
    for (n, b) in (0u64..).zip(bytes) {
        let at = at.wrapping_add(n);
        if (DATA..DATA + DATA_LEN as u64).contains(&at) {
            s.data[(at - DATA) as usize] = *b;
        } else if (STACK..STACK + STACK_LEN as u64).contains(&at) {
            s.stack[(at - STACK) as usize] = *b;
        }
    }
}

/// A selector: null ones, Linux's descriptors with all kinds of RPL, the local table, beyond the table. Those between
/// its task state segment and the table's end differ between kernels.
pub(super) fn selector(rng: &mut Rng) -> u16 {
    match rng.below(8) {
        0 => rng.below(4) as u16,
        1 => 0x08 + rng.below(0x18) as u16,
        2 => 4 + 8 * rng.below(20) as u16 + rng.below(4) as u16,
        3 => 0x80 + rng.draw() as u16 % 0xff80,
        4 => 0x38 + rng.below(16) as u16,
        _ => 0x20 + rng.below(0x18) as u16,
    }
}

/// A selector for a transfer of control; the 64-bit code segment means something else to a 32-bit kernel.
pub(super) fn far_selector(rng: &mut Rng, bits: Bits) -> u16 {
    let v = match rng.below(4) {
        0 => selector(rng),
        1 => 0x33,
        _ => 0x23,
    };
    if bits == Bits::Flat32 && v & !7 == 0x30 { 0x23 } else { v }
}

/// Flags to be loaded: all but TF and VM, often all clear.
fn loaded_flags(rng: &mut Rng) -> u64 {
    if rng.one_in(3) { 0x202 } else { rng.draw() & !0x2_0100 }
}

/// Does the memory operand of `x` depend on one of these registers?
fn is_addressed(x: &Instruction, registers: &[Register]) -> bool {
    let used = [x.memory_base(), x.memory_index()];
    used.iter().any(|r| *r != Register::None && registers.contains(&r.full_register()))
}

/// What goes onto the stack, or into memory, for instructions that load what is not a number.
fn loads(rng: &mut Rng, x: &Instruction, bits: Bits, s: &mut State) {
    let m = x.mnemonic();
    let to = CODE + 0x800 + rng.below(0x2000);
    let mut stack: Vec<u64> = Vec::new();
    let mut width = x.stack_pointer_increment().unsigned_abs() as usize;
    match m {
        M::Popf | M::Popfd | M::Popfq => stack.push(loaded_flags(rng)),
        M::Pop if x.op0_register().is_segment_register() => stack.push(selector(rng).into()),
        M::Retf => {
            width = x.code().op_code().operand_size() as usize / 8;
            stack.extend([to, far_selector(rng, bits).into()]);
        }
        M::Iret | M::Iretd | M::Iretq => {
            width = x.code().op_code().operand_size() as usize / 8;
            let flags = if bits == Bits::Flat32 { loaded_flags(rng) & !(1 << 14) } else { loaded_flags(rng) };
            let sp = if rng.one_in(8) { rng.integer() } else { s.gpr[4] };
            let ss = if rng.one_in(8) { selector(rng) } else { 0x2b };
            stack.extend([to, far_selector(rng, bits).into(), flags, sp, ss.into()]);
        }
        _ => {}
    }
    for (n, v) in (0u64..).zip(&stack) {
        poke(s, s.gpr[4] + n * width as u64, &v.to_le_bytes()[..width.min(8)]);
    }
    let Some(at) = address(x, s) else { return };
    match m {
        M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => {
            poke(s, at + x.memory_size().size() as u64 - 2, &selector(rng).to_le_bytes());
        }
        M::Jmp | M::Call if is_far(x.code()) => {
            let size = x.memory_size().size();
            poke(s, at, &to.to_le_bytes()[..(size - 2).min(8)]);
            poke(s, at + size as u64 - 2, &far_selector(rng, bits).to_le_bytes());
        }
        M::Mov if x.op0_register().is_segment_register() => poke(s, at, &selector(rng).to_le_bytes()),
        M::Lar | M::Lsl | M::Verr | M::Verw => poke(s, at, &selector(rng).to_le_bytes()),
        M::Fldcw => poke(s, at, &(rng.draw() as u16 & 0xf3f | 0x40).to_le_bytes()),
        M::Fldenv | M::Frstor => poke(s, at, &images::environment(rng, x.memory_size().size())),
        M::Fxrstor | M::Fxrstor64 => poke(s, at, &images::fxsave(rng, bits)),
        M::Xrstor | M::Xrstor64 => poke(s, at, &images::xsave(rng, bits)),
        _ => {}
    }
}

/// What particular instructions need besides operands.
pub(super) fn prepare(rng: &mut Rng, x: &Instruction, bits: Bits, s: &mut State) {
    let long = bits == Bits::Long;
    let m = x.mnemonic();
    let in_code = |rng: &mut Rng| CODE + 0x800 + rng.below(0x2000);
    let data = |rng: &mut Rng| match rng.below(8) {
        0 => DATA + 0x4000 - rng.below(20),
        1 => DATA + 0x5000 - rng.below(20),
        2 => DATA + rng.below(20),
        _ => DATA + 0x400 + rng.below(0x3000),
    };
    loads(rng, x, bits, s);
    match m {
        M::Xsave
        | M::Xsave64
        | M::Xsaveopt
        | M::Xsaveopt64
        | M::Xsavec
        | M::Xsavec64
        | M::Xrstor
        | M::Xrstor64
            if !is_addressed(x, &[Register::RAX, Register::RDX]) =>
        {
            // Of the components that both sides have.
            (s.gpr[0], s.gpr[2]) = (if rng.one_in(2) { 7 } else { rng.below(8) }, 0);
        }
        M::Mov if x.op0_register().is_segment_register() && x.op1_kind() == OpKind::Register => {
            s.gpr[x.op1_register().full_register().number()] = selector(rng).into();
        }
        M::Lar | M::Lsl if x.op1_kind() == OpKind::Register => {
            s.gpr[x.op1_register().full_register().number()] = selector(rng).into();
        }
        M::Verr | M::Verw if x.op0_kind() == OpKind::Register => {
            s.gpr[x.op0_register().full_register().number()] = selector(rng).into();
        }
        _ if is_string(m) => {
            (s.gpr[6], s.gpr[7]) = (data(rng), data(rng));
            if rng.one_in(4) {
                // Overlapping by a little.
                s.gpr[7] = s.gpr[6].wrapping_add(rng.below(20)).wrapping_sub(10);
            }
            if !rng.one_in(20) {
                s.gpr[1] = rng.pick(&[0, 1, 2, 3, 5, 8, 17, 40, 300]);
            }
            if rng.one_in(2) {
                // Runs of equal bytes, so that scans and compares go on for a while.
                s.data[0x400..0x3400].fill(rng.pick(&[0, 0xff]));
                s.gpr[0] = if s.data[0x400] == 0 { 0 } else { if long { !0 } else { 0xffff_ffff } };
            }
        }
        M::Xlatb => s.gpr[3] = data(rng),
        // Not near a page's end: whether a mask of zeros faults there is left open.
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => s.gpr[7] = DATA + 0x1800 + rng.below(0x400),
        M::Enter | M::Leave => s.gpr[5] = STACK + 0x1000 + rng.below(0x1000),
        M::Ret => {
            let at = (s.gpr[4] - STACK) as usize;
            let to = if long && rng.one_in(10) { rng.integer() } else { in_code(rng) };
            s.stack[at..at + 8].copy_from_slice(&to.to_le_bytes());
        }
        M::Jmp | M::Call
            if x.op0_kind() == OpKind::Register
            // 32-bit code can be executed anywhere in the guest, which has no NX there.
            && (bits == Bits::Flat32 || !rng.one_in(10)) =>
        {
            s.gpr[x.op0_register().full_register().number()] = in_code(rng);
        }
        M::Jmp | M::Call
            if x.op0_kind() == OpKind::Memory && !is_far(x.code())
            // All of memory is full of good targets.
            && (bits == Bits::Flat32 || !rng.one_in(10)) =>
        {
            let to = in_code(rng);
            let bytes = if long { 8 } else { 4 };
            for chunk in s.data.chunks_exact_mut(bytes) {
                chunk.copy_from_slice(&to.to_le_bytes()[..bytes]);
            }
        }
        M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if rng.one_in(2) => {
            // Equal: the accumulator is everywhere.
            let (a, d) = (s.gpr[0], s.gpr[2]);
            for chunk in s.data.chunks_exact_mut(16) {
                if m == M::Cmpxchg16b {
                    chunk[..8].copy_from_slice(&a.to_le_bytes());
                    chunk[8..].copy_from_slice(&d.to_le_bytes());
                } else if m == M::Cmpxchg8b {
                    let v = (d << 32 | a & 0xffff_ffff).to_le_bytes();
                    chunk[..8].copy_from_slice(&v);
                    chunk[8..].copy_from_slice(&v);
                } else {
                    chunk[..8].copy_from_slice(&a.to_le_bytes());
                    chunk[8..].copy_from_slice(&a.to_le_bytes());
                }
            }
        }
        M::Ldmxcsr | M::Vldmxcsr => {
            // Bit 17 is reserved here and means something on AMD's processors.
            let keep = if rng.one_in(4) { 0xfffd_ffffu32 } else { 0xffff };
            for chunk in s.data.chunks_exact_mut(4) {
                let v = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) & keep;
                chunk.copy_from_slice(&v.to_le_bytes());
            }
        }
        M::Shld | M::Shrd | M::Shl | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr
            if !rng.one_in(3) =>
        {
            // Mostly counts that mean something; unless CL addresses memory.
            let cl = s.gpr[1];
            let addressed = [x.memory_base(), x.memory_index()]
                .iter()
                .any(|r| *r != Register::None && r.full_register() == Register::RCX);
            if !addressed {
                s.gpr[1] = cl & !0xff | rng.below(40);
            }
        }
        M::Bt | M::Btc | M::Btr | M::Bts
            if x.op0_kind() == OpKind::Memory && x.op1_kind() == OpKind::Register =>
        {
            let r = x.op1_register().full_register();
            if r != x.memory_base().full_register() && r != x.memory_index().full_register() && !rng.one_in(8)
            {
                let offset = rng.below(2000) as i64 - 1000;
                let g = &mut s.gpr[r.number()];
                *g = if long { offset as u64 } else { u64::from(offset as u32) };
            }
        }
        M::Div | M::Idiv if !rng.one_in(4) => {
            // Quotients that fit, more often than by chance.
            s.gpr[2] = if rng.one_in(2) {
                0
            } else if long {
                (s.gpr[0] as i64 >> 63) as u64
            } else {
                u64::from((s.gpr[0] as i32 >> 31) as u32)
            };
            if x.memory_base() != Register::None
                && [x.memory_base(), x.memory_index()].iter().any(|r| r.full_register() == Register::RDX)
            {
                s.gpr[2] = 0;
            }
        }
        _ => {}
    }
}
