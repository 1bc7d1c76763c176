//! Guest RAM: one anonymous mapping, shared with every vCPU and device.
//!
//! Guest memory is shared between threads without locks, so it is never behind a Rust reference. Every access is one
//! machine access of the right width, or is built of atomic ones, and they keep x86's order: loads before later loads and
//! stores, stores before later stores. On x86-64 hosts all loads and stores are inline assembly `mov`s: assembly is outside
//! the language's data-race rules and stays in its place, an aligned `mov` is single-copy atomic, an unaligned one behaves
//! exactly as the guest's own unaligned access would, and there is no alignment branch. On other hosts aligned accesses are acquire
//! loads and release stores; unaligned ones are plain loads and stores with barriers on aarch64 (atomic within 16 aligned bytes
//! where the host has FEAT_LSE2), bytes elsewhere. Sixteen bytes are one access on x86-64, and on aarch64 where they are aligned
//! and the host has FEAT_LSE2; else two of eight. The stores of one copy or fill, as of REP MOVS and STOS, are in no order among
//! themselves (SDM vol. 3, 10.2.4), but after everything earlier and before later stores.

#![expect(unsafe_code, reason = "raw guest memory")]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::addr::{PAGE_SIZE, RamPage};

/// Why guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The size is zero, not a multiple of 4 KiB, or more than 2^44 bytes.
    #[error(
        "{0} bytes of guest memory: the size must be a multiple of 4096, at least 4096 and at most 16 TiB"
    )]
    Size(u64),
    /// The host refused the mapping.
    #[error("cannot map {bytes} bytes of guest memory: {source}; give the machine less memory")]
    Map {
        /// Requested size.
        bytes: u64,
        /// The host's reason.
        source: std::io::Error,
    },
}

/// The guest's memory: RAM and ROM images. Zero when made. Freed when the last owner goes.
pub struct GuestRam {
    map: MmapRaw,
    /// Memory is none of loom's. By this it knows that accesses depend on one another.
    #[cfg(loom)]
    accesses: crate::sync::AtomicU64,
}

impl std::fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestRam").field("len", &self.len()).finish()
    }
}

impl GuestRam {
    /// Maps `bytes` of zeroed memory. The host provides pages as they are touched.
    pub fn new(bytes: u64) -> Result<Self, RamError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE_SIZE) || bytes > 1 << 44 {
            return Err(RamError::Size(bytes));
        }
        let len = usize::try_from(bytes).map_err(|_| RamError::Size(bytes))?;
        let map = MmapOptions::new()
            .len(len)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| RamError::Map { bytes, source })?;
        let map = MmapRaw::from(map);
        // A guest touches its memory in no order that the host's TLB is made for. A hint: a host without huge pages says no.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self {
            map,
            #[cfg(loom)]
            accesses: crate::sync::AtomicU64::new(0),
        })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Never: a guest has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Number of 4 KiB pages.
    pub fn pages(&self) -> u32 {
        (self.len() >> 12) as u32
    }

    /// Host address of byte 0.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Host pointer to `len` bytes at `offset`, if they lie inside.
    pub(crate) fn ptr(&self, offset: u64, len: u64) -> Option<*mut u8> {
        if offset.checked_add(len)? > self.len() {
            return None;
        }
        // SAFETY: offset <= len of the mapping, checked above.
        Some(unsafe { self.base().add(offset as usize) })
    }

    /// Copies bytes out. Aligned 8-byte words inside the range are read in one access each.
    ///
    /// # Panics
    /// When the range is outside: callers have checked it against the memory map.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        #[cfg(loom)]
        self.accesses.fetch_add(1, crate::sync::Ordering::Relaxed);
        let from = self.ptr(offset, buf.len() as u64).expect("range inside guest RAM");
        // SAFETY: the range is inside the mapping.
        unsafe { copy_out(from, buf) }
    }

    /// Copies bytes in, as [`Self::read`]. Does not notify anyone: only the write funnel calls this.
    pub(crate) fn write(&self, offset: u64, buf: &[u8]) {
        #[cfg(loom)]
        self.accesses.fetch_add(1, crate::sync::Ordering::Relaxed);
        let to = self.ptr(offset, buf.len() as u64).expect("range inside guest RAM");
        // SAFETY: the range is inside the mapping.
        unsafe { copy_in(to, buf) }
    }

    /// Copies one page out.
    pub(crate) fn read_page(&self, page: RamPage, buf: &mut [u8; 4096]) {
        self.read(page.offset(), buf);
    }
}

