//! A page that is open: what it is shown, and what it sends.
//!
//! From the page come lines of text: `k CODE 1` and `k CODE 0` (a key goes down or up), `m DX DY DZ BUTTONS` (the mouse), `z` (let all
//! keys go), `x NAMES` (a combination, as for `sendkey`), `s TEXT` (to the serial port), `c COMMAND` (a power button), `r` (ready for
//! a picture). To it go `paused` and `running`, and binary messages: 1 with a picture's changes, 2 with bytes of the serial port.
//! Anything else from the page is passed over.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use devices::i8042::MouseMove;
use devices::vga::Picture;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::display::{Lobby, Seat, damage};
use crate::keyboard::{code_of_web_key, combination};

/// Longest message of a page: a text that is pasted into the serial console.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes of the serial port in one message.
const MAX_SERIAL: usize = 32 << 10;
/// Counts that a mouse moves at most between two messages.
const MAX_MOVE: i32 = 10_000;

/// What the page has asked for.
#[derive(Default)]
struct Page {
    ready: bool,
    closed: bool,
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

/// Serves a page until it is closed.
pub fn run(stream: TcpStream, lobby: &Lobby) -> io::Result<()> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let writing = stream.try_clone()?;
    let closing = stream.try_clone()?;
    let mut reader =
        tungstenite::accept_with_config(stream, Some(config)).map_err(|error| other(error.to_string()))?;
    let Some(seat) = lobby.enter() else { return Ok(()) };
    reader.get_ref().set_read_timeout(None)?;
    let page = Arc::new(Mutex::new(Page::default()));
    // One connection, two halves: this one only writes. The page sends no pings that the other would answer.
    let socket = WebSocket::from_raw_socket(writing, Role::Server, Some(config));
    let writer = Writer { lobby: lobby.clone(), page: page.clone(), sent: None, serial: 0, paused: None };
    let writer = std::thread::Builder::new().name("web".into()).spawn(move || {
        let ended = writer.run(socket);
        let _ = closing.shutdown(std::net::Shutdown::Both);
        ended
    })?;
    let mut session = Session { seat, lobby: lobby.clone(), page: page.clone() };
    while let Ok(message) = reader.read() {
        match message {
            Message::Text(line) => session.line(&line),
            Message::Close(_) => break,
            _ => {}
        }
    }
    page.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    lobby.nudge();
    drop(session);
    writer.join().unwrap_or(Ok(()))
}

struct Session {
    seat: Seat,
    lobby: Lobby,
    page: Arc<Mutex<Page>>,
}

impl Session {
    fn line(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "r" => {
                self.page.lock().unwrap_or_else(PoisonError::into_inner).ready = true;
                self.lobby.nudge();
            }
            "k" => {
                if let Some((name, down @ ("0" | "1"))) = rest.split_once(' ')
                    && let Some(key) = code_of_web_key(name)
                {
                    self.seat.key(key, down == "1");
                }
            }
            "m" => self.mouse(rest),
            "z" => self.seat.let_go(),
            "x" => {
                if let Ok(codes) = combination(rest) {
                    self.seat.press(codes);
                }
            }
            "s" => rest.bytes().for_each(|byte| self.seat.serial(byte)),
            "c" => {
                let command = match rest {
                    "reset" => "system_reset",
                    "powerdown" => "system_powerdown",
                    "pause" => "stop",
                    "resume" => "cont",
                    _ => return,
                };
                self.seat.command(command);
            }
            _ => {}
        }
    }

    fn mouse(&mut self, rest: &str) {
        let numbers: Option<Vec<i32>> = rest.split(' ').map(|number| number.parse().ok()).collect();
        if let Some([dx, dy, dz, buttons]) = numbers.as_deref() {
            let bounded = |n: &i32| (*n).clamp(-MAX_MOVE, MAX_MOVE);
            let buttons = (*buttons & 0x1f) as u8;
            self.seat.mouse(MouseMove { dx: bounded(dx), dy: bounded(dy), dz: bounded(dz), buttons });
        }
    }
}

/// The writing half.
struct Writer {
    lobby: Lobby,
    page: Arc<Mutex<Page>>,
    /// The picture that the page has.
    sent: Option<Arc<Picture>>,
    /// The number of the next byte of the serial port.
    serial: u64,
    /// What it was told of the time.
    paused: Option<bool>,
}

/// What there is to send.
#[derive(Default)]
struct News {
    picture: Option<Arc<Picture>>,
    serial: Vec<u8>,
    paused: Option<bool>,
}

impl Writer {
    fn run(mut self, mut socket: WebSocket<TcpStream>) -> io::Result<()> {
        while let Some(news) = self.next() {
            let mut send = |message: Message| socket.send(message).map_err(|error| other(error.to_string()));
            if let Some(paused) = news.paused {
                send(Message::text(if paused { "paused" } else { "running" }))?;
            }
            if !news.serial.is_empty() {
                send(Message::binary([&[2], &news.serial[..]].concat()))?;
            }
            if let Some(picture) = news.picture {
                send(Message::binary(changes(self.sent.as_deref(), &picture)))?;
                self.sent = Some(picture);
            }
        }
        Ok(())
    }

    /// Waits for something to send; `None`: the page or the machine is gone.
    fn next(&mut self) -> Option<News> {
        let Self { lobby, page, sent, serial, paused } = self;
        lobby.wait(|state| {
            let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
            if page.closed || state.ended {
                return Some(None);
            }
            let mut news = News::default();
            let is_new = sent.as_ref().is_none_or(|sent| !Arc::ptr_eq(sent, &state.picture));
            if page.ready && is_new {
                page.ready = false;
                news.picture = Some(state.picture.clone());
            }
            let (bytes, end) = state.serial_since(*serial);
            let part = &bytes[..bytes.len().min(MAX_SERIAL)];
            news.serial = part.to_vec();
            *serial = end - (bytes.len() - part.len()) as u64;
            if *paused != Some(state.paused) {
                *paused = Some(state.paused);
                news.paused = *paused;
            }
            let nothing = news.picture.is_none() && news.serial.is_empty() && news.paused.is_none();
            (!nothing).then_some(Some(news))
        })
    }
}

/// Width, height, number of parts; then each part's place and size, and its pixels.
fn changes(old: Option<&Picture>, new: &Picture) -> Vec<u8> {
    let rects = damage(old, new);
    let mut out = vec![1];
    let words = |out: &mut Vec<u8>, words: &[u32]| {
        out.extend(words.iter().flat_map(|word| (*word as u16).to_le_bytes()))
    };
    words(&mut out, &[new.width, new.height, rects.len() as u32]);
    for rect in rects {
        words(&mut out, &[rect.x, rect.y, rect.width, rect.height]);
        out.extend(rect.rgba(new));
    }
    out
}
