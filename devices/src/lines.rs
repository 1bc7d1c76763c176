//! Interrupt wires.
//!
//! A device holds an [`IrqLine`] and sets its level; the board holds [`Lines`] and, after each access, carries what
//! changed to the interrupt controllers. Between two such looks a line may fall and rise again, which the levels alone
//! cannot show: a sticky mask of lines that rose keeps that edge.
//!
//! One bit has one driver. Where several devices share a wire, each has its own bit and the board ORs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Levels of up to 64 interrupt sources.
#[derive(Debug, Default)]
pub struct Lines {
    levels: AtomicU64,
    rose: AtomicU64,
}

/// Saved levels and undelivered edges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinesState {
    levels: u64,
    rose: u64,
}

impl Lines {
    /// All lines low.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The handle for the driver of source `index` (< 64).
    pub fn line(self: &Arc<Self>, index: u8) -> IrqLine {
        assert!(index < 64, "interrupt source {index} of 64");
        IrqLine { lines: Arc::clone(self), bit: 1 << index }
    }

    /// The current levels, bit n for source n.
    pub fn levels(&self) -> u64 {
        self.levels.load(Ordering::SeqCst)
    }

    /// The sources that rose since the last call.
    pub fn take_rose(&self) -> u64 {
        // Cheap look first: most accesses move no line.
        if self.rose.load(Ordering::SeqCst) == 0 { 0 } else { self.rose.swap(0, Ordering::SeqCst) }
    }

    /// Saves levels and undelivered edges.
    pub fn save(&self) -> LinesState {
        let Self { levels, rose } = self;
        LinesState { levels: levels.load(Ordering::SeqCst), rose: rose.load(Ordering::SeqCst) }
    }

    /// Restores what `save` gave.
    pub fn restore(&self, state: LinesState) {
        let LinesState { levels, rose } = state;
        self.levels.store(levels, Ordering::SeqCst);
        self.rose.store(rose, Ordering::SeqCst);
    }
}

/// The driving end of one interrupt wire. The level is "asserted", whatever the wire's electrical polarity.
#[derive(Clone, Debug)]
pub struct IrqLine {
    lines: Arc<Lines>,
    bit: u64,
}

impl IrqLine {
    /// A line that leads nowhere, for a device used alone.
    pub fn unconnected() -> Self {
        Lines::new().line(0)
    }

    /// Drives the line.
    pub fn set(&self, level: bool) {
        let levels = &self.lines.levels;
        if level == self.level() {
        } else if level {
            levels.fetch_or(self.bit, Ordering::SeqCst);
            self.lines.rose.fetch_or(self.bit, Ordering::SeqCst);
        } else {
            levels.fetch_and(!self.bit, Ordering::SeqCst);
        }
    }

    /// A rising edge that leaves the line low (a falling one first where it was high).
    pub fn pulse(&self) {
        self.set(false);
        self.set(true);
        self.set(false);
    }

    /// The level driven last.
    pub fn level(&self) -> bool {
        self.lines.levels.load(Ordering::SeqCst) & self.bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_between_two_looks_are_kept() {
        let lines = Lines::new();
        let (a, b) = (lines.line(0), lines.line(63));
        a.pulse();
        b.set(true);
        assert_eq!((lines.levels(), lines.take_rose()), (1 << 63, 1 | 1 << 63));
        b.set(true);
        assert_eq!(lines.take_rose(), 0);
        b.set(false);
        b.set(true);
        assert_eq!(lines.take_rose(), 1 << 63);
    }
}
