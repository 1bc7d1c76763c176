//! INT 13h: which drive is meant, and what all drives have in common.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;
use crate::pcbios::layout::{bda, drive, ebda, kind};

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    f::service(s, "int13", "disk_service")?;
    code! { s;
        proc "disk_service";
        sti;
        mov dl, f::dl_();
        // A medium that a CD emulates, and the drives that make place for it.
        cmp byte_ptr(ebda::ET_MEDIA).fs(), 0;
        je ".real";
        mov ax, f::ax_();
        cmp ah, 0x4b;
        je "et_status";
        mov al, byte_ptr(ebda::ET_DRIVE).fs();
        cmp dl, al;
        je "emulated_service";
        jb ".real";
        xor al, dl;
        js ".real"; // the other sort
        dec dl;
        label ".real";
        test dl, 0x80;
        jz "floppy_service";
        movzx bx, dl;
        cmp dl, 0xe0;
        jae ".cd";
        sub bl, 0x80;
        cmp bl, 8;
        jae "invalid";
        add bx, ebda::DISK_MAP;
        jmp ".mapped";
        label ".cd";
        sub bl, 0xe0;
        cmp bl, 8;
        jae "invalid";
        add bx, ebda::CD_MAP;
        label ".mapped";
        movzx ax, byte_ptr(bx).fs();
        call "drive_entry";
        jc "invalid";
        mov word_ptr(ebda::RQ_DRIVE).fs(), si;
        mov ah, f::ah_();
        cmp ah, 0x41;
        jae "extended_service";
        cmp byte_ptr(si + drive::KIND).fs(), kind::ATAPI;
        je ".cd_old";
        jmp "fixed_service";
        label ".cd_old"; // a CD has the extensions only
        cmp ah, 0;
        je "disk_ok";
        jmp "invalid";

        proc "new_drive"; // -> SI: the entry after the last drive's; AX is changed. CF = 1: there is room for none
        movzx ax, byte_ptr(ebda::DRIVE_COUNT).fs();
        cmp al, drive::MAX;
        cmc;
        jc ".ret";
        inc ax;
        jmp "drive_entry";
        label ".ret";
        ret;

        proc "drive_entry"; // AX: number of a drive + 1 -> SI: its entry; CF = 1: AX is 0
        sub ax, 1;
        jc ".ret";
        imul_3 si, ax, drive::SIZE;
        add si, ebda::DRIVES;
        clc;
        label ".ret";
        ret;

        // How services end: AH in the frame, the carry flag, and the status byte.
        proc "disk_ok";
        mov byte_ptr(bda::DISK_STATUS), 0;
        jmp "ok_ah0";
        proc "invalid";
        mov ah, status::INVALID;
        jmp "disk_fail";
        proc "disk_fail"; // AH: status
        mov f::ah_(), ah;
        mov byte_ptr(bda::DISK_STATUS), ah;
        jmp "fail";
        proc "disk_result"; // CF and AH
        jc "disk_fail";
        jmp "disk_ok";

        proc "transfer"; // the request. CF = 1: AH is the status. Destroys all but BP
        mov word_ptr(ebda::RQ_DONE).fs(), 0;
        // The buffer's offset becomes small, so that only the segment moves on.
        mov ax, word_ptr(ebda::RQ_BUFFER).fs();
        mov bx, ax;
        shr bx, 4;
        and ax, 15;
        add word_ptr(ebda::RQ_SEGMENT).fs(), bx;
        mov word_ptr(ebda::RQ_BUFFER).fs(), ax;
        mov si, word_ptr(ebda::RQ_DRIVE).fs();
        // Inside the drive?
        movzx eax, word_ptr(ebda::RQ_COUNT).fs();
        xor edx, edx;
        add eax, dword_ptr(ebda::RQ_LBA).fs();
        adc edx, dword_ptr(ebda::RQ_LBA + 4).fs();
        jc ".outside";
        cmp edx, dword_ptr(si + drive::BLOCKS + 4).fs();
        ja ".outside";
        jb ".inside";
        cmp eax, dword_ptr(si + drive::BLOCKS).fs();
        jbe ".inside";
        label ".outside";
        mov ah, status::NOT_FOUND;
        stc;
        ret;
        label ".inside";
        mov al, byte_ptr(ebda::RQ_BUFFER).fs();
        test byte_ptr(si + drive::FLAGS).fs(), drive::DWORDS;
        jz ".words";
        test al, 3;
        jnz "bounced_transfer";
        label ".words";
        test byte_ptr(si + drive::FLAGS).fs(), drive::AHCI;
        jz "drive_transfer";
        test al, 1;
        jnz "bounced_transfer";
        proc "drive_transfer"; // SI: entry, the request without its checks
        mov al, byte_ptr(si + drive::KIND).fs();
        select al, &[
            (kind::ATA, "ata_transfer"), (kind::ATAPI, "atapi_transfer"), (kind::VIRTIO, "virtio_transfer"),
            (kind::NVME, "nvme_transfer")
        ];
        mov ah, status::INVALID;
        stc;
        ret;
    }
    Ok(())
}
