//! The child's program: maps the windows of memory, unmaps everything else, and runs batches of cases.
//!
//! A case ends by a signal, whose handler keeps the registers from its frame, with the exception's number, error code and
//! address as the kernel has them, and goes on with the next case; it never returns. So a case costs one signal, and a
//! batch two switches between processes. The program uses no stack of its own: RSP belongs to the case.
//!
//! The file of shared memory is, in this order, the windows (code, data, stack) and the mail; the child has all of it
//! once more, writable, at [`ALIAS`].

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::slot;
use crate::harness::layout::*;

/// The one page of the program. Neither this nor [`ALIAS`] is an address that a random case is likely to hit.
pub const PROGRAM: u64 = 0x3a5b_1d00_0000;
const ENTRY: u64 = PROGRAM + 0x78;
/// The file of shared memory once more.
pub const ALIAS: u64 = 0x3a5c_2e00_0000;
/// Bytes of all windows.
pub const WINDOWS: usize = CODE_LEN + DATA_LEN + STACK_LEN;
const MAIL: u64 = ALIAS + WINDOWS as u64;

/// Offsets in the mail: the number of the batch to be run, and of the last one that has been; 32 bits each.
pub const GO: usize = 0;
pub const DONE: usize = 4;
/// How many slots the batch has, and at which of them the child is.
pub const COUNT: usize = 8;
pub const AT: usize = 12;
/// 1 once the child is set up.
pub const READY: usize = 16;
const ACTION: usize = 0x100;
const SIGNAL_STACK: usize = 0x1000;
const SIGNAL_STACK_LEN: usize = 0xf000;
/// The slots.
pub const SLOTS: usize = 0x1_0000;
/// Slots in the mail.
pub const CAPACITY: usize = 64;
/// Bytes of the whole file.
pub const FILE_LEN: usize = WINDOWS + SLOTS + CAPACITY * slot::LEN;

const SIGNALS: [i32; 5] = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGILL, libc::SIGBUS, libc::SIGFPE];
const SA_RESTORER: i32 = 0x0400_0000;
/// Offsets in the kernel's signal frame (`struct ucontext`, asm/sigcontext.h).
const UC_REGISTERS: i32 = 40;
const UC_FPSTATE: i32 = 224;
const SI_ADDRESS: i32 = 16;

/// Emits a system call; a failure ends the program with the status `step`.
fn call(a: &mut CodeAssembler, step: u32, number: i64, arguments: [u64; 6]) -> Result<(), IcedError> {
    for (register, v) in [rdi, rsi, rdx, r10, r8, r9].into_iter().zip(arguments) {
        a.mov(register, v)?;
    }
    a.mov(eax, number as u32)?;
    a.syscall()?;
    let mut good = a.create_label();
    a.test(rax, rax)?;
    a.jns(good)?;
    exit(a, step)?;
    a.set_label(&mut good)
}

fn exit(a: &mut CodeAssembler, status: u32) -> Result<(), IcedError> {
    a.mov(edi, status)?;
    a.mov(eax, libc::SYS_exit_group as u32)?;
    a.syscall()
}

fn mail(offset: usize) -> AsmMemoryOperand {
    dword_ptr(r14 + offset as i32)
}

