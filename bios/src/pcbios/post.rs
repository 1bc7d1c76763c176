//! From the reset vector to the first boot program.

use iced_x86::code_asm::*;

use super::asm::{AsmError, Assembled, Emit, Section, code};
use super::layout::{
    BASE_KIB, EBDA_KIB, EBDA_SEGMENT, IMAGE, POST_STACK, VIDEO_SEGMENT, bda, drive, ebda, kind,
};
use super::video::{self, vars};

/// Calls a procedure of the 32-bit part.
fn flat_call(s: &mut Section, flat: &Assembled, name: &str) -> Emit {
    let address = flat.address(name)?;
    code! { s;
        mov eax, address;
        call "call32";
    }
    Ok(())
}

/// The procedures. `tables` is the place for tables in the F segment.
pub fn emit(s: &mut Section, flat: &Assembled, tables: u32) -> Result<(), AsmError> {
    reset(s)?;
    data_areas(s)?;
    flat_call(s, flat, "shadow")?;
    flat_call(s, flat, "fw_settings")?;
    flat_call(s, flat, "memory_size")?;
    code! { s;
        mov dword_ptr(ebda::LOW_TABLES).fs(), tables;
        call "set_vectors";
        call "set_pics";
        call "start_video";
        call "detect_ports";
        call "start_console";
        call "banner";
    }
    for step in ["pci_assign", "start_processor", "e820_map", "load_tables"] {
        flat_call(s, flat, step)?;
    }
    code! { s;
        call "start_keyboard";
        call "start_timer";
        sti;
        call "report_memory";
        call "detect_floppies";
        call "detect_ata";
        call "detect_ahci";
        call "detect_virtio";
        call "detect_nvme";
        call "report_drives";
    }
    flat_call(s, flat, "boot_paths")?;
    flat_call(s, flat, "lock")?;
    code! { s;
        call "boot_order";
        call "boot_menu_key";
        int 0x19;
        jmp "reset";
    }
    video_start(s)?;
    report(s)
}

fn reset(s: &mut Section) -> Emit {
    code! { s;
        proc "post";
        cli;
        cld;
        // A program that came back from protected mode by a reset says so in the CMOS.
        mov al, 0x8f;
        out 0x70, al;
        in_ al, 0x71;
        mov ah, al;
        mov al, 0x8f;
        out 0x70, al;
        mov al, 0;
        out 0x71, al;
        cmp ah, 0x05;
        je ".resume_eoi";
        cmp ah, 0x0a;
        jne ".cold";
        label ".resume";
        xor ax, ax;
        mov ds, ax;
        jmp_far_memory 0x467;
        label ".resume_eoi";
        mov al, 0x20;
        out 0xa0, al;
        out 0x20, al;
        jmp ".resume";
        label ".cold";
        in_ al, 0x92;
        or al, 2;
        and al, 0xfe;
        out 0x92, al;
        // Nothing interrupts.
        mov al, -1;
        out 0x21, al;
        out 0xa1, al;
        xor ax, ax;
        mov ss, ax;
        mov esp, POST_STACK;
    }
    Ok(())
}

fn data_areas(s: &mut Section) -> Emit {
    code! { s;
        call "segments";
        mov bx, word_ptr(bda::RESET_FLAG);
        push ds;
        pop es;
        xor ax, ax;
        xor di, di;
        mov cx, 0x80;
        rep_stosw;
        mov word_ptr(bda::RESET_FLAG), bx;
        push fs;
        pop es;
        xor di, di;
        mov cx, EBDA_KIB * 512;
        rep_stosw;
        mov byte_ptr(0).fs(), EBDA_KIB;
        mov word_ptr(bda::EBDA_PTR), EBDA_SEGMENT as u32;
        mov word_ptr(bda::MEMORY_SIZE), BASE_KIB;
        mov word_ptr(bda::EQUIP_FLAG), 0x0026; // coprocessor, mouse, 80 columns
    }
    Ok(())
}