/// Copies guest bytes to host memory in atomic steps of 8 bytes where aligned.
///
/// # Safety
/// `from .. from + buf.len()` is guest RAM.
pub(crate) unsafe fn copy_out(from: *const u8, buf: &mut [u8]) {
    let head = from.align_offset(8).min(buf.len());
    let (first, rest) = buf.split_at_mut(head);
    for (i, b) in first.iter_mut().enumerate() {
        // SAFETY: inside the caller's range.
        *b = unsafe { u8::load(from.wrapping_add(i)) };
    }
    let (words, tail) = rest.as_chunks_mut::<8>();
    let mid = from.wrapping_add(head);
    for (i, w) in words.iter_mut().enumerate() {
        // SAFETY: inside the caller's range; 8-aligned.
        *w = unsafe { u64::load(mid.wrapping_add(i * 8)) }.to_ne_bytes();
    }
    let end = mid.wrapping_add(words.len() * 8);
    for (i, b) in tail.iter_mut().enumerate() {
        // SAFETY: inside the caller's range.
        *b = unsafe { u8::load(end.wrapping_add(i)) };
    }
}

/// Copies host bytes to guest memory in atomic steps of 8 bytes where aligned.
///
/// # Safety
/// `to .. to + buf.len()` is guest RAM.
pub(crate) unsafe fn copy_in(to: *mut u8, buf: &[u8]) {
    let head = to.align_offset(8).min(buf.len());
    let (first, rest) = buf.split_at(head);
    for (i, b) in first.iter().enumerate() {
        // SAFETY: inside the caller's range.
        unsafe { u8::store(to.wrapping_add(i), *b) };
    }
    let (words, tail) = rest.as_chunks::<8>();
    let mid = to.wrapping_add(head);
    for (i, w) in words.iter().enumerate() {
        // SAFETY: inside the caller's range; 8-aligned.
        unsafe { u64::store(mid.wrapping_add(i * 8), u64::from_ne_bytes(*w)) };
    }
    let end = mid.wrapping_add(words.len() * 8);
    for (i, b) in tail.iter().enumerate() {
        // SAFETY: inside the caller's range.
        unsafe { u8::store(end.wrapping_add(i), *b) };
    }
}

mod sealed {
    /// Machine accesses to guest memory; see the module comment.
    pub trait Raw: Sized {
        /// # Safety
        /// `at` points to guest RAM for the width of the type. Any alignment.
        unsafe fn load(at: *const u8) -> Self;
        /// # Safety
        /// As [`Self::load`].
        unsafe fn store(at: *mut u8, value: Self);
        /// Atomic compare and swap, SeqCst; `Ok(old)` when it took place.
        /// # Safety
        /// As [`Self::load`], and `at` is aligned.
        unsafe fn cas(at: *mut u8, old: Self, new: Self) -> Result<Self, Self>;
        /// Whether [`Self::cas_at`] works there.
        fn lock_free_at(at: *const u8) -> bool;
        /// As [`Self::cas`] at any alignment that [`Self::lock_free_at`] allows.
        /// # Safety
        /// As [`Self::load`], and `lock_free_at(at)`.
        unsafe fn cas_at(at: *mut u8, old: Self, new: Self) -> Result<Self, Self>;
    }
}
pub(crate) use sealed::Raw;

/// The integers a guest can access: `u8`, `u16`, `u32`, `u64`, little endian in guest memory.
pub trait GuestInt: Copy + Eq + std::fmt::Debug + Into<u64> + Send + Sync + 'static + Raw {
    /// Width in bytes.
    const SIZE: u64;
    /// Keeps the low bits.
    fn truncate(value: u64) -> Self;
}

