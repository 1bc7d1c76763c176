//! One vCPU's MMU: its TLB banks, and the miss path that walks, fills, and judges slow entries.
//!
//! Every host address obtained here is good until the next safepoint of this vCPU: map updates and page tracking wait
//! for it. An access that needs two host addresses checks that no such point lay between them.

#![expect(unsafe_code, reason = "hands a bank pointer to generated code")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::sync::Arc;

use crate::addr::{Access, Gpa, PAGE_MASK, Privilege, RamPage};
use crate::bank::{Filled, slot_of};
use crate::contexts::{Contexts, Key};
use crate::entry::{self, INVALID, MMIO_ADDEND, MmioEntry, Seen};
use crate::generation::{Sample, Verdict};
use crate::quiesce::ThreadToken;
use crate::shadowed::Served;
use crate::space::AddressSpace;
use crate::steps::made;
use crate::sync::{Ordering, relax};
use crate::tlb::{SLOT_MASK, SharedTlb, TLB_ENTRIES, TlbEntry, Words};
use crate::view::{Directory, Tables, Untouched, View};
use crate::walk::{PageFault, Paging, PagingContext, Translation, walk_by, walk_in, walk_quickly};
use crate::watch::Watch;

/// Where generated code finds things.
pub mod layout {
    use super::{Mmu, TlbEntry, offset_of};

    /// Offset in [`Mmu`] of the pointer to the current bank.
    pub const MMU_BANK: usize = offset_of!(Mmu, bank);
    /// Offset in [`Mmu`] of the epoch (64 bits).
    pub const MMU_EPOCH: usize = offset_of!(Mmu, epoch);
    /// Offset of the load tag in a TLB entry.
    pub const ENTRY_READ: usize = offset_of!(TlbEntry, read);
    /// Offset of the store tag.
    pub const ENTRY_WRITE: usize = offset_of!(TlbEntry, write);
    /// Offset of the fetch tag.
    pub const ENTRY_EXEC: usize = offset_of!(TlbEntry, exec);
    /// Offset of the addend: host address minus guest virtual address.
    pub const ENTRY_ADDEND: usize = offset_of!(TlbEntry, addend);
    /// log2 of the size of a TLB entry.
    pub const ENTRY_SHIFT: u32 = 5;

    const _: () = assert!(MMU_BANK == 0 && MMU_EPOCH == 8);
    #[cfg(not(loom))]
    const _: () = assert!(
        ENTRY_READ == 0
            && ENTRY_WRITE == 8
            && ENTRY_EXEC == 16
            && ENTRY_ADDEND == 24
            && size_of::<TlbEntry>() == 1 << ENTRY_SHIFT
    );
    const _: () = assert!(super::TLB_ENTRIES.is_power_of_two());
}

/// How much to flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Nothing.
    None,
    /// All but global pages, in every address space.
    NonGlobal,
    /// All but global pages of one PCID (MOV CR3).
    Pcid(u16),
    /// Everything (changes of CR0 and CR4 paging bits, EFER).
    All,
}

/// Why an access did not take place. Nothing was read or written, but accessed and dirty bits may be set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemTrap {
    /// #PF.
    Page(PageFault),
    /// The access lies in one page that is a device or a gap, or is a write to ROM.
    Mmio {
        /// Physical address of the first byte.
        gpa: Gpa,
    },
    /// The access crosses a page and at least one side is not plain RAM; both sides are permitted. The caller goes
    /// bytewise.
    Split,
    /// #AC: the access is permitted, but not aligned (see [`Mmu::check_alignment`]).
    Misaligned,
    /// A TLB entry holds none of the known patterns: a bug of ours or failing hardware. The machine must stop; the text
    /// is the report.
    Corrupt(Box<str>),
}

/// A JIT slow path was refused; nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// Where instructions come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPage {
    /// The page in guest RAM.
    pub page: RamPage,
    /// Its guest physical address.
    pub gpa: Gpa,
}

