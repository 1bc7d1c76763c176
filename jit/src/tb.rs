//! Translation blocks: a decoded block with where it lies, what was compiled from it, and who leads to it.

#![expect(unsafe_code, reason = "shared between the dispatcher and compile workers")]

use softmmu::RamPage;
use x86::insn::Insn;
use x86::state::Mode;
use x86::vec::VecOp;
use x86::{Block, Op};

use crate::compiled::Tier;
use crate::layout::{Jump, Link, is_flat};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering};

/// What identifies a block: the place of its first byte in RAM, its RIP and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Offset of the first byte in guest RAM.
    pub ram: u64,
    /// RIP of the first instruction.
    pub rip: u64,
    /// Mode.
    pub mode: Mode,
}

impl Key {
    /// For the table.
    pub fn hash(self) -> u64 {
        let x = self.ram ^ self.rip.rotate_left(17) ^ u64::from(self.mode.0).rotate_left(40);
        x.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A translation block. Its address is stable: generated code holds the addresses of its instructions and links.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Tb {
    // What the dispatcher looks at is the first cache line.
    /// The instructions.
    pub block: Block,
    /// Host code, null while there is none.
    pub code: AtomicPtr<u8>,
    /// Instructions executed in tier 0, or [`HOT_QUEUED`] or [`HOT_NEVER`].
    pub heat: AtomicU32,
    /// May generated code rely on RIP being the linear address?
    pub flat: bool,
    /// Code of a flat segment that leaves mode and translation as they are: it ends with a near branch, or without one.
    pub plain: bool,
    /// Contains floating-point arithmetic: its code runs only while [`default_fp`] holds.
    pub floats: bool,
    /// Removed from the table: not to be compiled, linked or executed again.
    pub dead: AtomicBool,
    /// Tier 1: how often the sampler has found the vCPU here.
    pub samples: AtomicU8,
    /// Tier of the code: 0 (none), 1 or 2.
    pub tier: AtomicU8,
    /// Offset in the code of the entry for direct jumps.
    pub inner: AtomicU8,
    /// What tier 0 ran after it the last time.
    after: After,
    /// Where the jump cache may have it, if it is not flat: see [`Tb::entered`].
    entered: AtomicU64,
    /// Identity.
    pub key: Key,
    /// Next in the table's bucket. In one cache line with `key`, for whoever walks the list.
    pub next: AtomicPtr<Tb>,
    /// Pages and 64-byte lines that the bytes lie in; the second one for an instruction that crosses a page.
    pub spans: [Option<(RamPage, u64)>; 2],
    /// Where it is in the table's lists of these pages. Under the table's lock.
    pub places: [AtomicU32; 2],
    /// The bytes that it was decoded from; empty if they lie in two pages.
    bytes: Box<[u8]>,
    /// Static exits of the compiled code.
    pub links: Mutex<Links>,
    /// Links of other blocks that lead here.
    pub incoming: Mutex<Vec<LinkRef>>,
}

/// Where a block is, the jump cache's entry that leads to it, and its instructions: to be prefetched, never to be looked at (the block
/// may be gone).
#[derive(Debug, Default)]
struct After {
    jump: AtomicPtr<Jump>,
    tb: AtomicPtr<Tb>,
    insns: AtomicPtr<Insn>,
}

/// Does MXCSR ask for what generated code does: round to nearest, no DAZ, no FTZ, all exceptions masked?
#[inline]
pub fn default_fp(mxcsr: u32) -> bool {
    mxcsr & MXCSR_CONTROL == MXCSR_DEFAULT
}

/// The bits of MXCSR that are not sticky flags.
pub const MXCSR_CONTROL: u32 = 0xffc0;
/// Their values for [`default_fp`].
pub const MXCSR_DEFAULT: u32 = 0x1f80;

/// The part of a mode that blocks are found by. Generated code does not rely on [`Mode::FAST_FP`] but looks at MXCSR itself, so
/// that code without floating point, a kernel say, is not kept once for each program's MXCSR.
#[inline]
pub const fn key_mode(mode: Mode) -> Mode {
    Mode(mode.0 & !Mode::FAST_FP)
}

/// Value of [`Tb::heat`]: at a worker.
pub const HOT_QUEUED: u32 = 1 << 31;
/// Value of [`Tb::heat`]: not compiled because that failed or would not pay.
pub const HOT_NEVER: u32 = u32::MAX;

/// The links of one block, boxed one by one so that their addresses do not depend on the number.
#[derive(Debug, Default)]
pub struct Links(pub Vec<Box<Link>>);

/// A link held by address, by the block that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRef(pub *const Link);

// SAFETY: a link lives as long as its block, which removes it from its target's list before it dies; all such changes are
// made under the table's lock.
unsafe impl Send for LinkRef {}
// SAFETY: as above.
unsafe impl Sync for LinkRef {}
// SAFETY: links contain atomics only, apart from constants.
unsafe impl Send for Links {}
// SAFETY: as above.
unsafe impl Sync for Links {}

/// Does it end a block and change nothing but RIP, general registers and the stack?
fn is_near(op: Op) -> bool {
    matches!(
        op,
        Op::Jcc(_)
            | Op::Jmp
            | Op::JmpInd
            | Op::Call
            | Op::CallInd
            | Op::Ret
            | Op::Loop(_)
            | Op::Jcxz
            | Op::EndBlock
    )
}

/// Longer blocks count as changed by whatever is written near them.
const MAX_COMPARED: usize = 512;

/// Values of [`Tb`]'s `entered` that are no addresses of code that is not flat.
const NOWHERE: u64 = u64::MAX;
const ANYWHERE: u64 = u64::MAX - 1;

/// Places of a block in jump caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// None.
    Nowhere,
    /// That of this linear address.
    At(u64),
    /// Several.
    Anywhere,
}

impl Tb {
    /// A fresh block.
    pub fn new(block: Block, ram: u64, spans: [Option<(RamPage, u64)>; 2]) -> Self {
        let key = Key { ram, rip: block.ip, mode: block.mode };
        let floats = block.insns.iter().any(|i| is_float(i.op));
        let flat = is_flat(block.mode);
        let plain = flat && block.insns.last().is_some_and(|i| is_near(i.op));
        Self {
            block,
            key,
            spans,
            places: Default::default(),
            bytes: Box::default(),
            next: AtomicPtr::default(),
            code: AtomicPtr::default(),
            heat: AtomicU32::new(0),
            dead: AtomicBool::new(false),
            links: Mutex::default(),
            incoming: Mutex::default(),
            samples: AtomicU8::new(0),
            tier: AtomicU8::new(0),
            inner: AtomicU8::new(0),
            after: After::default(),
            entered: AtomicU64::new(NOWHERE),
            flat,
            plain,
            floats,
        }
    }

