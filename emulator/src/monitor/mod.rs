//! The monitor: commands about the machine, in QEMU's words (HMP).
//!
//! A command line is parsed here; the machine carries it out between two instructions. What changes the guest's fate passes the
//! input gate like any other input.

mod picture;

use std::path::PathBuf;

pub use picture::{write_png, write_ppm};

use crate::keyboard::{Codes, combination};

/// What is written before each command.
pub const PROMPT: &str = "(retrograde) ";

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing was written.
    Nothing,
    /// Ends the emulator.
    Quit,
    /// The list of commands.
    Help,
    /// Resets the machine.
    Reset,
    /// Presses the power button.
    PowerButton,
    /// Time stands still ...
    Stop,
    /// ... and goes on.
    Continue,
    /// Key movements.
    SendKey(Vec<Codes>),
    /// A movement of the mouse.
    MouseMove {
        /// To the right.
        dx: i32,
        /// Down.
        dy: i32,
        /// The wheel, towards the user.
        dz: i32,
    },
    /// The mouse's buttons that are down, as [`devices::i8042::MouseMove`] has them.
    MouseButtons(u8),
    /// A picture of the display to a file; `true`: as PPM.
    ScreenDump(PathBuf, bool),
    /// The registers of the chosen processor, or of all.
    Registers {
        /// Of all.
        all: bool,
    },
    /// What each processor does.
    Cpus,
    /// What the engines have counted.
    Jit,
    /// Which locks processors have taken.
    Locks,
    /// Chooses the processor that other commands are about.
    ChooseCpu(usize),
    /// Does time go on?
    Status,
    /// Puts a medium (or none) into a drive.
    Change {
        /// Which.
        drive: Removable,
        /// The image.
        medium: Option<PathBuf>,
        /// Although the guest has locked the door.
        force: bool,
    },
}

/// A drive whose medium can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removable {
    /// The CD drive of this name.
    Cd(String),
    /// Floppy drive 0 or 1.
    Floppy(u8),
}

/// For `help`.
pub const HELP: &str = "\
change DEVICE FILE       put FILE into a drive: cdrom, ide1-cd0, floppy0
cont                     let time go on
cpu NUMBER               choose the processor that info registers is about
eject [-f] DEVICE        take the medium out
help                     this list
info cpus                what each processor does, * before the chosen one
info jit                 what the interpreter and the compiler have done so far
info locks               locks that processors which run in parallel have taken
info registers [-a]      the chosen processor's registers (-a: those of all)
info status              running or paused
mouse_button MASK        buttons that are down: 1 left, 2 middle, 4 right
mouse_move DX DY [DZ]    move the mouse, turn its wheel
quit                     end the emulator
screendump FILE          the display's picture as PNG (-f ppm: as PPM)
sendkey KEYS             press keys, for example sendkey ctrl-alt-delete
stop                     let time stand still
system_powerdown         press the power button
system_reset             reset the machine
";

impl Removable {
    /// By QEMU's names.
    fn parse(name: &str) -> Self {
        match name {
            "floppy0" => Self::Floppy(0),
            "floppy1" => Self::Floppy(1),
            _ => Self::Cd(name.into()),
        }
    }
}

