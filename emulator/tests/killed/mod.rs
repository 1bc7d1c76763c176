//! A process that dies between two instructions: what a guest has written and flushed is in the image, whatever the controller and
//! the format, and the image is sound.
//!
//! The guest is a small driver for each controller. It writes [`KEPT`] sectors and flushes, says so on COM1, and goes on writing
//! elsewhere without a flush; then the emulator is killed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use emulator::storage::{self, DriveConfig, Interface, Media};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use tempfile::TempDir;

use super::test_devices::{code32, out_byte};
use super::{kernel, retrograde};

type Code = Result<(), IcedError>;

/// First sector, number of sectors, and the bytes that they are full of.
const KEPT: (u32, u32, u32) = (100, 64, 0x1111_1111);
/// What is written without a flush, until the end.
const LOST: (u32, u32, u32) = (1000, 64, 0x2222_2222);

/// Where things are in guest memory.
const RINGS: u32 = 0x30_0000;
const REQUESTS: u32 = 0x30_8000;
const DATA: u32 = 0x31_0000;
/// BARs.
const PORTS: u32 = 0xc000;
const MEMORY: u32 = 0xfe00_0000;
/// The first card's configuration space.
const CARD: u32 = 0x8000_1800;

fn out_dword(a: &mut CodeAssembler, port: u32, value: u32) -> Code {
    a.mov(edx, port)?;
    a.mov(eax, value)?;
    a.out(dx, eax)
}

fn out_word(a: &mut CodeAssembler, port: u32, value: u32) -> Code {
    a.mov(edx, port)?;
    a.mov(eax, value)?;
    a.out(dx, ax)
}

fn config(a: &mut CodeAssembler, register: u32, value: u32) -> Code {
    out_dword(a, 0xcf8, CARD | register)?;
    out_dword(a, 0xcfc, value)
}

/// Stores `words` from `at` on.
fn store(a: &mut CodeAssembler, at: u32, words: &[u32]) -> Code {
    (at..).step_by(4).zip(words).try_for_each(|(at, word)| a.mov(dword_ptr(at), *word))
}

/// Fills the data to be written.
fn fill(a: &mut CodeAssembler, (_, sectors, value): (u32, u32, u32)) -> Code {
    a.mov(edi, DATA)?;
    a.mov(ecx, sectors * 128)?;
    a.mov(eax, value)?;
    a.rep().stosd()
}

/// Waits until the bits of `mask` in the port are `value`.
fn poll_port(a: &mut CodeAssembler, port: u32, mask: u32, value: u32) -> Code {
    let mut again = a.create_label();
    a.mov(edx, port)?;
    a.set_label(&mut again)?;
    a.in_(al, dx)?;
    a.and(al, mask as i32)?;
    a.cmp(al, value as i32)?;
    a.jne(again)
}

/// A driver: what it sets up, how it writes, how it flushes.
struct Driver {
    name: &'static str,
    device: &'static [&'static str],
    set_up: fn(&mut CodeAssembler) -> Code,
    write: fn(&mut CodeAssembler, (u32, u32, u32)) -> Code,
    flush: fn(&mut CodeAssembler) -> Code,
}

/// PIO on the primary channel.
const IDE: Driver = Driver {
    name: "ide",
    device: &["-device", "ide-hd,drive=d,bus=ide.0"],
    set_up: |_| Ok(()),
    write: |a, (first, sectors, _)| {
        for (port, value) in [
            (0x1f6, 0xe0),
            (0x1f2, sectors),
            (0x1f3, first & 0xff),
            (0x1f4, first >> 8),
            (0x1f5, 0),
            (0x1f7, 0x30),
        ] {
            out_byte(a, port, value)?;
        }
        let mut next = a.create_label();
        a.mov(esi, DATA)?;
        a.mov(ebx, sectors)?;
        a.set_label(&mut next)?;
        poll_port(a, 0x1f7, 0x88, 0x08)?;
        a.mov(edx, 0x1f0)?;
        a.mov(ecx, 256)?;
        a.rep().outsw()?;
        a.dec(ebx)?;
        a.jne(next)?;
        poll_port(a, 0x1f7, 0x88, 0)
    },
    flush: |a| {
        out_byte(a, 0x1f7, 0xe7)?;
        poll_port(a, 0x1f7, 0x81, 0)
    },
};

