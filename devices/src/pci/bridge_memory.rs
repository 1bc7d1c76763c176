//! What host bridges decide about memory: shadow RAM (PAM) and RAM for system management mode (SMRAM, TSEG).
//! (82441FX data sheet, 3.2.15 and 3.2.18; 3 Series chipset data sheet, 5.1.15 to 5.1.24.)
//!
//! A bridge keeps registers; [`BridgeMemory`] is what they mean for a processor that is in SMM or not. The board makes a
//! memory map of it. Both bridges of this crate have the same registers at different places.

use std::ops::Range;

use super::ConfigSpace;

/// First address that PAM registers govern.
pub const PAM_START: u64 = 0xc_0000;
/// Where SMRAM is, unless it is moved up.
pub const SMRAM: Range<u64> = 0xa_0000..0xc_0000;
/// Where it is if H_SMRAME moves it: these addresses show the RAM behind [`SMRAM`].
pub const HIGH_SMRAM: Range<u64> = 0xfeda_0000..0xfedc_0000;

/// SMRAM control bits.
mod smramc {
    pub const D_OPEN: u8 = 0x40;
    pub const D_CLS: u8 = 0x20;
    pub const D_LCK: u8 = 0x10;
    pub const G_SMRAME: u8 = 0x08;
    /// After reset: C_BASE_SEG, which is fixed.
    pub const RESET: u8 = 0x02;
}

/// Extended SMRAM control bits.
mod esmramc {
    pub const H_SMRAME: u8 = 0x80;
    pub const TSEG_SZ: u8 = 0x06;
    pub const T_EN: u8 = 0x01;
    /// After reset: SMRAM is not cached, which is fixed.
    pub const RESET: u8 = 0x38;
}

/// Where accesses to a segment go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shadow {
    /// Reads go to RAM, not to the ROM behind the bridge.
    pub reads: bool,
    /// So do writes.
    pub writes: bool,
}

/// The memory map as the bridge wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeMemory {
    /// C0000h to EFFFFh in segments of 16 KiB, then F0000h to FFFFFh.
    pub shadow: [Shadow; 13],
    /// RAM is at A0000h to BFFFFh, where the video memory is otherwise.
    pub smram: bool,
    /// That RAM is at FEDA0000h.
    pub high_smram: bool,
    /// RAM that is not there: TSEG, for a processor that is not in SMM.
    pub hidden: Option<Range<u64>>,
}

impl BridgeMemory {
    /// The address range of `shadow[index]`.
    pub fn segment(index: usize) -> Range<u64> {
        let start = PAM_START + 0x4000 * index as u64;
        start..if index == 12 { 0x10_0000 } else { start + 0x4000 }
    }

    /// How accesses at `at` are shadowed, if a PAM register says.
    pub fn shadow_at(&self, at: u64) -> Option<Shadow> {
        let index = (at.checked_sub(PAM_START)? / 0x4000).min(12) as usize;
        Self::segment(index).contains(&at).then(|| self.shadow[index])
    }
}

/// Where a bridge has its registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    /// PAM0; six more follow.
    pub pam: usize,
    /// SMRAM control.
    pub smramc: usize,
    /// Extended SMRAM control and QEMU's size of a large TSEG in MiB (16 bits), if the bridge has a TSEG.
    pub tseg: Option<(usize, usize)>,
}

impl Registers {
    /// Defines them with their values after reset.
    pub(super) fn define(self, config: &mut ConfigSpace) {
        use smramc::{D_CLS, D_LCK, D_OPEN, G_SMRAME, RESET};
        config.register(self.pam, &[0; 7], &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33]);
        config.register(self.smramc, &[RESET], &[D_OPEN | D_CLS | D_LCK | G_SMRAME]);
        if let Some((extended, size)) = self.tseg {
            use esmramc::{H_SMRAME, RESET, T_EN, TSEG_SZ};
            config.register(extended, &[RESET], &[H_SMRAME | TSEG_SZ | T_EN]);
            config.register(size, &[0xff, 0xff], &[0xff, 0xff]);
        }
    }

    /// Is D_LCK set?
    pub(super) fn is_locked(self, config: &ConfigSpace) -> bool {
        config.bytes()[self.smramc] & smramc::D_LCK != 0
    }

    /// D_LCK: closes SMRAM and makes everything but D_CLS read-only until reset. To be called after each write.
    pub(super) fn lock(self, config: &mut ConfigSpace) {
        let locked = self.is_locked(config);
        if locked {
            config.clear(self.smramc, smramc::D_OPEN);
        }
        let mask = |bits: u8| if locked { bits } else { 0 };
        config.set_locked(self.smramc, mask(!smramc::D_CLS));
        if let Some((extended, size)) = self.tseg {
            config.set_locked(extended, mask(0xff));
            config.set_locked(size, mask(0xff));
            config.set_locked(size + 1, mask(0xff));
        }
    }

    /// What they mean. `top` is the end of RAM below 4 GiB: TSEG is what lies before it.
    pub(super) fn memory(self, config: &ConfigSpace, smm: bool, top: u64) -> BridgeMemory {
        let bytes = config.bytes();
        let (control, extended) = (bytes[self.smramc], self.tseg.map_or(0, |(at, _)| bytes[at]));
        let enabled = control & smramc::G_SMRAME != 0;
        let open = control & (smramc::D_OPEN | smramc::D_CLS) == smramc::D_OPEN;
        let closed = control & smramc::D_CLS != 0;
        let seen = enabled && (open || smm && !closed);
        let high = extended & esmramc::H_SMRAME != 0;
        let hides = enabled && extended & esmramc::T_EN != 0 && !smm && !open;
        let len = self.tseg_len(config);
        BridgeMemory {
            shadow: std::array::from_fn(|n| self.shadow(config, n)),
            smram: seen && !high,
            high_smram: seen && high,
            hidden: (hides && len > 0 && len < top).then(|| top - len..top),
        }
    }

    fn shadow(self, config: &ConfigSpace, index: usize) -> Shadow {
        let bits = match index {
            12 => config.bytes()[self.pam] >> 4,
            n => config.bytes()[self.pam + 1 + n / 2] >> (4 * (n & 1)),
        };
        Shadow { reads: bits & 1 != 0, writes: bits & 2 != 0 }
    }

    /// Bytes of TSEG, by TSEG_SZ.
    fn tseg_len(self, config: &ConfigSpace) -> u64 {
        let Some((extended, size)) = self.tseg else { return 0 };
        let bytes = config.bytes();
        match bytes[extended] & esmramc::TSEG_SZ {
            0x00 => 1 << 20,
            0x02 => 2 << 20,
            0x04 => 8 << 20,
            _ => u64::from(u16::from_le_bytes([bytes[size], bytes[size + 1]])) << 20,
        }
    }
}
