//! The binary from outside: exit statuses, one line for each mistake, and the terminal given back on every way out.
//! The guests are a few bytes of machine code in multiboot images made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

mod displays;
mod killed;
mod log_items;
mod moving_bars;
mod pseudo_terminal;
mod system;
mod test_devices;

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

/// However the guest asks for it, a reset starts it anew: its image is as it was in the file, the CMOS keeps what was
/// written there.
#[test]
fn each_kind_of_reset_starts_the_guest_anew() {
    let keyboard_controller = [0xb0, 0xfe, 0xe6, 0x64]; // mov al, 0xfe; out 0x64, al
    let kinds: [(&str, &[u8]); 3] =
        [("port CF9h", RESET), ("keyboard controller", &keyboard_controller), ("triple fault", TRIPLE_FAULT)];
    for (kind, reset) in kinds {
        let code = [
            // call next; data: db '1'; next: pop esi; lodsb; out dx, al; inc byte [esi - 1]
            &[0xe8, 1, 0, 0, 0, b'1', 0x5e, 0xac, 0xee, 0xfe, 0x46, 0xff][..],
            // mov al, 0x40; out 0x70, al; in al, 0x71; test al, al; jnz over the reset
            &[0xb0, 0x40, 0xe6, 0x70, 0xe4, 0x71, 0x84, 0xc0, 0x75, reset.len() as u8 + 6],
            // mov al, 1; out 0x71, al; (reset); jmp .
            &[0xb0, 1, 0xe6, 0x71],
            reset,
            FOREVER,
            POWER_OFF,
        ]
        .concat();
        // A stack: mov esp, 0x200000
        let code = [&[0xbc, 0, 0, 0x20, 0], &code[..]].concat();
        let output = run_guest(&code, &["-nographic"]);
        assert_eq!(
            (status(&output), output.stdout.as_slice()),
            (Some(0), &b"R1R1"[..]),
            "{kind}: {output:?}"
        );
    }
}

#[test]
fn a_mistake_is_one_line_and_status_2() {
    for (arguments, part) in [
        (&["-m", "0"][..], "-m 0"),
        (&["-kernle", "x"], "-kernel"),
        (&["-kernel", "/nonexistent"], "/nonexistent"),
        (&["-kernel", env!("CARGO_MANIFEST_PATH")], "text file"),
        (&[], "-kernel FILE"),
        (&["run", "/nonexistent.iso"], "/nonexistent.iso: there is no such file"),
        (&["run", env!("CARGO_MANIFEST_PATH")], "give a disk, CD or floppy image"),
    ] {
        let output = retrograde(arguments).output().unwrap();
        assert_eq!(status(&output), Some(2), "{arguments:?}");
        assert!(error_line(&output).contains(part), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_image_is_described_and_run() {
    let folder = TempDir::new().unwrap();
    let path = kernel(folder.path(), POWER_OFF);
    let path = path.to_str().unwrap();
    let output = retrograde(&["image", "info", path]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("multiboot kernel") && text.contains("as -kernel"), "{text}");
    let output = retrograde(&["image", "info", "--json", path, path]).output().unwrap();
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 2);
    let output = retrograde(&["run", path, "-m", "16"]).output().unwrap();
    assert_eq!((status(&output), output.stdout.as_slice()), (Some(0), &b"R"[..]), "{output:?}");
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
fn two_serial_ports_go_to_two_places() {
    let folder = TempDir::new().unwrap();
    let second = format!("file:{}", folder.path().join("second").display());
    // mov dx, 0x2f8; mov al, 'S'; out dx, al
    let code: Vec<u8> = [&[0x66, 0xba, 0xf8, 0x02, 0xb0, b'S', 0xee], POWER_OFF].concat();
    let output = run_guest(&code, &["-display", "none", "-serial", "stdio", "-serial", &second]);
    assert_eq!((status(&output), output.stdout.as_slice()), (Some(0), &b"R"[..]), "{output:?}");
    assert_eq!(fs::read(folder.path().join("second")).unwrap(), b"S");
    // Without a second one there is no port: what is written there is lost, and the bus reads as ones.
    let probe = [0x66, 0xba, 0xff, 0x02, 0xb0, 0x5a, 0xee, 0xec, 0x66, 0xba, 0xf4, 0, 0xee];
    let exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"];
    for (ports, scratch) in [(&["-nographic"][..], 0xff), (&["-serial", "null", "-serial", &second], 0x5a)] {
        let output = run_guest(&probe, &[&exit, ports].concat());
        assert_eq!(status(&output), Some((scratch << 1 | 1) & 0xff), "{ports:?}");
    }
}

#[test]
fn what_is_typed_goes_to_the_port_on_the_terminal() {
    let folder = TempDir::new().unwrap();
    // ECHO on COM2 (ports 0x2fd and 0x2f8), up to a q: cmp al, 'q'; jne to its start.
    let mut echo = ECHO[..15].to_vec();
    (echo[3], echo[12]) = (2, 2);
    let code = [&echo[..], &[0x3c, b'q', 0x75, 0xed], POWER_OFF].concat();
    let path = kernel(folder.path(), &code);
    let input = folder.path().join("input");
    fs::write(&input, b"abcq").unwrap();
    let first = format!("file:{}", folder.path().join("first").display());
    let mut command =
        retrograde(&["-kernel", path.to_str().unwrap(), "-serial", &first, "-serial", "mon:stdio"]);
    let output = command.stdin(fs::File::open(&input).unwrap()).output().unwrap();
    assert_eq!((status(&output), output.stdout.as_slice()), (Some(0), &b"abcq"[..]), "{output:?}");
    assert_eq!(fs::read(folder.path().join("first")).unwrap(), b"R");
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
