//! NVMe controllers (NVM Express Base Specification 1.4): starting them, and moving blocks.
//!
//! A controller has its admin queues and one pair of I/O queues, of two entries each: there is never more than one command on its way.
//! So all of them, of all controllers, lie at the same places, in three pages of the tables' memory: before each command, the completion's
//! place is given the wrong phase tag, whoever used it last.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::disk::status;
use super::super::layout::{EBDA, drive, ebda, nvme, op};
use super::{var, var8, var16};

/// What "nvme_namespace" answers, besides 0.
pub mod answer {
    /// There is none of this number.
    pub const ABSENT: i32 = 1;
    /// Its blocks have another size than 512 bytes, or more than their data.
    pub const OTHER_BLOCKS: i32 = 2;
}

/// Controller registers.
mod reg {
    pub const INTMS: i32 = 0x0c;
    pub const CC: i32 = 0x14;
    pub const CSTS: i32 = 0x1c;
    pub const AQA: i32 = 0x24;
    pub const ASQ: i32 = 0x28;
    pub const ACQ: i32 = 0x30;
    pub const DOORBELLS: i32 = 0x1000;
}

/// Admin and I/O commands.
mod opcode {
    pub const CREATE_SQ: i32 = 0x01;
    pub const CREATE_CQ: i32 = 0x05;
    pub const IDENTIFY: i32 = 0x06;
    pub const FLUSH: i32 = 0x00;
    pub const WRITE: i32 = 0x01;
    pub const READ: i32 = 0x02;
}

/// Fields of a submission queue entry.
mod sqe {
    pub const NSID: i32 = 4;
    pub const PRP1: i32 = 24;
    pub const PRP2: i32 = 32;
    pub const CDW10: i32 = 40;
    pub const CDW11: i32 = 44;
    pub const CDW12: i32 = 48;
}

/// The queues, by number.
const ADMIN: i32 = 0;
const IO: i32 = 1;
/// In the pages: submission queue, list of regions, completion queue, data.
const LIST: i32 = 0x800;
const COMPLETIONS: i32 = 0x1000;
const DATA: i32 = 0x2000;
/// Their place below the end of memory.
const PAGES: i32 = 0x4000;
/// Entries of 64 and 16 bytes, pages of 4 KiB, enabled.
const CONFIGURATION: i32 = 0x0046_0001;
/// Blocks that a command moves at most: what one list has room for, and more than most ask for.
const MOST: i32 = 128;
/// Namespaces that are looked at.
const NAMESPACES: i32 = 16;
/// Looks at a completion, and at the status register, until it counts as lost.
const PATIENCE: u32 = 0x800_0000;
const START_PATIENCE: u32 = 0x100_0000;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    command(s)?;
    issue(s)?;
    start(s)?;
    queues(s)?;
    namespace(s)?;
    blocks(s)
}

fn command(s: &mut Section) -> Emit {
    code! { s;
        proc "nvme_pages"; // -> EDI: the queues' memory
        mov edi, var(ebda::RAM_LOW);
        sub edi, PAGES;
        and edi, -0x1000;
        ret;
        // ESI: controller, ECX: queue, EAX: opcode -> EDI: the next entry, with nothing else in it. Keeps EBX, ECX
        proc "nvme_command";
        call "nvme_pages";
        movzx edx, byte_ptr(esi + ecx * 4 + nvme::QUEUES);
        shl edx, 6;
        add edi, edx;
        push edi;
        push ecx;
        push eax;
        xor eax, eax;
        mov ecx, 16;
        rep_stosd;
        pop eax;
        pop ecx;
        pop edi;
        mov byte_ptr(edi), al;
        ret;
        proc "nvme_data"; // EDI: entry: its data are in the page for them. Destroys EAX
        mov eax, edi;
        and eax, -0x1000;
        add eax, DATA;
        mov dword_ptr(edi + sqe::PRP1), eax;
        ret;
        proc "nvme_doorbells"; // ESI: controller, ECX: queue -> EDX: its tail doorbell. Keeps the rest
        lea edx, dword_ptr(ecx + ecx);
        imul_2 edx, dword_ptr(esi + nvme::STRIDE);
        add edx, dword_ptr(esi + nvme::REGISTERS);
        add edx, reg::DOORBELLS;
        ret;
    }
    Ok(())
}

