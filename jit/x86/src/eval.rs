//! Tier 0's evaluator: `Vcpu` is an [`Emitter`] whose values are `u64`.

use softmmu::{Access, GuestInt};

use crate::cc::{self, Cc, CcKind};
use crate::emit::{Addr, Emitter, Fence, JumpKind, R, Rmw, Stop};
use crate::insn::{Cond, Insn, Rest, Width};
use crate::state::{rflags, stop};
use crate::vcpu::{Vcpu, vector};

impl Vcpu {
    /// The operands of the lazy flags as they stand.
    #[inline(always)]
    fn cc(&self) -> Cc<u64> {
        let s = &self.st;
        Cc {
            kind: CcKind::from_u8((s.cc_op >> 2) as u8),
            w: Width::from_u8((s.cc_op & 3) as u8),
            res: s.cc_res,
            src: s.cc_src,
            aux: s.cc_aux,
        }
    }

    /// All of RFLAGS.
    pub fn rflags(&mut self) -> u64 {
        let c = self.cc();
        self.st.flags & !rflags::ARITH | rflags::FIXED | cc::all(self, c)
    }

    /// Replaces all of RFLAGS (no privilege rules). The caller calls [`Vcpu::mode_changed`] if VM or AC may differ.
    pub fn set_rflags(&mut self, v: u64) {
        self.st.flags = v & !rflags::ARITH | rflags::FIXED;
        self.set_cc(CcKind::Flags, Width::D, v & rflags::ARITH, 0, 0);
    }

    /// Evaluates a condition on the lazy flags with the kind looked at once.
    #[inline(always)]
    fn eval_cond(&mut self, c: Cond) -> u64 {
        let cc = self.cc();
        if matches!(c, Cond::B | Cond::Ae) && self.st.cc_op >= cc::cc_op(CcKind::Inc, Width::B) {
            // These kinds all keep it in the same place, and INC and DEC in a loop ask for nothing else.
            return cc.src & 1 ^ u64::from(c == Cond::Ae);
        }
        // The frequent kinds at the frequent widths as constants, so that each arm folds to a compare.
        macro_rules! arm {
            ($kind:ident, $w:ident) => {
                cc::cond(self, Cc { kind: CcKind::$kind, w: Width::$w, ..cc }, c)
            };
        }
        match (cc.kind, cc.w) {
            (CcKind::Sub, Width::D) => arm!(Sub, D),
            (CcKind::Sub, Width::Q) => arm!(Sub, Q),
            (CcKind::Sub, Width::B) => arm!(Sub, B),
            (CcKind::Logic, Width::D) => arm!(Logic, D),
            (CcKind::Logic, Width::Q) => arm!(Logic, Q),
            (CcKind::Logic, Width::B) => arm!(Logic, B),
            (CcKind::Add, Width::Q) => arm!(Add, Q),
            (CcKind::Add, Width::D) => arm!(Add, D),
            _ => slow_cond(self, cc, c),
        }
    }

    /// Evaluates a condition on lazy flags whose kind and width are known.
    #[inline(always)]
    pub(crate) fn known_cond(&mut self, kind: CcKind, w: Width, c: Cond) -> u64 {
        debug_assert_eq!(self.st.cc_op, cc::cc_op(kind, w));
        let cc = Cc { kind, w, ..self.cc() };
        cc::cond(self, cc, c)
    }

    #[inline(always)]
    fn rmw_as<T: GuestInt>(&mut self, s: u8, at: u64, op: Rmw, b: u64) -> R<u64> {
        let f = |old: T| {
            let a = Into::<u64>::into(old);
            T::truncate(match op {
                Rmw::Add => a.wrapping_add(b),
                Rmw::Sub => a.wrapping_sub(b),
                Rmw::And => a & b,
                Rmw::Or => a | b,
                Rmw::Xor => a ^ b,
                Rmw::Xchg => b,
                Rmw::Neg => a.wrapping_neg(),
            })
        };
        match self.mmu.rmw::<T>(at, f) {
            Ok(old) => {
                self.check_code_write();
                Ok(Into::<u64>::into(old))
            }
            Err(t) => self.slow_rmw::<T>(s, at, f, t),
        }
    }

