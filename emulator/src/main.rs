//! The `retrograde` binary. See the library's [`emulator::program`].

use std::process::ExitCode;

/// See [`emulator::host_heap`].
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    emulator::host_heap::keep_pages_huge();
    emulator::program::main(std::env::args_os().skip(1))
}
