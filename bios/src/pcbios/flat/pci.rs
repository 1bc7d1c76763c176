//! PCI: configuration access (mechanism 1), and addresses for everything that wants some.
//!
//! One pass over the tree. A bridge's windows begin where the allocation stands when the pass enters its bus, and end where
//! it stands afterwards, rounded: so nothing must be known in advance, at the price of some holes.

use iced_x86::code_asm::*;

use super::super::asm::{Emit, Section, code};
use super::super::layout::ebda;
use super::{var, var8};

/// Registers of a function.
mod reg {
    pub const ID: i32 = 0x00;
    pub const COMMAND: i32 = 0x04;
    pub const CLASS: i32 = 0x08;
    pub const HEADER: i32 = 0x0c;
    pub const BAR0: i32 = 0x10;
    pub const BUSES: i32 = 0x18;
    pub const IO_WINDOW: i32 = 0x1c;
    pub const MEMORY_WINDOW: i32 = 0x20;
    pub const PREFETCHABLE_WINDOW: i32 = 0x24;
    pub const INTERRUPT: i32 = 0x3c;
}

/// First I/O port that is given away.
const IO_START: i32 = 0xc000;
/// First memory address.
const MEMORY_START: u32 = 0xe000_0000;

/// The procedures.
pub fn emit(s: &mut Section) -> Emit {
    access(s)?;
    assign(s)?;
    bus(s)?;
    bridge(s)?;
    bars(s)?;
    interrupts(s)
}

fn access(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_select"; // EAX: configuration address. Destroys EAX, EDX
        mov edx, 0xcf8;
        and al, 0xfc;
        out dx, eax;
        mov dl, 0xfc;
        ret;
        proc "pci_read"; // EAX: address -> EAX. Destroys EDX
        call "pci_select";
        in_ eax, dx;
        ret;
        proc "pci_write"; // EAX: address, ECX: value. Destroys EAX, EDX
        call "pci_select";
        mov eax, ecx;
        out dx, eax;
        ret;
        // EBX is the function (bus, device, function in bits 8-23, bit 31 set); EAX: register
        proc "cfg_read"; // -> EAX. Destroys EDX
        or eax, ebx;
        jmp "pci_read";
        proc "cfg_write"; // ECX: value. Destroys EAX, EDX
        or eax, ebx;
        jmp "pci_write";
    }
    Ok(())
}

fn assign(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_assign";
        mov var(ebda::PCI_IO), IO_START;
        mov eax, MEMORY_START;
        cmp eax, var(ebda::RAM_LOW);
        jae ".above";
        mov eax, var(ebda::RAM_LOW);
        label ".above";
        mov var(ebda::PCI_MEMORY), eax;
        mov var(ebda::PCI_LAST_BUS), 0;
        xor ebx, ebx;
        jmp "pci_bus";
    }
    Ok(())
}

fn bus(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_bus"; // EBX: bus << 16
        or ebx, 0x8000_0000u32;
        label ".next";
        mov eax, reg::ID;
        call "cfg_read";
        cmp ax, -1;
        je ".absent";
        test ax, ax;
        jz ".absent";
        call "chipset_function";
        mov eax, reg::HEADER;
        call "cfg_read";
        shr eax, 16;
        and al, 0x7f;
        mov esi, 6; // base address registers
        cmp al, 1;
        jne ".device";
        mov esi, 2;
        label ".device";
        push eax;
        call "pci_bars";
        call "pci_interrupt";
        pop eax;
        cmp al, 1;
        jne ".enable";
        call "pci_bridge";
        label ".enable";
        // Ports and memory on.
        mov eax, reg::COMMAND;
        call "cfg_read";
        movzx ecx, ax;
        or ecx, 0x0103;
        push ecx;
        call "ide_function";
        pop ecx;
        or ecx, eax;
        push ecx;
        call "ahci_function";
        pop ecx;
        or ecx, eax;
        mov eax, reg::COMMAND;
        call "cfg_write";
        jmp ".after";
        label ".absent";
        // No function 0: none of the others either.
        test bh, 7;
        jz ".next_device";
        label ".after";
        test bh, 7;
        jnz ".next_function";
        mov eax, reg::HEADER;
        call "cfg_read";
        test eax, 0x0080_0000;
        jz ".next_device";
        label ".next_function";
        add bh, 1;
        jc ".ret";
        jmp ".next";
        label ".next_device";
        add bh, 8;
        jnc ".next";
        label ".ret";
        ret;
    }
    Ok(())
}

