//! Makes the BIOS area RAM (PAM registers of the 440FX and of Q35), with the ROM's contents in it.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::{IMAGE, IMAGE_LEN, VIDEO_LEN, ebda};
use super::var8;

/// From the image below 1 MiB to the one below 4 GiB.
const TO_TOP: u32 = 0xfff0_0000;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "pam_register"; // -> ESI: configuration address of PAM0, or 0
        mov eax, 0x8000_0000u32;
        call "pci_read";
        mov esi, 0x8000_0059u32;
        cmp eax, 0x1237_8086; // 440FX
        je ".ret";
        mov esi, 0x8000_0090u32;
        cmp eax, 0x29c0_8086; // Q35
        je ".ret";
        xor esi, esi;
        label ".ret";
        ret;
        proc "pam_write"; // ESI: address of a byte register, CL: value
        mov eax, esi;
        call "pci_select";
        mov edx, esi;
        and edx, 3;
        add edx, 0xcfc;
        mov al, cl;
        out dx, al;
        ret;

        proc "shadow"; // continues in the ROM below 4 GiB, because the memory here is about to be exchanged
        offset32 eax, ".high";
        add eax, TO_TOP;
        jmp_through eax;
        label ".high";
        call "pam_register";
        test esi, esi;
        jz ".copied";
        mov cl, 0x30;
        call "pam_write";
        mov bl, 6;
        label ".next";
        inc esi;
        mov cl, 0x33;
        call "pam_write";
        dec bl;
        jnz ".next";
        mov esi, IMAGE + TO_TOP;
        mov edi, IMAGE;
        mov ecx, IMAGE_LEN as u32 / 4;
        cld;
        rep_movsd;
        label ".copied";
        // Is it RAM now?
        offset32 ebx, "shadow_probe";
        mov eax, dword_ptr(ebx);
        not dword_ptr(ebx);
        cmp eax, dword_ptr(ebx);
        setne var8(ebda::SHADOWED);
        mov dword_ptr(ebx), eax;
        // The video BIOS, to its own place.
        mov esi, IMAGE;
        mov edi, 0xc_0000;
        mov ecx, VIDEO_LEN as u32 / 4;
        rep_movsd;
        ret;
        proc "shadow_probe";
        dd &[0x5a0f_f05a];

        proc "lock"; // the BIOS and the video BIOS can be read only, from now on
        call "pam_register";
        test esi, esi;
        jz ".ret";
        mov cl, 0x10;
        call "pam_write";
        inc esi;
        mov cl, 0x11; // C0000-C7FFF
        call "pam_write";
        add esi, 4;
        mov cl, 0x11; // E0000-E7FFF
        call "pam_write";
        inc esi;
        mov cl, 0x11; // E8000-EFFFF
        call "pam_write";
        label ".ret";
        ret;
    }
    Ok(())
}
