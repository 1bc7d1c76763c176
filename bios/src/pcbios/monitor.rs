//! The built-in monitor: what runs when there is nothing to boot.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::layout::{POST_STACK, ebda};

/// Characters of a line at most.
const LINE: i32 = 60;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    command_loop(s)?;
    line(s)?;
    number(s)?;
    dump(s)?;
    ports(s)?;
    pci_list(s)?;
    texts(s)
}

fn command_loop(s: &mut Section) -> Emit {
    code! { s;
        proc "monitor";
        xor ax, ax;
        mov ss, ax;
        mov esp, POST_STACK;
        call "segments";
        sti;
        offset si, "text_monitor";
        call "puts";
        label ".next";
        offset si, "text_prompt";
        call "puts";
        call "read_line";
        mov si, ebda::SECTOR;
        mov al, byte_ptr(si).fs();
        inc si;
        push_offset ".next";
        or al, 0x20;
        select al, &[
            (b'd' as i32, "monitor_dump"), (b'e' as i32, "monitor_edit"), (b'i' as i32, "monitor_in"), (b'o' as i32, "monitor_out"),
            (b'p' as i32, "pci_list"), (b'm' as i32, "memory_list"), (b'b' as i32, ".boot"), (b'r' as i32, "reset"),
            (b'q' as i32, ".off"), (b'c' as i32, "characters"), (0x20, ".nothing")
        ];
        offset si, "text_help";
        jmp "puts";
        label ".nothing";
        ret;
        label ".boot";
        call "boot_menu";
        jmp "int19";
        label ".off";
        call "power_off";
        offset si, "text_no_power";
        jmp "puts";
    }
    Ok(())
}

fn line(s: &mut Section) -> Emit {
    code! { s;
        proc "read_line"; // into the sector buffer, with a zero after it. Destroys AX, DI
        mov di, ebda::SECTOR;
        label ".next";
        mov ah, 0x10;
        int 0x16;
        cmp al, 0x0d;
        je ".done";
        cmp al, 8;
        je ".back";
        cmp al, 0x20;
        jb ".next";
        cmp al, 0x7e;
        ja ".next";
        cmp di, ebda::SECTOR + LINE;
        jae ".next";
        mov byte_ptr(di).fs(), al;
        inc di;
        call "putc";
        jmp ".next";
        label ".back";
        cmp di, ebda::SECTOR;
        je ".next";
        dec di;
        call "put_raw";
        call "space";
        call "put_raw";
        jmp ".next";
        label ".done";
        mov byte_ptr(di).fs(), 0;
        jmp "newline";
    }
    Ok(())
}

fn number(s: &mut Section) -> Emit {
    code! { s;
        proc "parse"; // FS:SI: hexadecimal digits after blanks -> EAX, SI behind them; CF = 1: none
        push ecx;
        xor ecx, ecx;
        label ".blank";
        mov al, byte_ptr(si).fs();
        cmp al, 0x20;
        jne ".first";
        inc si;
        jmp ".blank";
        label ".first";
        call ".digit";
        jc ".out";
        label ".next";
        shl ecx, 4;
        or cl, al;
        inc si;
        mov al, byte_ptr(si).fs();
        call ".digit";
        jnc ".next";
        clc;
        label ".out";
        mov eax, ecx;
        pop ecx;
        ret;
        label ".digit"; // AL: a character -> its value, CF = 1: none
        sub al, b'0' as i32;
        cmp al, 10;
        jb ".good";
        or al, 0x20;
        sub al, 0x31;
        cmp al, 6;
        jae ".bad";
        add al, 10;
        label ".good";
        clc;
        ret;
        label ".bad";
        stc;
        ret;
    }
    Ok(())
}

fn dump(s: &mut Section) -> Emit {
    code! { s;
        proc "monitor_dump"; // d ADDRESS: 128 bytes below 1 MiB, from there or from where the last one ended
        call "parse";
        jc ".continue";
        mov dword_ptr(ebda::MONITOR_AT).fs(), eax;
        label ".continue";
        mov cx, 8;
        label ".line";
        mov eax, dword_ptr(ebda::MONITOR_AT).fs();
        and eax, 0xf_fff0;
        call "put_hex8";
        call "space";
        mov ebx, eax;
        shr ebx, 4;
        mov es, bx;
        xor di, di;
        label ".byte";
        call "space";
        mov al, byte_ptr(di).es();
        call "put_hex2";
        inc di;
        cmp di, 16;
        jb ".byte";
        call "space";
        call "space";
        xor di, di;
        label ".character";
        mov al, byte_ptr(di).es();
        cmp al, 0x20;
        jb ".dot";
        cmp al, 0x7e;
        jbe ".shown";
        label ".dot";
        mov al, b'.' as i32;
        label ".shown";
        call "putc";
        inc di;
        cmp di, 16;
        jb ".character";
        call "newline";
        add dword_ptr(ebda::MONITOR_AT).fs(), 16;
        dec cx;
        jnz ".line";
        ret;
        proc "monitor_edit"; // e ADDRESS BYTE...
        call "parse";
        jc "monitor_usage";
        mov ebx, eax;
        label ".next";
        call "parse";
        jc ".ret";
        mov ecx, ebx;
        shr ecx, 4;
        mov es, cx;
        mov di, bx;
        and di, 15;
        stosb;
        inc ebx;
        jmp ".next";
        label ".ret";
        ret;
        proc "monitor_usage";
        offset si, "text_help";
        jmp "puts";
        proc "characters"; // the whole character set
        mov cl, 0;
        label ".next";
        mov ah, 9;
        mov al, cl;
        mov bx, 0x000f;
        push cx;
        mov cx, 1;
        int 0x10;
        mov ah, 3;
        mov bh, 0;
        int 0x10;
        inc dl;
        mov ah, 2;
        int 0x10;
        pop cx;
        inc cl;
        test cl, 0x1f;
        jnz ".next";
        call "newline";
        test cl, cl;
        jnz ".next";
        ret;
    }
    Ok(())
}

