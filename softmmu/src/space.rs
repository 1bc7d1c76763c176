//! The address space: guest RAM, the published memory map, and the funnel that every write passes.
//!
//! Order: reads and writes of this module are as those of a processor of the guest (see the module `ram`); beyond that, a write
//! comes before later reads, because the funnel looks at the page's flags behind a full barrier. So a device that writes data and
//! then an index, or an index and then looks whether the guest wants an interrupt, needs no more.
//!
//! Everything here may be called from any thread. Calls that wait for vCPUs (map updates, code tracking, the dirty log)
//! are made at a safepoint when they come from a vCPU's own thread; see the module `quiesce`.

#![expect(unsafe_code, reason = "accesses guest memory by host address")]

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use crate::addr::{Gpa, PAGE_SIZE, RamPage};
use crate::generation::Generation;
use crate::map::{MemoryMap, RegionKind};
use crate::quiesce::{Presence, Quiescence, ThreadToken};
use crate::ram::{GuestInt, GuestRam, Raw};
use crate::shadow::{All, Role, Shadow};
use crate::steps::made;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::tlb::SharedTlb;
use crate::tracking::{self, CodeWrite, Pages};
use crate::walk::TableMemory;

/// The address is not RAM (or, for reads, ROM): a device or a gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("guest physical address {0:?} is not memory")]
pub struct NotRam(pub Gpa);

/// Guest memory as all vCPUs and devices share it.
pub struct AddressSpace {
    pub(crate) ram: GuestRam,
    pub(crate) pages: Pages,
    pub(crate) shadow: Shadow,
    pub(crate) generation: Generation,
    /// Looked at by every vCPU at every safepoint: not in a line that anyone writes otherwise.
    pub(crate) quiescence: CachePadded<Quiescence>,
    map: ArcSwap<MemoryMap>,
    /// Moves after each publication of a map: tells vCPUs to load it again.
    map_version: AtomicU64,
    vcpus: ArcSwap<Vec<Arc<SharedTlb>>>,
    /// How many MMUs there have been.
    numbers: AtomicU64,
}

impl std::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressSpace")
            .field("ram", &self.ram)
            .field("map", &self.map.load())
            .finish_non_exhaustive()
    }
}

impl AddressSpace {
    /// A space of `ram` seen through `map`.
    ///
    /// # Panics
    /// When a RAM or ROM region of `map` lies outside `ram`: the board's mistake.
    pub fn new(ram: GuestRam, map: MemoryMap) -> Arc<Self> {
        check_map(&ram, &map);
        let (pages, shadow) = (Pages::new(ram.pages()), Shadow::new(ram.pages()));
        Arc::new(Self {
            ram,
            pages,
            shadow,
            generation: Generation::default(),
            quiescence: CachePadded::default(),
            map: ArcSwap::from_pointee(map),
            map_version: AtomicU64::new(0),
            vcpus: ArcSwap::default(),
            numbers: AtomicU64::new(0),
        })
    }

    /// Bytes of guest RAM and ROM.
    pub fn ram_len(&self) -> u64 {
        self.ram.len()
    }

    /// The current map.
    pub fn map(&self) -> Arc<MemoryMap> {
        self.map.load_full()
    }

    /// Moves after each change of the map.
    #[inline]
    pub(crate) fn map_version(&self) -> u64 {
        self.map_version.load(Ordering::Acquire)
    }

