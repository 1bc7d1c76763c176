//! VESA BIOS extensions 3.0 (INT 10h AH=4Fh) by the Bochs display interface (ports 1CEh and 1CFh).

use iced_x86::code_asm::*;

use super::vars;
use crate::pcbios::asm::{Emit, Section, code};
use crate::pcbios::frame as f;

/// Registers of the display interface.
mod dispi {
    pub const ID: i32 = 0;
    pub const XRES: i32 = 1;
    pub const YRES: i32 = 2;
    pub const BPP: i32 = 3;
    pub const ENABLE: i32 = 4;
    pub const BANK: i32 = 5;
    pub const VIRTUAL_WIDTH: i32 = 6;
    pub const X_OFFSET: i32 = 8;
    pub const Y_OFFSET: i32 = 9;
    pub const MEMORY_64K: i32 = 10;
}

/// Number, width, height, bits of a pixel.
const MODES: [[u16; 4]; 27] = [
    [0x100, 640, 400, 8],
    [0x101, 640, 480, 8],
    [0x103, 800, 600, 8],
    [0x105, 1024, 768, 8],
    [0x107, 1280, 1024, 8],
    [0x110, 640, 480, 15],
    [0x111, 640, 480, 16],
    [0x112, 640, 480, 24],
    [0x113, 800, 600, 15],
    [0x114, 800, 600, 16],
    [0x115, 800, 600, 24],
    [0x116, 1024, 768, 15],
    [0x117, 1024, 768, 16],
    [0x118, 1024, 768, 24],
    [0x119, 1280, 1024, 15],
    [0x11a, 1280, 1024, 16],
    [0x11b, 1280, 1024, 24],
    [0x11c, 1600, 1200, 8],
    [0x11e, 1600, 1200, 16],
    [0x11f, 1600, 1200, 24],
    [0x140, 320, 200, 32],
    [0x142, 640, 480, 32],
    [0x143, 800, 600, 32],
    [0x144, 1024, 768, 32],
    [0x145, 1280, 1024, 32],
    [0x146, 320, 200, 8],
    [0x147, 1600, 1200, 32],
];

/// The procedures and tables.
pub fn emit(s: &mut Section) -> Emit {
    registers(s)?;
    dispatch(s)?;
    controller(s)?;
    mode_information(s)?;
    direct_colour(s)?;
    set_mode(s)?;
    window(s)?;
    scan_line(s)?;
    dac(s)?;
    frame_buffer(s)?;
    s.proc("vbe_modes")?;
    for mode in MODES {
        s.words(&mode)?;
    }
    s.words(&[0])?;
    s.proc("vbe_list")?;
    s.words(&MODES.map(|mode| mode[0]))?;
    s.words(&[0xffff])?;
    s.proc("vbe_name")?;
    s.text("Retrograde VGA")
}

fn registers(s: &mut Section) -> Emit {
    code! { s;
        proc "dispi_write"; // AL: register, CX: value. Keeps CX, BX, SI, DI
        mov dx, 0x1ce;
        mov ah, 0;
        out dx, ax;
        inc dx;
        mov ax, cx;
        out dx, ax;
        ret;
        proc "dispi_read"; // AL: register -> AX. Keeps the rest
        push dx;
        mov dx, 0x1ce;
        mov ah, 0;
        out dx, ax;
        inc dx;
        in_ ax, dx;
        pop dx;
        ret;
        proc "dispi_present"; // CF = 0 if the interface is there. Destroys AX
        mov al, dispi::ID;
        call "dispi_read";
        and al, 0xf0;
        cmp ax, 0xb0c0;
        je ".yes";
        stc;
        ret;
        label ".yes";
        clc;
        ret;
        proc "vbe_off"; // back to a VGA mode
        call "dispi_present";
        jc ".ret";
        mov al, dispi::ENABLE;
        call "dispi_read";
        test al, 1;
        jz ".ret";
        mov al, dispi::ENABLE;
        xor cx, cx;
        call "dispi_write";
        label ".ret";
        ret;
    }
    Ok(())
}

