//! `cargo xtask test`: everything that must pass, and one line of totals.
//!
//! Stages: the workspace's tests (with the core guests, which are fetched first and may not be skipped), the
//! documentation tests, if asked for the slow guest tests (whose disks are built first) and those of the window, the model checks (built with
//! `--cfg loom`, in a build folder of their own), and the tests on an aarch64 host. A stage that runs no test has failed: it would otherwise hide a filter that matches nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;
use xtask::guests::{self, Cache};

use crate::tally::Tally;
use crate::{aarch64, disks, place, run};

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Leave the aarch64 host out.
    #[arg(long)]
    no_aarch64: bool,
    /// The slow tests too: boots of whole disks, and the window on an X server (Xvfb).
    #[arg(long)]
    nightly: bool,
    /// Leave the model checks out.
    #[arg(long)]
    no_loom: bool,
}

struct Stage {
    name: &'static str,
    tally: Tally,
    content: bool,
    may_be_empty: bool,
}

impl Stage {
    fn run(name: &'static str, command: &mut Command) -> Result<Self> {
        let (status, lines) = run::tee(command)?;
        let tally = Tally::of_output(&lines);
        Ok(Self { name, tally, content: status.success(), may_be_empty: false })
    }

    fn or_empty(self) -> Self {
        Self { may_be_empty: true, ..self }
    }

    /// What is wrong with it, for the closing lines.
    fn complaint(&self) -> Option<&'static str> {
        let ran = self.tally.passed + self.tally.failed > 0;
        match (self.content, ran) {
            (false, false) => Some("did not build"),
            (false, true) => Some("failed"),
            (true, false) if !self.may_be_empty => Some("ran no test"),
            (true, _) => (self.tally.failed > 0).then_some("failed"),
        }
    }
}

/// The crates that have model checks: those whose manifest names the `loom` configuration.
fn loom_crates(root: &Path) -> Vec<&'static str> {
    [("softmmu", "softmmu"), ("jit", "jit"), ("devices", "devices"), ("emulator", "emulator")]
        .into_iter()
        .filter(|(folder, _)| {
            let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml"));
            manifest.is_ok_and(|text| text.contains("cfg(loom)"))
        })
        .map(|(_, name)| name)
        .collect()
}

pub fn run(options: &Options) -> Result<()> {
    let cache = Cache::open()?;
    guests::obtain(&cache, &guests::CORE)?;
    if let Err(error) = guests::obtain(&cache, &guests::ALL) {
        println!("some guests are missing, their tests will be skipped: {error}");
    }
    if options.nightly
        && let Err(error) = disks::obtain(&cache, &guests::disks::DISKS)
    {
        println!("disks are missing, their tests will be skipped: {error:#}");
    }
    let skip_log = cache.folder().join(format!("skipped-{}", std::process::id()));
    let _ = fs::remove_file(&skip_log);
    let stages = stages(options, &skip_log);
    let skips = fs::read_to_string(&skip_log).unwrap_or_default();
    let _ = fs::remove_file(&skip_log);
    close(&stages?, &skips)
}

