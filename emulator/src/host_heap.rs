//! The program's heap in huge pages.
//!
//! Blocks and their instructions are small, many, and used in no order that the host's TLB is made for. The program's allocator
//! (`main.rs`) keeps those of a size together, in memory that it asks the host to back by huge pages; what is left is to keep them.

#![expect(unsafe_code, reason = "an option of the allocator, which is C")]

/// mimalloc's `mi_option_minimal_purge_size`, in KiB. (Its bindings do not name all options of version 3.)
const MINIMAL_PURGE_SIZE: libmimalloc_sys::mi_option_t = 44;

/// Has free memory returned to the host a huge page (of 2 MiB) at a time: less would leave the rest of the page in small ones, some thousands of them
/// in a guest that idles, each with a miss of the host's TLB when it wakes. For programs whose allocator is mimalloc.
pub fn keep_pages_huge() {
    // SAFETY: sets a number, which the allocator reads when it next looks for memory to return.
    unsafe { libmimalloc_sys::mi_option_set(MINIMAL_PURGE_SIZE, 2048) };
}
