//! The registers of the caller of a BIOS service, as they lie on the stack while the service runs.
//!
//! Every service begins with [`enter`] and ends with [`leave`]. In between, BP points to the frame, DS is the BIOS data area's segment,
//! FS that of the extended one, the direction flag is clear, and every other register is free. What the caller shall see is
//! written into the frame: the general registers, and the flags of the interrupt return.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::layout::{BDA_SEGMENT, EBDA_SEGMENT};

const FLAGS: i32 = 42;

/// Saves the caller's registers and makes the frame.
pub fn enter(s: &mut Section) -> Emit {
    code! { s;
        pushad;
        push ds;
        push es;
        push fs;
        mov bp, sp;
        push BDA_SEGMENT;
        pop ds;
        push EBDA_SEGMENT;
        pop fs;
        cld;
    }
    Ok(())
}

/// Takes the caller's registers back and returns from the interrupt.
pub fn leave(s: &mut Section) -> Emit {
    code! { s;
        pop fs;
        pop es;
        pop ds;
        popad;
        iret;
    }
    Ok(())
}

/// An interrupt handler `name` that calls the procedure `body` with a frame.
pub fn service(s: &mut Section, name: &str, body: &str) -> Emit {
    s.proc(name)?;
    enter(s)?;
    s.call(body)?;
    leave(s)
}

/// The procedures `ok` and `fail` that services jump to last: carry flag clear or set, and AH.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "ok"; // CF = 0
        and flags(), -2;
        ret;
        proc "ok_ah0"; // AH = 0, CF = 0
        mov ah_(), 0;
        jmp "ok";
        proc "fail"; // CF = 1
        or flags(), 1;
        ret;
        proc "unsupported"; // AH = 86h, CF = 1
        mov ah_(), 0x86;
        jmp "fail";
    }
    Ok(())
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $pointer:ident $offset:expr;)*) => { $(
        $(#[$doc])*
        pub fn $name() -> AsmMemoryOperand {
            $pointer(bp + $offset)
        }
    )* };
}

fields! {
    /// The caller's ES.
    es_ = word_ptr 2;
    /// The caller's DS.
    ds_ = word_ptr 4;
    /// The caller's DI.
    di_ = word_ptr 6;
    /// The caller's SI.
    si_ = word_ptr 10;
    /// The caller's BP.
    bp_ = word_ptr 14;
    /// The caller's EBX.
    ebx_ = dword_ptr 22;
    /// The caller's BX.
    bx_ = word_ptr 22;
    /// The caller's BL.
    bl_ = byte_ptr 22;
    /// The caller's BH.
    bh_ = byte_ptr 23;
    /// The caller's EDX.
    edx_ = dword_ptr 26;
    /// The caller's DX.
    dx_ = word_ptr 26;
    /// The caller's DL.
    dl_ = byte_ptr 26;
    /// The caller's DH.
    dh_ = byte_ptr 27;
    /// The caller's ECX.
    ecx_ = dword_ptr 30;
    /// The caller's CX.
    cx_ = word_ptr 30;
    /// The caller's CL.
    cl_ = byte_ptr 30;
    /// The caller's CH.
    ch_ = byte_ptr 31;
    /// The caller's EAX.
    eax_ = dword_ptr 34;
    /// The caller's AX.
    ax_ = word_ptr 34;
    /// The caller's AL.
    al_ = byte_ptr 34;
    /// The caller's AH.
    ah_ = byte_ptr 35;
    /// The caller's flags.
    flags = word_ptr FLAGS;
}
