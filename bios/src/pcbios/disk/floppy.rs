//! Diskettes: the 8272 controller with DMA channel 2, INT 13h for drives 00h and 01h, INT 0Eh.

use iced_x86::code_asm::*;

use super::status;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;
use crate::pcbios::layout::{bda, ebda};

/// Digital output register.
const DOR: i32 = 0x3f2;
/// Main status register.
const MSR: i32 = 0x3f4;
/// Data rate, and the change line when read.
const RATE: i32 = 0x3f7;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    controller(s)?;
    position(s)?;
    services(s)?;
    transfer(s)?;
    dma(s)?;
    parameters(s)
}

fn controller(s: &mut Section) -> Emit {
    f::service(s, "int0e", "floppy_interrupt")?;
    code! { s;
        proc "floppy_interrupt";
        or byte_ptr(bda::SEEK_STATUS), 0x80;
        mov al, 0x20;
        out 0x20, al;
        ret;
        proc "fdc_wait_interrupt"; // CF = 1, AH: none came in two seconds. Destroys AX, CX
        mov cx, 37;
        mov ax, word_ptr(bda::TIMER_LOW);
        label ".next";
        cli;
        test byte_ptr(bda::SEEK_STATUS), 0x80;
        jnz ".came";
        sti;
        hlt;
        cmp ax, word_ptr(bda::TIMER_LOW);
        je ".next";
        mov ax, word_ptr(bda::TIMER_LOW);
        dec cx;
        jnz ".next";
        mov ah, status::TIMEOUT;
        stc;
        ret;
        label ".came";
        sti;
        and byte_ptr(bda::SEEK_STATUS), 0x7f;
        clc;
        ret;
        proc "fdc_out"; // AL: command byte. CF = 1, AH: the controller does not listen
        push cx;
        push dx;
        push ax;
        mov dx, MSR;
        xor cx, cx;
        label ".next";
        in_ al, dx;
        and al, 0xc0;
        cmp al, 0x80;
        je ".ready";
        dec cx;
        jnz ".next";
        pop ax;
        mov ah, status::CONTROLLER;
        stc;
        jmp ".out";
        label ".ready";
        pop ax;
        inc dx;
        out dx, al;
        clc;
        label ".out";
        pop dx;
        pop cx;
        ret;
        proc "fdc_in"; // -> AL: result byte. CF = 1, AH: nothing comes
        push cx;
        push dx;
        mov dx, MSR;
        xor cx, cx;
        label ".next";
        in_ al, dx;
        and al, 0xc0;
        cmp al, 0xc0;
        je ".ready";
        dec cx;
        jnz ".next";
        mov ah, status::CONTROLLER;
        stc;
        jmp ".out";
        label ".ready";
        inc dx;
        in_ al, dx;
        clc;
        label ".out";
        pop dx;
        pop cx;
        ret;
        proc "fdc_reset"; // Destroys AX, CX, DX
        mov dx, DOR;
        mov al, 0;
        out dx, al;
        mov byte_ptr(bda::SEEK_STATUS), 0;
        mov byte_ptr(bda::MOTOR_STATUS), 0;
        mov cx, 1;
        call "milliseconds";
        mov al, 0x0c;
        out dx, al;
        call "fdc_wait_interrupt";
        jc ".ret";
        mov dl, 4;
        label ".sense";
        call "fdc_sense";
        jc ".ret";
        dec dl;
        jnz ".sense";
        mov al, 3; // specify
        call "fdc_out";
        mov al, 0xaf;
        call "fdc_out";
        mov al, 0x02;
        call "fdc_out";
        label ".ret";
        ret;
        proc "fdc_sense"; // sense interrupt status -> AL: ST0. CF = 1, AH
        mov al, 8;
        call "fdc_out";
        jc ".ret";
        call "fdc_in";
        jc ".ret";
        push ax;
        mov ah, al;
        and ah, 0xc0;
        cmp ah, 0x80; // nothing to report: one byte only
        je ".short";
        call "fdc_in";
        label ".short";
        pop ax;
        clc;
        label ".ret";
        ret;
    }
    Ok(())
}