    /// Adds a vCPU; its number among all that there ever were is the answer.
    pub(crate) fn register(&self, tlb: &Arc<SharedTlb>) -> u64 {
        self.vcpus.rcu(|list| list.iter().chain([tlb]).cloned().collect::<Vec<_>>());
        // SeqCst with `vcpus()` in a tracker: it sees the newcomer, or the newcomer's fills see its flags.
        fence(Ordering::SeqCst);
        // Relaxed: nothing but the number is asked for.
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn unregister(&self, tlb: &Arc<SharedTlb>) {
        self.vcpus.rcu(|list| list.iter().filter(|t| !Arc::ptr_eq(t, tlb)).cloned().collect::<Vec<_>>());
    }

    pub(crate) fn vcpus(&self) -> Arc<Vec<Arc<SharedTlb>>> {
        fence(Ordering::SeqCst);
        self.vcpus.load_full()
    }

    /// Replaces the map by the generation protocol (see the module `generation`) and returns when no vCPU can
    /// use anything that the old one gave. From a vCPU's thread: at a safepoint, with no device lock held that
    /// another vCPU might wait for; that vCPU's [`Mmu::safepoint`](crate::Mmu::safepoint) comes next.
    ///
    /// # Panics
    /// When a RAM or ROM region lies outside the guest RAM.
    pub fn update_map(&self, new: MemoryMap) {
        self.update_map_by(|| Some(new));
    }

    /// [`Self::update_map`] by what `new` answers (`None`: as it is), which is asked when no other update is under way: so the last
    /// answer is what stays. `new` may take a lock whose holders wait for no vCPU.
    ///
    /// # Panics
    /// As [`Self::update_map`].
    pub fn update_map_by(&self, new: impl FnOnce() -> Option<MemoryMap>) {
        let vcpus = self.vcpus();
        let me = ThreadToken::current();
        self.quiescence.serialized(presences(&vcpus), me, || {
            let Some(new) = new() else { return };
            check_map(&self.ram, &new);
            let old = self.map.load_full();
            let gone = old.memory_changed_in(&new);
            self.generation.update(
                || {
                    self.map.store(Arc::new(new));
                    self.map_version.fetch_add(1, Ordering::SeqCst);
                },
                || self.quiescence.wait_for_readers(presences(&vcpus), me),
                || vcpus.iter().for_each(|v| v.zap_mmio()),
                || {
                    if gone.is_empty() {
                        return;
                    }
                    let base = self.ram.base().addr() as u64;
                    let is_gone =
                        |host: u64| gone.iter().any(|range| range.contains(&host.wrapping_sub(base)));
                    if made("shootdown of RAM entries") {
                        vcpus.iter().for_each(|v| v.zap_ram(is_gone));
                    }
                    if made("grace period after the shootdown") {
                        self.quiescence.wait_for_readers(presences(&vcpus), me);
                    }
                },
            );
        });
    }

    /// Calls `f` with each contiguous piece of guest RAM behind a physical range.
    fn pieces(
        &self,
        at: Gpa,
        len: u64,
        writing: bool,
        mut f: impl FnMut(u64, Range<usize>),
    ) -> Result<(), NotRam> {
        let map = self.map.load();
        let mut done = 0;
        while done < len {
            let here = Gpa(at.0.checked_add(done).ok_or(NotRam(at))?);
            let (offset, room) = map.memory(here, writing).ok_or(NotRam(here))?;
            let n = room.min(len - done);
            f(offset, done as usize..(done + n) as usize);
            done += n;
        }
        Ok(())
    }

    /// Reads RAM or ROM. On error a part may have been read.
    pub fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), NotRam> {
        self.pieces(at, buf.len() as u64, false, |offset, part| self.ram.read(offset, &mut buf[part]))
    }

    /// Writes RAM, through the funnel. On error the part before the first address that is not RAM was written.
    pub fn write(&self, at: Gpa, buf: &[u8]) -> Result<(), NotRam> {
        self.pieces(at, buf.len() as u64, true, |offset, part| self.write_ram(offset, &buf[part]))
    }

    /// Loads an integer; atomic when aligned.
    pub fn load<T: GuestInt>(&self, at: Gpa) -> Result<T, NotRam> {
        if let Some((offset, room)) = self.map.load().memory(at, false)
            && room >= T::SIZE
            && let Some(ptr) = self.ram.ptr(offset, T::SIZE)
        {
            // SAFETY: inside guest RAM.
            return Ok(unsafe { T::load(ptr) });
        }
        let mut bytes = [0; 8];
        self.read(at, &mut bytes[..T::SIZE as usize])?;
        Ok(T::truncate(u64::from_le_bytes(bytes)))
    }

    /// Stores an integer, through the funnel; atomic when aligned.
    pub fn store<T: GuestInt>(&self, at: Gpa, v: T) -> Result<(), NotRam> {
        if let Some((offset, room)) = self.map.load().memory(at, true)
            && room >= T::SIZE
            && let Some(ptr) = self.ram.ptr(offset, T::SIZE)
        {
            // SAFETY: inside guest RAM.
            unsafe { T::store(ptr, v) };
            self.note_write(offset, T::SIZE);
            return Ok(());
        }
        let v: u64 = v.into();
        self.write(at, &v.to_le_bytes()[..T::SIZE as usize])
    }

    fn write_ram(&self, offset: u64, bytes: &[u8]) {
        self.ram.write(offset, bytes);
        self.note_write(offset, bytes.len() as u64);
    }

    /// Writes a firmware image at an offset in the guest RAM, whatever the map says is there.
    ///
    /// # Panics
    /// When the image does not fit: the board's mistake.
    pub fn load_rom(&self, ram_offset: u64, bytes: &[u8]) {
        self.write_ram(ram_offset, bytes);
    }

    /// Reads the guest RAM at an offset, whatever the map shows of it.
    ///
    /// # Panics
    /// When the range is not within it: the board's mistake.
    pub fn read_array(&self, ram_offset: u64, bytes: &mut [u8]) {
        self.ram.read(ram_offset, bytes);
    }

