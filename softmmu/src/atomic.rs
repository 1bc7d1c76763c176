//! Locked accesses.
//!
//! Requirement: a LOCK'd access is one step to every other vCPU, at any alignment.
//!
//! Solution: aligned ones are host atomics. On x86-64 hosts those that stay in a 64-byte line are too (a locked
//! instruction at any alignment; across lines the host may trap it). Elsewhere those inside an aligned 8-byte word
//! are exchanges of that word. All are full barriers, for plain accesses of generated code too. The rest, above all those
//! that cross a page, run while every other vCPU waits at a safepoint. x86 treats the target as written even when a
//! comparison fails, so all probe for a write.
//!
//! Limitation: the last kind is not one step to a device's DMA. It is on no real machine that splits bus locks.

#![expect(unsafe_code, reason = "accesses guest memory by host address")]

use crate::access::{hit_address, wanted_tag};
use crate::addr::Access;
use crate::mmu::{MemTrap, Mmu};
use crate::ram::{GuestInt, cas128, locked_barrier};
use crate::sync::Ordering;

impl Mmu {
    /// LOCK read-modify-write: replaces the value by `f` of it; returns the old one. `f` may run more than once.
    #[inline]
    pub fn rmw<T: GuestInt>(&mut self, gva: u64, mut f: impl FnMut(T) -> T) -> Result<T, MemTrap> {
        let entry = self.entry(gva);
        if gva & (T::SIZE - 1) == 0 && entry.write.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            let at = hit_address(gva, entry.addend.load(Ordering::Relaxed));
            // SAFETY: the tag matched, so the addend maps this page of guest RAM until our next safepoint; aligned.
            let mut old = unsafe { T::load(at) };
            loop {
                // SAFETY: as above.
                match unsafe { T::cas(at, old, f(old)) } {
                    Ok(old) => {
                        locked_barrier();
                        return Ok(old);
                    }
                    Err(now) => old = now,
                }
            }
        }
        self.rmw_slow(gva, &mut f)
    }

    #[cold]
    #[inline(never)]
    fn rmw_slow<T: GuestInt>(&mut self, gva: u64, f: &mut dyn FnMut(T) -> T) -> Result<T, MemTrap> {
        let span = self.span(self.privilege(), gva, T::SIZE, Access::Write)?;
        let at = span.first.host;
        if span.second.is_some() || !T::lock_free_at(at) {
            let old = self.alone(|mmu| mmu.rmw_alone(gva, f));
            locked_barrier();
            return old;
        }
        // SAFETY: the span covers the access.
        let mut old = unsafe { T::load(at) };
        loop {
            // SAFETY: as above, and `lock_free_at` allowed it.
            match unsafe { T::cas_at(at, old, f(old)) } {
                Ok(old) => {
                    self.note(span.first, T::SIZE);
                    locked_barrier();
                    return Ok(old);
                }
                Err(now) => old = now,
            }
        }
    }

    /// No other vCPU runs. Translates again: the map may have changed while we waited for that.
    fn rmw_alone<T: GuestInt>(&mut self, gva: u64, f: &mut dyn FnMut(T) -> T) -> Result<T, MemTrap> {
        let span = self.span(self.privilege(), gva, T::SIZE, Access::Write)?;
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..T::SIZE as usize];
        span.read(bytes);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word: u64, b| word << 8 | u64::from(*b));
        let old = T::truncate(word(bytes));
        let new: u64 = f(old).into();
        bytes.copy_from_slice(&new.to_le_bytes()[..T::SIZE as usize]);
        self.write_span(&span, bytes);
        Ok(old)
    }

    /// LOCK CMPXCHG: stores `new` if the value is `expected`; returns the value found.
    #[inline]
    pub fn cmpxchg<T: GuestInt>(&mut self, gva: u64, expected: T, new: T) -> Result<T, MemTrap> {
        let entry = self.entry(gva);
        if gva & (T::SIZE - 1) == 0 && entry.write.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            let at = hit_address(gva, entry.addend.load(Ordering::Relaxed));
            // SAFETY: as in `rmw`.
            let (Ok(found) | Err(found)) = unsafe { T::cas(at, expected, new) };
            locked_barrier();
            return Ok(found);
        }
        self.rmw_slow(gva, &mut |old| if old == expected { new } else { old })
    }

    /// LOCK CMPXCHG16B (the caller has checked the alignment): stores `new` if the value is `expected`; returns the
    /// value found.
    pub fn cmpxchg16b(&mut self, gva: u64, expected: u128, new: u128) -> Result<u128, MemTrap> {
        let span = self.span(self.privilege(), gva, 16, Access::Write)?;
        if span.second.is_none() && gva & 15 == 0 {
            // SAFETY: the span covers 16 bytes of guest RAM, aligned because pages are.
            if let Some(found) = unsafe { cas128(span.first.host, expected, new) } {
                self.note(span.first, 16);
                return Ok(found);
            }
        }
        let found = self.alone(|mmu| {
            let span = mmu.span(mmu.privilege(), gva, 16, Access::Write)?;
            let mut bytes = [0; 16];
            span.read(&mut bytes);
            let found = u128::from_le_bytes(bytes);
            let value = if found == expected { new } else { found };
            mmu.write_span(&span, &value.to_le_bytes());
            Ok(found)
        });
        locked_barrier();
        found
    }
}