    /// LOCK on device memory or across a device page: a read and a write, which nothing comes between on this vCPU.
    #[cold]
    #[inline(never)]
    fn slow_rmw<T: GuestInt>(&mut self, s: u8, at: u64, f: impl Fn(T) -> T, t: softmmu::MemTrap) -> R<u64> {
        use softmmu::MemTrap;
        match t {
            MemTrap::Mmio { .. } | MemTrap::Split => {
                self.need_single()?;
                self.probe(s, at, size_of::<T>() as u64, Access::Write)?;
                let old = self.read::<T>(s, at)?;
                self.write::<T>(s, at, f(old))?;
                Ok(Into::<u64>::into(old))
            }
            t => {
                self.address_ok(s, at, size_of::<T>() as u64)?;
                Err(self.mem_fault(s, at, t))
            }
        }
    }

    #[inline(always)]
    fn cmpxchg_as<T: GuestInt>(&mut self, s: u8, at: u64, expected: u64, new: u64) -> R<u64> {
        match self.mmu.cmpxchg::<T>(at, T::truncate(expected), T::truncate(new)) {
            Ok(old) => {
                self.check_code_write();
                Ok(Into::<u64>::into(old))
            }
            Err(t) => {
                let f = |old: T| if Into::<u64>::into(old) == expected { T::truncate(new) } else { old };
                self.slow_rmw::<T>(s, at, f, t)
            }
        }
    }
}

#[inline(never)]
fn slow_cond(v: &mut Vcpu, cc: Cc<u64>, c: Cond) -> u64 {
    cc::cond(v, cc, c)
}

/// Runs `$f::<uN>` for the width.
macro_rules! by_width {
    ($w:expr, $self:ident . $f:ident ( $($a:expr),* )) => {
        match $w {
            Width::B => $self.$f::<u8>($($a),*),
            Width::W => $self.$f::<u16>($($a),*),
            Width::D => $self.$f::<u32>($($a),*),
            Width::Q => $self.$f::<u64>($($a),*),
        }
    };
}

impl Emitter for Vcpu {
    type V = u64;

    #[inline(always)]
    fn imm(&mut self, w: Width, v: u64) -> u64 {
        v & w.mask()
    }
    #[inline(always)]
    fn gpr(&mut self, w: Width, r: u8) -> u64 {
        self.st.gpr[r as usize & 31] & w.mask()
    }
    #[inline(always)]
    fn high(&mut self, r: u8) -> u64 {
        self.st.gpr[r as usize & 3] >> 8 & 0xff
    }
    #[inline(always)]
    fn set_gpr(&mut self, w: Width, r: u8, v: u64) {
        let g = &mut self.st.gpr[r as usize & 31];
        *g = match w {
            Width::Q | Width::D => v,
            Width::W => *g & !0xffff | v,
            Width::B => *g & !0xff | v,
        };
    }
    #[inline(always)]
    fn set_high(&mut self, r: u8, v: u64) {
        let g = &mut self.st.gpr[r as usize & 3];
        *g = *g & !0xff00 | v << 8;
    }