fn issue(s: &mut Section) -> Emit {
    code! { s;
        // ESI: controller, ECX: queue: its next command is there. CF = 1: it failed. Destroys EAX, EBX, EDX, EDI
        proc "nvme_issue";
        call "nvme_pages";
        lea ebx, dword_ptr(esi + ecx * 4 + nvme::QUEUES);
        movzx edx, byte_ptr(ebx + 1);
        shl edx, 4;
        lea edi, dword_ptr(edi + edx + (COMPLETIONS + 12));
        movzx eax, byte_ptr(ebx + 2);
        xor al, 1;
        shl eax, 16;
        mov dword_ptr(edi), eax;
        xor byte_ptr(ebx), 1;
        call "nvme_doorbells";
        movzx eax, byte_ptr(ebx);
        mov dword_ptr(edx), eax;
        push ecx;
        mov ecx, PATIENCE;
        label ".wait";
        mov eax, dword_ptr(edi);
        shr eax, 16;
        xor al, byte_ptr(ebx + 2);
        test al, 1;
        jz ".completed";
        dec ecx;
        jnz ".wait";
        pop ecx;
        stc;
        ret;
        label ".completed";
        pop ecx;
        xor byte_ptr(ebx + 1), 1;
        jnz ".same_phase";
        xor byte_ptr(ebx + 2), 1;
        label ".same_phase";
        call "nvme_doorbells";
        add edx, dword_ptr(esi + nvme::STRIDE);
        movzx eax, byte_ptr(ebx + 1);
        mov dword_ptr(edx), eax;
        // The status is above the phase tag.
        mov eax, dword_ptr(edi);
        shr eax, 17;
        cmp eax, 1;
        cmc;
        ret;
    }
    Ok(())
}

fn start(s: &mut Section) -> Emit {
    code! { s;
        proc "nvme_start"; // ESI: the controller's entry, EBX: its function. -> EAX: 0: it is ready
        mov eax, var(ebda::RAM_TOP);
        cmp eax, var(ebda::RAM_LOW);
        je ".bad"; // no memory for tables, none for queues
        // Its registers are in memory that is reached here; it masters the bus.
        mov eax, 0x10;
        call "cfg_read";
        test al, 1;
        jnz ".bad";
        mov edi, eax;
        and edi, -16;
        jz ".bad";
        mov dword_ptr(esi + nvme::REGISTERS), edi;
        and al, 6;
        cmp al, 4;
        jne ".low";
        mov eax, 0x14;
        call "cfg_read";
        test eax, eax;
        jnz ".bad";
        label ".low";
        mov eax, 4;
        call "cfg_read";
        movzx ecx, ax;
        or ecx, 0x406;
        mov eax, 4;
        call "cfg_write";
        // Capabilities: pages of 4 KiB, doorbells.
        mov edi, dword_ptr(esi + nvme::REGISTERS);
        mov ecx, dword_ptr(edi + 4);
        test ecx, 0x000f_0000;
        jnz ".bad";
        and cl, 15;
        mov eax, 4;
        shl eax, cl;
        mov dword_ptr(esi + nvme::STRIDE), eax;
        mov dword_ptr(edi + reg::CC), 0;
        mov bl, 0;
        call ".ready";
        jc ".bad";
        mov edx, edi;
        call "nvme_pages";
        mov dword_ptr(edx + reg::INTMS), -1;
        mov dword_ptr(edx + reg::AQA), 0x0001_0001;
        mov dword_ptr(edx + reg::ASQ), edi;
        mov dword_ptr(edx + (reg::ASQ + 4)), 0;
        add edi, COMPLETIONS;
        mov dword_ptr(edx + reg::ACQ), edi;
        mov dword_ptr(edx + (reg::ACQ + 4)), 0;
        mov eax, 0x0001_0000; // tail and head at 0, phase tag 1
        mov dword_ptr(esi + nvme::QUEUES), eax;
        mov dword_ptr(esi + (nvme::QUEUES + 4)), eax;
        mov dword_ptr(edx + reg::CC), CONFIGURATION;
        mov edi, edx;
        mov bl, 1;
        call ".ready";
        jc ".bad";
        jmp "nvme_queues";
        label ".bad";
        mov eax, 1;
        ret;
        label ".ready"; // EDI: registers, BL: until the controller says this. CF = 1: it does not
        mov ecx, START_PATIENCE;
        label ".look";
        mov eax, dword_ptr(edi + reg::CSTS);
        xor al, bl;
        test al, 1;
        jz ".said";
        dec ecx;
        jnz ".look";
        stc;
        ret;
        label ".said";
        clc;
        ret;
    }
    Ok(())
}

