//! The traced child.
//!
//! It starts as a program of one page, made here, so that nothing of the test process is in it; system calls put in by
//! the tracer map the shared memory and unmap everything else. What a random address hits is then the same as in the
//! guest: nothing.

#![expect(unsafe_code, reason = "fork, ptrace and shared memory")]

use std::cell::OnceCell;
use std::ffi::c_void;
use std::io;

use libc::{c_long, pid_t, siginfo_t, user_fpregs_struct, user_regs_struct};

use crate::harness::guest::Bits;
use crate::harness::layout::*;
use crate::harness::state::{After, ENDLESS, End, Fp, State};

/// The one page of the child's program: `syscall; int3` lies at its end.
const STUB: u64 = 0x1800_0000;
const STUB_CODE: u64 = STUB + 0x78;
/// User code and data selectors of Linux.
const USER64: u64 = 0x33;
const USER32: u64 = 0x23;
const USER_DATA: u64 = 0x2b;
/// The note type of the extended registers (linux/elf.h).
const NT_X86_XSTATE: usize = 0x202;
/// Bytes of the legacy area; the header follows.
const LEGACY: usize = size_of::<user_fpregs_struct>();
/// Where the upper halves are in the standard format (SDM vol. 1, 13.4.3).
const HIGH: usize = 576;
const TOTAL: usize = CODE_LEN + DATA_LEN + STACK_LEN;
/// Processor seconds after which the kernel ends a child that loops.
const CPU_SECONDS: u64 = 100;

/// See the module.
pub struct Child {
    pid: pid_t,
    memory: *mut u8,
    code_len: usize,
    /// The child's extended state as it started, in the format of XSAVE; empty on a processor without AVX.
    extended: Vec<u8>,
}

thread_local! {
    static CHILD: OnceCell<Result<std::cell::RefCell<Child>, String>> = const { OnceCell::new() };
}

/// Calls `f` with this thread's child, or with why there is none.
pub fn with<T>(f: impl FnOnce(Result<&mut Child, String>) -> T) -> T {
    CHILD.with(|c| match c.get_or_init(|| Child::new().map(Into::into).map_err(|e| e.to_string())) {
        Ok(c) => f(Ok(&mut c.borrow_mut())),
        Err(e) => f(Err(format!("no ptrace here: {e}"))),
    })
}

