//! Lazy flags in the compiler.
//!
//! Inside a block the kind of the last flag-setting instruction is static, so conditions become comparisons of its operands
//! and flags that nobody looks at vanish. What the block found at its entry is in the state and of unknown kind.
//!
//! CF as found at entry is special: INC and DEC preserve it, mostly for nobody. It is evaluated only when it must be
//! written to the state or is used ([`V::EntryCarry`]); a slow path that leaves the block before that gets the flags as
//! "pending", and the dispatcher's side completes them while the state still holds the old ones.

use std::rc::Rc;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use x86::cc::{self, Cc, CcKind, cc_op};
use x86::insn::{Cond, Width};
use x86::state::rflags;

use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::{FRAME_PENDING_OP, FRAME_PENDING_RES, off, pack};
use crate::thunks;

/// Where the flags are.
#[derive(Clone, Debug)]
pub(super) enum Flags {
    /// In the state, kind unknown.
    State,
    /// Here.
    Known(Cc<V>),
    /// `new` if the value is not zero, else `old`.
    Either(Value, Cc<V>, Rc<Flags>),
    /// If the condition holds: those in the mask as in the bits (an `i32`), the others as before.
    Bits(V, u64, Value, Rc<Flags>),
}

impl Lifter<'_> {
    /// Evaluates a condition.
    pub(super) fn flags_cond(&mut self, c: Cond) -> V {
        let flags = self.flags.clone();
        self.cond_of(&flags, c)
    }

    fn cond_of(&mut self, flags: &Flags, c: Cond) -> V {
        match flags {
            Flags::Known(k) => {
                let compared = if k.kind == CcKind::Flags { self.float_cond(k.res, c) } else { None };
                compared.unwrap_or_else(|| cc::cond(self, *k, c))
            }
            Flags::State if c == Cond::B => match self.entry_cf {
                Some(v) => V::Val(v),
                None => V::EntryCarry,
            },
            Flags::State => {
                let v = self.call_cond(c);
                V::Val(v)
            }
            Flags::Either(sel, new, old) => {
                let n = cc::cond(self, *new, c);
                let n = self.val(Width::B, n);
                let o = self.cond_of(old, c);
                let o = self.val(Width::B, o);
                V::Val(self.b.ins().select(*sel, n, o))
            }
            Flags::Bits(always, mask, bits, old) => {
                let looked_at = looks_at(c);
                if looked_at & mask == 0 {
                    return self.cond_of(old, c);
                }
                let f = match always {
                    V::Const(_) if looked_at & !mask == 0 => V::Val(*bits),
                    _ => self.all_of(flags),
                };
                let z = V::Const(0);
                cc::cond(self, Cc { kind: CcKind::Flags, w: Width::D, res: f, src: z, aux: z }, c)
            }
        }
    }

    /// All six flags at their places, width D.
    pub(super) fn flags_all(&mut self) -> V {
        let flags = self.flags.clone();
        self.all_of(&flags)
    }

    fn all_of(&mut self, flags: &Flags) -> V {
        match flags {
            Flags::Known(k) => cc::all(self, *k),
            Flags::State => {
                let f = self.helper(thunks::eval_flags as *const () as usize);
                let call = self.b.ins().call_indirect(self.sigs.eval_flags, f, &[self.state]);
                let v = self.b.inst_results(call)[0];
                V::Val(self.resize(types::I32, v))
            }
            Flags::Either(sel, new, old) => {
                let n = cc::all(self, *new);
                let n = self.val(Width::D, n);
                let o = self.all_of(old);
                let o = self.val(Width::D, o);
                V::Val(self.b.ins().select(*sel, n, o))
            }
            Flags::Bits(c, mask, bits, old) => {
                let o = self.all_of(old);
                let o = self.val(Width::D, o);
                let kept = self.b.ins().band_imm_s(o, i64::from(!*mask as u32 as i32));
                let new = self.b.ins().bor(kept, *bits);
                match c {
                    V::Const(_) => V::Val(new),
                    c => {
                        let c = self.truth(*c);
                        V::Val(self.b.ins().select(c, new, o))
                    }
                }
            }
        }
    }

    /// Asks the evaluator for a condition on the flags in the state; an `i8`.
    fn call_cond(&mut self, c: Cond) -> Value {
        let f = self.helper(thunks::eval_cond as *const () as usize);
        let n = self.b.ins().iconst(types::I64, c as i64);
        let call = self.b.ins().call_indirect(self.sigs.eval_cond, f, &[self.state, n]);
        let v = self.b.inst_results(call)[0];
        self.resize(types::I8, v)
    }

    /// CF of the flags in the state; an `i8`. Kinds from INC on keep it in bit 0 of `cc_src`.
    pub(super) fn entry_carry(&mut self) -> Value {
        if let Some(v) = self.entry_cf {
            return v;
        }
        let op = self.b.ins().load(types::I32, state_flags(), self.state, off::CC_OP);
        let src = self.b.ins().load(types::I64, state_flags(), self.state, off::CC_SRC);
        let src = self.b.ins().ireduce(types::I8, src);
        let bit = self.b.ins().band_imm_s(src, 1);
        let stored = self.b.ins().icmp_imm_s(
            IntCC::UnsignedGreaterThanOrEqual,
            op,
            i64::from(cc_op(CcKind::Inc, Width::B)),
        );
        let (ask, done) = (self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(done, types::I8);
        self.b.ins().brif(stored, done, &[bit.into()], ask, &[]);
        self.b.switch_to_block(ask);
        let asked = self.call_cond(Cond::B);
        self.b.ins().jump(done, &[asked.into()]);
        self.b.switch_to_block(done);
        if !self.in_cold {
            self.entry_cf = Some(result);
        }
        result
    }

    /// The flags now follow from these operands.
    pub(super) fn flags_set(&mut self, k: Cc<V>) {
        self.flags = Flags::Known(k);
        self.flags_dirty = true;
    }

    /// As [`Self::flags_set`] if `c`, else they stay.
    pub(super) fn flags_set_if(&mut self, c: V, k: Cc<V>) {
        match c {
            V::Const(0) => {}
            V::Const(_) => self.flags_set(k),
            c => {
                let c = self.truth(c);
                self.settle_carry();
                let old = std::mem::replace(&mut self.flags, Flags::State);
                self.flags = Flags::Either(c, k, Rc::new(old));
                self.flags_dirty = true;
            }
        }
    }

    /// Replaces the flags in `mask` if `c`.
    pub(super) fn flags_set_bits(&mut self, c: V, mask: u64, bits: V) {
        let c = match c {
            V::Const(0) => return,
            V::Const(_) => V::Const(1),
            c => V::Val(self.truth(c)),
        };
        let bits = self.val(Width::D, bits);
        self.settle_carry();
        let old = std::mem::replace(&mut self.flags, Flags::State);
        let old = match old {
            // Replaced altogether.
            Flags::Bits(_, inner, _, older) if inner & !mask == 0 && matches!(c, V::Const(_)) => older,
            old => Rc::new(old),
        };
        self.flags = Flags::Bits(c, mask, bits, old);
        self.flags_dirty = true;
    }

    /// Evaluates a deferred CF in the current flags.
    fn settle_carry(&mut self) {
        let Flags::Known(k) = self.flags else { return };
        let deferred = |v| matches!(v, V::EntryCarry);
        // INC and DEC keep it as both, ADC and SBB have it added.
        if deferred(k.src) || deferred(k.aux) {
            let cf = V::Val(self.entry_carry());
            let settled = |v| if deferred(v) { cf } else { v };
            self.flags = Flags::Known(Cc { src: settled(k.src), aux: settled(k.aux), ..k });
        }
    }

    /// Writes the flags to the state, on the path that goes on. They stay known.
    pub(super) fn flags_write_back(&mut self) {
        if !self.flags_dirty {
            return;
        }
        self.settle_carry();
        let flags = self.flags.clone();
        self.emit_flags(&flags);
        self.flags_dirty = false;
        // What the state held at entry is gone.
        self.entry_cf = None;
    }

    /// Emits the stores for a cold path that may come back; gives the bits to add to the packed word.
    pub(super) fn emit_flags_cold(&mut self) -> u64 {
        if !self.flags_dirty {
            return 0;
        }
        if let Flags::Known(k) = self.flags
            && let V::EntryCarry = k.src
        {
            if let Some(cf) = self.entry_cf {
                self.emit_cc(Cc { src: V::Val(cf), aux: V::Val(cf), ..k });
                return 0;
            }
            let frame = self.b.ins().load(types::I64, state_flags(), self.state, off::FRAME);
            let op = self.b.ins().iconst(types::I64, i64::from(cc_op(k.kind, k.w)));
            self.b.ins().store(state_flags(), op, frame, FRAME_PENDING_OP);
            let res = self.val(Width::Q, k.res);
            self.b.ins().store(state_flags(), res, frame, FRAME_PENDING_RES);
            return pack::PENDING;
        }
        let flags = self.flags.clone();
        self.emit_flags(&flags);
        0
    }

    fn emit_flags(&mut self, flags: &Flags) {
        match flags {
            Flags::State => {}
            Flags::Known(k) => self.emit_cc(*k),
            Flags::Either(sel, new, old) => {
                self.emit_flags(old);
                let (set, done) = (self.b.create_block(), self.b.create_block());
                self.b.ins().brif(*sel, set, &[], done, &[]);
                self.b.switch_to_block(set);
                self.emit_cc(*new);
                self.b.ins().jump(done, &[]);
                self.b.switch_to_block(done);
            }
            Flags::Bits(..) => {
                let (res, z) = (self.all_of(flags), V::Const(0));
                self.emit_cc(Cc { kind: CcKind::Flags, w: Width::D, res, src: z, aux: z });
            }
        }
    }

    fn emit_cc(&mut self, k: Cc<V>) {
        let op = self.b.ins().iconst(types::I32, i64::from(cc_op(k.kind, k.w)));
        self.b.ins().store(state_flags(), op, self.state, off::CC_OP);
        // Only what the kind looks at.
        let (src, aux) = k.kind.operands();
        let mut put = |v: V, at: i32, w: Width| {
            // At its own width first: a value may come in wider.
            let v = match v {
                V::Const(c) => V::Const(c & w.mask()),
                v => V::Val(self.val(w, v)),
            };
            let v = self.val(Width::Q, v);
            self.b.ins().store(state_flags(), v, self.state, at);
        };
        let w = if k.kind == CcKind::Flags { Width::D } else { k.w };
        put(k.res, off::CC_RES, w);
        if src {
            put(k.src, off::CC_SRC, w);
        }
        if aux {
            put(k.aux, off::CC_AUX, w);
        }
    }

    /// Something else may have written the flags. They were written back before.
    pub(super) fn forget_flags(&mut self) {
        debug_assert!(!self.flags_dirty);
        self.flags = Flags::State;
        self.entry_cf = None;
    }
}

/// The flags that a condition looks at (SDM vol. 1, appendix B).
fn looks_at(c: Cond) -> u64 {
    match c {
        Cond::O | Cond::No => rflags::OF,
        Cond::B | Cond::Ae => rflags::CF,
        Cond::E | Cond::Ne => rflags::ZF,
        Cond::Be | Cond::A => rflags::CF | rflags::ZF,
        Cond::S | Cond::Ns => rflags::SF,
        Cond::P | Cond::Np => rflags::PF,
        Cond::L | Cond::Ge => rflags::SF | rflags::OF,
        Cond::Le | Cond::G => rflags::ZF | rflags::SF | rflags::OF,
    }
}