fn queues(s: &mut Section) -> Emit {
    code! { s;
        proc "nvme_queues"; // ESI: a ready controller: what it is, and its I/O queues. -> EAX: 0: it works
        mov ecx, ADMIN;
        mov eax, opcode::IDENTIFY;
        call "nvme_command";
        mov dword_ptr(edi + sqe::CDW10), 1; // the controller
        call "nvme_data";
        call "nvme_issue";
        jc ".bad";
        call "nvme_pages";
        lea edx, dword_ptr(edi + DATA);
        mov cl, byte_ptr(edx + 77); // MDTS
        mov eax, MOST;
        dec cl;
        cmp cl, 3;
        jae ".most";
        mov eax, 16;
        shl eax, cl;
        label ".most";
        mov dword_ptr(esi + nvme::MOST), eax;
        mov eax, dword_ptr(edx + 516); // NN
        cmp eax, NAMESPACES;
        jbe ".few";
        mov eax, NAMESPACES;
        label ".few";
        mov dword_ptr(esi + nvme::NAMESPACES), eax;
        // The name goes where it is in the answer of an ATA drive, the characters of each word exchanged.
        mov edi, EBDA + ebda::SECTOR;
        mov ecx, 128;
        xor eax, eax;
        rep_stosd;
        add edx, 24;
        mov edi, EBDA + ebda::SECTOR + 54;
        mov ecx, 20;
        label ".name";
        mov ax, word_ptr(edx);
        xchg al, ah;
        mov word_ptr(edi), ax;
        add edx, 2;
        add edi, 2;
        dec ecx;
        jnz ".name";
        mov ecx, ADMIN;
        mov eax, opcode::CREATE_CQ;
        call "nvme_command";
        mov dword_ptr(edi + sqe::CDW10), 0x0001_0001; // two entries, number 1
        mov dword_ptr(edi + sqe::CDW11), 1; // contiguous, no interrupts
        mov eax, edi;
        and eax, -0x1000;
        add eax, COMPLETIONS;
        mov dword_ptr(edi + sqe::PRP1), eax;
        call "nvme_issue";
        jc ".bad";
        mov eax, opcode::CREATE_SQ;
        call "nvme_command";
        mov dword_ptr(edi + sqe::CDW10), 0x0001_0001;
        mov dword_ptr(edi + sqe::CDW11), 0x0001_0001; // completed there, contiguous
        mov eax, edi;
        and eax, -0x1000;
        mov dword_ptr(edi + sqe::PRP1), eax;
        call "nvme_issue";
        jc ".bad";
        xor eax, eax;
        ret;
        label ".bad";
        mov eax, 1;
        ret;
    }
    Ok(())
}

fn namespace(s: &mut Section) -> Emit {
    code! { s;
        // ESI: controller, ECX: namespace. -> EAX: 0: its size is where an ATA drive's would be, or `answer`
        proc "nvme_namespace";
        push ecx;
        mov ecx, ADMIN;
        mov eax, opcode::IDENTIFY;
        call "nvme_command";
        pop eax;
        mov dword_ptr(edi + sqe::NSID), eax;
        call "nvme_data";
        call "nvme_issue";
        mov eax, answer::ABSENT;
        jc ".ret";
        call "nvme_pages";
        lea edx, dword_ptr(edi + DATA);
        mov ecx, dword_ptr(edx); // NSZE
        or ecx, dword_ptr(edx + 4);
        jz ".ret";
        movzx ecx, byte_ptr(edx + 26); // FLBAS
        and ecx, 15;
        mov ecx, dword_ptr(edx + ecx * 4 + 128);
        and ecx, 0x00ff_ffff; // size as a power of two, metadata
        mov eax, answer::OTHER_BLOCKS;
        cmp ecx, 0x0009_0000;
        jne ".ret";
        mov eax, dword_ptr(edx);
        mov dword_ptr(EBDA + ebda::SECTOR + 200), eax;
        mov eax, dword_ptr(edx + 4);
        mov dword_ptr(EBDA + ebda::SECTOR + 204), eax;
        mov byte_ptr(EBDA + ebda::SECTOR + 167), 4;
        xor eax, eax;
        label ".ret";
        ret;
    }
    Ok(())
}