fn bridge(s: &mut Section) -> Emit {
    code! { s;
        proc "align"; // EAX: variable's address, ECX: alignment (a power of two) -> EAX: the aligned value, also stored
        push edx;
        mov edx, dword_ptr(eax);
        dec ecx;
        add edx, ecx;
        not ecx;
        and edx, ecx;
        mov dword_ptr(eax), edx;
        mov eax, edx;
        pop edx;
        ret;
        proc "pci_bridge"; // EBX: the bridge. Keeps EBX
        // Bus numbers: this one, the next free one, and all above it for the moment.
        inc var(ebda::PCI_LAST_BUS);
        mov ecx, var(ebda::PCI_LAST_BUS);
        mov edi, ecx; // secondary
        shl ecx, 8;
        or ecx, 0x00ff_0000;
        mov eax, ebx;
        shr eax, 16;
        mov cl, al;
        mov eax, reg::BUSES;
        call "cfg_write";
        mov eax, PCI_IO_AT;
        mov ecx, 0x1000;
        call "align";
        push eax;
        mov eax, PCI_MEMORY_AT;
        mov ecx, 0x10_0000;
        call "align";
        push eax;
        push ebx;
        push edi;
        mov ebx, edi;
        shl ebx, 16;
        call "pci_bus";
        pop edi;
        pop ebx;
        // Now the highest bus behind it is known.
        mov ecx, var(ebda::PCI_LAST_BUS);
        shl ecx, 16;
        mov eax, edi;
        mov ch, al;
        mov eax, ebx;
        shr eax, 16;
        mov cl, al;
        mov eax, reg::BUSES;
        call "cfg_write";
        // Memory window; base above limit closes it.
        mov eax, PCI_MEMORY_AT;
        mov ecx, 0x10_0000;
        call "align";
        dec eax;
        and eax, 0xfff0_0000u32;
        pop edx;
        mov ecx, edx;
        shr ecx, 16;
        or ecx, eax;
        mov eax, reg::MEMORY_WINDOW;
        call "cfg_write";
        mov ecx, 0x0000_fff0;
        mov eax, reg::PREFETCHABLE_WINDOW;
        call "cfg_write";
        // Port window.
        mov eax, PCI_IO_AT;
        mov ecx, 0x1000;
        call "align";
        dec eax;
        and eax, 0xf000;
        pop edx;
        mov ecx, eax;
        or cl, dh;
        or ecx, 0xffff_0000u32; // clears the secondary status
        mov eax, reg::IO_WINDOW;
        call "cfg_write";
        // Forward what the bus behind it masters.
        mov eax, reg::COMMAND;
        call "cfg_read";
        movzx ecx, ax;
        or ecx, 0x0107;
        mov eax, reg::COMMAND;
        jmp "cfg_write";
    }
    Ok(())
}

const PCI_IO_AT: i32 = super::super::layout::EBDA + ebda::PCI_IO;
const PCI_MEMORY_AT: i32 = super::super::layout::EBDA + ebda::PCI_MEMORY;

fn bars(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_bars"; // EBX: function, ESI: how many. Keeps EBX
        mov edi, reg::BAR0;
        label ".next";
        test esi, esi;
        jz ".ret";
        dec esi;
        mov eax, edi;
        mov ecx, -1;
        call "cfg_write";
        mov eax, edi;
        call "cfg_read";
        test eax, eax;
        jz ".none";
        mov ebp, eax;
        test al, 1;
        jz ".memory";
        // Ports.
        and eax, 0xfffc;
        neg eax;
        movzx ecx, ax;
        test ecx, ecx;
        jz ".none";
        mov eax, PCI_IO_AT;
        jmp ".place";
        label ".memory";
        and al, 0xf0;
        neg eax;
        mov ecx, eax;
        mov eax, PCI_MEMORY_AT;
        label ".place";
        push ecx;
        push eax;
        call "align";
        mov ecx, eax;
        pop eax;
        pop edx;
        add dword_ptr(eax), edx;
        mov eax, edi;
        call "cfg_write";
        // The upper half of a 64-bit register is 0.
        test ebp, 1;
        jnz ".none";
        and ebp, 6;
        cmp ebp, 4;
        jne ".none";
        test esi, esi;
        jz ".ret";
        dec esi;
        add edi, 4;
        mov eax, edi;
        xor ecx, ecx;
        call "cfg_write";
        label ".none";
        add edi, 4;
        jmp ".next";
        label ".ret";
        ret;
    }
    Ok(())
}

fn interrupts(s: &mut Section) -> Emit {
    code! { s;
        proc "pci_interrupt"; // EBX: function: tells it its interrupt, by what "chipset" has routed. Keeps EBX
        mov eax, reg::INTERRUPT;
        call "cfg_read";
        movzx ecx, ah; // pin
        test ecx, ecx;
        jz ".ret";
        mov edi, eax;
        // Device number; behind a bridge the pin moves on by the device at each step, which is the same sum here.
        mov eax, ebx;
        shr eax, 11;
        and eax, 31;
        add ecx, eax;
        cmp var8(ebda::IS_Q35), 0;
        jne ".q35";
        sub ecx, 2; // the first device after the bridge begins with line A
        jmp ".line";
        label ".q35";
        sub ecx, 1;
        cmp eax, 25;
        jb ".line";
        sub ecx, eax; // the chipset's own devices all begin with line A
        label ".line";
        and ecx, 3;
        offset32 eax, "pirq_interrupts";
        movzx ecx, byte_ptr(eax + ecx);
        and edi, 0xffff_ff00u32;
        or ecx, edi;
        mov eax, reg::INTERRUPT;
        call "cfg_write";
        label ".ret";
        ret;
        proc "pirq_interrupts";
        db &[10, 10, 11, 11];
    }
    debug_assert_eq!(reg::CLASS, 8);
    Ok(())
}
