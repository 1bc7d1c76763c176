//! The binary from outside: exit statuses, one line for each mistake, and the terminal given back on every way out.
//! The guests are a few bytes of machine code in multiboot images made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

mod log_items;
mod pseudo_terminal;

/// `mov dx, 0x3f8; mov al, 'R'; out dx, al`: shows that the guest runs.
const HELLO: &[u8] = &[0x66, 0xba, 0xf8, 0x03, 0xb0, b'R', 0xee];
/// `mov dx, 0x604; mov ax, 0x2000; out dx, ax`: soft off.
const POWER_OFF: &[u8] = &[0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef];
/// `mov dx, 0xcf9; mov al, 6; out dx, al`: reset.
const RESET: &[u8] = &[0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee];
/// `mov dx, 0xf4; mov al, 0x10; out dx, al`.
const DEBUG_EXIT: &[u8] = &[0x66, 0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee];
/// `int3` without an interrupt table.
const TRIPLE_FAULT: &[u8] = &[0xcc];
/// Polls COM1 and sends back what it hears: `mov dx, 0x3fd; in al, dx; test al, 1; jz .; mov dx, 0x3f8; in al, dx;
/// out dx, al; jmp .`
const ECHO: &[u8] =
    &[0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef];
/// `jmp .`
const FOREVER: &[u8] = &[0xeb, 0xfe];

/// A multiboot kernel at 1 MiB that says hello and runs `code`.
fn kernel(folder: &Path, code: &[u8]) -> PathBuf {
    const MAGIC: u32 = 0x1bad_b002;
    const FLAGS: u32 = 0x1_0000;
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(FLAGS);
    let header = [MAGIC, FLAGS, checksum, 0x10_0000, 0x10_0000, 0, 0, 0x10_0020];
    let mut image: Vec<u8> = header.iter().flat_map(|field| field.to_le_bytes()).collect();
    for part in [HELLO, code, FOREVER] {
        image.extend_from_slice(part);
    }
    let path = folder.join("kernel.bin");
    fs::write(&path, image).unwrap();
    path
}

/// The binary under test; by way of the runner of the aarch64 tests, which is an x86 program, where there is one.
pub fn program() -> Command {
    let binary = env!("CARGO_BIN_EXE_retrograde");
    match std::env::var_os("RETROGRADE_RUNNER") {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(binary);
            command
        }
        None => Command::new(binary),
    }
}

fn retrograde(arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run_guest(code: &[u8], arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let path = kernel(folder.path(), code);
    let kernel = ["-m", "16", "-kernel", path.to_str().unwrap()];
    retrograde(&[&kernel, arguments].concat()).output().unwrap()
}

fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

fn error_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text:?}");
    text
}

#[test]
fn statuses_tell_how_the_guest_ended() {
    let end = |code: &[u8], arguments: &[&str]| {
        let output = run_guest(code, &[&["-nographic"], arguments].concat());
        assert_eq!(output.stdout, b"R", "{arguments:?} {:?}", output);
        output
    };
    assert_eq!(status(&end(POWER_OFF, &[])), Some(0));
    assert_eq!(status(&end(RESET, &["-no-reboot"])), Some(0));
    let debug_exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];
    assert_eq!(status(&end(DEBUG_EXIT, &debug_exit)), Some(0x21));
    let fault = end(TRIPLE_FAULT, &["-no-reboot"]);
    assert_eq!(status(&fault), Some(80));
    assert!(error_line(&fault).contains("triple fault"));
}

#[test]
fn a_mistake_is_one_line_and_status_2() {
    for (arguments, part) in [
        (&["-m", "0"][..], "-m 0"),
        (&["-kernle", "x"], "-kernel"),
        (&["-kernel", "/nonexistent"], "/nonexistent"),
        (&["-kernel", env!("CARGO_MANIFEST_PATH")], "text file"),
        (&[], "-kernel FILE"),
    ] {
        let output = retrograde(arguments).output().unwrap();
        assert_eq!(status(&output), Some(2), "{arguments:?}");
        assert!(error_line(&output).contains(part), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for argument in ["--help", "-h", "-version", "--version"] {
        let output = retrograde(&[argument]).output().unwrap();
        assert_eq!(status(&output), Some(0));
        assert!(output.stdout.starts_with(b"retrograde ") && output.stderr.is_empty());
    }
}

#[test]
fn the_serial_port_can_go_to_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("serial");
    let output = run_guest(POWER_OFF, &["-display", "none", "-serial", &format!("file:{}", file.display())]);
    assert_eq!((status(&output), output.stdout.as_slice()), (Some(0), &b""[..]));
    assert_eq!(fs::read(file).unwrap(), b"R");
}

#[test]
fn standard_input_that_is_no_terminal_reaches_the_guest() {
    let folder = TempDir::new().unwrap();
    let path = kernel(folder.path(), ECHO);
    let input = folder.path().join("input");
    // Ctrl-A Ctrl-A is one Ctrl-A for the guest; Ctrl-A x ends the emulator.
    fs::write(&input, b"abc\x03\x01\x01\x01x").unwrap();
    let mut command = retrograde(&["-kernel", path.to_str().unwrap(), "-nographic"]);
    let output = command.stdin(fs::File::open(&input).unwrap()).output().unwrap();
    assert_eq!(status(&output), Some(0));
    // The stop overtakes bytes that the guest has not fetched: what it has heard is a beginning of what was sent.
    assert!(b"Rabc\x03\x01".starts_with(&output.stdout), "{:?}", output.stdout);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said_once() {
    let output = run_guest(POWER_OFF, &["-nographic", "-serial", "file:/dev/full"]);
    assert_eq!(status(&output), Some(74));
    assert!(error_line(&output).contains("/dev/full: no space is left"));
    // A log is not worth the machine: it goes on without.
    let output = run_guest(POWER_OFF, &["-nographic", "-d", "io", "-D", "/dev/full"]);
    assert_eq!((status(&output), output.stdout.as_slice()), (Some(0), &b"R"[..]));
    assert!(error_line(&output).contains("-D /dev/full: no space is left"));
}
