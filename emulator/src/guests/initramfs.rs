//! The initramfs: a cpio archive ("newc", Linux Documentation/driver-api/early-userspace/buffer-format) with a static
//! busybox and an `/init` script.
//!
//! `/init` prints kernel, processor and uptime, then [`MARKER`], then powers off; with `wl=shell` on the kernel
//! command line it starts a shell instead and powers off when that ends. The archive depends on its inputs alone (no
//! times, no inode numbers of the host), so that its hash does too.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

/// What a booted guest prints when user space works.
pub const MARKER: &str = "RETRO-BOOT-OK";

const INIT_HEAD: &str = r#"#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
exec >/dev/console 2>&1 </dev/console
/bin/busybox uname -a
/bin/busybox grep -m1 'model name' /proc/cpuinfo
read up idle </proc/uptime; echo "RETRO-UPTIME $up"
"#;

const INIT_TAIL: &str = r#"echo "RETRO-BOOT-OK"
case "$(/bin/busybox cat /proc/cmdline)" in *wl=shell*)
	/bin/busybox mkdir -p /tmp /root
	export HOME=/root TERM=linux ENV=/etc/shell PATH=/bin PS1='debian:\w# '
	cd /root
	/bin/busybox setsid /bin/busybox cttyhack /bin/sh
esac
/bin/busybox poweroff -f
/bin/busybox reboot -f
"#;

/// Read by each interactive shell. busybox's `poweroff` asks init to act; init is our script, so ask the kernel.
const SHELL_RC: &str = r#"for a in $(/bin/busybox --list); do [ -e /bin/$a ] || { /bin/busybox --install -s /bin; break; }; done
alias poweroff='/bin/busybox poweroff -f' halt='/bin/busybox poweroff -f' reboot='/bin/busybox reboot -f'
if [ -z "$GREETED" ]; then
	export GREETED=1
	echo "A Debian kernel and a busybox shell. 'exit' or 'poweroff' ends the machine."
fi
"#;

/// Text that decides what [`build`] makes, besides busybox: part of the origin that the cache keeps, so that a
/// changed script replaces a cached image.
#[must_use]
pub fn recipe() -> String {
    [INIT_HEAD, INIT_TAIL, SHELL_RC].concat()
}

/// The gzip-compressed archive. `snippet`: shell lines that run before the marker.
///
/// # Errors
/// A file is larger than the format allows.
pub fn build(busybox: &[u8], snippet: Option<&str>) -> io::Result<Vec<u8>> {
    let init = [INIT_HEAD, snippet.unwrap_or_default(), INIT_TAIL].concat();
    let mut archive = Newc::new(GzBuilder::new().write(Vec::new(), Compression::best()));
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.folder(folder)?;
    }
    archive.device("dev/console", 0o600, 5, 1)?;
    archive.device("dev/null", 0o666, 1, 3)?;
    archive.file("bin/busybox", 0o755, busybox)?;
    archive.link("bin/sh", "busybox")?;
    archive.file("etc/shell", 0o644, SHELL_RC.as_bytes())?;
    archive.file("init", 0o755, init.as_bytes())?;
    archive.finish()?.finish()
}

/// Writes a newc archive, entry by entry.
#[derive(Debug)]
pub struct Newc<W> {
    to: W,
    inode: u32,
}

/// File type bits of `st_mode` (POSIX), which the format uses as they are.
const FOLDER: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl<W: Write> Newc<W> {
    /// An empty archive that is written to `to`.
    pub fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// A folder, owned by root, mode 755.
    ///
    /// # Errors
    /// Those of writing.
    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER | 0o755, 2, (0, 0), &[])
    }

    /// A regular file.
    ///
    /// # Errors
    /// Those of writing; a file of 4 GiB or more.
    pub fn file(&mut self, name: &str, permissions: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | permissions, 1, (0, 0), bytes)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// Those of writing.
    pub fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, 1, (0, 0), target.as_bytes())
    }

    /// A character device.
    ///
    /// # Errors
    /// Those of writing.
    pub fn device(&mut self, name: &str, permissions: u32, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, CHARACTER | permissions, 1, (major, minor), &[])
    }

    /// Ends the archive and returns the writer.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.record(0, "TRAILER!!!", 0, 1, (0, 0), &[])?;
        Ok(self.to)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        links: u32,
        device: (u32, u32),
        bytes: &[u8],
    ) -> io::Result<()> {
        self.inode += 1;
        self.record(self.inode, name, mode, links, device, bytes)
    }

    fn record(
        &mut self,
        inode: u32,
        name: &str,
        mode: u32,
        links: u32,
        (major, minor): (u32, u32),
        bytes: &[u8],
    ) -> io::Result<()> {
        let too_large = |_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too large for a cpio archive"))
        };
        let size = u32::try_from(bytes.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        // inode mode uid gid links mtime size dev-major dev-minor rdev-major rdev-minor name-size check
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header += &format!("{field:08X}");
        }
        header += name;
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(bytes)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.to.write_all(&[0; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Name, mode and content of each entry, read as the kernel's init/initramfs.c does.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut at = 0;
        let mut found = Vec::new();
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |index: usize| {
                let text = &archive[at + 6 + 8 * index..][..8];
                usize::from_str_radix(std::str::from_utf8(text).expect("ASCII"), 16).expect("hex")
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = String::from_utf8(archive[at + 110..][..name_size - 1].to_vec()).expect("ASCII");
            let data = (at + 110 + name_size).next_multiple_of(4);
            at = (data + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(at, archive.len());
                return found;
            }
            found.push((name, u32::try_from(mode).expect("32 bits"), archive[data..data + size].to_vec()));
        }
    }

    #[test]
    fn the_archive_holds_what_the_kernel_needs() {
        let image = build(b"BUSY!", Some("echo here\n")).expect("built");
        let mut archive = Vec::new();
        flate2::read::GzDecoder::new(&image[..]).read_to_end(&mut archive).expect("gzip");
        let entries = entries(&archive);
        let find = |name: &str| entries.iter().find(|entry| entry.0 == name).expect("there");
        assert_eq!(find("bin/busybox").2, b"BUSY!");
        assert_eq!(find("bin/sh").1, 0o120_777);
        assert_eq!(find("dev/console").1, 0o020_600);
        let init = String::from_utf8(find("init").2.clone()).expect("text");
        let here = init.find("echo here").expect("the snippet");
        assert!(here < init.find(MARKER).expect("the marker"));
        assert_eq!(find("init").1, 0o100_755);
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let once = build(b"busybox", None).expect("built");
        assert_eq!(once, build(b"busybox", None).expect("built"));
    }
}
