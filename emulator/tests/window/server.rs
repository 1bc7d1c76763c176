//! An X server without a screen, and a client of it: what a user sees and does.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    AtomEnum, BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ClientMessageEvent, ConfigureWindowAux,
    ConnectionExt, EventMask, ImageFormat, InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    MOTION_NOTIFY_EVENT,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

/// A window's number.
pub type Window = u32;

/// See the module.
pub struct Server {
    process: Child,
    display: String,
    connection: RustConnection,
    root: Window,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts one, with a number that is free; `None`: this host has no Xvfb.
    pub fn start() -> Option<Self> {
        let mut process = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1600x1000x24", "-nolisten", "tcp", "-ac", "-noreset"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut number = String::new();
        let out = process.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut number).expect("the display's number");
        let display = format!(":{}", number.trim());
        let (connection, screen) = x11rb::connect(Some(&display)).expect("a connection");
        let root = connection.setup().roots[screen].root;
        Some(Self { process, display, connection, root })
    }

    /// Ends it, whoever looks.
    pub fn end(&mut self) {
        self.process.kill().expect("a server");
    }

    /// For DISPLAY.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// The window whose title begins with `name`, once it is on the screen.
    pub fn window(&self, name: &str) -> Option<Window> {
        let tree = self.connection.query_tree(self.root).ok()?.reply().ok()?;
        let is_shown = |window: &Window| {
            let attributes = self.connection.get_window_attributes(*window).ok()?.reply().ok()?;
            Some(attributes.map_state == x11rb::protocol::xproto::MapState::VIEWABLE)
        };
        tree.children
            .into_iter()
            .find(|window| self.title(*window).starts_with(name) && is_shown(window) == Some(true))
    }

    fn atom(&self, name: &str) -> u32 {
        let cookie = self.connection.intern_atom(false, name.as_bytes()).expect("a request");
        cookie.reply().expect("an atom").atom
    }

    /// A window's title; empty if it has none.
    pub fn title(&self, window: Window) -> String {
        let property =
            self.connection.get_property(false, window, self.atom("_NET_WM_NAME"), AtomEnum::ANY, 0, 1000);
        let value = property.expect("a request").reply().map(|reply| reply.value);
        String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
    }

    /// A window's width and height.
    pub fn size(&self, window: Window) -> (u16, u16) {
        let geometry = self.connection.get_geometry(window).expect("a request").reply().expect("a window");
        (geometry.width, geometry.height)
    }

    /// What a window shows there, 0RGB; `None`: it is not as large yet.
    pub fn pixel(&self, window: Window, x: i16, y: i16) -> Option<u32> {
        let image =
            self.connection.get_image(ImageFormat::Z_PIXMAP, window, x, y, 1, 1, !0).ok()?.reply().ok()?;
        let bytes: [u8; 4] = image.data.get(..4)?.try_into().ok()?;
        // The server's order is that of its host, which is ours.
        Some(u32::from_ne_bytes(bytes) & 0xff_ffff)
    }

    /// Gives a window the keyboard.
    pub fn focus(&self, window: Window) {
        self.connection.set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME).expect("a request");
        self.flush();
    }

    /// Gives a window another size.
    pub fn resize(&self, window: Window, width: u32, height: u32) {
        let size = ConfigureWindowAux::new().width(width).height(height);
        self.connection.configure_window(window, &size).expect("a request");
        self.flush();
    }

    /// What a window manager does when a window's cross is clicked.
    pub fn close(&self, window: Window) {
        let (kind, what) = (self.atom("WM_PROTOCOLS"), self.atom("WM_DELETE_WINDOW"));
        let message = ClientMessageEvent::new(32, window, kind, [what, 0, 0, 0, 0]);
        self.connection.send_event(false, window, EventMask::NO_EVENT, message).expect("a request");
        self.flush();
    }

    fn fake(&self, kind: u8, detail: u8, (x, y): (i16, i16)) {
        let root = self.root;
        self.connection.xtest_fake_input(kind, detail, 0, root, x, y, 0).expect("a request");
        self.flush();
    }

    /// Presses keys in order, and lets them go in the opposite order.
    pub fn press(&self, keys: &[u8]) {
        keys.iter().for_each(|key| self.fake(KEY_PRESS_EVENT, *key, (0, 0)));
        keys.iter().rev().for_each(|key| self.fake(KEY_RELEASE_EVENT, *key, (0, 0)));
    }

    /// Presses a button of the mouse, and lets it go.
    pub fn click(&self, button: u8) {
        self.fake(BUTTON_PRESS_EVENT, button, (0, 0));
        self.fake(BUTTON_RELEASE_EVENT, button, (0, 0));
    }

    /// Moves the mouse.
    pub fn move_by(&self, x: i16, y: i16) {
        self.fake(MOTION_NOTIFY_EVENT, 1, (x, y));
    }

    /// Moves the pointer to a place in a window.
    pub fn point_at(&self, window: Window, x: i16, y: i16) {
        let cookie = self.connection.translate_coordinates(window, self.root, x, y).expect("a request");
        let place = cookie.reply().expect("a place");
        self.fake(MOTION_NOTIFY_EVENT, 0, (place.dst_x, place.dst_y));
    }

    fn flush(&self) {
        self.connection.flush().expect("a server");
    }
}
