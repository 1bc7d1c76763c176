//! Displays of the running program: by a WebSocket, and in a browser where the host has one. The guest is our own BIOS' monitor.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

mod browser;

const DEADLINE: Duration = Duration::from_secs(120);

/// The program with a monitor on its standard input; ended when this is dropped.
struct Running {
    child: Child,
    monitor: ChildStdin,
    /// Where the display is.
    place: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = super::program();
        command.args(["-m", "16", "-bios", "builtin", "-monitor", "stdio"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let monitor = child.stdin.take().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let place = line.split("the display is at ").nth(1).unwrap_or_else(|| panic!("{line}"));
        let place = place.split(',').next().unwrap().trim().to_owned();
        // Nobody may write into a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self { child, monitor, place }
    }

    fn quits(mut self) {
        self.monitor.write_all(b"quit\n").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A picture as the page has it.
#[derive(Clone, PartialEq, Eq, Default)]
struct Screen {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Screen {
    fn lit(&self) -> usize {
        self.pixels.chunks_exact(4).filter(|pixel| pixel[..3] != [0; 3]).count()
    }

    fn draw(&mut self, message: &[u8]) {
        let word = |at: usize| usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
        let (width, height, count) = (word(1), word(3), word(5));
        if (self.width, self.height) != (width, height) {
            *self = Self { width, height, pixels: vec![0; 4 * width * height] };
        }
        let mut at = 7;
        for _ in 0..count {
            let [x, y, w, h] = [0, 2, 4, 6].map(|n| word(at + n));
            at += 8;
            for row in y..y + h {
                let to = 4 * (row * width + x);
                self.pixels[to..to + 4 * w].copy_from_slice(&message[at..at + 4 * w]);
                at += 4 * w;
            }
        }
        assert_eq!(at, message.len());
    }
}

fn open(place: &str) -> WebSocket<TcpStream> {
    let host = place.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut request = place.replace("http", "ws").into_client_request().unwrap();
    *request.uri_mut() = format!("{}ws", place.replace("http", "ws")).parse().unwrap();
    request.headers_mut().insert("Origin", format!("http://{host}").parse().unwrap());
    let stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    tungstenite::client(request, stream).unwrap().0
}

/// Shows pictures until one is as wanted.
fn until(socket: &mut WebSocket<TcpStream>, screen: &mut Screen, wanted: impl Fn(&Screen) -> bool) {
    let begun = Instant::now();
    while !wanted(screen) {
        assert!(begun.elapsed() < DEADLINE, "{}x{}, {} lit", screen.width, screen.height, screen.lit());
        socket.send(Message::text("r")).unwrap();
        loop {
            if let Message::Binary(bytes) = socket.read().unwrap()
                && bytes[0] == 1
            {
                screen.draw(&bytes);
                break;
            }
        }
    }
}

#[test]
fn the_web_display_shows_the_guest_and_takes_keys() {
    let running = Running::start(&["-display", "web", "-serial", "null"]);
    let mut socket = open(&running.place);
    let mut screen = Screen::default();
    until(&mut socket, &mut screen, |screen| screen.lit() > 2000);
    let before = screen.lit();
    for line in ["k KeyH 1", "k KeyH 0", "k Enter 1", "k Enter 0"] {
        socket.send(Message::text(line)).unwrap();
    }
    // The monitor's help is many lines.
    until(&mut socket, &mut screen, |screen| screen.lit() > before + 500 || screen.lit() + 2000 < before);
    socket.send(Message::text("c pause")).unwrap();
    while socket.read().unwrap() != Message::text("paused") {}
    socket.send(Message::text("c resume")).unwrap();
    while socket.read().unwrap() != Message::text("running") {}
    running.quits();
}

#[test]
fn the_vnc_server_greets() {
    // A port that is free now, and most likely still is in a moment.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let display = format!(":{}", port - 5900);
    let running = Running::start(&["-vnc", &display]);
    assert_eq!(running.place, format!("127.0.0.1:{port}"));
    let mut stream = TcpStream::connect(&running.place).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut greeting = [0; 12];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"RFB 003.008\n");
    let mut command: Command = super::program();
    let second = command.args(["-bios", "builtin", "-vnc", &display]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(super::error_line(&second).contains("this port is in use"), "{second:?}");
    running.quits();
}
