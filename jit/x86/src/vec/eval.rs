//! Tier 0's side: `Vcpu` is a [`VecEmitter`] whose vectors are two quadwords.

use softmmu::{Access, MemTrap};

use super::emitter::{Cvt, CvtX, FmaOp, FpOp, Prec, VBin, VImm, VShift, VUn, VecEmitter};
use super::{crypto, lanes};
use crate::emit::{Addr, R, Stop};
use crate::insn::Width;
use crate::softfp::sse::{self, FmaSign, MxEnv};
use crate::state::{Mode, Xmm, cr4};
use crate::vcpu::{Vcpu, vector};

impl Vcpu {
    /// Runs floating-point operations under MXCSR: `f` computes, then the sticky flags are set, and #XM is raised if one
    /// of them is unmasked.
    #[inline(always)]
    pub fn simd<T>(&mut self, f: impl FnOnce(&mut MxEnv) -> T) -> R<T> {
        let mut env = MxEnv::new(self.st.mxcsr);
        let r = f(&mut env);
        self.simd_commit(env)?;
        Ok(r)
    }

    /// Sets the sticky flags that `env` has gathered; #XM for one that is unmasked.
    #[inline(always)]
    pub(super) fn simd_commit(&mut self, env: MxEnv) -> R<()> {
        let mxcsr = env.commit(self.st.mxcsr);
        if mxcsr != self.st.mxcsr {
            self.st.mxcsr = mxcsr;
            self.st.mxcsr_changed();
        }
        if env.faulted() { Err(self.simd_fault()) } else { Ok(()) }
    }

    /// An unmasked SIMD floating-point exception (SDM vol. 3, 6.15, interrupt 19).
    #[cold]
    fn simd_fault(&mut self) -> Stop {
        if self.st.cr4 & cr4::OSXMMEXCPT != 0 { self.raise(vector::XM, None, 0) } else { self.ud() }
    }

    /// Reads 16 bytes at a linear address.
    #[inline(always)]
    pub fn read128(&mut self, s: u8, linear: u64) -> R<Xmm> {
        match self.mmu.read128(linear) {
            Ok(v) => Ok(lanes::narrow(v)),
            Err(_) => self.read128_slow(s, linear),
        }
    }

    /// Writes 16 bytes at a linear address.
    #[inline(always)]
    pub fn write128(&mut self, s: u8, linear: u64, x: Xmm) -> R<()> {
        match self.mmu.write128(linear, lanes::wide(x)) {
            Ok(()) => {
                self.check_code_write();
                Ok(())
            }
            Err(t) => self.write128_slow(s, linear, x, t),
        }
    }

    /// The second quadword's address.
    fn upper(&self, linear: u64) -> u64 {
        let a = linear.wrapping_add(8);
        if self.st.mode.has(Mode::CODE64) { a } else { a & 0xffff_ffff }
    }

    #[cold]
    #[inline(never)]
    fn read128_slow(&mut self, s: u8, linear: u64) -> R<Xmm> {
        // Every fault is found before a device sees the first half.
        self.probe(s, linear, 16, Access::Read)?;
        let low = self.read::<u64>(s, linear)?;
        let high = self.read::<u64>(s, self.upper(linear))?;
        Ok([low, high])
    }

    #[cold]
    #[inline(never)]
    fn write128_slow(&mut self, s: u8, linear: u64, x: Xmm, t: MemTrap) -> R<()> {
        self.probe(s, linear, 16, Access::Write)?;
        if matches!(t, MemTrap::Mmio { .. } | MemTrap::Split) {
            self.need_single()?;
        }
        self.write::<u64>(s, linear, x[0])?;
        self.write::<u64>(s, self.upper(linear), x[1])
    }

    #[inline(always)]
    fn linear_vector<const N: usize>(&mut self, at: Addr<u64>, aligned: bool, access: Access) -> R<u64> {
        let len = 16 * N as u32;
        let linear = self.linear(at.seg, at.mode, at.off, len, access)?;
        if aligned && linear & u64::from(len - 1) != 0 {
            return Err(self.gp(0));
        }
        Ok(linear)
    }

