//! Executable memory from the host.
//!
//! W^X: no address is ever writable and executable at the same time. Preferred is a *dual* mapping, one file mapped
//! twice (writable here, executable there), because publishing code then costs a copy and nothing else. Where a second
//! mapping's stores are not seen by the instruction fetch (user-mode emulation of the host translates code itself and
//! watches the executable mapping only) pages of a *single* mapping are switched with `mprotect`. Which one works is
//! found out by running four instructions, not by asking who the host is.

#![expect(unsafe_code, reason = "maps and runs executable memory")]

mod switched;

use std::io;
use std::sync::OnceLock;

use memmap2::{Mmap, MmapMut, MmapOptions};
use switched::Switched;

/// Bytes of the memory that mappings are tried out on.
const TRIAL: usize = 1 << 16;

/// How code is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodeMapping {
    /// Find out.
    #[default]
    Auto,
    /// Two mappings of one memory file.
    Dual,
    /// One mapping whose pages are switched between writable and executable.
    Single,
}

/// A fixed range of executable memory.
#[derive(Debug)]
pub struct CodeMemory {
    map: Map,
    len: usize,
}

#[derive(Debug)]
enum Map {
    Dual { rw: MmapMut, rx: Mmap },
    Single(Switched),
}

impl CodeMemory {
    /// Reserves `len` bytes.
    pub fn new(len: usize, mapping: CodeMapping) -> io::Result<Self> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return Err(io::Error::other("this host's instruction set has no code generator here"));
        }
        match mapping {
            CodeMapping::Dual => Self::dual(len),
            CodeMapping::Single => Self::single(len),
            CodeMapping::Auto if dual_works() => Self::dual(len),
            CodeMapping::Auto => Self::single(len),
        }
    }

    #[cfg(target_os = "linux")]
    fn dual(len: usize) -> io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"retrograde-code".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and is owned by nobody else.
        let file = unsafe { std::fs::File::from_raw_fd(fd) };
        file.set_len(len as u64)?;
        // SAFETY: the file is private to these two mappings; the executable one is only read by instruction fetch.
        let (rw, rx) = unsafe {
            (MmapOptions::new().len(len).map_mut(&file)?, MmapOptions::new().len(len).map_exec(&file)?)
        };
        Ok(Self { map: Map::Dual { rw, rx }, len })
    }

    #[cfg(not(target_os = "linux"))]
    fn dual(_len: usize) -> io::Result<Self> {
        Err(io::Error::other("no memory files on this host"))
    }

    fn single(len: usize) -> io::Result<Self> {
        Ok(Self { map: Map::Single(Switched::new(len)?), len })
    }

    /// Runs a function, replaces it and runs it again.
    fn tested(mut self) -> io::Result<Self> {
        for n in [1u16, 2] {
            let code = return_constant(n);
            self.write(0, &code)?;
            // SAFETY: the bytes are a complete function of this signature for this host.
            let f: extern "C" fn() -> u32 = unsafe { std::mem::transmute(self.base()) };
            if f() != u32::from(n) {
                return Err(io::Error::other("replaced code still runs as it was"));
            }
        }
        Ok(self)
    }

    /// Replaces the four bytes of a jump by one store, so that whoever executes them meanwhile takes the old jump or the new one: they
    /// lie as [`crate::jump::patchable`] says. (Single mapping: no code may be running.)
    pub fn replace(&mut self, at: usize, jump: [u8; 4]) -> io::Result<()> {
        match &mut self.map {
            Map::Dual { rw, .. } => {
                let end = at.checked_add(4).ok_or(io::ErrorKind::InvalidInput)?;
                let bytes = rw.get_mut(at..end).ok_or(io::ErrorKind::InvalidInput)?;
                store_jump(bytes.as_mut_ptr(), jump);
                clean_data(bytes.as_ptr(), 4);
            }
            Map::Single(m) => m.write(at, &jump)?,
        }
        publish(self.base().wrapping_add(at), 4);
        Ok(())
    }

    /// May code be written while other code of this memory runs?
    pub fn is_dual(&self) -> bool {
        matches!(self.map, Map::Dual { .. })
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Where code runs.
    pub fn base(&self) -> *const u8 {
        match &self.map {
            Map::Dual { rx, .. } => rx.as_ptr(),
            Map::Single(m) => m.base(),
        }
    }

    /// Copies code to `at` and makes it visible to instruction fetch. No code of this memory may be running (single
    /// mapping), and nothing may run what is being replaced.
    pub fn write(&mut self, at: usize, code: &[u8]) -> io::Result<()> {
        let range = at..at.checked_add(code.len()).ok_or(io::ErrorKind::InvalidInput)?;
        match &mut self.map {
            Map::Dual { rw, .. } => {
                rw.get_mut(range).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(code);
            }
            Map::Single(m) => m.write(at, code)?,
        }
        // Dual: the data was written at another address, but both alias the same lines once cleaned to unification.
        if let Map::Dual { rw, .. } = &self.map {
            clean_data(rw.as_ptr().wrapping_add(at), code.len());
        }
        publish(self.base().wrapping_add(at), code.len());
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
fn store_jump(at: *mut u8, jump: [u8; 4]) {
    let word = u32::from_le_bytes(jump);
    // SAFETY: the caller has these four bytes; instruction fetch, which may come at the same time, is not Rust's.
    unsafe { std::arch::asm!("mov dword ptr [{}], {:e}", in(reg) at, in(reg) word, options(nostack)) };
}

#[cfg(not(target_arch = "x86_64"))]
fn store_jump(at: *mut u8, jump: [u8; 4]) {
    use std::sync::atomic::{AtomicU32, Ordering};
    // SAFETY: the caller has these four bytes, which are an instruction of a host whose instructions are aligned.
    unsafe { AtomicU32::from_ptr(at.cast()) }.store(u32::from_ne_bytes(jump), Ordering::Relaxed);
}

/// This thread executes what others have published before, wherever it leads. (x86: SDM vol. 3, 9.1.3, asks for a serialising
/// instruction; processors see that code which they have fetched was stored to, and so far nobody leads into fresh code but by an
/// indirect jump, or a direct one that was stored after it.)
#[inline]
pub fn synchronize() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        std::arch::asm!("isb", options(nostack));
    }
}

