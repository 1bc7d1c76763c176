//! Writes to translated code, from the queue of the address space to the removal of what was translated.
//!
//! One vCPU at a time deals with them. The others must not go on meanwhile: they may have seen the write, and would execute what was
//! there before. So whoever takes writes out of the queue says so before ([`Written::pending`]), and who finds that waits.

use softmmu::steps::made;
use softmmu::{AddressSpace, CodeWrite};

use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::table::Table;
use crate::tb::Tb;

/// See the module.
#[derive(Debug, Default)]
pub struct Written {
    /// Those that are being dealt with.
    writes: Mutex<Vec<CodeWrite>>,
    /// Somebody deals with them.
    busy: AtomicBool,
}

impl Written {
    /// Is there something to be dealt with, or to be waited for?
    #[inline]
    pub fn pending(&self, space: &AddressSpace) -> bool {
        // In this order: who takes what is pending has said before that it is busy.
        space.code_writes_pending() || made("others wait for who removes") && self.busy.load(Ordering::SeqCst)
    }

    /// Removes the blocks that were written to; `gone` is told of each. When it returns, none is left whose writing the caller has
    /// seen.
    pub fn drop_blocks(&self, table: &Table, space: &AddressSpace, mut gone: impl FnMut(&Tb)) {
        let mut writes = lock(&self.writes);
        self.busy.store(true, Ordering::SeqCst);
        space.take_code_writes(&mut writes);
        for write in writes.drain(..) {
            table.invalidate(space, write, &mut gone);
        }
        self.busy.store(false, Ordering::SeqCst);
    }

    /// Forgets what is in the queue. No vCPU of the machine runs.
    pub fn clear(&self, space: &AddressSpace) {
        let mut writes = lock(&self.writes);
        space.take_code_writes(&mut writes);
        writes.clear();
    }
}
