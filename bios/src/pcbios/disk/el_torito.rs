//! Booting from CDs (El Torito 1.0): without emulation, or with an image that appears as a diskette or a disk.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;
use crate::pcbios::layout::{ebda, op};

/// Offsets in the boot catalogue's initial entry.
mod entry {
    use crate::pcbios::layout::ebda::SECTOR;
    pub const BOOTABLE: i32 = SECTOR + 0x20;
    pub const MEDIA: i32 = SECTOR + 0x21;
    pub const SEGMENT: i32 = SECTOR + 0x22;
    pub const COUNT: i32 = SECTOR + 0x26;
    pub const LBA: i32 = SECTOR + 0x28;
}

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    boot(s)?;
    load(s)?;
    geometry(s)?;
    status_packet(s)?;
    emulated(s)?;
    emulated_read(s)
}

fn boot(s: &mut Section) -> Emit {
    code! { s;
        proc "cd_block"; // EAX: block of the drive in RQ_DRIVE -> the sector buffer. CF = 1: cannot be read
        mov dword_ptr(ebda::RQ_LBA).fs(), eax;
        mov word_ptr(ebda::RQ_COUNT).fs(), 1;
        mov word_ptr(ebda::RQ_BUFFER).fs(), ebda::SECTOR;
        mov word_ptr(ebda::RQ_SEGMENT).fs(), fs;
        mov dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        mov byte_ptr(ebda::RQ_OP).fs(), op::READ;
        jmp "transfer";

        // BL: number of the CD (0: E0h). CF = 0: loaded; DL: drive to boot from, ES:0: what has been loaded.
        // CF = 1: SI: why not
        proc "el_torito";
        mov byte_ptr(ebda::ET_CD).fs(), bl;
        movzx bx, bl;
        movzx ax, byte_ptr(bx + ebda::CD_MAP).fs();
        call "drive_entry";
        mov word_ptr(ebda::RQ_DRIVE).fs(), si;
        call "atapi_ready";
        offset si, "et_no_medium";
        jc ".fail";
        mov eax, 17;
        call "cd_block";
        offset si, "et_unreadable";
        jc ".fail";
        offset si, "et_not_bootable";
        cmp dword_ptr(ebda::SECTOR).fs(), u32::from_le_bytes(*b"\0CD0");
        jne ".fail";
        cmp dword_ptr(ebda::SECTOR + 7).fs(), u32::from_le_bytes(*b"EL T");
        jne ".fail";
        mov eax, dword_ptr(ebda::SECTOR + 0x47).fs();
        call "cd_block";
        offset si, "et_unreadable";
        jc ".fail";
        offset si, "et_not_bootable";
        cmp byte_ptr(ebda::SECTOR).fs(), 1;
        jne ".fail";
        cmp word_ptr(ebda::SECTOR + 0x1e).fs(), 0xaa55u32;
        jne ".fail";
        offset si, "et_other_platform";
        cmp byte_ptr(ebda::SECTOR + 1).fs(), 0;
        jne ".fail";
        offset si, "et_not_bootable";
        cmp byte_ptr(entry::BOOTABLE).fs(), 0x88;
        jne ".fail";
        jmp "et_load";
        label ".fail";
        stc;
        ret;
        proc "et_no_medium";
        text "no disc in the drive";
        proc "et_unreadable";
        text "the disc cannot be read";
        proc "et_not_bootable";
        text "the disc is not bootable (no El Torito boot record)";
        proc "et_other_platform";
        text "the disc boots other machines only (El Torito platform is not 80x86)";
    }
    Ok(())
}

fn load(s: &mut Section) -> Emit {
    code! { s;
        proc "et_load"; // the initial entry is in the sector buffer
        mov al, byte_ptr(entry::MEDIA).fs();
        and al, 0x0f;
        mov byte_ptr(ebda::ET_MEDIA).fs(), 0;
        push ax;
        mov eax, dword_ptr(entry::LBA).fs();
        mov dword_ptr(ebda::ET_LBA).fs(), eax;
        mov ax, word_ptr(entry::SEGMENT).fs();
        test ax, ax;
        jnz ".segment";
        mov ax, 0x07c0;
        label ".segment";
        mov word_ptr(ebda::ET_SEGMENT).fs(), ax;
        mov ax, word_ptr(entry::COUNT).fs();
        test ax, ax;
        jnz ".count";
        inc ax;
        label ".count";
        mov word_ptr(ebda::ET_COUNT).fs(), ax;
        // Whole blocks: 512-byte sectors are what is counted.
        add ax, 3;
        shr ax, 2;
        mov word_ptr(ebda::RQ_COUNT).fs(), ax;
        mov eax, dword_ptr(ebda::ET_LBA).fs();
        mov dword_ptr(ebda::RQ_LBA).fs(), eax;
        mov word_ptr(ebda::RQ_BUFFER).fs(), 0;
        mov ax, word_ptr(ebda::ET_SEGMENT).fs();
        mov word_ptr(ebda::RQ_SEGMENT).fs(), ax;
        call "transfer";
        pop ax;
        offset si, "et_unreadable";
        jc ".ret";
        mov byte_ptr(ebda::ET_ACTIVE).fs(), 1;
        mov dl, byte_ptr(ebda::ET_CD).fs();
        add dl, 0xe0;
        cmp al, 0;
        je ".loaded";
        call "et_geometry";
        mov dl, byte_ptr(ebda::ET_DRIVE).fs();
        label ".loaded";
        mov byte_ptr(ebda::ET_MEDIA).fs(), al;
        cmp al, 0;
        jne ".emulated";
        mov byte_ptr(ebda::ET_DRIVE).fs(), dl;
        label ".emulated";
        mov es, word_ptr(ebda::ET_SEGMENT).fs();
        clc;
        label ".ret";
        ret;
    }
    Ok(())
}

