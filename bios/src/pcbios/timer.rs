//! Time: INT 08h and 1Ch (the tick), INT 1Ah AH=00h-07h (ticks and the real-time clock), INT 70h (its alarm), and waiting.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::frame as f;
use super::layout::bda;

/// Ticks of a day.
const DAY: u32 = 0x0018_00b0;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    tick(s)?;
    start(s)?;
    wait(s)?;
    int1a(s)?;
    clock(s)
}

fn tick(s: &mut Section) -> Emit {
    f::service(s, "int08", "tick")?;
    code! { s;
        proc "tick";
        inc dword_ptr(bda::TIMER_LOW);
        cmp dword_ptr(bda::TIMER_LOW), DAY;
        jb ".same_day";
        mov dword_ptr(bda::TIMER_LOW), 0;
        mov byte_ptr(bda::TIMER_OVERFLOW), 1;
        label ".same_day";
        // Diskette motors stop after a while.
        cmp byte_ptr(bda::MOTOR_COUNT), 0;
        je ".motors";
        dec byte_ptr(bda::MOTOR_COUNT);
        jnz ".motors";
        and byte_ptr(bda::MOTOR_STATUS), 0xf0;
        mov dx, 0x3f2;
        mov al, 0x0c;
        out dx, al;
        label ".motors";
        call "serial_poll";
        int 0x1c;
        cli;
        mov al, 0x20;
        out 0x20, al;
        ret;
        proc "int70"; // the clock's alarm or periodic interrupt
        push ax;
        push ds;
        mov al, 0x0c;
        out 0x70, al;
        in_ al, 0x71;
        test al, 0x20;
        jz ".no_alarm";
        sti;
        int 0x4a;
        cli;
        label ".no_alarm";
        mov al, 0x20;
        out 0xa0, al;
        out 0x20, al;
        pop ds;
        pop ax;
        iret;
    }
    Ok(())
}

fn start(s: &mut Section) -> Emit {
    code! { s;
        proc "start_timer"; // 18.2 Hz, and the ticks since midnight from the clock
        mov al, 0x34;
        out 0x43, al;
        mov al, 0;
        out 0x40, al;
        out 0x40, al;
        mov al, 4; // hours
        call "clock_binary";
        imul_3 ebx, eax, 60;
        mov al, 2;
        call "clock_binary";
        add ebx, eax;
        imul_3 ebx, ebx, 60;
        mov al, 0;
        call "clock_binary";
        add eax, ebx;
        // 1193182 / 65536 = 18.2065 ticks a second
        mov ebx, 182_065;
        mul ebx;
        mov ebx, 10_000;
        div ebx;
        mov dword_ptr(bda::TIMER_LOW), eax;
        ret;
        proc "clock_binary"; // AL: register of the clock -> EAX, from BCD. Keeps EBX
        call "clock_read";
        mov ah, al;
        and al, 0x0f;
        shr ah, 4;
        xchg al, ah;
        mov cl, 10;
        mov ch, ah;
        mul cl;
        add al, ch;
        movzx eax, al;
        ret;
        proc "clock_read"; // AL: register -> AL, when no update is in progress
        push ax;
        push cx;
        xor cx, cx;
        label ".busy";
        mov al, 0x8a;
        out 0x70, al;
        in_ al, 0x71;
        test al, 0x80;
        jz ".ready";
        dec cx;
        jnz ".busy";
        label ".ready";
        pop cx;
        pop ax;
        or al, 0x80;
        out 0x70, al;
        in_ al, 0x71;
        ret;
        proc "clock_write"; // AL: register, AH: value
        or al, 0x80;
        out 0x70, al;
        mov al, ah;
        out 0x71, al;
        ret;
        proc "cmos"; // AL: index -> AL
        or al, 0x80;
        out 0x70, al;
        in_ al, 0x71;
        ret;
    }
    Ok(())
}

fn wait(s: &mut Section) -> Emit {
    code! { s;
        proc "refresh_wait"; // ECX: periods of 15 us, as port 61h bit 4 shows them. Destroys ECX
        push ax;
        label ".next";
        test ecx, ecx;
        jz ".done";
        in_ al, 0x61;
        and al, 0x10;
        cmp al, ah;
        mov ah, al;
        je ".next";
        dec ecx;
        jmp ".next";
        label ".done";
        pop ax;
        ret;
        proc "milliseconds"; // CX: how many. Destroys ECX
        movzx ecx, cx;
        imul_3 ecx, ecx, 66;
        jmp "refresh_wait";
        proc "ticks_wait"; // CX: ticks to sleep. Interrupts on. Destroys CX
        push ds;
        push eax;
        push ebx;
        push 0x40;
        pop ds;
        movzx ebx, cx;
        add ebx, dword_ptr(bda::TIMER_LOW);
        label ".next";
        sti;
        hlt;
        mov eax, dword_ptr(bda::TIMER_LOW);
        cmp eax, ebx;
        jae ".done";
        sub eax, ebx; // across midnight
        cmp eax, -0x10000;
        ja ".next";
        label ".done";
        pop ebx;
        pop eax;
        pop ds;
        ret;
    }
    Ok(())
}

