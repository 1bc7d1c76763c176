//! Who must be told of writes to a page: the funnel's side of guest RAM.
//!
//! Requirement: every write, from any side, to a page with translated code, to a tracked page table, or to a page under
//! the dirty log is noticed; writes to all other pages cost nothing.
//!
//! Solution: one word per RAM page with the reasons (flags) and up to four TLB slots where write-fast entries for
//! the page may be. Setting a flag shoots those entries down; a fill that finds a flag makes a slow write tag, one
//! that finds none records its slot first. A writer that goes through the funnel writes, and then looks at the flags;
//! the tracker sets the flag, and then reads the page: one of them sees the other. Several may track a page at once: a flag that another
//! one has set says nothing yet of plain write access, until the page is [`SETTLED`].
//!
//! Limitation: a page that is mapped for writing at more slots is looked for in whole banks.

use crate::addr::RamPage;
use crate::quiesce::{Quiescence, ThreadToken};
use crate::steps::made;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, fence, lock, zeroed_u32, zeroed_u64};
use crate::tlb::{SharedTlb, TLB_ENTRIES};

/// The page holds translated code; its lines say where.
pub const CODE: u32 = 1;
/// The page holds page tables that level 2 shadows.
pub const TRACKED: u32 = 2;
/// The next write to the page must be logged.
pub const DIRTY_LOG: u32 = 4;
const FLAGS: u32 = CODE | TRACKED | DIRTY_LOG;
/// Beside [`CODE`]: nobody has plain write access to the page any more. Until then, who sees the flag may be looking at another one's work.
const SETTLED: u64 = 1 << 60;
/// More writers than the word has room for.
const MANY: u64 = 8;
/// The first of as many bits as there is room for slots: is there one in this place?
const HAS: u64 = 16;
const PLACES: usize = 4;
const FIRST_SHIFT: usize = 8;
const SLOT_WIDTH: usize = 13;
const SLOT_BITS: u64 = (1 << SLOT_WIDTH) - 1;
const _: () = assert!(TLB_ENTRIES <= SLOT_BITS as usize + 1);
const _: () =
    assert!(1 << (FIRST_SHIFT + PLACES * SLOT_WIDTH) <= SETTLED && HAS << (PLACES - 1) < 1 << FIRST_SHIFT);

/// Lines of a page with translated code that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeWrite {
    /// The page.
    pub page: RamPage,
    /// One bit per 64-byte line.
    pub lines: u64,
}

/// Per-page state of guest RAM.
#[derive(Debug)]
pub struct Pages {
    words: Box<[AtomicU64]>,
    /// Lines with translated code.
    lines: Box<[AtomicU64]>,
    /// Lines written since the last drain.
    written: Box<[AtomicU64]>,
    versions: Box<[AtomicU32]>,
    /// Bitmap of logged pages.
    dirty: Box<[AtomicU64]>,
    /// Pages whose `written` is not 0, each once.
    queue: Mutex<Vec<RamPage>>,
    pending: AtomicBool,
}

/// Where write-fast entries of a page may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Writers(u64);

impl Writers {
    fn none(self) -> bool {
        self.0 & (MANY | ((HAS << PLACES) - HAS)) == 0
    }

    /// The slots that are recorded.
    fn slots(self) -> impl Iterator<Item = usize> {
        (0..PLACES)
            .filter(move |place| self.0 & HAS << place != 0)
            .map(move |place| (self.0 >> (FIRST_SHIFT + place * SLOT_WIDTH) & SLOT_BITS) as usize)
    }

    fn has(self, slot: usize) -> bool {
        self.0 & MANY != 0 || self.slots().any(|recorded| recorded == slot)
    }

    fn with(self, slot: usize) -> u64 {
        match (0..PLACES).find(|place| self.0 & HAS << place == 0) {
            Some(place) => self.0 | HAS << place | (slot as u64) << (FIRST_SHIFT + place * SLOT_WIDTH),
            None => self.0 | MANY,
        }
    }

    fn zap(self, host: u64, tlb: &SharedTlb) -> bool {
        if self.0 & MANY != 0 {
            return tlb.zap_writes(host, None);
        }
        let mut slots = [0; PLACES];
        let count = self.slots().zip(&mut slots).map(|(slot, place)| *place = slot).count();
        tlb.zap_writes(host, Some(&slots[..count]))
    }
}

