//! Vector instructions that only the tier-0 handler knows: MXCSR, byte-masked stores, sums of products.

use iced_x86::{Instruction, OpKind, Register};
use softmmu::Access;

use super::emitter::{FpOp, Prec, VecEmitter};
use super::lanes;
use super::lift::{self, Form};
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
    (i.base, i.index, i.scale, i.disp) = (reg::RDI, reg::ZERO, 0, 0);
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

/// MPSADBW.
pub fn mpsadbw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let b = lanes::bytes(lift::source(cpu, i, Form::of(i))?);
    let a = lanes::bytes(cpu.xmm(i.rd));
    let (at, bt) = (usize::from(i.imm as u8 >> 2 & 1) * 4, usize::from(i.imm as u8 & 3) * 4);
    let sum = |k: usize| (0..4).map(|j| u16::from(a[at + k + j].abs_diff(b[bt + j]))).sum();
    let x = lanes::from_words(std::array::from_fn(sum));
    cpu.set_xmm(i.rd, x);
    Ok(())
}

/// DPPS and DPPD in three steps, each with its own exceptions (SDM vol. 2, DPPS): the products, the pairs, the sum.
fn dot_product(cpu: &mut Vcpu, i: &Insn, p: Prec) -> R<()> {
    let b = lift::source(cpu, i, Form::of(i))?;
    let a = cpu.xmm(i.rd);
    let imm = i.imm as u8;
    let n = if p == Prec::F32 { 4 } else { 2 };
    let w = p.width();
    // Lanes that are not selected become zeros, which multiply to +0 without any flag.
    let selected = |x| {
        let mut y = [0; 2];
        for k in (0..n).filter(|k| imm >> (4 + k) & 1 != 0) {
            y = lanes::with_lane(w, y, k, lanes::lane(w, x, k));
        }
        y
    };
    let x = cpu.fp_packed(FpOp::Mul, p, selected(a), selected(b))?;
    let pairs = match p {
        Prec::F32 => {
            let even = lanes::shuffle32(x, x, [0, 2, 0, 2]);
            let odd = lanes::shuffle32(x, x, [1, 3, 1, 3]);
            cpu.fp_packed(FpOp::Add, p, even, odd)?
        }
        Prec::F64 => x,
    };
    let (low, high) = (lanes::lane(w, pairs, 0), lanes::lane(w, pairs, 1));
    let sum = cpu.fp_scalar(FpOp::Add, p, low, high)?;
    let mut out = [0; 2];
    for k in (0..n).filter(|k| imm >> k & 1 != 0) {
        out = lanes::with_lane(w, out, k, sum);
    }
    cpu.set_xmm(i.rd, out);
    Ok(())
}

/// DPPS.
pub fn dpps(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    dot_product(cpu, i, Prec::F32)
}

/// DPPD.
pub fn dppd(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    dot_product(cpu, i, Prec::F64)
}
