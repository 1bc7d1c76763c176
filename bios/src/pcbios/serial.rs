//! Serial lines and printers (INT 14h, INT 17h), and the serial console: what INT 10h writes also goes to a serial line, and
//! what comes from there are keys.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::frame as f;
use super::layout::{bda, ebda};
use super::video::vars;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    int14(s)?;
    int17(s)?;
    ports(s)?;
    console_output(s)?;
    console_text(s)?;
    console_input(s)
}

fn int14(s: &mut Section) -> Emit {
    f::service(s, "int14", "serial_service")?;
    code! { s;
        proc "serial_service"; // DX: line
        mov bx, f::dx_();
        cmp bx, 4;
        jae ".ret";
        add bx, bx;
        mov dx, word_ptr(bx + bda::RS232_BASE);
        test dx, dx;
        jz ".ret";
        mov ah, f::ah_();
        select ah, &[(0, ".initialise"), (1, ".send"), (2, ".receive"), (3, ".status")];
        label ".ret";
        ret;
        label ".initialise"; // AL: rate, parity, stop bits, length
        add dl, 3;
        mov al, 0x80;
        out dx, al;
        sub dl, 3;
        movzx bx, f::al_();
        shr bx, 5;
        add bx, bx;
        offset di, "divisors";
        mov ax, word_ptr(bx + di).cs();
        out dx, al;
        inc dx;
        mov al, ah;
        out dx, al;
        add dl, 2;
        mov al, f::al_();
        and al, 0x1f;
        out dx, al;
        sub dl, 2;
        mov al, 0;
        out dx, al;
        dec dx;
        jmp ".status";
        label ".send";
        call ".modem";
        mov al, f::al_();
        call "serial_send";
        jmp ".line_status";
        label ".modem";
        add dl, 4;
        mov al, 3;
        out dx, al;
        sub dl, 4;
        ret;
        label ".receive";
        call ".modem";
        mov cx, 66; // about a second
        label ".wait";
        push cx;
        add dl, 5;
        in_ al, dx;
        sub dl, 5;
        test al, 1;
        jnz ".there";
        mov ecx, 1000;
        call "refresh_wait";
        pop cx;
        dec cx;
        jnz ".wait";
        or al, 0x80;
        mov f::ah_(), al;
        ret;
        label ".there";
        pop cx;
        and al, 0x1e;
        mov f::ah_(), al;
        in_ al, dx;
        mov f::al_(), al;
        ret;
        label ".status";
        add dl, 6;
        in_ al, dx;
        mov f::al_(), al;
        sub dl, 6;
        label ".line_status";
        add dl, 5;
        in_ al, dx;
        mov f::ah_(), al;
        ret;
        proc "divisors";
        dw &[1047, 768, 384, 192, 96, 48, 24, 12];
        proc "serial_send"; // DX: port, AL: byte. Destroys nothing
        push ax;
        push cx;
        push dx;
        mov ah, al;
        add dl, 5;
        xor cx, cx;
        label ".wait";
        in_ al, dx;
        test al, 0x20;
        jnz ".ready";
        dec cx;
        jnz ".wait";
        label ".ready";
        sub dl, 5;
        mov al, ah;
        out dx, al;
        pop dx;
        pop cx;
        pop ax;
        ret;
    }
    Ok(())
}

fn int17(s: &mut Section) -> Emit {
    f::service(s, "int17", "printer_service")?;
    code! { s;
        proc "printer_service"; // DX: printer
        mov bx, f::dx_();
        cmp bx, 3;
        jae ".ret";
        add bx, bx;
        mov dx, word_ptr(bx + bda::PRINTER_BASE);
        test dx, dx;
        jz ".ret";
        mov ah, f::ah_();
        cmp ah, 0;
        jne ".not_print";
        mov al, f::al_();
        out dx, al;
        add dl, 2;
        mov al, 0x0d; // strobe
        out dx, al;
        mov al, 0x0c;
        out dx, al;
        sub dl, 2;
        label ".not_print";
        cmp ah, 1;
        jne ".status";
        add dl, 2;
        mov al, 8;
        out dx, al;
        mov al, 0x0c;
        out dx, al;
        sub dl, 2;
        label ".status";
        inc dx;
        in_ al, dx;
        xor al, 0x48;
        and al, 0xf8;
        mov f::ah_(), al;
        label ".ret";
        ret;
    }
    Ok(())
}

