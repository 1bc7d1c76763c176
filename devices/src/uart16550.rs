//! 16550A UART (National Semiconductor PC16550D data sheet).
//!
//! Transmission is immediate: a byte written to THR is in the output buffer when the write returns, so THRE and TEMT
//! always read 1, and the THRE interrupt becomes pending again with each write. Reception keeps the FIFO, its trigger
//! level and the character timeout, which runs on the programmed line speed in virtual time.
//!
//! On the PC the interrupt pin passes a gate controlled by MCR.OUT2; in loop-back mode OUT2 is off.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{IrqLine, Ns, PortDevice, Timed};

/// The crystal divided by 16 divided by the divisor latch is the line speed.
const CLOCK_HZ: u64 = 1_843_200;
const FIFO_DEPTH: usize = 16;
/// The board drains output after each access; a board that does not loses what exceeds this.
const OUTPUT_LIMIT: usize = 64 * 1024;

mod ier {
    pub const RDA: u8 = 1;
    pub const THRE: u8 = 2;
    pub const RLS: u8 = 4;
    pub const MS: u8 = 8;
}
mod iir {
    pub const NONE: u8 = 0x01;
    pub const MS: u8 = 0x00;
    pub const THRE: u8 = 0x02;
    pub const RDA: u8 = 0x04;
    pub const RLS: u8 = 0x06;
    pub const TIMEOUT: u8 = 0x0c;
    pub const FIFOS_ENABLED: u8 = 0xc0;
}
mod fcr {
    pub const ENABLE: u8 = 0x01;
    pub const CLEAR_RX: u8 = 0x02;
    pub const CLEAR_TX: u8 = 0x04;
}
mod lcr {
    pub const BREAK: u8 = 0x40;
    pub const DLAB: u8 = 0x80;
}
mod mcr {
    pub const DTR: u8 = 0x01;
    pub const RTS: u8 = 0x02;
    pub const OUT1: u8 = 0x04;
    pub const OUT2: u8 = 0x08;
    pub const LOOP: u8 = 0x10;
}
mod lsr {
    pub const DR: u8 = 0x01;
    pub const OE: u8 = 0x02;
    pub const BI: u8 = 0x10;
    pub const ERRORS: u8 = 0x1e;
    pub const THRE: u8 = 0x20;
    pub const TEMT: u8 = 0x40;
    pub const FIFO_ERROR: u8 = 0x80;
}
/// Modem status inputs (MSR bits 4 to 7).
pub mod msr {
    /// Clear to send.
    pub const CTS: u8 = 0x10;
    /// Data set ready.
    pub const DSR: u8 = 0x20;
    /// Ring indicator.
    pub const RI: u8 = 0x40;
    /// Data carrier detect.
    pub const DCD: u8 = 0x80;
    pub(super) const TERI: u8 = 0x04;
}

/// Registers and FIFO of a 16550A.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UartState {
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    /// OE, PE, FE, BI of LSR: overrun, and the errors of the character at the top of the FIFO.
    errors: u8,
    /// Delta bits of MSR.
    deltas: u8,
    /// The modem inputs as wired (MSR bits 4 to 7).
    inputs: u8,
    scr: u8,
    divisor: u16,
    /// Received characters with their LSR error bits.
    rx: VecDeque<(u8, u8)>,
    thre_pending: bool,
    timeout_at: Option<Ns>,
    timeout_pending: bool,
}

/// One serial port.
pub struct Uart16550 {
    state: UartState,
    irq: IrqLine,
    output: Vec<u8>,
}

impl Uart16550 {
    /// A port after reset, with a peer that is ready (CTS, DSR, DCD).
    pub fn new(irq: IrqLine) -> Self {
        Self { state: UartState::reset(msr::CTS | msr::DSR | msr::DCD), irq, output: Vec::new() }
    }

    /// Hardware reset. The modem inputs are the peer's and stay.
    pub fn reset(&mut self) {
        self.state = UartState::reset(self.state.inputs);
        self.update();
    }

    /// Bytes sent since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Has something been sent since [`Self::take_output`]?
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether a byte received now finds room.
    pub fn can_receive(&self) -> bool {
        self.state.mcr & mcr::LOOP == 0 && self.state.rx.len() < self.state.depth()
    }

    /// A byte from the line; false when it was lost (overrun, or the port is in loop-back mode).
    pub fn receive(&mut self, byte: u8, now: Ns) -> bool {
        self.state.mcr & mcr::LOOP == 0 && self.push(byte, 0, now)
    }