fn dispatch(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe";
        call "dispi_present";
        jc ".ret"; // AL stays: not there
        mov es, f::es_();
        mov di, f::di_();
        push_offset ".done";
        mov al, f::al_();
        select al, &[
            (0x00, "vbe_controller"), (0x01, "vbe_mode_information"), (0x02, "vbe_set_mode"), (0x03, "vbe_get_mode"),
            (0x04, "vbe_state"), (0x05, "vbe_window"), (0x06, "vbe_scan_line"), (0x07, "vbe_start"), (0x08, "vbe_dac_width"),
            (0x09, "vbe_palette")
        ];
        pop ax;
        mov f::ah_(), 1; // a function that is not there
        label ".ret";
        ret;
        // Each comes back here with CF = 1 for a failure.
        label ".done";
        mov f::ax_(), 0x004f;
        jnc ".ret";
        mov f::ah_(), 1;
        ret;
        proc "find_vbe_mode"; // CX: number -> SI: its record in CS, CF = 1 without
        and cx, 0x01ff;
        offset si, "vbe_modes";
        label ".next";
        mov ax, word_ptr(si).cs();
        cmp ax, cx;
        je ".found";
        add si, 8;
        test ax, ax;
        jnz ".next";
        stc;
        ret;
        label ".found";
        clc;
        ret;
    }
    Ok(())
}

fn controller(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe_controller"; // to ES:DI: 256 bytes, or 512 if "VBE2" stands there
        mov ebx, dword_ptr(di).es();
        push di;
        xor ax, ax;
        mov cx, 128;
        rep_stosw;
        pop di;
        push di;
        mov eax, u32::from_le_bytes(*b"VESA");
        stosd;
        mov ax, 0x0300;
        stosw;
        offset ax, "vbe_name";
        stosw;
        mov ax, cs;
        stosw;
        mov eax, 1; // the DAC can be 8 bits wide
        stosd;
        offset ax, "vbe_list";
        stosw;
        mov ax, cs;
        stosw;
        mov al, dispi::MEMORY_64K;
        call "dispi_read";
        stosw;
        pop di;
        cmp ebx, u32::from_le_bytes(*b"VBE2");
        jne ".done";
        mov word_ptr(di + 0x14).es(), 0x0100; // software revision
        offset ax, "vbe_name";
        mov cx, cs;
        mov word_ptr(di + 0x16).es(), ax;
        mov word_ptr(di + 0x18).es(), cx;
        mov word_ptr(di + 0x1a).es(), ax;
        mov word_ptr(di + 0x1c).es(), cx;
        mov word_ptr(di + 0x1e).es(), ax;
        mov word_ptr(di + 0x20).es(), cx;
        label ".done";
        clc;
        ret;
    }
    Ok(())
}

fn mode_information(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe_mode_information"; // CX: mode, to ES:DI: 256 bytes
        mov cx, f::cx_();
        call "find_vbe_mode";
        jnc ".known";
        ret;
        label ".known";
        push di;
        xor ax, ax;
        mov cx, 128;
        rep_stosw;
        pop di;
        push di;
        mov ax, 0x009b; // supported, colour, graphics, linear
        stosw;
        mov ax, 0x0007; // window A: readable and writable
        stosw;
        mov ax, 64;
        stosw;
        stosw;
        mov ax, 0xa000;
        stosw;
        xor ax, ax;
        stosw;
        offset ax, "vbe_window_far";
        stosw;
        mov ax, cs;
        stosw;
        call "vbe_line_bytes";
        stosw;
        mov bx, ax;
        mov ax, word_ptr(si + 2).cs();
        stosw;
        mov ax, word_ptr(si + 4).cs();
        stosw;
        mov ax, 0x1008; // character cell
        stosw;
        mov al, 1; // planes
        stosb;
        mov al, byte_ptr(si + 6).cs();
        stosb;
        mov al, 1; // banks
        stosb;
        mov al, 4; // packed
        cmp byte_ptr(si + 6).cs(), 8;
        je ".packed";
        mov al, 6; // direct colour
        label ".packed";
        stosb;
        xor ax, ax; // bank size, and pages - 1: one
        stosw;
        mov al, 1;
        stosb;
        call "vbe_masks";
        pop di;
        call "frame_buffer";
        mov dword_ptr(di + 0x28).es(), eax;
        mov word_ptr(di + 0x32).es(), bx;
        // The masks again for the linear frame buffer, and a pixel clock.
        push ds;
        push es;
        pop ds;
        lea si, word_ptr(di + 0x1f);
        push di;
        add di, 0x36;
        mov cx, 8;
        rep_movsb;
        pop di;
        pop ds;
        mov dword_ptr(di + 0x3e).es(), 230_000_000;
        clc;
        ret;
        proc "vbe_line_bytes"; // SI: mode -> AX. Keeps the rest
        push dx;
        movzx ax, byte_ptr(si + 6).cs();
        add ax, 7;
        shr ax, 3;
        mul word_ptr(si + 2).cs();
        pop dx;
        ret;
    }
    Ok(())
}

