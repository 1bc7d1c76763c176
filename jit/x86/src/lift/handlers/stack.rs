//! Handlers of the instructions that use the stack, with a short way ([`NearStack`]) to the flat stack of 64-bit mode.

use crate::eval::{done, go_on};
use crate::insn::{AddrMode, Handler, Insn, Opnd, Rest, Width};
use crate::lift::{Any, AnyStack, NearStack, Reg, flow, mov};
use crate::vcpu::Vcpu;

/// Is it the flat stack of 64-bit mode, and 64 bits that are pushed or popped?
fn near(i: &Insn) -> bool {
    i.sm == AddrMode::Flat && i.sw == Width::Q && i.w == Width::Q
}

/// Two handlers: `$near` and, where that finds nothing in the TLB or a fault to report, `$any`.
macro_rules! either {
    ($i:expr, $near:expr, $any:expr) => {
        if near($i) {
            |c: &mut Vcpu, i: &Insn, rest: Rest<'_>| {
                let near: fn(&mut Vcpu, &Insn) -> crate::emit::R<()> = $near;
                match near(c, i) {
                    Ok(()) => go_on(c, rest),
                    Err(_) => general(c, i, rest, $any),
                }
            }
        } else {
            |c: &mut Vcpu, i: &Insn, rest: Rest<'_>| {
                let any: fn(&mut Vcpu, &Insn) -> crate::emit::R<()> = $any;
                done(any(c, i), c, rest)
            }
        }
    };
}

#[cold]
#[inline(never)]
fn general(c: &mut Vcpu, i: &Insn, rest: Rest<'_>, any: fn(&mut Vcpu, &Insn) -> crate::emit::R<()>) -> usize {
    done(any(c, i), c, rest)
}

/// PUSH.
pub fn push_handler(i: &Insn) -> Handler {
    match i.src {
        Opnd::Gpr(_) => {
            either!(i, |c, i| mov::push::<_, NearStack, Reg>(c, i, Width::Q), |c, i| mov::push::<
                _,
                AnyStack,
                Reg,
            >(c, i, i.w))
        }
        _ => |c, i, rest| done(mov::push::<_, AnyStack, Any>(c, i, i.w), c, rest),
    }
}

/// POP.
pub fn pop_handler(i: &Insn) -> Handler {
    match i.dst {
        Opnd::Gpr(_) => {
            either!(i, |c, i| mov::pop::<_, NearStack, Reg>(c, i, Width::Q), |c, i| mov::pop::<
                _,
                AnyStack,
                Reg,
            >(c, i, i.w))
        }
        _ => |c, i, rest| done(mov::pop::<_, AnyStack, Any>(c, i, i.w), c, rest),
    }
}

/// LEAVE.
pub fn leave_handler(i: &Insn) -> Handler {
    either!(i, |c, i| mov::leave::<_, NearStack>(c, i, Width::Q), |c, i| mov::leave::<_, AnyStack>(c, i, i.w))
}

/// CALL rel.
pub fn call_handler(i: &Insn) -> Handler {
    either!(i, flow::call::<_, NearStack>, flow::call::<_, AnyStack>)
}

/// RET.
pub fn ret_handler(i: &Insn) -> Handler {
    either!(i, flow::ret::<_, NearStack>, flow::ret::<_, AnyStack>)
}
