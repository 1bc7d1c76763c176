//! FXSAVE, FXRSTOR and the XSAVE family (SDM vol. 1, chapter 13 and 10.5.1): x87, SSE and AVX state, and PKRU.
//! IA32_XSS has no bits: there is no supervisor state to save.
//!
//! A restore reads the whole image and checks it before the first register changes. Which components are "in use" is
//! computed from the registers: a component in its initial state is never in use, so results do not depend on history.
//! For the modified optimisation (XSAVEOPT, XSAVES) a component is modified if it differs from what the last XRSTOR loaded:
//! registers are not watched.

use iced_x86::{Instruction, Mnemonic};
use softmmu::Access;

use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::model::{Feature, compacted_size, component_offset, standard_size};
use crate::state::{CpuState, Mode, Restored, X87, cr0, cr4};
use crate::vcpu::Vcpu;

use super::{ENDS, GOES_ON, Pick, advance, handler};

const X87_STATE: u64 = 1;
const SSE_STATE: u64 = 2;
const AVX_STATE: u64 = 4;
const PKRU_STATE: u64 = 1 << PKRU;
/// Numbers of extended components.
const AVX: u32 = 2;
const PKRU: u32 = 9;
/// XCOMP_BV: the compacted format.
const COMPACTED: u64 = 1 << 63;
/// MXCSR bits that exist.
const MXCSR_MASK: u32 = 0xffff;
const MXCSR_INIT: u32 = 0x1f80;

/// Offsets in the XSAVE area.
mod at {
    pub const MXCSR: u64 = 24;
    pub const ST: u64 = 32;
    pub const XMM: u64 = 160;
    pub const HEADER: u64 = 512;
}

/// The state components that are not in their initial configuration, by the registers alone.
pub fn in_use(st: &CpuState) -> u64 {
    let x87 = if st.x87 == X87::default() { 0 } else { X87_STATE };
    let zero = |r: &[[u64; 2]; 16]| r.iter().all(|v| *v == [0, 0]);
    let sse = if zero(&st.xmm) { 0 } else { SSE_STATE };
    let avx = if zero(&st.ymm_hi) { 0 } else { AVX_STATE };
    let pkru = if st.pkru == 0 { 0 } else { PKRU_STATE };
    x87 | sse | avx | pkru
}

/// The memory operand: where it is, and how many XMM registers the mode has.
struct Area<'a> {
    i: &'a Insn,
    at: u64,
    registers: usize,
    /// REX.W: 64-bit FIP and FDP.
    wide: bool,
}