fn ports(s: &mut Section) -> Emit {
    code! { s;
        proc "monitor_in"; // i PORT: a byte
        call "parse";
        jc "monitor_usage";
        mov dx, ax;
        in_ al, dx;
        call "put_hex2";
        jmp "newline";
        proc "monitor_out"; // o PORT BYTE
        call "parse";
        jc "monitor_usage";
        mov dx, ax;
        call "parse";
        jc "monitor_usage";
        out dx, al;
        ret;
        proc "memory_list"; // the map that programs get
        xor ebx, ebx;
        label ".next";
        push fs;
        pop es;
        mov di, ebda::SECTOR;
        mov edx, u32::from_le_bytes(*b"PAMS");
        mov ecx, 20;
        mov eax, 0xe820;
        int 0x15;
        jc ".ret";
        mov si, ebda::SECTOR;
        call ".number";
        call ".number";
        mov al, byte_ptr(si).fs();
        call "put_digit";
        call "newline";
        test ebx, ebx;
        jnz ".next";
        label ".ret";
        ret;
        label ".number"; // 64 bits at FS:SI
        mov eax, dword_ptr(si + 4).fs();
        call "put_hex8";
        mov eax, dword_ptr(si).fs();
        call "put_hex8";
        add si, 8;
        jmp "space";
    }
    Ok(())
}

fn pci_list(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_list"; // bus, device, function, identity, class, interrupt
        xor ebx, ebx;
        label ".next";
        xor di, di;
        call "config_address";
        in_ eax, dx;
        cmp ax, -1;
        je ".absent";
        mov ecx, eax;
        mov eax, ebx;
        shr eax, 16;
        call "put_hex2";
        mov al, b':' as i32;
        call "putc";
        mov al, bh;
        shr al, 3;
        call "put_hex2";
        mov al, b'.' as i32;
        call "putc";
        mov al, bh;
        and al, 7;
        call "put_digit";
        call "space";
        mov eax, ecx;
        call "put_hex4";
        mov al, b':' as i32;
        call "putc";
        shr eax, 16;
        mov eax, ecx;
        shr eax, 16;
        call "put_hex4";
        offset si, "text_class";
        call "puts";
        mov di, 8;
        call "config_address";
        in_ eax, dx;
        shr eax, 16;
        call "put_hex4";
        offset si, "text_interrupt";
        call "puts";
        mov di, 0x3c;
        call "config_address";
        in_ al, dx;
        call "put_hex2";
        call "newline";
        // Function 0 of one with several, or a higher function: one on; else the next device.
        test bh, 7;
        jnz ".function";
        mov di, 0x0e;
        call "config_address";
        in_ al, dx;
        test al, 0x80;
        jnz ".function";
        jmp ".device";
        label ".absent";
        test bh, 7;
        jnz ".function";
        label ".device";
        add ebx, 0x800;
        jmp ".end";
        label ".function";
        add ebx, 0x100;
        label ".end";
        mov eax, ebx;
        shr eax, 16;
        cmp al, byte_ptr(ebda::PCI_LAST_BUS).fs();
        jbe ".next";
        ret;
    }
    Ok(())
}

fn texts(s: &mut Section) -> Emit {
    code! { s;
        proc "text_monitor";
        text "\nThis is the monitor. h lists its commands.\n";
        proc "text_prompt";
        text "> ";
        proc "text_help";
        text "d [ADDRESS]          memory\ne ADDRESS BYTE...    change memory\ni PORT               input\no PORT BYTE          output\np                    PCI functions\nm                    memory map\nc                    characters\nb                    boot menu\nr                    reset\nq                    power off\n";
        proc "text_no_power";
        text "This board cannot be switched off.\n";
        proc "text_class";
        text " class ";
        proc "text_interrupt";
        text " interrupt ";
    }
    Ok(())
}