fn position(s: &mut Section) -> Emit {
    code! { s;
        proc "motor_on"; // DL: drive. Destroys AX, CX
        push dx;
        mov byte_ptr(bda::MOTOR_COUNT), 37;
        mov cl, dl;
        mov al, 1;
        shl al, cl;
        or byte_ptr(bda::MOTOR_STATUS), al;
        shl al, 4;
        or al, 0x0c;
        or al, dl;
        mov dx, DOR;
        out dx, al;
        pop dx;
        ret;
        proc "seek"; // DL: drive, CH: cylinder, DH: head. CF = 1, AH
        push cx;
        // Recalibrate once after a reset.
        mov cl, dl;
        mov al, 1;
        shl al, cl;
        test byte_ptr(bda::SEEK_STATUS), al;
        jnz ".calibrated";
        or byte_ptr(bda::SEEK_STATUS), al;
        mov al, 7;
        call "fdc_out";
        jc ".out";
        mov al, dl;
        call "fdc_out";
        jc ".out";
        call "fdc_wait_interrupt";
        jc ".out";
        call "fdc_sense";
        jc ".out";
        label ".calibrated";
        pop cx;
        push cx;
        mov al, 0x0f;
        call "fdc_out";
        jc ".out";
        mov al, dh;
        shl al, 2;
        or al, dl;
        call "fdc_out";
        jc ".out";
        mov al, ch;
        call "fdc_out";
        jc ".out";
        call "fdc_wait_interrupt";
        jc ".out";
        call "fdc_sense";
        label ".out";
        pop cx;
        ret;
        proc "floppy_geometry"; // DL: drive -> SI: its record (in CS), CF = 1: no such drive. Destroys BX
        cmp dl, 2;
        jae ".none";
        movzx bx, dl;
        movzx bx, byte_ptr(bx + ebda::FLOPPY_TYPE).fs();
        test bx, bx;
        jz ".none";
        cmp bx, 5;
        ja ".none";
        shl bx, 2;
        offset si, "floppy_types";
        add si, bx;
        clc;
        ret;
        label ".none";
        stc;
        ret;
        // By CMOS type: cylinders, sectors of a track, data rate.
        proc "floppy_types";
        db &[0, 0, 0, 0, 40, 9, 2, 0, 80, 15, 0, 0, 80, 9, 2, 0, 80, 18, 0, 0, 80, 36, 3, 0];
    }
    Ok(())
}

fn services(s: &mut Section) -> Emit {
    code! { s;
        proc "floppy_service"; // DL: drive
        call "floppy_geometry";
        jc "floppy_invalid";
        mov ah, f::ah_();
        select ah, &[
            (0x02, "floppy_transfer"), (0x03, "floppy_transfer"), (0x04, "floppy_transfer"), (0x08, ".parameters"), (0x00, ".reset"),
            (0x01, ".status"), (0x15, ".type"), (0x16, ".changed"), (0x17, "floppy_ok"), (0x18, ".set_media")
        ];
        proc "floppy_invalid";
        mov ah, status::INVALID;
        proc "floppy_fail"; // AH
        mov byte_ptr(bda::DISKETTE_STATUS), ah;
        mov f::ah_(), ah;
        jmp "fail";
        proc "floppy_ok";
        mov byte_ptr(bda::DISKETTE_STATUS), 0;
        jmp "ok_ah0";
        label "floppy_service.reset";
        call "fdc_reset";
        jc "floppy_fail";
        jmp "floppy_ok";
        label "floppy_service.status";
        mov al, byte_ptr(bda::DISKETTE_STATUS);
        mov f::ah_(), al;
        test al, al;
        jz "ok";
        jmp "fail";
        label "floppy_service.type";
        mov f::ah_(), 2; // with a change line
        mov byte_ptr(bda::DISKETTE_STATUS), 0;
        jmp "ok";
        label "floppy_service.changed";
        call "motor_on";
        push dx;
        mov dx, RATE;
        in_ al, dx;
        pop dx;
        test al, 0x80;
        jz "floppy_ok";
        mov ah, 6;
        jmp "floppy_fail";
        label "floppy_service.set_media"; // CH: cylinders - 1, CL: sectors
        mov al, f::cl_();
        cmp al, byte_ptr(si + 1).cs();
        ja ".no_media";
        offset ax, "diskette_parameters";
        mov f::di_(), ax;
        mov f::es_(), cs;
        jmp "floppy_ok";
        label ".no_media";
        mov ah, 0x0c;
        jmp "floppy_fail";
        label "floppy_service.parameters";
        movzx bx, dl;
        mov al, byte_ptr(bx + ebda::FLOPPY_TYPE).fs();
        mov ah, 0;
        mov f::bx_(), ax;
        mov al, byte_ptr(si).cs();
        dec al;
        mov f::ch_(), al;
        mov al, byte_ptr(si + 1).cs();
        mov f::cl_(), al;
        mov f::dh_(), 1;
        mov al, 0;
        cmp byte_ptr(ebda::FLOPPY_TYPE).fs(), 0;
        je ".first";
        inc al;
        label ".first";
        cmp byte_ptr(ebda::FLOPPY_TYPE + 1).fs(), 0;
        je ".second";
        inc al;
        label ".second";
        mov f::dl_(), al;
        offset ax, "diskette_parameters";
        mov f::di_(), ax;
        mov f::es_(), cs;
        mov f::al_(), 0;
        jmp "floppy_ok";
    }
    Ok(())
}

