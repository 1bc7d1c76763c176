//! `cargo xtask differential`: random cases in each tier, compared with the host's CPU.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use tests::differential::{Campaign, Mismatch, Plan};
use tests::harness::host;

/// Runs random instructions in each tier and compares registers, flags, memory and exceptions with the host's CPU.
#[derive(Parser)]
#[command(name = "cargo xtask differential")]
struct Arguments {
    /// How many cases each tier runs.
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// Everything random comes from it: a number, or `fresh` for a new one.
    #[arg(long, default_value = "1")]
    seed: String,
    /// Tiers: 0, 1, 2 or all.
    #[arg(long, default_value = "all")]
    tier: String,
    /// Families of instructions, separated by commas; all if none is named.
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
    /// Only forms whose iced-x86 name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Run this case only, as a mismatch names it.
    #[arg(long)]
    case: Option<u64>,
    /// Threads; all processors by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print forms that are never drawn, and which of them a program may execute; run nothing.
    #[arg(long)]
    list: bool,
}

/// Mismatches of one form that are printed in full.
const SHOWN_PER_FORM: u64 = 2;
/// Mismatches of all forms that are printed in full.
const SHOWN: u64 = 60;

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("--seed {text}: neither a number nor `fresh`"))
}

fn seed(text: &str) -> Result<u64, String> {
    if text != "fresh" {
        return number(text);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    Ok((now ^ u64::from(std::process::id()) << 40) & 0xffff_ffff_ffff)
}

fn tiers(text: &str) -> Result<Vec<usize>, String> {
    match text {
        "all" => Ok(vec![0, 1, 2]),
        _ => text
            .split(',')
            .map(|t| match t {
                "0" | "1" | "2" => Ok(usize::from(t.as_bytes()[0] - b'0')),
                _ => Err(format!("--tier {t}: there are 0, 1, 2 and all")),
            })
            .collect(),
    }
}

fn campaign(arguments: &Arguments) -> Result<Campaign, String> {
    let mut plan = Plan::new(&arguments.features)?;
    if let Some(text) = &arguments.only {
        plan = plan.only(text)?;
    }
    let cases = match arguments.case {
        Some(n) => n..n + 1,
        None => 0..arguments.cases,
    };
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    Ok(Campaign {
        seed: seed(&arguments.seed)?,
        cases,
        tiers: tiers(&arguments.tier)?,
        plan,
        jobs: jobs.unwrap_or(1).max(1),
    })
}

fn run(arguments: &Arguments, campaign: &Campaign) -> bool {
    let again = {
        let mut text = format!("cargo xtask differential --seed {}", campaign.seed);
        if !arguments.features.is_empty() {
            text += &format!(" --features {}", arguments.features.join(","));
        }
        if let Some(only) = &arguments.only {
            text += &format!(" --only {only}");
        }
        text
    };
    println!(
        "seed {}: {} cases, {} forms",
        campaign.seed,
        campaign.cases.end - campaign.cases.start,
        campaign.plan.codes().len()
    );
    if let Some(why) = host::absent() {
        println!("the host's CPU cannot be asked ({why}): the tiers are compared with each other only");
    }
    let shown: Mutex<(u64, BTreeMap<u32, u64>)> = Mutex::default();
    let each = |m: &Mismatch| {
        let mut shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_form = shown.1.entry(if m.is_program { u32::MAX } else { m.form as u32 }).or_default();
        *of_form += 1;
        if *of_form <= SHOWN_PER_FORM && shown.0 < SHOWN {
            shown.0 += 1;
            println!("{m}  again: {again} --case {}", m.number);
        }
    };
    let tally = campaign.run(&each);
    for (tier, t) in &tally.tiers {
        println!(
            "tier {tier}: {} cases, {} of them on the host's CPU, {} mismatches",
            t.cases, t.on_host, t.mismatches
        );
    }
    for (form, n) in &tally.forms {
        println!("  {n} mismatches of {form}");
    }
    if tally.stopped_early {
        println!("stopped early: too many mismatches");
    }
    let executed: u64 = tally.tiers.values().map(|t| t.cases).sum();
    println!(
        "{} forms drawn, seed {}, {:.1} s, {:.0} executions a second",
        tally.forms_drawn(),
        campaign.seed,
        tally.seconds,
        executed as f64 / tally.seconds.max(1e-9)
    );
    tally.mismatches() == 0 && executed > 0
}

/// Forms of the completeness table that no case has.
fn list() {
    let all = tests::completeness::table();
    let lines: Vec<_> = all.iter().filter(|l| l.tested != Some("differential")).collect();
    for line in &lines {
        println!("{:<32} {}", format!("{:?}", line.code), line.tested.unwrap_or("untested"));
    }
    println!("{} of {} forms are never drawn", lines.len(), all.len());
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    match campaign(&arguments) {
        Ok(campaign) if run(&arguments, &campaign) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("differential: {why}");
            ExitCode::from(2)
        }
    }
}
