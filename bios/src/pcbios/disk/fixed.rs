//! INT 13h of fixed disks by cylinder, head and sector (AH=00h-15h).

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;
use crate::pcbios::layout::{bda, drive, ebda, op};

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    services(s)?;
    address(s)?;
    geometry(s)
}

fn services(s: &mut Section) -> Emit {
    code! { s;
        proc "fixed_service"; // SI: entry, AH: function
        select ah, &[
            (0x02, ".read"), (0x03, ".write"), (0x04, ".verify"), (0x08, "fixed_parameters"), (0x00, "disk_ok"),
            (0x01, "last_status"), (0x15, ".type"), (0x05, ".verify"), (0x09, "disk_ok"), (0x0c, "disk_ok"), (0x0d, "disk_ok"),
            (0x10, "disk_ok"), (0x11, "disk_ok"), (0x14, "disk_ok")
        ];
        jmp "invalid";
        label ".read";
        mov al, op::READ;
        jmp ".transfer";
        label ".write";
        mov al, op::WRITE;
        jmp ".transfer";
        label ".verify";
        mov al, op::VERIFY;
        label ".transfer";
        mov byte_ptr(ebda::RQ_OP).fs(), al;
        call "request_chs";
        jc "disk_fail";
        call "transfer";
        mov bl, byte_ptr(ebda::RQ_DONE).fs();
        mov f::al_(), bl;
        jmp "disk_result";
        label ".type"; // 3: a fixed disk, CX:DX: sectors
        mov eax, dword_ptr(si + drive::BLOCKS).fs();
        cmp dword_ptr(si + drive::BLOCKS + 4).fs(), 0;
        je ".small";
        mov eax, -1;
        label ".small";
        mov f::dx_(), ax;
        shr eax, 16;
        mov f::cx_(), ax;
        mov byte_ptr(bda::DISK_STATUS), 0;
        mov f::ah_(), 3;
        jmp "ok";
        proc "last_status";
        mov al, byte_ptr(bda::DISK_STATUS);
        mov f::al_(), al;
        mov f::ah_(), al;
        test al, al;
        jz "ok";
        jmp "fail";
    }
    Ok(())
}

fn address(s: &mut Section) -> Emit {
    code! { s;
        // SI: entry. The frame's CH, CL, DH, AL, ES:BX become the request. CF = 1, AH: status
        proc "request_chs";
        mov bx, word_ptr(si + drive::HEADS).fs();
        mov di, word_ptr(si + drive::SECTORS).fs();
        call "chs_block";
        jc ".bad";
        mov dword_ptr(ebda::RQ_LBA).fs(), eax;
        mov dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        movzx ax, f::al_();
        test al, al;
        jz ".bad";
        mov word_ptr(ebda::RQ_COUNT).fs(), ax;
        mov ax, f::bx_();
        mov word_ptr(ebda::RQ_BUFFER).fs(), ax;
        mov ax, f::es_();
        mov word_ptr(ebda::RQ_SEGMENT).fs(), ax;
        clc;
        ret;
        label ".bad";
        mov ah, status::INVALID;
        stc;
        ret;

        proc "chs_block"; // BX: heads, DI: sectors of a track -> EAX: block of the frame's CH, CL, DH. CF = 1: none
        movzx ecx, f::cl_();
        mov dx, cx;
        and dx, 0xc0;
        shl dx, 2;
        mov dl, f::ch_(); // cylinder
        and cl, 0x3f;
        jz ".bad";
        cmp cx, di;
        ja ".bad";
        dec cx;
        movzx eax, dx;
        movzx ebx, bx;
        movzx edx, f::dh_();
        cmp dx, bx;
        jae ".bad";
        push edx;
        mul ebx;
        pop edx;
        add eax, edx;
        movzx edx, di;
        mul edx;
        add eax, ecx;
        clc;
        ret;
        label ".bad";
        stc;
        ret;
    }
    Ok(())
}

fn geometry(s: &mut Section) -> Emit {
    code! { s;
        proc "fixed_parameters"; // AH=08h
        mov cx, word_ptr(si + drive::CYLINDERS).fs();
        mov bx, word_ptr(si + drive::HEADS).fs();
        mov di, word_ptr(si + drive::SECTORS).fs();
        mov dl, byte_ptr(bda::DISK_COUNT);
        jmp "store_parameters";
        proc "store_parameters"; // CX cylinders, BX heads, DI sectors, DL drives -> the frame
        dec cx;
        xchg cl, ch;
        shl cl, 6;
        mov ax, di;
        and al, 0x3f;
        or cl, al;
        mov f::cx_(), cx;
        dec bx;
        mov f::dh_(), bl;
        mov f::dl_(), dl;
        mov f::al_(), 0;
        jmp "disk_ok";

        // SI: entry; AX, CX, DX: the drive's own cylinders, heads, sectors. Gives it the geometry that
        // programs see: its own if that fits, else 63 sectors and as few heads as keep cylinders at or below 1024.
        proc "choose_geometry";
        test ax, ax;
        jz ".assist";
        cmp ax, 1024;
        ja ".assist";
        cmp dx, 63;
        ja ".assist";
        jcxz ".assist";
        test dx, dx;
        jz ".assist";
        jmp ".store";
        label ".assist";
        mov eax, dword_ptr(si + drive::BLOCKS).fs();
        cmp dword_ptr(si + drive::BLOCKS + 4).fs(), 0;
        je ".fits";
        mov eax, -1;
        label ".fits";
        mov cx, 16;
        label ".heads";
        movzx ebx, cx;
        imul_3 ebx, ebx, 63;
        push eax;
        xor edx, edx;
        div ebx;
        mov ebx, eax;
        pop eax;
        cmp ebx, 1024;
        jbe ".found";
        cmp cx, 255;
        je ".most";
        add cx, cx;
        cmp cx, 256;
        jne ".heads";
        dec cx;
        jmp ".heads";
        label ".most";
        mov ebx, 1024;
        label ".found";
        mov ax, bx;
        mov dx, 63;
        test ax, ax;
        jnz ".store";
        inc ax;
        label ".store";
        mov word_ptr(si + drive::CYLINDERS).fs(), ax;
        mov word_ptr(si + drive::HEADS).fs(), cx;
        mov word_ptr(si + drive::SECTORS).fs(), dx;
        ret;
        proc "parameter_table"; // SI: entry, DI: a table in the EBDA (INT 41h, 46h). Destroys AX
        mov ax, word_ptr(si + drive::CYLINDERS).fs();
        mov word_ptr(di).fs(), ax;
        mov word_ptr(di + 12).fs(), ax;
        mov ax, word_ptr(si + drive::HEADS).fs();
        mov byte_ptr(di + 2).fs(), al;
        mov word_ptr(di + 5).fs(), -1;
        mov ah, 0xc0;
        cmp al, 8;
        jbe ".control";
        or ah, 8;
        label ".control";
        mov byte_ptr(di + 8).fs(), ah;
        mov ax, word_ptr(si + drive::SECTORS).fs();
        mov byte_ptr(di + 14).fs(), al;
        ret;
    }
    Ok(())
}
