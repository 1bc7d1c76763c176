//! The pair of 8259A interrupt controllers (Intel 8259A data sheet) with the PIIX edge/level control registers.
//!
//! Deviations: the 8080 mode (three-byte CALL) is not there, and the cascade input of the master follows the slave's
//! output as a level, which saves modelling the pulse between two INTAs and shows a guest the same interrupts.
//! In edge mode a latched request survives the fall of its line, as short pulses of our devices need.

use serde::{Deserialize, Serialize};

use crate::{Ns, PortDevice};

/// Lines that ELCR cannot make level-triggered (82371SB data sheet, ELCR1/ELCR2): 0, 1, 2 and 8, 13.
const ELCR_MASK: [u8; 2] = [0xf8, 0xde];
const CASCADE: u8 = 2;

/// What the next write to the odd port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    Ocw1,
    Icw2,
    Icw3,
    Icw4,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// Latched edges of edge-triggered lines.
    irr: u8,
    isr: u8,
    imr: u8,
    levels: u8,
    elcr: u8,
    expect: Expect,
    /// ICW1: ICW4 follows.
    ic4: bool,
    /// ICW1: no ICW3.
    single: bool,
    /// ICW1: every line is level-triggered.
    ltim: bool,
    /// ICW2, the high five bits of the vector.
    vector: u8,
    auto_eoi: bool,
    special_fully_nested: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
    /// The line of lowest priority.
    lowest: u8,
    is_master: bool,
}

impl Chip {
    fn new(is_master: bool) -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0,
            levels: 0,
            elcr: 0,
            expect: Expect::Ocw1,
            ic4: false,
            single: false,
            ltim: false,
            vector: 0,
            auto_eoi: false,
            special_fully_nested: false,
            rotate_on_auto_eoi: false,
            special_mask: false,
            read_isr: false,
            poll: false,
            lowest: 7,
            is_master,
        }
    }

    fn level_triggered(&self) -> u8 {
        let cascade = if self.is_master { 1 << CASCADE } else { 0 };
        cascade | if self.ltim { 0xff } else { self.elcr }
    }

    fn set_levels(&mut self, levels: u8, rose: u8) {
        self.irr |= (levels & !self.levels | rose) & !self.level_triggered();
        self.levels = levels;
    }

    fn requests(&self) -> u8 {
        let level = self.level_triggered();
        self.irr & !level | self.levels & level
    }

    /// The rank of the set bit of highest priority, 0 (highest) to 7; 8 if there is none.
    fn rank(&self, bits: u8) -> u32 {
        if bits == 0 { 8 } else { bits.rotate_right(u32::from(self.lowest) + 1).trailing_zeros() }
    }

    fn line_of_rank(&self, rank: u32) -> u8 {
        (u32::from(self.lowest) + 1 + rank) as u8 & 7
    }

    /// The line that asks for an interrupt now.
    fn pending(&self) -> Option<u8> {
        let rank = self.rank(self.requests() & !self.imr);
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.special_fully_nested && self.is_master {
            in_service &= !(1 << CASCADE);
        }
        (rank < self.rank(in_service)).then(|| self.line_of_rank(rank))
    }

    fn acknowledge(&mut self, line: u8) {
        self.irr &= !(1 << line);
        if !self.auto_eoi {
            self.isr |= 1 << line;
        } else if self.rotate_on_auto_eoi {
            self.lowest = line;
        }
    }

    fn write_even(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.write_icw1(value);
        } else if value & 0x08 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_icw1(&mut self, value: u8) {
        *self = Self {
            levels: self.levels,
            elcr: self.elcr,
            vector: self.vector,
            expect: Expect::Icw2,
            ic4: value & 1 != 0,
            single: value & 2 != 0,
            ltim: value & 8 != 0,
            ..Self::new(self.is_master)
        };
    }

    fn write_ocw2(&mut self, value: u8) {
        let line = value & 7;
        let (rotate, specific, eoi) = (value & 0x80 != 0, value & 0x40 != 0, value & 0x20 != 0);
        match (eoi, specific) {
            (true, true) => {
                self.isr &= !(1 << line);
                if rotate {
                    self.lowest = line;
                }
            }
            (true, false) => {
                let candidates = if self.special_mask { self.isr & !self.imr } else { self.isr };
                let rank = self.rank(candidates);
                if rank < 8 {
                    let line = self.line_of_rank(rank);
                    self.isr &= !(1 << line);
                    if rotate {
                        self.lowest = line;
                    }
                }
            }
            (false, true) if rotate => self.lowest = line, // set priority
            (false, true) => {}                            // no operation
            (false, false) => self.rotate_on_auto_eoi = rotate,
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        self.poll = value & 4 != 0;
        if value & 2 != 0 {
            self.read_isr = value & 1 != 0;
        }
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
    }

    fn write_odd(&mut self, value: u8) {
        self.expect = match self.expect {
            Expect::Ocw1 => {
                self.imr = value;
                Expect::Ocw1
            }
            Expect::Icw2 => {
                self.vector = value & 0xf8;
                match (self.single, self.ic4) {
                    (false, _) => Expect::Icw3,
                    (true, true) => Expect::Icw4,
                    (true, false) => Expect::Ocw1,
                }
            }
            // The cascade is wired: what ICW3 says about it changes nothing.
            Expect::Icw3 if self.ic4 => Expect::Icw4,
            Expect::Icw3 => Expect::Ocw1,
            Expect::Icw4 => {
                self.auto_eoi = value & 2 != 0;
                self.special_fully_nested = value & 0x10 != 0;
                Expect::Ocw1
            }
        }
    }

    fn read(&mut self, odd: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            // The read stands for the INTA.
            match self.pending() {
                Some(line) => {
                    self.acknowledge(line);
                    0x80 | line
                }
                None => 0,
            }
        } else if odd {
            self.imr
        } else if self.read_isr {
            self.isr
        } else {
            self.requests()
        }
    }
}

