//! Recognises a kernel file by its contents, and says what a file is that cannot be booted.

use crate::elf::Elf;
use crate::multiboot::find_header;

/// A boot protocol that a loader here knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A Linux bzImage, or a program in the same form.
    BzImage,
    /// A multiboot 1 kernel.
    Multiboot,
    /// An ELF kernel with a PVH entry.
    Pvh,
    /// An uncompressed Linux kernel without one.
    Vmlinux,
}

impl std::fmt::Display for ImageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BzImage => "Linux bzImage",
            Self::Multiboot => "multiboot kernel",
            Self::Pvh => "PVH ELF kernel",
            Self::Vmlinux => "uncompressed Linux kernel",
        })
    }
}

/// Other files that are handed to `-kernel` by mistake: offset, magic, what to say.
const STRANGERS: &[(usize, &[u8], &str)] = &[
    (0x38, b"ARM\x64", "an ARM64 Linux Image"),
    (0x38, b"RSC\x05", "a RISC-V Linux Image"),
    (0x24, b"\x18\x28\x6f\x01", "a 32-bit ARM Linux zImage"),
    (0, &[0x1f, 0x8b], "a gzip file; unpack it first"),
    (0, b"\xfd7zXZ\0", "an xz file; unpack it first"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "a zstd file; unpack it first"),
    (0, b"BZh", "a bzip2 file; unpack it first"),
    (0, &[0x02, 0x21, 0x4c, 0x18], "an lz4 file; unpack it first"),
    (0, b"070701", "a cpio archive: an initramfs, to be given with -initrd"),
    (0, b"!<arch>\ndebian", "a Debian package; unpack it and give the vmlinuz in it"),
    (0, b"!<arch>", "an archive of object files"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"KDMV", "a VMDK disk image"),
    (0, b"vhdxfile", "a VHDX disk image"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI disk image"),
    (0, b"conectix", "a VHD disk image"),
    (0, b"QED\0", "a QED disk image"),
    (0, b"WithoutFreeSpace", "a Parallels disk image"),
    (0, b"WithouFreSpacExt", "a Parallels disk image"),
    (0, b"Bochs Virtual HD Image", "a Bochs disk image"),
    (0, b"# Disk DescriptorFile", "the description of a VMDK disk image"),
    (0, &[0x3a, 0xff, 0x26, 0xed], "an Android sparse image; unpack it first with simg2img"),
    (0, b"ANDROID!", "an Android boot image"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (0, b"Rar!\x1a\x07", "a RAR archive; unpack it first"),
    (0, b"MSWIM\0\0\0", "a Windows image (WIM); give the CD that it is on"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<!DOCTYPE", "an HTML page; the download did not give the file itself"),
    (0, b"<html", "an HTML page; the download did not give the file itself"),
    (0x8001, b"CD001", "a CD image"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree"),
    (0, &[0x27, 0x05, 0x19, 0x56], "a U-Boot image"),
    (0, b"#!", "a script"),
    (0, b"\xcf\xfa\xed\xfe", "a macOS program"),
];

/// What `head`, a file's beginning, is, if it is one of the files that are no kernel for this machine: "a ZIP archive".
pub fn stranger(head: &[u8]) -> Option<&'static str> {
    let found =
        |(at, magic, _): &&(usize, &[u8], &str)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    STRANGERS.iter().find(found).map(|(_, _, what)| *what)
}

impl ImageKind {
    /// Recognises `file`, or says in half a sentence why it cannot be booted.
    pub fn detect(file: &[u8]) -> Result<Self, String> {
        let has = |at: usize, magic: &[u8]| file.get(at..).is_some_and(|rest| rest.starts_with(magic));
        if file.is_empty() {
            return Err("the file is empty".into());
        }
        if has(0x1fe, &[0x55, 0xaa]) && has(0x202, b"HdrS") {
            return Ok(Self::BzImage);
        }
        if find_header(file).is_some() {
            return Ok(Self::Multiboot);
        }
        if has(0, b"\x7fELF") {
            return detect_elf(file);
        }
        if let Some(what) = stranger(file) {
            return Err(format!("it is {what}"));
        }
        Err(describe_rest(file))
    }
}

fn detect_elf(file: &[u8]) -> Result<ImageKind, String> {
    let elf = Elf::parse(file).map_err(|error| error.to_string())?;
    if !elf.is_x86() {
        return Err(format!("it is an ELF file for {}", machine_name(elf.machine)));
    }
    if elf.pvh_entry.is_some() {
        return Ok(ImageKind::Pvh);
    }
    if elf.has_interpreter {
        return Err("it is a program for Linux user space".into());
    }
    match elf.kind {
        object::elf::ET_EXEC | object::elf::ET_DYN if contains(file, b"Linux version ") => {
            Ok(ImageKind::Vmlinux)
        }
        object::elf::ET_EXEC => {
            Err("it is an ELF program without a multiboot header, a PVH note or a Linux banner".into())
        }
        object::elf::ET_REL => Err("it is an object file or a kernel module, not linked".into()),
        object::elf::ET_CORE => Err("it is a core dump".into()),
        _ => Err("it is an ELF shared object or user program".into()),
    }
}

fn describe_rest(file: &[u8]) -> String {
    let has_signature = file.get(0x1fe..0x200) == Some(&[0x55, 0xaa]);
    if file.starts_with(b"MZ") {
        "it is a DOS, Windows or EFI program without a Linux header".into()
    } else if file.len() < 0x206 {
        format!("it has only {} bytes", file.len())
    } else if has_signature {
        "it is a boot sector or a disk image, without a Linux header (\"HdrS\" is missing at offset 0x202)"
            .into()
    } else if file[..file.len().min(512)].iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        "it is a text file".into()
    } else {
        "no Linux header (0xAA55 at 0x1FE, \"HdrS\" at 0x202), no multiboot header, no ELF file".into()
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn machine_name(machine: u16) -> String {
    use object::elf;
    match machine {
        elf::EM_AARCH64 => "AArch64".into(),
        elf::EM_ARM => "32-bit ARM".into(),
        elf::EM_RISCV => "RISC-V".into(),
        elf::EM_PPC => "PowerPC".into(),
        elf::EM_PPC64 => "64-bit PowerPC".into(),
        elf::EM_S390 => "IBM Z".into(),
        elf::EM_MIPS => "MIPS".into(),
        elf::EM_LOONGARCH => "LoongArch".into(),
        elf::EM_SPARCV9 => "SPARC".into(),
        other => format!("machine number {other}"),
    }
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
