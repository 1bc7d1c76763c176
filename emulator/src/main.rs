//! The `retrograde` binary. See the library's [`emulator::program`].

use std::process::ExitCode;

/// The allocator of the program's heap. Blocks and their instructions are small, many, and used in no order that the host's TLB is
/// made for: this one keeps those of a size together, in memory that it asks the host to back by huge pages.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    emulator::program::main(std::env::args_os().skip(1))
}
