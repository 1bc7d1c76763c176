//! Vector instructions that only the tier-0 handler knows: MXCSR, byte-masked stores.

use iced_x86::{Instruction, OpKind, Register};
use softmmu::Access;

use super::emitter::VecEmitter;
use super::lanes;
use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::lift::addr;
use crate::state::{Mode, reg};
use crate::vcpu::{Vcpu, addr_mode};

/// The bits of MXCSR that exist (MXCSR_MASK as FXSAVE reports it: DAZ included).
pub const MXCSR_MASK: u32 = 0xffff;

/// Sets MXCSR as LDMXCSR, FXRSTOR and XRSTOR do: #GP(0) for reserved bits (SDM vol. 1, 10.2.3). The caller ends the block.
pub fn load_mxcsr(cpu: &mut Vcpu, v: u32) -> R<()> {
    if v & !MXCSR_MASK != 0 {
        return Err(cpu.gp(0));
    }
    cpu.st.mxcsr = v;
    cpu.st.mxcsr_changed();
    Ok(())
}

/// LDMXCSR. The last of its block, because the mode follows from MXCSR.
pub fn ldmxcsr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let at = addr(cpu, i);
    let v = cpu.load(at, Width::D)?;
    load_mxcsr(cpu, v as u32)?;
    cpu.st.rip = i.next();
    Ok(())
}

/// STMXCSR.
pub fn stmxcsr(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let at = addr(cpu, i);
    let v = u64::from(cpu.st.mxcsr);
    cpu.store(at, Width::D, v)
}

/// MASKMOVQ and MASKMOVDQU store at seg:rDI: describes that operand in the record, data in `rd`, mask in `rs`.
pub(super) fn describe_masked_store(x: &Instruction, i: &mut Insn, mode: Mode) {
    i.dst = Opnd::Mem;
    i.rd = x.op1_register().number() as u8;
    i.rs = x.op2_register().number() as u8;
    (i.base, i.index, i.factor, i.disp) = (reg::RDI, reg::ZERO, 1, 0);
    i.aw = match x.op0_kind() {
        OpKind::MemorySegDI => Width::W,
        OpKind::MemorySegEDI => Width::D,
        _ => Width::Q,
    };
    i.seg = match x.memory_segment() {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    };
    i.am = addr_mode(mode, i.seg);
}

/// Stores the bytes of `data` whose mask byte is negative. Nothing is checked when none is selected, which SDM vol. 2
/// (MASKMOVDQU) allows.
pub(super) fn masked_store(cpu: &mut Vcpu, i: &Insn, len: u32, data: [u64; 2], mask: [u64; 2]) -> R<()> {
    let (data, mask) = (lanes::bytes(data), lanes::bytes(mask));
    let chosen = (0..len as usize).filter(|&k| mask[k] & 0x80 != 0);
    if chosen.clone().next().is_none() {
        return Ok(());
    }
    let at = cpu.operand(i, len, Access::Write)?;
    cpu.probe(i.seg, at, len.into(), Access::Write)?;
    if cpu.mmu.probe(at, len.into(), Access::Write).is_err() {
        // A device in the range: no byte may be stored twice.
        cpu.need_single()?;
    }
    for k in chosen {
        cpu.write::<u8>(i.seg, at.wrapping_add(k as u64), data[k])?;
    }
    Ok(())
}

/// MASKMOVDQU.
pub fn maskmovdqu(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (data, mask) = (cpu.xmm(i.rd), cpu.xmm(i.rs));
    masked_store(cpu, i, 16, data, mask)
}
