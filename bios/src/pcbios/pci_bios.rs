//! PCI BIOS 2.1: INT 1Ah AH=B1h, and the 32-bit service directory.

use iced_x86::code_asm::*;

use super::asm::{AsmError, Assembled, Emit, Section, code};
use super::frame as f;
use super::layout::{BIOS_SEGMENT, ebda};

/// Status codes in AH.
mod status {
    pub const UNSUPPORTED: i32 = 0x81;
    pub const BAD_VENDOR: i32 = 0x83;
    pub const NOT_FOUND: i32 = 0x86;
    pub const BAD_REGISTER: i32 = 0x87;
}

/// The 16-bit service.
pub fn emit(s: &mut Section) -> Emit {
    dispatch(s)?;
    find(s)?;
    access(s)
}

fn dispatch(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_bios";
        mov al, f::al_();
        and al, 0x7f;
        select al, &[(1, ".present"), (2, "pci_find_device"), (3, "pci_find_class")];
        cmp al, 0x08;
        jb ".unsupported";
        cmp al, 0x0d;
        jbe "pci_access";
        label ".unsupported";
        mov f::ah_(), status::UNSUPPORTED;
        jmp "fail";
        label ".present";
        mov f::edx_(), u32::from_le_bytes(*b"PCI ");
        mov f::ax_(), 1; // AH = 0; configuration mechanism 1
        mov f::bx_(), 0x0210;
        mov al, byte_ptr(ebda::PCI_LAST_BUS).fs();
        mov f::cl_(), al;
        jmp "ok";
        proc "config_address"; // EBX: function << 8, DI: register. DX: CFCh + the register's low bits. Destroys EAX
        mov eax, ebx;
        mov al, 0;
        push di;
        and di, 0xfc;
        or ax, di;
        pop di;
        or eax, 0x8000_0000u32;
        mov dx, 0xcf8;
        out dx, eax;
        mov dx, di;
        and dx, 3;
        add dx, 0xcfc;
        ret;
    }
    Ok(())
}

fn find(s: &mut Section) -> Emit {
    code! { s;
        // Each function of each bus in turn; ESI counts down matches.
        proc "pci_find_device"; // CX: device, DX: vendor, SI: index
        mov ecx, f::ecx_();
        shl ecx, 16;
        mov cx, f::dx_();
        cmp cx, -1;
        jne ".vendor";
        mov f::ah_(), status::BAD_VENDOR;
        jmp "fail";
        label ".vendor";
        xor di, di;
        jmp "pci_find";
        proc "pci_find_class"; // ECX: class, SI: index
        mov ecx, f::ecx_();
        shl ecx, 8;
        mov di, 8;
        proc "pci_find"; // ECX: value of register DI (class: without its low byte)
        xor ebx, ebx;
        mov si, f::si_();
        label ".next";
        push di;
        xor di, di;
        call "config_address";
        pop di;
        in_ eax, dx;
        cmp ax, -1;
        je ".absent";
        test ax, ax;
        jz ".absent";
        call "config_address";
        in_ eax, dx;
        test di, di;
        jz ".compare";
        mov al, 0;
        label ".compare";
        cmp eax, ecx;
        jne ".other";
        sub si, 1;
        jc ".found";
        label ".other";
        // More functions?
        test bh, 7;
        jnz ".step";
        push di;
        mov di, 0x0e;
        call "config_address";
        pop di;
        in_ al, dx;
        test al, 0x80;
        jnz ".step";
        jmp ".next_device";
        label ".absent";
        test bh, 7;
        jz ".next_device";
        label ".step";
        add ebx, 0x100;
        jmp ".end";
        label ".next_device";
        add ebx, 0x800;
        label ".end";
        mov eax, ebx;
        shr eax, 16;
        cmp al, byte_ptr(ebda::PCI_LAST_BUS).fs();
        jbe ".next";
        mov f::ah_(), status::NOT_FOUND;
        jmp "fail";
        label ".found";
        shr ebx, 8;
        mov f::bx_(), bx;
        jmp "ok_ah0";
    }
    Ok(())
}

fn access(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_access"; // AL: 08h-0Ah read, 0Bh-0Dh write byte, word, dword; BX: function, DI: register
        movzx ebx, f::bx_();
        shl ebx, 8;
        mov di, f::di_();
        cmp di, 0x100;
        jae ".bad";
        push ax;
        call "config_address";
        pop ax;
        select al, &[(0x08, ".read_byte"), (0x09, ".read_word"), (0x0b, ".write_byte"), (0x0c, ".write_word"), (0x0d, ".write")];
        test di, 3;
        jnz ".bad";
        in_ eax, dx;
        mov f::ecx_(), eax;
        jmp "ok_ah0";
        label ".read_byte";
        in_ al, dx;
        mov f::cl_(), al;
        jmp "ok_ah0";
        label ".read_word";
        test di, 1;
        jnz ".bad";
        in_ ax, dx;
        mov f::cx_(), ax;
        jmp "ok_ah0";
        label ".write_byte";
        mov al, f::cl_();
        out dx, al;
        jmp "ok_ah0";
        label ".write_word";
        test di, 1;
        jnz ".bad";
        mov ax, f::cx_();
        out dx, ax;
        jmp "ok_ah0";
        label ".write";
        test di, 3;
        jnz ".bad";
        mov eax, f::ecx_();
        out dx, eax;
        jmp "ok_ah0";
        label ".bad";
        mov f::ah_(), status::BAD_REGISTER;
        jmp "fail";
    }
    Ok(())
}