/// What happened so far, for tests, benchmarks and `info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Accesses that left the fast path.
    pub slow: u64,
    /// Page walks.
    pub walks: u64,
    /// TLB entries made from shadow tables, without a walk.
    pub derived: u64,
    /// Flushes of any kind but INVLPG.
    pub flushes: u64,
    /// Entries found stale, and updates waited for.
    pub retries: u64,
}

/// Where an access goes.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Plain RAM at a host address.
    Ram(*mut u8),
    /// RAM whose writes the funnel must hear of.
    Watched(*mut u8),
    /// Not memory.
    Mmio(Gpa),
}

/// The MMU of one vCPU. Starts with paging off, as supervisor, quiescent (see [`Self::go_online`]).
#[repr(C)]
pub struct Mmu {
    // Generated code reads the first two; see `layout`.
    bank: *const TlbEntry,
    epoch: u64,
    privilege: Privilege,
    banks: [*const TlbEntry; 3],
    pub(crate) contexts: Contexts,
    pub(crate) view: View,
    pub(crate) directory: Directory,
    pub(crate) counters: Counters,
    /// Safepoints passed inside an access: host addresses from before are void.
    pub(crate) pauses: u64,
    pub(crate) watch: Watch,
    /// See [`Mmu::has_written_code`].
    pub(crate) code_written: Cell<bool>,
    pub(crate) tlb: Arc<SharedTlb>,
    pub(crate) space: Arc<AddressSpace>,
}

// SAFETY: the bank pointers point into `tlb`, which lives as long as the `Mmu` and is itself `Sync`.
unsafe impl Send for Mmu {}

impl std::fmt::Debug for Mmu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mmu")
            .field("privilege", &self.privilege)
            .field("paging", self.paging())
            .field("epoch", &self.epoch)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Drop for Mmu {
    fn drop(&mut self) {
        self.go_quiescent();
        self.space.unregister(&self.tlb);
    }
}

impl Mmu {
    /// The MMU of a new vCPU.
    pub fn new(space: Arc<AddressSpace>) -> Self {
        let tlb = Arc::new(SharedTlb::default());
        let number = space.register(&tlb);
        tlb.set_number(number as u32);
        let ctx = PagingContext { phys_bits: 52, ..PagingContext::default() };
        let contexts = Contexts::new(number, &tlb, &ctx);
        let banks = contexts.banks();
        Self {
            bank: banks[0],
            epoch: contexts.epoch(Privilege::Supervisor),
            privilege: Privilege::Supervisor,
            banks,
            contexts,
            view: View::new(&space),
            directory: Directory::default(),
            counters: Counters::default(),
            pauses: 0,
            watch: Watch::default(),
            code_written: Cell::new(false),
            tlb,
            space,
        }
    }

    /// The memory this MMU gives access to.
    #[inline]
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// Takes over the paging registers, then flushes. With [`Flush::None`] or [`Flush::Pcid`] only CR3, PCID and PKRU may have
    /// changed: the translations of the new context are those that it had when it was left.
    pub fn set_paging(&mut self, ctx: &PagingContext, flush: Flush) {
        let now = self.paging();
        let same = PagingContext { cr3: ctx.cr3, pdptes: ctx.pdptes, pcid: ctx.pcid, pkru: ctx.pkru, ..*now };
        if *ctx != same || ctx.pkru.is_some() != now.pkru.is_some() {
            self.contexts.other_registers();
        }
        self.directory.forget();
        let shadowed = self.root_is_shadowed(ctx);
        self.contexts.enter(&self.tlb, ctx, shadowed);
        self.contexts.set_rules(ctx);
        self.flush(flush);
        self.context_changed();
    }

