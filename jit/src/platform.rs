//! Executable memory from the host.
//!
//! W^X: no address is ever writable and executable at the same time. Preferred is a *dual* mapping, one file mapped
//! twice (writable here, executable there), because publishing code then costs a copy and nothing else. Where a second
//! mapping's stores are not seen by the instruction fetch, the host is *told* of each: the pages are mapped once more where they
//! are. (Who emulates this host's user mode translates code itself, watches for stores through the executable mapping only, and gives
//! up translations of what is mapped anew; QEMU before 8.1 takes IC IVAU for nothing to do, later ones do not need this.) Code may be
//! written beside running code in both. Else pages of a *single* mapping are switched with `mprotect`. Which one works is found out by
//! running four instructions, not by asking who the host is.
//!
//! # Code that other threads execute, on aarch64 hosts
//!
//! Requirement (Arm ARM, B2.2.5, "Concurrent modification and execution of instructions", and B2.3, "Ordering of instruction
//! fetches"): instruction caches are not coherent with stores, and a processor may have fetched what it has not executed yet, until a
//! context synchronisation event. Of an instruction that is replaced while others may execute it, both the old and the new one must be
//! among B, BL, BRK, HVC, ISB, NOP, SMC and SVC.
//!
//! Solution:
//! - Who writes code makes it coherent before anything leads to it ([`CodeMemory::write`]): DC CVAU and DSB ISH, IC IVAU and DSB ISH.
//! - The only instructions replaced in code that may be running are B by B ([`CodeMemory::replace`] and [`crate::jump`]): whoever executes one
//!   meanwhile takes the old way or the new one, and the same maintenance makes it the new one.
//! - Who takes a new B to fresh code needs nothing more: where a fetch of the B gives what was stored after the target was
//!   made coherent, fetches later in program order give the target as it was made, too.
//! - Who learns of fresh code as data (the address in a block, copied to a jump cache) and branches there may have fetched
//!   what was there before: an ISB comes between ([`Fetches::catch_up`], at each entry to generated code; the jump cache is filled by the
//!   dispatcher only).
//! - Places are used again when every vCPU has passed a safepoint since the last jump to what was there was turned away, and executed an
//!   ISB there ([`synchronize`]), so that none has an old B left. The same goes for x86's own rule for code that another processor has
//!   changed (SDM vol. 3, 9.1.3): a serialising instruction in generated code ends with an ISB (`thunks::run_handler`), and who comes from
//!   tier 0 catches up with jumps that were turned away meanwhile.

#![expect(unsafe_code, reason = "maps and runs executable memory")]

#[cfg(target_os = "linux")]
mod dual;
mod switched;

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The same; the host is told of each store.
    Told,
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
    #[cfg(target_os = "linux")]
    Dual(dual::Dual),
    Single(Switched),
}

impl CodeMemory {
    /// Reserves `len` bytes.
    pub fn new(len: usize, mapping: CodeMapping) -> io::Result<Self> {
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return Err(io::Error::other("this host's instruction set has no code generator here"));
        }
        match mapping {
            CodeMapping::Dual => Self::dual(len, false),
            CodeMapping::Told => Self::dual(len, true),
            CodeMapping::Single => Self::single(len),
            CodeMapping::Auto => match dual_works() {
                Some(told) => Self::dual(len, told),
                None => Self::single(len),
            },
        }
    }

    #[cfg(target_os = "linux")]
    fn dual(len: usize, told: bool) -> io::Result<Self> {
        Ok(Self { map: Map::Dual(dual::Dual::new(len, told)?), len })
    }

    #[cfg(not(target_os = "linux"))]
    fn dual(_len: usize, _told: bool) -> io::Result<Self> {
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
            #[cfg(target_os = "linux")]
            Map::Dual(m) => m.replace(at, jump)?,
            Map::Single(m) => m.write(at, &jump)?,
        }
        publish(self.base().wrapping_add(at), 4);
        Ok(())
    }

    /// May code be written while other code of this memory runs?
    pub fn is_dual(&self) -> bool {
        !matches!(self.map, Map::Single(_))
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Where code runs.
    pub fn base(&self) -> *const u8 {
        match &self.map {
            #[cfg(target_os = "linux")]
            Map::Dual(m) => m.base(),
            Map::Single(m) => m.base(),
        }
    }

    /// Copies code to `at` and makes it visible to instruction fetch. No code of this memory may be running (single
    /// mapping), and nothing may run what is being replaced.
    pub fn write(&mut self, at: usize, code: &[u8]) -> io::Result<()> {
        match &mut self.map {
            #[cfg(target_os = "linux")]
            Map::Dual(m) => m.write(at, code)?,
            Map::Single(m) => m.write(at, code)?,
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

/// Size of the host's pages: 4 KiB to 64 KiB.
fn page_size() -> io::Result<usize> {
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).ok().filter(|p| p.is_power_of_two());
    page.ok_or_else(|| io::Error::other("the host does not tell the size of its pages"))
}

/// How much of what others have published a thread's instruction fetch is known to find. See the module.
#[derive(Debug, Default)]
pub struct Fetches(u64);

impl Fetches {
    /// Before a branch to an address that was read as data: whoever published what is there, or turned a jump away, has moved one of
    /// `counts` before that address, or the guest's own word that its code has changed, could be read (by an acquire load).
    #[inline]
    pub fn catch_up(&mut self, counts: [&AtomicU64; 2]) {
        if cfg!(target_arch = "aarch64") {
            // Relaxed: not older than what that acquire load has made visible. Both only grow.
            let now = counts.iter().fold(0, |sum: u64, n| sum.wrapping_add(n.load(Ordering::Relaxed)));
            if self.0 != now {
                self.0 = now;
                synchronize();
            }
        }
    }
}

/// A context synchronisation event: from here on this thread fetches what others have published before. (x86: SDM vol. 3, 9.1.3, asks for
/// a serialising instruction; processors see that code which they have fetched was stored to, and nobody leads into fresh code but by an
/// indirect jump, or a direct one that was stored after it.)
#[inline]
pub fn synchronize() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        std::arch::asm!("isb", options(nostack));
    }
}

