//! Guest memory accesses: the inline TLB look-up and its cold side.
//!
//! Hot path, for `size` bytes at `va`:
//!
//! ```text
//! entry  = bank + ((va >> 12) & (TLB_ENTRIES - 1)) * 32
//! hit    = entry.tag == (va + size - 1) & !0xfff      -- an access that crosses the page misses: the index is va's own
//! access at va + entry.addend
//! ```
//!
//! That is tier 2. Tier 1 calls a thunk for the whole of it, which halves the time that Cranelift takes to compile a block; the quick
//! back end knows these thunks and makes the look-up in place ([`crate::quick`]).
//!
//! The cold side calls the memory thunk, which preserves every register and leaves an addend in the state; or does not come
//! back, because the instruction must be executed in tier 0. For that, dirty registers are written back on the hot path
//! before the look-up, and vector registers and flags in the cold path.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use x86::emit::{Addr, Order, R, Stop};
use x86::insn::{AddrMode, Op, Width};

use super::value::{V, ty};
use super::{Lifter, state_flags};
use crate::layout::{FRAME_BOUNCE, TLB_ADDEND, TLB_INDEX_MASK, TLB_READ, TLB_WRITE, off, pack};
use crate::thunks;

/// What an access does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    Read,
    /// With the value, so that the slow path can do it.
    Write(Value),
    /// Likewise, of 32 bytes: the low half and the high one.
    WritePair(Value, Value),
    /// Likewise, of an x87 register's ten bytes: eight and two.
    WriteTen(Value, Value),
    /// A read whose addend will also serve a write.
    ReadForWrite,
    /// Likewise, at an aligned address: for a host atomic. Tier 0 does the others.
    Locked,
}

impl Want {
    /// As thunks are told.
    fn packed(self) -> u64 {
        match self {
            Self::Read => 0,
            Self::ReadForWrite => pack::RMW | pack::WRITE,
            Self::Locked => pack::RMW | pack::WRITE | pack::LOCK,
            Self::Write(_) | Self::WritePair(..) | Self::WriteTen(..) => pack::WRITE,
        }
    }
}

/// What a look-up computes of the address alone, for the next access there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    bank: Value,
    va: Value,
    size: u32,
    aligned: bool,
    /// Host address of the TLB entry.
    entry: Value,
    /// What the tag must be: the page of the last byte; where `aligned`, of the first one, with what misaligns it.
    page: Value,
}

/// A look-up whose outcome decides where to go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub tag: Value,
    pub hit: Value,
    pub addend: Value,
}

