//! ATA disks on the two legacy channels, by bus master DMA ([`super::dma`]) or programmed I/O.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::layout::{bda, drive, ebda, kind, op};

/// Commands.
mod command {
    pub const READ: u8 = 0x20;
    pub const READ_EXT: u8 = 0x24;
    pub const READ_DMA: u8 = 0xc8;
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const WRITE: u8 = 0x30;
    pub const WRITE_EXT: u8 = 0x34;
    pub const WRITE_DMA: u8 = 0xca;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const VERIFY: u8 = 0x40;
    pub const VERIFY_EXT: u8 = 0x42;
    pub const FLUSH: i32 = 0xe7;
    pub const IDENTIFY: i32 = 0xec;
    pub const IDENTIFY_PACKET: i32 = 0xa1;
}

/// Blocks that one command moves at most.
const CHUNK: i32 = 128;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    detect(s)?;
    identify(s)?;
    describe(s)?;
    wait(s)?;
    transfer(s)?;
    issue(s)
}

fn detect(s: &mut Section) -> Emit {
    code! { s;
        proc "detect_ata"; // both channels, both units
        mov dx, 0x1f0;
        mov bx, 0x3f6;
        call ".channel";
        mov dx, 0x170;
        mov bx, 0x376;
        label ".channel"; // DX: command block, BX: control
        add dl, 7;
        in_ al, dx;
        sub dl, 7;
        cmp al, -1;
        je ".ret"; // nothing drives the bus
        // Software reset, interrupts off: we look at the status ourselves.
        xchg dx, bx;
        mov al, 0x0e;
        out dx, al;
        mov cx, 1;
        call "milliseconds";
        mov al, 0x0a;
        out dx, al;
        mov cx, 2;
        call "milliseconds";
        xchg dx, bx;
        mov cl, 0xe0;
        call ".unit";
        mov cl, 0xf0;
        label ".unit";
        pusha;
        call "new_drive";
        jc ".none";
        mov byte_ptr(si + drive::UNIT).fs(), cl;
        mov word_ptr(si + drive::PORT).fs(), dx;
        mov word_ptr(si + drive::CONTROL).fs(), bx;
        call "identify";
        jc ".none";
        call "describe_drive";
        label ".none";
        popa;
        label ".ret";
        ret;
    }
    Ok(())
}

fn identify(s: &mut Section) -> Emit {
    code! { s;
        proc "identify"; // SI: entry -> its kind, and 512 bytes in the sector buffer. CF = 1: nothing there
        call "ata_select";
        // Registers that keep what is written, where there is a drive.
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 2;
        mov al, 0x55;
        out dx, al;
        inc dx;
        mov al, 0xaa;
        out dx, al;
        dec dx;
        in_ al, dx;
        cmp al, 0x55;
        jne ".none";
        mov byte_ptr(si + drive::KIND).fs(), kind::ATA;
        mov al, command::IDENTIFY;
        call ".command";
        jnc ".ok";
        // Refused: a packet device?
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 4;
        in_ al, dx;
        cmp al, 0x14;
        jne ".none";
        inc dx;
        in_ al, dx;
        cmp al, 0xeb;
        jne ".none";
        mov byte_ptr(si + drive::KIND).fs(), kind::ATAPI;
        mov al, command::IDENTIFY_PACKET;
        call ".command";
        jnc ".ok";
        label ".none";
        mov byte_ptr(si + drive::KIND).fs(), 0;
        stc;
        ret;
        label ".ok";
        clc;
        ret;
        label ".command"; // AL
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 7;
        out dx, al;
        call "ata_pause";
        in_ al, dx;
        test al, al;
        jz ".absent";
        call "ata_wait_data";
        jc ".ret";
        push fs;
        pop es;
        mov di, ebda::SECTOR;
        mov dx, word_ptr(si + drive::PORT).fs();
        mov cx, 256;
        rep_insw;
        clc;
        label ".ret";
        ret;
        label ".absent";
        stc;
        ret;
    }
    Ok(())
}

