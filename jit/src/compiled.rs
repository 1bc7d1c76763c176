//! What the compiler gives: host code of a block that is not in its place yet.

use crate::tb::Links;

/// Host code of a block, not in its place yet.
#[derive(Debug)]
pub struct Code {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many of them are the block; the ways out of its links follow.
    pub body: usize,
    /// Offset of the entry for other blocks' direct jumps.
    pub inner: usize,
    /// Where the jumps of the links are in them, and their ways out.
    pub jumps: Vec<Site>,
    /// The links whose addresses they contain.
    pub links: Links,
    /// The tier that it was compiled for.
    pub tier: Tier,
}

/// Tiers with generated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Quick to compile: TLB look-ups are calls.
    One = 1,
    /// TLB look-ups inline.
    Two = 2,
}

/// A direct jump to another block: offsets in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The link.
    pub link: usize,
    /// The bytes of its jump that are replaced.
    pub site: usize,
    /// Its way out.
    pub exit: usize,
}