macro_rules! guest_int {
    ($t:ty, $atomic:ty, $load:literal, $store:literal, $cmpxchg:literal) => {
        impl GuestInt for $t {
            const SIZE: u64 = size_of::<$t>() as u64;
            #[inline(always)]
            fn truncate(value: u64) -> Self {
                value as Self
            }
        }

        impl Raw for $t {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            #[inline(always)]
            unsafe fn load(at: *const u8) -> Self {
                let value: u64;
                // SAFETY: the caller's pointer is readable guest RAM; the instruction does nothing but read it.
                unsafe {
                    std::arch::asm!($load, out(reg) value, in(reg) at,
                        options(nostack, preserves_flags, readonly));
                }
                value as Self
            }

            #[cfg(all(target_arch = "x86_64", not(miri)))]
            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                // SAFETY: the caller's pointer is writable guest RAM, which no Rust reference points to.
                unsafe { store_asm!($store, at, value) }
            }

            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            #[inline(always)]
            unsafe fn load(at: *const u8) -> Self {
                if at.addr() % size_of::<$t>() == 0 {
                    // SAFETY: readable guest RAM, aligned.
                    return Self::from_le(unsafe { <$atomic>::from_ptr(at.cast_mut().cast()) }.load(Ordering::Acquire));
                }
                // SAFETY: the caller's pointer.
                let value = unsafe { unaligned::load(at, size_of::<$t>()) };
                value as Self
            }

            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                if at.addr() % size_of::<$t>() == 0 {
                    // SAFETY: writable guest RAM, aligned.
                    unsafe { <$atomic>::from_ptr(at.cast()) }.store(value.to_le(), Ordering::Release);
                    return;
                }
                // SAFETY: the caller's pointer.
                unsafe { unaligned::store(at, value.into(), size_of::<$t>()) };
            }

            #[inline(always)]
            unsafe fn cas(at: *mut u8, old: Self, new: Self) -> Result<Self, Self> {
                // SAFETY: writable guest RAM, aligned (the caller's promise).
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                atomic
                    .compare_exchange(old.to_le(), new.to_le(), Ordering::SeqCst, Ordering::SeqCst)
                    .map(Self::from_le)
                    .map_err(Self::from_le)
            }

            #[inline]
            fn lock_free_at(at: *const u8) -> bool {
                (at.addr() & (LOCK_BYTES - 1)) + size_of::<$t>() <= LOCK_BYTES
            }

            #[cfg(all(target_arch = "x86_64", not(miri)))]
            #[inline]
            unsafe fn cas_at(at: *mut u8, old: Self, new: Self) -> Result<Self, Self> {
                let found: u64;
                // SAFETY: the caller's pointer is writable guest RAM; the access stays in one line of the host.
                unsafe {
                    std::arch::asm!($cmpxchg, in(reg) at, in(reg) u64::from(new),
                        inout("rax") u64::from(old) => found, options(nostack));
                }
                let found = found as Self;
                if found == old { Ok(found) } else { Err(found) }
            }

            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            #[inline]
            unsafe fn cas_at(at: *mut u8, old: Self, new: Self) -> Result<Self, Self> {
                let skip = at.addr() & (LOCK_BYTES - 1);
                let mask = (u64::MAX >> (64 - 8 * size_of::<$t>())) << (8 * skip);
                // SAFETY: the aligned word around the access is in the same page of guest RAM.
                let word = unsafe { AtomicU64::from_ptr(at.wrapping_sub(skip).cast()) };
                let mut seen = u64::from_le(word.load(Ordering::SeqCst));
                loop {
                    let found = ((seen & mask) >> (8 * skip)) as Self;
                    if found != old {
                        return Err(found);
                    }
                    let next = (seen & !mask) | u64::from(new) << (8 * skip);
                    match word.compare_exchange(seen.to_le(), next.to_le(), Ordering::SeqCst, Ordering::SeqCst) {
                        Ok(_) => return Ok(old),
                        Err(now) => seen = u64::from_le(now),
                    }
                }
            }
        }
    };
}

