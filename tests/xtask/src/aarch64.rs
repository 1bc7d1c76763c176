//! Tests on an aarch64 host, on a machine that is none.
//!
//! Debian packages hold a Rust compiler with an arm64 standard library, a cross linker and QEMU's user-mode emulator.
//! They are unpacked into the cache, never installed, and reached through three small wrappers. What this cannot show
//! is a missing barrier (an x86 machine is TSO): golden tests of emitted code and the model checks are for that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::guests::packages::{read_member, unpack};
use xtask::guests::{self, Cache, MemberPath, Package, PackageClient, Request};

use crate::tally::Tally;
use crate::{place, run};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";

/// Divides the number of random cases in differential tests: an emulated host is some ten times slower than a real one.
const ONE_IN: &str = "RETRO_ONE_IN";

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Crates to test; all of the workspace without these.
    #[arg(short, long = "package")]
    packages: Vec<String>,
    /// The emulated host's page size in bytes: 4096, 16384 or 65536.
    #[arg(long, default_value_t = 4096)]
    page_size: u32,
    /// A host processor without LSE atomics (Cortex-A53).
    #[arg(long)]
    no_lse: bool,
    /// Of the crates' test programs these only: the name of a file or folder in `tests`.
    #[arg(long = "test")]
    programs: Vec<String>,
    /// Boot guests too. Takes long.
    #[arg(long)]
    guests: bool,
    /// For the test programs, after "--": a filter, --nocapture.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Options {
    /// All crates, no guests.
    pub fn on_4k_pages() -> Self {
        Self {
            packages: Vec::new(),
            page_size: 4096,
            no_lse: false,
            programs: Vec::new(),
            guests: false,
            arguments: Vec::new(),
        }
    }

    /// Several processors: Debian's kernel, and jobs for each of them.
    pub fn processors() -> Self {
        Self::boots(&["smp::two_processors_in_turns_do_jobs", "smp::two_processors_in_parallel_do_jobs"])
    }

    /// Whole disks, which our BIOS boots: two that are made by the tests, and a Debian system, which keeps a file.
    pub fn disks() -> Self {
        Self::boots(&[
            "own_bios::linux_from_a_fat_disk_by_syslinux",
            "q35::our_bios_boots_linux_from_a_disk",
            "disks::debian_for_amd64_under_our_bios",
        ])
    }

    /// Tests of the program `guest`.
    fn boots(names: &[&str]) -> Self {
        let arguments = ["--include-ignored", "--exact", "--test-threads", "1"].iter().chain(names);
        Self {
            packages: vec!["tests".into()],
            programs: vec!["guest".into()],
            guests: true,
            arguments: arguments.map(|argument| (*argument).into()).collect(),
            ..Self::on_4k_pages()
        }
    }
}

/// The unpacked toolchain.
pub struct Toolchain {
    bin: PathBuf,
}

const fn request(name: &'static str, arch: &'static str, through: &'static [&'static str]) -> Request {
    Request { package: Package { name, arch }, through }
}

/// The compiler and the standard libraries of both architectures (build scripts and macros run here): one version.
const RUST: [Request; 5] = [
    request("rustc-web", "amd64", &[]),
    request("libstd-rust-web-dev", "amd64", &[]),
    request("libstd-rust-web-dev", "arm64", &[]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm"]),
];
/// Those of [`RUST`] whose versions must agree.
const SAME_VERSION: usize = 4;

const GCC: [Request; 8] = [
    request("gcc-aarch64-linux-gnu", "amd64", &["gcc-1"]),
    request("gcc-aarch64-linux-gnu", "amd64", &["gcc-1", "cpp-1"]),
    request("gcc-aarch64-linux-gnu", "amd64", &["gcc-1", "libgcc-1"]),
    request("binutils-aarch64-linux-gnu", "amd64", &[]),
    request("libgcc-s1-arm64-cross", "amd64", &[]),
    request("libc6-arm64-cross", "amd64", &[]),
    request("libc6-dev-arm64-cross", "amd64", &[]),
    request("linux-libc-dev-arm64-cross", "amd64", &[]),
];

const QEMU: Request = request("qemu-user-static", "amd64", &[]);
const QEMU_PROGRAM: &str = "qemu-aarch64-static";

/// Libraries of the compiler that a small machine may lack.
const LIBRARIES: [Request; 7] = [
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libz3"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libffi"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libedit"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libedit", "libbsd"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libedit", "libbsd", "libmd"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libxml2"]),
    request("libstd-rust-web-dev", "amd64", &["libstd-rust-web-1", "libllvm", "libxml2", "libicu"]),
];

