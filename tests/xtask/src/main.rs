//! The project's own commands: `cargo xtask --help`.
//!
//! What a command needs it fetches or installs itself: guests, the cross toolchain, QEMU. Everything fetched goes to
//! the cache folder (see `xtask::guests::cache`); packages are installed only as root, and otherwise named.

mod aarch64;
mod place;
mod qemu_bench;
mod run;
mod suite;
mod tally;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use xtask::guests::{self, Cache};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Retrograde's build, test and benchmark commands")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch the guests that tests boot, from the distribution's packages, into the cache.
    Guests {
        /// Which ones.
        #[arg(long, value_enum, default_value_t = Set::Core)]
        set: Set,
    },
    /// All tests: the workspace, the model checks, the other host architecture. Ends with one line of totals.
    Test(suite::Options),
    /// Fetch and unpack what `test-aarch64` needs, without installing anything.
    Aarch64Setup {
        /// Do it again, with the packages of today.
        #[arg(long)]
        again: bool,
    },
    /// Build tests for an aarch64 host and run them under QEMU's user-mode emulation.
    TestAarch64(aarch64::Options),
    /// Run the benchmark guest under retrograde and QEMU 7.2, side by side.
    BenchVsQemu(qemu_bench::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum Set {
    /// What the tests cannot do without.
    Core,
    /// Every guest.
    All,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Task::Guests { set } => fetch_guests(set),
        Task::Test(options) => suite::run(&options),
        Task::Aarch64Setup { again } => aarch64::setup(again).map(|_| ()),
        Task::TestAarch64(options) => aarch64::test(&options),
        Task::BenchVsQemu(options) => qemu_bench::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fetch_guests(set: Set) -> Result<()> {
    let cache = Cache::open()?;
    let wanted: &[&guests::Artifact] = match set {
        Set::Core => &guests::CORE,
        Set::All => &guests::ALL,
    };
    for path in guests::obtain(&cache, wanted).context("guests")? {
        println!("{}", path.display());
    }
    Ok(())
}
