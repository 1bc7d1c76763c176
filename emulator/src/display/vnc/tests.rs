//! The server on a loopback socket: with a client that is not ours (the crate vnc-rs), and with one that is rude.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use devices::vga::Picture;
use vnc::{ClientKeyEvent, ClientMouseEvent, PixelFormat, VncConnector, VncEncoding, VncEvent, X11Event};

use super::*;
use crate::display::Hub;
use crate::machine::gate::Live;

const DEADLINE: Duration = Duration::from_secs(20);

/// A picture in which every pixel tells where it is.
fn picture(width: u32, height: u32, blue: u8) -> Picture {
    let pixel = |n: u32| [(n % width) as u8, (n / width) as u8, blue];
    Picture { width, height, rgb: (0..width * height).flat_map(pixel).collect() }
}

struct Served {
    hub: Hub,
    at: SocketAddr,
    sent: Receiver<Live>,
}

fn served(password: Option<&str>) -> Served {
    let (sender, sent) = unbounded();
    let hub = Hub::new(sender);
    let config =
        VncConfig { address: (Ipv4Addr::LOCALHOST, 0).into(), password: password.map(str::to_owned) };
    let at = start(&config, hub.lobby()).unwrap();
    Served { hub, at, sent }
}

/// A client that is not ours, and what it has drawn.
struct Viewer {
    client: vnc::VncClient,
    red_first: bool,
    size: (u32, u32),
    screen: Vec<[u8; 3]>,
}

impl Viewer {
    async fn connect(at: SocketAddr, encoding: VncEncoding, password: &str) -> Result<Self, vnc::VncError> {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let password = password.to_owned();
        let client = VncConnector::new(stream)
            .set_auth_method(async move { Ok(password) })
            .add_encoding(encoding)
            .add_encoding(VncEncoding::DesktopSizePseudo)
            .allow_shared(true)
            .set_pixel_format(if encoding == VncEncoding::Raw {
                PixelFormat::bgra()
            } else {
                PixelFormat::rgba()
            })
            .build()?
            .try_start()
            .await?
            .finish()?;
        let red_first = encoding != VncEncoding::Raw;
        Ok(Self { client, red_first, size: (0, 0), screen: Vec::new() })
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.size = (width.into(), height.into());
        self.screen = vec![[0; 3]; usize::from(width) * usize::from(height)];
    }

    fn draw(&mut self, rect: vnc::Rect, data: &[u8]) {
        let mut pixels = data.chunks_exact(4);
        for y in rect.y..rect.y + rect.height {
            for x in rect.x..rect.x + rect.width {
                let pixel = pixels.next().unwrap();
                let [red, blue] = if self.red_first { [pixel[0], pixel[2]] } else { [pixel[2], pixel[0]] };
                self.screen[usize::from(y) * self.size.0 as usize + usize::from(x)] = [red, pixel[1], blue];
            }
        }
    }

