//! MMX: 64-bit vectors in the x87 registers' significands.
//!
//! Each operation is expressed by a 128-bit one on the register's 64 bits with zeros above, or on both operands side by side
//! where lanes change places. An MMX instruction reports a pending x87 exception first, sets TOP to 0 and all tags to
//! valid, and the exponent of what it writes to all ones (SDM vol. 3, 12.2).

use iced_x86::{Instruction, Mnemonic};

use super::emitter::{Cvt, Prec, VBin, VShift, VUn, VecEmitter};
use super::select::refuse;
use super::{VecOp, cold, lanes};
use crate::emit::{Emitter, Order, R};
use crate::eval::done;
use crate::insn::{Insn, Op, Opnd, Width};
use crate::lift::addr;
use crate::state::{Mode, cr0};
use crate::vcpu::Vcpu;
use crate::x87;

/// What an MMX instruction does, in terms of 128-bit operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmx {
    /// Lane by lane.
    Bin(VBin),
    /// PUNPCKH..: the upper half of the 128-bit low interleave.
    UnpackHigh(VBin),
    /// Packs and horizontal operations: on `b:a` as one vector.
    Joined(VBin),
    /// PSHUFB.
    ShufB,
    /// PABS..
    Un(VUn),
    /// Shift by a register, memory or the immediate.
    Shift(VShift),
    /// PALIGNR.
    Align,
    /// PSHUFW.
    Pshufw,
    /// PMOVMSKB.
    MoveMask,
    /// PINSRW.
    Insert,
    /// PEXTRW.
    Extract,
    /// MOVD, MOVQ, either way.
    Move,
    /// MOVNTQ.
    StoreNonTemporal,
    /// MASKMOVQ.
    MaskedStore,
    /// MOVQ2DQ.
    ToXmm,
    /// MOVDQ2Q.
    FromXmm,
    /// CVTPI2PS, CVTPI2PD.
    FromInteger(Prec),
    /// CVTPS2PI, CVTTPD2PI, ...
    ToInteger(Prec, bool),
    /// EMMS.
    Emms,
}

/// Recognises an MMX instruction.
pub fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    let Some(op) = choose(x.mnemonic()) else { return false };
    if op == Mmx::MaskedStore {
        cold::describe_masked_store(x, i, mode);
    }
    i.w = match (i.src, i.dst) {
        (Opnd::Mem, _) | (_, Opnd::Mem) => {
            Width::from_bytes(x.memory_size().size() as u32).unwrap_or(Width::Q)
        }
        (Opnd::Gpr(_), _) => Width::from_bytes(x.op1_register().size() as u32).unwrap_or(Width::Q),
        (_, Opnd::Gpr(_)) => Width::from_bytes(x.op0_register().size() as u32).unwrap_or(Width::Q),
        _ => Width::Q,
    };
    i.op = Op::Vec(VecOp::Mmx(op));
    i.run = |c, i, rest| {
        let Op::Vec(VecOp::Mmx(op)) = i.op else { return done(Err(c.unimplemented(i)), c, rest) };
        done(run(c, i, op), c, rest)
    };
    let with_xmm = matches!(i.dst, Opnd::Xmm(_)) || matches!(i.src, Opnd::Xmm(_));
    if with_xmm && mode.has(Mode::SSE_UD) {
        refuse(i, |c, _, rest| done(Err(c.ud()), c, rest));
    } else if mode.has(Mode::X87_NM) {
        // CR0.EM: #UD, whatever TS (SDM vol. 3, table 12-1).
        refuse(i, |c, _, rest| {
            let raised = if c.st.cr0 & cr0::EM != 0 { c.ud() } else { c.nm() };
            done(Err(raised), c, rest)
        });
    }
    true
}