    /// The pages that its bytes lie in, each once, with the place of its number in [`Tb::spans`].
    pub fn pages(&self) -> impl Iterator<Item = (usize, RamPage)> {
        let [first, second] = self.spans.map(|span| span.map(|(page, _)| page));
        [first, second.filter(|page| Some(*page) != first)]
            .into_iter()
            .enumerate()
            .filter_map(|(n, page)| Some((n, page?)))
    }

    /// The same block, which knows that `bytes` begin with those it was decoded from.
    pub fn decoded_from(mut self, bytes: &[u8]) -> Self {
        if self.spans[1].is_none() {
            self.bytes = bytes.get(..self.block.len as usize).unwrap_or(&[]).into();
        }
        self
    }

    /// Are the bytes in memory those that it was decoded from? `read` fills a buffer from an offset of the guest RAM.
    pub fn is_as_decoded(&self, read: impl FnOnce(u64, &mut [u8])) -> bool {
        let mut now = [0; MAX_COMPARED];
        let Some(now) = now.get_mut(..self.bytes.len()).filter(|now| !now.is_empty()) else { return false };
        read(self.key.ram, now);
        *now == *self.bytes
    }

    /// Tier 0 may be about to run it: has the host fetch its first instructions. Code that runs once in a while is in no cache of
    /// the host's, and what tier 0 looks at is found by pointers, one miss after the other.
    #[inline(always)]
    pub fn prefetch(&self) {
        prefetch(&raw const self.after);
        let own = self.block.insns.as_ptr();
        (0..4).for_each(|n| prefetch(own.wrapping_add(n)));
    }

    /// Tier 0 is running it: has the host fetch the rest of it, and the beginning of what comes next.
    #[inline(always)]
    pub fn prefetch_next(&self) {
        let After { jump, tb, insns } = &self.after;
        prefetch(jump.load(Ordering::Relaxed));
        let (tb, insns) = (tb.load(Ordering::Relaxed), insns.load(Ordering::Relaxed));
        prefetch(tb);
        // Its second line has what is fetched next in turn.
        prefetch(tb.cast::<u8>().wrapping_add(64));
        prefetch(insns);
        prefetch(insns.wrapping_add(1));
        // The first two are here or on the way already, by the same rule.
        let own = self.block.insns.as_ptr();
        prefetch(own.wrapping_add(2));
        prefetch(own.wrapping_add(3));
    }

    /// Tier 0 went on with `next`, which it found in the jump cache at `jump`.
    #[inline(always)]
    pub fn note_next(&self, jump: &Jump, next: &Self) {
        if !std::ptr::eq(self.after.tb.load(Ordering::Relaxed), next) {
            self.after.jump.store(std::ptr::from_ref(jump).cast_mut(), Ordering::Relaxed);
            self.after.tb.store(std::ptr::from_ref(next).cast_mut(), Ordering::Relaxed);
            self.after.insns.store(next.block.insns.as_ptr().cast_mut(), Ordering::Relaxed);
        }
    }