/// The legacy interface; EBX counts requests. Chain 0 writes, chain 4 flushes.
const VIRTIO: Driver = Driver {
    name: "virtio",
    device: &["-device", "virtio-blk-pci,drive=d"],
    set_up: |a| {
        config(a, 0x10, PORTS)?;
        config(a, 0x04, 5)?;
        for status in [0, 1, 3] {
            out_byte(a, PORTS as u16 + 18, status)?;
        }
        out_dword(a, PORTS + 4, 1 << 9)?;
        out_word(a, PORTS + 14, 0)?;
        out_dword(a, PORTS + 8, RINGS >> 12)?;
        out_byte(a, PORTS as u16 + 18, 7)?;
        const NEXT: u32 = 1;
        const WRITE: u32 = 2;
        let descriptor = |n: u32, at: u32, len: u32, flags: u32| [at, 0, len, flags | (n + 1) << 16];
        for (n, at, len, flags) in [
            (0, REQUESTS, 16, NEXT),
            (1, DATA, KEPT.1 * 512, NEXT),
            (2, REQUESTS + 64, 1, WRITE),
            (4, REQUESTS + 32, 16, NEXT),
            (5, REQUESTS + 64, 1, WRITE),
        ] {
            store(a, RINGS + 16 * n, &descriptor(n, at, len, flags))?;
        }
        store(a, REQUESTS + 32, &[4, 0, 0, 0])?;
        a.xor(ebx, ebx)
    },
    write: |a, (first, _, _)| {
        store(a, REQUESTS, &[1, 0, first, 0])?;
        virtio_request(a, 0)
    },
    flush: |a| virtio_request(a, 4),
};

fn virtio_request(a: &mut CodeAssembler, head: u32) -> Code {
    let (available, used) = (RINGS + 0x1000, RINGS + 0x2000);
    a.mov(ecx, ebx)?;
    a.and(ecx, 255)?;
    a.mov(word_ptr(ecx * 2 + available + 4), head)?;
    a.inc(ebx)?;
    a.mov(word_ptr(available + 2), bx)?;
    out_word(a, PORTS + 16, 0)?;
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.cmp(word_ptr(used + 2), bx)?;
    a.jne(again)
}

/// One queue pair; EBX counts its commands.
const NVME: Driver = Driver {
    name: "nvme",
    device: &["-device", "nvme,drive=d,serial=1"],
    set_up: |a| {
        config(a, 0x10, MEMORY)?;
        config(a, 0x14, 0)?;
        config(a, 0x04, 6)?;
        for (register, value) in [
            (0x14, 0),
            (0x24, 0x000f_000f),
            (0x28, RINGS),
            (0x2c, 0),
            (0x30, RINGS + 0x1000),
            (0x34, 0),
            (0x14, 0x0046_0001),
        ] {
            a.mov(dword_ptr(MEMORY + register), value)?;
        }
        // Completion queue, then submission queue 1.
        for (n, (opcode, at, word)) in
            [(5u32, RINGS + 0x3000, 1), (1, RINGS + 0x2000, 0x1_0001)].into_iter().enumerate()
        {
            let n = n as u32;
            store(a, RINGS + 64 * n, &[opcode, 0, 0, 0, 0, 0, at, 0, 0, 0, 0x000f_0001, word])?;
            a.mov(dword_ptr(MEMORY + 0x1000), n + 1)?;
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.cmp(word_ptr(RINGS + 0x1000 + 16 * n + 14), 1)?;
            a.jne(again)?;
        }
        let list: Vec<u32> = (1..8).flat_map(|n| [DATA + 4096 * n, 0]).collect();
        store(a, REQUESTS + 0x1000, &list)?;
        a.xor(ebx, ebx)
    },
    write: |a, (first, sectors, _)| {
        nvme_command(a, &[1, 1, 0, 0, 0, 0, DATA, 0, REQUESTS + 0x1000, 0, first, 0, sectors - 1])
    },
    flush: |a| nvme_command(a, &[0, 1]),
};

fn nvme_command(a: &mut CodeAssembler, words: &[u32]) -> Code {
    let mut entry = [0; 16];
    entry[..words.len()].copy_from_slice(words);
    store(a, REQUESTS, &entry)?;
    a.mov(esi, REQUESTS)?;
    a.mov(edi, ebx)?;
    a.and(edi, 15)?;
    a.shl(edi, 6)?;
    a.add(edi, (RINGS + 0x2000) as i32)?;
    a.mov(ecx, 16)?;
    a.rep().movsd()?;
    // The phase turns with each round.
    a.mov(ebp, ebx)?;
    a.shr(ebp, 4)?;
    a.not(ebp)?;
    a.and(ebp, 1)?;
    a.mov(esi, ebx)?;
    a.and(esi, 15)?;
    a.shl(esi, 4)?;
    a.inc(ebx)?;
    a.mov(eax, ebx)?;
    a.and(eax, 15)?;
    a.mov(dword_ptr(MEMORY + 0x1008), eax)?;
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.movzx(ecx, word_ptr(esi + RINGS + 0x3000 + 14))?;
    a.and(ecx, 1)?;
    a.cmp(ecx, ebp)?;
    a.jne(again)?;
    a.mov(dword_ptr(MEMORY + 0x100c), eax)
}

