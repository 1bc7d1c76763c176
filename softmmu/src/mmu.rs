//! Per-vCPU memory access.

#![expect(unsafe_code, reason = "accesses guest memory by host address")]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::addr::{Access, Gpa, PAGE_MASK, Privilege, RamPage};
use crate::ram::GuestInt;
use crate::space::AddressSpace;
use crate::walk::{PageFault, PagingContext, walk};

/// Entries in a bank.
pub const TLB_ENTRIES: usize = 8192;

/// One TLB entry.
#[repr(C)]
#[derive(Debug)]
pub struct TlbEntry {
    /// Tag for loads.
    pub read: AtomicU64,
    /// Tag for stores.
    pub write: AtomicU64,
    /// Tag for fetches.
    pub exec: AtomicU64,
    /// Host address minus guest address.
    pub addend: AtomicU64,
}

/// How much to flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Nothing.
    None,
    /// All but global pages.
    NonGlobal,
    /// Everything.
    All,
}

/// Why an access did not complete. Nothing was read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemTrap {
    /// #PF.
    Page(PageFault),
    /// The access lies in one page that is a device, a gap, or ROM (for writes).
    Mmio {
        /// Physical address of the first byte.
        gpa: Gpa,
    },
    /// Crosses a page and at least one side is not plain RAM.
    Split,
    /// A TLB entry is none of the known patterns.
    Corrupt(Box<str>),
}

/// A JIT slow path was refused; nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// Where instructions come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPage {
    /// The page in RAM.
    pub page: RamPage,
    /// Physical address of the page.
    pub gpa: Gpa,
}

/// One vCPU's view of memory.
#[repr(C)]
pub struct Mmu {
    bank: *const TlbEntry,
    epoch: u64,
    privilege: Privilege,
    banks: Box<[TlbEntry]>,
    ctx: PagingContext,
    space: Arc<AddressSpace>,
}

// SAFETY: `bank` points into `banks`, which moves with it.
unsafe impl Send for Mmu {}

enum Place {
    Ram(u64),
    Mmio(Gpa),
}

impl Mmu {
    /// Offset of the bank pointer in `Mmu`.
    pub const BANK_OFFSET: usize = 0;
    /// Offset of the epoch in `Mmu`.
    pub const EPOCH_OFFSET: usize = 8;

    /// A vCPU's MMU.
    pub fn new(space: Arc<AddressSpace>) -> Self {
        let banks: Box<[TlbEntry]> = (0..TLB_ENTRIES)
            .map(|_| TlbEntry {
                read: AtomicU64::new(0x800),
                write: AtomicU64::new(0x800),
                exec: AtomicU64::new(0x800),
                addend: AtomicU64::new(0),
            })
            .collect();
        Self {
            bank: banks.as_ptr(),
            epoch: 1,
            privilege: Privilege::Supervisor,
            banks,
            ctx: PagingContext::default(),
            space,
        }
    }

    /// The space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// Sets the paging registers.
    pub fn set_paging(&mut self, ctx: &PagingContext, flush: Flush) {
        self.ctx = *ctx;
        self.flush(flush);
    }

    /// Selects the bank.
    #[inline]
    pub fn select(&mut self, p: Privilege) {
        self.privilege = p;
    }

    /// Flushes.
    pub fn flush(&mut self, f: Flush) {
        if f != Flush::None {
            self.epoch += 1;
        }
    }

    /// Forgets one page.
    pub fn invlpg(&mut self, _gva: u64) {
        self.epoch += 1;
    }

    /// See the contract.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Acknowledges shootdowns.
    #[inline]
    pub fn safepoint(&mut self) {}

    /// This vCPU's thread runs guest code from now on.
    pub fn go_online(&mut self) {}

    /// This vCPU's thread does not touch guest memory until [`Self::go_online`].
    pub fn go_quiescent(&mut self) {}

    fn place(&self, p: Privilege, gva: u64, access: Access) -> Result<Place, MemTrap> {
        let t = walk(&self.space, &self.ctx, p, gva, access).map_err(MemTrap::Page)?;
        Ok(match self.space.map().memory(t.gpa, access == Access::Write) {
            Some((offset, _)) => Place::Ram(offset),
            None => Place::Mmio(t.gpa),
        })
    }

    /// RAM offsets of the two parts of an access and the length of the first.
    fn span(&self, p: Privilege, gva: u64, len: u64, access: Access) -> Result<(u64, u64, u64), MemTrap> {
        let first = (4096 - (gva & 0xfff)).min(len);
        let a = self.place(p, gva, access)?;
        if first == len {
            return match a {
                Place::Ram(a) => Ok((a, a, first)),
                Place::Mmio(gpa) => Err(MemTrap::Mmio { gpa }),
            };
        }
        match (a, self.place(p, gva.wrapping_add(first), access)?) {
            (Place::Ram(a), Place::Ram(b)) => Ok((a, b, first)),
            _ => Err(MemTrap::Split),
        }
    }

    fn get(&self, p: Privilege, gva: u64, buf: &mut [u8]) -> Result<(), MemTrap> {
        let (a, b, first) = self.span(p, gva, buf.len() as u64, Access::Read)?;
        let (x, y) = buf.split_at_mut(first as usize);
        self.space.ram.read(a, x);
        self.space.ram.read(b, y);
        Ok(())
    }

    fn put(&self, p: Privilege, gva: u64, buf: &[u8]) -> Result<(), MemTrap> {
        let (a, b, first) = self.span(p, gva, buf.len() as u64, Access::Write)?;
        let (x, y) = buf.split_at(first as usize);
        self.space.load_rom(a, x);
        if !y.is_empty() {
            self.space.load_rom(b, y);
        }
        Ok(())
    }