fn choose(m: Mnemonic) -> Option<Mmx> {
    use Mnemonic::*;
    use VBin as V;
    Some(match m {
        Pand => Mmx::Bin(V::And),
        Pandn => Mmx::Bin(V::Andn),
        Por => Mmx::Bin(V::Or),
        Pxor => Mmx::Bin(V::Xor),
        Paddb => Mmx::Bin(V::AddB),
        Paddw => Mmx::Bin(V::AddW),
        Paddd => Mmx::Bin(V::AddD),
        Paddq => Mmx::Bin(V::AddQ),
        Psubb => Mmx::Bin(V::SubB),
        Psubw => Mmx::Bin(V::SubW),
        Psubd => Mmx::Bin(V::SubD),
        Psubq => Mmx::Bin(V::SubQ),
        Paddsb => Mmx::Bin(V::AddSB),
        Paddsw => Mmx::Bin(V::AddSW),
        Paddusb => Mmx::Bin(V::AddUsB),
        Paddusw => Mmx::Bin(V::AddUsW),
        Psubsb => Mmx::Bin(V::SubSB),
        Psubsw => Mmx::Bin(V::SubSW),
        Psubusb => Mmx::Bin(V::SubUsB),
        Psubusw => Mmx::Bin(V::SubUsW),
        Pmullw => Mmx::Bin(V::MulLoW),
        Pmulhw => Mmx::Bin(V::MulHiW),
        Pmulhuw => Mmx::Bin(V::MulHiUW),
        Pmuludq => Mmx::Bin(V::MulUD),
        Pmulhrsw => Mmx::Bin(V::MulHrsW),
        Pmaddwd => Mmx::Bin(V::MaddWD),
        Pmaddubsw => Mmx::Bin(V::MaddUbSW),
        Psadbw => Mmx::Bin(V::SadBW),
        Pavgb => Mmx::Bin(V::AvgB),
        Pavgw => Mmx::Bin(V::AvgW),
        Pminub => Mmx::Bin(V::MinUB),
        Pmaxub => Mmx::Bin(V::MaxUB),
        Pminsw => Mmx::Bin(V::MinSW),
        Pmaxsw => Mmx::Bin(V::MaxSW),
        Pcmpeqb => Mmx::Bin(V::CmpEqB),
        Pcmpeqw => Mmx::Bin(V::CmpEqW),
        Pcmpeqd => Mmx::Bin(V::CmpEqD),
        Pcmpgtb => Mmx::Bin(V::CmpGtB),
        Pcmpgtw => Mmx::Bin(V::CmpGtW),
        Pcmpgtd => Mmx::Bin(V::CmpGtD),
        Psignb => Mmx::Bin(V::SignB),
        Psignw => Mmx::Bin(V::SignW),
        Psignd => Mmx::Bin(V::SignD),
        Punpcklbw => Mmx::Bin(V::UnpackLoB),
        Punpcklwd => Mmx::Bin(V::UnpackLoW),
        Punpckldq => Mmx::Bin(V::UnpackLoD),
        Punpckhbw => Mmx::UnpackHigh(V::UnpackLoB),
        Punpckhwd => Mmx::UnpackHigh(V::UnpackLoW),
        Punpckhdq => Mmx::UnpackHigh(V::UnpackLoD),
        Packsswb => Mmx::Joined(V::PackSsWB),
        Packuswb => Mmx::Joined(V::PackUsWB),
        Packssdw => Mmx::Joined(V::PackSsDW),
        Phaddw => Mmx::Joined(V::HaddW),
        Phaddd => Mmx::Joined(V::HaddD),
        Phaddsw => Mmx::Joined(V::HaddSW),
        Phsubw => Mmx::Joined(V::HsubW),
        Phsubd => Mmx::Joined(V::HsubD),
        Phsubsw => Mmx::Joined(V::HsubSW),
        Pabsb => Mmx::Un(VUn::AbsB),
        Pabsw => Mmx::Un(VUn::AbsW),
        Pabsd => Mmx::Un(VUn::AbsD),
        Psllw => Mmx::Shift(VShift::ShlW),
        Pslld => Mmx::Shift(VShift::ShlD),
        Psllq => Mmx::Shift(VShift::ShlQ),
        Psrlw => Mmx::Shift(VShift::ShrW),
        Psrld => Mmx::Shift(VShift::ShrD),
        Psrlq => Mmx::Shift(VShift::ShrQ),
        Psraw => Mmx::Shift(VShift::SarW),
        Psrad => Mmx::Shift(VShift::SarD),
        Pshufb => Mmx::ShufB,
        Palignr => Mmx::Align,
        Mnemonic::Pshufw => Mmx::Pshufw,
        Pmovmskb => Mmx::MoveMask,
        Pinsrw => Mmx::Insert,
        Pextrw => Mmx::Extract,
        Movd | Movq => Mmx::Move,
        Movntq => Mmx::StoreNonTemporal,
        Maskmovq => Mmx::MaskedStore,
        Movq2dq => Mmx::ToXmm,
        Movdq2q => Mmx::FromXmm,
        Cvtpi2ps => Mmx::FromInteger(Prec::F32),
        Cvtpi2pd => Mmx::FromInteger(Prec::F64),
        Cvtps2pi => Mmx::ToInteger(Prec::F32, false),
        Cvttps2pi => Mmx::ToInteger(Prec::F32, true),
        Cvtpd2pi => Mmx::ToInteger(Prec::F64, false),
        Cvttpd2pi => Mmx::ToInteger(Prec::F64, true),
        Mnemonic::Emms => Mmx::Emms,
        _ => return None,
    })
}

