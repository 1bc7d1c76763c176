//! The folder of fetched files and its manifest.
//!
//! The manifest is `SHA256SUMS`, readable by `sha256sum -c`: before each line of hash and name stands a comment with
//! the file's origin. A file is handed out only after it was compared with its hash; one that differs (a full disk,
//! a curious user) counts as absent and is fetched again. Writers hold `manifest.lock`; readers need no lock, because
//! files and manifest change by rename.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::GuestError;

const MANIFEST: &str = "SHA256SUMS";

/// A cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// Held while one process changes the cache; released on drop.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    sha256: String,
    origin: String,
}

impl Cache {
    /// The user's cache: `RETROGRADE_CACHE`, else `retrograde` in the XDG cache folder.
    ///
    /// # Errors
    /// No such folder can be named, or it cannot be made.
    pub fn open() -> Result<Self, GuestError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("RETROGRADE_CACHE")
            .or_else(|| {
                set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("retrograde"))
            })
            .or_else(|| set("HOME").map(|home| home.join(".cache/retrograde")))
            .ok_or(GuestError::NoCacheFolder)?;
        Self::open_at(folder)
    }

    /// The cache in `folder`, made if need be.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open_at(folder: PathBuf) -> Result<Self, GuestError> {
        fs::create_dir_all(&folder).map_err(GuestError::io("make the folder", &folder))?;
        let folder = fs::canonicalize(&folder).map_err(GuestError::io("open", &folder))?;
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for other processes that hold `name`, then holds it.
    ///
    /// # Errors
    /// The lock file cannot be made or locked.
    pub fn lock(&self, name: &str) -> Result<CacheLock, GuestError> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(GuestError::io("write", &path))?;
        file.lock().map_err(GuestError::io("lock", &path))?;
        Ok(CacheLock { _file: file })
    }

    /// The path of `name` if it is there and has the manifest's hash.
    ///
    /// # Errors
    /// The manifest or the file is there but cannot be read.
    pub fn verified(&self, name: &str) -> Result<Option<PathBuf>, GuestError> {
        Ok(self.verified_with_origin(name)?.map(|(path, _)| path))
    }

    /// Like [`Self::verified`], with the origin that was stored with it.
    ///
    /// # Errors
    /// The manifest or the file is there but cannot be read.
    pub fn verified_with_origin(&self, name: &str) -> Result<Option<(PathBuf, String)>, GuestError> {
        let Some(entry) = self.manifest()?.into_iter().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        let path = self.folder.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(problem) => return Err(GuestError::Io { doing: "open", path, problem }),
        };
        let found = sha256_of(file).map_err(GuestError::io("read", &path))?;
        Ok((found == entry.sha256).then_some((path, entry.origin)))
    }

    /// Puts `bytes` into the cache under `name`.
    ///
    /// # Errors
    /// The file or the manifest cannot be written.
    pub fn store(&self, name: &str, origin: &str, bytes: &[u8]) -> Result<PathBuf, GuestError> {
        let _lock = self.lock("manifest")?;
        let path = self.folder.join(name);
        self.replace(name, bytes)?;
        let sha256 = sha256_of(bytes).map_err(GuestError::io("hash", &path))?;
        self.enter(name, origin, sha256)?;
        Ok(path)
    }

    /// Takes a file that was made in the cache's folder under another name, and may have holes, as `name`.
    ///
    /// # Errors
    /// The file cannot be read or renamed, or the manifest cannot be written.
    pub fn adopt(&self, name: &str, origin: &str, made: &Path) -> Result<PathBuf, GuestError> {
        let _lock = self.lock("manifest")?;
        let path = self.folder.join(name);
        let hashed = File::open(made).and_then(|file| {
            file.sync_all()?;
            sha256_of(file)
        });
        let sha256 = hashed.map_err(GuestError::io("read", made))?;
        fs::rename(made, &path).map_err(GuestError::io("write", &path))?;
        self.enter(name, origin, sha256)?;
        Ok(path)
    }

    /// Writes the manifest's entry. Called under the manifest lock.
    fn enter(&self, name: &str, origin: &str, sha256: String) -> Result<(), GuestError> {
        let mut entries = self.manifest()?;
        entries.retain(|entry| entry.name != name);
        entries.push(Entry { name: name.into(), sha256, origin: origin.replace('\n', " ") });
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let text: String = entries
            .iter()
            .map(|entry| format!("# {}: {}\n{}  {}\n", entry.name, entry.origin, entry.sha256, entry.name))
            .collect();
        self.replace(MANIFEST, text.as_bytes())
    }

    fn manifest(&self) -> Result<Vec<Entry>, GuestError> {
        let path = self.folder.join(MANIFEST);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(parse_manifest(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(problem) => Err(GuestError::Io { doing: "read", path, problem }),
        }
    }

    /// Write beside, then rename: a reader sees the old file or the new one. Called under the manifest lock.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), GuestError> {
        let path = self.folder.join(name);
        let beside = self.folder.join(format!("{name}.new"));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|problem| {
            let _ = fs::remove_file(&beside);
            GuestError::Io { doing: "write", path: path.clone(), problem }
        })
    }
}

