//! `cargo xtask guests --set disks`: Debian systems on disks.
//!
//! `mmdebstrap` installs a system into a folder, from this machine's own package sources; a few files make it what the tests
//! log in to; `mke2fs` makes the folder a file system inside the image, at its place, and GRUB goes before it. Nothing is
//! mounted and no loop device is used. It takes root all the same, because the files in the image keep their owners.
//!
//! Invariant: an image enters the cache when `e2fsck` has found nothing in it; one of an older recipe is made anew.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::guests::{Cache, Disk};

use crate::mbr::{self, Partition, SECTOR};
use crate::run;

/// Goes up with each change that makes other images of the same packages.
const RECIPE: u32 = 1;

/// `arch-test` tells `mmdebstrap` that programs for i386 run here.
const TOOLS: [&str; 5] = ["mmdebstrap", "arch-test", "e2fsprogs", "grub-common", "grub-pc-bin"];

const SUITE: &str = "bookworm";
/// Besides Debian's smallest system and a kernel.
const PACKAGES: &str = "systemd-sysv,udev,kmod,dbus,iproute2,login";
/// What nobody looks for in these systems.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];

/// The image with everything; the file system fills it to its end.
const SIZE: u64 = 768 << 20;
const UUID: &str = "0e7209ad-3c1f-4d0b-9a55-72657472006f";
/// Those of ext4 that GRUB 2.06 can read (it has no `metadata_csum_seed`), whatever the defaults of this machine are.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
                        large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// GRUB's images and modules for a BIOS.
const GRUB: &str = "/usr/lib/grub/i386-pc";
/// What finds the other modules.
const CORE_MODULES: [&str; 3] = ["biosdisk", "part_msdos", "ext2"];

/// The paths of `wanted`, in the same order; those that the cache lacks are built.
pub fn obtain(cache: &Cache, wanted: &[&Disk]) -> Result<Vec<PathBuf>> {
    let _lock = cache.lock("disks")?;
    wanted
        .iter()
        .map(|disk| match current(cache, disk)? {
            Some(path) => Ok(path),
            None => build(cache, disk).with_context(|| format!("{} cannot be built", disk.name)),
        })
        .collect()
}

/// The image in the cache, if today's recipe made it.
fn current(cache: &Cache, disk: &Disk) -> Result<Option<PathBuf>> {
    let found = cache.verified_with_origin(disk.name)?;
    Ok(found.filter(|(_, origin)| *origin == origin_of(disk)).map(|(path, _)| path))
}

fn origin_of(disk: &Disk) -> String {
    format!("{SUITE} for {} with {} by recipe {RECIPE}", disk.arch, disk.kernel)
}

fn build(cache: &Cache, disk: &Disk) -> Result<PathBuf> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("its packages' scripts need an x86-64 Linux host; there, use cargo xtask guests --set disks");
    }
    if !run::is_root()? {
        bail!("this takes root (cargo xtask guests --set disks): the image's files keep their owners");
    }
    run::install(&TOOLS)?;
    println!("building {} (about a minute)", disk.name);
    let folder = WorkFolder::new(cache)?;
    let root = folder.0.join("root");
    install_system(disk, &root)?;
    set_up(&root).context("cannot set the system up")?;
    let image = folder.0.join("image");
    make_file_system(&image, &root)?;
    make_bootable(&image, &folder.0)?;
    run::quietly(Command::new("e2fsck").arg("-fn").arg(file_system(&image)))?;
    Ok(cache.adopt(disk.name, &origin_of(disk), &image)?)
}