fn transfer(s: &mut Section) -> Emit {
    code! { s;
        // Reads, writes or verifies, track by track. The frame's registers tell what; its AL counts down what is left here.
        proc "floppy_transfer";
        movzx ax, f::al_();
        mov word_ptr(ebda::RQ_COUNT).fs(), ax;
        mov word_ptr(ebda::RQ_DONE).fs(), 0;
        test ax, ax;
        jz "floppy_invalid";
        // The buffer as a linear address.
        movzx eax, f::es_();
        shl eax, 4;
        movzx ebx, f::bx_();
        add eax, ebx;
        mov dword_ptr(ebda::RQ_LINEAR).fs(), eax;
        call "motor_on";
        // Data rate.
        push dx;
        mov dx, RATE;
        mov al, byte_ptr(si + 2).cs();
        out dx, al;
        pop dx;
        mov cx, f::cx_(); // CH: cylinder, CL: sector
        mov dh, f::dh_();
        label ".track";
        mov ax, word_ptr(ebda::RQ_COUNT).fs();
        sub ax, word_ptr(ebda::RQ_DONE).fs();
        jz ".done";
        test cl, cl;
        jz ".not_found";
        cmp cl, byte_ptr(si + 1).cs();
        ja ".not_found";
        cmp ch, byte_ptr(si).cs();
        jae ".not_found";
        cmp dh, 1;
        ja ".not_found";
        movzx bx, byte_ptr(si + 1).cs();
        inc bx;
        sub bl, cl; // sectors to the end of the track
        cmp ax, bx;
        jbe ".count";
        mov ax, bx;
        label ".count";
        call "dma_fit"; // AX: sectors that DMA can take
        test ax, ax;
        jnz ".go";
        mov ah, status::BOUNDARY;
        jmp ".fail";
        label ".go";
        mov bx, 3; // tries
        label ".try";
        push bx;
        push ax;
        call "floppy_sectors";
        pop bx;
        jnc ".moved";
        pop bx;
        xchg ax, bx; // BH: status, AX: tries
        dec ax;
        jz ".give_up";
        push ax;
        push cx;
        push dx;
        and byte_ptr(bda::SEEK_STATUS), 0xf0; // calibrate again
        pop dx;
        pop cx;
        pop bx;
        mov ax, word_ptr(ebda::RQ_COUNT).fs();
        sub ax, word_ptr(ebda::RQ_DONE).fs();
        push bx;
        movzx bx, byte_ptr(si + 1).cs();
        inc bx;
        sub bl, cl;
        cmp ax, bx;
        jbe ".again";
        mov ax, bx;
        label ".again";
        call "dma_fit";
        pop bx;
        jmp ".try";
        label ".give_up";
        mov ah, bh;
        jmp ".fail";
        label ".moved"; // BX: sectors
        mov ax, bx;
        pop bx;
        add word_ptr(ebda::RQ_DONE).fs(), ax;
        add cl, al;
        movzx eax, ax;
        shl eax, 9;
        add dword_ptr(ebda::RQ_LINEAR).fs(), eax;
        // The next track.
        cmp cl, byte_ptr(si + 1).cs();
        jbe ".track";
        mov cl, 1;
        xor dh, 1;
        jnz ".track";
        inc ch;
        jmp ".track";
        label ".done";
        mov al, byte_ptr(ebda::RQ_DONE).fs();
        mov f::al_(), al;
        jmp "floppy_ok";
        label ".not_found";
        mov ah, status::NOT_FOUND;
        label ".fail";
        mov al, byte_ptr(ebda::RQ_DONE).fs();
        mov f::al_(), al;
        jmp "floppy_fail";
    }
    Ok(())
}