/// Unaligned accesses of 2, 4 and 8 bytes.
#[cfg(all(target_arch = "aarch64", not(miri)))]
mod unaligned {
    use std::arch::asm;

    /// # Safety
    /// `at` points to `size` bytes of guest RAM.
    pub unsafe fn load(at: *const u8, size: usize) -> u64 {
        let value: u64;
        // The barrier makes what an acquire load is: nothing later comes before it.
        // SAFETY: the caller's pointer; the memory is normal, where unaligned accesses are allowed.
        unsafe {
            match size {
                2 => {
                    asm!("ldrh {0:w}, [{1}]", "dmb ishld", out(reg) value, in(reg) at, options(nostack, preserves_flags))
                }
                4 => {
                    asm!("ldr {0:w}, [{1}]", "dmb ishld", out(reg) value, in(reg) at, options(nostack, preserves_flags))
                }
                _ => {
                    asm!("ldr {0}, [{1}]", "dmb ishld", out(reg) value, in(reg) at, options(nostack, preserves_flags))
                }
            }
        }
        value
    }

    /// # Safety
    /// As [`load`].
    pub unsafe fn store(at: *mut u8, value: u64, size: usize) {
        // Earlier stores come before it. Earlier loads do anyway: each of them comes before everything later.
        // SAFETY: as in `load`.
        unsafe {
            match size {
                2 => {
                    asm!("dmb ishst", "strh {0:w}, [{1}]", in(reg) value, in(reg) at, options(nostack, preserves_flags))
                }
                4 => {
                    asm!("dmb ishst", "str {0:w}, [{1}]", in(reg) value, in(reg) at, options(nostack, preserves_flags))
                }
                _ => {
                    asm!("dmb ishst", "str {0}, [{1}]", in(reg) value, in(reg) at, options(nostack, preserves_flags))
                }
            }
        }
    }
}

/// Unaligned accesses: byte by byte.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod unaligned {
    use super::{AtomicU8, Ordering};

    /// # Safety
    /// `at` points to `size` bytes of guest RAM.
    pub unsafe fn load(at: *const u8, size: usize) -> u64 {
        (0..size).fold(0, |value, k| {
            // SAFETY: the caller's pointer; bytes are always aligned.
            let byte = unsafe { AtomicU8::from_ptr(at.cast_mut().wrapping_add(k)) }.load(Ordering::Acquire);
            value | u64::from(byte) << (8 * k)
        })
    }

    /// # Safety
    /// As [`load`].
    pub unsafe fn store(at: *mut u8, value: u64, size: usize) {
        for k in 0..size {
            // SAFETY: as in `load`.
            unsafe { AtomicU8::from_ptr(at.wrapping_add(k)) }
                .store((value >> (8 * k)) as u8, Ordering::Release);
        }
    }
}

/// Loads 16 bytes, see the module.
///
/// # Safety
/// `at` points to 16 bytes of guest RAM. Any alignment.
#[inline(always)]
pub(crate) unsafe fn load128(at: *const u8) -> u128 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let value: std::arch::x86_64::__m128i;
        // SAFETY: the caller's pointer; the instruction does nothing but read it.
        unsafe {
            std::arch::asm!("movups {0}, xmmword ptr [{1}]", out(xmm_reg) value, in(reg) at,
                options(nostack, preserves_flags, readonly));
            std::mem::transmute::<std::arch::x86_64::__m128i, u128>(value)
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        if at.addr().is_multiple_of(16) {
            let (low, high): (u64, u64);
            // SAFETY: as above. The barrier is as in `unaligned`.
            unsafe {
                std::arch::asm!("ldp {0}, {1}, [{2}]", "dmb ishld", out(reg) low, out(reg) high, in(reg) at,
                    options(nostack, preserves_flags));
            }
            return u128::from(high) << 64 | u128::from(low);
        }
        // SAFETY: the caller's pointer.
        let (low, high) = unsafe { (u64::load(at), u64::load(at.wrapping_add(8))) };
        u128::from(high) << 64 | u128::from(low)
    }
}

