//! The code cache.
//!
//! Executable memory is divided into segments that are filled one after the other. When the last one is full, the oldest
//! is emptied and filled again: its blocks lose their code, and those that are still hot are compiled again soon. There is
//! never a moment at which everything is thrown away. What was there may still be executed by other vCPUs for a moment: until they
//! have passed a safepoint, nothing is placed.

use std::io;
use std::sync::{Arc, Weak};

use softmmu::steps::made;

use crate::jump;
use crate::platform::{CodeMapping, CodeMemory};
use crate::sync::{Mutex, lock};
use crate::table::Table;
use crate::tb::Tb;

const SEGMENTS: usize = if cfg!(loom) { 2 } else { 16 };
/// Their length is a multiple of this.
const UNIT: usize = if cfg!(loom) { 256 } else { 1 << 16 };
/// Alignment of a block's code.
const ALIGN: usize = 16;

/// Code memory: filled by the cache, while the table of blocks turns jumps in it.
pub type SharedMemory = Arc<Mutex<CodeMemory>>;

/// See the module.
#[derive(Debug)]
pub struct CodeCache {
    memory: SharedMemory,
    /// Host address.
    base: usize,
    segments: Vec<Segment>,
    segment_len: usize,
    current: usize,
    /// The last stamp of what was in the current segment.
    vacated: u64,
}

/// Why code has no place.
#[derive(Debug)]
pub enum NoPlace {
    /// Other vCPUs may still execute what was there: soon there will be.
    InUse,
    /// The host says no.
    Host(io::Error),
}

impl From<io::Error> for NoPlace {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

#[derive(Debug, Default)]
struct Segment {
    used: usize,
    owners: Vec<Weak<Tb>>,
}

impl CodeCache {
    /// A cache of about `bytes`.
    pub fn new(bytes: usize, mapping: CodeMapping) -> io::Result<Self> {
        let segment_len = (bytes / SEGMENTS).next_multiple_of(UNIT).max(UNIT);
        let memory = CodeMemory::new(segment_len * SEGMENTS, mapping)?;
        let segments = (0..SEGMENTS).map(|_| Segment::default()).collect();
        let base = memory.base().expose_provenance();
        Ok(Self { memory: Arc::new(Mutex::new(memory)), base, segments, segment_len, current: 0, vacated: 0 })
    }

    /// May code be placed while other code runs?
    pub fn is_dual(&self) -> bool {
        lock(&self.memory).is_dual()
    }

    /// The memory itself.
    pub fn memory(&self) -> SharedMemory {
        Arc::clone(&self.memory)
    }

    /// Places the code of `tb`, a block of `table`, so that each of the jumps at `sites` (offsets) may be replaced while it is executed.
    /// `evicted` is told of each block that lost its code for it. (Single mapping: no generated code may be running.)
    ///
    /// # Errors
    /// [`NoPlace`]; nothing is placed.
    pub fn install(
        &mut self,
        table: &Table,
        tb: &Arc<Tb>,
        code: &[u8],
        sites: impl Iterator<Item = usize> + Clone,
        mut evicted: impl FnMut(&Tb),
    ) -> Result<*const u8, NoPlace> {
        // A jump crosses a line in at most one of the places that differ by the alignment.
        let slack = 3 * ALIGN;
        let len = code.len().next_multiple_of(ALIGN) + slack;
        if len > self.segment_len {
            return Err(io::Error::other("block too large for a segment of the code cache").into());
        }
        if self.segments[self.current].used + len > self.segment_len {
            self.current = (self.current + 1) % SEGMENTS;
            let old = std::mem::take(&mut self.segments[self.current]);
            let start = self.base + self.current * self.segment_len;
            let here = start..start + self.segment_len;
            // Those that were compiled again meanwhile have their code elsewhere.
            let lose = |tb: &Arc<Tb>| here.contains(&(tb.code() as usize));
            for tb in old.owners.iter().filter_map(Weak::upgrade).filter(lose) {
                table.drop_code(&tb);
                evicted(&tb);
            }
            // Others have lost their code before, and may still be executed as well.
            self.vacated = table.stamp();
        }
        if made("grace period of places") && !table.passed(self.vacated) {
            return Err(NoPlace::InUse);
        }
        let s = &mut self.segments[self.current];
        let at = self.current * self.segment_len + s.used;
        let fits = |at: &usize| sites.clone().all(|site| jump::patchable(self.base + at + site));
        let at = (at..=at + slack).step_by(ALIGN).find(fits).unwrap_or(at);
        lock(&self.memory).write(at, code)?;
        s.used = at - self.current * self.segment_len + code.len().next_multiple_of(ALIGN);
        s.owners.push(Arc::downgrade(tb));
        Ok(std::ptr::with_exposed_provenance(self.base + at))
    }

    /// Where it is, for tools that look at host addresses.
    pub fn range(&self) -> std::ops::Range<usize> {
        let base = self.base;
        base..base + SEGMENTS * self.segment_len
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use x86::state::Mode;

    #[test]
    fn no_jump_that_is_replaced_crosses_a_line() {
        let block = x86::decode::block(&[0xc3], 0, Mode(Mode::CODE64)).expect("RET");
        let tb = Arc::new(Tb::new(block, 0, [None, None]));
        let mut cache = CodeCache::new(1 << 20, CodeMapping::Auto).expect("code memory");
        let table = Table::new(None, usize::MAX);
        for len in 8..300 {
            for sites in [[1, len - 4], [len / 2, len - 5]] {
                let at = cache.install(&table, &tb, &vec![0; len], sites.into_iter(), |_| ()).expect("room");
                assert_eq!(at as usize % ALIGN, 0);
                for site in sites {
                    assert!((at as usize + site) % 64 <= 60, "{len} {site} {at:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_placed_where_a_vcpu_may_execute_what_was_there() {
        let block = x86::decode::block(&[0xc3], 0, Mode(Mode::CODE64)).expect("RET");
        let tb = Arc::new(Tb::new(block, 0, [None, None]));
        let mut cache = CodeCache::new(1, CodeMapping::Auto).expect("code memory");
        let table = Table::new(None, usize::MAX);
        let vcpu = table.join();
        vcpu.come_online(table.clock(), false);
        let code = vec![0; cache.segment_len / 2];
        let mut place = || cache.install(&table, &tb, &code, std::iter::empty(), |_| ());
        assert!(place().is_ok(), "the first segment was empty");
        assert!(matches!(place(), Err(NoPlace::InUse)));
        assert!(matches!(place(), Err(NoPlace::InUse)));
        vcpu.pass(table.clock());
        assert!(place().is_ok());
    }
}
