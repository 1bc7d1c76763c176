//! A function's 256 bytes of configuration space.

use crate::IrqLine;

/// What a base address register maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes two registers.
    Memory64,
    /// Memory anywhere, without side effects of reads; takes two registers.
    Memory64Prefetchable,
}

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const STATUS_INTERRUPT: u8 = 0x08;
const STATUS_CAPABILITIES: u8 = 0x10;
const BAR_0: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const ROM_BAR: usize = 0x30;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
const COMMAND_IO: u8 = 1;
const COMMAND_MEMORY: u8 = 2;
const COMMAND_MASTER: u8 = 4;
/// In the second byte.
const COMMAND_INTX_DISABLE: u8 = 0x04;
/// The header ends here; capabilities may begin.
const HEADER: usize = 0x40;

/// Configuration space with a type 0 header.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; 256],
    /// Values after reset.
    initial: [u8; 256],
    /// Bits that software may write.
    writable: [u8; 256],
    /// Bits that software clears by writing 1.
    clear_by_one: [u8; 256],
    /// Bits that it may not write for now.
    locked: [u8; 256],
    /// Bits that the function changes of its own accord: they are part of a saved state.
    owned: [u8; 256],
}

impl ConfigSpace {
    /// An endpoint's header. `class` is class, subclass and programming interface in 24 bits.
    pub fn endpoint(vendor: u16, device: u16, class: u32, revision: u8) -> Self {
        let mut space = Self {
            bytes: [0; 256],
            initial: [0; 256],
            writable: [0; 256],
            clear_by_one: [0; 256],
            locked: [0; 256],
            owned: [0; 256],
        };
        space.fixed(0x00, &vendor.to_le_bytes());
        space.fixed(0x02, &device.to_le_bytes());
        space.fixed(0x08, &[revision]);
        space.fixed(0x09, &class.to_le_bytes()[..3]);
        space.register(COMMAND, &[0, 0], &[0x47, 0x05]);
        space.clear_by_one[STATUS + 1] = 0xf9;
        space.owned[STATUS] = STATUS_INTERRUPT;
        space.register(INTERRUPT_LINE, &[0], &[0xff]);
        space
    }

    /// Defines bytes that only we write.
    pub fn fixed(&mut self, offset: usize, values: &[u8]) {
        self.initial[offset..offset + values.len()].copy_from_slice(values);
        self.bytes[offset..offset + values.len()].copy_from_slice(values);
    }

    /// Defines bytes of which software may write the `writable` bits.
    pub fn register(&mut self, offset: usize, values: &[u8], writable: &[u8]) {
        self.fixed(offset, values);
        self.writable[offset..offset + writable.len()].copy_from_slice(writable);
    }

    /// Marks the function as one of several in its device.
    pub fn set_multi_function(&mut self) {
        self.fixed(0x0e, &[0x80]);
    }

    /// INTA# = 1 to INTD# = 4.
    pub fn set_interrupt_pin(&mut self, pin: u8) {
        self.fixed(INTERRUPT_PIN, &[pin]);
    }

    /// Puts a capability into the function's list: `id` at `at` (a multiple of 4 from 40h on), a pointer to the one that was put
    /// there before it, then `body`, of which software may write the `writable` bits.
    ///
    /// The function's own registers there can be read at `at + 2` and on; what the function changes itself must be told
    /// with [`ConfigSpace::own`].
    pub fn add_capability(&mut self, at: usize, id: u8, body: &[u8], writable: &[u8]) {
        assert!(at >= HEADER && at.is_multiple_of(4), "a capability at {at:#x}");
        assert!(at + 2 + body.len() <= 256 && writable.len() <= body.len(), "capability {id:#x} is too long");
        assert!(self.initial[at] == 0, "two capabilities at {at:#x}");
        let next = self.initial[CAPABILITIES];
        self.fixed(at, &[id, next]);
        self.register(at + 2, body, writable);
        self.fixed(CAPABILITIES, &[at as u8]);
        self.fixed(STATUS, &[self.initial[STATUS] | STATUS_CAPABILITIES]);
    }

    /// Where the capability `id` is.
    pub fn capability(&self, id: u8) -> Option<usize> {
        // As many as there is room for: the list that functions define has no loop, and this has none either.
        let mut at = usize::from(self.bytes[CAPABILITIES]);
        for _ in 0..(256 - HEADER) / 4 {
            match at {
                0..HEADER => return None,
                _ if self.bytes[at] == id => return Some(at),
                _ => at = usize::from(self.bytes[at + 1] & !3),
            }
        }
        None
    }

    /// Defines base address register `index` (0 to 5) for `size` bytes, a power of two.
    pub fn add_bar(&mut self, index: usize, kind: BarKind, size: u64) {
        assert!(index < 6 && size.is_power_of_two() && size >= 4, "BAR {index} of {size:#x} bytes");
        let at = BAR_0 + 4 * index;
        let mask = !(size - 1);
        let (flags, mask) = match kind {
            BarKind::Io => (0x1, mask & !0x3),
            BarKind::Memory32 => (0x0, mask & !0xf),
            BarKind::Memory64 => (0x4, mask & !0xf),
            BarKind::Memory64Prefetchable => (0xc, mask & !0xf),
        };
        let wide = matches!(kind, BarKind::Memory64 | BarKind::Memory64Prefetchable);
        let len = if wide { 8 } else { 4 };
        self.register(at, &u64::to_le_bytes(flags)[..len], &mask.to_le_bytes()[..len]);
    }

