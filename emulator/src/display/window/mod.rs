//! `-display window`: the display in a window of the desktop, with keyboard and mouse.
//!
//! Requirement: desktops want their event loop on the process's first thread, and a slow desktop must not delay the machine.
//! Solution: [`run`] makes the event loop on the calling thread and runs the machine on another. When the machine has a display it
//! calls [`Opener::open`]; from then on the window is a viewer like others: it waits in the [`Lobby`] (on a thread of its own,
//! which turns news into events), and what is typed goes to the input gate. Closing the window asks the machine to stop, as QEMU
//! does; the loop ends when the machine has ended, whatever the reason, and its result is the caller's.
//! Limitation: the desktop keeps the key combinations that it has uses for. On X11 the pointer's movements are the guest's mouse's;
//! those of a tablet, which cannot be put back, lead nowhere.

#[cfg(all(unix, not(target_vendor = "apple")))]
mod lost;
mod view;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use devices::vga::Picture;
use winit::application::ApplicationHandler;
use winit::event::{DeviceEvent, DeviceId, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop, EventLoopProxy};
use winit::window::WindowId;

use super::{Lobby, WindowFailure};
use crate::cli::UserError;
use crate::config::WindowOptions;
use view::View;

/// The machine's thread has a stack like a first thread's.
const STACK: usize = 8 << 20;

/// What happens outside the window.
enum Event {
    /// There is a display to show.
    Open(Lobby),
    /// It has changed.
    News(News),
    /// The machine has ended.
    Ended,
}

/// A display as it is now.
struct News {
    picture: Arc<Picture>,
    paused: bool,
}

/// The machine's way to its window.
pub struct Opener(EventLoopProxy<Event>);

impl Opener {
    /// Opens the window, which looks at this display.
    pub fn open(&self, lobby: Lobby) {
        if self.0.send_event(Event::Open(lobby.clone())).is_err() {
            // The desktop is gone already.
            lobby.stop_machine();
        }
    }
}

/// Tells the loop that the machine has ended, by whatever way.
struct Ends(EventLoopProxy<Event>);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.send_event(Event::Ended);
    }
}

/// Runs `machine` on a thread of its own, and the window on this one, which must be the process's first.
///
/// # Panics
/// If the machine does.
pub fn run<T: Send + 'static>(
    options: WindowOptions,
    machine: impl FnOnce(Opener) -> T + Send + 'static,
) -> Result<T, WindowFailure> {
    let events = event_loop().map_err(WindowFailure::Mistake)?;
    let proxy = events.create_proxy();
    let (opener, ends) = (Opener(proxy.clone()), Ends(proxy.clone()));
    let running = thread::Builder::new().name("machine".into()).stack_size(STACK).spawn(move || {
        let _ends = ends;
        machine(opener)
    });
    let running = Running {
        thread: Arc::new(Mutex::new(Some(running.map_err(WindowFailure::Lost)?))),
        lobby: Arc::default(),
    };
    #[cfg(all(unix, not(target_vendor = "apple")))]
    end_with_the_server(&running);
    let mut app = App { options, proxy, running: running.clone(), view: None, failure: None };
    let looped = catch_unwind(AssertUnwindSafe(|| events.run_app(&mut app)));
    // Where the loop ended first, the machine is to end too, and in good order: its disks have writers.
    running.stop();
    let failure = app.failure.take();
    drop(app);
    let result = match running.join() {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("who else joins it ends the process"),
    };
    match (looped, failure) {
        (Err(panic), _) => resume_unwind(panic),
        (_, Some(failure)) => Err(WindowFailure::Lost(failure)),
        (Ok(Err(error)), None) => {
            tracing::debug!(target: "window", %error, "the event loop has ended");
            Err(WindowFailure::Lost(io::Error::other(GONE)))
        }
        (Ok(Ok(())), None) => Ok(result),
    }
}

/// The machine on its thread.
struct Running<T> {
    /// Taken by whoever waits for its end.
    thread: Arc<Mutex<Option<JoinHandle<T>>>>,
    /// The way to it, once it shows itself.
    lobby: Arc<Mutex<Option<Lobby>>>,
}

impl<T> Clone for Running<T> {
    fn clone(&self) -> Self {
        Self { thread: self.thread.clone(), lobby: self.lobby.clone() }
    }
}

impl<T> Running<T> {
    fn shows_itself(&self, lobby: &Lobby) {
        *self.lobby.lock().unwrap_or_else(PoisonError::into_inner) = Some(lobby.clone());
    }

    /// Asks the machine to stop. One that has not come to [`Opener::open`] yet hears of it there.
    fn stop(&self) {
        if let Some(lobby) = &*self.lobby.lock().unwrap_or_else(PoisonError::into_inner) {
            lobby.stop_machine();
        }
    }

    /// Waits for its end; `None`: someone else does.
    fn join(&self) -> Option<thread::Result<T>> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(JoinHandle::join)
    }
}