fn video_start(s: &mut Section) -> Emit {
    code! { s;
        proc "start_video";
        // A VGA's sequencer keeps its map mask.
        mov dx, 0x3c4;
        mov ax, 0x0502;
        out dx, ax;
        mov al, 2;
        out dx, al;
        inc dx;
        in_ al, dx;
        cmp al, 5;
        sete byte_ptr(ebda::HAS_VGA).fs();
        je ".vga";
        // Without one, the serial line is the console.
        cmp word_ptr(ebda::SERIAL_CONSOLE).fs(), 0;
        jne ".vga";
        mov word_ptr(ebda::SERIAL_CONSOLE).fs(), 0x3f8;
        label ".vga";
        mov byte_ptr(vars::INFO), 0x60;
        mov byte_ptr(vars::INFO_3), 0xf9;
        mov byte_ptr(vars::FLAGS), 0x51;
        mov byte_ptr(vars::DCC), 8;
        // The copy at C0000, or the original where nothing could be copied.
        xor ax, ax;
        mov es, ax;
        mov ax, VIDEO_SEGMENT as u32;
        mov gs, ax;
        cmp word_ptr(0).gs(), 0xaa55u32;
        je ".copied";
        mov ax, IMAGE >> 4;
        label ".copied";
        mov word_ptr(0x10 * 4).es(), video::ENTRY as u32;
        mov word_ptr(0x10 * 4 + 2).es(), ax;
        mov word_ptr(0x42 * 4).es(), video::ENTRY as u32;
        mov word_ptr(0x42 * 4 + 2).es(), ax;
        mov word_ptr(0x6d * 4).es(), video::ENTRY as u32;
        mov word_ptr(0x6d * 4 + 2).es(), ax;
        mov ax, 0x0003;
        int 0x10;
        ret;
    }
    Ok(())
}

fn report(s: &mut Section) -> Emit {
    code! { s;
        proc "banner";
        offset si, "text_banner";
        call "puts";
        // The processor's name, if it tells.
        pushfd;
        pop eax;
        mov ecx, eax;
        xor eax, 0x20_0000;
        push eax;
        popfd;
        pushfd;
        pop eax;
        cmp eax, ecx;
        je ".no_name";
        mov eax, 0x8000_0000u32;
        cpuid;
        cmp eax, 0x8000_0004u32;
        jb ".no_name";
        offset si, "text_processor";
        call "puts";
        mov esi, 0x8000_0002u32;
        label ".part";
        mov eax, esi;
        cpuid;
        mov dword_ptr(ebda::SECTOR).fs(), eax;
        mov dword_ptr(ebda::SECTOR + 4).fs(), ebx;
        mov dword_ptr(ebda::SECTOR + 8).fs(), ecx;
        mov dword_ptr(ebda::SECTOR + 12).fs(), edx;
        mov byte_ptr(ebda::SECTOR + 16).fs(), 0;
        push si;
        mov si, ebda::SECTOR;
        call "puts_fs";
        pop si;
        inc esi;
        cmp esi, 0x8000_0004u32;
        jbe ".part";
        call "newline";
        label ".no_name";
        ret;
        proc "report_memory";
        offset si, "text_memory";
        call "puts";
        mov eax, dword_ptr(ebda::RAM_LOW).fs();
        shr eax, 10;
        mov ebx, dword_ptr(ebda::RAM_HIGH).fs();
        shl ebx, 6;
        add eax, ebx;
        call "put_decimal";
        offset si, "text_kib";
        jmp "puts";
        proc "report_drives";
        xor di, di;
        label ".floppy";
        movzx bx, byte_ptr(di + ebda::FLOPPY_TYPE).fs();
        test bx, bx;
        jz ".no_floppy";
        offset si, "text_diskette";
        call "puts";
        mov ax, di;
        add al, b'A' as i32;
        call "putc";
        call "newline";
        label ".no_floppy";
        inc di;
        cmp di, 2;
        jb ".floppy";
        mov cl, 0;
        label ".drive";
        cmp cl, byte_ptr(ebda::DRIVE_COUNT).fs();
        jae ".ret";
        movzx ax, cl;
        shl ax, 5;
        mov si, ax;
        mov bx, ax;
        offset di, "text_hard_disk";
        cmp byte_ptr(bx + (ebda::DRIVES + drive::KIND)).fs(), kind::ATAPI;
        jne ".disk";
        offset di, "text_cd_drive";
        label ".disk";
        xchg si, di;
        call "puts";
        mov si, di;
        add si, ebda::NAMES;
        call "puts_fs";
        cmp byte_ptr(bx + (ebda::DRIVES + drive::KIND)).fs(), kind::ATAPI;
        je ".no_size";
        mov al, b',' as i32;
        call "putc";
        call "space";
        mov eax, dword_ptr(bx + (ebda::DRIVES + drive::BLOCKS)).fs();
        mov edx, dword_ptr(bx + (ebda::DRIVES + drive::BLOCKS + 4)).fs();
        shrd eax, edx, 11;
        call "put_decimal";
        offset si, "text_mib";
        call "puts";
        label ".no_size";
        call "newline";
        inc cl;
        jmp ".drive";
        label ".ret";
        ret;
        proc "text_banner";
        text "Retrograde BIOS\n\n";
        proc "text_processor";
        text "Processor: ";
        proc "text_memory";
        text "Memory: ";
        proc "text_kib";
        text " KiB\n";
        proc "text_mib";
        text " MiB";
        proc "text_diskette";
        text "Diskette drive ";
        proc "text_hard_disk";
        text "Disk: ";
        proc "text_cd_drive";
        text "CD drive: ";
    }
    Ok(())
}
