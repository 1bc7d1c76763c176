//! Displays that others look at: by RFB ([`vnc`]), in a browser ([`web`]), or in a window of the desktop ([`window`]).
//!
//! The machine's thread makes a picture when one is due and somebody looks, and leaves it in the [`Hub`]; a server's threads wait
//! there, compare it with what their viewer has, and send the difference. What viewers type goes to the input gate like all
//! input. So a slow viewer delays nobody, and the guest cannot tell whether it is looked at.
//!
//! Pictures are made thirty times a second while they change or something is typed, and less and less often while they do not:
//! an idle guest costs nothing worth mentioning.

mod damage;
pub mod hands;
pub mod scale;
pub mod vnc;
pub mod web;
#[cfg(feature = "window")]
pub mod window;
#[cfg(not(feature = "window"))]
#[path = "window/absent.rs"]
pub mod window;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use devices::i8042::MouseMove;
use devices::vga::Picture;

pub use damage::{Rect, damage};

use crate::cli::UserError;
use crate::keyboard::{Codes, Held};
use crate::machine::gate::Live;

/// Time between two pictures while they change ...
const QUICK: Duration = Duration::from_millis(33);
/// ... and while nothing happens.
const SLOW: Duration = Duration::from_millis(250);
/// What the serial port sent last, kept for those who come later.
const SERIAL_KEPT: usize = 64 << 10;
/// Viewers at the same time, of each server.
const MAX_VIEWERS: usize = 16;

/// What viewers see.
pub struct State {
    /// The picture, if there is a display.
    pub picture: Arc<Picture>,
    /// The last bytes of the first serial port ...
    serial: Vec<u8>,
    /// ... and how many there were before them.
    serial_before: u64,
    /// Time stands still.
    pub paused: bool,
    /// The machine has ended.
    pub ended: bool,
}

impl State {
    /// The serial port's bytes from number `from` on, and the number of the next one.
    pub fn serial_since(&self, from: u64) -> (&[u8], u64) {
        let skip = from.saturating_sub(self.serial_before).min(self.serial.len() as u64) as usize;
        (&self.serial[skip..], self.serial_before + self.serial.len() as u64)
    }
}

/// Where the machine and its viewers meet. Nobody holds the lock while sending or encoding.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    viewers: AtomicUsize,
    /// Something was typed, or a viewer came: the next picture is due soon.
    stirred: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a state that can be looked at.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine's side.
pub struct Hub {
    shared: Arc<Shared>,
    input: Sender<Live>,
    last: Option<Instant>,
    pace: Duration,
    paused: bool,
}