    #[inline(always)]
    fn offset(&mut self, i: &Insn) -> u64 {
        self.ea(i)
    }
    #[inline(always)]
    fn offset_as(&mut self, i: &Insn, aw: Width, index: bool) -> u64 {
        let g = &self.st.gpr;
        let mut at = g[i.base as usize & 31].wrapping_add(i.disp);
        if index {
            // Not a shift: x86-64 hosts have a register for its count only, which handlers have a better use for.
            at = at.wrapping_add(g[i.index as usize & 31].wrapping_mul(u64::from(i.factor)));
        }
        at & aw.mask()
    }
    #[inline(always)]
    fn load_near(&mut self, at: u64, w: Width) -> R<u64> {
        let v = match w {
            Width::B => self.mmu.read_hit::<u8>(at).map(u64::from),
            Width::W => self.mmu.read_hit::<u16>(at).map(u64::from),
            Width::D => self.mmu.read_hit::<u32>(at).map(u64::from),
            Width::Q => self.mmu.read_hit::<u64>(at),
        };
        v.ok_or(Stop)
    }
    #[inline(always)]
    fn load_for_write_near(&mut self, at: u64, w: Width) -> R<u64> {
        let hits = match w {
            Width::B => self.mmu.write_hits::<u8>(at),
            Width::W => self.mmu.write_hits::<u16>(at),
            Width::D => self.mmu.write_hits::<u32>(at),
            Width::Q => self.mmu.write_hits::<u64>(at),
        };
        if hits { self.load_near(at, w) } else { Err(Stop) }
    }
    #[inline(always)]
    fn store_near(&mut self, at: u64, w: Width, v: u64) -> R<()> {
        let hit = match w {
            Width::B => self.mmu.write_hit(at, v as u8),
            Width::W => self.mmu.write_hit(at, v as u16),
            Width::D => self.mmu.write_hit(at, v as u32),
            Width::Q => self.mmu.write_hit(at, v),
        };
        if hit { Ok(()) } else { Err(Stop) }
    }
    #[inline(always)]
    fn load(&mut self, at: Addr<u64>, w: Width) -> R<u64> {
        let lin = self.linear(at.seg, at.mode, at.off, w.bytes(), Access::Read)?;
        self.read_w(at.seg, lin, w)
    }
    #[inline(always)]
    fn store(&mut self, at: Addr<u64>, w: Width, v: u64) -> R<()> {
        let lin = self.linear(at.seg, at.mode, at.off, w.bytes(), Access::Write)?;
        self.write_w(at.seg, lin, w, v)
    }
    #[inline(always)]
    fn load_for_write(&mut self, at: Addr<u64>, w: Width) -> R<u64> {
        let lin = self.linear(at.seg, at.mode, at.off, w.bytes(), Access::Write)?;
        // A write fault is reported before the read has any effect; the probe also makes the later store infallible.
        let len = u64::from(w.bytes());
        if self.mmu.probe(lin, len, Access::Write).is_err() {
            self.probe(at.seg, lin, len, Access::Write)?;
            self.need_single()?;
        }
        self.read_w(at.seg, lin, w)
    }
    #[inline(always)]
    fn atomic(&mut self, at: Addr<u64>, w: Width, op: Rmw, b: u64) -> R<u64> {
        let lin = self.linear(at.seg, at.mode, at.off, w.bytes(), Access::Write)?;
        by_width!(w, self.rmw_as(at.seg, lin, op, b))
    }
    #[inline(always)]
    fn atomic_cmpxchg(&mut self, at: Addr<u64>, w: Width, expected: u64, new: u64) -> R<u64> {
        let lin = self.linear(at.seg, at.mode, at.off, w.bytes(), Access::Write)?;
        by_width!(w, self.cmpxchg_as(at.seg, lin, expected, new))
    }
    #[inline(always)]
    fn fence(&mut self, what: Fence) {
        // Accesses of ours are in order, non-temporal ones too; only generated code has weaker ones, on other hosts than x86.
        let needed = match what {
            Fence::Loads => false,
            Fence::Stores => cfg!(not(target_arch = "x86_64")),
            Fence::All => true,
        };
        if needed {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[inline(always)]
    fn add(&mut self, w: Width, a: u64, b: u64) -> u64 {
        a.wrapping_add(b) & w.mask()
    }
    #[inline(always)]
    fn sub(&mut self, w: Width, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b) & w.mask()
    }
    #[inline(always)]
    fn and(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a | b
    }
    #[inline(always)]
    fn xor(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    fn not(&mut self, w: Width, a: u64) -> u64 {
        !a & w.mask()
    }
    #[inline(always)]
    fn neg(&mut self, w: Width, a: u64) -> u64 {
        a.wrapping_neg() & w.mask()
    }
    #[inline(always)]
    fn mul(&mut self, w: Width, a: u64, b: u64) -> u64 {
        a.wrapping_mul(b) & w.mask()
    }
    #[inline(always)]
    fn mulhu(&mut self, w: Width, a: u64, b: u64) -> u64 {
        match w {
            Width::Q => ((u128::from(a) * u128::from(b)) >> 64) as u64,
            _ => a.wrapping_mul(b) >> w.bits() & w.mask(),
        }
    }
    #[inline(always)]
    fn mulhs(&mut self, w: Width, a: u64, b: u64) -> u64 {
        let (a, b) = (w.sext(a) as i64, w.sext(b) as i64);
        match w {
            Width::Q => ((i128::from(a) * i128::from(b)) >> 64) as u64,
            _ => (a.wrapping_mul(b) >> w.bits()) as u64 & w.mask(),
        }
    }
    #[inline(always)]
    fn udiv(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a.checked_div(b).unwrap_or(0)
    }
    #[inline(always)]
    fn urem(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a.checked_rem(b).unwrap_or(0)
    }
    #[inline(always)]
    fn sdiv(&mut self, w: Width, a: u64, b: u64) -> u64 {
        let (a, b) = (w.sext(a) as i64, w.sext(b) as i64);
        a.checked_div(b).unwrap_or(0) as u64 & w.mask()
    }
    #[inline(always)]
    fn srem(&mut self, w: Width, a: u64, b: u64) -> u64 {
        let (a, b) = (w.sext(a) as i64, w.sext(b) as i64);
        a.checked_rem(b).unwrap_or(0) as u64 & w.mask()
    }
    fn div128(&mut self, hi: u64, lo: u64, b: u64, signed: bool) -> (u64, u64, u64) {
        let a = u128::from(hi) << 64 | u128::from(lo);
        if signed {
            let (a, b) = (a as i128, i128::from(b as i64));
            match (a.checked_div(b), a.checked_rem(b)) {
                (Some(q), Some(r)) => (q as u64, r as u64, u64::from(i64::try_from(q).is_err())),
                _ => (0, 0, 1),
            }
        } else {
            let (q, r) = (a / u128::from(b.max(1)), a % u128::from(b.max(1)));
            (q as u64, r as u64, u64::from(q > u128::from(u64::MAX)))
        }
    }
    #[inline(always)]
    fn shl(&mut self, w: Width, a: u64, n: u64) -> u64 {
        a << (n & 63) & w.mask()
    }
    #[inline(always)]
    fn shr(&mut self, _: Width, a: u64, n: u64) -> u64 {
        a >> (n & 63)
    }
    #[inline(always)]
    fn sar(&mut self, w: Width, a: u64, n: u64) -> u64 {
        (w.sext(a) as i64 >> (n & 63)) as u64 & w.mask()
    }
    #[inline(always)]
    fn rotl(&mut self, w: Width, a: u64, n: u64) -> u64 {
        match w {
            Width::B => u64::from((a as u8).rotate_left(n as u32 & 7)),
            Width::W => u64::from((a as u16).rotate_left(n as u32 & 15)),
            Width::D => u64::from((a as u32).rotate_left(n as u32 & 31)),
            Width::Q => a.rotate_left(n as u32 & 63),
        }
    }
    #[inline(always)]
    fn rotr(&mut self, w: Width, a: u64, n: u64) -> u64 {
        match w {
            Width::B => u64::from((a as u8).rotate_right(n as u32 & 7)),
            Width::W => u64::from((a as u16).rotate_right(n as u32 & 15)),
            Width::D => u64::from((a as u32).rotate_right(n as u32 & 31)),
            Width::Q => a.rotate_right(n as u32 & 63),
        }
    }
    #[inline(always)]
    fn sext(&mut self, from: Width, to: Width, a: u64) -> u64 {
        from.sext(a) & to.mask()
    }
    #[inline(always)]
    fn zext(&mut self, _: Width, _: Width, a: u64) -> u64 {
        a
    }
    #[inline(always)]
    fn trunc(&mut self, to: Width, a: u64) -> u64 {
        a & to.mask()
    }
    #[inline(always)]
    fn bswap(&mut self, w: Width, a: u64) -> u64 {
        match w {
            Width::B => a,
            Width::W => u64::from((a as u16).swap_bytes()),
            Width::D => u64::from((a as u32).swap_bytes()),
            Width::Q => a.swap_bytes(),
        }
    }
    #[inline(always)]
    fn clz(&mut self, w: Width, a: u64) -> u64 {
        u64::from(a.leading_zeros()) - u64::from(64 - w.bits())
    }
    #[inline(always)]
    fn ctz(&mut self, w: Width, a: u64) -> u64 {
        u64::from(a.trailing_zeros().min(w.bits()))
    }
    #[inline(always)]
    fn popcnt(&mut self, _: Width, a: u64) -> u64 {
        u64::from(a.count_ones())
    }

    #[inline(always)]
    fn eq(&mut self, _: Width, a: u64, b: u64) -> u64 {
        u64::from(a == b)
    }
    #[inline(always)]
    fn ult(&mut self, _: Width, a: u64, b: u64) -> u64 {
        u64::from(a < b)
    }
    #[inline(always)]
    fn slt(&mut self, w: Width, a: u64, b: u64) -> u64 {
        u64::from((w.sext(a) as i64) < (w.sext(b) as i64))
    }
    #[inline(always)]
    fn select(&mut self, _: Width, c: u64, a: u64, b: u64) -> u64 {
        if c != 0 { a } else { b }
    }

    #[inline(always)]
    fn set_cc(&mut self, kind: CcKind, w: Width, res: u64, src: u64, aux: u64) {
        let s = &mut self.st;
        s.cc_op = cc::cc_op(kind, w);
        s.cc_res = res;
        let (has_src, has_aux) = kind.operands();
        if has_src {
            s.cc_src = src;
        }
        if has_aux {
            s.cc_aux = aux;
        }
    }
    #[inline(always)]
    fn set_cc_if(&mut self, c: u64, kind: CcKind, w: Width, res: u64, src: u64, aux: u64) {
        if c != 0 {
            self.set_cc(kind, w, res, src, aux);
        }
    }
    #[inline(always)]
    fn cond(&mut self, c: Cond) -> u64 {
        self.eval_cond(c)
    }
    fn arith_flags(&mut self) -> u64 {
        let c = self.cc();
        cc::all(self, c)
    }
    #[inline(always)]
    fn set_df(&mut self, set: bool) {
        self.st.flags = if set { self.st.flags | rflags::DF } else { self.st.flags & !rflags::DF };
    }

    #[inline(always)]
    fn jump(&mut self, target: u64) {
        self.st.rip = target;
    }
    #[inline(always)]
    fn jump_if(&mut self, c: u64, taken: u64, next: u64) {
        // A branch of the host, and no choice between values: its prediction is right or wrong as soon as the condition is
        // known. A choice would be found out only where the next block's first handler is called.
        if c != 0 {
            self.st.rip = taken;
            std::hint::black_box(());
        } else {
            self.st.rip = next;
        }
    }
    #[inline(always)]
    fn jump_to(&mut self, target: u64, _: JumpKind) {
        self.st.rip = target;
    }
    #[inline(always)]
    fn note_call(&mut self, _: u64) {}

    #[inline(always)]
    fn fault_if(&mut self, c: u64, vec: u8) -> R<()> {
        let code = (vec == vector::GP).then_some(0);
        if c != 0 { Err(self.raise(vec, code, 0)) } else { Ok(()) }
    }
    #[inline(always)]
    fn check_canonical(&mut self, suspect: u64, target: u64) -> R<()> {
        if suspect != 0 && !self.canonical(target) { Err(self.gp(0)) } else { Ok(()) }
    }
    #[inline(always)]
    fn prefer_helper(&self) -> bool {
        false
    }
}

/// #DE, used by the division lifts.
pub const DIVIDE_ERROR: u8 = vector::DE;

/// The end of a tier-0 handler: goes on with the rest of the block unless the instruction stopped it. How many
/// instructions were left when the block ended or stopped.
#[inline(always)]
pub fn done(_: R<()>, cpu: &mut Vcpu, rest: Rest<'_>) -> usize {
    // Not all that stop a block have failed: see `stop::AFTER`.
    if cpu.st.stop != stop::NONE { rest.len() } else { go_on(cpu, rest) }
}

/// The end of a handler whose instruction stops the block only by failing.
#[inline(always)]
pub fn proceed(r: R<()>, cpu: &mut Vcpu, rest: Rest<'_>) -> usize {
    match r {
        Ok(()) => go_on(cpu, rest),
        Err(Stop) => rest.len(),
    }
}

/// Executes the rest of a block. As the last thing that a handler does, an optimising compiler makes it a jump: handlers lead to
/// one another without a loop in between.
#[inline(always)]
pub fn go_on(cpu: &mut Vcpu, mut rest: Rest<'_>) -> usize {
    match rest.next() {
        Some(next) => (next.run)(cpu, next, rest),
        None => 0,
    }
}

const _: () = assert!(size_of::<Stop>() == 0);
