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
//! That is tier 2. Tier 1 calls a thunk for the whole of it, which halves the time to compile a block.
//!
//! The cold side calls the memory thunk, which preserves every register and leaves an addend in the state; or does not come
//! back, because the instruction must be executed in tier 0. For that, dirty registers are written back on the hot path
//! before the look-up, and vector registers and flags in the cold path.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use x86::emit::{Addr, R, Stop};
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
}

/// What a look-up computes of the address alone, for the next access there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    bank: Value,
    va: Value,
    size: u32,
    /// Host address of the TLB entry.
    entry: Value,
    /// The page of the last byte.
    page: Value,
}

/// Guest memory: not aligned, and cannot trap on the host because the TLB said so.
fn guest_flags() -> MemFlagsData {
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
                (Want::ReadForWrite, 1) => thunks::place8,
                (Want::ReadForWrite, 2) => thunks::place16,
                (Want::ReadForWrite, 4) => thunks::place32,
                (Want::ReadForWrite, _) => thunks::place64,
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
        self.write_back();
        let bank = match self.bank {
            Some(b) => b,
            None => {
                let b = self.b.ins().load(types::I64, state_flags(), self.state, off::BANK);
                self.bank = Some(b);
                b
            }
        };
        let Entry { entry, page, .. } = self.entry(bank, va, size);
        let field = if matches!(want, Want::Read) { TLB_READ } else { TLB_WRITE };
        let tag = self.b.ins().load(types::I64, state_flags(), entry, field);
        let hit = self.b.ins().icmp(IntCC::Equal, page, tag);
        let addend = self.b.ins().load(types::I64, state_flags(), entry, TLB_ADDEND);

        let (cold, done) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        let found = self.b.append_block_param(done, types::I64);
        self.b.ins().brif(hit, done, &[addend.into()], cold, &[]);

        self.b.switch_to_block(cold);
        self.in_cold = true;
        let mut packed = pack::size_code(size) | u64::from(self.count) << pack::COUNT;
        packed |= match want {
            Want::Read => 0,
            Want::ReadForWrite => pack::RMW | pack::WRITE,
            Want::Write(_) | Want::WritePair(..) | Want::WriteTen(..) => pack::WRITE,
        };
        self.emit_dirty_vectors();
        self.offer(want);
        packed |= self.emit_flags_cold();
        let thunk = self.helper(thunks::memory_thunk as *const () as usize);
        let insn = self.insn_address();
        let packed = self.b.ins().iconst(types::I64, packed as i64);
        self.b.ins().call_indirect(self.sigs.memory, thunk, &[self.state, va, insn, packed]);
        let slow = self.b.ins().load(types::I64, state_flags(), self.state, off::ADDEND);
        self.b.ins().jump(done, &[slow.into()]);
        self.in_cold = false;

        self.b.switch_to_block(done);
        self.b.ins().iadd(va, found)
    }

    /// The TLB entry for `size` bytes at `va`, and the page that must be in it.
    fn entry(&mut self, bank: Value, va: Value, size: u32) -> Entry {
        if let Some(e) = self.entries.iter().find(|e| (e.bank, e.va, e.size) == (bank, va, size)) {
            return *e;
        }
        let index = self.b.ins().ushr_imm_s(va, i64::from(12 - crate::layout::TLB_ENTRY_SHIFT));
        let index = self.b.ins().band_imm_s(index, TLB_INDEX_MASK);
        let entry = self.b.ins().iadd(bank, index);
        let last = self.plus(va, i64::from(size) - 1);
        let page = self.b.ins().band_imm_s(last, !0xfff);
        let e = Entry { bank, va, size, entry, page };
        self.entries.push(e);
        e
    }

    /// Leaves what a store writes where the slow path finds it.
    fn offer(&mut self, want: Want) {
        let (first, second) = match want {
            Want::Read | Want::ReadForWrite => return,
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
            let thunk = match w {
                Width::B => thunks::load8,
                Width::W => thunks::load16,
                Width::D => thunks::load32,
                Width::Q => thunks::load64,
            };
            self.call_access(thunk, va, None);
            return Ok(V::Val(self.access_result(t)));
        }
        let host = self.host(va, w.bytes(), Want::Read);
        Ok(V::Val(self.load_host(t, host)))
    }

    pub(super) fn load_guest_for_write(&mut self, at: Addr<V>, w: Width) -> R<V> {
        let va = self.linear(at)?;
        let host = self.host(va, w.bytes(), Want::ReadForWrite);
        self.write_place = Some((at.off, host));
        Ok(V::Val(self.load_host(ty(w), host)))
    }

    pub(super) fn store_guest(&mut self, at: Addr<V>, w: Width, v: V) -> R<()> {
        let place = self.write_place.take();
        let host = match place {
            Some((off, host)) if same_place(off, at.off) => host,
            _ if self.light => {
                let va = self.linear(at)?;
                let v = self.val(w, v);
                let v = self.resize(types::I64, v);
                let thunk = match w {
                    Width::B => thunks::store8,
                    Width::W => thunks::store16,
                    Width::D => thunks::store32,
                    Width::Q => thunks::store64,
                };
                self.call_access(thunk, va, Some(v));
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
        Ok(())
    }
}

fn same_place(a: V, b: V) -> bool {
    match (a, b) {
        (V::Val(x), V::Val(y)) => x == y,
        (V::Const(x), V::Const(y)) => x == y,
        _ => false,
    }
}
