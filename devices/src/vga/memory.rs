//! The processor's side of video memory: four planes, latches, write modes (IBM VGA technical reference, graphics controller).

use super::Vga;

/// What the planes' bytes are made of in a 32-bit word: byte p of it is plane p.
fn each(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// A bit per plane, widened to a byte each.
pub(super) fn spread(bits: u8) -> u32 {
    (0..4).fold(0, |word, plane| if bits >> plane & 1 != 0 { word | 0xff << (8 * plane) } else { word })
}

impl Vga {
    fn planes(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(4 * offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// The bank that the display interface shows in the window.
    fn bank(&self) -> u64 {
        self.dispi.bank_offset()
    }

    fn chained_4(&self) -> bool {
        self.registers.sequencer[4] & 8 != 0
    }

    /// Odd and even bytes of the processor are in odd and even planes.
    fn odd_even(&self) -> bool {
        self.registers.sequencer[4] & 4 == 0
    }

    pub(super) fn read_byte(&mut self, at: u64) -> u8 {
        let Some(offset) = self.window_offset(at) else { return 0xff };
        if self.chained_4() {
            return self.byte(self.bank() + offset);
        }
        let graphics = self.registers.graphics;
        if graphics[5] & 0x10 != 0 {
            let plane = graphics[4] & 2 | (offset & 1) as u8;
            let byte = self.byte(4 * (offset & !1) + u64::from(plane));
            return byte;
        }
        let word = self.planes(self.bank() / 4 + offset);
        self.latch = word.to_le_bytes();
        if graphics[5] & 8 == 0 {
            return self.latch[usize::from(graphics[4] & 3)];
        }
        // Read mode 1: a bit is set where the pixel's colour is the compared one, planes that do not care aside.
        let differing = (word ^ spread(graphics[2])) & spread(graphics[7]);
        !differing.to_le_bytes().into_iter().fold(0, |any, byte| any | byte)
    }

    pub(super) fn write_byte(&mut self, at: u64, value: u8) {
        let Some(offset) = self.window_offset(at) else { return };
        let mask = self.registers.sequencer[2];
        if self.chained_4() {
            if mask >> (offset & 3) & 1 != 0 {
                self.memory.write(self.bank() + offset, &[value]);
            }
            return;
        }
        if self.odd_even() && self.registers.graphics[5] & 0x10 != 0 {
            // Text modes: the plane is chosen by the address's lowest bit. (Sequencer and graphics controller have to agree; where
            // they do not, as in GRUB when it is the firmware and loads its font, every address is one of each plane.)
            for plane in [offset & 1, offset & 1 | 2] {
                if mask >> plane & 1 != 0 {
                    self.memory.write(4 * (offset & !1) + plane, &[value]);
                }
            }
            return;
        }
        let offset = self.bank() / 4 + offset;
        let word = self.combined(value);
        let planes = spread(mask & 0xf);
        let old = if planes == u32::MAX { 0 } else { self.planes(offset) };
        let new = old & !planes | word & planes;
        self.memory.write(4 * offset, &new.to_le_bytes());
    }

    /// What the graphics controller makes of a byte and the latches.
    fn combined(&self, value: u8) -> u32 {
        let graphics = &self.registers.graphics;
        let latch = u32::from_le_bytes(self.latch);
        let rotated = value.rotate_right(u32::from(graphics[3] & 7));
        let (source, bits) = match graphics[5] & 3 {
            0 => {
                let enabled = spread(graphics[1]);
                (each(rotated) & !enabled | spread(graphics[0]) & enabled, each(graphics[8]))
            }
            1 => return latch,
            2 => (spread(value), each(graphics[8])),
            _ => (spread(graphics[0]), each(rotated & graphics[8])),
        };
        let combined = match graphics[3] >> 3 & 3 {
            0 => source,
            1 => source & latch,
            2 => source | latch,
            _ => source ^ latch,
        };
        combined & bits | latch & !bits
    }
}
