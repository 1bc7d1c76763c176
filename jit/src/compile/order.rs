//! The guest's memory model where vCPUs run in parallel: x86-TSO on every host.
//!
//! Requirement (SDM vol. 3, 10.2; APM vol. 2, 7.2): loads are in order with later loads and stores, stores with later stores, and
//! all see one order of stores; only a load may pass an older store to another place. A LOCK'd instruction is one step, and
//! nothing passes it, nor MFENCE, nor a serialising instruction. A naturally aligned access of up to 8 bytes is one step (SDM
//! vol. 3, 10.1.1; APM vol. 2, 7.3.2).
//!
//! Solution on x86 hosts: plain loads and stores (an unaligned or 16-byte one is as atomic as the host's own), atomics with a
//! lock prefix, MFENCE. A machine whose vCPUs take turns has the first of these only, and plain accesses on every host.
//!
//! Solution on aarch64 hosts (Arm ARM, B2.3, "barrier-ordered-before"; it is other-multi-copy atomic):
//!
//! | guest | host |
//! | --- | --- |
//! | aligned load of 1 to 8 bytes | LDAR: ordered before everything later |
//! | aligned store | STLR: ordered after everything earlier |
//! | unaligned or vector load | plain, then DMB |
//! | unaligned or vector store | DMB, unless no store lies between the last DMB and this; then plain |
//! | non-temporal store | plain (SDM vol. 1, 10.4.6.2: only fences order it) |
//! | LOCK, XCHG | LDADDAL and the like; without FEAT_LSE, and for XCHG, LDAXR and STLXR in a loop, then DMB |
//! | LOCK CMPXCHG | CASAL, and DMB where it fails: it has not stored then, and orders less; without FEAT_LSE as above |
//! | MFENCE, SFENCE | DMB |
//! | LFENCE | nothing: every load is in order already |
//!
//! An atomic with acquire and release semantics is a full barrier, its own store included (that is how B2.3 has it since the model's
//! correction for CASAL). A loop of LDAXR and STLXR is not: a plain access may pass its store. LDAR does not pass an STLR, which is
//! more than is asked for; LDAPR would suffice. Cranelift has neither that nor a weaker DMB than that of all accesses; the thunks of
//! tier 1 have the latter.
//!
//! Limitations. An unaligned access within 16 aligned bytes is one step on hosts with FEAT_LSE2 (Arm ARM, B2.2.1) and bytes by the
//! letter elsewhere; across 16 bytes it is not one step, also where a line of 64 is not crossed (Intel's processors promise that, AMD's do
//! not: APM vol. 2, 7.3.2). A vector access of 16 aligned bytes is two steps of 8 by the letter of the Arm ARM, where processors with
//! AVX promise one (SDM vol. 3, 10.1.1). REP MOVS and STOS are stores in any order among themselves (SDM vol. 3, 10.2.4).
//! CLFLUSH and its kind have nothing to order: there is no cache that a guest could see.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, MemFlagsData, Type, Value, types};
use x86::emit::{Addr, Order, R, Rmw, Stop};
use x86::insn::Width;

use super::Lifter;
use super::memory::{Probe, Want, guest_flags};
use super::value::{V, ty};

