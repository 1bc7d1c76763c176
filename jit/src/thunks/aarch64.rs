//! Thunks for aarch64 hosts (AAPCS64).
//!
//! Blocks follow Cranelift's `tail` convention, whose first argument is in `x2` here: `x0` is kept for a return area and
//! `x1` for the address of an indirect call. Everything that blocks call follows AAPCS64.
//!
//! The access thunks do the TLB look-up of tier 1 out of line (tier 2 has it inline): state in `x0`, guest address in `x1`, the
//! instruction in `x2`, the value of a store in `x3`. Results go to `scratch[SCRATCH_ADDEND]`; no register changes (x16 and
//! x17 belong to the linker, but generated code may use them).

#![expect(unsafe_code, reason = "naked functions")]

use std::arch::naked_asm;
use std::mem::offset_of;

use super::{slow_access, slow_memory};
use crate::layout::{JitFrame, LINK_RIP, Link, TLB_ADDEND, TLB_INDEX_MASK, TLB_READ, TLB_WRITE, off, pack};
use x86::Vcpu;

/// Runs generated code at `code` until it comes back to the dispatcher.
///
/// # Safety
/// `code` is the entry of a live block, and `scratch[SCRATCH_FRAME]` of `cpu` holds the address of its frame.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(cpu: *mut Vcpu, code: *const u8, frame: *mut JitFrame) {
    naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "mov x29, sp",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x2, #{sp}]",
        "mov x9, x1",
        "mov x2, x0",
        "blr x9",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
        sp = const offset_of!(JitFrame, sp),
    )
}

/// Where a call that does not come back to its block ends: as if the block had returned to [`enter`]. `x0` is the state.
///
/// # Safety
/// Only generated code and thunks jump here.
#[unsafe(naked)]
pub unsafe extern "C" fn leave(cpu: *mut Vcpu) {
    naked_asm!(
        "ldr x9, [x0, #{frame}]",
        "ldr x9, [x9, #{sp}]",
        "mov sp, x9",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
        frame = const off::FRAME,
        sp = const offset_of!(JitFrame, sp),
    )
}

/// Target of entries of the jump cache whose block has no code: returns to the dispatcher. RIP is in the state.
///
/// # Safety
/// Only generated code jumps here.
#[unsafe(naked)]
pub unsafe extern "C" fn return_stub(cpu: *mut Vcpu) {
    naked_asm!("ret")
}

/// Where the ways out of links lead: notes the link and RIP and returns to the dispatcher. State in `x2`,
/// link in `x3`.
///
/// # Safety
/// Only generated code jumps here.
#[unsafe(naked)]
pub unsafe extern "C" fn exit_stub(cpu: *mut Vcpu, link: *const Link) {
    naked_asm!(
        "ldr x9, [x2, #{frame}]",
        "str x3, [x9, #{link}]",
        "ldr x9, [x3, #{link_rip}]",
        "str x9, [x2, #{rip}]",
        "ret",
        frame = const off::FRAME,
        link = const offset_of!(JitFrame, link),
        link_rip = const LINK_RIP,
        rip = const off::RIP,
    )
}

/// An access thunk: what to do with the host address `x9 + x1`, and how the slow path is told.
macro_rules! access {
    ($name:ident, $tag:expr, $size:literal, $kind:expr, $($act:literal),+) => {
        access!($name, $tag, $size - 1, -4096, $kind, $($act),+);
    };
    // The tag must be `(va + last) & mask`.
    ($name:ident, $tag:expr, $last:expr, $mask:expr, $kind:expr, $($act:literal),+) => {
        /// See the module.
        ///
        /// # Safety
        /// Only generated code calls this.
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "stp x9, x10, [sp, #-16]!",
                "lsr x9, x1, #7",
                "ldr x10, [x0, #{bank}]",
                "and x9, x9, #{mask}",
                "add x9, x10, x9",
                "add x10, x1, #{last}",
                "and x10, x10, #{page}",
                "stp x11, xzr, [sp, #-16]!",
                "ldr x11, [x9, #{tag}]",
                "cmp x10, x11",
                "ldr x11, [sp], #16",
                "b.ne 2f",
                "ldr x9, [x9, #{addend}]",
                $($act,)+
                "ldp x9, x10, [sp], #16",
                "ret",
                "2:",
                "mov x9, #{kind}",
                "b {slow}",
                mask = const TLB_INDEX_MASK,
                bank = const off::BANK,
                last = const $last,
                page = const $mask,
                tag = const $tag,
                addend = const TLB_ADDEND,
                result = const off::ADDEND,
                kind = const $kind,
                slow = sym access_slow,
            )
        }
    };
}