fn ports(s: &mut Section) -> Emit {
    code! { s;
        proc "detect_ports"; // serial lines by their scratch registers, printers by their data registers
        mov di, bda::RS232_BASE;
        mov dx, 0x3f8;
        call ".serial";
        mov dx, 0x2f8;
        call ".serial";
        mov dx, 0x3e8;
        call ".serial";
        mov dx, 0x2e8;
        call ".serial";
        mov ax, di;
        mov di, bda::PRINTER_BASE;
        // Equipment: bits 9-11 serial lines, 14-15 printers.
        shl ax, 8;
        or word_ptr(bda::EQUIP_FLAG), ax;
        mov dx, 0x378;
        call ".printer";
        mov dx, 0x278;
        call ".printer";
        mov ax, di;
        sub ax, bda::PRINTER_BASE;
        shl ax, 13;
        or word_ptr(bda::EQUIP_FLAG), ax;
        ret;
        label ".serial";
        add dl, 7;
        mov al, 0x5a;
        out dx, al;
        in_ al, dx;
        sub dl, 7;
        cmp al, 0x5a;
        jne ".ret";
        mov word_ptr(di), dx;
        add di, 2;
        ret;
        label ".printer";
        mov al, 0xaa;
        out dx, al;
        in_ al, dx;
        cmp al, 0xaa;
        jne ".ret";
        mov word_ptr(di), dx;
        add di, 2;
        label ".ret";
        ret;
        proc "start_console"; // the line of the serial console: 115200 8N1
        mov dx, word_ptr(ebda::SERIAL_CONSOLE).fs();
        test dx, dx;
        jz ".ret";
        add dl, 3;
        mov al, 0x80;
        out dx, al;
        sub dl, 3;
        mov ax, 1;
        out dx, ax;
        add dl, 3;
        mov al, 3;
        out dx, al;
        dec dx;
        mov al, 7;
        out dx, al;
        add dl, 2;
        mov al, 3;
        out dx, al;
        mov word_ptr(ebda::CONSOLE_CURSOR).fs(), -1;
        mov byte_ptr(ebda::CONSOLE_COLOUR).fs(), 7;
        // INT 10h goes through here from now on.
        xor ax, ax;
        mov es, ax;
        mov eax, dword_ptr(0x10 * 4).es();
        mov dword_ptr(ebda::CONSOLE_NEXT).fs(), eax;
        offset ax, "int10_console";
        mov word_ptr(0x10 * 4).es(), ax;
        mov word_ptr(0x10 * 4 + 2).es(), cs;
        label ".ret";
        ret;
    }
    Ok(())
}

fn console_output(s: &mut Section) -> Emit {
    s.proc("int10_console")?;
    f::enter(s)?;
    code! { s;
        mov ah, f::ah_();
        push_offset ".out";
        select ah, &[(0x0e, "console_teletype"), (0x09, "console_cells"), (0x0a, "console_cells"), (0x13, "console_string"), (0x00, "console_clear"), (0x06, "console_scroll"), (0x02, "console_move")];
        ret;
        label ".out";
        pop fs;
        pop es;
        pop ds;
        popad;
        // On to the video BIOS, with all registers as they were: its address is pushed under a far return.
        sub sp, 4;
        push bp;
        push ds;
        push eax;
        mov bp, sp;
        push super::layout::EBDA_SEGMENT;
        pop ds;
        mov eax, dword_ptr(ebda::CONSOLE_NEXT);
        mov dword_ptr(bp + 8), eax;
        pop eax;
        pop ds;
        pop bp;
        retf;
    }
    Ok(())
}

