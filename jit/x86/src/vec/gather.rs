//! Accesses under a mask: VMASKMOV, VPMASKMOV, VGATHER. What is masked off is not accessed and cannot fault.

use iced_x86::{Instruction, Register};
use softmmu::Access;

use super::lanes;
use super::lift::{Form, put, put_to, register};
use crate::emit::R;
use crate::insn::{Insn, Width, prefix};
use crate::state::{Xmm, reg};
use crate::vcpu::Vcpu;

/// Element `k` of a register's halves.
fn element(x: &[Xmm; 2], w: Width, k: u32) -> u64 {
    let per = 16 / w.bytes();
    lanes::lane(w, x[(k / per) as usize], (k % per) as u8)
}

fn set_element(x: &mut [Xmm; 2], w: Width, k: u32, v: u64) {
    let per = 16 / w.bytes();
    let half = &mut x[(k / per) as usize];
    *half = lanes::with_lane(w, *half, (k % per) as u8, v);
}

fn len(i: &Insn) -> u32 {
    if i.has(prefix::L256) { 32 } else { 16 }
}

/// The elements whose mask is negative.
fn chosen(i: &Insn, mask: &[Xmm; 2], w: Width) -> u32 {
    let n = len(i) / w.bytes();
    (0..n).fold(0, |m, k| m | u32::from(element(mask, w, k) & w.sign() != 0) << k)
}

/// The linear address of element `k` of the memory operand.
fn place(cpu: &mut Vcpu, i: &Insn, w: Width, k: u32, access: Access) -> R<u64> {
    let off = cpu.ea(i).wrapping_add(u64::from(k * w.bytes())) & i.aw.mask();
    cpu.linear(i.seg, i.am, off, w.bytes(), access)
}

/// Reads an element. Neither gathers nor masked moves check its alignment (SDM vol. 2, VGATHERDPS and VMASKMOV).
fn read(cpu: &mut Vcpu, i: &Insn, at: u64, w: Width) -> R<u64> {
    if !cpu.mmu.checks_alignment() {
        return cpu.read_w(i.seg, at, w);
    }
    (0..u64::from(w.bytes())).try_fold(0, |v, k| {
        let byte: u8 = cpu.read(i.seg, at.wrapping_add(k))?;
        Ok(v | u64::from(byte) << (8 * k))
    })
}

/// Writes an element to memory that has been probed, likewise.
fn write(cpu: &mut Vcpu, i: &Insn, at: u64, w: Width, v: u64) -> R<()> {
    if !cpu.mmu.checks_alignment() {
        return cpu.write_w(i.seg, at, w, v);
    }
    (0..u64::from(w.bytes())).try_for_each(|k| cpu.write(i.seg, at.wrapping_add(k), (v >> (8 * k)) as u8))
}

/// VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ from memory: zeros where the mask is off.
pub fn masked_load(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let w = i.w;
    let mask: [Xmm; 2] = register(cpu, i.rv);
    let chosen = chosen(i, &mask, w);
    for k in (0..8).filter(|k| chosen >> k & 1 != 0) {
        let at = place(cpu, i, w, k, Access::Read)?;
        cpu.probe(i.seg, at, w.bytes().into(), Access::Read)?;
    }
    let mut x = [[0; 2]; 2];
    for k in (0..8).filter(|k| chosen >> k & 1 != 0) {
        let at = place(cpu, i, w, k, Access::Read)?;
        set_element(&mut x, w, k, read(cpu, i, at, w)?);
    }
    put(cpu, i, Form::of(i), x);
    Ok(())
}

/// The same to memory: all the chosen elements or none.
pub fn masked_store(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let w = i.w;
    let mask: [Xmm; 2] = register(cpu, i.rv);
    let data: [Xmm; 2] = register(cpu, i.rs);
    let chosen = chosen(i, &mask, w);
    for k in (0..8).filter(|k| chosen >> k & 1 != 0) {
        let at = place(cpu, i, w, k, Access::Write)?;
        cpu.probe(i.seg, at, w.bytes().into(), Access::Write)?;
        if cpu.mmu.probe(at, w.bytes().into(), Access::Write).is_err() {
            // A device in the range: no element may be stored twice.
            cpu.need_single()?;
        }
    }
    for k in (0..8).filter(|k| chosen >> k & 1 != 0) {
        let at = place(cpu, i, w, k, Access::Write)?;
        write(cpu, i, at, w, element(&data, w, k))?;
    }
    Ok(())
}

/// Describes a gather: element width in `w`, that of the indices in `w2`, their register in `rs`, the mask in `rv`. `false`:
/// two of the three registers are the same, which is #UD (SDM vol. 2, VGATHERDPD).
pub(super) fn describe(x: &Instruction, i: &mut Insn) -> bool {
    use iced_x86::Mnemonic::*;
    (i.w, i.w2) = match x.mnemonic() {
        Vpgatherdd | Vgatherdps => (Width::D, Width::D),
        Vpgatherdq | Vgatherdpd => (Width::Q, Width::D),
        Vpgatherqd | Vgatherqps => (Width::D, Width::Q),
        _ => (Width::Q, Width::Q),
    };
    let number = |r: Register| r.number() as u8;
    (i.rd, i.rs, i.rv) = (number(x.op0_register()), number(x.memory_index()), number(x.op2_register()));
    i.index = reg::ZERO;
    i.factor = x.memory_index_scale() as u8;
    i.rd != i.rs && i.rd != i.rv && i.rs != i.rv
}

/// VGATHERDPS and its kin. Elements come in from the lowest one on; each clears its mask, so that the instruction goes on where a
/// fault stopped it.
pub fn gather(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let (w, index_width) = (i.w, i.w2);
    let n = len(i) / w.bytes().max(index_width.bytes());
    let indices: [Xmm; 2] = register(cpu, i.rs);
    let mut mask: [Xmm; 2] = register(cpu, i.rv);
    let mut x: [Xmm; 2] = register(cpu, i.rd);
    let base = cpu.ea(i);
    let mut result = Ok(());
    for k in 0..n {
        if element(&mask, w, k) & w.sign() == 0 {
            set_element(&mut mask, w, k, 0);
            continue;
        }
        let index = index_width.sext(element(&indices, index_width, k));
        let off = base.wrapping_add(index.wrapping_mul(u64::from(i.factor))) & i.aw.mask();
        let loaded = cpu.linear(i.seg, i.am, off, w.bytes(), Access::Read).and_then(|at| read(cpu, i, at, w));
        match loaded {
            Ok(v) => set_element(&mut x, w, k, v),
            Err(stop) => {
                result = Err(stop);
                break;
            }
        }
        set_element(&mut mask, w, k, 0);
    }
    if result.is_err() {
        // What is done stays done; nothing else has changed.
        for (r, x) in [(i.rd, x), (i.rv, mask)] {
            (cpu.st.xmm[r as usize & 15], cpu.st.ymm_hi[r as usize & 15]) = (x[0], x[1]);
        }
        return result;
    }
    // Above the elements everything is zero, in the mask too.
    let used = n * w.bytes();
    for k in used / 8..4 {
        set_element(&mut x, Width::Q, k, 0);
    }
    put(cpu, i, Form::of(i), x);
    put_to(cpu, i.rv, Form::of(i), [[0; 2]; 2]);
    Ok(())
}
