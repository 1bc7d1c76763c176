//! Loads and stores of one vCPU.
//!
//! The inline paths are one tag compare and one host access. The compare is with the page of the *last* byte, so an
//! access that crosses a page misses. Stores that miss probe every page they touch before they change a byte.

#![expect(unsafe_code, reason = "accesses guest memory by host address")]

use crate::addr::{Access, PAGE_MASK, Privilege};
use crate::mmu::{MemTrap, Mmu, Place, Refused};
use crate::ram::{GuestInt, Raw as _, copy_in, copy_out, load128, store128};
use crate::sync::Ordering;

/// RAM of one page: a host address, and whether the funnel must hear of writes.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    pub host: *mut u8,
    pub watched: bool,
}

/// RAM behind an access: one piece, or two when it crosses a page.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub first: Spot,
    /// Bytes in `first`.
    pub first_len: usize,
    pub second: Option<Spot>,
}

impl Span {
    pub fn read(&self, buf: &mut [u8]) {
        let (a, b) = buf.split_at_mut(self.first_len);
        // SAFETY: a span covers `buf.len()` bytes of guest RAM, obtained in this access.
        unsafe { copy_out(self.first.host, a) };
        if let Some(second) = self.second {
            // SAFETY: as above.
            unsafe { copy_out(second.host, b) };
        }
    }
}

/// The tag that an access of `size` bytes at `gva` hits.
#[inline(always)]
pub(crate) fn wanted_tag(gva: u64, size: u64) -> u64 {
    gva.wrapping_add(size - 1) & PAGE_MASK
}

/// [`wanted_tag`] for the short way: misaligned accesses never match.
#[inline(always)]
fn aligned_tag(gva: u64, size: u64) -> u64 {
    gva & (PAGE_MASK | (size - 1))
}

#[inline(always)]
pub(crate) fn hit_address(gva: u64, addend: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(gva.wrapping_add(addend) as usize)
}

