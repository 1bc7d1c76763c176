//! The boot order that the board gives, by `bootindex=`: QEMU's file `bootorder`, a path of the IEEE 1275 kind in each line.
//!
//! | path | what |
//! | --- | --- |
//! | `/pci@i0cf8/ide@1,1/drive@0/disk@1` | channel and unit of an IDE controller |
//! | `/pci@i0cf8/pci8086,2922@1f,2/drive@3/disk@0` | port of an AHCI controller |
//! | `/pci@i0cf8/scsi@4/disk@0,0` | a virtio disk |
//! | `/pci@i0cf8/pci1b36,10@5/namespace@1,0` | a namespace of an NVMe controller |
//! | `/pci@i0cf8/isa@1/fdc@03f0/floppy@0` | a diskette drive |
//!
//! Only the numbers count, for what is there is known. A bridge on the way is a node like the others. A path that leads
//! to nothing that we boot is passed over. Disks named so get the first BIOS numbers: what the first one boots, boots from 80h.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::{EBDA, boot_class, drive, ebda, kind};
use super::{var, var8};

/// Where the file is read to while it is worked on: nothing is there before something has been booted.
const TEXT: i32 = 0x1_0000;
const MOST_BYTES: i32 = 0x4000;
const ROOT: &str = "/pci@i0cf8";

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    lines(s)?;
    path(s)?;
    numbers(s)?;
    drives(s)?;
    same(s)?;
    place(s)
}

fn lines(s: &mut Section) -> Emit {
    code! { s;
        proc "boot_paths";
        offset32 esi, "name_bootorder";
        call "fw_find";
        test eax, eax;
        jz ".ret";
        cmp ecx, MOST_BYTES;
        jbe ".fits";
        mov ecx, MOST_BYTES;
        label ".fits";
        mov edi, TEXT;
        call "fw_select";
        call "fw_read";
        mov byte_ptr(edi), 0;
        mov esi, TEXT;
        label ".next";
        cmp byte_ptr(esi), 0;
        je ".ret";
        call "boot_path";
        jc ".skip";
        push esi;
        call "boot_path_drives";
        pop esi;
        label ".skip"; // to the next line
        mov al, byte_ptr(esi);
        test al, al;
        jz ".ret";
        inc esi;
        cmp al, b'\n' as i32;
        jne ".skip";
        jmp ".next";
        label ".ret";
        ret;
        proc "name_bootorder";
        text "bootorder";
        proc "path_root";
        text ROOT;
    }
    Ok(())
}

fn path(s: &mut Section) -> Emit {
    code! { s;
        // ESI: a line, which moves on. -> the path's variables, EBX: its function. CF = 1: it leads to none
        proc "boot_path";
        offset32 edi, "path_root";
        mov ecx, ROOT.len() as i32;
        label ".root";
        mov al, byte_ptr(esi);
        cmp al, byte_ptr(edi);
        jne ".bad";
        inc esi;
        inc edi;
        dec ecx;
        jnz ".root";
        xor ebx, ebx; // the bus << 16
        label ".function";
        call "path_node";
        jc ".bad";
        and eax, 31;
        shl eax, 11;
        or ebx, eax;
        and edx, 7;
        shl edx, 8;
        or ebx, edx;
        or ebx, 0x8000_0000u32;
        xor eax, eax;
        call "cfg_read";
        cmp ax, -1;
        je ".bad";
        mov eax, 0x0c;
        call "cfg_read";
        shr eax, 16;
        and al, 0x7f;
        cmp al, 1;
        jne ".device";
        mov eax, 0x18;
        call "cfg_read";
        movzx ebx, ah; // the bus behind it
        shl ebx, 16;
        jmp ".function";
        label ".device";
        mov var(ebda::PATH_FUNCTION), ebx;
        mov eax, 8;
        call "cfg_read";
        shr eax, 16;
        mov var(ebda::PATH_CLASS), eax;
        call ".unit";
        mov var(ebda::PATH_UNITS), eax;
        call ".unit";
        mov var(ebda::PATH_UNITS + 4), eax;
        clc;
        ret;
        label ".unit";
        call "path_node";
        jnc ".ret";
        mov eax, -1;
        label ".ret";
        ret;
        label ".bad";
        stc;
        ret;
    }
    Ok(())
}

fn numbers(s: &mut Section) -> Emit {
    code! { s;
        // ESI: before a node, which it moves past. -> EAX, EDX: the numbers behind its "@". CF = 1: the path has no more nodes
        proc "path_node";
        mov al, byte_ptr(esi);
        cmp al, b'/' as i32;
        jne ".none";
        label ".name";
        inc esi;
        mov al, byte_ptr(esi);
        cmp al, b'@' as i32;
        je ".numbers";
        cmp al, b'/' as i32;
        je ".none";
        cmp al, b' ' as i32;
        ja ".name";
        label ".none";
        stc;
        ret;
        label ".numbers";
        inc esi;
        call "path_number";
        push eax;
        xor eax, eax;
        cmp byte_ptr(esi), b',' as i32;
        jne ".one";
        inc esi;
        call "path_number";
        label ".one";
        mov edx, eax;
        pop eax;
        label ".rest"; // whatever else there is
        cmp byte_ptr(esi), b'/' as i32;
        je ".end";
        cmp byte_ptr(esi), b' ' as i32;
        jb ".end";
        inc esi;
        jmp ".rest";
        label ".end";
        clc;
        ret;
        proc "path_number"; // ESI: hexadecimal digits, which it moves past -> EAX. Destroys ECX
        xor eax, eax;
        label ".digit";
        movzx ecx, byte_ptr(esi);
        or cl, 0x20;
        sub cl, b'0' as i32;
        cmp cl, 9;
        jbe ".add";
        sub cl, (b'a' - b'0') as i32;
        cmp cl, 5;
        ja ".ret";
        add cl, 10;
        label ".add";
        shl eax, 4;
        add eax, ecx;
        inc esi;
        jmp ".digit";
        label ".ret";
        ret;
    }
    Ok(())
}