    /// MOV CR3 where no PDPTEs are loaded: [`Self::set_paging`] with another CR3 and PCID, at the price of a few compares where
    /// the address space is one of those used last.
    pub fn load_cr3(&mut self, cr3: u64, pcid: u16, flush: Flush) {
        let key = Key { pcid, ..Key::of(self.paging()) };
        if !self.contexts.go_back(key, cr3) {
            return self.set_paging(&PagingContext { cr3, pcid, ..*self.paging() }, flush);
        }
        self.directory.forget();
        self.flush(flush);
        self.context_changed();
    }

    /// WRPKRU: PKRU alone has changed. Nothing is dropped.
    pub fn set_pkru(&mut self, pkru: u32) {
        let Some(old) = self.paging().pkru else { return };
        if old != pkru {
            let ctx = PagingContext { pkru: Some(pkru), ..*self.paging() };
            let shadowed = self.contexts.leaves().1;
            self.contexts.enter(&self.tlb, &ctx, shadowed);
            self.contexts.set_rules(&ctx);
            self.context_changed();
        }
    }

    fn context_changed(&mut self) {
        self.note_lost();
        self.banks = self.contexts.banks();
        self.select(self.privilege);
    }

    /// The paging registers in force.
    pub fn paging(&self) -> &PagingContext {
        &self.contexts.rules().ctx
    }

    /// Makes `p` the privilege of the accesses that name none. A pointer change.
    #[inline]
    pub fn select(&mut self, p: Privilege) {
        self.privilege = p;
        self.bank = self.banks[p as usize];
        self.epoch = self.contexts.epoch(p);
    }

    /// The privilege in force.
    #[inline]
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Drops translations.
    #[inline]
    pub fn flush(&mut self, f: Flush) {
        if f != Flush::None {
            self.drop_translations(f);
        }
    }

    fn drop_translations(&mut self, f: Flush) {
        self.counters.flushes += 1;
        tracing::trace!(target: "mmu", "TLB flush: {f:?}");
        self.directory.forget();
        // Kept entries went when the page tables were stored to; from a flush on that counts.
        self.note_lost();
        self.contexts.flush(&self.tlb, f);
        self.epoch = self.contexts.epoch(self.privilege);
    }

    /// INVLPG: drops what derives from the page of `gva` in the current address space, and global translations of it.
    pub fn invlpg(&mut self, gva: u64) {
        self.invalidate(self.contexts.pcid(), gva);
    }

    /// INVPCID of one address: as [`Self::invlpg`], in the address space `pcid`.
    pub fn invalidate(&mut self, pcid: u16, gva: u64) {
        tracing::trace!(target: "mmu", "TLB flush of the page at {gva:#x}, PCID {pcid:#x}");
        self.directory.forget();
        self.note_lost();
        self.contexts.invalidate(&self.tlb, pcid, gva);
        self.epoch = self.contexts.epoch(self.privilege);
    }

    /// Changes whenever an execute translation of the current privilege that [`Self::fetch`] gave may no longer hold.
    /// Never takes a value twice, nor the value of another privilege or of another vCPU of the machine. Map updates count from the next
    /// [`Self::safepoint`] on.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The vCPU holds no host address, in registers or otherwise: lets those pass who wait for that, and takes note
    /// of what they changed. Call it between blocks, and after an access that may have changed the memory map.
    #[inline]
    pub fn safepoint(&mut self) {
        if self.space.quiescence.attention() {
            self.space.quiescence.acknowledge(&self.tlb.presence);
        }
        self.note_lost();
    }

    #[inline]
    fn note_lost(&mut self) {
        let lost = self.tlb.take_execute_lost();
        if lost != 0 {
            self.contexts.lost_banks(lost);
            self.epoch = self.contexts.epoch(self.privilege);
        }
    }

    /// Has this vCPU written to a line with translated code since [`Self::forget_written_code`]? What it executes may be
    /// older than that, also where another vCPU has taken the write out of the queue ([`AddressSpace::take_code_writes`]) since.
    #[inline]
    pub fn has_written_code(&self) -> bool {
        self.code_written.get()
    }