    /// The tier that its code is for.
    pub fn compiled_for(&self) -> Tier {
        if self.tier.load(Ordering::Relaxed) == Tier::Two as u8 { Tier::Two } else { Tier::One }
    }

    /// Host code, null while there is none.
    #[inline(always)]
    pub fn code(&self) -> *const u8 {
        // Acquire: pairs with the release store that installs code (icache maintenance is done before it).
        self.code.load(Ordering::Acquire)
    }

    /// The block is entered in a jump cache under `linear`. (A flat block's linear address is its RIP.)
    pub fn enter(&self, linear: u64) {
        if self.flat || self.entered.load(Ordering::Relaxed) == linear {
            return;
        }
        let first = self.entered.compare_exchange(NOWHERE, linear, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err_and(|other| other != linear) {
            self.entered.store(ANYWHERE, Ordering::Relaxed);
        }
    }

    /// Where jump caches may have it: mostly one place, since real-mode code rarely runs at two addresses. (To search all of
    /// a cache for each block costs much where code and what it writes share a line, as in boot loaders.)
    pub fn entered(&self) -> Entered {
        match self.entered.load(Ordering::Relaxed) {
            _ if self.flat => Entered::At(self.key.rip),
            NOWHERE => Entered::Nowhere,
            ANYWHERE => Entered::Anywhere,
            linear => Entered::At(linear),
        }
    }

    /// The lines of `page` that the block's bytes lie in.
    pub fn lines(&self, page: RamPage) -> u64 {
        self.spans.iter().flatten().filter(|(p, _)| *p == page).fold(0, |a, (_, l)| a | l)
    }
}

/// Is it floating-point arithmetic that the compiler may do on the host?
fn is_float(op: Op) -> bool {
    let Op::Vec(v) = op else { return false };
    matches!(
        v,
        VecOp::FpScalar(..)
            | VecOp::FpPacked(..)
            | VecOp::FpHorizontal(..)
            | VecOp::DotProduct(_)
            | VecOp::FmaScalar(..)
            | VecOp::FmaPacked(..)
            | VecOp::FpCmp(_)
            | VecOp::FpCmpPacked(_)
            | VecOp::FpFlags(..)
            | VecOp::FpRound(_)
            | VecOp::FpRoundPacked(_)
            | VecOp::ConvertFloat(_)
            | VecOp::ConvertFromInteger(..)
            | VecOp::ConvertToInteger(..)
            | VecOp::ConvertPacked(_)
    )
}

/// A hint to the host that the line at `at`, which may be no memory at all, will be read soon.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is allowed and does nothing that a program can see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// The 64-byte lines of bytes `start..end` of a page.
pub fn lines(start: u64, end: u64) -> u64 {
    if end <= start {
        return 0;
    }
    let (first, last) = (start >> 6 & 63, (end - 1) >> 6 & 63);
    (!0 << first) & (!0 >> (63 - last))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn tb(mode: Mode) -> Tb {
        let block = Block { insns: Box::default(), count: 0, ip: 0x100, mode, len: 3 };
        Tb::new(block, 0x1100, [None; 2])
    }

    #[test]
    fn a_block_knows_its_bytes() {
        let memory = |bytes: [u8; 3]| {
            move |at: u64, buffer: &mut [u8]| {
                assert_eq!(at, 0x1100);
                buffer.copy_from_slice(&bytes);
            }
        };
        let known = tb(Mode(Mode::CODE64)).decoded_from(&[1, 2, 3, 4]);
        assert!(known.is_as_decoded(memory([1, 2, 3])) && !known.is_as_decoded(memory([1, 0, 3])));
        assert!(!tb(Mode(Mode::CODE64)).is_as_decoded(memory([1, 2, 3])));
    }

    #[test]
    fn a_block_knows_where_it_was_entered() {
        let real = tb(Mode(0));
        assert_eq!(real.entered(), Entered::Nowhere);
        real.enter(0xf_0100);
        real.enter(0xf_0100);
        assert_eq!(real.entered(), Entered::At(0xf_0100));
        real.enter(0xe_0100);
        assert_eq!(real.entered(), Entered::Anywhere);
        let flat = tb(Mode(Mode::CODE64));
        flat.enter(0x100);
        assert_eq!(flat.entered(), Entered::At(0x100));
    }

    #[test]
    fn lines_cover_first_and_last_byte() {
        assert_eq!(lines(0, 1), 1);
        assert_eq!(lines(63, 65), 3);
        assert_eq!(lines(64, 128), 2);
        assert_eq!(lines(0, 4096), !0);
        assert_eq!(lines(4095, 4096), 1 << 63);
        assert_eq!(lines(5, 5), 0);
    }
}