impl Mmu {
    /// Loads with the privilege in force.
    #[inline]
    pub fn read<T: GuestInt>(&mut self, gva: u64) -> Result<T, MemTrap> {
        let entry = self.entry(gva);
        // Relaxed: own entry; a zap by another thread waits for our next safepoint.
        if entry.read.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            // SAFETY: the tag matched, so the addend maps this page of guest RAM until our next safepoint.
            return Ok(unsafe { T::load(hit_address(gva, entry.addend.load(Ordering::Relaxed))) });
        }
        self.read_slow(self.privilege(), gva)
    }

    /// Loads if the address is aligned and the TLB has the page; `None`: use [`Self::read`].
    #[inline(always)]
    pub fn read_hit<T: GuestInt>(&self, gva: u64) -> Option<T> {
        let entry = self.entry(gva);
        let hit = entry.read.load(Ordering::Relaxed) == aligned_tag(gva, T::SIZE);
        // SAFETY: as in `read`.
        hit.then(|| unsafe { T::load(hit_address(gva, entry.addend.load(Ordering::Relaxed))) })
    }

    /// Would [`Self::write_hit`] store?
    #[inline(always)]
    pub fn write_hits<T: GuestInt>(&self, gva: u64) -> bool {
        self.entry(gva).write.load(Ordering::Relaxed) == aligned_tag(gva, T::SIZE)
    }

    /// Stores if the address is aligned and the TLB has the page for unwatched writes; `false`: nothing was done, use [`Self::write`].
    #[inline(always)]
    pub fn write_hit<T: GuestInt>(&mut self, gva: u64, v: T) -> bool {
        let entry = self.entry(gva);
        let hit = entry.write.load(Ordering::Relaxed) == aligned_tag(gva, T::SIZE);
        if hit {
            // SAFETY: as in `read`; nobody watches this page, or our next safepoint is waited for.
            unsafe { T::store(hit_address(gva, entry.addend.load(Ordering::Relaxed)), v) };
        }
        hit
    }

    /// Stores with the privilege in force.
    #[inline]
    pub fn write<T: GuestInt>(&mut self, gva: u64, v: T) -> Result<(), MemTrap> {
        let entry = self.entry(gva);
        if entry.write.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            // SAFETY: as in `read`; nobody watches this page, or our next safepoint is waited for.
            unsafe { T::store(hit_address(gva, entry.addend.load(Ordering::Relaxed)), v) };
            return Ok(());
        }
        self.write_slow(self.privilege(), gva, v)
    }

    /// Loads with privilege `p`: implicit supervisor accesses.
    #[inline]
    pub fn read_as<T: GuestInt>(&mut self, p: Privilege, gva: u64) -> Result<T, MemTrap> {
        let entry = self.entry_as(p, gva);
        if entry.read.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            // SAFETY: as in `read`.
            return Ok(unsafe { T::load(hit_address(gva, entry.addend.load(Ordering::Relaxed))) });
        }
        self.read_slow(p, gva)
    }

    /// Stores with privilege `p`.
    #[inline]
    pub fn write_as<T: GuestInt>(&mut self, p: Privilege, gva: u64, v: T) -> Result<(), MemTrap> {
        let entry = self.entry_as(p, gva);
        if entry.write.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            // SAFETY: as in `write`.
            unsafe { T::store(hit_address(gva, entry.addend.load(Ordering::Relaxed)), v) };
            return Ok(());
        }
        self.write_slow(p, gva, v)
    }

    #[cold]
    #[inline(never)]
    fn read_slow<T: GuestInt>(&mut self, p: Privilege, gva: u64) -> Result<T, MemTrap> {
        if (gva & !PAGE_MASK) + T::SIZE <= 4096 {
            self.note_access(gva, T::SIZE, Access::Read);
            let place = self.resolve(p, gva, Access::Read)?;
            self.aligned(p, gva, T::SIZE)?;
            return match place {
                // SAFETY: the access lies in the page that was translated, until our next safepoint.
                Place::Ram(host) | Place::Watched(host) => Ok(unsafe { T::load(host) }),
                Place::Mmio(gpa) => Err(MemTrap::Mmio { gpa }),
            };
        }
        let span = self.span(p, gva, T::SIZE, Access::Read)?;
        let mut bytes = [0; 8];
        span.read(&mut bytes[..T::SIZE as usize]);
        Ok(T::truncate(u64::from_le_bytes(bytes)))
    }

    #[cold]
    #[inline(never)]
    fn write_slow<T: GuestInt>(&mut self, p: Privilege, gva: u64, v: T) -> Result<(), MemTrap> {
        let span = self.span(p, gva, T::SIZE, Access::Write)?;
        self.store_span(&span, v);
        Ok(())
    }

    fn store_span<T: GuestInt>(&self, span: &Span, v: T) {
        if span.second.is_none() {
            // SAFETY: the span covers the access.
            unsafe { T::store(span.first.host, v) };
            self.note(span.first, T::SIZE);
        } else {
            let v: u64 = v.into();
            self.write_span(span, &v.to_le_bytes()[..T::SIZE as usize]);
        }
    }

    /// Writes bytes to a span and tells the funnel.
    pub(crate) fn write_span(&self, span: &Span, bytes: &[u8]) {
        let (a, b) = bytes.split_at(span.first_len);
        // SAFETY: the span covers the bytes.
        unsafe { copy_in(span.first.host, a) };
        self.note(span.first, a.len() as u64);
        if let Some(second) = span.second {
            // SAFETY: as above.
            unsafe { copy_in(second.host, b) };
            self.note(second, b.len() as u64);
        }
    }

    /// Tells the funnel of `len` bytes written at `spot`.
    #[inline]
    pub(crate) fn note(&self, spot: Spot, len: u64) {
        if spot.watched && self.space().note_write(self.ram_offset(spot.host), len) {
            self.code_written.set(true);
        }
    }

    /// Translates an access of at most one page's length. Faults come first page first.
    pub(crate) fn span(&mut self, p: Privilege, gva: u64, len: u64, access: Access) -> Result<Span, MemTrap> {
        self.note_access(gva, len, access);
        let spot = |place| match place {
            Place::Ram(host) => Ok(Spot { host, watched: false }),
            Place::Watched(host) => Ok(Spot { host, watched: true }),
            Place::Mmio(gpa) => Err(MemTrap::Mmio { gpa }),
        };
        let room = 4096 - (gva & !PAGE_MASK);
        if len <= room {
            let place = self.resolve(p, gva, access)?;
            self.aligned(p, gva, len)?;
            let first = spot(place)?;
            return Ok(Span { first, first_len: len as usize, second: None });
        }
        loop {
            let pauses = self.pauses();
            let first = self.resolve(p, gva, access)?;
            let second = self.resolve(p, self.next_page(gva), access)?;
            if pauses != self.pauses() {
                // A safepoint lay between: the first address may be void.
                continue;
            }
            self.aligned(p, gva, len)?;
            let (Ok(first), Ok(second)) = (spot(first), spot(second)) else { return Err(MemTrap::Split) };
            return Ok(Span { first, first_len: room as usize, second: Some(second) });
        }
    }

    /// Loads plain RAM, with the privilege in force.
    pub fn read_ram<T: GuestInt>(&mut self, gva: u64) -> Result<T, Refused> {
        self.read(gva).map_err(|_| Refused)
    }

    /// Stores to plain RAM, with the privilege in force, unless that would hit a line with translated code.
    pub fn write_unless_code<T: GuestInt>(&mut self, gva: u64, v: T) -> Result<(), Refused> {
        let entry = self.entry(gva);
        if entry.write.load(Ordering::Relaxed) == wanted_tag(gva, T::SIZE) {
            // SAFETY: as in `write`.
            unsafe { T::store(hit_address(gva, entry.addend.load(Ordering::Relaxed)), v) };
            return Ok(());
        }
        let span = self.span_without_code(gva, T::SIZE)?;
        self.store_span(&span, v);
        Ok(())
    }

    /// As [`Self::write_unless_code`] for the bytes of an x87 register or of vectors: all or none.
    pub fn write_bytes_unless_code(&mut self, gva: u64, bytes: &[u8]) -> Result<(), Refused> {
        let span = self.span_without_code(gva, bytes.len() as u64)?;
        self.store_wide(&span, bytes);
        Ok(())
    }

    /// A span to write to that touches no line with translated code.
    fn span_without_code(&mut self, gva: u64, len: u64) -> Result<Span, Refused> {
        let span = self.span(self.privilege(), gva, len, Access::Write).map_err(|_| Refused)?;
        let hits = |spot: Spot, len: u64| {
            spot.watched && self.space().pages.hits_code(self.ram_offset(spot.host), len)
        };
        let second_len = len - span.first_len as u64;
        if hits(span.first, span.first_len as u64) || span.second.is_some_and(|spot| hits(spot, second_len)) {
            return Err(Refused);
        }
        Ok(span)
    }

    /// Loads 16 bytes.
    #[inline]
    pub fn read128(&mut self, gva: u64) -> Result<u128, MemTrap> {
        let entry = self.entry(gva);
        if entry.read.load(Ordering::Relaxed) == wanted_tag(gva, 16) {
            let at = hit_address(gva, entry.addend.load(Ordering::Relaxed));
            // SAFETY: as in `read`; all of them lie in the page.
            return Ok(unsafe { load128(at) });
        }
        self.read128_slow(gva)
    }

    #[cold]
    fn read128_slow(&mut self, gva: u64) -> Result<u128, MemTrap> {
        let span = self.span(self.privilege(), gva, 16, Access::Read)?;
        if span.second.is_none() {
            // SAFETY: the span covers the access.
            return Ok(unsafe { load128(span.first.host) });
        }
        let mut bytes = [0; 16];
        span.read(&mut bytes);
        Ok(u128::from_le_bytes(bytes))
    }

    /// Stores 16 bytes; both pages are probed before.
    #[inline]
    pub fn write128(&mut self, gva: u64, v: u128) -> Result<(), MemTrap> {
        let entry = self.entry(gva);
        if entry.write.load(Ordering::Relaxed) == wanted_tag(gva, 16) {
            let at = hit_address(gva, entry.addend.load(Ordering::Relaxed));
            // SAFETY: as in `write`; all of them lie in the page.
            unsafe { store128(at, v) };
            return Ok(());
        }
        self.write128_slow(gva, v)
    }

    #[cold]
    fn write128_slow(&mut self, gva: u64, v: u128) -> Result<(), MemTrap> {
        let span = self.span(self.privilege(), gva, 16, Access::Write)?;
        self.store_wide(&span, &v.to_le_bytes());
        Ok(())
    }

    /// Writes the bytes of vectors to a span, 16 at a time where it is one piece, and tells the funnel.
    fn store_wide(&self, span: &Span, bytes: &[u8]) {
        let (vectors, rest) = bytes.as_chunks::<16>();
        if span.second.is_some() || !rest.is_empty() {
            self.write_span(span, bytes);
            return;
        }
        for (k, vector) in vectors.iter().enumerate() {
            // SAFETY: the span covers the bytes.
            unsafe { store128(span.first.host.wrapping_add(16 * k), u128::from_le_bytes(*vector)) };
        }
        self.note(span.first, bytes.len() as u64);
    }

    /// Loads the ten bytes of an x87 register, the significand's eight first, if the TLB has the page that they are in;
    /// `None`: nothing was done.
    #[inline(always)]
    pub fn read_hit80(&self, gva: u64) -> Option<(u64, u16)> {
        let entry = self.entry(gva);
        let hit = entry.read.load(Ordering::Relaxed) == wanted_tag(gva, 10);
        hit.then(|| {
            let at = hit_address(gva, entry.addend.load(Ordering::Relaxed));
            // SAFETY: as in `read`; both parts lie in the page.
            unsafe { (u64::load(at), u16::load(at.wrapping_add(8))) }
        })
    }

    /// Stores the ten bytes of an x87 register if the TLB has the page that they are in for unwatched writes; `false`: nothing
    /// was done.
    #[inline(always)]
    pub fn write_hit80(&mut self, gva: u64, low: u64, high: u16) -> bool {
        let entry = self.entry(gva);
        let hit = entry.write.load(Ordering::Relaxed) == wanted_tag(gva, 10);
        if hit {
            let at = hit_address(gva, entry.addend.load(Ordering::Relaxed));
            // SAFETY: as in `write`; both parts lie in the page.
            unsafe {
                u64::store(at, low);
                u16::store(at.wrapping_add(8), high);
            }
        }
        hit
    }

    /// Whether all of `len` bytes (at least one) may be accessed and are RAM. Changes nothing but accessed and dirty
    /// bits.
    #[inline]
    pub fn probe(&mut self, gva: u64, len: u64, access: Access) -> Result<(), MemTrap> {
        // A tag that matches is that of RAM, with the accessed and dirty bits set.
        let tag = self.entry(gva).tag(access).load(Ordering::Relaxed);
        if len <= 4096 && tag == wanted_tag(gva, len.max(1)) {
            return Ok(());
        }
        self.probe_slow(gva, len, access)
    }

    #[cold]
    fn probe_slow(&mut self, gva: u64, len: u64, access: Access) -> Result<(), MemTrap> {
        let room = 4096 - (gva & !PAGE_MASK);
        let mut left = len.max(1);
        let mut at = gva;
        loop {
            if let Place::Mmio(gpa) = self.resolve(self.privilege(), at, access)? {
                // The pages before were RAM; those after may fault, and a fault comes before a split access.
                if len <= room {
                    return Err(MemTrap::Mmio { gpa });
                }
                let mut rest = left - left.min(4096 - (at & !PAGE_MASK));
                while rest != 0 {
                    at = self.next_page(at);
                    self.resolve(self.privilege(), at, access)?;
                    rest -= rest.min(4096);
                }
                return Err(MemTrap::Split);
            }
            left -= left.min(4096 - (at & !PAGE_MASK));
            if left == 0 {
                return Ok(());
            }
            at = self.next_page(at);
        }
    }

    /// Copies `len` bytes as REP MOVS does upwards. Each range lies in one page (else [`MemTrap::Split`], nothing
    /// done). Where `dst` follows `src` by less than 8 bytes the caller goes elementwise.
    pub fn copy(&mut self, dst: u64, src: u64, len: u64) -> Result<(), MemTrap> {
        if len == 0 {
            return Ok(());
        }
        let in_page = |at: u64| (at & !PAGE_MASK) + len <= 4096;
        if len > 4096 || !in_page(dst) || !in_page(src) {
            return Err(MemTrap::Split);
        }
        loop {
            let pauses = self.pauses();
            let from = self.span(self.privilege(), src, len, Access::Read)?;
            let to = self.span(self.privilege(), dst, len, Access::Write)?;
            if pauses == self.pauses() {
                // SAFETY: both spans are one piece of `len` bytes of guest RAM, good until our next safepoint.
                unsafe { crate::ram::copy_up(to.first.host, from.first.host, len as usize) };
                self.note(to.first, len);
                return Ok(());
            }
        }
    }

    /// Stores `count` copies of `v` as REP STOS does upwards, inside one page (else [`MemTrap::Split`], nothing done).
    pub fn fill<T: GuestInt>(&mut self, dst: u64, v: T, count: u64) -> Result<(), MemTrap> {
        if count == 0 {
            return Ok(());
        }
        if count > 4096 / T::SIZE || (dst & !PAGE_MASK) + count * T::SIZE > 4096 {
            return Err(MemTrap::Split);
        }
        let len = count * T::SIZE;
        let to = self.span(self.privilege(), dst, len, Access::Write)?;
        // SAFETY: the span is one piece of `len` bytes of guest RAM.
        unsafe { crate::ram::fill_up(to.first.host, v, count as usize) };
        self.note(to.first, len);
        Ok(())
    }
}