    /// Reads more than 16 bytes at a linear address.
    fn read_wide<const N: usize>(&mut self, s: u8, linear: u64) -> R<[Xmm; N]> {
        let mut x = [[0; 2]; N];
        if self.mmu.probe(linear, 16 * N as u64, Access::Read).is_err() {
            // Faults of any byte come before a device sees the first one.
            self.probe(s, linear, 16 * N as u64, Access::Read)?;
        }
        let mut at = linear;
        for x in &mut x {
            *x = self.read128(s, at)?;
            at = self.upper(self.upper(at));
        }
        Ok(x)
    }

    /// Writes more than 16 bytes at a linear address.
    fn write_wide<const N: usize>(&mut self, s: u8, linear: u64, x: [Xmm; N]) -> R<()> {
        if self.mmu.probe(linear, 16 * N as u64, Access::Write).is_err() {
            self.probe(s, linear, 16 * N as u64, Access::Write)?;
            self.need_single()?;
        }
        let mut at = linear;
        for x in x {
            self.write128(s, at, x)?;
            at = self.upper(self.upper(at));
        }
        Ok(())
    }
}

/// One scalar operation on raw bits.
#[inline(always)]
fn scalar(op: FpOp, p: Prec, a: u64, b: u64, env: &mut MxEnv) -> u64 {
    let (x, y) = (a as u32, b as u32);
    match (op, p) {
        (FpOp::Add, Prec::F32) => sse::add32(x, y, env).into(),
        (FpOp::Add | FpOp::AddSub, Prec::F64) => sse::add64(a, b, env),
        (FpOp::Sub, Prec::F32) => sse::sub32(x, y, env).into(),
        (FpOp::Sub, Prec::F64) => sse::sub64(a, b, env),
        (FpOp::Mul, Prec::F32) => sse::mul32(x, y, env).into(),
        (FpOp::Mul, Prec::F64) => sse::mul64(a, b, env),
        (FpOp::Div, Prec::F32) => sse::div32(x, y, env).into(),
        (FpOp::Div, Prec::F64) => sse::div64(a, b, env),
        (FpOp::Min, Prec::F32) => sse::min32(x, y, env).into(),
        (FpOp::Min, Prec::F64) => sse::min64(a, b, env),
        (FpOp::Max, Prec::F32) => sse::max32(x, y, env).into(),
        (FpOp::Max, Prec::F64) => sse::max64(a, b, env),
        (FpOp::Sqrt, Prec::F32) => sse::sqrt32(y, env).into(),
        (FpOp::Sqrt, Prec::F64) => sse::sqrt64(b, env),
        // Approximations exist in single precision only; `AddSub` is resolved by lane before it comes here.
        (FpOp::Rcp, _) => sse::rcp32(y).into(),
        (FpOp::Rsqrt, _) => sse::rsqrt32(y).into(),
        (FpOp::AddSub, Prec::F32) => sse::add32(x, y, env).into(),
    }
}

/// `f` on the lanes of a precision.
#[inline(always)]
fn per_lane(p: Prec, mut f: impl FnMut(usize) -> u64) -> Xmm {
    match p {
        Prec::F64 => [f(0), f(1)],
        Prec::F32 => {
            let l = [f(0), f(1), f(2), f(3)];
            [l[0] | l[1] << 32, l[2] | l[3] << 32]
        }
    }
}

/// The halves of a vector, the low one first.
#[inline(always)]
fn halves<const N: usize>(f: impl FnMut(usize) -> Xmm) -> [Xmm; N] {
    std::array::from_fn(f)
}

/// One fused multiply-add on raw bits.
#[inline(always)]
fn fused(op: FmaOp, p: Prec, [a, b, c]: [u64; 3], env: &mut MxEnv) -> u64 {
    let (negate_product, negate_addend) = op.negates();
    let signs = FmaSign { negate_product, negate_addend };
    match p {
        Prec::F32 => sse::fma_op32(a as u32, b as u32, c as u32, signs, env).into(),
        Prec::F64 => sse::fma_op64(a, b, c, signs, env),
    }
}

/// Lane of a floating-point vector.
#[inline(always)]
fn el(p: Prec, x: Xmm, k: usize) -> u64 {
    lanes::lane(p.width(), x, k as u8)
}

