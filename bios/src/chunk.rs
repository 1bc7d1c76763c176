//! Bytes with the guest physical address they belong to.

use std::borrow::Cow;

/// One contiguous piece of guest memory to be written before the first instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Guest physical address of the first byte.
    pub at: u64,
    /// The contents; a kernel or an initrd is borrowed from the caller's file.
    pub bytes: Cow<'a, [u8]>,
    /// What this is, for the log.
    pub what: &'static str,
}

impl<'a> Chunk<'a> {
    /// A piece whose bytes were made here.
    pub fn owned(at: u64, bytes: Vec<u8>, what: &'static str) -> Self {
        Self { at, bytes: Cow::Owned(bytes), what }
    }

    /// A piece of one of the caller's files.
    pub fn borrowed(at: u64, bytes: &'a [u8], what: &'static str) -> Self {
        Self { at, bytes: Cow::Borrowed(bytes), what }
    }

    /// The same piece with its own copy of the bytes: for a machine that outlives the caller's files.
    pub fn into_owned(self) -> Chunk<'static> {
        Chunk { at: self.at, bytes: Cow::Owned(self.bytes.into_owned()), what: self.what }
    }

    /// The address after the last byte (saturating: the loaders have checked the range before).
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.len() as u64)
    }
}
