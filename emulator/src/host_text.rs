//! The program's own code in huge pages.
//!
//! A guest that idles wakes a few times a second and finds the host's caches and TLBs cold. Of the program it needs a little here and there
//! then, some 800 pages of 4 KiB in 20 seconds, and each costs a walk of page tables that are cold too: twice so on a host that is a virtual
//! machine itself.
//!
//! The kernel gives huge pages to memory that is no file's (to a program's file only if it is built with
//! `CONFIG_READ_ONLY_THP_FOR_FS`, and few are). So what can be of the program's constant parts is copied to such memory, which
//! takes their place. The program is linked with its segments a huge page apart (`build.rs`), so that this is all of them; of a program that
//! is not, it is what fills huge pages as a whole. Profilers and debuggers that look for a file in its place do not find one: [`KEEP`].

#![cfg_attr(
    all(target_os = "linux", target_arch = "x86_64"),
    expect(unsafe_code, reason = "the program's text is mapped anew")
)]

use std::io;

/// Environment variable that leaves the program where the loader has put it.
pub const KEEP: &str = "RETROGRADE_PLAIN_TEXT";

/// Moves the program's text and constants into huge pages. Gives the bytes of these pages; none where the
/// host has no huge pages, or [`KEEP`] is set. x86-64 Linux only: others' instruction caches would have to be told of the copy, and
/// what there is to gain was not measured there.
pub fn gather() -> io::Result<usize> {
    if std::env::var_os(KEEP).is_none() && has_huge_pages() { here::gather() } else { Ok(0) }
}