/// Both controllers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PicState {
    chips: [Chip; 2],
}

/// The 8259A pair at ports 20h, 21h, A0h, A1h, 4D0h, 4D1h.
pub struct PicPair {
    state: PicState,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// The controllers at power-on. What an uninitialised 8259A does is undefined; ours are masked.
    pub fn new() -> Self {
        let chip = |is_master| Chip { imr: 0xff, ..Chip::new(is_master) };
        Self { state: PicState { chips: [chip(true), chip(false)] } }
    }

    /// Drives the sixteen inputs. `rose` marks lines with a rising edge since the last call, even if they fell again.
    pub fn set_lines(&mut self, levels: u16, rose: u16) {
        let [low, high] = levels.to_le_bytes();
        let [rose_low, rose_high] = rose.to_le_bytes();
        let [master, slave] = &mut self.state.chips;
        slave.set_levels(high, rose_high);
        let cascade = master.levels & 1 << CASCADE;
        master.set_levels(low & !(1 << CASCADE) | cascade, rose_low & !(1 << CASCADE));
        self.cascade();
    }

    fn cascade(&mut self) {
        let [master, slave] = &mut self.state.chips;
        let line = u8::from(slave.pending().is_some()) << CASCADE;
        master.set_levels(master.levels & !(1 << CASCADE) | line, 0);
    }

    /// Is input `irq` (below 16) masked, at its chip or at the cascade?
    pub fn is_masked(&self, irq: u8) -> bool {
        let [master, slave] = &self.state.chips;
        match irq {
            0..8 => master.imr >> irq & 1 != 0,
            _ => slave.imr >> (irq & 7) & 1 != 0 || master.imr >> CASCADE & 1 != 0,
        }
    }

    /// The INTR output.
    pub fn output(&self) -> bool {
        self.state.chips[0].pending().is_some()
    }

    /// An INTA cycle: the vector. With no request left it is the spurious interrupt, line 7 of the chip that was asked.
    pub fn acknowledge(&mut self) -> u8 {
        let [master, slave] = &mut self.state.chips;
        let vector = match master.pending() {
            Some(CASCADE) => {
                master.acknowledge(CASCADE);
                let line = slave.pending();
                if let Some(line) = line {
                    slave.acknowledge(line);
                }
                slave.vector | line.unwrap_or(7)
            }
            Some(line) => {
                master.acknowledge(line);
                master.vector | line
            }
            None => master.vector | 7,
        };
        self.cascade();
        vector
    }

    /// Both controllers' registers.
    pub fn save(&self) -> PicState {
        let Self { state } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: PicState) {
        for (chip, is_master) in state.chips.iter_mut().zip([true, false]) {
            chip.lowest &= 7;
            chip.is_master = is_master;
        }
        self.state = state;
    }
}

impl PortDevice for PicPair {
    fn port_read(&mut self, port: u16, _size: u8, _now: Ns) -> u32 {
        let value = match port {
            0x4d0 | 0x4d1 => self.state.chips[usize::from(port & 1)].elcr,
            _ => self.state.chips[usize::from(port & 0x80 != 0)].read(port & 1 != 0),
        };
        self.cascade();
        value.into()
    }