impl Vcpu {
    fn mm(&self, r: u8) -> u64 {
        self.st.x87.mant[r as usize & 7]
    }
    /// The transition to MMX state, which every MMX instruction makes when nothing can fail any more.
    fn enter_mmx(&mut self) {
        self.st.x87.sw &= !x87::TOP_MASK;
        self.st.x87.empty = 0;
    }
    fn set_mm(&mut self, r: u8, v: u64) {
        self.enter_mmx();
        self.st.x87.mant[r as usize & 7] = v;
        self.st.x87.sexp[r as usize & 7] = 0xffff;
    }
}

/// The source operand's 64 bits (or the memory width's).
fn source(cpu: &mut Vcpu, i: &Insn) -> R<u64> {
    Ok(match i.src {
        Opnd::Mm(r) => cpu.mm(r),
        Opnd::Gpr(r) => cpu.gpr(i.w, r),
        Opnd::Imm => i.imm & 0xff,
        _ => {
            let at = addr(cpu, i);
            cpu.load(at, i.w)?
        }
    })
}

fn run(cpu: &mut Vcpu, i: &Insn, op: Mmx) -> R<()> {
    // SDM vol. 2, CVTPI2PD: with a memory operand it has nothing to do with the x87 unit, pending exceptions included.
    if !(matches!(op, Mmx::FromInteger(Prec::F64)) && i.src == Opnd::Mem) {
        x87::wait(cpu, i)?;
    }
    match op {
        Mmx::Emms => {
            cpu.enter_mmx();
            cpu.st.x87.empty = 0xff;
            Ok(())
        }
        Mmx::Move | Mmx::StoreNonTemporal => transfer(cpu, i, op),
        Mmx::MaskedStore => {
            let (data, mask) = (cpu.mm(i.rd), cpu.mm(i.rs));
            cold::masked_store(cpu, i, 8, [data, 0], [mask, 0])?;
            cpu.enter_mmx();
            Ok(())
        }
        Mmx::ToXmm => {
            let x = [cpu.mm(i.rs), 0];
            cpu.enter_mmx();
            cpu.set_xmm(i.rd, x);
            Ok(())
        }
        Mmx::FromXmm => {
            let v = cpu.xmm_lane(Width::Q, i.rs, 0);
            cpu.set_mm(i.rd, v);
            Ok(())
        }
        Mmx::MoveMask => {
            let v = lanes::move_mask(Width::B, [cpu.mm(i.rs), 0]);
            cpu.enter_mmx();
            cpu.set_gpr(Width::D, i.rd, v);
            Ok(())
        }
        Mmx::Extract => {
            let v = lanes::lane(Width::W, [cpu.mm(i.rs), 0], i.imm as u8 & 3);
            cpu.enter_mmx();
            cpu.set_gpr(Width::D, i.rd, v);
            Ok(())
        }
        Mmx::FromInteger(p) => from_integer(cpu, i, p),
        Mmx::ToInteger(p, truncate) => to_integer(cpu, i, p, truncate),
        _ => {
            let b = source(cpu, i)?;
            let v = compute(op, cpu.mm(i.rd), b, i.imm as u8);
            cpu.set_mm(i.rd, v);
            Ok(())
        }
    }
}