access!(load8, TLB_READ, 1, 0, "ldrb w9, [x9, x1]", "str x9, [x0, #{result}]");
access!(load16, TLB_READ, 2, 1, "ldrh w9, [x9, x1]", "str x9, [x0, #{result}]");
access!(load32, TLB_READ, 4, 2, "ldr w9, [x9, x1]", "str x9, [x0, #{result}]");
access!(load64, TLB_READ, 8, 3, "ldr x9, [x9, x1]", "str x9, [x0, #{result}]");
access!(store8, TLB_WRITE, 1, pack::WRITE, "strb w3, [x9, x1]", "// {result}");
access!(store16, TLB_WRITE, 2, pack::WRITE | 1, "strh w3, [x9, x1]", "// {result}");
access!(store32, TLB_WRITE, 4, pack::WRITE | 2, "str w3, [x9, x1]", "// {result}");
access!(store64, TLB_WRITE, 8, pack::WRITE | 3, "str x3, [x9, x1]", "// {result}");
access!(place_read128, TLB_READ, 16, pack::PLACE | 4, "add x9, x9, x1", "str x9, [x0, #{result}]");
access!(place_read256, TLB_READ, 32, pack::PLACE | 5, "add x9, x9, x1", "str x9, [x0, #{result}]");
access!(
    place_write256,
    TLB_WRITE,
    32,
    pack::PLACE | pack::WRITE | 5,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    place_write128,
    TLB_WRITE,
    16,
    pack::PLACE | pack::WRITE | 4,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    place8,
    TLB_WRITE,
    1,
    pack::PLACE | pack::RMW | pack::WRITE,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    place16,
    TLB_WRITE,
    2,
    pack::PLACE | pack::RMW | pack::WRITE | 1,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    place32,
    TLB_WRITE,
    4,
    pack::PLACE | pack::RMW | pack::WRITE | 2,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    place64,
    TLB_WRITE,
    8,
    pack::PLACE | pack::RMW | pack::WRITE | 3,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);

// For host atomics: what misaligns the address makes it miss.
access!(
    lock16,
    TLB_WRITE,
    0,
    -4096 | 1,
    pack::PLACE | pack::RMW | pack::WRITE | pack::LOCK | 1,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    lock32,
    TLB_WRITE,
    0,
    -4096 | 3,
    pack::PLACE | pack::RMW | pack::WRITE | pack::LOCK | 2,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);
access!(
    lock64,
    TLB_WRITE,
    0,
    -4096 | 7,
    pack::PLACE | pack::RMW | pack::WRITE | pack::LOCK | 3,
    "add x9, x9, x1",
    "str x9, [x0, #{result}]"
);