fn console_text(s: &mut Section) -> Emit {
    code! { s;
        proc "console_byte"; // AL. Keeps everything
        push dx;
        mov dx, word_ptr(ebda::SERIAL_CONSOLE).fs();
        call "serial_send";
        pop dx;
        ret;
        proc "console_escape"; // ESC [
        push ax;
        mov al, 0x1b;
        call "console_byte";
        mov al, b'[' as i32;
        call "console_byte";
        pop ax;
        ret;
        proc "console_number"; // AL, below 100
        push ax;
        aam 10;
        cmp ah, 0;
        je ".one";
        xchg al, ah;
        add al, 0x30;
        call "console_byte";
        xchg al, ah;
        label ".one";
        add al, 0x30;
        call "console_byte";
        pop ax;
        ret;
        proc "console_sync"; // the terminal's cursor to the screen's. DX: it
        movzx bx, byte_ptr(vars::ACTIVE_PAGE);
        add bx, bx;
        mov dx, word_ptr(bx + vars::CURSOR_POSN);
        proc "console_goto"; // DX: row and column
        cmp dx, word_ptr(ebda::CONSOLE_CURSOR).fs();
        je ".ret";
        push ax;
        call "console_escape";
        mov al, dh;
        inc al;
        call "console_number";
        mov al, b';' as i32;
        call "console_byte";
        mov al, dl;
        inc al;
        call "console_number";
        mov al, b'H' as i32;
        call "console_byte";
        pop ax;
        mov word_ptr(ebda::CONSOLE_CURSOR).fs(), dx;
        label ".ret";
        ret;
        proc "console_colour"; // AL: attribute
        cmp al, byte_ptr(ebda::CONSOLE_COLOUR).fs();
        je ".ret";
        mov byte_ptr(ebda::CONSOLE_COLOUR).fs(), al;
        pusha;
        push ax;
        call "console_escape";
        mov al, b'0' as i32;
        call "console_byte";
        pop ax;
        push ax;
        test al, 8;
        jz ".normal";
        mov al, b';' as i32;
        call "console_byte";
        mov al, b'1' as i32;
        call "console_byte";
        label ".normal";
        pop ax;
        mov cl, b'3' as i32;
        call ".digit";
        shr al, 4;
        mov cl, b'4' as i32;
        call ".digit";
        mov al, b'm' as i32;
        call "console_byte";
        popa;
        label ".ret";
        ret;
        label ".digit"; // CL: 3 or 4, AL: colour, whose red and blue change places
        push ax;
        mov al, b';' as i32;
        call "console_byte";
        mov al, cl;
        call "console_byte";
        pop ax;
        push ax;
        mov ah, al;
        and al, 2;
        test ah, 1;
        jz ".no_blue";
        or al, 4;
        label ".no_blue";
        test ah, 4;
        jz ".no_red";
        or al, 1;
        label ".no_red";
        add al, 0x30;
        call "console_byte";
        pop ax;
        ret;
        proc "console_printable"; // AL: a visible character, whatever it is; the console's cursor moves on. DX: where
        cmp al, 0x20;
        jb ".symbol";
        cmp al, 0x7e;
        jbe ".send";
        // Boxes and arrows as ASCII.
        cmp al, 0xb3;
        jb ".symbol";
        cmp al, 0xdf;
        ja ".symbol";
        push bx;
        movzx bx, al;
        sub bl, 0xb3;
        push si;
        offset si, "ascii_boxes";
        mov al, byte_ptr(bx + si).cs();
        pop si;
        pop bx;
        jmp ".send";
        label ".symbol";
        mov al, b'?' as i32;
        label ".send";
        call "console_byte";
        inc dl;
        cmp dl, byte_ptr(vars::CRT_COLS);
        jb ".same_row";
        mov dx, -1; // terminals differ at the edge
        label ".same_row";
        mov word_ptr(ebda::CONSOLE_CURSOR).fs(), dx;
        ret;
        proc "ascii_boxes";
        bytes b"|||||++|++++++++++-+||++++|-++++++++++++++#___#";

        proc "console_teletype"; // AH=0Eh
        mov al, f::al_();
        call "console_sync";
        cmp al, 0x0d;
        je ".return";
        cmp al, 0x0a;
        je ".line_feed";
        cmp al, 8;
        je ".back";
        cmp al, 7;
        je "console_byte";
        jmp "console_printable";
        label ".return";
        mov dl, 0;
        jmp ".send";
        label ".back";
        cmp dl, 0;
        je ".ret";
        dec dl;
        jmp ".send";
        label ".line_feed";
        cmp dh, byte_ptr(vars::ROWS);
        jae ".send";
        inc dh;
        label ".send";
        call "console_byte";
        mov word_ptr(ebda::CONSOLE_CURSOR).fs(), dx;
        label ".ret";
        ret;
        proc "console_cells"; // AH=09h, 0Ah
        call "console_sync";
        cmp f::ah_(), 9;
        jne ".same_colour";
        mov al, f::bl_();
        call "console_colour";
        label ".same_colour";
        mov cx, f::cx_();
        movzx bx, byte_ptr(vars::CRT_COLS);
        sub bl, dl;
        cmp cx, bx;
        jbe ".next";
        mov cx, bx; // to the end of the row
        label ".next";
        jcxz ".ret";
        mov al, f::al_();
        call "console_printable";
        dec cx;
        jmp ".next";
        label ".ret";
        ret;
        proc "console_string"; // AH=13h
        mov es, f::es_();
        mov si, f::bp_();
        mov cx, f::cx_();
        mov dx, f::dx_();
        call "console_goto";
        mov al, f::bl_();
        call "console_colour";
        label ".next";
        jcxz ".ret";
        mov al, byte_ptr(si).es();
        inc si;
        test f::al_(), 2;
        jz ".no_attribute";
        inc si;
        label ".no_attribute";
        cmp al, 0x0d;
        je ".control";
        cmp al, 0x0a;
        je ".control";
        call "console_printable";
        jmp ".sent";
        label ".control";
        call "console_byte";
        mov word_ptr(ebda::CONSOLE_CURSOR).fs(), -1;
        label ".sent";
        dec cx;
        jmp ".next";
        label ".ret";
        ret;
        proc "console_move"; // AH=02h: nothing yet: the next character finds out
        ret;
        proc "console_scroll"; // AH=06h, AL: 0 clears the window
        cmp f::al_(), 0;
        jne ".lines";
        cmp f::cx_(), 0;
        jne ".ret";
        mov al, f::dh_();
        cmp al, byte_ptr(vars::ROWS);
        jb ".ret";
        mov al, f::bh_();
        call "console_colour";
        jmp "console_clear";
        label ".lines"; // the whole screen moves up: line feeds at its end do that
        cmp f::cx_(), 0;
        jne ".ret";
        mov dh, byte_ptr(vars::ROWS);
        mov dl, 0;
        call "console_goto";
        mov al, 0x0a;
        call "console_byte";
        label ".ret";
        ret;
        proc "console_clear"; // AH=00h
        call "console_escape";
        mov al, b'2' as i32;
        call "console_byte";
        mov al, b'J' as i32;
        call "console_byte";
        mov word_ptr(ebda::CONSOLE_CURSOR).fs(), -1;
        ret;
    }
    Ok(())
}