fn direct_colour(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe_masks"; // SI: mode; to ES:DI: nine bytes, size and position of red, green, blue, rest; then its info
        mov al, byte_ptr(si + 6).cs();
        push si;
        offset si, "masks_15";
        cmp al, 15;
        je ".copy";
        offset si, "masks_16";
        cmp al, 16;
        je ".copy";
        offset si, "masks_24";
        cmp al, 24;
        je ".copy";
        offset si, "masks_32";
        cmp al, 32;
        je ".copy";
        offset si, "masks_8";
        label ".copy";
        push ds;
        push cs;
        pop ds;
        mov cx, 9;
        rep_movsb;
        pop ds;
        pop si;
        ret;
        proc "masks_8";
        db &[0, 0, 0, 0, 0, 0, 0, 0, 0];
        proc "masks_15";
        db &[5, 10, 5, 5, 5, 0, 1, 15, 2];
        proc "masks_16";
        db &[5, 11, 6, 5, 5, 0, 0, 0, 0];
        proc "masks_24";
        db &[8, 16, 8, 8, 8, 0, 0, 0, 0];
        proc "masks_32";
        db &[8, 16, 8, 8, 8, 0, 8, 24, 2];
    }
    Ok(())
}

fn set_mode(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe_set_mode"; // BX: mode, bit 14: linear, bit 15: keep the memory
        mov cx, f::bx_();
        and cx, 0x3fff;
        cmp cx, 0x100;
        jae ".vbe";
        // A VGA mode.
        mov al, cl;
        call "find_mode";
        jc ".ret";
        mov al, f::bh_();
        and al, 0x80;
        or al, cl;
        mov f::al_(), al;
        call "set_mode";
        clc;
        label ".ret";
        ret;
        label ".vbe";
        call "find_vbe_mode";
        jc ".ret";
        // The VGA's registers first, for whatever looks at them: mode 13h is nearest.
        push si;
        mov al, 0x13;
        call "find_mode";
        call "program_mode";
        pop si;
        mov al, dispi::ENABLE;
        xor cx, cx;
        call "dispi_write";
        mov al, dispi::XRES;
        mov cx, word_ptr(si + 2).cs();
        call "dispi_write";
        mov al, dispi::YRES;
        mov cx, word_ptr(si + 4).cs();
        call "dispi_write";
        mov al, dispi::BPP;
        mov cx, word_ptr(si + 6).cs();
        call "dispi_write";
        mov al, dispi::BANK;
        xor cx, cx;
        call "dispi_write";
        mov cx, 1;
        mov ax, f::bx_();
        test ah, 0x40;
        jz ".banked";
        or cl, 0x40;
        label ".banked";
        test ah, 0x80;
        jz ".cleared";
        or cl, 0x80;
        label ".cleared";
        mov al, dispi::ENABLE;
        call "dispi_write";
        mov byte_ptr(vars::CRT_MODE), vars::VBE_MODE;
        and byte_ptr(vars::INFO), 0x7f;
        clc;
        ret;

        proc "vbe_get_mode"; // -> BX
        mov al, dispi::ENABLE;
        call "dispi_read";
        test al, 1;
        jnz ".vbe";
        movzx bx, byte_ptr(vars::CRT_MODE);
        jmp ".store";
        label ".vbe";
        push ax;
        call "current_mode";
        mov bx, word_ptr(si).cs();
        pop ax;
        test al, 0x40;
        jz ".store";
        or bh, 0x40;
        label ".store";
        mov f::bx_(), bx;
        clc;
        ret;
        proc "current_mode"; // SI: the record of the VBE mode that is set (the end of the table: none of ours)
        offset si, "vbe_modes";
        label ".next";
        cmp word_ptr(si).cs(), 0;
        je ".ret";
        mov al, dispi::XRES;
        call "dispi_read";
        cmp ax, word_ptr(si + 2).cs();
        jne ".other";
        mov al, dispi::YRES;
        call "dispi_read";
        cmp ax, word_ptr(si + 4).cs();
        jne ".other";
        mov al, dispi::BPP;
        call "dispi_read";
        cmp ax, word_ptr(si + 6).cs();
        je ".ret";
        label ".other";
        add si, 8;
        jmp ".next";
        label ".ret";
        ret;

        proc "vbe_state"; // DL: size (0), save (1), restore (2) to ES:BX. Saved: the interface's registers 1-9
        mov bx, f::bx_();
        mov dl, f::dl_();
        cmp dl, 1;
        je ".save";
        ja ".restore";
        mov f::bx_(), 1;
        clc;
        ret;
        label ".save";
        mov di, bx;
        mov bl, 1;
        label ".save_next";
        mov al, bl;
        call "dispi_read";
        stosw;
        inc bl;
        cmp bl, 9;
        jbe ".save_next";
        clc;
        ret;
        label ".restore";
        // Resolution and depth only change while the interface is off.
        mov si, bx;
        mov al, dispi::ENABLE;
        xor cx, cx;
        call "dispi_write";
        mov bl, 1;
        label ".restore_next";
        mov cx, word_ptr(si).es();
        add si, 2;
        cmp bl, dispi::ENABLE as u32;
        je ".skip";
        mov al, bl;
        call "dispi_write";
        label ".skip";
        inc bl;
        cmp bl, 3;
        jbe ".restore_next";
        mov cx, word_ptr(si).es();
        or cl, 0x80;
        mov al, dispi::ENABLE;
        call "dispi_write";
        clc;
        ret;
    }
    Ok(())
}