    /// Loads with the current privilege.
    #[inline]
    pub fn read<T: GuestInt>(&mut self, gva: u64) -> Result<T, MemTrap> {
        self.read_as(self.privilege, gva)
    }

    /// Stores with the current privilege.
    #[inline]
    pub fn write<T: GuestInt>(&mut self, gva: u64, v: T) -> Result<(), MemTrap> {
        self.write_as(self.privilege, gva, v)
    }

    /// Loads with a given privilege.
    pub fn read_as<T: GuestInt>(&mut self, p: Privilege, gva: u64) -> Result<T, MemTrap> {
        let mut bytes = [0; 8];
        self.get(p, gva, &mut bytes[..T::SIZE as usize])?;
        Ok(T::truncate(u64::from_le_bytes(bytes)))
    }

    /// Stores with a given privilege.
    pub fn write_as<T: GuestInt>(&mut self, p: Privilege, gva: u64, v: T) -> Result<(), MemTrap> {
        let v: u64 = v.into();
        self.put(p, gva, &v.to_le_bytes()[..T::SIZE as usize])
    }

    /// Stores unless that hits translated code.
    pub fn write_unless_code<T: GuestInt>(&mut self, gva: u64, v: T) -> Result<(), Refused> {
        let (a, b, first) = self.span(self.privilege, gva, T::SIZE, Access::Write).map_err(|_| Refused)?;
        let hits = |at: u64, n: u64| {
            n != 0 && self.space.lines(RamPage::containing(at)) >> ((at & 0xfff) >> 6) & 3 != 0
        };
        if hits(a, first) || hits(b, T::SIZE - first) {
            return Err(Refused);
        }
        self.write(gva, v).map_err(|_| Refused)
    }

    /// Loads if that is plain RAM.
    pub fn read_ram<T: GuestInt>(&mut self, gva: u64) -> Result<T, Refused> {
        self.read(gva).map_err(|_| Refused)
    }

    /// Locked read-modify-write; returns the old value.
    pub fn rmw<T: GuestInt>(&mut self, gva: u64, mut f: impl FnMut(T) -> T) -> Result<T, MemTrap> {
        let (a, _, first) = self.span(self.privilege, gva, T::SIZE, Access::Write)?;
        if first == T::SIZE && a.is_multiple_of(T::SIZE) {
            let ptr = self.space.ram.ptr(a, T::SIZE).expect("inside RAM");
            // SAFETY: inside guest RAM, aligned.
            let mut old = unsafe { T::load(ptr) };
            loop {
                // SAFETY: inside guest RAM, aligned.
                match unsafe { T::cas(ptr, old, f(old)) } {
                    Ok(old) => {
                        self.space.note_write(a, T::SIZE);
                        return Ok(old);
                    }
                    Err(now) => old = now,
                }
            }
        }
        let old = self.read(gva)?;
        self.write(gva, f(old))?;
        Ok(old)
    }

    /// Locked compare and exchange; returns the value found.
    pub fn cmpxchg<T: GuestInt>(&mut self, gva: u64, expected: T, new: T) -> Result<T, MemTrap> {
        self.rmw(gva, |old| if old == expected { new } else { old })
    }

    /// Loads 16 bytes.
    pub fn read128(&mut self, gva: u64) -> Result<u128, MemTrap> {
        let mut bytes = [0; 16];
        self.get(self.privilege, gva, &mut bytes)?;
        Ok(u128::from_le_bytes(bytes))
    }

    /// Stores 16 bytes.
    pub fn write128(&mut self, gva: u64, v: u128) -> Result<(), MemTrap> {
        self.put(self.privilege, gva, &v.to_le_bytes())
    }

    /// CMPXCHG16B.
    pub fn cmpxchg16b(&mut self, gva: u64, expected: u128, new: u128) -> Result<u128, MemTrap> {
        self.probe(gva, 16, Access::Write)?;
        let old = self.read128(gva)?;
        self.write128(gva, if old == expected { new } else { old })?;
        Ok(old)
    }

    /// Whether an access would succeed.
    pub fn probe(&mut self, gva: u64, len: u64, access: Access) -> Result<(), MemTrap> {
        let end = gva.wrapping_add(len.max(1) - 1) & PAGE_MASK;
        let mut at = gva;
        loop {
            if let Place::Mmio(gpa) = self.place(self.privilege, at, access)? {
                return Err(if gva & PAGE_MASK == end { MemTrap::Mmio { gpa } } else { MemTrap::Split });
            }
            if at & PAGE_MASK == end {
                return Ok(());
            }
            at = (at & PAGE_MASK).wrapping_add(4096);
        }
    }

    /// Copies.
    pub fn copy(&mut self, dst: u64, src: u64, len: u64) -> Result<(), MemTrap> {
        let mut buf = vec![0; len as usize];
        self.probe(dst, len, Access::Write)?;
        self.get(self.privilege, src, &mut buf)?;
        self.put(self.privilege, dst, &buf)
    }

    /// Fills.
    pub fn fill<T: GuestInt>(&mut self, dst: u64, v: T, count: u64) -> Result<(), MemTrap> {
        self.probe(dst, count * T::SIZE, Access::Write)?;
        (0..count).try_for_each(|i| self.write(dst.wrapping_add(i * T::SIZE), v))
    }

    /// Translates for execution.
    pub fn fetch(&mut self, gva: u64) -> Result<FetchPage, MemTrap> {
        let t = walk(&self.space, &self.ctx, self.privilege, gva, Access::Execute).map_err(MemTrap::Page)?;
        let (offset, _) = self.space.map().memory(t.gpa, false).ok_or(MemTrap::Mmio { gpa: t.gpa })?;
        Ok(FetchPage { page: RamPage::containing(offset), gpa: Gpa(t.gpa.0 & PAGE_MASK) })
    }
}