/// Maps what cases see, and nothing else.
fn set_up(a: &mut CodeAssembler, fd: u64, handler: CodeLabel) -> Result<(), IcedError> {
    // Populated: the error code of a page fault tells whether a page has been touched before.
    let shared = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE) as u64;
    let (r, w, x) = (libc::PROT_READ as u64, libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    let windows = [
        (CODE, CODE_LEN, r | x, 0),
        (DATA, DATA_LEN, r | w, CODE_LEN),
        (STACK, STACK_LEN, r | w, CODE_LEN + DATA_LEN),
        (ALIAS, FILE_LEN, r | w, 0),
    ];
    for (n, (at, len, protection, offset)) in (1..).zip(windows) {
        call(a, n, libc::SYS_mmap, [at, len as u64, protection, shared, fd, offset as u64])?;
    }
    call(a, 5, libc::SYS_mprotect, [READ_ONLY, 0x1000, r, 0, 0, 0])?;
    call(a, 6, libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    // The first stack, the vDSO.
    let mut from = 0x1_0000;
    let kept = [
        (CODE, CODE_LEN as u64),
        (DATA, DATA_LEN as u64),
        (STACK, STACK_LEN as u64),
        (PROGRAM, 0x1000),
        (ALIAS, (FILE_LEN as u64).next_multiple_of(0x1000)),
        (0x7fff_ffff_f000, 0),
    ];
    for (at, len) in kept {
        call(a, 7, libc::SYS_munmap, [from, at - from, 0, 0, 0, 0])?;
        from = at + len;
    }
    // struct sigaction as the kernel has it: handler, flags, restorer, mask; then stack_t: address, flags, size.
    a.mov(r14, MAIL)?;
    a.lea(rax, qword_ptr(handler))?;
    a.mov(qword_ptr(r14 + ACTION as i32), rax)?;
    a.mov(qword_ptr(r14 + (ACTION + 16) as i32), rax)?;
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | SA_RESTORER;
    let stack = MAIL + SIGNAL_STACK as u64;
    for (offset, v) in [(8, flags as u64), (24, 0), (32, stack), (40, 0), (48, SIGNAL_STACK_LEN as u64)] {
        a.mov(rax, v)?;
        a.mov(qword_ptr(r14 + (ACTION + offset) as i32), rax)?;
    }
    let at = MAIL + ACTION as u64;
    call(a, 8, libc::SYS_sigaltstack, [at + 32, 0, 0, 0, 0, 0])?;
    for signal in SIGNALS {
        call(a, 9, libc::SYS_rt_sigaction, [signal as u64, at, 0, 8, 0, 0])?;
    }
    Ok(())
}

/// Copies `len` bytes, a multiple of eight, from RSI to RDI.
fn copy(a: &mut CodeAssembler, len: usize) -> Result<(), IcedError> {
    a.mov(ecx, (len / 8) as u32)?;
    a.rep().movsq()
}

/// RBX: the slot at which the child is, whose number comes in ECX too.
fn slot_address(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(r14, MAIL)?;
    a.mov(ecx, mail(AT))?;
    a.imul_3(rbx, rcx, slot::LEN as i32)?;
    a.lea(rbx, qword_ptr(r14 + rbx + SLOTS as i32))
}

/// Loads the case in the slot and enters it.
fn enter(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lea(rsi, qword_ptr(rbx + slot::CODE as i32))?;
    a.mov(rdi, ALIAS)?;
    copy(a, slot::CODE_LEN)?;
    a.lea(rsi, qword_ptr(rbx + slot::MEMORY as i32))?;
    a.mov(rdi, ALIAS + CODE_LEN as u64)?;
    copy(a, DATA_LEN + STACK_LEN)?;
    for (n, register) in [(0, es), (1, ds), (2, fs), (3, gs)] {
        a.mov(eax, dword_ptr(rbx + (slot::SELECTORS + 4 * n) as i32))?;
        a.mov(register, eax)?;
    }
    a.mov(rax, qword_ptr(rbx + slot::BASES as i32))?;
    a.wrfsbase(rax)?;
    a.mov(rax, qword_ptr(rbx + (slot::BASES + 8) as i32))?;
    a.wrgsbase(rax)?;
    a.mov(eax, 7)?;
    a.xor(edx, edx)?;
    a.xrstor64(ptr(rbx + slot::EXTENDED as i32))?;
    a.lea(rsp, qword_ptr(rbx + slot::REGISTERS as i32))?;
    for register in [r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax] {
        a.pop(register)?;
    }
    // Serialises: the new code is what runs.
    a.iretq()
}

/// The signal handler's first part: keeps the outcome in the slot. RDI: signal, RSI: siginfo, RDX: ucontext.
fn keep(a: &mut CodeAssembler) -> Result<(), IcedError> {
    // NT, AC and DF are the case's.
    a.push(2i32)?;
    a.popfq()?;
    slot_address(a)?;
    a.mov(qword_ptr(rbx + slot::SIGNAL as i32), rdi)?;
    a.mov(rax, qword_ptr(rsi + SI_ADDRESS))?;
    a.mov(qword_ptr(rbx + slot::ADDRESS as i32), rax)?;
    a.rdfsbase(rax)?;
    a.mov(qword_ptr(rbx + slot::BASES_AFTER as i32), rax)?;
    a.rdgsbase(rax)?;
    a.mov(qword_ptr(rbx + (slot::BASES_AFTER + 8) as i32), rax)?;
    for (n, register) in [(0, es), (1, ds), (2, fs), (3, gs)] {
        a.mov(eax, register)?;
        a.mov(dword_ptr(rbx + (slot::SELECTORS_AFTER + 4 * n) as i32), eax)?;
    }
    a.lea(rsi, qword_ptr(rdx + UC_REGISTERS))?;
    a.lea(rdi, qword_ptr(rbx + slot::AFTER as i32))?;
    copy(a, slot::AFTER_LEN)?;
    a.mov(rsi, qword_ptr(rdx + UC_FPSTATE))?;
    a.lea(rdi, qword_ptr(rbx + slot::EXTENDED_AFTER as i32))?;
    copy(a, slot::EXTENDED_LEN)?;
    a.mov(rsi, ALIAS + CODE_LEN as u64)?;
    a.lea(rdi, qword_ptr(rbx + slot::MEMORY_AFTER as i32))?;
    copy(a, DATA_LEN + STACK_LEN)?;
    a.inc(mail(AT))
}

fn futex(a: &mut CodeAssembler, word: usize, operation: i32, value: AsmRegister32) -> Result<(), IcedError> {
    a.lea(rdi, qword_ptr(r14 + word as i32))?;
    a.mov(esi, operation as u32)?;
    a.mov(edx, value)?;
    a.xor(r10d, r10d)?;
    a.mov(eax, libc::SYS_futex as u32)?;
    a.syscall()
}

/// The code, to lie at [`ENTRY`]; `fd` is the file of shared memory.
fn code(fd: i32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut handler, mut wait, mut run, mut next, mut finish) =
        (a.create_label(), a.create_label(), a.create_label(), a.create_label(), a.create_label());
    set_up(&mut a, fd as u64, handler)?;
    a.mov(r14, MAIL)?;
    a.mov(mail(READY), 1i32)?;
    a.mov(ebx, i32::MAX)?;
    futex(&mut a, READY, libc::FUTEX_WAKE, ebx)?;
    a.set_label(&mut wait)?;
    a.mov(ebx, mail(DONE))?;
    a.cmp(ebx, mail(GO))?;
    a.jne(run)?;
    futex(&mut a, GO, libc::FUTEX_WAIT, ebx)?;
    a.jmp(wait)?;
    a.set_label(&mut run)?;
    a.mov(mail(AT), 0i32)?;
    a.set_label(&mut next)?;
    slot_address(&mut a)?;
    a.cmp(ecx, mail(COUNT))?;
    a.jae(finish)?;
    enter(&mut a)?;
    a.set_label(&mut handler)?;
    keep(&mut a)?;
    a.jmp(next)?;
    a.set_label(&mut finish)?;
    a.mov(eax, mail(GO))?;
    a.mov(mail(DONE), eax)?;
    a.mov(ebx, 1i32)?;
    futex(&mut a, DONE, libc::FUTEX_WAKE, ebx)?;
    a.jmp(wait)?;
    a.assemble(ENTRY)
}

/// The program as an ELF file of one page.
pub fn elf(fd: i32) -> Vec<u8> {
    let code = code(fd).expect("the program assembles");
    let len = 0x78 + code.len() as u64;
    assert!(len <= 0x1000, "the child's program has {len} bytes");
    let mut b = Vec::new();
    b.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    b.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for v in [ENTRY, 0x40, 0] {
        b.extend(v.to_le_bytes());
    }
    b.extend(0u32.to_le_bytes());
    for v in [0x40u16, 0x38, 1, 0, 0, 0] {
        b.extend(v.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    b.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for v in [0, PROGRAM, PROGRAM, len, len, 0x1000] {
        b.extend(v.to_le_bytes());
    }
    b.extend(code);
    b
}