/// An ELF program of one page whose code is a system call and a breakpoint.
fn program() -> Vec<u8> {
    let mut b = Vec::new();
    b.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    b.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for v in [STUB_CODE + 2, 0x40, 0] {
        b.extend(v.to_le_bytes());
    }
    b.extend(0u32.to_le_bytes());
    for v in [0x40u16, 0x38, 1, 0, 0, 0] {
        b.extend(v.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    b.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for v in [0, STUB, STUB, 0x80, 0x80, 0x1000] {
        b.extend(v.to_le_bytes());
    }
    b.extend([0x0f, 0x05, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc]);
    b
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An unnamed file in memory that stays open in the child's program if `kept`.
fn memory_file(kept: bool) -> io::Result<i32> {
    let flags = if kept { 0 } else { libc::MFD_CLOEXEC };
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"retrograde-tests".as_ptr(), flags) };
    check(fd.into()).map(|_| fd)
}

impl Child {
    fn new() -> io::Result<Self> {
        let elf = memory_file(false)?;
        let shared = memory_file(true)?;
        let program = program();
        // SAFETY: the buffer is valid for its length; the mapping is new and owned by this value.
        let memory = unsafe {
            check(libc::write(elf, program.as_ptr().cast(), program.len()) as i64)?;
            check(libc::ftruncate(shared, TOTAL as i64).into())?;
            let at = libc::mmap(
                std::ptr::null_mut(),
                TOTAL,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                shared,
                0,
            );
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            at.cast::<u8>()
        };
        // SAFETY: between fork and exec the child makes system calls only, which are safe with other threads about.
        let pid = unsafe { libc::fork() };
        check(pid.into())?;
        if pid == 0 {
            let none = [std::ptr::null::<libc::c_char>()];
            // SAFETY: as above; all pointers are to live memory of this process image.
            unsafe {
                let limit = libc::rlimit { rlim_cur: CPU_SECONDS, rlim_max: CPU_SECONDS };
                libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::syscall(
                    libc::SYS_execveat,
                    elf,
                    c"".as_ptr(),
                    none.as_ptr(),
                    none.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
                libc::_exit(99);
            }
        }
        let mut child = Self { pid, memory, code_len: CODE_LEN, extended: Vec::new() };
        let ready = child.prepare(shared);
        // SAFETY: both descriptors are ours and used no more.
        unsafe {
            libc::close(elf);
            libc::close(shared);
        }
        ready.map(|()| child)
    }

    fn prepare(&mut self, shared: i32) -> io::Result<()> {
        let (signal, _) = self.wait()?;
        if signal != libc::SIGTRAP {
            return Err(io::Error::other(format!("the child stopped with signal {signal}")));
        }
        self.trace(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_EXITKILL as *mut c_void)?;
        let rx = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        let rw = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64;
        let fd = shared as u64;
        let windows = [
            (CODE, CODE_LEN, rx, 0),
            (DATA, DATA_LEN, rw, CODE_LEN),
            (STACK, STACK_LEN, rw, CODE_LEN + DATA_LEN),
        ];
        for (at, len, protection, offset) in windows {
            self.call(libc::SYS_mmap, [at, len as u64, protection, flags, fd, offset as u64])?;
        }
        self.call(libc::SYS_mprotect, [READ_ONLY, 0x1000, libc::PROT_READ as u64, 0, 0, 0])?;
        self.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        // Everything else goes: the first stack, the vDSO.
        let mut from = 0x1_0000;
        let kept = [
            (CODE, CODE_LEN as u64),
            (STUB, 0x1000),
            (DATA, DATA_LEN as u64),
            (STACK, STACK_LEN as u64),
            (0x7fff_ffff_f000, 0),
        ];
        for (at, len) in kept {
            self.call(libc::SYS_munmap, [from, at - from, 0, 0, 0, 0])?;
            from = at + len;
        }
        self.bytes(0, CODE_LEN).fill(0xcc);
        if std::arch::is_x86_feature_detected!("avx") {
            self.extended.resize(16 << 10, 0);
            let len = self.extended_registers(libc::PTRACE_GETREGSET)?;
            self.extended.truncate(len);
        }
        Ok(())
    }

    fn bytes(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at + len <= TOTAL);
        // SAFETY: the mapping has TOTAL bytes; the child is stopped whenever this thread runs.
        unsafe { std::slice::from_raw_parts_mut(self.memory.add(at), len) }
    }

    fn trace(&self, request: libc::c_uint, data: *mut c_void) -> io::Result<()> {
        // SAFETY: `data` fits the request: each caller passes the structure that the request names.
        check(unsafe { libc::ptrace(request, self.pid, std::ptr::null_mut::<c_void>(), data) }).map(|_| ())
    }

    /// The signal that stopped the child, and its details.
    fn wait(&self) -> io::Result<(i32, siginfo_t)> {
        let mut status = 0;
        // SAFETY: `status` is live; zero is a valid siginfo_t.
        let mut info: siginfo_t = unsafe {
            check(libc::waitpid(self.pid, &raw mut status, libc::__WALL).into())?;
            std::mem::zeroed()
        };
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other(format!("the child ended (status {status:#x})")));
        }
        self.trace(libc::PTRACE_GETSIGINFO, (&raw mut info).cast())?;
        Ok((libc::WSTOPSIG(status), info))
    }

    fn registers(&self) -> io::Result<user_regs_struct> {
        // SAFETY: zero is valid for a structure of integers.
        let mut r: user_regs_struct = unsafe { std::mem::zeroed() };
        self.trace(libc::PTRACE_GETREGS, (&raw mut r).cast()).map(|()| r)
    }

    /// Gets or sets the extended registers; how many bytes they have.
    fn extended_registers(&mut self, request: libc::c_uint) -> io::Result<usize> {
        let mut at =
            libc::iovec { iov_base: self.extended.as_mut_ptr().cast(), iov_len: self.extended.len() };
        // SAFETY: the buffer is ours and as long as it says.
        check(unsafe { libc::ptrace(request, self.pid, NT_X86_XSTATE as *mut c_void, &raw mut at) })?;
        Ok(at.iov_len)
    }

    fn set_vectors(&mut self, f: &mut user_fpregs_struct, s: &State) -> io::Result<()> {
        if self.extended.is_empty() {
            return self.trace(libc::PTRACE_SETFPREGS, std::ptr::from_mut(f).cast());
        }
        // SAFETY: a structure of integers is as many bytes.
        let legacy = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(f).cast::<u8>(), LEGACY) };
        // The last bytes are the kernel's.
        self.extended[..LEGACY - 48].copy_from_slice(&legacy[..LEGACY - 48]);
        // XSTATE_BV: x87, SSE and AVX are in the image.
        self.extended[LEGACY] |= 7;
        for (n, v) in s.high.iter().enumerate() {
            self.extended[HIGH + 16 * n..][..16].copy_from_slice(&v.to_le_bytes());
        }
        self.extended_registers(libc::PTRACE_SETREGSET).map(|_| ())
    }

    /// The upper halves; the rest goes to `f`.
    fn vectors(&mut self, f: &mut user_fpregs_struct, s: &State) -> io::Result<[u128; 16]> {
        if self.extended.is_empty() {
            self.trace(libc::PTRACE_GETFPREGS, std::ptr::from_mut(f).cast())?;
            return Ok(s.high);
        }
        self.extended_registers(libc::PTRACE_GETREGSET)?;
        // SAFETY: any bytes are a structure of integers.
        *f = unsafe { self.extended.as_ptr().cast::<user_fpregs_struct>().read_unaligned() };
        let half = |n: usize| self.extended[HIGH + 16 * n..].first_chunk().copied().expect("sixteen bytes");
        Ok(std::array::from_fn(|n| u128::from_le_bytes(half(n))))
    }

    /// Makes the child perform a system call.
    fn call(&mut self, number: c_long, a: [u64; 6]) -> io::Result<u64> {
        let mut r = self.registers()?;
        r.rax = number as u64;
        r.orig_rax = u64::MAX;
        (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9) = (a[0], a[1], a[2], a[3], a[4], a[5]);
        r.rip = STUB_CODE;
        self.trace(libc::PTRACE_SETREGS, (&raw mut r).cast())?;
        self.trace(libc::PTRACE_CONT, std::ptr::null_mut())?;
        let (signal, _) = self.wait()?;
        let r = self.registers()?;
        if signal != libc::SIGTRAP || r.rip != STUB_CODE + 3 {
            return Err(io::Error::other(format!("signal {signal} at {:#x} after a system call", r.rip)));
        }
        match r.rax as i64 {
            e @ -4095..0 => Err(io::Error::from_raw_os_error(-e as i32)),
            v => Ok(v as u64),
        }
    }

    /// Runs code from a state to the signal that ends it.
    pub fn run(&mut self, bits: Bits, code: &[u8], s: &State) -> After {
        self.try_run(bits, code, s).unwrap_or_else(|e| panic!("the host's child: {e}"))
    }

    fn try_run(&mut self, bits: Bits, code: &[u8], s: &State) -> io::Result<After> {
        let old = std::mem::replace(&mut self.code_len, code.len());
        self.bytes(0, old.max(code.len()) + 1).fill(0xcc);
        self.bytes(0, code.len()).copy_from_slice(code);
        self.bytes(CODE_LEN, DATA_LEN).copy_from_slice(&s.data);
        self.bytes(CODE_LEN + DATA_LEN, STACK_LEN).copy_from_slice(&s.stack);
        let mut f = fpregs(s);
        self.set_vectors(&mut f, s)?;
        let mut r = regs(s, bits);
        self.trace(libc::PTRACE_SETREGS, (&raw mut r).cast())?;
        self.trace(libc::PTRACE_CONT, std::ptr::null_mut())?;
        let (signal, info) = self.wait()?;
        let r = self.registers()?;
        let high = self.vectors(&mut f, s)?;
        // SAFETY: for the signals that the kernel sends for faults, the address is there.
        let address = unsafe { info.si_addr() } as u64;
        let state = State {
            gpr: [
                r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12,
                r.r13, r.r14, r.r15,
            ],
            rip: r.rip,
            rflags: r.eflags,
            fs_base: if bits == Bits::Long { r.fs_base } else { 0 },
            gs_base: if bits == Bits::Long { r.gs_base } else { 0 },
            xmm: std::array::from_fn(|n| {
                (0..4).fold(0, |v, k| v | u128::from(f.xmm_space[4 * n + k]) << (32 * k))
            }),
            high,
            mxcsr: f.mxcsr,
            fp: Fp {
                cw: f.cwd,
                sw: f.swd,
                tag: f.ftw as u8,
                st: std::array::from_fn(|n| {
                    let mut v = [0; 10];
                    for (k, b) in v.iter_mut().enumerate() {
                        *b = (f.st_space[4 * n + k / 4] >> (8 * (k % 4))) as u8;
                    }
                    v
                }),
            },
            data: self.bytes(CODE_LEN, DATA_LEN).to_vec(),
            stack: self.bytes(CODE_LEN + DATA_LEN, STACK_LEN).to_vec(),
        };
        let vector = vector(signal, &info, state.fp.sw);
        let cr2 = (vector == 14).then_some(address);
        Ok(After { state, end: End { vector, code: None, cr2, icount: 0 }, report: None })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child is ours and the mapping is used no more.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL);
            libc::munmap(self.memory.cast(), TOTAL);
        }
    }
}