/// Guest memory: not aligned, and cannot trap on the host because the TLB said so.
pub(super) fn guest_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Lifter<'_> {
    /// The linear address, an `i64`.
    pub(super) fn linear(&mut self, at: Addr<V>) -> R<Value> {
        let offset = match at.mode {
            AddrMode::Flat => return Ok(self.val(Width::Q, at.off)),
            AddrMode::Base => self.val(Width::Q, at.off),
            AddrMode::Checked => return Err(Stop),
        };
        let place = off::SEG + off::SEG_SIZE * i32::from(at.seg) + off::SEG_BASE;
        let base = self.b.ins().load(types::I64, state_flags(), self.state, place);
        Ok(self.b.ins().iadd(base, offset))
    }

    /// Tier 1: calls an access thunk. Everything is in the state, in case the block is left.
    fn call_access(&mut self, thunk: unsafe extern "C" fn(), va: Value, value: Option<Value>) {
        self.flush();
        let f = self.helper(thunk as *const () as usize);
        let insn = self.insn_address();
        match value {
            None => self.b.ins().call_indirect(self.sigs.access, f, &[self.state, va, insn]),
            Some(v) => self.b.ins().call_indirect(self.sigs.memory, f, &[self.state, va, insn, v]),
        };
    }

    /// Result of an access thunk.
    fn access_result(&mut self, t: Type) -> Value {
        self.b.ins().load(t, state_flags(), self.state, off::ADDEND)
    }

    /// The host address of `size` bytes at `va`.
    pub(super) fn host(&mut self, va: Value, size: u32, want: Want) -> Value {
        if self.light {
            let thunk = match (want, size) {
                (Want::ReadForWrite | Want::Locked, 1) => thunks::place8,
                (Want::ReadForWrite, 2) => thunks::place16,
                (Want::ReadForWrite, 4) => thunks::place32,
                (Want::ReadForWrite, _) => thunks::place64,
                (Want::Locked, 2) => thunks::lock16,
                (Want::Locked, 4) => thunks::lock32,
                (Want::Locked, _) => thunks::lock64,
                (Want::Read, 32) => thunks::place_read256,
                (Want::Read, _) => thunks::place_read128,
                (Want::Write(_), _) => thunks::place_write128,
                (Want::WritePair(..), _) => thunks::place_write256,
                (Want::WriteTen(..), _) => unreachable!("tier 1 leaves x87 instructions to tier 0"),
            };
            self.offer(want);
            self.call_access(thunk, va, None);
            return self.access_result(types::I64);
        }
        let Probe { hit, addend, .. } = self.look_up_tlb(va, size, want, matches!(want, Want::Locked));

        let (cold, done) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        let found = self.b.append_block_param(done, types::I64);
        self.b.ins().brif(hit, done, &[addend.into()], cold, &[]);

        self.b.switch_to_block(cold);
        self.in_cold = true;
        let slow = self.slow_addend(va, size, want);
        self.b.ins().jump(done, &[slow.into()]);
        self.in_cold = false;

        self.b.switch_to_block(done);
        self.b.ins().iadd(va, found)
    }

    /// The look-up of `size` bytes at `va`; where `aligned`, a misaligned address misses.
    pub(super) fn look_up_tlb(&mut self, va: Value, size: u32, want: Want, aligned: bool) -> Probe {
        self.write_back();
        let bank = match self.bank {
            Some(b) => b,
            None => {
                let b = self.b.ins().load(types::I64, state_flags(), self.state, off::BANK);
                self.bank = Some(b);
                b
            }
        };
        let Entry { entry, page, .. } = self.entry(bank, va, size, aligned && size > 1);
        let field = if matches!(want, Want::Read) { TLB_READ } else { TLB_WRITE };
        let tag = self.b.ins().load(types::I64, state_flags(), entry, field);
        let hit = self.b.ins().icmp(IntCC::Equal, page, tag);
        let addend = self.b.ins().load(types::I64, state_flags(), entry, TLB_ADDEND);
        Probe { tag, hit, addend }
    }

    /// In a cold block: calls the memory thunk, and gives the addend that it leaves.
    pub(super) fn slow_addend(&mut self, va: Value, size: u32, want: Want) -> Value {
        let mut packed = pack::size_code(size) | u64::from(self.count) << pack::COUNT | want.packed();
        self.emit_dirty_vectors();
        self.offer(want);
        packed |= self.emit_flags_cold();
        let thunk = self.helper(thunks::memory_thunk as *const () as usize);
        let insn = self.insn_address();
        let packed = self.b.ins().iconst(types::I64, packed as i64);
        self.b.ins().call_indirect(self.sigs.memory, thunk, &[self.state, va, insn, packed]);
        self.b.ins().load(types::I64, state_flags(), self.state, off::ADDEND)
    }

    /// The TLB entry for `size` bytes at `va`, and what its tag must be.
    fn entry(&mut self, bank: Value, va: Value, size: u32, aligned: bool) -> Entry {
        let key = (bank, va, size, aligned);
        if let Some(e) = self.entries.iter().find(|e| (e.bank, e.va, e.size, e.aligned) == key) {
            return *e;
        }
        let index = self.b.ins().ushr_imm_s(va, i64::from(12 - crate::layout::TLB_ENTRY_SHIFT));
        let index = self.b.ins().band_imm_s(index, TLB_INDEX_MASK);
        let entry = self.b.ins().iadd(bank, index);
        let page = if aligned {
            self.b.ins().band_imm_s(va, !0xfff | (i64::from(size) - 1))
        } else {
            let last = self.plus(va, i64::from(size) - 1);
            self.b.ins().band_imm_s(last, !0xfff)
        };
        let e = Entry { bank, va, size, aligned, entry, page };
        self.entries.push(e);
        e
    }

    /// Leaves what a store writes where the slow path finds it.
    fn offer(&mut self, want: Want) {
        let (first, second) = match want {
            Want::Read | Want::ReadForWrite | Want::Locked => return,
            Want::Write(v) => (v, None),
            Want::WritePair(v, high) => (v, Some((high, 16))),
            Want::WriteTen(v, high) => (v, Some((high, 8))),
        };
        let frame = self.b.ins().load(types::I64, state_flags(), self.state, off::FRAME);
        self.b.ins().store(state_flags(), first, frame, FRAME_BOUNCE);
        if let Some((high, at)) = second {
            self.b.ins().store(state_flags(), high, frame, FRAME_BOUNCE + at);
        }
    }

    /// Loads a value of any type at a host address.
    pub(super) fn load_host(&mut self, t: Type, host: Value) -> Value {
        self.load_host_at(t, host, 0)
    }

    /// The same at an offset.
    pub(super) fn load_host_at(&mut self, t: Type, host: Value, offset: i32) -> Value {
        self.b.ins().load(t, guest_flags(), host, offset)
    }

    /// Stores a value of any type at a host address.
    pub(super) fn store_host(&mut self, v: Value, host: Value) {
        self.store_host_at(v, host, 0);
    }

    /// The same at an offset.
    pub(super) fn store_host_at(&mut self, v: Value, host: Value, offset: i32) {
        self.b.ins().store(guest_flags(), v, host, offset);
    }

    pub(super) fn load_guest(&mut self, at: Addr<V>, w: Width) -> R<V> {
        let va = self.linear(at)?;
        // Scalars of vector instructions are mostly floating-point numbers.
        let t = match (self.insn.op, w) {
            (Op::Vec(_), Width::D) => types::F32,
            (Op::Vec(_), Width::Q) => types::F64,
            _ => ty(w),
        };
        if self.light {
            self.call_access(load_thunk(w, self.ordered), va, None);
            return Ok(V::Val(self.access_result(t)));
        }
        if self.ordered {
            return Ok(V::Val(self.load_in_order(t, va, w)));
        }
        let host = self.host(va, w.bytes(), Want::Read);
        Ok(V::Val(self.load_host(t, host)))
    }

    pub(super) fn load_guest_for_write(&mut self, at: Addr<V>, w: Width) -> R<V> {
        let va = self.linear(at)?;
        let host = self.host(va, w.bytes(), Want::ReadForWrite);
        self.write_place = Some((at.off, host));
        if self.ordered {
            return Ok(V::Val(self.load_place_in_order(host, w)));
        }
        Ok(V::Val(self.load_host(ty(w), host)))
    }

    pub(super) fn store_guest(&mut self, at: Addr<V>, w: Width, v: V) -> R<()> {
        // A non-temporal store is ordered by fences only (SDM vol. 1, 10.4.6.2).
        let ordered = self.ordered && at.order == Order::Tso;
        let host = match self.write_place.take() {
            Some((off, host)) if same_place(off, at.off) => {
                if ordered {
                    let v = self.val(w, v);
                    self.store_place_in_order(v, host, w);
                    return Ok(());
                }
                host
            }
            _ if self.light => {
                let va = self.linear(at)?;
                let v = self.val(w, v);
                let v = self.resize(types::I64, v);
                self.call_access(store_thunk(w, ordered), va, Some(v));
                self.fenced = false;
                return Ok(());
            }
            _ if ordered => {
                let va = self.linear(at)?;
                let v = self.val(w, v);
                self.store_in_order(v, va, w);
                return Ok(());
            }
            _ => {
                let va = self.linear(at)?;
                let v = self.memory_val(w, v);
                self.host(va, w.bytes(), Want::Write(v))
            }
        };
        let v = self.memory_val(w, v);
        self.store_host(v, host);
        self.fenced = false;
        Ok(())
    }
}

fn load_thunk(w: Width, ordered: bool) -> unsafe extern "C" fn() {
    use thunks::ordered;
    match (w, ordered) {
        (Width::B, false) => thunks::load8,
        (Width::W, false) => thunks::load16,
        (Width::D, false) => thunks::load32,
        (Width::Q, false) => thunks::load64,
        (Width::B, true) => ordered::load8,
        (Width::W, true) => ordered::load16,
        (Width::D, true) => ordered::load32,
        (Width::Q, true) => ordered::load64,
    }
}

fn store_thunk(w: Width, ordered: bool) -> unsafe extern "C" fn() {
    use thunks::ordered;
    match (w, ordered) {
        (Width::B, false) => thunks::store8,
        (Width::W, false) => thunks::store16,
        (Width::D, false) => thunks::store32,
        (Width::Q, false) => thunks::store64,
        (Width::B, true) => ordered::store8,
        (Width::W, true) => ordered::store16,
        (Width::D, true) => ordered::store32,
        (Width::Q, true) => ordered::store64,
    }
}

fn same_place(a: V, b: V) -> bool {
    match (a, b) {
        (V::Val(x), V::Val(y)) => x == y,
        (V::Const(x), V::Const(y)) => x == y,
        _ => false,
    }
}
