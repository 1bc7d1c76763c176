//! Keyboard controller (8042), with a PS/2 keyboard and a PS/2 mouse, and the system control port A (92h).
//!
//! Ports 60h, 64h and 92h. There is one A20 gate: the controller's output port and port 92h both move it, and the last
//! writer wins, as on chipsets that emulate the old gate.
//!
//! A byte stays in the output buffer until port 60h is read; only then the next one is loaded, so the interrupt line
//! falls between two bytes. The controller's own replies go before what the devices have to say.

mod keyboard;
mod mouse;

use serde::{Deserialize, Serialize};

use crate::{IrqLine, Ns, PortDevice, PowerEvent};
use keyboard::Keyboard;
use mouse::Mouse;
pub use mouse::MouseMove;

mod status {
    pub const OBF: u8 = 0x01;
    pub const SYS: u8 = 0x04;
    /// The last write went to port 64h.
    pub const CMD: u8 = 0x08;
    pub const UNLOCKED: u8 = 0x10;
    /// The byte in the output buffer came from the mouse.
    pub const AUX: u8 = 0x20;
}
/// Controller command byte.
mod ctr {
    pub const KBD_INT: u8 = 0x01;
    pub const AUX_INT: u8 = 0x02;
    pub const SYS: u8 = 0x04;
    pub const KBD_OFF: u8 = 0x10;
    pub const AUX_OFF: u8 = 0x20;
    pub const TRANSLATE: u8 = 0x40;
}
mod output_port {
    pub const NOT_RESET: u8 = 0x01;
    pub const A20: u8 = 0x02;
    pub const KBD_OBF: u8 = 0x10;
    pub const AUX_OBF: u8 = 0x20;
}
const FAST_RESET: u8 = 0x01;
const FAST_A20: u8 = 0x02;

/// Who put a byte into the output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum From {
    Keyboard,
    Mouse,
}

/// Controller, keyboard and mouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct I8042State {
    ctr: u8,
    /// Internal RAM beyond the command byte (commands 21h to 3Fh, 61h to 7Fh).
    ram: [u8; 31],
    last_write_was_command: bool,
    /// The command that waits for its byte at port 60h.
    command: Option<u8>,
    output: Option<(u8, From)>,
    /// What an empty output buffer still shows.
    last_output: u8,
    reply: Option<(u8, From)>,
    a20: bool,
    port_92: u8,
    /// Translation: the next scan code is a break code.
    release: bool,
    keyboard: Keyboard,
    mouse: Mouse,
    event: Option<PowerEvent>,
}

/// The keyboard controller.
pub struct I8042 {
    state: I8042State,
    keyboard_irq: IrqLine,
    mouse_irq: IrqLine,
}

/// The set 1 code that the controller makes of a key's set 2 code.
pub fn set_1_code(set_2: u8) -> u8 {
    keyboard::to_set_1(set_2)
}

impl I8042 {
    /// The controller at power-on: A20 passes, translation on, both devices there.
    pub fn new(keyboard_irq: IrqLine, mouse_irq: IrqLine) -> Self {
        let state = I8042State {
            ctr: ctr::KBD_INT | ctr::TRANSLATE | ctr::AUX_OFF,
            ram: [0; 31],
            last_write_was_command: false,
            command: None,
            output: None,
            last_output: 0,
            reply: None,
            a20: true,
            port_92: 0,
            release: false,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
            event: None,
        };
        Self { state, keyboard_irq, mouse_irq }
    }