fn drives(s: &mut Section) -> Emit {
    code! { s;
        proc "boot_path_drives"; // the path's variables: puts what it leads to into the order
        cmp var(ebda::PATH_CLASS), 0x0601; // an ISA bridge: the diskette controller's node, then the drive's
        jne ".disks";
        mov eax, var(ebda::PATH_UNITS + 4);
        cmp eax, 1;
        ja ".ret";
        cmp byte_ptr(EBDA + ebda::FLOPPY_TYPE + eax), 0;
        je ".ret";
        mov ah, al;
        mov al, boot_class::FLOPPY;
        jmp "boot_order_add";
        label ".disks";
        xor ecx, ecx;
        label ".next";
        cmp cl, var8(ebda::DRIVE_COUNT);
        jae ".ret";
        mov esi, ecx;
        shl esi, 5;
        add esi, EBDA + ebda::DRIVES;
        inc ecx;
        call "path_names_drive";
        jne ".next";
        // ECX: its number + 1.
        cmp byte_ptr(esi + drive::KIND), kind::ATAPI;
        je ".cd";
        mov esi, EBDA + ebda::DISK_MAP;
        mov edi, EBDA + ebda::PLACED_DISKS;
        call "place_drive";
        jc ".ret";
        mov al, boot_class::DISK;
        jmp "boot_order_add";
        label ".cd";
        mov esi, EBDA + ebda::CD_MAP;
        mov edi, EBDA + ebda::PLACED_CDS;
        call "place_drive";
        jc ".ret";
        mov al, boot_class::CD;
        jmp "boot_order_add";
        label ".ret";
        ret;
        proc "boot_order_add"; // AL: class, AH: number
        movzx edx, var8(ebda::BOOT_COUNT);
        cmp edx, ebda::BOOT_ORDER_MAX;
        jae ".ret";
        mov word_ptr(EBDA + ebda::BOOT_ORDER + edx * 2), ax;
        inc var8(ebda::BOOT_COUNT);
        label ".ret";
        ret;
    }
    debug_assert_eq!(drive::SIZE, 32);
    Ok(())
}

fn same(s: &mut Section) -> Emit {
    code! { s;
        proc "path_names_drive"; // ESI: entry. ZF = 1: the path leads there. Keeps ECX, ESI. Destroys EAX, EDX
        mov eax, var(ebda::PATH_FUNCTION);
        shr eax, 8;
        mov dl, byte_ptr(esi + drive::KIND);
        cmp dl, kind::VIRTIO;
        je ".card";
        cmp dl, kind::NVME;
        je ".namespace";
        test byte_ptr(esi + drive::FLAGS), drive::AHCI;
        jnz ".port";
        // At an IDE channel.
        cmp var(ebda::PATH_CLASS), 0x0101;
        jne ".ret";
        cmp word_ptr(esi + drive::PORT), 0x1f0;
        setne dl;
        movzx edx, dl;
        cmp edx, var(ebda::PATH_UNITS);
        jne ".ret";
        movzx edx, byte_ptr(esi + drive::UNIT);
        shr edx, 4;
        and edx, 1;
        cmp edx, var(ebda::PATH_UNITS + 4);
        label ".ret";
        ret;
        label ".namespace";
        movzx edx, byte_ptr(esi + drive::UNIT);
        cmp edx, var(ebda::PATH_UNITS);
        jne ".ret";
        label ".card";
        cmp ax, word_ptr(esi + drive::PORT);
        ret;
        label ".port";
        movzx edx, byte_ptr(esi + drive::UNIT);
        cmp edx, var(ebda::PATH_UNITS);
        jne ".ret";
        // The controller whose index port the drive has.
        xor edx, edx;
        label ".controller";
        cmp dl, var8(ebda::AHCI_COUNT);
        jae ".none";
        cmp ax, word_ptr(EBDA + ebda::AHCI_FUNCTIONS + edx * 2);
        je ".found";
        inc edx;
        jmp ".controller";
        label ".found";
        mov ax, word_ptr(EBDA + ebda::AHCI_PORTS + edx * 2);
        cmp ax, word_ptr(esi + drive::PORT);
        ret;
        label ".none";
        or al, 1; // ZF = 0
        ret;
    }
    Ok(())
}

fn place(s: &mut Section) -> Emit {
    code! { s;
        // CL: number of a drive + 1, ESI: map of its kind, EDI: how many have their places there. It gets the next place, those
        // after it move up. -> AH: its place. CF = 1: it has one already, or is not in the map
        proc "place_drive";
        movzx edx, byte_ptr(edi);
        mov ebx, edx;
        label ".look";
        cmp edx, 8;
        jae ".none";
        cmp byte_ptr(esi + edx), cl;
        je ".move";
        inc edx;
        jmp ".look";
        label ".move";
        cmp edx, ebx;
        je ".here";
        mov al, byte_ptr(esi + edx - 1);
        mov byte_ptr(esi + edx), al;
        dec edx;
        jmp ".move";
        label ".here";
        mov byte_ptr(esi + edx), cl;
        inc byte_ptr(edi);
        mov ah, dl;
        clc;
        ret;
        label ".none";
        stc;
        ret;
    }
    Ok(())
}
