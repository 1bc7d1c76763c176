//! `cargo xtask bench-vs-qemu`: the same guest work under retrograde and QEMU 7.2, side by side.
//!
//! The benchmark guest is a kit of its own beside the repository (`PERFKIT`, else `../shared/perfkit`): workloads in C
//! that are /init of a small initramfs, and a driver that stamps the CPU seconds of the emulator process between the
//! markers they print. Both emulators run in the same round on the same processor; a ratio is taken inside each round.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::guests::{self, Cache};

use crate::{place, run};

/// The release that the project's figures are against.
const QEMU_VERSION: &str = "version 7.2";
/// What the kit's guest and driver are built and run with.
const PACKAGES: [&str; 10] = [
    "qemu-system-x86",
    "gcc",
    "make",
    "python3",
    "cpio",
    "zlib1g-dev",
    "libzstd-dev",
    "liblzma-dev",
    "libsqlite3-dev",
    "liblua5.4-dev",
];

#[derive(Args, Debug)]
pub struct Options {
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// These entries instead of the composite: names or sets of the kit, as "int_mix,lua" or "@fp".
    #[arg(long)]
    entries: Option<String>,
    /// The guard entries too, which are not in the composite.
    #[arg(long, conflicts_with = "entries")]
    guard: bool,
    /// The native run too, against whose checksums the results are then compared.
    #[arg(long)]
    native: bool,
    /// A retrograde to measure, instead of building this tree's: for a comparison of two revisions.
    #[arg(long)]
    emulator: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let kit = kit()?;
    run::install(&PACKAGES)?;
    check_qemu_version()?;
    let cache = Cache::open()?;
    let build = prepare(&cache, &kit)?;
    let emulator = release_emulator(options.emulator.as_deref())?;
    let mut command = Command::new("python3");
    match &options.entries {
        None => {
            command.arg(kit.join("host/score.py")).args(["retro", "qemu72"]);
            if options.guard {
                command.arg("--guard");
            }
            if options.native {
                command.arg("--native");
            }
        }
        Some(entries) => {
            command.arg(kit.join("host/pk.py")).arg(if options.native { "rounds" } else { "duel" });
            if options.native {
                command.arg("native");
            }
            command.args(["retro", "qemu72", entries]).arg("--out").arg(results(&build)?);
            if options.native {
                command.args(["--base", "qemu72"]);
            }
        }
    }
    command.args(["--rounds", &options.rounds.to_string()]);
    command.env("PK_BUILD", &build).env("RETROGRADE", &emulator).current_dir(&kit);
    run::check(&mut command)
}

/// The emulator to measure: the one that is named, or this tree's, built.
pub fn release_emulator(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return fs::canonicalize(path).with_context(|| format!("cannot open {}", path.display()));
    }
    run::check(&mut run::cargo(&["build", "--release", "--package", "emulator", "--bin", "retrograde"]))?;
    Ok(place::target().join("release/retrograde"))
}

/// An empty file for one run's results: the kit's driver appends.
fn results(build: &Path) -> Result<PathBuf> {
    let path = build.join("entries.jsonl");
    fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn kit() -> Result<PathBuf> {
    let kit = match std::env::var_os("PERFKIT") {
        Some(path) => PathBuf::from(path),
        None => place::repository().join("../shared/perfkit"),
    };
    if !kit.join("host/score.py").exists() {
        bail!("no benchmark kit in {}: set PERFKIT to its folder", kit.display());
    }
    let configurations = fs::read_to_string(kit.join("host/configs.json"));
    for name in ["\"retro\"", "\"qemu72\""] {
        if !configurations.as_ref().is_ok_and(|text| text.contains(name)) {
            bail!("{}/host/configs.json has no {name} entry", kit.display());
        }
    }
    fs::canonicalize(&kit).with_context(|| format!("cannot open {}", kit.display()))
}

/// Says so where the QEMU of this machine is another one.
pub fn check_qemu_version() -> Result<()> {
    let output = Command::new("qemu-system-x86_64").arg("--version").output();
    let output = output.context("qemu-system-x86_64 does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    if !first.contains(QEMU_VERSION) {
        println!("note: the project's figures are against QEMU 7.2; this is {first}");
    }
    Ok(())
}

/// The kit's guest, built into the cache: program, kernel, initramfs.
fn prepare(cache: &Cache, kit: &Path) -> Result<PathBuf> {
    let paths = guests::obtain(cache, &[&guests::KERNEL_CLOUD_AMD64, &guests::BUSYBOX_AMD64])?;
    let build = cache.folder().join("perfkit");
    fs::create_dir_all(&build).with_context(|| format!("cannot make {}", build.display()))?;
    let mut make = Command::new("make");
    make.arg("-C").arg(kit.join("guest")).arg(format!("OUT={}", build.display()));
    run::quietly(&mut make)?;
    fs::copy(&paths[0], build.join("vmlinuz")).context("cannot copy the kernel")?;
    let mut pack = Command::new("sh");
    pack.arg(kit.join("host/mkinitrd.sh")).arg(&build).arg(build.join("initrd.gz"));
    // A copy that can be executed, as the script wants it.
    let busybox = build.join("busybox");
    fs::copy(&paths[1], &busybox).context("cannot copy busybox")?;
    run::check(Command::new("chmod").arg("755").arg(&busybox))?;
    run::quietly(pack.env("BUSYBOX", &busybox))?;
    Ok(build)
}
