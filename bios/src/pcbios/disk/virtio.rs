//! virtio block devices (Virtual I/O Device specification 1.2), by the modern interface.
//!
//! Its registers are in memory that real mode does not reach; so they are accessed through configuration space, by the window that
//! every device has for this (4.1.4.9). Each device has a queue of four descriptors in the extended BIOS data area, of which a request
//! takes three: header, data, status. No feature is accepted but VERSION_1: then what was written is safe when the request is done.

use iced_x86::code_asm::*;

use super::{status, to_next_function};
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::layout::{EBDA, drive, ebda, kind, op};

/// What is at a device's place in the extended BIOS data area, besides the descriptors at its start (offsets).
mod at {
    /// Available ring.
    pub const AVAILABLE: i32 = 0x40;
    /// Used ring.
    pub const USED: i32 = 0x50;
    /// A request's header.
    pub const HEADER: i32 = 0x80;
    /// A request's status byte.
    pub const STATUS: i32 = 0x90;
    /// Where the capability for configuration access is, then the BARs of common configuration, notification, and the
    /// device's configuration.
    pub const WINDOW: i32 = 0xa0;
    pub const COMMON_BAR: i32 = 0xa1;
    pub const NOTIFY_BAR: i32 = 0xa2;
    pub const DEVICE_BAR: i32 = 0xa3;
    /// Their offsets there.
    pub const COMMON: i32 = 0xa4;
    pub const NOTIFY: i32 = 0xa8;
    pub const DEVICE: i32 = 0xac;
    /// Bytes from one queue's notification to the next.
    pub const MULTIPLIER: i32 = 0xb0;
    /// Bytes of a place.
    pub const SIZE: i32 = 0xc0;
}

/// Registers of the common configuration.
mod reg {
    pub const DRIVER_FEATURE_SELECT: i32 = 8;
    pub const DRIVER_FEATURE: i32 = 12;
    pub const STATUS: i32 = 20;
    pub const QUEUE_SIZE: i32 = 24;
    pub const QUEUE_ENABLE: i32 = 28;
    pub const QUEUE_NOTIFY_OFF: i32 = 30;
    pub const QUEUE_DESCRIPTORS: i32 = 32;
    pub const QUEUE_DRIVER: i32 = 40;
    pub const QUEUE_DEVICE: i32 = 48;
}

/// Vendor and the device numbers of transitional and of modern block devices.
const TRANSITIONAL: u32 = 0x1001_1af4;
const MODERN: u32 = 0x1042_1af4;
const DESCRIPTORS: i32 = 4;
/// Looks at the used ring until a request counts as lost.
const PATIENCE: u32 = 0x800_0000;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    window(s)?;
    detect(s)?;
    capabilities(s)?;
    start(s)?;
    describe(s)?;
    transfer(s)
}

fn window(s: &mut Section) -> Emit {
    code! { s;
        // SI: entry, EAX: offset, CL: BAR, CH: bytes. -> DX: the port where they are. Destroys EAX, EBX, DI
        proc "virtio_window";
        push eax;
        mov di, word_ptr(si + drive::PLACE).fs();
        movzx di, byte_ptr(di + at::WINDOW).fs();
        movzx ebx, word_ptr(si + drive::PORT).fs();
        shl ebx, 8;
        add di, 4;
        call "config_address";
        mov al, cl;
        out dx, al;
        add di, 4;
        call "config_address";
        pop eax;
        out dx, eax;
        add di, 4;
        call "config_address";
        movzx eax, ch;
        out dx, eax;
        add di, 4;
        jmp "config_address";
        proc "virtio_common"; // SI: entry, EAX: register, CH: bytes -> DX. Destroys EAX, EBX, CL, DI
        mov bx, word_ptr(si + drive::PLACE).fs();
        mov cl, byte_ptr(bx + at::COMMON_BAR).fs();
        add eax, dword_ptr(bx + at::COMMON).fs();
        jmp "virtio_window";
        // SI: entry, EAX: register, EDX: value. Destroy EAX, EBX, CX, EDX, DI
        proc "virtio_out1";
        push edx;
        mov ch, 1;
        call "virtio_common";
        pop eax;
        out dx, al;
        ret;
        proc "virtio_out2";
        push edx;
        mov ch, 2;
        call "virtio_common";
        pop eax;
        out dx, ax;
        ret;
        proc "virtio_out4";
        push edx;
        mov ch, 4;
        call "virtio_common";
        pop eax;
        out dx, eax;
        ret;
        proc "virtio_in2"; // SI: entry, EAX: register -> AX
        mov ch, 2;
        call "virtio_common";
        in_ ax, dx;
        ret;
    }
    Ok(())
}