fn int1a(s: &mut Section) -> Emit {
    f::service(s, "int1a", "int1a_service")?;
    code! { s;
        proc "int1a_service";
        mov ah, f::ah_();
        cmp ah, 0xb1;
        je "pci_bios";
        select ah, &[(0, ".ticks"), (1, ".set_ticks"), (2, "clock_time"), (3, "clock_set_time"), (4, "clock_date"), (5, "clock_set_date"), (6, "clock_alarm"), (7, "clock_no_alarm")];
        jmp "fail";
        label ".ticks";
        mov ax, word_ptr(bda::TIMER_LOW);
        mov f::dx_(), ax;
        mov ax, word_ptr(bda::TIMER_HIGH);
        mov f::cx_(), ax;
        mov al, byte_ptr(bda::TIMER_OVERFLOW);
        mov byte_ptr(bda::TIMER_OVERFLOW), 0;
        mov f::al_(), al;
        jmp "ok_ah0";
        label ".set_ticks";
        mov ax, f::dx_();
        mov word_ptr(bda::TIMER_LOW), ax;
        mov ax, f::cx_();
        mov word_ptr(bda::TIMER_HIGH), ax;
        mov byte_ptr(bda::TIMER_OVERFLOW), 0;
        jmp "ok_ah0";
    }
    Ok(())
}

fn clock(s: &mut Section) -> Emit {
    code! { s;
        proc "clock_time"; // AH=02h -> CH hours, CL minutes, DH seconds, in BCD; DL daylight saving
        mov al, 4;
        call "clock_read";
        mov f::ch_(), al;
        mov al, 2;
        call "clock_read";
        mov f::cl_(), al;
        mov al, 0;
        call "clock_read";
        mov f::dh_(), al;
        mov al, 0x0b;
        call "clock_read";
        and al, 1;
        mov f::dl_(), al;
        jmp "ok_ah0";
        proc "clock_date"; // AH=04h -> CH century, CL year, DH month, DL day
        mov al, 0x32;
        call "clock_read";
        mov f::ch_(), al;
        mov al, 9;
        call "clock_read";
        mov f::cl_(), al;
        mov al, 8;
        call "clock_read";
        mov f::dh_(), al;
        mov al, 7;
        call "clock_read";
        mov f::dl_(), al;
        jmp "ok_ah0";
        proc "clock_hold"; // SET of register B while several registers change; AL: what B was
        mov al, 0x0b;
        call "clock_read";
        push ax;
        mov ah, al;
        or ah, 0x80;
        mov al, 0x0b;
        call "clock_write";
        pop ax;
        ret;
        proc "clock_release"; // BL: register B
        mov ah, bl;
        and ah, 0x7f;
        mov al, 0x0b;
        call "clock_write";
        jmp "ok_ah0";
        proc "clock_set_time";
        call "clock_hold";
        mov bl, al;
        and bl, 0xfe;
        mov al, f::dl_();
        and al, 1;
        or bl, al;
        mov ah, f::ch_();
        mov al, 4;
        call "clock_write";
        mov ah, f::cl_();
        mov al, 2;
        call "clock_write";
        mov ah, f::dh_();
        mov al, 0;
        call "clock_write";
        jmp "clock_release";
        proc "clock_set_date";
        call "clock_hold";
        mov bl, al;
        mov ah, f::ch_();
        mov al, 0x32;
        call "clock_write";
        mov ah, f::cl_();
        mov al, 9;
        call "clock_write";
        mov ah, f::dh_();
        mov al, 8;
        call "clock_write";
        mov ah, f::dl_();
        mov al, 7;
        call "clock_write";
        jmp "clock_release";
        proc "clock_alarm"; // AH=06h: CH, CL, DH
        mov al, 0x0b;
        call "clock_read";
        test al, 0x20;
        jnz "fail";
        mov bl, al;
        or bl, 0x20;
        mov ah, f::ch_();
        mov al, 5;
        call "clock_write";
        mov ah, f::cl_();
        mov al, 3;
        call "clock_write";
        mov ah, f::dh_();
        mov al, 1;
        call "clock_write";
        in_ al, 0xa1;
        and al, 0xfe;
        out 0xa1, al;
        jmp "clock_release";
        proc "clock_no_alarm"; // AH=07h
        mov al, 0x0b;
        call "clock_read";
        mov bl, al;
        and bl, 0xdf;
        jmp "clock_release";
    }
    Ok(())
}
