//! The state-save maps: where SMM finds the state that it interrupted.
//!
//! Processors with long mode have AMD64's map (APM vol. 2, table 10-1), those without it the 32-bit one (SDM vol. 3, table
//! 32-1, with the hidden parts of segments in its reserved places, where other emulators of P6 processors have them). Intel's
//! own 64-bit map is not used for any model: firmware for boards like ours knows the first two, and tells them apart by the
//! revision, of which it accepts exactly these two values. So bit 16 (I/O restart) is clear, and I/O restart works nevertheless.

use crate::state::{CpuState, Segment, TableReg, efer, seg};

use super::IoAccess;

/// The area begins at SMBASE + FE00h; places count from there.
pub(super) const AREA: u64 = 0xfe00;
/// SMBASE relocation (bit 17), AMD64's map.
const REVISION_64: u64 = 0x2_0064;
/// SMBASE relocation, the 32-bit map.
const REVISION_32: u64 = 0x2_0000;

/// The save area as bytes.
pub(super) struct Area {
    pub bytes: [u8; 512],
    long: bool,
}

/// AMD64's places.
mod long {
    pub const SEGMENTS: usize = 0x00;
    pub const GDTR: usize = 0x60;
    pub const LDTR: usize = 0x70;
    pub const IDTR: usize = 0x80;
    pub const TR: usize = 0x90;
    pub const IO_RIP: usize = 0xa0;
    pub const IO_RCX: usize = 0xa8;
    pub const IO_RSI: usize = 0xb0;
    pub const IO_RDI: usize = 0xb8;
    pub const IO: usize = 0xc0;
    pub const IO_RESTART: usize = 0xc8;
    pub const AUTO_HALT: usize = 0xc9;
    pub const EFER: usize = 0xd0;
    pub const REVISION: usize = 0xfc;
    pub const SMBASE: usize = 0x100;
    pub const CR4: usize = 0x148;
    pub const CR3: usize = 0x150;
    pub const CR0: usize = 0x158;
    pub const DR7: usize = 0x160;
    pub const DR6: usize = 0x168;
    pub const RFLAGS: usize = 0x170;
    pub const RIP: usize = 0x178;
    /// RAX; the others lie below it in the order of their numbers.
    pub const RAX: usize = 0x1f8;
}

/// The 32-bit places.
mod short {
    pub const REVISION: usize = 0xfc;
    pub const SMBASE: usize = 0xf8;
    pub const IO_RESTART: usize = 0x100;
    pub const AUTO_HALT: usize = 0x102;
    pub const CR4: usize = 0x114;
    /// Flags, limit, base of DS, FS, GS; those of ES, CS, SS are at `LOW_SEGMENTS`.
    pub const HIGH_SEGMENTS: usize = 0x12c;
    pub const IDTR: usize = 0x154;
    pub const TR: usize = 0x15c;
    pub const GDTR: usize = 0x170;
    pub const LDTR: usize = 0x178;
    pub const LOW_SEGMENTS: usize = 0x184;
    pub const IO: usize = 0x1a4;
    pub const SELECTORS: usize = 0x1a8;
    pub const LDTR_SELECTOR: usize = 0x1c0;
    pub const TR_SELECTOR: usize = 0x1c4;
    pub const DR7: usize = 0x1c8;
    pub const DR6: usize = 0x1cc;
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub const EAX: usize = 0x1d0;
    pub const EIP: usize = 0x1f0;
    pub const EFLAGS: usize = 0x1f4;
    pub const CR3: usize = 0x1f8;
    pub const CR0: usize = 0x1fc;
}

/// Where one descriptor register of the 32-bit map lies: flags, limit and base, and the selector.
fn short_segment(n: usize) -> (usize, usize) {
    let hidden = if n < 3 { short::LOW_SEGMENTS + 12 * n } else { short::HIGH_SEGMENTS + 12 * (n - 3) };
    (hidden, short::SELECTORS + 4 * n)
}

impl Area {
    /// An empty area of a processor with or without long mode.
    pub fn new(long: bool) -> Self {
        Self { bytes: [0; 512], long }
    }