    /// A break condition on the line.
    pub fn receive_break(&mut self, now: Ns) {
        if self.state.mcr & mcr::LOOP == 0 {
            self.push(0, lsr::BI, now);
        }
    }

    /// Sets the modem inputs (bits of [`msr`]).
    pub fn set_modem_inputs(&mut self, inputs: u8) {
        let before = self.state.modem_status();
        self.state.inputs = inputs & 0xf0;
        self.state.note_deltas(before);
        self.update();
    }

    fn push(&mut self, byte: u8, errors: u8, now: Ns) -> bool {
        let s = &mut self.state;
        let accepted = s.rx.len() < s.depth();
        if accepted {
            s.rx.push_back((byte, errors));
            if s.rx.len() == 1 {
                s.errors |= errors;
            }
        } else {
            s.errors |= lsr::OE;
            // Without FIFOs the new character overwrites the old one; with FIFOs it is lost.
            if s.fcr & fcr::ENABLE == 0 {
                s.rx[0] = (byte, errors);
                s.errors |= errors;
            }
        }
        s.restart_timeout(now);
        self.update();
        accepted
    }

    fn transmit(&mut self, byte: u8, now: Ns) {
        if self.state.mcr & mcr::LOOP != 0 {
            self.push(byte, 0, now);
        } else if self.output.len() < OUTPUT_LIMIT {
            self.output.push(byte);
        }
        self.state.thre_pending = true;
    }

    fn update(&self) {
        let gate = self.state.mcr & (mcr::OUT2 | mcr::LOOP) == mcr::OUT2;
        self.irq.set(gate && self.state.identify() != iir::NONE);
    }

    fn read(&mut self, reg: u16, now: Ns) -> u8 {
        let s = &mut self.state;
        match reg {
            0 if s.lcr & lcr::DLAB != 0 => s.divisor.to_le_bytes()[0],
            1 if s.lcr & lcr::DLAB != 0 => s.divisor.to_le_bytes()[1],
            0 => s.read_rbr(now),
            1 => s.ier,
            2 => {
                let id = s.identify();
                if id == iir::THRE {
                    s.thre_pending = false;
                }
                id | if s.fcr & fcr::ENABLE != 0 { iir::FIFOS_ENABLED } else { 0 }
            }
            3 => s.lcr,
            4 => s.mcr,
            5 => {
                let value = s.line_status();
                s.errors = 0;
                if let Some(top) = s.rx.front_mut() {
                    top.1 = 0;
                }
                value
            }
            6 => s.modem_status() | std::mem::take(&mut s.deltas),
            _ => s.scr,
        }
    }

    fn write(&mut self, reg: u16, value: u8, now: Ns) {
        let s = &mut self.state;
        match reg {
            0 if s.lcr & lcr::DLAB != 0 => s.divisor = s.divisor & 0xff00 | u16::from(value),
            1 if s.lcr & lcr::DLAB != 0 => s.divisor = s.divisor & 0x00ff | u16::from(value) << 8,
            0 => self.transmit(value, now),
            1 => {
                let changed = s.ier ^ value;
                s.ier = value & 0x0f;
                // Enabling the interrupt while THR is empty makes it pending at once.
                if changed & ier::THRE != 0 {
                    s.thre_pending = value & ier::THRE != 0;
                }
            }
            2 => s.write_fcr(value),
            3 => {
                let started_break = value & !s.lcr & lcr::BREAK != 0;
                s.lcr = value;
                if started_break && s.mcr & mcr::LOOP != 0 {
                    self.push(0, lsr::BI, now);
                }
            }
            4 => {
                let before = s.modem_status();
                s.mcr = value & 0x1f;
                s.note_deltas(before);
            }
            7 => s.scr = value,
            _ => {} // LSR and MSR: writes are for factory tests
        }
    }

    /// Registers and FIFO contents.
    pub fn save(&self) -> UartState {
        let Self { state, irq: _, output: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: UartState) {
        state.rx.truncate(state.depth());
        self.state = state;
        self.update();
    }
}

impl UartState {
    fn reset(inputs: u8) -> Self {
        Self {
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            errors: 0,
            deltas: 0,
            inputs,
            scr: 0,
            divisor: 0,
            rx: VecDeque::new(),
            thre_pending: false,
            timeout_at: None,
            timeout_pending: false,
        }
    }

    fn depth(&self) -> usize {
        if self.fcr & fcr::ENABLE != 0 { FIFO_DEPTH } else { 1 }
    }

    fn trigger_level(&self) -> usize {
        if self.fcr & fcr::ENABLE == 0 { 1 } else { [1, 4, 8, 14][usize::from(self.fcr >> 6)] }
    }

