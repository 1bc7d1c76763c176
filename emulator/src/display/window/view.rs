//! The window itself: draws pictures, and turns the desktop's events into the guest's.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use devices::vga::Picture;
use softbuffer::{Context, Surface};
use winit::dpi::{LogicalSize, PhysicalPosition, PhysicalSize};
use winit::event::{ElementState, MouseButton, MouseScrollDelta, WindowEvent};
use winit::event_loop::{ActiveEventLoop, OwnedDisplayHandle};
use winit::keyboard::{KeyCode, PhysicalKey};
use winit::window::{CursorGrabMode, Fullscreen, Window};

use super::News;
use crate::config::WindowOptions;
use crate::display::hands::{Leash, Motion, Shortcut, Shortcuts, Whose};
use crate::display::scale::{Fit, Zoom};
use crate::display::{Rect, Seat, damage, nothing};
use crate::keyboard::code_of_web_key;

/// Pictures that are remembered, since a buffer may be that many frames old.
const OLDEST_BUFFER: usize = 3;
/// Sizes that were asked for and may still arrive.
const SIZES: usize = 8;
/// Of a touchpad's scrolling, pixels that are one step of a wheel.
const PIXELS_OF_A_STEP: f64 = 20.0;

/// Width that a picture is to have.
const LARGE_ENOUGH: u32 = 640;

/// See the module.
pub struct View {
    window: Rc<Window>,
    surface: Surface<OwnedDisplayHandle, Rc<Window>>,
    seat: Seat,
    zoom: Zoom,
    picture: Arc<Picture>,
    paused: bool,
    /// What the last frames showed, newest first; empty if the next is to be drawn whole.
    drawn: VecDeque<Arc<Picture>>,
    /// The surface's size.
    size: Option<(u32, u32)>,
    /// The next redrawing is for a new picture; otherwise the desktop has lost the old one.
    is_news: bool,
    /// Sizes that the window was given by us. Has it another, it was the user, who then decides.
    given_sizes: VecDeque<PhysicalSize<u32>>,
    users_size: bool,
    shortcuts: Shortcuts,
    grabbed: bool,
    /// Where the pointer is, while it is over the window.
    pointer: (f64, f64),
    /// The guest has the mouse, but the desktop moves its pointer all the same (X11).
    leash: Option<Leash>,
    buttons: u8,
    motion: Motion,
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string().replace('\n', " "))
}

/// The size of a window for a picture: as it is, but one of an old game twice as large.
fn logical(picture: &Picture) -> LogicalSize<u32> {
    let times = LARGE_ENOUGH.checked_div(picture.width).unwrap_or(1).clamp(1, 4);
    LogicalSize::new((times * picture.width).max(1), (times * picture.height).max(1))
}

impl View {
    /// Opens a window for whoever sits there.
    pub fn open(events: &ActiveEventLoop, seat: Seat, options: WindowOptions) -> io::Result<Self> {
        let picture = nothing();
        let attributes = Window::default_attributes()
            .with_title(title(false, false))
            .with_inner_size(logical(&picture))
            .with_fullscreen(options.full_screen.then_some(Fullscreen::Borderless(None)));
        let window = Rc::new(events.create_window(attributes).map_err(failed)?);
        let context = Context::new(events.owned_display_handle()).map_err(failed)?;
        let surface = Surface::new(&context, window.clone()).map_err(failed)?;
        let mut view = Self {
            surface,
            seat,
            zoom: if options.zoom_to_fit { Zoom::Fit } else { Zoom::Whole },
            picture,
            paused: false,
            drawn: VecDeque::new(),
            size: None,
            is_news: false,
            given_sizes: VecDeque::new(),
            users_size: false,
            shortcuts: Shortcuts::default(),
            grabbed: false,
            pointer: (0.0, 0.0),
            leash: None,
            buttons: 0,
            motion: Motion::default(),
            window,
        };
        view.remember_size();
        view.window.request_redraw();
        Ok(view)
    }

    /// Shows what is new.
    pub fn show(&mut self, news: News) {
        let other_size =
            (news.picture.width, news.picture.height) != (self.picture.width, self.picture.height);
        self.picture = news.picture;
        if other_size && !self.users_size && self.window.fullscreen().is_none() {
            self.remember_size();
            // The answer comes as an event, or not at all where the desktop decides about sizes.
            let _ = self.window.request_inner_size(logical(&self.picture));
        }
        if std::mem::replace(&mut self.paused, news.paused) != news.paused {
            self.retitle();
        }
        self.is_news = true;
        self.window.request_redraw();
    }

    /// The window will have a size for this picture.
    fn remember_size(&mut self) {
        self.given_sizes.push_front(logical(&self.picture).to_physical(self.window.scale_factor()));
        self.given_sizes.truncate(SIZES);
    }

    fn retitle(&self) {
        self.window.set_title(title(self.grabbed, self.paused));
    }