/// The 64-byte lines that bytes `first ..= last` of one page touch.
fn lines_of(first: u64, last: u64) -> u64 {
    (!0 << (first >> 6)) & (!0 >> (63 - (last >> 6)))
}

impl Pages {
    /// State for `pages` pages, nothing tracked.
    pub fn new(pages: u32) -> Self {
        let n = pages as usize;
        Self {
            words: zeroed_u64(n),
            lines: zeroed_u64(n),
            written: zeroed_u64(n),
            versions: zeroed_u32(n),
            dirty: zeroed_u64(n.div_ceil(64)),
            queue: Mutex::new(Vec::new()),
            pending: AtomicBool::new(false),
        }
    }

    /// Filler: records that `slot` is about to give plain write access to `page`. False when writes are to be noticed.
    #[inline]
    pub fn admit_writer(&self, page: RamPage, slot: usize) -> bool {
        let word = &self.words[page.0 as usize];
        // Acquire pairs with the tracker's exchange. A stale value: the tracker waits for our next safepoint.
        let mut seen = word.load(Ordering::Acquire);
        loop {
            if seen & u64::from(FLAGS) != 0 {
                return false;
            }
            if Writers(seen).has(slot) {
                return true;
            }
            let new = Writers(seen).with(slot);
            match word.compare_exchange_weak(seen, new, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether writes to `page` are to be noticed.
    #[inline]
    pub fn watched(&self, page: RamPage) -> bool {
        self.words[page.0 as usize].load(Ordering::Acquire) & u64::from(FLAGS) != 0
    }

    /// Whether the page holds page tables that level 2 shadows.
    pub fn tracked(&self, page: RamPage) -> bool {
        self.words[page.0 as usize].load(Ordering::Acquire) & u64::from(TRACKED) != 0
    }

    /// Sets `flag`; returns the slots that were recorded. Where another thread has set one, it may have the slots, and not be done.
    fn set_flag(&self, page: RamPage, flag: u32) -> Writers {
        let word = &self.words[page.0 as usize];
        let mut seen = word.load(Ordering::Acquire);
        let flag = u64::from(flag);
        // The recorded slots go: no fill records one while the flag is set. One that recorded its slot before and has
        // not published yet is over when `watch` ends.
        while let Err(now) = word.compare_exchange_weak(
            seen,
            seen & (u64::from(FLAGS) | SETTLED) | flag,
            Ordering::SeqCst,
            Ordering::Acquire,
        ) {
            seen = now;
        }
        let by_another = seen & u64::from(FLAGS) != 0 && seen & SETTLED == 0;
        if made("who tracks the same trusts nobody") && by_another { Writers(MANY) } else { Writers(seen) }
    }

    /// Sets `flag` for pages (each with its host address) and removes plain write access to them from `vcpus`. When it
    /// returns, no write that is not noticed can happen any more. Call it at a safepoint.
    pub fn watch<'a>(
        &self,
        pages: impl Iterator<Item = (RamPage, u64)>,
        flag: u32,
        vcpus: impl Iterator<Item = &'a SharedTlb> + Clone,
        quiescence: &Quiescence,
        me: ThreadToken,
    ) {
        let mut written = Vec::new();
        for (page, host) in pages {
            let writers = self.set_flag(page, flag);
            if !writers.none() {
                written.push((writers, host));
            }
        }
        // SeqCst with the writer in `note_write`: it sees the flag, or the caller reads what it wrote.
        fence(Ordering::SeqCst);
        if written.is_empty() {
            return;
        }
        let presences = vcpus.clone().map(|tlb| &*tlb.presence);
        let zap = || {
            let all =
                written.iter().flat_map(|(writers, host)| vcpus.clone().map(move |tlb| (writers, host, tlb)));
            all.fold(false, |any, (writers, host, tlb)| any | writers.zap(*host, tlb))
        };
        // Those who may have a fill under way that has not seen the flag ...
        let filling = quiescence.readers(presences.clone(), me);
        if made("zap of write entries") {
            zap();
        }
        // ... and those who may be using what was zapped: also one that came online in between.
        let using = quiescence.readers(presences.clone(), me);
        if made("grace period of write entries") {
            quiescence.wait(&using, presences.clone(), me);
        }
        if made("second zap of write entries") && !filling.none() && zap() {
            // Such a fill had published meanwhile, and its entry may be in use.
            quiescence.wait_for_readers(presences, me);
        }
    }

    /// [`Self::watch`] for so many pages that all plain write access goes.
    pub fn watch_all<'a>(
        &self,
        pages: impl Iterator<Item = RamPage>,
        flag: u32,
        vcpus: impl Iterator<Item = &'a SharedTlb> + Clone,
        quiescence: &Quiescence,
        me: ThreadToken,
    ) {
        for page in pages {
            self.set_flag(page, flag);
        }
        for _pass in 0..2 {
            // In the first pass a fill under way may come too late to be zapped, not in the second.
            vcpus.clone().for_each(SharedTlb::zap_all_writes);
            quiescence.wait_for_readers(vcpus.clone().map(|tlb| &*tlb.presence), me);
        }
    }

    /// Clears `flag`. Slow write tags become fast when they are next used.
    pub fn unwatch(&self, page: RamPage, flag: u32) {
        let settled = if flag & CODE != 0 { SETTLED } else { 0 };
        self.words[page.0 as usize].fetch_and(!(u64::from(flag) | settled), Ordering::SeqCst);
    }

    /// [`Self::watch`] for [`CODE`] has returned, and the flag has not been cleared since: the caller sees to it that it is not meanwhile.
    pub fn settle(&self, page: RamPage) {
        self.words[page.0 as usize].fetch_or(SETTLED, Ordering::SeqCst);
    }

    /// Are writes to all of `lines` noticed? It may end, and [`Self::version`] moves then: read that first. `false`: they may not be yet.
    pub fn notices(&self, page: RamPage, lines: u64) -> bool {
        let at = page.0 as usize;
        // The lines alone say that somebody is about to track them.
        let settled =
            !made("lines are tracked by who says so") || self.words[at].load(Ordering::SeqCst) & SETTLED != 0;
        let noticed = settled && self.lines[at].load(Ordering::SeqCst) & lines == lines;
        if noticed {
            // As in `watch`.
            fence(Ordering::SeqCst);
        }
        noticed
    }

    /// Adds lines to those that hold code. Before [`Self::watch`].
    pub fn add_lines(&self, page: RamPage, lines: u64) {
        self.lines[page.0 as usize].fetch_or(lines, Ordering::SeqCst);
    }

    /// `lines` alone hold code. Who has added others meanwhile, and not found code there yet, sees the version move.
    pub fn set_lines(&self, page: RamPage, lines: u64) {
        self.lines[page.0 as usize].store(lines, Ordering::SeqCst);
        self.versions[page.0 as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Whether bytes `offset .. offset + len` of guest RAM, in one page, touch a line with code.
    pub fn hits_code(&self, offset: u64, len: u64) -> bool {
        let page = RamPage::containing(offset).0 as usize;
        let first = offset & 0xfff;
        self.words[page].load(Ordering::SeqCst) & u64::from(CODE) != 0
            && self.lines[page].load(Ordering::SeqCst) & lines_of(first, first + len - 1) != 0
    }

    /// Writer: after `len` bytes at `offset` were written. Gives [`TRACKED`] where such a page is among those written, and [`CODE`] where
    /// a line with code is.
    #[inline]
    pub fn note_write(&self, offset: u64, len: u64) -> u32 {
        self.note(offset, len, FLAGS)
    }

    /// After an accessed or dirty bit of ours was set: no translation is another one by that.
    pub fn note_table_update(&self, offset: u64, len: u64) {
        self.note(offset, len, FLAGS & !TRACKED);
    }

    #[inline]
    fn note(&self, offset: u64, len: u64, flags: u32) -> u32 {
        if len == 0 {
            return 0;
        }
        // SeqCst with the tracker: either we see the flag, or it reads what we wrote.
        fence(Ordering::SeqCst);
        let last = offset + len - 1;
        let mut all = 0;
        for page in offset >> 12..=last >> 12 {
            // Relaxed: ordered by the fence.
            let found = self.words[page as usize].load(Ordering::Relaxed) as u32 & flags;
            if found != 0 {
                let first = offset.max(page << 12) & 0xfff;
                let last = last.min((page << 12) | 0xfff) & 0xfff;
                let hit = self.noticed(RamPage(page as u32), found, lines_of(first, last));
                all |= found & TRACKED | if hit { CODE } else { 0 };
            }
        }
        all
    }

    /// Gives whether a line with code was touched.
    #[cold]
    fn noticed(&self, page: RamPage, flags: u32, touched: u64) -> bool {
        let at = page.0 as usize;
        let mut code = false;
        if flags & CODE != 0 {
            let hit = self.lines[at].load(Ordering::SeqCst) & touched;
            code = hit != 0;
            if code {
                self.versions[at].fetch_add(1, Ordering::SeqCst);
                // Both under the lock: who finds lines noted by another writer may rely on their page being in the queue.
                let mut queue = lock(&self.queue);
                if self.written[at].fetch_or(hit, Ordering::SeqCst) == 0 {
                    queue.push(page);
                }
                drop(queue);
                self.pending.store(true, Ordering::SeqCst);
            }
        }
        if flags & DIRTY_LOG != 0 {
            self.dirty[at / 64].fetch_or(1 << (at % 64), Ordering::SeqCst);
            self.unwatch(page, DIRTY_LOG);
        }
        code
    }

    /// Moves with every write to a line with code, and when lines stop being tracked.
    pub fn version(&self, page: RamPage) -> u32 {
        self.versions[page.0 as usize].load(Ordering::SeqCst)
    }

    /// Whether [`Self::take_code_writes`] has something to give.
    #[inline]
    pub fn code_writes_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Drains the writes to lines with code.
    pub fn take_code_writes(&self, out: &mut Vec<CodeWrite>) {
        // Cleared first: a write that comes meanwhile sets it again.
        self.pending.store(false, Ordering::SeqCst);
        let pages = std::mem::take(&mut *lock(&self.queue));
        for page in pages {
            let lines = self.written[page.0 as usize].swap(0, Ordering::SeqCst);
            if lines != 0 {
                out.push(CodeWrite { page, lines });
            }
        }
    }

    /// Whether a page is in the dirty log.
    pub fn is_dirty(&self, page: RamPage) -> bool {
        self.dirty[page.0 as usize / 64].load(Ordering::SeqCst) >> (page.0 % 64) & 1 != 0
    }

    /// Takes a page out of the dirty log; true if it was in.
    pub fn take_dirty(&self, page: RamPage) -> bool {
        let (word, bit) = (&self.dirty[page.0 as usize / 64], 1 << (page.0 % 64));
        word.load(Ordering::SeqCst) & bit != 0 && word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(lines_of(0, 0), 1);
        assert_eq!(lines_of(0, 4095), !0);
        assert_eq!(lines_of(63, 64), 3);
        assert_eq!(lines_of(4032, 4095), 1 << 63);
    }

    #[test]
    fn whole_banks_are_searched_only_where_another_may_be_at_it() {
        let (pages, page) = (Pages::new(1), RamPage(0));
        assert!(pages.set_flag(page, CODE).none(), "nobody writes to it");
        assert!(!pages.set_flag(page, CODE).none(), "another one may have taken the slots");
        pages.settle(page);
        assert!(pages.set_flag(page, CODE).none());
        assert!(pages.set_flag(page, TRACKED).none());
        pages.unwatch(page, CODE);
        assert!(!pages.set_flag(page, CODE).none(), "the page tables' flag says nothing");
    }

    #[test]
    fn writers_overflow_to_many() {
        let pages = Pages::new(1);
        let page = RamPage(0);
        for slot in [5, 5, 8191, 7, 0] {
            assert!(pages.admit_writer(page, slot));
        }
        let word = pages.words[0].load(Ordering::SeqCst);
        assert_eq!(Writers(word).slots().collect::<Vec<_>>(), [5, 8191, 7, 0]);
        assert_eq!(word & MANY, 0);
        assert!(pages.admit_writer(page, 9));
        assert_ne!(pages.words[0].load(Ordering::SeqCst) & MANY, 0);
        let watch = |flag| {
            pages.watch(
                [(page, 0)].into_iter(),
                flag,
                std::iter::empty(),
                &Quiescence::default(),
                ThreadToken(1),
            );
        };
        watch(CODE);
        assert_eq!(pages.words[0].load(Ordering::SeqCst), u64::from(CODE));
        watch(TRACKED);
        assert!(!pages.admit_writer(page, 5));
        pages.unwatch(page, CODE);
        assert!(!pages.admit_writer(page, 5));
        pages.unwatch(page, TRACKED);
        assert!(pages.admit_writer(page, 5));
    }
}
