//! One memory file mapped twice: writable here, executable there. See [`super`] for when the host must be told of what was written.
//!
//! A guest's code is scattered over what was compiled for it, and an idle guest's is executed with cold caches and TLBs each time it wakes. So
//! the file's pages are made huge ones as they come into use: a 4 KiB page holds some ten blocks, a huge one all that a kernel's timer
//! tick executes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::{clean_data, page_size, store_jump};

/// Size and alignment of a huge page, where others have 4 KiB (SDM vol. 3, 4.5.4; Arm ARM, D8.2: a block of level 2).
const HUGE: usize = 2 << 20;
/// madvise(2), since Linux 6.1; not every C library's headers have it.
const MADV_COLLAPSE: libc::c_int = 25;

/// See the module.
#[derive(Debug)]
pub struct Dual {
    rw: MmapMut,
    rx: Executable,
}

impl Dual {
    /// Two mappings of `len` bytes. With `told`, the host is told of each store.
    pub fn new(len: usize, told: bool) -> io::Result<Self> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"retrograde-code".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and is owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len as u64)?;
        // SAFETY: the file is private to these two mappings; the executable one is only read by instruction fetch.
        let rw = unsafe { MmapOptions::new().len(len).map_mut(&file)? };
        Ok(Self { rw, rx: Executable::new(file, len, told)? })
    }

    /// Where code runs.
    pub fn base(&self) -> *const u8 {
        self.rx.base()
    }

    /// Copies code to `at`.
    pub fn write(&mut self, at: usize, code: &[u8]) -> io::Result<()> {
        let range = at..at.checked_add(code.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = self.rw.get_mut(range.clone()).ok_or(io::ErrorKind::InvalidInput)?;
        bytes.copy_from_slice(code);
        // The data was written at another address, but both alias the same lines once cleaned to unification.
        clean_data(bytes.as_ptr(), code.len());
        self.rx.tell(range.clone());
        self.rx.gather(range.end);
        Ok(())
    }

    /// Stores a jump over another one, in one store.
    pub fn replace(&mut self, at: usize, jump: [u8; 4]) -> io::Result<()> {
        let end = at.checked_add(4).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = self.rw.get_mut(at..end).ok_or(io::ErrorKind::InvalidInput)?;
        store_jump(bytes.as_mut_ptr(), jump);
        clean_data(bytes.as_ptr(), 4);
        self.rx.tell(at..end);
        Ok(())
    }
}

/// The executable mapping.
#[derive(Debug)]
struct Executable {
    /// Addresses that nobody else has. The file is mapped from `start` on, where a huge page can begin.
    addresses: MmapRaw,
    start: usize,
    len: usize,
    file: File,
    /// Size of the host's pages.
    page: usize,
    told: bool,
    /// Up to where huge pages were asked for.
    gathered: usize,
}

impl Executable {
    fn new(file: File, len: usize, told: bool) -> io::Result<Self> {
        let room = len.checked_add(HUGE).ok_or(io::ErrorKind::InvalidInput)?;
        let addresses =
            MmapRaw::from(MmapOptions::new().len(room).no_reserve_swap().map_anon()?.make_read_only()?);
        let start = addresses.as_ptr().align_offset(HUGE);
        let new = Self { addresses, start, len, file, page: page_size()?, told, gathered: 0 };
        new.map(0..len)?;
        Ok(new)
    }

    fn base(&self) -> *const u8 {
        self.addresses.as_ptr().wrapping_add(self.start)
    }

    /// Maps the file where it belongs; the range starts at a page.
    fn map(&self, range: Range<usize>) -> io::Result<()> {
        assert!(
            range.start.is_multiple_of(self.page) && range.end <= self.len,
            "a range of pages: {range:?}"
        );
        let at = self.base().wrapping_add(range.start).cast_mut().cast();
        let (access, how) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: the pages are among those that `addresses` owns (`start` is less than HUGE, and a page more than `len` is left), and no
        // reference to them exists. Where code may run in them, they become at one stroke what they are already.
        let mapped = unsafe {
            libc::mmap(at, range.len(), access, how, self.file.as_raw_fd(), range.start as libc::off_t)
        };
        if mapped == at { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The other mapping was written to at these offsets.
    fn tell(&self, range: Range<usize>) {
        if self.told && !range.is_empty() {
            self.map((range.start & !(self.page - 1))..range.end).expect("code pages stay mapped");
        }
    }

    /// The other mapping was written to, up to `end` for the first time: what lies there is moved into huge pages. A hint: a host that has
    /// none says no.
    fn gather(&mut self, end: usize) {
        if self.told || self.page != 4096 {
            return;
        }
        while self.gathered < end && self.gathered + HUGE <= self.len {
            let at = self.base().wrapping_add(self.gathered).cast_mut().cast();
            // SAFETY: the range lies in the mapping, and keeps its contents.
            let _ = unsafe { libc::madvise(at, HUGE, MADV_COLLAPSE) };
            self.gathered += HUGE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is the page at `address` part of a huge one, which `field` counts? (proc_pid_smaps(5))
    fn huge(address: usize, field: &str) -> bool {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("proc");
        let mut here = false;
        maps.lines().any(|line| {
            if let Some((from, to)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-'))
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                here = (from..to).contains(&address);
            }
            here && line.starts_with(field) && !line.ends_with(" 0 kB")
        })
    }

    #[test]
    fn code_lies_in_huge_pages_where_the_host_has_them() {
        let mut m = Dual::new(2 * HUGE + 4096, false).expect("a Linux host has memory files");
        assert!(m.base().addr().is_multiple_of(HUGE));
        for at in [0, 8, HUGE - 1, HUGE, 2 * HUGE] {
            m.write(at, &[at as u8 | 1; 2]).expect("in range");
        }
        for at in [0, 8, HUGE, 2 * HUGE] {
            // SAFETY: in the mapping, which is readable, and nobody writes now.
            assert_eq!(unsafe { *m.base().add(at) }, at as u8 | 1, "{at:#x}");
        }
        if m.rx.page == 4096 {
            assert_eq!(m.rx.gathered, 2 * HUGE, "the rest is less than a huge page");
            if gathers() {
                assert!(huge(m.base().addr(), "ShmemPmdMapped:"));
                assert!(huge(m.base().addr() + HUGE, "ShmemPmdMapped:"));
            }
        }
    }

    /// Does this host do what it is asked? Not before Linux 6.1, nor where memory files are denied huge pages; who emulates this host's user
    /// mode says yes and does nothing. So memory that is no file's is tried.
    fn gathers() -> bool {
        let files = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
        let mut map = MmapOptions::new().len(2 * HUGE).map_anon().expect("memory");
        let start = map.as_ptr().align_offset(HUGE);
        map[start] = 1;
        let at = map[start..].as_mut_ptr();
        // SAFETY: the range lies in the mapping, and keeps its contents.
        let _ = unsafe { libc::madvise(at.cast(), HUGE, MADV_COLLAPSE) };
        files.is_ok_and(|text| !text.contains("[deny]")) && huge(at.addr(), "AnonHugePages:")
    }
}
