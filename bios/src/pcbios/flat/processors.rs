//! The other processors: an operating system expects the same memory types on each of them. Each is started once, sets its types like
//! the first one, and is then put back to where it waits for a start-up IPI.
//!
//! The configuration device says how many there are; one that does not come is not waited for longer than a second.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::ebda;
use super::{selector, var, var8};

/// Where they start in real mode: a page of conventional memory that nothing else uses during POST.
const START: i32 = 0x8000;
/// Their stack's end; they use it one after the other.
const STACK: i32 = 0x6000;
/// The configuration device's item: number of processors.
const PROCESSORS: i32 = 5;

/// Interrupt command register (low half): INIT to all others, and the start-up IPI for [`START`].
const INIT: i32 = 0xc_4500;
const START_UP: i32 = 0xc_4600 | START >> 12;

/// What stands at [`START`]: loads a descriptor table and jumps to "other_processor", whose address is filled in.
const TRAMPOLINE: [u8; 0x38] = [
    0xfa, // cli
    0x2e,
    0x66,
    0x0f,
    0x01,
    0x16,
    0x1a,
    0x00, // o32 lgdt cs:[1Ah]
    0x0f,
    0x20,
    0xc0,
    0x0c,
    0x01,
    0x0f,
    0x22,
    0xc0, // CR0.PE
    0x66,
    0xea,
    0,
    0,
    0,
    0,
    selector::CODE32 as u8,
    0, // jmp far
    0,
    0, // 1Ah: the table's length and address
    0x17,
    0,
    0x20,
    0x80,
    0,
    0, // 20h: flat code and data, at the selectors of the other table
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0, //
    0xff,
    0xff,
    0,
    0,
    0,
    0x9b,
    0xcf,
    0, //
    0xff,
    0xff,
    0,
    0,
    0,
    0x93,
    0xcf,
    0,
];
/// Where the address belongs.
const TRAMPOLINE_TARGET: i32 = 0x12;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "start_others"; // of a processor with a local APIC
        cmp var8(ebda::HAS_FW_CFG), 0;
        je ".ret";
        mov eax, PROCESSORS;
        call "fw_select";
        call "fw_read_dword";
        movzx eax, ax;
        cmp eax, 2;
        jb ".ret";
        dec eax;
        push eax;
        offset32 esi, "trampoline";
        mov edi, START;
        mov ecx, TRAMPOLINE.len() as i32;
        rep_movsb;
        offset32 eax, "other_processor";
        mov dword_ptr(START + TRAMPOLINE_TARGET), eax;
        mov var8(ebda::STARTING), 0;
        mov var(ebda::STARTED), 0;
        mov ecx, 0x1b;
        rdmsr;
        and eax, 0xffff_f000u32;
        mov ebx, eax;
        // INIT, 10 ms, start-up IPI, 200 us, once more.
        mov dword_ptr(ebx + 0x300), INIT;
        mov ecx, 10_000;
        call "microseconds";
        mov dword_ptr(ebx + 0x300), START_UP;
        mov ecx, 200;
        call "microseconds";
        mov dword_ptr(ebx + 0x300), START_UP;
        pop edx;
        mov ecx, 1_000_000;
        label ".next";
        cmp var(ebda::STARTED), edx;
        jae ".all";
        pause;
        in_ al, 0x80;
        dec ecx;
        jnz ".next";
        label ".all";
        mov dword_ptr(ebx + 0x300), INIT;
        label ".ret";
        ret;
        proc "microseconds"; // ECX of them, about: a port access takes one
        in_ al, 0x80;
        dec ecx;
        jnz "microseconds";
        ret;
        proc "other_processor";
        mov eax, selector::DATA32;
        mov ds, ax;
        mov es, ax;
        mov ss, ax;
        label ".wait";
        mov eax, 1;
        xchg var8(ebda::STARTING), al;
        test al, al;
        jz ".mine";
        pause;
        jmp ".wait";
        label ".mine";
        mov esp, STACK;
        call "memory_types";
        inc var(ebda::STARTED);
        mov var8(ebda::STARTING), 0;
        label ".halt";
        hlt;
        jmp ".halt";
        proc "trampoline";
        db &TRAMPOLINE;
    }
    Ok(())
}