fn blocks(s: &mut Section) -> Emit {
    code! { s;
        proc "nvme_move"; // the request, ESI: the drive's entry. -> EAX: 0, or INT 13h's status
        mov ebp, esi;
        movzx esi, word_ptr(ebp + drive::PLACE);
        add esi, EBDA;
        label ".next";
        movzx ecx, var16(ebda::RQ_COUNT);
        movzx eax, var16(ebda::RQ_DONE);
        sub ecx, eax;
        jz ".moved";
        cmp ecx, dword_ptr(esi + nvme::MOST);
        jbe ".chunk";
        mov ecx, dword_ptr(esi + nvme::MOST);
        label ".chunk";
        push ecx;
        mov eax, opcode::READ;
        cmp var8(ebda::RQ_OP), op::WRITE;
        jne ".known";
        mov eax, opcode::WRITE;
        label ".known";
        call ".command";
        mov eax, var(ebda::RQ_LBA);
        mov dword_ptr(edi + sqe::CDW10), eax;
        mov eax, var(ebda::RQ_LBA + 4);
        mov dword_ptr(edi + sqe::CDW11), eax;
        mov ecx, dword_ptr(esp);
        lea eax, dword_ptr(ecx - 1);
        mov dword_ptr(edi + sqe::CDW12), eax;
        call "nvme_regions";
        mov ecx, IO;
        call "nvme_issue";
        pop ecx;
        jc ".failed";
        add var16(ebda::RQ_DONE), cx;
        add var(ebda::RQ_LBA), ecx;
        adc var(ebda::RQ_LBA + 4), 0;
        shl ecx, 5;
        add var16(ebda::RQ_SEGMENT), cx;
        jmp ".next";
        label ".moved";
        cmp var8(ebda::RQ_OP), op::WRITE;
        jne ".good";
        // What is written is written.
        mov eax, opcode::FLUSH;
        call ".command";
        call "nvme_issue";
        jc ".failed";
        label ".good";
        xor eax, eax;
        ret;
        label ".failed";
        mov eax, status::CONTROLLER;
        ret;
        label ".command"; // EAX: opcode, for the drive's namespace -> EDI, ECX: the queue
        mov ecx, IO;
        call "nvme_command";
        movzx eax, byte_ptr(ebp + drive::UNIT);
        mov dword_ptr(edi + sqe::NSID), eax;
        ret;

        // EDI: entry, ECX: blocks: tells where the request's buffer is, page by page. Destroys EAX, ECX, EDX
        proc "nvme_regions";
        movzx eax, var16(ebda::RQ_SEGMENT);
        shl eax, 4;
        movzx edx, var16(ebda::RQ_BUFFER);
        add eax, edx;
        mov dword_ptr(edi + sqe::PRP1), eax;
        shl ecx, 9;
        add ecx, eax; // the end
        and eax, -0x1000;
        add eax, 0x1000;
        cmp eax, ecx;
        jae ".ret";
        mov dword_ptr(edi + sqe::PRP2), eax;
        lea edx, dword_ptr(eax + 0x1000);
        cmp edx, ecx;
        jae ".ret";
        // More than two pages: all but the first are in a list.
        mov edx, edi;
        and edx, -0x1000;
        add edx, LIST;
        mov dword_ptr(edi + sqe::PRP2), edx;
        label ".list";
        mov dword_ptr(edx), eax;
        mov dword_ptr(edx + 4), 0;
        add edx, 8;
        add eax, 0x1000;
        cmp eax, ecx;
        jb ".list";
        label ".ret";
        ret;
    }
    Ok(())
}
