//! Disks and CD drives at AHCI controllers (AHCI 1.3.1), by DMA with one command at a time.
//!
//! Registers are reached by the index-data pair (AHCI 1.3.1, 10.14), which real mode can use; a controller without one is
//! left alone. List, table and received FIS are in the extended BIOS data area, shared by all ports. A port is started when its
//! drive is looked for and stays so; what an operating system finds is a running port, as after any firmware.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::layout::{EBDA, EBDA_SEGMENT, drive, ebda, kind, op};

/// Registers of the controller and of a port.
mod reg {
    pub const GHC: i32 = 0x04;
    pub const PI: i32 = 0x0c;
    pub const PORTS: i32 = 0x100;
    pub const CLB: i32 = 0x00;
    pub const CLBU: i32 = 0x04;
    pub const FB: i32 = 0x08;
    pub const FBU: i32 = 0x0c;
    pub const IS: i32 = 0x10;
    pub const IE: i32 = 0x14;
    pub const CMD: i32 = 0x18;
    pub const TFD: i32 = 0x20;
    pub const SIG: i32 = 0x24;
    pub const SSTS: i32 = 0x28;
    pub const SERR: i32 = 0x30;
    pub const CI: i32 = 0x38;
}

mod command {
    pub const READ_DMA_EXT: i32 = 0x25;
    pub const WRITE_DMA_EXT: i32 = 0x35;
    pub const VERIFY_EXT: i32 = 0x42;
    pub const PACKET: i32 = 0xa0;
    pub const IDENTIFY_PACKET: i32 = 0xa1;
    pub const FLUSH_EXT: i32 = 0xea;
    pub const IDENTIFY: i32 = 0xec;
}

/// Flags of a command header, besides the length of the FIS.
mod header {
    pub const ATAPI: i32 = 0x20;
    pub const WRITE: i32 = 0x40;
}

/// Blocks that one command moves at most.
const CHUNK: i32 = 128;
/// Polls until a command counts as lost, and until a port has stopped.
const PATIENCE: u32 = 0x100_0000;
const SHORT_PATIENCE: u32 = 0x1_0000;
const SIGNATURE_CD: u32 = 0xeb14_0101;
const SIGNATURE_DISK: u32 = 0x0000_0101;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    registers(s)?;
    detect(s)?;
    start(s)?;
    identify(s)?;
    issue(s)?;
    transfer(s)?;
    packet(s)
}

fn registers(s: &mut Section) -> Emit {
    code! { s;
        proc "hba_read"; // DX: index port, EAX: register -> EAX
        out dx, eax;
        add dx, 4;
        in_ eax, dx;
        sub dx, 4;
        ret;
        proc "hba_write"; // DX: index port, EAX: register, ECX: value. Destroys EAX
        out dx, eax;
        add dx, 4;
        mov eax, ecx;
        out dx, eax;
        sub dx, 4;
        ret;
        proc "port_register"; // SI: entry, EAX: register of its port -> EAX: of the controller, DX: index port
        movzx edx, byte_ptr(si + drive::UNIT).fs();
        shl edx, 7;
        lea eax, dword_ptr(eax + edx + reg::PORTS);
        mov dx, word_ptr(si + drive::PORT).fs();
        ret;
        proc "port_read"; // SI: entry, EAX: register -> EAX. Destroys EDX
        call "port_register";
        jmp "hba_read";
        proc "port_write"; // SI: entry, EAX: register, ECX: value. Destroys EAX, EDX
        call "port_register";
        jmp "hba_write";
    }
    Ok(())
}

fn detect(s: &mut Section) -> Emit {
    code! { s;
        proc "detect_ahci"; // every controller that the search of PCI has found
        xor bx, bx;
        label ".controller";
        movzx ax, byte_ptr(ebda::AHCI_COUNT).fs();
        add ax, ax;
        cmp bx, ax;
        jae ".ret";
        mov dx, word_ptr(bx + ebda::AHCI_PORTS).fs();
        // AHCI mode, no interrupts.
        mov eax, reg::GHC;
        mov ecx, 0x8000_0000u32;
        call "hba_write";
        mov eax, reg::PI;
        call "hba_read";
        mov ecx, eax;
        mov di, 0;
        label ".port";
        test ecx, ecx;
        jz ".next";
        test cl, 1;
        jz ".absent";
        pushad;
        call "new_drive";
        jc ".none";
        mov ax, di;
        mov byte_ptr(si + drive::UNIT).fs(), al;
        mov word_ptr(si + drive::PORT).fs(), dx;
        mov byte_ptr(si + drive::FLAGS).fs(), drive::AHCI;
        call "ahci_start";
        jc ".free";
        call "ahci_identify";
        jc ".free";
        call "describe_drive";
        jmp ".none";
        label ".free";
        mov word_ptr(si + drive::KIND).fs(), 0;
        label ".none";
        popad;
        label ".absent";
        shr ecx, 1;
        inc di;
        jmp ".port";
        label ".next";
        add bx, 2;
        jmp ".controller";
        label ".ret";
        ret;
    }
    Ok(())
}

