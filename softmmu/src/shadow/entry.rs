//! What the words of a shadow page mean.
//!
//! Requirement: who finds a word must know by it alone whether it may be used, for what, and whether it can be true at all.
//!
//! Solution: 0 is not present. Other words carry the rights at the places that x86 gives them (R/W, U/S, D, G, protection
//! key, XD), the guest frame, and one of three kinds: *RAM*, a leaf; *table*, the next page of page tables; *MMIO*, a 4 KiB
//! leaf that was no memory, with the generation of the memory map that said so and check bits. A word with [`PENDING`] is being
//! published: it is nobody's yet. Anything else is corruption.
//!
//! Limitation: an MMIO word has no room for a protection key and the global bit; pages with a key are not shadowed then.

use crate::addr::Gpa;
use crate::entry::GENERATION_BITS;

pub(crate) const P: u64 = 1;
pub(crate) const RW: u64 = 1 << 1;
pub(crate) const US: u64 = 1 << 2;
pub(crate) const D: u64 = 1 << 6;
pub(crate) const G: u64 = 1 << 8;
pub(crate) const KEY: u64 = 0xf << 59;
pub(crate) const XD: u64 = 1 << 63;
pub const FRAME: u64 = 0x000f_ffff_ffff_f000;

const KIND: u64 = 3 << 3;
const RAM: u64 = 1 << 3;
const TABLE: u64 = 2 << 3;
const MMIO: u64 = 3 << 3;
/// Being published.
pub const PENDING: u64 = 1 << 9;
/// RAM: an execute translation was handed out.
pub const EXECUTED: u64 = 1 << 10;

const LEAF: u64 = RW | US | D | G | KEY | XD | FRAME;
const UPPER: u64 = RW | US | XD | FRAME;
const DEVICE: u64 = RW | US | D | XD | FRAME;
const GENERATION_HIGH_SHIFT: u32 = 52;
const GENERATION_LOW: u64 = 1 << 5;
const CHECK: [u32; 4] = [7, 8, 10, 11];

/// A word's meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Not present, or not yet.
    Absent,
    /// A leaf: RAM when the entry was made; the map decides at each fill of level 1.
    Ram,
    /// The next level.
    Table,
    /// No memory, says this generation of the map.
    Mmio {
        /// The page's guest physical address.
        frame: Gpa,
        /// The map's number.
        generation: u32,
    },
    /// No such pattern.
    Corrupt,
}

/// The rights of a leaf's word, at the places where a guest's entry has them. Those of MMIO have no key and are not global.
#[inline]
pub fn rights(word: u64) -> u64 {
    word & if word & KIND == MMIO { P | RW | US | D | XD } else { P | LEAF & !FRAME }
}

/// A leaf.
pub fn ram(leaf: u64) -> u64 {
    P | RAM | leaf & LEAF
}

/// The entry of a further table.
pub fn table(entry: u64) -> u64 {
    P | TABLE | entry & UPPER
}

fn check(word: u64) -> u64 {
    let body = word & !(PENDING | CHECK.iter().fold(0, |all, bit| all | 1 << bit));
    body.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60
}

fn spread(check: u64) -> u64 {
    CHECK.iter().enumerate().fold(0, |all, (n, bit)| all | (check >> n & 1) << bit)
}

/// A leaf that is no memory. `None`: it has a protection key.
pub fn mmio(leaf: u64, generation: u32) -> Option<u64> {
    if leaf & KEY != 0 {
        return None;
    }
    let number = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
    let low = if number & 1 != 0 { GENERATION_LOW } else { 0 };
    let body = P | MMIO | leaf & DEVICE | (number >> 1) << GENERATION_HIGH_SHIFT | low;
    Some(body | spread(check(body)))
}

/// Reads a word.
#[inline]
pub fn kind(word: u64) -> Kind {
    if word == 0 || word & PENDING != 0 {
        return Kind::Absent;
    }
    match word & (P | KIND) {
        k if k == P | RAM => Kind::Ram,
        k if k == P | TABLE => Kind::Table,
        k if k == P | MMIO => device(word),
        _ => Kind::Corrupt,
    }
}

#[cold]
fn device(word: u64) -> Kind {
    if spread(check(word)) != word & spread(15) {
        return Kind::Corrupt;
    }
    let number = (word >> GENERATION_HIGH_SHIFT & 0x7ff) << 1 | u64::from(word & GENERATION_LOW != 0);
    Kind::Mmio { frame: Gpa(word & FRAME), generation: number as u32 }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let leaf = 0x8000_1234_5678_9067;
        assert_eq!(kind(0), Kind::Absent);
        assert_eq!(kind(ram(leaf)), Kind::Ram);
        assert_eq!(ram(leaf) & (FRAME | RW | US | D | XD), leaf & (FRAME | RW | US | D | XD));
        assert_eq!(kind(ram(leaf) | PENDING), Kind::Absent);
        assert_eq!(kind(table(leaf)), Kind::Table);
        assert_eq!(kind(leaf & !P & !PENDING), Kind::Corrupt);
        assert_eq!(kind(P | FRAME), Kind::Corrupt, "a guest's entry is none of ours");
    }

    #[test]
    fn device_words_check_themselves() {
        for generation in [0, 1, 0x7ff, 4094, 4095] {
            let word = mmio(0x8000_0000_fee0_0063, generation).unwrap();
            assert_eq!(kind(word), Kind::Mmio { frame: Gpa(0xfee0_0000), generation });
            // P and the kind are no part of the check: another kind, or none at all, is seen as such.
            let wrong = (0..64).filter(|bit| ![9].contains(bit)).map(|bit| word ^ 1 << bit);
            let taken = wrong.filter(|w| matches!(kind(*w), Kind::Mmio { .. })).count();
            assert!(taken <= 6, "{taken} of 63 wrong bits are not seen");
        }
        assert_eq!(mmio(1 << 59, 1), None);
    }
}
