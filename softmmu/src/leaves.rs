//! Where level 2 has the leaves of a stretch of linear addresses: one vCPU's knowledge of one set of banks.
//!
//! Requirement: a miss that level 2 can serve reads one word of it, and one that it cannot serve pays next to nothing for asking.
//!
//! Solution: a direct-mapped cache by 2 MiB stretches. A stretch is either *known* (the shadow page with its leaves, and the
//! rights of the entries above, good until [`Shadow::upper`](crate::shadow::Shadow::upper) moves), or it has its misses counted: after some
//! the miss path looks at the shadow tables, and may have more of the guest's shadowed.

use std::sync::Arc;

use crate::shadow::ShadowPage;

/// Stretches that are remembered.
const STRETCHES: usize = 1024;
const STRETCH_SHIFT: u32 = 21;

/// The leaves of a stretch.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub page: Arc<ShadowPage>,
    /// R/W and U/S of the words above by AND, XD by OR.
    pub above: u64,
    /// [`Shadow::upper`](crate::shadow::Shadow::upper) before the words above were read.
    pub upper: u64,
}

#[derive(Default)]
struct Stretch {
    /// Number of the stretch and 1, so that 0 is none.
    number: u64,
    /// Misses until the next look.
    left: u32,
    leaf: Option<Leaf>,
    /// [`Leaves::era`] when the leaf was remembered.
    era: u64,
}

/// What to do about a miss.
pub(crate) enum Advice {
    /// Walk the guest's page tables.
    Walk,
    /// Look at the shadow tables first.
    Look,
    /// Use this, and give it back by [`Leaves::remember`].
    Use(Leaf),
}

/// See the module comment.
#[derive(Default)]
pub(crate) struct Leaves {
    /// Empty until something is asked.
    stretches: Vec<Stretch>,
    era: u64,
}

impl Leaves {
    /// The root or the meaning of entries has changed: no leaf is known. Misses count on, since what a stretch is used for often
    /// stays: one that misses after each change of the address space is what level 2 is for.
    pub fn forget(&mut self) {
        self.era += 1;
    }

    fn stretch(&mut self, gva: u64) -> (&mut Stretch, u64) {
        if self.stretches.is_empty() {
            self.stretches.resize_with(STRETCHES, Stretch::default);
        }
        let number = gva >> STRETCH_SHIFT;
        (&mut self.stretches[number as usize % STRETCHES], number + 1)
    }

    /// What to do about a miss at `gva`. `shadowed`: the root is, so that a look may find something at once; otherwise there
    /// is one after `misses` (0: never).
    #[inline]
    pub fn advise(&mut self, gva: u64, upper: u64, shadowed: bool, misses: u32) -> Advice {
        let era = self.era;
        let (stretch, number) = self.stretch(gva);
        if stretch.number != number {
            *stretch = Stretch { number, left: misses, leaf: None, era };
            return if shadowed { Advice::Look } else { Advice::Walk };
        }
        if let Some(leaf) = stretch.leaf.take() {
            stretch.left = misses;
            return if leaf.upper == upper && stretch.era == era { Advice::Use(leaf) } else { Advice::Look };
        }
        stretch.left = stretch.left.wrapping_sub(1);
        if stretch.left != 0 {
            return Advice::Walk;
        }
        // What becomes of the look is unknown yet: it may end in a fault.
        stretch.left = misses;
        Advice::Look
    }

    /// The leaves of the stretch of `gva` are there.
    pub fn remember(&mut self, gva: u64, leaf: Leaf) {
        let era = self.era;
        let (stretch, number) = self.stretch(gva);
        *stretch = Stretch { number, left: 0, leaf: Some(leaf), era };
    }

    /// The next look at the stretch of `gva` comes after so many misses.
    pub fn look_after(&mut self, gva: u64, misses: u32) {
        let (stretch, number) = self.stretch(gva);
        *stretch = Stretch { number, left: misses, leaf: None, era: 0 };
    }
}