    /// The caller executes nothing, and what was translated from bytes written so far is gone before it does, or another one is at it and
    /// waited for.
    #[inline]
    pub fn forget_written_code(&mut self) {
        self.code_written.set(false);
    }

    /// Whether someone waits for this vCPU (or another) to come to a safepoint.
    #[inline]
    pub fn safepoint_wanted(&self) -> bool {
        self.space.quiescence.attention()
    }

    /// The calling thread runs guest code on this vCPU until [`Self::go_quiescent`], and calls [`Self::safepoint`] in
    /// between. Needed only where vCPUs run in parallel. Blocks while another vCPU runs alone.
    pub fn go_online(&mut self) {
        self.go_quiescent();
        self.space.quiescence.go_online(&self.tlb.presence, ThreadToken::current());
        self.note_lost();
    }

    /// This vCPU touches no guest memory until [`Self::go_online`] (HLT, pause, end of the thread).
    pub fn go_quiescent(&mut self) {
        self.space.quiescence.go_quiescent(&self.tlb.presence);
    }

    /// Counts of what happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Physical address of `gva` as a debugger sees it: rights are not checked, nothing changes, nothing is cached.
    pub fn debug_translate(&self, gva: u64) -> Option<Gpa> {
        let ctx = PagingContext { smap: false, ..*self.paging() };
        let mut tables = Untouched { space: &self.space, seen: Vec::new() };
        walk_in(&mut tables, &ctx, Privilege::SupervisorAc, gva, Access::Read).ok().map(|t| t.gpa)
    }

    #[inline(always)]
    pub(crate) fn entry(&self, gva: u64) -> &TlbEntry {
        // SAFETY: `bank` points to TLB_ENTRIES entries of `tlb`, and the slot is below that.
        unsafe { &*self.bank.add(slot_of(gva)) }
    }

    #[inline(always)]
    pub(crate) fn entry_as(&self, p: Privilege, gva: u64) -> &TlbEntry {
        // SAFETY: as in `entry`.
        unsafe { &*self.banks[p as usize].add(slot_of(gva)) }
    }

    /// First address of the page after that of `gva`; wraps at 4 GiB where linear addresses have 32 bits.
    pub(crate) fn next_page(&self, gva: u64) -> u64 {
        let next = (gva & PAGE_MASK).wrapping_add(4096);
        match self.paging().paging {
            Paging::Level4 | Paging::Level5 => next,
            Paging::None | Paging::Bits32 { .. } | Paging::Pae => next & 0xffff_ffff,
        }
    }

    pub(crate) fn pauses(&self) -> u64 {
        self.pauses
    }

    /// Offset in the guest RAM of a host address obtained from a [`Place`].
    #[inline]
    pub(crate) fn ram_offset(&self, host: *const u8) -> u64 {
        (host.addr() - self.space.ram.base().addr()) as u64
    }

