//! The bytes of a page of code, as blocks are decoded from them.
//!
//! Lines are tracked before the bytes are read, so that no write to them can pass unnoticed afterwards; and the page's version is
//! noted before that, so that a block of bytes which were written to, or whose lines stopped being tracked, in between never gets into
//! the table ([`Table::insert`](crate::table::Table::insert) asks whether the source is [intact](Source::settle)).

use softmmu::steps::made;
use softmmu::{AddressSpace, PAGE_SIZE, RamPage};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Where they are.
    pub page: RamPage,
    version: u32,
    lines: u64,
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
        if made("tracking before reading") {
            space.track_code(page, lines);
        }
        space.read_ram_page(page, bytes);
        if !made("tracking before reading") {
            space.track_code(page, lines);
        }
        Self { page, version, lines }
    }

    /// Were all of `lines` tracked before they were read?
    pub fn covers(&self, lines: u64) -> bool {
        lines & !self.lines == 0
    }

    /// Under the table's lock, for a block that gets into it: nothing was written to lines with code since, and all are tracked still.
    pub fn settle(&self, space: &AddressSpace) -> bool {
        let intact = space.code_version(self.page) == self.version;
        if intact {
            space.settle_code(self.page);
        }
        intact
    }
}