/// The exception behind a signal (arch/x86/kernel/traps.c). #GP stands for #BR and #OF too.
fn vector(signal: i32, info: &siginfo_t, sw: u16) -> u8 {
    const SI_KERNEL: i32 = 0x80;
    const FPE_INTDIV: i32 = 1;
    match (signal, info.si_code) {
        (libc::SIGTRAP, SI_KERNEL) => 3,
        (libc::SIGTRAP, _) => 1,
        (libc::SIGFPE, FPE_INTDIV) => 0,
        // Both units report alike: the x87 one has its error summary set.
        (libc::SIGFPE, _) => {
            if sw & 0x80 != 0 {
                16
            } else {
                19
            }
        }
        (libc::SIGILL, _) => 6,
        (libc::SIGSEGV, SI_KERNEL) => 13,
        (libc::SIGSEGV, _) => 14,
        (libc::SIGBUS, SI_KERNEL) => 12,
        (libc::SIGBUS, _) => 17,
        _ => ENDLESS,
    }
}

fn regs(s: &State, bits: Bits) -> user_regs_struct {
    // SAFETY: zero is valid for a structure of integers.
    let mut r: user_regs_struct = unsafe { std::mem::zeroed() };
    [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi] = *s.gpr.first_chunk().expect("sixteen");
    [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15] = *s.gpr.last_chunk().expect("sixteen");
    // No system call is being restarted.
    r.orig_rax = u64::MAX;
    r.rip = s.rip;
    r.eflags = s.rflags;
    r.ss = USER_DATA;
    if bits == Bits::Long {
        r.cs = USER64;
        (r.fs_base, r.gs_base) = (s.fs_base, s.gs_base);
    } else {
        r.cs = USER32;
        (r.ds, r.es) = (USER_DATA, USER_DATA);
    }
    r
}

fn fpregs(s: &State) -> user_fpregs_struct {
    // SAFETY: zero is valid for a structure of integers.
    let mut f: user_fpregs_struct = unsafe { std::mem::zeroed() };
    f.cwd = s.fp.cw;
    f.swd = s.fp.sw;
    f.ftw = s.fp.tag.into();
    f.mxcsr = s.mxcsr;
    for n in 0..16 {
        for k in 0..4 {
            f.xmm_space[4 * n + k] = (s.xmm[n] >> (32 * k)) as u32;
        }
    }
    for n in 0..8 {
        for (k, b) in s.fp.st[n].iter().enumerate() {
            f.st_space[4 * n + k / 4] |= u32::from(*b) << (8 * (k % 4));
        }
    }
    f
}
