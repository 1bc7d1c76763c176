//! The processor: its local APIC, and memory types: RAM is write-back, the video memory and the hole for devices below 4 GiB are uncacheable.
//! The others get the same types (see [`super::processors`]).

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::ebda;
use super::var;

const WRITE_BACK: i32 = 0x0606_0606;
const WRITE_PROTECTED: i32 = 0x0505_0505;

/// The procedure.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "start_processor";
        call "features";
        test edx, 1 << 9;
        jz "memory_types";
        call "local_apic";
        call "start_others";
        proc "memory_types";
        call "features";
        test edx, 1 << 12;
        jz ".ret";
        // Off while they change.
        mov ecx, 0x2ff;
        xor eax, eax;
        xor edx, edx;
        wrmsr;
        offset32 esi, "fixed_ranges";
        label ".fixed";
        mov ecx, dword_ptr(esi);
        test ecx, ecx;
        jz ".variable";
        mov eax, dword_ptr(esi + 4);
        mov edx, eax;
        wrmsr;
        add esi, 8;
        jmp ".fixed";
        label ".variable";
        // One range, uncacheable, from the first power of two above RAM, 2 GiB at least, to 4 GiB.
        mov ebx, 0x8000_0000u32;
        label ".next";
        cmp ebx, var(ebda::RAM_LOW);
        jae ".base";
        mov eax, ebx;
        stc;
        rcr eax, 1;
        mov ebx, eax;
        cmp ebx, 0xf000_0000u32;
        jb ".next";
        label ".base";
        mov ecx, 0x200;
        mov eax, ebx;
        xor edx, edx;
        wrmsr;
        mov ecx, 0x201;
        mov eax, ebx;
        or eax, 0x800;
        mov edx, 0xf; // 36 address bits are always there
        wrmsr;
        mov ecx, 0x2ff;
        mov eax, 0x0c06;
        xor edx, edx;
        wrmsr;
        label ".ret";
        ret;
        proc "features"; // -> EDX: CPUID.1:EDX, or 0
        xor edx, edx;
        pushfd;
        pop eax;
        mov ecx, eax;
        xor eax, 0x20_0000;
        push eax;
        popfd;
        pushfd;
        pop eax;
        cmp eax, ecx;
        je ".ret"; // no CPUID
        mov eax, 1;
        cpuid;
        label ".ret";
        ret;
        proc "local_apic"; // virtual wire mode: what the 8259 asks for comes through LINT0, NMI through LINT1
        mov ecx, 0x1b;
        rdmsr;
        test ah, 8; // globally off
        jz ".ret";
        and eax, 0xffff_f000u32;
        or dword_ptr(eax + 0xf0), 0x1ff;
        mov dword_ptr(eax + 0x350), 0x700;
        mov dword_ptr(eax + 0x360), 0x400;
        label ".ret";
        ret;
        proc "fixed_ranges";
        dd &[0x250, WRITE_BACK as u32, 0x258, WRITE_BACK as u32, 0x259, 0];
    }
    for msr in 0x268..=0x26f {
        s.dd(&[msr, WRITE_PROTECTED as u32])?;
    }
    s.dd(&[0])?;
    Ok(())
}