#[inline(always)]
pub(super) fn convert_scalar(op: Cvt, a: u64, env: &mut MxEnv) -> u64 {
    let x = a as u32;
    match op {
        Cvt::F32ToF64 => sse::f32_to_f64(x, env),
        Cvt::F64ToF32 => sse::f64_to_f32(a, env).into(),
        Cvt::I32ToF32 => sse::i32_to_f32(x as i32, env).into(),
        Cvt::I64ToF32 => sse::i64_to_f32(a as i64, env).into(),
        Cvt::I32ToF64 => sse::i32_to_f64(x as i32),
        Cvt::I64ToF64 => sse::i64_to_f64(a as i64, env),
        Cvt::F32ToI32 => sse::f32_to_i32(x, env) as u32 as u64,
        Cvt::F32ToI64 => sse::f32_to_i64(x, env) as u64,
        Cvt::F64ToI32 => sse::f64_to_i32(a, env) as u32 as u64,
        Cvt::F64ToI64 => sse::f64_to_i64(a, env) as u64,
        Cvt::F32ToI32Trunc => sse::f32_to_i32_trunc(x, env) as u32 as u64,
        Cvt::F32ToI64Trunc => sse::f32_to_i64_trunc(x, env) as u64,
        Cvt::F64ToI32Trunc => sse::f64_to_i32_trunc(a, env) as u32 as u64,
        Cvt::F64ToI64Trunc => sse::f64_to_i64_trunc(a, env) as u64,
    }
}

fn convert_vector(op: CvtX, a: Xmm, env: &mut MxEnv) -> Xmm {
    let mut narrow = |c: Cvt| {
        let low = convert_scalar(c, a[0], env);
        [low | convert_scalar(c, a[1], env) << 32, 0]
    };
    let four = |c: Cvt, env: &mut MxEnv| per_lane(Prec::F32, |k| convert_scalar(c, el(Prec::F32, a, k), env));
    let two = |c: Cvt, env: &mut MxEnv| per_lane(Prec::F64, |k| convert_scalar(c, el(Prec::F32, a, k), env));
    match op {
        CvtX::F64ToI32 => narrow(Cvt::F64ToI32),
        CvtX::F64ToI32Trunc => narrow(Cvt::F64ToI32Trunc),
        CvtX::F64ToF32 => narrow(Cvt::F64ToF32),
        CvtX::I32ToF32 => four(Cvt::I32ToF32, env),
        CvtX::F32ToI32 => four(Cvt::F32ToI32, env),
        CvtX::F32ToI32Trunc => four(Cvt::F32ToI32Trunc, env),
        CvtX::I32ToF64 => two(Cvt::I32ToF64, env),
        CvtX::F32ToF64 => two(Cvt::F32ToF64, env),
    }
}

#[inline(always)]
fn round(p: Prec, imm: u8, a: u64, env: &mut MxEnv) -> u64 {
    match p {
        Prec::F32 => sse::round32(a as u32, imm, env).into(),
        Prec::F64 => sse::round64(a, imm, env),
    }
}

#[inline(always)]
fn compare(p: Prec, predicate: u8, a: u64, b: u64, env: &mut MxEnv) -> u64 {
    let holds = match p {
        Prec::F32 => sse::cmp32(a as u32, b as u32, predicate, env),
        Prec::F64 => sse::cmp64(a, b, predicate, env),
    };
    if holds { p.width().mask() } else { 0 }
}

impl VecEmitter for Vcpu {
    type X = Xmm;

    #[inline(always)]
    fn xmm(&mut self, r: u8) -> Xmm {
        self.st.xmm[r as usize & 15]
    }
    #[inline(always)]
    fn set_xmm(&mut self, r: u8, x: Xmm) {
        self.st.xmm[r as usize & 15] = x;
    }
    #[inline(always)]
    fn ymm_hi(&mut self, r: u8) -> Xmm {
        self.st.ymm_hi[r as usize & 15]
    }
    #[inline(always)]
    fn set_ymm_hi(&mut self, r: u8, x: Xmm) {
        self.st.ymm_hi[r as usize & 15] = x;
    }
    #[inline(always)]
    fn xmm_lane(&mut self, w: Width, r: u8, lane: u8) -> u64 {
        lanes::lane(w, self.st.xmm[r as usize & 15], lane)
    }
    #[inline(always)]
    fn set_xmm_lane(&mut self, w: Width, r: u8, lane: u8, v: u64) {
        let x = &mut self.st.xmm[r as usize & 15];
        *x = lanes::with_lane(w, *x, lane, v);
    }

