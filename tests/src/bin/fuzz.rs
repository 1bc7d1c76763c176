//! Inputs to begin fuzzing with, and fuzzing without instrumentation: `cargo xtask fuzz` calls it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::fuzz::{TARGETS, mutated, seeds};
use tests::harness::random::Rng;

#[derive(Parser)]
struct Arguments {
    /// The target: see `tests::fuzz::TARGETS`.
    target: String,
    /// Write inputs to begin with into this folder, and end.
    #[arg(long)]
    seeds: Option<PathBuf>,
    /// Run these inputs, and end.
    inputs: Vec<PathBuf>,
    /// Run random changes of the seeds for so long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where randomness begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn write(folder: &std::path::Path, inputs: &[Vec<u8>]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    (0..).zip(inputs).try_for_each(|(n, input)| std::fs::write(folder.join(format!("seed-{n}")), input))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some((name, run)) = TARGETS.iter().find(|(name, _)| *name == arguments.target) else {
        eprintln!("fuzz: there is no target {}", arguments.target);
        return ExitCode::from(2);
    };
    let seeds = seeds(name);
    if let Some(folder) = &arguments.seeds {
        return match write(folder, &seeds) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("fuzz: {}: {why}", folder.display());
                ExitCode::FAILURE
            }
        };
    }
    for input in &arguments.inputs {
        match std::fs::read(input) {
            Ok(bytes) => run(&bytes),
            Err(why) => {
                eprintln!("fuzz: {}: {why}", input.display());
                return ExitCode::FAILURE;
            }
        }
    }
    if !arguments.inputs.is_empty() {
        return ExitCode::SUCCESS;
    }
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let (mut rng, mut n) = (Rng(arguments.seed), 0u64);
    while Instant::now() < end {
        let before = rng.0;
        let input = mutated(&mut rng, &seeds);
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            println!("{name}: seed {before:#x}: {input:02x?}");
            return ExitCode::FAILURE;
        }
        n += 1;
    }
    println!("{name}: {n} inputs, nothing wrong");
    ExitCode::SUCCESS
}