    /// The interrupt of highest priority (data sheet, table of interrupt control functions).
    fn identify(&self) -> u8 {
        if self.ier & ier::RLS != 0 && self.errors != 0 {
            iir::RLS
        } else if self.ier & ier::RDA != 0 && self.rx.len() >= self.trigger_level() {
            iir::RDA
        } else if self.ier & ier::RDA != 0 && self.timeout_pending {
            iir::TIMEOUT
        } else if self.ier & ier::THRE != 0 && self.thre_pending {
            iir::THRE
        } else if self.ier & ier::MS != 0 && self.deltas != 0 {
            iir::MS
        } else {
            iir::NONE
        }
    }

    fn line_status(&self) -> u8 {
        let fifo_error = self.fcr & fcr::ENABLE != 0 && self.rx.iter().any(|&(_, errors)| errors != 0);
        lsr::THRE
            | lsr::TEMT
            | self.errors & lsr::ERRORS
            | if self.rx.is_empty() { 0 } else { lsr::DR }
            | if fifo_error { lsr::FIFO_ERROR } else { 0 }
    }

    fn modem_status(&self) -> u8 {
        if self.mcr & mcr::LOOP == 0 {
            return self.inputs;
        }
        [(mcr::RTS, msr::CTS), (mcr::DTR, msr::DSR), (mcr::OUT1, msr::RI), (mcr::OUT2, msr::DCD)]
            .iter()
            .filter(|(output, _)| self.mcr & output != 0)
            .fold(0, |status, (_, input)| status | input)
    }

    fn note_deltas(&mut self, before: u8) {
        let after = self.modem_status();
        self.deltas |= (before ^ after) >> 4 & 0x0b;
        if before & !after & msr::RI != 0 {
            self.deltas |= msr::TERI;
        }
    }

    fn read_rbr(&mut self, now: Ns) -> u8 {
        let byte = self.rx.pop_front().map_or(0, |(byte, _)| byte);
        if let Some(&(_, errors)) = self.rx.front() {
            self.errors |= errors;
        }
        self.restart_timeout(now);
        byte
    }

    fn write_fcr(&mut self, value: u8) {
        let toggled = (self.fcr ^ value) & fcr::ENABLE != 0;
        if toggled || value & fcr::CLEAR_RX != 0 {
            self.rx.clear();
            self.timeout_at = None;
            self.timeout_pending = false;
            self.errors &= lsr::OE;
        }
        // The other bits are only programmed while bit 0 is 1. CLEAR_TX has nothing to clear.
        self.fcr = if value & fcr::ENABLE != 0 { value & !(fcr::CLEAR_RX | fcr::CLEAR_TX) } else { 0 };
    }

    /// Four character times after the last character came or was read, with some left in the FIFO.
    fn restart_timeout(&mut self, now: Ns) {
        self.timeout_pending = false;
        self.timeout_at = None;
        if self.fcr & fcr::ENABLE != 0 && !self.rx.is_empty() {
            let stop_bits = 1 + u64::from(self.lcr >> 2 & 1);
            let bits = 1 + 5 + u64::from(self.lcr & 3) + u64::from(self.lcr >> 3 & 1) + stop_bits;
            let clocks = 4 * bits * 16 * u64::from(self.divisor.max(1));
            self.timeout_at = now.checked_add(clocks * 1_000_000_000 / CLOCK_HZ);
        }
    }
}

impl PortDevice for Uart16550 {
    fn port_read(&mut self, port: u16, _size: u8, now: Ns) -> u32 {
        self.advance(now);
        let value = self.read(port & 7, now);
        self.update();
        value.into()
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, now: Ns) {
        self.advance(now);
        self.write(port & 7, value as u8, now);
        self.update();
    }
}

impl Timed for Uart16550 {
    fn next_deadline(&self) -> Option<Ns> {
        self.state.timeout_at.filter(|_| self.state.ier & ier::RDA != 0)
    }

