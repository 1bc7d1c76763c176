//! Packages, by the distribution's own client.
//!
//! Requirement: fetch packages of any architecture on any Debian host, without root and without touching the machine's
//! package state. Solution: `apt-get` and `apt-cache` with a configuration file that moves state and cache into our
//! folder, names the architectures, and drops the hooks meant for the machine's own state; the machine's sources,
//! proxies and signing keys stay in force. Limitation: no Debian-like host, no packages ([`GuestError::NoPackageClient`]).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};

use super::cache::{self, Cache, CacheLock};
use super::{GuestError, MemberPath};

/// Package lists older than this are fetched again before anything is looked up.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
/// How often the lists are fetched before a missing package counts as missing.
const ATTEMPTS: u64 = 3;
/// Parts of the client's complaints that no second attempt will mend.
const NO_NETWORK: [&str; 4] = ["resolving", "resolve", "unreachable", "refused"];

/// A package to look up.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Debian architecture: "amd64", "i386", "arm64". Packages for all architectures are found under each.
    pub arch: &'static str,
}

/// A package as the index describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageInfo {
    /// Its name.
    pub name: String,
    /// Its version, with epoch.
    pub version: String,
    /// Its architecture, possibly "all".
    pub arch: String,
    /// Bytes to download.
    pub size: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// What it depends on, as the index spells it.
    pub depends: String,
}

impl PackageInfo {
    /// "name version architecture".
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {} {}", self.name, self.version, self.arch)
    }

    /// The file name that `apt-get download` gives it: the epoch's colon is escaped.
    fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.arch)
    }

    /// Reads one stanza of `apt-cache show`.
    fn parse(stanza: &str) -> Option<Self> {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
        };
        Some(Self {
            name: field("Package")?,
            version: field("Version")?,
            arch: field("Architecture")?,
            size: field("Size")?.parse().ok()?,
            sha256: field("SHA256")?,
            depends: field("Depends").unwrap_or_default(),
        })
    }

    /// The first dependency whose name begins with `prefix`.
    fn dependency(&self, prefix: &str) -> Option<&str> {
        self.depends
            .split([',', '|'])
            .filter_map(|alternative| alternative.split_whitespace().next())
            .find(|name| name.starts_with(prefix))
    }
}

/// What to look up.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The package.
    pub package: Package,
    /// Not it is wanted but a package that it depends on, by the beginnings of names, step by step: `linux-image-amd64`
    /// holds nothing and depends on the current kernel's package, whose name has a version in it.
    pub through: &'static [&'static str],
}

/// Downloaded packages; the files go away with it.
#[derive(Debug)]
pub struct Downloads {
    folder: PathBuf,
    packages: Vec<PackageInfo>,
}