/// Does code that was replaced through a second mapping run? A property of the host, found out once, on little memory: who
/// emulates this host's user mode takes long to map much.
fn dual_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let tested = CodeMemory::dual(TRIAL).and_then(CodeMemory::tested);
        tested.inspect_err(|why| tracing::debug!(%why, "no dual mapping for generated code")).is_ok()
    })
}

#[cfg(target_arch = "x86_64")]
fn return_constant(n: u16) -> Vec<u8> {
    // mov eax, n; ret
    let [a, b] = n.to_le_bytes();
    vec![0xb8, a, b, 0, 0, 0xc3]
}

#[cfg(target_arch = "aarch64")]
fn return_constant(n: u16) -> Vec<u8> {
    // movz w0, #n; ret
    [0x5280_0000u32 | u32::from(n) << 5, 0xd65f_03c0].iter().flat_map(|i| i.to_le_bytes()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn return_constant(_: u16) -> Vec<u8> {
    Vec::new()
}

/// Nothing to do: x86 keeps instruction fetch coherent with stores (SDM vol. 3, 9.1.3: a jump serialises enough for
/// code that this processor wrote).
#[cfg(not(target_arch = "aarch64"))]
fn clean_data(_: *const u8, _: usize) {}
#[cfg(not(target_arch = "aarch64"))]
fn publish(_: *const u8, _: usize) {}

#[cfg(target_arch = "aarch64")]
fn cache_lines() -> (usize, usize) {
    let ctr: u64;
    // SAFETY: CTR_EL0 is readable in user mode on every system that we support (Linux, macOS).
    unsafe { std::arch::asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack)) };
    // Arm ARM, CTR_EL0: IminLine 3:0 and DminLine 19:16, log2 of words.
    (4 << (ctr >> 16 & 15), 4 << (ctr & 15))
}

#[cfg(target_arch = "aarch64")]
fn clean_data(at: *const u8, len: usize) {
    let (line, _) = cache_lines();
    let (mut p, end) = (at as usize & !(line - 1), at as usize + len);
    while p < end {
        // SAFETY: the line belongs to a live mapping.
        unsafe { std::arch::asm!("dc cvau, {}", in(reg) p, options(nostack)) };
        p += line;
    }
    // SAFETY: a barrier.
    unsafe { std::arch::asm!("dsb ish", options(nostack)) };
}

#[cfg(target_arch = "aarch64")]
fn publish(at: *const u8, len: usize) {
    clean_data(at, len);
    let (_, line) = cache_lines();
    let (mut p, end) = (at as usize & !(line - 1), at as usize + len);
    while p < end {
        // SAFETY: the line belongs to a live mapping.
        unsafe { std::arch::asm!("ic ivau, {}", in(reg) p, options(nostack)) };
        p += line;
    }
    // SAFETY: barriers.
    unsafe { std::arch::asm!("dsb ish", "isb", options(nostack)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_code_runs() {
        for mapping in [CodeMapping::Dual, CodeMapping::Single, CodeMapping::Auto] {
            // Memory files may be missing, and an emulator of user programs may not see code replaced through the second
            // mapping: that is what Auto finds out. The others work everywhere.
            let works = CodeMemory::new(TRIAL, mapping).and_then(CodeMemory::tested);
            assert!(works.is_ok() || mapping == CodeMapping::Dual, "{mapping:?}: {:?}", works.err());
        }
    }

    #[test]
    fn writes_outside_are_refused() {
        let mut m = CodeMemory::new(TRIAL, CodeMapping::Auto).expect("memory");
        assert!(m.write(TRIAL - 1, &[0, 0]).is_err());
        assert!(m.write(usize::MAX, &[0, 0]).is_err());
    }
}
