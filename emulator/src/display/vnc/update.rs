//! The server's side: frame buffer updates (RFC 6143, 7.6 and 7.7).

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use devices::vga::Picture;
use flate2::{Compress, Compression};
use rfb_encodings::PixelFormat;
use rfb_encodings::zrle::encode_zrle_persistent;

use super::send;
use crate::display::{Lobby, Rect, damage};

const RAW: i32 = 0;
const ZRLE: i32 = 16;
const DESKTOP_SIZE: i32 = -223;
const QEMU_EXTENDED_KEY: i32 = -258;
const QEMU_POINTER_MOTION: i32 = -257;

/// What the viewer has asked for.
pub struct Client {
    /// How it wants pixels.
    pub format: PixelFormat,
    /// It waits for an update ...
    pub wanted: bool,
    /// ... of everything.
    pub everything: bool,
    /// It sends how far the pointer moves, not where it is.
    pub relative_pointer: bool,
    /// It is gone.
    pub closed: bool,
    zrle: bool,
    resizes: bool,
    extended_keys: bool,
    /// It has to be told which of QEMU's extensions are there.
    greet: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            format: PixelFormat { red_shift: 16, blue_shift: 0, ..PixelFormat::rgba32() },
            wanted: false,
            everything: false,
            relative_pointer: false,
            closed: false,
            zrle: false,
            resizes: false,
            extended_keys: false,
            greet: false,
        }
    }
}

impl Client {
    /// The encodings that it understands, the best first.
    pub fn set_encodings(&mut self, encodings: &[i32]) {
        let has = |encoding| encodings.contains(&encoding);
        // Raw is what every viewer must know; that it is named first is no wish for it.
        self.zrle = has(ZRLE);
        self.resizes = has(DESKTOP_SIZE);
        self.extended_keys = has(QEMU_EXTENDED_KEY);
        self.relative_pointer = has(QEMU_POINTER_MOTION);
        self.greet = self.extended_keys || self.relative_pointer;
    }
}

/// What one update is made with.
struct Order {
    format: PixelFormat,
    everything: bool,
    zrle: bool,
    resizes: bool,
    /// Pseudo-encodings to say.
    greetings: Vec<i32>,
    picture: Arc<Picture>,
}

/// The writing half of a connection.
pub struct Updates {
    lobby: Lobby,
    client: Arc<Mutex<Client>>,
    /// What the viewer has.
    sent: Option<Arc<Picture>>,
    /// The size that it believes in.
    size: (u32, u32),
    zlib: Compress,
}

impl Updates {
    /// `first` gave the size that the viewer was told.
    pub fn new(lobby: Lobby, client: Arc<Mutex<Client>>, first: Arc<Picture>) -> Self {
        let size = (first.width, first.height);
        Self { lobby, client, sent: None, size, zlib: Compress::new(Compression::fast(), true) }
    }

    /// Answers requests until the viewer or the machine is gone.
    pub fn run(mut self, output: &mut impl Write) -> io::Result<()> {
        while let Some(order) = self.next() {
            let bytes = self.update(&order)?;
            self.sent = Some(order.picture);
            send(output, &bytes)?;
        }
        Ok(())
    }

    /// Waits until there is something to send.
    fn next(&self) -> Option<Order> {
        self.lobby.wait(|state| {
            let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            if client.closed || state.ended {
                return Some(None);
            }
            let news = self.sent.as_ref().is_none_or(|sent| !Arc::ptr_eq(sent, &state.picture));
            if !client.wanted || !(news || client.everything || client.greet) {
                return None;
            }
            client.wanted = false;
            let mut greetings = Vec::new();
            if std::mem::take(&mut client.greet) {
                greetings.extend(client.extended_keys.then_some(QEMU_EXTENDED_KEY));
                greetings.extend(client.relative_pointer.then_some(QEMU_POINTER_MOTION));
            }
            Some(Some(Order {
                format: client.format.clone(),
                everything: std::mem::take(&mut client.everything),
                zrle: client.zrle,
                resizes: client.resizes,
                greetings,
                picture: state.picture.clone(),
            }))
        })
    }

    fn update(&mut self, order: &Order) -> io::Result<Vec<u8>> {
        let picture = &*order.picture;
        let size = (picture.width, picture.height);
        let mut rects = Vec::new();
        let mut count = 0u16;
        for greeting in &order.greetings {
            // For the pointer: 0 means relative.
            header(&mut rects, &Rect { x: 0, y: 0, width: size.0, height: size.1 }, *greeting);
            count += 1;
        }
        let resized = size != self.size && order.resizes;
        if resized {
            header(&mut rects, &Rect { x: 0, y: 0, width: size.0, height: size.1 }, DESKTOP_SIZE);
            (self.size, count) = (size, count + 1);
        }
        let old = self.sent.as_deref().filter(|_| !order.everything && !resized);
        for rect in damage(old, picture) {
            // What a viewer that knows no other sizes cannot show is left out.
            let Some(rect) = clip(rect, self.size) else { continue };
            self.rect(&mut rects, &rect, picture, order)?;
            count += 1;
        }
        Ok([&[0, 0], &count.to_be_bytes()[..], &rects].concat())
    }

    fn rect(&mut self, to: &mut Vec<u8>, rect: &Rect, picture: &Picture, order: &Order) -> io::Result<()> {
        let pixels = pixels(picture, rect, &order.format);
        if !order.zrle {
            header(to, rect, RAW);
            to.extend_from_slice(&pixels);
            return Ok(());
        }
        header(to, rect, ZRLE);
        let (width, height) = (rect.width as u16, rect.height as u16);
        to.extend(encode_zrle_persistent(&pixels, width, height, &order.format, &mut self.zlib)?);
        Ok(())
    }
}

/// The pixels of `rect` as the viewer wants them. (The encoding library's own conversion takes all formats with 8 bits of each
/// colour for the same.)
pub fn pixels(picture: &Picture, rect: &Rect, format: &PixelFormat) -> Vec<u8> {
    let bytes = usize::from(format.bits_per_pixel / 8);
    let scale = |value: u8, max: u16| (u32::from(value) * u32::from(max) + 127) / 255;
    let mut out = Vec::with_capacity(bytes * (rect.width * rect.height) as usize);
    for y in rect.y..rect.y + rect.height {
        for rgb in rect.row(picture, y).chunks_exact(3) {
            let value = scale(rgb[0], format.red_max) << format.red_shift
                | scale(rgb[1], format.green_max) << format.green_shift
                | scale(rgb[2], format.blue_max) << format.blue_shift;
            if format.big_endian_flag != 0 {
                out.extend_from_slice(&value.to_be_bytes()[4 - bytes..]);
            } else {
                out.extend_from_slice(&value.to_le_bytes()[..bytes]);
            }
        }
    }
    out
}

fn header(to: &mut Vec<u8>, rect: &Rect, encoding: i32) {
    for field in [rect.x, rect.y, rect.width, rect.height] {
        to.extend((field as u16).to_be_bytes());
    }
    to.extend(encoding.to_be_bytes());
}

/// The part of `rect` that lies in a desktop of this size.
fn clip(rect: Rect, (width, height): (u32, u32)) -> Option<Rect> {
    let rect = Rect {
        width: rect.width.min(width.saturating_sub(rect.x)),
        height: rect.height.min(height.saturating_sub(rect.y)),
        ..rect
    };
    (rect.width != 0 && rect.height != 0).then_some(rect)
}