impl Downloads {
    /// Each package with its file, in the order of the requests.
    pub fn iter(&self) -> impl Iterator<Item = (&PackageInfo, PathBuf)> {
        self.packages.iter().map(|info| (info, self.folder.join(info.file_name())))
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        // What stays behind is replaced by the next download.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The package client with its private state.
#[derive(Debug)]
pub struct PackageClient {
    root: PathBuf,
    config: PathBuf,
    cache: PathBuf,
    /// The state folder is for one client at a time.
    _lock: CacheLock,
}

impl PackageClient {
    /// Sets the client up inside `cache`, for packages of the given architectures.
    ///
    /// # Errors
    /// [`GuestError::NoPackageClient`], or the cache cannot be written.
    pub fn new(cache: &Cache, requests: &[Request]) -> Result<Self, GuestError> {
        let mut architectures: Vec<&str> = requests.iter().map(|request| request.package.arch).collect();
        architectures.sort_unstable();
        architectures.dedup();
        let there = |program: &str| {
            let probe =
                Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            probe.is_ok_and(|status| status.success())
        };
        if !(there("apt-get") && there("dpkg-deb")) {
            let wanted = requests.first().map_or("a package", |request| request.package.name);
            return Err(GuestError::NoPackageClient { wanted: wanted.into() });
        }
        // Lists are kept for exactly the architectures of one state folder: a client of another set would drop them.
        let name = format!("apt-{}", architectures.join("-"));
        let lock = cache.lock(&name)?;
        let root = cache.folder().join(&name);
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(GuestError::io("make the folder", &folder))?;
        }
        let status = root.join("status");
        fs::write(&status, "").map_err(GuestError::io("write", &status))?;
        let config = root.join("apt.conf");
        fs::write(&config, configuration(&root, &architectures)).map_err(GuestError::io("write", &config))?;
        Ok(Self { root, config, cache: cache.folder().to_path_buf(), _lock: lock })
    }

    /// Looks up and downloads `requests`, with a progress bar where standard error is a terminal. Lists that have
    /// aged since they were fetched may name files that the archive no longer holds: then all of it runs once more
    /// with new lists.
    ///
    /// # Errors
    /// [`GuestError::Offline`], [`GuestError::NotOffered`], [`GuestError::BadPackage`], or the cache cannot be written.
    pub fn fetch(&self, requests: &[Request]) -> Result<Downloads, GuestError> {
        let refreshed = !self.lists_are_fresh();
        match self.resolve(requests).and_then(|packages| self.download(packages)) {
            Err(GuestError::Offline { .. } | GuestError::BadPackage { .. }) if !refreshed => {
                self.forget_lists();
                self.resolve(requests).and_then(|packages| self.download(packages))
            }
            outcome => outcome,
        }
    }

    /// The index entries of `requests`, after fetching the lists if they are old or lack one.
    fn resolve(&self, requests: &[Request]) -> Result<Vec<PackageInfo>, GuestError> {
        let mut trouble = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 || !self.lists_are_fresh() {
                // An archive in the middle of an update answers properly a little later.
                std::thread::sleep(Duration::from_secs(attempt.saturating_sub(1) * 5));
                trouble = self.refresh()?;
            }
            let found: Result<Vec<_>, GuestError> =
                requests.iter().map(|request| self.look_up(request)).collect();
            let offline = trouble
                .as_deref()
                .is_some_and(|reason: &str| NO_NETWORK.iter().any(|sign| reason.contains(sign)));
            match found {
                // A list that is missing may be the one with the newest version, so try to get it; but not for ever.
                Ok(found) if trouble.is_none() || offline || attempt + 1 == ATTEMPTS => return Ok(found),
                Err(GuestError::NotOffered { package, arch }) if offline || attempt + 1 == ATTEMPTS => {
                    let cache = self.cache.clone();
                    return Err(match trouble {
                        Some(detail) => GuestError::Offline { wanted: package, cache, detail },
                        None => GuestError::NotOffered { package, arch },
                    });
                }
                Ok(_) | Err(GuestError::NotOffered { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn look_up(&self, request: &Request) -> Result<PackageInfo, GuestError> {
        let Package { name, arch } = request.package;
        let missing = |name: &str| GuestError::NotOffered { package: name.into(), arch: arch.into() };
        let mut info = self.show(name, arch)?.ok_or_else(|| missing(name))?;
        for prefix in request.through {
            let next = info.dependency(prefix).ok_or_else(|| missing(prefix))?;
            info = self.show(next, arch)?.ok_or_else(|| missing(next))?;
        }
        Ok(info)
    }

    /// Downloads packages and checks their hashes.
    fn download(&self, packages: Vec<PackageInfo>) -> Result<Downloads, GuestError> {
        // The lock makes this folder ours; one that was left by an interrupted run goes.
        let folder = self.root.join("download");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(GuestError::io("make the folder", &folder))?;
        let downloads = Downloads { folder, packages };
        let mut arguments = vec!["download".to_owned()];
        let mut total = 0;
        for (info, _) in downloads.iter() {
            let argument = format!("{}:{}={}", info.name, info.arch, info.version);
            // The same package may be wanted twice, for two of its files.
            if !arguments.contains(&argument) {
                arguments.push(argument);
                total += info.size;
            }
        }
        let output = self.watched(&arguments, &downloads.folder, total)?;
        for (info, file) in downloads.iter() {
            let opened = File::open(&file).map_err(|_| GuestError::Offline {
                wanted: info.name.clone(),
                cache: self.cache.clone(),
                detail: complaint(&output).unwrap_or_else(|| "nothing was downloaded".into()),
            })?;
            let found = cache::sha256_of(opened).map_err(GuestError::io("read", &file))?;
            if found != info.sha256 {
                let problem = "the download differs from the index's checksum; try again".into();
                return Err(GuestError::BadPackage { package: info.label(), problem });
            }
        }
        Ok(downloads)
    }

    /// Fetches the package lists; `Some(complaint)` if a list could not be had, which matters only when a package is
    /// then missing.
    fn refresh(&self) -> Result<Option<String>, GuestError> {
        let bar = ProgressBar::new_spinner().with_message("fetching package lists");
        bar.enable_steady_tick(Duration::from_millis(100));
        let output = self.run("apt-get", &["update".to_owned()], &self.root)?;
        bar.finish_and_clear();
        let trouble = complaint(&output);
        if trouble.is_none() {
            let stamp = self.root.join("lists-fetched");
            fs::write(&stamp, "").map_err(GuestError::io("write", &stamp))?;
        }
        Ok(trouble)
    }

    /// Makes the next look-up fetch the lists first.
    pub fn forget_lists(&self) {
        // If the stamp cannot be removed, the lists stay as they are until they age.
        let _ = fs::remove_file(self.root.join("lists-fetched"));
    }

    fn lists_are_fresh(&self) -> bool {
        let fetched = fs::metadata(self.root.join("lists-fetched")).and_then(|stamp| stamp.modified());
        fetched.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < LISTS_AGE))
    }

    fn show(&self, name: &str, arch: &str) -> Result<Option<PackageInfo>, GuestError> {
        let query = ["show".into(), "--no-all-versions".into(), format!("{name}:{arch}")];
        let output = self.run("apt-cache", &query, &self.root)?;
        Ok(output.split("\n\n").find_map(PackageInfo::parse))
    }

    fn command(&self, program: &'static str, arguments: &[String], folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).args(arguments).current_dir(folder);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    }

    /// Standard output and error of a run; whether it worked shows in what it leaves behind.
    fn run(&self, program: &'static str, arguments: &[String], folder: &Path) -> Result<String, GuestError> {
        let output = self
            .command(program, arguments, folder)
            .output()
            .map_err(|error| GuestError::Client { program, detail: error.to_string() })?;
        Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n"))
    }

    /// Runs a download while its folder's growth moves a progress bar.
    fn watched(&self, arguments: &[String], folder: &Path, total: u64) -> Result<String, GuestError> {
        let program = "apt-get";
        let failed = |error: std::io::Error| GuestError::Client { program, detail: error.to_string() };
        let log = folder.join("log");
        let output = File::create(&log).map_err(GuestError::io("write", &log))?;
        let errors = output.try_clone().map_err(GuestError::io("write", &log))?;
        let mut child =
            self.command(program, arguments, folder).stdout(output).stderr(errors).spawn().map_err(failed)?;
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("fetching packages {wide_bar} {bytes}/{total_bytes} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        while child.try_wait().map_err(failed)?.is_none() {
            bar.set_position(folder_size(folder).min(total));
            std::thread::sleep(Duration::from_millis(50));
        }
        bar.finish_and_clear();
        let text = fs::read(&log).map_err(GuestError::io("read", &log))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn configuration(root: &Path, architectures: &[&str]) -> String {
    let root = root.display();
    let native = architectures.first().copied().unwrap_or("amd64");
    let all: String = architectures.iter().map(|arch| format!("\"{arch}\"; ")).collect();
    // "#clear" because lists given twice add up. The sandbox user of a client run by root cannot write to our folder.
    format!(
        "Dir::State \"{root}/state\";\nDir::State::status \"{root}/status\";\nDir::Cache \"{root}/cache\";\n\
         APT::Architecture \"{native}\";\n#clear APT::Architectures;\nAPT::Architectures {{ {all}}};\n\
         #clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear APT::Update::Pre-Invoke;\n\
         APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::GzipIndexes \"true\";\n\
         Acquire::Retries \"2\";\n\
         Acquire::http::Timeout \"30\";\nAcquire::https::Timeout \"30\";\n"
    )
}

fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// The first complaint in the client's output, shortened to one line.
fn complaint(output: &str) -> Option<String> {
    let line =
        output.lines().find(|line| line.starts_with("E: ") || line.starts_with("W: Failed to fetch"))?;
    let text = line.trim_start_matches("E: ").trim_start_matches("W: ").trim();
    // "Failed to fetch ADDRESS  REASON": the reason alone says more.
    let reason = text.split_once("  ").map_or(text, |(_, reason)| reason.trim());
    Some(reason.trim_end_matches('.').to_owned())
}

/// The bytes of one file in a package.
///
/// # Errors
/// The package cannot be unpacked, or holds no such file.
pub fn read_member(deb: &Path, info: &PackageInfo, wanted: MemberPath) -> Result<Vec<u8>, GuestError> {
    let bad = |problem: String| GuestError::BadPackage { package: info.label(), problem };
    let failed =
        |error: std::io::Error| GuestError::Client { program: "dpkg-deb", detail: error.to_string() };
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let stream = child.stdout.take().expect("standard output is a pipe");
    let found = find_member(stream, wanted);
    // The stream was dropped, perhaps early: the unpacker ends by itself, and how it ends says nothing.
    child.wait().map_err(failed)?;
    match found {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(bad(format!("holds no {}* in {}", wanted.name, wanted.folders.join(", ")))),
        Err(error) => Err(bad(format!("cannot be unpacked: {error}"))),
    }
}

fn find_member(stream: impl Read, wanted: MemberPath) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let is_it = entry.header().entry_type().is_file()
            && entry.path()?.to_str().is_some_and(|path| wanted.matches(path));
        if is_it {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Unpacks a whole package under `root`, as if installed there.
///
/// # Errors
/// `dpkg-deb` fails.
pub fn unpack(deb: &Path, root: &Path) -> Result<(), GuestError> {
    let program = "dpkg-deb";
    let output = Command::new(program).arg("-x").arg(deb).arg(root).stdin(Stdio::null()).output();
    let output = output.map_err(|error| GuestError::Client { program, detail: error.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let detail = errors.lines().next().unwrap_or("it gave no reason").to_owned();
    Err(GuestError::Client { program, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZA: &str = "Package: linux-image-amd64\nArchitecture: amd64\nVersion: 1:6.1-2\nDepends: x | y, \
                          linux-image-6.1.0-50-amd64 (= 6.1.176-1)\nSize: 1484\nSHA256: 00ff\nDescription: a\n more\n";

    #[test]
    fn an_index_entry_is_read() {
        let info = PackageInfo::parse(STANZA).expect("complete");
        assert_eq!(info.size, 1484);
        assert_eq!(info.file_name(), "linux-image-amd64_1%3a6.1-2_amd64.deb");
        assert_eq!(info.dependency("linux-image-"), Some("linux-image-6.1.0-50-amd64"));
        assert_eq!(info.dependency("nothing-"), None);
        assert_eq!(PackageInfo::parse("Package: a\n"), None);
    }

    #[test]
    fn the_reason_is_taken_from_the_clients_output() {
        let output =
            "Err:1 x\nW: Failed to fetch somewhere/InRelease  Temporary failure resolving 'somewhere'\n";
        assert_eq!(complaint(output).as_deref(), Some("Temporary failure resolving 'somewhere'"));
        assert_eq!(complaint("E: Unable to locate package x").as_deref(), Some("Unable to locate package x"));
        assert_eq!(complaint("Get:1 fine"), None);
    }

    #[test]
    fn a_member_is_found_in_an_archive() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in [("./boot/config-6", "no"), ("./boot/vmlinuz-6", "yes")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).expect("appended");
        }
        let archive = builder.into_inner().expect("finished");
        let wanted = MemberPath { folders: &["boot"], name: "vmlinuz-", open_end: true };
        assert_eq!(find_member(&archive[..], wanted).expect("readable").as_deref(), Some(&b"yes"[..]));
        let wanted = MemberPath { folders: &["boot"], name: "other", open_end: false };
        assert_eq!(find_member(&archive[..], wanted).expect("readable"), None);
        assert!(find_member(&archive[..700], wanted).is_err());
    }
}