/// Stores 16 bytes, see the module.
///
/// # Safety
/// As [`load128`].
#[inline(always)]
pub(crate) unsafe fn store128(at: *mut u8, value: u128) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's pointer, which no Rust reference points to.
    unsafe {
        let value = std::mem::transmute::<u128, std::arch::x86_64::__m128i>(value);
        std::arch::asm!("movups xmmword ptr [{0}], {1}", in(reg) at, in(xmm_reg) value,
            options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        if at.addr().is_multiple_of(16) {
            // SAFETY: as above. The barrier is as in `unaligned`.
            unsafe {
                std::arch::asm!("dmb ishst", "stp {0}, {1}, [{2}]", in(reg) value as u64, in(reg) (value >> 64) as u64,
                    in(reg) at, options(nostack, preserves_flags));
            }
            return;
        }
        // SAFETY: the caller's pointer.
        unsafe {
            u64::store(at, value as u64);
            u64::store(at.wrapping_add(8), (value >> 64) as u64);
        }
    }
}

/// After a locked access: nothing passes it. On x86-64 its lock prefix has seen to that. Elsewhere a loop of exclusives is no barrier
/// for plain accesses, which generated code has, nor is a comparison that failed.
#[inline(always)]
pub(crate) fn locked_barrier() {
    #[cfg(not(any(target_arch = "x86_64", loom)))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! store_asm {
    ($store:literal, $at:expr, $value:expr) => {
        std::arch::asm!($store, in(reg) $at, in(reg) u64::from($value), options(nostack, preserves_flags))
    };
}

guest_int!(
    u8,
    AtomicU8,
    "movzx {0:e}, byte ptr [{1}]",
    "mov byte ptr [{0}], {1:l}",
    "lock cmpxchg byte ptr [{0}], {1:l}"
);
guest_int!(
    u16,
    AtomicU16,
    "movzx {0:e}, word ptr [{1}]",
    "mov word ptr [{0}], {1:x}",
    "lock cmpxchg word ptr [{0}], {1:x}"
);
guest_int!(
    u32,
    AtomicU32,
    "mov {0:e}, dword ptr [{1}]",
    "mov dword ptr [{0}], {1:e}",
    "lock cmpxchg dword ptr [{0}], {1:e}"
);
guest_int!(
    u64,
    AtomicU64,
    "mov {0}, qword ptr [{1}]",
    "mov qword ptr [{0}], {1}",
    "lock cmpxchg qword ptr [{0}], {1}"
);

/// A locked access works at any alignment inside an aligned piece of this size.
const LOCK_BYTES: usize = if cfg!(all(target_arch = "x86_64", not(miri))) { 64 } else { 8 };

/// Compare and swap of 16 bytes; returns the value found. `None`, nothing done, where the host has no such operation
/// that works here.
///
/// # Safety
/// `at` points to 16 bytes of guest RAM, 16-aligned.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) unsafe fn cas128(at: *mut u8, old: u128, new: u128) -> Option<u128> {
    if !std::arch::is_x86_feature_detected!("cmpxchg16b") {
        return None;
    }
    let (low, high): (u64, u64);
    // SAFETY: the host has the instruction; the caller's pointer. rbx belongs to the compiler: it is swapped in and out.
    unsafe {
        std::arch::asm!(
            "xchg rsi, rbx",
            "lock cmpxchg16b [rdi]",
            "mov rbx, rsi",
            in("rdi") at,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") old as u64 => low,
            inout("rdx") (old >> 64) as u64 => high,
            options(nostack),
        );
    }
    Some(u128::from(high) << 64 | u128::from(low))
}

/// Other hosts stop the other vCPUs instead.
///
/// # Safety
/// None needed; as on x86-64.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(crate) unsafe fn cas128(_at: *mut u8, _old: u128, _new: u128) -> Option<u128> {
    None
}