fn window(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe_window"; // BH=0: set DX, BH=1: get; BL: window A
        cmp f::bl_(), 0;
        jne ".fail";
        cmp f::bh_(), 1;
        je ".get";
        ja ".fail";
        mov cx, f::dx_();
        mov al, dispi::BANK;
        call "dispi_write";
        clc;
        ret;
        label ".get";
        mov al, dispi::BANK;
        call "dispi_read";
        mov f::dx_(), ax;
        clc;
        ret;
        label ".fail";
        stc;
        ret;
        proc "vbe_window_far"; // the same by a far call: BH, BL, DX
        push ax;
        push cx;
        cmp bh, 1;
        je ".get";
        push dx;
        mov cx, dx;
        mov al, dispi::BANK;
        call "dispi_write";
        pop dx;
        jmp ".out";
        label ".get";
        mov al, dispi::BANK;
        call "dispi_read";
        mov dx, ax;
        label ".out";
        pop cx;
        pop ax;
        retf;
    }
    Ok(())
}

fn scan_line(s: &mut Section) -> Emit {
    code! { s;
        proc "pixel_bytes"; // -> BX: bytes of a pixel. Destroys AX
        mov al, dispi::BPP;
        call "dispi_read";
        add ax, 7;
        shr ax, 3;
        mov bx, ax;
        ret;
        proc "vbe_scan_line"; // BL: 0 set CX pixels, 1 get, 2 set CX bytes, 3 maximum
        call "pixel_bytes";
        test bx, bx;
        jz ".fail";
        mov cx, f::cx_();
        mov dl, f::bl_();
        cmp dl, 1;
        je ".tell";
        cmp dl, 3;
        je ".tell";
        ja ".fail";
        cmp dl, 0;
        je ".pixels";
        mov ax, cx;
        xor dx, dx;
        div bx;
        mov cx, ax;
        label ".pixels";
        mov al, dispi::VIRTUAL_WIDTH;
        call "dispi_write";
        label ".tell";
        mov al, dispi::VIRTUAL_WIDTH;
        call "dispi_read";
        mov f::cx_(), ax;
        mul bx;
        mov f::bx_(), ax;
        test ax, ax;
        jz ".fail";
        movzx ecx, ax;
        // Lines that fit the memory.
        mov al, dispi::MEMORY_64K;
        call "dispi_read";
        movzx eax, ax;
        shl eax, 16;
        xor edx, edx;
        div ecx;
        cmp eax, 0x7fff;
        jbe ".lines";
        mov ax, 0x7fff;
        label ".lines";
        mov f::dx_(), ax;
        clc;
        ret;
        label ".fail";
        stc;
        ret;
        proc "vbe_start"; // BL: 0 or 80h set CX, DX; 1 get
        mov bl, f::bl_();
        and bl, 0x7f;
        cmp bl, 1;
        je ".get";
        ja ".fail";
        mov cx, f::cx_();
        mov al, dispi::X_OFFSET;
        call "dispi_write";
        mov cx, f::dx_();
        mov al, dispi::Y_OFFSET;
        call "dispi_write";
        clc;
        ret;
        label ".get";
        mov f::bh_(), 0;
        mov al, dispi::X_OFFSET;
        call "dispi_read";
        mov f::cx_(), ax;
        mov al, dispi::Y_OFFSET;
        call "dispi_read";
        mov f::dx_(), ax;
        clc;
        ret;
        label ".fail";
        stc;
        ret;
    }
    Ok(())
}

