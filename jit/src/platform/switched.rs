//! One mapping of which the pages that are written are made writable for the time of the write, and executable again.
//!
//! Only those pages are switched: the cost of a write must not grow with the code cache. (Who emulates this host's user
//! mode drops what it has translated of every page whose protection changes, and hardware has a TLB to flush.)

use std::io;
use std::ops::Range;

use memmap2::{MmapMut, MmapRaw};

/// See the module. Between two calls all of it is executable and nothing is writable.
#[derive(Debug)]
pub struct Switched {
    map: MmapRaw,
    /// Size of the host's pages.
    page: usize,
}

impl Switched {
    pub fn new(len: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(len)?.make_exec()?.into(), page: super::page_size()? })
    }

    pub fn base(&self) -> *const u8 {
        self.map.as_ptr()
    }

    /// Copies code to `at`. No code in pages that it touches may be running.
    pub fn write(&mut self, at: usize, code: &[u8]) -> io::Result<()> {
        let end = at.checked_add(code.len()).filter(|end| *end <= self.map.len());
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        let pages = at & !(self.page - 1)..end;
        self.protect(&pages, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: `at..end` lies in the mapping, in pages that were just made writable; nobody else has a reference to
        // what the exclusive `self` owns.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.map.as_mut_ptr().add(at), code.len()) };
        // Other blocks have code in these pages: there is no way to go on without it.
        self.protect(&pages, libc::PROT_READ | libc::PROT_EXEC).expect("code pages become executable again");
        Ok(())
    }

    fn protect(&self, pages: &Range<usize>, protection: libc::c_int) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        // SAFETY: the range starts at a page of the mapping and ends in it (the system rounds up to the page's end); no
        // reference to its bytes lives across this.
        let done =
            unsafe { libc::mprotect(self.map.as_mut_ptr().add(pages.start).cast(), pages.len(), protection) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_around_a_written_page_goes_on_running() {
        let page = Switched::new(1).expect("memory").page;
        let mut m = Switched::new(4 * page).expect("memory");
        // In one page, over the end of a page, and in the next one; the last write touches the pages of all others.
        let places = [page - 64, 2 * page + 64, page + 256, 2 * page - 4];
        for (n, at) in (1u16..).zip(places) {
            m.write(at, &super::super::return_constant(n)).expect("in range");
            super::super::publish(m.base().wrapping_add(at), 8);
            for (k, at) in (1u16..=n).zip(places) {
                // SAFETY: the bytes at `at` are a complete function of this signature for this host.
                let f: extern "C" fn() -> u32 = unsafe { std::mem::transmute(m.base().wrapping_add(at)) };
                assert_eq!(f(), u32::from(k), "after write {n}");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_stays_writable() {
        let mut m = Switched::new(1 << 18).expect("memory");
        m.write((1 << 17) - 2, &[0; 4]).expect("in range");
        let here = m.base() as usize..m.base() as usize + (1 << 18);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
        let address = |text: &str| usize::from_str_radix(text, 16).expect("an address");
        let mut seen = 0;
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ').expect("a range");
            let (from, to) = range.split_once('-').expect("a range");
            let (from, to) = (address(from).max(here.start), address(to).min(here.end));
            if from < to {
                assert!(rest.starts_with("r-x"), "{line}");
                seen += to - from;
            }
        }
        assert_eq!(seen, here.len(), "{maps}");
    }
}