fn geometry(s: &mut Section) -> Emit {
    code! { s;
        proc "et_geometry"; // AL: media type. Keeps AL
        mov byte_ptr(ebda::ET_DRIVE).fs(), 0;
        mov word_ptr(ebda::ET_CYLINDERS).fs(), 80;
        mov word_ptr(ebda::ET_HEADS).fs(), 2;
        mov cx, 15;
        cmp al, 1;
        je ".sectors";
        mov cx, 18;
        cmp al, 2;
        je ".sectors";
        mov cx, 36;
        cmp al, 3;
        je ".sectors";
        // A disk: by the end of the first partition.
        mov byte_ptr(ebda::ET_DRIVE).fs(), 0x80;
        mov es, word_ptr(ebda::ET_SEGMENT).fs();
        mov dl, byte_ptr(0x1be + 5).es();
        mov dh, 0;
        inc dx;
        mov word_ptr(ebda::ET_HEADS).fs(), dx;
        mov cx, word_ptr(0x1be + 6).es();
        mov dx, cx;
        xchg dl, dh;
        shr dh, 6;
        inc dx;
        mov word_ptr(ebda::ET_CYLINDERS).fs(), dx;
        and cx, 0x3f;
        label ".sectors";
        mov word_ptr(ebda::ET_SECTORS).fs(), cx;
        ret;
    }
    Ok(())
}

fn status_packet(s: &mut Section) -> Emit {
    code! { s;
        proc "et_status"; // AH=4Bh, AL: 0 ends the emulation, 1 only tells; the packet goes to DS:SI
        cmp byte_ptr(ebda::ET_ACTIVE).fs(), 0;
        je "invalid";
        cmp f::al_(), 1;
        ja "invalid";
        mov es, f::ds_();
        mov di, f::si_();
        mov al, 0x13;
        stosb;
        mov al, byte_ptr(ebda::ET_MEDIA).fs();
        stosb;
        mov al, byte_ptr(ebda::ET_DRIVE).fs();
        stosb;
        mov al, 0;
        stosb;
        mov eax, dword_ptr(ebda::ET_LBA).fs();
        stosd;
        xor ax, ax;
        stosw;
        stosw;
        mov ax, word_ptr(ebda::ET_SEGMENT).fs();
        stosw;
        mov ax, word_ptr(ebda::ET_COUNT).fs();
        stosw;
        mov cx, word_ptr(ebda::ET_CYLINDERS).fs();
        jcxz ".geometry";
        dec cx;
        label ".geometry";
        xchg cl, ch;
        shl cl, 6;
        or cl, byte_ptr(ebda::ET_SECTORS).fs();
        mov ax, cx;
        xchg al, ah;
        mov byte_ptr(di).es(), ah;
        mov byte_ptr(di + 1).es(), al;
        mov al, byte_ptr(ebda::ET_HEADS).fs();
        mov byte_ptr(di + 2).es(), al;
        cmp f::al_(), 0;
        jne "disk_ok";
        mov byte_ptr(ebda::ET_MEDIA).fs(), 0;
        jmp "disk_ok";
    }
    Ok(())
}

