//! What POST and the monitor write with: texts and numbers by INT 10h.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};

/// The debug console of emulators: a byte written there appears on the host, and reading gives E9h.
const DEBUG_PORT: i32 = 0x402;

/// The procedures. All keep every register.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "putc"; // AL: character; a line feed begins a line
        cmp al, 0x0a;
        jne "put_raw";
        push ax;
        mov al, 0x0d;
        call "put_raw";
        pop ax;
        jmp "put_raw";
        proc "put_raw";
        pushad;
        mov ah, al;
        mov dx, DEBUG_PORT;
        in_ al, dx;
        cmp al, 0xe9;
        mov al, ah;
        jne ".quiet";
        out dx, al;
        label ".quiet";
        mov ah, 0x0e;
        mov bx, 0x0007;
        int 0x10;
        popad;
        ret;
        proc "puts"; // CS:SI: text
        push ax;
        push si;
        label ".next";
        mov al, byte_ptr(si).cs();
        inc si;
        test al, al;
        jz ".done";
        call "putc";
        jmp ".next";
        label ".done";
        pop si;
        pop ax;
        ret;
        proc "puts_fs"; // FS:SI: text
        push ax;
        push si;
        label ".next";
        mov al, byte_ptr(si).fs();
        inc si;
        test al, al;
        jz ".done";
        call "putc";
        jmp ".next";
        label ".done";
        pop si;
        pop ax;
        ret;
        proc "newline";
        push ax;
        mov al, 0x0a;
        call "putc";
        pop ax;
        ret;
        proc "space";
        push ax;
        mov al, 0x20;
        call "putc";
        pop ax;
        ret;
        proc "put_hex8"; // EAX
        rol eax, 16;
        call "put_hex4";
        rol eax, 16;
        jmp "put_hex4";
        proc "put_hex4"; // AX
        xchg al, ah;
        call "put_hex2";
        xchg al, ah;
        jmp "put_hex2";
        proc "put_hex2"; // AL
        ror al, 4;
        call "put_digit";
        rol al, 4;
        jmp "put_digit";
        proc "put_digit"; // AL: its low four bits
        push ax;
        and al, 0x0f;
        add al, 0x30;
        cmp al, 0x3a;
        jb ".decimal";
        add al, 7;
        label ".decimal";
        call "putc";
        pop ax;
        ret;
        proc "put_decimal"; // EAX
        pushad;
        xor cx, cx;
        mov ebx, 10;
        label ".divide";
        xor edx, edx;
        div ebx;
        push dx;
        inc cx;
        test eax, eax;
        jnz ".divide";
        label ".digit";
        pop ax;
        call "put_digit";
        dec cx;
        jnz ".digit";
        popad;
        ret;
    }
    Ok(())
}