/// The 32-bit services, which protected-mode systems call by far calls: the BIOS32 directory at the start, and the PCI
/// services behind it. Position independent: no absolute address.
pub fn services_32(base: u32) -> Result<Assembled, AsmError> {
    let mut section = Section::new(32, base)?;
    let s = &mut section;
    code! { s;
        proc "directory"; // EAX: service -> AL: 0; EBX: base, ECX: length, EDX: entry offset
        cmp eax, u32::from_le_bytes(*b"$PCI");
        jne ".unknown";
        test ebx, ebx;
        jnz ".bad";
        mov ebx, (BIOS_SEGMENT as u32) << 4;
        mov ecx, 0x1_0000;
        offset32 edx, "pci_service";
        sub edx, (BIOS_SEGMENT as u32) << 4;
        xor al, al;
        retf;
        label ".unknown";
        mov al, 0x80;
        retf;
        label ".bad";
        mov al, 0x81;
        retf;
        proc "pci_service";
        pushfd;
        cli;
        push esi;
        push edi;
        cmp ax, 0xb101;
        je ".present";
        cmp ax, 0xb102;
        je ".find";
        cmp ax, 0xb103;
        je ".class";
        cmp ax, 0xb108;
        jb ".unsupported";
        cmp ax, 0xb10d;
        ja ".unsupported";
        // Configuration access: BX: function, EDI: register, ECX: value.
        cmp edi, 0x100;
        jae ".bad_register";
        push eax;
        push edx;
        push eax;
        movzx eax, bx;
        shl eax, 8;
        or eax, 0x8000_0000u32;
        mov edx, edi;
        and edx, 0xfc;
        or eax, edx;
        mov edx, 0xcf8;
        out dx, eax;
        mov edx, edi;
        and edx, 3;
        add edx, 0xcfc;
        pop eax;
        cmp al, 8;
        jne ".not_8";
        in_ al, dx;
        mov cl, al;
        label ".not_8";
        cmp al, 9;
        jne ".not_9";
        in_ ax, dx;
        mov cx, ax;
        jmp ".accessed";
        label ".not_9";
        cmp byte_ptr(esp + 4), 8;
        je ".accessed";
        cmp al, 0x0a;
        jne ".not_a";
        in_ eax, dx;
        mov ecx, eax;
        jmp ".accessed";
        label ".not_a";
        cmp al, 0x0c;
        mov eax, ecx;
        jb ".byte";
        je ".word";
        out dx, eax;
        jmp ".accessed";
        label ".word";
        out dx, ax;
        jmp ".accessed";
        label ".byte";
        out dx, al;
        label ".accessed";
        pop edx;
        pop eax;
        jmp ".good";
        label ".present";
        mov edx, u32::from_le_bytes(*b"PCI ");
        mov al, 1;
        mov bx, 0x0210;
        mov cl, -1;
        label ".good";
        mov ah, 0;
        pop edi;
        pop esi;
        popfd;
        clc;
        retf;
        label ".bad_register";
        mov ah, status::BAD_REGISTER;
        jmp ".fail";
        label ".unsupported";
        mov ah, status::UNSUPPORTED;
        jmp ".fail";
        label ".absent";
        pop edx;
        mov ah, status::NOT_FOUND;
        label ".fail";
        pop edi;
        pop esi;
        popfd;
        stc;
        retf;
        label ".class"; // ECX: class, SI: index
        push edx;
        mov edi, ecx;
        shl edi, 8;
        mov ebx, 0x8000_0008u32;
        jmp ".scan";
        label ".find"; // CX: device, DX: vendor, SI: index
        push edx;
        mov edi, ecx;
        shl edi, 16;
        mov di, dx;
        mov ebx, 0x8000_0000u32;
        label ".scan";
        movzx esi, si;
        label ".next";
        mov eax, ebx;
        mov edx, 0xcf8;
        out dx, eax;
        mov dl, 0xfc;
        in_ eax, dx;
        test bl, 8;
        jz ".compare";
        mov al, 0;
        label ".compare";
        cmp eax, edi;
        jne ".other";
        sub esi, 1;
        jc ".found";
        label ".other";
        add ebx, 0x100;
        test ebx, 0x100_0000;
        jz ".next";
        jmp ".absent";
        label ".found";
        pop edx;
        shr ebx, 8;
        movzx ebx, bx;
        jmp ".good";
    }
    section.assemble()
}