/// Operations on two 64-bit operands.
fn compute(op: Mmx, a: u64, b: u64, imm: u8) -> u64 {
    let (x, y) = ([a, 0], [b, 0]);
    match op {
        Mmx::Bin(op) => lanes::vbin(op, x, y)[0],
        Mmx::UnpackHigh(op) => lanes::vbin(op, x, y)[1],
        Mmx::Joined(op) => lanes::vbin(op, [a, b], [0; 2])[0],
        // Bit 3 of an index would reach beyond the 64 bits.
        Mmx::ShufB => lanes::vbin(VBin::ShufB, x, [b & 0x8787_8787_8787_8787, 0])[0],
        Mmx::Un(op) => lanes::vun(op, y)[0],
        Mmx::Shift(op) => lanes::vshift(op, x, b)[0],
        Mmx::Align => lanes::align_bytes([0; 2], [b, a], imm)[0],
        Mmx::Pshufw => {
            let pick = |k: u32| imm >> (2 * k) & 3;
            lanes::shuffle16(y, [pick(0), pick(1), pick(2), pick(3), 4, 5, 6, 7])[0]
        }
        Mmx::Insert => lanes::with_lane(Width::W, x, imm & 3, b & 0xffff)[0],
        _ => b,
    }
}

/// MOVD, MOVQ, MOVNTQ.
fn transfer(cpu: &mut Vcpu, i: &Insn, op: Mmx) -> R<()> {
    let Opnd::Mm(r) = i.dst else {
        let v = cpu.mm(i.rs) & i.w.mask();
        if let Opnd::Gpr(r) = i.dst {
            cpu.set_gpr(i.w, r, v);
        } else {
            let mut at = addr(cpu, i);
            if op == Mmx::StoreNonTemporal {
                at.order = Order::NonTemporal;
            }
            cpu.store(at, i.w, v)?;
        }
        cpu.enter_mmx();
        return Ok(());
    };
    let v = source(cpu, i)?;
    cpu.set_mm(r, v);
    Ok(())
}

/// CVTPI2PS, CVTPI2PD.
fn from_integer(cpu: &mut Vcpu, i: &Insn, p: Prec) -> R<()> {
    let b = source(cpu, i)?;
    let (low, high) = (b & 0xffff_ffff, b >> 32);
    let op = super::from_integer(Width::D, p);
    let (l, h) = cpu.simd(|env| {
        let l = super::eval::convert_scalar(op, low, env);
        (l, super::eval::convert_scalar(op, high, env))
    })?;
    // SDM vol. 2, CVTPI2PD: with a memory operand there is no transition to MMX state.
    if p == Prec::F32 || i.src != Opnd::Mem {
        cpu.enter_mmx();
    }
    match p {
        Prec::F32 => cpu.set_xmm_lane(Width::Q, i.rd, 0, l | h << 32),
        Prec::F64 => cpu.set_xmm(i.rd, [l, h]),
    }
    Ok(())
}

/// CVTPS2PI, CVTTPS2PI, CVTPD2PI, CVTTPD2PI.
fn to_integer(cpu: &mut Vcpu, i: &Insn, p: Prec, truncate: bool) -> R<()> {
    let x = match (i.src, p) {
        (Opnd::Mem, Prec::F32) => {
            let at = addr(cpu, i);
            [cpu.load(at, Width::Q)?, 0]
        }
        (Opnd::Mem, Prec::F64) => {
            let at = addr(cpu, i);
            let [x] = cpu.load_vector(at, true)?;
            x
        }
        _ => cpu.xmm(i.rs),
    };
    let op: Cvt = super::to_integer(p, Width::D, truncate);
    let (l, h) = cpu.simd(|env| {
        let l = super::eval::convert_scalar(op, lanes::lane(p.width(), x, 0), env);
        (l, super::eval::convert_scalar(op, lanes::lane(p.width(), x, 1), env))
    })?;
    cpu.set_mm(i.rd, l | h << 32);
    Ok(())
}