    fn watch(&self, pages: impl Iterator<Item = RamPage>, flag: u32) {
        let base = self.ram.base().addr() as u64;
        let vcpus = self.vcpus();
        let pages = pages.map(|page| (page, base.wrapping_add(page.offset())));
        self.pages.watch(pages, flag, vcpus.iter().map(|v| &**v), &self.quiescence, ThreadToken::current());
    }

    /// From now on writes to `lines` (one bit per 64 bytes) of `page` are noticed, in addition to those tracked
    /// already. When it returns no write can pass unnoticed any more: read the bytes after this.
    pub fn track_code(&self, page: RamPage, lines: u64) {
        if !self.pages.notices(page, lines) {
            self.pages.add_lines(page, lines);
            self.watch(std::iter::once(page), tracking::CODE);
        }
    }

    /// [`Self::track_code`] has returned for the page, and it has lines with code since: it is no work any more to track others. The caller
    /// excludes [`Self::keep_code_lines`].
    pub fn settle_code(&self, page: RamPage) {
        self.pages.settle(page);
    }

    /// Only `lines` of `page` hold translated code any more: some of those tracked so far, or none. One call at a time for a page, and no
    /// [`Self::settle_code`] meanwhile.
    pub fn keep_code_lines(&self, page: RamPage, lines: u64) {
        if lines == 0 {
            self.pages.unwatch(page, tracking::CODE);
        }
        self.pages.set_lines(page, lines);
    }

    /// Moves with each write that hits a tracked line of `page`, and when lines stop being tracked: who tracks lines, reads this and
    /// then the bytes may take them for code while it stays the same.
    pub fn code_version(&self, page: RamPage) -> u32 {
        self.pages.version(page)
    }

    /// Drains the writes to tracked lines, in the order in which the pages were first hit.
    pub fn take_code_writes(&self, out: &mut Vec<CodeWrite>) {
        self.pages.take_code_writes(out);
    }

    /// Whether [`Self::take_code_writes`] has something to give.
    #[inline]
    pub fn code_writes_pending(&self) -> bool {
        self.pages.code_writes_pending()
    }

    /// The funnel's end: `len` bytes at `offset` of the guest's RAM were written. Gives whether a line with code is among them.
    #[inline]
    pub(crate) fn note_write(&self, offset: u64, len: u64) -> bool {
        let found = self.pages.note_write(offset, len);
        if found & tracking::TRACKED != 0 {
            self.tables_written(offset, len);
        }
        found & tracking::CODE != 0
    }

    /// What derives from page-table entries in these bytes goes.
    #[cold]
    fn tables_written(&self, offset: u64, len: u64) {
        let vcpus = self.vcpus();
        let end = offset + len;
        for page in (offset >> 12..=(end - 1) >> 12).map(|page| RamPage(page as u32)) {
            let start = offset.max(page.offset());
            let len = end.min(page.offset() + PAGE_SIZE) - start;
            if self.pages.tracked(page) && self.shadow.stored::<All>(start, len, &vcpus) {
                self.end_shadow(page, &vcpus);
            }
        }
    }

    fn end_shadow(&self, table: RamPage, vcpus: &[Arc<SharedTlb>]) {
        self.shadow.remove(table, vcpus, || self.pages.unwatch(table, tracking::TRACKED));
    }

    /// Shadows a page of page tables. Call it at a safepoint.
    pub(crate) fn shadow_table(&self, table: RamPage, role: Role) {
        if self.shadow.is_full() {
            let vcpus = self.vcpus();
            self.shadow.tables().for_each(|table| self.end_shadow(table, &vcpus));
        }
        // `None`: stored to meanwhile, or somebody else does it.
        let _ = self.shadow.insert(table, role, || self.watch(std::iter::once(table), tracking::TRACKED));
    }

    /// Shadow pages that there are: one for each page of page tables and level that it is used at.
    pub fn shadow_pages(&self) -> u32 {
        self.shadow.count()
    }

    /// Page tables are shadowed, so that translations outlast flushes, after `looks` looks at them, one for each `misses` misses of the
    /// TLB in a stretch of 2 MiB; never, for 0 misses. Nothing that a guest may rely on depends on it.
    pub fn shadow_after(&self, misses: u32, looks: u32) {
        self.shadow.set_patience(misses, looks);
    }

    /// Starts (or continues) to log writes to pages; see [`Self::take_dirty`].
    pub fn log_dirty(&self, pages: Range<u32>) {
        let vcpus = self.vcpus();
        self.pages.watch_all(
            pages.map(RamPage),
            tracking::DIRTY_LOG,
            vcpus.iter().map(|v| &**v),
            &self.quiescence,
            ThreadToken::current(),
        );
    }

