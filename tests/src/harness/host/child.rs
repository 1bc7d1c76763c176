//! The child process, seen from its parent: shared memory, and two words that both wait on.
//!
//! It starts as a program of one page, made here ([`super::program`]), so that nothing of the test process is in it. What
//! a random address hits is then the same as in the guest: nothing.

#![expect(unsafe_code, reason = "fork, futex and shared memory")]

use std::cell::{OnceCell, RefCell};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libc::pid_t;

use super::program::{AT, CAPACITY, COUNT, DONE, FILE_LEN, GO, READY, SLOTS, WINDOWS, elf};
use super::{Question, slot};
use crate::harness::layout::CODE_LEN;
use crate::harness::state::{After, ENDLESS, End};

/// A case that takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the parent sleeps at most before it looks whether the child is still alive.
const NAP: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };

/// See the module.
pub struct Child {
    pid: pid_t,
    memory: *mut u8,
    batch: u32,
    avx: bool,
}

thread_local! {
    static CHILD: OnceCell<Result<RefCell<Child>, String>> = const { OnceCell::new() };
}

/// Calls `f` with this thread's child, or with why there is none.
pub fn with<T>(f: impl FnOnce(Result<&mut Child, String>) -> T) -> T {
    CHILD.with(|c| match c.get_or_init(|| Child::new().map(Into::into).map_err(|e| e.to_string())) {
        Ok(c) => f(Ok(&mut c.borrow_mut())),
        Err(e) => f(Err(e.clone())),
    })
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
        if !super::facts::fsgsbase() || !is_x86_feature_detected!("xsave") {
            return Err(io::Error::other("this host gives programs no XRSTOR or no WRFSBASE"));
        }
        let (pid, memory) = start()?;
        let mut child = Self { pid, memory, batch: 0, avx: is_x86_feature_detected!("avx") };
        child.bytes(0, CODE_LEN).fill(0xcc);
        child.wait(READY, 0, PATIENCE).map(|_| child)
    }

    fn bytes(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at + len <= FILE_LEN);
        // SAFETY: the mapping has FILE_LEN bytes; the child writes to it only during a batch, when nothing is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.memory.add(at), len) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the word is aligned, lies in the mapping and is only accessed atomically by this side.
        unsafe { AtomicU32::from_ptr(self.memory.add(WINDOWS + offset).cast()) }
    }

    /// Waits until a word is no longer `old`. `false`: the child has been at one case for too long.
    fn wait(&self, offset: usize, old: u32, patience: Duration) -> io::Result<bool> {
        let (mut since, mut at) = (Instant::now(), 0);
        loop {
            let word = self.word(offset);
            if word.load(Ordering::Acquire) != old {
                return Ok(true);
            }
            let nap = NAP;
            // SAFETY: word and time are live; both processes have the word mapped, so the futex is a shared one.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, old, &raw const nap) };
            if word.load(Ordering::Acquire) != old {
                return Ok(true);
            }
            let mut status = 0;
            // SAFETY: `status` is live and the child ours.
            if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG | libc::__WALL) } != 0 {
                return Err(io::Error::other(format!("the host's child ended (status {status:#x})")));
            }
            let now = self.word(AT).load(Ordering::Relaxed);
            if now != at {
                (since, at) = (Instant::now(), now);
            } else if since.elapsed() > patience {
                return Ok(false);
            }
        }
    }

    /// Starts a batch of at most [`CAPACITY`] cases.
    pub fn start(&mut self, batch: &[Question]) {
        assert!(batch.len() <= CAPACITY);
        let avx = self.avx;
        for (n, q) in batch.iter().enumerate() {
            slot::fill(self.bytes(slot_at(n), slot::LEN), q.bits, q.code, q.state, avx);
        }
        self.go(batch.len());
    }

    fn go(&mut self, count: usize) {
        self.batch = self.batch.wrapping_add(1);
        self.word(COUNT).store(count as u32, Ordering::Relaxed);
        let go = self.word(GO);
        // Pairs with the child's load of the word: the slots are filled.
        go.store(self.batch, Ordering::Release);
        // SAFETY: as in `wait`.
        unsafe { libc::syscall(libc::SYS_futex, go.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    /// The outcomes of the batch that was started.
    pub fn finish(&mut self, batch: &[Question]) -> io::Result<Vec<After>> {
        let mut outcomes = Vec::new();
        while outcomes.len() < batch.len() {
            let first = outcomes.len();
            let ended = self.wait(DONE, self.batch.wrapping_sub(1), PATIENCE)?;
            let ready =
                if ended { batch.len() } else { first + self.word(AT).load(Ordering::Acquire) as usize };
            for (n, q) in batch[..ready].iter().enumerate().skip(first) {
                outcomes.push(slot::outcome(self.bytes(slot_at(n - first), slot::LEN), q.bits, q.state));
            }
            if let (false, Some(stuck)) = (ended, batch.get(ready)) {
                let end = End { vector: ENDLESS, code: None, cr2: None, icount: 0, selectors: None };
                outcomes.push(After { state: stuck.state.clone(), end, report: None });
                *self = Self::new()?;
                self.start(&batch[outcomes.len()..]);
            }
        }
        Ok(outcomes)
    }
}

fn slot_at(n: usize) -> usize {
    WINDOWS + SLOTS + n * slot::LEN
}

/// A new child and the memory shared with it.
fn start() -> io::Result<(pid_t, *mut u8)> {
    let image = memory_file(false)?;
    let shared = memory_file(true)?;
    let program = elf(shared);
    // SAFETY: the buffer is valid for its length; the mapping is new.
    let memory = unsafe {
        check(libc::write(image, program.as_ptr().cast(), program.len()) as i64)?;
        check(libc::ftruncate(shared, FILE_LEN as i64).into())?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), FILE_LEN, protection, libc::MAP_SHARED, shared, 0)
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: between fork and exec the child makes system calls only, which are safe with other threads about.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let none = [std::ptr::null::<libc::c_char>()];
        let (arguments, environment, path) = (none.as_ptr(), none.as_ptr(), c"".as_ptr());
        // SAFETY: as above; all pointers are to live memory of this process image.
        unsafe {
            // It ends with the thread that asks it.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::syscall(libc::SYS_execveat, image, path, arguments, environment, libc::AT_EMPTY_PATH);
            libc::_exit(99);
        }
    }
    // SAFETY: both descriptors are ours and used no more.
    unsafe {
        libc::close(image);
        libc::close(shared);
    }
    check(pid.into()).map(|_| (pid, memory.cast()))
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child is ours and the mapping is used no more.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL);
            libc::munmap(self.memory.cast(), FILE_LEN);
        }
    }
}