// Where vCPUs run in parallel (see `compile::order`): acquire loads and release stores. Unaligned ones are plain and fenced: a load
// from what follows, a store from earlier stores, since all loads are from what follows them.
access!(ordered_load8, TLB_READ, 1, 0, "add x9, x9, x1", "ldarb w9, [x9]", "str x9, [x0, #{result}]");
access!(ordered_store8, TLB_WRITE, 1, pack::WRITE, "add x9, x9, x1", "stlrb w3, [x9]", "// {result}");
access!(
    ordered_load16,
    TLB_READ,
    2,
    1,
    "add x9, x9, x1",
    "tst x9, #1",
    "b.ne 3f",
    "ldarh w9, [x9]",
    "b 4f",
    "3:",
    "ldrh w9, [x9]",
    "dmb ishld",
    "4:",
    "str x9, [x0, #{result}]"
);
access!(
    ordered_store16,
    TLB_WRITE,
    2,
    pack::WRITE | 1,
    "add x9, x9, x1",
    "tst x9, #1",
    "b.ne 3f",
    "stlrh w3, [x9]",
    "b 4f",
    "3:",
    "dmb ishst",
    "strh w3, [x9]",
    "4:",
    "// {result}"
);
access!(
    ordered_load32,
    TLB_READ,
    4,
    2,
    "add x9, x9, x1",
    "tst x9, #3",
    "b.ne 3f",
    "ldar w9, [x9]",
    "b 4f",
    "3:",
    "ldr w9, [x9]",
    "dmb ishld",
    "4:",
    "str x9, [x0, #{result}]"
);
access!(
    ordered_store32,
    TLB_WRITE,
    4,
    pack::WRITE | 2,
    "add x9, x9, x1",
    "tst x9, #3",
    "b.ne 3f",
    "stlr w3, [x9]",
    "b 4f",
    "3:",
    "dmb ishst",
    "str w3, [x9]",
    "4:",
    "// {result}"
);
access!(
    ordered_load64,
    TLB_READ,
    8,
    3,
    "add x9, x9, x1",
    "tst x9, #7",
    "b.ne 3f",
    "ldar x9, [x9]",
    "b 4f",
    "3:",
    "ldr x9, [x9]",
    "dmb ishld",
    "4:",
    "str x9, [x0, #{result}]"
);
access!(
    ordered_store64,
    TLB_WRITE,
    8,
    pack::WRITE | 3,
    "add x9, x9, x1",
    "tst x9, #7",
    "b.ne 3f",
    "stlr x3, [x9]",
    "b 4f",
    "3:",
    "dmb ishst",
    "str x3, [x9]",
    "4:",
    "// {result}"
);