    #[inline(always)]
    fn load_vector<const N: usize>(&mut self, at: Addr<u64>, aligned: bool) -> R<[Xmm; N]> {
        let linear = self.linear_vector::<N>(at, aligned, Access::Read)?;
        if N == 1 {
            return Ok([self.read128(at.seg, linear)?; N]);
        }
        self.read_wide(at.seg, linear)
    }
    #[inline(always)]
    fn store_vector<const N: usize>(&mut self, at: Addr<u64>, aligned: bool, x: [Xmm; N]) -> R<()> {
        let linear = self.linear_vector::<N>(at, aligned, Access::Write)?;
        if N == 1 {
            return self.write128(at.seg, linear, x[0]);
        }
        self.write_wide(at.seg, linear, x)
    }

    #[inline(always)]
    fn const128(&mut self, x: [u64; 2]) -> Xmm {
        x
    }
    #[inline(always)]
    fn zext128(&mut self, _: Width, v: u64) -> Xmm {
        [v, 0]
    }
    #[inline(always)]
    fn lane(&mut self, w: Width, x: Xmm, lane: u8) -> u64 {
        lanes::lane(w, x, lane)
    }
    #[inline(always)]
    fn with_lane(&mut self, w: Width, x: Xmm, lane: u8, v: u64) -> Xmm {
        lanes::with_lane(w, x, lane, v)
    }

    #[inline(always)]
    fn vbin(&mut self, op: VBin, a: Xmm, b: Xmm) -> R<Xmm> {
        Ok(lanes::vbin(op, a, b))
    }
    #[inline(always)]
    fn vun(&mut self, op: VUn, a: Xmm) -> R<Xmm> {
        Ok(lanes::vun(op, a))
    }
    fn vimm(&mut self, op: VImm, a: Xmm, b: Xmm, imm: u8) -> R<Xmm> {
        Ok(crypto::vimm(op, a, b, imm))
    }
    fn sha256_rounds(&mut self, a: Xmm, b: Xmm, wk: Xmm) -> R<Xmm> {
        Ok(crypto::sha256_rounds(a, b, wk))
    }
    #[inline(always)]
    fn splat(&mut self, w: Width, a: Xmm) -> R<Xmm> {
        Ok(lanes::splat(w, a))
    }
    #[inline(always)]
    fn vshift_imm(&mut self, op: VShift, a: Xmm, n: u8) -> R<Xmm> {
        Ok(lanes::vshift(op, a, n.into()))
    }
    #[inline(always)]
    fn vshift(&mut self, op: VShift, a: Xmm, n: u64) -> R<Xmm> {
        Ok(lanes::vshift(op, a, n))
    }
    #[inline(always)]
    fn extend(&mut self, signed: bool, from: Width, to: Width, a: Xmm) -> R<Xmm> {
        Ok(lanes::extend(signed, from, to, a))
    }
    #[inline(always)]
    fn shuffle32(&mut self, a: Xmm, b: Xmm, pick: [u8; 4]) -> R<Xmm> {
        Ok(lanes::shuffle32(a, b, pick))
    }
    #[inline(always)]
    fn shuffle16(&mut self, a: Xmm, pick: [u8; 8]) -> R<Xmm> {
        Ok(lanes::shuffle16(a, pick))
    }
    #[inline(always)]
    fn align_bytes(&mut self, high: Xmm, low: Xmm, n: u8) -> R<Xmm> {
        Ok(lanes::align_bytes(high, low, n))
    }
    #[inline(always)]
    fn blend(&mut self, a: Xmm, b: Xmm, pick: u16) -> R<Xmm> {
        Ok(lanes::blend(a, b, pick))
    }
    #[inline(always)]
    fn blend_var(&mut self, w: Width, a: Xmm, b: Xmm, mask: Xmm) -> R<Xmm> {
        Ok(lanes::blend_var(w, a, b, mask))
    }
    #[inline(always)]
    fn move_mask(&mut self, w: Width, a: Xmm) -> R<u64> {
        Ok(lanes::move_mask(w, a))
    }
    #[inline(always)]
    fn test(&mut self, a: Xmm, b: Xmm) -> R<u64> {
        let zf = a[0] & b[0] | a[1] & b[1] == 0;
        let cf = !a[0] & b[0] | !a[1] & b[1] == 0;
        Ok(u64::from(zf) << 6 | u64::from(cf))
    }