fn detect(s: &mut Section) -> Emit {
    code! { s;
        proc "detect_virtio"; // every function of every bus
        xor ebx, ebx;
        xor cx, cx; // devices so far
        label ".next";
        xor di, di;
        call "config_address";
        in_ eax, dx;
        cmp eax, TRANSITIONAL;
        je ".found";
        cmp eax, MODERN;
        jne ".other";
        label ".found";
        cmp cx, ebda::VIRTIO_MAX;
        jae ".ret";
        call "new_drive";
        jc ".ret";
        push ebx;
        push cx;
        imul_3 ax, cx, at::SIZE;
        add ax, ebda::VIRTIO;
        mov word_ptr(si + drive::PLACE).fs(), ax;
        mov eax, ebx;
        shr eax, 8;
        mov word_ptr(si + drive::PORT).fs(), ax;
        mov byte_ptr(si + drive::FLAGS).fs(), 0;
        mov byte_ptr(si + drive::KIND).fs(), kind::VIRTIO;
        call "virtio_capabilities";
        jc ".none";
        call "virtio_start";
        jc ".none";
        call "virtio_describe";
        pop cx;
        inc cx;
        jmp ".done";
        label ".none";
        mov byte_ptr(si + drive::KIND).fs(), 0;
        pop cx;
        label ".done";
        pop ebx;
    }
    to_next_function(s)
}

fn capabilities(s: &mut Section) -> Emit {
    code! { s;
        // SI: entry, EBX: function: its place is filled. CF = 1: something is not there. Keeps EBX, SI
        proc "virtio_capabilities";
        push bp;
        mov bp, word_ptr(si + drive::PLACE).fs();
        mov di, bp;
        mov cx, at::SIZE / 4;
        label ".clear";
        mov dword_ptr(di).fs(), 0;
        add di, 4;
        dec cx;
        jnz ".clear";
        mov di, 0x34;
        call "config_address";
        in_ al, dx;
        movzx di, al;
        xor cx, cx; // kinds found, in CH; CL counts
        label ".next";
        and di, 0xfc;
        cmp di, 0x40;
        jb ".end";
        inc cl;
        cmp cl, 48;
        ja ".end";
        call "config_address";
        in_ eax, dx;
        cmp al, 9;
        jne ".other";
        push eax;
        shr eax, 24;
        cmp al, 1;
        je ".common";
        cmp al, 2;
        je ".notify";
        cmp al, 4;
        je ".device";
        cmp al, 5;
        jne ".pop";
        mov ax, di;
        mov byte_ptr(bp + at::WINDOW).fs(), al;
        or ch, 8;
        jmp ".pop";
        label ".common";
        call ".where";
        mov byte_ptr(bp + at::COMMON_BAR).fs(), al;
        call ".offset";
        mov dword_ptr(bp + at::COMMON).fs(), eax;
        or ch, 1;
        jmp ".pop";
        label ".notify";
        call ".where";
        mov byte_ptr(bp + at::NOTIFY_BAR).fs(), al;
        call ".offset";
        mov dword_ptr(bp + at::NOTIFY).fs(), eax;
        push di;
        add di, 16;
        call "config_address";
        in_ eax, dx;
        pop di;
        mov dword_ptr(bp + at::MULTIPLIER).fs(), eax;
        or ch, 2;
        jmp ".pop";
        label ".device";
        call ".where";
        mov byte_ptr(bp + at::DEVICE_BAR).fs(), al;
        call ".offset";
        mov dword_ptr(bp + at::DEVICE).fs(), eax;
        or ch, 4;
        label ".pop";
        pop eax;
        label ".other";
        movzx di, ah;
        jmp ".next";
        label ".where"; // AL: the capability's BAR
        push di;
        add di, 4;
        call "config_address";
        in_ al, dx;
        pop di;
        ret;
        label ".offset"; // EAX: the offset there
        push di;
        add di, 8;
        call "config_address";
        in_ eax, dx;
        pop di;
        ret;
        label ".end";
        pop bp;
        cmp ch, 15;
        jne ".bad";
        // The function masters the bus.
        mov di, 4;
        call "config_address";
        in_ ax, dx;
        or al, 7;
        out dx, ax;
        clc;
        ret;
        label ".bad";
        stc;
        ret;
    }
    Ok(())
}

