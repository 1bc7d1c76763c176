//! The terminal, while the guest has it.
//!
//! Standard input is put into raw mode, and put back on every way out: when the guard is dropped, when a signal ends or
//! stops the process, and when something panics. A thread reads bytes, takes out the commands that begin with Ctrl-A,
//! and sends the rest to the input gate. The end of input is not an error: the guest then simply hears nothing more.
//!
//! As in QEMU there are two uses. With escapes (`-nographic`, `mon:stdio`) every key goes to the guest, Ctrl-C too, except
//! Ctrl-A commands. Without (`-serial stdio`) Ctrl-A is an ordinary key, and Ctrl-C ends the emulator.

mod escape;
mod raw;
mod screen;

use std::io::{self, Read};

use crossbeam::channel::Sender;

pub use escape::{Action, Escapes};
pub use raw::RawTerminal;
pub use screen::TerminalScreen;

use crate::keyboard::Typed;
use crate::machine::gate::Live;

/// What standard input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A serial port's other end.
    Serial {
        /// Ctrl-A starts a command.
        escapes: bool,
    },
    /// The guest's keyboard; Ctrl-A starts a command.
    Keyboard,
    /// The monitor, line by line.
    Monitor,
}

/// The keys, for help texts.
pub const KEYS: &str = "\
  Ctrl-A x       end the emulator
  Ctrl-A h       this list
  Ctrl-A b       send a break (not there yet)
  Ctrl-A Ctrl-A  send Ctrl-A to the guest
";

/// Messages that should wait at most between the terminal and the gate: a large file on standard input is read no faster than
/// the guest reads.
pub const QUEUE: usize = 4096;

/// The terminal in the guest's hands; dropping it gives the terminal back.
pub struct Terminal {
    /// Standard input is a terminal: someone may be typing.
    pub interactive: bool,
    _raw: Option<RawTerminal>,
}

impl Terminal {
    /// Takes standard input over: bytes, keys and stop requests go to `sender`, in order. The reading thread lives until input
    /// ends or the process does.
    pub fn open(purpose: Use, sender: Sender<Live>) -> io::Result<Self> {
        let (escapes, keyboard) = match purpose {
            Use::Serial { escapes } => (escapes, false),
            Use::Keyboard => (true, true),
            Use::Monitor => {
                let reader = move || read_lines(&sender);
                std::thread::Builder::new().name("monitor".into()).spawn(reader)?;
                return Ok(Self { interactive: true, _raw: None });
            }
        };
        let raw = RawTerminal::enter(!escapes)?;
        let reader = move || {
            let escapes = escapes.then(Escapes::default);
            read_all(&mut io::stdin().lock(), escapes, keyboard.then(Typed::default), &sender);
        };
        std::thread::Builder::new().name("terminal".into()).spawn(reader)?;
        Ok(Self { interactive: raw.is_some(), _raw: raw })
    }
}

/// Reads until the end of input, an error, or the receiver's end.
fn read_all(
    from: &mut dyn Read,
    mut escapes: Option<Escapes>,
    mut keyboard: Option<Typed>,
    to: &Sender<Live>,
) {
    let mut buffer = [0; 512];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // For example EIO once the terminal is gone: the same as the end of input.
            Err(_) => return,
        };
        let mut typed = Vec::new();
        for byte in &buffer[..len] {
            let action = escapes.as_mut().map_or(Some(Action::Send(*byte)), |escapes| escapes.take(*byte));
            let message = match action {
                None => continue,
                Some(Action::Send(byte)) if keyboard.is_some() => {
                    typed.push(byte);
                    continue;
                }
                Some(Action::Send(byte)) => Live::Byte(byte),
                Some(Action::Quit) => Live::Stop,
                Some(Action::Help) => {
                    eprint!("\n{KEYS}");
                    continue;
                }
                Some(Action::Absent(what)) => {
                    eprintln!("\nretrograde: {what}");
                    continue;
                }
            };
            if to.send(message).is_err() {
                return;
            }
        }
        if let Some(keys) = keyboard.as_mut().map(|keyboard| keyboard.take(&typed))
            && !keys.is_empty()
            && to.send(Live::Keys(keys)).is_err()
        {
            return;
        }
    }
}

/// Reads lines for the monitor until the end of input.
fn read_lines(to: &Sender<Live>) {
    for line in io::stdin().lines() {
        let Ok(line) = line else { return };
        if to.send(Live::Command(line)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;

    fn read(bytes: &[u8], escapes: bool) -> Vec<Live> {
        let (sender, receiver) = bounded(64);
        read_all(&mut &bytes[..], escapes.then(Escapes::default), None, &sender);
        drop(sender);
        receiver.iter().collect()
    }

    #[test]
    fn commands_are_taken_out_of_the_stream() {
        let expected = [Live::Byte(b'a'), Live::Byte(1), Live::Byte(b'b'), Live::Stop];
        assert_eq!(read(b"a\x01\x01\x01h\x01cb\x01x", true), expected);
    }

    #[test]
    fn without_escapes_every_byte_passes() {
        let bytes: Vec<u8> = (0..60).collect();
        let expected: Vec<Live> = bytes.iter().copied().map(Live::Byte).collect();
        assert_eq!(read(&bytes, false), expected);
    }

    #[test]
    fn a_gone_receiver_ends_the_reader() {
        let (sender, receiver) = bounded(1);
        drop(receiver);
        read_all(&mut io::repeat(7), None, None, &sender);
    }
}
