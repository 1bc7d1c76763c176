//! The code cache.
//!
//! Executable memory is divided into segments that are filled one after the other. When the last one is full, the oldest
//! is emptied and filled again: its blocks lose their code, and those that are still hot are compiled again soon. There is
//! never a moment at which everything is thrown away.

use std::io;
use std::sync::{Arc, Weak};

use crate::platform::{CodeMapping, CodeMemory};
use crate::tb::Tb;

const SEGMENTS: usize = 16;
/// Alignment of a block's code.
const ALIGN: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct CodeCache {
    memory: CodeMemory,
    segments: Vec<Segment>,
    segment_len: usize,
    current: usize,
}

#[derive(Debug, Default)]
struct Segment {
    used: usize,
    owners: Vec<Weak<Tb>>,
}

impl CodeCache {
    /// A cache of about `bytes`.
    pub fn new(bytes: usize, mapping: CodeMapping) -> io::Result<Self> {
        let segment_len = (bytes / SEGMENTS).next_multiple_of(1 << 16).max(1 << 16);
        let memory = CodeMemory::new(segment_len * SEGMENTS, mapping)?;
        let segments = (0..SEGMENTS).map(|_| Segment::default()).collect();
        Ok(Self { memory, segments, segment_len, current: 0 })
    }

    /// Places the code of `tb`. No generated code may be running. `evicted` is told of each block that lost its code for it.
    pub fn install(
        &mut self,
        tb: &Arc<Tb>,
        code: &[u8],
        mut evicted: impl FnMut(&Tb),
    ) -> io::Result<*const u8> {
        let len = code.len().next_multiple_of(ALIGN);
        if len > self.segment_len {
            return Err(io::Error::other("block too large for a segment of the code cache"));
        }
        if self.segments[self.current].used + len > self.segment_len {
            self.current = (self.current + 1) % SEGMENTS;
            let old = std::mem::take(&mut self.segments[self.current]);
            let start = self.memory.base() as usize + self.current * self.segment_len;
            let here = start..start + self.segment_len;
            // Those that were compiled again meanwhile have their code elsewhere.
            let lose = |tb: &Arc<Tb>| here.contains(&(tb.code() as usize));
            old.owners.iter().filter_map(Weak::upgrade).filter(lose).for_each(|tb| evicted(&tb));
        }
        let s = &mut self.segments[self.current];
        let at = self.current * self.segment_len + s.used;
        self.memory.write(at, code)?;
        s.used += len;
        s.owners.push(Arc::downgrade(tb));
        Ok(self.memory.base().wrapping_add(at))
    }

    /// Where it is, for tools that look at host addresses.
    pub fn range(&self) -> std::ops::Range<usize> {
        let base = self.memory.base() as usize;
        base..base + self.memory.size()
    }
}
