//! Tables that the board's maker has prepared: QEMU's linker and loader script (`etc/table-loader`), which says where each
//! file of tables goes, which pointers are to be moved, and which checksums follow. ACPI and SMBIOS come this way.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::ebda;
use super::{var, var8};

/// The list of files that have been placed: at the start of the table area, 64 bytes each: name and address.
const LIST_BYTES: i32 = 0x1000;
const ENTRY: i32 = 64;
const ADDRESS: i32 = 56;
const COMMAND_BYTES: i32 = 128;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    script(s)?;
    allocate(s)?;
    pointers(s)?;
    smbios(s)
}

fn script(s: &mut Section) -> Emit {
    code! { s;
        proc "load_tables";
        // Only with memory for them.
        mov eax, var(ebda::RAM_TOP);
        cmp eax, var(ebda::RAM_LOW);
        je ".ret";
        mov edi, eax;
        mov ecx, LIST_BYTES / 4;
        xor eax, eax;
        rep_stosd;
        mov var(ebda::HIGH_TABLES), edi;
        call "load_smbios";
        offset32 esi, "name_script";
        call "fw_find";
        test eax, eax;
        jz ".ret";
        // The script itself lies at the end of the area while it is worked on.
        push eax;
        mov eax, var(ebda::RAM_LOW);
        sub eax, ecx;
        mov esi, eax;
        mov ebp, ecx;
        add ebp, esi; // its end
        mov edi, esi;
        pop eax;
        call "fw_select";
        call "fw_read";
        label ".next";
        lea eax, dword_ptr(esi + COMMAND_BYTES);
        cmp eax, ebp;
        ja ".ret";
        push esi;
        push ebp;
        mov eax, dword_ptr(esi);
        add esi, 4;
        cmp eax, 1;
        jne ".not_1";
        call "script_allocate";
        label ".not_1";
        cmp dword_ptr(esi - 4), 2;
        jne ".not_2";
        call "script_pointer";
        label ".not_2";
        cmp dword_ptr(esi - 4), 3;
        jne ".not_3";
        call "script_checksum";
        label ".not_3";
        pop ebp;
        pop esi;
        add esi, COMMAND_BYTES;
        jmp ".next";
        label ".ret";
        ret;
        proc "name_script";
        text "etc/table-loader";

        proc "placed"; // ESI: name -> EAX: where that file has been put, or 0. Keeps ESI. Destroys EBX, ECX, EDI
        mov ebx, var(ebda::RAM_TOP);
        label ".next";
        xor eax, eax;
        cmp byte_ptr(ebx), 0;
        je ".ret";
        push esi;
        mov edi, ebx;
        mov ecx, 56;
        repe_cmpsb;
        pop esi;
        mov eax, dword_ptr(ebx + ADDRESS);
        je ".ret";
        add ebx, ENTRY;
        jmp ".next";
        label ".ret";
        ret;
    }
    Ok(())
}

fn allocate(s: &mut Section) -> Emit {
    code! { s;
        proc "script_allocate"; // ESI: name, then +56 alignment, +60 zone: 1 high, 2 F segment. Keeps ESI
        call "fw_find";
        test eax, eax;
        jz ".ret";
        push eax;
        push ecx;
        mov ebx, EBDA_HIGH_TABLES;
        cmp byte_ptr(esi + 60), 2;
        jne ".high";
        mov ebx, EBDA_LOW_TABLES;
        label ".high";
        mov eax, dword_ptr(esi + 56);
        mov edi, dword_ptr(ebx);
        dec eax;
        add edi, eax;
        not eax;
        and edi, eax;
        pop ecx;
        lea eax, dword_ptr(edi + ecx);
        mov dword_ptr(ebx), eax;
        // Notes name and place.
        push edi;
        push ecx;
        mov ebx, var(ebda::RAM_TOP);
        label ".free";
        cmp byte_ptr(ebx), 0;
        je ".found";
        add ebx, ENTRY;
        jmp ".free";
        label ".found";
        mov dword_ptr(ebx + ADDRESS), edi;
        push esi;
        mov edi, ebx;
        mov ecx, 14;
        rep_movsd;
        pop esi;
        pop ecx;
        pop edi;
        pop eax;
        call "fw_select";
        call "fw_read";
        label ".ret";
        ret;
    }
    Ok(())
}