    /// Ends the dirty log for pages.
    pub fn end_dirty_log(&self, pages: Range<u32>) {
        for page in pages.map(RamPage) {
            self.pages.unwatch(page, tracking::DIRTY_LOG);
            self.pages.take_dirty(page);
        }
    }

    /// Appends the pages of `pages` that were written since they were last taken, and logs them again. When it
    /// returns, the next write to any of them will be logged.
    pub fn take_dirty(&self, pages: Range<u32>, out: &mut Vec<RamPage>) {
        let first = out.len();
        out.extend(pages.map(RamPage).filter(|page| self.pages.take_dirty(*page)));
        self.watch(out[first..].iter().copied(), tracking::DIRTY_LOG);
    }

    /// Copies one page of guest RAM, in atomic steps of 8 bytes.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn read_ram_page(&self, page: RamPage, buf: &mut [u8; 4096]) {
        self.ram.read_page(page, buf);
    }

    /// Writes the guest RAM: each page that is not zero after its number (32 bits, little endian), then `u32::MAX`.
    pub fn save_ram(&self, w: &mut dyn Write) -> io::Result<()> {
        let mut buf = [0; 4096];
        for page in (0..self.ram.pages()).map(RamPage) {
            self.ram.read_page(page, &mut buf);
            if buf != [0; 4096] {
                w.write_all(&page.0.to_le_bytes())?;
                w.write_all(&buf)?;
            }
        }
        w.write_all(&u32::MAX.to_le_bytes())
    }

    /// Restores what [`Self::save_ram`] wrote, through the funnel. On error the RAM is undefined.
    pub fn restore_ram(&self, r: &mut dyn Read) -> io::Result<()> {
        let mut next = 0;
        loop {
            let mut index = [0; 4];
            r.read_exact(&mut index)?;
            let index = u32::from_le_bytes(index);
            let end = index == u32::MAX;
            if !end && !(next..self.ram.pages()).contains(&index) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("RAM image: page {index:#x} is out of order or beyond the guest's memory"),
                ));
            }
            for page in next..if end { self.ram.pages() } else { index } {
                self.clear_page(RamPage(page));
            }
            if end {
                return Ok(());
            }
            let mut buf = [0; PAGE_SIZE as usize];
            r.read_exact(&mut buf)?;
            self.write_ram(RamPage(index).offset(), &buf);
            next = index + 1;
        }
    }

    /// Zeroes a page, without touching it if it is zero already.
    fn clear_page(&self, page: RamPage) {
        let mut buf = [0; PAGE_SIZE as usize];
        self.ram.read_page(page, &mut buf);
        if buf != [0; PAGE_SIZE as usize] {
            self.write_ram(page.offset(), &[0; PAGE_SIZE as usize]);
        }
    }
}

fn presences(vcpus: &[Arc<SharedTlb>]) -> impl Iterator<Item = &Presence> + Clone {
    vcpus.iter().map(|v| &*v.presence)
}

fn check_map(ram: &GuestRam, map: &MemoryMap) {
    for region in map.regions() {
        if let RegionKind::Ram { offset } | RegionKind::Rom { offset } = region.kind {
            assert!(
                offset.checked_add(region.len).is_some_and(|end| end <= ram.len()),
                "memory map: {region:x?} lies outside the guest RAM of {:#x} bytes",
                ram.len()
            );
        }
    }
}

/// Atomically replaces a page-table entry in guest RAM; false when it changed. A/D updates go through the funnel.
///
/// # Safety
/// `ptr` is byte `offset` of the guest RAM of `pages`, with `size` (4 or 8) bytes there, aligned.
pub(crate) unsafe fn update_table_entry(
    pages: &Pages,
    ptr: *mut u8,
    offset: u64,
    size: u8,
    old: u64,
    new: u64,
) -> bool {
    // SAFETY: the caller's promise.
    let done = unsafe {
        if size == 4 {
            u32::cas(ptr, old as u32, new as u32).is_ok()
        } else {
            u64::cas(ptr, old, new).is_ok()
        }
    };
    if done {
        pages.note_table_update(offset, size.into());
    }
    done
}

impl TableMemory for &AddressSpace {
    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64> {
        if size == 4 { self.load::<u32>(Gpa(at)).ok().map(u64::from) } else { self.load(Gpa(at)).ok() }
    }

    fn update_entry(&mut self, at: u64, size: u8, old: u64, new: u64) -> bool {
        let Some((offset, _)) = self.map.load().memory(Gpa(at), true) else { return true };
        let Some(ptr) = self.ram.ptr(offset, size.into()) else { return true };
        // SAFETY: inside guest RAM; `at` is a multiple of `size` and regions are page aligned.
        unsafe { update_table_entry(&self.pages, ptr, offset, size, old, new) }
    }
}