    #[inline]
    pub(crate) fn host(addend: u64, gva: u64) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(gva.wrapping_add(addend) as usize)
    }

    /// Where an access to the one page of `gva` goes: the trap rules. Sets accessed and dirty bits, fills the TLB.
    #[inline(never)]
    pub(crate) fn resolve(&mut self, p: Privilege, gva: u64, access: Access) -> Result<Place, MemTrap> {
        self.counters.slow += 1;
        let page = gva & PAGE_MASK;
        loop {
            let entry = self.entry_as(p, gva);
            // Acquire pairs with the zapping store; the other two words are the owner's.
            let tag = entry.tag(access).load(Ordering::Acquire);
            let (read, addend) = (entry.read.load(Ordering::Relaxed), entry.addend.load(Ordering::Relaxed));
            match entry::decode(tag, read, addend, page, access, SLOT_MASK) {
                Seen::Fast => return Ok(Place::Ram(Self::host(addend, gva))),
                Seen::Tracked => {
                    let host = Self::host(addend, gva);
                    if self.space.pages.watched(RamPage::containing(self.ram_offset(host))) {
                        return Ok(Place::Watched(host));
                    }
                }
                Seen::Mmio(entry) => match self.space.generation.verdict(entry.generation) {
                    // The frame of the entry, not of the guest's tables as they are now.
                    Verdict::Current => return Ok(Place::Mmio(Gpa(entry.frame.0 | (gva & !PAGE_MASK)))),
                    Verdict::Stale => self.entry_as(p, gva).clear(),
                    Verdict::InProgress => {
                        self.entry_as(p, gva).clear();
                        self.await_update();
                    }
                },
                Seen::Absent => {}
                Seen::Corrupt => return Err(self.corrupt(p, gva, access)),
            }
            if let Some(place) = self.walk_and_fill(p, gva, access)? {
                return Ok(place);
            }
            self.counters.retries += 1;
        }
    }

    /// Where a read of `size` bytes goes, if the TLB has an entry that says a device, made from the map as it is now (trap rule
    /// 2: the frame is the entry's). `None`: nothing is known, or something else is to be heeded; a slow access finds out.
    #[inline]
    pub fn device_hit(&self, gva: u64, size: u64) -> Option<Gpa> {
        let (page, offset) = (gva & PAGE_MASK, gva & !PAGE_MASK);
        if self.watch.any() || offset + size > 4096 {
            return None;
        }
        let entry = self.entry(gva);
        let (tag, addend) = (entry.read.load(Ordering::Acquire), entry.addend.load(Ordering::Relaxed));
        match entry::decode(tag, tag, addend, page, Access::Read, SLOT_MASK) {
            Seen::Mmio(entry) if self.space.generation.verdict(entry.generation) == Verdict::Current => {
                Some(Gpa(entry.frame.0 | offset))
            }
            _ => None,
        }
    }

    /// Walks and fills. `None`: something changed meanwhile, look again.
    #[inline(always)]
    fn walk_and_fill(&mut self, p: Privilege, gva: u64, access: Access) -> Result<Option<Place>, MemTrap> {
        let mut sample = self.space.generation.sample();
        self.view.refresh(&self.space);
        if let Served::Yes(place) = self.serve(p, gva, access, sample)? {
            return Ok(place);
        }
        self.counters.walks += 1;
        let mut tables = Tables { view: &mut self.view, space: &self.space, directory: &mut self.directory };
        let t = match walk_quickly(&mut tables, self.contexts.rules(), p, gva, access) {
            Some(t) => t,
            None => walk_by(&mut tables, self.contexts.rules(), p, gva, access).map_err(MemTrap::Page)?,
        };
        let (page, frame) = (gva & PAGE_MASK, t.gpa.0 & PAGE_MASK);
        let Some((offset, false)) = self.view.memory(frame) else {
            if !made("sample before look-up") {
                sample = self.space.generation.sample();
            }
            return Ok(self.fill_other(p, gva, access, &t, sample));
        };
        let addend = self.addend(offset, page);
        let write = self.write_tag(&t, page, offset);
        self.fill_ram(p, page, access, &t, addend, write);
        let host = Self::host(addend, gva);
        let watched = access == Access::Write && write != page;
        Ok(Some(if watched { Place::Watched(host) } else { Place::Ram(host) }))
    }

    #[inline(always)]
    pub(crate) fn addend(&self, offset: u64, page: u64) -> u64 {
        (self.space.ram.base().expose_provenance() as u64).wrapping_add(offset).wrapping_sub(page)
    }

    /// Publishes an entry for memory, with a write tag made by the caller.
    #[inline(always)]
    fn fill_ram(
        &mut self,
        p: Privilege,
        page: u64,
        access: Access,
        t: &Translation,
        addend: u64,
        write: u64,
    ) {
        let words = self.ram_words(p, page, access, t, addend, write);
        let slot = slot_of(page);
        self.tlb.publish(self.contexts.bank(p), slot, words);
        let executes = (access == Access::Execute).then_some(t.gpa.0 & PAGE_MASK);
        self.contexts.owned(p).note_fill(
            slot,
            &Filled { page, page_size: t.page_size, global: t.global, kept: false, executes },
        );
    }

    /// An entry for memory, with a write tag made by the caller.
    #[inline(always)]
    pub(crate) fn ram_words(
        &self,
        p: Privilege,
        page: u64,
        access: Access,
        t: &Translation,
        addend: u64,
        write: u64,
    ) -> Words {
        let old = self.entry_as(p, page);
        // An execute tag is made by a fetch; a refill for data keeps it where it stays true.
        let exec = t.executable
            && (access == Access::Execute
                || (old.exec.load(Ordering::Relaxed) == page
                    && old.addend.load(Ordering::Relaxed) == addend));
        // A page with a breakpoint serves no load or store by itself.
        let watched = self.watch.any() && self.watch.covers(page);
        Words {
            read: if t.readable && !watched { page } else { INVALID },
            write: if watched { INVALID } else { write },
            exec: if exec { page } else { INVALID },
            addend,
        }
    }

    /// Fills for ROM, devices and gaps.
    #[cold]
    #[inline(never)]
    fn fill_other(
        &mut self,
        p: Privilege,
        gva: u64,
        access: Access,
        t: &Translation,
        sample: Sample,
    ) -> Option<Place> {
        let (page, frame, slot) = (gva & PAGE_MASK, t.gpa.0 & PAGE_MASK, slot_of(gva));
        let pattern = |access, generation| MmioEntry { frame: Gpa(frame), access, generation }.encode();
        let memory = self.view.memory(frame);
        if let Some((offset, _rom)) = memory
            && access != Access::Write
        {
            // Only a write needs the pattern; it is made when one comes.
            let addend = self.addend(offset, page);
            self.fill_ram(p, page, access, t, addend, INVALID);
            return Some(Place::Ram(Self::host(addend, gva)));
        }
        let Some(generation) = sample.number() else {
            // A map update is running, and an answer about devices from now could be of either map.
            self.await_update();
            return None;
        };
        if let Some((offset, _rom)) = memory {
            let addend = self.addend(offset, page);
            self.fill_ram(p, page, access, t, addend, pattern(Access::Write, generation));
        } else if access != Access::Execute {
            let permitted = |right, access| if right { pattern(access, generation) } else { INVALID };
            let words = Words {
                read: permitted(t.readable, Access::Read),
                write: permitted(t.writable, Access::Write),
                exec: INVALID,
                addend: page | MMIO_ADDEND,
            };
            self.tlb.publish(self.contexts.bank(p), slot, words);
            self.contexts.owned(p).note_fill(
                slot,
                &Filled { page, page_size: t.page_size, global: t.global, kept: false, executes: None },
            );
        }
        Some(Place::Mmio(t.gpa))
    }

    /// Waits, quiescent, for the end of a map update. Host addresses from before are void.
    #[cold]
    fn await_update(&mut self) {
        self.pauses += 1;
        self.counters.retries += 1;
        let online = self.tlb.presence.online();
        self.go_quiescent();
        while self.space.generation.in_progress() {
            relax();
        }
        if online {
            self.go_online();
        }
    }

    /// Runs `f` while no other vCPU is online, for what cannot be done by one atomic access.
    #[cold]
    pub(crate) fn alone<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.pauses += 1;
        let space = Arc::clone(&self.space);
        let vcpus = space.vcpus();
        space.quiescence.exclusive(vcpus.iter().map(|v| &*v.presence), ThreadToken::current(), || f(self))
    }

    /// The page of RAM that instructions at `gva` come from, with the current privilege. Fast when cached.
    #[inline]
    pub fn fetch(&mut self, gva: u64) -> Result<FetchPage, MemTrap> {
        let entry = self.entry(gva);
        let page = gva & PAGE_MASK;
        if entry.exec.load(Ordering::Relaxed) == page {
            let host = Self::host(entry.addend.load(Ordering::Relaxed), page);
            let gpa = Gpa(self.contexts.owned(self.privilege).exec_frame(slot_of(gva)));
            return Ok(FetchPage { page: RamPage::containing(self.ram_offset(host)), gpa });
        }
        self.fetch_slow(gva)
    }

    #[cold]
    fn fetch_slow(&mut self, gva: u64) -> Result<FetchPage, MemTrap> {
        self.note_lost();
        match self.resolve(self.privilege, gva, Access::Execute)? {
            Place::Ram(host) | Place::Watched(host) => {
                let gpa = Gpa(self.contexts.owned(self.privilege).exec_frame(slot_of(gva)));
                Ok(FetchPage { page: RamPage::containing(self.ram_offset(host)), gpa })
            }
            Place::Mmio(gpa) => Err(MemTrap::Mmio { gpa }),
        }
    }

    #[cold]
    fn corrupt(&self, p: Privilege, gva: u64, access: Access) -> MemTrap {
        let entry = self.entry_as(p, gva);
        let mut report = format!(
            "corrupt TLB entry: {access:?} of {gva:#x} as {p:?}, slot {}: read {:#x} write {:#x} exec {:#x} addend {:#x}; \
             {:?}",
            slot_of(gva),
            entry.read.load(Ordering::Relaxed),
            entry.write.load(Ordering::Relaxed),
            entry.exec.load(Ordering::Relaxed),
            entry.addend.load(Ordering::Relaxed),
            self.paging()
        );
        let mut tables = Untouched { space: &self.space, seen: Vec::new() };
        let result = walk_in(&mut tables, self.paging(), p, gva, access);
        for (at, word) in tables.seen {
            let _ = match word {
                Some(word) => write!(report, "; [{at:#x}] = {word:#x}"),
                None => write!(report, "; [{at:#x}] is not memory"),
            };
        }
        let _ = write!(report, "; walk: {result:x?}");
        tracing::error!("{report}");
        MemTrap::Corrupt(report.into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::entry::TRACKED;
    use crate::{GuestRam, MemoryMap, Region, RegionKind};

    fn mmu() -> Mmu {
        let ram = Region { start: Gpa(0), len: 0x1_0000, kind: RegionKind::Ram { offset: 0 } };
        Mmu::new(AddressSpace::new(GuestRam::new(0x1_0000).unwrap(), MemoryMap::new(vec![ram]).unwrap()))
    }

    #[test]
    fn a_bad_pattern_is_reported_not_used() {
        for word in [0x1004, 0x3000, 0x1001, u64::MAX, TRACKED | 0x1000, 0xabcd_ef01_2345_6789] {
            let mut mmu = mmu();
            mmu.read::<u8>(0x1000).unwrap();
            mmu.entry(0x1000).read.store(word, Ordering::Relaxed);
            let Err(MemTrap::Corrupt(report)) = mmu.read::<u8>(0x1010) else {
                panic!("{word:#x} was accepted")
            };
            assert!(report.contains(&format!("{word:#x}")) && report.contains("0x1010"), "{report}");
        }
    }

    #[test]
    fn an_entry_zapped_between_miss_and_look_is_filled_again() {
        let mut mmu = mmu();
        mmu.write(0x1000, 5u8).unwrap();
        mmu.tlb.bank(0)[1].clear();
        assert_eq!(mmu.read::<u8>(0x1000), Ok(5));
        assert_eq!(mmu.counters().walks, 2);
    }

    #[test]
    fn the_hit_path_needs_the_whole_access_in_the_page() {
        let mut mmu = mmu();
        mmu.read::<u8>(0x1000).unwrap();
        let slow = mmu.counters().slow;
        for at in [0x1000, 0x1ff8] {
            mmu.read::<u64>(at).unwrap();
        }
        assert_eq!(mmu.counters().slow, slow);
        mmu.read::<u64>(0x1ff9).unwrap();
        assert!(mmu.counters().slow > slow);
    }
}
