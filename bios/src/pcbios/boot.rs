//! Choosing what to boot from, and starting it: INT 19h, INT 18h, and the boot menu.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::layout::{BOOT_SECTOR, POST_STACK, bda, boot_class, drive, ebda, op};

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    order(s)?;
    bootstrap(s)?;
    classes(s)?;
    start(s)?;
    menu(s)?;
    pick(s)
}

fn order(s: &mut Section) -> Emit {
    code! { s;
        // What the board names is there already ("boot_paths"). After it, from the CMOS, three nibbles, as QEMU's -boot leaves them;
        // by default diskette, CD, disk.
        proc "boot_order";
        call "first_tables";
        mov al, 0x38;
        call "cmos";
        shr al, 4;
        mov cl, al;
        mov al, 0x3d;
        call "cmos";
        mov ch, al;
        call ".three";
        cmp byte_ptr(ebda::BOOT_COUNT).fs(), 0;
        jne ".ret";
        mov ch, boot_class::CD << 4 | boot_class::FLOPPY;
        mov cl, boot_class::DISK;
        label ".three"; // CH: the first two, CL: the third
        mov al, ch;
        and al, 15;
        call ".add";
        mov al, ch;
        shr al, 4;
        call ".add";
        mov al, cl;
        label ".add"; // AL: class: its first drive, if it is not there
        cmp al, 0;
        je ".ret";
        cmp al, boot_class::CD;
        ja ".ret";
        mov ah, 0;
        mov di, ebda::BOOT_ORDER;
        movzx dx, byte_ptr(ebda::BOOT_COUNT).fs();
        label ".look";
        sub dx, 1;
        jc ".new";
        cmp word_ptr(di).fs(), ax;
        je ".ret";
        add di, 2;
        jmp ".look";
        label ".new";
        cmp byte_ptr(ebda::BOOT_COUNT).fs(), ebda::BOOT_ORDER_MAX;
        jae ".ret";
        inc byte_ptr(ebda::BOOT_COUNT).fs();
        mov word_ptr(di).fs(), ax;
        label ".ret";
        ret;
        proc "first_tables"; // the parameter tables of the first two disks, whose numbers may have changed
        movzx ax, byte_ptr(ebda::DISK_MAP).fs();
        call "drive_entry";
        jc ".ret";
        mov di, ebda::FDPT0;
        call "parameter_table";
        movzx ax, byte_ptr(ebda::DISK_MAP + 1).fs();
        call "drive_entry";
        jc ".ret";
        mov di, ebda::FDPT1;
        jmp "parameter_table";
        label ".ret";
        ret;
    }
    Ok(())
}

fn bootstrap(s: &mut Section) -> Emit {
    code! { s;
        proc "int18"; // a boot program gives up: the next one
        xor ax, ax;
        mov ss, ax;
        mov esp, POST_STACK;
        call "segments";
        sti;
        mov si, word_ptr(ebda::BOOT_NEXT).fs();
        cmp si, ebda::BOOT_ORDER;
        jb "int19";
        cmp si, ebda::BOOT_ORDER + 2 * ebda::BOOT_ORDER_MAX;
        ja "int19";
        jmp "boot_next";
        proc "int19";
        xor ax, ax;
        mov ss, ax;
        mov esp, POST_STACK;
        call "segments";
        sti;
        mov byte_ptr(ebda::ET_MEDIA).fs(), 0;
        mov byte_ptr(ebda::ET_ACTIVE).fs(), 0;
        mov si, ebda::BOOT_ORDER;
        proc "boot_next"; // FS:SI: the next of the order
        mov al, byte_ptr(si).fs();
        cmp al, boot_class::END;
        je ".none";
        mov bl, byte_ptr(si + 1).fs();
        add si, 2;
        mov word_ptr(ebda::BOOT_NEXT).fs(), si;
        call "boot_try";
        mov si, word_ptr(ebda::BOOT_NEXT).fs();
        jmp "boot_next";
        label ".none";
        offset si, "text_nothing";
        call "puts";
        jmp "monitor";
        proc "text_nothing";
        text "\nNothing to boot from: no bootable diskette, CD or disk was found.\n";
        proc "segments"; // DS: BIOS data area, FS: extended BIOS data area. Keeps the rest
        push 0x40;
        pop ds;
        push super::layout::EBDA_SEGMENT;
        pop fs;
        cld;
        ret;
        proc "boot_try"; // AL: class, BL: number of the drive. Comes back if that does not boot
        select al, &[(boot_class::FLOPPY, "boot_floppy"), (boot_class::DISK, "boot_disk"), (boot_class::CD, "boot_cd")];
        ret;
    }
    Ok(())
}