fn console_input(s: &mut Section) -> Emit {
    code! { s;
        // Takes what has come from the console's line into the keyboard buffer. Keeps everything
        proc "serial_poll";
        pusha;
        pushf;
        cli;
        mov dx, word_ptr(ebda::SERIAL_CONSOLE).fs();
        test dx, dx;
        jz ".done";
        add dl, 5;
        label ".next";
        in_ al, dx;
        cmp al, -1;
        je ".done";
        test al, 1;
        jz ".idle";
        sub dl, 5;
        in_ al, dx;
        add dl, 5;
        call "console_key";
        jmp ".next";
        label ".idle"; // a lone Escape was the key
        cmp byte_ptr(ebda::SERIAL_ESCAPE).fs(), 1;
        jne ".done";
        dec byte_ptr(ebda::SERIAL_WAIT).fs();
        jnz ".done";
        mov byte_ptr(ebda::SERIAL_ESCAPE).fs(), 0;
        mov ax, 0x011b;
        call "put_key";
        label ".done";
        popf;
        popa;
        ret;
        proc "console_key"; // AL: a byte of the terminal
        mov ah, byte_ptr(ebda::SERIAL_ESCAPE).fs();
        cmp ah, 1;
        je ".after_escape";
        cmp ah, 2;
        je ".sequence";
        cmp al, 0x1b;
        je ".escape";
        // The key of this character: looked up in both columns of the table.
        cmp al, 0x7f;
        jne ".not_delete";
        mov al, 8;
        label ".not_delete";
        cmp al, 0x0a;
        jne ".not_line_feed";
        mov al, 0x0d;
        label ".not_line_feed";
        offset si, "key_table";
        mov cx, 0x46;
        label ".look";
        cmp al, byte_ptr(si).cs();
        je ".plain";
        cmp al, byte_ptr(si + 2).cs();
        je ".shifted";
        add si, 8;
        dec cx;
        jnz ".look";
        // Control characters of letters.
        mov ah, 0;
        jmp "put_key";
        label ".plain";
        mov ax, word_ptr(si).cs();
        jmp "put_key";
        label ".shifted";
        mov ax, word_ptr(si + 2).cs();
        jmp "put_key";
        label ".escape";
        mov byte_ptr(ebda::SERIAL_ESCAPE).fs(), 1;
        mov byte_ptr(ebda::SERIAL_WAIT).fs(), 3;
        ret;
        label ".after_escape";
        mov byte_ptr(ebda::SERIAL_ESCAPE).fs(), 2;
        cmp al, b'[' as i32;
        je ".ret";
        cmp al, b'O' as i32;
        je ".ret";
        mov byte_ptr(ebda::SERIAL_ESCAPE).fs(), 0;
        push ax;
        mov ax, 0x011b;
        call "put_key";
        pop ax;
        jmp "console_key";
        label ".sequence"; // its last byte, or a digit before a tilde
        mov ah, 0;
        cmp al, b'~' as i32;
        je ".end";
        cmp al, b'0' as i32;
        jb ".end";
        cmp al, b'9' as i32;
        jbe ".digit";
        select al, &[(b'A' as i32, ".up"), (b'B' as i32, ".down"), (b'C' as i32, ".right"), (b'D' as i32, ".left"), (b'H' as i32, ".home"), (b'F' as i32, ".last")];
        jmp ".end";
        label ".up";
        mov ax, 0x4800;
        jmp ".store";
        label ".down";
        mov ax, 0x5000;
        jmp ".store";
        label ".right";
        mov ax, 0x4d00;
        jmp ".store";
        label ".left";
        mov ax, 0x4b00;
        jmp ".store";
        label ".home";
        mov ax, 0x4700;
        jmp ".store";
        label ".last";
        mov ax, 0x4f00;
        label ".store";
        call "put_key";
        label ".end";
        mov byte_ptr(ebda::SERIAL_ESCAPE).fs(), 0;
        label ".ret";
        ret;
        label ".digit"; // 1 Home, 2 Insert, 3 Delete, 4 End, 5 and 6 pages
        movzx bx, al;
        sub bl, 0x30;
        cmp bl, 6;
        ja ".ret";
        offset si, "tilde_keys";
        mov ah, byte_ptr(bx + si).cs();
        mov al, 0;
        test ah, ah;
        jz ".ret";
        jmp "put_key";
        proc "tilde_keys";
        db &[0, 0x47, 0x52, 0x53, 0x4f, 0x49, 0x51];
    }
    Ok(())
}