fn describe(s: &mut Section) -> Emit {
    code! { s;
        proc "describe_drive"; // SI: entry, with the answer to IDENTIFY in the sector buffer
        mov al, byte_ptr(ebda::DRIVE_COUNT).fs();
        inc byte_ptr(ebda::DRIVE_COUNT).fs();
        // The name: 40 characters, bytes swapped; 31 are kept.
        push si;
        movzx di, al;
        shl di, 5;
        add di, ebda::NAMES;
        mov si, ebda::SECTOR + 54;
        mov cx, 15;
        label ".name";
        mov ax, word_ptr(si).fs();
        xchg al, ah;
        mov word_ptr(di).fs(), ax;
        add si, 2;
        add di, 2;
        dec cx;
        jnz ".name";
        mov byte_ptr(di).fs(), 0;
        mov cx, 30;
        label ".trim"; // blanks at the end
        dec di;
        cmp byte_ptr(di).fs(), 0x20;
        jne ".trimmed";
        mov byte_ptr(di).fs(), 0;
        dec cx;
        jnz ".trim";
        label ".trimmed";
        pop si;
        cmp byte_ptr(si + drive::KIND).fs(), kind::ATAPI;
        je ".cd";
        mov word_ptr(si + drive::BLOCK).fs(), 512;
        mov eax, dword_ptr(ebda::SECTOR + 120).fs();
        xor edx, edx;
        test byte_ptr(ebda::SECTOR + 167).fs(), 4; // 48-bit addresses
        jz ".size";
        or byte_ptr(si + drive::FLAGS).fs(), 1;
        mov eax, dword_ptr(ebda::SECTOR + 200).fs();
        mov edx, dword_ptr(ebda::SECTOR + 204).fs();
        label ".size";
        mov dword_ptr(si + drive::BLOCKS).fs(), eax;
        mov dword_ptr(si + drive::BLOCKS + 4).fs(), edx;
        test byte_ptr(ebda::SECTOR + 99).fs(), 1; // DMA
        jz ".no_dma";
        or byte_ptr(si + drive::FLAGS).fs(), 2;
        label ".no_dma";
        mov ax, word_ptr(ebda::SECTOR + 2).fs();
        mov cx, word_ptr(ebda::SECTOR + 6).fs();
        mov dx, word_ptr(ebda::SECTOR + 12).fs();
        call "choose_geometry";
        jmp "register_disk";
        label ".cd";
        mov word_ptr(si + drive::BLOCK).fs(), 2048;
        mov dword_ptr(si + drive::BLOCKS).fs(), -1; // until the medium is looked at
        mov dword_ptr(si + drive::BLOCKS + 4).fs(), 0;
        // The next free CD number.
        mov bx, ebda::CD_MAP;
        label ".next_cd";
        cmp byte_ptr(bx).fs(), 0;
        je ".free_cd";
        inc bx;
        cmp bx, ebda::CD_MAP + 7;
        jb ".next_cd";
        label ".free_cd";
        mov al, byte_ptr(ebda::DRIVE_COUNT).fs();
        mov byte_ptr(bx).fs(), al;
        ret;
        proc "register_disk"; // SI: entry, the last one: gives it a BIOS number and a parameter table
        movzx bx, byte_ptr(bda::DISK_COUNT);
        cmp bl, 8;
        jae ".ret";
        inc byte_ptr(bda::DISK_COUNT);
        mov al, byte_ptr(ebda::DRIVE_COUNT).fs();
        mov byte_ptr(bx + ebda::DISK_MAP).fs(), al;
        mov di, ebda::FDPT0;
        cmp bl, 1;
        ja ".ret";
        jb "parameter_table";
        mov di, ebda::FDPT1;
        jmp "parameter_table";
        label ".ret";
        ret;
    }
    Ok(())
}

fn wait(s: &mut Section) -> Emit {
    code! { s;
        proc "ata_pause"; // 400 ns: four looks at the alternate status. Keeps everything
        push ax;
        push dx;
        mov dx, word_ptr(si + drive::CONTROL).fs();
        in_ al, dx;
        in_ al, dx;
        in_ al, dx;
        in_ al, dx;
        pop dx;
        pop ax;
        ret;
        proc "ata_wait"; // until not busy. -> AL: status. CF = 1, AH: it takes too long
        push ecx;
        push dx;
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 7;
        mov ecx, 0x40_0000;
        label ".next";
        in_ al, dx;
        test al, 0x80;
        jz ".ready";
        dec ecx;
        jnz ".next";
        pop dx;
        pop ecx;
        mov ah, status::TIMEOUT;
        stc;
        ret;
        label ".ready";
        pop dx;
        pop ecx;
        clc;
        ret;
        proc "ata_wait_data"; // until the drive wants data or has some. CF = 1, AH: status
        call "ata_wait";
        jc ".ret";
        test al, 0x21; // error or device fault
        jnz ".error";
        test al, 8;
        jz ".error";
        clc;
        label ".ret";
        ret;
        label ".error";
        mov ah, status::NOT_FOUND;
        stc;
        ret;
        proc "ata_select"; // SI: entry: its unit
        push ax;
        push dx;
        call "ata_wait";
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 6;
        mov al, byte_ptr(si + drive::UNIT).fs();
        out dx, al;
        pop dx;
        pop ax;
        call "ata_pause";
        push ax;
        call "ata_wait";
        pop ax;
        ret;
    }
    Ok(())
}