/// Does code that was replaced through a second mapping run, and must the host be told? A property of the host, found out once, on
/// little memory: who emulates this host's user mode takes long to map much.
fn dual_works() -> Option<bool> {
    static WORKS: OnceLock<Option<bool>> = OnceLock::new();
    *WORKS.get_or_init(|| {
        [false, true].into_iter().find(|told| {
            let tested = CodeMemory::dual(TRIAL, *told).and_then(CodeMemory::tested);
            tested
                .inspect_err(|why| tracing::debug!(%why, told, "no dual mapping for generated code"))
                .is_ok()
        })
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn replaced_code_runs() {
        for mapping in [CodeMapping::Dual, CodeMapping::Told, CodeMapping::Single, CodeMapping::Auto] {
            // Memory files may be missing, and an emulator of user programs may not see code replaced through the second
            // mapping: that is what Auto finds out. The others work everywhere.
            let works = CodeMemory::new(TRIAL, mapping).and_then(CodeMemory::tested);
            let optional = matches!(mapping, CodeMapping::Dual)
                || matches!(mapping, CodeMapping::Told) && !cfg!(target_os = "linux");
            assert!(works.is_ok() || optional, "{mapping:?}: {:?}", works.err());
        }
    }

    /// What machines with several vCPUs count on: one thread runs in code that another one replaces, until it is led out.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_running_thread_takes_a_jump_that_is_replaced() {
        use crate::jump::Jumps;
        let mut m = CodeMemory::new(TRIAL, CodeMapping::Auto).expect("memory");
        assert!(m.is_dual(), "a Linux host writes code beside running code");
        let jumps = Jumps::HERE.expect("a host that has generated code");
        // A jump to itself at `site`; elsewhere, in the same page or another, a return of 7.
        for out in [64, TRIAL / 2] {
            let site = 16 + usize::from(cfg!(target_arch = "x86_64"));
            let at = |offset: usize| m.base() as usize + offset;
            let here = jumps.to(at(site), at(16)).expect("near");
            let away = jumps.to(at(site), at(out)).expect("near");
            let opcode: &[u8] = if cfg!(target_arch = "x86_64") { &[0xe9] } else { &[] };
            m.write(16, &[opcode, &here[..]].concat()).expect("in range");
            m.write(out, &return_constant(7)).expect("in range");
            // SAFETY: the bytes are a complete function of this signature for this host.
            let f: extern "C" fn() -> u32 = unsafe { std::mem::transmute(m.base().wrapping_add(16)) };
            let thread = std::thread::spawn(move || {
                synchronize();
                f()
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!thread.is_finished(), "it goes round");
            m.replace(site, away).expect("in range");
            assert_eq!(thread.join().expect("no panic"), 7);
        }
    }

    #[test]
    fn an_entry_catches_up_once_with_what_was_published() {
        let (mut fetches, published, clock) = (Fetches::default(), AtomicU64::new(0), AtomicU64::new(0));
        for (n, moved) in (1..).zip([&published, &clock]) {
            moved.fetch_add(1, Ordering::Relaxed);
            fetches.catch_up([&published, &clock]);
            assert_eq!(fetches.0, if cfg!(target_arch = "aarch64") { n } else { 0 });
        }
    }

    #[test]
    fn writes_outside_are_refused() {
        let mut m = CodeMemory::new(TRIAL, CodeMapping::Auto).expect("memory");
        assert!(m.write(TRIAL - 1, &[0, 0]).is_err());
        assert!(m.write(usize::MAX, &[0, 0]).is_err());
    }
}
