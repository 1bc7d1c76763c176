//! The 32-bit part: what POST does with all of memory in reach. Called by "call32" of the 16-bit part.
//!
//! Its procedures run with flat segments and interrupts off, on the caller's stack. They may destroy every register but
//! ESP and EBP; a result is in EAX. Branches are relative, so that the same bytes also run at the ROM's place below 4 GiB, which
//! is where the shadowing code stands while the memory under it is exchanged.

mod boot_paths;
mod chipset;
mod fw_cfg;
mod loader;
mod memory;
pub mod nvme;
mod pci;
mod processor;
mod processors;
mod shadow;

use iced_x86::code_asm::*;

use super::asm::{AsmError, Assembled, Emit, Section, code};
use super::layout::{BIOS_SEGMENT, CODE32, CODE32_LEN, EBDA};

/// Selectors of the descriptor table in the 16-bit part.
pub mod selector {
    /// Flat code.
    pub const CODE32: u16 = 0x08;
    /// Flat data.
    pub const DATA32: i32 = 0x10;
    /// The BIOS segment.
    pub const CODE16: u16 = 0x18;
    /// The first 64 KiB.
    pub const DATA16: i32 = 0x20;
}

/// Where the 16-bit part has the way back: a jump that stands at a fixed place.
pub const BACK16: u32 = 0xe000;

/// The address of one of our variables.
pub fn var(offset: i32) -> AsmMemoryOperand {
    dword_ptr(EBDA + offset)
}

/// The same, a byte.
pub fn var8(offset: i32) -> AsmMemoryOperand {
    byte_ptr(EBDA + offset)
}

/// The same, a word.
pub fn var16(offset: i32) -> AsmMemoryOperand {
    word_ptr(EBDA + offset)
}

/// Assembles the section.
pub fn build() -> Result<Assembled, AsmError> {
    let mut section = Section::new(32, CODE32)?;
    let s = &mut section;
    gate(s)?;
    shadow::emit(s)?;
    memory::emit(s)?;
    fw_cfg::emit(s)?;
    loader::emit(s)?;
    chipset::emit(s)?;
    pci::emit(s)?;
    processor::emit(s)?;
    processors::emit(s)?;
    nvme::emit(s)?;
    boot_paths::emit(s)?;
    let out = section.assemble()?;
    if out.bytes.len() > CODE32_LEN {
        return Err(AsmError::TooLong { what: "the 32-bit part", bytes: out.bytes.len(), room: CODE32_LEN });
    }
    Ok(out)
}

/// From "call32" and back. EBP: address of the frame: SS, port 92h, the procedure's address.
fn gate(s: &mut Section) -> Emit {
    code! { s;
        proc "gate";
        mov eax, selector::DATA32;
        mov ds, ax;
        mov es, ax;
        mov ss, ax;
        mov fs, ax;
        mov gs, ax;
        mov esp, ebp;
        push ebp;
        call_through dword_ptr(ebp + 4);
        pop ebp;
        mov dword_ptr(ebp + 4), eax;
        movzx ebx, word_ptr(ebp);
        mov eax, selector::DATA16;
        mov ds, ax;
        mov es, ax;
        mov ss, ax;
        mov fs, ax;
        mov gs, ax;
        jmp_far selector::CODE16, BACK16;
    }
    debug_assert_eq!(BIOS_SEGMENT, 0xf000);
    Ok(())
}