/// Inside the cache, so that the image enters it by rename. The lock makes it ours; what an interrupted run left goes.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new(cache: &Cache) -> Result<Self> {
        let folder = Self(cache.folder().join("disks"));
        folder.remove();
        fs::create_dir_all(&folder.0).with_context(|| format!("cannot make {}", folder.0.display()))?;
        Ok(folder)
    }

    fn remove(&self) {
        // What cannot be removed makes the next build fail, which then says so.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

fn fstab() -> String {
    format!("UUID={UUID} / ext4 rw,noatime 0 1")
}

fn install_system(disk: &Disk, root: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--mode=root", "--format=directory"]);
    command
        .arg(format!("--architectures={}", disk.arch))
        .arg(format!("--include={},{PACKAGES}", disk.kernel));
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    // Before the kernel is configured: its initramfs gets the checker of the file system that is named here.
    command.arg(format!("--essential-hook=echo '{}' >\"$1\"/etc/fstab", fstab()));
    command.arg(SUITE).arg(root).args(sources()?);
    run::quietly(command.env("LC_ALL", "C"))
}

/// This machine's sources of Debian 12, a line for each. The release's own are enough for systems that are only tested with; its
/// security archive is often in the middle of an update, at which `mmdebstrap` gives up.
fn sources() -> Result<Vec<String>> {
    let mut found = listed_sources()?;
    if found.is_empty() {
        // Without package lists nobody knows what a source is. One that cannot be had may not be Debian's.
        let _ = run::quietly(Command::new("apt-get").arg("update"));
        found = listed_sources()?;
    }
    if found.is_empty() {
        bail!("this machine's package sources offer no Debian 12");
    }
    Ok(found)
}

fn listed_sources() -> Result<Vec<String>> {
    let mut query = Command::new("apt-get");
    query.args(["indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]);
    query.args(["Created-By: Packages", "Origin: Debian", "Component: main"]);
    query.arg(format!("Codename: {SUITE}"));
    let output = query.output().context("cannot start apt-get")?;
    Ok(source_lines(&String::from_utf8_lossy(&output.stdout)))
}

/// `listed` without repetitions: there is a line for each architecture.
fn source_lines(listed: &str) -> Vec<String> {
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// A root user without a password, a console on the serial port, and GRUB's modules and commands.
fn set_up(root: &Path) -> Result<()> {
    fs::write(root.join("etc/hostname"), "retro\n")?;
    // The name servers of this machine are none of the guest's.
    fs::write(root.join("etc/resolv.conf"), "")?;
    let shadow = root.join("etc/shadow");
    fs::write(&shadow, without_root_password(&fs::read_to_string(&shadow)?)?)?;
    let consoles = root.join("etc/systemd/system/getty.target.wants");
    fs::create_dir_all(&consoles)?;
    symlink("/lib/systemd/system/serial-getty@.service", consoles.join("serial-getty@ttyS0.service"))?;
    let modules = root.join("boot/grub/i386-pc");
    fs::create_dir_all(&modules)?;
    for entry in fs::read_dir(GRUB).with_context(|| format!("cannot read {GRUB}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "mod" || kind == "lst") {
            fs::copy(&path, modules.join(path.file_name().unwrap_or_default()))?;
        }
    }
    // The kernel's package keeps both links.
    for link in ["vmlinuz", "initrd.img"] {
        fs::metadata(root.join(link)).with_context(|| format!("the system has no {link}"))?;
    }
    Ok(fs::write(root.join("boot/grub/grub.cfg"), grub_commands())?)
}

/// No menu: the kernel, with its console on the serial port.
fn grub_commands() -> String {
    let kernel = format!("root=UUID={UUID} ro console=tty0 console=ttyS0,115200 systemd.show_status=1");
    let terminals = "terminal_output serial console\nterminal_input serial console\n";
    format!("serial --speed=115200\n{terminals}linux /vmlinuz {kernel}\ninitrd /initrd.img\nboot\n")
}

/// `shadow` with root's password taken away, where the account was locked.
fn without_root_password(shadow: &str) -> Result<String> {
    let mut lines: Vec<String> = shadow.lines().map(str::to_owned).collect();
    let root = lines.iter_mut().find(|line| line.starts_with("root:")).context("there is no root user")?;
    let rest = root.splitn(3, ':').nth(2).context("root's entry has no password field")?;
    *root = format!("root::{rest}");
    Ok(lines.join("\n") + "\n")
}

fn make_file_system(image: &Path, root: &Path) -> Result<()> {
    let made = File::create(image).and_then(|file| file.set_len(SIZE));
    made.with_context(|| format!("cannot write {}", image.display()))?;
    let mut command = Command::new("mke2fs");
    command.args([
        "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-O", FEATURES, "-L", "root", "-U", UUID,
    ]);
    command.arg("-E").arg(format!("offset={}", Disk::OFFSET)).arg("-d").arg(root).arg(image);
    run::quietly(command.arg(format!("{}k", (SIZE - Disk::OFFSET) >> 10)))
}

/// As the tools of ext4 name a file system inside a file.
fn file_system(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(format!("?offset={}", Disk::OFFSET));
    name.into()
}

fn make_bootable(image: &Path, folder: &Path) -> Result<()> {
    let core = folder.join("core.img");
    let mut command = Command::new("grub-mkimage");
    // The first partition of the disk that the BIOS started.
    command.args(["-O", "i386-pc", "-p", "(,msdos1)/boot/grub", "-o"]).arg(&core).args(CORE_MODULES);
    run::quietly(&mut command)?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let sectors = |bytes: u64| (bytes / SECTOR as u64) as u32;
    let partition = Partition { first: sectors(Disk::OFFSET), count: sectors(SIZE - Disk::OFFSET) };
    let first = mbr::first_sectors(&read(&Path::new(GRUB).join("boot.img"))?, &read(&core)?, partition)?;
    let written = OpenOptions::new().write(true).open(image).and_then(|file| file.write_all_at(&first, 0));
    written.with_context(|| format!("cannot write {}", image.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_needs_no_password_and_others_stay_locked() {
        let shadow = "daemon:*:1::\nroot:*:19000:0:99999:7:::\nuser:!:1::\n";
        let open = without_root_password(shadow).expect("there is a root user");
        assert_eq!(open, "daemon:*:1::\nroot::19000:0:99999:7:::\nuser:!:1::\n");
        assert!(without_root_password("daemon:*:1::\n").is_err());
        assert!(without_root_password("root:\n").is_err());
    }

    #[test]
    fn a_source_is_named_once() {
        let listed = "deb file:/b/ bookworm main\ndeb file:/a/ stable main\ndeb file:/b/ bookworm main\n";
        assert_eq!(source_lines(listed), ["deb file:/a/ stable main", "deb file:/b/ bookworm main"]);
        assert_eq!(source_lines(""), Vec::<String>::new());
    }

    #[test]
    fn the_kernel_looks_for_the_file_system_that_is_made() {
        let commands = grub_commands();
        assert!(commands.contains(&format!("linux /vmlinuz root=UUID={UUID} ro ")), "{commands}");
        assert!(fstab().starts_with(&format!("UUID={UUID} / ext4 ")));
        assert!(!FEATURES.contains("metadata_csum_seed"));
    }
}