fn program(driver: &Driver) -> Vec<u8> {
    code32(|a| {
        (driver.set_up)(a)?;
        fill(a, KEPT)?;
        (driver.write)(a, KEPT)?;
        (driver.flush)(a)?;
        out_byte(a, 0x3f8, u32::from(b'F'))?;
        fill(a, LOST)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        (driver.write)(a, LOST)?;
        out_byte(a, 0x3f8, u32::from(b'w'))?;
        a.jmp(again)
    })
}

/// Runs the guest until it has flushed and written more, and kills the emulator.
fn run_and_kill(driver: &Driver, drive: &str, folder: &Path) {
    let path = kernel(folder, &program(driver));
    let kernel = [
        "-m",
        "16",
        "-kernel",
        path.to_str().unwrap(),
        "-display",
        "none",
        "-serial",
        "stdio",
        "-drive",
        drive,
    ];
    let mut child = retrograde(&[&kernel, driver.device].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    while !seen.ends_with(b"Fww") {
        let mut byte = [0];
        if stdout.read(&mut byte).unwrap() == 0 {
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            panic!("{}: the guest ended after {:?}: {text}", driver.name, String::from_utf8_lossy(&seen));
        }
        seen.push(byte[0]);
    }
    // SIGKILL: nothing of the process runs any more.
    child.kill().unwrap();
    child.wait().unwrap();
}

fn qemu_img(arguments: &[&str], image: &Path) -> Option<bool> {
    let status = Command::new("qemu-img").args(arguments).arg(image).stdout(Stdio::null()).status().ok()?;
    Some(status.success())
}

fn contents(image: &Path, (first, sectors, _): (u32, u32, u32)) -> Vec<u8> {
    let drive = DriveConfig {
        option: "-drive".into(),
        id: None,
        file: Some(image.into()),
        format: None,
        interface: Interface::None,
        media: Media::Disk,
        index: 0,
        read_only: true,
        snapshot: false,
        serial: None,
    };
    let mut bytes = vec![0; sectors as usize * 512];
    storage::open(&drive, image).unwrap().read(u64::from(first) * 512, &mut bytes).unwrap();
    bytes
}

/// A raw image, and where QEMU's tool is, qcow2 ones: empty, and on another image.
fn images(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let raw = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, vec![0x77; 1 << 20]).unwrap();
        path
    };
    let mut images = vec![("raw", raw("raw.img"))];
    let base = raw("base.img");
    for (name, backing) in [("qcow2", None), ("on-base", Some(base.to_str().unwrap()))] {
        let path = folder.join(name).with_extension("qcow2");
        let mut arguments = vec!["create", "-q", "-f", "qcow2", "-o", "size=1M"];
        arguments.extend(backing.iter().flat_map(|base| ["-F", "raw", "-b", base]));
        match qemu_img(&arguments, &path) {
            Some(true) => images.push((name, path)),
            _ => eprintln!("no qemu-img: {name} is not tested"),
        }
    }
    images
}

fn survives(driver: &Driver) {
    let folder = TempDir::new().unwrap();
    for (format, image) in images(folder.path()) {
        let what = format!("{} on {format}", driver.name);
        let drive = format!(
            "file={},if=none,id=d{}",
            image.display(),
            if format == "raw" { ",format=raw" } else { "" }
        );
        run_and_kill(driver, &drive, folder.path());
        let expected = KEPT.2.to_le_bytes().repeat(KEPT.1 as usize * 128);
        assert!(contents(&image, KEPT) == expected, "{what}: what was flushed is there");
        let neighbour = contents(&image, (KEPT.0 + KEPT.1, 1, 0));
        assert!(
            neighbour == [if format == "qcow2" { 0 } else { 0x77 }; 512],
            "{what}: a neighbour is as it was"
        );
        if format != "raw" {
            // Clusters that leak (status 3) are no damage.
            assert!(
                qemu_img(&["check", "-q"], &image) == Some(true) || leaks_only(&image),
                "{what}: qemu-img check"
            );
        }
        // -snapshot: nothing of it is there afterwards.
        let before = std::fs::read(&image).unwrap();
        run_and_kill(driver, &format!("{drive},snapshot=on"), folder.path());
        assert!(std::fs::read(&image).unwrap() == before, "{what}: a throw-away layer");
    }
}

fn leaks_only(image: &Path) -> bool {
    let status = Command::new("qemu-img").args(["check", "-q"]).arg(image).stdout(Stdio::null()).status();
    status.unwrap().code() == Some(3)
}

#[test]
fn what_was_flushed_survives_a_killed_process_on_ide() {
    survives(&IDE);
}

#[test]
fn what_was_flushed_survives_a_killed_process_on_virtio() {
    survives(&VIRTIO);
}

#[test]
fn what_was_flushed_survives_a_killed_process_on_nvme() {
    survives(&NVME);
}
