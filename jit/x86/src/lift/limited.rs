//! Near branches whose target may lie beyond the code segment's limit: #GP(0) at the branch, with nothing done (SDM vol. 2,
//! JMP, Jcc, CALL, RET, LOOP).
//!
//! Most code needs no such check: no offset of its width is beyond the limit, or RIP is 64 bits wide. Which code does is
//! in the mode ([`Mode::CS_SHORT`]), so that branches elsewhere pay nothing; here they are helpers.

use super::{Any, AnyStack, flow};
use crate::emit::R;
use crate::eval::done;
use crate::insn::{Cond, Insn, Op, Width};
use crate::state::{Mode, reg, seg};
use crate::vcpu::Vcpu;

/// Does the branch, unless it leads beyond the limit. Memory below the stack pointer may have been written then.
fn limited(c: &mut Vcpu, i: &Insn, branch: impl Fn(&mut Vcpu, &Insn) -> R<()>) -> R<()> {
    let registers = [reg::RSP, reg::RCX].map(|r| (r as usize, c.st.gpr[r as usize]));
    branch(c, i)?;
    if c.st.rip > u64::from(c.st.seg[seg::CS as usize].limit) {
        for (r, v) in registers {
            c.st.gpr[r] = v;
        }
        return Err(c.gp(0));
    }
    Ok(())
}

macro_rules! handler {
    ($branch:expr) => {
        |c, i, rest| done(limited(c, i, $branch), c, rest)
    };
}

/// Makes a near branch a helper that checks its target, where that can fail.
pub fn choose(i: &mut Insn, mode: Mode) {
    // 16-bit code whose target has 32 bits.
    let target = match i.op {
        Op::JmpInd | Op::CallInd | Op::Ret => i.w == Width::D,
        _ => i.imm > 0xffff,
    };
    let wide = target && !mode.has(Mode::CODE32);
    if mode.has(Mode::CODE64) || !mode.has(Mode::CS_SHORT) && !wide {
        return;
    }
    i.run = match i.op {
        Op::Jmp => handler!(flow::jmp),
        Op::JmpInd => handler!(flow::jmp_ind::<_, Any>),
        Op::Jcc(c) => {
            i.rd = c as u8;
            handler!(|c, i| flow::jcc(c, i, Cond::from_u8(i.rd)))
        }
        Op::Loop(0) => handler!(|c, i| flow::loop_(c, i, 0)),
        Op::Loop(1) => handler!(|c, i| flow::loop_(c, i, 1)),
        Op::Loop(_) => handler!(|c, i| flow::loop_(c, i, 2)),
        Op::Jcxz => handler!(flow::jcxz),
        Op::Call => handler!(flow::call::<_, AnyStack>),
        Op::CallInd => handler!(flow::call_ind::<_, AnyStack, Any>),
        Op::Ret => handler!(flow::ret::<_, AnyStack>),
        _ => return,
    };
    i.op = Op::Cold;
}
