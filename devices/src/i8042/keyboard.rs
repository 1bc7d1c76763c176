//! The PS/2 keyboard's side of the wire: commands, replies, and scan codes (IBM PS/2 technical reference, keyboard).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The keyboard's own buffer.
const BUFFER: usize = 16;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keyboard {
    buffer: VecDeque<u8>,
    /// The command that waits for its parameter.
    command: Option<u8>,
    last_sent: u8,
    scan_set: u8,
    scanning: bool,
    leds: u8,
    typematic: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self {
            buffer: VecDeque::new(),
            command: None,
            last_sent: 0,
            scan_set: 2,
            scanning: true,
            leds: 0,
            typematic: 0x2b,
        }
    }
}

impl Keyboard {
    pub(super) fn pop(&mut self) -> Option<u8> {
        let byte = self.buffer.pop_front()?;
        self.last_sent = byte;
        Some(byte)
    }

    pub(super) fn key(&mut self, scan_codes: &[u8]) -> bool {
        let taken = self.scanning && self.buffer.len() + scan_codes.len() <= BUFFER;
        if taken {
            self.buffer.extend(scan_codes);
        }
        taken
    }

    /// A byte from the host. A command ends whatever the keyboard was saying.
    pub(super) fn write(&mut self, byte: u8) {
        self.buffer.clear();
        // No parameter is as large as a command.
        match self.command.take() {
            Some(command) if byte < 0xed => self.parameter(command, byte),
            _ => self.command(byte),
        }
    }

    fn parameter(&mut self, command: u8, byte: u8) {
        match (command, byte) {
            (0xf0, 0) => return self.buffer.extend([ACK, self.scan_set]),
            (0xf0, 1..=3) => self.scan_set = byte,
            (0xf0, _) => return self.buffer.push_back(RESEND),
            (0xed, _) => self.leds = byte & 7,
            (0xf3, _) => self.typematic = byte & 0x7f,
            _ => {} // FBh to FDh: the type of one key of set 3
        }
        self.buffer.push_back(ACK);
    }

    fn command(&mut self, byte: u8) {
        match byte {
            0xed | 0xf0 | 0xf3 | 0xfb..=0xfd => self.command = Some(byte),
            0xee => return self.buffer.push_back(0xee),
            0xf2 => return self.buffer.extend([ACK, 0xab, 0x83]),
            0xf4 => self.scanning = true,
            0xf5 => *self = Self { scanning: false, ..Self::default() },
            0xf6 => *self = Self::default(),
            0xf7..=0xfa => {} // key types of set 3
            0xfe => return self.buffer.push_back(self.last_sent),
            0xff => {
                *self = Self::default();
                return self.buffer.extend([ACK, 0xaa]);
            }
            _ => return self.buffer.push_back(RESEND),
        }
        self.buffer.push_back(ACK);
    }

    pub(super) fn sanitise(&mut self) {
        self.buffer.truncate(BUFFER);
    }
}

/// Scan code set 2 to set 1, as the 8042's ROM does it for codes below 80h.
#[rustfmt::skip]
const SET_1: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];

/// The set 1 code of a set 2 code.
pub(super) fn to_set_1(code: u8) -> u8 {
    match code {
        0x00..=0x7f => SET_1[usize::from(code)],
        0x83 => 0x41, // F7, and the second byte of the keyboard's identity
        0x84 => 0x54,
        _ => code,
    }
}

/// One byte through the controller's translation. `None`: swallowed, it was the break prefix.
pub(super) fn translate(byte: u8, release: &mut bool) -> Option<u8> {
    if byte == 0xf0 {
        *release = true;
        return None;
    }
    let made = to_set_1(byte);
    Some(made | if std::mem::take(release) { 0x80 } else { 0 })
}