    /// Something happened in the window.
    pub fn event(&mut self, event: WindowEvent) {
        match event {
            WindowEvent::RedrawRequested => self.redraw(),
            WindowEvent::Resized(size) => {
                let ours = self.given_sizes.contains(&size) || self.window.fullscreen().is_some();
                self.users_size |= !ours;
                if self.leash.is_some() {
                    self.put_on_leash();
                }
                self.window.request_redraw();
            }
            // Those that the desktop makes up tell what was held before the window had the keyboard.
            WindowEvent::KeyboardInput { event, is_synthetic: false, .. } => {
                if let PhysicalKey::Code(code) = event.physical_key {
                    self.key(code, event.state == ElementState::Pressed);
                }
            }
            WindowEvent::Focused(false) => {
                self.shortcuts.forget();
                self.seat.let_go();
                self.release_mouse();
            }
            WindowEvent::CursorMoved { position, .. } => self.pointed((position.x, position.y)),
            WindowEvent::MouseInput { state, button, .. } => {
                self.button(button, state == ElementState::Pressed);
            }
            WindowEvent::MouseWheel { delta, .. } if self.grabbed => {
                self.motion.wheel -= match delta {
                    MouseScrollDelta::LineDelta(_, lines) => f64::from(lines),
                    MouseScrollDelta::PixelDelta(by) => by.y / PIXELS_OF_A_STEP,
                };
            }
            _ => {}
        }
    }

    fn key(&mut self, key: KeyCode, down: bool) {
        let Some(code) = code_of(key) else { return };
        match self.shortcuts.key(code, down) {
            Whose::Guests => self.seat.key(code, down),
            Whose::Nobodys => {}
            Whose::Windows(shortcut) => {
                // What led to it is not the guest's either.
                self.seat.let_go();
                match shortcut {
                    Shortcut::Grab if self.grabbed => self.release_mouse(),
                    Shortcut::Grab => self.grab_mouse(),
                    Shortcut::FullScreen => {
                        let full = self.window.fullscreen().is_some();
                        self.window.set_fullscreen((!full).then_some(Fullscreen::Borderless(None)));
                    }
                }
            }
        }
    }

    fn button(&mut self, button: MouseButton, down: bool) {
        if !self.grabbed {
            // The click that gives the guest the mouse is not for the guest.
            if down && button == MouseButton::Left {
                self.grab_mouse();
            }
            return;
        }
        let bit = match button {
            MouseButton::Left => 1,
            MouseButton::Right => 2,
            MouseButton::Middle => 4,
            MouseButton::Back => 8,
            MouseButton::Forward => 16,
            MouseButton::Other(_) => return,
        };
        // A movement before a click is before it for the guest, too.
        self.flush_motion();
        self.buttons = if down { self.buttons | bit } else { self.buttons & !bit };
        self.seat.mouse(self.motion.take(self.buttons));
    }

    fn grab_mouse(&mut self) {
        // X11 has no lock; while the pointer is confined, winit has each of its raw movements twice (its issue 3773).
        let locked = self.window.set_cursor_grab(CursorGrabMode::Locked).is_ok();
        if !locked && let Err(error) = self.window.set_cursor_grab(CursorGrabMode::Confined) {
            tracing::debug!(target: "window", %error, "the desktop keeps the mouse");
            return;
        }
        if !locked {
            self.put_on_leash();
        }
        self.window.set_cursor_visible(false);
        self.grabbed = true;
        self.motion = Motion::default();
        self.retitle();
    }

    fn release_mouse(&mut self) {
        if !std::mem::take(&mut self.grabbed) {
            return;
        }
        self.leash = None;
        // A window that is going away lets go anyway.
        let _ = self.window.set_cursor_grab(CursorGrabMode::None);
        self.window.set_cursor_visible(true);
        self.buttons = 0;
        self.seat.mouse(self.motion.take(0));
        self.retitle();
    }

    fn put_on_leash(&mut self) {
        let PhysicalSize { width, height } = self.window.inner_size();
        let leash = Leash::new((width, height), self.pointer);
        self.leash = Some(leash);
        self.point_at(leash.middle());
    }

    fn point_at(&self, (x, y): (f64, f64)) {
        // Where it cannot be done, the pointer meets the edges.
        let _ = self.window.set_cursor_position(PhysicalPosition::new(x, y));
    }

    /// The pointer has moved.
    fn pointed(&mut self, to: (f64, f64)) {
        self.pointer = to;
        if let Some(leash) = &mut self.leash {
            let ((x, y), put_back) = leash.moved(to);
            let middle = leash.middle();
            self.motion.x += x;
            self.motion.y += y;
            if put_back {
                self.point_at(middle);
            }
        }
    }

    /// The mouse has moved, wherever the pointer is.
    pub fn moved(&mut self, (x, y): (f64, f64)) {
        if self.grabbed && self.leash.is_none() {
            self.motion.x += x;
            self.motion.y += y;
        }
    }

    /// Sends the movements that have come together.
    pub fn flush_motion(&mut self) {
        self.seat.mouse(self.motion.take(self.buttons));
    }

    fn redraw(&mut self) {
        let is_news = std::mem::take(&mut self.is_news);
        // A frame that cannot be shown is followed by others; a desktop that is gone ends the event loop.
        if let Err(error) = self.draw(is_news) {
            self.size = None;
            tracing::debug!(target: "window", %error, "a frame was not drawn");
        }
    }