    fn port_write(&mut self, port: u16, _size: u8, value: u32, _now: Ns) {
        let value = value as u8;
        match port {
            0x4d0 | 0x4d1 => {
                let which = usize::from(port & 1);
                self.state.chips[which].elcr = value & ELCR_MASK[which];
            }
            _ => {
                let chip = &mut self.state.chips[usize::from(port & 0x80 != 0)];
                if port & 1 != 0 { chip.write_odd(value) } else { chip.write_even(value) }
            }
        }
        self.cascade();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initialised() -> PicPair {
        let mut pic = PicPair::new();
        for (base, vector, cascade) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
            write(&mut pic, base, 0x11);
            write(&mut pic, base + 1, vector);
            write(&mut pic, base + 1, cascade);
            write(&mut pic, base + 1, 0x01);
        }
        pic
    }
    fn write(pic: &mut PicPair, port: u16, value: u32) {
        pic.port_write(port, 1, value, 0);
    }
    fn read(pic: &mut PicPair, port: u16) -> u32 {
        pic.port_read(port, 1, 0)
    }
    fn edge(pic: &mut PicPair, line: u16) {
        pic.set_lines(1 << line, 1 << line);
        pic.set_lines(0, 0);
    }

    #[test]
    fn priorities_nesting_and_cascade() {
        let mut pic = initialised();
        edge(&mut pic, 4);
        edge(&mut pic, 12);
        assert_eq!(pic.acknowledge(), 0x2c, "the slave sits on line 2");
        assert!(!pic.output(), "line 4 is lower than line 2 in service");
        edge(&mut pic, 8);
        assert!(!pic.output(), "not special fully nested: line 2 blocks itself");
        edge(&mut pic, 1);
        assert_eq!(pic.acknowledge(), 0x21);
        write(&mut pic, 0x20, 0x20);
        write(&mut pic, 0xa0, 0x20);
        write(&mut pic, 0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x28);
        write(&mut pic, 0xa0, 0x20);
        write(&mut pic, 0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x24);
        write(&mut pic, 0x20, 0x0b);
        assert_eq!(read(&mut pic, 0x20), 0x10);
        write(&mut pic, 0x20, 0x64); // specific EOI
        assert_eq!(read(&mut pic, 0x20), 0);
    }

    #[test]
    fn spurious_interrupts_set_no_isr() {
        let mut pic = initialised();
        assert_eq!(pic.acknowledge(), 0x27);
        write(&mut pic, 0x4d1, 0x08); // line 11 level-triggered
        pic.set_lines(1 << 11, 1 << 11);
        assert!(pic.output());
        pic.set_lines(0, 0);
        assert!(!pic.output(), "a level request goes with its line");
        write(&mut pic, 0x20, 0x0b);
        assert_eq!(read(&mut pic, 0x20), 0);
    }

    #[test]
    fn level_lines_ask_again_until_they_fall() {
        let mut pic = initialised();
        write(&mut pic, 0x4d0, 0xff);
        assert_eq!(read(&mut pic, 0x4d0), 0xf8);
        pic.set_lines(1 << 5, 1 << 5);
        assert_eq!(pic.acknowledge(), 0x25);
        assert!(!pic.output());
        write(&mut pic, 0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x25);
        pic.set_lines(0, 0);
        write(&mut pic, 0x20, 0x20);
        assert!(!pic.output());
    }

    #[test]
    fn rotation_special_mask_auto_eoi_and_poll() {
        let mut pic = initialised();
        write(&mut pic, 0x20, 0xc3); // line 3 lowest, so 4 is highest
        pic.set_lines(0x11, 0x11);
        assert_eq!(pic.acknowledge(), 0x24);
        write(&mut pic, 0x20, 0xa0); // rotate on non-specific EOI
        edge(&mut pic, 4);
        assert_eq!(pic.acknowledge(), 0x20, "4 is lowest now");
        write(&mut pic, 0x21, 0x01);
        assert!(!pic.output());
        write(&mut pic, 0x20, 0x68); // special mask: the masked line in service no longer blocks
        assert_eq!(pic.acknowledge(), 0x24);

        let mut pic = initialised();
        write(&mut pic, 0x20, 0x11);
        write(&mut pic, 0x21, 0x40);
        write(&mut pic, 0x21, 0x04);
        write(&mut pic, 0x21, 0x03); // auto EOI
        edge(&mut pic, 6);
        assert_eq!(pic.acknowledge(), 0x46);
        write(&mut pic, 0x20, 0x0b);
        assert_eq!(read(&mut pic, 0x20), 0);
        write(&mut pic, 0x20, 0x0c); // poll
        assert_eq!(read(&mut pic, 0x20), 0);
        edge(&mut pic, 6);
        write(&mut pic, 0x20, 0x0c);
        assert_eq!(read(&mut pic, 0x20), 0x86);
        assert!(!pic.output());
    }

    #[test]
    fn masked_edges_wait() {
        let mut pic = initialised();
        write(&mut pic, 0x21, 0xff);
        edge(&mut pic, 0);
        assert!(!pic.output());
        assert_eq!(read(&mut pic, 0x20), 1);
        write(&mut pic, 0x21, 0xfe);
        let state = pic.save();
        assert_eq!(pic.acknowledge(), 0x20);
        pic.restore(state);
        assert_eq!(pic.acknowledge(), 0x20);
    }
}
