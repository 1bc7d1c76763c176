//! Bus master DMA of the PCI IDE controller (SFF-8038i) for ATA disks: the blocks of a chunk in one go.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::layout::{EBDA, drive, ebda, op};

/// Polls until a transfer counts as lost.
const PATIENCE: u32 = 0x100_0000;
/// Bit 31 of a region descriptor: the last one.
const LAST: u32 = 0x8000_0000;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        // CX: blocks of the request, SI: entry. CF = 0: the descriptors are made. CF = 1: not by DMA. Keeps CX, SI
        proc "dma_regions";
        test byte_ptr(si + drive::FLAGS).fs(), 2;
        jz ".no";
        cmp word_ptr(ebda::BUS_MASTER).fs(), 0;
        je ".no";
        cmp byte_ptr(ebda::RQ_OP).fs(), op::VERIFY;
        je ".no";
        movzx eax, word_ptr(ebda::RQ_SEGMENT).fs();
        shl eax, 4;
        movzx ebx, word_ptr(ebda::RQ_BUFFER).fs();
        add eax, ebx;
        test al, 1;
        jnz ".no";
        mov dword_ptr(ebda::REGIONS).fs(), eax;
        // To the end, or to the next 64 KiB and from there.
        movzx ebx, cx;
        shl ebx, 9; // bytes
        movzx edx, ax;
        neg edx;
        add edx, 0x1_0000; // bytes to the boundary
        cmp ebx, edx;
        jbe ".one";
        sub ebx, edx;
        and edx, 0xffff;
        mov dword_ptr(ebda::REGIONS + 4).fs(), edx;
        and eax, 0xffff_0000u32;
        add eax, 0x1_0000;
        mov dword_ptr(ebda::REGIONS + 8).fs(), eax;
        and ebx, 0xffff;
        or ebx, LAST;
        mov dword_ptr(ebda::REGIONS + 12).fs(), ebx;
        clc;
        ret;
        label ".one";
        and ebx, 0xffff; // 0 is 64 KiB
        or ebx, LAST;
        mov dword_ptr(ebda::REGIONS + 4).fs(), ebx;
        clc;
        ret;
        label ".no";
        stc;
        ret;

        proc "bus_master"; // SI: entry -> DX: its channel's command register. Keeps the rest
        mov dx, word_ptr(ebda::BUS_MASTER).fs();
        cmp word_ptr(si + drive::PORT).fs(), 0x170;
        jne ".ret";
        add dx, 8;
        label ".ret";
        ret;
        // A chunk by DMA: CX blocks, the descriptors are made; goes on with the request.
        proc "ata_dma";
        call "bus_master";
        mov al, 0;
        cmp byte_ptr(ebda::RQ_OP).fs(), op::WRITE;
        je ".direction";
        mov al, 8; // to memory
        label ".direction";
        out dx, al;
        add dx, 2;
        mov al, 6; // old results away
        out dx, al;
        add dx, 2;
        mov eax, EBDA + ebda::REGIONS;
        out dx, eax;
        offset bx, "commands_dma";
        call "ata_issue";
        call "bus_master";
        in_ al, dx;
        or al, 1;
        out dx, al;
        add dx, 2;
        mov ebx, PATIENCE;
        label ".wait";
        in_ al, dx;
        test al, 2; // error
        jnz ".stop";
        test al, 1; // active
        jz ".stop";
        dec ebx;
        jnz ".wait";
        label ".stop";
        mov bl, al;
        sub dx, 2;
        mov al, 0;
        out dx, al;
        test bl, 3;
        mov ah, status::CONTROLLER;
        jnz ".fail";
        call "ata_wait";
        jc ".ret";
        test al, 0x21;
        mov ah, status::NOT_FOUND;
        jnz ".fail";
        add word_ptr(ebda::RQ_DONE).fs(), cx;
        movzx ecx, cx;
        add dword_ptr(ebda::RQ_LBA).fs(), ecx;
        adc dword_ptr(ebda::RQ_LBA + 4).fs(), 0;
        shl cx, 5;
        add word_ptr(ebda::RQ_SEGMENT).fs(), cx;
        jmp "ata_transfer";
        label ".fail";
        stc;
        label ".ret";
        ret;
    }
    Ok(())
}
