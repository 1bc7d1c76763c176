//! Running other programs.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::place;

/// `cargo` with arguments, in the repository, without what `cargo run` set for this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(place::repository()).env("CARGO_TERM_COLOR", "never");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end; an error names the command.
pub fn check(command: &mut Command) -> Result<()> {
    let what = shown(command);
    let status = command.status().with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

/// Runs to the end, showing its output as it comes, and returns the output too.
pub fn tee(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    let what = shown(command);
    println!("$ {what}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    let output = child.stdout.take().context("standard output is a pipe")?;
    let errors = child.stderr.take().context("standard error is a pipe")?;
    let lines = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| copy_lines(output, &lines));
        scope.spawn(|| copy_lines(errors, &lines));
    });
    let status = child.wait().with_context(|| format!("waiting for {what}"))?;
    Ok((status, lines.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)))
}

fn copy_lines(from: impl Read, to: &Mutex<Vec<String>>) {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    while from.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        println!("{line}");
        to.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
        bytes.clear();
    }
}

/// Runs a step whose output matters only if it fails; then it is shown, above an error that names the program.
pub fn quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("{program} failed ({})", output.status);
    }
    Ok(())
}

/// Whether a program is there and content with `arguments`.
pub fn answers(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    let probe = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    probe.is_ok_and(|output| output.status.success())
}

/// Whether this program runs as root.
pub fn is_root() -> Result<bool> {
    let user = Command::new("id").arg("-u").output().context("cannot start id")?;
    Ok(user.stdout.trim_ascii() == b"0")
}

/// Installs packages that are missing, as root; otherwise says which ones to install.
pub fn install(packages: &[&str]) -> Result<()> {
    let installed = |name: &&&str| {
        let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", name]).output();
        query.is_ok_and(|output| output.stdout == b"installed")
    };
    let missing: Vec<&str> = packages.iter().filter(|name| !installed(name)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        bail!("these packages are needed; install them first: {}", missing.join(" "));
    }
    println!("installing {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y", "--no-install-recommends", "-o", "Acquire::Retries=2"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let install = [&["install"], &missing[..]].concat();
    // With the lists the machine has; if they are old or none, with new ones.
    if apt(&install).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    // A list that cannot be had matters only if the installation then fails.
    let _ = apt(&["update"]).status();
    check(&mut apt(&install))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