    fn advance(&mut self, now: Ns) {
        if self.state.timeout_at.is_some_and(|at| at <= now) {
            self.state.timeout_at = None;
            self.state.timeout_pending = true;
            self.update();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lines;

    fn read(uart: &mut Uart16550, reg: u16) -> u8 {
        uart.port_read(0x3f8 + reg, 1, 0) as u8
    }
    fn write(uart: &mut Uart16550, reg: u16, value: u8) {
        uart.port_write(0x3f8 + reg, 1, value.into(), 0);
    }

    #[test]
    fn a_driver_detects_a_16550a() {
        let mut uart = Uart16550::new(IrqLine::unconnected());
        let u = &mut uart;
        // The steps of Linux's 8250 autoconfiguration.
        write(u, 1, 0);
        assert_eq!(read(u, 1), 0);
        write(u, 1, 0xff);
        assert_eq!(read(u, 1) & 0x0f, 0x0f);
        write(u, 1, 0);
        write(u, 4, 0x1a); // LOOP | OUT2 | RTS
        assert_eq!(read(u, 6) & 0xf0, 0x90);
        write(u, 4, 0);
        write(u, 3, 0xbf); // a 16C950 or XR16850 would show an enhanced feature register
        write(u, 2, 0);
        assert_ne!(read(u, 2), 0);
        write(u, 3, 0);
        write(u, 2, 0x01);
        assert_eq!(read(u, 2) >> 6, 3, "FIFOs that work: not a 16550 or 16450");
        write(u, 3, 0x80);
        write(u, 2, 0x21);
        assert_eq!(read(u, 2) & 0x20, 0, "not a 16750");
        write(u, 3, 0);
        write(u, 1, 0x40);
        assert_eq!(read(u, 1) & 0x40, 0, "not an XScale UART");
    }

    #[test]
    fn thre_interrupt_is_exact() {
        let lines = Lines::new();
        let mut uart = Uart16550::new(lines.line(4));
        let u = &mut uart;
        write(u, 1, 0x02);
        assert_eq!(lines.levels(), 0, "OUT2 gates the pin");
        write(u, 4, 0x08);
        assert_eq!(lines.levels(), 1 << 4);
        assert_eq!(read(u, 2), 0x02);
        assert_eq!(lines.levels(), 0, "reading IIR clears the interrupt that it reports");
        assert_eq!(read(u, 2), 0x01);
        write(u, 0, b'x');
        assert_eq!(lines.levels(), 1 << 4);
        assert_eq!(u.take_output(), b"x");
        write(u, 1, 0);
        assert_eq!(lines.levels(), 0);
        write(u, 1, 2);
        assert_eq!(read(u, 2), 0x02, "enabled with THR empty");
    }

    #[test]
    fn fifo_trigger_timeout_and_overrun() {
        let lines = Lines::new();
        let mut uart = Uart16550::new(lines.line(4));
        let u = &mut uart;
        write(u, 3, 0x83);
        write(u, 0, 1); // 115200
        write(u, 3, 0x03);
        write(u, 2, 0x41); // trigger at 4
        write(u, 1, 0x05);
        write(u, 4, 0x08);
        for byte in 0..3 {
            assert!(u.receive(byte, 0));
        }
        assert_eq!(lines.levels(), 0);
        let at = u.next_deadline().unwrap();
        assert_eq!(at, 4 * 10 * 16 * 1_000_000_000 / CLOCK_HZ);
        u.advance(at);
        assert_eq!(u.next_deadline(), None);
        assert_eq!(read(u, 2), 0xcc);
        assert_eq!((read(u, 0), lines.levels()), (0, 0));
        for byte in 3..17 {
            assert!(u.receive(byte, 0));
        }
        assert_eq!(read(u, 2), 0xc4);
        assert!(!u.can_receive() && !u.receive(99, 0));
        assert_eq!(read(u, 2), 0xc6, "line status comes first");
        assert_eq!(read(u, 5), 0x63);
        assert_eq!(read(u, 5), 0x61);
        for byte in 1..17 {
            assert_eq!(read(u, 0), byte);
        }
        assert_eq!((read(u, 5), read(u, 2)), (0x60, 0xc1));
    }

    #[test]
    fn breaks_and_modem_lines() {
        let mut uart = Uart16550::new(IrqLine::unconnected());
        let u = &mut uart;
        write(u, 2, 1);
        u.receive(b'a', 0);
        u.receive_break(0);
        assert_eq!(read(u, 5), 0xe1, "an error deeper in the FIFO shows in bit 7 only");
        read(u, 0);
        assert_eq!(read(u, 5), 0xf1);
        assert_eq!(read(u, 5), 0x61);
        write(u, 1, 8);
        u.set_modem_inputs(msr::RI);
        u.set_modem_inputs(0);
        assert_eq!(read(u, 2), 0xc0);
        assert_eq!(read(u, 6), 0x0f);
        assert_eq!(read(u, 2), 0xc1);
        write(u, 4, 0x10);
        write(u, 0, 7);
        assert_eq!(u.take_output(), b"", "looped back");
        let state = u.save();
        let mut twin = Uart16550::new(IrqLine::unconnected());
        twin.restore(state.clone());
        assert_eq!(twin.save(), state);
    }
}
