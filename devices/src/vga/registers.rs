//! The VGA's registers at 3B0h to 3DFh: CRT controller, sequencer, graphics and attribute controllers, DAC.

use serde::{Deserialize, Serialize};

use super::Vga;
use crate::{Ns, PortDevice};

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    pub misc: u8,
    pub feature: u8,
    pub crtc_index: u8,
    pub crtc: [u8; 32],
    pub sequencer_index: u8,
    pub sequencer: [u8; 8],
    pub graphics_index: u8,
    pub graphics: [u8; 16],
    /// Bit 5: the palette is in the display's hands.
    pub attribute_index: u8,
    pub attribute: [u8; 32],
    /// The next write to 3C0h is data.
    pub attribute_data: bool,
    pub dac_mask: u8,
    pub dac_read: u8,
    pub dac_write: u8,
    /// Which of red, green and blue comes next.
    pub dac_part: u8,
    pub dac_reading: bool,
    /// 256 entries of red, green and blue.
    pub dac: Vec<[u8; 3]>,
}

/// Values after reset that no data sheet defines, so that a text mode is seen: CRTC mode control (the row counter is no part of
/// the address), and all colour planes. GRUB sets neither where it is the firmware.
const MODE_CONTROL: u8 = 0x23;
const ALL_PLANES: u8 = 0x0f;

impl Default for Registers {
    fn default() -> Self {
        let mut crtc = [0; 32];
        crtc[0x17] = MODE_CONTROL;
        let mut attribute = [0; 32];
        attribute[0x12] = ALL_PLANES;
        Self {
            misc: 0,
            feature: 0,
            crtc_index: 0,
            crtc,
            sequencer_index: 0,
            sequencer: [0; 8],
            graphics_index: 0,
            graphics: [0; 16],
            attribute_index: 0,
            attribute,
            attribute_data: false,
            dac_mask: 0xff,
            dac_read: 0,
            dac_write: 0,
            dac_part: 0,
            dac_reading: false,
            dac: vec![[0; 3]; 256],
        }
    }
}

/// Time of one picture when the CRT controller is not set up, and the modelled rate otherwise: 70 Hz in 400-line modes, 60 else.
const FRAME_70: Ns = 14_285_714;
const FRAME_60: Ns = 16_666_667;

impl Registers {
    /// Lines of a picture and pixels of a character, from the CRT controller.
    pub(super) fn visible_lines(&self) -> u32 {
        let overflow = u32::from(self.crtc[7]);
        1 + (u32::from(self.crtc[0x12]) | (overflow & 0x02) << 7 | (overflow & 0x40) << 3)
    }

    fn total_lines(&self) -> u32 {
        let overflow = u32::from(self.crtc[7]);
        2 + (u32::from(self.crtc[6]) | (overflow & 0x01) << 8 | (overflow & 0x20) << 4)
    }

    /// Input status 1: bit 0 is set while nothing is shown, bit 3 in the vertical retrace.
    fn input_status(&self, now: Ns) -> u8 {
        let (visible, total) = (u64::from(self.visible_lines()), u64::from(self.total_lines()));
        let total = total.max(visible + 4);
        let frame = if visible > 400 { FRAME_60 } else { FRAME_70 };
        let position = (now % frame) * total * 100 / frame;
        let (line, column) = (position / 100, position % 100);
        if line >= visible {
            // The retrace takes the middle of the dark lines.
            let retrace = line > visible && line < total - 1;
            1 | u8::from(retrace) << 3
        } else {
            u8::from(column >= 80)
        }
    }

    /// Is the port of the CRT controller at 3D4h (or at 3B4h)?
    fn is_colour(&self) -> bool {
        self.misc & 1 != 0
    }

    fn write_crtc(&mut self, value: u8) {
        let index = usize::from(self.crtc_index & 0x1f);
        // CR11 bit 7 protects registers 0 to 7, but for the line compare bit.
        if self.crtc[0x11] & 0x80 != 0 && index <= 7 {
            if index == 7 {
                self.crtc[7] = self.crtc[7] & !0x10 | value & 0x10;
            }
            return;
        }
        self.crtc[index] = value;
    }

    fn write_attribute(&mut self, value: u8) {
        self.attribute_data = !self.attribute_data;
        if !self.attribute_data {
            let index = usize::from(self.attribute_index & 0x1f);
            let mask = match index {
                0..=0x0f | 0x12 => 0x3f,
                0x13 | 0x14 => 0x0f,
                _ => 0xff,
            };
            self.attribute[index] = value & mask;
        } else {
            self.attribute_index = value & 0x3f;
        }
    }