/// Absolute addresses of the two allocation pointers.
const EBDA_HIGH_TABLES: i32 = super::super::layout::EBDA + ebda::HIGH_TABLES;
const EBDA_LOW_TABLES: i32 = super::super::layout::EBDA + ebda::LOW_TABLES;

fn pointers(s: &mut Section) -> Emit {
    code! { s;
        proc "script_pointer"; // ESI: file, +56 file pointed into, +112 offset, +116 size of the pointer
        call "placed";
        test eax, eax;
        jz ".ret";
        mov edx, eax;
        add edx, dword_ptr(esi + 112);
        push esi;
        add esi, 56;
        call "placed";
        pop esi;
        cmp byte_ptr(esi + 116), 4;
        jb ".small";
        add dword_ptr(edx), eax;
        cmp byte_ptr(esi + 116), 8;
        jne ".ret";
        adc dword_ptr(edx + 4), 0;
        label ".ret";
        ret;
        label ".small";
        add word_ptr(edx), ax;
        ret;
        proc "script_checksum"; // ESI: file, +56 where the byte is, +60 start, +64 length
        call "placed";
        test eax, eax;
        jz ".ret";
        mov edi, eax;
        add edi, dword_ptr(esi + 56);
        mov ebx, eax;
        add ebx, dword_ptr(esi + 60);
        mov ecx, dword_ptr(esi + 64);
        mov al, 0;
        label ".sum";
        test ecx, ecx;
        jz ".store";
        sub al, byte_ptr(ebx);
        inc ebx;
        dec ecx;
        jmp ".sum";
        label ".store";
        add byte_ptr(edi), al;
        label ".ret";
        ret;
    }
    Ok(())
}

fn smbios(s: &mut Section) -> Emit {
    code! { s;
        // `etc/smbios/smbios-anchor` goes to the F segment, `etc/smbios/smbios-tables` to high memory; the anchor is
        // corrected. Version 3 anchors have their length at byte 6 and the address at 16, older ones at 5 and 24.
        proc "load_smbios";
        cmp var8(ebda::SHADOWED), 0;
        je ".ret";
        offset32 esi, "name_smbios_tables";
        call "fw_find";
        test eax, eax;
        jz ".ret";
        mov edi, var(ebda::HIGH_TABLES);
        push edi;
        call "fw_select";
        call "fw_read";
        add edi, 15;
        and edi, -16;
        mov var(ebda::HIGH_TABLES), edi;
        offset32 esi, "name_smbios_anchor";
        call "fw_find";
        test eax, eax;
        pop ebx;
        jz ".ret";
        push ebx;
        mov edi, var(ebda::LOW_TABLES);
        push edi;
        call "fw_select";
        call "fw_read";
        add edi, 15;
        and edi, -16;
        mov var(ebda::LOW_TABLES), edi;
        pop edi;
        pop ebx;
        movzx ecx, byte_ptr(edi + 6);
        cmp byte_ptr(edi + 3), b'3' as i32;
        je ".three";
        mov dword_ptr(edi + 24), ebx;
        lea esi, dword_ptr(edi + 16);
        lea ebx, dword_ptr(edi + 21);
        mov ecx, 15;
        call "store_checksum";
        movzx ecx, byte_ptr(edi + 5);
        lea ebx, dword_ptr(edi + 4);
        mov esi, edi;
        jmp "store_checksum";
        label ".three";
        mov dword_ptr(edi + 16), ebx;
        lea ebx, dword_ptr(edi + 5);
        mov esi, edi;
        jmp "store_checksum";
        label ".ret";
        ret;
        proc "store_checksum"; // ESI: ECX bytes sum up to zero by the byte at EBX
        mov byte_ptr(ebx), 0;
        mov al, 0;
        label ".next";
        sub al, byte_ptr(esi);
        inc esi;
        dec ecx;
        jnz ".next";
        mov byte_ptr(ebx), al;
        ret;
        proc "name_smbios_tables";
        text "etc/smbios/smbios-tables";
        proc "name_smbios_anchor";
        text "etc/smbios/smbios-anchor";
    }
    Ok(())
}