fn dma(s: &mut Section) -> Emit {
    code! { s;
        proc "dma_fit"; // AX: sectors -> AX: as many as do not cross 64 KiB. Destroys BX
        mov bx, word_ptr(ebda::RQ_LINEAR).fs();
        neg bx;
        jz ".ret"; // at the start of 64 KiB: more than a track fits
        shr bx, 9;
        cmp ax, bx;
        jbe ".ret";
        mov ax, bx;
        label ".ret";
        ret;

        proc "floppy_sectors"; // AX: sectors from CH, DH, CL of drive DL at RQ_LINEAR. CF = 1, AH. Destroys AX, BX
        push cx;
        push ax;
        call "seek";
        pop bx;
        pop cx;
        jc ".ret";
        mov ax, bx;
        call "dma_program";
        push cx;
        and byte_ptr(bda::SEEK_STATUS), 0x7f;
        mov al, 0xc5; // write
        cmp f::ah_(), 3;
        je ".command";
        mov al, 0xe6; // read; verifying reads too, into nowhere
        label ".command";
        call "fdc_out";
        jc ".out";
        mov al, dh;
        shl al, 2;
        or al, dl;
        call "fdc_out";
        jc ".out";
        mov al, ch;
        call "fdc_out";
        jc ".out";
        mov al, dh;
        call "fdc_out";
        jc ".out";
        mov al, cl;
        call "fdc_out";
        jc ".out";
        mov al, 2;
        call "fdc_out";
        jc ".out";
        // The last sector of this transfer.
        mov al, cl;
        add al, bl;
        dec al;
        call "fdc_out";
        jc ".out";
        mov al, 0x1b;
        call "fdc_out";
        jc ".out";
        mov al, 0xff;
        call "fdc_out";
        jc ".out";
        call "fdc_wait_interrupt";
        jc ".out";
        // Seven bytes of result.
        xor bx, bx;
        label ".result";
        call "fdc_in";
        jc ".out";
        mov byte_ptr(bx + bda::NEC_STATUS), al;
        inc bx;
        cmp bx, 7;
        jb ".result";
        test byte_ptr(bda::NEC_STATUS), 0xc0;
        jz ".good";
        mov al, byte_ptr(bda::NEC_STATUS + 1);
        mov ah, 0x03;
        test al, 2; // write protected
        jnz ".bad";
        mov ah, 0x10;
        test al, 0x20; // checksum
        jnz ".bad";
        mov ah, status::NOT_FOUND;
        label ".bad";
        stc;
        jmp ".out";
        label ".good";
        clc;
        label ".out";
        pop cx;
        label ".ret";
        ret;
        proc "dma_program"; // AX: sectors, RQ_LINEAR. Destroys AX
        push bx;
        push ax;
        mov al, 6;
        out 0x0a, al;
        mov al, 0x46; // to memory
        cmp f::ah_(), 3;
        jb ".mode";
        mov al, 0x4a; // from memory
        je ".mode";
        mov al, 0x42; // verify
        label ".mode";
        out 0x0b, al;
        mov al, 0;
        out 0x0c, al;
        mov eax, dword_ptr(ebda::RQ_LINEAR).fs();
        out 0x04, al;
        mov al, ah;
        out 0x04, al;
        shr eax, 16;
        out 0x81, al;
        pop ax;
        shl ax, 9;
        dec ax;
        out 0x05, al;
        mov al, ah;
        out 0x05, al;
        mov al, 2;
        out 0x0a, al;
        pop bx;
        ret;
    }
    Ok(())
}

fn parameters(s: &mut Section) -> Emit {
    code! { s;
        proc "detect_floppies"; // by the CMOS; the controller must answer
        mov al, 0x10;
        call "cmos";
        mov ah, al;
        and al, 0x0f;
        shr ah, 4;
        xchg al, ah;
        mov word_ptr(ebda::FLOPPY_TYPE).fs(), ax;
        test ax, ax;
        jz ".ret";
        mov dx, MSR;
        in_ al, dx;
        cmp al, -1;
        je ".none";
        call "fdc_reset";
        jnc ".there";
        label ".none";
        mov word_ptr(ebda::FLOPPY_TYPE).fs(), 0;
        ret;
        label ".there";
        or byte_ptr(bda::EQUIP_FLAG), 1;
        cmp byte_ptr(ebda::FLOPPY_TYPE + 1).fs(), 0;
        je ".ret";
        or byte_ptr(bda::EQUIP_FLAG), 0x40;
        label ".ret";
        ret;
        // Step rate and head times, motor wait, 512 bytes, 18 sectors, gaps, fill byte, settle and start times; the 4-byte
        // extension: cylinders - 1, data rate, drive type.
        proc "diskette_parameters";
        db &[0xaf, 0x02, 0x25, 2, 18, 0x1b, 0xff, 0x6c, 0xf6, 0x0f, 0x08, 79, 0, 4];
    }
    Ok(())
}