fn has_huge_pages() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| !modes.contains("[never]"))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod here {
    use std::ffi::{c_int, c_void};
    use std::ops::Range;
    use std::{io, ptr, slice};

    /// SDM vol. 3, 4.5.4.
    pub const HUGE: usize = 2 << 20;
    const PAGE: usize = 4096;

    /// A constant part of the program as it is mapped.
    #[derive(Debug)]
    pub struct Part {
        pub addresses: Range<usize>,
        /// PROT_*.
        protection: c_int,
    }

    pub fn gather() -> io::Result<usize> {
        let mut moved = 0;
        for part in constant_parts() {
            moved += gather_part(&part)?;
        }
        Ok(moved)
    }

    /// The segments of the program's own file that cannot be written to, and what it is relocated through (virtual tables, the addresses of
    /// functions), which the loader makes constant when it is done.
    pub fn constant_parts() -> Vec<Part> {
        let mut parts = Vec::new();
        // SAFETY: `note` takes what it is given here for what it is, and does not unwind: it allocates, and that aborts on failure.
        unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut parts).cast()) };
        parts
    }

    /// Looks at the first object only, which is the program (dl_iterate_phdr(3)).
    unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _size: usize, parts: *mut c_void) -> c_int {
        // SAFETY: the loader gives a valid record, and `parts` is what `constant_parts` passes.
        let (info, parts) = unsafe { (&*info, &mut *parts.cast::<Vec<Part>>()) };
        if info.dlpi_phdr.is_null() {
            return 1;
        }
        // SAFETY: the record says how many there are.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        for header in headers {
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            let (len, executable) = match header.p_type {
                libc::PT_LOAD if header.p_flags & libc::PF_W == 0 => {
                    (header.p_filesz as usize, header.p_flags & libc::PF_X != 0)
                }
                // A page that belongs to it in part stays writable.
                libc::PT_GNU_RELRO => {
                    (((start + header.p_memsz as usize) & !(PAGE - 1)).saturating_sub(start), false)
                }
                _ => continue,
            };
            let executable = if executable { libc::PROT_EXEC } else { 0 };
            parts.push(Part { addresses: start..start + len, protection: libc::PROT_READ | executable });
        }
        1
    }

    /// Replaces the huge pages that lie in `part`; those at its ends too, if nothing else is in them. Gives their bytes.
    fn gather_part(part: &Part) -> io::Result<usize> {
        let Range { start, end } = part.addresses;
        let (first, last) = (start & !(PAGE - 1), end.next_multiple_of(PAGE));
        let before = Claim::new(start & !(HUGE - 1)..first);
        let behind = Claim::new(last..end.next_multiple_of(HUGE));
        let from = if before.is_some() { start & !(HUGE - 1) } else { start.next_multiple_of(HUGE) };
        let to = if behind.is_some() { end.next_multiple_of(HUGE) } else { end & !(HUGE - 1) };
        let len = to.saturating_sub(from);
        if len == 0 {
            return Ok(0);
        }
        let copy = map_aligned(len)?;
        let source = first.max(from)..last.min(to);
        // SAFETY: the copy is ours alone until it is moved, and has room for what lies in `from..to`. Its source is mapped, readable and constant: pages
        // of a segment that is not writable, or not any more, and the loader, who relocates, is done. What is in its place then has the same bytes with the same
        // access as before, and what is around it were pages that we claimed, which nobody else uses; the kernel replaces all of it
        // while it keeps other threads' faults waiting, and who executes it goes on with the same code.
        // (mremap(2) checks what it is asked for before it takes the place away. Were there no memory for page tables after that, the program would end.)
        let moved = unsafe {
            let _ = libc::madvise(copy, len, libc::MADV_HUGEPAGE);
            let to = copy.cast::<u8>().add(source.start - from);
            ptr::copy_nonoverlapping(ptr::with_exposed_provenance::<u8>(source.start), to, source.len());
            libc::mprotect(copy, len, part.protection) == 0
                && libc::mremap(
                    copy,
                    len,
                    len,
                    libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    ptr::without_provenance_mut::<c_void>(from),
                ) != libc::MAP_FAILED
        };
        if moved {
            [before, behind].into_iter().flatten().for_each(Claim::keep);
            return Ok(len);
        }
        let why = io::Error::last_os_error();
        // SAFETY: as it was not moved, it is still ours alone.
        unsafe { libc::munmap(copy, len) };
        Err(why)
    }

    /// Pages that nothing was mapped in, taken so that nothing will be.
    struct Claim(Range<usize>);

    impl Claim {
        /// None if something is mapped in the range.
        fn new(range: Range<usize>) -> Option<Self> {
            if range.is_empty() {
                return Some(Self(range));
            }
            let at = ptr::without_provenance_mut::<c_void>(range.start);
            let kind =
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: a new mapping that takes no other's place.
            let mapped = unsafe { libc::mmap(at, range.len(), libc::PROT_NONE, kind, -1, 0) };
            if mapped == libc::MAP_FAILED {
                return None;
            }
            let claim = Self(mapped.addr()..mapped.addr() + range.len());
            // Linux before 4.17 does not know the flag, and takes the address for a wish.
            (claim.0 == range).then_some(claim)
        }

        /// Something else is mapped there now.
        fn keep(self) {
            std::mem::forget(self);
        }
    }

    impl Drop for Claim {
        fn drop(&mut self) {
            if !self.0.is_empty() {
                // SAFETY: the pages were mapped by `new`, have nothing in them, and nothing has taken their place.
                unsafe { libc::munmap(ptr::without_provenance_mut(self.0.start), self.0.len()) };
            }
        }
    }

    /// `len` bytes of memory that begin where a huge page can.
    fn map_aligned(len: usize) -> io::Result<*mut c_void> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, in a place of the kernel's choice.
        let all = unsafe { libc::mmap(ptr::null_mut(), len + HUGE, access, kind, -1, 0) };
        if all == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = all.cast::<u8>().align_offset(HUGE);
        let start = all.cast::<u8>().wrapping_add(before);
        // SAFETY: what lies before and behind the aligned part, in the mapping that was just made, and in use by nobody. (One of the two
        // may be empty, which munmap(2) refuses.)
        unsafe {
            libc::munmap(all, before);
            libc::munmap(start.wrapping_add(len).cast(), HUGE - before);
        }
        Ok(start.cast())
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod here {
    pub fn gather() -> std::io::Result<usize> {
        Ok(0)
    }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// A hash of the program as it lies in memory, and the number of its bytes.
    fn digest() -> (blake3::Hash, usize) {
        let mut hasher = blake3::Hasher::new();
        let mut len = 0;
        for part in here::constant_parts() {
            let at = std::ptr::with_exposed_provenance(part.addresses.start);
            // SAFETY: constant parts of this program, which stay mapped and readable.
            hasher.update(unsafe { std::slice::from_raw_parts(at, part.addresses.len()) });
            len += part.addresses.len();
        }
        (hasher.finalize(), len)
    }

    #[test]
    fn a_program_in_huge_pages_is_the_same_program() {
        let (before, len) = digest();
        let moved = gather().expect("a host gives memory and lets it be executed");
        let huge_pages = |p: &here::Part| {
            p.addresses.end.next_multiple_of(here::HUGE) - p.addresses.start / here::HUGE * here::HUGE
        };
        let whole: usize = here::constant_parts().iter().map(huge_pages).sum();
        assert!(moved == whole || !has_huge_pages(), "{moved} bytes of {whole} for a program of {len}");
        assert_eq!(digest().0, before);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
        let writable_code =
            maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| p.starts_with("rwx")));
        assert_eq!(writable_code.count(), 0);
        // Once more: what was moved can be moved, less the ends, whose pages are taken now.
        assert!(gather().expect("as before") < moved.max(1));
        assert_eq!(digest().0, before);
    }
}
