//! From what an image is to the machine that boots it, or to the reason why none does.

use std::path::PathBuf;

use super::Image;
use super::detect::{Arch, Findings, What};
use crate::cli::UserError;

/// Memory of a machine for a disk or a CD: what today's installers ask for at least, twice.
const RAM_DISK: u64 = 1 << 30;
/// For a kernel, as for the ready-made guests.
const RAM_KERNEL: u64 = 512 << 20;
/// For what fits a floppy or a ROM.
const RAM_SMALL: u64 = 128 << 20;

/// What the image is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `-hda`.
    Disk,
    /// `-cdrom`.
    Cd,
    /// `-fda`.
    Floppy,
    /// `-kernel`; `true`: Linux, which is told to use the serial port.
    Kernel(bool),
    /// `-bios`.
    Rom,
}

/// A machine for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The image.
    pub path: PathBuf,
    /// What it is given as.
    pub role: Role,
    /// It is a qcow2 image, not a raw one.
    pub qcow2: bool,
    /// It boots by UEFI only.
    pub uefi: bool,
    /// Memory in bytes.
    pub ram_bytes: u64,
    /// The file cannot be written: what the guest writes is thrown away.
    pub snapshot: bool,
}

impl Plan {
    /// In the words of the command line.
    pub fn describe(&self) -> String {
        let option = match self.role {
            Role::Disk => "-hda",
            Role::Cd => "-cdrom",
            Role::Floppy => "-fda",
            Role::Kernel(_) => "-kernel",
            Role::Rom => "-bios",
        };
        let ram = super::report::size(self.ram_bytes);
        let snapshot =
            if self.snapshot { ", without keeping what is written (the file cannot be written)" } else { "" };
        let firmware = if self.uefi { " and UEFI firmware" } else { "" };
        format!("as {option} with {ram} of memory{firmware}{snapshot}")
    }
}

/// The machine for `image`.
pub fn plan(image: &Image) -> Result<Plan, UserError> {
    let refuse = |(problem, remedy): (String, String)| {
        UserError::new(image.path.display().to_string(), problem, remedy)
    };
    if let Some((problem, remedy)) = &image.problem {
        return Err(refuse((problem.clone(), remedy.clone())));
    }
    let Some(findings) = &image.findings else {
        return Err(refuse(("it cannot be read".into(), String::new())));
    };
    let (role, ram_bytes) = role(findings).map_err(refuse)?;
    if matches!(role, Role::Kernel(_) | Role::Rom) && image.qcow2.is_some() {
        return Err(refuse((
            "a kernel or ROM inside a qcow2 image".into(),
            "unpack it with: qemu-img convert -O raw".into(),
        )));
    }
    let written = matches!(role, Role::Disk | Role::Floppy);
    let qcow2 = image.qcow2.is_some();
    let medium = matches!(role, Role::Disk | Role::Cd | Role::Floppy);
    let uefi = medium && findings.bios.is_none() && findings.uefi.contains(&Arch::X86_64);
    Ok(Plan { path: image.path.clone(), role, qcow2, uefi, ram_bytes, snapshot: written && !image.writable })
}

/// What is wrong, and what to do.
type Refusal = (String, String);

fn role(findings: &Findings) -> Result<(Role, u64), Refusal> {
    match &findings.what {
        What::Kernel(kind) => {
            let linux =
                matches!(kind, bios::ImageKind::BzImage | bios::ImageKind::Vmlinux | bios::ImageKind::Pvh);
            Ok((Role::Kernel(linux), RAM_KERNEL))
        }
        What::Rom => Ok((Role::Rom, RAM_SMALL)),
        What::Floppy => bootable(findings, "floppy disk").map(|()| (Role::Floppy, RAM_SMALL)),
        What::HardDisk => bootable(findings, "disk").map(|()| (Role::Disk, RAM_DISK)),
        What::Cd => bootable(findings, "CD").map(|()| (Role::Cd, RAM_DISK)),
        What::Other(what, remedy) => {
            let remedy = match findings.architectures.iter().find(|arch| !arch.is_ours()) {
                Some(_) => FOREIGN_REMEDY,
                None if !remedy.is_empty() => remedy,
                None => "give a disk, CD or floppy image, a kernel or a ROM",
            };
            Err((format!("this is {what}"), remedy.into()))
        }
    }
}

const FOREIGN_REMEDY: &str = "this machine is an x86 PC: get the image for amd64 (x86-64) or i386";

/// Does a PC's BIOS find something to start?
fn bootable(findings: &Findings, what: &str) -> Result<(), Refusal> {
    let foreign: Vec<Arch> = findings.architectures.iter().copied().filter(|arch| !arch.is_ours()).collect();
    // Code for the BIOS on a medium whose operating system is of another processor: a partitioning tool's stub.
    let ours = findings.uefi.iter().any(|arch| arch.is_ours());
    let only_foreign = !foreign.is_empty() && !ours && (findings.bios.is_none() || what != "CD");
    if only_foreign {
        let name = foreign.iter().map(|arch| arch.name()).collect::<Vec<_>>().join(" and ");
        let article = if name.starts_with(['A', 'I', '3']) { "an" } else { "a" };
        let article = if name.starts_with('3') { "a" } else { article };
        return Err((format!("this is {article} {name} {what}"), FOREIGN_REMEDY.into()));
    }
    if findings.bios.is_some() || findings.uefi.contains(&Arch::X86_64) {
        return Ok(());
    }
    if ours {
        return Err((
            format!("this {what} boots by 32-bit UEFI only, and there is no such firmware"),
            "use an image that boots by BIOS (often called legacy or hybrid)".into(),
        ));
    }
    Err(match (what, findings.file_system, &findings.table) {
        ("CD", ..) => (
            "this CD has no boot record (El Torito)".into(),
            "it can only be read by a system that boots from elsewhere: add it there with -cdrom".into(),
        ),
        (_, Some(system), _) => (
            format!("this is a file system ({system}) without a boot loader"),
            "start a system that has one, and add this as another disk with -hdb".into(),
        ),
        (_, None, Some(_)) => (
            format!("this {what} has partitions, but no code in its boot sector"),
            "install a boot loader on it, for example from a CD given with -cdrom".into(),
        ),
        (_, None, None) => (
            format!(
                "this {what} has no boot signature (55AA at the end of its first sector), and no format that is known here"
            ),
            "if it is to be installed on, give it with -hda beside a CD given with -cdrom".into(),
        ),
    })
}
