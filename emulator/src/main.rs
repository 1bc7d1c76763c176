//! The `retrograde` binary. See the library's [`emulator::program`].

use std::process::ExitCode;

fn main() -> ExitCode {
    emulator::program::main(std::env::args_os().skip(1))
}
