//! Guests made from the distribution's packages: what `retrograde run debian` and the guest tests boot.
//!
//! Nothing that boots is kept in the repository. A kernel is taken byte for byte out of its Debian package, the
//! initramfs is written here around the package's static busybox, and both are kept in a cache whose manifest holds
//! their SHA-256. The package client (`apt-get`) does the fetching, with a state folder of its own inside the cache:
//! no root, no foreign architecture to enable, no change to the machine, and the client's own signature checks.
//!
//! Invariants: a path handed out has just been compared with the manifest; a file enters the cache by rename only,
//! so that a reader never sees half of one; every failure is one sentence ([`GuestError`]).

mod artifacts;
pub mod cache;
pub mod disks;
pub mod initramfs;
pub mod packages;

use std::io;
use std::path::{Path, PathBuf};

pub use artifacts::*;
pub use cache::Cache;
pub use disks::Disk;
pub use packages::{Package, PackageClient, Request};

/// Why a guest could not be had. Each message is one sentence for the user, without a trailing full stop.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Neither `RETROGRADE_CACHE`, `XDG_CACHE_HOME` nor `HOME` names a folder.
    #[error("no folder for the cache: set RETROGRADE_CACHE to one that can be written")]
    NoCacheFolder,
    /// A file or folder of the cache could not be used.
    #[error("cannot {doing} {}: {problem}", path.display())]
    Io {
        /// What was tried, as a verb: "write".
        doing: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// The operating system's answer.
        problem: io::Error,
    },
    /// The host has no `apt-get`.
    #[error("{wanted} is not in the cache and this host has no apt-get to fetch it with")]
    NoPackageClient {
        /// The package that was to be fetched.
        wanted: String,
    },
    /// No network, a proxy that refuses, or an archive that is down.
    #[error("{wanted} is not in the cache ({}) and the package archive cannot be reached ({detail})", cache.display())]
    Offline {
        /// The package that was to be fetched.
        wanted: String,
        /// The cache that lacks it.
        cache: PathBuf,
        /// The package client's first complaint.
        detail: String,
    },
    /// The machine's package sources do not hold the package.
    #[error("this machine's package sources offer no {package} for {arch} (Debian 12's do)")]
    NotOffered {
        /// Package name.
        package: String,
        /// Debian architecture name.
        arch: String,
    },
    /// `apt-get` or `dpkg-deb` failed for another reason.
    #[error("{program} failed: {detail}")]
    Client {
        /// The program.
        program: &'static str,
        /// Its first complaint.
        detail: String,
    },
    /// A fetched package is not what its index promised, or lacks the file wanted from it.
    #[error("package {package}: {problem}")]
    BadPackage {
        /// Package name and version.
        package: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl GuestError {
    /// What the user can do about it, to follow the message after "; ".
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Offline { .. } => Some("go online once, or pass your own files with -kernel and -initrd"),
            Self::NoPackageClient { .. } | Self::NotOffered { .. } => {
                Some("pass your own files with -kernel and -initrd")
            }
            Self::NoCacheFolder | Self::Io { .. } | Self::Client { .. } | Self::BadPackage { .. } => None,
        }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GuestError {
        let path = path.to_path_buf();
        move |problem| GuestError::Io { doing, path, problem }
    }
}

/// Where an [`Artifact`] comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// One file out of a package.
    Member {
        /// The package.
        request: Request,
        /// The path in the package: the text before and after what varies (a version).
        path: MemberPath,
    },
    /// The initramfs around another artifact, a static busybox.
    Initramfs {
        /// The busybox.
        busybox: &'static Artifact,
    },
}

/// A path inside a package, of which only the beginning of the file name is fixed.
#[derive(Clone, Copy, Debug)]
pub struct MemberPath {
    /// Folders that may hold it, without leading "./".
    pub folders: &'static [&'static str],
    /// How its name begins; the rest is a kernel version or nothing.
    pub name: &'static str,
    /// Whether anything may follow `name`.
    pub open_end: bool,
}

impl MemberPath {
    /// Whether `path`, as the package's archive spells it, is the one wanted.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = path.trim_start_matches("./");
        let Some((folder, name)) = path.rsplit_once('/') else { return false };
        let named = if self.open_end { name.starts_with(self.name) } else { name == self.name };
        named && self.folders.contains(&folder)
    }
}

/// A file of the cache and how it is made.
#[derive(Clone, Copy, Debug)]
pub struct Artifact {
    /// File name in the cache.
    pub name: &'static str,
    /// Where it comes from.
    pub origin: Origin,
}

