//! Thunks for x86-64 hosts (System V calling convention).
//!
//! The access thunks do the TLB look-up of tier 1 out of line (tier 2 has it inline): state in `rdi`, guest address in `rsi`, the
//! instruction in `rdx`, the value of a store in `rcx`. Results go to `scratch[SCRATCH_ADDEND]`; no register changes.

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
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdx + {sp}], rsp",
        "mov rax, rsi",
        "call rax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        sp = const offset_of!(JitFrame, sp),
    )
}

/// Where a call that does not come back to its block ends: as if the block had returned to [`enter`]. `rdi` is the state.
///
/// # Safety
/// Only generated code and thunks jump here.
#[unsafe(naked)]
pub unsafe extern "C" fn leave(cpu: *mut Vcpu) {
    naked_asm!(
        "mov rax, [rdi + {frame}]",
        "mov rsp, [rax + {sp}]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
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

/// Where the ways out of links lead: notes the link and RIP and returns to the dispatcher. State in `rdi`,
/// link in `rsi`.
///
/// # Safety
/// Only generated code jumps here.
#[unsafe(naked)]
pub unsafe extern "C" fn exit_stub(cpu: *mut Vcpu, link: *const Link) {
    naked_asm!(
        "mov rax, [rdi + {frame}]",
        "mov [rax + {link}], rsi",
        "mov rax, [rsi + {link_rip}]",
        "mov [rdi + {rip}], rax",
        "ret",
        frame = const off::FRAME,
        link = const offset_of!(JitFrame, link),
        link_rip = const LINK_RIP,
        rip = const off::RIP,
    )
}

/// An access thunk: what to do with the host address `rax + rsi`, and how the slow path is told.
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
                "push rax",
                "push r8",
                "mov rax, rsi",
                "shr rax, 7",
                "and eax, {mask}",
                "add rax, [rdi + {bank}]",
                "lea r8, [rsi + {last}]",
                "and r8, {page}",
                "cmp r8, [rax + {tag}]",
                "jne 2f",
                "mov rax, [rax + {addend}]",
                $($act,)+
                "pop r8",
                "pop rax",
                "ret",
                "2:",
                "pop r8",
                "mov eax, {kind}",
                "jmp {slow}",
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

access!(load8, TLB_READ, 1, 0, "movzx eax, byte ptr [rax + rsi]", "mov [rdi + {result}], rax");
access!(load16, TLB_READ, 2, 1, "movzx eax, word ptr [rax + rsi]", "mov [rdi + {result}], rax");
access!(load32, TLB_READ, 4, 2, "mov eax, [rax + rsi]", "mov [rdi + {result}], rax");
access!(load64, TLB_READ, 8, 3, "mov rax, [rax + rsi]", "mov [rdi + {result}], rax");
access!(store8, TLB_WRITE, 1, pack::WRITE, "mov [rax + rsi], cl", "/* {result} */");
access!(store16, TLB_WRITE, 2, pack::WRITE | 1, "mov [rax + rsi], cx", "/* {result} */");
access!(store32, TLB_WRITE, 4, pack::WRITE | 2, "mov [rax + rsi], ecx", "/* {result} */");
access!(store64, TLB_WRITE, 8, pack::WRITE | 3, "mov [rax + rsi], rcx", "/* {result} */");
access!(place_read128, TLB_READ, 16, pack::PLACE | 4, "add rax, rsi", "mov [rdi + {result}], rax");
access!(place_read256, TLB_READ, 32, pack::PLACE | 5, "add rax, rsi", "mov [rdi + {result}], rax");
access!(
    place_write256,
    TLB_WRITE,
    32,
    pack::PLACE | pack::WRITE | 5,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    place_write128,
    TLB_WRITE,
    16,
    pack::PLACE | pack::WRITE | 4,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    place8,
    TLB_WRITE,
    1,
    pack::PLACE | pack::RMW | pack::WRITE,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    place16,
    TLB_WRITE,
    2,
    pack::PLACE | pack::RMW | pack::WRITE | 1,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    place32,
    TLB_WRITE,
    4,
    pack::PLACE | pack::RMW | pack::WRITE | 2,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    place64,
    TLB_WRITE,
    8,
    pack::PLACE | pack::RMW | pack::WRITE | 3,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);

// For host atomics: what misaligns the address makes it miss.
access!(
    lock16,
    TLB_WRITE,
    0,
    -4096 | 1,
    pack::PLACE | pack::RMW | pack::WRITE | pack::LOCK | 1,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    lock32,
    TLB_WRITE,
    0,
    -4096 | 3,
    pack::PLACE | pack::RMW | pack::WRITE | pack::LOCK | 2,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);
access!(
    lock64,
    TLB_WRITE,
    0,
    -4096 | 7,
    pack::PLACE | pack::RMW | pack::WRITE | pack::LOCK | 3,
    "add rax, rsi",
    "mov [rdi + {result}], rax"
);

/// The other end of the access thunks: `rax` is on the stack and holds the kind of access.
///
/// # Safety
/// Only the access thunks jump here.
#[unsafe(naked)]
unsafe extern "C" fn access_slow() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "and rsp, -16",
        "sub rsp, 256",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "movaps [rsp + 128], xmm8",
        "movaps [rsp + 144], xmm9",
        "movaps [rsp + 160], xmm10",
        "movaps [rsp + 176], xmm11",
        "movaps [rsp + 192], xmm12",
        "movaps [rsp + 208], xmm13",
        "movaps [rsp + 224], xmm14",
        "movaps [rsp + 240], xmm15",
        "mov r8, rcx",
        "mov ecx, eax",
        "call {slow}",
        "test eax, eax",
        "jnz 2f",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "movaps xmm8, [rsp + 128]",
        "movaps xmm9, [rsp + 144]",
        "movaps xmm10, [rsp + 160]",
        "movaps xmm11, [rsp + 176]",
        "movaps xmm12, [rsp + 192]",
        "movaps xmm13, [rsp + 208]",
        "movaps xmm14, [rsp + 224]",
        "movaps xmm15, [rsp + 240]",
        "lea rsp, [rbp - 64]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbp",
        "pop rax",
        "ret",
        "2:",
        "mov rdi, [rbp - 32]",
        "jmp {leave}",
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
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "and rsp, -16",
        "sub rsp, 256",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "movaps [rsp + 128], xmm8",
        "movaps [rsp + 144], xmm9",
        "movaps [rsp + 160], xmm10",
        "movaps [rsp + 176], xmm11",
        "movaps [rsp + 192], xmm12",
        "movaps [rsp + 208], xmm13",
        "movaps [rsp + 224], xmm14",
        "movaps [rsp + 240], xmm15",
        "call {slow}",
        "test eax, eax",
        "jnz 2f",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "movaps xmm8, [rsp + 128]",
        "movaps xmm9, [rsp + 144]",
        "movaps xmm10, [rsp + 160]",
        "movaps xmm11, [rsp + 176]",
        "movaps xmm12, [rsp + 192]",
        "movaps xmm13, [rsp + 208]",
        "movaps xmm14, [rsp + 224]",
        "movaps xmm15, [rsp + 240]",
        "lea rsp, [rbp - 72]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rbp",
        "ret",
        "2:",
        "mov rdi, [rbp - 40]",
        "jmp {leave}",
        slow = sym slow_memory,
        leave = sym leave,
    )
}
