//! PCI memory that moves under a running processor, by the configuration space in memory of a `q35`.
//!
//! Each access is by one and the same instruction, in a loop that gets hot: whatever a tier remembers of the address must be forgotten
//! when the register is written.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::test_devices::{expect, passes};

type Emit = Result<(), IcedError>;

/// Configuration space in memory, where the firmware puts it.
const ECAM: u32 = 0xb000_0000;
/// Board functions: the AHCI controller, with its registers at BAR 5; the display, with video memory at BAR 0.
const AHCI: u32 = ECAM + (0xfa << 12);
const ABAR: u32 = AHCI + 0x24;
const VGA: u32 = ECAM + (0x08 << 12);
const FRAME_BUFFER: u32 = VGA + 0x10;
const COMMAND: u32 = 4;
/// Places where nothing is.
const FREE: [u32; 2] = [0xd000_0000, 0xd400_0000];
/// Rounds of a loop: enough for every tier to have compiled it.
const ROUNDS: i32 = 3000;
const NOTHING: u32 = u32::MAX;

/// On a `q35`, in every tier. EBP counts rounds down.
fn in_every_tier(
    prepare: impl Fn(&mut CodeAssembler) -> Emit,
    round: impl Fn(&mut CodeAssembler, CodeLabel) -> Emit,
) {
    for tier in ["0", "1", "auto"] {
        passes(&["-M", "q35", "-m", "16", "-vga", "std", "-tier", tier], |a, failed| {
            let mut again = a.create_label();
            a.mov(esp, 0x9000)?;
            prepare(a)?;
            a.mov(ebp, ROUNDS)?;
            a.set_label(&mut again)?;
            round(a, failed)?;
            a.dec(ebp)?;
            a.jnz(again)
        });
    }
}

/// EAX: what is at the address in ESI.
fn look(a: &mut CodeAssembler) -> Emit {
    a.mov(eax, dword_ptr(esi))
}

/// Moves the device whose register is at `bar` from EBX to EDI, and back the next time.
fn moves(a: &mut CodeAssembler, bar: u32) -> Emit {
    a.mov(dword_ptr(bar), edi)?;
    a.xchg(ebx, edi)
}

#[test]
fn registers_are_at_the_new_place_and_no_more_at_the_old_one() {
    in_every_tier(
        |a| {
            a.mov(ebx, dword_ptr(ABAR))?;
            a.mov(edi, FREE[0])?;
            // Capabilities and version are what is compared.
            a.mov(ecx, dword_ptr(ebx))?;
            a.mov(edx, dword_ptr(ebx + 0x10))
        },
        |a, failed| {
            moves(a, ABAR)?;
            // Both places by one instruction, twice: first the new one.
            let (mut next, mut both) = (a.create_label(), a.create_label());
            a.mov(esi, ebx)?;
            a.set_label(&mut next)?;
            look(a)?;
            a.cmp(esi, ebx)?;
            a.jne(both)?;
            a.cmp(eax, ecx)?;
            a.jne(failed)?;
            a.cmp(dword_ptr(esi + 0x10), edx)?;
            a.jne(failed)?;
            a.mov(esi, edi)?;
            a.jmp(next)?;
            a.set_label(&mut both)?;
            expect(a, NOTHING, failed)?;
            // Decoding off: at neither place. And on.
            a.and(word_ptr(AHCI + COMMAND), !2)?;
            a.cmp(dword_ptr(ebx), NOTHING as i32)?;
            a.jne(failed)?;
            a.or(word_ptr(AHCI + COMMAND), 2)?;
            a.cmp(dword_ptr(ebx), ecx)?;
            a.jne(failed)
        },
    );
}

#[test]
fn video_memory_moves_with_its_contents() {
    in_every_tier(
        |a| {
            a.mov(ebx, dword_ptr(FRAME_BUFFER))?;
            a.and(ebx, -16)?;
            a.mov(edi, FREE[1])
        },
        |a, failed| {
            // A mark at the old place, by a store that was at the new place in the round before.
            a.mov(dword_ptr(ebx + 0x1234), ebp)?;
            moves(a, FRAME_BUFFER)?;
            a.lea(esi, dword_ptr(ebx + 0x1234))?;
            look(a)?;
            a.cmp(eax, ebp)?;
            a.jne(failed)?;
            a.lea(esi, dword_ptr(edi + 0x1234))?;
            look(a)?;
            expect(a, NOTHING, failed)?;
            // What is stored where nothing is goes nowhere.
            a.mov(dword_ptr(edi + 0x1234), 5)?;
            a.cmp(dword_ptr(ebx + 0x1234), ebp)?;
            a.jne(failed)
        },
    );
}

#[test]
fn code_in_video_memory_moves_with_it() {
    in_every_tier(
        |a| {
            a.mov(ebx, dword_ptr(FRAME_BUFFER))?;
            a.and(ebx, -16)?;
            a.mov(edi, FREE[1])?;
            // MOV EAX, imm32; RET
            a.mov(byte_ptr(ebx), 0xb8)?;
            a.mov(byte_ptr(ebx + 5), 0xc3)
        },
        |a, failed| {
            // The operand is changed at one place, and the code runs at the other.
            a.mov(dword_ptr(ebx + 1), ebp)?;
            moves(a, FRAME_BUFFER)?;
            a.call(ebx)?;
            a.cmp(eax, ebp)?;
            a.jne(failed)?;
            a.not(dword_ptr(ebx + 1))?;
            a.call(ebx)?;
            a.not(eax)?;
            a.cmp(eax, ebp)?;
            a.jne(failed)
        },
    );
}