impl Hub {
    /// A hub that nobody looks at. Input goes to `input`.
    pub fn new(input: Sender<Live>) -> Self {
        let state =
            State { picture: nothing(), serial: Vec::new(), serial_before: 0, paused: false, ended: false };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            viewers: AtomicUsize::new(0),
            stirred: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), input, last: None, pace: QUICK, paused: false }
    }

    /// For a server.
    pub fn lobby(&self) -> Lobby {
        Lobby { shared: self.shared.clone(), input: self.input.clone() }
    }

    fn is_watched(&self) -> bool {
        // Relaxed: a viewer that has just come sends a message, too.
        self.shared.viewers.load(Ordering::Relaxed) != 0
    }

    /// Is another picture due?
    pub fn is_due(&mut self) -> bool {
        if !self.is_watched() {
            return false;
        }
        if self.shared.stirred.swap(false, Ordering::Relaxed) {
            self.pace = QUICK;
        }
        let due = self.last.is_none_or(|last| last.elapsed() >= self.pace);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }

    /// The longest that a halted machine may wait before the next picture, in nanoseconds.
    pub fn interval(&self) -> Option<u64> {
        let left = || self.last.map_or(Duration::ZERO, |last| self.pace.saturating_sub(last.elapsed()));
        self.is_watched().then(|| left().as_nanos().max(1) as u64)
    }

    /// Shows a picture; `None`: there is no display.
    pub fn show(&mut self, picture: Option<Picture>) {
        let mut state = self.shared.lock();
        let changed = match picture {
            Some(picture) if *state.picture != picture => {
                state.picture = Arc::new(picture);
                true
            }
            _ => false,
        };
        drop(state);
        self.pace = if changed { (self.pace / 2).max(QUICK) } else { (self.pace * 2).min(SLOW) };
        if changed {
            self.shared.changed.notify_all();
        }
    }

    /// The first serial port sent something.
    pub fn serial(&mut self, bytes: &[u8]) {
        let mut state = self.shared.lock();
        state.serial.extend(bytes);
        if state.serial.len() > 2 * SERIAL_KEPT {
            let gone = state.serial.len() - SERIAL_KEPT;
            state.serial.drain(..gone);
            state.serial_before += gone as u64;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Does time stand still?
    pub fn set_paused(&mut self, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) != paused {
            self.shared.lock().paused = paused;
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

/// Why there is no window, or no longer.
#[derive(Debug)]
pub enum WindowFailure {
    /// This build or this host has none.
    Mistake(UserError),
    /// The desktop failed.
    Lost(io::Error),
}

/// Is the window built in, and a desktop there?
pub fn window_is_offered() -> bool {
    cfg!(feature = "window") && window::is_desktop_here()
}

/// What to do in a build without a window.
pub fn window_is_missing(option: &str) -> UserError {
    UserError::new(
        option,
        "this build has no window",
        "build it in with cargo build --release --features window, or use -display web or -vnc :0",
    )
}

/// What is shown before there is anything: as large as a text mode.
fn nothing() -> Arc<Picture> {
    let (width, height) = (720, 400);
    Arc::new(Picture { width, height, rgb: vec![0; 3 * (width * height) as usize] })
}

/// Where a server's viewers come in.
#[derive(Clone)]
pub struct Lobby {
    shared: Arc<Shared>,
    input: Sender<Live>,
}

impl Lobby {
    /// Lets a viewer in; `None`: there are too many.
    pub fn enter(&self) -> Option<Seat> {
        if self.shared.viewers.fetch_add(1, Ordering::SeqCst) >= MAX_VIEWERS {
            self.shared.viewers.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let seat = Seat {
            shared: self.shared.clone(),
            input: self.input.clone(),
            held: Held::default(),
            buttons: 0,
        };
        seat.send(Live::Look);
        Some(seat)
    }

    /// Waits until `ready` has an answer. It is asked again after each change, and after each [`Lobby::nudge`].
    pub fn wait<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> T {
        let mut state = self.shared.lock();
        loop {
            if let Some(answer) = ready(&state) {
                return answer;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Asks the machine to end, as the monitor's `quit` does.
    pub fn stop_machine(&self) {
        // It may have ended.
        let _ = self.input.send(Live::Stop);
    }

    /// Lets everyone who waits look again.
    pub fn nudge(&self) {
        // With the lock, so that nobody is between looking and waiting.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
    }
}

/// A viewer who is there, with keyboard and mouse. When it goes, what it holds down is let go.
pub struct Seat {
    shared: Arc<Shared>,
    input: Sender<Live>,
    held: Held,
    buttons: u8,
}

impl Seat {
    fn send(&self, message: Live) {
        self.shared.stirred.store(true, Ordering::Relaxed);
        // The machine may have ended.
        let _ = self.input.send(message);
    }

    fn keys(&self, codes: Vec<Codes>) {
        if !codes.is_empty() {
            self.send(Live::Keys(codes));
        }
    }

    /// A key by its code.
    pub fn key(&mut self, code: u16, down: bool) {
        let codes = self.held.key(code, down);
        self.keys(codes);
    }

    /// The key of a character.
    pub fn character(&mut self, character: char, down: bool) {
        let codes = self.held.character(character, down);
        self.keys(codes);
    }

    /// The mouse.
    pub fn mouse(&mut self, by: MouseMove) {
        if (by.dx, by.dy, by.dz) != (0, 0, 0) || by.buttons != self.buttons {
            self.buttons = by.buttons;
            self.send(Live::Mouse(by));
        }
    }

    /// Lets every key go.
    pub fn let_go(&mut self) {
        let codes = self.held.release_all();
        self.keys(codes);
    }

    /// A combination of keys, pressed and let go.
    pub fn press(&self, codes: Vec<Codes>) {
        self.keys(codes);
    }

    /// A byte for the first serial port.
    pub fn serial(&self, byte: u8) {
        self.send(Live::Serial { port: 0, byte });
    }

    /// A command of the monitor.
    pub fn command(&self, line: &str) {
        self.send(Live::Command(line.into()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.let_go();
        self.mouse(MouseMove::default());
        self.shared.viewers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Listens at `address` and calls `serve` on a thread for each who connects, as long as the process lives.
fn listen(
    option: &str,
    address: SocketAddr,
    name: &'static str,
    serve: impl Fn(std::net::TcpStream) + Clone + Send + 'static,
) -> Result<SocketAddr, UserError> {
    let failed = |error: io::Error| {
        let (problem, remedy) = match error.kind() {
            io::ErrorKind::AddrInUse => {
                ("this port is in use".into(), "use another number, or end the other program")
            }
            io::ErrorKind::AddrNotAvailable => ("this host has no such address".into(), "use 127.0.0.1"),
            io::ErrorKind::PermissionDenied => ("permission denied".into(), "use a port above 1023"),
            _ => (format!("cannot listen there: {error}"), "use another address"),
        };
        UserError::new(format!("{option} ({address})"), problem, remedy)
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, for example: it passes.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            // Small messages are to arrive at once. A failure costs time only.
            let _ = stream.set_nodelay(true);
            let serve = serve.clone();
            // Without a thread the connection is closed.
            let _ = std::thread::Builder::new().name(name.into()).spawn(move || serve(stream));
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(accept).map_err(failed)?;
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;

    fn picture(value: u8) -> Picture {
        Picture { width: 2, height: 1, rgb: vec![value; 6] }
    }

    #[test]
    fn nobody_looks_nobody_works() {
        let (sender, receiver) = unbounded();
        let mut hub = Hub::new(sender);
        assert!(!hub.is_due() && hub.interval().is_none());
        let seat = hub.lobby().enter().unwrap();
        assert_eq!(receiver.recv(), Ok(Live::Look));
        assert!(hub.is_due() && hub.interval().is_some());
        drop(seat);
        assert!(!hub.is_due() && hub.interval().is_none());
    }

    #[test]
    fn pictures_that_do_not_change_become_rare() {
        let (sender, _receiver) = unbounded();
        let mut hub = Hub::new(sender);
        let mut seat = hub.lobby().enter().unwrap();
        assert!(hub.is_due());
        for _ in 0..10 {
            hub.show(Some(picture(1)));
        }
        assert_eq!(hub.pace, SLOW);
        hub.show(Some(picture(2)));
        assert_eq!(hub.pace, SLOW / 2);
        hub.last = None;
        seat.key(0x1c, true);
        assert!(hub.is_due());
        assert_eq!(hub.pace, QUICK);
    }

    #[test]
    fn what_a_viewer_held_is_let_go() {
        let (sender, receiver) = unbounded();
        let hub = Hub::new(sender);
        let mut seat = hub.lobby().enter().unwrap();
        seat.key(0x1c, true);
        seat.mouse(MouseMove { buttons: 1, ..MouseMove::default() });
        drop(seat);
        let sent: Vec<Live> = receiver.try_iter().skip(3).collect();
        assert_eq!(sent, [Live::Keys(vec![vec![0xf0, 0x1c]]), Live::Mouse(MouseMove::default())]);
    }

    #[test]
    fn the_serial_ports_past_is_kept_within_bounds() {
        let (sender, _receiver) = unbounded();
        let mut hub = Hub::new(sender);
        for n in 0..40 {
            hub.serial(&[n; 4096]);
        }
        let (end, first, len) = hub.lobby().wait(|state| {
            let (bytes, end) = state.serial_since(0);
            Some((end, bytes[0], bytes.len()))
        });
        assert_eq!(end, 40 * 4096);
        assert!(len <= 2 * SERIAL_KEPT && u64::from(first) * 4096 + len as u64 == end);
        assert_eq!(hub.lobby().wait(|state| Some(state.serial_since(end).0.len())), 0);
    }

    #[test]
    fn there_is_a_limit_to_viewers() {
        let (sender, _receiver) = unbounded();
        let hub = Hub::new(sender);
        let seats: Vec<_> = (0..MAX_VIEWERS).map(|_| hub.lobby().enter().unwrap()).collect();
        assert!(hub.lobby().enter().is_none());
        drop(seats);
        assert!(hub.lobby().enter().is_some());
    }
}
