//! The bytes of a page of code, as blocks are decoded from them.
//!
//! Lines are tracked before the bytes are read, so that no write to them can pass unnoticed afterwards; and the page's version is
//! noted before that, so that a block of bytes which were written to, or whose lines stopped being tracked, in between never gets into
//! the table ([`Table::insert`](crate::table::Table::insert) asks whether the source is [intact](Source::is_intact)).

use softmmu::steps::made;
use softmmu::{AddressSpace, PAGE_SIZE, RamPage};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Where they are.
    pub page: RamPage,
    version: u32,
    tracked: u64,
}

impl Source {
    /// Tracks `lines` of `page` and reads it to `bytes`.
    pub fn read(
        space: &AddressSpace,
        page: RamPage,
        lines: u64,
        bytes: &mut [u8; PAGE_SIZE as usize],
    ) -> Self {
        let version = space.code_version(page);
        let tracked = space.code_lines(page);
        let mut source = Self { page, version, tracked };
        if made("tracking before reading") {
            source.track(space, lines);
        }
        space.read_ram_page(page, bytes);
        source.track(space, lines);
        source
    }

    /// More lines are to be tracked.
    pub fn track(&mut self, space: &AddressSpace, lines: u64) {
        if lines & !self.tracked != 0 {
            space.track_code(self.page, lines);
            self.tracked |= lines;
        }
    }

    /// Nothing was written to lines with code since, and all are tracked still.
    pub fn is_intact(&self, space: &AddressSpace) -> bool {
        space.code_version(self.page) == self.version
    }
}
