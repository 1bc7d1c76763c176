//! The binary on a pseudo-terminal of its own.
#![expect(unsafe_code, reason = "pseudo-terminals and controlling terminals")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;

use super::{ECHO, POWER_OFF, TRIPLE_FAULT, kernel};

/// Generous: the machine may be busy, or an emulator itself.
const PATIENCE: Duration = Duration::from_secs(120);

struct Session {
    child: Child,
    master: File,
    slave: OwnedFd,
    output: Receiver<u8>,
    before: libc::termios,
    _folder: TempDir,
}

fn settings(fd: &OwnedFd) -> libc::termios {
    // SAFETY: termios consists of integers, and tcgetattr fills it from an open terminal.
    unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(fd.as_raw_fd(), &mut mode), 0);
        mode
    }
}

fn same(a: &libc::termios, b: &libc::termios) -> bool {
    (a.c_iflag, a.c_oflag, a.c_cflag, a.c_lflag, a.c_cc)
        == (b.c_iflag, b.c_oflag, b.c_cflag, b.c_lflag, b.c_cc)
}

impl Session {
    fn start(code: &[u8], arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = kernel(folder.path(), code);
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: both descriptors are written before the call returns 0; the other pointers may be null.
        let opened = unsafe {
            libc::openpty(
                &mut master,
                &mut slave,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        assert_eq!(opened, 0);
        // SAFETY: openpty has just opened both, and nobody else owns them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let before = settings(&slave);
        let mut command = crate::program();
        command.args(["-m", "16", "-kernel", path.to_str().unwrap()]).args(arguments);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap());
        command.stderr(slave.try_clone().unwrap());
        // SAFETY: signal, setsid and ioctl are async-signal-safe; standard input is the pseudo-terminal by then.
        unsafe {
            command.pre_exec(|| {
                // A shell's background job has these ignored, and what is ignored stays so.
                for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let mut reader = master.try_clone().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut byte = [0];
            while reader.read(&mut byte).is_ok_and(|len| len == 1) && sender.send(byte[0]).is_ok() {}
        });
        Self { child, master, slave, output, before, _folder: folder }
    }

    /// Waits until `text` has appeared.
    fn expect(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !seen.ends_with(text.as_bytes()) {
            let byte = self.output.recv_timeout(PATIENCE);
            seen.push(
                byte.unwrap_or_else(|_| panic!("waiting for {text:?}: {}", String::from_utf8_lossy(&seen))),
            );
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn is_raw(&self) -> bool {
        settings(&self.slave).c_lflag & (libc::ICANON | libc::ECHO) == 0
    }

    /// Waits for the end, and checks that the terminal is as it was.
    fn end(mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        assert!(same(&self.before, &settings(&self.slave)), "the terminal was not restored");
        status
    }
}

#[test]
fn keys_reach_the_guest_and_ctrl_a_the_emulator() {
    let mut session = Session::start(ECHO, &["-nographic"]);
    session.expect("R");
    assert!(session.is_raw());
    session.send(b"k\x03\x1a.");
    session.expect("k\x03\x1a.");
    session.send(b"\x01h");
    session.expect("send Ctrl-A to the guest");
    session.send(b"\x01x");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn without_escapes_ctrl_c_ends_the_emulator() {
    let mut session = Session::start(ECHO, &["-serial", "stdio"]);
    session.expect("R");
    session.send(b"\x01x");
    session.expect("\x01x");
    session.send(b"\x03");
    assert_eq!(session.end().signal(), Some(libc::SIGINT));
}

#[test]
fn signals_give_the_terminal_back() {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        let mut session = Session::start(ECHO, &["-nographic"]);
        session.expect("R");
        assert!(session.is_raw());
        session.signal(signal);
        assert_eq!(session.end().signal(), Some(signal));
    }
}

#[test]
fn every_end_of_the_guest_gives_the_terminal_back() {
    for (code, status) in [(POWER_OFF, 0), (TRIPLE_FAULT, 80)] {
        let mut session = Session::start(code, &["-nographic", "-no-reboot"]);
        session.expect("R");
        assert_eq!(session.end().code(), Some(status));
    }
}

#[test]
fn stopping_and_continuing_leave_and_enter_raw_mode() {
    let mut session = Session::start(ECHO, &["-nographic"]);
    session.expect("R");
    session.signal(libc::SIGTSTP);
    while session.is_raw() {
        std::thread::sleep(Duration::from_millis(10));
    }
    session.signal(libc::SIGCONT);
    while !session.is_raw() {
        std::thread::sleep(Duration::from_millis(10));
    }
    session.send(b"again");
    session.expect("again");
    session.send(b"\x01x");
    assert_eq!(session.end().code(), Some(0));
}