/// Reads a line. `Err`: what to tell the user.
pub fn parse(line: &str) -> Result<Command, String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let force = words.contains(&"-f") && words.first() != Some(&"screendump");
    if force {
        words.retain(|word| *word != "-f");
    }
    Ok(match words.as_slice() {
        [] => Command::Nothing,
        ["q" | "quit"] => Command::Quit,
        ["help" | "?", ..] => Command::Help,
        ["system_reset"] => Command::Reset,
        ["system_powerdown"] => Command::PowerButton,
        ["stop" | "s"] => Command::Stop,
        ["c" | "cont"] => Command::Continue,
        ["sendkey", keys] | ["sendkey", keys, _] => Command::SendKey(combination(keys)?),
        ["mouse_move", dx, dy] => mouse_move(dx, dy, "0")?,
        ["mouse_move", dx, dy, dz] => mouse_move(dx, dy, dz)?,
        ["mouse_button", mask] => match mask.parse::<u8>() {
            Ok(mask @ 0..=7) => Command::MouseButtons(mask & 1 | mask >> 1 & 2 | mask << 1 & 4),
            _ => return Err(format!("\"{mask}\" is not a sum of 1 (left), 2 (middle) and 4 (right)")),
        },
        ["screendump", file] => Command::ScreenDump(file.into(), file.ends_with(".ppm")),
        ["screendump", file, "-f", format @ ("png" | "ppm")]
        | ["screendump", "-f", format @ ("png" | "ppm"), file] => {
            Command::ScreenDump(file.into(), *format == "ppm")
        }
        ["info", "registers"] => Command::Registers { all: false },
        ["info", "registers", "-a"] => Command::Registers { all: true },
        ["info", "cpus"] => Command::Cpus,
        ["info", "jit"] => Command::Jit,
        ["info", "locks"] => Command::Locks,
        ["cpu", number] => match number.parse() {
            Ok(number) => Command::ChooseCpu(number),
            Err(_) => return Err(format!("\"{number}\" is no processor's number: see info cpus")),
        },
        ["info", "status"] => Command::Status,
        ["change", name, file, ..] => {
            Command::Change { drive: Removable::parse(name), medium: Some(file.into()), force }
        }
        ["eject", name] => Command::Change { drive: Removable::parse(name), medium: None, force },
        [
            command @ ("sendkey" | "mouse_move" | "mouse_button" | "screendump" | "info" | "change" | "eject"
            | "cpu"),
            ..,
        ] => {
            let usage = HELP.lines().find(|line| line.starts_with(command)).unwrap_or_default();
            return Err(format!("usage: {usage}"));
        }
        [other, ..] => return Err(format!("there is no command \"{other}\"; help lists them")),
    })
}

fn mouse_move(dx: &str, dy: &str, dz: &str) -> Result<Command, String> {
    let count = |text: &str| text.parse().map_err(|_| format!("\"{text}\" is not a number"));
    Ok(Command::MouseMove { dx: count(dx)?, dy: count(dy)?, dz: count(dz)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_qemus() {
        assert_eq!(parse("  q "), Ok(Command::Quit));
        assert_eq!(parse("cpu 1"), Ok(Command::ChooseCpu(1)));
        assert_eq!(parse("info locks"), Ok(Command::Locks));
        assert_eq!(parse("info registers -a"), Ok(Command::Registers { all: true }));
        assert_eq!(parse("info jit"), Ok(Command::Jit));
        assert_eq!(parse("screendump a.png"), Ok(Command::ScreenDump("a.png".into(), false)));
        assert_eq!(parse("screendump a -f ppm"), Ok(Command::ScreenDump("a".into(), true)));
        assert!(matches!(parse("sendkey ctrl-alt-delete"), Ok(Command::SendKey(codes)) if codes.len() == 6));
        let change = |name: &str, medium: Option<&str>, force| {
            Ok(Command::Change { drive: Removable::Cd(name.into()), medium: medium.map(Into::into), force })
        };
        assert_eq!(parse("change ide1-cd0 b.iso"), change("ide1-cd0", Some("b.iso"), false));
        assert_eq!(parse("eject -f ide0-cd1"), change("ide0-cd1", None, true));
        assert_eq!(parse("mouse_move -3 4"), Ok(Command::MouseMove { dx: -3, dy: 4, dz: 0 }));
        // QEMU's mask has the middle button before the right one, the wire has it after.
        assert_eq!(parse("mouse_button 2"), Ok(Command::MouseButtons(4)));
        for (line, hint) in [
            ("sendkey nokey", "nokey"),
            ("frob", "help"),
            ("info", "info cpus"),
            ("cpu one", "info cpus"),
            ("cpu", "cpu NUMBER"),
            ("mouse_move 1", "mouse_move DX DY"),
            ("mouse_move 1 x", "\"x\""),
            ("mouse_button 8", "1 (left)"),
        ] {
            assert!(parse(line).unwrap_err().contains(hint), "{line}");
        }
    }
}
