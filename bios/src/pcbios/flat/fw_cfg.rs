//! QEMU's firmware configuration device: what the board tells its firmware (ports 510h and 511h).

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::{EBDA, ebda};
use super::{var8, var16};

/// Items with fixed numbers.
mod item {
    pub const SIGNATURE: i32 = 0;
    pub const NO_GRAPHICS: i32 = 4;
    pub const BOOT_MENU: i32 = 0x0e;
    pub const DIRECTORY: i32 = 0x19;
}

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    read(s)?;
    find(s)?;
    settings(s)
}

fn read(s: &mut Section) -> Emit {
    code! { s;
        proc "fw_select"; // AX: item. Destroys DX
        mov dx, 0x510;
        out dx, ax;
        ret;
        proc "fw_read"; // ECX bytes of the item to EDI, which moves. Destroys EDX, ECX
        mov dx, 0x511;
        rep_insb;
        ret;
        proc "fw_read_dword"; // -> EAX. Destroys EDX, ECX
        push 0;
        push edi;
        lea edi, dword_ptr(esp + 4);
        mov ecx, 4;
        call "fw_read";
        pop edi;
        pop eax;
        ret;
        proc "fw_present"; // sets the variable
        mov ax, item::SIGNATURE;
        call "fw_select";
        call "fw_read_dword";
        cmp eax, u32::from_le_bytes(*b"QEMU");
        sete var8(ebda::HAS_FW_CFG);
        ret;
    }
    Ok(())
}

fn find(s: &mut Section) -> Emit {
    code! { s;
        proc "fw_find"; // ESI: name. -> EAX: its item, or 0; ECX: size. Destroys EBX, EDX, EDI
        xor eax, eax;
        cmp var8(ebda::HAS_FW_CFG), 0;
        je ".ret";
        mov eax, item::DIRECTORY;
        call "fw_select";
        call "fw_read_dword";
        bswap eax;
        mov ebx, eax;
        label ".next";
        xor eax, eax;
        test ebx, ebx;
        jz ".ret";
        dec ebx;
        mov edi, EBDA + ebda::SECTOR;
        mov ecx, 64;
        call "fw_read";
        push esi;
        mov edi, EBDA + ebda::SECTOR + 8;
        label ".compare";
        lodsb;
        cmp al, byte_ptr(edi);
        jne ".differs";
        inc edi;
        test al, al;
        jnz ".compare";
        label ".differs";
        pop esi;
        jne ".next";
        movzx eax, word_ptr(EBDA + ebda::SECTOR + 4);
        xchg al, ah;
        mov ecx, dword_ptr(EBDA + ebda::SECTOR);
        bswap ecx;
        label ".ret";
        ret;
    }
    Ok(())
}

fn settings(s: &mut Section) -> Emit {
    code! { s;
        proc "fw_settings"; // serial console and boot menu
        call "fw_present";
        cmp var8(ebda::HAS_FW_CFG), 0;
        je ".ret";
        mov ax, item::BOOT_MENU;
        call "fw_select";
        call "fw_read_dword";
        mov var8(ebda::WANT_MENU), al;
        offset32 esi, "name_sercon";
        call "fw_find";
        test eax, eax;
        jz ".no_file";
        call "fw_select";
        call "fw_read_dword";
        mov var16(ebda::SERIAL_CONSOLE), ax;
        ret;
        label ".no_file";
        mov ax, item::NO_GRAPHICS;
        call "fw_select";
        call "fw_read_dword";
        test ax, ax;
        jz ".ret";
        mov var16(ebda::SERIAL_CONSOLE), 0x3f8;
        label ".ret";
        ret;
        proc "name_sercon";
        text "etc/sercon-port";
    }
    Ok(())
}
