//! The viewer's side of RFB: handshake and messages (RFC 6143, 7.1 to 7.5), with bounds on everything that has a length.

use std::fs::File;
use std::io::{self, Read, Write};

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use devices::vga::Picture;
use rfb_encodings::PixelFormat;

use super::send;

const NONE: u8 = 1;
const VNC_AUTHENTICATION: u8 = 2;
/// Encodings that a viewer may list.
const MAX_ENCODINGS: usize = 1024;
/// Bytes of a clipboard that are read over.
const MAX_CUT_TEXT: u64 = 16 << 20;
const NAME: &[u8] = b"Retrograde";

/// What a viewer says.
#[derive(Clone, Debug)]
pub enum Message {
    /// How it wants pixels.
    Format(PixelFormat),
    /// What it understands.
    Encodings(Vec<i32>),
    /// It wants to see what has changed, or everything.
    UpdateRequest { incremental: bool },
    /// A key by its symbol.
    Key { symbol: u32, down: bool },
    /// A key by its symbol and by QEMU's number.
    ExtendedKey { symbol: u32, number: u32, down: bool },
    /// The mouse.
    Pointer(PointerEvent),
    /// What is of no use here.
    Nothing,
}

/// Where the pointer is, and which buttons are down.
#[derive(Clone, Copy, Debug)]
pub struct PointerEvent {
    pub x: u16,
    pub y: u16,
    pub buttons: u8,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Up to and including the security handshake. False: the password was wrong.
pub fn handshake(input: &mut impl Read, output: &mut impl Write, password: Option<&str>) -> io::Result<bool> {
    send(output, b"RFB 003.008\n")?;
    let version = read::<12>(input)?;
    let minor = match &version {
        b"RFB 003.008\n" => 8,
        b"RFB 003.007\n" => 7,
        // Others that begin so are to be treated as 3.3 (RFC 6143, 7.1.1).
        _ if version.starts_with(b"RFB 003.") => 3,
        _ => return Err(bad("not a viewer")),
    };
    let kind = if password.is_some() { VNC_AUTHENTICATION } else { NONE };
    if minor == 3 {
        send(output, &u32::from(kind).to_be_bytes())?;
    } else {
        send(output, &[1, kind])?;
        if read::<1>(input)? != [kind] {
            return Err(bad("a kind of security that was not offered"));
        }
    }
    let Some(password) = password else {
        if minor == 8 {
            send(output, &0u32.to_be_bytes())?;
        }
        return Ok(true);
    };
    let challenge = challenge()?;
    send(output, &challenge)?;
    let right = read::<16>(input)? == response(&challenge, password);
    send(output, &u32::from(!right).to_be_bytes())?;
    if !right && minor == 8 {
        let reason = b"wrong password";
        send(output, &[&(reason.len() as u32).to_be_bytes(), &reason[..]].concat())?;
    }
    Ok(right)
}

fn challenge() -> io::Result<[u8; 16]> {
    read(&mut File::open("/dev/urandom")?)
}

/// The challenge under DES, with the password as the key: the bits of each byte the other way round.
pub fn response(challenge: &[u8; 16], password: &str) -> [u8; 16] {
    let mut key = [0; 8];
    for (to, byte) in key.iter_mut().zip(password.bytes()) {
        *to = byte.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut out = [0; 16];
    for (to, block) in out.chunks_exact_mut(8).zip(challenge.chunks_exact(8)) {
        let mut block: [u8; 8] = block.try_into().expect("chunks of eight bytes");
        cipher.encrypt_block((&mut block).into());
        to.copy_from_slice(&block);
    }
    out
}

/// The viewer's and the server's initialisation.
pub fn init(input: &mut impl Read, output: &mut impl Write, picture: &Picture) -> io::Result<()> {
    // Whether it would share the desktop: all do.
    let _shared = read::<1>(input)?;
    let mut bytes = Vec::new();
    bytes.extend((picture.width as u16).to_be_bytes());
    bytes.extend((picture.height as u16).to_be_bytes());
    bytes.extend([32, 24, 0, 1]);
    bytes.extend([0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    bytes.extend((NAME.len() as u32).to_be_bytes());
    bytes.extend(NAME);
    send(output, &bytes)
}

/// The next message; `None`: the viewer is gone.
pub fn message(input: &mut impl Read) -> io::Result<Option<Message>> {
    let mut kind = [0];
    if input.read(&mut kind)? == 0 {
        return Ok(None);
    }
    Ok(Some(match kind[0] {
        0 => Message::Format(format(&read::<19>(input)?[3..])?),
        2 => {
            let count = usize::from(be16(&read::<3>(input)?, 1));
            if count > MAX_ENCODINGS {
                return Err(bad("too many encodings"));
            }
            let encodings = (0..count).map(|_| read::<4>(input).map(i32::from_be_bytes));
            Message::Encodings(encodings.collect::<io::Result<_>>()?)
        }
        3 => Message::UpdateRequest { incremental: read::<9>(input)?[0] != 0 },
        4 => {
            let body = read::<7>(input)?;
            Message::Key { down: body[0] != 0, symbol: be32(&body, 3) }
        }
        5 => {
            let body = read::<5>(input)?;
            Message::Pointer(PointerEvent { buttons: body[0], x: be16(&body, 1), y: be16(&body, 3) })
        }
        6 => {
            let len = u64::from(be32(&read::<7>(input)?, 3));
            if len > MAX_CUT_TEXT {
                return Err(bad("too much text"));
            }
            skip(input, len)?;
            Message::Nothing
        }
        // SetDesktopSize: the guest decides.
        251 => {
            let screens = read::<7>(input)?[5];
            skip(input, 16 * u64::from(screens))?;
            Message::Nothing
        }
        255 => match read::<1>(input)? {
            [0] => {
                let body = read::<10>(input)?;
                Message::ExtendedKey {
                    down: be16(&body, 0) != 0,
                    symbol: be32(&body, 2),
                    number: be32(&body, 6),
                }
            }
            _ => return Err(bad("a message of QEMU's that was not offered")),
        },
        _ => return Err(bad("an unknown message")),
    }))
}

fn skip(input: &mut impl Read, len: u64) -> io::Result<()> {
    if io::copy(&mut input.by_ref().take(len), &mut io::sink())? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn format(bytes: &[u8]) -> io::Result<PixelFormat> {
    let format = PixelFormat {
        bits_per_pixel: bytes[0],
        depth: bytes[1],
        big_endian_flag: bytes[2],
        // Any number but 0 means yes.
        true_colour_flag: (bytes[3] != 0).into(),
        red_max: be16(bytes, 4),
        green_max: be16(bytes, 6),
        blue_max: be16(bytes, 8),
        red_shift: bytes[10],
        green_shift: bytes[11],
        blue_shift: bytes[12],
    };
    if format.true_colour_flag == 0 || !matches!(format.bits_per_pixel, 8 | 16 | 32) || !format.is_valid() {
        return Err(bad("a pixel format that is not there: use true colour"));
    }
    Ok(format)
}