    fn read_dac(&mut self) -> u8 {
        let value = self.dac[usize::from(self.dac_read)][usize::from(self.dac_part % 3)];
        self.dac_part += 1;
        if self.dac_part == 3 {
            (self.dac_part, self.dac_read) = (0, self.dac_read.wrapping_add(1));
        }
        value
    }

    fn write_dac(&mut self, value: u8, wide: bool) {
        let mask = if wide { 0xff } else { 0x3f };
        self.dac[usize::from(self.dac_write)][usize::from(self.dac_part % 3)] = value & mask;
        self.dac_part += 1;
        if self.dac_part == 3 {
            (self.dac_part, self.dac_write) = (0, self.dac_write.wrapping_add(1));
        }
    }

    /// A saved state is hostile input.
    pub(super) fn sanitise(&mut self) {
        self.dac.resize(256, [0; 3]);
        self.dac_part %= 3;
    }
}

impl Vga {
    fn read_register(&mut self, port: u16, now: Ns) -> u8 {
        let colour = self.registers.is_colour();
        let r = &mut self.registers;
        match port {
            0x3c0 => r.attribute_index,
            0x3c1 => r.attribute[usize::from(r.attribute_index & 0x1f)],
            0x3c2 => 0x10, // input status 0: a monitor is there
            0x3c4 => r.sequencer_index,
            0x3c5 => r.sequencer[usize::from(r.sequencer_index & 7)],
            0x3c6 => r.dac_mask,
            0x3c7 => {
                if r.dac_reading {
                    3
                } else {
                    0
                }
            }
            0x3c8 => r.dac_write,
            0x3c9 => r.read_dac(),
            0x3ca => r.feature,
            0x3cc => r.misc,
            0x3ce => r.graphics_index,
            0x3cf => r.graphics[usize::from(r.graphics_index & 0xf)],
            0x3b4 | 0x3d4 if (port == 0x3d4) == colour => r.crtc_index,
            0x3b5 | 0x3d5 if (port == 0x3d5) == colour => r.crtc[usize::from(r.crtc_index & 0x1f)],
            0x3ba | 0x3da if (port == 0x3da) == colour => {
                r.attribute_data = false;
                r.input_status(now)
            }
            _ => 0xff,
        }
    }

    fn write_register(&mut self, port: u16, value: u8) {
        let (colour, wide_dac) = (self.registers.is_colour(), self.dispi.wide_dac());
        let r = &mut self.registers;
        match port {
            0x3c0 => r.write_attribute(value),
            0x3c2 => r.misc = value & !0x10,
            0x3c4 => r.sequencer_index = value & 7,
            0x3c5 => r.sequencer[usize::from(r.sequencer_index & 7)] = value,
            0x3c6 => r.dac_mask = value,
            0x3c7 => (r.dac_read, r.dac_part, r.dac_reading) = (value, 0, true),
            0x3c8 => (r.dac_write, r.dac_part, r.dac_reading) = (value, 0, false),
            0x3c9 => r.write_dac(value, wide_dac),
            0x3ce => r.graphics_index = value & 0xf,
            0x3cf => r.graphics[usize::from(r.graphics_index & 0xf)] = value,
            0x3b4 | 0x3d4 if (port == 0x3d4) == colour => r.crtc_index = value,
            0x3b5 | 0x3d5 if (port == 0x3d5) == colour => r.write_crtc(value),
            0x3ba | 0x3da if (port == 0x3da) == colour => r.feature = value,
            _ => {}
        }
    }
}

/// Ports 3B0h to 3DFh, and the display interface at 1CEh to 1D0h.
impl PortDevice for Vga {
    fn port_read(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        match port {
            0x1ce..=0x1d0 => self.dispi_port_read(port, size),
            _ => (0..u16::from(size))
                .fold(0, |value, n| value | u32::from(self.read_register(port + n, now)) << (8 * n)),
        }
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, _now: Ns) {
        match port {
            0x1ce..=0x1d0 => self.dispi_port_write(port, size, value),
            // A word is an index and its data.
            _ => (0..u16::from(size)).for_each(|n| self.write_register(port + n, (value >> (8 * n)) as u8)),
        }
    }
}
