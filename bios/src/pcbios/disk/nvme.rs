//! NVMe namespaces as disks. What needs the controller's registers and its queues is 32-bit code: see `flat::nvme`.

use iced_x86::code_asm::*;

use super::{status, to_next_function};
use crate::pcbios::asm::{Assembled, Emit, Section, code};
use crate::pcbios::flat::nvme::answer;
use crate::pcbios::layout::{EBDA, drive, ebda, kind, nvme, op};

/// Mass storage, non-volatile memory, NVM Express.
const CLASS: i32 = 0x01_0802;

/// The procedures.
pub fn emit(s: &mut Section, flat: &Assembled) -> Emit {
    detect(s, flat.address("nvme_start")?)?;
    namespaces(s, flat.address("nvme_namespace")?)?;
    transfer(s, flat.address("nvme_move")?)
}

fn detect(s: &mut Section, start: u32) -> Emit {
    code! { s;
        proc "detect_nvme"; // every function of every bus
        xor ebx, ebx;
        mov bp, ebda::NVME; // the next controller's entry
        label ".next";
        mov di, 8;
        call "config_address";
        in_ eax, dx;
        shr eax, 8;
        cmp eax, CLASS;
        jne ".other";
        cmp bp, ebda::NVME + ebda::NVME_MAX * nvme::SIZE;
        jae ".ret";
        push ebx;
        movzx esi, bp;
        add esi, EBDA;
        or ebx, 0x8000_0000u32;
        mov eax, start;
        call "call32";
        pop ebx;
        test eax, eax;
        jnz ".other";
        push ebx;
        call "nvme_namespaces";
        pop ebx;
        add bp, nvme::SIZE;
    }
    to_next_function(s)
}

fn namespaces(s: &mut Section, look: u32) -> Emit {
    code! { s;
        proc "nvme_namespaces"; // BP: a controller's entry, EBX: its function: a drive for each namespace. Keeps BP
        mov ecx, 1;
        label ".next";
        call "new_drive";
        jc ".ret";
        mov word_ptr(si + drive::PLACE).fs(), bp;
        mov eax, ebx;
        shr eax, 8;
        mov word_ptr(si + drive::PORT).fs(), ax;
        mov byte_ptr(si + drive::UNIT).fs(), cl;
        mov byte_ptr(si + drive::FLAGS).fs(), drive::DWORDS;
        mov byte_ptr(si + drive::KIND).fs(), kind::NVME;
        push ebx;
        push ecx;
        push si;
        movzx esi, bp;
        add esi, EBDA;
        mov eax, look;
        call "call32";
        pop si;
        test eax, eax;
        jnz ".not";
        push bp;
        call "describe_drive";
        pop bp;
        jmp ".done";
        label ".not";
        mov word_ptr(si + drive::KIND).fs(), 0;
        cmp al, answer::OTHER_BLOCKS;
        jne ".done";
        offset si, "text_nvme_blocks";
        call "puts";
        label ".done";
        pop ecx;
        pop ebx;
        inc ecx;
        cmp ecx, dword_ptr(bp + nvme::NAMESPACES).fs();
        jbe ".next";
        label ".ret";
        ret;
        proc "text_nvme_blocks";
        text "An NVMe namespace without blocks of 512 bytes is left out.\n";
    }
    Ok(())
}

fn transfer(s: &mut Section, work: u32) -> Emit {
    code! { s;
        proc "nvme_transfer"; // the request, SI: entry
        cmp byte_ptr(ebda::RQ_OP).fs(), op::VERIFY;
        je ".verified";
        // The registers are out of reach of virtual 8086 mode.
        smsw ax;
        test al, 1;
        mov ah, status::NOT_READY;
        jnz ".fail";
        movzx esi, si;
        add esi, EBDA;
        mov eax, work;
        call "call32";
        test al, al;
        mov ah, al;
        jz ".ret"; // with CF = 0
        label ".fail";
        stc;
        label ".ret";
        ret;
        label ".verified";
        mov ax, word_ptr(ebda::RQ_COUNT).fs();
        mov word_ptr(ebda::RQ_DONE).fs(), ax;
        clc;
        ret;
    }
    Ok(())
}
