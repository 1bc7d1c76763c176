//! Guest loops without an end, each of one kind of work. They begin at [`CODE`], use [`DATA`], and leave nothing else
//! behind, so that any number of instructions of them is a sample like any other.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use softmmu::PAGE_SIZE;
use x86::Block;
use x86::decode::block;
use x86::state::Mode;

use crate::rig::{CODE, DATA, DEVICE, OTHER_ROOT, ROOT};

/// What a program's text is written with.
pub type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// A loop by name.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// For the report.
    pub name: &'static str,
    write: Write,
}

/// The loops that tiers, decoder and compiler are measured with.
pub const LOOPS: [Program; 7] = [
    Program { name: "sum", write: sum },
    Program { name: "copy", write: copy },
    Program { name: "xorshift", write: xorshift },
    Program { name: "crc", write: crc },
    Program { name: "calls", write: calls },
    Program { name: "indirect", write: indirect },
    Program { name: "dot", write: dot },
];

impl Program {
    /// The code, for [`CODE`].
    pub fn bytes(&self) -> Vec<u8> {
        assemble(self.write)
    }

    /// The blocks that a linear sweep over the code meets.
    pub fn blocks(&self, mode: Mode) -> Vec<Block> {
        let bytes = self.bytes();
        sweep(&bytes, mode).collect()
    }
}

/// Decodes block after block from [`CODE`] to the end of `bytes`.
pub fn sweep(bytes: &[u8], mode: Mode) -> impl Iterator<Item = Block> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let next = block(&bytes[at..], CODE + at as u64, mode)?;
        at += next.len as usize;
        Some(next)
    })
}

/// Code for [`CODE`].
///
/// # Panics
/// When the text is wrong: it is ours.
pub fn assemble(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("there is a 64-bit mode");
    write(&mut a).expect("instructions that exist");
    a.assemble(CODE).expect("labels in reach")
}

/// Adds up 1024 integers in memory: a load, and the flags of a compare.
fn sum(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut top) = (a.create_label(), a.create_label());
    a.mov(rbx, DATA)?;
    a.set_label(&mut again)?;
    a.xor(ecx, ecx)?;
    a.set_label(&mut top)?;
    a.add(rax, qword_ptr(rbx + rcx * 8))?;
    a.inc(rcx)?;
    a.cmp(rcx, 0x400i32)?;
    a.jne(top)?;
    a.jmp(again)
}

/// Copies 4 KiB by words of 8 bytes: loads and stores that hit.
fn copy(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut top) = (a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.mov(rsi, DATA)?;
    a.mov(rdi, DATA + 0x8000)?;
    a.mov(ecx, 512i32)?;
    a.set_label(&mut top)?;
    a.mov(rax, qword_ptr(rsi))?;
    a.mov(qword_ptr(rdi), rax)?;
    a.add(rsi, 8i32)?;
    a.add(rdi, 8i32)?;
    a.dec(ecx)?;
    a.jne(top)?;
    a.jmp(again)
}

/// A random number generator: registers only.
fn xorshift(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(eax, 1i32)?;
    a.set_label(&mut top)?;
    for (left, by) in [(true, 13), (false, 7), (true, 17)] {
        a.mov(rdx, rax)?;
        if left {
            a.shl(rdx, by)?;
        } else {
            a.shr(rdx, by)?;
        }
        a.xor(rax, rdx)?;
    }
    a.add(rcx, rax)?;
    a.jmp(top)
}

/// CRC-32, bit by bit: the carry flag goes from a shift to a subtraction, and branches end short blocks.
fn crc(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut bytes, mut bits) = (a.create_label(), a.create_label());
    a.mov(eax, -1i32)?;
    a.set_label(&mut bytes)?;
    a.inc(esi)?;
    a.movzx(edx, sil)?;
    a.xor(eax, edx)?;
    a.mov(ecx, 8i32)?;
    a.set_label(&mut bits)?;
    a.shr(eax, 1i32)?;
    a.sbb(edx, edx)?;
    a.and(edx, 0xedb8_8320u32 as i32)?;
    a.xor(eax, edx)?;
    a.dec(ecx)?;
    a.jne(bits)?;
    a.jmp(bytes)
}

/// Fibonacci numbers by recursion: calls and returns.
fn calls(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut fib, mut small) = (a.create_label(), a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.mov(edi, 20i32)?;
    a.call(fib)?;
    a.jmp(again)?;
    a.set_label(&mut fib)?;
    a.cmp(edi, 2i32)?;
    a.jb(small)?;
    a.push(rdi)?;
    a.dec(edi)?;
    a.call(fib)?;
    a.pop(rdi)?;
    a.push(rax)?;
    a.sub(edi, 2i32)?;
    a.call(fib)?;
    a.pop(rdx)?;
    a.add(eax, edx)?;
    a.ret()?;
    a.set_label(&mut small)?;
    a.mov(eax, edi)?;
    a.ret()
}