fn emulated(s: &mut Section) -> Emit {
    code! { s;
        proc "emulated_service"; // INT 13h of the emulated medium
        mov ah, f::ah_();
        select ah, &[
            (0x02, ".read"), (0x04, ".read"), (0x08, ".parameters"), (0x00, "disk_ok"), (0x01, "last_status"), (0x15, ".type"),
            (0x0c, "disk_ok"), (0x0d, "disk_ok"), (0x10, "disk_ok"), (0x11, "disk_ok"), (0x16, "disk_ok"), (0x03, ".protected")
        ];
        jmp "invalid";
        label ".protected";
        mov ah, status::WRITE_PROTECTED;
        jmp "disk_fail";
        label ".read";
        mov bx, word_ptr(ebda::ET_HEADS).fs();
        mov di, word_ptr(ebda::ET_SECTORS).fs();
        call "chs_block";
        jc "invalid";
        cmp f::ah_(), 4;
        je "disk_ok";
        call "emulated_read";
        jmp "disk_result";
        label ".parameters";
        mov cx, word_ptr(ebda::ET_CYLINDERS).fs();
        mov bx, word_ptr(ebda::ET_HEADS).fs();
        mov di, word_ptr(ebda::ET_SECTORS).fs();
        mov dl, 1;
        cmp byte_ptr(ebda::ET_DRIVE).fs(), 0;
        jne ".disk";
        mov al, byte_ptr(ebda::ET_MEDIA).fs();
        add al, al;
        mov f::bx_(), ax;
        mov f::bh_(), 0;
        offset ax, "diskette_parameters";
        mov f::di_(), ax;
        mov f::es_(), cs;
        jmp "store_parameters";
        label ".disk";
        mov dl, byte_ptr(0x75); // one more than there really are
        inc dl;
        jmp "store_parameters";
        label ".type";
        mov al, byte_ptr(ebda::ET_DRIVE).fs();
        shr al, 7;
        add al, 1;
        jz ".fixed";
        mov f::ah_(), al;
        cmp al, 1;
        je "ok";
        label ".fixed";
        mov f::ah_(), 3;
        mov ax, word_ptr(ebda::ET_HEADS).fs();
        mul word_ptr(ebda::ET_SECTORS).fs();
        mul word_ptr(ebda::ET_CYLINDERS).fs();
        mov f::cx_(), dx;
        mov f::dx_(), ax;
        jmp "ok";
    }
    Ok(())
}

fn emulated_read(s: &mut Section) -> Emit {
    code! { s;
        proc "emulated_read"; // EAX: first 512-byte sector; count and buffer in the frame. CF = 1, AH: status
        mov dword_ptr(ebda::ET_NEXT).fs(), eax;
        movzx ax, f::al_();
        mov word_ptr(ebda::ET_LEFT).fs(), ax;
        mov ax, f::bx_();
        mov bx, ax;
        and ax, 15;
        mov word_ptr(ebda::ET_TO_OFFSET).fs(), ax;
        shr bx, 4;
        add bx, f::es_();
        mov word_ptr(ebda::ET_TO).fs(), bx;
        // The drive behind it.
        movzx bx, byte_ptr(ebda::ET_CD).fs();
        movzx ax, byte_ptr(bx + ebda::CD_MAP).fs();
        call "drive_entry";
        mov word_ptr(ebda::RQ_DRIVE).fs(), si;
        label ".next";
        mov cx, word_ptr(ebda::ET_LEFT).fs();
        jcxz ".done";
        mov eax, dword_ptr(ebda::ET_NEXT).fs();
        mov bx, ax;
        shr eax, 2;
        add eax, dword_ptr(ebda::ET_LBA).fs();
        and bx, 3;
        jnz ".single";
        cmp cx, 4;
        jb ".single";
        // Whole blocks go where they belong.
        shr cx, 2;
        mov dword_ptr(ebda::RQ_LBA).fs(), eax;
        mov word_ptr(ebda::RQ_COUNT).fs(), cx;
        mov ax, word_ptr(ebda::ET_TO_OFFSET).fs();
        mov word_ptr(ebda::RQ_BUFFER).fs(), ax;
        mov ax, word_ptr(ebda::ET_TO).fs();
        mov word_ptr(ebda::RQ_SEGMENT).fs(), ax;
        mov dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        mov byte_ptr(ebda::RQ_OP).fs(), op::READ;
        push cx;
        call "transfer";
        pop cx;
        jc ".ret";
        shl cx, 2;
        jmp ".moved";
        label ".single";
        push bx;
        call "cd_block";
        pop bx;
        jc ".ret";
        push ds;
        mov es, word_ptr(ebda::ET_TO).fs();
        mov di, word_ptr(ebda::ET_TO_OFFSET).fs();
        mov si, bx;
        shl si, 9;
        add si, ebda::SECTOR;
        push fs;
        pop ds;
        mov cx, 256;
        rep_movsw;
        pop ds;
        mov cx, 1;
        label ".moved"; // CX sectors
        sub word_ptr(ebda::ET_LEFT).fs(), cx;
        movzx ecx, cx;
        add dword_ptr(ebda::ET_NEXT).fs(), ecx;
        shl cx, 5;
        add word_ptr(ebda::ET_TO).fs(), cx;
        jmp ".next";
        label ".done";
        clc;
        label ".ret";
        ret;
    }
    Ok(())
}
