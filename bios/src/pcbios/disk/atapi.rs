//! CD drives: packets by programmed I/O (at AHCI controllers: [`super::ahci`]).

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::layout::{drive, ebda};

/// SCSI operation codes.
mod operation {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const START_STOP: u8 = 0x1b;
    pub const READ_CAPACITY: u8 = 0x25;
    pub const READ: u8 = 0x28;
}

/// Blocks that one packet asks for at most.
const CHUNK: i32 = 16;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    packet(s)?;
    ready(s)?;
    transfer(s)
}

fn packet(s: &mut Section) -> Emit {
    code! { s;
        // SI: entry; the packet is in the EBDA; ECX: bytes that may come, to ES:DI, which moves. CF = 1, AH: status
        proc "packet";
        test byte_ptr(si + drive::FLAGS).fs(), drive::AHCI;
        jnz "ahci_packet";
        call "ata_select";
        mov dx, word_ptr(si + drive::PORT).fs();
        inc dx;
        mov al, 0;
        out dx, al; // no DMA
        add dl, 3;
        out dx, al; // 2048 bytes at a time
        inc dx;
        mov al, 8;
        out dx, al;
        add dl, 2;
        mov al, 0xa0;
        out dx, al;
        call "ata_pause";
        call "ata_wait_data";
        jc ".ret";
        push ecx;
        push si;
        push ds;
        push fs;
        pop ds;
        mov dx, word_ptr(si + drive::PORT).fs();
        mov si, ebda::PACKET;
        mov cx, 6;
        rep_outsw;
        pop ds;
        pop si;
        pop ecx;
        call "ata_pause";
        label ".next";
        call "ata_wait";
        jc ".ret";
        test al, 0x21;
        jnz ".error";
        test al, 8;
        jz ".done";
        // How many bytes now?
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 5;
        in_ al, dx;
        mov ah, al;
        dec dx;
        in_ al, dx;
        sub dl, 4;
        movzx ebx, ax;
        test ebx, ebx;
        jz ".error";
        cmp ebx, ecx;
        jbe ".fits";
        // More than was asked for goes nowhere.
        sub ebx, ecx;
        push ebx;
        mov ebx, ecx;
        call ".take";
        pop ebx;
        xor ecx, ecx;
        shr bx, 1;
        label ".drop";
        test bx, bx;
        jz ".next";
        in_ ax, dx;
        dec bx;
        jmp ".drop";
        label ".fits";
        sub ecx, ebx;
        call ".take";
        call "ata_pause";
        jmp ".next";
        label ".take"; // BX bytes
        push cx;
        mov cx, bx;
        shr cx, 1;
        rep_insw;
        pop cx;
        // DI stays small.
        mov ax, di;
        shr ax, 4;
        and di, 15;
        mov bx, es;
        add bx, ax;
        mov es, bx;
        ret;
        label ".done";
        clc;
        ret;
        label ".error";
        mov ah, status::NOT_READY;
        stc;
        label ".ret";
        ret;
        proc "clear_packet"; // AL: operation. Destroys nothing
        push cx;
        push di;
        mov dword_ptr(ebda::PACKET).fs(), 0;
        mov dword_ptr(ebda::PACKET + 4).fs(), 0;
        mov dword_ptr(ebda::PACKET + 8).fs(), 0;
        mov byte_ptr(ebda::PACKET).fs(), al;
        pop di;
        pop cx;
        ret;
    }
    Ok(())
}

fn ready(s: &mut Section) -> Emit {
    code! { s;
        proc "atapi_ready"; // SI: entry. CF = 0: there is a medium, and the entry knows its size. Destroys much
        mov bx, 5;
        label ".again";
        push bx;
        mov al, operation::TEST_UNIT_READY as u32;
        call "clear_packet";
        xor ecx, ecx;
        call "packet";
        pop bx;
        jnc ".ready";
        push bx;
        mov al, operation::REQUEST_SENSE as u32;
        call "clear_packet";
        mov byte_ptr(ebda::PACKET + 4).fs(), 18;
        call ".to_buffer";
        mov ecx, 18;
        call "packet";
        pop bx;
        // Not present: no more tries.
        cmp byte_ptr(ebda::SECTOR + 12).fs(), 0x3a;
        je ".none";
        dec bx;
        jnz ".again";
        label ".none";
        stc;
        ret;
        label ".ready";
        mov al, operation::READ_CAPACITY as u32;
        call "clear_packet";
        call ".to_buffer";
        mov ecx, 8;
        call "packet";
        jc ".ret";
        mov eax, dword_ptr(ebda::SECTOR).fs();
        bswap eax;
        inc eax;
        mov dword_ptr(si + drive::BLOCKS).fs(), eax;
        clc;
        label ".ret";
        ret;
        label ".to_buffer"; // ES:DI
        push fs;
        pop es;
        mov di, ebda::SECTOR;
        ret;
        proc "atapi_eject"; // SI: entry
        mov al, operation::START_STOP as u32;
        call "clear_packet";
        mov byte_ptr(ebda::PACKET + 4).fs(), 2;
        xor ecx, ecx;
        jmp "packet";
    }
    Ok(())
}

fn transfer(s: &mut Section) -> Emit {
    code! { s;
        proc "atapi_transfer"; // the request, SI: entry
        mov cx, word_ptr(ebda::RQ_COUNT).fs();
        sub cx, word_ptr(ebda::RQ_DONE).fs();
        jz ".done";
        cmp cx, CHUNK;
        jbe ".chunk";
        mov cx, CHUNK;
        label ".chunk";
        mov bx, 3; // tries: the first one after a change of the medium is refused
        label ".try";
        push bx;
        push cx;
        mov al, operation::READ as u32;
        call "clear_packet";
        mov eax, dword_ptr(ebda::RQ_LBA).fs();
        bswap eax;
        mov dword_ptr(ebda::PACKET + 2).fs(), eax;
        mov byte_ptr(ebda::PACKET + 8).fs(), cl;
        les di, ptr(ebda::RQ_BUFFER).fs();
        movzx ecx, cx;
        shl ecx, 11;
        call "packet";
        pop cx;
        pop bx;
        jnc ".read";
        dec bx;
        jnz ".try";
        stc;
        ret;
        label ".read";
        movzx ecx, cx;
        add word_ptr(ebda::RQ_DONE).fs(), cx;
        add dword_ptr(ebda::RQ_LBA).fs(), ecx;
        shl cx, 7;
        add word_ptr(ebda::RQ_SEGMENT).fs(), cx;
        jmp "atapi_transfer";
        label ".done";
        clc;
        ret;
    }
    Ok(())
}
