//! The program's own code in huge pages.
//!
//! A guest that idles wakes a few times a second and finds the host's caches and TLBs cold. Of the program it needs a little here and there
//! then, some 800 pages of 4 KiB in 20 seconds, and each costs a walk of page tables that are cold too: twice so on a host that is a virtual
//! machine itself.
//!
//! The kernel gives huge pages to memory that is no file's (to a program's file only if it is built with
//! `CONFIG_READ_ONLY_THP_FOR_FS`, and few are). So what can be of the program's constant parts is copied to such memory, which
//! takes their place. Profilers and debuggers that look for a file in its place do not find one: [`KEEP`].

#![expect(unsafe_code, reason = "the program's text is mapped anew")]

use std::io;

/// Environment variable that leaves the program where the loader has put it.
pub const KEEP: &str = "RETROGRADE_PLAIN_TEXT";

/// Moves the program's text and constants into huge pages, those parts that can fill some. Gives the number of bytes; none where the
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
    const HUGE: usize = 2 << 20;

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

    /// The segments of the program's own file that cannot be written to.
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
        for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            let executable = if header.p_flags & libc::PF_X != 0 { libc::PROT_EXEC } else { 0 };
            parts.push(Part {
                addresses: start..start + header.p_filesz as usize,
                protection: libc::PROT_READ | executable,
            });
        }
        1
    }

    /// Replaces the huge pages that lie in `part` as a whole. Gives their bytes.
    fn gather_part(part: &Part) -> io::Result<usize> {
        let start = part.addresses.start.next_multiple_of(HUGE);
        let len = (part.addresses.end & !(HUGE - 1)).saturating_sub(start);
        if len == 0 {
            return Ok(0);
        }
        let copy = map_aligned(len)?;
        // SAFETY: the copy is ours alone until it is moved. Its source is mapped readable and constant: it is a segment that is not
        // writable, and the loader, who may relocate even that, is done. The source's place then has the same bytes with the same
        // access as before; the kernel replaces it while it keeps other threads' faults waiting, and who executes it goes on with the same code.
        // (mremap(2) checks what it is asked for before it takes the place away. Were there no memory for page tables after that, the program would end.)
        let moved = unsafe {
            let _ = libc::madvise(copy, len, libc::MADV_HUGEPAGE);
            ptr::copy_nonoverlapping(ptr::with_exposed_provenance::<u8>(start), copy.cast(), len);
            libc::mprotect(copy, len, part.protection) == 0
                && libc::mremap(
                    copy,
                    len,
                    len,
                    libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    ptr::without_provenance_mut::<c_void>(start),
                ) != libc::MAP_FAILED
        };
        if moved {
            return Ok(len);
        }
        let why = io::Error::last_os_error();
        // SAFETY: as it was not moved, it is still ours alone.
        unsafe { libc::munmap(copy, len) };
        Err(why)
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
        assert!(moved < len);
        assert!(moved > 0 || !has_huge_pages(), "a program of {len} bytes has huge pages' worth of code");
        assert_eq!(digest().0, before);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
        let writable_code =
            maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| p.starts_with("rwx")));
        assert_eq!(writable_code.count(), 0);
        // Once more: what was moved can be moved.
        assert_eq!(gather().expect("as before"), moved);
        assert_eq!(digest().0, before);
    }
}