    /// The area for `st`, which an SMI interrupts, with its flags; `io` is the I/O instruction that has just been executed.
    pub fn save(st: &CpuState, flags: u64, long: bool, io: Option<&IoAccess>) -> Self {
        let mut area = Self::new(long);
        if long {
            area.save_long(st, flags, io);
        } else {
            area.save_short(st, flags, io);
        }
        area
    }

    /// Whether the handler asks for the I/O instruction to be executed again.
    pub fn restarts_io(&self) -> bool {
        self.bytes[if self.long { long::IO_RESTART } else { short::IO_RESTART }] == 0xff
    }

    /// The saved flags.
    pub fn flags(&self) -> u64 {
        self.get(if self.long { long::RFLAGS } else { short::EFLAGS }, 4)
    }

    /// Puts the saved state into `st`.
    pub fn restore(&self, st: &mut CpuState) {
        if self.long {
            self.restore_long(st);
        } else {
            self.restore_short(st);
        }
        (st.dr[7], st.dr[6]) = (st.dr[7] | 0x400, st.dr[6] | 0xffff_0ff0);
        // The level is that of the stack segment.
        st.cpl = st.seg[seg::SS as usize].dpl();
    }

    fn put(&mut self, at: usize, bytes: usize, v: u64) {
        self.bytes[at..at + bytes].copy_from_slice(&v.to_le_bytes()[..bytes]);
    }