fn start(s: &mut Section) -> Emit {
    code! { s;
        proc "virtio_start"; // SI: entry: sets the device up with its queue. CF = 1: it does not want to
        xor edx, edx;
        call ".status";
        mov dx, 1;
        call ".status";
        mov dx, 3;
        call ".status";
        // Features: VERSION_1.
        xor edx, edx;
        mov eax, reg::DRIVER_FEATURE_SELECT;
        call "virtio_out4";
        xor edx, edx;
        mov eax, reg::DRIVER_FEATURE;
        call "virtio_out4";
        mov edx, 1;
        mov eax, reg::DRIVER_FEATURE_SELECT;
        call "virtio_out4";
        mov edx, 1;
        mov eax, reg::DRIVER_FEATURE;
        call "virtio_out4";
        mov edx, 0x0b;
        call ".status";
        mov eax, reg::STATUS;
        mov ch, 1;
        call "virtio_common";
        in_ al, dx;
        test al, 8;
        jz ".bad";
        // After a reset queue 0 is selected.
        mov eax, reg::QUEUE_SIZE;
        call "virtio_in2";
        cmp ax, DESCRIPTORS;
        jb ".bad";
        mov edx, DESCRIPTORS;
        mov eax, reg::QUEUE_SIZE;
        call "virtio_out2";
        xor edx, edx;
        mov eax, reg::QUEUE_DESCRIPTORS;
        call ".ring";
        mov edx, at::AVAILABLE;
        mov eax, reg::QUEUE_DRIVER;
        call ".ring";
        mov edx, at::USED;
        mov eax, reg::QUEUE_DEVICE;
        call ".ring";
        // Where its notification goes.
        mov eax, reg::QUEUE_NOTIFY_OFF;
        call "virtio_in2";
        movzx eax, ax;
        mov di, word_ptr(si + drive::PLACE).fs();
        mov ecx, dword_ptr(di + at::MULTIPLIER).fs();
        mul ecx;
        add dword_ptr(di + at::NOTIFY).fs(), eax;
        // No interrupts: we look by ourselves.
        mov word_ptr(di + at::AVAILABLE).fs(), 1;
        mov edx, 1;
        mov eax, reg::QUEUE_ENABLE;
        call "virtio_out2";
        mov edx, 0x0f;
        call ".status";
        clc;
        ret;
        label ".bad";
        mov edx, 0x80;
        call ".status";
        stc;
        ret;
        label ".status"; // EDX
        mov eax, reg::STATUS;
        jmp "virtio_out1";
        label ".ring"; // EAX: register, EDX: offset in the device's place
        movzx ebx, word_ptr(si + drive::PLACE).fs();
        lea edx, dword_ptr(ebx + edx + EBDA);
        push eax;
        call "virtio_out4";
        pop eax;
        add eax, 4;
        xor edx, edx;
        jmp "virtio_out4";
    }
    Ok(())
}

