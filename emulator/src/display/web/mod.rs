//! `-display web`: the display, keyboard, mouse, serial console and power buttons as a page in a browser.
//!
//! Requirement: whoever sits at this host can use it, without a network and without anything from elsewhere; no other page that
//! their browser has open, and no other host, can.
//! Solution: the server listens on the loopback interface; the page's address has a key of 128 random bits in it; requests must name
//! the server by a number or as localhost (no name that someone else could point here), and the WebSocket must come from this
//! very page (its Origin). The page and its script are embedded, and their content policy forbids everything else.
//! Limitation: no encryption. On other interfaces whoever listens to the network sees the key.

mod http;
mod session;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Lobby, listen};
use crate::cli::UserError;
use http::Request;

/// How long a browser may take over a request, or over taking what it is sent.
const PATIENCE: Duration = Duration::from_secs(20);

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// Starts the server; gives the address of the page.
pub fn start(address: SocketAddr, lobby: Lobby) -> Result<String, UserError> {
    let failed = |error: io::Error| {
        UserError::new("-display web", format!("this host gives no random numbers: {error}"), "use -vnc :0")
    };
    let key = key().map_err(failed)?;
    let path = format!("/{key}/");
    let bound = listen("-display web", address, "web", {
        let path = path.clone();
        move |stream| {
            // A browser that goes away is no event of the machine's.
            if let Err(error) = serve(stream, &path, &lobby) {
                tracing::debug!(target: "web", %error, "a browser is gone");
            }
        }
    })?;
    let host = match bound.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::from([127, 0, 0, 1]), bound.port()),
        _ => bound,
    };
    Ok(format!("http://{host}{path}"))
}

fn key() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn serve(stream: TcpStream, path: &str, lobby: &Lobby) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = http::peek(&stream)? else { return Ok(()) };
    let file = request.path.strip_prefix(path).filter(|_| request.names_us());
    if file == Some("ws") && request.upgrade && request.comes_from_our_page() {
        return session::run(stream, lobby);
    }
    let answer = match file {
        Some("") => http::answer("200 OK", "text/html; charset=utf-8", PAGE),
        Some("page.js") => http::answer("200 OK", "text/javascript; charset=utf-8", SCRIPT),
        Some(_) => http::answer("404 Not Found", "text/plain", "There is nothing here.\n"),
        None => http::answer(
            "403 Forbidden",
            "text/plain",
            "The address of the page has a key in it: retrograde says it when it starts.\n",
        ),
    };
    finish(stream, &request, answer.as_bytes())
}

/// Answers, and reads what was only looked at, so that closing does not tear the answer away.
fn finish(mut stream: TcpStream, request: &Request, answer: &[u8]) -> io::Result<()> {
    stream.read_exact(&mut vec![0; request.len])?;
    stream.write_all(answer)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // A little of what else may come; then enough.
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = io::copy(&mut (&stream).take(64 << 10), &mut io::sink());
    Ok(())
}

#[cfg(test)]
mod tests;
