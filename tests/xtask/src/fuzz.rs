//! `cargo xtask fuzz`: sets cargo-fuzz up if it is missing, and runs targets of `tests/fuzz` for a while.
//!
//! The stable toolchain is enough: no sanitizer is asked for, since what could go wrong is in safe code, and panics.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{place, run};

/// Names of the targets, as in `tests/fuzz/Cargo.toml`.
const TARGETS: [&str; 9] =
    ["decode", "tiers", "loaders", "registers", "virtio", "nvme", "floppy", "qcow2", "detect"];
/// Megabytes that an input may make a target allocate, and have in use at once.
const MEMORY: u64 = 2048;
/// Seconds after which an input counts as endless. (A kernel that changes its code at each step, with all of it compiled by
/// instrumented code, takes a dozen.)
const TIMEOUT: u64 = 300;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// One of decode, tiers, loaders, registers, virtio, nvme, floppy, qcow2, detect; all, one after the other, if none is named.
    target: Option<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Without instrumentation: random changes of the inputs to begin with. Needs no cargo-fuzz and builds quickly.
    #[arg(long)]
    plain: bool,
}

fn folder() -> PathBuf {
    place::repository().join("tests/fuzz")
}

/// The program of the crate `tests` that writes inputs to begin with, and fuzzes without instrumentation.
fn plain(arguments: &[&str]) -> Result<()> {
    let mut cargo = run::cargo(&["run", "--release", "--quiet", "-p", "tests", "--bin", "fuzz", "--"]);
    run::check(cargo.args(arguments))
}

fn with_cargo_fuzz(target: &str, seconds: u64) -> Result<()> {
    if !run::answers("cargo", &["fuzz", "--version"]) {
        println!("installing cargo-fuzz");
        run::check(&mut run::cargo(&["install", "cargo-fuzz", "--locked"]))?;
    }
    let corpus = folder().join("corpus").join(target);
    if fs::read_dir(&corpus).map_or(true, |mut entries| entries.next().is_none()) {
        let corpus = corpus.to_str().context("the repository's path is no text")?;
        plain(&[target, "--seeds", corpus])?;
    }
    let mut command = run::cargo(&["fuzz", "run", "-s", "none", target, "--"]);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-malloc_limit_mb={MEMORY}"));
    run::check(command.current_dir(folder()))
}

pub fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&str> = match &options.target {
        None => TARGETS.to_vec(),
        Some(name) => TARGETS.into_iter().filter(|t| t == name).collect(),
    };
    if chosen.is_empty() {
        bail!("there are the targets {}", TARGETS.join(", "));
    }
    for target in chosen {
        println!("{target}: {} seconds", options.seconds);
        if options.plain {
            let seed = std::process::id().to_string();
            plain(&[target, "--seconds", &options.seconds.to_string(), "--seed", &seed])?;
        } else {
            with_cargo_fuzz(target, options.seconds)?;
        }
    }
    Ok(())
}