    /// Platform reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.keyboard_irq.clone(), self.mouse_irq.clone());
        self.drive();
    }

    /// Whether address line 20 passes.
    pub fn a20(&self) -> bool {
        self.state.a20
    }

    /// The reset that the last access asked for.
    pub fn take_event(&mut self) -> Option<PowerEvent> {
        self.state.event.take()
    }

    /// Scan codes (set 2) of a key event, all or none. False if the keyboard is off or its buffer full.
    pub fn key(&mut self, scan_codes: &[u8]) -> bool {
        let taken = self.state.keyboard.key(scan_codes);
        self.load();
        taken
    }

    /// The mouse moves, or a button does. A mouse that the host has not turned on only remembers its buttons.
    pub fn mouse(&mut self, by: MouseMove) {
        self.state.mouse.moved(by);
        self.load();
    }

    /// Moves the next byte into an empty output buffer.
    fn load(&mut self) {
        let s = &mut self.state;
        if s.output.is_none() {
            s.output = s.reply.take();
        }
        // Translation swallows break prefixes; each turn takes a byte from the keyboard's bounded buffer.
        while s.output.is_none() && s.ctr & ctr::KBD_OFF == 0 {
            let Some(byte) = s.keyboard.pop() else { break };
            s.output = if s.ctr & ctr::TRANSLATE == 0 {
                Some(byte)
            } else {
                keyboard::translate(byte, &mut s.release)
            }
            .map(|byte| (byte, From::Keyboard));
        }
        if s.output.is_none() && s.ctr & ctr::AUX_OFF == 0 {
            s.output = s.mouse.pop().map(|byte| (byte, From::Mouse));
        }
        self.drive();
    }

    fn drive(&self) {
        let s = &self.state;
        let from = s.output.map(|(_, from)| from);
        self.keyboard_irq.set(from == Some(From::Keyboard) && s.ctr & ctr::KBD_INT != 0);
        self.mouse_irq.set(from == Some(From::Mouse) && s.ctr & ctr::AUX_INT != 0);
    }

    fn read_data(&mut self) -> u8 {
        if let Some((byte, _)) = self.state.output.take() {
            self.state.last_output = byte;
        }
        self.drive();
        self.state.last_output
    }

    fn status(&self) -> u8 {
        let s = &self.state;
        let output = match s.output {
            None => 0,
            Some((_, From::Keyboard)) => status::OBF,
            Some((_, From::Mouse)) => status::OBF | status::AUX,
        };
        status::UNLOCKED
            | output
            | if s.ctr & ctr::SYS != 0 { status::SYS } else { 0 }
            | if s.last_write_was_command { status::CMD } else { 0 }
    }

    fn output_port(&self) -> u8 {
        let s = &self.state;
        output_port::NOT_RESET
            | if s.a20 { output_port::A20 } else { 0 }
            | match s.output {
                None => 0,
                Some((_, From::Keyboard)) => output_port::KBD_OBF,
                Some((_, From::Mouse)) => output_port::AUX_OBF,
            }
    }

    fn reply(&mut self, byte: u8) {
        self.state.reply = Some((byte, From::Keyboard));
    }

    fn command(&mut self, command: u8) {
        self.state.command = None;
        match command {
            0x20 => self.reply(self.state.ctr),
            0x21..=0x3f => self.reply(self.state.ram[usize::from(command - 0x21)]),
            0x60..=0x7f | 0xd1..=0xd4 => self.state.command = Some(command),
            0xa4 => self.reply(0xf1), // no password
            0xa7 => self.state.ctr |= ctr::AUX_OFF,
            0xa8 => self.state.ctr &= !ctr::AUX_OFF,
            0xa9 | 0xab => self.reply(0x00), // interface tests: no error
            0xaa => {
                self.state.ctr |= ctr::SYS;
                self.reply(0x55);
            }
            0xad => self.state.ctr |= ctr::KBD_OFF,
            0xae => self.state.ctr &= !ctr::KBD_OFF,
            0xc0 => self.reply(0x80), // input port: keyboard not locked
            0xd0 => self.reply(self.output_port()),
            0xdd => self.state.a20 = false,
            0xdf => self.state.a20 = true,
            0xe0 => self.reply(0x00), // test inputs
            // Pulses low the output port bits that are 0 here; bit 0 resets the CPU.
            0xf0..=0xff if command & 1 == 0 => self.state.event = Some(PowerEvent::Reset),
            _ => {}
        }
    }

    fn write_data(&mut self, byte: u8) {
        let s = &mut self.state;
        match s.command.take() {
            Some(0x60) => s.ctr = byte,
            Some(command @ 0x61..=0x7f) => s.ram[usize::from(command - 0x61)] = byte,
            Some(0xd1) => {
                s.a20 = byte & output_port::A20 != 0;
                if byte & output_port::NOT_RESET == 0 {
                    s.event = Some(PowerEvent::Reset);
                }
            }
            Some(0xd2) => s.reply = Some((byte, From::Keyboard)),
            Some(0xd3) => s.reply = Some((byte, From::Mouse)),
            Some(0xd4) => {
                // A byte for a device turns its interface on.
                s.ctr &= !ctr::AUX_OFF;
                s.mouse.write(byte);
            }
            _ => {
                s.ctr &= !ctr::KBD_OFF;
                s.keyboard.write(byte);
            }
        }
    }

    /// Controller, keyboard and mouse.
    pub fn save(&self) -> I8042State {
        let Self { state, keyboard_irq: _, mouse_irq: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: I8042State) {
        state.keyboard.sanitise();
        state.mouse.sanitise();
        self.state = state;
        self.drive();
    }
}

impl PortDevice for I8042 {
    fn port_read(&mut self, port: u16, _size: u8, _now: Ns) -> u32 {
        let value = match port {
            0x60 => self.read_data(),
            0x64 => self.status(),
            _ => self.state.port_92 & !FAST_A20 | if self.state.a20 { FAST_A20 } else { 0 },
        };
        self.load();
        value.into()
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, _now: Ns) {
        let value = value as u8;
        match port {
            0x60 => {
                self.state.last_write_was_command = false;
                self.write_data(value);
            }
            0x64 => {
                self.state.last_write_was_command = true;
                self.command(value);
            }
            _ => {
                if value & !self.state.port_92 & FAST_RESET != 0 {
                    self.state.event = Some(PowerEvent::Reset);
                }
                self.state.port_92 = value;
                self.state.a20 = value & FAST_A20 != 0;
            }
        }
        self.load();
    }
}

#[cfg(test)]
mod tests;
