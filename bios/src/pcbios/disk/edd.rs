//! Enhanced disk drive services: INT 13h AH=41h-4Eh, by block number.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;
use crate::pcbios::layout::{drive, ebda, kind, op};

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "extended_service"; // SI: entry, AH: function
        select ah, &[
            (0x42, ".read"), (0x43, ".write"), (0x44, ".verify"), (0x41, ".present"), (0x48, "edd_parameters"), (0x47, "disk_ok"),
            (0x4b, "et_status"), (0x4e, "disk_ok")
        ];
        cmp byte_ptr(si + drive::KIND).fs(), kind::ATAPI;
        jne "invalid";
        select ah, &[(0x45, ".lock"), (0x46, ".eject"), (0x49, "disk_ok")];
        jmp "invalid";
        label ".present";
        cmp f::bx_(), 0x55aa;
        jne "invalid";
        mov f::bx_(), 0xaa55u32;
        mov f::cx_(), 7; // block access, removable media, EDD
        mov f::ah_(), 0x30; // 3.0
        jmp "ok";
        label ".read";
        mov al, op::READ;
        jmp ".transfer";
        label ".write";
        cmp byte_ptr(si + drive::KIND).fs(), kind::ATAPI;
        je ".protected";
        mov al, op::WRITE;
        jmp ".transfer";
        label ".verify";
        mov al, op::VERIFY;
        label ".transfer";
        mov byte_ptr(ebda::RQ_OP).fs(), al;
        call "request_packet";
        jc "disk_fail";
        call "transfer";
        // The packet tells how many blocks were moved.
        pushf;
        push ax;
        mov es, f::ds_();
        mov di, f::si_();
        mov ax, word_ptr(ebda::RQ_DONE).fs();
        mov word_ptr(di + 2).es(), ax;
        pop ax;
        popf;
        jmp "disk_result";
        label ".protected";
        mov ah, status::WRITE_PROTECTED;
        jmp "disk_fail";
        label ".lock"; // locks are not kept: tells "unlocked"
        mov f::al_(), 0;
        jmp "disk_ok";
        label ".eject";
        call "atapi_eject";
        jmp "disk_result";

        proc "request_packet"; // the packet at the frame's DS:SI becomes the request. CF = 1, AH: status
        mov es, f::ds_();
        mov di, f::si_();
        cmp byte_ptr(di).es(), 16;
        jb ".bad";
        mov eax, dword_ptr(di + 8).es();
        mov dword_ptr(ebda::RQ_LBA).fs(), eax;
        mov eax, dword_ptr(di + 12).es();
        mov dword_ptr(ebda::RQ_LBA + 4).fs(), eax;
        mov ax, word_ptr(di + 2).es();
        mov word_ptr(ebda::RQ_COUNT).fs(), ax;
        mov eax, dword_ptr(di + 4).es();
        cmp eax, -1;
        jne ".far";
        // A flat address is good if it is one of real mode.
        cmp byte_ptr(di).es(), 24;
        jb ".bad";
        mov eax, dword_ptr(di + 16).es();
        cmp eax, 0xf_ffff;
        ja ".bad";
        shl eax, 12;
        shr ax, 12;
        label ".far";
        mov dword_ptr(ebda::RQ_BUFFER).fs(), eax;
        clc;
        ret;
        label ".bad";
        mov ah, status::INVALID;
        stc;
        ret;

        proc "edd_parameters"; // AH=48h, to DS:SI
        mov es, f::ds_();
        mov di, f::si_();
        cmp word_ptr(di).es(), 26;
        jb "invalid";
        mov dx, 26;
        cmp word_ptr(di).es(), 30;
        jb ".size";
        mov dx, 30;
        mov dword_ptr(di + 26).es(), -1; // no further table
        label ".size";
        mov word_ptr(di).es(), dx;
        xor eax, eax;
        mov cx, 2; // the geometry is valid
        cmp byte_ptr(si + drive::KIND).fs(), kind::ATAPI;
        jne ".disk";
        mov cx, 0x0074; // removable, change line, lockable, geometry is not valid
        label ".disk";
        mov word_ptr(di + 2).es(), cx;
        mov ax, word_ptr(si + drive::CYLINDERS).fs();
        mov dword_ptr(di + 4).es(), eax;
        mov ax, word_ptr(si + drive::HEADS).fs();
        mov dword_ptr(di + 8).es(), eax;
        mov ax, word_ptr(si + drive::SECTORS).fs();
        mov dword_ptr(di + 12).es(), eax;
        mov eax, dword_ptr(si + drive::BLOCKS).fs();
        mov dword_ptr(di + 16).es(), eax;
        mov eax, dword_ptr(si + drive::BLOCKS + 4).fs();
        mov dword_ptr(di + 20).es(), eax;
        mov ax, word_ptr(si + drive::BLOCK).fs();
        mov word_ptr(di + 24).es(), ax;
        jmp "disk_ok";
    }
    Ok(())
}
