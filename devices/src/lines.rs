//! Interrupt wires.
//!
//! A device holds an [`IrqLine`] and sets its level; the board holds [`Lines`] and, after each access, carries what
//! changed to the interrupt controllers. Between two such looks a line may fall and rise again, which the levels alone
//! cannot show: a sticky mask of lines that rose keeps that edge.
//!
//! One bit has one driver. Where several devices share a wire, each has its own bit and the board ORs them.
//!
//! Drivers may run at the same time, each under a lock of its own, while another thread looks: a line's level and its edge are in one word
//! and change in one step, so that each rise is seen by one look, once, together with the level. Whoever has moved a line finds
//! [`Lines::moved`], or another thread has taken the move with it: no move is left to nobody.

use std::sync::Arc;

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Sources of one word.
const PER_WORD: u8 = 32;
/// In a word: levels below, edges above.
const LEVELS: u64 = 0xffff_ffff;

/// Levels of up to 64 interrupt sources.
#[derive(Debug, Default)]
pub struct Lines {
    words: [AtomicU64; 2],
    /// Set after each move, cleared before each look that takes.
    moved: AtomicBool,
}

/// Saved levels and undelivered edges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinesState {
    levels: u64,
    rose: u64,
}

/// What a look at the lines found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The levels, bit n for source n.
    pub levels: u64,
    /// The sources that rose since the last look that took them.
    pub rose: u64,
}

impl Look {
    fn of([low, high]: [u64; 2]) -> Self {
        Self { levels: low & LEVELS | high << PER_WORD, rose: low >> PER_WORD | high & !LEVELS }
    }
}

impl Lines {
    /// All lines low.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The handle for the driver of source `index` (< 64).
    pub fn line(self: &Arc<Self>, index: u8) -> IrqLine {
        assert!(index < 64, "interrupt source {index} of 64");
        IrqLine { lines: Arc::clone(self), word: (index / PER_WORD).into(), bit: 1 << (index % PER_WORD) }
    }

    /// The current levels, bit n for source n.
    pub fn levels(&self) -> u64 {
        self.look().levels
    }

    /// Looks, and leaves what rose for the next one.
    pub fn look(&self) -> Look {
        Look::of(self.words.each_ref().map(|word| word.load(Ordering::SeqCst)))
    }

    /// Has a line moved that no [`Lines::take`] has seen?
    #[inline]
    pub fn moved(&self) -> bool {
        self.moved.load(Ordering::SeqCst)
    }

    /// Looks, and takes what rose. Those who take have a lock for it.
    pub fn take(&self) -> Look {
        if self.moved() {
            // First: what moves from here on is told anew, whether we see it or not.
            self.moved.store(false, Ordering::SeqCst);
        }
        Look::of(self.words.each_ref().map(|word| {
            // Cheap look first: most accesses move no line.
            let seen = word.load(Ordering::SeqCst);
            if seen & !LEVELS == 0 { seen } else { word.fetch_and(LEVELS, Ordering::SeqCst) }
        }))
    }

    /// The sources that rose since the last call.
    pub fn take_rose(&self) -> u64 {
        self.take().rose
    }

    /// Saves levels and undelivered edges.
    pub fn save(&self) -> LinesState {
        let Look { levels, rose } = self.look();
        LinesState { levels, rose }
    }

    /// Restores what `save` gave.
    pub fn restore(&self, state: LinesState) {
        let LinesState { levels, rose } = state;
        let [low, high] = &self.words;
        low.store(levels & LEVELS | rose << PER_WORD, Ordering::SeqCst);
        high.store(levels >> PER_WORD | rose & !LEVELS, Ordering::SeqCst);
    }
}

/// The driving end of one interrupt wire. The level is "asserted", whatever the wire's electrical polarity.
#[derive(Clone, Debug)]
pub struct IrqLine {
    lines: Arc<Lines>,
    word: usize,
    /// Of its level.
    bit: u64,
}

impl IrqLine {
    /// A line that leads nowhere, for a device used alone.
    pub fn unconnected() -> Self {
        Lines::new().line(0)
    }

    fn word(&self) -> &AtomicU64 {
        &self.lines.words[self.word]
    }

    /// Drives the line.
    pub fn set(&self, level: bool) {
        if level == self.level() {
            return;
        }
        if level {
            self.word().fetch_or(self.bit | self.bit << PER_WORD, Ordering::SeqCst);
        } else {
            self.word().fetch_and(!self.bit, Ordering::SeqCst);
        }
        self.lines.moved.store(true, Ordering::SeqCst);
    }

    /// A rising edge that leaves the line low (a falling one first where it was high).
    pub fn pulse(&self) {
        self.set(false);
        self.set(true);
        self.set(false);
    }

    /// The level driven last.
    pub fn level(&self) -> bool {
        self.word().load(Ordering::SeqCst) & self.bit != 0
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

    #[test]
    fn the_state_has_levels_and_edges_of_all_lines() {
        let lines = Lines::new();
        for n in [0, 31, 32, 63] {
            lines.line(n).set(true);
        }
        lines.take();
        lines.line(5).pulse();
        lines.line(40).set(true);
        let high = 1 | 1 << 31 | 1 << 32 | 1 << 63 | 1 << 40;
        let found = Look { levels: high, rose: 1 << 5 | 1 << 40 };
        let twin = Lines::new();
        twin.restore(lines.save());
        assert_eq!((lines.take(), twin.take()), (found, found));
        assert_eq!(twin.look(), Look { levels: high, rose: 0 });
    }

    /// Each rise is seen once, whoever looks and whoever else drives lines meanwhile.
    #[test]
    fn no_edge_is_lost_or_seen_twice_while_others_look() {
        const ROUNDS: usize = 2_000;
        let lines = Lines::new();
        let left = AtomicU64::new(4);
        let seen = std::thread::scope(|scope| {
            for n in [3, 4, 33, 34] {
                let (lines, left) = (&lines, &left);
                scope.spawn(move || {
                    let (own, bit) = (lines.line(n), 1u64 << n);
                    for _ in 0..ROUNDS {
                        own.set(true);
                        own.set(false);
                        // Two rises between two looks are one edge.
                        while lines.look().rose & bit != 0 {
                            std::thread::yield_now();
                        }
                    }
                    left.fetch_sub(1, Ordering::SeqCst);
                });
            }
            let looker = || {
                let mut seen = [0usize; 64];
                while left.load(Ordering::SeqCst) != 0 {
                    let rose = lines.take_rose();
                    (0..64).for_each(|n| seen[n] += (rose >> n & 1) as usize);
                }
                seen
            };
            let (one, other) = (scope.spawn(looker), scope.spawn(looker));
            let (one, other) = (one.join().unwrap(), other.join().unwrap());
            [3, 4, 33, 34].map(|n| one[n] + other[n])
        });
        assert_eq!(seen, [ROUNDS; 4]);
    }
}