impl Area<'_> {
    fn get(&self, cpu: &mut Vcpu, off: u64, w: Width) -> R<u64> {
        cpu.read_w(self.i.seg, self.at.wrapping_add(off), w)
    }
    fn put(&self, cpu: &mut Vcpu, off: u64, w: Width, v: u64) -> R<()> {
        cpu.write_w(self.i.seg, self.at.wrapping_add(off), w, v & w.mask())
    }
    fn put_pair(&self, cpu: &mut Vcpu, off: u64, v: [u64; 2]) -> R<()> {
        self.put(cpu, off, Width::Q, v[0])?;
        self.put(cpu, off + 8, Width::Q, v[1])
    }
    fn get_pair(&self, cpu: &mut Vcpu, off: u64) -> R<[u64; 2]> {
        Ok([self.get(cpu, off, Width::Q)?, self.get(cpu, off + 8, Width::Q)?])
    }

    fn save_x87(&self, cpu: &mut Vcpu) -> R<()> {
        let f = cpu.st.x87;
        self.put(cpu, 0, Width::W, u64::from(f.cw))?;
        self.put(cpu, 2, Width::W, u64::from(f.sw))?;
        // The abridged tag word: 1 for each register that is not empty.
        self.put(cpu, 4, Width::W, u64::from(!f.empty))?;
        self.put(cpu, 6, Width::W, u64::from(f.fop))?;
        if self.wide {
            self.put(cpu, 8, Width::Q, f.fip)?;
            self.put(cpu, 16, Width::Q, f.fdp)?;
        } else {
            self.put(cpu, 8, Width::Q, f.fip & 0xffff_ffff | u64::from(f.fcs) << 32)?;
            self.put(cpu, 16, Width::Q, f.fdp & 0xffff_ffff | u64::from(f.fds) << 32)?;
        }
        for n in 0..8 {
            let r = physical(&f, n);
            self.put_pair(cpu, at::ST + 16 * n as u64, [f.mant[r], u64::from(f.sexp[r])])?;
        }
        Ok(())
    }

    fn load_x87(&self, cpu: &mut Vcpu) -> R<X87> {
        let cw = self.get(cpu, 0, Width::W)? as u16;
        let sw = self.get(cpu, 2, Width::W)? as u16;
        let tags = self.get(cpu, 4, Width::B)? as u8;
        let fop = self.get(cpu, 6, Width::W)? as u16 & 0x7ff;
        let (ip, dp) = (self.get(cpu, 8, Width::Q)?, self.get(cpu, 16, Width::Q)?);
        // As FLDCW: bit 6 of the control word reads as one, undefined bits as zeros.
        let mut f = X87 { cw: cw & 0x1f3f | 0x40, sw, empty: !tags, fop, ..X87::default() };
        if self.wide {
            (f.fip, f.fdp) = (ip, dp);
        } else {
            (f.fip, f.fcs) = (ip & 0xffff_ffff, (ip >> 32) as u16);
            (f.fdp, f.fds) = (dp & 0xffff_ffff, (dp >> 32) as u16);
        }
        // ES and B follow from the exceptions and their masks.
        let pending = f.sw & !f.cw & 0x3f != 0;
        f.sw = f.sw & !0x8080 | if pending { 0x8080 } else { 0 };
        for n in 0..8 {
            let r = physical(&f, n);
            let [mant, sexp] = self.get_pair(cpu, at::ST + 16 * n as u64)?;
            f.mant[r] = mant;
            f.sexp[r] = sexp as u16;
        }
        Ok(f)
    }

    fn save_mxcsr(&self, cpu: &mut Vcpu) -> R<()> {
        let v = u64::from(MXCSR_MASK) << 32 | u64::from(cpu.st.mxcsr);
        self.put(cpu, at::MXCSR, Width::Q, v)
    }

    fn load_mxcsr(&self, cpu: &mut Vcpu) -> R<u32> {
        let v = self.get(cpu, at::MXCSR, Width::D)? as u32;
        if v & !MXCSR_MASK != 0 { Err(cpu.gp(0)) } else { Ok(v) }
    }

    fn save_vector(&self, cpu: &mut Vcpu, off: u64, high: bool) -> R<()> {
        for n in 0..self.registers {
            let v = if high { cpu.st.ymm_hi[n] } else { cpu.st.xmm[n] };
            self.put_pair(cpu, off + 16 * n as u64, v)?;
        }
        Ok(())
    }

    /// Reads as many registers as the mode has; the others are `old`.
    fn load_vector(&self, cpu: &mut Vcpu, off: u64, old: [[u64; 2]; 16]) -> R<[[u64; 2]; 16]> {
        let mut v = old;
        for (n, r) in v.iter_mut().enumerate().take(self.registers) {
            *r = self.get_pair(cpu, off + 16 * n as u64)?;
        }
        Ok(v)
    }

    /// The registers' initial values, of as many as the mode has.
    fn cleared(&self, mut old: [[u64; 2]; 16]) -> [[u64; 2]; 16] {
        old[..self.registers].fill([0, 0]);
        old
    }
}

/// Physical register of ST(n).
fn physical(f: &X87, n: usize) -> usize {
    (usize::from(f.sw >> 11 & 7) + n) & 7
}

/// The memory operand of `len` bytes, aligned to `align`.
fn area<'a>(cpu: &mut Vcpu, i: &'a Insn, len: u32, align: u64, access: Access) -> R<Area<'a>> {
    let at = cpu.operand(i, len, access)?;
    if at & (align - 1) != 0 {
        return Err(cpu.gp(0));
    }
    cpu.probe(i.seg, at, u64::from(len), access)?;
    let registers = if cpu.st.mode.has(Mode::CODE64) { 16 } else { 8 };
    Ok(Area { i, at, registers, wide: i.w == Width::Q })
}

// ---- FXSAVE -----------------------------------------------------------------------------------------------------

fn check_fx(cpu: &mut Vcpu) -> R<()> {
    if cpu.st.cr0 & (cr0::EM | cr0::TS) != 0 { Err(cpu.nm()) } else { Ok(()) }
}

fn fxsave(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    check_fx(cpu)?;
    let a = area(cpu, i, 512, 16, Access::Write)?;
    a.save_x87(cpu)?;
    a.save_mxcsr(cpu)?;
    if cpu.st.cr4 & cr4::OSFXSR != 0 {
        a.save_vector(cpu, at::XMM, false)?;
    }
    Ok(())
}

fn fxrstor(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    check_fx(cpu)?;
    let a = area(cpu, i, 512, 16, Access::Read)?;
    let mxcsr = a.load_mxcsr(cpu)?;
    let x87 = a.load_x87(cpu)?;
    if cpu.st.cr4 & cr4::OSFXSR != 0 {
        let old = cpu.st.xmm;
        cpu.st.xmm = a.load_vector(cpu, at::XMM, old)?;
    }
    cpu.st.mxcsr = mxcsr;
    let before = std::mem::replace(&mut cpu.st.x87, x87).sw;
    cpu.st.mxcsr_changed();
    advance(cpu, i);
    crate::x87::settled(cpu, i, before);
    Ok(())
}