fn stages(options: &Options, skip_log: &Path) -> Result<Vec<Stage>> {
    let root = place::repository();
    let mut stages = Vec::new();
    let guest_rules = |command: &mut Command| {
        command
            .env(guests::REQUIRE_GUESTS, "1")
            .env(guests::SKIP_LOG, skip_log)
            .env_remove(guests::NO_GUESTS);
    };
    if run::answers("cargo", &["nextest", "--version"]) {
        let mut command =
            run::cargo(&["nextest", "run", "--cargo-profile", "ci", "--workspace", "--no-fail-fast"]);
        command.arg("--config-file").arg(root.join("tests/xtask/nextest.toml"));
        guest_rules(&mut command);
        stages.push(Stage::run("workspace", &mut command)?);
        let mut command = run::cargo(&["test", "--profile", "ci", "--workspace", "--doc"]);
        stages.push(Stage::run("documentation", &mut command)?.or_empty());
    } else {
        let mut command = run::cargo(&["test", "--profile", "ci", "--workspace", "--no-fail-fast"]);
        guest_rules(&mut command);
        stages.push(Stage::run("workspace", &mut command)?);
    }
    if options.nightly {
        // Of the whole workspace, so that nothing is compiled with other features once more.
        let mut command = run::cargo(&["test", "--profile", "ci", "--workspace"]);
        command.args(["--test", "guest", "--test", "smp", "--no-fail-fast"]);
        command.args(["--", "--ignored", "--test-threads", "2"]);
        guest_rules(&mut command);
        stages.push(Stage::run("nightly", &mut command)?);
        // Every test of the window has "window" in its name; those that need an X server say it where there is none.
        let mut command = run::cargo(&["test", "--profile", "ci", "--package", "emulator", "--lib"]);
        command.args(["--features", "window-test", "--test", "window", "--no-fail-fast", "--", "window"]);
        guest_rules(&mut command);
        stages.push(Stage::run("window", &mut command)?);
    }
    if !options.no_loom {
        for name in loom_crates(&root) {
            // Loom's types work inside a model only: a crate's other tests do not run under this configuration.
            let mut command = run::cargo(&["test", "--profile", "ci", "--test", "loom", "--package", name]);
            command.arg("--target-dir").arg(place::target().join("loom"));
            command.env("RUSTFLAGS", "--cfg loom").env_remove("CARGO_ENCODED_RUSTFLAGS");
            stages.push(Stage::run("model checks", &mut command)?);
        }
    }
    if !options.no_aarch64 && cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        let mut parts = vec![("aarch64 host", aarch64::Options::on_4k_pages())];
        if options.nightly {
            parts.push(("aarch64 -smp 2", aarch64::Options::processors()));
            parts.push(("aarch64 disks", aarch64::Options::disks()));
        }
        for (name, options) in parts {
            let (tally, content) = aarch64::tally(&options)?;
            stages.push(Stage { name, tally, content, may_be_empty: false });
        }
    }
    Ok(stages)
}

fn close(stages: &[Stage], skips: &str) -> Result<()> {
    let mut sum = Tally::default();
    let mut complaints = Vec::new();
    println!();
    for stage in stages {
        sum += stage.tally;
        let complaint = stage.complaint();
        println!("{:14} {} {}", stage.name, stage.tally, complaint.unwrap_or("ok"));
        if let Some(complaint) = complaint {
            complaints.push(format!("{} {complaint}", stage.name));
            // A stage that broke off without counting a failure is one.
            sum.failed += u64::from(stage.tally.failed == 0);
        }
    }
    let mut skipped = 0;
    for line in skips.lines() {
        println!("skipped: {}", line.replace('\t', ": "));
        skipped += 1;
        if guests::CORE.iter().any(|artifact| line.contains(&format!("\t{}\t", artifact.name))) {
            complaints.push(format!("a core guest was missing ({line})"));
        }
    }
    let sum = sum.less_skipped(skipped);
    println!("{sum}");
    if !complaints.is_empty() {
        bail!("{}", complaints.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(passed: u64, failed: u64, content: bool) -> Stage {
        Stage { name: "s", tally: Tally { passed, failed, skipped: 0 }, content, may_be_empty: false }
    }

    #[test]
    fn only_tests_that_ran_and_passed_are_content() {
        assert_eq!(stage(1, 0, true).complaint(), None);
        assert_eq!(stage(0, 0, true).complaint(), Some("ran no test"));
        assert_eq!(stage(0, 0, true).or_empty().complaint(), None);
        assert_eq!(stage(0, 0, false).complaint(), Some("did not build"));
        assert_eq!(stage(1, 0, false).complaint(), Some("failed"));
        assert!(close(&[stage(1, 0, true)], "").is_ok());
        assert!(close(&[stage(1, 0, true), stage(0, 0, false)], "").is_err());
    }

    #[test]
    fn a_skipped_core_guest_is_a_failure() {
        assert!(close(&[stage(2, 0, true)], "boot\tvmlinuz-686\tnot fetched\n").is_ok());
        assert!(close(&[stage(2, 0, true)], "boot\tvmlinuz-cloud-amd64\tnot fetched\n").is_err());
    }
}