/// Paths of `wanted`, in the same order, fetching what the cache lacks. With everything cached no program is started
/// and no network is needed.
///
/// # Errors
/// [`GuestError`], one sentence each.
pub fn obtain(cache: &Cache, wanted: &[&Artifact]) -> Result<Vec<PathBuf>, GuestError> {
    // One fetcher at a time: a second process waits, then finds everything there.
    let mut lock = None;
    wanted
        .iter()
        .map(|artifact| match current(cache, artifact)? {
            Some(path) => Ok(path),
            None => {
                if lock.is_none() {
                    lock = Some(cache.lock("fetch")?);
                    packages_of(cache, wanted)?;
                }
                make(cache, artifact)
            }
        })
        .collect()
}

/// Downloads the packages of all missing artifacts in one go and puts their members into the cache.
fn packages_of(cache: &Cache, wanted: &[&Artifact]) -> Result<(), GuestError> {
    let mut jobs = Vec::new();
    for artifact in wanted {
        let member = match artifact.origin {
            Origin::Initramfs { busybox } if current(cache, artifact)?.is_none() => busybox,
            Origin::Initramfs { .. } => continue,
            Origin::Member { .. } => artifact,
        };
        if let Origin::Member { request, path } = member.origin
            && cache.verified(member.name)?.is_none()
        {
            jobs.push((member.name, request, path));
        }
    }
    let requests: Vec<Request> = jobs.iter().map(|job| job.1).collect();
    if requests.is_empty() {
        return Ok(());
    }
    let client = PackageClient::new(cache, &requests)?;
    let fetched = client.fetch(&requests)?;
    for ((name, _, path), (info, deb)) in jobs.iter().zip(fetched.iter()) {
        let bytes = packages::read_member(&deb, info, *path)?;
        cache.store(name, &info.label(), &bytes)?;
    }
    Ok(())
}

/// The cached artifact, unless it is absent, damaged, or made by another recipe than today's.
fn current(cache: &Cache, artifact: &Artifact) -> Result<Option<PathBuf>, GuestError> {
    let found = cache.verified_with_origin(artifact.name)?;
    Ok(match artifact.origin {
        Origin::Member { .. } => found.map(|(path, _)| path),
        Origin::Initramfs { busybox } => {
            let label = initramfs_label(busybox)?;
            found.filter(|(_, origin)| *origin == label).map(|(path, _)| path)
        }
    })
}

fn initramfs_label(busybox: &Artifact) -> Result<String, GuestError> {
    let hash = cache::sha256_of(initramfs::recipe().as_bytes());
    let hash = hash.map_err(GuestError::io("hash", Path::new("init")))?;
    Ok(format!("{} and script {}", busybox.name, &hash[..16]))
}

fn make(cache: &Cache, artifact: &Artifact) -> Result<PathBuf, GuestError> {
    if let Some(path) = current(cache, artifact)? {
        return Ok(path);
    }
    match artifact.origin {
        Origin::Initramfs { busybox } => {
            let path = make(cache, busybox)?;
            let bytes = std::fs::read(&path).map_err(GuestError::io("read", &path))?;
            let image =
                initramfs::build(&bytes, None).map_err(GuestError::io("build", Path::new(artifact.name)))?;
            cache.store(artifact.name, &initramfs_label(busybox)?, &image)
        }
        Origin::Member { request, .. } => Err(GuestError::BadPackage {
            package: request.package.name.into(),
            problem: format!("{} was fetched but is not in the cache", artifact.name),
        }),
    }
}

/// What `retrograde run debian` boots.
#[derive(Clone, Debug)]
pub struct DebianGuest {
    /// The packaged kernel, a bzImage.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// Kernel command line for a shell on the serial console.
    pub append: &'static str,
}

/// Debian's kernel and a busybox shell, fetched on first use.
///
/// # Errors
/// [`GuestError`]; offline and without a cache it is [`GuestError::Offline`].
pub fn debian(cache: &Cache) -> Result<DebianGuest, GuestError> {
    let paths = obtain(cache, &CORE)?;
    let [kernel, initrd] = <[PathBuf; 2]>::try_from(paths).expect("one path for each artifact asked for");
    Ok(DebianGuest { kernel, initrd, append: "console=ttyS0 quiet wl=shell" })
}

