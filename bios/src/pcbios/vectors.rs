//! The interrupt vectors, and the handlers that do nothing.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::layout::{BIOS_SEGMENT, ebda};

/// Vectors with a handler of their own. The rest returns at once, or acknowledges a hardware interrupt.
const VECTORS: &[(u16, &str)] = &[
    (0x08, "int08"),
    (0x09, "int09"),
    (0x0e, "int0e"),
    (0x11, "int11"),
    (0x12, "int12"),
    (0x13, "int13"),
    (0x14, "int14"),
    (0x15, "int15"),
    (0x16, "int16"),
    (0x17, "int17"),
    (0x18, "int18"),
    (0x19, "int19"),
    (0x1a, "int1a"),
    (0x1e, "diskette_parameters"),
    (0x40, "int13"),
    (0x70, "int70"),
    (0x74, "int74"),
];

/// Entry points that old programs jump to, at their places in IBM's ROM.
pub const OLD_ENTRIES: &[(u16, &str)] = &[
    (0xe05b, "post"),
    (0xe2c3, "ignored"),
    (0xe3fe, "int13"),
    (0xe6f2, "int19"),
    (0xe739, "int14"),
    (0xe82e, "int16"),
    (0xe987, "int09"),
    (0xec59, "int13"),
    (0xef57, "int0e"),
    (0xefd2, "int17"),
    (0xf065, "int10_far"),
    (0xf841, "int12"),
    (0xf84d, "int11"),
    (0xf859, "int15"),
    (0xfe6e, "int1a"),
    (0xfea5, "int08"),
    (0xff53, "ignored"),
];

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    code! { s;
        proc "set_vectors"; // Destroys AX, BX, CX, DI, SI, ES
        xor ax, ax;
        mov es, ax;
        xor di, di;
        // All 256, then the two groups of hardware interrupts.
        offset ax, "ignored";
        mov cx, 256;
        call ".fill";
        offset ax, "irq_master";
        mov di, 0x08 * 4;
        mov cx, 8;
        call ".fill";
        offset ax, "irq_slave";
        mov di, 0x70 * 4;
        mov cx, 8;
        call ".fill";
        offset si, "vector_table";
        label ".next";
        mov di, word_ptr(si).cs();
        cmp di, -1;
        je ".tables";
        mov ax, word_ptr(si + 2).cs();
        mov word_ptr(di).es(), ax;
        add si, 4;
        jmp ".next";
        label ".tables";
        // No graphics font yet; parameter tables of the fixed disks.
        mov dword_ptr(0x1d * 4).es(), 0;
        mov dword_ptr(0x1f * 4).es(), 0;
        mov word_ptr(0x41 * 4).es(), ebda::FDPT0;
        mov word_ptr(0x41 * 4 + 2).es(), fs;
        mov word_ptr(0x46 * 4).es(), ebda::FDPT1;
        mov word_ptr(0x46 * 4 + 2).es(), fs;
        // User interrupts are free.
        xor ax, ax;
        mov di, 0x60 * 4;
        mov cx, 16;
        rep_stosw;
        ret;
        label ".fill";
        stosw;
        mov word_ptr(di).es(), BIOS_SEGMENT as u32;
        add di, 2;
        dec cx;
        jnz ".fill";
        ret;

        proc "ignored";
        iret;
        proc "int10_far"; // for those who jump to IBM's place
        int 0x10;
        iret;
        proc "irq_master"; // an interrupt that nobody wants: off with it, unless it is spurious
        push ax;
        mov al, 0x0b;
        out 0x20, al;
        in_ al, 0x20;
        test al, al;
        jz ".spurious";
        mov ah, al;
        in_ al, 0x21;
        and ah, 0xfb; // not the cascade
        or al, ah;
        out 0x21, al;
        mov al, 0x20;
        out 0x20, al;
        label ".spurious";
        pop ax;
        iret;
        proc "irq_slave";
        push ax;
        mov al, 0x0b;
        out 0xa0, al;
        in_ al, 0xa0;
        test al, al;
        jz ".spurious";
        mov ah, al;
        in_ al, 0xa1;
        or al, ah;
        out 0xa1, al;
        mov al, 0x20;
        out 0xa0, al;
        label ".spurious";
        mov al, 0x20;
        out 0x20, al;
        pop ax;
        iret;

        proc "set_pics"; // vectors 08h and 70h; timer, keyboard, cascade and diskette are let through
        mov al, 0x11;
        out 0x20, al;
        out 0xa0, al;
        mov al, 0x08;
        out 0x21, al;
        mov al, 0x70;
        out 0xa1, al;
        mov al, 4;
        out 0x21, al;
        mov al, 2;
        out 0xa1, al;
        mov al, 1;
        out 0x21, al;
        out 0xa1, al;
        mov al, 0xb8;
        out 0x21, al;
        mov al, 0xef; // and the mouse
        out 0xa1, al;
        ret;
        proc "vector_table";
    }
    for (vector, label) in VECTORS {
        s.words(&[vector * 4])?;
        s.address_word(label)?;
    }
    s.words(&[0xffff])
}