    fn draw(&mut self, is_news: bool) -> Result<(), softbuffer::SoftBufferError> {
        let PhysicalSize { width, height } = self.window.inner_size();
        let (Some(wide), Some(high)) = (NonZeroU32::new(width), NonZeroU32::new(height)) else {
            return Ok(());
        };
        if self.size.replace((width, height)) != Some((width, height)) {
            self.drawn.clear();
            self.surface.resize(wide, high)?;
        }
        let picture = &self.picture;
        let fit = Fit::new((picture.width, picture.height), (width, height), self.zoom);
        let mut buffer = self.surface.buffer_mut()?;
        let old = |frames_ago: usize| {
            let old = frames_ago.checked_sub(1).and_then(|index| self.drawn.get(index))?;
            ((old.width, old.height) == (picture.width, picture.height)).then_some(&**old)
        };
        match old(buffer.age().into()) {
            Some(old) => {
                for part in damage(Some(old), picture) {
                    fit.draw(picture, fit.area(part), &mut buffer, width);
                }
            }
            None => {
                buffer.fill(0);
                fit.draw(picture, fit.place(), &mut buffer, width);
            }
        }
        self.window.pre_present_notify();
        match old(1).filter(|_| is_news) {
            Some(old) => {
                let parts: Vec<_> =
                    damage(Some(old), picture).into_iter().filter_map(|part| rect(fit.area(part))).collect();
                if !parts.is_empty() {
                    buffer.present_with_damage(&parts)?;
                }
            }
            None => buffer.present()?,
        }
        self.drawn.push_front(picture.clone());
        self.drawn.truncate(OLDEST_BUFFER);
        Ok(())
    }
}

fn rect(Rect { x, y, width, height }: Rect) -> Option<softbuffer::Rect> {
    Some(softbuffer::Rect { x, y, width: NonZeroU32::new(width)?, height: NonZeroU32::new(height)? })
}

fn title(grabbed: bool, paused: bool) -> &'static str {
    match (paused, grabbed) {
        (false, false) => "Retrograde - click to give the guest the mouse",
        (false, true) => "Retrograde - Ctrl+Alt+G releases the mouse",
        (true, false) => "Retrograde (paused)",
        (true, true) => "Retrograde (paused) - Ctrl+Alt+G releases the mouse",
    }
}

/// The code of a key, from the table for the web: winit's names are those of the web, but for two, as it documents.
fn code_of(key: KeyCode) -> Option<u16> {
    match key {
        KeyCode::SuperLeft => code_of_web_key("MetaLeft"),
        KeyCode::SuperRight => code_of_web_key("MetaRight"),
        other => code_of_web_key(&format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyboard::web_keys;

    macro_rules! named {
        ($($key:ident)*) => { [$((KeyCode::$key, stringify!($key))),*] };
    }

    #[test]
    fn every_key_of_the_web_is_a_key_here() {
        let keys = named! {
            Minus Equal Backspace Tab BracketLeft BracketRight Enter Semicolon Quote Backquote Backslash Comma Period Slash Space
            CapsLock NumLock ScrollLock Escape ShiftLeft ShiftRight ControlLeft ControlRight AltLeft AltRight ContextMenu
            PrintScreen Pause Home PageUp PageDown End Insert Delete ArrowLeft ArrowUp ArrowDown ArrowRight NumpadDivide
            NumpadMultiply NumpadSubtract NumpadAdd NumpadEnter NumpadDecimal NumpadComma NumpadEqual IntlBackslash IntlRo IntlYen
            KanaMode Convert NonConvert Power Sleep WakeUp AudioVolumeMute AudioVolumeDown AudioVolumeUp MediaTrackNext
            MediaTrackPrevious MediaStop MediaPlayPause MediaSelect LaunchApp2 LaunchMail LaunchApp1 BrowserHome BrowserBack
            BrowserForward BrowserRefresh BrowserFavorites
            KeyA KeyB KeyC KeyD KeyE KeyF KeyG KeyH KeyI KeyJ KeyK KeyL KeyM KeyN KeyO KeyP KeyQ KeyR KeyS KeyT KeyU KeyV KeyW KeyX
            KeyY KeyZ Digit0 Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Numpad0 Numpad1 Numpad2 Numpad3 Numpad4
            Numpad5 Numpad6 Numpad7 Numpad8 Numpad9 F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12
        };
        for (key, name) in keys {
            assert_eq!(code_of(key), code_of_web_key(name), "{name}");
            assert!(code_of(key).is_some(), "{name}");
        }
        assert_eq!(code_of(KeyCode::SuperLeft), code_of_web_key("MetaLeft"));
        assert_eq!(code_of(KeyCode::SuperRight), code_of_web_key("MetaRight"));
        for name in web_keys().filter(|name| !name.starts_with("Meta")) {
            assert!(keys.iter().any(|(_, known)| *known == name), "{name} is left out above");
        }
        assert_eq!(code_of(KeyCode::F13), None);
    }
}
