//! As much of HTTP as a page takes: the head of a request, and an answer.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest head of a request.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// What matters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub path: String,
    /// Whom the browser believes to talk to.
    pub host: String,
    /// The page that asks.
    pub origin: Option<String>,
    /// It asks for a WebSocket.
    pub upgrade: bool,
    /// Bytes of the head.
    pub len: usize,
}

impl Request {
    /// The request whose head `bytes` begins with; `None`: it is not all there yet.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let len = match parsed.parse(bytes).map_err(|error| bad(&error.to_string()))? {
            httparse::Status::Complete(len) => len,
            httparse::Status::Partial => return Ok(None),
        };
        if parsed.method != Some("GET") {
            return Err(bad("not a GET request"));
        }
        let mut request = Self { path: parsed.path.unwrap_or_default().to_owned(), len, ..Self::default() };
        for header in parsed.headers.iter() {
            let value = String::from_utf8_lossy(header.value).into_owned();
            match header.name.to_ascii_lowercase().as_str() {
                "host" => request.host = value,
                "origin" => request.origin = Some(value),
                "upgrade" => request.upgrade = value.eq_ignore_ascii_case("websocket"),
                _ => {}
            }
        }
        Ok(Some(request))
    }

    /// Is the server named by a number or as localhost? A name could be anyone's, and point here.
    pub fn names_us(&self) -> bool {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        name.eq_ignore_ascii_case("localhost")
            || self.host.parse::<SocketAddr>().is_ok()
            || name.parse::<IpAddr>().is_ok()
    }

    /// Does the page that asks come from this server?
    pub fn comes_from_our_page(&self) -> bool {
        self.origin.as_deref().and_then(|origin| origin.strip_prefix("http://")) == Some(&self.host)
    }
}

/// Looks at the head of a request without taking it: the WebSocket library wants to read it itself.
pub fn peek(stream: &TcpStream) -> io::Result<Option<Request>> {
    let begun = Instant::now();
    let mut bytes = vec![0; MAX_HEAD];
    let mut seen = 0;
    while begun.elapsed() < super::PATIENCE {
        let len = stream.peek(&mut bytes)?;
        if len == 0 {
            return Ok(None);
        }
        if let Some(request) = Request::parse(&bytes[..len])? {
            return Ok(Some(request));
        }
        if len == MAX_HEAD {
            return Ok(None);
        }
        if len == seen {
            // A look at the same bytes does not wait for more.
            std::thread::sleep(Duration::from_millis(10));
        }
        seen = len;
    }
    Ok(None)
}

/// An answer after which the connection ends.
pub fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
         X-Frame-Options: DENY\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; \
         style-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'\r\n\r\n{body}",
        body.len()
    )
}
