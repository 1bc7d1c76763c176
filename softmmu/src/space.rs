//! The address space: guest RAM, the published memory map, and the funnel that every write passes.

#![expect(unsafe_code, reason = "accesses guest memory by host address")]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::addr::{Gpa, RamPage};
use crate::map::MemoryMap;
use crate::ram::{GuestInt, GuestRam};
use crate::walk::TableMemory;

/// The address is not RAM (or, for reads, ROM): a device or a gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("guest physical address {0:?} is not memory")]
pub struct NotRam(pub Gpa);

/// Lines of a page with translated code that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeWrite {
    /// The page.
    pub page: RamPage,
    /// One bit per 64-byte line.
    pub lines: u64,
}

/// Guest memory as all vCPUs and devices share it.
pub struct AddressSpace {
    pub(crate) ram: GuestRam,
    map: ArcSwap<MemoryMap>,
    lines: Box<[AtomicU64]>,
    versions: Box<[AtomicU32]>,
    pending: AtomicBool,
    queue: Mutex<Vec<CodeWrite>>,
}

impl AddressSpace {
    /// A new space.
    pub fn new(ram: GuestRam, map: MemoryMap) -> Arc<Self> {
        let pages = ram.pages();
        Arc::new(Self {
            ram,
            map: ArcSwap::from_pointee(map),
            lines: (0..pages).map(|_| AtomicU64::new(0)).collect(),
            versions: (0..pages).map(|_| AtomicU32::new(0)).collect(),
            pending: AtomicBool::new(false),
            queue: Mutex::default(),
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

    /// Replaces the map.
    pub fn update_map(&self, new: MemoryMap) {
        self.map.store(Arc::new(new));
    }

    /// Reads physical memory.
    pub fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), NotRam> {
        let map = self.map.load();
        let mut done = 0;
        while done < buf.len() {
            let here = Gpa(at.0.wrapping_add(done as u64));
            let (offset, room) = map.memory(here, false).ok_or(NotRam(here))?;
            let n = room.min((buf.len() - done) as u64) as usize;
            self.ram.read(offset, &mut buf[done..done + n]);
            done += n;
        }
        Ok(())
    }

    /// Writes physical memory.
    pub fn write(&self, at: Gpa, buf: &[u8]) -> Result<(), NotRam> {
        let map = self.map.load();
        let mut done = 0;
        while done < buf.len() {
            let here = Gpa(at.0.wrapping_add(done as u64));
            let (offset, room) = map.memory(here, true).ok_or(NotRam(here))?;
            let n = room.min((buf.len() - done) as u64) as usize;
            self.ram.write(offset, &buf[done..done + n]);
            self.note_write(offset, n as u64);
            done += n;
        }
        Ok(())
    }

    /// Loads an integer.
    pub fn load<T: GuestInt>(&self, at: Gpa) -> Result<T, NotRam> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes[..T::SIZE as usize])?;
        Ok(T::truncate(u64::from_le_bytes(bytes)))
    }

    /// Stores an integer.
    pub fn store<T: GuestInt>(&self, at: Gpa, v: T) -> Result<(), NotRam> {
        let v: u64 = v.into();
        self.write(at, &v.to_le_bytes()[..T::SIZE as usize])
    }

    /// Writes a firmware image at a RAM offset.
    pub fn load_rom(&self, ram_offset: u64, bytes: &[u8]) {
        self.ram.write(ram_offset, bytes);
        self.note_write(ram_offset, bytes.len() as u64);
    }

    pub(crate) fn lines(&self, page: RamPage) -> u64 {
        self.lines[page.0 as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn note_write(&self, offset: u64, len: u64) {
        for page in offset >> 12..=(offset + len - 1) >> 12 {
            let start = offset.max(page << 12) & 0xfff;
            let end = (offset + len - 1).min((page << 12) + 4095) & 0xfff;
            let hit = self.lines(RamPage(page as u32)) & (!0 << (start >> 6)) & (!0 >> (63 - (end >> 6)));
            if hit != 0 {
                self.versions[page as usize].fetch_add(1, Ordering::SeqCst);
                self.queue.lock().unwrap().push(CodeWrite { page: RamPage(page as u32), lines: hit });
                self.pending.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Tracks writes to lines of a page.
    pub fn track_code(&self, page: RamPage, lines: u64) {
        self.lines[page.0 as usize].fetch_or(lines, Ordering::SeqCst);
    }

    /// Stops tracking.
    pub fn untrack_code(&self, page: RamPage) {
        self.lines[page.0 as usize].store(0, Ordering::SeqCst);
    }

    /// Bumped by each write that hits a tracked line.
    pub fn code_version(&self, page: RamPage) -> u32 {
        self.versions[page.0 as usize].load(Ordering::SeqCst)
    }

    /// Drains the queue.
    pub fn take_code_writes(&self, out: &mut Vec<CodeWrite>) {
        self.pending.store(false, Ordering::SeqCst);
        out.append(&mut self.queue.lock().unwrap());
    }

    /// Whether the queue holds something.
    #[inline]
    pub fn code_writes_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Snapshot of a page.
    pub fn read_ram_page(&self, page: RamPage, buf: &mut [u8; 4096]) {
        self.ram.read_page(page, buf);
    }

    /// Saves all pages that are not zero.
    pub fn save_ram(&self, w: &mut dyn Write) -> std::io::Result<()> {
        let mut buf = [0; 4096];
        for page in 0..self.ram.pages() {
            self.ram.read_page(RamPage(page), &mut buf);
            if buf != [0; 4096] {
                w.write_all(&page.to_le_bytes())?;
                w.write_all(&buf)?;
            }
        }
        w.write_all(&u32::MAX.to_le_bytes())
    }

    /// Restores what [`Self::save_ram`] wrote.
    pub fn restore_ram(&self, r: &mut dyn Read) -> std::io::Result<()> {
        let mut buf = [0; 4096];
        let mut next = 0;
        loop {
            let mut index = [0; 4];
            r.read_exact(&mut index)?;
            let index = u32::from_le_bytes(index);
            let end = index == u32::MAX;
            if !end && index >= self.ram.pages() || !end && index < next {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "page index out of order"));
            }
            for page in next..if end { self.ram.pages() } else { index } {
                self.load_rom(RamPage(page).offset(), &[0; 4096]);
            }
            if end {
                return Ok(());
            }
            r.read_exact(&mut buf)?;
            self.load_rom(RamPage(index).offset(), &buf);
            next = index + 1;
        }
    }
}

impl TableMemory for &AddressSpace {
    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64> {
        if size == 4 { self.load::<u32>(Gpa(at)).ok().map(u64::from) } else { self.load(Gpa(at)).ok() }
    }

    fn update_entry(&mut self, at: u64, size: u8, old: u64, new: u64) -> bool {
        use crate::ram::Raw;
        let Some((offset, _)) = self.map.load().memory(Gpa(at), true) else { return true };
        let Some(ptr) = self.ram.ptr(offset, size.into()) else { return true };
        // SAFETY: inside guest RAM; entries are aligned.
        let done = unsafe {
            if size == 4 {
                u32::cas(ptr, old as u32, new as u32).is_ok()
            } else {
                u64::cas(ptr, old, new).is_ok()
            }
        };
        if done {
            self.note_write(offset, size.into());
        }
        done
    }
}
