//! What keeps the number of blocks within bounds.
//!
//! Requirement: a guest cannot make the table grow without end. It would, with no ill will: programs are loaded at random
//! addresses, a block is for one address, and the page that it was decoded from stays in the guest's page cache when the
//! program has ended, so that no write ever removes the block.
//! Solution: a clock hand goes round the buckets while there are too many. A block without code that tier 0 has not run since the hand
//! was here last goes; one that it has run starts again from no heat. Blocks with code are as many as the code cache holds, and
//! the hand leaves them alone while there are others. It makes room for some thousand blocks at a time: a guest that has filled the
//! table and now idles decodes one here and there, and to search for one that can go costs a dozen cache misses and more.

use super::{Inner, Table};
use crate::sync::Ordering;
use crate::tb::{HOT_NEVER, HOT_QUEUED, Tb};

/// Room is made for one part in so many of the table.
const SHARE: usize = 64;

impl Table {
    /// Makes room for one more block, and where there is none, for those after it too.
    pub(super) fn sweep(&self, inner: &mut Inner) {
        if inner.blocks < self.room {
            return;
        }
        let most = self.room.saturating_sub((self.room / SHARE).max(1));
        let round = self.buckets.len();
        let mut visited = 0;
        // The second time round nothing has been run since the first; the third time there are blocks with code only.
        while inner.blocks > most && visited < 3 * round {
            self.sweep_bucket(inner, visited >= 2 * round);
            inner.hand = (inner.hand + 1) % round;
            visited += 1;
        }
    }

    fn sweep_bucket(&self, inner: &mut Inner, any: bool) {
        let mut at = self.buckets[inner.hand].load(Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: blocks in a bucket are alive, and removed ones stay allocated until a safepoint.
            let tb = unsafe { &*at };
            at = tb.next.load(Ordering::Acquire);
            let goes = if tb.code().is_null() { is_forgotten(tb) } else { any };
            if goes {
                self.remove(inner, tb);
                inner.swept += 1;
            }
        }
    }
}

/// Has tier 0 not run it since this was asked last? One that a worker has is about to get code; of one that is never compiled nobody
/// keeps account.
fn is_forgotten(tb: &Tb) -> bool {
    match tb.heat.load(Ordering::Relaxed) {
        0 | HOT_NEVER => true,
        HOT_QUEUED => false,
        // What another vCPU makes of the heat meanwhile may get lost, or this: it is found hot a little later or stays a little longer.
        heat => {
            let _ = tb.heat.compare_exchange(heat, 0, Ordering::Relaxed, Ordering::Relaxed);
            false
        }
    }
}