/// Sees to it that a machine whose X server goes away ends in good order.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn end_with_the_server<T: Send + 'static>(running: &Running<T>) {
    use std::io::Write;
    let running = running.clone();
    lost::before_the_end(move || {
        running.stop();
        let _ = running.join();
        // Standard error may have gone with the desktop.
        let _ = writeln!(io::stderr(), "retrograde: {GONE}");
    });
}

fn event_loop() -> Result<EventLoop<Event>, UserError> {
    let mistake = |problem: String| UserError::new("-display window", problem, REMEDY);
    if !is_desktop_here() {
        return Err(mistake("there is no desktop here (neither DISPLAY nor WAYLAND_DISPLAY is set)".into()));
    }
    if let Some(library) = missing_library() {
        return Err(UserError::new(
            "-display window",
            format!("the desktop's library {library} is missing"),
            "install it, or use -display terminal, -display web or -vnc :0",
        ));
    }
    EventLoop::with_user_event().build().map_err(|error| {
        // What matters comes last, after where in winit it was found.
        let line = error.to_string().replace('\n', " ");
        let reason = line.rsplit(": ").next().unwrap_or_default();
        mistake(format!("the desktop cannot be reached ({reason})"))
    })
}

const GONE: &str = "the desktop is gone, and the window with it";
const REMEDY: &str = "use -display terminal, -display web or -vnc :0";

/// Is there a desktop to open a window on?
pub fn is_desktop_here() -> bool {
    cfg!(target_os = "macos") || is_wayland_here() || is_set("DISPLAY")
}

fn is_wayland_here() -> bool {
    is_set("WAYLAND_DISPLAY") || is_set("WAYLAND_SOCKET")
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// A library for keyboards without which the event loop would panic.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn missing_library() -> Option<&'static str> {
    if xkbcommon_dl::xkbcommon_option().is_none() {
        return Some("libxkbcommon.so.0");
    }
    (!is_wayland_here() && xkbcommon_dl::x11::xkbcommon_x11_option().is_none())
        .then_some("libxkbcommon-x11.so.0")
}

#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn missing_library() -> Option<&'static str> {
    None
}

/// The event loop's side of the machine.
struct App<T> {
    options: WindowOptions,
    proxy: EventLoopProxy<Event>,
    running: Running<T>,
    view: Option<View>,
    failure: Option<io::Error>,
}

impl<T> App<T> {
    fn open(&mut self, events: &ActiveEventLoop, lobby: Lobby) {
        let opened = match lobby.enter() {
            Some(seat) => View::open(events, seat, self.options),
            None => Err(io::Error::other("too many viewers")),
        };
        self.running.shows_itself(&lobby);
        let opened = opened.and_then(|view| {
            let proxy = self.proxy.clone();
            thread::Builder::new().name("window".into()).spawn(move || watch(&lobby, &proxy))?;
            Ok(view)
        });
        match opened {
            Ok(view) => self.view = Some(view),
            Err(error) => {
                self.failure =
                    Some(io::Error::other(format!("the window cannot be opened: {error}; {REMEDY}")));
                self.running.stop();
            }
        }
    }
}

/// Makes events of what is new, until the machine or the event loop has ended.
fn watch(lobby: &Lobby, proxy: &EventLoopProxy<Event>) {
    let mut known: Option<(Arc<Picture>, bool)> = None;
    loop {
        let news = lobby.wait(|state| {
            let is_known = known.as_ref().is_some_and(|(picture, paused)| {
                Arc::ptr_eq(picture, &state.picture) && *paused == state.paused
            });
            match (state.ended, is_known) {
                (true, _) => Some(None),
                (false, true) => None,
                (false, false) => Some(Some((state.picture.clone(), state.paused))),
            }
        });
        let Some((picture, paused)) = news else { return };
        known = Some((picture.clone(), paused));
        if proxy.send_event(Event::News(News { picture, paused })).is_err() {
            return;
        }
    }
}

impl<T: 'static> ApplicationHandler<Event> for App<T> {
    fn resumed(&mut self, _: &ActiveEventLoop) {}

    fn user_event(&mut self, events: &ActiveEventLoop, event: Event) {
        match event {
            Event::Open(lobby) => self.open(events, lobby),
            Event::News(news) => {
                if let Some(view) = &mut self.view {
                    view.show(news);
                }
            }
            Event::Ended => events.exit(),
        }
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        if event == WindowEvent::CloseRequested {
            if self.options.close_ends {
                self.running.stop();
            }
        } else if let Some(view) = &mut self.view {
            view.event(event);
        }
    }

    fn device_event(&mut self, _: &ActiveEventLoop, _: DeviceId, event: DeviceEvent) {
        if let (Some(view), DeviceEvent::MouseMotion { delta }) = (&mut self.view, event) {
            view.moved(delta);
        }
    }

    fn about_to_wait(&mut self, _: &ActiveEventLoop) {
        if let Some(view) = &mut self.view {
            view.flush_motion();
        }
    }
}