impl Lifter<'_> {
    /// Orders everything before against everything after.
    pub(super) fn barrier(&mut self) {
        self.b.ins().fence();
        self.fenced = true;
    }

    /// After a plain load: nothing later passes it.
    pub(super) fn after_plain_load(&mut self) {
        if self.ordered {
            self.barrier();
        }
    }

    /// Before a plain store: it passes nothing earlier. (Loads since the last barrier are in order with all that follows.)
    pub(super) fn before_plain_store(&mut self, order: Order) {
        if self.ordered && order == Order::Tso && !self.fenced {
            self.barrier();
        }
        self.fenced = false;
    }

    /// A load of type `t` (of width `w`): where it is aligned, an acquire load.
    pub(super) fn load_in_order(&mut self, t: Type, va: Value, w: Width) -> Value {
        let v = if w == Width::B {
            let host = self.host(va, 1, Want::Read);
            self.b.ins().atomic_load(types::I8, guest_flags(), host)
        } else {
            let done = self.b.create_block();
            let v = self.b.append_block_param(done, ty(w));
            let host = self.aligned_or(va, w, Want::Read, |s, host| {
                let v = s.b.ins().load(ty(w), guest_flags(), host, 0);
                s.b.ins().fence();
                s.b.ins().jump(done, &[v.into()]);
            });
            let aligned = self.b.ins().atomic_load(ty(w), guest_flags(), host);
            self.b.ins().jump(done, &[aligned.into()]);
            self.b.switch_to_block(done);
            v
        };
        if t.is_float() { self.b.ins().bitcast(t, MemFlagsData::new(), v) } else { v }
    }

    /// A store of an integer: where it is aligned, a release store.
    pub(super) fn store_in_order(&mut self, v: Value, va: Value, w: Width) {
        if w == Width::B {
            let host = self.host(va, 1, Want::Write(v));
            self.b.ins().atomic_store(guest_flags(), v, host);
        } else {
            let done = self.b.create_block();
            let host = self.aligned_or(va, w, Want::Write(v), |s, host| {
                s.b.ins().fence();
                s.b.ins().store(guest_flags(), v, host, 0);
                s.b.ins().jump(done, &[]);
            });
            self.b.ins().atomic_store(guest_flags(), v, host);
            self.b.ins().jump(done, &[]);
            self.b.switch_to_block(done);
        }
        self.fenced = false;
    }

    /// Goes on with the host address of an access at an aligned address that the TLB has. Others end in `plain`, in a cold block.
    fn aligned_or(&mut self, va: Value, w: Width, want: Want, plain: impl FnOnce(&mut Self, Value)) -> Value {
        let Probe { tag, hit, addend } = self.look_up_tlb(va, w.bytes(), want, true);
        let (hot, cold) = (self.b.create_block(), self.b.create_block());
        let (slow, other) = (self.b.create_block(), self.b.create_block());
        [cold, slow, other].into_iter().for_each(|block| self.b.set_cold_block(block));
        let found = self.b.append_block_param(other, types::I64);
        self.b.ins().brif(hit, hot, &[], cold, &[]);

        self.b.switch_to_block(cold);
        self.in_cold = true;
        let last = self.b.ins().iadd_imm_s(va, i64::from(w.bytes()) - 1);
        let page = self.b.ins().band_imm_s(last, !0xfff);
        let there = self.b.ins().icmp(IntCC::Equal, page, tag);
        self.b.ins().brif(there, other, &[addend.into()], slow, &[]);
        self.b.switch_to_block(slow);
        let addend_of_slow = self.slow_addend(va, w.bytes(), want);
        self.b.ins().jump(other, &[addend_of_slow.into()]);
        self.b.switch_to_block(other);
        let host = self.b.ins().iadd(va, found);
        plain(self, host);
        self.in_cold = false;

        self.b.switch_to_block(hot);
        self.b.ins().iadd(va, addend)
    }

    /// Like [`Self::load_in_order`], at a host address.
    pub(super) fn load_place_in_order(&mut self, host: Value, w: Width) -> Value {
        if w == Width::B {
            return self.b.ins().atomic_load(types::I8, guest_flags(), host);
        }
        let done = self.b.create_block();
        let v = self.b.append_block_param(done, ty(w));
        self.place_aligned_or(host, w, |s| {
            let v = s.b.ins().load(ty(w), guest_flags(), host, 0);
            s.b.ins().fence();
            s.b.ins().jump(done, &[v.into()]);
        });
        let aligned = self.b.ins().atomic_load(ty(w), guest_flags(), host);
        self.b.ins().jump(done, &[aligned.into()]);
        self.b.switch_to_block(done);
        v
    }

    /// Like [`Self::store_in_order`], at a host address.
    pub(super) fn store_place_in_order(&mut self, v: Value, host: Value, w: Width) {
        self.fenced = false;
        if w == Width::B {
            self.b.ins().atomic_store(guest_flags(), v, host);
            return;
        }
        let done = self.b.create_block();
        self.place_aligned_or(host, w, |s| {
            s.b.ins().fence();
            s.b.ins().store(guest_flags(), v, host, 0);
            s.b.ins().jump(done, &[]);
        });
        self.b.ins().atomic_store(guest_flags(), v, host);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
    }

    /// Goes on if a host address is aligned; else `plain`, in a cold block. (An addend is a multiple of the page's size.)
    fn place_aligned_or(&mut self, host: Value, w: Width, plain: impl FnOnce(&mut Self)) {
        let (hot, other) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(other);
        let low = self.b.ins().band_imm_s(host, i64::from(w.bytes()) - 1);
        self.b.ins().brif(low, other, &[], hot, &[]);
        self.b.switch_to_block(other);
        plain(self);
        self.b.switch_to_block(hot);
    }

    /// LOCK: a host atomic where the address is aligned; else tier 0 executes the instruction.
    pub(super) fn host_atomic(&mut self, at: Addr<V>, w: Width, op: Rmw, operand: V) -> R<V> {
        let host_op = match op {
            Rmw::Add => AtomicRmwOp::Add,
            Rmw::Sub => AtomicRmwOp::Sub,
            Rmw::And => AtomicRmwOp::And,
            Rmw::Or => AtomicRmwOp::Or,
            Rmw::Xor => AtomicRmwOp::Xor,
            Rmw::Xchg => AtomicRmwOp::Xchg,
            Rmw::Neg => return Err(Stop),
        };
        let va = self.linear(at)?;
        let operand = self.val(w, operand);
        let host = self.host(va, w.bytes(), Want::Locked);
        let old = self.b.ins().atomic_rmw(ty(w), guest_flags(), host_op, host, operand);
        self.fenced = false;
        if self.ordered && !(self.host_lse && op != Rmw::Xchg) {
            self.barrier();
        }
        Ok(V::Val(old))
    }

    /// LOCK CMPXCHG, likewise.
    pub(super) fn host_cmpxchg(&mut self, at: Addr<V>, w: Width, expected: V, new: V) -> R<V> {
        let va = self.linear(at)?;
        let (expected, new) = (self.val(w, expected), self.val(w, new));
        let host = self.host(va, w.bytes(), Want::Locked);
        let old = self.b.ins().atomic_cas(guest_flags(), host, expected, new);
        self.fenced = false;
        if self.ordered && !self.host_lse {
            self.barrier();
        } else if self.ordered {
            let (failed, done) = (self.b.create_block(), self.b.create_block());
            self.b.set_cold_block(failed);
            let same = self.b.ins().icmp(IntCC::Equal, old, expected);
            self.b.ins().brif(same, done, &[], failed, &[]);
            self.b.switch_to_block(failed);
            self.b.ins().fence();
            self.b.ins().jump(done, &[]);
            self.b.switch_to_block(done);
        }
        Ok(V::Val(old))
    }
}