fn describe(s: &mut Section) -> Emit {
    code! { s;
        proc "virtio_describe"; // SI: entry: what is known of it goes where the answer to IDENTIFY would be
        mov di, ebda::SECTOR;
        mov cx, 128;
        label ".clear";
        mov dword_ptr(di).fs(), 0;
        add di, 4;
        dec cx;
        jnz ".clear";
        // The name, two characters in a word with the first one high.
        offset bx, "virtio_name";
        mov di, ebda::SECTOR + 54;
        label ".name";
        mov ax, word_ptr(bx).cs();
        xchg al, ah;
        mov word_ptr(di).fs(), ax;
        add bx, 2;
        add di, 2;
        cmp di, ebda::SECTOR + 54 + 30;
        jb ".name";
        mov byte_ptr(ebda::SECTOR + 167).fs(), 4;
        mov eax, 0;
        call ".capacity";
        mov dword_ptr(ebda::SECTOR + 200).fs(), eax;
        mov eax, 4;
        call ".capacity";
        mov dword_ptr(ebda::SECTOR + 204).fs(), eax;
        jmp "describe_drive";
        label ".capacity"; // EAX: offset -> EAX
        mov bx, word_ptr(si + drive::PLACE).fs();
        mov cl, byte_ptr(bx + at::DEVICE_BAR).fs();
        mov ch, 4;
        add eax, dword_ptr(bx + at::DEVICE).fs();
        call "virtio_window";
        in_ eax, dx;
        ret;
        proc "virtio_name";
        text "virtio disk                   ";
    }
    Ok(())
}

fn transfer(s: &mut Section) -> Emit {
    code! { s;
        proc "virtio_transfer"; // the request, SI: entry
        movzx ecx, word_ptr(ebda::RQ_COUNT).fs();
        jcxz ".good";
        cmp byte_ptr(ebda::RQ_OP).fs(), op::VERIFY;
        je ".good";
        mov di, word_ptr(si + drive::PLACE).fs();
        // Header.
        movzx eax, byte_ptr(ebda::RQ_OP).fs();
        mov dword_ptr(di + at::HEADER).fs(), eax;
        mov dword_ptr(di + at::HEADER + 4).fs(), 0;
        mov eax, dword_ptr(ebda::RQ_LBA).fs();
        mov dword_ptr(di + at::HEADER + 8).fs(), eax;
        mov eax, dword_ptr(ebda::RQ_LBA + 4).fs();
        mov dword_ptr(di + at::HEADER + 12).fs(), eax;
        mov byte_ptr(di + at::STATUS).fs(), -1;
        // Descriptors: the header, the data, the status byte.
        movzx edx, di;
        lea eax, dword_ptr(edx + EBDA + at::HEADER);
        mov dword_ptr(di).fs(), eax;
        mov dword_ptr(di + 8).fs(), 16;
        mov dword_ptr(di + 12).fs(), 0x0001_0001;
        movzx eax, word_ptr(ebda::RQ_SEGMENT).fs();
        shl eax, 4;
        movzx ebx, word_ptr(ebda::RQ_BUFFER).fs();
        add eax, ebx;
        mov dword_ptr(di + 16).fs(), eax;
        shl ecx, 9;
        mov dword_ptr(di + 24).fs(), ecx;
        mov eax, 0x0002_0001;
        cmp byte_ptr(ebda::RQ_OP).fs(), op::WRITE;
        je ".flags";
        or al, 2; // the device writes there
        label ".flags";
        mov dword_ptr(di + 28).fs(), eax;
        lea eax, dword_ptr(edx + EBDA + at::STATUS);
        mov dword_ptr(di + 32).fs(), eax;
        mov dword_ptr(di + 40).fs(), 1;
        mov dword_ptr(di + 44).fs(), 2;
        // Available: descriptor 0, which all four entries of the ring name.
        inc word_ptr(di + at::AVAILABLE + 2).fs();
        push di;
        mov cl, byte_ptr(di + at::NOTIFY_BAR).fs();
        mov ch, 2;
        mov eax, dword_ptr(di + at::NOTIFY).fs();
        call "virtio_window";
        xor ax, ax;
        out dx, ax;
        pop di;
        mov ax, word_ptr(di + at::AVAILABLE + 2).fs();
        mov ecx, PATIENCE;
        label ".wait";
        cmp word_ptr(di + at::USED + 2).fs(), ax;
        je ".answered";
        dec ecx;
        jnz ".wait";
        mov ah, status::TIMEOUT;
        stc;
        ret;
        label ".answered";
        cmp byte_ptr(di + at::STATUS).fs(), 0;
        je ".good";
        mov ah, status::CONTROLLER;
        stc;
        ret;
        label ".good";
        mov ax, word_ptr(ebda::RQ_COUNT).fs();
        mov word_ptr(ebda::RQ_DONE).fs(), ax;
        clc;
        ret;
    }
    Ok(())
}