/// Calls one of eight functions through a table, at random.
fn indirect(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut functions = [(); 8].map(|()| a.create_label());
    let mut top = a.create_label();
    a.mov(rbx, DATA)?;
    for (k, function) in functions.iter().enumerate() {
        a.lea(rax, ptr(*function))?;
        a.mov(qword_ptr(rbx + 8 * k), rax)?;
    }
    a.set_label(&mut top)?;
    // A linear congruential generator; its low bits are poor.
    a.imul_3(esi, esi, 1_103_515_245i32)?;
    a.add(esi, 12345i32)?;
    a.mov(edi, esi)?;
    a.shr(edi, 16i32)?;
    a.and(edi, 7i32)?;
    a.call(qword_ptr(rbx + rdi * 8))?;
    a.jmp(top)?;
    for (k, function) in (0i32..).zip(&mut functions) {
        a.set_label(function)?;
        a.add(eax, k)?;
        a.ret()?;
    }
    Ok(())
}

/// A dot product of doubles: SSE2, with its rounding rules.
fn dot(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut top) = (a.create_label(), a.create_label());
    a.mov(rbx, DATA)?;
    a.set_label(&mut again)?;
    a.xorps(xmm0, xmm0)?;
    a.mov(ecx, 512i32)?;
    a.set_label(&mut top)?;
    a.movsd_2(xmm1, qword_ptr(rbx + rcx * 8 - 8))?;
    a.mulsd(xmm1, qword_ptr(rbx + rcx * 8 + 0x1000))?;
    a.addsd(xmm0, xmm1)?;
    a.dec(ecx)?;
    a.jne(top)?;
    a.jmp(again)
}

/// Instructions per turn of [`touch`].
pub const TOUCH_LENGTH: u64 = 8;

/// Reads one word in each of `pages` (a power of two) 4 KiB pages from `window` on, one page each turn; neighbours'
/// words lie in different cache lines.
pub fn touch(window: u64, pages: u64) -> Vec<u8> {
    assemble(|a| {
        let mut top = a.create_label();
        a.mov(rbx, window)?;
        a.set_label(&mut top)?;
        a.mov(edx, ecx)?;
        a.shr(edx, 6i32)?;
        a.and(edx, 63 * 64i32)?;
        a.add(rdx, rcx)?;
        a.mov(rax, qword_ptr(rbx + rdx))?;
        a.add(ecx, PAGE_SIZE as i32)?;
        a.and(ecx, (pages * PAGE_SIZE - 1) as i32)?;
        a.jmp(top)
    })
}

/// Instructions per turn of [`read_device_memory`] and [`read_port`].
pub const DEVICE_LENGTH: u64 = 3;

/// Reads a register in device memory and uses it; [`crate::rig::COUNTER`]: as a kernel whose clock is the HPET does all the time.
pub fn read_device_memory(register: u64) -> Vec<u8> {
    assemble(|a| {
        let mut top = a.create_label();
        a.mov(rbx, DEVICE)?;
        a.set_label(&mut top)?;
        a.mov(eax, dword_ptr(rbx + register as i32))?;
        a.add(rcx, rax)?;
        a.jmp(top)
    })
}

/// Reads a port; [`crate::rig::COUNTER_PORT`]: as a kernel whose clock is the ACPI timer does.
pub fn read_port(port: u16) -> Vec<u8> {
    assemble(|a| {
        let mut top = a.create_label();
        a.mov(edx, i32::from(port))?;
        a.set_label(&mut top)?;
        a.in_(eax, dx)?;
        a.add(rcx, rax)?;
        a.jmp(top)
    })
}

/// Instructions per turn of [`switch`], which switches twice.
pub const fn switch_length(pages: u64) -> u64 {
    2 * (2 + pages) + 1
}

/// Switches between two address spaces, and reads a word in each of `pages` pages from `window` on after each switch.
pub fn switch(window: u64, pages: u64) -> Vec<u8> {
    assemble(|a| {
        let mut top = a.create_label();
        a.mov(rbx, window)?;
        a.set_label(&mut top)?;
        for root in [ROOT, OTHER_ROOT] {
            a.mov(eax, root as i32)?;
            a.mov(cr3, rax)?;
            for page in 0..pages {
                a.mov(rdx, qword_ptr(rbx + page * (PAGE_SIZE + 64)))?;
            }
        }
        a.jmp(top)
    })
}

/// Instructions per block of [`chain`].
pub const CHAIN_LENGTH: u64 = 6;

/// `blocks` blocks of ordinary instructions, each of which jumps to the next, the last to the first.
pub fn chain(blocks: u64) -> Vec<u8> {
    assemble(|a| {
        let mut first = a.create_label();
        a.set_label(&mut first)?;
        for k in 1..=blocks {
            let mut next = a.create_label();
            a.lea(rax, rax + rcx * 4 + k)?;
            a.xor(rdx, rax)?;
            a.shr(rdx, 3i32)?;
            a.mov(qword_ptr(rsp - 8), rdx)?;
            a.add(rcx, qword_ptr(rsp - 8))?;
            if k < blocks {
                a.jmp(next)?;
                a.set_label(&mut next)?;
            } else {
                a.jmp(first)?;
            }
        }
        Ok(())
    })
}