fn classes(s: &mut Section) -> Emit {
    code! { s;
        proc "boot_floppy"; // BL: drive
        movzx di, bl;
        cmp byte_ptr(di + ebda::FLOPPY_TYPE).fs(), 0;
        je ".ret";
        offset si, "text_from_floppy";
        call "puts";
        // Three tries: the first one may only find out that there is another diskette.
        mov cx, 3;
        label ".again";
        push cx;
        push bx;
        mov dl, bl;
        mov ah, 0;
        int 0x13;
        pop bx;
        push bx;
        mov dl, bl;
        mov dh, 0;
        mov cx, 1;
        xor bx, bx;
        mov es, bx;
        mov bx, BOOT_SECTOR;
        mov ax, 0x0201;
        int 0x13;
        pop bx;
        pop cx;
        jnc ".read";
        dec cx;
        jnz ".again";
        offset si, "text_unreadable";
        jmp "puts";
        label ".read";
        mov dl, bl;
        // A diskette boots with any program in its first sector, but not with none.
        xor ax, ax;
        mov es, ax;
        cmp word_ptr(BOOT_SECTOR).es(), 0;
        je ".empty";
        call "boot_signature";
        je "boot_start";
        label ".empty";
        offset si, "text_no_signature";
        jmp "puts";
        label ".ret";
        ret;
        proc "boot_disk"; // BL: number
        cmp bl, byte_ptr(bda::DISK_COUNT);
        jae ".ret";
        offset si, "text_from_disk";
        call "puts";
        movzx di, bl;
        mov dl, bl;
        or dl, 0x80;
        movzx ax, byte_ptr(di + ebda::DISK_MAP).fs();
        call "drive_entry";
        mov word_ptr(ebda::RQ_DRIVE).fs(), si;
        push dx;
        xor eax, eax;
        mov dword_ptr(ebda::RQ_LBA).fs(), eax;
        mov dword_ptr(ebda::RQ_LBA + 4).fs(), eax;
        mov word_ptr(ebda::RQ_COUNT).fs(), 1;
        mov dword_ptr(ebda::RQ_BUFFER).fs(), BOOT_SECTOR;
        mov byte_ptr(ebda::RQ_OP).fs(), op::READ;
        call "transfer";
        pop dx;
        jc ".unreadable";
        call "boot_signature";
        je "boot_start";
        offset si, "text_no_signature";
        jmp "puts";
        label ".unreadable";
        offset si, "text_unreadable";
        jmp "puts";
        label ".ret";
        ret;
        proc "boot_cd"; // BL: number
        movzx di, bl;
        cmp byte_ptr(di + ebda::CD_MAP).fs(), 0;
        je ".ret";
        offset si, "text_from_cd";
        call "puts";
        call "el_torito";
        jnc ".loaded";
        call "puts";
        jmp "newline";
        label ".loaded";
        // Most programs expect 0000:7C00.
        mov ax, es;
        cmp ax, 0x07c0;
        je "boot_start";
        jmp "boot_start_segment";
        label ".ret";
        ret;
        proc "boot_signature"; // ZF = 1: the boot sector ends with 55AA
        xor ax, ax;
        mov es, ax;
        cmp word_ptr(BOOT_SECTOR + 510).es(), 0xaa55u32;
        ret;
        proc "text_from_floppy";
        text "Booting from diskette: ";
        proc "text_from_disk";
        text "Booting from disk: ";
        proc "text_from_cd";
        text "Booting from CD: ";
        proc "text_unreadable";
        text "it cannot be read\n";
        proc "text_no_signature";
        text "no boot sector (signature 55AA is missing)\n";
        proc "text_started";
        text "started\n\n";
    }
    Ok(())
}

fn start(s: &mut Section) -> Emit {
    code! { s;
        proc "boot_start"; // DL: drive; the program is at 0000:7C00
        xor ax, ax;
        mov es, ax;
        push ax;
        push BOOT_SECTOR;
        jmp ".go";
        proc "boot_start_segment"; // DL: drive; the program is at ES:0
        push es;
        push 0;
        jmp "boot_start.go";
        label "boot_start.go";
        offset si, "text_started";
        call "puts";
        mov dh, 0;
        movzx edx, dx;
        xor eax, eax;
        xor ebx, ebx;
        xor ecx, ecx;
        xor esi, esi;
        xor edi, edi;
        xor ebp, ebp;
        mov ds, ax;
        mov es, ax;
        mov fs, ax;
        mov gs, ax;
        sti;
        retf;
    }
    Ok(())
}