fn transfer(s: &mut Section) -> Emit {
    code! { s;
        proc "ata_transfer"; // the request, SI: entry
        test byte_ptr(si + drive::FLAGS).fs(), drive::AHCI;
        jnz "ahci_transfer";
        mov cx, word_ptr(ebda::RQ_COUNT).fs();
        sub cx, word_ptr(ebda::RQ_DONE).fs();
        jz ".done";
        cmp cx, CHUNK;
        jbe ".chunk";
        mov cx, CHUNK;
        label ".chunk";
        call "dma_regions";
        jnc "ata_dma";
        offset bx, "commands_pio";
        call "ata_issue";
        jc ".ret";
        cmp byte_ptr(ebda::RQ_OP).fs(), op::VERIFY;
        je ".verified";
        label ".block";
        call "ata_wait_data";
        jc ".ret";
        push cx;
        mov dx, word_ptr(si + drive::PORT).fs();
        mov cx, 128;
        cmp byte_ptr(ebda::RQ_OP).fs(), op::WRITE;
        je ".write";
        les di, ptr(ebda::RQ_BUFFER).fs();
        rep_insd;
        jmp ".moved";
        label ".write";
        push si;
        push ds;
        lds si, ptr(ebda::RQ_BUFFER).fs();
        rep_outsd;
        pop ds;
        pop si;
        label ".moved";
        pop cx;
        add word_ptr(ebda::RQ_SEGMENT).fs(), 0x20;
        inc word_ptr(ebda::RQ_DONE).fs();
        add dword_ptr(ebda::RQ_LBA).fs(), 1;
        adc dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        dec cx;
        jnz ".block";
        call "ata_pause";
        call "ata_wait";
        jc ".ret";
        test al, 0x21;
        jz "ata_transfer";
        mov ah, status::NOT_FOUND;
        stc;
        label ".ret";
        ret;
        label ".verified";
        call "ata_wait";
        jc ".ret";
        add word_ptr(ebda::RQ_DONE).fs(), cx;
        movzx ecx, cx;
        add dword_ptr(ebda::RQ_LBA).fs(), ecx;
        adc dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        test al, 0x21;
        jz "ata_transfer";
        mov ah, status::NOT_FOUND;
        stc;
        ret;
        label ".done";
        cmp byte_ptr(ebda::RQ_OP).fs(), op::WRITE;
        jne ".good";
        // What is written is written.
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 7;
        mov al, command::FLUSH;
        out dx, al;
        call "ata_pause";
        call "ata_wait";
        jc ".ret";
        label ".good";
        clc;
        ret;
    }
    Ok(())
}

fn issue(s: &mut Section) -> Emit {
    code! { s;
        // For reading, writing, verifying: with 28 and with 48 bits of address.
        proc "commands_pio";
        db &[command::READ, command::WRITE, command::VERIFY, command::READ_EXT, command::WRITE_EXT, command::VERIFY_EXT];
        proc "commands_dma";
        db &[command::READ_DMA, command::WRITE_DMA, 0, command::READ_DMA_EXT, command::WRITE_DMA_EXT, 0];
        proc "ata_issue"; // CX: blocks, BX: commands (in CS), by the request, SI: entry. Keeps CX
        push bx;
        call "ata_select";
        mov dx, word_ptr(si + drive::PORT).fs();
        add dl, 2;
        mov eax, dword_ptr(ebda::RQ_LBA).fs();
        movzx ebx, cx;
        add ebx, eax;
        mov edi, dword_ptr(ebda::RQ_LBA + 4).fs();
        test edi, edi;
        jnz ".long";
        cmp ebx, 0x1000_0000;
        jae ".long";
        // 28 bits.
        mov ebx, eax;
        mov al, cl;
        out dx, al;
        call ".low";
        shr ebx, 8;
        mov al, bl;
        and al, 0x0f;
        or al, byte_ptr(si + drive::UNIT).fs();
        out dx, al;
        pop bx;
        jmp ".command";
        label ".long";
        mov ebx, eax;
        mov al, 0;
        out dx, al;
        // Bits 24-31, 32-39, 40-47 first.
        inc dx;
        mov eax, ebx;
        shr eax, 24;
        out dx, al;
        inc dx;
        mov eax, edi;
        out dx, al;
        inc dx;
        mov al, ah;
        out dx, al;
        sub dl, 3;
        mov al, cl;
        out dx, al;
        call ".low";
        mov al, byte_ptr(si + drive::UNIT).fs();
        out dx, al;
        pop bx;
        add bx, 3;
        label ".command";
        inc dx;
        movzx ax, byte_ptr(ebda::RQ_OP).fs();
        add bx, ax;
        mov al, byte_ptr(bx).cs();
        out dx, al;
        call "ata_pause";
        clc;
        ret;
        label ".low"; // DX: count register, EBX: address: its three low bytes; DX: device register
        inc dx;
        mov al, bl;
        out dx, al;
        inc dx;
        shr ebx, 8;
        mov al, bl;
        out dx, al;
        inc dx;
        shr ebx, 8;
        mov al, bl;
        out dx, al;
        inc dx;
        ret;
    }
    Ok(())
}
