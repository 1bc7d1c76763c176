//! The command state machine: what a write cycle means after those before it.

use serde::{Deserialize, Serialize};

use super::{Flash, status};

/// Commands, named as in the data sheet.
mod code {
    pub const ERASE_BLOCK: u8 = 0x20;
    pub const PROGRAM: [u8; 2] = [0x10, 0x40];
    pub const CLEAR_STATUS: u8 = 0x50;
    pub const LOCK_BITS: u8 = 0x60;
    pub const READ_STATUS: u8 = 0x70;
    pub const READ_IDENTIFIER: u8 = 0x90;
    pub const READ_QUERY: u8 = 0x98;
    pub const CONFIRM: u8 = 0xd0;
    pub const WRITE_BUFFER: u8 = 0xe8;
}

/// What reads give and what the next write means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    /// Reads give the array, writes are commands.
    #[default]
    Array,
    /// Reads give the status register. So they do in all modes that follow the next two.
    Status,
    /// Reads give manufacturer and device.
    Identifier,
    /// Reads give the query table.
    Query,
    /// The next write is the byte to be programmed.
    Program,
    /// The next write confirms that the block is to be erased.
    Erase,
    /// The next write sets or clears lock bits.
    Lock,
    /// The next write is the number of bytes that come, less one.
    Count,
    /// Bytes for the buffer.
    Fill {
        /// Address of the first; `None` before it came.
        start: Option<u64>,
        /// How many are still to come.
        left: u16,
        /// Those that came, by their address.
        bytes: Vec<u8>,
    },
    /// The next write confirms that the buffer is to be programmed.
    Confirm {
        /// Where.
        start: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

impl Mode {
    /// The same, or the mode after reset if no chip of `len` bytes can be in it (hostile input).
    pub(super) fn sanitised(self, len: u64) -> Self {
        let fits = |start: u64, bytes: &[u8]| {
            bytes.len() <= 256 && start.checked_add(bytes.len() as u64).is_some_and(|end| end <= len)
        };
        let sound = match &self {
            Self::Fill { start, left, bytes } => {
                (1..=256).contains(left) && fits(start.unwrap_or(0), bytes) && !bytes.is_empty()
            }
            Self::Confirm { start, bytes } => fits(*start, bytes),
            _ => true,
        };
        if sound { self } else { Self::default() }
    }
}

impl Flash {
    /// A write cycle within the chip.
    pub(super) fn write_byte(&mut self, offset: u64, value: u8) {
        let mode = std::mem::take(&mut self.state.mode);
        self.state.mode = match mode {
            Mode::Array | Mode::Status | Mode::Identifier | Mode::Query => self.command(value),
            Mode::Program => {
                self.program(offset, &[value]);
                Mode::Status
            }
            Mode::Erase if value == code::CONFIRM => {
                self.erase(offset);
                Mode::Status
            }
            // Lock bits are accepted and not kept: what may be written, the file says.
            Mode::Lock => {
                self.state.status |= status::READY;
                Mode::Status
            }
            Mode::Count => {
                let left = u16::from(value) + 1;
                Mode::Fill { start: None, left, bytes: vec![0xff; left.into()] }
            }
            Mode::Fill { start, left, bytes } => self.fill(offset, value, start, left, bytes),
            Mode::Confirm { start, bytes } if value == code::CONFIRM => {
                self.program(start, &bytes);
                Mode::Status
            }
            Mode::Erase | Mode::Confirm { .. } => self.sequence_error(),
        };
    }

    fn command(&mut self, value: u8) -> Mode {
        match value {
            code::ERASE_BLOCK => Mode::Erase,
            value if code::PROGRAM.contains(&value) => Mode::Program,
            code::CLEAR_STATUS => {
                self.state.status = 0;
                Mode::Array
            }
            code::LOCK_BITS => Mode::Lock,
            code::READ_STATUS => Mode::Status,
            code::READ_IDENTIFIER => Mode::Identifier,
            code::READ_QUERY => Mode::Query,
            code::WRITE_BUFFER => {
                // The extended status: a buffer is free.
                self.state.status |= status::READY;
                Mode::Count
            }
            // Read Array, and what is no command.
            _ => Mode::Array,
        }
    }

    /// One more byte for the buffer: all lie within as many bytes from the first as were announced.
    fn fill(&mut self, offset: u64, value: u8, start: Option<u64>, left: u16, mut bytes: Vec<u8>) -> Mode {
        let start = start.unwrap_or(offset);
        let place = offset.checked_sub(start).and_then(|at| bytes.get_mut(at as usize));
        let Some(byte) = place else { return self.sequence_error() };
        *byte = value;
        if start + bytes.len() as u64 > self.len {
            return self.sequence_error();
        }
        match left - 1 {
            0 => Mode::Confirm { start, bytes },
            left => Mode::Fill { start: Some(start), left, bytes },
        }
    }

    fn sequence_error(&mut self) -> Mode {
        self.state.status |= status::READY | status::PROGRAM_ERROR | status::ERASE_ERROR;
        Mode::Status
    }
}