    #[inline(always)]
    fn fp_scalar(&mut self, op: FpOp, p: Prec, a: u64, b: u64) -> R<u64> {
        if matches!(op, FpOp::Rcp | FpOp::Rsqrt) {
            return Ok(scalar(op, p, a, b, &mut MxEnv::new(self.st.mxcsr)));
        }
        self.simd(|env| scalar(op, p, a, b, env))
    }
    #[inline(always)]
    fn fp_packed<const N: usize>(&mut self, op: FpOp, p: Prec, a: [Xmm; N], b: [Xmm; N]) -> R<[Xmm; N]> {
        self.simd(|env| {
            halves(|h| {
                per_lane(p, |k| {
                    let op = match op {
                        FpOp::AddSub if k & 1 == 0 => FpOp::Sub,
                        FpOp::AddSub => FpOp::Add,
                        op => op,
                    };
                    scalar(op, p, el(p, a[h], k), el(p, b[h], k), env)
                })
            })
        })
    }
    fn fma_scalar(&mut self, op: FmaOp, p: Prec, abc: [u64; 3]) -> R<u64> {
        self.simd(|env| fused(op, p, abc, env))
    }
    fn fma_packed<const N: usize>(&mut self, op: FmaOp, p: Prec, abc: [[Xmm; N]; 3]) -> R<[Xmm; N]> {
        self.simd(|env| {
            halves(|h| per_lane(p, |k| fused(op.in_lane(k), p, abc.map(|x| el(p, x[h], k)), env)))
        })
    }
    #[inline(always)]
    fn fp_round(&mut self, p: Prec, imm: u8, a: u64) -> R<u64> {
        self.simd(|env| round(p, imm, a, env))
    }
    fn fp_round_packed<const N: usize>(&mut self, p: Prec, imm: u8, a: [Xmm; N]) -> R<[Xmm; N]> {
        self.simd(|env| halves(|h| per_lane(p, |k| round(p, imm, el(p, a[h], k), env))))
    }
    #[inline(always)]
    fn fp_cmp(&mut self, p: Prec, predicate: u8, a: u64, b: u64) -> R<u64> {
        self.simd(|env| compare(p, predicate, a, b, env))
    }
    fn fp_cmp_packed<const N: usize>(
        &mut self,
        p: Prec,
        predicate: u8,
        a: [Xmm; N],
        b: [Xmm; N],
    ) -> R<[Xmm; N]> {
        self.simd(|env| {
            halves(|h| per_lane(p, |k| compare(p, predicate, el(p, a[h], k), el(p, b[h], k), env)))
        })
    }
    #[inline(always)]
    fn fp_flags(&mut self, p: Prec, quiet: bool, a: u64, b: u64) -> R<u64> {
        self.simd(|env| {
            let relation = match (p, quiet) {
                (Prec::F32, false) => sse::comi32(a as u32, b as u32, env),
                (Prec::F32, true) => sse::ucomi32(a as u32, b as u32, env),
                (Prec::F64, false) => sse::comi64(a, b, env),
                (Prec::F64, true) => sse::ucomi64(a, b, env),
            };
            u64::from(relation.eflags())
        })
    }
    #[inline(always)]
    fn convert(&mut self, op: Cvt, a: u64) -> R<u64> {
        self.simd(|env| convert_scalar(op, a, env))
    }
    fn convert_packed<const N: usize>(&mut self, op: CvtX, a: [Xmm; N]) -> R<[Xmm; N]> {
        self.simd(|env| halves(|h| convert_vector(op, a[h], env)))
    }
}