/// Set by the test runner: a test whose core guest is missing fails instead of being skipped.
pub const REQUIRE_GUESTS: &str = "RETROGRADE_REQUIRE_GUESTS";
/// Set by the test runner: a file to which each skipped guest test appends one line.
pub const SKIP_LOG: &str = "RETROGRADE_SKIP_LOG";
/// Set by the test runner where guests would take too long (a host that is itself emulated): all are skipped.
pub const NO_GUESTS: &str = "RETROGRADE_NO_GUESTS";

/// The artifact for a test, which never fetches. `None`: the test says so by returning; the skip is written down for
/// the runner (see [`SKIP_LOG`]).
///
/// # Panics
/// When the artifact is a [`CORE`] one and the runner asked for those ([`REQUIRE_GUESTS`]).
#[must_use]
pub fn for_test(artifact: &Artifact) -> Option<PathBuf> {
    let found = looked_up(|cache| current(cache, artifact), "not fetched (cargo xtask guests --set all)");
    let why = match found {
        Ok(path) => return Some(path),
        Err(why) => why,
    };
    let core = CORE.iter().any(|known| known.name == artifact.name);
    assert!(
        !(core && std::env::var_os(REQUIRE_GUESTS).is_some()),
        "the core guest {} is missing: {why}",
        artifact.name
    );
    skip(artifact.name, &why);
    None
}

/// What a test finds in the cache, or why it does without; `missing` says how to get it.
fn looked_up(
    look_up: impl FnOnce(&Cache) -> Result<Option<PathBuf>, GuestError>,
    missing: &str,
) -> Result<PathBuf, String> {
    if std::env::var_os(NO_GUESTS).is_some() {
        return Err("guests are left out on this host".to_owned());
    }
    match Cache::open().and_then(|cache| look_up(&cache)) {
        Ok(found) => found.ok_or_else(|| missing.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Says that the running test is skipped because it lacks `what`, on standard error and for the runner (see [`SKIP_LOG`]).
pub fn skip(what: &str, why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped {test}: {what} {why}");
    if let Some(log) = std::env::var_os(SKIP_LOG) {
        use std::io::Write;
        let line = format!("{test}\t{what}\t{why}\n");
        // A log that cannot be written costs a line in the summary, not the test.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_match_in_their_folder_only() {
        let Origin::Member { path, .. } = KERNEL_AMD64.origin else { panic!("a kernel is a member") };
        assert!(path.matches("./boot/vmlinuz-6.1.0-50-amd64"));
        assert!(!path.matches("./boot/config-6.1.0-50-amd64"));
        assert!(!path.matches("./usr/share/vmlinuz-6.1"));
        let Origin::Member { path, .. } = BUSYBOX_AMD64.origin else { panic!("busybox is a member") };
        assert!(path.matches("./bin/busybox"));
        assert!(path.matches("./usr/bin/busybox"));
        assert!(!path.matches("./usr/share/initramfs-tools/conf-hooks.d/busybox"));
    }

    fn scratch(name: &str) -> Cache {
        let folder = std::env::temp_dir().join(format!("retrograde-guests-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Cache::open_at(folder).expect("a folder in the temporary folder")
    }

    #[test]
    fn what_is_cached_needs_no_client() {
        let cache = scratch("cached");
        cache.store(KERNEL_CLOUD_AMD64.name, "a test", b"kernel").expect("stored");
        cache.store(BUSYBOX_AMD64.name, "a test", b"busybox").expect("stored");
        let guest = debian(&cache).expect("made from the cache alone");
        assert_eq!(guest.kernel, cache.folder().join("vmlinuz-cloud-amd64"));
        let first = std::fs::read(&guest.initrd).expect("readable");
        // An image of an older script is replaced.
        cache
            .store(INITRAMFS_AMD64.name, "busybox-amd64 and script 0000000000000000", b"old")
            .expect("stored");
        let guest = debian(&cache).expect("made from the cache alone");
        assert_eq!(std::fs::read(&guest.initrd).expect("readable"), first);
        std::fs::remove_dir_all(cache.folder()).expect("removed");
    }

    #[test]
    fn being_offline_is_said_in_one_sentence() {
        let error = GuestError::Offline {
            wanted: "linux-image-cloud-amd64".into(),
            cache: "/c".into(),
            detail: "no route".into(),
        };
        let sentence = format!("{error}; {}", error.remedy().expect("there is something to do"));
        assert_eq!(
            sentence,
            "linux-image-cloud-amd64 is not in the cache (/c) and the package archive cannot be reached (no route); \
             go online once, or pass your own files with -kernel and -initrd"
        );
    }
}