/// Copies upwards inside guest RAM in steps of at least 8 bytes where that makes a difference to nobody but a racing
/// observer; exact for overlapping ranges unless `to` follows `from` by less than 8 bytes.
///
/// # Safety
/// Both ranges are guest RAM.
pub(crate) unsafe fn copy_up(to: *mut u8, from: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= 64 {
        // SAFETY: the caller's ranges; the direction flag is clear by the calling convention.
        unsafe {
            std::arch::asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _,
                options(nostack, preserves_flags));
        }
        return;
    }
    let words = len / 8 * 8;
    before_weak_stores();
    for i in (0..words).step_by(8) {
        // SAFETY: inside the caller's ranges.
        unsafe { weak_store(to.wrapping_add(i), weak_load(from.wrapping_add(i))) };
    }
    after_weak_loads();
    for i in words..len {
        // SAFETY: inside the caller's ranges.
        unsafe { u8::store(to.wrapping_add(i), u8::load(from.wrapping_add(i))) };
    }
}

/// Stores `count` copies of `value` upwards.
///
/// # Safety
/// The range is guest RAM.
pub(crate) unsafe fn fill_up<T: GuestInt>(to: *mut u8, value: T, count: usize) {
    let size = T::SIZE as usize;
    let mut done = 0;
    if to.addr().is_multiple_of(size) {
        // Single elements up to a word's boundary, then words of the repeated pattern.
        let value: u64 = value.into();
        let pattern = (0..8 / size).fold(0, |word, i| word | value << (8 * size * i));
        while done < count && !to.wrapping_add(done * size).addr().is_multiple_of(8) {
            // SAFETY: inside the caller's range.
            unsafe { T::store(to.wrapping_add(done * size), T::truncate(value)) };
            done += 1;
        }
        let words = (count - done) * size / 8;
        let start = to.wrapping_add(done * size);
        // SAFETY: inside the caller's range; aligned.
        unsafe { fill_words(start, pattern, words) };
        done += words * 8 / size;
    }
    for i in done..count {
        // SAFETY: inside the caller's range.
        unsafe { T::store(to.wrapping_add(i * size), value) };
    }
}

/// # Safety
/// `words` aligned words of guest RAM at `to`.
unsafe fn fill_words(to: *mut u8, pattern: u64, words: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if words >= 16 {
        // SAFETY: the caller's range; the direction flag is clear by the calling convention.
        unsafe {
            std::arch::asm!("rep stosq", inout("rdi") to => _, inout("rcx") words => _, in("rax") pattern,
                options(nostack, preserves_flags));
        }
        return;
    }
    before_weak_stores();
    for i in 0..words {
        // SAFETY: the caller's range.
        unsafe { weak_store(to.wrapping_add(i * 8), pattern) };
    }
}

/// A load in no order with others of the same copy.
///
/// # Safety
/// `at` points to 8 bytes of guest RAM. Any alignment.
#[inline(always)]
unsafe fn weak_load(at: *const u8) -> u64 {
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let value: u64;
        // SAFETY: the caller's pointer.
        unsafe {
            std::arch::asm!("ldr {0}, [{1}]", out(reg) value, in(reg) at, options(nostack, preserves_flags, readonly));
        }
        value
    }
    #[cfg(not(all(target_arch = "aarch64", not(miri))))]
    // SAFETY: the caller's pointer.
    unsafe {
        u64::load(at)
    }
}

/// A store in no order with others of the same copy or fill.
///
/// # Safety
/// As [`weak_load`].
#[inline(always)]
unsafe fn weak_store(at: *mut u8, value: u64) {
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: the caller's pointer.
    unsafe {
        std::arch::asm!("str {0}, [{1}]", in(reg) value, in(reg) at, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "aarch64", not(miri))))]
    // SAFETY: the caller's pointer.
    unsafe {
        u64::store(at, value);
    }
}

/// Earlier stores come before those of a copy or fill; earlier loads do anyway.
#[inline(always)]
fn before_weak_stores() {
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a barrier.
    unsafe {
        std::arch::asm!("dmb ishst", options(nostack, preserves_flags));
    }
}

/// The loads of a copy come before everything later.
#[inline(always)]
fn after_weak_loads() {
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a barrier.
    unsafe {
        std::arch::asm!("dmb ishld", options(nostack, preserves_flags));
    }
}