fn menu(s: &mut Section) -> Emit {
    code! { s;
        proc "boot_menu_key"; // was F12 or Esc pressed meanwhile, or is the menu asked for? Then it appears
        cmp byte_ptr(ebda::WANT_MENU).fs(), 0;
        je ".look";
        offset si, "text_press";
        call "puts";
        mov cx, 46; // two and a half seconds
        label ".wait";
        push cx;
        mov cx, 1;
        call "ticks_wait";
        pop cx;
        mov ah, 0x11;
        int 0x16;
        jnz ".look";
        dec cx;
        jnz ".wait";
        label ".look";
        mov ah, 0x11;
        int 0x16;
        jz ".ret";
        mov ah, 0x10;
        int 0x16;
        cmp ah, 0x86; // F12
        je "boot_menu";
        cmp ax, 0x011b; // Esc
        je "boot_menu";
        jmp ".look";
        label ".ret";
        ret;
        proc "text_press";
        text "Press F12 or Esc for the boot menu.\n";

        proc "boot_menu"; // lists everything; a digit boots it, Esc goes on
        offset si, "text_menu";
        call "puts";
        xor di, di; // entries
        mov bx, 0;
        label ".floppies";
        cmp byte_ptr(bx + ebda::FLOPPY_TYPE).fs(), 0;
        je ".no_floppy";
        mov al, boot_class::FLOPPY;
        call ".entry";
        offset si, "text_floppy";
        call "puts";
        mov al, b'A' as i32;
        add al, bl;
        call "putc";
        call "newline";
        label ".no_floppy";
        inc bx;
        cmp bx, 2;
        jb ".floppies";
        mov bx, 0;
        label ".disks";
        cmp byte_ptr(bx + ebda::DISK_MAP).fs(), 0;
        je ".no_disk";
        mov al, boot_class::DISK;
        call ".entry";
        offset si, "text_disk";
        call "puts";
        mov al, byte_ptr(bx + ebda::DISK_MAP).fs();
        call ".name";
        label ".no_disk";
        inc bx;
        cmp bx, 8;
        jb ".disks";
        mov bx, 0;
        label ".cds";
        cmp byte_ptr(bx + ebda::CD_MAP).fs(), 0;
        je ".no_cd";
        mov al, boot_class::CD;
        call ".entry";
        offset si, "text_cd";
        call "puts";
        mov al, byte_ptr(bx + ebda::CD_MAP).fs();
        call ".name";
        label ".no_cd";
        inc bx;
        cmp bx, 8;
        jb ".cds";
        jmp "boot_pick";
        label ".entry"; // AL: class, BL: number; notes it and writes its digit
        cmp di, 9;
        jae ".full";
        mov si, di;
        add si, si;
        mov byte_ptr(si + ebda::MENU).fs(), al;
        mov byte_ptr(si + ebda::MENU + 1).fs(), bl;
        inc di;
        label ".full";
        call "space";
        mov ax, di;
        call "put_digit";
        mov al, b'.' as i32;
        call "putc";
        jmp "space";
        label ".name"; // AL: number of the drive + 1
        movzx si, al;
        dec si;
        shl si, 5;
        add si, ebda::NAMES;
        call "puts_fs";
        jmp "newline";
    }
    debug_assert_eq!(drive::SIZE, 32);
    Ok(())
}

fn pick(s: &mut Section) -> Emit {
    code! { s;
        proc "boot_pick"; // DI: entries
        offset si, "text_pick";
        call "puts";
        label ".key";
        mov ah, 0x10;
        int 0x16;
        cmp al, 0x1b;
        je ".ret";
        cmp al, b'm' as i32;
        je "monitor";
        movzx bx, al;
        sub bx, b'1' as i32;
        jb ".key";
        cmp bx, di;
        jae ".key";
        call "newline";
        add bx, bx;
        mov al, byte_ptr(bx + ebda::MENU).fs();
        mov bl, byte_ptr(bx + ebda::MENU + 1).fs();
        call "boot_try";
        jmp "boot_menu";
        label ".ret";
        call "newline";
        ret;
        proc "text_menu";
        text "\nBoot menu\n";
        proc "text_pick";
        text "A digit boots it, m starts the monitor, Esc goes on with the usual order.\n";
        proc "text_floppy";
        text "Diskette ";
        proc "text_disk";
        text "Disk ";
        proc "text_cd";
        text "CD ";
    }
    Ok(())
}