/// Fetches and unpacks the toolchain unless it is there.
pub fn setup(again: bool) -> Result<Toolchain> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("the cross toolchain is for x86-64 Linux hosts; on an aarch64 host `cargo test` tests it");
    }
    let cache = Cache::open()?;
    let _lock = cache.lock("aarch64")?;
    let root = cache.folder().join("aarch64");
    let ready = root.join("ready");
    let toolchain = Toolchain { bin: root.join("bin") };
    if ready.exists() && !again {
        return Ok(toolchain);
    }
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    let labels = fetch(&cache, &root).context("the aarch64 toolchain")?;
    write_wrappers(&root, &toolchain.bin).context("the aarch64 toolchain")?;
    if !run::answers(toolchain.bin.join("rustc"), &["--version"]) {
        fetch_libraries(&cache, &root).context("libraries of the aarch64 toolchain")?;
    }
    try_out(&toolchain, &root).context("the unpacked aarch64 toolchain does not work here")?;
    // Last, so that a toolchain left half made is made anew.
    fs::write(&ready, labels).with_context(|| format!("cannot write {}", ready.display()))?;
    println!("aarch64 toolchain: {}", root.display());
    Ok(toolchain)
}

fn fetch(cache: &Cache, root: &Path) -> Result<String> {
    let requests = [&RUST[..], &GCC[..], &[QEMU]].concat();
    let client = PackageClient::new(cache, &requests)?;
    let mut fetched = client.fetch(&requests)?;
    let mixed = |fetched: &guests::packages::Downloads| {
        let mut versions: Vec<String> =
            fetched.iter().take(SAME_VERSION).map(|(info, _)| info.version.clone()).collect();
        versions.dedup();
        (versions.len() > 1).then(|| versions.join(" and "))
    };
    if mixed(&fetched).is_some() {
        client.forget_lists();
        drop(fetched);
        fetched = client.fetch(&requests)?;
    }
    if let Some(versions) = mixed(&fetched) {
        bail!(
            "the archive is being updated (rustc-web and its libraries have versions {versions}); try again later"
        );
    }
    let mut labels = String::new();
    let folders = [("rust", RUST.len()), ("gcc", GCC.len()), ("qemu", 1)];
    let folders = folders.into_iter().flat_map(|(part, count)| std::iter::repeat_n(root.join(part), count));
    for (folder, (info, deb)) in folders.zip(fetched.iter()) {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if info.name == QEMU.package.name {
            // One emulator of some forty that the package holds.
            let wanted = MemberPath { folders: &["usr/bin"], name: QEMU_PROGRAM, open_end: false };
            write_program(&folder.join(QEMU_PROGRAM), &read_member(&deb, info, wanted)?)?;
        } else {
            unpack(&deb, &folder)?;
        }
        labels += &info.label();
        labels.push('\n');
    }
    Ok(labels)
}

fn fetch_libraries(cache: &Cache, root: &Path) -> Result<()> {
    let client = PackageClient::new(cache, &LIBRARIES)?;
    for (_, deb) in client.fetch(&LIBRARIES)?.iter() {
        unpack(&deb, &root.join("rust"))?;
    }
    Ok(())
}