fn start(s: &mut Section) -> Emit {
    code! { s;
        proc "ahci_stop"; // SI: entry. EBX: bits of PxCMD that are cleared; their echoes must vanish. CF = 1: they do not
        mov eax, reg::CMD;
        call "port_read";
        mov ecx, ebx;
        not ecx;
        and ecx, eax;
        mov eax, reg::CMD;
        call "port_write";
        mov ecx, SHORT_PATIENCE;
        label ".wait";
        mov eax, reg::CMD;
        call "port_read";
        // FRE is echoed ten bits up, ST fifteen: both are gone when neither echo is set that belongs to a cleared bit.
        test bl, 0x10;
        jz ".running";
        test ah, 0x40;
        jnz ".again";
        label ".running";
        test ah, 0x80;
        jz ".good";
        label ".again";
        dec ecx;
        jnz ".wait";
        stc;
        ret;
        label ".good";
        clc;
        ret;
        proc "ahci_set"; // SI: entry, EBX: bits of PxCMD that are set
        mov eax, reg::CMD;
        call "port_read";
        mov ecx, ebx;
        or ecx, eax;
        mov eax, reg::CMD;
        jmp "port_write";
        proc "ahci_clear_status"; // SI: entry: errors and events away
        mov ecx, -1;
        mov eax, reg::SERR;
        call "port_write";
        mov ecx, -1;
        mov eax, reg::IS;
        jmp "port_write";

        proc "ahci_start"; // SI: entry: starts the port, if there is a drive. CF = 1: there is none
        mov eax, reg::SSTS;
        call "port_read";
        and al, 0x0f;
        cmp al, 3;
        jne ".none";
        mov ebx, 0x01;
        call "ahci_stop";
        jc ".none";
        mov ebx, 0x11;
        call "ahci_stop";
        jc ".none";
        mov ecx, EBDA + ebda::AHCI_LIST;
        mov eax, reg::CLB;
        call "port_write";
        xor ecx, ecx;
        mov eax, reg::CLBU;
        call "port_write";
        mov ecx, EBDA + ebda::AHCI_FIS;
        mov eax, reg::FB;
        call "port_write";
        xor ecx, ecx;
        mov eax, reg::FBU;
        call "port_write";
        xor ecx, ecx;
        mov eax, reg::IE;
        call "port_write";
        call "ahci_clear_status";
        mov ebx, 0x10;
        call "ahci_set";
        call "ahci_ready";
        jc ".ret";
        mov ebx, 0x01;
        call "ahci_set";
        clc;
        ret;
        label ".none";
        stc;
        label ".ret";
        ret;

        proc "ahci_ready"; // SI: entry: until its drive is neither busy nor moves data. CF = 1: it takes too long
        mov ecx, PATIENCE;
        label ".wait";
        mov eax, reg::TFD;
        call "port_read";
        test al, 0x88;
        jz ".good";
        dec ecx;
        jnz ".wait";
        stc;
        ret;
        label ".good";
        clc;
        ret;
    }
    Ok(())
}

fn identify(s: &mut Section) -> Emit {
    code! { s;
        proc "ahci_identify"; // SI: entry -> its kind, and 512 bytes in the sector buffer. CF = 1: nothing usable
        mov eax, reg::SIG;
        call "port_read";
        mov ecx, eax;
        mov al, command::IDENTIFY;
        mov ah, kind::ATA;
        cmp ecx, SIGNATURE_DISK;
        je ".known";
        mov al, command::IDENTIFY_PACKET;
        mov ah, kind::ATAPI;
        cmp ecx, SIGNATURE_CD;
        je ".known";
        stc;
        ret;
        label ".known";
        mov byte_ptr(si + drive::KIND).fs(), ah;
        call "ahci_command_fis";
        mov eax, EBDA + ebda::SECTOR;
        mov ecx, 512;
        xor bx, bx;
        jmp "ahci_issue";
    }
    Ok(())
}

