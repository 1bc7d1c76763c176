//! F16C: VCVTPH2PS and VCVTPS2PH.

use softmmu::Access;

use super::emitter::VecEmitter;
use super::lanes::{self, lane, with_lane};
use super::lift::{self, Form, low, put, register};
use crate::emit::{Emitter, R};
use crate::insn::{Insn, Width, prefix};
use crate::lift::addr;
use crate::softfp::sse::{self, MxEnv};
use crate::state::Xmm;
use crate::vcpu::Vcpu;

/// VCVTPH2PS: four halves for each 128 bits.
pub fn to_single(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let f = Form::of(i);
    let wide = i.has(prefix::L256);
    let a = if wide {
        let [a] = lift::source_aligned::<Vcpu, 1>(cpu, i, f, false)?;
        a
    } else {
        [low(cpu, i, f, Width::Q)?, 0]
    };
    let x: [Xmm; 2] = cpu.simd(|env| {
        let mut quad = |q: u64| {
            let el: [u32; 4] = std::array::from_fn(|k| sse::f16_to_f32((q >> (16 * k)) as u16, env));
            lanes::from_dwords(el)
        };
        let first = quad(a[0]);
        [first, if wide { quad(a[1]) } else { [0; 2] }]
    })?;
    put(cpu, i, f, x);
    Ok(())
}

/// VCVTPS2PH.
pub fn from_single(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let f = Form::of(i);
    let wide = i.has(prefix::L256);
    let a: [Xmm; 2] = register(cpu, i.rs);
    let mut env = MxEnv::new(cpu.st.mxcsr);
    let mut x = [0; 2];
    for k in 0..if wide { 8 } else { 4 } {
        let v = lane(Width::D, a[usize::from(k / 4)], k % 4) as u32;
        let h = sse::f32_to_f16(v, i.imm as u8, &mut env);
        x = with_lane(Width::W, x, k, h.into());
    }
    // The only store that computes: a page fault comes first, and leaves no flags behind.
    let at = addr(cpu, i);
    if f.mem {
        let len = if wide { 16 } else { 8 };
        let linear = cpu.linear(at.seg, at.mode, at.off, len, Access::Write)?;
        cpu.probe(at.seg, linear, len.into(), Access::Write)?;
    }
    if f.mem && !env.faulted() {
        if wide { cpu.store_vector(at, false, [x])? } else { cpu.store(at, Width::Q, x[0])? }
    }
    cpu.simd_commit(env)?;
    if !f.mem {
        put(cpu, i, f, [x]);
    }
    Ok(())
}
