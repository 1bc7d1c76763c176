//! `cargo xtask login-vs-qemu`: from power-on to a disk's login prompt under retrograde and QEMU 7.2, side by side.
//!
//! Both start the same firmware with the same disk, whose image is left as it was, one after the other in each round. What
//! counts is the processor time of the emulator, all its threads together; the wall clock is shown beside it, since
//! retrograde skips the time in which a guest that nobody watches waits. A ratio is taken inside each round. With `--paced` somebody
//! could watch both, by VNC; `--idle` then measures what a guest that waits at its prompt costs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use xtask::guests::Cache;
use xtask::guests::disks::DEBIAN_AMD64;

use crate::disks;
use crate::qemu_bench::{check_qemu_version, release_emulator};

/// What ends a boot.
const PROMPT: &[u8] = b" login:";
/// An emulator that has not come so far by then never does.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Args, Debug)]
pub struct Options {
    /// A raw image with a serial console; without it the nightly tests' Debian for amd64, which is built if need be.
    #[arg(long)]
    disk: Option<PathBuf>,
    /// How the disk is connected.
    #[arg(long, value_enum, default_value_t = Connection::Ide)]
    connection: Connection,
    /// The guest's memory in MiB.
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// Rounds; the last line has medians over them.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Virtual time follows the wall clock, as it does where someone can watch.
    #[arg(long)]
    paced: bool,
    /// Measure this many seconds at the prompt too.
    #[arg(long, requires = "paced")]
    idle: Option<u64>,
    /// A retrograde to measure, instead of building this tree's.
    #[arg(long)]
    emulator: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Connection {
    /// An IDE disk.
    Ide,
    /// A virtio block device.
    Virtio,
}

/// Between the prompt and the idling that is measured: what a system starts last has come to rest.
const SETTLING: Duration = Duration::from_secs(20);

/// Seconds to the prompt.
#[derive(Clone, Copy)]
struct Time {
    processor: f64,
    wall: f64,
}

pub fn run(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds: give --rounds 1 or more");
    }
    check_qemu_version()?;
    let emulator = release_emulator(options.emulator.as_deref())?;
    let disk = match &options.disk {
        Some(named) => named.clone(),
        None => disks::obtain(&Cache::open()?, &[&DEBIAN_AMD64])?.swap_remove(0),
    };
    let (mut processor, mut wall) = (Vec::new(), Vec::new());
    println!("{:12} {:>10} {:>10}", "", "CPU s", "wall s");
    for _ in 0..options.rounds {
        let ours = boot("retrograde", &mut retrograde(&emulator, &disk, options), options.idle)?;
        let theirs = boot("qemu 7.2", &mut qemu(&disk, options), options.idle)?;
        processor.push(ours.processor / theirs.processor);
        wall.push(ours.wall / theirs.wall);
    }
    println!("{:12} {:10.2} {:10.2}", "ratio", median(processor), median(wall));
    Ok(())
}

fn retrograde(program: &Path, disk: &Path, options: &Options) -> Command {
    let mut command = Command::new(program);
    arguments(&mut command, disk, options);
    command
}

fn qemu(disk: &Path, options: &Options) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg", "-net", "none"]);
    arguments(&mut command, disk, options);
    command
}

/// What both are given.
fn arguments(command: &mut Command, disk: &Path, options: &Options) {
    let interface = match options.connection {
        Connection::Ide => "ide",
        Connection::Virtio => "virtio",
    };
    let disk = disk.to_string_lossy().replace(',', ",,");
    command
        .args(["-cpu", "max", "-m", &options.memory.to_string(), "-boot", "c", "-snapshot"])
        .arg("-drive")
        .arg(format!("format=raw,if={interface},file={disk}"))
        .args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
    if options.paced {
        // A display number that is seldom taken; only this machine reaches it.
        command.args(["-vnc", "127.0.0.1:77"]);
    }
}

fn boot(name: &str, command: &mut Command, idle: Option<u64>) -> Result<Time> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let arrived = wait_for_prompt(&mut child);
    let wall = start.elapsed().as_secs_f64();
    let processor = processor_seconds(child.id());
    let idle = idle.filter(|_| arrived.is_ok()).map(|seconds| share_of_a_core(child.id(), seconds));
    // One that has ended by itself cannot be killed; it never came to its prompt, which is reported below.
    let _ = child.kill();
    child.wait().with_context(|| format!("waiting for {name}"))?;
    arrived.with_context(|| format!("{name} does not reach the login prompt"))?;
    let time = Time { processor: processor?, wall };
    print!("{name:12} {:10.2} {:10.2}", time.processor, time.wall);
    match idle.transpose()? {
        Some(share) => println!("   idle: {:.2} % of a core", 100.0 * share),
        None => println!(),
    }
    Ok(time)
}

fn wait_for_prompt(child: &mut Child) -> Result<()> {
    let mut output = child.stdout.take().context("standard output is a pipe")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = output.read(&mut bytes) {
            if sender.send(bytes[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let (end, mut seen) = (Instant::now() + PATIENCE, Vec::new());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let tail =
            |seen: &[u8]| String::from_utf8_lossy(&seen[seen.len().saturating_sub(500)..]).into_owned();
        match receiver.recv_timeout(left) {
            Ok(bytes) => seen.extend(bytes),
            Err(error) => bail!("{error}; the console's last lines:\n{}", tail(&seen)),
        }
        if seen.windows(PROMPT.len()).any(|part| part == PROMPT) {
            return Ok(());
        }
    }
}

/// How much of a core a process takes for some seconds.
fn share_of_a_core(process: u32, seconds: u64) -> Result<f64> {
    std::thread::sleep(SETTLING);
    let (start, before) = (Instant::now(), processor_seconds(process)?);
    std::thread::sleep(Duration::from_secs(seconds));
    Ok((processor_seconds(process)? - before) / start.elapsed().as_secs_f64())
}

/// User and system time of all threads of a process that runs.
fn processor_seconds(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&text).map(|ticks| ticks as f64 / 100.0).with_context(|| format!("{path} is not understood"))
}

/// The sum of utime and stime, whose unit is a hundredth of a second on every Linux.
fn ticks(stat: &str) -> Option<u64> {
    // The name may hold blanks and brackets.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("12 (a) S 1"), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
