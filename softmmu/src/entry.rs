//! What the words of a TLB entry mean.
//!
//! Requirement: generated code decides a hit with one compare and nothing else, and everything that is not a plain
//! RAM access must fail that compare and still tell the slow path what it is.
//!
//! Solution: a tag word is one of
//! - *fast*: the page's guest virtual address, low 12 bits 0;
//! - [`INVALID`]: not present (never filled, zapped, or not permitted);
//! - *tracked* (write tags only): the page's address with [`TRACKED`]: RAM, but the store must pass the funnel;
//! - *MMIO*: bit 0 set, a self-checking pattern with the guest physical frame, the access it permits and the
//!   generation of the memory map that it was made from. An MMIO entry's addend names the page it is for.
//!
//! Anything else is corruption. All compares are against a page address with low bits 0, so any set low bit is a miss.
//! A ROM page has fast read and execute tags, and an MMIO pattern as its write tag.
//!
//! Limitation: 0 cannot mean "not present" here, because 0 is the fast tag of page 0.

use crate::addr::{Access, Gpa, PAGE_MASK};

/// The tag that never matches: not present.
pub const INVALID: u64 = 0x800;
/// Low bits of a write tag of RAM whose stores must pass the funnel.
pub const TRACKED: u64 = 0x400;
/// Low bits of the addend of an MMIO entry; the rest is the page's guest virtual address.
pub(crate) const MMIO_ADDEND: u64 = 0x001;

/// Width of the memory map's generation in an MMIO pattern.
pub(crate) const GENERATION_BITS: u32 = if cfg!(loom) { 1 } else { 12 };

const MMIO: u64 = 1;
const RIGHT_SHIFT: u32 = 1;
const GENERATION_SHIFT: u32 = 4;
const FRAME_SHIFT: u32 = 16;
const FRAME_BITS: u32 = 40;
const CHECK_SHIFT: u32 = 56;

/// The content of an MMIO pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioEntry {
    /// Guest physical address of the page.
    pub frame: Gpa,
    /// The access it is for.
    pub access: Access,
    /// Number of the memory map's generation.
    pub generation: u32,
}

/// Eight check bits over the other 56.
fn check(word: u64) -> u64 {
    let body = word & ((1 << CHECK_SHIFT) - 1);
    body.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> CHECK_SHIFT
}

impl MmioEntry {
    /// The tag word.
    pub fn encode(self) -> u64 {
        let body = MMIO
            | (1 << (RIGHT_SHIFT + self.access as u32))
            | (u64::from(self.generation) & ((1 << GENERATION_BITS) - 1)) << GENERATION_SHIFT
            | ((self.frame.0 >> 12) & ((1 << FRAME_BITS) - 1)) << FRAME_SHIFT;
        body | check(body) << CHECK_SHIFT
    }

    /// The content of a tag word for `access`, if it is a valid pattern.
    pub fn decode(tag: u64, access: Access) -> Option<Self> {
        let rights = (tag >> RIGHT_SHIFT) & 7;
        if tag & MMIO == 0 || tag >> CHECK_SHIFT != check(tag) || rights != 1 << access as u32 {
            return None;
        }
        Some(Self {
            frame: Gpa(((tag >> FRAME_SHIFT) & ((1 << FRAME_BITS) - 1)) << 12),
            access,
            generation: (tag >> GENERATION_SHIFT) as u32 & ((1 << GENERATION_BITS) - 1),
        })
    }
}

/// What a tag means for one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Plain RAM at `gva + addend`.
    Fast,
    /// RAM at `gva + addend`; tell the funnel.
    Tracked,
    /// A device, a gap, or (for writes) ROM.
    Mmio(MmioEntry),
    /// Invalid, or about another page of the same slot.
    Absent,
    /// No such pattern.
    Corrupt,
}

/// Reads a tag word of the slot of `page`. `slot_mask` selects the bits of a page address that choose the slot.
#[inline]
pub fn decode(tag: u64, read_tag: u64, addend: u64, page: u64, access: Access, slot_mask: u64) -> Seen {
    if tag == INVALID {
        return Seen::Absent;
    }
    let low = tag & !PAGE_MASK;
    if low == 0 || (low == TRACKED && access == Access::Write) {
        return match (tag & PAGE_MASK == page, low) {
            (true, 0) => Seen::Fast,
            (true, _) => Seen::Tracked,
            _ if (tag ^ page) & slot_mask == 0 => Seen::Absent,
            _ => Seen::Corrupt,
        };
    }
    let Some(entry) = MmioEntry::decode(tag, access) else { return Seen::Corrupt };
    let this_page = match addend & !PAGE_MASK {
        MMIO_ADDEND => addend & PAGE_MASK == page,
        // ROM: readable RAM with a trapping write tag. A zapped read tag takes the write tag with it.
        0 if access == Access::Write => read_tag == page,
        _ => return Seen::Corrupt,
    };
    if this_page { Seen::Mmio(entry) } else { Seen::Absent }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u64 = 0x1fff << 12;

    fn mmio(access: Access) -> MmioEntry {
        MmioEntry { frame: Gpa(0xf_ffff_ffff_f000), access, generation: 4095 }
    }

    #[test]
    fn patterns_round_trip_and_check_themselves() {
        for access in [Access::Read, Access::Write, Access::Execute] {
            let word = mmio(access).encode();
            assert_eq!(MmioEntry::decode(word, access), Some(mmio(access)));
            assert_ne!(word & 0xfff, 0, "an inline compare must fail");
            for bit in 0..64 {
                assert_eq!(MmioEntry::decode(word ^ (1 << bit), access), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn kinds() {
        let page = 0x1234_5000;
        let at = |tag, addend, access| decode(tag, page, addend, page, access, MASK);
        assert_eq!(at(page, 0, Access::Read), Seen::Fast);
        assert_eq!(at(page | TRACKED, 0, Access::Write), Seen::Tracked);
        assert_eq!(at(page | TRACKED, 0, Access::Read), Seen::Corrupt);
        assert_eq!(at(INVALID, 0, Access::Read), Seen::Absent);
        assert_eq!(at(page ^ (1 << 40), 0, Access::Read), Seen::Absent);
        assert_eq!(at(page ^ (1 << 12), 0, Access::Read), Seen::Corrupt, "not of this slot");
        let word = mmio(Access::Read).encode();
        assert_eq!(at(word, page | MMIO_ADDEND, Access::Read), Seen::Mmio(mmio(Access::Read)));
        assert_eq!(at(word, (page ^ (1 << 40)) | MMIO_ADDEND, Access::Read), Seen::Absent);
        assert_eq!(at(word, 0, Access::Read), Seen::Corrupt);
        assert_eq!(at(word, page | MMIO_ADDEND, Access::Write), Seen::Corrupt);
        let rom = mmio(Access::Write).encode();
        assert_eq!(at(rom, 0x1000, Access::Write), Seen::Mmio(mmio(Access::Write)));
        assert_eq!(decode(rom, INVALID, 0x1000, page, Access::Write, MASK), Seen::Absent);
        assert_eq!(at(0x123, 0, Access::Read), Seen::Corrupt);
    }
}
