//! The page's protocol without a browser: who is let in, what is shown, and what arrives.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crossbeam::channel::{Receiver, unbounded};
use devices::i8042::MouseMove;
use devices::vga::Picture;
use proptest::prelude::*;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::*;
use crate::display::Hub;
use crate::machine::gate::Live;

struct Served {
    hub: Hub,
    /// `127.0.0.1:PORT`
    host: String,
    /// `/KEY/`
    path: String,
    sent: Receiver<Live>,
}

fn served() -> Served {
    let (sender, sent) = unbounded();
    let hub = Hub::new(sender);
    let url = start((Ipv4Addr::LOCALHOST, 0).into(), hub.lobby()).unwrap();
    let (host, key) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    assert_eq!(key.len(), 33);
    Served { hub, host: host.into(), path: format!("/{key}"), sent }
}

/// What the server says to a request with these headers.
fn ask(served: &Served, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(&served.host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn open(served: &Served, path: &str, origin: Option<&str>) -> Result<WebSocket<TcpStream>, String> {
    let mut request = format!("ws://{}{path}", served.host).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin.parse().unwrap());
    }
    let stream = TcpStream::connect(&served.host).unwrap();
    tungstenite::client(request, stream).map(|(socket, _)| socket).map_err(|error| error.to_string())
}

#[test]
fn the_page_is_for_those_who_have_its_key() {
    let served = served();
    let host = format!("Host: {}\r\n", served.host);
    let page = ask(&served, &served.path, &host);
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("<canvas"), "{page}");
    assert!(page.contains("default-src 'none'") && page.contains("no-referrer"));
    let script = ask(&served, &format!("{}page.js", served.path), &host);
    assert!(script.contains("text/javascript") && script.contains("WebSocket"));
    let status = |path: &str, headers: &str| ask(&served, path, headers).split(' ').nth(1).map(str::to_owned);
    for path in ["/", "/ws", "/page.js", &served.path[..served.path.len() - 2], "/../etc/passwd"] {
        assert_eq!(status(path, &host).as_deref(), Some("403"), "{path}");
    }
    assert_eq!(status(&format!("{}other", served.path), &host).as_deref(), Some("404"));
    // A name that someone else points to this host.
    assert_eq!(status(&served.path, "Host: attacker.example\r\n").as_deref(), Some("403"));
    assert_eq!(status(&served.path, "").as_deref(), Some("403"));
    let port = served.host.split(':').nth(1).unwrap();
    assert_eq!(status(&served.path, &format!("Host: localhost:{port}\r\n")).as_deref(), Some("200"));
    // What is no request gets no answer.
    for nonsense in ["POST / HTTP/1.1\r\n\r\n", "\0\0\0\0", "GET\r\n\r\n"] {
        let mut stream = TcpStream::connect(&served.host).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{nonsense:?}");
    }
}

#[test]
fn other_pages_do_not_get_a_socket() {
    let served = served();
    let ws = format!("{}ws", served.path);
    for origin in [None, Some("http://attacker.example"), Some("null"), Some("http://127.0.0.1:1")] {
        assert!(open(&served, &ws, origin).is_err(), "{origin:?}");
    }
    assert!(open(&served, "/ws", Some(&format!("http://{}", served.host))).is_err());
    assert!(served.sent.try_recv().is_err(), "nobody was let in");
    assert!(open(&served, &ws, Some(&format!("http://{}", served.host))).is_ok());
}

/// The next binary message of this kind.
fn next(socket: &mut WebSocket<TcpStream>, kind: u8) -> Vec<u8> {
    loop {
        if let Message::Binary(bytes) = socket.read().unwrap()
            && bytes[0] == kind
        {
            return bytes[1..].to_vec();
        }
    }
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn a_page_sees_and_types() {
    let mut served = served();
    served.hub.serial(b"before");
    let origin = format!("http://{}", served.host);
    let mut socket = open(&served, &format!("{}ws", served.path), Some(&origin)).unwrap();
    assert_eq!(next(&mut socket, 2), b"before");
    let mut picture = Picture { width: 100, height: 70, rgb: vec![7; 3 * 7000] };
    served.hub.show(Some(picture.clone()));
    // The first picture may be the one from before; then this one.
    let mut whole = Vec::new();
    while !whole.starts_with(&[100, 0, 70, 0]) {
        socket.send(Message::text("r")).unwrap();
        whole = next(&mut socket, 1);
    }
    assert_eq!(words(&whole[..14]), [100, 70, 1, 0, 0, 100, 70]);
    assert_eq!(whole.len(), 14 + 4 * 7000);
    picture.rgb[3 * 6999] = 9;
    socket.send(Message::text("r")).unwrap();
    served.hub.show(Some(picture));
    let part = next(&mut socket, 1);
    assert_eq!(words(&part[..14]), [100, 70, 1, 64, 64, 36, 6]);
    assert_eq!(part[part.len() - 4..], [9, 7, 7, 255]);
    served.hub.set_paused(true);
    while socket.read().unwrap() != Message::text("paused") {}
    for line in [
        "k KeyA 1",
        "k Nonsense 1",
        "k KeyA 0",
        "m 1 -2 0 1",
        "x ctrl-c",
        "s é\r",
        "c pause",
        "c format",
        "?",
    ] {
        socket.send(Message::text(line)).unwrap();
    }
    socket.close(None).unwrap();
    let mut sent = Vec::new();
    while sent.last() != Some(&Live::Mouse(MouseMove::default())) {
        match served.sent.recv().unwrap() {
            Live::Look => {}
            message => sent.push(message),
        }
    }
    let keys = |codes: &[&[u8]]| Live::Keys(codes.iter().map(|code| code.to_vec()).collect());
    let serial = |byte| Live::Serial { port: 0, byte };
    let expected = [
        keys(&[&[0x1c]]),
        keys(&[&[0xf0, 0x1c]]),
        Live::Mouse(MouseMove { dx: 1, dy: -2, dz: 0, buttons: 1 }),
        keys(&[&[0x14], &[0x21], &[0xf0, 0x21], &[0xf0, 0x14]]),
        serial(0xc3),
        serial(0xa9),
        serial(b'\r'),
        Live::Command("stop".into()),
        Live::Mouse(MouseMove::default()),
    ];
    assert_eq!(sent, expected);
}

proptest! {
    #[test]
    fn no_head_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), host in "\\PC{0,30}") {
        let _ = http::Request::parse(&bytes);
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        if let Ok(Some(request)) = http::Request::parse(head.as_bytes()) {
            let _ = request.names_us() || request.comes_from_our_page();
        }
    }
}
