//! What this board's chips need: interrupt routing, power management, IDE, PCI Express configuration space.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::{EBDA, ebda};
use super::{var, var8, var16};

/// Power management ports.
const PM_BASE: i32 = 0x600;
/// System management bus ports.
const SMB_BASE: i32 = 0x700;
/// PCI Express configuration space of Q35.
const ECAM: u32 = 0xb000_0000;
/// Root complex registers of the ICH9.
const RCBA: u32 = 0xfed1_c000;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "chipset_function"; // EAX: identity, EBX: function. Keeps EBX
        cmp eax, 0x7000_8086; // PIIX3 ISA bridge
        je ".piix_isa";
        cmp eax, 0x7110_8086; // PIIX4 ISA bridge
        je ".piix_isa";
        cmp eax, 0x7010_8086; // PIIX3 IDE
        je ".piix_ide";
        cmp eax, 0x7111_8086; // PIIX4 IDE
        je ".piix_ide";
        cmp eax, 0x7113_8086; // PIIX4 power management
        je ".piix_pm";
        cmp eax, 0x29c0_8086; // Q35 host bridge
        je ".q35";
        cmp eax, 0x2918_8086; // ICH9 LPC
        je ".lpc";
        ret;
        label ".piix_isa";
        mov ecx, 0x0b0b_0a0a; // PIRQ A-D to 10, 10, 11, 11
        mov eax, 0x60;
        call "cfg_write";
        jmp "level_triggers";
        label ".piix_ide";
        mov ecx, 0x8000_8000u32; // both channels decoded
        mov eax, 0x40;
        jmp "cfg_write";
        label ".piix_pm";
        mov ecx, PM_BASE | 1;
        mov eax, 0x40;
        call "cfg_write";
        mov ecx, 1; // PMREGMISC: ports on
        mov eax, 0x80;
        call "cfg_write";
        mov ecx, SMB_BASE | 1;
        mov eax, 0x90;
        call "cfg_write";
        mov eax, 0xd0;
        call "cfg_read";
        mov ecx, eax;
        or ecx, 0x0009_0000; // SMBus on
        mov eax, 0xd0;
        call "cfg_write";
        mov var16(ebda::PM_BASE), PM_BASE;
        mov var16(ebda::SLEEP_OFF), 0x2000; // soft off is SLP_TYP 0
        ret;
        label ".q35";
        mov var8(ebda::IS_Q35), 1;
        xor ecx, ecx;
        mov eax, 0x64;
        call "cfg_write";
        mov ecx, ECAM | 1;
        mov eax, 0x60;
        call "cfg_write";
        mov var(ebda::ECAM), ECAM;
        ret;
        label ".lpc";
        mov ecx, 0x0b0b_0a0a;
        mov eax, 0x60;
        call "cfg_write";
        mov ecx, 0x0b0b_0a0a;
        mov eax, 0x68;
        call "cfg_write";
        mov ecx, PM_BASE | 1;
        mov eax, 0x40;
        call "cfg_write";
        mov ecx, 0x80; // ACPI ports on
        mov eax, 0x44;
        call "cfg_write";
        mov ecx, RCBA | 1;
        mov eax, 0xf0;
        call "cfg_write";
        mov var16(ebda::PM_BASE), PM_BASE;
        mov var16(ebda::SLEEP_OFF), 0x2000; // QEMU's: SLP_TYP 0
        jmp "level_triggers";
        proc "ide_function"; // EBX: function, with its addresses: the disks' DMA. -> EAX: command bits that it needs
        mov eax, 8;
        call "cfg_read";
        shr eax, 16;
        cmp ax, 0x0101;
        mov eax, 0;
        jne ".ret";
        mov eax, 0x20;
        call "cfg_read";
        and eax, 0xfffc;
        mov var16(ebda::BUS_MASTER), ax;
        mov eax, 4;
        label ".ret";
        ret;
        proc "ahci_function"; // EBX: function, with its addresses. -> EAX: command bits that it needs
        mov eax, 8;
        call "cfg_read";
        shr eax, 8;
        cmp eax, 0x01_0601;
        mov eax, 0;
        jne ".ret";
        cmp var8(ebda::AHCI_COUNT), ebda::AHCI_MAX;
        jae ".ret";
        // The capability that tells where the index-data pair is.
        mov eax, 0x34;
        call "cfg_read";
        mov edi, 48;
        label ".next";
        and eax, 0xfc;
        jz ".ret";
        mov esi, eax;
        call "cfg_read";
        cmp al, 0x12;
        je ".found";
        shr eax, 8;
        dec edi;
        jnz ".next";
        label ".none";
        xor eax, eax;
        ret;
        label ".found";
        lea eax, dword_ptr(esi + 4);
        call "cfg_read";
        mov ecx, eax;
        and eax, 0x0f; // the base address register: 4 is the first
        shl eax, 2;
        cmp eax, 0x10;
        jb ".none";
        cmp eax, 0x24;
        ja ".none";
        call "cfg_read";
        test al, 1;
        jz ".none"; // not ports
        and eax, 0xfffc;
        shr ecx, 4;
        lea eax, dword_ptr(eax + ecx * 4);
        movzx edx, var8(ebda::AHCI_COUNT);
        mov word_ptr(EBDA + ebda::AHCI_PORTS + edx * 2), ax;
        mov eax, ebx;
        shr eax, 8;
        mov word_ptr(EBDA + ebda::AHCI_FUNCTIONS + edx * 2), ax;
        inc var8(ebda::AHCI_COUNT);
        mov eax, 4; // it masters the bus
        label ".ret";
        ret;
        proc "level_triggers"; // interrupts 9 (power management), 10 and 11 (PCI)
        mov dx, 0x4d0;
        mov al, 0;
        out dx, al;
        inc dx;
        mov al, 0x0e;
        out dx, al;
        ret;
    }
    Ok(())
}
