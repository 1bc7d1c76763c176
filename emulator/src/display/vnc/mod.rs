//! `-vnc`: the display by the Remote Framebuffer protocol (RFC 6143), for any viewer.
//!
//! Versions 3.3, 3.7 and 3.8; no authentication, or the protocol's own by password, which keeps out the curious only: the
//! connection is not encrypted, so the server listens on the loopback interface unless it is told another address. Raw and ZRLE
//! encodings, changes of the desktop's size, and QEMU's extended key events, by which keys arrive as they lie on the keyboard.

mod protocol;
mod update;

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devices::i8042::MouseMove;
use serde::{Deserialize, Serialize};

use super::{Lobby, Seat, listen};
use crate::cli::UserError;
use crate::keyboard::{code, code_of_number, name_of_symbol};
use protocol::{Message, PointerEvent};
use update::{Client, Updates};

/// How long a viewer may take over a step of the handshake.
const PATIENCE: Duration = Duration::from_secs(20);
/// Tries of a password that are answered at once; each takes a second more.
const WRONG_PASSWORD: Duration = Duration::from_secs(1);

/// Where the server listens, and who may look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VncConfig {
    /// Address and port.
    pub address: SocketAddr,
    /// Of which the first eight characters count.
    pub password: Option<String>,
}

/// Starts the server; gives the address at which it listens.
pub fn start(config: &VncConfig, lobby: Lobby) -> Result<SocketAddr, UserError> {
    let password = config.password.clone();
    listen("-vnc", config.address, "vnc", move |stream| {
        // A viewer that goes, or talks nonsense, is no event of the machine's.
        if let Err(error) = serve(stream, &lobby, password.as_deref()) {
            tracing::debug!(target: "vnc", %error, "a viewer is gone");
        }
    })
}

fn serve(stream: TcpStream, lobby: &Lobby, password: Option<&str>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    if !protocol::handshake(&mut input, &mut output, password)? {
        std::thread::sleep(WRONG_PASSWORD);
        return Ok(());
    }
    let Some(seat) = lobby.enter() else { return Ok(()) };
    let picture = lobby.wait(|state| Some(state.picture.clone()));
    protocol::init(&mut input, &mut output, &picture)?;
    input.get_ref().set_read_timeout(None)?;
    let client = Arc::new(Mutex::new(Client::default()));
    let updates = Updates::new(lobby.clone(), client.clone(), picture);
    let closer = output.try_clone()?;
    let writer = std::thread::Builder::new().name("vnc".into()).spawn(move || {
        let mut output = output;
        let ended = updates.run(&mut output);
        // The reader waits for a viewer that cannot be answered any more.
        let _ = closer.shutdown(std::net::Shutdown::Both);
        ended
    })?;
    let read = Session { seat, lobby: lobby.clone(), client: client.clone(), pointer: None }.run(&mut input);
    client.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    lobby.nudge();
    let written = writer.join().unwrap_or(Ok(()));
    read.and(written)
}

/// A viewer's messages, as they come in.
struct Session {
    seat: Seat,
    lobby: Lobby,
    client: Arc<Mutex<Client>>,
    /// Where its pointer was.
    pointer: Option<(i32, i32)>,
}

impl Session {
    fn run(mut self, input: &mut impl Read) -> io::Result<()> {
        while let Some(message) = protocol::message(input)? {
            self.take(message);
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            Message::Format(format) => client.format = format,
            Message::Encodings(encodings) => client.set_encodings(&encodings),
            Message::UpdateRequest { incremental } => {
                client.wanted = true;
                client.everything |= !incremental;
            }
            Message::Key { symbol, down } => {
                drop(client);
                return self.key(symbol, down);
            }
            Message::ExtendedKey { symbol, number, down } => {
                drop(client);
                return match code_of_number(number) {
                    Some(key) => self.seat.key(key, down),
                    None => self.key(symbol, down),
                };
            }
            Message::Pointer(event) => {
                let relative = client.relative_pointer;
                drop(client);
                return self.pointer(event, relative);
            }
            Message::Nothing => return,
        }
        drop(client);
        self.lobby.nudge();
    }

    fn key(&mut self, symbol: u32, down: bool) {
        if let Some(key) = name_of_symbol(symbol).and_then(code) {
            self.seat.key(key, down);
        } else if let Some(character) = char::from_u32(symbol).filter(|c| (' '..='~').contains(c)) {
            self.seat.character(character, down);
        }
    }

    fn pointer(&mut self, event: PointerEvent, relative: bool) {
        let at = (i32::from(event.x), i32::from(event.y));
        let (dx, dy) = if relative {
            (at.0 - 0x7fff, at.1 - 0x7fff)
        } else {
            let last = self.pointer.replace(at).unwrap_or(at);
            (at.0 - last.0, at.1 - last.1)
        };
        // Left, middle, right; the wheel's two directions are buttons that go down and up.
        let buttons = event.buttons & 1 | event.buttons >> 1 & 2 | event.buttons << 1 & 4;
        let dz = i32::from(event.buttons >> 4 & 1) - i32::from(event.buttons >> 3 & 1);
        self.seat.mouse(MouseMove { dx, dy, dz, buttons });
    }
}

/// Sends bytes and nothing less.
fn send(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes)?;
    output.flush()
}

#[cfg(test)]
mod tests;
