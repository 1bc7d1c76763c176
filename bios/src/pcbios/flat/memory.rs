//! How much RAM there is, and the map that INT 15h AX=E820h tells.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::{BASE_KIB, EBDA, ebda};
use super::{var, var16};

/// Bytes at the top of low memory that hold firmware tables.
pub const TABLE_BYTES: i32 = 0x8_0000;

mod kind {
    pub const RAM: i32 = 1;
    pub const RESERVED: i32 = 2;
}

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    size(s)?;
    probe(s)?;
    map(s)?;
    block_move(s)
}

/// INT 15h AH=87h.
fn block_move(s: &mut Section) -> Emit {
    code! { s;
        proc "block_move"; // ESI: six descriptors, the third and fourth of which are source and destination; ECX: words
        mov ebx, esi;
        mov eax, dword_ptr(ebx + 0x12);
        and eax, 0xff_ffff;
        movzx esi, byte_ptr(ebx + 0x17);
        shl esi, 24;
        or esi, eax;
        mov eax, dword_ptr(ebx + 0x1a);
        and eax, 0xff_ffff;
        movzx edi, byte_ptr(ebx + 0x1f);
        shl edi, 24;
        or edi, eax;
        cld;
        rep_movsw;
        ret;
    }
    Ok(())
}

fn size(s: &mut Section) -> Emit {
    code! { s;
        proc "cmos_read"; // AL: index -> EAX
        or al, 0x80;
        out 0x70, al;
        in_ al, 0x71;
        movzx eax, al;
        ret;
        proc "cmos_word"; // BL: index of the low byte -> EAX. Destroys ECX
        lea eax, dword_ptr(ebx + 1);
        call "cmos_read";
        mov ecx, eax;
        shl ecx, 8;
        mov al, bl;
        call "cmos_read";
        or eax, ecx;
        ret;
        proc "memory_size";
        mov bl, 0x34; // 64 KiB above 16 MiB
        call "cmos_word";
        shl eax, 16;
        jz ".small";
        add eax, 0x100_0000;
        jmp ".low";
        label ".small";
        mov bl, 0x30; // KiB above 1 MiB
        call "cmos_word";
        shl eax, 10;
        jz ".probe";
        add eax, 0x10_0000;
        jmp ".low";
        label ".probe";
        call "memory_probe";
        label ".low";
        mov var(ebda::RAM_LOW), eax;
        mov al, 0x5d; // 64 KiB above 4 GiB
        call "cmos_read";
        mov edi, eax;
        shl edi, 16;
        mov bl, 0x5b;
        call "cmos_word";
        or eax, edi;
        mov var(ebda::RAM_HIGH), eax;
        mov eax, var(ebda::RAM_LOW);
        cmp eax, 0x40_0000;
        jb ".no_tables";
        sub eax, TABLE_BYTES;
        label ".no_tables";
        mov var(ebda::RAM_TOP), eax;
        ret;
    }
    Ok(())
}

/// The CMOS knows nothing: look for RAM, MiB by MiB, to 3 GiB at most.
fn probe(s: &mut Section) -> Emit {
    code! { s;
        proc "memory_probe"; // -> EAX: the first byte that is no RAM
        mov ebx, 0x10_0000;
        label ".next";
        mov eax, dword_ptr(ebx);
        mov ecx, eax;
        not ecx;
        mov dword_ptr(ebx), ecx;
        mov edx, dword_ptr(ebx);
        mov dword_ptr(ebx), eax;
        cmp edx, ecx;
        jne ".end";
        add ebx, 0x10_0000;
        cmp ebx, 0xc000_0000u32;
        jb ".next";
        label ".end";
        mov eax, ebx;
        ret;
    }
    Ok(())
}

fn map(s: &mut Section) -> Emit {
    code! { s;
        proc "e820_add"; // EDX:EAX: start, EDI:ECX: length, BL: kind. Nothing of length 0 is noted
        push esi;
        mov esi, ecx;
        or esi, edi;
        jz ".out";
        movzx esi, var16(ebda::E820_COUNT);
        cmp esi, ebda::E820_MAX;
        jae ".out";
        inc var16(ebda::E820_COUNT);
        lea esi, dword_ptr(esi + esi * 4);
        lea esi, dword_ptr(esi * 4 + (EBDA + ebda::E820));
        mov dword_ptr(esi), eax;
        mov dword_ptr(esi + 4), edx;
        mov dword_ptr(esi + 8), ecx;
        mov dword_ptr(esi + 12), edi;
        movzx ebx, bl;
        mov dword_ptr(esi + 16), ebx;
        label ".out";
        pop esi;
        ret;

        proc "e820_map";
        mov var16(ebda::E820_COUNT), 0;
        xor edx, edx;
        xor edi, edi;
        xor eax, eax;
        mov ecx, BASE_KIB << 10;
        mov bl, kind::RAM;
        call "e820_add";
        mov eax, EBDA;
        mov ecx, 0xa_0000 - EBDA;
        mov bl, kind::RESERVED;
        call "e820_add";
        mov eax, 0xe_0000;
        mov ecx, 0x2_0000;
        mov bl, kind::RESERVED;
        call "e820_add";
        mov eax, 0x10_0000;
        mov ecx, var(ebda::RAM_TOP);
        sub ecx, eax;
        mov bl, kind::RAM;
        call "e820_add";
        mov eax, var(ebda::RAM_TOP);
        mov ecx, var(ebda::RAM_LOW);
        sub ecx, eax;
        mov bl, kind::RESERVED;
        call "e820_add";
        // PCI Express configuration space, where there is one.
        mov eax, var(ebda::ECAM);
        test eax, eax;
        jz ".no_ecam";
        mov ecx, 0x1000_0000;
        mov bl, kind::RESERVED;
        call "e820_add";
        label ".no_ecam";
        // I/O APIC and local APICs, and the ROM.
        mov eax, 0xfec0_0000u32;
        mov ecx, 0x1000;
        mov bl, kind::RESERVED;
        call "e820_add";
        mov eax, 0xfee0_0000u32;
        mov ecx, 0x1000;
        mov bl, kind::RESERVED;
        call "e820_add";
        mov eax, 0xfffc_0000u32;
        mov ecx, 0x4_0000;
        mov bl, kind::RESERVED;
        call "e820_add";
        // Above 4 GiB.
        mov ecx, var(ebda::RAM_HIGH);
        mov edi, ecx;
        shl ecx, 16;
        shr edi, 16;
        xor eax, eax;
        mov edx, 1;
        mov bl, kind::RAM;
        call "e820_add";
        ret;
    }
    Ok(())
}
