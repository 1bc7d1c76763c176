//! `cargo xtask singlestep`: runs files of single-step vectors and tells which pass.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use jit::TierPolicy;
use tests::singlestep::{Vectors, metadata, read, run};
use x86::model::CpuModel;

/// Runs single-step vectors (MOO or JSON, gzip or not), one file for each opcode.
#[derive(Parser)]
#[command(name = "cargo xtask singlestep")]
struct Arguments {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Processor model: 8086, v30, 286, 386 or another of -cpu help; by default what the file says, or its folder's name.
    #[arg(long)]
    cpu: Option<String>,
    /// At most this many cases of each file.
    #[arg(long, default_value_t = usize::MAX)]
    limit: usize,
    /// Undefined flags count too, where neither the file nor a list beside it says which they are.
    #[arg(long)]
    strict: bool,
    /// 0 interprets; 1 and 2 compile everything (cases that end with HLT only).
    #[arg(long, default_value_t = 0)]
    tier: u8,
}

/// The model for a file.
fn model(arguments: &Arguments, file: &std::path::Path, vectors: &Vectors) -> Result<CpuModel, String> {
    let text = file.to_string_lossy();
    let by_place = ["80186", "80188", "8088", "8086", "286", "386", "v20", "v30", "V20", "V30"]
        .into_iter()
        .find(|name| text.contains(name));
    let name = match &arguments.cpu {
        Some(name) => name.as_str(),
        None if vectors.cpu.is_empty() => run::model_for(by_place.unwrap_or("8088")).unwrap_or("8086"),
        None => run::model_for(&vectors.cpu).ok_or_else(|| {
            format!("made by a \"{}\", for which there is no model; try --cpu", vectors.cpu)
        })?,
    };
    CpuModel::new(name).map_err(|why| format!("--cpu {name}: {why:?}"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tier = match arguments.tier {
        0 => TierPolicy::Zero,
        1 => TierPolicy::One,
        _ => TierPolicy::Two,
    };
    let (mut passed, mut failed, mut revoked, mut bad) = (0, 0, 0, 0);
    let mut machine: Option<(String, run::Machine)> = None;
    let start = Instant::now();
    for file in &arguments.files {
        let name = file.display();
        let outcome = read(file).and_then(|vectors| {
            let flags = metadata::flags_mask(file)?.or(arguments.strict.then_some(u32::MAX));
            let beside = run::Beside { flags, revoked: metadata::revoked(file)? };
            let model = model(&arguments, file, &vectors)?;
            if machine.as_ref().is_none_or(|(name, _)| name != model.name()) {
                machine = Some((model.name().into(), run::Machine::new(model, tier)));
            }
            let (_, machine) = machine.as_mut().ok_or("no machine")?;
            Ok(machine.run(&vectors, &beside, arguments.limit))
        });
        match outcome {
            Ok((tally, first)) => {
                (passed, failed) = (passed + tally.passed, failed + tally.failed);
                revoked += tally.revoked;
                let all = tally.passed + tally.failed;
                let left_out =
                    if tally.revoked > 0 { format!(", {} revoked", tally.revoked) } else { String::new() };
                match first {
                    None => println!("{name}: {all} passed{left_out}"),
                    Some(first) => println!("{name}: {} of {all} FAILED{left_out}; {first}", tally.failed),
                }
            }
            Err(why) => {
                bad += 1;
                println!("{name}: CANNOT BE READ; {why}");
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "total: {passed} passed, {failed} failed, {revoked} revoked, {bad} of {} files unreadable, {seconds:.1} s",
        arguments.files.len()
    );
    if failed + bad == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