/// Compiles, links and runs a program by way of the wrappers.
fn try_out(toolchain: &Toolchain, root: &Path) -> Result<()> {
    let (source, program) = (root.join("try.rs"), root.join("try"));
    fs::write(&source, "fn main() { println!(\"{}\", std::env::consts::ARCH); }")?;
    let mut compile = Command::new(toolchain.bin.join("rustc"));
    compile
        .args(["--target", TRIPLE, "-C"])
        .arg(format!("linker={}", toolchain.bin.join("aarch64-gcc").display()));
    run::check(compile.arg(&source).arg("-o").arg(&program))?;
    let output = Command::new(toolchain.bin.join("run-aarch64")).arg(&program).output()?;
    if output.stdout.trim_ascii() != b"aarch64" {
        bail!("the emulated program failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::remove_file(&source)?;
    fs::remove_file(&program)?;
    Ok(())
}

fn write_program(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn write_wrappers(root: &Path, bin: &Path) -> Result<()> {
    let (rust, gcc, qemu) = (root.join("rust"), root.join("gcc"), root.join("qemu"));
    let compiler = versioned(&gcc.join("usr/bin"), "aarch64-linux-gnu-gcc-")?;
    let libraries = "usr/lib/x86_64-linux-gnu";
    fs::create_dir_all(bin).with_context(|| format!("cannot make {}", bin.display()))?;
    let write =
        |name: &str, text: String| write_program(&bin.join(name), format!("#!/bin/sh\n{text}\n").as_bytes());
    let (rust, gcc, qemu) = (rust.display(), gcc.display(), qemu.display());
    write("rustc", format!("LD_LIBRARY_PATH='{rust}/{libraries}' exec '{rust}/usr/bin/rustc' \"$@\""))?;
    write(
        "aarch64-gcc",
        format!("LD_LIBRARY_PATH='{gcc}/{libraries}' exec '{}' --sysroot='{gcc}' \"$@\"", compiler.display()),
    )?;
    // RETROGRADE_QEMU_USER is unquoted: options, split at blanks.
    write(
        "run-aarch64",
        format!("exec '{qemu}/{QEMU_PROGRAM}' -L '{gcc}/usr/aarch64-linux-gnu' $RETROGRADE_QEMU_USER \"$@\""),
    )
}

/// The program in `folder` whose name is `prefix` and a number.
fn versioned(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.pop().with_context(|| format!("no {prefix}N in {}", folder.display()))
}

/// `cargo` set up to build for, and run on, the emulated host.
fn cargo(toolchain: &Toolchain, options: &Options) -> Command {
    let bin = |name: &str| toolchain.bin.join(name);
    let mut command = run::cargo(&["test", "--profile", "ci", "--target", TRIPLE, "--no-fail-fast"]);
    // Without documentation tests: rustdoc would come from the other toolchain.
    if options.programs.is_empty() {
        command.args(["--lib", "--bins", "--tests"]);
    }
    for program in &options.programs {
        command.args(["--test", program]);
    }
    command.arg("--target-dir").arg(place::target().join("aarch64-host"));
    let mut emulator = format!("-p {}", options.page_size);
    if options.no_lse {
        emulator += " -cpu cortex-a53";
    }
    command
        .env("RUSTC", bin("rustc"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", bin("aarch64-gcc"))
        .env("CC_aarch64_unknown_linux_gnu", bin("aarch64-gcc"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", bin("run-aarch64"))
        .env("RETROGRADE_RUNNER", bin("run-aarch64"))
        .env("RETROGRADE_QEMU_USER", emulator)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS");
    if options.page_size != 4096 {
        // The emulator maps parts of files wrongly then: any program that collects a backtrace with symbols crashes.
        command.env("RUST_BACKTRACE", "0");
    }
    if std::env::var_os(ONE_IN).is_none() {
        command.env(ONE_IN, "2");
    }
    if options.guests {
        // The test may take the host's tools, as `syslinux`: these are not programs of the emulated host, and run as they are.
        command.env_remove(guests::NO_GUESTS);
    } else {
        command.env(guests::NO_GUESTS, "1").env_remove(guests::REQUIRE_GUESTS);
    }
    if options.packages.is_empty() {
        command.arg("--workspace");
    }
    for package in &options.packages {
        command.args(["--package", package]);
    }
    command.arg("--").args(&options.arguments);
    command
}

/// Runs the tests; the tally and whether cargo was content.
pub fn tally(options: &Options) -> Result<(Tally, bool)> {
    let toolchain = setup(false)?;
    let skip_log = Cache::open()?.folder().join(format!("skipped-aarch64-{}", std::process::id()));
    let (status, lines) = run::tee(cargo(&toolchain, options).env(guests::SKIP_LOG, &skip_log))?;
    let skips = fs::read_to_string(&skip_log).unwrap_or_default();
    let _ = fs::remove_file(&skip_log);
    Ok((Tally::of_output(&lines).less_skipped(skips.lines().count() as u64), status.success()))
}

pub fn test(options: &Options) -> Result<()> {
    let (tally, content) = tally(options)?;
    println!("{tally}");
    if !content {
        bail!("tests failed on the aarch64 host");
    }
    Ok(())
}
