//! Ways out of a block.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ExtFuncData, ExternalName, InstBuilder, UserExternalName, Value, types};
use x86::insn::Width;

use super::place::Target;
use super::value::V;
use super::{Lifter, state_flags};
use crate::layout::{
    FRAME_JUMPS, FRAME_TAG, JUMP_BITS, JUMP_CODE, JUMP_SHIFT, JUMP_TAG, JUMP_TB, LINK_EPOCH, Link,
    jump_index, off, pack,
};
use crate::thunks;

impl Lifter<'_> {
    /// Everything into the state.
    pub(super) fn flush(&mut self) {
        self.write_back();
        self.write_back_vectors();
        self.flags_write_back();
    }

    /// Back to the dispatcher; RIP is in the state.
    pub(super) fn leave(&mut self) {
        self.b.ins().return_(&[]);
    }

    /// Goes on at a RIP that is known now. Everything is in the state, apart from RIP.
    pub(super) fn go(&mut self, target: u64) {
        if target == self.tb.block.ip {
            self.b.ins().jump(self.header, &[]);
            return;
        }
        if !self.tb.flat {
            let rip = self.b.ins().iconst(types::I64, target as i64);
            self.b.ins().store(state_flags(), rip, self.state, off::RIP);
            return self.leave();
        }
        let elsewhere = target >> 12 != self.tb.block.ip >> 12;
        if elsewhere && self.parallel {
            // An epoch in the link would be one vCPU's, and the others would come back each time.
            let rip = self.b.ins().iconst(types::I64, target as i64);
            self.b.ins().store(state_flags(), rip, self.state, off::RIP);
            let frame = self.b.ins().load(types::I64, state_flags(), self.state, off::FRAME);
            return self.look_at(frame, jump_offset(target), rip);
        }
        let link = Box::new(Link {
            site: AtomicUsize::new(0),
            exit: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            rip: target,
            to: AtomicPtr::default(),
        });
        let slot = std::ptr::from_ref(&*link) as i64;
        let number = self.links.0.len() as u32;
        self.links.0.push(link);
        if elsewhere {
            // The other page may be another one by now: the link holds for the epoch that it was made in.
            let now = self.b.ins().load(types::I64, state_flags(), self.state, off::EPOCH);
            let slot = self.b.ins().iconst(types::I64, slot);
            let made = self.b.ins().load(types::I64, state_flags(), slot, LINK_EPOCH);
            let same = self.b.ins().icmp(IntCC::Equal, now, made);
            let (good, stale) = (self.b.create_block(), self.b.create_block());
            self.b.set_cold_block(stale);
            self.b.ins().brif(same, good, &[], stale, &[]);
            self.b.switch_to_block(stale);
            self.jump(Target::Exit(number));
            self.b.switch_to_block(good);
        }
        self.jump(Target::Link(number));
    }

    /// A direct jump that [`super::place`] fills in.
    fn jump(&mut self, target: Target) {
        let name = UserExternalName { namespace: 0, index: target.number() };
        let name = ExternalName::user(self.b.func.declare_imported_user_function(name));
        let signature = self.sigs.block;
        let function = ExtFuncData { name, signature, colocated: true, patchable: false };
        let function = self.b.import_function(function);
        self.b.ins().return_call(function, &[self.state]);
    }

    pub(super) fn end_jump(&mut self, target: u64) {
        self.flush();
        self.go(target);
        self.ended = true;
    }

    pub(super) fn end_jump_if(&mut self, c: V, taken: u64, next: u64) {
        if let V::Const(c) = c {
            return self.end_jump(if c != 0 { taken } else { next });
        }
        // What the condition compares may be in the state only until the flags are written: evaluate it first.
        let c = match c {
            V::EntryCarry => V::Val(self.val(Width::B, c)),
            c => c,
        };
        self.flush();
        let c = self.truth(c);
        let (yes, no) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(c, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        self.go(taken);
        self.b.switch_to_block(no);
        self.go(next);
        self.ended = true;
    }

    /// Goes on at a computed RIP: by the jump cache, or through the dispatcher.
    pub(super) fn end_jump_to(&mut self, target: V) {
        self.flush();
        let rip = self.val(Width::Q, target);
        self.b.ins().store(state_flags(), rip, self.state, off::RIP);
        if self.tb.flat {
            self.look_up(rip)
        } else {
            self.leave()
        }
        self.ended = true;
    }

    /// Tail of an indirect exit: RIP is in the state and in `rip`.
    fn look_up(&mut self, rip: Value) {
        let frame = self.b.ins().load(types::I64, state_flags(), self.state, off::FRAME);
        let high = self.b.ins().ushr_imm_s(rip, i64::from(JUMP_BITS));
        let mixed = self.b.ins().bxor(rip, high);
        let index = self.b.ins().band_imm_s(mixed, (1 << JUMP_BITS) - 1);
        let index = self.b.ins().ishl_imm_s(index, i64::from(JUMP_SHIFT));
        let entry = self.b.ins().iadd(frame, index);
        self.probe(frame, entry, FRAME_JUMPS, rip);
    }

    /// The same where RIP is known, and so is the place of its entry in the frame.
    fn look_at(&mut self, frame: Value, place: i32, rip: Value) {
        self.probe(frame, frame, place, rip);
    }

    /// Goes on with the code in the jump cache's entry `offset` bytes behind `entry`, if it is right.
    fn probe(&mut self, frame: Value, entry: Value, offset: i32, rip: Value) {
        let (tagged, hit, miss) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(miss);
        let there = self.b.ins().load(types::I64, state_flags(), entry, offset);
        let same = self.b.ins().icmp(IntCC::Equal, rip, there);
        self.b.ins().brif(same, tagged, &[], miss, &[]);
        self.b.switch_to_block(tagged);
        let tag = self.b.ins().load(types::I64, state_flags(), frame, FRAME_TAG);
        let made = self.b.ins().load(types::I64, state_flags(), entry, offset + JUMP_TAG);
        let same = self.b.ins().icmp(IntCC::Equal, tag, made);
        self.b.ins().brif(same, hit, &[], miss, &[]);
        self.b.switch_to_block(hit);
        let code = self.b.ins().load(types::I64, state_flags(), entry, offset + JUMP_CODE);
        self.b.ins().return_call_indirect(self.sigs.block, code, &[self.state]);
        self.b.switch_to_block(miss);
        self.leave();
    }

    /// Leaves before the current instruction if `c`; tier 0 executes it.
    pub(super) fn redo_if(&mut self, c: V) {
        let c = match c {
            V::Const(0) => return,
            V::Const(_) => V::Val(self.b.ins().iconst(types::I8, 1)),
            c => c,
        };
        let c = self.truth(c);
        let (cold, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        self.b.ins().brif(c, cold, &[], go_on, &[]);
        self.b.switch_to_block(cold);
        self.in_cold = true;
        self.emit_dirty();
        self.emit_dirty_vectors();
        let packed = self.emit_flags_cold() | u64::from(self.count) << pack::COUNT;
        let f = self.helper(thunks::redo_insn as *const () as usize);
        let insn = self.insn_address();
        let packed = self.b.ins().iconst(types::I64, packed as i64);
        self.b.ins().call_indirect(self.sigs.redo, f, &[self.state, insn, packed]);
        self.leave();
        self.in_cold = false;
        self.b.switch_to_block(go_on);
    }

    /// Runs the tier-0 handler of the current instruction.
    pub(super) fn call_handler(&mut self, ends: bool) {
        self.flush();
        let bias = self.b.ins().iconst(types::I64, i64::from(self.count));
        self.b.ins().store(state_flags(), bias, self.state, off::COUNT_BIAS);
        let f = self.helper(thunks::run_handler as *const () as usize);
        let insn = self.insn_address();
        let call = self.b.ins().call_indirect(self.sigs.handler, f, &[self.state, insn, bias]);
        let stopped = self.b.inst_results(call)[0];
        let (cold, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        self.b.ins().brif(stopped, cold, &[], go_on, &[]);
        self.b.switch_to_block(cold);
        self.leave();
        self.b.switch_to_block(go_on);
        self.forget_regs();
        self.forget_flags();
        self.bank = None;
        self.forget_vectors();
        if ends {
            let rip = self.b.ins().load(types::I64, state_flags(), self.state, off::RIP);
            self.look_up(rip);
            self.ended = true;
        }
    }

    /// At the entry of a block over two pages: is the second one still where it was? Whoever leads here directly has looked at the
    /// first one only; an entry of this vCPU's jump cache tells that both were looked at in this epoch.
    pub(super) fn check_second_page(&mut self) {
        if !self.tb.flat {
            // Only the dispatcher leads here, which has looked.
            return;
        }
        let ip = self.tb.block.ip;
        let place = jump_offset(ip);
        let frame = self.b.ins().load(types::I64, state_flags(), self.state, off::FRAME);
        let now = self.b.ins().load(types::I64, state_flags(), frame, FRAME_TAG);
        let made = self.b.ins().load(types::I64, state_flags(), frame, place + JUMP_TAG);
        let same = self.b.ins().icmp(IntCC::Equal, now, made);
        let there = self.b.ins().load(types::I64, state_flags(), frame, place + JUMP_TB);
        let own = self.b.ins().icmp_imm_s(IntCC::Equal, there, std::ptr::from_ref(self.tb) as i64);
        let good = self.b.ins().band(same, own);
        let (cold, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        self.b.ins().brif(good, go_on, &[], cold, &[]);
        self.b.switch_to_block(cold);
        let rip = self.b.ins().iconst(types::I64, ip as i64);
        self.b.ins().store(state_flags(), rip, self.state, off::RIP);
        self.leave();
        self.b.switch_to_block(go_on);
    }

    /// The entry of the block: takes its count off the budget, or goes back to the dispatcher.
    pub(super) fn take_budget(&mut self) {
        let old = self.b.ins().load(types::I64, state_flags(), self.state, off::BUDGET);
        let left = self.b.ins().iadd_imm_s(old, -i64::from(self.count));
        let short = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, left, 0);
        let (cold, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        self.b.ins().brif(short, cold, &[], go_on, &[]);
        self.b.switch_to_block(cold);
        let rip = self.b.ins().iconst(types::I64, self.tb.block.ip as i64);
        self.b.ins().store(state_flags(), rip, self.state, off::RIP);
        self.leave();
        self.b.switch_to_block(go_on);
        self.b.ins().store(state_flags(), left, self.state, off::BUDGET);
    }
}

/// Offset in the frame of the jump cache's entry for a linear address.
fn jump_offset(linear: u64) -> i32 {
    FRAME_JUMPS + ((jump_index(linear) as i32) << JUMP_SHIFT)
}