/// Lines that are no entry are passed over: the worst outcome is that a file is fetched again.
fn parse_manifest(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut comment = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            comment = rest;
            continue;
        }
        if let Some((sha256, name)) = line.split_once("  ")
            && sha256.len() == 64
        {
            let origin =
                comment.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or_default();
            entries.push(Entry { name: name.into(), sha256: sha256.into(), origin: origin.into() });
        }
        comment = "";
    }
    entries
}

/// SHA-256 in lower-case hex.
///
/// # Errors
/// Those of reading.
pub fn sha256_of(mut from: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut from, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Cache {
        let folder = std::env::temp_dir().join(format!("retrograde-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Cache::open_at(folder).expect("a folder in the temporary folder")
    }

    #[test]
    fn a_stored_file_is_found_and_a_changed_one_is_not() {
        let cache = scratch("changed");
        assert_eq!(cache.verified("a").expect("an empty cache is fine"), None);
        let path = cache.store("a", "made: by a\ntest", b"abc").expect("stored");
        cache.store("b", "too", b"").expect("stored");
        let (found, origin) = cache.verified_with_origin("a").expect("readable").expect("there");
        assert_eq!((found, origin.as_str()), (path.clone(), "made: by a test"));
        fs::write(&path, b"abd").expect("written");
        assert_eq!(cache.verified("a").expect("readable"), None);
        fs::remove_file(&path).expect("removed");
        assert_eq!(cache.verified("a").expect("readable"), None);
        cache.store("a", "again", b"abc").expect("stored");
        assert!(cache.verified("a").expect("readable").is_some());
        assert!(cache.verified("b").expect("readable").is_some());
        fs::remove_dir_all(cache.folder()).expect("removed");
    }

    #[test]
    fn a_file_made_beside_is_adopted() {
        let cache = scratch("adopted");
        let made = cache.folder().join("made");
        fs::write(&made, b"image").expect("written");
        cache.store("a", "a test", b"abc").expect("stored");
        let path = cache.adopt("image", "a recipe", &made).expect("adopted");
        assert_eq!(fs::read(&path).expect("readable"), b"image");
        assert!(!made.exists());
        let found = cache.verified_with_origin("image").expect("readable");
        assert_eq!(found, Some((path.clone(), "a recipe".into())));
        assert!(cache.verified("a").expect("readable").is_some(), "the other entry stays");
        fs::write(&path, b"imagf").expect("written");
        assert_eq!(cache.verified("image").expect("readable"), None);
        assert!(cache.adopt("image", "a recipe", &made).is_err(), "nothing was made");
        fs::remove_dir_all(cache.folder()).expect("removed");
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        let abc = sha256_of(&b"abc"[..]).expect("memory reads");
        assert_eq!(abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_damaged_manifest_is_an_emptier_one() {
        assert_eq!(parse_manifest("garbage\n\u{0}\n# x\n1234  a\n"), []);
    }
}