fn issue(s: &mut Section) -> Emit {
    code! { s;
        proc "ahci_command_fis"; // AL: command, without an address. Destroys nothing
        mov dword_ptr(ebda::AHCI_TABLE).fs(), 0x0000_8027;
        mov byte_ptr(ebda::AHCI_TABLE + 2).fs(), al;
        mov dword_ptr(ebda::AHCI_TABLE + 4).fs(), 0x4000_0000;
        mov dword_ptr(ebda::AHCI_TABLE + 8).fs(), 0;
        mov dword_ptr(ebda::AHCI_TABLE + 12).fs(), 0;
        mov dword_ptr(ebda::AHCI_TABLE + 16).fs(), 0;
        ret;

        // SI: entry; the FIS is in the table; ECX bytes from or to address EAX (0: none); BX: flags of the header.
        // CF = 1, AH: status. Destroys EAX to EDX
        proc "ahci_issue";
        mov dword_ptr(ebda::AHCI_TABLE + 0x80).fs(), eax;
        mov dword_ptr(ebda::AHCI_TABLE + 0x84).fs(), 0;
        mov dword_ptr(ebda::AHCI_TABLE + 0x88).fs(), 0;
        movzx ebx, bx;
        or bl, 5; // dwords of the FIS
        test ecx, ecx;
        jz ".no_data";
        or ebx, 0x1_0000; // one descriptor
        label ".no_data";
        dec ecx;
        or cl, 1;
        mov dword_ptr(ebda::AHCI_TABLE + 0x8c).fs(), ecx;
        mov dword_ptr(ebda::AHCI_LIST).fs(), ebx;
        mov dword_ptr(ebda::AHCI_LIST + 4).fs(), 0;
        mov dword_ptr(ebda::AHCI_LIST + 8).fs(), EBDA + ebda::AHCI_TABLE;
        mov dword_ptr(ebda::AHCI_LIST + 12).fs(), 0;
        call "ahci_clear_status";
        mov ecx, 1;
        mov eax, reg::CI;
        call "port_write";
        mov ecx, PATIENCE;
        label ".wait";
        mov eax, reg::IS;
        call "port_read";
        test eax, 0x7800_0000; // errors that stop the port
        jnz ".error";
        mov eax, reg::CI;
        call "port_read";
        test al, 1;
        jz ".ended";
        dec ecx;
        jnz ".wait";
        call ".restart";
        mov ah, status::TIMEOUT;
        stc;
        ret;
        label ".ended";
        mov eax, reg::TFD;
        call "port_read";
        test al, 0x21;
        jnz ".error";
        clc;
        ret;
        label ".error";
        call ".restart";
        mov ah, status::NOT_FOUND;
        stc;
        ret;
        label ".restart";
        mov ebx, 0x01;
        call "ahci_stop";
        call "ahci_clear_status";
        mov ebx, 0x01;
        jmp "ahci_set";
    }
    Ok(())
}