// ---- XSAVE ------------------------------------------------------------------------------------------------------

fn check_xsave(cpu: &mut Vcpu) -> R<u64> {
    if cpu.st.cr4 & cr4::OSXSAVE == 0 {
        return Err(cpu.ud());
    }
    if cpu.st.cr0 & cr0::TS != 0 {
        return Err(cpu.nm());
    }
    Ok(cpu.edx_eax() & cpu.st.xcr0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Save {
    Plain,
    Optimised,
    Compacted,
    Supervisor,
}

/// The components in `of` that are as the last XRSTOR loaded them, from this very image (SDM vol. 1, 13.6).
fn unmodified(cpu: &Vcpu, at: u64, map: u64, of: u64) -> u64 {
    let (st, r) = (&cpu.st, &cpu.st.restored);
    if !r.valid || (r.cpl, r.at, r.map) != (st.cpl, at, map) {
        return 0;
    }
    // MXCSR is part of the SSE component in the compacted format and is always saved in the other.
    let sse = st.xmm == r.xmm && st.mxcsr == r.mxcsr;
    [
        (X87_STATE, st.x87 == r.x87),
        (SSE_STATE, sse),
        (AVX_STATE, st.ymm_hi == r.ymm_hi),
        (PKRU_STATE, st.pkru == r.pkru),
    ]
    .iter()
    .filter(|(bit, same)| *same && of & r.components & bit != 0)
    .fold(0, |m, (bit, _)| m | bit)
}

fn save(cpu: &mut Vcpu, i: &Insn, how: Save) -> R<()> {
    let wanted = check_xsave(cpu)?;
    let compacted = matches!(how, Save::Compacted | Save::Supervisor);
    let (len, map) =
        if compacted { (compacted_size(wanted), Some(wanted)) } else { (standard_size(wanted), None) };
    let a = area(cpu, i, len, 64, Access::Write)?;
    let mut used = in_use(&cpu.st);
    if compacted && cpu.st.mxcsr != MXCSR_INIT {
        // SDM vol. 1, 13.10: XSAVEC counts MXCSR as SSE state.
        used |= SSE_STATE;
    }
    let mut write = if how == Save::Plain { wanted } else { wanted & used };
    if matches!(how, Save::Optimised | Save::Supervisor) {
        let map = if compacted { wanted | COMPACTED } else { 0 };
        write &= !unmodified(cpu, a.at, map, write);
    }
    let bv =
        if compacted { wanted & used } else { a.get(cpu, at::HEADER, Width::Q)? & !wanted | used & wanted };
    if write & X87_STATE != 0 {
        a.save_x87(cpu)?;
    }
    let mxcsr = if compacted { write & SSE_STATE } else { wanted & (SSE_STATE | AVX_STATE) };
    if mxcsr != 0 {
        a.save_mxcsr(cpu)?;
    }
    if write & SSE_STATE != 0 {
        a.save_vector(cpu, at::XMM, false)?;
    }
    if write & AVX_STATE != 0 {
        a.save_vector(cpu, component_offset(AVX, map), true)?;
    }
    if write & PKRU_STATE != 0 {
        let v = u64::from(cpu.st.pkru);
        a.put(cpu, component_offset(PKRU, map), Width::Q, v)?;
    }
    a.put(cpu, at::HEADER, Width::Q, bv)?;
    if compacted {
        a.put(cpu, at::HEADER + 8, Width::Q, wanted | COMPACTED)?;
    }
    Ok(())
}

fn xsave(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    save(cpu, i, Save::Plain)
}

fn xsaveopt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if !cpu.model.has(Feature::Xsaveopt) {
        return Err(cpu.ud());
    }
    save(cpu, i, Save::Optimised)
}

fn xsavec(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if !cpu.model.has(Feature::Xsavec) {
        return Err(cpu.ud());
    }
    save(cpu, i, Save::Compacted)
}

/// XSAVES and XRSTORS: #UD before #GP for the privilege level (SDM vol. 1, 13.11).
fn check_supervisor(cpu: &mut Vcpu) -> R<()> {
    if !cpu.model.has(Feature::Xsaves) || cpu.st.cr4 & cr4::OSXSAVE == 0 {
        return Err(cpu.ud());
    }
    cpu.need_cpl0()
}

fn xsaves(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    check_supervisor(cpu)?;
    save(cpu, i, Save::Supervisor)
}

/// XSTATE_BV, and XCOMP_BV's component map if the image is compacted, after the checks of SDM vol. 1, 13.8.1 and 13.12.
fn header(cpu: &mut Vcpu, a: &Area, supervisor: bool) -> R<(u64, Option<u64>)> {
    let mut h = [0; 8];
    for (k, v) in h.iter_mut().enumerate() {
        *v = a.get(cpu, at::HEADER + 8 * k as u64, Width::Q)?;
    }
    let (bv, comp, xcr0) = (h[0], h[1], cpu.st.xcr0);
    let compacted = comp & COMPACTED != 0;
    let map = comp & !COMPACTED;
    let ok = if compacted {
        cpu.model.has(Feature::Xsavec) && map & !xcr0 == 0 && bv & !map == 0 && h[2..].iter().all(|v| *v == 0)
    } else {
        !supervisor && comp == 0 && h[2] == 0 && bv & !xcr0 == 0
    };
    if ok { Ok((bv, compacted.then_some(map))) } else { Err(cpu.gp(0)) }
}

fn xrstor(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    restore(cpu, i, false)
}

fn xrstors(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    check_supervisor(cpu)?;
    restore(cpu, i, true)
}

fn restore(cpu: &mut Vcpu, i: &Insn, supervisor: bool) -> R<()> {
    let wanted = check_xsave(cpu)?;
    // First what every image has: the legacy area and the header; then the whole.
    let a = area(cpu, i, 576, 64, Access::Read)?;
    let (bv, map) = header(cpu, &a, supervisor)?;
    let load = wanted & bv;
    let len = map.map_or_else(|| standard_size(load), compacted_size);
    let a = area(cpu, i, len, 64, Access::Read)?;

    let s = &cpu.st;
    let (mut x87, mut xmm, mut ymm_hi, mut mxcsr, mut pkru) = (s.x87, s.xmm, s.ymm_hi, s.mxcsr, s.pkru);
    if load & X87_STATE != 0 {
        x87 = a.load_x87(cpu)?;
    } else if wanted & X87_STATE != 0 {
        x87 = X87::default();
    }
    if load & SSE_STATE != 0 {
        xmm = a.load_vector(cpu, at::XMM, xmm)?;
    } else if wanted & SSE_STATE != 0 {
        xmm = a.cleared(xmm);
    }
    if load & AVX_STATE != 0 {
        ymm_hi = a.load_vector(cpu, component_offset(AVX, map), ymm_hi)?;
    } else if wanted & AVX_STATE != 0 {
        ymm_hi = a.cleared(ymm_hi);
    }
    if load & PKRU_STATE != 0 {
        pkru = a.get(cpu, component_offset(PKRU, map), Width::D)? as u32;
    } else if wanted & PKRU_STATE != 0 {
        pkru = 0;
    }
    if map.is_some() {
        if load & SSE_STATE != 0 {
            mxcsr = a.load_mxcsr(cpu)?;
        } else if wanted & SSE_STATE != 0 {
            mxcsr = MXCSR_INIT;
        }
    } else if wanted & (SSE_STATE | AVX_STATE) != 0 {
        // The standard form loads MXCSR whatever XSTATE_BV says.
        mxcsr = a.load_mxcsr(cpu)?;
    }
    let at = a.at;
    let before = cpu.st.x87.sw;
    let s = &mut cpu.st;
    (s.x87, s.xmm, s.ymm_hi, s.mxcsr) = (x87, xmm, ymm_hi, mxcsr);
    let (cpl, map) = (s.cpl, map.map_or(0, |map| map | COMPACTED));
    s.restored = Restored { valid: true, cpl, at, map, components: wanted, x87, xmm, ymm_hi, mxcsr, pkru };
    s.mxcsr_changed();
    cpu.set_pkru(pkru);
    advance(cpu, i);
    crate::x87::settled(cpu, i, before);
    Ok(())
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    i.w = match x.mnemonic() {
        Mnemonic::Fxsave64
        | Mnemonic::Fxrstor64
        | Mnemonic::Xsave64
        | Mnemonic::Xrstor64
        | Mnemonic::Xsaveopt64
        | Mnemonic::Xsavec64
        | Mnemonic::Xsaves64
        | Mnemonic::Xrstors64 => Width::Q,
        _ => Width::D,
    };
    Some(match x.mnemonic() {
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => (handler!(fxsave), GOES_ON),
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => (handler!(fxrstor), ENDS),
        Mnemonic::Xsave | Mnemonic::Xsave64 => (handler!(xsave), GOES_ON),
        Mnemonic::Xsaveopt | Mnemonic::Xsaveopt64 => (handler!(xsaveopt), GOES_ON),
        Mnemonic::Xsavec | Mnemonic::Xsavec64 => (handler!(xsavec), GOES_ON),
        Mnemonic::Xrstor | Mnemonic::Xrstor64 => (handler!(xrstor), ENDS),
        Mnemonic::Xsaves | Mnemonic::Xsaves64 => (handler!(xsaves), GOES_ON),
        Mnemonic::Xrstors | Mnemonic::Xrstors64 => (handler!(xrstors), ENDS),
        _ => return None,
    })
}