    fn get(&self, at: usize, bytes: usize) -> u64 {
        self.bytes[at..at + bytes].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b))
    }

    fn put_long_segment(&mut self, at: usize, s: &Segment) {
        self.put(at, 2, s.selector.into());
        self.put(at + 2, 2, s.attrs.into());
        self.put(at + 4, 4, s.limit.into());
        self.put(at + 8, 8, s.base);
    }

    fn long_segment(&self, at: usize) -> Segment {
        Segment {
            selector: self.get(at, 2) as u16,
            attrs: self.get(at + 2, 2) as u16 & 0xf0ff,
            limit: self.get(at + 4, 4) as u32,
            base: self.get(at + 8, 8),
        }
    }

    fn put_short_segment(&mut self, (hidden, selector): (usize, usize), s: &Segment) {
        self.put(selector, 4, s.selector.into());
        self.put(hidden, 4, s.attrs.into());
        self.put(hidden + 4, 4, s.limit.into());
        self.put(hidden + 8, 4, s.base);
    }

    fn short_segment(&self, (hidden, selector): (usize, usize)) -> Segment {
        Segment {
            selector: self.get(selector, 2) as u16,
            attrs: self.get(hidden, 2) as u16 & 0xf0ff,
            limit: self.get(hidden + 4, 4) as u32,
            base: self.get(hidden + 8, 4),
        }
    }

    fn save_long(&mut self, st: &CpuState, flags: u64, io: Option<&IoAccess>) {
        for (n, s) in st.seg.iter().enumerate() {
            self.put_long_segment(long::SEGMENTS + 16 * n, s);
        }
        self.put_long_segment(long::LDTR, &st.ldtr);
        self.put_long_segment(long::TR, &st.tr);
        for (at, t) in [(long::GDTR, st.gdtr), (long::IDTR, st.idtr)] {
            self.put(at + 4, 4, t.limit.into());
            self.put(at + 8, 8, t.base);
        }
        if let Some(io) = io {
            let [rcx, rsi, rdi] = io.registers;
            for (at, v) in [
                (long::IO_RIP, io.rip),
                (long::IO_RCX, rcx),
                (long::IO_RSI, rsi),
                (long::IO_RDI, rdi),
                (long::IO, io.amd().into()),
            ] {
                self.put(at, 8, v);
            }
        }
        self.put(long::AUTO_HALT, 1, st.halted.into());
        self.put(long::REVISION, 4, REVISION_64);
        self.put(long::SMBASE, 4, st.smbase.into());
        for (place, v) in [
            (long::EFER, st.msr.efer),
            (long::CR4, st.cr4),
            (long::CR3, st.cr3),
            (long::CR0, st.cr0),
            (long::DR7, st.dr[7]),
            (long::DR6, st.dr[6]),
            (long::RFLAGS, flags),
            (long::RIP, st.rip),
        ] {
            self.put(place, 8, v);
        }
        for n in 0..16 {
            self.put(long::RAX - 8 * n, 8, st.gpr[n]);
        }
    }

    fn restore_long(&self, st: &mut CpuState) {
        st.seg = std::array::from_fn(|n| self.long_segment(long::SEGMENTS + 16 * n));
        (st.ldtr, st.tr) = (self.long_segment(long::LDTR), self.long_segment(long::TR));
        let table = |at| TableReg { base: self.get(at + 8, 8), limit: self.get(at + 4, 2) as u16 };
        (st.gdtr, st.idtr) = (table(long::GDTR), table(long::IDTR));
        st.halted = self.get(long::AUTO_HALT, 1) & 1 != 0;
        st.msr.efer = self.get(long::EFER, 8);
        st.smbase = self.get(long::SMBASE, 4) as u32;
        (st.cr4, st.cr3, st.cr0) = (self.get(long::CR4, 8), self.get(long::CR3, 8), self.get(long::CR0, 8));
        (st.dr[7], st.dr[6]) = (self.get(long::DR7, 4), self.get(long::DR6, 4));
        st.rip = self.get(long::RIP, 8);
        for n in 0..16 {
            st.gpr[n] = self.get(long::RAX - 8 * n, 8);
        }
    }

    fn save_short(&mut self, st: &CpuState, flags: u64, io: Option<&IoAccess>) {
        for (n, s) in st.seg.iter().enumerate() {
            self.put_short_segment(short_segment(n), s);
        }
        self.put_short_segment((short::LDTR, short::LDTR_SELECTOR), &st.ldtr);
        self.put_short_segment((short::TR, short::TR_SELECTOR), &st.tr);
        for (at, t) in [(short::GDTR, st.gdtr), (short::IDTR, st.idtr)] {
            self.put(at, 4, t.limit.into());
            self.put(at + 4, 4, t.base);
        }
        self.put(short::IO, 4, io.map_or(0, IoAccess::intel).into());
        self.put(short::AUTO_HALT, 2, st.halted.into());
        self.put(short::REVISION, 4, REVISION_32);
        for (place, v) in [
            (short::SMBASE, st.smbase.into()),
            (short::CR4, st.cr4),
            (short::CR3, st.cr3),
            (short::CR0, st.cr0),
            (short::DR7, st.dr[7]),
            (short::DR6, st.dr[6]),
            (short::EFLAGS, flags),
            (short::EIP, st.rip),
        ] {
            self.put(place, 4, v);
        }
        for n in 0..8 {
            self.put(short::EAX + 4 * n, 4, st.gpr[n]);
        }
    }

    fn restore_short(&self, st: &mut CpuState) {
        st.seg = std::array::from_fn(|n| self.short_segment(short_segment(n)));
        st.ldtr = self.short_segment((short::LDTR, short::LDTR_SELECTOR));
        st.tr = self.short_segment((short::TR, short::TR_SELECTOR));
        let table = |at| TableReg { base: self.get(at + 4, 4), limit: self.get(at, 2) as u16 };
        (st.gdtr, st.idtr) = (table(short::GDTR), table(short::IDTR));
        st.halted = self.get(short::AUTO_HALT, 1) & 1 != 0;
        st.smbase = self.get(short::SMBASE, 4) as u32;
        // Without long mode there is nothing of EFER but NXE, which the map has no place for: SMM leaves it alone.
        st.msr.efer &= efer::NXE;
        (st.cr4, st.cr3, st.cr0) =
            (self.get(short::CR4, 4), self.get(short::CR3, 4), self.get(short::CR0, 4));
        (st.dr[7], st.dr[6]) = (self.get(short::DR7, 4), self.get(short::DR6, 4));
        st.rip = self.get(short::EIP, 4);
        for n in 0..8 {
            st.gpr[n] = self.get(short::EAX + 4 * n, 4);
        }
    }
}