/// The other end of the access thunks: `x9` and `x10` are on the stack, and `x9` holds the kind of access.
///
/// # Safety
/// Only the access thunks jump here.
#[unsafe(naked)]
unsafe extern "C" fn access_slow() {
    naked_asm!(
        "stp x29, x30, [sp, #-176]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "stp x2, x3, [sp, #32]",
        "stp x4, x5, [sp, #48]",
        "stp x6, x7, [sp, #64]",
        "stp x8, x9, [sp, #80]",
        "stp x10, x11, [sp, #96]",
        "stp x12, x13, [sp, #112]",
        "stp x14, x15, [sp, #128]",
        "stp x16, x17, [sp, #144]",
        "str x18, [sp, #160]",
        "sub sp, sp, #512",
        "stp q0, q1, [sp]",
        "stp q2, q3, [sp, #32]",
        "stp q4, q5, [sp, #64]",
        "stp q6, q7, [sp, #96]",
        "stp q8, q9, [sp, #128]",
        "stp q10, q11, [sp, #160]",
        "stp q12, q13, [sp, #192]",
        "stp q14, q15, [sp, #224]",
        "stp q16, q17, [sp, #256]",
        "stp q18, q19, [sp, #288]",
        "stp q20, q21, [sp, #320]",
        "stp q22, q23, [sp, #352]",
        "stp q24, q25, [sp, #384]",
        "stp q26, q27, [sp, #416]",
        "stp q28, q29, [sp, #448]",
        "stp q30, q31, [sp, #480]",
        "mov x4, x3",
        "mov x3, x9",
        "bl {slow}",
        "cbnz x0, 2f",
        "ldp q0, q1, [sp]",
        "ldp q2, q3, [sp, #32]",
        "ldp q4, q5, [sp, #64]",
        "ldp q6, q7, [sp, #96]",
        "ldp q8, q9, [sp, #128]",
        "ldp q10, q11, [sp, #160]",
        "ldp q12, q13, [sp, #192]",
        "ldp q14, q15, [sp, #224]",
        "ldp q16, q17, [sp, #256]",
        "ldp q18, q19, [sp, #288]",
        "ldp q20, q21, [sp, #320]",
        "ldp q22, q23, [sp, #352]",
        "ldp q24, q25, [sp, #384]",
        "ldp q26, q27, [sp, #416]",
        "ldp q28, q29, [sp, #448]",
        "ldp q30, q31, [sp, #480]",
        "add sp, sp, #512",
        "ldp x0, x1, [sp, #16]",
        "ldp x2, x3, [sp, #32]",
        "ldp x4, x5, [sp, #48]",
        "ldp x6, x7, [sp, #64]",
        "ldp x8, x9, [sp, #80]",
        "ldp x10, x11, [sp, #96]",
        "ldp x12, x13, [sp, #112]",
        "ldp x14, x15, [sp, #128]",
        "ldp x16, x17, [sp, #144]",
        "ldr x18, [sp, #160]",
        "ldp x29, x30, [sp], #176",
        "ldp x9, x10, [sp], #16",
        "ret",
        "2:",
        "ldr x0, [x29, #16]",
        "b {leave}",
        slow = sym slow_access,
        leave = sym leave,
    )
}

/// Calls [`slow_memory`] with every register preserved; leaves the block when that says so.
///
/// # Safety
/// Only generated code calls this.
#[unsafe(naked)]
pub unsafe extern "C" fn memory_thunk() {
    naked_asm!(
        "stp x29, x30, [sp, #-176]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "stp x2, x3, [sp, #32]",
        "stp x4, x5, [sp, #48]",
        "stp x6, x7, [sp, #64]",
        "stp x8, x9, [sp, #80]",
        "stp x10, x11, [sp, #96]",
        "stp x12, x13, [sp, #112]",
        "stp x14, x15, [sp, #128]",
        "stp x16, x17, [sp, #144]",
        "str x18, [sp, #160]",
        "sub sp, sp, #512",
        "stp q0, q1, [sp]",
        "stp q2, q3, [sp, #32]",
        "stp q4, q5, [sp, #64]",
        "stp q6, q7, [sp, #96]",
        "stp q8, q9, [sp, #128]",
        "stp q10, q11, [sp, #160]",
        "stp q12, q13, [sp, #192]",
        "stp q14, q15, [sp, #224]",
        "stp q16, q17, [sp, #256]",
        "stp q18, q19, [sp, #288]",
        "stp q20, q21, [sp, #320]",
        "stp q22, q23, [sp, #352]",
        "stp q24, q25, [sp, #384]",
        "stp q26, q27, [sp, #416]",
        "stp q28, q29, [sp, #448]",
        "stp q30, q31, [sp, #480]",
        "bl {slow}",
        "cbnz x0, 2f",
        "ldp q0, q1, [sp]",
        "ldp q2, q3, [sp, #32]",
        "ldp q4, q5, [sp, #64]",
        "ldp q6, q7, [sp, #96]",
        "ldp q8, q9, [sp, #128]",
        "ldp q10, q11, [sp, #160]",
        "ldp q12, q13, [sp, #192]",
        "ldp q14, q15, [sp, #224]",
        "ldp q16, q17, [sp, #256]",
        "ldp q18, q19, [sp, #288]",
        "ldp q20, q21, [sp, #320]",
        "ldp q22, q23, [sp, #352]",
        "ldp q24, q25, [sp, #384]",
        "ldp q26, q27, [sp, #416]",
        "ldp q28, q29, [sp, #448]",
        "ldp q30, q31, [sp, #480]",
        "add sp, sp, #512",
        "ldp x0, x1, [sp, #16]",
        "ldp x2, x3, [sp, #32]",
        "ldp x4, x5, [sp, #48]",
        "ldp x6, x7, [sp, #64]",
        "ldp x8, x9, [sp, #80]",
        "ldp x10, x11, [sp, #96]",
        "ldp x12, x13, [sp, #112]",
        "ldp x14, x15, [sp, #128]",
        "ldp x16, x17, [sp, #144]",
        "ldr x18, [sp, #160]",
        "ldp x29, x30, [sp], #176",
        "ret",
        "2:",
        "ldr x0, [x29, #16]",
        "b {leave}",
        slow = sym slow_memory,
        leave = sym leave,
    )
}