    /// Draws what comes until the screen is as wanted.
    async fn until(&mut self, wanted: &Picture) {
        let pixels: Vec<[u8; 3]> = wanted.rgb.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
        let seen = async {
            while self.size != (wanted.width, wanted.height) || self.screen != pixels {
                match self.client.poll_event().await.unwrap() {
                    Some(VncEvent::SetResolution(screen)) => self.resize(screen.width, screen.height),
                    Some(VncEvent::DesktopUpdate(update)) => panic!("not announced: {update:?}"),
                    Some(VncEvent::RawImage(rect, data)) => self.draw(rect, &data),
                    Some(VncEvent::Error(error)) => panic!("{error}"),
                    Some(_) => {}
                    None => {
                        self.client.input(X11Event::Refresh).await.unwrap();
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        };
        let arrived = tokio::time::timeout(DEADLINE, seen).await.is_ok();
        let wrong = self.screen.iter().zip(&pixels).position(|(seen, wanted)| seen != wanted);
        assert!(arrived, "{:?}, first wrong pixel {wrong:?}", self.size);
    }
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

#[test]
fn a_client_sees_pictures_and_types() {
    for encoding in [VncEncoding::Raw, VncEncoding::Zrle] {
        on_a_runtime(async {
            let mut served = served(Some("secret"));
            served.hub.show(Some(picture(200, 100, 0)));
            let mut viewer = Viewer::connect(served.at, encoding, "secret").await.unwrap();
            viewer.until(&picture(200, 100, 0)).await;
            // A part changes; then the size does.
            let mut changed = picture(200, 100, 0);
            changed.rgb[3 * (70 * 200 + 130)] = 77;
            served.hub.show(Some(changed.clone()));
            viewer.until(&changed).await;
            served.hub.show(Some(picture(150, 131, 9)));
            viewer.until(&picture(150, 131, 9)).await;
            for (keycode, down) in [(0x61, true), (0x61, false), (0xff52, true)] {
                viewer.client.input(X11Event::KeyEvent(ClientKeyEvent { keycode, down })).await.unwrap();
            }
            for (position_x, position_y, bottons) in [(10, 10, 0), (13, 8, 4)] {
                let event = ClientMouseEvent { position_x, position_y, bottons };
                viewer.client.input(X11Event::PointerEvent(event)).await.unwrap();
            }
            let mut sent = Vec::new();
            while sent.len() < 4 {
                match served.sent.try_recv() {
                    Ok(Live::Look) => {}
                    Ok(message) => sent.push(message),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
            let keys = |codes: &[u8]| Live::Keys(vec![codes.to_vec()]);
            let right = MouseMove { dx: 3, dy: -2, dz: 0, buttons: 2 };
            assert_eq!(sent, [keys(&[0x1c]), keys(&[0xf0, 0x1c]), keys(&[0xe0, 0x75]), Live::Mouse(right)]);
        });
    }
}

#[test]
fn a_wrong_password_sees_nothing() {
    on_a_runtime(async {
        let served = served(Some("secret"));
        assert!(Viewer::connect(served.at, VncEncoding::Raw, "wrong").await.is_err());
        assert!(served.sent.try_recv().is_err(), "nobody was let in");
    });
}

/// The answer to what `bytes` says, after the greeting.
fn told(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A server that hangs up early resets the connection.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"RFB 003.008\n"));
    answer.split_off(12)
}

#[test]
fn old_versions_are_spoken_too() {
    let served = served(None);
    let after_init = |answer: &[u8]| answer.ends_with(b"\0\0\0\x0aRetrograde");
    let answer = told(served.at, b"RFB 003.003\n\x01");
    assert!(answer.starts_with(&[0, 0, 0, 1]) && after_init(&answer), "{answer:?}");
    let answer = told(served.at, b"RFB 003.007\n\x01\x01");
    assert!(answer.starts_with(&[1, 1, 2, 208]) && after_init(&answer), "{answer:?}");
}

#[test]
fn rude_clients_are_shown_out() {
    let served = served(None);
    let hello = b"RFB 003.008\n\x01\x01";
    let say = |bytes: &[u8]| told(served.at, &[hello, bytes].concat());
    told(served.at, b"GET / HTTP/1.1\r\n\r\n");
    told(served.at, b"RFB 003.008\n\x07");
    // A palette; shifts beyond the pixel; endless lists and texts; unknown messages.
    say(&[0, 0, 0, 0, 8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0]);
    say(&[0, 0, 0, 0, 32, 24, 0, 1, 255, 255, 255, 255, 255, 255, 99, 99, 99, 0, 0, 0]);
    say(&[2, 0, 255, 255]);
    say(&[6, 0, 0, 0, 255, 255, 255, 255]);
    say(&[99]);
    // It serves others still.
    assert!(say(&[]).len() > 24);
}

mod any_format {
    use proptest::prelude::*;

    use super::super::protocol::{Message, message};
    use super::super::update::pixels;
    use super::picture;
    use crate::display::Rect;

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = message(&mut rest) {}
        }

        /// Every format that is taken can be encoded.
        #[test]
        fn no_accepted_format_panics(
            bits in prop::sample::select(vec![8u8, 16, 32]),
            depth in 0u8..33,
            big_endian in 0u8..2,
            maxima in prop::collection::vec(prop::sample::select(vec![0u16, 1, 3, 7, 31, 63, 255, 1023, 65535]), 3),
            shifts in prop::collection::vec(any::<u8>(), 3),
        ) {
            let mut bytes = vec![0, 0, 0, 0, bits, depth, big_endian, 1];
            bytes.extend(maxima.iter().flat_map(|max| max.to_be_bytes()));
            bytes.extend(shifts.iter().map(|shift| shift % 40));
            bytes.extend([0; 3]);
            if let Ok(Some(Message::Format(format))) = message(&mut &bytes[..]) {
                let whole = Rect { x: 0, y: 0, width: 8, height: 8 };
                let pixels = pixels(&picture(8, 8, 200), &whole, &format);
                prop_assert_eq!(pixels.len(), 64 * usize::from(bits) / 8);
                let mut zlib = flate2::Compress::new(flate2::Compression::fast(), true);
                let encoded = rfb_encodings::zrle::encode_zrle_persistent(&pixels, 8, 8, &format, &mut zlib);
                prop_assert!(encoded.is_ok());
            }
        }
    }
}