fn dac(s: &mut Section) -> Emit {
    code! { s;
        proc "vbe_dac_width"; // BL=0: set BH bits, BL=1: get -> BH
        mov al, dispi::ENABLE;
        call "dispi_read";
        cmp f::bl_(), 0;
        jne ".tell";
        and al, 0xdf;
        cmp f::bh_(), 8;
        jb ".six";
        or al, 0x20;
        label ".six";
        mov cx, ax;
        or cl, 0x80; // the memory stays
        mov al, dispi::ENABLE;
        call "dispi_write";
        mov ax, cx;
        label ".tell";
        mov f::bh_(), 6;
        test al, 0x20;
        jz ".done";
        mov f::bh_(), 8;
        label ".done";
        clc;
        ret;
        proc "vbe_palette"; // BL: 0 or 80h set, 1 get: CX entries from DX, as blue, green, red, - at ES:DI
        mov cx, f::cx_();
        mov bl, f::bl_();
        and bl, 0x7f;
        cmp bl, 1;
        ja ".fail";
        mov al, f::dl_();
        mov dx, 0x3c8;
        jb ".write";
        dec dx;
        out dx, al;
        mov dl, 0xc9;
        label ".read_next";
        jcxz ".done";
        in_ al, dx;
        mov byte_ptr(di + 2).es(), al;
        in_ al, dx;
        mov byte_ptr(di + 1).es(), al;
        in_ al, dx;
        mov byte_ptr(di).es(), al;
        mov byte_ptr(di + 3).es(), 0;
        add di, 4;
        dec cx;
        jmp ".read_next";
        label ".write";
        out dx, al;
        inc dx;
        label ".write_next";
        jcxz ".done";
        mov al, byte_ptr(di + 2).es();
        out dx, al;
        mov al, byte_ptr(di + 1).es();
        out dx, al;
        mov al, byte_ptr(di).es();
        out dx, al;
        add di, 4;
        dec cx;
        jmp ".write_next";
        label ".done";
        clc;
        ret;
        label ".fail";
        stc;
        ret;
    }
    Ok(())
}

fn frame_buffer(s: &mut Section) -> Emit {
    code! { s;
        proc "frame_buffer"; // -> EAX: address of the linear frame buffer: BAR 0 of the display on bus 0. Keeps the rest
        push ecx;
        push dx;
        mov ecx, 0x8000_0000u32;
        label ".next";
        mov dx, 0xcf8;
        lea eax, dword_ptr(ecx + 8);
        out dx, eax;
        mov dl, 0xfc;
        in_ eax, dx;
        shr eax, 16;
        cmp ax, 0x0300;
        jne ".other";
        mov dl, 0xf8;
        lea eax, dword_ptr(ecx + 0x10);
        out dx, eax;
        mov dl, 0xfc;
        in_ eax, dx;
        test al, 1;
        jnz ".other";
        and al, 0xf0;
        jmp ".found";
        label ".other";
        add ecx, 0x0800;
        test ecx, 0x0001_0000;
        jz ".next";
        mov eax, 0xe000_0000u32; // an ISA card of Bochs
        label ".found";
        pop dx;
        pop ecx;
        ret;
    }
    Ok(())
}
