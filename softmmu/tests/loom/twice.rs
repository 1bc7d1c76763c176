//! Two threads track the same page for its code at the same time: each may rely on its own work, or on work that is done.

use std::sync::Arc;

use loom::sync::atomic::Ordering;
use loom::thread;
use softmmu::protocol::*;

use super::mmu::needed;
use super::{OTHER, PAGE, VCPU, World, model};

/// A third thread, beside the vCPU and the first tracker.
const THIRD: ThreadToken = ThreadToken(3);

impl World {
    /// As for a block that is decoded; the line's contents then.
    fn track(&self, me: ThreadToken) -> u64 {
        if !self.pages.notices(PAGE, 1) {
            self.watch(me);
        }
        self.data.load(Ordering::Acquire)
    }
}

/// One is about to track a line; another one, which has tracked it too, stores there.
fn stored_by_the_second() {
    model(|| {
        let world = World::new();
        let first = thread::spawn({
            let world = Arc::clone(&world);
            move || world.track(OTHER)
        });
        world.track(THIRD);
        world.data.store(1, Ordering::Release);
        world.pages.note_write(0, 8);
        assert!(world.pages.code_writes_pending(), "the store passed unnoticed");
        first.join().unwrap();
    });
}

/// A vCPU has a write entry, which another thread is about to take away: the vCPU, which has tracked the page too, stores there.
fn stored_through_an_entry() {
    model(|| {
        let world = World::new();
        world.fill();
        world.online();
        let first = thread::spawn({
            let world = Arc::clone(&world);
            move || world.track(OTHER)
        });
        world.track(VCPU);
        world.store(1);
        assert!(world.pages.code_writes_pending(), "the store passed unnoticed");
        world.quiescent();
        first.join().unwrap();
    });
}

/// What is settled is relied on; it is over when the flag is.
#[test]
fn settled_until_it_is_over() {
    model(|| {
        let world = World::new();
        world.track(OTHER);
        assert!(!world.pages.notices(PAGE, 1), "who has tracked it has not said so");
        world.pages.settle(PAGE);
        assert!(world.pages.notices(PAGE, 1) && !world.pages.notices(PAGE, 3));
        world.pages.unwatch(PAGE, TRACKED_PAGE);
        assert!(world.pages.notices(PAGE, 1));
        world.pages.unwatch(PAGE, CODE);
        assert!(!world.pages.notices(PAGE, 1));
    });
}

#[test]
fn two_trackers_of_one_line() {
    stored_by_the_second();
}

#[test]
fn two_trackers_of_one_line_and_a_writer() {
    stored_through_an_entry();
}

#[test]
fn each_step_of_tracking_twice_is_needed() {
    needed(&["lines are tracked by who says so"], &[stored_by_the_second]);
    needed(&["who tracks the same trusts nobody"], &[stored_through_an_entry]);
}
