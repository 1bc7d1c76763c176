//! Where the guest's characters go: standard output, files, or nowhere. Nothing is buffered here: what the guest has
//! written is outside when the next instruction runs, however the process ends.

use std::fs::File;
use std::io::{self, Write};

use devices::vga::{Picture, TextScreen};

use crate::boot::explain;
use crate::cli::UserError;
use crate::config::{Chardev, DisplayChoice, MachineConfig};
use crate::display::Hub;
use crate::machine::Console;
use crate::terminal::TerminalScreen;

/// One destination.
#[derive(Debug)]
enum Sink {
    Null,
    Stdout,
    File { file: File, name: String },
}

impl Sink {
    fn open(option: &str, chardev: &Chardev) -> Result<Self, UserError> {
        Ok(match chardev {
            Chardev::Null => Self::Null,
            Chardev::Stdio { .. } => Self::Stdout,
            Chardev::File(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|error| {
                    let (problem, remedy) = explain(&error);
                    UserError::new(format!("{option} file:{name}"), problem, remedy)
                })?;
                Self::File { file, name }
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Null => Ok(()),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)
                    .and_then(|()| out.flush())
                    .map_err(|error| named("standard output", &error))
            }
            Self::File { file, name } => file.write_all(bytes).map_err(|error| named(name, &error)),
        }
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    let (problem, remedy) = explain(error);
    io::Error::new(error.kind(), format!("{name}: {problem}; {remedy}"))
}

/// The destinations of all ports.
pub struct HostConsole {
    serial: Vec<Sink>,
    debug: Sink,
    post: Vec<Sink>,
    monitor: bool,
    screen: Option<TerminalScreen>,
    hub: Option<Hub>,
}

impl HostConsole {
    /// Opens what `config` names; files are emptied.
    pub fn open(config: &MachineConfig) -> Result<Self, UserError> {
        let serial =
            config.serial.iter().map(|chardev| Sink::open("-serial", chardev)).collect::<Result<_, _>>()?;
        let debug =
            config.debugcon.as_ref().map_or(Ok(Sink::Null), |chardev| Sink::open("-debugcon", chardev))?;
        let post = config.test.post.iter();
        let post = post
            .map(|device| Sink::open("-device retro-post", &Chardev::File(device.file.clone())))
            .collect::<Result<_, _>>()?;
        let screen = (config.display == DisplayChoice::Terminal).then(TerminalScreen::new);
        Ok(Self { serial, debug, post, monitor: config.monitor, screen, hub: None })
    }

    /// Shows pictures, and what the first serial port sends, at displays.
    pub fn attach(&mut self, hub: Hub) {
        self.hub = Some(hub);
    }
}

impl Drop for HostConsole {
    fn drop(&mut self) {
        if let Some(screen) = &mut self.screen {
            // The terminal may be gone; nothing can be done about it.
            let _ = screen.leave(&mut io::stdout().lock());
        }
    }
}

impl Console for HostConsole {
    fn serial(&mut self, port: u8, bytes: &[u8]) -> io::Result<()> {
        if port == 0
            && let Some(hub) = &mut self.hub
        {
            hub.serial(bytes);
        }
        self.serial.get_mut(usize::from(port)).map_or(Ok(()), |sink| sink.write(bytes))
    }

    fn debug(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.debug.write(bytes)
    }

    fn monitor(&mut self, text: &str) -> io::Result<()> {
        if self.monitor && !text.is_empty() {
            return Sink::Stdout.write(text.as_bytes());
        }
        Ok(())
    }

    fn wants_frame(&mut self) -> bool {
        self.screen.as_mut().is_some_and(TerminalScreen::is_due)
    }

    fn frame(&mut self, screen: Option<&TextScreen>) -> io::Result<()> {
        self.screen.as_mut().map_or(Ok(()), |terminal| terminal.draw(screen, &mut io::stdout().lock()))
    }

    fn frame_interval(&self) -> Option<u64> {
        let terminal = self.screen.as_ref().map(|_| TerminalScreen::interval_ns());
        terminal.into_iter().chain(self.hub.as_ref().and_then(Hub::interval)).min()
    }

    fn wants_picture(&mut self) -> bool {
        self.hub.as_mut().is_some_and(Hub::is_due)
    }

    fn picture(&mut self, picture: Option<Picture>) -> io::Result<()> {
        if let Some(hub) = &mut self.hub {
            hub.show(picture);
        }
        Ok(())
    }

    fn paused(&mut self, paused: bool) {
        if let Some(hub) = &mut self.hub {
            hub.set_paused(paused);
        }
    }

    fn post(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        self.post.get_mut(index).map_or(Ok(()), |sink| sink.write(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_exactly_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial");
        let config = MachineConfig {
            serial: vec![Chardev::Null, Chardev::File(path.clone())],
            debugcon: None,
            ..MachineConfig::default()
        };
        let mut console = HostConsole::open(&config).unwrap();
        for (port, bytes) in [(1, &b"a\r\n"[..]), (0, b"x"), (1, b"\0"), (9, b"y")] {
            console.serial(port, bytes).unwrap();
        }
        console.debug(b"z").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"a\r\n\0");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let path = "/nonexistent-folder/serial";
        let config = MachineConfig { serial: vec![Chardev::File(path.into())], ..MachineConfig::default() };
        let message = HostConsole::open(&config).err().unwrap().to_string();
        assert!(message.contains(path) && message.contains("check the path"), "{message}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_with_the_name() {
        let config =
            MachineConfig { serial: vec![Chardev::File("/dev/full".into())], ..MachineConfig::default() };
        let error = HostConsole::open(&config).unwrap().serial(0, b"x").unwrap_err();
        assert!(error.to_string().contains("/dev/full: no space is left"), "{error}");
    }
}