    /// Defines the expansion ROM base address register for `size` bytes, a power of two of at least 2 KiB.
    pub fn add_rom(&mut self, size: u64) {
        assert!(size.is_power_of_two() && size >= 2048, "a ROM of {size:#x} bytes");
        self.register(ROM_BAR, &[0; 4], &(!(size as u32 - 1) | 1).to_le_bytes());
    }

    /// Where the expansion ROM is decoded; `None` while it is not.
    pub fn rom(&self) -> Option<u64> {
        let value = self.dword(ROM_BAR);
        (self.bytes[COMMAND] & COMMAND_MEMORY != 0 && value & 1 != 0).then_some(u64::from(value & !0x7ff))
    }

    /// The address that base address register `index` decodes; `None` while decoding is off.
    pub fn bar(&self, index: usize) -> Option<u64> {
        let at = BAR_0 + 4 * index;
        let low = u64::from(self.dword(at));
        let command = self.bytes[COMMAND];
        if low & 1 != 0 {
            (command & COMMAND_IO != 0).then_some(low & !0x3)
        } else {
            let high = if low & 4 != 0 { u64::from(self.dword(at + 4)) } else { 0 };
            (command & COMMAND_MEMORY != 0).then_some(high << 32 | low & !0xf)
        }
    }

    /// Is base address register `index` for I/O ports, and how many bytes does it map? `None` if it is not there.
    pub fn bar_kind(&self, index: usize) -> Option<(bool, u64)> {
        let at = BAR_0 + 4 * index;
        let mask = |at: usize| (0..4).fold(0, |m, n| m | u64::from(self.writable[at + n]) << (8 * n));
        let flags = self.initial[at];
        let upper_half = index > 0 && self.initial[at - 4] & 0x5 == 4;
        if mask(at) == 0 || upper_half {
            return None;
        }
        let high = if flags & 0x5 == 4 { mask(at + 4) } else { 0xffff_ffff };
        Some((flags & 1 != 0, (high << 32 | mask(at)).wrapping_neg()))
    }

    /// May the function read and write memory, and send message-signalled interrupts?
    pub fn is_bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_MASTER != 0
    }

    /// Drives the function's interrupt pin, unless the command register turns it off; the status register tells its state in
    /// any case. To be called again whenever configuration space was written. A function that interrupts by messages at the
    /// moment gives `false`.
    pub fn drive_intx(&mut self, line: &IrqLine, asserted: bool) {
        if asserted {
            self.bytes[STATUS] |= STATUS_INTERRUPT;
        } else {
            self.bytes[STATUS] &= !STATUS_INTERRUPT;
        }
        line.set(asserted && self.bytes[COMMAND + 1] & COMMAND_INTX_DISABLE == 0);
    }

    /// The 32 bits at `at`.
    pub fn dword(&self, at: usize) -> u32 {
        (0..4).fold(0, |value, n| value | u32::from(self.bytes[at + n]) << (8 * n))
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8; 256] {
        &self.bytes
    }

    /// One byte.
    pub fn read(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    /// A write by software.
    pub fn write(&mut self, offset: u8, value: u8) {
        let at = usize::from(offset);
        let writable = self.writable[at] & !self.locked[at];
        let byte = self.bytes[at] & !writable | value & writable;
        self.bytes[at] = byte & !(value & self.clear_by_one[at]);
    }

    /// The values after reset.
    pub fn reset(&mut self) {
        self.bytes = self.initial;
        self.locked = [0; 256];
    }

    /// From now on software may not write `bits` at `offset`, and may write the others as before.
    pub fn set_locked(&mut self, offset: usize, bits: u8) {
        self.locked[offset] = bits;
    }

    /// Says that the function itself changes these bits, by [`ConfigSpace::set`] and [`ConfigSpace::clear`]: a restored
    /// state has them.
    pub fn own(&mut self, offset: usize, bits: u8) {
        self.owned[offset] |= bits;
    }

    /// Sets bits of the function's own accord.
    pub fn set(&mut self, offset: usize, bits: u8) {
        self.bytes[offset] |= bits;
    }

    /// Writes bytes of the function's own accord.
    pub fn fill(&mut self, offset: usize, values: &[u8]) {
        self.bytes[offset..offset + values.len()].copy_from_slice(values);
    }

    /// Clears bits of the function's own accord.
    pub fn clear(&mut self, offset: usize, bits: u8) {
        self.bytes[offset] &= !bits;
    }

    /// Restores saved bytes: what neither software nor the function writes keeps its value.
    pub fn restore(&mut self, saved: &[u8]) {
        for (at, byte) in saved.iter().enumerate().take(256) {
            let variable = self.writable[at] | self.clear_by_one[at] | self.owned[at];
            self.bytes[at] = self.initial[at] & !variable | byte & variable;
        }
    }
}
