//! The project's own commands: `cargo xtask --help`.
//!
//! What a command needs it fetches or installs itself: guests, the cross toolchain, QEMU. Everything fetched goes to
//! the cache folder (see `xtask::guests::cache`); packages are installed only as root, and otherwise named.

mod aarch64;
mod disks;
mod fuzz;
mod login_bench;
mod mbr;
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
    /// Put the guests that tests boot into the cache, from the distribution's packages.
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
    /// Write our BIOS to a file: 128 KiB, for `qemu-system-x86_64 -bios FILE` and for looking at.
    Rom {
        /// The file.
        out: std::path::PathBuf,
    },
    /// Print the table of instructions: what is implemented, and how it is tested.
    Completeness,
    /// Random instructions in each tier, compared with the host's CPU; --help after it tells more.
    #[command(disable_help_flag = true)]
    Differential {
        /// Options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the fuzz targets (decoder, tiers, loaders) with cargo-fuzz, which it installs if it is missing.
    Fuzz(fuzz::Options),
    /// Run files of single-step vectors (MOO or JSON, gzip or not); --help after it tells more.
    #[command(disable_help_flag = true)]
    Singlestep {
        /// Files and options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the benchmark guest under retrograde and QEMU 7.2, side by side.
    BenchVsQemu(qemu_bench::Options),
    /// Boot a disk to its login prompt under retrograde and QEMU 7.2, side by side.
    LoginVsQemu(login_bench::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum Set {
    /// What the tests cannot do without.
    Core,
    /// Every guest that can be had without root.
    All,
    /// Debian systems on disks, which the nightly tests boot. They are built here, as root.
    Disks,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Task::Guests { set } => fetch_guests(set),
        Task::Test(options) => suite::run(&options),
        Task::Aarch64Setup { again } => aarch64::setup(again).map(|_| ()),
        Task::TestAarch64(options) => aarch64::test(&options),
        Task::Rom { out } => rom(&out),
        Task::Completeness => harness("completeness", &[]),
        Task::Differential { arguments } => harness("differential", &arguments),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Singlestep { arguments } => harness("singlestep", &arguments),
        Task::BenchVsQemu(options) => qemu_bench::run(&options),
        Task::LoginVsQemu(options) => login_bench::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and runs one of the programs of the crate `tests`: they contain the emulator, which this one does not.
fn harness(program: &str, arguments: &[String]) -> Result<()> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--quiet", "-p", "tests", "--bin", program, "--"]).args(arguments);
    match cargo.status().context("cargo")?.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}

/// The crate `bios` writes its image: it is not linked here, because this program is to be built fast.
fn rom(out: &std::path::Path) -> Result<()> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--quiet", "-p", "bios", "--example", "rom", "--"]).arg(out);
    anyhow::ensure!(cargo.status().context("cargo")?.success(), "the image could not be written");
    Ok(())
}

fn fetch_guests(set: Set) -> Result<()> {
    let cache = Cache::open()?;
    let paths = match set {
        Set::Core => guests::obtain(&cache, &guests::CORE).context("guests")?,
        Set::All => guests::obtain(&cache, &guests::ALL).context("guests")?,
        Set::Disks => disks::obtain(&cache, &guests::disks::DISKS)?,
    };
    for path in paths {
        println!("{}", path.display());
    }
    Ok(())
}