fn transfer(s: &mut Section) -> Emit {
    code! { s;
        proc "ahci_transfer"; // the request, SI: entry
        mov cx, word_ptr(ebda::RQ_COUNT).fs();
        sub cx, word_ptr(ebda::RQ_DONE).fs();
        jz ".done";
        cmp cx, CHUNK;
        jbe ".chunk";
        mov cx, CHUNK;
        label ".chunk";
        xor bx, bx;
        mov al, command::READ_DMA_EXT;
        cmp byte_ptr(ebda::RQ_OP).fs(), op::READ;
        je ".known";
        mov al, command::VERIFY_EXT;
        cmp byte_ptr(ebda::RQ_OP).fs(), op::VERIFY;
        je ".known";
        mov al, command::WRITE_DMA_EXT;
        mov bl, header::WRITE;
        label ".known";
        call "ahci_command_fis";
        mov eax, dword_ptr(ebda::RQ_LBA).fs();
        mov word_ptr(ebda::AHCI_TABLE + 4).fs(), ax;
        shr eax, 16;
        mov byte_ptr(ebda::AHCI_TABLE + 6).fs(), al;
        mov byte_ptr(ebda::AHCI_TABLE + 8).fs(), ah;
        mov ax, word_ptr(ebda::RQ_LBA + 4).fs();
        mov word_ptr(ebda::AHCI_TABLE + 9).fs(), ax;
        mov word_ptr(ebda::AHCI_TABLE + 12).fs(), cx;
        push cx;
        movzx ecx, cx;
        shl ecx, 9;
        cmp byte_ptr(ebda::RQ_OP).fs(), op::VERIFY;
        jne ".data";
        xor ecx, ecx;
        label ".data";
        movzx eax, word_ptr(ebda::RQ_SEGMENT).fs();
        shl eax, 4;
        movzx edx, word_ptr(ebda::RQ_BUFFER).fs();
        add eax, edx;
        call "ahci_issue";
        pop cx;
        jc ".ret";
        add word_ptr(ebda::RQ_DONE).fs(), cx;
        movzx ecx, cx;
        add dword_ptr(ebda::RQ_LBA).fs(), ecx;
        adc dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        shl cx, 5;
        add word_ptr(ebda::RQ_SEGMENT).fs(), cx;
        jmp "ahci_transfer";
        label ".done";
        cmp byte_ptr(ebda::RQ_OP).fs(), op::WRITE;
        clc;
        jne ".ret";
        // What is written is written.
        mov al, command::FLUSH_EXT;
        call "ahci_command_fis";
        xor ecx, ecx;
        xor bx, bx;
        jmp "ahci_issue";
        label ".ret";
        ret;

        // The request of a drive that moves even addresses only, to an odd one: block by block by the sector buffer.
        proc "bounced_transfer";
        mov eax, dword_ptr(ebda::RQ_BUFFER).fs();
        mov dword_ptr(ebda::BOUNCE_TO).fs(), eax;
        mov ax, word_ptr(ebda::RQ_COUNT).fs();
        mov word_ptr(ebda::BOUNCE_COUNT).fs(), ax;
        mov word_ptr(ebda::RQ_COUNT).fs(), 0;
        label ".next";
        mov ax, word_ptr(ebda::RQ_COUNT).fs();
        cmp ax, word_ptr(ebda::BOUNCE_COUNT).fs();
        clc;
        je ".ret";
        inc word_ptr(ebda::RQ_COUNT).fs();
        mov word_ptr(ebda::RQ_BUFFER).fs(), 0;
        mov word_ptr(ebda::RQ_SEGMENT).fs(), (EBDA_SEGMENT + (ebda::SECTOR >> 4)) as u32;
        mov si, word_ptr(ebda::RQ_DRIVE).fs();
        cmp byte_ptr(ebda::RQ_OP).fs(), op::WRITE;
        jne ".move";
        mov cx, word_ptr(si + drive::BLOCK).fs();
        push ds;
        push fs;
        pop es;
        lds si, ptr(ebda::BOUNCE_TO).fs();
        mov di, ebda::SECTOR;
        cld;
        rep_movsb;
        pop ds;
        mov si, word_ptr(ebda::RQ_DRIVE).fs();
        label ".move";
        call "drive_transfer";
        jc ".ret";
        mov si, word_ptr(ebda::RQ_DRIVE).fs();
        mov cx, word_ptr(si + drive::BLOCK).fs();
        cmp byte_ptr(ebda::RQ_OP).fs(), op::READ;
        jne ".moved";
        push cx;
        push ds;
        push fs;
        pop ds;
        mov si, ebda::SECTOR;
        les di, ptr(ebda::BOUNCE_TO).fs();
        cld;
        rep_movsb;
        pop ds;
        pop cx;
        label ".moved";
        shr cx, 4;
        add word_ptr(ebda::BOUNCE_TO + 2).fs(), cx;
        jmp ".next";
        label ".ret";
        ret;
    }
    Ok(())
}

fn packet(s: &mut Section) -> Emit {
    code! { s;
        proc "ahci_packet"; // SI: entry; the packet is in the EBDA; ECX: bytes that may come, to ES:DI. CF = 1, AH: status
        mov al, command::PACKET;
        call "ahci_command_fis";
        test ecx, ecx;
        jz ".no_data";
        mov byte_ptr(ebda::AHCI_TABLE + 3).fs(), 1; // by DMA
        label ".no_data";
        mov eax, dword_ptr(ebda::PACKET).fs();
        mov dword_ptr(ebda::AHCI_TABLE + 0x40).fs(), eax;
        mov eax, dword_ptr(ebda::PACKET + 4).fs();
        mov dword_ptr(ebda::AHCI_TABLE + 0x44).fs(), eax;
        mov eax, dword_ptr(ebda::PACKET + 8).fs();
        mov dword_ptr(ebda::AHCI_TABLE + 0x48).fs(), eax;
        mov dword_ptr(ebda::AHCI_TABLE + 0x4c).fs(), 0;
        mov ax, es;
        movzx eax, ax;
        shl eax, 4;
        movzx edx, di;
        add eax, edx;
        mov bx, header::ATAPI;
        call "ahci_issue";
        jnc ".ret";
        mov ah, status::NOT_READY;
        label ".ret";
        ret;
    }
    Ok(())
}
